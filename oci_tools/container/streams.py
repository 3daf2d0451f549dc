"""What a detached container reads and writes, held by the process that looks after it (`monitor.py`).

    io/stdout io/stderr     FIFOs; the container's side holds them open for reading and writing, so that a
                            monitor that dies neither kills it nor loses what was written
    io/stdout.spool ...     what was taken out of them and may not be in the log yet
    io/progress             how far that is: a `_Slot` of each
    io/stdin                with -i: a FIFO into which `attach` writes what is typed; io/closed: it is at its end
    io/ctl                  a FIFO of lines: "resize ROWS COLUMNS" of the terminal, "close" of stdin, "stop": do
                            not start it again, "again": look at policy.json, "keep": hand over (keeping.py)

With -t there is a terminal in place of stdout and stderr, whose master is held, and what comes out of it goes through
io/stdout; without -i stdin is empty.

No line is lost, nor told twice, wherever the monitor is killed, as long as `ocid` holds what it held.  splice(2) moves
what is in a terminal into the FIFO, and what is in a FIFO into the spool: the kernel does both or neither.  Then the
slot says which piece of the spool is about to become which lines of which file, and the lines are written: the next
monitor makes the same lines again, and writes what is missing of them.
"""

from __future__ import annotations

import os
from struct import calcsize, pack, unpack

from oci_tools.container import keeping, log
from oci_tools.linux import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.container.place import Place

_CHUNK = 1 << 16
_MOST = 1 << 20  # bytes after which a spool begins anew
_NONBLOCK = 2  # SPLICE_F_NONBLOCK


class _Slot:
    """In io/progress: the piece of a spool that is being logged, and where its lines begin.

    "<QQQQQ"  offset and length in the spool, time in nanoseconds, inode and size of the log before
    """

    FORM = "<5Q"

    def __init__(self, fd: int, number: int) -> None:
        self._fd = fd
        self._at = number * 64

    def write(self, *values: int) -> None:
        os.pwrite(self._fd, pack(self.FORM, *values), self._at)

    def read(self) -> tuple[int, ...]:
        size = calcsize(self.FORM)
        return unpack(self.FORM, os.pread(self._fd, size, self._at).ljust(size, b"\0"))


class _Output:
    """One of a container's outputs on its way into the log: taken at once, kept once."""

    def __init__(self, path: str, name: str, slot: _Slot) -> None:
        self.stream = name.encode()
        self.fd = os.open(f"{path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._spool = os.open(f"{path}/{name}.spool", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._slot = slot
        self._size = 0

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._spool)

    def resume(self, kept: log.Writer) -> None:
        """Log what an earlier monitor has taken and may not have logged."""
        offset, length, when, inode, before = self._slot.read()
        size = os.fstat(self._spool).st_size
        if size < offset + length:  # it had just begun anew
            offset = length = 0
        self._size = size
        if length:
            kept.repeat(self.stream, os.pread(self._spool, length, offset), when, inode, before)
        if size > offset + length:
            self._log(kept, os.pread(self._spool, size, offset + length), offset + length)
        self.anew()

    def anew(self) -> None:
        """Begin the spool again: everything in it is in the log."""
        os.ftruncate(self._spool, 0)
        self._slot.write(0, 0, 0, 0, 0)
        self._size = 0

    def take(self, kept: log.Writer) -> bool:
        """Take what there is now; False if there is nothing."""
        if self._size >= _MOST:
            self.anew()
        try:
            count = os.splice(self.fd, self._spool, _CHUNK, offset_dst=self._size, flags=_NONBLOCK)
        except BlockingIOError:
            return False
        except OSError:  # a disk that is full loses lines, and stops nobody
            try:
                kept.write(self.stream, os.read(self.fd, _CHUNK))
            except BlockingIOError:
                return False
            return True
        if not count:
            return False
        at, self._size = self._size, self._size + count
        self._log(kept, os.pread(self._spool, count, at), at)
        return True

    def _log(self, kept: log.Writer, data: bytes, at: int) -> None:
        kept.write(self.stream, data, lambda done, length, *where: self._slot.write(at + done, length, *where))


class Streams:
    """Both ends of what a container reads and writes.

    `open` makes them, and puts the container's as 0, 1 and 2 for a fork to inherit; `let_go` gives these up.
    """

    def __init__(self, held: Place, terminal: bool) -> None:
        self.path = f"{held.path}/io"
        os.makedirs(self.path, 0o700, exist_ok=True)
        self._id = held.id
        self.terminal = terminal
        self.master = -1
        self._input = -1
        self._into = -1  # with a terminal: the end of io/stdout into which it is emptied
        self._stuck = False  # the terminal takes nothing more of what is typed
        self._said = b""
        self.outputs: dict[int, _Output] = {}
        self._interactive = bool(held.policy.get("interactive"))
        self.ctl = self._fifo("ctl")

    def _fifo(self, name: str, blocks: bool = False) -> int:
        path = f"{self.path}/{name}"
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass  # of an earlier start
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if blocks else os.O_NONBLOCK))

    def open(self, kept: log.Writer) -> None:
        """Make them for a start, and be the container's side in 0, 1 and 2."""
        theirs = [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)] * 3
        if self._interactive:
            try:
                os.unlink(f"{self.path}/closed")
            except FileNotFoundError:
                pass
            if self._input < 0:
                self._input = self._fifo("stdin")
            theirs[0] = os.open(f"{self.path}/stdin", os.O_RDONLY | os.O_CLOEXEC)
        if not self.terminal:
            for fd, name in ((1, "stdout"), (2, "stderr")):
                theirs[fd] = self._fifo(name, blocks=True)
        self._open_outputs(kept)
        for fd, opened in enumerate(theirs):
            os.dup2(opened, fd)
        for opened in set(theirs):
            os.close(opened)

    def _open_outputs(self, kept: log.Writer) -> None:
        if self.outputs:
            return
        if self.terminal:
            self._into = self._fifo("stdout")
        progress = os.open(f"{self.path}/progress", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        for number, name in enumerate(("stdout",) if self.terminal else ("stdout", "stderr")):
            output = _Output(self.path, name, _Slot(progress, number))
            self.outputs[output.fd] = output
            output.resume(kept)

    def take_over(self, kept: log.Writer, master: int) -> None:
        """Those of a container that runs, from a monitor that has died."""
        self.have(master)
        if self._interactive and not os.path.exists(f"{self.path}/closed"):
            self._input = self._fifo("stdin")
        self._open_outputs(kept)

    def let_go(self) -> None:
        """The container has its ends: what we hold of them would keep us from seeing it close them."""
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)

    def have(self, master: int = -1) -> None:
        """The master of its terminal, if it has one."""
        self.master = master
        if master >= 0:
            os.set_blocking(master, False)

    def keep(self) -> None:
        """Give whoever keeps for us our terminal's master or our end of stdin to hold: they outlive us then."""
        if self.master >= 0:
            keeping.give(self._id, "master", self.master)
        elif self._input >= 0:
            keeping.give(self._id, "stdin", self._input)

    def interests(self) -> dict[int, int]:
        """Descriptors to poll, and for what."""
        found = dict.fromkeys((self.ctl, *self.outputs), 1)  # POLLIN
        if self.master >= 0:
            found[self.master] = 5 if self._stuck else 1  # POLLIN, POLLOUT
        if self.master >= 0 and self._input >= 0 and not self._stuck:
            found[self._input] = 1
        return found

    def turn(self, ready: dict[int, int], kept: log.Writer) -> list[list[bytes]]:
        """Move what is ready; what was said in io/ctl that is not about the streams."""
        if self._input in ready or (self._stuck and ready.get(self.master, 0) & 4):
            self._type()
        emptied = self.master in ready and self._empty_master()
        for fd, output in self.outputs.items():
            if fd in ready or emptied:
                output.take(kept)
        return self._hear() if self.ctl in ready else []

    def drain(self, kept: log.Writer) -> None:
        """What was written before the end; whoever is left of it may write for ever."""
        for _ in range(64):
            emptied = self.master >= 0 and self._empty_master()
            taken = [output.take(kept) for output in self.outputs.values()]
            if True not in taken and not emptied:
                break
        for output in self.outputs.values():
            output.anew()
        if self.master >= 0:
            os.close(self.master)
        self.master = -1
        self._stuck = False

    def _empty_master(self) -> bool:
        """Move what the terminal says into io/stdout; False if there was nothing, or no room."""
        try:
            if os.splice(self.master, self._into, _CHUNK, flags=_NONBLOCK):
                return True
        except BlockingIOError:
            return False
        except OSError:
            pass  # EIO: no process has the terminal open
        os.close(self.master)
        self.master = -1
        return False

    def _type(self) -> None:
        """Give the terminal what it takes of what is typed."""
        self._stuck = False
        if self.master < 0:
            return
        try:
            os.splice(self._input, self.master, _CHUNK, flags=_NONBLOCK)
        except BlockingIOError:
            self._stuck = True
        except OSError:
            os.read(self._input, _CHUNK)  # no process has the terminal open

    def _hear(self) -> list[list[bytes]]:
        *lines, self._said = (self._said + os.read(self.ctl, 4096)).split(b"\n")
        self._said = self._said[:100]
        rest = []
        for words in [line.split() for line in lines]:
            if words[:1] == [b"close"] and not self.terminal and self._input >= 0:
                os.close(os.open(f"{self.path}/closed", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                os.close(self._input)  # the container reads the end once nobody else has it open
                self._input = -1
                keeping.let_go(self._id, "stdin")
            elif words[:1] == [b"resize"] and len(words) == 3:
                self._resize(words)
            elif words:
                rest.append(words)
        return rest

    def _resize(self, words: list[bytes]) -> None:
        try:
            if self.master >= 0:
                tty.set_size(self.master, int(words[1]) & 0xFFFF, int(words[2]) & 0xFFFF)
        except (OSError, ValueError):
            pass
