"""inotify(7): a descriptor that says when something happened in a directory or to a file."""

from __future__ import annotations

import os

from oci_tools.linux import libc

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400


class Watch:
    """A non-blocking descriptor; `drain` forgets what it said.  What happened is for the caller to look at."""

    def __init__(self) -> None:
        self.fd = libc.call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)

    def add(self, path: str, mask: int) -> None:
        libc.call("inotify_add_watch", self.fd, libc.string(path), mask, subject=path)

    def fileno(self) -> int:
        return self.fd

    def drain(self) -> None:
        try:
            while os.read(self.fd, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
