"""One engine's API, as the verbs use it: documents, streams, connections of one's own."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.http.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator
    from typing import Any

    from oci_tools.cmd.ctl.hosts import Host
    from oci_tools.http.client import Answer

VERSION = "v1.45"


class Refused(Error):
    """The engine said no; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message[:1].lower() + message[1:] if not message[:2].isupper() else message)
        self.status = status


class Engine:
    """An engine; connections are opened as they are needed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._idle: Client | None = None

    @property
    def name(self) -> str:
        return self.host.address

    def _client(self) -> Client:
        client, self._idle = self._idle or Client(self.host.connect(), self.name), None
        return client

    def ask(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """A request whose answer is a success; its body is the caller's to read."""
        said = list(headers)
        data: bytes | Iterable[bytes] = b""
        if isinstance(body, (dict, list)):
            said.append(("Content-Type", "application/json"))
            data = document.dumps(body)
        elif body is not None:
            data = body
        answer = self._client().request(method, target(path, query), said, data)
        if answer.status >= 400:
            raise _refused(answer)
        return answer

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return self.document(self.ask("GET", path, query))

    def post(self, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        return self.document(self.ask("POST", path, query, body))

    def delete(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return self.document(self.ask("DELETE", path, query))

    def document(self, answer: Answer) -> Any:
        """The answer's JSON, None where it has none; its connection is used again."""
        data = answer.read()
        self._idle = answer._client
        return document.loads(data, self.name) if data.strip() else None

    def lines(self, answer: Answer) -> Iterator[Any]:
        """The documents of a stream."""
        rest = b""
        for piece in answer.pieces():
            *found, rest = (rest + piece).split(b"\n")
            for line in found:
                if line.strip():
                    yield document.loads(line, self.name)
        if rest.strip():
            yield document.loads(rest, self.name)

    def hijack(
        self, path: str, query: dict[str, Any] | None = None, body: Any = None
    ) -> tuple[socket.socket, bytes]:
        """A connection of our own: its socket, and what has come on it already."""
        answer = self.ask("POST", path, query, body, [("Connection", "Upgrade"), ("Upgrade", "tcp")])
        if answer.status != 101:
            raise Error("cannot talk to", self.name, f"it answered {answer.status} and not 101")
        return answer.hijack()


def target(path: str, query: dict[str, Any] | None = None) -> str:
    """The target of a request; lists of a query are repeated, None is left out, documents are JSON."""
    pairs = []
    for key, value in (query or {}).items():
        for each in value if isinstance(value, list) else [value]:
            if each is None or each is False or each == "":
                continue
            text = (
                "1"
                if each is True
                else document.dumps(each).decode()
                if isinstance(each, dict)
                else str(each)
            )
            pairs.append((key, text))
    return f"/{VERSION}{path}" + (f"?{urlencode(pairs)}" if pairs else "")


def part(name: str) -> str:
    """A name as a part of a path; images keep their slashes and colons."""
    return quote(name, safe="/:@")


def _refused(answer: Answer) -> Refused:
    data = answer.read()
    try:
        message = str(document.loads(data)["message"])
    except (Error, KeyError, TypeError):
        message = data.decode("utf-8", "replace").strip() or f"status {answer.status}"
    return Refused(message, answer.status)
