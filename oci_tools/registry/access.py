"""The door of a registry that we serve: who asks, by which right, and what a refusal says.

    Basic       RFC 7617, against the users' file
    Bearer      a token of our own service at /token (distribution's "token" documents):
                JWT (RFC 7519), HS256 with a key of our own
                {"sub": USER, "aud": SERVICE, "exp": SECONDS, "access": [{"type", "name", "actions"}]}
    TLS         a client's certificate that our CA signed: the user is its common name

Rules (users.py) say what a user may do.  A token grants no more than the rules do when it is
used, so that a right which is taken away is gone at once.
"""

from __future__ import annotations

import os
import time

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.http import Response
from oci_tools.registry.refusal import JSON, VERSION, Refusal
from oci_tools.registry.users import ACTIONS, Rules, Users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.http import Request
    from oci_tools.registry.issuer import Issuer

LIFE = 300  # seconds that a token can be used
MAX_FORM = 1 << 16  # bytes of a POST to /token
CATALOG = ("registry", "catalog")
ANONYMOUS = "anonymous"  # the user of a token that names none


class Caller:
    """Who sent a request: the user ("" is nobody in particular), and what a token grants, if one came."""

    def __init__(self, user: str = "", granted: dict[tuple[str, str], frozenset[str]] | None = None) -> None:
        self.user = user
        self.granted = granted


class Access:
    """Decides about every request (see the module)."""

    def __init__(
        self,
        rules: Callable[[], Rules],
        users: Users | None = None,
        *,
        tokens: bool = False,
        key: bytes = b"",
        url: str = "",
        issuer: Issuer | None = None,
    ) -> None:
        """tokens: clients are sent to /token; key: signs them, several servers may share one;
        url: how clients reach us, where that is not what they say in Host; issuer: where they are sent instead."""
        self._rules = rules
        self._users = users
        self._tokens = tokens
        self._key = key or os.urandom(32)
        self._url = url.rstrip("/")
        self._issuer = issuer

    # -- who ------------------------------------------------------------------------------

    def caller(self, request: Request) -> Caller:
        """Who sent a request; a Refusal if they say who they are and it is not true."""
        scheme, _, said = request.header("Authorization").partition(" ")
        if scheme.lower() == "bearer" and self._tokens:
            return self._bearer(request, said.strip())
        if scheme.lower() == "basic":
            user, password = _basic(said)
            if user or password:  # some clients send empty ones when they have none
                if self._users is None or not self._users.check(user, password):
                    raise self._unknown(request, "the user's name or password is not accepted")
                return Caller(user)
        return Caller(_certified(request))

    def _bearer(self, request: Request, token: str) -> Caller:
        if self._issuer:
            from oci_tools.registry.issuer import granted

            said = self._issuer.claims(token)
            if said is None:
                raise self._unknown(request, "the token is not valid", 'error="invalid_token"')
            return Caller(said.get("sub") or ANONYMOUS, granted(said))
        claims = opened(token, self._key)
        if claims is None or claims.get("aud") != self._service(request):
            raise self._unknown(request, "the token is not valid any more", 'error="invalid_token"')
        user = claims["sub"]
        if user and self._users is not None and not self._users.known(user) and user != _certified(request):
            raise self._unknown(request, "the token's user is no more", 'error="invalid_token"')
        return Caller(user, {(e["type"], e["name"]): frozenset(e["actions"]) for e in claims["access"]})

    # -- what -----------------------------------------------------------------------------

    def may(self, caller: Caller, repository: str, action: str) -> bool:
        """Whether the caller may do this, by the rules and by the token that came."""
        if not self._rules().allow(caller.user, repository, action):
            return False
        return caller.granted is None or action in caller.granted.get(("repository", repository), ())

    def sees(self, caller: Caller, repository: str) -> bool:
        """Whether a repository is in the caller's lists."""
        return self._rules().allow(caller.user, repository, "pull")

    def check(self, request: Request, caller: Caller, repository: str, action: str) -> None:
        """Refuse what the caller may not do; a repository that is not there is refused alike."""
        if self.may(caller, repository, action):
            return
        scope = f"repository:{repository}:{'pull,push' if action == 'push' else action}"
        detail = [{"Type": "repository", "Name": repository, "Action": action}]
        if not caller.user or self._rules().allow(caller.user, repository, action):
            raise self._unknown(request, "log in to do this", f'scope="{scope}"', detail, caller)
        raise Refusal(403, "DENIED", f"{caller.user} may not {action} here", detail)

    def check_login(self, request: Request, caller: Caller) -> None:
        """GET /v2/ is how clients learn how to log in: nobody gets by without."""
        if not caller.user and caller.granted is None:
            raise self._unknown(request, "log in to do this")

    def check_catalog(self, request: Request, caller: Caller) -> None:
        granted = caller.granted is None or "*" in caller.granted.get(CATALOG, ())
        if not granted or (not caller.user and not self._rules().anonymous()):
            raise self._unknown(request, "log in to do this", 'scope="registry:catalog:*"', None, caller)

    def asks_people(self, caller: Caller) -> bool:
        """Whether somebody with a browser has to log in before there is anything to see."""
        return not caller.user and not self._rules().anonymous()

    def ask_people(self) -> Response:
        """A browser knows no tokens: it is asked for name and password."""
        return Response(401, [_BASIC, ("Content-Type", "text/plain")], b"log in to see this\n")

    def _unknown(
        self, request: Request, message: str, more: str = "", detail: object = None, caller: Caller | None = None
    ) -> Refusal:
        """401 and how to do better."""
        if self._tokens:
            place = self._issuer.realm if self._issuer else f"{self._base(request)}/token"
            words = [f'Bearer realm="{place}"', f'service="{self._service(request)}"', more]
            if caller and caller.granted is not None:
                words.append('error="insufficient_scope"')
            value = ",".join(word for word in words if word)
        else:
            value = 'Basic realm="oci-registry"'
        return Refusal(401, "UNAUTHORIZED", message, detail, [("WWW-Authenticate", value)])

    def _base(self, request: Request) -> str:
        """Our URL as the client knows it."""
        if self._url:
            return self._url
        host = request.header("Host")
        if not host or not all(c.isalnum() and c.isascii() or c in ".-:[]" for c in host):
            raise Refusal(400, "UNAUTHORIZED", "there is no usable Host header")
        return f"{'https' if hasattr(request.sock, 'getpeercert') else 'http'}://{host}"

    def _service(self, request: Request) -> str:
        if self._issuer:
            return self._issuer.service
        return self._base(request).partition("://")[2].partition("/")[0]

    # -- the token service ----------------------------------------------------------------

    def token(self, request: Request) -> Response:
        """GET /token?service=&scope=, or the same as a form by POST with grant_type=password."""
        if not self._tokens or self._issuer:
            raise Refusal(404, "UNSUPPORTED", "there are no tokens here")
        if request.method == "POST":
            user, scopes = self._form(request)
        elif request.method == "GET":
            scopes = [value for key, value in request.queries() if key == "scope"]
            user = self.login(request).user
        else:
            raise Refusal(405, "UNSUPPORTED", "this is not for tokens", headers=[("Allow", "GET, POST")])
        if not user and not self._rules().anonymous():
            raise Refusal(401, "UNAUTHORIZED", "log in to get a token", headers=[_BASIC])
        now = int(time.time())
        claims = {
            "iss": self._service(request), "sub": user, "aud": self._service(request), "iat": now, "exp": now + LIFE,
            "access": self.granted(user, scopes),
        }  # fmt: skip
        token = sealed(claims, self._key)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        body = {"token": token, "access_token": token, "expires_in": LIFE, "issued_at": stamp}
        return Response(200, [("Content-Type", JSON), ("Cache-Control", "no-store"), VERSION], document.dumps(body))

    def login(self, request: Request) -> Caller:
        """Who sent a request for tokens, or with a browser."""
        try:
            return self.caller(request)
        except Refusal as refusal:  # here a name and a password are asked for, not a token
            refusal.headers = [_BASIC]
            raise

    def _form(self, request: Request) -> tuple[str, list[str]]:
        """(user, scopes) of an OAuth2 request (RFC 6749, 4.3)."""
        from urllib.parse import parse_qs

        data = request.read_all(MAX_FORM)
        form = parse_qs((data or b"").decode("utf-8", "replace"))
        user, password = form.get("username", [""])[0], form.get("password", [""])[0]
        if form.get("grant_type") != ["password"]:
            raise Refusal(400, "UNSUPPORTED", "the only grant here is a password")
        if self._users is None or not self._users.check(user, password):
            raise Refusal(401, "UNAUTHORIZED", "the user's name or password is not accepted", headers=[_BASIC])
        return user, form.get("scope", [])

    def granted(self, user: str, scopes: list[str]) -> list[dict[str, Any]]:
        """What of the scopes that are asked for this user gets; of what is not allowed, nothing."""
        wanted: dict[tuple[str, str], set[str]] = {}
        for scope in [word for value in scopes for word in value.split()][:100]:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")  # a name may have a host's port in it
            wanted.setdefault((kind, name), set()).update(actions.split(","))
        rules, found = self._rules(), []
        for (kind, name), them in wanted.items():
            if kind.partition("(")[0] == "repository":
                asked = ACTIONS if "*" in them else them & ACTIONS
                given = [action for action in sorted(asked) if rules.allow(user, name, action)]
                found.append({"type": "repository", "name": name, "actions": given})
            elif (kind, name) == CATALOG and "*" in them:
                found.append({"type": kind, "name": name, "actions": ["*"]})
        return found


_BASIC = ("WWW-Authenticate", 'Basic realm="oci-registry"')


def _basic(said: str) -> tuple[str, str]:
    """(user, password) of RFC 7617; ("", "") of what is none."""
    from binascii import a2b_base64

    try:
        user, _, password = a2b_base64(said.strip()).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def _certified(request: Request) -> str:
    """The common name in the certificate that TLS has checked; "" without one."""
    ask = getattr(request.sock, "getpeercert", None)
    found = ask() if ask else None
    names = [value for part in (found or {}).get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 and names[0] not in ("*", "+") else ""


# -- tokens: HEADER.CLAIMS.SIGNATURE, each base64 without padding (RFC 7515) -----------------


def sealed(claims: dict[str, Any], key: bytes) -> str:
    head = f"{_encode(document.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{_encode(document.dumps(claims))}"
    return f"{head}.{_encode(_sign(head, key))}"


def opened(token: str, key: bytes) -> dict[str, Any] | None:
    """A token's claims; None if we did not seal it, or it has ended.

    What its header says does not count: an `alg` of the sender's choice has let many in.
    """
    import hmac
    from base64 import urlsafe_b64decode

    head, _, signature = token.rpartition(".")
    if not token.isascii() or not hmac.compare_digest(_encode(_sign(head, key)), signature):
        return None
    body = head.partition(".")[2]
    try:
        claims: dict[str, Any] = document.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (Error, ValueError):
        return None
    return claims if claims["exp"] > time.time() else None


def _sign(text: str, key: bytes) -> bytes:
    import hmac

    return hmac.digest(key, text.encode("ascii"), "sha256")


def _encode(data: bytes) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).decode().rstrip("=")
