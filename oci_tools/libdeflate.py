"""gzip members by libdeflate, made by several threads: the library in its binding, or Debian's, or the binding itself.

All make the same bytes.  The library is called with memory that is used again and again: the binding asks the kernel
for fresh pages at every call, which costs a seventh of the time.  Only this module imports `deflate`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import queue
    from typing import Any, Self

LIBRARY = "libdeflate.so.0"
MEMBER = 1 << 20  # plain bytes in one member of a stream
SAMPLE = 8 << 10  # bytes of it that are tried, twice
BY_CONTENT = (1, 2, 3)  # the levels of what gets well smaller, much, and very much


class Members:
    """A stream that compresses into another, as `compress.writer` describes it.

    Members are made in turn by `threads` threads and written in their order.
    """

    def __init__(self, stream: Any, level: int | None, threads: int) -> None:
        import queue
        import threading

        self._stream = stream
        self._now = _Member()
        self._free: list[_Member] = []
        self._waiting: list[_Member] = []
        self._jobs: queue.SimpleQueue[_Member | None] = queue.SimpleQueue()
        compressors = [ByContent() if level is None else Compressor(level) for _ in range(threads)]
        self._workers = [threading.Thread(target=_work, args=[self._jobs, each], daemon=True) for each in compressors]
        for worker in self._workers:
            worker.start()

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            room = self.room()
            part = view[: len(room)]
            room[: len(part)] = part
            self.filled(len(part))
            view = view[len(part) :]

    def room(self) -> memoryview:
        """A place for the next bytes, good until anything else is called."""
        if self._now.size == MEMBER:
            self._give()
            self._now = self._free.pop() if self._free else _Member()
        return memoryview(self._now.data)[self._now.size :]

    def filled(self, count: int) -> None:
        """So many bytes were put into the `room`."""
        self._now.size += count

    def close(self) -> None:
        self._give()  # of nothing there is one empty member
        while self._waiting:
            self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _worker in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()

    def _give(self) -> None:
        self._waiting.append(self._now)
        self._jobs.put(self._now)
        while len(self._waiting) > 4 * len(self._workers):
            self._take()

    def _take(self) -> None:
        member = self._waiting.pop(0)
        member.done.acquire()
        if member.error:
            raise member.error
        self._stream.write(memoryview(member.made)[: member.count])
        member.size = 0
        self._free.append(member)


class _Member:
    """The first `size` bytes of `data`, which become the first `count` of `made`."""

    def __init__(self) -> None:
        import threading

        self.data, self.size = bytearray(MEMBER), 0
        self.made, self.count = bytearray(bound(MEMBER)), 0
        self.error: BaseException | None = None
        self.done = threading.Semaphore(0)


def _work(jobs: queue.SimpleQueue[_Member | None], compressor: Compressor | ByContent) -> None:
    with compressor:
        while (member := jobs.get()) is not None:
            try:
                member.count = compressor.gzip(member.data, member.size, member.made)
            except BaseException as error:
                member.error = error
            member.done.release()


class Compressor:
    """Makes members of one level (0-12), in one thread at a time; a `with` block gives its memory back.

    Raises ImportError where there is neither the binding nor the library.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._binding: Any = None
        self._library = _Library.load()
        if self._library is None:
            import deflate

            self._binding = deflate
            return
        self._held = self._library.alloc_compressor(level)
        if not self._held:
            raise MemoryError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._library is not None:
            self._library.free_compressor(self._held)

    def gzip(self, data: bytearray, size: int, room: bytearray) -> int:
        """One member, without a name or a time, of the first `size` bytes of `data`: how many there are in `room`.

        `bound` says how large that has to be.
        """
        if self._library is None:
            made = self._binding.gzip_compress(memoryview(data)[:size], self._level)
            room[: len(made)] = made
            return len(made)
        count = self._library.compress(self._held, data, size, room)
        if not count:
            raise BufferError("a member is larger than it can be")
        return count


class ByContent:
    """The same, of the level that suits what is compressed, so that it is never much larger than gzip -6 makes it.

    What gets very much smaller, text above all, loses most by a low level, and costs least.  Two pieces of each
    member tell; a small one has no need of it.
    """

    def __init__(self) -> None:
        self._levels = [Compressor(level) for level in BY_CONTENT]
        self._room = bytearray(bound(2 * SAMPLE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._levels:
            each.__exit__()

    def gzip(self, data: bytearray, size: int, room: bytearray) -> int:
        fast, middle, small = self._levels
        if size < 8 * SAMPLE:
            return middle.gzip(data, size, room)
        one, two = size // 4, size // 4 * 3
        found = fast.gzip(data[one : one + SAMPLE] + data[two : two + SAMPLE], 2 * SAMPLE, self._room)
        if found > 2 * SAMPLE // 3:
            return fast.gzip(data, size, room)
        return (middle if found > 2 * SAMPLE // 5 else small).gzip(data, size, room)


def bound(size: int) -> int:
    """How many bytes the member of so many plain ones may have, and more: 5 for each 5,000, 18 for header and end."""
    return size + size // 500 + 100


class _Library:
    """The library's functions.  `import ctypes` would take 4 ms: see linux/libc.py."""

    def __init__(self, path: str) -> None:
        import _ctypes

        size, pointer, number = (type(code, (_ctypes._SimpleCData,), {"_type_": code}) for code in "LPi")
        self._byte: Any = type("c", (_ctypes._SimpleCData,), {"_type_": "c"})
        self._address = _ctypes.addressof
        library = _ctypes.dlopen(path, 0)

        def function(name: str, result: Any, *words: Any) -> Any:
            fields = {"_flags_": _ctypes.FUNCFLAG_CDECL, "_restype_": result, "_argtypes_": words}
            return type(name, (_ctypes.CFuncPtr,), fields)(_ctypes.dlsym(library, f"libdeflate_{name}"))

        self.alloc_compressor = function("alloc_compressor", pointer, number)
        self.free_compressor = function("free_compressor", None, pointer)
        self._compress = function("gzip_compress", size, pointer, pointer, size, pointer, size)

    def compress(self, held: int, data: bytearray, size: int, room: bytearray) -> int:
        return int(self._compress(held, self._place(data), size, self._place(room), len(room)))

    def _place(self, room: bytearray) -> int:
        return self._address(self._byte.from_buffer(room))

    @classmethod
    def load(cls) -> _Library | None:
        """None where only the binding can reach it."""
        for path in (_binding(), LIBRARY):
            try:
                return cls(path)
            except OSError:
                pass
        return None


def _binding() -> str:
    """The file of the binding, in which the library is."""
    try:
        from deflate import _deflate
    except ImportError:
        return LIBRARY
    return str(_deflate.__file__)
