"""A tree of files becomes a layer's archive: image-spec, layer.md, "Creating" and "Representing Changes".

All of a tree, or what changed in it since its snapshot: what is new or other is an entry, what
is gone a whiteout, which comes before its siblings; every directory on the way to either has its entry
with its attributes, as layer.md asks.  Opaque marks are never written.  A directory in which only names
came or went, and whose time is therefore another, is itself not changed.

The archive is a pure function of the tree: entries are sorted, owners are numbers, of hard links the
first name has the content, times after `epoch` are `epoch`.  Sockets have no place in a layer.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_tools import fs
from oci_tools.errors import Error, quote
from oci_tools.layer import entries
from oci_tools.layer import owner as owners
from oci_tools.layer import snapshot
from oci_tools.layer.planned import Plan
from oci_tools.layer.tree import Dir, Tree
from oci_tools.layer.walk import Found, order, walk
from oci_tools.names import WHITEOUT, clean
from oci_tools.shelf import Attic, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from oci_tools.layer.limits import Limits
    from oci_tools.layer.write import Writer
    from oci_tools.tar import Entry, Reader

    Before = tuple[str, int, int, int, tuple[int, int]]  # type, mode, uid, gid, device: as tar.Entry has them

_KINDS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c", stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
}  # fmt: skip
_GONE = (errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENOTDIR)
_MADE_UP = 16 << 20  # bytes
HOST = (b"security.selinux", b"security.ima", b"security.evm", *owners.MARKS)


class Exactly(int):
    """An epoch that is every time, and not only what none is later than."""


class Packing:
    """How trees are written.

    writer  of the archive
    epoch   no time is later, in seconds since 1970, or with Exactly earlier; None: they are as they are
    single  the tree is a plain user's, for whom owners are remembered (`owner.py`)
    warn    hears what is left out
    holes   files with holes are written as such, which not every reader understands
    live    somebody may be writing in the tree: files are as long as they are when they are opened; and it is no
            layer, in which names could be read as whiteouts
    newest  the newest time that was written, in nanoseconds
    before  says what a path was in the image that a plain user's tree was: links, fifos and devices can have no
            attribute in which their owner is remembered, and a device is an empty file without permissions
    changed whether something of an archive was left out, or a time is another
    """

    def __init__(
        self,
        writer: Writer,
        epoch: int | None = None,
        single: bool = False,
        warn: Callable[[str], None] | None = None,
        live: bool = False,
        holes: bool = False,
    ) -> None:
        self.writer = writer
        self._holes = holes
        self._live = live
        self.newest: int | None = None
        self.changed = False
        self.before: Callable[[bytes], Before | None] = lambda path: None
        self._epoch = None if epoch is None else epoch * 1_000_000_000
        self._exactly = isinstance(epoch, Exactly)
        self._single = single
        self.higher = 0  # by how much ids on disk are above those of the image
        self._warn = warn
        self._links = Shelf(Attic())  # by device and inode: the first name, and how many are to come

    def tree(
        self,
        rootfd: int,
        masks: Iterable[bytes] = (),
        only: bytes = b"",
        enters: Callable[[Found], bool] | None = None,
    ) -> bool:
        """Write all of a tree, save its root, which is only the place where it lies; False if nothing was.

        With `only` it is a path, what is in it, and the directories on the way; `enters` as in `walk`.
        """
        masked, wanted, any_ = Masks(masks), Masks([only]) if only else None, False
        for found in walk(rootfd, enters):
            way = bool(wanted) and only.startswith(found.path + b"/")
            if not masked.has(found.path) and (wanted is None or way or wanted.has(found.path)):
                self.put(found)
                any_ = any_ or not way
        return any_

    def changes(self, rootfd: int, changes: Iterable[tuple[bytes, bool]]) -> bool:
        """Write changes of a tree as `compare` gives them; False if there are none."""
        planned = Plan(changes)
        self.planned(rootfd, planned)
        return bool(planned)

    def planned(self, rootfd: int, planned: Iterable[tuple[bytes, bool]]) -> None:
        """The same, of changes as `Plan` gives them."""
        with Tree(rootfd) as tree:
            nodes: list[Dir] = [tree.root]
            for path, gone in planned:
                parts = path.split(b"/") if path else []
                while len(nodes) > 1 and nodes[-1].path() != b"/".join(parts[: len(nodes) - 1]):
                    tree.forget(nodes.pop())
                for part in parts[len(nodes) - 1 : -1]:
                    nodes.append(Dir(part, nodes[-1]))
                if gone:
                    self.whiteout(path)
                elif not path:
                    self.root(rootfd)
                else:
                    at = tree.fd(nodes[-1])
                    self.put(Found(path, at, parts[-1], os.lstat(parts[-1], dir_fd=at)))

    def root(self, rootfd: int) -> None:
        """Write what a tree's root itself is."""
        self._write(b"", b"", rootfd, os.fstat(rootfd))

    def archive(self, stream: Any, limits: Limits, masks: Iterable[bytes] = ()) -> None:
        """Write the entries of another archive, compressed or not, anew and as they come."""
        masked = Masks(masks)
        reader = entries.archive(stream, limits)
        for entry in reader:
            entry.name = b"/".join(clean(entry.name))
            if entry.type == "h":
                entry.link = b"/".join(clean(entry.link))
            if masked.has(entry.name):
                self.changed = True
            elif entry.type == "h" and masked.has(entry.link):
                raise Error("cannot leave out", entry.link, f"{quote(entry.name)} is a hard link to it")
            else:
                self._entry(entry, reader)
        reader.drain()

    def _entry(self, entry: Entry, reader: Reader) -> None:
        """Write a member of another archive anew."""
        mtime = self._time(entry.mtime)
        xattrs = {name: value for name, value in entry.xattrs.items() if not name.startswith(HOST)}
        device = entry.device if entry.type in "cb" else (0, 0)
        whose = (entry.mode, entry.uid, entry.gid)
        link = entry.link if entry.type in "hl" else b""
        name = entry.name or b"."
        self.writer.entry(
            entry.type, name, *whose, mtime, size=entry.size, link=link, device=device, xattrs=xattrs
        )
        if entry.type == "f":
            for piece in entries.plain(entry, reader):
                self.writer.data(piece)
        self.writer.end()

    def _time(self, mtime: int) -> int:
        """A time as it is written."""
        if self._epoch is not None and (mtime > self._epoch or (self._exactly and mtime < self._epoch)):
            mtime, self.changed = self._epoch, True
        self.newest = mtime if self.newest is None else max(self.newest, mtime)
        return mtime

    def put(self, found: Found) -> None:
        """Write one name."""
        if stat.S_ISSOCK(found.seen.st_mode):
            self.warn(f"{quote(found.path)} is a socket and left out")
        elif found.name.startswith(WHITEOUT) and not self._live:
            raise Error("cannot pack", found.path, "the name would be read as a whiteout")
        else:
            try:
                self._write(found.path, found.name, found.at, found.seen)
            except BrokenPipeError:
                raise  # not about the file: nobody reads the archive any more
            except OSError as error:
                if self._live and error.errno in _GONE:
                    return self.warn(f"{quote(found.path)} was replaced or removed meanwhile and is left out")
                raise Error("cannot pack", found.path, error) from None

    def whiteout(self, path: bytes) -> None:
        """Say that a name is gone.  Its header has no time, so that it is the same whenever it is written."""
        parent, slash, name = path.rpartition(b"/")
        self.writer.entry("f", parent + slash + WHITEOUT + name, 0, 0, 0, 0)

    def warn(self, text: str) -> None:
        if self._warn:
            self._warn(text)

    def _write(self, path: bytes, name: bytes, at: int, seen: os.stat_result) -> None:
        kind = _KINDS[stat.S_IFMT(seen.st_mode)]
        mtime = self._time(seen.st_mtime_ns)
        where = b"/proc/self/fd/%d/%b" % (at, name)
        xattrs = owners.read(where, not name, HOST)
        uid, gid = max(seen.st_uid - self.higher, 0), max(seen.st_gid - self.higher, 0)
        remembered = xattrs.pop(owners.REMEMBER, None)
        if self._single:
            uid, gid = owners.on_disk(seen.st_mode, uid, gid, remembered)
        mode = stat.S_IMODE(seen.st_mode)
        device = (os.major(seen.st_rdev), os.minor(seen.st_rdev)) if kind in "cb" else (0, 0)
        if self._single and remembered is None and (kind in "lp" or (kind, mode, seen.st_size) == ("f", 0, 0)):
            was = self.before(path)
            if was and (was[0] == kind != "f" or (kind == "f" and was[0] in "cb")):
                kind, uid, gid, device = was[0], was[2], was[3], was[4]
                mode = was[1] if kind in "cb" else mode
        if kind != "d" and seen.st_nlink > 1:
            key = b"%d %d" % (seen.st_dev, seen.st_ino)
            leader, left = self._links.pop(key) or (path, seen.st_nlink)
            if left > 1:
                self._links.set(key, (leader, left - 1), len(leader))
            if leader != path:
                self.writer.entry("h", path, mode, uid, gid, mtime, link=leader)
                return
        if kind == "f":
            self._file(path, name, at, seen, mtime, (mode, uid, gid), xattrs)
            return
        link = os.readlink(name, dir_fd=at) if kind == "l" else b""
        self.writer.entry(kind, path or b".", mode, uid, gid, mtime, link=link, device=device, xattrs=xattrs)

    def _file(
        self,
        path: bytes,
        name: bytes,
        at: int,
        seen: os.stat_result,
        mtime: int,
        whose: tuple[int, int, int],
        xattrs: dict[bytes, bytes],
    ) -> None:
        fd = self._open(path, name, at)
        try:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
                raise OSError(errno.ESTALE, "it changed while it was read")
            if now.st_size != seen.st_size and not self._live:
                raise Error("cannot pack", path, "it changed while it was read")
            if self._holes and now.st_blocks * 512 < now.st_size:
                pieces = fs.pieces(fd, now.st_size)
                self.writer.sparse(path, whose, mtime, now.st_size, pieces, xattrs)
                for start, end in pieces:
                    os.lseek(fd, start, os.SEEK_SET)
                    self._content(path, fd, end - start)
                return self.writer.end()
            early = b"" if now.st_size or not self._live else _made_up(fd)
            size = now.st_size or len(early)
            self.writer.entry("f", path, *whose, mtime, size=size, xattrs=xattrs)
            self.writer.data(early)
            self._content(path, fd, size - len(early))
            self.writer.end()
        finally:
            os.close(fd)

    def _content(self, path: bytes, fd: int, left: int) -> None:
        """So many bytes of an open file; zeros in place of those that are cut off while a tree in use is read."""
        left, short = left - self.writer.file(fd, left), False
        while left:
            data = b"" if short else os.read(fd, min(left, 1 << 18))
            if not data:
                if not self._live:
                    raise Error("cannot pack", path, "it changed while it was read")
                if not short:
                    self.warn(f"{quote(path)} was cut off meanwhile: zeros are in place of its end")
                data, short = bytes(min(left, 1 << 18)), True
            self.writer.data(data)
            left -= len(data)

    def _open(self, path: bytes, name: bytes, at: int) -> int:
        """Open a file; of a tree in use never a device that somebody has just put in its place."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            if not self._live:
                return os.open(name, flags, dir_fd=at)
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            try:
                if not stat.S_ISREG(os.fstat(held).st_mode):
                    raise OSError(errno.ESTALE, "it changed while it was read")
                return os.open(f"/proc/self/fd/{held}", flags & ~os.O_NOFOLLOW)
            finally:
                os.close(held)
        except OSError as error:
            if error.errno in _GONE:
                raise
            raise Error("cannot read", path, error) from None


def _made_up(fd: int) -> bytes:
    """What can be read at once of a file that says that it is empty: those of procfs are not."""
    found = b""
    try:
        while len(found) < _MADE_UP and (data := os.read(fd, 1 << 18)):
            found += data
    except BlockingIOError:
        pass
    return found


# -- what changed ------------------------------------------------------------------------------------


def compare(
    rootfd: int,
    before: snapshot.Snapshot,
    masks: Iterable[bytes] = (),
    places: frozenset[bytes] = frozenset(),
) -> Iterator[tuple[bytes, bool]]:
    """What changed in a tree since its snapshot: (path, whether it is gone), in `walk`'s order.

    Of a copy of the tree only what lstat(2) says is compared, since every file in it is new.
    `places` are where a runtime makes an empty directory or file to mount on: new ones are no change.
    """
    seen = os.fstat(rootfd)
    same = (seen.st_dev, seen.st_ino) == before.root
    masked = Masks(masks)
    attic = Attic()
    fewer, fresh = Shelf(attic), Shelf(attic)
    for path, now, then in _side_by_side(rootfd, before):
        if masked.has(path) or (now and now.fields[0] == b"s"):
            continue
        if now is None:
            yield path, True
        elif then is None and path in places and (now.is_directory() or now.fields[::4] == (b"f", b"0")):
            continue
        elif then is None or not _is_same(now, then, same):
            if now.nlink != b"1":
                fresh.set(now.ino, True)
            yield path, False
        elif same and not now.is_directory() and now.ctime != then.ctime:
            # Only the number of its names is another, as far as can be told: it is unchanged,
            # unless one of the names is new, whose entry then wants to be a link to this one.
            if now.nlink == then.nlink:
                yield path, False
            else:
                fewer.set(path, now.ino)
    for path, ino in fewer.items():
        if fresh.get(ino):
            yield path, False


def _is_same(now: snapshot.Row, then: snapshot.Row, same: bool) -> bool:
    if now.is_directory() and then.is_directory():
        # Its time and change time are other with every name in it, but alike; its attributes are in `nlink`.
        dated = same and then.fields[5] != now.fields[5] != now.ctime
        return now.fields[:4] == then.fields[:4] and now.nlink == then.nlink and not dated
    return now.fields == then.fields and (not same or now.ino == then.ino)


def _side_by_side(
    rootfd: int, before: snapshot.Snapshot
) -> Iterator[tuple[bytes, snapshot.Row | None, snapshot.Row | None]]:
    """Each path with what it is and what it was.  What was in a directory that is gone or replaced is left out."""
    rows = iter(before)
    then = next(rows, None)
    assert then is not None and then.path == b"."
    yield b"", snapshot.Row(snapshot.line(b".", os.fstat(rootfd), b"/proc/self/fd/%d/." % rootfd)[:-1]), then
    then = next(rows, None)
    skip = b""  # what begins with this was in such a directory
    for found in walk(rootfd):
        key = order(found.path)
        while then is not None and order(then.path) < key:
            if not (skip and then.path.startswith(skip)):
                yield then.path, None, then
                skip = then.path + b"/"
            then = next(rows, None)
        now = snapshot.Row(snapshot.of(found)[:-1])
        if then is not None and then.path == found.path:
            if not now.is_directory():
                skip = then.path + b"/"
            yield found.path, now, then
            then = next(rows, None)
        else:
            yield found.path, now, None
    while then is not None:
        if not (skip and then.path.startswith(skip)):
            yield then.path, None, then
            skip = then.path + b"/"
        then = next(rows, None)


class Masks:
    """Paths that are left out, with all that is in them."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._paths = tuple(b"/".join(clean(path)) for path in paths)
        self._below = tuple(path + b"/" for path in self._paths)

    def has(self, path: bytes) -> bool:
        return bool(self._paths) and (path in self._paths or path.startswith(self._below))
