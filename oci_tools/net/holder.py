"""Published ports are held by sockets of the host, so that no other program can take them: by one small process.

    $OCI_RUN/net/holder         its socket (SOCK_SEQPACKET)
    $OCI_RUN/net/holder.pid     its pid, of the last one if there is none

    + NAME ADDRESS PORT     with descriptors: hold these, of the port NAME (ports.py), which is PORT of the container
    - NAME...               let go
    .                       the answer: done

What comes for a port is translated by the firewall and never seen here, with two exceptions: the kernel translates no
packet to [::1], and none of IPv6 to a container that has only IPv4.  What comes to sockets for these is carried to the
container (relay.py, datagrams.py, messages.py), as docker's proxy does.
The process is a fork of whoever publishes the first port, runs as nobody, and ends with the last.  Under a Change.
"""

from __future__ import annotations

import os
from _socket import AF_INET6, AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, SOL_SOCKET, socket
from struct import pack

from oci_tools.errors import Error
from oci_tools.net import place, staying

LOOP6 = "::1"
_FILES = 1 << 16
_PATIENCE = 10.0  # seconds
_ABSENT = (2, 111)  # ENOENT, ECONNREFUSED: it was killed


def hold(name: str, sockets: list[socket], target: tuple[str, int]) -> None:
    """Let these sockets be kept, and closed here; those that listen are for the container's address and port."""
    message = f"+ {name} {target[0]} {target[1]}".encode()
    try:
        fds = [sock.fileno() for sock in sockets]
        rights = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))]
        if not _ask(message, rights):
            _begin(name, sockets, target)
    except OSError as error:
        raise Error("cannot hold port", name, error) from None
    finally:
        for sock in sockets:
            sock.close()


def drop(names: list[str]) -> None:
    """Let go of ports, if they are held."""
    try:
        _ask(" ".join(["-", *names]).encode(), [])
    except OSError:
        pass  # it has just been killed: nothing holds them


def _ask(message: bytes, rights: list[tuple[int, int, bytes]]) -> bool:
    """Say it and wait for the answer; False if nobody is there."""
    place_fd = os.open(place.state(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect(f"/proc/self/fd/{place_fd}/holder")  # the path itself may be too long for a socket
        sock.sendmsg([message], rights)
        return sock.recv(1) == b"."
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    finally:
        sock.close()
        os.close(place_fd)


def _begin(name: str, sockets: list[socket], target: tuple[str, int]) -> None:
    """Start it with its first port, and wait for nothing: who comes next waits."""
    place_fd = os.open(place.state(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
    try:
        try:
            os.unlink("holder", dir_fd=place_fd)
        except FileNotFoundError:
            pass
        sock.bind(f"/proc/self/fd/{place_fd}/holder")
        sock.listen(8)
        staying.start(lambda: _stay(sock, (name, sockets, target)), f"{place.state()}/holder.pid")
    finally:
        sock.close()
        os.close(place_fd)


def _stay(sock: socket, first: tuple[str, list[socket], tuple[str, int]]) -> None:
    import resource

    from oci_tools.net import relay

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, _FILES), max(most, _FILES)))  # a port is three
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    staying.settle(b"oci-net-ports", {sock.fileno(), *(each.fileno() for each in first[1])})
    with relay.Holder(sock, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) as held:
        held.hold(*first)
        held.serve()


def targets(addresses: list[str]) -> str:
    """Which of a container's addresses is carried to what is not translated: of IPv6 if there is one."""
    plain = [each.partition("/")[0] for each in addresses]
    return next((each for each in plain if ":" in each), plain[0] if plain else LOOP6)


def listening(hosts: tuple[str, ...], port: int, protocol: int = 0) -> list[socket]:
    """Sockets of TCP, or SCTP, over IPv6 with these addresses of the host; the last listens, all may share the port.

    They must be bound before one listens, as ones that may share an address; then they no longer may, save that which
    listens, with which nobody can: what it has accepted inherits it, and keeps the port from nobody when it has ended.
    """
    from _socket import SO_REUSEADDR, SOCK_STREAM

    made: list[socket] = []
    try:
        for host in hosts:
            sock = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol)
            made.append(sock)
            only_six(sock)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.bind((host, port))
        made[-1].listen(64)
        for sock in made[:-1]:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 0)
        return made
    except OSError:
        for sock in made:
            sock.close()
        raise


def only_six(sock: socket) -> None:
    from _socket import IPPROTO_IPV6, IPV6_V6ONLY

    sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
