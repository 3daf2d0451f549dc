"""`--systemd-cgroup` where systemd is process 1: units, their properties, what both write, users' own managers.

`tests/vm/run --systemd` boots such a machine; elsewhere all of it is skipped.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box import Box
from tests.conftest import BIN

TOP = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="needs systemd as process 1"),
    pytest.mark.root,
]
MIB = 1 << 20
LIMITS = {
    "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB},
    "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "1", "mems": "0"},
    "pids": {"limit": 77},
    "unified": {"memory.high": str(48 * MIB)},
}


def shown(unit: str, *names: str, user: str = "") -> list[str]:
    """What systemd says of a unit's properties."""
    words = ["systemctl", *(["--user", f"--machine={user}@.host"] if user else []), "show", unit]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    return [found.get(name, "") for name in names]


def reads(place: Path, *names: str) -> list[str]:
    return [(place / name).read_text().strip() for name in names]


@pytest.fixture
def managed(box: Any) -> Iterator[Any]:
    """A box in a unit of its own: `.unit`, `.group`; its verbs have --systemd-cgroup before them where it counts."""
    box.linux["cgroupsPath"] = f"system-oci.slice:box:{box.id}"
    box.process["args"] = ["sleep", "1000"]
    box.unit = f"box-{box.id}.scope"
    box.group = TOP / "system.slice" / "system-oci.slice" / box.unit
    yield box
    box("delete", "--force", code=None)
    assert shown(box.unit, "LoadState") == ["not-found"]


def begin(box: Any, code: int = 0) -> str:
    """Run it, detached; what it says if it fails."""
    quiet = {} if code else {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the payload keeps its streams
    return str(box("run", "--systemd-cgroup", "--detach", code=code, **quiet).stderr)


def test_a_life(managed: Any) -> None:
    managed("create", "--systemd-cgroup")
    pid = managed.state["pid"]
    assert shown(managed.unit, "ActiveState", "Delegate", "Slice", "ControlGroup") == [
        "active", "yes", "system-oci.slice", f"/system.slice/system-oci.slice/{managed.unit}",
    ]  # fmt: skip
    assert reads(managed.group, "cgroup.procs") == [str(pid)]
    managed("start")
    managed("pause")
    assert managed.state["status"] == "paused"
    managed("resume")
    assert json.loads(managed("ps", "--format", "json").stdout) == [pid]
    assert managed("exec", "sh", "-c", "cat /proc/self/cgroup").stdout.startswith("0::/")
    managed("kill", "KILL")
    managed("delete", "--force")
    assert not managed.group.exists() and shown(managed.unit, "LoadState") == ["not-found"]


def test_limits_are_the_units_and_the_groups(managed: Any) -> None:
    managed.linux["resources"] |= LIMITS
    begin(managed)
    names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "MemoryHigh", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs")
    said = [str(64 * MIB), str(32 * MIB), str(16 * MIB), str(48 * MIB), "77", "59", "500ms", "1"]
    assert shown(managed.unit, *names) == said
    files = ("memory.max", "memory.swap.max", "memory.low", "memory.high", "pids.max", "cpu.weight", "cpu.max", "cpuset.cpus")
    assert reads(managed.group, *files) == [*said[:6], "25000 50000", "1"]
    managed("update", "--memory", str(80 * MIB), "--pids-limit", "-1", "--cpu-quota", "-1")
    changed = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "MemoryLow")
    assert shown(managed.unit, *changed) == [str(80 * MIB), "infinity", "infinity", str(16 * MIB)]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert reads(managed.group, "memory.max", "pids.max") == [str(80 * MIB), "max"]
    assert reads(managed.group, "cpu.max")[0].startswith("max ")  # with no quota, its period is systemd's to choose


def test_devices_stay_what_they_are_over_a_reload(managed: Any) -> None:
    managed.linux["devices"] = [{"path": "/dev/loop", "type": "b", "major": 7, "minor": 0}]
    begin(managed)
    tries = "for d in null zero loop; do head -c 1 /dev/$d >/dev/null 2>&1 && echo $d; done; mknod /dev/x c 1 5 && echo made"
    expected = "null\nzero\nmade\n"
    assert managed("exec", "sh", "-c", tries).stdout == expected
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "set-property", "--runtime", managed.unit, "CPUWeight=50"], check=True)
    assert managed("exec", "sh", "-c", f"rm /dev/x; {tries}").stdout == expected
    assert shown(managed.unit, "DevicePolicy") == ["strict"]


@pytest.mark.needs("runc")
def test_the_unit_is_as_runc_makes_it(managed: Any, tmp_path: Path) -> None:
    """But for its words, and the weight, for which Debian's still has the old formula."""
    managed.linux["resources"] |= {name: LIMITS[name] for name in ("memory", "cpu", "pids")}
    begin(managed)
    other = json.loads(json.dumps(managed.spec))
    other["linux"]["cgroupsPath"] = f"system-oci.slice:runc:{managed.id}"
    other["linux"]["namespaces"] = [each for each in other["linux"]["namespaces"] if each["type"] != "time"]
    (managed.bundle / "config.json").write_text(json.dumps(other))
    runc = ["runc", "--systemd-cgroup", "--root", str(tmp_path / "runc")]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*runc, "run", "-d", "-b", managed.bundle, "theirs"], check=True, **quiet)  # type: ignore[call-overload]
    try:
        names = (
            "MemoryMax", "MemorySwapMax", "MemoryLow", "TasksMax", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec",
            "AllowedCPUs", "AllowedMemoryNodes", "Delegate", "DevicePolicy", "Slice", "MemoryAccounting", "TasksAccounting",
        )  # fmt: skip
        assert shown(managed.unit, *names) == shown(f"runc-{managed.id}.scope", *names)
    finally:
        subprocess.run([*runc, "delete", "--force", "theirs"], check=True)


def test_without_a_path_it_is_in_the_systems_slice(box: Any) -> None:
    box.process["args"] = ["cat", "/proc/1/cgroup"]
    box.share("cgroup")
    assert box("run", "--systemd-cgroup").stdout == f"0::/system.slice/oci-{box.id}.scope\n"


def test_properties_by_annotations(managed: Any) -> None:
    managed.spec["annotations"] = {
        "org.systemd.property.Description": "'as annotated'",
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
    }
    begin(managed)
    assert shown(managed.unit, "Description", "TimeoutStopUSec", "CollectMode") == ["as annotated", "7s", "inactive-or-failed"]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (("org.systemd.property.Description", "'open"), "not a value in GVariant's text format"),
        (("org.systemd.property.X-Y", "'x'"), "not the name of a property"),
        (("org.systemd.property.Nonsense", "'x'"), "systemd refuses StartTransientUnit"),
    ],
)
def test_annotations_that_cannot_be(managed: Any, annotation: tuple[str, str], said: str) -> None:
    managed.spec["annotations"] = dict([annotation])
    assert said in begin(managed, code=1)
    assert "does not exist" in managed("state", code=1).stderr


@pytest.mark.parametrize("path", ["/a/b", "a:b", "x.slice:a:", "x:a:b", "a--b.slice:x:y", "a/b.slice:x:y", "x.slice:y:z.slice"])
def test_paths_that_systemd_has_no_place_for(managed: Any, path: str) -> None:
    managed.linux["cgroupsPath"] = path
    said = begin(managed, code=1)
    assert said.startswith("oci-run: config.json: linux.cgroupsPath: ") and len(said.splitlines()) == 1


def test_the_name_of_a_unit_that_failed_is_free_again(managed: Any) -> None:
    managed.linux["resources"] |= {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}
    managed.process["args"] = ["sh", "-c", "x=x; while :; do x=$x$x; done"]
    for _ in range(2):
        assert "137" in str(managed("run", "--systemd-cgroup", "--keep", code=137).returncode)
        managed("delete")


def test_a_unit_of_that_name_that_runs_is_left_alone(managed: Any) -> None:
    subprocess.run(["systemd-run", "--scope", "--unit", managed.unit, "true"], check=True, capture_output=True)
    with subprocess.Popen(["systemd-run", "--scope", "--slice=system-oci.slice", "--unit", managed.unit, "sleep", "1000"]) as other:
        while shown(managed.unit, "ActiveState") != ["active"]:
            pass
        assert "not empty" in begin(managed, code=1) or "refuses" in begin(managed, code=1)
        assert other.poll() is None and shown(managed.unit, "ActiveState") == ["active"]
        subprocess.run(["systemctl", "stop", managed.unit], check=True)


def test_killed_at_the_worst_time_nothing_remains(managed: Any, tmp_path: Path) -> None:
    """Between the unit's start and the container's."""
    managed.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}
    managed("create", "--systemd-cgroup", code=-9)
    managed("delete", "--force")
    assert not managed.group.exists()


# -- a plain user's own manager ----------------------------------------------------------------------


@pytest.fixture
def manager(plain_box: Any) -> Iterator[tuple[Box, Path]]:
    """A plain user's box, and where the user's manager keeps its groups."""
    uid = plain_box.oci.user["user"]
    try:
        pwd.getpwuid(uid)
    except KeyError:
        subprocess.run(["useradd", "--uid", str(uid), "--create-home", f"u{uid}"], check=True)
    subprocess.run(["systemctl", "start", f"user@{uid}.service"], check=True)
    plain_box.oci.env["XDG_RUNTIME_DIR"] = f"/run/user/{uid}"
    plain_box.process["args"] = ["sleep", "1000"]
    yield plain_box, TOP / f"user.slice/user-{uid}.slice/user@{uid}.service"


def test_a_plain_users_unit(manager: tuple[Any, Path]) -> None:
    box, top = manager
    box.linux["cgroupsPath"] = f"user.slice:box:{box.id}"
    box.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 33}}
    begin(box)
    group = top / "user.slice" / f"box-{box.id}.scope"
    assert reads(group, "memory.max", "pids.max") == [str(64 * MIB), "33"]
    assert str(box.state["pid"]) in reads(group, "cgroup.procs")[0].split()
    assert box("exec", "sh", "-c", "echo $PPID; cat /proc/self/cgroup").stdout
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    box.oci("run", "exec", "--detach", "--pid-file", box.bundle / "pid", box.id, "sleep", "1000", **quiet)
    pid = (box.bundle / "pid").read_text()
    assert f"/box-{box.id}.scope" in Path(f"/proc/{pid}/cgroup").read_text()
    box("update", "--pids-limit", "44")
    assert reads(group, "pids.max") == ["44"]
    box("pause")
    assert box.state["status"] == "paused"
    box("delete", "--force")
    assert not group.exists()
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("mode", ["process", "control-group"])
def test_containers_outlive_the_unit_of_their_ocid(box: Any, tmp_path: Path, mode: str) -> None:
    """Also where the unit does not say KillMode=process: a monitor is in a group of its own."""
    box.process["args"] = ["sleep", "1000"]
    box.save()
    env = {name: box.oci.env[name] for name in ("OCI_ROOT", "OCI_RUN")}
    container = box.oci("run", "new", "--restart", "always", str(box.bundle)).stdout.strip()
    box.oci("run", "start", container)
    box.oci("run", "stop", "-t", "0", container)
    unit = f"ocid-{mode}-{box.id}.service"
    words = ["systemd-run", f"--unit={unit}", "-p", "Type=notify", "-p", "Delegate=yes", "-p", f"KillMode={mode}"]
    words += [f"--setenv={name}={value}" for name, value in env.items()]
    subprocess.run([*words, f"{BIN}/ocid", "--listen", f"unix://{tmp_path}/s"], check=True)
    place = Path(env["OCI_ROOT"]) / "containers" / container
    try:
        deadline = time.monotonic() + 60
        while json.loads(box.oci("run", "state", container).stdout)["status"] != "running":  # it is boot
            assert time.monotonic() < deadline
            time.sleep(0.1)
        monitor = int((place / "lock").read_text())
        pid = json.loads(box.oci("run", "state", container).stdout)["pid"]
        assert Path(f"/proc/{monitor}/cgroup").read_text() == "0::/oci/monitors\n"
        assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/oci/{container}\n"
    finally:
        subprocess.run(["systemctl", "stop", unit], check=True)
    assert shown(unit, "ActiveState")[0] in ("inactive", "failed")
    assert json.loads(box.oci("run", "state", container).stdout)["status"] == "running"
    assert int((place / "lock").read_text()) == monitor and Path(f"/proc/{monitor}").exists()
    box.oci("run", "rm", "-f", container)
    group = Path(f"/sys/fs/cgroup/system.slice/{unit}")
    deadline = time.monotonic() + 60
    while group.exists() and subprocess.run(["grep", "-q", ".", group / "cgroup.procs"], check=False).returncode == 0:
        assert time.monotonic() < deadline  # what ocid started for itself ends with it, a moment later
        time.sleep(0.1)
    if group.exists():  # with KillMode=process systemd may leave it, empty
        group.rmdir()
