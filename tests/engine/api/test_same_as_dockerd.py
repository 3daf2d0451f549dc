"""The same words through dockerd and through `ocid`: what people see is equal, and documents agree field by field.

What must differ (ids, times, addresses, paths, versions) is compared by its type; DIFFERENT names what else does, and why.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.needs("docker", "dockerd", "skopeo")]
# Fields whose values are not the same, and should not be.
DIFFERENT = {
    "GraphDriver", "Driver", "LogPath", "ResolvConfPath", "HostnamePath", "HostsPath", "SandboxKey", "CgroupnsMode",
    "MaskedPaths", "ReadonlyPaths",  # ours hide more, as later versions of docker do
    "Size", "VirtualSize", "SizeRootFs",  # of layers as they are stored, which are compressed here
    "Comment", "RepoDigests", "DNSNames", "Metadata", "Ports", "Gateway", "Mode", "Propagation",
}  # fmt: skip
EMPTY = f"sha256:{hashlib.sha256(bytes(10240)).hexdigest()}"  # a layer without entries


def different(theirs: Any, ours: Any, where: str = "") -> list[str]:
    """Where two documents disagree: members that are missing, other types, other values of what should be the same."""
    name = where.rpartition(".")[2]
    if name in DIFFERENT:
        return []
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = [f"{where}.{key} is missing" for key in theirs if key not in ours and key not in DIFFERENT]
        return found + [line for key in theirs if key in ours for line in different(theirs[key], ours[key], f"{where}.{key}")]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for pair in zip(theirs, ours, strict=True) for line in different(*pair, where)]
    if variable(theirs) and variable(ours):
        return []
    return [] if theirs == ours else [f"{where}: {theirs!r}, ours {ours!r}"]


def variable(value: Any) -> bool:
    """Ids, times, addresses, pids: what no two runs have the same."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value > 1000
    return isinstance(value, str) and bool(
        re.fullmatch(r"(sha256:)?[0-9a-f]{12,64}|\d{4}-\d\d-\d\dT.*|(\d+\.){3}\d+(/\d+)?|([0-9a-f]{2}:){5}[0-9a-f]{2}", value)
    )


CREATES: list[list[str]] = [
    ["bb"],
    ["-e", "A=b", "-l", "x=y", "-w", "/tmp", "-u", "1:2", "-h", "hosty", "--entrypoint", "echo", "bb", "a", "b"],
    ["-it", "--rm", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "100", "--ulimit", "nofile=10:20", "bb", "sh"],
    ["--read-only", "--tmpfs", "/t:size=1m", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--init", "bb", "true"],
    ["--network", "none", "--dns", "1.2.3.4", "--add-host", "a:1.2.3.4", "--stop-signal", "INT", "--stop-timeout", "3", "bb"],
    ["--restart", "on-failure:3", "--health-cmd", "true", "--health-interval", "5s", "--health-retries", "2", "bb", "true"],
    ["-p", "127.0.0.1:8081:80", "--expose", "90", "--shm-size", "1m", "--sysctl", "net.ipv4.ip_forward=1", "bb"],
    ["-c", "1", "--runtime", "io.containerd.runc.v2", "-v", "/etc:/x:ro,consistent", "bb"],
    ["--privileged", "bb"], ["--ipc", "host", "bb"], ["--pid", "host", "--security-opt", "no-new-privileges", "bb"],
]  # fmt: skip


@pytest.mark.parametrize("words", CREATES, ids=lambda words: " ".join(words[:2]))
def test_what_was_created_is_told_alike(pair: tuple[Engine, Engine], words: list[str]) -> None:
    told = []
    for engine in pair:
        engine.docker("create", "--name", "same", *words)
        listed = engine.request("GET", "/containers/json?all=1", code=200)[1]
        told.append((json.loads(engine.out("inspect", "same"))[0], listed[0]))
        engine.docker("rm", "same")
    (theirs, their_line), (ours, our_line) = told
    assert "\n".join(different(theirs, ours)) == ""
    assert "\n".join(different(their_line, our_line)) == ""


SCRIPT: list[tuple[list[str], int]] = [
    (["run", "--rm", "--network", "none", "bb", "echo", "hello"], 0),
    (["run", "--rm", "--network", "none", "bb", "sh", "-c", "echo e >&2; exit 7"], 7),
    (["run", "--name", "kept", "--network", "none", "bb", "echo", "kept"], 0),
    (["logs", "kept"], 0),
    (["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.State}}"], 0),
    (["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Path}} {{.Args}}", "kept"], 0),
    (["start", "-a", "kept"], 0),
    (["wait", "kept"], 0),
    (["top", "kept"], 1),
    (["exec", "kept", "true"], 1),
    (["pause", "kept"], 1),
    (["kill", "kept"], 1),
    (["stop", "kept"], 0),
    (["rename", "kept", "other"], 0),
    (["rename", "other", "other"], 1),
    (["rm", "kept"], 1),
    (["diff", "other"], 0),
    (["rm", "other"], 0),
    (["start", "other"], 1),
    (["run", "--rm", "missing-image-of-nobody:x", "--pull", "never"], 125),
    (["run", "--rm", "--pull", "never", "missing:x"], 125),
    (["inspect", "nothing"], 1),
    (["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"], 0),
    (["tag", "bb", "team/two:x"], 0),
    (["images", "--format", "{{.Repository}}:{{.Tag}}", "team/two"], 0),
    (["image", "inspect", "-f", "{{.Id}} {{.Config.Cmd}} {{.RootFS.Type}}", "team/two:x"], 0),
    (["rmi", "team/two:x"], 0),
    (["rmi", "team/two:x"], 1),
    (["network", "create", "--subnet", "10.231.0.0/24", "n1"], 0),
    (["network", "create", "n1"], 1),
    (["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"], 0),
    (["network", "rm", "bridge"], 1),
    (["network", "rm", "n1"], 0),
    (["network", "rm", "n1"], 1),
    (["volume", "create", "v1"], 0),
    (["volume", "ls", "--format", "{{.Driver}} {{.Name}} {{.Scope}}"], 0),
    (["run", "--rm", "--network", "none", "-v", "v1:/v", "bb", "sh", "-c", "echo x > /v/f; cat /v/f"], 0),
    (["volume", "rm", "v1"], 0),
    (["volume", "rm", "v1"], 1),
    (["volume", "inspect", "v1"], 1),
    (["create", "--name", "early", "--network", "later", "bb", "echo", "on it"], 0),
    (["start", "early"], 1),
    (["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "early"], 0),
    (["network", "create", "--subnet", "10.231.0.0/24", "later"], 0),
    (["start", "-a", "early"], 0),
    (["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "early"], 0),
    (["network", "disconnect", "later", "early"], 0),
    (["network", "connect", "--alias", "x", "later", "early"], 0),
    (["start", "-a", "early"], 0),
    (["rm", "--link", "early"], 1),
    (["rm", "early"], 0),
    (["network", "rm", "later"], 0),
    (["create", "--name", "nobody", "-u", "nobody-at-all", "--network", "none", "bb", "true"], 0),
    (["start", "nobody"], 1),
    (["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.Config.User}}", "nobody"], 0),
    (["wait", "nobody"], 0),
    (["rm", "nobody"], 0),
    (["run", "--network", "none", "--name", "nowhere", "--network-alias", "x", "bb", "true"], 125),
    (["create", "--name", "busy", "--network", "none", "--cpus", "0.5", "bb", "sleep", "1000"], 0),
    (["update", "--cpus", "1.5", "busy"], 0),
    (["inspect", "-f", "{{.HostConfig.NanoCpus}} {{.HostConfig.CpuQuota}}", "busy"], 0),
    (["update", "--cpu-quota", "5000", "busy"], 1),
    (["update", "--cpuset-cpus", "999", "busy"], 1),
    (["update", "--restart", "sometimes", "busy"], 1),
    (["rm", "busy"], 0),
    (["container", "prune", "-f", "--filter", "until=24h"], 0),
    (["network", "prune", "-f", "--filter", "until=1h30m"], 0),
    (["container", "prune", "-f", "--filter", "until=soon"], 1),
    (["run", "--rm", "--network", "none", "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=1m", "bb", "echo", "x"], 0),
    (["run", "--rm", "--network", "none", "--log-opt", "mode=maybe", "bb", "true"], 125),
    (["run", "--rm", "--network", "none", "--entrypoint", "", "bb", "echo", "reset"], 0),
    (["run", "--rm", "--network", "none", "-v", "a/b:/x", "bb", "true"], 125),
    (["run", "--rm", "--network", "none", "--pid", "container:nope", "bb", "true"], 125),
    (["run", "--rm", "--network", "none", "--group-add", "nope", "bb", "true"], 125),
    (["run", "-d", "--name", "long", "--network", "none", "bb", "sh", "-c", "echo out; sleep 1000"], 0),
    (["logs", "--details", "long"], 0),
    (["exec", "-u", "nope", "long", "id"], 126),
    (["cp", "long:/nope", "-"], 1),
    (["pause", "long"], 0),
    (["exec", "long", "true"], 1),
    (["rm", "-f", "long"], 0),
    (["network", "create", "--subnet", "bogus", "n2"], 1),
    (["network", "create", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.5", "--ip-range", "10.77.0.128/25", "--attachable", "n2"], 0),
    (["network", "inspect", "-f", "{{.IPAM.Config}} {{.Attachable}} {{.Options}}", "n2"], 0),
    (["network", "create", "--subnet", "10.77.0.0/25", "n3"], 1),
    (["network", "connect", "nope", "nope"], 1),
    (["create", "--name", "odd", "--network", "none", "-w", "/tmp/", "--health-cmd", "[ -e /x ]", "--pids-limit", "9", "bb"], 0),
    (["inspect", "-f", "{{.Config.WorkingDir}} {{.Config.Healthcheck.Test}}", "odd"], 0),
    (["update", "--pids-limit", "-1", "odd"], 0),
    (["inspect", "-f", "{{.HostConfig.PidsLimit}}", "odd"], 0),
    (["cp", "odd:/bin/busybox/", "-"], 1),
    (["rm", "odd"], 0),
    (["run", "-d", "--rm", "--name", "odd", "--network", "none", "bb", "sleep", "1000"], 0),
    (["kill", "-s", "SIG42", "odd"], 1),
    (["update", "--restart", "always", "odd"], 1),
    (["rm", "-f", "odd"], 0),
    (["create", "--name", "odd", "--network", "none", "bb"], 0),
    (["commit", "-c", "ENV P=/bin", "odd", "odd1"], 0),
    (["create", "--name", "odd2", "--network", "none", "odd1"], 0),
    (["commit", "-c", "ENV P=/usr/bin:$P Q=${P}/x", "-c", "LABEL l=$P", "odd2", "odd2"], 0),
    (["image", "inspect", "-f", "{{.Config.Env}} {{.Config.Labels}}", "odd2"], 0),
    (["rm", "odd", "odd2"], 0),
    (["network", "create", "--subnet", "10.78.0.0/24", "test 01"], 0),
    (["network", "create", "  "], 1),
    (["create", "--name", "alone", "--network", "none", "bb", "sh", "-c", "ip -o link | cut -d: -f2 | cut -d@ -f1"], 0),
    (["network", "connect", "test 01", "alone"], 1),
    (["network", "disconnect", "none", "alone"], 0),
    (["network", "disconnect", "none", "alone"], 1),
    (["start", "-a", "alone"], 0),
    (["network", "connect", "test 01", "alone"], 0),
    (["network", "connect", "test 01", "alone"], 0),
    (["start", "-a", "alone"], 0),
    (["inspect", "-f", "{{.HostConfig.NetworkMode}} {{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", "alone"], 0),
    (["rm", "alone"], 0),
    (["run", "-d", "--name", "alone", "--network", "none", "bb", "sleep", "1000"], 0),
    (["network", "connect", "host", "alone"], 1),
    (["network", "disconnect", "none", "alone"], 0),
    (["network", "connect", "--alias", "other", "test 01", "alone"], 0),
    (["network", "connect", "test 01", "alone"], 1),
    (["exec", "alone", "sh", "-c", "ip -4 addr show eth0 | grep -c 10.78.0"], 0),
    (["run", "--rm", "--network", "test 01", "bb", "sh", "-c", "ping -c 1 -W 5 other | grep -c 'bytes from'"], 0),
    (["restart", "-t", "0", "alone"], 0),
    (["exec", "alone", "sh", "-c", "ip -o link | wc -l"], 0),
    (["run", "-d", "--rm", "--name", "odd", "--network", "test 01", "--hostname", "foobar", "bb", "sleep", "1000"], 0),
    (["exec", "odd", "sh", "-c", "echo 127.0.0.1 localhost > /etc/hosts; ping -c 1 -W 5 foobar | grep -c 'bytes from'"], 0),
    (["exec", "alone", "sh", "-c", "ping -c 1 -W 5 foobar | grep -c 'bytes from'"], 0),
    (["restart", "-t", "0", "odd"], 0),
    (["inspect", "-f", "{{.State.Status}} {{.HostConfig.AutoRemove}}", "odd"], 0),
    (["kill", "odd"], 0),
    (["run", "-d", "--name", "hosts", "--network", "host", "bb", "sleep", "1000"], 0),
    (["run", "-d", "--name", "shares", "--network", "container:alone", "bb", "sleep", "1000"], 0),
    (["network", "connect", "test 01", "hosts"], 1),
    (["network", "connect", "none", "hosts"], 1),
    (["network", "disconnect", "host", "hosts"], 1),
    (["network", "connect", "n2", "shares"], 1),
    (["network", "connect", "none", "alone"], 1),
    (["network", "disconnect", "n2", "shares"], 1),
    (["rm", "-f", "alone", "hosts", "shares"], 0),
    (["network", "rm", "test 01"], 0),
    (["network", "rm", "n2"], 0),
    (["swarm", "leave"], 1),
    (["ps", "--filter", "bogus=x"], 1),
]
# Words that are ours: what they say is said otherwise on purpose.
OWN = {"missing-image-of-nobody:x", "swarm"}


def test_a_script_says_the_same(pair: tuple[Engine, Engine]) -> None:
    wrong = []
    for words, code in SCRIPT:
        if OWN & set(words):
            continue
        theirs, ours = (engine.docker(*words, code=None) for engine in pair)
        said = [(done.returncode, plain(done.stdout), plain(done.stderr)) for done in (theirs, ours)]
        if said[0] != said[1] or said[0][0] != code:
            wrong.append(f"{' '.join(words)}\n   dockerd {said[0]}\n   ocid    {said[1]}")
    for engine in pair:
        engine.docker("rmi", "-f", "odd1", "odd2")
    assert not wrong, "\n".join(wrong)


def create(**host: Any) -> tuple[str, str, Any]:
    return "POST", "/containers/create", {"Image": "bb", "HostConfig": {"NetworkMode": "none", **host}}


TEXT = b"{}"  # of a type that is not JSON's
# Requests whose refusals have dockerd's status and words.
REFUSED: list[tuple[str, str, Any]] = [
    ("POST", "/containers/create", {}), ("POST", "/containers/create", {"Image": ""}),
    ("POST", "/containers/create", {"Image": "bb", "Entrypoint": [""], "HostConfig": {"NetworkMode": "none"}}),
    create(PidMode="private"), create(CgroupnsMode="container:x"), create(PidMode="container:"),
    create(NetworkMode="container"), create(NetworkMode="container:"), create(Isolation="hyperv"),
    create(MemoryReservation=1024), create(CpusetMems="42"), create(CpusetCpus="999"),
    create(SecurityOpt=["systempaths=unconfined"]), create(RestartPolicy={"Name": "no", "MaximumRetryCount": 1}),
    create(Binds=["./x:/y"]), create(Binds=["a:/y"]),
    create(Mounts=[{"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {}}]),
    create(LogConfig={"Type": "json-file", "Config": {"max-buffer-size": "4m"}}),
    ("POST", "/containers/create", {"Image": "bb", "MacAddress": "xx"}),
    ("POST", "/containers/create", {"Image": "bb", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["x"]}}}}),
    ("POST", "/containers/create", {"Image": "bb", "NetworkingConfig": {"EndpointsConfig": {"bridge": None}}}),
    ("POST", "/containers/create", {"Image": "bb", "Hostname": "x", "HostConfig": {"NetworkMode": "container:x"}}),
    ("POST", "/containers/nope/resize", None), ("POST", "/containers/nope/stop?t=x", None), ("POST", "/containers/nope/restart?t=x", None),
    ("POST", "/containers/nope/kill?signal=BOGUS", None), ("POST", "/containers/nope/rename?name=", None),
    ("POST", "/containers/nope/exec", {"Cmd": []}),
    ("GET", "/containers/json?limit=x", None), ("GET", '/containers/json?filters={"is-task":["maybe"]}', None),
    ("GET", '/containers/json?filters={"publish":["x"]}', None), ("GET", '/networks?filters={"type":["x"]}', None),
    ("POST", '/images/prune?filters={"until":["x"]}', None), ("POST", '/images/prune?filters={"until":["1h","2h"]}', None),
    ("GET", "/system/df?type=bogus", None), ("POST", "/build?remote=bogus", None), ("POST", "/build?remote=/etc", None),
    *((method, path, body) for body in ("{invalid json", "{} x", '{"a"}', '{"a":1', "[", '{"a":1 2}', "x")
      for method, path in (("POST", "/volumes/create"), ("POST", "/networks/create"), ("POST", "/containers/create"))),
    *(("POST", path, TEXT) for path in ("/commit", "/containers/foobar/update", "/containers/foobar/exec", "/exec/foobar/start")),
    *(create(Binds=[each]) for each in (
        "pv:/x:ro,rw", "pv:/x:rshared", "a:b:c:d", "/tmp:/x:bogus", "pv:x", "pv:/", "/etc:/", "/etc:/x:ro,ro", "/etc:/x:nocopy",
        "/etc:/x:rw,z,Z", "/etc:/x:private,shared", ":/x", "/etc:", "x", "/")),
    create(Binds=["/usr:/x", "/etc:/x/"]), create(VolumesFrom=["nope:bogus"]), create(StorageOpt={"bogus": "1"}),
    *(create(Mounts=[{"Type": kind, "Source": source, "Target": target}]) for kind, source, target in (
        ("npipe", "a", "/x"), ("cluster", "a", "/x"), ("volume", "pv", "x"), ("volume", "pv", "/"), ("bind", "/etc", "x"),
        ("bind", "etc", "/x"), ("bind", "/etc", "/"), ("tmpfs", "", "x"), ("tmpfs", "", "/"), ("volume", "p", "/x"))),
    create(Mounts=[{"Type": "bind", "Source": "/etc", "Target": "/x", "BindOptions": {"Propagation": "bogus"}}]),
    create(Mounts=[{"Type": "tmpfs", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}]),
    *(create(RestartPolicy={"Name": name, "MaximumRetryCount": -1}) for name in ("on-failure", "always")),
    create(CapAdd=["bogus"]), create(CapDrop=["cap_bogus"]), create(CapAdd=[""]),
    create(Memory=64 << 20, MemoryReservation=128 << 20), create(CpusetCpus="x"), create(CpusetCpus="3-1"),
    create(NanoCpus=10**9, CpuQuota=5000), create(NanoCpus=10**9, CpuPeriod=5000),
    ("POST", "/containers/create", {"Image": "bb", "Hostname": "x", "HostConfig": {"UTSMode": "host"}}),
    *(create(PortBindings=each) for each in ({"x": None}, {"80-90/tcp": None}, {"70000": []}, {"80": [{"HostPort": "x"}]})),
    create(ExtraHosts=["x"]), create(ExtraHosts=[""]), create(Runtime="x"), create(Memory=-1),
    ("POST", "/containers/create", {"User": "x"}), ("POST", "/containers/create", {"HostConfig": {}}),
    ("POST", "/containers/create", {"Image": "bb", "NetworkingConfig": {"EndpointsConfig": {"nope": None}}}),
    ("POST", "/containers/create", {"Image": "bb", "HostConfig": {"NetworkMode": "nope"}, "NetworkingConfig":
        {"EndpointsConfig": {"nope": {"IPAMConfig": {"LinkLocalIPs": ["x"]}}}}}),
    *(("POST", "/containers/nope/update", each) for each in (
        {"Memory": 5}, {"NanoCpus": -1}, {"CpuPeriod": 5}, {"CpuQuota": 5}, {"CpusetCpus": "x"}, {"RestartPolicy": {"Name": "x"}},
        {"IOMaximumIOps": 5})),
    create(Tmpfs={"/": "rw"}), create(Tmpfs={"//": "rw"}), create(Annotations={"": "a"}),
    ("POST", "/networks/bridge/connect", {}), ("POST", "/networks/bridge/disconnect", {}),
    ("POST", "/networks/bridge/disconnect", {"Container": "nope", "Force": True}),
]  # fmt: skip


def test_refusals_have_the_same_words(pair: tuple[Engine, Engine]) -> None:
    wrong = []
    for method, path, body in REFUSED:
        said = {"Content-Type": "text/plain" if body is TEXT else "application/json"}
        theirs, ours = (engine.request(method, path, body, said) for engine in pair)
        if theirs != ours or theirs[0] < 400:
            wrong.append(f"{method} {path} {body}\n   dockerd {theirs}\n   ocid    {ours}")
    assert not wrong, "\n".join(wrong)


def test_what_is_asked_for_and_cannot_be_had_is_refused(pair: tuple[Engine, Engine]) -> None:
    """A driver of volumes that is not there, and a limit of the root file system where there are no quotas."""
    for host, text in (({"VolumeDriver": "bogus", "Binds": ["pv:/x"]}, "looking up volume plugin bogus"), ({"StorageOpt": {"size": "1g"}}, "quotas")):
        for engine in pair:
            status, said = engine.request(*create(**host))
            assert status >= 400 and text in said["message"], said


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ({"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"], None]}]}, 500, "could not select device driver"),
        ({"Devices": [{}]}, 500, ""), ({"Devices": [{"PathOnHost": "x"}]}, 500, ""), ({"Ulimits": [{}]}, 500, ""),
        ({"Dns": ["x"]}, 500, ""), ({"Dns": [""]}, 500, ""),
        ({"DnsOptions": [""], "DnsSearch": [""], "MemoryReservation": -1}, 204, ""),
    ],
)  # fmt: skip
def test_what_is_only_wrong_when_it_starts(pair: tuple[Engine, Engine], said: dict[str, Any], code: int, text: str) -> None:
    for engine in pair:
        body = {"Image": "bb", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", **said}}
        made = engine.request("POST", "/containers/create", body, code=201)[1]["Id"]
        answer = engine.request("POST", f"/containers/{made}/start", code=code)[1]
        assert text in (answer["message"] if answer else "")
        engine.request("DELETE", f"/containers/{made}?force=1", code=204)


def test_documents_of_old_and_careless_clients(pair: tuple[Engine, Engine]) -> None:
    """Names in other letters, null for nothing, a volume's place without its slash, halves of characters."""
    body = {
        "image": "bb", "cmd": ["echo", None, "\ud800"], "labels": {"a": None}, "Volumes": {"v": None}, "MacAddress": "no mac",
        "hostconfig": {"networkmode": "none", "memory": 64 << 20, "Bogus": {"Memory": 5}},
    }  # fmt: skip
    told = []
    for engine in pair:
        made = engine.request("POST", "/containers/create", body, code=201)[1]["Id"]
        shown = engine.request("GET", f"/containers/{made}/json", code=200)[1]
        told.append([shown["Path"], shown["Args"], shown["Config"]["Labels"], shown["HostConfig"]["Memory"], shown["Config"]["Volumes"]])
        engine.request("POST", f"/containers/{made}/start", code=204)
        engine.request("POST", f"/containers/{made}/wait", code=200)
        told[-1].append(engine.request("GET", f"/containers/{made}/logs?stdout=1", code=200)[1])
        engine.request("DELETE", f"/containers/{made}?v=1", code=204)
    assert told[0] == told[1]


def test_one_endpoint_at_create_before_version_1_44(pair: tuple[Engine, Engine]) -> None:
    """dockerd names them in any order."""
    asked = {"Image": "bb", "NetworkingConfig": {"EndpointsConfig": {"n1": {}, "n2": {}}}}
    for engine in pair:
        said = engine.request("POST", "/v1.43/containers/create", asked, code=400)[1]["message"]
        head, _, names = said.partition(": ")
        assert (head, sorted(names.split(", "))) == ("Container cannot be created with multiple network endpoints", ["n1", "n2"])


def test_the_classic_builder_tells_the_same(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    """But for the ids of images between, which there are none of."""
    (tmp_path / "f").write_text("x")
    (tmp_path / "Dockerfile").write_text('FROM bb\nENV a=b\nCOPY f /f\nRUN echo hi\nCMD ["x"]\n')
    for _ in range(2):  # the second is all in the cache
        theirs, ours = (engine.out("build", "-t", "built", tmp_path) for engine in pair)
        told = [
            [line for line in re.sub(r"\b[0-9a-f]{12}\b", "ID", text).splitlines() if line != " ---> ID" and line.strip()]
            for text in (theirs, ours)
        ]
        assert told[0] == told[1]
    for engine in pair:
        engine.docker("rmi", "-f", "built")


def plain(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"(sha256:)?[0-9a-f]{64}|\b[0-9a-f]{12}\b", "ID", text)
    return "\n".join(sorted(text.splitlines()))


@pytest.mark.parametrize("path", ["/version", "/info", "/images/bb/json", "/images/json", "/networks/bridge", "/system/df", "/images/bb/history"])
def test_documents_have_the_same_members(pair: tuple[Engine, Engine], path: str) -> None:
    theirs, ours = (engine.request("GET", path, code=200)[1] for engine in pair)
    assert members(theirs) - members(ours) == set()


def members(value: Any, where: str = "") -> set[str]:
    """The names of all members, with where they are; of a list those of its first."""
    if isinstance(value, list):
        return members(value[0], where) if value else set()
    if not isinstance(value, dict) or where.endswith(("Runtimes", "Containers", "Options", "Labels", "IndexConfigs", "Details", "DriverStatus")):
        return set()
    return {f"{where}.{key}" for key in value}.union(*(members(each, f"{where}.{key}") for key, each in value.items()))


@pytest.mark.parametrize("created", [
    None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2024-05-06T07:08:09.120000000Z", "2024-05-06T01:02:03+02:00",
    "1969-12-31T23:59:58.5Z", "0900-01-01T00:00:00.25-00:30", "2024-05-06T07:08:09.000Z", "2024-05-06T07:08:09+00:00",
])  # fmt: skip
def test_when_an_image_was_created(pair: tuple[Engine, Engine], tmp_path: Path, created: str | None) -> None:
    """As its configuration says it, of every version of the API; nothing where it says nothing."""
    steps = [{"created_by": "one", **({"created": created} if created else {})}]
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [EMPTY]},
        "history": steps, **({"created": created} if created else {}),
    }).encode()  # fmt: skip
    listed = json.dumps([{"Config": "c.json", "RepoTags": ["when:1"], "Layers": ["l.tar"]}]).encode()
    with tarfile.open(tmp_path / "when.tar", "w") as archive:
        for name, data in (("c.json", config), ("l.tar", bytes(10240)), ("manifest.json", listed)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    told = []
    for engine in pair:
        engine.docker("load", "-q", "-i", tmp_path / "when.tar")
        inspects = [engine.request("GET", f"/v{version}/images/when:1/json", code=200)[1] for version in ("1.43", "1.44")]
        lists = engine.request("GET", '/images/json?filters={"reference":["when"]}', code=200)[1]
        steps = engine.request("GET", "/images/when:1/history", code=200)[1]
        told.append([*(each.get("Created") for each in inspects), *(each["Created"] for each in [*lists, *steps])])
        engine.docker("rmi", "when:1")
    assert told[0] == told[1]
