"""Containers that come and go under an `ocid` for an hour (--long; OCI_SOAK=SECONDS says another time): nothing grows.

Descriptors, memory, mounts, cgroups and processes are counted when a wave of containers has gone, and again at the end.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon import Engine, started
from tests.long import rounds

pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]
SECONDS = int(os.environ.get("OCI_SOAK") or rounds(4, 3600))
COUNT = rounds(6, 100) if "OCI_SOAK" not in os.environ else 100
WARM = 2  # waves before the first count: what is imported and cached late is there then


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from started(tmp_path_factory.mktemp("soak") / "a")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        try:
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def opened(engine: Engine) -> list[str]:
    """What the descriptors of ocid's processes are, to find out what has stayed."""
    assert engine.process
    found = []
    for pid in family(engine.process.pid):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                about = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().splitlines()[4:5]
                found.append(f"{pid} {fd.name} {fd.readlink()} {about}")
            except FileNotFoundError:
                continue
    return sorted(found)


def counted(engine: Engine) -> dict[str, int]:
    """What could grow, of ocid's processes and of the host."""
    assert engine.process
    pids = family(engine.process.pid)
    found = {"processes": len(pids), "descriptors": 0, "kilobytes": 0}
    for pid in pids:
        try:
            found["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found["kilobytes"] += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    root = engine.oci_env["OCI_ROOT"].rpartition("/")[0]
    mounts = Path(f"/proc/{engine.process.pid}/mountinfo").read_text()
    found["mounts"] = sum(1 for line in mounts.splitlines() if root in line and "/python" not in line)
    found["files"] = sum(len(files) for path in ("root/containers", "run") for _, _, files in os.walk(f"{root}/{path}") if "python" not in _)
    return found


def wave(engine: Engine, ways: int) -> list[str]:
    """So many containers, whose ids are told: of three kinds, some end, some are stopped, killed and started again."""

    def one(at: int) -> str:
        name = f"soak{at}"
        words = (["sleep", "1000"], ["true"], ["sh", "-c", "echo said; exit 3"])[at % 3]
        network = ["--network", "none"] if at % 5 else []
        made = engine.out("run", "-d", "--name", name, *network, "bb", *words)
        if at % 3 == 0:
            engine.docker("exec", name, "true")
            engine.docker("restart", "-t", "0", name)
        engine.docker("logs", name)
        engine.docker("rm", "-f", name)
        return made

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(ways)))


def cgroups() -> set[str]:
    """The cgroups of containers that there are."""
    found = subprocess.run(["find", "/sys/fs/cgroup", "-type", "d", "-regextype", "egrep", "-regex", ".*/[0-9a-f]{64}"], capture_output=True, text=True)
    return set(found.stdout.split())


def test_nothing_grows(engine: Engine) -> None:
    made = {each for _ in range(WARM) for each in wave(engine, COUNT)}
    first, deadline, waves = counted(engine), time.monotonic() + SECONDS, 0
    before = opened(engine)
    while time.monotonic() < deadline or not waves:
        made.update(wave(engine, COUNT))
        waves += 1
        print(f"wave {waves}: {(now := counted(engine))}", *(opened(engine) if now["descriptors"] > first["descriptors"] else ()), sep="\n", flush=True)
    last = settled(engine, first)
    print(f"{waves} waves of {COUNT}: {first} -> {last}")
    for name in "processes", "descriptors", "mounts", "files":
        assert last[name] <= first[name], "\n".join([f"{name}: {first} -> {last}", *before, "then", *opened(engine)])
    assert last["kilobytes"] <= first["kilobytes"] * 1.05 + 1024, (first, last)
    assert engine.out("ps", "-aq") == ""
    assert not {path for path in cgroups() if os.path.basename(path) in made}


def settled(engine: Engine, first: dict[str, int]) -> dict[str, int]:
    """Counted once the last monitors and connections have gone: they end a moment after their container and client."""
    for _ in range(200):
        last = counted(engine)
        if all(last[name] <= first[name] for name in ("processes", "descriptors")):
            break
        time.sleep(0.1)
    return last
