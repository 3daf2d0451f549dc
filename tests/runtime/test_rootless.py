"""Containers of a plain user: no root, no setuid helper, one id."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.box import host


def test_a_life(plain_box: Any) -> None:
    plain_box.process["args"] = ["sleep", "1000"]
    plain_box("create")
    state = plain_box.state
    assert state["status"] == "created"
    assert state["owner"] == str(plain_box.oci.user.get("user") or os.geteuid())
    plain_box("start")
    assert plain_box("ps").stdout == f"{state['pid']}\n"
    assert plain_box("exec", "sh", "-c", "id -u; hostname").stdout == "0\ncontainer\n"
    plain_box("kill", "KILL")
    while plain_box.state["status"] != "stopped":
        pass
    plain_box("delete")


def test_what_it_is_inside(plain_box: Any) -> None:
    user = plain_box.oci.user.get("user") or os.geteuid()
    script = """
        id -u; id -g; cat /proc/self/uid_map /proc/self/setgroups; echo $$; sed -n 's/:.*//p' /proc/net/dev
        stat -c %u / /bin/sh /proc/1/ /dev/shm; touch /made; echo x > /dev/null; ls /proc/acpi; stat -c %t:%T /dev/null"""
    rows = [" ".join(row.split()) for row in plain_box.says(script).splitlines()]
    assert rows == ["0", "0", f"0 {user} 1", "deny", "1", "lo", "0", "0", "0", "0", "1:3"]
    assert os.stat(plain_box.rootfs / "made").st_uid == user


def test_exit_codes_streams_and_signals(plain_box: Any) -> None:
    assert plain_box.sh("cat; exit 7", input="text", code=7).stdout == "text"
    plain_box.process["args"] = ["sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done"]
    running = plain_box.start(stdout=subprocess.PIPE)
    running.stdout.readline()
    running.terminate()
    assert running.wait() == 9


def test_a_terminal(plain_box: Any) -> None:
    plain_box.process.update(terminal=True, args=["sh", "-c", "tty; test -t 0 && echo yes"])
    assert plain_box("run").stdout == "/dev/pts/0\nyes\n"


def test_binds_and_masks(plain_box: Any, public: Path) -> None:
    (public / "data").mkdir()
    (public / "data/file").write_text("content\n")
    plain_box.mount("/data", public / "data", "bind", "ro")
    text = plain_box.says("cat /data/file; touch /data/x 2>&1; touch /proc/sys/net/ipv4/ip_forward 2>&1; touch /sys/x 2>&1; true")
    assert text.splitlines()[0] == "content"
    assert text.count("Read-only file system") == 3


def test_limits_cannot_be_had(plain_box: Any) -> None:
    """A group belongs to whoever made it: asked for, it is an error; not asked for, none is made."""
    if os.access("/sys/fs/cgroup/cgroup.procs", os.W_OK):
        pytest.skip("needs a host that gives plain users no cgroup")
    plain_box.linux["resources"] = {"memory": {"limit": 1 << 26}}
    done = plain_box("run", code=1)
    assert "cannot make cgroup" in done.stderr and "permission denied" in done.stderr
    plain_box.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert plain_box.says("echo yes") == "yes"


def test_the_hosts_network(plain_box: Any) -> None:
    plain_box.share("network")
    assert plain_box.says("sed -n 's/:.*//p' /proc/net/dev").split() == host("sed", "-n", "s/:.*//p", "/proc/net/dev").split()


def test_another_user_is_not_to_be_had(plain_box: Any) -> None:
    plain_box.process["user"] = {"uid": 1, "gid": 1}
    assert "is it mapped in the user namespace?" in plain_box("run", code=1).stderr
    plain_box.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
    assert "cannot become user" in plain_box("run", code=1).stderr


def test_without_a_user_namespace(plain_box: Any) -> None:
    plain_box.share("user")
    del plain_box.linux["uidMappings"], plain_box.linux["gidMappings"]
    done = plain_box("run", code=1)
    assert "operation not permitted" in done.stderr


def test_the_state_is_nobody_elses(plain_box: Any) -> None:
    plain_box("create")
    place = Path(plain_box.oci.env["OCI_RUN"]) / "runtime" / plain_box.id
    assert place.stat().st_mode & 0o077 == 0
    plain_box("delete")


@pytest.mark.needs("newuidmap")
def test_subordinate_ids(plain_box: Any) -> None:
    """More than one id, by the setuid helpers and what root has written to /etc/subuid."""
    user = plain_box.oci.user.get("user")
    if not user:
        pytest.skip("needs root, to write /etc/subuid in a namespace of the test")
    names = ("subuid", "subgid", "passwd")
    for name in names:
        shutil.copyfile(f"/etc/{name}", plain_box.bundle / name)
    with open(plain_box.bundle / "passwd", "a") as file:
        file.write(f"tester:x:{user}:{user}::/:/bin/sh\n")
    for name in "subuid", "subgid":
        (plain_box.bundle / name).write_text("tester:500000:1000\n")
    entries = [{"containerID": 0, "hostID": user, "size": 1}, {"containerID": 1, "hostID": 500_000, "size": 1000}]
    plain_box.linux.update(uidMappings=entries, gidMappings=entries)
    plain_box.process["user"] = {"uid": 7, "gid": 8}
    plain_box.process["args"] = ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map"]
    plain_box.save()
    binds = "; ".join(f"mount --bind {plain_box.bundle}/{name} /etc/{name}" for name in names)
    become = f"setpriv --reuid {user} --regid {user} --clear-groups"
    run = f"{become} oci-run run -b {plain_box.bundle} {plain_box.id}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f"{binds}; {run}"], env=plain_box.oci.env, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.split() == ["7", "8", "0", str(user), "1", "1", "500000", "1000"], done.stderr
    plain_box.linux["uidMappings"] = [entries[0], {"containerID": 1, "hostID": 600_000, "size": 1000}]
    plain_box.save()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f"{binds}; {run}"], env=plain_box.oci.env, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 1
    assert "cannot map ids: newuidmap failed" in done.stderr


def test_root_of_a_user_namespace_that_somebody_else_made(plain_box: Any) -> None:
    """As podman runs a plain user's containers: it is root already, and config.json has no user namespace."""
    plain_box.share("user")
    for name in "uidMappings", "gidMappings":
        del plain_box.linux[name]
    plain_box.process["args"] = ["sh", "-c", "id -u; echo > /dev/null && stat -c %t:%T /dev/zero; tty < /dev/tty"]
    plain_box.save()
    become = "unshare --user --map-root-user --mount --pid --fork --mount-proc"
    done = plain_box.oci.shell(f"{become} oci-run run -b {plain_box.bundle} {plain_box.id}", code=1)
    assert done.stdout.split() == ["0", "1:5"]
    assert "/dev/tty: No such device" in done.stderr
