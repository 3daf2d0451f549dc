"""A plain user's subordinate ids, subuid(5): an image's owners are real ones, in a user namespace.

    maps   {"uidMappings": [...], "gidMappings": [...]} as config.json has them: root is the user, and what
           follows are the ranges that /etc/subuid and /etc/subgid give, which newuidmap(1) grants

What belongs to these ids can be made, read and removed only by who is root in such a namespace; so
that work is done in a process of its own (`inside`), whose result or Error comes back.
"""

from __future__ import annotations

import os

from oci_tools import bundle, fs
from oci_tools.layer import beside
from oci_tools.errors import Error
from oci_tools.layer import owner as owners
from oci_tools.layer.owner import Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.bundle import Image
    from oci_tools.layer.limits import Limits

    Maps = dict[str, list[dict[str, int]]]
    Warn = Callable[[str], None]


class Mapped(Owner):
    """Ownership as layers say it, seen from inside such a namespace."""

    trusted = False

    def __init__(self, maps: Maps, warn: Callable[[str], None] | None = None) -> None:
        super().__init__(warn)
        self.key = owners.key(maps)
        self._most = tuple(sum(entry["size"] for entry in maps[f"{kind}Mappings"]) for kind in ("uid", "gid"))

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        if uid >= self._most[0] or gid >= self._most[1]:
            what = f"there are {self._most[0]} user and {self._most[1]} group ids"
            raise Error("cannot give a file to", f"{uid}:{gid}", what, "--single-id, or more in /etc/subuid")
        return uid, gid


def maps_of_user() -> Maps | None:
    """The mapping of this user; None for root, and where there are no subordinate ids or nobody to grant them."""
    if os.geteuid() == 0:
        return None
    from oci_tools.runtime import ids

    maps = ids.of_user()
    if any(len(entries) == 1 for entries in maps.values()):
        return None
    return {"uidMappings": maps["uid_map"], "gidMappings": maps["gid_map"]}


# -- bundles --------------------------------------------------------------------------------------


def unpack(
    image: Image, path: str, limits: Limits, warn: Warn, maps: Maps | None, wait: Callable[[], None] | None = None
) -> str:
    """`bundle.unpack` by the ownership that these maps, or without them this process, can give.

    `wait` is called when all is unpacked and the bundle not yet finished.
    """
    specify = _specify(maps, wait)
    if maps is None:
        return bundle.unpack(image, path, owners.for_process(warn), limits, specify)

    def work() -> str:
        return bundle.unpack(image, path, Mapped(maps, warn), limits, specify, maps)

    return str(inside(maps, work))


def overlay(image: Image, path: str, limits: Limits, warn: Warn, maps: Maps | None) -> str:
    """`bundle.overlay` likewise."""
    if maps is None:
        return bundle.overlay(image, path, lambda: owners.for_process(warn), limits)

    def work() -> str:
        return bundle.overlay(image, path, lambda: Mapped(maps, warn), limits, _specify(maps), owners.key(maps), maps)

    return str(inside(maps, work))


def _specify(maps: Maps | None, wait: Callable[[], None] | None = None) -> bundle.Specify:
    def specify(image: Image, rootfs: Any) -> dict[str, Any]:
        if wait:
            wait()
        return bundle.specification(image, rootfs, maps)

    return specify


def maps_in(known: dict[str, Any]) -> Maps | None:
    """The mapping under which a bundle was made, by its record; None for one of no mapping."""
    if not str(known.get("owner", "")).startswith("ids-"):
        return None
    try:
        found: Maps = {name: known[name] for name in ("uidMappings", "gidMappings")}
        for entries in found.values():
            for entry in entries:
                if not all(isinstance(entry[name], int) for name in ("containerID", "hostID", "size")):
                    raise TypeError
        return found
    except (KeyError, TypeError):
        raise Error("cannot use bundle", known.get("image"), "its record has no id mappings") from None


def as_maker(known: dict[str, Any], work: Callable[[], Any]) -> Any:
    """The result of `work` with the files of a bundle, by its record, done as they were made."""
    if str(known.get("owner", "")).startswith("single"):
        return beside.seeing(work)
    return inside(maps_in(known), work)


def inside(maps: Maps | None, work: Callable[[], Any]) -> Any:
    """The result, plain values, of `work` done as root of a new user namespace; without maps done here."""
    if maps is None:
        return work()
    import marshal

    asked, ask = os.pipe()
    granted, grant = os.pipe()
    result, say = os.pipe()
    place = {"OCI_ROOT": fs.root(), "OCI_RUN": fs.run()}  # root's are others
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (asked, grant, result):
                os.close(fd)
            os.environ.update(place)
            fs.write_all(say, marshal.dumps(_work(ask, granted, work)))
        finally:
            os._exit(0)
    for fd in (ask, granted, say):
        os.close(fd)
    failure: Error | None = None
    try:
        if os.read(asked, 1):
            from oci_tools.runtime import namespaces

            try:
                namespaces.map_ids(pid, {"uid_map": maps["uidMappings"], "gid_map": maps["gidMappings"]})
                os.write(grant, b"1")
            except Error as error:
                failure = error
        os.close(grant)
        with open(result, "rb", closefd=False) as file:
            data = file.read()
    finally:
        for fd in (asked, result):
            os.close(fd)
        os.waitpid(pid, 0)
    if failure:
        raise failure
    return beside.result(marshal.loads(data) if data else ("died",))


def _work(ask: int, granted: int, work: Callable[[], Any]) -> tuple[Any, ...]:
    """In the new process: what there is to tell."""

    def as_root() -> Any:
        from oci_tools.runtime import namespaces

        try:
            namespaces.unshare_user()
            os.write(ask, b"1")
            if not os.read(granted, 1):
                raise Error("cannot use a user namespace", None, "its ids were not mapped")
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        except OSError as error:
            raise Error("cannot use a user namespace", None, error) from None
        return work()

    return beside.tell(as_root)
