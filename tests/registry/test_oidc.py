"""oci-registry with an OpenID provider: its ID tokens, and people who log in with a browser and make keys."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from oci_tools.registry import oidc
from tests.peers import Answer, Asked, Fake
from tests.registry.test_access import Start, ask, htpasswd, put, serve  # noqa: F401
from tests.registry.test_apikeys import basic, bearer
from tests.registry.test_issuer import KINDS, Service, encode
from tests.registry.test_page import browser  # noqa: F401


def jwk(service: Service, **more: Any) -> dict[str, Any]:
    """The public key as a provider lists it."""
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_public_key(service.public.read_bytes())
    number = lambda value: encode(value.to_bytes((value.bit_length() + 7) // 8))  # noqa: E731
    if service.kind == "RS256":
        found = key.public_numbers()
        return {"kty": "RSA", "n": number(found.n), "e": number(found.e), "alg": "RS256", "use": "sig", **more}
    if service.kind == "ES256":
        found = key.public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": encode(found.x.to_bytes(32)), "y": encode(found.y.to_bytes(32)), **more}
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(raw), **more}


class Provider:
    """An OpenID provider that lets in whom it is told to, and checks all that its client says."""

    def __init__(self, directory: Path, kind: str = "ES256") -> None:
        directory.mkdir(exist_ok=True)
        self.service = Service(directory, kind)
        self.fake = Fake()
        self.fake.guard = self._answer
        self.issuer = self.fake.url
        self.who: dict[str, Any] = {"sub": "u-1", "name": "alice", "groups": ["dev"]}
        self.codes: dict[str, dict[str, str]] = {}
        self.keys: list[Any] = [{"kty": "oct", "k": "AA"}, {"kty": "EC", "crv": "P-256"}, jwk(self.service)]
        self.ways = ["client_secret_basic"]
        self.secret = "s:e/cret"

    def token(self, **claims: Any) -> str:
        return self.service.token(**{"iss": self.issuer, "aud": "reg", **self.who, **claims})

    def asked(self, path: str) -> int:
        return len(self.fake.seen("GET", path))

    def _answer(self, asked: Asked) -> Answer | None:
        place = urlsplit(asked.path)
        if place.path == "/.well-known/openid-configuration":
            return said({
                "issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "token_endpoint": f"{self.issuer}/code",
                "authorization_endpoint": f"{self.issuer}/people?x=1", "token_endpoint_auth_methods_supported": self.ways,
            })  # fmt: skip
        if place.path == "/keys":
            return said({"keys": self.keys})
        if place.path == "/people":  # somebody logs in at once
            query = dict(parse_qsl(place.query))
            assert query["response_type"] == "code" and query["client_id"] == "reg" and query["code_challenge_method"] == "S256"
            assert query["x"] == "1" and "openid" in query["scope"].split()
            code = f"code{len(self.codes)}"
            self.codes[code] = query
            where = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            return Answer(302, {"Location": where})
        if place.path == "/code" and asked.method == "POST":
            return self._exchanged(asked)
        return None

    def _exchanged(self, asked: Asked) -> Answer:
        form = dict(parse_qsl(asked.body.decode()))
        if "client_secret_basic" in self.ways:
            user, _, secret = base64.b64decode(asked.headers["Authorization"].partition(" ")[2]).decode().partition(":")
            assert (user, secret) == ("reg", "s%3Ae%2Fcret") and "client_secret" not in form
        else:
            assert (form["client_id"], form["client_secret"]) == ("reg", self.secret)
        began = self.codes.pop(form["code"], None)
        if began is None or began["redirect_uri"] != form["redirect_uri"]:
            return said({"error": "invalid_grant"}, 400)
        assert encode(hashlib.sha256(form["code_verifier"].encode()).digest()) == began["code_challenge"]
        assert form["grant_type"] == "authorization_code"
        return said({"access_token": "x", "token_type": "Bearer", "id_token": self.token(nonce=began["nonce"])})


def said(value: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path / "provider")
    with made.fake:
        yield made


def config(directory: Path, provider: Provider, **more: Any) -> Path:
    found = {"issuer": provider.issuer, "clientid": "reg", "clientsecret": provider.secret, "username": "name", **more}
    (directory / "oidc.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return directory / "oidc.json"


def open_to_all(directory: Path) -> tuple[str, Path]:
    (directory / "open").write_text("+ ** *\n")
    return "--rules", directory / "open"


# -- ID tokens --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_id_token_lets_its_user_in(serve: Start, tmp_path: Path, kind: str) -> None:  # noqa: F811
    provider = Provider(tmp_path / "provider", kind)
    (tmp_path / "rules").write_text("alice own *\n@dev dev/** *\n")
    with provider.fake:
        url = serve("--oidc", config(tmp_path, provider), "--rules", tmp_path / "rules")
        token = provider.token()
        for who in (bearer(token), basic("alice", token), basic("oidc", token)):
            assert ask(f"{url}/v2/", **who).status == 200
        assert ask(f"{url}/v2/", **basic("bob", token)).status == 401
        assert put(url, "own", b"1", **bearer(token)).status == 201 == put(url, "dev/x", b"1", **basic("oidc", token)).status
        assert put(url, "else", b"1", **bearer(token)).status == 403
        assert put(url, "dev/x", b"2", **bearer(provider.token(groups=[]))).status == 403
        for wrong in (
            {"aud": "other"}, {"aud": ["reg", "x"], "azp": "x"}, {"aud": "-"}, {"aud": 5}, {"iss": "https://x"}, {"exp": time.time() - 90},
            {"exp": "-"}, {"nbf": time.time() + 90}, {"name": "-"}, {"name": 5}, {"name": "*"}, {"name": "@dev"}, {"name": "a,b"},
        ):  # fmt: skip
            assert ask(f"{url}/v2/", **bearer(provider.token(**wrong))).status == 401, wrong
        assert ask(f"{url}/v2/", **bearer(provider.token(aud=["x", "reg"], groups="dev"))).status == 200
        head, _, signature = token.rpartition(".")
        for bad in (f"{head}.", f"{head}.{signature[:-4]}AAAA", f"{head}x.{signature}", "eyJ..", "eyJhbGciOiJub25lIn0." + head.partition(".")[2] + "."):
            assert ask(f"{url}/v2/", **bearer(bad)).status == 401
        assert provider.asked("/keys") == 1  # and not for each of them


def test_an_email_counts_only_if_it_is_verified(serve: Start, provider: Provider, tmp_path: Path) -> None:  # noqa: F811
    url = serve("--oidc", config(tmp_path, provider, username="email"), *open_to_all(tmp_path))
    for verified, status in ((True, 200), (False, 401), ("true", 401), (None, 401)):
        assert ask(f"{url}/v2/", **bearer(provider.token(email="a@b", email_verified=verified))).status == status


def test_keys_of_a_provider_change(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = oidc.Provider(str(config(tmp_path, provider, clientid=None, clientsecret=None, audiences=["reg"])))
    token = provider.token()
    provider.keys = [jwk(provider.service, kid="old")]
    assert people.user(token) == ("alice", ["dev"]) == people.user(token)
    stranger = encode(json.dumps({"kid": "new"}).encode()) + "." + token.partition(".")[2]
    for _ in range(3):
        assert people.user(stranger) is None
    assert provider.asked("/keys") == 1  # it is not asked for every token that comes
    monkeypatch.setattr(oidc, "PAUSE", 0.0)
    assert people.user(stranger) is None and provider.asked("/keys") == 2
    monkeypatch.setattr(oidc, "FRESH", 0.0)
    provider.keys = []
    assert people.user(token) is None  # it is withdrawn
    provider.keys = [jwk(provider.service, kid="new")]
    assert people.user(token)
    provider.fake.guard = lambda asked: said({}, 500)
    assert people.user(token)  # it does not answer, and what was good is good


def test_tokens_of_ours_for_an_id_token(serve: Start, provider: Provider, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "rules").write_text("@dev dev/** *\n")
    url = serve("--oidc", config(tmp_path, provider), "--auth", "token", "--rules", tmp_path / "rules")
    asked = f"{url}/token?service=x&scope=repository:dev/x:pull,push"
    token = json.loads(ask(asked, **basic("oidc", provider.token())).body)["token"]
    assert put(url, "dev/x", b"1", **bearer(token)).status == 201
    assert put(url, "dev/x", b"1", **bearer(provider.token())).status == 201
    refused = ask(asked, **basic("oidc", provider.token(aud="x")))
    assert refused.status == 401 and refused.headers["WWW-Authenticate"].startswith("Basic")


def test_a_provider_that_is_away(serve: Start, provider: Provider, tmp_path: Path) -> None:  # noqa: F811
    url = serve("--oidc", config(tmp_path, provider, issuer="http://127.0.0.1:1"), *open_to_all(tmp_path))
    assert ask(f"{url}/v2/", **bearer(provider.token(iss="http://127.0.0.1:1"))).status == 401
    answer = Browser(url)("/login")
    assert answer.status == 503 and json.loads(answer.body)["errors"]


@pytest.mark.parametrize(
    "found, said_",
    [
        ([], "not a json object"), ({"isuer": "x"}, "unknown member isuer"), ({"issuer": 5}, "issuer is not a string"),
        ({"scopes": "openid"}, "scopes is not a list of strings"), ({"issuer": "http://x.example"}, "not an https URL"),
        ({"issuer": "https://x.example"}, "neither clientid nor audiences"),
    ],
)  # fmt: skip
def test_files_that_describe_no_provider(oci: Any, tmp_path: Path, found: Any, said_: str) -> None:
    (tmp_path / "oidc.json").write_text(json.dumps(found))
    done = oci("registry", "serve", "--oidc", tmp_path / "oidc.json", *open_to_all(tmp_path), tmp_path / "store", code=1)
    assert said_ in done.stderr and done.stderr.count("\n") == 1


def test_what_people_of_a_provider_may_is_said(oci: Any, provider: Provider, tmp_path: Path) -> None:
    done = oci("registry", "serve", "--oidc", config(tmp_path, provider), tmp_path / "store", code=2)
    assert "add --rules" in done.stderr


# -- people -----------------------------------------------------------------------------------


class Page:
    def __init__(self, answer: http.client.HTTPResponse, url: str) -> None:
        self.status, self.headers, self.url, self.body = answer.status, answer.headers, url, answer.read().decode()


class Browser:
    """Keeps cookies, and goes where it is sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}

    def __call__(self, path: str, form: dict[str, str] | None = None, follow: bool = True, **headers: str) -> Page:
        url = path if "://" in path else self.url + path
        for _ in range(10):
            parts = urlsplit(url)
            connection = http.client.HTTPConnection(parts.netloc)
            ours = url.startswith(self.url)
            cookies = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if ours and self.cookies else {}
            body = None if form is None else urlencode(form)
            where = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request("GET" if form is None else "POST", where, body, {**cookies, **headers})
            page = Page(connection.getresponse(), url)
            connection.close()
            for line in page.headers.get_all("Set-Cookie") or []:
                assert ours and "HttpOnly" in line and "SameSite=Lax" in line
                name, _, value = line.partition(";")[0].partition("=")
                self.cookies[name] = value
                if "Max-Age=0" in line:
                    del self.cookies[name]
            if page.status not in (302, 303) or not follow:
                return page
            form, target = None, page.headers["Location"]
            url = target if "://" in target else self.url + target
        raise AssertionError("it goes on and on")

    def mark(self) -> str:
        return re.findall(r'name="mark" value="([^"]+)"', self("/keys").body)[0]


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_people_log_in_and_make_keys(oci: Any, serve: Start, provider: Provider, tmp_path: Path, way: str) -> None:  # noqa: F811
    provider.ways = [way]
    (tmp_path / "rules").write_text("alice own *\n@dev dev/** *\n")
    file = tmp_path / "keys"
    url = serve("--oidc", config(tmp_path, provider), "--api-keys", file, "--rules", tmp_path / "rules")
    alice = Browser(url)
    page = alice("/")  # to log in, and back
    assert page.status == 200 and page.url == f"{url}/keys" and "You are alice." in page.body
    assert '<p>alice, <a href="/keys">keys</a></p>' in alice("/").body and list(alice.cookies) == ["oci_session"]
    assert ask(f"{url}/v2/", Cookie=f"oci_session={alice.cookies['oci_session']}").status == 401  # a page is no API

    made = alice("/keys", {"mark": alice.mark(), "days": "30", "scopes": "own:pull,push dev/**:pull", "label": "<b>"})
    key = re.findall(r"<code>(ocik_[^<]+)</code>", made.body)[0]
    assert "&lt;b&gt;" in made.body and "<b>" not in made.body and key not in alice("/keys").body
    assert put(url, "own", b"1", **basic("alice", key)).status == 201 and put(url, "dev/x", b"1", **bearer(key)).status == 403
    wide = re.findall(r"<code>(ocik_[^<]+)</code>", alice("/keys", {"mark": alice.mark(), "days": "0"}).body)[0]
    assert put(url, "dev/x", b"1", **bearer(wide)).status == 201  # by the group
    for wrong in ({"days": "-1"}, {"days": "x"}, {"days": "1", "scopes": "x"}, {"days": "1", "label": "x" * 200}):
        assert alice("/keys", {"mark": alice.mark(), **wrong}).status == 400

    provider.who = {"sub": "u-2", "name": "bob"}
    other = Browser(url)
    assert "You are bob." in other("/login").body
    other("/keys", {"mark": other.mark(), "remove": key.split("_")[1]})  # not theirs
    assert ask(f"{url}/v2/", **bearer(key)).status == 200
    for mark in ("", "x", other.mark()):
        assert alice("/keys", {"mark": mark, "days": "1"}).status == 403
    assert alice("/keys", {"days": "1"}, Authorization=f"Bearer {key}").status == 403  # a key makes no keys
    alice("/keys", {"mark": alice.mark(), "remove": key.split("_")[1]})
    assert ask(f"{url}/v2/", **bearer(key)).status == 401
    assert len(oci("registry", "key", "ls", file).stdout.splitlines()) == 1
    assert alice("/login/out", {}, follow=False).status == 303 and not alice.cookies


def test_who_may_read_without_finds_the_way_to_log_in(serve: Start, provider: Provider, tmp_path: Path) -> None:  # noqa: F811
    url = serve("--oidc", config(tmp_path, provider), "--anonymous-read", *open_to_all(tmp_path))
    stranger = Browser(url)
    assert '<a href="/login">log in</a>' in stranger("/").body
    stranger("/login")
    assert "<p>alice</p>" in stranger("/").body and stranger("/keys").status == 404


def test_logins_that_come_to_nothing(serve: Start, provider: Provider, tmp_path: Path) -> None:  # noqa: F811
    url = serve("--oidc", config(tmp_path, provider), *open_to_all(tmp_path))
    alice = Browser(url)
    for path in ("/login/callback", "/login/callback?code=x&state=y", "/login/callback?code=x&state="):
        assert alice(path).status == 403
    begun = alice("/login", follow=False)
    state = dict(parse_qsl(urlsplit(begun.headers["Location"]).query))["state"]
    assert Browser(url)(f"/login/callback?code=x&state={state}").status == 403  # begun by another browser
    denied = alice(f"/login/callback?state={state}&error=access_denied&error_description=%3Cb%3E")
    assert denied.status == 403 and "access_denied &lt;b&gt;" in denied.body
    back = alice(begun.headers["Location"], follow=False).headers["Location"]
    provider.who = {"sub": "u-3", "name": "+"}
    assert alice(back).status == 403 and "oci_session" not in alice.cookies
    assert alice(back).status == 403  # a code is good once
    assert alice("/keys").status == 404 and alice("/login/out").status == 405
    session = Browser(url)
    provider.who = {"sub": "u-1", "name": "alice"}
    assert session("/login").url == f"{url}/"
    session.cookies["oci_session"] = session.cookies["oci_session"][:-2] + "AA"
    assert session("/", follow=False).status == 303


def test_passwords_make_keys_too(serve: Start, htpasswd: Path, tmp_path: Path, provider: Provider) -> None:  # noqa: F811
    url = serve("--htpasswd", htpasswd, "--api-keys", tmp_path / "keys")
    assert Browser(url)("/login").headers["WWW-Authenticate"].startswith("Basic")
    alice, who = Browser(url), basic("alice", "wonder:land")
    page = alice("/login", **who)
    mark = re.findall(r'name="mark" value="([^"]+)"', page.body)[0]
    made = alice("/keys", {"mark": mark, "days": "1"}, **who)
    key = re.findall(r"<code>(ocik_[^<]+)</code>", made.body)[0]
    assert ask(f"{url}/v2/", **bearer(key)).status == 200
    words = ("--htpasswd", htpasswd, "--api-keys", tmp_path / "keys", *open_to_all(tmp_path))
    both = serve("--oidc", config(tmp_path, provider), *words)
    choice = Browser(both)("/login").body
    assert "/login?provider" in choice and "/login?password" in choice and provider.issuer in choice
    assert Browser(both)("/login?password").status == 401 and "You are alice." in Browser(both)("/login?provider").body


@pytest.mark.needs("chromium-headless-shell")
def test_a_real_browser_logs_in(serve: Start, provider: Provider, tmp_path: Path, browser: Any) -> None:  # noqa: F811
    url = serve("--oidc", config(tmp_path, provider), "--api-keys", tmp_path / "keys", *open_to_all(tmp_path))
    shown = browser(f"{url}/", "--dump-dom")
    assert "You are alice." in shown and '<button name="remove"' not in shown and "<h2>a new one</h2>" in shown
