"""Control groups where the unified hierarchy is at /sys/fs/cgroup: limits, joining, pausing, killing, removing.

`tests/vm/run` boots such a kernel; elsewhere all of it is skipped.  What a limit does is
the kernel's; here it is seen that it is the one that was asked for, on the right group.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.skipif(not (TOP / "cgroup.controllers").exists(), reason="needs cgroup v2 at /sys/fs/cgroup"),
    pytest.mark.root,
]
MIB = 1 << 20


@pytest.fixture
def parent() -> Iterator[Path]:
    """A group for the test to use, removed with all that is beneath it."""
    path = TOP / f"test-parent-{os.getpid()}"  # each worker its own
    path.mkdir()
    yield path
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that does nothing."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def group(box: Any) -> Path:
    """The group that the runtime says is the container's."""
    state = Path(box.oci.env["OCI_RUN"]) / "runtime" / box.id / "state.json"
    return Path(json.loads(state.read_text())["cgroups"][""])


def reads(place: Path, *names: str) -> list[str]:
    return [(place / name).read_text().strip() for name in names]


def background(box: Any, script: str = "sleep 1000") -> Path:
    """Start the container on a script and leave it running; its group."""
    box.process["args"] = ["sh", "-c", script]
    box("run", "--detach", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return group(box)


def test_one_beneath_the_group_of_who_looks_after_it(oci: Any, busybox: Path, parent: Path) -> None:
    """--cgroups split, as in a unit of systemd with Delegate=: nothing is made outside of its group."""
    line = f'echo $$ > {parent}/cgroup.procs; exec oci-run --cgroups split --cgroupns host --memory 32m "$0" cat /proc/self/cgroup'
    seen = oci.run(["sh", "-c", line, f"{busybox}:latest"]).stdout.strip()
    assert seen.startswith("0::") and Path(seen).parent.name == parent.name
    assert [each.name for each in parent.iterdir() if each.is_dir()] == ["supervisor"]


# -- limits ----------------------------------------------------------------------------------


def test_limits_are_written_and_changed(box: Any) -> None:
    box.linux["resources"] |= {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 10000, "cpus": "1", "mems": "0"},
        "pids": {"limit": 77},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": "60000000", "memory.oom.group": "1"},
    }
    box("create")
    place = group(box)
    assert reads(place, "memory.max", "memory.swap.max", "memory.low") == [
        str(64 * MIB), str(32 * MIB), str(16 * MIB),
    ]  # fmt: skip
    assert reads(place, "cpu.weight", "cpu.max", "cpu.max.burst") == ["59", "20000 50000", "10000"]
    assert reads(place, "cpuset.cpus", "cpuset.mems", "pids.max") == ["1", "0", "77"]
    assert reads(place, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 * MIB)] * 2
    assert reads(place, "memory.high", "memory.oom.group") == [str(60000000 // 4096 * 4096), "1"]

    def update(*words: str, resources: Any = None, **more: Any) -> Any:
        if resources is not None:
            return box("update", "--resources", "-", input=json.dumps(resources), **more)
        return box("update", *words, **more)

    # One of two numbers that share a file: the other stays.
    update("--cpu-quota", "30000")
    assert reads(place, "cpu.max") == ["30000 50000"]
    update("--cpu-period", "60000")
    assert reads(place, "cpu.max") == ["30000 60000"]
    update(resources={"cpu": {"quota": 90000, "burst": 80000}})  # above the quota that there was
    assert reads(place, "cpu.max", "cpu.max.burst") == ["90000 60000", "80000"]
    update(resources={"cpu": {"quota": 20000, "burst": 0}})  # and back below the burst
    assert reads(place, "cpu.max", "cpu.max.burst") == ["20000 60000", "0"]
    update("--cpu-quota", "-1", "--cpu-share", "1024", "--cpuset-cpus", "0-1")
    assert reads(place, "cpu.max", "cpu.weight", "cpuset.cpus") == ["max 60000", "100", "0-1"]
    update("--memory-swap", str(80 * MIB))
    assert reads(place, "memory.max", "memory.swap.max") == [str(64 * MIB), str(16 * MIB)]
    update("--memory", "48m", "--memory-swap", "48m", "--pids-limit", "0")
    assert reads(place, "memory.max", "memory.swap.max", "pids.max") == [str(48 * MIB), "0", "0"]
    failed = update(resources={"memory": {"limit": 4096, "checkBeforeUpdate": True}}, code=1)
    assert "bytes are in use" in failed.stderr
    update("--memory", "-1", "--pids-limit", "-1")
    assert reads(place, "memory.max", "memory.swap.max", "pids.max") == ["max", "max", "max"]
    failed = update("--memory-swap", str(80 * MIB), code=1)
    assert "needs linux.resources.memory.limit" in failed.stderr
    box("delete", "--force")
    assert not place.exists()


def test_limits_of_block_devices(box: Any) -> None:
    number = (TOP / "../../block/vdb/dev").resolve().read_text().strip()
    major, minor = map(int, number.split(":"))
    box.linux["resources"]["blockIO"] = {
        "weight": 500,
        "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": MIB}],
        "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 120}],
    }
    box("create")
    place = group(box)
    assert reads(place, "io.max") == [f"{number} rbps={MIB} wbps=max riops=max wiops=120"]
    if (place / "io.bfq.weight").exists():
        assert reads(place, "io.bfq.weight") == ["default 500"]
    else:
        assert reads(place, "io.weight") == ["default 4950"]
    box("update", "--resources", "-", input=json.dumps({"unified": {"io.max": f"{number} rbps=max\n{number} wiops=9"}}))
    assert reads(place, "io.max") == [f"{number} rbps=max wbps=max riops=max wiops=9"]
    box("delete")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"unified": {"../x": "1"}}, "linux.resources.unified[\"../x\"]"),
        ({"unified": {"nothing.max": "1"}}, "cannot set 'nothing.max': controller 'nothing' is not available in cgroup"),
        ({"unified": {"memory.nothing": "1"}}, "memory.nothing': no such file or directory"),
        ({"unified": {"memory.max": "much"}}, "cannot write 'much' to"),
        ({"memory": {"swap": MIB}}, "needs linux.resources.memory.limit"),
        ({"memory": {"limit": MIB, "swap": 4096}}, "linux.resources.memory.swap"),
        ({"cpu": {"cpus": "0-9999999"}}, "cpuset.cpus"),
    ],
)
def test_limits_that_cannot_be(box: Any, resources: Any, message: str) -> None:
    box.linux["resources"] |= resources
    said = box("create", code=1).stderr
    assert message in said
    assert said.count("\n") == 1


def test_too_much_memory_is_137(box: Any) -> None:
    box.linux["resources"]["memory"] = {"limit": 32 * MIB, "swap": 32 * MIB}
    box.process["args"] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
    box("run", code=137)


def test_too_many_processes_are_refused(box: Any) -> None:
    box.linux["resources"]["pids"] = {"limit": 5}
    said = box.sh("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done", code=2).stderr
    assert "can't fork" in said


def test_processor_time_is_limited_and_counted(box: Any) -> None:
    box.linux["resources"]["cpu"] = {"quota": 1000, "period": 10000, "cpus": "0"}
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; nproc; grep nr_throttled /sys/fs/cgroup/cpu.stat"
    count, throttled = box.says(script).split("\n")
    assert count == "1"
    assert int(throttled.split()[1]) > 0


def test_one_shot_options(oci: Any, busybox: Path) -> None:
    oci.preload("docker.io/library/busybox:latest", busybox)
    files = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus")
    words = "--network none --memory 32m --pids-limit 20 --cpus 0.5 --cpu-shares 512 --cpuset-cpus 1".split()
    done = oci("run", *words, "busybox", "cat", *(f"/sys/fs/cgroup/{name}" for name in files))
    assert done.stdout.split("\n")[:-1] == [str(32 * MIB), str(32 * MIB), "20", "50000 100000", "59", "1"]


# -- what is seen inside -----------------------------------------------------------------------


def test_the_container_sees_its_own_group_read_only(box: Any) -> None:
    script = """
        cat /proc/self/cgroup
        grep ' - cgroup2 ' /proc/self/mountinfo
        cat /sys/fs/cgroup/pids.max
        echo 5 > /sys/fs/cgroup/pids.max
        mkdir /sys/fs/cgroup/more
    """
    box.linux["resources"]["pids"] = {"limit": 33}
    done = box.sh(script, code=1)
    own, mount, limit = done.stdout.splitlines()
    assert own == "0::/"
    fields = mount.split()
    assert fields[3:5] == ["/", "/sys/fs/cgroup"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(fields[5].split(","))
    assert limit == "33"
    assert done.stderr.count("Read-only file system") == 2


def test_without_a_cgroup_namespace_it_is_bound_read_only(box: Any) -> None:
    box.share("cgroup")
    done = box.sh("cat /proc/self/cgroup /sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/more", code=1)
    assert done.stdout == f"0::/{box.id}\nmax\n"
    assert "Read-only file system" in done.stderr


def test_a_divided_group_is_entered_beside_the_first_process_and_removed_whole(box: Any) -> None:
    """What systemd does inside: then no process may be in the group itself."""
    for mount in box.spec["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"].remove("ro")
    place = background(
        box,
        "set -e; cd /sys/fs/cgroup; mkdir -p init deep/er; echo 1 > init/cgroup.procs; echo +pids > cgroup.subtree_control;"
        " sleep 1000 & echo $! > deep/cgroup.procs; wait",
    )
    events = place / "deep/cgroup.events"
    while not events.exists() or "populated 1" not in events.read_text():
        assert box.state["status"] == "running"
    assert box("exec", "cat", "/proc/self/cgroup").stdout.startswith("0::/exec-")
    assert len(box("ps").stdout.split()) == 2
    box("kill", "KILL")
    box("delete", "--force")
    assert not place.exists()


def test_root_of_a_user_namespace_may_divide_its_group_and_not_raise_its_limits(box: Any) -> None:
    box.mapped()
    for mount in box.spec["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"].remove("ro")
    box.linux["resources"]["pids"] = {"limit": 50}
    script = """
        cd /sys/fs/cgroup
        mkdir one && echo 1 > one/cgroup.procs && echo +pids > cgroup.subtree_control && cat one/pids.max
        echo 100 > pids.max
    """
    done = box.sh(script, code=1)
    assert done.stdout == "max\n"
    assert "pids.max: Permission denied" in done.stderr


def test_root_of_a_user_namespace_with_a_read_only_mount_owns_nothing(box: Any) -> None:
    box.mapped()
    box("create")
    assert group(box).stat().st_uid == 0
    box("delete")


# -- where it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/{parent}/one/{id}", "{parent}/one/{id}", None])
def test_the_group_is_where_config_says_with_every_controller(box: Any, parent: Path, path: str | None) -> None:
    """Also where the way was made by somebody who enabled none."""
    (parent / "one").mkdir()
    if path:
        box.linux["cgroupsPath"] = path.format(parent=parent.name, id=box.id)
    box.linux["resources"]["pids"] = {"limit": 9}
    box("create")
    place = group(box)
    # Our own group is the root's, in which processes may be beside groups.
    assert place == (parent / "one" / box.id if path else TOP / box.id)
    assert reads(place, "cgroup.controllers", "pids.max") == [*reads(TOP, "cgroup.controllers"), "9"]
    assert reads(place, "cgroup.procs") == [str(box.state["pid"])]
    box("delete")
    assert not place.exists()
    assert (parent / "one").exists()


def test_relative_means_beside_ours(box: Any, parent: Path) -> None:
    (parent / "ours").mkdir()
    box.linux["cgroupsPath"] = f"next/{box.id}"
    (parent / "cgroup.subtree_control").write_text("+pids")
    box("create", preexec_fn=lambda: (parent / "ours/cgroup.procs").write_text("0"))
    assert group(box) == parent / "next" / box.id
    box("delete")


def test_a_path_that_leads_upwards_is_refused(box: Any) -> None:
    box.linux["cgroupsPath"] = "/a/../../etc"
    assert "linux.cgroupsPath" in box("create", code=1).stderr


def test_a_group_in_use_is_refused_and_left_alone(box: Any, parent: Path, sleeper: Any) -> None:
    box.linux["cgroupsPath"] = f"/{parent.name}"
    (parent / "cgroup.procs").write_text(str(sleeper.pid))
    failed = box("create", code=1)
    assert "container's cgroup is not empty: 1 process(es) found" in failed.stderr
    # The same, when the runtime sees the other no more than as a 0.
    line = f"unshare --pid --fork --mount-proc oci-run run -b {box.bundle} {box.id}"
    failed = box.oci.shell(line, code=1)
    assert "container's cgroup is not empty: 1 process(es) found" in failed.stderr
    assert sleeper.poll() is None
    assert reads(parent, "cgroup.procs") == [str(sleeper.pid)]
    sleeper.kill()
    sleeper.wait()


def test_a_frozen_group_is_refused(box: Any, parent: Path) -> None:
    box.linux["cgroupsPath"] = f"/{parent.name}/{box.id}"
    (parent / box.id).mkdir()
    for frozen in (parent, parent / box.id):
        (frozen / "cgroup.freeze").write_text("1")
        assert "frozen" in box("create", code=1).stderr
        (frozen / "cgroup.freeze").write_text("0")


# -- life --------------------------------------------------------------------------------------


def test_pause_resume_and_what_cannot_be_done_meanwhile(box: Any) -> None:
    place = background(box, "while :; do echo >> /tmp/ticks; done")
    box("pause")
    assert "frozen 1" in (place / "cgroup.events").read_text()
    assert box.state["status"] == "paused"
    ticks = (box.rootfs / "tmp/ticks").stat().st_size
    assert "cannot exec in a paused container" in box("exec", "true", code=255).stderr
    assert "cannot pause" in box("pause", code=1).stderr
    assert "not stopped: paused" in box("delete", code=1).stderr
    assert (box.rootfs / "tmp/ticks").stat().st_size == ticks
    box("resume")
    assert "frozen 0" in (place / "cgroup.events").read_text()
    assert box.state["status"] == "running"
    while (box.rootfs / "tmp/ticks").stat().st_size == ticks:
        assert box.state["status"] == "running"
    box("pause")
    box("kill", "KILL")
    box("delete", "--force")
    assert not place.exists()


def test_a_paused_container_is_deleted_by_force(box: Any) -> None:
    place = background(box)
    box("pause")
    box("delete", "--force")
    assert not place.exists()


def test_without_a_pid_namespace_all_are_killed(box: Any) -> None:
    box.share("pid")
    place = background(box, "for i in 1 2 3; do setsid sleep 1000 & done; wait")
    while len(reads(place, "cgroup.procs")[0].split()) < 4:
        assert box.state["status"] == "running"
    pids = box("ps", "--format", "json").stdout
    assert len(json.loads(pids)) == 4
    box("kill", "KILL")
    assert "populated 0" in (place / "cgroup.events").read_text()
    box("delete")
    assert not place.exists()


def test_delete_by_force_without_a_pid_namespace_leaves_nobody(box: Any) -> None:
    box.share("pid")
    place = background(box, "for i in 1 2 3; do setsid sleep 1000 & done; wait")
    box("delete", "--force")
    assert not place.exists()


def test_exec_joins_the_group(box: Any) -> None:
    place = background(box)
    box.oci("run", "exec", "--detach", box.id, "sleep", "1000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert len(reads(place, "cgroup.procs")[0].split()) == 1
    (own,) = place.glob("exec-*")  # where a limit of the container's holds as well
    assert len(reads(own, "cgroup.procs")[0].split()) == 1
    assert box("exec", "cat", "/proc/self/cgroup").stdout.startswith("0::/exec-")
    assert len(json.loads(box("ps", "--format", "json").stdout)) == 2
    box("delete", "--force")


# -- plain users -------------------------------------------------------------------------------


def test_a_plain_user_needs_no_group_and_gets_no_limit_without_delegation(plain_box: Any) -> None:
    assert plain_box.says("cat /proc/self/cgroup") == "0::/"
    plain_box.linux["resources"] = {"pids": {"limit": 9}}
    failed = plain_box("create", code=1)
    assert failed.stderr.startswith("oci-run: cannot make cgroup '/sys/fs/cgroup/box-")
    assert failed.stderr.endswith(": permission denied\n")


def test_a_plain_user_with_a_delegated_group_limits_in_it(plain_box: Any, parent: Path) -> None:
    """As systemd delegates to user@UID.service: the directory and the files that the kernel names."""
    user = plain_box.oci.user["user"]
    (TOP / "cgroup.subtree_control").write_text("+pids +memory")
    (parent / "cgroup.subtree_control").write_text("+pids +memory")
    top = parent / "user"
    session = top / "session"
    session.mkdir(parents=True)
    for place in top, session:
        os.chown(place, user, user)
        for name in Path("/sys/kernel/cgroup/delegate").read_text().split():
            if (place / name).exists():
                os.chown(place / name, user, user)
    plain_box.linux["resources"] = {"pids": {"limit": 9}, "memory": {"limit": 64 * MIB}}
    plain_box.process["args"] = ["sleep", "1000"]
    entry = os.open(session / "cgroup.procs", os.O_WRONLY)  # opened by root, who alone may bring somebody in
    join = {"preexec_fn": lambda: os.write(entry, b"0")}
    plain_box("create", **join)
    place = group(plain_box)
    assert place == top / plain_box.id
    assert reads(place, "pids.max", "memory.max", "cgroup.procs") == ["9", str(64 * MIB), str(plain_box.state["pid"])]
    plain_box("start", **join)
    plain_box("pause", **join)
    assert plain_box.state["status"] == "paused"
    plain_box("resume", **join)
    plain_box("exec", "true", **join)
    plain_box.linux["resources"] = {"cpu": {"quota": 1000}}
    plain_box("delete", "--force", **join)
    assert not place.exists()
    failed = plain_box("create", code=1, **join)
    assert f"cannot set 'cpu.max': controller 'cpu' is not available in cgroup '{place}'" in failed.stderr
    os.close(entry)
