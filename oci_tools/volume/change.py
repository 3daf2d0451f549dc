"""What people do to volumes that there are: remove, prune, rename, clone; and what they see of them."""

from __future__ import annotations

import os
import time

from oci_tools import fs
from oci_tools import volume as volumes
from oci_tools.errors import Busy, Error
from oci_tools.layer.walk import walk
from oci_tools.volume import backing, copy, mounting, room, users
from oci_tools.volume.stream import Opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


def remove(name: str) -> None:
    """Remove a volume that nobody uses, with all that is in it."""
    with volumes.lock():
        volume = volumes.load(name)
        users.refuse_used(name, "cannot remove volume")
        _remove(volume, "cannot remove volume")


def prune(chosen: Callable[[volumes.Volume], bool]) -> Iterator[tuple[str, int]]:
    """Remove the volumes that are chosen and that no container uses; each with the bytes it held."""
    with volumes.lock():
        used = users.all_users()
        for volume in volumes.everything():
            if volume.name in used or not chosen(volume):
                continue
            held = size(volume)
            try:
                _remove(volume, "cannot remove volume")
            except Busy:
                continue
            yield volume.name, held


def _remove(volume: volumes.Volume, why: str) -> None:
    """Take a volume's name away at once, then its files; the lock is held."""
    with _alone(volume, why):
        mounting.unmount(volume)
        volumes.sweep()
        gone = f"{volumes.directory()}/.{volume.name}.new"
        try:
            os.rename(volume.path, gone)
        except OSError as error:
            raise Error(why, volume.name, error) from None
        fs.remove_tree(gone)
        if volume.record.get("project") is not None:
            room.unlimited(volumes.directory(), volume.record["project"])


class _alone:
    """Nobody exports, imports or mounts a volume for a `with` block."""

    def __init__(self, volume: volumes.Volume, why: str) -> None:
        self._volume, self._why = volume, why
        self._lock = fs.Lock(volume.path, timeout=0)

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except Busy:
            raise Busy(self._why, self._volume.name, "another process reads or writes in it") from None

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()


def rename(name: str, new: str) -> None:
    """Give a volume that nobody uses another name."""
    with volumes.lock():
        volume = volumes.load(name)
        if volumes.find(new):
            raise Error("cannot rename volume", name, f"there is a volume '{new}'")
        users.refuse_used(name, "cannot rename volume")
        with _alone(volume, "cannot rename volume"):
            mounting.unmount(volume)
            try:
                os.rename(volume.path, f"{volumes.directory()}/{new}")
                fs.sync_directory(volumes.directory())
            except OSError as error:
                raise Error("cannot rename volume", name, error) from None


def clone(name: str, new: str, readonly: bool, labels: dict[str, str], warn: Callable[[str], None]) -> None:
    """Make a volume with all that another has now, its bytes shared where that can be; `readonly`: a snapshot."""
    source = volumes.load(name)
    if mounting.needs(source) and not os.path.exists(f"{source.path}/{room.DISK}"):
        raise Error("cannot clone volume", name, "its file system is not ours")
    with volumes.lock():
        if volumes.find(volumes.check(new)):
            raise Error("cannot clone volume", name, f"there is a volume '{new}'")
        options = {} if source.backing.kind == "bind" else source.record["options"]
        with volumes.Making(new) as making, Opened(source) as rootfd:
            making.record.update(labels={**source.record["labels"], **labels}, options=options, readonly=readonly)
            making.begin(backing.read(options))
            if os.path.exists(f"{making.beside}/{room.DISK}"):
                with mounting.Disk(f"{making.beside}/{room.DISK}", making.data):
                    _copy(rootfd, making.data, warn)
            else:
                _copy(rootfd, making.data, warn)
            making.done()


def _copy(rootfd: int, path: str, warn: Callable[[str], None]) -> None:
    target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy.tree(rootfd, target, warn)
    finally:
        os.close(target)


# -- to be seen ----------------------------------------------------------------------------------


def document(volume: volumes.Volume, used: Iterable[str] = (), sized: bool = False) -> dict[str, Any]:
    """A volume as docker's API has it."""
    seconds = volume.record["created"] // 1_000_000_000
    found: dict[str, Any] = {
        "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "Driver": volume.driver,
        "Labels": volume.record["labels"],
        "Mountpoint": volume.data,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
        "Anonymous": volume.anonymous,
        "ReadOnly": volume.readonly,
        "Containers": sorted(used),
    }
    if sized:
        found["UsageData"] = {"Size": size(volume), "RefCount": len(found["Containers"])}
    return found


def size(volume: volumes.Volume) -> int:
    """Bytes on disk of what is in a volume; -1 where they are not ours to count."""
    if volume.backing.kind != "plain":
        return -1
    known = room.used(volume)
    if known:
        return known[0]
    disk = f"{volume.path}/{room.DISK}"
    if os.path.exists(disk):
        return os.stat(disk).st_blocks * 512
    seen: set[tuple[int, int]] = set()
    total = 0
    try:
        rootfd = os.open(volume.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        for found in walk(rootfd):
            key = (found.seen.st_dev, found.seen.st_ino)
            if found.seen.st_nlink == 1 or found.is_directory() or key not in seen:
                total += found.seen.st_blocks * 512
                seen.add(key)
    finally:
        os.close(rootfd)
    return total
