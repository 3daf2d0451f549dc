"""What is fuzzed: each takes any bytes, and raises for a bug; refusing them with an Error is none.

    reader   a tar stream, read in pieces of any size
    apply    one to three layers, unpacked over each other, told beside them in memory, packed and unpacked again
    expand   a compressed stream

The first bytes of an input steer, so that what fuzzers change at random gets past checksums.
`tests/fuzz/run` fuzzes; `test_corpus.py` replays what was found.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oci_tools import compress, fs, tar
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import files
from oci_tools.image.tree import Dir
from oci_tools.layer import diff, merge, owner, snapshot
from oci_tools.layer.apply import Source
from oci_tools.layer.limits import Limits
from oci_tools.layer.write import Writer
from oci_tools.shelf import Attic
from tests.layer import listing

PLACE: Path | None = None  # where `apply` works; None: a temporary directory
SMALL = Limits.parse(["size=1M", "entries=2000", "header=64K"])
HOST = (b"user.overlay.", b"user.rootlesscontainers")
# What the kernel or its file systems refuse, and a tree in memory does not.
KERNEL = ("file name too long", "no space left", "invalid argument", "file too large", "operation not permitted",
          "argument list too long", "numerical result out of range", "operation not supported", "value too large")  # fmt: skip


# -- reader ---------------------------------------------------------------------------------


def reader(data: bytes) -> None:
    """Byte 0: bit 0 makes the checksums good, bit 1 takes old GNU sparse files; byte 1: how large the pieces are."""
    steer, size, data = data[:1], 1 + 7 * (data[1] if len(data) > 1 else 0), data[2:]
    if steer and steer[0] & 1:
        data = summed(data)
    old = bool(steer and steer[0] & 2)
    whole = _read(data, len(data) or 1, old)
    assert _read(data, size, old) == whole


def _read(data: bytes, size: int, old: bool) -> Any:
    reading = tar.Reader((data[at : at + size] for at in range(0, len(data), size)), SMALL, "layer", old)
    found: list[Any] = []
    try:
        for entry in reading:
            assert entry.type in "fdhlpcb" and 0 <= entry.mode <= 0o7777 and b"\0" not in entry.name
            if entry.sparse is None:
                content = b"".join(reading.data())
                assert len(content) == entry.size
            else:
                content = b"".join(reading.data())
                assert len(content) == sum(length for _, length in entry.sparse)
                assert all(offset >= 0 and offset + length <= entry.size for offset, length in entry.sparse)
            found.append([getattr(entry, name, None) for name in tar.Entry.__slots__] + [content])
        reading.drain()
        assert reading.total == len(data)
    except Error as error:
        found.append(str(error))
    return found


def summed(data: bytes) -> bytes:
    """The same with good checksums wherever a header may be."""
    made = bytearray(data)
    for at in range(0, len(made) - 511, 512):
        block = made[at : at + 512]
        if block[257:262] == b"ustar" or block[148:156] == b"checksum":
            made[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    return bytes(made)


# -- apply ----------------------------------------------------------------------------------


def apply(data: bytes) -> None:
    """Byte 0: 1 to 3 layers; bytes 1 and 2: in how many blocks the second and the third begin."""
    if len(data) < 3:
        return
    cuts = sorted({0, *(512 * data[at] for at in range(1, 1 + data[0] % 3)), len(data)})
    layers = [summed(data[3 + start : 3 + end]) for start, end in itertools.pairwise(cuts)]
    _apply([layer for layer in layers if layer])


def _apply(layers: list[bytes]) -> None:
    place = Path(tempfile.mkdtemp(prefix="oci-fuzz-", dir=PLACE))
    before = len(os.listdir("/proc/self/fd"))
    try:
        (place / "canary").write_text("c")
        (place / "x").mkdir()
        said = _unpack(layers, place / "x/t")
        _check_model(layers, place / "x/t", said)
        if said is None:
            _round_trip(place / "x/t")
        assert sorted(os.listdir(place)) == ["canary", "x"] and (place / "canary").read_text() == "c"
        assert (place / "canary").stat().st_nlink == 1
        assert set(os.listdir(place / "x")) <= {"t", "t.1", "t.2", "u", "s"}
    finally:
        fs.remove_tree(str(place))
    assert len(os.listdir("/proc/self/fd")) <= before  # what other tests left may be closed meanwhile


def _unpack(layers: list[bytes], path: Path) -> str | None:
    """What was wrong, None for nothing."""
    try:
        merge.flatten([_source(layer) for layer in layers], str(path), owner.Owner(), SMALL)
    except Error as error:
        return str(error)
    return None


def _source(data: bytes) -> Source:
    digest = digests.of(data)
    return Source(lambda: io.BytesIO(data), digest, len(data), digest)


class _Blobs:
    """As much of a layout as `entries.read` wants."""

    def __init__(self, layers: list[bytes]) -> None:
        self._layers = {digests.of(layer): layer for layer in layers}

    def blob(self, descriptor: Any) -> io.BytesIO:
        return io.BytesIO(self._layers[descriptor["digest"]])


def _check_model(layers: list[bytes], path: Path, said: str | None) -> None:
    """What files.py tells of the layers is what was made of them, or both refuse them."""
    described = [({"digest": digests.of(layer), "size": len(layer)}, digests.of(layer)) for layer in layers]
    try:
        model = files._read(_Blobs(layers), described, Attic()).root  # type: ignore[arg-type]
    except Error as error:
        assert said is not None, f"only files.py refuses: {error}"
        return
    if said is not None:
        assert any(text in said for text in (*KERNEL, "more than ", "a file of ", "an extended header of ")), said
        return
    assert told(model) == seen(path)


def told(root: Dir) -> list[Any]:
    """A tree in memory, as `seen` has a real one."""
    found: list[Any] = []
    leaders: dict[int, bytes] = {}

    def walk(node: Dir, prefix: bytes) -> None:
        for name, kid in node.items():
            path = prefix + name
            if isinstance(kid, Dir):
                mode, uid, gid, mtime, xattrs = kid.meta or (0o755, 0, 0, None, ())
                found.append((path, "d", mode, uid, gid, _time(mtime), b"", b"", _users(dict(xattrs))))
                walk(kid, path + b"/")
            else:
                kind, mode, uid, gid, size, mtime, what, link, xattrs = kid
                kept = _users(dict(xattrs)) if kind == "f" else {}
                what = what + b" %d" % size if kind == "f" else what
                leader = leaders.setdefault(link, path) if link else path
                found.append((path, kind, mode, uid, gid, _time(mtime), what, leader, kept))

    walk(root, b"")
    return found


def seen(top: Path) -> list[Any]:
    """A tree: path, type, mode, ids, time, content, first of its names, attributes."""
    found: list[Any] = []
    leaders: dict[int, bytes] = {}

    def walk(at: int, prefix: bytes) -> None:
        for name in sorted(map(os.fsencode, os.listdir(at))):
            now = os.lstat(name, dir_fd=at)
            kind, path = listing._KINDS[stat.S_IFMT(now.st_mode)], prefix + name
            where = b"/proc/self/fd/%d/%b" % (at, name)
            what = b""
            if kind == "f":
                what = _digest(at, name) + b" %d" % now.st_size
            elif kind == "l":
                what = os.readlink(name, dir_fd=at)
            elif kind in "cb":
                what = b"%d:%d" % (os.major(now.st_rdev), os.minor(now.st_rdev))
            leader = b"" if kind == "d" else leaders.setdefault(now.st_ino, path)
            kept = {n: os.getxattr(where, n, follow_symlinks=False) for n in os.listxattr(where, follow_symlinks=False)}
            users = _users({os.fsencode(n): v for n, v in kept.items()}) if kind in "fd" else {}
            mode = stat.S_IMODE(now.st_mode)
            found.append((path, kind, mode, now.st_uid, now.st_gid, _time(now.st_mtime_ns), what, leader, users))
            if kind == "d":
                fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                walk(fd, path + b"/")
                os.close(fd)

    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    walk(fd, b"")
    os.close(fd)
    return found


def _digest(at: int, name: bytes) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
    with open(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _time(mtime: int | None) -> int:
    """Not of what nobody described, which is new; nor what file systems cannot hold."""
    if mtime is None or not -2_000_000_000 * 10**9 <= mtime < (1 << 33) * 10**9:
        return 0
    return 0 if abs(mtime - time.time_ns()) < 3600 * 10**9 else mtime


def _users(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The attributes that any file system of Linux keeps."""
    return {name: value for name, value in xattrs.items() if name.startswith(b"user.") and not name.startswith(HOST)}


def _round_trip(path: Path) -> None:
    """A tree packed and unpacked is the same tree; and one that was just unpacked has no changes."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        snapshot.take(fd, f"{path.parent}/s")
        with snapshot.Snapshot(f"{path.parent}/s") as before:
            assert list(diff.compare(fd, before)) == []
        sink = io.BytesIO()
        writer = Writer(sink)
        try:
            diff.Packing(writer).tree(fd)
        except Error as error:
            assert "would be read as a whiteout" in str(error), error
            return
        writer.close()
    finally:
        os.close(fd)
    said = _unpack([sink.getvalue()], path.parent / "u")
    assert said is None, said
    assert seen(path.parent / "u") == seen(path)


# -- expand -----------------------------------------------------------------------------------


def expand(data: bytes) -> None:
    """Byte 0: how large the pieces are."""
    size, data = 1 + 3 * (data[0] if data else 0), data[1:]
    whole = _expand(data, len(data) or 1)
    assert _expand(data, size) == whole
    if whole[1] is None and compress.kind(data) == "gzip":
        try:
            plain: bytes | None = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            # ISA-L builds no table of what is not used, so it does not see that it could not be built.
            if "invalid distances set" in str(error) or "invalid literal/lengths set" in str(error):
                return
            raise AssertionError(f"only we take it: {error}") from error
        assert plain == whole[0]


def _expand(data: bytes, size: int) -> tuple[bytes, str | None]:
    found = b""
    try:
        for piece in compress.expand(data[at : at + size] for at in range(0, len(data), size)):
            assert 0 < len(piece) <= max(compress.PIECE, len(data))
            found += piece
            if len(found) > 4 << 20:
                return found, "enough"
    except Error as error:
        # How far it got before it was refused depends on the pieces.
        return b"", str(error)
    return found, None


TARGETS: dict[str, Callable[[bytes], None]] = {"reader": reader, "apply": apply, "expand": expand}
