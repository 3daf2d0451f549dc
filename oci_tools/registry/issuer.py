"""Tokens that somebody else issues: a token service, or an identity provider, whose public keys we have.

    JWT (RFC 7519):  {"iss", "sub", "aud": SERVICE or [...], "exp", "nbf",
                      "access": [{"type", "name", "actions"}]}

With `access`, as distribution's token services give it, a token grants that and no more; without, as identity
providers give it, it says who somebody is, and rules say what they may.  Which algorithm is used is the key's
choice, never the token's.  Not here: tokens of our own (access.py).
"""

from __future__ import annotations

import time

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LEEWAY = 60  # seconds by which two clocks may differ
MAX_KEYS = 1 << 20  # bytes of a file
BEGIN, END = b"-----BEGIN ", b"-----END "


class Issuer:
    """Who issues tokens for us."""

    def __init__(self, realm: str, service: str, name: str, paths: Iterable[str]) -> None:
        """realm: where clients get tokens; service: what they say there that they want to use, and a token's `aud`;
        name: its `iss`, "" for any; paths: files of public keys or certificates (PEM), several in each."""
        self.realm = realm
        self.service = service
        self._name = name
        self._keys = [key for path in paths for key in _keys(path)]

    def claims(self, token: str) -> dict[str, Any] | None:
        """What a token says; None if it is not good now, or not for us."""
        found = parts(token)
        if found is None:
            return None
        head, claims, signature, message = found
        good = any(signed(key, head, signature, message) for key in self._keys)
        return claims if good and self._for_us(claims) else None

    def _for_us(self, found: dict[str, Any]) -> bool:
        audience = found.get("aud")
        return (
            self.service in (audience if isinstance(audience, list) else [audience])
            and (not self._name or found.get("iss") == self._name)
            and timely(found)
            and isinstance(found.get("sub", ""), str)
        )


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes] | None:
    """A JWT's header, claims, signature, and what is signed; None if it is none."""
    from binascii import Error as NoBase64

    message, _, signature = token.rpartition(".")
    first, _, second = message.partition(".")
    if not token.isascii():
        return None
    try:
        head, claims, made = document.loads(_decode(first)), document.loads(_decode(second)), _decode(signature)
    except (Error, NoBase64, ValueError):
        return None
    return (head, claims, made, message.encode()) if isinstance(head, dict) and isinstance(claims, dict) else None


def timely(found: dict[str, Any]) -> bool:
    """Whether claims are good now."""
    until, since = found.get("exp"), found.get("nbf", 0)
    if not isinstance(until, (int, float)) or not isinstance(since, (int, float)):
        return False
    return since - LEEWAY < time.time() < until + LEEWAY


def granted(found: dict[str, Any]) -> dict[tuple[str, str], frozenset[str]] | None:
    """What a token's `access` grants: (type, name) -> actions; None where it has none."""
    entries = found.get("access")
    if entries is None:
        return None
    made: dict[tuple[str, str], frozenset[str]] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("actions"), list):
            key = str(entry.get("type")), str(entry.get("name"))
            actions = {str(action) for action in entry["actions"]}
            actions |= {"pull", "push", "delete"} if "*" in actions else set()
            made[key] = made.get(key, frozenset()) | actions
    return made


def _keys(path: str) -> list[Any]:
    from oci_tools.registry import keys

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEYS)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    blocks = [BEGIN + part.partition(END)[0] + END + part.partition(END)[2].partition(b"\n")[0] + b"\n"
              for part in data.split(BEGIN)[1:]]  # fmt: skip
    if not blocks:
        raise Error("cannot use key", path, "it is no key in PEM")
    return [keys.of_certificate(one, path) if b"CERTIFICATE" in one else keys.public(one, path) for one in blocks]


def signed(key: Any, head: dict[str, Any], signature: bytes, message: bytes) -> bool:
    """Whether this key made a JWT's signature; what must be understood to believe it (`crit`) nobody here does."""
    from oci_tools.registry import keys

    return "crit" not in head and keys.good_jws(key, str(head.get("alg")), signature, message)


def _decode(text: str) -> bytes:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
