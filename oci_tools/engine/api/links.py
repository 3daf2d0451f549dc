"""Links of docker's old kind: `--link` for each, and what its variables say to the one that links.

    ALIAS_NAME=/web/alias    ALIAS_ENV_KEY=VALUE    ALIAS_PORT=tcp://ADDRESS:80    ALIAS_PORT_80_TCP=tcp://ADDRESS:80
    ALIAS_PORT_80_TCP_ADDR=ADDRESS    ALIAS_PORT_80_TCP_PORT=80    ALIAS_PORT_80_TCP_PROTO=tcp

Those with an address are there where the other one runs when this one is made.
"""

from __future__ import annotations

from oci_tools.engine.api import endpoints
from oci_tools.engine.api.answers import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.container import Container
    from oci_tools.engine.api.world import World


def words(name: str, host: dict[str, Any], networking: dict[str, Any], world: World) -> Iterator[str]:
    """The options for a container that will be called `name`."""
    for other, alias in _pairs(host.get("Links"), world):
        yield f"--link={other.id}:{alias}"
        for key, value in _variables(name, alias, other):
            yield f"--env={key}={value}"
    for end in (networking.get("EndpointsConfig") or {}).values():
        yield from (f"--link={other.id}:{alias}" for other, alias in _pairs((end or {}).get("Links"), world))


def shown(one: Container, world: World) -> list[str] | None:
    """`HostConfig.Links` as inspect tells it: /other:/this/alias."""
    said = one.host.get("Links")
    known = {each.id: each.name for each in world.all()} if said else {}
    made = zip(said or (), one.policy.get("links", ()), strict=False)  # those of its networks follow
    return [f"/{known[other]}:/{one.name}/{alias}" for _, (other, alias) in made if other in known] or None


def names(world: World) -> dict[str, list[str]]:
    """By Id, what containers are called by those that link to them: /this/alias."""
    found: dict[str, list[str]] = {}
    for one in world.all():
        for _, (other, alias) in zip(one.host.get("Links") or (), one.policy.get("links", ()), strict=False):
            found.setdefault(other, []).append(f"/{one.name}/{alias}")
    return found


def _pairs(said: list[str] | None, world: World) -> Iterator[tuple[Container, str]]:
    for word in said or ():
        other, colon, alias = word.partition(":")
        if not other or (colon and not alias):
            raise Refused(400, f"bad format for links: {word}")
        try:
            found = world.find(other.removeprefix("/"))
        except Refused as error:  # not a 404, for which clients would pull the image
            raise Refused(400, f"could not get container for {other}: {error.message}") from None
        yield found, alias.rpartition("/")[2] or found.name


def _variables(name: str, alias: str, other: Container) -> Iterator[tuple[str, str]]:
    head = alias.upper().replace("-", "_")
    yield f"{head}_NAME", f"/{name}/{alias}"
    for each in other.config.get("Env") or ():
        key, equals, value = each.partition("=")
        if equals and key not in ("HOME", "PATH"):
            yield f"{head}_ENV_{key}", value
    address = endpoints.settings(other)["IPAddress"]
    ports = sorted(port.partition("/")[::2] for port in other.config.get("ExposedPorts") or ())
    for at, (port, kind) in enumerate(sorted((int(port), kind or "tcp") for port, kind in ports if port.isdecimal())):
        if not address:
            return
        url = f"{kind}://{address}:{port}"
        if at == 0:
            yield f"{head}_PORT", url
        about = f"{head}_PORT_{port}_{kind.upper()}"
        yield about, url
        yield from ((f"{about}_ADDR", address), (f"{about}_PORT", str(port)), (f"{about}_PROTO", kind))
