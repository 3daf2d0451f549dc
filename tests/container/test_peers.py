"""The same words to podman and to oci-run: the same output and exit code.

What podman's own tests check of `run` (test/system/030-run.bats, test/e2e/run_*_test.go), where the two mean the same.
"""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import images
from tests.long import rounds

pytestmark = [pytest.mark.root, pytest.mark.needs("podman", "runc", "skopeo")]

# (options, command); the script sees what an option does.
SAME: list[tuple[list[str], list[str]]] = [
    ([], ["true"]),
    ([], ["false"]),
    ([], ["sh", "-c", "exit 32"]),
    ([], ["sh", "-c", "kill -9 $$"]),  # of process 1: nothing happens
    ([], ["echo", "-n", "no newline"]),
    ([], ["sh", "-c", "echo out; echo err >&2; exit 3"]),
    (["-e", "A=1", "-e", "HERE", "-e", "NOWHERE"], ["sh", "-c", "echo $A-$HERE-${NOWHERE-unset}"]),
    (["-e", "HER*"], ["sh", "-c", "echo $HERE"]),
    (["--env-file", "env"], ["sh", "-c", "echo $A-$B-$C-${D-unset}"]),
    (["--env-file", "env", "-e", "A=over"], ["sh", "-c", "echo $A"]),
    (["--unsetenv", "PATH"], ["/bin/sh", "-c", "echo $PATH"]),
    (["-w", "/tmp"], ["pwd"]),
    (["-u", "1234"], ["sh", "-c", "id -u; id -g; id -G"]),
    (["-u", "1234:5678"], ["sh", "-c", "id -u; id -g; id -G"]),
    (["-u", "nobody"], ["id"]),
    (["-u", "nobody:root"], ["id"]),
    (["-u", "0:65534"], ["sh", "-c", "id -u; id -g"]),
    (["--group-add", "7", "--group-add", "12345"], ["id", "-G"]),
    (["-h", "box"], ["sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME"]),
    (["--entrypoint", "echo"], ["a", "b"]),
    (["--entrypoint", ""], ["echo", "x"]),
    (["--umask", "0077"], ["sh", "-c", "umask; touch /x; stat -c %a /x"]),
    (["--read-only", "--read-only-tmpfs=false"], ["touch", "/x"]),
    (["--tmpfs", "/t:size=1m,mode=700"], ["sh", "-c", "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'"]),
    (["-v", "./data:/d"], ["cat", "/d/f"]),
    (["-v", "./data:/d:ro"], ["sh", "-c", "cat /d/f; touch /d/x 2>&1"]),
    (["--mount", "type=bind,src=./data,dst=/d,ro"], ["sh", "-c", "cat /d/f; touch /d/x 2>&1"]),
    (["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m"], ["sh", "-c", "df -k /t | tail -1 | awk '{print $2}'"]),
    (["--shm-size", "2m"], ["sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"]),
    (["--ulimit", "nofile=99:111"], ["sh", "-c", "ulimit -Sn; ulimit -Hn"]),
    (["--sysctl", "net.ipv4.ip_default_ttl=33"], ["cat", "/proc/sys/net/ipv4/ip_default_ttl"]),
    (["--cap-drop", "ALL"], ["grep", "Cap", "/proc/self/status"]),
    (["--cap-drop", "ALL", "--cap-add", "KILL,CHOWN"], ["grep", "CapBnd", "/proc/self/status"]),
    (["--privileged"], ["sh", "-c", "grep Seccomp: /proc/self/status; test -w /proc/sys/kernel/panic && echo w"]),
    (["--security-opt", "no-new-privileges"], ["grep", "NoNewPrivs", "/proc/self/status"]),
    (["--security-opt", "seccomp=unconfined"], ["grep", "Seccomp:", "/proc/self/status"]),
    (["--security-opt", "unmask=ALL"], ["sh", "-c", "test -s /proc/timer_list && echo seen; head -c1 /proc/interrupts | wc -c"]),
    (["--security-opt", "mask=/etc/passwd"], ["cat", "/etc/passwd"]),
    (["--pid", "host"], ["sh", "-c", "test $$ -gt 1 && echo host"]),
    (["--uts", "host"], ["hostname"]),
    (["--ipc", "host"], ["readlink", "/proc/self/ns/ipc"]),
    (["--oom-score-adj", "77"], ["cat", "/proc/self/oom_score_adj"]),
    (["--tz", "Asia/Tokyo"], ["date", "+%Z"]),
    (["--device", "/dev/fuse"], ["sh", "-c", "stat -c %t:%T /dev/fuse"]),
    (["--device", "/dev/fuse:/dev/other:r"], ["sh", "-c", "stat -c %t:%T /dev/other; echo x 2>/dev/null >/dev/other || echo no"]),
    (["--add-host", "db:10.1.2.3"], ["sh", "-c", "grep -w db /etc/hosts | tr -s ' \\t' ' '"]),
    (["--annotation", "a=b"], ["true"]),
    (["--stop-signal", "INT"], ["true"]),
    (["-i"], ["cat"]),
]  # fmt: skip
# What both refuse, with this code.
REFUSED: list[tuple[list[str], list[str], int]] = [
    ([], ["nope"], 127),
    ([], ["/etc"], 126),
    ([], ["/etc/passwd"], 126),
    (["-w", "relative"], ["true"], 0),
    (["-u", "nobodyknows"], ["true"], 0),
    (["--volumes-from", "nope"], ["true"], 0),
    (["--pid", "container:nope"], ["true"], 0),
    (["--cap-add", "FLY"], ["true"], 0),
    (["--ulimit", "x=1"], ["true"], 0),
    (["-v", "/a:b"], ["true"], 0),
    (["--security-opt", "odd"], ["true"], 0),
    (["--memory", "x"], ["true"], 0),
    (["--tz", "Nowhere"], ["true"], 0),
    (["--env-file", "none"], ["true"], 0),
    (["--stop-signal", "NOPE"], ["true"], 0),
]


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    place = tmp_path_factory.mktemp("podman")
    (place / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    words = ["skopeo", "copy", "-q", "--policy", str(place / "policy.json"), f"oci:{images.image('busybox')}:latest",
             f"docker-archive:{place}/bb.tar:busybox:latest"]  # fmt: skip
    subprocess.run(words, check=True)
    base = ["podman", "--root", f"{place}/storage", "--runroot", f"{place}/state", "--tmpdir", f"{place}/tmp", "--runtime", "runc",
            "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--events-backend", "none"]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", "HERE": "yes", "SECRET": "x"}
    subprocess.run([*base, "load", "--signature-policy", f"{place}/policy.json", "-q", "-i", f"{place}/bb.tar"], check=True, env=env,
                   stdout=subprocess.DEVNULL)  # fmt: skip

    def run(options: list[str], command: list[str], cwd: Any) -> subprocess.CompletedProcess[str]:
        words = [*base, "run", "--rm", "--network", "none", *options, "busybox", *command]
        return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, input="typed\n")

    before = groups()
    yield run
    for group in groups() - before:
        for directory, _, _ in os.walk(group, topdown=False):
            os.rmdir(directory)


def groups() -> set[str]:
    """The cgroups that podman makes for all of its containers, and leaves."""
    return set(glob.glob("/sys/fs/cgroup/libpod_parent") + glob.glob("/sys/fs/cgroup/*/libpod_parent"))


@pytest.fixture
def both(run: Any, oci: Any, podman: Any) -> Any:
    (oci.cwd / "data").mkdir()
    (oci.cwd / "data/f").write_text("shared\n")
    (oci.cwd / "env").write_text("# comment\nA=1\nB=two words\nC=\nD\n")

    def call(options: list[str], command: list[str]) -> tuple[Any, Any]:
        ours = [option for option in options if option != "--read-only-tmpfs=false"]
        mine = run("--network", "none", *ours, "busybox", *command, code=None, input="typed\n", env={"HERE": "yes"})
        return mine, podman(options, command, oci.cwd)

    return call


def test_the_same(both: Any) -> None:
    different = []
    for options, command in SAME[:: rounds(3, 1)]:
        mine, theirs = both(options, command)
        if (mine.returncode, mine.stdout) != (theirs.returncode, theirs.stdout):
            different.append((options, command, (mine.returncode, mine.stdout, mine.stderr), (theirs.returncode, theirs.stdout, theirs.stderr)))
    assert not different, "\n".join(map(str, different))


def test_what_is_refused(both: Any) -> None:
    different = []
    for options, command, code in REFUSED[:: rounds(3, 1)]:
        mine, theirs = both(options, command)
        refused = mine.returncode in ((code,) if code else (2, 125)) and mine.stdout == "" and mine.stderr.count("\n") == 1
        if not refused or theirs.returncode not in ((code,) if code else (125, 126)):
            different.append((options, (mine.returncode, mine.stderr), (theirs.returncode, theirs.stderr)))
    assert not different, "\n".join(map(str, different))
