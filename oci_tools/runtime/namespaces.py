"""The container's namespaces: which are new, which are joined by path, and the id maps.

runtime-spec, "Linux: Namespaces" and "User namespace mappings"; namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import fcntl
import os
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket
from struct import pack, unpack

from oci_tools.errors import Error, missing
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = {
    "user": process.CLONE_NEWUSER,  # first: the others then belong to it
    "pid": process.CLONE_NEWPID,
    "network": process.CLONE_NEWNET,
    "ipc": process.CLONE_NEWIPC,
    "uts": process.CLONE_NEWUTS,
    "mount": process.CLONE_NEWNS,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}
# Their names in /proc/PID/ns.
FILES = {kind: {"network": "net", "mount": "mnt"}.get(kind, kind) for kind in FLAGS}
_OTHERS = ("ipc", "uts", "network")  # what pods share: only who owns them may join them
_LATE = process.CLONE_NEWCGROUP | process.CLONE_NEWTIME  # unshared by the child: after it joined its
#                                           cgroups, and after it wrote the clocks' offsets


class Namespaces:
    """What `linux.namespaces` asks for: flags of the new ones, open descriptors of the others."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.new = 0
        self.join: dict[str, int] = {}
        self.entered: list[str] = []  # those that were joined before the user's
        linux = spec.get("linux") or {}
        for entry in linux.get("namespaces") or ():
            kind, path = entry["type"], entry.get("path")
            if path:
                self.join[kind] = _open(path, kind)
            else:
                self.new |= FLAGS[kind]
        self.offsets: dict[str, Any] = linux.get("timeOffsets") or {}
        self.maps = {
            "uid_map": linux.get("uidMappings") or [],
            "gid_map": linux.get("gidMappings") or [],
        }
        self.ours = {kind for kind in self.join if self._is_ours(kind)}  # as we see it now, before joining
        if not self.isolates("mount") and (self.isolates("user") or not self._is_that_of("mount", "self")):
            # We could not take away again what would be mounted there, or may not mount there.
            raise Error("config.json: linux.namespaces: the container needs a mount namespace of its own")
        if self.new & process.CLONE_NEWUSER and not (self.maps["uid_map"] and self.maps["gid_map"]):
            raise Error("config.json: linux.uidMappings: a new user namespace needs uidMappings and gidMappings")

    def __str__(self) -> str:
        return ", ".join(f"{kind}{' by path' if kind in self.join else ''}" for kind in FLAGS if self.has(kind))

    def has(self, kind: str) -> bool:
        """Whether the container has a namespace of this kind of its own, new or joined."""
        return kind in self.join or bool(self.new & FLAGS[kind])

    def isolates(self, kind: str) -> bool:
        """Whether it is another one than the runtime's."""
        return self.has(kind) and kind not in self.ours

    def _is_ours(self, kind: str) -> bool:
        """Whether the namespace joined by path is the one that we, or the host's first process, are in."""
        return self._is_that_of(kind, "self") or self._is_that_of(kind, "1")

    def _is_that_of(self, kind: str, pid: str) -> bool:
        """Whether it is that of a process, as one that is not joined is ours."""
        try:
            place = f"/proc/{pid}/ns/{FILES[kind]}"
            return kind not in self.join or os.path.samestat(os.fstat(self.join[kind]), os.stat(place))
        except OSError:
            return False  # not ours to look at

    def users(self) -> int:
        """A new descriptor of a user namespace with the container's maps; -1 if the container is in ours."""
        if "user" in self.join:
            return os.dup(self.join["user"])
        return user_namespace(self.maps) if self.new & process.CLONE_NEWUSER else -1

    @property
    def early(self) -> int:
        """The flags for clone3."""
        return self.new & ~_LATE

    def close(self) -> None:
        for fd in self.join.values():
            os.close(fd)

    # -- on the container side ---------------------------------------------------------

    def enter(self) -> None:
        """Join the namespaces given by path: all but the user's, which owns the new ones and was joined
        before they were made, and the pid namespace, in which this process was born."""
        for kind in FLAGS:
            if kind in self.join and kind not in ("user", "pid", *self.joined_first, *self.entered):
                self._enter(kind)

    def enter_user(self) -> None:
        """Join the user namespace given by path, but before it those that may not belong to it (the host's network),
        which nobody may join from in there; a plain user may only then."""
        for kind in _OTHERS:
            if kind in self.join:
                try:
                    process.setns(self.join[kind], FLAGS[kind])
                    self.entered.append(kind)
                except PermissionError:
                    pass
        self._enter("user")

    def _enter(self, kind: str) -> None:
        try:
            process.setns(self.join[kind], FLAGS[kind])
        except OSError as error:
            raise Error(f"cannot join the {kind} namespace", None, error) from None

    @property
    def joined_first(self) -> tuple[str, ...]:
        """Those by path that are joined before there is a new user namespace, in which nobody may any more."""
        return tuple(kind for kind in _OTHERS if kind in self.join) if self.new & process.CLONE_NEWUSER else ()

    def make_time(self) -> None:
        """A new time namespace with its offsets, entered."""
        if self.new & process.CLONE_NEWTIME:
            process.unshare(process.CLONE_NEWTIME)
            lines = [f"{c} {o.get('secs') or 0} {o.get('nanosecs') or 0}" for c, o in self.offsets.items()]
            if lines:
                _write("/proc/self/timens_offsets", "\n".join(lines))
            fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
            process.setns(fd, process.CLONE_NEWTIME)
            os.close(fd)

    def make_cgroup(self) -> None:
        """A new cgroup namespace, whose root is the group that was joined."""
        if self.new & process.CLONE_NEWCGROUP:
            process.unshare(process.CLONE_NEWCGROUP)

    # -- on the runtime's side -----------------------------------------------------------

    def clone(self, cgroup: int = -1) -> tuple[int, int]:
        """The container's first process, in its new namespaces: (pid, pidfd), or (0, -1) in it.

        cgroup  a descriptor of the cgroup2 directory in which it shall be
        """
        if not self.joined_first:
            return process.clone3(self.early, cgroup)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        middle, pidfd = process.clone3(0, cgroup)
        if middle == 0:  # a process between, so that the runtime itself, and its hooks, stay where they are
            if not self._beside(writer):
                return 0, -1
            os._exit(0)
        os.close(pidfd)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(middle, 0)
        if not said.isdigit():
            raise Error(said or "cannot make namespaces")
        return int(said), os.pidfd_open(int(said))

    def _beside(self, writer: int) -> int:
        """Join what is joined first, and make the container's process beside this one: its pid, 0 in it."""
        try:
            for kind in self.joined_first:
                self._enter(kind)
            pid, _ = process.clone3(self.early | process.CLONE_PARENT)
            said = str(pid)
        except Error as error:
            pid, said = -1, str(error)
        except OSError as error:
            pid, said = -1, str(Error("cannot make namespaces", None, error))
        if pid:
            os.write(writer, said.encode())
        return pid

    def map_ids(self, pid: int) -> None:
        """Write the id maps of a new user namespace, once its first process exists."""
        if self.new & process.CLONE_NEWUSER:
            map_ids(pid, self.maps)

    def enter_pid(self) -> int:
        """Let our next child be in the joined pid namespace; what `leave_pid` takes to undo it."""
        if "pid" not in self.join:
            return -1
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        process.setns(self.join["pid"], process.CLONE_NEWPID)
        return own

    def leave_pid(self, own: int) -> None:
        if own >= 0:
            process.setns(own, process.CLONE_NEWPID)
            os.close(own)


def map_ids(pid: int, maps: dict[str, list[dict[str, int]]]) -> None:
    """Write a process's uid_map and gid_map, by newuidmap where we may not ourselves."""
    single = all(len(entries) == 1 and entries[0]["size"] == 1 for entries in maps.values())
    if os.geteuid() != 0 and not single:
        return _map_by_helper(pid, maps)
    if os.geteuid() != 0:
        deny_groups(pid)
    for file in ("gid_map", "uid_map"):
        _write(f"/proc/{pid}/{file}", "".join(map(_line, maps[file])))


def deny_groups(pid: int) -> None:
    """user_namespaces(7): without it who has not CAP_SETGID may map no group."""
    _write(f"/proc/{pid}/setgroups", "deny")


def user_namespace(maps: dict[str, list[dict[str, int]]]) -> int:
    """A descriptor of a new user namespace with these maps, in which nobody is: for idmapped mounts."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = process.clone3(process.CLONE_NEWUSER)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end closes it, or dies
        os._exit(0)
    try:
        map_ids(pid, maps)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(pid, 0)
        os.close(pidfd)


def unshare_user() -> None:
    """Move this process, of one thread, into a new user namespace, without maps yet; it dies with its parent."""
    process.unshare(process.CLONE_NEWUSER)
    process.prctl(process.PR_SET_PDEATHSIG, 9)  # SIGKILL; after unshare(2), which takes it back


def become_root(keep_groups: bool = False) -> None:
    """Root of the user namespace, so that what is made now belongs to it; who we are there if it has none."""
    try:
        if not keep_groups:
            os.setgroups([])
    except PermissionError:
        pass  # setgroups is denied in a plain user's namespace
    process.become_root()


def loopback_up() -> None:
    """SIOCSIFFLAGS on `lo`, netdevice(7)."""
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        request = bytearray(pack("16sH14x", b"lo", 0))
        fcntl.ioctl(sock.fileno(), 0x8913, request)
        flags = unpack("16sH14x", request)[1]
        fcntl.ioctl(sock.fileno(), 0x8914, pack("16sH14x", b"lo", flags | 0x1))
    except OSError as error:
        raise Error("cannot bring up", "lo", error) from None
    finally:
        sock.close()


def _open(path: str, kind: str) -> int:
    """A namespace file, checked to be one of that kind (ioctl_nsfs(2))."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Error(f"cannot open the {kind} namespace", path, error) from None
    try:
        if fcntl.ioctl(fd, process.NS_GET_NSTYPE) == FLAGS[kind]:
            return fd
    except OSError:
        pass  # not a namespace at all
    os.close(fd)
    raise Error("config.json: linux.namespaces: wrong kind of namespace", path, f"it is not a {kind} namespace")


def _line(entry: dict[str, int]) -> str:
    return f"{entry['containerID']} {entry['hostID']} {entry['size']}\n"


def _map_by_helper(pid: int, maps: dict[str, list[dict[str, int]]]) -> None:
    """newuidmap(1) and newgidmap(1): setuid helpers that know a user's subordinate ids."""
    from oci_tools.runtime import ids

    for file, entries in maps.items():
        name = f"new{file.replace('_', '')}"
        program = ids.helper(name)
        if program is None:
            raise missing(name, "cannot map ids")
        words = [name, str(pid)]
        for entry in entries:
            words += [str(entry["containerID"]), str(entry["hostID"]), str(entry["size"])]
        child = os.posix_spawn(program, words, {})
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            cause = f"{name} failed with exit code {code}"
            raise Error("cannot map ids", None, cause, "see /etc/subuid and /etc/subgid")


def _write(path: str, text: str) -> None:
    try:
        process.write(path, text)
    except OSError as error:
        raise Error("cannot write", path, error) from None
