"""Verbs that keep a layout sound: gc, fsck."""

from __future__ import annotations

from oci_tools import cli
from oci_tools import rows
from oci_tools.cmd.image.find import wait, whole
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def gc(args: cli.Args) -> None:
    from oci_tools.image import gc as collector

    wait(args)
    layout = whole(args.layout)
    if layout is None:
        rows.show(_layers(args), None if args.json else ["kind", "digest", "size"])
        return
    result = collector.collect(layout, _seconds(args.grace), args.dry_run)
    gone = [{"kind": "image", "digest": d.get("digest"), "size": d.get("size")} for d in result.images]
    gone += [{"kind": "blob", "digest": digest, "size": size} for digest, size in result.blobs.items()]
    gone += _layers(args)
    rows.show(gone, None if args.json else ["kind", "digest", "size"])
    if result.shared:
        cli.say("oci-image", f"left all blobs in '{layout.path}/blobs': other layouts may share them")
    if result.kept:
        cli.say("oci-image", f"kept {result.kept} without a name for now (--grace 0 removes them)")


def _layers(args: cli.Args) -> list[dict[str, Any]]:
    """Garbage of the default store's other half: unpacked layers that no bundle stacks."""
    from oci_tools.bundle import subordinate
    from oci_tools.layer import collect

    if args.layout is not None:
        return []
    # Of a plain user they may belong to subordinate ids.
    trees = subordinate.inside(subordinate.maps_of_user(), lambda: collect.collect(dry_run=args.dry_run))
    return [{"kind": "layer", "digest": collect.diff_id(tree), "size": None} for tree in trees]


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(text: str) -> float:
    unit = UNITS.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdigit()):
        raise Usage("not a time", text, hint="a number with s, m, h or d")
    return float(digits) * (unit or 1)


def fsck(args: cli.Args) -> int:
    from oci_tools.image import fsck as checker

    layout = whole(args.layout)
    found = list(checker.check(layout, args.fast)) if layout else []
    rows.show([{"digest": d, "image": image or None, "problem": what} for d, what, image in found],
              None if args.json else ["digest", "image", "problem"])  # fmt: skip
    return 1 if found else 0
