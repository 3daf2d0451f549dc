"""The networks of RUN: the bridge, others by name, none, the host's; and what is left of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.build import networks
from tests.net.machines import HERE, THERE, Machine, Space, connect, greet

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]


@pytest.fixture
def machine(oci: Any, tmp_path: Path, busybox: Path) -> Iterator[Machine]:
    """A host: nothing that is done in it touches the real one."""
    made = Machine(oci, tmp_path)
    made.oci.preload("docker.io/library/base:latest", busybox)
    made.oci.env.pop("OCI_NETWORK")
    yield made
    made.close()


@pytest.fixture
def outside(machine: Machine) -> Space:
    return connect(machine)


def build(machine: Machine, text: str, *words: str, **more: Any) -> str:
    (machine.oci.cwd / "Dockerfile").write_text(f"FROM base\n{text}")
    return str(machine.command("build", "--progress", "plain", *words, ".", **more).stderr)


def nothing_left(machine: Machine) -> None:
    networks = json.loads(machine.net("inspect", "bridge"))
    assert (networks[0] if isinstance(networks, list) else networks)["containers"] == {}
    machine.until(lambda: "veth" not in machine.ip("link"))
    assert not list((machine.oci.cwd / "root/cache/build/work").iterdir())


def test_the_default_is_the_bridge(machine: Machine, outside: Space) -> None:
    peers = greet(outside.listen(80))
    said = build(machine, f"RUN ip -o -4 addr show eth0; nc -w 2 {THERE} 80 </dev/null\nRUN ip -o -4 addr show eth0\n")
    assert said.count("10.88.0.2/16") == 2 and peers == [HERE]
    nothing_left(machine)


def test_one_by_name_and_its_resolver(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.5.0.0/24", "web")
    said = build(machine, "RUN cat /etc/resolv.conf; ip -o -4 addr show eth0\nRUN --network=none ls /sys/class/net\n", "--network", "web")
    assert "10.5.0.2/24" in said and "nameserver 10.5.0.1" in said and " lo\n" in said
    assert "no such network" in build(machine, "RUN true\n", "--network", "nowhere", code=1)


def test_the_hosts_address(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.5.0.0/24", "web")
    for network, address in ("web", "10.5.0.1"), ("host", "127.0.0.1"), ("none", "127.0.0.1"):
        said = build(machine, "RUN grep -x 'ADDRESS.my-host' /etc/hosts\n".replace("ADDRESS", address), "--network", network, "--add-host", "my-host=host-gateway")
        assert f" {address}" in said


def test_stages_at_once_have_one_each(machine: Machine) -> None:
    text = "RUN ip -o -4 addr show eth0 > /a; sleep 0.5\nFROM base\nRUN ip -o -4 addr show eth0 > /b; sleep 0.5\n"
    said = build(machine, text + "FROM base\nCOPY --from=0 /a /\nCOPY --from=1 /b /\nRUN cat /a /b | grep -o '10.88.0.[23]' | sort | xargs echo got\n")
    assert "got 10.88.0.2 10.88.0.3" in said
    nothing_left(machine)


def test_what_a_killed_build_left(machine: Machine) -> None:
    (machine.oci.cwd / "Dockerfile").write_text("FROM base\nRUN echo started; sleep 1000\n")
    process = machine.start("build", "--progress", "plain", ".", stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.endswith(" started\n"):
            break
    process.kill()
    process.communicate()
    build(machine, "RUN true\n")
    nothing_left(machine)


def test_what_a_word_means(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found = networks.Networks("/", lambda words, fds: 0, said.append)
    monkeypatch.setenv("OCI_NETWORK", "web")
    assert [found.meant(word) for word in ("default", "none", "host", "x")] == ["web", "none", "host", "x"]
    assert {found.meant(word) for word in ("private", "container", "slirp4netns")} == {"web"}  # podman's
    monkeypatch.setenv("OCI_NETWORK", "pasta")
    monkeypatch.setattr(networks, "_PLACES", ())
    assert [found.meant("default"), found.meant("default"), len(said)] == ["none", "none", 1]


def test_servers_that_a_step_can_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert networks.resolv_conf(["10.0.0.1"], True) == "nameserver 10.0.0.1\n"
    assert networks._is_local("nameserver 127.0.0.53\n") and not networks._is_local("nameserver 10.0.0.1\n")
