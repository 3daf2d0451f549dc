"""Numbers as people write them for containers: sizes, parts of processors."""

from __future__ import annotations

from oci_tools.errors import Usage

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def size(text: str, option: str) -> int:
    """Bytes: a number, maybe with a fraction, and k, m, g, t or p, each 1024 of the one before (`1.5g`, `64MiB`)."""
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in _POWERS else ""
    number = number[: len(number) - len(unit)].rstrip(" ")
    whole, dot, fraction = number.partition(".")
    digits = whole + fraction
    if not (whole and digits.isascii() and digits.isdigit() and len(digits) < 20) or (dot and not fraction):
        raise Usage(f"invalid size for {option}", text, hint="a number and b, k, m or g")
    scale: int = 1024 ** _POWERS[unit]
    return int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)


def signed(text: str, option: str) -> int:
    """A size, or -1 for no limit."""
    return -1 if text == "-1" else size(text, option)


def thousandths(text: str, option: str) -> int:
    """A decimal number, in thousandths: `1.5` is 1500."""
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    good = digits.isascii() and digits.isdigit() and len(digits) < 16 and not (dot and not fraction)
    if not good:
        raise Usage(f"invalid number for {option}", text)
    return int(whole or "0") * 1000 + int((fraction + "000")[:3])


def pair(text: str, option: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Usage(f"invalid value for {option}", text, hint="NAME=VALUE")
    return name, value


def matches(pattern: str, path: str) -> bool:
    """Whether a path is what a pattern with `*` and `?` describes, neither of which stands for a slash."""
    wanted, parts = pattern.split("/"), path.split("/")
    return len(wanted) == len(parts) and all(map(_part_matches, wanted, parts))


def _part_matches(pattern: str, text: str) -> bool:
    head, star, rest = pattern.partition("*")
    if len(text) < len(head) or any(c not in ("?", t) for c, t in zip(head, text, strict=False)):
        return False
    if not star:
        return len(text) == len(head)
    return any(_part_matches(rest, text[at:]) for at in range(len(head), len(text) + 1))
