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

    All is made of the interpreter's own queues: a KeyboardInterrupt within what `threading` has of Python code can
    leave a lock taken, for which leaving would wait for ever.
    """

    def __init__(self, items: Iterable[bytes], depth: int = 8) -> None:
        import _thread
        from _queue import SimpleQueue

        self._items = items
        self._queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._room.put(None)
        self._ended = False
        _thread.start_new_thread(self._make, ())

    def _make(self) -> None:
        try:
            for item in self._items:
                self._room.get()
                if self._ended:
                    return
                self._queue.put(item)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)
        finally:
            self._done.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if not isinstance(item, bytes):
                raise item
            self._room.put(None)
            yield item

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._room.put(None)
        self._done.get()
