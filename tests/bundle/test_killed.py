"""kill -9 as oci-unpack or oci-pack makes its Nth system call: a seeded sample of all N.

What is there then does not look finished, and the next run makes it, and with gc leaves nothing else.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fault import killing
from tests.layer import listing
from tests.long import rounds

WAYS: dict[str, list[str]] = {
    "plain": ["unpack", "./img:x", "made"],
    "overlay": ["unpack", "--overlay", "./img:x", "made"],
    "layers": ["unpack", "--layers", "./img:x", "made"],
    "directory": ["unpack", "--path", "d", "./img:x", "made"],
    "file": ["unpack", "--path", "d/c", "./img:x", "made"],
    "changes": ["pack", "b", "./made:y"],
    "tree": ["pack", "t", "./made:y"],
}


@pytest.fixture
def world(oci: Any, tmp_path: Path) -> Path:
    """./img of two layers, tagged x; ./b, a bundle of it with a change; ./t, a tree."""
    (tmp_path / "t/d").mkdir(parents=True)
    for name in ("a", "d/b", "d/c"):
        (tmp_path / "t" / name).write_text(name)
        os.utime(tmp_path / "t" / name, (1, 1))
    (tmp_path / "t/l").symlink_to("d")
    for way in ([], ["--append"]):
        oci("pack", "t", "./img:x", *way)
        (tmp_path / "t/d/b").write_text("other")
    oci("unpack", "./img:x", "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    return tmp_path


def seen(place: Path, way: str) -> list[str]:
    """All that a run made; a store's and a layout's files by their names, which are digests."""
    made = place / "made"
    if way in ("changes", "tree"):
        return [line.path for line in listing.lines(made)]
    if made.is_file():
        return [made.read_text()]
    left = [line.path for line in listing.lines(place / "root") if "/.roots/" not in line.path]
    return left + [line.text("") for line in listing.lines(made) if ".oci-unpack" not in line.path or line.path == ".oci-unpack.new"]


def clear(place: Path) -> None:
    for name in ("made", "root"):
        path = place / name
        if path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    (place / "root").mkdir(0o700)


def collect(oci: Any, way: str) -> None:
    """What was written beside a layout's or the store's files goes with the next gc."""
    if way in ("changes", "tree", "overlay"):
        oci("image", "gc", "--grace", "0s", *(["./made"] if way != "overlay" else []))


@pytest.mark.root
@pytest.mark.needs("strace")
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_any_system_call(way: str, oci: Any, world: Path) -> None:
    words = [oci.bin / f"oci-{WAYS[way][0]}", *WAYS[way][1:]]
    clear(world)
    log = world / "trace"
    calls = killing.trace(words, log, env=oci.env, cwd=world)
    collect(oci, way)
    whole, beside = seen(world, way), sorted(os.listdir(world))
    clear(world)
    points = killing.points(calls)
    for at in random.Random(way).sample(points, min(len(points), rounds(9, 1000))):
        code = killing.kill(words, calls, at, log, env=oci.env, cwd=world)
        looks = (world / "made/.oci-unpack.json").exists() if way in ("plain", "overlay") else (world / "made").exists()
        if way not in ("changes", "tree") and looks:
            now = [line for line in seen(world, way) if not line.startswith(".oci-unpack.new")]
            assert now == whole, f"{calls[at]} {at}"
            clear(world)
        elif code == 0:
            clear(world)
        done = oci(*WAYS[way], code=None)
        assert done.returncode == 0, (calls[at], at, done.stderr)
        collect(oci, way)
        assert (seen(world, way), sorted(os.listdir(world))) == (whole, beside), f"{calls[at]} {at}"
        clear(world)
        shutil.rmtree(world / ".made.oci-unpack.new", ignore_errors=True)
