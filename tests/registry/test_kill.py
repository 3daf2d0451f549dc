"""kill -9 at random moments: layouts and repositories stay valid, nothing is lost, the next run finishes the job.

20 times of each where a change is judged, 200 times with `tests/run --long`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds
from tests.peers import digest
from tests.registry.test_pull import complete, layout_of
from tests.registry.test_push import Sound

ROUNDS = rounds(20, 200)
LAYERS = [os.urandom(size) for size in (20_000_000, 4_000_000, 900_000, 30_000, 1)]


class Killer:
    """Kills commands at moments spread over the time that a whole run takes."""

    def __init__(self, oci: Any, seed: int) -> None:
        self._oci = oci
        self._random = random.Random(seed)
        self._takes = 0.2
        self.killed = 0

    def __call__(self, *words: Any) -> bool:
        """Start a command and kill it; whether it was still running."""
        begun = time.monotonic()
        process = self._oci.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(self._random.uniform(0.02, self._takes))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.killed += 1
            self._takes *= 1.02  # until some reach their end
            return True
        assert process.returncode == 0, process.stderr.read()
        self._takes = 0.9 * (time.monotonic() - begun)
        return False


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    return Sound(tmp_path / "img").image("v1", *LAYERS)


def test_pulls(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    oci("push", "./img:v1", f"{registry.host}/a:v1")
    kill = Killer(oci, 1)
    for at in range(ROUNDS):
        target = tmp_path / f"out{at // 4}"
        if kill("pull", f"{registry.host}/a:v1", target) and (target / "index.json").exists():
            index = layout_of(target)
            if index["manifests"]:
                complete(target, busy=True)
            if (target / "oci-layout").exists():
                oci("image", "fsck", target)
        if at % 4 == 3:  # what the killed ones began is gone on with
            oci("pull", f"{registry.host}/a:v1", target)
            (entry,) = complete(target)["manifests"]
            assert entry["digest"] == made["digest"]
            oci("image", "fsck", target)
            shutil.rmtree(target)
    assert kill.killed > ROUNDS / 3


def test_pulls_into_a_layout_with_images(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    """What was there stays, under its name, whole."""
    oci("push", "./img:v1", f"{registry.host}/a:v1")
    kept = Sound(tmp_path / "out").image("mine", b"one", b"two")
    kill = Killer(oci, 2)
    for _ in range(ROUNDS):
        kill("pull", f"{registry.host}/a:v1", "./out:theirs")
        names = {d["annotations"]["org.opencontainers.image.ref.name"]: d["digest"] for d in layout_of(tmp_path / "out")["manifests"]}
        assert names["mine"] == kept["digest"] and names.get("theirs", made["digest"]) == made["digest"]
        oci("image", "fsck", "./out")
        if "theirs" in names:
            oci("image", "rm", "./out:theirs")
            oci("image", "gc", "--grace", "0", "./out")
            complete(tmp_path / "out")
    assert kill.killed > ROUNDS / 3


def test_pushes(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    kill = Killer(oci, 3)
    for at in range(ROUNDS):
        name = f"a{at}"
        kill("push", "./img:v1", f"{registry.host}/{name}:v1")
        if (registry.dir / name / "oci-layout").exists():  # else the registry is about to make it
            if layout_of(registry.dir / name)["manifests"]:
                complete(registry.dir / name, busy=True)
            oci("image", "fsck", registry.dir / name)
    assert kill.killed > ROUNDS / 3
    for at in range(0, ROUNDS, 4):
        oci("push", "./img:v1", f"{registry.host}/a{at}:v1")
        (entry,) = layout_of(registry.dir / f"a{at}")["manifests"]
        assert entry["digest"] == made["digest"]
    oci("pull", f"{registry.host}/a0:v1", tmp_path / "out")
    complete(tmp_path / "out")


def test_gc(oci: Any, made: dict[str, Any], tmp_path: Path) -> None:
    """Collectors, two at once, that are killed: what has a name stays whole, and the next one finishes."""
    layout = Sound(tmp_path / "out")
    for at in range(60):
        layout.put(os.urandom(1000), "x/garbage")
        layout.image(f"t{at}", os.urandom(1000))
    expected = layout_of(tmp_path / "out")["manifests"]
    kill = Killer(oci, 4)
    for _ in range(ROUNDS):
        other = oci.start("image", "gc", "--grace", "0", "./out", stdout=subprocess.DEVNULL)
        kill("image", "gc", "--grace", "0", "./out")
        assert other.wait() == 0
        layout.put(os.urandom(1000), "x/garbage")
        assert complete(tmp_path / "out")["manifests"] == expected
    oci("image", "gc", "--grace", "0", "./out")
    oci("image", "fsck", "./out")
    assert len(list((tmp_path / "out/blobs/sha256").iterdir())) == 60 * 3


def test_two_collectors_while_others_pull(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    oci("push", "./img:v1", f"{registry.host}/a:v1")
    oci("pull", f"{registry.host}/a:v1", "./out:first")
    for at in range(rounds(3, 30)):
        pulls = [oci.start("pull", f"{registry.host}/a:v1", f"./out:p{at}-{n}", stdout=subprocess.DEVNULL) for n in range(2)]
        gcs = [oci.start("image", "gc", "--grace", "0", "./out", stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait() for process in (*pulls, *gcs)] == [0, 0, 0, 0]
        names = {d["annotations"]["org.opencontainers.image.ref.name"] for d in complete(tmp_path / "out", busy=True)["manifests"]}
        assert {"first", f"p{at}-0", f"p{at}-1"} <= names
        oci("image", "rm", f"./out:p{at}-0", f"./out:p{at}-1")
    oci("image", "fsck", "./out")


def test_the_registry_itself(oci: Any, made: dict[str, Any], tmp_path: Path) -> None:
    store, seeds = tmp_path / "store", random.Random(5)
    for _ in range(rounds(5, 50)):
        process = oci.start("registry", "serve", store, stdout=subprocess.PIPE, text=True)
        host = process.stdout.readline().strip().partition("://")[2]
        words = ("push", "--retries", "0", "./img:v1", f"{host}/a:v1")
        push = oci.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            push.wait(seeds.uniform(0.05, 0.4))
        except subprocess.TimeoutExpired:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        said = push.communicate()[1].decode()
        assert push.returncode in (0, 75) and said.count("\n") <= 1, said
        if (store / "a/oci-layout").exists():
            layout_of(store / "a")
            oci("image", "fsck", store / "a")
    process = oci.start("registry", "serve", store, stdout=subprocess.PIPE, text=True)
    host = process.stdout.readline().strip().partition("://")[2]
    oci("push", "./img:v1", f"{host}/a:v1")
    oci("pull", f"{host}/a:v1", "./out")
    here = {f"sha256:{one.name}" for one in (tmp_path / "out").glob("blobs/sha256/*")}
    assert {digest(layer) for layer in LAYERS} <= here
    assert json.loads((store / "a/index.json").read_text())["manifests"][0]["digest"] == made["digest"]
    complete(store / "a")
