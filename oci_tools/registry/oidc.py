"""An OpenID provider: who its ID tokens are of, and the login of people with a browser.

    OpenID Connect Core 1.0, Discovery 1.0; PKCE (RFC 7636); JWK sets (RFC 7517)

    the file   {"issuer": URL, "clientid": "...", "clientsecret": "...", "scopes": ["openid", ...],
                "audiences": ["..."], "username": "sub", "groups": "groups"}

`clientid` is us: without one there are no logins of people, and only tokens for `audiences` are taken, as CI systems
issue them.  `username` and `groups` are the claims that say who somebody is; the provider must be the only one who says
them, as with `sub`; an `email` counts only with `email_verified`.  Not here: pages (login.py), tokens of registries
(issuer.py).
"""

from __future__ import annotations

import threading
import time

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools import fetch

ANYBODY = "oidc"  # what the user may be called whose password is an ID token
CONFIGURATION = "/.well-known/openid-configuration"
MAX_ANSWER = 1 << 20  # bytes
FRESH = 3600.0  # seconds for which keys are believed
PAUSE = 10.0  # seconds between two looks for a key that we lack
MEMBERS = {"issuer", "clientid", "clientsecret", "scopes", "audiences", "username", "groups"}


def is_token(said: str) -> bool:
    """Whether this looks like a JWT."""
    return said.startswith("eyJ") and said.count(".") == 2


class Provider:
    """Who says who people are."""

    def __init__(self, path: str) -> None:
        found = document.load(path)
        _check(found, path)
        self.issuer: str = found["issuer"]
        self.client: str = found.get("clientid", "")
        self._secret: str = found.get("clientsecret", "")
        self._scopes: list[str] = found.get("scopes", ["openid", "profile", "email"])
        self._audiences: list[str] = found.get("audiences", []) + ([self.client] if self.client else [])
        self._name: str = found.get("username", "sub")
        self._group: str = found.get("groups", "groups")
        self._lock = threading.Lock()
        self._http: fetch.Client | None = None
        self._said: dict[str, Any] = {}
        self._keys: list[tuple[str, tuple[Any, str]]] = []  # (its id, (key, the algorithm that it is for))
        self._looked = float("-inf")

    # -- tokens ---------------------------------------------------------------------------

    def user(self, token: str, nonce: str | None = None) -> tuple[str, list[str]] | None:
        """Whose ID token this is, and the groups that they are in; None if it is not good, or not for us."""
        found = self._claims(token)
        if found is None or (nonce is not None and found.get("nonce") != nonce):
            return None
        from oci_tools.registry.apikeys import good_name

        name, groups = found.get(self._name), found.get(self._group, [])
        if not good_name(name) or (self._name == "email" and found.get("email_verified") is not True):
            return None
        groups = groups if isinstance(groups, list) else [groups]
        return str(name), [group for group in groups if isinstance(group, str)]

    def _claims(self, token: str) -> dict[str, Any] | None:
        from oci_tools.registry import issuer

        found = issuer.parts(token)
        if found is None:
            return None
        head, claims, signature, message = found
        if claims.get("iss") != self.issuer or not issuer.timely(claims):
            return None  # before anybody is asked for keys
        audience = claims.get("aud")
        names = audience if isinstance(audience, list) else [audience]
        by = claims.get("azp")  # who asked for it, if somebody else did
        if not set(map(str, names)) & set(self._audiences) or (len(names) > 1 and by not in (None, *self._audiences)):
            return None
        name = str(head.get("kid") or "")
        good = any(
            use in ("", head.get("alg")) and issuer.signed(key, head, signature, message)
            for key, use in self._candidates(name)
        )
        return claims if good else None

    def _candidates(self, name: str) -> list[tuple[Any, str]]:
        """The keys that may have signed a token; the provider is asked again for one that we lack."""

        def known() -> list[tuple[Any, str]]:
            return [key for kid, key in self._keys if not name or not kid or kid == name]

        def old() -> bool:
            return time.monotonic() - self._looked > (FRESH if known() else PAUSE)

        # who need not wait for a provider that is slow does not
        if old() and self._lock.acquire(blocking=not self._keys):
            try:
                if old():
                    self._looked = time.monotonic()
                    self._keys = self._fetched()
            except Error:
                pass  # it does not answer: what was good an hour ago is not bad now
            finally:
                self._lock.release()
        return known()

    def _fetched(self) -> list[tuple[str, tuple[Any, str]]]:
        from oci_tools.registry import keys

        listed = self._json(self._place("jwks_uri")).get("keys")
        entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        made = [(str(one.get("kid") or ""), keys.of_jwk(one)) for one in entries]
        return [(name, key) for name, key in made if key is not None]

    # -- people ---------------------------------------------------------------------------

    def where(self, back: str, state: str, nonce: str, verifier: str) -> str:
        """Where somebody logs in, to come back with a code."""
        from hashlib import sha256
        from urllib.parse import urlencode

        from oci_tools.registry.access import encode

        place = self._place("authorization_endpoint")
        asked = {
            "response_type": "code", "client_id": self.client, "redirect_uri": back, "scope": " ".join(self._scopes),
            "state": state, "nonce": nonce, "code_challenge": encode(sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}"

    def exchange(self, code: str, back: str, nonce: str, verifier: str) -> tuple[str, list[str]] | None:
        """Who has come back with this code."""
        from urllib.parse import quote, urlencode

        from oci_tools.registry.credentials import Credential

        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        ways = self._configuration().get("token_endpoint_auth_methods_supported")
        if self._secret and (not isinstance(ways, list) or "client_secret_basic" in ways):
            headers["Authorization"] = Credential(quote(self.client, safe=""), quote(self._secret, safe="")).basic()
        else:
            asked |= {"client_id": self.client, **({"client_secret": self._secret} if self._secret else {})}
        found = self._json(self._place("token_endpoint"), headers, urlencode(asked).encode())
        token = found.get("id_token")
        return self.user(token, nonce) if isinstance(token, str) else None

    # -- what it says -----------------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        if not self._said:
            found = self._json(self.issuer.rstrip("/") + CONFIGURATION)
            if found.get("issuer") != self.issuer:
                raise Error("cannot use OpenID provider", self.issuer, f"it calls itself '{found.get('issuer')}'")
            self._said = found
        return self._said

    def _place(self, name: str) -> str:
        found = self._configuration().get(name)
        if not isinstance(found, str) or not _is_url(found):
            raise Error("cannot use OpenID provider", self.issuer, f"it says no {name}")
        return found

    def _json(self, url: str, headers: dict[str, str] | None = None, form: bytes | None = None) -> dict[str, Any]:
        from oci_tools import fetch
        from oci_tools.registry import hosts

        if self._http is None:
            self._http = fetch.Client(retries=1, timeout=10.0, certs=hosts.cert_directories)
        with self._http.request("GET" if form is None else "POST", url, headers, form) as answer:
            if answer.status != 200:
                raise Error("cannot use OpenID provider", self.issuer, f"{fetch.host_of(url)} answers {answer.status}")
            found = document.loads(answer.read_all(MAX_ANSWER), f"answer of {fetch.host_of(url)}")
        if not isinstance(found, dict):
            raise Error("cannot use OpenID provider", self.issuer, "its answer is no json object")
        return found


def _check(found: Any, path: str) -> None:
    """Whether this is what the module says."""

    def fail(why: str) -> Error:
        return Error("cannot use OpenID provider of", path, why)

    if not isinstance(found, dict):
        raise fail("not a json object")
    if unknown := sorted(set(found) - MEMBERS):
        raise fail(f"unknown member {unknown[0]}")
    for name, value in found.items():
        lists = name in ("scopes", "audiences")
        texts = value if lists else [value]
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise fail(f"{name} is not {'a list of strings' if lists else 'a string'}")
    if not _is_url(found.get("issuer", "")):
        raise fail("issuer is not an https URL")
    if not found.get("clientid") and not found.get("audiences"):
        raise fail("neither clientid nor audiences says for whom tokens are")


def _is_url(text: str) -> bool:
    """Whether nobody on the way can say who people are."""
    from oci_tools import fetch

    return text.isprintable() and (
        text.startswith("https://") or (text.startswith("http://") and fetch.is_loopback(fetch.host_of(text)))
    )
