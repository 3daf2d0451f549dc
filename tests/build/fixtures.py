"""Builds by their words, of a Dockerfile that a test gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def built(oci: Any, busybox: Path, tmp_path: Path) -> Any:
    """Build a Dockerfile, in which BASE is busybox, with files for its context; the process that did it."""

    def build(dockerfile: str, *words: Any, files: dict[str, str] | None = None, code: int = 0, **more: Any) -> Any:
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        (context / "Dockerfile").write_text(dockerfile.replace("BASE", str(busybox)))
        return oci("build", "-t", "./img:x", *words, "context", code=code, **more)

    return build


@pytest.fixture
def cat(oci: Any) -> Any:
    """The content of a file of an image."""

    def cat(path: str, image: str = "./img:x") -> str:
        done: str = oci("unpack", "--path", path, image, "-").stdout
        return done

    return cat
