"""oci-vol: named directories that outlive containers."""

from __future__ import annotations

import os
import stat
import sys

from oci_tools import cli
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from typing import Any

    from oci_tools.volume import Volume

_FIELDS = tuple("name driver type size limit refs created labels mountpoint anonymous readonly".split())
_SIZES = "name,size,limit,refs"
_FILTERS = ("name", "label", "driver", "dangling", "until")


def _create(args: cli.Args) -> None:
    from oci_tools import volume

    if args.driver not in ("local", "image", ""):
        raise Error("no such volume driver", args.driver, "there are local and image")
    options = {**cli.pairs(args.opt, "--opt"), **_private(args.opt_fd)}
    if args.size:
        options["size"] = args.size
    labels = cli.pairs(args.label, "--label")
    anonymous = args.name is None
    if anonymous:
        labels["com.docker.volume.anonymous"] = ""
    name = volume.unnamed() if anonymous else args.name
    if args.driver == "image":
        print(_of_image(name, options, labels, anonymous).name)
    else:
        print(volume.create(name, options, labels, anonymous).name)


def _of_image(name: str, options: dict[str, str], labels: dict[str, str], anonymous: bool) -> Volume:
    """One that begins with what an image has (podman's driver of that name)."""
    from oci_tools import bundle, volume
    from oci_tools.bundle import flat
    from oci_tools.container import image as images
    from oci_tools.image.source import Source
    from oci_tools.layer import owner
    from oci_tools.layer.limits import Limits

    others = set(options) - {"image"}
    if others:
        raise Usage("invalid volume option", min(others), hint="of driver image there is image=IMAGE alone")
    if not options.get("image"):
        raise Usage("missing volume option", "image")

    def fill(directory: str) -> None:
        with Source(images.bring(options["image"], "missing")) as source:
            whole = flat.Flat(bundle.Image(source.layout, source.descriptor, None, source.name), Limits())
            flat.unpack(whole, "/", whole.find("/"), directory, owner.for_process(_warn))

    return volume.of_image(name, options["image"], labels, anonymous, fill)


def _private(fd: int | None) -> dict[str, str]:
    """Options with passwords in them, which everybody could see among our words."""
    from oci_tools import document

    if fd is None:
        return {}
    try:
        with open(fd, "rb", closefd=False) as file:
            found = document.loads(file.read(1 << 20), "--opt-fd")
    except OSError as error:
        raise Error("cannot read --opt-fd", fd, error) from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Usage("invalid value for --opt-fd", fd, "what it has is no object of strings")
    return found


def _ls(args: cli.Args, sized: bool = False) -> None:
    from oci_tools import rows, volume
    from oci_tools.volume import users

    usual = _SIZES if sized else "name" if args.quiet else "name,driver,type,refs"
    fields = None if args.json else rows.fields(args, usual, _FIELDS)
    used = users.all_users()
    chosen = _chosen(args.filter, used)
    there = [each for each in volume.everything() if chosen(each)]
    rows.show((_row(each, used.get(each.name, []), fields, sized) for each in there), fields)


def _row(volume: Volume, used: list[str], fields: list[str] | None, sized: bool) -> dict[str, Any]:
    from oci_tools.volume import change, room

    if fields is None:
        return change.document(volume, used, sized)
    made = volume.backing
    limit = room.used(volume)
    return {
        "name": volume.name, "driver": volume.driver, "type": made.type or made.kind,
        "size": change.size(volume) if "size" in fields else None,
        "limit": (limit[1] if limit else made.size) or None, "refs": len(used),
        "created": change.document(volume)["CreatedAt"],
        "labels": ",".join(f"{name}={value}" for name, value in sorted(volume.record["labels"].items())),
        "mountpoint": volume.data, "anonymous": str(volume.anonymous).lower(),
        "readonly": str(volume.readonly).lower(),
    }  # fmt: skip


def _chosen(words: list[str], used: dict[str, list[str]]) -> Callable[[Volume], bool]:
    """Whether a volume passes all filters; of several with one key one is enough, save for labels."""
    import time

    wanted: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        negated = key.endswith("!")
        if key.rstrip("!") not in _FILTERS or not equals or (negated and key != "label!"):
            raise Usage("invalid filter", word, hint=f"one of {', '.join(_FILTERS)}")
        wanted.setdefault(key, []).append(value)
    names = [_pattern(text) for text in wanted.get("name", ())]
    now = time.time_ns()
    before = [now - _seconds(text) * 1_000_000_000 for text in wanted.get("until", ())]

    def has(volume: Volume, label: str) -> bool:
        name, equals, value = label.partition("=")
        labels = volume.record["labels"]
        return name in labels and (not equals or labels[name] == value)

    def passes(volume: Volume) -> bool:
        dangling = [_boolean(value) for value in wanted.get("dangling", ())]
        return (
            (not names or any(each.search(volume.name) for each in names))
            and volume.driver in wanted.get("driver", [volume.driver])
            and (not dangling or (volume.name not in used) in dangling)
            and all(has(volume, label) for label in wanted.get("label", ()))
            and not any(has(volume, label) for label in wanted.get("label!", ()))
            and all(volume.record["created"] < then for then in before)
        )

    return passes


def _pattern(text: str) -> re.Pattern[str]:
    """A regular expression that is looked for in a name, as docker and podman have it."""
    import re

    try:
        return re.compile(text)
    except re.error as error:
        raise Usage("invalid filter", f"name={text}", str(error)) from None


def _boolean(text: str) -> bool:
    if text.lower() not in cli.BOOLEANS:
        raise Usage("invalid filter", f"dangling={text}", "true or false")
    return cli.BOOLEANS[text.lower()]


def _seconds(text: str) -> int:
    """How long ago: 90, 90s, 10m, 1h30m, 2d; or a time of the clock since 1970 in seconds."""
    import time

    units, total, digits = {"s": 1, "m": 60, "h": 3600, "d": 86400}, 0, ""
    for letter in text if text[-1:] in units else f"{text}s":
        if letter.isascii() and letter.isdigit():
            digits += letter
        elif letter in units and digits:
            total, digits = total + int(digits) * units[letter], ""
        else:
            raise Usage("not a time", text, hint="like 24h, 10m or 1h30m")
    return total if total < 1_000_000_000 else int(time.time()) - total


def _inspect(args: cli.Args) -> int:
    from oci_tools import document
    from oci_tools import volume as volumes
    from oci_tools.volume import change, users

    used = users.all_users()
    found: list[dict[str, Any]] = []

    def look(name: str) -> None:
        found.append(change.document(volumes.load(name), used.get(name, []), args.size))

    code = cli.each("oci-vol", args.name, look)
    if args.json:
        print("".join(f"{document.dumps(each).decode()}\n" for each in found), end="")
    else:
        print(document.dumps(found, indent=2).decode())
    return code


def _rm(args: cli.Args) -> int:
    from oci_tools import volume as volumes
    from oci_tools.volume import change

    def remove(name: str) -> None:
        if args.force and volumes.find(name) is None:
            return
        change.remove(name)
        print(name)

    return cli.each("oci-vol", args.name, remove)


def _prune(args: cli.Args) -> None:
    from oci_tools import rows
    from oci_tools.volume import change

    chosen = _chosen(args.filter, {})
    gone = change.prune(lambda volume: (args.all or volume.anonymous) and chosen(volume))
    found = [{"name": name, "size": size} for name, size in gone]
    rows.show(found, None if args.json else ["name", "size"])


def _path(args: cli.Args) -> None:
    from oci_tools import volume

    print(volume.load(args.name).data)


def _export(args: cli.Args) -> None:
    from oci_tools.volume import stream

    with _told(args, "export", "send", 0) as told:
        stream.export(args.name, None if args.output in (None, "-") else args.output, _warn, told.tell)


def _import(args: cli.Args) -> None:
    from oci_tools.image.watch import Stream
    from oci_tools.volume import stream

    if args.archive in (None, "-"):
        if sys.stdin.isatty():
            raise Usage("an archive does not come from a terminal", hint="give a file, or a pipe")
        source = sys.stdin.buffer
    else:
        try:
            source = open(args.archive, "rb")  # noqa: SIM115 - read to its end, and then the process ends
        except OSError as error:
            raise Error("cannot open", args.archive, error) from None
    seen = os.fstat(source.fileno())
    with _told(args, "import", "get", seen.st_size if stat.S_ISREG(seen.st_mode) else 0) as told:
        stream.import_(args.name, Stream(source, told.tell) if told.tell else source, args.replace, _warn)
    print(args.name)


class _told:
    """How far it is, for people or on --status-fd, in a `with` block; `tell` is None where nobody asks."""

    def __init__(self, args: cli.Args, op: str, state: str, total: int) -> None:
        from oci_tools.registry.progress import Progress

        self._progress = Progress(op, args.progress, args.status_fd)
        self._name, self._state, self._total = args.name, state, total
        self._count = 0
        self.tell = None if self._progress.quiet else self._moved

    def _moved(self, count: int) -> None:
        self._count = count
        self._progress.tell(self._name, self._state, count, self._total)

    def __enter__(self) -> _told:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._progress.tell(self._name, "done", self._count, self._count)
        self._progress.__exit__(kind, *rest)


def _clone(args: cli.Args) -> None:
    from oci_tools.volume import change

    change.clone(args.name, args.new, args.snapshot, cli.pairs(args.label, "--label"), _warn)
    print(args.new)


def _rename(args: cli.Args) -> None:
    from oci_tools.volume import change

    change.rename(args.name, args.new)
    print(args.new)


def _df(args: cli.Args) -> None:
    _ls(args, sized=True)


def _warn(text: str) -> None:
    cli.say("oci-vol", f"warning: {text}")


_JSON = ("--json", "flag", False, "JSON lines, as docker's API has volumes")
_FIELDS_OPTION = ("--fields NAME,...", "text", None, "columns to show")
_FILTER = ("--filter KEY=VALUE", "list", (), "only those with name=, label=, label!=, driver=, dangling= or until=")
_PROGRESS = (
    ("--progress HOW", ("auto", "plain", "none", "json"), "auto", "progress on standard error (auto: a terminal)"),
    ("--status-fd N", "int", None, "write progress as JSON lines to this descriptor"),
)
_LABEL = ("--label NAME=VALUE", "list", (), "say more of the volume")


def _verb(run: Any, summary: str, usage: str, options: tuple[Any, ...], example: str) -> cli.Command:
    name = run.__name__.strip("_")
    return cli.Command(f"oci-vol {name}", summary, usage, options, run, example=f"oci-vol {name} {example}".rstrip())


COMMAND = cli.Command(
    "oci-vol",
    "volumes: named directories that outlive containers",
    example="oci-vol export db | zstd > db.tar.zst",
    verbs={
        "create": _verb(_create, "make a volume, and print its name", "[NAME]", (
            ("-d --driver NAME", "text", "local", "local, or image: it begins with what --opt image=IMAGE has"),
            ("-o --opt NAME=VALUE", "list", (), "type=, device=, o= as mount(8) has them; size="),
            ("--opt-fd N", "int", None, "more such options, a JSON object, from this descriptor"),
            ("--size SIZE", "text", None, "how much it may hold, like 10g"),
            _LABEL,
        ), "--size 10g db"),
        "ls": _verb(_ls, "list volumes", "", (
            ("-q --quiet", "flag", False, "only names"), _FILTER, _FIELDS_OPTION, _JSON), "--filter dangling=true"),
        "inspect": _verb(_inspect, "show all that is known of volumes", "NAME...", (
            ("-s --size", "flag", False, "and how large they are"), _JSON), "db"),
        "rm": _verb(_rm, "remove volumes that no container uses", "NAME...", (
            ("-f --force", "flag", False, "none of that name is no error"),), "db"),
        "prune": _verb(_prune, "remove unnamed volumes that no container uses", "", (
            ("-a --all", "flag", False, "named ones as well"), cli.FORCE, _FILTER, _JSON), "--filter until=24h"),
        "path": _verb(_path, "print where a volume's files are", "NAME", (), "db"),
        "export": _verb(_export, "write all that is in a volume as a tar stream", "NAME", (
            ("-o --output FILE", "text", None, "to FILE, not to stdout"), *_PROGRESS), "db | zstd > db.tar.zst"),
        "import": _verb(_import, "make a volume of a tar stream, plain or compressed", "NAME [ARCHIVE]", (
            ("--replace", "flag", False, "empty the volume first"), *_PROGRESS), "db < db.tar"),
        "clone": _verb(_clone, "copy a volume, its bytes shared where the file system can", "NAME NEW", (
            ("--snapshot", "flag", False, "the new one can only be read"), _LABEL), "db db-test"),
        "rename": _verb(_rename, "give a volume that no container uses another name", "NAME NEW", (), "db db-old"),
        "df": _verb(_df, "list volumes with their sizes", "", (_FILTER, _FIELDS_OPTION, _JSON), ""),
    },
)  # fmt: skip


# Of these a volume's files are read or changed; of `df` and `prune` those of all.
_FILES = ("inspect", "rm", "export", "import", "clone", "rename")
_ALL = ("df", "prune")


def main(words: list[str]) -> int:
    """Files of a plain user's containers on networks have ids of theirs: what is about these goes on where he is root
    over them."""
    if os.geteuid() == 0 or "--help" in words or not _has_ids(words):
        return cli.main(COMMAND, words)
    from oci_tools.container import shared

    try:
        shared.go(words)
    except Error as error:
        cli.say("oci-vol", error)
        return error.code


def _has_ids(words: list[str]) -> bool:
    from oci_tools import volume as volumes

    if words[:1] and words[0] in _ALL:
        return any(volumes.is_marked(name) for name in volumes.names())
    named = [word for word in words[1:] if "/" not in word] if words and words[0] in _FILES else []
    return any(volumes.is_marked(name) for name in named)
