"""`linux.sysctl`: the kernel parameters that a container has for itself.

runtime-spec, "Sysctl".  Each belongs to a kind of namespace; without one of its own the
container would change the host's, and most parameters belong to none: those are refused.
Names are as sysctl(8) takes them: `net.ipv4.ip_forward`, or `net/ipv4/conf/eth0.1/forwarding`.
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.runtime.namespaces import Namespaces

_OWNERS = {
    "kernel/domainname": "uts", "kernel/ns_last_pid": "pid", "kernel/pid_max": "pid",
    **{f"kernel/{name}": "ipc" for name in (
        "auto_msgmni", "msg_next_id", "msgmax", "msgmnb", "msgmni", "sem", "sem_next_id", "shm_next_id",
        "shm_rmid_forced", "shmall", "shmmax", "shmmni",
    )},
}  # fmt: skip
_TREES = {"net": "network", "user": "user", "fs/mqueue": "ipc"}


def path(name: str) -> str:
    """Where it is beneath /proc/sys."""
    return name if "/" in name else name.replace(".", "/")


def check(names: Iterable[str], spaces: Namespaces) -> None:
    """Refuse what is not the container's own."""
    for name in names:
        place = path(name)
        if place == "kernel/hostname":
            raise Error("config.json: linux.sysctl: config.json's own 'hostname' sets", name)  # which would win?
        kind = _OWNERS.get(place) or next((_TREES[tree] for tree in _TREES if place.startswith(f"{tree}/")), None)
        if kind is None:
            raise Error("config.json: linux.sysctl: not a container's but the host's", name)
        if not spaces.isolates(kind):
            raise Error(f"config.json: linux.sysctl: needs a {kind} namespace of the container's own", name)


def apply(spec: dict[str, Any], spaces: Namespaces) -> None:
    """Names and sysctls, through the host's own /proc, which no image can replace."""
    if spec.get("hostname") and spaces.isolates("uts"):
        process.sethostname(spec["hostname"])
    if spec.get("domainname") and spaces.isolates("uts"):
        process.setdomainname(spec["domainname"])
    for name, value in ((spec.get("linux") or {}).get("sysctl") or {}).items():
        try:
            process.write(f"/proc/sys/{path(name)}", value)
        except OSError as error:
            raise Error(f"cannot set sysctl '{name}' to '{value}'", None, error) from None
