"""Artifacts of files, and files of artifacts: ours, oras's, and hostile ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import MANIFEST
from tests.registry.test_push import Layout

EMPTY = "application/vnd.oci.empty.v1+json"


def load(layout: Path, handle: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "blobs/sha256" / handle.strip().rpartition(":")[2]).read_text())
    return found


def test_create_and_extract(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a").write_bytes(b"one")
    (tmp_path / "in/deep/b:c").write_bytes(b"")
    (tmp_path / "c").write_bytes(b"three")
    words = ("in/a:text/plain", "./in/deep/b:c", str(tmp_path / "c"))
    made = oci("image", "artifact", "create", "--artifact-type", "x/kind", "-a", "k=v", "./img:a", *words).stdout
    found = load(tmp_path / "img", made)
    assert found["artifactType"] == "x/kind" and found["annotations"] == {"k": "v"}
    assert found["config"]["mediaType"] == EMPTY
    layers = [(d["mediaType"], d["annotations"]["org.opencontainers.image.title"]) for d in found["layers"]]
    other = "application/octet-stream"
    assert layers == [("text/plain", "in/a"), (other, "in/deep/b:c"), (other, "c")]
    assert oci("image", "artifact", "create", "--artifact-type", "x/kind", "-a", "k=v", "./img:b", *words).stdout == made
    said = oci("image", "artifact", "extract", "./img:a", "./out").stdout.split()
    assert said == ["./out/in/a", "./out/in/deep/b:c", "./out/c"]
    assert [(tmp_path / path).read_bytes() for path in said] == [b"one", b"", b"three"]
    (tmp_path / "out/in/a").unlink()
    assert "file exists" in oci("image", "artifact", "extract", "./img:a", "./out", code=1).stderr
    assert not (tmp_path / "out/in/a").exists() and oci("image", "fsck", "./img").stdout == ""


def test_what_is_about_an_image_goes_with_it(oci: Any, registry: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "img")
    image = layout.image("v1", b"layer")
    (tmp_path / "sbom.json").write_bytes(b"{}")
    made = oci("image", "artifact", "create", "--subject", "./img:v1", "./img", "sbom.json:application/spdx+json").stdout
    assert load(tmp_path / "img", made)["subject"] == image
    assert made.strip().rpartition("@")[2] in oci("image", "referrers", "./img:v1").stdout
    oci("push", "--referrers", "./img:v1", f"{registry.host}/a:v1")
    oci("pull", "--referrers", f"{registry.host}/a:v1", "./back")
    handle = f"./back@{made.strip().rpartition('@')[2]}"
    assert oci("image", "artifact", "extract", handle, "out").stdout == "out/sbom.json\n"
    alone = oci("image", "artifact", "create", "--subject", "./img:v1", "-a", "said=so", "./img").stdout
    found = load(tmp_path / "img", alone)
    assert [layer["mediaType"] for layer in found["layers"]] == [EMPTY] and found["annotations"] == {"said": "so"}


@pytest.mark.needs("oras")
def test_oras_both_ways(oci: Any, registry: Any, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "two.json").write_bytes(b"[]")
    env = {**os.environ, "HOME": str(tmp_path)}
    oras = ["oras", "push", "--plain-http", "--artifact-type", "x/y", f"{registry.host}/theirs:1", "one", "two.json:application/json"]
    subprocess.run(oras, check=True, cwd=tmp_path, env=env, capture_output=True)
    oci("pull", f"{registry.host}/theirs:1", "./img")
    assert oci("image", "artifact", "extract", "./img:1", "./out").stdout.split() == ["./out/one", "./out/two.json"]
    oci("image", "artifact", "create", "--artifact-type", "x/y", "./img:mine", "one", "two.json")
    oci("push", "./img:mine", f"{registry.host}/ours:1")
    subprocess.run(["oras", "pull", "--plain-http", "-o", tmp_path / "back", f"{registry.host}/ours:1"],
                   check=True, env=env, capture_output=True)  # fmt: skip
    assert (tmp_path / "back/one").read_bytes() == b"one" and (tmp_path / "back/two.json").read_bytes() == b"[]"


@pytest.mark.parametrize("title", ["../x", "/x", "a/../../x", "", ".", "a//b", "a/", "link/x", "link", "\0", 5, "n" * 300, "a/./b"])
def test_names_that_lead_elsewhere(oci: Any, tmp_path: Path, title: Any) -> None:
    """Nothing is written for any of them, nor for a good one before."""
    layout = Layout(tmp_path / "img")
    layers = [layout.put(b"evil", "x/y", annotations={"org.opencontainers.image.title": one}) for one in ("good", title)]
    found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": layout.put(b"{}", EMPTY), "layers": layers}
    layout.tag("a", layout.put(found, MANIFEST))
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/link").symlink_to("../elsewhere")
    done = oci("image", "artifact", "extract", "./img:a", "./out", code=1)
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert os.listdir(tmp_path / "elsewhere") == [] and not (tmp_path / "x").exists()
    assert os.listdir(tmp_path / "out") == ["link"]


def test_what_cannot_be_done(oci: Any, tmp_path: Path) -> None:
    create = ("image", "artifact", "create", "./img:a")
    for words, code, said in (
        ((), 2, "nothing to make an artifact of"),
        (("none",), 1, "no such file"),
        ((".",), 1, "is a directory"),
    ):
        done = oci(*create, *words, code=code)
        assert said in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "f").write_bytes(b"x")
    assert "two files are called 'f'" in oci(*create, "f", str(tmp_path / "f"), code=1).stderr
    assert "no such" in oci(*create, "--subject", "./img:none", "f", code=1).stderr
    Layout(tmp_path / "other").image("v1", b"x")
    assert "has a title" in oci("image", "artifact", "extract", "./other:v1", "./out", code=1).stderr
    assert not (tmp_path / "out").exists()
