"""Containers with volumes: made, filled, shared, limited, let go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX


@pytest.fixture
def vol(oci: Any, tmp_path: Path) -> Any:
    def run(*words: Any, code: int | None = 0, **more: Any) -> Any:
        return oci("vol", *words, code=code, **more)

    yield run
    with open("/proc/self/mountinfo") as file:
        assert f"{tmp_path}/root/volumes" not in file.read()


def names(vol: Any) -> list[str]:
    found: list[str] = vol("ls", "-q").stdout.split()
    return found


def test_two_containers_share_one(run: Any, vol: Any) -> None:
    run("-v", "db:/x", BUSYBOX, "sh", "-c", "echo one > /x/file")
    assert run("-v", "db:/y", BUSYBOX, "cat", "/y/file").stdout == "one\n"
    assert "Read-only" in run("-v", "db:/y:ro", BUSYBOX, "touch", "/y/z", code=1).stderr
    assert names(vol) == ["db"]


def test_flags_of_a_mount(run: Any, vol: Any) -> None:
    run("-v", "db:/x", BUSYBOX, "sh", "-c", "printf '#!/bin/sh\\necho ran\\n' > /x/script; chmod 755 /x/script")
    assert run("-v", "db:/x:exec", BUSYBOX, "/x/script").stdout == "ran\n"
    assert "permission denied" in run("-v", "db:/x:noexec,nosuid,nodev", BUSYBOX, "/x/script", code=126).stderr
    options = run("-v", "db:/x:noexec,nosuid,nodev", BUSYBOX, "grep", " /x ", "/proc/mounts").stdout.split()[3]
    assert {"noexec", "nosuid", "nodev", "rw"} <= {*options.split(",")}


def test_an_empty_one_gets_what_the_image_has(run: Any, vol: Any, oci: Any) -> None:
    passwd = run(BUSYBOX, "cat", "/etc/passwd").stdout
    run("-v", "etc:/etc", BUSYBOX, "sh", "-c", "echo new > /etc/passwd")
    assert run("-v", "etc:/e", BUSYBOX, "cat", "/e/passwd").stdout == "new\n"
    assert run("-v", "none:/etc:nocopy", BUSYBOX, "ls", "/etc/passwd", code=1).stdout == ""
    vol("create", "full")
    Path(vol("path", "full").stdout.rstrip(), "mine").touch()
    assert "passwd" not in run("-v", "full:/etc", BUSYBOX, "ls", "/etc").stdout
    assert run("--mount", "type=volume,source=m,target=/etc,volume-nocopy", BUSYBOX, "ls", "/etc/passwd", code=1)
    assert run("-v", "again:/etc", BUSYBOX, "cat", "/etc/passwd").stdout == passwd


def test_one_that_begins_with_an_image(run: Any, vol: Any, oci: Any) -> None:
    """podman's driver `image`: changed by containers, the image as it was."""
    assert vol("create", "-d", "image", "--opt", f"image={BUSYBOX}", "tools").stdout == "tools\n"
    assert run("-v", "tools:/t", BUSYBOX, "sh", "-c", "grep -c ^root: /t/etc/passwd; echo mine > /t/etc/passwd").stdout == "1\n"
    assert run("-v", "tools:/t:ro", BUSYBOX, "/t/bin/busybox", "cat", "/t/etc/passwd", "/etc/hostname").stdout.startswith("mine\n")
    assert vol("create", "-d", "image", "--opt", f"image={BUSYBOX}", "tools").stdout == "tools\n"
    assert "with other options" in vol("create", "-d", "image", "--opt", "image=other", "tools", code=1).stderr
    shown = json.loads(vol("inspect", "--json", "tools").stdout)
    assert shown["Driver"] == "image" and shown["Options"] == {"image": BUSYBOX}
    assert vol("ls", "-q", "--filter", "driver=image").stdout == "tools\n" and not vol("ls", "-q", "--filter", "driver=local").stdout
    assert vol("create", "-d", "image", "--opt", "image=./none:x", "y", code=1).stderr.count("\n") == 1
    assert names(vol) == ["tools"], "nothing is half made"
    vol("clone", "tools", "copy")
    assert run("-v", "copy:/t", BUSYBOX, "cat", "/t/etc/passwd").stdout == "mine\n"


def test_an_image_with_a_volume_and_hostile_links(run: Any, vol: Any, oci: Any, tmp_path: Path) -> None:
    """A VOLUME that is a link out of the image takes nothing of the host (CVE-2022-23648)."""
    tree = tmp_path / "tree"
    (tree / "data").mkdir(parents=True)
    (tree / "data/file").write_text("image's")
    os.chown(tree / "data", 7, 8)
    (tree / "data").chmod(0o2750)
    (tree / "evil").symlink_to("../../../../../../etc")
    subprocess.run(["cp", "/usr/bin/busybox", tree / "sh"], check=True)
    oci("pack", "tree", "./img:x", "--volume", "/data", "--volume", "/evil")
    said = run("./img:x", "/sh", "-c", "stat -c %u:%g:%a /data; ls /data; ls /evil/ | grep -c shadow; true").stdout
    assert said == "7:8:2750\nfile\n0\n"
    assert names(vol) == []  # they were the container's own
    container = run("new", "./img:x", "/sh", "-c", "echo kept > /data/kept").stdout.strip()
    own = names(vol)
    assert len(own) == 2 and "in use by container" in vol("rm", own[0], code=1).stderr
    assert vol("prune").stdout == ""
    run("start", "-a", container)
    run("rm", container)
    assert names(vol) == own
    assert vol("prune").stdout.count("\n") == 2
    container = run("new", "./img:x", "/sh", "-c", "true").stdout.strip()
    run("rm", "-v", container)
    assert names(vol) == []
    run("-v", "mine:/data", "./img:x", "/sh", "-c", "true")
    assert names(vol) == ["mine"]


def test_failures_leave_no_volume(run: Any, vol: Any) -> None:
    run("-v", "/anonymous", BUSYBOX, "nope", code=127)
    run("-v", "/anonymous", "-v", "/anonymous", BUSYBOX, "true", code=2)
    run("--mount", "type=volume,target=/x,volume-subpath=a", BUSYBOX, "true", code=2)
    run("--mount", "type=volume,source=../x,target=/x", BUSYBOX, "true", code=2)
    run("--mount", "type=volume,source=x,target=/x,volume-driver=none", BUSYBOX, "true", code=125)
    assert names(vol) == []


def test_a_part_of_one(run: Any, vol: Any, tmp_path: Path) -> None:
    run("-v", "v:/v", BUSYBOX, "sh", "-c", "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s /etc /v/out; ln -s a /v/in")
    assert run("--mount", "type=volume,source=v,target=/x,volume-subpath=a/b", BUSYBOX, "cat", "/x/f").stdout == "deep\n"
    run("-v", "v:/v", BUSYBOX, "sh", "-c", "mkdir /v/bin /v/a/l; ln -s ../b /v/a/l/good; ln -s out /v/a/bad; ln -s ../../etc /v/up")
    for part in "in/b", "a/l/good":
        assert run("--mount", f"type=volume,source=v,target=/x,volume-subpath={part}", BUSYBOX, "cat", "/x/f").stdout == "deep\n"
    assert run("--mount", "type=volume,source=v,target=/x,volume-subpath=a/b/f", BUSYBOX, "cat", "/x").stdout == "deep\n"
    assert run("--mount", "type=volume,source=v,target=/bin,volume-subpath=bin", BUSYBOX, "ls", "/bin/busybox").stdout == "/bin/busybox\n"
    assert "busybox" in run("-v", "v:/v", BUSYBOX, "ls", "/v/bin").stdout, "filled with what the image has, for it was empty"
    for part in "out", "up", "none", "out/passwd", "a/bad":
        said = run("--mount", f"type=volume,source=v,target=/x,volume-subpath={part}", BUSYBOX, "true", code=125).stderr
        assert said.startswith("oci-run: cannot mount ") and said.count("\n") == 1
        assert ("path escapes from its directory" in said) == (part in ("out", "up", "out/passwd"))
    for part in "..", "a/../..", "/a":
        run("--mount", f"type=volume,source=v,target=/x,volume-subpath={part}", BUSYBOX, "true", code=2)


def test_options_in_a_mount(run: Any, vol: Any) -> None:
    words = '"volume-opt=o=uid=9,mode=711",type=volume,source=o,target=/x,volume-label=a=b'
    assert run("--mount", words, BUSYBOX, "stat", "-c", "%u %a", "/x").stdout == "9 711\n"
    assert json.loads(vol("inspect", "o").stdout)[0]["Labels"] == {"a": "b"}


def test_one_that_is_a_directory_of_the_host(run: Any, vol: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("host's")
    vol("create", "h", "-o", "type=none", "-o", f"device={tmp_path}/there", "-o", "o=bind")
    container = run("new", "-v", "h:/h", BUSYBOX, "cat", "/h/file").stdout.strip()
    assert run("start", "-a", container).stdout == "host's"
    assert "in use" in vol("rm", "h", code=1).stderr
    run("rm", container)
    vol("rm", "h")
    assert (tmp_path / "there/file").exists()
    vol("create", "gone", "-o", "type=none", "-o", f"device={tmp_path}/gone", "-o", "o=bind")
    assert "cannot" in run("-v", "gone:/h", BUSYBOX, "true", code=125).stderr


@pytest.mark.root
def test_one_in_memory_lives_as_long_as_somebody_has_it(run: Any, vol: Any) -> None:
    vol("create", "t", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k,uid=3")
    run("-d", "--name", "first", "-v", "t:/t", BUSYBOX, "sh", "-c", "echo a > /t/file; sleep 1000")
    assert run("-v", "t:/u", BUSYBOX, "sh", "-c", "while [ ! -s /u/file ]; do :; done; cat /u/file").stdout == "a\n"
    assert "No space" in run("-v", "t:/u", BUSYBOX, "dd", "if=/dev/zero", "of=/u/x", "bs=4k", "count=99", code=1).stderr
    assert b"file" in vol("export", "t", binary=True).stdout
    run("rm", "-f", "first")
    assert b"file" not in vol("export", "t", binary=True).stdout


@pytest.mark.root
@pytest.mark.needs("mkfs.ext4")
def test_one_with_a_size(run: Any, vol: Any, tmp_path: Path) -> None:
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("needs loop devices")
    vol("create", "s", "--size", "8m", "-o", "o=uid=4")
    said = run("-v", "s:/etc", BUSYBOX, "sh", "-c", "ls /etc; stat -c %u /etc; dd if=/dev/zero of=/etc/x bs=1M count=20", code=1)
    assert "No space left" in said.stderr and "passwd" in said.stdout and "lost+found" not in said.stdout
    assert Path(tmp_path, "root/volumes/s/disk").stat().st_size == 8 << 20
    assert run("-v", "s:/y", BUSYBOX, "cat", "/y/passwd").stdout
    vol("clone", "s", "two")
    assert run("-v", "two:/y", BUSYBOX, "ls", "/y/passwd").stdout
    assert "no space left" in vol("import", "--replace", "s", code=1, input=big(tmp_path)).stderr
    assert run("-v", "s:/y", BUSYBOX, "ls", "/y/passwd").stdout, "nothing half imported"
    assert vol("df", "--fields", "name,limit").stdout == "s\t8388608\ntwo\t8388608\n"
    vol("rm", "s", "two")


def big(tmp_path: Path) -> bytes:
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_bytes(os.urandom(12 << 20))
    return subprocess.run(["tar", "-c", "big"], cwd=tmp_path, check=True, capture_output=True).stdout


@pytest.mark.root
def test_what_a_killed_container_left_mounted_goes_with_the_next(run: Any, vol: Any, oci: Any) -> None:
    vol("create", "t", "-o", "type=tmpfs", "-o", "device=tmpfs")
    process = oci.start("run", "-v", "t:/t", BUSYBOX, "sh", "-c", "echo up; sleep 1000", stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "in use" in vol("rm", "t", code=1).stderr
    for container in run("list", "-q").stdout.split():
        run("delete", "--force", container)
    run(BUSYBOX, "true")
    vol("rm", "t")


def test_a_plain_users(plain: Any, busybox: Path) -> None:
    plain.preload(BUSYBOX, busybox)
    plain("run", "-v", "db:/etc", BUSYBOX, "sh", "-c", "echo one > /etc/file")
    assert plain("run", "-v", "db:/x", BUSYBOX, "cat", "/x/file").stdout == "one\n"
    assert "root" in plain("run", "-v", "db:/x", BUSYBOX, "cat", "/x/passwd").stdout
    plain("vol", "create", "t", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k")
    assert "tmpfs" in plain("run", "-v", "t:/x", BUSYBOX, "grep", " /x ", "/proc/mounts").stdout
    plain("vol", "create", "n", "-o", "type=nfs", "-o", "device=:/x", "-o", "o=addr=127.0.0.1")
    assert "only root can" in plain("run", "-v", "n:/x", BUSYBOX, "true", code=125).stderr


def test_many_at_once(oci: Any, vol: Any, run: Any) -> None:
    started = [oci.start("run", "-v", "db:/x", "-v", "/own", BUSYBOX, "touch", f"/x/{at}") for at in range(8)]
    started += [oci.start("vol", "prune", "-a", "--filter", "label=no") for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 12
    assert len(run("-v", "db:/x", BUSYBOX, "ls", "/x").stdout.split()) == 8
    assert names(vol) == ["db"]


