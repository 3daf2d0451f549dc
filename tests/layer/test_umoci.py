"""umoci, which fills plain directories as we do, makes the same of layers that others get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.bundle.test_flat import image
from tests.layer import invented, listing


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


def times(root: Path) -> list[str]:
    """The tree, without the times of directories: some are new."""
    return [line.text("" if line.kind == "d" else None) for line in listing.lines(root)]
