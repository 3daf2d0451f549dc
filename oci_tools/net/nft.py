"""nft(8), one transaction a call; and whether the kernel already has what we would say.

`nft -j -f -` with documents of libnftables-json(5), 1.8 ms as its words take; what nft prints as JSON is never read,
for it changes between versions.  Only admin.nft, which an administrator wrote, is in nft's words.  Nothing of what
people say gets into a document unless it is a name, a number or an address that conflist.py, ports.py or address.py
has let through.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error, missing
from oci_tools.linux.nfnetlink import Nfnetlink
from oci_tools.net import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROGRAM = "nft"
# Where it may be when PATH does not say so: sbin is not on a plain user's.
_PATHS = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")


def apply(commands: list[dict[str, Any]]) -> None:
    """Give the kernel commands, all of them or none."""
    _give(["-j"], document.dumps({"nftables": commands}))


def run(script: str) -> None:
    """The same in nft's own words."""
    _give([], script.encode())


def _give(options: list[str], data: bytes) -> None:
    code, said = execute([_program(), *options, "-f", "-"], data)
    if code:
        raise Error("cannot change the firewall", place.table(), _reason(said, code))


def has_chain(name: str) -> bool:
    """Whether our table has this chain."""
    try:
        with Nfnetlink() as kernel:
            return kernel.has_chain(place.table(), name)
    except OSError as error:
        raise Error("cannot read the firewall", place.table(), error) from None


def is_untouched() -> bool:
    """Whether the administrator has put nothing of his into our table."""
    code, said = execute([_program(), "list", "table", "inet", place.table()], b"")
    chain = said.partition("chain admin {")[2].partition("}")[0]
    return code == 0 and not chain.strip() and "elements" not in said  # ours have gone with the last network


def is_there() -> bool:
    """Whether the host has the program."""
    return find(PROGRAM) is not None


def find(program: str) -> str | None:
    """Where a program of the administrator's is."""
    return next((f"{each}/{program}" for each in _places() if os.access(f"{each}/{program}", os.X_OK)), None)


def _places() -> list[str]:
    return [*(each for each in os.environ.get("PATH", "").split(":") if each.startswith("/")), *_PATHS]


def _program() -> str:
    found = find(PROGRAM)
    if found:
        return found
    raise missing(PROGRAM, "cannot change the firewall")


def execute(words: list[str], data: bytes) -> tuple[int, str]:
    """A program's exit code and what it said, with data on its standard input."""
    ours = os.memfd_create("oci-net-nft", os.MFD_CLOEXEC)
    said = os.memfd_create("oci-net-nft-said", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(ours, view) :]
        os.lseek(ours, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, ours, 0), (os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        pid = os.posix_spawn(words[0], words, _environment(), file_actions=actions)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code, os.pread(said, 1 << 16, 0).decode("utf-8", "replace")
    finally:
        os.close(ours)
        os.close(said)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name == "DBUS_SYSTEM_BUS_ADDRESS"}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **kept}


def _reason(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if "Error:" in line]
    return lines[0].partition("Error:")[2].strip().lower() if lines else said.strip() or f"nft ended with code {code}"


def forget(mappings: list[dict[str, Any]]) -> None:
    """Let flows of UDP find their way anew: tracked ones go where the port led before."""
    udp = {int(mapping["hostPort"]) for mapping in mappings if mapping["protocol"] == "udp"}
    if udp:
        try:
            with Nfnetlink() as kernel:
                kernel.forget_udp(udp)
        except OSError:
            pass  # a kernel without ctnetlink: they end by themselves in half a minute
