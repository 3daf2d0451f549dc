"""The containers that `ocid` watches: what it holds so that nothing is lost when one of their monitors dies.

    pidfds of a container's monitor and of its first process; the read ends of its FIFOs; the master of its terminal or
    the writing end of its input, which the monitor sends to OCI_RUN/ocid.keep

None of it is knowledge: all is read again, from containers/ID/, the runtime's states and OCI_ROOT/events, by the next
`ocid`.  Where a monitor has died, `oci-run adopt` has another take its place, and is given what was held.
"""

from __future__ import annotations

import fcntl
import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_STREAMS = ("stdout", "stderr")


class Held:
    """What is held of one container: `monitor` and `payload` are pidfds or -1, `pid` that of the payload."""

    def __init__(self, container: str) -> None:
        self.id = container
        self.monitor = self.payload = -1
        self.kept: dict[str, int] = {}  # "master", "stdin"
        self.pid = 0
        self._pipes: list[int] = []
        self.adopting = False

    def look(self) -> None:
        """Open what there is now and is not held yet."""
        if self.monitor < 0:
            self.monitor = monitor_of(self.id)
        pid = payload_of(self.id)
        if pid and pid != self.pid:
            self.forget_payload()
            self.payload = opened(self.id, pid)
            self.pid = pid if self.payload >= 0 else 0
        if not self._pipes:
            for name in _STREAMS:
                try:
                    path = f"{place(self.id)}/io/{name}"
                    self._pipes.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
                except OSError:
                    break  # it has a terminal, and one of them

    def forget_payload(self) -> None:
        for name in [*self.kept]:
            self.keep(name)
        if self.payload >= 0:
            os.close(self.payload)
        self.payload = -1
        self.pid = 0

    def keep(self, name: str, fd: int = -1) -> None:
        """Hold a descriptor instead of the one before, or none."""
        before = self.kept.pop(name, -1)
        if before >= 0:
            os.close(before)
        if fd >= 0:
            self.kept[name] = fd

    def let_go(self) -> None:
        """An input that is at its end is not ours to keep open: who said so may not have been heard."""
        if "stdin" in self.kept and os.path.exists(f"{place(self.id)}/io/closed"):
            self.keep("stdin")

    def close(self) -> None:
        self.forget_payload()
        for fd in self._pipes:
            os.close(fd)
        self._pipes = []
        if self.monitor >= 0:
            os.close(self.monitor)
        self.monitor = -1

    def given(self) -> tuple[list[str], dict[int, int]]:
        """The words and descriptors with which another monitor takes over."""
        words, fds = [], {}
        if self.payload >= 0:
            words, fds = ["--pidfd", "3"], {3: self.payload}
        if "master" in self.kept:
            words, fds[4] = [*words, "--master", "4"], self.kept["master"]
        return words, fds


def place(container: str) -> str:
    return f"{fs.root()}/containers/{container}"


def ids() -> list[str]:
    """Every container of people."""
    try:
        return [name for name in os.listdir(f"{fs.root()}/containers") if name[0] != "."]
    except FileNotFoundError:
        return []


def record(container: str, name: str) -> dict[str, Any]:
    """One of its documents; empty if there is none."""
    try:
        found: dict[str, Any] = document.load(f"{place(container)}/{name}.json")
        return found
    except Error:
        return {}


def monitor_of(container: str) -> int:
    """A pidfd of the process that holds its lock, -1 if nobody does."""
    try:
        fd = os.open(f"{place(container)}/lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        pidfd = os.pidfd_open(int(os.read(fd, 32) or b"0"))
    except (OSError, ValueError):
        os.close(fd)
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(pidfd)
        return -1
    except BlockingIOError:
        return pidfd
    finally:
        os.close(fd)


def payload_of(container: str) -> int:
    """The pid of its first process as the runtime knows it, 0 if there is none."""
    try:
        return int(document.load(f"{fs.run()}/runtime/{container}/state.json")["pid"])
    except (Error, KeyError):
        return 0


def opened(container: str, pid: int) -> int:
    """A pidfd of the payload with this pid; -1 if it is another process by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    try:
        known = document.load(f"{fs.run()}/runtime/{container}/state.json")
        if process.start_time(pid) in (known["startTime"], 0) and known["pid"] == pid:
            return pidfd
    except (Error, KeyError):
        pass  # it has been deleted meanwhile
    os.close(pidfd)
    return -1


def tell(container: str, line: bytes) -> None:
    """A line to whoever looks after a container: `io/ctl`."""
    try:
        fd = os.open(f"{place(container)}/io/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # nobody does any more
    try:
        os.write(fd, line)
    except OSError:
        pass
    finally:
        os.close(fd)


def detached(container: str) -> bool:
    return os.path.isdir(f"{place(container)}/io")


def orphan(container: str) -> bool:
    """Whether it was detached, has not ended and nobody looks after it."""
    ended = record(container, "exit")
    known = os.path.isdir(f"{fs.run()}/runtime/{container}")
    if not detached(container) or not record(container, "policy"):
        return False
    return known or bool(record(container, "start") and (not ended or ended.get("restarting")))


def order(wanted: list[str], requires: Callable[[str], list[str]]) -> list[str]:
    """These containers, each behind those that it requires; circles are cut somewhere."""
    done: list[str] = []
    begun: set[str] = set()

    def visit(container: str) -> None:
        if container not in begun:
            begun.add(container)
            for other in requires(container):
                visit(other)
            done.append(container)

    for container in wanted:
        visit(container)
    return done


def at_boot() -> list[str]:
    """The containers that are started with the machine, in the order in which they are."""
    wanted = []
    for container in ids():
        policy = record(container, "policy")
        name = (policy.get("restart") or {}).get("name", "no")
        ran = bool(record(container, "start")) and not record(container, "exit")
        stopped = os.path.exists(f"{place(container)}/stopped")
        started = bool(record(container, "start"))
        again = name == "always" or (name == "unless-stopped" and not stopped) or (name == "on-failure" and ran)
        if again and started:
            wanted.append((policy.get("created", 0), container))
    return order([container for _, container in sorted(wanted)], lambda one: record(one, "policy").get("requires", []))
