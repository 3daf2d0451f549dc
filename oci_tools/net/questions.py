"""The resolver's sockets: questions over UDP and TCP, answered from `answers.py` or by the host's resolvers.

Every client is hostile.  Nothing blocks: a connection that says nothing, half a message, or more than it reads is
closed after a while, and the oldest makes room for the newest, of the same client first.  A question that is passed on
goes out from a socket of its own with a number of its own, so that an answer is hard to forge (RFC 5452).
"""

from __future__ import annotations

import os
import select
import time
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, socket
from struct import pack, unpack_from

from oci_tools.net import answers, upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from oci_tools.net.conflist import Network

IDLE = 10.0  # seconds that a connection may do nothing
PATIENCE = 2.5  # seconds for one of the host's resolvers
MOST_CONNECTIONS, MOST_OF_ONE = 128, 16
MOST_PASSED_ON = 1024
MOST_WAITING = 64  # questions of one connection that are passed on
_BURST = 64  # datagrams taken before anything else is looked at
_UNREAD = 1 << 17  # bytes of answers that a client has not taken


class Connection:
    """A client's TCP connection: what came of a message, what is to be sent, how many answers are due."""

    def __init__(self, sock: socket, client: str) -> None:
        self.sock = sock
        self.client = client
        self.since = time.monotonic()
        self.came = bytearray()
        self.going = bytearray()
        self.due = 0
        self.ended = False  # it sends no more questions


class Passed:
    """A question that one of the host's resolvers was asked: whose it is, and where to go if there is no answer."""

    def __init__(self, query: bytes, reply: Callable[[bytes], None], servers: list[str], tcp: bool) -> None:
        self.query = query
        self.reply = reply
        self.servers = servers
        self.tcp = tcp
        self.number = b""
        self.deadline = 0.0
        self.came = bytearray()
        self.sent = False


class _Datagram:
    """Where an answer goes over UDP."""

    def __init__(self, sock: socket, client: Any) -> None:
        self._to = (sock, client)

    def __call__(self, data: bytes) -> None:
        sock, client = self._to
        _send(sock, data, client)


class _Stream:
    """Where it goes over TCP."""

    def __init__(self, reply: Callable[[Connection, bytes], None], one: Connection) -> None:
        self._to = (reply, one)

    def __call__(self, data: bytes) -> None:
        reply, one = self._to
        reply(one, data)


class Server:
    """Serves until `ends` says so, which is asked when the names have changed."""

    def __init__(self, sockets: list[Any], names: answers.Names, network: Network) -> None:
        self._names = names
        self._servers = upstream.Servers(network)
        self._epoll = select.epoll()
        self._datagrams: dict[int, socket] = {}
        self._listeners: dict[int, socket] = {}
        self._connections: dict[int, Connection] = {}
        self._passed: dict[int, tuple[socket, Passed]] = {}
        for sock in sockets:
            (self._datagrams if sock.type & 0xF == SOCK_DGRAM else self._listeners)[sock.fileno()] = sock
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._epoll.register(names.fileno(), select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()

    def serve(self, ends: Callable[[], bool]) -> None:
        while True:
            ready = dict(self._epoll.poll(self._wait()))
            if self._names.fileno() in ready and not self._names.read() and ends():
                return
            for fd, events in ready.items():
                self._turn(fd, events)
            self._expire()

    def _turn(self, fd: int, events: int) -> None:
        if fd in self._datagrams:
            self._take(self._datagrams[fd])
        elif fd in self._listeners:
            self._accept(self._listeners[fd])
        elif fd in self._connections:
            self._talk(fd, events)
        elif fd in self._passed:
            self._answered(fd, events)

    # -- UDP ---------------------------------------------------------------------------

    def _take(self, sock: socket) -> None:
        answer = self._names.answer
        for _ in range(_BURST):
            try:
                query, client = sock.recvfrom(4096)
            except OSError:
                return  # nothing more; or an answer of ours that nobody wanted
            made = answer(query, client[0], False)
            if made is None:
                self._pass_on(query, client[0], _Datagram(sock, client), False)
            elif made:
                _send(sock, made, client)

    # -- TCP -----------------------------------------------------------------------------

    def _accept(self, listener: socket) -> None:
        try:
            fd, client = listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        sock = socket(listener.family, SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        one = Connection(sock, client[0])
        of_one = [at for at, each in self._connections.items() if each.client == one.client]
        if len(of_one) >= MOST_OF_ONE:
            self._close(of_one[0])
        elif len(self._connections) >= MOST_CONNECTIONS:
            self._close(next(iter(self._connections)))
        self._connections[fd] = one
        self._epoll.register(fd, select.EPOLLIN)

    def _talk(self, fd: int, events: int) -> None:
        one = self._connections[fd]
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not one.ended:
                data = one.sock.recv(1 << 16)
                one.ended = not data
                one.came += data
                self._read(one)
            if one.going:
                del one.going[: one.sock.send(one.going)]
                one.since = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            return self._close(fd)
        if (one.ended and not one.due and not one.going) or len(one.going) > _UNREAD:
            return self._close(fd)
        self._watch(fd, one)

    def _watch(self, fd: int, one: Connection) -> None:
        wanted = 0 if one.ended or one.due >= MOST_WAITING else select.EPOLLIN
        self._epoll.modify(fd, wanted | (select.EPOLLOUT if one.going else 0))

    def _read(self, one: Connection) -> None:
        """Answer the whole messages that came: each is two bytes of length, then so many (RFC 1035, 4.2.2)."""
        while len(one.came) >= 2 and one.due < MOST_WAITING:
            (length,) = unpack_from("!H", one.came)
            if len(one.came) < 2 + length:
                return
            query = bytes(one.came[2 : 2 + length])
            del one.came[: 2 + length]
            one.since = time.monotonic()
            made = self._names.answer(query, one.client, True)
            if made is None:
                one.due += 1
                self._pass_on(query, one.client, _Stream(self._reply, one), True)
            elif made:
                one.going += pack("!H", len(made)) + made
            else:
                one.ended = True  # who sends no questions is not listened to

    def _reply(self, one: Connection, data: bytes) -> None:
        fd = one.sock.fileno()
        one.due -= 1
        if self._connections.get(fd) is one:
            one.going += pack("!H", len(data)) + data
            self._read(one)  # what had to wait
            self._talk(fd, 0)

    def _close(self, fd: int) -> None:
        self._connections.pop(fd).sock.close()

    # -- the host's resolvers ---------------------------------------------------------------

    def _pass_on(self, query: bytes, client: str, reply: Callable[[bytes], None], tcp: bool) -> None:
        if len(self._passed) >= MOST_PASSED_ON:
            return reply(answers.failure(query, answers.SERVFAIL))
        self._ask(Passed(query, reply, self._names.servers(client) or self._servers.now(), tcp))

    def _ask(self, one: Passed) -> None:
        """Ask the next resolver; with none left, say that it failed."""
        while one.servers:
            server = one.servers.pop(0)
            one.number = os.urandom(2)
            kind = SOCK_STREAM if one.tcp else SOCK_DGRAM
            try:
                sock = socket(AF_INET6 if ":" in server else AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)
            except OSError:
                continue
            try:
                sock.connect((server, upstream.PORT))
            except BlockingIOError:
                pass
            except OSError:
                sock.close()
                continue
            one.came.clear()
            one.sent = False
            one.deadline = time.monotonic() + PATIENCE
            self._passed[sock.fileno()] = (sock, one)
            self._epoll.register(sock.fileno(), select.EPOLLOUT | select.EPOLLIN)
            return
        one.reply(answers.failure(one.query, answers.SERVFAIL))

    def _answered(self, fd: int, events: int) -> None:
        sock, one = self._passed[fd]
        try:
            if not one.sent:
                message = one.number + one.query[2:]
                sock.send((pack("!H", len(message)) if one.tcp else b"") + message)
                one.sent = True
                return self._epoll.modify(fd, select.EPOLLIN)
            data = sock.recv(1 << 16)
            if one.tcp:
                one.came += data
                whole = len(one.came) >= 2 and len(one.came) >= 2 + unpack_from("!H", one.came)[0]
                if data and not whole:
                    return None
                data = bytes(one.came[2:]) if whole else b""
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if data and (data[:2] != one.number or answers.question(data) != answers.question(one.query)):
            return None if not one.tcp else self._next(fd)
        if not data or len(data) < 12 or (data[3] & 0xF in (answers.SERVFAIL, answers.REFUSED) and one.servers):
            return self._next(fd)
        self._forget(fd)
        one.reply(one.query[:2] + data[2:])
        return None

    def _next(self, fd: int) -> None:
        one = self._forget(fd)
        self._ask(one)

    def _forget(self, fd: int) -> Passed:
        sock, one = self._passed.pop(fd)
        sock.close()  # which takes it out of the epoll set
        return one

    # -- time ----------------------------------------------------------------------------------

    def _wait(self) -> float:
        """Seconds until somebody has waited too long; -1 for ever."""
        ends = [one.deadline for _, one in self._passed.values()]
        ends += [one.since + IDLE for one in self._connections.values()]
        return max(0.0, min(ends) - time.monotonic()) if ends else -1

    def _expire(self) -> None:
        if not self._passed and not self._connections:
            return
        now = time.monotonic()
        for fd in [fd for fd, (_, one) in self._passed.items() if one.deadline <= now]:
            self._next(fd)
        for fd in [fd for fd, one in self._connections.items() if one.since + IDLE <= now]:
            self._close(fd)


def _send(sock: socket, data: bytes, client: Any) -> None:
    try:
        sock.sendto(data, client)
    except OSError:
        pass  # no room, or nobody there: who asked will ask again
