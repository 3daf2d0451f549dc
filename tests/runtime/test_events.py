"""`events`: what runc prints, for v1 and v2."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Usage
from oci_tools.runtime import events, usage
from oci_tools.runtime.cgroup import Cgroup

root = pytest.mark.root


@pytest.fixture
def running(box: Any) -> Any:
    box.process["args"] = ["sleep", "1000"]
    box.linux["resources"].update(memory={"limit": 32 << 20}, pids={"limit": 20})
    box("create")
    box("start")
    yield box
    box("delete", "--force")


@root
def test_stats_once(running: Any) -> None:
    line = running("events", "--stats").stdout
    assert line.count("\n") == 1
    found = json.loads(line)
    assert (found["type"], found["id"]) == ("stats", running.id)
    data = found["data"]
    assert data["memory"]["usage"]["limit"] == 32 << 20 and data["memory"]["usage"]["usage"] > 0
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["cpu"]["usage"]["total"] > 0 and {"kernel", "user"} <= data["cpu"]["usage"].keys()
    assert data["memory"]["raw"] and data["network_interfaces"] is None


@root
def test_stats_are_runcs(running: Any, tmp_path: Path) -> None:
    """The same members, of the same kinds, as runc's own."""
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin")
    if not runc:
        pytest.skip("needs runc; tests/run --setup installs it on Debian as root")
    name = f"runc-{tmp_path.name}-{os.getpid()}"
    words = [runc, "--root", tmp_path / "runc"]
    subprocess.run([*words, "run", "-d", "-b", running.bundle, name], check=True, stdout=subprocess.DEVNULL,
                   stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        theirs = subprocess.run([*words, "events", "--stats", name], check=True, capture_output=True).stdout
    finally:
        subprocess.run([*words, "delete", "--force", name], check=True)
    ours = json.loads(running("events", "--stats").stdout)

    def shape(value: Any, path: str = "") -> set[str]:
        if isinstance(value, dict):
            return {path}.union(*(shape(item, f"{path}.{key}") for key, item in value.items()))
        return {f"{path}: {type(value).__name__}"}

    mine, other = shape(ours), shape(json.loads(theirs))
    # Left out when 0, and so by chance: what was counted.
    counted = (".max: int", ".usage: int", ".blkio", ".percpu", ".psi", ".cache: int", ".throttling")
    chance = (".blkio", ".psi", ".hugetlb", ".cpuset.cpus", ".cpuset.mems")  # what runc has for v1 alone, too
    assert not [p for p in mine ^ other if not p.endswith(counted) and not any(part in p for part in chance)]


@root
def test_it_follows_and_ends_with_the_container(running: Any) -> None:
    process = running.oci.start("run", "events", "--interval", "10ms", running.id, stdout=subprocess.PIPE)
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [line["type"] for line in lines] == ["stats"] * 3
    running("kill", "KILL")
    process.stdout.read()
    assert process.wait() == 0


@root
def test_out_of_memory(box: Any) -> None:
    hungry = "read x < /fifo; x=$(dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\0' a); echo alive"
    box.process["args"] = ["sh", "-c", "mkfifo /fifo; touch /ready; while :; do sh -c \"$0\"; done", hungry]
    box.linux["resources"]["memory"] = {"limit": 16 << 20}
    box("create")
    box("start")
    while not (box.rootfs / "ready").exists():
        pass
    process = box.oci.start("run", "events", "--interval", "1h", box.id, stdout=subprocess.PIPE)
    while "ep_poll" not in (waits := Path(f"/proc/{process.pid}/wchan").read_text()) and "poll" not in waits:
        pass
    (box.rootfs / "fifo").write_text("go\n")
    assert json.loads(process.stdout.readline()) == {"type": "oom", "id": box.id}
    box("kill", "KILL")
    process.stdout.read()
    assert process.wait() == 0
    box("delete", "--force")


@root
def test_ctrl_c_ends_it(running: Any) -> None:
    process = running.oci.start("run", "events", "--interval", "10ms", running.id, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait() == 130


@root
def test_of_what_does_not_run(box: Any) -> None:
    box("create")
    box("kill", "KILL")
    while box.state["status"] != "stopped":
        pass
    assert box("events", "--stats", code=1).stderr == f"oci-run: cannot get events of container '{box.id}': container not running\n"
    box("delete")
    assert "does not exist" in box("events", code=1).stderr
    assert "invalid duration 'x'" in box("events", "--interval", "x", code=2).stderr


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("1m30s", 90), ("100ms", 0.1), ("2", 2), ("0.5s", 0.5), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    assert events.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "s", "5x", "-5s", "5s5", "1..2s", "5 s"])
def test_what_is_no_duration(text: str) -> None:
    if text == "5s5":
        assert events.seconds(text) == 10
        return
    with pytest.raises(Usage):
        events.seconds(text)


def test_v2_from_its_files(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
        "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n",
        "cpuset.cpus.effective": "0-1,3\n", "cpuset.mems.effective": "0\n",
        "memory.stat": "anon 5\nfile 6\n", "memory.current": "100\n", "memory.max": "1000\n", "memory.peak": "500\n",
        "memory.events": "low 0\nmax 9\noom_kill 1\n", "memory.swap.current": "11\n", "memory.swap.max": "max\n",
        "pids.current": "2\n", "pids.max": "max\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        "hugetlb.2MB.current": "12\n", "hugetlb.2MB.events": "max 1\n", "hugetlb.2MB.rsvd.current": "13\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = usage.stats(Cgroup({"": str(tmp_path)}))
    assert found["cpu"] == {
        "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
        "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 2000},
        "psi": {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 7}},
    }
    assert found["cpuset"]["cpus"] == [0, 1, 3]
    memory = found["memory"]
    assert memory["usage"] == {"limit": 1000, "usage": 100, "max": 500, "failcnt": 9}
    assert memory["swap"] == {"limit": usage.UNLIMITED, "usage": 111, "failcnt": 0}
    assert memory["cache"] == 6 and memory["raw"] == {"anon": 5, "file": 6}
    assert found["pids"] == {"current": 2}
    entries = found["blkio"]["ioServiceBytesRecursive"]
    assert {"major": 8, "op": "Read", "value": 1} in entries and {"major": 8, "op": "Write", "value": 2} in entries
    assert found["hugetlb"] == {"2MB": {"usage": 12, "failcnt": 1}}
