"""Descriptors that others hold for a container's monitor, so that they outlive it.

    OCI_RUN/ocid.keep           `ocid`'s socket
    OCI_RUN/guards/*            those of guards of all containers (guarding.py)
    containers/ID/io/guards/*   those of its own guards, which it has where no `ocid` was when it was started

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
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOL_SOCKET,
    socket,
)
from struct import pack, unpack

from oci_tools import fs
from oci_tools.container import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 1.0  # seconds in which who listens should have room for one more: ten wait at most (max_dgram_qlen)


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


def guarded(container: str) -> bool:
    """Whether somebody will have another monitor take over if there is none."""
    for directory, base in _listeners(container):
        if sock := _connected(directory, base):
            sock.close()
            return True
    return False


def common() -> str:
    """Where the guards of all containers listen."""
    return f"{fs.run()}/guards"


def own(container: str) -> str:
    """Where those of one listen."""
    return f"{names.place(container)}/io/guards"


def listen(where: str) -> tuple[socket, str]:
    """The socket of another guard, and its path, in a directory that there is; what dead ones have left is removed."""
    for name in names.listed(where):
        if (other := _connected(where, name)) is None:
            unlink(f"{where}/{name}")
        else:
            other.close()
    name = os.urandom(4).hex()
    directory = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)
    return sock, f"{where}/{name}"


def unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # with its container, or by another


def taken(sock: socket) -> tuple[str, str, int]:
    """What was sent there: a container, a name, and a descriptor or -1."""
    data, ancillary, _, _ = sock.recvmsg(256, CMSG_LEN(4), MSG_CMSG_CLOEXEC)
    fds = [unpack("i", passed)[0] for level, kind, passed in ancillary if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)]
    container, _, name = data.decode("ascii", "replace").partition(" ")
    return container, name, fds[0] if fds else -1


def _send(container: str, name: str, fds: list[tuple[int, int, bytes]]) -> None:
    for directory, base in _listeners(container):
        sock = _connected(directory, base)
        if sock is None:
            continue
        try:
            sock.settimeout(_PATIENCE)
            sock.sendmsg([f"{container} {name}".encode()], fds)
        except OSError:
            pass  # it takes no more
        finally:
            sock.close()


def _listeners(container: str) -> Iterator[tuple[str, str]]:
    yield fs.run(), "ocid.keep"
    for place in common(), own(container):
        for each in names.listed(place):
            yield place, each


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
