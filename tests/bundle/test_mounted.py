"""An overlay bundle that is mounted: other runtimes run it, ours too, and nothing of it stays."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.mark.needs("runc")
def test_another_runtime_runs_it(oci: Any, busybox: Path, tmp_path: Path) -> None:
    assert oci("unpack", "--mount", f"{busybox}:latest", "b").stdout == f"{tmp_path}/b\n"
    spec = json.loads((tmp_path / "b/config.json").read_text())
    spec["process"]["args"] = ["touch", "/etc/written"]
    del spec["linux"]["resources"]
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "cgroup"]
    spec["mounts"] = [one for one in spec["mounts"] if one["type"] != "cgroup"]
    (tmp_path / "b/config.json").write_text(json.dumps(spec))
    words = ["runc", "--root", str(tmp_path / "state"), "run", "-b", "b", f"oci-tools-test-{os.getpid()}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b/upper/etc/written").exists() and (tmp_path / "b/rootfs/etc/written").exists()
    oci("pack", "b", "./img:x")
    assert oci("unpack", "--path", "etc/written", "./img:x", "-").stdout == ""
    oci("unpack", "--rm", "b")
    assert not (tmp_path / "b").exists()


def test_mounted_again_and_undone(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci("unpack", "--overlay", f"{busybox}:latest", "b")
    for _ in range(2):
        assert oci("unpack", "--mount", "b").stdout == f"{tmp_path}/b\n"
        assert (tmp_path / "b/rootfs/bin/busybox").exists()
    (tmp_path / "b/rootfs/etc/x").write_text("x")
    assert oci("run", "./b", "cat", "/etc/x").stdout == "x"
    for _ in range(2):
        assert oci("unpack", "--umount", "b").stdout == f"{tmp_path}/b\n"
        assert os.listdir(tmp_path / "b/rootfs") == []
    assert oci("run", "./b", "cat", "/etc/x").stdout == "x"
    oci("unpack", "--rm", "b")


def test_a_busy_mount_is_no_loss(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci("unpack", "--mount", f"{busybox}:latest", "b")
    with open(tmp_path / "b/rootfs/etc/passwd"):
        done = oci("unpack", "--rm", "b", code=1)
        assert "cannot unmount" in done.stderr and done.stderr.count("\n") == 1
        assert (tmp_path / "b/rootfs/bin/busybox").exists()
    oci("unpack", "--rm", "b")
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_mounted(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci("unpack", f"{busybox}:latest", "b")
    assert "no overlay bundle" in oci("unpack", "--mount", "b", code=1).stderr
    assert "no bundle of ours" in oci("unpack", "--umount", ".", code=1).stderr
    assert "one operand" in oci("unpack", "--umount", "b", "c", code=2).stderr


def is_named(uid: int) -> bool:
    """fusermount3 serves nobody who is not in passwd."""
    return any(entry.pw_uid == uid for entry in pwd.getpwall())


def test_a_plain_user(plain: Any, busybox: Path, public: Path) -> None:
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    if os.path.exists("/dev/fuse") and os.stat("/dev/fuse").st_mode & 6 == 6 and is_named(12345):
        plain("unpack", "--mount", "./img:latest", "b")
        assert plain.shell("cat b/rootfs/etc/os-release && touch b/rootfs/etc/new && ls b/upper/etc").stdout.endswith("new\n")
    else:
        done = plain("unpack", "--mount", "./img:latest", "b", code=1)
        assert "cannot mount" in done.stderr
        assert not (public / "b").exists()
        plain("unpack", "--overlay", "./img:latest", "b")
    plain("unpack", "--rm", "b")
    assert sorted(os.listdir(public)) == ["home", "img", "root", "run"]
