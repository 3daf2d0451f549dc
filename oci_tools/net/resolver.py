"""The resolver of a network: one small process on the gateway's port 53, there as long as a container is.

    $OCI_RUN/net/on/NETWORK/resolver    its pid; locked by it while it runs

Made by a fork of whoever attaches the first container, so that a start waits 1 ms for it and not for an interpreter;
the sockets are bound before, and what is asked meanwhile waits in them.  It runs as nobody, with the directory of
names open and nothing else; the DNS library is loaded with the first question, which most one-shots never ask.
"""

from __future__ import annotations

import os
from _socket import (
    AF_INET,
    AF_INET6,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)

from oci_tools import fs
from oci_tools.errors import Busy, Error
from oci_tools.net import place, staying
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.net.answers import Names

PORT = 53
_BACKLOG = 64
_BUFFER = 1 << 20  # bytes of questions that wait
_SO_RCVBUF, _SO_BINDTODEVICE = 8, 25


def ensure(network: Network) -> None:
    """Start it unless it runs.  Under a Change."""
    lock = fs.Lock(f"{place.on(network.name)}/resolver", timeout=0)
    try:
        lock.__enter__()
    except Busy:
        return
    sockets: list[socket] = []
    try:
        for pool in network.hosted:
            sockets += _bind(pool.gateway_text, network)
        staying.start(lambda: _stay(network, lock, sockets))
    finally:
        lock.__exit__()
        for sock in sockets:
            sock.close()


def _bind(gateway: str, network: Network) -> list[socket]:
    family = AF_INET6 if ":" in gateway else AF_INET
    made = []
    for kind in (SOCK_DGRAM, SOCK_STREAM):
        sock = socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)
        made.append(sock)
        try:
            if kind == SOCK_STREAM:
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            else:
                sock.setsockopt(SOL_SOCKET, _SO_RCVBUF, _BUFFER)
            if network.get("vrf", ""):  # an address of a link in a VRF is there only for who is in it
                sock.setsockopt(SOL_SOCKET, _SO_BINDTODEVICE, os.fsencode(network.get("vrf", "")) + b"\0")
            sock.bind((gateway, PORT))
            if kind == SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError as error:
            for each in made:
                each.close()
            hint = "create --disable-dns makes a network without one"
            raise Error("cannot start the resolver of network", network.name, error, hint) from None
    return made


def _stay(network: Network, lock: fs.Lock, sockets: list[socket]) -> None:
    """The process that stays."""
    from oci_tools.net import answers, questions

    os.pwrite(lock.fd, b"%-10d\n" % os.getpid(), 0)
    change = os.open(f"{place.state()}/lock", os.O_RDWR | os.O_CLOEXEC)
    top = os.open(f"{place.state()}/on", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = answers.Names(top, network)
    kept = {lock.fd, change, top, names.fileno(), *(sock.fileno() for sock in sockets)}
    staying.settle(b"oci-net-dns", kept)
    with questions.Server(sockets, names, network) as server:
        server.serve(lambda: _ends(names, lock.fd, change))


def _ends(names: Names, lock: int, change: int) -> bool:
    """Whether nobody is left on the network: looked at while nobody may join it; then this is no resolver any more."""
    import fcntl

    fcntl.flock(change, fcntl.LOCK_EX)
    if names.read():
        fcntl.flock(change, fcntl.LOCK_UN)
        return False
    os.close(lock)
    return True
