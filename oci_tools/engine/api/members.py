"""The documents that requests bring: the members of each, and of which types they are; pure.

They are read as dockerd reads them (Go's encoding/json): a name is known however its letters are cased, a member that
nobody knows is left out, null is as if nothing were said, in a list or a map the empty value of its type, and a half
character is U+FFFD.  Anything else of another type is refused, before anything looks at it.

    str   bool                  range   a whole number that is in it, written without fraction or exponent
    [type]   an array           (type, ...)   one of so many: what is missing is empty, what is too much is left out
    {"*": type}   a map         {name: type, ...}   an object         WORDS   an array of strings, of old clients one
"""

from __future__ import annotations

import re

from oci_tools.engine.api.answers import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INT64, UINT64 = range(-1 << 63, 1 << 63), range(1 << 64)
UINT32, UINT16 = range(1 << 32), range(1 << 16)
WORDS = "words"
_HALF = re.compile("[\ud800-\udfff]")
_TEXTS, _MAP = [str], {"*": str}
_SET: dict[str, Any] = {"*": {}}
_SIZE = (UINT64, UINT64)

_HEALTH = {"Test": _TEXTS, **dict.fromkeys("Interval Timeout StartPeriod StartInterval Retries".split(), INT64)}
_RESTART = {"Name": str, "MaximumRetryCount": INT64}
_ENDPOINT: dict[str, Any] = {
    "IPAMConfig": {"IPv4Address": str, "IPv6Address": str, "LinkLocalIPs": _TEXTS},
    "Links": _TEXTS, "Aliases": _TEXTS, "DNSNames": _TEXTS, "DriverOpts": _MAP,
    **dict.fromkeys("MacAddress NetworkID EndpointID Gateway IPAddress IPv6Gateway GlobalIPv6Address".split(), str),
    **dict.fromkeys("IPPrefixLen GlobalIPv6PrefixLen GwPriority".split(), INT64),
}  # fmt: skip
_MOUNT: dict[str, Any] = {
    "Type": str, "Source": str, "Target": str, "ReadOnly": bool, "Consistency": str,
    "BindOptions": {
        "Propagation": str,
        **dict.fromkeys("NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive".split(), bool),
    },
    "VolumeOptions": {
        "NoCopy": bool, "Labels": _MAP, "Subpath": str, "DriverConfig": {"Name": str, "Options": _MAP},
    },
    "TmpfsOptions": {"SizeBytes": INT64, "Mode": UINT32},
    "ClusterOptions": {},
}  # fmt: skip
_RESOURCES: dict[str, Any] = {
    **dict.fromkeys(
        "CpuShares Memory NanoCpus CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime KernelMemory "
        "KernelMemoryTCP MemoryReservation MemorySwap MemorySwappiness PidsLimit CpuCount CpuPercent".split(), INT64,
    ),
    "BlkioWeight": UINT16, "IOMaximumIOps": UINT64, "IOMaximumBandwidth": UINT64, "OomKillDisable": bool,
    **dict.fromkeys(("CgroupParent", "CpusetCpus", "CpusetMems"), str),
    "BlkioWeightDevice": [{"Path": str, "Weight": UINT16}],
    **{f"BlkioDevice{way}": [{"Path": str, "Rate": UINT64}] for way in "ReadBps WriteBps ReadIOps WriteIOps".split()},
    "Devices": [{"PathOnHost": str, "PathInContainer": str, "CgroupPermissions": str}],
    "DeviceCgroupRules": _TEXTS,
    "DeviceRequests": [
        {"Driver": str, "Count": INT64, "DeviceIDs": _TEXTS, "Capabilities": [_TEXTS], "Options": _MAP},
    ],
    "Ulimits": [{"Name": str, "Soft": INT64, "Hard": INT64}],
}  # fmt: skip
_HOST: dict[str, Any] = {
    **_RESOURCES,
    **dict.fromkeys(
        "ContainerIDFile NetworkMode VolumeDriver CgroupnsMode IpcMode Cgroup PidMode UTSMode UsernsMode Runtime "
        "Isolation".split(), str,
    ),
    **dict.fromkeys(
        "Binds VolumesFrom Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links SecurityOpt MaskedPaths "
        "ReadonlyPaths".split(), _TEXTS,
    ),
    **dict.fromkeys("AutoRemove Privileged PublishAllPorts ReadonlyRootfs Init".split(), bool),
    **dict.fromkeys("Annotations StorageOpt Tmpfs Sysctls".split(), _MAP),
    "LogConfig": {"Type": str, "Config": _MAP}, "RestartPolicy": _RESTART,
    "PortBindings": {"*": [{"HostIp": str, "HostPort": str}]},
    "ConsoleSize": _SIZE, "CapAdd": WORDS, "CapDrop": WORDS, "OomScoreAdj": INT64, "ShmSize": INT64,
    "Mounts": [_MOUNT],
}  # fmt: skip

CONFIG: dict[str, Any] = {
    **dict.fromkeys("Hostname Domainname User Image WorkingDir MacAddress StopSignal".split(), str),
    **dict.fromkeys(
        "AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce ArgsEscaped NetworkDisabled".split(), bool,
    ),
    "ExposedPorts": _SET, "Volumes": _SET, "Env": _TEXTS, "OnBuild": _TEXTS, "Labels": _MAP,
    "Cmd": WORDS, "Entrypoint": WORDS, "Shell": WORDS, "StopTimeout": INT64, "Healthcheck": _HEALTH,
    # podman's names (its inspect has them) for what docker has none for
    "HealthcheckOnFailureAction": str, "StartupHealthCheck": {**_HEALTH, "Successes": INT64},
}  # fmt: skip
CREATE = {**CONFIG, "HostConfig": _HOST, "NetworkingConfig": {"EndpointsConfig": {"*": _ENDPOINT}}}
UPDATE = {**_RESOURCES, "RestartPolicy": _RESTART}
EXEC: dict[str, Any] = {
    **dict.fromkeys("Privileged Tty AttachStdin AttachStdout AttachStderr Detach".split(), bool),
    **dict.fromkeys("User DetachKeys WorkingDir".split(), str),
    "Env": _TEXTS, "Cmd": _TEXTS, "ConsoleSize": _SIZE,
}  # fmt: skip
EXEC_START = {"Detach": bool, "Tty": bool, "ConsoleSize": _SIZE}
NETWORK: dict[str, Any] = {
    **dict.fromkeys("Name Driver Scope".split(), str),
    **dict.fromkeys("EnableIPv4 EnableIPv6 Internal Attachable Ingress ConfigOnly".split(), bool),
    "IPAM": {
        "Driver": str, "Options": _MAP,
        "Config": [{"Subnet": str, "IPRange": str, "Gateway": str, "AuxiliaryAddresses": _MAP}],
    },
    "ConfigFrom": {"Network": str}, "Options": _MAP, "Labels": _MAP,
}  # fmt: skip
CONNECT = {"Container": str, "EndpointConfig": _ENDPOINT}
DISCONNECT = {"Container": str, "Force": bool}
VOLUME = {"Name": str, "Driver": str, "DriverOpts": _MAP, "Labels": _MAP}
AUTH = dict.fromkeys("username password auth email serveraddress identitytoken registrytoken".split(), str)


def read(value: Any, shape: Any, place: str = "") -> Any:
    """A value of that type; refused where it is of another, with its place in the document."""
    if shape is str:
        return _HALF.sub("\ufffd", _expect(value, str, place, "a string"))
    if shape is bool:
        return _expect(value, bool, place, "a boolean")
    if isinstance(shape, range):
        if type(value) is not int or value not in shape:
            raise _wrong(place, f"a whole number of {(shape[-1] - shape[0]).bit_length()} bits")
        return value
    if shape is WORDS:
        return read([value] if isinstance(value, str) else value, _TEXTS, place)
    if isinstance(shape, list):
        return [_element(each, shape[0], place) for each in _expect(value, list, place, "an array")]
    if isinstance(shape, tuple):
        found = [*_expect(value, list, place, "an array"), *[None] * len(shape)]
        return [_element(each, kind, place) for each, kind in zip(found, shape, strict=False)]
    return _object(_expect(value, dict, place, "an object"), shape, f"{place}." if place else "")


def _object(value: dict[str, Any], shape: dict[str, Any], place: str) -> dict[str, Any]:
    if "*" in shape:
        kind = shape["*"]
        empty: Any = "" if kind is str else {} if kind == {} else None
        return {
            read(name, str): empty if each is None else read(each, kind, f"{place}{name}")
            for name, each in value.items()
        }
    known = {name.casefold(): name for name in shape}
    found = {}
    for key, each in value.items():
        name = known.get(key.casefold())
        if name:
            found[name] = None if each is None else read(each, shape[name], f"{place}{name}")
    return found


def _element(value: Any, shape: Any, place: str) -> Any:
    """One of an array: null is what its type is when nothing is said."""
    if value is not None:
        return read(value, shape, place)
    return "" if shape is str else 0 if isinstance(shape, range) else {} if isinstance(shape, dict) else None


def _expect(value: Any, kind: type, place: str, called: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(place, called)
    return value


def _wrong(place: str, called: str) -> Refused:
    return Refused(400, f"invalid JSON: {place}: expected {called}" if place else "invalid JSON: it is no object")
