"""Archives: what is read of them, what is refused, and that other readers read what we write."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_tools import tar
from oci_tools.errors import Error
from oci_tools.layer.limits import Limits
from oci_tools.layer.write import Writer

SECOND = 1_000_000_000


def header(name: bytes = b"f", kind: bytes = b"0", size: int = 0, **more: bytes) -> bytes:
    """A header by hand; `more` replaces fields by their bytes."""
    fields = {
        "name": name.ljust(100, b"\0"), "mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0",
        "size": b"%011o\0" % size, "mtime": b"00000000000\0", "sum": b"        ", "kind": kind, "link": bytes(100),
        "magic": b"ustar\000", "names": bytes(64), "major": b"0000000\0", "minor": b"0000000\0", "prefix": bytes(155),
        "pad": bytes(12), **more,
    }  # fmt: skip
    fields["magic"] = fields["magic"].ljust(8, b"\0")
    block = b"".join(fields.values())
    assert len(block) == 512
    if "sum" in more:
        return block
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def member(name: bytes = b"f", data: bytes = b"", kind: bytes = b"0", **more: bytes) -> bytes:
    return header(name, kind, len(data), **more) + data + bytes(-len(data) % 512)


def record(key: str, value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return b"%d" % length + rest


def pax(*records: tuple[str, str | bytes], kind: bytes = b"x") -> bytes:
    return member(b"PaxHeaders/x", b"".join(record(*one) for one in records), kind)


def read(data: bytes, size: int = 1 << 18, limits: Limits | None = None) -> list[tuple[tar.Entry, bytes]]:
    reader = tar.Reader([data[at : at + size] for at in range(0, len(data), size)], limits or Limits())
    found = [(entry, b"".join(reader.data())) for entry in reader]
    reader.drain()
    assert reader.total == len(data)
    return found


def one(data: bytes, **more: Any) -> tar.Entry:
    [(entry, _)] = read(data, **more)
    return entry


END = bytes(1024)


@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 1 << 18])
def test_pieces_may_end_anywhere(size: int) -> None:
    data = pax(("path", "long/" * 50), ("mtime", "1.5")) + member(b"x", b"d" * 1000) + member(b"y", b"e") + END
    found = read(data, size)
    assert [(e.name, e.mtime, d) for e, d in found] == [
        (b"long/" * 50, 3 * SECOND // 2, b"d" * 1000),
        (b"y", 0, b"e"),
    ]


def test_what_is_not_taken_is_skipped() -> None:
    data = member(b"x", b"d" * 1000) + member(b"y", b"e") + END
    assert [entry.name for entry in tar.Reader([data], Limits())] == [b"x", b"y"]


@pytest.mark.parametrize(
    ("kind", "type"),
    [(b"0", "f"), (b"\0", "f"), (b"7", "f"), (b"1", "h"), (b"2", "l"), (b"3", "c"), (b"4", "b"), (b"5", "d"), (b"6", "p")],
)
def test_types(kind: bytes, type: str) -> None:
    entry = one(header(b"x", kind, major=b"0000403\0", minor=b"0000454\0") + END)
    assert entry.type == type
    if type in "cb":
        assert entry.device == (259, 300)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_only_files_have_data(kind: bytes) -> None:
    found = read(header(b"x", kind, 5) + member(b"y", b"e") + END)
    assert [(entry.name, data) for entry, data in found] == [(b"x", b""), (b"y", b"e")]


def test_v7_directories_end_in_a_slash() -> None:
    assert one(header(b"d/", b"\0", magic=b"")).type == "d"
    assert one(header(b"d/", b"0")).type == "f"


def test_the_prefix_is_ustars_alone() -> None:
    assert one(header(b"name", prefix=b"some/dir".ljust(155, b"\0"))).name == b"some/dir/name"
    for times in (b"1", b"00000000000\0" * 2, b"\x80" + bytes(11) + b"17", bytes(12) + b"17", b"x\xff"):
        assert one(header(b"name", prefix=times.ljust(155, b"\0"), magic=b"ustar  \0")).name == b"name"
    star = b"dir".ljust(131, b"\0") + b"00000000000 00000000000 "
    assert one(header(b"name", prefix=star, pad=b"00000000tar\0")).name == b"dir/name"


def test_old_go_wrote_prefixes_into_gnu_headers() -> None:
    """As in images that Docker made before 1.13 of large owners and long names."""
    owner = b"\x80" + (3_000_000).to_bytes(7, "big")
    for prefix in (b"usr/lib/" * 12, b"a", b"12345678", b"0" * 12 + b"x" * 30):
        entry = one(header(b"f", prefix=prefix.ljust(155, b"\0"), magic=b"ustar  \0", uid=owner))
        assert (entry.name, entry.uid) == (prefix + b"/f", 3_000_000)


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0000017\0", 15), (b" 17\0\0\0\0\0", 15), (b"17      ", 15), (b"\0" * 8, 0), (b"7777777 ", 0o7777777),
        (b"77777777", 0o77777777), (b"17\0junk\0", 15), (b"\x80" + (70_000_000).to_bytes(7, "big"), 70_000_000),
    ],
)  # fmt: skip
def test_numbers(field: bytes, number: int) -> None:
    assert one(header(uid=field)).uid == number


@pytest.mark.parametrize("field", [b"0000008\0", b"00000x7\0", b"-000007\0", b"0_00007\0", b"+000007\0", b"\xff" * 8])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(Error):
        read(header(uid=field))


def test_base_256_may_be_negative() -> None:
    field = (-100 + (1 << 96)).to_bytes(12, "big")
    assert one(header(mtime=field)).mtime == -100 * SECOND


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0", 0), ("1", SECOND), ("-1.5", -3 * SECOND // 2), ("1600000000.123456789", 1600000000123456789),
        ("1.5", 3 * SECOND // 2), ("1.1234567899", 1123456789), ("0.000000001", 1), ("-0.000000001", -1), ("5.", 5 * SECOND), ("+5", 5 * SECOND),
    ],
)  # fmt: skip
def test_pax_times(text: str, time: int) -> None:
    assert one(pax(("mtime", text)) + header()).mtime == time


def test_pax_overrules() -> None:
    entry = one(
        pax(("path", "p\nq"), ("linkpath", "l"), ("uid", "3000000000"), ("gid", "7"), ("comment", "x"), ("atime", "x"),
            ("SCHILY.xattr.user.a=b", b"\0\xff\n"), ("path", "")) + header(kind=b"2")
    )  # fmt: skip
    assert (entry.name, entry.link, entry.uid, entry.gid) == (b"p\nq", b"l", 3000000000, 7)
    assert entry.xattrs == {b"user.a": b"b=\0\xff\n"}, "a key ends at its first equals sign"


def test_the_size_of_pax_is_the_sizes() -> None:
    [(entry, data)] = read(pax(("size", "3")) + header(size=0) + b"abc" + bytes(509) + END)
    assert (entry.size, data) == (3, b"abc")


def test_gnu_long_names_beat_pax() -> None:
    data = member(b"././@LongLink", b"n" * 300 + b"\0", b"L") + member(b"././@LongLink", b"k" * 300 + b"\0", b"K")
    entry = one(data + pax(("path", "p")) + header(kind=b"2") + END)
    assert (entry.name, entry.link) == (b"n" * 300, b"k" * 300)


def test_global_headers_are_passed_over() -> None:
    assert one(pax(("path", "everything"), kind=b"g") + header(b"x") + END).name == b"x"


@pytest.mark.parametrize(
    ("records", "stored"),
    [
        ([("GNU.sparse.size", "8192"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.offset", "4096"),
          ("GNU.sparse.numbytes", "3"), ("GNU.sparse.offset", "8192"), ("GNU.sparse.numbytes", "0")], b"abc"),
        ([("GNU.sparse.size", "8192"), ("GNU.sparse.map", "4096,3,8192,0"), ("GNU.sparse.name", "f")], b"abc"),
        ([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "8192"),
          ("GNU.sparse.name", "f")], b"2\n4096\n3\n8192\n0\n".ljust(512, b"\0") + b"abc"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [100, 1 << 18])
def test_sparse_files(records: list[tuple[str, str]], stored: bytes, size: int) -> None:
    found = read(pax(*records) + member(b"GNUSparseFile.1/f", stored) + member(b"next", b"n") + END, size)
    entry, data = found[0]
    assert (entry.size, entry.sparse, data) == (8192, [(4096, 3), (8192, 0)], b"abc")
    assert (found[1][0].name, found[1][1]) == (b"next", b"n")


def test_a_sparse_map_may_take_several_blocks() -> None:
    pairs = [(at * 10, 1) for at in range(200)]
    text = b"200\n" + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    stored = text + bytes(-len(text) % 512) + b"x" * 200
    records = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "2000"))
    [(entry, data)] = read(pax(*records) + member(b"f", stored) + END)
    assert entry.sparse == pairs and data == b"x" * 200


BAD_SPARSE = [
    [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,3,2,0")],  # overlap
    [("GNU.sparse.size", "2"), ("GNU.sparse.map", "0,3")],  # beyond the end
    [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,2")],  # not all data
    [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,3,5")],  # half a pair
    [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,x")],
    [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10")],  # no map
    [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10")],
]


@pytest.mark.parametrize("records", BAD_SPARSE)
def test_sparse_files_that_lie(records: list[tuple[str, str]]) -> None:
    with pytest.raises(Error):
        read(pax(*records) + member(b"f", b"abc") + END)


@pytest.mark.parametrize(
    "ending",
    [b"", bytes(512), END, END + b"garbage", END + member(b"more"), pax(("path", "x")), member(b"L", b"name\0", b"L") + END],
)
def test_ends(ending: bytes) -> None:
    assert one(header() + ending).name == b"f"


def test_an_empty_stream_is_an_empty_archive() -> None:
    assert read(b"") == []


def name(length: int) -> bytes:
    return b"n" * length


@pytest.mark.parametrize(
    "data",
    [
        header()[:-1],
        member(data=b"x")[:-1],
        member(data=b"x" * 600)[:600],
        header(sum=b"000000\0 "),
        header() + bytes(512) + header(),
        header(kind=b"S"),
        header(kind=b"D"),
        pax(("path", "x"))[:-1],
        member(data=b"x" * 600)[:-1],
        pax(("path", b"a\0b")) + header(),
        pax(("SCHILY.xattr.user.\0a", "x")) + header(),
        pax(("size", "-1")) + header(),
        pax(("uid", "4294967295")) + header(),
        pax(("mtime", "1e9")) + header(),
        pax(("mtime", "99999999999999999999")) + header(),
        pax(("path", name(5000))) + header(),
        member(b"x", b"5 a=b\n", b"x") + header(),
        member(b"x", b"7 a=b\n", b"x") + header(),
        member(b"x", b"6 a b\n", b"x") + header(),
        member(b"x", b"x a=b\n", b"x") + header(),
        member(b"x", b"6 a=bc", b"x") + header(),
        member(b"x", b"6 a=b\nx=y\n", b"x") + header(),
        member(b"x", b"6 a=b\n" + b"\0" * 30 + b"=\n", b"x") + header(),
        member(b"x", b"06a=b\n", b"x") + header(),
        header(b"x", b"x", 2 << 20),
        header(size=(1 << 33) - 1, kind=b"x"),
        header(uid=b"\x80" + b"\xff" * 7),
        header(kind=b"c", major=b"0010000\0"),
        header(kind=b"b", minor=b"4000000\0"),
        header(kind=b"c", minor=b"\xff" * 8),
        header(size=0).replace(b"0000644", b"0000645"),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(Error):
        read(data)


def test_an_archive_may_end_with_its_last_byte() -> None:
    for size in (1, 100, 1 << 18):
        assert [data for _, data in read(member(b"f", b"x" * 512) + member(b"g", b"y" * 600)[:1112], size)] == [b"x" * 512, b"y" * 600]
        assert [entry.name for entry in tar.Reader([member(b"g", b"y" * 600)[:1112]], Limits())] == [b"g"]


def test_signed_checksums_of_old_writers() -> None:
    block = header("é".encode())
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    assert one(block[:148] + b"%06o\0 " % signed + block[156:]).name == "é".encode()


@pytest.mark.parametrize(
    ("word", "data"),
    [
        ("entries=3", header() * 3),
        ("size=2560", member(data=b"x" * 600) + END),
        ("path=11", header(name(11))),
        ("header=610", pax(("path", name(600))) + header()),
        ("xattrs=2", pax(("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "1")) + header()),
    ],
)
def test_limits(word: str, data: bytes) -> None:
    """As much as a limit says is not too much; one less is."""
    read(data, limits=Limits.parse([word]))
    limit, _, most = word.partition("=")
    with pytest.raises(Error, match=rf"\(--limit {limit}=N\)$"):
        read(data, limits=Limits.parse([f"{limit}={int(most) - 1}"]))


@pytest.mark.parametrize("word", ["entries", "entries=", "entries=x", "nothing=1", "skip_roots=1", "size=-1", "size=1X", "=1"])
def test_limits_that_are_none(word: str) -> None:
    with pytest.raises(Error, match="not a limit"):
        Limits.parse([word])


def test_limits_have_units() -> None:
    limits = Limits.parse(["size=2g", "header=3K"])
    assert (limits.size, limits.header, limits.path) == (2 << 30, 3 << 10, 4096)


# -- other readers and writers ---------------------------------------------------------------

NAMES = st.binary(min_size=1, max_size=12).filter(lambda part: not set(part) & set(b"/\0") and part not in (b".", b".."))
PATHS = st.lists(NAMES, min_size=1, max_size=30).map(b"/".join)
TIMES = st.integers(-(1 << 33) * SECOND, (1 << 36) * SECOND)
ENTRIES = st.tuples(
    st.sampled_from("fdhlpcb"), PATHS, st.integers(0, 0o7777), st.integers(0, 1 << 31), st.integers(0, 1 << 31), TIMES,
    st.binary(max_size=700), PATHS, st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
    st.dictionaries(NAMES.filter(lambda name: b"=" not in name), st.binary(max_size=40), max_size=3),
)  # fmt: skip


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def write(entries: list[Any]) -> bytes:
    sink = Sink()
    writer = Writer(sink)
    for kind, path, mode, uid, gid, mtime, data, link, device, xattrs in entries:
        data = data if kind == "f" else b""
        link = link if kind in "hl" else b""
        device = device if kind in "cb" else (0, 0)
        writer.entry(kind, path, mode, uid, gid, mtime, len(data), link, device, xattrs)
        writer.data(data)
        writer.end()
    writer.close()
    return sink.data


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=4), st.integers(1, 3000))
def test_we_read_what_we_write(entries: list[Any], size: int) -> None:
    found = read(write(entries), size)
    for (entry, content), (kind, path, mode, uid, gid, mtime, data, link, device, xattrs) in zip(found, entries, strict=True):
        assert entry.type == kind
        assert entry.name == path + (b"/" if kind == "d" else b"")
        assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (mode, uid, gid, mtime)
        assert entry.xattrs == xattrs
        assert content == (data if kind == "f" else b"")
        assert entry.link == (link if kind in "hl" else b"")
        if kind in "cb":
            assert entry.device == device


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=4))
def test_pythons_reader_reads_what_we_write(entries: list[Any]) -> None:
    with tarfile.open(fileobj=io.BytesIO(write(entries)), errors="surrogateescape", encoding="utf-8") as archive:
        members = archive.getmembers()
    assert len(members) == len(entries)
    for found, (kind, path, mode, uid, gid, mtime, data, *_) in zip(members, entries, strict=True):
        assert found.name.encode("utf-8", "surrogateescape") == path
        assert (found.mode, found.uid, found.gid) == (mode, uid, gid)
        assert abs(found.mtime - mtime / SECOND) < 0.001
        assert found.uname == found.gname == ""
        assert found.size == (len(data) if kind == "f" else 0)


@settings(deadline=None)
@given(ENTRIES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_we_read_what_python_writes(entry: Any, form: int) -> None:
    kind, path, mode, uid, gid, mtime, data, *_ = entry
    if kind not in "fd":
        return
    info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
    info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, abs(mtime) // SECOND
    info.type = tarfile.DIRTYPE if kind == "d" else tarfile.REGTYPE
    info.size = len(data) if kind == "f" else 0
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        try:
            archive.addfile(info, io.BytesIO(data))
        except UnicodeError:
            return  # tarfile cannot write a pax name that is not UTF-8
    [(found, content)] = read(output.getvalue())
    assert found.name.rstrip(b"/") == path.rstrip(b"/")
    assert (found.mode, found.uid, found.gid, found.mtime) == (mode, uid, gid, info.mtime * SECOND)
    assert content == (data if kind == "f" else b"")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2048), st.integers(1, 1000))
def test_anything_is_read_or_refused(data: bytes, size: int) -> None:
    try:
        read(data, size, Limits.parse(["size=16M"]))  # a sparse file may say that it is huge
    except Error:
        pass


@settings(deadline=None, max_examples=300)
@given(st.lists(ENTRIES, min_size=1, max_size=2), st.integers(0, 5000), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused(entries: list[Any], at: int, change: int) -> None:
    data = bytearray(write(entries))
    data[at % len(data)] ^= change
    try:
        read(bytes(data), limits=Limits.parse(["size=16M"]))
    except Error:
        pass
