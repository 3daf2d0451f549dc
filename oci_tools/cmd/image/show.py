"""Verbs that read: ls, history, inspect, cat, tree, referrers, diff."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools import rows
from oci_tools.cmd.image.find import Anywhere, find, whole
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Descriptor, Layout


def ls(args: cli.Args) -> None:
    from oci_tools.image import describe
    from oci_tools.image import ref as refs

    fields = rows.fields(args, "name,digest", describe.COLUMNS)
    for word in args.image or [None]:
        if word is None or refs.locate(word).name is None:
            layout = whole(word)
            entries = layout.index()["manifests"] if layout else []
        else:
            layout, found = find(word)
            entries = [found]
        if args.json and args.fields is None:
            rows.show(entries, None)
        elif layout:
            rows.show((describe.row(layout, entry, fields) for entry in entries), None if args.json else fields)


def history(args: cli.Args) -> None:
    from oci_tools.image import describe, manifest

    fields = rows.fields(args, "created,size,digest,created_by", describe.HISTORY)
    layout, found = find(args.image)
    _, chosen = manifest.choose(layout, found, args.platform)
    rows.show(describe.history(layout, chosen), None if args.json else fields)


def inspect(args: cli.Args) -> None:
    from oci_tools import document
    from oci_tools.image import describe

    for word in args.image:
        layout, found = find(word)
        sys.stdout.buffer.write(document.dumps(describe.everything(layout, found, args.platform), indent=2))


def cat(args: cli.Args) -> None:
    """The bytes of a manifest, or of any blob by its digest, verified as they pass."""
    from oci_tools.image import digest as digests
    from oci_tools.image import manifest

    layout, found = _blob(args.image) or find(args.image)
    if args.platform:
        found, _ = manifest.choose(layout, found, args.platform)
    with digests.Verifier(layout.blob(found), found) as stream:
        while data := stream.read(1 << 20):
            sys.stdout.buffer.write(data)


def _blob(word: str) -> tuple[Layout, Descriptor] | None:
    """The blob of a digest, whatever it is and belongs to."""
    from oci_tools.image import digest as digests
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    place = refs.locate(word)
    if not digests.valid(place.name):
        return None
    layout = layouts.at(place)
    path = layout.blob_path(str(place.name))
    return (layout, {"digest": place.name, "size": os.stat(path).st_size}) if os.path.isfile(path) else None


def tree(args: cli.Args) -> None:
    """What an image is made of and what refers to it: two spaces for each step down."""
    from oci_tools.image import describe

    layout, found = find(args.image)
    fields = ["kind", "digest", "size", "detail"]
    made = describe.tree(layout, found)
    if not args.json:
        made = ({**row, "kind": "  " * row["depth"] + row["kind"]} for row in made)
    rows.show(made, None if args.json else fields)


REFERRERS = ("digest", "artifactType", "mediaType", "size", "subject")


def referrers(args: cli.Args) -> None:
    from oci_tools.image import manifest
    from oci_tools.image.referrers import Referrers

    layout, found = find(args.image)
    if args.platform:
        found, _ = manifest.choose(layout, found, args.platform)
    fields = rows.fields(args, "digest,artifactType,size", REFERRERS)
    made = Referrers(layout).of(found["digest"], args.artifact_type)
    if args.fields:
        made = [{"subject": found["digest"], **row} for row in made]
    rows.show(made, None if args.json else fields)


def diff(args: cli.Args) -> int:
    """Exit code 0 for no difference, 1 for any: as diff(1) has it."""
    from oci_tools.image import diff as differ
    from oci_tools.image import manifest

    fields = rows.fields(args, ",".join(differ.FIELDS), differ.FIELDS)
    ignore = frozenset(word for text in args.ignore for word in text.split(","))
    for word in ignore:
        if word not in (*differ.KINDS, *differ.ASPECTS):
            raise Usage("nothing to ignore", word, hint=f"one of {', '.join((*differ.KINDS, *differ.ASPECTS))}")
    if args.a == args.b == "-":
        raise Usage("only one image can be on standard input")
    with Anywhere(args.a) as one, Anywhere(args.b) as two:
        both = [(at.layout, manifest.choose(at.layout, at.descriptor, args.platform)[1]) for at in (one, two)]
        return 1 if rows.show(differ.diff(both[0], both[1], ignore), None if args.json else fields) else 0
