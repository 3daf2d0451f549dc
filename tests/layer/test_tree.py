"""layer/tree.py: how directories are opened, with openat2 and where it is denied or missing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oci_tools.image.layout import Layout
from oci_tools.layer.tree import OPEN_MAX, STEP, Tree
from oci_tools.linux.libc import NR
from tests.bundle import many

TOP = Path(__file__).resolve().parent.parent.parent
# The words from the third on are run where openat2 gives the error of the second, 0 for none.
DENY = f"""
import os, sys
sys.path.insert(0, {str(TOP)!r})
from oci_tools.linux import seccomp
from struct import pack
if sys.argv[1] != "0":
    code = ((0x20, 0, 0, 0), (0x15, 0, 1, {NR["openat2"]}), (0x06, 0, 0, 0x50000 | int(sys.argv[1])), (0x06, 0, 0, 0x7FFF0000))
    seccomp.no_new_privs()
    seccomp.set_mode_filter(seccomp.sock_fprog(b"".join(pack("HBBI", *one) for one in code)), 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
DEEP = ["/".join([f"d{at}", *("x" * at)]) for at in range(1, 40)]


def denied(error: int, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-ISc", DENY, str(error), *map(str, words)], text=True, capture_output=True, check=False)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_an_unpack_needs_no_openat2(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a{at}/b/c/d" for at in range(2 * OPEN_MAX)] + DEEP
    kinds = {"deep": lambda _: [[("d", name, "") for name in names], [("f", f"{name}/f", "") for name in names[::-1]]]}
    monkeypatch.setattr(many, "KINDS", kinds)
    with Layout.create(f"{tmp_path}/img") as layout:
        layout.tag("v1", many.image(layout, "deep", 0))
    with_it = denied(0, "/usr/bin/strace", "-f", "-o", tmp_path / "calls", "-e", "trace=openat2", TOP / "bin/oci-unpack", f"{tmp_path}/img:v1", tmp_path / "with")
    without = denied(error, TOP / "bin/oci-unpack", f"{tmp_path}/img:v1", tmp_path / "without")
    assert (with_it.stderr, without.stderr) == ("", "")
    assert "RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH" in (tmp_path / "calls").read_text()
    found = [sorted(f"{at.relative_to(tmp_path / side)}" for at in (tmp_path / side).rglob("*")) for side in ("with", "without")]
    assert found[0] == found[1] and sum(name.endswith("/f") for name in found[0]) == len(names)


@pytest.mark.parametrize("depth", [1, 2, STEP, STEP + 1, 3 * STEP + 2])
def test_a_directory_of_any_depth_and_the_longest_names(depth: int, tmp_path: Path) -> None:
    with Tree(os.open(tmp_path, os.O_RDONLY)) as tree:
        node = tree.root
        for at in range(depth):
            node = tree.make(node, b"%0255d" % at)
            made = os.fstat(tree.fd(node))
        tree.close()
        assert os.path.samestat(made, os.fstat(tree.fd(node)))
    os.close(tree.root.fd)


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_link_in_the_place_of_a_directory_is_not_followed(where: int, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    (tmp_path / "tree").mkdir()
    (tmp_path / "out/a/b/c").mkdir(parents=True)
    with Tree(os.open(tmp_path / "tree", os.O_RDONLY)) as tree:
        node = tree.root
        for name in names:
            node = tree.make(node, name.encode())
        tree.close()
        place = tmp_path.joinpath("tree", *names[: where + 1])
        place.rename(tmp_path / "was")
        place.symlink_to(tmp_path.joinpath("out", *names[: where + 1]))
        with pytest.raises(NotADirectoryError):
            tree.fd(node)
    os.close(tree.root.fd)
