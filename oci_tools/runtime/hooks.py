"""Hooks: programs that config.json asks to be run at points of a container's life.

runtime-spec, "POSIX-platform Hooks".  In the order listed, the state on stdin, a timeout
that kills.  A hook that does not read its stdin is not an error.  Nothing is imported
here beyond built-in modules: createContainer and startContainer hooks run on the
container side, where an import could load code of the image.
"""

from __future__ import annotations

import _signal  # `signal` loads `enum`
import os
import select
import time
from _socket import AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_STREAM, socketpair

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any


def listed(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return (spec.get("hooks") or {}).get(kind) or []


def run(
    hooks: list[dict[str, Any]], kind: str, state: dict[str, Any], environ: dict[str, str] | None = None, first: int = 0
) -> None:
    """Run hooks one after the other; the first that fails is an Error that names it.

    environ  what a hook without "env" gets; nothing by default, as the specification says
    first    the number of the first of them in config.json
    """
    text = document.dumps(state)
    for number, hook in enumerate(hooks, first):
        what = f"error running {kind} hook #{number}:"  # runc's words, which its callers know
        try:
            _run(hook, text, environ or {})
        except OSError as error:
            raise Error(what, hook["path"], error) from None
        except Error as error:
            raise Error(what, hook["path"], error.what) from None


def _run(hook: dict[str, Any], text: bytes, environ: dict[str, str]) -> None:
    env = dict(word.partition("=")[::2] for word in hook["env"]) if hook.get("env") else environ
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    pid = os.posix_spawn(
        hook["path"],
        hook.get("args") or [hook["path"]],
        env,
        # What it says is for people: stdout is the payload's.
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
        setsigmask=[],
        setsigdef=range(1, 32),
    )
    theirs.close()
    pidfd = os.pidfd_open(pid)
    timeout = hook.get("timeout")
    try:
        ended = _feed(pidfd, ours, text, timeout)
    except BaseException:
        ended = False
        raise
    finally:
        if not ended:
            os.kill(pid, 9)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ours.close()
        os.close(pidfd)
    if not ended:
        raise Error(f"timeout of {timeout} s passed")
    if code:
        name = "" if code > 0 else str(_signal.strsignal(-code)).lower()
        raise Error(f"exit status {code}" if code > 0 else f"killed by signal {-code} ({name})")


def _feed(pidfd: int, stdin: socket, text: bytes, timeout: float | None) -> bool:
    """Give a process its input and wait for its end; False when the time (in seconds) has passed first.

    Both at once: a hook that neither reads nor ends must not be waited for longer.
    """
    stdin.setblocking(False)
    end = None if not timeout else time.monotonic() + timeout
    left = memoryview(text)
    while True:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if left:
            poll.register(stdin, select.POLLOUT)
        ready = dict(poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000))
        if pidfd in ready:
            return True
        if stdin.fileno() in ready:
            try:
                left = left[stdin.send(left, MSG_NOSIGNAL) :]
            except OSError:
                left = left[:0]  # it does not read its stdin, and that is no error
            if not left:
                stdin.close()
        elif end is not None and time.monotonic() >= end:
            return False
