"""Stay with a container in the foreground: forward signals, relay its terminal, tell its end.

One poll(2) over the container's pidfd, the signals that reach us, and the terminal's two
sides; no threads and no timers.
"""

from __future__ import annotations

import _signal  # `signal` loads `enum`
import os
import select
import time

from oci_tools.linux import process
from oci_tools.runtime import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Suspend = Callable[[bool], None]

# Not forwarded: what cannot be caught, what is about us or our own children, what job control stops
# us by when we use the terminal, and faults of our own: to return from a handler of those is to meet
# them again, for ever.
_KEPT = {4, 7, 8, 11, 9, 19, 13, 17, 21, 22, 23, 32, 33}
#        ILL BUS FPE SEGV KILL STOP PIPE CHLD TTIN TTOU URG, libc's own
_SIGCONT, _SIGSTOP, SIGTSTP, _SIGXFSZ, _SIGWINCH = 18, 19, 20, 25, 28
_ENDING = (1, 2, 15)  # HUP, INT, TERM


class Signals:
    """While the `with` block lasts, signals to us are the container's: kept until `wait` passes them on.

    To be entered before the payload starts, or one that comes right after would end us alone.
    What our caller has us ignore (nohup(1), a shell's background) stays ignored.  Where they are not to be
    forwarded, they end us and not the container.
    """

    def __init__(self, forward: bool = True) -> None:
        self._forward = forward

    def __enter__(self) -> Signals:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.before: dict[int, Any] = {}
        for number in range(1, 65):
            if not self._forward and number != _SIGWINCH:
                if number in _ENDING:  # as if we had never asked for it
                    self.before[number] = _signal.signal(number, _signal.SIG_DFL)
            elif number not in _KEPT and (number == _SIGXFSZ or _signal.getsignal(number) != _signal.SIG_IGN):
                self.before[number] = _signal.signal(number, lambda *_: None)
        _signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        _signal.set_wakeup_fd(-1)
        for number, handler in self.before.items():
            if number < 32:  # one of the others is sent by nobody, and each call costs
                _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
        os.close(self.reader)
        os.close(self.writer)

    def fileno(self) -> int:
        return self.reader

    def numbers(self) -> bytes:
        """Those that have come, once there are some."""
        return os.read(self.reader, 64)


def wait(
    pidfd: int, pid: int, master: int, signals: Signals, notify: Any = None, suspend: Suspend | None = None,
    timeout: int = 0,
) -> int:  # fmt: skip
    """Until the container's process ends: its exit code, 128 + n for signal n.

    notify   an `activation.Notify`, where a service manager waits for the payload to be ready
    suspend  suspends what we stay with (True) and resumes it, when we are stopped; else its process group is stopped
    timeout  seconds after which it is killed; 0: never
    """
    suspend = suspend or (lambda stopped: _stop_group(pid, stopped))
    if master < 0:
        _watch(pidfd, signals, None, notify, suspend, timeout)
    else:
        with terminal.Relay(master) as relay:
            _watch(pidfd, signals, relay, notify, suspend, timeout)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    return code if code >= 0 else 128 - code


def stop() -> None:
    """Stop as a job does that was asked to by SIGTSTP; returns when it is continued."""
    handler = _signal.signal(SIGTSTP, _signal.SIG_DFL)
    os.kill(os.getpid(), SIGTSTP)
    _signal.signal(SIGTSTP, handler)


def _watch(
    pidfd: int, signals: Signals, relay: terminal.Relay | None, notify: Any, suspend: Suspend, timeout: int
) -> None:
    """Until it has ended and what it wrote is out; a signal after its end gives up the rest."""
    ended = False
    due = time.monotonic() + timeout if timeout else 0.0
    while not ended or (relay and relay.unfinished()):
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        if not ended:
            poll.register(pidfd, select.POLLIN)
        if notify:
            poll.register(notify, select.POLLIN)
        for fd, events in relay.interests(ended) if relay else ():
            poll.register(fd, events)
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000 + 1 if due else None))
        if due and time.monotonic() >= due:
            due = 0.0
            _forward(pidfd, 9)
        if signals.fileno() in ready:
            if ended:
                return
            for number in signals.numbers():
                if number == _SIGWINCH and relay:
                    relay.resize()
                elif number == SIGTSTP:
                    _stop_with(relay, suspend)
                else:
                    _forward(pidfd, number)
        if relay:
            relay.turn(ready)
        if notify and notify.fileno() in ready and notify.turn():
            notify = None
        ended = ended or pidfd in ready


def _stop_with(relay: terminal.Relay | None, suspend: Suspend) -> None:
    """Stop, the container with us, the terminal as we found it."""
    if relay:
        relay.cook()
    suspend(True)
    stop()
    suspend(False)
    if relay:
        relay.make_raw()
        relay.resize()


def _stop_group(pid: int, stopped: bool) -> None:
    """The payload leads a session, so that its process group is what a shell would call the job."""
    try:
        os.killpg(pid, _SIGSTOP if stopped else _SIGCONT)
    except OSError:
        pass  # it has just ended


def _forward(pidfd: int, number: int) -> None:
    try:
        process.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it has just ended
