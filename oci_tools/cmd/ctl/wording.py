"""The options of `run` and `create`, docker's words, as the document that creates a container."""

from __future__ import annotations

import os

from oci_tools import cli, document
from oci_tools.cmd.ctl.relay import console
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args, Option

SECOND = 1_000_000_000
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}

OPTIONS: tuple[Option, ...] = (
    ("-i --interactive", "flag", False, "give it our standard input"),
    ("-t --tty", "flag", False, "give it a terminal"),
    ("--rm", "flag", False, "remove it when it ends"),
    ("--name NAME", "text", "", "its name"),
    ("--pull WHEN", ("always", "missing", "never"), "missing", "when to pull the image"),
    ("--platform OS/ARCH[/VARIANT]", "text", "", "platform of the image"),
    ("-e --env NAME[=VALUE]", "list", (), "set a variable; without a value, to what it is here"),
    ("--env-file FILE", "list", (), "set the variables in FILE"),
    ("-l --label NAME[=VALUE]", "list", (), "a label"),
    ("-w --workdir DIR", "text", "", "working directory inside"),
    ("-u --user USER[:GROUP]", "text", "", "who runs it"),
    ("--group-add GROUP", "list", (), "one more group"),
    ("--entrypoint WORD", "text", None, "run WORD in place of the image's entrypoint"),
    ("-h --hostname NAME", "text", "", "its host name"),
    ("--domainname NAME", "text", "", "its NIS domain name"),
    ("--network --net NETWORK", "list", (), "network: NAME, none, host, container:ID"),
    ("--network-alias --net-alias NAME", "list", (), "one more name on its networks"),
    ("--ip ADDRESS", "text", "", "its IPv4 address"),
    ("--ip6 ADDRESS", "text", "", "its IPv6 address"),
    ("--mac-address ADDRESS", "text", "", "its MAC address"),
    ("-p --publish PORT", "list", (), "publish a port: [ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]"),
    ("-P --publish-all", "flag", False, "publish all exposed ports on random ones"),
    ("--expose PORT[/PROTOCOL]", "list", (), "a port that it listens on"),
    ("--dns ADDRESS", "list", (), "name server"),
    ("--dns-search DOMAIN", "list", (), "search domain"),
    ("--dns-option OPTION", "list", (), "option of the resolver"),
    ("--add-host NAME:ADDRESS", "list", (), "one more line of /etc/hosts"),
    ("--link CONTAINER[:NAME]", "list", (), "know another container by a name of its own"),
    ("-v --volume SOURCE:DIR[:OPTIONS]", "list", (), "a volume, or a directory of the engine's host"),
    ("--mount KEY=VALUE,...", "list", (), "the same in more words"),
    ("--tmpfs DIR[:OPTIONS]", "list", (), "an empty directory in memory"),
    ("--volumes-from CONTAINER", "list", (), "the volumes of another"),
    ("--read-only", "flag", False, "make its root read-only"),
    ("--shm-size SIZE", "text", "", "size of /dev/shm"),
    ("-m --memory SIZE", "text", "", "limit of memory"),
    ("--memory-swap SIZE", "text", "", "limit of memory and swap; -1: none of swap"),
    ("--memory-reservation SIZE", "text", "", "soft limit of memory"),
    ("--cpus N", "text", "", "how many processors' time"),
    ("-c --cpu-shares N", "int", 0, "weight of its processes"),
    ("--cpu-period N", "int", 0, "microseconds in which the quota counts"),
    ("--cpu-quota N", "int", 0, "microseconds of each period"),
    ("--cpuset-cpus LIST", "text", "", "the processors it may use"),
    ("--cpuset-mems LIST", "text", "", "the memory nodes it may use"),
    ("--pids-limit N", "int", 0, "how many processes"),
    ("--blkio-weight N", "int", 0, "weight of its disk accesses"),
    ("--oom-score-adj N", "int", 0, "-1000 to 1000"),
    ("--cgroup-parent PATH", "text", "", "cgroup to be put under"),
    ("--ulimit NAME=SOFT[:HARD]", "list", (), "resource limit"),
    ("--sysctl NAME=VALUE", "list", (), "kernel parameter"),
    ("--cap-add NAME", "list", (), "give a capability"),
    ("--cap-drop NAME", "list", (), "take a capability"),
    ("--security-opt OPTION", "list", (), "no-new-privileges, seccomp=FILE"),
    ("--privileged", "flag", False, "everything that the host may"),
    ("--device PATH[:PATH][:rwm]", "list", (), "a device of the host"),
    ("--init", "flag", False, "run an init inside"),
    ("--restart POLICY", "text", "no", "no, on-failure[:N], always, unless-stopped"),
    ("--stop-signal SIGNAL", "text", "", "what asks it to end"),
    ("--stop-timeout SECONDS", "int", None, "how long it has for that"),
    ("--health-cmd COMMAND", "text", "", "how to see that it is well"),
    ("--health-interval TIME", "text", "", "how often"),
    ("--health-timeout TIME", "text", "", "how long that may take"),
    ("--health-retries N", "int", 0, "how many failures make it unhealthy"),
    ("--health-start-period TIME", "text", "", "in which failures do not count"),
    ("--health-start-interval TIME", "text", "", "how often in that"),
    ("--no-healthcheck", "flag", False, "not even the image's check"),
    ("--log-driver NAME", "text", "", "where its output is kept"),
    ("--log-opt NAME=VALUE", "list", (), "option of that"),
    ("--pid MODE", "text", "", "host, container:ID"),
    ("--ipc MODE", "text", "", "host, none, private, shareable, container:ID"),
    ("--uts MODE", "text", "", "host"),
    ("--userns MODE", "text", "", "host"),
    ("--cgroupns MODE", "text", "", "host, private"),
    ("--annotation NAME=VALUE", "list", (), "annotation of the specification"),
)  # fmt: skip


def body(args: Args, attached: bool) -> dict[str, Any]:
    """The document of POST /containers/create."""
    made: dict[str, Any] = {
        "Image": args.image, "Cmd": args.cmd or None, "Tty": args.tty, "OpenStdin": args.interactive,
        "StdinOnce": args.interactive and attached, "AttachStdin": args.interactive and attached,
        "AttachStdout": attached, "AttachStderr": attached, "Env": variables(args),
        "Labels": cli.pairs(args.label, "--label"),
        "User": args.user, "WorkingDir": args.workdir, "Hostname": args.hostname, "Domainname": args.domainname,
        "HostConfig": _host(args), "NetworkingConfig": _networks(args),
    }  # fmt: skip
    if args.entrypoint is not None:
        made["Entrypoint"] = [args.entrypoint]
    if args.stop_signal:
        made["StopSignal"] = args.stop_signal
    if args.stop_timeout is not None:
        made["StopTimeout"] = args.stop_timeout
    exposed: dict[str, Any] = {_port(each): {} for each in args.expose}
    exposed.update({port: {} for port in made["HostConfig"]["PortBindings"]})
    if exposed:
        made["ExposedPorts"] = exposed
    anonymous: dict[str, Any] = {each: {} for each in args.volume if ":" not in each}
    if anonymous:
        made["Volumes"] = anonymous
    health = _health(args)
    if health:
        made["Healthcheck"] = health
    return made


def variables(args: Args) -> list[str]:
    """--env-file, then --env; a name alone takes the value it has here."""
    found = []
    for path in args.env_file:
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except OSError as error:
            raise Error("cannot read", path, error) from None
        found += [line for line in lines if line and not line.startswith("#")]
    found += args.env
    said = [
        each if "=" in each else f"{each}={os.environ[each]}"
        for each in found
        if "=" in each or each in os.environ
    ]
    return said


def size(text: str, option: str) -> int:
    """Bytes: 64m, 1g, -1."""
    if not text:
        return 0
    if text == "-1":
        return -1
    number = text.lower().removesuffix("b") if text.lower() != "b" else text
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        return int(float(number[: len(number) - len(unit)]) * _UNITS[unit])
    except (ValueError, KeyError):
        raise Usage(f"invalid value for {option}", text, hint="a size like 64m") from None


def duration(text: str, option: str) -> int:
    """Nanoseconds: 1m30s, 500ms."""
    if not text:
        return 0
    total, number, at = 0.0, "", 0
    try:
        while at < len(text):
            if text[at].isdigit() or text[at] == ".":
                number, at = number + text[at], at + 1
                continue
            unit = text[at : at + 2] if text[at : at + 2] in _TIMES else text[at]
            total, number, at = total + float(number) * _TIMES[unit], "", at + len(unit)
        if number:
            raise ValueError
    except (ValueError, KeyError):
        raise Usage(f"invalid value for {option}", text, hint="a time like 1m30s") from None
    return int(total)


def _host(args: Args) -> dict[str, Any]:
    name, _, count = args.restart.partition(":")
    made: dict[str, Any] = {
        "AutoRemove": args.rm,
        "Binds": [each for each in args.volume if ":" in each] or None,
        "Mounts": [mount(each) for each in args.mount],
        "Tmpfs": {path: options for path, _, options in (each.partition(":") for each in args.tmpfs)} or None,
        "VolumesFrom": args.volumes_from or None,
        "NetworkMode": (_network_names(args) or ["default"])[0],
        "PortBindings": bindings(args.publish),
        "PublishAllPorts": args.publish_all,
        "RestartPolicy": {"Name": name, "MaximumRetryCount": int(count) if count.isdecimal() else 0},
        "Memory": size(args.memory, "--memory"),
        "MemorySwap": size(args.memory_swap, "--memory-swap"),
        "MemoryReservation": size(args.memory_reservation, "--memory-reservation"),
        "ShmSize": size(args.shm_size, "--shm-size"),
        "NanoCpus": _cpus(args.cpus),
        "CpuShares": args.cpu_shares, "CpuPeriod": args.cpu_period, "CpuQuota": args.cpu_quota,
        "CpusetCpus": args.cpuset_cpus, "CpusetMems": args.cpuset_mems, "BlkioWeight": args.blkio_weight,
        "PidsLimit": args.pids_limit or None, "OomScoreAdj": args.oom_score_adj, "CgroupParent": args.cgroup_parent,
        "CapAdd": args.cap_add or None, "CapDrop": args.cap_drop or None, "Privileged": args.privileged,
        "SecurityOpt": [security(each) for each in args.security_opt] or None,
        "ReadonlyRootfs": args.read_only, "GroupAdd": args.group_add or None, "Init": args.init or None,
        "Dns": args.dns, "DnsSearch": args.dns_search, "DnsOptions": args.dns_option,
        "ExtraHosts": args.add_host or None, "Links": args.link or None,
        "Sysctls": cli.pairs(args.sysctl, "--sysctl") or None, "Ulimits": [_ulimit(each) for each in args.ulimit],
        "Devices": [_device(each) for each in args.device],
        "PidMode": args.pid, "IpcMode": args.ipc, "UTSMode": args.uts, "UsernsMode": args.userns,
        "CgroupnsMode": args.cgroupns, "Annotations": cli.pairs(args.annotation, "--annotation") or None,
        "LogConfig": {"Type": args.log_driver, "Config": cli.pairs(args.log_opt, "--log-opt")},
    }  # fmt: skip
    rows = console() if args.tty else None
    return {**made, "ConsoleSize": rows} if rows else made


def _cpus(text: str) -> int:
    try:
        return int(float(text or 0) * SECOND)
    except ValueError:
        raise Usage("invalid value for --cpus", text, hint="a number like 1.5") from None


def security(word: str) -> str:
    """seccomp=FILE is a file of ours: what is in it is sent."""
    name, _, value = word.partition("=")
    if name != "seccomp" or value in ("unconfined", "builtin"):
        return word
    return f"seccomp={document.dumps(document.load(value)).decode()}"


def _ulimit(word: str) -> dict[str, Any]:
    name, equals, value = word.partition("=")
    soft, _, hard = value.partition(":")
    try:
        return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise Usage("invalid value for --ulimit", word, hint="NAME=SOFT[:HARD]") from None


def _device(word: str) -> dict[str, str]:
    outer, _, rest = word.partition(":")
    inner, _, access = rest.partition(":")
    if inner and not inner.startswith("/"):
        inner, access = "", inner
    return {"PathOnHost": outer, "PathInContainer": inner or outer, "CgroupPermissions": access or "rwm"}


def mount(word: str) -> dict[str, Any]:
    """type=bind,source=/a,target=/b,readonly"""
    said = {}
    for field in word.split(","):
        key, equals, value = field.partition("=")
        said[key] = value if equals else "true"
    made: dict[str, Any] = {
        "Type": said.get("type", "volume"),
        "Source": said.get("source") or said.get("src") or "",
        "Target": said.get("target") or said.get("destination") or said.get("dst") or "",
        "ReadOnly": (said.get("readonly") or said.get("ro") or "false") in ("true", "1"),
    }
    if not made["Target"]:
        raise Usage("invalid value for --mount", word, "target is missing")
    if "bind-propagation" in said:
        made["BindOptions"] = {"Propagation": said["bind-propagation"]}
    if "tmpfs-size" in said or "tmpfs-mode" in said:
        made["TmpfsOptions"] = {
            "SizeBytes": size(said.get("tmpfs-size", ""), "--mount"), "Mode": int(said.get("tmpfs-mode", "0"), 8),
        }  # fmt: skip
    if said.get("volume-nocopy") == "true" or "volume-subpath" in said:
        made["VolumeOptions"] = {
            "NoCopy": said.get("volume-nocopy") == "true",
            "Subpath": said.get("volume-subpath", ""),
        }
    return made


def _port(word: str) -> str:
    return word if "/" in word else f"{word}/tcp"


def bindings(words: list[str]) -> dict[str, list[dict[str, str]]]:
    """[ADDRESS:][HOST-PORT:]PORT[/PROTOCOL], and ranges, as PortBindings."""
    found: dict[str, list[dict[str, str]]] = {}
    for word in words:
        rest, _, kind = word.partition("/")
        rest, _, inner = rest.rpartition(":")
        address, outer = "", rest
        if rest.startswith("["):
            address, _, outer = rest[1:].partition("]")
            outer = outer.removeprefix(":")
        elif ":" in rest or "." in rest:
            address, _, outer = rest.partition(":")
        for inside, outside in _ranges(inner, outer, word):
            found.setdefault(f"{inside}/{kind or 'tcp'}", []).append({"HostIp": address, "HostPort": outside})
    return found


def _ranges(inner: str, outer: str, word: str) -> list[tuple[str, str]]:
    try:
        first, last = ([int(part) for part in inner.split("-")] * 2)[:2]
        begin, end = ([int(part) for part in outer.split("-")] * 2)[:2] if outer else (0, 0)
    except ValueError:
        raise Usage(
            "invalid value for --publish", word, hint="[ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]"
        ) from None
    if not 0 < first <= last < 65536 or begin > end or end > 65535:
        raise Usage("invalid value for --publish", word, "ports are 1 to 65535")
    if outer and end - begin != last - first:
        if first != last:
            raise Usage("invalid value for --publish", word, "the ranges have different lengths")
        return [(str(first), outer)]
    return [(str(first + n), str(begin + n) if outer else "") for n in range(last - first + 1)]


def _network_names(args: Args) -> list[str]:
    return [word.partition(":")[0] if not word.startswith("container:") else word for word in args.network]


def _networks(args: Args) -> dict[str, Any]:
    ends: dict[str, Any] = {}
    for word, name in zip(args.network, _network_names(args), strict=True):
        if name in ("none", "host", "default") or name.startswith("container:"):
            continue
        said = [each.partition("=") for each in word.partition(":")[2].split(",") if each]
        ends[name] = {"Aliases": [value for key, _, value in said if key == "alias"] + args.network_alias}
        config = {
            known[key]: value
            for key, _, value in said
            if key in (known := {"ip": "IPv4Address", "ip6": "IPv6Address"})
        }
        if config:
            ends[name]["IPAMConfig"] = config
    first = next(iter(ends.values()), None)
    about = {"IPv4Address": args.ip, "IPv6Address": args.ip6}
    if first is None and (any(about.values()) or args.mac_address or args.network_alias):
        first = ends.setdefault("default", {"Aliases": args.network_alias})
    if first is not None:
        config = {**first.get("IPAMConfig", {}), **{key: value for key, value in about.items() if value}}
        first.update(
            {"IPAMConfig": config} if config else {},
            **({"MacAddress": args.mac_address} if args.mac_address else {}),
        )
    return {"EndpointsConfig": ends}


def _health(args: Args) -> dict[str, Any]:
    if args.no_healthcheck:
        return {"Test": ["NONE"]}
    made: dict[str, Any] = {"Test": ["CMD-SHELL", args.health_cmd]} if args.health_cmd else {}
    for key, option in (("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start_period"),
                        ("StartInterval", "start_interval")):  # fmt: skip
        value = getattr(args, f"health_{option}")
        if value:
            made[key] = duration(value, f"--health-{option.replace('_', '-')}")
    if args.health_retries:
        made["Retries"] = args.health_retries
    return made


def words(text: str) -> list[str]:
    """A line as a shell splits it."""
    import shlex

    return shlex.split(text)
