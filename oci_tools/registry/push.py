"""A whole image from a layout into a registry.

    blobs, in parallel -> child manifests by digest -> the top by its tag -> its subject's list

What the registry has is not sent: not a blob that it has, nor one that it can mount from another
of its repositories.
"""

from __future__ import annotations

import threading

from oci_tools import document
from oci_tools.errors import Busy, Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.referrers import fallback_tag, signed, tag_of
from oci_tools.registry.client import Conflict, Missing, Registry
from oci_tools.registry.copy import Options, Remote, Stopped, is_document, parallel
from oci_tools.registry.referrers import referrer
from oci_tools.registry.upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from io import FileIO
    from typing import Any

    from oci_tools import fetch
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref

CONFLICTS = 20  # attempts to change a list that others change too


def push(
    layout: Layout, descriptor: Descriptor, ref: Ref, options: Options, sources: Iterable[str] = (), key: Any = None,
    tags: Sequence[str] = (), clobber: bool = True,
) -> str:  # fmt: skip
    """Bring an image from a layout into its registry; the reference by digest that it has there.

    sources: other repositories of that registry to mount blobs from; key: to sign it with (keys.py);
    tags: it gets these too; clobber: it may take a tag from another image.
    """
    remote = Remote(ref, options, write=True)
    registry, repository = remote.main
    tags = list(dict.fromkeys([*([ref.tag] if ref.tag and not ref.digest else []), *tags]))
    if not clobber:
        _check_free(registry, repository, tags, descriptor["digest"])
    documents, blobs, own = _collect(layout, descriptor, options)
    elsewhere = _Elsewhere(remote, layout, [*sources])
    told = options.progress.tell
    for blob in blobs.values():
        told(blob["digest"], "wait", 0, blob["size"])

    def send(blob: Descriptor) -> Callable[[threading.Event], None]:
        return lambda stop: _Send(remote, layout, blob, elsewhere).run(stop)

    ordered = sorted(blobs.values(), key=lambda blob: -int(blob["size"]))
    parallel(options.jobs, [send(blob) for blob in ordered])
    for child in documents:
        data = layout.read(child)  # again: of very many not all are kept
        media_type = child.get("mediaType") or manifests.kind(document.loads(data), child)
        names = tags if child["digest"] == descriptor["digest"] else own.get(child["digest"], [])
        answer = _put(registry, repository, child["digest"], names, data, media_type)
        if is_document(child) and not answer.header("OCI-Subject"):
            _announce(registry, repository, data, child, media_type)
    if key is not None:
        from oci_tools.registry import signature

        signature.sign(remote, ref, descriptor["digest"], key)
    return f"{ref.name}@{descriptor['digest']}"


def _check_free(registry: Registry, repository: str, tags: Iterable[str], digest: str) -> None:
    """An Error if one of these tags is another image's."""
    for tag in tags:
        found = registry.head_manifest(repository, tag)
        if found and not found["digest"]:  # a registry need not say it
            found = registry.manifest(repository, tag)[1]
        if found and found["digest"] != digest:
            raise Error("cannot push as", f"{registry.host}/{repository}:{tag}", "there is another image")


def _put(
    registry: Registry, repository: str, digest: str, tags: list[str], data: bytes, media_type: str
) -> fetch.Answer:
    """Store a manifest under its tags: several with one request, where the registry says that it did.

    So is one whose digest is no sha256: a registry that is told a tag alone calls it by that.
    """
    if len(tags) == 1 and digest.startswith("sha256:"):
        return registry.put_manifest(repository, tags[0], data, media_type)
    mark = "?" + "&".join(f"tag={tag}" for tag in tags) if tags else ""
    answer = registry.put_manifest(repository, digest + mark, data, media_type)
    done = {tag.strip() for tag in answer.header("OCI-Tag").split(",")}
    for tag in tags:
        if tag not in done:
            registry.put_manifest(repository, tag, data, media_type)
    return answer


def _collect(
    layout: Layout, descriptor: Descriptor, options: Options
) -> tuple[list[Descriptor], dict[str, Descriptor], dict[str, list[str]]]:
    """All manifests under a descriptor, children first, those that refer to one of them, all blobs, tags of some."""
    documents: list[Descriptor] = []
    blobs: dict[str, Descriptor] = {}
    seen: set[str] = set()

    def take(at: Descriptor, depth: int) -> None:
        if at["digest"] in seen:
            return
        seen.add(at["digest"])
        if not depth or len(seen) > manifests.MAX_ENTRIES:
            raise Error(
                "cannot push image", descriptor["digest"], "its indexes are nested too deeply or too many"
            )
        data = layout.read(at)
        if is_document(at) or at is descriptor:
            found = manifests.parse(data, at)
            for child in manifests.children(found):
                if "manifests" in found:
                    if layout.has(child) or not options.sparse:
                        take(child, depth - 1)
                elif options.foreign or not is_foreign(child):
                    blobs.setdefault(child["digest"], child)
        documents.append(at)

    take(descriptor, manifests.MAX_DEPTH)
    todo = _subjects(layout) if options.referrers else []
    own = {entry["digest"]: tags for _, entry in todo if (tags := _own_tags(entry))}
    while referrers := [entry for subject, entry in todo if subject in seen and entry["digest"] not in seen]:
        for entry in referrers:
            take(entry, manifests.MAX_DEPTH)
    return documents, blobs, own


def _own_tags(descriptor: Descriptor) -> list[str]:
    """The tag of what cosign has to say of an image, which is known by it."""
    tag = tag_of(layouts.ref_name(descriptor) or "")
    return [tag] if signed(tag) else []


def _subjects(layout: Layout) -> list[tuple[str, Descriptor]]:
    """What in a layout refers to something: (the digest of its subject, its descriptor)."""
    found = []
    for entry in layout.index()["manifests"]:
        found += [(signed(tag), entry) for tag in _own_tags(entry)]
        try:
            subject = manifests.load(layout, entry).get("subject")
        except Error:
            continue
        if isinstance(subject, dict):
            found.append((str(subject.get("digest")), entry))
    return found


def is_foreign(descriptor: Descriptor) -> bool:
    """Whether a layer is marked as not to be pushed: by its type, whatever its urls."""
    media_type = str(descriptor.get("mediaType"))
    return ".nondistributable." in media_type or ".foreign." in media_type


class _Elsewhere:
    """Where else in the same registry a blob should be, so that it need not be sent: looked for when one is missing."""

    def __init__(self, remote: Remote, layout: Layout, sources: list[str]) -> None:
        """sources: repositories that may have what is missing."""
        self._remote = remote
        self._layout = layout
        self._sources = sources
        self._known: dict[str, str] | None = None
        self._lock = threading.Lock()

    def of(self, blob: Descriptor) -> str:
        """A repository to mount a blob from, or ""."""
        registry, _ = self._remote.main
        for source in self._sources:
            try:
                if len(self._sources) == 1 or registry.has_blob(source, blob, "pull"):
                    return source
            except Error:
                continue
        with self._lock:
            if self._known is None:
                self._known = self._in_store()
        return self._known.get(blob["digest"], "")

    def _in_store(self) -> dict[str, str]:
        """digest -> repository.  In the default store names are full references, so it knows what came from where."""
        known: dict[str, str] = {}
        ref = self._remote.ref
        for entry in self._layout.index()["manifests"]:
            name = layouts.ref_name(entry) or ""
            host, _, rest = name.partition("/")
            repository = rest.partition("@")[0].partition(":")[0]
            if host != ref.host or not repository or repository == ref.repository:
                continue
            for descriptor, found in manifests.walk(self._layout, entry):
                if found is None:
                    known.setdefault(descriptor["digest"], repository)
        return known


def _announce(
    registry: Registry, repository: str, data: bytes, descriptor: Descriptor, media_type: str
) -> None:
    """Tell a registry without the referrers API of a manifest's subject, by the tag that stands for it."""
    found = document.loads(data)
    subject = found.get("subject") if isinstance(found, dict) else None
    if not isinstance(subject, dict) or not digests.valid(subject.get("digest")):
        return
    refers = referrer(found, {"mediaType": media_type, "digest": descriptor["digest"], "size": len(data)})
    assert refers

    def add(entries: list[Descriptor]) -> list[Descriptor]:
        known = any(entry["digest"] == descriptor["digest"] for entry in entries)
        return entries if known else [*entries, refers[1]]

    relist(registry, repository, refers[0], add)


def relist(
    registry: Registry, repository: str, subject: str, change: Callable[[list[Descriptor]], list[Descriptor]]
) -> None:
    """Change the list of referrers that a tag stands for; done again where somebody else was faster, and that shows."""
    tag = fallback_tag(subject)
    for _ in range(CONFLICTS):
        conditions = {"If_None_Match": "*"}
        index = manifests.new_index([])
        try:
            old, at, etag = registry.manifest_etag(repository, tag)
            index = manifests.parse(old, at)
            conditions = {"If_Match": etag} if etag else {}
        except Missing:
            pass
        if "manifests" not in index:
            raise Error("cannot list referrers of", subject, f"tag '{tag}' is no index")
        entries = change(index["manifests"])
        if entries == index["manifests"]:
            return
        data = document.dumps({**index, "manifests": entries})
        try:
            registry.put_manifest(repository, tag, data, layouts.INDEX, **conditions)
            return
        except Conflict:
            continue
    raise Busy("cannot list referrers of", subject, f"others change tag '{tag}' all the time")


class _Send:
    """One blob on its way from a layout into a repository."""

    def __init__(self, remote: Remote, layout: Layout, descriptor: Descriptor, elsewhere: _Elsewhere) -> None:
        self.remote = remote
        self.layout = layout
        self.descriptor = descriptor
        self.elsewhere = elsewhere
        self.progress = remote.options.progress
        algorithm, self._hex = digests.check(descriptor["digest"])
        self._hash = digests.new(algorithm)
        self._hashed = 0
        self._stop: threading.Event | None = None

    def run(self, stop: threading.Event) -> None:
        registry, repository = self.remote.main
        self._stop = stop
        size, digest = self.descriptor["size"], self.descriptor["digest"]
        if registry.has_blob(repository, self.descriptor):
            state = "exists"  # then it may be missing here
        else:
            source, chunk = self.elsewhere.of(self.descriptor), self.remote.options.chunk
            if not source and not self.layout.has(self.descriptor):
                self.layout.blob(self.descriptor).close()  # says what is wrong with it
            state = upload(registry, repository, self.descriptor, self._content, source, chunk, self._block)
        self.progress.tell(digest, "done" if state == "sent" else state, size, size)

    def _content(self) -> FileIO:
        found: FileIO = self.layout.blob(self.descriptor)
        return found

    def _block(self, at: int, data: bytes) -> None:
        """A block before it is sent: a damaged blob is found here, before its last block leaves."""
        if self._stop and self._stop.is_set():
            raise Stopped
        if at == self._hashed:
            self._hash.update(data)
            self._hashed += len(data)
            if self._hashed == self.descriptor["size"] and self._hash.hexdigest() != self._hex:
                path = self.layout.blob_path(self.descriptor)
                raise Error("wrong digest of blob", path, f"content has {self._hash.hexdigest()}")
        if not self.progress.quiet:
            self.progress.tell(self.descriptor["digest"], "send", at + len(data), self.descriptor["size"])
