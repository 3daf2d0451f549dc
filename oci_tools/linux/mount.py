"""The mount calls: mount(2), pivot_root(2), and the descriptor-based mount API.

Sources: mount(2), fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2),
mount_setattr(2), pivot_root(2); include/uapi/linux/mount.h.
"""

from __future__ import annotations

import os
from struct import pack

from oci_tools.linux import libc

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
AT_FDCWD = -100

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    args = [None if text is None else libc.string(text) for text in (source, target, fstype)]
    libc.call("mount", *args, flags, None if data is None else libc.string(data), subject=target)


def umount2(target: str, flags: int = 0) -> None:
    libc.call("umount2", libc.string(target), flags, subject=target)


def pivot_root(new_root: str, put_old: str) -> None:
    libc.call("pivot_root", libc.string(new_root), libc.string(put_old), subject=new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """A descriptor of the mount at `path`; with OPEN_TREE_CLONE a detached copy of it."""
    return libc.call("open_tree", dirfd, libc.string(path), flags | OPEN_TREE_CLOEXEC, subject=path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    libc.call("move_mount", from_fd, libc.string(from_path), to_fd, libc.string(to_path), flags, subject=to_path)


def fsopen(fstype: str) -> int:
    return libc.call("fsopen", libc.string(fstype), FSOPEN_CLOEXEC, subject=fstype)


def fsconfig(fd: int, command: int, key: str | None, value: str | bytes | None, aux: int = 0) -> None:
    """Set an option of a file system context, or act on it; the kernel's own words in the error."""
    name = None if key is None else libc.string(key)
    data = None if value is None else libc.string(value)
    try:
        libc.call("fsconfig", fd, command, name, data, aux, subject=key)
    except OSError as error:
        said = _messages(fd)
        if said:
            raise OSError(error.errno, said, key) from None
        raise


def _messages(fd: int) -> str:
    """What the kernel logged in a file system context: "e overlay: ..." lines."""
    said: list[str] = []
    while True:
        try:
            line = os.read(fd, 4096)
        except OSError:
            return "; ".join(said)
        said.append(line.decode("utf-8", "replace").strip()[2:])


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """A detached mount of a created file system context."""
    return libc.call("fsmount", fd, FSMOUNT_CLOEXEC, attr_flags)


def mount_setattr(
    dirfd: int, path: str, flags: int, attr_set: int, attr_clr: int = 0, propagation: int = 0, userns_fd: int = 0
) -> None:
    attr = pack("QQQQ", attr_set, attr_clr, propagation, userns_fd)
    libc.call("mount_setattr", dirfd, libc.string(path), flags, attr, len(attr), subject=path)
