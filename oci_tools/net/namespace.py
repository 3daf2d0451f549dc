"""A network namespace of its own for a container, before there is a process in it.

    $OCI_RUN/netns/ID     the namespace, bound there as `ip netns` does: it lives until that is unmounted
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.net import place


def pin(container: str) -> str:
    """Make a namespace with nothing but a loopback device; where it is pinned."""
    path = place.namespace(container)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unpin(container)  # what a killed start left
        fs.make_private(os.path.dirname(path))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
        process.unshare(process.CLONE_NEWNET)
        try:
            mount.mount("/proc/thread-self/ns/net", path, None, mount.MS_BIND)
        finally:
            process.setns(own, process.CLONE_NEWNET)
    except OSError as error:
        unpin(container)
        raise Error("cannot make a network namespace", container[:12], error) from None
    finally:
        os.close(own)
    return path


def unpin(container: str) -> None:
    """Let go of it: it ends with the last process in it, and its links with it."""
    path = place.namespace(container)
    try:
        mount.umount2(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError:
        pass  # not mounted, or not there
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def open_path(path: str) -> int:
    """A descriptor of the network namespace at a path."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot use network namespace", path, error) from None
    why = ""
    if process.namespace_type(fd) != process.CLONE_NEWNET:
        why = "it is none"
    elif os.path.samestat(os.fstat(fd), os.stat("/proc/thread-self/ns/net")):
        why = "it is the host's"
    if why:
        os.close(fd)
        raise Error("cannot use network namespace", path, why)
    return fd
