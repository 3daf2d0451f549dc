"""Attachments: what is written of a container's place on a network, before anything of it is made.

    $OCI_RUN/net/on/NETWORK/at/CONTAINER.json

    {"version": 1, "network", "container", "name", "aliases": [], "interface": "eth0", "host": "veth1a2b3c4d",
     "namespace": "/run/oci/netns/ID", "inode": 4026532212, "mac": "02:42:0a:58:00:02", "addresses": ["10.88.0.2/16"],
     "gateways": ["10.88.0.1"], "ports": [{"hostIP", "hostPort", "containerPort", "protocol"}], "priority": 0,
     "servers": [], "result": what foreign plugins answered, "cni": true if a runtime of others asked for it,
     "attached": nanoseconds since 1970}

An attachment whose namespace is gone is dead: its leases, names and ports are free to be taken.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.net import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+")


def is_id(text: str) -> bool:
    """Whether a container may be called so: it becomes part of a path."""
    return 0 < len(text) <= 200 and _ID.issuperset(text) and text[0] != "."


def directory(network: str) -> str:
    return f"{place.on(network)}/at"


def path(network: str, container: str) -> str:
    return f"{directory(network)}/{container}.json"


def make_directories(network: str) -> None:
    """Those of a network: its resolver, which is nobody, may look up names in the outer one and no more."""
    outer = place.on(network)
    if not os.path.isdir(f"{outer}/lease"):
        fs.make_private(outer)
        os.chmod(outer, 0o755)
        for name in ("at", "lease"):
            fs.make_private(f"{outer}/{name}")


def write(record: dict[str, Any]) -> None:
    # Not synced: after a power cut the kernel's side is gone too.
    data = document.dumps({"version": VERSION, **record})
    fs.write(path(record["network"], record["container"]), data, 0o600, sync=False)


def read(network: str, container: str) -> dict[str, Any] | None:
    """One attachment, None if there is none."""
    try:
        with open(path(network, container), "rb", buffering=0) as file:
            found: dict[str, Any] = document.loads(file.read(), path(network, container))
        return found
    except FileNotFoundError:
        return None


def remove(network: str, container: str) -> None:
    try:
        os.unlink(path(network, container))
    except FileNotFoundError:
        pass


def containers(network: str) -> list[str]:
    """Those that are attached to a network, sorted."""
    try:
        return sorted(name[:-5] for name in os.listdir(directory(network)) if name.endswith(".json"))
    except FileNotFoundError:
        return []


def of_network(network: str) -> list[dict[str, Any]]:
    """The attachments to a network, by container."""
    found = (read(network, container) for container in containers(network))
    return [one for one in found if one]


def networks() -> list[str]:
    """Those that something was ever attached to since the boot."""
    try:
        return sorted(name for name in os.listdir(f"{place.state()}/on"))
    except FileNotFoundError:
        return []


def of_container(container: str) -> list[dict[str, Any]]:
    """A container's attachments, in the order in which they were made."""
    found = (read(network, container) for network in networks())
    return sorted((one for one in found if one), key=lambda one: int(one["attached"]))


def is_alive(record: dict[str, Any]) -> bool:
    """Whether its namespace is still there, and its container if that is one of the store."""
    try:
        seen = os.stat(record["namespace"])
    except OSError:
        return False
    if record["namespace"] == place.namespace(record["container"]):
        # Pinned: it stays when whoever looked after the container was killed, and its directory does not.
        kept = f"{fs.root()}/containers/{record['container']}"
        if len(record["container"]) == 64 and not os.path.exists(kept):
            return False
    inode: int = record["inode"]
    return seen.st_ino == inode
