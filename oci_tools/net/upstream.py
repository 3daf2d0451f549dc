"""Whom a network's resolver asks what it does not know: the network's own servers, or the host's as they are now."""

from __future__ import annotations

import os

from oci_tools.net import address
from oci_tools.net.conflist import Network

PORT = 53
MOST = 3  # as resolv.conf(5) has it
FILE = "/etc/resolv.conf"


class Servers:
    """Follows the changes of resolv.conf, which is looked at with every question that is passed on."""

    def __init__(self, network: Network) -> None:
        self._fixed = network.servers
        self._ours = {pool.gateway_text for pool in network.hosted}
        self._seen: tuple[int, int, int] | None = None
        self._found: list[str] = []

    def now(self) -> list[str]:
        """Those to be asked, in this order."""
        if self._fixed:
            return self._fixed[:MOST]
        try:
            seen = os.stat(FILE)
            version = (seen.st_mtime_ns, seen.st_ino, seen.st_size)
            if version != self._seen:
                with open(FILE, encoding="utf-8", errors="replace") as file:
                    self._found = servers(file.read(1 << 16))
                self._seen = version
        except OSError:
            self._found, self._seen = [], None
        return [each for each in self._found if each not in self._ours][:MOST]


def servers(text: str) -> list[str]:
    """The name servers of a resolv.conf; those on a link of their own, with a zone, are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(address.same(words[1]))
            except Exception:
                continue
    return found
