"""The cache on its way: --cache-to and --cache-from, a layout, a directory, a registry, or within the image.

    a manifest   artifactType TYPE; its layers are the blobs of steps and of cache mounts
    its config   {"version": 1, "steps": {KEY: record of cache.py},
                  "mounts": {NAME: {"id", "target", "layer": descriptor, "diffId"}}}
    INLINE       of an image's configuration: the same, of the steps that its own layers are of

Of a cache in a registry only the manifest and config are fetched at first.  A step that is found in it gets its blob
when somebody needs that, a mount when it is first made here.  What is sent is what the build used, so that what is
kept elsewhere does not grow.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.build import calling, output
from oci_tools.build.place import Layer, have_all
from oci_tools.errors import Error, Usage
from oci_tools.image import gc
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.build.cache import Cache
    from oci_tools.build.place import Place
    from oci_tools.image.layout import Descriptor, Layout

TYPE = "application/vnd.oci-tools.build.cache.v1"
CONFIG = f"{TYPE}+json"
TAG = "cache"
INLINE = "io.oci-tools.build.cache"


class Where:
    """A place of a cache: a layout with a tag, or a registry's reference; `inline`: the image itself."""

    def __init__(self, place: refs.Place | None, ref: str, said: dict[str, str], inline: bool = False) -> None:
        self.place = place
        self.ref = ref
        self.inline = inline
        self.repository = str(refs.Ref.parse(ref).name) if ref else ""
        self.min = said.get("mode") == "min"
        self.ignore_error = said.get("ignore-error") == "true"


def parse(word: str, option: str, side: str) -> Where:
    """type=local,dest=DIR (src=DIR); type=registry,ref=REF; mode=, ignore-error=; type=inline; LAYOUT[:TAG]; REF."""
    said: dict[str, str] = {}
    if "=" in word:
        import csv

        fields = next(csv.reader([word]), [])
        said = {key.strip().lower(): value for key, _, value in (field.partition("=") for field in fields)}
        path, ref = said.pop(side, ""), said.pop("ref", "")
        kind = said.pop("type", "registry" if ref else "local")
        if kind == "inline" and side == "dest" and not (said or path or ref):
            return Where(None, "", said, inline=True)
        unknown = set(said) - {"mode", "ignore-error", "tag"}
        if unknown or kind not in ("local", "registry") or said.get("mode", "max") not in ("min", "max"):
            raise Usage(f"invalid value for {option}", word, f"type=local,{side}=DIR or type=registry,ref=REF")
        word = ref if kind == "registry" else os.path.join(".", path) if path else ""
        if not word:
            raise Usage(f"invalid value for {option}", word, f"it needs {side}=DIR or ref=REF")
        word = f"docker://{word.removeprefix('docker://')}" if kind == "registry" else word
    try:
        place = refs.locate(word)
    except Error:
        raise Usage(f"invalid value for {option}", word, "LAYOUT:TAG, REF, or type=...") from None
    if place.kind == "layout":
        return Where(place, "", said)
    return Where(None, str(place.ref or word), said)


# -- to -------------------------------------------------------------------------------------------


def send(
    wheres: list[Where], cache: Cache, place: Place, call: calling.Call, last: set[str], warn: Callable[[str], None]
) -> None:
    """Put what a build used everywhere; `last` is the diff ids of what it made, all that mode=min sends."""
    for where in wheres:
        if where.inline:
            continue  # output.py puts it there
        try:
            _send(where, cache, place, call, last if where.min else None)
        except Error as error:
            if not where.ignore_error:
                raise
            warn(f"the cache was not sent: {error}")


def _send(where: Where, cache: Cache, place: Place, call: calling.Call, last: set[str] | None) -> None:
    if where.place is not None:
        layout, name = layouts.at(where.place, make=True), where.place.name or TAG
    else:
        layout, name = layouts.Layout.create(place.fresh("cache")), TAG
    with layout:
        layout.hold()
        layout.tag(name, _pack(layout, cache, place, last, where.repository))
    if where.place is None:
        calling.output(call, ["push", "--progress", "none", f"{layout.path}:{name}", where.ref])
    elif all(entry.get("artifactType") == TYPE for entry in layout.index()["manifests"]):
        gc.collect(layout, 0)  # nobody else's: what was sent before goes now


def _pack(layout: Layout, cache: Cache, place: Place, last: set[str] | None, repository: str) -> Descriptor:
    """The manifest of a cache, put into a layout; blobs that `repository` has already need not be here."""
    used = sorted(cache.used.items())  # stages end in any order
    steps = {key: one for key, one in used if last is None or one["diffId"] in last or not one["layer"]}
    layers = {one["diffId"]: cache.layer(one) for one in steps.values() if one["layer"]}
    there = {diff_id for diff_id, layer in layers.items() if repository and cache.is_in(layer, repository)}
    have_all(layer for diff_id, layer in layers.items() if diff_id not in there)
    blobs = {diff_id: layer.descriptor if diff_id in there else output.have(layout, layer)
             for diff_id, layer in layers.items()}  # fmt: skip
    mounts = {}
    for name, about in sorted(cache.mounts.items()):
        mounts[name] = {**about, **_pack_mount(layout, f"{place.path}/mounts/{name}", place)}
        blobs[mounts[name]["diffId"]] = mounts[name]["layer"]
    config = layout.put(document.dumps({"version": 1, "steps": steps, "mounts": mounts}), CONFIG)
    said = {"schemaVersion": 2, "mediaType": manifests.OCI_MANIFEST, "artifactType": TYPE, "config": config,
            "layers": [blobs[key] for key in sorted(blobs)]}  # fmt: skip
    return {**layout.put(document.dumps(said), manifests.OCI_MANIFEST), "artifactType": TYPE}


def _pack_mount(layout: Layout, path: str, place: Place) -> dict[str, Any]:
    from oci_tools.layer import diff
    from oci_tools.layer.write import Archive

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with layout.ingest() as ingest, Archive(ingest, "zstd", 3) as archive:
            packing = diff.Packing(archive, None, place.owner.single, place.warn, live=True)
            packing.root(fd)
            packing.tree(fd)
            archive.close()
            found = ingest.commit(manifests.layer_type(manifests.OCI_MANIFEST, "zstd"))
        return {"layer": found, "diffId": archive.diff_id}
    finally:
        os.close(fd)


# -- from -----------------------------------------------------------------------------------------


class Sent:
    """A cache that was sent: its layout, and what it has; `where` is the registry that has the blobs."""

    def __init__(self, layout: Layout, descriptor: Descriptor, where: Where, call: calling.Call) -> None:
        manifest = manifests.load(layout, descriptor)
        said = document.loads(layout.read(manifest["config"])) if "config" in manifest else {}
        if manifest.get("artifactType") != TYPE and isinstance(said, dict):
            said = said.get(INLINE)
            if said is None:
                raise Error("not a build cache", descriptor["digest"])
        if not isinstance(said, dict) or said.get("version") != 1:
            raise Error("not a build cache that is known", descriptor["digest"])
        self.layout = layout
        self.repository = where.repository
        self._digest = descriptor["digest"]
        self._name = where.ref.partition("@")[0]
        self._call = call
        self._blobs = {blob["digest"] for blob in manifest["layers"]}
        self._steps: dict[str, Any] = said.get("steps") or {}
        self._mounts: dict[str, Any] = said.get("mounts") or {}

    def step(self, key: str) -> dict[str, Any] | None:
        """The record of a step; what is not one is none."""
        record: Any = self._steps.get(key)
        try:
            layer, created, _ = record["layer"], record["created"], record["version"]
            sound = isinstance(created, str) and (layer is None or (layer["digest"] and record["diffId"]))
        except (KeyError, TypeError):
            return None
        return dict(record) if sound else None

    def layer(self, descriptor: Descriptor, diff_id: str) -> Layer | None:
        """A layer of this cache, which is fetched when somebody needs it; None if it is not there."""
        if self.layout.has(descriptor):
            return Layer(descriptor, diff_id, self.layout)
        known = self.repository and descriptor["digest"] in self._blobs
        return Layer(descriptor, diff_id, self.layout, self._bring) if known else None

    def has(self, digest: str) -> bool:
        return digest in self._blobs

    def mount(self, name: str) -> Layer | None:
        found = self._mounts.get(name)
        try:
            return self.layer(found["layer"], found["diffId"]) if found else None
        except (Error, KeyError, TypeError):
            return None

    def _bring(self, layers: list[Layer]) -> None:
        wanted = [word for layer in layers for word in ("--only", layer.descriptor["digest"])]
        words = ["pull", "--progress", "none", *wanted, f"{self._name}@{self._digest}", f"{self.layout.path}:{TAG}"]
        calling.output(self._call, words)


def receive(wheres: list[Where], place: Place, call: calling.Call, warn: Callable[[str], None]) -> list[Sent]:
    """The caches that are there; what is not is warned of, since the first build has none."""
    found = []
    for where in wheres:
        try:
            found.append(_receive(where, place, call))
        except Error as error:
            warn(f"no cache: {error}")
    return found


def _receive(where: Where, place: Place, call: calling.Call) -> Sent:
    if where.place is not None:
        layout, name = layouts.at(where.place), where.place.name or TAG
    else:
        path, name = place.fresh("cache"), TAG
        calling.output(call, ["pull", "--progress", "none", "--only", "config", where.ref, f"{path}:{name}"])
        layout = layouts.Layout.open(path)
    return Sent(layout, layout.find(name), where, call)


# -- within the image -------------------------------------------------------------------------------


def inline(cache: Cache, diff_ids: list[str]) -> dict[str, Any]:
    """What an image's configuration says of the steps that its layers are of."""
    known = set(diff_ids)
    steps = {key: one for key, one in cache.used.items() if not one["layer"] or one["diffId"] in known}
    return {"version": 1, "steps": dict(sorted(steps.items()))}
