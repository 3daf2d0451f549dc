"""The tricky layers: each comes out as the table of ten other unpackers says, by the command itself.

Where those that fill plain directories differ (`expect` is null), what we do is written here, as it is
in oci-unpack(1): what the image specification's text says, else the safest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.layer import listing

LAYERS = Path(__file__).resolve().parents[3] / "shared" / "layers"
ESCAPE = Path("/var/tmp/layer-escape")
REFUSED = ["refused"]

X = "sha=73cb3858a687"  # "x\n"
OUT = "sha=fa5713fea5d7"  # "out\n"
BELOW = ["var d 0755 0:0 0    ", "var/tmp d 0755 0:0 0    ", "var/tmp/layer-escape d 0755 0:0 0    "]
CHOSEN = {
    # whiteouts act on lower layers only, wherever they stand
    "add-then-wh": [
        "a d 0755 0:0 0    ", "a/d d 0755 0:0 0    ", "a/d/y f 0644 0:0 6  sha=1b7d50cf493e  ",
        "a/f f 0644 0:0 4  sha=7aa7a5359173  ", "a/g f 0644 0:0 6  sha=aa5ab99d2cbe  ",
        "top f 0644 0:0 8  sha=45958a15bb99  ",
    ],
    "opaque-after-implicit": [
        "a d 0755 0:0 0    ", "a/d d 0755 0:0 0    ", "a/d/z f 0644 0:0 2  sha=c865f6c5ab8d  ",
        "top f 0644 0:0 8  sha=45958a15bb99  ",
    ],
    # names go through links, within the root
    "opaque-symlink": ["ln l 0777 0:0 0  ->real  ", "real d 0755 0:0 0    "],
    "trav-sym-abs": ["l l 0777 0:0 0  ->/var/tmp/layer-escape  ", *BELOW, f"var/tmp/layer-escape/symabs f 0644 0:0 4  {OUT}  "],
    "trav-sym-rel": [
        f"l l 0777 0:0 0  ->{'../' * 12}var/tmp/layer-escape  ", *BELOW, f"var/tmp/layer-escape/symrel f 0644 0:0 4  {OUT}  ",
    ],
    "trav-chain": [
        "a d 0755 0:0 0    ", "a/u l 0777 0:0 0  ->..  ", "v l 0777 0:0 0  ->a/u/..  ", *BELOW,
        f"var/tmp/layer-escape/chain f 0644 0:0 4  {OUT}  ", f"w l 0777 0:0 0  ->v/{'../' * 10}var/tmp/layer-escape  ",
    ],
    "trav-sym-file": [f"l f 0644 0:0 4  {OUT}  "],
    # a whiteout of nothing makes nothing
    "trav-wh": ["l l 0777 0:0 0  ->/var/tmp/layer-escape  "],
    "trav-opaque": ["l l 0777 0:0 0  ->/var/tmp/layer-escape  "],
    # a hard link has no attributes of its own
    "hl-cross-layer-meta": [f"a f 0600 1:0 2  {X}  =a", f"b f 0600 1:0 2  {X}  =a"],
    "xattr-trusted": ["f f 0644 0:0 1  sha=2d711642b726 trusted.k=76 "],
    "dup-file": ["f f 0600 0:0 4  sha=27dd8ed44a83  "],
    "root-dot": [". d 0711 7:8 0    ", "f f 0644 0:0 1  sha=2d711642b726  "],
    "root-dot-upper": [". d 0711 7:8 0    ", "f f 0644 0:0 1  sha=2d711642b726  "],
    "mt-docker": ["d d 0755 0:0 0    ", "d/f f 0644 0:0 5000  sha=c59d3c0480cc  "],
    "other-arch": ["d d 0755 0:0 0    ", "d/f f 0644 0:0 5000  sha=c59d3c0480cc  "],
    "wh-dot": REFUSED,
    "root-file": REFUSED,
    "root-symlink": REFUSED,
    "xz": REFUSED,  # none of the specification's compressions
    "bad-size-small": REFUSED,
    "many-diffids": REFUSED,
}  # fmt: skip


def cases() -> dict[str, Any]:
    if not LAYERS.is_dir():
        return {}
    found: dict[str, Any] = json.loads((LAYERS / "expected.json").read_text())
    return found


def refused(case: str) -> bool:
    return (cases()[case]["expect"] or CHOSEN[case]) in ("refused", REFUSED)


@pytest.fixture
def escape() -> Iterator[Path]:
    """The directory that those who want to get out aim at, with a file in it; one test at a time has it."""
    lock = os.open(ESCAPE.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        ESCAPE.mkdir(exist_ok=True)
        (ESCAPE / "victim").write_text("victim")
        yield ESCAPE
        shutil.rmtree(ESCAPE)
    finally:
        os.close(lock)


@pytest.mark.root
@pytest.mark.skipif(not LAYERS.is_dir(), reason=f"needs {LAYERS}")
@pytest.mark.parametrize("case", cases())
def test_a_tricky_layer(case: str, oci: Any, tmp_path: Path, escape: Path) -> None:
    before = listing.tree(escape)
    if refused(case):
        done = oci("unpack", f"{LAYERS}/img/{case}:latest", "b", code=1)
        assert done.stderr.startswith("oci-unpack: ") and done.stderr.count("\n") == 1
        assert sorted(os.listdir(tmp_path)) == ["home", "root", "run"]
    else:
        oci("unpack", f"{LAYERS}/img/{case}:latest", "b")
        check(cases()[case]["expect"] or CHOSEN[case], tmp_path / "b" / "rootfs")
    assert listing.tree(escape) == before


def check(expect: list[str], root: Path) -> None:
    """Compare a tree with lines in which a time may be given, blank (whatever), or "now"."""
    found = listing.lines(root)
    if expect[0].startswith(". "):
        found.insert(0, listing.Line(os.fsencode(root), root.stat(), b".", {}))
    assert [line.path for line in found] == [line.split(" ")[0] for line in expect]
    for line, wanted in zip(found, expect, strict=True):
        texts = [line.text(), line.text("")]
        if abs(float(line.mtime) - time.time()) < 100:
            texts.append(line.text("now"))
        assert wanted.rstrip() in [text.rstrip() for text in texts]


@pytest.mark.skipif(not LAYERS.is_dir(), reason=f"needs {LAYERS}")
def test_every_choice_is_one() -> None:
    assert set(CHOSEN) == {case for case, known in cases().items() if known["expect"] is None}


@pytest.mark.root
@pytest.mark.skipif(not LAYERS.is_dir(), reason=f"needs {LAYERS}")
def test_every_layer_directory_has_its_case() -> None:
    assert {path.name for path in (LAYERS / "img").iterdir()} <= set(cases())
