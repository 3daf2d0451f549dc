"""Which namespaces a container has of its own, which are the host's or another's: --pid, --ipc, --uts, --cgroupns.

A word is `private`, `host`, `container:ID` (the namespace that another, running one has), or `ns:PATH`.
Whose namespaces a container joins is in policy.json, "joins": kind -> ID.  A path of another's first process is good
for one start: at the next, that process may be another, or a stranger.
--userns is `userns.py`'s.
"""

from __future__ import annotations

from oci_tools.container import mounts, networking
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

SHM, QUEUES = "/dev/shm", "/dev/mqueue"


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put the namespaces that `args` ask for in place."""
    alone = networking.mode(args.network)
    if alone == "host" or alone.startswith(("container:", "ns:")):
        _take(spec, "network", alone, "--network", host)
        if alone.startswith("container:") and args.uts != "host" and args.hostname is None:
            _call_as(spec, host, args.uts == "private")
    _names(spec, args)
    _take(spec, "pid", args.pid, "--pid", host)
    _take(spec, "cgroup", args.cgroupns, "--cgroupns", host)
    _take(spec, "uts", args.uts, "--uts", host)
    _ipc(spec, args.ipc, host)
    if host.rootless or not host.initial:
        _show(spec, args, alone)


def _show(spec: dict[str, Any], args: Args, network: str) -> None:
    """File systems of a namespace that is not one's own can be mounted only by the host's root: show the host's."""
    from oci_tools.container import userns

    if network == "host":
        userns.show(spec, "sysfs", "/sys", "ro", "rro")
    if args.pid == "host":
        userns.show(spec, "proc", "/proc")
    if args.cgroupns == "host":
        userns.show(spec, "cgroup", "/sys/fs/cgroup", "ro", "rro")


def _names(spec: dict[str, Any], args: Args) -> None:
    if args.uts != "private":
        if args.hostname or args.domainname:
            raise Usage(f"--hostname and --domainname exclude --uts {args.uts}")
        spec.pop("hostname", None)
    if args.hostname is not None:
        _check_name(args.hostname, "--hostname")
        spec["hostname"] = args.hostname
    if args.domainname is not None:
        _check_name(args.domainname, "--domainname")
        spec["domainname"] = args.domainname


def _call_as(spec: dict[str, Any], host: Host, own: bool) -> None:
    """The host name of the container whose network is joined, as docker has it."""
    path = host.file_of(host.joins["network"], "hostname") if "network" in host.joins else None
    if path:
        name = host.text(path).strip()
        if own:
            spec["hostname"] = name
        env = spec["process"].get("env", [])
        spec["process"]["env"] = [f"HOSTNAME={name}" if each.startswith("HOSTNAME=") else each for each in env]


def _check_name(name: str, option: str) -> None:
    """A host name is also a line of /etc/hosts and /etc/hostname."""
    if not name or any(c.isspace() or not c.isprintable() for c in name):
        raise Usage(f"invalid value for {option}", name)


def _take(spec: dict[str, Any], kind: str, mode: str, option: str, host: Host) -> None:
    """The namespace of one kind as a word says; a new one only where the specification had it already."""
    if mode == "private":
        return
    leave(spec, kind)
    if mode != "host":
        spec["linux"].setdefault("namespaces", []).append({"type": kind, "path": path_of(mode, kind, option, host)})


def path_of(mode: str, kind: str, option: str, host: Host) -> str:
    """The namespace that `container:ID` or `ns:PATH` names, as a path to be joined."""
    how, colon, what = mode.partition(":")
    if not colon or not what or how not in ("container", "ns"):
        raise Usage(f"invalid value for {option}", mode, hint="private, host, container:ID or ns:PATH")
    return host.namespace(what, kind) if how == "container" else host.absolute(what)


def _ipc(spec: dict[str, Any], mode: str, host: Host) -> None:
    """Queues and shared memory belong together: who has the one of somebody sees the other of that one."""
    if mode in ("private", "shareable"):
        return
    if mode == "none":
        spec["mounts"] = [each for each in spec["mounts"] if mounts.normal(each["destination"]) != SHM]
        return
    _take(spec, "ipc", mode, "--ipc", host)
    if mode == "host":
        if not host.exists(QUEUES):
            spec["mounts"] = [each for each in spec["mounts"] if mounts.normal(each["destination"]) != QUEUES]
        mounts.place(spec, [mounts.bind(path, path, False) for path in (SHM, QUEUES) if host.exists(path)])
    elif mode.startswith("container:"):
        # Memory that is shared by name is a file system, which the other mounts in its own mount namespace.
        root = host.root_of(mode.partition(":")[2])
        mounts.place(spec, [mounts.bind(f"{root}{SHM}", SHM, False)])


def rejoin(spec: dict[str, Any], joins: dict[str, str], host: Host) -> None:
    """The namespaces of others as they are now."""
    spaces = spec["linux"].get("namespaces", [])
    for kind, container in joins.items():
        path = host.namespace(container, kind)
        for each in spaces:
            if each["type"] == kind:
                each["path"] = path
        if kind == "ipc":
            for mount in spec["mounts"]:
                if mount["destination"] == SHM and mount.get("source", "").startswith("/proc/"):
                    mount["source"] = f"{host.root_of(container)}{SHM}"


def leave(spec: dict[str, Any], kind: str) -> None:
    """Stay in the host's namespace of a kind."""
    spaces = spec["linux"].get("namespaces", [])
    spec["linux"]["namespaces"] = [each for each in spaces if each["type"] != kind]
