"""The names of the containers of a network: a file in the format of hosts(5), which its resolver reads.

    $OCI_RUN/net/on/NETWORK/hosts
    10.88.0.2<TAB>web 4f5e6a7b8c9d www<TAB># CONTAINER

One line for each address; what stands behind `#` says whose it is, and which servers are to be asked for it if not
the network's.  Replaced as a whole, under a Change.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Usage
from oci_tools.net import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def path(network: str) -> str:
    return f"{place.on(network)}/hosts"


def is_host(text: str) -> bool:
    """Whether it can be a host's name: it becomes a word of a line, and of DNS."""
    return 0 < len(text) <= 253 and _LABEL.issuperset(text) and all(0 < len(x) <= 63 for x in text.split("."))


def check(text: str) -> str:
    if not is_host(text):
        raise Usage("invalid network alias", text, hint="letters, digits, '-', '_' and '.'")
    return text


def lines(network: str) -> list[str]:
    try:
        with open(path(network), encoding="utf-8") as file:
            return file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def add(record: dict[str, Any]) -> None:
    """Put in a container's names in place of what stood there of it."""
    container = record["container"]
    names = [record["name"], container[:12], *record["aliases"]]
    words = " ".join(dict.fromkeys(name for name in names if name and is_host(name)))
    owner = " ".join([container, *record.get("servers", ())])
    made = [f"{each.partition('/')[0]}\t{words}\t# {owner}\n" for each in record["addresses"]]
    _replace(record["network"], [*_others(lines(record["network"]), container), *made])


def remove(network: str, container: str) -> bool:
    """Take out a container's names; whether any are left on the network."""
    known = lines(network)
    kept = _others(known, container)
    if kept != known:
        _replace(network, kept)
    return bool(kept)


def _others(known: list[str], container: str) -> list[str]:
    return [line for line in known if line.partition("# ")[2].split()[:1] != [container]]


def _replace(network: str, kept: list[str]) -> None:
    if os.path.isdir(os.path.dirname(path(network))):
        fs.write(path(network), "".join(kept).encode(), 0o644, sync=False)


def table(text: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Addresses by name in lower case, and by address what stands behind `#`, of a file's text."""
    names: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for line in text.splitlines():
        words, _, owner = line.partition("#")
        address, *called = words.split() or [""]
        if called:
            owners[address] = owner.strip()
            for name in called:
                names.setdefault(name.lower(), []).append(address)
    return names, owners
