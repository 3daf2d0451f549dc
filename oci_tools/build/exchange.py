"""The cache on its way: --cache-to and --cache-from, a layout, a directory or a registry.

    a manifest   artifactType TYPE; its layers are the blobs of steps and of cache mounts
    its config   {"version": 1, "steps": {KEY: record of cache.py},
                  "mounts": {NAME: {"id", "target", "layer": descriptor, "diffId"}}}

A step that is found in it gets its blob when it is asked for, a mount when it is first made here.  What is sent is
what the build used, so that what is kept elsewhere does not grow.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.build import calling, output
from oci_tools.build.place import Layer
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


class Where:
    """A place of a cache: a layout with a tag, or a registry's reference."""

    def __init__(self, place: refs.Place | None, ref: str, said: dict[str, str]) -> None:
        self.place = place
        self.ref = ref
        self.min = said.get("mode") == "min"
        self.ignore_error = said.get("ignore-error") == "true"


def parse(word: str, option: str, side: str) -> Where:
    """type=local,dest=DIR (src=DIR); type=registry,ref=REF; mode=, ignore-error=; or LAYOUT[:TAG], or REF."""
    said: dict[str, str] = {}
    if "=" in word:
        import csv

        fields = next(csv.reader([word]), [])
        said = {key.strip().lower(): value for key, _, value in (field.partition("=") for field in fields)}
        path, ref = said.pop(side, ""), said.pop("ref", "")
        kind = said.pop("type", "registry" if ref else "local")
        unknown = set(said) - {"mode", "ignore-error", "tag"}
        if unknown or kind not in ("local", "registry") or said.get("mode", "max") not in ("min", "max"):
            raise Usage(f"invalid value for {option}", word, f"type=local,{side}=DIR or type=registry,ref=REF")
        word = ref if kind == "registry" else os.path.join(".", path) if path else ""
        if not word:
            raise Usage(f"invalid value for {option}", word, f"it needs {side}=DIR or ref=REF")
        if kind == "registry":
            return Where(None, word, said)
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
        layout.tag(name, _pack(layout, cache, place, last))
    if where.place is None:
        calling.output(call, ["push", "--progress", "none", f"{layout.path}:{name}", where.ref])
    elif all(entry.get("artifactType") == TYPE for entry in layout.index()["manifests"]):
        gc.collect(layout, 0)  # nobody else's: what was sent before goes now


def _pack(layout: Layout, cache: Cache, place: Place, last: set[str] | None) -> Descriptor:
    steps = {key: one for key, one in cache.used.items() if last is None or one["diffId"] in last or not one["layer"]}
    blobs = {one["diffId"]: output.have(layout, Layer(one["layer"], one["diffId"], place.layout))
             for one in steps.values() if one["layer"]}  # fmt: skip
    mounts = {}
    for name, about in cache.mounts.items():
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
    """A cache that was sent: its layout, and what it has."""

    def __init__(self, layout: Layout, descriptor: Descriptor) -> None:
        manifest = manifests.load(layout, descriptor)
        if manifest.get("artifactType") != TYPE:
            raise Error("not a build cache", descriptor["digest"])
        said = document.loads(layout.read(manifest["config"]))
        if not isinstance(said, dict) or said.get("version") != 1:
            raise Error("not a build cache that is known", descriptor["digest"])
        self.layout = layout
        self.steps: dict[str, Any] = said.get("steps") or {}
        self.mounts: dict[str, Any] = said.get("mounts") or {}


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
        calling.output(call, ["pull", "--progress", "none", where.ref, f"{path}:{name}"])
        layout = layouts.Layout.open(path)
    return Sent(layout, layout.find(name))
