"""The calls of a process's life: clone3(2), prctl(2), setns(2), execveat(2), pidfds, close_range(2)."""

from __future__ import annotations

import fcntl
import os
import time
from struct import pack, unpack

from oci_tools.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

CLONE_NEWTIME = 0x80
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT  # waitid(2) tells, waits for none and reaps none

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 4
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4
AT_EMPTY_PATH = 0x1000
NS_GET_NSTYPE = 0xB703
PIDFD_GET_INFO = 0xC040FF0B  # of the first struct pidfd_info, 64 bytes (include/uapi/linux/pidfd.h)
PIDFD_INFO_EXIT = 8

SIGCHLD = 17


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """A new process as fork(2) makes it, in new namespaces: (pid, pidfd), or (0, -1) in the child.

    cgroup  a descriptor of the cgroup2 directory in which it shall be

    Only for a process of one thread: libc's and Python's own work after a fork is not
    done, which only threads would need.
    """
    pidfd = libc.buffer(4)
    signum = 0 if flags & CLONE_PARENT else SIGCHLD  # a sibling's parent hears as it did of us
    flags |= CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    args = pack("11Q", flags, libc.address(pidfd), 0, 0, signum, 0, 0, 0, 0, 0, max(cgroup, 0))
    pid = libc.call("clone3", args, len(args))
    return (pid, unpack("i", bytes(pidfd))[0]) if pid else (0, -1)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    return libc.call("prctl", option, arg2, arg3, arg4, arg5)


def unshare(flags: int) -> None:
    libc.call("unshare", flags)


def become_root() -> None:
    """Root of the user namespace that one has just entered; the first who is there, if it maps no root."""
    for change, file in ((os.setresgid, "gid_map"), (os.setresuid, "uid_map")):
        try:
            change(0, 0, 0)
        except OSError as error:
            if error.errno != 22:  # EINVAL: not mapped
                raise
            number = _first_of(file)
            if number is not None:  # who is nobody there could make no file
                change(number, number, number)


def _first_of(file: str) -> int | None:
    """The first id of a map of this process's user namespace."""
    try:
        with open(f"/proc/self/{file}", "rb", buffering=0) as lines:
            return int(lines.read().split()[0])
    except (OSError, IndexError):
        return None


def setns(fd: int, nstype: int = 0) -> None:
    libc.call("setns", fd, nstype)


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    libc.call("pidfd_send_signal", pidfd, signum, None, 0)


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status of a process that its parent, whoever that was, has reaped; None before Linux 6.15."""
    info = bytearray(pack("Q56x", PIDFD_INFO_EXIT))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, status = unpack("Q52xi", info)
    return status if mask & PIDFD_INFO_EXIT else None


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    libc.call("close_range", first, last, flags)


def execveat(dirfd: int, path: str, argv: Sequence[str], envp: Sequence[str], flags: int) -> None:
    """Replace this process; returns only by raising OSError."""
    words, names = _strings(argv), _strings(envp)
    libc.call("execveat", dirfd, libc.string(path), libc.address(words[0]), libc.address(names[0]), flags, subject=path)


def _strings(texts: Sequence[str]) -> tuple[object, list[object]]:
    """A NULL-terminated array of C strings, and what must stay alive with it."""
    held = [libc.hold(libc.string(text) + b"\0") for text in texts]
    return libc.hold(pack(f"{len(held) + 1}Q", *map(libc.address, held), 0)), held


def in_host_user_namespace() -> bool:
    """Whether this is the first user namespace: its inode number is fixed (PROC_USER_INIT_INO)."""
    return os.stat("/proc/self/ns/user").st_ino == 0xEFFFFFFD


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for ever.

    0 when there is no such process, or only its zombie.  Field 22 of proc_pid_stat(5); the
    name in field 2 may hold anything, so the count begins behind its last parenthesis.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # a file object costs as much again
        try:
            fields = os.read(fd, 4096).rpartition(b") ")[2].split()
        finally:
            os.close(fd)
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def age(pid: int) -> float:
    """Seconds since a process started, whatever was done to the clock; 0 of one that has ended."""
    ticks = start_time(pid)
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")) if ticks else 0.0


def ended() -> Iterator[tuple[int, int]]:
    """Pid and wait status of each child of ours that has ended.

    Who asks reaps it (waitpid(2)) before the next: until then the kernel tells nobody else of its end.
    """
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, _ENDED)
        except ChildProcessError:
            return
        if seen is None:
            return
        yield seen.si_pid, seen.si_status << 8 if seen.si_code == os.CLD_EXITED else seen.si_status


def has_children() -> bool:
    """Whether there is one, ended or not, that is not reaped."""
    try:
        os.waitid(os.P_ALL, 0, _ENDED)
        return True
    except ChildProcessError:
        return False


def write(path: str, text: str) -> None:
    """Tell the kernel something by a file of /proc, in one write(2)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def sethostname(name: str) -> None:
    data = os.fsencode(name)
    libc.call("sethostname", data, len(data), subject=name)


def setdomainname(name: str) -> None:
    data = os.fsencode(name)
    libc.call("setdomainname", data, len(data), subject=name)


def namespace_type(fd: int) -> int:
    """The CLONE_NEW... flag of the namespace that a descriptor stands for, 0 if it stands for none (ioctl_ns(2))."""
    try:
        return fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        return 0


def close_others(kept: Collection[int]) -> None:
    """Let go of all descriptors from 3 on but some: a pipe of the caller's would not end before its holder does."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # that of the directory itself
