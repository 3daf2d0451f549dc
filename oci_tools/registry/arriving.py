"""An image of which the blobs are still on their way into a layout, as the layout that it is read from.

`oci-pull --unpack`: one process fetches, another, forked from it before there were threads, unpacks what
has come.  They share the blobs' open files, and for each of them an eventfd(2) and two numbers in memory:

    THERE  bytes that are in the file; the eventfd says when there are more
    ENDED  0, else the file begins anew, or nothing more comes: whoever reads it gets an Error

A third eventfd says that all was verified and named, or not.
"""

from __future__ import annotations

import mmap
import os

from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image.layout import MAX_DOCUMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.ingest import Ingest
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.registry.choose import Chosen

THERE, ENDED = 0, 1
DONE, FAILED = 1, 2  # what the last eventfd says; its number is what was added up


class Arriving:
    """The image that was chosen: written by who made this, read by a process that it forks."""

    def __init__(self, chosen: Chosen, layout: Layout) -> None:
        self._documents = {descriptor["digest"]: data for data, descriptor in chosen.documents}
        self._layout = layout
        self._numbers = memoryview(mmap.mmap(-1, 16 * max(1, len(chosen.blobs)))).cast("Q")
        self._at = {digest: at for at, digest in enumerate(chosen.blobs)}
        self._sizes = {digest: descriptor["size"] for digest, descriptor in chosen.blobs.items()}
        self._events = {digest: os.eventfd(0, os.EFD_CLOEXEC) for digest in chosen.blobs}
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self.descriptor = chosen.descriptor
        self.path = layout.path
        self.anew = False  # some blob began anew: what was read of it is worth nothing
        self.ingests: dict[str, Ingest] = {}
        try:
            for digest, descriptor in chosen.blobs.items():
                if not layout.has(descriptor):
                    ingest = self.ingests[digest] = layout.ingest(descriptor, resume=True)
                    ingest.__enter__()
                    self._watcher(digest)(ingest.offset)
                    ingest.watch = self._watcher(digest)
        except BaseException:
            self.close()
            raise

    # -- who fetches -----------------------------------------------------------------------

    def _watcher(self, digest: str) -> Callable[[int], None]:
        at, event = 2 * self._at[digest], self._events[digest]

        def watch(there: int) -> None:
            if there < self._numbers[at + THERE]:
                self._numbers[at + ENDED], self.anew = 1, True
            else:
                self._numbers[at + THERE] = there
            os.eventfd_write(event, 1)

        return watch

    def done(self) -> None:
        """All is there, verified, and has its name."""
        os.eventfd_write(self._end, DONE)

    def fail(self) -> None:
        """Nothing more comes."""
        for digest, event in self._events.items():
            self._numbers[2 * self._at[digest] + ENDED] = 1
            os.eventfd_write(event, 1)
        os.eventfd_write(self._end, FAILED)

    def close(self) -> None:
        for ingest in self.ingests.values():
            ingest.__exit__()
        for fd in (*self._events.values(), self._end):
            os.close(fd)
        self._events = {}

    # -- who reads ----------------------------------------------------------------------------

    def wait(self) -> None:
        """Until all is verified."""
        if os.eventfd_read(self._end) != DONE:
            raise Interrupted

    def read(self, descriptor: Descriptor, limit: int = MAX_DOCUMENT) -> bytes:
        """A document, or a configuration: verified."""
        digest = descriptor["digest"]
        if digest in self._documents:
            return self._documents[digest]
        if digest not in self.ingests:
            return self._layout.read(descriptor, limit)
        if descriptor["size"] > limit:
            raise Error("cannot read blob", digest, f"{descriptor['size']} bytes are more than {limit}")
        with digests.Verifier(self.blob(descriptor), descriptor) as stream:
            data: bytes = stream.read()
        return data

    def blob(self, descriptor: Descriptor) -> Any:
        if descriptor["digest"] not in self.ingests:
            return self._layout.blob(descriptor)
        return _Follower(self, descriptor)

    def checks(self, descriptor: Descriptor) -> bool:
        """Whether somebody else looks at the blob's own digest: who fetches it, before `wait` is over."""
        return descriptor["digest"] in self.ingests

    def more(self, digest: str, offset: int) -> int:
        """How many bytes there are, at least one more than `offset`; an Error if they never will be."""
        at = 2 * self._at[digest]
        while True:
            there = self._numbers[at + THERE]
            if self._numbers[at + ENDED]:
                raise Interrupted
            if there > offset:
                return there
            os.eventfd_read(self._events[digest])
            if self._numbers[at + ENDED] or self._numbers[at + THERE] == self._sizes[digest]:
                os.eventfd_write(self._events[digest], 1)  # a layer may be there twice: for who reads it too

    def __enter__(self) -> Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Interrupted(Error):
    """What was read will not come to its end as it began; who fetches knows why."""

    def __init__(self) -> None:
        super().__init__("cannot read what is not fetched")


class _Follower:
    """A blob as a stream, which waits for what is not there yet."""

    def __init__(self, arriving: Arriving, descriptor: Descriptor) -> None:
        self._arriving = arriving
        self._digest = descriptor["digest"]
        self._size = descriptor["size"]
        self._fd = arriving.ingests[self._digest].fd
        self._offset = 0

    def read(self, size: int = -1) -> bytes:
        if self._offset >= self._size:
            return b""
        there = self._arriving.more(self._digest, self._offset)
        wanted = there - self._offset if size < 0 else min(size, there - self._offset)
        data = os.pread(self._fd, wanted, self._offset)
        self._arriving.more(self._digest, self._offset)  # it is still the same file
        if not data:
            raise Interrupted
        self._offset += len(data)
        return data

    def close(self) -> None:
        pass

    def __enter__(self) -> _Follower:
        return self

    def __exit__(self, *_: object) -> None:
        pass
