"""Read one file of stacked layers as overlayfs would show it, without mounting anything.

Whiteouts and opaque directories are the store's (store.py), links are followed inside the stack
only: names are looked up component by component, by ourselves, in every layer that a directory
consists of.  For small files that must be known before there is a mount: etc/passwd.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_tools.errors import Error
from oci_tools.layer.store import OPAQUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Merged = list[int]  # descriptors of a directory in the layers that show it, top first

MAX_LINKS = 40
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def read(trees: Sequence[str], path: str, limit: int) -> bytes | None:
    """The content of a regular file; None if there is nothing.  An Error for more than `limit` bytes,
    and for what is no file: nobody is made to wait for a FIFO."""
    if not trees:
        return None
    opened: list[int] = []
    try:
        root = [_keep(opened, os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for tree in trees]
        found = _find(root, path, opened)
        if found is None:
            return None
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise Error("cannot read", f"/{path}", "not a regular file")
        fd = _keep(opened, os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC))
        return _content(fd, path, limit)
    except OSError as error:
        raise Error("cannot read", f"/{path}", error) from None
    finally:
        for fd in opened:
            os.close(fd)


def _keep(opened: list[int], fd: int) -> int:
    opened.append(fd)
    return fd


def _content(fd: int, path: str, limit: int) -> bytes:
    parts, size = [], 0
    while part := os.read(fd, limit + 1 - size):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise Error("cannot read", f"/{path}", f"larger than {limit} bytes")
    return b"".join(parts)


def _find(root: Merged, path: str, opened: list[int]) -> int | None:
    """A descriptor of what a path leads to, None for nothing; a directory's is its highest layer's."""
    way: list[Merged] = [root]  # the directories we are in, the root first
    rest = path.split("/")[::-1]
    links = 0
    last = root[0]
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            way = way[:-1] or [root]
            continue
        merged, other = _step(way[-1], part, opened)
        if other is None:
            if not merged:
                return None
            way.append(merged)
            last = merged[0]
            continue
        if not stat.S_ISLNK(os.fstat(other).st_mode):
            return other if not any(each not in ("", ".") for each in rest) else None
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink("", dir_fd=other)
        if target.startswith("/"):
            way = [root]
        rest += target.split("/")[::-1]
    return last


def _step(here: Merged, name: str, opened: list[int]) -> tuple[Merged, int | None]:
    """What a name in a merged directory is: a directory of some layers, or one thing that is none."""
    merged: Merged = []
    for fd in here:
        try:
            found = _keep(opened, os.open(name, _LOOK, dir_fd=fd))
        except FileNotFoundError:
            continue
        seen = os.fstat(found)
        if stat.S_ISDIR(seen.st_mode):
            merged.append(found)
            if _is_opaque(found):
                break
            continue
        whiteout = stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0
        return merged, None if merged or whiteout else found
    return merged, None


def _is_opaque(fd: int) -> bool:
    for name in OPAQUE.values():
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            pass
    return False
