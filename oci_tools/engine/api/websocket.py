"""The server's side of WebSocket (RFC 6455), for clients that cannot take a connection over otherwise: browsers.

     0               1               2 ...
    |F|. . .|opcode |M|   length    |  16 or 64 bits of length if it is 126 or 127 | 4 bytes of mask if M | payload |

Payload goes on as it comes, however long its frame says that it will be: nothing is kept but the head of a frame, or a
whole control frame of at most 125 bytes.  There are no extensions and no subprotocols; what breaks a rule of chapter 5
ends the connection with the code of chapter 7 for it.
"""

from __future__ import annotations

import base64
import codecs
import hashlib

from oci_tools.engine.api.answers import Refused
from oci_tools.http import Hijacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.engine.api.routes import Asked

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ = 1 << 16
_PATIENCE = 60.0  # seconds for a client that takes nothing
_CODES = {*range(1000, 1004), *range(1007, 1012), *range(3000, 5000)}  # that an endpoint may send


class Broken(Exception):
    """A rule of the protocol was broken; with the code that says which."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def accepted(asked: Asked) -> list[tuple[str, str]]:
    """The headers with which a client's handshake is answered (4.2)."""
    request = asked.request
    if not asked.upgrade or request.header("upgrade").lower() != "websocket":
        raise Refused(400, "not websocket protocol")
    if request.header("sec-websocket-version") != "13":
        raise Refused(400, "missing or bad WebSocket Version: 13 is spoken here")
    key = request.header("sec-websocket-key")
    try:
        whole = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        whole = False
    if not whole:
        raise Refused(400, "mismatch challenge/response: bad Sec-WebSocket-Key")
    origin = request.header("origin").partition("://")[2]
    if origin and origin != request.header("host"):
        raise Refused(403, f"the page of another host ({origin}) may not speak for its reader")  # 10.2
    answer = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest())
    return [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", answer.decode("ascii"))]


class WebSocket(Hijacked):
    """A connection whose bytes are the payload of frames; those that we send are of one `kind`."""

    def __init__(self, sock: Hijacked, kind: int) -> None:
        super().__init__(sock.sock, sock.early)
        self.sock.settimeout(_PATIENCE)
        self._kind = kind
        self._head = b""  # of a frame, as much as there is of it
        self._inside = self._final = self._ended = False
        self._opcode = self._left = self._at = 0
        self._mask = b""
        self._control = b""  # the payload of a control frame
        self._message = 0  # the opcode that a message began with, if it goes on
        self._text = codecs.getincrementaldecoder("utf-8")()

    def read(self, size: int = _READ) -> bytes:
        """Payload, as soon as there is some; BlockingIOError if there was none in what came, ConnectionError once the
        client has closed or broken a rule."""
        data = super().read(size)
        if not data:
            raise ConnectionAbortedError
        try:
            found = self._payload(data)
        except Broken as error:
            self._end(error.code)
        except UnicodeDecodeError:
            self._end(1007)
        if self._ended:
            raise ConnectionAbortedError
        if not found:
            raise BlockingIOError
        return found

    def write(self, data: bytes) -> None:
        self._send(self._kind, data)

    def half_close(self) -> None:
        self._end(1000)
        super().half_close()

    # -- what comes ----------------------------------------------------------------------------------

    def _payload(self, data: bytes) -> bytes:
        data, self._head = self._head + data, b""
        found = []
        while data and not self._ended:
            if not self._inside:
                size = _head_size(data)
                if len(data) < size:
                    self._head = data
                    break
                self._begin(data[:size])
                data = data[size:]
            piece, data = data[: self._left], data[self._left :]
            found.append(self._take(piece))
            if not self._left:
                self._finish()
        return b"".join(found)

    def _begin(self, head: bytes) -> None:
        """The head of a frame, whole."""
        opcode, final, length = head[0] & 15, bool(head[0] & 0x80), head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(head[2:-4])
        if head[0] & 0x70 or not head[1] & 0x80 or length >> 63:
            raise Broken(1002)  # an extension's bits, no mask, a negative length
        if opcode in (CLOSE, PING, PONG):
            if not final or length > 125:
                raise Broken(1002)
            self._control = b""
        elif opcode in (TEXT, BINARY) and not self._message:
            self._message = opcode
        elif opcode != CONTINUATION or not self._message:
            raise Broken(1002)
        self._opcode, self._final, self._left, self._at, self._mask = opcode, final, length, 0, head[-4:]
        self._inside = True

    def _take(self, piece: bytes) -> bytes:
        """A piece of a frame's payload: what of it is a message's."""
        start, size = self._at & 3, len(piece)
        mask = (self._mask * (size // 4 + 2))[start : start + size]
        plain = (int.from_bytes(piece) ^ int.from_bytes(mask)).to_bytes(size)
        self._at += size
        self._left -= size
        if self._opcode >= CLOSE:
            self._control += plain
            return b""
        if self._message == TEXT:
            self._text.decode(plain)
        return plain

    def _finish(self) -> None:
        """A frame has come to its end."""
        self._inside = False
        if self._opcode == PING:
            self._send(PONG, self._control)
        elif self._opcode == CLOSE:
            self._closed()
        elif self._opcode < CLOSE and self._final:
            self._text.decode(b"", True)
            self._message = 0

    def _closed(self) -> None:
        code = int.from_bytes(self._control[:2]) if self._control else 1000
        if len(self._control) == 1 or code not in _CODES:
            raise Broken(1002)
        self._control[2:].decode("utf-8")
        self._end(code)

    # -- what goes -----------------------------------------------------------------------------------

    def _send(self, opcode: int, data: bytes) -> None:
        if self._ended:
            raise ConnectionAbortedError  # nothing follows a close
        size = len(data)
        long = b"\x7e" + size.to_bytes(2) if size < 1 << 16 else b"\x7f" + size.to_bytes(8)
        self.sock.sendall(b"%c" % (0x80 | opcode) + (b"%c" % size if size < 126 else long) + data)

    def _end(self, code: int) -> None:
        """Say the last word, once."""
        if not self._ended:
            try:
                self._send(CLOSE, code.to_bytes(2))
            except OSError:
                pass  # nobody is there
            self._ended = True


def _head_size(data: bytes) -> int:
    """The bytes of a frame's head, by what there is of it."""
    if len(data) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(data[1] & 0x7F, 0) + (4 if data[1] & 0x80 else 0)
