"""A created container waits for `start`: two FIFOs in its state directory, so that a shell can ask too.

    whoever starts it                           container side
      opens answer.fifo to read, and locks it
      "start" ------------- start.fifo -------> has read there since "ready"
      <-------------------- answer.fifo ------- "0"
                                                startContainer hooks, close_range, execve
      <-------------------- answer.fifo ------- on failure: an "error" of `sync.py` and a newline
      <-------------------- (EOF)               the exec has closed it, the payload runs

The container side holds both open for reading and writing, the first until it is asked, the other until
its exec.  So no open blocks while it lives, who asks and dies does no harm, and a container is "created"
as long as somebody has start.fifo open to read.  Of several who ask, the lock lets one hear.  `bin/oci-run`
speaks the same in its first lines.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

START, ANSWER = "start.fifo", "answer.fifo"
_ANSWERED = "_OCI_ANSWER"  # from the shell: the error that it was answered, for us to say


class Waiting:
    """The container side's ends."""

    def __init__(self, directory: str) -> None:
        self.fds = []
        for name in (START, ANSWER):
            os.mkfifo(f"{directory}/{name}", 0o600)
            self.fds.append(os.open(f"{directory}/{name}", os.O_RDWR | os.O_CLOEXEC))

    def wait(self) -> None:
        """Until somebody asks."""
        start, answer = self.fds
        os.read(start, 4096)
        os.close(start)  # not by the exec, which closes one after the other: who hears of it would see "created"
        os.write(answer, b"0")

    def send(self, op: str, **members: Any) -> None:
        """As a channel does, to who has asked."""
        os.write(self.fds[1], document.dumps({"op": op, **members}) + b"\n")

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def waits(directory: str) -> bool:
    """Whether the container of this state directory still waits."""
    try:
        os.close(os.open(f"{directory}/{START}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def ask(directory: str, name: str) -> None:
    """Start it; an Error if that failed, or somebody else did it."""
    try:
        answer = os.open(f"{directory}/{ANSWER}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.set_blocking(answer, True)
            flock(answer, LOCK_EX | LOCK_NB)
            start = os.open(f"{directory}/{START}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(start, b"start")
            os.close(start)
            heard = b"".join(iter(lambda: os.read(answer, 65536), b""))
        finally:
            os.close(answer)
    except OSError:
        heard = b""  # it has just been started, or deleted
    if heard[:1] != b"0":
        raise Error("cannot start an already running container", name)
    if heard[1:]:
        _raise(heard[1:])


def said_by_shell() -> None:
    """Raise the error that the first lines of `bin/oci-run` were answered, if so."""
    answer = os.environ.pop(_ANSWERED, None)
    if answer:
        _raise(os.fsencode(answer))


def _raise(answer: bytes) -> None:
    raise sync.revive(document.loads(answer, "message of the container side"))
