"""IPv6 between hosts: routers that advertise, a host that is none, published ports seen from a third one."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.net.machines import HERE6, THERE6, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]
FAR, FAR_HERE = "2001:db8:f::2", "2001:db8:f::1"  # on another link of the machine's
ALL_NODES, ADVERTISEMENT, PREFIX = "ff02::1", 134, 3


def sysctl(space: Space, name: str, value: str = "") -> str:
    """A switch of a namespace, and what it was; with a value it is changed."""
    with space.inside():
        with open(f"/proc/sys/net/ipv6/{name}") as file:
            was = file.read().strip()
        if value:
            with open(f"/proc/sys/net/ipv6/{name}", "w") as file:
                file.write(value)
    return was


def advertise(space: Space, prefix: str) -> None:
    """Say on eth0: here is a router, and this the prefix of the link (RFC 4861, 4.2 and 4.6.2)."""
    Machine.until(lambda: "tentative" not in space.ip("-6", "addr", "show", "dev", "eth0"))
    option = struct.pack("!BBBBIII", PREFIX, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, prefix)
    body = struct.pack("!BBHBBHII", ADVERTISEMENT, 0, 0, 64, 0, 1800, 0, 0) + option
    with space.inside(), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        index = socket.if_nametoindex("eth0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.sendto(body, (ALL_NODES, 0, 0, index))


def another_link(machine: Machine) -> Space:
    """A third host, behind the machine."""
    far = machine.space("far")
    machine.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", "far")
    for space, link, address in ((machine, "eth1", FAR_HERE), (far, "eth0", FAR)):
        space.ip("addr", "add", f"{address}/64", "dev", link, "nodad")
        space.ip("link", "set", link, "up")
    far.ip("-6", "route", "add", "default", "via", FAR_HERE)
    return far


def test_the_host_does_not_become_a_router(machine: Machine, outside: Space) -> None:
    """Forwarding was off: a third host gets nowhere through this one; containers do, and to them what is published."""
    sysctl(machine, "conf/all/forwarding", "0")
    far = another_link(machine)
    outside.ip("-6", "route", "add", f"{FAR}/64", "via", HERE6)
    machine.net("create", "--ipv6", "web")
    a = machine.space("a")
    address = machine.net("attach", "-p", "8080:80", "web", a.path).split("\t")[2].partition("/")[0]
    outside.ip("-6", "route", "add", f"{address}/128", "via", HERE6)
    assert sysctl(machine, "conf/all/forwarding") == "1"
    with far.listen(80, "::") as listener, a.listen(80, "::") as inner, a.listen(81, "::"):
        assert not outside.reaches(FAR, 80)
        assert a.talks(listener, FAR, 80) == FAR_HERE
        assert outside.talks(inner, HERE6, 8080) == THERE6
        assert far.talks(inner, FAR_HERE, 8080) == FAR
        assert far.talks(inner, HERE6, 8080) == FAR  # by the address of its other link
        for port in (80, 81):  # directly, whether it is published or not
            assert not outside.reaches(address, port) and not far.reaches(address, port)
        assert machine.talks(inner, address, 80)


def test_forwarding_that_was_on(machine: Machine, outside: Space) -> None:
    """Then it goes on between others as before."""
    sysctl(machine, "conf/all/forwarding", "1")
    far = another_link(machine)
    outside.ip("-6", "route", "add", f"{FAR}/64", "via", HERE6)
    machine.net("create", "--ipv6", "web")
    machine.net("attach", "-p", "8080:80", "web", machine.space("a").path)
    with far.listen(80, "::") as listener:
        assert outside.talks(listener, FAR, 80) == THERE6


def test_a_way_out_that_a_router_advertises(machine: Machine, outside: Space) -> None:
    """It stays when the host begins to forward for containers, and later advertisements are heard; the bridge hears none."""
    far = "2001:db8:f::2"
    outside.ip("addr", "add", f"{far}/128", "dev", "lo", "nodad")
    sysctl(outside, "conf/all/forwarding", "1")
    sysctl(machine, "conf/all/forwarding", "0")
    machine.ip("addr", "del", f"{HERE6}/64", "dev", "eth0")
    advertise(outside, "2001:db8:a::")

    def ways() -> str:
        return machine.ip("-6", "route", "show", "default")

    Machine.until(lambda: "proto ra" in ways())
    machine.net("create", "--ipv6", "web")
    a = machine.space("a")
    machine.net("attach", "web", a.path)
    assert sysctl(machine, "conf/all/forwarding") == "1" and "proto ra" in ways()
    Machine.until(lambda: "tentative" not in machine.ip("-6", "addr", "show", "dev", "eth0"))
    outside.ip("-6", "route", "add", "2001:db8:a::/64", "dev", "eth0")
    with outside.listen(80, "::") as listener:
        assert a.talks(listener, far, 80).startswith("2001:db8:a:")
    advertise(outside, "2001:db8:b::")
    Machine.until(lambda: "2001:db8:b:" in machine.ip("-6", "addr", "show", "dev", "eth0"))
    bridge = next(line.split(":")[1].strip() for line in machine.ip("-o", "link").splitlines() if ": br-" in line)
    assert sysctl(machine, f"conf/{bridge}/accept_ra") == "0"
