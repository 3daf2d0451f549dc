"""Directories that become links to somewhere else while they are unpacked into: nothing there is read or changed.

Another process of the same user, who is the only one that can reach a tree that is being made, has directories of it
and links to one outside change places as fast as can be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.bundle.test_flat import image
from tests.layer import make
from tests.long import rounds

# Of the names in directories that match, so many times as can be; at the end how often it was done.
FLIP = """
import ctypes, glob, os, signal, sys
exchange, done = ctypes.CDLL(None).renameat2, 0
links, patterns = sys.argv[1], sys.argv[2:]
names = os.listdir(links)
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
print(flush=True)
while not ended:
    for top in [top for pattern in patterns for top in glob.glob(pattern, include_hidden=True)]:
        for _ in range(20):
            for name in names:
                done += exchange(-100, f"{top}/{name}".encode(), -100, f"{links}/{name}".encode(), 2) == 0  # RENAME_EXCHANGE
print(done)
"""
WAYS: dict[str, tuple[list[str], list[str]]] = {
    "plain": (["./img:x", "made"], ["made/.oci-unpack.new/rootfs*"]),
    "overlay": (["--overlay", "./img:x", "made"], ["root/layers/.new/*", "made/.oci-unpack.new/upper"]),
    "layers": (["--layers", "./img:x", "made"], [".made.oci-unpack.new/new/*"]),
    "directory": (["--path", "/", "./img:x", "made"], [".made.oci-unpack.new/new"]),
}
DIRECTORIES = [f"d{at}" for at in range(8)]
FILES = [f"f{at:02}" for at in range(30)]


def layers() -> Iterator[list[Any]]:
    """Everything that a layer can do to a directory, and to files in it."""
    told = [{"kind": "d", "name": name, "mode": 0o1700, "uid": 7, "gid": 7, "xattrs": {b"user.x": b"1"}} for name in DIRECTORIES]
    yield [
        *told,
        *({"name": f"{d}/{f}", "mode": 0o4711, "uid": 7, "data": b"lower", "xattrs": {b"user.y": b"2"}} for f in FILES for d in DIRECTORIES),
        *({"kind": "p", "name": f"{d}/pipe", "mode": 0o666, "uid": 7} for d in DIRECTORIES),
        *({"kind": "c", "name": f"{d}/null", "mode": 0o666, "device": (1, 3)} for d in DIRECTORIES),
    ]
    yield [f"{d}/.wh.{f}" for f in FILES[::3] for d in DIRECTORIES] + [f"h/{d}-{f}={d}/{f}" for f in FILES[1::3] for d in DIRECTORIES]
    yield [*(f"{d}/.wh..wh..opq" for d in DIRECTORIES[::2]), *(f"{d}/{f}/" for f in FILES[2::3] for d in DIRECTORIES), *told]


def seen(top: Path) -> list[Any]:
    """All that can be known of a tree without a change of it; a change time tells of each change."""
    found = []
    for path in [top, *sorted(top.rglob("*"))]:
        at = path.lstat()
        found.append((path, at.st_mode, at.st_uid, at.st_ino, at.st_nlink, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
    return found


@contextmanager
def flipping(oci: Any, outside: Path, patterns: list[str]) -> Iterator[list[int]]:
    """How often it was done is in the list afterwards."""
    links = oci.cwd / "links"
    done: list[int] = []
    subprocess.run(["rm", "-rf", links], check=True)
    subprocess.run(["mkdir", links], check=True, **oci.user)
    for name in DIRECTORIES:
        subprocess.run(["ln", "-s", outside, links / name], check=True, **oci.user)
    words = [sys.executable, "-Ic", FLIP, links, *(oci.cwd / pattern for pattern in patterns)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd="/", **oci.user) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield done
        process.terminate()
        done.append(int(process.stdout.read()))


def raced(oci: Any, way: str, times: int) -> None:
    with Layout.create(f"{oci.cwd}/img") as layout:
        layout.tag("x", image(layout, *layers()).descriptor)
    outside = oci.cwd / "outside"
    (outside / "h").mkdir(parents=True)
    for name in (*FILES, "pipe", "null"):
        (outside / name).write_text("not the image's")
    subprocess.run(["chown", "-R", str(oci.user.get("user", 0)), outside, oci.cwd / "img"], check=True)
    before, flips, (words, patterns) = seen(outside), [], WAYS[way]
    for _ in range(times):
        with flipping(oci, outside, patterns) as done:
            run = oci("unpack", *words, code=None)
        assert run.returncode in (0, 1) and len(run.stderr.splitlines()) <= 3, run.stderr
        assert seen(outside) == before
        flips += done
        for name in ("made", ".made.oci-unpack.new", "root/layers"):
            if (oci.cwd / name).exists():
                shutil.rmtree(oci.cwd / name)
        assert seen(outside) == before
    assert sum(flips) > 100 * times, "nothing was there to change places"


@pytest.mark.root
@pytest.mark.parametrize("way", WAYS)
def test_as_root(way: str, oci: Any) -> None:
    raced(oci, way, rounds(4, 200))


@pytest.mark.parametrize("way", WAYS)
def test_as_a_plain_user(way: str, plain: Any) -> None:
    raced(plain, way, rounds(4, 200))


@pytest.mark.root
def test_what_is_packed_is_not_outside(oci: Any, tmp_path: Path) -> None:
    """A tree that others change while it is packed: it fails, or has what is in the tree."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in FILES:
        (outside / name).write_text("not the image's")
    make.unpack(tmp_path / "t", *layers())
    flips = []
    for _ in range(rounds(6, 200)):
        with flipping(oci, outside, ["t"]) as done:
            oci("pack", "--compression", "none", "t", "./made:x", code=None)
        flips += done
        for blob in (tmp_path / "made/blobs/sha256").glob("*"):
            assert b"not the image's" not in blob.read_bytes()
        for name in DIRECTORIES:
            if (tmp_path / "t" / name).is_symlink():
                (tmp_path / "t" / name).unlink()
                (tmp_path / "links" / name).rename(tmp_path / "t" / name)
        subprocess.run(["rm", "-rf", tmp_path / "made"], check=True)
    assert sum(flips) > 100 * len(flips)
