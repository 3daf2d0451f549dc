"""An `ocid` for a module of tests; `engine` has no container at the beginning and the end of each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import PATH
from tests.daemon import Engine, started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short directory: sockets have short names."""
    return tmp_path_factory.mktemp(f"a{os.getpid() % 1000}")


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Engine]:
    if not shutil.which("docker", path=PATH):
        pytest.skip("needs docker; tests/run --setup installs it on Debian as root")
    yield from started(place)


@pytest.fixture
def engine(daemon: Engine) -> Iterator[Engine]:
    yield daemon
    daemon.clean()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """An engine of docker, and one of ours, with the same image."""
    if not shutil.which("dockerd", path=PATH):
        pytest.skip("needs dockerd; tests/run --setup installs it on Debian as root")
    place = tmp_path_factory.mktemp(f"s{os.getpid() % 1000}")
    archive = place / "bb.tar"
    source = images.image("busybox")
    subprocess.run(["skopeo", "copy", "-q", f"oci:{source}:latest", f"docker-archive:{archive}:bb:latest"], check=True)
    for theirs in docker(place / "d"):
        theirs.docker("load", "-q", "-i", archive)
        for ours in started(place / "o", image=None):
            ours.docker("load", "-q", "-i", archive)
            yield theirs, ours
        theirs.clean()


def docker(place: Path) -> Iterator[Engine]:
    place.mkdir()
    (place / "config.json").write_text("{}")
    words = [
        "unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec "$@"', "-", "dockerd", "-H", f"unix://{place}/s",
        "--data-root", f"{place}/data", "--exec-root", f"{place}/exec", "-p", f"{place}/pid", "--cgroup-parent", f"/{place.parent.name}",
        "--config-file", f"{place}/config.json", "--storage-driver", "vfs",
    ]  # fmt: skip
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={"PATH": PATH, "HOME": str(place)})
    assert server.stderr is not None
    for line in server.stderr:
        if "API listen on" in line:
            break
    drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    try:
        yield Engine(f"{place}/s", place)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        drain.wait()
        for group in [*Path("/sys/fs/cgroup").glob(f"*/{place.parent.name}"), *Path("/sys/fs/cgroup").glob(place.parent.name)]:
            group.rmdir()
