"""What the caller of a command left open, and what it closed."""

from __future__ import annotations

import os
import stat

from oci_tools.errors import Error, reason
from oci_tools.linux import process

_NULL = os.makedev(1, 3)


def settle(preserve: int = 0) -> None:
    """Let what the caller leaked get into no hook and no container."""
    process.close_range(3 + preserve, flags=process.CLOSE_RANGE_CLOEXEC)


def need(count: int) -> int:
    """The count, if so many from 3 on are open; in runc's words if not."""
    for number in range(count):
        try:
            os.fstat(3 + number)
        except OSError as error:
            cause = f"preserved-fd {number}: {reason(error)}"
            raise Error("cannot preserve descriptor", str(3 + number), cause) from None
    return count


def lose(stream: int) -> None:
    """Have a stream that is not to be ours empty, or lost."""
    fd = os.open("/dev/null", os.O_RDWR)
    if fd != stream:
        os.dup2(fd, stream)
        os.close(fd)


def only(words: list[str]) -> int:
    """The count from 3 on in which all of these are, "4" or "7,9"; what else of the caller's is there goes."""
    fds = [int(each) if each.isascii() and each.isdigit() else -1 for word in words for each in word.split(",")]
    for fd in fds:
        try:
            os.fstat(fd)
        except (OSError, OverflowError):
            raise Error("cannot preserve descriptor", str(fd), "it is not open") from None
        if fd < 3:
            raise Error("cannot preserve descriptor", str(fd), "it is a standard stream")
    for fd in range(3, max(fds)):
        if fd not in fds:
            process.close_range(fd, fd, process.CLOSE_RANGE_CLOEXEC)
    return max(fds) - 2


def own_streams(uid: int) -> None:
    """Let the user reopen its own stdout (`/dev/stdout`) when that is a pipe or socket.

    Files and terminals of the caller stay the caller's.  The caller's /dev/null becomes the container's,
    if that is one (CVE-2025-31133): no mount of the host is left in sight, which a checkpoint could not save.
    """
    for fd in (0, 1, 2):
        try:
            found = os.fstat(fd)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
                _reopen_null(fd)
            elif found.st_uid != uid and (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
                os.fchown(fd, uid, -1)
        except OSError:
            pass  # closed, or not ours to give away


def _reopen_null(fd: int) -> None:
    inner = os.open("/dev/null", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(inner)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
        os.dup2(inner, fd)
    os.close(inner)
