"""The root of a step where overlayfs cannot be: a tree of all layers, unpacked over each other, which the step changes.

Overlayfs takes no directory of another overlayfs to write in, and such is all that there is in most containers.
What changed is found by a snapshot; the tree of a step that was packed is that of the next one, if there is one.
"""

from __future__ import annotations

import os

from oci_tools.bundle.step import Packed, Root
from oci_tools.errors import Error
from oci_tools.layer import diff, snapshot
from oci_tools.layer import store as stores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.layer.owner import Owner

    Key = tuple[str, ...]  # the diff ids of the layers


class Trees:
    """Trees that nobody has, by the layers that they are of; in the directory `place`, which somebody removes."""

    def __init__(self, place: str) -> None:
        import threading

        self._place = place
        self._free: dict[Key, str] = {}
        self._lock = threading.Lock()

    def take(self, key: Key, path: str) -> bool:
        """Have a tree at a path, if there is one."""
        with self._lock:
            found = self._free.pop(key, None)
        if found is not None:
            os.rename(found, path)
        return found is not None

    def give(self, key: Key, path: str) -> None:
        with self._lock:
            if key not in self._free:
                self._free[key] = f"{self._place}/tree-{os.urandom(8).hex()}"
                os.rename(path, self._free[key])


class Whole(Root):
    """One root, as `Root` is, of layers that `sources` gives (layer/apply.py)."""

    def __init__(
        self, path: str, store: stores.Store, key: Key, sources: Callable[[], list[Any]], trees: Trees, owner: Owner
    ) -> None:
        super().__init__(path, store, stores.Chain([], [], []))
        self._key = key
        self._sources = sources
        self._trees = trees
        self._owner = owner
        self._missing: list[bytes] = []

    def __enter__(self) -> Whole:
        from oci_tools.layer import merge
        from oci_tools.layer.limits import Limits

        try:
            os.mkdir(self.path, 0o700)
            if not self._trees.take(self._key, f"{self.path}/rootfs"):
                merge.flatten(self._sources(), f"{self.path}/rootfs", self._owner, Limits())
                os.chmod(f"{self.path}/rootfs", 0o755)
            snapshot.take(self.mount(), f"{self.path}/before")
        except OSError as error:
            raise Error("cannot make", self.path, error) from None
        return self

    def trees(self) -> list[str]:
        return [f"{self.path}/rootfs"]

    def mount(self) -> int:
        if self._mounted < 0:
            self._mounted = os.open(f"{self.path}/rootfs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._mounted

    def _annotations(self) -> dict[str, str]:
        self._missing = sorted(place for place in self._places if place and not self.has(os.fsdecode(place)))
        return {}

    def _tree(self) -> str:
        return f"{self.path}/rootfs"

    def _changes(self, fd: int) -> Iterator[tuple[bytes, bool]]:
        with snapshot.Snapshot(f"{self.path}/before") as before:
            yield from diff.compare(fd, before, (), frozenset(self._places))

    def keep(self, packed: Packed) -> None:
        """Have the tree for who builds on it, without what was only made to mount on."""
        self.unmount()
        kept = {path for path in packed.planned.there() if path in self._places}
        for path in reversed(self._missing):
            if path not in kept:
                _remove_empty(os.path.join(os.fsencode(self._tree()), path))
        self._trees.give((*self._key, packed.diff_id), self._tree())


def _remove_empty(path: bytes) -> None:
    try:
        os.rmdir(path)
    except NotADirectoryError:
        if not os.lstat(path).st_size:
            os.unlink(path)
    except OSError:
        pass  # it is gone, or something is in it


def can_stack(root: Root) -> bool:
    """Whether a root can be an overlay here."""
    try:
        with root:
            root.mount()
    except Error:
        return False
    return True


