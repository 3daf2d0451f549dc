"""One large blob over several connections: parts by Range (RFC 9110, 14), handed on in their order.

    at, stream = pieces(remote, descriptor, offset, width, stop)

What comes is always a beginning without gaps, so that a cut or killed reader resumes as ever.  No more
than `width` parts are in memory.  A registry that answers otherwise than it was asked is read from one
connection: the first question asks for one part only, and shows it.
"""

from __future__ import annotations

import threading

from oci_tools import fetch
from oci_tools.errors import Busy, Error
from oci_tools.registry.client import Missing
from oci_tools.registry.copy import Remote, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from oci_tools.image.layout import Descriptor

CHUNK = 1 << 20  # bytes read at once
PIECE = 64 << 10  # the same of a part: less memory that lies idle
PART = 2 << 20  # bytes asked for at once
LEAST = 16 << 20  # bytes of a blob that is worth it
WIDTH = 3  # connections at most


def width(jobs: int, blobs: int) -> int:
    """How many connections each of so many large blobs gets, that all together are no more than the jobs."""
    return max(1, min(WIDTH, jobs // max(1, blobs)))


def pieces(
    remote: Remote, descriptor: Descriptor, offset: int, width: int, stop: threading.Event
) -> tuple[int, Generator[bytes | bytearray, None, None]]:
    """A blob from `offset` on, or from its beginning, as is said with it; Lost where it is cut."""
    if width > 1 and descriptor["size"] - offset >= LEAST:
        try:
            first, at = remote.blob(descriptor, offset, offset + PART)
        except (Busy, Missing):
            raise
        except Error:  # it answers such a question wrongly; the one without a range may be fine
            first, at = remote.blob(descriptor, offset)
        if first.status == 206 and at == offset and first.header("Content-Range").startswith(
            f"bytes {offset}-{offset + PART - 1}/"
        ):  # fmt: skip
            return at, _Parts(remote, descriptor, offset, width, stop).read(first)
    else:
        first, at = remote.blob(descriptor, offset)
    return at, _one(first, stop)


def _one(answer: fetch.Answer, stop: threading.Event) -> Generator[bytes, None, None]:
    with answer:
        while data := answer.read(CHUNK):
            if stop.is_set():
                raise Stopped
            yield data


class _Parts:
    """The parts of one blob: threads take the next one while it is no more than `width` ahead of the reader."""

    def __init__(self, remote: Remote, descriptor: Descriptor, offset: int, width: int, stop: threading.Event) -> None:
        self._remote = remote
        self._descriptor = descriptor
        self._offset = offset
        self._width = width
        self._stop = stop
        self._count: int = -(-(descriptor["size"] - offset) // PART)
        self._next = 0  # the first that nobody has taken
        self._read = 0  # the one that the reader waits for
        self._over = False
        self._changed = threading.Condition()
        self._done: dict[int, bytearray | BaseException] = {}

    def read(self, first: fetch.Answer) -> Generator[bytearray, None, None]:
        self._next = 1
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._width - 1)]
        threads.append(threading.Thread(target=self._work, args=(first,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            for number in range(self._count):
                yield self._take(number)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _take(self, number: int) -> bytearray:
        with self._changed:
            self._read = number
            self._changed.notify_all()
            while number not in self._done:
                self._changed.wait()
            found = self._done.pop(number)
        if isinstance(found, BaseException):
            raise found
        return found

    def _work(self, first: fetch.Answer | None = None) -> None:
        number = 0 if first else self._turn()
        while number < self._count:
            found: bytearray | BaseException
            try:
                found = self._fetch(number, first)
            except BaseException as error:
                found = error
            first = None
            with self._changed:
                self._done[number] = found
                self._changed.notify_all()
            if isinstance(found, BaseException):
                return  # the reader ends when it comes to this
            number = self._turn()

    def _turn(self) -> int:
        """The next part for a thread; none is left: one beyond the last."""
        with self._changed:
            while not self._over and self._next < self._count and self._next >= self._read + self._width:
                self._changed.wait()
            if self._over:
                return self._count
            self._next += 1
            return self._next - 1

    def _fetch(self, number: int, answer: fetch.Answer | None) -> bytearray:
        start = self._offset + number * PART
        end = min(start + PART, self._descriptor["size"])
        if answer is None:
            answer, at = self._remote.blob(self._descriptor, start, end)
            if at != start:
                answer.close()
                raise fetch.Lost("cannot fetch blob", self._descriptor["digest"], "it comes in parts no longer")
        data = bytearray()
        with answer:
            while len(data) <= end - start and (more := answer.read(min(PIECE, end - start - len(data) + 1))):
                if self._over or self._stop.is_set():
                    raise Stopped
                data += more
        if len(data) < end - start:
            raise fetch.Lost("cannot fetch blob", self._descriptor["digest"], "it ends too early")
        if len(data) > end - start:
            raise Error("wrong size of blob", self._descriptor["digest"], "a part has more than was asked for")
        return data
