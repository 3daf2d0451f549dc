"""A tar archive put into a tree that is there: the second half of `cp`.

Unlike `layer/apply.py`, which fills an empty tree that nobody else sees, the tree here may be a
running container's, which changes it meanwhile, or the host's, into which a container's files come:

    inside    directories are opened beneath the container's root, links followed there as it would itself
    outside   the archive is a stranger's: no link on the way to a member is followed at all

A file gets its name when it is whole, and takes the place of another; nothing that is there is ever opened for
writing, be it a device or a file of procfs.  A directory that is there stays as it is.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_tools import compress, fs
from oci_tools.errors import Error, quote
from oci_tools.layer.limits import Limits
from oci_tools.linux.openat2 import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from oci_tools.names import clean
from oci_tools.tar import Entry, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SOFT = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)


class Target:
    """Where an archive goes: a directory, by its path beneath an open root."""

    def __init__(self, rootfd: int, path: bytes, strange: bool) -> None:
        self._rootfd = rootfd
        self._path = path
        self.strange = strange
        self._top = fs.open_beneath(rootfd, path or b"/", _DIRECTORY)
        self._last: tuple[bytes, int] = (b"", -1)

    def close(self) -> None:
        for fd in (self._top, self._last[1]):
            if fd >= 0:
                os.close(fd)

    def directory(self, parts: list[bytes]) -> int:
        """A descriptor of a directory in it, made if it is missing; good until the next call."""
        path = b"/".join(parts)
        if not parts:
            return self._top
        if self._last[1] >= 0 and self._last[0] == path:
            return self._last[1]
        try:
            fd = self._open(path)
        except FileNotFoundError:
            above = self.directory(parts[:-1])
            try:
                os.mkdir(parts[-1], 0o755, dir_fd=above)
            except FileExistsError:
                pass  # a link to nowhere: opening it will say so
            fd = self._open(path)
        if self._last[1] >= 0:
            os.close(self._last[1])
        self._last = (path, fd)
        return fd

    def _open(self, path: bytes) -> int:
        if self.strange:
            return openat2(self._top, path, _DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        return openat2(self._rootfd, self._path + b"/" + path, _DIRECTORY, 0, RESOLVE_IN_ROOT)


class Extraction:
    """How an archive is put into a directory.

    owner   whose everything is; None: as the archive says, with all rights and attributes
    rename  the name that the archive's one top name gets, empty: what is in it comes without it; None: as it is
    warn    hears what is left out

    Of a stranger's files that are not to keep their owners no set-id bits, capabilities and devices are taken:
    they would give the host's users what the stranger likes.
    """

    def __init__(
        self, target: Target, owner: tuple[int, int] | None, rename: bytes | None, warn: Callable[[str], None]
    ) -> None:
        self._target = target
        self._owner = owner
        self._rename = rename
        self._warn = warn
        self._tamed = target.strange and owner is not None

    def run(self, stream: Any) -> None:
        """Take all of a tar stream."""
        limits = Limits()
        limits.size = 1 << 62  # what people copy is not ours to bound
        reader = Reader(compress.expand(compress.read_pieces(stream), "the archive"), limits, "the archive")
        umask = os.umask(0)
        later: list[tuple[list[bytes], Entry]] = []
        try:
            for entry in reader:
                parts = self._own(entry)
                try:
                    if parts and self._put(reader, parts, entry):
                        later.append((parts, entry))
                except OSError as error:
                    raise Error("cannot copy to", b"/".join(parts), error) from None
            for parts, entry in reversed(later):  # what is put into a directory changes its time
                try:
                    _settle(self._target.directory(parts[:-1]), parts[-1], entry)
                except OSError as error:  # somebody took it away meanwhile
                    raise Error("cannot copy to", b"/".join(parts), error) from None
            reader.drain()
        finally:
            os.umask(umask)

    def _own(self, entry: Entry) -> list[bytes]:
        """Where a member goes; what is ours to say of it is said."""
        if entry.type == "h":
            entry.link = b"/".join(self._renamed(clean(entry.link)))
        if self._owner:
            entry.uid, entry.gid = self._owner
        if self._tamed:
            entry.mode &= 0o1777
            entry.xattrs = {key: value for key, value in entry.xattrs.items() if key.startswith(b"user.")}
        return self._renamed(clean(entry.name))

    def _renamed(self, parts: list[bytes]) -> list[bytes]:
        if self._rename is None or not parts:
            return parts
        return [self._rename, *parts[1:]] if self._rename else parts[1:]

    def _put(self, reader: Reader, parts: list[bytes], entry: Entry) -> bool:
        """Put one member in its place; whether it is a directory that was made."""
        if self._tamed and entry.type in "cb":
            self._warn(f"{quote(b'/'.join(parts))} is a device and left out")
            return False
        at, name = self._target.directory(parts[:-1]), parts[-1]
        if entry.type == "d":
            return self._directory(parts, at)
        if not self._target.strange:
            _refuse_mounted(at, name)
        if entry.type == "f":
            _file(reader, at, name, entry)
            return False
        beside = _beside()
        if entry.type == "h":
            at = os.dup(at)
            try:
                *above, last = clean(entry.link) or [b""]
                os.link(last, beside, src_dir_fd=self._target.directory(above), dst_dir_fd=at, follow_symlinks=False)
                _take_place(at, beside, name)
            finally:
                os.close(at)
            return False
        if entry.type == "l":
            os.symlink(entry.link, beside, dir_fd=at)
        else:
            kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[entry.type]
            os.mknod(beside, kind | 0o600, os.makedev(*entry.device) if entry.type != "p" else 0, dir_fd=at)
        try:
            _settle(at, beside, entry)
        except BaseException:
            os.unlink(beside, dir_fd=at)
            raise
        _take_place(at, beside, name)
        return False

    def _directory(self, parts: list[bytes], at: int) -> bool:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=at)
            return True
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(parts[-1], dir_fd=at, follow_symlinks=False).st_mode):
                self._target.directory(parts)  # a link to a directory will do, where links are followed
            return False


def _refuse_mounted(at: int, name: bytes) -> None:
    """What is mounted in another mount namespace than ours does not keep its place from being taken: it goes."""
    try:
        os.close(openat2(at, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV))
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "it is mounted there") from None
        raise


def _beside() -> bytes:
    return b".oci-cp." + os.urandom(8).hex().encode()


def _take_place(at: int, beside: bytes, name: bytes) -> None:
    """Give a thing its name; what has it gives way, at once."""
    try:
        os.rename(beside, name, src_dir_fd=at, dst_dir_fd=at)
    finally:
        try:
            os.unlink(beside, dir_fd=at)  # still there if both are names of one file
        except FileNotFoundError:
            pass


def _file(reader: Reader, at: int, name: bytes, entry: Entry) -> None:
    beside = _beside()
    fd = os.open(beside, _NEW, 0o600, dir_fd=at)
    try:
        pieces = entry.sparse if entry.sparse is not None else [(0, entry.size)]
        os.ftruncate(fd, entry.size)
        views, view = reader.data(), memoryview(b"")
        for offset, length in pieces:
            while length:
                view = view or next(views)
                done = os.pwrite(fd, view[:length], offset)
                view, offset, length = view[done:], offset + done, length - done
        _give(fd, entry)
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))
    except BaseException:
        os.unlink(beside, dir_fd=at)
        raise
    finally:
        os.close(fd)
    _take_place(at, beside, name)


def _give(fd: int | bytes, entry: Entry) -> None:
    """An owner and attributes, as far as we may."""
    try:
        os.chown(fd, entry.uid, entry.gid)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):  # EINVAL: the user namespace has no such owner
            raise
        entry.mode &= 0o1777  # not set-id for whoever owns it now
    for key, value in entry.xattrs.items():
        if not key.startswith((b"trusted.", b"user.overlay.", b"security.selinux")):
            try:
                os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno not in _SOFT:
                    raise


def _settle(at: int, name: bytes, entry: Entry) -> None:
    """The attributes of what is no file; by a descriptor, which nobody can exchange for a link."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        path = b"/proc/self/fd/%d" % fd  # it names even a link itself
        _give(path, entry)
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime, entry.mtime))
    finally:
        os.close(fd)
