"""An index.json of many thousand entries, kept in memory: read once for each version, written in batches.

    entries   number -> descriptor, in their order      names    NAME -> numbers
    encoded   number -> its JSON                        digests  DIGEST -> numbers

The file is the truth: whoever else changes it does so under the layout's lock, and we read it
again when it is another file.  Changes that come while one is being written wait and are written
together, with one fsync; each is answered when it is on disk.  What an entry becomes is as in
image/names.py, with one difference: a manifest that loses its tag here is not marked to be
collected, since whoever pulls from a registry by digest may do so for long (retention.py).
"""

from __future__ import annotations

import os
import threading

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.names import entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout


class _Change:
    """One change that waits for its batch."""

    def __init__(self, edit: Callable[[], None], fresh: set[str]) -> None:
        self.edit = edit
        self.fresh = fresh  # directories to sync before
        self.done = False
        self.error: BaseException | None = None


class Index:
    """The index of one layout (see the module)."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.version = 0  # another number for another content
        self.lock = threading.RLock()  # of what is in memory
        self._stamp: tuple[int, int, int] | None = None
        self._writer = threading.Lock()  # one batch at a time
        self._waiting: list[_Change] = []
        self._clear({})

    def _clear(self, rest: dict[str, Any]) -> None:
        self._rest = rest  # all members but the entries
        self._next = 0
        self.entries: dict[int, Descriptor] = {}
        self._encoded: dict[int, bytes] = {}
        self.names: dict[str, list[int]] = {}
        self.digests: dict[str, list[int]] = {}

    # -- reading ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the file again if it is another one now."""
        if self._look() != self._stamp:
            with self.lock:
                stamp = self._look()
                if stamp == self._stamp:
                    return
                found = self.layout.index()
                self._clear(found)
                for descriptor in found["manifests"]:
                    self._add(descriptor)
                self._stamp = stamp
                self.version += 1

    def _look(self) -> tuple[int, int, int]:
        try:
            seen = os.stat(f"{self.layout.path}/index.json")
        except OSError as error:
            raise Error("cannot read", f"{self.layout.path}/index.json", error) from None
        return seen.st_ino, seen.st_mtime_ns, seen.st_size

    def named(self, name: str) -> Descriptor | None:
        """The entry of a name."""
        with self.lock:
            numbers = self.names.get(name)
            return self.entries[numbers[0]] if numbers else None

    def of_digest(self, digest: str) -> Descriptor | None:
        with self.lock:
            numbers = self.digests.get(digest)
            return self.entries[numbers[0]] if numbers else None

    def is_named(self, digest: str) -> bool:
        with self.lock:
            return any(layouts.ref_name(self.entries[n]) is not None for n in self.digests.get(digest, ()))

    # -- writing ------------------------------------------------------------------------

    def change(self, edit: Callable[[], None], fresh: set[str] | None = None) -> None:
        """Let `edit` call tag, untag and remove; returns when that is on disk.

        An Error out of `edit` is raised here; it must come before its first change.
        """
        change = _Change(edit, fresh or set())
        with self.lock:
            self._waiting.append(change)
        with self._writer:
            if not change.done:
                self._commit()
        if change.error:
            raise change.error

    def _commit(self) -> None:
        with self.lock:
            batch, self._waiting = self._waiting, []
        try:
            with fs.Lock(f"{self.layout.path}/"):
                self.refresh()
                with self.lock:
                    version = self.version
                    for change in batch:
                        self._edit(change)
                    data = self._dumps() if self.version != version else b""
                if data:
                    for directory in set().union(*(change.fresh for change in batch)):
                        fs.sync_directory(directory)
                    fs.write(f"{self.layout.path}/index.json", data)
                    fs.sync_directory(self.layout.path)
                    self._stamp = self._look()
        except BaseException as error:
            self._stamp = None  # memory is ahead of the disk
            for change in batch:
                change.error = change.error or error
        finally:
            for change in batch:
                change.done = True

    def _edit(self, change: _Change) -> None:
        try:
            change.edit()
        except Exception as error:
            change.error = error

    def _dumps(self) -> bytes:
        parts = []
        for key, value in self._rest.items():
            name = document.dumps(key) + b":"
            if key == "manifests":
                parts.append(name + b"[" + b",".join(self._encoded.values()) + b"]")
            else:
                parts.append(name + document.dumps(value))
        return b"{" + b",".join(parts) + b"}"

    # -- changes, inside of `change` ------------------------------------------------------

    def tag(self, name: str | None, descriptor: Descriptor) -> None:
        """Give a name, or keep without one; what had the name stays without it."""
        new, digest = entry(name, descriptor, None), descriptor["digest"]
        with self.lock:
            same = list(self.digests.get(digest, ()))
            nameless = [n for n in same if layouts.ref_name(self.entries[n]) is None]
            if name is None:
                if len(nameless) == len(same):  # nothing names it
                    self._put(new, nameless)
                return
            old = list(self.names.get(name, ()))
            lost = [self.entries[n] for n in old]
            if len(old) == 1 and lost[0] == new and not nameless:
                return
            for number in nameless:
                self._drop(number)
            self._put(new, old)
            self._keep(lost)

    def untag(self, name: str) -> None:
        with self.lock:
            lost = [self.entries[n] for n in self.names.get(name, ())]
            for number in list(self.names.get(name, ())):
                self._drop(number)
            self._keep(lost)

    def remove(self, digest: str) -> None:
        """Take a manifest out with all its names."""
        with self.lock:
            for number in list(self.digests.get(digest, ())):
                self._drop(number)

    def drop(self, numbers: list[int]) -> None:
        """Take entries out by their numbers."""
        with self.lock:
            for number in numbers:
                self._drop(number)

    def _put(self, new: Descriptor, places: list[int]) -> None:
        """Put an entry in the first of these places, or at the end; the others go."""
        if places and self.entries[places[0]] == new and len(places) == 1:
            return
        for number in places[1:]:
            self._drop(number)
        if places:
            self._forget(places[0])
            self._add(new, places[0])
        else:
            self._add(new)

    def _keep(self, lost: list[Descriptor]) -> None:
        for old in lost:
            if old.get("digest") not in self.digests:
                self._add(entry(None, old, None))

    def _add(self, descriptor: Descriptor, number: int = -1) -> None:
        if number < 0:
            number, self._next = self._next, self._next + 1
        self.entries[number] = descriptor
        self._encoded[number] = document.dumps(descriptor)
        name, digest = layouts.ref_name(descriptor), descriptor.get("digest")
        if name is not None:
            self.names.setdefault(name, []).append(number)
        if digests.valid(digest):
            assert isinstance(digest, str)
            self.digests.setdefault(digest, []).append(number)
        self.version += 1

    def _forget(self, number: int) -> None:
        """Take an entry's number out of the maps."""
        descriptor = self.entries[number]
        for found, key in ((self.names, layouts.ref_name(descriptor)), (self.digests, descriptor.get("digest"))):
            if isinstance(key, str) and key in found:
                found[key] = [n for n in found[key] if n != number]
                if not found[key]:
                    del found[key]
        self.version += 1

    def _drop(self, number: int) -> None:
        self._forget(number)
        del self.entries[number], self._encoded[number]


class Inner:
    """The manifests that are only within indexes, as other tools leave them; looked for once for each version."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: dict[str, Descriptor] = {}
        self._version = -1
        self._lock = threading.Lock()

    def of_digest(self, digest: str) -> Descriptor | None:
        with self._lock:
            with self._index.lock:
                version, tops = self._index.version, list(self._index.entries.values())
            if version != self._version:
                self._found = {}
                for top in tops:
                    self._look_into(top)
                self._version = version
            return self._found.get(digest)

    def _look_into(self, top: Descriptor) -> None:
        """Add what an index leads to; manifests are not read for it."""
        todo, seen = [top], set[str]()
        while todo:
            at = todo.pop()
            if not manifests.is_index(at.get("mediaType")) or at.get("digest") in seen:
                continue
            seen.add(str(at["digest"]))
            try:
                entries = manifests.load(self._index.layout, at)["manifests"]
            except (Error, KeyError):
                continue
            for one in entries:
                kind = one.get("mediaType")
                if manifests.is_index(kind) or manifests.is_manifest(kind):
                    self._found[one["digest"]] = {key: one[key] for key in ("mediaType", "digest", "size")}
                    todo.append(one)
