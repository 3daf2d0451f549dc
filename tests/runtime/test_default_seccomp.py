"""The default seccomp profile: what a container may do, what it may not, what a capability changes; Docker's format."""

from __future__ import annotations

import os

import pytest

from oci_tools.errors import Error
from oci_tools.linux import seccomp as kernel
from oci_tools.runtime import check, default_seccomp, seccomp, seccomp_rules, spec, syscalls
from tests.runtime import bpf

ALLOWED, EPERM, ENOSYS = kernel.SECCOMP_RET_ALLOW, kernel.SECCOMP_RET_ERRNO | 1, kernel.SECCOMP_RET_ERRNO | 38
NEWUSER, NEWNET = 0x10000000, 0x40000000


def filters(*more: str, machine: str = "x86_64", release: str = "6.12.0-amd64", **how: bool):
    """What the default profile does with a call: says(name or number, argument..., arch=)."""
    profile = default_seccomp.profile({*spec.CAPABILITIES, *more}, machine, release, **how)
    program = seccomp.compile_program(profile, machine)
    bpf.check(program)

    def says(call: str | int, *args: int, arch: str = "") -> int:
        arch = arch or seccomp_rules.runnable(machine)[0]
        number = syscalls.table(arch.lower())[call] if isinstance(call, str) else call
        return bpf.run(program, number, seccomp_rules.AUDIT_ARCH[arch], args)

    return says


def test_what_programs_need_is_allowed() -> None:
    says = filters()
    for name in (
        "read write openat openat2 close mmap mprotect execve exit_group fork vfork wait4 kill rt_sigaction statx getdents64 "
        "connect accept4 sendmsg setuid capset prctl seccomp landlock_create_ruleset rseq futex_waitv ptrace memfd_create "
        "pidfd_open mknod chown chroot arch_prctl modify_ldt name_to_handle_at mseal statmount setxattrat inotify_init1"
    ).split():
        assert says(name) == ALLOWED, name
    for name in "chown32 mmap2 _llseek clock_gettime64 socketpair stat64 waitpid set_thread_area".split():
        assert says(name, arch="X86") == ALLOWED, name
    assert says("execve", arch="X32") == ALLOWED


def test_what_reaches_the_host_is_not() -> None:
    says = filters()
    for name in (
        "mount umount2 pivot_root unshare setns move_mount fsopen open_tree mount_setattr sethostname bpf perf_event_open "
        "userfaultfd keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register kexec_load "
        "kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct settimeofday clock_settime "
        "syslog open_by_handle_at process_madvise pidfd_getfd kcmp iopl ioperm lookup_dcookie nfsservctl quotactl vhangup "
        "uselib ustat sysfs _sysctl vserver get_mempolicy mbind move_pages migrate_pages fanotify_init"
    ).split():
        assert says(name) == EPERM, name
    for name in "stime umount oldumount vm86 vm86old mount".split():
        if name in syscalls.table("x86"):
            assert says(name, arch="X86") == EPERM, name


def test_what_is_newer_does_not_exist() -> None:
    says = filters()
    assert says("removexattrat") == ALLOWED
    assert [says(name) for name in ("open_tree_attr", "file_setattr", "listns", 5000)] == [ENOSYS] * 4
    assert says("file_setattr", arch="X86") == says(0x40000000 + 600, arch="X32") == ENOSYS


def test_sockets_are_of_known_families() -> None:
    says = filters()
    for name, arch in (("socket", "X86_64"), ("socket", "X32"), ("socket", "X86")):
        refused = [family for family in range(1, 60) if says(name, family, arch=arch) != ALLOWED]
        assert refused == [12, 19, 20, 23, 25, 34, 37, 38, 40, *range(46, 60)]
    assert says("socket", 1 << 32 | 38) == says("socket", 1 << 32 | 40) == EPERM  # of which the kernel reads 32 bits


def test_the_door_to_sockets_of_any_family_is_closed_unless_asked_for() -> None:
    for number in (1, 2, 3, 16):
        assert filters()("socketcall", number, arch="X86") == ENOSYS
        assert filters(socketcall=True)("socketcall", number, arch="X86") == ALLOWED
    assert filters(machine="s390x")("socketcall", 1, arch="S390") == ENOSYS


def test_new_processes_but_no_new_namespaces() -> None:
    says = filters()
    assert says("clone", 0x01200011) == says("clone", 0x3D0F00) == ALLOWED
    for bit in (0x00020000, 0x02000000, 0x04000000, 0x08000000, NEWUSER, 0x20000000, NEWNET):
        assert says("clone", bit | 17) == says("clone", bit | 17, arch="X86") == EPERM
    assert says("clone3") == ENOSYS  # its flags cannot be seen
    assert filters(machine="s390x")("clone", 0, NEWUSER) == EPERM  # where the flags come second
    assert filters(machine="s390x")("clone", NEWUSER, 0) == ALLOWED
    assert filters("CAP_SYS_ADMIN")("clone", NEWUSER) == filters("CAP_SYS_ADMIN")("clone3") == ALLOWED


def test_personalities() -> None:
    says = filters()
    assert [value for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 0x400000, 1) if says("personality", value) == ALLOWED] == [
        0, 8, 0x20000, 0x20008, 0xFFFFFFFF,
    ]  # fmt: skip


@pytest.mark.parametrize("capability", sorted(default_seccomp._GRANTED))
def test_a_capability_opens_its_calls_and_no_others(capability: str) -> None:
    without, granted = {*spec.CAPABILITIES} - {capability}, default_seccomp._GRANTED[capability].split()
    before = default_seccomp.profile(without, "x86_64", "6.12")["syscalls"][0]["names"]
    after = default_seccomp.profile({*without, capability}, "x86_64", "6.12")["syscalls"][0]["names"]
    assert set(after) == {*before, *granted} and set(after) != set(before)


def test_machines() -> None:
    assert filters(machine="aarch64")("cacheflush", arch="ARM") == ALLOWED
    assert filters(machine="riscv64")("riscv_flush_icache") == ALLOWED
    assert filters(machine="s390x")("s390_pci_mmio_read") == ALLOWED
    assert default_seccomp.profile([], "x86_64")["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert "architectures" not in default_seccomp.profile([], "ppc64le")
    for machine in ("x86_64", "i686", "aarch64", "armv7l", "riscv64", "loongarch64", "ppc64le", "s390x", "mips64"):
        assert filters(machine=machine)("read") == ALLOWED and filters(machine=machine)("pivot_root") == EPERM


def test_tracing_waits_for_a_kernel_in_which_a_tracer_cannot_undo_the_filter() -> None:
    assert filters(release="4.7.9")("ptrace") == EPERM and filters(release="4.8")("ptrace") == ALLOWED
    assert filters("CAP_SYS_PTRACE", release="4.4.0")("ptrace") == ALLOWED


def test_it_is_a_valid_part_of_a_configuration_and_small() -> None:
    config = spec.default()
    config["linux"]["seccomp"] = default_seccomp.profile(spec.CAPABILITIES)
    check.check(config)
    program = seccomp.compile_program(config["linux"]["seccomp"], os.uname().machine)
    assert len(program) // 8 < 450


# -- Docker's format --------------------------------------------------------------------------------

DOCUMENT = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ],
    "comment": "not for the runtime",
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
        {"name": "write", "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x", "arm64"]}},
        {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
        {"names": ["f"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}},
    ],
}


def names(capabilities: str = "", machine: str = "x86_64", release: str = "6.1.0-13") -> str:
    found = default_seccomp.resolve(DOCUMENT, capabilities.split(), machine, release)
    return "".join(name for rule in found["syscalls"] for name in rule["names"] if len(name) == 1)


def test_conditions_of_dockers_format() -> None:
    assert names() == "bcde"
    assert names("CAP_A") == "cde"
    assert names("CAP_A CAP_B CAP_C") == "acde"
    assert names(machine="aarch64") == "be"
    assert names(machine="riscv64", release="5.9.200") == "bdf"
    assert names(release="5.10.0") == "bcde" and names(release="10.0") == "bcde"


def test_what_dockers_format_becomes() -> None:
    found = default_seccomp.resolve(DOCUMENT, [], "x86_64", "6.1")
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert default_seccomp.resolve(DOCUMENT, [], "riscv64", "6.1")["architectures"] == ["SCMP_ARCH_RISCV64"]
    assert "architectures" not in default_seccomp.resolve(DOCUMENT, [], "s390x", "6.1")
    assert found["syscalls"][:2] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
    ]
    assert not {"archMap", "comment"} & set(found)
    config = spec.default()
    config["linux"]["seccomp"] = found
    check.check(config)


@pytest.mark.parametrize("change, said", [
    ({"architectures": ["SCMP_ARCH_X86"]}, "archMap: cannot be given together with architectures"),
    ({"archMap": {}, "syscalls": {"a": 1}}, 'syscalls: expected an array of objects, got {"a":1}'),
    ({"syscalls": ["a"]}, 'syscalls: expected an array of objects, got ["a"]'),
    ({"syscalls": [{"name": "a", "names": ["b"]}]}, "syscalls[0].name: cannot be given together with names"),
    ({"syscalls": [{"includes": ["CAP_A"]}]}, 'syscalls[0].includes: expected an object, got ["CAP_A"]'),
    ({"syscalls": [{"includes": {"caps": "CAP_A"}}]}, 'syscalls[0].includes.caps: expected an array of strings, got "CAP_A"'),
    ({"syscalls": [{"excludes": {"minKernel": "new"}}]}, 'syscalls[0].excludes.minKernel: expected a kernel\'s version, got "new"'),
    ({"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": "X86"}]},
     'archMap[0].subArchitectures: expected an array of strings, got "X86"'),
])  # fmt: skip
def test_nonsense_in_dockers_format_is_named(change: dict, said: str) -> None:
    with pytest.raises(Error) as caught:
        default_seccomp.resolve({**DOCUMENT, **change}, [], "x86_64", "6.1", subject="p.json")
    assert str(caught.value) == f"p.json: {said}"


def test_a_profile_that_is_no_object() -> None:
    with pytest.raises(Error, match=r"^p.json: expected an object, got \[\]$"):
        default_seccomp.resolve([], [], subject="p.json")
