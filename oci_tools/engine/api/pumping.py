"""Between a client and a process that was started for it: pipes, framed, or a terminal, as it is."""

from __future__ import annotations

import os
import select

from oci_tools.engine.api import streams
from oci_tools.engine.api.logs import frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.http import Hijacked

_READ = 1 << 15
_OURS = b"oci-run: "


class Pump:
    """Between a client and two pipes of output, and one of input; output is read to its end though the client goes."""

    def __init__(self, sock: Hijacked | None, outputs: list[int], stdin: int, wanted: list[Any]) -> None:
        self._sock = sock
        self._outputs = {fd: number for number, fd in enumerate(outputs, 1)}
        self._stdin = stdin
        self._wanted = wanted
        self._held = b""
        self._ours = b""  # begins as a line of `oci-run` itself would: nothing else follows one
        self._silent = True  # nothing was written to stderr yet
        self._reading = sock is not None

    def run(self) -> None:
        try:
            while self._outputs:
                self._turn()
        finally:
            for fd in self._outputs:
                os.close(fd)
            self._end_input()

    def _turn(self) -> None:
        poll = select.poll()
        for fd in self._outputs:
            poll.register(fd, select.POLLIN)
        if self._held:
            poll.register(self._stdin, select.POLLOUT)
        client = self._sock.sock.fileno() if self._sock else -1
        early = bool(self._sock and self._sock.early)
        if self._reading and not self._held:
            poll.register(client, select.POLLIN)
        ready = dict(poll.poll(0 if early and not self._held else None))
        for fd in [fd for fd in self._outputs if fd in ready]:
            self._forward(fd)
        if self._reading and not self._held and (client in ready or early):
            self._take()
        if self._stdin in ready or (self._held and self._stdin >= 0):
            self._give()

    def _forward(self, fd: int) -> None:
        data = os.read(fd, _READ)
        if not data:
            os.close(fd)
            del self._outputs[fd]
            return
        number = self._outputs[fd]
        if number == 2 and (self._ours or (self._silent and data.startswith(_OURS))):
            self._ours += data
            if len(self._ours) < _READ:
                return
            data, self._ours, self._silent = self._ours, b"", False
        self._silent = self._silent and number != 2
        self._send(number, data)

    def flush(self) -> None:
        """It was the payload's after all."""
        if self._ours:
            self._send(2, self._ours)

    def _send(self, number: int, data: bytes) -> None:
        if self._sock is not None and self._wanted[number - 1] and not streams.send(self._sock, frame(number, data)):
            self._sock, self._reading = None, False

    def _take(self) -> None:
        assert self._sock is not None
        data = _read(self._sock)
        if not data:
            self._reading = False
            if not self._held:
                self._end_input()
        elif self._stdin >= 0:
            self._held = data

    def _give(self) -> None:
        try:
            self._held = self._held[os.write(self._stdin, self._held) :]
        except BlockingIOError:
            return
        except OSError:
            self._held = b""
            self._end_input()
        if not self._held and not self._reading:
            self._end_input()

    def _end_input(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1


class Terminal:
    """Between a client and the master of a terminal."""

    def __init__(
        self, sock: Hijacked | None, master: int, typed: streams.Input, stdin: bool, framed: bool
    ) -> None:
        self._framed = framed
        self._sock = sock
        self._master = master
        self._typed = typed
        self._stdin = stdin
        self._held = b""
        self._reading = sock is not None

    def run(self) -> None:
        while True:
            poll = select.poll()
            poll.register(self._master, select.POLLIN | (select.POLLOUT if self._held else 0))
            client = self._sock.sock.fileno() if self._sock else -1
            early = bool(self._sock and self._sock.early)
            if self._reading and not self._held:
                poll.register(client, select.POLLIN)
            ready = dict(poll.poll(0 if early and not self._held else None))
            if self._master in ready and ready[self._master] & ~select.POLLOUT and not self._forward():
                return
            if self._reading and not self._held and (client in ready or early):
                self._take()
            if self._held:
                try:
                    self._held = self._held[os.write(self._master, self._held) :]
                except BlockingIOError:
                    pass
                except OSError:
                    self._held = b""

    def _forward(self) -> bool:
        """What the terminal shows; False at its end."""
        try:
            data = os.read(self._master, _READ)
        except BlockingIOError:
            return True
        except OSError:  # EIO: nobody has its other end open
            return False
        if self._sock is not None and not streams.send(self._sock, frame(1, data) if self._framed else data):
            self._sock, self._reading = None, False
        return bool(data)

    def _take(self) -> None:
        assert self._sock is not None
        data = _read(self._sock)
        typed = self._typed.typed(data)
        if self._stdin:
            self._held = typed
        if self._typed.left:  # the client leaves; what it started goes on
            try:
                self._sock.half_close()
            except OSError:
                pass
            self._sock, self._reading = None, False
        elif not data:
            self._reading = False


def _read(sock: Hijacked) -> bytes:
    """What the client sent; empty at its end, however it went."""
    try:
        return sock.read(_READ)
    except OSError:
        return b""
