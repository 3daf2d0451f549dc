"""The process that holds published ports (holder.py): its loop, and connections that it carries on.

Both sides of a connection are hostile: nothing blocks, and what one side does not take is not read from the other.
"""

from __future__ import annotations

import select
from _socket import (
    AF_INET,
    AF_INET6,
    CMSG_SPACE,
    SHUT_WR,
    SO_ACCEPTCONN,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from struct import iter_unpack

from oci_tools.net.datagrams import Datagrams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_MESSAGE = 1 << 16
_FDS = 8  # descriptors in a message
_AHEAD = 1 << 18  # bytes that one side may be ahead of the other
_PIECE = 1 << 16
_MOST = 1024  # connections
_SPARE = 16  # descriptors
_SCTP = 132


class Side:
    """One end of a connection: its socket, what is to be sent, whether it has said all."""

    def __init__(self, sock: socket, name: str) -> None:
        self.sock = sock
        self.name = name
        self.waiting = 0  # bytes to be sent
        self.connected = self.watched = True
        self.ended = self.shut = False
        self.other = self
        self._going = bytearray()

    def read(self) -> None:
        """Take what there is, for the other end."""
        data = self.sock.recv(_PIECE)
        self.ended = not data
        self.other._going += data
        self.other.waiting += len(data)

    def write(self) -> None:
        """Send as much as goes; and the end, when there is one."""
        if not self.connected:
            return  # to shut it down now would be to give it up
        while self._going:
            sent = self.sock.send(self._going)
            del self._going[:sent]
            self.waiting -= sent
        if self.other.ended and not self.shut:
            self.sock.shutdown(SHUT_WR)
            self.shut = True


class Holder:
    """`most` descriptors may be open: what is more is not held, so that there is one for who says so."""

    def __init__(self, listener: socket, most: int) -> None:
        self._listener = listener
        self._most = most - _SPARE
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._held: dict[str, list[socket]] = {}
        self._open: dict[int, tuple[socket, str, tuple[str, int]]] = {}  # those that listen
        self._sides: dict[int, Side] = {}
        self._datagrams = Datagrams(self._epoll, lambda fd: fd <= self._most)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()

    def serve(self) -> None:
        """Until the last port is let go."""
        while True:
            for fd, events in self._epoll.poll(self._datagrams.wait()):
                if fd == self._listener.fileno():
                    if self._command():
                        return
                elif fd in self._open:
                    self._accept(*self._open[fd])
                elif fd in self._sides:
                    self._carry(self._sides[fd], events)
                else:
                    self._datagrams.turn(fd)
            self._datagrams.expire()

    # -- commands ------------------------------------------------------------------------

    def _command(self) -> bool:
        """Do what is asked; whether that was all."""
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return False
        client = socket(fileno=fd)
        try:
            client.settimeout(5.0)
            data, rights, _, _ = client.recvmsg(_MESSAGE, CMSG_SPACE(4 * _FDS))
            fds = [number for _, _, sent in rights for (number,) in iter_unpack("i", sent)]
            word, *names = data.decode("ascii", "replace").split()
            if word == "+":
                self.hold(names[0], [socket(fileno=each) for each in fds], (names[1], int(names[2])))
            else:
                for name in names:
                    self._drop(name)
            if not self._held:
                self._listener.close()  # before the answer: who comes next starts another
            client.send(b".")
        except (OSError, ValueError, IndexError):
            pass
        finally:
            client.close()
        return not self._held

    def hold(self, name: str, sockets: list[socket], target: tuple[str, int]) -> None:
        """Keep these sockets of a port; what comes to those that are not translated is carried to `target`."""
        self._drop(name)
        if any(sock.fileno() > self._most for sock in sockets):
            for sock in sockets:
                sock.close()
            sockets = []
        self._held[name] = sockets
        for sock in sockets:
            if sock.type & 0xF == SOCK_DGRAM:
                if sock.family == AF_INET6:
                    self._datagrams.add(sock, target)
            elif sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
                sock.setblocking(False)
                self._open[sock.fileno()] = (sock, name, target)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _drop(self, name: str) -> None:
        for sock in self._held.pop(name, ()):
            self._open.pop(sock.fileno(), None)
            self._datagrams.drop(sock)
            sock.close()
        for side in [each for each in self._sides.values() if each.name == name]:
            self._close(side)

    # -- connections ----------------------------------------------------------------------

    def _accept(self, listener: socket, name: str, target: tuple[str, int]) -> None:
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        near = socket(fileno=fd)
        # What listens for IPv4 only shows that it is there (a plain user's pasta looks for that).
        if len(self._sides) >= 2 * _MOST or fd > self._most or listener.family != AF_INET6:
            return near.close()
        kind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC
        far = socket(AF_INET6 if ":" in target[0] else AF_INET, kind, listener.proto)
        end: type[Side] = Side
        try:
            if listener.proto == _SCTP:
                from oci_tools.net import messages

                end = messages.Messages
                messages.prepare(far)
            one, other = end(near, name), end(far, name)
            near.setblocking(False)
            far.connect(target)
        except BlockingIOError:
            pass
        except OSError:
            near.close()
            return far.close()
        one.other, other.other, other.connected = other, one, False
        for side in (one, other):
            self._sides[side.sock.fileno()] = side
            self._epoll.register(side.sock.fileno(), select.EPOLLIN)
            self._watch(side)
        return None

    def _carry(self, side: Side, events: int) -> None:
        other = side.other
        side.connected |= bool(events & select.EPOLLOUT)
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not side.ended:
                _try(side.read)
            for each in (side, other):
                _try(each.write)
        except OSError:
            return self._close(side)
        if side.shut and other.shut:
            return self._close(side)
        for each in (side, other):
            self._watch(each)
        return None

    def _watch(self, side: Side) -> None:
        fd = side.sock.fileno()
        if side.ended and side.shut:  # what the kernel would say all the time
            if side.watched:
                self._epoll.unregister(fd)
                side.watched = False
            return
        listens = not side.ended and side.other.waiting < _AHEAD
        writes = side.waiting or not side.connected
        self._epoll.modify(fd, (select.EPOLLIN if listens else 0) | (select.EPOLLOUT if writes else 0))

    def _close(self, side: Side) -> None:
        for each in (side, side.other):
            self._sides.pop(each.sock.fileno(), None)
            each.sock.close()


def _try(step: Callable[[], None]) -> None:
    """Do what can be done without waiting."""
    try:
        step()
    except BlockingIOError:
        pass
