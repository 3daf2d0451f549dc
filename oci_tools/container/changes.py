"""`diff`: what changed in a container since its image, as docker says it: A added, C changed, D deleted."""

from __future__ import annotations

import os

from oci_tools import bundle as bundles
from oci_tools.bundle import pack
from oci_tools.container import rootfs
from oci_tools.errors import Error
from oci_tools.layer import diff, lookup, snapshot, store, upper
from oci_tools.layer.planned import Plan
from oci_tools.layer.walk import order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


def lines(root: str, word: str) -> Iterator[str]:
    """A line for each path of a container or bundle that changed, and for the directories on the way to it."""
    path = rootfs.bundle_of(root, word)
    if not bundles.is_bundle(path):
        raise Error("cannot tell what changed in", word, "its bundle is not of our making", "oci-unpack makes them")
    stacked = bundles.overlay_of(path)
    places = pack.places(path)
    if stacked is None:
        yield from _of_tree(path, places)
    else:
        yield from _of_overlay(path, stacked, places)


def _of_tree(path: str, places: frozenset[bytes]) -> Iterator[str]:
    record = f"{path}/{bundles.record(path)['snapshot']}"
    rootfd = os.open(f"{path}/rootfs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with snapshot.Snapshot(record) as before:
            changed = list(diff.compare(rootfd, before, (), places))
    finally:
        os.close(rootfd)
    wanted = {each for each, _ in Plan(changed)}
    with snapshot.Snapshot(record) as before:
        there = {row.path for row in before if row.path in wanted}
    yield from _lines(changed, there.__contains__)


def _of_overlay(path: str, stacked: dict[str, Any], places: frozenset[bytes]) -> Iterator[str]:
    known = bundles.record(path)
    kept = store.Store(known["owner"])
    trees = [kept.tree(digest) for digest in stacked["lower"]]
    chain = kept.chain(known["config"])
    rootfd = os.open(f"{path}/{stacked['upper']}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        changed = list(upper.compare(rootfd, trees, chain, (), places))
    finally:
        os.close(rootfd)
    with lookup.Stack(trees) as below:
        yield from _lines(changed, lambda each: below.look(each) is not None)


def _lines(changed: Iterable[tuple[bytes, bool]], was_there: Callable[[bytes], bool]) -> Iterator[str]:
    for path, gone in sorted(Plan(changed), key=lambda each: order(each[0])):
        if path:
            kind = "D" if gone else "C" if was_there(path) else "A"
            yield f"{kind} /{os.fsdecode(path)}"
