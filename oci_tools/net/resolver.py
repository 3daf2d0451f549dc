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
from oci_tools.linux import process
from oci_tools.net import place
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.net.answers import Names

PORT = 53
NOBODY = 65534
_BACKLOG = 64
_BUFFER = 1 << 20  # bytes of questions that wait
_SO_RCVBUF = 8


def ensure(network: Network) -> None:
    """Start it unless it runs.  Under a Change."""
    lock = fs.Lock(f"{place.on(network.name)}/resolver", timeout=0)
    try:
        lock.__enter__()
    except Busy:
        return
    sockets: list[socket] = []
    try:
        for pool in network.pools:
            sockets += _bind(pool.gateway_text, network.name)
        _fork(network, lock, sockets)
    finally:
        lock.__exit__()
        for sock in sockets:
            sock.close()


def _bind(gateway: str, network: str) -> list[socket]:
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
            sock.bind((gateway, PORT))
            if kind == SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError as error:
            for each in made:
                each.close()
            hint = "create --disable-dns makes a network without one"
            raise Error("cannot start the resolver of network", network, error, hint) from None
    return made


def _fork(network: Network, lock: fs.Lock, sockets: list[socket]) -> None:
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _stay(network, lock, sockets)
    finally:
        os._exit(0)


def _stay(network: Network, lock: fs.Lock, sockets: list[socket]) -> None:
    """The process that stays.  Does not return."""
    try:
        from oci_tools.net import answers, questions

        os.chdir("/")
        os.pwrite(lock.fd, b"%-10d\n" % os.getpid(), 0)
        change = os.open(f"{place.state()}/lock", os.O_RDWR | os.O_CLOEXEC)
        top = os.open(f"{place.state()}/on", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        names = answers.Names(top, network)
        _keep_only({lock.fd, change, top, names.fileno(), *(sock.fileno() for sock in sockets)})
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(b"oci-net-dns")
        _become_nobody()
        _default_signals()
        with questions.Server(sockets, names, network) as server:
            server.serve(lambda: _ends(names, lock.fd, change))
    finally:
        os._exit(0)


def _ends(names: Names, lock: int, change: int) -> bool:
    """Whether nobody is left on the network: looked at while nobody may join it; then this is no resolver any more."""
    import fcntl

    fcntl.flock(change, fcntl.LOCK_EX)
    if names.read():
        fcntl.flock(change, fcntl.LOCK_UN)
        return False
    os.close(lock)
    return True


def _keep_only(kept: set[int]) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # that of the directory itself


def _become_nobody() -> None:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        pass  # in a user namespace without a nobody: it is no more than its caller anyway


def _default_signals() -> None:
    import _signal

    for number in (1, 2, 13, 15):  # the caller may have ignored or caught them
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
