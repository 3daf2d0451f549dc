"""`linux.netDevices`: links of the host moved into the container's network namespace.

runtime-spec 1.3, "Network Devices": a link keeps its permanent global addresses, gets its new name
with the move (`%d` in it is the kernel's to fill in), and is up afterwards.  It comes back or ends with the
namespace, as the kernel has it: nothing is undone here.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux.netlink import IFA_F_PERMANENT, RT_SCOPE_UNIVERSE, Rtnetlink, inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def move(devices: dict[str, dict[str, Any]], pid: int, joined: int = -1) -> None:
    """Move links into the network namespace of a process, or into the one of a descriptor."""
    theirs = joined if joined >= 0 else os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Rtnetlink() as here, inside(theirs) as there:
            for name, wanted in devices.items():
                try:
                    _move(here, there, theirs, name, wanted.get("name") or name)
                except OSError as error:
                    raise Error("cannot move network device", name, error) from None
    finally:
        if joined < 0:
            os.close(theirs)


def _move(here: Rtnetlink, there: Rtnetlink, namespace: int, name: str, inside: str) -> None:
    index = here.links().get(name)
    if index is None:
        raise OSError(19, os.strerror(19), name)
    kept = [one for one in here.addresses(index) if one.scope == RT_SCOPE_UNIVERSE and one.flags & IFA_F_PERMANENT]
    before = {*there.links().values()}
    here.set_up(index, False)
    here.move(index, namespace, inside)
    index = next(at for at in there.links().values() if at not in before)
    for one in kept:
        there.add_address(index, one)
    there.set_up(index, True)
