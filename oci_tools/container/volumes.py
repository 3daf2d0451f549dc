"""The volumes of a container: asked for by name, or unnamed ones of its own; made, filled, mounted, let go.

    asked for    mounts.py makes a `Want` of the words, and a mount whose source is where the volume will be
    made         with the container, under the lock that keeps them from being pruned until config.json names them
    filled       with what the image has at that place, if the volume is empty (moby, populateVolume)
    mounted      those with a file system of their own: by each start, until the last one's end
    let go       unnamed ones go with the container that they were made for
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools import volume as volumes
from oci_tools.container import shared
from oci_tools.errors import Busy, Error
from oci_tools.volume import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.place import Place

    Spec = dict[str, Any]


class Want:
    """A volume that a container is to have at `destination`, of which it sees `subpath`."""

    def __init__(self, name: str | None, destination: str) -> None:
        self.anonymous = not name
        self.name = volumes.check(name) if name else volumes.unnamed()
        self.destination = destination
        self.subpath = ""
        self.nocopy = self.owned = False
        self.options: dict[str, str] = {}
        self.labels: dict[str, str] = {}

    def place(self) -> str:
        """Where its files will be, if no option says otherwise."""
        return f"{volumes.directory()}/{self.name}/_data"

    def source(self, data: str) -> str:
        """What is mounted; the part behind `/./` is looked for beneath the part before it (runtime/mounts.py)."""
        return f"{data}/./{self.subpath}" if self.subpath else data


def make(wants: list[Want], spec: Spec, held: Place) -> None:
    """Have these volumes, and let the specification mount them; `held` keeps them from being removed from now on."""
    held.volumes = lock = volumes.lock(shared=all(volumes.find(want.name) for want in wants))
    lock.__enter__()
    others = os.geteuid() == 0 and any(each["type"] == "user" for each in spec["linux"].get("namespaces", ()))
    inside = shared.is_inside()
    for want in wants:
        labels = {**want.labels, **({"com.docker.volume.anonymous": ""} if want.anonymous else {})}
        volume = volumes.have(want.name, want.options, labels, want.anonymous)
        if inside:
            volume.mark()
        for mount in spec["mounts"]:
            if mount["destination"] == want.destination:
                _show(mount, want, volume)
                if others and mount["type"] == "bind":
                    _as_inside(mount, inside)
    said = {want.destination: want.name for want in wants}
    if said:
        spec.setdefault("annotations", {})[users.ANNOTATION] = _json(said)
    own = [want.name for want in wants if want.anonymous]
    mounted = sorted(name for name in users.named_in(spec) if _is_mounted(volumes.load(name)))
    more = {**({"volumes": own} if own else {}), **({"mounted": mounted} if mounted else {})}
    if more:
        held.say(more)


def _as_inside(mount: dict[str, Any], inside: bool) -> None:
    """Its root's files are root's on disk, too; in the shared namespaces, its own if nobody has made any yet."""
    if not inside:
        mount["options"].append("idmap")
    elif os.stat(mount["source"]).st_uid == 0 and not os.listdir(mount["source"]):
        from oci_tools.container import nomap

        nomap.give(mount["source"])


def _json(value: object) -> str:
    from oci_tools import document

    return document.dumps(value).decode()


def _is_mounted(volume: volumes.Volume) -> bool:
    from oci_tools.volume import mounting

    return os.geteuid() == 0 and mounting.needs(volume)


def _show(mount: dict[str, Any], want: Want, volume: volumes.Volume) -> None:
    """Let a mount show a volume that there is now."""
    made = volume.backing
    mount["source"] = want.source(volume.data)
    if volume.readonly and "ro" not in mount["options"]:
        mount["options"] += ["ro", "rro"]
    if made.kind == "mount" and os.geteuid() != 0:
        if made.type != "tmpfs" or want.subpath:
            raise Error("cannot mount volume", volume.name, "only root can")
        kept = [option for option in mount["options"] if option in ("ro", "nosuid", "nodev", "noexec")]
        mount.update(type="tmpfs", source="tmpfs", options=[*kept, *made.words])


def fill(wants: list[Want], bundle: str, spec: Spec) -> None:
    """Copy what the image has where an empty volume will be into it: files, links, owners and modes.

    Then those that are asked for so become the container's user's.
    """
    _fill_empty(wants, bundle)
    owned = [want.destination for want in wants if want.owned]
    if owned:
        from oci_tools.container import owning

        owning.give(owned, spec)


def _fill_empty(wants: list[Want], bundle: str) -> None:
    empty = [want for want in wants if not want.nocopy and _takes_copy(volumes.load(want.name), want.subpath)]
    if not empty:
        return
    if os.geteuid() == 0:
        return _fill(empty, bundle)
    # A plain user sees the image's files only in a user namespace, which one does not leave.
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _fill(empty, bundle)
        except Error as error:
            os.write(writer, str(error).encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    if said:
        raise Error(said.decode("utf-8", "replace"))


def _takes_copy(volume: volumes.Volume, subpath: str) -> bool:
    """Whether it may be empty, or the part of it that is seen."""
    if volume.readonly or volume.backing.kind == "mount":
        return False
    try:
        return bool(subpath) or _is_mounted(volume) or not os.listdir(volume.data)
    except OSError as error:
        raise Error("cannot use volume", volume.name, error) from None


def _fill(wants: list[Want], bundle: str) -> None:
    from oci_tools.container.rootfs import Rootfs
    from oci_tools.runtime import source
    from oci_tools.volume.stream import Opened

    opened = [(want, Opened(volumes.load(want.name))) for want in wants]
    fds = [(want, one.__enter__(), one) for want, one in opened]  # before the user namespace is entered
    try:
        with Rootfs("", bundle, mounts=False) as rootfs:
            for want, top, _ in fds:
                try:
                    target = source.opened(top, want.subpath or ".", os.O_RDONLY | os.O_DIRECTORY)
                except OSError:
                    continue  # the start says so
                try:
                    _copy_into(rootfs.fd, want.destination, target)
                finally:
                    os.close(target)
    finally:
        for _, _, one in fds:
            one.__exit__()


def _copy_into(rootfd: int, path: str, target: int) -> None:
    """What an image has at a path into an empty directory; nothing, if there is none, or a file."""
    from oci_tools.volume import copy

    if os.listdir(target):
        return
    try:
        there = fs.open_beneath(rootfd, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        copy.tree(there, target)
    finally:
        os.close(there)


def begin(held: Place) -> None:
    """Mount what has to be, for a start."""
    if held.policy.get("mounted"):
        from oci_tools.volume import mounting

        mounting.ready(held.policy["mounted"])


def end(held: Place) -> None:
    """Unmount what nobody uses any more."""
    if held.policy.get("mounted"):
        from oci_tools.volume import mounting

        mounting.release(held.policy["mounted"], held.id)


def drop(names: list[str]) -> None:
    """Remove the unnamed volumes of a container that is gone, save what another uses too."""
    from oci_tools.volume import change

    for name in names:
        try:
            change.remove(name)
        except (Error, Busy):
            continue  # gone already, or another has it
