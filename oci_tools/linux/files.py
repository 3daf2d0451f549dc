"""Names of files: renameat2(2)."""

from __future__ import annotations

from oci_tools.linux import libc

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def exchange(one: str, other: str) -> None:
    """Let two names change places at once."""
    libc.call("renameat2", AT_FDCWD, libc.string(one), AT_FDCWD, libc.string(other), RENAME_EXCHANGE, subject=one)
