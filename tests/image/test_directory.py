"""`dir:`, skopeo's directories: what it writes we read, and the other way round."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.fault import killing
from tests.image.make import image, index
from tests.long import rounds


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


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.needs("strace")
def test_killed_at_any_system_call(oci: Any, tmp_path: Path, there: bool) -> None:
    """What is there is the old image or the new one, whole; the next run leaves nothing of the killed one."""
    both(tmp_path)
    new = digest(oci("pull", "--platform", "arm64", "./img:app", "./arm:app").stdout)
    words = [oci.bin / "oci-pull", "--platform", "arm64", "./img:app", "dir:d"]
    old = digest(oci("pull", "--platform", "amd64", "./img:app", "./amd:app").stdout) if there else ""

    def begin() -> None:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        if there:
            oci("pull", "./amd:app", "dir:d")
            (tmp_path / "d/mine").write_text("stays")

    begin()
    calls = killing.trace(words, tmp_path / "trace", env=oci.env, cwd=tmp_path)
    whole, around = names(tmp_path / "d"), names(tmp_path)
    assert ("mine" in whole) == there and len(whole) == 4 + there
    points, found = killing.points(calls), set()
    for at in random.Random(there).sample(points, min(len(points), rounds(20, 1000))):
        begin()
        killing.kill(words, calls, at, tmp_path / "trace", env=oci.env, cwd=tmp_path)
        if there or (tmp_path / "d").exists():
            found.add(digest(oci("pull", "dir:d", "./check").stdout))
            assert found <= {old, new}, f"{calls[at]} {at}"
            assert oci("image", "fsck", "./check").stdout == ""
            shutil.rmtree(tmp_path / "check")
        oci("pull", "--platform", "arm64", "./img:app", "dir:d")
        assert (names(tmp_path / "d"), names(tmp_path)) == (whole, around), f"{calls[at]} {at}"
        assert digest(oci("pull", "dir:d", "./check").stdout) == new
        shutil.rmtree(tmp_path / "check")
    assert found


def test_one_that_is_reached_by_a_link(oci: Any, tmp_path: Path) -> None:
    """It stays the same directory; two writers of it come one after the other, what fails leaves it as it was."""
    both(tmp_path)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real").mkdir()
    inode = (tmp_path / "real").stat().st_ino
    writers = [oci.start("pull", "--platform", one, "./img:app", "dir:link") for one in ("amd64", "arm64")]
    assert [one.wait() for one in writers] == [0, 0]
    assert (tmp_path / "real").stat().st_ino == inode and len(names(tmp_path / "real")) == 4
    before = {one.name: one.read_bytes() for one in (tmp_path / "real").iterdir()}
    for name in ("amd64", "arm64"):
        for one in json.loads(oci("image", "cat", "--platform", name, "./img:app").stdout)["layers"]:
            (tmp_path / "img/blobs" / one["digest"].replace(":", "/")).write_bytes(b"x" * one["size"])
    assert "wrong" in oci("pull", "--all-platforms", "./img:app", "dir:link", code=1).stderr
    assert {one.name: one.read_bytes() for one in (tmp_path / "real").iterdir()} == before


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
