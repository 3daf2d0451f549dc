"""oci-net graph: networks and who is on them, drawn."""

from __future__ import annotations

from oci_tools import cli, document, drawing
from oci_tools.cmd.net import show
from oci_tools.errors import Error
from oci_tools.net import place, ports, store
from oci_tools.rows import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def graph(args: cli.Args) -> None:
    """Every network, or those named, with its containers below it; with --dot for graphviz."""
    place.settle()
    found = []
    for name in map(store.find, args.network) if args.network else store.names():
        try:
            found.append(show.described(name))
        except Error as error:
            cli.say("oci-net", f"warning: {error}")
    lines = _dot(found) if args.dot else _drawn(found)
    for line in lines:
        say(line)


def _drawn(networks: list[dict[str, Any]]) -> list[str]:
    columns, plain = drawing.width(), drawing.is_plain()
    lines = []
    for network in networks:
        subnets = ", ".join(f"{one['subnet']} by {one['gateway']}" for one in network["subnets"])
        words = [network["name"], network["driver"], subnets, "internal" if network["internal"] else ""]
        lines.append(drawing.fit("  ".join(word for word in words if word), columns))
        below = [(_who(one, container), ()) for container, one in sorted(network["containers"].items(), key=_name)]
        lines += drawing.tree(below, columns, plain)
    return lines


def _name(item: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    return item[1]["name"] or "", item[0]


def _who(one: dict[str, Any], container: str) -> str:
    addresses = ", ".join(each.partition("/")[0] for each in one["addresses"])
    published = ", ".join(f"{ports.host(each)} to {each['containerPort']}/{each['protocol']}" for each in one["ports"])
    return "  ".join(word for word in (one["name"] or container[:12], addresses, published) if word)


def _dot(networks: list[dict[str, Any]]) -> list[str]:
    """The language of graphviz: networks are boxes, an edge has the address."""
    lines = ["graph networks {"]
    for network in networks:
        lines.append(f"  {_quoted('network ' + network['name'])} [shape=box, label={_quoted(network['name'])}];")
    attached = [item for network in networks for item in network["containers"].items()]
    named = {container: one["name"] or container[:12] for container, one in attached}
    lines += [f"  {_quoted(container)} [label={_quoted(name)}];" for container, name in sorted(named.items())]
    for network in networks:
        for container, one in sorted(network["containers"].items()):
            label = ", ".join(each.partition("/")[0] for each in one["addresses"])
            ends = f"{_quoted('network ' + network['name'])} -- {_quoted(container)}"
            lines.append(f"  {ends} [label={_quoted(label)}];")
    return [*lines, "}"]


def _quoted(text: str) -> str:
    return document.dumps(text).decode()
