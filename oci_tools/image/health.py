"""How an image says that its containers are well: config.md's Healthcheck, which is Docker's.

    parse("--interval=30s --retries=2 CMD curl -f localhost")
        {"Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 30000000000, "Retries": 2}

The words are those of a Dockerfile's HEALTHCHECK; `CMD` may be left out.  Times are nanoseconds.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIMES = {
    "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
}  # fmt: skip
_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip


def parse(text: str) -> dict[str, Any]:
    """The member's value."""
    made: dict[str, Any] = {}
    rest = text.strip()
    while rest.startswith("--"):
        word, _, rest = rest.partition(" ")
        name, equals, value = word[2:].partition("=")
        if name in _TIMES and equals:
            made[_TIMES[name]] = duration(value)
        elif name == "retries" and value.isascii() and value.isdigit():
            made["Retries"] = int(value)
        else:
            raise Usage("not a part of a health check", word)
        rest = rest.strip()
    if rest.upper() == "NONE":
        if made:
            raise Usage("no health check has no options", text)
        return {"Test": ["NONE"]}
    if rest[:4].upper() == "CMD " or rest.upper() == "CMD":
        rest = rest[4:].strip()
    if not rest:
        raise Usage("a health check without a command", text)
    return {"Test": _test(rest), **made}


def _test(command: str) -> list[str]:
    if command.startswith("["):
        words = document.loads(command, "--healthcheck")
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise Usage("not a list of words", command)
        return ["CMD", *words]
    return ["CMD-SHELL", command]


def duration(text: str) -> int:
    """Nanoseconds of "1h30m", "1.5s" and the like: Go's time.ParseDuration."""
    total, rest = 0, text
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        rest = rest[len(unit) :]
        whole, dot, fraction = digits.partition(".")
        if unit not in _UNITS or "." in fraction or not (whole or fraction):
            raise Usage("not a duration", text, hint="as 1h30m, 5s, 500ms")
        total += int(whole or "0") * _UNITS[unit]
        total += int(fraction or "0") * _UNITS[unit] // 10 ** len(fraction)
    if not text:
        raise Usage("not a duration", text, hint="as 1h30m, 5s, 500ms")
    return total
