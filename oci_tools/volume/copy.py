"""A tree of files copied into an empty directory: a clone of a volume, and what an image has where one is mounted.

Bytes are shared where the file system can (FICLONE of ioctl_ficlonerange(2)), else copied inside the kernel, holes
left out.  Owners, modes, times, extended attributes, hard links, devices and fifos are kept; sockets
are not.  No path is joined and no link followed: the tree may be a stranger's (moby's CVE-2022-23648).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from oci_tools import fs
from oci_tools.errors import Error, quote
from oci_tools.layer import owner as owners
from oci_tools.layer.tree import Dir, Tree
from oci_tools.layer.walk import Found, walk
from oci_tools.linux import quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FICLONE = 0x40049409
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 30
_CANNOT = (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


def tree(source: int, target: int, warn: Callable[[str], None] | None = None, root: bool = True) -> None:
    """Copy what is in the open directory `source` into the empty one `target`; with `root` its attributes too."""
    umask = os.umask(0)
    try:
        with quota.Obeyed(), Tree(target) as made:
            copying = _Copying(made, owners.for_process(warn))
            for found in walk(source):
                try:
                    copying.put(found)
                except OSError as error:
                    raise Error("cannot copy", found.path, error) from None
            if root:
                made.root.meta = copying.meta(b"/proc/self/fd/%d/." % source, os.fstat(source))
            made.settle(copying.owner)
    finally:
        os.umask(umask)


def attributes(source: int, target: int) -> None:
    """Give an open directory the owner, mode, time and extended attributes of another."""
    with Tree(target) as made:
        copying = _Copying(made, owners.for_process())
        made.root.meta = copying.meta(b"/proc/self/fd/%d/." % source, os.fstat(source))
        made.settle(copying.owner)


class _Copying:
    def __init__(self, made: Tree, owner: owners.Owner) -> None:
        self.owner = owner
        self._made = made
        self._links: dict[tuple[int, int], tuple[Dir, bytes]] = {}
        self._at: tuple[bytes, Dir] = (b"", made.root)

    def meta(self, path: bytes, seen: os.stat_result) -> tuple[int, int, int, int, dict[bytes, bytes]]:
        """(mode, uid, gid, mtime, xattrs) as an image would have them."""
        xattrs = owners.read(path, False)
        remembered = xattrs.pop(owners.REMEMBER, None)
        uid, gid = seen.st_uid, seen.st_gid
        if self.owner.single:
            uid, gid = owners.on_disk(seen.st_mode, uid, gid, remembered)
        return stat.S_IMODE(seen.st_mode), uid, gid, seen.st_mtime_ns, xattrs

    def put(self, found: Found) -> None:
        parent = found.path.rpartition(b"/")[0]
        if self._at[0] != parent:
            node = self._made.literal(parent.split(b"/")) if parent else self._made.root
            assert node is not None
            self._at = (parent, node)
        node, name, seen = self._at[1], found.name, found.seen
        mode, uid, gid, mtime, xattrs = meta = self.meta(b"/proc/self/fd/%d/%b" % (found.at, name), seen)
        if found.is_directory():
            self._made.make(node, name, meta)
            return
        at = self._made.fd(node)
        if seen.st_nlink > 1:
            first = self._links.setdefault((seen.st_dev, seen.st_ino), (node, name))
            if first != (node, name):
                held = os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=at)
                try:
                    os.link(first[1], name, src_dir_fd=self._made.fd(first[0]), dst_dir_fd=held, follow_symlinks=False)
                finally:
                    os.close(held)
                return
        if stat.S_ISREG(seen.st_mode):
            self._file(found, at, meta)
            return
        if stat.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(name, dir_fd=found.at), name, dir_fd=at)
            mode = -1
        elif stat.S_ISSOCK(seen.st_mode):
            self.owner.warn("sockets", f"sockets are left out, like {quote(found.path)}")
            return
        else:
            os.mknod(name, stat.S_IFMT(seen.st_mode) | mode & 0o777, seen.st_rdev, dir_fd=at)
        self.owner.other(at, name, mode, uid, gid, xattrs)
        os.utime(name, ns=(mtime, mtime), dir_fd=at, follow_symlinks=False)

    def _file(self, found: Found, at: int, meta: tuple[int, int, int, int, dict[bytes, bytes]]) -> None:
        mode, uid, gid, mtime, xattrs = meta
        source = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.at)
        try:
            made = mode & 0o777 | (0o600 if self.owner.single else 0)
            fd = os.open(found.name, _NEW, made, dir_fd=at)
            try:
                content(source, fd)
                self.owner.file(fd, made, mode, uid, gid, xattrs)
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)
        finally:
            os.close(source)


def content(source: int, target: int) -> None:
    """What is in an open file into an empty one, shared if that can be, its holes left out."""
    size = os.fstat(source).st_size
    if not size:
        return
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    os.ftruncate(target, size)
    for start, end in fs.pieces(source, size):
        while start < end:
            done = _some(source, target, start, min(end - start, _PIECE))
            if not done:
                return  # it was cut off meanwhile
            start += done


def _some(source: int, target: int, at: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count, at, at)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    data = os.pread(source, min(count, 1 << 20), at)
    return os.pwrite(target, data, at) if data else 0
