"""Our commands, as the API calls them: words, descriptors, an exit code, one line of error.

`begin(words, fds)` starts one in the forker; here are the forms in which the API needs that.
"""

from __future__ import annotations

import os
import select
import signal
import threading

from oci_tools import fs
from oci_tools.engine.api.answers import Refused
from oci_tools.http import Gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from oci_tools.http import Request

    class Begun(Protocol):
        """A command that runs: what `forker.Call` is."""

        def wait(self) -> int: ...

        def signal(self, number: int) -> None: ...

        def close(self) -> None: ...

    Begin = Callable[[Sequence[str], Mapping[int, int]], Begun]

_READ = 1 << 16
_SAID = 1 << 16  # bytes of an error that are kept


class Started:
    """A command that was started; waited for once, by whichever thread comes first."""

    def __init__(self, begun: Begun) -> None:
        self._begun = begun
        self._lock = threading.Lock()
        self._code: int | None = None

    def wait(self) -> int:
        with self._lock:
            if self._code is None:
                try:
                    self._code = self._begun.wait()
                finally:
                    self._begun.close()
            return self._code

    def signal(self, number: int) -> None:
        if self._code is None:
            self._begun.signal(number)


class Commands:
    """Our commands, run by `begin`."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def start(self, words: Sequence[str], fds: Mapping[int, int]) -> Started:
        return Started(self._begin(words, fds))

    def run(self, words: Sequence[str], data: bytes = b"", more: Mapping[int, int] | None = None) -> str:
        """Run a command to its end; what it printed.  Refused with its line where it fails."""
        code, out, err = self.ran(words, data, more)
        if code:
            raise failure(words, code, err)
        return out.decode("utf-8", "surrogateescape")

    def ran(
        self, words: Sequence[str], data: bytes = b"", more: Mapping[int, int] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end: its exit code, what it printed, what it said.

        data is what it reads, given at once: what does not fit a pipe stands in a file without a name.
        """
        stdin = _holding(data)
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        try:
            started = self.start(words, {0: stdin, 1: out_end, 2: err_end, **(more or {})})
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            for fd in (stdin, out_end, err_end):
                os.close(fd)
        printed, said = drain([out, err])
        return started.wait(), printed, said

    def reading(self, words: Sequence[str], more: Mapping[int, int] | None = None) -> Reading:
        """Start a command whose output is read as it comes."""
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err = os.memfd_create("stderr", os.MFD_CLOEXEC)
        try:
            started = self.start(words, {0: null, 1: out_end, 2: err, **(more or {})})
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(null)
            os.close(out_end)
        return Reading(words, started, out, err)


    def fed(self, words: Sequence[str], request: Request) -> str:
        """Run a command that reads the body of a request; what it printed.

        What it says is kept in files, so that it never waits for us while we wait for it; one that ends early leaves
        the rest of the body unread.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr"))
        try:
            try:
                started = self.start(words, {0: reader, 1: out, 2: err})
            except BaseException:
                os.close(writer)
                raise
            finally:
                os.close(reader)
            try:
                self._feed(writer, request)
            except BaseException:
                started.signal(signal.SIGTERM)  # half of a body is none
                started.wait()
                raise
            finally:
                os.close(writer)
            code = started.wait()
            if code:
                raise failure(words, code, os.pread(err, _SAID, 0))
            return os.pread(out, _SAID, 0).decode("utf-8", "surrogateescape")
        finally:
            os.close(out)
            os.close(err)

    @staticmethod
    def _feed(writer: int, request: Request) -> None:
        while data := request.read():
            try:
                fs.write_all(writer, data)
            except BrokenPipeError:
                return


class Reading:
    """A command that runs, and its output: for a `with` block, at whose end it is ended."""

    def __init__(self, words: Sequence[str], started: Started, out: int, err: int) -> None:
        self.words = words
        self.started = started
        self.out = out
        self._err = err

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop it if it still runs."""
        if self.out >= 0:
            os.close(self.out)
            self.out = -1
            self.started.signal(signal.SIGTERM)
            self.started.wait()
            os.close(self._err)
            self._err = -1

    def pieces(self, size: int = _READ) -> Iterator[bytes]:
        while data := os.read(self.out, size):
            yield data

    def lines(self) -> Iterator[bytes]:
        rest = b""
        for data in self.pieces():
            *found, rest = (rest + data).split(b"\n")
            yield from found
        if rest:
            yield rest

    def sent(self, start: bytes = b"") -> Iterator[bytes]:
        """`start`, then what it writes; where it fails the connection is cut, so that nobody takes half for whole."""
        try:
            if start:
                yield start
            yield from self.pieces(1 << 18)
            error = self.error()
            if error is not None:
                raise Gone(error.message)
        finally:
            self.close()

    def error(self) -> Refused | None:
        """Its failure, once the output has ended."""
        code = self.started.wait()
        return failure(self.words, code, os.pread(self._err, _SAID, 0)) if code else None


def _holding(data: bytes) -> int:
    if not data:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def drain(fds: Sequence[int]) -> list[bytes]:
    """Read descriptors to their ends, and close them."""
    poll = select.poll()
    found: dict[int, list[bytes]] = {fd: [] for fd in fds}
    for fd in fds:
        poll.register(fd, select.POLLIN)
    left = len(fds)
    while left:
        for fd, _ in poll.poll():
            data = os.read(fd, _READ)
            if data:
                found[fd].append(data)
            else:
                poll.unregister(fd)
                os.close(fd)
                left -= 1
    return [b"".join(found[fd]) for fd in fds]


# -- what a failure means ----------------------------------------------------------------------

# What our lines say, and the status of HTTP that dockerd answers such a thing with.
_MEANINGS = (
    (404, ("no such ", "not found", "does not exist", "unknown network", "unknown volume", "cannot use network")),
    (409, ("in use", "already", "is not running", "is running", "it is paused", "stopped container", "is not paused")),
    (403, ("pre-defined", "active endpoints")),
    (400, ("invalid", "unknown signal", "cannot parse", "executable file", "no such file or directory")),
    (400, ("the container's specification: ",)),
)


def failure(words: Sequence[str], code: int, said: bytes) -> Refused:
    """What a command's failure is to a client: its last line, without its name."""
    last = (said.decode("utf-8", "replace").strip().split("\n") or [""])[-1]
    message = last.removeprefix(f"oci-{words[0]}: ") or f"oci-{words[0]} {words[1]} ended with code {code}"
    # How to log in is another thing for who is a client: told in dockerd's words, and by the client itself.
    message = message.partition(" (or log in with ")[0]
    message, hint, _ = message.partition(" (log in with ")
    message += ": no basic auth credentials" if hint else ""
    return Refused(_status(code, message), message)


def _status(code: int, message: str) -> int:
    if code == 75:
        return 503
    if code in (126, 127) or "executable file not found" in message:
        return 400
    lowered = message.lower()
    for status, parts in _MEANINGS:
        if any(part in lowered for part in parts):
            return status
    return 400 if code == 2 else 500
