"""Bind mounts whose sources the runtime opens for the container: where its root could not, or with an id map.

runtime-spec, "Mounts", idmap and ridmap; open_tree(2), mount_setattr(2).
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import mount
from oci_tools.runtime import namespaces

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
        if step.idmap is not None and not step.bind:
            raise Error("cannot map the ids of", step.destination, "not supported for new file systems")
        if not step.bind or not (everything or step.idmap is not None):
            continue
        flags = mount.OPEN_TREE_CLONE | (mount.AT_RECURSIVE if step.recursive else 0)
        try:
            trees[number] = mount.open_tree(mount.AT_FDCWD, step.source, flags)
            if step.idmap is not None:
                _map_mount(trees[number], step, setup.namespaces.maps)
        except OSError as error:
            raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None
    return trees


def _map_mount(tree: int, step: Any, container: dict[str, Any]) -> None:
    """Show a mount's files with mapped owners, by its own maps or the container's."""
    maps = step.maps if step.maps["uid_map"] else container
    if not maps["uid_map"] or not maps["gid_map"]:
        raise Error("config.json: mounts: idmap needs uidMappings and gidMappings on", step.destination)
    owners = namespaces.user_namespace(maps)
    try:
        mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH | step.idmap, mount.MOUNT_ATTR_IDMAP, 0, 0, owners)
    finally:
        os.close(owners)
