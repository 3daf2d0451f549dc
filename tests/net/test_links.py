"""Links of macvlan and ipvlan, and our own rtnetlink held against what pyroute2 makes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from oci_tools.linux.netlink import Route, Rtnetlink
from tests.net.machines import HERE, THERE, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]


def has(kind: str) -> bool:
    """Whether the kernel makes links of a kind, in a namespace of nobody's."""
    script = f"ip link add t0 type veth peer name t1 && ip link add link t0 name x type {kind}"
    return subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_links_on_an_interface_of_the_host(machine: Machine, outside: Space, kind: str) -> None:
    if not has(kind):
        pytest.skip(f"needs a kernel with {kind}: tests/vm/run has one")
    words = ("--driver", kind, "--subnet", "192.0.2.0/24", "--gateway", THERE, "--ip-range", "192.0.2.128/25")
    machine.net("create", *words, "--opt", "parent=eth0", "lan")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "lan", a.path) == "eth0\t192.0.2.128/24"
    assert machine.net("attach", "--mac", "02:00:00:00:00:09", "lan", b.path) == "eth0\t192.0.2.129/24"
    with outside.listen(80) as listener, b.listen(80) as other:
        assert a.talks(listener, THERE, 80) == "192.0.2.128"
        assert a.talks(other, "192.0.2.129", 80) == "192.0.2.128"
    assert not machine.reaches("192.0.2.128", 80)  # so it is, with these links
    assert f"default via {THERE}" in a.ip("route")
    if kind == "macvlan":
        assert "02:00:00:00:00:09" in b.ip("link")
    shown = json.loads(machine.net("inspect", "--json", "lan"))
    assert shown["driver"] == kind and len(shown["containers"]) == 2
    assert machine.fails("rm", "lan").startswith("network is in use")
    machine.net("detach", "lan", a.path)
    assert "eth0" not in a.ip("link")


def test_a_vlan_is_made_for_who_hangs_on_it(machine: Machine, outside: Space) -> None:
    """`--opt parent=eth0.77`: frames with that tag and no others; the VLAN goes with the network."""
    try:
        outside.ip("link", "add", "link", "eth0", "name", "eth0.77", "type", "vlan", "id", "77")
    except subprocess.CalledProcessError:
        pytest.skip("needs a kernel with 802.1q: tests/vm/run has one")
    outside.ip("addr", "add", "10.77.0.2/24", "dev", "eth0.77")
    outside.ip("link", "set", "eth0.77", "up")
    machine.net("create", "--driver", "macvlan", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.2", "--opt", "parent=eth0.77", "lan")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "lan", a.path) == "eth0\t10.77.0.1/24"
    machine.net("attach", "lan", b.path)
    assert "id 77" in machine.ip("-d", "link", "show", "eth0.77")
    with outside.listen(80, "10.77.0.2") as listener:
        assert a.talks(listener, "10.77.0.2", 80) == "10.77.0.1"
    with b.listen(80) as listener:
        assert outside.talks(listener, "10.77.0.3", 80) == "10.77.0.2"
    machine.net("create", "--driver", "macvlan", "--opt", "parent=eth0.77", "--subnet", "10.78.0.0/24", "more")
    machine.net("rm", "--force", "lan")
    assert "eth0.77" in machine.ip("link"), "another network hangs on it"
    machine.net("rm", "more")
    assert "eth0.77" not in machine.ip("link")


def test_a_kernel_without_them_says_so(machine: Machine, outside: Space) -> None:
    if has("ipvlan"):
        pytest.skip("the kernel has ipvlan")
    machine.net("create", "--driver", "ipvlan", "--opt", "parent=eth0", "lan")
    said = machine.fails("attach", "lan", machine.space("a").path)
    assert said.startswith("cannot make a ipvlan link for network 'lan': ")
    assert json.loads(machine.net("inspect", "--json", "lan"))["containers"] == {}


def test_what_macvlan_hangs_on(machine: Machine, outside: Space) -> None:
    machine.net("create", "--driver", "macvlan", "--opt", "parent=nosuch0", "one")
    assert machine.fails("attach", "one", machine.space("a").path) == "no such interface 'nosuch0'"
    machine.net("create", "--driver", "macvlan", "--subnet", "10.9.0.0/24", "two")
    assert machine.fails("attach", "two", machine.spaces[-1].path) == (
        "no interface to hang on: the host has no default route (--opt parent=NAME)"
    )
    machine.ip("route", "add", "default", "via", THERE)
    assert machine.net("attach", "two", machine.spaces[-1].path).startswith("eth0\t10.9.0.")
    assert HERE not in machine.spaces[-1].ip("addr")


def test_none(machine: Machine) -> None:
    machine.net("create", "--driver", "none", "nothing")
    said = machine.fails("attach", "nothing", machine.space("a").path)
    assert said == "cannot attach to network 'nothing': its driver is none: it has no links"


# -- rtnetlink, ours and pyroute2's ---------------------------------------------------------------

OURS, THEIRS = "ours", "theirs"


def described(space: Space, kind: str, *names: str) -> list[dict[str, Any]]:
    """What `ip` says of links, addresses or routes, less what differs by nature."""
    found = []
    for one in json.loads(space.ip("-d", "-j", *kind.split())):
        if names and one.get("ifname", one.get("dev")) not in names:
            continue
        drop = {"ifindex", "link_index", "address", "link_netnsid", "stats64", "valid_life_time", "broadcast", "qdisc", "operstate"}
        found.append(clean(one, drop))
    return found


def clean(value: Any, drop: set[str]) -> Any:
    if isinstance(value, dict):
        timers = {name for name in value if name.endswith(("_timer", "_id", "bridge", "designated_cost")) or name in drop}
        return {name: clean(each, drop) for name, each in value.items() if name not in timers}
    return [clean(each, drop) for each in value] if isinstance(value, list) else value


def test_it_makes_what_pyroute2_makes(machine: Machine) -> None:
    from pyroute2 import IPRoute

    here, there = {}, {}
    for name in (OURS, THEIRS):
        here[name], there[name] = machine.space(f"{name}-host"), machine.space(f"{name}-container")
    mac = bytes.fromhex("0242c0000201")
    with here[OURS].inside(), Rtnetlink() as kernel:
        kernel.new_bridge("br0", mac, 1400)
        bridge = kernel.link("br0")
        assert bridge is not None and bridge.up and bridge.kind == "bridge" and bridge.mtu == 1400
        kernel.give(bridge.index, 2, bytes([10, 7, 0, 1]), 24)
        kernel.new_veth("v0", bridge.index, "eth0", there[OURS].fd, mac, 1400)
        port = kernel.link("v0")
        assert port is not None
        kernel.set_port(port.index, True, True)
    with there[OURS].inside(), Rtnetlink() as kernel:
        link = kernel.link("eth0")
        assert link is not None
        kernel.give(link.index, 2, bytes([10, 7, 0, 2]), 24, bytes([10, 7, 0, 255]))
        kernel.set_up(link.index, True)
        kernel.route(Route(2, 0, b"", bytes([10, 7, 0, 1]), link.index, 254))
        assert {(route.prefix, bytes(route.gateway)) for route in kernel.routes() if route.table == 254 and route.family == 2} == {
            (0, bytes([10, 7, 0, 1])), (24, b"")}  # fmt: skip
    with here[THEIRS].inside(), IPRoute() as kernel2:
        kernel2.link("add", ifname="br0", kind="bridge", address="02:42:c0:00:02:01", mtu=1400, state="up")
        index = kernel2.link_lookup(ifname="br0")[0]
        kernel2.addr("add", index=index, address="10.7.0.1", prefixlen=24)
        peer = {"ifname": "eth0", "net_ns_fd": there[THEIRS].fd, "address": "02:42:c0:00:02:01", "mtu": 1400}
        kernel2.link("add", ifname="v0", kind="veth", peer=peer, mtu=1400, master=index, state="up")
        kernel2.brport("set", index=kernel2.link_lookup(ifname="v0")[0], mode=1, isolated=1)
    with there[THEIRS].inside(), IPRoute() as kernel2:
        index = kernel2.link_lookup(ifname="eth0")[0]
        kernel2.addr("add", index=index, address="10.7.0.2", prefixlen=24, broadcast="10.7.0.255")
        kernel2.link("set", index=index, state="up")
        kernel2.route("add", dst="default", gateway="10.7.0.1", oif=index)
    for space, names in ((here, ("br0", "v0")), (there, ("eth0",))):
        for kind in ("link", "-4 addr", "-4 route"):
            assert described(space[OURS], kind, *names) == described(space[THEIRS], kind, *names), kind
