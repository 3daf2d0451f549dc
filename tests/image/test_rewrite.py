"""Images in other words and under other compression: what changes, and what may not."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.image import rewrite
from tests import images
from tests.peers import CONFIG, INDEX, LAYER, MANIFEST, Answer, Fake, descriptor, digest
from tests.registry.test_pull import complete
from tests.registry.test_push import Layout

TYPES = {"gzip": f"{LAYER}+gzip", "zstd": f"{LAYER}+zstd"}
DOCKER = "application/vnd.docker"


def tar(name: str, size: int = 100_000) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        entry = tarfile.TarInfo(name)
        entry.size = size
        made.addfile(entry, io.BytesIO(name.encode() * size))
    return out.getvalue()


def image(layout: Layout, *parts: tuple[bytes, bytes, str], **more: Any) -> dict[str, Any]:
    """An image of (plain layer, as it is stored, media type)."""
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(p) for p, _, _ in parts]}}
    found = {"config": layout.put(config, CONFIG), "layers": [layout.put(stored, kind) for _, stored, kind in parts]}
    return layout.put({"schemaVersion": 2, "mediaType": MANIFEST, **found, **more}, MANIFEST)


def loaded(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((path / "blobs" / found["digest"].replace(":", "/")).read_text())
    return made


def only(path: Path) -> dict[str, Any]:
    (entry,) = complete(path)["manifests"]
    return loaded(path, entry)


@pytest.mark.parametrize("word, said", [("gzip", ("gzip", None)), ("zstd:19", ("zstd", 19)), (None, None)])
def test_words(word: str, said: Any) -> None:
    assert rewrite.compression(word) == said


@pytest.mark.parametrize("word", ["", "xz", "gzip:", "gzip:0", "gzip:10", "zstd:20", "zstd:x", "none"])
def test_words_that_make_no_sense(oci: Any, word: str) -> None:
    with pytest.raises(Error):
        rewrite.compression(word)
    for command in "pull", "push":
        done = oci(command, "--compress", word, "./a", "./b", code=2)
        assert "unknown compression" in done.stderr and done.stderr.count("\n") == 1
        assert "--referrers" in oci(command, "--compress=gzip", "--referrers", "a", "./b", code=2).stderr


@pytest.mark.needs("skopeo", "docker-registry")
@pytest.mark.parametrize("way", ["pull", "push", "archive", "local"])
def test_zstd_and_back(oci: Any, tmp_path: Path, registry: Any, busybox: Path, way: str) -> None:
    old = images.manifest(busybox)
    if way == "push":
        oci("push", "--compress=zstd:5", f"{busybox}:latest", f"{registry.host}/a")
        oci("pull", f"{registry.host}/a", "./new")
    elif way == "local":
        oci("pull", "--compress=zstd:5", f"{busybox}:latest", "./new")
    else:
        oci("push", f"{busybox}:latest", f"{registry.host}/a")
        target = "./new" if way == "pull" else "oci-archive:x.tar"
        oci("pull", "--compress=zstd:5", f"{registry.host}/a", target)
        if way == "archive":
            oci("pull", "oci-archive:x.tar", "./new")
    new = only(tmp_path / "new")
    assert new["config"] == old["config"] and [one["mediaType"] for one in new["layers"]] == [TYPES["zstd"]]
    oci("image", "fsck", "./new")  # diff ids too
    subprocess.run(["skopeo", "copy", "-q", f"oci:{tmp_path}/new", f"dir:{tmp_path}/dir"], check=True)
    oci("unpack", "./new", "./bundle")
    oci("push", "--compress=gzip", "./new", "./back")
    assert [one["mediaType"] for one in only(tmp_path / "back")["layers"]] == [TYPES["gzip"]]
    oci("push", "--compress=gzip:9", "./back", "./again")
    assert only(tmp_path / "again") == only(tmp_path / "back"), "what is so already stays"
    assert not list((tmp_path / "root").glob("cache/*/*"))


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("command", ["pull", "push"])
def test_format_with_a_registry(oci: Any, tmp_path: Path, registry: Any, busybox: Path, command: str) -> None:
    words = {"push": ("--format=docker",), "pull": ()}[command]
    oci("push", *words, f"{busybox}:latest", f"{registry.host}/a")
    oci("pull", *{"pull": ("--format=docker", "--compress=zstd"), "push": ()}[command], f"{registry.host}/a", "./img")
    found = only(tmp_path / "img")
    assert found["mediaType"] == f"{DOCKER}.distribution.manifest.v2+json"
    end = "gzip" if command == "push" else "zstd"
    assert [one["mediaType"] for one in found["layers"]] == [f"{DOCKER}.image.rootfs.diff.tar.{end}"]
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/a"], check=True, capture_output=True)
    assert (json.loads(raw.stdout) == found) == (command == "push")
    oci("pull", "--format=oci", "./img", "./oci")
    assert only(tmp_path / "oci")["mediaType"] == MANIFEST


def test_an_index_of_mixed_layers(oci: Any, tmp_path: Path, registry: Any) -> None:
    layout = Layout(tmp_path / "img")
    one, two = tar("one"), tar("two")
    packed = gzip.compress(two)
    foreign = f"{LAYER.replace('layer', 'layer.nondistributable')}"
    chunked = {"io.github.containers.zstd-chunked.manifest-position": "1", "a": "b"}
    made = image(layout, (one, one, LAYER), (two, packed, TYPES["gzip"]), (b"x", b"x", foreign))
    other = image(layout, (two, packed, TYPES["gzip"]), (one, one, LAYER), annotations={"k": "v"})
    found = loaded(layout.path, other)
    found["layers"][0]["annotations"] = chunked
    other = layout.put(found, MANIFEST)
    attestation = image(layout, (b"{}", b"{}", "application/vnd.in-toto+json"))
    said = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": made["digest"]}
    entries = [{**made, "platform": {"os": "linux", "architecture": "amd64"}},
               {**other, "platform": {"os": "linux", "architecture": "arm64"}}, {**attestation, "annotations": said}]  # fmt: skip
    layout.tag("v1", layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX))
    oci("push", "--allow-nondistributable", "./img:v1", f"{registry.host}/a")
    oci("pull", "--all-platforms", "--compress=zstd", f"{registry.host}/a", "./new")
    oci("pull", "--all-platforms", "--compress=zstd", "./img", "./local")
    index = only(tmp_path / "new")
    assert index == only(tmp_path / "local")
    first, second, third = index["manifests"]
    assert third["annotations"]["vnd.docker.reference.digest"] == first["digest"] and third["digest"] == attestation["digest"]
    layers = loaded(tmp_path / "new", first)["layers"]
    assert [layer["mediaType"] for layer in layers] == [TYPES["zstd"], TYPES["zstd"], foreign]
    changed = loaded(tmp_path / "new", second)
    assert changed["annotations"] == {"k": "v"} and changed["layers"][0]["annotations"] == {"a": "b"}
    assert [layer["digest"] for layer in changed["layers"]] == [layers[1]["digest"], layers[0]["digest"]]


def test_a_layer_that_is_not_its_diff_id_or_no_gzip(oci: Any, tmp_path: Path, registry: Any) -> None:
    layout = Layout(tmp_path / "img")
    one, two = tar("one"), tar("two")
    layout.tag("wrong", image(layout, (one, gzip.compress(two), TYPES["gzip"])))
    layout.tag("cut", image(layout, (one, gzip.compress(one)[:-9], TYPES["gzip"])))
    for name, words in (("wrong", "not diff id"), ("cut", "ends early")):
        oci("push", f"./img:{name}", f"{registry.host}/a:{name}")
        for source in (f"./img:{name}", f"{registry.host}/a:{name}"):
            for target in ("./new", "oci-archive:x.tar"):
                assert words in oci("pull", "--compress=zstd", source, target, code=1).stderr
        assert words in oci("push", "--compress=zstd", f"./img:{name}", f"{registry.host}/b", code=1).stderr
    assert not (tmp_path / "new").exists() and not (tmp_path / "x.tar").exists()
    assert not list((tmp_path / "root").glob("cache/*/*"))


def test_a_cut_layer_is_gone_on_with(oci: Any, tmp_path: Path) -> None:
    plain = tar("one", 3_000_000)
    packed = gzip.compress(plain, 0)
    with Fake() as fake:
        path = fake.blob("app", packed)
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}).encode()
        fake.blob("app", config)
        layers = [descriptor(TYPES["gzip"], packed)]
        fake.manifest("app", "v1", {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers})
        fake.before("GET", path, Answer(200, {"Content-Length": str(len(packed))}, packed, cut=1_000_000))
        oci("pull", "--compress=zstd", "--retry-delay=1", f"{fake.host}/app:v1", "./new")
        assert [one.headers.get("Range") for one in fake.seen("GET", path)] == [None, "bytes=1000000-"]
        fake.on("GET", path, Answer(200, {}, packed[:-1] + b"x"))
        assert "wrong digest" in oci("pull", "--compress=zstd", f"{fake.host}/app:v1", "./other", code=1).stderr
    assert only(tmp_path / "new")["layers"][0]["mediaType"] == TYPES["zstd"]
    assert not (tmp_path / "other").exists()
