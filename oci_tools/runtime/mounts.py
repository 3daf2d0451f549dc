"""The container's mounts: planned as data from config.json, then made by descriptors.

runtime-spec, "Mounts" and "Linux: rootfs mount propagation".  `plan` is pure; `Tree` acts,
on the container side, in its own mount namespace, before pivot_root.  Every target is
reached beneath the root by openat2 and every mount attached to a descriptor, so no name
is resolved twice and no link of the image leads out (CVE-2021-30465, CVE-2024-45310).
Masks and read-only paths are made the same way; a mask of a file is the host's /dev/null,
verified to be it (CVE-2025-31133).
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import libc, mount
from oci_tools.linux.mount import AT_EMPTY_PATH, AT_RECURSIVE
from oci_tools.runtime import copyup, pivot, targets
from oci_tools.runtime import source as sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# option -> (bits to clear, bits to set) of mount_setattr(2); with "r" before it: recursive
_ATIME = mount.MOUNT_ATTR__ATIME
ATTRIBUTES = {
    "ro": (0, mount.MOUNT_ATTR_RDONLY),
    "rw": (mount.MOUNT_ATTR_RDONLY, 0),
    "nosuid": (0, mount.MOUNT_ATTR_NOSUID),
    "suid": (mount.MOUNT_ATTR_NOSUID, 0),
    "nodev": (0, mount.MOUNT_ATTR_NODEV),
    "dev": (mount.MOUNT_ATTR_NODEV, 0),
    "noexec": (0, mount.MOUNT_ATTR_NOEXEC),
    "exec": (mount.MOUNT_ATTR_NOEXEC, 0),
    "nodiratime": (0, mount.MOUNT_ATTR_NODIRATIME),
    "diratime": (mount.MOUNT_ATTR_NODIRATIME, 0),
    "nosymfollow": (0, mount.MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "noatime": (_ATIME, mount.MOUNT_ATTR_NOATIME),
    "atime": (_ATIME, mount.MOUNT_ATTR_RELATIME),
    "relatime": (_ATIME, mount.MOUNT_ATTR_RELATIME),
    "norelatime": (_ATIME, mount.MOUNT_ATTR_STRICTATIME),
    "strictatime": (_ATIME, mount.MOUNT_ATTR_STRICTATIME),
    "nostrictatime": (_ATIME, mount.MOUNT_ATTR_RELATIME),
}
PROPAGATION = {
    "private": (mount.MS_PRIVATE, 0),
    "slave": (mount.MS_SLAVE, 0),
    "shared": (mount.MS_SHARED, 0),
    "unbindable": (mount.MS_UNBINDABLE, 0),
    "rprivate": (mount.MS_PRIVATE, AT_RECURSIVE),
    "rslave": (mount.MS_SLAVE, AT_RECURSIVE),
    "rshared": (mount.MS_SHARED, AT_RECURSIVE),
    "runbindable": (mount.MS_UNBINDABLE, AT_RECURSIVE),
}
# Flags of a file system that say what is so anyway, or no longer mean anything; a bind has none at all.
_IDLE = {
    "defaults", "async", "loud", "silent", "mand", "nomand", "nolazytime", "iversion", "noiversion", "remount",
    "copy-symlink",
}  # fmt: skip
_FILE_SYSTEM = {"sync", "dirsync", "lazytime"}
# What may be mounted on in /proc without hiding from us what a later step trusts.
_OVER_PROC = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
    "/proc/loadavg", "/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}  # fmt: skip
_PROC_MAGIC = 0x9FA0
_FSCONFIG_LONGEST = 255  # bytes of a value that fsconfig(2) takes


class Plan:
    """One mount to make: what, where, with which attributes."""

    def __init__(self, entry: dict[str, Any], bundle: str = "/") -> None:
        self.destination: str = normal(entry["destination"])
        self.source: str = entry.get("source") or "none"
        self.type: str = entry.get("type") or ""
        self.bind = False
        self.recursive = False
        self.set = self.clear = self.rset = self.rclear = 0
        self.idmap: int | None = None  # 0, or AT_RECURSIVE: show other owners, by the maps below
        self.maps = {"uid_map": entry.get("uidMappings") or [], "gid_map": entry.get("gidMappings") or []}
        self.propagation: list[tuple[int, int]] = []
        self.copy_up = False
        self.subdirectory = ""  # what of a new file system is mounted, by mount(8)'s X-mount.subdir
        self.follow_source = self.follow_target = True
        self.link = ""  # what is made instead: a symbolic link like that which `source` is
        self.data: list[str] = []
        for option in entry.get("options") or ():
            self._take(option)
        if self.maps["uid_map"] and self.idmap is None:
            self.idmap = 0  # mappings alone ask for it too (runtime-spec, "uidMappings")
        if self.type == "bind" and not self.bind:
            self.bind = True  # what docker's and podman's users write; the options would decide otherwise
        if self.bind:
            unknown = [option for option in self.data if option not in _FILE_SYSTEM and "=" not in option]
            if unknown:
                raise Error(f"config.json: mounts: '{unknown[0]}' is no option of a bind on", self.destination)
            self.source = os.path.join(bundle, self.source)
            if "copy-symlink" in (entry.get("options") or ()) and os.path.islink(self.source):
                self.link = os.readlink(self.source)

    def _take(self, option: str) -> None:
        if option in ("bind", "rbind"):
            self.bind, self.recursive = True, option == "rbind"
        elif option in ATTRIBUTES:
            clear, bits = ATTRIBUTES[option]
            self.clear, self.set = self.clear | clear | bits, self.set & ~clear | bits
        elif option in PROPAGATION:
            self.propagation.append(PROPAGATION[option])
        elif option[:1] == "r" and option[1:] in ATTRIBUTES:
            clear, bits = ATTRIBUTES[option[1:]]
            self.rclear, self.rset = self.rclear | clear | bits, self.rset & ~clear | bits
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option.startswith("X-mount.subdir="):
            self.subdirectory = option.partition("=")[2]
        elif option == "src-nofollow":
            self.follow_source = False
        elif option == "dest-nofollow":
            self.follow_target = False
        elif option in ("idmap", "ridmap"):
            self.idmap = AT_RECURSIVE if option == "ridmap" else 0
        elif option not in _IDLE:
            self.data.append(option)

    def ignored(self) -> list[str]:
        """What a file system is told with its mount, and a bind cannot tell the one that it shows: crun, and runc until
        1.2, say nothing; a word without a value may be a misspelt attribute (`readonly`), and is an error."""
        return [option for option in self.data if "=" in option] if self.bind else []

    def __str__(self) -> str:
        kind = ("rbind " if self.recursive else "bind ") if self.bind else f"{self.type} "
        return f"mount {kind}{self.source} on {self.destination}"


def normal(path: str) -> str:
    """A path of the container, absolute and without `.`, `..` or doubled slashes."""
    return os.path.normpath("/" + path.lstrip("/"))


def plan(spec: dict[str, Any], bundle: str) -> list[Plan]:
    """The mounts of a config.json, in the order in which they are made; sources of binds are beneath its bundle."""
    return [Plan(entry, bundle) for entry in spec.get("mounts") or ()]


def reach(path: str) -> int:
    """Where the root will be: as long as we are the user who can reach it, which mapped root may not be."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1  # what is wrong is said by who mounts there


class Tree:
    """The root of the container while it is being set up, held by a descriptor."""

    def __init__(
        self, rootfs: str, spec: dict[str, Any], tree: int = -1, below: int = -1, isolated: bool = True
    ) -> None:
        """Attach the root: a clone of `rootfs`, or the detached mount `tree`, over `rootfs`, which `below` is.

        isolated  this is in a mount namespace of its own, in which all else may be changed
        """
        self.isolated = isolated
        linux = spec.get("linux") or {}
        self.propagation = linux.get("rootfsPropagation") or "rslave"
        if self.propagation not in PROPAGATION:
            raise Error("config.json: linux.rootfsPropagation: unknown value", self.propagation)
        # Ours must not leak out: the wanted kind only at the very end.
        if not isolated:
            pass
        elif PROPAGATION[self.propagation][0] == mount.MS_SHARED:
            pivot.make_private(os.path.realpath(rootfs))  # alone: what is bound stays a peer of the host's
        else:
            outside = mount.MS_PRIVATE if self.propagation.endswith("private") else mount.MS_SLAVE
            pivot.spread(outside | mount.MS_REC)
        try:
            if below < 0:
                below = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if tree < 0:
                tree = mount.open_tree(below, "", mount.OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)
            mount.mount_setattr(tree, "", AT_EMPTY_PATH, 0, 0, mount.MS_PRIVATE)
            attach(tree, below)
            os.close(below)
        except OSError as error:
            raise Error("cannot mount rootfs", rootfs, error) from None
        self.rootfs = rootfs
        self.fd = tree
        self.label: str = linux.get("mountLabel") or ""  # of SELinux, for what is mounted anew
        self.late: list[int] = []  # mounts that become read-only at the end

    def make(self, step: Plan) -> None:
        """Make one planned mount."""
        try:
            if step.bind:
                self._bind(step)
            elif step.type in ("cgroup", "cgroup2"):
                raise AssertionError("cgroup mounts are made by cgroup.py")
            else:
                self._new(step)
        except OSError as error:
            raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None

    def target(self, path: str, directory: bool = True) -> int:
        """A descriptor of `path` beneath the root, made with its parents where it is missing."""
        try:
            found = fs.open_beneath(self.fd, path, os.O_PATH)
        except FileNotFoundError:
            targets.create(self.fd, path, directory)
            found = fs.open_beneath(self.fd, path, os.O_PATH)
        return found

    def place(self, mounted: int, path: str, directory: bool = True, follow: bool = True) -> None:
        """Attach a detached mount at `path`, which may be a link itself if not to `follow`; close the descriptor."""
        target = self.target(path, directory) if follow else self._target_itself(path, directory)
        if _filesystem(target) == _PROC_MAGIC and path != "/proc" and path not in _OVER_PROC:
            raise Error("cannot mount over", path, "it is inside /proc")
        if path == "/proc" and _filesystem(mounted) != _PROC_MAGIC:
            raise Error("cannot mount over", path, "only a proc file system may be there")
        try:
            attach(mounted, target)
            if path == "/":  # what comes next goes there, and it is the root in the end
                self.fd, mounted = mounted, self.fd
        finally:
            os.close(target)
            os.close(mounted)

    def _target_itself(self, path: str, directory: bool) -> int:
        """The same where the last component is not followed if it is a link."""
        parent = self.target(os.path.dirname(path))
        try:
            return targets.open_or_make(parent, os.path.basename(path) or ".", directory)
        finally:
            os.close(parent)

    def _bind(self, step: Plan) -> None:
        if step.link:
            return targets.make_link(self.target(os.path.dirname(step.destination)), step.destination, step.link)
        self.place_bind(step, sources.clone(step.source, step.recursive, step.follow_source))

    def place_bind(self, step: Plan, tree: int) -> None:
        """Attach a cloned tree with the attributes of `step`."""
        if step.rset or step.rclear:
            mount.mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, step.rset, step.rclear)
        if step.set or step.clear:
            mount.mount_setattr(tree, "", AT_EMPTY_PATH, step.set, step.clear)
        keep = os.dup(tree)
        self.place(tree, step.destination, stat.S_ISDIR(os.fstat(keep).st_mode), step.follow_target)
        for bits, recursive in step.propagation or [(mount.MS_PRIVATE, AT_RECURSIVE)]:
            mount.mount_setattr(keep, "", AT_EMPTY_PATH | recursive, 0, 0, bits)
        os.close(keep)

    def _new(self, step: Plan) -> None:
        data = list(step.data)
        existed = -1
        if step.type == "tmpfs":
            existed = self._existing(step.destination)
            if existed >= 0 and not any(option.startswith("mode=") for option in data):
                data.append(f"mode={stat.S_IMODE(os.fstat(existed).st_mode):o}")
        if self.label and step.type not in ("proc", "sysfs"):  # whose files have labels of their own
            data.append(f"context={self.label}")
        if step.type in ("proc", "sysfs"):
            self._real_directory(step.destination)
        attributes = step.set | step.rset
        # What is mounted beneath, and the devices of /dev, come later: it is read-only only then.
        late = attributes & mount.MOUNT_ATTR_RDONLY if step.type == "tmpfs" else 0
        mounted = new(step.type, step.source, data, attributes & ~late)
        if step.copy_up and existed >= 0:
            copyup.copy(existed, mounted)
        if existed >= 0:
            os.close(existed)
        keep = os.dup(mounted)
        self.place(mounted, step.destination, follow=step.follow_target)
        if step.subdirectory:  # over the whole, since before Linux 6.15 nothing can be cloned of what is nowhere
            whole, keep = keep, sources.beneath(keep, step.subdirectory)
            attach(keep, whole)
            os.close(whole)
        for bits, recursive in step.propagation:
            mount.mount_setattr(keep, "", AT_EMPTY_PATH | recursive, 0, 0, bits)
        if late:
            self.late.append(keep)
        else:
            os.close(keep)

    def _existing(self, path: str) -> int:
        """A descriptor of a directory that is there already; else -1, and nothing is made."""
        try:
            return fs.open_beneath(self.fd, path, os.O_PATH)
        except FileNotFoundError:
            return -1

    def _real_directory(self, path: str) -> None:
        """Refuse a link where /proc or /sys goes: what trusts them later must find them there."""
        if path not in ("/proc", "/sys"):
            return
        try:
            found = os.stat(path.lstrip("/"), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            raise Error("cannot mount on", path, "must be mounted on ordinary directory")

    def read_only(self, path: str) -> None:
        """Make what is at `path` read-only, if it is there."""
        try:
            found = fs.open_beneath(self.fd, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            tree = mount.open_tree(found, "", mount.OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)
            mount.mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, mount.MOUNT_ATTR_RDONLY)
            attach(tree, found)
            os.close(tree)
        except OSError as error:
            raise Error("cannot make read-only", path, error) from None
        finally:
            os.close(found)

    def mask(self, paths: list[str]) -> None:
        """Hide each path that exists: directories under one empty tmpfs, files under /dev/null."""
        empty = -1
        for path in paths:
            try:
                found = fs.open_beneath(self.fd, path, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    if empty < 0:
                        data = ["nr_blocks=1", "nr_inodes=1", *([f"context={self.label}"] if self.label else ())]
                        cover = empty = new("tmpfs", "tmpfs", data, mount.MOUNT_ATTR_RDONLY)
                    else:
                        cover = mount.open_tree(empty, "", mount.OPEN_TREE_CLONE | AT_EMPTY_PATH)
                else:
                    cover = null_device()
                attach(cover, found)
                if cover != empty:
                    os.close(cover)
            except OSError as error:
                raise Error("cannot mask", path, error) from None
            finally:
                os.close(found)
        if empty >= 0:
            os.close(empty)

    def finish(self, read_only: bool) -> None:
        """The last attributes of the root itself."""
        try:
            for fd in self.late:
                mount.mount_setattr(fd, "", AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY)
                os.close(fd)
            if read_only:
                mount.mount_setattr(self.fd, "", AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY)
        except OSError as error:
            raise Error("cannot make the rootfs read-only", self.rootfs, error) from None

    def pivot(self, move: bool = False) -> None:
        """Make it the root of this process and let go of the host's tree; `move`: without pivot_root(2)."""
        if self.isolated:
            pivot.pivot(self.fd, self.rootfs, move)
        else:
            pivot.enter(self.fd)
        bits, recursive = PROPAGATION[self.propagation]
        if bits in (mount.MS_SHARED, mount.MS_UNBINDABLE):
            mount.mount(None, "/", None, bits | (mount.MS_REC if recursive else 0))
        os.close(self.fd)


def attach(mounted: int, target: int) -> None:
    """move_mount(2) from descriptor to descriptor."""
    mount.move_mount(mounted, "", target, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)


def new(fstype: str, source: str, data: list[str], attributes: int = 0) -> int:
    """A detached mount of a new file system."""
    if fstype == "overlay" and any(len(os.fsencode(option)) > _FSCONFIG_LONGEST for option in data):
        from oci_tools.runtime import overlay

        data = overlay.one_by_one(data)
    if any(len(os.fsencode(option)) > _FSCONFIG_LONGEST for option in data):
        raise OSError(7, "mount option too long", fstype)
    context = mount.fsopen(fstype)
    try:
        if source and source != "none":
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", source)
        for option in data:
            key, equals, value = option.partition("=")
            command = mount.FSCONFIG_SET_STRING if equals else mount.FSCONFIG_SET_FLAG
            mount.fsconfig(context, command, key, value if equals else None)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
        return mount.fsmount(context, attributes)
    finally:
        os.close(context)


def null_device() -> int:
    """A detached mount of the host's /dev/null, verified to be that device."""
    fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
            raise Error("cannot use", "/dev/null", "it is not the null device")
        return mount.open_tree(fd, "", mount.OPEN_TREE_CLONE | AT_EMPTY_PATH)
    finally:
        os.close(fd)


def _filesystem(fd: int) -> int:
    """The magic number of the file system that a descriptor is on."""
    held = libc.buffer(120)
    libc.call("fstatfs", fd, libc.address(held))
    return int.from_bytes(bytes(held)[:8], "little")
