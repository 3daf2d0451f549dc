"""What a tree was when it was unpacked, so that what was changed in it can be told without a second copy.

A text file, for `less` and `diff`, in the order of `walk.py`:

    oci-tools snapshot 1 DEV INO                                the tree's root, which tells a copy
    TYPE MODE UID GID SIZE MTIME CTIME INO NLINK RDEV PATH      for each name; the root's path is "."

MODE is octal, times are nanoseconds, backslash and newline in a path are `\\\\` and `\\n`.  A file whose
line would still be the same was not touched: the kernel sets the change time at every write, chmod,
chown, setxattr and link, and nobody can set it back.
"""

from __future__ import annotations

import os
import stat
import zlib

from oci_tools.errors import Error
from oci_tools.layer.walk import Found, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = b"oci-tools snapshot 1"
_TYPES = {
    stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l", stat.S_IFCHR: b"c", stat.S_IFBLK: b"b",
    stat.S_IFIFO: b"p", stat.S_IFSOCK: b"s",
}  # fmt: skip


class Row:
    """One line of a snapshot: bytes as they stand there."""

    __slots__ = ("ctime", "fields", "ino", "nlink", "path")

    def __init__(self, line: bytes) -> None:
        fields = line.split(b" ", 10)
        self.path = _plain(fields[10])
        self.fields = (*fields[:6], fields[9])  # what makes a file what it is, save content and attributes
        self.ctime, self.ino, self.nlink = fields[6:9]

    def is_directory(self) -> bool:
        return self.fields[0] == b"d"


def of(found: Found) -> bytes:
    """The line of a name that a walk gives."""
    return line(found.path, found.seen, b"/proc/self/fd/%d/%b" % (found.at, found.name))


def line(path: bytes, seen: os.stat_result, where: bytes) -> bytes:
    """The line of a file; `where` is how to get at it.

    Names that come and go change a directory's change time, so its attributes are told by a sum, in
    place of the number of links, which it does not have.
    """
    mode = seen.st_mode
    kind = _TYPES[stat.S_IFMT(mode)]
    size = seen.st_size if kind in b"fl" else 0
    if b"\\" in path or b"\n" in path:
        path = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return b"%b %o %d %d %d %d %d %d %d %d %b\n" % (
        kind, stat.S_IMODE(mode), seen.st_uid, seen.st_gid, size, seen.st_mtime_ns, seen.st_ctime_ns,
        seen.st_ino, _attributes(where) if kind == b"d" else seen.st_nlink, seen.st_rdev, path,
    )  # fmt: skip


def take(rootfd: int, path: str) -> None:
    """Write the snapshot of a tree into the new file `path`."""
    seen = os.fstat(rootfd)
    with open(path, "xb", buffering=1 << 18) as file:
        file.write(b"%b %d %d\n" % (_HEAD, seen.st_dev, seen.st_ino))
        file.write(line(b".", seen, b"/proc/self/fd/%d/." % rootfd))
        for found in walk(rootfd):
            file.write(of(found))


def _attributes(where: bytes) -> int:
    """A sum of a directory's extended attributes, 0 if it has none."""
    try:
        names = sorted(os.listxattr(where, follow_symlinks=False))
        pairs = ((os.fsencode(name), os.getxattr(where, name, follow_symlinks=False)) for name in names)
        return zlib.crc32(b"".join(b"%b=%b\n" % pair for pair in pairs))
    except OSError:
        return 0


class Snapshot:
    """A snapshot that is read line by line."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=1 << 18)  # noqa: SIM115
        except OSError as error:
            raise Error("cannot read", path, error) from None
        head = self._file.readline().split(b" ")
        if b" ".join(head[:3]) != _HEAD or len(head) != 5:
            self._file.close()
            raise Error("cannot read", path, "not a snapshot that this version knows")
        self.root = (int(head[3]), int(head[4]))

    def __iter__(self) -> Iterator[Row]:
        for text in self._file:
            try:
                yield Row(text[:-1])
            except (IndexError, ValueError):
                raise Error("cannot read", self.path, f"not a line of a snapshot: {text[:80]!r}") from None

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _plain(path: bytes) -> bytes:
    if b"\\" not in path:
        return path
    return b"\\".join(part.replace(b"\\n", b"\n") for part in path.split(b"\\\\"))
