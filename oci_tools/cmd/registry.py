"""oci-registry: a private registry over image layouts."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

    from oci_tools.http import Request, Server
    from oci_tools.registry.storage import Repository, Storage

SERVE: tuple[cli.Option, ...] = (
    (
        "--listen ADDRESS",
        "text",
        "127.0.0.1:0",
        "HOST:PORT, [IPV6]:PORT, unix:PATH or fd:N; port 0: any that is free",
    ),
    ("--tls-cert FILE", "text", None, "serve https with this certificate; read again on SIGHUP"),
    ("--tls-key FILE", "text", None, "the certificate's key"),
    ("--read-only", "flag", False, "change nothing"),
    ("--delete", "flag", True, "let clients delete tags, manifests and blobs"),
    ("--immutable-tags", "flag", False, "refuse to give a tag to another manifest"),
    ("--sparse-index", "flag", False, "accept an index some of whose manifests are not here"),
    ("--access-log", "flag", False, "write each request as a line of JSON to standard error"),
)
LISTING: tuple[cli.Option, ...] = (
    ("--fields NAME[,NAME]...", "text", None, "the columns to list"),
    ("--json", "flag", False, "list JSON objects, one a line"),
)
GC: tuple[cli.Option, ...] = (
    ("--grace MINUTES", "int", 60, "leave alone what is younger, or was asked for since"),
    ("-n --dry-run", "flag", False, "only say what would be removed"),
)
GRACE = 10.0  # seconds that requests in flight get to finish at the end


def serve(args: cli.Args) -> None:
    import resource
    import signal

    from oci_tools.http import Server
    from oci_tools.registry.server import Registry
    from oci_tools.registry.storage import Storage

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    registry = Registry(
        Storage(args.dir),
        read_only=args.read_only,
        delete=args.delete,
        immutable=args.immutable_tags,
        sparse=args.sparse_index,
    )
    log = _log if args.access_log else None
    server = Server(registry, tls=_tls(args), log=log, broken=_broken)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop(GRACE))
    signal.signal(signal.SIGHUP, lambda *_: _reload(server, args))
    print(server.listen(args.listen), flush=True)
    try:
        server.serve()
    finally:
        registry.close()


def _tls(args: cli.Args) -> ssl.SSLContext | None:
    if not args.tls_cert:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(args.tls_cert, args.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise Error("cannot use certificate", args.tls_cert, error) from None
    return context


def _reload(server: Server, args: cli.Args) -> None:
    """Use a new certificate for new connections; keep the old one if the new is no good."""
    try:
        server.tls = _tls(args)
    except Error as error:
        cli.say("oci-registry", str(error))


def _log(request: Request, status: int, size: int, seconds: float) -> None:
    from oci_tools import document

    line = {
        "peer": request.peer, "method": request.method, "target": request.target, "status": status,
        "bytes": size, "ms": round(seconds * 1000, 1), "agent": request.header("user-agent"),
    }  # fmt: skip
    sys.stderr.write(document.dumps(line).decode() + "\n")
    sys.stderr.flush()


def _broken(request: Request) -> None:
    import traceback

    cli.say("oci-registry", f"a bug while answering {request.method} {request.target}")
    traceback.print_exc()


# -- without serving -----------------------------------------------------------------------


def ls(args: cli.Args) -> None:
    """One line a tag: repository, tag, digest."""
    storage = _storage(args.dir)
    for name in args.repository or storage.names():
        repository = _repository(storage, name)
        for tag in repository.tags():
            digest = (repository.find(tag) or {}).get("digest")
            _row(args, {"repository": name, "tag": tag, "digest": digest})


def rm(args: cli.Args) -> None:
    """A tag, a manifest with its tags, or a repository."""
    storage = _storage(args.dir)
    for word in args.name:
        bare, at, digest = word.partition("@")
        name, colon, tag = bare.partition(":")
        repository = _repository(storage, name)
        if not at and not colon:
            storage.remove(name)
        elif repository.find(digest or tag) is None:
            raise Error("no such manifest", word)
        elif at:
            repository.remove(digest)
        else:
            repository.untag(tag)


def collect(args: cli.Args) -> None:
    """One line a blob that was removed: repository, digest, bytes."""
    from oci_tools.image import gc

    storage = _storage(args.dir)
    done = set()
    for name in storage.names():
        repository = _repository(storage, name)
        if repository.layout.path not in done:
            done.add(repository.layout.path)
            result = gc.collect(repository.layout, args.grace * 60.0, args.dry_run)
            for digest, size in result.blobs.items():
                _row(args, {"repository": name, "digest": digest, "size": size})


def _storage(path: str) -> Storage:
    from oci_tools.registry.storage import Storage

    if not os.path.isdir(path):
        raise Error("no such directory", path)
    return Storage(path)


def _repository(storage: Storage, name: str) -> Repository:
    found = storage.repository(name)
    if found is None:
        raise Error("no such repository", name)
    return found


def _row(args: cli.Args, row: dict[str, Any]) -> None:
    from oci_tools import document

    wanted = args.fields.split(",") if args.fields else list(row)
    if not set(wanted) <= set(row):
        raise Usage("no such field", args.fields, hint=f"they are {', '.join(row)}")
    row = {key: row[key] for key in wanted}
    print(document.dumps(row).decode() if args.json else "\t".join(str(value) for value in row.values()))


COMMAND = cli.Command(
    "oci-registry",
    "a private registry over image layouts",
    verbs={
        "serve": cli.Command(
            "oci-registry serve",
            "serve a layout, or a directory of repositories, and print the URL",
            "DIR",
            SERVE,
            serve,
            example="oci-registry serve --listen 127.0.0.1:5000 /srv/images",
        ),
        "ls": cli.Command(
            "oci-registry ls",
            "list tags: repository, tag, digest",
            "DIR [REPOSITORY...]",
            LISTING,
            ls,
            example="oci-registry ls /srv/images",
        ),
        "rm": cli.Command(
            "oci-registry rm",
            "remove a tag, a manifest with its tags, or a repository",
            "DIR NAME...",
            (),
            rm,
            example="oci-registry rm /srv/images team/app:1.2",
        ),
        "gc": cli.Command(
            "oci-registry gc",
            "remove the blobs that nothing refers to, also while a server runs",
            "DIR",
            GC + LISTING,
            collect,
            example="oci-registry gc --grace 1440 /srv/images",
        ),
    },
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
