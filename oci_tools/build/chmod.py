"""What --chmod says: octal, or symbolic as chmod(1) has it."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def modes(text: str) -> Callable[[int, bool], int] | None:
    """What --chmod says, as a function of a mode and whether it is a directory's: octal, or u+rwX,g=...

    None for what is no mode.
    """
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode, is_directory: fixed
    clauses = [re.fullmatch(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", clause) for clause in text.split(",")]
    if not all(clauses):
        return None
    changes = [(found[1] or "a", *change) for found in clauses if found
               for change in re.findall(r"([-+=])([rwxXst]*|[ugo])", found[2])]  # fmt: skip

    def change(mode: int, is_directory: bool) -> int:
        for who, sign, what in changes:
            mode = _changed(mode, who, sign, what, is_directory)
        return mode

    return change


_SHIFT = {"u": 6, "g": 3, "o": 0}


def _changed(mode: int, who: str, sign: str, what: str, is_directory: bool) -> int:
    """chmod(1), one clause."""
    mask = bits = 0
    for one in "ugo" if "a" in who else dict.fromkeys(who):
        shift = _SHIFT[one]
        mask |= 7 << shift | {"u": 0o4000, "g": 0o2000, "o": 0}[one]
        if what in _SHIFT:
            bits |= (mode >> _SHIFT[what] & 7) << shift
            continue
        for letter in what:
            if letter in "rwx" or (letter == "X" and (is_directory or mode & 0o111)):
                bits |= {"r": 4, "w": 2, "x": 1, "X": 1}[letter] << shift
            elif letter == "s":
                bits |= {"u": 0o4000, "g": 0o2000, "o": 0}[one]
    if "t" in what and ("a" in who or "o" in who):
        bits |= 0o1000
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    keep = ~mask if not is_directory else ~(mask & 0o777)
    return mode & keep | bits
