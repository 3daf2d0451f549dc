"""Stay with a container in the foreground: forward signals, relay its terminal, tell its end.

One poll(2) over the container's pidfd, the signals that reach us, and the terminal's two
sides; no threads and no timers.
"""

from __future__ import annotations

import _signal  # `signal` loads `enum`
import os
import select

from oci_tools.linux import process
from oci_tools.runtime import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Not forwarded: what cannot be caught, what is about us or our own children, and stops,
# which job control sends to us and which would leave us deaf to what follows.
_KEPT = {9, 19, 13, 17, 20, 21, 22, 23, 32, 33}  # KILL STOP PIPE CHLD TSTP TTIN TTOU URG, libc's own
_SIGWINCH = 28


def wait(pidfd: int, pid: int, master: int) -> int:
    """Until the container's process ends: its exit code, 128 + n for signal n."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = _catch(writer)
    try:
        if master < 0:
            _watch(pidfd, reader, None)
        else:
            with terminal.Relay(master) as relay:
                _watch(pidfd, reader, relay)
                relay.drain()
    finally:
        _release(before)
        os.close(reader)
        os.close(writer)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    return code if code >= 0 else 128 - code


def _watch(pidfd: int, signals: int, relay: terminal.Relay | None) -> None:
    while True:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(signals, select.POLLIN)
        for fd, events in relay.interests() if relay else ():
            poll.register(fd, events)
        ready = dict(poll.poll())
        if signals in ready:
            for number in os.read(signals, 64):
                if number == _SIGWINCH and relay:
                    relay.resize()
                else:
                    _forward(pidfd, number)
        if relay:
            relay.turn(ready)
        if pidfd in ready:
            return


def _forward(pidfd: int, number: int) -> None:
    try:
        process.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it has just ended


def _catch(writer: int) -> dict[int, Any]:
    """Have every signal that can be forwarded written to the pipe; the handlers before."""
    before = {}
    for number in range(1, 65):
        if number not in _KEPT:
            before[number] = _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return before


def _release(before: dict[int, Any]) -> None:
    _signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
