"""What a registry keeps: plain image layouts, which every other tool reads directly.

    DIR/                   a directory of repositories
      library/alpine/      repository library/alpine: an image layout; names in it are its tags
      library/_blobs/      repository library/blobs: a component that a layout uses gets a "_"
    or DIR is one layout:  repository NAME-OF-DIR with its plain tags; and where names are full
                           references (the default store), repository docker.io/library/alpine

The truth is on disk: other commands may change it while we serve, so index.json is read
again whenever it is another file.  A blob that another repository has is shared with it by a
hard link.  Not here: HTTP (server.py), uploads in flight (uploads.py).
"""

from __future__ import annotations

import os
import stat
import threading
import time

from oci_tools import document, fs
from oci_tools.errors import Busy, Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs
from oci_tools.image.referrers import fallback_tag
from oci_tools.registry.index import Index, Inner
from oci_tools.registry.referrers import referrer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci_tools.image.layout import Descriptor

RESERVED = ("blobs", "index.json", "oci-layout")  # what a layout calls its own
LATELY = 5.0  # seconds
MAX_MANIFEST = layouts.MAX_DOCUMENT  # bytes; the specification demands 4 MiB


class Storage:
    """All repositories of a directory, or the one layout that it is."""

    def __init__(self, path: str, most: int = 0) -> None:
        """most: repositories that may be made, those that are there among them; 0: any number."""
        self.path = os.path.abspath(path)
        self.most = most
        self.single = os.path.exists(f"{self.path}/oci-layout")
        self._known: dict[str, Repository] = {}
        self._index: Index | None = None  # of the one layout
        self._recent: tuple[float, list[str]] = (0.0, [])  # when names were looked for last, and found
        self._lock = threading.Lock()
        if self.single:
            layouts.Layout.open(self.path)
        else:
            try:
                os.makedirs(self.path, exist_ok=True)
            except OSError as error:
                raise Error("cannot make directory", path, error) from None

    def remove(self, name: str) -> None:
        """Remove a repository; those whose names are longer, below it, stay."""
        found = self.repository(name)
        if found is None or self.single:
            raise Error("no such repository", name)
        path = found.layout.path
        for part in ("oci-layout", "index.json", ".ingest", "blobs"):  # from here on it is no layout
            fs.remove_tree(f"{path}/{part}")
        while path != self.path and not os.listdir(path):
            os.rmdir(path)
            path = os.path.dirname(path)

    def repository(self, name: str, make: bool = False) -> Repository | None:
        """A repository by its name, made if it is missing and `make` is true; None: there is none, or may not be."""
        if not refs.is_repository(name):
            return None
        with self._lock:
            found = self._known.get(name)
            if found is None or not found.exists():
                found = self._one_of_layout(name) if self.single else self._in_directory(name, make)
                if found is None:
                    self._known.pop(name, None)
                else:
                    self._known[name] = found
            return found

    def _in_directory(self, name: str, make: bool) -> Repository | None:
        path = "/".join([self.path, *(f"_{part}" if part in RESERVED else part for part in name.split("/"))])
        if not os.path.exists(f"{path}/oci-layout"):
            if not make or (self.most and len(self.names()) >= self.most):
                return None
            _make(path)
            self._recent = (0.0, [])
        return Repository(name, layouts.Layout.open(path))

    def _one_of_layout(self, name: str) -> Repository | None:
        layout = layouts.Layout.open(self.path)
        index = self._index = self._index or Index(layout)
        if name == self._own_name():
            return Repository(name, layout, index=index)
        found = Repository(name, layout, f"{name}:", index)
        return found if found.tags() else None

    def _own_name(self) -> str:
        name = os.path.basename(self.path).lower()
        return name if refs.is_repository(name) else "image"

    def names(self) -> list[str]:
        """Every repository, sorted."""
        if not self.single:
            return sorted(self._walk(self.path, ""))
        found = {self._own_name()}
        for descriptor in layouts.Layout.open(self.path).index()["manifests"]:
            name, colon, tag = (layouts.ref_name(descriptor) or "").rpartition(":")
            if colon and refs.is_repository(name) and refs.is_tag(tag):
                found.add(name)
        return sorted(found)

    def _walk(self, path: str, name: str) -> Iterator[str]:
        if name and os.path.exists(f"{path}/oci-layout"):
            yield name
        try:
            entries = [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        for entry in entries:
            if entry in RESERVED or entry.startswith("."):
                continue
            part = entry[1:] if entry.startswith("_") and entry[1:] in RESERVED else entry
            inner = f"{name}/{part}" if name else part
            if refs.is_repository(inner):
                yield from self._walk(f"{path}/{entry}", inner)

    def _names_lately(self) -> list[str]:
        """The names of a moment ago: with many repositories they are not looked for at every upload."""
        when, found = self._recent
        if not when or time.monotonic() - when > LATELY:
            found = self.names()
            self._recent = (time.monotonic(), found)
        return found

    def elsewhere(
        self, digest: str, but: Repository, name: str = "", may: Callable[[str], bool] | None = None
    ) -> str | None:
        """The path of a blob in another repository: that one, or any, of those that `may` is true for."""
        for other in [name] if name else self._names_lately():
            if may is not None and not may(other):
                continue
            found = self.repository(other)
            if found and found.layout.path != but.layout.path:
                path = found.layout.blob_path(digest)
                if os.path.exists(path):
                    return path
        return None


class Repository:
    """One repository: a layout, with its index read once for each version of it."""

    def __init__(
        self, name: str, layout: layouts.Layout, prefix: str = "", index: Index | None = None
    ) -> None:
        self.name = name
        self.layout = layout
        self.prefix = prefix  # of names in the layout that are tags of this repository
        self.index = index or Index(layout)
        self._tags: list[str] = []
        self._tags_of = -1  # the version of the index that these are of
        self._subjects: dict[str, tuple[str, Descriptor] | None] = {}  # of manifests, which never change
        self._referrers: dict[str, dict[str, Descriptor]] = {}
        self._inner = Inner(self.index)
        self._lock = threading.Lock()

    def exists(self) -> bool:
        return os.path.exists(f"{self.layout.path}/oci-layout")

    def writer(self) -> layouts.Layout:
        """The layout as a writer of its own: held until it is closed."""
        return layouts.Layout.open(self.layout.path).hold()

    # -- manifests ----------------------------------------------------------------------

    def tags(self) -> list[str]:
        """All tags, sorted as the specification says: without regard to case."""
        self.index.refresh()
        if self._tags_of != self.index.version:
            with self.index.lock:
                version, names = self.index.version, list(self.index.names)
            cut = len(self.prefix)
            found = [n[cut:] for n in names if n.startswith(self.prefix) and refs.is_tag(n[cut:])]
            found.sort(key=lambda tag: (tag.lower(), tag))
            self._tags, self._tags_of = found, version
        return self._tags

    def find(self, reference: str) -> Descriptor | None:
        """The descriptor of a tag or of a manifest's digest."""
        self.index.refresh()
        if not digests.valid(reference):
            return self.index.named(self.prefix + reference)
        found = self.index.of_digest(reference)
        if found is None and os.path.exists(self.layout.blob_path(reference)):
            return self._inner.of_digest(reference)
        return found

    def there(self, reference: str) -> Descriptor | None:
        """The same of a manifest that is not only in the index: its file may be lost, or short."""
        found = self.find(reference)
        return found if found and self.layout.has(found) else None

    def manifest(self, reference: str) -> tuple[bytes, Descriptor] | None:
        """The bytes of a manifest, verified, and its descriptor with its media type."""
        descriptor = self.there(reference)
        if descriptor is None:
            return None
        data = self.layout.read(descriptor, MAX_MANIFEST)
        if not descriptor.get("mediaType"):
            found = document.loads(data, descriptor["digest"])
            descriptor = {**descriptor, "mediaType": manifests.kind(found, {})}
        return data, descriptor

    def put(
        self,
        data: bytes,
        media_type: str,
        digest: str,
        tags: list[str],
        check: Callable[[], None] | None = None,
        marks: dict[str, str] | None = None,
    ) -> None:
        """Store a manifest under its digest and these tags; its blobs are held meanwhile.

        check: called when gc is kept away, and nobody else can change a tag; marks: annotations
        of its entries in the index.
        """
        with self.writer() as layout:
            descriptor = layout.put(data, media_type, digest.partition(":")[0])
            descriptor |= {"annotations": marks} if marks else {}
            self.used(digest, True)

            def edit() -> None:
                if check:
                    check()
                for tag in tags:
                    self.index.tag(self.prefix + tag, descriptor)
                if not tags:
                    self.index.tag(None, descriptor)

            self.index.change(edit, layout.fresh)

    def untag(self, tag: str) -> None:
        self.index.change(lambda: self.index.untag(self.prefix + tag))

    def remove(self, digest: str) -> None:
        """Take a manifest away with all its tags.

        Its blob goes at once, unless somebody has pushed it again meanwhile, or writes: then gc takes it.
        """
        self.index.change(lambda: self.index.remove(digest))
        try:
            with fs.Lock(f"{self.layout.path}/blobs/", timeout=0):
                self.index.refresh()
                if self.index.of_digest(digest) is None:
                    self.remove_blob(digest)
        except Busy:
            pass

    def used(self, digest: str, now: bool = False) -> None:
        """Remember that somebody wants this manifest: its file's time says when last, to a minute."""
        path = self.layout.blob_path(digest)
        try:
            if now or time.time() - os.stat(path).st_mtime > 60:
                os.utime(path)
        except OSError:
            pass  # read-only, or gone

    # -- referrers ----------------------------------------------------------------------

    def referrers(self, subject: str) -> list[Descriptor]:
        """Descriptors of the manifests here whose subject is this digest."""
        self.index.refresh()
        with self._lock:
            with self.index.lock:
                new = [self.index.entries[n[0]] for d, n in self.index.digests.items() if d not in self._subjects]
            for descriptor in new:
                digest = descriptor["digest"]
                entry = self._subjects[digest] = self._subject(descriptor)
                if entry:
                    self._referrers.setdefault(entry[0], {})[digest] = entry[1]
            known = dict(self._referrers.get(subject, {}))
        found = {digest: entry for digest, entry in known.items() if self.index.of_digest(digest)}
        for other in self._fallback(subject):  # pushed by clients who took us for an older registry
            found.setdefault(other["digest"], other)
        return list(found.values())

    def subject(self, digest: str) -> str | None:
        """The digest that a manifest refers to."""
        if digest not in self._subjects:
            descriptor = self.index.of_digest(digest)
            found = self._subject(descriptor) if descriptor else None
            return found[0] if found else None
        entry = self._subjects[digest]
        return entry[0] if entry else None

    def _subject(self, descriptor: Descriptor) -> tuple[str, Descriptor] | None:
        try:
            data = self.layout.read(descriptor, MAX_MANIFEST)
            found = document.loads(data)
        except Error:
            return None
        return referrer(found, {**descriptor, "size": len(data)}) if isinstance(found, dict) else None

    def _fallback(self, subject: str) -> list[Descriptor]:
        try:
            found = self.manifest(fallback_tag(subject))
            index = manifests.parse(*found) if found else {}
        except Error:
            return []
        return [d for d in index.get("manifests", ()) if self.index.of_digest(d["digest"])]

    # -- blobs --------------------------------------------------------------------------

    def open_blob(self, digest: str) -> tuple[int, int] | None:
        """(descriptor of the file, its size); None: there is none."""
        path = self.layout.blob_path(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Error("cannot open blob", path, error) from None
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            os.close(fd)
            return None
        return fd, seen.st_size

    def has_blob(self, digest: str) -> bool:
        """Whether a blob is here; if so its grace begins anew, since somebody counts on it.

        Under the lock that gc takes: one that has judged the blob by its old time has removed
        it before we look, one that comes after us sees the new time.
        """
        if not os.path.exists(self.layout.blob_path(digest)):
            return False
        with fs.Lock(f"{self.layout.path}/blobs", shared=True):
            found = self.open_blob(digest)
            if found is None:
                return False
            try:
                os.utime(found[0])
            except OSError:
                pass  # read-only: nothing collects garbage here either
            os.close(found[0])
        return True

    def link(self, digest: str, path: str) -> bool:
        """Take a blob from another repository by a hard link; False where the file system cannot."""
        target = self.layout.blob_path(digest)
        beside = f"{target}.{os.getpid()}.{threading.get_ident()}.link"
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with fs.Lock(f"{self.layout.path}/blobs", shared=True):
                os.link(path, beside, follow_symlinks=False)
                os.utime(beside)
                os.rename(beside, target)
                if os.path.lexists(beside):  # rename(2) does nothing where both are one file already
                    os.unlink(beside)
        except OSError:
            return False
        return True

    def remove_blob(self, digest: str) -> bool:
        """Delete a blob; False where there was none."""
        path = self.layout.blob_path(digest)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Error("cannot remove", path, error) from None
        return True


def _make(path: str) -> None:
    """An empty layout, also where the layouts of longer names lie already; `oci-layout` comes last."""
    try:
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
    except OSError as error:
        raise Error("cannot make repository", path, error) from None
    with fs.Lock(path):
        if not os.path.exists(f"{path}/index.json"):
            empty = {"schemaVersion": 2, "mediaType": layouts.INDEX, "manifests": []}
            fs.write(f"{path}/index.json", document.dumps(empty))
        if not os.path.exists(f"{path}/oci-layout"):
            fs.write(f"{path}/oci-layout", document.dumps({"imageLayoutVersion": "1.0.0"}))
