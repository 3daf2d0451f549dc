"""Bind mounts whose sources the runtime opens for the container: where its root could not, or with an id map.

runtime-spec, "Mounts", idmap and ridmap; open_tree(2), mount_setattr(2).
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import host_mounts, namespaces, sync
from oci_tools.runtime import source as sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime import child


def clone_sources(setup: child.Setup) -> dict[int, int]:
    """Bind sources cloned on our side, by place in the list of mounts.

    In a user namespace, because mapped root may not be able to reach them; with an id map,
    because only we may give a mount one.
    """
    everything = setup.namespaces.has("user") and os.geteuid() == 0
    trees = {}
    for number, step in enumerate(setup.mounts):
        if step.idmap is not None and step.type == "overlay" and not step.bind:
            trees[number] = _overlay(step, setup)
            continue
        if step.idmap is not None and not step.bind:
            raise Error("cannot map the ids of", step.destination, "not supported for new file systems")
        if not step.bind or step.link or not (everything or step.idmap is not None or of_another(step.source)):
            continue
        try:
            trees[number] = _clone(step.source, step.recursive, step.follow_source)
            if step.idmap is not None:
                _map_mount(trees[number], step, setup.namespaces)
        except OSError as error:
            raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None
    return trees


def _overlay(step: Any, setup: child.Setup) -> int:
    from oci_tools.runtime import overlay

    label = (setup.spec.get("linux") or {}).get("mountLabel")
    users = _owners(step, setup.namespaces)
    try:
        return overlay.of_mount([*step.data, *([f"context={label}"] if label else ())], step.subdirectory, users)
    except OSError as error:
        raise Error("cannot mount 'overlay' on", step.destination, error) from None
    finally:
        os.close(users)


def of_another(source: str) -> tuple[int, str] | None:
    """The process through which a bind's source is seen, `/proc/PID/root/PATH`, and the path."""
    parts = source.split("/", 4)
    seen = len(parts) == 5 and parts[:2] == ["", "proc"] and parts[3] == "root"
    return (int(parts[2]), parts[4]) if seen and parts[2].isdecimal() else None


def _clone(source: str, recursive: bool, follow: bool) -> int:
    """A source as a mount that nobody else has.

    Of a mount of another mount namespace only who is in there can make one: a child of ours, which does that
    and nothing else.  The path is resolved beneath that root, whatever links are in it.
    """
    other = of_another(source)
    if other is None:
        return sources.clone(source, recursive, follow)
    pidfd = os.pidfd_open(other[0])
    try:
        return sync.opened_by_child(lambda: _clone_of(other[0], pidfd, other[1], recursive))
    finally:
        os.close(pidfd)


def _clone_of(pid: int, pidfd: int, path: str, recursive: bool) -> int:
    process.prctl(process.PR_SET_DUMPABLE, 0)
    top = os.open(host_mounts.enter(pid, pidfd), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    there = fs.open_beneath(top, path, os.O_PATH)
    flags = mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH | (mount.AT_RECURSIVE if recursive else 0)
    return mount.open_tree(there, "", flags)


def _map_mount(tree: int, step: Any, container: namespaces.Namespaces) -> None:
    """Show a mount's files with mapped owners, by its own maps or the container's."""
    owners = _owners(step, container)
    try:
        mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH | step.idmap, mount.MOUNT_ATTR_IDMAP, 0, 0, owners)
    finally:
        os.close(owners)


def _owners(step: Any, container: namespaces.Namespaces) -> int:
    """The user namespace by whose maps a mount is shown."""
    said = step.maps["uid_map"] and step.maps["gid_map"]
    owners = namespaces.user_namespace(step.maps) if said else container.users()
    if owners < 0:
        raise Error("config.json: mounts: idmap needs uidMappings and gidMappings on", step.destination)
    return owners
