"""What one layer's entries make of a tree; over lower layers: test_merge.py."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.layer import apply, owner
from oci_tools.layer.limits import Limits
from oci_tools.layer.tree import new_root
from tests import test_tar
from tests.layer import listing, make

T = make.T


def names(path: Path) -> list[str]:
    return [line.path for line in listing.lines(path)]


def test_attributes_of_everything(tmp_path: Path) -> None:
    when = 1234567890_123456789
    make.unpack(
        tmp_path / "t",
        [
            {"kind": "d", "name": "d", "mode": 0o1770, "mtime": when},
            {"name": "d/f", "mode": 0o640, "mtime": -when, "data": b"data"},
            {"kind": "l", "name": "d/l", "link": "nowhere", "mode": 0o777, "mtime": when},
            {"kind": "p", "name": "d/p", "mode": 0o622, "mtime": when},
        ],
    )
    assert [(line.path, line.kind, line.mode, line.mtime) for line in listing.lines(tmp_path / "t")] == [
        ("d", "d", "1770", "1234567890.123456789"),
        ("d/f", "f", "0640", "-1234567891.876543211"),
        ("d/l", "l", "0777", "1234567890.123456789"),
        ("d/p", "p", "0622", "1234567890.123456789"),
    ]


@pytest.mark.root
def test_owners_set_ids_and_capabilities_survive_each_other(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    make.unpack(
        tmp_path / "t",
        [
            {"kind": "d", "name": "d", "mode": 0o2775, "uid": 1, "gid": 50},
            {"name": "d/setuid", "mode": 0o4755, "uid": 5, "gid": 6, "data": b"x"},
            {"name": "d/setgid", "mode": 0o2755, "data": b"x"},
            {"name": "d/capable", "uid": 7, "xattrs": {b"security.capability": capability}, "data": b"x"},
            {"kind": "l", "name": "d/link", "link": "x", "uid": 8, "gid": 9, "mode": 0o777},
            {"kind": "c", "name": "d/null", "device": (1, 3), "mode": 0o666, "uid": 3},
            {"kind": "b", "name": "d/loop", "device": (7, 300), "mode": 0o660},
        ],
    )
    found = {line.path: line for line in listing.lines(tmp_path / "t")}
    assert (found["d"].mode, found["d"].owner) == ("2775", "1:50")
    assert (found["d/setuid"].mode, found["d/setuid"].owner) == ("4755", "5:6")
    assert (found["d/setgid"].mode, found["d/setgid"].owner) == ("2755", "0:0"), "not the directory's group"
    assert found["d/capable"].xattrs == f"security.capability={capability.hex()}"
    assert found["d/link"].owner == "8:9"
    assert (found["d/null"].what, found["d/null"].owner, found["d/null"].mode) == ("dev=1:3", "3:0", "0666")
    assert found["d/loop"].what == "dev=7:300"


@pytest.mark.root
def test_nothing_is_taken_over_from_the_directory_above(tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 50)
    tmp_path.chmod(0o2777)
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", bytes.fromhex("02000000010007ffffffffff04000700ffffffff20000700ffffffff"))
    except OSError:
        pass
    umask = os.umask(0o077)
    try:
        make.unpack(tmp_path / "t", ["d/", {"name": "d/f", "mode": 0o666}])
    finally:
        assert os.umask(umask) == 0o077
    assert (tmp_path / "t").stat().st_gid == 0
    assert [(line.mode, line.owner, line.xattrs) for line in listing.lines(tmp_path / "t")] == [
        ("0755", "0:0", ""),
        ("0666", "0:0", ""),
    ]


@pytest.mark.root
def test_attributes_of_the_host_are_refused(tmp_path: Path) -> None:
    told: list[str] = []
    xattrs = {b"trusted.overlay.opaque": b"y", b"user.overlay.redirect": b"/", b"user.fuseoverlayfs.opaque": b"y", b"user.rootlesscontainers": b"\x08\x01",
              b"security.selinux": b"x", b"trusted.mine": b"1", b"user.mine": b"2"}  # fmt: skip
    entries = [{"kind": "d", "name": "d", "xattrs": xattrs}, {"name": "f", "xattrs": xattrs}]
    make.unpack(tmp_path / "t", entries, warn=told.append)
    assert {line.xattrs for line in listing.lines(tmp_path / "t")} == {"trusted.mine=31 user.mine=32"}
    assert len(told) == 1 and "refused" in told[0]


def test_missing_parents_are_made(tmp_path: Path) -> None:
    make.unpack(tmp_path / "t", ["a/b/c"])
    assert [(line.path, line.kind, line.mode) for line in listing.lines(tmp_path / "t")][:2] == [
        ("a", "d", "0755"),
        ("a/b", "d", "0755"),
    ]


def test_directories_get_their_times_last(tmp_path: Path) -> None:
    make.unpack(tmp_path / "t", [{"kind": "d", "name": ".", "mtime": 5}, "d/", "d/e/", "d/e/f", "d/g"])
    assert (tmp_path / "t").stat().st_mtime_ns == 5
    assert {(tmp_path / "t" / name).stat().st_mtime_ns for name in ("d", "d/e")} == {T}


@pytest.mark.parametrize(
    ("entries", "expect"),
    [
        (["f", ("f", b"last")], ["f f"]),
        (["d/", "d/x", "d/"], ["d d", "d/x f"]),
        (["d/", "d/x", "d"], ["d f"]),
        (["d/", "d/x", "d>t"], ["d l"]),
        (["d/", "d/e/", "d/e/x", "d", "d/y"], ["d d", "d/y f"]),
        (["f", "f/x"], ["f d", "f/x f"]),
        (["f", "f/"], ["f d"]),
        (["r/", "l>r", "l/x"], ["l l", "r d", "r/x f"]),
        (["r/", "l>r", "l/x", "l/"], ["l d", "r d", "r/x f"]),
        (["r/", "l>r", "l/x", "l/", "l/y"], ["l d", "l/y f", "r d", "r/x f"]),
        (["r/", "l>r", "l/a/x", "l", "l/a/y"], ["l d", "l/a d", "l/a/y f", "r d", "r/a d", "r/a/x f"]),
        (["l>/a/../b/./c", "l/x"], ["b d", "b/c d", "b/c/x f", "l l"]),
        (["a/l>../b", "a/l/x"], ["a d", "a/l l", "b d", "b/x f"]),
        (["./a/./b//c"], ["a d", "a/b d", "a/b/c f"]),
        (["../../a", "b/../../../c"], ["a f", "c f"]),
        (["a", "h=a", "a/"], ["a d", "h f"]),
        (["d/x", "h=d/x", "d"], ["d f", "h f"]),
        (["d/", "d/x", "d=d/x"], None),
        (["d/", "h=d"], None),
        (["h=."], None),
        (["h=nowhere"], None),
        (["h=a/b/c"], None),
        (["f", "g/", "h=f/x"], None),
        (["l>l", "l/x"], None),
        ([{"kind": "l", "name": "l", "link": b"", "mode": 0o777}], None),
        (["n" * 256], None),
    ],
)
def test_names_over_names(entries: list[Any], expect: list[str] | None, tmp_path: Path) -> None:
    if expect is None:
        with pytest.raises(Error):
            make.unpack(tmp_path / "t", entries)
    else:
        make.unpack(tmp_path / "t", entries)
        assert [f"{line.path} {line.kind}" for line in listing.lines(tmp_path / "t")] == expect


def test_the_last_of_a_name_is_what_it_is(tmp_path: Path) -> None:
    make.unpack(tmp_path / "t", [("f", b"first"), "h=f", ("f", b"second")])
    assert (tmp_path / "t" / "f").read_bytes() == b"second"
    assert (tmp_path / "t" / "h").read_bytes() == b"first", "it was unlinked, not written to"


def test_hard_links_have_no_attributes_and_may_be_to_links(tmp_path: Path) -> None:
    make.unpack(
        tmp_path / "t",
        ["f", {"kind": "h", "name": "g", "link": "./f", "mode": 0o4777, "uid": 5, "mtime": 1}, "l>f", "k=l", "m=/f", "m=m"],
    )
    found = {line.path: line for line in listing.lines(tmp_path / "t")}
    assert found["f"].mode == found["g"].mode == "0644"
    assert (found["g"].leader, found["m"].leader, found["k"].kind, found["l"].leader) == ("=f", "=f", "l", "=k")
    assert (tmp_path / "t/f").stat().st_mtime_ns == T


def test_what_aufs_left_is_passed_over(tmp_path: Path) -> None:
    make.unpack(
        tmp_path / "t",
        [".wh..wh.aufs", ".wh..wh.orph/", ".wh..wh.orph/x", ".wh..wh.plnk/", (".wh..wh.plnk/1.2", b"old"),
         "a=.wh..wh.plnk/1.2", "b=.wh..wh.plnk/1.2", "d/.wh..wh.plnk/x", "c"],
    )  # fmt: skip
    assert names(tmp_path / "t") == ["a", "b", "c"]
    assert (tmp_path / "t/a").read_bytes() == b"old"
    assert (tmp_path / "t/a").stat().st_nlink == 2


@pytest.mark.parametrize("name", [".wh.", ".wh..", "a/.wh...", ".wh.d/x", "a/.wh.d/b/x"])
def test_whiteouts_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match="cannot unpack"):
        make.unpack(tmp_path / "t", [name])


@pytest.mark.parametrize("entry", [{"name": "."}, {"name": "/"}, {"name": "a/.."}, {"kind": "l", "name": "", "link": "/"}])
def test_the_root_is_a_directory(entry: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Error, match="only a directory can be the root"):
        make.unpack(tmp_path / "t", [entry])
    assert (tmp_path / "t").is_dir() and not (tmp_path / "t").is_symlink()


def test_sparse_files_have_holes(tmp_path: Path) -> None:
    from tests.test_tar import member, pax

    size = 64 << 20
    records = (("GNU.sparse.size", str(size)), ("GNU.sparse.map", f"0,3,{size // 2},600,{size},0"))
    make.unpack(tmp_path / "t", pax(*records) + member(b"f", b"abc" + b"m" * 600) + bytes(1024))
    seen = (tmp_path / "t/f").stat()
    assert (seen.st_size, seen.st_blocks * 512 < 1 << 20) == (size, True)
    with open(tmp_path / "t/f", "rb") as file:
        assert file.read(4) == b"abc\0"
        file.seek(size // 2 - 1)
        assert file.read(602) == b"\0" + b"m" * 600 + b"\0"


def test_a_tree_may_be_deep_and_wide(tmp_path: Path) -> None:
    deep = "d/" * 2000
    before = len(os.listdir("/proc/self/fd"))
    wide = [f"w{at}/x/" for at in range(600)] + [f"w{at}/x/f" for at in range(600)]
    make.unpack(tmp_path / "t", [deep, *wide, f"{deep}f"], [f"{deep}g", *wide], [f".wh.w{at}" for at in range(600)])
    assert len(os.listdir("/proc/self/fd")) <= before
    assert os.listdir(tmp_path / "t") == ["d"]
    at = os.open(tmp_path / "t", os.O_RDONLY)
    for _ in range(2000):
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    assert sorted(os.listdir(at)) == ["f", "g"]
    os.close(at)
    fs.remove_tree(f"{tmp_path}/t")


@pytest.mark.root
def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    """Names, links and hard links at once, in every order that has hurt somebody."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/victim").write_text("v")
    out = f"{tmp_path}/out"
    up = "../" * 20
    layers = [
        [f"abs>{out}", f"rel>{up}{out}", "self>/proc/self/root", "cwd>/proc/self/cwd", "root>/", "dots>..", "d/", f"d/abs>{out}"],
        ["abs/victim", "rel/victim", "d/abs/victim", f"{up}{out}/victim", f"dots/dots{out}/victim", f"root/{out}/victim"],
        [f"self{out}/victim", "cwd/x", "abs/.wh.victim", "rel/.wh..wh..opq", f"dots/.wh.{out.split('/')[1]}x"],
        [f"abs/../{up}{out}/victim", "abs", "abs/victim", f"abs>{out}", "abs/victim"],
    ]
    before = listing.tree(tmp_path / "out")
    make.unpack(tmp_path / "t", *layers)
    assert listing.tree(tmp_path / "out") == before
    for link in (f"h={out}/victim", f"h={up}{out}/victim", "h=abs/victim"):
        with pytest.raises(Error, match="no such file to link to"):
            make.unpack(tmp_path / "u", [f"abs>{out}", link])
        fs.remove_tree(f"{tmp_path}/u")
    assert os.stat(tmp_path / "out/victim").st_nlink == 1


def test_attributes_that_are_kept_are_limited_and_the_same_ones_kept_once(tmp_path: Path) -> None:
    value, limits = b"v" * 1100, Limits.parse(["attributes=3000"])

    def directory(name: str, value: bytes) -> Any:
        return {"kind": "d", "name": name, "xattrs": {b"user.a": value}}

    same = [directory(f"d{n}", value) for n in range(50)]
    make.unpack(tmp_path / "t", same, limits=limits)
    assert os.getxattr(tmp_path / "t/d49", "user.a") == value
    other = [directory(f"d{n}", b"%d" % n + value) for n in range(3)]
    with pytest.raises(Error, match="layer is too large .*: more than 3000 bytes of extended attributes have to be kept"):
        make.unpack(tmp_path / "u", other, limits=limits)
    with pytest.raises(Error, match="more than 3000 bytes"):
        make.unpack(tmp_path / "v", other[:1], other[1:2], other[2:], limits=limits)


def test_limits_reach_the_reader(tmp_path: Path) -> None:
    with pytest.raises(Error, match="more than 2 entries"):
        make.unpack(tmp_path / "t", ["a", "b", "c"], limits=Limits.parse(["entries=2"]))


@pytest.mark.root
@pytest.mark.parametrize("make_blob", [gzip.compress, zstandard.compress])
def test_what_expands_too_much_is_stopped(make_blob: Any, tmp_path: Path) -> None:
    data = make.archive(("zeros", bytes(80 << 20)))
    blob = make_blob(data)
    source = apply.Source(lambda: io.BytesIO(blob), None, len(blob), None)
    for number, word in enumerate(["expansion=500", f"expansion={len(data) // len(blob) + 2}", "size=1T"]):
        fd = new_root(f"{tmp_path}/{number}")
        try:
            if number:
                apply.unpack(source, fd, owner.for_process(), Limits.parse([word]))
                assert (tmp_path / f"{number}/zeros").stat().st_size == 80 << 20
            else:
                with pytest.raises(Error, match="more than 500 times its size"):
                    apply.unpack(source, fd, owner.for_process(), Limits.parse([word]))
                assert (tmp_path / "0/zeros").stat().st_size < 70 << 20
        finally:
            os.close(fd)


def test_a_plain_user_owns_everything_and_remembers(public: Path) -> None:
    os.chown(public, 12345, 12345)
    layers = [
        ["d/", {"kind": "d", "name": "ro", "mode": 0o555, "uid": 3}, {"name": "ro/f", "mode": 0o444, "gid": 7},
         {"name": "own"}, {"kind": "c", "name": "null", "device": (1, 3)}, {"kind": "p", "name": "p", "uid": 5},
         {"kind": "l", "name": "l", "link": "x", "uid": 6, "mode": 0o777}],
        ["ro/g", {"kind": "d", "name": "none", "mode": 0}, ".wh.d"],
    ]  # fmt: skip
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            told: list[str] = []
            make.unpack(public / "t", *layers, warn=told.append)
            code = 0 if len(told) == 1 and "devices" in told[0] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found = {line.path: line for line in listing.lines(public / "t")}
    assert {line.owner for line in found.values()} == {"12345:12345"}
    assert found["ro"].xattrs == "user.rootlesscontainers=0803"
    assert found["ro/f"].xattrs == "user.rootlesscontainers=1007"
    assert (found["ro"].mode, found["ro/f"].mode, found["none"].mode) == ("0555", "0444", "0000")
    assert found["own"].xattrs == ""
    assert (found["null"].kind, found["null"].mode, found["p"].kind) == ("f", "0000", "p")
    assert "d" not in found and "ro/g" in found
    assert stat.S_ISDIR((public / "t").stat().st_mode)


# -- anything at all --------------------------------------------------------------------------


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(test_tar.ENTRIES, max_size=6), min_size=1, max_size=3))
def test_any_entries_are_unpacked_or_refused(tmp_path: Path, layers: list[list[Any]]) -> None:
    place = tempfile.mkdtemp(dir=tmp_path)
    try:
        make.unpack(f"{place}/t", *(test_tar.write(entries) for entries in layers))
    except Error:
        pass
    fs.remove_tree(place)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(test_tar.ENTRIES, min_size=1, max_size=4), st.lists(st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=9))))
def test_any_bytes_are_unpacked_or_refused(tmp_path: Path, entries: list[Any], changes: list[tuple[int, bytes]]) -> None:
    """Bytes of headers are overwritten, and the checksums made good."""
    data = bytearray(test_tar.write(entries))
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new
    del data[len(data) // 512 * 512 :]
    for at in range(0, len(data), 512):
        block = data[at : at + 512]
        if block[257:262] == b"ustar":
            data[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    place = tempfile.mkdtemp(dir=tmp_path)
    try:
        make.unpack(f"{place}/t", bytes(data))
    except Error:
        pass
    fs.remove_tree(place)
