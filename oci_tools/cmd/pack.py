"""oci-pack: a tree, an archive, or what changed in a bundle becomes an image."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools.errors import Error, Usage
from oci_tools.image import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.bundle import pack
    from oci_tools.image.layout import Descriptor, Layout

OPTIONS: tuple[cli.Option, ...] = (
    ("--base IMAGE", "text", None, "the image to put the layer on; a bundle has its own"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "what the image is for, or which of the base's to take"),
    ("--compression KIND", ("gzip", "zstd", "none"), None, "of the layer: as the one below, else gzip"),
    ("--level N", "int", None, "of the compression: gzip 1 to 9 (3), zstd 1 to 19 (3)"),
    ("--mask PATH", "list", (), "leave this path out, with all that is in it"),
    ("--volumes", "flag", False, "pack what is in the image's volumes too"),
    ("--comment TEXT", "text", "", "what the history tells"),
    ("--limit NAME=N", "list", (), "change a limit of what an archive may ask for, as for oci-unpack"),
    *words.CHANGES,
)


def run(args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    place = refs.locate(args.image)
    if place.kind not in ("layout", "store"):
        raise Usage("not a place in a layout", args.image)
    name = place.name_for(place.ref or refs.Ref.parse("image"))
    with layouts.at(place, make=True) as layout:
        made = _pack(args, layout)
        layout.tag(name, made)
        sys.stdout.write(f"{layouts.handle(layout, made)}\n")


def _pack(args: cli.Args, layout: Layout) -> Descriptor:
    from oci_tools import bundle
    from oci_tools.bundle import pack, subordinate
    from oci_tools.layer.limits import Limits

    options = _options(args)
    if args.tree != "-" and os.path.isdir(args.tree):
        if bundle.is_bundle(args.tree):
            if args.base or args.platform:
                raise Usage("a bundle has its own base", args.tree)
            maps = subordinate.maps_in(bundle.record(args.tree))
            made: Descriptor = subordinate.inside(maps, lambda: pack.changes(args.tree, layout, options))
            return made
        _leave_out(args.tree, layout, options)
        return pack.tree(args.tree, layout, _base(args, layout), options)
    try:
        fd = 0 if args.tree == "-" else os.open(args.tree, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot open", args.tree, error) from None
    with open(fd, "rb", buffering=0, closefd=fd != 0) as stream:
        return pack.archive(stream, layout, _base(args, layout), options, Limits.parse(args.limit))


def _leave_out(tree: str, layout: Layout, options: pack.Options) -> None:
    """A layout that is itself in the tree must not be packed into itself."""
    top, place = os.path.realpath(tree), os.path.realpath(layout.path)
    if top == place:
        raise Usage("cannot pack a layout into itself", tree)
    if os.path.commonpath([top, place]) == top:
        options.masks.append(os.fsencode(os.path.relpath(place, top)))
        cli.say("oci-pack", f"warning: the layout '{layout.path}' is left out")


def _base(args: cli.Args, layout: Layout) -> pack.Base:
    from oci_tools import bundle
    from oci_tools.bundle import pack
    from oci_tools.image import copy
    from oci_tools.image.source import Source

    if args.base is None:
        return pack.Base(None, args.platform)
    if args.base == "-":
        raise Usage("the base cannot come from standard input")
    with Source(args.base) as source:
        found = bundle.Image(source.layout, source.descriptor, args.platform)
        copy.copy(source.layout, found.descriptor, layout)
        return pack.Base(bundle.Image(layout, found.descriptor))


def _options(args: cli.Args) -> pack.Options:
    from oci_tools.bundle import pack

    options = pack.Options()
    options.compression, options.level = args.compression, args.level
    options.epoch = _epoch()
    options.edit = lambda config: words.edited(config, args)
    options.annotations = args.annotation
    options.history, options.comment = not args.no_history, args.comment
    options.masks = [os.fsencode(path) for path in args.mask]
    options.volumes = args.volumes
    options.warn = lambda text: cli.say("oci-pack", f"warning: {text}")
    return options


def _epoch() -> int | None:
    """reproducible-builds.org, "SOURCE_DATE_EPOCH"."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Error("not a time", text, hint="SOURCE_DATE_EPOCH is seconds since 1970", code=2)
    return int(text)


COMMAND = cli.Command(
    "oci-pack",
    "pack a tree, a tar archive, or the changes of a bundle as an image",
    "TREE IMAGE",
    OPTIONS,
    run,
    example="tar -c tree | oci-pack - ./img:app",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
