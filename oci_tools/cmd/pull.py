"""oci-pull: an image from a registry into a layout."""

from __future__ import annotations

import os

from oci_tools import cli
from oci_tools.errors import Usage
from oci_tools.registry.words import TRANSFER, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place, Ref
    from oci_tools.registry.credentials import Credential
    from oci_tools.registry.copy import Options

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "list", (), "platform to take, not this host's; several make an index"),
    ("--all-platforms", "flag", False, "take an index with everything in it"),
    ("--referrers", "flag", False, "take along what refers to the image: signatures, lists of its parts"),
    ("--unpack DIR", "text", None, "unpack the image into a bundle too, and print that"),
    ("--login HOST", "text", None, "store credentials for a registry; the password is read, not said"),
    ("--username NAME", "text", None, "user's name for --login"),
    ("--logout HOST", "text", None, "drop the stored credentials for a registry"),
)


def run(args: cli.Args) -> None:
    if args.login or args.logout:
        _credentials(args)
        return
    if not args.ref:
        raise Usage("missing argument 'REF'", hint="see --help")
    if args.all_platforms and args.platform:
        raise Usage("--platform and --all-platforms exclude each other")
    if args.unpack and (args.all_platforms or len(args.platform) > 1 or args.layout == "-"):
        raise Usage("--unpack takes one image", hint="of one platform, in a layout")
    from oci_tools.image import ref as refs

    place = refs.locate(args.ref)
    if place.kind not in ("store", "registry") or place.ref is None:
        raise Usage("not a reference of a registry", args.ref)
    with options(args, "pull", referrers=args.referrers) as chosen, chosen.progress:
        if args.layout == "-":
            _archive(place.ref, chosen, args)
        else:
            _layout(place.ref, refs.locate(args.layout or str(place.ref)), chosen, args)


def _layout(ref: Ref, target: Place, chosen: Options, args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.registry import pull

    layout, found = pull.pull_to(ref, target, chosen, args.platform, args.all_platforms)
    with layout:
        print(_unpack(layout, found, args.unpack) if args.unpack else layouts.handle(layout, found))


def _unpack(layout: Layout, descriptor: Descriptor, path: str) -> str:
    from oci_tools import bundle
    from oci_tools.layer import owner
    from oci_tools.layer.limits import Limits

    mapping = owner.for_process(lambda text: cli.say("oci-pull", f"warning: {text}"))
    return bundle.unpack(bundle.Image(layout, descriptor), path, mapping, Limits())


def _archive(ref: Ref, chosen: Options, args: cli.Args) -> None:
    from oci_tools.registry import pull

    if os.isatty(1):
        raise Usage(
            "an archive is not for a terminal", hint="pipe it into oci-unpack -, or redirect it to a file"
        )
    with open(1, "wb", buffering=1 << 16, closefd=False) as out:
        pull.stream(ref, str(ref), out, chosen, args.platform, args.all_platforms)


def _credentials(args: cli.Args) -> None:
    from oci_tools.registry.credentials import Credential, Credentials

    if args.ref or (args.login and args.logout):
        raise Usage("--login and --logout stand alone")
    credentials = Credentials(args.authfile)
    if args.logout:
        print(credentials.drop(args.logout))
        return
    user = args.username or _ask("user: ", False)
    password = _ask("password: ", True)
    print(credentials.store(args.login, _checked(args, Credential(user, password))))


def _ask(prompt: str, secret: bool) -> str:
    """A line from the terminal, without echo if it is secret; else from standard input."""
    import sys

    if sys.stdin.isatty() and secret:
        import getpass

        return getpass.getpass(prompt)
    if sys.stdin.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise Usage(
            "nothing on standard input", hint="the user's name, unless --username says it, then the password"
        )
    return line


def _checked(args: cli.Args, credential: Credential) -> Credential:
    """A credential that the registry accepts; else an Error."""
    from oci_tools.registry import hosts
    from oci_tools.registry.client import Registry

    with options(args, "login") as chosen:
        api_host = hosts.API_HOSTS.get(args.login, args.login)
        registry = Registry(chosen.client, chosen.credentials.only(credential), args.login, api_host)
        with registry.request("GET", "/v2/") as answer:
            if answer.status != 200:
                raise registry.fail(answer, "cannot log in to", args.login)
    return credential


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
