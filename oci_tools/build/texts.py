"""Dockerfiles and ignore files, as bytes and as lines."""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.build import ignore
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 16 << 20  # bytes


def joined(head: bytes, pieces: Iterator[bytes], subject: str) -> bytes:
    """A Dockerfile that comes in pieces."""
    data = bytearray(head)
    for piece in pieces:
        data += piece
        if len(data) > LARGEST:
            raise Error("cannot read", subject, f"larger than {LARGEST} bytes")
    return bytes(data)


def read(path: str, top: str | None = None) -> bytes:
    """A file of text; of one below the directory `top` links do not lead out of that, and it is no pipe or device."""
    inside = os.path.relpath(path, top) if top is not None else "../"
    try:
        fd = _below(str(top), inside) if not inside.startswith("../") else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    if len(data) > LARGEST:
        raise Error("cannot read", path, f"larger than {LARGEST} bytes")
    return data


def patterns(path: str, top: str | None) -> list[str]:
    """Those of an ignore file, which are well formed."""
    data = read(path, top)
    try:
        found = ignore.lines(data)
        ignore.Patterns(found)
    except Error as error:
        raise Error("cannot use ignore file", path, str(error)) from None
    return found


def _below(top: str, path: str) -> int:
    at = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = fs.open_beneath(at, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Error("cannot read", f"{top}/{path}", "not a regular file")
    return fd


def is_there(path: str, top: str | None) -> bool:
    """Whether there is such a file; below `top` a link that leads nowhere or out of it, or a directory, is none."""
    inside = os.path.relpath(path, top) if top is not None else "../"
    if inside.startswith("../") or not os.path.lexists(path):
        return os.path.lexists(path)
    try:
        os.close(_below(str(top), inside))
    except (FileNotFoundError, Error):
        return False
    except OSError:
        return True  # it is said when it is read
    return True
