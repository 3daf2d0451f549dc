"""The client side of distribution-spec: one registry, spoken to through fetch.py.

Every method names the repository, so that one object serves mirrors, mounts and copies.
Bytes that come back are unchecked unless the docstring says so.  Not here: which blobs an
image needs and in which order (copy.py).
"""

from __future__ import annotations

import threading

from oci_tools import document, fetch
from oci_tools.errors import Busy, Error, printable
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.referrers import fallback_tag
from oci_tools.registry.auth import Auth, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.credentials import Credentials

JSON = "application/json"
ACCEPT = ", ".join([*manifests.INDEXES, *manifests.MANIFESTS, manifests.DOCKER_SCHEMA1, "*/*"])
VAGUE = ("", "application/json", "application/octet-stream", "text/plain", "text/html")  # says nothing
MAX_MANIFEST = 8 << 20  # bytes of a manifest; every registry takes 4 MiB
MAX_WEIGHT = 32 << 20  # bytes of memory for what a manifest says
MAX_ERROR = 1 << 16  # bytes of an error's text
MAX_LIST = 4 << 20  # bytes of a page of tags
MAX_LISTS = 64 << 20  # bytes of all its pages
MAX_REFERRERS = 10_000


class Missing(Error):
    """The registry has no such thing."""


class Conflict(Error):
    """Somebody else has changed it meanwhile."""


class Registry:
    """A registry's API.

    host       as in references and credentials: "docker.io"
    api_host   the server: "registry-1.docker.io"
    insecure   http, or a certificate that nobody vouches for, will do
    """

    def __init__(
        self,
        client: fetch.Client,
        credentials: Credentials,
        host: str,
        api_host: str = "",
        insecure: bool = False,
    ) -> None:
        self.client = client
        self.host = host
        self.api_host = api_host or host
        self.insecure = insecure or not client.verify
        self.auth = Auth(client, credentials, host)
        self._base = ""
        self._lock = threading.Lock()
        self.rate_limit = ""  # what the registry said last of our remaining pulls
        self.told: Callable[[str, str, str], None] = lambda host, left, of: None  # of the same
        self.warned: Callable[[str, str], None] = lambda host, text: None  # of what it wants people to read

    # -- asking -----------------------------------------------------------------------

    def base(self) -> str:
        """scheme://host, found out once.

        A registry on this machine is asked over http first, as all engines do, and so is
        one that the user allowed it to; the first question carries no credentials.
        """
        with self._lock:
            if not self._base:
                self._base = self._probe()
            return self._base

    def _probe(self) -> str:
        secure, plain = f"https://{self.api_host}", f"http://{self.api_host}"
        if fetch.is_loopback(self.api_host):
            order = [plain, secure]
        elif self.insecure:
            order = [secure, plain]
        else:
            return secure
        failures: list[Error] = []
        for base in order:
            try:
                answer = self.client.request("GET", f"{base}/v2/", retries=0)
            except Error as error:
                failures.append(error)
                continue
            with answer:
                if answer.status != 400:  # what a server says to http on its https port
                    self.auth.noted(answer.header("WWW-Authenticate"))
                    answer.done()
                    return base
        if not failures:
            raise Error("cannot speak to", self.api_host, "it does not answer as a registry")
        # a bad certificate tells more than that plain http is not spoken there, a cut more than that tls is not
        raise max(failures, key=lambda e: 0 if isinstance(e, fetch.NoTls) else 1 if isinstance(e, fetch.Lost) else 2)

    def request(
        self,
        method: str,
        path: str,
        repository: str = "",
        actions: str = "pull",
        headers: dict[str, str] | None = None,
        body: bytes | fetch.Body | None = None,
        also: str = "",
        retries: int | None = None,
    ) -> fetch.Answer:
        """The answer to a path of the API, or to a URL that the registry gave, with our credentials.

        also: another repository that must be readable, for mounts.
        """
        base = self.base()
        url = path if "://" in path else base + path
        scopes = frozenset({f"repository:{repository}:{actions}"} if repository else set())
        scopes |= {f"repository:{also}:pull"} if also else set()
        ours = fetch.origin(url) == base  # nobody else gets to see what we say to this one
        said = self.auth.header(repository, scopes) if ours else ""
        headers = dict(headers or {})
        for _ in range(3):
            if said:
                headers["Authorization"] = said
            answer = self.client.request(method, url, headers, body, retries=retries)
            if answer.status != 401 or not ours or fetch.origin(answer.url) != base:
                break
            value = answer.header("WWW-Authenticate")
            more = self.auth.challenged(value, repository, scopes, said)
            if not more:
                break
            said = more
            answer.done()
        if answer.header("RateLimit-Remaining"):
            self.rate_limit = printable(answer.header("RateLimit-Remaining"))
            self.told(self.host, self.rate_limit, answer.header("RateLimit-Limit"))
        for text in warnings(answer.header("Warning")):
            self.warned(self.host, text)
        return answer

    def fail(self, answer: fetch.Answer, what: str, subject: object, kind: type[Error] = Error) -> Error:
        """The Error that an answer means, of a kind if nothing closer fits; with the words in its body."""
        status, said = answer.status, _said(answer)
        answer.close()
        if status == 404:
            return (Missing if kind is Error else kind)(what, subject, said or "not found")
        if status == 401:
            if any(one.get("error") == "insufficient_scope" for _, one in parse(answer.header("WWW-Authenticate"))):
                hint = None if self.auth.known("") else f"or log in with oci-pull --login {self.host}"
                return Error(what, subject, "access denied, or there is no such repository", hint)
            refused = None if "password" in said else f"{self.host} does not accept the user's name or password"
            hint = refused if self.auth.known("") else f"log in with oci-pull --login {self.host}"
            return Error(what, subject, said or "authentication required", hint)
        if status in fetch.PASSING:
            wait = fetch.retry_after(answer.header("Retry-After"))
            hint = f"it asks to wait {wait:.0f} seconds" if wait else None
            if status == 429 and self.rate_limit:
                hint = f"pulls left: {self.rate_limit}"
            return Busy(what, subject, f"{self.host} answers {status}{f', {said}' if said else ''}", hint)
        said = said or ("access denied" if status == 403 else "")  # to a HEAD nobody says more
        return kind(what, subject, f"{self.host} answers {status}{f', {said}' if said else ''}")

    # -- reading ------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str) -> tuple[bytes, Descriptor]:
        """A manifest's bytes and its descriptor, verified against the digest asked for, or stated."""
        return self.manifest_etag(repository, reference)[:2]

    def manifest_etag(self, repository: str, reference: str) -> tuple[bytes, Descriptor, str]:
        """The same, and its ETag, for a conditional change (RFC 9110, 13); "" where there is none."""
        subject = self._name(repository, reference)
        path = f"/v2/{repository}/manifests/{reference}"
        with self.request("GET", path, repository, headers={"Accept": ACCEPT}) as answer:
            if answer.status != 200:
                raise self.fail(answer, "cannot fetch", subject)
            stated = answer.header("Docker-Content-Digest")
            media_type = answer.header("Content-Type").partition(";")[0].strip()
            data, etag = answer.read_all(MAX_MANIFEST), answer.header("ETag")
        document.check_weight(data, subject, MAX_WEIGHT)
        if b'"fsLayers"' in data:
            from oci_tools.registry import schema1

            data = schema1.payload(data)
        expected = reference if ":" in reference else stated
        if not digests.valid(expected):
            expected = digests.of(data)
        algorithm = expected.partition(":")[0]
        actual = digests.of(data, algorithm)
        if actual != expected:
            raise Error("wrong digest of manifest", subject, f"content has {actual}, not {expected}")
        descriptor = {"digest": expected, "size": len(data)}
        return data, {"mediaType": _manifest_type(data, media_type, expected), **descriptor}, etag

    def head_manifest(self, repository: str, reference: str, retries: int | None = None) -> Descriptor | None:
        """The descriptor that a registry states for a manifest, or None where it has none."""
        path = f"/v2/{repository}/manifests/{reference}"
        with self.request("HEAD", path, repository, headers={"Accept": ACCEPT}, retries=retries) as answer:
            digest = answer.header("Docker-Content-Digest")
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise self.fail(answer, "cannot fetch", self._name(repository, reference))
            media_type = answer.header("Content-Type").partition(";")[0].strip()
            return {"mediaType": media_type, "digest": digest, "size": answer.length or 0}

    def blob(
        self, repository: str, descriptor: Descriptor, offset: int = 0, end: int = 0
    ) -> tuple[fetch.Answer, int]:
        """A blob, or its part up to `end`, as a stream, and the offset at which that begins: as asked, or 0."""
        digest = descriptor["digest"]
        headers = {"Range": f"bytes={offset}-{end - 1 if end else ''}"} if offset or end else {}
        answer = self.request("GET", f"/v2/{repository}/blobs/{digest}", repository, headers=headers)
        try:
            if answer.status == 206 and headers:
                said = answer.header("Content-Range")
                if offset < fetch.part_end(said, offset) <= (end or descriptor["size"]):
                    return answer, offset  # it may send less than was asked for (RFC 9110, 15.3.7)
                raise Error("cannot fetch blob", digest, f"asked from {offset} on, got '{said}'")
            if answer.status != 200:
                raise self.fail(answer, "cannot fetch blob", digest)
            if answer.length is not None and answer.length != descriptor["size"]:
                raise Error("wrong size of blob", digest, f"{answer.length} bytes, not {descriptor['size']}")
            return answer, 0
        except BaseException:
            answer.close()
            raise

    def has_blob(self, repository: str, descriptor: Descriptor, actions: str = "pull,push") -> bool:
        with self.request("HEAD", f"/v2/{repository}/blobs/{descriptor['digest']}", repository, actions) as answer:
            if answer.status not in (200, 404):
                raise self.fail(answer, "cannot look for blob", descriptor["digest"])
            return answer.status == 200

    def tags(self, repository: str) -> Iterator[str]:
        """All tags, page by page, as the registry orders them."""
        for page in self._pages(f"/v2/{repository}/tags/list", repository, "cannot list tags of"):
            for tag in page.get("tags") or ():
                if isinstance(tag, str):
                    yield tag

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """The descriptors of manifests whose subject is `digest`; by the fallback tag on old registries."""
        from urllib.parse import quote

        mark = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        try:
            path = f"/v2/{repository}/referrers/{digest}{mark}"
            return _referring(self._pages(path, repository, "cannot list referrers of", layouts.INDEX), artifact_type)
        except Missing:
            return _referring(self._fallback(repository, digest), artifact_type)

    def _fallback(self, repository: str, digest: str) -> list[dict[str, Any]]:
        try:
            data, descriptor = self.manifest(repository, fallback_tag(digest))
        except Missing:
            return []
        return [manifests.parse(data, descriptor)]

    def _pages(self, path: str, repository: str, what: str, kind: str = JSON) -> Iterator[dict[str, Any]]:
        """Every page of a list, by the Link headers (RFC 8288); Missing if the answer is of another kind.

        Servers of web pages have one for every path that they do not know.
        """
        seen: set[str] = set()
        at = self.base() + path
        left = MAX_LISTS
        while at and at not in seen:
            seen.add(at)
            with self.request("GET", at, repository) as answer:
                if answer.status != 200:
                    raise self.fail(answer, what, self._name(repository))
                said = answer.header("Content-Type").partition(";")[0].strip()
                if said not in ("", JSON, kind):
                    raise Missing(what, self._name(repository), f"the answer is '{printable(said)}'")
                data, name = answer.read_all(MAX_LIST), f"list of {self._name(repository)}"
                left -= len(data) + len(at)
                if left < 0:
                    raise Error(what, self._name(repository), f"the list has more than {MAX_LISTS} bytes")
                document.check_weight(data, name, MAX_WEIGHT)
                found = document.loads(data, name)
                if not isinstance(found, dict):
                    raise Error(what, self._name(repository), "the answer is not an object")
                yield found
                at = self._next_page(answer, what, repository)

    def _next_page(self, answer: fetch.Answer, what: str, repository: str) -> str:
        """The URL of the page that follows, or "": nobody sends us to hosts that we were not sent to before."""
        at = _next_page(answer.header("Link"), answer.url)
        if not at or fetch.origin(at) in (self.base(), fetch.origin(answer.url)):
            return at
        if fetch.host_of(at) == fetch.host_of(self.base()):  # behind a proxy that does tls and does not say so
            return f"{self.base()}/{at.partition('://')[2].partition('/')[2]}"
        raise Error(what, self._name(repository), f"its next page would be at '{printable(fetch.host_of(at))}'")

    def _name(self, repository: str, reference: str = "") -> str:
        mark = "@" if ":" in reference else ":" if reference else ""
        return f"{self.host}/{repository}{mark}{reference}"

    # -- writing ------------------------------------------------------------------------

    def put_manifest(
        self, repository: str, reference: str, data: bytes, media_type: str, **conditions: str
    ) -> fetch.Answer:
        """Store a manifest's exact bytes; the answer (closed) has the headers.

        conditions: If_Match, If_None_Match; Conflict where they do not hold.
        """
        subject = self._name(repository, reference.partition("?")[0])
        headers = {"Content-Type": media_type, **{key.replace("_", "-"): value for key, value in conditions.items()}}
        path = f"/v2/{repository}/manifests/{reference}"
        answer = self.request("PUT", path, repository, "pull,push", headers, data)
        with answer:
            if answer.status == 412:
                raise self.fail(answer, "cannot push", subject, Conflict)
            if answer.status not in (200, 201, 202):
                raise self.fail(answer, "cannot push", subject)
            stated = answer.header("Docker-Content-Digest")
            algorithm = stated.partition(":")[0]
            if digests.valid(stated) and stated != digests.of(data, algorithm):
                raise Error(
                    "cannot push", subject, f"the registry calls it {stated}", "it changed the manifest"
                )
            answer.done()
        return answer

    def delete(self, repository: str, reference: str, unable: tuple[int, ...] = ()) -> bool:
        """Delete a manifest or tag; False where the registry answers that it does no such thing."""
        with self.request("DELETE", f"/v2/{repository}/manifests/{reference}", repository, "delete") as answer:
            if answer.status not in (200, 202, 204, *unable):
                raise self.fail(answer, "cannot delete", self._name(repository, reference))
            answer.done()
            return answer.status not in unable


def _referring(pages: Iterable[dict[str, Any]], artifact_type: str) -> list[Descriptor]:
    """The descriptors in the pages of a list of referrers, each once."""
    found: dict[str, Descriptor] = {}
    for page in pages:
        for entry in page.get("manifests") or ():
            digests.check_descriptor(entry)
            if not artifact_type or entry.get("artifactType") == artifact_type:
                found.setdefault(entry["digest"], entry)
        if len(found) > MAX_REFERRERS:
            raise Error("too many referrers", None, f"more than {MAX_REFERRERS}")
    return list(found.values())


def warnings(value: str) -> list[str]:
    """The texts of a Warning header that are for people: `299 - "TEXT"` (distribution-spec, "Warnings")."""
    import re

    found = re.findall(r'299 - "((?:[^"\\]|\\.)*)"', value) if value else []
    return [printable(re.sub(r"\\(.)", r"\1", text))[:1000] for text in found]


def _manifest_type(data: bytes, stated: str, name: str) -> str:
    """The media type of a manifest: as the header and the document say, which must agree."""
    found = document.loads(data, name)
    if not isinstance(found, dict):
        raise Error("invalid manifest", name, "not an object")
    promised = {} if stated in VAGUE else {"mediaType": stated}
    return manifests.kind(found, {"digest": name, **promised})


def _said(answer: fetch.Answer) -> str:
    """What a registry's error says, for people: the spec's JSON, or nothing."""
    try:
        found = document.loads(answer.read_all(MAX_ERROR))
        first = found["errors"][0]
        text = str(first.get("message") or first.get("code") or "")
        detail = first.get("detail")
    except (Error, KeyError, IndexError, TypeError, AttributeError):
        return ""
    if isinstance(detail, str) and detail and detail not in text:
        text = f"{text}: {detail}" if text else detail
    text = printable(text.strip().rstrip("."))
    return text[:1].lower() + text[1:200]


def _next_page(link: str, url: str) -> str:
    """The URL of rel="next" in a Link header, or ""."""
    for part in link.split(",") if link else ():
        target, _, params = part.partition(";")
        target = target.strip()
        if 'rel="next"' in params.replace(" ", "") or "rel=next" in params.replace(" ", ""):
            return fetch.resolve(url, target.strip("<>"))
    return ""
