"""Compile init.c into the programs of oci_tools/container/init.py:

    python3 -m tests.container.make_init [MACHINE...]

Prints a module's constant for each machine; a test compares what the compiler of this Debian makes of it.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("init.c")
# The first words of what Debian calls its compilers of version 14, and of the rest that belongs to them.
COMPILERS = {"x86_64": "x86_64-linux-gnu-", "aarch64": "aarch64-linux-gnu-"}
FLAGS = (
    "-Os -ffreestanding -nostdlib -static -fpie -fno-stack-protector -fno-asynchronous-unwind-tables -fno-builtin "
    "-fomit-frame-pointer -fno-tree-loop-distribute-patterns -Wall -Wextra -Werror"
).split()
MACHINE_FLAGS = {"x86_64": ["-fcf-protection=none"], "aarch64": ["-mbranch-protection=none", "-mno-outline-atomics"]}
# Where init.py has it loaded: aarch64 reckons in pages of where it was linked.
SCRIPT = "ENTRY(_start) SECTIONS { . = 0x100b0; .all : { *(.text.first) *(.text*) *(.rodata*) } /DISCARD/ : { *(*) } }"


def code(machine: str) -> bytes:
    """The instructions and constants of the program, which may be loaded anywhere and begin at their first byte."""
    prefix = COMPILERS[machine]
    with tempfile.TemporaryDirectory() as work:
        script, linked, raw = f"{work}/script", f"{work}/init", f"{work}/raw"
        Path(script).write_text(SCRIPT)
        words = [f"{prefix}gcc-14", *FLAGS, *MACHINE_FLAGS[machine], "-Wl,--no-dynamic-linker,--build-id=none", f"-Wl,-T,{script}"]
        subprocess.run([*words, "-o", linked, SOURCE], check=True)
        subprocess.run([f"{prefix}objcopy", "-O", "binary", "-j", ".all", linked, raw], check=True)
        return Path(raw).read_bytes()


if __name__ == "__main__":
    for name in sys.argv[1:] or COMPILERS:
        made = code(name)
        text = base64.b64encode(made).decode()
        lines = [text[at : at + 108] for at in range(0, len(text), 108)]
        print(f'    "{name}": (  # {len(made)} bytes')
        print("\n".join(f'        "{line}"' for line in lines))
        print("    ),")
