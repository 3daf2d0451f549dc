"""How a bridge's containers and the world reach each other: docker's gateway modes, trusted interfaces, addresses."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.net.machines import HERE, HERE6, THERE, THERE6, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter", "busybox")]
DOCKER = "com.docker.network.bridge"
SIX = "fd00:7::2"


def web(machine: Machine, outside: Space, *options: str, ports: tuple[str, ...] = ("-p", "8080:80")) -> Space:
    """A container at 10.7.0.2 and fd00:7::2; the other host knows the way to it."""
    words = [word for option in options for word in ("--opt", option)]
    machine.net("create", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64", *words, "web")
    a = machine.space("a")
    machine.net("attach", *ports, "web", a.path)
    outside.ip("route", "add", "10.7.0.0/24", "via", HERE)
    outside.ip("-6", "route", "add", "fd00:7::/64", "via", HERE6)
    return a


def pings(space: Space, host: str) -> bool:
    with space.inside():
        return subprocess.run(["busybox", "ping", "-c1", "-W5", host], capture_output=True).returncode == 0


def test_routed(machine: Machine, outside: Space) -> None:
    """No translation: the world knows containers by their addresses, and reaches of their ports what is published."""
    a = web(machine, outside, f"{DOCKER}.gateway_mode_ipv4=routed", f"{DOCKER}.gateway_mode_ipv6=routed")
    machine.net("create", "other")
    b = machine.space("b")
    machine.net("attach", "other", b.path)
    for host, here, there, any_address in (("10.7.0.2", HERE, THERE, "0.0.0.0"), (SIX, HERE6, THERE6, "::")):
        with a.listen(80, any_address) as listener, a.listen(81, any_address), outside.listen(82, any_address) as far:
            assert outside.talks(listener, host, 80) == there
            assert a.talks(far, there, 82) == host
            assert not outside.reaches(host, 81) and not outside.reaches(here, 8080)
            assert machine.talks(listener, host, 80)
            if any_address == "0.0.0.0":
                assert b.talks(listener, host, 80) and not b.reaches(host, 81)
            assert pings(outside, host)
    machine.net("reload")
    with a.listen(80) as listener:
        assert outside.talks(listener, "10.7.0.2", 80) == THERE
        name = next(iter(json.loads(machine.net("inspect", "--json", "web"))["containers"]))
        machine.net("publish", "rm", name, "8080:80")
        assert not outside.reaches("10.7.0.2", 80)


def test_routed_for_one_kind_of_addresses(machine: Machine, outside: Space) -> None:
    """As docker's users have it: IPv6 as it is, IPv4 translated."""
    a = web(machine, outside, f"{DOCKER}.gateway_mode_ipv6=routed")
    with a.listen(80, "::") as six:
        assert outside.talks(six, SIX, 80) == THERE6 and not outside.reaches(HERE6, 8080)
        assert not outside.reaches("10.7.0.2", 80)
    with a.listen(80) as four, outside.listen(82) as far:
        assert outside.talks(four, HERE, 8080) == THERE and a.talks(far, THERE, 82) == HERE


def test_nat_unprotected(machine: Machine, outside: Space) -> None:
    a = web(machine, outside, f"{DOCKER}.gateway_mode_ipv4=nat-unprotected")
    with a.listen(80) as listener, a.listen(81) as other, outside.listen(82) as far:
        assert outside.talks(listener, HERE, 8080) == THERE
        assert outside.talks(other, "10.7.0.2", 81) == THERE
        assert a.talks(far, THERE, 82) == HERE
    with a.listen(80, "::"):
        assert not outside.reaches(SIX, 80)


def test_isolated(machine: Machine, outside: Space) -> None:
    """The host has no address on the bridge: containers have each other and nobody else."""
    modes = [word for at in (4, 6) for word in ("--opt", f"{DOCKER}.gateway_mode_ipv{at}=isolated")]
    assert "isolated is for internal networks" in machine.fails("create", *modes, "web", code=2)
    machine.net("create", "--subnet", "10.7.0.0/24", "--ipv6", "--internal", *modes, "web")
    a, b = machine.space("a"), machine.space("b")
    assert machine.net("attach", "web", a.path).startswith("eth0\t10.7.0.1/24"), "it is no gateway's"
    machine.net("attach", "web", b.path)
    bridge = json.loads(machine.net("inspect", "--json", "web"))["bridge"]
    assert "10.7.0." not in machine.ip("addr", "show", bridge)
    with b.listen(80) as listener, machine.listen(81), a.listen(81):
        assert a.talks(listener, "10.7.0.2", 80) == "10.7.0.1"
        assert not machine.reaches("10.7.0.2", 80)


def test_a_gateway_that_is_somebody_else(machine: Machine) -> None:
    """docker's inhibit_ipv4: the host has no address on the bridge, and containers go by way of who has it."""
    machine.net("create", "--subnet", "10.7.0.0/24", "--opt", f"{DOCKER}.inhibit_ipv4=true", "web")
    a, router = machine.space("a"), machine.space("router")
    assert machine.net("attach", "web", a.path) == "eth0\t10.7.0.2/24", "the gateway's stays his"
    machine.net("attach", "web", router.path)
    router.ip("addr", "replace", "10.7.0.1/24", "dev", "eth0")
    assert "default via 10.7.0.1" in a.ip("route") and machine.resolvers() == []
    assert "10.7.0." not in machine.ip("addr", "show", json.loads(machine.net("inspect", "--json", "web"))["bridge"])
    with router.listen(80) as listener:
        assert a.talks(listener, "10.7.0.1", 80) == "10.7.0.2"


def test_trusted_interfaces(machine: Machine, outside: Space) -> None:
    """From these, what is published is reached at the containers' own addresses, too."""
    a = web(machine, outside, f"{DOCKER}.trusted_host_interfaces=eth9:eth0", ports=("-p", "8080:80", "-p", "127.0.0.1:8081:81"))
    with a.listen(80) as listener, a.listen(81) as other, a.listen(82):
        assert outside.talks(listener, "10.7.0.2", 80) == THERE and outside.talks(listener, HERE, 8080) == THERE
        assert outside.talks(other, "10.7.0.2", 81) == THERE and not outside.reaches(HERE, 8081)
        assert not outside.reaches("10.7.0.2", 82)
    with a.listen(80, "::") as six:
        assert outside.talks(six, SIX, 80) == THERE6
    machine.net("detach", "web", a.path)
    table = machine.rules().split("set direct4 {")[1].partition("}")[0]
    assert "elements" not in table


@pytest.mark.parametrize("names", [("com.docker.network.host_ipv4", "com.docker.network.host_ipv6"), ("outbound_addr4", "outbound_addr6")])
def test_the_address_that_containers_speak_from(machine: Machine, outside: Space, names: tuple[str, str]) -> None:
    four, six = "192.0.2.77", "2001:db8::77"
    machine.ip("addr", "add", f"{four}/24", "dev", "eth0")
    machine.ip("addr", "add", f"{six}/64", "dev", "eth0", "nodad")
    a = web(machine, outside, f"{names[0]}={four}", f"{names[1]}={six}")
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80) == four
    with outside.listen(80, "::") as listener:
        assert a.talks(listener, THERE6, 80) == six
    said = machine.fails("create", "--opt", f"{names[0]}={six}", "bad", code=2)
    assert "snat4: expected an address of IPv4" in said


def test_words_that_make_no_sense(machine: Machine) -> None:
    assert "expected one of nat, nat-unprotected" in machine.fails("create", "--opt", f"{DOCKER}.gateway_mode_ipv4=x", "web", code=2)
    assert "trustedInterfaces" in machine.fails("create", "--opt", f"{DOCKER}.trusted_host_interfaces=a/b", "web", code=2)
