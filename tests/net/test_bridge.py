"""Containers on bridge networks: traffic between them, with the world, and none where there should be none."""

from __future__ import annotations

import json
import socket

import pytest

from tests.net.machines import BRIEF, HERE, THERE, THERE6, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]


def address(machine: Machine, network: str, space: Space, *words: str) -> list[str]:
    """Attach, and the addresses that came of it."""
    name, *found = machine.net("attach", *words, network, space.path).split("\t")
    assert name == "eth0"
    return [each.partition("/")[0] for each in found]


def test_two_containers_of_the_default_network(machine: Machine) -> None:
    a, b = machine.space("a"), machine.space("b")
    (one,), (two,) = address(machine, "bridge", a), address(machine, "bridge", b)
    assert (one, two) == ("10.88.0.2", "10.88.0.3")
    assert a.talks(b.listen(80), two, 80) == one
    assert machine.net("ls").split("\t") == ["bridge", "bridge", "10.88.0.0/16", "2"]
    machine.net("detach", "bridge", a.path)
    assert "eth0" not in a.ip("link")
    assert not a.reaches(two, 80)


def test_ipv6(machine: Machine) -> None:
    machine.net("create", "--ipv6", "--subnet", "fd00:7::/64", "six")
    a, b = machine.space("a"), machine.space("b")
    (_, one), (_, two) = address(machine, "six", a), address(machine, "six", b)
    assert (one, two) == ("fd00:7::2", "fd00:7::3")
    assert a.talks(b.listen(80, "::"), two, 80) == one  # at once: no duplicate is looked for
    assert "default via fd00:7::1" in a.ip("-6", "route")


def test_the_world_is_reached_by_translation(machine: Machine, outside: Space) -> None:
    machine.net("create", "--ipv6", "web")
    a = machine.space("a")
    address(machine, "web", a)
    assert a.talks(outside.listen(80), THERE, 80) == HERE
    assert a.talks(outside.listen(81, "::"), THERE6, 81).startswith("2001:db8::1")


def test_an_internal_network_has_no_way_out_and_none_in(machine: Machine, outside: Space) -> None:
    machine.net("create", "--internal", "--subnet", "10.7.0.0/24", "in")
    machine.net("create", "web")
    a, b, c = machine.space("a"), machine.space("b"), machine.space("c")
    (_,), (two,), _ = address(machine, "in", a), address(machine, "in", b), address(machine, "web", c)
    listener = outside.listen(80)
    assert "default" not in a.ip("route")
    a.ip("route", "add", "default", "via", "10.7.0.1")  # it may try
    assert not a.reaches(THERE, 80)
    outside.ip("route", "add", "10.7.0.0/24", "via", HERE)
    inner = b.listen(80)
    assert not outside.reaches(two, 80) and not c.reaches(two, 80)
    assert a.talks(inner, two, 80) == "10.7.0.2"
    listener.close()
    assert "internal" in machine.fails("attach", "-p", "80", "in", machine.space("d").path)


def test_networks_do_not_reach_each_other(machine: Machine) -> None:
    machine.net("create", "one")
    machine.net("create", "two")
    a, b = machine.space("a"), machine.space("b")
    (_,), (there,) = address(machine, "one", a), address(machine, "two", b)
    with b.listen(80):
        assert not a.reaches(there, 80)


def test_networks_that_are_not_isolated_reach_each_other(machine: Machine) -> None:
    spaces = {name: machine.space(name) for name in ("one", "two", "three")}
    for name in spaces:
        machine.net("create", *(["--isolate=false"] if name != "three" else []), name)
    found = {name: address(machine, name, space)[0] for name, space in spaces.items()}
    with spaces["two"].listen(80) as listener, spaces["three"].listen(80):
        spaces["one"].talks(listener, found["two"], 80)
        assert not spaces["one"].reaches(found["three"], 80)


def test_containers_that_may_not_speak_with_each_other(machine: Machine, outside: Space) -> None:
    machine.net("create", "--opt", "com.docker.network.bridge.enable_icc=false", "shy")
    a, b = machine.space("a"), machine.space("b")
    _, (two,) = address(machine, "shy", a), address(machine, "shy", b)
    with b.listen(80) as listener:
        assert not a.reaches(two, 80)
        machine.talks(listener, two, 80)
    assert a.talks(outside.listen(80), THERE, 80) == HERE


def test_mtu(machine: Machine, outside: Space) -> None:
    machine.ip("route", "add", "default", "via", THERE)
    machine.ip("link", "set", "eth0", "mtu", "1400")
    machine.net("create", "--mtu", "1300", "small")
    a, b = machine.space("a"), machine.space("b")
    address(machine, "bridge", a)
    address(machine, "small", b)
    assert "mtu 1400" in a.ip("link", "show", "eth0")  # of the link to the world
    assert "mtu 1300" in b.ip("link", "show", "eth0")


def test_what_was_asked_for(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "--ip-range", "10.7.0.128/25", "web")
    a, b, c = machine.space("a"), machine.space("b"), machine.space("c")
    assert address(machine, "web", a) == ["10.7.0.128"]
    assert address(machine, "web", b, "--ip", "10.7.0.9", "--mac", "02:00:00:00:00:09") == ["10.7.0.9"]
    assert "02:00:00:00:00:09" in b.ip("link", "show", "eth0")
    words = ("attach", "--ifname", "lan", "--json", "web", c.path)
    made = json.loads(machine.net(*words))
    assert made["interface"] == "lan" and "lan" in c.ip("link")
    shown = json.loads(machine.net("inspect", "--json", "web"))
    assert sorted(each["addresses"] for each in shown["containers"].values()) == [
        ["10.7.0.128/24"], ["10.7.0.129/24"], ["10.7.0.9/24"],
    ]  # fmt: skip


def test_several_networks_and_the_default_route(machine: Machine) -> None:
    for number, name in enumerate(("one", "two", "three")):
        machine.net("create", "--subnet", f"10.7.{number}.0/24", name)
    a = machine.space("a")
    machine.net("attach", "one", a.path)
    assert machine.net("attach", "two", a.path).startswith("eth1\t10.7.1.2/24")
    assert "default via 10.7.0.1" in a.ip("route")  # of equals the first
    machine.net("attach", "--priority", "5", "three", a.path)
    assert "default via 10.7.2.1" in a.ip("route")
    machine.net("detach", "three", a.path)
    assert "default via 10.7.0.1" in a.ip("route")
    machine.net("detach", "one", a.path)
    assert "default via 10.7.1.1" in a.ip("route")


def test_two_addresses_are_enough(machine: Machine, outside: Space) -> None:
    """The host and one container (RFC 3021, RFC 6164)."""
    machine.net("create", "--subnet", "10.7.0.0/31", "--subnet", "fd00:7::/127", "pair")
    a = machine.space("a")
    assert machine.net("attach", "-p", "8080:80", "pair", a.path) == "eth0\t10.7.0.1/31\tfd00:7::1/127"
    with a.listen(80) as listener, outside.listen(81) as far:
        assert machine.talks(listener, "10.7.0.1", 80) == "10.7.0.0" and outside.talks(listener, HERE, 8080) == THERE
        assert a.talks(far, THERE, 81) == HERE
    with a.listen(80, "::") as listener:
        assert machine.talks(listener, "fd00:7::1", 80) == "fd00:7::"
    assert "no address is left" in machine.fails("attach", "pair", machine.space("b").path)


def test_a_bridge_that_is_somebody_elses(machine: Machine, outside: Space) -> None:
    """As podman has it, `mode=unmanaged`: a place on the link behind it; neither bridge nor rules are touched."""
    words = ("--subnet", "192.0.2.0/24", "--gateway", THERE, "--ip-range", "192.0.2.128/25", "--opt", "mode=unmanaged")
    machine.net("create", *words, "--opt", "bridge_name=lan0", "lan")
    a, b = machine.space("a"), machine.space("b")
    assert machine.fails("attach", "lan", a.path).startswith("no such bridge 'lan0'")
    machine.run("sh", "-ec", "ip link add lan0 type bridge; ip link set lan0 up; ip link set eth0 master lan0")
    before = machine.ip("addr", "show", "lan0").replace(" tentative", "")
    assert "not ours" in machine.fails("attach", "-p", "8080:80", "lan", a.path)
    assert address(machine, "lan", a) == ["192.0.2.129"]
    assert address(machine, "lan", b) == ["192.0.2.130"]
    assert f"default via {THERE}" in a.ip("route")
    with outside.listen(80) as listener, b.listen(80) as inner:
        assert a.talks(listener, THERE, 80) == "192.0.2.129"  # as it is: nothing is translated
        assert outside.talks(inner, "192.0.2.130", 80) == THERE and a.talks(inner, "192.0.2.130", 80)
    machine.net("check", "lan")
    machine.net("reload")
    machine.net("detach", "lan", a.path)
    machine.net("rm", "-f", "lan")
    assert machine.ip("addr", "show", "lan0").replace(" tentative", "") == before and "from-lan0" not in machine.rules()
    assert "expected one of managed, unmanaged" in machine.fails("create", "--opt", "mode=x", "bad", code=2)


def test_routes_of_a_network(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "--route", "10.50.0.0/16,10.7.0.9", "--opt", "metric=77", "web")
    machine.net("create", "--subnet", "10.8.0.0/24", "--opt", "no_default_route=true", "quiet")
    a, b = machine.space("a"), machine.space("b")
    address(machine, "web", a)
    address(machine, "quiet", b)
    assert "10.50.0.0/16 via 10.7.0.9" in a.ip("route") and "metric 77" in a.ip("route")
    assert "default" not in b.ip("route")


def test_routes_that_lead_nowhere(machine: Machine) -> None:
    words = ("--route", "10.50.0.0/16,blackhole", "--route", "10.51.0.0/16,unreachable", "--route", "fd00:50::/32,prohibit")
    machine.net("create", "--ipv6", *words, "web")
    a = machine.space("a")
    address(machine, "web", a)
    assert {"blackhole 10.50.0.0/16", "unreachable 10.51.0.0/16"} <= {" ".join(line.split()[:2]) for line in a.ip("route").splitlines()}
    assert "prohibit fd00:50::/32" in a.ip("-6", "route")
    assert "invalid address 'nowhere'" in machine.fails("create", "--route", "10.5.0.0/16,nowhere", "bad", code=2)


def test_the_state_of_a_container_on_stdin(machine: Machine) -> None:
    """As a hook: attach at createRuntime, detach at poststop."""
    a = machine.space("a")
    pid = int(machine.run("sh", "-c", "ip netns exec a sleep 60 >/dev/null 2>&1 & echo $!").stdout)
    try:
        state = {"ociVersion": "1.2.0", "id": "c1", "status": "creating", "pid": pid, "bundle": "/b"}
        assert machine.net("attach", "bridge", input=json.dumps(state)) == ""
        assert "10.88.0.2/16" in a.ip("addr")
    finally:
        machine.run("kill", str(pid))
    machine.net("detach", "bridge", "-", input=json.dumps({**state, "pid": 0, "status": "stopped"}))
    assert machine.net("ls", "--fields", "containers") == "0"


def test_what_is_sent_to_127_0_0_1_over_a_bridge_does_not_arrive(machine: Machine) -> None:
    """route_localnet lets it in, the firewall does not."""
    a = machine.space("a")
    address(machine, "bridge", a)
    a.ip("addr", "add", "127.9.9.9/32", "dev", "eth0")
    with a.inside():
        for name in ("all", "eth0"):
            with open(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "w") as file:
                file.write("1")
    a.ip("addr", "del", "127.0.0.1/8", "dev", "lo")
    a.ip("route", "add", "127.0.0.1/32", "via", "10.88.0.1", "dev", "eth0")
    with machine.listen(4567, "127.0.0.1"), a.socket(socket.SOCK_STREAM) as sock:
        sock.settimeout(BRIEF)
        with pytest.raises(OSError):
            sock.connect(("127.0.0.1", 4567))


def test_a_namespace_of_an_earlier_ones_name(machine: Machine) -> None:
    """Nothing of the earlier one counts: neither its link's name nor its addresses."""
    machine.net("create", "--subnet", "10.7.0.0/24", "--ip-range", "10.7.0.8/31", "web")
    assert machine.net("attach", "web", machine.space("a").path) == "eth0\t10.7.0.8/24"
    machine.run("ip", "netns", "del", "a")
    a = machine.space("a")
    assert machine.net("attach", "bridge", a.path) == "eth0\t10.88.0.2/16"
    assert machine.net("attach", "web", a.path).startswith("eth1\t10.7.0.")
    assert len(json.loads(machine.net("inspect", "--json", "web"))["containers"]) == 1
    machine.net("attach", "web", machine.space("b").path)
    said = machine.fails("attach", "web", machine.space("c").path)
    assert said == "no address is left in network 'web': all of 10.7.0.8-10.7.0.9 are taken"
