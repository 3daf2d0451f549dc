"""The options of a container, docker's words, and what they make of a specification.

`OPTIONS` declares them once (`cli.py` says how): RUNNING, which `start.py` heeds, and SPECIFYING, whose meaning
is `apply`, as data: it changes a config.json and asks the world only through `host.py`, so that `oci-spec` has
the same options.  The parts are in `mounts.py`, `namespaces.py`, `limits.py` and `security.py`.
"""

from __future__ import annotations

from oci_tools.container import limits, mounts, namespaces, process, security, units
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args, Option
    from oci_tools.container.host import Host

# What is not of the specification: whether and how it is run, and what becomes of it.
RUNNING: tuple[Option, ...] = (
    ("-i --interactive", "flag", False, "give the payload our standard input, not an empty one"),
    ("-d --detach", "flag", False, "do not wait for it, and print its id"),
    ("-a --attach STREAM", "list", (), "only these of stdin, stdout, stderr are ours; the others are empty or lost"),
    ("--sig-proxy", "flag", True, "pass signals on to it: the default; --sig-proxy=false: they end only ourselves"),
    ("--detach-keys KEYS", "text", None, "with -t: leave it alone when these are typed, like ctrl-p,ctrl-q"),
    ("--preserve-fds N", "int", 0, "leave N descriptors from 3 on open for the payload"),
    ("--preserve-fd N,...", "list", (), "leave these descriptors open for the payload"),
    ("--rm", "flag", None, "remove it when it ends: the default, save with -d; --rm=false keeps it"),
    ("--rmi", "flag", False, "with it remove its image from the store, unless another container is of that"),
    ("--timeout SECONDS", "int", 0, "kill it if it has not ended by then; 0: never"),
    ("--runtime NAME", "text", None, "understood for docker's callers: oci-run, or its path"),
    ("--volume-driver NAME", ("local",), "local", "understood for docker's callers: there is this one"),
    ("--disable-content-trust", "flag", True, "understood for docker's callers: oci-pull checks by a policy"),
    ("--name NAME", "text", None, "a name for it besides its id"),
    ("--replace", "flag", False, "first remove the container that has the name"),
    ("--cidfile FILE", "text", None, "write its id to FILE, which must not be there"),
    ("--pidfile FILE", "text", None, "write the pid of its first process to FILE"),
    ("--conmon-pidfile FILE", "text", None, "write the pid of our process that looks after it to FILE"),
    ("-l --label NAME[=VALUE]", "list", (), "a label of the container"),
    ("--label-file FILE", "list", (), "labels in FILE, NAME=VALUE lines"),
    ("--pull WHEN", ("always", "missing", "never", "newer"), "missing", "when to ask the registry for the image"),
    ("-q --quiet", "flag", False, "pull it without showing how far it is"),
    ("--authfile FILE", "text", None, "file with the credentials of registries"),
    ("--tls-verify", "flag", True, "check certificates of registries: the default; --tls-verify=false: do not"),
    ("--retry N", "int", None, "how often to try again if pulling fails"),
    ("--retry-delay TIME", "text", None, "how long to wait before that"),
    ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
    ("--os OS", "text", None, "the same in podman's words"),
    ("--arch ARCH", "text", None, "the same in podman's words"),
    ("--variant VARIANT", "text", None, "the same in podman's words"),
    ("--secret NAME[,KEY=VALUE]...", "list", (),
     "what it may read at /run/secrets/NAME: src=FILE, env=VARIABLE or fd=N, else the file NAME in secrets of "
     "OCI_ROOT; type=mount|env, target=, uid=, gid=, mode="),
    ("--rootfs", "flag", False, "the operand is the directory of a root file system"),
    ("--storage-opt size=SIZE", "list", (),
     "of an image: how much it may write to its root, on xfs or ext4 with project quotas"),
    ("--seccomp-policy WHOSE", ("default", "image"), "default",
     "image: the image's label may say what system calls are let through"),
    ("-p --publish PORT", "list", (), "publish a port: [ADDRESS:][HOST-PORT:]PORT[/PROTOCOL], and ranges"),
    ("-P --publish-all", "flag", False, "publish all that the image exposes, on random ports"),
    ("--ip ADDRESS", "text", None, "its IPv4 address on the first network"),
    ("--ip6 ADDRESS", "text", None, "its IPv6 address there"),
    ("--mac-address ADDRESS", "text", None, "the MAC address of its link there"),
    ("--network-alias --net-alias NAME", "list", (), "one more name by which others on its networks find it"),
    ("--link CONTAINER[:NAME]", "list", (), "know another container by a name of its own"),
    ("--dns ADDRESS", "list", (), "name server"),
    ("--dns-search DOMAIN", "list", (), "search domain"),
    ("--dns-option OPTION", "list", (), "option of the resolver"),
    ("--add-host NAME:ADDRESS", "list", (), "one more line of /etc/hosts"),
    ("--hosts-file FILE", "text", None, "what /etc/hosts begins with: a file of the host; none: nothing"),
    ("--hostuser NAME", "list", (), "an account of the host to add to the container's, with its group"),
    ("--passwd", "flag", False, "add the container's user to its /etc/passwd, and the group, where there is none"),
    ("--passwd-entry LINE", "text", None, "the same, by this line: $USERNAME, $UID, $GID, $NAME, $HOME are replaced"),
    ("--group-entry LINE", "text", None, "the same of /etc/group: $GROUPNAME, $GID, $USERLIST"),
    ("--no-hosts", "flag", False, "leave the image's /etc/hosts as it is"),
    ("--no-hostname", "flag", False, "leave the image's /etc/hostname as it is"),
    ("--chrootdirs DIR,...", "list", (),
     "directories inside that are roots too: hosts, hostname and resolv.conf are in their etc as well"),
    ("--console-size ROWSxCOLUMNS", "text", None, "what its terminal begins with, where we have none"),
    ("--stop-timeout SECONDS", "int", None, "how long 'stop' waits before it kills; -1: for ever"),
    ("--restart POLICY[,KEY=VALUE]...", "text", "no",
     "of -d: no, always, unless-stopped or on-failure[:N]; delay=100ms, max=1m, factor=2, reset=10s, jitter=0, "
     "unhealthy"),
    ("--sdnotify WHO", ("container", "conmon", "healthy", "ignore"), "container",
     "who tells systemd, by NOTIFY_SOCKET, that it is ready: it itself; we, when it runs, or is healthy; nobody"),
    ("--requires ID", "list", (), "another container that is to be started before this one"),
    ("--health-cmd COMMAND", "text", None,
     "of -d: what says inside, by exit code 0, that it is well; none: not even the image's"),
    ("--health-interval TIME", "text", None, "how often (30s)"),
    ("--health-timeout TIME", "text", None, "how long it may take (30s)"),
    ("--health-retries N", "int", None, "after how many failures in a row it is unhealthy (3)"),
    ("--health-start-period TIME", "text", None, "for how long failures do not count at first (0s)"),
    ("--health-start-interval TIME", "text", None, "how often meanwhile (5s)"),
    ("--health-on-failure ACTION", ("none", "kill", "stop", "restart"), "none", "what to do when it is unhealthy"),
    ("--health-startup-cmd COMMAND", "text", None, "what must have succeeded before the first such check"),
    ("--health-startup-interval TIME", "text", None, "how often (30s)"),
    ("--health-startup-timeout TIME", "text", None, "how long it may take (30s)"),
    ("--health-startup-retries N", "int", None, "after how many failures it is unhealthy (3)"),
    ("--health-startup-success N", "int", 1, "how often it must succeed"),
    ("--health-max-log-count N", "int", 5, "how many results of checks are kept; 0: 1000"),
    ("--health-max-log-size BYTES", "int", 4096, "how much of the output of each; 0: 1 MiB"),
    ("--health-log-destination DIR", "text", "local", "write them to ID-healthcheck.log in DIR as well"),
    ("--no-healthcheck", "flag", False, "not even the image's"),
    ("--log-driver NAME", ("k8s-file", "json-file", "local", "journald", "syslog", "none"), "k8s-file",
     "of -d: where what it writes is kept"),
    ("--log-opt NAME=VALUE", "list", (), "of -d: max-size=SIZE of one file of the log (16m), max-file=N (4), and more"),
)  # fmt: skip

# What config.json says.
SPECIFYING: tuple[Option, ...] = (
    ("-t --tty", "flag", False, "give it a terminal"),
    ("-e --env NAME[=VALUE]", "list", (), "set a variable; without a value, to what it is here; NAME*: all such"),
    ("--env-file FILE", "list", (), "set the variables in FILE, NAME=VALUE lines"),
    ("--env-host", "flag", False, "set all variables that are set here, unless the image or an option says otherwise"),
    ("--env-merge NAME=VALUE", "list", (), "set a variable; ${NAME} in its value is what the image says"),
    ("--http-proxy", "flag", False, "set the variables of the proxy that are set here, unless something else does"),
    ("--unsetenv NAME", "list", (), "take a variable away that the image sets"),
    ("--unsetenv-all", "flag", False, "take all variables away that the image sets"),
    ("-w --workdir DIR", "text", None, "working directory inside"),
    ("-u --user USER[:GROUP]", "text", None, "run as this user of the image, by name or number"),
    ("--group-add GROUP", "list", (), "one more group of the user; keep-groups: those of the caller"),
    ("--umask MODE", "text", None, "what new files lack of permissions (0022)"),
    ("--tz ZONE", "text", None, "time zone of the host's zoneinfo, or local"),
    ("--entrypoint WORDS", "text", None, "run this in place of the image's entrypoint: a word, or a JSON list"),
    ("--init", "flag", False, "put a small init before it, which passes signals on and reaps orphans"),
    ("--init-path FILE", "text", None, "of --init: that one, a program of the host without libraries"),
    ("--personality DOMAIN", ("LINUX", "LINUX32"), None, "LINUX32: have it see a processor of 32 bits"),
    ("-h --hostname NAME", "text", None, "the container's host name"),
    ("--domainname NAME", "text", None, "its NIS domain name"),
    ("--expose PORT[/PROTOCOL]", "list", (), "a port, or ports like 80-90, that it listens on"),
    ("--network --net NETWORK", "list", (),
     "join a network of oci-net, NETWORK[:ip=ADDRESS,alias=NAME,...]; none; host; container:ID; pasta"),
    ("--pid MODE", "text", "private", "private; host: see the host's processes; container:ID: another's; ns:PATH"),
    ("--ipc MODE", "text", "private",
     "private, shareable; host: the host's queues and shared memory; container:ID: another's; ns:PATH; "
     "none: no /dev/shm"),
    ("--uts MODE", "text", "private", "private; host: its host name; container:ID: another's; ns:PATH"),
    ("--cgroupns MODE", "text", "private", "private; host: its view of cgroups; container:ID: another's; ns:PATH"),
    ("--userns MODE", "text", "", "auto[:size=N]: users of its own; container:ID; ns:PATH; host: none; keep-id; nomap"),
    ("--uidmap INSIDE:OUTSIDE[:COUNT]", "list", (), "which users of the host its users are"),
    ("--gidmap INSIDE:OUTSIDE[:COUNT]", "list", (), "which groups; else as --uidmap says"),
    ("--subuidname NAME", "text", None, "take users for it from those that /etc/subuid gives to NAME"),
    ("--subgidname NAME", "text", None, "take groups for it from those that /etc/subgid gives to NAME"),
    ("-v --volume [HOST-DIR|NAME:]DIR[:OPTIONS]", "list", (), "show a directory of the host, or a volume, inside"),
    ("--mount KEY=VALUE,...", "list", (), "the same in more words: type=volume|bind|tmpfs|image, source=, target=, ro"),
    ("--volumes-from ID[:OPTIONS]", "list", (), "what another container has of volumes and directories of the host"),
    ("--image-volume KIND", ("bind", "anonymous", "tmpfs", "ignore"), "bind",
     "what the image's volumes are: bind or anonymous, a new volume each; tmpfs; ignore: not there"),
    ("--tmpfs DIR[:OPTIONS]", "list", (), "an empty directory in memory"),
    ("--read-only", "flag", False, "make the root file system read-only"),
    ("--read-only-tmpfs", "flag", False, "with it, let /run, /tmp and /var/tmp be empty directories in memory"),
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
    ("--cpu-rt-period N", "int", None, "microseconds in which the next counts"),
    ("--cpu-rt-runtime N", "int", None, "microseconds of each such period for real-time processes"),
    ("--cpuset-cpus LIST", "text", None, "the processors it may use, like 0-3,7"),
    ("--cpuset-mems LIST", "text", None, "the memory nodes it may use"),
    ("--pids-limit N", "int", None, "how many processes it may have; -1: no limit"),
    ("--blkio-weight N", "int", None, "weight of its disk accesses, 10 to 1000"),
    ("--blkio-weight-device PATH:N", "list", (), "the same for one disk"),
    ("--device-read-bps PATH:SIZE", "list", (), "how many bytes a second it may read from a disk"),
    ("--device-write-bps PATH:SIZE", "list", (), "how many it may write"),
    ("--device-read-iops PATH:N", "list", (), "how often a second it may read from a disk"),
    ("--device-write-iops PATH:N", "list", (), "how often it may write"),
    ("--rdt-class NAME", "text", None, "class of the processor's shared cache, of intelRdt, to be in"),
    ("--cgroups MODE", ("enabled", "no-conmon", "split", "disabled"), "enabled",
     "split: of cgroup v2, beneath ours; disabled: no cgroup of its own"),
    ("--cgroup-parent PATH", "text", None, "cgroup to be put under"),
    ("--cgroup-conf NAME=VALUE", "list", (), "write VALUE to the file NAME of its cgroup, of version 2"),
    ("--ulimit NAME=SOFT[:HARD]", "list", (), "resource limit of each process; -1: none"),
    ("--sysctl NAME=VALUE", "list", (), "kernel parameter of the container's own namespaces"),
    ("--cap-add NAME", "list", (), "give a capability; ALL: all"),
    ("--cap-drop NAME", "list", (), "take a capability; ALL: all"),
    ("--security-opt OPTION", "list", (),
     "no-new-privileges[=false], seccomp=FILE|builtin|unconfined, apparmor=PROFILE|unconfined, label=..., "
     "systempaths=unconfined, mask=PATHS, unmask=PATHS|ALL, masked-paths=PATHS, readonly-paths=PATHS, "
     "proc-opts=OPTIONS, writable-cgroups"),
    ("--privileged", "flag", False, "all capabilities, all devices, nothing masked"),
    ("--device PATH[:PATH][:rwm]", "list", (), "let it use a device of the host; or VENDOR/CLASS=NAME, a CDI device"),
    ("--gpus WHICH", "text", None, "GPUs by their CDI devices: all, a number of them, or device=NAME,..."),
    ("--cdi-spec-dir DIR", "list", (), "look for CDI files here, and not in /etc/cdi and /var/run/cdi"),
    ("--device-cgroup-rule RULE", "list", (), "allow devices by number: 'c 1:3 rwm'"),
    ("--systemd WHEN", ("false", "true", "always"), "false",
     "true: if it is systemd that is run, give it what it expects; always: whatever is run"),
    ("--shm-size-systemd SIZE", "text", None, "with it, size of each of its directories in memory"),
    ("--stop-signal SIGNAL", "text", None, "the signal that asks the payload to end"),
    ("--annotation NAME=VALUE", "list", (), "annotation of the specification"),
)  # fmt: skip

OPTIONS = RUNNING + SPECIFYING

STOP_SIGNAL = "org.opencontainers.image.stopSignal"
CGROUPS = "io.oci-tools.cgroups"  # runtime/groups.py
EXPOSED = "org.opencontainers.image.exposedPorts"


Asked = mounts.Asked


def settle(args: Any) -> None:
    """Say in docker's words what was said in podman's alone."""
    if args.preserve_fd:
        from oci_tools.runtime import descriptors

        args.preserve_fds = descriptors.only(args.preserve_fd)
    elif args.preserve_fds and not getattr(args, "detach", True):  # which excludes it
        from oci_tools.runtime import descriptors

        descriptors.need(args.preserve_fds)
    if args.os or args.arch or args.variant:
        from oci_tools.container import image

        args.platform = image.platform(args)


def apply(spec: dict[str, Any], args: Args, host: Host) -> Asked:
    """Change `spec` as `args` say; what must be made first is returned."""
    spec.setdefault("linux", {})
    spec.setdefault("mounts", [])
    process.apply(spec, args, host)
    namespaces.apply(spec, args, host)
    if args.userns not in ("", "host") or args.uidmap or args.gidmap or args.subuidname or args.subgidname:
        from oci_tools.container import userns

        userns.apply(spec, args, host)
    security.apply(spec, args, host)
    limits.apply(spec, args, host)
    if args.systemd != "false":
        from oci_tools.container import booting

        booting.apply(spec, args, host)
    _annotations(spec, args)
    if args.shm_size:
        _shm_size(spec, units.size(args.shm_size, "--shm-size"))
    missing = mounts.apply(spec, args, host)
    if host.images:
        from oci_tools.container import image

        image.show_as_inside(spec, host)
    if args.init:
        process.begin_with_init(spec, host, args.init_path)
    return missing


def _annotations(spec: dict[str, Any], args: Args) -> None:
    annotations = spec.setdefault("annotations", {})
    for word in args.annotation:
        name, value = units.pair(word, "--annotation")
        annotations[name] = value
    if args.cgroups == "split" and args.cgroup_parent:
        raise Usage("--cgroups split excludes --cgroup-parent")
    if args.cgroups == "disabled":
        _without_cgroups(spec, args)
    if args.stop_signal:
        from oci_tools.runtime import signals

        signals.number(args.stop_signal)
        annotations[STOP_SIGNAL] = args.stop_signal
    if args.expose:
        ports = annotations.get(EXPOSED, "").split(",") + [each for word in args.expose for each in _ports(word)]
        annotations[EXPOSED] = ",".join(dict.fromkeys(port for port in ports if port))


def _without_cgroups(spec: dict[str, Any], args: Args) -> None:
    if args.cgroup_parent or set(spec["linux"].get("resources", ())) - {"devices"}:
        raise Usage("--cgroups disabled excludes limits and --cgroup-parent")
    spec["annotations"][CGROUPS] = "disabled"


def _ports(word: str) -> list[str]:
    """80, 80/udp, 80-82: as an image's ExposedPorts has them."""
    text, slash, protocol = word.partition("/")
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    good = all(each.isascii() and each.isdigit() and 0 < int(each[:6]) < 65536 for each in numbers)
    if not good or int(numbers[0]) > int(numbers[1]) or (slash and protocol not in ("tcp", "udp", "sctp")):
        raise Usage("invalid port", word, hint="PORT[-PORT][/tcp|udp|sctp]")
    return [f"{port}/{protocol or 'tcp'}" for port in range(int(numbers[0]), int(numbers[1]) + 1)]


def _shm_size(spec: dict[str, Any], size: int) -> None:
    for mount in spec["mounts"]:
        if mounts.normal(mount["destination"]) == "/dev/shm" and mount.get("type") == "tmpfs":
            kept = [option for option in mount.get("options", ()) if not option.startswith("size=")]
            mount["options"] = [*kept, f"size={size}"]
