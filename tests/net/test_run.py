"""oci-run on networks: real containers, their names, ports and files, and what is left of them: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.net.dns import upstream
from tests.net.machines import HERE, HOLDER, THERE, Machine, Space, greet

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]


@pytest.fixture
def machine(machine: Machine, busybox: Path) -> Any:
    """With an image, and the network that people have who say nothing."""
    machine.oci.preload("docker.io/library/busybox:latest", busybox)
    machine.oci.env.pop("OCI_NETWORK")
    return machine


def run(machine: Machine, *words: str, **options: Any) -> str:
    return str(machine.command("run", *words, **options).stdout)


def nothing_left(machine: Machine) -> None:
    """No lease, name, port, namespace, rule of a container, or link."""
    state = Path(machine.oci.env["OCI_RUN"])
    left = [path for path in state.glob("net/**/*") if not path.is_dir()]
    assert {path.name for path in left} <= {"lock", "last4", "last6", "hosts", "resolver", "guard4", "guard6", *HOLDER}
    assert all(path.read_text() == "" for path in left if path.name == "hosts")
    machine.until(lambda: not machine.holders())
    assert not list(state.glob("netns/*"))
    assert ". 80" not in machine.rules()
    machine.until(lambda: "veth" not in machine.ip("link"))  # the kernel ends a namespace when it has time


def test_a_graph_shows_who_is_where(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.77.0.0/24", "web")
    run(machine, "-d", "--network", "web", "-p", "8080:80", "--name", "app", "busybox", "sleep", "1000")
    lines = str(machine.net("graph", "web")).splitlines()
    assert lines == ["web  bridge  10.77.0.0/24 by 10.77.0.1", "└─ app  10.77.0.2  0.0.0.0:8080 to 80/tcp"]
    assert str(machine.net("graph")).count("bridge") >= 2
    dot = str(machine.net("graph", "--dot"))
    assert dot.startswith("graph networks {\n") and '[label="app"]' in dot and '[label="10.77.0.2"]' in dot
    assert machine.fails("graph", "nope", code=1)
    run(machine, "rm", "-f", "app")


def test_the_default_is_the_bridge(machine: Machine, outside: Space) -> None:
    peers = greet(outside.listen(80))
    said = run(machine, "busybox", "sh", "-c", f"ip -o -4 addr show eth0; cat /etc/resolv.conf; nc -w 2 {THERE} 80 </dev/null")
    assert "10.88.0.2/16" in said and "nameserver 10.88.0.1" in said
    assert peers == [HERE]
    assert run(machine, "--network", "none", "busybox", "ls", "/sys/class/net") == "lo\n"
    nothing_left(machine)


def test_two_containers_by_name(machine: Machine) -> None:
    machine.net("create", "web")
    run(machine, "-d", "--network", "web:alias=www", "--network-alias", "also", "--name", "db", "busybox",
        "httpd", "-f", "-p", "80", "-h", "/etc")  # fmt: skip
    machine.until(lambda: machine.reaches("10.89.0.2", 80))
    for name in ("db", "www", "also", "db.web", "DB"):
        assert run(machine, "--network", "web", "busybox", "wget", "-qO-", f"http://{name}/hostname")
    container = run(machine, "--network", "web", "busybox", "wget", "-qO-", "http://db/hostname").strip()
    assert run(machine, "--network", "web", "busybox", "wget", "-qO-", f"http://{container}/hostname").strip() == container
    assert machine.net("resolve", "db") == "10.89.0.2"
    assert "no container" in machine.fails("resolve", "nobody")
    assert machine.fails("rm", "web") == "network is in use 'web': container db is attached to it (oci-net detach, or oci-run rm)"
    run(machine, "rm", "-f", "db")
    machine.net("rm", "web")
    nothing_left(machine)


def test_published_ports_and_restart(machine: Machine, outside: Space) -> None:
    run(machine, "-d", "-p", "8080:80", "--name", "web", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    machine.until(lambda: outside.reaches(HERE, 8080))  # it begins to listen when it can
    said = machine.command("run", "-p", "8080:80", "busybox", "true", code=125).stderr
    assert "port is in use '0.0.0.0:8080/tcp': container" in said
    run(machine, "stop", "-t", "0", "web")
    assert not outside.reaches(HERE, 8080)
    run(machine, "start", "web")
    machine.until(lambda: outside.reaches(HERE, 8080))  # it begins to listen when it can
    hosts = run(machine, "exec", "web", "cat", "/etc/hosts")
    assert hosts.count("# by oci-net") == 1 and "\tweb" not in hosts.partition("# by")[0].rpartition("\n")[0]
    run(machine, "rm", "-f", "web")
    nothing_left(machine)


def test_what_was_asked_for(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "--ipv6", "--subnet", "fd00:7::/64", "web")
    machine.net("create", "--subnet", "10.8.0.0/24", "db")
    said = run(machine, "--network", "web", "--network", "db:priority=9", "--ip", "10.7.0.77", "--ip6", "fd00:7::77",
               "--mac-address", "02:00:00:00:00:77", "--add-host", "me:host-gateway", "busybox", "sh", "-c",
               "ip -o addr; ip -o link; ip route; cat /etc/hosts")  # fmt: skip
    assert "10.7.0.77/24" in said and "fd00:7::77/64" in said and "02:00:00:00:00:77" in said
    assert "default via 10.8.0.1 dev eth1" in said and "10.7.0.1\tme" in said
    nothing_left(machine)


def test_one_that_is_restarted_is_on_its_networks_again(machine: Machine, outside: Space) -> None:
    machine.net("create", "web")
    words = ("--restart", "always", "--network", "web", "-p", "8080:80", "--name", "www")
    run(machine, "-d", *words, "busybox", "httpd", "-f", "-p", "80")
    for _ in range(2):
        before = json.loads(run(machine, "state", "www"))["pid"]
        os.kill(before, 9)
        machine.until(lambda before=before: json.loads(run(machine, "state", "www"))["pid"] not in (0, before))
        machine.until(lambda: outside.reaches(HERE, 8080))
        assert len(machine.net("resolve", "www").splitlines()) == 1
    run(machine, "rm", "-f", "www")
    nothing_left(machine)


def test_networks_are_changed_while_it_runs_and_while_it_does_not(machine: Machine, outside: Space) -> None:
    """What was changed is so after the next start too."""
    for name in ("one", "two", "three"):
        machine.net("create", name)
    run(machine, "-d", "--network", "one", "--name", "web", "busybox", "httpd", "-f", "-p", "80")
    machine.net("attach", "--alias", "www", "two", "web")
    machine.net("detach", "one", "web")
    machine.net("publish", "add", "web", "8080:80")
    machine.until(lambda: outside.reaches(HERE, 8080))  # it begins to listen when it can

    def links() -> str:
        return run(machine, "exec", "web", "ip", "-o", "-4", "addr")

    assert "eth1" in links() and "eth0" not in links()
    run(machine, "stop", "-t", "0", "web")
    machine.net("attach", "--priority", "3", "three", "web")
    assert "container is attached to no such network" not in machine.net("inspect", "three")
    run(machine, "start", "web")
    assert links().count("eth") == 4
    machine.until(lambda: outside.reaches(HERE, 8080))
    assert run(machine, "--network", "two", "busybox", "nslookup", "www").count("10.89.") == 3
    run(machine, "stop", "-t", "0", "web")
    machine.net("detach", "three", "web")
    assert "not attached" in machine.fails("detach", "three", "web")
    run(machine, "rm", "-f", "web")
    events = [json.loads(line) for line in Path(machine.oci.env["OCI_ROOT"], "events").read_text().splitlines()]
    said = [(each["Action"], each["Actor"]["Attributes"]["name"]) for each in events if each["Type"] == "network"]
    assert said[:5] == [("create", "one"), ("create", "two"), ("create", "three"), ("connect", "one"), ("connect", "two")]
    assert said[5] == ("disconnect", "one")
    nothing_left(machine)


def test_name_servers_of_ones_own(machine: Machine, outside: Space) -> None:
    """--dns: the network's resolver asks them for this container, and still knows the others."""
    run(machine, "-d", "--name", "db", "busybox", "sleep", "1000")
    with upstream(outside, THERE, {"example.org": "198.51.100.7"}):
        said = run(machine, "--dns", THERE, "busybox", "sh", "-c", "nslookup example.org; nslookup db; cat /etc/resolv.conf")
    assert "198.51.100.7" in said and "10.88.0.2" in said and "nameserver 10.88.0.1" in said and THERE not in said
    run(machine, "rm", "-f", "db")


def test_without_nft(machine: Machine) -> None:
    """By default there is no network then, with a word of warning; who asks for one hears why not."""
    machine.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    done = machine.command("run", "busybox", "ip", "-o", "link")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "oci-run: warning: no network: nft is not installed (apt install nftables; --network none is without)\n"
    for words in (("--network", "bridge"), ("-p", "80"), ("--network-alias", "www")):
        said = machine.command("run", *words, "busybox", "true", code=125).stderr
        assert said == 'oci-run: cannot change the firewall: exec: "nft": executable file not found in $PATH (apt install nftables)\n'
    machine.run("umount", "/usr/sbin/nft")
    nothing_left(machine)


def test_ports_of_the_hosts_network(machine: Machine) -> None:
    done = machine.command("run", "--network", "host", "-p", "80:80", "busybox", "true")
    assert done.stderr == "oci-run: warning: --network host has all ports of the host: none is published\n"


def test_the_network_of_another(machine: Machine) -> None:
    container = run(machine, "-d", "--name", "one", "busybox", "sleep", "1000").strip()
    said = run(machine, "--network", "container:one", "busybox", "ip", "-o", "-4", "addr")
    assert "10.88.0.2/16" in said
    assert os.path.exists(f"{machine.root}{machine.oci.env['OCI_RUN']}/netns/{container}")
    run(machine, "rm", "-f", "one")
    nothing_left(machine)


def test_a_user_namespace_of_its_own(machine: Machine, busybox: Path) -> None:
    """The runtime makes both namespaces, and the networks are joined before the payload begins."""
    machine.command("unpack", f"{busybox}:latest", "./b")
    path = machine.directory / "b/config.json"
    spec = json.loads(path.read_text())
    spec["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        spec["linux"][name] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    path.write_text(json.dumps(spec))
    said = run(machine, "--network", "bridge", "--cap-add", "NET_ADMIN", "./b", "sh", "-c",
               "ip -o -4 addr show eth0; ip link set eth0 down && echo mine")  # fmt: skip
    assert "10.88.0.2/16" in said and "mine" in said
    nothing_left(machine)


@pytest.mark.needs("runc")
@pytest.mark.parametrize("runtime", ["oci-run", "runc"])
def test_hooks_of_a_bundle_under_any_runtime(machine: Machine, busybox: Path, runtime: str) -> None:
    """attach and detach as they are, with the container's state on standard input."""
    machine.command("unpack", f"{busybox}:latest", "./b")
    path = machine.directory / "b/config.json"
    spec = json.loads(path.read_text())
    env = [f"{name}={machine.oci.env[name]}" for name in ("PATH", "OCI_ROOT", "OCI_RUN")]
    program = str(machine.oci.bin / "oci-net")
    spec["hooks"] = {
        "createRuntime": [{"path": program, "args": ["oci-net", "attach", "--alias", "me", "bridge"], "env": env}],
        "poststop": [{"path": program, "args": ["oci-net", "detach", "bridge"], "env": env}],
    }
    spec["process"].update(args=["ip", "-o", "-4", "addr", "show", "eth0"], terminal=False)
    path.write_text(json.dumps(spec))
    name = f"hooks-{machine.process.pid}"
    words = ["runc", "--root", str(machine.directory / "runc")] if runtime == "runc" else [str(machine.oci.bin / runtime)]
    assert "10.88.0.2/16" in machine.run(*words, "run", "-b", "./b", name).stdout
    assert machine.net("ls", "--fields", "containers") == "0" and machine.net("resolve") == ""
    nothing_left(machine)


def test_what_the_image_exposes(machine: Machine, outside: Space) -> None:
    run(machine, "-d", "-P", "--expose", "80", "--name", "web", "busybox", "httpd", "-f", "-p", "80")
    shown = json.loads(machine.net("inspect", "--json", "bridge"))
    (port,) = next(iter(shown["containers"].values()))["ports"]
    assert port["containerPort"] == 80
    machine.until(lambda: outside.reaches(HERE, port["hostPort"]))
    run(machine, "rm", "-f", "web")
    nothing_left(machine)


def test_a_container_that_cannot_start_leaves_nothing(machine: Machine) -> None:
    machine.command("run", "-p", "8080:80", "busybox", "/nosuch", code=127)
    nothing_left(machine)
    said = machine.command("run", "--network", "nosuch", "busybox", "true", code=125).stderr
    assert said == "oci-run: no such network 'nosuch' (oci-net ls shows those that there are)\n"
    said = machine.command("run", "--ip", "10.99.0.1", "busybox", "true", code=125).stderr
    assert said == "oci-run: address is in no subnet of the network '10.99.0.1': bridge\n"
    nothing_left(machine)


def test_a_killed_one_is_cleared_by_the_next(machine: Machine) -> None:
    process = machine.start("run", "--name", "gone", "-p", "8080:80", "busybox", "sleep", "1000")
    machine.until(lambda: "8080" in machine.rules())
    process.kill()
    process.wait()
    machine.command("run", "kill", "--all", "gone", "KILL", code=None)
    run(machine, "--network", "none", "busybox", "true")  # any that looks after those who died
    machine.until(lambda: not list(Path(machine.oci.env["OCI_RUN"]).glob("netns/*")))
    nothing_left(machine)
