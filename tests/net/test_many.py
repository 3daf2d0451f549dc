"""Many at once, and commands that are killed: nothing is left over, and the next command repairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import long
from tests.net.machines import HERE, HOLDER, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter", "strace")]


def state(machine: Machine) -> Path:
    return Path(machine.oci.env["OCI_RUN"], "net")


def nothing_left(machine: Machine) -> None:
    left = [path for path in state(machine).glob("**/*") if path.is_symlink() or path.is_file()]
    assert {path.name for path in left} <= {"lock", "last4", "last6", "hosts", "resolver", "guard4", "guard6", *HOLDER}, left
    assert all(path.read_text() == "" for path in left if path.name == "hosts")
    machine.until(lambda: not machine.holders())
    assert "veth" not in machine.ip("link")
    rules = machine.rules()
    assert "tcp . " not in rules and "udp . " not in rules


def test_two_hundred_on_one_network_in_parallel(machine: Machine, outside: Space) -> None:
    """All attach at once, speak by name, and leave at once."""
    count = long.rounds(40, 200)
    script = f"for i in $(seq {count}); do ip netns add n$i; done"
    machine.run("sh", "-c", script)
    net = f"{machine.oci.bin}/oci-net"
    attach = f"seq {count} | xargs -P 8 -I{{}} {net} attach -p 127.0.0.1::80 --name n{{}} bridge /run/netns/n{{}}"
    lines = machine.run("sh", "-c", attach).stdout.splitlines()
    assert len({*lines}) == count
    shown = json.loads(machine.net("inspect", "--json", "bridge"))["containers"]
    assert len(shown) == count
    assert len({port["hostPort"] for one in shown.values() for port in one["ports"]}) == count
    assert machine.net("resolve", f"n{count}") in {line.split("\t")[1].partition("/")[0] for line in lines}
    assert len(machine.resolvers()) == 1
    machine.run("sh", "-c", f"seq {count} | xargs -P 8 -I{{}} {net} detach bridge /run/netns/n{{}}")
    nothing_left(machine)


def test_containers_that_are_gone_are_collected(machine: Machine) -> None:
    """Leases, names and ports of a namespace that nobody has detached."""
    machine.net("create", "--subnet", "10.7.0.0/29", "small")
    for number in range(5):
        machine.run("ip", "netns", "add", f"n{number}")
        machine.net("attach", "-p", f"{8000 + number}:80", "small", f"/run/netns/n{number}")
    b = machine.space("b")
    said = machine.fails("attach", "small", b.path)
    assert said == "no address is left in network 'small': all of 10.7.0.0/29 are taken"
    for number in range(5):
        machine.run("ip", "netns", "del", f"n{number}")
    assert machine.net("ls", "--fields", "name,containers").splitlines()[1] == "small\t0"
    assert machine.net("attach", "-p", "8003:80", "small", b.path).startswith("eth0\t10.7.0.")
    machine.net("detach", "small", b.path)
    assert machine.net("prune") == "small"
    nothing_left(machine)


def test_static_addresses(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "web")
    a, b = machine.space("a"), machine.space("b")
    machine.net("attach", "--ip", "10.7.0.9", "web", a.path)
    assert machine.fails("attach", "--ip", "10.7.0.9", "web", b.path).startswith("address is in use '10.7.0.9': container")
    assert machine.fails("attach", "--ip", "10.7.0.1", "web", b.path) == (
        "address is in use '10.7.0.1': the gateway of network web has it"
    )
    assert machine.fails("attach", "--ip", "10.7.0.255", "web", b.path) == (
        "cannot use address '10.7.0.255': no host of 10.7.0.0/24 can have it"
    )
    assert machine.fails("attach", "--ip", "10.9.0.9", "web", b.path) == (
        "address is in no subnet of the network '10.9.0.9': web"
    )
    assert "container is attached to the network already" in machine.fails("attach", "web", a.path)
    assert "container is not attached to the network" in machine.fails("detach", "web", b.path)
    machine.net("detach", "-f", "web", b.path)


def test_no_room_for_a_lease(machine: Machine) -> None:
    """A full file system where the leases are."""
    run = machine.oci.env["OCI_RUN"]
    machine.net("ls")
    machine.run("mount", "-t", "tmpfs", "-o", "nr_inodes=10", "none", run)
    said = machine.fails("attach", "bridge", machine.space("a").path)
    assert "no space left on device" in said
    machine.run("umount", run)
    machine.net("attach", "bridge", machine.spaces[0].path)


ATTACH = ["attach", "-p", "8080:80", "--name", "x", "bridge", "/run/netns/a"]
DETACH = ["detach", "bridge", "/run/netns/a"]
# What changes something: a kill before each of these calls.
CALLS = "symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,write,pwrite64,mkdir,mkdirat,bind,fork,clone,clone3,vfork"


def calls_of(machine: Machine, words: list[str]) -> int:
    """How many of them a command makes."""
    log = machine.directory / "strace"
    machine.run("strace", "-qq", "-e", f"trace={CALLS}", "-o", str(log), f"{machine.oci.bin}/oci-net", *words)
    return len([line for line in log.read_text().splitlines() if "(" in line])


@pytest.mark.parametrize("killed", ["attach", "detach"])
def test_killed_at_every_step(machine: Machine, outside: Space, killed: str) -> None:
    """The next command finds everything as if the killed one had never begun, or had come to its end."""
    a, b = machine.space("a"), machine.space("b")
    machine.net("attach", "bridge", b.path)  # bridge, table and resolver are there: the usual case
    machine.net(*ATTACH)
    machine.net(*DETACH)
    words = ATTACH if killed == "attach" else DETACH
    if killed == "detach":
        machine.net(*ATTACH)
    count = calls_of(machine, words)
    machine.net("detach", "-f", "bridge", a.path)
    assert count > 8
    steps = range(1, count + 1, long.rounds(max(1, count // 12), 1))
    for step in steps:
        if killed == "detach":
            machine.net(*ATTACH)
        kill(machine, words, step)
        if killed == "detach":
            machine.net("detach", "-f", "bridge", a.path)
        machine.net(*(ATTACH if not attached(machine) else ["ls"]))
        with a.listen(80) as listener:
            assert outside.talks(listener, HERE, 8080), step
            assert b.talks(listener, machine.net("resolve", "x"), 80)
        machine.net(*DETACH)
        assert "eth0" not in a.ip("link"), step
        assert len([line for line in machine.net("resolve").splitlines() if line]) == 1
        assert machine.rules().count("tcp . ") == 0
        assert machine.ip("link").count("veth") == 1
    machine.net("detach", "bridge", b.path)
    nothing_left(machine)


def test_a_start_that_is_killed_at_every_step(machine: Machine, busybox: Path) -> None:
    """The next start has the same port, and when it has ended there is nothing of either."""
    machine.oci.preload("docker.io/library/busybox:latest", busybox)
    machine.oci.env.pop("OCI_NETWORK")
    words = ["-p", "8080:80", "--name", "xx", "busybox", "true"]
    machine.command("run", *words)
    program, log = f"{machine.oci.bin}/oci-run", machine.directory / "strace"
    calls = f"{CALLS},mount,move_mount,umount2,unshare,setns"
    machine.run("strace", "-qq", "-e", f"trace={calls}", "-o", str(log), program, *words)
    count = len([line for line in log.read_text().splitlines() if "(" in line])
    assert count > 40
    for step in range(1, count + 1, long.rounds(max(1, count // 10), 1)):
        kill(machine, words, step, program, calls)
        machine.until(lambda: machine.command("run", *words, code=None).returncode == 0)
        machine.until(lambda: not list(state(machine).parent.glob("netns/*")))
    machine.until(lambda: "veth" not in machine.ip("link"))
    nothing_left(machine)


def attached(machine: Machine) -> bool:
    shown: dict[str, Any] = json.loads(machine.net("inspect", "--json", "bridge"))["containers"]
    return any(one["name"] == "x" for one in shown.values())


def kill(machine: Machine, words: list[str], step: int, program: str = "", calls: str = CALLS) -> None:
    """Run a command that gets SIGKILL when it makes its `step`th call."""
    inject = f"inject={calls}:signal=KILL:when={step}"
    argv = [*machine.enter, "strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject,
            program or f"{machine.oci.bin}/oci-net", *words]  # fmt: skip
    done = subprocess.run(argv, env=machine.oci.environment(), capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL, 0), done.stderr


def test_commands_wait_for_each_other(machine: Machine) -> None:
    machine.net("attach", "bridge", machine.space("a").path)
    fd = os.open(state(machine) / "lock", os.O_RDWR)
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX)
    said = machine.fails("attach", "--lock-timeout", "0", "bridge", machine.space("b").path, code=75)
    assert said.startswith("cannot lock")
    os.close(fd)
