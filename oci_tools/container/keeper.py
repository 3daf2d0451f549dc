"""A detached container: a process of our own stays with it until it has ended.

It holds the container's lock, keeps what is written in the log, records the end in exit.json, and removes
the container if that was asked for.  The streams have names, so that another process can take over:

    io/stdout io/stderr     FIFOs; the container's side holds them open for reading and writing, so that a
                            keeper that dies neither kills it nor loses what was written
    io/stdin                with -i: a FIFO into which `attach` writes what is typed
    io/ctl                  a FIFO of lines: "resize ROWS COLUMNS" of the terminal, "close" of stdin

With -t there is a terminal in place of stdout and stderr, whose master the keeper holds; without -i stdin is
empty.  Not here: restarting, health (room `engine`).
"""

from __future__ import annotations

import _signal
import os
import select

from oci_tools.container import joining, log
from oci_tools.errors import Error
from oci_tools.linux import tty
from oci_tools.runtime import descriptors, launch, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.place import Place

_CHUNK = 1 << 16
_HUP, _INT, _QUIT, _PIPE, _TERM = 1, 2, 3, 13, 15
_MOST = 1 << 20  # bytes that are held for a terminal that takes none


def start(root: str, held: Place, spec: dict[str, Any]) -> None:
    """Start the container, and leave it to the process that stays."""
    held.left = True  # what happens to it is not up to this process any more
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _stay(root, held, spec, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    if said[:3] != b"ok\n":
        os.waitpid(pid, 0)
        held.left = not held.fresh
        code, _, text = said.decode("utf-8", "replace").partition(" ")
        if held.left:
            held.ended(int(code) if code in ("126", "127") else 125)
        raise Error(text or "the container's process ended unexpectedly", code=int(code or 1))


def _stay(root: str, held: Place, spec: dict[str, Any], writer: int) -> None:
    """The process that stays.  Does not return."""
    try:
        os.setsid()
        os.chdir("/")
        descriptors.open_streams()
        _close_but(held.lock.fd, writer)
        held.begins()
        streams = _Streams(held, bool(spec["process"].get("terminal")))
        late = joining.late(held.id, held.policy)
        options = launch.Options(detach=True, pid_file=held.policy.get("pidfile"), joined=late)
        made = lifecycle.begin(root, held.id, held.bundle, spec, options)
        for number in (_HUP, _INT, _QUIT, _TERM):  # the container hears of these itself
            _signal.signal(number, _signal.SIG_IGN)
        streams.let_go()
        os.write(writer, b"ok\n")
    except BaseException as error:
        os.write(writer, f"{getattr(error, 'code', 1)} {error}".encode("utf-8", "replace"))
        os._exit(1)
    try:
        os.close(writer)
        said = held.policy.get("log") or {"size": log.SIZE, "files": log.FILES}
        with log.Writer(f"{held.path}/log", said["size"], said["files"]) as kept:
            streams.keep(made, kept)
        code = os.waitstatus_to_exitcode(os.waitpid(made.state["pid"], 0)[1])
        held.ended(code if code >= 0 else 128 - code)
        lifecycle.delete(root, held.id, force=True)
        if not held.keep:
            held.remove()
    finally:
        os._exit(0)


def _close_but(*kept: int) -> None:
    """Let go of what the caller had open: a pipe of it would not end before the container does."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # that of the directory itself


class _Streams:
    """Both ends of what a container reads and writes; made before it, whose side takes over ours as 0, 1 and 2."""

    def __init__(self, held: Place, terminal: bool) -> None:
        self._path = f"{held.path}/io"
        os.makedirs(self._path, 0o700, exist_ok=True)
        self._terminal = terminal
        self._input = self._master = -1
        self._typed = b""
        self._outputs: dict[int, bytes] = {}
        self._ctl = self._fifo("ctl", os.O_RDWR)
        self._said = b""
        theirs = [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)] * 3
        if held.policy.get("interactive"):
            self._input = self._fifo("stdin", os.O_RDWR)
            theirs[0] = os.open(f"{self._path}/stdin", os.O_RDONLY | os.O_CLOEXEC)
        if not terminal:
            for fd, name in ((1, "stdout"), (2, "stderr")):
                theirs[fd] = self._fifo(name, os.O_RDWR, blocks=True)
                ours = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._outputs[ours] = name.encode()
        for fd, opened in enumerate(theirs):
            os.dup2(opened, fd)
        for opened in set(theirs):
            os.close(opened)

    def _fifo(self, name: str, flags: int, blocks: bool = False) -> int:
        path = f"{self._path}/{name}"
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass  # of an earlier start
        return os.open(path, flags | os.O_CLOEXEC | (0 if blocks else os.O_NONBLOCK))

    def let_go(self) -> None:
        """The container has its ends: what we hold of them would keep us from seeing it close them."""
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)

    def keep(self, made: launch.Container, kept: log.Writer) -> None:
        """Until the container's first process has ended, and what was written by then is in the log."""
        if made.master >= 0:
            self._master = made.master
            os.set_blocking(self._master, False)
            self._outputs[self._master] = b"stdout"
        ended = False
        while not ended:
            poll = select.poll()
            for fd in (made.pidfd, self._ctl, *self._outputs):
                poll.register(fd, select.POLLIN)
            if self._typed:
                poll.register(self._master, select.POLLIN | select.POLLOUT)
            if self._terminal and self._input >= 0 and len(self._typed) < _MOST:
                poll.register(self._input, select.POLLIN)
            ready = dict(poll.poll())
            for fd in [fd for fd in self._outputs if fd in ready]:
                self._take(fd, kept)
            if self._ctl in ready:
                self._obey()
            if self._input in ready:
                self._typed += os.read(self._input, _CHUNK)
            self._type()
            ended = made.pidfd in ready
        for fd in list(self._outputs):
            for _ in range(64):  # what is left of it may write for ever
                if not self._take(fd, kept):
                    break

    def _take(self, fd: int, kept: log.Writer) -> bool:
        """Take what there is of an output; False when there is nothing now."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the terminal open
            data = b""
        if data:
            kept.write(self._outputs[fd], data)
            return True
        del self._outputs[fd]
        if fd != self._master:
            os.close(fd)
        return False

    def _type(self) -> None:
        """Give the terminal what it takes."""
        if self._typed:
            try:
                self._typed = self._typed[os.write(self._master, self._typed) :]
            except BlockingIOError:
                pass
            except OSError:
                self._typed = b""

    def _obey(self) -> None:
        *lines, self._said = (self._said + os.read(self._ctl, 4096)).split(b"\n")
        self._said = self._said[:100]
        for line in lines:
            words = line.split()
            if words[:1] == [b"close"] and not self._terminal and self._input >= 0:
                os.close(self._input)  # the container reads the end once nobody else has it open
                self._input = -1
            elif words[:1] == [b"resize"] and self._master >= 0 and len(words) == 3:
                try:
                    tty.set_size(self._master, int(words[1]) & 0xFFFF, int(words[2]) & 0xFFFF)
                except (OSError, ValueError):
                    pass
