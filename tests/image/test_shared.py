"""Blobs that several layouts share: ours, and skopeo's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Fake


def skopeo(*words: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *words], check=True)


@pytest.mark.needs("skopeo")
def test_two_layouts_with_the_same_blobs(oci: Any, busybox: Path, registry: Any, tmp_path: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/b:1")
    for name in ("one", "two"):
        oci("pull", "--blobs-to", "./blobs", f"{registry.host}/b:1", f"./{name}:b")
        assert oci("image", "fsck", f"./{name}").stdout == ""
        assert (tmp_path / name / "blobs").resolve() == tmp_path / "blobs"
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["blobs", "index.json", "oci-layout"]
    blobs = sorted((tmp_path / "blobs/sha256").iterdir())
    assert len(blobs) == 3 and [path.name for path in (tmp_path / "blobs").iterdir()] == ["sha256"]
    skopeo(f"oci:{tmp_path}/two:b", f"oci:{tmp_path}/read:b")  # no option is needed
    oci("image", "rm", "./one:b")
    said = oci("image", "gc", "--grace", "0", "./one")
    assert said.stdout.startswith("image\t") and "left all blobs in" in said.stderr
    assert sorted((tmp_path / "blobs/sha256").iterdir()) == blobs and oci("image", "fsck", "./two").stdout == ""


@pytest.mark.needs("skopeo")
def test_skopeos(oci: Any, busybox: Path, registry: Any, tmp_path: Path) -> None:
    skopeo("--dest-shared-blob-dir", f"{tmp_path}/theirs", f"oci:{busybox}:latest", f"oci:{tmp_path}/img:b")
    assert "missing blob" in oci("push", "./img:b", f"{registry.host}/b:1", code=1).stderr
    made = oci("push", "--blobs-from", "theirs", "./img:b", f"{registry.host}/b:1").stdout.strip().rpartition("@")[2]
    for words in (("pull", "./img:b", "./out"), ("image", "copy", "./img:b", "./copy"), ("push", "./img:b", "oci-archive:x.tar")):
        oci(*words[:-2], "--blobs-from", "theirs", *words[-2:])
    assert oci("image", "ls", "--fields", "digest", "./out", "./copy").stdout == f"{made}\n" * 2
    oci("image", "copy", "--blobs-from", "theirs", "--blobs-to", "theirs", "./img:b", "./img:again")  # it becomes one of ours
    assert oci("image", "fsck", "./img").stdout == ""
    skopeo("--src-shared-blob-dir", f"{tmp_path}/theirs", f"oci:{tmp_path}/img:again", f"oci:{tmp_path}/read:b")


def test_a_cut_pull_goes_on(oci: Any, tmp_path: Path) -> None:
    from tests.peers import Answer

    layer = b"layer" * 1000
    with Fake() as fake:
        fake.image("app", "v1", [layer])
        path = fake.blob("app", layer)
        fake.before("GET", path, Answer(200, {"Content-Length": str(len(layer))}, layer, cut=3000))
        pull = ("pull", "--retries", "0", "--blobs-to", "./blobs", f"{fake.host}/app:v1", "./img")
        oci(*pull, code=75)
        assert len(list((tmp_path / "blobs/.ingest").iterdir())) == 1
        fake.asked.clear()
        oci(*pull)
        assert fake.seen("GET", "/blobs/")[-1].headers.get("Range") or fake.seen("GET", "/blobs/")[0].headers.get("Range")
    assert oci("image", "fsck", "./img").stdout == "" and not (tmp_path / "blobs/.ingest").exists()


def test_where_it_makes_no_sense(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci("pull", f"{busybox}:latest", "./img")
    assert "cannot share blobs of './img'" in oci("pull", "--blobs-to", "b", f"{busybox}:latest", "./img", code=1).stderr
    assert json.loads((tmp_path / "img/index.json").read_text())["manifests"] and oci("image", "fsck", "./img").stdout == ""
    assert "no such directory 'none'" in oci("pull", "--blobs-from", "none", f"{busybox}:latest", "./x", code=1).stderr
    for words in (("--blobs-to", "b", f"{busybox}:latest", "name"), ("--blobs-from", "b", "registry.test/x", "./x"),
                  ("--blobs-to", "b", f"{busybox}:latest", "oci-archive:x.tar")):  # fmt: skip
        assert "--blobs-" in oci("pull", *words, code=2).stderr
