"""What a classic BPF program decides about a system call, by executing it as the kernel does (filter(7), seccomp(2))."""

from __future__ import annotations

import functools
import struct

LD, AND, JA, JEQ, JGE, JGT, RET = 0x20, 0x54, 0x05, 0x15, 0x35, 0x25, 0x06


@functools.lru_cache(4)
def instructions(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", program))


def check(program: bytes) -> None:
    """What the kernel's checker asks for, and that nothing is there that its cache of allowed calls cannot follow."""
    code = instructions(program)
    assert 0 < len(code) <= 4096 and code[-1][0] == RET
    for at, (op, yes, no, value) in enumerate(code):
        assert op in (LD, AND, JA, JEQ, JGE, JGT, RET)
        if op == LD:
            assert value % 4 == 0 and value < 64
        elif op == JA:
            assert at + 1 + value < len(code)
        elif op in (JEQ, JGE, JGT):
            assert at + 1 + max(yes, no) < len(code)


def run(program: bytes, number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the filter returns for one call."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *args, *(0,) * (6 - len(args)))
    code, at, word = instructions(program), 0, 0
    while True:
        op, yes, no, value = code[at]
        at += 1
        if op == RET:
            return value
        if op == LD:
            word = struct.unpack_from("=I", data, value)[0]
        elif op == AND:
            word &= value
        elif op == JA:
            at += value
        elif op == 0x45:  # JSET, which libseccomp's programs use
            at += yes if word & value else no
        else:
            at += yes if {JEQ: word == value, JGE: word >= value, JGT: word > value}[op] else no
