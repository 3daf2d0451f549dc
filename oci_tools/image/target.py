"""Where an image goes that is not a registry: a layout, new or not, or an archive.

    with Fresh(place) as layout: ...              a layout that an Error does not leave behind
    put(view, name, top, others, place)           into a layout
    write(view, name, top, others, place)         into an archive

`others` are `named` (referrers.py).  A view is a layout, or what can be read as one (convert.View,
registry/passage.py).
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Busy, Error
from oci_tools.image import layout as layouts
from oci_tools.image.referrers import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place

ARCHIVES = ("oci-archive", "docker-archive", "dir")  # dir: see directory.py


def put(view: Any, name: str | None, top: Descriptor, others: Iterable[Descriptor], place: Place) -> Layout:
    """Copy an image, and what refers to it, into a layout under the place's name or its own; the layout, held."""
    from oci_tools.image import copy

    with Fresh(place) as layout:
        parts = [top, *others]
        for one in parts:
            copy.copy(view, one, layout)
        given = place.name or layout.name_for(name)
        layout.tag(given, top)
        for one in parts[1:]:
            layout.tag(beside(given, layouts.ref_name(one)), one)
    return layout


def write(view: Any, name: str | None, top: Descriptor, others: Iterable[Descriptor], place: Place) -> str:
    """Write an image, and what refers to it, as an archive; its absolute path."""
    from oci_tools.image import archive, directory

    if place.kind == "dir":
        if list(others):
            raise Error("no place for what refers to an image", place.text, hint="oci-archive: has one")
        directory.write(view, top, place.path)
        return os.path.abspath(place.path)
    archive.write_file(view, [(place.name or name, top), *((layouts.ref_name(one), one) for one in others)], place.path)
    return os.path.abspath(place.path)


class Fresh:
    """A layout, for a `with` block, which leaves it held.

    One that did not exist does not after an Error, unless a later run can go on with what is there.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> Layout:
        path = self._place.path
        self._new = not os.path.exists(f"{path}/oci-layout")
        self._there = os.path.isdir(path)
        self.layout = layouts.at(self._place, make=True)
        return self.layout

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._new and isinstance(error, Error):
            self._unmake(isinstance(error, Busy))

    def _unmake(self, resumable: bool) -> None:
        """Take a layout away that was made for nothing; not one that has something, or another writer."""
        layout = self.layout
        layout.close()
        try:
            with fs.Lock(f"{layout.path}/blobs/", timeout=0):
                begun = [*os.listdir(f"{layout.path}/blobs/sha256"), *_listed(layout.beginnings)]
                if layout.index()["manifests"] or (resumable and begun):
                    return
                for part in ("oci-layout", "index.json", ".ingest", "blobs"):  # from here on it is no layout
                    fs.remove_tree(f"{layout.path}/{part}")
                if not self._there:
                    os.rmdir(layout.path)
        except (Error, OSError):
            pass  # it is valid, and empty: what failed before is to be said


def _listed(path: str) -> list[str]:
    return os.listdir(path) if os.path.isdir(path) else []
