"""Descriptors that `ocid` holds for a container's monitor, so that they outlive it: OCI_RUN/ocid.keep.

    -> the container's ID in a datagram, with the master of its terminal

Without an `ocid` nobody listens, and a terminal ends with its monitor.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from struct import pack

from oci_tools import fs


def give(container: str, fd: int) -> None:
    """Have a descriptor held."""
    try:
        directory = os.open(fs.run(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/ocid.keep")  # the path itself may be too long for one
        sock.sendmsg([container.encode()], [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))], MSG_DONTWAIT)
    except OSError:
        pass  # nobody keeps
    finally:
        sock.close()
        os.close(directory)
