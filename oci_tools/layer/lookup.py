"""One file in a stack of layers, found as overlayfs would find it, without mounting anything.

For the few bytes of a stranger's passwd that are wanted before there is a container.  Every
name is opened from the directory it is in and without following links; a link is followed here, with
the stack's root as `/`.
"""

from __future__ import annotations

import os
import stat
from itertools import repeat

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINKS_MAX = 40
MARKS = ("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.")  # attributes of overlays' own
_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Reader:
    """What reads a file, of at most `limit` bytes, in trees that are stacked, the top one first.

    It gives None where there is no such file.
    """

    def __init__(self, trees: list[str], limit: int) -> None:
        self._trees = trees
        self._limit = limit

    def __call__(self, path: str) -> bytes | None:
        fds = [os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for tree in self._trees]
        try:
            return _read(fds, os.fsencode(path), self._limit)
        finally:
            for fd in fds:
                os.close(fd)

    def has_directory(self, path: str) -> bool:
        """Whether there is a directory, and no link to one."""
        with Stack(self._trees) as stack:
            found = stack.look(os.fsencode(path))
        return found is not None and stat.S_ISDIR(found.st_mode)


def reader(trees: list[str], limit: int) -> Callable[[str], bytes | None]:
    """A Reader."""
    return Reader(trees, limit)


class Stack:
    """Trees that are stacked, the top one first; what looks up paths follows no links, save `resolve`."""

    def __init__(self, trees: list[str]) -> None:
        self._fds = [os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for tree in trees]

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)

    def look(self, path: bytes) -> os.stat_result | None:
        """What is at a path, None for nothing."""
        fd = self.open(path)
        if fd is None:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def open(self, path: bytes) -> int | None:
        """An O_PATH descriptor of what is at a path, None for nothing."""
        fd, _, rest = _descend(self._fds, _parts(path))
        if fd >= 0 and rest:
            os.close(fd)
        return None if fd < 0 or rest else fd

    def resolve(self, path: bytes) -> int | None:
        """The same through links on the way to its directory."""
        fd = _resolve(self._fds, path, False)
        return None if fd < 0 else fd

    def names(self, path: bytes) -> Iterator[bytes]:
        """The names that are seen in a directory, sorted; none if it is no directory."""
        from heapq import merge

        from oci_tools.layer import walk

        fds, _, _, _ = _directories(self._fds, _parts(path))
        try:
            last = None
            for name, at in merge(*(zip(walk.names(fd), repeat(at)) for at, fd in enumerate(fds))):
                if name != last:  # what the highest has counts
                    last = name
                    seen = os.lstat(name, dir_fd=fds[at])
                    if not (stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0):
                        yield name
        finally:
            for fd in fds:
                os.close(fd)

    def xattrs(self, path: bytes) -> dict[str, bytes]:
        """The attributes of a directory, without overlayfs's own."""
        fds, _, _, _ = _directories(self._fds, _parts(path))
        try:
            return attributes(b"/proc/self/fd/%d" % fds[0]) if fds else {}
        finally:
            for fd in fds:
                os.close(fd)


def attributes(path: bytes) -> dict[str, bytes]:
    """The extended attributes of a directory, without overlayfs's own."""
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith(MARKS)}


def _read(roots: list[int], path: bytes, limit: int) -> bytes | None:
    fd = _resolve(roots, path, True)
    if fd < 0:
        return None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise Error("cannot read", path, "not a regular file")
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            data = file.read(limit + 1) if seen.st_size <= limit else b""
        if seen.st_size > limit or len(data) > limit:
            raise Error("cannot read", path, f"larger than {limit} bytes")
        return data
    finally:
        os.close(fd)


def _resolve(roots: list[int], path: bytes, last: bool) -> int:
    """What is at a path, through links, and what the last name leads to if `last`; -1: there is nothing."""
    todo = _parts(path)
    for _ in range(LINKS_MAX):
        fd, done, rest = _descend(roots, todo)
        if fd < 0:
            return -1
        is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
        if not rest and not (last and is_link):
            return fd
        try:
            if not is_link:
                return -1
            target = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        todo = ([] if target.startswith(b"/") else done) + _parts(target) + rest
    raise Error("cannot read", path, "too many levels of symbolic links")


def _descend(roots: list[int], parts: list[bytes]) -> tuple[int, list[bytes], list[bytes]]:
    """Go down as far as there are directories.

    What comes is the first that is none (-1: there is nothing), the directory it is in, the parts behind it.
    """
    fds, done, found, rest = _directories(roots, parts)
    for fd in fds[1:]:
        os.close(fd)
    return fds[0] if fds else found, done, rest


def _directories(roots: list[int], parts: list[bytes]) -> tuple[list[int], list[bytes], int, list[bytes]]:
    """The directories that a path is in the layers, and its parts, of which none is a link.

    If it is none: how far there are directories, what comes then (-1: nothing), the parts behind that.
    """
    fds = [os.dup(fd) for fd in roots]
    done: list[bytes] = []
    for at, part in enumerate(parts, 1):
        up = part == b".."
        below, found = ([], -1) if up else _enter(fds, part)
        for fd in fds:
            os.close(fd)
        if up:
            return _directories(roots, [*done[:-1], *parts[at:]])
        if not below:
            return [], done, found, parts[at:]
        fds = below
        done.append(part)
    return fds, done, -1, []


def _enter(fds: list[int], name: bytes) -> tuple[list[int], int]:
    """The directories of a name in directories that are stacked; or what it is if it is none, else -1."""
    below: list[int] = []
    for at in fds:
        try:
            fd = os.open(name, _FLAGS, dir_fd=at)
        except FileNotFoundError:
            continue
        seen = os.fstat(fd)
        if stat.S_ISDIR(seen.st_mode):
            below.append(fd)
            if is_opaque(fd):
                break
            continue
        if below or (stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0):
            os.close(fd)  # a directory above hides it, or it is a whiteout
            return below, -1
        return [], fd
    return below, -1


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part and part != b"."]


def is_opaque(fd: int) -> bool:
    """Whether an overlay hides what is below a directory that is open."""
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            pass
    return False
