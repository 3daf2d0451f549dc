"""Memory does not grow with an image: of a million names as of some thousands it is under 80 MB."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oci_tools.image.layout import Layout
from tests import long
from tests.bundle import many

BIN = Path(__file__).resolve().parent.parent.parent / "bin"
LIMIT = 80 << 10  # kilobytes, of each process
GROWTH = 20 << 10  # of 120,000 names: 170 bytes for each, and a path in a list has more
SOME = 42 << 10  # the same where nothing grows; with everything in memory it was more of 100,000 names
# By way of a small process: what ours is, and so its child's at first, is large.
PEAK = "import os, sys; r = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0); print(r[2].ru_maxrss if r[1] == int(sys.argv[1]) else 1 << 40)"
COMMANDS = {
    "flat": "{bin}/oci-unpack {at}/img:v1 - > {at}/tar",
    "diff": "{bin}/oci-image diff {at}/img:v1 {at}/img:v2 > {at}/lines",
    "unpack": "{bin}/oci-unpack {at}/img:v1 {at}/b",
    "pack": "{bin}/oci-pack {at}/b/rootfs {at}/packed:v1",
    "changes": "{bin}/oci-pack {at}/b {at}/packed:v2",
    "squash": "{bin}/oci-pack --flatten {at}/img:v1 {at}/packed:v3",
    "layers": "{bin}/oci-pack --layers 5 {at}/b/rootfs {at}/packed:v4",
    "apart": "{bin}/oci-unpack --layers {at}/img:v1 {at}/apart",
    "overlay": "env OCI_ROOT={at}/root {bin}/oci-unpack --overlay {at}/img:v1 {at}/over",
    "remove": "{bin}/oci-unpack --rm {at}/b",
}


def made(place: Path, kind: str, count: int) -> Path:
    """Where an image of so many names is, and one of which all times are others."""
    place.mkdir()
    with Layout.create(f"{place}/img") as layout:
        for tag, mtime in (("v1", 1), ("v2", 2)):
            layout.tag(tag, many.image(layout, kind, count, mtime))
    return place


def peak(command: str, place: Path) -> int:
    status = "256" if command == "diff" else "0"  # it finds something
    words = [sys.executable, "-ISc", PEAK, status, "/bin/sh", "-c", "exec " + COMMANDS[command].format(bin=BIN, at=place)]
    return int(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.split()[-1])


@pytest.mark.parametrize(("command", "kind"), [("flat", "directories"), ("diff", "files of one directory")])
def test_of_a_hundred_thousand_names(command: str, kind: str, tmp_path: Path) -> None:
    assert peak(command, made(tmp_path / "some", kind, 100_000)) < SOME


def peaks(place: Path, kind: str, count: int) -> dict[str, int]:
    """Those of all commands, the image removed again: a million inodes slow all that comes after."""
    try:
        made(place, kind, count)
        return {command: peak(command, place) for command in COMMANDS}
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.root
@pytest.mark.skipif(not long.LONG, reason="half an hour: --long")
@pytest.mark.parametrize("kind", many.KINDS)
def test_of_any_kind_by_how_it_grows(kind: str, tmp_path: Path) -> None:
    """Of 120,000 names more; what is bounded (`store.ROOM`, `shelf.ROOM`) may still fill, what is kept of each name may not."""
    few, more = (peaks(tmp_path / str(count), kind, count) for count in (60_000, 180_000))
    assert all(more[command] < LIMIT and more[command] - few[command] < GROWTH for command in COMMANDS), (few, more)


@pytest.mark.root
@pytest.mark.skipif(not long.LONG, reason="ten minutes: --long")
def test_of_a_million_names(tmp_path: Path) -> None:
    """Of the kind that keeps the most of each name, and says the most of layers."""
    found = peaks(tmp_path / "many", "implied directories", 1_000_000)
    assert all(one < LIMIT for one in found.values()), found
