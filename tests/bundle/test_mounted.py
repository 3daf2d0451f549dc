"""An overlay bundle that is mounted: other runtimes run it, ours too, and nothing of it stays."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools import tar
from oci_tools.layer.limits import Limits
from tests.layer import make

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


ENTER = """
mount --make-rprivate / && mount --bind $0/passwd /etc/passwd && mount --bind $0/fuse /dev/fuse || exit 99
exec setpriv --reuid 12345 --regid 12345 --clear-groups sh -ec "$1"
"""
CHANGES = """
cd b/rootfs
rm -r d && mkdir d && echo new > d/n
rm e/gone && echo more >> e/f && chmod 4755 e/k && touch -d @5 e/t
mv g g2 && ln hl hl3 && mkfifo -m 600 p && ln -s x l
mkdir -p fresh/in r && touch fresh/x && rmdir r && chmod 555 fresh
mv moved moved2 && rm -r tofile && echo file > tofile && ls hidden
cd ../..
"""


@pytest.fixture
def fuse(plain: Any, public: Path) -> Iterator[Callable[[str], str]]:
    """Runs a script as a plain user who may use FUSE: with the device, and in passwd, as fusermount3 demands."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    (public / "passwd").write_text("root:x:0:0::/:/bin/sh\ntester:x:12345:12345::/:/bin/sh\n")
    os.mknod(public / "fuse", 0o666 | stat.S_IFCHR, os.makedev(10, 229))
    os.chmod(public / "fuse", 0o666)
    user, plain.user = plain.user, {}

    def run(script: str) -> str:
        words = ["unshare", "-m", "--propagation", "private", "sh", "-c", ENTER, public, script]
        return str(plain.run(words).stdout)

    yield run
    plain.user = user


@pytest.mark.needs("fuse-overlayfs", "fusermount3", "setpriv", "unshare")
def test_a_plain_user(fuse: Callable[[str], str], oci: Any, busybox: Path, public: Path, tmp_path: Path) -> None:
    """What fuse-overlayfs writes is what overlayfs would: packed while it is mounted and afterwards, and for oci-run."""
    layers: list[list[Any]] = [
        ["d/", "d/a", "e/", "e/gone", {"name": "e/f", "uid": 33, "gid": 34}, "e/k", "e/t", "g", "hl", "hl2=hl",
         {"kind": "d", "name": "moved", "mode": 0o700}, "moved/in/", "tofile/", "tofile/z", "hidden/", "hidden/a", "i/"],
        ["hidden/.wh..wh..opq", "hidden/b"],
    ]  # fmt: skip
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    oci("image", "tag", f"{public}/img:latest", f"{public}/img:x")
    for at, layer in enumerate(layers):
        (tmp_path / f"{at}.tar").write_bytes(make.archive(*layer))
        oci("pack", "--append", f"{at}.tar", f"{public}/img:x")
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    look = "oci-run ./b find /d /fresh /moved2 /hidden /e"
    script = f"oci-unpack --mount ./img:x b {CHANGES} oci-pack b ./img:a; oci-unpack --umount b; oci-pack b ./img:b; {look}"
    told = fuse(script + "; oci-unpack --mount b; ls b/rootfs/d; oci-unpack --rm b").split("\n")
    found = "d d/n fresh fresh/in fresh/x moved2 moved2/in hidden hidden/b e e/f e/k e/t"
    assert told[1] == "b" and told[2].partition("@")[2] == told[4].partition("@")[2]
    assert sorted(told[5:-3]) == sorted(f"/{name}" for name in found.split()) and told[-2] == "n"
    assert {path.name for path in public.iterdir()} == {"home", "img", "root", "run", "passwd", "fuse"}
    oci("unpack", "--mount", f"{public}/img:x", "b")
    oci.shell(CHANGES)
    oci("pack", "b", "./img:x")
    assert changed(oci, "./img:x") == changed(oci, f"{public}/img:a")
    oci("unpack", "--rm", "b")


@pytest.mark.needs("fuse-overlayfs", "fusermount3", "setpriv", "unshare")
def test_a_plain_users_mount_that_went_with_the_host(fuse: Callable[[str], str], busybox: Path, public: Path) -> None:
    """The kernel would show again what FUSE had hidden, and FUSE's marks as files."""
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    change = "cd b/rootfs; rm -r etc; mkdir etc; echo > etc/new; rm bin/ls; cd ../..; fusermount3 -u b/rootfs"
    look = "oci-run ./b find /etc /bin/ls 2>&1 || true"
    told = fuse(f"oci-unpack --mount ./img:latest b; {change}; {look}; oci-unpack --umount b; {look}; oci-unpack --rm b")
    refused = f"oci-run: cannot mount the layers of '{public}/b': it was mounted with fuse-overlayfs (oci-unpack --umount)"
    assert told.split("\n")[:3] == [f"{public}/b", refused, f"{public}/b"]
    assert set(told.split("\n")[3:]) == {"find: /bin/ls: No such file or directory", "/etc", "/etc/new", ""}


@pytest.mark.needs("setpriv", "unshare")
def test_a_plain_users_mount_that_fails(fuse: Callable[[str], str], busybox: Path, public: Path) -> None:
    subprocess.run(["cp", "-r", busybox, public / "img"], check=True)
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    told = fuse("oci-unpack --overlay ./img:latest b; chmod 0 b/rootfs; oci-unpack --mount b 2>/dev/null || oci-run ./b echo fine; oci-unpack --rm b")
    assert told.endswith("fine\n")


def changed(oci: Any, image: str) -> list[Any]:
    """The entries of an image's last layer, without the times."""
    layer = json.loads(oci("image", "inspect", image).stdout)["manifest"]["layers"][-1]["digest"]
    data = gzip.decompress(oci("image", "cat", image.rpartition(":")[0] + "@" + layer, binary=True).stdout)
    return [(e.name, e.type, e.mode, e.uid, e.gid, e.size, e.link, e.xattrs) for e in tar.Reader([data], Limits())]
