"""An image under digests of another algorithm: its blobs stay what they are, and what names them is written anew.

Diff ids stay, since they are in the configuration.  What is not here, or of a type that we do not know, keeps its name;
so does a `subject`.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image.convert import ATTESTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout


def copy(source: Any, top: Descriptor, target: Layout, algorithm: str) -> Descriptor:
    """Copy an image or index into a layout so; its descriptor there.  Naming it is the caller's."""
    if algorithm not in digests.ALGORITHMS:
        raise Error("unknown digest algorithm", algorithm, hint=", ".join(digests.ALGORITHMS), code=2)
    target.hold()
    return _Work(source, target, algorithm).take(top, manifests.MAX_DEPTH)


class _Work:
    """One copy; each part is read once."""

    def __init__(self, source: Any, target: Layout, algorithm: str) -> None:
        self._source = source
        self._target = target
        self._algorithm = algorithm
        self._known: dict[str, Descriptor] = {}  # by the old digest

    def take(self, descriptor: Descriptor, depth: int) -> Descriptor:
        """A part under its new digest; what else its descriptor says stays."""
        digest = descriptor["digest"]
        if digest not in self._known:
            if not depth or len(self._known) > manifests.MAX_ENTRIES:
                raise Error("cannot copy image", digest, "its indexes are nested too deeply or too many")
            self._known[digest] = {key: descriptor[key] for key in ("digest", "size")}
            media_type = descriptor.get("mediaType")
            if depth == manifests.MAX_DEPTH or manifests.is_index(media_type) or manifests.is_manifest(media_type):
                self._known[digest] = self._document(descriptor, depth)
            elif self._source.has(descriptor):
                self._known[digest] = self._blob(descriptor)
        return {**descriptor, **self._known[digest]}

    def _document(self, descriptor: Descriptor, depth: int) -> Descriptor:
        if not self._source.has(descriptor):
            return {}
        found = dict(manifests.parse(self._source.read(descriptor), descriptor))
        if "manifests" in found:
            found["manifests"] = [self._attesting(self.take(one, depth - 1)) for one in found["manifests"]]
        else:
            found["config"] = self.take(found["config"], depth - 1)
            found["layers"] = [self.take(layer, depth - 1) for layer in found["layers"]]
        made = self._target.put(document.dumps(found), manifests.kind(found, descriptor), self._algorithm)
        return {key: made[key] for key in ("digest", "size")}

    def _attesting(self, entry: Descriptor) -> Descriptor:
        """An entry of an index; of an attestation it says which image that speaks of."""
        notes = entry.get("annotations") or {}
        old = notes.get(ATTESTED)
        if old not in self._known:
            return entry
        return {**entry, "annotations": {**notes, ATTESTED: self._known[old]["digest"]}}

    def _blob(self, descriptor: Descriptor) -> Descriptor:
        with (
            digests.Verifier(self._source.blob(descriptor), descriptor) as stream,
            self._target.ingest(algorithm=self._algorithm) as ingest,
        ):
            while data := stream.read(1 << 20):
                ingest.write(data)
            made = ingest.commit()
        return {key: made[key] for key in ("digest", "size")}
