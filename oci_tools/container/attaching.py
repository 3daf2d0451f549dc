"""`attach`: what a detached container writes from now on, and what we type to it.

Its output is followed in its log, so that nobody who reads slowly holds it up and nothing gets lost; its
input goes into the FIFO that `streams.py` draws.  With a terminal, ctrl-p ctrl-q leaves it alone again.
"""

from __future__ import annotations

import os
import select

from oci_tools import fs
from oci_tools.container import ending, log, names, output, place
from oci_tools.errors import Error, Usage
from oci_tools.linux import inotify, process, tty
from oci_tools.runtime import enter, foreground, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_SIGWINCH = 28
_CHUNK = 1 << 16


def attach(root: str, container: str, typing: bool, leave: bytes, proxy: bool = True) -> int:
    """Until the container has ended: its exit code; 0 once the keys `leave` are typed.

    proxy  whether signals to us are passed on
    """
    with ending.Ending(root, container) as watched:
        if watched.pidfd < 0 or watched.keeper < 0 or not os.path.isdir(f"{names.place(container)}/io"):
            running = "it runs in the foreground of another process" if watched.pidfd >= 0 else "it is not running"
            raise Error("cannot attach to container", container, running)
        typing = typing and bool(names.policy(container).get("interactive"))
        return stay(watched, typing, leave, proxy=proxy)


def stay(watched: ending.Ending, typing: bool, leave: bytes, whole: bool = False, proxy: bool = True) -> int:
    """Be with a container that was detached; `whole`: with what it has written before, too."""
    root, container = watched.runtime, watched.id
    has_terminal = bool(_specification(root, container)["process"].get("terminal"))
    directory = log.need(f"{names.place(container)}/log", container)
    watched.watch.add(directory, inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO)
    ours = _Input(f"{names.place(container)}/io", typing, has_terminal, leave)
    with log.Reader(directory) as reader, foreground.Signals(proxy) as signals, ours:
        if not whole:
            reader.tail(0)
        if not _follow(watched, reader, signals, ours):
            return 0
    code = watched.code()
    watched.release()
    if code is None:
        raise Error("the exit code is not known", container, "nobody was there when it ended")
    return code


def _specification(root: str, container: str) -> dict[str, Any]:
    """As it was started: the runtime's, or if it has ended already, what it was to be started with."""
    try:
        return enter.configuration(root, container)
    except Error:
        return place.Place.again(container).spec()


def keys(text: str) -> bytes:
    """What is typed to leave a terminal: `a`, `ctrl-X` with X a letter or one of @[\\]^_, with commas between."""
    found = b""
    for word in text.split(",") if text else []:
        key = word[5:].upper() if word.startswith("ctrl-") else word
        control = key != word
        good = len(key) == 1 and key.isascii() and (not control or "@" <= key <= "_")
        if not good:
            raise Usage("invalid value for --detach-keys", text, hint="like ctrl-p,ctrl-q")
        found += bytes([ord(key) & 31 if control else ord(key)])
    return found


def _follow(watched: ending.Ending, reader: log.Reader, signals: foreground.Signals, ours: _Input) -> bool:
    """Until it has ended, or we leave it: False."""
    shown = output.Shown()
    while True:
        over = watched.told or watched.over
        shown.write(reader.lines())
        if over:
            return True
        ready = watched.turn({signals.fileno(): select.POLLIN, **ours.interests()})
        if signals.fileno() in ready:
            for number in signals.numbers():
                if number == _SIGWINCH and ours.has_terminal:
                    ours.resize()
                elif number == foreground.SIGTSTP:  # only we stop: it goes on without us
                    ours.cook()
                    foreground.stop()
                    ours.make_raw()
                elif watched.pidfd >= 0:
                    _forward(watched.pidfd, number)
        if not ours.turn(ready):
            return False


def _forward(pidfd: int, number: int) -> None:
    try:
        process.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it has just ended


class _Input:
    """Our standard input on its way to the container; our terminal is raw while the `with` block lasts."""

    def __init__(self, io: str, typing: bool, has_terminal: bool, leave: bytes) -> None:
        self._io = io
        self._open = typing
        self.has_terminal = has_terminal
        self._fifo = -1
        self._held = b""  # what the container does not take yet
        self._leave = leave
        self._key = b""  # those of the keys that were typed already
        self._saved: Any = None

    def __enter__(self) -> Self:
        if self._open:
            try:
                self._fifo = os.open(f"{self._io}/stdin", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self._open = False  # somebody has closed it
        self.make_raw()
        return self

    def make_raw(self) -> None:
        if not self.has_terminal:
            return
        if self._open and terminal.is_terminal():
            import termios

            self._saved = termios.tcgetattr(0)
            terminal.raw(termios, self._saved)
        self.resize()

    def cook(self) -> None:
        """Let our terminal be as we found it."""
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self._saved)
            self._saved = None

    def __exit__(self, *_: object) -> None:
        self.cook()
        if self._fifo >= 0:
            os.close(self._fifo)

    def resize(self) -> None:
        for fd in (0, 1, 2):
            try:
                rows, columns = tty.size(fd)
            except OSError:
                continue
            return self._tell(b"resize %d %d\n" % (rows, columns))

    def _tell(self, line: bytes) -> None:
        try:
            fd = os.open(f"{self._io}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fs.write_all(fd, line)
            finally:
                os.close(fd)
        except OSError:
            pass  # nobody looks after it any more

    def interests(self) -> dict[int, int]:
        if self._held:
            return {self._fifo: select.POLLOUT}
        return {0: select.POLLIN} if self._open else {}

    def turn(self, ready: dict[int, int]) -> bool:
        """Move what is ready; False if the keys to leave were typed."""
        if 0 in ready and self._open and not self._held:
            try:
                data = self._key + os.read(0, _CHUNK)
            except OSError:
                data = self._key
            if data == self._key:
                self._end()
                return True
            self._key = b""
            if self._saved is not None:
                data, found, _ = data.partition(self._leave) if self._leave else (data, b"", b"")
                if found:
                    return False
                typed = next((n for n in range(len(self._leave) - 1, 0, -1) if data.endswith(self._leave[:n])), 0)
                if typed:
                    self._key, data = data[-typed:], data[:-typed]
            self._held = data
        if self._held:
            try:
                self._held = self._held[os.write(self._fifo, self._held) :]
            except BlockingIOError:
                pass
            except OSError:  # it does not read any more
                self._held, self._open = b"", False
        return True

    def _end(self) -> None:
        """Our input is at its end: so is the container's, if it is no terminal."""
        self._open = False
        self._tell(b"close\n")
        os.close(self._fifo)
        self._fifo = -1
