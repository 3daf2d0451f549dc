"""What fuzzing begins with: archives of every kind that there is a way to write, and strategies for more."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oci_tools import compress
from oci_tools.errors import Error
from tests import test_tar
from tests.layer import make

LAYERS = Path(__file__).resolve().parents[3] / "shared" / "layers"


class Found(Exception):
    """An input that fails."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def of(target: str) -> Iterator[bytes]:
    if target == "expand":
        plain = make.archive("a", "d/", "d/b", "l>a")
        yield from (b"\x20" + data for data in compressed(plain))
        return
    archives = [
        make.archive("a", "d/", "d/b", "l>a", "h=a", ".wh.c", "d/.wh..wh..opq", ("x" * 120, b"y")),
        make.archive({"kind": "c", "name": "n", "device": (1, 3)}, {"kind": "p", "name": "p"}, {"name": "t", "mtime": -5}),
        make.archive({"name": "x", "xattrs": {b"user.a": b"b"}, "uid": 1 << 30}),
        test_tar.pax(("GNU.sparse.size", "8192"), ("GNU.sparse.map", "0,3,4096,6")) + test_tar.member(b"s", b"abcdefghi") + bytes(1024),
        test_tar.pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9000"), ("GNU.sparse.name", "n"))
        + test_tar.member(b"s", b"1\n0\n3\n".ljust(512, b"\0") + b"abc") + bytes(1024),
        *written(), *(layer for case in shared() for layer in case),
    ]  # fmt: skip
    for at, archive in enumerate(archives):
        if len(archive) > 12000:
            continue
        if target == "reader":
            yield bytes((at % 4, at % 80)) + archive
        else:
            yield bytes((0, 0, 0)) + archive
    if target == "apply":
        for case in shared():
            if 1 < len(case) < 4 and all(len(layer) % 512 == 0 for layer in case) and sum(map(len, case)) < 12000:
                cuts = [len(case[0]) // 512, (len(case[0]) + len(case[1])) // 512, 0]
                yield bytes((len(case) - 1, cuts[0], cuts[1] if len(case) > 2 else 0)) + b"".join(case)


def compressed(plain: bytes) -> list[bytes]:
    import zstandard

    packed = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(plain)
    return [
        plain, gzip.compress(plain), gzip.compress(plain[:100]) + gzip.compress(plain[100:]), packed, packed + packed,
        b"\x50\x2a\x4d\x18\3\0\0\0abc" + packed, named(plain), zstandard.compress(plain, 19),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(300000)), gzip.compress(bytes(300000)),
    ]  # fmt: skip


def named(plain: bytes) -> bytes:
    from tests.test_compress import named_member

    return named_member(plain)


def written() -> Iterator[bytes]:
    """Archives by Python's writer, in its three formats."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w", format=form) as archive:
            for name, kind in (("d", tarfile.DIRTYPE), ("d/" + "n" * 90, tarfile.REGTYPE), ("d/l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "d/" + "n" * 90 if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                archive.addfile(info)
        yield output.getvalue()[:5120]


def shared() -> list[list[bytes]]:
    """The plain layers of the tricky cases."""
    found = []
    for case in sorted((LAYERS / "img").iterdir()) if LAYERS.is_dir() else ():
        try:
            index = json.loads((case / "index.json").read_text())
            manifest = json.loads((case / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
            blobs = [(case / "blobs" / layer["digest"].replace(":", "/")).read_bytes() for layer in manifest["layers"]]
            found.append([b"".join(compress.expand([blob])) for blob in blobs])
        except (OSError, Error):
            continue
    return found


# -- strategies -------------------------------------------------------------------------------

PARTS = st.sampled_from(["a", "b", "c", "l", "..", ".", "", "x" * 100, ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.plnk", "é", "\udcff", "n\n"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
LAYER = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "kind": st.sampled_from("ffddlhcbp"), "link": st.one_of(NAMES, NAMES.map("/".__add__)),
         "mode": st.integers(0, 0o7777), "uid": st.sampled_from([0, 1, 1 << 21, 0xFFFFFFFE]), "mtime": test_tar.TIMES,
         "data": st.one_of(st.just(b""), st.binary(max_size=40), st.just(b"x" * 600)),
         "xattrs": st.dictionaries(st.sampled_from([b"user.a", b"user.\xff", b"trusted.overlay.opaque"]), st.binary(max_size=9), max_size=2)},
    ),
    max_size=8,
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(min_size=1, max_size=12)), max_size=3)


def layer(entries: list[dict[str, Any]], changes: list[tuple[int, bytes]]) -> bytes:
    """An archive in which some bytes are others."""
    made = []
    for one in entries:
        kind = one["kind"]
        entry = {**one, "data": one["data"] if kind == "f" else b"", "link": one["link"] if kind in "hl" else ""}
        made.append({**entry, "device": (1, 3)} if kind in "cb" else entry)
    data = bytearray(make.archive(*made))
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new
    return bytes(data[: len(data) // 512 * 512])


INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "reader": st.builds(
        lambda steer, size, data: bytes((steer, size)) + data,
        st.integers(0, 3), st.integers(0, 255), st.builds(layer, LAYER, CHANGES),
    ),
    "apply": st.lists(st.builds(layer, LAYER, CHANGES), min_size=1, max_size=3).map(
        lambda layers: bytes((len(layers) - 1, min(255, len(layers[0]) // 512), min(255, sum(map(len, layers[:2])) // 512))) + b"".join(layers)
    ),
    "expand": st.builds(
        lambda size, data, at, new: bytes((size,)) + data[: at % len(data)] + new + data[at % len(data) + len(new) :],
        st.integers(0, 255), st.binary(max_size=5000).flatmap(lambda plain: st.sampled_from(compressed(plain))).filter(bool),
        st.integers(0, 1 << 14), st.binary(max_size=4),
    ),
}  # fmt: skip


def search(target: str, judge: Callable[[bytes], None], most: int = 500) -> int:
    """Try examples; how many.  What fails is Found, made as small as may be."""
    count, last = 0, b""

    @settings(deadline=None, max_examples=most, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate, Phase.shrink])  # fmt: skip
    @given(INPUTS[target])
    def examples(data: bytes) -> None:
        nonlocal count, last
        count += 1
        try:
            judge(data)
        except BaseException:
            last = data
            raise

    try:
        examples()
    except Exception as error:
        raise Found(last) from error
    return count
