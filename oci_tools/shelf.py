"""Mappings of names that are on disk once there are too many of them: trees, lists and plans of any size.

    attic = Attic()                          one for all that belongs together, such as the layers of an image
    shelf = Shelf(attic)                     bytes -> a value: what marshal knows, or a Node; never None
    shelf.set(name, value) get(name) pop(name) clear()
    for name, value in shelf.items(): ...    sorted by name; what is iterated over is not to be changed meanwhile

Up to ROOM all is in dicts; past that everything goes into a table of SQLite in a file that has no name any more, of
which a few megabytes are in memory.  A Node is the same object for as long as somebody has it; when it comes back
from disk, its parent's `node` makes it of its name and of what it `said`.
"""

from __future__ import annotations

import marshal
import sys

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from typing import Any
    from weakref import WeakValueDictionary

ROOM = 12 << 20  # bytes of what is in memory, about
COST = 400  # bytes of an entry besides its name and what it has of bytes
LARGE = 1 << 10  # bytes of attributes, the last part of a value, from which on they stay in memory, the same once
PAGE = 32  # entries that are read at once
_NOTHING: dict[bytes, Any] = {}  # what all have that have nothing; never changed
_TABLE = (
    "PRAGMA cache_size = -4096",
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "CREATE TABLE names (shelf INTEGER, name BLOB, node INTEGER, value BLOB, PRIMARY KEY (shelf, name)) WITHOUT ROWID",
    "BEGIN",
)


class Shelf:
    """One mapping; `number` is its own among those of its attic."""

    __slots__ = ("__weakref__", "_held", "_number", "attic")

    def __init__(self, attic: Attic) -> None:
        self.attic = attic
        self._held = _NOTHING
        self._number = attic.next_number()  # negative as long as nothing of it is on disk

    @property
    def number(self) -> int:
        return abs(self._number)

    def get(self, name: bytes) -> Any:
        found = self._held.get(name)
        if found is None and self._number > 0:
            return self.attic.load(self, name)
        return found

    def set(self, name: bytes, value: Any, size: int = 0) -> None:
        """`size` is how many bytes the value has, if they may be many; attributes that are LARGE do not count."""
        self.keep(name, value)
        self.attic.grew(COST + len(name) + size)

    def keep(self, name: bytes, value: Any) -> None:
        if not self._held:
            self._held = {}
            self.attic.awake.append(self)
        self._held[name] = value

    def pop(self, name: bytes) -> Any:
        """What had a name, None for nothing."""
        found = self.get(name)
        if found is not None:
            self._held.pop(name, None)
            if self._number > 0:
                self.attic.run("DELETE FROM names WHERE shelf = ? AND name = ?", self._number, name)
        return found

    def clear(self) -> None:
        self._held = _NOTHING
        if self._number > 0:
            self.attic.run("DELETE FROM names WHERE shelf = ?", self._number)

    def is_empty(self) -> bool:
        return not self._held and (self._number < 0 or not self.attic.page(self, b""))

    def items(self) -> Iterator[tuple[bytes, Any]]:
        if self._number < 0:
            yield from sorted(self._held.items())
            return
        self.attic.write(self)
        start = b""
        while rows := self.attic.page(self, start):
            for name, node, data in rows:
                value = self._held.get(name)
                yield name, self.attic.value(self, name, node, data) if value is None else value
            start = rows[-1][0] + b"\0"

    def node(self, name: bytes, said: Any) -> Node:
        raise NotImplementedError


class Node(Shelf):
    """A shelf that is a value in another one, its parent."""

    __slots__ = ("name", "parent")

    def __init__(self, name: bytes, parent: Any, attic: Attic) -> None:
        super().__init__(attic)
        self.name = name
        self.parent = parent

    def said(self) -> Any:
        """What it is made of again; what marshal knows."""
        raise NotImplementedError

    def changed(self) -> None:
        """What it says is another: have it in its parent, if it is there at all."""
        if self.parent is not None and self.parent._number > 0:
            self.parent.get(self.name)


class Rows:
    """A list that only grows."""

    def __init__(self, attic: Attic) -> None:
        self._rows = Shelf(attic)
        self._count = 0

    def append(self, value: Any, size: int = 0) -> None:
        self._rows.set(self._count.to_bytes(6, "big"), value, size)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._rows.items())


class Attic:
    """Where shelves are that have no room in memory."""

    def __init__(self) -> None:
        self.awake: list[Shelf] = []  # those of which something is in memory
        self._room = ROOM
        self._numbers = 0
        self._base: sqlite3.Connection | None = None
        self._nodes: WeakValueDictionary[int, Node]
        self._large: list[Any] = []
        self._places: dict[bytes, int] = {}  # of the large ones

    def next_number(self) -> int:
        self._numbers -= 1
        return self._numbers

    def grew(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self.sleep()

    def sleep(self) -> None:
        """Have everything on disk, and nothing in memory."""
        self._room = sys.maxsize
        if self._base is None and not self._open():
            return
        for shelf in self.awake:
            self.write(shelf)
        for shelf in self.awake:
            shelf._held = _NOTHING
        self.awake.clear()
        self._room = ROOM

    def _open(self) -> bool:
        try:
            import sqlite3
        except ImportError:  # a Python that was built without it has only memory
            return False
        from weakref import WeakValueDictionary

        self._nodes = WeakValueDictionary()
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in _TABLE:
            self.run(statement)
        return True

    def __del__(self) -> None:
        if self._base is not None:
            self._base.close()

    # -- rows -----------------------------------------------------------------------------

    def run(self, query: str, *values: Any, many: Any = None) -> Any:
        import sqlite3

        assert self._base is not None
        try:
            return self._base.execute(query, values) if many is None else self._base.executemany(query, many)
        except sqlite3.Error as error:
            why = f"{error}, where what has no room in memory is"
            raise Error("cannot write a temporary file", None, why, "TMPDIR says where they are") from None

    def write(self, shelf: Shelf) -> None:
        """Have what is in memory of a shelf on disk as well."""
        number = shelf._number = abs(shelf._number)
        if shelf._held:
            rows = (self._row(number, *entry) for entry in sorted(shelf._held.items()))
            self.run("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?)", many=rows)

    def _row(self, shelf: int, name: bytes, value: Any) -> tuple[int, bytes, int, bytes]:
        number = 0
        if isinstance(value, Node):
            number = value._number = abs(value._number)
            self._nodes[number] = value
            value = value.said()
        if is_large(value):
            value = [*value[:-1], self._place(value[-1])]
        return shelf, name, number, marshal.dumps(value)

    def value(self, shelf: Shelf, name: bytes, number: int, data: bytes) -> Any:
        found = self._nodes.get(number) if number else None
        if found is not None:
            return found
        value = marshal.loads(data)
        if type(value) is list:
            value = (*value[:-1], self._large[value[-1]])
        if number:
            value = self._nodes[number] = shelf.node(name, value)
            value._number = number
        return value

    def same(self, value: Any) -> Any:
        """A value, of whose attributes there is one copy if they are large."""
        return (*value[:-1], self._large[self._place(value[-1])]) if is_large(value) else value

    def _place(self, attributes: Any) -> int:
        """Where attributes are that are large."""
        key = marshal.dumps(attributes)
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = len(self._large)
            self._large.append(attributes)
        return found

    def load(self, shelf: Shelf, name: bytes) -> Any:
        query = "SELECT node, value FROM names WHERE shelf = ? AND name = ?"
        row = self.run(query, shelf._number, name).fetchone()
        if row is None:
            return None
        value = self.value(shelf, name, *row)
        shelf.keep(name, value)
        self.grew(COST + len(name) + len(row[1]))
        return value

    def page(self, shelf: Shelf, start: bytes) -> list[tuple[bytes, int, bytes]]:
        query = "SELECT name, node, value FROM names WHERE shelf = ? AND name >= ? ORDER BY name LIMIT ?"
        rows: list[tuple[bytes, int, bytes]] = self.run(query, shelf._number, start, PAGE).fetchall()
        return rows


def is_large(value: Any) -> bool:
    last = value[-1] if type(value) is tuple and value else None
    return bool(last) and type(last) in (tuple, dict) and size(last) > LARGE


def weight(attributes: Any) -> int:
    """How many bytes a set of attributes has that is not LARGE."""
    found = size(attributes)
    return found if found <= LARGE else 0


def size(attributes: Any) -> int:
    """How many bytes a set of attributes has."""
    pairs = attributes.items() if type(attributes) is dict else attributes
    return sum(len(name) + len(value) for name, value in pairs)
