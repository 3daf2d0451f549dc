"""What podman has of mounts besides docker: U, O, globs, a tmpfs that begins with what it hides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX

OWNERS = "find /x -exec stat -c '%u:%g %n' {} +"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "d/file").write_text("mine")
    os.symlink("/etc/passwd", top / "link")
    return top


@pytest.mark.root
@pytest.mark.parametrize("words", [("-v", "{}:/x:U"), ("--mount", "type=bind,src={},dst=/x,chown=true"), ("--mount", "type=bind,src={},dst=/x,U")])
def test_it_becomes_the_users(run: Any, tree: Path, words: tuple[str, str]) -> None:
    before = os.stat("/etc/passwd")
    option, word = words
    said = run("-u", "77:88", option, word.format(tree), BUSYBOX, "sh", "-c", f"{OWNERS}; echo new > /x/d/file").stdout
    assert {line.split()[0] for line in said.splitlines()} == {"77:88"} and len(said.splitlines()) == 4
    assert (tree / "d/file").read_text() == "new\n" and os.lstat(tree / "link").st_uid == 77
    assert os.stat("/etc/passwd").st_uid == before.st_uid, "no link is followed"
    os.chown(tree / "d/file", 5, 5)  # the top is his: nothing is looked at again
    assert "5:5 /x/d/file" in run("-u", "77:88", option, word.format(tree), BUSYBOX, "sh", "-c", OWNERS).stdout


@pytest.mark.root
def test_a_volume_becomes_the_users(run: Any) -> None:
    """With what came from the image; in a user namespace, too."""
    said = run("-u", "77", "-v", "etc:/etc:U", BUSYBOX, "stat", "-c", "%u", "/etc", "/etc/passwd").stdout
    assert said.split() == ["77", "77"]
    assert run("-u", "78", "--mount", "type=volume,src=v,dst=/x,chown", BUSYBOX, "stat", "-c", "%u", "/x").stdout == "78\n"
    mapped = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "-u", "79:79")
    assert run(*mapped, "-v", "w:/x:U", BUSYBOX, "sh", "-c", "touch /x/y && stat -c %u /x").stdout == "79\n"


@pytest.mark.root
def test_a_directory_of_the_host_in_a_user_namespace(run: Any, tree: Path) -> None:
    mapped = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "-u", "79:80")
    assert run(*mapped, "-v", f"{tree}:/x:U", BUSYBOX, "stat", "-c", "%u:%g", "/x/d/file").stdout == "79:80\n"
    assert tree.stat().st_uid == 100079 and tree.stat().st_gid == 100080


@pytest.mark.root
def test_over_a_directory_of_the_host(run: Any, tree: Path, tmp_path: Path) -> None:
    said = run("-v", f"{tree}:/x:O", BUSYBOX, "sh", "-c", "echo new > /x/d/file; rm /x/link; cat /x/d/file; ls /x").stdout
    assert said == "new\nd\n"
    assert (tree / "d/file").read_text() == "mine" and os.path.islink(tree / "link")
    assert not list((tmp_path / "root/containers").glob("*/over")), "it goes with the container"
    assert "O is for directories of the host" in run("-v", "name:/x:O", BUSYBOX, "true", code=2).stderr


def test_a_glob(run: Any, tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        (tmp_path / name).write_text(name)
    words = ("--mount", f"type=glob,src={tmp_path}/a*,dst=/m,ro")
    assert run(*words, BUSYBOX, "sh", "-c", "ls /m; cat /m/a2").stdout == "a1\na2\na2"
    assert "Read-only" in run(*words, BUSYBOX, "sh", "-c", "echo > /m/a1", code=1).stderr
    assert "nothing matches" in run("--mount", f"type=glob,src={tmp_path}/none*,dst=/m", BUSYBOX, "true", code=125).stderr


@pytest.mark.parametrize("words", [("--tmpfs", "/etc:tmpcopyup"), ("--mount", "type=tmpfs,dst=/etc,tmpcopyup")])
def test_a_tmpfs_with_what_it_hides(run: Any, words: tuple[str, str]) -> None:
    assert run(*words, BUSYBOX, "sh", "-c", "grep -c ^root: /etc/passwd; echo > /etc/passwd").stdout == "1\n"
    assert run("--tmpfs", "/etc:notmpcopyup", BUSYBOX, "ls", "/etc/passwd", code=1).stdout == ""
