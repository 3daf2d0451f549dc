"""A plain user's bundles with subordinate ids: owners are real, and everything works as for root.

The files that say who has which ids are replaced in a mount namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.layer import owner as owners
from tests.conftest import Commands
from tests.layer import listing

pytestmark = [pytest.mark.root, pytest.mark.needs("newuidmap", "newgidmap", "setpriv", "unshare")]
UID, FIRST = 12345, 700_000
ENTER = """
for name in passwd subuid subgid; do mount --bind "$0/$name" /etc/$name || exit 99; done
exec setpriv --reuid 12345 --regid 12345 --clear-groups "$@"
"""


class Mapped(Commands):
    """Commands run by a user who has subordinate ids."""

    def run(self, argv: list[Any], **options: Any) -> subprocess.CompletedProcess[Any]:
        words = ["unshare", "-m", "--propagation", "private", "sh", "-c", ENTER, self.cwd / "etc", *argv]
        user, self.user = self.user, {}
        try:
            return super().run(words, **options)
        finally:
            self.user = user


@pytest.fixture
def mapped(plain: Commands, public: Path) -> Iterator[Mapped]:
    (public / "etc").mkdir()
    (public / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\ntester:x:{UID}:{UID}::/:/bin/sh\n")
    for name in ("subuid", "subgid"):
        (public / "etc" / name).write_text(f"# no line\nother:1:5\ntester:{FIRST}:1000\n{UID}:{FIRST + 5000}:500\n")
    with Mapped(plain.env, public, UID) as commands:
        commands.bin = plain.bin
        if commands.run(["unshare", "-U", "true"], code=None).returncode:
            pytest.skip("needs mount namespaces")
        yield commands


@pytest.fixture
def img(oci: Any, public: Path, tmp_path: Path) -> str:
    """An image with owners, that the plain user can read."""
    tree = tmp_path / "t"
    (tree / "d/ro").mkdir(parents=True)
    for name, uid, gid, mode in (("d/f", 33, 34, 0o4750), ("d/far", 1200, 1300, 0o600), ("d/ro/x", 5, 0, 0o400)):
        (tree / name).write_text(name)
        os.chown(tree / name, uid, gid)
        (tree / name).chmod(mode)
    os.symlink("f", tree / "d/l")
    os.lchown(tree / "d/l", 33, 33)
    os.mkfifo(tree / "d/p")
    os.chown(tree / "d/p", 7, 7)
    os.chown(tree / "d", 33, 33)
    os.chown(tree / "d/ro", 5, 5)
    (tree / "d/ro").chmod(0o500)
    os.setxattr(tree / "d/f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    oci("pack", "t", f"{public}/img:x")
    subprocess.run(["chown", "-R", f"{UID}:{UID}", public / "img"], check=True)
    return f"{public}/img:x"


@pytest.mark.parametrize("overlay", [[], ["--overlay"]])
def test_unpacked_and_packed_it_is_the_same(overlay: list[str], mapped: Mapped, img: str, public: Path, oci: Any, tmp_path: Path) -> None:
    first = oci("image", "ls", f"{public}/img").stdout
    done = mapped("unpack", *overlay, img, "b")
    assert done.stderr == "" and done.stdout == f"{public}/b\n"
    if not overlay:
        seen = (public / "b/rootfs/d/f").stat()
        assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (FIRST + 32, FIRST + 33, 0o4750)
        assert (public / "b/rootfs/d/far").stat().st_uid == FIRST + 5000 + 1200 - 1001
        assert (public / "b/rootfs/d/p").lstat().st_uid == FIRST + 6
    else:
        assert not list((public / "root/layers").glob("sha256")) and len(list((public / "root/layers").glob("ids-*"))) == 1
    mapped("pack", "b", f"{public}/img:x")
    assert oci("image", "ls", f"{public}/img").stdout == first
    mapped("unpack", "--rm", "b")
    assert not (public / "b").exists()


def test_changes_have_their_owners(mapped: Mapped, img: str, public: Path, oci: Any, tmp_path: Path) -> None:
    mapped("unpack", img, "b")
    os.chown(public / "b/rootfs/d/f", FIRST + 99, FIRST + 98)
    os.chmod(public / "b/rootfs/d/f", 0o600)
    (public / "b/rootfs/d/mine").write_text("mine")
    os.chown(public / "b/rootfs/d/mine", UID, UID)
    mapped("pack", "b", f"{public}/img:y")
    oci("unpack", f"{public}/img:y", "out")
    found = {line.path: line.owner for line in listing.lines(tmp_path / "out/rootfs")}
    assert (found["d/f"], found["d/mine"], found["d/far"], found["d/l"]) == ("100:99", "0:0", "1200:1300", "33:33")
    mapped("unpack", "--rm", "b")


@pytest.mark.parametrize("overlay", [[], ["--overlay"]])
def test_oci_run_runs_it(overlay: list[str], mapped: Mapped, busybox: Path, public: Path) -> None:
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", public / "img"], check=True)
    mapped("unpack", *overlay, "./img:latest", "b")
    spec = json.loads((public / "b/config.json").read_text())
    assert [entry["size"] for entry in spec["linux"]["uidMappings"]] == [1, 1000, 500]
    script = "touch /tmp/f && chown 33:34 /tmp/f && stat -c %u:%g /tmp/f && cat /proc/self/uid_map | wc -l"
    assert mapped("run", "./b", "sh", "-c", script).stdout == "33:34\n3\n"
    place = public / ("b/upper/tmp/f" if overlay else "b/rootfs/tmp/f")
    assert place.stat().st_uid == FIRST + 32
    mapped("pack", "b", "./img:y")
    names = mapped.shell("oci-unpack ./img:y - | tar -tv --numeric-owner").stdout
    assert any("33/34" in line and line.endswith("tmp/f") for line in names.splitlines())
    mapped("unpack", "--rm", "b")


@pytest.mark.parametrize("single", [[], ["--single-id"]])
def test_where_a_plain_user_has_things(single: list[str], mapped: Mapped, busybox: Path, public: Path) -> None:
    """Root of a user namespace does not look for them where the host's root has them."""
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", public / "img"], check=True)
    env = {"OCI_ROOT": None, "OCI_RUN": None, "XDG_RUNTIME_DIR": str(public / "run")}
    mapped("unpack", "--overlay", *single, "./img:latest", "b", env=env)
    assert (public / "home/.local/share/oci/layers").is_dir()
    assert mapped("run", "./b", "echo", "x", env=env).stdout == "x\n"
    mapped("unpack", "--rm", "b", env=env)
    mapped("image", "gc", "--grace", "0", env=env)
    assert not list((public / "home/.local/share/oci/layers").rglob("sha256/*"))


def test_one_id_where_there_are_no_others_or_it_is_asked_for(mapped: Mapped, img: str, public: Path) -> None:
    mapped("unpack", "--single-id", img, "b")
    assert (public / "b/rootfs/d/f").stat().st_uid == UID
    (public / "etc/subgid").write_text("")
    mapped("unpack", img, "c")
    assert (public / "c/rootfs/d/f").stat().st_uid == UID
    for name in ("b", "c"):
        assert json.loads((public / name / ".oci-unpack.json").read_text())["owner"].startswith("single")
        mapped("unpack", "--rm", name)


def test_an_id_that_is_not_mapped(mapped: Mapped, img: str, public: Path) -> None:
    for name in ("subuid", "subgid"):
        (public / "etc" / name).write_text(f"tester:{FIRST}:100\n")
    done = mapped("unpack", img, "b", code=1)
    assert "there are 101 user and 101 group ids" in done.stderr and done.stderr.count("\n") == 1
    assert not (public / "b").exists()


def test_a_refused_mapping(mapped: Mapped, img: str, public: Path) -> None:
    mapped("unpack", img, "b")
    for name in ("subuid", "subgid"):
        text = (public / "etc" / name).read_text()
        (public / "etc" / name).write_text("")
        done = mapped("pack", "b", f"{public}/img:y", code=1)
        assert "cannot map ids" in done.stderr
        (public / "etc" / name).write_text(text)
    mapped("unpack", "--rm", "b")


def test_a_key_is_of_the_maps() -> None:
    one = [{"containerID": 0, "hostID": 1, "size": 1}]
    two = [{"size": 2, "hostID": 1, "containerID": 0}]
    assert owners.key({"uidMappings": one, "gidMappings": one}) != owners.key({"uidMappings": two, "gidMappings": one})
