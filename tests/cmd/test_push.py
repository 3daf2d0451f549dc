"""oci-push's words; what it does with registries is in tests/registry/test_push.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "missing argument 'IMAGE'"),
        (("a",), "missing argument 'TARGET'"),
        (("a", "b", "c"), "unexpected extra argument"),
        (("--chunk-size", "x", "a", "b"), "invalid value for"),
    ],
)
def test_words_that_make_no_sense(oci: Any, words: tuple[str, ...], said: str) -> None:
    done = oci("push", *words, code=2)
    assert said in done.stderr and done.stderr.startswith("oci-push: ") and done.stderr.count("\n") == 1


def test_one_line_and_nothing_else(oci: Any, registry: Any, busybox: Path) -> None:
    for word in (f"{registry.host}/a", f"docker://{registry.host}/a:x"):
        done = oci("push", f"{busybox}:latest", word)
        assert done.stdout.startswith(f"{registry.host}/a@sha256:") and done.stdout.count("\n") == 1
        assert done.stderr == ""


def test_what_is_not_there(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    for word in ("nothing", "./nothing", f"{busybox}:nothing", f"{busybox}@sha256:{'0' * 64}"):
        done = oci("push", word, f"{registry.host}/a", code=1)
        assert done.stderr.count("\n") == 1 and not done.stdout
    assert not list(registry.dir.iterdir())


def test_a_platform_of_a_plain_image(oci: Any, registry: Any, busybox: Path) -> None:
    oci("push", "--platform", "s390x", f"{busybox}:latest", f"{registry.host}/a")  # taken as it is
