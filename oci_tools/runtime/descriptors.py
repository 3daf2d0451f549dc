"""What the caller of a command left open, and what it closed."""

from __future__ import annotations

import os

from oci_tools.linux import process


def settle(preserve: int = 0) -> None:
    """Let what the caller leaked get into no hook and no container, and the standard streams be there."""
    process.close_range(3 + preserve, flags=process.CLOSE_RANGE_CLOEXEC)
    open_streams()


def open_streams() -> None:
    """Streams that the caller closed become /dev/null, or the next open file would be one."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)
