"""Links (`--link`): names of its own by which a container knows others, as lines of its /etc/hosts.

    policy.json            "links": [[ID, NAME], ...]
    containers/ID/linked   those that have a link to this one, an ID a line: they are told when it is on a network again
"""

from __future__ import annotations

import os

from oci_tools.container import names
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def of(words: list[str], root: str) -> list[list[str]]:
    """`CONTAINER[:NAME]` of each, as policy.json has them."""
    found = []
    for word in words:
        other, _, name = word.partition(":")
        name = name or other
        if not name or any(char.isspace() or char in "/:" for char in name):
            raise Usage("invalid value for --link", word, hint="CONTAINER[:NAME]")
        found.append([names.need(other, root), name])
    return found


def remember(container: str, policy: dict[str, Any]) -> None:
    """Have those that it links to know of it."""
    for other, _ in policy.get("links", ()):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{names.place(other)}/linked", flags, 0o600)
        try:
            os.write(fd, f"{container}\n".encode())
        finally:
            os.close(fd)


def lines(policy: dict[str, Any]) -> list[str]:
    """The lines of /etc/hosts: addresses of those that run, on the networks where it is first."""
    from oci_tools.net import record

    mine = [one["network"] for one in policy.get("networks", ())]
    found = []
    for other, name in policy.get("links", ()):
        places = sorted(record.of_container(other), key=lambda one: one["network"] not in mine)
        also = " ".join(dict.fromkeys(each for each in (name, names.policy(other).get("name"), other[:12]) if each))
        found += [f"{each.partition('/')[0]}\t{also}" for one in places[:1] for each in one["addresses"]]
    return found


def those(container: str) -> list[str]:
    """The containers that have a link to this one."""
    try:
        with open(f"{names.place(container)}/linked", encoding="utf-8") as file:
            known = dict.fromkeys(file.read().split())
    except FileNotFoundError:
        return []
    return [each for each in known if any(other == container for other, _ in names.policy(each).get("links", ()))]
