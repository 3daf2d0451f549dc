"""Archives of images, as streams: what `docker save`, `podman save` and `skopeo copy` write, and we.

    oci-archive     a layout in a tar: oci-layout, index.json, blobs/ALGORITHM/HEX
    docker-archive  manifest.json: [{"Config": NAME, "RepoTags": [REF], "Layers": [NAME]}], and those files

`write` makes one that is both, as Docker's own is since version 25.  `read` takes either, in any
order of its members, compressed or not, from a pipe: blobs go straight into a layout, each under its
own digest, and what they are is known when the table of contents has come.  Nothing is written
under a name from the archive, and a name that means nothing to us is passed over.

A docker-archive promises no digest but the configuration's diff ids, to which its layers are held.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.referrers import signed, tag_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.tar import Entry, Reader

    Images = list[tuple[str | None, Descriptor]]

CONTAINERD_NAME = "io.containerd.image.name"  # the full reference; ref.name has only the tag there
_DOCUMENTS = ("oci-layout", "index.json", "manifest.json")


class Limits:
    """What an archive may ask for, see oci_tools/tar.py; a blob may be as large as the disk."""

    entries = 1_000_000
    size = 1 << 50
    path = 4096
    header = 1 << 20
    xattrs = 256
    attributes = 16 << 20
    documents = 64 << 20  # bytes of all members that are kept in memory


# -- reading ---------------------------------------------------------------------------


def read(stream: Any, layout: Layout, subject: object = "archive") -> Images:
    """Every image of an archive, put into a layout: (name in the archive or None, descriptor) of each.

    Nothing is named in the layout: that is the caller's choice.  On an Error, what has come
    so far is in the layout without a name, for the next attempt or gc.
    """
    from oci_tools import compress
    from oci_tools.tar import Reader

    layout.hold()
    pieces = compress.expand(compress.read_pieces(stream), subject)
    found = _Members(layout, Reader(pieces, Limits(), subject), subject)
    found.take()
    if "index.json" in found.documents:
        return _oci_images(layout, found)
    if "manifest.json" in found.documents:
        return _docker_images(layout, found)
    why = "it is no image archive: it has neither index.json nor manifest.json"
    raise Error("cannot read", subject, why if found.size else "it is empty")


def read_file(path: str, layout: Layout, told: Callable[[int, int], None] | None = None) -> Images:
    """Every image of an archive in a file, or on standard input for `-`.

    told: of the bytes of it that were read, and of those that it has, 0 where nobody knows.
    """
    from oci_tools.image.watch import Stream

    try:
        with open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-") as file:
            size = os.fstat(file.fileno()).st_size if told else 0  # of a pipe 0
            stream = Stream(file, lambda there: told(there, size)) if told else file
            return read(stream, layout, "standard input" if path == "-" else path)
    except OSError as error:
        raise Error("cannot read", path, error) from None


def choose(images: Images, name: str | None, subject: object = "archive") -> tuple[str | None, Descriptor]:
    """The image of an archive with this name (as it stands there, or normalised), or the only one."""
    from oci_tools.image import ref as refs

    if name is None:
        if len({descriptor["digest"] for _, descriptor in images}) == 1:
            return images[0]
        names = ", ".join(str(said or d["digest"]) for said, d in images[:4])
        raise Error("which image of", subject, f"there are {len(images)}", names)
    for said, descriptor in images:
        if name in (said, layouts.ref_name(descriptor), descriptor["digest"]):
            return said, descriptor
    for said, descriptor in images:
        try:
            if said and refs.Ref.parse(said) == refs.Ref.parse(name):
                return said, descriptor
        except Error:
            continue
    raise Error("no such image", f"{subject}:{name}")


class _Members:
    """The members of an archive: documents in memory, blobs in the layout, links as they point."""

    def __init__(self, layout: Layout, reader: Reader, subject: object) -> None:
        self.documents: dict[str, bytes] = {}
        self.blobs: dict[str, Descriptor] = {}
        self.links: dict[str, str] = {}
        self.subject = subject
        self._layout = layout
        self._reader = reader
        self._kept = 0

    def take(self) -> None:
        for entry in self._reader:
            name = _clean(entry.name)
            if entry.type == "f":
                self._file(name, entry)
            elif entry.type == "l":  # docker save made two equal layers one file and a link
                self.links[name] = _clean(os.path.join(os.path.dirname(os.fsencode(name)), entry.link))
            elif entry.type == "h":
                self.links[name] = _clean(entry.link)
        self._reader.drain()

    @property
    def size(self) -> int:
        return self._reader.total

    def _file(self, name: str, entry: Entry) -> None:
        if name.startswith("blobs/"):
            algorithm, _, text = name[6:].partition("/")
            if digests.valid(f"{algorithm}:{text}"):
                wanted = {"digest": f"{algorithm}:{text}", "size": entry.size}
                self.blobs[name] = self._blob(wanted)
        elif name in _DOCUMENTS or (name.endswith(".json") and "/" not in name):
            self.documents[name] = self._document(name, entry)
        elif name.endswith((".tar", ".tar.gz", ".tgz")):
            self.blobs[name] = self._blob(None)

    def _document(self, name: str, entry: Entry) -> bytes:
        self._kept += entry.size + len(name)
        if self._kept > Limits.documents:
            raise Error(
                "cannot read", self.subject, f"its documents are larger than {Limits.documents} bytes"
            )
        return b"".join(self._reader.data())

    def _blob(self, wanted: Descriptor | None) -> Descriptor:
        if wanted and self._layout.has(wanted):
            return wanted  # its content is judged by whoever reads it
        with self._layout.ingest(wanted) as ingest:
            for piece in self._reader.data():
                ingest.write(piece)
            return ingest.commit()

    def find(self, name: str) -> Descriptor:
        """The blob of a member, through links."""
        for _ in range(16):
            if name in self.blobs:
                return self.blobs[name]
            if name not in self.links:
                break
            name = self.links[name]
        raise Error("cannot read", self.subject, f"'{name}' is missing in it")


def _clean(name: bytes) -> str:
    """A member's name as a relative path without `.` and `..` in it; only ever compared."""
    return os.path.normpath(os.fsdecode(b"/" + name)).lstrip("/")


def _oci_images(layout: Layout, found: _Members) -> Images:
    index = manifests.parse(
        found.documents["index.json"], {"digest": "index.json", "mediaType": layouts.INDEX}
    )
    images: Images = []
    for descriptor in index["manifests"]:
        manifests.parts(layout, descriptor)
        images.append((_said(descriptor), descriptor))
    return images


def _said(descriptor: Descriptor) -> str | None:
    """An image's name: where ref.name is only the tag of the full name, the full name."""
    full, name = layouts.annotation(descriptor, CONTAINERD_NAME), layouts.ref_name(descriptor)
    return full if full and (name is None or full.endswith(f":{name}")) else name


def _docker_images(layout: Layout, found: _Members) -> Images:
    table = document.loads(found.documents["manifest.json"], f"{found.subject}: manifest.json")
    images: Images = []
    if not isinstance(table, list):
        raise Error("cannot read", found.subject, "its manifest.json is not a list")
    for row in table:
        names = row.get("RepoTags") or [None] if isinstance(row, dict) else None
        if not isinstance(names, list) or not all(name is None or isinstance(name, str) for name in names):
            raise Error("cannot read", found.subject, "its manifest.json is not well formed")
        descriptor = _docker_image(layout, found, row)
        images += [(name, descriptor) for name in names]
    return images


def _docker_image(layout: Layout, found: _Members, row: dict[str, Any]) -> Descriptor:
    """An OCI manifest for a row of manifest.json; the configuration's bytes, and so the image's id, stay."""
    from oci_tools.image import config as configs

    names = row.get("Layers") or []
    if not isinstance(row.get("Config"), str) or not isinstance(names, list):
        raise Error("cannot read", found.subject, "its manifest.json is not well formed")
    config = _docker_config(layout, found, _clean(os.fsencode(row["Config"])))
    layers = [found.find(_clean(os.fsencode(str(name)))) for name in names]
    diff_ids = configs.diff_ids(document.loads(layout.read(config), row["Config"]), row["Config"])
    if len(diff_ids) != len(layers):
        raise Error("cannot read", found.subject, f"{len(diff_ids)} diff ids for {len(layers)} layers")
    typed = [_typed(layout, *pair) for pair in zip(layers, diff_ids, strict=True)]
    made = manifests.new(config, typed)
    platform = configs.platform(document.loads(layout.read(config)))
    return {**layout.put(document.dumps(made), manifests.OCI_MANIFEST), "platform": platform}


def _docker_config(layout: Layout, found: _Members, name: str) -> Descriptor:
    if name in found.documents:
        return layout.put(found.documents[name], manifests.OCI_CONFIG)
    descriptor = {**found.find(name), "mediaType": manifests.OCI_CONFIG}
    layout.read(descriptor)
    return descriptor


def _typed(layout: Layout, layer: Descriptor, diff_id: str) -> Descriptor:
    """A layer with its media type, by its content, which must be what the diff id says."""
    from oci_tools import compress

    with layout.blob(layer) as file:
        compression = compress.kind(file.read(6))
    if compression != "none" or layer["digest"] != diff_id:
        check_diff_id(layout, layer, diff_id)
    return {**layer, "mediaType": manifests.layer_type(manifests.OCI_MANIFEST, compression)}


def check_diff_id(layout: Layout, layer: Descriptor, diff_id: str) -> None:
    """Raise Error unless a layer's plain tar has this digest (and the layer itself its own)."""
    from oci_tools import compress

    algorithm, text = digests.check(diff_id)
    hasher = digests.new(algorithm)
    with digests.Verifier(layout.blob(layer), layer) as stream:
        for piece in compress.expand(compress.read_pieces(stream), layer["digest"]):
            hasher.update(piece)
        stream.drain()
    if hasher.hexdigest() != text:
        raise Error("wrong content of layer", layer["digest"], f"not diff id {diff_id}")


# -- writing ---------------------------------------------------------------------------


def write(layout: Layout, images: Iterable[tuple[str | None, Descriptor]], stream: Any) -> None:
    """An archive of these images, which OCI's and Docker's readers take; the same bytes every time.

    The table of contents comes first, then every blob once, verified as it passes, manifests
    before what they are made of.  Of an index, what is here is written; of an image, all.
    """
    from itertools import chain

    from oci_tools.image.kept import Digests

    entries = [_named(name, descriptor) for name, descriptor in images]
    seen = Digests()
    parts = [manifests.parts(layout, entry, seen) for entry in entries]
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        _add_row(layout, entry, rows)
    _member(stream, "oci-layout", document.dumps({"imageLayoutVersion": "1.0.0"}))
    _member(stream, "index.json", document.dumps(manifests.new_index(entries)))
    if rows:
        _member(stream, "manifest.json", document.dumps(list(rows.values())))
    for descriptor in chain.from_iterable(parts):
        stream.write(_header(_path(descriptor["digest"]), descriptor["size"]))
        with digests.Verifier(layout.blob(descriptor), descriptor) as blob:
            while data := blob.read(1 << 20):
                stream.write(data)
        stream.write(bytes(-descriptor["size"] % 512))
    stream.write(bytes(1024))


def write_file(layout: Layout, images: Iterable[tuple[str | None, Descriptor]], path: str) -> None:
    """An archive in a file, which appears or is replaced when it is whole; into a pipe or device as it comes."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                write(layout, images, file)
            return
        # Until it is whole the file has no name, so that being killed leaves nothing.
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        beside = f"{path}.{os.getpid()}.new"
        with open(os.open(os.path.dirname(path) or ".", flags, 0o644), "wb") as file:
            write(layout, images, file)
            file.flush()
            unnamed = f"/proc/self/fd/{file.fileno()}"
            os.link(unnamed, beside, src_dir_fd=file.fileno(), follow_symlinks=True)  # linkat, not link
        os.rename(beside, path)
    except OSError as error:
        raise Error("cannot write", path, error) from None


def _named(name: str | None, descriptor: Descriptor) -> Descriptor:
    full = None if signed(tag_of(name or "")) else reference(name)
    return layouts.entry(name, descriptor, {CONTAINERD_NAME: full} if full else None)


def reference(name: str | None) -> str | None:
    """The reference under which an engine loads an image of this name: `app` is app:latest."""
    from oci_tools.image import ref as refs

    try:
        ref = refs.Ref.parse(name or "")
    except Error:
        return None
    return f"{ref.name}:{ref.tag}" if ref.tag else None


def _add_row(layout: Layout, entry: Descriptor, rows: dict[str, dict[str, Any]]) -> None:
    """Add the row of manifest.json for an image, or for this host's of an index; artifacts have none."""
    try:
        _, found = manifests.choose(layout, entry)
    except Error:
        return
    config = found["config"]
    if signed(tag_of(layouts.ref_name(entry) or "")):
        return  # what cosign says of an image looks like one
    if config.get("mediaType") not in manifests.CONFIGS or not all(
        map(layout.has, manifests.children(found))
    ):
        return
    paths = [_path(d["digest"]) for d in manifests.children(found)]
    row = rows.setdefault(config["digest"], {"Config": paths[0], "RepoTags": [], "Layers": paths[1:]})
    full = layouts.annotation(entry, CONTAINERD_NAME)
    if full and full not in row["RepoTags"]:
        row["RepoTags"].append(full)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(stream: Any, name: str, data: bytes) -> None:
    stream.write(_header(name, len(data)) + data + bytes(-len(data) % 512))


def _header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A ustar header (the fields are drawn in tar.py), after a pax header where it is too narrow."""
    if len(name) > 100 or size >= 8**11:
        records = _record(b"path", name.encode()) + _record(b"size", b"%d" % size)
        before = _header("pax", len(records), b"x") + records + bytes(-len(records) % 512)
        return before + _header(name[-100:], min(size, 8**11 - 1), kind)
    fields = (name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
              b"%011o\0" % 0, b" " * 8, kind, bytes(100), b"ustar\0", b"00", bytes(64), b"0000000\0", b"0000000\0",
              bytes(167))  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its own length in decimal, the length's digits counted."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)
