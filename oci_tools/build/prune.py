"""What of the cache goes: what nobody has used for long, and what is too much, the oldest first.

A step's layer goes with its tree in the layer store, unless a bundle stacks that.  Nothing goes that a build at work
may have found: what was used since the oldest of those began.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.errors import Busy, Error
from oci_tools.layer import collect
from oci_tools.layer import store as stores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

AGE = 60 * 86400.0  # seconds
LEAST = 2 << 30  # bytes: the limit is a tenth of the file system, and no less than this


class Kept:
    """One thing of the cache: its kind, what it is called, its paths, its size, when it was used last; the diff id
    of a layer."""

    def __init__(self, kind: str, name: str, paths: list[str], size: int, used: float) -> None:
        self.diff_id = ""
        self.kind = kind
        self.name = name
        self.paths = paths
        self.size = size
        self.used = used


def limit(path: str) -> int:
    """How many bytes the cache may have, if nobody says."""
    seen = os.statvfs(path)
    return max(seen.f_blocks * seen.f_frsize // 10, LEAST)


def prune(path: str, age: float = AGE, size: int | None = None, dry_run: bool = False) -> list[Kept]:
    """Remove what is older than `age` seconds, and the oldest until `size` bytes are left; what goes."""
    if not os.path.isdir(path):
        return []
    most = limit(path) if size is None else size
    with fs.Lock(f"{path}/work.lock"):  # no build begins meanwhile
        known = sorted(_all(path), key=lambda kept: kept.used)
        total, before, safe = sum(kept.size for kept in known), time.time() - age, _oldest_work(path)
        gone = []
        for kept in known:
            if kept.used < safe and (kept.used < before or total > most):
                total -= kept.size
                gone.append(kept)
        if not dry_run:
            for kept in gone:
                _remove(kept)
    layers = {kept.diff_id for kept in gone if kept.diff_id}
    if layers and not dry_run:
        try:
            collect.collect(among=layers, timeout=0)
        except Busy:
            pass  # builds at work: `oci-image gc` finds them
    return gone


def _oldest_work(path: str) -> float:
    """When the oldest build that is at work began."""
    oldest = time.time() + 1
    for name in os.listdir(f"{path}/work") if os.path.isdir(f"{path}/work") else ():
        try:
            with fs.Lock(f"{path}/work/{name}", timeout=0):
                continue
        except Busy:
            oldest = min(oldest, os.stat(f"{path}/work/{name}/began").st_mtime)
        except (Error, OSError):
            continue
    return oldest


def _remove(kept: Kept) -> None:
    for path in kept.paths:
        fs.remove_tree(path)


def _all(path: str) -> Iterator[Kept]:
    yield from _steps(path)
    yield from _mounts(path)
    for name, seen in _names(f"{path}/hashes"):
        yield Kept("hashes", name, [f"{path}/hashes/{name}"], seen.st_size, seen.st_mtime)


def _names(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a directory; others write there meanwhile."""
    for name in os.listdir(path) if os.path.isdir(path) else ():
        try:
            yield name, os.lstat(f"{path}/{name}")
        except FileNotFoundError:
            continue


def _steps(path: str) -> Iterator[Kept]:
    """The blobs, each with the records that lead to it, as old as the youngest of these; and records without one."""
    records: dict[str, Kept] = {}
    store = stores.directory()
    trees = {collect.diff_id(tree): tree for tree in collect.trees(store)} if os.path.isdir(store) else {}
    for name, seen in _names(f"{path}/steps"):
        file = f"{path}/steps/{name}"
        digest, diff_id = ("", "") if name.startswith("why-") else _layer(file)
        key = digest or name
        if key not in records:
            size = _size(trees[diff_id]) if diff_id in trees else 0
            records[key] = Kept("layer" if digest else "step", key, [], size, 0.0)
        kept = records[key]
        kept.diff_id = diff_id
        kept.paths.append(file)
        kept.size += seen.st_size
        kept.used = max(kept.used, seen.st_mtime)
    blobs = f"{path}/images/blobs/sha256"
    for name, seen in _names(blobs):
        kept = records.setdefault(f"sha256:{name}", Kept("blob", f"sha256:{name}", [], 0, seen.st_mtime))
        kept.paths.append(f"{blobs}/{name}")
        kept.size += seen.st_size
    yield from records.values()


def _layer(file: str) -> tuple[str, str]:
    """The digest and the diff id of a step's layer, empty without one."""
    try:
        with open(file, "rb") as stream:
            said = document.loads(stream.read())
        return str(said["layer"]["digest"]), str(said["diffId"])
    except (OSError, Error, KeyError, TypeError):
        return "", ""


def _mounts(path: str) -> Iterator[Kept]:
    for name, seen in _names(f"{path}/mounts"):
        if name.endswith((".json", ".lock", ".new")):
            continue
        place = f"{path}/mounts/{name}"
        said = f"{place}.json"
        try:
            used = os.stat(said).st_mtime
        except FileNotFoundError:
            used = seen.st_mtime
        yield Kept("mount", name, [place, said], _size(place), used)


def _size(top: str) -> int:
    total = 0
    for directory, _, files in os.walk(top):
        for name in files:
            try:
                total += os.lstat(f"{directory}/{name}").st_blocks * 512
            except OSError:
                continue
    return total
