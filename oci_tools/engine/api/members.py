"""The types of what a create request says, checked before anything reads it: pure."""

from __future__ import annotations

from oci_tools.engine.api.answers import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STRINGS = frozenset(
    "Env OnBuild Shell Binds VolumesFrom CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links SecurityOpt "
    "DeviceCgroupRules MaskedPaths ReadonlyPaths Test Aliases".split()
)
_WORDS = frozenset(("Cmd", "Entrypoint"))  # a list of strings, of old clients one
_MAPS = frozenset(
    "ExposedPorts Volumes Labels Healthcheck StartupHealthCheck HostConfig NetworkingConfig PortBindings Tmpfs Sysctls "
    "StorageOpt Annotations LogConfig RestartPolicy EndpointsConfig IPAMConfig BindOptions VolumeOptions TmpfsOptions "
    "DriverConfig DriverOpts Options".split()
)
_OBJECTS = frozenset("Mounts Devices Ulimits DeviceRequests".split())
_TEXTS = frozenset(
    "Image User WorkingDir Hostname Domainname StopSignal NetworkMode IpcMode PidMode UTSMode UsernsMode CgroupnsMode "
    "Runtime CgroupParent CpusetCpus CpusetMems Name Type Source Target Consistency Propagation Subpath PathOnHost "
    "PathInContainer CgroupPermissions HostIp HostPort MacAddress IPv4Address IPv6Address "
    "HealthcheckOnFailureAction".split()
)
_NUMBERS = frozenset(
    "Memory MemorySwap MemoryReservation MemorySwappiness CpuShares CpuPeriod CpuQuota NanoCpus PidsLimit BlkioWeight "
    "OomScoreAdj ShmSize StopTimeout MaximumRetryCount Interval Timeout StartPeriod StartInterval Retries Successes "
    "Soft Hard SizeBytes".split()
)
_TRUTHS = frozenset(
    "Tty OpenStdin StdinOnce AttachStdin AttachStdout AttachStderr AutoRemove Privileged PublishAllPorts "
    "ReadonlyRootfs OomKillDisable Init ReadOnly NoCopy NonRecursive CreateMountpoint".split()
)
_FREE = frozenset("Labels Annotations Sysctls Tmpfs ExposedPorts Volumes DriverOpts Options StorageOpt".split())


def check(said: dict[str, Any], where: str = "") -> None:
    """Refuse a document in which a known member has another type than it should; unknown ones are left alone."""
    for key, value in said.items():
        place = f"{where}{key}"
        if value is None:
            continue
        expected = _expected(key, value)
        if expected:
            raise Refused(400, f"invalid JSON: {place}: expected {expected}")
        if key in _FREE:
            _check_texts(value, place)
        elif key == "LogConfig" and not isinstance(value.get("Config") or {}, dict):
            raise Refused(400, f"invalid JSON: {place}.Config: expected an object")
        elif key == "PortBindings":
            _check_bindings(value, place)
        elif key == "EndpointsConfig":
            for name, end in value.items():
                if not isinstance(end, (dict, type(None))):
                    raise Refused(400, f"invalid JSON: {place}.{name}: expected an object")
                check(end or {}, f"{place}.{name}.")
        elif isinstance(value, dict):
            check(value, f"{place}.")
        elif key in _OBJECTS:
            for each in value:
                check(each, f"{place}.")


def _expected(key: str, value: Any) -> str:
    """What a member should be, if it is something else."""
    kinds: list[tuple[frozenset[str], bool, str]] = [
        (_STRINGS, _texts(value), "an array of strings"),
        (_WORDS, isinstance(value, str) or _texts(value), "an array of strings"),
        (_MAPS, isinstance(value, dict), "an object"),
        (_OBJECTS, isinstance(value, list) and all(isinstance(each, dict) for each in value), "an array of objects"),
        (_TEXTS, isinstance(value, str), "a string"),
        (_NUMBERS, isinstance(value, int) and not isinstance(value, bool), "a number"),
        (_TRUTHS, isinstance(value, bool), "a boolean"),
    ]
    return next((expected for names, good, expected in kinds if key in names and not good), "")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _check_texts(value: dict[str, Any], place: str) -> None:
    if place.rpartition(".")[2] in ("ExposedPorts", "Volumes"):
        return
    for name, text in value.items():
        if not isinstance(text, str):
            raise Refused(400, f"invalid JSON: {place}.{name}: expected a string")


def _check_bindings(value: dict[str, Any], place: str) -> None:
    for name, bindings in value.items():
        good = isinstance(bindings, list) and all(isinstance(each, dict) for each in bindings)
        if bindings is not None and not good:
            raise Refused(400, f"invalid JSON: {place}.{name}: expected an array of objects")
        for each in bindings or ():
            check(each, f"{place}.{name}.")
