"""What a detached container wrote, kept as lines that say when and where.

    log/log          the newest; log/log.1, log/log.2 ... older ones, log.1.gz where they are compressed
    log/.serial      how often a new one was begun, times two; odd while names change: who follows knows files by it
    2026-01-02T03:04:05.123456789Z stdout F a whole line
    2026-01-02T03:04:05.123456789Z stderr P a piece of a line, whose end comes later or never

The form is Kubernetes' (CRI logging), so that others' readers know it; every byte can be told again, and
what is written is in the file at once, in the order in which it came.  A full file is renamed and a
new one begun; the oldest goes, so that no container fills a disk.  A disk that is full loses lines, and
stops nobody.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs, tail
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self

    Form = Callable[[bytes, int, bytes], bytes]
    Tell = Callable[[int, int, int, int, int], None]

SIZE = 16 << 20  # bytes of one file
FILES = 4
STAMP = 30  # bytes of a time as it stands in a line
_CHUNK = 1 << 18


def stamp(nanoseconds: int) -> bytes:
    """A time as it stands in a line; two compare as their times do."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def kubernetes(stream: bytes, now: int, data: bytes) -> bytes:
    """What was written at a time, as lines of the log."""
    head = b"%b %b " % (stamp(now), stream)
    body, newline, rest = data.rpartition(b"\n")
    text = head + b"F " + body.replace(b"\n", b"\n" + head + b"F ") + b"\n" if newline else b""
    return text + head + b"P " + rest + b"\n" if rest else text


class Writer:
    """The log of one container, written by the one process that looks after it."""

    def __init__(
        self, directory: str, size: int = SIZE, files: int = FILES, form: Form | None = None, compress: bool = False
    ) -> None:
        self.path = f"{directory}/log"
        self.also: Any = None  # who else is told
        self._compress = compress
        self._compressing = 0  # pid
        self._form = form or kubernetes
        self._limit = size
        self._files = files
        fs.make_private(directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._serial = os.open(f"{directory}/.serial", flags, 0o600)
        if self._count() & 1:  # whoever changed names was killed
            self._number(self._count() + 1)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        os.close(self._serial)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        seen = os.fstat(self._fd)
        self._size, self._inode = seen.st_size, seen.st_ino
        last = os.pread(self._fd, _CHUNK, max(0, self._size - _CHUNK))
        if last and not last.endswith(b"\n"):  # whoever wrote it was killed in a line
            self._size -= len(last) - last.rfind(b"\n") - 1
            self._cut()

    def write(self, stream: bytes, data: bytes, tell: Tell | None = None) -> None:
        """Bytes that have just come from b"stdout" or b"stderr".

        tell  hears of each piece before it is written: its offset and length in `data`, the time, and the inode
              and size of the file
        """
        now, done = time.time_ns(), 0
        if self.also:
            self.also.write(stream, data)
        try:
            while done < len(data):
                piece = data[done:] if done else data
                text = self._form(stream, now, piece)
                if self._size + len(text) > self._limit:
                    piece = self._fitting(stream, now, piece)
                    if not piece:
                        self._rotate()
                        continue
                    text = self._form(stream, now, piece)
                if tell:
                    tell(done, len(piece), now, self._inode, self._size)
                fs.write_all(self._fd, text)
                self._size += len(text)
                done += len(piece)
        except OSError:
            self._cut()

    def end(self) -> None:
        """Nothing more comes from who has written."""
        if self.also:
            self.also.end()

    def repeat(self, stream: bytes, piece: bytes, now: int, inode: int, size: int) -> None:
        """Write what is missing of a piece that `tell` heard of from another writer."""
        if inode != self._inode:
            return  # it was written: only then the next file is begun
        missing = self._form(stream, now, piece)[max(0, self._size - size) :]
        try:
            fs.write_all(self._fd, missing)
            self._size += len(missing)
        except OSError:
            self._cut()

    def _fitting(self, stream: bytes, now: int, data: bytes) -> bytes:
        """The lines for which the file has room, at least one if it is empty."""
        room, at = self._limit - self._size, 0
        while at < len(data):
            after = data.find(b"\n", at) + 1 or len(data)
            room -= len(self._form(stream, now, data[at:after]))
            if room < 0 and (at or self._size):
                break
            at = after
        return data[:at]

    def _cut(self) -> None:
        """There is no room: leave no half line."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            pass

    def _count(self) -> int:
        return int.from_bytes(os.pread(self._serial, 8, 0), "little")

    def _number(self, count: int) -> None:
        os.pwrite(self._serial, count.to_bytes(8, "little"), 0)

    def _rotate(self) -> None:
        if self._compressing:
            os.waitpid(self._compressing, 0)
            self._compressing = 0
        count = self._count()
        self._number(count + 1)
        if self._files > 1:
            for end in ("", ".gz"):
                _forget(_name(self.path, self._files - 1) + end)
        for number in range(self._files - 1, 0, -1):
            for end in ("", ".gz"):
                try:
                    os.rename(_name(self.path, number - 1) + end, _name(self.path, number) + end)
                except FileNotFoundError:
                    pass
        if self._files == 1:
            os.unlink(self.path)
        old = self._fd
        self._open()
        os.close(old)
        self._number(count + 2)
        if self._compress and self._files > 1:
            self._compressing = os.fork()
            if not self._compressing:
                try:
                    _compress(f"{self.path}.1")
                finally:
                    os._exit(0)


def _compress(path: str) -> None:
    """Put a file's compressed twin in its place."""
    import zlib

    packer = zlib.compressobj(6, wbits=31)
    beside = f"{os.path.dirname(path)}/.gz"
    with open(path, "rb") as source, open(beside, "wb") as made:
        while data := source.read(_CHUNK):
            made.write(packer.compress(data))
        made.write(packer.flush())
    os.rename(beside, f"{path}.gz")
    os.unlink(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _name(path: str, number: int) -> str:
    return f"{path}.{number}" if number else path


# -- reading ----------------------------------------------------------------------------------


class Line:
    """One line or piece of one: `stamp`, `stream`, `text` with its newline if it has one."""

    __slots__ = ("stamp", "stream", "text")

    def __init__(self, line: bytes) -> None:
        if line[:1] == b"{":  # docker's json-file
            known = document.loads(line, "log")
            self.stamp, self.stream = known["time"].encode(), known["stream"].encode()
            self.text = known["log"].encode()
            return
        self.stamp = line[:STAMP]
        self.stream = line[STAMP + 1 : STAMP + 7]
        self.text = line[STAMP + 10 : -1] + (b"\n" if line[STAMP + 8 : STAMP + 9] == b"F" else b"")


class Reader:
    """The files of a log in their order, across rotation; `lines` gives what there is now and may be asked again."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/log"
        self._fd = -1
        self._rest = b""  # the beginning of a line that is being written
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def lines(self) -> Iterator[Line]:
        """What was not read yet."""
        while self._fd >= 0 or self._next():
            data = os.read(self._fd, _CHUNK)
            if not data and self._is_old():
                data = os.read(self._fd, _CHUNK)  # written between our read and its being renamed
                if not data:
                    self._next()
                    continue
            if not data:
                return
            found = (self._rest + data).split(b"\n")
            self._rest = found.pop()
            for each in found:
                yield Line(each + b"\n")

    def tail(self, count: int) -> list[Line]:
        """The last `count` lines of what there is now; then `lines` goes on."""
        found: list[Line] = tail.last(self, count, lambda line: line.stream, lambda line: line.text)
        return found

    def rewind(self, size: int) -> bool:
        """Go to the first line in the last `size` bytes of what there is now; True if that is all."""
        newest, files = self._files()
        self.__exit__()
        self._fd, self._rest, self._serial = -1, b"", 0
        for age in sorted(files):
            fd = files.pop(age)
            if os.pread(fd, 2, 0) == b"\x1f\x8b":
                fd = _expanded(fd)
            there = os.fstat(fd).st_size
            if there > size or not files:
                self._fd, self._serial = fd, newest - age
                break
            os.close(fd)
            size -= there
        for fd in files.values():
            os.close(fd)
        if self._fd < 0 or there <= size:
            return True
        os.lseek(self._fd, tail.offset(self._fd, size), os.SEEK_SET)
        return False

    def _is_old(self) -> bool:
        """Whether a newer file has taken the name of ours."""
        now = _serial(os.path.dirname(self.path))
        return now != self._serial * 2 and not now & 1

    def _next(self) -> bool:
        """Go on with the file after ours, or the oldest; False if there is none."""
        newest, files = self._files()
        wanted = [age for age in sorted(files, reverse=True) if self._fd < 0 or newest - age > self._serial]
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._rest = -1, b""
        if wanted:
            self._serial = newest - wanted[0]
            self._fd = files.pop(wanted[0])
            if os.pread(self._fd, 2, 0) == b"\x1f\x8b":
                self._fd = _expanded(self._fd)
        for fd in files.values():
            os.close(fd)
        return self._fd >= 0

    def _files(self) -> tuple[int, dict[int, int]]:
        """The serial number of the newest file, and descriptors of all by their age, as they were at one moment."""
        directory = os.path.dirname(self.path)
        for _ in range(_LOOKS):
            before, files = _serial(directory), _opened(directory)
            if before == _serial(directory) and not before & 1:
                break
            for fd in files.values():
                os.close(fd)
            time.sleep(0.001)  # names change just now, which takes a moment
        else:
            before, files = _serial(directory), _opened(directory)  # whoever changed them was killed
        return before // 2, files


_LOOKS = 100


def _serial(directory: str) -> int:
    """What is in .serial."""
    try:
        with open(f"{directory}/.serial", "rb", buffering=0) as file:
            return int.from_bytes(file.read(8), "little")
    except FileNotFoundError:
        return 0


def _opened(directory: str) -> dict[int, int]:
    """Descriptors of the files of a log by their age."""
    found: dict[int, int] = {}
    for name in sorted(os.listdir(directory)):
        if name[:3] == "log":
            age = int(name[4:].removesuffix(".gz") or 0)
            try:
                fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if age in found:  # it is just being compressed
                os.close(found[age])
            found[age] = fd
    return found


def _expanded(fd: int) -> int:
    """What a compressed file holds; closes it."""
    import zlib

    made = os.memfd_create("log", os.MFD_CLOEXEC)
    unpacker = zlib.decompressobj(31)
    while data := os.read(fd, _CHUNK):
        fs.write_all(made, unpacker.decompress(data))
    os.close(fd)
    os.lseek(made, 0, os.SEEK_SET)
    return made


def since(text: str) -> bytes:
    """A time that people type, as a stamp: RFC 3339, seconds since 1970, or how long ago (`90s`, `1h30m`)."""
    number, unit, ago = "", {"s": 1, "m": 60, "h": 3600, "d": 86400}, 0.0
    try:
        if text[:1].isdigit() and text[-1:] in unit:
            for char in text:
                if char in unit:
                    ago, number = ago + float(number) * unit[char], ""
                else:
                    number += char
            return stamp(time.time_ns() - int(ago * 1_000_000_000))
        if text.replace(".", "", 1).isdigit():
            return stamp(int(float(text) * 1_000_000_000))
        from datetime import datetime

        whole, point, rest = text.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]  # datetime knows no nanoseconds
        when = datetime.fromisoformat(whole + rest[len(digits) :] if digits else text)
        return stamp(int(when.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0")))
    except (ValueError, OverflowError):
        hint = "2026-01-02T03:04:05Z, seconds since 1970, or 10m for ten minutes ago"
        raise Usage("invalid time", text, hint=hint) from None


def need(directory: str, container: str) -> str:
    """The directory of a container's log, if it has one."""
    if not os.path.isdir(directory):
        raise Error("no log of container", container, "only what runs detached has one")
    return directory
