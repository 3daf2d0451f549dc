"""Namespaces: new, shared, joined by path; user namespaces and their maps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

KINDS = {"mount": "mnt", "network": "net", "uts": "uts", "pid": "pid", "ipc": "ipc", "cgroup": "cgroup", "time": "time"}


def inside(box: Any, script: str = ":") -> dict[str, str]:
    """The namespaces that a container's process is in, by the kernel's names."""
    rows = box.says(f"{script}; for f in {' '.join(KINDS.values())} user; do readlink /proc/self/ns/$f; done").split()
    return dict(zip([*KINDS.values(), "user"], rows[-8:], strict=True))


def ours() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in (*KINDS.values(), "user")}


def test_new_ones(box: Any) -> None:
    box.namespace("time")
    found, own = inside(box), ours()
    assert {name for name in found if found[name] != own[name]} == set(KINDS.values())
    assert found["user"] == own["user"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mount", "time")])
def test_shared_ones(box: Any, kind: str) -> None:
    box.share(kind)
    if kind == "uts":
        del box.spec["hostname"]
    found, own = inside(box), ours()
    assert {name for name in found if found[name] == own[name]} == {KINDS[kind], "user", "time"}


def test_what_they_isolate(box: Any) -> None:
    box.spec["hostname"] = "inside"
    box.spec["domainname"] = "example"
    script = "hostname; cat /proc/sys/kernel/domainname; echo $$; ls /sys/class/net; echo; cut -d : -f 3 /proc/self/cgroup"
    before, _, groups = box.says(script).partition("\n\n")
    assert before.split() == ["inside", "example", "1", "lo"]
    assert set(groups.split()) == {"/"}
    assert os.uname().nodename != "inside"


def test_loopback_is_up_in_a_new_network(box: Any) -> None:
    assert "127.0.0.1/8" in box.says("ip address show dev lo | grep -w inet")
    assert "LOWER_UP" in box.says("ip link show dev lo")


def test_time_offsets(box: Any) -> None:
    box.namespace("time")
    box.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5, "nanosecs": 10}}
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= float(box.says("cut -d ' ' -f 1 /proc/uptime")) - uptime - 1_000_000 < 60
    assert box.says("grep -v ^x /proc/self/timens_offsets").split() == ["monotonic", "5", "10", "boottime", "1000000", "0"]
    box.linux["timeOffsets"] = {"boottime": {"secs": -(10**9)}}
    assert "timens_offsets" in box("run", code=1).stderr


# -- joined by path -----------------------------------------------------------------------------------


class Other:
    """A process in namespaces of its own, which a container may join."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--fork", "--kill-child", *flags, "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
        )
        assert self.process.stdout
        self.process.stdout.readline()
        self.pid = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())

    def path(self, kind: str) -> str:
        return f"/proc/{self.pid}/ns/{KINDS.get(kind, kind)}"

    def end(self) -> None:
        os.kill(self.pid, 9)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other() -> Iterator[Any]:
    made: list[Other] = []

    def make(*flags: str) -> Other:
        made.append(Other(*flags))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.mark.parametrize("kind", KINDS)
def test_joined_by_path(box: Any, other: Any, kind: str) -> None:
    neighbour = other(*("-m", "-n", "-u", "-p", "-i", "-C", "-T"))
    box.namespace(kind, neighbour.path(kind))
    if kind == "uts":
        box.spec["hostname"] = "renamed"
    found = inside(box)
    assert found[KINDS[kind]] == os.readlink(neighbour.path(kind))
    if kind == "uts":
        said = subprocess.run(["nsenter", "-u", "-t", str(neighbour.pid), "hostname"], capture_output=True, text=True)
        assert said.stdout == "renamed\n"
    neighbour.process.send_signal(0)  # it is still there: what joins it does not end it


def test_joined_from_a_new_user_namespace(box: Any, other: Any) -> None:
    """A pod's namespaces are not of the container's user namespace: they are joined before it is made."""
    neighbour = other("-n", "-u", "-i")
    box.mapped()
    for kind in ("network", "uts", "ipc"):
        box.namespace(kind, neighbour.path(kind))
    box.spec["mounts"] = [each for each in box.spec["mounts"] if each["type"] not in ("sysfs", "mqueue")]  # not its own
    box.spec.pop("hostname", None)
    found = inside(box)
    assert [found[name] for name in ("net", "uts", "ipc")] == [os.readlink(neighbour.path(kind)) for kind in ("network", "uts", "ipc")]
    assert found["user"] != os.readlink("/proc/self/ns/user")


def test_all_joined_at_once(box: Any, other: Any) -> None:
    """As a container of a pod does."""
    neighbour = other("-n", "-u", "-p", "-i", "-C", "-T")
    for kind in KINDS:
        if kind != "mount":
            box.namespace(kind, neighbour.path(kind))
    found = inside(box)
    assert {name for name in found if found[name] == os.readlink(neighbour.path(name))} >= set(KINDS.values()) - {"mnt"}


def test_a_namespace_of_another_kind(box: Any, other: Any) -> None:
    neighbour = other("-n", "-u")
    box.namespace("network", neighbour.path("uts"))
    assert "it is not a network namespace" in box("run", code=1).stderr
    box.namespace("network", "/etc/passwd")
    assert "it is not a network namespace" in box("run", code=1).stderr
    fifo = box.bundle / "fifo"
    os.mkfifo(fifo)
    box.namespace("network", str(fifo))
    assert "it is not a network namespace" in box("run", code=1).stderr
    box.namespace("network", "/no/such")
    assert "cannot open the network namespace '/no/such': no such file" in box("run", code=1).stderr


# -- user namespaces ------------------------------------------------------------------------------------


def test_a_user_namespace(box: Any) -> None:
    box.mapped(100_000)
    for kind in KINDS:
        box.namespace(kind)
    box.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    script = """
        cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G
        stat -c '%u:%g' / /bin/sh /proc/self/ /dev /dev/null; stat -c '%t:%T %F' /dev/null
        test -w /dev/null && echo writable; cat /proc/self/setgroups
    """
    rows = [" ".join(row.split()) for row in box.says(script).splitlines()]
    assert rows == [
        "0 100000 65536", "0 100000 65536", "5", "6", "6 7",
        "0:0", "0:0", "5:6", "0:0", "65534:65534", "1:3 character special file", "writable", "allow",
    ]  # fmt: skip
    box.process["user"] = {"uid": 0, "gid": 0}
    found, own = inside(box), ours()
    assert not {name for name in found if found[name] == own[name]}


def test_a_file_made_inside_belongs_to_the_mapped_user(box: Any) -> None:
    box.mapped(200_000, 1000)
    box.process["user"] = {"uid": 7, "gid": 8}
    box.says("touch /tmp/made")
    found = os.stat(box.rootfs / "tmp/made")
    assert (found.st_uid, found.st_gid) == (200_007, 200_008)


def test_a_user_that_is_not_mapped(box: Any) -> None:
    box.mapped(100_000, 10)
    box.process["user"] = {"uid": 10, "gid": 0}
    assert box("run", code=1).stderr == (
        "oci-run: cannot become user '10:0': invalid argument (is it mapped in the user namespace?)\n"
    )


def test_one_without_root(box: Any) -> None:
    """What is made as it is set up belongs to the first who is mapped; for `exec`, too."""
    box.mapped(100_000)
    for name in "uidMappings", "gidMappings":
        box.linux[name] = [{"containerID": 1000, "hostID": 100_000, "size": 1}]
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["cwd"] = "/"
    for mount in box.spec["mounts"]:
        mount["options"] = [option for option in mount.get("options", []) if option != "gid=5"]
    assert box.says("id -u; id -g; stat -c %u /dev /dev/pts/ptmx /dev/shm").split() == ["1000"] * 5
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    assert box("exec", "sh", "-c", "id -u; id -g").stdout.split() == ["1000"] * 2
    box("delete", "--force")


def test_mappings_that_the_kernel_refuses(box: Any) -> None:
    box.mapped()
    box.linux["uidMappings"] *= 2
    assert "uid_map': invalid argument" in box("run", code=1).stderr


def test_a_joined_user_namespace(box: Any, other: Any) -> None:
    """The new namespaces are made in it, and belong to it; what is joined beside it is joined too."""
    box.mapped(100_000, 65536)
    del box.linux["uidMappings"], box.linux["gidMappings"]
    neighbour = other("-U", "--map-users=0:100000:65536", "--map-groups=0:100000:65536", "--setuid=0", "--setgid=0", "-n")
    box.namespace("user", neighbour.path("user"))
    box.namespace("network", neighbour.path("network"))
    box.process["user"] = {"uid": 3, "gid": 3}
    text = box.says("id -u; cat /proc/self/uid_map; stat -c %u / /dev/null; hostname; grep Cap /proc/self/status")
    rows = text.splitlines()
    assert rows[0] == "3"
    assert rows[1].split() == ["0", "100000", "65536"]
    assert rows[2:5] == ["0", "65534", "container"]
    box.process["user"] = {"uid": 0, "gid": 0}
    found = inside(box)
    assert found["user"] == os.readlink(neighbour.path("user"))
    assert found["net"] == os.readlink(neighbour.path("network"))
    assert found["pid"] != ours()["pid"]


def test_a_joined_user_namespace_and_what_is_not_of_it(box: Any, other: Any) -> None:
    """The host's network, say, may be joined only before (runc's issue 4390)."""
    maps = ("-U", "--map-users=0:100000:65536", "--map-groups=0:100000:65536", "--setuid=0", "--setgid=0")
    mine, pod = other(*maps), other("-n", "-u", "-i")
    box.mapped()
    del box.linux["uidMappings"], box.linux["gidMappings"], box.spec["hostname"]
    box.namespace("user", mine.path("user"))
    for kind in ("network", "uts", "ipc"):
        box.namespace(kind, pod.path(kind))
    box.spec["mounts"] = [each for each in box.spec["mounts"] if each["type"] not in ("sysfs", "mqueue")]  # not its own
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    found = box("exec", "sh", "-c", "for f in user net uts ipc; do readlink /proc/1/ns/$f; readlink /proc/self/ns/$f; done").stdout.split()
    wanted = [os.readlink(mine.path("user")), *(os.readlink(pod.path(kind)) for kind in ("network", "uts", "ipc"))]
    assert found == [each for each in wanted for _ in range(2)]
    box("delete", "--force")


def test_binds_in_a_user_namespace_reach_what_only_root_can(box: Any, tmp_path: Path) -> None:
    """The source lies where mapped root may not go; we open it with our rights."""
    box.mapped()
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "inner").mkdir()
    (secret / "inner/file").write_text("seen\n")
    box.mount("/data", secret / "inner", "bind", "ro")

    assert "seen" in box.says("cat /data/file")


def test_a_terminal_and_limits_in_a_user_namespace(box: Any) -> None:
    """The terminal belongs to the mapped user; locked attributes of a source stay."""
    box.mapped()
    box.namespace("time")
    box.linux["timeOffsets"] = {"boottime": {"secs": 1000}}
    box.process.update(terminal=True, user={"uid": 5, "gid": 5}, oomScoreAdj=100)
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "999"}
    box.mount("/data", "/proc/sys", "bind", "ro")
    script = "tty; stat -c %u /dev/console; echo x > /dev/tty; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    assert box.says(script).split() == ["/dev/pts/0", "5", "x", "100", "1", "999"]
