"""Networks through the API: the default bridge, names, published ports, and compose over all of it."""

from __future__ import annotations

import os
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.needs("docker", "nft", "nsenter")]


def inside(engine: Engine, *words: str, code: int = 0) -> str:
    """A command in the network of the daemon's host."""
    assert engine.process
    done = subprocess.run(["nsenter", "-n", "-t", str(engine.process.pid), *words], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_the_default_bridge(engine: Engine) -> None:
    container = engine.out("run", "-d", "--name", "br", "bb", "sleep", "1000")
    said = json.loads(engine.out("inspect", "br"))[0]
    settings = said["NetworkSettings"]
    assert said["HostConfig"]["NetworkMode"] == "bridge"
    address = settings["IPAddress"]
    assert address and settings["Networks"]["bridge"]["IPAddress"] == address
    assert address in engine.out("exec", "br", "ip", "-4", "addr", "show", "eth0")
    network = json.loads(engine.out("network", "inspect", "bridge"))[0]
    assert network["Containers"][container]["IPv4Address"].split("/")[0] == address
    _, usage = engine.request("GET", f"/containers/{container}/stats?stream=0", code=200)
    assert "eth0" in usage["networks"]
    engine.docker("stop", "-t", "0", "br")
    assert json.loads(engine.out("inspect", "br"))[0]["NetworkSettings"]["IPAddress"] == ""


def test_ports_are_published_and_told(engine: Engine) -> None:
    script = "while :; do echo hello | nc -l -p 80; done"
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1::81/udp", "bb", "sh", "-c", script)
    assert "8080->80/tcp" in engine.out("ps", "--format", "{{.Ports}}")
    assert engine.out("port", "web", "80").splitlines()[0] == "0.0.0.0:8080"
    assert engine.out("port", "web", "81/udp").startswith("127.0.0.1:")
    for _ in range(100):
        if "hello" in subprocess.run(
            ["nsenter", "-n", "-t", str(engine.process.pid), "busybox", "nc", "-w", "2", "127.0.0.1", "8080"],  # type: ignore[union-attr]
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        ).stdout:  # fmt: skip
            break
    else:
        raise AssertionError("nobody answered on the published port")


def test_networks_of_ones_own_names_connect_and_disconnect(engine: Engine) -> None:
    network = engine.out("network", "create", "--subnet", "10.210.0.0/24", "--label", "a=b", "own")
    assert engine.out("network", "ls", "-q", "--no-trunc", "-f", "label=a=b") == network
    assert "already exists" in engine.docker("network", "create", "own", code=1).stderr
    engine.docker("run", "-d", "--name", "one", "--network", "own", "--network-alias", "uno", "bb", "sleep", "1000")
    assert engine.out("run", "--rm", "--network", "own", "--ip", "10.210.0.50", "bb", "sh", "-c", "hostname -i; ping -c 1 -W 5 uno | head -1")
    said = json.loads(engine.out("inspect", "one"))[0]["NetworkSettings"]["Networks"]["own"]
    assert said["IPAddress"].startswith("10.210.0.") and said["NetworkID"] == network and "uno" in said["Aliases"]
    assert "active endpoints" in engine.docker("network", "rm", "own", code=1).stderr
    engine.docker("run", "-d", "--name", "two", "bb", "sleep", "1000")
    engine.docker("network", "connect", "own", "two")
    assert "10.210.0." in engine.out("exec", "two", "ip", "-4", "addr")
    assert "already exists in network" in engine.docker("network", "connect", "own", "two", code=1).stderr
    engine.docker("network", "disconnect", "own", "two")
    assert "10.210.0." not in engine.out("exec", "two", "ip", "-4", "addr")
    assert "is not connected" in engine.docker("network", "disconnect", "own", "two", code=1).stderr
    engine.docker("rm", "-f", "one", "two")
    engine.docker("network", "rm", "own")
    assert "not found" in engine.docker("network", "inspect", "own", code=1).stderr
    assert "pre-defined" in engine.docker("network", "rm", "bridge", code=1).stderr


COMPOSE = """
services:
  web:
    build: ./web
    depends_on:
      db: {condition: service_healthy}
    command: sh -c 'cat /data/from-db; wget -q -O - http://db:8000/index.html; sleep 1000'
    volumes: ["data:/data"]
    networks: [back]
    labels: {tier: front}
  db:
    image: bb
    command: sh -c 'echo kept > /data/from-db; mkdir /www; echo served > /www/index.html; httpd -f -p 8000 -h /www'
    volumes: ["data:/data"]
    networks: {back: {aliases: [database]}}
    healthcheck: {test: "test -s /data/from-db", interval: 200ms, retries: 20}
networks:
  back: {ipam: {config: [{subnet: 10.211.0.0/24}]}}
volumes:
  data: {}
"""


@pytest.mark.needs("docker-compose")
def test_what_a_container_publishes_follows_it_from_network_to_network(engine: Engine) -> None:
    """Its ports are its own, and its files say where it is now: left, joined again, another in its place, restarted."""
    for network in ("one", "two"):
        engine.docker("network", "create", network)
    script = "while :; do echo hello | nc -l -p 80; done"
    engine.docker("run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "bb", "sh", "-c", script)
    engine.docker("run", "-d", "--name", "other", "--network", "two", "bb", "sleep", "1000")

    def answers() -> bool:
        """Whether the published port does; the container's loop may be between two connections."""
        words = ["busybox", "nc", "-w", "2", "127.0.0.1", "8080"]
        return any("hello" in asked.stdout for asked in (
            subprocess.run(["nsenter", "-n", "-t", str(engine.process.pid), *words], capture_output=True, text=True,  # type: ignore[union-attr]
                           stdin=subprocess.DEVNULL) for _ in range(20)))  # fmt: skip

    def files(network: str) -> bool:
        address = json.loads(engine.out("inspect", "web"))[0]["NetworkSettings"]["Networks"][network]["IPAddress"]
        lines = [line.split() for line in engine.out("exec", "web", "cat", "/etc/hosts").splitlines() if "web" in line]
        return [line[0] for line in lines] == [address]

    assert answers() and files("one")
    engine.docker("network", "disconnect", "one", "web")
    assert engine.out("port", "web") == "" and "web" not in engine.out("exec", "web", "cat", "/etc/hosts")
    engine.docker("network", "connect", "one", "web")
    assert answers() and files("one") and engine.out("port", "web", "80").startswith("0.0.0.0:8080")
    engine.docker("network", "connect", "two", "web")
    engine.docker("network", "disconnect", "one", "web")
    assert answers() and files("two")
    assert "Address" in engine.out("exec", "web", "nslookup", "other"), "it asks the resolver of where it is"
    engine.docker("restart", "-t", "0", "web")
    assert answers() and files("two")
    engine.docker("network", "create", "--internal", "closed")
    engine.docker("network", "disconnect", "two", "web")
    engine.docker("network", "connect", "closed", "web")
    assert engine.out("port", "web") == ""
    engine.docker("restart", "-t", "0", "web")
    engine.docker("network", "connect", "two", "web")
    assert answers()
    engine.docker("rm", "-f", "web", "other")
    engine.docker("network", "rm", "one", "two", "closed")


def test_what_moby_has_of_bridges(engine: Engine) -> None:
    """Cases of moby's own tests: a subnet of two with no gateway, names of links, ranges at the end of 64 bits, no IPv4."""
    ping = ("ping", "-c1", "-W3", "one")
    for option in ("gateway_mode_ipv4=isolated", "inhibit_ipv4=true"):
        engine.docker("network", "create", "--subnet", "192.168.135.0/31", "--internal", "-o", f"com.docker.network.bridge.{option}", "two")
        engine.docker("run", "-d", "--name", "one", "--network", "two", "bb", "sleep", "1000")
        address = json.loads(engine.out("inspect", "one"))[0]["NetworkSettings"]["Networks"]["two"]["IPAddress"]
        assert "1 packets received" in engine.out("run", "--rm", "--network", "two", "--add-host", f"one:{address}", "bb", *ping)
        engine.docker("rm", "-f", "one")
        engine.docker("network", "rm", "two")
    for subnet, part, expected in (
        ("fda9:8d04:086e::/64", "fda9:8d04:086e::ffff:ffff:ffff:ff0e/127", "fda9:8d04:86e:0:ffff:ffff:ffff:ff0"),
        ("fda9:8d04:086e::/64", "fda9:8d04:086e::ffff:ffff:ffff:fffe/127", "fda9:8d04:86e:0:ffff:ffff:ffff:fff"),
        ("fda9:8d04:086e::/56", "fda9:8d04:086e:aa:ffff:ffff:ffff:fffe/127", "fda9:8d04:86e:aa:ffff:ffff:ffff:fff"),
    ):
        engine.docker("network", "create", "--ipv6", "--subnet", subnet, "--ip-range", part, "range")
        assert expected in engine.out("run", "--rm", "--network", "range", "bb", "ip", "-6", "addr", "show", "eth0")
        engine.docker("network", "rm", "range")
    engine.docker("network", "create", "-o", "com.docker.network.container_iface_prefix=lan", "named")
    assert "lan0@" in engine.out("run", "--rm", "--network", "named", "bb", "ip", "link")
    end = "name=named,driver-opt=com.docker.network.endpoint.ifname=foobar"
    assert "foobar@" in engine.out("run", "--rm", "--network", end, "bb", "ip", "link", "show", "foobar")
    engine.request("POST", "/networks/create", {"Name": "six", "EnableIPv4": False, "EnableIPv6": True}, code=201)
    shown = json.loads(engine.out("network", "inspect", "six"))[0]
    assert [each["Subnet"][:2] for each in shown["IPAM"]["Config"]] == ["fd"] and shown["EnableIPv6"]
    assert engine.request("GET", "/networks/six", code=200)[1]["EnableIPv4"] is False
    assert "inet " not in engine.out("run", "--rm", "--network", "six", "bb", "ip", "addr", "show", "eth0")
    engine.docker("network", "rm", "named", "six")


def test_addresses_that_are_kept_and_names_that_are_like(engine: Engine) -> None:
    """--aux-address: nobody gets it, inspect tells it; names and ids of filters are regular expressions."""
    wrong = {"Name": "own", "IPAM": {"Config": [{"Subnet": "10.210.0.0/24", "AuxiliaryAddresses": {"x": "10.9.0.1"}}]}}
    _, said = engine.request("POST", "/networks/create", wrong, code=400)
    assert "invalid auxiliary address 10.9.0.1: parent subnet 10.210.0.0/24 doesn't contain this address" in said["message"]
    made = engine.out("network", "create", "--subnet", "10.210.0.0/24", "--subnet", "fd00:9::/64", "--ipv6", "--aux-address",
                      "a=10.210.0.2", "--aux-address", "b=fd00:9::2", "--gateway", "fd00:9::9", "own")  # fmt: skip
    config = json.loads(engine.out("network", "inspect", "own"))[0]["IPAM"]["Config"]
    kept = [each["AuxiliaryAddresses"] for each in sorted(config, key=lambda each: str(each["Subnet"]))]
    assert kept == [{"a": "10.210.0.2"}, {"b": "fd00:9::2"}]  # docker sends them in any order
    engine.docker("run", "-d", "--name", "one", "--network", "own", "bb", "sleep", "1000")
    end = json.loads(engine.out("inspect", "one"))[0]["NetworkSettings"]["Networks"]["own"]
    assert end["IPAddress"] == "10.210.0.3" and end["GlobalIPv6Address"] == "fd00:9::1", end
    done = engine.docker("run", "--network", "own", "--link-local-ip", "169.254.8.8", "bb", "true", code=125)
    assert "link-local addresses are not supported" in done.stderr
    engine.docker("network", "create", "other")
    assert engine.out("network", "ls", "-q", "--no-trunc", "-f", "name=^o.n$") == made
    assert engine.out("network", "ls", "-q", "--no-trunc", "-f", f"id={made[10:30]}") == made
    assert engine.out("network", "ls", "-q", "-f", "name=^wn$") == ""
    for name in ("data1", "data22"):
        engine.docker("volume", "create", name)
    assert engine.out("volume", "ls", "-q", "-f", "name=^data.$") == "data1"
    engine.docker("volume", "rm", "data1", "data22")
    engine.docker("rm", "-f", "one")
    engine.docker("network", "rm", "own", "other")


def test_compose_from_up_to_down(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text("FROM bb\nRUN echo built > /built\n")
    (tmp_path / "compose.yaml").write_text(COMPOSE)

    def compose(*words: str, code: int = 0) -> Any:
        argv = ["docker-compose", "-p", "proj", "-f", f"{tmp_path}/compose.yaml", *words]
        done = subprocess.run(argv, env=engine.env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    compose("up", "-d")
    listed = {each["Service"]: each for each in map(json.loads, compose("ps", "--format", "json").splitlines())}
    assert set(listed) == {"web", "db"} and listed["db"]["Health"] == "healthy"
    for _ in range(100):
        if "served" in (text := compose("logs", "--no-log-prefix", "web")):
            break
    assert text.replace("\x1b[2K", "").split() == ["kept", "served"]
    assert compose("exec", "-T", "web", "cat", "/built") == "built\n"
    assert compose("run", "--rm", "-T", "--no-deps", "web", "echo", "once") == "once\n"
    assert "proj" in compose("ls", "--format", "json")
    assert engine.out("ps", "-q", "--filter", "label=com.docker.compose.project=proj").count("\n") == 1
    compose("restart", "-t", "0", "web")
    compose("stop", "-t", "0")
    compose("start")
    compose("down", "-v", "-t", "0")
    assert engine.out("ps", "-aq") == "" and engine.out("volume", "ls", "-q") == ""
    assert "proj_back" not in engine.out("network", "ls", "--format", "{{.Name}}")
    engine.docker("rmi", "-f", "proj-web")


def test_links(engine: Engine) -> None:
    """Of docker's old kind on the bridge: names, variables, and a name that follows the other over a new start."""
    words = ("-e", "KEY=value", "--expose", "80", "bb", "sleep", "1000")
    engine.docker("run", "-d", "--name", "db", *words)
    engine.docker("run", "-d", "--name", "web", "--link", "db:my-data", "bb", "sleep", "1000")
    address = engine.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db")
    assert engine.out("inspect", "-f", "{{.HostConfig.Links}}", "web") == "[/db:/web/my-data]"
    seen = engine.out("exec", "web", "sh", "-c", "env; cat /etc/hosts").splitlines()
    short = engine.out("ps", "-q", "--filter", "name=db")
    assert {
        "MY_DATA_NAME=/web/my-data", "MY_DATA_ENV_KEY=value", f"MY_DATA_PORT=tcp://{address}:80",
        f"MY_DATA_PORT_80_TCP_ADDR={address}", "MY_DATA_PORT_80_TCP_PORT=80", "MY_DATA_PORT_80_TCP_PROTO=tcp",
        f"{address}\tmy-data db {short}\t# by oci-net",
    } <= {*seen}  # fmt: skip
    engine.docker("stop", "-t", "0", "db")
    engine.docker("run", "-d", "bb", "sleep", "1000")  # has its address now
    engine.docker("start", "db")
    now = engine.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db")
    assert f"{now}\tmy-data" in engine.out("exec", "web", "cat", "/etc/hosts")
    assert "No such container" in engine.docker("run", "--link", "nobody", "bb", "true", code=125).stderr


def test_links_of_a_network(engine: Engine) -> None:
    """As compose asks for: made before the other runs."""
    engine.docker("network", "create", "linked")
    try:
        engine.docker("create", "--name", "db", "--network", "linked", "bb", "sleep", "1000")
        engine.docker("create", "--name", "web", "--network", "linked", "--link", "db:data", "bb", "grep", "data", "/etc/hosts")
        engine.docker("start", "db")
        assert "\tdata db " in engine.out("start", "-a", "web")
        engine.clean()
    finally:
        engine.docker("network", "rm", "linked")


def test_who_left_the_last_network_leaves_nothing(engine: Engine) -> None:
    """Its namespace goes with it; and where it is connected again it is after a new start."""
    pins = f"{engine.oci_env['OCI_RUN']}/netns"
    before = set(os.listdir(pins)) if os.path.isdir(pins) else set()
    engine.docker("network", "create", "left")
    try:
        one = engine.out("run", "-d", "--network", "left", "bb", "sleep", "1000")
        engine.docker("network", "disconnect", "left", one)
        engine.docker("restart", "-t", "0", one)
        assert "eth0" not in engine.out("exec", one, "ip", "addr")
        engine.docker("rm", "-f", one)
        assert set(os.listdir(pins)) == before
        two = engine.out("run", "-d", "--network", "left", "bb", "sleep", "1000")
        engine.docker("network", "disconnect", "left", two)
        engine.docker("network", "connect", "left", two)
        engine.docker("restart", "-t", "0", two)
        assert "eth0" in engine.out("exec", two, "ip", "addr")
        engine.docker("rm", "-f", two)
        assert set(os.listdir(pins)) == before
    finally:
        engine.clean()
        engine.docker("network", "rm", "left")
