"""What files are, by content: digests of files, remembered by what stat(2) says, and of trees of them.

    $OCI_ROOT/cache/build/hashes/HEX     of one directory's files: remembered.py

A file whose five numbers are the same is the same, as for make(1), git and rsync; but one that changed in the
moment when it was read is read again, since it could change once more within the clock's step.
"""

from __future__ import annotations

import marshal
import os
import stat
import struct
import time

from oci_tools import fs
from oci_tools.build.remembered import Remembered
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STEP = 20_000_000  # nanoseconds: a change time as young as this may be given twice
PIECE = 1 << 20
SHORT = 1 << 16  # bytes of a here-document that a key holds
_STAT = struct.Struct("<QQQqq")


class Hashes:
    """Digests of the files in one directory of the host, kept from build to build (for `place` None: not kept)."""

    def __init__(self, place: str | None, top: str) -> None:
        import hashlib
        import threading

        self._new = hashlib.sha256
        self._lock = threading.Lock()
        self._path = f"{place}/{hashlib.sha256(os.fsencode(os.path.abspath(top))).hexdigest()[:32]}" if place else None
        self._known = Remembered(self._path)

    def save(self) -> None:
        if self._path and self._known.changed:
            fs.make_private(os.path.dirname(self._path))
            self._known.save(self._path)

    def file(self, name: bytes, at: int, base: bytes, seen: os.stat_result) -> bytes:
        """The digest of a file: `base` in the open directory `at`; `name` is its path, under which it is remembered."""
        said = _STAT.pack(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        with self._lock:
            known = self._known.find(name, said)
        if known is not None:
            return known
        fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)
        try:
            digest = self._of(fd)
            now = os.fstat(fd)
        finally:
            os.close(fd)
        same = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        if self._path and same and time.time_ns() - now.st_ctime_ns > STEP:
            with self._lock:
                self._known.put(name, said, digest)
        return digest

    def _of(self, fd: int) -> bytes:
        hasher = self._new()
        while data := os.read(fd, PIECE):
            hasher.update(data)
        return hasher.digest()


def xattrs(path: bytes, host: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """The attributes of a file, sorted, without the host's own."""
    try:
        names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        return [(n, os.getxattr(path, n, follow_symlinks=False)) for n in names if not n.startswith(host)]
    except OSError:
        return []


def digest_of(values: Any) -> str:
    """A digest of plain values."""
    import hashlib

    return hashlib.sha256(marshal.dumps(values, 2)).hexdigest()


def short(data: bytes) -> bytes:
    """What stands for a here-document in a key: itself, or of a long one its digest."""
    if len(data) <= SHORT:
        return data
    import hashlib

    return hashlib.sha256(data).digest()


def kind_of(mode: int) -> str:
    """A file's type in one letter, as tar.Entry has it; "s" for a socket."""
    for letter, test in (("f", stat.S_ISREG), ("d", stat.S_ISDIR), ("l", stat.S_ISLNK), ("p", stat.S_ISFIFO),
                         ("c", stat.S_ISCHR), ("b", stat.S_ISBLK)):  # fmt: skip
        if test(mode):
            return letter
    return "s"


def gone(path: bytes | str) -> Error:
    return Error(f'"{os.fsdecode(path)}": not found')
