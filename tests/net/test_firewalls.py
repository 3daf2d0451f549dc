"""Firewalls of others on the same host: firewalld, ufw, an administrator's own ruleset."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Commands
from tests.net.dns import ask
from tests.net.machines import HERE, HERE6, THERE, THERE6, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]
# A bus of the machine's own, on which everybody may do everything.
BUS = """<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context="default">
<allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/></policy></busconfig>"""


class Firewalld:
    """firewalld on a machine, as a distribution starts it: the default zone is public."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        top = machine.directory / "firewalld"
        for name in ("zones", "policies", "services", "icmptypes", "ipsets", "helpers"):
            (top / name).mkdir(parents=True)
        conf = machine.directory / "bus.conf"
        conf.write_text(BUS.format(machine.directory / "bus"))
        machine.oci.env["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={machine.directory}/bus"
        self.begin("dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", f"--config-file={conf}")
        machine.until((machine.directory / "bus").exists)
        self.words = ["firewalld", "--nofork", "--nopid", f"--system-config={top}", f"--log-file={top}/log"]
        self.start()

    def start(self) -> None:
        self.daemon = self.begin(*self.words)
        self.machine.until(lambda: self.machine.run("firewall-cmd", "--state", code=None).returncode == 0)

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait()

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        null: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        made = subprocess.Popen([*self.machine.enter, *words], env=self.machine.oci.environment(), **null)
        self.machine.started.append(made)
        return made

    def __call__(self, *words: str) -> str:
        return str(self.machine.run("firewall-cmd", *words).stdout).strip()


@pytest.fixture
def firewalld(machine: Machine) -> Iterator[Firewalld]:
    yield Firewalld(machine)


def works(machine: Machine, outside: Space, a: Space) -> None:
    """Published ports from outside and from the host, the world from inside, names; what is not published is closed."""
    with a.listen(80) as listener, outside.listen(81) as far:
        assert outside.talks(listener, HERE, 8080) == THERE
        assert machine.talks(listener, "127.0.0.1", 8080)
        assert a.talks(far, THERE, 81) == HERE
        assert not outside.reaches(HERE, 8081)
    with a.listen(80, "::") as listener, outside.listen(81, "::") as far:
        assert outside.talks(listener, HERE6, 8080) == THERE6
        assert a.talks(far, THERE6, 81)


@pytest.mark.needs("firewalld", "firewall-cmd", "dbus-daemon")
def test_firewalld(firewalld: Firewalld, machine: Machine, outside: Space) -> None:
    """It knows our bridges, over reloads and restarts; one that came later knows them after `oci-net reload`."""
    machine.net("create", "--ipv6", "web")
    bridge = bridge_of(machine, "web")
    a = machine.space("a")
    machine.net("attach", "-p", "8080:80", "web", a.path)
    assert firewalld("--zone=trusted", "--list-interfaces") == bridge
    works(machine, outside, a)
    for words in (["--reload"], ["--complete-reload"]):
        firewalld(*words)
        works(machine, outside, a)
    firewalld.stop()
    machine.net("create", "late")
    late = machine.space("late")
    machine.net("attach", "late", late.path)
    firewalld.start()
    works(machine, outside, a)
    with outside.listen(81) as far:
        assert not late.reaches(THERE, 81)
        machine.net("reload")
        assert late.talks(far, THERE, 81) == HERE
    machine.net("rm", "-f", "web", "late")
    assert firewalld("--zone=trusted", "--list-interfaces") == firewalld("--permanent", "--zone=trusted", "--list-interfaces") == ""


@pytest.mark.needs("firewalld", "firewall-cmd", "dbus-daemon")
def test_another_zone_of_firewalld(firewalld: Firewalld, machine: Machine, outside: Space) -> None:
    machine.net("create", "--opt", "firewalld_zone=internal", "web")
    machine.net("create", "--opt", "firewalld_zone=", "left")
    machine.net("create", "--opt", "firewalld_zone=nosuch", "bad")
    for name in ("web", "left"):
        machine.net("attach", name, machine.space(name).path)
    assert firewalld("--zone=internal", "--list-interfaces") == bridge_of(machine, "web")
    assert firewalld("--zone=trusted", "--list-interfaces") == ""
    said = machine.fails("attach", "bad", machine.space("bad").path)
    assert said.startswith(f"cannot put {bridge_of(machine, 'bad')} into zone 'nosuch': ") and "INVALID_ZONE" in said
    assert bridge_of(machine, "bad") not in machine.ip("link")


@pytest.mark.needs("ufw", "iptables")
def test_ufw(machine: Machine, outside: Space) -> None:
    """What it does not allow does not reach a container, published or not (moby 22054); what it allows does."""
    machine.run("sh", "-ec", "cp -a /etc/ufw ufw && mount --bind ufw /etc/ufw && ufw --force enable")
    machine.net("create", "--ipv6", "--opt", "bridge_name=br-web", "web")
    a = machine.space("a")
    machine.net("attach", "-p", "8080:80", "web", a.path)
    before = machine.run("iptables-save").stdout.split("\n# Completed")[0]
    with a.listen(80) as listener, outside.listen(81) as far:
        assert machine.talks(listener, "127.0.0.1", 8080)
        assert not outside.reaches(HERE, 8080) and not a.reaches(THERE, 81)
        machine.run("ufw", "route", "allow", "in", "on", "br-web")
        assert a.talks(far, THERE, 81) == HERE
        assert not outside.reaches(HERE, 8080)
        machine.run("ufw", "route", "allow", "proto", "tcp", "from", "any", "to", "any", "port", "80")
    works(machine, outside, a)
    machine.run("ufw", "reload")
    works(machine, outside, a)
    assert "oci" not in before and "br-web" not in before


def test_rulesets_of_an_administrator(machine: Machine, outside: Space) -> None:
    """Chains that drop what they do not know: a line for what comes from our bridges, one for what is published."""
    machine.run("nft", "-f", "-", input="""
        table inet filter {
            chain input { type filter hook input priority 0; policy drop
                iif lo accept
                ct state established,related accept
                icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
                iifname "br-*" meta l4proto { tcp, udp } th dport 53 accept
            }
            chain forward { type filter hook forward priority 0; policy drop
                ct state established,related accept
                iifname "br-*" accept
                ct status dnat accept
            }
        }""")
    before = machine.rules()
    machine.net("create", "--ipv6", "web")
    a, b = machine.space("a"), machine.space("b")
    machine.net("attach", "-p", "8080:80", "web", a.path)
    machine.net("attach", "web", b.path)
    works(machine, outside, a)
    (found,) = (each for each in json.loads(machine.net("inspect", "--json", "web"))["subnets"] if "." in each["gateway"])
    assert ask(b, found["gateway"], "a")[1][0] in machine.net("resolve", "a").split()
    machine.net("rm", "-f", "web")
    assert machine.rules() == before


@pytest.mark.needs("sysctl")
def test_who_sets_all_switches_again(oci: Commands, tmp_path: Path) -> None:
    """`sysctl --system`, as packages run it, leaves a bridge's as they are to be; of the host's own network alone."""
    script = """
        mount -t tmpfs none /run; mkdir /run/netns /run/sysctl.d /run/others; ip link set lo up
        for each in /etc/sysctl.d /usr/lib/sysctl.d; do mount --bind /run/others $each; done
        mount --bind /dev/null /etc/sysctl.conf 2>/dev/null || true
        echo 'net.ipv4.conf.*.rp_filter=1' > /run/others/50-default.conf
        ip netns add a; oci-net create --opt bridge_name=br-web web; oci-net attach web /run/netns/a
        echo 0 > /proc/sys/net/ipv4/conf/br-web/route_localnet; echo 1 > /proc/sys/net/ipv6/conf/br-web/accept_ra
        sysctl -q --system; cd /proc/sys/net
        echo $(cat ipv4/conf/br-web/route_localnet ipv4/conf/br-web/rp_filter ipv6/conf/br-web/accept_ra)
        oci-net rm -f web; ls /run/sysctl.d; umount /run/netns/* 2>/dev/null || true"""
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    env = {"OCI_RUN": str(tmp_path / "state"), "PATH": f"{oci.bin}:/usr/sbin:/usr/bin:/sbin:/bin"}
    said = oci.run([*apart, "sh", "-ec", script], env=env).stdout.splitlines()
    assert said[0] == "web" and said[2:] == ["1 2 0", "web"]


def bridge_of(machine: Machine, network: str) -> str:
    return str(json.loads(machine.net("inspect", "--json", network))["bridge"])
