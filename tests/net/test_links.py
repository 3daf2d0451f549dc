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


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_the_host_among_them(machine: Machine, outside: Space, kind: str) -> None:
    """What the kernel keeps apart meets where a network has an address for the host: both ways, and for the world as before."""
    if not has(kind):
        pytest.skip(f"needs a kernel with {kind}: tests/vm/run has one")
    words = ("--subnet", "192.0.2.0/24", "--gateway", THERE, "--ip-range", "192.0.2.128/30", "--subnet", "2001:db8::/64",
             "--ip-range", "2001:db8::100-2001:db8::1ff")
    host, host6 = "192.0.2.129", "2001:db8::ff"
    machine.net("create", "--driver", kind, *words, "--opt", "parent=eth0", "--opt", f"host_address={host},{host6}", "lan")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "lan", a.path) == "eth0\t192.0.2.128/24\t2001:db8::100/64"
    assert machine.net("attach", "lan", b.path).startswith("eth0\t192.0.2.130/24\t"), "the host's is nobody else's"
    said = f"address is in use '{host}': the host has it"
    assert machine.fails("attach", "--ip", host, "lan", machine.space("c").path) == said
    with a.listen(80, "::") as listener, machine.listen(81, "::") as here, outside.listen(82) as far:
        assert machine.talks(listener, "192.0.2.128", 80) == f"::ffff:{host}"
        assert machine.talks(listener, "2001:db8::100", 80) == host6
        assert a.talks(here, host, 81) == "::ffff:192.0.2.128" and a.talks(here, host6, 81) == "2001:db8::100"
        assert outside.talks(listener, "192.0.2.128", 80) == f"::ffff:{THERE}"
        assert a.talks(far, THERE, 82) == "192.0.2.128" and machine.talks(far, THERE, 82) == HERE
    machine.net("check", "lan")
    machine.ip("route", "del", "192.0.2.128/32")
    assert "the host's route is missing '192.0.2.128'" in machine.fails("check", "lan")
    machine.net("reload")
    machine.net("check", "lan")
    machine.net("detach", "lan", a.path)
    assert "192.0.2.128" not in machine.ip("route") and "192.0.2.130" in machine.ip("route")
    machine.run("ip", "netns", "del", "b")
    b.close()
    machine.spaces.remove(b)
    machine.net("prune")
    assert "192.0.2.130" not in machine.ip("route") and "mv-" not in machine.ip("link")


def test_who_has_an_address_for_the_host(machine: Machine) -> None:
    create = ("create", "--subnet", "10.9.0.0/24", "--driver", "macvlan")
    for more, said in (
        (["--opt", "host_address=10.9.1.1"], "expected an address that a host of a subnet can have"),
        (["--opt", "host_address=10.9.0.255"], "expected an address that a host of a subnet can have"),
        (["--opt", "host_address=10.9.0.8,10.9.0.9"], "expected one address of IPv4"),
        (["--opt", "host_address=mine"], "expected an address"),
        (["--opt", "host_address=10.9.0.8", "--opt", "mode=private"], "links of this mode do not see each other"),
        (["--opt", "host_address=10.9.0.8", "--driver", "bridge"], "it is for macvlan and ipvlan: the host has the gateway's"),
    ):
        assert said in machine.fails(*create, *more, "x", code=2)


def tagged(space: Space, name: str = "eth0.77", address: str = "10.77.0.2/24") -> None:
    """An interface of a host that speaks with the tag 77."""
    space.ip("link", "add", "link", name.partition(".")[0], "name", name, "type", "vlan", "id", "77")
    space.ip("addr", "add", address, "dev", name)
    space.ip("link", "set", name, "up")


def filters() -> bool:
    made = ["unshare", "--net", "ip", "link", "add", "name", "br0", "type", "bridge", "vlan_filtering", "1"]
    return subprocess.run(made, capture_output=True).returncode == 0


def test_a_bridge_in_a_vlan(machine: Machine, outside: Space) -> None:
    """Its containers and the host's side of it speak untagged; what is added to it carries the tag."""
    if not filters():
        pytest.skip("needs a kernel whose bridges filter VLANs: tests/vm/run has one")
    tagged(outside)
    words = ("--subnet", "10.77.0.0/24", "--opt", "com.docker.network.bridge.name=br77", "--opt", "vlan=77")
    machine.net("create", *words, "--ip-range", "10.77.0.64/26", "web")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "-p", "8080:80", "web", a.path) == "eth0\t10.77.0.64/24"
    machine.net("attach", "--name", "b", "web", b.path)
    machine.ip("link", "set", "eth0", "master", "br77")
    machine.run("bridge", "vlan", "add", "vid", "77", "dev", "eth0")
    assert {one["ifname"]: [each["vlan"] for each in one["vlans"]] for one in json.loads(str(
        machine.run("bridge", "-j", "vlan", "show").stdout))} == {
        "br77": [77], "eth0": [77], **{name: [77] for name in veths(machine)}}  # fmt: skip
    with a.listen(80) as listener, outside.listen(81, "10.77.0.2") as far, machine.listen(82) as here:
        assert b.talks(listener, "10.77.0.64", 80) == "10.77.0.65"
        assert outside.talks(listener, "10.77.0.64", 80) == "10.77.0.2"
        assert a.talks(far, "10.77.0.2", 81) == "10.77.0.64"
        assert a.talks(here, "10.77.0.1", 82) == "10.77.0.64"
        assert machine.talks(listener, "10.77.0.1", 8080)
    outside.ip("addr", "add", "10.77.0.3/24", "dev", "eth0")
    outside.ip("route", "replace", "10.77.0.64/32", "dev", "eth0", "src", "10.77.0.3")
    with a.listen(80):
        assert not outside.reaches("10.77.0.64", 80), "without the tag"
    machine.net("rm", "--force", "web")
    assert "br77" not in machine.ip("link")


def veths(machine: Machine) -> list[str]:
    return [one["ifname"] for one in json.loads(machine.ip("-j", "link")) if one["ifname"].startswith("veth")]


def test_vlans_of_a_bridge_that_is_somebody_elses(machine: Machine, outside: Space) -> None:
    """Two networks share it and do not meet: as podman's `mode=unmanaged` with `vlan=`."""
    if not filters():
        pytest.skip("needs a kernel whose bridges filter VLANs: tests/vm/run has one")
    machine.ip("link", "add", "lan0", "type", "bridge")
    machine.ip("link", "set", "lan0", "up")
    words = ("--opt", "com.docker.network.bridge.name=lan0", "--opt", "mode=unmanaged")
    for vlan, subnet in ((10, "10.10.0.0/24"), (20, "10.20.0.0/24")):
        machine.net("create", *words, "--opt", f"vlan={vlan}", "--subnet", subnet, f"n{vlan}")
    a, b, c = (machine.space(name) for name in "abc")
    machine.net("attach", "n10", a.path)
    machine.net("attach", "n10", b.path)
    machine.net("attach", "n20", c.path)
    c.ip("addr", "add", "10.10.0.99/24", "dev", "eth0")
    with b.listen(80) as listener:
        assert a.talks(listener, "10.10.0.3", 80) == "10.10.0.2"
        c.ip("route", "flush", "10.10.0.0/24")
        c.ip("route", "add", "10.10.0.0/24", "dev", "eth0", "src", "10.10.0.99")
        assert not c.reaches("10.10.0.3", 80)
    machine.net("rm", "--force", "n10", "n20")
    assert "lan0" in machine.ip("link")


def test_a_bridge_in_a_vrf(machine: Machine, outside: Space) -> None:
    """Its routes are the VRF's: what else is in there is reached, and isolated as everywhere; the rest of the host is not."""
    made = ["unshare", "--net", "ip", "link", "add", "red", "type", "vrf", "table", "10"]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("needs a kernel with VRF: tests/vm/run has one")
    machine.net("create", "--opt", "vrf=red", "--subnet", "10.7.0.0/24", "web")
    a, b = machine.space("a"), machine.space("b")
    assert machine.fails("attach", "web", a.path) == "cannot use VRF 'red': no such interface"
    machine.ip("link", "add", "red", "type", "dummy")
    assert machine.fails("attach", "web", a.path) == "cannot use VRF 'red': it is no VRF"
    machine.ip("link", "del", "red")
    machine.ip("link", "add", "red", "type", "vrf", "table", "10")
    machine.ip("link", "set", "red", "up")
    machine.ip("link", "set", "eth0", "master", "red")
    assert machine.fails("attach", "-p", "8080:80", "web", a.path).endswith("network web is in a VRF")
    machine.net("attach", "web", a.path)
    (name,) = json.loads(machine.net("inspect", "--json", "web"))["containers"]
    assert "no network that is open to the world" in machine.fails("publish", "add", name, "8080:80")
    machine.net("create", "--opt", "vrf=red", "--subnet", "10.8.0.0/24", "other")
    machine.net("attach", "other", b.path)
    assert "10.7.0.0/24" in machine.ip("route", "show", "vrf", "red") and "10.7.0" not in machine.ip("route")
    with outside.listen(80) as listener, a.listen(81) as inside, b.listen(82):
        assert a.talks(listener, THERE, 80) == HERE
        assert not a.reaches("10.8.0.2", 82), "networks are apart in there too"
        outside.ip("route", "add", "10.7.0.0/24", "via", HERE)
        assert not outside.reaches("10.7.0.2", 81), "what is not published"
        assert inside
    machine.net("rm", "--force", "web", "other")
    assert "br-" not in machine.ip("link")


def test_options_that_nothing_has(machine: Machine) -> None:
    for words, said in (
        (["--opt", "vlan=4095"], "expected 1 to 4094"),
        (["--opt", "vlan=x"], "invalid value for option vlan 'x' (a number)"),
        (["--driver", "macvlan", "--opt", "vlan=5"], "a network of driver macvlan has none"),
        (["--opt", "vrf=red", "--opt", "mode=unmanaged", "--opt", "com.docker.network.bridge.name=b"], "somebody else's"),
        (["--opt", "vrf=a-name-that-is-too-long"], "expected an interface's name of at most 15 bytes"),
    ):
        assert said in machine.fails("create", *words, "x", code=2)


def test_an_address_is_kept_for_somebody_else(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.9.0.0/29", "--aux-address", "printer=10.9.0.3", "--aux-address", "router=10.9.0.2", "x")
    spaces = [machine.space(name) for name in "abcd"]
    assert [machine.net("attach", "x", each.path) for each in spaces[:3]] == [f"eth0\t10.9.0.{at}/29" for at in (4, 5, 6)]
    assert machine.fails("attach", "x", spaces[3].path).startswith("no address is left in network 'x'")
    assert machine.fails("attach", "--ip", "10.9.0.3", "x", spaces[3].path) == "address is in use '10.9.0.3': printer has it"
    shown = json.loads(machine.net("inspect", "--json", "x"))["subnets"][0]["reserved"]
    assert shown == {"printer": "10.9.0.3", "router": "10.9.0.2"}
    said = "address is in no subnet '10.8.0.3' (--subnet names it)"
    assert machine.fails("create", "--subnet", "10.9.1.0/24", "--aux-address", "x=10.8.0.3", "y", code=2) == said


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


def test_a_network_that_gives_no_addresses(machine: Machine) -> None:
    """podman's and docker's `none`: a link that is up, for who has addresses from elsewhere."""
    machine.net("create", "--ipam-driver", "none", "web")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "web", a.path) == "eth0"
    machine.net("attach", "web", b.path)
    assert a.ip("-4", "addr", "show", "eth0") == "" and a.ip("route") == "" and "UP" in a.ip("link", "show", "eth0")
    assert machine.resolvers() == []
    for space, address in ((a, "10.3.0.1/24"), (b, "10.3.0.2/24")):
        space.ip("addr", "add", address, "dev", "eth0")
    with b.listen(80) as listener:
        assert a.talks(listener, "10.3.0.2", 80) == "10.3.0.1"
    machine.net("check", "web")
    machine.net("rm", "--force", "web")
    said = "--ipam-driver none excludes subnets and addresses"
    assert machine.fails("create", "--ipam-driver", "none", "--subnet", "10.9.0.0/24", "x", code=2) == said


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru", "source"])
def test_modes_of_macvlan(machine: Machine, outside: Space, mode: str) -> None:
    machine.net("create", "--driver", "macvlan", "--opt", "parent=eth0", "--opt", f"mode={mode}", "--subnet", "10.9.0.0/24", "lan")
    a = machine.space("a")
    machine.net("attach", "lan", a.path)
    (link,) = json.loads(a.ip("-j", "-d", "link", "show", "eth0"))
    assert link["linkinfo"]["info_data"]["mode"] == mode and "UP" in link["flags"]


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
