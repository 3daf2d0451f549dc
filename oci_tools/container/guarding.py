"""Guards: they hold what a container's monitor would take with it when it dies, and have another one take over.

    guard ── guard ── monitor ── container      where no `ocid` is: as little more as can be
    ocid ── forker ── monitor ── container      where one is, its forker is the guard of all; it stays when `ocid` goes

They hold what the monitor sends (keeping.py), and the read ends of its FIFOs.  When the monitor dies the container
becomes the child of the lowest of them, the next subreaper above, which notes how it ends: the next monitor is not its
parent.  A guard that has lost its twin, or `ocid`, forks another: whichever two of us die at once, somebody is left who
has everything.  They end with the last container of theirs.
"""

from __future__ import annotations

import _signal
import gc
import os
import select
import time

from oci_tools import fs
from oci_tools.container import control, keeping, leaving, names, place
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import state

_HEARD = (1, 2, 3, 15)  # HUP, INT, QUIT, TERM: not for us, as they are not for a monitor
_CHILD = 17  # SIGCHLD
_PAUSE = 1.0  # seconds after which what could not be done is tried again
_LATER = 1.0  # seconds for which a second guard leaves an orphan to the first


def stand(root: str, container: str) -> None:
    """Fork two guards: they do not return, the child of the lower one is to be the monitor.

    root  where the runtime keeps its states
    """
    where = keeping.own(container)
    os.makedirs(where, 0o700, exist_ok=True)
    outer, inner = (Guard(root, where) for _ in range(2))  # both hear the monitor from its first word on
    upper = os.pidfd_open(os.getpid())
    lower = os.fork()
    if lower:
        inner.close()
        os.close(upper)
        _be(outer, os.pidfd_open(lower), _LATER)
    outer.close()
    if os.fork():
        _be(inner, upper, 0.0)
    inner.close()
    os.close(upper)
    os.setsid()


def _be(guard: Guard, twin: int, patience: float) -> None:
    """The rest of a guard's life.  Does not return."""
    try:
        process.close_others((*guard.fds, twin))
        gc.freeze()  # what was shared by fork stays shared
        guard.live(twin, patience)
    finally:
        os._exit(0)


def of_all() -> Guard:
    """The forker's: that of every container whose monitor is there, for they are asked to send what they have."""
    made = Guard(f"{fs.run()}/runtime", fs.make_private(keeping.common()))
    made.leaves = leaving.targets()
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    for container in names.listed(names.directory()):
        control.monitor_hears(container, b"keep")
    return made


class Guard:
    """What is held, and who looks after it now.

    It listens from the beginning on.  Whose loop it is in polls `fileno` and says what it has `reaped`, until `live`
    is its own.
    """

    def __init__(self, root: str, where: str) -> None:
        self._root = root
        self._where = where
        self.leaves: dict[str, str] = {}  # the groups to go to when it is alone
        self._went: list[str] = []
        self._held: dict[str, dict[str, int]] = {}  # container: "payload", "master", "stdin", "stdout", "stderr"
        self._pids: dict[str, int] = {}  # of first processes
        self._monitors: dict[int, str] = {}  # pidfds
        self._orphans: dict[str, float] = {}  # when to have somebody else take over
        self._adopting: dict[int, str] = {}  # the processes that see to that
        self._begun = False
        self._twin = -1
        self._listen()

    def _listen(self) -> None:
        self._epoll = select.epoll()
        self._sock, self._path = keeping.listen(self._where)
        self._epoll.register(self._sock, select.EPOLLIN)

    def close(self) -> None:
        """In a fork that is no guard."""
        self._sock.close()
        self._epoll.close()

    @property
    def fds(self) -> tuple[int, ...]:
        return self._sock.fileno(), self._epoll.fileno()

    def fileno(self) -> int:
        return self._epoll.fileno()

    # -- holding -------------------------------------------------------------------------------

    def turn(self) -> None:
        """A turn of another's loop, where others adopt: an orphan that found somebody, or was removed, is let go."""
        self._heed()
        self._due()

    def _heed(self) -> None:
        """Take what was sent, and see which monitors have died."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._sock.fileno():
                self._take()
            elif fd in self._monitors:
                self._look(self._forget(fd))
            elif fd == self._twin:
                self._epoll.unregister(fd)
                os.close(fd)
                self._twin = -1

    def _take(self) -> None:
        container, name, fd = keeping.taken(self._sock)
        if not container:
            return
        held = self._held.setdefault(container, {})
        self._hold(held, name, fd)
        if name == "payload":
            self._begun = True
            self._open(container, held)
        if container not in self._monitors.values():
            self._look(container)

    def _open(self, container: str, held: dict[str, int]) -> None:
        """What was just started: its pid, and the FIFOs into which it writes."""
        try:
            self._pids[container] = state.load(self._root, container)["pid"]
        except Error:
            pass  # it has just ended
        for name in "stdout", "stderr":
            if name not in held:
                try:
                    path = f"{names.place(container)}/io/{name}"
                    held[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
                except OSError:
                    break  # it has a terminal, and one of them

    @staticmethod
    def _hold(held: dict[str, int], name: str, fd: int) -> None:
        """Hold a descriptor instead of the one before, or none."""
        before = held.pop(name, -1)
        if before >= 0:
            os.close(before)
        if fd >= 0:
            held[name] = fd

    def _look(self, container: str) -> None:
        """Who looks after it now?  Nobody: it has ended, and is let go, or is an orphan."""
        from oci_tools.container import detaching  # which has imported us

        monitor = place.keeper(container)
        if monitor >= 0:
            self._monitors[monitor] = container
            self._epoll.register(monitor, select.EPOLLIN)
            self._orphans.pop(container, None)
        elif detaching.is_orphan(self._root, container):
            self._orphans.setdefault(container, time.monotonic() + self._patience)
        else:
            self._orphans.pop(container, None)
            self._pids.pop(container, None)
            for fd in self._held.pop(container, {}).values():
                os.close(fd)

    def _forget(self, monitor: int) -> str:
        self._epoll.unregister(monitor)  # closing does not do it: who was forked meanwhile has it too
        os.close(monitor)
        return self._monitors.pop(monitor)

    def reaped(self, pid: int, status: int) -> None:
        """A child of ours is about to be reaped: if it is a container's first process, note how it has ended before
        the kernel may tell whoever waits for that."""
        if self._adopting.pop(pid, None):
            return
        if pid not in self._pids.values():
            self._heed()  # it may have been sent meanwhile
        for container, known in self._pids.items():
            if known == pid:
                try:
                    fs.write(f"{names.place(container)}/reaped", b"%d\n" % status, 0o600, sync=False)
                except Error:
                    pass  # a full disk, or it is gone; a pidfd knows as well
                return

    _patience = 0.0

    # -- alone ---------------------------------------------------------------------------------

    @property
    def needed(self) -> bool:
        """Whether there is something to guard."""
        return bool(self._held)

    def live(self, twin: int = -1, patience: float = 0.0) -> None:
        """Guard, until nothing is left.

        twin  a pidfd of the one who holds the same
        """
        self._went, self.leaves = leaving.go(self.leaves), {}
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):  # somebody else's: a pipe would not end before us
            os.dup2(null, fd)
        os.close(null)
        self._patience = patience
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
        if twin >= 0:
            self._twin = twin
            self._epoll.register(twin, select.EPOLLIN)
        woken = self._hear()
        try:
            while True:
                some = self._reap()
                wait = self._adopt()
                if not self._held and (self._begun or not some):
                    return
                if self._twin < 0 and self._held:
                    self._pair()
                self._epoll.poll(wait)
                self._drain(woken)
                self._heed()
        finally:
            keeping.unlink(self._path)
            leaving.done(self._went)

    def _hear(self) -> int:
        """Signals, of which only that of a child's end means something; where they are read."""
        woken, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (*_HEARD, _CHILD):
            _signal.signal(number, lambda *_: None)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._epoll.register(woken, select.EPOLLIN)
        return woken

    @staticmethod
    def _drain(woken: int) -> None:
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass

    def _reap(self) -> bool:
        """Whoever of our children has ended; False if none is left."""
        for pid, status in process.ended():
            self.reaped(pid, status)
            os.waitpid(pid, 0)
        return process.has_children()

    def _adopt(self) -> float | None:
        """Have somebody take over what is due; the seconds until the next is."""
        for container in self._due():
            if container not in self._adopting.values():
                self._fork(container)
        return max(0.0, min(self._orphans.values()) - time.monotonic()) if self._orphans else None

    def _due(self) -> list[str]:
        """The orphans whose time has come and that are such still; it comes again."""
        now = time.monotonic()
        for container in (due := [each for each, when in self._orphans.items() if when <= now]):
            self._look(container)
            if container in self._orphans:
                self._orphans[container] = now + _PAUSE
        return [container for container in due if container in self._orphans]

    def _fork(self, container: str) -> None:
        """Fork what has another monitor take over; that one will be our child in its turn."""
        from oci_tools.container import detaching

        held = self._held.get(container, {})
        pid = os.fork()
        if pid:
            self._adopting[pid] = container
            return
        try:
            _signal.set_wakeup_fd(-1)
            _signal.signal(_CHILD, _signal.SIG_DFL)
            detaching.adopt(self._root, container, held.get("payload", -1), held.get("master", -1))
        finally:
            os._exit(0)

    def _pair(self) -> None:
        """Fork another that holds the same."""
        ours = os.pidfd_open(os.getpid())
        pid = os.fork()
        if pid:
            os.close(ours)
            self._twin = os.pidfd_open(pid)
            self._epoll.register(self._twin, select.EPOLLIN)
            return
        try:
            self.close()
            self._listen()
            for monitor in self._monitors:
                self._epoll.register(monitor, select.EPOLLIN)
            self._adopting.clear()
            self.live(ours, _LATER)
        finally:
            os._exit(0)
