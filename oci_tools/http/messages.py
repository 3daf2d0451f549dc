"""What passes between a handler and the server: requests, answers, and bodies of both."""

from __future__ import annotations

import os
import socket
from urllib.parse import parse_qsl, unquote

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from oci_tools.http.connection import Connection

READ = 1 << 18  # bytes taken from a socket at once


class Gone(Error):
    """The client went away, or stopped talking, in the middle of a message."""


class File:
    """A body that is a range of an open file; the server closes it."""

    def __init__(self, fd: int, size: int, offset: int = 0) -> None:
        self.fd = fd
        self.size = size
        self.offset = offset

    def __len__(self) -> int:
        return self.size

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Response:
    """An answer.

    body     bytes; a File; an iterator of bytes, sent in chunks as they come
    upgrade  a function that takes a Hijacked connection once the head is written
    close    end the connection after this answer
    """

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | File | Iterator[bytes] = b"",
        upgrade: Callable[[Hijacked], None] | None = None,
        close: bool = False,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.upgrade = upgrade
        self.close = close


class Hijacked:
    """A connection that is no longer HTTP: the socket, and what was read from it too early."""

    def __init__(self, sock: socket.socket, early: bytes) -> None:
        self.sock = sock
        self.early = early

    def read(self, size: int = READ) -> bytes:
        """Up to `size` bytes as soon as there are some; empty when the client has half-closed."""
        if self.early:
            data, self.early = self.early[:size], self.early[size:]
            return data
        return self.sock.recv(size)

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)


class Request:
    """What a client asks: its head, and its body as a stream read once."""

    def __init__(self, connection: Connection, head: Any) -> None:
        self._connection = connection
        self._head = head
        self._ended = False
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("latin-1")
        path, _, query = self.target.partition("?")
        self.path = unquote(path)
        self.query_string = query
        self.version = head.http_version.decode("ascii")
        self.peer = connection.peer
        self.sock = connection.sock
        self.server = connection.server
        self.user = ""  # whom the handler took the client for; for the log

    def header(self, name: str, default: str = "") -> str:
        """The value of a header, several joined with commas (RFC 9110, 5.3)."""
        wanted = name.lower().encode("ascii")
        found = [value for key, value in self._head.headers if key == wanted]
        return b", ".join(found).decode("latin-1") if found else default

    def query(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.queries() if key == name), default)

    def queries(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query_string, keep_blank_values=True)

    @property
    def length(self) -> int | None:
        """The bytes of the body, where the client says so beforehand."""
        value = self.header("content-length")
        return int(value) if value else None  # h11 has checked that it is a number

    def read(self) -> bytes:
        """The next piece of the body, as it comes; empty at its end."""
        data = b"" if self._ended else self._connection.body()
        self._ended = not data
        return data

    def read_all(self, limit: int) -> bytes | None:
        """The whole body; None if it has more than `limit` bytes."""
        if (self.length or 0) > limit:
            return None
        parts, size = [], 0
        while data := self.read():
            size += len(data)
            if size > limit:
                return None
            parts.append(data)
        return b"".join(parts)
