"""Verbs that change names and configurations: tag, rm, config."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools.cmd.image.find import find, look_up, wait
from oci_tools.rows import say
from oci_tools.errors import Usage
from oci_tools.image.words import CHANGES, annotated, edited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Layout


def tag(args: cli.Args) -> None:
    from oci_tools.image import layout as layouts

    wait(args)
    layout, found = find(args.image)
    names = [_new_name(layout, word) for word in args.name]
    for name in names:
        if not layouts.is_name(name):
            raise Usage("invalid image name", name)
    for name in names:
        layout.tag(name, found)


def _new_name(layout: Layout, word: str) -> str:
    """A name for an image of this layout, which may be said with the layout's path before it."""
    from oci_tools.image import ref as refs

    if word.startswith(("/", "./", "../", "oci:")):
        place = refs.locate(word)
        if os.path.realpath(place.path) != os.path.realpath(layout.path) or not place.name:
            raise Usage("not a name in the same layout", word, hint="oci-image copy")
        return place.name
    return str(refs.Ref.parse(word)) if layout.path == refs.store_path() else word


def rm(args: cli.Args) -> None:
    """Take names away, by a digest whole images; all words are understood before anything changes."""
    from oci_tools.image import ref as refs

    wait(args)
    gone = []
    for word in args.image:
        if os.path.exists(word) and refs.locate(word).kind != "store":
            raise Usage("which image of", word, hint=f"{word}:NAME")
        gone.append(look_up(word))
    for layout, found, name in gone:
        if name is None:
            layout.remove(found["digest"])
        else:
            layout.untag(name)


def config(args: cli.Args) -> None:
    from oci_tools import document
    from oci_tools.image import config as configs
    from oci_tools.image import layout as layouts
    from oci_tools.image import manifest

    wait(args)
    layout, found = find(args.image)
    _, old = manifest.choose(layout, found, args.platform)
    before = configs.load(layout, old)
    if args.tag is None and not any(getattr(args, cli.dest(option)) for option in CHANGES):
        sys.stdout.buffer.write(layout.read(old["config"]))
        return
    if args.tag == "":
        raise Usage("invalid image name", "")
    if args.no_history and (args.created_by or args.comment):
        raise Usage("no place for", args.created_by or args.comment, "with --no-history there is no step")
    if manifest.is_index(found.get("mediaType")) and not args.tag:
        raise Usage("will not replace an index by one of its images", args.image, hint="--tag NAME")
    new = edited(before, args)
    if new != before and not args.no_history:
        when = new["created"] if args.created else configs.now()
        said = (args.created_by or "oci-image config", args.comment, args.author or "")
        new = configs.with_layer(new, None, when, *said)
    layout.hold()
    annotations = annotated(old.get("annotations"), args)
    made = layout.put(document.dumps(new), old["config"].get("mediaType") or manifest.OCI_CONFIG)
    whole = {**old, "config": made, "annotations": annotations}
    if not annotations:
        del whole["annotations"]
    image = {**layout.put(document.dumps(whole), manifest.kind(old, {})), "platform": configs.platform(new)}
    layout.tag(layout.name_for(args.tag) if args.tag else layouts.ref_name(found), image)
    say(layouts.handle(layout, image))
