"""What is removed with a container: its groups, its class of intelRdt, its state, and the hooks that hear of it."""

from __future__ import annotations

import os
from errno import ENOTEMPTY

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.runtime import groups, hooks, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def destroy(root: str, known: dict[str, Any]) -> Error | None:
    """Remove groups, mounts of the host's and the state directory, then run the poststop hooks.

    A failure of those is returned: it is a warning, the container is gone all the same.
    """
    groups.remove(known)
    if "mount" in known:
        from oci_tools.runtime import host_mounts

        host_mounts.remove(known["rootfs"], known["mount"])
    if known.get("resctrl"):
        from oci_tools.runtime import resctrl

        resctrl.remove(known["resctrl"]["made"])
    place = state.directory(root, known["id"])
    try:
        if not _removed(place):
            end_checkpoint(place)
            fs.remove_tree(place)
    except Error as error:
        if not isinstance(error.cause, OSError) or error.cause.errno != ENOTEMPTY:
            raise
        fs.remove_tree(place)  # a shell that starts it too late has made what it could not open
    failed = None
    for number, hook in enumerate((known.get("hooks") or {}).get("poststop") or ()):
        try:
            shown = state.public(root, known, "stopped")
            hooks.run([hook], "poststop", shown, dict(os.environ), number)
        except Error as error:
            failed = failed or error  # the others are run all the same
    return failed


def end_checkpoint(place: str) -> None:
    """End a criu that nobody waits for any more: whom it holds cannot end before."""
    if os.path.exists(f"{place}/criu"):
        from oci_tools.runtime import criu

        criu.end(place)


def _removed(place: str) -> bool:
    """Remove the directory if it holds what each does and no more, as it mostly does."""
    try:
        for name in ("config.json", "state.json"):
            os.unlink(f"{place}/{name}")
        os.rmdir(place)
        return True
    except OSError:
        return False
