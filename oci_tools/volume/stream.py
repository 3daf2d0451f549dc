"""Volumes as tar streams, both ways: POSIX pax with owners as numbers, extended attributes and holes.

What is read is a stranger's: it goes into a directory beside, by descriptors (layer/apply.py), and becomes the volume's
when the archive has come to its end, whole.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools import volume as volumes
from oci_tools.errors import Error, Usage
from oci_tools.layer import apply, diff
from oci_tools.layer import owner as owners
from oci_tools.layer.limits import Limits
from oci_tools.layer.stream import Stream
from oci_tools.layer.write import Writer
from oci_tools.linux import files, quota
from oci_tools.volume import copy, mounting, room, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Warn = Callable[[str], None]
    Tell = Callable[[int], None]  # of how many bytes came or went so far

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def export(name: str, output: str | None, warn: Warn, tell: Tell | None = None) -> None:
    """Write all that is in a volume, its root's attributes too, to stdout, or a file that is there when it is whole."""
    if output is None and os.isatty(1):
        raise Usage("an archive is not for a terminal", hint="put it into a file or pipe")
    volume = volumes.load(name)
    with Opened(volume) as rootfd:
        if output is None:
            _write(rootfd, Stream(1, None, tell), warn)
            return
        with fs.Output(output, 0o600) as fd:
            _write(rootfd, Stream(fd, output, tell), warn)


def _write(rootfd: int, stream: Stream, warn: Warn) -> None:
    writer = Writer(stream)
    packing = diff.Packing(writer, single=os.geteuid() != 0, warn=warn, live=True, holes=True)
    packing.root(rootfd)
    packing.tree(rootfd)
    writer.close()


class Opened:
    """A descriptor of a volume's directory for a `with` block, in which it is not removed; mounted if it has to be."""

    def __init__(self, volume: volumes.Volume) -> None:
        self._volume = volume

    def __enter__(self) -> int:
        mounting.ready([self._volume.name])
        self._lock = fs.Lock(self._volume.path, shared=True).__enter__()
        try:
            mounting.check_mounted(self._volume)
            self._fd = os.open(self._volume.data, _DIRECTORY)
        except OSError as error:
            self._lock.__exit__()
            raise Error("cannot open volume", self._volume.name, error) from None
        except BaseException:
            self._lock.__exit__()
            raise
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._lock.__exit__()
        mounting.release([self._volume.name])


def import_(name: str, stream: Any, replace: bool, warn: Warn) -> None:
    """Make a volume of an archive, plain or compressed, or put it into the empty one of that name.

    With `replace` what was in it goes.
    """
    limits = Limits()
    limits.size = 1 << 62  # what people keep is not ours to bound
    known = volumes.find(volumes.check(name))
    if known and known.backing.type == "tmpfs":
        raise Error("cannot import into volume", name, "what is in memory is lost when nobody uses it")
    if known and known.backing.kind != "plain":
        return _into(known, stream, replace, limits, warn)
    with volumes.lock():
        known = volumes.find(name)
        if known:
            with Opened(known) as rootfd:
                _refuse(known, f"/proc/self/fd/{rootfd}", replace)
        with volumes.Making(name) as making:
            if known is None:
                _fill(making.data, stream, limits, warn)
                making.done()
            elif mounting.needs(known):
                making.begin(known.backing)
                with mounting.Disk(f"{making.beside}/{room.DISK}", making.data):
                    _fill(making.data, stream, limits, warn)
                mounting.exchange(known, f"{making.beside}/{room.DISK}")
            else:
                if known.record["project"] is not None:
                    quota.set_project(making.data, known.record["project"])
                _fill(making.data, stream, limits, warn)
                try:
                    files.exchange(making.data, known.data)
                except OSError as error:
                    raise Error("cannot import volume", name, error) from None


def _into(volume: volumes.Volume, stream: Any, replace: bool, limits: Limits, warn: Warn) -> None:
    """The same where only files can be changed: in a directory inside, whose names are moved up at the end."""
    with Opened(volume) as rootfd:
        _refuse(volume, f"/proc/self/fd/{rootfd}", replace)
        beside = ".oci-import"
        fs.remove_at(rootfd, beside)
        os.mkdir(beside, 0o700, dir_fd=rootfd)
        try:
            _fill(f"/proc/self/fd/{rootfd}/{beside}", stream, limits, warn)
            for name in os.listdir(rootfd):
                if name != beside:
                    fs.remove_at(rootfd, name)
            at = os.open(beside, _DIRECTORY, dir_fd=rootfd)
            try:
                for name in os.listdir(at):
                    os.rename(name, name, src_dir_fd=at, dst_dir_fd=rootfd)
                copy.attributes(at, rootfd)
            finally:
                os.close(at)
        finally:
            fs.remove_at(rootfd, beside)


def _refuse(volume: volumes.Volume, data: str, replace: bool) -> None:
    if volume.readonly:
        raise Error("cannot import into volume", volume.name, "it is a snapshot")
    users.refuse_used(volume.name, "cannot import into volume", only_running=True)
    if not replace and os.listdir(data):
        raise Error("cannot import into volume", volume.name, "it is not empty", "--replace empties it first")


class _Archive(apply.Source):
    def __str__(self) -> str:
        return "the archive"


def _fill(path: str, stream: Any, limits: Limits, warn: Warn) -> None:
    rootfd = os.open(path, _DIRECTORY)
    try:
        owner = owners.for_process(warn)
        with quota.Obeyed():
            _unpack(stream, rootfd, owner, limits)
    finally:
        os.close(rootfd)


def _unpack(stream: Any, rootfd: int, owner: owners.Owner, limits: Limits) -> None:
    layer = apply.unpack(_Archive(lambda: stream, None, None, None), rootfd, owner, limits, literal=True)
    with layer.tree:
        layer.tree.settle(owner)
