"""Verbs that bring images from one place to another: save, load, copy."""

from __future__ import annotations

import sys

from oci_tools import cli, document
from oci_tools.cmd.image.find import Anywhere, find, wait, whole
from oci_tools.rows import say
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.index import Pairs
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place


def _wanted(layout: Layout, found: Descriptor, args: cli.Args) -> tuple[Descriptor, Pairs, list[Descriptor]]:
    """What of an image the options ask for: it, the documents that are new in it, what refers to it."""
    from oci_tools.image import convert, index
    from oci_tools.image.referrers import Referrers

    top, documents = index.select(layout, found, args.platform)
    if args.format:
        view: Any = convert.View(layout, documents)
        converted = convert.convert(view.read, top, args.format)
        if converted:
            top = convert.renamed(top, converted[-1][1], args.format)
        documents = [*documents, *converted]
    if not args.referrers:
        return top, documents, []
    if args.format:
        raise Usage("--format and --referrers exclude each other", hint="what refers to an image names its digest")
    return top, documents, Referrers(layout).all_of(convert.View(layout, documents), top)


def save(args: cli.Args) -> None:
    from oci_tools.image import archive, convert
    from oci_tools.image import layout as layouts

    found = [find(word) for word in args.image]
    if len({layout.path for layout, _ in found}) > 1:
        raise Usage("images of different layouts do not go into one archive", hint="oci-image copy")
    layout = found[0][0]
    images: list[tuple[str | None, Descriptor]] = []
    documents: Pairs = []
    others: dict[str, Descriptor] = {}
    for _, entry in found:
        top, new, referring = _wanted(layout, entry, args)
        images.append((layouts.ref_name(entry), top))
        documents += new
        others.update({one["digest"]: one for one in referring})
    images += [(layouts.ref_name(one), one) for one in others.values()]
    view: Any = convert.View(layout, documents)
    if args.output not in (None, "-"):
        archive.write_file(view, images, args.output)
        return
    if sys.stdout.isatty():
        raise Usage("will not write an archive to a terminal", hint="-o FILE")
    archive.write(view, images, sys.stdout.buffer)


def load(args: cli.Args) -> None:
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts

    wait(args)
    layout = whole(args.layout, make=True)
    assert layout is not None
    with layout:
        images = [(layout.name_for(name), one) for name, one in archive.read_file(args.archive or "-", layout)]
        for name, descriptor in images:
            layout.tag(name, descriptor)
        if args.json:
            rows = ({"name": name, "digest": one["digest"]} for name, one in images)
            return say("\n".join(document.dumps(row).decode() for row in rows))
        say("\n".join(dict.fromkeys(layouts.handle(layout, descriptor) for _, descriptor in images)))


def copy(args: cli.Args) -> None:
    from oci_tools.image import convert
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs
    from oci_tools.image import target as targets

    wait(args)
    target = refs.locate(args.target)
    if target.kind == "registry":
        raise Usage("not a layout", args.target, hint="oci-push")
    with Anywhere(args.image) as source:
        top, documents, others = _wanted(source.layout, source.descriptor, args)
        view: Any = convert.View(source.layout, documents)
        if args.digest_algorithm:
            _rehash(view, source.name, top, target, args)
            return
        if target.kind in targets.ARCHIVES:
            say(targets.write(view, source.name, top, others, target))
            return
        with targets.put(view, source.name, top, others, target) as layout:
            say(layouts.handle(layout, top))


def _rehash(view: Any, name: str | None, top: Descriptor, target: Place, args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.image import rehash
    from oci_tools.image import target as targets

    if args.referrers or target.kind in targets.ARCHIVES:
        raise Usage("--digest-algorithm is for an image in a layout", hint="what refers to it names its digest")
    with targets.Fresh(target) as layout:
        made = rehash.copy(view, top, layout, args.digest_algorithm)
        layout.tag(target.name or layout.name_for(name), made)
    with layout:
        say(layouts.handle(layout, made))
