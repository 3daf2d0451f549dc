"""linux.seccomp: what a filter decides, against a plain reading of the profile, libseccomp, and the kernel itself."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.linux import seccomp as kernel
from oci_tools.runtime import check, default_seccomp, seccomp, seccomp_rules, spec, syscalls
from tests.runtime import bpf

TOP = Path(seccomp.__file__).parents[2]
ALLOW, ERRNO, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
X32 = 0x40000000
EPERM, ENOSYS = 0x50001, 0x50026
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
PC = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


def compiled(profile: dict, machine: str = "x86_64") -> bytes:
    program = seccomp.compile_program(profile, machine)
    bpf.check(program)
    return program


def rule(names: str, action: str = ALLOW, *args: tuple, errno: int | None = None) -> dict:
    """`args` are (index, operator without its prefix, value, valueTwo)."""
    made: dict = {"names": names.split(), "action": action}
    if args:
        made["args"] = [{"index": a[0], "op": f"SCMP_CMP_{a[1]}", "value": a[2]} for a in args]
        for one, a in zip(made["args"], args, strict=True):
            one.update({"valueTwo": a[3]} if len(a) > 3 else {})
    if errno is not None:
        made["errnoRet"] = errno
    return made


def of(*rules: dict, default: str = ERRNO, arches: tuple = PC, **more: object) -> dict:
    return {"defaultAction": default, "architectures": list(arches), "syscalls": list(rules), **more}


# -- a plain reading of a profile, for one call at a time ---------------------------------------

DOORS = {
    "socketcall": "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom "
    "shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg".split(),
    "ipc": [*"semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - -".split(),
            *"shmat shmdt shmget shmctl".split()],
}  # fmt: skip
RANK = ["KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "NOTIFY", "TRACE", "LOG", "ALLOW"]
COMPARE = {
    "EQ": lambda a, v, w: a == v, "NE": lambda a, v, w: a != v, "LT": lambda a, v, w: a < v,
    "LE": lambda a, v, w: a <= v, "GT": lambda a, v, w: a > v, "GE": lambda a, v, w: a >= v,
    "MASKED_EQ": lambda a, v, w: a & v == w & v,
}  # fmt: skip


def action_of(entry: dict, name: str = "action", errno: str = "errnoRet") -> tuple[str, int]:
    short = entry[name].removeprefix("SCMP_ACT_")
    short = "KILL_THREAD" if short == "KILL" else short
    return short, entry.get(errno, 1) if short in ("ERRNO", "TRACE") else 0


def value_of(action: tuple[str, int]) -> int:
    name = {"NOTIFY": "USER_NOTIF"}.get(action[0], action[0])
    return int(getattr(kernel, f"SECCOMP_RET_{name}") | action[1])


def matches(entry: dict, args: tuple[int, ...], bits: int) -> bool:
    conditions = entry.get("args") or []
    results = []
    for one in conditions:
        low = (1 << bits) - 1
        compare = COMPARE[one["op"].removeprefix("SCMP_CMP_")]
        results.append(compare(args[one["index"]] & low, one["value"] & low, one.get("valueTwo", 0) & low))
    repeated = len({one["index"] for one in conditions}) < len(conditions)
    return any(results) if repeated else all(results)


def reading(profile: dict, arch: str, number: int, args: tuple[int, ...]) -> int:
    """What the profile says of a call of this architecture, an x32 call's number having its bit."""
    table = syscalls.table(arch.lower())
    bits = 64 if arch in ("X86_64", "AARCH64", "RISCV64", "S390X", "PPC64LE", "LOONGARCH64", "MIPSEL64") else 32
    default = action_of(profile, "defaultAction", "defaultErrnoRet")
    entries = profile.get("syscalls", [])
    here = {name for name, its in table.items() if its == number}
    for entry in entries:
        if here.intersection(entry["names"]) and matches(entry, args, bits):
            return value_of(action_of(entry))
    for door, calls in DOORS.items():
        if door in here:
            which = args[0] & (0xFFFF if door == "ipc" else 0xFFFFFFFF)
            name = calls[which - 1] if 1 <= which <= len(calls) else "-"
            possible = []
            for entry in entries:
                if name in entry["names"]:
                    possible.append(action_of(entry))
                    if not entry.get("args"):
                        break
            else:
                if possible:
                    possible.append(default)
            if possible:
                return value_of(min(possible, key=lambda one: RANK.index(one[0])))
    named = {table[name] for entry in entries for name in entry["names"] if name in table}
    for door, calls in DOORS.items():
        if door in table and any(name in calls for entry in entries for name in entry["names"]):
            named.add(table[door])
    named = {its for its in named if arch != "ARM" or its < 0xF0000}
    private = arch == "ARM" and 0xF0001 <= number <= 0xF0006
    if named and number not in named and not private and default[0] not in ("ALLOW", "LOG", "TRACE"):
        if number > max(named) or (number == 0 and arch in ("S390", "S390X")):
            return ENOSYS
    return value_of(default)


def decided(profile: dict, machine: str, audit: int, number: int, args: tuple[int, ...]) -> int:
    """What the profile says of any call on a machine."""
    arches = seccomp_rules.architectures(profile, machine)
    if audit == X86_64 and X32 <= number < 0xFFFFFFFF:
        fitting = [name for name in arches if name == "X32"]
    else:
        fitting = [name for name in arches if seccomp_rules.AUDIT_ARCH[name] == audit and name != "X32"]
    if not fitting:
        return KILLED
    if (audit, number) == (X86_64, 0xFFFFFFFF):
        number = 0x3FFFFFFF  # by which a tracer skips a call: above all of the native numbers
    return reading(profile, fitting[0], number, args)


# -- profiles that nobody would write -------------------------------------------------------------

NAMES = (
    "read write open close mmap mmap2 mprotect clone clone3 socket bind recv accept4 ptrace ioctl personality _llseek "
    "shmget semop msgctl ipc socketcall chown32 openat2 mseal listns set_tls cacheflush riscv_hwprobe arch_prctl "
    "execve rt_sigaction no_such_call another"
).split()
VALUES = st.one_of(
    st.integers(0, 3),
    st.sampled_from([0xF, 0x7E020000, 0xFFFFFFFF, 1 << 31, 1 << 32, (1 << 32) + 1, (5 << 32) + 2, (1 << 63), (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
ACTIONS = sorted(seccomp_rules.ACTIONS)


@st.composite
def entries(draw: st.DrawFn) -> dict:
    action = draw(st.sampled_from(ACTIONS))
    made: dict = {"names": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)), "action": action}
    if action == "SCMP_ACT_NOTIFY":
        made["names"] = [name for name in made["names"] if name != "write"] or ["read"]
    if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") and draw(st.booleans()):
        made["errnoRet"] = draw(st.integers(0, 4095))
    if draw(st.booleans()):
        args = st.fixed_dictionaries(
            {"index": st.integers(0, 5) | st.just(0), "value": VALUES,
             "op": st.sampled_from([f"SCMP_CMP_{name}" for name in COMPARE]) | st.just("SCMP_CMP_EQ")},
            optional={"valueTwo": VALUES},
        )  # fmt: skip
        made["args"] = draw(st.lists(args, max_size=3))
    return made


MACHINES = {"x86_64": PC, "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"), "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
            "ppc64le": ("SCMP_ARCH_PPC64LE",), "mips64": ("SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL")}  # fmt: skip


@st.composite
def profiles(draw: st.DrawFn, most: int = 12) -> tuple[str, dict]:
    machine = draw(st.sampled_from(sorted(MACHINES)) | st.just("x86_64"))
    default = draw(st.sampled_from([name for name in ACTIONS if name != "SCMP_ACT_NOTIFY"]))
    made = of(*draw(st.lists(entries(), max_size=most)), default=default, listenerPath="/run/agent")
    made["architectures"] = draw(st.lists(st.sampled_from([*MACHINES[machine], "SCMP_ARCH_RISCV64"]), unique=True))
    if default in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") and draw(st.booleans()):
        made["defaultErrnoRet"] = draw(st.integers(0, 4095))
    return machine, made


@st.composite
def calls(draw: st.DrawFn, machine: str, profile: dict) -> tuple[int, int, tuple[int, ...]]:
    """A call that the profile is likely to say something about."""
    audit = draw(st.sampled_from([seccomp_rules.AUDIT_ARCH[name] for name in seccomp_rules.runnable(machine)] + [I386]))
    tables = [syscalls.table(name.lower()) for name, its in seccomp_rules.AUDIT_ARCH.items() if its == audit]
    numbers = [table[name] for table in tables for name in NAMES if name in table]
    number = draw(
        st.sampled_from(numbers) | st.sampled_from(numbers).map(lambda its: (its + 1) % (1 << 32))
        | st.integers(0, 600) | st.integers(0, (1 << 32) - 1) | st.sampled_from([X32, X32 + 471, 0xFFFFFFFF, 0xF0002])
    )  # fmt: skip
    used = [one[key] for entry in profile["syscalls"] for one in entry.get("args", ()) for key in ("value", "valueTwo") if key in one]
    near = st.sampled_from(used or [0]).flatmap(lambda v: st.sampled_from([v, v + 1, v - 1, v ^ (1 << 40), v & 0xFFFFFFFF]))
    args = draw(st.tuples(*[st.integers(0, 30) | near.map(lambda v: v % (1 << 64)) | VALUES] * 6))
    return audit, number, args


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_program_decides_what_the_profile_says(data: st.DataObject) -> None:
    machine, profile = data.draw(profiles())
    program = compiled(profile, machine)
    for _ in range(12):
        audit, number, args = data.draw(calls(machine, profile))
        assert bpf.run(program, number, audit, args) == decided(profile, machine, audit, number, args)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_long_program_jumps_as_far_as_it_must(data: st.DataObject) -> None:
    """Conditional jumps reach 255 instructions: with hundreds of rules, each different, they do not suffice."""
    names = data.draw(st.lists(st.sampled_from(sorted(syscalls.table("x86_64"))), unique=True, min_size=100, max_size=150))
    tests = [data.draw(st.sampled_from(sorted(COMPARE))) for _ in names]
    profile = of(*(
        rule(name, ACTIONS[i % len(ACTIONS)], (i % 6, op, i << 30 | i, i << 30), (5 - i % 6, "NE", i))
        for i, (name, op) in enumerate(zip(names, tests, strict=True)) if name not in ("write", "sendmsg")
    ), listenerPath="/run/agent")  # fmt: skip
    program = compiled(profile)
    assert len(program) > 255 * 8
    table = syscalls.table("x86_64")
    for i, name in enumerate(names):
        for args in ((i << 30 | i,) * 6, (0,) * 6, (i << 30,) * 6, tuple(i << 30 | i if a == i % 6 else 7 for a in range(6))):
            assert bpf.run(program, table[name], X86_64, args) == decided(profile, "x86_64", X86_64, table[name], args)


def test_a_program_that_the_kernel_would_not_take() -> None:
    names = sorted(syscalls.table("x86_64"))
    profile = of(*(rule(name, ALLOW, *((a, "GT", i << 32 | i) for a in range(6))) for i, name in enumerate(names)))
    with pytest.raises(Error, match=r"^config.json: linux.seccomp: too many rules: \d+ instructions, of which .* 4096$"):
        seccomp.compile_program(profile, "x86_64")


# -- what others get wrong, one by one ---------------------------------------------------------------


def says(profile: dict, *call: object, machine: str = "x86_64") -> int:
    """The verdict on (name or number, argument...) of the native architecture, or (AUDIT_ARCH, number, argument...)."""
    program = compiled(profile, machine)
    if isinstance(call[0], str):
        native = seccomp_rules.runnable(machine)[0]
        call = (seccomp_rules.AUDIT_ARCH[native], syscalls.table(native.lower())[call[0]], *call[1:])
    return bpf.run(program, call[1], call[0], tuple(call[2:]))  # type: ignore[arg-type]


def test_every_action() -> None:
    want = {"KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "ERRNO": 0x50001, "TRACE": 0x7FF00001,
            "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000, "NOTIFY": 0x7FC00000}  # fmt: skip
    for name, value in want.items():
        default = KILL if name == "ALLOW" else ALLOW
        assert says(of(rule("read", f"SCMP_ACT_{name}"), default=default, listenerPath="/x"), "read") == value
    assert says(of(rule("read", ERRNO, errno=5), default=ALLOW), "read") == 0x50005
    assert says(of(rule("read", "SCMP_ACT_TRACE", errno=70), default=ALLOW), "read") == 0x7FF00046
    assert says(of(rule("close"), defaultErrnoRet=13), "read") == 0x5000D
    assert says(of(rule("close")), "read") == EPERM


def test_architectures_are_filtered_that_nobody_named() -> None:
    """The native one is filtered by the rules, and a foreign one cannot be the way around them."""
    profile = of(rule("write"), arches=("SCMP_ARCH_X86",))
    assert says(profile, "write") == ALLOWED and says(profile, "read") == EPERM
    assert says(profile, I386, 4) == ALLOWED and says(profile, I386, 3) == EPERM
    for native in ({"defaultAction": ALLOW}, of(default=ALLOW, arches=()), of(default=ALLOW, arches=PC[:1])):
        assert says(native, "read") == ALLOWED
        assert says(native, I386, 3) == KILLED
        assert says(native, AARCH64, 63) == KILLED
        assert says(native, X86_64, X32) == KILLED
        assert says(native, X86_64, 0xFFFFFFFF) == ALLOWED  # a tracer's way to skip a call
    assert says(of(default=ALLOW, arches=("SCMP_ARCH_AARCH64",)), AARCH64, 63) == KILLED  # nothing that runs here


def test_x32_is_the_same_architecture_with_other_numbers() -> None:
    profile = of(rule("read ioctl"))
    assert says(profile, X86_64, X32) == ALLOWED
    assert says(profile, X86_64, X32 + 514) == ALLOWED  # ioctl
    assert says(profile, X86_64, X32 + 16) == EPERM  # x86-64's ioctl is none of x32's
    assert says(profile, X86_64, 514) == ENOSYS and says(profile, X86_64, 16) == ALLOWED
    assert says(profile, X86_64, X32 + 515) == ENOSYS and says(profile, X86_64, X32 + 1) == EPERM


def test_calls_newer_than_the_profile_do_not_exist() -> None:
    profile = of(rule("read openat2"))
    assert says(profile, "close") == says(profile, X86_64, 436) == EPERM
    assert says(profile, X86_64, 438) == says(profile, X86_64, 5000) == says(profile, I386, 438) == ENOSYS
    assert says(of(rule("read openat2"), default=KILL), X86_64, 438) == ENOSYS
    for permissive in (ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE"):
        assert says(of(rule("read", KILL), default=permissive), X86_64, 5000) != ENOSYS
    assert says(of(), X86_64, 5000) == EPERM  # a profile that names nothing is no measure
    arm = of(rule("read set_tls"), arches=("SCMP_ARCH_ARM",))  # whose private numbers are none either
    assert says(arm, ARM, 0xF0005, machine="aarch64") == ALLOWED
    assert says(arm, ARM, 0xF0002, machine="aarch64") == EPERM
    assert says(arm, ARM, 400, machine="aarch64") == ENOSYS
    assert says(of(rule("read")), "setup" if "setup" in syscalls.table("s390x") else 0x80000016, 0, machine="s390x") == ENOSYS


def test_names_that_there_are_not() -> None:
    assert says(of(rule("no_such_call mmap2 read")), "read") == ALLOWED
    assert says(of(rule("mmap2")), I386, 192) == ALLOWED


def test_rules_of_one_call_are_alternatives_and_conditions_of_one_rule_are_not() -> None:
    profile = of(rule("socket", ALLOW, (0, "EQ", 1)), rule("socket", ALLOW, (0, "EQ", 2), (1, "EQ", 3)))
    assert says(profile, "socket", 1, 9) == says(profile, "socket", 2, 3) == ALLOWED
    assert says(profile, "socket", 2, 9) == says(profile, "socket", 9, 3) == EPERM


def test_conditions_on_the_same_argument_are_alternatives_as_in_runc() -> None:
    profile = of(rule("socket", ALLOW, (0, "EQ", 2), (0, "EQ", 16), (1, "EQ", 5)))
    assert says(profile, "socket", 2, 1) == says(profile, "socket", 16, 1) == says(profile, "socket", 1, 5) == ALLOWED
    assert says(profile, "socket", 1, 1) == EPERM


def test_the_first_rule_that_matches_counts() -> None:
    profile = of(rule("socket", ERRNO, (0, "EQ", 38), errno=97), rule("socket"), rule("socket", KILL))
    assert says(profile, "socket", 38) == 0x50061 and says(profile, "socket", 2) == ALLOWED
    same = of(rule("socket", ERRNO, (0, "EQ", 38)), rule("socket"))  # though that is the default action, too
    assert says(same, "socket", 38) == EPERM and says(same, "socket", 2) == ALLOWED


def test_arguments_have_64_bits() -> None:
    big = 5 << 32 | 7
    for op, below, equal, above in (("EQ", 0, 1, 0), ("NE", 1, 0, 1), ("LT", 1, 0, 0), ("LE", 1, 1, 0), ("GT", 0, 0, 1), ("GE", 0, 1, 1)):
        profile = of(rule("read", ALLOW, (2, op, big)))
        for value, passes in ((big, equal), (big - 1, below), (big + 1, above), (big - (1 << 32), below),
                              (big + (1 << 32), above), (4 << 32 | 9, below), (6 << 32, above), (7, below)):  # fmt: skip
            assert (says(profile, "read", 0, 0, value) == ALLOWED) == bool(passes), (op, hex(value))
    masked = of(rule("read", ALLOW, (0, "MASKED_EQ", 0xF0000000F, 0x300000005)))
    assert says(masked, "read", 0x1300000075) == ALLOWED
    assert says(masked, "read", 0x1200000075) == says(masked, "read", 0x1300000076) == EPERM
    assert says(of(rule("read", ALLOW, (0, "MASKED_EQ", 0xF0))), "read", 0xFF0F) == ALLOWED


def test_arguments_of_32_bit_processes_have_32() -> None:
    profile = of(rule("munmap", ALLOW, (0, "EQ", (1 << 64) - 1)), rule("read", ALLOW, (0, "NE", 5)))
    assert says(profile, I386, 91, 0xFFFFFFFF) == ALLOWED and says(profile, I386, 91, 5) == EPERM
    assert says(profile, X86_64, X32 | 0, 1 << 32 | 5) == EPERM  # an x32 call's register has 64, of which it means 32
    assert says(profile, "munmap", 0xFFFFFFFF) == EPERM


def test_the_door_to_sockets_opens_for_what_is_allowed() -> None:
    plain = of(rule("bind recv"))
    assert [says(plain, I386, 102, number) for number in (2, 10, 1, 3, 21, 0)] == [ALLOWED, ALLOWED, EPERM, EPERM, EPERM, EPERM]
    refused = of(rule("bind", ERRNO, errno=5), default=ALLOW)
    assert says(refused, I386, 102, 2) == 0x50005 and says(refused, I386, 102, 3) == ALLOWED
    hidden = of(rule("socket", ALLOW, (0, "LT", 12)))  # the family lies behind a pointer
    assert says(hidden, I386, 102, 1) == EPERM and says(hidden, I386, 359, 2) == ALLOWED
    own = of(rule("bind"), rule("socketcall", ERRNO, errno=38))
    assert says(own, I386, 102, 2) == ENOSYS and says(own, I386, 361) == ALLOWED
    version = of(rule("shmget", KILL), default=ALLOW)
    assert says(version, I386, 117, 23) == says(version, I386, 117, 1 << 16 | 23) == KILLED
    assert says(version, I386, 117, 24) == ALLOWED


@pytest.mark.parametrize("where, what, said", [
    ("defaultAction", "SCMP_ACT_NO", "linux.seccomp.defaultAction: expected one of SCMP_ACT_ALLOW, "),
    ("defaultAction", "SCMP_ACT_NOTIFY", "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default"),
    ("defaultErrnoRet", 5, "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no error number"),
    ("architectures", ["X86"], "linux.seccomp.architectures[0]: expected one of SCMP_ARCH_AARCH64, "),
    ("flags", ["LOG"], "linux.seccomp.flags[0]: expected one of SECCOMP_FILTER_FLAG_LOG, "),
    ("listenerMetadata", "x", "linux.seccomp.listenerMetadata: needs listenerPath"),
    ("syscalls", [{"names": [], "action": ALLOW}], "linux.seccomp.syscalls[0].names: expected at least 1 item"),
    ("syscalls", [{"names": ["a"]}], "linux.seccomp.syscalls[0].action: missing"),
    ("syscalls", [rule("a", "ALLOW")], "linux.seccomp.syscalls[0].action: expected one of "),
    ("syscalls", [rule("a", KILL, errno=1)], "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_KILL_PROCESS takes no error number"),
    ("syscalls", [rule("a", ERRNO, errno=5000)], "linux.seccomp.syscalls[0].errnoRet: "),
    ("syscalls", [rule("a", "SCMP_ACT_NOTIFY")], "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath"),
    ("syscalls", [rule("a", ALLOW, (0, "XX", 1))], "linux.seccomp.syscalls[0].args[0].op: expected one of SCMP_CMP_EQ, "),
    ("syscalls", [rule("a", ALLOW, (6, "EQ", 1))], "linux.seccomp.syscalls[0].args[0].index: "),
    ("syscalls", [rule("a", ALLOW, (0, "EQ", -1))], "linux.seccomp.syscalls[0].args[0].value: "),
])  # fmt: skip
def test_nonsense_is_named(where: str, what: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_ROOT", str(tmp_path))
    with pytest.raises(Error) as caught:
        seccomp.prepare({"linux": {"seccomp": {"defaultAction": ALLOW, where: what}}})
    assert str(caught.value).startswith(f"config.json: {said}")
    assert not (tmp_path / "cache").exists()


def test_a_machine_that_nobody_knows() -> None:
    with pytest.raises(Error, match="^cannot filter system calls 'vax': no table of this machine's system calls$"):
        seccomp.compile_program({"defaultAction": ALLOW}, "vax")


# -- against libseccomp ---------------------------------------------------------------------------------

PEER = """
import json, os, sys
import seccomp as lib
def action(name, errno):
    name = name[9:]
    if name in ("ERRNO", "TRACE"): return getattr(lib, name)(1 if errno is None else errno)
    return getattr(lib, {"KILL_THREAD": "KILL"}.get(name, name))
for line in sys.stdin:
    profile = json.loads(line)
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    made = lib.SyscallFilter(default)
    for name in profile["architectures"]:
        if name != "SCMP_ARCH_X86_64": made.add_arch(getattr(lib.Arch, name[10:]))
    for entry in profile["syscalls"]:
        what = action(entry["action"], entry.get("errnoRet"))
        if what == default: continue
        args = [lib.Arg(a["index"], getattr(lib, a["op"][9:]), a["value"], a.get("valueTwo", 0)) for a in entry.get("args", ())]
        each = [[a] for a in args] if len({a["index"] for a in entry.get("args", ())}) < len(args) else [args]
        for name in entry["names"]:
            if lib.resolve_syscall(lib.Arch(), name) == -1: continue
            for one in each:
                try: made.add_rule(what, name, *one)
                except RuntimeError as error:
                    if "-17" not in str(error): raise RuntimeError(f"{error}: {name} {entry}")
    fd = os.memfd_create("program")
    with os.fdopen(fd, "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        print(file.read().hex(), flush=True)
"""


@pytest.fixture(scope="module")
def peer():
    """Compiles a profile with libseccomp, in the way runc asks it to."""
    if subprocess.run(["/usr/bin/python3", "-c", "import seccomp"], capture_output=True).returncode:
        pytest.skip("needs python3-seccomp; tests/run --setup installs it on Debian as root")
    with subprocess.Popen(["/usr/bin/python3", "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(profile: dict) -> bytes:
            process.stdin.write(json.dumps(profile) + "\n")
            process.stdin.flush()
            return bytes.fromhex(process.stdout.readline())

        yield ask
        process.stdin.close()


# Where libseccomp says nothing, or something else on purpose (see seccomp_rules.py), they are not compared:
# calls newer than the profile, several actions for one call, arguments behind socketcall and ipc.  Nor where
# libseccomp 2.6.0 errs: it sometimes forgets to load the number of an x32 call, loses one of `< 0` and `< 2^32`,
# and may not come to an end on alternatives of several conditions.
ALIKE = [name for name in NAMES if name not in ("listns", *DOORS, *DOORS["socketcall"], *DOORS["ipc"])]


@st.composite
def alike(draw: st.DrawFn) -> dict:
    rules = []
    for name in draw(st.lists(st.sampled_from(ALIKE), unique=True, min_size=1, max_size=8)):
        action = f"SCMP_ACT_{draw(st.sampled_from('ALLOW ERRNO TRAP LOG KILL_PROCESS TRACE'.split()))}"
        if draw(st.booleans()):
            each = st.tuples(st.sampled_from([*COMPARE, "EQ"]), VALUES, VALUES)
            indexes = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
            rules.append(rule(name, action, *[(index, *draw(each)) for index in indexes]))
        else:
            index = draw(st.integers(0, 5))
            rules += [rule(name, action, (index, "EQ", value)) for value in draw(st.lists(VALUES, max_size=4))]
    rules.append(rule("sync bind", draw(st.sampled_from([ALLOW, ERRNO, KILL]))))
    return of(*rules, default=draw(st.sampled_from([ALLOW, ERRNO, KILL, "SCMP_ACT_LOG"])), arches=PC[:2])


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_libseccomp_agrees(data: st.DataObject, peer) -> None:
    profile = data.draw(alike())
    ours, theirs = compiled(profile), peer(profile)
    for _ in range(12):
        audit, number, args = data.draw(calls("x86_64", profile))
        if audit == I386:
            args = tuple(value & 0xFFFFFFFF for value in args)
        verdict = bpf.run(ours, number, audit, args)
        if verdict == ENOSYS:
            continue
        if verdict == KILLED and (audit not in (X86_64, I386) or number >= X32):
            verdict = 0  # the thread only
        assert verdict == bpf.run(theirs, number, audit, args), (hex(number), hex(audit), args)


def test_libseccomp_agrees_on_the_default_profile(peer) -> None:
    """Every call there is, with the arguments that the profile looks at."""
    profile = default_seccomp.profile(spec.CAPABILITIES, "x86_64", "6.12.0")
    ours, theirs = compiled(profile), peer(profile)
    assert len(ours) < len(theirs)
    values = [*range(64), 0x20000, 0x20008, 0xFFFFFFFF, 0x10000000, 0x40000000, 0x02000000, 0x01200011, 1 << 32, 1 << 32 | 38]
    for audit, first, last in ((X86_64, 0, 466), (X86_64, X32, X32 + 547), (I386, 0, 466)):
        named = {syscalls.table(one)[name] for one in ("x86_64", "x86", "x32") for name in ("socket", "personality", "clone", "ipc") if name in syscalls.table(one)}
        for number in range(first, last + 1):
            for value in values if number in named else (0,):
                verdict = bpf.run(ours, number, audit, (value,))
                assert verdict == bpf.run(theirs, number, audit, (value,)) or verdict == ENOSYS, (hex(audit), number, hex(value))


# -- programs kept compiled ---------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    return tmp_path / "root/cache/seccomp"


CONFIG = {"linux": {"seccomp": of(rule("read write exit_group"), arches=())}}


def compiles(config: dict = CONFIG) -> bool:
    """Whether `prepare` had to compile; what it gives is right either way."""
    seen, real = [], seccomp.compile_program
    seccomp.compile_program = lambda *args: seen.append(args) or real(*args)  # type: ignore[func-returns-value]
    try:
        made = seccomp.prepare(config)
    finally:
        seccomp.compile_program = real
    assert made.program == real(config["linux"]["seccomp"], os.uname().machine)
    return bool(seen)


def test_no_profile_no_filter(cache: Path) -> None:
    assert seccomp.prepare({}) is None and seccomp.prepare({"linux": {"seccomp": None}}) is None
    assert not cache.exists()


def test_a_profile_is_compiled_once(cache: Path) -> None:
    assert compiles() and not compiles()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    flagged = {"linux": {"seccomp": {**CONFIG["linux"]["seccomp"], "flags": []}}}
    assert not compiles(flagged)  # flags are not part of the program
    for change in ({"defaultAction": KILL}, {"defaultErrnoRet": 3}, {"architectures": ["SCMP_ARCH_X86"]}, {"syscalls": []}):
        other = {"linux": {"seccomp": {**CONFIG["linux"]["seccomp"], **change}}}
        assert compiles(other) and not compiles(other)


def test_what_is_not_whole_or_not_ours_is_not_trusted(cache: Path, tmp_path: Path) -> None:
    compiles()
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for data in (b"", whole[:-8], whole + bytes(8), bytes(len(whole)), whole[:40] + b"\xff" + whole[41:], b"x" * 31):
        kept.write_bytes(data)
        assert compiles() and not compiles()
    kept.chmod(0o622)
    assert compiles()
    kept.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    assert compiles() and kept.is_file() and not kept.is_symlink()
    kept.unlink()
    os.mkfifo(kept)
    assert compiles()
    compiles({"linux": {"seccomp": of()}})
    (other,) = set(cache.iterdir()) - {kept}
    kept.unlink(missing_ok=True)
    os.link(other, kept)  # the program of another profile
    assert compiles()
    cache.chmod(0o777)
    assert compiles() and compiles()


@pytest.mark.root
def test_another_users_cache_is_not_trusted(cache: Path) -> None:
    compiles()
    (kept,) = cache.iterdir()
    os.chown(kept, 65534, 65534)
    assert compiles()
    os.chown(cache, 65534, 65534)
    assert compiles() and compiles()


def test_a_cache_that_cannot_be_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "file"))
    assert compiles() and compiles()


def test_the_oldest_programs_go(cache: Path) -> None:
    compiles()
    (first,) = cache.iterdir()
    os.utime(first, (1, 1))
    for number in range(70):
        (cache / f"{number}.new").write_text("")  # as a killed writer leaves them
    compiles({"linux": {"seccomp": of()}})
    assert len(list(cache.iterdir())) == 64 and not first.exists()
    assert not compiles({"linux": {"seccomp": of()}})


def test_flags() -> None:
    def flags(*names: str, **more: object) -> int:
        profile = of(rule("read"), flags=[f"SECCOMP_FILTER_FLAG_{name}" for name in names], **more)
        return seccomp.Filter(profile, b"x" * 8).flags

    agent = rule("mkdir", "SCMP_ACT_NOTIFY")
    assert seccomp.Filter(of(), b"x" * 8).flags == 4  # SPEC_ALLOW, as runc and crun
    assert [flags(), flags("LOG"), flags("TSYNC"), flags("LOG", "SPEC_ALLOW"), flags("WAIT_KILLABLE_RECV")] == [0, 2, 0, 6, 0]
    assert seccomp.Filter(of(agent, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), b"x" * 8).flags == 32 + 8


# -- the kernel itself ------------------------------------------------------------------------------------

CHILD = f"""
import sys; sys.path[:0] = [{str(TOP)!r}]
import os, signal, _socket
from oci_tools import document
from oci_tools.linux import libc, seccomp as kernel
from oci_tools.runtime import seccomp
made = seccomp.prepare({{"linux": {{"seccomp": document.loads(sys.stdin.buffer.read())}}}})
def errno(name, *args):
    number = name if isinstance(name, int) else libc.NR[name]
    libc.NR[""] = number
    try: return libc.call("", *args) and 0
    except OSError as error: return error.errno
def install():
    kernel.no_new_privs()
    return made.install()
"""


def child(profile: dict, code: str, tmp_path: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with a filter `made` from the profile."""
    return subprocess.run(
        [sys.executable, "-IS", "-c", CHILD + code], input=json.dumps(profile), capture_output=True, text=True,
        env={"OCI_ROOT": str(tmp_path / "root")}, **more,
    )  # fmt: skip


def test_a_process_meets_its_filter(tmp_path: Path) -> None:
    profile = of(
        rule("getppid", ERRNO, errno=71), rule("getpgid", ERRNO, (0, "EQ", 7 << 32 | 1), errno=72),
        rule("getsid", "SCMP_ACT_TRACE"), rule("getuid", "SCMP_ACT_LOG"), default=ALLOW,
    )  # fmt: skip
    numbers = syscalls.table(seccomp_rules.runnable(os.uname().machine)[0].lower())
    named = {name: numbers[name] for name in ("getppid", "getpgid", "getsid", "getuid", "getgid")}
    done = child(profile, f"install(); n = {named!r}" + """
print(errno(n["getppid"]), errno(n["getpgid"], 7 << 32 | 1), errno(n["getpgid"], 0), errno(n["getsid"], 0), errno(n["getgid"]))
print(errno(n["getuid"]) is not None)""", tmp_path)  # fmt: skip
    assert done.stdout == "71 72 0 38 0\nTrue\n", done.stderr


@pytest.mark.parametrize("action, died", [(KILL, True), ("SCMP_ACT_KILL", True), ("SCMP_ACT_TRAP", True), (ERRNO, False)])
def test_a_process_that_is_killed(action: str, died: bool, tmp_path: Path) -> None:
    done = child(of(rule("mkdir mkdirat", action), default=ALLOW, arches=()), "install()\ntry: os.mkdir('/x/y')\nexcept OSError as e: print(e.errno)", tmp_path)
    assert (done.returncode, done.stdout) == ((-signal.SIGSYS, "") if died else (0, "1\n")), done.stderr


def test_a_filter_is_installed_without_loading_anything(tmp_path: Path) -> None:
    done = child(of(rule("mkdir mkdirat", ERRNO), default=ALLOW), """
kernel.no_new_privs()
sys.path.clear(); sys.meta_path.clear(); sys.path_hooks.clear(); sys.path_importer_cache.clear()
__import__("builtins").__import__ = None
print(made.install(), made.notify)""", tmp_path)  # fmt: skip
    assert done.stdout == "-1 False\n", done.stderr


def test_a_kept_program_needs_no_compiler(tmp_path: Path) -> None:
    profile = default_seccomp.profile(spec.CAPABILITIES)
    code = "print(*sorted(name for name in sys.modules if 'seccomp' in name or 'syscalls' in name or 'rules' in name))"
    assert "seccomp_rules" in child(profile, code, tmp_path).stdout
    assert child(profile, code, tmp_path).stdout == "oci_tools.linux.seccomp oci_tools.runtime.seccomp\n"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=profiles(most=40))
def test_the_kernel_takes_every_program(made: tuple[str, dict]) -> None:
    """Installed in a process that then ends: by itself, if the filter lets it, or by the alarm."""
    machine, profile = made
    code = "kernel.no_new_privs(); signal.setitimer(signal.ITIMER_REAL, 0.2); kernel.set_mode_filter(fprog, 0); os._exit(0)"
    start = CHILD.partition("made = ")[0] + "fprog = kernel.sock_fprog(sys.stdin.buffer.read())\n"
    done = subprocess.run([sys.executable, "-IS", "-c", start + code], input=compiled(profile, machine), capture_output=True)
    assert b"Traceback" not in done.stderr and done.returncode <= 0


INT80 = """
import mmap, _ctypes
page = mmap.mmap(-1, 4096, prot=7)
#       push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; pop rbx; ret
page.write(bytes.fromhex("53 89f8 89f3 89d1 31d2 cd80 5b c3"))
class One(_ctypes.Array): _type_ = libc._Byte; _length_ = 4096
class Int(_ctypes._SimpleCData): _type_ = "i"
class Call(_ctypes.CFuncPtr): _flags_ = _ctypes.FUNCFLAG_CDECL; _restype_ = Int
here = One.from_buffer(page)
call = Call(_ctypes.addressof(here)); call.argtypes = (Int, Int, Int)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is x86's")
def test_int_0x80_is_no_way_around(tmp_path: Path) -> None:
    """A 64-bit process can make the 32-bit calls, too."""
    if child(of(default=ALLOW), INT80 + "call(20, 0, 0)", tmp_path).returncode:
        pytest.skip("this kernel has no 32-bit calls")
    native = of(rule("mkdir", ERRNO), default=ALLOW, arches=PC[:1])
    assert child(native, INT80 + "install(); call(20, 0, 0)", tmp_path).returncode == -signal.SIGSYS
    both = of(rule("mkdir", ERRNO, errno=71), default=ALLOW)
    assert child(both, INT80 + "install(); print(call(39, 0, 0), call(20, 0, 0) > 0)", tmp_path).stdout == "-71 True\n"
    usual = default_seccomp.profile(spec.CAPABILITIES)
    code = "install(); print(call(102, 1, 0), call(359, 38, 5), call(359, 40, 1), call(359, 2, 1) > 0)"
    assert child(usual, INT80 + code, tmp_path).stdout == "-38 -1 -1 True\n"


def test_an_agent_that_closes_as_soon_as_it_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As runc's does: what is sent after that, and be it nothing, would be an error."""
    import _socket

    class Closing(_socket.socket):
        def sendmsg(self, *what: Any) -> int:
            sent = super().sendmsg(*what)
            accepted = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, listening._accept()[0])
            accepted.recv(1 << 16)
            accepted.close()
            return sent

    listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "agent"))
    listening.listen()
    monkeypatch.setattr(_socket, "socket", Closing)
    told = {"linux": {"seccomp": {"listenerPath": str(tmp_path / "agent")}}}
    seccomp.hand_over(told, 0, {"ociVersion": "1.3.0", "id": "c1", "pid": 1, "bundle": "/b"})


def test_an_agent_decides(tmp_path: Path) -> None:
    """The descriptor reaches the socket with one state document, and the answer the process."""
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket  # as hand_over does

    path, heard = str(tmp_path / "agent"), {}
    listening = socket(AF_UNIX, SOCK_STREAM)
    listening.bind(path)
    listening.listen()

    def agent() -> None:
        import fcntl

        connection = socket(AF_UNIX, SOCK_STREAM, 0, listening._accept()[0])
        data, ancillary, _, _ = connection.recvmsg(1 << 16, 1024)
        ((level, kind, rights),) = ancillary
        assert (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
        while more := connection.recv(1 << 16):
            data += more
        heard["state"] = json.loads(data)
        (fd,) = struct.unpack("i", rights[:4])
        request = bytearray(80)  # struct seccomp_notif
        fcntl.ioctl(fd, 0xC0502100, request)  # SECCOMP_IOCTL_NOTIF_RECV
        identity, pid = struct.unpack_from("QI", request)
        heard["pid"] = pid
        # struct seccomp_notif_resp: id, val, error, flags
        fcntl.ioctl(fd, 0xC0182101, struct.pack("QqiI", identity, 0, -73, 0))  # SECCOMP_IOCTL_NOTIF_SEND

    profile = of(rule("mkdir mkdirat", "SCMP_ACT_NOTIFY"), default=ALLOW, listenerPath=path, listenerMetadata="hello",
                 flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])  # fmt: skip
    thread = threading.Thread(target=agent)
    thread.start()
    done = child(profile, f"""
fd = install()
state = {{"ociVersion": "1.3.0", "id": "c1", "pid": os.getpid(), "bundle": "/b", "annotations": {{"a": "b"}}}}
seccomp.hand_over({{"linux": {{"seccomp": {{"listenerPath": {path!r}, "listenerMetadata": made.listener_metadata}}}}}}, fd, state)
os.close(fd)
print(os.getpid(), made.notify, made.listener_path)
try: os.mkdir("/x/y")
except OSError as error: print(error.errno)
""", tmp_path)  # fmt: skip
    thread.join()
    listening.close()
    pid, rest = done.stdout.split(" ", 1)
    assert rest == f"True {path}\n73\n", done.stderr
    assert heard["pid"] == int(pid)
    state = heard["state"].pop("state")
    assert heard["state"] == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": int(pid), "metadata": "hello"}
    assert (state["id"], state["status"], state["bundle"], state["annotations"]) == ("c1", "creating", "/b", {"a": "b"})


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    config = {"linux": {"seccomp": {"listenerPath": str(tmp_path / "none")}}}
    with pytest.raises(Error, match="^failed to connect with seccomp agent '.*/none': no such file or directory$"):
        seccomp.hand_over(config, 0, {"ociVersion": "1.3.0", "id": "c", "pid": 1, "bundle": "/b"})


def test_the_check_of_a_configuration_agrees_with_the_compiler() -> None:
    """A profile that check.py lets through compiles: every name it accepts has a number."""
    config = spec.default()
    for action in ACTIONS:
        for op in COMPARE:
            config["linux"]["seccomp"] = of(rule("read", action, (0, op, 1)), listenerPath="/x", arches=sorted(
                f"SCMP_ARCH_{name}" for name in seccomp_rules.AUDIT_ARCH))  # fmt: skip
            check.check(config)
            compiled(config["linux"]["seccomp"])
    from oci_tools.runtime.fields import ARCHITECTURES

    assert {f"SCMP_ARCH_{name}" for name in seccomp_rules.AUDIT_ARCH} == ARCHITECTURES



def test_what_is_told_to_engines_is_what_there_is() -> None:
    from oci_tools.runtime import features

    told = features._seccomp()
    assert told["enabled"] and set(told["actions"]) == set(ACTIONS)
    assert set(told["operators"]) == {f"SCMP_CMP_{name}" for name in COMPARE}
    assert set(PC) < set(told["archs"])
    assert set(told["supportedFlags"]) <= set(told["knownFlags"]) == set(seccomp.FLAGS)
    assert "SECCOMP_FILTER_FLAG_SPEC_ALLOW" in told["supportedFlags"]
    assert not kernel.flags_supported(1 << 20)


@pytest.mark.root
def test_a_program_of_an_annotation(box: Any) -> None:
    """run.oci.seccomp_bpf_data of crun: the program itself, in base64, whatever the profile says."""
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_KILL_PROCESS"}
    load, equals, done = 0x20, 0x15, 0x06  # BPF_LD|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    steps = [(load, 0, 0, 0), (equals, 0, 1, syscalls.table("x86_64")["mkdir"]), (done, 0, 0, 0x5000D), (done, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    box.spec["annotations"] = {"run.oci.seccomp_bpf_data": base64.b64encode(program).decode()}
    assert box.says("mkdir /x 2>&1; grep Seccomp: /proc/self/status").split("\n")[0] == "mkdir: can't create directory '/x': Permission denied"
    for text, what in ("", "expected 1 to"), ("AAAA", "expected 1 to"), ("%", ""), ("A" * 8 * 8200, "expected 1 to"):
        box.spec["annotations"] = {"run.oci.seccomp_bpf_data": text}
        said = box("run", code=1).stderr
        assert said.startswith("oci-run: config.json: annotations['run.oci.seccomp_bpf_data']: " + what), said
        assert said.count("\n") == 1


@pytest.mark.root
@pytest.mark.parametrize("call", ["faccessat2", "getcwd", "close_range", "openat2 statx faccessat2 getcwd"])
@pytest.mark.parametrize("privileges", [True, False])
def test_a_profile_that_denies_what_we_use_after_it(box: Any, call: str, privileges: bool) -> None:
    """A filter that comes before the capabilities go holds for our last steps too: they need no call that a profile may lack."""
    box.process["noNewPrivileges"] = not privileges
    box.linux["seccomp"] = of(rule(call, ERRNO, errno=1), default=ALLOW)
    assert box.sh("echo ran").stdout == "ran\n"
