"""`dir:`, skopeo's directories: what it writes we read, and the other way round."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.image.make import image, index


def skopeo(*words: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *words], check=True)


def both(tmp_path: Path) -> str:
    """A layout with an index of two images; its digest."""
    with Layout.create(str(tmp_path / "img")) as layout:
        parts = []
        for name in ("amd64", "arm64"):
            made = image(layout, name, gzip.compress, platform=f"linux/{name}")  # skopeo packs what is not
            parts.append({**made, "platform": {"os": "linux", "architecture": name}})
        made = index(layout, *parts)
        layout.tag("app", made)
    return str(made["digest"])


def digest(said: str) -> str:
    return said.strip().rpartition("@")[2]


@pytest.mark.needs("skopeo")
def test_what_skopeo_wrote(oci: Any, tmp_path: Path, registry: Any) -> None:
    top = both(tmp_path)
    skopeo("--all", f"oci:{tmp_path}/img:app", f"dir:{tmp_path}/theirs")
    assert digest(oci("pull", "--all-platforms", "dir:theirs", "./out:app").stdout) == top
    assert oci("image", "fsck", "./out").stdout == ""
    assert digest(oci("push", "dir:theirs", f"{registry.host}/app:1").stdout) == top
    oci("image", "copy", "dir:theirs", "oci-archive:x.tar")
    assert digest(oci("image", "load", "x.tar", "./loaded").stdout.splitlines()[0]) == top
    one = digest(oci("pull", "--platform", "arm64", "dir:theirs", "./one").stdout)
    skopeo("--override-arch", "arm64", f"oci:{tmp_path}/img:app", f"dir:{tmp_path}/arm")
    assert digest(oci("pull", "dir:arm", "./again").stdout) == one


@pytest.mark.needs("skopeo")
def test_what_skopeo_reads(oci: Any, tmp_path: Path, registry: Any) -> None:
    top = both(tmp_path)
    assert oci("pull", "--all-platforms", "./img:app", "dir:ours").stdout == f"{tmp_path}/ours\n"
    skopeo("--all", f"dir:{tmp_path}/ours", f"oci:{tmp_path}/back:app")
    assert json.loads((tmp_path / "back/index.json").read_text())["manifests"][0]["digest"] == top
    oci("push", "./img:app", f"{registry.host}/app:1")
    oci("pull", "--all-platforms", f"{registry.host}/app:1", "dir:pulled")
    oci("image", "copy", "./img:app", "dir:copied")
    for name in ("pulled", "copied"):
        subprocess.run(["diff", "-r", "ours", name], cwd=tmp_path, check=True)


def test_what_is_there_already(oci: Any, tmp_path: Path) -> None:
    both(tmp_path)
    (tmp_path / "empty").mkdir()
    oci("pull", "--platform", "amd64", "./img:app", "dir:empty")
    before = sorted(path.name for path in (tmp_path / "empty").iterdir())
    oci("pull", "--platform", "arm64", "./img:app", "dir:empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/version").write_text("3\n")
    said = oci("pull", "./img:app", "dir:mine", code=1).stderr
    assert said == f"oci-pull: cannot write '{tmp_path}/mine': it is a directory of something else\n"
    assert (tmp_path / "mine/version").read_text() == "3\n"
    assert "cannot write" in oci("pull", "./img:app", "dir:no/where", code=1).stderr
    assert not [path for path in tmp_path.iterdir() if ".new" in path.name]


@pytest.mark.parametrize(
    "name, data, why",
    [
        ("version", b"Directory Transport Version: 2.0\n", "unknown version"), ("manifest.json", b"[]", "not an object"),
        ("manifest.json", b"", "json"), ("manifest.json", None, "no such file"), ("blob", b"x", "wrong size"), ("blob", None, "missing blob"),
    ],
)  # fmt: skip
def test_broken(oci: Any, tmp_path: Path, name: str, data: bytes | None, why: str) -> None:
    both(tmp_path)
    oci("pull", "--platform", "amd64", "./img:app", "dir:d")
    path = next(p for p in sorted((tmp_path / "d").iterdir()) if (len(p.name) == 64 if name == "blob" else p.name == name))
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    done = oci("pull", "dir:d", "./out", code=1)
    assert why in done.stderr and done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_no_place_for_signatures(oci: Any, tmp_path: Path) -> None:
    both(tmp_path)
    (tmp_path / "note").write_text("x")
    oci("image", "artifact", "create", "--subject", "./img:app", "./img", "note")
    oci("pull", "--all-platforms", "--referrers", "./img:app", "./whole")
    said = oci("pull", "--all-platforms", "--referrers", "./img:app", "dir:d", code=1).stderr
    assert "no place for what refers to an image" in said and not (tmp_path / "d").exists()
