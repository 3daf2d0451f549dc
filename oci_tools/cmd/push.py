"""oci-push: an image from a layout into a registry."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.errors import Error, Usage
from oci_tools.registry.words import TRANSFER, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "text", None, "push only this platform of an index"),
    (
        "--mount-from REPOSITORY",
        "list",
        (),
        "repository of the same registry that may have the blobs already",
    ),
    ("--chunk-size BYTES", "int", 0, "send at most this in one request"),
    ("--allow-nondistributable", "flag", False, "push layers too that are marked as not to be pushed"),
)


def run(args: cli.Args) -> None:
    from oci_tools.image import manifest
    from oci_tools.image import ref as refs

    ref = refs.Ref.parse(args.ref.removeprefix("docker://"))
    layout, descriptor = _source(args.image)
    with layout:
        if args.platform:
            descriptor, _ = manifest.choose(layout, descriptor, args.platform)
        print(_push(layout, descriptor, ref, args))


def _source(word: str) -> tuple[Layout, Descriptor]:
    """The layout, held, and in it the image that a word means.

    An archive's blobs go into the default store without a name, where gc finds them: a registry
    takes manifests last, and an archive may have them first.
    """
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    if word == "-":
        kind, said = archive.from_stdin()
        if kind == "archive":
            return _from_archive(said, None, "standard input")
        word = said
    place = refs.locate(word)
    if place.kind in ("oci-archive", "docker-archive"):
        try:
            with open(place.path, "rb", buffering=0) as file:
                return _from_archive(file, place.name, place.path)
        except OSError as error:
            raise Error("cannot open archive", place.path, error) from None
    if place.kind == "registry":
        raise Usage("not an image in a layout", word)
    layout = layouts.at(place).hold()
    return layout, layout.find(place.name)


def _from_archive(stream: Any, name: str | None, subject: str) -> tuple[Layout, Descriptor]:
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts

    layout = layouts.store().hold()
    _, descriptor = archive.choose(archive.read(stream, layout, subject), name, subject)
    return layout, descriptor


def _push(layout: Layout, descriptor: Descriptor, ref: Ref, args: cli.Args) -> str:
    from oci_tools.registry import push

    if ref.digest and ref.digest != descriptor["digest"]:
        raise Error("cannot push as", ref, f"the image is {descriptor['digest']}")
    more = {"chunk": args.chunk_size, "foreign": args.allow_nondistributable}
    with options(args, "push", **more) as chosen, chosen.progress:
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
