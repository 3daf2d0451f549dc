"""Files done safely: replaced whole, locked, removed without following links, resolved beneath a root."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from oci_tools import fs
from oci_tools.errors import Busy, Error

# -- places ------------------------------------------------------------------------------


def test_places_are_moved_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_ROOT", "/srv/../x")
    monkeypatch.setenv("OCI_RUN", "/y")
    assert (fs.root(), fs.run()) == ("/x", "/y")


def test_roots_places_and_a_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "OCI_ROOT", "OCI_RUN", "XDG_DATA_HOME", "XDG_RUNTIME_DIR":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert (fs.root(), fs.run()) == ("/var/lib/oci", "/run/oci")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    assert (fs.root(), fs.run()) == ("/home/u/.local/share/oci", "/tmp/oci-1000")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert (fs.root(), fs.run()) == ("/data/oci", "/run/user/1000/oci")


def test_a_private_directory_is_private(tmp_path: Path) -> None:
    place = fs.make_private(f"{tmp_path}/a/b")
    assert os.stat(place).st_mode & 0o777 == 0o700
    assert fs.make_private(place) == place


def test_a_private_directory_is_no_link_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    (tmp_path / "file").touch()
    for name in "link", "file":
        with pytest.raises(Error, match=f"directory '{tmp_path}/{name}'"):
            fs.make_private(f"{tmp_path}/{name}")


@pytest.mark.root
def test_a_private_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)
    with pytest.raises(Error, match="it belongs to another user"):
        fs.make_private(f"{tmp_path}/theirs")


# -- files -------------------------------------------------------------------------------


def test_trees_of_many_files_are_made_apart(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"tree{i}") for i in range(12)]
    for path in paths:
        fs.make_roomy(path)
    assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, paths))
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in paths} == {0o700}
    with open("/proc/self/mountinfo") as file:
        found = [line.split() for line in file if str(tmp_path).startswith(line.split()[4].rstrip("/") + "/")]
    if found[-1][found[-1].index("-") + 1] == "ext4":
        shown = subprocess.run(["lsattr", "-d", tmp_path], check=True, capture_output=True, text=True).stdout
        assert "T" in shown.split()[0]  # what makes ext4 look for another group for each; which, it decides


def test_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "file"
    fs.write(str(file), b"one")
    fs.write(str(file), b"two", mode=0o600)
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_write_replaces_a_link_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    fs.write(f"{tmp_path}/link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"old"


def test_a_failed_write_leaves_the_old_and_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "dir" / "full").mkdir(parents=True)
    with pytest.raises(Error, match=f"cannot write '{tmp_path}/dir'"):
        fs.write(f"{tmp_path}/dir", b"x")
    with pytest.raises(Error, match="no such file or directory"):
        fs.write(f"{tmp_path}/none/file", b"x")
    assert os.listdir(tmp_path) == ["dir"]


@pytest.mark.root
def test_a_full_disk_leaves_the_old_and_nothing_beside(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        fs.write(f"{disk}/file", b"old")
        with pytest.raises(Error, match="no space left on device"):
            fs.write(f"{disk}/file", b"x" * 200_000)
        assert os.listdir(disk) == ["file"]
        assert (disk / "file").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path, linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    read = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fs.write_to(str(tmp_path / "link" if linked else pipe), b"said")
    assert os.read(read, 16) == b"said"
    os.close(read)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"] and pipe.is_fifo() and (tmp_path / "link").is_symlink()


def test_an_output_that_fails_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fs.Output(str(tmp_path / "file")) as fd:
        os.write(fd, b"half")
        raise ZeroDivisionError
    with pytest.raises(Error, match="cannot write"), fs.Output(str(tmp_path / "file")):
        raise OSError(28, "no space left on device")
    assert not os.listdir(tmp_path)


def test_write_all_writes_all_to_a_slow_pipe() -> None:
    read, write = os.pipe()
    data = os.urandom(1 << 20)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(os.fdopen(read, "rb").read()))
    reader.start()
    fs.write_all(write, data)
    os.close(write)
    reader.join()
    assert got == [data]


# -- locks -------------------------------------------------------------------------------

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from oci_tools import fs
with fs.Lock(sys.argv[2], shared=len(sys.argv) > 3):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that holds a lock until the block ends."""

    def __init__(self, path: Path, *shared: str) -> None:
        top = str(Path(fs.__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, top, path, *shared],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> subprocess.Popen[str]:
        assert self.process.stdout is not None and self.process.stdout.readline() == "held\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def test_a_held_lock_is_busy(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with Holder(lock):
        with pytest.raises(Busy, match=f"cannot lock '{lock}'") as caught, fs.Lock(str(lock), timeout=0.01):
            pass
        assert caught.value.code == 75
    with fs.Lock(str(lock), timeout=0):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with Holder(lock) as process:
        process.kill()
        with fs.Lock(str(lock)):
            pass


def test_readers_share(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with Holder(lock, "shared"):
        with fs.Lock(str(lock), shared=True, timeout=0):
            pass
        with pytest.raises(Busy), fs.Lock(str(lock), timeout=0):
            pass


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(Error, match="cannot lock"), fs.Lock(f"{tmp_path}/link"):
        pass
    assert not (tmp_path / "elsewhere").exists()


# -- trees -------------------------------------------------------------------------------


def test_remove_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "file").touch()
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "link").symlink_to(tmp_path / "keep")
    (tree / "file").touch()
    fs.remove_tree(str(tree))
    fs.remove_tree(str(tree))  # absent is fine
    assert (tmp_path / "keep" / "file").exists() and not tree.exists()


def test_remove_tree_removes_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "link").symlink_to("keep")
    fs.remove_tree(f"{tmp_path}/link")
    assert os.listdir(tmp_path) == ["keep"]


def test_a_tree_may_be_deeper_than_descriptors_and_recursion_go(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for level in range(2000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(os.open(f"file{level}", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(at)
        at = below
    os.close(at)
    before = len(os.listdir("/proc/self/fd"))
    fs.remove_tree(f"{tmp_path}/d")
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.root
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_plain_users_closed_directories_are_removed(public: Path) -> None:
    tree = public / "tree"
    (tree / "closed" / "deep").mkdir(parents=True)
    (tree / "closed" / "deep" / "file").touch()
    for path in (public, tree, tree / "closed", tree / "closed" / "deep"):
        os.chown(path, 12345, 12345)
    (tree / "closed" / "deep").chmod(0)
    (tree / "closed").chmod(0o500)
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(12345, 12345, 12345)
            fs.remove_tree(str(tree))
        finally:
            os._exit(tree.exists())
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.root
def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    busy = tmp_path / "tree" / "mount"
    busy.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", busy], check=True)
    try:
        with pytest.raises(Error, match=f"cannot remove '{busy}': device or resource busy"):
            fs.remove_tree(f"{tmp_path}/tree")
        told: list[str] = []
        fs.remove_tree(f"{tmp_path}/tree", lambda path, error: told.append(path))
        assert told == [str(busy), f"{tmp_path}/tree"]
    finally:
        subprocess.run(["umount", busy], check=True)


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "up/etc/passwd", "abs/etc/passwd", "self/etc/passwd"]
)
def test_nothing_outside_the_root_is_opened(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc" / "passwd").write_text("inside")
    (inside / "up").symlink_to("../../../../../..")
    (inside / "abs").symlink_to("/")
    (inside / "self").symlink_to("/proc/self/root")
    (inside / "proc" / "self").mkdir(parents=True)
    (inside / "proc" / "self" / "root").symlink_to("../..")
    root = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = fs.open_beneath(root, path, os.O_RDONLY)
        with os.fdopen(fd) as file:
            assert file.read() == "inside"
    finally:
        os.close(root)


def test_what_is_opened_is_not_inherited(tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    fd = fs.open_beneath(root, "new", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        os.close(root)
