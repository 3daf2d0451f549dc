"""/sys/fs/cgroup inside the container: v2 as one mount, v1 as one for each hierarchy.

With a cgroup namespace, new mounts whose root is the container's own group; without,
binds of that group.  What is bound in a user namespace is read-only whatever is asked for: it
may be a group that the user was given, with others of theirs in it (CVE-2023-25809).
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import mounts
from oci_tools.runtime.cgroup import UNIFIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup

_SAFE = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC


def make(tree: mounts.Tree, step: mounts.Plan, groups: Cgroup | None, own_namespace: bool) -> None:
    """Make the mount of type "cgroup" at `step.destination`; `groups` None: there are none for us."""
    try:
        if groups is None or groups.unified:
            _unified(tree, step, groups, own_namespace)
        else:
            _hierarchies(tree, step, groups, own_namespace)
    except OSError as error:
        raise Error("cannot mount 'cgroup' on", step.destination, error) from None


def owner(spec: dict[str, Any]) -> int:
    """The host's uid of a container's root if that may divide the container's group; 0: nobody.

    It may where it can see that group alone and write to it: in user and cgroup namespaces of
    its own, with a mount of cgroups that config.json does not make read-only.
    """
    linux = spec.get("linux") or {}
    new = {entry["type"] for entry in linux.get("namespaces") or () if not entry.get("path")}
    mounted = any(
        entry.get("type") in ("cgroup", "cgroup2") and "ro" not in (entry.get("options") or ())
        for entry in spec.get("mounts") or ()
    )
    if not mounted or not {"user", "cgroup"} <= new:
        return 0
    roots = [entry["hostID"] for entry in linux.get("uidMappings") or () if entry["containerID"] == 0]
    return roots[0] if roots else 0


def _unified(tree: mounts.Tree, step: mounts.Plan, groups: Cgroup | None, own_namespace: bool) -> None:
    if own_namespace:
        try:
            mounted = mounts.new("cgroup2", "cgroup", step.data, step.set)
        except OSError:
            if groups is not None:
                raise
            return _bind(tree, "/sys/fs/cgroup", step.destination, step.set | _forced(groups))
        return tree.place(mounted, step.destination)
    path = "/sys/fs/cgroup" if groups is None else groups.paths[""]
    _bind(tree, path, step.destination, step.set | _forced(groups))


def _hierarchies(tree: mounts.Tree, step: mounts.Plan, groups: Cgroup, own_namespace: bool) -> None:
    cover = mounts.new("tmpfs", "tmpfs", ["mode=755"], step.set & ~mount.MOUNT_ATTR_RDONLY)
    keep = os.dup(cover)
    tree.place(cover, step.destination)
    for names, path in groups.paths.items():
        if names == UNIFIED:
            continue  # v1's is what was asked for
        name = names.removeprefix("name=")
        os.mkdir(name, 0o755, dir_fd=keep)
        for alias in name.split(",") if "," in name else ():
            os.symlink(name, alias, dir_fd=keep)
        where = f"{step.destination}/{name}"
        if own_namespace:
            options = [names] if names.startswith("name=") else names.split(",")
            if names.startswith("name="):
                options.append("none")
            tree.place(mounts.new("cgroup", "cgroup", options, step.set), where)
        else:
            _bind(tree, path, where, step.set | _forced(groups))
    if step.set & mount.MOUNT_ATTR_RDONLY:
        mount.mount_setattr(keep, "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY)
    os.close(keep)


def _forced(groups: Cgroup | None) -> int:
    """Read-only, where what is bound is not the container's alone."""
    return mount.MOUNT_ATTR_RDONLY if groups is None or not process.in_host_user_namespace() else 0


def _bind(tree: mounts.Tree, source: str, destination: str, attributes: int) -> None:
    cloned = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE)
    mount.mount_setattr(cloned, "", mount.AT_EMPTY_PATH, attributes | _SAFE)
    tree.place(cloned, destination)
