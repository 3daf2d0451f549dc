"""What words mean: an image in a layout, an image anywhere, a layout."""

from __future__ import annotations

import os

from oci_tools import cli, fs
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.source import Source


def find(word: str) -> tuple[Layout, Descriptor]:
    """The image of a word: a name, a digest, or in the default store the beginning of an Id."""
    layout, found, _ = look_up(word)
    return layout, found


def look_up(word: str) -> tuple[Layout, Descriptor, str | None]:
    """The image of a word, and the name by which it was found; None for a digest or an Id."""
    from oci_tools.image import describe
    from oci_tools.image import digest as digests
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    try:
        place = refs.locate(word)
        layout = layouts.at(place)
        name = None if digests.valid(place.name) else place.name
        return layout, layout.find(place.name), name
    except Error as error:
        path, _, prefix = word.rpartition("@")
        try:
            layout = layouts.Layout.open(path or refs.store_path())
        except Error:
            raise _hinted(error, word) from None
        found = describe.by_id(layout, prefix)
        if found is None:
            raise _hinted(error, word) from None
        return layout, found, None


def _hinted(error: Error, word: str) -> Error:
    if error.hint is None and not word.startswith((".", "/")) and os.path.isdir(word.partition(":")[0]):
        error.hint = f"a layout is written ./{word}"
    return error


class Anywhere:
    """The image of a word that may be an archive or `-` too, for a `with` block: layout, descriptor, name."""

    layout: Layout
    descriptor: Descriptor
    name: str | None

    def __init__(self, word: str, blobs: str = "") -> None:
        self._word = word
        self._blobs = blobs
        self._source: Source | None = None

    def __enter__(self) -> Anywhere:
        from oci_tools.image import layout as layouts
        from oci_tools.image.source import Source

        elsewhere = ("oci-archive:", "docker-archive:", "docker://", "dir:")
        if self._blobs or self._word == "-" or self._word.startswith(elsewhere):
            self._source = Source(self._word, blobs=self._blobs)
            source = self._source.__enter__()
            self.layout, self.descriptor, self.name = source.layout, source.descriptor, source.name
        else:
            self.layout, self.descriptor, _ = look_up(self._word)
            self.name = layouts.ref_name(self.descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._source:
            self._source.__exit__()
        else:
            self.layout.close()


def whole(word: str | None, make: bool = False) -> Layout | None:
    """The layout of a word without a name in it; None for a default store that is not there and not to be made."""
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs

    if word is None:
        there = make or os.path.exists(f"{refs.store_path()}/oci-layout")
        return layouts.store(make) if there else None
    place = refs.locate(word)
    if place.name is not None or place.kind not in ("layout", "store"):
        raise Usage("not a layout", word, hint="it is written as a path: ./img")
    return layouts.at(place, make)


def wait(args: cli.Args) -> None:
    """Let locks wait as long as the options say."""
    fs.LOCK_TIMEOUT = float(args.lock_timeout)
