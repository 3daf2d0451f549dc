"""Where a reference is fetched from: containers-registries.conf(5) and containers-certs.d(5).

    [[registry]]
    prefix = "example.com/ns"       the longest that fits decides; "*.example.com" fits subdomains; may end with a tag
    location = "other.example/ns"   what is read in place of the prefix; default: the prefix
    insecure, blocked = false
    mirror-by-digest-only = false
    [[registry.mirror]]             tried in order before the location itself, reads only
    location = "mirror.example/ns"
    insecure = false
    pull-from-mirror = "all"        or "digest-only", "tag-only"

Read are $CONTAINERS_REGISTRIES_CONF, or the user's or else the system's registries.conf, and what is in
the system's and the user's registries.conf.d; beside a user's own file only in theirs.  What a name without a
registry means is image/shortnames.py's.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.image import shortnames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.ref import Ref

API_HOSTS = {"docker.io": "registry-1.docker.io"}  # where the name and the server differ


class Source:
    """One place that a repository can be read from or written to."""

    __slots__ = ("host", "insecure", "repository")

    def __init__(self, host: str, repository: str, insecure: bool = False) -> None:
        self.host = host
        self.repository = repository
        self.insecure = insecure

    @property
    def api_host(self) -> str:
        return API_HOSTS.get(self.host, self.host)

    def __repr__(self) -> str:
        return f"<Source {self.host}/{self.repository}>"


def sources(ref: Ref, write: bool = False) -> list[Source]:
    """Where to look for a reference, in order; the last is the registry itself."""
    return resolve(ref, tables(), write)


def resolve(ref: Ref, registries: list[dict[str, Any]], write: bool = False) -> list[Source]:
    """The same, from given [[registry]] tables."""
    best, length = None, -1
    for table in registries:
        prefix = _place(table, "prefix") or _place(table, "location")
        if prefix and len(prefix) > length and _fits(prefix, str(ref)):
            best, length = table, len(prefix)
    if best is None:
        return [Source(ref.host, ref.repository)]
    prefix, insecure = _place(best, "prefix") or _place(best, "location"), _flag(best, "insecure")
    if _flag(best, "blocked"):
        raise Error("registry is blocked", prefix, "by registries.conf")
    if write:  # what is pushed goes where it says
        return [Source(ref.host, ref.repository, insecure)]
    return [*_mirrors(best, prefix, ref), _rewritten(ref, prefix, _place(best, "location"), insecure)]


def _mirrors(table: dict[str, Any], prefix: str, ref: Ref) -> list[Source]:
    found = []
    digest_only = _flag(table, "mirror-by-digest-only")
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list):
        raise Error("invalid registries.conf", prefix, "mirror is not a list of tables")
    for mirror in mirrors:
        if not isinstance(mirror, dict) or not _place(mirror, "location"):
            raise Error("invalid registries.conf", prefix, "a mirror has no location")
        use = _text(mirror, "pull-from-mirror")
        if use not in ("", "all", "digest-only", "tag-only"):
            raise Error("invalid registries.conf", prefix, f"no such pull-from-mirror: '{use}'")
        if use and digest_only:
            both = "mirror-by-digest-only and pull-from-mirror exclude each other"
            raise Error("invalid registries.conf", prefix, both)
        use = use or ("digest-only" if digest_only else "all")
        if use == "all" or use == ("digest-only" if ref.digest else "tag-only"):
            found.append(_rewritten(ref, prefix, _place(mirror, "location"), _flag(mirror, "insecure")))
    return found


def _fits(prefix: str, name: str) -> int:
    """How much of HOST/PATH:TAG@DIGEST a prefix means, 0 for nothing: whole components, or any host under `*.`."""
    end = len(prefix)
    if prefix.startswith("*."):
        at = name.find(prefix[1:])
        if at < 0 or "/" in name[:at]:
            return 0
        end += at - 1
    elif not name.startswith(prefix):
        return 0
    return end if name[end : end + 1] in ("", "/", ":", "@") else 0


def _rewritten(ref: Ref, prefix: str, location: str, insecure: bool) -> Source:
    if not location:
        return Source(ref.host, ref.repository, insecure)
    text = str(ref)
    host, _, repository = f"{location}{text[_fits(prefix, text) :]}".partition("/")
    repository = repository.partition("@")[0].partition(":")[0]
    if not repository:
        raise Error("invalid registries.conf", prefix, f"'{location}' leaves no repository")
    return Source(host, repository, insecure)


def _flag(table: dict[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise Error("invalid registries.conf", key, "neither true nor false")
    return value


def _place(table: dict[str, Any], key: str) -> str:
    """HOST[:PORT][/PATH] of a table."""
    value = _text(table, key)
    if "://" in value:
        raise Error("invalid registries.conf", value, f"a {key} has no scheme")
    return value.rstrip("/")


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise Error("invalid registries.conf", key, "not a string")
    return value


# -- files --------------------------------------------------------------------------------


def tables() -> list[dict[str, Any]]:
    """The [[registry]] tables of this host; those of registries.conf.d come later and win."""
    found: dict[str, dict[str, Any]] = {}
    for path in shortnames.files():
        for table in _parse(shortnames.read(path), path):
            place = _place(table, "prefix") or _place(table, "location")
            if not place:
                raise Error("invalid registries.conf", path, "a registry has neither prefix nor location")
            found[place] = table
    return list(found.values())


def _parse(data: bytes, path: str) -> list[dict[str, Any]]:
    # Most hosts have files of comments and aliases only: `import tomllib` (8 ms) is for the others.
    if not any(line.lstrip().startswith((b"[[", b"registry")) for line in data.splitlines()):
        return []
    listed = shortnames.parse(data, path).get("registry", [])
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise Error("invalid registries.conf", path, "registry is not a list of tables")
    return listed


def cert_directories(host: str, given: str | None = None) -> list[str]:
    """Directories with certificates for HOST[:PORT]: the one given, or those in certs.d."""
    if given:
        return [given]
    user = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    roots = (f"{user}/certs.d", f"{shortnames.SYSTEM}/certs.d", "/etc/docker/certs.d")
    return [f"{root}/{host}" for root in roots if os.path.isdir(f"{root}/{host}")][:1]
