"""System call numbers of every architecture that seccomp profiles name, as of Linux 7.2.

`syscalls.json` is made from the kernel's headers by tests/runtime/make_syscalls.py: names in
the order of their numbers, where `=N` says that the next name's number is N.  Tables are
called as libseccomp calls the architecture, in lower case; x32's and mips's numbers are
whole, as a process passes them.  Read only when a profile is compiled, not when a compiled
one is at hand.
"""

from __future__ import annotations

from oci_tools import document

FILE = __file__[: -len("py")] + "json"

# Tables that are the same for both byte orders.
_SAME = {"ppc64le": "ppc64", "mipsel": "mips", "mipsel64": "mips64", "mipsel64n32": "mips64n32", "sheb": "sh"}

_tables: dict[str, list[str]] = {}


def table(name: str) -> dict[str, int]:
    """Numbers by name: `table("x86_64")["read"]` is 0."""
    if not _tables:
        _tables.update(document.load(FILE))
    numbers: dict[str, int] = {}
    number = 0
    for word in " ".join(_tables[_SAME.get(name, name)]).split():
        if word[0] == "=":
            number = int(word[1:])
        else:
            numbers[word] = number
            number += 1
    return numbers
