"""Changes of a tree in the order in which they are written, however many there are.

What is kept of each is one key that sorts as the archive is: a path as `walk.order` has it; of a name that is gone a
zero byte more before its last part, and so before all that is in its directory.
"""

from __future__ import annotations

from oci_tools.layer.walk import order
from oci_tools.shelf import Attic, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GONE = b"\0\0"


class Plan:
    """Changes, (path, whether it is gone), each time in their order, with the directories on the way to each."""

    def __init__(self, changes: Iterable[tuple[bytes, bool]]) -> None:
        self._keys = Shelf(Attic())
        for path, gone in changes:
            parent, slash, name = path.rpartition(b"/")
            self._keys.set(order(parent + slash) + b"\0" + name if gone else order(path), True)
            while parent and self._keys.get(order(parent)) is None:
                self._keys.set(order(parent), True)
                parent = parent.rpartition(b"/")[0]

    def __bool__(self) -> bool:
        return not self._keys.is_empty()

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        return (_path(key) for key, _ in self._keys.items())

    def there(self) -> Iterator[bytes]:
        """The paths that are not gone."""
        return (path for path, gone in self if not gone)

    def gone(self) -> list[bytes]:
        """The paths that are gone, sorted."""
        return sorted(path for path, gone in self if gone)


def _path(key: bytes) -> tuple[bytes, bool]:
    gone = key.startswith(b"\0") or _GONE in key
    if gone:
        key = key[1:] if key.startswith(b"\0") else key.replace(_GONE, b"/", 1)
    return key.replace(b"\0", b"/"), gone
