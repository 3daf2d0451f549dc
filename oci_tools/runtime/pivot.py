"""The last step of a container's mounts: its tree becomes the root, and the host's goes out of sight.

pivot_root(2); for a host that runs from its initial ramdisk, where that cannot be, a move over "/" and chroot(2).
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import mount


def make_private(path: str) -> None:
    """Let nothing that is mounted at `path` appear in other namespaces: on the mount that holds it."""
    while True:
        try:
            return mount.mount(None, path, None, mount.MS_PRIVATE)
        except OSError as error:
            if error.errno != 22 or path == "/":  # EINVAL: nothing is mounted right here
                raise Error("cannot make private", path, error) from None
        path = os.path.dirname(path)


def spread(how: int) -> None:
    """How all mounts that there are spread to other namespaces and back: MS_SLAVE, MS_PRIVATE, with MS_REC."""
    try:
        mount.mount(None, "/", None, how)
    except OSError as error:
        hint = "in a chroot, its directory must be mounted on itself" if error.errno == 22 else None  # EINVAL: no mount
        raise Error("cannot change the propagation of mounts below", "/", error, hint) from None


def pivot(root: int, rootfs: str, move: bool) -> None:
    """Make the tree of the descriptor `root`, mounted at `rootfs`, the root of this process; let go of the host's.

    pivot_root(".", ".") stacks the old root on the new one and needs no directory in the
    image; `move` (--no-pivot) moves the new one over / instead.
    """
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    if move:
        mount.mount(None, "/", None, mount.MS_PRIVATE)  # or the host would get our root over its own
        _remove_revealing(os.path.realpath(rootfs))
        os.fchdir(root)
        mount.mount(rootfs, "/", None, mount.MS_MOVE)
        os.chroot(".")
    else:
        mount.pivot_root(".", ".")
        # Nothing unmounted here may be unmounted on the host as well.  From within the old
        # root: "." would still mean the new one to mount(2), though not to umount2(2).
        os.fchdir(old)
        mount.mount(None, ".", None, mount.MS_SLAVE | mount.MS_REC)
        mount.umount2(".", mount.MNT_DETACH)
    os.close(old)
    os.chdir("/")


def enter(root: int) -> None:
    """Make the tree of the descriptor `root` the root of this process, and no more: chroot(2)."""
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")


def mounted() -> list[list[str]]:
    """The lines of mountinfo, by fields, of what is mounted here, in the order in which it hides one another."""
    with open("/proc/self/mountinfo", "rb") as file:  # no codec is looked up in here
        return [os.fsdecode(line).split(" ") for line in file.read().splitlines()]


def mount_point(fields: list[str]) -> str:
    """Where that is mounted, without the escapes of mountinfo."""
    first, *rest = fields[4].split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _remove_revealing(rootfs: str) -> None:
    """What stays, hidden, in a namespace that was not pivoted may be anything but the host's /proc and /sys.

    The kernel lets root of a nested user namespace mount a new proc without any mask if it finds an
    unmasked one in the mount namespace (mount_too_revealing()).
    """
    for fields in reversed(mounted()):  # what is mounted on another comes after it
        path = mount_point(fields)
        if fields[fields.index("-") + 1] in ("proc", "sysfs") and not f"{path}/".startswith(f"{rootfs}/"):
            try:
                make_private(os.path.dirname(path))  # or the host's would go as well,
                mount.mount(None, path, None, mount.MS_PRIVATE | mount.MS_REC)  # with all that is mounted in it
                mount.umount2(path, mount.MNT_DETACH)
            except OSError as error:
                raise Error("cannot hide from the container", path, error) from None
