"""Layouts whose blobs lie in one directory, DIR/ALGORITHM/HEX, each there once: skopeo's `--src-shared-blob-dir` and
`--dest-shared-blob-dir`.

A layout that is made here has a link to it under the name `blobs`, so that every command, and every other tool, reads
it as any other; one of skopeo's has an empty `blobs`, so it must be said where they are.  Its writers are kept apart
by a lock on the directory, and what is on its way lies in it; gc leaves it alone, since nobody knows who else counts
on it.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.image.layout import Layout


def opened(path: str, directory: str) -> Layout:
    """A layout that lacks blobs which are in a directory."""
    if not os.path.isdir(directory):
        raise Error("no such directory", directory)
    layout = Layout.open(path)
    layout.also = os.path.abspath(directory)
    return layout


def create(path: str, directory: str) -> Layout:
    """A layout, made if there is none, whose blobs go into a directory, made if there is none."""
    directory, link = os.path.abspath(directory), f"{os.path.abspath(path)}/blobs"
    try:
        os.makedirs(f"{directory}/sha256", exist_ok=True)
        os.makedirs(path, exist_ok=True)
        if not (os.path.isdir(link) and os.path.samefile(link, directory)):
            _link(link, directory)
    except OSError as error:
        raise Error("cannot share blobs of", path, error) from None
    return Layout.create(path)


def _link(link: str, directory: str) -> None:
    """Put a link in the place of nothing, or of directories without blobs."""
    for path in (f"{link}/sha256", f"{link}/sha512", link):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
    os.symlink(directory, link)
