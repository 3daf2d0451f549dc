"""The root of an overlay bundle: layers of the store below, the bundle's own directory on top.

The annotation `io.oci-tools.overlay` of config.json says which (oci-bundle(5)):

    {"lower": [diff ids, top first], "upper": "upper", "work": "work", "store": "/var/lib/oci/layers", "idmap": true}

With `idmap` the files are shown with the owners that the container's user namespace maps theirs to, by idmapped
mounts of the layers below and of the bundle (Linux 5.19).

It is mounted by `oci-run` inside the container's mount namespace, so nothing stays mounted
and nothing needs to be unmounted.  A config.json may come from a stranger by way of an
engine: a diff id can only name a tree of the store, and upper and work only directories
beneath the bundle.  Everything is opened first and mounted by descriptor.
"""

from __future__ import annotations

import os
from errno import EINVAL

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ANNOTATION = "io.oci-tools.overlay"
FUSE = "fuse"  # what fuse-overlayfs works in, beside the kernel, as long as its marks may be in the upper directory
_HEX = frozenset("0123456789abcdef")


def make(spec: dict[str, Any], bundle: str, root: str | None = None, users: int = -1) -> int:
    """The detached mount of a bundle's root; `root` is the user's own `fs.root()`, which root of a container
    does not see; `users` the container's user namespace, for a bundle that has `idmap`.

    Root makes it on the host's side, for mapped root could not reach the store; a plain user on
    the container side, where alone it may mount, and where the marks are in user.overlay.*.
    The kernel takes only directories of the mount namespace that the caller is in.
    """
    wanted = document.loads(spec["annotations"][ANNOTATION], ANNOTATION)
    opened: list[int] = []
    try:
        if wanted.get("idmap") and users >= 0:
            return _mapped(wanted, bundle, _store(wanted, root or fs.root()), users)
        store = _opened(opened, os.open(_store(wanted, root or fs.root()), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        top = _opened(opened, os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return _stack(wanted, store, top, opened)
    except OSError as error:
        raise Error("cannot mount the layers of", bundle, error) from None
    except (KeyError, TypeError, AttributeError):
        raise Error(f"config.json: annotations: bad value of {ANNOTATION}") from None
    finally:
        for fd in opened:
            os.close(fd)


def _stack(wanted: dict[str, Any], store: int, top: int, opened: list[int]) -> int:
    lower = [_opened(opened, _layer(store, digest)) for digest in wanted["lower"]]
    upper, work = (
        _opened(opened, fs.open_beneath(top, wanted[name], os.O_PATH | os.O_DIRECTORY)) for name in ("upper", "work")
    )
    if os.access(FUSE, os.F_OK, dir_fd=work):
        # To the kernel its marks are files, and what they hide would be there again.
        path = os.readlink(f"/proc/self/fd/{top}")
        raise Error("cannot mount the layers of", path, "it was mounted with fuse-overlayfs", "oci-unpack --umount")
    return _mount(lower, upper, work)


def _mapped(wanted: dict[str, Any], bundle: str, store: str, users: int) -> int:
    """The same of idmapped mounts.

    The kernel takes layers only of mounts of the mount namespace that the caller is in (until Linux 6.15), so a child
    attaches them in one of its own, which goes with it; what it has stacked stays.
    """
    from oci_tools.runtime import sync

    trees: list[int] = []
    try:
        for path in (store, bundle):
            trees.append(mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE))
            mount.mount_setattr(trees[-1], "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_IDMAP, 0, 0, users)
        return sync.opened_by_child(lambda: _attached(wanted, bundle, trees))
    finally:
        for tree in trees:
            os.close(tree)


def _attached(wanted: dict[str, Any], bundle: str, trees: list[int]) -> int:
    """The overlay of two trees, put somewhere where nobody else sees them."""
    opened = _apart(f"{bundle}/rootfs", trees)  # empty, and only ever mounted upon
    return _stack(wanted, opened[0], opened[1], [])


def _apart(place: str, trees: list[int]) -> list[int]:
    """Have detached mounts in a mount namespace of one's own, and be whom the last one's root belongs to there."""
    process.unshare(process.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    mount.mount("none", place, "tmpfs", 0)
    opened = []
    for number, tree in enumerate(trees):
        os.mkdir(f"{place}/{number}")
        mount.move_mount(tree, "", mount.AT_FDCWD, f"{place}/{number}", mount.MOVE_MOUNT_F_EMPTY_PATH)
        opened.append(os.open(f"{place}/{number}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    os.mkdir(f"{place}/whole", 0o700)
    # overlayfs makes its own files as whoever mounted it, for which there must be an id on this side of the map.
    owner = os.fstat(opened[-1])
    process.prctl(process.PR_SET_SECUREBITS, process.SECBIT_NO_SETUID_FIXUP)  # that one keeps the capabilities
    os.setresgid(-1, owner.st_gid, -1)
    os.setresuid(-1, owner.st_uid, -1)
    return opened


def of_mount(data: list[str], part: str, users: int) -> int:
    """A mount of type overlay with `idmap`: its layers are shown with the owners that `users` maps theirs to.

    data  its options: lowerdir, upperdir, workdir, and others
    part  the directory of it that is meant; empty for the whole
    """
    from oci_tools.runtime import source as sources
    from oci_tools.runtime import sync

    lower, more = _lower(data), [option for option in data if not option.startswith(_DIRECTORIES)]
    over = [option.partition("=")[2] for name in _DIRECTORIES[1:] for option in data if option.startswith(name)]
    if not lower or len(over) not in (0, 2):
        raise OSError(EINVAL, "an overlay needs lowerdir, and upperdir with workdir")
    top = [os.path.commonpath([os.path.abspath(path) for path in over])] if over else []  # both on one mount
    trees: list[int] = []

    def stack() -> int:
        place = (*lower, *top)[-1]
        opened = _apart(place, trees)
        inner = [fs.open_beneath(opened[-1], os.path.relpath(path, top[0]), os.O_PATH) for path in over]
        upper, work = inner or (-1, -1)
        whole = _mount(opened[: len(lower)], upper, work, more)
        if not part:
            return whole
        where = f"{place}/whole"  # before Linux 6.15 nothing can be cloned of what is nowhere
        mount.move_mount(whole, "", mount.AT_FDCWD, where, mount.MOVE_MOUNT_F_EMPTY_PATH)
        return sources.beneath(whole, part)

    try:
        for path in (*lower, *top):
            trees.append(mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE))
            mount.mount_setattr(trees[-1], "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_IDMAP, 0, 0, users)
        return sync.opened_by_child(stack)
    finally:
        for tree in trees:
            os.close(tree)


_DIRECTORIES = ("lowerdir=", "upperdir=", "workdir=")


def _lower(data: list[str]) -> list[str]:
    """The directories of `lowerdir`, in which a colon of a path is written with a backslash."""
    text = next((option.partition("=")[2] for option in data if option.startswith("lowerdir=")), "")
    found = [""]
    at = 0
    while at < len(text):
        if text[at] == ":":
            found.append("")
        else:
            at += text[at] == "\\" and at + 1 < len(text)
            found[-1] += text[at]
        at += 1
    return [path for path in found if path]


def one_by_one(data: list[str]) -> list[str]:
    """The same options where `lowerdir` is longer than fsconfig(2) takes: each directory by itself (Linux 6.5)."""
    text = next((option for option in data if option.startswith("lowerdir=")), "")
    if "::" in text:  # layers of data only
        return data
    return [f"lowerdir+={path}" for path in _lower(data)] + [option for option in data if option != text]


def attach(spec: dict[str, Any], bundle: str, where: str) -> None:
    """Mount a bundle's root on a directory of the host (`oci-unpack --mount`)."""
    tree = make(spec, bundle)
    at = -1
    try:
        at = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        mount.move_mount(tree, "", at, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)
    except OSError as error:
        raise Error("cannot mount", where, error) from None
    finally:
        os.close(tree)
        if at >= 0:
            os.close(at)


def detach(where: str) -> None:
    """Undo it; an Error where somebody uses it."""
    try:
        mount.umount2(where, mount.UMOUNT_NOFOLLOW)
    except OSError as error:
        raise Error("cannot unmount", where, error) from None


def _opened(opened: list[int], fd: int) -> int:
    opened.append(fd)
    return fd


def _mount(lower: list[int], upper: int, work: int, more: Sequence[str] = ()) -> int:
    context = mount.fsopen("overlay")
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", "overlay")
        for fd in lower:
            _set(context, "lowerdir+", fd)
        if upper >= 0:
            _set(context, "upperdir", upper)
            _set(context, "workdir", work)
        if not process.in_host_user_namespace():
            mount.fsconfig(context, mount.FSCONFIG_SET_FLAG, "userxattr", None)
        else:
            for option in ("redirect_dir", "metacopy"):  # marks by which `upper` alone would say too little
                mount.fsconfig(context, mount.FSCONFIG_SET_STRING, option, "off")
        for option in more:
            key, equals, value = option.partition("=")
            command = mount.FSCONFIG_SET_STRING if equals else mount.FSCONFIG_SET_FLAG
            mount.fsconfig(context, command, key, value if equals else None)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
        return mount.fsmount(context)
    finally:
        os.close(context)


def _set(context: int, key: str, fd: int) -> None:
    """A directory by descriptor (Linux 6.13), before that by the descriptor's name."""
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_FD, key, None, fd)
    except OSError as error:
        if error.errno not in (9, 22):  # EBADF: before, no file system took an O_PATH descriptor
            raise
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, key, f"/proc/self/fd/{fd}")


def _store(wanted: dict[str, Any], root: str) -> str:
    """The store that is meant: ours, or a part of it for one ownership mapping."""
    own = f"{root}/layers"
    path = os.path.normpath(wanted.get("store") or own)
    if path != own and not path.startswith(f"{own}/"):
        raise Error(f"config.json: annotations: {ANNOTATION}: not in the layer store", path)
    return path


def _layer(store: int, digest: str) -> int:
    algorithm, _, text = digest.partition(":")
    if algorithm not in ("sha256", "sha512") or not text or not _HEX.issuperset(text):
        raise Error(f"config.json: annotations: {ANNOTATION}: not a diff id", digest)
    return os.open(f"{algorithm}/{text}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store)
