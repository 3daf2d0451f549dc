"""The verbs of `oci-image artifact`: create, extract."""

from __future__ import annotations

import os

from oci_tools import cli
from oci_tools.cmd.image.find import Anywhere, find, wait
from oci_tools.errors import Usage
from oci_tools.rows import say


def create(args: cli.Args) -> None:
    from oci_tools.image import artifact
    from oci_tools.image import config as configs
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    wait(args)
    place = refs.locate(args.image)
    if place.kind not in ("layout", "store"):
        raise Usage("not a layout", args.image, hint="oci-image copy brings an artifact into an archive")
    if not args.file and not args.annotation:
        raise Usage("nothing to make an artifact of", hint="files, or --annotation")
    subject = find(args.subject)[1] if args.subject else None
    if subject and "mediaType" not in subject:
        raise Usage("cannot refer to what has no media type", args.subject)
    files = [_split(word) for word in args.file]
    with layouts.at(place, make=True) as layout:
        notes = configs.annotated(None, args.annotation)
        made = artifact.create(layout, files, args.artifact_type, subject, notes)
        layout.tag(place.name, made)
        say(layouts.handle(layout, made))


def _split(word: str) -> tuple[str, str]:
    """(path, media type or "") of FILE[:TYPE]; a type has a slash, and no file is called so."""
    path, colon, kind = word.rpartition(":")
    return (path, kind) if colon and "/" in kind and not os.path.exists(word) else (word, "")


def extract(args: cli.Args) -> None:
    from oci_tools.image import artifact

    with Anywhere(args.image) as source:
        for path in artifact.extract(source.layout, source.descriptor, args.dir):
            say(path)
