"""Whole images between registries and layouts: what is moved, in which order.

    pull   manifest -> which platforms -> their blobs, in parallel -> manifests -> index.json
    push   blobs, in parallel -> child manifests by digest -> the top by its tag

What refers comes after what it refers to, so a layout or registry holds no manifest whose
parts are missing, wherever a copy is cut.  Manifests are kept byte for byte; only a choice
of several platforms makes a new index, whose digest is its own.
"""

from __future__ import annotations

import threading

from oci_tools import document, fetch
from oci_tools.errors import Busy, Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.registry import hosts
from oci_tools.registry.client import Missing, Registry, fallback_tag
from oci_tools.registry.credentials import Credentials
from oci_tools.registry.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref

JOBS = 6
CHUNK = 1 << 20  # bytes read at once
WORTH = 1 << 20  # bytes of progress after which attempts are counted anew
ATTESTED = "vnd.docker.reference.digest"  # an attestation's annotation: of which image


class Options:
    """What a person may choose about a copy."""

    def __init__(
        self,
        *,
        verify: bool = True,
        cert_dir: str | None = None,
        credentials: Credentials | None = None,
        jobs: int = JOBS,
        retries: int = fetch.RETRIES,
        delay: float = 0.5,
        chunk: int = 0,
        foreign: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """verify: certificates are checked, and http is for loopback only; chunk: bytes in one
        request of an upload, 0 for all; foreign: push layers marked as not to be pushed."""
        self.credentials = credentials or Credentials()
        self.jobs = max(1, jobs)
        self.chunk = chunk
        self.foreign = foreign
        self.progress = progress or Progress("copy")
        self.client = fetch.Client(
            verify=verify,
            certs=lambda host: hosts.cert_directories(host, cert_dir),
            retries=retries,
            delay=delay,
            connections=self.jobs + 1,
        )

    def __enter__(self) -> Options:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()


class Remote:
    """A repository, wherever it may be read from: mirrors in order, then its registry."""

    def __init__(self, ref: Ref, options: Options, write: bool = False) -> None:
        self.ref = ref
        self.options = options
        self.places = [
            (Registry(options.client, options.credentials, s.host, s.api_host, s.insecure), s.repository)
            for s in hosts.sources(ref, write)
        ]

    @property
    def main(self) -> tuple[Registry, str]:
        return self.places[-1]

    def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """A manifest from the first place that has it."""
        for at, (registry, repository) in enumerate(self.places):
            try:
                found = registry.manifest(repository, reference)
            except Error:
                if at == len(self.places) - 1:
                    raise
            else:
                self.places.insert(0, self.places.pop(at)) if at and len(self.places) > 2 else None
                return found
        raise AssertionError

    def blob(self, descriptor: Descriptor, offset: int) -> tuple[fetch.Answer, int]:
        """A blob as a stream, from `offset` on or from its beginning, as is said with it."""
        for at, (registry, repository) in enumerate(self.places):
            try:
                return registry.blob(repository, descriptor, offset)
            except Error as error:
                if at == len(self.places) - 1:
                    if isinstance(error, Missing) and descriptor.get("urls"):
                        return self._elsewhere(descriptor, error), 0
                    raise
        raise AssertionError

    def _elsewhere(self, descriptor: Descriptor, missing: Error) -> fetch.Answer:
        """A layer that its registry does not keep but says where it lies; nobody there is told who we are."""
        for url in descriptor["urls"]:
            if isinstance(url, str) and url.startswith(("https://", "http://")):
                answer = self.options.client.request("GET", url)
                if answer.status == 200:
                    return answer
                answer.close()
        raise missing


# -- pull ----------------------------------------------------------------------------------


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
    present = None if platforms or every else _present(ref, layout, name)
    if present:
        layout.tag(name, present)
        return present
    top = choose(ref, options, platforms, every)
    layout.hold()
    blobs = list(top.blobs.values())
    for descriptor in blobs:
        options.progress.tell(descriptor["digest"], "wait", 0, descriptor["size"])
    blobs.sort(key=lambda descriptor: -int(descriptor["size"]))
    parallel(options.jobs, [_Fetch(top.remote, layout, descriptor).run for descriptor in blobs])
    for data, descriptor in top.documents:
        layout.put(data, descriptor["mediaType"], descriptor["digest"].partition(":")[0])
    layout.tag(name, top.descriptor)
    return top.descriptor


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
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.descriptor: Descriptor = {}
        self.documents: list[tuple[bytes, Descriptor]] = []
        self.blobs: dict[str, Descriptor] = {}
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
            elif _is_document(child):
                self.take(*self._child(child), depth - 1)
            elif child["digest"] not in self._seen:  # of a type we do not know: carried as it is
                self._seen.add(child["digest"])
                self.documents.append((self._raw(child), child))
        self.documents.append((data, descriptor))

    def _child(self, child: Descriptor) -> tuple[bytes, Descriptor]:
        return fetch_document(self.remote, child), child

    def _raw(self, child: Descriptor) -> bytes:
        registry, repository = self.remote.main
        path = f"/v2/{repository}/manifests/{child['digest']}"
        with registry.request("GET", path, repository, headers={"Accept": f"{child.get('mediaType', '')}, */*"}) as answer:
            if answer.status != 200:
                raise registry.fail(answer, "cannot fetch", child["digest"])
            return digests.Verifier(answer, child).read()


def _is_document(descriptor: Descriptor) -> bool:
    media_type = descriptor.get("mediaType")
    return manifests.is_index(media_type) or manifests.is_manifest(media_type)


def fetch_document(remote: Remote, descriptor: Descriptor) -> bytes:
    """A manifest that another one refers to: by its digest, of the size and type that are promised."""
    data, found = remote.manifest(descriptor["digest"])
    for key in ("size", "mediaType"):
        if descriptor.get(key) != found[key]:
            raise Error(f"wrong {key} of manifest", descriptor["digest"], f"{found[key]}, not {descriptor.get(key)}")
    return data


def choose(ref: Ref, options: Options, platforms: Sequence[str] = (), every: bool = False) -> Chosen:
    """Look at an image in its registry and decide what of it is wanted."""
    remote = Remote(ref, options)
    data, descriptor = remote.manifest(ref.digest or ref.tag)
    chosen = Chosen(remote)
    found = manifests.parse(data, descriptor)
    if "manifests" not in found or every:
        chosen.take(data, descriptor)
        chosen.descriptor = descriptor
        return chosen
    wanted = [manifests.parse_platform(text) for text in platforms] or [manifests.host_platform()]
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


def _strip(chosen: Chosen, index: dict[str, Any], entries: list[Descriptor], best: dict[str, Descriptor]) -> None:
    """An index of the chosen images only, with the attestations that speak of them."""
    kept = []
    for entry in entries:
        of = (entry.get("annotations") or {}).get(ATTESTED)
        if entry["digest"] in best or (of in best and _is_document(entry)):
            kept.append(entry)
            if entry["digest"] not in best:
                chosen.take(fetch_document(chosen.remote, entry), entry)
    data = document.dumps({**index, "manifests": kept})
    media_type = index.get("mediaType") or manifests.OCI_INDEX
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


# -- push ----------------------------------------------------------------------------------


def push(
    layout: Layout, descriptor: Descriptor, ref: Ref, options: Options, sources: Iterable[str] = ()
) -> str:
    """Bring an image from a layout into its registry; the reference by digest that it has there.

    sources: other repositories of that registry to mount blobs from.
    """
    remote = Remote(ref, options, write=True)
    registry, repository = remote.main
    documents, blobs = _collect(layout, descriptor, options.foreign)
    known = _mounts(layout, ref, [*sources])
    told = options.progress.tell
    if descriptor["digest"].startswith("sha256:") and registry.head_manifest(repository, descriptor["digest"]):
        blobs = {}  # a registry that has a manifest has what it refers to
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
        if not answer.header("OCI-Subject"):
            _announce(registry, repository, data, child, media_type)
    return f"{ref.name}@{descriptor['digest']}"


def _collect(
    layout: Layout, descriptor: Descriptor, foreign: bool
) -> tuple[list[tuple[bytes, Descriptor]], dict[str, Descriptor]]:
    """All manifests under a descriptor, children first, and all blobs."""
    documents: list[tuple[bytes, Descriptor]] = []
    blobs: dict[str, Descriptor] = {}
    seen: set[str] = set()

    def take(at: Descriptor, depth: int) -> None:
        if at["digest"] in seen:
            return
        seen.add(at["digest"])
        if not depth or len(seen) > manifests.MAX_ENTRIES:
            raise Error("cannot push image", descriptor["digest"], "its indexes are nested too deeply or too many")
        data = layout.read(at)
        if _is_document(at) or at is descriptor:
            found = manifests.parse(data, at)
            for child in manifests.children(found):
                if "manifests" in found:
                    take(child, depth - 1)
                elif foreign or not is_foreign(child):
                    blobs.setdefault(child["digest"], child)
        documents.append((data, at))

    take(descriptor, manifests.MAX_DEPTH)
    return documents, blobs


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


def _announce(registry: Registry, repository: str, data: bytes, descriptor: Descriptor, media_type: str) -> None:
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
    registry.put_manifest(repository, tag, document.dumps(index), manifests.OCI_INDEX)


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
                state = registry.upload(repository, self.descriptor, file, self.source, chunk, self._block)
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


# -- in parallel ----------------------------------------------------------------------------


class Stopped(Exception):
    """Another part of the same copy has failed."""


def parallel(jobs: int, tasks: Sequence[Callable[[threading.Event], None]]) -> None:
    """Run tasks in threads, in their order; the first failure stops all and is raised.

    A task may look at the event it is given and raise Stopped: somebody else has failed.
    """
    stop = threading.Event()
    waiting = list(reversed(tasks))
    failures: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                task = waiting.pop()
            except IndexError:
                return
            try:
                task(stop)
            except BaseException as error:
                failures.append(error)
                stop.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(tasks)) - 1)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        stop_early = bool(failures)
        if stop_early:
            stop.set()
        for thread in threads:
            thread.join()
    real = [error for error in failures if not isinstance(error, Stopped)]
    if real:
        raise next((error for error in real if not isinstance(error, Busy)), real[0])
