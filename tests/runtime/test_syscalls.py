"""The tables of system call numbers against the kernel's headers at hand."""

import os
from pathlib import Path

import pytest

from oci_tools import document
from oci_tools.linux import libc
from oci_tools.runtime import seccomp_rules, syscalls
from tests.runtime import make_syscalls

HEADERS = Path("/usr/lib/linux/uapi")  # Debian's linux-libc-dev


@pytest.mark.parametrize("name", make_syscalls.HEADERS)
def test_a_table_is_the_kernels(name: str) -> None:
    numbers = make_syscalls.read(HEADERS, name)
    if not numbers:
        pytest.skip(f"no header of {name} under {HEADERS}")
    table = syscalls.table(name)
    assert {word: table.get(word) for word in numbers} == numbers


def test_the_newest_calls_have_one_number_everywhere() -> None:
    base = {"x32": 0x40000000, "mips": 4000, "mips64": 5000, "mips64n32": 6000}
    for name in make_syscalls.HEADERS:
        if name != "s390":  # 31-bit programs are no longer run
            assert syscalls.table(name)["rseq_slice_yield"] == 471 + base.get(name, 0)


def test_every_architecture_has_a_table_and_one_that_is_native() -> None:
    assert all(syscalls.table(name.lower())["read"] >= 0 for name in seccomp_rules.AUDIT_ARCH)
    assert set(document.load(syscalls.FILE)) == set(make_syscalls.HEADERS)
    machines = ("x86_64", "i686", "aarch64", "armv7l", "riscv64", "loongarch64", "ppc64le", "s390x", "mips64")
    assert [seccomp_rules.runnable(machine)[0] for machine in machines] == [
        "X86_64", "X86", "AARCH64", "ARM", "RISCV64", "LOONGARCH64", "PPC64LE", "S390X", "MIPSEL64",
    ]  # fmt: skip


def test_our_own_numbers_agree() -> None:
    table = syscalls.table(seccomp_rules.runnable(os.uname().machine)[0].lower())
    assert {name: table[name] for name in libc.NR} == libc.NR


def test_packed_names_say_where_numbers_jump() -> None:
    numbers = {"one": 0, "two": 1, "far": 70, "too": 70, "up": 71}
    assert make_syscalls.packed(numbers) == ["one two =70 far =70 too up"]
