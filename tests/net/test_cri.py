"""A Kubernetes node's way: containerd's CRI socket, with oci-run as a runtime handler and oci-net as the CNI plugin.

The field numbers are those of k8s.io/cri-api's runtime/v1/api.proto.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import grpc
from oci_tools import protobuf
from tests.conftest import TOP
from tests.net.machines import HERE, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter", "containerd", "ctr")]
LOOPBACK = "/usr/lib/cni/loopback"
RUNNING, EXITED = 1, 2
WAITING = "while :; do sleep 1; done"

CONFIG = """
version = 2
root = "{work}/root"
state = "{work}/state"
[grpc]
address = "{work}/a"
[plugins."io.containerd.internal.v1.opt"]
path = "{work}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:latest"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{work}/bin"
conf_dir = "{work}/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "oci"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci.options]
BinaryName = "{bin}/oci-run"
Root = "{work}/states"
"""


class Node:
    """The CRI of a containerd on a machine of the test's own."""

    def __init__(self, machine: Machine, busybox: Path) -> None:
        self.machine, self.work = machine, machine.directory
        self.group = f"/cri-{machine.process.pid}"
        for name in ("bin", "net.d", "logs"):
            (self.work / name).mkdir()
        (self.work / "bin/oci-net").symlink_to(machine.oci.bin / "oci-net")
        (self.work / "bin/loopback").symlink_to(LOOPBACK)
        page = (TOP / "man/oci-kubernetes.7").read_text().replace("\\-", "-")
        (self.work / "net.d/10-pods.conflist").write_text(page.partition("<<END\n")[2].partition("END\n")[0])
        (self.work / "config.toml").write_text(CONFIG.format(work=self.work, bin=machine.oci.bin))
        with open(self.work / "log", "wb") as log:
            words = [*machine.enter, "containerd", "-c", f"{self.work}/config.toml"]
            self.daemon = subprocess.Popen(words, env=machine.oci.environment(), stderr=log)
        machine.started.append(self.daemon)
        machine.until(lambda: "successfully booted" in (self.work / "log").read_text())
        self._import(busybox)
        self.channel = grpc.insecure_channel(f"unix://{self.work}/a")

    def _import(self, busybox: Path) -> None:
        self.machine.command("image", "copy", f"{busybox}:latest", "./img:bb")
        waits = json.dumps(["sh", "-c", f"trap exit TERM; {WAITING}"])
        self.machine.command("image", "config", "--cmd", waits, "-t", "pause", "./img:bb")
        with open(self.work / "images.tar", "wb") as file:
            self.machine.command("image", "save", "./img:bb", "./img:pause", stdout=file)
        self.ctr("image", "import", "--snapshotter", "native", f"{self.work}/images.tar")

    def ctr(self, *words: str) -> str:
        return str(self.machine.run("ctr", "-a", f"{self.work}/a", "-n", "k8s.io", *words).stdout)

    def ask(self, method: str, message: protobuf.Message) -> dict[int, list[Any]]:
        call = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        return protobuf.loads(call(protobuf.dumps(message), timeout=120))

    # -- pods ----------------------------------------------------------------------------------

    def pod(self, name: str, ports: tuple[tuple[int, int], ...] = ()) -> str:
        """A sandbox; `ports` are the container's and the host's."""
        self.config = {
            1: {1: name, 2: f"uid-{name}", 3: "default"}, 2: name, 3: f"{self.work}/logs",
            5: [{2: inside, 3: outside} for inside, outside in ports], 8: {1: self.group},
        }  # fmt: skip
        return str(self.ask("RunPodSandbox", {1: self.config, 2: "oci"})[1][0].decode())

    def container(self, pod: str, name: str, *command: str, **more: Any) -> str:
        """One that has been started; `more` is its linux part."""
        said = {1: {1: name}, 2: {1: "docker.io/library/bb:latest"}, 3: list(command), 11: f"{name}.log", **more.get("fields", {})}
        made = self.ask("CreateContainer", {1: pod, 2: said, 3: self.config})[1][0].decode()
        self.ask("StartContainer", {1: made})
        return str(made)

    def status(self, container: str) -> dict[int, list[Any]]:
        return protobuf.loads(self.ask("ContainerStatus", {1: container})[1][0])

    def ended(self, container: str) -> int:
        """Wait for its end: the exit code."""
        self.machine.until(lambda: self.status(container).get(3) == [EXITED])
        return int(self.status(container).get(7, [0])[0])

    def run(self, container: str, *command: str) -> tuple[str, int]:
        """ExecSync: standard output and exit code."""
        done = self.ask("ExecSync", {1: container, 2: list(command), 3: 60})
        return done.get(1, [b""])[0].decode(), int(done.get(3, [0])[0])

    def address(self, pod: str) -> str:
        status = protobuf.loads(self.ask("PodSandboxStatus", {1: pod})[1][0])
        return str(protobuf.loads(status[5][0])[1][0].decode())

    def log(self, name: str) -> list[str]:
        """Lines of a container's log without their times."""
        return [line.split(" ", 1)[1] for line in (self.work / f"logs/{name}.log").read_text().splitlines()]


@pytest.fixture
def node(machine: Machine, busybox: Path) -> Iterator[Node]:
    if not os.path.exists(LOOPBACK):
        pytest.skip("needs containernetworking-plugins")
    made = Node(machine, busybox)
    yield made
    made.channel.close()
    made.daemon.terminate()
    made.daemon.wait()
    for group in Path("/sys/fs/cgroup").glob(f"*{made.group}"), Path("/sys/fs/cgroup").glob(f"*/*/*{made.group}"):
        for top in group:
            top.rmdir()


def test_the_node_is_ready(node: Node) -> None:
    status = protobuf.loads(node.ask("Status", {})[1][0])
    conditions = {each[1][0]: each.get(2, [0])[0] for each in map(protobuf.loads, status[1])}
    assert conditions[b"RuntimeReady"] == conditions[b"NetworkReady"] == 1


def test_a_pod_with_two_containers(node: Node, outside: Space) -> None:
    pod = node.pod("web", ports=((80, 8080),))
    server = node.container(pod, "server", "sh", "-c", "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w")
    limits = {15: {1: {3: 512, 4: 64 << 20, 5: 500}}}  # cpu shares, memory, oom score
    client = node.container(pod, "client", "sh", "-c", f"echo begun; echo wrong >&2; {WAITING}", fields=limits)
    assert node.run(client, "wget", "-qO-", "http://127.0.0.1/") == ("served\n", 0)  # one network for both
    assert node.run(client, "hostname") == ("web\n", 0)
    assert node.run(client, "sh", "-c", "exit 7") == ("", 7)
    assert node.run(client, "cat", "/proc/self/oom_score_adj") == ("500\n", 0)
    node.machine.until(lambda: sorted(node.log("client")) == ["stderr F wrong", "stdout F begun"])  # two pipes: no order
    with outside.socket() as sock:
        sock.connect((HERE, 8080))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: sock.recv(4096), b"")).endswith(b"served\n")

    assert node.address(pod).startswith("10.244.1.")
    other = node.pod("other")
    visitor = node.container(other, "visitor", "wget", "-qO-", f"http://{node.address(pod)}/")
    assert node.ended(visitor) == 0 and node.log("visitor") == ["stdout F served"]
    failing = node.container(other, "failing", "sh", "-c", "exit 3")
    assert node.ended(failing) == 3

    node.ask("StopContainer", {1: server, 2: 0})
    assert node.status(server)[3] == [EXITED] and node.status(client).get(3) == [RUNNING]
    for each in (pod, other):
        node.ask("StopPodSandbox", {1: each})
        node.ask("RemovePodSandbox", {1: each})
    assert not node.ask("ListContainers", {}) and not node.ask("ListPodSandbox", {})
    assert node.machine.net("ls", "--filter", "name=pods", "--fields", "containers") in ("0", "")
