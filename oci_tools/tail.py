"""The last lines of a log that may be long and many files: read from ever farther back until they are all there.

A line may be in pieces, between those of another stream: only the last ends with a newline.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Log(Protocol):
        """What is read: `rewind` has `lines` begin with the first one in the last `size` bytes of what there is now;
        True if that is all."""

        def rewind(self, size: int) -> bool: ...

        def lines(self) -> Iterator[Any]: ...


_FIRST = 1 << 16  # bytes, then four times as many, and so on
_CHUNK = 1 << 18


def last(log: Log, count: int, stream: Callable[[Any], Any], text: Callable[[Any], bytes]) -> list[Any]:
    """The last `count` lines, with all the pieces of each; then `log.lines` goes on."""
    size = _FIRST if count else 0
    while True:
        whole = log.rewind(size)
        found = _grouped(log.lines(), count, whole, stream, text)
        if whole or len(found) >= count:
            return [piece for pieces in found[-count or len(found) :] for piece in pieces]
        size *= 4


def _grouped(
    lines: Iterator[Any], count: int, whole: bool, stream: Callable[[Any], Any], text: Callable[[Any], bytes]
) -> list[list[Any]]:
    """The pieces of at least the last `count` lines; if it is not the whole log, not of those that began before it."""
    kept: list[list[Any]] = []
    begun: dict[Any, list[Any]] = {}
    known: set[Any] = set()  # streams of which one line has ended: the next begins here
    for line in lines:
        of, ends = stream(line), text(line).endswith(b"\n")
        if of in begun:
            begun[of].append(line)
        else:
            begun[of] = [line]
            if whole or of in known:
                kept.append(begun[of])
        if ends:
            del begun[of]
            known.add(of)
        if len(kept) > 2 * count + 64:
            del kept[: -count or None]
    return kept


def offset(fd: int, size: int) -> int:
    """Where the first line begins in the last `size` bytes of a file that has more."""
    at = os.fstat(fd).st_size - size
    found = os.pread(fd, _CHUNK, at - 1).find(b"\n")
    return at + found if found >= 0 else 0
