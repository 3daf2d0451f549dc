"""Getting in: WWW-Authenticate (RFC 9110, 11) and Docker's token protocol, which OCI registries share.

    registry   401, WWW-Authenticate: Bearer realm="https://auth/token",service="reg",scope="repository:a:pull"
    we         GET https://auth/token?service=reg&scope=repository:a:pull     (Basic, if we are somebody)
    realm      {"token": "...", "expires_in": 300}
    we         the request again, Authorization: Bearer ...

Tokens are kept for the set of scopes that they were asked for, until shortly before they end.
"""

from __future__ import annotations

import threading
import time

from oci_tools import document, fetch
from oci_tools.errors import Busy, Error
from oci_tools.registry.credentials import Credential, Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Challenge = tuple[str, dict[str, str]]

LIFE = 60.0  # seconds that a token lives if nothing is said
MAX_TOKEN = 1 << 20  # bytes of an answer
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TOKEN68 = _TOKEN | frozenset("/=")


class Auth:
    """What to say to one registry; shared by threads."""

    def __init__(self, client: fetch.Client, credentials: Credentials, host: str) -> None:
        self._client = client
        self._credentials = credentials
        self._host = host
        self._challenge: Challenge | None = None  # how this registry wants to be asked
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}
        self._renewed: dict[str, str] = {}  # identity tokens, each by the first
        self._lock = threading.Lock()

    def header(self, repository: str, scopes: frozenset[str]) -> str:
        """The Authorization to send; "" while the registry has not asked for any."""
        with self._lock:
            if self._challenge is None:
                return ""
            return self._answer(self._challenge, repository, scopes)

    def challenged(self, value: str, repository: str, scopes: frozenset[str], refused: str) -> str:
        """The Authorization to try after a 401 with this WWW-Authenticate; "" if there is none left.

        refused is the one that was sent.  A registry may say that other scopes are needed.
        """
        challenges = parse(value)
        with self._lock:
            for scheme in ("bearer", "basic"):
                for challenge in challenges:
                    if challenge[0] != scheme:
                        continue
                    self._challenge = challenge
                    if scheme == "bearer":
                        scopes = merged(scopes, challenge[1].get("scope", "").split())
                        if self._tokens.get(scopes, ("", 0.0))[0] == refused.partition(" ")[2]:
                            self._tokens.pop(scopes, None)  # it was withdrawn, or never enough
                    said = self._answer(challenge, repository, scopes)
                    if said and said != refused:
                        return said
        return ""

    def noted(self, value: str) -> None:
        """Keep the challenge of an answer to a question that needed no more."""
        found = {scheme: (scheme, params) for scheme, params in reversed(parse(value))}
        self._challenge = found.get("bearer") or found.get("basic") or self._challenge

    def known(self, repository: str) -> bool:
        """Whether we are somebody to this registry."""
        return self._credentials.find(self._host, repository) is not None

    def _answer(self, challenge: Challenge, repository: str, scopes: frozenset[str]) -> str:
        scheme, params = challenge
        credential = self._credentials.find(self._host, repository)
        if scheme == "basic":
            return credential.basic() if credential and credential.user else ""
        if credential and credential.bearer:
            return f"Bearer {credential.bearer}"
        token, until = self._tokens.get(scopes, ("", 0.0))
        if time.monotonic() >= until:
            token, life = self._token(params, scopes, credential)
            self._tokens[scopes] = token, time.monotonic() + life
        return f"Bearer {token}"

    def _token(
        self, params: dict[str, str], scopes: Iterable[str], credential: Credential | None
    ) -> tuple[str, float]:
        """Ask the realm for a token: (token, the seconds for which we use it)."""
        from urllib.parse import urlencode

        realm = params.get("realm", "")
        self._check_realm(realm)
        asked = [("service", params["service"])] if params.get("service") else []
        asked += [("scope", scope) for scope in sorted(scopes)]
        headers: dict[str, str] = {}
        if credential and credential.identity:
            asked = [*asked[:1], ("scope", " ".join(sorted(scopes)))] if params.get("service") else asked
            asked += [
                ("grant_type", "refresh_token"),
                ("refresh_token", self._renewed.get(credential.identity, credential.identity)),
                ("client_id", "oci-tools"),
            ]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._client.request("POST", realm, headers, urlencode(asked).encode())
            if answer.status in (404, 405) and credential.password:  # it knows no such tokens
                answer.done()
                return self._token(params, scopes, Credential(credential.user, credential.password))
        else:
            if credential and credential.user:
                headers["Authorization"] = credential.basic()
                asked.append(("account", credential.user))
            mark = "&" if "?" in realm else "?"
            answer = self._client.request("GET", f"{realm}{mark}{urlencode(asked)}", headers)
        with answer:
            return self._read(answer, realm, credential.identity if credential else "")

    def _check_realm(self, realm: str) -> None:
        """A registry chooses who is told our password: not somebody who listens on the way."""
        open_way = not self._client.verify or fetch.is_loopback(fetch.host_of(realm))
        if not realm.startswith("https://") and not (realm.startswith("http://") and open_way):
            raise Error("cannot log in to", self._host, f"its token service '{fetch.shown(realm)}' is not https")

    def _read(self, answer: fetch.Answer, realm: str, identity: str) -> tuple[str, float]:
        if answer.status in (401, 403):
            raise Error("cannot log in to", self._host, "the user's name or password is not accepted")
        if answer.status != 200:
            kind = Busy if answer.status in fetch.PASSING else Error
            raise kind("cannot get token for", self._host, f"{fetch.host_of(realm)} answers {answer.status}")
        found = document.loads(answer.read_all(MAX_TOKEN), f"token of {fetch.host_of(realm)}")
        token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Error("cannot get token for", self._host, f"{fetch.host_of(realm)} sends none")
        renewed = found.get("refresh_token")
        if identity and isinstance(renewed, str) and renewed:
            self._renewed[identity] = renewed  # the one before may be good no longer
        life = found.get("expires_in")
        life = float(life) if isinstance(life, (int, float)) and life > 0 else LIFE
        return token, max(life * 0.8, 1.0)


def merged(scopes: Iterable[str], more: Iterable[str]) -> frozenset[str]:
    """All scopes, those of one resource as one: TYPE:NAME:ACTION,ACTION."""
    found: dict[str, set[str]] = {}
    for scope in (*scopes, *more):
        resource, colon, actions = scope.rpartition(":")
        kept = found.setdefault(resource + colon if colon else scope, set())
        kept.update(actions.split(",") if colon else ())
    return frozenset(resource + ",".join(sorted(actions)) for resource, actions in found.items())


def parse(value: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header: (scheme in lower case, parameters) of each.

    Several may stand in one header, their parameters behind each, all separated by
    commas: whether a word is a scheme or a parameter's name shows in what follows it.
    """
    found: list[Challenge] = []
    at = 0
    while at < len(value):
        at = _skip(value, at, " \t,")
        word, at = _word(value, at, _TOKEN)
        if not word:
            break
        at = _skip(value, at, " \t")
        if value[at : at + 1] == "=" and found:
            at = _skip(value, at + 1, " \t")
            text, at = _quoted(value, at) if value[at : at + 1] == '"' else _word(value, at, _TOKEN68)
            found[-1][1].setdefault(word.lower(), text)
        else:
            found.append((word.lower(), {}))
            end = _word(value, at, _TOKEN68)[1]  # `Negotiate dG9rZW4=`: skipped, we know no such scheme
            if value[at:end].rstrip("=") != value[at:end] and value[end : end + 1] in ("", ",", " "):
                at = end
    return found


def _skip(text: str, at: int, what: str) -> int:
    while at < len(text) and text[at] in what:
        at += 1
    return at


def _word(text: str, at: int, alphabet: frozenset[str]) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] in alphabet:
        end += 1
    return text[at:end], end


def _quoted(text: str, at: int) -> tuple[str, int]:
    """A quoted string that begins at `at`, and where it ends."""
    parts = []
    at += 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        parts.append(text[at : at + 1])
        at += 1
    return "".join(parts), at + 1
