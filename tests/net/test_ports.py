"""Published ports, with traffic from another host, the host itself, and containers; and what may not pass."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from typing import Any

import pytest

from oci_tools.errors import Usage
from oci_tools.net import ports
from tests.net.machines import BRIEF, HERE, HERE6, PATIENCE, THERE, THERE6, Machine, Space, echo, family

NEEDED = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]


def real(function: Any) -> Any:
    """A test that needs a machine."""
    for mark in NEEDED:
        function = mark(function)
    return function


def attached(machine: Machine, name: str, network: str, *words: str) -> Space:
    space = machine.space(name)
    machine.net("attach", *words, network, space.path)
    return space


@real
def test_from_everywhere(machine: Machine, outside: Space) -> None:
    """From outside, from the host by each of its addresses, from containers of this and other networks."""
    machine.net("create", "--subnet", "10.7.0.0/24", "--ipv6", "web")
    machine.net("create", "other")
    a = attached(machine, "a", "web", "-p", "8080:80")
    b, c = attached(machine, "b", "web"), attached(machine, "c", "other")
    with a.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE  # the source address is kept
        assert machine.talks(listener, HERE, 8080)
        assert machine.talks(listener, "127.0.0.1", 8080) == "10.7.0.1"
        assert machine.talks(listener, "10.7.0.1", 8080)
        assert b.talks(listener, HERE, 8080) == "10.7.0.1"
        assert b.talks(listener, "10.7.0.1", 8080)
        assert c.talks(listener, HERE, 8080)
        assert a.talks(listener, HERE, 8080)  # itself, by way of the host
    with a.listen(80, "::") as listener:
        assert outside.talks(listener, HERE6, 8080) == THERE6
        assert machine.talks(listener, HERE6, 8080)
        assert b.talks(listener, HERE6, 8080)


@real
def test_not_where_it_was_not_published(machine: Machine, outside: Space) -> None:
    a = attached(machine, "a", "bridge", "-p", "127.0.0.1:8080:80", "-p", f"{HERE}:8081:80")
    outside.ip("route", "add", "10.88.0.0/16", "via", HERE)
    b = attached(machine, "b", "bridge")
    with a.listen(80) as listener, a.listen(81):
        assert machine.talks(listener, "127.0.0.1", 8080)
        assert not outside.reaches(HERE, 8080) and not b.reaches("10.88.0.1", 8080)
        assert not machine.reaches(HERE, 8080)
        assert outside.talks(listener, HERE, 8081) == THERE
        assert not machine.reaches("127.0.0.1", 8081)
        assert not outside.reaches("10.88.0.2", 80)  # directly, whether it is published or not
        assert not outside.reaches("10.88.0.2", 81)
        assert machine.talks(listener, "10.88.0.2", 80)  # the host may


@real
def test_one_kind_of_address(machine: Machine, outside: Space) -> None:
    """0.0.0.0 is IPv4 and nothing else, :: is IPv6; on the same port they do not meet."""
    machine.net("create", "--ipv6", "web")
    a = attached(machine, "a", "web", "-p", "0.0.0.0:8080:80", "-p", "[::]:8081:80")
    with a.listen(80) as four, a.listen(81, "::"):
        assert outside.talks(four, HERE, 8080) == THERE and machine.talks(four, "127.0.0.1", 8080)
        assert not outside.reaches(HERE6, 8080) and not outside.reaches(HERE, 8081)
    with a.listen(80, "::") as six:
        assert outside.talks(six, HERE6, 8081) == THERE6
    attached(machine, "b", "web", "-p", "[::]:8080:80")
    said = machine.fails("attach", "-p", f"{HERE}:8080:80", "web", machine.space("c").path)
    assert said.startswith(f"port is in use '{HERE}:8080/tcp'")


@real
def test_udp(machine: Machine, outside: Space) -> None:
    a = attached(machine, "a", "bridge", "-p", "5353:53/udp")
    with a.socket(socket.SOCK_DGRAM) as server, outside.socket(socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 53))
        thread = echo(server)
        client.sendto(b"x", (HERE, 5353))
        assert client.recvfrom(16) == (b"x", (HERE, 5353))
        thread.join()
        # The same client goes on speaking, and is heard by whoever has the port now.
        machine.net("publish", "rm", a.name + "-" + container(machine, "a"), "5353:53/udp")
        b = attached(machine, "b", "bridge", "-p", "5353:53/udp")
        with b.socket(socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 53))
            thread = echo(other)
            client.sendto(b"y", (HERE, 5353))
            assert client.recvfrom(16) == (b"y", (HERE, 5353))
            thread.join()


@real
def test_sctp(machine: Machine, outside: Space) -> None:
    a = attached(machine, "a", "bridge", "-p", "9000:90/sctp")
    assert "sctp . 9000 : 10.88.0.2 . 90" in machine.rules()
    try:
        with a.inside():
            server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        with outside.inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        pytest.skip("needs a kernel with sctp: tests/vm/run has one")
    with server, client:
        server.bind(("0.0.0.0", 90))
        server.listen(1)
        client.settimeout(PATIENCE)
        client.connect((HERE, 9000))
        there, peer = server.accept()
        there.sendall(b"hello")
        assert client.recv(16) == b"hello" and peer[0] == THERE
        there.close()
        for place, host in ((outside, HERE6), (machine, "::1")):
            messages(server, place, host)


def messages(server: socket.socket, place: Space, host: str) -> None:
    """SCTP over IPv6 to a container that has none, carried: each message is one, on its stream, with its number."""
    with place.inside():
        client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    server.settimeout(PATIENCE)
    with client:
        client.settimeout(PATIENCE)
        client.connect((host, 9000))
        there, _ = server.accept()
        with there:
            there.settimeout(PATIENCE)
            there.setsockopt(socket.IPPROTO_SCTP, 32, 1)  # SCTP_RECVRCVINFO
            sent = [b"one", b"two" * 20_000, b"three"]
            for at, data in enumerate(sent):
                client.sendmsg([data], [(socket.IPPROTO_SCTP, 2, struct.pack("HH4sIi", at, 0, bytes([0, 0, 7, at]), 0, 0))])
            for at, data in enumerate(sent):
                came, info = b"", b""
                while len(came) < len(data):
                    piece, ancillary, flags, _ = there.recvmsg(1 << 17, 256)
                    came += piece
                    info = ancillary[0][2]
                assert came == data and flags & socket.MSG_EOR
                assert struct.unpack_from("H", info)[0] == at and info[8:12] == bytes([0, 0, 7, at])
            there.sendall(b"answer")
            assert client.recv(16) == b"answer"
        assert client.recv(16) == b""


def container(machine: Machine, name: str, network: str = "bridge") -> str:
    """What the id of an attached namespace ends in."""
    shown = json.loads(machine.net("inspect", "--json", network))["containers"]
    return str(next(each.partition("-")[2] for each, one in shown.items() if one["name"] == name))


def binds(machine: Machine, port: int, host: str, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether a server of the host could have a port."""
    with machine.inside(), socket.socket(family(host), kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
        if family(host) == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((host, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1)
        except OSError:
            return False
        return True


@real
def test_a_published_port_is_held(machine: Machine, outside: Space) -> None:
    """No program of the host can take it, before it is given back; a killed holder is put back."""
    attached(machine, "a", "bridge", "-p", "8080:80", "-p", "127.0.0.1:8081:81", "-p", "5353:53/udp")
    every = ["0.0.0.0", "127.0.0.1", HERE, "::", "::1", HERE6]

    def free(port: int, kind: int = socket.SOCK_STREAM) -> list[str]:
        return [host for host in every if binds(machine, port, host, kind)]

    assert free(8080) == [] and free(5353, socket.SOCK_DGRAM) == []
    assert free(8081) == [HERE, "::", "::1", HERE6]
    (holder,) = machine.holders()
    os.kill(holder, 9)
    machine.until(lambda: not machine.holders())
    assert free(8080) == every
    machine.net("reload")
    assert free(8080) == [] and machine.holders() != [holder]
    machine.net("reload")
    name = "a-" + container(machine, "a")
    machine.net("publish", "rm", name, "8080:80")
    assert free(8080) == every and free(8081) != every
    machine.net("publish", "add", name, "8080:80")
    assert free(8080) == []
    os.kill(machine.holders()[0], 9)
    machine.until(lambda: not machine.holders())
    machine.net("detach", "bridge", machine.spaces[-1].path)
    assert free(8080) == every and machine.holders() == []


@real
def test_the_hosts_own_address_of_ipv6(machine: Machine, outside: Space) -> None:
    """[::1] is carried, since no kernel translates it: whatever comes, however slowly, and both ends' ends."""
    a = attached(machine, "a", "bridge", "-p", "8080:80")
    data = os.urandom(3_000_000)
    before = open_files(machine.holders()[0])
    with a.listen(80) as listener:
        assert machine.talks(listener, "::1", 8080) == "10.88.0.1"
        with machine.socket(family=socket.AF_INET6) as client:
            client.connect(("::1", 8080))
            there, _ = listener.accept()
            there.settimeout(PATIENCE)
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert b"".join(iter(lambda: there.recv(1 << 16), b"")) == data
            sender.join()
            there.sendall(b"end")  # one side has said all, the other has not
            there.close()
            assert client.recv(16) == b"end" and client.recv(16) == b""
        machine.until(lambda: open_files(machine.holders()[0]) == before)
    with machine.socket(family=socket.AF_INET6) as client:
        client.connect(("::1", 8080))
        assert client.recv(16) == b""  # nobody listens in the container
    machine.net("create", "--ipv6", "web")
    six = attached(machine, "b", "web", "-p", "[::1]:9090:80")
    with six.listen(80, "::") as listener:
        assert ":" in machine.talks(listener, "::1", 9090)
        assert not outside.reaches(HERE6, 9090)


@real
def test_ipv6_to_a_container_that_has_none(machine: Machine, outside: Space) -> None:
    """Carried, for clients in other places as well; not from where the administrator, or a network, lets nobody in."""
    machine.net("create", "--internal", "--ipv6", "closed")
    shut = attached(machine, "c", "closed")
    a = attached(machine, "a", "bridge", "-p", "8080:80", "-p", f"[{HERE6}]:8081:81", "-p", "0.0.0.0:8082:80")
    with a.listen(80) as listener, a.listen(81) as other:
        for place in (machine, outside):
            assert place.talks(listener, HERE6, 8080) == "10.88.0.1"
            assert place.talks(other, HERE6, 8081) == "10.88.0.1"
            assert not place.reaches(HERE6, 8082) and not place.reaches(HERE6, 8083)
        assert not machine.reaches("::1", 8081)
        assert not shut.reaches(gateway(machine, "closed"), 8080)
        table = next(line.split()[2] for line in machine.rules().splitlines() if line.startswith("table inet oci_"))
        machine.run("nft", "add", "element", "inet", table, "blocked6", f"{{ {THERE6} }}")
        assert not outside.reaches(HERE6, 8080) and not outside.reaches(HERE6, 8081)
        machine.run("nft", "flush", "set", "inet", table, "blocked6")
        with outside.socket(family=socket.AF_INET6) as client:
            client.connect((HERE6, 8080))
            there, _ = listener.accept()
            there.close()  # so that it is the host's end that lingers
            assert client.recv(16) == b""
        os.kill(machine.holders()[0], 9)
        machine.until(lambda: not machine.holders())
        machine.net("reload")
        assert outside.talks(listener, HERE6, 8080) == "10.88.0.1"


def gateway(machine: Machine, network: str) -> str:
    shown = json.loads(machine.net("inspect", "--json", network))
    return str(next(each["gateway"] for each in shown["subnets"] if ":" in each["gateway"]))


@real
def test_udp_that_is_carried(machine: Machine, outside: Space) -> None:
    """To [::1], and of IPv6 to a container without it: the answer comes from the address that was asked, each client's
    to him, and a port's with the port."""
    second = "2001:db8::9"
    machine.ip("addr", "add", f"{second}/64", "dev", "eth0", "nodad")
    machine.net("create", "--ipv6", "web")
    a = attached(machine, "a", "bridge", "-p", "5353:53/udp")
    b = attached(machine, "b", "web", "-p", "5354:53/udp")
    before = open_files(machine.holders()[0])

    def ask(place: Space, host: str, port: int) -> str:
        with place.socket(socket.SOCK_DGRAM, socket.AF_INET6) as client:
            for word in (b"one", b"two" * 400):
                client.sendto(word, (host, port))
                data, peer = client.recvfrom(2048)
                assert data == word and peer[:2] == (host, port)
        return host

    with a.socket(socket.SOCK_DGRAM) as server, b.socket(socket.SOCK_DGRAM, socket.AF_INET6) as six:
        server.bind(("0.0.0.0", 53))
        six.bind(("::", 53))
        threads = [echo(server, 10), echo(six, 6)]
        for place, host in ((machine, "::1"), (machine, HERE6), (outside, HERE6), (outside, second)):
            ask(place, host, 5353)
        for place, host in ((machine, "::1"), (machine, HERE6), (outside, second)):
            ask(place, host, 5354)
        with outside.socket(socket.SOCK_DGRAM, socket.AF_INET6) as one, outside.socket(socket.SOCK_DGRAM, socket.AF_INET6) as two:
            for client, word in ((one, b"1"), (two, b"2")):
                client.sendto(word, (HERE6, 5353))
            assert (one.recv(16), two.recv(16)) == (b"1", b"2")
        for thread in threads:
            thread.join()
    assert open_files(machine.holders()[0]) == before + 7  # the clients; the kernel has translated [second] of web
    machine.net("publish", "rm", "a-" + container(machine, "a"), "5353:53/udp")
    assert open_files(machine.holders()[0]) < before + 2
    with outside.socket(socket.SOCK_DGRAM, socket.AF_INET6) as client:
        client.settimeout(BRIEF)
        client.sendto(b"x", (HERE6, 5353))
        with pytest.raises(OSError):
            client.recv(16)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@real
def test_ranges_and_random_ports(machine: Machine, outside: Space) -> None:
    a = machine.space("a")
    words = ("-p", "8000-8003:80-83", "-p", "90", "-p", "127.0.0.1::91", "-p", "9000-9010:92")
    made = json.loads(machine.net("attach", "--json", *words, "bridge", a.path))
    found = {each["containerPort"]: each["hostPort"] for each in made["ports"]}
    assert [found[port] for port in (80, 81, 82, 83)] == [8000, 8001, 8002, 8003]
    assert found[92] == 9000 and found[90] > 1024 and found[91] > 1024
    listed = [line.split("\t")[1:] for line in machine.net("publish", "ls").splitlines()]
    assert ["0.0.0.0:8000", "80/tcp"] in listed and [f"127.0.0.1:{found[91]}", "91/tcp"] in listed
    assert len(listed) == len(made["ports"])
    with a.listen(90) as listener, a.listen(83) as last:
        assert outside.talks(listener, HERE, found[90])
        assert outside.talks(last, HERE, 8003)
        with machine.listen(9005):
            b = machine.space("b")
            made = json.loads(machine.net("attach", "--json", "-p", "9000-9010:92", "bridge", b.path))
            assert made["ports"][0]["hostPort"] == 9001


@real
def test_in_use(machine: Machine) -> None:
    attached(machine, "a", "bridge", "-p", "8080:80", "-p", "127.0.0.1:8081:80")
    b = machine.space("b")

    def refused(port: str) -> str:
        said = machine.fails("attach", "-p", "70:70", "-p", port, "bridge", b.path)
        assert "tcp . 70 :" not in machine.rules()  # all or nothing
        return said

    assert refused("8080:80").startswith("port is in use '0.0.0.0:8080/tcp': container a-")
    assert "port is in use '127.0.0.1:8080/tcp'" in refused("127.0.0.1:8080:80")
    assert "port is in use '0.0.0.0:8081/tcp'" in refused("8081:80")
    with machine.listen(8082):
        assert refused("8082:80") == "port is in use '0.0.0.0:8082/tcp': a process of the host listens there (another port, or just the container's: any that is free)"
    assert refused("192.0.2.77:8083:80") == "cannot publish on address '192.0.2.77': the host does not have it"
    machine.net("attach", "-p", "8080:80/udp", "-p", "127.0.0.2:8081:80", "bridge", b.path)


@real
def test_a_network_whose_name_has_spaces(machine: Machine, outside: Space) -> None:
    """Its ports are held as those of others, and what was killed on it is cleared."""
    machine.net("create", "my own net")
    a, b = machine.space("a"), machine.space("b")
    machine.net("attach", "-p", "8080:80", "my own net", a.path)
    assert machine.fails("attach", "-p", "8080:80", "my own net", b.path).startswith("port is in use '0.0.0.0:8080")
    with a.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE
    name = f"a-{container(machine, 'a', 'my own net')}"
    os.symlink(f"my own net {name}", f"{machine.oci.env['OCI_RUN']}/net/doing")  # as a killed command leaves it
    machine.net("attach", "-p", "8080:80", "my own net", b.path)
    assert "eth0" not in a.ip("link") and not os.path.lexists(f"{machine.oci.env['OCI_RUN']}/net/doing")
    with b.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE
    machine.net("rm", "--force", "my own net")


def test_publish_and_withdraw_while_it_runs(machine: Machine, outside: Space) -> None:
    a = attached(machine, "a", "bridge")
    name = f"a-{container(machine, 'a')}"
    with a.listen(80) as listener:
        assert not outside.reaches(HERE, 8080)
        assert machine.net("publish", "add", name, "8080:80") == "0.0.0.0:8080:80/tcp"
        assert outside.talks(listener, HERE, 8080) == THERE
        assert "port is in use" in machine.fails("publish", "add", name, "8080:80")
        machine.net("publish", "rm", name, "8080:80")
        assert not outside.reaches(HERE, 8080)
        assert machine.fails("publish", "rm", name, "8080:80") == "port is not published '0.0.0.0:8080:80/tcp'"
    machine.net("detach", "bridge", a.path)
    assert "no such container" in machine.fails("publish", "add", name, "8080:80")


@real
def test_the_rules_of_others_are_unchanged(machine: Machine, outside: Space) -> None:
    theirs = [
        "table inet firewalld", "chain inet firewalld f { type filter hook forward priority 10; policy accept; }",
        "rule inet firewalld f tcp dport 9 drop", "table ip filter",
        "chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }", "table ip nat",
        "chain ip nat PREROUTING { type nat hook prerouting priority -100; policy accept; }",
    ]  # fmt: skip
    machine.run("nft", "-f", "-", input="".join(f"add {each}\n" for each in theirs))
    before = machine.rules()
    a = attached(machine, "a", "bridge", "-p", "8080:80")
    machine.net("create", "--ipv6", "web")
    b = attached(machine, "b", "web", "-p", "8081:80")
    machine.net("reload")
    with a.listen(80):
        assert not outside.reaches(HERE, 8080)  # what others drop stays dropped
    machine.net("detach", "bridge", a.path)
    machine.net("detach", "web", b.path)
    machine.net("rm", "web", "bridge")
    assert machine.rules() == before
    assert "br-" not in machine.ip("link")


@real
def test_the_administrators_chain_and_sets(machine: Machine, outside: Space) -> None:
    admin = f"add rule inet $table admin ct status dnat ip saddr {THERE} tcp dport 81 drop\n"
    machine.net("ls")
    path = f"{machine.oci.env['OCI_ROOT']}/networks/admin.nft"
    with open(path, "w") as file:
        file.write(admin)
    a = attached(machine, "a", "bridge", "-p", "8080:80", "-p", "8081:81")
    table = next(line.split()[2] for line in machine.rules().splitlines() if line.startswith("table inet oci_"))
    with a.listen(80) as listener, a.listen(81):
        assert outside.talks(listener, HERE, 8080) == THERE
        assert not outside.reaches(HERE, 8081)
        machine.run("nft", "add", "element", "inet", table, "blocked4", f"{{ {THERE}/32 }}")
        assert not outside.reaches(HERE, 8080)
        machine.net("reload")  # what is the administrator's stays
        assert not outside.reaches(HERE, 8080)
        machine.run("nft", "flush", "set", "inet", table, "blocked4")
        assert outside.talks(listener, HERE, 8080) == THERE
        machine.run("nft", "flush", "ruleset")
        assert not outside.reaches(HERE, 8080)
        machine.net("reload")
        assert outside.talks(listener, HERE, 8080) == THERE
        assert not outside.reaches(HERE, 8081)  # read again, since the table is new
        machine.run("nft", "flush", "ruleset")
        machine.net("create", "web")
        attached(machine, "b", "web")  # with the next container's rules those of all come
        assert outside.talks(listener, HERE, 8080) == THERE


@real
def test_the_host_does_not_become_a_router(machine: Machine, outside: Space) -> None:
    """Forwarding was off: a third host gets nowhere through this one, containers do."""
    with machine.inside(), open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("0")
    far = machine.space("far")
    machine.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", "far")
    machine.ip("addr", "add", "198.51.100.1/24", "dev", "eth1")
    machine.ip("link", "set", "eth1", "up")
    far.ip("addr", "add", "198.51.100.2/24", "dev", "eth0")
    far.ip("link", "set", "eth0", "up")
    far.ip("route", "add", "default", "via", "198.51.100.1")
    outside.ip("route", "add", "198.51.100.0/24", "via", HERE)
    a = attached(machine, "a", "bridge", "-p", "8080:80")
    with far.listen(80) as listener, a.listen(80) as inner:
        assert not outside.reaches("198.51.100.2", 80)
        assert a.talks(listener, "198.51.100.2", 80) == "198.51.100.1"
        assert outside.talks(inner, HERE, 8080) == THERE
        # Where it forwarded before, it goes on to.
        run = machine.oci.env["OCI_RUN"]
        machine.run("rm", f"{run}/net/guard4")
        machine.net("reload")
        assert outside.talks(listener, "198.51.100.2", 80) == THERE


@real
def test_forwarding_that_was_on_stays_as_it_was(machine: Machine, outside: Space) -> None:
    with machine.inside():
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write("1")
    attached(machine, "a", "bridge")
    assert "meta nfproto ipv4 drop" not in machine.rules() and "meta nfproto ipv6 drop" not in machine.rules()


@real
def test_what_the_host_learns_of_routers_goes_on(machine: Machine, outside: Space) -> None:
    """With forwarding the kernel would take no more router advertisements."""
    with machine.inside():
        for name, value in (("all/forwarding", "0"), ("eth0/accept_ra", "1")):
            with open(f"/proc/sys/net/ipv6/conf/{name}", "w") as file:
                file.write(value)
    machine.net("create", "--ipv6", "six")
    attached(machine, "a", "six")
    with machine.inside(), open("/proc/sys/net/ipv6/conf/eth0/accept_ra") as file:
        assert file.read() == "2\n"


@real
def test_without_nft(machine: Machine) -> None:
    machine.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    said = machine.fails("attach", "bridge", machine.space("a").path)
    assert said == 'cannot change the firewall: exec: "nft": executable file not found in $PATH (apt install nftables)'
    assert machine.net("ls", "--fields", "containers") == "0" and "veth" not in machine.ip("link")


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("80", [("", 0, 80, "tcp")]),
        ("8080:80", [("", 8080, 80, "tcp")]),
        ("8080:80/udp", [("", 8080, 80, "udp")]),
        ("0.0.0.0:8080:80", [("0.0.0.0", 8080, 80, "tcp")]),
        ("127.0.0.1:8080:80/SCTP", [("127.0.0.1", 8080, 80, "sctp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 80, "tcp")]),
        ("[::1]:8080:80", [("::1", 8080, 80, "tcp")]),
        ("[::]:8080:80", [("::", 8080, 80, "tcp")]),
        ("8000-8001:80-81", [("", 8000, 80, "tcp"), ("", 8001, 81, "tcp")]),
        ("80-81", [("", 0, 80, "tcp"), ("", 0, 81, "tcp")]),
    ],
)
def test_words(word: str, made: list[tuple[str, int, int, str]]) -> None:
    names = ("hostIP", "hostPort", "containerPort", "protocol")
    assert [tuple(one[name] for name in names) for one in ports.parse(word)] == made


@pytest.mark.parametrize(
    "word",
    ["", "x", "0", "65536", "80/icmp", "1:2:3:4", "81-80", "1-3:1-2", "host:80:80", "80:", "-1", "1-", "[::1:80"],
)
def test_words_that_are_no_ports(word: str) -> None:
    with pytest.raises(Usage):
        ports.parse(word)
