"""What can be said of an image: columns of a list, its history, one document of everything, its id.

The cheap columns are in index.json; the others cost reading a manifest, or a configuration too.
An index is spoken of as itself; where one image is needed, it is this host's or the platform's.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

    Row = dict[str, Any]


def _platform(layout: Layout, entry: Descriptor) -> str | None:
    said = entry.get("platform")
    if isinstance(said, dict):
        return manifests.platform_name(said) or None
    if not manifests.is_manifest(entry.get("mediaType")):
        return None
    config = _config(layout, entry)
    return manifests.platform_name(configs.platform(config)) if config else None


def _total(layout: Layout, entry: Descriptor) -> int:
    return sum(d["size"] for d, _ in manifests.walk(layout, entry) if layout.has(d))


def _created(layout: Layout, entry: Descriptor) -> Any:
    config = _config(layout, entry)
    return config.get("created") if config else None


def _layers(layout: Layout, entry: Descriptor) -> int | None:
    found = _manifest(layout, entry)
    return len(found["layers"]) if found else None


def _manifest(layout: Layout, entry: Descriptor) -> dict[str, Any] | None:
    try:
        return manifests.choose(layout, entry)[1]
    except Error:
        return None


def _config(layout: Layout, entry: Descriptor) -> dict[str, Any] | None:
    found = _manifest(layout, entry)
    try:
        config = document.loads(layout.read(found["config"])) if found else None
    except Error:
        return None
    return config if isinstance(config, dict) else None


def image_id(layout: Layout, entry: Descriptor) -> str | None:
    """An image's Id as the engines' clients know it: the digest of its configuration."""
    found = _manifest(layout, entry)
    return found["config"]["digest"] if found else None


COLUMNS: dict[str, Callable[[Layout, Descriptor], Any]] = {
    "name": lambda layout, entry: layouts.ref_name(entry),
    "digest": lambda layout, entry: entry.get("digest"),
    "mediaType": lambda layout, entry: entry.get("mediaType"),
    "artifactType": lambda layout, entry: entry.get("artifactType"),
    "size": lambda layout, entry: entry.get("size"),
    "untagged": lambda layout, entry: layouts.annotation(entry, layouts.UNTAGGED),
    "platform": _platform,
    "id": image_id,
    "created": _created,
    "layers": _layers,
    "total": _total,
}


def row(layout: Layout, entry: Descriptor, fields: list[str]) -> Row:
    """Some columns of an entry of index.json; None where there is nothing to say."""
    found: Row = {}
    for field in fields:
        try:
            found[field] = COLUMNS[field](layout, entry)
        except Error:
            found[field] = None
    return found


def everything(layout: Layout, entry: Descriptor, platform: str | None = None) -> dict[str, Any]:
    """One document: the entry of index.json, and the documents it leads to."""
    said: dict[str, Any] = {"image": layouts.handle(layout, entry), "descriptor": entry}
    said["total"] = _total(layout, entry)
    found = manifests.load(layout, entry)
    if "manifests" in found:
        said["index"] = found
        try:
            chosen, found = manifests.choose(layout, entry, platform)
        except Error:
            if platform:
                raise
            return said
        said["chosen"] = chosen
    said["manifest"] = found
    if found["config"].get("mediaType") in manifests.CONFIGS:
        said["config"] = document.loads(layout.read(found["config"]), found["config"]["digest"])
    return said


HISTORY = ("created", "size", "digest", "created_by", "comment", "author")


def history(layout: Layout, manifest: dict[str, Any]) -> list[Row]:
    """The steps of an image, oldest first; those that made a layer have its size and digest.

    Layers that the history does not tell of come last, with nothing but these.
    """
    config = configs.load(layout, manifest)
    told = config.get("history")
    layers = list(manifest["layers"])
    rows: list[Row] = []
    for step in told if isinstance(told, list) else []:
        step = step if isinstance(step, dict) else {}
        layer = layers.pop(0) if layers and not step.get("empty_layer") else {"size": 0, "digest": None}
        rows.append(
            {**{key: step.get(key) for key in HISTORY}, "size": layer["size"], "digest": layer["digest"]}
        )
    rows += [{**dict.fromkeys(HISTORY), "size": d["size"], "digest": d["digest"]} for d in layers]
    return rows


def tree(layout: Layout, top: Descriptor) -> Iterator[Row]:
    """What an image is made of, and what refers to each part of it: rows with their depth, kind, digest, size, detail.

    What was shown is not gone into again.
    """
    from oci_tools.image.referrers import Referrers

    referrers = Referrers(layout)
    seen: set[str] = set()
    waiting: list[tuple[int, str, Descriptor]] = [(0, "", top)]
    while waiting:
        depth, kind, at = waiting.pop()
        found = None
        if not kind:
            try:
                found = manifests.load(layout, at)
                kind = "index" if "manifests" in found else "image"
                if found.get("artifactType") or (found.get("config") or {}).get("mediaType") not in (
                    None,
                    *manifests.CONFIGS,
                ):
                    kind = "artifact"
            except Error:
                kind = "document" if layout.has(at) else "missing"
        yield {
            "depth": depth,
            "kind": kind,
            "digest": at["digest"],
            "size": at.get("size"),
            "detail": _detail(at),
        }
        if at["digest"] in seen:
            continue
        seen.add(at["digest"])
        below = [(depth + 1, "", one) for one in referrers.of(at["digest"])]
        for child in manifests.children(found) if found else ():
            part = "config" if found and child is found.get("config") else "layer"
            below.append((depth + 1, "" if found and "manifests" in found else part, child))
        if len(seen) + len(waiting) > manifests.MAX_ENTRIES * 10:
            raise Error("image has too many parts", top["digest"])
        waiting += reversed(below)


def _detail(at: Descriptor) -> str | None:
    """What there is to say of a descriptor: its name, its platform, or what type it is of."""
    platform = at.get("platform")
    said = manifests.platform_name(platform) if isinstance(platform, dict) else ""
    words = (layouts.ref_name(at), said, at.get("artifactType"))
    text = " ".join(str(word) for word in words if word)
    return text or str(at.get("mediaType") or "") or None


def by_id(layout: Layout, prefix: str) -> Descriptor | None:
    """The image whose Id or digest begins so; an Error where several do, None where none does."""
    text = prefix.removeprefix("sha256:")
    if not text or not digests.HEX.issuperset(text):
        return None
    found: dict[str, Descriptor] = {}
    for entry in layout.index()["manifests"]:
        for digest in (entry.get("digest"), image_id(layout, entry)):
            if isinstance(digest, str) and digest.partition(":")[2].startswith(text):
                found.setdefault(str(entry.get("digest")), entry)
    if len(found) > 1:
        raise Error("which image is", prefix, f"there are {len(found)}")
    return next(iter(found.values()), None)
