"""Who gets into oci-registry: users, rules, tokens and certificates, asked by hand and by real clients."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from oci_tools.errors import Error
from oci_tools.registry import access, users
from tests.peers import certificate, digest

USERS = {"alice": "wonder:land", "bob": "builder"}
RULES = """
# WHO       REPOSITORIES   ACTION
*           public/**      pull
+           shared/*       pull push
alice       **             *
bob         bob/**         pull,push
"""

Start = Callable[..., Any]


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    lines = [f"{n}:{bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}" for n, p in USERS.items()]
    path = tmp_path / "htpasswd"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "rules").write_text(RULES)
    return tmp_path / "rules"


@pytest.fixture
def serve(oci: Any, tmp_path: Path) -> Start:
    """A registry that is started with these options: its URL."""

    def start(*words: Any) -> str:
        process = oci.start(
            "registry", "serve", *words, tmp_path / "store", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        start.process = process  # type: ignore[attr-defined]
        return str(process.stdout.readline().strip())

    return start


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


def ask(url: str, method: str = "GET", user: str = "", data: bytes | None = None, **headers: str) -> Reply:
    request = urllib.request.Request(url, data, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
    if user:
        said = base64.b64encode(f"{user}:{USERS.get(user, 'guess')}".encode()).decode()
        request.add_header("Authorization", f"Basic {said}")
    try:
        with urllib.request.urlopen(request) as answer:
            return Reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def put(url: str, repository: str, data: bytes, user: str = "", **headers: str) -> Reply:
    where = f"{url}/v2/{repository}/blobs/uploads/?digest={digest(data)}"
    return ask(where, "POST", user, data, Content_Type="application/octet-stream", **headers)


# -- the files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user, repository, action, allowed",
    [
        ("", "public/app", "pull", True),
        ("", "public/a/b", "pull", True),
        ("", "public", "pull", False),
        ("", "public/app", "push", False),
        ("bob", "public/app", "pull", True),
        ("", "shared/x", "pull", False),
        ("bob", "shared/x", "push", True),
        ("bob", "shared/x/y", "push", False),
        ("bob", "bob/x", "delete", False),
        ("alice", "bob/x", "delete", True),
        ("+", "zzz", "pull", False),
    ],
)
def test_rules(user: str, repository: str, action: str, allowed: bool) -> None:
    assert users.rules(RULES, "rules").allow(user, repository, action) == allowed


@pytest.mark.parametrize("text", ["alice **", "alice ** read", "alice ** pull,read"])
def test_rules_that_cannot_be_used(text: str) -> None:
    with pytest.raises(Error, match="cannot use rules of 'rules': line 2: "):
        users.rules(f"# rules\n{text}\n", "rules")


@pytest.mark.parametrize("text", ["alice", ":x", "alice:plain", "bob:$apr1$x$y", "*:$2y$" + "x" * 56])
def test_users_that_cannot_be_used(text: str) -> None:
    with pytest.raises(Error, match="cannot use users of 'f': line 1 "):
        users.passwords(text, "f")


def test_a_token_is_good_only_as_it_was_sealed() -> None:
    claims = {"sub": "a", "exp": time.time() + 9, "access": []}
    token = access.sealed(claims, b"k")
    assert access.opened(token, b"k") == claims and access.opened(token, b"x") is None
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for bad in ("", ".", "..", token + "x", f"{none}.{token.split('.')[1]}.", token.replace(".", "ä", 1)):
        assert access.opened(bad, b"k") is None
    assert access.opened(access.sealed({**claims, "exp": time.time() - 1}, b"k"), b"k") is None


# -- Basic -------------------------------------------------------------------------------


def test_users_by_password(serve: Start, htpasswd: Path) -> None:
    url = serve("--htpasswd", htpasswd)
    refused = ask(f"{url}/v2/")
    assert refused.status == 401 and refused.headers["WWW-Authenticate"] == 'Basic realm="oci-registry"'
    assert json.loads(refused.body)["errors"][0]["code"] == "UNAUTHORIZED"
    for user, status in (("alice", 200), ("bob", 200), ("carol", 401)):
        assert [ask(f"{url}/v2/", user=user).status for _ in range(2)] == [status] * 2
    wrong = base64.b64encode(b"alice:wonderland").decode()
    for said in (f"Basic {wrong}", "Bearer x.y.z"):
        assert ask(f"{url}/v2/", Authorization=said).status == 401
    assert put(url, "a", b"1").status == 401 and put(url, "a", b"1", "bob").status == 201
    assert ask(f"{url}/v2/a/blobs/{digest(b'1')}").status == 401
    assert ask(f"{url}/v2/_catalog").status == 401
    assert ask(f"{url}/token").status == 404


def test_a_user_comes_and_goes_while_serving(serve: Start, htpasswd: Path) -> None:
    url = serve("--htpasswd", htpasswd)
    text = htpasswd.read_text()
    assert ask(f"{url}/v2/", user="bob").status == 200
    htpasswd.write_text(text.splitlines()[0] + "\n")
    assert ask(f"{url}/v2/", user="bob").status == 401 and ask(f"{url}/v2/", user="alice").status == 200
    htpasswd.write_text("nonsense\n")
    assert ask(f"{url}/v2/", user="alice").status == 200  # the last good content
    assert "cannot use users of" in serve.process.stderr.readline()  # type: ignore[attr-defined]
    htpasswd.write_text(text)
    assert ask(f"{url}/v2/", user="bob").status == 200


def test_anonymous_read(serve: Start, htpasswd: Path) -> None:
    url = serve("--htpasswd", htpasswd, "--anonymous-read")
    assert put(url, "a", b"1", "bob").status == 201
    assert ask(f"{url}/v2/a/blobs/{digest(b'1')}").body == b"1"
    empty = base64.b64encode(b":").decode()  # what some clients say when they have nothing to say
    assert ask(f"{url}/v2/a/blobs/{digest(b'1')}", Authorization=f"Basic {empty}").body == b"1"
    assert ask(f"{url}/v2/").status == 401  # else nobody would learn how to log in
    assert put(url, "a", b"2").status == 401
    assert json.loads(ask(f"{url}/v2/_catalog").body) == {"repositories": ["a"]}


def test_rules_per_repository(serve: Start, htpasswd: Path, rules: Path) -> None:
    url = serve("--htpasswd", htpasswd, "--rules", rules)
    for name in ("public/app", "bob/app", "secret/app"):
        assert put(url, name, name.encode(), "alice").status == 201
    blob = f"{url}/v2/public/app/blobs/{digest(b'public/app')}"
    assert ask(blob).status == 200
    secret = f"{url}/v2/secret/app/blobs/{digest(b'secret/app')}"
    denied = ask(secret, user="bob")
    assert denied.status == 403 and json.loads(denied.body)["errors"][0]["code"] == "DENIED"
    assert ask(secret).status == 401
    assert ask(f"{url}/v2/secret/none/tags/list", user="bob").status == 403  # there or not: the same answer
    assert ask(blob, "DELETE", "bob").status == 403 and ask(blob, "DELETE", "alice").status == 202
    seen = {u: json.loads(ask(f"{url}/v2/_catalog", user=u).body)["repositories"] for u in ("", "alice", "bob")}
    assert seen == {
        "": ["public/app"], "alice": ["bob/app", "public/app", "secret/app"], "bob": ["bob/app", "public/app"],
    }  # fmt: skip


def test_a_blob_is_mounted_only_out_of_what_the_caller_may_read(serve: Start, htpasswd: Path, rules: Path) -> None:
    url = serve("--htpasswd", htpasswd, "--rules", rules)
    secret, open_ = b"secret bytes", b"open bytes"
    assert put(url, "secret/app", secret, "alice").status == 201
    assert put(url, "public/app", open_, "alice").status == 201

    def mount(data: bytes, source: str = "") -> int:
        more = f"&from={source}" if source else ""
        return ask(f"{url}/v2/bob/x/blobs/uploads/?mount={digest(data)}{more}", "POST", "bob", b"").status

    assert mount(secret) == mount(secret, "secret/app") == mount(secret, "none") == 202
    assert ask(f"{url}/v2/bob/x/blobs/{digest(secret)}", user="bob").status == 404
    assert mount(open_, "public/app") == 201 and mount(open_) == 201
    assert ask(f"{url}/v2/bob/x/blobs/{digest(open_)}", user="bob").body == open_


# -- tokens --------------------------------------------------------------------------------


def token(url: str, user: str, *scopes: str) -> tuple[str, list[Any]]:
    query = "&".join(f"scope={scope}" for scope in scopes)
    answer = ask(f"{url}/token?service=x&{query}", user=user)
    assert answer.status == 200, answer.body
    said = json.loads(answer.body)
    assert said["token"] == said["access_token"] and said["expires_in"] > 60
    body = said["token"].split(".")[1]
    return said["token"], json.loads(base64.urlsafe_b64decode(body + "==="))["access"]


def test_tokens(serve: Start, htpasswd: Path, rules: Path) -> None:
    url = serve("--htpasswd", htpasswd, "--rules", rules, "--auth", "token")
    host = url.partition("//")[2]
    refused = ask(f"{url}/v2/bob/app/tags/list")
    said = f'Bearer realm="{url}/token",service="{host}",scope="repository:bob/app:pull"'
    assert refused.status == 401 and refused.headers["WWW-Authenticate"] == said
    assert ask(f"{url}/token", user="carol").headers["WWW-Authenticate"].startswith("Basic ")

    pull, granted = token(url, "bob", "repository:bob/app:pull")
    assert granted == [{"type": "repository", "name": "bob/app", "actions": ["pull"]}]
    refused = put(url, "bob/app", b"1", Authorization=f"Bearer {pull}")
    assert refused.status == 401 and 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert 'scope="repository:bob/app:pull,push"' in refused.headers["WWW-Authenticate"]

    push, granted = token(url, "bob", "repository:bob/app:pull,push,delete", "repository:secret:pull%20registry:catalog:*")
    assert [entry["actions"] for entry in granted] == [["pull", "push"], [], ["*"]]
    assert put(url, "bob/app", b"1", Authorization=f"Bearer {push}").status == 201
    assert ask(f"{url}/v2/secret/tags/list", Authorization=f"Bearer {push}").status == 403
    assert json.loads(ask(f"{url}/v2/_catalog", Authorization=f"Bearer {push}").body)["repositories"] == ["bob/app"]
    assert ask(f"{url}/v2/_catalog", Authorization=f"Bearer {pull}").status == 401
    assert ask(f"{url}/v2/", Authorization=f"Bearer {push}x").status == 401

    anonymous, granted = token(url, "", "repository:public/app:pull,push", "repository:bob/app:pull")
    assert [entry["actions"] for entry in granted] == [["pull"], []]
    assert ask(f"{url}/v2/", Authorization=f"Bearer {anonymous}").status == 200

    form = b"grant_type=password&username=bob&password=builder&scope=repository:bob/app:pull&service=x"
    assert json.loads(ask(f"{url}/token", "POST", data=form).body)["access_token"]
    assert ask(f"{url}/token", "POST", data=form.replace(b"builder", b"x")).status == 401
    assert ask(f"{url}/token", "POST", data=b"grant_type=refresh_token&refresh_token=x").status == 400

    rules.write_text("alice ** *\n")  # a right that is taken away is gone at once
    assert put(url, "bob/app", b"2", Authorization=f"Bearer {push}").status == 403


def test_a_mount_by_token_needs_the_other_repository_in_its_scopes(serve: Start, htpasswd: Path) -> None:
    url = serve("--htpasswd", htpasswd, "--auth", "token")
    one, _ = token(url, "bob", "repository:a:pull,push")
    both, _ = token(url, "bob", "repository:a:pull", "repository:b:pull,push")
    other, _ = token(url, "bob", "repository:b:pull,push")
    assert put(url, "a", b"1", Authorization=f"Bearer {one}").status == 201
    where = f"{url}/v2/b/blobs/uploads/?mount={digest(b'1')}"
    for more in ("", "&from=a"):
        assert ask(where + more, "POST", data=b"", Authorization=f"Bearer {other}").status == 202
    assert ask(f"{where}&from=a", "POST", data=b"", Authorization=f"Bearer {both}").status == 201


def test_servers_share_a_key(serve: Start, htpasswd: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    words = ("--htpasswd", htpasswd, "--auth", "token", "--token-key", tmp_path / "key", "--url", "http://reg.example:5000")
    one, two = serve(*words), serve(*words)
    assert 'realm="http://reg.example:5000/token"' in ask(f"{one}/v2/").headers["WWW-Authenticate"]
    got, _ = token(one, "bob", "repository:a:pull,push")
    assert put(two, "a", b"1", Authorization=f"Bearer {got}").status == 201


# -- real clients --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["basic", "token"])
@pytest.mark.needs("skopeo", "oras", "htpasswd")
def test_skopeo_oras_and_ours_log_in(oci: Any, serve: Start, busybox: Path, rules: Path, tmp_path: Path, how: str) -> None:
    file = tmp_path / "made-by-htpasswd"
    for name, password in USERS.items():
        flags = "-bB" if file.exists() else "-cbB"
        subprocess.run(["htpasswd", flags, "-C", "5", file, name, password], check=True, capture_output=True)
    host = serve("--htpasswd", file, "--rules", rules, "--auth", how).partition("//")[2]
    run: Any = lambda *words: subprocess.run(words, cwd=tmp_path, env=oci.env, capture_output=True, text=True)  # noqa: E731
    copy = ("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--src-tls-verify=false")

    def done(*words: Any) -> Any:
        result = run(*words)
        assert result.returncode == 0, result.stderr
        return result

    done(*copy, "--dest-creds", "alice:wonder:land", f"oci:{busybox}:latest", f"docker://{host}/public/app:1")
    done(*copy, f"docker://{host}/public/app:1", "oci:anonymous:1")
    assert run(*copy, f"oci:{busybox}:latest", f"docker://{host}/public/app:2").returncode
    refused = run(*copy, "--dest-creds", "bob:builder", f"oci:{busybox}:latest", f"docker://{host}/public/app:2")
    assert refused.returncode and ("denied" in refused.stderr or "unauthorized" in refused.stderr)
    assert run("oras", "login", "--plain-http", "-u", "bob", "-p", "wrong", host).returncode
    done("oras", "login", "--plain-http", "-u", "bob", "-p", "builder", host)
    (tmp_path / "file").write_text("x")
    done("oras", "push", "--plain-http", f"{host}/bob/artifact:1", "file:text/plain")
    done("oras", "pull", "--plain-http", "-o", tmp_path / "out", f"{host}/bob/artifact:1")
    oci("pull", f"{host}/public/app:1", "./open")
    oci("pull", f"{host}/bob/artifact:1", "./img")  # by what oras has stored
    oci("push", f"{busybox}:latest", f"{host}/bob/app:1")
    assert "answers 403, access denied" in oci("push", f"{busybox}:latest", f"{host}/secret:1", code=1).stderr


# -- TLS ---------------------------------------------------------------------------------


def serial(host: str) -> int:
    name, _, port = host.partition(":")
    pem = ssl.get_server_certificate((name, int(port)))
    done = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True)
    return int(done.stdout.partition("=")[2], 16)


def test_a_new_certificate_is_used_without_a_signal_and_on_sighup(serve: Start, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    url = serve("--tls-cert", cert, "--tls-key", key)
    host = url.partition("//")[2]
    first = serial(host)
    os.utime(key)
    certificate(tmp_path)
    while serial(host) == first:
        pass  # it looks every second
    second = serial(host)
    cert.write_text("no certificate")
    serve.process.send_signal(signal.SIGHUP)  # type: ignore[attr-defined]
    assert "cannot use certificate" in serve.process.stderr.readline()  # type: ignore[attr-defined]
    assert serial(host) == second


def test_a_token_for_a_certificate_is_good_with_it_only(serve: Start, tmp_path: Path, rules: Path) -> None:
    cert, key = certificate(tmp_path)
    openssl: Any = lambda *words: subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)  # noqa: E731
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bob")
    openssl(*new, "-keyout", "bob.key", "-out", "bob.pem")
    url = serve("--tls-cert", cert, "--tls-key", key, "--client-ca", tmp_path / "bob.pem", "--rules", rules, "--anonymous-read",
                "--auth", "token")  # fmt: skip

    def get(path: str, with_ours: bool, **headers: str) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cert)
        if with_ours:
            context.load_cert_chain(tmp_path / "bob.pem", tmp_path / "bob.key")
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), context=context) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return b"%d" % error.code

    token = json.loads(get("/token?service=x&scope=repository:bob/x:pull", True))["token"]
    said = {"Authorization": f"Bearer {token}"}
    assert get("/v2/", True, **said) == b"{}" and get("/v2/", False, **said) == b"401"
    nobody = json.loads(get("/token?service=x&scope=repository:bob/x:pull", False))["token"]
    assert get("/v2/", False, Authorization=f"Bearer {nobody}") == b"{}"


def test_certificates_of_clients(oci: Any, serve: Start, busybox: Path, tmp_path: Path, rules: Path) -> None:
    cert, key = certificate(tmp_path)
    ours = tmp_path / "client.pem"
    openssl: Any = lambda *words: subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)  # noqa: E731
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
    openssl("req", "-x509", *new, "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    openssl("req", *new, "client.key", "-out", "client.csr", "-subj", "/O=us/CN=bob")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-out", ours)
    url = serve("--tls-cert", cert, "--tls-key", key, "--client-ca", tmp_path / "ca.pem", "--rules", rules)

    def status(path: str, with_ours: bool, method: str = "GET") -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cert)
        if with_ours:
            context.load_cert_chain(ours, tmp_path / "client.key")
        request = urllib.request.Request(url + path, method=method, data=b"" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    assert status("/v2/", True) == 200 and status("/v2/", False) == 0
    assert status("/v2/bob/x/blobs/uploads/", True, "POST") == 202
    assert status("/v2/public/x/blobs/uploads/", True, "POST") == 403
    host = url.partition("//")[2]
    assert oci("push", "--tls-verify=false", f"{busybox}:latest", f"{host}/bob/app:1", code=None).returncode
    place = tmp_path / "home/.config/containers/certs.d" / host
    place.mkdir(parents=True)
    for name, source in (("ca.crt", cert), ("client.cert", ours), ("client.key", tmp_path / "client.key")):
        (place / name).write_bytes(source.read_bytes())
    oci("push", f"{busybox}:latest", f"{host}/bob/app:1")
    oci("pull", f"{host}/bob/app:1", "./img")
    assert "may not push" in oci("push", f"{busybox}:latest", f"{host}/public/app:1", code=1).stderr
    (place / "client.key").unlink()
    done = oci("pull", f"{host}/bob/app:1", "./img", code=1)
    assert "cannot use certificate" in done.stderr and "client.cert" in done.stderr and done.stderr.count("\n") == 1
