"""Docker's old manifests, schema 1: what skopeo wrote into a registry that still takes them, and what is made by hand."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Answer, Docker, Fake, digest
from tests.registry.test_pull import complete

TYPE = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        yield made


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(found: dict[str, Any]) -> tuple[bytes, bytes]:
    """(a manifest with its signature, what was signed), as libtrust does it."""
    plain = json.dumps(found, indent=3).encode()
    length, tail = len(plain) - 2, plain[-2:]
    said = encode(json.dumps({"formatLength": length, "formatTail": encode(tail), "time": "2015"}).encode())
    more = json.dumps([{"header": {"alg": "ES256"}, "signature": "AAAA", "protected": said}])
    return plain[:length] + b',\n   "signatures": ' + more.encode() + b"\n}", plain


def image(fake: Fake, steps: list[tuple[bytes, dict[str, Any]]], **headers: str) -> dict[str, Any]:
    """Serve an image of these steps, oldest first."""
    for layer, _ in steps:
        fake.blob("app", layer)
    found = {
        "schemaVersion": 1, "name": "app", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{"blobSum": digest(layer)} for layer, _ in steps[::-1]],
        "history": [{"v1Compatibility": json.dumps(step)} for _, step in steps[::-1]],
    }  # fmt: skip
    data, plain = signed(found)
    answer = Answer(200, {"Content-Type": TYPE, "Docker-Content-Digest": digest(plain), **headers}, data)
    for name in ("v1", digest(plain)):
        for method in ("GET", "HEAD"):
            fake.on(method, f"/v2/app/manifests/{name}", answer)
    return {"digest": digest(plain)}


BASE, EMPTY, TOP = gzip.compress(b"base" * 100), gzip.compress(b"\0" * 1024), b"plain tar" * 100
STEPS = [
    (BASE, {"id": "1", "created": "2015-01-01T00:00:00Z", "container_config": {"Cmd": ["/bin/sh", "-c", "add"]}}),
    (EMPTY, {"id": "2", "throwaway": True, "container_config": {"Cmd": ["env"]}, "author": "me"}),
    (TOP, {"id": "3", "os": "linux", "architecture": "arm64", "config": {"Cmd": ["run"]}, "Size": 5, "parent": "2"}),
]


def test_an_image(oci: Any, fake: Fake, tmp_path: Path) -> None:
    old = image(fake, STEPS)
    said = oci("pull", f"{fake.host}/app:v1", "./img").stdout
    complete(tmp_path / "img")
    assert len(fake.seen("GET", "/blobs/")) == 2, "each layer comes once"
    assert oci("image", "fsck", "./img").stdout == ""
    shown = json.loads(oci("image", "inspect", "./img:v1").stdout)
    assert [(d["digest"], d["mediaType"].rpartition(".")[2]) for d in shown["manifest"]["layers"]] == [
        (digest(BASE), "tar+gzip"), (digest(TOP), "tar"),
    ]  # fmt: skip
    assert shown["config"]["architecture"] == "arm64" and shown["config"]["config"] == {"Cmd": ["run"]}
    assert shown["config"]["rootfs"]["diff_ids"] == [digest(b"base" * 100), digest(TOP)]
    assert [step.get("empty_layer") for step in shown["config"]["history"]] == [None, True, None]
    assert shown["config"]["history"][0]["created_by"] == "/bin/sh -c add"
    fake.asked.clear()
    assert oci("pull", f"{fake.host}/app:v1", "./img").stdout == said and not fake.seen("GET", "/manifests/")
    assert oci("pull", f"{fake.host}/app@{old['digest']}", "./by").stdout.rpartition("@")[2] == said.rpartition("@")[2]
    fake.asked.clear()
    oci("pull", "--format", "docker", f"{fake.host}/app:v1", "docker-archive:app.tar")
    assert len(fake.seen("GET", "/blobs/")) == 2, "each layer comes once, also where it is not kept"
    oci("image", "load", "app.tar", "./loaded")
    fake.asked.clear()
    oci("pull", "--format", "docker", f"{fake.host}/app:v1", "./as-docker")
    assert len(fake.seen("GET", "/blobs/")) == 2
    assert not list((tmp_path / "root/cache").glob("archive-*"))


def test_pushed_on(oci: Any, fake: Fake, registry: Any, tmp_path: Path) -> None:
    image(fake, STEPS)
    oci("push", f"docker://{fake.host}/app:v1", f"{registry.host}/new:1")
    assert len(fake.seen("GET", "/blobs/")) == 2
    oci("pull", f"{registry.host}/new:1", "./img")
    assert oci("image", "fsck", "./img").stdout == ""


def test_one_that_is_not_what_was_signed(oci: Any, fake: Fake) -> None:
    old = image(fake, STEPS)
    image(fake, STEPS[:1])
    changed = fake._answers["GET", "/v2/app/manifests/v1"]
    fake.on("GET", f"/v2/app/manifests/{old['digest']}", *changed)
    assert "wrong digest of manifest" in oci("pull", f"{fake.host}/app@{old['digest']}", "./img", code=1).stderr
    fake.blob("app", BASE)
    fake.on("GET", f"/v2/app/blobs/{digest(BASE)}", Answer(200, {}, b"x" * len(BASE)))
    assert "wrong digest" in oci("pull", f"{fake.host}/app:v1", "./img", code=1).stderr


@pytest.mark.needs("docker-registry", "skopeo")
def test_what_skopeo_wrote(oci: Any, busybox: Path, tmp_path: Path) -> None:
    with Docker(tmp_path / "peer", compatibility={"schema1": {"enabled": True}}) as peer:
        words = ["skopeo", "copy", "-q", "--format", "v2s1", "--dest-tls-verify=false"]
        subprocess.run([*words, f"oci:{busybox}:latest", f"docker://{peer.host}/old:1"], check=True)
        oci("pull", f"{peer.host}/old:1", "./img")
        oci("pull", "--unpack", "./bundle", f"{peer.host}/old:1", "./other")
    assert (tmp_path / "bundle/rootfs/bin/busybox").exists()
    assert oci("image", "fsck", "./img").stdout == ""
    done = oci("image", "diff", "--ignore", "manifest,config,layer", "./img:1", f"{busybox}:latest")
    assert done.stdout == ""
