"""What the firewall of the networks is: nft(8)'s words, made from networks and published ports.  Pure.

All is in one table of ours, `inet oci_STORE`.  A packet's way, and what stands there:

    prerouting raw     what bridges send to 127.0.0.0/8 is dropped: route_localnet lets it in else
    prerouting dstnat  to an address of the host: `published` finds the container in the maps
    output dstnat      the same for the host's own packets, 127.0.0.1 included; [::1] cannot be translated: holder.py
    forward filter     `admin` first, then `from-BRIDGE` by the way in, then `to-BRIDGE` by the way out; a packet that
                       touches none of our bridges meets `guard`, which is empty if the host forwarded before us
    postrouting srcnat what leaves a network is masqueraded, and what comes back into it through a published port

The chain `admin` is the administrator's: made empty once, never flushed.  So are the sets `blocked4` and `blocked6`:
what comes from these addresses reaches no container.  The file admin.nft beside the networks, if there is one, is
read whenever the table is made, $table in it being our table.

A container adds elements to maps and nothing else: deleting a chain or a table makes the kernel wait 18 ms.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.net.conflist import Network

PORT = "inet_proto . inet_service"
# name -> the type of a set or map
SETS = {
    "bridges": "type ifname",
    "open": "type ifname",
    "blocked4": "type ipv4_addr; flags interval",
    "blocked6": "type ipv6_addr; flags interval",
}
MAPS = {
    "from": "type ifname : verdict",
    "to": "type ifname : verdict",
    "nat4": "type ipv4_addr : verdict; flags interval",
    "nat6": "type ipv6_addr : verdict; flags interval",
    "at4": f"type ipv4_addr . {PORT} : ipv4_addr . inet_service",
    "at6": f"type ipv6_addr . {PORT} : ipv6_addr . inet_service",
    "any4": f"type {PORT} : ipv4_addr . inet_service",
    "any6": f"type {PORT} : ipv6_addr . inet_service",
}
CHAINS = {
    "raw": ("type filter hook prerouting priority raw; policy accept;", (
        'iifname @bridges ip daddr 127.0.0.0/8 drop',
    )),
    "prerouting": ("type nat hook prerouting priority dstnat; policy accept;", (
        "fib daddr type local jump published",
    )),
    "output": ("type nat hook output priority -100; policy accept;", (
        "ip6 daddr ::1 return",
        "fib daddr type local jump published",
    )),
    "published": ("", (
        "dnat ip to ip daddr . meta l4proto . th dport map @at4",
        "dnat ip to meta l4proto . th dport map @any4",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @at6",
        "dnat ip6 to meta l4proto . th dport map @any6",
    )),
    "forward": ("type filter hook forward priority filter; policy accept;", (
        "oifname @bridges iifname != @bridges ip saddr @blocked4 drop",
        "oifname @bridges iifname != @bridges ip6 saddr @blocked6 drop",
        "iifname @bridges jump admin",
        "oifname @bridges iifname != @bridges jump admin",
        "iifname vmap @from",
        "oifname vmap @to",
        "iifname != @bridges oifname != @bridges jump guard",
    )),
    "admin": ("", None),
    "guard": ("", ()),
    "postrouting": ("type nat hook postrouting priority srcnat; policy accept;", (
        "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
        "ip saddr vmap @nat4",
        "ip6 saddr vmap @nat6",
    )),
}  # fmt: skip


def skeleton(table: str, guarded: list[str], more: str = "") -> list[str]:
    """The table itself, whether it was there or not; `guarded`: the families whose forwarding we turned on."""
    made = [f"add table inet {table}"]
    made += [f"add set inet {table} {name} {{ {kind}; }}" for name, kind in SETS.items()]
    made += [f"add map inet {table} {name} {{ {kind}; }}" for name, kind in MAPS.items()]
    for name, (hook, rules) in CHAINS.items():
        made.append(f"add chain inet {table} {name}" + (f" {{ {hook} }}" if hook else ""))
        if rules is not None:
            made.append(f"flush chain inet {table} {name}")
    for name, (_, rules) in CHAINS.items():
        made += [f"add rule inet {table} {name} {rule}" for rule in rules or ()]
    if guarded:  # what a bridge of somebody else only bridges is no forwarding
        made.append(f'add rule inet {table} guard meta iifkind "bridge" meta oifkind "bridge" return')
    made += [f"add rule inet {table} guard meta nfproto {family} drop" for family in guarded]
    return [*made, more.replace("$table", table)]


def network(table: str, one: Network) -> list[str]:
    """The chains of one network, and its elements in the maps."""
    bridge = one.bridge
    made = [f"add chain inet {table} {name}-{bridge}" for name in ("from", "to", "nat")]
    made += [f"flush chain inet {table} {name}-{bridge}" for name in ("from", "to", "nat")]
    rules = [(f"from-{bridge}", rule) for rule in _from(one)]
    rules += [(f"to-{bridge}", rule) for rule in _to(one)]
    rules += [(f"nat-{bridge}", rule) for rule in _nat(one)]
    made += [f"add rule inet {table} {chain} {rule}" for chain, rule in rules]
    return made + [f"add element inet {table} {name} {{ {element} }}" for name, element in _elements(one)]


def _from(one: Network) -> list[str]:
    """What leaves a network: to the world, to itself, to nobody else but through what is published."""
    made = ["ct state established,related accept"]
    if one.internal:
        return [*made, f'oifname != "{one.bridge}" drop']
    made += ["ct status dnat accept", f'oifname "{one.bridge}" accept']
    if not one.get("isolate", True):
        made.append("oifname @open accept")
    return [*made, "oifname @bridges drop"]


def _to(one: Network) -> list[str]:
    """What comes to a network: answers, what is published, and nothing else."""
    made = ["ct state established,related accept"]
    if one.internal:
        return [*made, f'iifname "{one.bridge}" accept', "drop"]
    return [*made, "ct status dnat accept", f'iifname "{one.bridge}" accept', "drop"]


def _nat(one: Network) -> list[str]:
    made = [f'oifname "{one.bridge}" ct status dnat masquerade']  # so that the answer comes back this way
    if one.get("ipMasq", True) and not one.internal:
        made.append(f'oifname != "{one.bridge}" ip daddr != 224.0.0.0/4 masquerade')
        made.append(f'oifname != "{one.bridge}" ip6 daddr != ff00::/8 masquerade')
    return made


def _elements(one: Network) -> list[tuple[str, str]]:
    bridge = one.bridge
    made = [("bridges", f'"{bridge}"')]
    if not one.get("isolate", True):
        made.append(("open", f'"{bridge}"'))
    made += [("from", f'"{bridge}" : jump from-{bridge}'), ("to", f'"{bridge}" : jump to-{bridge}')]
    return made + [(f"nat{pool.version}", f"{pool.subnet} : jump nat-{bridge}") for pool in one.pools]


def without(table: str, one: Network) -> list[str]:
    """The opposite of `network`."""
    made = [f"delete element inet {table} {name} {{ {_key(element)} }}" for name, element in _elements(one)]
    for name in ("from", "to", "nat"):
        made += [f"flush chain inet {table} {name}-{one.bridge}", f"delete chain inet {table} {name}-{one.bridge}"]
    return made


def ports(table: str, verb: str, mappings: list[dict[str, Any]], addresses: list[str]) -> list[str]:
    """`add` or `delete` the elements of published ports of a container that has these addresses."""
    elements: dict[str, list[str]] = {}
    inside = {("6" if ":" in each else "4"): each.partition("/")[0] for each in reversed(addresses)}
    for mapping in mappings:
        host = mapping.get("hostIP") or ""
        everywhere = host in ("", "0.0.0.0", "::")
        for version, address in inside.items():
            if host and version != ("6" if ":" in host else "4"):
                continue
            key = f"{mapping['protocol']} . {mapping['hostPort']}"
            name, key = (f"any{version}", key) if everywhere else (f"at{version}", f"{host} . {key}")
            element = f"{key} : {address} . {mapping['containerPort']}"
            elements.setdefault(name, []).append(_key(element) if verb == "delete" else element)
    return [f"{verb} element inet {table} {name} {{ {', '.join(found)} }}" for name, found in elements.items()]


def gone(table: str, mappings: list[dict[str, Any]], addresses: list[str]) -> list[str]:
    """Without these elements, whether they are there or not: what is missing is added first."""
    return ports(table, "add", mappings, addresses) + ports(table, "delete", mappings, addresses)


def _key(element: str) -> str:
    return element.partition(" : ")[0]


def emptied(table: str) -> list[str]:
    """Nothing in the maps and sets that are ours."""
    return [f"flush map inet {table} {name}" for name in MAPS] + [
        f"flush set inet {table} {name}" for name in SETS if not name.startswith("blocked")
    ]
