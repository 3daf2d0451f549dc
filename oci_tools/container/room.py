"""--storage-opt size=SIZE: how much a container may write to its root file system, by a project quota (xfs, ext4).

What is written lies in the bundle's upper and work: both belong to one project, since xfs renames nothing from one
to another.  The number is in policy.json; it is the container's until that is removed.
"""

from __future__ import annotations

import os

from oci_tools.container import names, units
from oci_tools.errors import Error, Usage
from oci_tools.linux import quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.container.place import Place

_FIRST = 0x0C200000  # volumes have those below: volume/room.py
_COUNT = 1 << 20
_WHAT = "cannot limit what a container writes"


def limit(held: Place, words: Sequence[str]) -> None:
    """Have the overlay bundle of a container that is being made hold no more than was asked for."""
    size = 0
    for word in words:
        name, value = units.pair(word, "--storage-opt")
        if name != "size":
            raise Usage("invalid value for --storage-opt", word, hint="size=SIZE")
        size = units.size(value, "--storage-opt")
    if os.geteuid() != 0 or not quota.enforced(held.path):
        raise Error(_WHAT, held.path, "its file system has no project quotas", "xfs or ext4, mounted with prjquota")
    taken = {names.policy(each).get("project") for each in names.listed(names.directory())}
    first = int(held.id[:5], 16)  # so that two that are made at once do not choose the same
    project = next(each for at in range(_COUNT) if (each := _FIRST + (first + at) % _COUNT) not in taken)
    held.note(project=project)
    try:
        for name in ("upper", "work"):
            quota.set_project(f"{held.bundle}/{name}", project)
        quota.set_limits(held.path, project, size, 0)
    except OSError as error:
        raise Error(_WHAT, held.path, error) from None


def release(policy: dict[str, Any]) -> None:
    """A container is gone, and its project with it."""
    try:
        quota.set_limits(names.directory(), policy["project"], 0, 0)
    except OSError:
        pass  # the file system has no quotas any more
