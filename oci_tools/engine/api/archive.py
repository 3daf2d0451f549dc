"""Files of containers: /containers/{id}/archive, by `oci-run cp`."""

from __future__ import annotations

import os
import tarfile
from binascii import b2a_base64

from oci_tools import document
from oci_tools.engine.api import times
from oci_tools.engine.api.answers import Refused
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.commands import Reading
    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container

# Go's os.FileMode, which clients read.
_DIRECTORY, _SYMLINK, _DEVICE, _FIFO, _CHARACTER = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 21
_SPECIAL = ((0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20))


class _Recorded:
    """A stream whose bytes are kept as they are read: what was looked at is sent all the same."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.kept = bytearray()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := os.read(self._fd, size - len(data))):
            data += more
        self.kept += data
        return data


def _opened(api: Api, asked: Asked, path: str) -> tuple[Reading, bytes, dict[str, Any]]:
    """The archive of a path: the command that writes it, its first bytes, and what its first entry is."""
    one = api.world.find(asked["id"])
    if not path:
        raise Refused(400, "bad parameter: path cannot be empty")
    reading = api.commands.reading(["run", "cp", "--archive", f"{one.id}:{_absolute(path)}", "-"])
    start = _Recorded(reading.out)
    try:
        with tarfile.open(fileobj=start, mode="r|", bufsize=512) as tar:  # type: ignore[call-overload]
            first = tar.next()
            assert first is not None
            stat = _stat(first, path)
    except (tarfile.TarError, AssertionError, OSError):
        error = reading.error()
        reading.close()
        raise _missing(asked["id"], path, error) from None
    return reading, bytes(start.kept), stat


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _missing(word: str, path: str, error: Refused | None) -> Refused:
    if error is not None and "not a directory" in error.message and path.endswith(("/", "/.")):
        return Refused(400, f"lstat {path}: not a directory")
    if error is None or "no such file" in error.message or "not a directory" in error.message:
        return Refused(404, f"Could not find the file {path} in container {word}")
    return Refused(500 if error.status == 400 else error.status, error.message)


def _stat(entry: tarfile.TarInfo, path: str) -> dict[str, Any]:
    """X-Docker-Container-Path-Stat of a tar entry."""
    mode = entry.mode & 0o777
    for bit, go in _SPECIAL:
        if entry.mode & bit:
            mode |= go
    if entry.isdir():
        mode |= _DIRECTORY
    elif entry.issym():
        mode |= _SYMLINK
    elif entry.isfifo():
        mode |= _FIFO
    elif entry.isdev():
        mode |= _DEVICE | (_CHARACTER if entry.ischr() else 0)
    name = os.path.basename(os.path.normpath(path)) or "/"
    return {
        "name": name, "size": entry.size or (4096 if entry.isdir() else len(entry.linkname)), "mode": mode,
        "mtime": _time(entry),
        "linkTarget": _target(path, entry.linkname) if entry.issym() else "",
    }  # fmt: skip


def _time(entry: tarfile.TarInfo) -> str:
    """When it was changed, to the nanosecond: the pax record itself, as `mtime` is a float, which is too coarse."""
    whole, _, rest = entry.pax_headers.get("mtime", str(int(entry.mtime))).partition(".")
    fraction = int(rest[:9].ljust(9, "0"))
    return times.exact(int(whole) * times.SECOND + (-fraction if whole.startswith("-") else fraction))


def _target(path: str, link: str) -> str:
    """Where a link leads, as an absolute path of the container."""
    return os.path.normpath(os.path.join(os.path.dirname(_absolute(path)), link))


def _header(stat: dict[str, Any]) -> tuple[str, str]:
    return "X-Docker-Container-Path-Stat", b2a_base64(document.dumps(stat), newline=False).decode()


def head(api: Api, asked: Asked) -> Response:
    reading, _, stat = _opened(api, asked, asked.query("path"))
    reading.close()
    return Response(200, [_header(stat)])


def get(api: Api, asked: Asked) -> Response:
    reading, start, stat = _opened(api, asked, asked.query("path"))
    return Response(200, [("Content-Type", "application/x-tar"), _header(stat)], reading.sent(start))


def put(api: Api, asked: Asked) -> Response:
    one, path = api.world.find(asked["id"]), asked.query("path")
    if not path:
        raise Refused(400, "missing path")
    if one.host.get("ReadonlyRootfs") and not _writable(one, path):
        raise Refused(400, "container rootfs is marked read-only")
    words = ["run", "cp", *(["--archive"] if asked.flag("copyUIDGID") else []), "-", f"{one.id}:{_absolute(path)}"]
    try:
        api.commands.fed(words, asked.request)
    except Refused as error:
        lowered = error.message.lower()
        if "no such file" in lowered:
            raise Refused(404, f"Could not find the file {path} in container {asked['id']}") from None
        if "not a directory" in lowered:
            _opened(api, asked, path.rstrip("/"))[0].close()  # says it if there is nothing at all
            raise Refused(400, "extraction point is not a directory") from None
        raise Refused(500 if error.status == 400 else error.status, error.message) from None
    return Response(200)


def _writable(one: Container, path: str) -> bool:
    from oci_tools.engine.api import mounts

    place = os.path.normpath(_absolute(path))
    return any(
        each["RW"] and (place == each["Destination"] or place.startswith(f"{each['Destination']}/"))
        for each in mounts.shown(one)
    )


ROUTES: list[Route] = [
    ("HEAD", "/containers/{id}/archive", head),
    ("GET", "/containers/{id}/archive", get),
    ("PUT", "/containers/{id}/archive", put),
]
