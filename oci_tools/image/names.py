"""Names of images in a layout: the entries of index.json, as a list that is edited by pure functions.

    {"mediaType", "digest", "size", "annotations": {"org.opencontainers.image.ref.name": NAME}}

An image without a name has none; one that lost it says when, in `io.oci-tools.untagged`.  An
entry may be anything, since other tools write there too: what is not understood is kept.
"""

from __future__ import annotations

import time

from oci_tools.image import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Descriptor = dict[str, Any]

REF_NAME = "org.opencontainers.image.ref.name"
BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
UNTAGGED = "io.oci-tools.untagged"
COSIGN = ("sig", "att", "sbom")  # what it has to say of ALGORITHM:HEX has the tag ALGORITHM-HEX and one of these ends
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@/+")


def ref_name(descriptor: Any) -> str | None:
    """The name of an entry of index.json, or None."""
    return annotation(descriptor, REF_NAME)


def annotation(descriptor: Any, key: str) -> str | None:
    """An annotation of a descriptor that may be anything."""
    found = descriptor.get("annotations") if isinstance(descriptor, dict) else None
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def content(descriptor: Descriptor) -> object:
    """What two entries of the same content have in common."""
    digest = descriptor.get("digest")
    return digest if isinstance(digest, str) else id(descriptor)


def is_name(name: str) -> bool:
    """Whether an image in a layout may have this name: letters, digits and -._:@/+, and no digest.

    image-spec, annotations.md; a digest as a name would be taken for one.
    """
    return bool(name) and _NAME.issuperset(name) and name[0] not in "-.:@/+" and not digests.valid(name)


def stamp() -> str:
    """The value of `io.oci-tools.untagged` now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def signed(tag: str) -> str:
    """The digest that a tag of cosign's is about; "" of any other."""
    digest, _, kind = tag.replace("-", ":", 1).partition(".")
    return digest if kind in COSIGN and digests.valid(digest) else ""


def tag_of(name: str) -> str:
    """The tag in a name: in the default store names are full references."""
    return name.rpartition(":")[2] if "/" in name else name


def is_image(descriptor: Descriptor) -> bool:
    """Whether an entry has a name, and not one by which it speaks of another."""
    name = ref_name(descriptor)
    return name is not None and not signed(tag_of(name))


def entry(name: str | None, descriptor: Descriptor, annotations: dict[str, str] | None) -> Descriptor:
    """A descriptor as an entry of index.json, without what it said about an earlier name."""
    stale = (REF_NAME, UNTAGGED, "io.containerd.image.name")
    old = descriptor.get("annotations")
    kept = {k: v for k, v in old.items() if k not in stale} if isinstance(old, dict) else {}
    kept.update(annotations or {})
    if name is not None:
        kept[REF_NAME] = name
    entry = {key: value for key, value in descriptor.items() if key != "annotations"}
    return {**entry, "annotations": kept} if kept else entry


def tagged(manifests: list[Descriptor], name: str | None, entry: Descriptor) -> list[Descriptor]:
    """The list with `entry` in it: in place of what had its name, or was the same without one."""
    this = content(entry)
    kept: list[Descriptor] = []
    lost: list[Descriptor] = []
    placed = False
    for d in manifests:
        if name is None and content(d) == this and ref_name(d):
            return manifests
        if ref_name(d) == name and (name is not None or content(d) == this):
            if not placed:
                kept.append(entry)
                placed = True
            lost.append(d)
        elif ref_name(d) is not None or content(d) != this:
            kept.append(d)
    if not placed:
        kept.append(entry)
    return _with_nameless(kept, lost)


def untagged(manifests: list[Descriptor], name: str) -> list[Descriptor]:
    """The list without this name; what nothing else names stays without one."""
    lost = [d for d in manifests if ref_name(d) == name]
    return _with_nameless([d for d in manifests if ref_name(d) != name], lost)


def _with_nameless(kept: list[Descriptor], lost: list[Descriptor]) -> list[Descriptor]:
    """Both lists; of the second each content that is not there yet, once and without a name."""
    found = list(kept)
    there = {content(d) for d in kept}
    for d in lost:
        if content(d) not in there:
            there.add(content(d))
            found.append(entry(None, d, {UNTAGGED: stamp()}))
    return found
