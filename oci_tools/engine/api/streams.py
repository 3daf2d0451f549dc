"""attach: a connection becomes the container's streams.

Output is followed in the log, from what is there when the client comes on, so that a slow client holds nobody up and
a container that is not started yet can be attached to.  Input goes into the FIFO `io/stdin` once that
is there (container/keeper.py).  Without a terminal output is framed; with one it is raw, and keys detach.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import termios

from oci_tools.engine import containers
from oci_tools.engine.api import answers, logs, websocket
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.world import OPENED
from oci_tools.http import Hijacked, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container
    from oci_tools.engine.api.world import Subscription

KEYS = b"\x10\x11"  # ctrl-p ctrl-q
_READ = 1 << 16
_MOST = 1 << 20  # bytes of input that are held for a container that takes none
_LOOKS = 40  # times half a millisecond
_PATIENCE = 60.0  # seconds for a client that takes nothing


def attach(api: Api, asked: Asked) -> Response:
    one = _to_attach(api, asked)
    session = Attached(api, one, asked, framed=not one.tty)
    return hijacked(asked, one.tty, session.run)


def attach_by_websocket(api: Api, asked: Asked) -> Response:
    """The same for a browser: what is written to both streams as it is, in messages."""
    one = _to_attach(api, asked)
    headers = websocket.accepted(asked)
    session = Attached(api, one, asked, framed=False)
    kind = websocket.BINARY if asked.version >= (1, 28) else websocket.TEXT
    return Response(101, headers, upgrade=lambda sock: session.run(websocket.WebSocket(sock, kind)))


def _to_attach(api: Api, asked: Asked) -> Container:
    one = api.world.find(asked["id"])
    if one.status == "paused":
        raise Refused(409, f"container {one.id} is paused, unpause the container before attach")
    return one


def hijacked(asked: Asked, tty: bool, run: Callable[[Hijacked], None]) -> Response:
    """The answer that gives the connection to `run`: 101 where the client asks for it, else a bare 200."""
    framed = not tty and asked.version >= (1, 42) and asked.upgrade
    kind = ("Content-Type", answers.FRAMED if framed else answers.RAW)
    if asked.upgrade:
        return Response(101, [kind, ("Connection", "Upgrade"), ("Upgrade", "tcp")], upgrade=run)
    return Response(200, [kind], upgrade=run)


def keys(text: str) -> bytes:
    """The keys that detach: `ctrl-p,ctrl-q`, letters, `ctrl-[`."""
    if not text:
        return KEYS
    found = bytearray()
    for each in text.split(","):
        if len(each) == 1 and each.isascii():
            found.append(ord(each))
        elif each.startswith("ctrl-") and len(each) == 6 and (each[5].isalpha() or each[5] in "@[\\]^_"):
            found.append(ord(each[5].upper()) & 0x1F)
        else:
            raise Refused(400, f"Invalid detach keys ({text}) provided")
    return bytes(found)


class Input:
    """What a client types, with the keys that detach taken out: `left` once it has typed them."""

    def __init__(self, detach: bytes) -> None:
        self._keys = detach
        self._begun = b""
        self.left = False

    def typed(self, data: bytes) -> bytes:
        """What of it goes on."""
        if not self._keys:
            return data
        data = self._begun + data
        if self._keys in data:
            self.left, self._begun = True, b""
            return data.partition(self._keys)[0]
        held = next((n for n in range(len(self._keys) - 1, 0, -1) if data.endswith(self._keys[:n])), 0)
        self._begun = data[len(data) - held :] if held else b""
        return data[: len(data) - held]


def settle(sock: Hijacked) -> None:
    """Wait a moment until a client on this host has taken the head of the answer.

    Python's clients read heads through a buffer and then the bare socket: what came together with the head would
    be lost in that buffer.  No descriptor tells of it; SIOCOUTQ is asked.
    """
    if sock.sock.family != socket.AF_UNIX:
        return
    left = bytearray(4)
    for _ in range(_LOOKS):
        fcntl.ioctl(sock.sock.fileno(), termios.TIOCOUTQ, left)
        if not any(left):
            return
        select.select([], [], [], 0.0005)


def send(sock: Hijacked, data: bytes) -> bool:
    """Write to a client, who may be slow; False if it has gone, or takes nothing for too long."""
    try:
        sock.sock.settimeout(_PATIENCE)
        sock.write(data)
        return True
    except OSError:
        return False


class Attached:
    """One client at a container's streams."""

    def __init__(self, api: Api, one: Container, asked: Asked, framed: bool) -> None:
        self._api = api
        self._one = one
        streams = logs.wanted(asked)
        self._tty = one.tty
        self._stream = asked.flag("stream")
        self._backlog = asked.flag("logs")
        self._form = logs.Form(framed, streams)
        takes = bool(one.config.get("OpenStdin") or one.policy.get("interactive"))
        self._open = takes and asked.flag("stdin") and self._stream
        self._input = Input(keys(asked.query("detachKeys")) if self._tty else b"")
        self._held = b""  # typed, not taken yet
        self._ended = False  # the client types no more
        self._fifo = -1
        self._log = logs.Log(logs.place(one))
        self._hold = one.held()
        if one.running and not self._backlog:
            self._log.to_end()
        elif one.ended is not None and not self._backlog:
            self._log.to_end()  # of an earlier life
        api.events.tell(one, "attach")

    def run(self, sock: Hijacked) -> None:
        settle(sock)
        try:
            world = self._api.world
            io = logs.place(self._one, "io")  # in which `stdin` is opened after the container has begun
            with (
                self._hold,
                world.subscribe() as news,
                world.subscribe(logs.place(self._one)) as written,
                world.subscribe(io, OPENED) as opened,
            ):
                self._follow(sock, news, written, opened)
        finally:
            self._log.close()
            if self._fifo >= 0:
                os.close(self._fifo)
        try:
            sock.half_close()
        except OSError:
            pass

    def _follow(self, sock: Hijacked, *news: Subscription) -> None:
        began = self._one.running  # or it waits to be started
        before = (self._one.ended or {}).get("finished")
        while True:
            now = self._api.world.get(self._one.id)
            finished = (now.ended or {}).get("finished") if now is not None else None
            began = began or (now is not None and now.running) or finished not in (None, before)
            over = now is None or (began and not now.running) or not self._stream
            for data in self._form.made(self._log.lines()):
                if not send(sock, data):
                    return
            if over:
                return
            if not self._turn(sock, news):
                return

    def _turn(self, sock: Hijacked, news: tuple[Subscription, ...]) -> bool:
        """Wait for something to happen, and move input; False when the client has left."""
        poll = select.poll()
        for one in news:
            poll.register(one.fileno(), select.POLLIN)
        client = sock.sock.fileno()
        wants = select.POLLIN if not self._ended and len(self._held) < _MOST else 0
        poll.register(client, wants | (0 if self._ended else select.POLLRDHUP))
        if self._held and self._connect():
            poll.register(self._fifo, select.POLLOUT)
        ready = dict(poll.poll(0 if sock.early and wants else None))
        for one in news:
            one.heard()
        if ready.get(client, 0) & (select.POLLHUP | select.POLLERR):
            return False
        if (client in ready or sock.early) and wants:
            if not self._take(sock):
                return False
        elif ready.get(client, 0) & select.POLLRDHUP and not wants:
            return True  # it will be read when there is room
        self._give()
        return True

    def _take(self, sock: Hijacked) -> bool:
        try:
            data = sock.read(_READ)
        except BlockingIOError:
            return True  # no message's
        except OSError:
            return False
        if not data:
            self._ended = True
            return True
        typed = self._input.typed(data)
        if self._open:
            self._held += typed
        if self._input.left:
            self._give()
            self._api.events.tell(self._one, "detach")
            return False
        return True

    def _connect(self) -> bool:
        """Have the FIFO open, once somebody reads it."""
        if self._fifo < 0 and self._open:
            try:
                self._fifo = os.open(f"{self._one.path}/io/stdin", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
        return self._fifo >= 0

    def _give(self) -> None:
        if self._held and self._connect():
            try:
                self._held = self._held[os.write(self._fifo, self._held) :]
            except BlockingIOError:
                pass
            except OSError:  # it does not read any more
                self._held, self._open = b"", False
        if self._ended and self._open and not self._held and self._connect():
            self._open = False
            if self._one.config.get("StdinOnce") and not self._tty:
                containers.tell(self._one.id, b"close\n")
            os.close(self._fifo)
            self._fifo = -1


ROUTES: list[Route] = [
    ("POST", "/containers/{id}/attach", attach),
    ("GET", "/containers/{id}/attach/ws", attach_by_websocket),
]
