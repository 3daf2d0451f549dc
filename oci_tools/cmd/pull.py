"""oci-pull: an image from a registry into a layout."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.errors import Error, Usage
from oci_tools.registry.words import TRANSFER, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.ref import Place, Ref
    from oci_tools.registry.copy import Options

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "list", (), "platform to take, not this host's; several make an index"),
    ("--all-platforms", "flag", False, "take an index with everything in it"),
    ("--login HOST", "text", None, "store credentials for a registry; the password comes from standard input"),
    ("--username NAME", "text", None, "user's name for --login"),
    ("--logout HOST", "text", None, "drop the stored credentials for a registry"),
)


def run(args: cli.Args) -> int | None:
    if args.login or args.logout:
        return _credentials(args)
    if not args.ref:
        raise Usage("missing argument 'REF'", hint="see --help")
    if args.all_platforms and args.platform:
        raise Usage("--platform and --all-platforms exclude each other")
    from oci_tools.image import ref as refs

    place = refs.locate(args.ref)
    if place.kind not in ("store", "registry") or place.ref is None:
        raise Usage("not a reference of a registry", args.ref)
    with options(args, "pull") as chosen, chosen.progress:
        if args.layout == "-":
            return _archive(place.ref, chosen, args)
        return _layout(place.ref, refs.locate(args.layout or str(place.ref)), chosen, args)


def _layout(ref: Ref, target: Place, chosen: Options, args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.registry import copy

    with layouts.at(target, make=True) as layout:
        found = copy.pull(ref, layout, target.name_for(ref), chosen, args.platform, args.all_platforms)
        print(layouts.handle(layout, found))


def _archive(ref: Ref, chosen: Options, args: cli.Args) -> None:
    raise Error("not yet")


def _credentials(args: cli.Args) -> None:
    from oci_tools.registry.credentials import Credential, Credentials

    if args.ref or (args.login and args.logout):
        raise Usage("--login and --logout stand alone")
    credentials = Credentials(args.authfile)
    if args.logout:
        print(credentials.drop(args.logout))
        return
    raise Error("not yet", Credential)


COMMAND = cli.Command(
    "oci-pull",
    "bring an image from a registry into a layout, and print its handle",
    "[REF] [LAYOUT]",
    OPTIONS + TRANSFER,
    run,
    example="oci-pull alpine | oci-unpack - ./web",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
