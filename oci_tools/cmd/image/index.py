"""The verbs of `oci-image index`: create, add, rm, annotate."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.cmd.image.find import Anywhere, find, wait
from oci_tools.rows import say
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout


def create(args: cli.Args) -> None:
    from oci_tools.image import config as configs
    from oci_tools.image import index, manifest
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    wait(args)
    place = refs.locate(args.index)
    if place.kind not in ("layout", "store"):
        raise Usage("not a layout", args.index, hint="oci-image copy brings an index into an archive")
    if place.name is None:
        raise Usage("which name in", args.index, hint=f"{args.index}:NAME")
    with layouts.at(place, make=True) as layout:
        entries: list[Descriptor] = []
        for new in _entries(layout, args.image, args.nest):
            entries = index.added(entries, new, beside=True)
        annotations = configs.annotated(None, args.annotation)
        made = index.put(layout, manifest.new_index(entries, annotations or None))
        layout.tag(place.name, made)
        say(layouts.handle(layout, made))


def _entries(layout: Layout, words: Iterable[str], nest: bool) -> list[Descriptor]:
    """The entries for images, each of which is brought into the layout first."""
    from oci_tools.image import copy, index

    made: list[Descriptor] = []
    for word in words:
        with Anywhere(word) as source:
            if source.layout.path != layout.path:
                copy.copy(source.layout, source.descriptor, layout)
            found = source.descriptor
            made += [index.entry(layout, found)] if nest else index.flat(layout, found)
    return made


def _edit(args: cli.Args, layout: Layout, found: Descriptor, change: Callable[[Any], Any]) -> None:
    from oci_tools.image import index
    from oci_tools.image import layout as layouts

    say(layouts.handle(layout, index.edit(layout, found, change)))


def add(args: cli.Args) -> None:
    from oci_tools.image import config as configs
    from oci_tools.image import index, manifest

    wait(args)
    layout, found = find(args.index)
    with layout.hold():
        new = _entries(layout, args.image, args.nest)
        if args.platform and len(new) > 1:
            raise Usage("--platform is for one image", hint=f"there are {len(new)}")
        platform = {"platform": manifest.parse_platform(args.platform)} if args.platform else {}
        annotations = configs.annotated(None, args.annotation)
        if annotations:
            new = [{**one, "annotations": {**(one.get("annotations") or {}), **annotations}} for one in new]

        def change(old: dict[str, Any]) -> dict[str, Any]:
            entries = old["manifests"]
            for one in new:
                entries = index.added(entries, {**one, **platform}, args.beside)
            return {**old, "manifests": entries}

        _edit(args, layout, found, change)


def rm(args: cli.Args) -> None:
    from oci_tools.image import index

    wait(args)
    layout, found = find(args.index)

    def change(old: dict[str, Any]) -> dict[str, Any]:
        for what in args.entry:
            index.matching(old["manifests"], what)  # all are there before one goes: two may be the same
        entries = old["manifests"]
        for what in args.entry:
            try:
                entries = index.removed(entries, what)
            except Error:
                continue
        return {**old, "manifests": entries}

    _edit(args, layout, found, change)


def annotate(args: cli.Args) -> None:
    from oci_tools.image import config as configs
    from oci_tools.image import index, manifest

    wait(args)
    if not (args.annotation or args.platform):
        raise Usage("nothing to change", hint="--annotation NAME=VALUE, or --platform of an entry")
    if args.platform and not args.entry:
        raise Usage("which entry is of", args.platform, hint="its digest")
    layout, found = find(args.index)
    platform = {"platform": manifest.parse_platform(args.platform)} if args.platform else {}

    def annotated(old: dict[str, Any]) -> dict[str, Any]:
        made = {**old, "annotations": configs.annotated(old.get("annotations"), args.annotation)}
        if not made["annotations"]:
            del made["annotations"]
        return made

    def change(old: dict[str, Any]) -> dict[str, Any]:
        if not args.entry:
            return annotated(old)
        chosen = [one["digest"] for one in index.matching(old["manifests"], args.entry)]
        entries = [{**annotated(d), **platform} if d["digest"] in chosen else d for d in old["manifests"]]
        return {**old, "manifests": entries}

    _edit(args, layout, found, change)
