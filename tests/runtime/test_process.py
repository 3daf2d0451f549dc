"""`process` of config.json: what the payload finds of it, as the kernel says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.box import host_mounts

pytestmark = pytest.mark.root


def status(box: Any, *names: str) -> dict[str, str]:
    """Rows of /proc/self/status, of a program that the payload executes."""
    box.process["args"] = ["grep", "-E", f"^({'|'.join(names)}):", "/proc/self/status"]
    return dict(row.split(":\t") for row in box("run").stdout.splitlines())


def bits(*names: str) -> str:
    from oci_tools.linux import caps

    return f"{sum(1 << caps.NAMES.index(name) for name in names):016x}"


# -- capabilities ---------------------------------------------------------------------------------

SETS = {"CapInh": "inheritable", "CapPrm": "permitted", "CapEff": "effective", "CapBnd": "bounding", "CapAmb": "ambient"}


def capabilities(box: Any) -> dict[str, str]:
    return {SETS[row]: value for row, value in status(box, *SETS).items()}


def test_the_default_ones(box: Any) -> None:
    from oci_tools.runtime.spec import CAPABILITIES

    every, none = bits(*CAPABILITIES), bits()
    assert capabilities(box) == {
        "bounding": every, "effective": every, "permitted": every, "inheritable": none, "ambient": none
    }  # fmt: skip
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {"bounding": list(CAPABILITIES)}
    assert capabilities(box) == {
        "bounding": every, "effective": none, "permitted": none, "inheritable": none, "ambient": none
    }  # fmt: skip


def test_each_of_the_five_sets(box: Any) -> None:
    """Of a plain user, so that execve(2) does not give root's back."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["noNewPrivileges"] = False
    box.process["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    }
    assert capabilities(box) == {
        "bounding": bits("CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"),
        "permitted": bits("CAP_NET_RAW"),  # after an execve(2): what was ambient
        "effective": bits("CAP_NET_RAW"),
        "inheritable": bits("CAP_KILL", "CAP_NET_RAW"),
        "ambient": bits("CAP_NET_RAW"),
    }


@pytest.mark.parametrize("given", [None, {}, {"bounding": []}, {"permitted": ["CAP_KILL"]}])
def test_absent_sets_are_empty(box: Any, given: Any) -> None:
    box.process["capabilities"] = given
    if given is None:
        del box.process["capabilities"]
    assert set(capabilities(box).values()) == {bits()}


def test_names_that_nobody_knows_are_passed_over(box: Any) -> None:
    """runtime-spec: a warning, so that one config.json works on many hosts."""
    for name in "bounding", "effective", "permitted":
        box.process["capabilities"][name] = ["CAP_KILL", "CAP_TIME_TRAVEL"]
    assert capabilities(box)["effective"] == bits("CAP_KILL")


def test_what_we_do_not_hold_cannot_be_given(box: Any) -> None:
    for name in "bounding", "effective", "permitted":
        box.process["capabilities"][name] = ["CAP_KILL", "CAP_AUDIT_WRITE"]
    box.process["args"] = ["grep", "CapBnd", "/proc/self/status"]
    box.save()
    done = box.oci.shell(f"setpriv --bounding-set -audit_write oci-run run -b {box.bundle} {box.id}")
    assert done.stdout.split() == ["CapBnd:", bits("CAP_KILL")]


def test_no_new_privileges(box: Any) -> None:
    assert status(box, "NoNewPrivs")["NoNewPrivs"] == "1"
    box.process["noNewPrivileges"] = False
    assert status(box, "NoNewPrivs")["NoNewPrivs"] == "0"


# -- users ---------------------------------------------------------------------------------------------


def test_ids_and_groups(box: Any) -> None:
    box.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [5, 3000, 2000]}
    found = status(box, "Uid", "Gid", "Groups")
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["2000"] * 4
    assert sorted(map(int, found["Groups"].split())) == [5, 2000, 3000]
    box.process["user"] = {"uid": 0, "gid": 0}
    assert status(box, "Groups")["Groups"].split() == []


def test_the_largest_ids(box: Any) -> None:
    box.process["user"] = {"uid": 2**32 - 2, "gid": 2**32 - 2}
    assert status(box, "Uid")["Uid"].split() == ["4294967294"] * 4
    box.process["user"] = {"uid": 2**32 - 1, "gid": 0}
    assert "process.user.uid" in box("run", code=1).stderr


@pytest.mark.parametrize(("given", "found"), [(None, "0022"), (0, "0000"), (0o27, "0027"), (0o777, "0777"), (2**32 - 1, "0777")])
def test_umask(box: Any, given: int | None, found: str) -> None:
    if given is not None:
        box.process["user"]["umask"] = given
    before = os.umask(0o077)  # the caller's does not matter
    assert box.says("umask") == found
    os.umask(before)


def test_home(box: Any) -> None:
    assert box.says("echo $HOME") == "/root"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert box.says("echo $HOME") == "/home/user"
    box.process["user"] = {"uid": 4711, "gid": 0}
    assert box.says("echo $HOME") == "/"
    box.process["env"].append("HOME=")
    assert box.says("echo $HOME") == "/"
    box.process["env"].append("HOME=/given")
    assert box.says("echo $HOME") == "/given"
    box.process["env"].append("HOME=")
    assert box.says("echo $HOME") == "/"
    (box.rootfs / "etc/passwd").unlink()
    box.process["env"] = [each for each in box.process["env"] if not each.startswith("HOME")]
    assert box.says("echo $HOME") == "/"


def test_streams_belong_to_the_user(box: Any) -> None:
    """So that `> /dev/stdout` works, as servers' images have it."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert box.says("echo out > /dev/stdout; echo err > /dev/stderr; cat < /dev/stdin", input="in") == "out\nin"


def test_a_file_of_the_caller_stays_the_callers(box: Any, tmp_path: Path) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    with open(tmp_path / "out", "w") as out:
        box.sh("echo", stdout=out)
    assert os.stat(tmp_path / "out").st_uid == 0


# -- environment and directory ----------------------------------------------------------------------------


def test_environment(box: Any) -> None:
    box.process["env"] = ["PATH=/bin", "A=1", "B=x=y", "C=", "A=2", "D=\udcff", "E=é"]
    box.process["args"] = ["env"]
    rows = box("run", env={"LEAKED": "no"}).stdout.splitlines()
    assert set(rows) == {"PATH=/bin", "A=2", "B=x=y", "C=", "D=\udcff", "E=é", "HOME=/root"}


def test_the_directory_is_made(box: Any) -> None:
    box.process["cwd"] = "/made/for/it"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert box.says("pwd; stat -c '%u:%g %a' .") == "/made/for/it\n0:0 755"


def test_the_directory_is_reached_through_links_inside(box: Any) -> None:
    (box.rootfs / "link").symlink_to("/real/place")
    box.process["cwd"] = "/link/below"
    assert box.says("pwd -P") == "/real/place/below"
    assert (box.rootfs / "real/place/below").is_dir()


def test_a_directory_that_only_its_user_may_enter(box: Any) -> None:
    """Root has no power over it here: tried again as the user."""
    (box.rootfs / "mine").mkdir(mode=0o700)
    os.chown(box.rootfs / "mine", 1000, 1000)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["cwd"] = "/mine"
    assert box.says("pwd") == "/mine"
    box.process["user"] = {"uid": 1001, "gid": 1001}
    box.process["cwd"] = "/mine/deep"
    os.mkdir(box.rootfs / "mine/deep")
    assert box.says("pwd -P") == "/mine/deep"  # entered by root, as runc does


@pytest.mark.parametrize(
    ("cwd", "said"),
    [("/etc/passwd", "not a directory"), ("/circle", "too many levels of symbolic links"),
     ("/proc/nosuch", "no such file or directory"), ("/" + "x" * 300, "file name too long")],
)  # fmt: skip
def test_a_directory_that_cannot_be_entered(box: Any, cwd: str, said: str) -> None:
    (box.rootfs / "circle").symlink_to("circle")
    box.process["cwd"] = cwd
    assert box("run", code=1).stderr == f"oci-run: cannot change to directory '{cwd}': {said}\n"


def test_a_missing_directory_of_a_read_only_root(box: Any) -> None:
    box.spec["root"]["readonly"] = True
    box.process["cwd"] = "/made"
    assert box.says("pwd") == "/made"  # the image is still ours to complete
    assert (box.rootfs / "made").is_dir()


# -- limits and settings ------------------------------------------------------------------------------------


def test_rlimits(box: Any) -> None:
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 500, "hard": 600},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 2**64 - 1},
    ]
    rows = [row.split() for row in box.says("cat /proc/self/limits").splitlines()]
    found = {" ".join(row[1:-3]): row[-3:-1] for row in rows}
    assert found["open files"] == ["100", "200"]
    assert [row[4:6] for row in rows if row[1] == "core"] == [["0", "0"]]
    assert found["stack size"] == ["1048576", "unlimited"]
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 40}]
    assert box("run", code=1).stderr == "oci-run: cannot set rlimit 'RLIMIT_NOFILE': operation not permitted\n"


def test_oom_score(box: Any) -> None:
    own = Path("/proc/self/oom_score_adj").read_text()
    assert box.says("cat /proc/self/oom_score_adj") == own.strip()  # not asked for: not changed
    box.process["oomScoreAdj"] = 321
    assert box.says("cat /proc/self/oom_score_adj") == "321"


def test_kernel_parameters(box: Any) -> None:
    box.linux["sysctl"] = {
        "net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/forwarding": "0", "kernel.msgmax": "12345", "fs.mqueue.msg_max": "7",
        "kernel.domainname": "by.sysctl",
    }  # fmt: skip
    paths = "net/ipv4/ip_forward net/ipv4/conf/lo/forwarding kernel/msgmax fs/mqueue/msg_max kernel/domainname"
    assert box.says(f"cd /proc/sys; cat {paths}").split() == ["1", "0", "12345", "7", "by.sysctl"]
    assert Path("/proc/sys/kernel/msgmax").read_text() != "12345\n"


def test_the_host_name_is_no_kernel_parameter(box: Any) -> None:
    """config.json has a word for it, which would win or lose."""
    box.linux["sysctl"] = {"kernel.hostname": "x"}
    assert "kernel.hostname" in box("run", code=1).stderr


@pytest.mark.parametrize(
    ("name", "share", "said"),
    [
        ("vm.swappiness", None, "not a container's but the host's 'vm.swappiness'"),
        ("kernel.core_pattern", None, "not a container's but the host's 'kernel.core_pattern'"),
        ("kernel/core_pattern", None, "not a container's but the host's"),
        ("net.ipv4.ip_forward", "network", "needs a network namespace of the container's own"),
        ("kernel.msgmax", "ipc", "needs a ipc namespace"),
        ("kernel.domainname", "uts", "needs a uts namespace"),
        ("user.max_net_namespaces", None, "needs a user namespace"),
        ("../../etc/x", None, "expected the name of a kernel parameter"),
        ("net..ipv4", None, "expected the name of a kernel parameter"),
        ("net.no_such_thing", None, "cannot set sysctl 'net.no_such_thing' to '0': no such file or directory"),
    ],
)
def test_kernel_parameters_of_the_host(box: Any, name: str, share: str | None, said: str) -> None:
    box.linux["sysctl"] = {name: "0"}
    if share:
        box.share(share)
    assert said in box("run", code=1).stderr


def test_kernel_parameters_of_the_hosts_network_given_by_path(box: Any) -> None:
    box.namespace("network", f"/proc/{os.getpid()}/ns/net")
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "0"}
    assert "needs a network namespace" in box("run", code=1).stderr


@pytest.mark.parametrize("path", [None, "/proc/self/ns/mnt"])
def test_in_the_hosts_own_mount_namespace(box: Any, path: str | None, tmp_path: Path) -> None:
    """A chroot, whose mounts the host sees as long as there is the container; masks, devices and verbs are as elsewhere."""
    box.share("mount")
    if path:
        box.namespace("mount", path)
    (tmp_path / "data").mkdir()
    box.mount("/data", tmp_path / "data", "rbind", "ro")
    before = host_mounts(tmp_path)
    asked = "readlink /proc/self/ns/mnt; ls / /sys/firmware; cat /proc/keys | wc -c; touch /data/x; test -c /dev/null && pwd"
    shown = box.sh(asked)
    assert shown.stdout.splitlines()[0] == os.readlink("/proc/self/ns/mnt")
    assert shown.stdout.split()[-2:] == ["0", "/"] and "etc" in shown.stdout and "usr" not in shown.stdout.split()
    assert "Read-only file system" in shown.stderr
    assert host_mounts(tmp_path) == before

    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    assert host_mounts(tmp_path) != before
    said = box("exec", "sh", "-c", "cd /; pwd; ls -d usr etc; readlink /proc/self/ns/mnt").stdout
    assert said.splitlines() == ["/", "etc", os.readlink("/proc/self/ns/mnt")]
    box.oci("run", "mount", "add", box.id, tmp_path, "/added")
    assert "data" in box("exec", "ls", "/added").stdout
    box("delete", "--force")
    assert host_mounts(tmp_path) == before

    box.process["args"] = ["/no/such"]
    box("run", code=1)
    assert host_mounts(tmp_path) == before


def test_one_more_over_a_root_in_the_hosts_mount_namespace(box: Any, tmp_path: Path) -> None:
    """Two containers of one root: who is below cannot go first, and says so."""
    box.share("mount")
    box.process["args"] = ["sleep", "1000"]
    before = host_mounts(tmp_path)
    box("create")
    other = f"{box.id}-2"
    box.oci("run", "create", "-b", box.bundle, other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert "something else is mounted over it" in box("delete", "--force", code=1).stderr
    box.oci("run", "delete", "--force", other)
    box("delete", "--force")
    assert host_mounts(tmp_path) == before


def test_not_in_the_hosts_mount_namespace_as_another_user(box: Any, tmp_path: Path) -> None:
    box.mapped()
    box.share("mount")
    before = host_mounts(tmp_path)
    assert "needs a mount namespace of its own" in box("run", code=1).stderr
    assert host_mounts(tmp_path) == before


# -- devices -------------------------------------------------------------------------------------------------


def test_default_devices_and_links(box: Any) -> None:
    script = "cd /dev; stat -c '%n %t:%T %a %u:%g' null zero full random urandom tty; for f in fd stdin stdout stderr ptmx; do readlink $f; done"
    assert box.says(script).splitlines() == [
        "null 1:3 666 0:0", "zero 1:5 666 0:0", "full 1:7 666 0:0", "random 1:8 666 0:0", "urandom 1:9 666 0:0",
        "tty 5:0 666 0:0", "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx",
    ]  # fmt: skip
    names = set("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split())
    assert set(box.says("ls -A /dev").split()) - {"core"} == names  # that if this kernel has /proc/kcore
    assert box.says("head -c 3 /dev/zero | wc -c; echo x > /dev/null; (echo x > /dev/full) 2>&1; true").startswith("3\n")


def test_listed_devices(box: Any) -> None:
    box.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1, "gid": 2},
        {"path": "/dev/made/below", "type": "b", "major": 7, "minor": 3},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o644},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
    ]
    script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' fuse made/below null; test -p pipe && echo fifo"
    assert box.says(script).splitlines() == [
        "fuse character special file a:e5 600 1:2", "made/below block special file 7:3 666 0:0",
        "null character special file 1:3 600 0:0", "fifo",
    ]  # fmt: skip


def test_a_dev_of_the_host_is_left_alone(box: Any) -> None:
    box.spec["mounts"] = [each for each in box.spec["mounts"] if not each["destination"].startswith("/dev")]
    box.mount("/dev", "/dev", "rbind", "rslave")
    before = sorted(os.listdir("/dev"))
    assert box.says("stat -c %t:%T /dev/null") == "1:3"
    assert sorted(os.listdir("/dev")) == before


def test_keys_of_the_caller_stay_outside(box: Any) -> None:
    """A session keyring of its own, unless asked not to."""
    script = "cat /proc/keys 2>/dev/null; cat /proc/self/cgroup >/dev/null"
    box.linux["maskedPaths"] = []
    own = box.says(script)
    assert "_ses" in own or own == ""


def test_a_second_process_by_exec(box: Any) -> None:
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    done = box("exec", "sh", "-c", "id -u; hostname; ls /proc/self/fd; grep -E 'Cap(Inh|Eff|Bnd)|NoNewPrivs' /proc/self/status; exit 9", code=9)
    rows = done.stdout.split()
    assert rows[:2] == ["0", "container"]
    assert rows[rows.index("CapInh:") + 1] == bits()
    assert rows[rows.index("NoNewPrivs:") + 1] == "1"
    done = box.oci("run", "exec", "--cwd", "/missing", box.id, "true", code=255)
    assert done.stderr == "oci-run: cannot change to directory '/missing': no such file or directory\n"
    box("delete", "--force")


def test_the_hosts_names_are_not_changed(box: Any) -> None:
    before = subprocess.check_output(["hostname"])
    box.namespace("uts", f"/proc/{os.getpid()}/ns/uts")
    box.spec["hostname"] = "taken"
    assert box.says("hostname") != "taken"
    assert subprocess.check_output(["hostname"]) == before
