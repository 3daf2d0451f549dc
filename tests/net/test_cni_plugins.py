"""Each of CNI's own plugins that no other test has, run from a conflist of ours: traffic, and nothing left over."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.net.machines import HERE, THERE, Machine, Space

PLUGINS = "/usr/lib/cni"
pytestmark = [
    pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter"),
    pytest.mark.skipif(not os.path.exists(f"{PLUGINS}/ptp"), reason="needs containernetworking-plugins"),
]  # fmt: skip
ANYWHERE = [{"dst": "0.0.0.0/0"}]
LEASED = {"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]], "routes": ANYWHERE}
BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": LEASED}


def static(address: str) -> dict[str, Any]:
    return {"type": "static", "addresses": [{"address": address}]}


def create(machine: Machine, *plugins: dict[str, Any]) -> None:
    document = {"cniVersion": "1.0.0", "name": "x", "plugins": plugins}
    machine.net("create", "--from", "-", "theirs", input=json.dumps(document))


def needs_links(kind: str, *more: str) -> None:
    script = f"ip link add t0 type veth peer name t1; ip link add {' '.join(more)} name x type {kind}"
    made = ["unshare", "--net", "sh", "-ec", script]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip(f"needs a kernel with {kind}: tests/vm/run has one")


def leaves_nothing(machine: Machine, a: Space, before: str) -> None:
    machine.net("detach", "theirs", a.path)
    assert "eth0" not in a.ip("link") and machine.ip("-o", "-br", "link").split() == before.split()


def test_ptp(machine: Machine, outside: Space) -> None:
    before = machine.ip("-o", "-br", "link")
    create(machine, {"type": "ptp", "ipMasq": True, "ipam": LEASED})
    a = machine.space("a")
    assert machine.net("attach", "theirs", a.path) == "eth0\t10.7.0.2/24"
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80) == HERE
    leaves_nothing(machine, a, before)


def test_host_device_and_static_addresses(machine: Machine, outside: Space) -> None:
    """A link of the host's own, lent to a container, and given back."""
    machine.run("ip", "link", "add", "spare", "type", "veth", "peer", "name", "eth7", "netns", "outside")
    outside.ip("addr", "add", "10.7.0.1/24", "dev", "eth7")
    outside.ip("link", "set", "eth7", "up")
    create(machine, {"type": "host-device", "device": "spare", "ipam": static("10.7.0.9/24")})
    a = machine.space("a")
    assert machine.net("attach", "theirs", a.path) == "eth0\t10.7.0.9/24"
    assert "spare" not in machine.ip("link")
    with outside.listen(80, "10.7.0.1") as listener:
        assert a.talks(listener, "10.7.0.1", 80) == "10.7.0.9"
    machine.net("detach", "theirs", a.path)
    assert "spare" in machine.ip("link") and "eth0" not in a.ip("link")


def test_loopback(machine: Machine) -> None:
    create(machine, {"type": "loopback"})
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    with a.listen(80, "127.0.0.1") as listener:
        assert a.talks(listener, "127.0.0.1", 80) == "127.0.0.1"
    machine.net("detach", "theirs", a.path)


def test_sbr(machine: Machine) -> None:
    """What goes out from an address goes by its own table of routes."""
    create(machine, BRIDGE, {"type": "sbr"})
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    assert "from 10.7.0.2 lookup" in a.ip("rule")
    machine.net("detach", "theirs", a.path)
    assert "10.7.0.2" not in a.ip("rule")


def test_vlan(machine: Machine, outside: Space) -> None:
    needs_links("vlan id 5", "link", "t0")
    before = machine.ip("-o", "-br", "link")
    outside.ip("link", "add", "link", "eth0", "name", "eth0.77", "type", "vlan", "id", "77")
    outside.ip("addr", "add", "10.77.0.2/24", "dev", "eth0.77")
    outside.ip("link", "set", "eth0.77", "up")
    create(machine, {"type": "vlan", "master": "eth0", "vlanId": 77, "ipam": static("10.77.0.9/24")})
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    with outside.listen(80, "10.77.0.2") as listener:
        assert a.talks(listener, "10.77.0.2", 80) == "10.77.0.9"
    leaves_nothing(machine, a, before)


def test_vrf(machine: Machine) -> None:
    needs_links("vrf table 10")
    create(machine, BRIDGE, {"type": "vrf", "vrfname": "red"})
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    assert "master red" in a.ip("link", "show", "eth0")
    machine.net("detach", "theirs", a.path)
    assert "eth0" not in a.ip("link")


def test_ipvlan(machine: Machine, outside: Space) -> None:
    needs_links("ipvlan", "link", "t0")
    before = machine.ip("-o", "-br", "link")
    create(machine, {"type": "ipvlan", "master": "eth0", "ipam": static("192.0.2.9/24")})
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80) == "192.0.2.9"
    leaves_nothing(machine, a, before)
