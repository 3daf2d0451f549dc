"""Messages of protocol buffers without their schema: {field: value}, as gRPC's other side numbers them.

A value is text, bytes or a number (a flag too), a message, or a list of these for a repeated field; a map is a list
of messages {1: key, 2: value}.  Read, a field is a list of what it had: bytes, which may be a message, or numbers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[int, Any]


def dumps(message: Message) -> bytes:
    return b"".join(_field(number, each) for number, value in message.items()
                    for each in (value if isinstance(value, list) else [value]))  # fmt: skip


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = dumps(value) if isinstance(value, dict) else value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def loads(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80:
                return value

    while at < len(data):
        key = number()
        size = {0: 0, 1: 8, 2: -1, 5: 4}[key & 7]
        if size == 0:
            value: Any = number()
        else:
            size = number() if size < 0 else size
            value = data[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found
