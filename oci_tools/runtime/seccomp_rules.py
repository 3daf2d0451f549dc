"""What a seccomp profile means: runtime-spec, config-linux.md "Seccomp".

    rules_of    the profile for one architecture: {number: ((conditions, action), ...)}
    spans_of    the same with every number there is: [(first number, rules), ...]
    sections    those of every architecture that this machine runs

Pure functions; seccomp_program.py makes instructions of the result.  What the
specification leaves open is decided here:

- The native architecture is filtered whether the profile names it or not; a call of one that
  it does not name kills the process, or rules could be walked around (int 0x80).
- Of several rules for a call the first that matches counts; after a rule without conditions
  none does.  (libseccomp agrees, but lets a rule without conditions win over earlier ones too.)
- All conditions of a rule must hold; but if two of them are on the same argument, each is a
  rule of its own, as runc, crun and youki have it and profiles rely on.
- Names that an architecture does not have are no error.
- Where the default action refuses, a number above every number that the profile names gets
  ENOSYS (runc does so too): it is newer than the profile, and C libraries then use what is older.
- A 32-bit process has 32-bit arguments, so values are compared as such, and -1 stays -1.
- socketcall(2) and ipc(2) are doors to calls that a profile names: what it says about `bind`
  holds for socketcall(SYS_BIND, ...) unless it says something about `socketcall` itself.
  Arguments lie behind a pointer there: with conditions the strictest possible action counts.
"""

from __future__ import annotations

import sys

from oci_tools.errors import Error
from oci_tools.linux import seccomp as kernel
from oci_tools.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Condition = tuple[int, str, int, int, bool]  # argument, operator, value, valueTwo, are they 32 bits
    Rule = tuple[tuple[Condition, ...], int]  # all must hold; what the filter then returns
    Rules = tuple[Rule, ...]  # the last one has no conditions
    Spans = list[tuple[int, Rules]]

EPERM, ENOSYS = 1, 38

ACTIONS = {
    "SCMP_ACT_KILL": kernel.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": kernel.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": kernel.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": kernel.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": kernel.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": kernel.SECCOMP_RET_TRACE,
    "SCMP_ACT_ALLOW": kernel.SECCOMP_RET_ALLOW,
    "SCMP_ACT_LOG": kernel.SECCOMP_RET_LOG,
    "SCMP_ACT_NOTIFY": kernel.SECCOMP_RET_USER_NOTIF,
}
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_NO_SUCH_CALL: Rules = (((), kernel.SECCOMP_RET_ERRNO | ENOSYS),)
FOREIGN: Rules = (((), kernel.SECCOMP_RET_KILL_PROCESS),)

# AUDIT_ARCH_* (linux/audit.h): the ELF machine, and bits for 64-bit and little-endian.
_64BIT, _LE, _N32 = 0x80000000, 0x40000000, 0x20000000
AUDIT_ARCH = {
    "X86_64": 62 | _64BIT | _LE,
    "X32": 62 | _64BIT | _LE,
    "X86": 3 | _LE,
    "AARCH64": 183 | _64BIT | _LE,
    "ARM": 40 | _LE,
    "RISCV64": 243 | _64BIT | _LE,
    "LOONGARCH64": 258 | _64BIT | _LE,
    "PPC64LE": 21 | _64BIT | _LE,
    "PPC64": 21 | _64BIT,
    "PPC": 20,
    "S390X": 22 | _64BIT,
    "S390": 22,
    "MIPS64": 8 | _64BIT,
    "MIPS64N32": 8 | _64BIT | _N32,
    "MIPS": 8,
    "MIPSEL64": 8 | _64BIT | _LE,
    "MIPSEL64N32": 8 | _64BIT | _LE | _N32,
    "MIPSEL": 8 | _LE,
    "PARISC64": 15 | _64BIT,
    "PARISC": 15,
    "M68K": 4,
    "SH": 42 | _LE,
    "SHEB": 42,
}
# What a kernel can run, by uname(2)'s machine; the native architecture first.
_MACHINES = {
    "x86_64": ("X86_64", "X86", "X32"),
    "aarch64": ("AARCH64", "ARM"),
    "riscv64": ("RISCV64",),
    "loongarch64": ("LOONGARCH64",),
    "ppc64le": ("PPC64LE",),
    "ppc64": ("PPC64", "PPC"),
    "ppc": ("PPC",),
    "s390x": ("S390X", "S390"),
    "parisc64": ("PARISC64", "PARISC"),
    "parisc": ("PARISC",),
    "m68k": ("M68K",),
    "sh4": ("SH",),
    "sh4eb": ("SHEB",),
}
_X32_BIT = 0x40000000
_NARROW = frozenset(("X86", "X32", "ARM", "PPC", "S390", "MIPS", "MIPSEL", "MIPS64N32", "MIPSEL64N32", "PARISC",
                     "M68K", "SH", "SHEB"))  # fmt: skip
_ARM_PRIVATE = 0xF0000  # the calls that only arm has, far above those that it shares

# The calls that go through another one, and its first argument for each (linux/net.h, linux/ipc.h).
_DOORS = {
    "socketcall": {
        "socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
        "socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
        "getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
    },
    "ipc": {
        "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13,
        "msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
    },
}  # fmt: skip
_DOOR_BITS = {"socketcall": 0xFFFFFFFF, "ipc": 0xFFFF}  # ipc's upper half is a version; an int has 32 bits


def sections(profile: dict[str, Any], machine: str) -> dict[int, Spans]:
    """What a checked `linux.seccomp` says on a machine as uname(2) names it, by AUDIT_ARCH."""
    found: dict[int, Spans] = {}
    for name in architectures(profile, machine):
        found.setdefault(AUDIT_ARCH[name], []).extend(spans_of(profile, name))
    x86_64 = found.get(AUDIT_ARCH["X86_64"])
    if x86_64:
        _bound_x86_64(x86_64)
    return found


def architectures(profile: dict[str, Any], machine: str) -> list[str]:
    """The native architecture and those of the profile that the machine can run beside it."""
    able = runnable(machine)
    named = {name.removeprefix("SCMP_ARCH_") for name in profile.get("architectures") or ()}
    return [name for name in able if name == able[0] or name in named]


def runnable(machine: str) -> tuple[str, ...]:
    """The architectures whose programs a kernel runs, the native one first."""
    little = sys.byteorder == "little"
    if machine[:4] == "mips":
        names = ("MIPSEL64", "MIPSEL", "MIPSEL64N32") if little else ("MIPS64", "MIPS", "MIPS64N32")
        return names if machine[:6] == "mips64" else names[1:2]
    if machine[:3] == "arm":
        return ("ARM",)
    if machine[:1] == "i" and machine[-2:] == "86":
        return ("X86",)
    found = _MACHINES.get(machine)
    if found is None:
        raise Error("cannot filter system calls", machine, "no table of this machine's system calls")
    return found


# -- rules: what the profile says about one architecture -------------------------------------


def rules_of(profile: dict[str, Any], table: dict[str, int], narrow: bool) -> dict[int, Rules]:
    """What to do with each call that the profile names and the table has; `narrow` for 32-bit arguments."""
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    named: dict[str, list[Rule]] = {}
    for entry in profile.get("syscalls") or ():
        action = _action(entry["action"], entry.get("errnoRet"))
        added = [(conditions, action) for conditions in _conditions(entry.get("args") or (), narrow)]
        for name in entry["names"]:
            named.setdefault(name, []).extend(added)
    found = {}
    for name, rules in named.items():
        if name in table:
            found[table[name]] = rules
    for door, calls in _DOORS.items():
        if door in table:
            rules = list(named.get(door, ()))
            for name, call in calls.items():
                if name in named:
                    condition = (0, "SCMP_CMP_MASKED_EQ", _DOOR_BITS[door], call, narrow)
                    rules.append(((condition,), _strictest(named[name], default)))
            if rules:
                found[table[door]] = rules
    return {number: _settled(rules, default) for number, rules in found.items()}


def _action(name: str, errno: int | None) -> int:
    value = ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= EPERM if errno is None else errno
    return value


def _conditions(args: Sequence[dict[str, Any]], narrow: bool) -> list[tuple[Condition, ...]]:
    """The alternatives of a rule, each a conjunction."""
    mask = 0xFFFFFFFF if narrow else 0xFFFFFFFFFFFFFFFF
    each = tuple(
        (arg["index"], arg["op"], arg["value"] & mask, arg.get("valueTwo", 0) & mask, narrow) for arg in args
    )
    if len({condition[0] for condition in each}) < len(each):
        return [(condition,) for condition in each]
    return [each]


def _strictest(rules: list[Rule], default: int) -> int:
    """The strictest action of those that could be meant when arguments cannot be seen."""
    possible = []
    for conditions, action in rules:
        possible.append(action)
        if not conditions:
            break
    else:
        possible.append(default)
    return min(
        possible, key=lambda action: (action ^ 1 << 31) & 0xFFFF0000
    )  # signed, as the kernel ranks them


def _settled(rules: list[Rule], default: int) -> Rules:
    """Rules up to the one that always matches, less those that change nothing."""
    kept: list[Rule] = []
    for rule in rules:
        kept.append(rule)
        if not rule[0]:
            break
    else:
        kept.append(((), default))
    while len(kept) > 1 and kept[-2][1] == kept[-1][1]:
        del kept[-2]
    return tuple(kept)


# -- spans: the same for every number ----------------------------------------------------------


def spans_of(profile: dict[str, Any], name: str) -> Spans:
    """What to do from which call number on, up to the next."""
    table = syscalls.table(name.lower())
    rules = rules_of(profile, table, name in _NARROW)
    default: Rules = (((), _action(profile["defaultAction"], profile.get("defaultErrnoRet"))),)
    first = _X32_BIT if name == "X32" else 0
    beyond = max((number for number in rules if name != "ARM" or number < _ARM_PRIVATE), default=-1) + 1
    newer = _NO_SUCH_CALL if beyond and profile["defaultAction"] not in _PERMISSIVE else default
    if name == "ARM":
        for number in table.values():
            if number >= _ARM_PRIVATE:
                rules.setdefault(number, default)
    elif name in ("S390", "S390X"):
        rules.setdefault(0, newer)  # what the kernel leaves of a number that it does not know
    spans: Spans = []
    for number in sorted(rules):
        if first < number:
            spans.append((first, default if first < beyond else newer))
        spans.append((number, rules[number]))
        first = number + 1
    return [*spans, (first, default if first < beyond else newer)]


def _bound_x86_64(spans: Spans) -> None:
    """Keep x32's numbers from those who do not name it, and number -1, by which a tracer skips a call, from no one."""
    last = next(rules for first, rules in reversed(spans) if first < _X32_BIT)
    if spans[-1][0] < _X32_BIT:
        spans.append((_X32_BIT, FOREIGN))
    spans.append((0xFFFFFFFF, last))
