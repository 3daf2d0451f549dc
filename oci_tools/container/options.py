"""The options of a container, docker's words, and what they make of a specification.

`OPTIONS` declares them once (`cli.py` says how); `apply` is their meaning, as data: it changes
a config.json and asks the world only through `host.py`.  The parts are in `mounts.py`,
`limits.py` and `security.py`.  What `start.py` itself does (--name, --rm, --pull, -i, -d) is not here.
"""

from __future__ import annotations

from oci_tools.container import limits, mounts, security, units
from oci_tools.errors import Error, Usage
from oci_tools.runtime import spec as specs
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args, Option
    from oci_tools.container.host import Host

OPTIONS: tuple[Option, ...] = (
    ("-i --interactive", "flag", False, "give the payload our standard input, not an empty one"),
    ("-t --tty", "flag", False, "give it a terminal"),
    ("-d --detach", "flag", False, "do not wait for it, and print its id"),
    ("--rm", "flag", None, "remove it when it ends: the default, save with -d; --rm=false keeps it"),
    ("--name NAME", "text", None, "a name for it besides its id"),
    ("--pull WHEN", ("always", "missing", "never"), "missing", "when to ask the registry for the image"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
    ("-e --env NAME[=VALUE]", "list", (), "set a variable; without a value, to what it is here"),
    ("--env-file FILE", "list", (), "set the variables in FILE, NAME=VALUE lines"),
    ("-w --workdir DIR", "text", None, "working directory inside"),
    ("-u --user USER[:GROUP]", "text", None, "run as this user of the image, by name or number"),
    ("--group-add GROUP", "list", (), "one more group of the user"),
    ("--entrypoint WORD", "text", None, "run WORD in place of the image's entrypoint"),
    ("-h --hostname NAME", "text", None, "the container's host name"),
    ("--domainname NAME", "text", None, "its NIS domain name"),
    ("--network --net MODE", "text", "none", "none: only a loopback device; host: the host's network"),
    ("--dns ADDRESS", "list", (), "name server"),
    ("--dns-search DOMAIN", "list", (), "search domain"),
    ("--dns-option OPTION", "list", (), "option of the resolver"),
    ("--add-host NAME:ADDRESS", "list", (), "one more line of /etc/hosts"),
    ("--pid MODE", ("private", "host"), "private", "host: see the host's processes"),
    ("--ipc MODE", ("private", "shareable", "host", "none"), "private", "host: its message queues; none: no /dev/shm"),
    ("--uts MODE", ("private", "host"), "private", "host: its host name"),
    ("--cgroupns MODE", ("private", "host"), "private", "host: its view of cgroups"),
    ("--userns MODE", ("", "host"), "", "host: no user namespace; that is all there is for root yet"),
    ("-v --volume HOST-DIR:DIR[:OPTIONS]", "list", (), "show a directory or file of the host inside"),
    ("--mount KEY=VALUE,...", "list", (), "the same in more words: type=bind|tmpfs, source=, target=, readonly"),
    ("--tmpfs DIR[:OPTIONS]", "list", (), "an empty directory in memory"),
    ("--read-only", "flag", False, "make the root file system read-only"),
    ("--shm-size SIZE", "text", None, "size of /dev/shm (64m)"),
    ("-m --memory SIZE", "text", None, "limit of memory"),
    ("--memory-swap SIZE", "text", None, "limit of memory and swap together; -1: no limit of swap"),
    ("--memory-reservation SIZE", "text", None, "what it should be brought down to when memory is short"),
    ("--memory-swappiness N", "int", None, "0 to 100"),
    ("--oom-kill-disable", "flag", False, "stop it and do not kill it when it is out of memory"),
    ("--oom-score-adj N", "int", None, "-1000 to 1000"),
    ("--cpus N", "text", None, "how many processors' time it may use, like 1.5"),
    ("-c --cpu-shares N", "int", None, "weight when processors are short (1024)"),
    ("--cpu-period N", "int", None, "microseconds in which the quota counts"),
    ("--cpu-quota N", "int", None, "microseconds of each period that it may use"),
    ("--cpuset-cpus LIST", "text", None, "the processors it may use, like 0-3,7"),
    ("--cpuset-mems LIST", "text", None, "the memory nodes it may use"),
    ("--pids-limit N", "int", None, "how many processes it may have; -1: no limit"),
    ("--blkio-weight N", "int", None, "weight of its disk accesses, 10 to 1000"),
    ("--cgroup-parent PATH", "text", None, "cgroup to be put under"),
    ("--ulimit NAME=SOFT[:HARD]", "list", (), "resource limit of each process; -1: none"),
    ("--sysctl NAME=VALUE", "list", (), "kernel parameter of the container's own namespaces"),
    ("--cap-add NAME", "list", (), "give a capability; ALL: all"),
    ("--cap-drop NAME", "list", (), "take a capability; ALL: all"),
    ("--security-opt OPTION", "list", (), "no-new-privileges[=false], seccomp=FILE|unconfined, systempaths=unconfined"),
    ("--privileged", "flag", False, "all capabilities, all devices, nothing masked"),
    ("--device PATH[:PATH][:rwm]", "list", (), "let it use a device of the host"),
    ("--device-cgroup-rule RULE", "list", (), "allow devices by number: 'c 1:3 rwm'"),
    ("--stop-signal SIGNAL", "text", None, "the signal that asks the payload to end"),
    ("--log-opt NAME=VALUE", "list", (), "of -d: max-size=SIZE of one file of the log (16m), max-file=N (4)"),
    ("--annotation NAME=VALUE", "list", (), "annotation of the specification"),
)  # fmt: skip

STOP_SIGNAL = "org.opencontainers.image.stopSignal"


def apply(spec: dict[str, Any], args: Args, host: Host) -> list[str]:
    """Change `spec` as `args` say; the directories of the host that must be made first are returned."""
    spec.setdefault("linux", {})
    spec.setdefault("mounts", [])
    _process(spec, args, host)
    _namespaces(spec, args, host)
    security.apply(spec, args, host)
    limits.apply(spec, args, host)
    if args.shm_size:
        _shm_size(spec, units.size(args.shm_size, "--shm-size"))
    annotations = spec.setdefault("annotations", {})
    for word in args.annotation:
        name, value = units.pair(word, "--annotation")
        annotations[name] = value
    if args.stop_signal:
        annotations[STOP_SIGNAL] = args.stop_signal
    return mounts.apply(spec, args, host)


def command(args: Args, entrypoint: list[str], default: list[str]) -> list[str]:
    """The payload's words: a new entrypoint also takes away the image's own words (moby, as people know it)."""
    words: list[str] = args.cmd
    if args.entrypoint is not None:
        return ([args.entrypoint] if args.entrypoint else []) + words
    return entrypoint + (words or default)


def _process(spec: dict[str, Any], args: Args, host: Host) -> None:
    process = spec["process"]
    if args.tty:
        process["terminal"] = True
        process["env"] = specs.environment(["TERM=xterm"], process.get("env", []))
    process["env"] = specs.environment(process.get("env", []), variables(args, host))
    if args.workdir is not None:
        if not args.workdir.startswith("/"):
            raise Usage("invalid working directory", args.workdir, "it must be absolute")
        process["cwd"] = specs.directory(args.workdir)
    if args.user is not None:
        specs.set_user(spec, users.resolve(args.user, host.rootfs))
    if args.group_add:
        user = process.setdefault("user", {})
        known = user.setdefault("additionalGids", [])
        for word in args.group_add:
            gid = users.group(word, host.rootfs)
            if gid not in known:
                known.append(gid)


def variables(args: Args, host: Host) -> list[str]:
    """The variables of --env-file and, over them, --env."""
    found: list[str] = []
    for path in args.env_file:
        for number, line in enumerate(host.text(path).removeprefix("\ufeff").split("\n"), 1):
            line = line.rstrip("\r").lstrip()
            if line and not line.startswith("#"):
                if any(c.isspace() for c in line.partition("=")[0]):
                    raise Error(f"invalid variable in '{path}', line {number}", line, "its name has a space")
                found += _variable(line, host)
    for word in args.env:
        found += _variable(word, host)
    return found


def _variable(word: str, host: Host) -> list[str]:
    """NAME=VALUE, or NAME alone: its value here, if it has one."""
    name, equals, _ = word.partition("=")
    if not name:
        raise Usage("invalid environment variable", word)
    if equals:
        return [word]
    return [f"{name}={host.environ[name]}"] if name in host.environ else []


# -- namespaces --------------------------------------------------------------------------------


def _namespaces(spec: dict[str, Any], args: Args, host: Host) -> None:
    if args.network not in ("none", "host"):
        raise Error("cannot use network", args.network, "there are only none and host yet")
    if args.network == "host":
        _leave(spec, "network")
    if args.uts == "host":
        if args.hostname or args.domainname:
            raise Usage("--hostname and --domainname exclude --uts host")
        _leave(spec, "uts")
        spec.pop("hostname", None)
    if args.hostname:
        spec["hostname"] = args.hostname
    if args.domainname:
        spec["domainname"] = args.domainname
    if args.pid == "host":
        _leave(spec, "pid")
    if args.cgroupns == "host":
        _leave(spec, "cgroup")
    if args.ipc == "host":
        _leave(spec, "ipc")
        mounts.place(
            spec,
            [mounts.bind(path, path, False) for path in ("/dev/shm", "/dev/mqueue") if host.exists(path)],
        )
    elif args.ipc == "none":
        spec["mounts"] = [each for each in spec["mounts"] if mounts.normal(each["destination"]) != "/dev/shm"]


def _leave(spec: dict[str, Any], kind: str) -> None:
    """Stay in the host's namespace of a kind."""
    spaces = spec["linux"].get("namespaces", [])
    spec["linux"]["namespaces"] = [each for each in spaces if each["type"] != kind]


def _shm_size(spec: dict[str, Any], size: int) -> None:
    for mount in spec["mounts"]:
        if mounts.normal(mount["destination"]) == "/dev/shm" and mount.get("type") == "tmpfs":
            kept = [option for option in mount.get("options", ()) if not option.startswith("size=")]
            mount["options"] = [*kept, f"size={size}"]
