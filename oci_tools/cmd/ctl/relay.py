"""Between our own terminal or streams and a container's: raw bytes with a terminal, frames without one."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

from oci_tools import fs
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

KEYS = "ctrl-p,ctrl-q"
_READ = 1 << 16
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def keys(text: str | None) -> bytes:
    """The keys that detach, as bytes."""
    found = bytearray()
    for each in (text or KEYS).split(","):
        if len(each) == 1:
            found += each.encode()
        elif each.startswith("ctrl-") and len(each) == 6 and each[5] in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            found.append(ord(each[5].upper()) & 0x1F)
        else:
            raise Usage("invalid value for --detach-keys", text, hint="ctrl-p,ctrl-q")
    return bytes(found)


def console() -> list[int] | None:
    """Rows and columns of our terminal, None without one."""
    for fd in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        return [rows, columns]
    return None


class Frames:
    """The frames of a stream, taken apart: `feed` writes what is whole to stdout and stderr."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        while len(data) >= 8:
            size = int.from_bytes(data[4:8], "big")
            if len(data) < 8 + size:
                break
            fs.write_all(2 if data[0] in (2, 3) else 1, data[8 : 8 + size])
            data = data[8 + size :]
        self._rest = data


def plain(data: bytes) -> None:
    fs.write_all(1, data)


class Relay:
    """A connection of our own to a container, for a `with` block in which our terminal is raw.

    signals   is told of signals that are for the container (none with a terminal: keys are typed there)
    resize    is told rows and columns of our terminal, at first and when they change
    """

    def __init__(
        self,
        sock: socket.socket,
        early: bytes,
        tty: bool,
        typing: bool,
        detach: bytes,
        resize: Callable[[int, int], None] | None = None,
        signals: Callable[[str], None] | None = None,
    ) -> None:
        self._sock = sock
        self._early = early
        self._take = plain if tty else Frames().feed
        self._tty = tty
        self._typing = typing
        self._keys = detach if tty else b""
        self._begun = b""
        self._resize = resize
        self._signals = signals
        self._saved: Any = None
        self._heard: dict[int, Any] = {}

    def __enter__(self) -> Relay:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        wanted = [signal.SIGWINCH] if self._tty and self._resize else []
        if self._signals:
            wanted += _FORWARDED
        for number in wanted:
            self._heard[number] = signal.signal(number, lambda *_: None)
        self._woken = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if self._tty and self._typing and os.isatty(0):
            import termios
            import tty

            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
        signal.set_wakeup_fd(self._woken)
        for number, old in self._heard.items():
            signal.signal(number, old)
        os.close(self._reader)
        os.close(self._writer)

    def measure(self) -> None:
        """Tell the size of our terminal."""
        if self._resize and self._tty and (size := console()):
            self._resize(*size)

    def run(self) -> bool:
        """Until the container's streams end; False if the keys to leave were typed."""
        if self._early:
            self._take(self._early)
        sys.stdout.flush()
        pending = getattr(self._sock, "pending", lambda: 0)
        while True:
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(self._reader, select.POLLIN)
            if self._typing:
                poll.register(0, select.POLLIN)
            ready = dict(poll.poll(0 if pending() else None))
            if self._reader in ready:
                self._signalled(os.read(self._reader, 256))
            if self._sock.fileno() in ready or pending():
                data = self._sock.recv(_READ)
                if not data:
                    return True
                self._take(data)
            if 0 in ready and not self._type():
                return False

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH:
                self.measure()
            elif self._signals and number in _FORWARDED:
                self._signals(signal.Signals(number).name)

    def _type(self) -> bool:
        """Send what is typed; False for the keys to leave."""
        data = os.read(0, _READ)
        if not data:
            self._typing = False
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return True
        if self._keys:
            data = self._begun + data
            if self._keys in data:
                return False
            held = next((n for n in range(len(self._keys) - 1, 0, -1) if data.endswith(self._keys[:n])), 0)
            self._begun, data = data[len(data) - held :], data[: len(data) - held]
        self._sock.sendall(data)
        return True
