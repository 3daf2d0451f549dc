"""The context of a build as a tar archive: .dockerignore obeyed, the Dockerfile always in it."""

from __future__ import annotations

import os

from oci_tools.build import ignore
from oci_tools.cmd.ctl import sending
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from tarfile import TarFile

_OUTSIDE = ".dockerfile.oci-ctl"  # what a Dockerfile from elsewhere is called in the archive


def packed(place: str, file: str | None) -> tuple[Iterator[bytes], str]:
    """The archive's pieces, and the Dockerfile's name in it; `-` is an archive on standard input."""
    if place == "-":
        return sending.read(), file or ""
    if not os.path.isdir(place):
        raise Error("cannot use context", place, "no such directory")
    top = os.path.realpath(place)
    path = os.path.realpath(file) if file else os.path.join(top, "Dockerfile")
    if not os.path.isfile(path):
        raise Error("cannot read", path, "no such file or directory")
    inside = path.startswith(f"{top}/")
    name = os.path.relpath(path, top) if inside else _OUTSIDE
    return _archive(top, path, name), name


def _archive(top: str, dockerfile: str, name: str) -> Iterator[bytes]:
    ignored = _ignored(top, dockerfile)

    def fill(tar: TarFile) -> None:
        for path in _walk(top, ignored):
            if path != name:
                tar.add(os.path.join(top, path), path, recursive=False)
        tar.add(dockerfile, name, recursive=False)

    return sending.packed(fill, "cannot read context", top)


def _ignored(top: str, dockerfile: str) -> ignore.Patterns:
    """Of DOCKERFILE.dockerignore, else of the context's .dockerignore."""
    for path in (f"{dockerfile}.dockerignore", os.path.join(top, ".dockerignore")):
        try:
            with open(path, "rb") as file:
                return ignore.Patterns(ignore.lines(file.read()))
        except FileNotFoundError:
            continue
    return ignore.Patterns(())


def _walk(top: str, ignored: ignore.Patterns) -> Iterator[str]:
    """The paths that are not left out, directories before what is in them."""
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for name in sorted(os.listdir(os.path.join(top, directory)), reverse=True):
            path = os.path.join(directory, name)
            left_out = bool(ignored) and ignored.match(path)
            if os.path.isdir(os.path.join(top, path)) and not os.path.islink(os.path.join(top, path)):
                if not left_out or ignored.may_show(path):
                    waiting.append(path)
            if not left_out and path:
                yield path
