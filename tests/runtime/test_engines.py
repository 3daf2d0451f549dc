"""podman, dockerd and containerd run containers with `oci-run` as their runtime, unmodified.

Each engine is started here, private: its own storage, state, sockets and, for the daemons, a
network namespace.  What they call is listed in the reference on engines; here it is done.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import BIN

pytestmark = [pytest.mark.root]
Engine = Callable[..., subprocess.CompletedProcess[str]]


def engine(words: list[str], env: dict[str, str]) -> Engine:
    """A function that runs an engine's client and demands an exit code."""

    def run(*more: str, code: int = 0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*words, *more], input=input or "", text=True, capture_output=True, env=env)
        assert done.returncode == code, f"{more}: {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short directory (sockets have short names), with the busybox image as docker saves one."""
    path = tmp_path_factory.mktemp(f"e{os.getpid()}")
    source = images.image("busybox")
    subprocess.run(["skopeo", "copy", "-q", f"oci:{source}:latest", f"docker-archive:{path}/bb.tar:bb:latest"], check=True)
    yield path
    with open("/proc/self/mountinfo") as file:
        for line in reversed(file.readlines()):
            if f"{path}/" in line:
                subprocess.run(["umount", "-l", line.split()[4]])


def groups(name: str) -> set[Path]:
    """The directories of a cgroup at the root, in all hierarchies."""
    return {*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)}


@pytest.fixture(scope="module")
def podman(place: Path) -> Iterator[Engine]:
    for name in "podman", "conmon":
        if not shutil.which(name):
            pytest.skip(f"needs {name}; tests/run --setup installs it on Debian as root")
    policy = place / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    # Not --runtime-flag=root=: the `podman container cleanup` that conmon calls is not told of it (podman 5.4), so it
    # deletes nothing where the others look, and whatever ends by itself cannot be started again, with runc either.
    runtime = place / "oci-run"
    runtime.write_text(f'#!/bin/sh\nexec {BIN}/oci-run --root={place}/runtime "$@"\n')
    runtime.chmod(0o755)
    words = [
        "podman", "--root", f"{place}/storage", "--runroot", f"{place}/state", "--tmpdir", f"{place}/tmp",
        "--runtime", str(runtime), "--cgroup-manager", "cgroupfs",
        "--storage-driver", "vfs", "--events-backend", "none",
    ]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    run = engine(words, env)
    run("load", "--signature-policy", str(policy), "-q", "-i", f"{place}/bb.tar")
    before = groups("libpod_parent")
    yield run
    for group in groups("libpod_parent") - before:
        for directory, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass  # another test's podman is in it, which removes it then


@pytest.fixture(scope="module")
def docker(place: Path) -> Iterator[Engine]:
    for name in "dockerd", "docker":
        if not shutil.which(name):
            pytest.skip(f"needs {name}; tests/run --setup installs it on Debian as root")
    work = place / "d"
    work.mkdir()
    (work / "config.json").write_text("{}")
    words = [
        "unshare", "--net", "--mount", "dockerd", "-H", f"unix://{work}/s", "--data-root", f"{work}/data",
        "--exec-root", f"{work}/exec", "-p", f"{work}/pid", "--bridge", "none", "--iptables=false",
        "--ip6tables=false", "--cgroup-parent", f"/{work.parent.name}", "--config-file", f"{work}/config.json",
        "--storage-driver", "vfs", "--add-runtime", f"oci={BIN}/oci-run", "--default-runtime", "oci",
    ]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "HOME": str(work)}
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=subprocess.PIPE, env=env, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "API listen on" in line:
            break
    drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    run = engine(["docker", "-H", f"unix://{work}/s"], env)
    try:
        run("load", "-q", "-i", f"{place}/bb.tar")
        yield run
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        drain.wait()
        for group in groups(place.name):
            group.rmdir()


def life(run: Engine) -> None:
    """What people do with containers, in the words that docker and podman share."""
    net = ("--network", "none")
    assert "uid=0" in run("run", "--rm", *net, "bb", "id").stdout
    assert run("run", "--rm", "-i", *net, "bb", "cat", input="to and fro").stdout == "to and fro"
    run("run", "--rm", *net, "bb", "sh", "-c", "exit 5", code=5)
    assert "executable file not found in $PATH" in run("run", "--rm", *net, "bb", "nope", code=127).stderr
    assert "permission denied" in run("run", "--rm", *net, "bb", "/etc/passwd", code=126).stderr
    said = run(
        "run", "--rm", *net, "--user", "1:1", "--read-only", "--tmpfs", "/x:mode=1777", "--cap-drop", "all", "--hostname",
        "hh", "--ulimit", "nofile=100:100", "--pids-limit", "20", "bb", "sh", "-c",
        "id -u; hostname; ulimit -n; touch /a; touch /x/b && echo written; cat /sys/fs/cgroup/pids*/pids.max; "
        "grep CapEff /proc/self/status",
    )  # fmt: skip
    lines = said.stdout.split("\n")
    assert lines[:4] == ["1", "hh", "100", "written"]
    assert "20" in lines[4] and lines[5].endswith("0" * 16)
    assert "Read-only file system" in said.stderr

    run("run", "-d", "--name", "c1", *net, "--memory", "64m", "bb", "sleep", "1000")
    assert run("exec", "c1", "sh", "-c", "echo in; exit 3", code=3).stdout == "in\n"
    assert run("exec", "-i", "c1", "cat", input="through").stdout == "through"
    run("pause", "c1")
    assert "aused" in run("ps", "-a", "--format", "{{.Status}}").stdout
    run("unpause", "c1")
    run("update", "--memory", "128m", "--memory-swap", "256m", "c1")
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    assert run("exec", "c1", "sh", "-c", f"{limit}; true").stdout.strip() == str(128 << 20)
    assert "sleep" in run("top", "c1").stdout
    run("stop", "-t", "0", "c1")
    assert json.loads(run("inspect", "c1").stdout)[0]["State"]["ExitCode"] == 137
    run("start", "c1")
    run("rm", "-f", "c1")
    assert run("ps", "-aq").stdout == ""


@pytest.mark.needs("skopeo")
def test_podman(podman: Engine) -> None:
    life(podman)


@pytest.mark.needs("skopeo")
def test_conmon_deletes_what_ends_by_itself(podman: Engine, place: Path) -> None:
    podman("run", "-d", "--name", "own", "--network", "none", "bb", "sh", "-c", "read _ < /dev/null; exit 3")
    while list((place / "runtime").iterdir()):
        podman("ps")  # until conmon has called `podman container cleanup`, behind our back
    for _ in range(2):
        assert podman("wait", "own").stdout == "3\n"
        podman("start", "own")
    podman("rm", "-f", "-t", "0", "own")


@pytest.mark.needs("skopeo", "criu")
def test_podman_checkpoints(podman: Engine) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n > /m; mv /m /n; sleep 0.1; done"
    podman("run", "-d", "--name", "ck", "--network", "none", "bb", "sh", "-c", script)
    while not podman("exec", "ck", "sh", "-c", "cat /n 2>/dev/null; true").stdout:
        pass
    podman("container", "checkpoint", "ck")
    assert "Exited" in podman("ps", "-a", "--format", "{{.Status}}").stdout
    podman("container", "restore", "ck")
    assert int(podman("exec", "ck", "cat", "/n").stdout) > 0
    assert "Up" in podman("ps", "--format", "{{.Status}}").stdout
    podman("rm", "-f", "-t", "0", "ck")


@pytest.mark.needs("skopeo")
def test_dockerd(docker: Engine) -> None:
    life(docker)


@pytest.mark.needs("skopeo")
def test_dockerd_tells_of_an_out_of_memory_kill(docker: Engine) -> None:
    hungry = 'x=$(dd if=/dev/zero bs=1M count=100 2>/dev/null | tr "\\0" a); echo alive'
    docker("run", "--name", "oom", "--network", "none", "--memory", "16m", "bb", "sh", "-c", hungry, code=137)
    assert json.loads(docker("inspect", "oom").stdout)[0]["State"]["OOMKilled"]
    docker("rm", "oom")


@pytest.mark.needs("skopeo")
def test_a_privileged_container_may_write_to_its_cgroups(docker: Engine) -> None:
    seen = docker("run", "--rm", "--privileged", "--network", "none", "bb", "grep", "cgroup", "/proc/mounts").stdout
    assert all(" rw," in line for line in seen.splitlines())
    seen = docker("run", "--rm", "--network", "none", "bb", "grep", "cgroup", "/proc/mounts").stdout
    assert all(" ro," in line for line in seen.splitlines())


@pytest.mark.needs("skopeo", "containerd", "ctr")
def test_containerd(place: Path) -> None:
    work = place / "c"
    work.mkdir()
    (work / "config.toml").write_text(f'version = 2\nroot = "{work}/root"\nstate = "{work}/state"\n'
                                      f'[grpc]\naddress = "{work}/s"\n[plugins."io.containerd.internal.v1.opt"]\npath = "{work}/opt"\n'
                                      'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n')  # fmt: skip
    subprocess.run(["skopeo", "copy", "-q", f"oci:{images.image('busybox')}:latest", f"oci-archive:{work}/bb.tar:bb:latest"],
                   check=True)  # fmt: skip
    server = subprocess.Popen(
        # criu looks how TCP works, over the loopback device.
        ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec containerd -c "$0"', f"{work}/config.toml"], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "containerd successfully booted" in line:
            break
    drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    run = engine(["ctr", "-a", f"{work}/s"], {"PATH": os.environ["PATH"]})
    try:
        run("image", "import", "--snapshotter", "native", "--base-name", "bb", f"{work}/bb.tar")
        name = run("image", "ls", "-q").stdout.split()[0]
        how = ("--snapshotter", "native", "--runc-binary", f"{BIN}/oci-run", "--runc-root", f"{work}/runtime")
        group = f"/{place.name}"
        assert "uid=0" in run("run", "--rm", "--cgroup", f"{group}-1", *how, name, "c1", "id").stdout
        run("run", "--rm", "--cgroup", f"{group}-1", *how, name, "c2", "sh", "-c", "exit 6", code=6)
        run("run", "-d", "--cgroup", f"{group}-1", *how, name, "c3", "sh", "-c", "while :; do sleep 1; done")
        assert run("task", "exec", "--exec-id", "e", "c3", "echo", "inside").stdout == "inside\n"
        run("task", "pause", "c3")
        assert "PAUSED" in run("task", "ls").stdout
        run("task", "resume", "c3")
        assert run("task", "ps", "c3").stdout.count("\n") in (2, 3)
        if shutil.which("criu"):
            run("task", "checkpoint", "--image-path", f"{work}/checkpoint", "c3")
            assert (work / "checkpoint/inventory.img").exists()
        run("task", "kill", "-s", "KILL", "c3")
        run("task", "rm", "-f", "c3", code=0 if "STOPPED" in run("task", "ls").stdout else 0)
        run("container", "rm", "c3")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        drain.wait()
