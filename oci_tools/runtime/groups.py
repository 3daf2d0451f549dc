"""A container's cgroups in its life: made by ourselves or by systemd, limited, changed, and removed.

What a group is, `cgroup.py` says; who decides where it is and what is told to whom, this.  systemd makes its
groups around a process, so there they come when the container's first process has.
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


def make(made: Container, spec: dict[str, Any], manager: str) -> None:
    """The container's groups with their limits; none where a plain user may make none and asks for none.

    Those of systemd are only found here: `enter` has them made.  With the manager "disabled" there are none.
    """
    linux = spec.get("linux") or {}
    wanted = linux.get("resources") or {}
    if manager == "disabled":
        return
    if manager == "systemd":
        from oci_tools.runtime import systemd

        unit, groups = systemd.place(linux.get("cgroupsPath"), made.name)
        made.state["systemd"] = unit.known()
    else:
        groups = cgroup.place(linux.get("cgroupsPath"), made.name)
    if not groups.paths:
        if any(member != "devices" for member in wanted):
            raise Error("cannot limit resources", None, "there are no cgroups on this host")
        return
    groups.refuse_used()  # what is somebody else's must not be ours to remove
    made.state["cgroups"] = groups.paths
    state.save(made.root, made.name, made.state)  # so that a delete after our death finds them
    made.groups = groups
    if manager == "systemd":
        return
    try:
        groups.make()
    except Error as error:
        refused = isinstance(error.cause, OSError) and error.cause.errno in (1, 13, 30)
        if refused and not any(member != "devices" and wanted[member] for member in wanted):
            made.state["cgroups"], made.groups = {}, None
            return
        raise
    _limit(groups, spec)


def _limit(groups: Cgroup, spec: dict[str, Any]) -> None:
    from oci_tools.runtime import cgroup_mounts, devices  # who only looks at groups does without

    groups.apply((spec.get("linux") or {}).get("resources") or {})
    if groups.unified and cgroup_mounts.owner(spec):
        groups.give(cgroup_mounts.owner(spec))
    if os.geteuid() == 0 and process.in_host_user_namespace():
        groups.allow_devices(devices.rules(spec))  # who may make no device node needs no rule


def enter(made: Container, spec: dict[str, Any], pid: int) -> None:
    """Have systemd make the container's groups around its first process."""
    if not made.state.get("systemd") or made.groups is None:
        return
    from oci_tools.runtime import systemd

    unit = systemd.place((spec.get("linux") or {}).get("cgroupsPath"), made.name)[0]
    unit.start(pid, systemd.properties(spec))
    made.groups.make(ours=pid)
    made.groups.put(pid)
    _limit(made.groups, spec)


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
    if groups is None:
        return
    if groups.processes():
        groups.kill()
    if known.get("systemd"):
        from oci_tools.runtime import systemd

        unit = systemd.of(known)
        if unit is not None:
            unit.stop()
    groups.remove()
