"""A monitor leaves the cgroup of the `ocid` that had it started: who stops the one stops the other else.

A service manager keeps and kills what it has started by the one v2 hierarchy, wherever that is mounted, or by a
v1 hierarchy with nothing but a name: there a monitor goes to

    oci/monitors    below the top; for a plain user below the highest group that was delegated to him

and its container is made beside or below that.  Limits of other v1 hierarchies stay what they are.  What is nobody's
unit, the top itself, is not left, nor is anything where `ocid` is somewhere else than we are.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import cgroup
from oci_tools.runtime import cgroup_directories as directories
from oci_tools.runtime.cgroup import Hierarchy

_GROUP = "oci/monitors"
_SUPERVISOR = "supervisor"
_TRIES = 3  # the last monitor removes the directory, perhaps just now


def fork() -> tuple[int, list[str]]:
    """os.fork(), and the child outside of ocid's groups: (pid, []), or in the child (0, the groups that it went to)."""
    groups = targets()
    pid, went = _born(groups.get("", ""))
    if pid:
        return pid, []
    return 0, went + go({names: path for names, path in groups.items() if names})


def targets() -> dict[str, str]:
    """The groups for who leaves those in which `ocid` is: by the hierarchy's name, "" for v2."""
    found = {hierarchy: _target(hierarchy) for hierarchy in _shared()}
    return {"".join(hierarchy.controllers[:1]): path for hierarchy, path in found.items() if path}


def go(groups: dict[str, str]) -> list[str]:
    """Go to these groups; those to which we came."""
    return [path for names, path in groups.items() if (_join(path, names) if names else _enter(path))]


def done(went: list[str]) -> None:
    """At a monitor's end: remove its groups if it was the last there."""
    for path in went:
        try:
            top = path.removesuffix(_GROUP)
            directories.write(top, "cgroup.procs", "0")  # it may be anywhere now, for it ends
            os.rmdir(path)
            os.rmdir(os.path.dirname(path))
        except (Error, OSError):
            pass  # others are in there


def step_aside() -> None:
    """--cgroups split: go to a v2 group beneath our own; the container's can be beside that, as no process may be."""
    for hierarchy in cgroup.hierarchies():
        if not hierarchy.controllers and os.path.basename(hierarchy.own) != _SUPERVISOR:
            path = os.path.normpath(f"{hierarchy.mountpoint}/{hierarchy.own}/{_SUPERVISOR}")
            try:
                os.makedirs(path, 0o755, exist_ok=True)
            except OSError as error:
                raise Error("cannot make cgroup", path, error) from None
            directories.write(path, "cgroup.procs", "0")


def _shared() -> list[Hierarchy]:
    """The hierarchies of service managers in which we are where `ocid` is."""
    try:
        with open(f"{fs.run()}/ocid.lock", encoding="utf-8") as file:
            theirs = _places(int(file.read() or 0))
        ours = _places(os.getpid())
    except (OSError, ValueError):
        return []
    found = [
        Hierarchy([], each.mountpoint, each.own) if each.controllers == [cgroup.UNIFIED] else each
        for each in cgroup.hierarchies()
    ]
    return [
        each for each in found
        if _keeps(each.controllers)
        and each.own != "/" and ours.get(name := ",".join(each.controllers)) == theirs.get(name, "")
    ]  # fmt: skip


def _keeps(controllers: list[str]) -> bool:
    """Whether a hierarchy is one by which processes are kept, not limited."""
    return not controllers or controllers[0].startswith("name=")


def _places(pid: int) -> dict[str, str]:
    """A process's groups: by controllers, "" for v2."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {names: path for _, names, path in rows}


def _target(hierarchy: Hierarchy) -> str:
    """The directory to go to, "" if there is none that we may."""
    top = hierarchy.mountpoint
    if os.geteuid():
        at = os.path.normpath(f"{hierarchy.mountpoint}/{hierarchy.own}")
        top = ""
        while os.access(at, os.W_OK) and os.access(f"{at}/cgroup.procs", os.W_OK):
            top, at = at, os.path.dirname(at)
        if top == os.path.normpath(f"{hierarchy.mountpoint}/{hierarchy.own}"):
            return ""  # ocid's own is all that is ours
    return f"{top}/{_GROUP}" if top else ""


def _born(path: str) -> tuple[int, list[str]]:
    """Fork into a v2 group: a write to cgroup.procs would wait for a grace period."""
    for _ in range(_TRIES if path else 0):
        try:
            os.makedirs(path, 0o755, exist_ok=True)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            break
        try:
            pid, pidfd = process.clone3(0, fd)
            if pid:
                os.close(pidfd)
            return pid, [] if pid else [path]
        except OSError:
            pass  # it was removed
        finally:
            os.close(fd)
    return os.fork(), []


def _enter(path: str) -> bool:
    """Go to a v2 group."""
    for _ in range(_TRIES):
        try:
            os.makedirs(path, 0o755, exist_ok=True)
            directories.write(path, "cgroup.procs", "0")
            return True
        except (Error, OSError):
            pass  # it was removed
    return False


def _join(path: str, names: str) -> bool:
    for _ in range(_TRIES):
        try:
            directories.make_v1(path, names)
            directories.write(path, "tasks", "0")
            return True
        except (Error, OSError):
            pass  # it was removed
    return False
