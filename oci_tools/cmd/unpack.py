"""oci-unpack: an image becomes a bundle."""

from __future__ import annotations

import sys

from oci_tools import cli
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.layer.owner import Owner

OPTIONS: tuple[cli.Option, ...] = (
    ("--overlay", "flag", False, "share layers: unpack each once into the store, and stack them"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
    ("--limit NAME=N", "list", (), "change a limit: entries, size, path, header, xattrs"),
    ("--rm", "flag", False, "remove the bundle IMAGE, with what a plain user cannot remove"),
)


def run(args: cli.Args) -> None:
    from oci_tools import bundle

    if args.rm:
        if args.bundle is not None:
            raise Usage("--rm takes one operand, the bundle")
        bundle.remove(args.image)
        return
    if args.bundle is None:
        raise Usage("missing argument 'BUNDLE'", hint="see --help")
    from oci_tools.image.source import Source
    from oci_tools.layer.limits import Limits

    limits = Limits.parse(args.limit)
    with Source(args.image) as source:
        image = bundle.Image(source.layout, source.descriptor, args.platform, source.name)
        if args.overlay:
            made = bundle.overlay(image, args.bundle, _owner, limits)
        else:
            made = bundle.unpack(image, args.bundle, _owner(), limits)
    sys.stdout.write(f"{made}\n")


def _owner() -> Owner:
    from oci_tools.layer import owner

    return owner.for_process(lambda text: cli.say("oci-unpack", f"warning: {text}"))


COMMAND = cli.Command(
    "oci-unpack",
    "unpack an image into a bundle: its files and a config.json",
    "IMAGE [BUNDLE]",
    OPTIONS,
    run,
    example="oci-pull debian | oci-unpack - ./web",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
