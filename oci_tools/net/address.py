"""IPv4 and IPv6 addresses and subnets as numbers (`import ipaddress` costs a start 10 ms)."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from oci_tools.errors import Usage

BITS = {4: 32, 6: 128}
FAMILY = {4: AF_INET, 6: AF_INET6}


def number(text: str) -> tuple[int, int]:
    """The version, 4 or 6, and the number of an address; Usage if it is none."""
    version = 6 if ":" in text else 4
    try:
        return version, int.from_bytes(inet_pton(FAMILY[version], text), "big")
    except (OSError, ValueError):
        raise Usage("invalid address", text) from None


def packed(text: str) -> bytes:
    """An address as the kernel takes it."""
    version, value = number(text)
    return value.to_bytes(BITS[version] // 8, "big")


def text(version: int, value: int) -> str:
    """An address as people write it."""
    return inet_ntop(FAMILY[version], value.to_bytes(BITS[version] // 8, "big"))


def same(one: str) -> str:
    """An address in the one spelling that we keep."""
    return text(*number(one))


class Subnet:
    """`10.88.0.0/16`: version, first number, prefix length."""

    __slots__ = ("first", "prefix", "version")

    def __init__(self, version: int, first: int, prefix: int) -> None:
        self.version = version
        self.first = first
        self.prefix = prefix

    @classmethod
    def parse(cls, word: str) -> Subnet:
        """Usage if it is none, or if the address in it is not the first of the subnet."""
        start, _, bits = word.partition("/")
        if not (bits.isascii() and bits.isdigit()):
            raise Usage("invalid subnet", word, hint="ADDRESS/BITS")
        version, first = number(start)
        if int(bits) > BITS[version]:
            raise Usage("invalid subnet", word, f"the prefix is longer than {BITS[version]} bits")
        found = cls(version, first, int(bits))
        if first & (found.size - 1):
            right = cls(version, first & ~(found.size - 1), int(bits))
            raise Usage("invalid subnet", word, hint=f"{right} is meant?")
        return found

    @property
    def size(self) -> int:
        return int(1 << (BITS[self.version] - self.prefix))

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    @property
    def hosts(self) -> tuple[int, int]:
        """The first and the last address that a host may have."""
        if self.size <= 2:
            return self.first, self.last
        return self.first + 1, self.last - (1 if self.version == 4 else 0)

    def has(self, version: int, value: int) -> bool:
        return version == self.version and self.first <= value <= self.last

    def overlaps(self, other: Subnet) -> bool:
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{text(self.version, self.first)}/{self.prefix}"
