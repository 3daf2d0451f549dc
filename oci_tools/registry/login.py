"""Logging in with a browser, and a person's own keys.

    /login            to the OpenID provider, or for name and password; a choice where there are both
    /login/callback   back from the provider, with a code (oidc.py)
    /login/out        POST: the browser is nobody again
    /keys             one's keys (apikeys.py); POST makes one, which is shown once, or takes one back

What a browser has is two cookies, both sealed by us: of a login that has begun, for ten minutes, and of who has logged
in, for an hour.  They count on these pages and on those of page.py, never for the API.  Who came with a key makes none.
"""

from __future__ import annotations

import os
import time

from oci_tools.errors import Busy, Error
from oci_tools.http import Request, Response
from oci_tools.registry import apikeys
from oci_tools.registry.access import ASK_PASSWORD, Access, encode, opened, sealed
from oci_tools.registry.logins import KEY, PROVIDER, Caller, Logins
from oci_tools.registry.page import Html, answer, html, link, table
from oci_tools.registry.refusal import Refusal, only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.registry.oidc import Provider

BEGUN, SESSION = "oci_login", "oci_session"  # the cookies
BEGUN_LIFE, SESSION_LIFE = 600, 3600  # seconds
MAX_FORM = 1 << 14  # bytes
MAX_KEYS = 100  # of a user, by these pages
PATHS = ("/login", "/login/callback", "/login/out", "/keys")


class Login:
    """The pages."""

    def __init__(self, access: Access, logins: Logins) -> None:
        self._access = access
        self._logins = logins

    def __call__(self, request: Request) -> Response:
        if request.path == "/login/callback":
            only(request, "GET")
            return self._back(request)
        if request.path == "/login/out":
            only(request, "POST")
            return _to("/login", _cookie(request, SESSION, "", 0))
        if request.path == "/keys":
            only(request, "GET", "HEAD", "POST")
            return self._keys(request)
        only(request, "GET", "HEAD")
        return self._begin(request)

    # -- who ------------------------------------------------------------------------------

    def person(self, request: Request) -> Caller:
        """Who uses this browser."""
        if request.header("Authorization"):
            return self._access.login(request)
        found = opened(_cookies(request).get(SESSION, ""), self._access.session_key)
        if found:
            known = self._logins.again(found["sub"], found["by"], found["groups"])
            if known:
                return known
        return self._access.login(request)

    def link(self, caller: Caller) -> Html:
        """What leads from a page to these."""
        if caller.user:
            keys = Html(', <a href="/keys">keys</a>') if self._logins.keys else Html("")
            return Html(f"<p>{html(caller.user)}{keys}</p>")
        some = self._provider() or self._logins.passwords
        return Html('<p><a href="/login">log in</a></p>' if some else "")

    def _provider(self) -> Provider | None:
        found = self._logins.provider
        return found if found and found.client else None

    def _begin(self, request: Request) -> Response:
        provider = self._provider()
        if self.person(request).user:
            return _to("/keys" if self._logins.keys else "/")
        if provider and ("provider" in request.query_string or not self._logins.passwords):
            state, nonce, verifier = (encode(os.urandom(32)) for _ in range(3))
            where = provider.where(self._callback(request), state, nonce, verifier)
            begun = {"state": state, "nonce": nonce, "verifier": verifier, "exp": int(time.time()) + BEGUN_LIFE}
            return _to(where, _cookie(request, BEGUN, sealed(begun, self._access.session_key), BEGUN_LIFE))
        if provider and "password" not in request.query_string:
            there = Html(f'<p><a href="/login?provider">with {html(provider.issuer)}</a></p>')
            return answer("log in", there, Html('<p><a href="/login?password">with a password</a></p>'))
        if self._logins.passwords:
            return Response(401, [ASK_PASSWORD, ("Content-Type", "text/plain")], b"log in to see this\n")
        raise Refusal(404, "UNSUPPORTED", "nobody can log in here with a browser")

    def _callback(self, request: Request) -> str:
        return f"{self._access.base(request)}/login/callback"

    def _back(self, request: Request) -> Response:
        """Somebody comes back from the provider: only where they began."""
        provider, begun = self._provider(), opened(_cookies(request).get(BEGUN, ""), self._access.session_key)
        if provider is None:
            raise Refusal(404, "UNSUPPORTED", "nobody can log in here with a browser")
        if not begun or "verifier" not in begun or begun["state"] != request.query("state"):
            return _failed("This login was not begun here, or too long ago.")
        if not request.query("code"):
            said = request.query("error") or "nothing", request.query("error_description")
            return _failed(f"{provider.issuer} says: {' '.join(said)}")
        try:
            found = provider.exchange(request.query("code"), self._callback(request), begun["nonce"], begun["verifier"])
        except Busy:
            raise
        except Error:  # the code is another's, or was used
            found = None
        if found is None:
            return _failed(f"What {provider.issuer} says of you cannot be used.")
        session = {"sub": found[0], "groups": found[1], "by": PROVIDER, "exp": int(time.time()) + SESSION_LIFE}
        gone = _cookie(request, BEGUN, "", 0)
        value = _cookie(request, SESSION, sealed(session, self._access.session_key), SESSION_LIFE)
        return _to("/keys" if self._logins.keys else "/", gone, value)

    # -- keys -----------------------------------------------------------------------------

    def _keys(self, request: Request) -> Response:
        keys, caller = self._logins.keys, self.person(request)
        if keys is None:
            raise Refusal(404, "UNSUPPORTED", "there are no keys here")
        if not caller.user:
            return _to("/login")
        if caller.by.startswith(KEY) or caller.granted is not None:
            raise Refusal(403, "DENIED", "a key or a token makes no keys")
        made = Html("")
        if request.method == "POST":
            form = _form(request)
            if form.get("mark") != self._mark(caller):
                return _failed("This form is not from here, or too old.")
            try:
                made = self._changed(keys, caller, form)
            except Error as error:
                return answer("your keys", Html(f"<p>{html(error)}</p>"), Html(f"<p>{link('back')}</p>"), status=400)
        return answer("your keys", made, self._listed(keys, caller), _new(self._mark(caller)))

    def _changed(self, keys: apikeys.Keys, caller: Caller, form: dict[str, str]) -> Html:
        """What a form asks for, done."""
        if form.get("remove"):
            apikeys.remove(keys.path, lambda key: key.id == form["remove"] and key.user == caller.user)
            return Html("")
        days = form.get("days", "")
        if not days.isascii() or not days.isdigit() or len(days) > 5:
            raise Error("cannot make a key that is good for", days, "it is no number of days")
        if len(keys.of(caller.user)) >= MAX_KEYS:
            raise Error("cannot make a key", None, f"you have {MAX_KEYS}")
        said = apikeys.add(
            keys.path, caller.user, days=int(days), scopes=form.get("scopes", "").split(), label=form.get("label", ""),
            groups=caller.groups,
        )  # fmt: skip
        who = f"<code>{html(caller.user)}</code>"
        return Html(f"<p>A key, the password of {who}; it is not shown again:</p><p><code>{html(said)}</code></p>")

    def _listed(self, keys: apikeys.Keys, caller: Caller) -> Html:
        rows = []
        for key in keys.of(caller.user):
            found = key.found
            remove = Html(f'<form method="post" action="/keys">{_hidden(self._mark(caller))}'
                          f'<button name="remove" value="{html(key.id)}">take back</button></form>')  # fmt: skip
            until = (found.get("expires") or "never") if key.live() else "it has ended"
            scopes = " ".join(found.get("scopes") or ())
            rows.append((key.id, found.get("label"), found.get("created"), until, scopes, remove))
        who = f"<p>You are {html(caller.user)}.</p>"
        out = '<form method="post" action="/login/out"><button>log out</button></form>'
        return Html(who + out + table("key,label,made,ends,scopes,", rows))

    def _mark(self, caller: Caller) -> str:
        """What our forms have, and those of others cannot."""
        import hmac

        return encode(hmac.digest(self._access.session_key, f"form of {caller.user}".encode(), "sha256"))


def _hidden(mark: str) -> str:
    return f'<input type="hidden" name="mark" value="{html(mark)}">'


def _new(mark: str) -> Html:
    return Html(
        f'<h2>a new one</h2><form method="post" action="/keys">{_hidden(mark)}<p>'
        'label <input name="label" maxlength="100"> days <input name="days" value="90" size="5"> '
        'scopes <input name="scopes" size="40" placeholder="team/**:pull,push"> <button>make</button></p></form>'
    )


def _form(request: Request) -> dict[str, str]:
    from urllib.parse import parse_qsl

    data = request.read_all(MAX_FORM)
    if data is None:
        raise Refusal(413, "SIZE_INVALID", "the form is too large")
    return dict(parse_qsl(data.decode("utf-8", "replace")))


def _failed(why: str) -> Response:
    again = Html('<p><a href="/login">again</a></p>')
    return answer("you are not logged in", Html(f"<p>{html(why)}</p>"), again, status=403)


def _to(where: str, *cookies: tuple[str, str]) -> Response:
    return Response(303, [("Location", where), ("Cache-Control", "no-store"), *cookies])


def _cookie(request: Request, name: str, value: str, life: int) -> tuple[str, str]:
    secure = "; Secure" if hasattr(request.sock, "getpeercert") else ""
    return "Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}"


def _cookies(request: Request) -> dict[str, str]:
    parts = (part.strip().partition("=") for part in request.header("Cookie").replace(",", ";").split(";"))
    return {name: value for name, _, value in parts}
