"""Writing tar streams that are the same bytes for the same tree: POSIX ustar, pax where it must be.

Owners are numbers alone; a pax header is there only for what a ustar header cannot say: long or
non-ASCII names, parts of seconds and times before 1970, large numbers, extended attributes.
What the fields are is drawn in `tar.py`.
"""

from __future__ import annotations

import os

from oci_tools import compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

BLOCK = 512
BUFFER = 1 << 18
_KINDS = {"f": b"0", "h": b"1", "l": b"2", "c": b"3", "b": b"4", "d": b"5", "p": b"6"}
_SECOND = 1_000_000_000
_ID_MAX = 0o7777777
_LONG_MAX = 0o77777777777


class Writer:
    """Writes entries into a stream, in large pieces; `close` writes the archive's end.

    A stream that can `move(fd, count)` takes what is in files, of at least `DIRECT` bytes, without a copy of ours.
    """

    DIRECT = BUFFER

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._move = getattr(stream, "move", None)
        self._parts: list[bytes] = []
        self._size = 0
        self._padding = 0

    def entry(
        self,
        kind: str,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        size: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: dict[bytes, bytes] | None = None,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """One member, as `tar.Entry` has it: times are nanoseconds; a file's `size` bytes go to `data` next.

        `more` are further records of its pax header.
        """
        if kind == "d":
            name += b"/"
        records = [(b"SCHILY.xattr." + key, value) for key, value in sorted((xattrs or {}).items())] + [*more]
        fields = _names(name, link, records)
        seconds, rest = divmod(mtime, _SECOND)
        if rest or not 0 <= seconds <= _LONG_MAX:
            records.append((b"mtime", _time(mtime)))
            seconds = min(max(seconds, 0), _LONG_MAX)
        numbers = []
        for key, value, most in ((b"uid", uid, _ID_MAX), (b"gid", gid, _ID_MAX), (b"size", size, _LONG_MAX)):
            if value > most:
                records.append((key, b"%d" % value))
                value = 0
            numbers.append(value)
        if records:
            data = b"".join(_record(key, value) for key, value in sorted(records))
            self._header(b"x", (b"PaxHeaders/x", b"", b""), 0o644, (0, 0, len(data)), 0, (0, 0))
            self.data(data)
            self._put(bytes(-len(data) % BLOCK))
        self._header(_KINDS[kind], fields, mode, (numbers[0], numbers[1], numbers[2]), seconds, device)
        self._padding = -size % BLOCK

    def sparse(
        self,
        name: bytes,
        whose: tuple[int, int, int],
        mtime: int,
        size: int,
        pieces: list[tuple[int, int]],
        xattrs: dict[bytes, bytes],
    ) -> None:
        """A file with holes in GNU tar's pax form 1.0: of its `size` bytes only the pieces (start, end) come."""
        told = [(start, end - start) for start, end in pieces] + [(size, 0)]
        text = b"%d\n" % len(told) + b"".join(b"%d\n%d\n" % pair for pair in told)
        text += bytes(-len(text) % BLOCK)
        more = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
                (b"GNU.sparse.realsize", b"%d" % size)]  # fmt: skip
        stored = len(text) + sum(length for _, length in told)
        alias = b"GNUSparseFile.0/" + name.rpartition(b"/")[2][:80]
        self.entry("f", alias, *whose, mtime, size=stored, xattrs=xattrs, more=more)
        self.data(text)

    def data(self, data: bytes) -> None:
        """A piece of the current file."""
        self._put(data)

    def file(self, fd: int, count: int) -> int:
        """The same out of an open file, at most so many bytes: how many there were; the others have to be read."""
        if self._move is None or count < self.DIRECT:
            return 0
        self._flush()
        left = count
        while left and (moved := self._move(fd, left)):
            left -= moved
        return count - left

    def end(self) -> None:
        """All of the current file's data was given."""
        if self._padding:
            self._put(bytes(self._padding))
            self._padding = 0

    def close(self) -> None:
        self._put(bytes(2 * BLOCK))
        self._flush()

    def _header(
        self,
        kind: bytes,
        names: tuple[bytes, bytes, bytes],
        mode: int,
        numbers: tuple[int, int, int],
        seconds: int,
        device: tuple[int, int],
    ) -> None:
        name, prefix, link = names
        block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\00000%b%b%b%b%b" % (
            name.ljust(100, b"\0"), mode, numbers[0], numbers[1], numbers[2], seconds, kind,
            link.ljust(100, b"\0"), bytes(64), _device(device[0]), _device(device[1]),
            prefix.ljust(155, b"\0"), bytes(12),
        )  # fmt: skip
        self._put(block[:148] + b"%06o\0 " % sum(block) + block[156:])

    def _put(self, data: bytes) -> None:
        if len(data) >= BUFFER:  # not copied once more
            self._flush()
            self._stream.write(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size >= BUFFER:
            self._flush()

    def _flush(self) -> None:
        self._stream.write(b"".join(self._parts))
        self._parts, self._size = [], 0


class Archive(Writer):
    """A layer's blob: an archive, compressed into a stream, and its diff id once it is closed.

    Leaving the `with` block frees what compressing holds.  `tell` hears how many plain bytes there are by now, and
    whether that is all.
    """

    DIRECT = 32 << 10

    def __init__(
        self,
        stream: Any,
        compression: str,
        level: int | None = None,
        tell: Callable[[int, bool], None] | None = None,
    ) -> None:
        import hashlib

        self._tell = tell
        self._plain = 0
        self._packed = compress.writer(stream, compression, level)
        self._hash = hashlib.sha256()
        super().__init__(self)

    def write(self, data: bytes) -> None:
        """A piece of the plain archive, on its way."""
        self._hash.update(data)
        self._packed.write(data)
        self._came(len(data))

    def move(self, fd: int, count: int) -> int:
        """The same out of a file, in one go at most so many bytes: how many there were."""
        room = self._packed.room()[:count]
        found = os.readv(fd, [room])
        self._hash.update(room[:found])
        self._packed.filled(found)
        self._came(found)
        return found

    def _came(self, count: int, is_all: bool = False) -> None:
        self._plain += count
        if self._tell:
            self._tell(self._plain, is_all)

    def close(self) -> None:
        super().close()
        self._packed.close()
        self._came(0, is_all=True)

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._packed.__exit__()
        self._stream = self._move = None  # or what it wrote into, itself, would keep the memory of each of many layers


def _names(name: bytes, link: bytes, records: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes]:
    """(name, prefix, link) for a header; what does not fit becomes a record."""
    prefix = b""
    if not name.isascii() or (len(name) > 100 and not (cut := _cut(name))):
        records.append((b"path", name))
        name = name[:100]
    elif len(name) > 100:
        prefix, name = name[:cut], name[cut + 1 :]
    if len(link) > 100 or not link.isascii():
        records.append((b"linkpath", link))
        link = link[:100]
    if any(key in (b"path", b"linkpath") and not _is_utf8(value) for key, value in records):
        records.append((b"hdrcharset", b"BINARY"))
    return name, prefix, link


def _cut(name: bytes) -> int:
    """Where a long name's prefix ends, 0 if it cannot be parted."""
    cut = name.rfind(b"/", 1, min(156, len(name) - 1))
    return cut if cut > 0 and len(name) - cut - 1 <= 100 else 0


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
        return True
    except UnicodeDecodeError:
        return False


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record, whose length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(rest) + len(b"%d" % length) != length:
        length = len(rest) + len(b"%d" % length)
    return b"%d%b" % (length, rest)


def _time(mtime: int) -> bytes:
    """Nanoseconds as decimal seconds; before 1970 with a sign before all of it."""
    sign, (seconds, rest) = (b"-", divmod(-mtime, _SECOND)) if mtime < 0 else (b"", divmod(mtime, _SECOND))
    fraction = b".%09d" % rest if rest else b""
    return b"%b%d%b" % (sign, seconds, fraction.rstrip(b"0"))


def _device(number: int) -> bytes:
    """A device number: octal, or base-256 where it is larger than seven digits."""
    return b"%07o\0" % number if number <= _ID_MAX else (number | 1 << 63).to_bytes(8, "big")
