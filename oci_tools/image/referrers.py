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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

COSIGN = ("sig", "att", "sbom")
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
        for entry in layout.index()["manifests"]:
            found = _load(layout, entry)
            if found is None:
                continue
            target = subject(found)
            if target:
                self._add(target, describe(entry, found))
            name = layouts.ref_name(entry) or ""
            digest, _, kind = name.replace("-", ":", 1).partition(".")
            if kind in COSIGN and digests.valid(digest):
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
        """What refers to an image, to anything that it is made of, or to what so refers; each once."""
        seen = {descriptor["digest"] for descriptor, _ in manifests.walk(layout, top)}
        waiting, made = list(seen), []
        while waiting:
            for entry in self.of(waiting.pop()):
                if entry["digest"] not in seen:
                    seen.add(entry["digest"])
                    made.append(entry)
                    waiting += [d["digest"] for d, _ in manifests.walk(layout, entry)]
        return sorted(made, key=lambda entry: str(entry["digest"]))


def _load(layout: Layout, descriptor: Descriptor) -> dict[str, Any] | None:
    try:
        return manifests.load(layout, descriptor)
    except Error:
        return None


def names(layout: Layout, descriptor: Descriptor) -> list[str]:
    """The names that a referrer has: those of cosign and of fallback tags matter to their readers."""
    entries = layout.index()["manifests"]
    found = [layouts.ref_name(entry) for entry in entries if entry.get("digest") == descriptor["digest"]]
    return [name for name in found if name]
