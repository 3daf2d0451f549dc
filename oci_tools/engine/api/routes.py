"""Requests to their functions: versions, paths, queries, bodies; every error in dockerd's form."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from oci_tools import __version__, document
from oci_tools.engine.api import members
from oci_tools.engine.api.answers import Refused, answer, refusal
from oci_tools.errors import Error
from oci_tools.http import Gone, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from oci_tools.engine.api.server import Api
    from oci_tools.http import Request

    Handler = Callable[["Api", "Asked"], Response]
    Route = tuple[str, str, Handler]

NEWEST, OLDEST = (1, 45), (1, 24)
BODY_LIMIT = 4 << 20  # bytes of a JSON document
FALSE = ("", "0", "no", "false", "none", "False", "None", "FALSE")
HEADERS = [
    ("Api-Version", f"{NEWEST[0]}.{NEWEST[1]}"),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", f"oci-tools/{__version__} (linux)"),
]
_VERSION = re.compile(r"/v(\d{1,4})\.(\d{1,4})(/.*)")


class Asked:
    """A request, with what its path names: `asked["id"]`."""

    def __init__(self, request: Request, version: tuple[int, int], names: dict[str, str]) -> None:
        self.request = request
        self.version = version
        self.names = names
        self.queries = parse_qsl(request.query_string, keep_blank_values=True)
        self._query: dict[str, str] = dict(reversed(self.queries))

    def __getitem__(self, name: str) -> str:
        return self.names[name]

    def query(self, name: str, default: str = "") -> str:
        return self._query.get(name, default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.queries if key == name]

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._query.get(name)
        return default if value is None else value not in FALSE

    def number(self, name: str, default: int | None = None, status: int = 400) -> int:
        """A number of the query; `status`: of the refusal of what is none."""
        text = self.query(name)
        if not text and default is not None:
            return default
        try:
            return int(text)
        except ValueError:
            raise Refused(status, f'strconv.Atoi: parsing "{text}": invalid syntax') from None

    def json(self, shape: dict[str, Any], needed: bool = True, null: str = "") -> dict[str, Any]:
        """The document that is the body, of a shape of members.py; `null`: what to say where it is null."""
        said = self.request.header("content-type")
        kind = said.partition(";")[0].strip()
        data = self.request.read_all(BODY_LIMIT)
        if data is None:
            raise Refused(413, "request body too large")
        if not data.strip():
            if needed:
                raise Refused(400, "invalid JSON: got EOF while reading request body")
            return {}
        if kind != "application/json":
            raise Refused(400, f"unsupported Content-Type header ({said}): must be 'application/json'")
        text = data.decode("utf-8", "replace")
        try:
            found = document.loads(text)
        except Error as error:
            raise Refused(400, _said_by_go(text, str(error.cause))) from None
        if found is None and not needed:
            return {}
        if found is None and null:
            raise Refused(400, null)
        read: dict[str, Any] = members.read(found, shape)
        return read

    @property
    def upgrade(self) -> bool:
        """Whether the client wants the connection for itself."""
        return "upgrade" in self.request.header("connection").lower() and bool(self.request.header("upgrade"))


_AT = re.compile(r"(?:\(char |at character )(\d+)")
# What the two readers of JSON say of one text: ours, and Go's, on which dockerd's clients match.
_SAID = (("property name", "looking for beginning of object key string"), ("':' delimiter", "after object key"),
         ("',' delimiter", "after object key:value pair"), ("no value", "looking for beginning of value"),
         ("Expecting value", "looking for beginning of value"))  # fmt: skip


def _said_by_go(text: str, why: str) -> str:
    """What is wrong with a body that is no JSON."""
    if "extra data" in why:
        return "unexpected content after JSON"
    place = _AT.search(why)
    at = int(place[1]) if place else len(text)
    if not text[at:].strip():
        return "invalid JSON: unexpected EOF"
    for ours, theirs in _SAID:
        if ours in why:
            return f"invalid JSON: invalid character '{text[at:].lstrip()[0]}' {theirs}"
    return f"invalid JSON: {why}"


class Table:
    """All routes: literal paths at once, those with names by their pattern, in order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._literal: dict[tuple[str, str], Handler] = {}
        self._named: list[tuple[str, re.Pattern[str], Handler]] = []
        for method, path, handler in routes:
            if "{" in path:
                # {name} is one part of a path; {name*} may hold slashes, as images do.
                pattern = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", path)
                pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
                self._named.append((method, re.compile(pattern), handler))
            else:
                self._literal[method, path] = handler

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        methods = (method, "GET") if method == "HEAD" else (method,)
        for one in methods:
            literal = self._literal.get((one, unquote(path)))
            if literal:
                return literal, {}
            for known, pattern, handler in self._named:
                if known == one and (match := pattern.fullmatch(path)):
                    return handler, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def handle(self, api: Api, request: Request) -> Response:
        try:
            response = self._handle(api, request)
        except Gone:
            raise
        except Refused as error:
            response = refusal(error)
            response.close = error.status == 413  # nobody waits for the rest of it
        except Error as error:
            response = answer({"message": str(error)}, 503 if error.code == 75 else 500)
        if response.upgrade is None or response.status != 101:
            response.headers += HEADERS
        return response

    def _handle(self, api: Api, request: Request) -> Response:
        version, path = NEWEST, request.target.partition("?")[0]
        match = _VERSION.fullmatch(path)
        if match:
            version, path = (int(match[1]), int(match[2])), match[3]
            _check_version(version)
        if request.method == "OPTIONS":
            return Response(200)
        found = self.find(request.method, path)
        if found is None:
            raise Refused(404, "page not found")
        handler, names = found
        return handler(api, Asked(request, version, names))


def _check_version(version: tuple[int, int]) -> None:
    said, newest, oldest = (f"{each[0]}.{each[1]}" for each in (version, NEWEST, OLDEST))
    if version > NEWEST:
        raise Refused(400, f"client version {said} is too new. Maximum supported API version is {newest}")
    if version < OLDEST:
        raise Refused(
            400,
            f"client version {said} is too old. Minimum supported API version is {oldest}, "
            "please upgrade your client to a newer version",
        )
