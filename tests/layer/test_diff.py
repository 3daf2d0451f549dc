"""What is packed: all of a tree, or just what changed, the same bytes every time."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import stat
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oci_tools import tar
from oci_tools.errors import Error
from oci_tools.layer import diff, owner, snapshot, store, upper
from oci_tools.layer.limits import Limits
from oci_tools.layer.write import Archive, Writer
from tests.layer import listing, make
from tests.layer.test_stack import Stacked, ensure

LOWER: list[Any] = [
    {"kind": "d", "name": ".", "mode": 0o755},
    "a/", "a/f", "a/g", "a/d/", "a/d/x", "top", "a/l>f", "hard1", "hard2=hard1", "hard3=hard1",
]  # fmt: skip


def packed(fill: Callable[[diff.Packing], Any], epoch: int | None = None, **more: Any) -> bytes:
    sink = make.Sink()
    writer = Writer(sink)
    fill(diff.Packing(writer, epoch, **more))
    writer.close()
    return sink.data


def entries(data: bytes) -> list[str]:
    """What an archive has: name and type of each entry."""
    return [f"{os.fsdecode(entry.name)} {entry.type}" for entry in tar.Reader([data], Limits())]


def whole(root: Path, **more: Any) -> bytes:
    fd = os.open(root, os.O_RDONLY)
    try:
        return packed(lambda packing: packing.tree(fd), **more)
    finally:
        os.close(fd)


class Tree:
    """A tree that was unpacked, with its snapshot."""

    def __init__(self, place: Path) -> None:
        self.root = place / "rootfs"
        self.place = place
        make.unpack(self.root, LOWER)
        fd = os.open(self.root, os.O_RDONLY)
        snapshot.take(fd, f"{place}/snapshot")
        os.close(fd)

    def changes(self, root: Path | None = None, **more: Any) -> bytes:
        fd = os.open(root or self.root, os.O_RDONLY)
        try:
            with snapshot.Snapshot(f"{self.place}/snapshot") as before:
                return packed(lambda packing: packing.changes(fd, diff.compare(fd, before, **more)))
        finally:
            os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def write(path: Path, text: str = "new") -> None:
    path.write_text(text)


CHANGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "nothing": (lambda root: None, []),
    "read": (lambda root: (root / "top").read_text(), []),
    "new file": (lambda root: write(root / "new"), ["new f"]),
    "new in a directory": (lambda root: write(root / "a/d/new"), ["a/ d", "a/d/ d", "a/d/new f"]),
    "new directory": (lambda root: (root / "a/n/m").mkdir(parents=True), ["a/ d", "a/n/ d", "a/n/m/ d"]),
    "content": (lambda root: write(root / "a/f"), ["a/ d", "a/f f"]),
    "same content, other time": (lambda root: write(root / "top", "top"), ["top f"]),
    "appended, time set back": (
        lambda root: (write(root / "top", "POT"), os.utime(root / "top", ns=(make.T, make.T))),
        ["top f"],
    ),
    "mode": (lambda root: (root / "top").chmod(0o600), ["top f"]),
    "mode of a directory": (lambda root: (root / "a/d").chmod(0o700), ["a/ d", "a/d/ d"]),
    "time": (lambda root: os.utime(root / "top", (5, 5)), ["top f"]),
    "attribute": (lambda root: os.setxattr(root / "top", "user.a", b"1"), ["top f"]),
    "attribute of a directory": (lambda root: os.setxattr(root / "a", "user.a", b"1"), ["a/ d"]),
    "root's mode": (lambda root: root.chmod(0o711), ["./ d"]),
    "gone": (lambda root: (root / "a/f").unlink(), ["a/ d", "a/.wh.f f"]),
    "gone directory": (lambda root: shutil.rmtree(root / "a"), [".wh.a f"]),
    "gone and new beside": (
        lambda root: ((root / "a/g").unlink(), write(root / "a/aa")),
        ["a/ d", "a/.wh.g f", "a/aa f"],
    ),
    "come and gone": (lambda root: (write(root / "a/tmp"), (root / "a/tmp").unlink()), []),
    "renamed": (lambda root: (root / "a/f").rename(root / "a/h"), ["a/ d", "a/.wh.f f", "a/h f"]),
    "renamed directory": (lambda root: (root / "a/d").rename(root / "e"), ["a/ d", "a/.wh.d f", "e/ d", "e/x f"]),
    "directory to file": (lambda root: (shutil.rmtree(root / "a"), write(root / "a")), ["a f"]),
    "file to directory": (
        lambda root: ((root / "top").unlink(), (root / "top").mkdir(), write(root / "top/x")),
        ["top/ d", "top/x f"],
    ),
    "link to other link": (
        lambda root: ((root / "a/l").unlink(), (root / "a/l").symlink_to("g")),
        ["a/ d", "a/l l"],
    ),
    "made again": (
        lambda root: (shutil.rmtree(root / "a"), (root / "a").mkdir(), write(root / "a/f")),
        ["a/ d", "a/.wh.d f", "a/.wh.g f", "a/.wh.l f", "a/f f"],
    ),
    "hard linked content": (lambda root: write(root / "hard2"), ["hard1 f", "hard2 h", "hard3 h"]),
    "hard link gone": (lambda root: (root / "hard2").unlink(), [".wh.hard2 f"]),
    "hard link new": (lambda root: os.link(root / "hard1", root / "hard4"), ["hard1 f", "hard2 h", "hard3 h", "hard4 h"]),
    "hard link broken": (
        lambda root: ((root / "hard2").unlink(), write(root / "hard2")),
        ["hard2 f"],
    ),
    "fifo": (lambda root: os.mkfifo(root / "p"), ["p p"]),
    "name of a newline": (lambda root: write(root / "new\n\\line"), ["new\n\\line f"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_change_is_exactly_that(name: str, tree: Tree) -> None:
    change, expect = CHANGES[name]
    change(tree.root)
    data = tree.changes()
    assert entries(data) == expect
    assert tree.changes() == data, "twice is the same"


@pytest.mark.parametrize("name", [name for name in CHANGES if not name.startswith("hard link ")])
def test_unpacked_over_the_lower_it_is_the_changed_tree(name: str, tree: Tree, tmp_path: Path) -> None:
    CHANGES[name][0](tree.root)
    make.unpack(tmp_path / "again", LOWER, tree.changes())
    assert same_time(listing.lines(tmp_path / "again")) == same_time(listing.lines(tree.root))
    assert stat.S_IMODE((tmp_path / "again").stat().st_mode) == stat.S_IMODE(tree.root.stat().st_mode)


def same_time(lines: list[listing.Line]) -> list[str]:
    """With the times of all but directories, whose changes alone are no change."""
    return [line.text("" if line.kind == "d" else None) for line in lines]


@pytest.mark.parametrize("name", [n for n in CHANGES if not n.startswith(("attribute", "hard link", "appended"))])
def test_a_copy_of_the_tree_has_the_same_changes(name: str, tree: Tree, tmp_path: Path) -> None:
    change, expect = CHANGES[name]
    change(tree.root)
    subprocess.run(["cp", "-a", tree.root, tmp_path / "copy"], check=True)
    assert entries(tree.changes(tmp_path / "copy")) == expect


def test_masks(tree: Tree) -> None:
    for path in ("a/f", "a/d/new", "new"):
        write(tree.root / path)
    assert entries(tree.changes(masks=[b"/a/d", b"new"])) == ["a/ d", "a/f f"]
    assert entries(tree.changes(masks=[b"./a//d/.", b"a/../new/"])) == ["a/ d", "a/f f"]


def test_what_a_runtime_makes_to_mount_on_is_no_change(tree: Tree) -> None:
    (tree.root / "proc").mkdir()
    (tree.root / "etc").mkdir()
    (tree.root / "etc/hosts").touch()
    places = frozenset([b"proc", b"etc", b"etc/hosts", b"a"])
    assert entries(tree.changes(places=places)) == []
    write(tree.root / "etc/passwd")
    assert entries(tree.changes(places=places)) == ["etc/ d", "etc/passwd f"]
    (tree.root / "a").chmod(0o700)
    assert entries(tree.changes(places=places))[0] == "a/ d"


def test_a_snapshot_that_is_none(tree: Tree) -> None:
    for text in ("", "oci-tools snapshot 2 1 1\n", "oci-tools snapshot 1 0 0\nd 755\n"):
        write(tree.place / "snapshot", text)
        with pytest.raises(Error, match="cannot read"):
            tree.changes()


# -- all of a tree --------------------------------------------------------------------------


def test_all_of_a_tree(tree: Tree) -> None:
    data = whole(tree.root)
    assert entries(data) == [
        "a/ d", "a/d/ d", "a/d/x f", "a/f f", "a/g f", "a/l l", "hard1 f", "hard2 h", "hard3 h", "top f",
    ]  # fmt: skip


def test_unpacked_again_it_is_the_same(tree: Tree, tmp_path: Path) -> None:
    os.setxattr(tree.root / "top", "user.binary", bytes(range(256)))
    os.utime(tree.root / "top", ns=(5, -1_500_000_001))
    (tree.root / ("n" * 200)).mkdir()
    write(tree.root / ("n" * 200) / ("é" * 100))
    os.mkfifo(tree.root / "p", 0o622)
    if os.geteuid() == 0:
        os.mknod(tree.root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(tree.root / "a/l", 3_000_000_000, 7, follow_symlinks=False)
        (tree.root / "a/d").chmod(0o7755)
    make.unpack(tmp_path / "again", whole(tree.root))
    assert listing.tree(tmp_path / "again") == listing.tree(tree.root)


def test_the_same_tree_is_the_same_bytes(tmp_path: Path) -> None:
    orders = [["b", "a", "c"], ["c", "b", "a"]]
    found = set()
    for at, order in enumerate(orders):
        root = tmp_path / str(at)
        root.mkdir()
        for name in order:
            write(root / name, name)
            os.utime(root / name, (1, 1))
        found.add(whole(root))
    assert len(found) == 1


def test_times_are_clamped(tree: Tree) -> None:
    os.utime(tree.root / "top", ns=(5_500_000_000, 5_500_000_000))
    times = {e.name: e.mtime for e in tar.Reader([whole(tree.root, epoch=100)], Limits())}
    assert times[b"top"] == 5_500_000_000
    assert times[b"a/f"] == 100_000_000_000


def test_sockets_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    told: list[str] = []
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{tmp_path}/r/s")
        assert entries(whole(tmp_path / "r", warn=told.append)) == []
    assert told == ["'s' is a socket and left out"]


@pytest.mark.parametrize("name", [".wh.x", "a/.wh..wh..opq"])
def test_names_that_would_be_whiteouts_are_refused(name: str, tree: Tree) -> None:
    write(tree.root / name)
    for pack in (lambda: whole(tree.root), tree.changes):
        with pytest.raises(Error, match="would be read as a whiteout"):
            pack()


def test_a_file_that_changes_meanwhile_is_an_error(tree: Tree) -> None:
    fd = os.open(tree.root, os.O_RDONLY)
    packing = diff.Packing(Writer(make.Sink()))
    with pytest.raises(Error, match="it changed while it was read"):
        for found in diff.walk(fd):
            if found.name == b"top":
                write(tree.root / "top", "longer than before")
            packing.put(found)
    os.close(fd)


def test_attributes_of_the_host_stay_there(tree: Tree) -> None:
    if os.geteuid() == 0:
        os.setxattr(tree.root / "top", "trusted.overlay.origin", b"x")
        os.setxattr(tree.root / "top", "trusted.kept", b"x")
    os.setxattr(tree.root / "top", "user.rootlesscontainers", owner.remember(5, 6))
    [entry] = [entry for entry in tar.Reader([whole(tree.root)], Limits()) if entry.name == b"top"]
    assert entry.xattrs == ({b"trusted.kept": b"x"} if os.geteuid() == 0 else {})


def test_a_plain_users_tree_gets_its_owners_back(tree: Tree) -> None:
    os.setxattr(tree.root / "top", "user.rootlesscontainers", owner.remember(5, 3_000_000_000))
    os.setxattr(tree.root / "a", "user.rootlesscontainers", owner.remember(0, 7))
    owners = {e.name: (e.uid, e.gid) for e in tar.Reader([whole(tree.root, single=True)], Limits())}
    assert (owners[b"top"], owners[b"a/"], owners[b"a/f"]) == ((5, 3_000_000_000), (0, 7), (0, 0))


@pytest.mark.parametrize("value", [b"\x08", b"\x0a\x01x", b"\x18\x01", b"\xff" * 12, b"\x08\x80\x80\x80\x80\x10"])
def test_owners_that_are_none(value: bytes) -> None:
    with pytest.raises(Error, match="not an owner"):
        owner.recall(value)


def test_owners_that_nobody_changed_are_root() -> None:
    """As PRoot and newer umocis write them."""
    assert owner.recall(b"\x08\xff\xff\xff\xff\x0f\x10\xc8\x03") == (0, 456)


@pytest.mark.parametrize("pair", [(0, 0), (1, 0), (0, 127), (128, 300), (4294967294, 65536)])
def test_owners_are_remembered(pair: tuple[int, int]) -> None:
    assert owner.recall(owner.remember(*pair)) == pair


def test_another_archive_is_written_anew(tmp_path: Path) -> None:
    import io
    import tarfile

    (tmp_path / "t").mkdir()
    write(tmp_path / "t/f")
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        info = archive.gettarinfo(tmp_path / "t/f", "./t/../t/f")
        info.uname, info.uid, info.mtime = "somebody", 7, 5_000_000_000
        with open(tmp_path / "t/f", "rb") as file:
            archive.addfile(info, file)
    data = packed(lambda packing: packing.archive(io.BytesIO(output.getvalue()), Limits()), epoch=100)
    [entry] = list(tar.Reader([data], Limits()))
    assert (entry.name, entry.uid, entry.mtime) == (b"t/f", 7, 100_000_000_000)
    assert b"somebody" not in data
    assert packed(lambda packing: packing.archive(io.BytesIO(data), Limits())) == data


def test_sparse_entries_are_written_with_their_zeros() -> None:
    import io

    from tests.test_tar import member, pax

    records = (("GNU.sparse.size", "600000"), ("GNU.sparse.map", "4096,3,500000,2,600000,0"))
    data = pax(*records) + member(b"f", b"abcde") + bytes(1024)
    reader = tar.Reader([packed(lambda packing: packing.archive(io.BytesIO(data), Limits()))], Limits())
    [content] = [b"".join(reader.data()) for _ in reader]
    assert content == bytes(4096) + b"abc" + bytes(500000 - 4099) + b"de" + bytes(600000 - 500002)


def test_an_archive_that_is_written_holds_no_memory() -> None:
    """Some megabytes of each of many layers would wait for the collector."""
    gc.disable()
    try:
        with Archive(make.Sink(), "gzip") as archive:
            archive.close()
        held = weakref.ref(archive)
        del archive
        assert held() is None
    finally:
        gc.enable()


# -- overlays ---------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "renamed directory"])
def test_changes_of_an_overlay(name: str, tmp_path: Path) -> None:
    """The same changes, told by what overlayfs wrote; it does not rename lower directories."""
    change, expect = CHANGES[name]
    kept = store.Store(path=f"{tmp_path}/layers")
    chain = ensure(kept, LOWER[:6], LOWER[6:])
    with Stacked(kept, chain, f"{tmp_path}/o") as root:
        # A hard link into a lower layer is broken by its first change: overlayfs(5), "index".
        if name.startswith("hard link"):
            expect = {"hard link new": ["hard1 f", "hard4 h"]}.get(name, expect)
        if name == "hard linked content":
            expect = ["hard2 f"]
        change(Path(root))
        fd = os.open(f"{tmp_path}/o.upper", os.O_RDONLY)
        trees = [kept.tree(digest) for digest in chain.lower]
        data = packed(lambda packing: packing.changes(fd, upper.compare(fd, trees, chain)))
        os.close(fd)
        assert entries(data) == expect
        if not name.startswith("hard"):
            make.unpack(tmp_path / "again", LOWER, data)
            assert same_time(listing.lines(tmp_path / "again")) == same_time(listing.lines(root))


@pytest.mark.root
def test_copies_in_an_overlay_are_no_change(tmp_path: Path) -> None:
    """overlayfs copies what is opened for writing, or moved away and back."""
    kept = store.Store(path=f"{tmp_path}/layers")
    chain = ensure(kept, ["a/", ("a/f", bytes(300_000)), "a/g", "l>a", ("b", b"old"), "h", "h2=h", {"kind": "c", "name": "n", "device": (1, 3)}])
    with Stacked(kept, chain, f"{tmp_path}/o") as top:
        root = Path(top)
        os.close(os.open(root / "a/f", os.O_RDWR))
        for name in ("a/g", "l", "n"):
            (root / name).rename(root / "away")
            (root / "away").rename(root / name)
        (root / "h").chmod(0o600)
        (root / "h").chmod(0o644)
        fd = os.open(f"{tmp_path}/o.upper", os.O_RDONLY)
        assert sorted(path.name for path in Path(f"{tmp_path}/o.upper").rglob("*")) == ["a", "f", "g", "h", "l", "n"]
        trees = [kept.tree(digest) for digest in chain.lower]
        assert list(upper.compare(fd, trees, chain)) == []
        write(root / "b", "new")
        os.utime(root / "b", ns=(make.T, make.T))
        (root / "l").unlink()
        (root / "l").symlink_to("b")
        os.utime(root / "l", ns=(make.T, make.T), follow_symlinks=False)
        os.setxattr(root / "a/g", "user.a", b"1")
        os.link(root / "h", root / "h3")
        assert [path for path, _ in upper.compare(fd, trees, chain)] == [b"a/g", b"b", b"h", b"h3", b"l"]
        os.close(fd)


def test_marks_of_fuse_overlayfs_without_devices(tmp_path: Path) -> None:
    """Where it may make none, a file tells that a name is gone."""
    make.unpack(tmp_path / "lower", ["a/", "a/f", "a/g", "top", "b/", "b/x"])
    make.unpack(tmp_path / "upper", ["a/", "b/", "b/new"])
    for name in ("a/.wh.f", "a/.wh.none", ".wh.top", "b/.wh..wh..opq", "b/.wh.x"):
        os.close(os.open(tmp_path / "upper" / name, os.O_CREAT, 0o700))
    fd = os.open(tmp_path / "upper", os.O_RDONLY)
    data = packed(lambda packing: packing.changes(fd, upper.compare(fd, [f"{tmp_path}/lower"], None)))
    assert entries(data) == [".wh.top f", "a/ d", "a/.wh.f f", "b/ d", "b/.wh.x f", "b/new f"]
    write(tmp_path / "upper/.wh.mine")
    with pytest.raises(Error, match="would be read as a whiteout"):
        packed(lambda packing: packing.changes(fd, upper.compare(fd, [f"{tmp_path}/lower"], None)))
    os.close(fd)


@pytest.mark.root
def test_what_a_stack_needed_is_no_change(tmp_path: Path) -> None:
    kept = store.Store(path=f"{tmp_path}/layers")
    layers = [[{"kind": "d", "name": "tmp", "mode": 0o1777}, "a/", "a/.wh.x"], ["tmp/y", "b/.wh.z"]]
    chain = ensure(kept, *layers)
    assert len(chain.made) > 1 and chain.hidden
    store.make_upper(f"{tmp_path}/upper", chain)
    fd = os.open(f"{tmp_path}/upper", os.O_RDONLY)
    trees = [kept.tree(digest) for digest in chain.lower]
    assert list(upper.compare(fd, trees, chain)) == []
    write(tmp_path / "upper/tmp/new")
    assert list(upper.compare(fd, trees, chain)) == [(b"tmp/new", False)]
    os.close(fd)
