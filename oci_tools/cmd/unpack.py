"""oci-unpack: an image becomes a bundle, an archive, or directories."""

from __future__ import annotations

import os
import sys

from oci_tools import cli, fs
from oci_tools.errors import Error, Usage
from oci_tools.image.words import PROGRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.bundle import Image
    from oci_tools.bundle.watched import Watched
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

OPTIONS: tuple[cli.Option, ...] = (
    ("--overlay", "flag", False, "share layers: unpack each once into the store, and stack them"),
    ("--mount", "flag", False, "as --overlay, mounted for other runtimes; or mount the overlay bundle IMAGE again"),
    ("--umount", "flag", False, "undo --mount of the bundle IMAGE"),
    ("--path PATH", "text", None, "only this file or directory of the image, no bundle: BUNDLE is its new place"),
    ("--layers", "flag", False, "no bundle: each layer in a directory of its own in BUNDLE, for overlayfs"),
    ("--keep-dirlinks", "flag", False, "a directory where there is a link to one is unpacked there"),
    ("--single-id", "flag", False, "a plain user: own everything, though there are subordinate ids"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
    ("--limit NAME=N", "list", (), "change a limit: entries, names, size, expansion, path, header, xattrs, attributes"),
    ("--rm", "flag", False, "remove the bundle IMAGE, with what a plain user cannot remove"),
    *PROGRESS,
)


def run(args: cli.Args) -> None:
    from oci_tools import bundle

    for name in ("rm", "umount"):
        if getattr(args, name) and args.bundle is not None:
            raise Usage(f"--{name} takes one operand, the bundle")
    if args.rm:
        bundle.remove(args.image)
    elif args.umount or (args.mount and args.bundle is None):
        from oci_tools.bundle import mounted

        sys.stdout.write(f"{mounted.unmount(args.image) if args.umount else mounted.mount(args.image)}\n")
    else:
        _unpack(args)


def _unpack(args: cli.Args) -> None:
    from oci_tools import bundle

    _check(args)
    from oci_tools.image.source import Source
    from oci_tools.layer.limits import Limits

    limits = Limits.parse(args.limit)
    limits.keep_links = args.keep_dirlinks
    with Source(args.image) as source:
        image = bundle.Image(source.layout, source.descriptor, args.platform, source.name)
        made = _shown(args, image, limits)
    if made is not None:
        sys.stdout.write(f"{made}\n")


def _shown(args: cli.Args, image: Image, limits: Limits) -> str | None:
    """What is asked for, while it is shown how far that is."""
    if args.status_fd is None and (args.progress == "none" or (args.progress == "auto" and not os.isatty(2))):
        return _make(args, image, limits)
    from oci_tools.bundle.watched import Watched
    from oci_tools.registry.progress import Progress

    with Progress("unpack", args.progress, args.status_fd) as progress, Watched(image, progress.tell) as watched:
        return _make(args, image, limits, watched)


def _check(args: cli.Args) -> None:
    if args.bundle is None:
        raise Usage("missing argument 'BUNDLE'", hint="see --help")
    if (args.path is not None) + args.layers + (args.overlay or args.mount) > 1:
        raise Usage("--path, --layers and --overlay are different things to make")
    other = args.bundle == "-" or args.path is not None or args.layers or args.overlay or args.mount
    if args.keep_dirlinks and other:
        raise Usage("--keep-dirlinks is for a bundle that has its own files")
    if args.bundle == "-" and (args.layers or args.overlay or args.mount):
        raise Usage("directories cannot be written to standard output")
    if args.bundle == "-" and args.path is None and os.isatty(1):
        raise Usage("an archive is nothing for a terminal", hint="redirect standard output")


def _make(args: cli.Args, image: Image, limits: Limits, watched: Watched | None = None) -> str | None:
    """What is asked for; its path, None if it went to standard output."""
    from oci_tools.bundle import subordinate

    if args.overlay or args.mount:
        made = subordinate.overlay(image, args.bundle, limits, _warn, _maps(args))
        return _mounted(made) if args.mount else made
    if args.layers:
        from oci_tools.bundle import apart

        return apart.unpack(image, args.bundle, _owner(), limits)
    if args.bundle != "-" and args.path is None:
        return subordinate.unpack(image, args.bundle, limits, _warn, _maps(args))
    from oci_tools.bundle import flat
    from oci_tools.image.tree import Dir

    if watched:
        watched.last = False
    whole = flat.Flat(image, limits)
    if watched:
        watched.last = True
    path = args.path or "/"
    found = whole.find(path)
    if args.bundle != "-":
        return flat.unpack(whole, path, found, args.bundle, _owner())
    pieces = whole.archive(found) if isinstance(found, Dir) else whole.content(found, path)
    try:
        for piece in pieces:
            fs.write_all(1, piece)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Error("cannot write standard output", None, error) from None
    return None


def _maps(args: cli.Args) -> Any:
    """The subordinate ids to use, if any: fuse-overlayfs could not read what belongs to them."""
    from oci_tools.bundle import subordinate

    return None if args.single_id or args.mount else subordinate.maps_of_user()


def _mounted(path: str) -> str:
    """Mount a new bundle, unless it has all files; it is gone if that fails."""
    from oci_tools import bundle
    from oci_tools.bundle import mounted

    try:
        return mounted.mount(path) if bundle.overlay_of(path) is not None else path
    except BaseException:
        bundle.remove(path)
        raise


def _owner() -> Owner:
    from oci_tools.layer import owner

    return owner.for_process(_warn)


def _warn(text: str) -> None:
    cli.say("oci-unpack", f"warning: {text}")


COMMAND = cli.Command(
    "oci-unpack",
    "unpack an image into a bundle, an archive, or directories",
    "IMAGE [BUNDLE]",
    OPTIONS,
    run,
    example="oci-pull debian | oci-unpack - ./web",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
