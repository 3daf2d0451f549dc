"""oci-pull --unpack unpacks what is still on its way, and leaves no bundle of what does not come."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.layer import listing, make
from tests.peers import Answer, Fake, descriptor, digest

ONE = make.archive("a/", ("a/first", b"1" * 100_000), ("a/second", os.urandom(4_000_000)))
TWO = make.archive(".wh.gone", "b", ("a/first", b"2"))


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as server:
        yield server


def path(layer: bytes) -> str:
    return f"/v2/app/blobs/{digest(layer)}"


class Seen(threading.Event):
    """Is set once a file is there: an answer that waits for it goes on then."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    def wait(self, timeout: float | None = None) -> bool:
        end = time.monotonic() + (timeout or 0)
        while not self.place.exists() and time.monotonic() < end:
            time.sleep(0.01)
        if self.place.exists():
            self.set()
        return self.is_set()


@pytest.mark.parametrize("layers", [[ONE], [TWO, ONE], [ONE, TWO, ONE]])
def test_files_are_there_before_the_rest_has_come(layers: list[bytes], oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "x", layers)
    seen = Seen(tmp_path / "b/.oci-unpack.new" / ("rootfs" if layers[0] is ONE else "rootfs.1") / "a/first")
    fake.on("GET", path(ONE), Answer(200, {"Content-Length": str(len(ONE))}, ONE, cut=3_000_000, wait=seen))
    assert oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x").stdout == f"{tmp_path}/b\n"
    assert seen.is_set()
    oci("unpack", "./img:x", "again")
    assert listing.tree(tmp_path / "b/rootfs") == listing.tree(tmp_path / "again/rootfs")
    assert (tmp_path / "b/.oci-unpack.json").read_bytes().replace(b'"name":null', b"") == (
        tmp_path / "again/.oci-unpack.json"
    ).read_bytes().replace(b'"name":"x"', b"")
    oci("image", "fsck", "./img")


@pytest.mark.parametrize(
    ("answers", "said", "code"),
    [
        ([Answer(404)], "cannot fetch", 1),
        ([Answer(200, {"Content-Length": str(len(ONE))}, ONE, cut=3_000_000)], "the connection was cut", 75),
    ],
)
def test_what_does_not_come_is_no_bundle(answers: list[Answer], said: str, code: int, oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "x", [TWO, ONE])
    fake.on("GET", path(ONE), *answers)
    done = oci("pull", "--retries", "0", "--unpack", "b", f"{fake.host}/app:x", "./img:x", code=code)
    assert said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    assert not (tmp_path / "b").exists()


def test_the_blobs_own_digest_counts(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """Its plain archive is right, and the size too."""
    packed = gzip.compress(ONE, mtime=0)
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(ONE)]}}).encode()
    layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)
    fake.blob("app", config)
    fake.manifest("app", "x", {"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", config), "layers": [layer]})
    fake.on("GET", path(packed), Answer(200, {}, packed[:9] + b"\x07" + packed[10:]))
    done = oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x", code=1)
    assert "wrong digest of blob" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()
    fake.on("GET", path(packed), Answer(200, {}, packed))
    oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x")


def test_what_cannot_be_unpacked_is_pulled(oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "x", [make.archive("d/", "h=d")])
    done = oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x", code=1)
    assert "a hard link to a directory" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()
    oci("image", "fsck", "./img")


def test_what_begins_anew_is_unpacked_afterwards(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """What an earlier run left is not the beginning of the blob."""
    fake.image("app", "old", [TWO])
    oci("pull", f"{fake.host}/app:old", "./img:x")
    fake.image("app", "x", [ONE])
    (tmp_path / "img/.ingest").mkdir()
    (tmp_path / "img/.ingest" / digest(ONE).replace(":", "-")).write_bytes(b"?" * 200_000)
    assert oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x").stdout == f"{tmp_path}/b\n"
    assert (tmp_path / "b/rootfs/a/second").stat().st_size == 4_000_000


def test_a_cut_download_goes_on(oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "x", [ONE])
    fake.on("GET", path(ONE), Answer(200, {"Content-Length": str(len(ONE))}, ONE, cut=2_000_000), Answer(200, {}, ONE))
    oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x")
    assert (tmp_path / "b/rootfs/a/second").stat().st_size == 4_000_000


def test_killed_nobody_goes_on_and_the_next_run_does(oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "x", [ONE])
    seen, go = Seen(tmp_path / "b/.oci-unpack.new/rootfs/a/first"), threading.Event()
    fake.on("GET", path(ONE), Answer(200, {"Content-Length": str(len(ONE))}, ONE, cut=3_000_000, wait=go), Answer(200, {}, ONE))
    reader, writer = os.pipe()
    process = oci.start("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x", stdout=writer)
    os.close(writer)
    assert seen.wait(20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.read(reader, 1) == b"", "all processes that have it open are gone"
    os.close(reader)
    go.set()
    assert not (tmp_path / "b/.oci-unpack.json").exists()
    oci("pull", "--unpack", "b", f"{fake.host}/app:x", "./img:x", stdout=subprocess.DEVNULL)
    assert sorted(os.listdir(tmp_path / "b")) == [".oci-unpack.json", ".oci-unpack.snapshot", "config.json", "rootfs"]
