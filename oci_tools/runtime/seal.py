"""Run from an interpreter that no container can write to.

The container's first process is Python until the moment it becomes the payload, so
`/proc/self/exe`, seen from inside, is the host's python3: a payload whose entry point is
`/proc/self/exe` could keep a descriptor of it and overwrite it (CVE-2019-5736, and worse,
for every Python program of the host shares the file).  So whatever enters a container
executes itself again, before anything else, from

  1. a private overlay that has no upper layer and is mounted nowhere: nothing in it can
     be written by anybody, whatever mount is made of it; or, where that is not allowed,
  2. a sealed memfd: a copy in memory that cannot be written, grown or shrunk.

A read-only bind mount would not do: the file below it stays writable by another way.
"""

from __future__ import annotations

import fcntl
import os
import sys
from struct import unpack_from

from oci_tools.errors import Error
from oci_tools.linux import libc, mount, process

_OVERLAYFS_MAGIC = 0x794C7630
_ST_RDONLY = 1
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 0x1, 0x2, 0x10
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
            return True
        return fcntl.fcntl(fd, _F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False  # a file of an ordinary file system knows no seals
    finally:
        os.close(fd)


def ensure() -> None:
    """Go on in a sealed interpreter: returns if this one is, else executes the same words again."""
    if os.environ.pop(_MARK, None) or is_sealed():
        if not is_sealed():
            raise Error("cannot seal the interpreter", sys.executable, "it is still writable after executing again")
        return
    path = os.path.realpath("/proc/self/exe")
    try:
        fd = _overlay(path)
    except OSError:
        try:
            fd = _memfd(path)
        except OSError as error:
            raise Error("cannot seal the interpreter", path, error) from None
    # argv[0] is the interpreter's usual name: from it Python finds its library.
    argv = [sys.executable, *sys.orig_argv[1:]]
    envp = [f"{name}={value}" for name, value in os.environ.items()] + [f"{_MARK}=1"]
    try:
        process.execveat(fd, "", argv, envp, process.AT_EMPTY_PATH)
    except OSError as error:
        raise Error("cannot execute the sealed interpreter", path, error) from None


def _overlay(path: str) -> int:
    """A descriptor of the interpreter in a read-only overlay of its directory.

    An overlay without an upper layer wants two lower ones, and neither may lie in the other;
    what the second holds does not matter, since nothing but the interpreter is opened.
    """
    directory, name = os.path.split(path)
    second = next(place for place in ("/etc", "/usr") if not f"{directory}/".startswith(f"{place}/"))
    context = mount.fsopen("overlay")
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir", f"{directory}:{second}")
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
        attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
        mounted = mount.fsmount(context, attributes)
    finally:
        os.close(context)
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


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
