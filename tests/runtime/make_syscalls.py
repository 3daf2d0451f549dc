"""Write oci_tools/runtime/syscalls.json from the kernel's own headers.

    make_syscalls.py DIRECTORY...      each /usr/lib/linux/uapi of Debian's linux-libc-dev, newest first

Older headers add what newer ones no longer name: a profile may still name it, and an old
kernel still does it.  `test_syscalls.py` reads the headers at hand the same way and compares.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "oci_tools/runtime/syscalls.json"

# libseccomp's name of the table, the kernel's header, and what its numbers count from.
HEADERS = {
    "x86_64": ("x86/asm/unistd_64.h", 0),
    "x86": ("x86/asm/unistd_32.h", 0),
    "x32": ("x86/asm/unistd_x32.h", 0x40000000),
    "aarch64": ("arm64/asm/unistd_64.h", 0),
    "arm": ("arm/asm/unistd-eabi.h", 0),
    "riscv64": ("riscv/asm/unistd_64.h", 0),
    "loongarch64": ("loongarch/asm/unistd_64.h", 0),
    "ppc64": ("powerpc/asm/unistd_64.h", 0),
    "ppc": ("powerpc/asm/unistd_32.h", 0),
    "s390x": ("s390/asm/unistd_64.h", 0),
    "s390": ("s390/asm/unistd_32.h", 0),
    "mips64": ("mips/asm/unistd_n64.h", 5000),
    "mips64n32": ("mips/asm/unistd_n32.h", 6000),
    "mips": ("mips/asm/unistd_o32.h", 4000),
    "parisc64": ("parisc/asm/unistd_64.h", 0),
    "parisc": ("parisc/asm/unistd_32.h", 0),
    "m68k": ("m68k/asm/unistd_32.h", 0),
    "sh": ("sh/asm/unistd_32.h", 0),
}
# What the headers say by other means than a number: arm's private calls and one second name.
ARM = {"sync_file_range2": 341, "breakpoint": 0xF0001, "cacheflush": 0xF0002, "usr26": 0xF0003, "usr32": 0xF0004,
       "set_tls": 0xF0005, "get_tls": 0xF0006}  # fmt: skip

_DEFINE = re.compile(r"#define __NR_(\w+)\s+\(?(?:__\w+ \+ )?(\d+)\)?\s*$", re.M)
_BOUNDS = {"Linux", "syscalls", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "SYSCALL_MASK"}


def read(directory: Path, table: str) -> dict[str, int]:
    """Names and numbers of one table in one set of headers; nothing where it has no such header."""
    header, base = HEADERS[table]
    if not (directory / header).exists():
        return {}
    found = {name: base + int(number) for name, number in _DEFINE.findall((directory / header).read_text())}
    return {name: number for name, number in found.items() if name not in _BOUNDS} | (ARM if table == "arm" else {})


def packed(numbers: dict[str, int]) -> list[str]:
    """The names in the order of their numbers, in lines; `=N` says that the next name's number is N."""
    words, expected = [], 0
    for number, name in sorted((number, name) for name, number in numbers.items()):
        if number != expected:
            words.append(f"={number}")
        words.append(name)
        expected = number + 1
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 105:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def main(directories: list[str]) -> None:
    tables: dict[str, list[str]] = {}
    for table in HEADERS:
        numbers: dict[str, int] = {}
        for directory in directories:
            numbers = read(Path(directory), table) | numbers
        tables[table] = packed(numbers)
        print(f"{table}: {len(numbers)} names, up to {max(numbers.values())}")
    TABLE.write_text(json.dumps(tables, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
