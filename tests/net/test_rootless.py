"""Networks of plain users, without any privilege: pasta, slirp4netns.

The machine has a /dev/net/tun that everybody may open, as udev gives it, and another host on its link.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.machines import HERE, THERE, Machine, Space, connect, greet

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


@pytest.mark.needs("pasta", "newuidmap", "nft")
def test_bridge_networks_in_a_shared_user_namespace(machine: Machine, outside: Space) -> None:
    """Two containers by name, and the world, as a plain user."""
    machine.enter, enter = machine.enter[: machine.enter.index("setpriv")], machine.enter
    for name, line in (("passwd", f"plain:x:{USER}:{USER}::/:/bin/sh"), ("subuid", "plain:200000:65536"), ("subgid", "plain:200000:65536")):
        path = machine.directory / name
        path.write_text(Path(f"/etc/{name}").read_text() + line + "\n" if name == "passwd" else line + "\n")
        machine.run("sh", "-c", f"[ -e /etc/{name} ] || touch /etc/{name}; mount --bind {path} /etc/{name}")
    machine.enter = enter

    def inside(*words: str) -> str:
        return str(machine.command("net", "unshare", *words).stdout)

    store = machine.oci.env["OCI_ROOT"]
    try:
        machine.net("unshare", "-p", "8080:8080", f"{machine.oci.bin}/oci-net", "create", "web")
        inside(f"{machine.oci.bin}/oci-image", "copy", f"oci:{store}/images:docker.io/library/busybox:latest", "busybox")
        run = [f"{machine.oci.bin}/oci-run", "--network", "web"]
        inside(*run, "-d", "--name", "db", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
        machine.until(lambda: outside.reaches(HERE, 8080))
        assert inside(*run, "busybox", "wget", "-qO-", "http://db/hostname")
        peers = greet(outside.listen(80))
        assert "hello" in inside(*run, "busybox", "nc", THERE, "80") and peers == [HERE]
        assert "db" in inside(f"{machine.oci.bin}/oci-net", "resolve")
        inside(f"{machine.oci.bin}/oci-run", "rm", "-f", "db")
    finally:
        pid = Path(machine.oci.env["OCI_RUN"], "shared.pid").read_text().split()[0]
        for each in Path(machine.oci.env["OCI_RUN"]).glob("shared/net/on/*/resolver"):
            if Path(f"/proc/{each.read_text().strip()}").exists():
                machine.run("kill", "-9", each.read_text().strip(), code=None)
        machine.run("kill", "-9", pid)


def test_names_of_networks_need_root(machine: Machine) -> None:
    said = machine.command("run", "--network", "web", "busybox", "true", code=2).stderr
    assert said == "oci-run: network of a plain user 'web' (oci-net unshare has networks; else pasta, slirp4netns, none or host)\n"


def test_without_the_program(machine: Machine) -> None:
    machine.enter, enter = machine.enter[: machine.enter.index("setpriv")], machine.enter
    for name in ("pasta", "slirp4netns"):
        machine.run("mount", "--bind", "/dev/null", f"/usr/bin/{name}")
    machine.enter = enter
    done = machine.command("run", "busybox", "ip", "-o", "link")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "oci-run: warning: no network: pasta is not installed (--network none says so)\n"
    said = machine.command("run", "--network", "pasta", "busybox", "true", code=125).stderr
    assert said == 'oci-run: cannot set up the network: exec: "pasta": executable file not found in $PATH\n'
