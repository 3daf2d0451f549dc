"""The memory of a pull does not depend on the image: what would take more is refused, in one line."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image import manifest as manifests
from oci_tools.image.layout import Layout
from tests.image.make import tar
from tests.long import rounds
from tests.peers import CONFIG as CONFIG_TYPE
from tests.peers import LAYER, Answer, Fake, digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = b"{}"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(CONFIG), "size": len(CONFIG)}
MOST = 60_000  # kilobytes
MIB = 1 << 20


def written(size: int, before: str, unit: str, after: str) -> bytes:
    """A manifest of so many bytes, with a member that is filled with units."""
    head = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": EMPTY, "layers": []})[:-1] + before
    return (head + unit * ((size - len(head) - len(after)) // len(unit)) + after).encode()


def described(size: int, key: str, media_type: str) -> bytes:
    """A manifest or an index of so many bytes that are descriptors."""
    many = [{"digest": digest(b"%d" % at), "size": 1} for at in range(size // 95)]
    top = {"schemaVersion": 2, "mediaType": media_type, "config": EMPTY, key: many}
    if media_type == INDEX:
        del top["config"]
    return json.dumps(top, separators=(",", ":")).encode()


def pulled(oci: Any, *words: object) -> tuple[int, str]:
    """The most memory of a pull, in kilobytes, and what it said; by way of a small process, as a child is as large as we."""
    code = "import os, sys; print(os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[2].ru_maxrss)"
    done = oci.run([sys.executable, "-ISc", code, oci.bin / "oci-pull", *words])
    return int(done.stdout.split()[-1]), str(done.stderr)


@pytest.fixture
def peak(oci: Any, tmp_path: Path) -> Any:
    """Pull a manifest: what is said of it, after the most memory that the pull had was judged."""

    def pull(
        data: bytes, media_type: str = MANIFEST, inner: tuple[bytes, ...] = (), *words: str, target: str = "./out"
    ) -> str:
        with Fake() as fake:
            for name in ("v1", digest(data)):
                fake.on("GET", f"/v2/app/manifests/{name}", Answer(200, {"Content-Type": media_type}, data))
            for one in inner:
                fake.on("GET", f"/v2/app/manifests/{digest(one)}", Answer(200, {"Content-Type": MANIFEST}, one))
            fake.on("GET", f"/v2/app/blobs/{digest(CONFIG)}", Answer(200, {}, CONFIG))
            most, said = pulled(oci, *words, f"{fake.host}/app:v1", target)
        assert most < MOST
        there = (tmp_path / "out").exists() or (tmp_path / "out.tar").exists()
        assert said.count("\n") == (0 if there else 1), said
        return said

    return pull


@pytest.mark.parametrize(
    ("size", "before", "unit", "after"),
    [
        (8 * MIB, ',"annotations":{"a":"', "x", '"}}'),
        (3 * MIB, ',"annotations":{"a":"\U0001f600', "x", '"}}'),
        (3 * MIB, ',"annotations":{"a":"', r"\u263a", '"}}'),
        (MIB // 2, ',"x":[0', ",[]", "]}"),
        (MIB // 2, ',"x":[0', ',{"":1}', "]}"),
    ],
)
def test_what_is_taken(peak: Any, size: int, before: str, unit: str, after: str) -> None:
    assert peak(written(size, before, unit, after)) == ""


@pytest.mark.parametrize(("unit", "size"), [(",[]", 2 * MIB), (',{"":1}', 2 * MIB), (',"ab"', 8 * MIB)])
def test_what_would_take_much(peak: Any, unit: str, size: int) -> None:
    assert "MB of memory, more than 32" in peak(written(size, ',"x":[0', unit, "]}"))


def test_many_layers_and_many_images(peak: Any) -> None:
    assert "there is no such thing" in peak(described(3 * MIB, "layers", MANIFEST))
    assert "no image for" in peak(described(3 * MIB, "manifests", INDEX), INDEX)
    assert "MB of memory" in peak(described(7 * MIB, "layers", MANIFEST))


def test_what_is_too_large(peak: Any) -> None:
    assert "it is larger than 8388608 bytes" in peak(written(15 * MIB, ',"annotations":{"a":"', "x", '"}}'))


def test_an_index_of_much(peak: Any, oci: Any) -> None:
    """What has come is in the layout, and nowhere else."""
    inner = tuple(written(MIB, f',"annotations":{{"a":"{at}', "x", '"}}') for at in range(80))
    described = [{"mediaType": MANIFEST, "digest": digest(one), "size": len(one)} for one in inner]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()
    assert peak(index, INDEX, inner, "--all-platforms") == ""
    assert oci("image", "fsck", "./out").stdout == ""
    assert len(json.loads(oci("image", "cat", "./out:v1").stdout)["manifests"]) == 80


def test_an_index_of_much_as_an_archive(peak: Any) -> None:
    """What its manifests say is not in memory, nor is what they are made of."""
    inner = [written(MIB, f',"annotations":{{"a":"{at}', "x", '"}}') for at in range(40)]
    for at in range(0, rounds(6_000, 40_000), 8):
        layers = [{"digest": digest(b"%d" % (at + one)), "size": 1} for one in range(8)]
        found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": EMPTY, "layers": layers}
        inner.append(json.dumps(found).encode())
    described = [{"mediaType": MANIFEST, "digest": digest(one), "size": len(one)} for one in inner]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()
    said = peak(index, INDEX, tuple(inner), "--all-platforms", target="oci-archive:out.tar")
    assert "there is no such thing" in said


def test_an_index_of_much_that_is_compressed_anew(oci: Any, registry: Any, tmp_path: Path) -> None:
    """Nor is what takes the place of its layers: 5,000 images of 8 layers each have taken 48 MB."""
    entries = []
    with Layout.create(str(registry.dir / "app")) as layout:
        layout.lasts = False
        for at in range(rounds(40, 1500)):
            tars = [tar((f"{at}-{one}", b"data")) for one in range(8)]
            layers = [layout.put(gzip.compress(data, 1), f"{LAYER}+gzip") for data in tars]
            config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": list(map(digest, tars))}}
            described = layout.put(json.dumps(config).encode(), CONFIG_TYPE)
            entries.append(layout.put(json.dumps(manifests.new(described, layers)).encode(), MANIFEST))
        layout.tag("v1", layout.put(json.dumps(manifests.new_index(entries)).encode(), INDEX))
    words = ("--all-platforms", "--compress", "zstd", f"{registry.host}/app:v1", "oci-archive:out.tar")
    most, said = pulled(oci, *words)
    assert most < MOST and said == ""
    made = oci("image", "load", "out.tar", "./out").stdout.splitlines()[0]
    assert oci("image", "fsck", "./out").stdout == ""
    index = json.loads(oci("image", "cat", made).stdout)
    assert len(index["manifests"]) == len(entries)
    last = json.loads((tmp_path / "out/blobs" / index["manifests"][-1]["digest"].replace(":", "/")).read_bytes())
    assert {layer["mediaType"] for layer in last["layers"]} == {f"{LAYER}+zstd"}


@pytest.mark.parametrize("there", [False, True])
def test_an_index_of_much_that_fails_half_way(oci: Any, tmp_path: Path, there: bool) -> None:
    """What had come into a new layout goes with it; in one that was there nothing leads to it, and gc takes it."""
    inner = tuple(written(MIB, f',"annotations":{{"a":"{at}', "x", '"}}') for at in range(6))
    described = [{"mediaType": MANIFEST, "digest": digest(one), "size": len(one)} for one in inner]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()
    with Fake() as fake:
        kept = fake.image("app", "kept", [b"layer"])
        fake.blob("app", CONFIG)
        fake.manifest("app", "v1", index, INDEX)
        for one in inner[:5]:
            fake.manifest("app", "", one, MANIFEST)
        if there:
            oci("pull", f"{fake.host}/app:kept", "./out")
        said = oci("pull", "--all-platforms", f"{fake.host}/app:v1", "./out", code=1).stderr
        assert said.count("\n") == 1 and "there is no such thing" in said
        if not there:
            assert not (tmp_path / "out").exists()
            return
        assert oci("image", "fsck", "./out").stdout == ""
        assert json.loads((tmp_path / "out/index.json").read_text())["manifests"][0]["digest"] == kept["digest"]
        oci("image", "gc", "--grace", "0", "./out")
        assert len(list((tmp_path / "out/blobs/sha256").iterdir())) == 3
        fake.manifest("app", "", inner[5], MANIFEST)
        oci("pull", "--all-platforms", f"{fake.host}/app:v1", "./out")
        assert oci("image", "fsck", "./out").stdout == ""


def test_nothing_of_an_index_comes_that_may_not(oci: Any, tmp_path: Path) -> None:
    with Fake() as fake:
        fake.index("app", "v1", [fake.image("app", "", [b"%d" % at]) for at in range(3)])
        (tmp_path / "policy.json").write_text('{"default": [{"type": "reject"}]}')
        said = oci("pull", "--policy", "policy.json", "--all-platforms", f"{fake.host}/app:v1", "./out", code=1).stderr
        assert "image is rejected" in said and not fake.seen("GET", "/blobs/")
        assert len(fake.seen("GET", "/manifests/")) == 1 and not (tmp_path / "out").exists()
