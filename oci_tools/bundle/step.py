"""The root of one step of a build: layers of the store below, and above them a directory that becomes the next.

    with Root(path, store, chain) as root:
        fd = root.mount()                 to look at it, or to put files in; or
        root.specify(config, ...)         a config.json, and the step is run: `oci-run run -b PATH ID`
        made = root.pack(layout, ...)     what changed, as a layer's blob
        root.keep(made)                   and the directory itself as that layer in the store: no second copy

The directory is overlayfs's upper one, so it has what a layer of the store has.  What is only there because
something was mounted on it, or because overlayfs copied a directory up, is taken out of it; a directory that
hides all that is below gets whiteouts for that instead, as the blob has them.
"""

from __future__ import annotations

import os
import stat

from oci_tools import bundle, document, fs
from oci_tools.errors import Error
from oci_tools.layer import diff, lookup, upper
from oci_tools.layer import store as stores
from oci_tools.layer.planned import Plan
from oci_tools.layer.walk import order, walk
from oci_tools.layer.write import Archive
from oci_tools.names import clean
from oci_tools.runtime import apart as apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

_STAY = {b"dev", b"proc", b"sys"}  # an image in which something runs has them, as BuildKit makes it
_APT_CONFIG = "/dev/apt.conf"
_OPAQUES = tuple(stores.OPAQUE.values())


class Packed:
    """A layer that was packed: its blob's descriptor, its diff id, and what it changes."""

    def __init__(self, descriptor: Descriptor, diff_id: str, planned: Plan) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.planned = planned


class Root:
    """The root of one step, in a directory of its own that is gone after the `with` block."""

    def __init__(self, path: str, store: stores.Store, chain: stores.Chain) -> None:
        self.path = path
        self._store = store
        self._chain = chain
        self._places: set[bytes] = set()
        self._mounted = -1
        self.able = {"proc", "hostname"}  # what can be done here, of what `apart.abilities` tells

    def __enter__(self) -> Root:
        try:
            os.mkdir(self.path, 0o700)
            stores.make_upper(f"{self.path}/upper", self._chain, roomy=True)
            for name in ("work", "rootfs"):
                os.mkdir(f"{self.path}/{name}", 0o700)
        except OSError as error:
            raise Error("cannot make", self.path, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()
        fs.remove_tree(self.path)

    def trees(self) -> list[str]:
        """The layers' trees, the top one first."""
        return [self._store.tree(digest) for digest in self._chain.lower]

    def read(self) -> Callable[[str], bytes | None]:
        """Reads small files of the root, as they are before the step."""
        return lookup.reader(self.trees(), bundle.PASSWD_MAX)

    def owner(self, text: str) -> tuple[int, int]:
        """The ids of USER[:GROUP], by name or number; a number without a group is that of the group too."""
        from oci_tools.runtime import user

        name, colon, group = text.partition(":")
        if not name and not group:
            raise Error("invalid owner", text)
        uid = gid = 0
        if name:
            found = user.resolve(name, self.read())
            uid = found["uid"]
            gid = uid if user.number(name) else found["gid"]
        if group:
            gid = user.group(group, self.read())
        return uid, gid

    def home(self, uid: int) -> str:
        from oci_tools.runtime import user

        return user.home(uid, self.read())

    def file(self, name: str, text: str, destination: str) -> dict[str, Any]:
        """A file of the step's own as an entry of config.json's mounts."""
        path = f"{self.path}/{name}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, 0o644)
        return {"destination": destination, "type": "bind", "source": path, "options": ["bind", "rprivate"]}

    # -- looking, and running ---------------------------------------------------------------

    def _annotation(self) -> dict[str, Any]:
        """What the root is made of."""
        return {"lower": self._chain.lower, "upper": "upper", "work": "work", "store": self._store.trees}

    def _annotations(self) -> dict[str, str]:
        return {bundle.OVERLAY: document.dumps(self._annotation()).decode()}

    def mount(self) -> int:
        """A descriptor of the root's mount, which nobody else sees; good until `unmount`."""
        if self._mounted < 0:
            from oci_tools.runtime import overlay

            self._mounted = overlay.make({"annotations": self._annotations()}, self.path)
        return self._mounted

    def unmount(self) -> None:
        if self._mounted >= 0:
            os.close(self._mounted)
            self._mounted = -1

    def specify(
        self,
        config: dict[str, Any],
        hostname: str,
        mounts: list[dict[str, Any]],
        network: bool,
        insecure: bool = False,
        more: Callable[[dict[str, Any]], None] | None = None,
        hidden: str | None = None,
    ) -> None:
        """Write config.json for a process that an image's configuration describes.

        mounts    besides the usual ones
        network   whether it has the host's
        insecure  all that root of the host may do
        more      changes the specification last
        hidden    where the file really is, if it tells a secret
        """
        from oci_tools.runtime import default_seccomp, spec

        maps = _identity()
        made = spec.from_image(config, self.read(), spec.default(rootless=maps is not None, maps=maps))
        made["hostname"] = hostname
        made["process"]["noNewPrivileges"] = False
        linux = made["linux"]
        if network:
            linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
        if insecure:
            _let_all(made)
        else:
            able = made["process"].get("capabilities", {}).get("bounding", [])
            linux["seccomp"] = default_seccomp.profile(able)
        if "proc" not in self.able:
            _show_proc(made)
        if "hostname" not in self.able:
            del made["hostname"]
        if self._store.key.startswith("single"):
            self._pretend(made, mounts)
        taken = {mount["destination"] for mount in mounts}
        made["mounts"] = [each for each in made["mounts"] if each["destination"] not in taken] + mounts
        if more:
            more(made)
        for mount in made["mounts"]:
            parts = clean(os.fsencode(mount["destination"]))
            self._places.update(b"/".join(parts[:end]) for end in range(1, len(parts) + 1))
        self._places -= _STAY
        made["annotations"] = self._annotations()
        if hidden:
            os.symlink(hidden, f"{self.path}/config.json")
        fs.write(hidden or f"{self.path}/config.json", document.dumps(made), 0o600, sync=False)

    def place(self) -> None:
        """Have what the step needs in its root, right before it runs: nothing, where all of it is mounted."""

    def take_away(self) -> None:
        """Undo `place`, when it has run."""

    def _pretend(self, made: dict[str, Any], mounts: list[dict[str, Any]]) -> None:
        """Let a process be root that can be nobody else; apt would check whether it became somebody else."""
        from oci_tools.runtime import pretence

        made["process"]["user"] = {"uid": 0, "gid": 0}
        if "seccomp" in made["linux"]:
            made["linux"]["seccomp"] = pretence.of_root(made["linux"]["seccomp"])
        if self.has("etc/apt/apt.conf.d"):  # which may itself be mounted, and not to be written
            mounts.append(self.file("apt.conf", 'APT::Sandbox::User "root";\n', _APT_CONFIG))
            if not any(entry.startswith("APT_CONFIG=") for entry in made["process"]["env"]):
                made["process"]["env"].append(f"APT_CONFIG={_APT_CONFIG}")

    def has(self, path: str) -> bool:
        """Whether there is something at a path before the step."""
        with lookup.Stack(self.trees()) as below:
            return below.look(os.fsencode(path)) is not None

    # -- what it made --------------------------------------------------------------------------

    def pack(
        self, layout: Layout, media_type: str, compression: str, level: int | None, epoch: int | None,
        warn: Callable[[str], None] | None = None,
    ) -> Packed | None:  # fmt: skip
        """Write what changed as a layer into a layout; None if nothing did.  What was mounted is no more."""
        self.unmount()
        fd = os.open(self._tree(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            planned = Plan(self._changes(fd))
            if not planned:
                return None
            with layout.ingest() as ingest, Archive(ingest, compression, level) as archive:
                packing = diff.Packing(archive, epoch, self._store.key.startswith("single"), warn)
                packing.planned(fd, planned)
                archive.close()
                descriptor = ingest.commit(media_type)
            return Packed(descriptor, archive.diff_id, planned)
        finally:
            os.close(fd)

    def _tree(self) -> str:
        """The directory in which changes are."""
        return f"{self.path}/upper"

    def _changes(self, fd: int) -> Iterator[tuple[bytes, bool]]:
        return upper.compare(fd, self.trees(), self._chain, (), frozenset(self._places))

    def keep(self, packed: Packed) -> None:
        """Have the directory in the store as the layer that was packed from it."""
        self.unmount()
        with self._store.new(packed.diff_id) as fresh:
            if self._store.has(packed.diff_id):
                return
            said = _tidy(f"{self.path}/upper", packed.planned, not self._store.key)
            os.rename(f"{self.path}/upper", fresh.place)
            fresh.say(said)
            fresh.commit()


def _identity() -> dict[str, Any] | None:
    """The maps of a step, in which every id stays what it is in our user namespace; None for the host's root."""
    from oci_tools.layer import owner

    maps = owner.own_maps()
    if maps is None or os.geteuid() != 0:
        return None
    return {name: [{**entry, "hostID": entry["containerID"]} for entry in entries] for name, entries in maps.items()}


def _show_proc(made: dict[str, Any]) -> None:
    """Have /proc and /sys as they are outside, masked there as well: where others mounted over parts of them, the
    kernel lets nobody in a user namespace have them whole."""
    for mount in made["mounts"]:
        if mount.get("type") in ("proc", "sysfs"):
            options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", *(["ro"] if mount["type"] == "sysfs" else [])]
            mount.update(type="bind", source=mount["destination"], options=options)
    for name in ("maskedPaths", "readonlyPaths"):
        made["linux"].pop(name, None)


def _let_all(made: dict[str, Any]) -> None:
    from oci_tools.runtime import spec

    spec.set_capabilities(made, apart.capabilities())
    for name in ("maskedPaths", "readonlyPaths", "seccomp"):
        made["linux"].pop(name, None)
    for mount in made["mounts"]:
        if mount.get("type") in ("sysfs", "cgroup", "proc"):
            mount["options"] = ["rw" if option == "ro" else option for option in mount.get("options", ())]
    if "resources" in made["linux"]:
        made["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]


def _tidy(path: str, planned: Plan, trusted: bool) -> dict[str, Any]:
    """Make an upper directory what the layer would be if it was unpacked; what to say beside it (marks.py)."""
    gone = planned.gone()
    hidden = set(gone)
    there = planned.there()
    next_one: bytes | None = b""
    surplus: list[bytes] = []
    opaque: list[bytes] = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for found in walk(fd):
            while next_one is not None and order(next_one) < order(found.path):
                next_one = next(there, None)
            if (found.path != next_one and found.path not in hidden) or stat.S_ISSOCK(found.seen.st_mode):
                if not surplus or not found.path.startswith(surplus[-1] + b"/"):
                    surplus.append(found.path)
            elif found.is_directory() and _is_opaque(b"/proc/self/fd/%d/%b" % (found.at, found.name)):
                opaque.append(found.path)
        for name in surplus:
            fs.remove_tree(os.fsdecode(os.fsencode(path) + b"/" + name))
        for name in gone:
            try:
                os.mknod(b"/proc/self/fd/%d/%b" % (fd, name), stat.S_IFCHR, 0)
            except FileExistsError:
                pass
        for name in opaque:
            os.removexattr(b"/proc/self/fd/%d/%b" % (fd, name), stores.OPAQUE[trusted])
    finally:
        os.close(fd)
    return {
        "implied": [], "hollow": [], "opaques": [],
        "hiding": [os.fsdecode(name) for name in {name.rpartition(b"/")[0] for name in gone}],
        "root": next(planned.there(), None) == b"", "links": False,
    }  # fmt: skip


def _is_opaque(path: bytes) -> bool:
    return any(name in _OPAQUES for name in os.listxattr(path, follow_symlinks=False))
