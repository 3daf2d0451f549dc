"""--depfile: make builds an image exactly when it must."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("make")]

MAKEFILE = """
-include img.d
img/index.json:
\toci-build -t ./img:x --depfile img.d ctx
\ttouch $@
"""


def test_make_builds_when_it_must(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci.shell(f"cp -r {busybox} base")
    context = tmp_path / "ctx"
    (context / "src/deep").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM ./base:latest\nCOPY src /src\nRUN --mount=target=/m,source=bound cat /m > /b\n")
    (context / ".dockerignore").write_text("src/ignored\n")
    for name in "src/one", "src/deep/two words", "src/ignored", "bound", "other":
        (context / name).write_text(name)
    (tmp_path / "Makefile").write_text(MAKEFILE)

    def makes() -> bool:
        return "oci-build" in oci.run(["make"]).stdout

    later = [2_000_000_000.0]

    def touch(path: Path) -> None:
        later[0] += 1
        os.utime(path, (later[0], later[0]))
        os.utime(tmp_path / "img/index.json", (later[0] - 0.5, later[0] - 0.5))

    assert makes() and not makes()
    for name in "src/one", "src/deep/two words", "src/deep", "bound", "Dockerfile", ".dockerignore", "../base/index.json":
        touch(context / name)
        assert makes(), name
        os.utime(tmp_path / "img/index.json", (later[0] + 0.5, later[0] + 0.5))
        assert not makes(), name
    for name in "other", "src/ignored":
        touch(context / name)
        assert not makes(), name
    (context / "src/one").unlink()
    touch(context / "src")
    assert makes()
    rule = (tmp_path / "img.d").read_text()
    assert "ctx/src/deep/two\\ words" in rule and "src/one" not in rule
