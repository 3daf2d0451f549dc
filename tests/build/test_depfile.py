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


@pytest.mark.parametrize(
    "name",
    ["a b", "a%b", "a#b", "a:b", "a$b", "a\\b", "a\\ b", "a\\\\%b", "a|b", "a=b", "a*b", "a?b", "a[b]", "~a", "a'b", "-a", "a(b",
     "d=/a b", "d%d/a", "x y%z#q:$|="],
)  # fmt: skip
def test_names_that_make_reads_otherwise(oci: Any, name: str, tmp_path: Path) -> None:
    file = tmp_path / "ctx" / name
    file.parent.mkdir(parents=True)
    file.write_text("1")
    (tmp_path / "ctx/Dockerfile").write_text("FROM scratch\nCOPY . /x\n")
    (tmp_path / "ctx/.dockerignore").write_text("Dockerfile")
    (tmp_path / "Makefile").write_text(MAKEFILE)

    def makes() -> bool:
        return "oci-build" in oci.run(["make"]).stdout

    assert makes() and not makes()
    os.utime(tmp_path / "img/index.json", (1e9, 1e9))
    for path in file.parent, tmp_path / "ctx", tmp_path / "ctx/Dockerfile", tmp_path / "ctx/.dockerignore":
        os.utime(path, (9e8, 9e8))
    os.utime(file, (2e9, 2e9))
    assert makes()
    os.utime(tmp_path / "img/index.json", (3e9, 3e9))
    assert not makes()
    file.unlink()
    assert makes()


def test_a_name_that_make_has_no_word_for(oci: Any, tmp_path: Path) -> None:
    """Its directory stands for it."""
    (tmp_path / "ctx").mkdir()
    for name in "a;b", "a\tb", "a\nb", "a(b)", "a\\":
        (tmp_path / "ctx" / name).write_text("1")
    (tmp_path / "ctx/Dockerfile").write_text("FROM scratch\nCOPY . /x\n")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    assert "oci-build" in oci.run(["make"]).stdout and "oci-build" not in oci.run(["make"]).stdout
    (tmp_path / "ctx/a;b").unlink()
    os.utime(tmp_path / "ctx", (3e9, 3e9))
    assert "oci-build" in oci.run(["make"]).stdout


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
