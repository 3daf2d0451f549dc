"""-v DIR:DST:U (podman): what is mounted becomes the container's user's, all the way down, before he sees it.

No path is joined and no link followed: the tree may be a stranger's.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.layer.walk import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def give(destinations: list[str], spec: dict[str, Any]) -> None:
    """Change the owners of what these mounts show, where the top is not the user's already."""
    for mount in spec["mounts"]:
        if mount["destination"] in destinations:
            uid, gid = _owner(spec, "idmap" in mount["options"])
            try:
                _give(mount["source"], uid, gid)
            except OSError as error:
                raise Error("cannot change the owner of", mount["source"], error) from None


def _owner(spec: dict[str, Any], as_inside: bool) -> tuple[int, int]:
    """The container's user as the host has him; where ids of the mount are mapped, as he is inside."""
    user, linux = spec["process"]["user"], {} if as_inside else spec["linux"]
    return _outside(user["uid"], linux.get("uidMappings")), _outside(user["gid"], linux.get("gidMappings"))


def _outside(number: int, maps: list[dict[str, int]] | None) -> int:
    for one in maps or ():
        if one["containerID"] <= number < one["containerID"] + one["size"]:
            return one["hostID"] + number - one["containerID"]
    if maps:
        raise Error("cannot change the owner of a mount", number, "the user has no id on the host")
    return number


def _give(path: str, uid: int, gid: int) -> None:
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen = os.fstat(top)
        if (seen.st_uid, seen.st_gid) == (uid, gid):
            return
        for found in walk(top):
            os.chown(found.name, uid, gid, dir_fd=found.at, follow_symlinks=False)
        os.fchown(top, uid, gid)
    finally:
        os.close(top)
