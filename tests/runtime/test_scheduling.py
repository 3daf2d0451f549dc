"""How a payload is scheduled: policy, i/o priority, personality, processors, memory nodes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import scheduling


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", [0]), ("0-3", [0, 1, 2, 3]), ("1, 3-4 ,9", [1, 3, 4, 9]), ("3-3", [3]), ("5-4", [])]
)
def test_lists(text: str, numbers: list[int]) -> None:
    assert scheduling.numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1--2", "1,,2", "99999999999"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(Error):
        scheduling.numbers(text)


def test_names_are_the_kernels() -> None:
    for name, number in scheduling.POLICIES.items():
        assert getattr(os, name, number) == number


@pytest.mark.root
def test_policy_and_niceness(box: Any) -> None:
    box.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    fields = box.says("cat /proc/self/stat").rpartition(")")[2].split()
    assert (fields[16], fields[38]) == ("7", str(scheduling.POLICIES["SCHED_BATCH"]))
    box.process["scheduler"] = {"policy": "SCHED_IDLE"}
    assert box.says("cat /proc/self/stat").rpartition(")")[2].split()[38] == "5"


@pytest.mark.root
def test_personality(box: Any) -> None:
    assert box.says("uname -m") == os.uname().machine
    box.linux["personality"] = {"domain": "LINUX32"}
    assert box.says("uname -m") == "i686" if os.uname().machine == "x86_64" else True
    assert box.says("cat /proc/self/personality") == "00000008"


@pytest.mark.root
def test_an_exec_has_them_too(box: Any) -> None:
    """What is said of all processes of the container, and its process's own scheduler; not only of the first."""
    box.linux["personality"] = {"domain": "LINUX32"}
    box.linux["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}
    box.process.update(args=["sleep", "1000"], scheduler={"policy": "SCHED_BATCH"})
    box("create")
    script = "cat /proc/self/personality; head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2; cat /proc/self/stat"
    domain, policy, stat = box("exec", "sh", "-c", script).stdout.splitlines()
    assert (domain, stat.rpartition(")")[2].split()[38]) == ("00000008", "3")
    if os.path.exists("/proc/self/numa_maps"):
        assert policy == "prefer=relative:0"
    box("delete", "--force")


@pytest.mark.root
def test_io_priority_and_memory_policy(box: Any) -> None:
    """Nothing to see in /proc but that the kernel has taken them; what it refuses is an error."""
    box.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    assert box.says("echo yes") == "yes"
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "63"}
    said = "oci-run: config.json: linux.memoryPolicy: set_mempolicy: cannot be set: invalid argument\n"
    assert box("run", code=1).stderr == said
    for policy, wrong in (({"nodes": "0"}, "mode ''"), ({"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "node '0-9876543210'")):
        box.linux["memoryPolicy"] = policy
        box.save()
        assert box("run", code=1).stderr == f"oci-run: config.json: linux.memoryPolicy: invalid memory policy {wrong}\n"


@pytest.mark.root
def test_a_deadline_on_some_processors(box: Any) -> None:
    box.linux.setdefault("resources", {})["cpu"] = {"cpus": "0", "mems": "0"}
    box.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1000000, "period": 1000000}
    said = box("run", code=1).stderr
    assert said.endswith("operation not permitted (process scheduler can't be used together with AllowedCPUs)\n")


@pytest.mark.root
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_the_callers_processors_are_not_the_containers(box: Any) -> None:
    """As with runc; those of its own group are, and a one-shot is a program like any other (cmd/run.py)."""
    script = "grep Cpus_allowed_list /proc/self/status"
    own = min(os.sched_getaffinity(0))
    there = Path("/sys/devices/system/cpu/online").read_text().strip()
    box.process["args"] = ["sh", "-c", script]
    box.save()
    assert box.oci.shell(f"taskset -c {own} oci-run run -b {box.bundle} {box.id}").stdout.split()[1] == there
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    assert box.oci.shell(f"taskset -c {own} oci-run exec {box.id} {script}").stdout.split()[1] == there
    box("delete", "--force")
    box.process["args"] = ["sh", "-c", script]
    box.linux.setdefault("resources", {})["cpu"] = {"cpus": str(own), "mems": "0"}
    assert box.says(script).split()[1] == str(own)
    assert box.oci.shell(f"taskset -c {own} oci-run --network none {box.bundle} sh -c '{script}'").stdout.split()[1] == str(own)


@pytest.mark.root
def test_processors_of_an_exec(box: Any, tmp_path: Path) -> None:
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    document = {"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    for affinity, expected in (({"final": "0"}, "0"), ({"initial": "0"}, "0"), ({"initial": "999"}, None)):
        (tmp_path / "process").write_text(json.dumps({**document, "execCPUAffinity": affinity}))
        done = box.oci("run", "exec", "-p", tmp_path / "process", box.id, code=0 if expected else 255)
        assert done.stdout.split()[1:] == ([expected] if expected else [])
    box("delete", "--force")
