"""What a registry writes of each request: a JSON line, in which no secret stands.

    {"time", "peer", "user", "method", "target", "status", "bytes", "ms", "agent"}

A target's query has passwords in it now and then: an OpenID provider's code, a token that somebody put there.
"""

from __future__ import annotations

import sys
import time

from oci_tools import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.http import Request

# What the API's queries are made of; of anything else no value is shown.
OPEN = frozenset((
    "account", "artifactType", "client_id", "digest", "digest-algorithm", "from", "last", "mount", "n", "ns",
    "offline_token", "password", "provider", "reference", "repository", "scope", "service", "tag",
))  # fmt: skip


def shown(target: str) -> str:
    """A request's target for people."""
    path, mark, query = target.partition("?")
    scheme, slashes, place = path.partition("://")  # of a request to a proxy
    if slashes:
        host, slash, rest = place.partition("/")
        path = f"{scheme}://{host.rpartition('@')[2]}{slash}{rest}"
    return path + mark + "&".join(map(_shown, query.split("&")))


def _shown(part: str) -> str:
    name, equals, value = part.partition("=")
    if name in OPEN and (name != "password" or not value):
        return part
    return f"{name}=***" if equals else "***" if name else ""


def write(request: Request, status: int, size: int, seconds: float) -> None:
    """One line on standard error."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
    line = {
        "time": stamp, "peer": request.peer, "user": request.user, "method": request.method,
        "target": shown(request.target), "status": status, "bytes": size, "ms": round(seconds * 1000, 1),
        "agent": request.header("user-agent"),
    }  # fmt: skip
    sys.stderr.write(document.dumps(line).decode() + "\n")
    sys.stderr.flush()
