"""What an image depends on, as make reads it: the files that were used, and the images it was built on.

    img/index.json: Dockerfile src src/main.c /srv/base/index.json
    Dockerfile:
    src/main.c:                      so that one that is gone is no error, but a reason to build

A directory is named with its files, since what is new in it is used too.  An image that is named by a tag is its
layout's index.json, in which the tag can move; one that is named by its digest never changes.

GNU make has no word for some names (_UNSAYABLE): of such a file its directory has to do.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.build.make import Made

_UNSAYABLE = re.compile(r"[;\t\n\r]|\\$|\(.*\)$")

def text(made: Made, target: str = "") -> Iterator[bytes]:
    """The rules, in pieces; of what, if not of `target`, is the index.json of the layout that the image is in."""
    made.files.update(_bases(made))
    needed = sorted(path for path in made.files if not re.search(_UNSAYABLE, path))
    if any("=" in path for path in needed):
        yield b"oci_build_equals := =\n"
    yield os.fsencode(f"{_shown(target or f'{made.layout.path}/index.json', True)}:")
    for path in needed:
        yield b" \\\n  " + os.fsencode(_shown(path))
    yield b"\n"
    for path in needed:
        if not os.path.isdir(path):
            yield os.fsencode(f"{_shown(path, True)}:\n")


def _bases(made: Made) -> list[str]:
    """The index.json that can tell of another base, for each that is not named by its digest."""
    return [f"{handle.rpartition('@')[0]}/index.json" for name, handle in made.bases.items() if "@" not in name]


def _shown(path: str, as_target: bool = False) -> str:
    """A path from here, if it is below, in make's words: as a target of a rule, or as what that needs."""
    path = os.path.abspath(path)
    here = os.getcwd().rstrip("/") + "/"
    path = path.removeprefix(here) if path != here[:-1] else "."
    quoted = " #:*?[]%" if as_target else " #:*?[]|"
    # A backslash is one for make too, save before what it quotes.
    path = re.sub(rf"(\\*)([{re.escape(quoted)}])", r"\1\1\\\2", path)
    return path.replace("$", "$$").replace("=", "$(oci_build_equals)")
