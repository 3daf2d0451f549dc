"""Descriptors that others hold for a container's monitor, so that they outlive it: OCI_RUN/ocid.keep is `ocid`'s
socket, containers/ID/io/keep that of its guard (guarding.py), which it has where no `ocid` was when it was started.

    -> a datagram, "ID master" with that of its terminal, "ID stdin" with the writing end of its input, or "ID payload"
       with a pidfd of its first process
    -> "ID stdin" without one: let go of it, for the container is to read the end
"""

from __future__ import annotations

import os
from _socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOL_SOCKET,
    socket,
)
from struct import pack, unpack

from oci_tools import fs
from oci_tools.container import names


def give(container: str, name: str, fd: int) -> None:
    """Have a descriptor held under a name."""
    _send(container, name, [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])


def let_go(container: str, name: str) -> None:
    """Have it closed."""
    _send(container, name, [])


def ocid() -> bool:
    """Whether there is an `ocid` that keeps what it is given."""
    sock = _connected(fs.run(), "ocid.keep")
    if sock is not None:
        sock.close()
    return sock is not None


def listen(container: str) -> socket:
    """The socket of a container's guard."""
    os.makedirs(_place(container), 0o700, exist_ok=True)
    directory = os.open(_place(container), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        os.unlink("keep", dir_fd=directory)
    except FileNotFoundError:
        pass  # it has had none
    sock.bind(f"/proc/self/fd/{directory}/keep")
    os.close(directory)
    return sock


def taken(sock: socket) -> tuple[str, int]:
    """What was sent there: a name, and a descriptor or -1."""
    data, ancillary, _, _ = sock.recvmsg(256, CMSG_LEN(4), MSG_CMSG_CLOEXEC)
    fds = [unpack("i", passed)[0] for level, kind, passed in ancillary if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)]
    return data.decode("ascii", "replace").partition(" ")[2], fds[0] if fds else -1


def _place(container: str) -> str:
    return f"{names.place(container)}/io"


def _send(container: str, name: str, fds: list[tuple[int, int, bytes]]) -> None:
    for directory, base in (fs.run(), "ocid.keep"), (_place(container), "keep"):
        sock = _connected(directory, base)
        if sock is None:
            continue
        try:
            sock.sendmsg([f"{container} {name}".encode()], fds, MSG_DONTWAIT)
        except OSError:
            pass  # it takes no more
        finally:
            sock.close()


def _connected(directory: str, name: str) -> socket | None:
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")  # the path itself may be too long for one
        return sock
    except OSError:
        sock.close()
        return None  # nobody listens
    finally:
        os.close(fd)
