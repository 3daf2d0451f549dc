"""`process.capabilities`: names to sets, and the order in which a process takes them.

runtime-spec, "Process: capabilities"; capabilities(7).  A name that this kernel does not
know, or a capability that we do not hold ourselves, is a warning and not an error (runtime-spec:
"SHOULD log a warning"), so that one config.json works on many hosts.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import caps, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


class Wanted:
    """The five sets as bit masks; an absent set is empty."""

    def __init__(self, capabilities: dict[str, Any] | None) -> None:
        self.unknown: list[str] = []
        given = capabilities or {}
        self.bounding, self.effective, self.inheritable, self.permitted, self.ambient = (
            self._mask(given.get(name) or ()) for name in SETS
        )

    def __str__(self) -> str:
        words = [caps.NAMES[number] for number in range(len(caps.NAMES)) if self.permitted >> number & 1]
        return " ".join(words) or "none"

    def _mask(self, names: Iterable[str]) -> int:
        mask = 0
        for name in names:
            try:
                mask |= 1 << caps.NAMES.index(name)
            except ValueError:
                self.unknown.append(name)
        return mask

    def drop_bounding(self) -> None:
        """First, while CAP_SETPCAP is still held."""
        for number in range(64):
            if not self.bounding >> number & 1:
                try:
                    caps.drop_bounding(number)
                except OSError:
                    if number < len(caps.NAMES):
                        raise
                    return  # behind the kernel's last capability

    def take(self) -> None:
        """Last, after setuid (with PR_SET_KEEPCAPS held over it)."""
        _, held, _ = caps.capget()
        permitted = self.permitted & held
        inheritable = self.inheritable & held
        try:
            caps.clear_ambient()
            caps.capset(self.effective & permitted, permitted, inheritable)
            for number in range(64):
                if (self.ambient & permitted & inheritable) >> number & 1:
                    caps.raise_ambient(number)
        except OSError as error:
            raise Error("cannot set capabilities", None, error) from None


def keep_over_setuid(keep: bool) -> None:
    process.prctl(process.PR_SET_KEEPCAPS, int(keep))


def become(wanted: dict[str, Any], keep_groups: bool) -> None:
    """The payload's ids; capabilities survive to be set exactly."""
    uid, gid = wanted["uid"], wanted["gid"]
    mask = wanted.get("umask")
    os.umask(0o022 if mask is None else mask & 0o777)  # as umask(2) does, but Python takes no more than 31 bits
    try:
        keep_over_setuid(True)
        try:
            if not keep_groups:
                os.setgroups(wanted.get("additionalGids") or [])
        except PermissionError:
            if wanted.get("additionalGids") and wanted["additionalGids"] != [gid]:
                raise  # asked for and not to be had; else the user namespace has none to drop
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        keep_over_setuid(False)
    except OSError as error:
        hint = "is it mapped in the user namespace?" if error.errno == 22 else None
        raise Error("cannot become user", f"{uid}:{gid}", error, hint) from None
