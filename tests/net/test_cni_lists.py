"""Network configuration lists as libcni reads and runs them: versions, switches, plugins in files, the five verbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.net.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.needs("nft", "ip", "nsenter")]

# Writes down what it is asked, and answers with the file ANSWER-COMMAND beside it, or fails with FAIL-COMMAND.
PLUGIN = """#!/bin/sh
here=$(dirname "$0") name=$(basename "$0")
conf=$(cat)
printf '{"name": "%s", "command": "%s", "container": "%s", "netns": "%s", "ifname": "%s", "args": "%s", "conf": %s}\\n' \
    "$name" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$conf" >> "$here/log"
[ ! -e "$here/fail-$name-$CNI_COMMAND" ] || { cat "$here/fail-$name-$CNI_COMMAND"; exit 1; }
[ $CNI_COMMAND != ADD ] || cat "$here/answer-$name"
"""


class Plugins:
    """Programs that look like plugins."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.place = machine.directory / "cni"
        self.place.mkdir()
        self.env = {"CNI_PATH": str(self.place)}

    def make(self, name: str, **answer: Any) -> dict[str, Any]:
        (self.place / name).write_text(PLUGIN)
        (self.place / name).chmod(0o755)
        (self.place / f"answer-{name}").write_text(json.dumps({"cniVersion": "1.0.0", **answer}))
        return {"type": name}

    def create(self, network: str, **document: Any) -> None:
        text = json.dumps({"cniVersion": "1.1.0", "name": "x", **document})
        self.machine.net("create", "--from", "-", network, input=text)

    def net(self, *words: str) -> str:
        return self.machine.net(*words, env=self.env)

    def fails(self, *words: str) -> str:
        return self.machine.fails(*words, env=self.env)

    def fail(self, name: str, command: str, **said: Any) -> None:
        (self.place / f"fail-{name}-{command}").write_text(json.dumps({"code": 100, **said}))

    def log(self) -> list[dict[str, Any]]:
        """What was asked since the last look."""
        path = self.place / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def plugins(machine: Machine) -> Plugins:
    return Plugins(machine)


def asked(log: list[dict[str, Any]]) -> list[str]:
    return [f"{each['command']} {each['name']}" for each in log]


def test_the_verbs_go_through_a_list_as_libcni_does(machine: Machine, plugins: Plugins) -> None:
    first = {"ips": [{"address": "10.7.0.9/24", "gateway": "10.7.0.1"}]}
    chain = [plugins.make("one", **first), plugins.make("two", **first, dns={"domain": "x"})]
    chain[0]["args"] = {"cni": {"x": 1}}
    plugins.create("n", plugins=chain)
    a = machine.space("a")
    assert plugins.net("attach", "n", a.path) == "eth0\t10.7.0.9/24"
    one, two = plugins.log()
    assert [one["name"], two["name"]] == ["one", "two"] and {one["command"], two["command"]} == {"ADD"}
    assert one["netns"] == a.path and one["ifname"] == "eth0" and one["container"] == two["container"]
    assert one["conf"] == {"type": "one", "args": {"cni": {"x": 1}}, "cniVersion": "1.1.0", "name": "n"}
    assert two["conf"]["prevResult"] == {"cniVersion": "1.0.0", **first}
    plugins.net("check")
    log = plugins.log()
    assert asked(log) == ["STATUS one", "STATUS two", "CHECK one", "CHECK two"]
    assert log[0]["container"] == log[0]["ifname"] == "" and "prevResult" not in log[0]["conf"]
    assert log[2]["conf"]["prevResult"]["dns"] == {"domain": "x"}  # of the whole list
    plugins.net("prune")
    log = plugins.log()
    assert asked(log) == ["GC one", "GC two"]
    assert log[0]["conf"]["cni.dev/valid-attachments"] == [{"containerID": one["container"], "ifname": "eth0"}]
    plugins.net("detach", "n", a.path)
    log = plugins.log()
    assert asked(log) == ["DEL two", "DEL one"] and log[1]["conf"]["prevResult"]["dns"] == {"domain": "x"}


def test_who_fails_is_named(machine: Machine, plugins: Plugins) -> None:
    plugins.create("n", plugins=[plugins.make("one"), plugins.make("two")])
    a = machine.space("a")
    plugins.net("attach", "n", a.path)
    plugins.fail("two", "CHECK", msg="no rule", details="in table x")
    plugins.log()
    said = plugins.fails("check", "n")
    assert said.startswith("network 'n', container a") and said.endswith("plugin two of network 'n': no rule: in table x")
    plugins.fail("one", "STATUS", code=50, msg="not now")
    assert plugins.fails("check", "n") == "network 'n': plugin one of network 'n': not now"
    assert asked(plugins.log()) == ["STATUS one", "STATUS two", "CHECK one", "CHECK two", "STATUS one"]


@pytest.mark.parametrize(
    ("document", "verbs"),
    [
        ({"cniVersion": "1.0.0"}, {"CHECK"}),
        ({"cniVersion": "0.3.1"}, set()),
        ({"cniVersion": "0.3.1", "cniVersions": ["1.0.0", "1.1.0", "99.0.0"]}, {"CHECK", "STATUS", "GC"}),
        ({"cniVersion": "1.1.0", "disableCheck": True}, {"STATUS", "GC"}),
        ({"cniVersion": "1.1.0", "disableGC": "True"}, {"CHECK", "STATUS"}),
        ({"cniVersion": "1.1.0", "disableCheck": "false"}, {"CHECK", "STATUS", "GC"}),
    ],
)
def test_versions_and_switches(machine: Machine, plugins: Plugins, document: dict[str, Any], verbs: set[str]) -> None:
    plugins.create("n", plugins=[plugins.make("one")], **document)
    a = machine.space("a")
    plugins.net("attach", "n", a.path)
    plugins.net("check", "n")
    plugins.net("prune")
    plugins.net("detach", "n", a.path)
    log = plugins.log()
    assert {each["command"] for each in log} == {"ADD", "DEL", *verbs}
    version = "1.1.0" if "cniVersions" in document else document["cniVersion"]
    assert {each["conf"]["cniVersion"] for each in log} == {version}
    assert ("prevResult" in log[-1]["conf"]) == (version != "0.3.1")


def test_capabilities(machine: Machine, plugins: Plugins) -> None:
    """What a plugin is told is what it says it can do, and what there is."""
    able = {"ips": True, "mac": True, "portMappings": True, "aliases": True, "bandwidth": True}
    chain = [
        plugins.make("one") | {"capabilities": able},
        plugins.make("two") | {"capabilities": {"mac": False, "aliases": True}},
        plugins.make("three"),
    ]
    plugins.create("n", plugins=chain)
    a = machine.space("a")
    words = ["--ip", "10.7.0.9", "--mac", "02:00:00:00:00:09", "-p", "8080:80", "--alias", "www"]
    plugins.net("attach", *words, "n", a.path)
    one, two, three = (each["conf"] for each in plugins.log())
    mapping = {"hostIP": "0.0.0.0", "hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
    assert one["runtimeConfig"] == {
        "portMappings": [mapping], "aliases": {"n": ["www"]}, "mac": "02:00:00:00:00:09", "ips": ["10.7.0.9"],
    }  # fmt: skip
    assert two["runtimeConfig"] == {"aliases": {"n": ["www"]}} and "runtimeConfig" not in three
    assert not any("capabilities" in each for each in (one, two, three))
    plugins.create("m", plugins=[plugins.make("one")])
    said = plugins.fails("attach", "--ip", "10.7.0.9", "m", machine.space("b").path)
    assert said.startswith("cannot ask for an address in network 'm': its plugins do not take one")


def test_plugins_in_files_of_their_own(machine: Machine, plugins: Plugins) -> None:
    place = Path(machine.oci.env["OCI_ROOT"], "networks/n")
    plugins.create("n", plugins=[plugins.make("one")])
    place.mkdir()
    for name in ("three", "two"):
        (place / f"{len(name)}-{name}.conf").write_text(json.dumps(plugins.make(name)))
    (place / "9.json").write_text("nonsense that is none of it")
    a = machine.space("a")
    plugins.net("attach", "n", a.path)
    plugins.net("detach", "n", a.path)
    assert asked(plugins.log()) == ["ADD one", "ADD two", "ADD three", "DEL three", "DEL two", "DEL one"]
    where = place.parent / "n.conflist"
    document = json.loads(where.read_text())
    where.write_text(json.dumps({**document, "loadOnlyInlinedPlugins": True}))
    plugins.net("attach", "n", a.path)
    plugins.net("detach", "n", a.path)
    assert asked(plugins.log()) == ["ADD one", "DEL one"]
    del document["plugins"]
    where.write_text(json.dumps(document))
    plugins.net("attach", "n", a.path)
    assert asked(plugins.log()) == ["ADD two", "ADD three"]
    plugins.net("detach", "n", a.path)
    (place / "3-two.conf").write_text("{}")
    assert plugins.fails("attach", "n", a.path) == f"{place}/3-two.conf: type: missing"
    plugins.net("rm", "n")
    assert not place.exists()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"cniVersion": 1}, "cniVersion: expected a string, got 1"),
        ({"cniVersion": "one"}, 'cniVersion: expected a version, got "one"'),
        ({"cniVersions": "1.0.0"}, 'cniVersions: expected an array, got "1.0.0"'),
        ({"cniVersions": ["1.0.0", 1]}, "cniVersions[1]: expected a version, got 1"),
        ({"disableCheck": "maybe"}, 'disableCheck: expected true or false, got "maybe"'),
        ({"disableGC": 1}, "disableGC: expected true or false, got 1"),
        ({"loadOnlyInlinedPlugins": True, "plugins": 5}, "plugins: expected an array, got 5"),
        ({"plugins": []}, "plugins: expected at least 1 item, got []"),
        ({"plugins": [{"type": "a/b"}]}, 'plugins[0].type: expected a plugin\'s name, got "a/b"'),
        ({"plugins": [{"type": "a", "capabilities": {"ips": 1}}]},
         "plugins[0].capabilities.ips: expected true or false, got 1"),
        ({"plugins": [{"type": "a"}, {"type": "oci-net"}]},
         "plugins[1].type: oci-net is the first of its list, or not in it"),
    ],
)  # fmt: skip
def test_what_is_no_list(machine: Machine, document: dict[str, Any], said: str) -> None:
    text = json.dumps({"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "a"}], **document})
    assert machine.fails("create", "--from", "-", "n", input=text) == f"standard input: {said}"
    assert machine.net("ls", "--fields", "name") == "bridge"


def test_an_old_plugin(machine: Machine, plugins: Plugins) -> None:
    """Results before version 0.3 have an address of each kind."""
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.7.0.9/24", "gateway": "10.7.0.1"}, "ip6": {"ip": "fd00::9/64"}}
    plugins.create("n", plugins=[plugins.make("one", **old)], cniVersion="0.2.0")
    assert plugins.net("attach", "n", machine.space("a").path) == "eth0\t10.7.0.9/24\tfd00::9/64"


def test_check_of_our_own(machine: Machine) -> None:
    machine.net("create", "--subnet", "10.7.0.0/24", "web")
    a = machine.space("a")
    machine.net("attach", "--name", "db", "web", a.path)
    machine.net("check")
    a.ip("route", "del", "default")
    assert machine.fails("check", "web") == "network 'web', container db: default route is missing '10.7.0.1'"
    machine.run("nft", "flush", "ruleset")
    said = machine.fails("check", "web")
    assert said == "network 'web', container db: default route is missing '10.7.0.1'"
    a.ip("route", "add", "default", "via", "10.7.0.1")
    assert machine.fails("check", "web") == "network 'web', container db: the firewall lacks the network's rules 'web'"
    machine.net("reload")
    machine.net("check", "web")
    a.ip("link", "del", "eth0")
    assert machine.fails("check", "web") == "network 'web', container db: interface is missing or down 'eth0'"


def test_the_hosts_own_namespace_is_no_containers(machine: Machine) -> None:
    machine.net("create", "web")
    said = machine.fails("attach", "web", "/proc/self/ns/net")
    assert said == "cannot use network namespace '/proc/self/ns/net': it is the host's"
