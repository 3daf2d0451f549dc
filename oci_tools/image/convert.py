"""An image in the other's words: docker schema 2 <-> OCI media types.

Only manifests and indexes are written anew, so their digests change; configurations and layers stay
byte for byte, and with them the image's Id and what is on disk.  What Docker's words cannot say
is left out (annotations, attestations) or, where the image would be another without it, an Error
(artifacts, subjects, layers of unknown types).

    documents = convert(load, top, "docker")        (bytes, descriptor) of each, children first, `top`'s last
    view = View(layout, documents)                  the layout as if they were in it

Nothing here writes: a copy puts the documents into its target, an archive is written from the view,
a pull converts what it has fetched.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image.kept import Documents, Kept
from oci_tools.image.layout import INDEX, MAX_DOCUMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from oci_tools.image.layout import Descriptor, Layout

    Load = Callable[[Descriptor], bytes]

    class Layers(Protocol):
        """What takes the place of layers: old digest -> descriptor."""

        def get(self, digest: str, /) -> Descriptor | None: ...


FORMATS = ("oci", "docker")
ATTESTED = "vnd.docker.reference.digest"  # an attestation's annotation: of which image

_PAIRS = (
    (INDEX, manifests.DOCKER_INDEX),
    (manifests.OCI_MANIFEST, manifests.DOCKER_MANIFEST),
    (manifests.OCI_CONFIG, manifests.DOCKER_CONFIG),
    (manifests.OCI_LAYER, manifests.DOCKER_LAYER),
    (manifests.OCI_LAYER_GZIP, manifests.DOCKER_LAYER_GZIP),
    (manifests.OCI_LAYER_ZSTD, manifests.DOCKER_LAYER_ZSTD),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", manifests.DOCKER_FOREIGN),
)
_TO = {"docker": dict(_PAIRS), "oci": {docker: oci for oci, docker in _PAIRS}}
# Layers that may be compressed otherwise; what is said of a layer's compressed bytes, by annotations that begin so.
LAYERS = frozenset(
    manifests.layer_type(kind, name)
    for kind in (manifests.OCI_MANIFEST, manifests.DOCKER_MANIFEST)
    for name in ("none", "gzip", "zstd")
)
_OF_PACKING = ("io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/")


def convert(
    load: Load, top: Descriptor, wanted: str | None, layers: Layers | None = None
) -> Documents:
    """The documents of an image or index in a format ("oci" or "docker"), children first; `load` gives the old ones'.

    layers: old digest -> descriptor of what takes a layer's place (rewrite.py); with them the format
    may be None, as it is.

    What is in that format already keeps its bytes; if that is all of it, nothing is returned.
    """
    if wanted is not None and wanted not in FORMATS:
        raise Error("unknown format", wanted, hint="oci or docker")
    work = _Work(load, wanted, layers or {})
    work.document(top, manifests.MAX_DEPTH)
    return work.made


def renamed(old: Descriptor, new: Descriptor, wanted: str | None) -> Descriptor:
    """A descriptor after its document was converted; Docker's have no annotations and no artifact type."""
    lost = ("annotations", "artifactType") if wanted == "docker" else ()
    return {**{key: value for key, value in old.items() if key not in lost}, **new}


class _Work:
    """One conversion; each document is converted once."""

    def __init__(self, load: Load, wanted: str | None, layers: Layers) -> None:
        self.made = Documents()
        self._load = load
        self._wanted = wanted
        self._types = _TO[wanted] if wanted else {}
        self._layers = layers
        self._at: set[str] = set()  # what is being converted
        self._new = Kept()  # old digest -> new descriptor

    def document(self, descriptor: Descriptor, depth: int) -> Descriptor:
        """The new descriptor of a manifest or index; what else the old one says goes with it."""
        digest = descriptor["digest"]
        new = self._new.get(digest)
        if new is None:
            if not depth or digest in self._at or len(self._new) > manifests.MAX_ENTRIES:
                raise Error("cannot convert image", digest, "its indexes are nested too deeply or too many")
            self._at.add(digest)
            new = document.dumps(self._convert(descriptor, depth))
            self._at.remove(digest)
            self._new.put(digest, new)
        return renamed(descriptor, document.loads(new), self._wanted)

    def _convert(self, descriptor: Descriptor, depth: int) -> Descriptor:
        data = self._load(descriptor)
        found = manifests.parse(data, descriptor)
        old = manifests.kind(found, descriptor)
        if self._wanted == "docker" and ("subject" in found or "artifactType" in found):
            raise Error("cannot convert image", descriptor["digest"], "Docker's format has no artifacts")
        if "manifests" in found:
            changed = {**found, "manifests": self._entries(found["manifests"], depth)}
        else:
            config = self._part(found["config"], descriptor)
            layers = [self._part(self._packed(d), descriptor) for d in found["layers"]]
            changed = {**found, "config": config, "layers": layers}
        kind = self._types.get(old, old)
        if kind == old and changed == found:
            return {"mediaType": old, "digest": descriptor["digest"], "size": len(data)}
        changed["mediaType"] = kind
        if self._wanted == "docker":
            changed.pop("annotations", None)
        data = document.dumps(changed)
        algorithm = descriptor["digest"].partition(":")[0]
        made = {"mediaType": kind, "digest": digests.of(data, algorithm), "size": len(data)}
        self.made.append((data, made))
        return made

    def _packed(self, layer: Descriptor) -> Descriptor:
        """A layer, or what takes its place, under a type of the same family."""
        new = self._layers.get(layer["digest"])
        old = layer.get("mediaType")
        if new is None or old not in LAYERS:
            return layer
        kind = new["mediaType"] if old in _TO["docker"] else _TO["docker"][new["mediaType"]]
        made = {key: value for key, value in layer.items() if key not in ("urls", "data", "annotations")}
        said = (layer.get("annotations") or {}).items()
        kept = {key: value for key, value in said if not key.startswith(_OF_PACKING)}
        return {**made, **new, "mediaType": kind, **({"annotations": kept} if kept else {})}

    def _part(self, part: Descriptor, of: Descriptor) -> Descriptor:
        """A configuration or layer under its other name."""
        old = part.get("mediaType", "")
        known = old in self._types.values()
        if self._wanted == "docker" and not known and old not in self._types:
            raise Error("cannot convert image", of["digest"], f"Docker's format has no '{old}'")
        made = {**part, "mediaType": self._types[old]} if old in self._types else dict(part)
        if self._wanted == "docker":
            made.pop("annotations", None)
        return made

    def _entries(self, entries: list[Descriptor], depth: int) -> list[Descriptor]:
        kept = []
        for entry in entries:
            if _attested(entry):
                if self._wanted != "docker":
                    kept.append(entry)
            elif manifests.is_index(entry.get("mediaType")) or manifests.is_manifest(entry.get("mediaType")):
                kept.append(self.document(entry, depth - 1))
            elif self._wanted != "docker":
                kept.append(entry)
            else:
                what = entry.get("mediaType")
                raise Error("cannot convert image", entry["digest"], f"Docker's format has no '{what}'")
        return [self._of_new(entry) if _attested(entry) else entry for entry in kept]

    def _of_new(self, entry: Descriptor) -> Descriptor:
        """An attestation's entry, which names the image that it is of."""
        annotations = entry["annotations"]
        of = annotations[ATTESTED]
        new = self._new.get(of) if digests.valid(of) else None
        return {**entry, "annotations": {**annotations, ATTESTED: document.loads(new)["digest"]}} if new else entry


def _attested(entry: Descriptor) -> str | None:
    """Of which image an entry of an index is an attestation, if it is one."""
    return (entry.get("annotations") or {}).get(ATTESTED)


class View:
    """A layout with some documents more, which are only in memory: to be read, or copied from.

    beside: a layout with blobs that the first lacks; without: digests of what is not to be seen of it.
    """

    def __init__(
        self, layout: Any, documents: Iterable[tuple[bytes, Descriptor]], beside: Layout | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._without = without
        self._layout = layout
        self._beside = beside
        self._documents = documents if isinstance(documents, Documents) else Documents(documents)

    def _at(self, descriptor: Descriptor) -> Any:
        return self._beside if self._beside and self._beside.has(descriptor) else self._layout

    def blob_path(self, descriptor: Descriptor) -> str:
        path: str = self._at(descriptor).blob_path(descriptor)
        return path

    def index(self) -> dict[str, Any]:
        """The layout's own: nothing in memory has a name."""
        found: dict[str, Any] = self._layout.index()
        return found

    def has(self, descriptor: Descriptor) -> bool:
        data = self._documents.get(descriptor["digest"])
        here: bool = self._at(descriptor).has(descriptor) if data is None else len(data) == descriptor["size"]
        return here and descriptor["digest"] not in self._without

    def read(self, descriptor: Descriptor, limit: int = MAX_DOCUMENT) -> bytes:
        data = self._documents.get(descriptor["digest"])
        if descriptor["digest"] in self._without:
            raise Error("missing blob", descriptor["digest"])
        found: bytes = self._at(descriptor).read(descriptor, limit) if data is None else data
        return found

    def blob(self, descriptor: Descriptor) -> Any:
        from io import BytesIO

        data = self._documents.get(descriptor["digest"])
        return self._at(descriptor).blob(descriptor) if data is None else BytesIO(data)
