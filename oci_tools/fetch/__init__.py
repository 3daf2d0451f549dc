"""The HTTP client: requests, made safe for talking to strangers; the only one of the house.

    with Client() as client:
        with client.request("GET", url, {"Accept": "..."}) as answer:
            while data := answer.read(1 << 20): ...

What it adds: bodies are streams both ways, and raw, as their digests are of the bytes on
the wire; credentials are never sent to another host because of a redirect (distribution-spec),
nor read from ~/.netrc; nobody is redirected from https to http; failures that pass are tried
again with growing pauses (Retry-After counts), and end as `Lost`, exit code 75.
Not here: what a registry says (registry/client.py), whose credentials (registry/auth.py).
"""

from __future__ import annotations

import os
import threading
import time

from oci_tools import __version__
from oci_tools.errors import Error
from oci_tools.fetch import lean
from oci_tools.fetch.failures import Lost as Lost
from oci_tools.fetch.failures import NoTls as NoTls
from oci_tools.fetch.failures import error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from io import FileIO
    from typing import Any

AGENT = f"oci-tools/{__version__}"
CONNECT_TIMEOUT = 15.0  # seconds
READ_TIMEOUT = 60.0  # seconds without a byte
REDIRECTS = 10
RETRIES = 5
PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be another in a moment
PATIENCE = 120.0  # seconds: a Retry-After beyond this is left to the user
BLOCK = 1 << 20  # bytes of a file sent at once


class Body:
    """A part of an open file as the body of a request; it can be sent more than once."""

    def __init__(
        self, file: FileIO, size: int, offset: int = 0, told: Callable[[int, bytes], None] | None = None
    ) -> None:
        self.file = file
        self.size = size
        self.offset = offset
        self.told = told  # of the offset and bytes of each block before it is sent

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        at, end = self.offset, self.offset + self.size
        while at < end:
            data = os.pread(self.file.fileno(), min(BLOCK, end - at), at)
            if not data:
                raise Error("cannot send", self.file.name, "the file is shorter than it was")
            if self.told:
                self.told(at, data)
            yield data
            at += len(data)


class Answer:
    """What a server answered: status, headers, and the body as a stream; a `with` block ends it."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.url: str = response.url

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()

    def done(self) -> None:
        """Read a body that does not matter, if it is small, so that the connection can be used again."""
        try:
            left = BLOCK
            while left > 0 and (data := self.read(left)):
                left -= len(data)
        except Error:
            pass
        self.close()

    def header(self, name: str, default: str = "") -> str:
        value: str = self._response.headers.get(name, default)
        return value

    @property
    def length(self) -> int | None:
        """The bytes of the body, where the server says so."""
        value = self.header("Content-Length")
        return int(value) if value.isascii() and value.isdigit() else None

    def read(self, size: int = BLOCK) -> bytes:
        """At most `size` bytes, fewer only at the end; Lost where the body is cut short."""
        try:
            data: bytes = self._response.raw.read(size, decode_content=False)
            return data
        except Exception as error:
            raise error_of(error, host_of(self.url)) from None

    def read_all(self, limit: int) -> bytes:
        """The whole body; an Error if it has more than `limit` bytes."""
        data = self.read(limit + 1)
        while 0 < len(data) <= limit and (more := self.read(limit + 1 - len(data))):
            data += more
        if len(data) > limit:
            raise Error("cannot read answer of", host_of(self.url), f"it is larger than {limit} bytes")
        return data


class Client:
    """Connections to any number of servers, kept open and shared by threads."""

    def __init__(
        self,
        *,
        verify: bool = True,
        certs: Callable[[str], list[str]] | None = None,
        retries: int = RETRIES,
        delay: float = 0.5,
        timeout: float = READ_TIMEOUT,
        connections: int = 10,
    ) -> None:
        """verify: check certificates; certs: HOST[:PORT] -> directories with its own *.crt,
        and *.cert with *.key (containers-certs.d(5)); delay: seconds before the first retry;
        timeout: seconds for which a server may be silent."""
        self.verify = verify
        self.retries = retries
        self.delay = delay
        self.timeout = timeout
        self._certs = certs
        self._connections = connections
        self._session: Any = None
        self._mounted: set[str] = set()
        self._preparing = threading.Lock()  # of two threads with a session each, one would lack the certificates
        self._known: set[str] = set()  # hosts that have answered

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | Body | None = None,
        *,
        retries: int | None = None,
    ) -> Answer:
        """The answer, after redirects; of a status in PASSING only when it did not pass.

        A failure to connect is tried again only with a host that has answered before: one
        that is not there is said at once.
        """
        attempt, limit = 0, self.retries if retries is None else retries
        while True:
            try:
                answer = self._follow(method, url, dict(headers or {}), body)
            except Lost:
                if attempt >= limit or host_of(url) not in self._known:
                    raise
                wait = 0.0
            else:
                wait = retry_after(answer.header("Retry-After"))
                if answer.status not in PASSING or attempt >= limit or wait > PATIENCE:
                    return answer
                answer.done()
            self.pause(attempt, wait)
            attempt += 1

    def pause(self, attempt: int, wait: float = 0.0) -> None:
        """Wait before the next attempt: as long as was asked for, or ever longer."""
        time.sleep(wait or min(self.delay * 2**attempt, 30.0))

    def _follow(self, method: str, url: str, headers: dict[str, str], body: bytes | Body | None) -> Answer:
        for _ in range(REDIRECTS + 1):
            answer = self._send(method, url, headers, body)
            target = answer.header("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            if method not in ("GET", "HEAD") and answer.status not in (307, 308):
                return answer  # a registry never means this
            answer.done()
            new = resolve(url, target)
            if not new:
                raise Error("cannot follow redirect to", shown(target), f"'{host_of(url)}' sent it")
            if url.startswith("https:") and not new.startswith("https:") and self.verify:
                raise Error("cannot follow redirect to", shown(new), "it leads from https to http")
            if origin(new) != origin(url):
                headers = {k: v for k, v in headers.items() if k.lower() not in ("authorization", "cookie")}
            url = new
        raise Error("cannot fetch", shown(url), f"more than {REDIRECTS} redirects")

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | Body | None) -> Answer:
        session = self._prepared(url)
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
        if body is not None:
            headers["Content-Length"] = str(len(body))
        # no proxy stands between a machine and itself, whatever the environment says
        proxies = {"http": "", "https": ""} if is_loopback(host_of(url)) else None
        try:
            settings = session.merge_environment_settings(url, proxies or {}, True, None, None)
            # not session.send, which looks at cookies, and at where a redirect leads before we are asked
            response = session.get_adapter(url).send(
                lean.prepared(method, url, headers, body), timeout=(CONNECT_TIMEOUT, self.timeout), **settings
            )
        except Error:
            raise
        except Exception as error:
            raise error_of(error, host_of(url)) from None
        self._known.add(host_of(url))
        return Answer(response)

    # -- the session ------------------------------------------------------------------

    def _prepared(self, url: str) -> Any:
        """The session, ready for this URL's host."""
        with self._preparing:
            if self._session is None:
                self._session = lean.session(self._connections)
            place = origin(url)
            if url.startswith("https:") and place not in self._mounted:
                self._session.mount(f"{place}/", lean.adapter(self._context(host_of(url)), self._connections))
                self._mounted.add(place)
            return self._session

    def _context(self, host: str) -> ssl.SSLContext:
        """How TLS is spoken with a host: the system's trust, and what its certs.d adds."""
        import ssl

        context = ssl.create_default_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        known = ssl.get_default_verify_paths()
        if not known.cafile and not known.capath:
            context.load_verify_locations(lean.load().certs.where())  # for hosts without certificates of their own
        for directory in self._certs(host) if self._certs else ():
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                raise Error("cannot read certificates in", directory, error) from None
            for name in names:
                path, (stem, kind) = f"{directory}/{name}", os.path.splitext(name)
                try:
                    if kind == ".crt":
                        context.load_verify_locations(path)
                    elif kind == ".cert":
                        context.load_cert_chain(path, f"{directory}/{stem}.key")
                except OSError as error:  # ssl.SSLError is one
                    raise Error("cannot use certificate", path, error) from None
        return context


# -- hosts -----------------------------------------------------------------------------


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, without user and password."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2].lower()


def shown(url: str) -> str:
    """A URL for messages: without user and password, and without its query, which may be a signature that lets in."""
    scheme, mark, rest = url.partition("#")[0].partition("://")
    place, query, _ = (rest if mark else scheme).partition("?")
    host, slash, path = place.partition("/")
    host = host.rpartition("@")[2] if mark else host
    return f"{scheme if mark else ''}{mark}{host}{slash}{path}{'?...' if query else ''}"


def resolve(url: str, said: str) -> str:
    """The URL that an answer of `url` names, which may be relative; "" if it is none of http or https."""
    from urllib.parse import urljoin, urlsplit

    try:
        new = urljoin(url, said)
        return new if new.startswith(("https://", "http://")) and urlsplit(new).hostname else ""
    except ValueError:
        return ""


def origin(url: str) -> str:
    """scheme://HOST[:PORT]: what credentials are for."""
    scheme, host = url.partition(":")[0].lower(), host_of(url)
    return f"{scheme}://{host.removesuffix(':443' if scheme == 'https' else ':80')}"


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine: localhost, 127.0.0.0/8, ::1."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    parts = name.split(".")
    address = len(parts) == 4 and parts[0] == "127" and all(p.isdigit() and int(p) < 256 for p in parts)
    return name.lower() == "localhost" or name == "::1" or address


def part_end(said: str, start: int) -> int:
    """Where a part ends that begins as it was asked to, by its Content-Range; else 0."""
    unit, _, span = said.partition(" ")
    first, _, last = span.partition("/")[0].partition("-")
    return int(last) + 1 if unit == "bytes" and first == str(start) and last.isascii() and last.isdigit() else 0


def retry_after(value: str) -> float:
    """The seconds that a Retry-After asks for, in either of its forms; 0 for none."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    if not value:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
