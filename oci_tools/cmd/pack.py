"""oci-pack: a tree, an archive, or what changed in a bundle becomes an image."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools.errors import Error, Usage
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests
from oci_tools.image import words
from oci_tools.image.names import BASE_DIGEST, BASE_NAME
from oci_tools.names import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools import bundle
    from oci_tools.bundle import pack
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.registry.progress import Progress

OPTIONS: tuple[cli.Option, ...] = (
    ("--base IMAGE", "text", None, "the image to put the layer on; a bundle has its own"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "what the image is for, or which of the base's to take"),
    ("--compression KIND", ("gzip", "zstd", "none"), None, "of the layer: as the one below, else gzip"),
    ("--level N", "int", None, "of the compression: gzip 1 to 9 (1 to 3 by content), zstd 1 to 19 (3)"),
    ("--compatibility N", "int", None, "make the compressed bytes of this level (1, 2), or nothing"),
    ("--mask PATH", "list", (), "leave this path out, with all that is in it"),
    ("--volumes", "flag", False, "pack what is in the image's volumes too"),
    ("--limit NAME=N", "list", (), "change a limit of what an archive may ask for, as for oci-unpack"),
    ("--refresh", "flag", False, "the bundle is of the new image then: only what changes later is packed next"),
    ("--append", "flag", False, "put the layer on the image that IMAGE names now"),
    ("--split PATH", "list", (), "give this path of a directory a layer of its own, above the rest"),
    ("--layers N", "int", None, "cut a directory in at most N layers, by packages, else by directories"),
    ("--squash", "flag", False, "TREE is an image: make one layer of those above --base"),
    ("--flatten", "flag", False, "TREE is an image: make one layer of all"),
    ("--rebase IMAGE", "text", None, "TREE is an image: put its layers above --base on this one"),
    ("--strip PATH", "list", (), "TREE is an image: take this path out of its layers above --base"),
    ("--retime", "flag", False, "TREE is an image: no time above --base is later than SOURCE_DATE_EPOCH"),
    *words.CHANGES,
    *words.PROGRESS,
)


def run(args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs
    from oci_tools.registry.progress import Progress

    place = refs.locate(args.image)
    if place.kind not in ("layout", "store"):
        raise Usage("not a place in a layout", args.image)
    name = place.name_for(place.ref or refs.Ref.parse("image"))
    with layouts.at(place, make=True) as layout, Progress("pack", args.progress, args.status_fd) as progress:
        made = _pack(args, layout, name, None if progress.quiet else progress)
        layout.tag(name, made)
        if args.refresh:
            _refresh(args, layout, made, name)
        sys.stdout.write(f"{layouts.handle(layout, made)}\n")


def _pack(args: cli.Args, layout: Layout, name: str | None, progress: Progress | None) -> Descriptor:
    from oci_tools import bundle
    from oci_tools.bundle import pack, subordinate
    from oci_tools.layer.limits import Limits

    options = _options(args)
    if progress:
        options.tell = _Layers(progress).begin
    args = cli.Args({**args.__dict__, "tree": _of_container(args.tree)})
    if args.refresh and (args.tree == "-" or not bundle.is_bundle(args.tree)):
        raise Usage("only a bundle can be refreshed", args.tree)
    if args.squash or args.flatten or args.rebase or args.strip or args.retime:
        return _rework(args, layout, options)
    if args.layers is not None and (args.layers < 1 or args.split):
        raise Usage("--layers takes a number from 1 on, and no --split")
    is_tree = args.tree != "-" and os.path.isdir(args.tree) and not bundle.is_bundle(args.tree)
    if (args.split or args.layers) and not is_tree:
        raise Usage("only a directory can be split", args.tree)
    if args.tree != "-" and os.path.isdir(args.tree):
        if bundle.is_bundle(args.tree):
            if args.base or args.platform or args.append:
                raise Usage("a bundle has its own base", args.tree)
            known = bundle.record(args.tree)
            made: Descriptor = subordinate.as_maker(
                known, lambda: pack.changes(args.tree, layout, options, args.refresh)
            )
            return made
        _leave_out(args.tree, layout, options)
        split = [os.fsencode(path) for path in args.split]
        return pack.tree(args.tree, layout, _base(args, layout, name), options, split, args.layers)
    if args.tree.startswith(("http://", "https://")):
        return _fetched(args, layout, name, options)
    try:
        fd = 0 if args.tree == "-" else os.open(args.tree, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot open", args.tree, error, "a directory, bundle, container, archive or URL, or -") from None
    with open(fd, "rb", buffering=0, closefd=fd != 0) as stream:
        return pack.archive(stream, layout, _base(args, layout, name), options, Limits.parse(args.limit))


def _fetched(args: cli.Args, layout: Layout, name: str | None, options: pack.Options) -> Descriptor:
    """An archive from elsewhere, as it comes."""
    from oci_tools import fetch
    from oci_tools.bundle import pack
    from oci_tools.layer.limits import Limits

    with fetch.Client() as client, client.request("GET", args.tree) as answer:
        if answer.status != 200:
            raise Error("cannot fetch", fetch.shown(args.tree), f"the server answered {answer.status}")
        return pack.archive(answer, layout, _base(args, layout, name), options, Limits.parse(args.limit))


class _Layers:
    """What there is to tell of layers that are packed: they have no digest before they are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0

    def begin(self) -> Callable[[int, bool], None]:
        self._count += 1
        name = f"layer {self._count}"
        self._progress.tell(name, "pack")

        def tell(size: int, is_all: bool) -> None:
            self._progress.tell(name, "done" if is_all else "pack", size, size if is_all else 0)

        return tell


def _of_container(word: str) -> str:
    """The bundle of a container, if there is nothing of that name here but a container has it as ID or name."""
    if word == "-" or "/" in word or os.path.lexists(word):
        return word
    from oci_tools import fs
    from oci_tools.container import names

    found = names.find(word, f"{fs.run()}/runtime")
    place = names.place(found) if found else ""
    return f"{place}/bundle" if os.path.isdir(place) else word


def _refresh(args: cli.Args, layout: Layout, made: Descriptor, name: str | None) -> None:
    from oci_tools import bundle
    from oci_tools.bundle import pack, subordinate

    maps = subordinate.maps_in(bundle.record(args.tree))
    subordinate.inside(maps, lambda: pack.refresh(args.tree, layout, made, name))


def _leave_out(tree: str, layout: Layout, options: pack.Options) -> None:
    """A layout that is itself in the tree must not be packed into itself."""
    top, place = os.path.realpath(tree), os.path.realpath(layout.path)
    if top == place:
        raise Usage("cannot pack a layout into itself", tree)
    if os.path.commonpath([top, place]) == top:
        options.masks.append(os.fsencode(os.path.relpath(place, top)))
        cli.say("oci-pack", f"warning: the layout '{layout.path}' is left out")


def _base(args: cli.Args, layout: Layout, name: str | None) -> pack.Base:
    from oci_tools import bundle
    from oci_tools.bundle import pack

    if args.append and args.base is not None:
        raise Usage("--append has its own base, the image itself")
    if args.append:
        return pack.Base(bundle.Image(layout, layout.find(name), args.platform))
    if args.base is None:
        return pack.Base(None, args.platform)
    if args.base == "-":
        raise Usage("the base cannot come from standard input")
    image, about = _taken(args.base, args, layout)
    base = pack.Base(image)
    base.annotations = _based(base.annotations, about, image)
    return base


def _rework(args: cli.Args, layout: Layout, options: pack.Options) -> Descriptor:
    from oci_tools.bundle import rework
    from oci_tools.layer.limits import Limits

    if args.append or args.split or args.layers or args.mask:
        raise Usage("--append, --split, --layers and --mask are for trees")
    if (args.squash or args.rebase) and not args.base:
        raise Usage("--squash and --rebase need --base")
    if args.flatten and (args.base or args.squash or args.rebase):
        raise Usage("--flatten leaves no base")
    if args.retime and options.epoch is None:
        raise Usage("--retime needs SOURCE_DATE_EPOCH in the environment")
    if not args.retime:
        options.epoch = None if not (args.squash or args.flatten) else options.epoch
    image, _ = _taken(args.tree, args, layout)
    base = _taken(args.base, args, layout)[0] if args.base else None
    new, about = _taken(args.rebase, args, layout) if args.rebase else (None, {})
    if args.rebase or args.flatten:
        options.annotate = lambda annotations: words.annotated(_based(annotations, about, image), args)
    work = rework.Work(image, base, options, Limits.parse(args.limit))
    if args.strip or args.retime:
        work.rewrite(_below_root(args.strip))
    if args.squash or args.flatten:
        work.squash()
    if new:
        work.rebase(new)
    return work.done()


def _based(annotations: dict[str, str], about: dict[str, str], image: bundle.Image) -> dict[str, str]:
    """Annotations, of which those about the base are these; Docker's manifests have none."""
    rest = {name: text for name, text in annotations.items() if name not in (BASE_NAME, BASE_DIGEST)}
    is_oci = manifests.kind(image.manifest, image.descriptor) == manifests.OCI_MANIFEST
    return {**rest, **about} if is_oci else rest


def _taken(word: str, args: cli.Args, layout: Layout) -> tuple[bundle.Image, dict[str, str]]:
    """An image by its word, in the layout; and what an image on it says of its base."""
    from oci_tools import bundle
    from oci_tools.image import copy
    from oci_tools.image.source import Source

    with Source(word) as source:
        found = bundle.Image(source.layout, source.descriptor, args.platform)
        copy.copy(source.layout, found.descriptor, layout)
        about = {BASE_DIGEST: source.descriptor["digest"]}
        if source.name and "/" in source.name:  # only a full reference can be looked up again
            about[BASE_NAME] = source.name
    return bundle.Image(layout, found.descriptor), about


def _options(args: cli.Args) -> pack.Options:
    from oci_tools import compress
    from oci_tools.bundle import pack

    options = pack.Options()
    options.compression, options.level = args.compression, args.level
    options.compatible = args.compatibility
    if args.compatibility not in (None, *compress.EARLIER):
        raise Usage("no such compatibility level", args.compatibility, "there are 1 and 2")
    options.epoch = _epoch()
    options.edit = lambda config: words.edited(config, args)
    options.annotate = lambda annotations: words.annotated(annotations, args)
    options.history = not args.no_history
    options.told = (args.created_by or "oci-pack", args.comment, args.author or "")
    options.created = configs.moment(args.created) if args.created else None
    options.masks = _below_root(args.mask)
    options.volumes = args.volumes
    options.warn = lambda text: cli.say("oci-pack", f"warning: {text}")
    return options


def _below_root(paths: list[str]) -> list[bytes]:
    for path in paths:
        if not clean(os.fsencode(path)):
            raise Usage("all of the image would be left out", path)
    return [os.fsencode(path) for path in paths]


def _epoch() -> int | None:
    """reproducible-builds.org, "SOURCE_DATE_EPOCH"."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    found = configs.epoch(text)
    if text and found is None:
        raise Error("not a time", text, hint="SOURCE_DATE_EPOCH is seconds since 1970", code=2)
    return found


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
