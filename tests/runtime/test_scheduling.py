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
def test_io_priority_and_memory_policy(box: Any) -> None:
    """Nothing to see in /proc but that the kernel has taken them; what it refuses is an error."""
    box.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    assert box.says("echo yes") == "yes"
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "63"}
    assert box("run", code=1).stderr == "oci-run: config.json: linux.memoryPolicy: cannot be set: invalid argument\n"


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
