"""Networks: `oci-net`'s words for all that is done to them, in docker's documents."""

from __future__ import annotations

import ipaddress

from oci_tools import document
from oci_tools.engine.api import filters, members, times
from oci_tools.engine.api.answers import Refused, answer, nothing
from oci_tools.engine.api.endpoints import (
    BRIDGE,
    BUILT_IN,
    MAC,
    addresses,
    alone,
    endpoint,
    identity,
    joined,
    options,
    placed,
    problems,
    several,
)
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.engine.api.container import Container
    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api

_FILTERS = "dangling driver id label label! name scope type".split()
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.- ")
# Why a container's network cannot change, in dockerd's words.
_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_HOST = "container cannot be disconnected from host network or connected to host network"
_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def _all(api: Api) -> list[dict[str, Any]]:
    """Every network as `oci-net inspect` tells it; those that docker has besides."""
    names = api.commands.run(["net", "ls", "--fields=name"]).splitlines()
    text = api.commands.run(["net", "inspect", "--json", *names]) if names else ""
    found = [document.loads(line) for line in text.splitlines() if line.strip()]
    return [*found, *({"name": name, "id": identity(name), "driver": driver} for name, driver in BUILT_IN.items())]


def find(api: Api, word: str) -> dict[str, Any]:
    """A network by its Id, its name, or a prefix of its Id: a name may be another's Id."""
    known = _all(api)
    for key in ("id", "name"):
        for each in known:
            if word == each[key]:
                return each
    begun = [each for each in known if word and each["id"].startswith(word)]
    if len(begun) > 1:
        raise Refused(400, f"network {word} is ambiguous ({len(begun)} matches found based on ID prefix)")
    if not begun:
        raise Refused(404, f"network {word} not found")
    return begun[0]


def told(api: Api, said: dict[str, Any], containers: bool = True) -> dict[str, Any]:
    """A network as docker tells it."""
    builtin = said["name"] in (*BUILT_IN, BRIDGE)
    config = [
        {key: value for key, value in (("Subnet", pool.get("subnet")), ("IPRange", _block(pool.get("range") or "")),
                                        ("Gateway", pool.get("gateway")),
                                        ("AuxiliaryAddresses", pool.get("reserved"))) if value}
        for pool in said.get("subnets") or ()
    ]  # fmt: skip
    return {
        "Name": said["name"],
        "Id": said["id"],
        "Created": said.get("created") or times.ZERO,
        "Scope": "local",
        "Driver": {"none": "null"}.get(said["driver"], said["driver"]),
        "EnableIPv4": builtin or any(":" not in pool["subnet"] for pool in said.get("subnets") or ()),
        "EnableIPv6": bool(said.get("ipv6")),
        "IPAM": {"Driver": "default", "Options": None if builtin else {}, "Config": config or None},
        "Internal": bool(said.get("internal")),
        "Attachable": (said.get("options") or {}).get("attachable") == "true",
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": _members(api, said["name"]) if containers else {},
        "Options": {key: value for key, value in (said.get("options") or {}).items() if key != "attachable"},
        "Labels": said.get("labels") or {},
    }


def _block(text: str) -> str:
    """The least block that holds a range FIRST-LAST."""
    first, _, last = text.partition("-")
    if not last:
        return text
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    size = (int(low) ^ int(high)).bit_length()
    return f"{type(low)(int(low) >> size << size)}/{low.max_prefixlen - size}"


def _members(api: Api, name: str) -> dict[str, dict[str, str]]:
    """The running containers on a network."""
    found = {}
    for one in api.world.all():
        if not one.state():
            continue
        place = placed(name, one)
        builtin = name in BUILT_IN and alone(one) == name and one.running
        if place or builtin:
            four, six = addresses(place)
            found[one.id] = {
                "Name": one.name, "EndpointID": endpoint(name, one.id), "MacAddress": place.get("mac") or "",
                "IPv4Address": four, "IPv6Address": six,
            }  # fmt: skip
    return found


def ls(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), _FILTERS)
    found = [told(api, said, containers=False) for said in _all(api) if _matches(api, said, wanted)]
    return answer(found)


def _matches(api: Api, said: dict[str, Any], wanted: filters.Filters) -> bool:
    builtin = said["name"] in (*BUILT_IN, BRIDGE)
    for value in wanted.get("type", ()):
        if value not in ("builtin", "custom"):
            raise Refused(500, f"invalid filter: 'type'='{value}'")
    mine: dict[str, Callable[[str], bool]] = {
        "name": lambda value: filters.like(value, said["name"]),
        "id": lambda value: filters.like(value, said["id"]),
        "driver": said["driver"].__eq__,
        "scope": "local".__eq__,
        "type": lambda value: (value == "builtin") == builtin,
    }
    if not all(any(test(value) for value in wanted[key]) for key, test in mine.items() if wanted.get(key)):
        return False
    if not filters.labels(wanted, said.get("labels")):
        return False
    dangling = filters.flag(wanted, "dangling")
    return dangling is None or dangling == (not builtin and not _used(api, said["name"]))


def _used(api: Api, name: str) -> list[str]:
    """The containers that are on a network, or will be once they are started."""
    return [one.id for one in api.world.all() if name in joined(one)]


def inspect(api: Api, asked: Asked) -> Response:
    if asked.query("scope") not in ("", "local"):
        raise Refused(404, f"network {asked['id']} not found")
    return answer(told(api, find(api, asked["id"])))


def create(api: Api, asked: Asked) -> Response:
    said = asked.json(members.NETWORK)
    name = said.get("Name") or ""
    if not name.strip():
        raise Refused(400, f"invalid name: {name}")
    if not _NAME.issuperset(name) or name[0] in "_.- " or name[-1] == " ":
        raise Refused(400, f"invalid network name: {name}")
    if name in (*BUILT_IN, BRIDGE, "default"):
        raise Refused(403, f"operation is not permitted on predefined {name} network ")
    wrong = [problem for pool in (said.get("IPAM") or {}).get("Config") or () for problem in _wrong(pool)]
    if wrong:
        raise Refused(400, "invalid network config:\n" + (wrong[0] if len(wrong) == 1 else
                           "\n".join(f"* {each}" for each in wrong)))  # fmt: skip
    if any(each["name"] == name for each in _all(api)):
        raise Refused(409, f"network with name {name} already exists")
    driver = said.get("Driver") or BRIDGE
    if driver in ("host", "null"):
        raise Refused(403, f'only one instance of "{driver}" network is allowed')
    if driver not in ("bridge", "macvlan", "ipvlan"):
        raise Refused(404, f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    manager = (said.get("IPAM") or {}).get("Driver") or "default"
    if manager not in ("default", "null", "host-local"):
        raise Refused(404, f'plugin "{manager}" not found')
    if said.get("Scope") == "swarm":
        raise Refused(403, "cannot create a swarm scoped network when swarm is not active")
    if said.get("Ingress"):
        raise Refused(403, "Ingress network can only be global scope network")
    try:
        api.commands.run(["net", "create", f"--driver={driver}", *_made(said), name])
    except Refused as error:
        overlaps = Refused(403, "Pool overlaps with other one on this address space")
        raise (overlaps if "overlap" in error.message else error) from None
    found = identity(name)
    api.events.append("network", "create", found, {"name": name, "type": driver})
    return answer({"Id": found, "Warning": ""}, 201)


def _wrong(pool: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one of IPAM.Config."""
    subnet = pool.get("Subnet") or ""
    try:
        net = ipaddress.ip_interface(subnet).network if "/" in subnet else None
    except ValueError:
        net = None
    if net is None:
        yield f"invalid subnet {subnet}: invalid CIDR block notation"
        return
    if ipaddress.ip_interface(subnet).ip != net.network_address:
        yield f"invalid subnet {subnet}: it should be {net}"
    inner, gateway = pool.get("IPRange") or "", pool.get("Gateway") or ""
    try:
        if inner and not ipaddress.ip_network(inner, False).subnet_of(net):  # type: ignore[arg-type]
            yield f"invalid ip-range {inner}: parent subnet {subnet} doesn't contain ip-range"
    except (ValueError, TypeError):
        yield f"invalid ip-range {inner}: invalid CIDR block notation"
    try:
        if gateway and ipaddress.ip_address(gateway) not in net:
            yield f"invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address"
    except ValueError:
        yield f"invalid gateway {gateway}: invalid address"
    for kept in (pool.get("AuxiliaryAddresses") or {}).values():
        try:
            if ipaddress.ip_address(kept) not in net:
                yield f"invalid auxiliary address {kept}: parent subnet {subnet} doesn't contain this address"
        except ValueError:
            yield f"invalid auxiliary address {kept}: invalid address"


def _made(said: dict[str, Any]) -> Iterator[str]:
    if (said.get("IPAM") or {}).get("Driver") in ("null", "none"):
        yield "--ipam-driver=none"
    for pool in (said.get("IPAM") or {}).get("Config") or ():
        for key, option in (("Subnet", "subnet"), ("Gateway", "gateway"), ("IPRange", "ip-range")):
            if pool.get(key):
                yield f"--{option}={pool[key]}"
        for name, value in (pool.get("AuxiliaryAddresses") or {}).items():
            yield f"--aux-address={name}={value}"
    if said.get("Internal"):
        yield "--internal"
    if said.get("Attachable"):
        yield "--opt=attachable=true"
    if said.get("EnableIPv6"):
        yield "--ipv6"
    if said.get("EnableIPv4") is False:
        yield "--ipv4=false"
    for key, value in (said.get("Options") or {}).items():
        yield f"--opt={key}={value}"
    for key, value in (said.get("Labels") or {}).items():
        yield f"--label={key}={value}"


def remove(api: Api, asked: Asked) -> Response:
    said = find(api, asked["id"])
    name = said["name"]
    if name in (*BUILT_IN, BRIDGE):
        raise Refused(403, f"{name} is a pre-defined network and cannot be removed")
    if _members(api, name):
        raise Refused(403, f"error while removing network: network {name} id {said['id']} has active endpoints")
    api.commands.run(["net", "rm", name])
    api.events.append("network", "destroy", said["id"], {"name": name, "type": said["driver"]})
    return nothing()


def connect(api: Api, asked: Asked) -> Response:
    body = asked.json(members.CONNECT, needed=False)
    if not body.get("Container"):
        raise Refused(400, 'invalid name or ID supplied: ""')
    one = api.world.find(str(body["Container"]))
    said = find(api, asked["id"])
    name = said["name"]
    _may_connect(one, name)
    end = body.get("EndpointConfig") or {}
    if end.get("MacAddress") and not MAC.fullmatch(end["MacAddress"]):
        raise Refused(400, f"invalid MAC address {end['MacAddress']}")
    there = name in joined(one) or name == alone(one)
    if there and one.running:
        raise Refused(403, f"endpoint with name {one.name} already exists in network {name}")
    if found := problems(name, end):
        raise Refused(400, several(found))
    if there:
        return Response(200)
    words = (f"--{option}" for option in options(end))
    api.commands.run(["net", "attach", *words, name, one.id])
    return Response(200)


def _may_connect(one: Container, name: str) -> None:
    """Refuse what a container's networks exclude."""
    mode = str(one.host.get("NetworkMode") or "")
    if mode.startswith("container:"):
        raise Refused(400, _SHARED)
    if name == "host" and mode != "host":
        raise Refused(400, _HOST)
    here = {*joined(one), alone(one)} - {""}
    if name in here or not here:
        return
    if "host" in here:
        raise Refused(400, _SHARED)
    if name == "none" or "none" in here:
        raise Refused(400, _NONE)


def disconnect(api: Api, asked: Asked) -> Response:
    body = asked.json(members.DISCONNECT, needed=False)
    if not body.get("Container"):
        raise Refused(400, 'invalid name or ID supplied: ""')
    said, force = find(api, asked["id"]), bool(body.get("Force"))
    try:
        one = api.world.find(str(body.get("Container") or ""))
    except Refused:
        if force:
            raise Refused(404, f"endpoint {body['Container']} not found") from None
        raise
    name, only = said["name"], alone(one)
    if name not in joined(one) and (not only or name != only):
        the = "" if one.running else "the "
        raise Refused(500, f"container {one.id} is not connected to {the}network {name}")
    if name == "host":
        raise Refused(400, _HOST)
    api.commands.run(["net", "detach", *(["--force"] if force else []), said["name"], one.id])
    return Response(200)


def prune(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), ("label", "label!", "until"))
    until = times.until(wanted)
    deleted = []
    for said in _all(api):
        name = said["name"]
        if name in (*BUILT_IN, BRIDGE) or _used(api, name) or not filters.labels(wanted, said.get("labels")):
            continue
        if until is not None and (times.read(said.get("created")) or 0) > until:
            continue
        try:
            api.commands.run(["net", "rm", name])
        except Refused:
            continue  # somebody joined it meanwhile
        deleted.append(name)
    return answer({"NetworksDeleted": deleted or None})


ROUTES: list[Route] = [
    ("GET", "/networks", ls),
    ("GET", "/networks/", ls),
    ("POST", "/networks/create", create),
    ("POST", "/networks/prune", prune),
    ("GET", "/networks/{id}", inspect),
    ("DELETE", "/networks/{id}", remove),
    ("POST", "/networks/{id}/connect", connect),
    ("POST", "/networks/{id}/disconnect", disconnect),
]
