"""How the process comes to be that stays with a detached container (monitor.py).

It needs no daemon, and `ocid` none of it: one that was killed is replaced by another (`adopt`), with no line and no
exit code lost where the kernel can tell.
"""

from __future__ import annotations

import gc
import os

from oci_tools.container import ending, guarding, keeping, leaving, names, place
from oci_tools.container.monitor import Monitor
from oci_tools.errors import Busy, Error
from oci_tools.linux import process
from oci_tools.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.place import Place


def start(root: str, held: Place, spec: dict[str, Any]) -> None:
    """Start the container behind those that it requires, and leave it to the process that stays."""
    for other in held.policy.get("requires", ()):
        _require(root, other)
    held.left = True  # what happens to it is not up to this process any more
    guard = None if keeping.ocid() else lambda: guarding.stand(root, held.id)
    said = _fork(lambda told: _begin(root, held, spec, told), guard, held.lock.fd)
    if said[:3] != b"ok\n":
        held.left = not held.fresh
        code, _, text = said.decode("utf-8", "replace").partition(" ")
        if held.left:
            held.ended(int(code) if code in ("126", "127") else 125, error=text)
        raise Error(text or "the container's process ended unexpectedly", code=int(code or 1))


def _require(root: str, container: str) -> None:
    """Have another container run, whoever starts it."""
    from oci_tools.container.start import again

    if _runs(root, container):
        return
    try:
        again(root, container, False, False)
    except Error:
        if not _runs(root, container):
            raise


def _runs(root: str, container: str) -> bool:
    pidfd = ending.payload(root, container)
    if pidfd >= 0:
        os.close(pidfd)
    return pidfd >= 0


def _begin(root: str, held: Place, spec: dict[str, Any], told: int) -> Monitor:
    held.mark(stopped=False)
    made = Monitor(root, held, spec)
    made.begin()
    os.write(told, b"ok\n")
    return made


def adopt(root: str, container: str, pidfd: int = -1, master: int = -1) -> bool:
    """Look after a container whose monitor has died; False if there is nothing to do.

    pidfd   of its first process, kept by somebody, who can tell how it ended
    master  of its terminal
    """
    policy = names.policy(container)
    if not os.path.isdir(f"{names.place(container)}/io") or not policy:
        raise Error("cannot adopt container", container, "it was not detached")
    try:
        held = place.Place.again(container, timeout=0).__enter__()
    except Busy:
        return False  # it has its monitor
    ended = _over(container) or not names.was_started(container)
    if ended and not os.path.isdir(state.directory(root, container)):
        if policy.get("rm"):
            held.remove()
        held.lock.__exit__()
        return False
    said = _fork(lambda told: _take_over(root, held, pidfd, master, told), None, held.lock.fd, pidfd, master)
    if said[:3] != b"ok\n":
        raise Error(said.decode("utf-8", "replace").partition(" ")[2] or "the monitor ended unexpectedly")
    return True


def is_orphan(root: str, container: str) -> bool:
    """Whether a container that was detached has nobody who looks after it, and had not ended before."""
    if not os.path.isdir(f"{names.place(container)}/io") or not names.policy(container):
        return False
    pidfd = place.keeper(container)
    if pidfd >= 0:
        os.close(pidfd)
        return False
    known = os.path.isdir(state.directory(root, container))
    return known or (names.was_started(container) and not _over(container))


def _over(container: str) -> bool:
    """Whether it has ended, and is not about to be started again."""
    record = names.end(container)
    return bool(record.get("finished")) and not record.get("restarting")


def _take_over(root: str, held: Place, pidfd: int, master: int, told: int) -> Monitor:
    made = Monitor(root, held, held.spec())
    made.take_over(pidfd, master)
    os.write(told, b"ok\n")
    return made


def _fork(begin: Any, guard: Any, *kept: int) -> bytes:
    """Fork the process that stays, with these descriptors; what it says once it has begun, or why not.

    guard  None, or forks once more: its parent stays behind
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, went = leaving.fork()
    if pid:
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()
        if said[:3] != b"ok\n":
            os.waitpid(pid, 0)
        return said
    try:
        os.setsid()
        os.chdir("/")
        process.close_others((writer, *kept))
        if guard:
            guard()
        made = begin(writer)
    except BaseException as error:
        os.write(writer, f"{getattr(error, 'code', 1)} {error}".encode("utf-8", "replace"))
        os._exit(1)
    try:
        os.close(writer)
        gc.enable()  # the forker has none
        gc.freeze()  # what was shared by fork stays shared: nothing goes through it again
        made.live()
        leaving.done(went)
    finally:
        os._exit(0)
