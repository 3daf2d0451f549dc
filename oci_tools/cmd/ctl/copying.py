"""cp: files between here and a container of an engine; the rules of names are docker's."""

from __future__ import annotations

import os
import sys
import tarfile
from binascii import a2b_base64

from oci_tools import document
from oci_tools.cmd.ctl import sending
from oci_tools.cmd.ctl.engine import Engine, Refused
from oci_tools.cmd.ctl.running import where
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.cli import Args

_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27  # Go's os.FileMode


def copy(args: Args, engines: list[Engine]) -> None:
    source, target = _side(args.source), _side(args.destination)
    if bool(source[0]) == bool(target[0]):
        raise Usage("one of both must be in a container", args.source, hint="CONTAINER:PATH")
    if source[0]:
        engine, said = where(engines, source[0])
        _out(engine, said["Id"], source[1], target[1], args.follow_link)
    else:
        engine, said = where(engines, target[0])
        _in(engine, said["Id"], source[1], target[1], args)


def _side(word: str) -> tuple[str, str]:
    """CONTAINER:PATH, or a path of ours: one with a slash or a dot in front is never a container."""
    if word == "-" or word.startswith(("/", ".")):
        return "", word
    name, colon, path = word.partition(":")
    return (name, path or "/") if colon else ("", word)


def _stat(engine: Engine, container: str, path: str) -> dict[str, Any] | None:
    """What a path is in the container; None where there is nothing."""
    try:
        answer = engine.ask("HEAD", f"/containers/{container}/archive", {"path": path})
    except Refused as error:
        if error.status == 404:
            return None
        raise
    answer.read()
    found: dict[str, Any] = document.loads(a2b_base64(answer.header("X-Docker-Container-Path-Stat")))
    return found


# -- out of it ----------------------------------------------------------------------------------


class _Stream:
    """The pieces of an answer as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _out(engine: Engine, container: str, path: str, target: str, follow: bool) -> None:
    if follow:
        said = _stat(engine, container, path)
        if said and said["mode"] & _SYMLINK and said["linkTarget"]:
            path = said["linkTarget"]
    content = path.endswith(("/.", "/./")) or os.path.normpath(f"/{path}").strip("/") == ""
    answer = engine.ask("GET", f"/containers/{container}/archive", {"path": path})
    if target == "-":
        for piece in answer.pieces():
            sys.stdout.buffer.write(piece)
        return
    top = os.path.basename(os.path.normpath(path)) or "/"
    into, name = _place(target, top, content)
    _extract(_Stream(answer.pieces()), into, name)


def _place(target: str, top: str, content: bool) -> tuple[str, str | None]:
    """The directory that is extracted into, and what the first part of every name becomes (None: it is dropped)."""
    if content:
        os.makedirs(target, exist_ok=True)
        return target, None
    if os.path.isdir(target):
        return target, top
    parent = os.path.dirname(target.rstrip("/")) or "."
    if target.endswith("/") or not os.path.isdir(parent):
        raise Error("cannot copy to", target, "no such directory")
    return parent, os.path.basename(target)


def _extract(stream: Any, into: str, name: str | None) -> None:
    """Nothing leaves `into`: names and links are checked one by one (tarfile's `tar` filter)."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                rest = entry.name.partition("/")[2]  # the root's are below an empty name
                entry.name = (f"{name}/{rest}" if rest else name) if name is not None else rest
                if not entry.name:
                    continue
                if entry.islnk():
                    link = entry.linkname.partition("/")[2]
                    entry.linkname = f"{name}/{link}" if name is not None else link
                tar.extract(entry, into, set_attrs=True, numeric_owner=True, filter="tar")
    except (tarfile.TarError, OSError) as error:
        raise Error("cannot copy into", into, str(error)) from None


# -- into it ---------------------------------------------------------------------------------------


def _in(engine: Engine, container: str, source: str, target: str, args: Args) -> None:
    query = {"noOverwriteDirNonDir": "true", "copyUIDGID": "true" if args.archive else None}
    path = f"/containers/{container}/archive"
    if source == "-":
        engine.ask("PUT", path, {**query, "path": target}, sending.read(), sending.TAR).read()
        return
    if not os.path.lexists(source):
        raise Error("cannot copy", source, "no such file or directory")
    followed = os.path.realpath(source) if args.follow_link else source
    said = _stat(engine, container, target)
    if said and said["mode"] & _SYMLINK and said["linkTarget"]:
        target = said["linkTarget"]
        said = _stat(engine, container, target)
    is_there = bool(said and said["mode"] & _DIRECTORY)
    content = source.endswith("/.")
    if is_there:
        into, name = target, "" if content else os.path.basename(os.path.normpath(source))
    else:
        if target.endswith("/") and not os.path.isdir(followed):
            raise Error("cannot copy to", target, "no such directory")
        into, name = os.path.dirname(target.rstrip("/")) or "/", os.path.basename(target.rstrip("/"))
    engine.ask("PUT", path, {**query, "path": into}, _packed(followed, name), sending.TAR).read()


def _packed(source: str, name: str) -> Iterator[bytes]:
    """A tar of a file or tree under another name; what is in a tree, if that is empty."""

    def fill(tar: tarfile.TarFile) -> None:
        if name:
            tar.add(source, name)
        else:
            for child in sorted(os.listdir(source)):
                tar.add(os.path.join(source, child), child)

    return sending.packed(fill, "cannot copy", source)
