"""A blob on its way into a repository: mounted, in one request or in chunks (distribution-spec, "Pushing blobs").

    POST .../blobs/uploads/?mount=DIGEST   201: it was mounted        202: Location of an upload
    PATCH LOCATION, Content-Range          a chunk; each answer says the next Location
    PUT LOCATION&digest=DIGEST             the last of it

    DELETE LOCATION                        what cannot go on is given up

After a cut, GET LOCATION says how much is there.  A registry that does not know any more, or does not take what
follows, gets this blob from its beginning.
"""

from __future__ import annotations

from oci_tools import fetch
from oci_tools.errors import Busy, Error, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.client import Registry

    Told = Callable[[int, bytes], None]

SINGLE = 16 << 20  # bytes up to which a blob is sent in one PUT, which cannot be resumed


class Refused(Error):
    """The registry does not take a part of an upload."""


def upload(
    registry: Registry,
    repository: str,
    descriptor: Descriptor,
    content: Callable[[], FileIO],
    source: str = "",
    chunk: int = 0,
    told: Told | None = None,
) -> str:
    """Bring a blob into a repository: "mounted" from another or "sent".

    content: opens the file with its bytes, where they have to be sent;
    source: a repository of this registry that has it; chunk: bytes sent at most in one
    request, 0 for all; told: of offset and bytes of each block before it
    is sent; an Error out of it ends the upload.
    """
    return _Upload(registry, repository, descriptor, content, source, chunk, told).run()


class _Upload:
    """One blob, its file and its repository."""

    def __init__(
        self, registry: Registry, repository: str, descriptor: Descriptor, content: Callable[[], FileIO], source: str,
        chunk: int, told: Told | None,
    ) -> None:  # fmt: skip
        self._registry = registry
        self._repository = repository
        self._descriptor = descriptor
        self._content = content
        self._source = source
        self._chunk = chunk
        self._told = told

    def run(self) -> str:
        location = self._begin(self._source)
        if not location:
            return "mounted"
        try:
            self._location_now = location
            with self._content() as self._file:
                return self._bring(location)
        except Busy:
            raise  # nobody is there to be told
        except BaseException:
            self._abort(self._location_now)
            raise

    def _bring(self, location: str) -> str:
        """Send the content, again and again where it is cut; or see it mounted after all."""
        client = self._registry.client
        attempt = offset = 0
        resumed = False
        while location:
            self._location_now = location
            try:
                self._send(location, offset)
                return "sent"
            except Busy:
                if attempt >= client.retries:
                    raise
                known = True
            except Refused:
                if not resumed:
                    raise
                known = False  # what it kept of the upload before the cut is no good any more
                self._abort(location)
            client.pause(attempt)
            attempt += 1
            location, offset = self._resume(location) if known else ("", 0)
            resumed = bool(location)
            location = location or self._begin(self._source)
        return "mounted"

    def _begin(self, source: str) -> str:
        """Open an upload: its URL; "" when the blob was mounted instead.

        A mount is always asked for: without `from` a registry may know a place itself, and one
        that does not answers with an upload as if nothing had been said (distribution-spec).
        """
        registry, repository, digest = self._registry, self._repository, self._descriptor["digest"]
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}" + (f"&from={source}" if source else "")
        if not digest.startswith("sha256:"):
            path += f"&digest-algorithm={digest.partition(':')[0]}"
        with registry.request("POST", path, repository, "pull,push", body=b"", also=source) as answer:
            if answer.status == 201:
                answer.done()
                return ""
            if answer.status in (401, 403) and source:
                return self._begin("")
            if answer.status != 202:
                raise registry.fail(answer, "cannot push to", f"{registry.host}/{repository}")
            answer.done()
            least = answer.header("OCI-Chunk-Min-Length")
            if self._chunk and least.isascii() and least.isdigit():
                self._chunk = max(self._chunk, int(least))
            return self._location(answer)

    def _abort(self, location: str) -> None:
        """Say that nothing more comes of an upload, so that the registry need not keep what came."""
        try:
            with self._registry.request("DELETE", location, self._repository, "pull,push", retries=0) as answer:
                answer.done()
        except Error:
            pass

    def _location(self, answer: fetch.Answer) -> str:
        location, host = answer.header("Location"), self._registry.host
        if not location:
            raise Error("cannot push to", host, "it opens an upload but does not say where")
        url = fetch.resolve(answer.url, location)
        if not url:
            raise Error("cannot push to", host, f"it names '{fetch.shown(location)}' as the place")
        if url.startswith("http://") and self._registry.base().startswith("https://"):
            # a registry behind a proxy that does tls and does not say so: never send it in the clear
            url = "https://" + url[7:]
        return url

    def _send(self, location: str, offset: int) -> None:
        """Send what is missing of a blob and close the upload."""
        size, digest = self._descriptor["size"], self._descriptor["digest"]
        headers = {"Content-Type": "application/octet-stream"}
        if offset or size > min(self._chunk or SINGLE, SINGLE):
            while offset < size:
                count = min(self._chunk or size, size - offset)
                where = {"Content-Range": f"{offset}-{offset + count - 1}"}
                with self._ask("PATCH", location, {**headers, **where}, count, offset) as answer:
                    if answer.status == 416:
                        raise Busy("cannot push blob", digest, "the registry expects another part")
                    if answer.status not in (200, 202, 204):
                        raise self._registry.fail(answer, "cannot push blob", digest, Refused)
                    answer.done()
                    location = self._location(answer)
                offset += count
        mark = "&" if "?" in location else "?"
        with self._ask("PUT", f"{location}{mark}digest={digest}", headers, size - offset, offset) as answer:
            if answer.status not in (200, 201, 202, 204):
                raise self._registry.fail(answer, "cannot push blob", digest, Refused)
            stated = answer.header("Docker-Content-Digest")
            if stated.partition(":")[0] == digest.partition(":")[0] and stated != digest:
                raise Error("cannot push blob", digest, f"the registry calls it {printable(stated)}")
            answer.done()

    def _ask(self, method: str, url: str, headers: dict[str, str], count: int, offset: int) -> fetch.Answer:
        body = fetch.Body(self._file, count, offset, self._told) if count else b""
        return self._registry.request(method, url, self._repository, "pull,push", headers, body, retries=0)

    def _resume(self, location: str) -> tuple[str, int]:
        """After a cut: (where to go on, the bytes that the registry has); ("", 0) to begin again."""
        try:
            with self._registry.request("GET", location, self._repository, "pull,push") as answer:
                answer.done()
                said = answer.header("Range").removeprefix("bytes=")
                end = said.partition("-")[2]
                if answer.status in (200, 204) and said.startswith("0-") and end.isascii() and end.isdigit():
                    offset = int(end) + 1 if int(end) else 0  # "0-0" says nothing or one byte: send it again
                    if offset <= self._descriptor["size"]:
                        return (self._location(answer) if answer.header("Location") else location), offset
        except Error:
            pass
        return "", 0
