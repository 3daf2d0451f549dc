"""A container joins its networks before it starts, and leaves them when it has ended.

Its network namespace is made first, attached, and pinned at $OCI_RUN/netns/ID, where the runtime joins it by path
(contracts.md, "Network order").  A container in a user namespace of its own must have a network namespace that belongs
to that: the runtime makes both, and the networks are joined once they are there, before the payload.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.container import names, networking
from oci_tools.errors import Error, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from oci_tools.container.place import Place

MARK = "# by oci-net"
kept: list[int] = []  # descriptors that whoever looks after a container holds until its end


def plan(held: Place, spec: dict[str, Any], everything: bool, joins: dict[str, str]) -> None:
    """What the specification and the policy of a container say of its networks; `everything` exposed is published.

    joins   kinds of namespaces that are another container's, and whose
    """
    if joins:
        held.note(joins=joins)
    if held.policy.get("links"):
        from oci_tools.container import linking

        linking.remember(held.id, held.policy)
    if not held.policy.get("networks"):
        return
    if bind(spec, held.id):
        held.note(joinsLate=True)
    if everything:
        from oci_tools.container import options

        held.policy["networks"][0]["ports"] += networking.all_exposed(spec, options.EXPOSED)
        held.note()


def bind(spec: dict[str, Any], container: str) -> bool:
    """Have the runtime join the namespace that will be pinned; True if it has to make one in a new user namespace."""
    from oci_tools.net import place

    spaces = [each for each in spec["linux"].get("namespaces", []) if each["type"] != "network"]
    late = any(each["type"] == "user" and not each.get("path") for each in spaces)
    own = {"type": "network"} if late else {"type": "network", "path": place.namespace(container)}
    spec["linux"]["namespaces"] = [*spaces, own]
    return late


def opened(container: str) -> dict[str, Any]:
    """Let a container that was made without a network join some from its next start on; what its policy says then."""
    from oci_tools.container.place import Place

    held = Place.again(container)
    spec = held.spec()
    late = bind(spec, container)
    held.respec(spec)
    return {"joinsLate": True} if late else {}


def join(container: str, policy: dict[str, Any]) -> None:
    """Make and attach the namespace of a container that is about to start."""
    if "networks" not in policy or policy.get("joinsLate"):
        return
    from oci_tools.net import detach, namespace, place, userland

    with place.Change():
        detach.release(container)  # what a killed start left
        made = _attach(container, policy, namespace.pin(container))
    userland.wait([port for one in made for port in one["ports"]])


def late(container: str, policy: dict[str, Any]) -> Callable[[int], None] | None:
    """What is to be done with the pid of a container whose namespaces the runtime has made, if something is."""
    served = bool(networking.program_of(policy)[0])
    if not served and not (policy.get("networks") and policy.get("joinsLate")):
        return None

    def join_late(pid: int) -> None:
        if served:
            _serve(container, policy, pid)
        else:
            from oci_tools.net import detach, place, userland

            with place.Change():
                detach.release(container)
                made = _attach(container, policy, f"/proc/{pid}/ns/net")
            userland.wait([port for one in made for port in one["ports"]])

    return join_late


def _serve(container: str, policy: dict[str, Any], pid: int) -> None:
    """A plain user's way out, for the process whose network namespace it is."""
    from oci_tools.net import ports, userland

    name, options = networking.program_of(policy)
    path = userland.program(name)
    if path is None:
        raise missing(name, "cannot set up the network")
    mappings = ports.choose(policy.get("ports", []))
    if mappings:
        fs.write(f"{names.place(container)}/published.json", document.dumps({"ports": mappings}), 0o600, sync=False)
    kept[:] = userland.start(name, path, options, pid, mappings, names.place(container))
    _name_it(container, policy, [], [f"{userland.AROUND[name][1]}\thost.docker.internal host.containers.internal"])


def _attach(container: str, policy: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """All of its networks, or none.  Under a Change."""
    from oci_tools.net import attach, detach, store

    made = []
    called = hostname(container)
    try:
        for one in policy["networks"]:
            network = store.load(store.find(one["network"]))
            wanted = attach.Wanted(
                container, namespace=path, name=policy.get("name") or "", addresses=one["addresses"], mac=one["mac"],
                aliases=[*one["aliases"], *called], ports=one["ports"], interface=one["interface"],
                priority=one["priority"], servers=policy.get("dns", []),
            )  # fmt: skip
            made.append(attach.attach(network, wanted))
    except BaseException:
        detach.release(container)
        raise
    _name_it(container, policy, made)
    if os.path.exists(f"{names.place(container)}/linked"):
        from oci_tools.container import linking
        from oci_tools.net import record

        for other in linking.those(container):
            _name_it(other, names.policy(other), record.of_container(other))
    return made


def hostname(container: str) -> list[str]:
    """What a container's own host name is, by which others find it as well; nothing for the first letters of its ID."""
    try:
        with open(f"{names.place(container)}/hostname", encoding="utf-8") as file:
            called = file.read().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    return [called] if called and not container.startswith(called) and called != os.uname().nodename else []


def _name_it(
    container: str, policy: dict[str, Any], made: list[dict[str, Any]], more: Sequence[str] = ()
) -> None:
    """Its own names in its /etc/hosts, in place of what an earlier start wrote."""
    path = f"{names.place(container)}/hosts"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            kept = [line for line in file if MARK not in line]
        with open(f"{names.place(container)}/hostname", encoding="utf-8") as file:
            called = file.read().strip()
    except FileNotFoundError:
        return  # the image's own
    words = " ".join(dict.fromkeys(word for word in (called, policy.get("name")) if word))
    if policy.get("links"):
        from oci_tools.container import linking

        more = [*more, *linking.lines(policy)]
    own = [f"{line}\t{MARK}\n" for line in more]
    own += [f"{each.partition('/')[0]}\t{words}\t{MARK}\n" for one in made for each in one["addresses"]]
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:  # in place: it is bound as it is
        file.writelines([*kept, *own])


def tell(container: str) -> None:
    """A running container's /etc/hosts and /etc/resolv.conf, after it joined or left a network."""
    from oci_tools.net import place, record, store

    with place.Change():
        made = [one for one in record.of_container(container) if record.is_alive(one)]
        known = {network.name: network for network in store.readable() if network.resolves}
    _name_it(container, names.policy(container), made)
    there = [known[one["network"]] for one in made if one["network"] in known]
    servers = [pool.gateway_text for network in there for pool in network.hosted][:3]
    path = f"{names.place(container)}/resolv.conf"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return  # the image's own
    wanted = [f"nameserver {each}\n" for each in servers]
    if servers and wanted != [line for line in lines if line.startswith("nameserver ")]:
        kept = [line for line in lines if not line.startswith("nameserver ")]
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:  # in place: it is bound as it is
            file.writelines([*wanted, *kept])


def leave(container: str) -> None:
    """A container has ended, or there is nothing of it any more."""
    from oci_tools.net import detach, place, record, userland

    userland.stop(names.place(container))
    if os.path.lexists(place.namespace(container)) or record.of_container(container):
        with place.Change():
            detach.release(container)


def leave_quietly(container: str) -> None:
    """The same, for who has more to clear: what is left of it the next command on these networks finds."""
    try:
        leave(container)
    except Error:
        pass
