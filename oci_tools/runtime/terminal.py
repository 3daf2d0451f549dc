"""The container's terminal: made inside, its master handed out, and relayed in the foreground.

runtime-spec, "Process: terminal".  The pair comes from the container's own devpts, so that
its `tty` and `ptsname` agree; the master goes to the runtime over the handshake, and from
there to the console socket of an engine or to `relay`.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error, Usage
from oci_tools.linux import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.sync import Channel

_CHUNK = 1 << 16
_PIPE_BUF = 4096
_IN, _OUT = 1, 4  # POLLIN, POLLOUT


def size(text: str) -> dict[str, int]:
    """What --console-size says, as config.json has it in `consoleSize`."""
    rows, cross, columns = text.partition("x")
    if not (cross and f"{rows}{columns}".isdecimal() and int(rows) < 1 << 16 > int(columns)):
        raise Usage("invalid value for --console-size", text, hint="ROWSxCOLUMNS")
    return {"height": int(rows), "width": int(columns)}


# -- the container side ------------------------------------------------------------------


def make(root: int, process: dict[str, Any], channel: Channel) -> int:
    """A new terminal of the devpts beneath `root`; its master is sent out, its other end returned."""
    try:
        master = fs.open_beneath(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        if not tty.is_master(master):
            raise Error("cannot make a terminal", "/dev/pts/ptmx", "it is not a devpts")
        tty.unlock(master)
        peer = tty.peer(master)
        size = process.get("consoleSize") or {}
        if size.get("height") or size.get("width"):
            tty.set_size(peer, size.get("height") or 0, size.get("width") or 0)
        os.chown(peer, process["user"]["uid"], -1)
    except OSError as error:
        raise Error("cannot make a terminal", None, error, "does config.json mount a devpts on /dev/pts?") from None
    channel.send("console", [master])
    os.close(master)
    return peer


def adopt(peer: int) -> None:
    """Make it the controlling terminal and the standard streams."""
    tty.take(peer)
    for fd in (0, 1, 2):
        os.dup2(peer, fd, inheritable=True)
    os.close(peer)


# -- the runtime's side -------------------------------------------------------------------


def fit(master: int) -> None:
    """Give the container's terminal the size of ours, if we have one."""
    for fd in (0, 1, 2):
        try:
            return tty.set_size(master, *tty.size(fd))
        except OSError:
            continue  # no terminal: perhaps the next


class Relay:
    """Our own terminal and the container's, joined: raw while the `with` block lasts.

    Descriptors to poll are given by `interests`, and `turn` moves what is ready.  Nothing
    blocks: what one side does not take yet is held, and the other not read meanwhile.
    """

    def __init__(self, master: int) -> None:
        self.master = master
        self.to_master = b""
        self.to_stdout = b""
        self.stdin_open = True
        self.polled = True  # the master: as long as somebody has the other end
        self.saved: list[Any] | None = None

    def __enter__(self) -> Relay:
        os.set_blocking(self.master, False)
        self.make_raw()
        return self

    def __exit__(self, *_: object) -> None:
        self.cook()
        self._hang_up()

    def make_raw(self) -> None:
        if os.isatty(0):
            import termios

            self.saved = termios.tcgetattr(0)
            raw(termios, self.saved)

    def cook(self) -> None:
        """Let our terminal be as we found it; at once, for who should read what is on its way may wait for our end."""
        if self.saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self.saved)
            self.saved = None

    def resize(self) -> None:
        fit(self.master)

    def interests(self, ended: bool) -> list[tuple[int, int]]:
        """(descriptor, poll events) of what can be moved now; `ended`: nobody is left to write to."""
        wanted = [(1, _OUT)] if self.to_stdout else []
        if not ended and self.polled:
            if self.stdin_open and not self.to_master:
                wanted.append((0, _IN))
            events = (0 if self.to_stdout else _IN) | (_OUT if self.to_master else 0)
            if events:
                wanted.append((self.master, events))
        return wanted

    def turn(self, ready: dict[int, int]) -> None:
        """Move what poll(2) says is ready."""
        if 1 in ready:
            self._write_stdout()
        if 0 in ready:
            self._read_stdin()
        if self.to_master and self.polled:
            try:
                self.to_master = self.to_master[os.write(self.master, self.to_master) :]
            except BlockingIOError:
                pass
            except OSError:
                self.polled = False
        if self.master in ready and not self.to_stdout:
            self._read_master()

    def unfinished(self) -> bool:
        """Whether there is more to bring out of what was written before the container's process ended."""
        return bool(self.to_stdout) or self._read_master()

    def _read_stdin(self) -> None:
        try:
            self.to_master = os.read(0, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.to_master = b""
        if not self.to_master:
            self.stdin_open = False
            self.to_master = b"\4"  # end of file, as a terminal says it

    def _read_master(self) -> bool:
        """Take one piece from the container; False when there is none now."""
        if self.master < 0:
            return False
        try:
            self.to_stdout = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: every process has closed its end, and poll(2) would say so for ever
            self.to_stdout = b""
        self.polled = bool(self.to_stdout)
        return self.polled

    def _write_stdout(self) -> None:
        """No more than a pipe takes at once: poll(2) promises no more, and stdout may block."""
        try:
            self.to_stdout = self.to_stdout[os.write(1, self.to_stdout[:_PIPE_BUF]) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads: the container sees what it would of a closed window
            self.to_stdout = b""
            self._hang_up()

    def _hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master, self.polled = -1, False


def raw(termios: Any, saved: list[Any]) -> None:
    """cfmakeraw(3) on stdin; Python's `tty` module imports `enum` to say the same."""
    mode = [*saved[:6], list(saved[6])]
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(0, termios.TCSANOW, mode)


def keep_newlines(master: int) -> None:
    """Let the payload's newlines reach a file or a pipe as they are, with no carriage return added; as runc does."""
    import termios

    mode = termios.tcgetattr(master)
    mode[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, mode)


def is_terminal() -> bool:
    """Whether all that `-t` needs is a terminal: stdin."""
    return os.isatty(0)
