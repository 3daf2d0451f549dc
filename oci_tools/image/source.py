"""An image wherever it is: a word for an IMAGE, or `-`, as a layout and a descriptor in it.

    with Source(word) as source:
        manifest.choose(source.layout, source.descriptor, platform)

An archive is read into a layout of its own for as long as the block lasts, under the cache,
where what a killed reader left is found by its lock being free and removed by the next.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Busy, Error
from oci_tools.image import layout as layouts
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place


class Source:
    """An image to read, for a `with` block.

    place       what the word means; None for an archive on standard input
    layout      where it is
    descriptor  of its manifest or index, as found
    name        under which it was found, None without one
    """

    layout: Layout
    descriptor: Descriptor
    name: str | None

    def __init__(self, word: str, stdin: Any = None, blobs: str = "") -> None:
        """blobs: a directory with those that the layout lacks (shared.py)."""
        self.word = word
        self._blobs = blobs
        self.place: Place | None = None
        self._stdin = stdin
        self._scratch: Scratch | None = None

    def __enter__(self) -> Source:
        if self.word == "-":
            from oci_tools.image.stdin import from_stdin

            kind, found = from_stdin(self._stdin)
            if kind == "archive":
                self._from_archive(found, None, "standard input")
                return self
            self.word = found
        self.place = refs.locate(self.word)
        if self.place.kind == "registry":
            raise Error("not a local image", self.word, hint="oci-pull gets it")
        if self.place.kind in ("oci-archive", "docker-archive"):
            self._from_archive(None, self.place.name, self.place.path)
            return self
        self.place.blobs = self._blobs
        if self.place.kind == "dir":
            from oci_tools.image.directory import Directory

            self.layout = found = Directory(self.place.path)
            self.descriptor, self.name = found.top, None
            return self
        self.layout = layouts.at(self.place)
        self.descriptor = self.layout.find(self.place.name)
        self.name = layouts.ref_name(self.descriptor)
        return self

    def _from_archive(self, stream: Any, name: str | None, subject: str) -> None:
        from oci_tools.image import archive

        self._scratch = Scratch()
        self.layout = self._scratch.__enter__()
        try:
            if stream is None:
                images = archive.read_file(subject, self.layout)
            else:
                images = archive.read(stream, self.layout, subject)
            self.name, self.descriptor = archive.choose(images, name, subject)
        except BaseException:
            self._scratch.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._scratch:
            self._scratch.__exit__()
        else:
            self.layout.close()


class Scratch:
    """A layout that is gone after the `with` block."""

    def __enter__(self) -> Layout:
        cache = f"{fs.make_private(fs.root())}/cache"
        fs.make_private(cache)
        with fs.Lock(cache):  # so that nobody takes ours, made and not yet held, for a dead one
            _sweep(cache)
            self._layout = layouts.Layout.create(f"{cache}/archive-{os.urandom(8).hex()}")
            self._layout.lasts = False
        return self._layout

    def __exit__(self, *_: object) -> None:
        fs.remove_tree(self._layout.path)
        self._layout.close()


def _sweep(cache: str) -> None:
    """Remove the layouts of readers that are dead."""
    for name in os.listdir(cache):
        if name.startswith("archive-"):
            try:
                with fs.Lock(f"{cache}/{name}/blobs", timeout=0):
                    fs.remove_tree(f"{cache}/{name}")
            except Busy:
                continue
            except Error:  # it was killed before it had blobs/
                fs.remove_tree(f"{cache}/{name}")
