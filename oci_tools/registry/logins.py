"""Who somebody is who comes to a registry that we serve with a name and a password, or with what bears it.

    a password    of the users' file (users.py), or of a directory that is asked (ldap.py)
    a key         ocik_..., as the password of its user, or as a bearer token (apikeys.py)
    an ID token   of an OpenID provider, likewise (oidc.py); as a password its user may be called "oidc"

The first that knows them decides.  Not here: what they may do (users.py), and how a request says it (access.py).
"""

from __future__ import annotations

from oci_tools.registry import apikeys, oidc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_tools.registry.ldap import Directory
    from oci_tools.registry.users import Rules, Users

FILE, DIRECTORY, PROVIDER, KEY = "file", "directory", "provider", "key:"  # by what somebody has logged in


class Caller:
    """Who sent a request.

    user     "" is nobody in particular
    by       what we know it by: FILE, DIRECTORY, PROVIDER, KEY and the key's id; "" is a certificate, or nothing
    groups   that the user is in
    granted  what a token grants, if one came: (type, name) -> actions
    limits   of the key that came, beside what rules say
    """

    def __init__(
        self,
        user: str = "",
        granted: dict[tuple[str, str], frozenset[str]] | None = None,
        *,
        by: str = "",
        groups: Iterable[str] = (),
        limits: Rules | None = None,
    ) -> None:
        self.user = user
        self.granted = granted
        self.by = by
        self.groups = frozenset(groups)
        self.limits = limits


class Logins:
    """All ways to be known that a registry has."""

    def __init__(
        self,
        users: Users | None = None,
        directory: Directory | None = None,
        provider: oidc.Provider | None = None,
        keys: apikeys.Keys | None = None,
    ) -> None:
        self.users = users
        self.directory = directory
        self.provider = provider
        self.keys = keys

    @property
    def bearers(self) -> bool:
        """Whether there is anything that may come as a bearer token, besides tokens of a registry's own."""
        return bool(self.keys or self.provider)

    @property
    def passwords(self) -> bool:
        """Whether there are people with passwords."""
        return bool(self.users or self.directory)

    def check(self, name: str, password: str) -> Caller | None:
        """Who that is; None if it is not true."""
        if apikeys.is_key(password):
            found = self._key(password)
            return found if found and found.user == name else None
        if self.provider and oidc.is_token(password):
            found = self._token(password)
            if found and name in (found.user, oidc.ANYBODY):
                return found
        if self.users and self.users.check(name, password):
            return Caller(name, by=FILE)
        listed = self.directory.check(name, password) if self.directory else None
        return Caller(listed[0], by=DIRECTORY, groups=listed[1]) if listed else None

    def bearer(self, token: str) -> Caller | None:
        """Who has that token; None if it is none that we know."""
        if apikeys.is_key(token):
            return self._key(token)
        return self._token(token) if self.provider and oidc.is_token(token) else None

    def again(self, user: str, by: str, groups: list[str]) -> Caller | None:
        """Who has logged in like this a while ago; None if that would not do any more."""
        if by.startswith(KEY):
            found = self.keys.known(by.removeprefix(KEY)) if self.keys else None
            return _of(found) if found and found.user == user else None
        if by == FILE and not (self.users and self.users.known(user)):
            return None
        return Caller(user, by=by, groups=groups)

    def _key(self, said: str) -> Caller | None:
        found = self.keys.check(said) if self.keys else None
        return _of(found) if found else None

    def _token(self, said: str) -> Caller | None:
        found = self.provider.user(said) if self.provider else None
        return Caller(found[0], by=PROVIDER, groups=found[1]) if found else None


def _of(key: apikeys.Key) -> Caller:
    return Caller(key.user, by=KEY + key.id, groups=key.groups, limits=key.limits)
