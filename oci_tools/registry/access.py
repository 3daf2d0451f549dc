"""The door of a registry that we serve: who asks, by which right, and what a refusal says.

    Basic       RFC 7617, against the users' file
    Bearer      a token of our own service at /token (distribution's "token" documents):
                JWT (RFC 7519), HS256 with a key of our own
                {"sub": USER, "aud": SERVICE, "exp": SECONDS, "access": [{"type", "name", "actions"}]}
    TLS         a client's certificate that our CA signed: the user is its common name
    a cookie    of somebody who has logged in with a browser (login.py), for the pages only

Rules (users.py) say what a user may do.  A token grants no more than the rules do when it is
used, so that a right which is taken away is gone at once; so is the token of a key that is taken back.
"""

from __future__ import annotations

import os
import time

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.http import Response
from oci_tools.registry.refusal import JSON, VERSION, Refusal
from oci_tools.registry.logins import Caller, Logins
from oci_tools.registry.users import ACTIONS, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.http import Request
    from oci_tools.registry.issuer import Issuer
    from oci_tools.registry.login import Login

LIFE = 300  # seconds that a token can be used
MAX_FORM = 1 << 16  # bytes of a POST to /token
CATALOG = ("registry", "catalog")
ANONYMOUS = "anonymous"  # the user of a token that names none


class Access:
    """Decides about every request (see the module)."""

    def __init__(
        self,
        rules: Callable[[], Rules],
        logins: Logins,
        *,
        tokens: bool = False,
        key: bytes = b"",
        url: str = "",
        issuer: Issuer | None = None,
    ) -> None:
        """tokens: clients are sent to /token; key: signs them, several servers may share one;
        url: how clients reach us, where that is not what they say in Host; issuer: where they are sent instead."""
        self._rules = rules
        self._logins = logins
        self._tokens = tokens
        self._key = key or os.urandom(32)
        self.session_key = _sign("session", self._key)
        self._url = url.rstrip("/")
        self._issuer = issuer
        self.people: Login | None = None  # the pages on which they log in, where there are any

    # -- who ------------------------------------------------------------------------------

    def caller(self, request: Request) -> Caller:
        """Who sent a request; a Refusal if they say who they are and it is not true."""
        scheme, _, said = request.header("Authorization").partition(" ")
        if scheme.lower() == "bearer" and (self._tokens or self._logins.bearers):
            return self._bearer(request, said.strip())
        if scheme.lower() == "basic":
            user, password = _basic(said)
            if user or password:  # some clients send empty ones when they have none
                found = self._logins.check(user, password)
                if found is None:
                    raise self._unknown(request, "the user's name or password is not accepted")
                return found
        return Caller(_certified(request))

    def _bearer(self, request: Request, token: str) -> Caller:
        found = self._logins.bearer(token)
        if found:
            return found
        if self._issuer:
            from oci_tools.registry.issuer import granted

            said = self._issuer.claims(token)
            if said is None:
                raise self._unknown(request, "the token is not valid", 'error="invalid_token"')
            return Caller(said.get("sub") or ANONYMOUS, granted(said))
        claims = opened(token, self._key) if self._tokens else None
        if claims is None or claims.get("aud") != self._service(request) or "by" not in claims:
            raise self._unknown(request, "the token is not valid any more", 'error="invalid_token"')
        user, by = claims["sub"], claims["by"]
        if by or not user or user == _certified(request):  # whom a certificate named still has it
            found = self._logins.again(user, by, claims["groups"])
        if found is None:
            raise self._unknown(request, "the token's user is no more", 'error="invalid_token"')
        found.granted = {(e["type"], e["name"]): frozenset(e["actions"]) for e in claims["access"]}
        return found

    # -- what -----------------------------------------------------------------------------

    def may(self, caller: Caller, repository: str, action: str) -> bool:
        """Whether the caller may do this, by the rules and by the token that came."""
        if not self._allowed(caller, repository, action):
            return False
        return caller.granted is None or action in caller.granted.get(("repository", repository), ())

    def sees(self, caller: Caller, repository: str) -> bool:
        """Whether a repository is in the caller's lists."""
        return self._allowed(caller, repository, "pull")

    def _allowed(self, caller: Caller, repository: str, action: str) -> bool:
        """Whether the rules allow it, and the key that came, if one did."""
        limits = caller.limits
        return self._rules().allow(caller.user, repository, action, caller.groups) and (
            limits is None or limits.allow("", repository, action)
        )

    def check(self, request: Request, caller: Caller, repository: str, action: str) -> None:
        """Refuse what the caller may not do; a repository that is not there is refused alike."""
        if self.may(caller, repository, action):
            return
        scope = f"repository:{repository}:{'pull,push' if action == 'push' else action}"
        detail = [{"Type": "repository", "Name": repository, "Action": action}]
        if not caller.user or self._allowed(caller, repository, action):
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
        """A browser knows no tokens: it is asked for name and password, or sent to who knows people."""
        if self._logins.provider and self._logins.provider.client:
            return Response(303, [("Location", "/login"), ("Cache-Control", "no-store")])
        return Response(401, [ASK_PASSWORD, ("Content-Type", "text/plain")], b"log in to see this\n")

    def _unknown(
        self, request: Request, message: str, more: str = "", detail: object = None, caller: Caller | None = None
    ) -> Refusal:
        """401 and how to do better."""
        if self._tokens:
            place = self._issuer.realm if self._issuer else f"{self.base(request)}/token"
            words = [f'Bearer realm="{place}"', f'service="{self._service(request)}"', more]
            if caller and caller.granted is not None:
                words.append('error="insufficient_scope"')
            value = ",".join(word for word in words if word)
        else:
            value = 'Basic realm="oci-registry"'
        return Refusal(401, "UNAUTHORIZED", message, detail, [("WWW-Authenticate", value)])

    def base(self, request: Request) -> str:
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
        return self.base(request).partition("://")[2].partition("/")[0]

    # -- the token service ----------------------------------------------------------------

    def token(self, request: Request) -> Response:
        """GET /token?service=&scope=, or the same as a form by POST with grant_type=password."""
        if not self._tokens or self._issuer:
            raise Refusal(404, "UNSUPPORTED", "there are no tokens here")
        if request.method == "POST":
            caller, scopes = self._form(request)
        elif request.method == "GET":
            scopes = [value for key, value in request.queries() if key == "scope"]
            caller = self.login(request)
        else:
            raise Refusal(405, "UNSUPPORTED", "this is not for tokens", headers=[("Allow", "GET, POST")])
        if not caller.user and not self._rules().anonymous():
            raise Refusal(401, "UNAUTHORIZED", "log in to get a token", headers=[ASK_PASSWORD])
        now = int(time.time())
        claims = {
            "iss": self._service(request), "sub": caller.user, "aud": self._service(request), "iat": now,
            "exp": now + LIFE, "by": caller.by, "groups": sorted(caller.groups), "access": self.granted(caller, scopes),
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
            refusal.headers = [ASK_PASSWORD]
            raise

    def _form(self, request: Request) -> tuple[Caller, list[str]]:
        """(who, scopes) of an OAuth2 request (RFC 6749, 4.3)."""
        from urllib.parse import parse_qs

        data = request.read_all(MAX_FORM)
        form = parse_qs((data or b"").decode("utf-8", "replace"))
        user, password = form.get("username", [""])[0], form.get("password", [""])[0]
        if form.get("grant_type") != ["password"]:
            raise Refusal(400, "UNSUPPORTED", "the only grant here is a password")
        caller = self._logins.check(user, password)
        if caller is None:
            raise Refusal(401, "UNAUTHORIZED", "the user's name or password is not accepted", headers=[ASK_PASSWORD])
        return caller, form.get("scope", [])

    def granted(self, caller: Caller, scopes: list[str]) -> list[dict[str, Any]]:
        """What of the scopes that are asked for somebody gets; of what is not allowed, nothing."""
        wanted: dict[tuple[str, str], set[str]] = {}
        for scope in [word for value in scopes for word in value.split()][:100]:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")  # a name may have a host's port in it
            wanted.setdefault((kind, name), set()).update(actions.split(","))
        found = []
        for (kind, name), them in wanted.items():
            if kind.partition("(")[0] == "repository":
                asked = ACTIONS if "*" in them else them & ACTIONS
                given = [action for action in sorted(asked) if self._allowed(caller, name, action)]
                found.append({"type": "repository", "name": name, "actions": given})
            elif (kind, name) == CATALOG and "*" in them:
                found.append({"type": kind, "name": name, "actions": ["*"]})
        return found


ASK_PASSWORD = ("WWW-Authenticate", 'Basic realm="oci-registry"')


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
    head = f"{encode(document.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{encode(document.dumps(claims))}"
    return f"{head}.{encode(_sign(head, key))}"


def opened(token: str, key: bytes) -> dict[str, Any] | None:
    """A token's claims; None if we did not seal it, or it has ended.

    What its header says does not count: an `alg` of the sender's choice has let many in.
    """
    import hmac
    from base64 import urlsafe_b64decode

    head, _, signature = token.rpartition(".")
    if not token.isascii() or not hmac.compare_digest(encode(_sign(head, key)), signature):
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


def encode(data: bytes) -> str:
    """Bytes as in a JWT."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).decode().rstrip("=")
