"""Run from an interpreter that no container can write to.

The container's first process is Python until the moment it becomes the payload, so
`/proc/self/exe`, seen from inside, is the host's python3: a payload whose entry point is
`/proc/self/exe` could keep a descriptor of it and overwrite it (CVE-2019-5736, and worse,
for every Python program of the host shares the file).  So whatever enters a container
executes itself again, before anything else, from

  1. an overlay that has no upper layer: nothing in it can be written by anybody, whatever
     mount is made of it; or, where that is not allowed,
  2. a sealed memfd: a copy in memory that cannot be written, grown or shrunk.

A read-only bind mount would not do: the file below it stays writable by another way.
"""

from __future__ import annotations

import fcntl
import os
import sys
from struct import unpack_from

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import libc, mount, process

STANDING = "/run/oci/python"  # `bin/oci-run` names it too

_OVERLAYFS_MAGIC = 0x794C7630
_ST_RDONLY = 1
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 0x1, 0x2, 0x10
_NOBODY = 65534  # overflowuid of proc_sys_fs(5)
_known: list[bool] = []  # not empty: this process has found itself sealed
_MARK = "_OCI_SEALED"  # stops a loop if a sealed interpreter is not recognised as one


def is_sealed() -> bool:
    """Whether this process runs from an interpreter sealed as above."""
    try:
        fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        held = libc.buffer(120)  # struct statfs; f_type and f_flags are its first and eleventh word
        libc.call("fstatfs", fd, libc.address(held))
        kind, flags = unpack_from("q", held, 0)[0], unpack_from("q", held, 80)[0]
        if kind == _OVERLAYFS_MAGIC and flags & _ST_RDONLY:
            return _is_ours(fd)
        return fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False  # a file of an ordinary file system knows no seals
    finally:
        os.close(fd)


def _is_ours(fd: int) -> bool:
    """Is this overlay one of our making, and not the root of a host that is a read-only overlay itself?

    Such a one may have a writable layer.  Ours is another file system than what the usual name leads to.
    """
    name = sys.executable
    return name.startswith(f"{STANDING}/") or os.fstat(fd).st_dev != os.stat(name).st_dev


def ensure() -> None:
    """Go on in a sealed interpreter: returns if this one is, else executes the same words again."""
    if _known:
        return
    again = os.environ.pop(_MARK, None)
    if is_sealed():
        if not again:
            _check_standing()
        _known.append(True)
        return
    path = os.path.realpath("/proc/self/exe")
    if again:
        raise Error("cannot seal the interpreter", path, "it is still writable after executing again")
    others = _NOBODY if os.geteuid() == 0 else 0  # root's, as whoever is only called root sees it
    if os.stat(path).st_uid == others and not os.access(path, os.W_OK):
        return  # a plain user's container has no rights over root's file that its user has not
    try:
        fd = _seal(path)
        # argv[0] is the interpreter's usual name: from it Python finds its library.
        argv = [sys.executable, *sys.orig_argv[1:]]
        envp = [f"{name}={value}" for name, value in os.environ.items()] + [f"{_MARK}=1"]
        process.execveat(fd, "", argv, envp, process.AT_EMPTY_PATH)
    except OSError as error:
        raise Error("cannot seal the interpreter", path, error) from None


def _seal(path: str) -> int:
    """A descriptor of the interpreter, sealed in the best way there is."""
    directory, name = os.path.split(path)
    try:
        mounted = _overlay(directory)
    except OSError:
        return _memfd(path)
    try:
        _leave_standing(mounted, directory, name)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


# -- the overlay that is left standing ------------------------------------------------------
#
# Executing the interpreter a second time costs as much as starting it.  So root's overlay stays
# mounted at /run/oci/python, where `bin/oci-run` starts from it at once.  It cannot be written
# through, by root neither, so it does no harm that somebody reaches it; its directory is
# closed to others all the same.  `umount /run/oci/python` is all it takes to be rid of it.


def _leave_standing(mounted: int, directory: str, name: str) -> None:
    """Attach the overlay for the next run; whatever prevents it, this run does without."""
    if os.geteuid() != 0 or os.environ.get("OCI_RUN") or directory != "/usr/bin":
        return
    try:
        fs.make_private(os.path.dirname(STANDING))
        with fs.Lock(f"{STANDING}.lock", timeout=0):
            os.makedirs(STANDING, 0o700, exist_ok=True)
            if os.stat(STANDING).st_dev != os.stat(os.path.dirname(STANDING)).st_dev:
                if _same(f"{STANDING}/{name}", f"{directory}/{name}"):
                    return
                mount.umount2(STANDING, mount.MNT_DETACH)
            mount.move_mount(mounted, "", mount.AT_FDCWD, STANDING, mount.MOVE_MOUNT_F_EMPTY_PATH)
    except (OSError, Error):
        pass


def _check_standing() -> None:
    """Was the interpreter upgraded below the overlay that this process was started from?"""
    if not sys.executable.startswith(f"{STANDING}/"):
        return
    path = os.path.join("/usr/bin", os.path.basename(os.readlink("/proc/self/exe")))
    try:
        if _same("/proc/self/exe", path):
            return
        mount.umount2(STANDING, mount.MNT_DETACH)
    except OSError:
        pass  # it is being upgraded, or is root's to take down: the usual one will seal itself
    try:
        os.execv(path, [path, *sys.orig_argv[1:]])
    except OSError as error:
        raise Error("cannot execute", path, error) from None


def _same(one: str, other: str) -> bool:
    """An overlay's file has its own device number, but the inode of the file below."""
    a, b = os.stat(one), os.stat(other)
    return (a.st_ino, a.st_size, a.st_mtime_ns) == (b.st_ino, b.st_size, b.st_mtime_ns)


def _overlay(directory: str) -> int:
    """A detached, read-only overlay of the interpreter's directory.

    An overlay without an upper layer wants two lower ones, and neither may lie in the other;
    what the second holds does not matter, since nothing but the interpreter is opened.
    """
    second = next(place for place in ("/etc", "/usr") if not f"{directory}/".startswith(f"{place}/"))
    context = mount.fsopen("overlay")
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", "oci-python")
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir", f"{directory}:{second}")
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV)
    finally:
        os.close(context)


def _memfd(path: str) -> int:
    """A descriptor of a sealed copy of the interpreter in memory."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        copy = os.memfd_create("oci-python", flags | _MFD_EXEC)
    except OSError:  # before Linux 6.3
        copy = os.memfd_create("oci-python", flags)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.sendfile(copy, source, None, 1 << 24):
            pass
    finally:
        os.close(source)
    fcntl.fcntl(copy, _F_ADD_SEALS, _SEALS)
    return copy
