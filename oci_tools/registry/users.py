"""Who may do what in a registry that we serve: files of users and of rules, read again when they change.

    htpasswd file    NAME:BCRYPT                            as htpasswd -B writes it
    rules file       WHO[,WHO]...  REPOSITORIES  ACTION...  a line each; # begins a comment

WHO is a user's name, "@GROUP" for a group's members as a directory or an identity provider names them,
"+" for whoever has logged in, "*" for everybody, who has logged in or not.
REPOSITORIES is a name in which "*" stands for anything within one component and "**" for
anything at all.  An ACTION is pull, push, delete, or "*" for all.  What any line allows is
allowed, and nothing else: the order does not matter.  Not here: how a client says who it is
(access.py).
"""

from __future__ import annotations

import os
import threading

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from re import Pattern
    from typing import Any

    Rule = tuple[frozenset[str], Pattern[str], frozenset[str]]

ACTIONS = frozenset(("pull", "push", "delete"))
EVERYBODY, USERS, GROUP = "*", "+", "@"
_NOBODY = b"$2b$10$" + b"." * 22 + b"x" * 31  # takes as long as a real one, and is nobody's
_LONGEST = 72  # bytes of a password that bcrypt looks at


class File:
    """A file's content as `parse` makes it, made again when the file has changed.

    A change that cannot be used is told to `failed` once, and the last good content stays.
    """

    def __init__(self, path: str, parse: Callable[[str, str], Any], failed: Callable[[Error], None]) -> None:
        self.path = path
        self._parse = parse
        self._failed = failed
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._content = self._read()

    def content(self) -> Any:
        with self._lock:
            try:
                stamp = self._look()
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._content = self._read()
            except Error as error:
                if self._stamp is not None:
                    self._stamp = None if isinstance(error.cause, FileNotFoundError) else self._stamp
                    self._failed(error)
            return self._content

    def _look(self) -> tuple[int, int, int] | None:
        try:
            seen = os.stat(self.path)
        except OSError as error:
            raise Error("cannot read", self.path, error) from None
        return seen.st_ino, seen.st_mtime_ns, seen.st_size

    def _read(self) -> Any:
        try:
            with open(self.path, encoding="utf-8") as file:
                return self._parse(file.read(), self.path)
        except (OSError, UnicodeDecodeError) as error:
            raise Error("cannot read", self.path, error) from None


class Users:
    """The users of an htpasswd file."""

    def __init__(self, path: str, failed: Callable[[Error], None]) -> None:
        self._file = File(path, passwords, failed)
        self._key = os.urandom(32)
        self._good: set[bytes] = set()  # what has been checked: bcrypt takes 50 ms and more by design
        self._turn = threading.BoundedSemaphore(2)  # guesses must not take every core

    def known(self, name: str) -> bool:
        return name in self._file.content()

    def check(self, name: str, password: str) -> bool:
        """Whether this is a user's password; a name that nobody has takes as long to refuse."""
        import hmac

        stored = self._file.content().get(name)
        secret = password.encode()
        if len(secret) > _LONGEST * 16:
            return False
        seen = hmac.digest(self._key, b"\0".join((name.encode(), secret, stored or b"")), "sha256")
        if seen in self._good:
            return stored is not None
        with self._turn:
            good = _matches(secret, stored or _NOBODY) and stored is not None
        if good:
            if len(self._good) > 1000:
                self._good.clear()
            self._good.add(seen)
        return good


def _matches(secret: bytes, stored: bytes) -> bool:
    import bcrypt

    try:
        return bool(bcrypt.checkpw(secret[:_LONGEST], stored))
    except ValueError:  # a NUL in the password
        return False


def passwords(text: str, path: str) -> dict[str, bytes]:
    """The users of an htpasswd file with their hashes."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, stored = line.partition(":")
        if not name or name in (EVERYBODY, USERS) or name.startswith(GROUP) or "," in name:
            raise Error("cannot use users of", path, f"line {number} has no name that can be used")
        if not colon or not stored.startswith(("$2y$", "$2b$", "$2a$")) or len(stored) != 60:
            raise Error("cannot use users of", path, f"line {number} has no bcrypt password", "use htpasswd -B")
        found[name] = stored.encode()
    return found


class Rules:
    """What users may do, as a list of rules: pure."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules

    def allow(self, user: str, repository: str, action: str, groups: Iterable[str] = ()) -> bool:
        """Whether somebody may do this there; user "" has not logged in."""
        who = {EVERYBODY, USERS, *(GROUP + name for name in groups)} if user else {EVERYBODY}
        if not user.startswith(GROUP):  # whoever issues such a name
            who.add(user)
        return any(
            action in actions and not who.isdisjoint(names) and pattern.fullmatch(repository)
            for names, pattern, actions in self._rules
        )

    def also(self, rules: list[Rule]) -> Rules:
        """These rules and others."""
        return Rules([*self._rules, *rules]) if rules else self

    def anonymous(self) -> bool:
        """Whether somebody who has not logged in may do anything at all."""
        return any(EVERYBODY in names for names, _, _ in self._rules)


def pattern(name: str) -> Pattern[str]:
    """A name in which * and ** stand for anything, within a component or at all."""
    import re

    wild = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(wild.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", name)))


def rule(who: str, repositories: str, actions: str) -> Rule:
    """One rule of its three words; ValueError says what is wrong."""
    wanted = set(actions.replace(",", " ").split())
    if not wanted or not wanted <= ACTIONS | {"*"}:
        raise ValueError("an action is pull, push, delete or *")
    return frozenset(who.split(",")), pattern(repositories), ACTIONS if "*" in wanted else frozenset(wanted)


def rules(text: str, path: str) -> Rules:
    """The rules of a file."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split(maxsplit=2)
        if not words:
            continue
        try:
            who, repositories, actions = words
            found.append(rule(who, repositories, actions))
        except ValueError as error:
            why = str(error) if len(words) == 3 else "it is not WHO REPOSITORIES ACTION..."
            raise Error("cannot use rules of", path, f"line {number}: {why}") from None
    return Rules(found)
