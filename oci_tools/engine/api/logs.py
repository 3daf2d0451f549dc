"""The log of a container as the API gives it: lines of container/log.py or logdriver.py -> frames or raw bytes.

    2026-01-02T03:04:05.123456789Z stdout F a whole line          (Kubernetes' form)
    2026-01-02T03:04:05.123456789Z stderr P a piece of one
    {"log": "a line\\n", "stream": "stdout", "time": "2026-01-02T03:04:05.123456789Z"}      (docker's json-file)

Full files have numbers, and may be compressed: log.1, log.2.gz.
"""

from __future__ import annotations

import os
import select
import time

from oci_tools import document, fs, tail
from oci_tools.engine.api import answers, times
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.world import until
from oci_tools.errors import Error
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container

STAMP = 30  # bytes of a time in a line
_READ = 1 << 18
_LOOKS = 100
_FRAME = 1 << 15  # bytes that are joined into one frame
_NUMBERS = {b"stdout": 1, b"stderr": 2}

Line = tuple[bytes, int, bytes]  # stamp, 1 or 2, text with its newline if it has one
Found = tuple[int, int, bool]  # a descriptor or -1, the number of the file, whether there is nothing before it


def frame(number: int, data: bytes) -> bytes:
    """stdcopy: the stream, three zeros, the length, the bytes."""
    return b"%c\0\0\0" % number + len(data).to_bytes(4, "big") + data


class Log:
    """The files of a log, read in order and across rotation; `lines` gives what is new since it was last asked.

    log/.serial counts how often a new file was begun, times two, and is odd while names change: a file is known by its
    number, whatever it is called by now.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._number = -1
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def to_end(self) -> None:
        """Go past all that was written so far."""
        self.tail(0)

    def tail(self, count: int) -> list[Line]:
        """The last lines of what there is now; then `lines` goes on."""
        found: list[Line] = tail.last(self, count, lambda line: line[1], lambda line: line[2])
        return found

    def rewind(self, size: int) -> bool:
        """Go to the first line in the last `size` bytes of what there is now; True if that is all."""
        self.close()
        self._rest = b""
        self._fd, self._number, whole = self._steady(lambda newest: self._last(newest, size))
        return whole

    def lines(self) -> Iterator[Line]:
        while self._fd >= 0 or self._next():
            data = os.read(self._fd, _READ)
            if not data and self._serial() // 2 > self._number:
                data = os.read(self._fd, _READ)  # written between our read and the new one's beginning
                if not data:
                    if not self._next():
                        return
                    continue
            if not data:
                return
            *found, self._rest = (self._rest + data).split(b"\n")
            for line in found:
                yield _read(line)

    def _serial(self) -> int:
        try:
            with open(f"{self._directory}/.serial", "rb", buffering=0) as file:
                return int.from_bytes(file.read(8), "little")
        except OSError:
            return 0

    def _next(self) -> bool:
        """Go on with the file after ours, or the oldest; False if there is none."""
        fd, number, _ = self._steady(self._after)
        if fd < 0:
            return False
        self.close()
        self._fd, self._number, self._rest = fd, number, b""
        return True

    def _steady(self, look: Callable[[int], Found]) -> Found:
        """What is found while no names change, by the number of the newest file."""
        for _ in range(_LOOKS):
            serial = self._serial()
            found = look(serial // 2)
            if self._serial() == serial and not serial & 1:
                return found
            if found[0] >= 0:
                os.close(found[0])
            select.select([], [], [], 0.001)  # names change just now, which takes a moment
        return look(self._serial() // 2)  # whoever changed them was killed

    def _names(self) -> dict[int, str]:
        """The files by their age."""
        try:
            found = {_age(name): f"{self._directory}/{name}" for name in os.listdir(self._directory)}
        except OSError:
            return {}
        found.pop(-1, None)
        return found

    def _after(self, newest: int) -> Found:
        """The oldest file that comes after ours."""
        names = self._names()
        ages = [age for age in names if self._number < 0 or newest - age > self._number]
        try:
            return (_opened(names[max(ages)]), newest - max(ages), False) if ages else (-1, -1, True)
        except (OSError, EOFError):
            return -1, -1, True

    def _last(self, newest: int, size: int) -> Found:
        """The file in which the last so many bytes begin, at their first line."""
        fd, number = -1, -1
        for age, name in sorted(self._names().items()):
            try:
                older = _opened(name)
            except (OSError, EOFError):
                break  # the oldest has just gone
            if fd >= 0:
                os.close(fd)
            fd, number = older, newest - age
            there = os.fstat(fd).st_size
            if there > size:
                os.lseek(fd, tail.offset(fd, size), os.SEEK_SET)
                return fd, number, False
            size -= there
        return fd, number, True


def _age(name: str) -> int:
    """How many files are newer than one of this name; -1 for what is no log."""
    head, _, rest = name.removesuffix(".gz").partition(".")
    return int(rest or 0) if head == "log" and (rest.isdigit() or not rest) else -1


def _opened(path: str) -> int:
    """A descriptor that reads a file of a log; of a compressed one, what was in it."""
    if not path.endswith(".gz"):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    import gzip

    fd = os.memfd_create("log", os.MFD_CLOEXEC)
    with gzip.open(path) as file:
        while data := file.read(_READ):
            fs.write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _read(line: bytes) -> Line:
    """A line of either form."""
    if line[:1] != b"{":
        whole = line[STAMP + 8 : STAMP + 9] == b"F"
        number = _NUMBERS.get(line[STAMP + 1 : STAMP + 7], 1)
        return line[:STAMP], number, line[STAMP + 10 :] + (b"\n" if whole else b"")
    try:
        said = document.loads(line)
        moment = times.read(said["time"]) or 0
        return stamp(moment), _NUMBERS.get(said["stream"].encode(), 1), said["log"].encode("utf-8", "surrogateescape")
    except (Error, KeyError, TypeError, AttributeError):
        return line[:STAMP], 1, b""


class Form:
    """Lines as a client wants them: which streams and times, with stamps or not, framed or not.

    whole  a frame for each piece that the container wrote, as clients expect of a log
    """

    def __init__(
        self,
        framed: bool,
        streams: frozenset[int],
        stamps: bool = False,
        since: bytes = b"",
        until: bytes = b"\x7f",
        whole: bool = False,
        details: bool = False,
    ) -> None:
        self._whole = whole
        self._framed = framed
        self._streams = streams
        self._stamps = stamps
        self._details = b" " if details else b""  # what docker puts before attributes, and there are none
        self._since = since
        self._until = until
        self._middle: set[int] = set()

    def made(self, lines: Iterator[Line]) -> Iterator[bytes]:
        """Bytes for the client: what follows each other on a stream is one frame, many short frames one piece."""
        out, kept, at = bytearray(), bytearray(), 1
        for stamp, number, text in lines:
            if number not in self._streams or not self._since <= stamp <= self._until:
                continue
            if number != at or len(kept) >= _FRAME or (self._whole and kept):
                if kept:
                    out += self._out(at, kept)
                kept, at = bytearray(), number
                if len(out) >= _FRAME:
                    yield bytes(out)
                    out.clear()
            if number not in self._middle:
                kept += (stamp + b" " if self._stamps else b"") + self._details
            kept += text
            (self._middle.discard if text.endswith(b"\n") else self._middle.add)(number)
        if kept:
            out += self._out(at, kept)
        if out:
            yield bytes(out)

    def _out(self, number: int, data: bytearray) -> bytes:
        return frame(number, bytes(data)) if self._framed else bytes(data)


def stamp(nanoseconds: int) -> bytes:
    """A time as it stands in a line; two compare as their times do."""
    seconds, rest = divmod(max(nanoseconds, 0), times.SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def wanted(asked: Asked) -> frozenset[int]:
    """The streams that a client asks for."""
    found = {number for number, name in ((1, "stdout"), (2, "stderr")) if asked.flag(name)}
    return frozenset(found)


def logs(api: Api, asked: Asked) -> Response:
    streams = wanted(asked)
    if not streams:
        raise Refused(400, "Bad parameters: you must choose at least one stream")
    one = api.world.find(asked["id"])
    kind = (one.host.get("LogConfig") or {}).get("Type")
    if kind == "none":
        raise Refused(500, "configured logging driver does not support reading")
    count = asked.query("tail", "all")
    since, before = times.asked(asked.query("since")), times.asked(asked.query("until"))
    form = Form(
        not one.tty, streams, asked.flag("timestamps"),
        stamp(since) if since is not None else b"", stamp(before) if before is not None else b"\x7f", whole=True,
        details=asked.flag("details"),
    )  # fmt: skip
    number = int(count) if count.isdecimal() else -1
    pieces = _follow(api, one, form, number, asked.flag("follow"), asked.request.sock.fileno())
    framed = not one.tty and asked.version >= (1, 42)
    return answers.stream(pieces, answers.FRAMED if framed else answers.RAW)


def _follow(api: Api, one: Container, form: Form, count: int, follow: bool, client: int) -> Iterator[bytes]:
    directory = place(one)
    log = Log(directory)
    try:
        with one.held(), api.world.subscribe() as news, api.world.subscribe(directory) as written:
            yield from form.made(log.lines() if count < 0 else iter(log.tail(count)))
            while follow:
                over = ended(api, one)
                yield from form.made(log.lines())
                if over or not until(client, news, written):
                    return
    finally:
        log.close()


def place(one: Container, name: str = "log") -> str:
    """A directory of its, which is there already when it is watched before the first start."""
    path = f"{one.path}/{name}"
    try:
        os.mkdir(path, 0o700)
    except OSError:
        pass  # there is one, or no container any more
    return path


def ended(api: Api, one: Container) -> bool:
    """Whether a container writes no more, for now."""
    now = api.world.get(one.id)
    return now is None or now.status not in ("running", "paused", "restarting")


ROUTES: list[Route] = [("GET", "/containers/{id}/logs", logs)]
