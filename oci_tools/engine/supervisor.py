"""The supervising side of `ocid`: one process with one thread, whose loop waits on descriptors.

    ocid ─┬─ forker ── monitors     runs commands (forker.py); monitors of containers come to it, as their subreaper,
          │                         when the command that started them ends, and to us when it dies
          └─ API                    answers clients; asks the forker

What dies is started again; a container never hears of it.  Everything was imported before the first fork, so
that what is started again is of the same version, whatever is on the disk by then, and shares its memory.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import sys
import time

from oci_tools.engine import forker, sharing, watching
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    Handler = Callable[[], None]

_FIRST, _MOST = 0.1, 10.0  # seconds before a part that dies at once is started again
_LAST = 3.0  # seconds in which the API may give the answers that it has begun when we end
_CALM = 10.0  # seconds after which its death is a new one
_NICE = -15  # of the API's process
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


class Loop:
    """Descriptors and times, and what is to be done when they are ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._due: list[tuple[float, int, Handler]] = []
        self._count = 0
        self.stopped = False

    def watch(self, fd: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def later(self, seconds: float, handler: Handler) -> None:
        self._count += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._count, handler))

    def run(self) -> None:
        while not self.stopped:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for fd, _ in self._epoll.poll(wait):
                handler = self._handlers.get(fd)
                if handler:
                    handler()
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()


class Part:
    """A process of `ocid`'s own that is there as long as `ocid` is: forked again when it has died."""

    def __init__(self, loop: Loop, name: str, main: Callable[[], None], say: Callable[[str], None]) -> None:
        self.name = name
        self.pid = 0
        self._loop = loop
        self._main = main
        self._say = say
        self._begun = 0.0
        self._pause = _FIRST

    def start(self) -> None:
        self._begun = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # what is sent to it from now on is for it
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _forget()
                self._main()
            except BaseException as error:
                self._say(f"{self.name}: {error}")
                os._exit(1)
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

    def ended(self, status: int) -> None:
        """Start it again: at once if it has lived for a while."""
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        self._say(f"the {self.name} ended {f'with code {code}' if code >= 0 else f'by signal {-code}'}")
        if time.monotonic() - self._begun > _CALM:
            self._pause = _FIRST
            self.start()
        else:
            self._loop.later(self._pause, self.start)
            self._pause = min(self._pause * 2, _MOST)

    def signal(self, number: int) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def ends(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        if self.pid:
            poll = select.poll()
            poll.register(os.pidfd_open(self.pid), select.POLLIN)
            poll.poll(seconds * 1000)


def _prefer() -> None:
    """Have the processor before what is started: who asks is answered while a thousand containers begin and crash.

    The nice value orders a process among those of its group; where each session is a group (sched(7), "The autogroup
    feature"), that has one of its own.  Nobody inherits them: what the API starts, the forker forks.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        with open("/proc/self/autogroup", "w", encoding="utf-8") as file:
            file.write(str(_NICE))
    except OSError:
        pass  # we may not, or there are no such groups


def _forget() -> None:
    """In a fork: signals are not the supervisor's."""
    signal.set_wakeup_fd(-1)
    for number in _HEARD:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


class Supervisor:
    """`ocid`, from its listening sockets on.

    command    of a name, what runs it in the forker (`forker.serve`)
    guard      makes the guard that the forker is as well
    api        the API's main function: takes the sockets, and what asks the forker
    say        tells people
    """

    def __init__(
        self,
        listeners: Sequence[socket],
        command: Callable[[str], Callable[[], None]],
        guard: Callable[[], forker.Guard],
        api: Callable[[Sequence[socket], forker.Asker], None],
        say: Callable[[str], None],
    ) -> None:
        self.loop = Loop()
        self.listeners = listeners
        self._asking, self._asked = forker.pair()
        self.asker = forker.Asker(self._asking)
        self.parts = [
            Part(self.loop, "forker", lambda: self._fork_for_others(command, guard), say),
            Part(self.loop, "API process", lambda: self._answer(api), say),
        ]
        self.watcher = watching.Watcher(self.loop, self.asker, say)
        self.upgrading = False

    def _fork_for_others(
        self, command: Callable[[str], Callable[[], None]], guard: Callable[[], forker.Guard]
    ) -> None:
        forker.close_all_but([0, 1, 2, self._asked.fileno()])
        forker.serve(self._asked, command, guard())

    def _answer(self, api: Callable[[Sequence[socket], forker.Asker], None]) -> None:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            return  # it was killed before that
        os.setsid()
        _prefer()
        forker.close_all_but([0, 1, 2, self._asking.fileno(), *(sock.fileno() for sock in self.listeners)])
        api(self.listeners, self.asker)

    def run(self, ready: Callable[[], None], boot: bool = True) -> None:
        """Until SIGTERM or SIGINT (containers live on), or SIGUSR2: `upgrading` is true then."""
        self._pid = os.getpid()
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in _HEARD:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.loop.watch(reader, lambda: self._heard(os.read(reader, 4096)))
        sharing.freeze()
        for part in self.parts:
            part.start()
        self._reap()  # who ended while an earlier one of us executed itself again
        self.watcher.start(boot)
        ready()
        self.loop.run()
        self.parts[1].signal(signal.SIGTERM)  # the forker guards what runs, or ends, when nobody is left who asks
        if not self.upgrading:
            self.parts[1].ends(_LAST)  # it would be killed with us

    def _heard(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGHUP in numbers:
            self.parts[1].signal(signal.SIGHUP)
        if signal.SIGUSR2 in numbers:
            self.upgrading = self.loop.stopped = True
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.loop.stopped = True

    def _reap(self) -> None:
        """Whoever of our children has ended: parts, and processes that came to us as subreaper."""
        for pid, status in process.ended():
            self.watcher.reaped(pid, status)  # before the kernel may tell whoever waits for that
            os.waitpid(pid, 0)
            for part in self.parts:
                if part.pid == pid:
                    part.ended(status)


def notify(state: bytes) -> None:
    """Tell a service manager how we are (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

    with socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state, "\0" + path[1:] if path[0] == "@" else path)
        except OSError:
            pass  # it does not wait any more


def execute_again(listeners: Sequence[socket]) -> None:
    """Become what is on the disk now, with the same sockets: a clean upgrade."""
    for sock in listeners:
        sock.set_inheritable(True)
    for number in _HEARD:
        signal.signal(number, signal.SIG_IGN if number != signal.SIGCHLD else signal.SIG_DFL)
    os.environ["OCID_SOCKETS"] = ",".join(str(sock.fileno()) for sock in listeners)
    os.execv(sys.orig_argv[0], sys.orig_argv)
