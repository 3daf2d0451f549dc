"""A directory of people (LDAP, RFC 4511) that is asked whether a name and a password are somebody's.

    the file   {"url": "ldaps://HOST[:PORT]", "startTLS": false, "caCert": FILE, "insecure": false,
                "bindDN": "...", "bindPasswordFile": FILE, "baseDN": "...", "userAttribute": "uid",
                "userFilter": "(objectClass=*)", "userGroupAttribute": "memberOf",
                "groupBaseDN": "...", "groupFilter": "(member={dn})"}

Who is looked for by `userAttribute` below `baseDN`, as `bindDN` or nobody; then the entry that was found binds with
the password.  Groups are the values of `userGroupAttribute`, and the entries that `groupFilter` finds ({dn} and {user}
stand for who it is) below `groupBaseDN`; each is called by the first component of its DN.  Only this module imports
`ldap3`.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager

from oci_tools import document
from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Found = tuple[str, list[str]]  # a user's name as the directory writes it, and their groups

STRINGS = {
    "url", "caCert", "bindDN", "bindPasswordFile", "baseDN", "userAttribute", "userFilter", "userGroupAttribute",
    "groupBaseDN", "groupFilter",
}  # fmt: skip
FLAGS = {"startTLS", "insecure"}
KEPT = 60.0  # seconds for which an answer is believed: clients send a password with each request
TIMEOUT = 10  # seconds that a directory may be silent
MAX_SECRET = 1 << 12  # bytes
MAX_GROUPS = 1000


class Directory:
    """Who says whether passwords are right."""

    def __init__(self, path: str) -> None:
        found = document.load(path)
        _check(found, path)
        self._with: dict[str, Any] = found
        self._secret = _secret(found["bindPasswordFile"]) if found.get("bindPasswordFile") else ""
        self._key = os.urandom(32)
        self._good: dict[bytes, tuple[float, Found]] = {}
        self._turn = threading.BoundedSemaphore(4)  # guesses shall not be all that the directory does

    def check(self, name: str, password: str) -> Found | None:
        """Whose password this is; None if it is not. Busy if the directory does not answer."""
        import hmac

        if not name or not password or "\0" in name or len(password) > MAX_SECRET:
            return None  # a bind without password is one as nobody, and succeeds (RFC 4513, 5.1.2)
        seen = hmac.digest(self._key, b"\0".join((name.encode(), password.encode())), "sha256")
        until, known = self._good.get(seen, (0.0, None))
        if known and time.monotonic() < until:
            return known
        with self._turn:
            found = self._asked(name, password)
        if found:
            if len(self._good) > 1000:
                self._good.clear()
            self._good[seen] = time.monotonic() + KEPT, found
        return found

    def _asked(self, name: str, password: str) -> Found | None:
        from ldap3.core.exceptions import LDAPException

        try:
            with self._bound(self._with.get("bindDN"), self._secret) as searching:
                if searching is None:
                    raise Error("cannot use directory", self._with["url"], "it does not let bindDN in")
                entry = self._entry(searching, name)
                if entry is None:
                    return None
                with self._bound(entry["dn"], password) as theirs:
                    if theirs is None:
                        return None
                names = entry["attributes"].get(self._attribute) or [name]
                return self._spelled(names, name), self._groups(searching, entry, name)
        except (LDAPException, OSError) as error:
            why = " ".join(str(error).split())
            raise Busy("cannot ask directory", self._with["url"], why) from None

    @property
    def _attribute(self) -> str:
        return str(self._with.get("userAttribute", "uid"))

    @contextmanager
    def _bound(self, name: str | None, password: str) -> Iterator[Any]:
        """A connection as somebody; None: it is not let in."""
        import ssl

        import ldap3

        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=self._with.get("caCert"))
        server = ldap3.Server(self._with["url"], tls=tls, get_info=ldap3.NONE, connect_timeout=TIMEOUT)
        made = ldap3.Connection(
            server, name or None, password or None, receive_timeout=TIMEOUT, auto_referrals=False, read_only=True,
            check_names=False,
        )  # fmt: skip
        try:
            made.open()
            if self._with.get("startTLS"):
                made.start_tls()
            yield made if made.bind() else None
        finally:
            made.unbind()

    def _entry(self, searching: Any, name: str) -> dict[str, Any] | None:
        """The one entry of that name; of two nobody can say whose password it would be."""
        from ldap3.utils.conv import escape_filter_chars

        wanted = f"(&{self._with.get('userFilter', '(objectClass=*)')}({self._attribute}={escape_filter_chars(name)}))"
        attributes = [self._attribute, *filter(None, [self._with.get("userGroupAttribute")])]
        searching.search(self._with["baseDN"], wanted, attributes=attributes, size_limit=2)
        found = [one for one in searching.response or () if one.get("type") == "searchResEntry"]
        return found[0] if len(found) == 1 else None

    def _spelled(self, names: Any, said: str) -> str:
        """The name as the directory writes it, for which rules are: it takes `Alice` for `alice`."""
        every = [str(one) for one in (names if isinstance(names, list) else [names])]
        return next((one for one in every if one.casefold() == said.casefold().strip()), every[0])

    def _groups(self, searching: Any, entry: dict[str, Any], name: str) -> list[str]:
        from ldap3.utils.conv import escape_filter_chars

        listed = entry["attributes"].get(self._with.get("userGroupAttribute", "")) or []
        names = [str(one) for one in (listed if isinstance(listed, list) else [listed])]
        if "groupFilter" in self._with:
            wanted = self._with["groupFilter"]
            for mark, value in (("{dn}", entry["dn"]), ("{user}", name)):
                wanted = wanted.replace(mark, escape_filter_chars(value))
            below = self._with.get("groupBaseDN", self._with["baseDN"])
            searching.search(below, wanted, size_limit=MAX_GROUPS)
            names += [one["dn"] for one in searching.response or () if one.get("type") == "searchResEntry"]
        return sorted({_called(one) for one in names[:MAX_GROUPS]})


def _called(name: str) -> str:
    """The first component's value of a DN; what is none is a name itself."""
    import re

    from ldap3.core.exceptions import LDAPInvalidDnError
    from ldap3.utils.dn import parse_dn

    try:
        value = str(parse_dn(name)[0][1])
    except (LDAPInvalidDnError, IndexError):
        return name
    pairs = re.sub(rb"\\([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), value.encode())
    return re.sub(r"\\(.)", r"\1", pairs.decode("utf-8", "replace"))  # RFC 4514, 2.4


def _secret(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_SECRET).rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Error("cannot read", path, error) from None


def _check(found: Any, path: str) -> None:
    """Whether this is what the module says."""
    from oci_tools import fetch

    def fail(why: str) -> Error:
        return Error("cannot use directory of", path, why)

    if not isinstance(found, dict):
        raise fail("not a json object")
    for name, value in found.items():
        if name not in STRINGS | FLAGS:
            raise fail(f"unknown member {name}")
        if not isinstance(value, str if name in STRINGS else bool):
            raise fail(f"{name} is not {'a string' if name in STRINGS else 'true or false'}")
    if not found.get("baseDN"):
        raise fail("it says no baseDN")
    url = found.get("url", "")
    if not url.startswith(("ldap://", "ldaps://")):
        raise fail("url is neither ldaps:// nor ldap://")
    safe = url.startswith("ldaps://") or found.get("startTLS") or fetch.is_loopback(fetch.host_of(url))
    if not safe and not found.get("insecure"):
        raise fail("passwords would be sent in the clear: say startTLS, or insecure")
