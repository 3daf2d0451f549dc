"""What an image depends on, as make reads it: the files that were used, and the images it was built on.

    img/index.json: Dockerfile src src/main.c /srv/base/index.json
    Dockerfile:
    src/main.c:                      so that one that is gone is no error, but a reason to build

A directory is named with its files, since what is new in it is used too.  An image that is named by a tag is its
layout's index.json, in which the tag can move; one that is named by its digest never changes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.build.make import Made


def text(made: Made, target: str = "") -> Iterator[bytes]:
    """The rules, in pieces; of what, if not of `target`, is the index.json of the layout that the image is in."""
    yield os.fsencode(f"{_shown(target or f'{made.layout.path}/index.json')}:")
    made.files.update(_bases(made))
    needed = sorted(made.files)
    for path in needed:
        yield b" \\\n  " + os.fsencode(_shown(path))
    yield b"\n"
    for path in needed:
        if not os.path.isdir(path):
            yield os.fsencode(f"{_shown(path)}:\n")


def _bases(made: Made) -> list[str]:
    """The index.json that can tell of another base, for each that is not named by its digest."""
    return [f"{handle.rpartition('@')[0]}/index.json" for name, handle in made.bases.items() if "@" not in name]


def _shown(path: str) -> str:
    """A path from here, if it is below, in make's words."""
    path = os.path.abspath(path)
    here = os.getcwd().rstrip("/") + "/"
    path = path.removeprefix(here) if path != here[:-1] else "."
    for c in "\\ #:%":
        path = path.replace(c, f"\\{c}")
    return path.replace("$", "$$")
