"""What a detached container wrote, kept as lines that say when and where.

    log/log          the newest; log/log.1, log/log.2 ... older ones
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

from oci_tools import fs
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

SIZE = 16 << 20  # bytes of one file
FILES = 4
STAMP = 30  # bytes of a time as it stands in a line
_CHUNK = 1 << 18


def stamp(nanoseconds: int) -> bytes:
    """A time as it stands in a line; two compare as their times do."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def options(words: list[str]) -> dict[str, int]:
    """--log-opt max-size=SIZE and max-file=N, as policy.json has them."""
    from oci_tools.container import units

    found = {"size": SIZE, "files": FILES}
    for word in words:
        name, _, value = word.partition("=")
        if name == "max-size":
            found["size"] = units.size(value, "--log-opt max-size")
        elif name == "max-file" and value.isascii() and value.isdigit() and len(value) < 4:
            found["files"] = int(value)
        else:
            raise Usage("invalid value for --log-opt", word, hint="max-size=SIZE or max-file=N")
    if not found["size"] or not found["files"]:
        raise Usage("invalid value for --log-opt", "0", hint="at least one byte in one file")
    return found


class Writer:
    """The log of one container, written by the one process that looks after it."""

    def __init__(self, directory: str, size: int = SIZE, files: int = FILES) -> None:
        self.path = f"{directory}/log"
        self._limit = size
        self._files = files
        fs.make_private(directory)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        last = os.pread(self._fd, _CHUNK, max(0, self._size - _CHUNK))
        if last and not last.endswith(b"\n"):  # whoever wrote it was killed in a line
            self._size -= len(last) - last.rfind(b"\n") - 1
            self._cut()

    def write(self, stream: bytes, data: bytes) -> None:
        """Bytes that have just come from b"stdout" or b"stderr"."""
        head = b"%b %b " % (stamp(time.time_ns()), stream)
        body, newline, rest = data.rpartition(b"\n")
        text = b""
        if newline:
            text = head + b"F " + body.replace(b"\n", b"\n" + head + b"F ") + b"\n"
        if rest:
            text += head + b"P " + rest + b"\n"
        try:
            while text and self._size + len(text) > self._limit:
                text = self._fill(text)
            fs.write_all(self._fd, text)
            self._size += len(text)
        except OSError:
            self._cut()

    def _fill(self, text: bytes) -> bytes:
        """Write the lines for which the file has room, at least one if it is empty, and begin another; the rest."""
        cut = text.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1
        if not cut and not self._size:
            cut = text.find(b"\n") + 1
        fs.write_all(self._fd, text[:cut])
        self._size += cut
        if cut < len(text):
            self._rotate()
        return text[cut:]

    def _cut(self) -> None:
        """There is no room: leave no half line."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            pass

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            try:
                os.rename(_name(self.path, number - 1), _name(self.path, number))
            except FileNotFoundError:
                pass
        if self._files == 1:
            os.unlink(self.path)
        old = self._fd
        self._open()
        os.close(old)


def _name(path: str, number: int) -> str:
    return f"{path}.{number}" if number else path


# -- reading ----------------------------------------------------------------------------------


class Line:
    """One line or piece of one: `stamp`, `stream`, `text` with its newline if it has one."""

    __slots__ = ("stamp", "stream", "text")

    def __init__(self, line: bytes) -> None:
        self.stamp = line[:STAMP]
        self.stream = line[STAMP + 1 : STAMP + 7]
        self.text = line[STAMP + 10 : -1] + (b"\n" if line[STAMP + 8 : STAMP + 9] == b"F" else b"")


class Reader:
    """The files of a log in their order, across rotation; `lines` gives what there is now and may be asked again."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/log"
        self._fd = -1
        self._rest = b""  # the beginning of a line that is being written

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

    def tail(self, count: int) -> Iterator[Line]:
        """The last `count` lines of what there is now; then `lines` goes on."""
        kept: list[list[Line]] = []  # the pieces of each line
        begun: dict[bytes, list[Line]] = {}
        for line in self.lines():
            if line.stream in begun:
                begun[line.stream].append(line)
            else:
                kept.append([line])
                begun[line.stream] = kept[-1]
            if line.text.endswith(b"\n"):
                del begun[line.stream]
            if len(kept) > 2 * count + 64:
                del kept[: -count or None]
        for pieces in kept[-count:] if count else ():
            yield from pieces

    def _is_old(self) -> bool:
        """Whether a newer file has taken the name of ours."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False  # it is just being renamed, or removed with all the rest

    def _next(self) -> bool:
        """Go on with the file after ours, or the oldest; False if there is none."""
        files = []
        names = sorted((len(name), name) for name in os.listdir(os.path.dirname(self.path)) if name[:3] == "log")
        for _, name in reversed(names):
            try:
                fd = os.open(f"{os.path.dirname(self.path)}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            files.append(fd)
        at = 0
        if self._fd >= 0:
            same = [n for n, fd in enumerate(files) if os.path.samestat(os.fstat(fd), os.fstat(self._fd))]
            at = same[0] + 1 if same else 0
            os.close(self._fd)
        self._fd = files[at] if at < len(files) else -1
        for fd in files:
            if fd != self._fd:
                os.close(fd)
        self._rest = b""
        return self._fd >= 0


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
