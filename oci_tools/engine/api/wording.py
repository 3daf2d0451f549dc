"""Config and HostConfig of a create request -> words of `oci-run new`: pure, tested without a container.

What has no word yet is refused by the command, which says so; what is only to be remembered (labels,
annotations of clients, the log's type) has none.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.engine.api import mounts
from oci_tools.engine.api.answers import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SECOND = 1_000_000_000
_LOGS = ("json-file", "k8s-file", "local", "journald", "syslog", "none")


def of(config: dict[str, Any], host: dict[str, Any], networks: list[str], flat: bool = False) -> list[str]:
    """The options.

    networks  what of these the networks are (networks.py)
    flat      what is mounted read-only is so itself, not what is mounted in it: before API 1.44
    """
    parts = (_process(config, host), _policy(config, host), _files(config, host, flat), _limits(host), _spaces(host))
    return [*(word for part in parts for word in part), *networks]


def command(config: dict[str, Any], image: dict[str, Any] | None = None) -> tuple[list[str], list[str]]:
    """Options and operands of the payload: an entrypoint of many words is one word, and the first operands.

    image  what that says of containers: an empty entrypoint leaves its command
    """
    entrypoint, words = config.get("Entrypoint"), config.get("Cmd") or []
    if entrypoint is None:
        return [], words
    if not entrypoint:
        words = words or (image or {}).get("Cmd") or []
    first, *more = entrypoint or [""]
    return [f"--entrypoint={first}"], [*more, *words]


def _process(config: dict[str, Any], host: dict[str, Any]) -> Iterator[str]:
    if config.get("Tty"):
        yield "--tty"
        size = host.get("ConsoleSize") or [0, 0]
        if all(size):
            yield f"--console-size={size[0]}x{size[1]}"
    if config.get("OpenStdin"):
        yield "--interactive"
    for key, option in (("User", "user"), ("WorkingDir", "workdir"), ("Hostname", "hostname"),
                        ("Domainname", "domainname"), ("StopSignal", "stop-signal")):  # fmt: skip
        if config.get(key):
            yield f"--{option}={config[key]}"
    for each in config.get("Env") or ():
        yield f"--env={each}" if "=" in each else f"--unsetenv={each}"
    for name, value in (config.get("Labels") or {}).items():
        if name and name == name.strip():  # the others are kept where inspect finds them
            yield f"--label={name}={value}"
    if config.get("StopTimeout") is not None:
        yield f"--stop-timeout={config['StopTimeout']}"
    yield from _health(config.get("Healthcheck") or {})
    # podman's names (its inspect has them) for what docker has none for.
    action, startup = config.get("HealthcheckOnFailureAction"), config.get("StartupHealthCheck") or {}
    if action:
        yield f"--health-on-failure={action}"
    yield from _check(startup, "health-startup")
    if startup.get("Successes"):
        yield f"--health-startup-success={startup['Successes']}"


def _health(check: dict[str, Any]) -> Iterator[str]:
    if (check.get("Test") or [])[:1] == ["NONE"]:
        yield "--no-healthcheck"
        return
    yield from _check(check, "health")
    for key, option in (("StartPeriod", "start-period"), ("StartInterval", "start-interval")):
        if check.get(key):
            yield f"--health-{option}={seconds(check[key])}"


def _check(check: dict[str, Any], option: str) -> Iterator[str]:
    test = check.get("Test") or []
    if test[:1] in (["CMD-SHELL"], ["CMD"]) and len(test) > 1:
        from oci_tools import document

        yield f"--{option}-cmd={document.dumps(test).decode()}"
    for key, name in (("Interval", "interval"), ("Timeout", "timeout")):
        if check.get(key):
            yield f"--{option}-{name}={seconds(check[key])}"
    if check.get("Retries"):
        yield f"--{option}-retries={check['Retries']}"


def seconds(nanoseconds: int) -> str:
    """A time as our options take it: 1.5s."""
    return f"{nanoseconds / SECOND:.9f}".rstrip("0").rstrip(".") + "s"


def _policy(config: dict[str, Any], host: dict[str, Any]) -> Iterator[str]:
    yield f"--rm={'true' if host.get('AutoRemove') else 'false'}"
    name, count = restart(host.get("RestartPolicy") or {})
    if name != "no" and host.get("AutoRemove"):
        raise Refused(400, "can't create 'AutoRemove' container with restart policy")
    if name != "no":
        yield f"--restart={name}:{count}" if count else f"--restart={name}"
    log = host.get("LogConfig") or {}
    if log.get("Type") not in (None, "", "default"):
        if log["Type"] not in _LOGS:
            raise Refused(400, f'error looking up logging plugin {log["Type"]}: plugin "{log["Type"]}" not found')
        yield f"--log-driver={log['Type']}"
    said = log.get("Config") or {}
    if said.get("mode") not in (None, "", "blocking", "non-blocking"):
        raise Refused(400, f"logger: logging mode not supported: {said['mode']}")
    if said.get("max-buffer-size") and said.get("mode") != "non-blocking":
        raise Refused(400, "logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    for key, value in said.items():
        yield f"--log-opt={key}={value}"
    if host.get("Init"):
        yield "--init"


def restart(said: dict[str, Any]) -> tuple[str, int]:
    """The name and count of a restart policy, checked."""
    name, count = said.get("Name") or "no", said.get("MaximumRetryCount") or 0
    if name not in ("no", "always", "on-failure", "unless-stopped"):
        raise Refused(400, f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', "
                           "'on-failure', or 'unless-stopped'")  # fmt: skip
    if count and name != "on-failure":
        more = " and cannot be negative" if count < 0 else ""
        raise Refused(400, f"invalid restart policy: maximum retry count can only be used with 'on-failure'{more}")
    if count < 0:
        raise Refused(400, "invalid restart policy: maximum retry count cannot be negative")
    return name, count


def _files(config: dict[str, Any], host: dict[str, Any], flat: bool) -> Iterator[str]:
    binds = host.get("Binds") or []
    for bind in binds:
        bind = bind.removesuffix(":")  # no options
        source, place, mode = (*bind.split(":", 2), "", "")[:3]
        propagation = mounts.propagation(mode.split(","))
        if place and _of_the_store(source, propagation):
            bind, propagation = f"{source}:{place}:{mode},rslave" if mode else f"{source}:{place}:rslave", "rslave"
        if flat and "ro" in mode.split(",") and source.startswith("/") and "," not in source + place:
            how = f"bind-recursive=writable,bind-create-src=true,bind-propagation={propagation or 'rprivate'}"
            yield f"--mount=type=bind,source={source},target={place},readonly,{how}"
        else:
            yield f"--volume={bind}"
    for mount in host.get("Mounts") or ():
        yield f"--mount={_mount(mount, flat)}"
    taken = {bind.split(":")[1] if ":" in bind else bind for bind in binds}
    taken |= {mount.get("Target") for mount in host.get("Mounts") or ()}
    taken |= set(host.get("Tmpfs") or ())
    for path in config.get("Volumes") or ():
        if path not in taken:
            yield f"--volume=/{path.lstrip('/')}"
    for path, options in (host.get("Tmpfs") or {}).items():
        yield f"--tmpfs={path}:{options}" if options else f"--tmpfs={path}"
    for source in host.get("VolumesFrom") or ():
        yield f"--volumes-from={source}"
    if host.get("ReadonlyRootfs"):
        yield "--read-only"
    for name, value in (host.get("StorageOpt") or {}).items():
        yield f"--storage-opt={name}={value}"
    if host.get("ShmSize"):
        yield f"--shm-size={host['ShmSize']}"
    for device in host.get("Devices") or ():
        path = device.get("PathOnHost") or ""
        yield f"--device={path}:{device.get('PathInContainer') or path}:{device.get('CgroupPermissions') or 'rwm'}"
    for rule in host.get("DeviceCgroupRules") or ():
        yield f"--device-cgroup-rule={rule}"


def _of_the_store(source: str, propagation: str) -> bool:
    """Whether a bind of our own directory, or of what it is in, is to be a slave: none may keep what is unmounted."""
    root = fs.root()
    if not source.startswith("/") or not (source.startswith(root) or root.startswith(source)):
        return False
    if propagation not in ("", "rslave", "rshared"):
        raise Refused(400, 'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount '
                           f'source is within the daemon root, daemon root: "{root}", bind mount source: "{source}", '
                           f'propagation: "{propagation}"')  # fmt: skip
    return not propagation


def _mount(mount: dict[str, Any], flat: bool) -> str:
    """A Mount as one word of --mount; refused where a comma would make it mean something else."""
    kind = mount.get("Type") or "volume"
    said = {"type": kind, "source": mount.get("Source"), "target": mount.get("Target")}
    if mount.get("ReadOnly"):
        said["readonly"] = "true"
    bind, tmpfs, volume = (mount.get(key) or {} for key in ("BindOptions", "TmpfsOptions", "VolumeOptions"))
    if kind == "bind" and _of_the_store(mount.get("Source") or "", bind.get("Propagation") or ""):
        said["bind-propagation"] = "rslave"
    elif bind.get("Propagation"):
        said["bind-propagation"] = bind["Propagation"]
    if bind.get("NonRecursive"):
        said["bind-recursive"] = "disabled"
    elif bind.get("ReadOnlyForceRecursive"):
        said["bind-recursive"] = "readonly"
    elif bind.get("ReadOnlyNonRecursive") or (flat and kind == "bind" and mount.get("ReadOnly")):
        said["bind-recursive"] = "writable"
    if bind.get("CreateMountpoint"):
        said["bind-create-src"] = "true"
    elif kind == "bind" and mount.get("Source") and not os.path.exists(mount["Source"]):
        raise Refused(400, f'invalid mount config for type "bind": bind source path does not exist: {mount["Source"]}')
    if tmpfs.get("SizeBytes"):
        said["tmpfs-size"] = str(tmpfs["SizeBytes"])
    if tmpfs.get("Mode"):
        said["tmpfs-mode"] = f"{tmpfs['Mode']:o}"
    if volume.get("NoCopy"):
        said["volume-nocopy"] = "true"
    if volume.get("Subpath"):
        said["volume-subpath"] = volume["Subpath"]
    if (volume.get("DriverConfig") or {}).get("Name") not in (None, "", "local"):
        raise Refused(404, f"error looking up volume plugin {volume['DriverConfig']['Name']}: plugin not found")
    if not said["target"]:
        raise Refused(400, f'invalid mount config for type "{kind}": field Target must not be empty')
    words = {key: str(value) for key, value in said.items() if value}
    if any("," in value for value in words.values()):
        raise Refused(400, f"invalid mount config for type \"{kind}\": a comma in '{said['target']}'")
    return ",".join(f"{key}={value}" for key, value in words.items())


_PERIOD = 100_000  # microseconds
_SHARES = 2  # of a processor: the kernel takes what is less for this
_NUMBERS = (("Memory", "memory"), ("MemorySwap", "memory-swap"), ("MemoryReservation", "memory-reservation"),
            ("CpuPeriod", "cpu-period"), ("CpuQuota", "cpu-quota"),
            ("CpusetCpus", "cpuset-cpus"), ("CpusetMems", "cpuset-mems"), ("PidsLimit", "pids-limit"),
            ("BlkioWeight", "blkio-weight"), ("OomScoreAdj", "oom-score-adj"))  # fmt: skip


def _limits(host: dict[str, Any]) -> Iterator[str]:
    yield from limits(host)
    if host.get("CgroupParent"):
        yield f"--cgroup-parent={host['CgroupParent']}"
    if (host.get("MemorySwappiness") or -1) >= 0:
        yield f"--memory-swappiness={host['MemorySwappiness']}"
    if host.get("OomKillDisable"):
        yield "--oom-kill-disable"
    for each in host.get("Ulimits") or ():
        yield f"--ulimit={each.get('Name') or ''}={each.get('Soft') or 0}:{each.get('Hard') or 0}"
    for name, value in (host.get("Sysctls") or {}).items():
        yield f"--sysctl={name}={value}"


def limits(host: dict[str, Any]) -> Iterator[str]:
    """What `update` may change as well."""
    for key, option in _NUMBERS:
        if host.get(key) and (key != "MemoryReservation" or host[key] > 0):
            yield f"--{option}={host[key]}"
    if host.get("CpuShares"):
        yield f"--cpu-shares={max(host['CpuShares'], _SHARES)}"
    if host.get("NanoCpus"):
        yield f"--cpu-period={_PERIOD}"
        yield f"--cpu-quota={max(host['NanoCpus'] * _PERIOD // SECOND, 1000)}"  # less the kernel does not know


def _spaces(host: dict[str, Any]) -> Iterator[str]:
    for key, option in (("CapAdd", "cap-add"), ("CapDrop", "cap-drop"), ("SecurityOpt", "security-opt"),
                        ("GroupAdd", "group-add"), ("Dns", "dns"), ("DnsSearch", "dns-search"),
                        ("DnsOptions", "dns-option"), ("ExtraHosts", "add-host")):  # fmt: skip
        for value in host.get(key) or ():
            if value or key not in ("DnsSearch", "DnsOptions"):  # which say nothing
                yield f"--{option}={value}"
    for key, option in (("MaskedPaths", "masked-paths"), ("ReadonlyPaths", "readonly-paths")):
        if host.get(key) is not None:  # exactly these, none if it is empty
            yield f"--security-opt={option}={':'.join(host[key])}"
    for request in host.get("DeviceRequests") or ():
        if request.get("Driver") != "cdi":
            kinds = str([each or [] for each in request.get("Capabilities") or []]).replace("'", "").replace(",", "")
            driver = request.get("Driver") or ""
            raise Refused(400, f'could not select device driver "{driver}" with capabilities: {kinds}')
        yield from (f"--device={each}" for each in request.get("DeviceIDs") or ())
    if host.get("Privileged"):
        yield "--privileged"
    for key, option in (("PidMode", "pid"), ("IpcMode", "ipc"), ("UTSMode", "uts"), ("UsernsMode", "userns"),
                        ("CgroupnsMode", "cgroupns")):  # fmt: skip
        if host.get(key):
            yield f"--{option}={host[key]}"
    for key, value in (host.get("Annotations") or {}).items():
        yield f"--annotation={key}={value}"
