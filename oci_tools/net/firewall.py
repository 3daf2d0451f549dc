"""What the firewall of the networks is, made from networks and published ports, as libnftables-json(5) has it.  Pure.

All is in one table of ours, `inet oci_STORE`.  A packet's way, and what stands there:

    prerouting raw     what bridges send to 127.0.0.0/8 is dropped: route_localnet lets it in else
    prerouting dstnat  to an address of the host: `published` finds the container in the maps
    output dstnat      the same for the host's own packets, 127.0.0.1 included; [::1] cannot be translated: holder.py
    input filter       a port that is carried, not translated: `carried` keeps out whom the rules of `forward` would
    forward filter     `admin` first, then `from-BRIDGE` by the way in, then `to-BRIDGE` by the way out; a packet that
                       touches none of our bridges meets `guard`, which is empty if the host forwarded before us;
                       `enslaved` is the same for what comes from a bridge in a VRF
    postrouting srcnat what leaves a network is masqueraded, and what comes back into it through a published port

The chain `admin` is the administrator's: made empty once, never flushed.  So are the sets `blocked4` and `blocked6`:
what comes from these addresses reaches no container.  The file admin.nft beside the networks, if there is one, is
read whenever the table is made, $table in it being our table: before all else, for it is in nft(8)'s own words.

A container adds elements to maps and nothing else: deleting a chain or a table makes the kernel wait 18 ms.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.net.conflist import Network

    Json = dict[str, Any]


# -- the words of a rule -----------------------------------------------------------------


def _is(left: Any, right: Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _not(left: Any, right: Any) -> Json:
    return _is(left, right, "!=")


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _ct(key: str, *values: str) -> Json:
    return _is({"ct": {"key": key}}, list(values) if len(values) > 1 else values[0], "in")


def _jump(chain: str) -> Json:
    return {"jump": {"target": chain}}


def _vmap(key: Json, name: str) -> Json:
    return {"vmap": {"key": key, "data": f"@{name}"}}


def _dnat(family: str, key: list[Json], name: str) -> Json:
    return {"dnat": {"family": family, "addr": {"map": {"key": {"concat": key}, "data": f"@{name}"}}}}


def _prefix(subnet: str) -> Json:
    address, _, bits = subnet.partition("/")
    return {"prefix": {"addr": address, "len": int(bits)}}


ACCEPT, DROP, RETURN, MASQUERADE = ({word: None} for word in ("accept", "drop", "return", "masquerade"))
_IN, _OUT = _meta("iifname"), _meta("oifname")
_SLAVE = _meta("sdifname")  # by which a packet came into a VRF, whose name iifname has then (since Linux 5.6)
_FROM_OURS, _TO_OURS = _is(_IN, "@bridges"), _is(_OUT, "@bridges")
_FROM_OTHERS, _TO_OTHERS = _not(_IN, "@bridges"), _not(_OUT, "@bridges")
_LOOPBACK = _prefix("127.0.0.0/8")
_TO_HOST = _is({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
_PORT = [_meta("l4proto"), _payload("th", "dport")]
_HOST_PORT6 = {"concat": [_payload("ip6", "daddr"), *_PORT]}
_ANSWERS = [_ct("state", "established", "related"), ACCEPT]
_PUBLISHED = [_ct("status", "dnat"), ACCEPT]
_BROKEN = [_ct("state", "invalid"), DROP]  # it would leave as it is, with an address that nobody can answer
_FAMILIES = {"4": ("ip", "224.0.0.0/4"), "6": ("ip6", "ff00::/8")}
_PINGS = {"4": _is(_meta("l4proto"), "icmp"), "6": _is(_meta("l4proto"), "ipv6-icmp")}

# -- the table -----------------------------------------------------------------------------

PORT = ["inet_proto", "inet_service"]
# name -> the type of a set or map
SETS: dict[str, Json] = {
    "bridges": {"type": "ifname"},
    "open": {"type": "ifname"},
    "closed": {"type": "ifname"},
    "reached": {"type": "ifname"},
    "blocked4": {"type": "ipv4_addr", "flags": ["interval"]},
    "blocked6": {"type": "ipv6_addr", "flags": ["interval"]},
    "carried6": {"type": ["ipv6_addr", *PORT]},
    "carried": {"type": PORT},
    "direct4": {"type": ["ipv4_addr", *PORT]},
    "direct6": {"type": ["ipv6_addr", *PORT]},
}
MAPS: dict[str, Json] = {
    "from": {"type": "ifname", "map": "verdict"},
    "to": {"type": "ifname", "map": "verdict"},
    "nat4": {"type": "ipv4_addr", "map": "verdict", "flags": ["interval"]},
    "nat6": {"type": "ipv6_addr", "map": "verdict", "flags": ["interval"]},
    "at4": {"type": ["ipv4_addr", *PORT], "map": ["ipv4_addr", "inet_service"]},
    "at6": {"type": ["ipv6_addr", *PORT], "map": ["ipv6_addr", "inet_service"]},
    "any4": {"type": PORT, "map": ["ipv4_addr", "inet_service"]},
    "any6": {"type": PORT, "map": ["ipv6_addr", "inet_service"]},
}
# name -> what it hooks into (type, hook, priority), its rules
CHAINS: dict[str, tuple[tuple[str, str, int] | None, list[list[Json]]]] = {
    "raw": (("filter", "prerouting", -300), [
        [_FROM_OURS, _is(_payload("ip", "daddr"), _LOOPBACK), DROP],
    ]),
    "prerouting": (("nat", "prerouting", -100), [
        [_TO_HOST, _jump("published")],
    ]),
    "output": (("nat", "output", -100), [
        [_is(_payload("ip6", "daddr"), "::1"), RETURN],
        [_TO_HOST, _jump("published")],
    ]),
    "published": (None, [
        [_dnat("ip", [_payload("ip", "daddr"), *_PORT], "at4")],
        [_dnat("ip", _PORT, "any4")],
        [_dnat("ip6", [_payload("ip6", "daddr"), *_PORT], "at6")],
        [_dnat("ip6", _PORT, "any6")],
    ]),
    "input": (("filter", "input", 0), [
        [_is(_HOST_PORT6, "@carried6"), _jump("carried")],
        [_is(_meta("nfproto"), "ipv6"), _is({"concat": _PORT}, "@carried"), _jump("carried")],
    ]),
    "carried": (None, [
        [_is(_IN, "@closed"), DROP],
        [_FROM_OTHERS, _is(_payload("ip6", "saddr"), "@blocked6"), DROP],
        [_jump("admin")],
    ]),
    "forward": (("filter", "forward", 0), [
        [_is(_SLAVE, "@bridges"), _jump("enslaved")],
        [_TO_OURS, _FROM_OTHERS, _is(_payload("ip", "saddr"), "@blocked4"), DROP],
        [_TO_OURS, _FROM_OTHERS, _is(_payload("ip6", "saddr"), "@blocked6"), DROP],
        [_FROM_OURS, _jump("admin")],
        [_TO_OURS, _FROM_OTHERS, _jump("admin")],
        [_vmap(_IN, "from")],
        [_vmap(_OUT, "to")],
        [_FROM_OTHERS, _TO_OTHERS, _jump("guard")],
    ]),
    "enslaved": (None, [
        [_jump("admin")],
        [_vmap(_SLAVE, "from")],
        [_vmap(_OUT, "to")],
        [ACCEPT],
    ]),
    "direct": (None, [
        [_is({"concat": [_payload("ip", "daddr"), *_PORT]}, "@direct4"), ACCEPT],
        [_is({"concat": [_payload("ip6", "daddr"), *_PORT]}, "@direct6"), ACCEPT],
    ]),
    "admin": (None, []),
    "guard": (None, []),
    "postrouting": (("nat", "postrouting", 100), [
        [_is(_payload("ip", "saddr"), _LOOPBACK), _TO_OURS, MASQUERADE],
        [_vmap(_payload("ip", "saddr"), "nat4")],
        [_vmap(_payload("ip6", "saddr"), "nat6")],
    ]),
}  # fmt: skip
_ADMINS = ("admin", "blocked4", "blocked6")


def _do(verb: str, what: str, table: str, **members: Any) -> Json:
    return {verb: {what: {"family": "inet", "table": table, **members}}}


def _rule(table: str, chain: str, rule: list[Json]) -> Json:
    return _do("add", "rule", table, chain=chain, expr=rule)


def _table(verb: str, table: str) -> Json:
    return {verb: {"table": {"family": "inet", "name": table}}}


def deleted(table: str) -> list[Json]:
    return [_table("delete", table)]


def administrators(table: str, words: str) -> str:
    """A script of nft(8) that makes what is the administrator's in the table, and has his words in it."""
    made = [f"add table inet {table}", f"add chain inet {table} admin"]
    made += [f"add set inet {table} blocked{at} {{ type ipv{at}_addr; flags interval; }}" for at in (4, 6)]
    return "\n".join([*made, words.replace("$table", table), ""])


def skeleton(table: str, guarded: list[str]) -> list[Json]:
    """The table itself, whether it was there or not; `guarded`: the families whose forwarding we turned on."""
    made = [_table("add", table)]
    made += [_do("add", "set", table, name=name, **kind) for name, kind in SETS.items()]
    made += [_do("add", "map", table, name=name, **kind) for name, kind in MAPS.items()]
    for name, (hook, _) in CHAINS.items():
        place = dict(zip(("type", "hook", "prio"), hook, strict=True)) | {"policy": "accept"} if hook else {}
        made.append(_do("add", "chain", table, name=name, **place))
    made += [_do("flush", "chain", table, name=name) for name in CHAINS if name not in _ADMINS]
    made += [_rule(table, name, rule) for name, (_, rules) in CHAINS.items() for rule in rules]
    if guarded:  # what a bridge of somebody else only bridges is no forwarding
        made.append(_rule(table, "guard", [_is(_meta("iifkind"), "bridge"), _is(_meta("oifkind"), "bridge"), RETURN]))
    return made + [_rule(table, "guard", [_is(_meta("nfproto"), family), DROP]) for family in guarded]


def network(table: str, one: Network) -> list[Json]:
    """The chains of one network, and its elements in the maps."""
    rules = {f"from-{one.bridge}": _from(one), f"to-{one.bridge}": _to(one), f"nat-{one.bridge}": _nat(one)}
    made = [_do("add", "chain", table, name=chain) for chain in rules]
    made += [_do("flush", "chain", table, name=chain) for chain in rules]
    made += [_rule(table, chain, rule) for chain, several in rules.items() for rule in several]
    return made + [_do("add", "element", table, name=name, elem=[element]) for name, element in _elements(one)]


def _from(one: Network) -> list[list[Json]]:
    """What leaves a network: to the world, to itself, to nobody else but through what is published."""
    if one.internal:
        return [_ANSWERS, [_not(_OUT, one.bridge), DROP]]
    made = [_ANSWERS, _BROKEN, _PUBLISHED, [_is(_OUT, one.bridge), ACCEPT]]
    if not one.get("isolate", True):
        made.append([_is(_OUT, "@open"), ACCEPT])
    return [*made, [_is(_OUT, "@reached"), RETURN], [_TO_OURS, DROP]]  # RETURN: as the other one's chain says


def _to(one: Network) -> list[list[Json]]:
    """What comes to a network: answers, what is published, and nothing else; in some modes also directly."""
    itself = [_is(_IN, one.bridge), ACCEPT]
    if one.internal:
        return [_ANSWERS, itself, [DROP]]
    made = [_ANSWERS, _PUBLISHED, itself]
    for version in one.versions("nat-unprotected"):
        made.append([_is(_meta("nfproto"), f"ipv{version}"), ACCEPT])
    for version in one.versions("routed"):
        made += [[_PINGS[version], ACCEPT], [_is(_meta("nfproto"), f"ipv{version}"), _jump("direct")]]
    made += [[_is(_IN, name), _jump("direct")] for name in one.trusted]
    return [*made, [DROP]]


def direct(one: Network) -> str:
    """The versions of IP, as "46", in which what is published is reached at a container's own address."""
    return one.versions("routed", *(("nat",) if one.trusted else ()))


def _nat(one: Network) -> list[list[Json]]:
    made = [[_is(_OUT, one.bridge), _ct("status", "dnat"), MASQUERADE]]  # so that the answer comes back this way
    for version in one.versions("nat", "nat-unprotected") if not one.internal else ():
        family, groups = _FAMILIES[version]
        source = one.get(f"snat{version}", "")
        if source or one.get("ipMasq", True):
            translated = {"snat": {"family": family, "addr": source}} if source else MASQUERADE
            away = [_not(_OUT, one.bridge), _not(_payload(family, "daddr"), _prefix(groups))]
            made.append([*away, _is(_meta("nfproto"), f"ipv{version}"), translated])
    return made


def _elements(one: Network) -> list[tuple[str, Any]]:
    """Of sets their elements, of maps keys with values."""
    bridge = one.bridge
    made: list[tuple[str, Any]] = [("bridges", bridge)]
    if not one.get("isolate", True):
        made.append(("open", bridge))
    if one.internal:
        made.append(("closed", bridge))
    if one.versions("routed", "nat-unprotected"):
        made.append(("reached", bridge))
    made += [("from", [bridge, _jump(f"from-{bridge}")]), ("to", [bridge, _jump(f"to-{bridge}")])]
    return made + [
        (f"nat{pool.version}", [_prefix(str(pool.subnet)), _jump(f"nat-{bridge}")]) for pool in one.pools
    ]


def without(table: str, one: Network) -> list[Json]:
    """The opposite of `network`."""
    made = [_do("delete", "element", table, name=name, elem=[_key(element)]) for name, element in _elements(one)]
    for name in (f"{kind}-{one.bridge}" for kind in ("from", "to", "nat")):
        made += [_do("flush", "chain", table, name=name), _do("delete", "chain", table, name=name)]
    return made


def ports(table: str, verb: str, mappings: list[dict[str, Any]], record: dict[str, Any]) -> list[Json]:
    """`add` or `delete` the elements of published ports of a container, whose attachment is in `record`."""
    elements: dict[str, list[Any]] = {}
    inside = {("6" if ":" in each else "4"): each.partition("/")[0] for each in reversed(record["addresses"])}
    for mapping in mappings:
        for name, element in _port(mapping, inside, record.get("routed", "")):
            elements.setdefault(name, []).append(_key(element) if verb == "delete" else element)
        for version in record.get("direct", ""):
            key = {"concat": [inside[version], mapping["protocol"], mapping["containerPort"]]}
            if key not in elements.setdefault(f"direct{version}", []):
                elements[f"direct{version}"].append(key)
    return [_do(verb, "element", table, name=name, elem=found) for name, found in elements.items()]


def _port(mapping: dict[str, Any], inside: dict[str, str], routed: str) -> Iterator[tuple[str, Any]]:
    """The elements of one port of the host, which is none where the container is reached directly."""
    host, port = mapping.get("hostIP") or "", [mapping["protocol"], mapping["hostPort"]]
    everywhere = host in ("", "0.0.0.0", "::")
    key = {"concat": port if everywhere else [host, *port]}
    for version in ("4", "6"):
        if version in routed or (host and version != ("6" if ":" in host else "4")):
            continue
        if version in inside:
            name = f"any{version}" if everywhere else f"at{version}"
            yield name, [key, {"concat": [inside[version], mapping["containerPort"]]}]
        elif version == "6" and inside and "4" not in routed:
            yield "carried" if everywhere else "carried6", key


def gone(table: str, mappings: list[dict[str, Any]], record: dict[str, Any]) -> list[Json]:
    """Without these elements, whether they are there or not: what is missing is added first."""
    return ports(table, "add", mappings, record) + ports(table, "delete", mappings, record)


def _key(element: Any) -> Any:
    return element[0] if isinstance(element, list) else element


def emptied(table: str) -> list[Json]:
    """Nothing in the maps and sets that are ours."""
    return [_do("flush", "map", table, name=name) for name in MAPS] + [
        _do("flush", "set", table, name=name) for name in SETS if name not in _ADMINS
    ]
