"""A whole image from a layout into a registry.

    blobs, in parallel -> child manifests by digest -> the top by its tag -> its subject's list

What the registry has is not sent: not a blob that it has, nor one that it can mount from another
of its repositories.
"""

from __future__ import annotations

import threading

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.registry.client import Missing, Registry, fallback_tag
from oci_tools.registry.copy import Options, Remote, Stopped, is_document, parallel
from oci_tools.registry.upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref


def push(
    layout: Layout, descriptor: Descriptor, ref: Ref, options: Options, sources: Iterable[str] = (), key: Any = None
) -> str:
    """Bring an image from a layout into its registry; the reference by digest that it has there.

    sources: other repositories of that registry to mount blobs from; key: to sign it with (keys.py).
    """
    remote = Remote(ref, options, write=True)
    registry, repository = remote.main
    documents, blobs = _collect(layout, descriptor, options)
    known = _mounts(layout, ref, [*sources])
    told = options.progress.tell
    for blob in blobs.values():
        told(blob["digest"], "wait", 0, blob["size"])

    def send(blob: Descriptor) -> Callable[[threading.Event], None]:
        return lambda stop: _Send(remote, layout, blob, known.get(blob["digest"], "")).run(stop)

    ordered = sorted(blobs.values(), key=lambda blob: -int(blob["size"]))
    parallel(options.jobs, [send(blob) for blob in ordered])
    for data, child in documents:
        last = child["digest"] == descriptor["digest"]
        reference = ref.tag if last and ref.tag and not ref.digest else child["digest"]
        media_type = child.get("mediaType") or manifests.kind(document.loads(data), child)
        answer = registry.put_manifest(repository, reference, data, media_type)
        if is_document(child) and not answer.header("OCI-Subject"):
            _announce(registry, repository, data, child, media_type)
    if key is not None:
        from oci_tools.registry import signature

        signature.sign(remote, ref, descriptor["digest"], key)
    return f"{ref.name}@{descriptor['digest']}"


def _collect(
    layout: Layout, descriptor: Descriptor, options: Options
) -> tuple[list[tuple[bytes, Descriptor]], dict[str, Descriptor]]:
    """All manifests under a descriptor, children first, those that refer to one of them, and all blobs."""
    documents: list[tuple[bytes, Descriptor]] = []
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
                    take(child, depth - 1)
                elif options.foreign or not is_foreign(child):
                    blobs.setdefault(child["digest"], child)
        documents.append((data, at))

    take(descriptor, manifests.MAX_DEPTH)
    todo = _subjects(layout) if options.referrers else []
    while referrers := [entry for subject, entry in todo if subject in seen and entry["digest"] not in seen]:
        for entry in referrers:
            take(entry, manifests.MAX_DEPTH)
    return documents, blobs


def _subjects(layout: Layout) -> list[tuple[str, Descriptor]]:
    """What in a layout refers to something: (the digest of its subject, its descriptor)."""
    found = []
    for entry in layout.index()["manifests"]:
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


def _mounts(layout: Layout, ref: Ref, sources: list[str]) -> dict[str, str]:
    """digest -> a repository of the same registry that should have it, so it need not be sent.

    In the default store names are full references, so it knows what came from where.
    """
    known: dict[str, str] = {}
    for entry in layout.index()["manifests"]:
        name = layouts.ref_name(entry) or ""
        host, _, rest = name.partition("/")
        repository = rest.partition("@")[0].partition(":")[0]
        if host != ref.host or not repository or repository == ref.repository:
            continue
        for descriptor, found in manifests.walk(layout, entry):
            if found is None:
                known.setdefault(descriptor["digest"], repository)
    for source in sources:
        for descriptor in layout.index()["manifests"]:
            for inner, found in manifests.walk(layout, descriptor):
                if found is None:
                    known[inner["digest"]] = source
    return known


def _announce(
    registry: Registry, repository: str, data: bytes, descriptor: Descriptor, media_type: str
) -> None:
    """Tell a registry without the referrers API of a manifest's subject, by the tag that stands for it."""
    found = document.loads(data)
    subject = found.get("subject") if isinstance(found, dict) else None
    if not isinstance(subject, dict) or not digests.valid(subject.get("digest")):
        return
    tag = fallback_tag(subject["digest"])
    try:
        old, at = registry.manifest(repository, tag)
        index = manifests.parse(old, at)
        if "manifests" not in index:
            raise Error("cannot list referrers of", subject["digest"], f"tag '{tag}' is no index")
    except Missing:
        index = manifests.new_index([])
    if any(entry["digest"] == descriptor["digest"] for entry in index["manifests"]):
        return
    config = found.get("config") or {}
    entry = {"mediaType": media_type, "digest": descriptor["digest"], "size": len(data)}
    kind = found.get("artifactType") or config.get("mediaType")
    entry |= {"artifactType": kind} if kind else {}
    entry |= {"annotations": found["annotations"]} if found.get("annotations") else {}
    index["manifests"].append(entry)
    registry.put_manifest(repository, tag, document.dumps(index), layouts.INDEX)


class _Send:
    """One blob on its way from a layout into a repository."""

    def __init__(self, remote: Remote, layout: Layout, descriptor: Descriptor, source: str) -> None:
        self.remote = remote
        self.layout = layout
        self.descriptor = descriptor
        self.source = source
        self.progress = remote.options.progress
        algorithm, self._hex = digests.check(descriptor["digest"])
        self._hash = digests.new(algorithm)
        self._hashed = 0
        self._stop: threading.Event | None = None

    def run(self, stop: threading.Event) -> None:
        registry, repository = self.remote.main
        self._stop = stop
        size, digest = self.descriptor["size"], self.descriptor["digest"]
        with self.layout.blob(self.descriptor) as file:
            if registry.has_blob(repository, self.descriptor):
                state = "exists"
            else:
                chunk = self.remote.options.chunk
                state = upload(registry, repository, self.descriptor, file, self.source, chunk, self._block)
        self.progress.tell(digest, "done" if state == "sent" else state, size, size)

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
