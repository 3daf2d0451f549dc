"""A layer that is a tree by now, and how it gets from the process that unpacked it to the one that merges it."""

from __future__ import annotations

import errno
import os
import time
from itertools import groupby, islice

from oci_tools.errors import Error
from oci_tools.shelf import Rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from oci_tools.layer.tree import Tree


class Layer:
    """A layer that is a tree by now: the tree, and what it says of those below (see apply.py)."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        attic = tree.root.attic
        self.whiteouts, self.opaques, self.links = Rows(attic), Rows(attic), Rows(attic)
        self.attributes = 0  # bytes of those of its directories

    def dump(self) -> Iterator[tuple[int, list[Any]]]:
        """As plain values, a part at a time, for the way from one process to another."""
        every: list[Iterable[Any]] = [self.tree.dump(), self.whiteouts, self.opaques, self.links, [self.attributes]]
        for kind, rows in enumerate(every):
            given = iter(rows)
            while part := list(islice(given, 500)):
                yield kind, part

    def load(self, parts: Iterable[tuple[int, list[Any]]]) -> None:
        for kind, some in groupby(parts, lambda part: part[0]):
            rows = (row for _, part in some for row in part)
            if kind == 0:
                self.tree.load(rows)
            elif kind == 4:
                self.attributes = sum(rows)
            else:
                for row in rows:
                    (self.whiteouts, self.opaques, self.links)[kind - 1].append(row, bytes_of(row))


def bytes_of(row: Any) -> int:
    """Bytes of a path, or of a link's two."""
    return len(row) if isinstance(row, bytes) else sum(map(len, row))


def unnamed(directory: str) -> int:
    """A new file in a directory that has no name, to read and to append to; it is gone when it is closed."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        try:
            return os.open(directory, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
        path = f"{directory}/.unnamed-{os.getpid()}-{time.monotonic_ns()}"  # not every file system knows O_TMPFILE
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)
        return fd
    except OSError as error:
        raise Error("cannot make a file in", directory, error) from None
