"""What refers to an image by `subject`: signatures, lists of parts, attestations.

distribution-spec 1.1, "Listing Referrers", for a layout: its manifests stand in index.json, with or without
a name.  Two older ways are read too: the index that a registry without the API keeps under a tag
(fallback_tag), and cosign's tags ALGORITHM-HEX.sig, .att and .sbom, whose manifests have no subject.
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.names import COSIGN as COSIGN
from oci_tools.image.names import signed as signed
from oci_tools.image.names import tag_of as tag_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

_BEGINNINGS = tuple(f"{algorithm}-" for algorithm in digests.ALGORITHMS)


def subject(found: dict[str, Any]) -> str | None:
    """The digest that a manifest or index refers to, or None."""
    said = found.get("subject")
    digest = said.get("digest") if isinstance(said, dict) else None
    return digest if digests.valid(digest) else None


def fallback_tag(digest: str) -> str:
    """The tag under which a registry without the API keeps its list (distribution-spec, "Referrers Tag Schema")."""
    algorithm, _, text = digest.partition(":")
    return f"{algorithm[:32]}-{text[:64]}".replace("+", "-")


def cosign_tags(digest: str) -> list[str]:
    """The tags under which cosign keeps what it has to say of a digest."""
    return [f"{digest.replace(':', '-', 1)}.{kind}" for kind in COSIGN]


def beside(name: str | None, tag: str | None) -> str | None:
    """The name that a tag makes where an image has this name."""
    head, slash, last = (name or "").partition("@")[0].rpartition("/")
    return f"{head}/{last.partition(':')[0]}:{tag}" if tag and slash else tag


def named(descriptor: Descriptor, tag: str | None) -> Descriptor:
    """A referrer that has a tag of cosign's as its name, or none, whatever it says of itself."""
    made = {key: value for key, value in descriptor.items() if key != "annotations"}
    said = descriptor.get("annotations")
    notes = {key: value for key, value in (said if isinstance(said, dict) else {}).items() if key != layouts.REF_NAME}
    notes |= {layouts.REF_NAME: tag} if tag else {}
    return made | {"annotations": notes} if notes else made


def describe(descriptor: Descriptor, found: dict[str, Any]) -> Descriptor:
    """A referrer as it is listed: its descriptor, what kind of artifact it is, its own annotations."""
    made: Descriptor = {key: descriptor[key] for key in ("mediaType", "digest", "size") if key in descriptor}
    made.setdefault("mediaType", manifests.kind(found, descriptor))
    kind = found.get("artifactType") or (found.get("config") or {}).get("mediaType")
    if isinstance(kind, str):
        made["artifactType"] = kind
    if isinstance(found.get("annotations"), dict):
        made["annotations"] = found["annotations"]
    return made


class Referrers:
    """All that refers to anything in a layout; every manifest in index.json is read once."""

    def __init__(self, layout: Layout) -> None:
        self._of: dict[str, dict[str, Descriptor]] = {}
        self._tags: dict[str, str] = {}
        for entry in layout.index()["manifests"]:
            found = _load(layout, entry)
            if found is None:
                continue
            target = subject(found)
            if target:
                self._add(target, describe(entry, found))
            name = tag_of(layouts.ref_name(entry) or "")
            if digest := signed(name):
                self._tags[entry["digest"]] = name
                self._add(digest, describe(entry, found))
            for listed in found.get("manifests", ()) if name.startswith(_BEGINNINGS) else ():
                inner = _load(layout, listed)
                target = subject(inner) if inner else None
                if inner and target and fallback_tag(target) == name:
                    self._add(target, describe(listed, inner))

    def _add(self, target: str, made: Descriptor) -> None:
        if made["digest"] != target:
            self._of.setdefault(target, {}).setdefault(made["digest"], made)

    def of(self, digest: str, artifact_type: str | None = None) -> list[Descriptor]:
        """What refers to a digest, in the order of index.json."""
        found = self._of.get(digest, {}).values()
        return [made for made in found if artifact_type in (None, made.get("artifactType"))]

    def all_of(self, layout: Any, top: Descriptor) -> list[Descriptor]:
        """What refers to an image, to anything that it is made of, or to what so refers; each once, `named`."""
        seen = {descriptor["digest"] for descriptor, _ in manifests.walk(layout, top)}
        waiting, made = list(seen), []
        while waiting:
            for entry in self.of(waiting.pop()):
                if entry["digest"] not in seen:
                    seen.add(entry["digest"])
                    made.append(entry)
                    waiting += [d["digest"] for d, _ in manifests.walk(layout, entry)]
        made = [named(entry, self._tags.get(entry["digest"])) for entry in made]
        return sorted(made, key=lambda entry: str(entry["digest"]))


def _load(layout: Layout, descriptor: Descriptor) -> dict[str, Any] | None:
    try:
        return manifests.load(layout, descriptor)
    except Error:
        return None
