"""oci-push: an image from a layout into a registry."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.errors import Error
from oci_tools.registry.words import TRANSFER, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "text", None, "push only this platform of an index"),
    ("--referrers", "flag", False, "push along what in the layout refers to the image"),
    ("--mount-from REPOSITORY", "list", (), "repository of the same registry that may have the blobs"),
    ("--chunk-size BYTES", "int", 0, "send at most this in one request"),
    ("--allow-nondistributable", "flag", False, "push layers too that are marked as not to be pushed"),
)


def run(args: cli.Args) -> None:
    from oci_tools.image import manifest
    from oci_tools.image import ref as refs
    from oci_tools.image.source import Source

    ref = refs.Ref.parse(args.ref.removeprefix("docker://"))
    with Source(args.image) as source:
        layout, descriptor = source.layout.hold(), source.descriptor
        if args.platform:
            descriptor, _ = manifest.choose(layout, descriptor, args.platform)
        print(_push(layout, descriptor, ref, args))


def _push(layout: Layout, descriptor: Descriptor, ref: Ref, args: cli.Args) -> str:
    from oci_tools.registry import push

    if ref.digest and ref.digest != descriptor["digest"]:
        raise Error("cannot push as", ref, f"the image is {descriptor['digest']}")
    more = {"chunk": args.chunk_size, "foreign": args.allow_nondistributable}
    with options(args, "push", referrers=args.referrers, **more) as chosen, chosen.progress:
        return push.push(layout, descriptor, ref, chosen, args.mount_from)


COMMAND = cli.Command(
    "oci-push",
    "bring an image from a layout into a registry, and print its reference by digest",
    "IMAGE REF",
    OPTIONS + TRANSFER,
    run,
    example="oci-push img:app localhost:5000/app",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
