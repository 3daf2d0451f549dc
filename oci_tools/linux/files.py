"""Names, attributes and writing back of files: renameat2(2), ioctl_iflags(2), sync_file_range(2)."""

from __future__ import annotations

import fcntl
import os

from oci_tools.linux import libc

AT_FDCWD = -100
RENAME_EXCHANGE = 2
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x20000
SYNC_FILE_RANGE_WRITE = 2


def exchange(one: str, other: str) -> None:
    """Let two names change places at once."""
    libc.call("renameat2", AT_FDCWD, libc.string(one), AT_FDCWD, libc.string(other), RENAME_EXCHANGE, subject=one)


def spread(path: str) -> None:
    """Let each directory that is made in this one start in a block group of its own: T of chattr(1).

    Raises OSError where the file system has no such attribute: only ext2, ext3 and ext4 do.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags)
        asked = int.from_bytes(flags[:4], "little") | FS_TOPDIR_FL
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, asked.to_bytes(8, "little"))
    finally:
        os.close(fd)


def write_back(fd: int, offset: int, count: int) -> None:
    """Let the kernel begin to write a part of a file to the disk; not waited for."""
    libc.call("sync_file_range", fd, offset, count, SYNC_FILE_RANGE_WRITE)
