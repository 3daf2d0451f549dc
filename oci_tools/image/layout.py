"""An image layout, at rest: image-spec, image-layout.md.

    oci-layout              {"imageLayoutVersion": "1.0.0"}
    index.json              an image index: what is in here, and under which names
    blobs/sha256/HEX        everything, by digest
    .ingest/                what is being written (ours; absent when nobody writes)

Who may do what at the same time:
    a change of index.json  reads and replaces it under flock(2) on the layout's directory
    a writer of blobs       holds a shared flock on blobs/ until its last blob is referenced
    gc                      takes that one exclusively, so it never meets a blob that waits for its name
    a file in .ingest/      is flocked by its writer; one that nobody holds was left by a dead one
A blob gets its name after it is verified and on disk (ingest.py has the one exception), index.json after its
blobs' names are; so the layout is valid at every moment, and what a killed writer leaves is swept by the next.

What index.json says that we do not know stays there.  A manifest that loses its name stays
in it too, with the annotation `io.oci-tools.untagged` (when), until gc's grace ends, so that whoever
reads it by digest can finish; one that never had a name has no such mark, and stays.
"""

from __future__ import annotations

import os
import stat

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import ref as refs
from oci_tools.image.names import REF_NAME as REF_NAME
from oci_tools.image.names import UNTAGGED as UNTAGGED
from oci_tools.image.names import annotation as annotation
from oci_tools.image.names import entry as entry
from oci_tools.image.names import is_name as is_name
from oci_tools.image.names import is_image as _is_image
from oci_tools.image.names import ref_name as ref_name
from oci_tools.image.names import stamp as stamp
from oci_tools.image.names import tagged as _tagged
from oci_tools.image.names import untagged as _untagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from typing import Any

    from oci_tools.image.ingest import Ingest

    Descriptor = dict[str, Any]  # {"mediaType", "digest", "size", ...}, as it stands in the document

INDEX = "application/vnd.oci.image.index.v1+json"
MAX_INDEX = 256 << 20  # bytes of index.json: half a million images
MAX_DOCUMENT = 16 << 20  # bytes of a manifest or config that is read; every registry takes 4 MiB, ours this

_OURS = frozenset(("oci-layout", "index.json", "blobs", ".ingest"))


def store(make: bool = True) -> Layout:
    """The default store."""
    path = refs.store_path()
    if make:
        fs.make_private(os.path.dirname(path))
    return Layout.create(path) if make else Layout.open(path)


def at(place: refs.Place, make: bool = False) -> Layout:
    """The layout of a located image; made if it is missing and `make` is true."""
    if place.kind == "store" and (make or not os.path.exists(f"{place.path}/oci-layout")):
        if not make:
            raise Error("no such image", place.text)
        return store()
    if place.kind not in ("store", "layout"):
        raise Error("not in a layout", place.text)
    if place.blobs:
        from oci_tools.image import shared

        return (shared.create if make else shared.opened)(place.path, place.blobs)
    return Layout.create(place.path) if make else Layout.open(place.path)


def handle(layout: Layout, descriptor: Descriptor) -> str:
    """What makers print and every command takes: /abs/path@sha256:..."""
    return f"{layout.path}@{descriptor['digest']}"


class Layout:
    """One image layout.  A `with` block, or the end of the object, ends a writer's hold on its blobs."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.also = ""  # a directory with blobs that are not here (shared.py)
        self._held: fs.Lock | None = None
        self._new = False
        self.lasts = True  # False: it goes with its maker, and need not be on disk before
        self.fresh: set[str] = set()  # directories with names that are not on disk for sure

    @classmethod
    def open(cls, path: str) -> Layout:
        """A layout that exists."""
        layout = cls(path)
        version = document.load(f"{layout.path}/oci-layout") if layout._marked() else None
        if not isinstance(version, dict) or not str(version.get("imageLayoutVersion", "")).startswith("1."):
            raise Error("cannot read image layout", path, f"unknown version in oci-layout: {version!r}"[:100])
        return layout

    @classmethod
    def create(cls, path: str) -> Layout:
        """The layout at `path`, made if there is none; its blobs are held as a writer's."""
        layout = cls(path)
        try:
            os.makedirs(layout.path, exist_ok=True)
        except OSError as error:
            raise Error("cannot make image layout", path, error) from None
        if new := not os.path.exists(f"{layout.path}/oci-layout"):
            layout._make()
        made = cls.open(path).hold()
        made._new = new
        return made

    def _marked(self) -> bool:
        try:
            os.stat(f"{self.path}/oci-layout")
        except NotADirectoryError:
            hint = "an archive is named oci-archive:FILE or docker-archive:FILE"
            raise Error("cannot open image layout", self.path, "it is a file", hint) from None
        except FileNotFoundError:
            why = "it has no oci-layout" if os.path.isdir(self.path) else "no such directory"
            raise Error("cannot open image layout", self.path, why) from None
        except OSError as error:
            raise Error("cannot open image layout", self.path, error) from None
        return True

    def _make(self) -> None:
        """Make an empty layout; `oci-layout` comes last, so a half-made one is none and is finished here."""
        with self._lock():
            begun = ("oci-layout.", "index.json.")  # what a killed maker left
            if any(name not in _OURS and not name.startswith(begun) for name in os.listdir(self.path)):
                raise Error("cannot make image layout", self.path, "the directory is not empty")
            try:
                os.makedirs(f"{self.path}/blobs/sha256", exist_ok=True)
            except OSError as error:
                raise Error("cannot make image layout", self.path, error) from None
            if not os.path.exists(f"{self.path}/index.json"):
                empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
                fs.write(f"{self.path}/index.json", document.dumps(empty))
            if not os.path.exists(f"{self.path}/oci-layout"):
                fs.write(f"{self.path}/oci-layout", document.dumps({"imageLayoutVersion": "1.0.0"}))

    def __enter__(self) -> Layout:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if self._new and kind is not None:
            from oci_tools.image.gc import unmake

            unmake(self.path)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the hold on blobs, if there is one."""
        held, self._held = self._held, None
        if held:
            held.__exit__()

    def hold(self) -> Layout:
        """Keep gc away from blobs until `close`: what is there, and what is put there from now on.

        A writer holds before it asks `has`, so that what it need not write again stays.
        """
        if self._held is None:
            try:
                os.mkdir(f"{self.path}/blobs")
            except FileExistsError:
                pass
            except OSError as error:
                raise Error("cannot write image layout", self.path, error) from None
            lock = fs.Lock(f"{self.path}/blobs/", shared=True)
            lock.__enter__()
            self._held = lock
        return self

    def _lock(self) -> fs.Lock:
        return fs.Lock(f"{self.path}/")  # with the slash nothing is made where the layout has gone

    # -- names ---------------------------------------------------------------------

    def name_for(self, name: str | None) -> str | None:
        """The name that an image called so elsewhere has here (contracts.md, "Names").

        In the default store a full reference, in other layouts the tag of one; other names stay.
        """
        if name is None:
            return None
        if self.path == refs.store_path():
            return str(refs.Ref.parse(name))
        return refs.Ref.parse(name).tag or None if "/" in name or ":" in name else name

    def index(self) -> dict[str, Any]:
        """index.json, checked to be an index; its `manifests` is a list of objects."""
        path = f"{self.path}/index.json"
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read(MAX_INDEX + 1)
        except OSError as error:
            raise Error("cannot read", path, error) from None
        if len(data) > MAX_INDEX:
            raise Error("cannot read", path, f"larger than {MAX_INDEX} bytes")
        index = document.loads(data, path)
        if not isinstance(index, dict):
            raise Error("cannot read", path, "not an image index")
        manifests = index.setdefault("manifests", [])
        if manifests is None:  # what Go writes for an empty list
            manifests = index["manifests"] = []
        if not isinstance(manifests, list) or not all(isinstance(d, dict) for d in manifests):
            raise Error("cannot read", path, "manifests is not a list of descriptors")
        return index

    def update(self, change: Callable[[dict[str, Any]], Any]) -> Any:
        """Let `change` edit index.json under the lock; what it returns is returned.

        An Error out of `change` leaves everything as it was; so does an edit that changes nothing.
        """
        with self._lock():
            index = self.index()
            before = document.dumps(index)
            result = change(index)
            after = document.dumps(index)
            if after != before:
                for directory in self.fresh:
                    fs.sync_directory(directory)
                self.fresh.clear()
                fs.write(f"{self.path}/index.json", after)
                fs.sync_directory(self.path)
        return result

    def find(self, name: str | None = None) -> Descriptor:
        """The descriptor of a name, of a digest (also one within an index), or of the only image."""
        manifests: list[Descriptor] = self.index()["manifests"]
        if name is None:
            return self._only(manifests)
        for descriptor in manifests:
            if ref_name(descriptor) == name:
                return descriptor
        if digests.valid(digest := name.rpartition("@")[2]):
            found = next((d for d in manifests if d.get("digest") == digest), None) or self._inside(digest)
            if found:
                return found
        mark = "@" if digests.valid(name) else ":"
        raise Error("no such image", name if self.path == refs.store_path() else f"{self.path}{mark}{name}")

    def _only(self, manifests: list[Descriptor]) -> Descriptor:
        """The one image there is; those that lost their names do not count beside one that has one."""
        for among in ([d for d in manifests if _is_image(d)], manifests):
            different = {d.get("digest"): d for d in reversed(among)}
            if len(different) == 1:
                return next(iter(different.values()))
            if different:
                names = ", ".join(str(ref_name(d) or d.get("digest")) for d in among[:4])
                more = ", ..." if len(among) > 4 else ""
                raise Error("which image of", self.path, f"there are {len(different)}", f"{names}{more}")
        raise Error("no image in", self.path)

    def _inside(self, digest: str) -> Descriptor | None:
        """A descriptor from within the indexes in here."""
        from oci_tools.image import manifest

        for descriptor in self.index()["manifests"]:
            if manifest.is_index(descriptor.get("mediaType")):
                for inner, found in manifest.walk(self, descriptor):
                    if inner.get("digest") == digest and found:
                        return inner
        return None

    def tag(
        self, name: str | None, descriptor: Descriptor, annotations: dict[str, str] | None = None
    ) -> None:
        """Give a name; whatever had it keeps its place without one.  None: put it in without a name."""
        digests.check_descriptor(descriptor)
        if name is not None and not is_name(name):
            raise Error("invalid image name", name)
        if not self.hold().has(descriptor):  # held, so that gc cannot have been faster
            self.blob(descriptor).close()

        def change(index: dict[str, Any]) -> None:
            index["manifests"] = _tagged(index["manifests"], name, entry(name, descriptor, annotations))

        self.update(change)

    def untag(self, name: str) -> Descriptor:
        """Take a name away; what had it stays without one until gc's grace ends."""

        def change(index: dict[str, Any]) -> Descriptor:
            gone = [d for d in index["manifests"] if ref_name(d) == name]
            if not gone:
                raise Error("no such image", name)
            index["manifests"] = _untagged(index["manifests"], name)
            first: Descriptor = gone[0]
            return first

        found: Descriptor = self.update(change)
        return found

    def remove(self, digest: str) -> None:
        """Take an image out of index.json with all its names; its blobs go with the next gc."""

        def change(index: dict[str, Any]) -> None:
            kept = [d for d in index["manifests"] if d.get("digest") != digest]
            if len(kept) == len(index["manifests"]):
                raise Error("not an image of its own", f"{self.path}@{digest}", "it is part of an index")
            index["manifests"] = kept

        self.update(change)

    # -- blobs -----------------------------------------------------------------------

    def blob_path(self, descriptor: Descriptor | str) -> str:
        """The absolute path that a blob has or would have."""
        digest = descriptor if isinstance(descriptor, str) else descriptor.get("digest")
        algorithm, text = digests.check(digest)
        path = f"{self.path}/blobs/{algorithm}/{text}"
        return path if not self.also or os.path.exists(path) else f"{self.also}/{algorithm}/{text}"

    @property
    def beginnings(self) -> str:
        """The directory of what is being written: beside blobs that are shared, if they are."""
        return f"{self.path}/{'blobs/' if os.path.islink(f'{self.path}/blobs') else ''}.ingest"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here in its size; its content is checked by whoever reads it."""
        _, _, size = digests.check_descriptor(descriptor)
        try:
            seen = os.stat(self.blob_path(descriptor))
        except OSError:
            return False
        return stat.S_ISREG(seen.st_mode) and seen.st_size == size

    def blob(self, descriptor: Descriptor) -> FileIO:
        """A blob's bytes as a file, of the right size; read it through `digest.Verifier`."""
        _, _, size = digests.check_descriptor(descriptor)
        path = self.blob_path(descriptor)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block us
        except FileNotFoundError:
            raise Error("missing blob", descriptor["digest"], f"not in image layout '{self.path}'") from None
        except OSError as error:
            raise Error("cannot open blob", path, error) from None
        file = open(fd, "rb", buffering=0)  # noqa: SIM115
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size != size:
            file.close()
            raise Error("wrong size of blob", path, f"{seen.st_size} bytes, not {size}")
        return file

    def read(self, descriptor: Descriptor, limit: int = MAX_DOCUMENT) -> bytes:
        """A document's bytes, verified."""
        _, _, size = digests.check_descriptor(descriptor)
        if size > limit:
            raise Error("cannot read blob", descriptor["digest"], f"{size} bytes are more than {limit}")
        try:
            file = self.blob(descriptor)
        except Error:
            data = digests.embedded(descriptor)
            if data is None:
                raise
            return data
        with digests.Verifier(file, descriptor) as stream:
            content: bytes = stream.read()
        return content

    def put(self, data: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
        """Store a document; what is there already is not written again."""
        descriptor = {"mediaType": media_type, "digest": digests.of(data, algorithm), "size": len(data)}
        self.hold()
        try:
            with self.blob(descriptor) as file:
                if file.readall() == data:
                    return descriptor
        except Error:
            pass  # absent or damaged: written now
        with self.ingest(descriptor) as ingest:
            ingest.write(data)
            return ingest.commit(media_type)

    def ingest(
        self, descriptor: Descriptor | None = None, algorithm: str = "sha256", resume: bool = False
    ) -> Ingest:
        """Write a blob piece by piece, in a `with` block that ends with `commit`.

        With a descriptor the content must turn out to be that.  With `resume`, what was
        written before a cut is kept for the next attempt, which goes on at `offset`.
        """
        from oci_tools.image.ingest import Ingest

        return Ingest(self, descriptor, algorithm, resume)
