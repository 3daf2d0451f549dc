"""What `-` means: a handle or an image archive on standard input (contracts.md, "Handles on stdin")."""

from __future__ import annotations

import os

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEAD = 512  # bytes by which an archive is known


def from_stdin(stream: Any = None, other: bool = False) -> tuple[str, Any]:
    """("handle", text) or ("archive", stream), by the first bytes; with `other`, ("other", stream) for anything else.

    A handle is one line and nothing else, an absolute path or /...@sha256:..., as makers print
    it: never a transport or a registry, so that what comes through a pipe cannot make us fetch.
    """
    from oci_tools import compress

    stream = stream or open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    head = _read_up_to(stream, _HEAD)
    if not head:
        raise Error("nothing on standard input", hint="a handle or an image archive is expected")
    if head[257:262] == b"ustar" or compress.kind(head) in ("gzip", "zstd"):
        return "archive", _Again(head, stream)
    if head[:1] != b"/" and other:
        return "other", _Again(head, stream)
    if head[:1] != b"/":
        raise Error("neither a handle nor an image archive", "standard input", f"it is {what(head)}")
    text = head + _read_up_to(stream, 8192)
    line, newline, rest = text.partition(b"\n")
    if rest or len(text) > 8192 or b"\0" in line:
        raise Error("not a handle", "standard input", "more than one line")
    return "handle", os.fsdecode(line)


def what(data: bytes) -> str:
    """What some bytes are, for people: libmagic's words."""
    try:
        import magic

        words: str = magic.from_buffer(data)
    except (ImportError, OSError):  # the library itself is the system's, and may be missing
        return "something else"
    return words


def _read_up_to(stream: Any, n: int) -> bytes:
    parts = []
    while n and (data := stream.read(n)):
        parts.append(data)
        n -= len(data)
    return b"".join(parts)


class _Again:
    """A stream whose head was read already."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = head
        self._stream = stream

    def read(self, n: int = -1) -> bytes:
        if not self._head:
            data: bytes = self._stream.read(n)
            return data
        if n < 0:
            head, self._head = self._head, b""
            return head + bytes(self._stream.read())
        data, self._head = self._head[:n], self._head[n:]
        return data

    def readable(self) -> bool:
        return True
