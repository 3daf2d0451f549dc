"""COPY of one directory straight into a layer's archive, without a root in between.

For the last step of a build, whose files nobody needs as a tree: they are read once and written once, compressed.
Only where the destination is new or empty, and no link is on the way to it: then the archive is what packing the
root would give, as tests compare.
"""

from __future__ import annotations

import os
import stat
import time

from oci_tools.build.picking import items
from oci_tools.bundle.step import Packed
from oci_tools.image import manifest as manifests
from oci_tools.layer import diff, lookup
from oci_tools.layer.planned import Plan
from oci_tools.layer.walk import Found
from oci_tools.layer.write import Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.build.adding import Adding
    from oci_tools.build.copying import Target
    from oci_tools.build.picking import Origin, Pick
    from oci_tools.bundle.step import Root

    Way = list[tuple[bytes, os.stat_result | None]]


class Seen:
    """What a name is to be: as lstat(2) says of its source, with another mode or owner."""

    def __init__(self, seen: os.stat_result, mode: int, owner: tuple[int, int]) -> None:
        self.st_mode = stat.S_IFMT(seen.st_mode) | mode
        self.st_uid, self.st_gid = owner
        for name in ("st_dev", "st_ino", "st_nlink", "st_size", "st_rdev", "st_blocks", "st_mtime_ns"):
            setattr(self, name, getattr(seen, name))


def way_to(root: Root, path: str) -> Way | None:
    """Each directory on the way to a path, with what is there already; None where a root is needed."""
    if path == "/":
        return None
    parts = os.fsencode(path.strip("/")).split(b"/")
    found: Way = []
    with lookup.Stack(root.trees()) as below:
        for end in range(1, len(parts) + 1):
            name = b"/".join(parts[:end])
            seen = below.look(name) if not found or found[-1][1] is not None else None
            if seen is not None and not stat.S_ISDIR(seen.st_mode):
                return None
            found.append((name, seen))
        if found[-1][1] is not None and any(below.names(found[-1][0])):
            return None
    return found


def copy(work: Adding, origin: Origin, pick: Pick, root: Root, into: Target, way: Way) -> Packed | None:
    """The layer of a directory's content in the destination that `way` leads to."""
    stage = work.stage
    options, layout = stage.options, stage.shared.place.layout
    media_type = manifests.layer_type(manifests.OCI_MANIFEST, options.compression)
    with layout.ingest() as ingest, Archive(ingest, options.compression, options.level) as archive:
        packing = diff.Packing(archive, options.epoch, False, stage.shared.place.warn)
        prefix = way[-1][0] + b"/"
        for item in items(origin, pick, work.exclude):
            if not item.to:
                _way(packing, root, way, into, item.seen.st_mtime_ns)
            elif stat.S_ISSOCK(item.seen.st_mode):
                _empty(packing, root, prefix + item.to, _seen(item.seen, origin, into))
            else:
                packing.put(Found(prefix + item.to, item.at, item.name, _seen(item.seen, origin, into)))
        archive.close()
        descriptor = ingest.commit(media_type)
    return Packed(descriptor, archive.diff_id, Plan(()))


def _empty(packing: diff.Packing, root: Root, path: bytes, seen: Any) -> None:
    """The entry of a socket, which becomes an empty file."""
    fd = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(os.open("empty", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=fd))
        made: Any = Seen(os.stat("empty", dir_fd=fd), stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid))
        made.st_mtime_ns = seen.st_mtime_ns
        packing.put(Found(path, fd, b"empty", made))
    finally:
        os.close(fd)


def _seen(seen: os.stat_result, origin: Origin, into: Target) -> Any:
    mode = stat.S_IMODE(seen.st_mode)
    if into.mode and not stat.S_ISLNK(seen.st_mode):
        mode = into.mode(mode, stat.S_ISDIR(seen.st_mode))
    owner = into.owner or ((seen.st_uid, seen.st_gid) if origin.owners else (0, 0))
    return Seen(seen, mode, owner)


def _way(packing: diff.Packing, root: Root, way: Way, into: Target, mtime: int) -> None:
    """The entries of the directories on the way, those that are there with their attributes."""
    now = time.time_ns()
    with lookup.Stack(root.trees()) as below:
        for name, seen in way:
            held = None if seen is None else below.open(name)
            fd = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if held is None else held
            try:
                mode, owner = (0o755, into.owner or (0, 0)) if seen is None else (
                    stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid)
                )  # fmt: skip
                made: Any = Seen(os.fstat(fd), mode, owner)  # ours, which has no attributes, stands for what is new
                made.st_mtime_ns = mtime if name == way[-1][0] else now
                packing.put(Found(name, fd, b".", made))
            finally:
                os.close(fd)
