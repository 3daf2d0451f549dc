"""UDP to a published port that the kernel does not translate, carried to the container and back, as relay.py does TCP.

Every client, with the address that it spoke to, has a socket of its own towards the container, so that answers find
their way; it is closed when nothing was said for as long as docker's proxy waits.
"""

from __future__ import annotations

import select
import time
from _socket import AF_INET, AF_INET6, CMSG_SPACE, IPPROTO_IPV6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

IDLE = 90.0  # seconds
_RECVPKTINFO, _PKTINFO = 49, 50  # IPV6_...
_MOST = 1024  # clients
_LARGEST = 1 << 16
_BURST = 64  # datagrams of one socket before others have their turn


class Flow:
    """What one client says to one address of the host."""

    def __init__(self, key: Any, far: socket, near: socket) -> None:
        self.key = key  # the descriptor of the host's socket, the client, the address it spoke to
        self.far = far
        self.near = near
        self.since = 0.0


class Datagrams:
    """`is_room(fd)` says whether there may be this descriptor."""

    def __init__(self, epoll: select.epoll, is_room: Callable[[int], bool]) -> None:
        self._epoll = epoll
        self._is_room = is_room
        self._ports: dict[int, tuple[socket, tuple[str, int]]] = {}
        self._flows: dict[Any, Flow] = {}  # that which was used longest ago comes first
        self._fars: dict[int, Flow] = {}

    def add(self, sock: socket, target: tuple[str, int]) -> None:
        """Carry what comes to a socket of the host."""
        sock.setblocking(False)
        sock.setsockopt(IPPROTO_IPV6, _RECVPKTINFO, 1)
        self._ports[sock.fileno()] = (sock, target)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def drop(self, sock: socket) -> None:
        """No more; whoever calls closes it."""
        if self._ports.pop(sock.fileno(), None):
            for flow in [each for each in self._flows.values() if each.near is sock]:
                self._close(flow)

    def turn(self, fd: int) -> bool:
        """Carry what is there; False if the descriptor is none of ours."""
        try:
            if fd in self._ports:
                self._inwards(*self._ports[fd])
            elif fd in self._fars:
                self._outwards(self._fars[fd])
            else:
                return False
        except OSError:
            pass  # nothing more; nobody listens in the container; or its answer was not wanted
        return True

    def _inwards(self, near: socket, target: tuple[str, int]) -> None:
        for _ in range(_BURST):
            data, ancillary, _, client = near.recvmsg(_LARGEST, CMSG_SPACE(20))
            info = next((sent for _, kind, sent in ancillary if kind == _PKTINFO), b"")
            key = (near.fileno(), client, info)
            flow = self._flows.pop(key, None) or self._open(key, near, target)
            if flow is None:
                continue
            flow.since = time.monotonic()
            self._flows[key] = flow
            try:
                flow.far.send(data)
            except OSError:
                continue  # of this client alone

    def _open(self, key: Any, near: socket, target: tuple[str, int]) -> Flow | None:
        if len(self._flows) >= _MOST:
            self._close(next(iter(self._flows.values())))
        far = socket(AF_INET6 if ":" in target[0] else AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            if not self._is_room(far.fileno()):
                raise OSError
            far.connect(target)
        except OSError:
            far.close()
            return None
        flow = Flow(key, far, near)
        self._fars[far.fileno()] = flow
        self._epoll.register(far.fileno(), select.EPOLLIN)
        return flow

    def _outwards(self, flow: Flow) -> None:
        _, client, info = flow.key
        for _ in range(_BURST):
            data = flow.far.recv(_LARGEST)
            flow.since = time.monotonic()
            self._flows[flow.key] = self._flows.pop(flow.key)
            # From the address it was sent to; the way out is for the routes to say, save from an address of one link.
            told = info if info[:2] == b"\xfe\x80" else info[:16] + bytes(4)
            flow.near.sendmsg([data], [(IPPROTO_IPV6, _PKTINFO, told)] if info else [], 0, client)

    def _close(self, flow: Flow) -> None:
        del self._flows[flow.key]
        del self._fars[flow.far.fileno()]
        flow.far.close()  # which takes it out of the epoll set

    def wait(self) -> float:
        """Seconds until somebody has said nothing for too long; -1 for ever."""
        first = next(iter(self._flows.values()), None)
        return -1 if first is None else max(0.0, first.since + IDLE - time.monotonic())

    def expire(self) -> None:
        now = time.monotonic()
        for flow in list(self._flows.values()):
            if flow.since + IDLE > now:
                return
            self._close(flow)
