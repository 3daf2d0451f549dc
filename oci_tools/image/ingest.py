"""Blobs on their way into a layout: `.ingest/`, where they are written, verified and named.

A file there is flocked by its writer.  One that nobody holds was left by a dead writer: it is
swept by the next, unless it is the beginning of a known blob (ALGORITHM-HEX), which
stays for some days so that a cut download can go on.

A new blob is on disk before it gets its name.  One that comes from a registry is not waited for: a power cut may
leave it short, and so missing (Layout.has), until it is pulled again; that costs less than a wait at every pull.
"""

from __future__ import annotations

import fcntl
import os
import time

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools.image.layout import Descriptor, Layout

BACK = 8 << 20  # bytes that are written before the disk gets them
PARTIAL_AGE = 7 * 86400  # seconds for which a cut download may be resumed


class Ingest:
    """A blob that is being written: a file in .ingest/, flocked, renamed to its digest at the end."""

    def __init__(self, layout: Layout, descriptor: Descriptor | None, algorithm: str, resume: bool) -> None:
        if descriptor is not None:
            algorithm, text, _ = digests.check_descriptor(descriptor)
        self._layout = layout
        self._descriptor = descriptor
        self._algorithm = algorithm
        self._partial = f"{algorithm}-{text}" if descriptor is not None and resume else ""
        self._again = resume or not layout.lasts  # whoever gave it can give it again
        self._limit = None if descriptor is None else descriptor["size"]
        self._hash = digests.new(algorithm)
        self._fd = -1
        self._path = ""
        self.offset = 0  # bytes that are there
        self._back = 0  # of them, those that are on their way to the disk
        self.watch: Callable[[int], None] | None = None  # hears of each new `offset`; of -1 before it begins anew

    def __enter__(self) -> Ingest:
        if self._fd >= 0:
            return self  # it was begun by somebody who reads along
        self._layout.hold()
        sweep(self._layout)
        try:
            self._open()
            self._take_up()
        except OSError as error:
            raise Error("cannot write blob in", self._layout.path, error) from None
        return self

    def _open(self) -> None:
        """Open and lock the file: the partial one of this digest, or a new one if another writes that."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            directory = self._layout.beginnings
            self._path = f"{directory}/{self._partial or os.urandom(8).hex()}"
            _make(directory)
            try:
                fd = os.open(self._path, flags, 0o644)
            except FileNotFoundError:
                continue  # another writer has just removed the empty directory
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                    self._fd = fd
                    return
            except BlockingIOError:
                self._partial = ""
            except FileNotFoundError:
                pass  # finished or swept between our opening and locking it
            os.close(fd)

    def _take_up(self) -> None:
        """Hash what an earlier attempt wrote."""
        while data := os.read(self._fd, 1 << 20):
            self._hash.update(data)
            self.offset += len(data)
        if self._limit is not None and self.offset > self._limit:
            self.restart()

    def restart(self) -> None:
        """Forget what is there: the source cannot go on at `offset`."""
        if self.watch:
            self.watch(-1)
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = digests.new(self._algorithm)
        self.offset = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        self.offset += len(data)
        if self._limit is not None and self.offset > self._limit:
            self._partial = ""
            raise Error("wrong size of blob", self._digest(), f"more than {self._limit} bytes")
        try:
            fs.write_all(self._fd, data)
        except OSError as error:
            raise Error("cannot write blob in", self._layout.path, error) from None
        self._hash.update(data)
        if not self._again and self.offset - self._back >= BACK:
            fs.write_back(self._fd, self._back, self.offset - self._back)
            self._back = self.offset
        if self.watch:
            self.watch(self.offset)

    @property
    def fd(self) -> int:
        """The file, to read along with pread(2)."""
        return self._fd

    def digest(self, algorithm: str = "") -> str:
        """The digest of what is there; of an algorithm other than before, by reading it again."""
        if algorithm and algorithm != self._algorithm:
            self._algorithm, self._hash, self.offset = algorithm, digests.new(algorithm), 0
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._take_up()
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def _digest(self) -> str:
        return str(self._descriptor["digest"]) if self._descriptor else f"a new {self._algorithm} blob"

    def commit(self, media_type: str = "") -> Descriptor:
        """Verify, make it last, and give it its name; the descriptor is returned."""
        digest = self.digest()
        if self._descriptor is not None:
            if self.offset < self._descriptor["size"]:
                raise Error("wrong size of blob", self._digest(), f"{self.offset} bytes of {self._limit}")
            if digest != self._descriptor["digest"]:
                self._partial = ""
                raise Error("wrong digest of blob", self._digest(), f"content has {digest.partition(':')[2]}")
            media_type = media_type or self._descriptor.get("mediaType", "")
        target = self._layout.blob_path(digest)
        directory = os.path.dirname(target)
        try:
            if not self._again:
                os.fsync(self._fd)
            _make(directory)
            os.rename(self._path, target)
        except OSError as error:
            raise Error("cannot write blob", target, error) from None
        self._path = ""
        self._layout.fresh.add(directory)
        return {"mediaType": media_type or "application/octet-stream", "digest": digest, "size": self.offset}

    def __exit__(self, *_: object) -> None:
        if self._path and not (self._partial and self.offset):
            try:
                os.unlink(self._path)
            except OSError:
                pass
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        _forget(self._layout)


def _make(directory: str) -> None:
    """Make a directory that may be there; not its parent, which is missing if the layout has gone."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass


def sweep(layout: Layout, partial_age: float = PARTIAL_AGE) -> None:
    """Remove what dead writers left, except beginnings that are younger than `partial_age` seconds."""
    try:
        names = os.listdir(layout.beginnings)
    except OSError:
        return
    for name in names:
        _sweep(f"{layout.beginnings}/{name}", partial_age if "-" in name else 0)
    _forget(layout)


def _sweep(path: str, age: float) -> None:
    """Remove an unfinished blob unless it is younger than `age` seconds or somebody writes it.

    An empty one is no beginning and goes at any age.  What stays is not locked even for a moment:
    who wants to go on with it would take another name, and leave it behind.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        seen = os.fstat(fd)
        if seen.st_size and seen.st_mtime > time.time() - age:
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = os.fstat(fd)  # its writer may have been at it, or another sweep: the name may be another file's
        stale = not now.st_size or now.st_mtime <= time.time() - age
        if stale and os.path.samestat(now, os.stat(path)):
            os.unlink(path)
    except OSError:
        pass
    finally:
        os.close(fd)


def _forget(layout: Layout) -> None:
    try:
        os.rmdir(layout.beginnings)
    except OSError:
        pass  # somebody writes, or left something to resume
