"""oci-registry: a private registry over image layouts."""

from __future__ import annotations

import os

from oci_tools import cli
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.registry.storage import Repository, Storage

GC: tuple[cli.Option, ...] = (
    ("--grace MINUTES", "int", 60, "leave alone blobs that are younger, or were asked for since"),
    ("--retention FILE", "text", None, "which tags and manifests are kept for how long"),
    ("-n --dry-run", "flag", False, "only say what would be removed"),
)
SERVE: tuple[cli.Option, ...] = (
    ("--listen ADDRESS", "list", (), "HOST:PORT, [IPV6]:PORT, unix:PATH or fd:N; port 0: any that is free"),
    ("--tls-cert FILE", "text", None, "serve https with this certificate; read again when it changes"),
    ("--tls-key FILE", "text", None, "the certificate's key"),
    ("--client-ca FILE", "text", None, "let in clients whose certificates these authorities signed"),
    ("--htpasswd FILE", "text", None, "the users, with bcrypt passwords"),
    ("--ldap FILE", "text", None, "the directory that knows users and their passwords"),
    ("--oidc FILE", "text", None, "the OpenID provider that knows users"),
    ("--api-keys FILE", "text", None, "the keys that stand in for passwords"),
    ("--rules FILE", "text", None, "what which user may do in which repositories"),
    ("--anonymous-read", "flag", False, "everybody may pull"),
    ("--auth HOW", ("basic", "token"), "basic", "how clients log in: each time, or for tokens at /token"),
    ("--token-key FILE", "text", None, "what signs tokens, so that servers can share it"),
    ("--token-realm URL", "text", None, "where clients get tokens, instead of here"),
    ("--token-service NAME", "text", None, "what those tokens are for: this registry, as it is called there"),
    ("--token-trust FILE", "list", (), "public keys or certificates of who issues them"),
    ("--token-issuer NAME", "text", None, "who issues them, if that matters"),
    ("--url URL", "text", None, "how clients reach this server, if not as they say"),
    ("--read-only", "flag", False, "change nothing"),
    ("--delete", "flag", True, "let clients delete tags, manifests and blobs"),
    ("--immutable-tags", "flag", False, "refuse to give a tag to another manifest"),
    ("--sparse-index", "flag", False, "accept an index some of whose manifests are not here"),
    ("--max-repositories N", "int", 0, "make no more repositories than that"),
    ("--rate N", "int", 0, "answer each client that many requests a second"),
    ("--upstream PREFIX=PLACE", "list", (), "fill the repositories below PREFIX from another registry"),
    ("--upstream-ttl SECONDS", "int", 300, "how long a tag from there is not looked up again"),
    ("--authfile FILE", "text", None, "credentials for upstreams, instead of the usual ones"),
    ("--gc MINUTES", "int", 0, "collect garbage each time that many minutes have passed"),
    *GC[:2],
    ("--access-log", "flag", False, "write each request as a line of JSON to standard error"),
    ("--metrics", "flag", False, "count what is done, for prometheus, at /metrics"),
    ("--webhook URL", "list", (), "tell this address of each push, pull and delete"),
    ("--stop-timeout SECONDS", "int", 10, "how long requests in flight may take at the end"),
)
KEY: tuple[cli.Option, ...] = (
    ("--days N", "int", 90, "how long it is good; 0: without end"),
    ("--scope REPOSITORIES:ACTION,...", "list", (), "what it is good for, within what its user may"),
    ("--group NAME", "list", (), "a group in which its user is"),
    ("--label TEXT", "text", "", "what it is for"),
)
LISTING: tuple[cli.Option, ...] = (
    ("--fields NAME[,NAME]...", "text", None, "the columns to list"),
    ("--json", "flag", False, "list JSON objects, one a line"),
)


def serve(args: cli.Args) -> None:
    from oci_tools.registry import serve
    from oci_tools.registry.words import at_least

    at_least(args, 0, "max_repositories", "rate", "upstream_ttl", "stop_timeout")
    at_least(args, 0, "gc", "grace", most=1 << 26)
    if args.tls_key and not args.tls_cert:
        raise Usage("a key is for a certificate", hint="add --tls-cert")
    serve.serve(args, lambda text: cli.say("oci-registry", text))


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
    """One line for each thing that was removed: repository, tag, digest, bytes."""
    from oci_tools.registry import retention
    from oci_tools.registry.words import at_least

    at_least(args, 0, "grace", most=1 << 26)
    for row in retention.collect(_storage(args.dir), retention.load(args.retention), args.grace * 60.0, args.dry_run):
        if not args.json and not args.fields:
            row = {**row, "tag": row["tag"] or "-"}
        _row(args, row)


# -- keys ----------------------------------------------------------------------------------


def key_add(args: cli.Args) -> None:
    """The key: it is nowhere else."""
    from oci_tools.registry import apikeys
    from oci_tools.registry.words import at_least

    at_least(args, 0, "days", most=36500)
    print(apikeys.add(args.file, args.user, days=args.days, scopes=args.scope, label=args.label, groups=args.group))


def key_ls(args: cli.Args) -> None:
    """One line a key: id, user, when it ends, its scopes, its label."""
    from oci_tools.registry import apikeys

    for key in apikeys.load(args.file).values():
        row = {name: key.found.get(name) for name in ("id", "user", "expires", "scopes", "label")}
        if not args.json:
            row["scopes"] = " ".join(row["scopes"] or ())
            row = {name: value or "-" for name, value in row.items()}
        _row(args, row)


def key_rm(args: cli.Args) -> None:
    """Keys by their ids, or all of users."""
    from oci_tools.registry import apikeys

    words = list(args.key)
    if args.user and words or not (args.user or words):
        raise Usage("either keys or users are named")
    if not os.path.exists(args.file):
        raise Error("no such file", args.file)
    gone = apikeys.remove(args.file, lambda key: key.id in words or key.user in args.user)
    missing = [*(word for word in words if word not in {key.id for key in gone}),
               *(user for user in args.user if user not in {key.user for key in gone})]  # fmt: skip
    if missing:
        raise Error("no such key", missing[0])


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


_KEY = {
    "add": cli.Command("oci-registry key add", "make a key for a user, and print it", "FILE USER", KEY, key_add,
                       example="oci-registry key add --scope team/**:pull --days 30 keys ci"),
    "ls": cli.Command("oci-registry key ls", "list keys: id, user, end, scopes, label", "FILE", LISTING, key_ls,
                      example="oci-registry key ls keys"),
    "rm": cli.Command("oci-registry key rm", "take keys back", "FILE [KEY...]",
                      (("--user NAME", "list", (), "all keys of this user"),), key_rm,
                      example="oci-registry key rm keys 4f1c02a9b7de"),
}  # fmt: skip

COMMAND = cli.Command(
    "oci-registry",
    "a private registry over image layouts",
    example="oci-registry serve --listen 127.0.0.1:5000 ./repositories",
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
        "key": cli.Command("oci-registry key", "make, list and take back keys that stand in for passwords",
                           verbs=_KEY, example=_KEY["add"].example),
        "gc": cli.Command(
            "oci-registry gc",
            "remove what nothing refers to and no rule keeps, also while a server runs",
            "DIR",
            GC + LISTING,
            collect,
            example="oci-registry gc --grace 1440 /srv/images",
        ),
    },
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
