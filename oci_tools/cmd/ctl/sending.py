"""Archives on their way to an engine: the pieces of a request's body, read or packed while they are sent."""

from __future__ import annotations

import os
import tarfile
import threading

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TAR = [("Content-Type", "application/x-tar")]
_READ = 1 << 18  # bytes


def read(fd: int = 0) -> Iterator[bytes]:
    """What a descriptor has: standard input's, if none is named."""
    while data := os.read(fd, _READ):
        yield data


def packed(fill: Callable[[tarfile.TarFile], object], what: str, subject: str) -> Iterator[bytes]:
    """What `fill` adds to an archive; an Error of these words if a file cannot be read."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    wrong: list[Exception] = []

    def write() -> None:
        try:
            with (
                open(writer, "wb") as file,
                tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                fill(tar)
        except (OSError, tarfile.TarError, Error) as error:
            wrong.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with open(reader, "rb", buffering=0) as pipe:
        while data := pipe.read(_READ):
            yield data
    thread.join()
    if wrong:
        raise Error(what, subject, str(wrong[0]))
