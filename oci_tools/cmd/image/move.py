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
    from oci_tools.image.watch import Watched
    from oci_tools.registry.progress import Progress

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
    if args.output in (None, "-") and sys.stdout.isatty():
        raise Usage("will not write an archive to a terminal", hint="-o FILE")
    with Progress("save", args.progress, args.status_fd) as progress:
        view = view if progress.quiet else Watched(view, [top for _, top in images], progress.tell)
        if args.output not in (None, "-"):
            archive.write_file(view, images, args.output)
        else:
            archive.write(view, images, sys.stdout.buffer)


def load(args: cli.Args) -> None:
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts
    from oci_tools.registry.progress import Progress

    wait(args)
    layout = whole(args.layout, make=True)
    assert layout is not None
    source = args.archive or "-"
    with layout, Progress("load", args.progress, args.status_fd) as progress:
        there = [0]

        def told(count: int, size: int) -> None:
            there[0] = count
            progress.tell(source, "get", count, size)

        found = archive.read_file(source, layout, None if progress.quiet else told)
        progress.tell(source, "done", there[0], there[0])
        images = [(layout.name_for(name), one) for name, one in found]
        for name, descriptor in images:
            layout.tag(name, descriptor)
        if args.json:
            rows = ({"name": name, "digest": one["digest"]} for name, one in images)
            return say("\n".join(document.dumps(row).decode() for row in rows))
        say("\n".join(dict.fromkeys(layouts.handle(layout, descriptor) for _, descriptor in images)))


def copy(args: cli.Args) -> None:
    from contextlib import ExitStack

    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs
    from oci_tools.image import target as targets
    from oci_tools.image.watch import Watched
    from oci_tools.registry.progress import Progress

    wait(args)
    target = refs.locate(args.target)
    if target.kind == "registry":
        raise Usage("not a layout", args.target, hint="oci-push")
    if args.blobs_to and target.kind != "layout":
        raise Usage("--blobs-to is for a layout", args.target)
    target.blobs = args.blobs_to or ""
    with Anywhere(args.image, args.blobs_from or "") as source, ExitStack() as until:
        view, top, others = _seen(source, args)
        progress = until.enter_context(Progress("copy", args.progress, args.status_fd))
        view = view if progress.quiet else Watched(view, [top, *others], progress.tell)
        if args.digest_algorithm:
            _rehash(view, source.name, top, target, args)
            return
        if target.kind in targets.ARCHIVES:
            say(targets.write(view, source.name, top, others, target))
            return
        with targets.put(view, source.name, top, others, target) as layout:
            say(layouts.handle(layout, top))


def _seen(source: Anywhere, args: cli.Args) -> tuple[Any, Descriptor, list[Descriptor]]:
    """What is to be copied: in what it is read, its descriptor, what refers to it."""
    from oci_tools.image import convert, index, manifest
    from oci_tools.image.referrers import Referrers

    layout, top = source.layout, source.descriptor
    if not args.sparse:
        top, documents, others = _wanted(layout, top, args)
        return convert.View(layout, documents), top, others
    if args.format or args.digest_algorithm:
        raise Usage("--sparse takes an index as it is", hint="--format and --digest-algorithm make another of it")
    platforms = args.platform or [manifest.platform_name(manifest.host_platform())]
    view = convert.View(layout, [], without=index.left_out(layout, top, platforms))
    return view, top, Referrers(layout).all_of(view, top) if args.referrers else []


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
