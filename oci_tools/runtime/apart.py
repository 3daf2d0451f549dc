"""A mount namespace of a command's own: what is mounted there nobody else sees, and it ends with the command."""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import caps, mount, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def private() -> bool:
    """Have what is mounted from now on for this process and its children alone; for root, and before threads.

    False where nothing can be mounted: for who is not root, and where a container's system call filter or
    capabilities do not let its root.
    """
    if os.geteuid() != 0:
        return False
    try:
        process.unshare(process.CLONE_NEWNS)
        mount.mount_setattr(mount.AT_FDCWD, "/", mount.AT_RECURSIVE, 0, 0, propagation=mount.MS_PRIVATE)
    except PermissionError:
        return False
    except OSError as error:
        raise Error("cannot have a mount namespace", None, error) from None
    return True


def attach(fd: int, where: str) -> None:
    """Mount a detached mount on a directory."""
    try:
        tree = mount.open_tree(fd, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH)
        mount.move_mount(tree, "", mount.AT_FDCWD, where, mount.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)
    except OSError as error:
        raise Error("cannot mount", where, error) from None


def detach(where: str) -> None:
    try:
        mount.umount2(where, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError:
        pass  # it is gone already


def mount_memory(where: str) -> None:
    """An empty directory in memory."""
    try:
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        mount.mount("tmpfs", where, "tmpfs", flags, "mode=0700,size=64m")
    except OSError as error:
        raise Error("cannot mount", where, error) from None


def is_hosts_root() -> bool:
    """Whether this is the host's user namespace."""
    return process.in_host_user_namespace()


def abilities() -> set[str]:
    """What is let be done in new namespaces: to mount a "proc", to set the "hostname"; before threads.

    Within another container its system call filter may refuse the one, and what is mounted over its /proc the other.
    """
    return {name for name, try_it in (("proc", _mount_proc), ("hostname", _set_hostname)) if succeeds(try_it)}


def succeeds(try_it: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try_it()
            code = 0
        except OSError:
            pass
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def may_mount() -> bool:
    """Whether this process has what mounts and namespaces need; root within a container has not."""
    return _has("CAP_SYS_ADMIN")


def _has(capability: str) -> bool:
    return bool(caps.capget()[0] >> caps.NAMES.index(capability) & 1)


def can_be_root() -> bool:
    """Whether a plain user, or root within a container, may have a user namespace and be root in it."""
    if os.geteuid() == 0 and not _has("CAP_SETFCAP"):  # user_namespaces(7): who maps 0 needs it
        return False
    return succeeds(lambda: process.unshare(process.CLONE_NEWUSER))


def _mount_proc() -> None:
    process.unshare(process.CLONE_NEWPID | process.CLONE_NEWNS)

    def mount_it() -> None:
        mount.mount("proc", "/proc", "proc", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC)

    if not succeeds(mount_it):
        raise OSError


def _set_hostname() -> None:
    process.unshare(process.CLONE_NEWUTS)
    process.sethostname("x")


def network(path: str) -> tuple[str, Callable[[], None]]:
    """A new network namespace, held by a mount on the new file `path`.

    Also its path in /proc, which is there as long as this process, and goes when what comes with it is called.
    """
    import threading

    failed: list[Error] = []
    made, unneeded = threading.Event(), threading.Event()

    def work() -> None:  # in a thread of its own: the namespace is one thread's, mounts are everybody's
        try:
            process.unshare(process.CLONE_NEWNET)
            mount.mount("/proc/thread-self/ns/net", path, None, mount.MS_BIND)
        except OSError as error:
            failed.append(Error("cannot make a network namespace", None, error))
            unneeded.set()
        made.set()
        unneeded.wait()

    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    made.wait()
    if failed:
        raise failed[0]

    def end() -> None:
        unneeded.set()
        thread.join()

    return f"/proc/{os.getpid()}/task/{thread.native_id}/ns/net", end


def capabilities() -> list[str]:
    """All that this process could hand on: its bounding set."""
    have = caps.bounding()
    return [name for number, name in enumerate(caps.NAMES) if have >> number & 1]
