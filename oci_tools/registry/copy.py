"""What pulling and pushing share: a person's choices, a repository with its mirrors, work in parallel.

A whole image goes, in either direction, parts first: what refers comes after what it refers
to, so a layout or registry holds no manifest whose parts are missing, wherever it is cut.
"""

from __future__ import annotations

import threading

from oci_tools import fetch
from oci_tools.errors import Busy, Error
from oci_tools.image import manifest as manifests
from oci_tools.registry import hosts
from oci_tools.registry.client import Missing, Registry
from oci_tools.registry.credentials import Credentials
from oci_tools.registry.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_tools.image.layout import Descriptor
    from oci_tools.image.ref import Ref
    from oci_tools.image.rewrite import Compression
    from oci_tools.registry.policy import Policy

JOBS = 6
WORTH = 1 << 20  # bytes of progress after which attempts are counted anew


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
        timeout: float = fetch.READ_TIMEOUT,
        chunk: int = 0,
        foreign: bool = False,
        referrers: bool = False,
        progress: Progress | None = None,
        format: str | None = None,
        compress: Compression | None = None,
        policy: Policy | None = None,
        warn: Callable[[str], None] | None = None,
        only: frozenset[str] | None = None,
        sparse: bool = False,
    ) -> None:
        """verify: certificates are checked, and http is for loopback only; chunk: bytes in one
        request of an upload, 0 for all; foreign: push layers marked as not to be pushed;
        referrers: take along what refers to the image; format, compress: see image/rewrite.py;
        policy: which images may be pulled; only: digests of the blobs to take, or "config";
        sparse: indexes stay as they are, and may lack images; warn: told, once, what people should read."""
        from oci_tools.registry.policy import Policy

        self.policy = policy or Policy()
        self.format = format
        self.compress = compress
        self.credentials = credentials or Credentials()
        self.jobs = max(1, jobs)
        self.chunk = chunk
        self.foreign = foreign
        self.only = only
        self.sparse = sparse
        self.referrers = referrers
        self.progress = progress or Progress("copy")
        self._warn = warn
        self._warned: set[str] = set()
        self._registries: dict[tuple[str, bool], Registry] = {}
        self.client = fetch.Client(
            verify=verify,
            certs=lambda host: hosts.cert_directories(host, cert_dir),
            retries=retries,
            delay=delay,
            timeout=timeout,
            connections=self.jobs + 1,
        )

    def registry(self, source: hosts.Source) -> Registry:
        """The registry of a source; one object each, which knows how to get in there."""
        key = source.host, source.insecure
        if key not in self._registries:
            place = source.host, source.api_host, source.insecure
            self._registries[key] = Registry(self.client, self.credentials, *place)
            self._registries[key].told = self.progress.limit
            self._registries[key].warned = self._warning
        return self._registries[key]

    def _warning(self, host: str, text: str) -> None:
        said = f"warning of {host}: {text}"
        if self._warn and said not in self._warned:
            self._warned.add(said)
            self._warn(said)

    def __enter__(self) -> Options:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()


class Remote:
    """A repository, wherever it may be read from: mirrors in order, then its registry."""

    def __init__(self, ref: Ref, options: Options, write: bool = False) -> None:
        self.ref = ref
        self.options = options
        self.places = [(options.registry(s), s.repository) for s in hosts.sources(ref, write)]

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
                if at < len(self.places) - 1:  # the mirror that has this has the rest too
                    self.places.insert(0, self.places.pop(at))
                return found
        raise AssertionError

    def head(self, reference: str) -> str:
        """The digest that a manifest has in the first place that knows; "" where nobody says: costs no pull."""
        for registry, repository in self.places:
            try:
                found = registry.head_manifest(repository, reference, retries=0)
            except Error:
                continue
            if found:
                return str(found["digest"])
        return ""

    def blob(self, descriptor: Descriptor, offset: int, end: int = 0) -> tuple[fetch.Answer, int]:
        """A blob, or its part up to `end`, as a stream, from `offset` on or from its beginning, as is said with it."""
        for at, (registry, repository) in enumerate(self.places):
            try:
                return registry.blob(repository, descriptor, offset, end)
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


def is_document(descriptor: Descriptor) -> bool:
    media_type = descriptor.get("mediaType")
    return manifests.is_index(media_type) or manifests.is_manifest(media_type)


def fetch_document(remote: Remote, descriptor: Descriptor) -> bytes:
    """A manifest that another one refers to: by its digest, of the size and type that are promised."""
    data, found = remote.manifest(descriptor["digest"])
    for key in ("size", "mediaType"):
        if descriptor.get(key) != found[key]:
            raise Error(
                f"wrong {key} of manifest", descriptor["digest"], f"{found[key]}, not {descriptor.get(key)}"
            )
    return data


# -- in parallel ----------------------------------------------------------------------------


class Stopped(Error):
    """Another part of the same copy has failed; this is never shown."""

    def __init__(self) -> None:
        super().__init__("stopped")


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
