"""Volumes on what the build machine's kernel lacks: project quotas of ext4 and xfs, file systems of other hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX, running

pytestmark = [pytest.mark.root, pytest.mark.needs("mkfs.ext4", "mkfs.xfs", "exportfs", "smbd")]
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"],
    "xfs": ["mkfs.xfs", "-q"],
}
MIB = 1 << 20


def run_words(*words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([os.fspath(word) for word in words], check=True, capture_output=True, text=True, **more)


@pytest.fixture(params=sorted(MAKE))
def store(request: pytest.FixtureRequest, oci: Any, busybox: Path, tmp_path: Path) -> Iterator[Any]:
    """`oci-run` with its store on a file system that limits projects."""
    disk, place = tmp_path / "disk", tmp_path / "limited"
    place.mkdir()
    with open(disk, "wb") as file:
        file.truncate(320 * MIB)
    run_words(*MAKE[request.param], disk)
    run_words("mount", "-o", "loop,prjquota", disk, place)
    oci.env["OCI_ROOT"] = str(place / "root")
    yield from running(oci, busybox)
    run_words("umount", place)


def number(text: str) -> int:
    return 0 if text == "-" else int(text)


def sizes(oci: Any) -> dict[str, tuple[int, int]]:
    rows = oci("vol", "df", "--fields", "name,size,limit").stdout.splitlines()
    return {name: (number(size), number(limit)) for name, size, limit in (row.split("\t") for row in rows)}


def fill(run: Any, volume: str, code: int) -> str:
    said = run("-v", f"{volume}:/x", BUSYBOX, "dd", "if=/dev/zero", "of=/x/file", "bs=1M", "count=20", code=code).stderr
    return str(said)


def full(said: str) -> bool:
    """xfs says ENOSPC of a project, ext4 EDQUOT."""
    return "no space left" in said.lower() or "quota exceeded" in said.lower()


def test_a_project_quota_holds(store: Any, oci: Any) -> None:
    """No space left inside at the limit, and nothing worse outside; the usage is seen without looking at files."""
    oci("vol", "create", "--size", "8m", "s")
    oci("vol", "create", "free")
    assert not Path(oci("vol", "path", "s").stdout.strip()).with_name("disk").exists(), "no file system of its own"
    assert full(fill(store, "s", 1))
    fill(store, "free", 0)
    size, limit = sizes(oci)["s"]
    assert limit == 8 * MIB and 7 * MIB < size <= limit
    assert sizes(oci)["free"][0] >= 20 * MIB
    shown = json.loads(oci("vol", "inspect", "-s", "s").stdout)[0]
    assert shown["UsageData"]["Size"] == size
    store("-v", "s:/x", BUSYBOX, "sh", "-c", "rm /x/file; mkdir -p /x/a/b; echo inside > /x/a/b/c; mv /x/a /x/z")
    assert sizes(oci)["s"][0] < MIB
    assert full(fill(store, "s", 1)), "the limit is one of all that is below"
    oci("vol", "rm", "s", "free")


def test_a_container_has_no_more_than_it_was_given(store: Any, oci: Any) -> None:
    """--storage-opt size=, of what it writes to its root: copies of the image's files too; its number is free then."""
    write = "dd if=/dev/zero of=/file bs=1M count=20"
    said = store("--storage-opt", "size=8m", BUSYBOX, "sh", "-c", f"echo x >> /etc/group && mv /etc/group /g && {write}", code=1).stderr
    assert full(said) and "group" not in said
    store("--storage-opt", "size=30m", BUSYBOX, "sh", "-c", write)
    made = [oci("run", "new", "--storage-opt", f"size={size}m", BUSYBOX, "sh", "-c", write).stdout.strip() for size in (8, 30)]
    assert [oci("run", "start", "-a", each, code=code).returncode for each, code in zip(made, (1, 0), strict=True)] == [1, 0]
    oci("run", "rm", *made)
    store(BUSYBOX, "sh", "-c", write)


def test_a_limit_is_that_of_its_volume(store: Any, oci: Any) -> None:
    """Names come again, clones and imports have the limit too (docker loses it: moby 43891)."""
    oci("vol", "create", "--size", "8m", "s")
    fill(store, "s", 1)
    oci("vol", "rm", "s")
    oci("vol", "create", "--size", "12m", "s")
    assert sizes(oci)["s"] == (sizes(oci)["s"][0], 12 * MIB) and sizes(oci)["s"][0] < MIB
    fill(store, "s", 1)
    assert 11 * MIB < sizes(oci)["s"][0] <= 12 * MIB
    store("-v", "s:/x", BUSYBOX, "sh", "-c", "head -c 1000000 /dev/zero > /x/file")
    oci("vol", "clone", "s", "two")
    assert sizes(oci)["two"][1] == 12 * MIB and MIB > sizes(oci)["two"][0] >= 1_000_000
    fill(store, "two", 1)
    archive = oci("vol", "export", "s", binary=True).stdout
    large = Path(oci.cwd, "large")
    large.write_bytes(bytes(20 * MIB))
    said = oci("vol", "import", "--replace", "s", code=1, input=run_tar(large)).stderr
    assert full(said)
    assert oci("vol", "export", "s", binary=True).stdout == archive, "nothing half imported"
    oci("vol", "import", "--replace", "s", input=archive)
    fill(store, "s", 1)
    oci("vol", "rename", "s", "new")
    fill(store, "new", 1)
    assert sizes(oci)["new"][1] == 12 * MIB
    oci("vol", "rm", "new", "two")


def test_a_clone_shares_its_bytes(store: Any, oci: Any, request: pytest.FixtureRequest) -> None:
    """Where the file system can, which is xfs here, a clone takes no room; what is written to one is not the other's."""
    oci("vol", "create", "data")
    fill(store, "data", 0)

    def free() -> int:
        os.sync()
        seen = os.statvfs(oci.env["OCI_ROOT"])
        return seen.f_bfree * seen.f_frsize

    before = free()
    oci("vol", "clone", "data", "copy")
    oci("vol", "clone", "--snapshot", "data", "before")
    used = before - free()
    assert used < 4 * MIB if request.node.callspec.params["store"] == "xfs" else used >= 39 * MIB
    store("-v", "copy:/x", BUSYBOX, "sh", "-c", "echo mine > /x/file")
    assert store("-v", "data:/x", BUSYBOX, "stat", "-c", "%s", "/x/file").stdout == f"{20 * MIB}\n"
    assert "Read-only" in store("-v", "before:/x", BUSYBOX, "sh", "-c", "echo > /x/file", code=1).stderr
    oci("vol", "rm", "data", "copy", "before")


def run_tar(path: Path) -> bytes:
    return subprocess.run(["tar", "-c", path.name], cwd=path.parent, check=True, capture_output=True).stdout


def test_how_many_files(store: Any, oci: Any) -> None:
    oci("vol", "create", "-o", "o=inodes=20", "few")
    script = "for i in $(seq 50); do echo > /x/$i || exit 7; done"
    store("-v", "few:/x", BUSYBOX, "sh", "-c", script, code=7)
    made = int(store("-v", "few:/x", BUSYBOX, "sh", "-c", "ls /x | wc -l").stdout)
    assert 15 <= made < 20
    oci("vol", "rm", "few")


# -- other hosts ------------------------------------------------------------------------------------


@pytest.fixture
def run(oci: Any, busybox: Path) -> Iterator[Any]:
    yield from running(oci, busybox)


@pytest.fixture
def served(oci: Any, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system that can be served; it goes before `oci` looks for mounts that were left."""
    disk, place = tmp_path / "disk", tmp_path / "served"
    place.mkdir()
    with open(disk, "wb") as file:
        file.truncate(64 * MIB)
    run_words("mkfs.ext4", "-q", disk)
    run_words("mount", "-o", "loop", disk, place)
    yield place
    run_words("umount", "-l", place)  # whoever served it lets go when he has time


@pytest.fixture
def nfs(served: Path) -> Iterator[Path]:
    for words in ("modprobe nfsd", "modprobe nfs", "mkdir -p /var/lib/nfs/v4recovery"):
        run_words(*words.split())
    Path("/var/lib/nfs/etab").touch()
    Path("/var/lib/nfs/rmtab").touch()
    if not os.path.ismount("/proc/fs/nfsd"):
        run_words("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    mountd = subprocess.Popen(["rpc.mountd", "-F", "-N", "3"], stderr=subprocess.DEVNULL)
    run_words("rpc.nfsd", "-N", "3", "-L", "10", "-G", "10", "2")
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")
    run_words("exportfs", "-o", "rw,no_root_squash,fsid=0,insecure,no_subtree_check", f"*:{served}")
    yield served
    run_words("exportfs", "-ua")
    run_words("rpc.nfsd", "0")
    mountd.kill()
    mountd.wait()


def test_nfs(nfs: Path, run: Any, oci: Any) -> None:
    """As docker's local driver has it: a host's name, mounted with the first container and no longer than the last."""
    oci("vol", "create", "-o", "type=nfs", "-o", "o=addr=localhost,rw,vers=4.2", "-o", "device=:/", "shared")
    run("-v", "shared:/x", BUSYBOX, "sh", "-c", "echo over the wire > /x/file; chown 5:6 /x/file")
    assert (nfs / "file").read_text() == "over the wire\n" and (nfs / "file").stat().st_uid == 5
    (nfs / "there").write_text("theirs")
    assert run("-v", "shared:/x:ro", BUSYBOX, "cat", "/x/there").stdout == "theirs"
    assert b"over the wire" in oci("vol", "export", "shared", binary=True).stdout
    assert " nfs4 " not in Path("/proc/self/mountinfo").read_text()
    oci("vol", "create", "-o", "type=nfs", "-o", "o=addr=no.such.host.invalid,vers=4", "-o", "device=:/", "lost")
    said = run("-v", "lost:/x", BUSYBOX, "true", code=125).stderr
    assert said.startswith("oci-run: cannot find host 'no.such.host.invalid': "), said
    oci("vol", "rm", "shared", "lost")
    assert (nfs / "file").exists(), "what is of others stays"


@pytest.fixture
def samba(served: Path, tmp_path: Path) -> Iterator[Path]:
    run_words("modprobe", "cifs")
    conf = tmp_path / "smb.conf"
    conf.write_text(
        f"[global]\nmap to guest = never\nbind interfaces only = yes\ninterfaces = lo\ndisable netbios = yes\n"
        f"private dir = {tmp_path}\nlock directory = {tmp_path}\nstate directory = {tmp_path}\npid directory = {tmp_path}\n"
        f"cache directory = {tmp_path}\nncalrpc dir = {tmp_path}/rpc\nlog file = {tmp_path}/log\nload printers = no\n"
        f"[data]\npath = {served}\nread only = no\n"
    )
    run_words("smbpasswd", "-c", conf, "-s", "-a", "root", input="s3cret\ns3cret\n")
    server = subprocess.Popen(["smbd", "-F", "-s", conf], stdin=subprocess.DEVNULL)  # it makes a session of its own
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", 445)).close()
            break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
    yield served
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def test_cifs(samba: Path, run: Any, oci: Any) -> None:
    words = "o=addr=127.0.0.1,username=root,password=s3cret,vers=3.0,uid=5"
    oci("vol", "create", "-o", "type=cifs", "-o", words, "-o", "device=//127.0.0.1/data", "win")
    run("-v", "win:/x", BUSYBOX, "sh", "-c", "echo over the wire > /x/file; stat -c %u /x/file")
    assert (samba / "file").read_text() == "over the wire\n"
    assert "s3cret" not in oci("vol", "inspect", "win").stdout
    bad = words.replace("s3cret", "wr0ng")
    oci("vol", "create", "-o", "type=cifs", "-o", bad, "-o", "device=//127.0.0.1/data", "bad")
    said = run("-v", "bad:/x", BUSYBOX, "true", code=125).stderr
    assert "wr0ng" not in said and said.startswith("oci-run: cannot mount volume 'bad': cifs '//127.0.0.1/data': "), said
    oci("vol", "rm", "win", "bad")
