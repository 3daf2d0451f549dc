"""A whole image from a registry into a layout, or into an archive on a stream.

    manifest -> which platforms -> their blobs, in parallel -> manifests -> index.json

Manifests are kept byte for byte; only a choice of several platforms makes a new index, whose
digest is its own.  A blob that is cut is gone on with from where it ended, in a later run too.
"""

from __future__ import annotations

import os
import threading

from oci_tools import document, fetch, fs
from oci_tools.errors import Busy, Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.registry.copy import Options, Remote, Stopped, fetch_document, is_document, parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place, Ref

CHUNK = 1 << 20  # bytes read at once
WORTH = 1 << 20  # bytes of progress after which attempts are counted anew
ATTESTED = "vnd.docker.reference.digest"  # an attestation's annotation: of which image


def pull(
    ref: Ref,
    layout: Layout,
    name: str | None,
    options: Options,
    platforms: Sequence[str] = (),
    every: bool = False,
) -> Descriptor:
    """Bring an image into a layout under a name (None: without); the descriptor it has there.

    Of an index, the image for this host is taken (the index itself is not kept), or the one
    for the platform given; for several platforms an index of those, for `every` all of it.
    """
    present = None if platforms or every or options.referrers else _present(ref, layout, name)
    if present:
        layout.tag(name, present)
        return present
    chosen = choose(ref, options, platforms, every)
    fetch_into(layout, name, chosen)
    return chosen.descriptor


def pull_to(
    ref: Ref, place: Place, options: Options, platforms: Sequence[str] = (), every: bool = False
) -> tuple[Layout, Descriptor]:
    """The same into a layout that may not exist yet: a failure leaves it so, unless a later run can go on."""
    name = place.name_for(ref)
    if os.path.exists(f"{place.path}/oci-layout"):
        layout = layouts.at(place, make=True)
        return layout, pull(ref, layout, name, options, platforms, every)
    chosen = choose(ref, options, platforms, every)
    there = os.path.isdir(place.path)
    layout = layouts.at(place, make=True)
    try:
        fetch_into(layout, name, chosen)
    except Error as error:
        _unmake(layout, there, isinstance(error, Busy))
        raise
    return layout, chosen.descriptor


def _unmake(layout: Layout, there: bool, resumable: bool) -> None:
    """Take a layout away that was made for nothing; not one that has something, or another writer."""
    layout.close()
    try:
        with fs.Lock(f"{layout.path}/blobs", timeout=0):
            begun = [*os.listdir(f"{layout.path}/blobs/sha256"), *_listed(f"{layout.path}/.ingest")]
            if layout.index()["manifests"] or (resumable and begun):
                return
            for part in ("oci-layout", "index.json", ".ingest", "blobs"):  # from here on it is no layout
                fs.remove_tree(f"{layout.path}/{part}")
            if not there:
                os.rmdir(layout.path)
    except (Error, OSError):
        pass  # it is valid, and empty: what failed before is to be said


def _listed(path: str) -> list[str]:
    return os.listdir(path) if os.path.isdir(path) else []


def fetch_into(layout: Layout, name: str | None, chosen: Chosen) -> None:
    """Bring what was chosen into a layout: blobs, then manifests, then the name."""
    layout.hold()
    options = chosen.remote.options
    blobs = list(chosen.blobs.values())
    for descriptor in blobs:
        options.progress.tell(descriptor["digest"], "wait", 0, descriptor["size"])
    blobs.sort(key=lambda descriptor: -int(descriptor["size"]))
    parallel(options.jobs, [_Fetch(chosen.remote, layout, descriptor).run for descriptor in blobs])
    for data, descriptor in chosen.documents:
        layout.put(data, descriptor["mediaType"], descriptor["digest"].partition(":")[0])
    layout.tag(name, chosen.descriptor)
    for descriptor in chosen.referrers:
        layout.tag(None, descriptor)


def _present(ref: Ref, layout: Layout, name: str | None) -> Descriptor | None:
    """An image asked for by its digest that is here, whole: what a digest names does not change."""
    if not ref.digest:
        return None
    for descriptor in layout.index()["manifests"]:
        named = name is not None and layouts.ref_name(descriptor) == name == str(ref)
        if named or descriptor.get("digest") == ref.digest:
            try:
                found = manifests.load(layout, descriptor)
            except Error:
                continue
            if "layers" in found and all(layout.has(child) for child in manifests.children(found)):
                return dict(descriptor)
    return None


class Chosen:
    """What is to be pulled.

    descriptor  the top, as it will be in index.json
    documents   (bytes, descriptor) of manifests and indexes, children first
    blobs       digest -> descriptor of everything else
    referrers   descriptors of what refers to one of the documents: signatures, lists of parts
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.descriptor: Descriptor = {}
        self.documents: list[tuple[bytes, Descriptor]] = []
        self.blobs: dict[str, Descriptor] = {}
        self.referrers: list[Descriptor] = []
        self._seen: set[str] = set()

    def take(self, data: bytes, descriptor: Descriptor, depth: int = manifests.MAX_DEPTH) -> None:
        """A manifest with its blobs, or an index with everything in it."""
        if descriptor["digest"] in self._seen:
            return
        self._seen.add(descriptor["digest"])
        if len(self._seen) > manifests.MAX_ENTRIES or not depth:
            raise Error("cannot use image", self.remote.ref, "its indexes are nested too deeply or too many")
        found = manifests.parse(data, descriptor)
        for child in manifests.children(found):
            if "manifests" not in found:
                self.blobs.setdefault(child["digest"], child)
            elif is_document(child):
                self.take(*self._child(child), depth - 1)
            elif child["digest"] not in self._seen:  # of a type we do not know: carried as it is
                self._seen.add(child["digest"])
                self.documents.append((self._raw(child), child))
        self.documents.append((data, descriptor))

    def take_referrers(self) -> None:
        """What refers to the documents here, and to that in turn; `documents` grows meanwhile."""
        registry, repository = self.remote.main
        for _, descriptor in self.documents:
            for entry in registry.referrers(repository, descriptor["digest"]):
                if entry["digest"] not in self._seen and is_document(entry):
                    self.referrers.append(entry)
                    self.take(*self._child(entry))

    def _child(self, child: Descriptor) -> tuple[bytes, Descriptor]:
        return fetch_document(self.remote, child), child

    def _raw(self, child: Descriptor) -> bytes:
        registry, repository = self.remote.main
        path = f"/v2/{repository}/manifests/{child['digest']}"
        with registry.request(
            "GET", path, repository, headers={"Accept": f"{child.get('mediaType', '')}, */*"}
        ) as answer:
            if answer.status != 200:
                raise registry.fail(answer, "cannot fetch", child["digest"])
            return digests.Verifier(answer, child).read()


def choose(ref: Ref, options: Options, platforms: Sequence[str] = (), every: bool = False) -> Chosen:
    """Look at an image in its registry and decide what of it is wanted."""
    chosen = _choose(ref, options, platforms, every)
    if options.referrers:
        chosen.take_referrers()
    return chosen


def _choose(ref: Ref, options: Options, platforms: Sequence[str], every: bool) -> Chosen:
    wanted = [manifests.parse_platform(text) for text in platforms] or [manifests.host_platform()]
    remote = Remote(ref, options)
    data, descriptor = remote.manifest(ref.digest or ref.tag)
    chosen = Chosen(remote)
    found = manifests.parse(data, descriptor)
    if "manifests" not in found or every:
        chosen.take(data, descriptor)
        chosen.descriptor = descriptor
        return chosen
    entries = _entries(remote, found, manifests.MAX_DEPTH, set())
    best: dict[str, Descriptor] = {}
    for platform in wanted:
        entry = manifests.pick(entries, platform)
        if entry is None:
            offer = {manifests.platform_name(e.get("platform") or {}): 0 for e in entries}
            names = ", ".join(name for name in offer if name)[:200] or "none"
            raise Error("no image for", manifests.platform_name(platform), f"'{ref}' has {names}")
        best.setdefault(entry["digest"], entry)
    for entry in best.values():
        chosen.take(fetch_document(remote, entry), entry)
    if len(wanted) == 1:
        entry = next(iter(best.values()))
        kept = ("mediaType", "digest", "size", "platform", "artifactType")
        chosen.descriptor = {key: entry[key] for key in kept if key in entry}
    else:
        _strip(chosen, found, entries, best)
    return chosen


def tags(ref: Ref, options: Options) -> list[Ref]:
    """Every tag of a reference's repository, as its registry lists them."""
    registry, repository = Remote(ref, options).main
    return [type(ref)(ref.host, ref.repository, tag) for tag in registry.tags(repository)]


def _entries(remote: Remote, index: dict[str, Any], depth: int, seen: set[str]) -> list[Descriptor]:
    """The image manifests of an index and of the indexes in it, in order."""
    if not depth:
        raise Error("cannot use image", remote.ref, "its indexes are nested too deeply")
    found: list[Descriptor] = []
    for entry in index["manifests"]:
        if entry["digest"] in seen:
            continue
        seen.add(entry["digest"])
        if len(seen) > manifests.MAX_ENTRIES:
            raise Error("cannot use image", remote.ref, f"it has more than {manifests.MAX_ENTRIES} manifests")
        if manifests.is_index(entry.get("mediaType")):
            inner = manifests.parse(fetch_document(remote, entry), entry)
            found += _entries(remote, inner, depth - 1, seen)
        else:
            found.append(entry)
    return found


def _strip(
    chosen: Chosen, index: dict[str, Any], entries: list[Descriptor], best: dict[str, Descriptor]
) -> None:
    """An index of the chosen images only, with the attestations that speak of them."""
    kept = []
    for entry in entries:
        of = (entry.get("annotations") or {}).get(ATTESTED)
        if entry["digest"] in best or (of in best and is_document(entry)):
            kept.append(entry)
            if entry["digest"] not in best:
                chosen.take(fetch_document(chosen.remote, entry), entry)
    data = document.dumps({**index, "manifests": kept})
    media_type = index.get("mediaType") or layouts.INDEX
    chosen.descriptor = {"mediaType": media_type, "digest": digests.of(data), "size": len(data)}
    chosen.documents.append((data, chosen.descriptor))


class _Fetch:
    """One blob on its way from a repository into a layout."""

    def __init__(self, remote: Remote, layout: Layout, descriptor: Descriptor) -> None:
        self.remote = remote
        self.layout = layout
        self.descriptor = descriptor
        self.progress = remote.options.progress

    def run(self, stop: threading.Event) -> None:
        size = self.descriptor["size"]
        if self.layout.has(self.descriptor):
            return self._tell("exists", size)
        with self.layout.ingest(self.descriptor, resume=True) as ingest:
            found = ingest.offset
            self._receive(ingest, stop)
            try:
                ingest.commit()
            except Error:
                if not found:
                    raise
                ingest.restart()  # what an earlier run left was not the beginning of this
                self._receive(ingest, stop)
                ingest.commit()
        return self._tell("done", size)

    def _tell(self, state: str, current: int) -> None:
        self.progress.tell(self.descriptor["digest"], state, current, self.descriptor["size"])

    def _receive(self, ingest: Any, stop: threading.Event) -> None:
        """All that is missing; a cut is followed by another request from there on."""
        client = self.remote.options.client
        attempt, mark = 0, ingest.offset
        while ingest.offset < self.descriptor["size"]:
            try:
                self._read(ingest, stop)
            except fetch.Lost:
                if ingest.offset - mark >= WORTH:
                    attempt, mark = 0, ingest.offset
                if attempt >= client.retries:
                    raise
                client.pause(attempt)
                attempt += 1

    def _read(self, ingest: Any, stop: threading.Event) -> None:
        answer, at = self.remote.blob(self.descriptor, ingest.offset)
        with answer:
            if at != ingest.offset:
                ingest.restart()
            try:
                while data := answer.read(CHUNK):
                    if stop.is_set():
                        raise Stopped
                    ingest.write(data)
                    if not self.progress.quiet:
                        self._tell("get", ingest.offset)
            except Error as error:
                if isinstance(error.cause, OSError) and error.cause.errno == 28:  # ENOSPC
                    ingest.restart()  # what cannot be finished must not fill the disk
                raise
        if ingest.offset < self.descriptor["size"]:
            raise fetch.Lost("cannot fetch blob", self.descriptor["digest"], "it ends too early")


# -- into an archive -----------------------------------------------------------------------


def stream(
    ref: Ref, name: str, out: Any, options: Options, platforms: Sequence[str] = (), every: bool = False
) -> None:
    """Write an image as an archive (image/archive.py), straight from its registry: nothing is kept on disk."""
    from oci_tools.image import archive

    chosen = choose(ref, options, platforms, every)
    images = [(name, chosen.descriptor), *((None, descriptor) for descriptor in chosen.referrers)]
    archive.write(_Passing(chosen), images, out)  # type: ignore[arg-type]


class _Passing:
    """What is to be pulled, as the layout that an archive is written from."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._documents = {descriptor["digest"]: data for data, descriptor in chosen.documents}

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor["digest"] in self._documents or descriptor["digest"] in self._chosen.blobs

    def read(self, descriptor: Descriptor, limit: int = 0) -> bytes:
        try:
            return self._documents[descriptor["digest"]]
        except KeyError:
            raise Error("missing blob", descriptor["digest"]) from None

    def blob(self, descriptor: Descriptor) -> Any:
        from io import BytesIO

        if descriptor["digest"] in self._documents:
            return BytesIO(self._documents[descriptor["digest"]])
        return _Passage(self._chosen.remote, descriptor)


class _Passage:
    """A blob as a stream; a cut is followed by another request from there on."""

    def __init__(self, remote: Remote, descriptor: Descriptor) -> None:
        self._remote = remote
        self._descriptor = descriptor
        self._answer: fetch.Answer | None = None
        self._offset = 0
        self._attempt = 0

    def read(self, size: int) -> bytes:
        client = self._remote.options.client
        while True:
            try:
                return self._read(size)
            except fetch.Lost:
                self.close()
                if self._attempt >= client.retries:
                    raise
                client.pause(self._attempt)
                self._attempt += 1

    def _read(self, size: int) -> bytes:
        if self._offset == self._descriptor["size"]:
            return b""
        if self._answer is None:
            self._answer, at = self._remote.blob(self._descriptor, self._offset)
            while at < self._offset:  # the registry knows no ranges: what was passed on is skipped
                at += len(self._answer.read(min(CHUNK, self._offset - at)) or self._short())
        data = self._answer.read(size) or self._short()
        self._offset += len(data)
        self._remote.options.progress.tell(
            self._descriptor["digest"], "get", self._offset, self._descriptor["size"]
        )
        return data

    def _short(self) -> bytes:
        raise fetch.Lost("cannot fetch blob", self._descriptor["digest"], "it ends too early")

    def close(self) -> None:
        if self._answer:
            self._answer.close()
        self._answer = None
