"""--userns nomap (podman): a plain user's container in whose user namespace he himself has no id.

    in the shared namespaces (shared.py)   0: the user     1, 2, ...: his subordinate ids
    in the container                                       0, 1, ...: the same ids, one less each

Nobody there has any right over what is the user's.  No mount shows other owners to somebody who is not the host's root,
so its files have these ids on disk: the layers are unpacked once more for such containers, and all that is made for
one is given to its users.  Who looks at them from the shared namespaces sees each owner one too high; that is why the
files of such a container are copied and exported while it runs, and no other time.
"""

from __future__ import annotations

import os

from oci_tools import bundle as bundles
from oci_tools.errors import Error, Usage
from oci_tools.layer import owner as owners
from oci_tools.layer.walk import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Maps = list[dict[str, int]]

MODE = "nomap"
_BY = owners.higher(owners.NOMAP)  # how much higher an id is outside


class Owned(owners.Inside):
    """Ownership as layers say it, of the ids that such a container has."""

    def __init__(self) -> None:
        super().__init__(_own())
        self.key = f"{owners.NOMAP}{self.key}"

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        return uid + _BY, gid + _BY


def _own() -> dict[str, Maps]:
    found = owners.own_maps()
    if found is None:
        if os.geteuid() == 0:
            raise Usage("invalid value for --userns", MODE, "only for a plain user")
        raise Error("cannot use --userns", MODE, "this user has no subordinate ids")
    return found


def maps() -> tuple[Maps, Maps]:
    """The mappings of such a container: what there is here but for the first id, piece by piece."""
    own = _own()
    return _less(own["uidMappings"]), _less(own["gidMappings"])


def _less(rows: Maps) -> Maps:
    made: Maps = []
    for row in rows:
        first, size = row["containerID"], row["size"]
        if first < _BY:
            first, size = _BY, size - (_BY - first)
        if size > 0:
            made.append({"containerID": first - _BY, "hostID": first, "size": size})
    return made


def overlay(image: bundles.Image, path: str, **more: Any) -> str:
    """`bundle.overlay` of files that are such a container's."""
    owner = Owned()
    made = bundles.overlay(image, path, Owned, key=owner.key, **more)
    give(f"{made}/upper", 0)  # what no layer says of its owner
    return made


def give(path: str, but: int = -1) -> None:
    """Let a file, or a directory with all that is in it, be of such a container's users, as it was of the image's.

    but  -1, or: what has another owner than this one is theirs already
    """
    try:
        _give(None, path, but)
        if not os.path.isdir(path):
            return
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for found in walk(top):
                _give(found.at, found.name, but)
        finally:
            os.close(top)
    except OSError as error:
        raise Error("cannot change the owner of", path, error) from None


def _give(at: int | None, name: str | bytes, but: int) -> None:
    seen = os.stat(name, dir_fd=at, follow_symlinks=False)
    uid, gid = (each + _BY if but in (-1, each) else each for each in (seen.st_uid, seen.st_gid))
    os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)


def refuse(bundle: str, what: str, subject: str) -> None:
    """An Error for what would take the owners of such a container's files for those of an image."""
    if bundles.is_bundle(bundle) and str(bundles.record(bundle).get("owner", "")).startswith(owners.NOMAP):
        hint = "oci-run cp and export take them while it runs"
        raise Error(what, subject, "its files are of the users of --userns nomap", hint)
