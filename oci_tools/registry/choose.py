"""Which parts of an image in a registry are wanted: its manifests for the platforms asked for, and their blobs.

Manifests are kept byte for byte; only a choice of several platforms makes a new index, whose
digest is its own.
"""

from __future__ import annotations

from sys import intern

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import referrers
from oci_tools.image.index import NO_PLATFORM
from oci_tools.image.kept import Digests, Documents
from oci_tools.registry.client import MAX_MANIFEST, MAX_WEIGHT
from oci_tools.registry.copy import Options, Remote, fetch_document, is_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref

    Bring = Callable[["Chosen"], Layout]

MAX_MEMORY = 16 << 20  # bytes for what is kept of an image that cannot be brought piece by piece
BATCH = 2 << 20  # the same of one that can: then it is brought
ENTRY = 600  # bytes that a descriptor takes
LEAST = 2 << 20  # bytes of memory that there are for what a manifest says, however large the index was
ORIGIN = "io.oci-tools.origin"  # on an entry of index.json: the digest of the index that the image is out of
ATTESTED = "vnd.docker.reference.digest"  # an attestation's annotation: of which image


class Chosen:
    """What is to be pulled.

    descriptor  the top, as it will be in index.json
    documents   (bytes, descriptor) of manifests and indexes, children first
    blobs       digest -> descriptor of everything else
    origin      digest of what the reference means, before a choice
    plain       nothing was asked for but what a tag means here
    images      digests of the images chosen out of it
    referrers   descriptors of what refers to one of the documents: signatures, lists of parts; `named`
    lacks       digests of entries of an index that were left out of it
    beside      a layout with blobs that were fetched already

    Blobs are known where they are brought into a layout; elsewhere the documents tell of them, one at a time.
    Of an image with very many parts, documents and blobs are those only that have not been brought yet:
    `bring` puts them into a layout, which it returns, and what is there is forgotten here.
    """

    def __init__(self, remote: Remote, bring: Bring | None = None, blobs: bool = True) -> None:
        self.remote = remote
        self._bring = bring
        self._collects = blobs
        self.descriptor: Descriptor = {}
        self.origin = ""
        self.plain = False
        self.images: list[str] = []
        self.documents = Documents()
        self.lacks: set[str] = set()
        self.beside: Layout | None = None
        self.blobs: dict[str, Descriptor] = {}
        self.configs: set[str] = set()  # those of them that are configurations
        self.referrers: list[Descriptor] = []
        self._seen = Digests()
        self._taken: list[str] = []  # digests of all manifests, brought or not, where it is asked what refers to them
        self._kept = 0  # bytes of memory for documents and blobs

    def marks(self) -> dict[str, str] | None:
        """What its entry in index.json says besides its name."""
        return {ORIGIN: self.origin} if self.plain and self.origin != self.descriptor["digest"] else None

    def take(
        self, data: bytes, descriptor: Descriptor, depth: int = manifests.MAX_DEPTH, memory: int = MAX_WEIGHT
    ) -> None:
        """A manifest with its blobs, or an index with everything in it.

        memory: bytes that there are for it and all those in it that are looked at at the same time.
        """
        if descriptor["digest"] in self._seen:
            return
        self._seen.add(descriptor["digest"])
        if len(self._seen) > manifests.MAX_ENTRIES or not depth:
            raise Error("cannot use image", self.remote.ref, "its indexes are nested too deeply or too many")
        document.check_weight(data, descriptor["digest"], memory)
        found = manifests.parse(data, descriptor)
        index, children = "manifests" in found, [_bare(child) for child in manifests.children(found)]
        if not index and isinstance(found.get("config"), dict) and self.remote.options.only is not None:
            self.configs.add(str(found["config"].get("digest")))
        del found  # there may be many, and much in them
        for child in children:
            if not index:
                if self._collects:
                    self.blobs.setdefault(child["digest"], child)
            elif is_document(child):
                self.take(*self._child(child), depth - 1, memory - document.weight(data))
            elif child["digest"] not in self._seen:  # of a type we do not know: carried as it is
                self._seen.add(child["digest"])
                self.put(self._raw(child), child)
        self._kept += ENTRY * len(children) if self._collects and not index else 0
        self.put(data, descriptor)

    def put(self, data: bytes, descriptor: Descriptor) -> None:
        """A document as it is, without what is in it."""
        self.documents.append((data, descriptor))
        if self.remote.options.referrers:
            self._taken.append(descriptor["digest"])
        self._kept += ENTRY + (len(data) if self._bring else 0)  # elsewhere they are in a file
        if self._bring and self._kept > BATCH:
            self.brought()
        elif self._kept > MAX_MEMORY:
            why = f"what is in its manifests would take more than {MAX_MEMORY >> 20} MB of memory"
            raise Error("cannot use image", self.remote.ref, why, "it can be pulled into a layout, as it is")

    def brought(self) -> Layout | None:
        """The layout that all taken so far is in, and forgotten here; None if nothing can be brought yet."""
        if self._bring is None:
            return None
        layout = self._bring(self)
        self.documents, self.blobs, self._kept = Documents(), {}, 0
        return layout

    def take_referrers(self) -> None:
        """What refers to the manifests here, and to that in turn; they become more meanwhile.

        What cosign keeps under tags of its own has that name (referrers.py).
        """
        registry, repository = self.remote.main
        for digest in self._taken:
            for entry in registry.referrers(repository, digest):
                if entry["digest"] not in self._seen and is_document(entry):
                    self._take_referrer(entry, digest)
            for tag in referrers.cosign_tags(digest):
                if registry.head_manifest(repository, tag):
                    data, entry = registry.manifest(repository, tag)
                    self.referrers.append(referrers.named(entry, tag))
                    self.take(data, entry)

    def _take_referrer(self, entry: Descriptor, digest: str) -> None:
        """What is listed as referring to a digest, if it does: anybody who may push can write such a list."""
        data, _ = self._child(entry)
        document.check_weight(data, entry["digest"], MAX_WEIGHT)
        if referrers.subject(manifests.parse(data, entry)) != digest:
            said = f"'{entry['digest']}' does not refer to '{digest}', as is said"
            return self.remote.main[0].warned(self.remote.ref.host, said)
        self.referrers.append(referrers.named(entry, None))
        return self.take(data, entry)

    def keep_only(self, wanted: frozenset[str]) -> None:
        """Of the blobs only these: digests, or "config"."""
        digests_of = wanted | self.configs if "config" in wanted else wanted
        for digest in sorted(wanted - {"config", *self.blobs}):
            raise Error("no such blob in the image", digest)
        self.blobs = {digest: blob for digest, blob in self.blobs.items() if digest in digests_of}

    def change(self, into: Layout | None) -> None:
        """Make it what was asked for (image/rewrite.py); layers that are compressed anew are put into a layout."""
        from oci_tools.image import rewrite
        from oci_tools.registry.passage import Passing

        options = self.remote.options
        if not options.format and not options.compress:
            return
        top, new = rewrite.change(Passing(self), self.descriptor, options.format, options.compress, into)
        old, self.documents, self.blobs, self.descriptor = self.documents, Documents(), {}, top
        self._keep(top, lambda digest: old.get(digest) if (data := new.get(digest)) is None else data, set())

    def _keep(self, descriptor: Descriptor, known: Callable[[str], bytes | None], seen: set[str]) -> None:
        """Take a document with all that is reached from it, out of those that are known."""
        if descriptor["digest"] in seen:
            return
        seen.add(descriptor["digest"])
        data = known(descriptor["digest"])
        assert data is not None
        found = manifests.parse(data, descriptor) if is_document(descriptor) else {}
        for child in manifests.children(found):
            if "manifests" in found or known(child["digest"]) is not None:  # a configuration that was made here
                self._keep(child, known, seen)
            else:
                self.blobs.setdefault(child["digest"], child)
        self.documents.append((data, descriptor))

    def _child(self, child: Descriptor) -> tuple[bytes, Descriptor]:
        return fetch_document(self.remote, child), child

    def _raw(self, child: Descriptor) -> bytes:
        registry, repository = self.remote.main
        if child["size"] > MAX_MANIFEST:
            raise Error("cannot fetch", child["digest"], f"{child['size']} bytes are more than {MAX_MANIFEST}")
        path = f"/v2/{repository}/manifests/{child['digest']}"
        with registry.request(
            "GET", path, repository, headers={"Accept": f"{child.get('mediaType', '')}, */*"}
        ) as answer:
            if answer.status != 200:
                raise registry.fail(answer, "cannot fetch", child["digest"])
            return digests.Verifier(answer, child).read()


def choose(
    ref: Ref, options: Options, platforms: Sequence[str] = (), every: bool = False, bring: Bring | None = None,
    scratch: Bring | None = None,
) -> Chosen:  # fmt: skip
    """Look at an image in its registry and decide what of it is wanted, once it may be pulled at all.

    bring: see Chosen; it is not called where all of an image is looked at to change it, or not all of it is wanted.
    scratch: the same for layers that must be read before the image is known, where nothing is brought.
    """
    none = options.sparse and list(platforms) == NO_PLATFORM
    given = [] if none else [manifests.parse_platform(text) for text in platforms]
    wanted = given if given or none else [manifests.host_platform()]
    changed = bool(options.format or options.compress)
    whole = not changed and options.only is None
    chosen = Chosen(Remote(ref, options), bring if whole else None, bring is not None and not changed)
    other = platforms or every or options.referrers or options.sparse
    chosen.plain = not (other or ref.digest or options.format or options.compress)
    _choose(chosen, wanted, every, scratch or (None if options.compress else bring))
    if options.referrers:
        chosen.take_referrers()
    return chosen


def _choose(chosen: Chosen, wanted: list[manifests.Platform], every: bool, scratch: Bring | None) -> None:
    remote, policy = chosen.remote, chosen.remote.options.policy
    ref = remote.ref
    data, descriptor = remote.manifest(ref.digest or ref.tag)
    chosen.origin = descriptor["digest"]
    if b'"fsLayers"' in data and _is_old(descriptor):
        policy.check(remote, [[chosen.origin], []])
        return _take_old(chosen, data, scratch)
    found = manifests.parse(data, descriptor)
    if "manifests" not in found or every:
        del found  # it may be large, and is made again
        policy.check(remote, [[chosen.origin], []])
        chosen.take(data, descriptor)
        chosen.descriptor = descriptor
        return None
    memory = [MAX_WEIGHT - document.weight(data)]
    entries = _entries(remote, found, manifests.MAX_DEPTH, memory, set())
    best: dict[str, Descriptor] = {}
    for platform in wanted:
        entry = manifests.pick(entries, platform)
        if entry is None:
            offer = {manifests.platform_name(e.get("platform") or {}): 0 for e in entries}
            names = ", ".join(name for name in offer if name)[:200] or "none"
            raise Error("no image for", manifests.platform_name(platform), f"'{ref}' has {names}")
        best.setdefault(entry["digest"], entry)
    chosen.images = list(best)
    policy.check(remote, [[chosen.origin], chosen.images])
    if remote.options.sparse:
        chosen.descriptor = descriptor
        return _keep_sparse(chosen, data, descriptor, best, manifests.MAX_DEPTH, max(memory[0], LEAST))
    for entry in best.values():
        chosen.take(fetch_document(remote, entry), entry, memory=max(memory[0], LEAST))
    if len(wanted) == 1:
        entry = next(iter(best.values()))
        kept = ("mediaType", "digest", "size", "platform", "artifactType")
        chosen.descriptor = {key: entry[key] for key in kept if key in entry}
    else:
        _strip(chosen, found, entries, best)
    return None


def _keep_sparse(
    chosen: Chosen, data: bytes, descriptor: Descriptor, best: dict[str, Descriptor], depth: int, memory: int
) -> None:
    """An index as it is, and those in it, with the chosen images and the attestations that speak of them only."""
    if not depth:
        raise Error("cannot use image", chosen.remote.ref, "its indexes are nested too deeply")
    for entry in manifests.parse(data, descriptor)["manifests"]:
        of = (entry.get("annotations") or {}).get(ATTESTED)
        if entry["digest"] in best or (of in best and is_document(entry)):
            chosen.take(fetch_document(chosen.remote, entry), _bare(entry), memory=memory)
        elif manifests.is_index(entry.get("mediaType")):
            _keep_sparse(chosen, fetch_document(chosen.remote, entry), _bare(entry), best, depth - 1, memory)
        else:
            chosen.lacks.add(entry["digest"])
    chosen.put(data, descriptor)


def _is_old(descriptor: Descriptor) -> bool:
    from oci_tools.registry import schema1

    return descriptor["mediaType"] in schema1.TYPES


def _take_old(chosen: Chosen, data: bytes, scratch: Bring | None) -> None:
    """Take an image of docker's schema 1 as one of today: its layers are fetched for that, and kept."""
    from oci_tools.registry import schema1
    from oci_tools.registry.passage import Passing

    def measure(digest: str) -> Descriptor:
        for registry, repository in chosen.remote.places:
            with registry.request("HEAD", f"/v2/{repository}/blobs/{digest}", repository) as answer:
                if answer.status == 200 and answer.length is not None:
                    return {"digest": digest, "size": answer.length}
        raise Error("cannot fetch blob", digest, "its registry does not say how large it is")

    found = {digest: measure(digest) for digest in schema1.layers(data)}
    chosen.blobs.update(found)
    layout = chosen.brought()
    if layout is None and scratch:
        layout = chosen.beside = scratch(chosen)
    documents, layers = schema1.convert(data, found, layout.blob if layout else Passing(chosen).blob)
    chosen.documents = Documents(documents)
    chosen.blobs = {layer["digest"]: layer for layer in layers}
    chosen.descriptor = documents[-1][1]


def _bare(descriptor: Descriptor) -> Descriptor:
    """What of a descriptor is needed to fetch what it describes: there may be many, and much in them."""
    made: Descriptor = {key: descriptor[key] for key in ("mediaType", "digest", "size", "urls") if key in descriptor}
    if "mediaType" in made:
        made["mediaType"] = intern(made["mediaType"])
    return made


def tags(ref: Ref, options: Options) -> list[Ref]:
    """Every tag of a reference's repository, as its registry lists them."""
    registry, repository = Remote(ref, options).main
    return [type(ref)(ref.host, ref.repository, tag) for tag in registry.tags(repository)]


def _entries(
    remote: Remote, index: dict[str, Any], depth: int, memory: list[int], seen: set[str]
) -> list[Descriptor]:
    """The image manifests of an index and of the indexes in it, in order; `memory` is what is left for all those."""
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
            data = fetch_document(remote, entry)
            document.check_weight(data, entry["digest"], memory[0])
            memory[0] -= document.weight(data)
            found += _entries(remote, manifests.parse(data, entry), depth - 1, memory, seen)
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
