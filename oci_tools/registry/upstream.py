"""Pull-through: repositories that are filled from other registries as clients ask for them.

    --upstream PREFIX=HOST[/PATH]     PREFIX/NAME here is HOST/PATH/NAME there; "" is every name

A tag is looked up again there when it was looked up longer ago than `ttl`; while nobody answers
there, what is here is served.  What a digest names is fetched once.  A blob goes to the first client
while it comes in; the next ones wait for it.  A tag that somebody pushed here is ours and is not
looked up.  Everything is kept as if it had been pushed, so rules, retention and gc apply.  Lists, of
tags and referrers, are what is there and what is here together.

A client that knows where it wants to read from says so with `ns=HOST` and leaves the prefix away
(distribution-spec, "Registry Proxying"): so containerd has one mirror for all registries.
"""

from __future__ import annotations

import threading
import time

from oci_tools import fetch
from oci_tools.errors import Busy, Error, Usage
from oci_tools.image.layout import annotation
from oci_tools.image.ref import Ref
from oci_tools.registry import copy
from oci_tools.registry.client import Missing
from oci_tools.registry.credentials import Credentials
from oci_tools.registry.refusal import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.client import Registry
    from oci_tools.registry.storage import Repository, Storage

CACHED = "io.oci-tools.upstream"  # on what came from there: where it came from
HEAD_LIMIT = 10_000  # tags whose last look is remembered
LISTS = 100  # lists that are remembered


class Upstreams:
    """All upstreams of a registry (see the module)."""

    def __init__(self, storage: Storage, words: list[str], ttl: float, authfile: str | None) -> None:
        self._storage = storage
        self._ttl = ttl
        self._options = copy.Options(credentials=Credentials(authfile), retries=2)
        self._table = [_split(word) for word in words]
        self._looked: dict[tuple[str, str], float] = {}
        self._lists: dict[tuple[str, str], tuple[float, list[Any]]] = {}  # when, and what
        self._busy: dict[tuple[str, str], list[Any]] = {}  # key -> [lock, how many use it]
        self._lock = threading.Lock()
        if storage.single:
            raise Usage("upstreams need a directory of repositories", storage.path, "it is one layout")

    def remotes(self, name: str) -> list[copy.Remote]:
        """Where a repository's content may come from, in order."""
        found = []
        for prefix, place in self._table:
            if not prefix or name.startswith(f"{prefix}/"):
                inner = name[len(prefix) + 1 :] if prefix else name
                try:
                    ref = Ref.parse(f"{place}/{inner}")
                except Error:
                    continue
                found.append(copy.Remote(ref, self._options))
        return found

    def within(self, name: str, host: str) -> str:
        """The repository here that NAME of a registry is; "" where that is nobody's upstream."""
        found = next((prefix for prefix, place in self._table if place == host), None)
        return "" if found is None else f"{found}/{name}".lstrip("/")

    # -- lists --------------------------------------------------------------------------

    def tags(self, name: str) -> set[str]:
        """The tags there; asked for again after `ttl`.  An Error where nobody knows the repository."""
        return set(self._listed("tags", name, lambda registry, there: list(registry.tags(there))))

    def referrers(self, name: str, digest: str) -> list[Descriptor]:
        """What refers to a manifest there; nothing where nobody answers."""
        try:
            return self._listed(digest, name, lambda registry, there: registry.referrers(there, digest))
        except Error:
            return []

    def _listed(self, what: str, name: str, ask: Callable[[Registry, str], list[Any]]) -> list[Any]:
        """A list of the first that has one, kept for `ttl`."""
        key = what, name
        when, found = self._lists.get(key, (0.0, []))
        if when and time.monotonic() - when <= self._ttl:
            return found
        failure: Error = Missing("no such repository", name)
        with _Turn(self, key):
            for remote in self.remotes(name):
                try:
                    found = ask(*remote.main)
                except Error as error:
                    failure = failure if isinstance(error, Missing) else error
                    continue
                with self._lock:
                    if len(self._lists) > LISTS:
                        self._lists.clear()
                    self._lists[key] = time.monotonic(), found
                return found
        if when:
            return found  # better old than nothing
        raise failure

    # -- manifests ----------------------------------------------------------------------

    def manifest(self, name: str, reference: str) -> None:
        """See to it that a manifest is here, and a tag what it is there, if it can be had."""
        if not self._wanted(name, reference):
            return
        remotes = self.remotes(name)
        if not remotes:
            return
        with _Turn(self, (name, reference)):
            if not self._wanted(name, reference):
                return  # somebody else has just seen to it
            repository = self._storage.repository(name)
            known = repository.there(reference) if repository else None
            failure: Error | None = None
            for remote in remotes:
                try:
                    self._take(remote, name, reference, known)
                except Missing:
                    continue
                except Error as error:
                    failure = failure or error
                    continue
                self._remember(name, reference)
                return
            if known:
                self._remember(name, reference)  # better old than nothing; asked again in a while
            elif failure:
                raise self.refusal(failure, "MANIFEST_UNKNOWN")

    def _wanted(self, name: str, reference: str) -> bool:
        repository = self._storage.repository(name)
        known = repository.there(reference) if repository else None
        if known is None:
            return True
        if ":" in reference or annotation(known, CACHED) is None:
            return False
        looked = self._looked.get((name, reference))
        return looked is None or time.monotonic() - looked > self._ttl

    def _remember(self, name: str, reference: str) -> None:
        with self._lock:
            if len(self._looked) > HEAD_LIMIT:
                self._looked.clear()
            self._looked[name, reference] = time.monotonic()

    def _take(self, remote: copy.Remote, name: str, reference: str, known: dict[str, Any] | None) -> None:
        if known and ":" not in reference:
            registry, there = remote.main
            found = registry.head_manifest(there, reference)  # costs no pull where pulls are counted
            if found and found["digest"] == known["digest"]:
                return
        data, descriptor = remote.manifest(reference)
        repository = self._storage.repository(name, make=True)
        if repository:
            tags = [reference] if ":" not in reference else []
            marks = {CACHED: remote.ref.name}
            repository.put(data, descriptor["mediaType"], descriptor["digest"], tags, marks=marks)

    # -- blobs --------------------------------------------------------------------------

    def size(self, repository: Repository, digest: str) -> int | None:
        """How large a blob is that is not here but there; None: it is not, or nobody says."""
        for remote in self.remotes(repository.name):
            registry, there = remote.main
            try:
                with registry.request("HEAD", f"/v2/{there}/blobs/{digest}", there) as answer:
                    if answer.status == 200 and answer.length is not None:
                        return answer.length
            except Error:
                continue
        return None

    def blob(self, repository: Repository, digest: str) -> Filling | None:
        """A blob that is not here as a stream that also puts it here; None: it cannot be had, or is here now."""
        turn = _Turn(self, (repository.name, digest))
        turn.__enter__()
        try:
            if not repository.has_blob(digest):
                failure: Error | None = None
                for remote in self.remotes(repository.name):
                    try:
                        return Filling(repository, digest, _open(remote, digest), turn)
                    except Missing:
                        continue
                    except Error as error:
                        failure = failure or error
                if failure:
                    raise self.refusal(failure, "BLOB_UNKNOWN")
        except BaseException:
            turn.__exit__()
            raise
        turn.__exit__()
        return None

    @staticmethod
    def refusal(error: Error, code: str) -> Refusal:
        """What to say to a client; who cannot get in there is told so as if there were nothing."""
        if isinstance(error, (Busy, fetch.Lost)):
            return Refusal(503, "UNAVAILABLE", str(error), headers=[("Retry-After", "5")])
        return Refusal(404, code, str(error))

    def turn(self, key: tuple[str, str]) -> Any:
        with self._lock:
            entry = self._busy.setdefault(key, [threading.Lock(), 0])
            entry[1] += 1
        entry[0].acquire()
        return entry

    def over(self, key: tuple[str, str], entry: Any) -> None:
        entry[0].release()
        with self._lock:
            entry[1] -= 1
            if not entry[1]:
                self._busy.pop(key, None)


class _Turn:
    """One at a time fetches the same thing."""

    def __init__(self, upstreams: Upstreams, key: tuple[str, str]) -> None:
        self._upstreams = upstreams
        self._key = key

    def __enter__(self) -> None:
        self._entry = self._upstreams.turn(self._key)

    def __exit__(self, *_: object) -> None:
        self._upstreams.over(self._key, self._entry)


class Filling:
    """A body that is written to a repository while it is sent.

    Its last piece is sent when the whole is verified and kept: a client whose answer is complete
    has good bytes.  One who goes away early ends the fetching too.
    """

    def __init__(self, repository: Repository, digest: str, answer: fetch.Answer, turn: _Turn) -> None:
        if answer.length is None:
            answer.close()
            raise Error("cannot fetch blob", digest, "its registry does not say how long it is")
        self.size = answer.length
        self._answer, self._turn = answer, turn
        self._layout = repository.writer()
        self._ingest = self._layout.ingest({"mediaType": "", "digest": digest, "size": self.size})
        self._ingest.__enter__()
        self._left: bytes | None = answer.read()
        self._open = True

    def __iter__(self) -> Filling:
        return self

    def __next__(self) -> bytes:
        piece = self._left
        if not piece:
            raise StopIteration
        self._ingest.write(piece)
        self._left = self._answer.read()
        if not self._left:
            self._ingest.commit()
        return piece

    def close(self) -> None:
        if self._open:
            self._open = False
            self._ingest.__exit__()
            self._layout.close()
            self._answer.close()
            self._turn.__exit__()


def _open(remote: copy.Remote, digest: str) -> fetch.Answer:
    """A blob as a stream, from wherever it can be had."""
    failure: Error | None = None
    for registry, repository in remote.places:
        try:
            answer = registry.request("GET", f"/v2/{repository}/blobs/{digest}", repository)
            if answer.status == 200:
                return answer
            raise registry.fail(answer, "cannot fetch blob", digest)
        except Error as error:
            failure = error
    raise failure or Missing("cannot fetch blob", digest)


def _split(word: str) -> tuple[str, str]:
    """(prefix, place) of a word."""
    prefix, equals, place = word.partition("=")
    prefix = prefix.strip("/")
    try:
        if not equals or not place:
            raise Error("invalid upstream", word)
        Ref.parse(f"{place}/x")
        if prefix and Ref.parse(f"localhost/{prefix}").repository != prefix:
            raise Error("invalid upstream", word)
    except Error:
        raise Usage("invalid upstream", word, hint="PREFIX=HOST or PREFIX=HOST/PATH") from None
    return prefix, place.rstrip("/")
