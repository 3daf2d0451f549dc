"""Networks of plain users, without any privilege: pasta, slirp4netns.

The machine has a /dev/net/tun that everybody may open, as udev gives it, and another host on its link.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.machines import HERE, PATIENCE, THERE, Machine, Space, connect, greet

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nsenter", "setpriv")]
USER = 12345


@pytest.fixture
def machine(plain: Any, public: Path, busybox: Path) -> Iterator[Machine]:
    plain.preload("docker.io/library/busybox:latest", busybox)
    plain.env.pop("OCI_NETWORK")
    plain.user = {}  # whoever enters the machine is root, and becomes the user there
    made = Machine(plain, public)
    made.run("sh", "-c", "mknod -m 666 /run/netns/tun c 10 200 && mount --bind /run/netns/tun /dev/net/tun")
    made.enter += ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    yield made
    made.close()


@pytest.fixture
def outside(machine: Machine) -> Space:
    enter = machine.enter
    machine.enter = enter[: enter.index("setpriv")]
    made = connect(machine)
    machine.enter = enter
    machine.ip("route", "add", "default", "via", THERE)
    return made


def run(machine: Machine, *words: str, **options: Any) -> str:
    return str(machine.command("run", *words, **options).stdout)


@pytest.mark.needs("pasta")
def test_pasta_is_the_default(machine: Machine, outside: Space) -> None:
    peers, host_peers = greet(outside.listen(80)), greet(machine.listen(81, HERE))
    script = f"cat /etc/resolv.conf; ip -o link; nc {THERE} 80; nc host.docker.internal 81"
    said = run(machine, "busybox", "sh", "-c", script)
    assert "nameserver 169.254.1.1" in said and "eth0" in said and said.count("hello") == 2
    assert peers == [HERE] and len(host_peers) == 1
    assert "eth0" not in run(machine, "--network", "none", "busybox", "ip", "-o", "link")


@pytest.mark.needs("pasta")
@pytest.mark.parametrize("network", ["pasta", "slirp4netns"])
def test_ports(machine: Machine, outside: Space, network: str) -> None:
    script = "while :; do (cat /etc/resolv.conf; echo hi) | nc -l -p 80; done"
    words = ("-d", "--network", network, "-p", "8080:80", "busybox", "sh", "-c", script)
    container = run(machine, *words).strip()

    def served() -> bytes:
        with outside.socket() as sock:
            try:
                sock.connect((HERE, 8080))
                return bytes(sock.recv(100))
            except OSError:
                return b""

    machine.until(lambda: b"nameserver" in served())
    said = machine.command("run", "--network", network, "-p", "8080:80", "busybox", "true", code=125).stderr
    assert re.match(r"oci-run: cannot (set up the network|publish port) '.*': .*\n$", said), said
    run(machine, "rm", "-f", container)
    machine.until(lambda: not outside.reaches(HERE, 8080))
    machine.until(lambda: not left(machine))


def left(machine: Machine) -> str:
    """Programs of the user that still run in the machine."""
    found = subprocess.run(["pgrep", "-u", str(USER), "pasta|slirp4netns"], capture_output=True, text=True).stdout.split()
    own = Path(f"/proc/{machine.process.pid}/ns/mnt").readlink()
    return "".join(pid for pid in found if space(pid) == own)


def space(pid: str) -> Any:
    try:
        return Path(f"/proc/{pid}/ns/mnt").readlink()
    except OSError:
        return None


@pytest.fixture
def shared(machine: Machine) -> Iterator[Machine]:
    """The user has subordinate ids; what stays of his namespaces goes with the test."""
    machine.enter, enter = machine.enter[: machine.enter.index("setpriv")], machine.enter
    for name, line in (("passwd", f"plain:x:{USER}:{USER}::/:/bin/sh"), ("subuid", "plain:200000:65536"), ("subgid", "plain:200000:65536")):
        path = machine.directory / name
        path.write_text(Path(f"/etc/{name}").read_text() + line + "\n" if name == "passwd" else line + "\n")
        machine.run("sh", "-c", f"[ -e /etc/{name} ] || touch /etc/{name}; mount --bind {path} /etc/{name}")
    machine.enter = enter
    yield machine
    state = Path(machine.oci.env["OCI_RUN"])
    for each in [*state.glob("net/on/*/resolver"), *state.glob("net/holder.pid"), *state.glob("shared.pid")]:
        if (pid := each.read_text().split()[0]) and Path(f"/proc/{pid}").exists():
            machine.run("kill", "-9", pid, code=None)
    machine.enter = machine.enter[: machine.enter.index("setpriv")]  # of other ids of his
    machine.run("rm", "-rf", machine.oci.env["OCI_ROOT"])


@pytest.mark.needs("pasta", "newuidmap", "nft")
def test_bridge_networks_in_a_shared_user_namespace(shared: Machine, outside: Space) -> None:
    """Two containers by name, and the world, as a plain user; with ports that were said before."""
    machine = shared

    def inside(*words: str) -> str:
        return str(machine.command("net", "unshare", *words).stdout)

    machine.net("unshare", "-p", "8080:8080", f"{machine.oci.bin}/oci-net", "create", "web")
    run = [f"{machine.oci.bin}/oci-run", "--network", "web"]
    inside(*run, "-d", "--name", "db", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    machine.until(lambda: outside.reaches(HERE, 8080))
    assert inside(*run, "busybox", "wget", "-qO-", "http://db/hostname")
    peers = greet(outside.listen(80))
    assert "hello" in inside(*run, "busybox", "nc", THERE, "80") and peers == [HERE]
    assert "db" in inside(f"{machine.oci.bin}/oci-net", "resolve")
    inside(f"{machine.oci.bin}/oci-run", "rm", "-f", "db")


CGI = r"mkdir -p /w/cgi-bin; printf '#!/bin/sh\necho\necho $REMOTE_ADDR\n' > /w/cgi-bin/who; chmod 755 /w/cgi-bin/who; exec httpd -f -p 80 -h /w"


def asks(space: Space, host: str, port: int) -> str:
    """Who the container says has asked; nothing while it is not there."""
    with space.socket() as sock:
        try:
            sock.connect((host, port))
            sock.sendall(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")
            return (b"".join(iter(lambda: sock.recv(4096), b"")).split() or [b""])[-1].decode().strip("[]:f")
        except OSError:
            return ""


@pytest.mark.needs("pasta", "newuidmap", "nft")
def test_networks_by_name(shared: Machine, outside: Space) -> None:
    """`--network NAME` as root has it: names, ports that are there when the command ends, who asks; and the other verbs."""
    machine = shared
    assert machine.net("create", "web") == "web"
    words = ("--network", "web", "-d", "--name", "db", "-p", "8080:80", "-p", "5353:53/udp")
    db = run(machine, *words, "busybox", "sh", "-c", CGI).strip()
    machine.until(lambda: asks(outside, HERE, 8080) == THERE)  # the client's own address
    assert asks(machine, "127.0.0.1", 8080) and asks(machine, HERE, 8080)
    pid = json.loads(run(machine, "state", "db"))["pid"]
    container = Space(f"/proc/{pid}/ns/net", "db")
    machine.spaces.append(container)
    with container.socket(socket.SOCK_DGRAM) as server, outside.socket(socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 53))
        client.sendto(b"x", (HERE, 5353))
        data, peer = server.recvfrom(16)
        assert (data, peer[0]) == (b"x", THERE)
        server.sendto(b"y", peer)
        assert client.recvfrom(16) == (b"y", (HERE, 5353))
    assert run(machine, "--network", "web", "busybox", "wget", "-qO-", "http://db/cgi-bin/who").startswith("[::ffff:10.")
    assert f"{db}\trunning" in run(machine, "list") and db in run(machine, "list", "-q")
    assert run(machine, "exec", "db", "hostname").strip() == db[:12]
    assert "web\tbridge\t" in machine.net("ls") and "db" in machine.net("resolve")
    said = machine.command("run", "--network", "web", "-p", "8080:80", "busybox", "true", code=125).stderr
    assert said.startswith("oci-run: port is in use '0.0.0.0:8080/tcp': container "), said
    with machine.listen(9090):
        said = machine.command("run", "--network", "web", "-p", "9090:80", "busybox", "true", code=125).stderr
        assert said == "oci-run: port is in use '0.0.0.0:9090/tcp': a process of the host listens there (another port, or just the container's: any that is free)\n"
    machine.net("publish", "add", "db", "8081:80", "127.0.0.1:8082:80")
    assert asks(machine, "127.0.0.1", 8082) and asks(outside, HERE, 8082) == ""
    assert asks(outside, HERE, 8081) == THERE
    assert machine.fails("rm", "web").startswith("network is in use")
    run(machine, "rm", "-f", "db")
    machine.until(lambda: not outside.reaches(HERE, 8080))
    run(machine, *words, "busybox", "sh", "-c", CGI)  # the same ports at once
    machine.until(lambda: asks(outside, HERE, 8080) == THERE)
    pasta = os.pidfd_open(int(Path(machine.oci.env["OCI_RUN"], "shared.pasta").read_text()))
    signal.pidfd_send_signal(pasta, signal.SIGKILL)
    select.select([pasta], [], [])  # until it has ended: before that nobody starts another
    os.close(pasta)
    peers = greet(outside.listen(80))
    assert "hello" in run(machine, "--network", "web", "busybox", "nc", THERE, "80") and peers == [HERE]
    machine.until(lambda: asks(outside, HERE, 8080) == THERE)
    run(machine, "rm", "-f", "db")
    machine.net("rm", "web")


@pytest.mark.needs("pasta", "newuidmap", "nft")
def test_one_store_for_both_sides(shared: Machine) -> None:
    """Containers on networks have subordinate ids, others one: all verbs work on both, and volumes are for both."""
    machine = shared

    def vol(*words: str, **options: Any) -> Any:
        return machine.command("vol", *words, **options)

    machine.net("create", "web")
    script = "mkdir -m 755 /x/d; echo yes > /x/d/file; chown -R 5:6 /x/d; chmod 600 /x/d/file; echo all > /x/all"
    run(machine, "--network", "web", "-v", "db:/x", "busybox", "sh", "-c", script)
    vol("create", "own")
    assert vol("ls", "-q").stdout.split() == vol("df", "--fields", "name").stdout.split() == ["db", "own"]
    stream = machine.run("sh", "-c", f"{machine.oci.bin}/oci-vol export db | tar -tv --numeric-owner").stdout
    assert "-rw------- 5/6" in stream and "d/file" in stream
    vol("clone", "db", "two")
    assert run(machine, "--network", "web", "-v", "two:/y", "busybox", "cat", "/y/d/file") == "yes\n"
    # A container of one id sees what is root's, and what everybody may; it is root of what it makes.
    one = ("--userns", "keep-id:uid=0,gid=0")
    script = "cat /x/all; ls -ln /x; cat /x/d/file; echo more > /x/more"
    seen = run(machine, *one, "-v", "db:/x", "busybox", "sh", "-c", script)
    assert seen.startswith("all\n") and " 65534 " in seen and "yes" not in seen
    said = run(machine, "-v", "db:/x", "busybox", "sh", "-c", "cat /x/more; stat -c %u /x/more; cat /x/d/file")
    assert said == "more\n0\nyes\n"
    run(machine, *one, "-v", "own:/x", "busybox", "sh", "-c", "echo mine > /x/file")
    assert run(machine, "--network", "web", "-v", "own:/x", "busybox", "cat", "/x/file") == "mine\n"
    run(machine, "--network", "web", "-d", "--name", "user", "-v", "db:/x", "busybox", "sleep", "1000")
    run(machine, "-d", "--name", "other", "-v", "own:/x", "busybox", "sleep", "1000")
    for name, user in (("db", "user"), ("own", "other")):
        assert "volume is in use by container" in vol("rm", name, code=1).stderr, user
    shown = {line.split("\t")[-1]: line.split("\t")[1] for line in run(machine, "list").splitlines()}
    assert shown == {"user": "running", "other": "running"}
    assert run(machine, "exec", "user", "cat", "/x/d/file") == "yes\n"
    machine.command("run", "kill", "user", "KILL")
    run(machine, "rm", "-f", "other", "user")
    assert run(machine, "list") == ""
    vol("rename", "two", "three")
    assert vol("prune", "--all", "--json").stdout.count("\n") == 3
    assert vol("ls", "-q").stdout == ""


@pytest.mark.needs("pasta", "newuidmap", "nft", "docker")
def test_a_plain_users_ocid_has_networks_by_name(shared: Machine, outside: Space) -> None:
    """The docker client, an ocid of the user, containers on a network of their own; and the commands beside it."""
    machine = shared
    words = [*machine.enter, str(machine.oci.bin / "ocid")]
    daemon = subprocess.Popen(words, env=machine.oci.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    machine.started.append(daemon)
    assert daemon.stdout is not None and daemon.stdout.readline()
    socket_ = f"unix://{machine.oci.env['OCI_RUN']}/ocid.sock"

    def docker(*words: str, **options: Any) -> str:
        return str(machine.run("docker", "-H", socket_, *words, **options).stdout)

    assert docker("run", "--rm", "-u", "1000", "busybox", "id", "-u") == "1000\n"
    docker("run", "-d", "--name", "plain", "-p", "127.0.0.1:8086:80", "busybox", "sleep", "1000")
    machine.until(lambda: docker("port", "plain") == "80/tcp -> 127.0.0.1:8086\n")
    docker("rm", "-f", "plain")
    docker("network", "create", "web")
    docker("run", "-d", "--name", "db", "--network", "web", "-p", "8080:80", "-v", "data:/d", "busybox", "sh", "-c", CGI)
    machine.until(lambda: asks(outside, HERE, 8080) == THERE)
    said = docker("run", "--rm", "--network", "web", "busybox", "wget", "-qO-", "http://db/cgi-bin/who")
    assert said.startswith("[::ffff:10.")
    (shown,) = json.loads(docker("inspect", "db"))
    assert shown["NetworkSettings"]["Networks"]["web"]["IPAddress"].startswith("10.")
    (network,) = json.loads(docker("network", "inspect", "web"))
    assert [each["Name"] for each in network["Containers"].values()] == ["db"]
    assert docker("exec", "db", "id", "-u") == "0\n" and docker("logs", "db") == ""
    docker("run", "-d", "--name", "alone", "-v", "data:/d", "busybox", "sleep", "1000")
    assert docker("ps", "--format", "{{.Names}}").split() == ["alone", "db"]
    assert run(machine, "exec", "db", "hostname").strip() == shown["Config"]["Hostname"]
    docker("restart", "-t", "0", "db")
    machine.until(lambda: asks(outside, HERE, 8080) == THERE)
    docker("stop", "-t", "0", "db", "alone")
    docker("rm", "-v", "db", "alone")
    docker("network", "rm", "web")
    docker("volume", "rm", "data")
    assert machine.net("ls", "--fields", "name") == "bridge" and run(machine, "list") == ""
    daemon.terminate()
    assert daemon.wait(PATIENCE) == 0


@pytest.mark.needs("pasta", "newuidmap")
def test_images_of_many_users(shared: Machine, outside: Space) -> None:
    """With subordinate ids a container has them, whatever its network; cp, diff, export, commit and volumes too."""
    machine = shared
    own = "chown 5:6 /tmp && touch /tmp/mine && id -u && stat -c %u:%g /tmp"
    assert run(machine, "--network", "none", "busybox", "sh", "-c", own).split() == ["0", "5:6"]
    assert run(machine, "-u", "1000:1000", "busybox", "id", "-u").strip() == "1000"
    assert run(machine, "--userns", "keep-id", "busybox", "id", "-u").strip() == str(USER)
    words = ("-d", "--name", "kept", "-p", "80", "-v", "data:/data", "busybox", "sh", "-c")
    run(machine, *words, f"{own}; echo 1 > /data/f; chown 7:8 /data/f; exec sleep 1000")
    machine.until(lambda: "/tmp/mine" in run(machine, "diff", "kept"))
    host, port = machine.net("publish", "ls", "--fields", "host,port", "kept").split()
    assert host.startswith("0.0.0.0:") and port == "80/tcp"
    (machine.directory / "file").write_text("new\n")
    run(machine, "cp", str(machine.directory / "file"), "kept:/tmp/new")
    machine.run("sh", "-c", f"{machine.oci.bin}/oci-run cp kept:/tmp/new - | tar -xO | grep new")
    machine.command("pack", "kept", "two:1")
    assert run(machine, "--network", "none", "two:1", "stat", "-c", "%u:%g", "/tmp").strip() == "5:6"
    assert run(machine, "-v", "data:/d", "busybox", "stat", "-c", "%u:%g", "/d/f").strip() == "7:8"
    run(machine, "rm", "-f", "kept")
    machine.until(lambda: not run(machine, "list"))


@pytest.mark.needs("pasta", "newuidmap")
def test_what_of_the_host_can_be_shared(shared: Machine) -> None:
    """--network, --pid, --ipc and --cgroupns host, and --privileged, where only the host's root could mount anew."""
    machine = shared
    there = machine.run("cat", "/etc/resolv.conf").stdout
    assert run(machine, "--network", "host", "busybox", "cat", "/etc/resolv.conf") == there
    links = machine.run("sh", "-c", "ip -o link | wc -l").stdout
    assert run(machine, "--network", "host", "busybox", "sh", "-c", "ip -o link | wc -l").strip() == links.strip()
    assert int(run(machine, "--pid", "host", "busybox", "sh", "-c", "echo $PPID")) > 1
    run(machine, "--ipc", "host", "--uts", "host", "--cgroupns", "host", "busybox", "true")
    assert run(machine, "--privileged", "busybox", "sh", "-c", "mount -t tmpfs x /tmp && echo yes") == "yes\n"


@pytest.mark.needs("pasta", "newuidmap")
def test_ports_are_free_at_once(shared: Machine) -> None:
    """A container that is stopped and started again finds its own."""
    machine = shared
    run(machine, "-d", "--name", "again", "-p", "127.0.0.1:8085:80", "busybox", "sleep", "1000")
    run(machine, "restart", "-t", "0", "again")
    run(machine, "stop", "-t", "0", "again")
    run(machine, "start", "again")
    run(machine, "rm", "-f", "again")


def test_networks_need_subordinate_ids(machine: Machine) -> None:
    said = machine.command("run", "--network", "web", "busybox", "true", code=125).stderr
    assert said == (
        "oci-run: cannot join network 'web': this user has no subordinate ids (apt install uidmap, and usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER)\n"
    )


def test_without_the_program(machine: Machine) -> None:
    machine.enter, enter = machine.enter[: machine.enter.index("setpriv")], machine.enter
    for name in ("pasta", "slirp4netns"):
        machine.run("mount", "--bind", "/dev/null", f"/usr/bin/{name}")
    machine.enter = enter
    done = machine.command("run", "busybox", "ip", "-o", "link")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "oci-run: warning: no network: pasta is not installed (apt install passt; --network none is without)\n"
    for words in (("--network", "pasta"), ("-p", "8080:80")):
        said = machine.command("run", *words, "busybox", "true", code=125).stderr
        assert said == 'oci-run: cannot set up the network: exec: "pasta": executable file not found in $PATH (apt install passt)\n'
