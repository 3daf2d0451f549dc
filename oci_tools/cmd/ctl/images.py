"""Verbs of images."""

from __future__ import annotations

import os
import sys

from oci_tools import cli, document
from oci_tools.cmd.ctl import output, sending
from oci_tools.cmd.ctl.containers import all_of, filters, write
from oci_tools.cmd.ctl.engine import Engine, part
from oci_tools.cmd.ctl.running import one
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.cli import Args

Engines = list[Engine]


def ls(args: Args, engines: Engines) -> None:
    query = {
        "all": args.all,
        "filters": filters([*args.filter, *([f"reference={args.name}"] if args.name else [])]),
    }
    found = [
        {**image, "Name": name}
        for image in all_of(engines, lambda engine: engine.get("/images/json", query))
        for name in image["RepoTags"] or ["<none>:<none>"]
    ]
    columns: list[output.Column] = [
        ("repository", lambda record: record["Name"].rpartition(":")[0]),
        ("tag", lambda record: record["Name"].rpartition(":")[2]),
        ("id", lambda record: _id(record["Id"], args.no_trunc)),
        ("created", lambda record: _when(record["Created"])),
        ("size", lambda record: record["Size"]),
    ]
    output.rows(args, found, columns, len(engines) > 1)


def _id(text: str, whole: bool) -> str:
    return text if whole else text.partition(":")[2][:12]


def _when(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# -- to and fro ------------------------------------------------------------------------------------


def pull(args: Args, engines: Engines) -> None:
    for engine in engines:
        for name in args.image:
            pull_one(engine, name, args.platform, args.quiet, args.all_tags)


def pull_one(engine: Engine, name: str, platform: str, quiet: bool, everything: bool = False) -> None:
    has = "@" in name or ":" in name.rpartition("/")[2]
    query = {"fromImage": name, "tag": None if has or everything else "latest", "platform": platform}
    _told(engine, "/images/create", query, _auth(name), quiet)
    if not quiet or sys.stdout.isatty():
        print(name if has else f"{name}:latest", flush=True)


def push(args: Args, engines: Engines) -> None:
    engine = one(engines)
    for name in args.image:
        repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
        query = {"tag": None if args.all_tags else tag}
        _told(engine, f"/images/{part(repository)}/push", query, _auth(name), args.quiet)


def _told(
    engine: Engine, path: str, query: dict[str, Any], headers: list[tuple[str, str]], quiet: bool
) -> None:
    """Show the progress of something on standard error; raise what it says went wrong."""
    for said in engine.lines(engine.ask("POST", path, query, None, headers)):
        if "error" in said:
            raise Error(str(said["error"]))
        moving = said.get("progress")
        if not quiet and "status" in said and (not moving or sys.stderr.isatty()):
            line = f"{said['id']}: {said['status']}" if said.get("id") else str(said["status"])
            end = "\r" if moving else "\n"
            sys.stderr.write(
                f"{output.clean(line)} {moving or ''}".rstrip()
                + ("\x1b[K" if sys.stderr.isatty() else "")
                + end
            )
    sys.stderr.flush()


def _auth(name: str) -> list[tuple[str, str]]:
    """X-Registry-Auth with what we know of the registry of a name, in the files that docker and podman keep."""
    from binascii import b2a_base64

    from oci_tools.image import ref as refs
    from oci_tools.registry.credentials import Credentials

    place = refs.locate(name)
    if place.ref is None:
        return []
    found = Credentials().find(place.ref.host, place.ref.repository)
    if found is None:
        return []
    said = {"username": found.user, "password": found.password, "identitytoken": found.identity,
            "serveraddress": place.ref.host}  # fmt: skip
    text = b2a_base64(
        document.dumps({key: value for key, value in said.items() if value}), newline=False
    ).decode()
    return [("X-Registry-Auth", text.replace("+", "-").replace("/", "_"))]


def login(args: Args, engines: Engines) -> None:
    """Have the engine try a name and password, and keep them here, where docker and podman do."""
    import getpass

    from oci_tools.registry.credentials import Credential, Credentials

    host = args.server or "docker.io"
    user = args.username or (input("Username: ") if sys.stdin.isatty() else "")
    if not user:
        raise Error("cannot log in to", host, "no user is named", "--username NAME")
    typed = sys.stdin.isatty() and not args.password_stdin
    password = getpass.getpass() if typed else sys.stdin.readline().rstrip("\r\n")
    one(engines).post("/auth", None, {"username": user, "password": password, "serveraddress": host})
    print(Credentials().store(host, Credential(user, password)))


def logout(args: Args, engines: Engines) -> None:
    from oci_tools.registry.credentials import Credentials

    print(Credentials().drop(args.server or "docker.io"))


def save(args: Args, engines: Engines) -> None:
    write(args.output, one(engines).ask("GET", "/images/get", {"names": args.image}).pieces())


def load(args: Args, engines: Engines) -> None:
    for said in _sent(one(engines), "/images/load", {}, args.input):
        print(str(said.get("stream", "")).strip(), flush=True)


def import_(args: Args, engines: Engines) -> None:
    repository, _, tag = (
        (args.image or "").rpartition(":")
        if ":" in (args.image or "").rpartition("/")[2]
        else (args.image, "", "")
    )
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "message": args.message, "changes": args.change}
    for said in _sent(one(engines), "/images/create", query, args.file):
        print(str(said.get("status", "")).strip(), flush=True)


def _sent(engine: Engine, path: str, query: dict[str, Any], file: str | None) -> Iterator[dict[str, Any]]:
    """Send a file, or standard input, and give what the engine says."""
    try:
        fd = 0 if file in (None, "-") else os.open(str(file), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot open", file, error) from None
    for said in engine.lines(engine.ask("POST", path, query, sending.read(fd), sending.TAR)):
        if "error" in said:
            raise Error(str(said["error"]))
        yield said


def build(args: Args, engines: Engines) -> int:
    """Send a directory as the context, and show the engine's build."""
    from oci_tools.cmd.ctl.context import packed

    query: dict[str, Any] = {
        "t": args.tag, "dockerfile": None, "buildargs": _arguments(args.build_arg) or None,
        "labels": cli.pairs(args.label, "--label") or None,
        "target": args.target, "nocache": args.no_cache, "pull": args.pull, "networkmode": args.network,
        "platform": args.platform, "rm": True, "extrahosts": ",".join(args.add_host), "shmsize": None,
    }  # fmt: skip
    body, query["dockerfile"] = packed(args.directory, args.file)
    image, engine = "", one(engines)
    headers = [("Content-Type", "application/x-tar")]
    for said in engine.lines(engine.ask("POST", "/build", query, body, headers)):
        if "error" in said:
            error = Error(str(said["error"]))
            error.code = 1
            raise error
        image = (said.get("aux") or {}).get("ID") or image
        if not args.quiet and "stream" in said:
            sys.stderr.write(said["stream"])
    if image:
        print(image)
    return 0


def _arguments(words: list[str]) -> dict[str, str | None]:
    """--build-arg NAME=VALUE; NAME alone has the value it has here, None for none."""
    found: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        found[name] = value if equals else os.environ.get(name)
    return found


# -- names ----------------------------------------------------------------------------------------


def tag(args: Args, engines: Engines) -> None:
    repository, _, name = (
        args.name.rpartition(":") if ":" in args.name.rpartition("/")[2] else (args.name, "", "latest")
    )
    one(engines).post(f"/images/{part(args.image)}/tag", {"repo": repository, "tag": name})


def rmi(args: Args, engines: Engines) -> int:
    def remove(word: str) -> None:
        query = {"force": args.force, "noprune": args.no_prune}
        for said in one(engines).delete(f"/images/{part(word)}", query):
            kind, name = next(iter(said.items()))
            print(f"{kind}: {name}", flush=True)

    return cli.each("oci-ctl", args.image, remove)


def history(args: Args, engines: Engines) -> None:
    found = one(engines).get(f"/images/{part(args.image)}/history")
    columns: list[output.Column] = [
        (
            "id",
            lambda record: record["Id"] if record["Id"].startswith("<") else _id(record["Id"], args.no_trunc),
        ),
        ("created", lambda record: _when(record["Created"])),
        ("created_by", lambda record: record["CreatedBy"]),
        ("size", lambda record: record["Size"]),
        ("comment", lambda record: record["Comment"]),
    ]
    output.rows(args, found, columns, False)


def prune(args: Args, engines: Engines) -> None:
    wanted = {**(filters(args.filter) or {}), "dangling": ["false" if args.all else "true"]}
    for engine in engines:
        for said in engine.post("/images/prune", {"filters": wanted}).get("ImagesDeleted") or ():
            kind, name = next(iter(said.items()))
            print(f"{kind}: {name}")
