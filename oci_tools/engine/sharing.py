"""What forks share stays shared.

A process that forks shares its memory with the child until one of them writes there; CPython writes in every object
that it so much as looks at, since the count of references stands in front of it.  From 3.12 on an object can be
immortal (PEP 683): its count is a mark that is never changed.  What all modules hold is marked so here, once
everything is imported: it lives as long as the process anyway.
"""

from __future__ import annotations

import _ctypes
import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Count(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "I"  # the lower half of ob_refcnt, which is where the mark is


def freeze() -> None:
    """Keep all that is imported as it is for those that are forked from now on; the collector looks at none of it."""
    gc.collect()
    if _immortals():
        todo: list[Any] = list(sys.modules.values())
        mark = _Count.from_address(id(None)).value
        while todo:
            one = todo.pop()
            count = _Count.from_address(id(one))
            if count.value != mark:
                count.value = mark
                todo += gc.get_referents(one)
    gc.freeze()


def _immortals() -> bool:
    """Whether None is immortal, and its count where it is looked for: not where threads need no lock."""
    before = sys.getrefcount(None)
    several = [None] * 100
    return before == sys.getrefcount(several[0]) and _Count.from_address(id(None)).value == before & 0xFFFFFFFF
