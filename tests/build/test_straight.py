"""COPY straight into an archive gives what packing a root gives, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root]
MAKE = """
mkdir -p d/e/f d/empty; echo 1 > d/1; echo 2 > d/e/2; ln d/1 d/e/hard; ln -s ../1 d/e/link; mkfifo d/pipe; mknod d/dev c 1 3
chmod 4711 d/e/2; chmod 1777 d/e/f; chmod 700 d/e; chown 5:6 d/1; : > d/nothing; echo no > d/e/skip.md; truncate -s 5M d/sparse
touch -d @800000000 d/1 d/e d; chmod 711 d
"""


@pytest.mark.parametrize(
    "base, line, straight",
    [
        ("BASE", "COPY d /x", True),
        ("BASE", "COPY d /usr/share/deep/x/", True),
        ("BASE", "COPY d /empty/", True),
        ("BASE", "COPY --chown=7:8 --chmod=640 d /x", True),
        ("BASE", "COPY --exclude=*.md --exclude=e/*.md d /x", True),
        ("BASE", "COPY --from=BASE /etc /x", True),
        ("BASE", "ADD d /x", True),
        ("BASE", "COPY --link d /usr/x", True),
        ("scratch", "COPY d /x/y", True),
        ("BASE", "COPY d /etc", False),
        ("BASE", "COPY d /tolink/x", False),
        ("scratch", "COPY d /", False),
        ("BASE", "COPY d/1 /x", False),
    ],
)
def test_it_is_the_same(oci: Any, busybox: Path, tmp_path: Path, base: str, line: str, straight: bool) -> None:
    context = tmp_path / "context"
    context.mkdir()
    subprocess.run(["sh", "-ec", MAKE], cwd=context, check=True)
    os.setxattr(context / "d/1", "user.a", b"b")
    first = f"FROM {base}\n" + ("RUN mkdir -m 750 /empty && chown 9:9 /empty && ln -s etc /tolink\n" if base == "BASE" else "")
    text = f"{first}{line}\n".replace("BASE", str(busybox))
    env: dict[str, str | None] = {"SOURCE_DATE_EPOCH": "1600000000"}
    (context / "Dockerfile").write_text(text)
    oci("build", "-t", "./img:one", "context", env=env)
    trees = list((tmp_path / "root/layers/sha256").iterdir())
    (context / "Dockerfile").write_text(f"{text}COPY d/1 /more\n")
    oci("build", "-t", "./img:two", "--no-cache", "context", env=env)
    one, two = (json.loads(oci("image", "inspect", f"./img:{name}").stdout)["config"]["rootfs"]["diff_ids"] for name in ("one", "two"))
    assert one[-1] == two[-2]
    assert (one[-1].partition(":")[2] not in {tree.name for tree in trees}) is straight
    assert oci("image", "fsck", "./img").returncode == 0
