"""AppArmor profiles and SELinux labels of the payload, taken at its execve.

runtime-spec, "Process: apparmorProfile, selinuxLabel".  The kernel is told through the
host's own /proc, opened while it is in sight and checked to be one, so that nothing the
image mounts can swallow the write (CVE-2019-16884, CVE-2025-52881).
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROC_MAGIC = 0x9FA0


class Label:
    """What the next execve shall give this process: opened now, written as the last thing."""

    def __init__(self, process: dict[str, Any], proc: int = -1) -> None:
        """`proc`: a descriptor of the host's /proc, where it is out of sight."""
        self.fd, self.text, self.member = -1, b"", ""
        profile, label = process.get("apparmorProfile"), process.get("selinuxLabel")
        if profile:
            self.member, self.text = "apparmorProfile", b"exec " + os.fsencode(profile)
            self.fd = _open(proc, ("self/attr/apparmor/exec", "self/attr/exec"), profile, "AppArmor")
        elif label:
            self.member, self.text = "selinuxLabel", os.fsencode(label)
            self.fd = _open(proc, ("self/attr/exec",), label, "SELinux")

    def take(self) -> None:
        """Ask for it; the descriptor goes with the exec."""
        if self.fd >= 0:
            try:
                os.write(self.fd, self.text)
            except OSError as error:
                raise Error(f"cannot apply process.{self.member}", os.fsdecode(self.text), error) from None


def _open(proc: int, names: tuple[str, ...], subject: str, system: str) -> int:
    for name in names:
        try:
            if proc >= 0:
                fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
            else:
                fd = os.open(f"/proc/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            continue
        held = libc.buffer(120)
        libc.call("fstatfs", fd, libc.address(held))
        if int.from_bytes(bytes(held)[:8], "little") == _PROC_MAGIC:
            return fd
        os.close(fd)
    raise Error("cannot apply label", subject, f"this kernel has no {system}")
