"""The server side of distribution-spec 1.1: requests in, answers out, over a Storage.

    GET    /v2/                                   is this a registry?
    GET    /v2/_catalog?n=&last=                  repositories
    GET    /v2/NAME/tags/list?n=&last=            tags
    GET    /v2/NAME/manifests/REFERENCE           HEAD, PUT (?tag=&tag=), DELETE too
    GET    /v2/NAME/blobs/DIGEST                  HEAD, DELETE too; Range
    GET    /v2/NAME/referrers/DIGEST?artifactType=
    POST   /v2/NAME/blobs/uploads/                ?mount=DIGEST[&from=NAME], ?digest=DIGEST
    PATCH  /v2/NAME/blobs/uploads/ID              GET, PUT ?digest=, DELETE too
    GET    /                                      for people, see page.py
    GET    /token?service=&scope=                 see access.py
    GET    /login, /keys                          see login.py

Bytes are stored and served as they came, docker schema 2 too.  An answer names its own
place by path only, so it is right behind any proxy.
"""

from __future__ import annotations

import errno
import os
from itertools import islice

from oci_tools import document
from oci_tools.errors import Error, reason
from oci_tools.http import Gone, Request, Response
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs
from oci_tools.registry import accesslog, lists
from oci_tools.registry.access import Access
from oci_tools.registry.blobs import Blobs
from oci_tools.registry.login import PATHS
from oci_tools.registry.logins import Caller
from oci_tools.registry.refusal import JSON, VERSION, Refusal, digest_of, only
from oci_tools.registry.referrers import referrer
from oci_tools.registry.storage import MAX_MANIFEST, Repository, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.registry.rate import Rate
    from oci_tools.registry.upstream import Upstreams

MOST_MISSING = 100  # parts of a manifest that are named when it is refused
TROUBLE = {errno.ENOSPC: 507, errno.EDQUOT: 507, errno.EROFS: 405}  # what is wrong with our disk, as a status


class Registry:
    """A handler for http.Server (see the module)."""

    def __init__(
        self,
        storage: Storage,
        *,
        read_only: bool = False,
        delete: bool = True,
        immutable: bool = False,
        sparse: bool = False,
        access: Access | None = None,
        told: Callable[[dict[str, Any]], None] | None = None,
        upstreams: Upstreams | None = None,
        rate: Rate | None = None,
        failed: Callable[[str], None] = lambda text: None,
    ) -> None:
        """immutable: a tag stays what it is; sparse: an index may lack some of its manifests;
        access: None lets everybody do everything; told: of every event (webhook.py);
        upstreams: where what is missing comes from; rate: how many requests a client may send;
        failed: told of what could not be done, for whoever runs this."""
        self.storage = storage
        self.pages: dict[str, Callable[[Request], Response]] = {"/health": self._health}
        self._told = told
        self._upstreams = upstreams
        self._access = access
        self._people = access.people if access else None
        self._rate = rate
        self._failed = failed
        self.blobs = Blobs(storage, access, upstreams=upstreams)
        self._read_only = read_only
        self._delete = delete and not read_only
        self._immutable = immutable
        self._sparse = sparse

    def close(self) -> None:
        self.blobs.close()

    def __call__(self, request: Request) -> Response:
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.response()
        except Gone:
            raise
        except Error as error:
            self._failed(f"cannot answer {request.method} {accesslog.shown(request.target)}: {error}")
            status, why = 503 if error.code == 75 else 500, ""
            if isinstance(error.cause, OSError):
                status, why = TROUBLE.get(error.cause.errno or 0, status), f": {reason(error.cause)}"
            # clients have no business with our paths
            return Refusal(status, "UNSUPPORTED" if status == 405 else "UNKNOWN", f"{error.what}{why}").response()

    def _route(self, request: Request) -> Response:
        path = request.path
        if path in self.pages:
            only(request, "GET", "HEAD")
            return self.pages[path](request)
        wait = self._rate.wait(request.peer) if self._rate else 0.0
        if wait:
            after = [("Retry-After", str(int(wait) + 1))]
            raise Refusal(429, "TOOMANYREQUESTS", "too many requests", headers=after)
        if path == "/token" and self._access:
            return self._access.token(request)
        if self._people and path in PATHS:
            return self._people(request)
        if not path.startswith("/v2/") and path not in ("/v2", "/"):
            raise Refusal(404, "UNSUPPORTED", "not a path of the registry api")
        access, people = self._access, self._people
        if path == "/" and people:
            caller = people.person(request)
        else:
            caller = (access.login(request) if path == "/" else access.caller(request)) if access else Caller()
        request.user = caller.user
        if path in ("/v2/", "/v2"):
            if self._access:
                self._access.check_login(request, caller)
            only(request, "GET", "HEAD")
            return Response(200, [("Content-Type", JSON), VERSION], b"{}")
        if path == "/":
            return self._page_for_people(request, caller)
        if path == "/v2/_catalog":
            only(request, "GET")
            return lists.page(request, "repositories", self._names(request, caller), {})
        name, kind, reference = _parts(path[4:])
        source = request.query("ns")
        if source and self._upstreams and request.method in ("GET", "HEAD"):
            inner = self._upstreams.within(name, source)
            if inner:
                answer = self._of_repository(request, caller, inner, kind, reference)
                answer.headers = [*answer.headers, ("OCI-Namespace", source)]
                return answer
        return self._of_repository(request, caller, name, kind, reference)

    def _of_repository(self, request: Request, caller: Caller, name: str, kind: str, reference: str) -> Response:
        self._check(request, caller, name, kind)
        if kind == "tags":
            only(request, "GET")
            return lists.page(request, "tags", self._tags(name), {"name": name})
        if kind == "uploads" and not reference:
            only(request, "POST")
            return self.blobs.begin(request, caller, self._repository_to_write(name))
        if kind == "uploads":
            return self.blobs.upload(request, self._repository(name), reference)
        if kind == "manifests":
            return self._manifest(request, name, reference)
        if kind == "blobs":
            return self.blobs.blob(request, self._repository(name), digest_of(reference))
        only(request, "GET")
        return self._referrers(request, name, digest_of(reference))

    def _page_for_people(self, request: Request, caller: Caller) -> Response:
        from oci_tools.registry import page

        only(request, "GET", "HEAD")
        name, access = request.query("repository"), self._access
        if access and access.asks_people(caller):
            return access.ask_people()
        names = [n for n in self.storage.names() if not access or access.sees(caller, n)] if not name else []
        may = not access or access.sees(caller, name)
        more = self._people.link(caller) if self._people else page.Html("")
        return page.show(request, names, self.storage.repository(name) if may else None, more)

    def _health(self, request: Request) -> Response:
        """Whether what we serve can be reached; for those who start and stop servers."""
        good = os.access(self.storage.path, os.R_OK | os.X_OK | (0 if self._read_only else os.W_OK))
        status, text = (200, "ok") if good else (503, "storage cannot be used")
        return Response(status, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")], f"{text}\n".encode())

    def _tell(self, action: str, request: Request, name: str, descriptor: dict[str, Any], reference: str) -> None:
        if self._told:
            from oci_tools.registry.webhook import event

            tag = reference if ":" not in reference else None
            self._told(event(action, request, name, descriptor, tag))

    def _check(self, request: Request, caller: Caller, name: str, kind: str) -> None:
        """Whether the caller may do this there, and anybody."""
        reads = request.method in ("GET", "HEAD")
        if kind == "uploads":
            action = "push"
        else:
            action = "pull" if reads else "delete" if request.method == "DELETE" else "push"
        if self._access:
            self._access.check(request, caller, name, action)
        if self._read_only and not reads:
            raise Refusal(405, "UNSUPPORTED", "this registry is read-only")
        if action == "delete" and not self._delete:
            raise Refusal(405, "UNSUPPORTED", "this registry deletes nothing")

    def _names(self, request: Request, caller: Caller) -> list[str]:
        """The repositories that the caller may know of."""
        if self._access is None:
            return self.storage.names()
        self._access.check_catalog(request, caller)
        return [name for name in self.storage.names() if self._access.sees(caller, name)]

    def _repository(self, name: str) -> Repository:
        found = self.storage.repository(name)
        if found is None:
            raise Refusal(404, "NAME_UNKNOWN", "no such repository", {"name": name})
        return found

    def _repository_to_write(self, name: str) -> Repository:
        found = self.storage.repository(name, make=True)
        if found is None and self.storage.single:
            raise Refusal(
                403, "DENIED", "this registry serves one layout: no repository can be added", {"name": name}
            )
        if found is None and refs.is_repository(name):
            raise Refusal(403, "DENIED", "this registry takes no more repositories", {"name": name})
        if found is None:
            raise Refusal(400, "NAME_INVALID", "not a repository's name", {"name": name})
        return found

    # -- lists ------------------------------------------------------------------------

    def _tags(self, name: str) -> list[str]:
        if not self._upstreams or not self._upstreams.remotes(name):
            return self._repository(name).tags()
        found = self.storage.repository(name)
        try:
            there = self._upstreams.tags(name)
        except Error as error:
            if found is None:
                raise self._upstreams.refusal(error, "NAME_UNKNOWN") from None
            there = set()
        every = {*(found.tags() if found else ()), *filter(refs.is_tag, there)}
        return sorted(every, key=lambda tag: (tag.lower(), tag))

    def _referrers(self, request: Request, name: str, digest: str) -> Response:
        found = self.storage.repository(name)
        entries = {entry["digest"]: entry for entry in (found.referrers(digest) if found else [])}
        for entry in self._upstreams.referrers(name, digest) if self._upstreams else ():
            entries.setdefault(entry["digest"], entry)
        return lists.referrers(request, list(entries.values()))

    # -- manifests ----------------------------------------------------------------------

    def _manifest(self, request: Request, name: str, reference: str) -> Response:
        only(request, "GET", "HEAD", "PUT", "DELETE")
        if not digests.valid(reference) and not refs.is_tag(reference):
            if request.method != "PUT" and ":" not in reference:  # it names nothing that could be here
                raise Refusal(404, "MANIFEST_UNKNOWN", "no such manifest", {"name": name, "reference": reference})
            raise Refusal(400, "MANIFEST_INVALID", "neither a tag nor a digest", {"reference": reference})
        if request.method == "PUT":
            return self._put_manifest(request, self._repository_to_write(name), reference)
        if self._upstreams and request.method != "DELETE":
            self._upstreams.manifest(name, reference)
        repository = self._repository(name)
        if request.method == "DELETE":
            return self._delete_manifest(request, repository, reference)
        found = repository.manifest(reference)
        if found is None:
            if lost := repository.find(reference):  # a client may push it again
                self._failed(f"the manifest '{name}@{lost['digest']}' is lost or damaged: oci-image fsck tells more")
            raise Refusal(404, "MANIFEST_UNKNOWN", "no such manifest", {"name": name, "reference": reference})
        data, descriptor = found
        digest = descriptor["digest"]
        repository.used(digest)
        if request.method == "GET":
            self._tell("pull", request, name, descriptor, reference)
        headers = [("Docker-Content-Digest", digest), ("ETag", f'"{digest}"'), VERSION]
        if {digest, "*"} & _etags(request.header("If-None-Match")):
            return Response(304, headers)
        return Response(200, [("Content-Type", descriptor["mediaType"]), *headers], data)

    def _put_manifest(self, request: Request, repository: Repository, reference: str) -> Response:
        data = request.read_all(MAX_MANIFEST)
        if data is None:
            raise Refusal(413, "SIZE_INVALID", f"manifests here are of at most {MAX_MANIFEST} bytes")
        digest = reference if ":" in reference else digests.of(data)
        if digests.of(data, digest.partition(":")[0]) != digest:
            raise Refusal(
                400, "DIGEST_INVALID", "the content has another digest", {"digest": digests.of(data)}
            )
        found, media_type = self._read_manifest(request, data)
        tags = [reference] if ":" not in reference else [v for k, v in request.queries() if k == "tag"]
        for tag in tags:
            if not refs.is_tag(tag):
                raise Refusal(400, "TAG_INVALID", "not a tag", {"tag": tag})
        with repository.writer():  # gc waits until what was found here is in the index
            self._check_parts(repository, found, media_type)

            def check() -> None:
                index, tag = repository.index, repository.prefix + reference
                _check_unchanged(request, index.of_digest(reference) if ":" in reference else index.named(tag))
                if self._immutable:
                    _check_immutable(repository, tags, digest)

            repository.put(data, media_type, digest, tags, check)
        descriptor = {"mediaType": media_type, "digest": digest, "size": len(data)}
        for one in tags or [digest]:
            self._tell("push", request, repository.name, descriptor, one)
        headers = [
            ("Location", f"/v2/{repository.name}/manifests/{digest}"),
            ("Docker-Content-Digest", digest),
            VERSION,
        ]
        refers = referrer(found, descriptor)
        if refers:
            headers.append(("OCI-Subject", refers[0]))
        if ":" in reference:
            headers += [("OCI-Tag", tag) for tag in tags]
        return Response(201, headers)

    def _read_manifest(self, request: Request, data: bytes) -> tuple[dict[str, Any], str]:
        """The manifest's content and media type, which the header and the content must agree on."""
        stated = request.header("Content-Type").partition(";")[0].strip()
        try:
            document.check_weight(data, "manifest")
            found = document.loads(data, "manifest")
            if not isinstance(found, dict):
                raise Error("the manifest is not an object")
            media_type = manifests.kind(found, {"mediaType": stated} if stated and stated != JSON else {})
            if manifests.is_index(media_type) or manifests.is_manifest(media_type):
                found = manifests.parse(data, {"mediaType": media_type})
        except Error as error:
            raise Refusal(400, "MANIFEST_INVALID", str(error)) from None
        return found, media_type

    def _check_parts(self, repository: Repository, found: dict[str, Any], media_type: str) -> None:
        """What a manifest is made of must be here, except what its type or we leave out."""
        if not manifests.is_index(media_type) and not manifests.is_manifest(media_type):
            return
        if "manifests" in found and self._sparse:
            return
        needed = [one["digest"] for one in manifests.children(found) if not one.get("urls") and not _is_foreign(one)]
        # whatever it is, its grace begins anew; in an index also artifacts pushed as blobs
        missing = list(islice(({"digest": name} for name in needed if not repository.has_blob(name)), MOST_MISSING))
        if missing:
            why = "the manifest refers to what is not here"
            raise Refusal(404, "MANIFEST_BLOB_UNKNOWN", why, missing[0], more=missing[1:])

    def _delete_manifest(self, request: Request, repository: Repository, reference: str) -> Response:
        found = repository.find(reference)
        if found is None:
            raise Refusal(404, "MANIFEST_UNKNOWN", "no such manifest", {"reference": reference})
        if self._immutable and (":" not in reference or repository.index.is_named(reference)):
            raise Refusal(405, "UNSUPPORTED", "tags of this registry are immutable", {"reference": reference})
        if ":" in reference:
            repository.remove(reference)
        else:
            repository.untag(reference)
        self._tell("delete", request, repository.name, found, reference)
        return Response(202, [VERSION])


def _parts(path: str) -> tuple[str, str, str]:
    """(repository, kind, reference) of a path below /v2/; the reference of a list or a new upload is ""."""
    parts = path.split("/")
    if parts[-2:] == ["tags", "list"]:
        return "/".join(parts[:-2]), "tags", ""
    if parts[-2:] == ["blobs", "uploads"]:
        return "/".join(parts[:-2]), "uploads", ""
    if parts[-3:-1] == ["blobs", "uploads"]:
        return "/".join(parts[:-3]), "uploads", parts[-1]
    if len(parts) < 3 or parts[-2] not in ("manifests", "blobs", "referrers"):
        raise Refusal(404, "UNSUPPORTED", "not a path of the registry api")
    return "/".join(parts[:-2]), parts[-2], parts[-1]


def _check_unchanged(request: Request, known: dict[str, Any] | None) -> None:
    """Who changes a tag may say what it is, or that it is none (RFC 9110, 13): so lists of referrers lose no entry."""
    here = str(known.get("digest")) if known else ""
    wanted, unwanted = (_etags(request.header(name)) for name in ("If-Match", "If-None-Match"))
    if (wanted and here not in wanted and not (known and "*" in wanted)) or (known and {here, "*"} & unwanted):
        raise Refusal(412, "MANIFEST_INVALID", "the tag is another one now", {"digest": here})


def _etags(value: str) -> set[str]:
    return {tag.strip().removeprefix("W/").strip('"') for tag in value.split(",") if tag.strip()}


def _check_immutable(repository: Repository, tags: list[str], digest: str) -> None:
    for tag in tags:
        known = repository.index.named(repository.prefix + tag)
        if known and known.get("digest") != digest:
            raise Refusal(409, "TAG_INVALID", "tags of this registry are immutable", {"tag": tag})


def _is_foreign(descriptor: dict[str, Any]) -> bool:
    media_type = str(descriptor.get("mediaType"))
    return ".nondistributable." in media_type or ".foreign." in media_type
