"""The seccomp profile of a container of which nobody says otherwise, and profiles in Docker's format.

    profile(capabilities)           linux.seccomp for config.json, equal in effect to Docker's
    resolve(document, capabilities) the same from a file as `docker run --security-opt seccomp=FILE` takes

In effect it is the profile of moby 29 as of September 2026 (github.com/moby/profiles), arranged
by what the calls are for.  What is not named gets EPERM, or ENOSYS where it is newer than all
that is named.  Not here: what a filter is made of (seccomp_program.py).

One difference: `socketcall`, by which 32-bit programs make sockets of any family, is refused
unless asked for.  Docker refused it in 29.4.2, then left it to AppArmor and SELinux to tell
its families apart, which not every host has; without them any program could walk around the
list of families with int 0x80 (CVE-2026-31431).  For i386 images, pass `socketcall=True`.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ENOSYS = 38

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
ioctl lchown lchown32 link linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64
statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes vmsplice write writev
fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64
pselect6 pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
remap_file_pages
"""
_PROCESSES = """
execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid
ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause pidfd_open
pidfd_send_signal prctl prlimit64 restart_syscall riscv_hwprobe rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority
setrlimit setsid sigaltstack sigprocmask sigreturn sysinfo tgkill times tkill ugetrlimit uname uretprobe vfork
wait4 waitid waitpid
"""
_IDENTITY = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer getrandom gettimeofday nanosleep setitimer time timer_create
timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_MESSAGES = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
_ALWAYS = _FILES + _WAITING + _MEMORY + _PROCESSES + _IDENTITY + _TIME + _MESSAGES

# Families of sockets: 1 to 11, and these.  Missing are those that kernels dropped (DECnet, ECONET, ATMSVC,
# IRDA, WANPIPE, ISDN, CAIF), AF_ALG (38: the kernel's cryptography, CVE-2026-31431) and AF_VSOCK (40: the
# host's virtual machines).  A list of what is allowed, for the register has 64 bits and the family 32: "any
# but 38" would let 2^32 + 38 pass.
_FAMILIES = (
    13,
    14,
    15,
    16,
    17,
    18,
    21,
    22,
    24,
    26,
    27,
    28,
    29,
    30,
    31,
    32,
    33,
    35,
    36,
    39,
    41,
    42,
    43,
    44,
    45,
)
# PER_LINUX, PER_LINUX32, each with UNAME26, and the question what it is
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACES = 0x7E020000

# What a capability adds.
_GRANTED = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
    "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd "
    "setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
# What a machine adds, by Go's name of it.
_MACHINE = {
    "amd64": "arch_prctl modify_ldt",
    "386": "modify_ldt",
    "arm": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "riscv64": "riscv_flush_icache",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}
_MACHINE["arm64"] = _MACHINE["arm"]

# Architectures whose programs run beside the native one's, by Go's name of the latter.
_ARCHITECTURES = {
    "amd64": ("X86_64", "X86", "X32"),
    "arm64": ("AARCH64", "ARM"),
    "mips64": ("MIPS64", "MIPS", "MIPS64N32"),
    "mips64le": ("MIPSEL64", "MIPSEL", "MIPSEL64N32"),
    "s390x": ("S390X", "S390"),
    "riscv64": ("RISCV64",),
    "loong64": ("LOONGARCH64",),
}
_GO = {
    "x86_64": "amd64", "i386": "386", "i486": "386", "i586": "386", "i686": "386", "aarch64": "arm64",
    "armv6l": "arm", "armv7l": "arm", "armv8l": "arm", "loongarch64": "loong64",
}  # fmt: skip
# What profiles in Docker's format call a machine where Go calls it otherwise.
_PROFILE_NAMES = {"386": "x86", "mips64le": "mipsel64", "mipsle": "mipsel", "loong64": "loongarch64"}


def profile(
    capabilities: Iterable[str],
    machine: str | None = None,
    release: str | None = None,
    socketcall: bool = False,
) -> dict[str, Any]:
    """The default `linux.seccomp` for a process with these capabilities in its bounding set.

    machine, release  as uname(2) has them, of this host if None
    socketcall        let 32-bit programs of i386 and s390 make sockets, then of any family
    """
    go, kernel = _host(machine, release)
    granted = set(capabilities)
    names = set(_ALWAYS.split())
    if kernel >= (4, 8):  # before, a filter did not see what a tracer had changed
        names.update(("process_vm_readv", "process_vm_writev", "ptrace"))
    for capability, added in _GRANTED.items():
        if capability in granted:
            names.update(added.split())
    names.update(_MACHINE.get(go, "").split())
    if socketcall:
        names.add("socketcall")
    rules = [_rule(sorted(names))]
    if not socketcall:
        # not EPERM: runc drops rules that say what the default says, and lets through what `bind` allows
        rules.append(_rule(["socketcall"], "SCMP_ACT_ERRNO", ENOSYS))
    rules.append(_rule(["socket"], arg=(0, "SCMP_CMP_LT", 12)))
    rules += [_rule(["socket"], arg=(0, "SCMP_CMP_EQ", family)) for family in _FAMILIES]
    rules += [_rule(["personality"], arg=(0, "SCMP_CMP_EQ", persona)) for persona in _PERSONALITIES]
    if "CAP_SYS_ADMIN" not in granted:
        # clone3's flags lie behind a pointer; C libraries fall back to clone on ENOSYS
        rules.append(_rule(["clone"], arg=(1 if go == "s390x" else 0, "SCMP_CMP_MASKED_EQ", _NAMESPACES)))
        rules.append(_rule(["clone3"], "SCMP_ACT_ERRNO", ENOSYS))
    found: dict[str, Any] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1}
    if go in _ARCHITECTURES:
        found["architectures"] = [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES[go]]
    return {**found, "syscalls": rules}


def _rule(
    names: list[str],
    action: str = "SCMP_ACT_ALLOW",
    errno: int | None = None,
    arg: tuple[int, str, int] | None = None,
) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": action}
    if errno is not None:
        rule["errnoRet"] = errno
    if arg is not None:
        rule["args"] = [{"index": arg[0], "value": arg[2], "op": arg[1]}]
    return rule


def _host(machine: str | None, release: str | None) -> tuple[str, tuple[int, int]]:
    """Go's name of the machine, and the kernel's version."""
    host = os.uname()
    machine = machine or host.machine
    return _GO.get(machine, machine), _version(release or host.release)


def _version(text: str) -> tuple[int, int]:
    """Two numbers of "6.12.1-amd64"."""
    major, _, rest = text.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not major.isdecimal() or not minor:
        raise Error("not a kernel's version", text)
    return int(major), int(minor)


# -- Docker's format -------------------------------------------------------------------------


def resolve(
    document_: Any,
    capabilities: Iterable[str],
    machine: str | None = None,
    release: str | None = None,
    subject: str = "seccomp profile",
) -> dict[str, Any]:
    """The `linux.seccomp` that a profile in Docker's format means here.

    Beside runtime-spec's members it has `archMap` (architectures by the native one), and for
    each rule `includes` and `excludes` (`caps`, `arches`, `minKernel`) and the old `name`.
    """
    if not isinstance(document_, dict):
        raise document.wrong(subject, "", f"expected an object, got {document.shown(document_)}")
    go, kernel = _host(machine, release)
    known = _Here(_PROFILE_NAMES.get(go, go), frozenset(capabilities), kernel)
    members = (
        "defaultAction",
        "defaultErrnoRet",
        "architectures",
        "flags",
        "listenerPath",
        "listenerMetadata",
    )
    found = {name: document_[name] for name in members if document_.get(name) is not None}
    arch_map = document_.get("archMap")
    if arch_map:
        if found.get("architectures"):
            raise document.wrong(subject, "archMap", "cannot be given together with architectures")
        native = f"SCMP_ARCH_{_ARCHITECTURES.get(go, ('',))[0]}"
        for at, entry in enumerate(_objects(arch_map, subject, "archMap")):
            if entry.get("architecture") == native:
                more = entry.get("subArchitectures") or []
                found["architectures"] = [native, *_texts(more, subject, f"archMap[{at}].subArchitectures")]
                break
    rules = []
    for at, entry in enumerate(_objects(document_.get("syscalls") or [], subject, "syscalls")):
        path = f"syscalls[{at}]"
        includes = known.all_of(entry.get("includes") or {}, subject, f"{path}.includes")
        excluded = known.any_of(entry.get("excludes") or {}, subject, f"{path}.excludes")
        if includes and not excluded:
            rules.append(_plain(entry, subject, path))
    return {**found, "syscalls": rules}


class _Here:
    """What conditions of a rule are about."""

    def __init__(self, arch: str, capabilities: frozenset[str], kernel: tuple[int, int]) -> None:
        self.arch, self.capabilities, self.kernel = arch, capabilities, kernel

    def all_of(self, filter_: dict[str, Any], subject: str, path: str) -> bool:
        arches, caps, kernel = self._read(filter_, subject, path)
        arch = not arches or self.arch in arches
        return arch and self.capabilities.issuperset(caps) and (kernel is None or self.kernel >= kernel)

    def any_of(self, filter_: dict[str, Any], subject: str, path: str) -> bool:
        arches, caps, kernel = self._read(filter_, subject, path)
        return (
            self.arch in arches
            or not self.capabilities.isdisjoint(caps)
            or (kernel is not None and self.kernel >= kernel)
        )

    @staticmethod
    def _read(filter_: Any, subject: str, path: str) -> tuple[list[str], list[str], tuple[int, int] | None]:
        if not isinstance(filter_, dict):
            raise document.wrong(subject, path, f"expected an object, got {document.shown(filter_)}")
        arches = _texts(filter_.get("arches") or [], subject, f"{path}.arches")
        caps = _texts(filter_.get("caps") or [], subject, f"{path}.caps")
        least = filter_.get("minKernel")
        if not least:
            return arches, caps, None
        try:
            return arches, caps, _version(str(least))
        except Error:
            what = f"expected a kernel's version, got {document.shown(least)}"
            raise document.wrong(subject, f"{path}.minKernel", what) from None


def _plain(entry: dict[str, Any], subject: str, path: str) -> dict[str, Any]:
    """A rule with runtime-spec's members only."""
    rule = {name: entry[name] for name in ("names", "action", "errnoRet", "args") if entry.get(name)}
    if entry.get("name"):
        if "names" in rule:
            raise document.wrong(subject, f"{path}.name", "cannot be given together with names")
        rule["names"] = [entry["name"]]
    if entry.get("errnoRet") == 0:
        rule["errnoRet"] = 0
    return rule


def _objects(value: Any, subject: str, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise document.wrong(subject, path, f"expected an array of objects, got {document.shown(value)}")
    return value


def _texts(value: Any, subject: str, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise document.wrong(subject, path, f"expected an array of strings, got {document.shown(value)}")
    return value
