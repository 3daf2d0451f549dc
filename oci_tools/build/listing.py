"""The files that a step takes, each with its digest: for the step's key, and to tell what changed.

    16 hexadecimal digits of the digest, the path, a zero byte        for each, in the order of the walk

There may be very many, so they are in a file, which the next build of the step has beside its record.
"""

from __future__ import annotations

import os

from oci_tools import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator

DIGITS = 16
_PIECE = 1 << 17  # bytes that are kept until they are written


class Listing:
    """What a step takes; `path` is where it is written if it is much, or kept."""

    def __init__(self, path: str) -> None:
        import hashlib

        self.path = path
        self._whole = hashlib.sha256()
        self._held = bytearray()
        self._fd = -1
        self._any = False

    def __bool__(self) -> bool:
        return self._any

    def add(self, path: bytes, digest: str) -> None:
        self._any = True
        self._held += b"%b%b\0" % (digest[:DIGITS].encode(), path)
        if len(self._held) >= _PIECE:
            self._write()

    def _write(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._whole.update(self._held)
        fs.write_all(self._fd, self._held)
        self._held.clear()

    def digest(self) -> str:
        """Of all of it."""
        whole = self._whole.copy()
        whole.update(self._held)
        return whole.hexdigest()

    def close(self) -> None:
        if self._fd >= 0:
            if self._held:
                self._write()
            os.close(self._fd)
            self._fd = -1

    def keep(self, path: str) -> None:
        """Be the file at a path; nothing is there if there are no files."""
        if not self._any:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            return
        if self._held:
            self._write()
        self.close()
        os.rename(self.path, path)
        self.path = path

    def rows(self) -> Iterator[bytes]:
        """The lines, without what ends them."""
        if os.path.exists(self.path):
            yield from rows(self.path)
        yield from bytes(self._held).split(b"\0")[:-1]


def rows(path: str) -> Iterator[bytes]:
    """The lines of a listing that was kept; none if there is none."""
    rest = b""
    try:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(_PIECE):
                *lines, rest = (rest + data).split(b"\0")
                yield from lines
    except FileNotFoundError:
        return


class _Known:
    """Which lines, and which paths, are in a listing: 16 bytes of each."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        from array import array

        whole, paths = array("q"), array("q")
        for line in lines:
            whole.append(hash(line))
            paths.append(hash(line[DIGITS:]))
        self._whole, self._paths = array("q", sorted(whole)), array("q", sorted(paths))

    def has(self, line: bytes) -> bool:
        return _has(self._whole, line)

    def has_path(self, line: bytes) -> bool:
        return _has(self._paths, line[DIGITS:])


def _has(known: array[int], text: bytes) -> bool:
    from bisect import bisect_left

    at = bisect_left(known, hash(text))
    return at < len(known) and known[at] == hash(text)


def differences(before: str, now: Listing, most: int) -> tuple[list[str], int]:
    """What is other in a listing than in the one at a path, in words, no more than `most`; and how much there is."""
    was, now_known = _Known(rows(before)), _Known(now.rows())
    found: dict[str, list[str]] = {"changed": [], "is new": [], "is gone": []}
    count = 0

    def tell(what: str, line: bytes) -> None:
        names = found[what]
        names.append(os.fsdecode(line[DIGITS:]))
        if len(names) > 4 * most:
            names.sort()
            del names[most:]

    for line in now.rows():
        if not was.has(line):
            count += 1
            tell("changed" if was.has_path(line) else "is new", line)
    for line in rows(before):
        if not now_known.has_path(line):
            count += 1
            tell("is gone", line)
    return [f"'{name}' {what}" for what, names in found.items() for name in sorted(names)[:most]][:most], count
