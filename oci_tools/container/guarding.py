"""The guard of a container where no `ocid` is: the parent of its monitor, and as little more as can be.

    guard ── monitor ── container

It holds what the monitor sends (keeping.py).  When the monitor dies the container becomes the guard's child, which is
the next subreaper above: it has another monitor take over, as `oci-run adopt` does, and notes how the container ends
for that one, who is not its parent.  It ends with the last of its children.
"""

from __future__ import annotations

import _signal
import gc
import os
import select
import time

from oci_tools import fs
from oci_tools.container import keeping, names
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

_HEARD = (1, 2, 3, 15)  # HUP, INT, QUIT, TERM: not for us, as they are not for a monitor
_CHILD = 17  # SIGCHLD
_PAUSE = 1.0  # seconds after which what could not be adopted is tried again


def stand(root: str, container: str) -> None:
    """Fork: the parent is the guard and does not return, the child is to be the monitor.

    root  where the runtime keeps its states
    """
    sock = keeping.listen(container)
    if os.fork() == 0:
        sock.close()
        os.setsid()
        return
    try:
        process.close_others((sock.fileno(),))
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):  # the caller's: a pipe would not end before us
            os.dup2(null, fd)
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
        gc.freeze()  # what was shared by fork stays shared
        _Guard(root, container, sock).live()
    finally:
        os._exit(0)


class _Guard:
    """What is held of one container: the `master` of its terminal, its `stdin`, a pidfd of its first process."""

    def __init__(self, root: str, container: str, sock: socket) -> None:
        self._root = root
        self._id = container
        self._sock = sock
        self._kept: dict[str, int] = {}
        self._adopting = 0  # the process that sees to a new monitor
        self._not_before = 0.0
        self._woken, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (*_HEARD, _CHILD):
            _signal.signal(number, lambda *_: None)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def live(self) -> None:
        from oci_tools.container import detaching  # which has imported us

        while True:
            some = self._reap()
            wait = None
            begun = "payload" in self._kept  # else who had it started sees to it
            if begun and not self._adopting and detaching.is_orphan(self._root, self._id):
                wait = (self._not_before - time.monotonic()) * 1000
                if wait <= 0:
                    self._adopt()
                    wait = None
            elif not some:
                return
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(self._woken, select.POLLIN)
            ready = dict(poll.poll(wait))
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._sock.fileno() in ready:
                self._take()

    def _take(self) -> None:
        name, fd = keeping.taken(self._sock)
        before = self._kept.pop(name, -1)
        if before >= 0:
            os.close(before)
        if fd >= 0:
            self._kept[name] = fd

    def _adopt(self) -> None:
        """Fork what has another monitor take over; that one will be our child in its turn."""
        from oci_tools.container import detaching

        while select.select([self._sock], [], [], 0)[0]:
            self._take()  # the last that the dead one has sent
        self._not_before = time.monotonic() + _PAUSE
        self._adopting = os.fork()
        if not self._adopting:
            try:
                _signal.set_wakeup_fd(-1)
                _signal.signal(_CHILD, _signal.SIG_DFL)
                detaching.adopt(self._root, self._id, self._kept.get("payload", -1), self._kept.get("master", -1))
            finally:
                os._exit(0)

    def _reap(self) -> bool:
        """Whoever of our children has ended; False if none is left."""
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if seen is None:
                return True
            if seen.si_pid == self._adopting:
                self._adopting = 0
            else:
                self._note(seen.si_pid, seen.si_status << 8 if seen.si_code == os.CLD_EXITED else seen.si_status)
            os.waitpid(seen.si_pid, 0)

    def _note(self, pid: int, status: int) -> None:
        """How the container has ended, before the kernel may tell whoever waits for that."""
        try:
            if state.load(self._root, self._id)["pid"] == pid:
                fs.write(f"{names.place(self._id)}/reaped", b"%d\n" % status, 0o600, sync=False)
        except Error:
            pass  # a full disk, or it is gone; a pidfd knows as well
