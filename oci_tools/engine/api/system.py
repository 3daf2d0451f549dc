"""What the daemon says of itself and its host: ping, version, info, and what it has not."""

from __future__ import annotations

import os
import socket
import time

from oci_tools import __version__
from oci_tools.engine.api import store, times
from oci_tools.engine.api.answers import Refused, answer
from oci_tools.engine.api.routes import NEWEST, OLDEST
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api

ENGINE = "26.1.5"  # the docker whose API this is: clients look at it to know what they may ask for
_PING = [
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Content-Type", "text/plain; charset=utf-8"),
]

# What `info` says that is always so.
_FIXED: dict[str, Any] = {
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
        "Authorization": None,
        "Log": ["journald", "json-file", "k8s-file", "local", "none", "syslog"],
    },
    "RegistryConfig": {
        "AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": None,
        "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
    },
    "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False,
              "Error": "", "RemoteManagers": None},
    "Debug": False, "GenericResources": None, "Labels": [], "ExperimentalBuild": False,
    "LiveRestoreEnabled": True,
    "Isolation": "",
    "InitBinary": "",
    "ContainerdCommit": {"ID": "", "Expected": ""},
    "RuncCommit": {"ID": "", "Expected": ""},
    "InitCommit": {"ID": "", "Expected": ""},
}  # fmt: skip


def ping(api: Api, asked: Asked) -> Response:
    return Response(200, _PING, b"OK")


def version(api: Api, asked: Asked) -> Response:
    host = os.uname()
    details = {
        "ApiVersion": _dotted(NEWEST), "Arch": store.HERE, "BuildTime": "", "Experimental": "false", "GitCommit": "",
        "GoVersion": "none", "KernelVersion": host.release, "MinAPIVersion": _dotted(OLDEST), "Os": "linux",
    }  # fmt: skip
    return answer({
        "Platform": {"Name": "oci-tools"},
        "Components": [
            {"Name": "Engine", "Version": ENGINE, "Details": details},
            {"Name": "ocid", "Version": __version__, "Details": {"GitCommit": ""}},
        ],
        "Version": ENGINE,
        "ApiVersion": _dotted(NEWEST),
        "MinAPIVersion": _dotted(OLDEST),
        "GitCommit": "",
        "GoVersion": "none",
        "Os": "linux",
        "Arch": store.HERE,
        "KernelVersion": host.release,
        "BuildTime": "",
    })  # fmt: skip


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def info(api: Api, asked: Asked) -> Response:
    counts = {"running": 0, "paused": 0, "stopped": 0}
    containers = api.world.all()
    for one in containers:
        status = one.status
        counts[status if status in counts else "running" if status == "restarting" else "stopped"] += 1
    host, now = os.uname(), time.time_ns()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    runtime = {"path": "oci-run"}
    return answer({
        "ID": _identity(api),
        "Containers": len(containers),
        "ContainersRunning": counts["running"],
        "ContainersPaused": counts["paused"],
        "ContainersStopped": counts["stopped"],
        "Images": len(api.store.all()),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", _file_system(api.world.root)]],
        "MemoryLimit": True, "SwapLimit": True, "KernelMemoryTCP": False, "CpuCfsPeriod": True, "CpuCfsQuota": True,
        "CPUShares": True, "CPUSet": True, "PidsLimit": True, "IPv4Forwarding": _is_on("net/ipv4/ip_forward"),
        "BridgeNfIptables": False, "BridgeNfIp6tables": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "OomKillDisable": not unified,
        "NGoroutines": len(os.listdir("/proc/self/task")),
        "SystemTime": times.written(now),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if unified else "1",
        "NEventsListener": 0,
        "KernelVersion": host.release,
        **_system(),
        "OSType": "linux",
        "Architecture": host.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        **_FIXED,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": pages,
        "DockerRootDir": api.world.root,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": socket.gethostname(),
        "ServerVersion": ENGINE,
        "Runtimes": {"runc": runtime, "oci-run": runtime},
        "DefaultRuntime": "runc",
        **_security(asked.version),
        "CDISpecDirs": [],
        "Warnings": None,
    })  # fmt: skip


def _security(version: tuple[int, int]) -> dict[str, Any]:
    options = ["name=seccomp,profile=builtin", *([] if os.geteuid() == 0 else ["name=rootless"])]
    if version < (1, 25):
        return {"SecurityOptions": [each.split(",")[0][5:] for each in options], "ExecutionDriver": "<not supported>"}
    return {"SecurityOptions": options}


def _identity(api: Api) -> str:
    """A name of this store that stays: 8-4-4-4-12 hex digits."""
    import hashlib

    try:
        with open("/etc/machine-id", encoding="utf-8") as file:
            machine = file.read()
    except OSError:
        machine = ""
    text = hashlib.sha256(f"{machine}{api.world.root}".encode()).hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))


def _file_system(path: str) -> str:
    """The type of the file system that a path is on: /proc/self/mountinfo, proc_pid_mountinfo(5)."""
    best, kind = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            place = left.split()[4]
            if path.startswith(place) and len(place) >= len(best):
                best, kind = place, right.split()[0]
    return kind


def _is_on(name: str) -> bool:
    try:
        with open(f"/proc/sys/{name}", encoding="utf-8") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _system() -> dict[str, Any]:
    """The host's system as os-release(5) names it."""
    said: dict[str, str] = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as file:
                said = {key: value.strip('"') for key, _, value in (line.rstrip().partition("=") for line in file)}
            break
        except OSError:
            continue
    return {"OperatingSystem": said.get("PRETTY_NAME", "Linux"), "OSVersion": said.get("VERSION_ID", "")}


# -- what is not there -------------------------------------------------------------------------------


def no_swarm(api: Api, asked: Asked) -> Response:
    raise Refused(
        503, 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this '
        "node to swarm and try again.",
    )  # fmt: skip


def not_part(api: Api, asked: Asked) -> Response:
    raise Refused(503, "This node is not part of a swarm")


def no_plugins(api: Api, asked: Asked) -> Response:
    return answer([])


def no_plugin(api: Api, asked: Asked) -> Response:
    raise Refused(404, f"plugin \"{asked['name']}\" not found")


ROUTES: list[Route] = [
    ("GET", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("POST", "/swarm/leave", not_part),
    ("GET", "/plugins", no_plugins),
    ("GET", "/plugins/{name*}/json", no_plugin),
    *((method, path, no_swarm) for method, path in (
        ("GET", "/swarm"), ("GET", "/nodes"), ("GET", "/services"), ("GET", "/secrets"), ("GET", "/configs"),
        ("GET", "/tasks"), ("GET", "/nodes/{id}"), ("GET", "/services/{id}"), ("GET", "/secrets/{id}"),
        ("GET", "/configs/{id}"), ("GET", "/tasks/{id}"), ("POST", "/swarm/init"), ("POST", "/swarm/join"),
        ("POST", "/swarm/update"), ("GET", "/swarm/unlockkey"), ("POST", "/services/create"),
        ("POST", "/secrets/create"), ("POST", "/configs/create"),
    )),
]  # fmt: skip
