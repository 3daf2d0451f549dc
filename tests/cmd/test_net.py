"""oci-net as people type it: networks as files, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


def network(home: dict[str, str], name: str) -> Path:
    return Path(home["OCI_ROOT"]) / "networks" / f"{name}.conflist"


def test_a_network_is_a_file(oci: Any, home: dict[str, str]) -> None:
    words = ["--subnet", "10.201.7.0/24", "--ipv6", "--internal", "--isolate=false", "--mtu", "1300"]
    words += ["--label", "a=b", "-o", "com.docker.network.bridge.name=mybr", "-o", "x=y", "--dns", "192.0.2.53"]
    assert oci("net", "create", *words, "web").stdout == "web\n"
    made = json.loads(network(home, "web").read_text())
    plugin = made["plugins"][0]
    assert made["cniVersion"] == "1.0.0" and made["name"] == "web" and plugin["type"] == "oci-net"
    assert plugin["bridge"] == "mybr" and plugin["internal"] is True and plugin["isolate"] is False
    assert plugin["ipam"]["ranges"][0] == [{"subnet": "10.201.7.0/24", "gateway": "10.201.7.1"}]
    assert plugin["ipam"]["ranges"][1][0]["subnet"].startswith("fd")
    shown = json.loads(oci("net", "inspect", "--json", "web").stdout)
    assert shown["labels"] == {"a": "b"} and shown["options"] == {"com.docker.network.bridge.name": "mybr", "x": "y"}
    assert shown["ipv6"] and shown["mtu"] == 1300 and shown["dns"] == ["192.0.2.53"] and shown["containers"] == {}
    assert len(shown["id"]) == 64
    assert json.loads(oci("net", "inspect", shown["id"][:10]).stdout) == shown
    assert network(home, "web").stat().st_mode & 0o777 == 0o600


def test_lists(oci: Any) -> None:
    for name in ("one", "two"):
        oci("net", "create", "--label", f"n={name}", name)
    assert [line.split("\t")[0] for line in oci("net", "ls").stdout.splitlines()] == ["bridge", "one", "two"]
    assert oci("net", "ls", "--filter", "label=n=two", "--fields", "name").stdout == "two\n"
    assert oci("net", "ls", "--filter", "label=n", "--filter", "name=on", "--fields", "name").stdout == "one\n"
    assert [json.loads(line)["name"] for line in oci("net", "ls", "--json").stdout.splitlines()] == ["bridge", "one", "two"]
    assert "no such field" in oci("net", "ls", "--fields", "nope", code=2).stderr
    assert oci("net", "ls", "--filter", "name=^t.o$", "--filter", "name=^o$", "--fields", "name").stdout == "two\n"
    assert oci("net", "ls", "--filter", "label=n=two", "--filter", "label=n=one", "--fields", "name").stdout == ""
    assert "invalid filter" in oci("net", "ls", "--filter", "nope=1", code=2).stderr
    assert "invalid filter 'name=('" in oci("net", "ls", "--filter", "name=(", code=2).stderr


def test_remove_and_prune(oci: Any, home: dict[str, str]) -> None:
    for name in ("one", "two", "three"):
        oci("net", "create", "--label", f"n={name}", name)
    assert oci("net", "rm", "one").stdout == "one\n"
    assert not network(home, "one").exists()
    assert oci("net", "rm", "one", code=1).stderr == "oci-net: no such network 'one' (oci-net ls shows those that there are)\n"
    oci("net", "rm", "-f", "one")
    assert oci("net", "prune", "--filter", "label=n=two").stdout == "two\n"
    assert oci("net", "prune").stdout == "three\n"
    assert oci("net", "ls", "--fields", "name").stdout == "bridge\n"  # exists without being asked for


def test_subnets_do_not_meet(oci: Any) -> None:
    for number in range(5):
        oci("net", "create", f"n{number}")
    found = [json.loads(line)["subnets"][0]["subnet"] for line in oci("net", "ls", "--json").stdout.splitlines()]
    assert len(set(found)) == 6


def test_a_list_of_plugins_of_others(oci: Any, home: dict[str, str]) -> None:
    theirs = {"cniVersion": "0.4.0", "name": "x", "plugins": [{"type": "bridge", "bridge": "cni9"}, {"type": "tuning"}]}
    oci("net", "create", "--from", "-", "other", input=json.dumps(theirs))
    made = json.loads(network(home, "other").read_text())
    assert made["plugins"] == theirs["plugins"] and made["cniVersion"] == "0.4.0" and made["name"] == "other"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/b"], "invalid network name 'a/b' (letters, digits, '_', '.', '-' and spaces between)"),
        (["a\nb"], "invalid network name 'a\\nb' (letters, digits, '_', '.', '-' and spaces between)"),
        ([".x"], "invalid network name '.x' (letters, digits, '_', '.', '-' and spaces between)"),
        (["host"], "network name is reserved 'host'"),
        (["bridge"], "network name is reserved 'bridge'"),
        (["--subnet", "10.1.2.3/24", "x"], "invalid subnet '10.1.2.3/24' (10.1.2.0/24 is meant?)"),
        (["--subnet", "10.1.2.0", "x"], "invalid subnet '10.1.2.0' (ADDRESS/BITS)"),
        (["--subnet", "10.1.2.0/33", "x"], "invalid subnet '10.1.2.0/33': the prefix is longer than 32 bits"),
        (["--subnet", "10.1.2.0/32", "x"],
         "invalid subnet '10.1.2.0/32': it has no room for a gateway and a container"),
        (["--subnet", "224.1.2.0/24", "x"], "invalid subnet '224.1.2.0/24': no host can have an address of it"),
        (["--subnet", "fe80:1::/64", "x"], "invalid subnet 'fe80:1::/64': no host can have an address of it"),
        (["--subnet", "10.1.0.0/16", "--subnet", "10.1.2.0/24", "x"], "two subnets of one kind '10.1.2.0/24'"),
        (["--gateway", "10.1.2.1", "--subnet", "10.2.0.0/24", "x"],
         "gateway is in no subnet '10.1.2.1' (--subnet names it)"),
        (["--ip-range", "10.1.2.0/25", "--subnet", "10.2.0.0/24", "x"],
         "range is in no subnet '10.1.2.0/25' (--subnet names it)"),
        (["--opt", "com.docker.network.bridge.name=a-name-that-is-too-long", "x"],
         "invalid bridge name 'a-name-that-is-too-long' (at most 15 bytes, without '/', ':' and spaces)"),
        (["--dns", "nobody", "x"], "invalid address 'nobody'"),
        (["--opt", "mtu=big", "x"], "invalid value for option mtu 'big' (a number)"),
        (["--label", "=x", "x"], "invalid value for --label '=x' (NAME=VALUE)"),
    ],
)  # fmt: skip
def test_refused(oci: Any, words: list[str], said: str) -> None:
    done = oci("net", "create", *words, code=2)
    assert done.stderr == f"oci-net: {said}\n" and done.stdout == ""
    assert not os.path.exists(os.path.join(oci.env["OCI_ROOT"], "networks"))


def test_taken(oci: Any) -> None:
    oci("net", "create", "--subnet", "10.201.0.0/16", "one")
    assert oci("net", "create", "one", code=1).stderr == "oci-net: network exists 'one' (oci-net rm removes it)\n"
    assert oci("net", "create", "--subnet", "10.201.7.0/24", "two", code=1).stderr == (
        "oci-net: subnet is taken '10.201.7.0/24': it overlaps 10.201.0.0/16 of network one (another, or no --subnet: one that is free is found)\n"
    )
    shown = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True).stdout
    for route in [line.split()[0] for line in shown.splitlines() if "/" in line.split()[0]][:1]:
        assert "the host has a route to" in oci("net", "create", "--subnet", route, "two", code=1).stderr
    oci("net", "create", "-o", "com.docker.network.bridge.name=mybr", "two")
    assert "bridge belongs to a network 'mybr': to two" in (
        oci("net", "create", "-o", "com.docker.network.bridge.name=mybr", "three", code=1).stderr
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: "nonsense", "cannot read '{path}': not valid json: no value at character 0"),
        (lambda d: [], "{path}: expected an object, got []"),
        (lambda d: {**d, "name": "other"}, '{path}: name: expected "web", got "other"'),
        (lambda d: {**d, "plugins": []}, "{path}: plugins: expected at least 1 item, got []"),
        (lambda d: {**d, "plugins": [{"type": "../x"}]}, "{path}: plugins[0].type: expected a plugin's name, got \"../x\""),
        (lambda d: {**d, "plugins": [{**d["plugins"][0], "mtu": "x"}]},
         '{path}: plugins[0].mtu: expected an integer, got "x"'),
        (lambda d: {**d, "plugins": [{**d["plugins"][0], "bridge": "sixteen-bytes-xx"}]},
         '{path}: plugins[0].bridge: expected an interface\'s name of at most 15 bytes, got "sixteen-bytes-xx"'),
        (lambda d: {**d, "plugins": [{**d["plugins"][0], "ipam": {"ranges": [[{"subnet": "x"}]]}}]},
         '{path}: plugins[0].ipam.ranges[0][0].subnet: expected a subnet, got "x"'),
        (lambda d: {**d, "plugins": [{**d["plugins"][0], "ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "gateway": "9.9.9.9"}]]}}]},
         '{path}: plugins[0].ipam.ranges[0][0].gateway: expected an address in 10.0.0.0/24, got "9.9.9.9"'),
    ],
)  # fmt: skip
def test_edited_by_hand_into_nonsense(oci: Any, home: dict[str, str], change: Any, said: str) -> None:
    oci("net", "create", "web")
    path = network(home, "web")
    made = change(json.loads(path.read_text()))
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    expected = f"oci-net: {said.format(path=path)}\n"
    assert oci("net", "inspect", "web", code=1).stderr == expected
    assert oci("net", "ls", "--fields", "name").stdout == "bridge\n"  # the others are listed
    oci("net", "rm", "web")


def test_words_that_make_no_sense(oci: Any) -> None:
    oci("net", code=2)
    assert "unknown verb 'nope'" in oci("net", "nope", code=2).stderr
    assert oci("net", "attach", "nope", "/nowhere", code=1).stderr == "oci-net: no such network 'nope' (oci-net ls shows those that there are)\n"
    assert "no such container 'nope'" in oci("net", "attach", "bridge", "nope", code=1).stderr
    assert "cannot use network namespace '/nowhere'" in oci("net", "attach", "bridge", "/nowhere", code=1).stderr
    assert "invalid port 'x'" in oci("net", "attach", "-p", "x", "bridge", "/nowhere", code=2).stderr
    assert "invalid MAC address 'x'" in oci("net", "attach", "--mac", "x", "bridge", "/nowhere", code=2).stderr
    assert "no container has the name 'nobody'" in oci("net", "resolve", "nobody", code=1).stderr
