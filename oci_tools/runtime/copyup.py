"""Fill a new tmpfs with what it is about to hide: the mount option `tmpcopyup`.

Both trees are walked by descriptors, no link is followed and no other file system entered;
owners, modes, times and extended attributes are kept.  Runs on the container side.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy(source: int, target: int) -> None:
    """Copy the content of the directory `source` into the empty directory `target`, which stays as it is."""
    device = os.fstat(source).st_dev
    levels = [_Level(source, target, ".")]  # no more descriptors than the tree is deep
    while levels:
        level = levels[-1]
        if not level.names:
            if len(levels) > 1:
                _keep(os.fstat(level.here), level.here, level.there)
            levels.pop().close()
            continue
        name = level.names.pop()
        found = os.stat(name, dir_fd=level.here, follow_symlinks=False)
        if found.st_dev != device:
            continue
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=level.there)
            levels.append(_Level(level.here, level.there, name))
        else:
            _copy_one(name, found, level.here, level.there)


class _Level:
    """A directory that is being copied: it and its copy, opened, and the names still to come."""

    def __init__(self, above: int, copy_above: int, name: str) -> None:
        self.here = os.open(name, _DIRECTORY, dir_fd=above)
        self.there = os.open(name, _DIRECTORY, dir_fd=copy_above)
        self.names = os.listdir(self.here)

    def close(self) -> None:
        os.close(self.here)
        os.close(self.there)


def _copy_one(name: str, found: os.stat_result, here: int, there: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    elif stat.S_ISREG(found.st_mode):
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=there)
        while os.sendfile(target, source, None, 1 << 24):
            pass
        _keep(found, source, target)
        os.close(source)
        os.close(target)
    elif not stat.S_ISSOCK(found.st_mode):
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=there)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)


def _keep(found: os.stat_result, source: int, target: int) -> None:
    """Owner first, for a change of it clears set-id bits and file capabilities."""
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in _attributes(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError:
            pass  # what tmpfs does not keep
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _attributes(fd: int) -> Iterable[str]:
    try:
        return os.listxattr(fd)
    except OSError:
        return ()
