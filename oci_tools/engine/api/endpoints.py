"""A container's networks: the words that give it some, and what inspect and lists tell of them.

    $OCI_ROOT/networks/NAME.conflist              a network: its id, and who made it when
    $OCI_RUN/net/on/NAME/at/CONTAINER.json        a container's place on it (net/record.py)
    policy.json, "networks"                       what it joins when it starts (container/networking.py)
"""

from __future__ import annotations

import hashlib
import os
import re

from oci_tools import document, fs
from oci_tools.engine.api.answers import Refused
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.container import Container, Kept
    from oci_tools.engine.api.world import World

BRIDGE = "bridge"
IFNAME = "com.docker.network.endpoint.ifname"
MAC = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
BUILT_IN = {"none": "null", "host": "host"}  # networks that are none, and what docker says their driver is


# -- of a container that is to be made ----------------------------------------------------------


def words(host: dict[str, Any], networking: dict[str, Any], world: World, mac: str) -> tuple[list[str], str]:
    """The options of `oci-run new` that give a container its networks, and the mode that inspect tells.

    mac  what older clients say of the first network outside of its settings
    """
    mode = host.get("NetworkMode") or "default"
    mode = BRIDGE if mode == "default" else mode
    for name, end in (networking.get("EndpointsConfig") or {}).items():
        check(BRIDGE if name == "default" else name, end)
    if mode.startswith("container:"):
        other = world.find(mode.partition(":")[2])
        return [f"--network=container:{other.id}"], f"container:{other.id}"
    if mode in BUILT_IN:
        return [f"--network={mode}"], mode
    if mac and not MAC.fullmatch(mac):
        raise Refused(400, f"invalid config for network {mode}: invalid MAC address {mac}")
    ends = {name: end or {} for name, end in (networking.get("EndpointsConfig") or {}).items()}
    first = ends.pop(mode, None) or (ends.pop("default", None) if mode == BRIDGE else None) or {}
    first = {**first, "MacAddress": first.get("MacAddress") or mac}
    found = [_joined(mode, first), *(_joined(name, end) for name, end in ends.items() if name not in BUILT_IN)]
    if os.geteuid() and mode == BRIDGE:
        found = ["--network=default"]  # a plain user's way out needs no bridge
    return [*found, *_published(host)], mode


def check(name: str, end: dict[str, Any] | None) -> None:
    """Refuse what an EndpointConfig may not say, as dockerd does at create."""
    shown = f"invalid config for network {name}: "
    if end is None:
        raise Refused(400, f"{shown}EndpointsConfig is nil")
    if end.get("MacAddress") and not MAC.fullmatch(end["MacAddress"]):
        raise Refused(400, f"{shown}invalid MAC address {end['MacAddress']}")
    found = problems(name, end)
    if found:
        raise Refused(400, shown + several(found))


def problems(name: str, end: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of an endpoint."""
    found, config = [], end.get("IPAMConfig") or {}
    own = name not in (BRIDGE, *BUILT_IN)
    if end.get("Aliases") and not own:
        found.append("network-scoped alias is supported only for containers in user defined networks")
    if (config.get("IPv4Address") or config.get("IPv6Address")) and not own:
        found.append("user specified IP address is supported on user defined networks only")
    for key, version in (("IPv4Address", 4), ("IPv6Address", 6)):
        if config.get(key) and not _is_address(config[key], version):
            found.append(f"invalid IPv{version} address: {config[key]}")
    for each in config.get("LinkLocalIPs") or ():
        known = _is_address(each, 4) or _is_address(each, 6)
        found.append("link-local addresses are not supported" if known else f"invalid link-local IP address: {each}")
    return found


def several(found: list[str]) -> str:
    """Problems as dockerd joins them."""
    return "invalid endpoint settings:\n" + (found[0] if len(found) == 1 else "\n".join(f"* {each}" for each in found))


def _is_address(text: str, version: int) -> bool:
    import socket

    try:
        return bool(socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, text))
    except OSError:
        return False


def _joined(name: str, end: dict[str, Any]) -> str:
    said = list(options(end))
    if any(char in name for char in ":,=") or any("," in option for option in said):
        raise Refused(400, f"invalid network name or endpoint settings: {name}")
    return f"--network={name}" + (f":{','.join(said)}" if said else "")


def options(end: dict[str, Any]) -> Iterator[str]:
    """What an EndpointConfig asks for, as options of `--network` and, with dashes before, of `oci-net attach`."""
    config = end.get("IPAMConfig") or {}
    for key, option in (("IPv4Address", "ip"), ("IPv6Address", "ip6")):
        if config.get(key):
            yield f"{option}={config[key]}"
    if end.get("MacAddress"):
        yield f"mac={end['MacAddress']}"
    for alias in end.get("Aliases") or ():
        yield f"alias={alias}"
    if (end.get("DriverOpts") or {}).get(IFNAME):
        yield f"ifname={end['DriverOpts'][IFNAME]}"
    if end.get("GwPriority"):
        yield f"priority={int(end['GwPriority'])}"


def _published(host: dict[str, Any]) -> Iterator[str]:
    asked: dict[str, list[dict[str, str]] | None] = host.get("PortBindings") or {}
    for port, bindings in asked.items():
        for binding in bindings or [{}]:
            address, outer = binding.get("HostIp") or "", binding.get("HostPort") or ""
            address = f"[{address}]" if ":" in address else address
            head = f"{address}:{outer}:" if address else f"{outer}:" if outer else ""
            yield f"--publish={head}{port}"
    if host.get("PublishAllPorts"):
        yield "--publish-all"


# -- of a container that there is ----------------------------------------------------------------


def joined(one: Container, alive: bool | None = None) -> dict[str, dict[str, Any]]:
    """The networks of a container: what it asked for, and where it is on them while it is `alive`."""
    found: dict[str, dict[str, Any]] = {each["network"]: each for each in one.policy.get("networks") or ()}
    alive = one.state() != {} if alive is None else alive
    names = list(found)
    if alive and (found or one.host.get("NetworkMode") not in (*BUILT_IN, None)):
        names += [name for name in _attached() if name not in found]
    for name in names:
        place = placed(name, one) if alive else {}
        if place or name in found:
            found[name] = {**found.get(name, {}), **place}
    return found


def _attached() -> list[str]:
    try:
        return os.listdir(f"{fs.run()}/net/on")
    except OSError:
        return []


_networks: Kept = {}


def placed(network: str, one: Container) -> dict[str, Any]:
    """Where a container is on a network; {} where it is not."""
    return _document(f"{fs.run()}/net/on/{network}/at/{one.id}.json", one.places)


def _document(path: str, kept: Kept) -> dict[str, Any]:
    """A small document that is replaced, never changed: read once; {} where there is none."""
    try:
        stamp = os.stat(path).st_mtime_ns
    except OSError:
        kept.pop(path, None)
        return {}
    if path not in kept or kept[path][0] != stamp:
        try:
            found = document.load(path)
        except Error:
            return {}
        if len(kept) > 5000:
            kept.clear()
        kept[path] = (stamp, found if isinstance(found, dict) else {})
    return kept[path][1]


def identity(name: str) -> str:
    """The id of a network by its name."""
    if name in BUILT_IN:
        return hashlib.sha256(f"{fs.root()} {name}".encode()).hexdigest()
    found = _document(f"{fs.root()}/networks/{name}.conflist", _networks)
    for part in (found, *(found.get("plugins") or ())):
        said = part.get("io.oci-tools") if isinstance(part, dict) else None
        if isinstance(said, dict) and said.get("id"):
            return str(said["id"])
    return hashlib.sha256(name.encode()).hexdigest()


def _shown(one: Container, name: str, place: dict[str, Any]) -> dict[str, Any]:
    """One of NetworkSettings.Networks."""
    said = ((one.asked.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}).get(name) or {}
    four, six = addresses(place)
    gateways = place.get("gateways") or []
    attached = bool(four or six)
    named = [one.name, *(place.get("aliases") or ()), one.id[:12]]
    return {
        "IPAMConfig": said.get("IPAMConfig"),
        "Links": said.get("Links"),
        "Aliases": said.get("Aliases") or None,
        "MacAddress": (place.get("mac") or "") if attached else "",
        "NetworkID": identity(name) if attached else "",
        "EndpointID": endpoint(name, one.id) if attached else "",
        "Gateway": next((each for each in gateways if ":" not in each), ""),
        "IPAddress": four.partition("/")[0],
        "IPPrefixLen": int(four.partition("/")[2] or 0),
        "IPv6Gateway": next((each for each in gateways if ":" in each), ""),
        "GlobalIPv6Address": six.partition("/")[0],
        "GlobalIPv6PrefixLen": int(six.partition("/")[2] or 0),
        "DriverOpts": said.get("DriverOpts"),
        "DNSNames": list(dict.fromkeys(named)) if name != BRIDGE and name not in BUILT_IN else None,
    }


def addresses(place: dict[str, Any]) -> tuple[str, str]:
    """The IPv4 and the IPv6 address with their prefixes; before a container has joined there are none."""
    found = [each for each in place.get("addresses") or () if "/" in each]
    return next((each for each in found if ":" not in each), ""), next((each for each in found if ":" in each), "")


def endpoint(network: str, container: str) -> str:
    return hashlib.sha256(f"{identity(network)} {container}".encode()).hexdigest()


def settings(one: Container) -> dict[str, Any]:
    """`NetworkSettings` of `inspect`."""
    running, places = one.running, joined(one)
    found = short(one, places, running)
    shown, mode = found["Networks"], _mode(one)
    first: dict[str, Any] = shown.get(mode) or next(iter(shown.values()), {})
    main = first if mode == BRIDGE else {}
    return {
        "Bridge": "",
        "SandboxID": hashlib.sha256(one.id.encode()).hexdigest() if running else "",
        "SandboxKey": f"{fs.run()}/netns/{one.id}" if places and running else "",
        **found,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{key: main.get(key, "") for key in ("EndpointID", "Gateway", "GlobalIPv6Address")},
        "GlobalIPv6PrefixLen": main.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": main.get("IPAddress", ""),
        "IPPrefixLen": main.get("IPPrefixLen", 0),
        "IPv6Gateway": main.get("IPv6Gateway", ""),
        "MacAddress": main.get("MacAddress", ""),
    }


def _mode(one: Container) -> str:
    return str(one.host.get("NetworkMode") or one.policy.get("network") or "")


def alone(one: Container) -> str:
    """Which of none and host a container is on, instead of networks; empty if on neither.

    One that has left none, as docker calls it, can join networks: its policy has a list of them.
    """
    mode = _mode(one)
    return mode if mode in BUILT_IN and "networks" not in one.policy else ""


def short(one: Container, places: dict[str, dict[str, Any]], running: bool) -> dict[str, Any]:
    """What a list shows of `NetworkSettings`, from what `joined` says."""
    shown = {name: _shown(one, name, place) for name, place in places.items()}
    if mode := alone(one):
        shown[mode] = _shown(one, mode, {})
        if running:
            shown[mode].update(NetworkID=identity(mode), EndpointID=endpoint(mode, one.id))
    return {"Networks": shown, "Ports": _ports(one, places, running)}


def _ports(
    one: Container, places: dict[str, dict[str, Any]], running: bool
) -> dict[str, list[dict[str, str]] | None]:
    """Ports: what is exposed, and where it is published while the container runs."""
    if not running:
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(one.config.get("ExposedPorts") or ())
    for place in (*places.values(), one.published or {}):
        for port in place.get("ports") or ():
            inner = f"{port.get('containerPort')}/{port.get('protocol') or 'tcp'}"
            outer, address = port.get("hostPort"), port.get("hostIP") or ""
            if not outer:
                continue
            listed = found.get(inner) or []
            for each in [address] if address else ["0.0.0.0", "::"]:
                entry = {"HostIp": each, "HostPort": str(outer)}
                if entry not in listed:
                    listed.append(entry)
            found[inner] = listed
    return found


def ports(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """`Ports` of a list, from those of `NetworkSettings`."""
    found: list[dict[str, Any]] = []
    for inner, bindings in settings["Ports"].items():
        number, _, kind = inner.partition("/")
        for each in bindings or ():
            public = {"IP": each["HostIp"], "PrivatePort": int(number), "PublicPort": int(each["HostPort"])}
            found.append({**public, "Type": kind})
        if not bindings:
            found.append({"PrivatePort": int(number), "Type": kind})
    return found


def has(one: Container, word: str) -> bool:
    """Whether a container is on the network that a name or the beginning of an id means."""
    return any(word == name or (len(word) > 2 and identity(name).startswith(word))
               for name in (*joined(one), *filter(None, [alone(one)])))  # fmt: skip
