"""Layers in every form that there is come out as the same tree: lazy formats are read as the gzip and zstd that they are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image.layout import Layout
from tests.layer import listing, make

GZIP, ZSTD, NONE = (f"application/vnd.oci.image.layer.v1.tar{more}" for more in ("+gzip", "+zstd", ""))
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def estargz(plain: bytes) -> bytes:
    """As stargz-snapshotter's docs/estargz.md has it: members at will, the index as a last file, a footer of 51 bytes.

    The footer is an empty member whose extra field says where the index's member begins.
    """
    toc = make.archive(("stargz.index.json", b'{"version":1,"entries":[]}'))
    body = b"".join(gzip.compress(plain[at : at + 512]) for at in range(0, len(plain) - 1024, 512))
    where = b"%016xSTARGZ" % len(body)
    extra = b"SG" + len(where).to_bytes(2, "little") + where
    footer = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + len(extra).to_bytes(2, "little") + extra + b"\x01\0\0\xff\xff" + bytes(8)
    assert len(footer) == 51
    return body + gzip.compress(toc) + footer


def image(place: Path, *layers: tuple[bytes, bytes, str]) -> None:
    """An image of layers: the plain archive, the blob, its type."""
    with Layout.create(str(place)) as layout:
        config, found = configs.new(), []
        for plain, blob, kind in layers:
            config = configs.with_layer(config, digests.of(plain))
            found.append(layout.put(blob, kind))
        layout.tag("x", configs.store(layout, config, found))


PLAIN = make.archive("d/", ("d/a", b"a" * 5000), "l>d/a", "h=d/a", "é")
TREE = ["d", "d/a", "h", "l", "\\xc3\\xa9"]
ZSTANDARD = zstandard.ZstdCompressor(write_checksum=True).compress
SKIPPED = b"\x5a\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.mark.parametrize(
    ("blob", "kind"),
    [
        (PLAIN, NONE), (gzip.compress(PLAIN), GZIP), (gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]), GZIP),
        (gzip.compress(PLAIN), DOCKER), (ZSTANDARD(PLAIN), ZSTD), (ZSTANDARD(PLAIN[:512]) + ZSTANDARD(PLAIN[512:]), ZSTD),
        (SKIPPED + ZSTANDARD(PLAIN) + SKIPPED, ZSTD),
    ],
    ids=["none", "gzip", "members", "docker", "zstd", "frames", "skippable"],
)  # fmt: skip
def test_a_form(blob: bytes, kind: str, oci: Any, tmp_path: Path) -> None:
    image(tmp_path / "img", (PLAIN, blob, kind))
    assert oci("unpack", "./img:x", "b").stderr == ""
    assert [line.path for line in listing.lines(tmp_path / "b/rootfs")] == TREE


def test_estargz(oci: Any, tmp_path: Path) -> None:
    """The index is a file of the layer for who knows nothing of it, and counts in the diff id."""
    blob = estargz(PLAIN)
    image(tmp_path / "img", (gzip.decompress(blob), blob, GZIP))
    oci("unpack", "./img:x", "b")
    assert [line.path for line in listing.lines(tmp_path / "b/rootfs")] == [*TREE[:-1], "stargz.index.json", TREE[-1]]


def test_mixed_forms(oci: Any, tmp_path: Path) -> None:
    layers = [make.archive(f"d/{at}", "d/.wh.2") for at in range(4)]
    blobs = [layers[0], gzip.compress(layers[1]), ZSTANDARD(layers[2]), gzip.compress(layers[3])]
    image(tmp_path / "img", *zip(layers, blobs, (NONE, GZIP, ZSTD, DOCKER), strict=True))
    oci("unpack", "./img:x", "b")
    assert [line.path for line in listing.lines(tmp_path / "b/rootfs")] == ["d", "d/0", "d/1", "d/3"]


@pytest.mark.parametrize("said", [GZIP, ZSTD, NONE])
@pytest.mark.parametrize("is_", ["gzip", "zstd", "none"])
def test_a_type_that_lies(said: str, is_: str, oci: Any, tmp_path: Path) -> None:
    blob = {"gzip": gzip.compress, "zstd": ZSTANDARD, "none": bytes}[is_](PLAIN)
    image(tmp_path / "img", (PLAIN, blob, said))
    text = oci("unpack", "./img:x", "b").stderr
    assert [line.path for line in listing.lines(tmp_path / "b/rootfs")] == TREE
    honest = is_ == {GZIP: "gzip", ZSTD: "zstd", NONE: "none"}[said]
    what = "not compressed" if is_ == "none" else is_
    assert text == ("" if honest else f"oci-unpack: warning: layer '{digests.of(blob)}' is {what}, whatever its type says\n")


@pytest.fixture
def chunked(oci: Any, busybox: Path, tmp_path: Path) -> Iterator[str]:
    """busybox as podman writes zstd:chunked."""
    store = f"podman --root {tmp_path}/p/root --runroot {tmp_path}/p/run --storage-driver vfs"
    name = oci.shell(f"{store} pull -q oci:{busybox}:latest").stdout.strip()
    oci.shell(f"{store} push -q --compression-format zstd:chunked --force-compression {name} oci:{tmp_path}/chunked:x")
    yield "./chunked:x"
    oci.shell(f"{store} rmi -f {name}")


@pytest.mark.root
@pytest.mark.needs("podman")
def test_zstd_chunked(chunked: str, oci: Any, busybox: Path, tmp_path: Path) -> None:
    """Its index is in skippable frames."""
    manifest = json.loads(oci("image", "inspect", chunked).stdout)["manifest"]
    assert "io.github.containers.zstd-chunked.manifest-position" in manifest["layers"][0]["annotations"]
    assert oci("unpack", chunked, "b").stderr == ""
    oci("unpack", f"{busybox}:latest", "plain")
    assert listing.tree(tmp_path / "b/rootfs") == listing.tree(tmp_path / "plain/rootfs")
