"""A cgroup of its own for each `exec`, in cgroup2: what is left behind of one can be killed as a tree.

A child of the container's group, in the hybrid layout of that in `unified`.  The process is born in it
(CLONE_INTO_CGROUP takes 1 ms where a write to cgroup.procs waits 13 for a grace period).  The state of
the container says which it is:

    ROOT/ID/execs/PID    the group's path; PID as `exec --pid-file` writes it

A group that is empty is removed with its exec, or by the next one.
"""

from __future__ import annotations

import os
import time

from oci_tools.errors import Error
from oci_tools.runtime import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.runtime.cgroup import Cgroup

def place(groups: Cgroup) -> str | None:
    """Where the groups of a container's execs are; None: there is no cgroup2."""
    return groups.paths.get("") or groups.paths.get(cgroup.UNIFIED)


def make(directory: str, groups: Cgroup) -> str | None:
    """A new group for an exec in the container of a state directory; None where we may make none."""
    top = place(groups)
    if top is None:
        return None
    records = f"{directory}/execs"
    try:
        os.makedirs(records, 0o700, exist_ok=True)
        sweep(records)
        path = f"{top}/exec-{os.getpid()}-{time.monotonic_ns():x}"
        os.makedirs(path, 0o755)
    except OSError:
        return None  # a plain user's container, or one whose own limit is reached: it joins the first
    return path


def opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def record(directory: str, pid: int, path: str) -> None:
    """Say which group is the one of this exec."""
    fd = os.open(f"{directory}/execs/{pid}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, os.fsencode(path))
    os.close(fd)


def sweep(records: str) -> None:
    """Remove the groups in which nothing is left."""
    for name in os.listdir(records):
        try:
            with open(f"{records}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                _drop(file.read(), f"{records}/{name}")
        except FileNotFoundError:
            continue  # somebody else has


def _drop(path: str, record: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError:
        return  # somebody is in it
    os.unlink(record)


def end(directory: str, pid: int, path: str) -> None:
    """Its first process has ended: away with the group, unless others are left in it."""
    try:
        _drop(path, f"{directory}/execs/{pid}")
    except OSError:
        pass  # somebody else has


def kill(directory: str, pid: int, signum: int, name: str) -> None:
    """Signal everything that an exec has started and left in its group."""
    try:
        with open(f"{directory}/execs/{pid}", encoding="utf-8", errors="surrogateescape") as file:
            path = file.read()
        group = cgroup.Cgroup({"": path})
        if signum != 9:
            for each in group.processes():
                os.kill(each, signum)
            return
        group.kill()
        _drop(path, f"{directory}/execs/{pid}")
    except FileNotFoundError:
        raise Error("container has no exec of this pid", f"{pid}", f"none is known of container '{name}'") from None
    except ProcessLookupError:
        pass  # it has just ended

