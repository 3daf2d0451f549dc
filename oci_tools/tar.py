"""Reading tar streams: POSIX ustar and pax (IEEE 1003.1, pax), GNU, V7; image-spec, layer.md.

    header  512 bytes (tarheader.py)
    data    `size` bytes, filled up to whole blocks of 512
    end     two blocks of zeros, or the end of the stream; what follows is not looked at, nor is a header that only
            tells about the next, and has none

The reader is as strict as Go's, with which nearly every other unpacker reads, so that no layer is
one tree for us and another for them: a wrong checksum or number, a lone block of zeros and an
unknown type are Errors; links, directories and devices have no data whatever their size says;
a global pax header is passed over; a GNU long name beats a pax path.  (tarfile is lenient, and slow.)

Not here: what an entry does to a tree (layer/apply.py), writing (layer/diff.py).
"""

from __future__ import annotations

from oci_tools import sparse as holes
from oci_tools import tarheader
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn, Protocol

    class Limits(Protocol):
        """How much an archive may ask for (layer/limits.py, image/archive.py)."""

        entries: int  # members
        size: int  # plain bytes of all of it
        path: int  # bytes of a path or of a link's target
        header: int  # bytes of one extended header
        xattrs: int  # extended attributes of one file
        attributes: int  # bytes of those that are kept to its end

BLOCK = 512
SMALL = 1 << 10  # bytes of attributes of one file that may be kept on disk (shelf.py)
ZEROS = bytes(BLOCK)
ID_MAX = 0xFFFFFFFE  # 2**32-1 is chown's "leave it"
MAJOR_MAX, MINOR_MAX = 0xFFF, 0xFFFFF  # mknod(2) would cut off what is more, and make another device
SECONDS_MAX = 1 << 55  # of a time: an image may be absurd, time_t must hold it in nanoseconds' company

_TYPES = {
    b"0": "f", b"\0": "f", b"7": "f", b"1": "h", b"2": "l", b"3": "c", b"4": "b", b"5": "d", b"6": "p",
}  # fmt: skip
_XATTR = b"SCHILY.xattr."


class Entry:
    """One member of an archive, as its headers say.

    name     bytes as they are, not cleaned
    type     "f" file, "d" directory, "l" symbolic link, "h" hard link, "c" "b" devices, "p" fifo
    mode     the twelve permission bits
    size     bytes of the file, holes and all
    mtime    nanoseconds since 1970, may be negative
    link     bytes: where a link points
    device   (major, minor)
    xattrs   name -> value, both bytes
    sparse   (offset, length) of each piece of data of a file with holes, else None
    """

    __slots__ = ("device", "gid", "link", "mode", "mtime", "name", "size", "sparse", "type", "uid", "xattrs")

    name: bytes
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    sparse: list[tuple[int, int]] | None


class Attributes:
    """Extended attributes that are kept; of those of more than SMALL bytes the same ones once, and they are counted."""

    def __init__(self, limits: Limits, subject: object) -> None:
        self._known: dict[tuple[tuple[bytes, bytes], ...], dict[bytes, bytes]] = {}
        self.size = 0
        self._limits, self._subject = limits, subject

    def keep(self, xattrs: dict[bytes, bytes]) -> tuple[tuple[tuple[bytes, bytes], ...], dict[bytes, bytes]]:
        """As a sorted tuple, and as they are."""
        key = tuple(sorted(xattrs.items()))
        size = sum(len(name) + len(value) for name, value in key)
        if size <= SMALL:
            return key, xattrs
        if key not in self._known:
            self.size += size
            self.check(self.size)
            self._known[key] = xattrs
        return key, self._known[key]

    def check(self, size: int) -> None:
        if size > self._limits.attributes:
            why = f"more than {self._limits.attributes} bytes of extended attributes have to be kept"
            raise Error("layer is too large", self._subject, why, "--limit attributes=N")


class Reader:
    """The entries of a tar stream that comes in pieces, one after the other.

    `for entry in reader` gives them; `reader.data()` gives the current one's bytes, as views
    that are good until the next; what is not taken is skipped.  `drain` reads the rest.
    Old GNU sparse files are read with `old_sparse`: see sparse.py.
    """

    def __init__(
        self, pieces: Iterable[bytes], limits: Limits, subject: object = "layer", old_sparse: bool = False
    ) -> None:
        self._old_sparse = old_sparse
        self._pieces = iter(pieces)
        self._limits = limits
        self.subject = subject
        self._buffer = b""
        self._at = 0
        self._left = 0  # bytes of the current entry's data that were not taken
        self._padding = 0
        self.total = 0  # plain bytes that have come
        self.count = 0  # entries
        self.marked = False  # whether its end was marked, by blocks of zeros

    def __iter__(self) -> Iterator[Entry]:
        long_name = long_link = None
        pax: list[tuple[bytes, bytes]] = []
        while (fields := self._header()) is not None:
            kind = fields[7]
            if kind in _TYPES or (kind == b"S" and self._old_sparse and fields[9] == b"ustar "):
                yield self._entry(fields, pax, long_name, long_link)
                long_name = long_link = None
                pax = []
                continue
            data = self._special(fields)
            if kind == b"x":
                pax = self._records(data)
            elif kind == b"L":
                long_name = data.partition(b"\0")[0] or None
            elif kind == b"K":
                long_link = data.partition(b"\0")[0] or None

    def data(self) -> Iterator[memoryview]:
        """The current entry's data; of a sparse file the pieces that are not holes, in a row."""
        while self._left:
            if self._at == len(self._buffer):
                self._more()
            view = memoryview(self._buffer)[self._at : self._at + self._left]
            self._at += len(view)
            self._left -= len(view)
            yield view

    def drain(self) -> None:
        """Read what follows the archive's end, so that all of the stream is checked."""
        self._buffer, self._at, self._left = b"", 0, 0
        for piece in self._pieces:
            self._came(piece)

    # -- bytes -------------------------------------------------------------------------

    def _came(self, piece: bytes) -> None:
        self.total += len(piece)
        if self.total > self._limits.size:
            raise Error("layer is too large", self.subject, f"more than {self._limits.size} bytes", "--limit size=N")

    def _more(self) -> None:
        """Replace the used-up buffer by the next piece."""
        piece = next(self._pieces, None)
        if piece is None:
            self.bad("the archive ends in the middle of a file")
        self._came(piece)
        self._buffer, self._at = piece, 0

    def _have(self, n: int) -> bool:
        """Have n bytes in a row in the buffer; False at the end of the stream."""
        while len(self._buffer) - self._at < n:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._came(piece)
            self._buffer = self._buffer[self._at :] + piece
            self._at = 0
        return True

    def _skip(self, n: int) -> None:
        while n > len(self._buffer) - self._at:
            n -= len(self._buffer) - self._at
            self._more()
        self._at += n

    def take(self, n: int) -> bytes:
        if not self._have(n):
            self.bad("the archive ends in the middle of a file")
        self._at += n
        return self._buffer[self._at - n : self._at]

    # -- headers -----------------------------------------------------------------------

    def _header(self) -> tuple[bytes, ...] | None:
        """The fields of the next header; None at the archive's end."""
        if self._left or self._padding:
            self._skip(self._left)
            if self._padding and not self._have(1):  # it ends with a file's last byte
                return None
            self._skip(self._padding)
            self._left = self._padding = 0
        if not self._have(BLOCK):
            if self._at < len(self._buffer):
                self.bad("the archive ends in the middle of a header")
            return None
        start = self._at
        self._at += BLOCK
        fields = tarheader.FIELDS.unpack_from(self._buffer, start)
        if not fields[6].strip(b"\0 ") and self._buffer[start : self._at] == ZEROS:
            if self._have(BLOCK) and self._buffer[self._at : self._at + BLOCK] != ZEROS:
                self.bad("an entry follows a block of zeros")
            self.marked = True
            return None
        self._check_sum(self._buffer[start : self._at], fields[6])
        return fields

    def _check_sum(self, block: bytes, field: bytes) -> None:
        if not tarheader.sums_up(block, field, self.number(field, "checksum")):
            self.bad("wrong checksum of a header")

    def number(self, field: bytes, what: str) -> int:
        value = tarheader.number(field)
        if value is None:
            self.bad(f"not a number: {what} {field!r}")
        return value

    def _entry(
        self, fields: tuple[bytes, ...], pax: list[tuple[bytes, bytes]], name: bytes | None, link: bytes | None
    ) -> Entry:
        old = self._buffer[self._at - BLOCK : self._at] if fields[7] == b"S" else None
        self.count += 1
        if self.count > self._limits.entries:
            why = f"more than {self._limits.entries} entries"
            raise Error("layer is too large", self.subject, why, "--limit entries=N")
        entry = Entry()
        entry.name = fields[0].partition(b"\0")[0]
        entry.link = fields[8].partition(b"\0")[0]
        entry.mode = self.number(fields[1], "mode") & 0o7777
        entry.uid = self.number(fields[2], "uid")
        entry.gid = self.number(fields[3], "gid")
        entry.size = self.number(fields[4], "size")
        entry.mtime = self.number(fields[5], "mtime") * 1_000_000_000
        entry.type = _TYPES.get(fields[7], "f")
        entry.xattrs = {}
        entry.sparse = None
        if entry.type in "cb":
            entry.device = (self.number(fields[11], "major"), self.number(fields[12], "minor"))
        if fields[13][0] and (prefix := tarheader.prefix(*fields[9:11], *fields[13:15])):
            entry.name = prefix + b"/" + entry.name
        stored = self._extend(entry, pax) if pax else entry.size
        if name is not None:
            entry.name = name
        if link is not None:
            entry.link = link
        if fields[7] == b"\0" and entry.name.endswith(b"/"):
            entry.type = "d"  # V7 knew no other way to say it
        self._check(entry)
        if entry.type != "f":
            entry.size = stored = 0
        self._left, self._padding = stored, -stored % BLOCK
        if old is not None:
            holes.read_old(self, entry, old, self._limits.header)
        elif entry.sparse == []:
            self._left = holes.read_map(self, entry, self._left, self._limits.header)
        return entry

    def _check(self, entry: Entry) -> None:
        if not 0 <= entry.uid <= ID_MAX or not 0 <= entry.gid <= ID_MAX:
            self.bad(f"no such owner: {entry.uid}:{entry.gid}", entry.name)
        if entry.type in "cb" and not (0 <= entry.device[0] <= MAJOR_MAX and 0 <= entry.device[1] <= MINOR_MAX):
            self.bad(f"no such device: {entry.device[0]}:{entry.device[1]}", entry.name)
        if entry.size < 0 or (entry.type == "f" and entry.size > self._limits.size):
            self.bad(f"a file of {entry.size} bytes", entry.name, "--limit size=N" if entry.size > 0 else None)
        if abs(entry.mtime) > SECONDS_MAX * 1_000_000_000:
            self.bad("a time that no clock shows", entry.name)
        if len(entry.name) > self._limits.path or len(entry.link) > self._limits.path:
            self.bad(f"a path longer than {self._limits.path} bytes", entry.name[:80], "--limit path=N")
        if b"\0" in entry.name or b"\0" in entry.link:
            self.bad("a name with a zero byte", entry.name)

    def _special(self, fields: tuple[bytes, ...]) -> bytes:
        """The data of a header that only tells about the next; of a global one, nothing."""
        kind, size = fields[7], self.number(fields[4], "size")
        if kind not in (b"x", b"g", b"L", b"K"):
            name = fields[0].partition(b"\0")[0]
            what = "old GNU sparse files are not supported" if kind == b"S" else f"unknown type {kind!r}"
            self.bad(what, name)
        if not 0 <= size <= self._limits.header:
            self.bad(f"an extended header of {size} bytes", hint="--limit header=N")
        data = self.take(size)
        self._skip(-size % BLOCK)
        return data

    # -- pax -----------------------------------------------------------------------------

    def _records(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The records of an extended header: "LENGTH KEY=VALUE\\n", LENGTH counting all of it."""
        found = []
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 20)
            length = data[at : max(space, at)]
            end = at + int(length) if length.isdigit() else -1
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not 0 <= space < end <= len(data) or data[end - 1] != 10 or not equals or not key or b"\0" in key:
                self.bad("an extended header that is not well formed")
            found.append((key, value))
            at = end
        return found

    def _extend(self, entry: Entry, pax: list[tuple[bytes, bytes]]) -> int:
        """Let pax records overrule the header; the number of bytes that are stored is returned.

        An empty value takes the record back (pax, "Extended Header").
        """
        sparse: dict[bytes, bytes] = {}
        pairs: list[int] = []
        for key, value in pax:
            if key.startswith(_XATTR):
                entry.xattrs[key[len(_XATTR) :]] = value
            elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                pairs.append(self.decimal(value))
            elif key.startswith(b"GNU.sparse."):
                sparse[key[11:]] = value
            elif not value:
                continue
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"mtime":
                entry.mtime = self._time(value)
            elif key in (b"size", b"uid", b"gid"):
                setattr(entry, key.decode(), self.decimal(value))
        stored = entry.size
        if (sparse or pairs) and entry.type == "f":
            holes.from_pax(self, entry, sparse, pairs)
        if len(entry.xattrs) > self._limits.xattrs:
            self.bad(f"more than {self._limits.xattrs} extended attributes", entry.name, "--limit xattrs=N")
        return stored

    def decimal(self, text: bytes) -> int:
        if not text.removeprefix(b"+").isdigit() or len(text) > 20:
            self.bad(f"not a number: {text[:24]!r}")
        return int(text)

    def _time(self, text: bytes) -> int:
        """Seconds with a fraction, which may be negative, as nanoseconds; finer is cut off."""
        sign, text = (-1, text[1:]) if text[:1] == b"-" else (1, text)
        seconds, _, fraction = text.partition(b".")
        if fraction and not fraction.isdigit():
            self.bad(f"not a time: {text[:40]!r}")
        return sign * (self.decimal(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0")))

    def bad(self, why: str, name: bytes | None = None, hint: str | None = None) -> NoReturn:
        if name is not None:
            raise Error("cannot unpack", name, why, hint)
        raise Error("cannot read tar", self.subject, why, hint)
