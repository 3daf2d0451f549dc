"""`requests` without half of its import time: what of it nothing here uses is not loaded.

Absent here, while it is imported: guessers of character sets, cookies (a registry has none), the other
readers of JSON and of compressed bodies (ours are read raw), IDNA (a reference's host is ASCII), zip files
and a package of certificates where the system has its own, and urllib3's HTTP/2 package, which loads what
reads the versions of installed packages.  Together they take as long as all the rest.
"""

from __future__ import annotations

import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")  # the system's
LINES, LINE = 1000, 1 << 16  # of a head, with those that come before it, and bytes of each
ABSENT = ("chardet", "simplejson", "brotlicffi", "brotli", "backports", "zstandard")

_lock = threading.Lock()


class NoCookies:
    """What requests builds its jar of cookies on: nothing gets in."""

    def __init__(self, policy: object = None) -> None:
        self._cookies: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def extract_cookies(self, *_: object) -> None:
        pass

    add_cookie_header = set_cookie = set_policy = extract_cookies


_loaded: ModuleType | None = None


def load() -> ModuleType:
    """The module; several threads may ask for it."""
    global _loaded
    with _lock:
        found = sys.modules.get("requests") or _import()
        if found is not _loaded:  # somebody else may have imported it
            _bounded()
            _loaded = found
        return found


def _import() -> ModuleType:
    ours: dict[str, Any] = {}
    for name, content in _stubs().items():
        if name not in sys.modules:
            ours[name] = sys.modules[name] = _module(name, content)  # type: ignore[assignment]
    try:
        import requests
    except (ImportError, AttributeError):  # another version, which looks into one of them: then all of it
        for name in [name for name in sys.modules if name.partition(".")[0] in ("requests", "urllib3")]:
            del sys.modules[name]
        _forget(ours)
        import requests
    finally:
        _forget(ours)
    module: ModuleType = requests
    return module


def _bounded() -> None:
    """Let an answer's head, and what follows its last chunk, have an end, and be a cut where that does not come.

    http.client takes the end of what comes for the end of the head.  What it would lack then is the length, or the half
    of a number: of a HEAD a status is left that says "it is here".  And it reads `100 Continue` and trailers for ever.
    """
    import http.client

    from urllib3.connection import HTTPConnection

    class Head:
        def __init__(self, file: Any) -> None:
            self._file = file
            self._begun = False
            self._left = LINES

        def readline(self, limit: int = -1) -> bytes:
            line: bytes = self._file.readline(limit)
            self._left -= 1
            if not self._left:
                raise http.client.HTTPException("the head of its answer has no end")
            if not line.endswith(b"\n") and len(line) != limit and (line or self._begun):
                raise ConnectionResetError
            self._begun = True
            return line

        def close(self) -> None:
            self._file.close()

    class Whole(http.client.HTTPResponse):
        def begin(self) -> None:
            file, self.fp = self.fp, Head(self.fp)  # type: ignore[assignment]
            try:
                super().begin()
            finally:
                self.fp = file if isinstance(self.fp, Head) else self.fp

        def _read_and_discard_trailer(self) -> None:
            file: Any = self.fp
            for _ in range(LINES):
                if file.readline(LINE) in (b"\r\n", b"\n", b""):
                    return
            raise http.client.HTTPException("the end of its answer has no end")

    HTTPConnection.response_class = Whole


def _forget(ours: dict[str, Any]) -> None:
    for name, stub in ours.items():
        if sys.modules.get(name, name) is stub:
            del sys.modules[name]


def _stubs() -> dict[str, dict[str, Any] | None]:
    """Modules as good as empty, with what is in them; None is one that is not there."""
    from importlib.machinery import PathFinder

    found = PathFinder.find_spec("urllib3")
    places = list(found.submodule_search_locations or ()) if found else []
    stubs: dict[str, dict[str, Any] | None] = {
        **dict.fromkeys(ABSENT),
        "charset_normalizer": {},
        "http.cookiejar": {"CookieJar": NoCookies, "Cookie": object, "CookiePolicy": object},
        "idna": {},
        "urllib3.http2": {"__path__": [f"{place}/http2" for place in places]},
        "zipfile": {},
    }
    bundle = next((path for path in BUNDLES if os.path.exists(path)), None)
    if bundle:
        stubs["certifi"] = {"where": lambda: bundle}
    return stubs


def _module(name: str, content: dict[str, Any] | None) -> ModuleType | None:
    if content is None:
        return None
    made: ModuleType = type(sys)(name)
    made.__dict__.update(__version__="3.0.0", **content)
    return made


def session(connections: int) -> Any:
    """Connections that are kept; no credentials out of ~/.netrc."""
    requests = load()
    made = requests.Session()
    made.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return made


def prepared(method: str, url: str, headers: dict[str, str], body: Any) -> Any:
    """A request as it stands: requests' own way to one looks at forms, files, cookies and ~/.netrc first."""
    requests = load()
    made = requests.PreparedRequest()
    made.method, made.url, made.body = method, url, body
    made.headers = requests.structures.CaseInsensitiveDict(headers)
    made.hooks = {"response": []}
    return made


def adapter(context: ssl.SSLContext, connections: int) -> Any:
    """requests' connection to a pool of urllib3's, with our TLS context and no other."""
    requests = load()

    class Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc,name-defined]
        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **more)

        def proxy_manager_for(self, *args: Any, **more: Any) -> Any:
            return super().proxy_manager_for(*args, ssl_context=context, **more)

        def build_connection_pool_key_attributes(self, *args: Any) -> Any:
            host, _ = super().build_connection_pool_key_attributes(*args)
            return host, {}

        def cert_verify(self, *args: Any) -> None:
            """The context has it all; requests would add its own certificates."""

    return Adapter(pool_maxsize=connections)
