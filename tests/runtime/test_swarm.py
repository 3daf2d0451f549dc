"""Docker Swarm with oci-run as the runtime of its nodes: a service out of our own registry, whose tasks move from a node that dies.

Three nodes and the registry are network namespaces on one bridge.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN
from tests.runtime.test_engines import engine, groups

pytestmark = [pytest.mark.root, pytest.mark.needs("dockerd", "docker", "ip", "nsenter")]
PATIENCE = 120.0  # seconds for what the managers do when they have missed a node for a while
WAITING = "trap exit TERM; while :; do sleep 1; done"


class Space:
    """A network and mount namespace with an address, plugged into the bridge of the first of them."""

    def __init__(self, address: str, switch: Space | None = None) -> None:
        self.address = address
        words = ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "sh", "-c", "echo; exec cat"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"\n"
        self.pid = str(self.process.pid)
        self.enter = ["nsenter", "-t", self.pid, "-n", "-m", "-u"]
        link = "br0"
        if switch is None:
            self.run("ip", "link", "add", link, "type", "bridge")
        else:
            link, far = "eth0", f"to{self.pid}"
            switch.run("ip", "link", "add", far, "type", "veth", "peer", "name", link, "netns", self.pid)
            switch.run("ip", "link", "set", far, "master", "br0", "up")
        self.run("sh", "-ec", f"hostname h{self.pid}; ip link set lo up; ip link set {link} up; ip addr add {address}/24 dev {link}")
        if switch is not None:
            self.run("ip", "route", "add", "default", "via", switch.address)

    def run(self, *words: str) -> None:
        subprocess.run([*self.enter, *words], check=True)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Node(Space):
    """A machine with a dockerd."""

    def __init__(self, number: int, switch: Space, work: Path, group: str) -> None:
        super().__init__(f"10.1.1.{number}", switch)
        self.work = work / f"n{number}"
        self.work.mkdir()
        (self.work / "config.json").write_text("{}")
        words = [
            "dockerd", "-H", f"unix://{self.work}/s", "--data-root", f"{self.work}/data", "--exec-root", f"{self.work}/exec",
            "-p", f"{self.work}/pid", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--cgroup-parent", f"/{group}",
            "--config-file", f"{self.work}/config.json", "--storage-driver", "vfs", "--add-runtime", f"oci={BIN}/oci-run",
            "--default-runtime", "oci", "--insecure-registry", f"{switch.address}:5000",
        ]  # fmt: skip
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.work)}
        self.server = subprocess.Popen([*self.enter, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, text=True)
        assert self.server.stderr is not None
        for line in self.server.stderr:
            if "API listen on" in line:
                break
        self.drain = subprocess.Popen(["cat"], stdin=self.server.stderr, stdout=subprocess.DEVNULL)
        self.docker = engine(["docker", "-H", f"unix://{self.work}/s"], env)

    def die(self) -> None:
        """As when its power is cut: all that runs there ends at once."""
        everything = subprocess.run(["pgrep", "-f", f"{self.work}/"], capture_output=True, text=True).stdout.split()
        own = Path(f"/proc/{self.pid}/ns/net").readlink()
        for pid in {*everything, *(path.name for path in Path("/proc").glob("[0-9]*"))}:
            try:
                if Path(f"/proc/{pid}/ns/net").readlink() == own and pid != self.pid:
                    subprocess.run(["kill", "-9", pid], capture_output=True)
            except OSError:
                continue
        self.server.wait()

    def end(self) -> None:
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait()
        self.die()
        self.drain.wait()
        super().end()


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory, oci: Any, busybox: Path) -> Iterator[list[Node]]:
    work = tmp_path_factory.mktemp("s")
    switch = Space("10.1.1.254")
    started: list[Space] = [switch]
    group = f"swarm-{switch.pid}"
    try:
        (work / "registry").mkdir()
        words = [f"{BIN}/oci-registry", "serve", "--listen", "0.0.0.0:5000", f"{work}/registry"]
        registry = subprocess.Popen([*switch.enter, *words], env=oci.environment(), stdout=subprocess.PIPE)
        assert registry.stdout is not None and registry.stdout.readline()
        push = [f"{BIN}/oci-push", f"{busybox}:latest", "127.0.0.1:5000/app:1"]
        subprocess.run([*switch.enter, *push], env=oci.environment(), check=True, stdout=subprocess.DEVNULL)
        for number in (1, 2, 3):
            started.append(Node(number, switch, work, group))
        yield [each for each in started if isinstance(each, Node)]
    finally:
        registry.terminate()
        registry.wait()
        for each in reversed(started):
            each.end()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if f"{work}/" in line:
                subprocess.run(["umount", "-l", line.split()[4]])
        for top in groups(group):
            for directory in sorted(top.glob("**/"), reverse=True):
                directory.rmdir()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_tasks_move_from_a_node_that_dies(nodes: list[Node]) -> None:
    manager, *workers = nodes
    manager.docker("swarm", "init", "--advertise-addr", manager.address, "--dispatcher-heartbeat", "1s")
    token = manager.docker("swarm", "join-token", "-q", "worker").stdout.strip()
    for each in workers:
        each.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
    image = "10.1.1.254:5000/app:1"
    manager.docker("service", "create", "-q", "--name", "web", "--replicas", "6", "--network", "host", image, "sh", "-c", WAITING)

    def where() -> list[str]:
        words = ["service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"]
        return sorted(line.split()[0] for line in manager.docker(*words).stdout.splitlines() if " Running" in line)

    names = {node.docker("info", "--format", "{{.Name}}").stdout.strip(): node for node in nodes}
    until(lambda: len(where()) == 6)
    assert set(where()) == set(names)
    seen = manager.docker("ps", "--format", "{{.ID}}").stdout.split()
    assert {manager.docker("inspect", "-f", "{{.HostConfig.Runtime}}", each).stdout for each in seen} == {"oci\n"}
    workers[0].die()
    lost = next(name for name, node in names.items() if node is workers[0])
    until(lambda: len(where()) == 6 and lost not in where())
    manager.docker("service", "rm", "web")
    until(lambda: not manager.docker("ps", "-q").stdout)
