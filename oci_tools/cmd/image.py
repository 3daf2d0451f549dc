"""oci-image: images at rest in a layout."""

from __future__ import annotations

import os
import sys

from oci_tools import cli, fs
from oci_tools.errors import Error, Usage, printable
from oci_tools.image.words import CHANGES, edited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

FIELDS: cli.Option = ("--fields NAME[,NAME]...", "text", None, "the columns to list")
JSON: cli.Option = ("--json", "flag", False, "list JSON objects, one a line")
LOCK: cli.Option = ("--lock-timeout SECONDS", "int", 60, "how long to wait for another's change")
PLATFORM: cli.Option = ("--platform OS/ARCH[/VARIANT]", "text", None, "the image of an index to take")


# -- what words mean -----------------------------------------------------------------------


def _find(word: str) -> tuple[Layout, Descriptor]:
    """The image of a word: a name, a digest, or in the default store the beginning of an Id."""
    layout, found, _ = _look_up(word)
    return layout, found


def _look_up(word: str) -> tuple[Layout, Descriptor, str | None]:
    """The image of a word, and the name by which it was found; None for a digest or an Id."""
    from oci_tools.image import describe
    from oci_tools.image import digest as digests
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    try:
        place = refs.locate(word)
        layout = layouts.at(place)
        name = None if digests.valid(place.name) else place.name
        return layout, layout.find(place.name), name
    except Error as error:
        path, _, prefix = word.rpartition("@")
        try:
            layout = layouts.Layout.open(path or refs.store_path())
        except Error:
            raise _hinted(error, word) from None
        found = describe.by_id(layout, prefix)
        if found is None:
            raise _hinted(error, word) from None
        return layout, found, None


def _hinted(error: Error, word: str) -> Error:
    if error.hint is None and os.path.isdir(word.partition(":")[0]):
        error.hint = f"a layout is written ./{word}"
    return error


def _layout(word: str | None, make: bool = False) -> Layout | None:
    """The layout of a word without a name in it; None for a default store that is not there and not to be made."""
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    if word is None:
        there = make or os.path.exists(f"{refs.store_path()}/oci-layout")
        return layouts.store(make) if there else None
    place = refs.locate(word)
    if place.name is not None or place.kind not in ("layout", "store"):
        raise Usage("not a layout", word, hint="it is written as a path: ./img")
    return layouts.at(place, make)


def _wait(args: cli.Args) -> None:
    fs.LOCK_TIMEOUT = float(args.lock_timeout)


# -- lists -----------------------------------------------------------------------------------


def _ls(args: cli.Args) -> None:
    from oci_tools.image import describe
    from oci_tools.image import ref as refs

    fields = _fields(args, "name,digest", describe.COLUMNS)
    for word in args.image or [None]:
        if word is None or refs.locate(word).name is None:
            layout = _layout(word)
            entries = layout.index()["manifests"] if layout else []
        else:
            layout, found = _find(word)
            entries = [found]
        if args.json and args.fields is None:
            _list(entries, None)
        elif layout:
            _list((describe.row(layout, entry, fields) for entry in entries), None if args.json else fields)


def _fields(args: cli.Args, default: str, known: Iterable[str]) -> list[str]:
    fields: list[str] = (args.fields or default).split(",")
    for field in fields:
        if field not in known:
            raise Usage("no such field", field, hint=f"one of {', '.join(known)}")
    return fields


def _list(rows: Iterable[dict[str, Any]], fields: list[str] | None) -> None:
    """Records, one a line: fields between tabs, `-` for nothing; without fields JSON."""
    from oci_tools import document

    lines = []
    for row in rows:
        if fields is None:
            lines.append(document.dumps(row).decode())
        else:
            cells = ("-" if row[field] is None else printable(str(row[field])) for field in fields)
            lines.append("\t".join(cells))
    if lines:
        _say("\n".join(lines))


def _say(text: str) -> None:
    """A line on stdout; in it whatever bytes file names have."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _history(args: cli.Args) -> None:
    from oci_tools.image import describe, manifest

    fields = _fields(args, "created,size,digest,created_by", describe.HISTORY)
    layout, found = _find(args.image)
    _, chosen = manifest.choose(layout, found, args.platform)
    rows = describe.history(layout, chosen)
    _list(rows, None if args.json else fields)


# -- showing ---------------------------------------------------------------------------------


def _inspect(args: cli.Args) -> None:
    from oci_tools import document
    from oci_tools.image import describe

    for word in args.image:
        layout, found = _find(word)
        sys.stdout.buffer.write(document.dumps(describe.everything(layout, found, args.platform), indent=2))


def _cat(args: cli.Args) -> None:
    """The bytes of a manifest, or of any blob by its digest, verified as they pass."""
    from oci_tools.image import digest as digests
    from oci_tools.image import manifest

    layout, found = _blob(args.image) or _find(args.image)
    if args.platform:
        found, _ = manifest.choose(layout, found, args.platform)
    with digests.Verifier(layout.blob(found), found) as stream:
        while data := stream.read(1 << 20):
            sys.stdout.buffer.write(data)


def _blob(word: str) -> tuple[Layout, Descriptor] | None:
    """The blob of a digest, whatever it is and belongs to."""
    from oci_tools.image import digest as digests
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    place = refs.locate(word)
    if not digests.valid(place.name):
        return None
    layout = layouts.at(place)
    path = layout.blob_path(str(place.name))
    return (layout, {"digest": place.name, "size": os.stat(path).st_size}) if os.path.isfile(path) else None


# -- changing --------------------------------------------------------------------------------


def _tag(args: cli.Args) -> None:
    from oci_tools.image import layout as layouts

    _wait(args)
    layout, found = _find(args.image)
    names = [_new_name(layout, word) for word in args.name]
    for name in names:
        if not layouts.is_name(name):
            raise Usage("invalid image name", name)
    for name in names:
        layout.tag(name, found)


def _new_name(layout: Layout, word: str) -> str:
    """A name for an image of this layout, which may be said with the layout's path before it."""
    from oci_tools.image import ref as refs

    if word.startswith(("/", "./", "../", "oci:")):
        place = refs.locate(word)
        if os.path.realpath(place.path) != os.path.realpath(layout.path) or not place.name:
            raise Usage("not a name in the same layout", word, hint="oci-image copy")
        return place.name
    return str(refs.Ref.parse(word)) if layout.path == refs.store_path() else word


def _rm(args: cli.Args) -> None:
    """Take names away, by a digest whole images; all words are understood before anything changes."""
    from oci_tools.image import ref as refs

    _wait(args)
    gone = []
    for word in args.image:
        if os.path.exists(word) and refs.locate(word).kind != "store":
            raise Usage("which image of", word, hint=f"{word}:NAME")
        gone.append(_look_up(word))
    for layout, found, name in gone:
        if name is None:
            layout.remove(found["digest"])
        else:
            layout.untag(name)


def _config(args: cli.Args) -> None:
    from oci_tools import document
    from oci_tools.image import config as configs
    from oci_tools.image import layout as layouts
    from oci_tools.image import manifest

    _wait(args)
    layout, found = _find(args.image)
    _, old = manifest.choose(layout, found, args.platform)
    config = configs.load(layout, old)
    if not any(getattr(args, cli.dest(option)) for option in (TAG, *CHANGES)):
        sys.stdout.buffer.write(layout.read(old["config"]))
        return
    if manifest.is_index(found.get("mediaType")) and not args.tag:
        raise Usage("will not replace an index by one of its images", args.image, hint="--tag NAME")
    new = edited(config, args)
    if new != config and not args.no_history:
        new = configs.with_layer(new, None, configs.now(), "oci-image config")
    layout.hold()
    annotations = configs.annotated(old.get("annotations"), args.annotation)
    made = layout.put(document.dumps(new), old["config"].get("mediaType") or manifest.OCI_CONFIG)
    whole = {**old, "config": made, "annotations": annotations}
    if not annotations:
        del whole["annotations"]
    image = {**layout.put(document.dumps(whole), manifest.kind(old, {})), "platform": configs.platform(new)}
    layout.tag(layout.name_for(args.tag) if args.tag else layouts.ref_name(found), image)
    _say(layouts.handle(layout, image))


# -- housekeeping ----------------------------------------------------------------------------


def _gc(args: cli.Args) -> None:
    from oci_tools.image import gc

    _wait(args)
    layout = _layout(args.layout)
    if layout is None:
        return
    result = gc.collect(layout, _seconds(args.grace), args.dry_run)
    rows = [{"kind": "image", "digest": d.get("digest"), "size": d.get("size")} for d in result.images]
    rows += [{"kind": "blob", "digest": digest, "size": size} for digest, size in result.blobs.items()]
    _list(rows, None if args.json else ["kind", "digest", "size"])
    if result.kept:
        cli.say("oci-image", f"kept {result.kept} without a name for now (--grace 0 removes them)")


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(text: str) -> float:
    unit = UNITS.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdigit()):
        raise Usage("not a time", text, hint="a number with s, m, h or d")
    return float(digits) * (unit or 1)


def _fsck(args: cli.Args) -> int:
    from oci_tools.image import fsck

    layout = _layout(args.layout)
    found = list(fsck.check(layout, args.fast)) if layout else []
    _list([{"digest": d, "image": image or None, "problem": what} for d, what, image in found],
          None if args.json else ["digest", "image", "problem"])  # fmt: skip
    return 1 if found else 0


# -- in and out ------------------------------------------------------------------------------


def _save(args: cli.Args) -> None:
    from oci_tools.image import archive, manifest
    from oci_tools.image import layout as layouts

    found = [_find(word) for word in args.image]
    if len({layout.path for layout, _ in found}) > 1:
        raise Usage("images of different layouts do not go into one archive", hint="oci-image copy")
    layout = found[0][0]
    images = []
    for _, entry in found:
        name = layouts.ref_name(entry)
        images.append((name, manifest.choose(layout, entry, args.platform)[0] if args.platform else entry))
    if args.output not in (None, "-"):
        archive.write_file(layout, images, args.output)
        return
    if sys.stdout.isatty():
        raise Usage("will not write an archive to a terminal", hint="-o FILE")
    archive.write(layout, images, sys.stdout.buffer)


def _load(args: cli.Args) -> None:
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts

    _wait(args)
    layout = _layout(args.layout, make=True)
    assert layout is not None
    with layout:
        images = archive.read_file(args.archive or "-", layout)
        for name, descriptor in images:
            layout.tag(layout.name_for(name), descriptor)
        _say("\n".join(dict.fromkeys(layouts.handle(layout, descriptor) for _, descriptor in images)))


def _copy(args: cli.Args) -> None:
    from oci_tools.image import archive, manifest
    from oci_tools.image import copy as copying
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs
    from oci_tools.image.source import Source

    _wait(args)
    target = refs.locate(args.target)
    if target.kind == "registry":
        raise Usage("not a layout", args.target, hint="oci-push")
    with Source(args.image) as source:
        found = source.descriptor
        if args.platform:
            found, _ = manifest.choose(source.layout, found, args.platform)
        if target.kind in ("oci-archive", "docker-archive"):
            archive.write_file(source.layout, [(target.name or source.name, found)], target.path)
            _say(os.path.abspath(target.path))
            return
        with layouts.at(target, make=True) as layout:
            copying.copy(source.layout, found, layout)
            layout.tag(target.name or layout.name_for(source.name), found)
            _say(layouts.handle(layout, found))


# -- the command ------------------------------------------------------------------------------


def _verb(
    name: str, summary: str, usage: str, options: tuple[cli.Option, ...], run: Any, example: str
) -> cli.Command:
    return cli.Command(
        f"oci-image {name}", summary, usage, options, run, example=f"oci-image {name} {example}"
    )


TAG: cli.Option = ("-t --tag NAME", "text", None, "the name of the changed image, if not the same")
GRACE: cli.Option = ("--grace TIME", "text", "1h", "how long what lost its name stays: 90s, 10m, 1h, 7d")
OUTPUT: cli.Option = ("-o --output FILE", "text", None, "write there, not to standard output")
DRY: cli.Option = ("-n --dry-run", "flag", False, "only say what would be removed")
FAST: cli.Option = ("--fast", "flag", False, "leave the contents of layers alone")

COMMAND = cli.Command(
    "oci-image",
    "list, show, name, change, check, copy and remove images in a layout",
    verbs={
        "ls": _verb("ls", "list images", "[IMAGE...]", (FIELDS, JSON), _ls, "--fields name,platform,total ./img"),
        "inspect": _verb("inspect", "show all that is known of an image", "IMAGE...", (PLATFORM,), _inspect, "alpine"),
        "cat": _verb("cat", "show a manifest or blob, byte for byte", "IMAGE", (PLATFORM,), _cat, "./img:app"),
        "config": _verb("config", "show or change an image's configuration", "IMAGE", (TAG, *CHANGES, PLATFORM, LOCK),
                        _config, "-e DEBUG=1 --cmd '[\"sh\"]' ./img:app"),
        "history": _verb("history", "list the steps that made an image", "IMAGE", (FIELDS, JSON, PLATFORM),
                         _history, "alpine"),
        "tag": _verb("tag", "give an image more names", "IMAGE NAME...", (LOCK,), _tag, "./img:app stable"),
        "rm": _verb("rm", "take names away from images", "IMAGE...", (LOCK,), _rm, "./img:app"),
        "gc": _verb("gc", "remove what nothing leads to any more", "[LAYOUT]", (GRACE, DRY, JSON, LOCK), _gc, "./img"),
        "fsck": _verb("fsck", "check every digest, size and diff id", "[LAYOUT]", (FAST, JSON), _fsck, "./img"),
        "save": _verb("save", "write images as an archive", "IMAGE...", (OUTPUT, PLATFORM), _save, "alpine > a.tar"),
        "load": _verb("load", "read images from an archive", "[ARCHIVE [LAYOUT]]", (LOCK,), _load, "app.tar ./img"),
        "copy": _verb("copy", "copy an image to another layout or archive", "IMAGE TARGET", (PLATFORM, LOCK), _copy,
                      "./img:app app:1"),
    },
)  # fmt: skip


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
