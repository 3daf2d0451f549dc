"""Blobs over the wire: given, mounted, and taken in one piece or in many (distribution-spec, "Pushing blobs").

Answers to what server.py has routed here and found allowed.
"""

from __future__ import annotations

from oci_tools.http import File, Gone, Request, Response
from oci_tools.image import digest as digests
from oci_tools.registry.access import Access
from oci_tools.registry.logins import Caller
from oci_tools.registry.refusal import VERSION, Refusal, digest_of, only
from oci_tools.registry.storage import Repository, Storage
from oci_tools.registry.uploads import Upload, Uploads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.registry.upstream import Upstreams

FOREVER = "max-age=31536000"  # what a digest names does not change


class Blobs:
    """The part of a registry that is about blobs."""

    def __init__(self, storage: Storage, access: Access | None, *, upstreams: Upstreams | None) -> None:
        self.storage = storage
        self.uploads = Uploads()
        self._access = access
        self._upstreams = upstreams

    def close(self) -> None:
        self.uploads.close()

    def blob(self, request: Request, repository: Repository, digest: str) -> Response:
        only(request, "GET", "HEAD", "DELETE")
        if request.method == "DELETE":
            if not repository.remove_blob(digest):
                raise Refusal(404, "BLOB_UNKNOWN", "no such blob", {"digest": digest})
            return Response(202, [VERSION])
        if request.method == "HEAD":
            repository.has_blob(digest)  # whoever asks so may rely on it: its grace begins anew
        found = repository.open_blob(digest)
        if found is None and self._upstreams and request.method == "GET":
            filling = self._upstreams.blob(repository, digest)
            if filling:
                kind = [("Content-Type", "application/octet-stream"), ("Content-Length", str(filling.size))]
                return Response(200, [*kind, ("Docker-Content-Digest", digest), VERSION], filling)
            found = repository.open_blob(digest)
        if found is None and self._upstreams and request.method == "HEAD":
            size = self._upstreams.size(repository, digest)
            if size is not None:
                kind = [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
                return Response(200, [*kind, ("Docker-Content-Digest", digest), ("Accept-Ranges", "bytes"), VERSION])
        if found is None:
            raise Refusal(404, "BLOB_UNKNOWN", "no such blob", {"digest": digest})
        fd, size = found
        headers = [
            ("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest), ("ETag", f'"{digest}"'),
            ("Accept-Ranges", "bytes"), ("Cache-Control", FOREVER), VERSION,
        ]  # fmt: skip
        body = File(fd, size)
        if request.header("If-None-Match").strip('"') == digest:
            body.close()
            return Response(304, headers)
        condition = request.header("If-Range")  # RFC 9110, 13.1.5: of something else, all of this
        span = _range(request.header("Range"), size) if condition in ("", f'"{digest}"') else None
        if span is None:
            return Response(200, headers, body)
        start, end = span
        if start >= end:
            body.close()
            raise Refusal(
                416, "RANGE_INVALID", "no such range", headers=[("Content-Range", f"bytes */{size}")]
            )
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
        return Response(206, headers, File(fd, end - start, start))

    # -- uploads ------------------------------------------------------------------------

    def begin(self, request: Request, caller: Caller, repository: Repository) -> Response:
        """Open an upload; or mount a blob, or take it whole."""
        mount, digest = request.query("mount"), request.query("digest")
        if mount and self._mount(caller, repository, digest_of(mount), request.query("from")):
            return self._created(repository, mount)
        algorithm = request.query("digest-algorithm") or (digest or mount or "sha256:").partition(":")[0]
        if algorithm not in digests.ALGORITHMS:
            raise Refusal(400, "DIGEST_INVALID", "unknown digest algorithm", {"algorithm": algorithm})
        upload = self.uploads.begin(repository, algorithm)
        if upload is None:
            raise Refusal(
                503, "TOOMANYREQUESTS", "too many uploads at the same time", headers=[("Retry-After", "5")]
            )
        if digest:
            return self._finish(request, upload, digest_of(digest))
        return self._status(202, upload)

    def _mount(self, caller: Caller, repository: Repository, digest: str, source: str) -> bool:
        """Take a blob from another repository: the one that is named, or whichever has it.

        Only out of repositories that the caller may read: who knows no more than a digest
        must not get the content by it, nor learn that it is here.
        """
        access = self._access
        may = (lambda name: access.may(caller, name, "pull")) if access else None
        if (may is None or may(repository.name)) and repository.has_blob(digest):
            return True
        path = self.storage.elsewhere(digest, repository, source, may)
        return path is not None and repository.link(digest, path)

    def _created(self, repository: Repository, digest: str) -> Response:
        where = f"/v2/{repository.name}/blobs/{digest}"
        return Response(201, [("Location", where), ("Docker-Content-Digest", digest), VERSION])

    def _status(self, status: int, upload: Upload) -> Response:
        where = f"/v2/{upload.repository.name}/blobs/uploads/{upload.id}"
        end = max(upload.offset - 1, 0)  # nobody has found a way to say that nothing is there
        return Response(
            status, [("Location", where), ("Range", f"0-{end}"), ("Docker-Upload-UUID", upload.id), VERSION]
        )  # fmt: skip

    def upload(self, request: Request, repository: Repository, upload_id: str) -> Response:
        only(request, "GET", "HEAD", "PATCH", "PUT", "DELETE")
        upload = self.uploads.find(upload_id, repository)
        if upload is None:
            raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", "no such upload", {"id": upload_id})
        if request.method in ("GET", "HEAD"):
            return self._status(204, upload)
        if not upload.lock.acquire(timeout=60):
            raise Refusal(409, "BLOB_UPLOAD_INVALID", "another request adds to this upload")
        try:
            if upload.over:
                raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", "the upload is over", {"id": upload_id})
            if request.method == "DELETE":
                self.uploads.forget(upload)
                return Response(204, [VERSION])
            digest = request.query("digest")
            if request.method == "PUT" and not digest:
                raise Refusal(400, "DIGEST_INVALID", "the closing request names no digest")
            self._check_place(request, upload)
            if request.method == "PUT":
                return self._finish(request, upload, digest_of(digest))
            upload.write(_pieces(request))
            return self._status(202, upload)
        finally:
            upload.lock.release()

    def _check_place(self, request: Request, upload: Upload) -> None:
        """A chunk must begin where the upload ends, and be as long as it says."""
        said = request.header("Content-Range").removeprefix("bytes ").partition("/")[0]
        if not said:
            return
        start, dash, end = said.partition("-")
        if not (dash and start.isascii() and start.isdigit() and end.isascii() and end.isdigit()):
            headers = self._status(416, upload).headers
            raise Refusal(416, "BLOB_UPLOAD_INVALID", "Content-Range is not START-END", {"range": said}, headers)
        if int(start) != upload.offset:
            headers = self._status(416, upload).headers
            raise Refusal(416, "BLOB_UPLOAD_INVALID", "chunks come in their order", {"range": said}, headers)
        if request.length is not None and request.length != int(end) - int(start) + 1:
            raise Refusal(400, "SIZE_INVALID", "Content-Range and Content-Length disagree", {"range": said})

    def _finish(self, request: Request, upload: Upload, digest: str) -> Response:
        """The last piece of an upload, and its end."""
        try:
            upload.write(_pieces(request))
            good = upload.finish(digest)
        except Gone:
            raise  # cut short: the client may go on where it ended
        except BaseException:
            self.uploads.forget(upload)
            raise
        self.uploads.forget(upload)
        if not good:
            raise Refusal(400, "DIGEST_INVALID", "the content has another digest", {"digest": digest})
        path = self.storage.elsewhere(digest, upload.repository)
        if path:
            upload.repository.link(digest, path)  # the same bytes twice: kept once
        return self._created(upload.repository, digest)


def _pieces(request: Request) -> Iterator[bytes]:
    while data := request.read():
        yield data


def _range(value: str, size: int) -> tuple[int, int] | None:
    """(start, end) of a Range with one part; None where there is none that we know: all is sent then."""
    unit, _, spans = value.partition("=")
    first, dash, last = spans.strip().partition("-")
    if (
        unit.strip().lower() != "bytes"
        or not dash
        or not all(not x or (x.isascii() and x.isdigit()) for x in (first, last))
    ):
        return None
    if first:
        return int(first), min(int(last) + 1, size) if last else size
    return (max(size - int(last), 0), size) if last else None
