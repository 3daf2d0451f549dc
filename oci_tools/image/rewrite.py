"""An image as it was asked for: in the other's words (convert.py), its layers compressed otherwise.

    with Changed(view, top, "docker", ("zstd", 3)) as made:     made.view, made.top

A layer that is compressed so already keeps its bytes, whatever the level; so do foreign layers and
those of types that we do not know.  Every other is unpacked, held to its diff id, and packed again:
manifests and indexes above it are written anew, configurations stay, and with them the image's Id.
The same layer gives the same bytes wherever it is done.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error, Usage
from oci_tools.image import config as configs
from oci_tools.image import convert
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image.kept import Digests, Documents, Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.source import Scratch

    Compression = tuple[str, int | None]  # "gzip" or "zstd", and the level if it is said

_HOW = {kind: kind.rpartition("tar")[2].lstrip("+.") or "none" for kind in convert.LAYERS}


def compression(text: str | None) -> Compression | None:
    """What --compress says."""
    if text is None:
        return None
    from oci_tools import compress

    name, colon, level = text.partition(":")
    if name not in ("gzip", "zstd"):
        raise Usage("unknown compression", text, hint="gzip or zstd")
    if not colon:
        return name, None
    lowest, highest, _ = compress.LEVELS[name]
    if not (level.isascii() and level.isdigit() and lowest <= int(level) <= highest):
        raise Usage("unknown compression level", level, f"{name} has {lowest} to {highest}")
    return name, int(level)


class Changed:
    """An image in the format and compression asked for, for a `with` block; what is new of it is gone afterwards.

    view   as a layout that has it all
    top    its descriptor
    """

    def __init__(self, view: Any, top: Descriptor, wanted: str | None, packed: Compression | None) -> None:
        self.view = view
        self.top = top
        self._wanted = wanted
        self._packed = packed
        self._scratch: Scratch | None = None

    def __enter__(self) -> Changed:
        from oci_tools.image.source import Scratch

        beside = None
        if self._packed:
            self._scratch = Scratch()
            beside = self._scratch.__enter__()
        try:
            self.top, documents = change(self.view, self.top, self._wanted, self._packed, beside)
        except BaseException:
            self.__exit__()
            raise
        self.view = convert.View(self.view, documents, beside)
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch:
            self._scratch.__exit__()


def change(
    view: Any, top: Descriptor, wanted: str | None, packed: Compression | None, into: Layout | None
) -> tuple[Descriptor, Documents]:
    """The new descriptor of an image, and the documents that are new in it; new layers are put into a layout."""
    layers = recompress(view, top, into, packed) if packed and into else Layers()
    if not wanted and not layers:
        return top, Documents()
    documents = convert.convert(view.read, top, wanted, layers)
    return (convert.renamed(top, documents[-1][1], wanted) if documents else top), documents


class Layers:
    """What takes the place of layers, of which there may be very many: old digest -> new descriptor."""

    def __init__(self) -> None:
        self._kept = Kept()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, digest: str) -> bool:
        return digest in self._kept

    def put(self, digest: str, descriptor: Descriptor) -> None:
        self._kept.put(digest, document.dumps(descriptor))

    def get(self, digest: str) -> Descriptor | None:
        data = self._kept.get(digest)
        return None if data is None else document.loads(data)


def recompress(view: Any, top: Descriptor, into: Layout, packed: Compression) -> Layers:
    """Put the layers of an image into a layout that are not compressed so."""
    made = Layers()
    for descriptor, found in manifests.walk(view, top, Digests()):
        if not found or "layers" not in found or found["config"].get("mediaType") not in manifests.CONFIGS:
            continue
        layers = found["layers"]
        if all(_HOW.get(layer.get("mediaType"), packed[0]) == packed[0] for layer in layers):
            continue
        name = descriptor["digest"]
        diff_ids = configs.diff_ids(document.loads(view.read(found["config"]), name), name)
        if len(diff_ids) != len(layers):
            raise Error("cannot compress image", name, f"{len(diff_ids)} diff ids for {len(layers)} layers")
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            if _HOW.get(layer.get("mediaType"), packed[0]) != packed[0] and layer["digest"] not in made:
                made.put(layer["digest"], _pack(view, layer, diff_id, into, packed))
    return made


def _pack(view: Any, layer: Descriptor, diff_id: str, into: Layout, packed: Compression) -> Descriptor:
    """One layer, compressed anew; its descriptor in OCI's words."""
    from oci_tools import compress

    algorithm, text = digests.check(diff_id)
    hasher = digests.new(algorithm)
    made_as = layer["digest"].partition(":")[0]
    with (
        digests.Verifier(view.blob(layer), layer) as stream,
        into.ingest(algorithm=made_as) as ingest,
        compress.writer(ingest, *packed) as out,
    ):
        for piece in compress.expand(compress.read_pieces(stream), layer["digest"]):
            hasher.update(piece)
            out.write(piece)
        stream.drain()
        if hasher.hexdigest() != text:
            raise Error("wrong content of layer", layer["digest"], f"not diff id {diff_id}")
        out.close()
        return ingest.commit(manifests.layer_type(manifests.OCI_MANIFEST, packed[0]))
