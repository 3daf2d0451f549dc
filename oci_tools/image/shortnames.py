"""Names without a registry, and the files that say what they mean: containers-registries.conf(5).

    unqualified-search-registries = ["docker.io"]
    [aliases]
    "fedora" = "registry.fedoraproject.org/fedora"

    short-name-mode = "permissive"
    credential-helpers = ["containers-auth.json"]       who is asked for credentials, in order; this one is the files

An alias decides; else the one registry to search is meant, docker.io where none is set.  Where several are
set, a pull tries them in order (`candidates`) unless the mode is "enforcing"; elsewhere the host must be written: what
a name means does not depend on who answers first.  Nothing is read of most files: they are searched for the name first.
Aliases that podman(1) has noted, as it was told them, win.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOST = "docker.io"  # what a name without a registry means, unless somebody says otherwise
SYSTEM = "/etc/containers"
SEARCH = b"unqualified-search-registries"
MODE = b"short-name-mode"
HELPERS = b"credential-helpers"
FILES = "containers-auth.json"  # among those: auth.json, config.json and what they say
MODES = ("", "enforcing", "permissive", "disabled")


def files() -> list[str]:
    """registries.conf and what is beside it; what comes later wins."""
    user = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    given, theirs = os.environ.get("CONTAINERS_REGISTRIES_CONF"), f"{user}/registries.conf"
    directories = [f"{SYSTEM}/registries.conf.d", f"{user}/registries.conf.d"]
    if not given and os.path.exists(theirs):  # whoever has a file of their own has nothing of the system's
        given, directories = theirs, directories[1:]
    found = [given or f"{SYSTEM}/registries.conf"]
    for directory in directories:
        try:
            found += [
                f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(".conf")
            ]
        except OSError:
            pass
    return found


def read(path: str) -> bytes:
    """A file's content; nothing of one that is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise Error("cannot read", path, error) from None


def parse(data: bytes, path: str) -> dict[str, Any]:
    """A file of this kind, as TOML."""
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        raise Error("invalid registries.conf", path, str(error)) from None


def expand(name: str) -> str:
    """HOST/PATH that a name without a registry stands for."""
    found, _ = _resolved(name)
    if len(found) > 1:
        raise Error("which registry has", name, f"{len(found)} are searched", f"such as {found[0]}")
    return found[0]


def candidates(name: str) -> list[str]:
    """Each HOST/PATH that it may stand for, in the order in which they are tried; with `enforcing` there is but one."""
    found, mode = _resolved(name)
    return [expand(name)] if mode == "enforcing" else found


def _resolved(name: str) -> tuple[list[str], str]:
    """What a name may stand for, and the mode."""
    alias, search, mode = "", [HOST], ""
    for path in files():
        data = read(path)
        if name.encode() in data:
            found = _alias(data, name, path)
            alias = alias if found is None else found
        if _says(data, SEARCH):
            search = _search(parse(data, path), path) or [HOST]
        if _says(data, MODE):
            mode = parse(data, path).get(MODE.decode(), mode)
            if mode not in MODES:
                raise Error("invalid registries.conf", path, f"no such {MODE.decode()}: {mode!r}")
    noted = _noted()
    data = read(noted)
    alias = (_alias(data, name, noted) if name.encode() in data else None) or alias
    return [alias] if alias else [name if search == [HOST] else f"{host}/{name}" for host in search], mode


def helpers() -> list[str]:
    """Who is asked for credentials, in order; FILES for what lies in files."""
    found = [FILES]
    for path in files():
        data = read(path)
        if _says(data, HELPERS):
            said = parse(data, path).get(HELPERS.decode(), [])
            if not isinstance(said, list) or not all(isinstance(one, str) and one for one in said):
                raise Error("invalid registries.conf", path, f"{HELPERS.decode()} is not a list of names")
            found = said or [FILES]
    return found


def _says(data: bytes, key: bytes) -> bool:
    return key in data and any(line.lstrip().startswith(key) for line in data.splitlines())


def _noted() -> str:
    """Where podman keeps what people chose when it asked them."""
    if os.geteuid() == 0 and os.access("/var/cache/containers", os.X_OK):  # not root of a plain user's namespace
        return "/var/cache/containers/short-name-aliases.conf"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{cache}/containers/short-name-aliases.conf"


def _alias(data: bytes, name: str, path: str) -> str | None:
    """What a file says of a name: "" takes back what another said, None is nothing."""
    inside, key = False, f'"{name}"'.encode()
    for raw in data.splitlines():
        line = raw.strip()
        if line.startswith(b"["):
            inside = line.partition(b"#")[0].rstrip() == b"[aliases]"
        elif inside and line.startswith(key):
            equals, _, value = line[len(key) :].partition(b'"')
            text, quote, rest = value.partition(b'"')
            if equals.strip() == b"=" and quote and b"\\" not in text and rest.strip()[:1] in (b"", b"#"):
                return text.decode()
            return _of_table(data, name, path)
        elif line.startswith(b"aliases") or (inside and line.startswith((b"'", name.encode()))):
            return _of_table(data, name, path)  # as few write it
    return None


def _of_table(data: bytes, name: str, path: str) -> str | None:
    found = parse(data, path).get("aliases", {})
    value = found.get(name) if isinstance(found, dict) else 0
    if value is not None and not isinstance(value, str):
        raise Error("invalid registries.conf", path, f"the alias '{name}' is not a string")
    return value


def _search(found: dict[str, Any], path: str) -> list[str]:
    hosts = found.get(SEARCH.decode(), [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
        raise Error("invalid registries.conf", path, f"{SEARCH.decode()} is not a list of names")
    return hosts
