"""The warm forker: a process that has the commands imported, and forks one for whoever asks.

It has one thread, no secret, and runs from the sealed interpreter; beside this one it has only the socket of the guard
that it is as well (container/guarding.py).  Everybody who
asks shares one end of a SOCK_SEQPACKET pair, whose other end outlives it: what was asked while it was dead
is answered by the next one.

    -> b"run"                  descriptors: a memfd with the request, the reply socket, then those of the command
       the request             JSON: {"words", "env", "cwd", "fds": their numbers in the command}
    <- b"begun"                by the command's process, before it does anything; descriptor: its pidfd
    <- b"ended STATUS"         by the forker, its parent: a wait status

The end of a reply before "begun" means that nothing was done, so it may be asked again; the end after it, that
the forker died: then the pidfd knows how the command ended (Linux 6.15).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from array import array
from socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol, Self

    class Guard(Protocol):
        """Who holds what containers need when their monitors die: what is guarding.Guard."""

        @property
        def needed(self) -> bool: ...

        def fileno(self) -> int: ...

        def turn(self) -> None: ...

        def reaped(self, pid: int, status: int) -> None: ...

        def live(self) -> None: ...


_MOST = 200  # descriptors of one command (SCM_MAX_FD is 253)
_TRIES = 3


def pair() -> tuple[socket, socket]:
    """The end for who asks, and that for the forker."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


# -- asking ------------------------------------------------------------------------------------


class Asker:
    """`call(words, fds)` of whoever has the asking end: a command run in a fork, its exit code.

    words  ("run", "start", "web") for `oci-run start web`
    fds    descriptors of the command -> ours; what is not named of 0, 1 and 2 is /dev/null
    """

    def __init__(self, sock: socket) -> None:
        self.sock = sock

    def __call__(self, words: Sequence[str], fds: Mapping[int, int] | None = None, **more: Any) -> int:
        with self.begin(words, fds, **more) as begun:
            return begun.wait()

    def begin(self, words: Sequence[str], fds: Mapping[int, int] | None = None, **more: Any) -> Call:
        """A command that runs now (env, cwd: those of this process if not given)."""
        for _ in range(_TRIES):
            call = self.ask(words, fds, **more)
            if call.advance(blocking=True) == "begun":
                return call
            call.close()
        raise Error("cannot start command", f"oci-{words[0]}", "the forker does not answer", code=75)

    def ask(
        self,
        words: Sequence[str],
        fds: Mapping[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        wait: bool = True,
    ) -> Call:
        """The same without waiting that it begins: `Call.advance` hears of it.

        wait  that the forker has room for one more; else BlockingIOError
        """
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        request = os.memfd_create("oci-call", os.MFD_CLOEXEC)
        ours, theirs = pair()
        try:
            given = {0: null, 1: null, 2: null, **(fds or {})}
            asked: dict[str, Any] = {"words": [*words], "cwd": cwd or os.getcwd(), "fds": [*given]}
            asked["env"] = dict(os.environ if env is None else env)
            fs.write_all(request, document.dumps(asked))
            passed = array("i", [request, theirs.fileno(), *given.values()])
            flags = 0 if wait else MSG_DONTWAIT
            self.sock.sendmsg([b"run"], [(SOL_SOCKET, SCM_RIGHTS, passed)], flags)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(request)
            os.close(null)
        return Call(ours)


class Call:
    """One command that was asked for.

    pidfd  of its process, once it has begun: to signal it by
    code   its exit code as a shell says it, once it has ended; None if nobody knows
    """

    def __init__(self, reply: socket) -> None:
        self._reply = reply
        self.pidfd = -1
        self.code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reply.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def fileno(self) -> int:
        """Readable when `advance` has news."""
        return self._reply.fileno()

    def advance(self, blocking: bool = False) -> str:
        """What has become of it: "asked" (nothing new), "begun", "ended", or "lost": never begun, ask again."""
        try:
            data, fds = _receive(self._reply, 1, 0 if blocking else MSG_DONTWAIT)
        except BlockingIOError:
            return "asked" if self.pidfd < 0 else "begun"
        except OSError:
            data, fds = b"", []
        if data == b"begun":
            self.pidfd = fds[0]
            return "begun"
        if data:
            self.code = _code(int(data.split()[1]))
            return "ended"
        if self.pidfd < 0:
            return "lost"
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll()  # the forker has gone; the command may run on
        status = _reaped(self.pidfd)
        self.code = None if status is None else _code(status)
        return "ended"

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        while self.advance(blocking=True) != "ended":
            pass
        if self.code is None:
            raise Error("the exit code is not known", None, "the forker was killed")
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        try:
            process.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass


def _reaped(pidfd: int) -> int | None:
    """The wait status of a process whose new parent is about to reap it."""
    poll = select.poll()
    poll.register(pidfd, 0)  # POLLHUP, which comes unasked
    poll.poll(5000)
    return process.pidfd_exit_status(pidfd)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


# -- answering ---------------------------------------------------------------------------------


def serve(sock: socket, command: Callable[[str], Callable[[], None]], guard: Guard | None = None) -> None:
    """Be the forker: answer what is asked until there is nobody left to ask; then be the guard of what runs.

    command  of a name, what runs it on sys.argv and ends the process (`cli.launch`)
    """
    gc.disable()  # it would go through what is shared by fork, and a command ends before it needs it
    os.setsid()  # a terminal's Ctrl-C is for the supervisor
    woken = _wake()
    running: dict[int, socket] = {}  # pid: reply
    epoll = select.epoll()
    for fd in (sock.fileno(), woken, *([guard.fileno()] if guard else [])):
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == woken:
                os.read(woken, 4096)
                _reap(running, guard)
            elif fd != sock.fileno():
                assert guard
                guard.turn()
            elif not _answer(sock, command, running):
                sock.close()
                if guard and guard.needed:
                    guard.live()
                return


def _wake() -> int:
    """Where the end of a child is read."""
    woken, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return woken


def _answer(sock: socket, command: Callable[[str], Callable[[], None]], running: dict[int, socket]) -> bool:
    """Fork what was asked for; False if nobody is left to ask."""
    data, fds = _receive(sock, _MOST)
    if not data:
        return False
    if len(fds) < 2:  # we had no room for more descriptors: the end of its reply says so
        for each in fds:
            os.close(each)
        return True
    reply = socket(fileno=fds.pop(1))
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _be(reply, fds, command)
    for each in fds:
        os.close(each)
    running[pid] = reply
    return True


def _reap(running: dict[int, socket], guard: Guard | None) -> None:
    """Whoever of our children has ended: commands, and what the guard, who is a subreaper, got from a dead monitor."""
    for pid, status in process.ended():
        reply = running.pop(pid, None)
        if guard and reply is None:
            guard.reaped(pid, status)
        os.waitpid(pid, 0)
        if reply is not None:
            _finish(reply, status)


def _finish(reply: socket, status: int) -> None:
    try:
        reply.send(b"ended %d" % status, MSG_DONTWAIT)
    except OSError:
        pass  # nobody wants to know
    reply.close()


def _be(reply: socket, fds: list[int], command: Callable[[str], Callable[[], None]]) -> None:
    """The forked process: become the command.  Does not return."""
    try:
        pidfd = os.pidfd_open(os.getpid())
        try:
            reply.sendmsg([b"begun"], [(SOL_SOCKET, SCM_RIGHTS, array("i", [pidfd]))])
        except (BrokenPipeError, ConnectionResetError):
            return  # who asked was killed meanwhile: nothing is done
        with open(fds[0], "rb", buffering=0) as file:
            file.seek(0)
            asked = document.loads(file.read())
        _settle(fds[1:], asked["fds"])
        os.setpgid(0, 0)
        os.umask(0o022)
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        name, *rest = asked["words"]
        sys.argv = [f"{os.path.dirname(sys.argv[0])}/oci-{name}", *rest]
        sys.stdin, sys.stdout, sys.stderr = (open(fd, "w" if fd else "r", closefd=False) for fd in range(3))  # noqa: SIM115
        command(name)()
    except BaseException as error:
        os.write(2, f"oci-{sys.argv[0].rpartition('oci-')[2]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(1)


def _settle(fds: list[int], numbers: list[int]) -> None:
    """Have the descriptors under their numbers, and no others."""
    first = max([2, *numbers, *fds]) + 1
    for at, fd in enumerate(fds):  # out of each other's way
        os.dup2(fd, first + at)
    for at, number in enumerate(numbers):
        os.dup2(first + at, number)
    close_all_but(numbers)


def close_all_but(kept: Sequence[int]) -> None:
    """Close every descriptor that is not among these."""
    some = sorted(kept)
    for low, high in zip([-1, *some], [*some, 1 << 31], strict=True):
        if low + 1 < high:
            process.close_range(low + 1, high - 1)


# -- messages ----------------------------------------------------------------------------------


def _receive(sock: socket, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = sock.recvmsg(64, CMSG_SPACE(4 * (most + 2)), flags | MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, passed in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            fds.frombytes(passed[: len(passed) - len(passed) % 4])
    return data, [*fds]

