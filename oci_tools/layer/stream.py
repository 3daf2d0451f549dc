"""Where an archive is written to: a descriptor that takes all it is given, and what is in files without a copy."""

from __future__ import annotations

import fcntl
import os

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Tell = Callable[[int], None]  # of how many bytes went so far

_PIPE = 1 << 20  # bytes: more of them would be more than a plain user may have
_MOVED, _TOLD = 1 << 30, 1 << 23  # bytes that go at once, where nobody wants to know how many went, and where one does


class Stream:
    """Standard output, a pipe or a file; `path` is how a file is called in errors, None for standard output."""

    def __init__(self, fd: int, path: str | None = None, tell: Tell | None = None) -> None:
        self._fd = fd
        self._path = path
        self._tell = tell
        self._most = _TOLD if tell else _MOVED
        self._went = 0
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
        except OSError:
            pass  # it is none, or the user has too many of that size

    def write(self, data: bytes) -> None:
        try:
            fs.write_all(self._fd, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Error("cannot write" if self._path else "cannot write standard output", self._path, error) from None
        self._count(len(data))

    def move(self, fd: int, count: int) -> int:
        """sendfile(2): into a pipe go the pages themselves."""
        try:
            moved = os.sendfile(self._fd, fd, None, min(count, self._most))
        except OSError:
            return 0  # what is wrong with which of the two, reading or writing says
        self._count(moved)
        return moved

    def _count(self, went: int) -> None:
        self._went += went
        if self._tell:
            self._tell(self._went)
