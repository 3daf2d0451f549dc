"""Keys that stand in for a user's password: one a program, with an end, and for no more than it needs.

    the key    ocik_ID_SECRET                 shown once; ID has 12 hex digits, SECRET 32 random bytes in base64
    the file   a JSON object a line:          {"id", "hash": SHA-256 of the whole key in hex, "user", "groups": [...],
                                               "created", "expires": RFC 3339 or null,
                                               "scopes": ["REPOSITORIES:ACTION,..."], "label"}

A secret of 256 random bits cannot be guessed, so a fast hash keeps it as well as a slow one.  A key lets in
its user with the groups that it was made with, and grants no more than rules grant these and its scopes say.
The file is replaced whole under a lock, by the command and by a server beside it.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.registry.users import File, Rules, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

BEGIN = "ocik_"
DAY = 86400
MAX_LABEL = 100  # characters


class Key:
    """What is known of a key."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.id: str = found["id"]
        self.user: str = found["user"]
        self.groups = frozenset(found.get("groups") or ())
        self.expires = _seconds(found["expires"]) if found.get("expires") else None
        scopes: list[str] = found.get("scopes") or []
        self.limits = Rules([_scope(one) for one in scopes]) if scopes else None

    def live(self) -> bool:
        return self.expires is None or time.time() < self.expires


class Keys:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: str, failed: Callable[[Error], None]) -> None:
        self.path = path
        if not os.path.exists(path):
            fs.write(path, b"", mode=0o600)
        self._file = File(path, parse, failed)

    def known(self, name: str) -> Key | None:
        """The key with this id, if it is good now."""
        found: Key | None = self._file.content().get(name)
        return found if found and found.live() else None

    def check(self, said: str) -> Key | None:
        """The key that somebody has; None if it is none, or not any more."""
        import hmac

        found = self.known(said.removeprefix(BEGIN).partition("_")[0])
        return found if found and hmac.compare_digest(_hash(said), found.found["hash"]) else None

    def of(self, user: str) -> list[Key]:
        """A user's keys, good or not."""
        return [key for key in self._file.content().values() if key.user == user]


def is_key(said: str) -> bool:
    return said.startswith(BEGIN)


def add(
    path: str, user: str, *, days: int = 0, scopes: Iterable[str] = (), label: str = "", groups: Iterable[str] = ()
) -> str:
    """Make a key for a user, good for so many days (0: without end): the key itself, which is nowhere else."""
    from base64 import urlsafe_b64encode

    if not good_name(user):
        raise Error("cannot make a key for", user, "it is no user's name")
    for one in (scopes := list(scopes)):
        try:
            _scope(one)
        except ValueError as error:
            raise Error("cannot use scope", one, str(error)) from None
    if not label.isprintable() or len(label) > MAX_LABEL:
        raise Error("cannot use label", label, f"it is not a line of {MAX_LABEL} characters at most")
    name, now = os.urandom(6).hex(), int(time.time())
    said = f"{BEGIN}{name}_{urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')}"
    made = {
        "id": name, "hash": _hash(said), "user": user, "groups": sorted(groups), "created": _stamp(now),
        "expires": _stamp(now + days * DAY) if days else None, "scopes": scopes, "label": label,
    }  # fmt: skip
    with _lock(path):
        _write(path, [*(load(path).values() if os.path.exists(path) else ()), Key(made)])
    return said


def remove(path: str, wanted: Callable[[Key], bool]) -> list[Key]:
    """Take keys back; those that it was."""
    with _lock(path):
        keys = load(path).values()
        gone = [key for key in keys if wanted(key)]
        if gone:
            _write(path, [key for key in keys if not wanted(key)])
    return gone


def load(path: str) -> dict[str, Key]:
    """The keys of a file by their ids."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise Error("cannot read", path, error) from None


def parse(text: str, path: str) -> dict[str, Key]:
    """The same of a file's content."""
    found: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = document.loads(line)
            key = Key(value)
            good = good_name(key.user) and all(isinstance(value[name], str) for name in ("id", "hash", "user"))
        except (Error, ValueError, KeyError, TypeError, AttributeError):
            good = False
        if not good:
            raise Error("cannot use keys of", path, f"line {number} is no key")
        found[key.id] = key
    return found


def good_name(user: object) -> bool:
    """Whether rules can name a user so (users.py)."""
    return isinstance(user, str) and user.isprintable() and user.strip(" ") == user != "" and not (
        user in ("*", "+") or user.startswith("@") or "," in user
    )  # fmt: skip


def _lock(path: str) -> fs.Lock:
    return fs.Lock(f"{os.path.realpath(path)}.lock")


def _write(path: str, keys: list[Key]) -> None:
    lines = b"".join(document.dumps(key.found) + b"\n" for key in keys)
    fs.write(os.path.realpath(path), lines, mode=0o600)


def _scope(text: str) -> Any:
    """A scope as a rule for everybody who has the key; ValueError says what is wrong."""
    repositories, colon, actions = text.rpartition(":")
    if not colon or not repositories or any(c.isspace() for c in repositories):
        raise ValueError("it is not REPOSITORIES:ACTION[,ACTION]...")
    return rule("*", repositories, actions)


def _hash(said: str) -> str:
    from hashlib import sha256

    return sha256(said.encode("utf-8", "replace")).hexdigest()


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _seconds(stamp: str) -> int:
    from calendar import timegm

    return timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
