"""A container without a mount namespace of its own: a chroot, whose mounts are made among the host's.

runtime-spec, "Namespaces": of a kind that is not listed the container has the runtime's.  All that is mounted
for it hangs from one mount over its root file system, the state's "mount", which goes with the container.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import pivot


def clone(rootfs: str) -> int:
    """A detached mount of `rootfs` and all that is mounted in it."""
    try:
        flags = mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE
        return mount.open_tree(mount.AT_FDCWD, rootfs, flags)
    except OSError as error:
        raise Error("cannot mount rootfs", rootfs, error) from None


def number(fd: int) -> int:
    """The id of the mount on which a descriptor is."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def remove(rootfs: str, wanted: int) -> None:
    """Unmount the mount with that id, and what hangs from it, if it is still over `rootfs`: ids are given again."""
    place = os.path.realpath(rootfs)
    there = [int(fields[0]) for fields in pivot.mounted() if pivot.mount_point(fields) == place]
    if wanted not in there:
        return
    if there[-1] != wanted:
        raise Error("cannot unmount", place, "something else is mounted over it", "remove that first")
    try:
        mount.umount2(place, mount.MNT_DETACH)
    except OSError as error:
        raise Error("cannot unmount", place, error) from None


def enter(pid: int, pidfd: int, more: int = 0) -> str:
    """Join the mount namespace of a process, if it is not ours; where its root is from then on."""
    if os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt"):
        return f"/proc/{pid}/root"
    process.setns(pidfd, process.CLONE_NEWNS | more)
    return "/"
