"""Work ahead of who wants it: an iterable whose items are made in another thread."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Ahead:
    """An iterable whose items are made in a thread of its own, at most `depth` ahead.

    isal, zstandard, hashlib, read(2) and write(2) give up the interpreter's lock, so the stages of
    a pipe run at once.  An exception of the maker is raised again by the taker.
    Leaving the `with` block ends the thread.
    """

    def __init__(self, items: Iterable[bytes], depth: int = 8) -> None:
        import queue
        import threading

        self._items = items
        self._queue: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._ended = False
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._ended:
                    return
                self._queue.put(item)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if not isinstance(item, bytes):
                raise item
            self._room.release()
            yield item

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._room.release()
        self._thread.join()
