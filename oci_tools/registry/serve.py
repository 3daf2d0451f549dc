"""A registry as a process: what `oci-registry serve` is told, put together and kept going.

Files that say who gets in are read again when they change: users and rules when they are
asked for next, certificates within a second, or at once on SIGHUP.
"""

from __future__ import annotations

import os
import signal
import threading

from oci_tools.errors import Error, Usage
from oci_tools.http import Server
from oci_tools.registry import accesslog, retention
from oci_tools.registry.metrics import Metrics
from oci_tools.registry.rate import Rate
from oci_tools.registry.server import Registry
from oci_tools.registry.storage import Storage
from oci_tools.registry.webhook import Webhook

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

    from oci_tools.http import Request
    from oci_tools.registry.access import Access
    from oci_tools.registry.issuer import Issuer
    from oci_tools.registry.logins import Logins
    from oci_tools.registry.upstream import Upstreams

    Told = Callable[[Request, int, int, float], None]

LISTEN_FDS = 3  # the first descriptor that systemd passes on (sd_listen_fds(3))
MIN_KEY = 32  # bytes of a key that signs tokens


def serve(args: Any, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `say` is told what goes wrong meanwhile, a line each."""
    _more_descriptors()
    passed = _passed_sockets()
    retention.load(args.retention)  # what is wrong with it is said before we serve
    metrics = Metrics()
    hooks = [Webhook(url, say) for url in args.webhook]
    storage = Storage(args.dir, args.max_repositories)
    registry = Registry(
        storage,
        read_only=args.read_only,
        delete=args.delete,
        immutable=args.immutable_tags,
        sparse=args.sparse_index,
        access=guard(args, say),
        told=_to_all(hooks) if hooks else None,
        upstreams=_upstreams(storage, args),
        rate=Rate(args.rate) if args.rate else None,
        failed=say,
    )
    tls = Certificate(args, say)
    server = Server(registry, tls=tls.context, broken=lambda r: _broken(r, say))
    server.log = accesslog.write if args.access_log else None
    if args.metrics:
        server.log = _both(metrics.answered, server.log)
        metrics.gauges["uploads"] = registry.blobs.uploads.count
        metrics.gauges["connections"] = server.open_connections
        metrics.gauges["events_lost"] = lambda: sum(hook.lost for hook in hooks)
        registry.pages["/metrics"] = metrics

    def tick() -> None:
        tls.refresh(server)
        registry.blobs.uploads.expire()

    server.tick = tick
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop(float(args.stop_timeout)))
    signal.signal(signal.SIGHUP, lambda *_: tls.refresh(server, True))
    for address in [f"fd:{fd}" for fd in passed] if passed and not args.listen else args.listen or ["127.0.0.1:0"]:
        print(server.listen(address), flush=True)
    collector = Collector(registry.storage, args, say, metrics)
    signal.signal(signal.SIGUSR1, lambda *_: collector.now())
    _ready()
    try:
        server.serve()
    finally:
        collector.stop()
        registry.close()
        for hook in hooks:
            hook.stop(float(args.stop_timeout))


def _upstreams(storage: Storage, args: Any) -> Upstreams | None:
    if not args.upstream:
        return None
    from oci_tools.registry.upstream import Upstreams

    return Upstreams(storage, args.upstream, float(args.upstream_ttl), args.authfile)


def _more_descriptors() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))


class Collector:
    """Collects garbage again and again, in a thread of its own."""

    def __init__(self, storage: Storage, args: Any, say: Callable[[str], None], metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics
        self._args = args
        self._say = say
        self._wake = threading.Semaphore(0)
        self._stopped = False
        threading.Thread(target=self._run, daemon=True).start()

    def now(self) -> None:
        """Collect soon; safe in a signal handler."""
        self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire(timeout=self._args.gc * 60.0 or None)
            if self._stopped:
                return
            try:
                rules = retention.load(self._args.retention)
                for row in retention.collect(self._storage, rules, self._args.grace * 60.0):
                    if row["tag"] is None:
                        self._metrics.count("collected_bytes", row["size"] or 0)
                    if self._stopped:
                        return
            except Error as error:  # a lock that is held for long, a disk that fails: the next time, perhaps
                self._say(str(error))

    def stop(self) -> None:
        self._stopped = True
        self._wake.release()


# -- systemd -----------------------------------------------------------------------------


def _passed_sockets() -> list[int]:
    """The descriptors that systemd listens on for us (sd_listen_fds(3)); children shall not think so too."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return list(range(LISTEN_FDS, LISTEN_FDS + int(count)))


def _ready() -> None:
    """Tell systemd that we listen (sd_notify(3)); nobody else has asked."""
    import socket

    path = os.environ.pop("NOTIFY_SOCKET", "")
    if path.startswith(("/", "@")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(b"READY=1", "\0" + path[1:] if path[0] == "@" else path)
            except OSError:
                pass  # it does not wait any more


# -- who gets in ---------------------------------------------------------------------------


def guard(args: Any, say: Callable[[str], None]) -> Access | None:
    """What guards the registry; None where nobody asked for a guard."""
    issuer = _issuer(args)
    logins = args.htpasswd or args.ldap or args.oidc or args.api_keys
    if not (logins or args.rules or args.anonymous_read or args.client_ca or issuer):
        if args.auth == "token":
            raise Usage("tokens are for users", hint="name them with --htpasswd")
        return None
    if args.oidc and not args.rules:  # with a public one, that is everybody
        raise Usage("what people may whom the OpenID provider knows is said by rules", hint="add --rules")
    from oci_tools.registry import users
    from oci_tools.registry.access import Access
    from oci_tools.registry.login import Login

    def failed(error: Error) -> None:
        say(str(error))

    file = users.File(args.rules, users.rules, failed) if args.rules else None
    always = [users.rule("*", "**", "pull")] if args.anonymous_read else []
    fixed = users.Rules([*always, users.rule("+", "**", "*")])

    def rules() -> users.Rules:
        return file.content().also(always) if file else fixed

    known = _logins(args, failed)
    access = Access(
        rules,
        known,
        tokens=args.auth == "token" or issuer is not None,
        key=_key(args.token_key) if args.token_key else b"",
        url=args.url or "",
        issuer=issuer,
    )
    access.people = Login(access, known)
    return access


def _logins(args: Any, failed: Callable[[Error], None]) -> Logins:
    """All who are known by a password, a key or a token."""
    from oci_tools.registry import apikeys, ldap, logins, oidc, users

    return logins.Logins(
        users.Users(args.htpasswd, failed) if args.htpasswd else None,
        ldap.Directory(args.ldap) if args.ldap else None,
        oidc.Provider(args.oidc) if args.oidc else None,
        apikeys.Keys(args.api_keys, failed) if args.api_keys else None,
    )


def _issuer(args: Any) -> Issuer | None:
    """Whose tokens we take instead of our own."""
    if not args.token_realm and not args.token_trust:
        return None
    if not args.token_realm or not args.token_trust or not args.token_service:
        raise Usage("tokens of others need --token-realm, --token-service and --token-trust")
    realm = args.token_realm
    if not realm.startswith(("https://", "http://")) or not realm.isprintable() or '"' in realm:
        raise Usage("not a URL", realm)
    from oci_tools.registry.issuer import Issuer

    return Issuer(realm, args.token_service, args.token_issuer or "", args.token_trust)


def _key(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read(1 << 16)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    if len(key) < MIN_KEY:
        raise Error("cannot use key", path, f"it has {len(key)} bytes, less than {MIN_KEY}")
    return key


class Certificate:
    """The server's certificate and its clients' CA, read again when the files are others."""

    def __init__(self, args: Any, say: Callable[[str], None]) -> None:
        self._args = args
        self._say = say
        self._files = [path for path in (args.tls_cert, args.tls_key, args.client_ca) if path]
        if args.client_ca and not args.tls_cert:
            raise Usage("certificates of clients need tls", hint="add --tls-cert")
        self._lock = threading.Lock()
        self._seen = self._look()
        self.context = self._load()

    def refresh(self, server: Server, now: bool = False) -> None:
        """Use new files for new connections; keep the old while the new are no good."""
        if not self._args.tls_cert or not self._lock.acquire(blocking=False):
            return  # a signal in the middle of it: it is being done
        try:
            seen = self._look()
            if seen == self._seen and not now:
                return
            self._seen = seen
            server.tls = self.context = self._load()
        except Error as error:
            self._say(str(error))
        finally:
            self._lock.release()

    def _look(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                seen = os.stat(path)
                found.append((seen.st_ino, seen.st_mtime_ns))
            except OSError:
                found.append(None)
        return found

    def _load(self) -> ssl.SSLContext | None:
        args = self._args
        if not args.tls_cert:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(args.tls_cert, args.tls_key)
        except OSError as error:  # ssl.SSLError is one
            raise Error("cannot use certificate", args.tls_cert, error) from None
        if args.client_ca:
            try:
                context.load_verify_locations(args.client_ca)
            except OSError as error:
                raise Error("cannot use certificates", args.client_ca, error) from None
            other_ways = args.htpasswd or args.anonymous_read or args.ldap or args.oidc or args.api_keys
            context.verify_mode = ssl.CERT_OPTIONAL if other_ways else ssl.CERT_REQUIRED
        return context


def _to_all(hooks: list[Webhook]) -> Callable[[dict[str, Any]], None]:
    def told(event: dict[str, Any]) -> None:
        for hook in hooks:
            hook.put(event)

    return told


def _both(metrics: Told, log: Told | None) -> Told:
    def told(request: Request, status: int, size: int, seconds: float) -> None:
        metrics(request, status, size, seconds)
        if log:
            log(request, status, size, seconds)

    return told


# -- what is said ------------------------------------------------------------------------------


def _broken(request: Request, say: Callable[[str], None]) -> None:
    import traceback

    say(f"a bug while answering {request.method} {accesslog.shown(request.target)}")
    traceback.print_exc()
