"""A container's cgroups in its life: made by ourselves or by systemd, limited, changed, and removed.

What a group is, `cgroup.py` says; who decides where it is and what is told to whom, this.  systemd makes its
groups around a process, so they all come when the container's first process has; it sets itself up meanwhile.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import cgroup, state
from oci_tools.runtime.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.launch import Container


def of(known: dict[str, Any]) -> Cgroup | None:
    """The groups that a container's state tells of."""
    return Cgroup(known["cgroups"]) if known.get("cgroups") else None


def find(made: Container, spec: dict[str, Any], manager: str) -> None:
    """Where the container's groups will be, written down; none where there are no cgroups and none are asked for.

    Only that in which its first process is born is made already.  With the manager "disabled" there are none,
    nor where the annotation io.oci-tools.cgroups says so.
    """
    linux = spec.get("linux") or {}
    if manager == "disabled" or (spec.get("annotations") or {}).get("io.oci-tools.cgroups") == "disabled":
        return
    if manager == "systemd":
        from oci_tools.runtime import systemd

        unit, groups = systemd.place(linux.get("cgroupsPath"), made.name)
        made.state["systemd"] = unit.known()
    else:
        groups = cgroup.place(linux.get("cgroupsPath"), made.name)
    if not groups.paths:
        if any(member != "devices" for member in linux.get("resources") or ()):
            raise Error("cannot limit resources", None, "there are no cgroups on this host")
        return
    groups.refuse_used()  # what is somebody else's must not be ours to remove
    made.state["cgroups"] = groups.paths
    state.save(made.root, made.name, made.state)  # so that a delete after our death finds them
    made.groups = groups
    if manager != "systemd":
        groups.make_birthplace()


def make(made: Container, spec: dict[str, Any], pid: int) -> None:
    """The groups with their limits, for its first process; none where a plain user may make none and asks for none."""
    groups = made.groups
    if groups is None:
        return
    if made.state.get("systemd"):
        from oci_tools.runtime import systemd

        unit = systemd.place((spec.get("linux") or {}).get("cgroupsPath"), made.name)[0]
        unit.start(pid, systemd.properties(spec))
        groups.make(ours=pid)
        groups.put(pid)
        return _limit(groups, spec)
    try:
        groups.make(ours=pid)
    except Error as error:
        wanted = (spec.get("linux") or {}).get("resources") or {}
        refused = isinstance(error.cause, OSError) and error.cause.errno in (1, 13, 30)
        if refused and not any(member != "devices" and wanted[member] for member in wanted):
            made.state["cgroups"], made.groups = {}, None
            return state.save(made.root, made.name, made.state)
        raise
    _limit(groups, spec)


def _limit(groups: Cgroup, spec: dict[str, Any]) -> None:
    from oci_tools.runtime import cgroup_mounts, devices  # who only looks at groups does without

    groups.apply((spec.get("linux") or {}).get("resources") or {})
    if groups.unified and cgroup_mounts.owner(spec):
        groups.give(cgroup_mounts.owner(spec))
    if os.geteuid() == 0 and process.in_host_user_namespace():
        groups.allow_devices(devices.rules(spec))  # who may make no device node needs no rule


def follow(made: Container, pid: int, own: str) -> None:
    """Have a plain user's systemd put an exec's process into the container's unit, or its `own` group in that."""
    known = made.entered or {}
    if (known.get("systemd") or {}).get("user"):
        from oci_tools.runtime import systemd

        unit, held = systemd.of(known), of(known)
        if unit is not None and held is not None:
            unit.attach(pid, own.removeprefix(held.paths[""]) if held.unified else "")


def change(known: dict[str, Any], wanted: dict[str, Any]) -> None:
    """`update`: new limits, what is not named stays."""
    groups = of(known)
    if groups is None:
        raise Error("cannot update container", known["id"], "it has no cgroup")
    if known.get("systemd"):
        from oci_tools.runtime import resources, systemd

        unit = systemd.of(known)
        if unit is not None:
            unit.change(systemd.limits(resources.plan_v2(wanted, groups.now)))
    groups.apply(wanted)


def remove(known: dict[str, Any]) -> None:
    """Kill who is left in a container's groups, and remove them."""
    groups = of(known)
    if groups is None or (not known.get("systemd") and groups.remove_empty()):
        return
    if groups.processes():
        groups.kill()
    if known.get("systemd"):
        from oci_tools.runtime import systemd

        unit = systemd.of(known)
        if unit is not None:
            unit.stop()
    groups.remove()
