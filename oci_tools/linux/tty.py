"""Terminals by ioctl_tty(2): new ones from a given devpts, size, raw mode."""

from __future__ import annotations

import fcntl
import os
import stat
from struct import pack, unpack

TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441


def unlock(master: int) -> None:
    fcntl.ioctl(master, TIOCSPTLCK, pack("i", 0))


def peer(master: int) -> int:
    """The other end, by descriptor: no name in a container's /dev is trusted (CVE-2025-52565)."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def is_master(fd: int) -> bool:
    """Whether this is the multiplexer of a devpts: character device 5:2."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(5, 2)


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal."""
    rows, columns, _, _ = unpack("HHHH", fcntl.ioctl(fd, TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))


def take(fd: int) -> None:
    """Make it the controlling terminal of this session leader."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)
