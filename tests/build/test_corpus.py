"""Every case of the corpus is built by docker's BuildKit or classic builder and by oci-build, and compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.bench import peers
from tests.build import cases
from tests.conftest import Commands, world
from tests.long import LONG

pytestmark = [pytest.mark.root, pytest.mark.needs("docker", "dockerd", "skopeo", "busybox")]

START = time.time()
CASES = cases.cases()
SPREAD = 30
CHOSEN = CASES if LONG else CASES[:: max(len(CASES) // SPREAD, 1)][:SPREAD]


class Docker:
    """A daemon of our own that has the image `base`."""

    def __init__(self, address: str, work: Path) -> None:
        self.env = {**os.environ, "DOCKER_HOST": address, "DOCKER_CONFIG": str(work), "HOME": str(work)}

    def run(self, *words: Any, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["docker", *words], env={**self.env, **more.pop("env", {})}, capture_output=True, **more)

    def build(self, case: cases.Case, peer: str, context: Path) -> cases.Image | None:
        """What it makes of a case; None if it says that it cannot."""
        words, data = case.input(context)
        given = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
        tag = f"{case.name}-{peer}"
        words = ["build", "--network", "none", "--no-cache", "-t", tag, *case.words, *words]
        env = {"DOCKER_BUILDKIT": "1" if peer == "buildkit" else "0", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        done = self.run(*words, env=env, cwd=context.parent, **given)
        if done.returncode:
            self.said = done.stderr.decode() + done.stdout.decode()
            return None
        saved = self.run("save", tag)
        assert saved.returncode == 0, saved.stderr
        return cases.Image.of_archive(saved.stdout)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with the image `base`."""
    place = tmp_path_factory.mktemp("base")
    (place / "work").mkdir()
    images.write_layout(place, *cases.base_layers(place / "work"), "gzip")
    return place


@pytest.fixture(scope="session")
def docker(base: Path) -> Iterator[Docker]:
    with tempfile.TemporaryDirectory(prefix="oci-docker-") as name, peers.dockerd(Path(name)) as address:
        work = Path(name)
        made = Docker(address, work)
        subprocess.run(
            ["skopeo", "copy", "-q", f"oci:{base}:latest", f"docker-archive:{work}/base.tar:base:latest"], check=True
        )
        assert made.run("load", "-i", work / "base.tar").returncode == 0
        yield made


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Commands]:
    """Our commands, with `base` in their store."""
    work = tmp_path_factory.mktemp("ours")
    with Commands(world(work), work) as commands:
        commands.preload("docker.io/library/base:latest", base)
        yield commands


def build(ours: Commands, case: cases.Case, context: Path) -> cases.Image | None:
    words, data = case.input(context)
    more = {"input": data} if data is not None else {}
    out = ours.cwd / "out.tar"
    words = ["--network", "none", "--no-cache", "-o", f"type=docker,dest={out}", *case.words, *words]
    done = ours("build", *words, code=1 if "fails" in case.said else 0, cwd=context.parent, **more)
    if "fails" in case.said:
        assert case.said["fails"] in done.stderr
        return None
    return cases.Image.of_archive(out.read_bytes())


@pytest.fixture(scope="session")
def base_image(ours: Commands, base: Path) -> cases.Image:
    layers = [subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout for path in images.layers(base)]
    return cases.Image({}, layers)


@pytest.mark.parametrize("case", CHOSEN, ids=[case.name for case in CHOSEN])
def test_case(case: cases.Case, ours: Commands, base_image: cases.Image, request: Any, tmp_path: Path) -> None:
    context = tmp_path / case.name
    case.make(context)
    made = build(ours, case, context)
    for peer in case.peers:
        docker = request.getfixturevalue("docker")
        theirs = docker.build(case, peer, context)
        if made is None:
            assert theirs is None, f"{peer} can build it"
            continue
        assert theirs is not None, f"{peer}: {docker.said}"
        if said := cases.differences(made, theirs, START, classic=peer == "classic"):
            pytest.fail(f"not as {peer} has it:\n" + "\n".join(said), pytrace=False)
    if case.expected and made is not None:
        assert made.new(base_image) == case.expected
    shutil.rmtree(context)


def test_names_are_of_one_case_each() -> None:
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 150
