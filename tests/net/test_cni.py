"""CNI both ways: real plugins from our conflists, and oci-net as a plugin for runtimes of others."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.net.machines import HERE, THERE, Machine, Space

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]
PLUGINS = "/usr/lib/cni"
RANGES = {"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": RANGES}
needs_plugins = pytest.mark.skipif(not os.path.exists(f"{PLUGINS}/bridge"), reason="needs containernetworking-plugins")


# -- plugins of others -----------------------------------------------------------------------


def create(machine: Machine, *plugins: dict[str, Any]) -> None:
    document = {"cniVersion": "1.0.0", "name": "x", "plugins": plugins}
    machine.net("create", "--from", "-", "theirs", input=json.dumps(document))


@needs_plugins
def test_bridge_and_portmap(machine: Machine, outside: Space) -> None:
    create(machine, BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}})
    a = machine.space("a")
    assert machine.net("attach", "-p", "8080:80", "theirs", a.path) == "eth0\t10.7.0.2/24"
    with a.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80) == HERE
    shown = json.loads(machine.net("inspect", "--json", "theirs"))
    (one,) = shown["containers"].values()
    assert shown["driver"] == "bridge" and one["addresses"] == ["10.7.0.2/24"] and one["gateways"] == ["10.7.0.1"]
    machine.net("detach", "theirs", a.path)
    assert "eth0" not in a.ip("link") and not outside.reaches(HERE, 8080)
    assert not list(Path(machine.oci.env["OCI_RUN"], "net/on/theirs/cni").glob("*/10.*"))


@needs_plugins
def test_a_chain_with_bandwidth_and_tuning(machine: Machine) -> None:
    create(machine, BRIDGE, {"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 8_000_000},
           {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}, "mtu": 1300},
           {"type": "firewall", "backend": "iptables"})  # fmt: skip
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    assert "mtu 1300" in a.ip("link", "show", "eth0")
    with a.inside(), open("/proc/sys/net/ipv4/conf/all/log_martians") as file:
        assert file.read() == "1\n"
    machine.net("detach", "theirs", a.path)


@needs_plugins
def test_theirs_after_ours(machine: Machine, outside: Space) -> None:
    """Our bridge, then a plugin that changes it."""
    machine.net("create", "--subnet", "10.7.0.0/24", "web")
    path = Path(machine.oci.env["OCI_ROOT"], "networks/web.conflist")
    document = json.loads(path.read_text())
    document["plugins"] += [{"type": "tuning", "mac": "02:00:00:00:00:77"},
                            {"type": "bandwidth", "egressRate": 8_000_000, "egressBurst": 8_000_000}]  # fmt: skip
    path.write_text(json.dumps(document))
    a = machine.space("a")
    machine.net("attach", "-p", "8080:80", "web", a.path)
    assert "02:00:00:00:00:77" in a.ip("link", "show", "eth0") and "bwp" in machine.ip("link")
    with a.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE
    machine.net("detach", "web", a.path)
    assert "bwp" not in machine.ip("link") and "eth0" not in a.ip("link")
    document["plugins"][1]["type"] = "no-such-plugin"
    path.write_text(json.dumps(document))
    assert machine.fails("attach", "web", a.path).startswith("no such plugin")
    assert "eth0" not in a.ip("link") and machine.net("ls", "--filter", "name=web", "--fields", "containers") == "0"


@needs_plugins
def test_macvlan_of_theirs(machine: Machine, outside: Space) -> None:
    create(machine, {"type": "macvlan", "master": "eth0", "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100"}]]}})  # fmt: skip
    a = machine.space("a")
    machine.net("attach", "theirs", a.path)
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80) == "192.0.2.100"
    machine.net("detach", "theirs", a.path)


@needs_plugins
@pytest.mark.needs("busybox")
def test_addresses_by_dhcp(machine: Machine, outside: Space) -> None:
    """Of a macvlan link, from a server on the link, by the dhcp plugin's daemon."""
    conf = machine.directory / "udhcpd.conf"
    # Which of them it gives hangs on the link's address, which is random.
    conf.write_text(f"start 192.0.2.50\nend 192.0.2.59\ninterface eth0\nlease_file {machine.directory}/leases\n"
                    f"pidfile {machine.directory}/pid\noption subnet 255.255.255.0\noption router {THERE}\n")  # fmt: skip
    (machine.directory / "leases").touch()
    machine.run("sh", "-c", "mkdir -p /run/cni && mount -t tmpfs none /run/cni")
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*machine.enter, "ip", "netns", "exec", "outside", "busybox", "udhcpd", "-f", conf], **null)  # type: ignore[call-overload]
    daemon = subprocess.Popen([*machine.enter, f"{PLUGINS}/dhcp", "daemon"], **null)  # type: ignore[call-overload]
    machine.started += [server, daemon]
    machine.until(lambda: os.path.exists(f"{machine.root}/run/cni/dhcp.sock"))
    machine.until(lambda: ":0043 " in outside.says("cat", "/proc/thread-self/net/udp"))  # what is asked before is lost for ten seconds
    create(machine, {"type": "macvlan", "master": "eth0", "ipam": {"type": "dhcp"}})
    a = machine.space("a")
    assert machine.net("attach", "theirs", a.path).startswith("eth0\t192.0.2.5")
    assert f"default via {THERE}" in a.ip("route") and "LOOPBACK,UP" in a.ip("link")
    with outside.listen(80) as listener:
        assert a.talks(listener, THERE, 80).startswith("192.0.2.5")
    machine.net("detach", "theirs", a.path)


@needs_plugins
def test_what_a_plugin_says_when_it_fails(machine: Machine) -> None:
    a = machine.space("a")
    create(machine, BRIDGE, {"type": "macvlan", "master": "nosuch0", "ipam": {}})
    said = machine.fails("attach", "theirs", a.path)
    assert said == "plugin macvlan of network 'theirs': Link not found"
    assert "eth0" not in a.ip("link")  # the plugin before it has undone its part
    machine.net("rm", "theirs")
    create(machine, {"type": "no-such-plugin"})
    assert machine.fails("attach", "theirs", a.path).startswith("no such plugin 'no-such-plugin': not in /opt/cni/bin")
    assert json.loads(machine.net("inspect", "--json", "theirs"))["containers"] == {}


def test_a_plugin_that_answers_nonsense(machine: Machine) -> None:
    """What it says becomes lines of a file that others read."""
    bin_ = machine.directory / "cni"
    bin_.mkdir()
    for name, answer in (("evil", '{"ips": [{"address": "1.2.3.4\\n6.6.6.6 bank"}]}'), ("mad", "[1"), ("list", "[]")):
        (bin_ / name).write_text(f"#!/bin/sh\n[ $CNI_COMMAND = DEL ] || cat <<'X'\n{answer}\nX\n")
        (bin_ / name).chmod(0o755)
        document = {"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": name}]}
        machine.net("create", "--from", "-", name, input=json.dumps(document))
        a = machine.space(name)
        machine.fails("attach", name, a.path, env={"CNI_PATH": str(bin_)})
        assert json.loads(machine.net("inspect", "--json", name))["containers"] == {} and machine.net("resolve") == ""


# -- ourselves as one ---------------------------------------------------------------------------


class Runtime:
    """What a CNI runtime does: asks a plugin in the environment, its configuration on stdin."""

    def __init__(self, machine: Machine, conf: dict[str, Any]) -> None:
        self.machine = machine
        self.conf = conf

    def ask(self, command: str, container: str = "c1", netns: str = "", code: int = 0, **more: Any) -> dict[str, Any]:
        env = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.machine.oci.bin), **more.pop("env", {}),
        }  # fmt: skip
        conf = json.dumps({**self.conf, **more})
        done = self.machine.run(str(self.machine.oci.bin / "oci-net"), input=conf, env=env, code=code)
        return json.loads(done.stdout) if done.stdout else {}


@pytest.fixture
def runtime(machine: Machine) -> Runtime:
    return Runtime(machine, {"cniVersion": "1.1.0", "name": "k8s", "type": "oci-net"})


@pytest.mark.parametrize("version", ["1.1.0", "0.4.0"])
def test_version(runtime: Runtime, version: str) -> None:
    said = runtime.ask("VERSION", cniVersion=version)
    assert said["cniVersion"] == version and {"0.4.0", "1.1.0"} <= {*said["supportedVersions"]}


def test_only_add_makes_a_network(machine: Machine, runtime: Runtime) -> None:
    runtime.ask("DEL")
    runtime.ask("GC")
    runtime.ask("STATUS")
    assert runtime.ask("CHECK", netns=machine.space("a").path, code=1)["msg"].startswith("container is not attached")
    assert machine.net("ls", "--fields", "name") == "bridge"


def test_add_check_del(machine: Machine, outside: Space, runtime: Runtime) -> None:
    a = machine.space("a")
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    made = runtime.ask("ADD", netns=a.path, runtimeConfig=ports)
    bridge, host, inside = made["interfaces"]
    assert bridge["name"].startswith("br-") and host["name"].startswith("veth") and inside["sandbox"] == a.path
    assert made["ips"] == [{"address": "10.89.0.2/20", "gateway": "10.89.0.1", "interface": 2}]
    assert {"dst": "0.0.0.0/0", "gw": "10.89.0.1"} in made["routes"] and made["dns"] == {}
    with a.listen(80) as listener:
        assert outside.talks(listener, HERE, 8080) == THERE
    runtime.ask("CHECK", netns=a.path, prevResult=made)
    machine.run("nft", "flush", "ruleset")
    assert runtime.ask("CHECK", netns=a.path, prevResult=made, code=1)["msg"].startswith("the firewall lacks")
    machine.net("reload")
    a.ip("addr", "del", "10.89.0.2/20", "dev", "eth0")
    said = runtime.ask("CHECK", netns=a.path, prevResult=made, code=1)
    assert said == {"cniVersion": "1.1.0", "code": 100, "msg": "address is missing '10.89.0.2/20'"}
    for _ in range(2):  # what is gone already is fine
        runtime.ask("DEL", netns=a.path, prevResult=made)
    assert "eth0" not in a.ip("link") and not outside.reaches(HERE, 8080)
    runtime.ask("DEL", container="never")
    assert machine.net("ls", "--filter", "name=k8s", "--fields", "containers") == "0"


def test_what_a_configuration_may_say(machine: Machine, runtime: Runtime) -> None:
    runtime.conf = {
        "cniVersion": "0.4.0", "name": "own", "type": "oci-net", "bridge": "mybr0", "mtu": 1300,
        "ipam": {"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]},
    }  # fmt: skip
    a = machine.space("a")
    made = runtime.ask("ADD", netns=a.path, runtimeConfig={"ips": ["10.7.0.9/24"], "mac": "02:00:00:00:00:09"},
                       env={"CNI_IFNAME": "net1", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=pod"})  # fmt: skip
    assert [each["address"] for each in made["ips"]] == ["10.7.0.9/24", "fd00:7::2/64"]
    assert [each["version"] for each in made["ips"]] == ["4", "6"] and made["cniVersion"] == "0.4.0"
    machine.run("nft", "flush", "ruleset")
    machine.net("reload")  # of a network that only its runtime's configuration knows, too
    assert "from-mybr0" in machine.rules()
    shown = a.ip("addr", "show", "net1")
    assert "mtu 1300" in shown and "02:00:00:00:00:09" in shown and "mybr0" in machine.ip("link")
    assert machine.net("resolve", "pod") == "10.7.0.9\nfd00:7::2"


def test_addresses_as_host_local_has_them(machine: Machine, runtime: Runtime) -> None:
    """One subnet without a list; several ranges of one; no plugin of another name is passed over."""
    short = {"type": "host-local", "subnet": "10.7.0.0/24", "rangeStart": "10.7.0.9", "gateway": "10.7.0.4"}
    a = machine.space("a")
    made = runtime.ask("ADD", netns=a.path, ipam=short, dns={"search": ["lan"]})
    assert made["ips"][0]["address"] == "10.7.0.9/24" and made["ips"][0]["gateway"] == "10.7.0.4"
    assert made["dns"] == {"search": ["lan"]}
    runtime.ask("DEL", netns=a.path, ipam=short)
    subnet = {"subnet": "10.8.0.0/24"}
    parts = [{**subnet, "rangeStart": f"10.8.0.{at}", "rangeEnd": f"10.8.0.{at + 1}"} for at in (10, 20)]
    several = {"name": "several", "ipam": {"type": "host-local", "ranges": [parts]}}
    spaces = [machine.space(f"s{at}") for at in range(5)]
    found = [runtime.ask("ADD", each.name, each.path, **several)["ips"][0]["address"] for each in spaces[:4]]
    assert found == [f"10.8.0.{at}/24" for at in (10, 11, 20, 21)]
    said = runtime.ask("ADD", "more", spaces[4].path, code=1, **several)["msg"]
    assert said.endswith("all of 10.8.0.10-10.8.0.11, 10.8.0.20-10.8.0.21 are taken")
    runtime.ask("DEL", "s1", spaces[1].path, **several)
    assert runtime.ask("ADD", "more", spaces[4].path, **several)["ips"][0]["address"] == "10.8.0.11/24"
    for ipam, where in (
        ({"type": "dhcp"}, ".ipam.type"), ({"subnet": "10.7.0.0/24", "gateway": "10.9.0.1"}, ".ipam.gateway"),
        ({"ranges": [[subnet, {"subnet": "10.9.0.0/24"}]]}, ".ranges[0][1].subnet"),
    ):  # fmt: skip
        assert where in runtime.ask("ADD", "bad", a.path, code=1, name="bad", ipam=ipam)["msg"]


def test_gc_and_status(machine: Machine, runtime: Runtime) -> None:
    spaces = [machine.space(name) for name in "abc"]
    for space in spaces:
        runtime.ask("ADD", container=space.name, netns=space.path)
    people = machine.space("d")
    machine.net("attach", "k8s", people.path)
    valid = [{"containerID": "b", "ifname": "eth0"}]
    runtime.ask("GC", **{"cni.dev/valid-attachments": valid})
    assert ["eth0" in space.ip("link") for space in [*spaces, people]] == [False, True, False, True]
    runtime.ask("STATUS")
    machine.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    assert runtime.ask("STATUS", code=1)["code"] == 50


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"cniVersion": "9.0.0"}, 1),
        ({"name": "../x"}, 7),
        ({"mtu": "big"}, 7),
        ({"ipam": {"ranges": [[{"subnet": "x"}]]}}, 7),
        ({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}, 7),
        ({"runtimeConfig": {"portMappings": ["80"]}}, 7),
        ({"runtimeConfig": {"portMappings": 5}}, 7),
        ({"runtimeConfig": {"ips": [5]}}, 7),
        ({"ipam": 5}, 7),
        ({"env": {"CNI_CONTAINERID": ""}}, 4),
        ({"env": {"CNI_CONTAINERID": "../x"}}, 4),
        ({"env": {"CNI_CONTAINERID": "-x"}}, 4),
        ({"env": {"CNI_IFNAME": "a/b"}}, 4),
        ({"env": {"CNI_COMMAND": "NOPE"}}, 4),
        ({"env": {"CNI_NETNS": "/nowhere"}}, 100),
        ({"env": {"CNI_NETNS": "/proc/self/ns/net"}}, 100),
    ],
)
def test_errors_have_the_specifications_numbers(machine: Machine, runtime: Runtime, change: Any, code: int) -> None:
    said = runtime.ask("ADD", **{"netns": machine.space("a").path, **change}, code=1)
    assert said["code"] == code and said["msg"]
    assert machine.net("ls", "--filter", "name=k8s", "--fields", "containers") in ("0", "")


@pytest.mark.needs("skopeo", "containerd", "ctr", "runc")
def test_containerd_joins_by_it(machine: Machine, outside: Space, busybox: Path) -> None:
    """containerd's own libcni, with the directories that every runtime has."""
    work, group = machine.directory, f"cni-{machine.process.pid}"
    (work / "net.d").mkdir()
    document = {"cniVersion": "1.0.0", "name": "k8s", "plugins": [{"type": "oci-net"}]}
    (work / "net.d/10-oci.conflist").write_text(json.dumps(document))
    machine.run("sh", "-ec", f"mount -t tmpfs none /opt; mkdir -p /opt/cni/bin /etc/cni/net.d; mount --bind {work}/net.d "
                f"/etc/cni/net.d; ln -s {machine.oci.bin}/oci-net {PLUGINS}/loopback /opt/cni/bin/")  # fmt: skip
    (work / "config.toml").write_text(
        f'version = 2\nroot = "{work}/c"\nstate = "{work}/s"\n[grpc]\naddress = "{work}/a"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\npath = "{work}/opt"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    )
    machine.run("skopeo", "copy", "-q", f"oci:{busybox}:latest", f"oci-archive:{work}/bb.tar:bb:latest")
    log = open(work / "log", "wb")  # noqa: SIM115
    words = [*machine.enter, "containerd", "-c", f"{work}/config.toml"]
    machine.started.append(subprocess.Popen(words, env=machine.oci.environment(), stderr=log))
    machine.until(lambda: "successfully booted" in (work / "log").read_text())
    ctr = ["ctr", "-a", f"{work}/a"]
    machine.run(*ctr, "image", "import", "--snapshotter", "native", "--base-name", "bb", f"{work}/bb.tar")
    name = machine.run(*ctr, "image", "ls", "-q").stdout.split()[0]
    how = ["run", "--rm", "--cni", "--snapshotter", "native", "--cgroup", f"/{group}", "--runc-root", f"{work}/runc"]
    said = machine.run(*ctr, *how, name, "c1", "sh", "-c", "ip -o -4 addr; ip route").stdout
    assert "10.89.0.2/20" in said and "default via 10.89.0.1" in said
    assert machine.net("ls", "--filter", "name=k8s", "--fields", "containers") == "0"  # it says DEL at the end
