"""What podman has of mounts besides docker: U, O, globs, a tmpfs that begins with what it hides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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


SCRIPT = "stat -c %u:%g /m /m/bin/busybox /m/new 2>/dev/null; touch /m/new; chown 5:6 /m/new"


@pytest.fixture
def img(oci: Any, busybox: Path, tmp_path: Path) -> str:
    """An image of so many layers that their names are longer than the kernel takes at once; one hides a file."""
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)
    for number in range(4):
        (tmp_path / "t").mkdir(exist_ok=True)
        (tmp_path / f"t/made{number}").write_text("x")
        oci("unpack", "./img:latest", "./b")
        subprocess.run(["cp", "-r", f"{tmp_path}/t/.", tmp_path / "b/rootfs"], check=True)
        (tmp_path / "b/rootfs/etc/os-release").unlink(missing_ok=True)
        oci("pack", "./b", "./img:latest")
        shutil.rmtree(tmp_path / "b")
    return "type=image,src=./img:latest,dst=/m"


@pytest.mark.root
@pytest.mark.parametrize("words", [("auto",), ("private", "--uidmap", "0:700000:5000")], ids=["auto", "said"])
def test_an_image_in_a_user_namespace(run: Any, oci: Any, img: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Its files are root's inside as they are in the image, and so is what is written; nothing of it is the host's."""
    made = run("new", "--network", "none", "--userns", *words, "--mount", f"{img},rw=true", BUSYBOX, "sh", "-c", SCRIPT).stdout.strip()
    assert oci("run", "start", "-a", made).stdout.split() == ["0:0", "0:0"]
    assert oci("run", "start", "-a", made).stdout.split() == ["0:0", "0:0", "5:6"], "kept with the container"
    new = (tmp_path / f"root/containers/{made}/images/0/upper/new").stat()
    assert (new.st_uid, new.st_gid) == (5, 6), "on disk as the image's are"
    oci("run", "rm", made)
    refused = run("--network", "none", "--userns", *words, "--mount", img, BUSYBOX, "touch", "/m/new", code=1).stderr
    assert "Read-only" in refused
    part = run("--network", "none", "--userns", *words, "--mount", f"{img},subpath=etc", BUSYBOX, "stat", "-c", "%u", "/m/passwd")
    assert part.stdout == "0\n"


@pytest.mark.root
def test_an_image_of_many_layers(run: Any, img: str) -> None:
    for words in ((), ("--userns", "auto")):
        said = run("--network", "none", *words, "--mount", img, BUSYBOX, "sh", "-c", "ls /m | grep made; ls /m/etc").stdout
        assert said.split() == ["made0", "made1", "made2", "made3", "group", "passwd"]


def test_an_image_of_a_plain_user(plain_run: Any, plain: Any, busybox: Path, public: Path) -> None:
    shutil.copytree(busybox, public / "img")
    word = "type=image,src=./img:latest,dst=/m"
    for words, owner in (((), "0:0"), (("--userns", "keep-id:uid=7,gid=8"), "7:8")):
        said = plain_run("--network", "none", *words, "--mount", f"{word},rw=true", BUSYBOX, "sh", "-c", "touch /m/new; stat -c %u:%g /m/new /m/bin").stdout
        assert said.split() == [owner] * 2
        assert "Read-only" in plain_run("--network", "none", *words, "--mount", word, BUSYBOX, "touch", "/m/new", code=1).stderr


@pytest.mark.root
def test_a_bundle_with_an_image_in_its_own_user_namespace(run: Any, oci: Any, img: str, tmp_path: Path) -> None:
    """Which the options do not say, and config.json does."""
    oci("unpack", "./img:latest", "./b")
    spec = json.loads((tmp_path / "b/config.json").read_text())
    spec["linux"]["namespaces"] += [] if any(each["type"] == "user" for each in spec["linux"]["namespaces"]) else [{"type": "user"}]
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 700000, "size": 1000}]
    (tmp_path / "b/config.json").write_text(json.dumps(spec))
    subprocess.run(["chown", "-R", "700000:700000", tmp_path / "b/rootfs"], check=True)
    assert run("--mount", img, "./b", "stat", "-c", "%u", "/m/bin").stdout == "0\n"


@pytest.fixture
def artifact(oci: Any, run: Any, tmp_path: Path) -> str:
    """One of two files, in the store."""
    (tmp_path / "one.txt").write_text("first")
    (tmp_path / "two.txt").write_text("second")
    oci("image", "artifact", "create", "files", "one.txt", "two.txt")
    return "files"


def test_an_artifact(run: Any, oci: Any, artifact: str) -> None:
    """podman's artifact mounts: several files in the target, one in its place, or in it if it is a directory."""
    def mount(more: str = "", target: str = "/m", code: int = 0, script: str = "") -> str:
        words = ("-u", "77", "--mount", f"type=artifact,src={artifact},dst={target}{more}", BUSYBOX)
        done = run(*words, "sh", "-c", script or f"cd {target}; for each in *; do echo $each; cat $each; echo; done", code=code)
        return str(done.stdout if code == 0 else done.stderr)

    assert mount() == "one.txt\nfirst\ntwo.txt\nsecond\n"
    assert mount(",name=x") == "x-0\nfirst\nx-1\nsecond\n"
    assert mount(",title=two.txt", script="cat /m") == "second"
    assert mount(",title=two.txt", "/opt/a", script="cat /opt/a") == "second"
    assert mount(",title=two.txt", "/etc", script="cat /etc/two.txt") == "second", "a directory of the image"
    assert mount(",title=two.txt,name=z", "/etc", script="cat /etc/z") == "second"
    digest = json.loads(oci("image", "cat", artifact).stdout)["layers"][0]["digest"]
    assert mount(f",digest={digest}", script="cat /m") == "first"
    assert "Read-only" in str(run("--mount", f"type=artifact,src={artifact},dst=/m", BUSYBOX, "touch", "/m/one.txt", code=1).stderr)
    assert "it has no such file" in mount(",title=none", code=125)
    assert "exclude each other" in mount(f",title=two.txt,digest={digest}", code=2)
    assert "invalid name" in mount(",name=../x", code=2)


def test_an_artifact_stays_as_long_as_its_container(run: Any, oci: Any, artifact: str) -> None:
    made = run("new", "--mount", f"type=artifact,src={artifact},dst=/m", BUSYBOX, "cat", "/m/one.txt").stdout.strip()
    oci("image", "rm", artifact)
    oci("image", "gc", "--grace", "0s")
    assert run("start", "-a", made).stdout == "first"
    run("rm", made)


def test_an_artifact_of_a_stranger(run: Any, oci: Any, tmp_path: Path) -> None:
    """Its blobs are verified, no link among them is followed, no title leads out of the target."""
    (tmp_path / "f").write_text("mine")
    oci("image", "artifact", "create", "./layout:a", "f")
    words = ("--mount", "type=artifact,src=./layout:a,dst=/m", BUSYBOX, "cat", "/m")
    assert run(*words).stdout == "mine"
    digest = json.loads(oci("image", "cat", "./layout:a").stdout)["layers"][0]["digest"].partition(":")[2]
    blob = tmp_path / "layout/blobs/sha256" / digest
    blob.unlink()
    blob.symlink_to("/etc/shadow")
    assert run(*words, code=125).stdout == ""
    blob.unlink()
    blob.write_text("fake")
    assert digest in run(*words, code=125).stderr
