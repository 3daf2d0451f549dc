"""A D-Bus client for the few calls of a runtime to systemd (D-Bus specification, "Message Protocol").

    message  { u8 'l', type, flags, version 1; u32 body length, serial; a(yv) fields }, padded to 8, then the body
    fields   1 path, 2 interface, 3 member, 4 error name, 5 reply serial, 6 destination, 7 sender, 8 signature

Values are Python's own by their signature: numbers, str, bytes for "ay", lists, tuples for structs, and
(signature, value) for a variant.  No threads, no loop: a call waits for its answer, and a signal that
comes meanwhile is kept for who waits for it.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, MSG_NOSIGNAL, MSG_PEEK, SOCK_CLOEXEC, SOCK_STREAM, socket
from struct import calcsize, pack, unpack_from

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_NUMBERS = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_LONGEST = 1 << 27  # bytes of a message (D-Bus specification)


class Failed(Error):
    """The other side answered with an error; `name` is its D-Bus name."""

    def __init__(self, what: str, name: str, text: str) -> None:
        super().__init__(what, None, text or name)
        self.name = name


class Message:
    """One that has come: its type, fields by number, and body as a list of values."""

    def __init__(self, kind: int, fields: dict[int, Any], body: list[Any]) -> None:
        self.kind = kind
        self.fields = fields
        self.body = body


class Bus:
    """A connection to a bus, or straight to who answers there (`direct`); used in a `with` block."""

    def __init__(self, path: str, direct: bool, timeout: float = 30.0) -> None:
        self.serial = 0
        self.signals: list[Message] = []
        self.timeout = timeout
        self.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self.sock.settimeout(timeout)
            self.sock.connect(path)
            self._authenticate()
            if not direct:
                self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except OSError as error:
            self.sock.close()
            raise Error("cannot reach systemd at", path, error) from None
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> list[Any]:
        """What a method returns; Failed if it is an error."""
        self.serial += 1
        fields = [(1, ("o", path)), (2, ("s", interface)), (3, ("s", member)), (6, ("s", destination))]
        if signature:
            fields.append((8, ("g", signature)))
        body, head = Writer(), Writer()
        for kind, value in zip(split(signature), values, strict=True):
            body.put(kind, value)
        head.put("(yyyyuua(yv))", (ord("l"), CALL, 0, 1, len(body.data), self.serial, fields))
        head.align(8)
        try:
            self.sock.sendall(head.data + body.data, MSG_NOSIGNAL)
            while True:
                answer = self._receive(time.monotonic() + self.timeout)
                if answer.kind == SIGNAL:
                    self.signals.append(answer)
                elif answer.fields.get(5) == self.serial:
                    break
        except OSError as error:
            raise Error(f"cannot call {member} of systemd", None, error) from None
        if answer.kind == ERROR:
            text = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise Failed(f"systemd refuses {member}", answer.fields.get(4, ""), text)
        return answer.body

    def signal(self, member: str, until: float) -> list[Any]:
        """The body of the next signal of this name, one that has come already included; TimeoutError at `until`."""
        while True:
            while self.signals:
                found = self.signals.pop(0)
                if found.fields.get(3) == member:
                    return found.body
            message = self._receive(until)
            if message.kind == SIGNAL:
                self.signals.append(message)

    def _authenticate(self) -> None:
        """EXTERNAL: we are who the kernel says we are.

        All at once, as systemd's own clients say it: of a message that came together with BEGIN systemd takes no
        notice until another comes.
        """
        uid = str(real_uid()).encode().hex().encode()
        self.sock.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\nBEGIN\r\n", MSG_NOSIGNAL)
        answer = b" "
        while answer and b"\r\n" not in answer and len(answer) < 1000:
            answer = self.sock.recv(1000, MSG_PEEK)  # what follows is a message already
        self.sock.recv(answer.find(b"\r\n") + 2)
        if not answer.startswith(b"OK"):
            raise PermissionError(13, os.strerror(13))

    def _receive(self, until: float) -> Message:
        head = self._exactly(16, until)
        order = "<" if head[:1] == b"l" else ">"
        body_size, _, fields_size = unpack_from(f"{order}III", head, 4)
        if body_size + fields_size > _LONGEST:
            raise OSError(90, os.strerror(90))  # EMSGSIZE
        fields_end = 16 + (fields_size + 7 & ~7)
        data = head + self._exactly(fields_end - 16 + body_size, until)
        reader = Reader(data, order, 12)
        fields = {number: value[1] for number, value in reader.get("a(yv)")}
        reader.at = fields_end
        return Message(head[1], fields, [reader.get(kind) for kind in split(fields.get(8, ""))])

    def _exactly(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(110, os.strerror(110))
            self.sock.settimeout(left)
            more = self.sock.recv(size - len(data))
            if not more:
                raise ConnectionResetError(104, os.strerror(104))
            data += more
        return bytes(data)


def real_uid() -> int:
    """Our uid as the host sees it, of which a user namespace may have made another."""
    mine = os.geteuid()
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        for line in file:
            inside, outside, size = map(int, line.split())
            if inside <= mine < inside + size:
                return outside + mine - inside
    return mine


# -- values as bytes ---------------------------------------------------------------------------


def split(signature: str) -> list[str]:
    """The complete types of a signature: "sa{sv}(ii)" is ["s", "a{sv}", "(ii)"]."""
    found, at = [], 0
    while at < len(signature):
        end = _end(signature, at)
        found.append(signature[at:end])
        at = end
    return found


def _end(signature: str, at: int) -> int:
    while signature[at : at + 1] == "a":
        at += 1
    if signature[at : at + 1] not in ("(", "{"):
        return at + 1
    depth = 0
    for end in range(at, len(signature)):
        depth += (signature[end] in "({") - (signature[end] in ")}")
        if depth == 0:
            return end + 1
    raise ValueError(f"not a D-Bus signature: {signature}")


def _alignment(kind: str) -> int:
    if kind[0] in "({":
        return 8
    return 1 if kind[0] in "gv" else 4 if kind[0] in "soa" else calcsize(_NUMBERS[kind[0]])


class Writer:
    """Values to bytes, little-endian."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: Any) -> None:
        self.align(_alignment(kind))
        first = kind[0]
        if first in _NUMBERS:
            self.data += pack(f"<{_NUMBERS[first]}", value)
        elif first in "sog":
            text = value.encode("utf-8", "surrogateescape")
            self.data += pack("<B" if first == "g" else "<I", len(text)) + text + b"\0"
        elif first == "v":
            self.put("g", value[0])
            self.put(value[0], value[1])
        elif first == "a":
            self._array(kind[1:], value)
        else:
            for inner, item in zip(split(kind[1:-1]), value, strict=True):
                self.put(inner, item)

    def _array(self, inner: str, values: Any) -> None:
        place = len(self.data)
        self.data += bytes(4)
        self.align(_alignment(inner))
        start = len(self.data)
        for item in values:
            self.put(inner, item)
        self.data[place : place + 4] = pack("<I", len(self.data) - start)


class Reader:
    """Bytes to values."""

    def __init__(self, data: bytes, order: str, at: int = 0) -> None:
        self.data = data
        self.order = order
        self.at = at

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def get(self, kind: str) -> Any:
        self.align(_alignment(kind))
        first = kind[0]
        if first in _NUMBERS:
            value = self._number(_NUMBERS[first])
            return bool(value) if first == "b" else value
        if first in "sog":
            size = self._number("B" if first == "g" else "I")
            self.at += size + 1
            return self.data[self.at - size - 1 : self.at - 1].decode("utf-8", "replace")
        if first == "v":
            inner = self.get("g")
            return inner, self.get(inner)
        if first == "a":
            size = self._number("I")
            self.align(_alignment(kind[1:]))
            end, values = self.at + size, []
            while self.at < end:
                values.append(self.get(kind[1:]))
            return bytes(values) if kind == "ay" else values
        return tuple(self.get(inner) for inner in split(kind[1:-1]))

    def _number(self, code: str) -> int:
        found: int = unpack_from(f"{self.order}{code}", self.data, self.at)[0]
        self.at += calcsize(code)
        return found
