"""Control groups as this host has them: limits at work, pause, kill, what is refused.

On cgroup v2 see tests/vm; the plans of both are tested in test_resources.py.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from oci_tools.runtime import cgroup

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="needs cgroup v1"),
    pytest.mark.skipif(not os.path.exists("/sys/fs/cgroup/memory"), reason="needs cgroup v1"),
]
HYBRID = Path("/sys/fs/cgroup/unified")


def group(box: Any, controller: str) -> Path:
    """The container's directory of a controller."""
    found = cgroup.place(box.linux.get("cgroupsPath"), box.id).path(controller)
    assert found
    return Path(found)


def limited(box: Any, **resources: Any) -> None:
    box.linux["resources"].update(resources)
    box.process["args"] = ["sleep", "1000"]
    box("create")


def read(box: Any, file: str) -> str:
    return (group(box, file.partition(".")[0]) / file).read_text().strip()


def test_limits_are_written(box: Any) -> None:
    limited(
        box, memory={"limit": 64 << 20, "reservation": 32 << 20, "swappiness": 10},
        cpu={"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"}, pids={"limit": 17},
    )  # fmt: skip
    found = [read(box, file) for file in (
        "memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness", "cpu.shares", "cpu.cfs_quota_us",
        "cpu.cfs_period_us", "cpuset.cpus", "cpuset.mems", "pids.max",
    )]  # fmt: skip
    assert found == [str(64 << 20), str(32 << 20), "10", "512", "20000", "50000", "0", "0", "17"]
    pid = str(box.state["pid"])
    for path in cgroup.place(None, box.id).paths.values():
        assert Path(path, "cgroup.procs").read_text().split() == [pid]
    box("delete")
    assert not group(box, "memory").exists()


def test_limits_change(box: Any) -> None:
    limited(box, memory={"limit": 64 << 20}, pids={"limit": 17})
    box.oci("run", "update", "--memory", "32m", "--pids-limit", "20", "--cpu-share", "100", box.id)
    assert [read(box, file) for file in ("memory.limit_in_bytes", "pids.max", "cpu.shares")] == [str(32 << 20), "20", "100"]
    box.oci("run", "update", "-r", "-", box.id, input='{"memory": {"limit": 134217728, "swap": 268435456}, "pids": {"limit": -1}}')
    assert [read(box, file) for file in ("memory.limit_in_bytes", "pids.max", "cpu.shares")] == [str(128 << 20), "max", "100"]
    box("delete")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("5", "expected an object, got 5"),
        ('{"memory": null}', "memory: expected an object, got null"),
        ('{"memory": {"limit": "64m"}}', 'memory.limit: expected an integer, got "64m"'),
        ('{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}', "blockIO.throttleReadBpsDevice[0].rate: missing"),
        ('{"blockIO": {"weightDevice": [{}]}}', "blockIO.weightDevice[0].major: missing"),
        ('{"hugepageLimits": [{}]}', "hugepageLimits[0].pageSize: missing"),
        ('{"network": {"priorities": [{}]}}', "network.priorities[0].name: missing"),
        ('{"devices": [{"allow": true, "type": "x"}]}', 'devices[0].type: expected one of a, b, c, got "x"'),
        ('{"memory": {"limit": 20, "swap": 10}}', "memory.swap: expected at least the memory limit 20, got 10"),
        ('{"unified": {"../x": "1"}}', 'unified["../x"]: expected the name of a file of the cgroup'),
    ],
)
def test_limits_that_cannot_be(box: Any, document: str, said: str, tmp_path: Path) -> None:
    """An update's document is checked as the configuration's `linux.resources` is."""
    limited(box, pids={"limit": 17})
    (tmp_path / "limits").write_text(document)
    for word, subject in ("-", "standard input"), (str(tmp_path / "limits"), str(tmp_path / "limits")):
        done = box.oci("run", "update", "-r", word, box.id, input=document, code=1)
        assert done.stderr == f"oci-run: {subject}: {said}\n"
    done = box.oci("run", "update", "--memory", "20", "--memory-swap", "10", box.id, code=1)
    assert done.stderr == "oci-run: limits: memory.swap: expected at least the memory limit 20, got 10\n"
    assert read(box, "pids.max") == "17"
    box("delete", "--force")


def test_what_the_kernel_refuses(box: Any) -> None:
    for resources, said in (
        ({"cpu": {"cpus": "999"}}, "cannot write '999' to"),
        ({"cpu": {"quota": 1}}, "cannot write '1' to"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "3MB.limit_in_bytes"),
        ({"unified": {"memory.high": "1"}}, "linux.resources.unified: invalid configuration 'memory.high'"),
        ({"network": {"classID": 5}}, "controller 'net_cls' is not mounted on this host"),
    ):
        box.linux["resources"] = resources
        assert said in box("run", code=1).stderr


@pytest.mark.skipif(not HYBRID.exists(), reason="needs the hybrid layout of cgroups")
def test_the_hybrid_layout_has_it_in_cgroup2_too(box: Any) -> None:
    """So that all of it can be killed at once, and what cgroup2 alone has can be set."""
    box.linux["resources"]["unified"] = {"cgroup.max.descendants": "7"}
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; (while :; do sleep 1; done) & while :; do sleep 1; done"
    box.process["args"] = ["sh", "-c", script]
    box("create")
    place = HYBRID / box.id
    assert (place / "cgroup.max.descendants").read_text() == "7\n"
    assert (place / "cgroup.procs").read_text() == f"{box.state['pid']}\n"
    box("start")
    while len((place / "cgroup.procs").read_text().splitlines()) < 3:
        pass
    out = Path(box.output).read_text().splitlines()
    assert "0::/" in out and "unified" not in out  # what config.json has mounted there is v1's
    (place / "cgroup.kill").write_text("1")
    while box.state["status"] != "stopped":
        pass
    box("delete")
    assert not place.exists()


@pytest.mark.skipif(not HYBRID.exists(), reason="needs the hybrid layout of cgroups")
def test_a_hybrid_layout_whose_cgroup2_is_not_ours_to_divide(box: Any) -> None:
    own = HYBRID / f"{box.id}-full"
    own.mkdir()
    try:
        (own / "cgroup.max.depth").write_text("0")
        box.linux["cgroupsPath"] = f"/{own.name}/c"
        limited(box)
        assert Path(f"/proc/{box.state['pid']}/cgroup").read_text().count(own.name) >= 5
        box("delete", "--force")
    finally:
        for top in Path("/sys/fs/cgroup").iterdir():
            if (top / own.name).exists():
                (top / own.name).rmdir()


def test_out_of_memory_is_137(box: Any) -> None:
    box.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    if not (group(box, "memory").parent / "memory.memsw.limit_in_bytes").exists():
        del box.linux["resources"]["memory"]["swap"]
    assert box.sh("x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x); echo survived", code=137).stdout == ""


def test_a_limit_too_small_to_start_in(box: Any) -> None:
    box.linux["resources"]["memory"] = {"limit": 64 << 10}
    done = box.sh("true", code=None)
    assert done.returncode in (1, 137)
    assert len(done.stderr.splitlines()) <= 1


def test_a_small_limit_is_enough(box: Any) -> None:
    """What the runtime itself needs is not the container's (runc needs 6 to 12 MB here)."""
    box.linux["resources"]["memory"] = {"limit": 2 << 20}
    assert box.says("echo yes") == "yes"


def test_too_many_processes(box: Any) -> None:
    box.linux["resources"]["pids"] = {"limit": 5}
    done = box.sh("for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done; wait; echo end", code=None)
    assert "fork" in done.stderr


def test_a_quota_slows_down(box: Any) -> None:
    """The kernel's own count says so, whatever else the machine does."""
    limited(box, cpu={"quota": 5000, "period": 100000})
    box("start")
    box("exec", "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
    counted = dict(row.split() for row in (group(box, "cpu") / "cpu.stat").read_text().splitlines())
    assert int(counted["nr_throttled"]) > 0
    box("delete", "--force")


def test_paused_means_still(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "while :; do echo >> /count; sleep 0.01; done"]
    box("create")
    box("start")
    count = box.rootfs / "count"
    while not count.exists():
        pass
    box("pause")
    assert (group(box, "freezer") / "freezer.state").read_text() == "FROZEN\n"
    before = count.stat().st_size
    time.sleep(0.1)
    assert count.stat().st_size == before
    assert "paused" in box("exec", "true", code=255).stderr
    box("resume")
    while count.stat().st_size == before:
        pass
    box("delete", "--force")


def test_where_the_group_is(box: Any) -> None:
    own = {names: place.own for place in cgroup.hierarchies() for names in [",".join(place.controllers)]}
    box.linux["cgroupsPath"] = f"/{box.id}/deep"
    box.process["args"] = ["true"]
    box("create")
    rows = Path(f"/proc/{box.state['pid']}/cgroup").read_text().splitlines()
    assert {row.split(":")[2] for row in rows if row.split(":")[1]} == {f"/{box.id}/deep"}
    box("delete")
    for place in cgroup.hierarchies():  # what was made on the way is nobody's
        os.rmdir(f"{place.mountpoint}/{box.id}")
    box.linux["cgroupsPath"] = f"{box.id}/relative"
    box("create")
    rows = Path(f"/proc/{box.state['pid']}/cgroup").read_text().splitlines()
    for _, names, path in (row.split(":") for row in rows):
        if names:
            assert path == os.path.join(own[names], box.id, "relative")
    box("delete")
    for place in cgroup.hierarchies():
        os.rmdir(f"{place.mountpoint}/{place.own}/{box.id}")


def test_a_path_that_leads_upwards(box: Any) -> None:
    for path in "../up", "/a/../../b", "..":
        box.linux["cgroupsPath"] = path
        assert "linux.cgroupsPath: leads upwards" in box("run", code=1).stderr


def test_somebody_elses_group_is_left_alone(box: Any) -> None:
    """A create into a group that is in use fails, and what runs there goes on."""
    path = group(box, "pids")
    path.mkdir()
    with subprocess.Popen(["sh", "-c", f"echo $$ > {path}/cgroup.procs; echo; exec sleep 1000"], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert "container's cgroup is not empty: 1 process(es) found" in box("create", code=1).stderr
        assert other.poll() is None
        other.kill()
    path.rmdir()


def test_the_hosts_own_group_is_refused(box: Any) -> None:
    box.linux["cgroupsPath"] = "/"
    assert "container's cgroup is not empty" in box("create", code=1).stderr


def test_a_frozen_group_is_refused(box: Any) -> None:
    path = group(box, "freezer")
    path.mkdir()
    (path / "freezer.state").write_text("FROZEN")
    assert "container's cgroup unexpectedly frozen" in box("create", code=1).stderr
    (path / "freezer.state").write_text("THAWED")
    path.rmdir()


def test_groups_that_the_container_made_go_too(box: Any) -> None:
    box.share("cgroup")
    for each in box.spec["mounts"]:
        if each["type"] == "cgroup":
            each["options"] = ["nosuid", "noexec", "nodev"]
    box.process["args"] = ["sh", "-c", "mkdir -p /sys/fs/cgroup/pids/a/b/c && echo made && exec sleep 1000"]
    box("create")
    box("start")
    while box.output.read_text() != "made\n":
        pass
    box("delete", "--force")


def test_everybody_in_the_group_is_killed(box: Any) -> None:
    """Also who left the session, was adopted, and ignores what can be ignored."""
    script = "for i in 1 2 3 4 5; do (setsid sh -c 'trap : TERM HUP INT; while :; do sleep 1000; done' &); done; exec sleep 1000"
    box.process["args"] = ["sh", "-c", script]
    box.share("pid")
    box("create")
    box("start")
    while len(box("ps").stdout.split()) < 11:
        pass
    box("delete", "--force")


def test_what_is_seen_inside(box: Any) -> None:
    """A namespace of its own: each hierarchy's root is the container's group, and read-only."""
    limited(box, memory={"limit": 64 << 20})
    box("start")
    text = box("exec", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls /sys/fs/cgroup; cat /proc/self/cgroup; "
               "echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes", code=1).stdout  # fmt: skip
    rows = text.splitlines()
    assert rows[0] == str(64 << 20)
    assert {"memory", "pids", "devices", "freezer"} <= set(rows)
    assert {row.split(":")[2] for row in rows if row.count(":") == 2 and not row.startswith("0::")} == {"/"}
    box("delete", "--force")
