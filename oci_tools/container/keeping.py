"""Descriptors that `ocid` holds for a container's monitor, so that they outlive it: OCI_RUN/ocid.keep.

    -> a datagram, "ID master" with that of its terminal, or "ID stdin" with the writing end of its input
    -> "ID stdin" without one: let go of it, for the container is to read the end

Without an `ocid` nobody listens: a terminal, and an input that is open, end with their monitor.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from struct import pack

from oci_tools import fs


def give(container: str, name: str, fd: int) -> None:
    """Have a descriptor held under a name."""
    _send(f"{container} {name}", [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])


def let_go(container: str, name: str) -> None:
    """Have it closed."""
    _send(f"{container} {name}", [])


def _send(text: str, fds: list[tuple[int, int, bytes]]) -> None:
    try:
        directory = os.open(fs.run(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/ocid.keep")  # the path itself may be too long for one
        sock.sendmsg([text.encode()], fds, MSG_DONTWAIT)
    except OSError:
        pass  # nobody keeps
    finally:
        sock.close()
        os.close(directory)
