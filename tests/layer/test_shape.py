"""A tree cut in layers: all of it, in the same layers for the same parts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.layer import shape
from tests.layer import listing


def cut(tree: Path, most: int, masks: tuple[bytes, ...] = ()) -> list[list[bytes]]:
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [list(layer) for layer in shape.cut(fd, most, masks)]
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten packages of one file, one of them large, and what is in none; bin is merged into usr."""
    place = tmp_path / "t"
    for name in ("usr/bin", "var/lib/dpkg/info", "etc", "empty"):
        (place / name).mkdir(parents=True)
    (place / "bin").symlink_to("usr/bin")
    (place / "etc/mine").write_text("mine")
    for at in range(10):
        add(place, f"p{at}", at == 3)
    os.link(place / "usr/bin/p1", place / "etc/link")
    return place


def add(place: Path, name: str, large: bool = False) -> None:
    (place / "usr/bin" / name).write_bytes(name.encode() + bytes(1 << 20 if large else 9))
    (place / f"var/lib/dpkg/info/{name}.list").write_text(f"/.\n/bin\n/bin/{name}\n")


def test_everything_is_somewhere_once(tree: Path) -> None:
    everything = sorted(os.fsencode(line.path) for line in listing.lines(tree))
    for most in (1, 2, 3, 5, 40):
        layers = cut(tree, most)
        assert len(layers) <= most and all(layers)
        assert sorted(path for layer in layers for path in layer) == everything
        assert layers == cut(tree, most)
        assert {b"empty", b"etc/mine", b"var/lib/dpkg/info/p0.list"} <= set(layers[0])
    assert cut(tree, 5)[-1] == [b"usr/bin/p3"], "what is large is alone"
    [together] = [layer for layer in cut(tree, 5) if b"usr/bin/p1" in layer or b"etc/link" in layer]
    assert {b"usr/bin/p1", b"etc/link"} <= set(together), "names of one file are in one layer"
    assert b"usr/bin/p2" not in [path for layer in cut(tree, 5, (b"usr/bin/p2",)) for path in layer]


def test_a_package_that_comes_changes_one_layer_and_the_lowest(tree: Path) -> None:
    before = cut(tree, 5)
    add(tree, "new")
    after = cut(tree, 5)
    assert len(before) == len(after) and sum(one != other for one, other in zip(before[1:], after[1:], strict=True)) == 1


def test_without_packages_by_directories(tmp_path: Path) -> None:
    for name in ("a/b/c/d/x", "a/b/c/e/y", "a/b/z", "f/g", "top"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text(name)
    layers = cut(tmp_path / "t", 20)
    assert layers[0] == [b"a", b"a/b", b"a/b/c", b"a/b/c/d", b"a/b/c/e", b"f", b"top"]
    assert sorted(layers[1:]) == [[b"a/b/c/d/x", b"a/b/c/e/y"], [b"a/b/z"], [b"f/g"]]
    assert cut(tmp_path / "t", 1)[1:] == []


def test_lists_that_are_none(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.list").write_text("/etc/mine\n")
    info = tree / "var/lib/dpkg/info"
    (info / "l.list").symlink_to(tmp_path / "secret.list")
    os.mkfifo(info / "f.list")
    (info / "d.list").mkdir()
    assert b"etc/mine" in cut(tree, 5)[0]


@pytest.mark.root
def test_unpacked_it_is_the_tree(oci: Any, tree: Path, tmp_path: Path) -> None:
    subprocess.run(["chmod", "1777", tree / "empty"], check=True)
    made = oci("pack", "t", "./img:x", "--layers", "5", "--cmd", "true").stdout
    assert oci("pack", "t", "./img:y", "--layers", "5", "--cmd", "true").stdout == made
    oci("pack", "t", "./img:one")
    for name in ("x", "one"):
        oci("unpack", f"./img:{name}", name)
    assert listing.tree(tmp_path / "x/rootfs") == listing.tree(tmp_path / "one/rootfs") == listing.tree(tree)
    told = json.loads(oci("image", "inspect", "./img:x").stdout)
    assert 2 < len(told["manifest"]["layers"]) <= 5 and told["config"]["config"]["Cmd"] == ["true"]
    (tree / "usr/bin/p3").write_text("other")
    oci("pack", "t", "./img:x", "--layers", "5")
    now = json.loads(oci("image", "inspect", "./img:x").stdout)["manifest"]["layers"]
    assert sum(layer in told["manifest"]["layers"] for layer in now) >= 2
    for words in (["--layers", "0"], ["--layers", "2", "--split", "etc"]):
        assert "--layers takes a number" in oci("pack", "t", "./img:z", *words, code=2).stderr
    assert "only a directory can be split" in oci("pack", "x", "./img:z", "--layers", "2", code=2).stderr
