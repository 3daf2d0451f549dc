"""What was built already: results by what they were made of.

    steps/HEX         {"version", "layer": descriptor or null, "diffId", "created"}: HEX is the digest of all that
                      the step depends on; its file's time is when it was used last
    steps/why-HEX     what a step of a Dockerfile depended on when it was built last, to tell what changed;
                      why-HEX.files its files: listing.py

A key names its parent by the digests of its layers, files by content, and whatever else can make a difference; so a
hit is right wherever it comes from, and what is done again with the same outcome is a hit for what follows.
"""

from __future__ import annotations

import marshal
import os

from oci_tools import document, fs
from oci_tools.build import hashes
from oci_tools.build.listing import differences
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.build.exchange import Sent
    from oci_tools.build.listing import Listing
    from oci_tools.build.place import Layer, Place

    Parts = dict[str, Any]

VERSION = 1
_MANY = 12  # names of changed files that are said


class Cache:
    """The cache of one user, with those that were sent to it; `refuse` names stages that do not look in ("*": all)."""

    def __init__(self, place: Place, refuse: set[str], sent: Sequence[Sent] = ()) -> None:
        import threading

        self._place = place
        self._sent = sent
        self.mounts: dict[str, dict[str, str]] = {}  # cache mounts of this build: name -> id, target
        self._refuse = refuse
        self.path = fs.make_private(f"{place.path}/steps")
        self.used: dict[str, dict[str, Any]] = {}  # of this build: key -> record
        self.arrived: dict[str, tuple[Layer, str]] = {}  # digest -> a layer that was sent, and its step's key
        self._lock = threading.Lock()

    @staticmethod
    def key(parts: Parts) -> str:
        """The key of a step: the digest of all that it depends on."""
        return hashes.digest_of((VERSION, sorted(parts.items())))

    def find(self, key: str, stage: str) -> dict[str, Any] | None:
        """What a step gave, if it is known and its blob is here."""
        if "*" in self._refuse or stage in self._refuse:
            return None
        record = self._known(key) or self._arrived(key)
        if record is not None:
            self.used[key] = record
        return record

    def _known(self, key: str) -> dict[str, Any] | None:
        path = f"{self.path}/{key}"
        try:
            with open(path, "rb") as file:
                record: dict[str, Any] = document.loads(file.read())
            if record["version"] != VERSION:
                return None
            if record["layer"] is not None and not self._place.layout.has(record["layer"]):
                return None
            os.utime(path)
        except (OSError, Error, KeyError, TypeError):
            return None
        return record

    def _arrived(self, key: str) -> dict[str, Any] | None:
        """What a cache that was sent has; its blob is ours once somebody needs it."""
        for sent in self._sent:
            found = sent.step(key)
            if found is None or found["version"] != VERSION:
                continue
            if found["layer"] is None:
                return self.put(key, None, None, found["created"])
            layer = sent.layer(found["layer"], found["diffId"])
            if layer is None:
                continue
            self.arrived[found["layer"]["digest"]] = (layer, key)
            return found
        return None

    def layer(self, record: dict[str, Any]) -> Layer:
        """The layer of what a step gave."""
        from oci_tools.build.place import Layer

        digest = record["layer"]["digest"]
        if digest in self.arrived and not self._place.layout.has(record["layer"]):
            return Layer(record["layer"], record["diffId"], self._place.layout, self._bring)
        return Layer(record["layer"], record["diffId"], self._place.layout)

    def is_in(self, layer: Layer, repository: str) -> bool:
        """Whether a layer is still in a registry, and in this repository of it."""
        digest = layer.descriptor["digest"]
        sent = next((sent for sent in self._sent if sent.repository == repository and sent.has(digest)), None)
        return layer.bring is not None and sent is not None

    def _bring(self, layers: list[Layer]) -> None:
        """Have blobs here that were sent; from now on the steps are known that gave them."""
        from oci_tools.build import output
        from oci_tools.build.place import have_all

        with self._lock:
            coming = [self.arrived[layer.descriptor["digest"]] for layer in layers]
            have_all([layer for layer, _ in coming])
            for layer, key in coming:
                output.have(self._place.layout, layer)
                record = self.used[key]
                self.put(key, record["layer"], record["diffId"], record["created"])

    def mount(self, name: str) -> Layer | None:
        """The content that a cache mount had where it was sent from."""
        from oci_tools.build.place import have_all

        found = next((layer for sent in self._sent if (layer := sent.mount(name))), None)
        if found is not None:
            have_all([found])
        return found

    def put(self, key: str, layer: dict[str, Any] | None, diff_id: str | None, created: str) -> dict[str, Any]:
        """Keep what a step gave."""
        record = {"version": VERSION, "layer": layer, "diffId": diff_id, "created": created}
        fs.write(f"{self.path}/{key}", document.dumps(record), 0o600, sync=False)
        self.used[key] = record
        return record

    # -- why ------------------------------------------------------------------------------------

    def changes(self, slot: str, parts: Parts, details: Listing) -> list[str]:
        """What is other than when this step of this Dockerfile was built last, in words."""
        try:
            with open(f"{self.path}/why-{slot}", "rb") as file:
                before, _ = marshal.loads(file.read())
        except (OSError, ValueError, EOFError, TypeError):
            return ["it was never built before"]
        said: list[str] = []
        files = self._listing(slot)
        named = bool(details) and os.path.exists(files)
        for name in sorted({*before, *parts} - ({"content"} if named else set())):
            if before.get(name) == parts.get(name):
                continue
            if name in ("files", "mounted") and named:
                known, count = differences(files, details, _MANY)
                said += [*known, f"and {count - len(known)} more files"] if count > len(known) else known
            else:
                said += _difference(name, before.get(name), parts.get(name))
        return said or ["its result is no longer in the cache"]

    def remember(self, slot: str, parts: Parts, details: Listing) -> None:
        fs.write(f"{self.path}/why-{slot}", marshal.dumps((parts, {})), 0o600, sync=False)
        details.keep(self._listing(slot))

    def _listing(self, slot: str) -> str:
        return f"{self.path}/why-{slot}.files"


def _difference(name: str, was: Any, now: Any) -> list[str]:
    if name == "parent":
        return ["what it is built on changed"]
    if name == "env" and isinstance(was, tuple) and isinstance(now, tuple):
        before, after = (dict(one.split("=", 1) for one in side) for side in (was, now))
        names = [n for n in sorted({*before, *after}) if before.get(n) != after.get(n)]
        return [f"variable {n} is {_shown(after.get(n))}, it was {_shown(before.get(n))}" for n in names]
    return [f"{name} is {_shown(now)}, it was {_shown(was)}"]


def _shown(value: Any) -> str:
    return "not set" if value is None else document.shown(list(value) if isinstance(value, tuple) else value)
