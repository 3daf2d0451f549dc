"""inotify(7): a descriptor that says when something happened in a directory or to a file."""

from __future__ import annotations

import os

from oci_tools.linux import libc

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_OPEN = 0x20
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000


class Watch:
    """A non-blocking descriptor; `drain` forgets what it said.  What happened is for the caller to look at."""

    def __init__(self) -> None:
        self.fd = libc.call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)

    def add(self, path: str, mask: int) -> int:
        """Watch a directory or file; the number under which `events` tells of it."""
        return libc.call("inotify_add_watch", self.fd, libc.string(path), mask, subject=path)

    def remove(self, number: int) -> None:
        try:
            libc.call("inotify_rm_watch", self.fd, number)
        except OSError:
            pass  # what it watched has gone

    def events(self) -> list[tuple[int, int, str]]:
        """What happened since: (number of `add`, mask, name in the directory) of each event."""
        found = []
        try:
            while data := os.read(self.fd, 1 << 16):
                at = 0
                while at < len(data):  # struct inotify_event: wd, mask, cookie, len, name
                    number, mask, _, size = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8, 12))
                    name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                    found.append((number, mask, os.fsdecode(name)))
                    at += 16 + size
        except BlockingIOError:
            pass
        return found

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
