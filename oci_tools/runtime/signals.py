"""Signals by the names that people type: `9`, `KILL`, `SIGKILL`, `RTMIN+3`."""

from __future__ import annotations

from oci_tools.errors import Error

# Linux on every architecture that Debian's containers run on (signal(7)); built here,
# since `import signal` loads `enum`.
NUMBERS = {
    name: number
    for number, name in enumerate(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU"
        " URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(),
        1,
    )
}
NUMBERS.update(IOT=6, POLL=29, CLD=17)
_RTMIN, _RTMAX = 34, 64


def number(text: str) -> int:
    """The number of a signal; an Error for what names none."""
    if text.isascii() and text.isdigit():
        value = int(text)
        if 0 < value <= _RTMAX:
            return value
    name = text.upper().removeprefix("SIG")
    if name in NUMBERS:
        return NUMBERS[name]
    for base, start, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        offset = name.removeprefix(base)
        if offset == "" and name:
            return start
        if offset != name and offset[:1] == "+-"[sign < 0] and offset[1:].isdigit() and offset.isascii():
            value = start + sign * int(offset[1:])
            if _RTMIN <= value <= _RTMAX:
                return value
    raise Error("unknown signal", text)
