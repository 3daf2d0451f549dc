"""Small processes that stay when whoever started them has gone: forks that are nobody's children, and nobody.

A fork of a command that waits for nothing costs a millisecond; an interpreter of its own would cost twenty.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65534


def start(run: Callable[[], None], record: str = "") -> None:
    """Let `run` be a process in a session of its own, which ends with it; its pid is in the file `record` then."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.chdir("/")
            run()
        elif record:
            fs.write(record, b"%d\n" % pid, 0o600, sync=False)
    finally:
        os._exit(0)


def settle(name: bytes, kept: set[int]) -> None:
    """Become one: `name` in lists of processes, with these descriptors and nothing on the standard ones."""
    _keep_only(kept)
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(name)
    _become_nobody()
    _default_signals()


def _keep_only(kept: set[int]) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    process.close_others(kept)


def _become_nobody() -> None:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        pass  # in a user namespace without a nobody: it is no more than its caller anyway


def _default_signals() -> None:
    import _signal

    for number in (1, 2, 13, 15):  # the caller may have ignored or caught them
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
