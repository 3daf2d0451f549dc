"""bpf(2): load a program and attach it to a cgroup."""

from __future__ import annotations

import os
from struct import pack

from oci_tools.linux import libc

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2


def load(kind: int, program: bytes) -> int:
    """A descriptor of the loaded program; `program` is 8 bytes an instruction."""
    held, licence = libc.hold(program), libc.hold(b"Apache\0")
    attr = pack("IIQQIIQII", kind, len(program) // 8, libc.address(held), libc.address(licence), 0, 0, 0, 0, 0)
    return libc.call("bpf", BPF_PROG_LOAD, attr, len(attr))


def attach(program: int, cgroup: str, kind: int, flags: int) -> None:
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attr = pack("IIII", target, program, kind, flags)
        libc.call("bpf", BPF_PROG_ATTACH, attr, len(attr), subject=cgroup)
    finally:
        os.close(target)
