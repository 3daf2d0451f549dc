"""Indexes that are made and changed: image-spec, image-index.md.

The pure part works on an index's list of descriptors:

    added(entries, new)          an image's entry takes the place of that for the same platform
    removed(entries, what)       without a digest, the beginning of one, or a platform
    strip(index, digests)        only these, and the attestations that speak of them

`edit` changes the index that has a name, under the layout's lock, so that many who add to one index at
once lose nothing; the old index stays without a name until gc's grace ends.
`select` is the part of an index for some platforms, as documents that nobody has written yet
(convert.py): one platform's image as it is, of several a *stripped* index with a digest of its own.
`left_out` is what a *sparse* index lacks: one that is kept as it is, for some platforms only.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import names
from oci_tools.image.convert import ATTESTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

    Pairs = list[tuple[bytes, Descriptor]]

MAX_INDEX = 4 << 20  # bytes of an index made here: what every reader takes
_KEPT = ("mediaType", "digest", "size", "platform", "artifactType", "urls")


# -- entries --------------------------------------------------------------------------------


def entry(
    layout: Layout, descriptor: Descriptor, platform: str | None = None, annotations: dict[str, str] | None = None
) -> Descriptor:
    """An image, index or artifact as an index has it: what it is and, for an image, where it runs."""
    found = manifests.load(layout, descriptor)
    made = {key: descriptor[key] for key in _KEPT if key in descriptor}
    made.setdefault("mediaType", manifests.kind(found, descriptor))
    if platform:
        made["platform"] = manifests.parse_platform(platform)
    elif "layers" in found and not made.get("platform") and found["config"].get("mediaType") in manifests.CONFIGS:
        said = configs.platform(configs.load(layout, found))
        if "os" in said and "architecture" in said:
            made["platform"] = said
    if isinstance(found.get("artifactType"), str):
        made["artifactType"] = found["artifactType"]
    return {**made, "annotations": annotations} if annotations else made


def flat(layout: Layout, descriptor: Descriptor) -> list[Descriptor]:
    """The entry of an image, or the entries of an index and of those in it, in their order.

    Sparse ones too: a registry may have what is not here.
    """
    if not manifests.is_index(descriptor.get("mediaType")):
        return [entry(layout, descriptor)]
    made: list[Descriptor] = []
    seen: set[str] = set()
    waiting = [(descriptor, manifests.MAX_DEPTH)]
    while waiting:
        at, depth = waiting.pop()
        if at["digest"] in seen:
            continue
        seen.add(at["digest"])
        if not depth or len(seen) > manifests.MAX_ENTRIES:
            raise Error("cannot use image", descriptor["digest"], "its indexes are nested too deeply or too many")
        if manifests.is_index(at.get("mediaType")):
            if at is not descriptor and not layout.has(at):
                continue
            waiting += [(child, depth - 1) for child in reversed(manifests.load(layout, at)["manifests"])]
        else:
            made.append(at)
    return made


def added(entries: Sequence[Descriptor], new: Descriptor, beside: bool = False) -> list[Descriptor]:
    """The entries with one more, in place of the same one, or of the one for its platform unless `beside`."""
    platform = new.get("platform")

    def same(old: Descriptor) -> bool:
        if old["digest"] == new["digest"]:
            return True
        comparable = platform and not beside and not attested(new) and not attested(old)
        return bool(comparable) and _key(old.get("platform")) == _key(platform)

    gone = {old["digest"] for old in entries if same(old)} - {new["digest"]}
    kept: list[Descriptor] = []
    placed = False
    for old in entries:
        if same(old):
            if not placed:
                kept.append(new)
            placed = True
        elif attested(old) not in gone:
            kept.append(old)
    return kept if placed else [*kept, new]


def attested(descriptor: Descriptor) -> str | None:
    """The digest of the image of which an entry is an attestation, if it is one."""
    return names.annotation(descriptor, ATTESTED)


def matching(entries: Iterable[Descriptor], what: str) -> list[Descriptor]:
    """The entries of a digest, of its beginning, or of exactly a platform; an Error where there is none."""
    prefix = what.removeprefix("sha256:")
    if digests.valid(what):
        found = [one for one in entries if one["digest"] == what]
    elif len(prefix) >= 4 and digests.HEX.issuperset(prefix):
        found = [one for one in entries if one["digest"].partition(":")[2].startswith(prefix)]
        if len({one["digest"] for one in found}) > 1:
            raise Error("which entry is", what, f"there are {len(found)}")
    else:
        wanted = _key(manifests.parse_platform(what))
        found = [one for one in entries if _key(one.get("platform"))[:3] == wanted[:3]]
        found = [one for one in found if wanted[3] in ("", _key(one["platform"])[3])]
    if not found:
        raise Error("no such entry", what)
    return found


def _key(platform: Any) -> tuple[Any, ...]:
    """A platform as it is compared: arm64 is arm64/v8."""
    said: dict[str, Any] = manifests.normal(platform) if isinstance(platform, dict) else {}
    version, features = said.get("os.version") or "", said.get("os.features") or []
    return said.get("os"), said.get("architecture"), said.get("variant"), version, features


def removed(entries: Sequence[Descriptor], what: str) -> list[Descriptor]:
    """The entries without those that match, and without the attestations that speak of them."""
    gone = {one["digest"] for one in matching(entries, what)}
    return [one for one in entries if one["digest"] not in gone and attested(one) not in gone]


def strip(index: dict[str, Any], entries: Iterable[Descriptor], chosen: Iterable[str]) -> dict[str, Any]:
    """An index of the entries with these digests, and the attestations that speak of them; the rest of it stays."""
    kept = set(chosen)
    return {**index, "manifests": [one for one in entries if one["digest"] in kept or attested(one) in kept]}


# -- indexes --------------------------------------------------------------------------------


def put(layout: Layout, index: dict[str, Any]) -> Descriptor:
    """Store an index; its descriptor."""
    data = document.dumps(index)
    if len(data) > MAX_INDEX:
        raise Error("index is too large", None, f"{len(data)} bytes are more than {MAX_INDEX}")
    return layout.put(data, index.get("mediaType") or layouts.INDEX)


def edit(layout: Layout, descriptor: Descriptor, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Descriptor:
    """Change the index that has this descriptor's name, whatever it is by now; the new one's descriptor.

    Without a name the new index is put into the layout without one, beside the old.
    """
    name = layouts.ref_name(descriptor)
    layout.hold()  # before the lock of index.json, which gc takes second too

    def replace(found: dict[str, Any]) -> Descriptor:
        at = descriptor
        if name is not None:
            at = next((one for one in found["manifests"] if layouts.ref_name(one) == name), descriptor)
        old = manifests.load(layout, at)
        if "manifests" not in old:
            hint = "index create makes one of it"
            raise Error("not an index", f"{layout.path}@{at['digest']}", "it is one image", hint)
        made = put(layout, change(old))
        kept = at.get("annotations") if isinstance(at.get("annotations"), dict) else None
        new = layouts.entry(name, {**made, "annotations": kept} if kept else made, None)
        found["manifests"] = names.tagged(found["manifests"], name, new)
        return made

    result: Descriptor = layout.update(replace)
    return result


def select(layout: Any, top: Descriptor, platforms: Sequence[str]) -> tuple[Descriptor, Pairs]:
    """The image for a platform, or for several an index of theirs; and the documents that are new in it."""
    if not platforms:
        return top, []
    if len(platforms) == 1:
        return manifests.choose(layout, top, platforms[0])[0], []
    index = manifests.load(layout, top)
    if "manifests" not in index:
        raise Error("not an index", top["digest"], "it is one image, for one platform")
    chosen = [manifests.choose(layout, top, platform)[0]["digest"] for platform in platforms]
    data = document.dumps(strip(index, flat(layout, top), chosen))
    media_type = index.get("mediaType") or layouts.INDEX
    made = {"mediaType": media_type, "digest": digests.of(data), "size": len(data)}
    return made, [(data, made)]


NO_PLATFORM = ["none"]  # what says that a sparse index is to have no image at all


def left_out(layout: Any, top: Descriptor, platforms: Sequence[str]) -> frozenset[str]:
    """The digests of the images in an index that are for other platforms, and of what speaks of them."""
    index = manifests.load(layout, top)
    if "manifests" not in index:
        return frozenset()
    wanted = [] if list(platforms) == NO_PLATFORM else platforms
    chosen = {manifests.choose(layout, top, platform)[0]["digest"] for platform in wanted}
    return frozenset(d["digest"] for d in flat(layout, top) if d["digest"] not in chosen and attested(d) not in chosen)
