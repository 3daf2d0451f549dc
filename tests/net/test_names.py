"""The resolver of a network: what it knows, what it passes on, and clients that mean no good."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from struct import pack
from typing import Any

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_tools.net import answers
from tests.net.dns import ask, exchange, receive, upstream
from tests.net.machines import THERE, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]
GATEWAY = "10.7.0.1"


@pytest.fixture
def web(machine: Machine) -> list[Space]:
    """Two containers on a network; the second has an alias."""
    machine.net("create", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64", "web")
    spaces = [machine.space("a"), machine.space("b")]
    machine.net("attach", "web", spaces[0].path)
    machine.net("attach", "--name", "Db", "--alias", "www", "web", spaces[1].path)
    return spaces


def hosts_servers(machine: Machine, *servers: str) -> None:
    """The host's resolv.conf, replaced as a DHCP client does."""
    fresh = Path(machine.directory, "resolv.conf")
    fresh.write_text("".join(f"nameserver {each}\n" for each in servers))
    machine.run("mount", "--bind", str(fresh), "/etc/resolv.conf")


def test_names_aliases_and_addresses(machine: Machine, web: list[Space]) -> None:
    a, _ = web
    for tcp in (False, True):
        assert ask(a, GATEWAY, "db", tcp=tcp) == ("NOERROR", ["10.7.0.3"])
        assert ask(a, GATEWAY, "DB.", tcp=tcp) == ("NOERROR", ["10.7.0.3"])
    assert ask(a, GATEWAY, "www") == ("NOERROR", ["10.7.0.3"])
    assert ask(a, GATEWAY, "www.web") == ("NOERROR", ["10.7.0.3"])
    assert ask(a, GATEWAY, "www", "AAAA") == ("NOERROR", ["fd00:7::3"])
    assert ask(a, "fd00:7::1", "www") == ("NOERROR", ["10.7.0.3"])
    assert ask(a, GATEWAY, "www", "MX") == ("NOERROR", [])  # there is the name, not this of it
    assert ask(a, GATEWAY, "3.0.7.10.in-addr.arpa", "PTR")[1] == ["b-" + alias(machine), "db", "www"]
    six = ".".join(reversed("fd000007000000000000000000000003")) + ".ip6.arpa"
    assert "www" in ask(a, GATEWAY, six, "PTR")[1]
    assert ask(a, GATEWAY, "99.0.7.10.in-addr.arpa", "PTR") == ("NXDOMAIN", [])
    assert ask(a, GATEWAY, "host.docker.internal") == ("NOERROR", [GATEWAY])
    assert ask(a, GATEWAY, "host.containers.internal", "AAAA") == ("NOERROR", ["fd00:7::1"])


def test_of_several_each_is_the_first_in_turn(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "web")
    spaces = [machine.space(name) for name in "abc"]
    for space in spaces:
        machine.net("attach", "--alias", "api", "web", space.path)
    query = dnslib.DNSRecord.question("api").pack()
    firsts = [str(dnslib.DNSRecord.parse(exchange(spaces[0], GATEWAY, query)).rr[0].rdata) for _ in range(6)]
    assert sorted(firsts) == sorted(["10.7.0.2", "10.7.0.3", "10.7.0.4"] * 2)
    said = dnslib.DNSRecord.parse(exchange(spaces[0], GATEWAY, dnslib.DNSRecord.question("4.0.7.10.in-addr.arpa", "PTR").pack()))
    assert str(said.rr[0].rdata).startswith("c.") and str(said.rr[-1].rdata) == "api."


def alias(machine: Machine) -> str:
    """What the short id of a namespace at /run/netns/b ends in."""
    return next(line.split()[2].partition("-")[2] for line in machine.net("resolve").splitlines() if "www" in line)


def test_it_is_small(machine: Machine, web: list[Space]) -> None:
    """25 MB, with the library loaded and questions answered of every kind."""
    (pid,) = machine.resolvers()
    for number in range(300):
        ask(web[0], GATEWAY, f"n{number}.web", tcp=bool(number % 2))
        ask(web[0], GATEWAY, "www", "AAAA")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    assert int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) < 25 * 1024


def test_it_follows_and_ends(machine: Machine, web: list[Space]) -> None:
    a, b = web
    (pid,) = machine.resolvers()
    assert ask(a, GATEWAY, "db")[1] == ["10.7.0.3"]
    machine.net("detach", "web", b.path)
    assert ask(a, GATEWAY, "3.0.7.10.in-addr.arpa", "PTR") == ("NXDOMAIN", [])
    machine.net("attach", "--name", "db", "web", b.path)
    assert ask(a, GATEWAY, "db")[1] == ["10.7.0.4"]  # at once
    os.kill(pid, 9)
    machine.until(lambda: not machine.resolvers())
    machine.net("reload")
    assert ask(a, GATEWAY, "db")[1] == ["10.7.0.4"]
    (pid,) = machine.resolvers()
    uids = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid"))
    assert uids.split()[1:] == ["65534"] * 4
    for space in web:
        machine.net("detach", "web", space.path)
    machine.until(lambda: not machine.resolvers())
    machine.net("attach", "--name", "db", "web", b.path)
    assert ask(b, GATEWAY, "db")[1] == ["10.7.0.5"]


def test_names_of_the_other_networks_of_who_asks(machine: Machine, web: list[Space]) -> None:
    a, b = web
    machine.net("create", "--subnet", "10.8.0.0/24", "back")
    c = machine.space("c")
    machine.net("attach", "--name", "queue", "back", c.path)
    hosts_servers(machine)
    assert ask(a, GATEWAY, "queue") == ("SERVFAIL", [])
    machine.net("attach", "back", a.path)
    assert ask(a, GATEWAY, "queue") == ("NOERROR", ["10.8.0.2"])
    assert ask(b, GATEWAY, "queue") == ("SERVFAIL", [])
    machine.net("detach", "back", c.path)
    machine.net("attach", "--name", "queue", "back", c.path)
    assert ask(a, GATEWAY, "queue")[1] not in ([], ["10.8.0.2"])  # as it is now


def test_what_it_does_not_know_it_asks_the_hosts_servers(machine: Machine, outside: Space, web: list[Space]) -> None:
    a, _ = web
    with upstream(outside, THERE, {"example.org": "198.51.100.7"}) as asked:
        hosts_servers(machine, THERE)
        assert ask(a, GATEWAY, "example.org") == ("NOERROR", ["198.51.100.7"])
        assert ask(a, GATEWAY, "example.org", tcp=True) == ("NOERROR", ["198.51.100.7"])
        assert ask(a, GATEWAY, "nosuch.example.org") == ("NXDOMAIN", [])
        assert asked == ["udp example.org", "tcp example.org", "udp nosuch.example.org"]
        with upstream(machine, "127.0.0.9", {"example.org": "198.51.100.8"}):
            hosts_servers(machine, "127.0.0.9")  # they change, and it follows
            assert ask(a, GATEWAY, "example.org") == ("NOERROR", ["198.51.100.8"])
        hosts_servers(machine, "127.0.0.9", THERE)  # the first does not answer any more
        assert ask(a, GATEWAY, "example.org") == ("NOERROR", ["198.51.100.7"])
        machine.net("create", "--subnet", "10.9.0.0/24", "--dns", THERE, "own")
        hosts_servers(machine)
        c = machine.space("c")
        machine.net("attach", "own", c.path)
        assert ask(c, "10.9.0.1", "example.org") == ("NOERROR", ["198.51.100.7"])
        assert ask(a, GATEWAY, "example.org") == ("SERVFAIL", [])


def test_an_internal_network_asks_nobody(machine: Machine, outside: Space) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "--internal", "in")
    a = machine.space("a")
    machine.net("attach", "in", a.path)
    with upstream(outside, THERE, {"example.org": "198.51.100.7"}) as asked:
        hosts_servers(machine, THERE)
        assert ask(a, GATEWAY, "example.org") == ("NXDOMAIN", [])
        assert ask(a, GATEWAY, "a") == ("NOERROR", ["10.7.0.2"])
        assert asked == []


def test_clients_that_mean_no_good(machine: Machine, web: list[Space]) -> None:
    """Who holds connections open, sends half of something, or garbage, harms nobody."""
    a, b = web
    held = [b.socket() for _ in range(40)]
    for number, sock in enumerate(held):
        sock.connect((GATEWAY, 53))
        sock.send((b"", b"\0", b"\0\x20abc", b"\xff\xff")[number % 4])
    assert ask(a, GATEWAY, "db", tcp=True)[1] == ["10.7.0.3"]
    with b.socket(socket.SOCK_DGRAM) as sock:
        sock.connect((GATEWAY, 53))
        for garbage in (b"", b"x", bytes(12), b"\xff" * 600, bytes(5) + b"\1" + bytes(600), b"\0\0\1\0\0\1" + bytes(6) + b"\xc0\x0c" * 9):
            sock.send(garbage)
    assert ask(a, GATEWAY, "db")[1] == ["10.7.0.3"]
    for sock in held:
        sock.close()
    with b.socket() as sock:  # many questions in one connection, answered in order
        sock.connect((GATEWAY, 53))
        query = b"\0\7\1\0\0\1\0\0\0\0\0\0\3www\0\0\1\0\1"
        sock.sendall((pack("!H", len(query)) + query) * 50)
        assert all(receive(sock)[:2] == b"\0\7" for _ in range(50))


def test_answers_that_are_too_long(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/16", "big")
    spaces = [machine.space(f"s{number}") for number in range(40)]
    for space in spaces:
        machine.net("attach", "--alias", "all", "big", space.path)
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0\3all\0\0\1\0\1"
    short = exchange(spaces[0], "10.7.0.1", query)
    assert short[2] & 2 and len(short) < 512  # truncated: ask over TCP
    assert len(ask(spaces[0], "10.7.0.1", "all", tcp=True)[1]) == 40


def test_no_resolver(machine: Machine) -> None:
    machine.net("create", "--disable-dns", "quiet")
    machine.net("attach", "quiet", machine.space("a").path)
    assert machine.resolvers() == []


def test_somebody_elses_resolver_on_the_port(machine: Machine) -> None:
    with machine.socket(socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 53))
        said = machine.fails("attach", "bridge", machine.space("a").path)
    assert said.startswith("cannot start the resolver of network 'bridge': address already in use (")
    assert machine.net("ls", "--fields", "containers") == "0" and "veth" not in machine.ip("link")


class Nobody(answers.Names):
    """Names without a file."""

    def __init__(self) -> None:
        self._name, self._pools, self._internal, self._top = "web", [], True, -1
        self._answers, self._names, self._owners = {}, {"a": ["10.7.0.2"]}, {"10.7.0.2": "x"}
        self._elsewhere = False


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: b"\0\7\1\0\0\1\0\0\0\0\0\0" + b))
@settings(max_examples=300, deadline=None)
def test_any_bytes_have_an_answer_or_none(query: bytes) -> None:
    made: Any = Nobody().answer(query, "10.7.0.2", False)
    assert made == b"" or (made[:2] == query[:2] and made[2] & 0x80)
