"""umoci, which fills plain directories as we do, makes the same of layers that others get wrong."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.bundle.test_flat import image
from tests.layer import invented, listing
from tests.long import rounds


@pytest.mark.root
@pytest.mark.needs("umoci")
@pytest.mark.parametrize("case", invented.AGREED)
def test_umoci_makes_the_same_of(case: str, oci: Any, tmp_path: Path) -> None:
    with Layout.create(f"{tmp_path}/img") as layout:
        layout.tag("x", image(layout, *invented.archives(invented.AGREED[case])).descriptor)
    theirs = oci.run(["umoci", "unpack", "--image", "img:x", "u"], code=None)
    done = oci("unpack", "./img:x", "b", code=min(theirs.returncode, 1))
    if not done.returncode:
        assert times(tmp_path / "b/rootfs") == times(tmp_path / "u/rootfs")


def layers(number: int) -> list[list[str]]:
    """Up to three layers of files, directories, links and marks that get into each other's way.

    What stands before what takes the place of its directory is left out: through a lower link umoci has put it elsewhere.
    """
    made = random.Random(number)
    names = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/f", "l", "l/a", "l/e", "l/e/f", "c", "c/a"]
    targets = ["a", "d", "d/a", "l", "l/a", "d/e", "missing", "/d", "/d/a", "../a", "d/e/f", "c", "c/a", "./a", "l/../a"]

    def entry() -> str:
        name = made.choice(names)
        parent, slash, last = name.rpartition("/")
        forms = (name, f"{name}/", f"{name}>{made.choice(targets)}", f"{name}={made.choice(targets)}",
                 f"{parent}{slash}.wh.{last}", f"{parent}{slash}.wh..wh..opq")  # fmt: skip
        return str(made.choices(forms, (22, 16, 20, 24, 12, 6))[0])

    def stays(entry: str, later: list[str]) -> bool:
        taken = (re.split("[>=]", other)[0] for other in later if not other.endswith("/"))
        return not any(entry.startswith(f"{name}/") for name in taken)

    found = [[entry() for _ in range(made.randint(1, 5))] for _ in range(made.randint(1, 3))]
    return [[one for at, one in enumerate(layer) if stays(one, layer[at + 1 :])] for layer in found]


@pytest.mark.root
@pytest.mark.needs("umoci")
def test_what_umoci_takes_of_any_layers_is_the_same(oci: Any, tmp_path: Path) -> None:
    """It refuses more: a name in a file, a hard link to nothing that something else takes the place of."""
    taken = 0
    for number in range(rounds(15, 2500)):
        place = tmp_path / str(number)
        with Layout.create(f"{place}/img") as layout:
            layout.tag("x", image(layout, *layers(number)).descriptor)
        theirs = oci.run(["umoci", "unpack", "--image", "img:x", "u"], code=None, cwd=place)
        done = oci("unpack", "./img:x", "b", code=None, cwd=place)
        if not theirs.returncode:
            assert done.returncode == 0, (number, layers(number), done.stderr)
            found = times(place / "b/rootfs")
            same = found == times(place / "u/rootfs") or found == marks_first(oci, number, place)
            assert same, (number, layers(number))
            taken += 1
    assert taken


def marks_first(oci: Any, number: int, place: Path) -> list[str]:
    """What umoci makes of the same with whiteouts before what else goes through the links that they take."""
    with Layout.open(f"{place}/img") as layout:
        sorted_ = (sorted(layer, key=lambda entry: ".wh." not in entry) for layer in layers(number))
        layout.tag("y", image(layout, *sorted_).descriptor)
    done = oci.run(["umoci", "unpack", "--image", "img:y", "v"], code=None, cwd=place)
    return [] if done.returncode else times(place / "v/rootfs")


def times(root: Path) -> list[str]:
    """The tree, without the times of directories: some are new."""
    return [line.text("" if line.kind == "d" else None) for line in listing.lines(root)]
