"""openat2(2): paths from outside, resolved beneath a root by the kernel."""

from __future__ import annotations

import os
import struct

from oci_tools.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

O_PATH = os.O_PATH


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """A descriptor of `path` under `dirfd`, always close-on-exec.  EAGAIN (a rename raced) is tried again."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve | RESOLVE_NO_MAGICLINKS)
    name = libc.string(path)
    for attempt in range(128):
        try:
            return libc.call("openat2", dirfd, name, how, len(how), subject=path)
        except BlockingIOError:
            if attempt == 127:
                raise
    raise AssertionError
