"""kill -9 at random moments: layouts and repositories stay valid, and the next run finishes the job."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import digest
from tests.registry.test_pull import complete, layout_of
from tests.registry.test_push import Layout

ROUNDS = 20
LAYERS = [os.urandom(size) for size in (4_000_000, 2_000_000, 900_000, 30_000, 1)]


def killed(oci: Any, *words: Any, seed: int) -> bool:
    """Start a command and kill it after a random part of a second; whether it was still running."""
    process = oci.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(random.Random(seed).uniform(0.05, 0.4))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    assert process.returncode == 0, process.stderr.read()
    return False


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    return Layout(tmp_path / "img").image("v1", *LAYERS)


def test_pulls(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    oci("push", "./img:v1", f"{registry.host}/a:v1")
    for seed in range(ROUNDS):
        target = tmp_path / f"out{seed % 5}"
        if (
            killed(oci, "pull", f"{registry.host}/a:v1", target, seed=seed)
            and (target / "index.json").exists()
        ):
            layout_of(target)
            if json.loads((target / "index.json").read_text())["manifests"]:
                complete(target, busy=True)
        if seed % 5 == 4:
            for number in range(5):
                oci("pull", f"{registry.host}/a:v1", tmp_path / f"out{number}")
                (entry,) = complete(tmp_path / f"out{number}")["manifests"]
                assert entry["digest"] == made["digest"]
                subprocess.run(["rm", "-r", tmp_path / f"out{number}"], check=True)


def test_pushes(oci: Any, registry: Any, made: dict[str, Any], tmp_path: Path) -> None:
    for seed in range(ROUNDS):
        name = f"a{seed % 5}"
        killed(oci, "push", "./img:v1", f"{registry.host}/{name}:v1", seed=seed)
        if (registry.dir / name / "index.json").exists():
            index = layout_of(registry.dir / name)
            if index["manifests"]:
                complete(registry.dir / name, busy=True)
    for number in range(5):
        oci("push", "./img:v1", f"{registry.host}/a{number}:v1")
        (entry,) = layout_of(registry.dir / f"a{number}")["manifests"]
        assert entry["digest"] == made["digest"]
        oci("pull", f"{registry.host}/a{number}:v1", tmp_path / f"out{number}")


def test_the_registry_itself(oci: Any, made: dict[str, Any], tmp_path: Path) -> None:
    store = tmp_path / "store"
    for seed in range(5):
        process = oci.start("registry", "serve", store, stdout=subprocess.PIPE, text=True)
        host = process.stdout.readline().strip().partition("://")[2]
        push = oci.start(
            "push",
            "--retries",
            "0",
            "./img:v1",
            f"{host}/a:v1",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            push.wait(random.Random(seed).uniform(0.1, 0.4))
        except subprocess.TimeoutExpired:
            pass
        process.kill()
        process.wait()
        said = push.communicate()[1].decode()
        assert push.returncode in (0, 75), said
        if (store / "a/index.json").exists():
            layout_of(store / "a")
    process = oci.start("registry", "serve", store, stdout=subprocess.PIPE, text=True)
    host = process.stdout.readline().strip().partition("://")[2]
    oci("push", "./img:v1", f"{host}/a:v1")
    oci("pull", f"{host}/a:v1", "./out")
    assert {digest(layer) for layer in LAYERS} <= {
        f"sha256:{one.name}" for one in (tmp_path / "out").glob("blobs/sha256/*")
    }
    complete(store / "a")
