"""The networks of RUN: what --network and $OCI_NETWORK say, as for `oci-run`, joined by `oci-net`.

A namespace is made for the first step that needs one, joins its network, and serves the steps that follow; those
that run at the same time have one each.  All leave their networks when the build ends; what a killed one left
attached, which `work/ID/networks/` tells, the next build detaches.  A plain user's have no network: pasta(1) is
their way out, which goes with the thread that holds the namespace.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.build import calling
from oci_tools.bundle import step
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.build.calling import Call

VARIABLE = "OCI_NETWORK"  # what `oci-run` takes for "default" too
PASTA = "pasta"
_PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/bin")
_TUN = "/dev/net/tun"  # what pasta needs; not there in most containers
_RESOLVED = "/run/systemd/resolve/resolv.conf"


class Space:
    """A namespace that has joined a network; `servers` are those of the network that tell names.

    `host` is the address that the host has there.
    """

    def __init__(self, network: str, path: str, end: Callable[[], None]) -> None:
        self.network = network
        self.path = path
        self.end = end
        self.servers: list[str] = []
        self.host = "127.0.0.1"


class Networks:
    """The namespaces of one build, in the directory `place`."""

    def __init__(self, place: str, call: Call, warn: Callable[[str], None]) -> None:
        import threading

        self._place = place
        self._call = call
        self._warn = warn
        self._free: list[Space] = []
        self._all: list[Space] = []
        self._lock = threading.Lock()
        self._warned = False

    def meant(self, word: str) -> str:
        """none, host, or the network of `oci-net` that a word of docker's or podman's means."""
        if word not in ("default", "private", "container", "slirp4netns"):
            return word
        said = os.environ.get(VARIABLE, "default")
        if said not in ("default", "private", PASTA, "slirp4netns"):
            return said
        if os.geteuid() == 0 and step.apart.is_hosts_root():
            if _has("nft"):
                return "bridge"
        elif _has(PASTA) and os.access(_TUN, os.R_OK | os.W_OK):
            return PASTA
        if not self._warned:
            self._warned = True
            self._warn("RUN has no network here (--network host gives it the host's)")
        return "none"

    def take(self, network: str) -> Space:
        """A namespace for one step; `give` it back."""
        with self._lock:
            found = next((space for space in self._free if space.network == network), None)
            if found is not None:
                self._free.remove(found)
                return found
            path = f"{self._place}/{len(self._all)}"
            os.makedirs(self._place, mode=0o700, exist_ok=True)
            with open(f"{path}.network", "x", encoding="utf-8") as file:
                file.write(network)
            in_proc, end = step.apart.network(path)
            made = Space(network, path, end)
            self._all.append(made)
            said = self._net("attach", "--json", network, in_proc if network == PASTA else path)
            made.host = next(iter(said.get("gateways") or ()), made.host)
            if network == PASTA:
                made.servers = list(said["dns"]["nameservers"])
            elif self._net("inspect", "--json", network).get("resolver"):
                made.servers = list(said.get("gateways") or [])
            return made

    def _net(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = document.loads(calling.output(self._call, ["net", *words]).encode())
        return found

    def give(self, space: Space) -> None:
        with self._lock:
            self._free.append(space)

    def close(self) -> None:
        for space in self._all:
            leave(self._call, space.network, space.path)
            space.end()
            step.apart.detach(space.path)
        self._all, self._free = [], []


def _has(program: str) -> bool:
    return any(os.access(f"{place}/{program}", os.X_OK) for place in _PLACES)


def leave(call: Call, network: str, path: str) -> None:
    """Have a namespace leave its network, be it there or not."""
    if network == PASTA:
        return
    try:
        calling.output(call, ["net", "detach", "--force", network, path])
    except Error:
        pass


def left(place: str) -> Iterator[tuple[str, str]]:
    """The networks and namespaces of a build that was killed."""
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if name.endswith(".network"):
            with open(f"{place}/{name}", encoding="utf-8") as file:
                yield file.read(), f"{place}/{name.removesuffix('.network')}"


def resolv_conf(servers: list[str], own: bool) -> str | None:
    """What /etc/resolv.conf says in a step: the network's servers, else the host's.

    In a network of its `own` a step cannot reach a server on the host's loopback device.
    """
    if servers:
        return "".join(f"nameserver {server}\n" for server in servers)
    for path in ("/etc/resolv.conf", _RESOLVED) if own else ("/etc/resolv.conf",):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.readlines()
        except OSError:
            continue
        kept = [line for line in lines if not (own and _is_local(line))]
        if any(line.startswith("nameserver") for line in kept) or not own:
            return "".join(kept)
    return None


def with_dns(text: str, said: dict[str, list[str]]) -> str:
    """What /etc/resolv.conf says with what options say in place of its own: keyword -> values."""
    for keyword, values in said.items():
        if values:
            text = "".join(line for line in text.splitlines(True) if line.split()[:1] != [keyword])
            text += "\n" if text and not text.endswith("\n") else ""
            lines = [[each] for each in values] if keyword == "nameserver" else [values]
            text += "".join(f"{keyword} {' '.join(line)}\n" for line in lines)
    return text


def _is_local(line: str) -> bool:
    words = line.split()
    return words[:1] == ["nameserver"] and len(words) > 1 and words[1].startswith(("127.", "::1"))
