"""The log of a container as the API gives it: lines of Kubernetes' form (container/log.py) -> frames or raw bytes.

    2026-01-02T03:04:05.123456789Z stdout F a whole line
    2026-01-02T03:04:05.123456789Z stderr P a piece of one
"""

from __future__ import annotations

import os
import time

from oci_tools.engine.api import answers, times
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.world import until
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.world import Container

STAMP = 30  # bytes of a time in a line
_READ = 1 << 18
_FRAME = 1 << 15  # bytes that are joined into one frame
_NUMBERS = {b"stdout": 1, b"stderr": 2}

Line = tuple[bytes, int, bytes]  # stamp, 1 or 2, text with its newline if it has one


def frame(number: int, data: bytes) -> bytes:
    """stdcopy: the stream, three zeros, the length, the bytes."""
    return b"%c\0\0\0" % number + len(data).to_bytes(4, "big") + data


class Log:
    """The files of a log, read in order and across rotation; `lines` gives what is new since it was last asked."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def to_end(self) -> None:
        """Go past all that was written so far."""
        for _ in self.lines():
            pass

    def lines(self) -> Iterator[Line]:
        while self._fd >= 0 or self._next():
            data = os.read(self._fd, _READ)
            if not data and self._is_old():
                data = os.read(self._fd, _READ)  # written between our read and its being renamed
                if not data:
                    if not self._next():
                        return
                    continue
            if not data:
                return
            *found, self._rest = (self._rest + data).split(b"\n")
            for line in found:
                number = _NUMBERS.get(line[STAMP + 1 : STAMP + 7], 1)
                whole = line[STAMP + 8 : STAMP + 9] == b"F"
                yield line[:STAMP], number, line[STAMP + 10 :] + (b"\n" if whole else b"")

    def _is_old(self) -> bool:
        try:
            return not os.path.samestat(os.stat(f"{self._directory}/log"), os.fstat(self._fd))
        except OSError:
            return False

    def _next(self) -> bool:
        """Go on with the file after ours, or the oldest; False if there is none."""
        try:
            names = [name for name in os.listdir(self._directory) if name == "log" or name[4:].isdigit()]
        except OSError:
            names = []
        opened = []
        for name in sorted(names, key=lambda name: -int(name[4:] or 0)):
            try:
                opened.append(os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                continue
        at = 0
        if self._fd >= 0:
            same = [n for n, fd in enumerate(opened) if os.path.samestat(os.fstat(fd), os.fstat(self._fd))]
            at = same[0] + 1 if same else 0
        chosen = opened[at] if at < len(opened) else -1
        if chosen >= 0:
            self.close()
            self._fd = chosen
            self._rest = b""
        for fd in opened:
            if fd != chosen:
                os.close(fd)
        return chosen >= 0


class Form:
    """Lines as a client wants them: which streams and times, with stamps or not, framed or not."""

    def __init__(
        self,
        framed: bool,
        streams: frozenset[int],
        stamps: bool = False,
        since: bytes = b"",
        until: bytes = b"\x7f",
    ) -> None:
        self._framed = framed
        self._streams = streams
        self._stamps = stamps
        self._since = since
        self._until = until
        self._middle: set[int] = set()

    def made(self, lines: Iterator[Line]) -> Iterator[bytes]:
        """Bytes for the client: what follows each other on a stream is one frame."""
        kept, at = bytearray(), 1
        for stamp, number, text in lines:
            if number not in self._streams or not self._since <= stamp <= self._until:
                continue
            if number != at or len(kept) >= _FRAME or (self._stamps and kept):
                if kept:
                    yield self._out(at, kept)
                kept, at = bytearray(), number
            if self._stamps and number not in self._middle:
                kept += stamp + b" "
            kept += text
            (self._middle.discard if text.endswith(b"\n") else self._middle.add)(number)
        if kept:
            yield self._out(at, kept)

    def _out(self, number: int, data: bytearray) -> bytes:
        return frame(number, bytes(data)) if self._framed else bytes(data)


def stamp(nanoseconds: int) -> bytes:
    """A time as it stands in a line; two compare as their times do."""
    seconds, rest = divmod(max(nanoseconds, 0), times.SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def tail(lines: Iterator[Line], count: int) -> Iterator[Line]:
    """The last `count` lines, with all the pieces of each."""
    kept: list[list[Line]] = []
    begun: dict[int, list[Line]] = {}
    for line in lines:
        if line[1] in begun:
            begun[line[1]].append(line)
        else:
            kept.append([line])
            begun[line[1]] = kept[-1]
        if line[2].endswith(b"\n"):
            del begun[line[1]]
        if len(kept) > 2 * count + 64:
            del kept[: -count or None]
    for pieces in kept[-count:] if count else ():
        yield from pieces


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
        stamp(since) if since is not None else b"", stamp(before) if before is not None else b"\x7f",
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
            yield from form.made(tail(log.lines(), count) if count >= 0 else log.lines())
            while follow:
                over = ended(api, one)
                yield from form.made(log.lines())
                if over or not until(client, news, written):
                    return
    finally:
        log.close()


def place(one: Container) -> str:
    """The directory of its log, which is there already when it is watched before the first start."""
    path = f"{one.path}/log"
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
