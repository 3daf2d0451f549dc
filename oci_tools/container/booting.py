"""--systemd (podman): what a systemd that is to run as a container's first process expects.

systemd.io/CONTAINER_INTERFACE: /run, /run/lock, /tmp and /var/log/journal in memory, a cgroup of its own that it may
divide, $container and $container_uuid, and to be asked to end by SIGRTMIN+3.
"""

from __future__ import annotations

from oci_tools.container import mounts, security, units
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

_PROGRAMS = ("/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init")
_MODES = {"/run": "755", "/run/lock": "755", "/tmp": "1777", "/var/log/journal": "755"}
STOP = "RTMIN+3"


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put it in place, if what is run is a systemd, or is said to be one."""
    words = spec["process"].get("args") or [""]
    if args.systemd == "true" and words[0] not in _PROGRAMS and words[0].rpartition("/")[2] != "systemd":
        return
    if args.cgroupns == "host":
        raise Usage("--systemd excludes --cgroupns host")
    size = [f"size={units.size(args.shm_size_systemd, '--shm-size-systemd')}"] if args.shm_size_systemd else []
    made = [
        {"destination": path, "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "nodev", "tmpcopyup", f"mode={mode}", *size]}
        for path, mode in _MODES.items()
    ]  # fmt: skip
    mounts.place(spec, made)
    security.cgroups(spec, True)
    identity = [f"container_uuid={host.container[:32]}"] if host.container else []
    spec["process"]["env"] = [*spec["process"].get("env", []), "container=oci", *identity]
    if not args.stop_signal:
        spec.setdefault("annotations", {})["org.opencontainers.image.stopSignal"] = STOP
