"""Layers over each other: one tree out of many.

`merge` puts an unpacked layer over a tree by renaming: what both do not have costs one rename, be it
a file or a directory with all that is in it.  In order:

    1  hard links into lower layers are made, while all of those are still there
    2  whiteouts and opaque directories remove, from below only
    3  directory meets directory: attributes are the upper's (if the layer says them), content is both's
       otherwise the upper replaces the lower
    4  a directory that is only implied follows a link that is there, as the names in it meant to; with
       `keep_links` one that a layer describes does too, where the link leads to a directory

`flatten` unpacks layers and merges them, in several processes where there are processors.
"""

from __future__ import annotations

import errno
import os

from oci_tools import fs
from oci_tools.errors import Error, quote, reason
from oci_tools.layer.apply import Source, link_at, unpack
from oci_tools.layer.tree import Dir, Tree, new_root
from oci_tools.layer.unpacked import Layer, unnamed
from oci_tools.layer.walk import names
from oci_tools.linux import libc
from oci_tools.names import clean, words
from oci_tools.shelf import Attic, Rows
from oci_tools.tar import Attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from typing import Any

    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner


def merge(lower: Tree, layer: Layer, keep_links: bool = False) -> None:
    """Put a layer over a tree, in the same file system; the layer's own tree is used up."""
    upper = layer.tree
    _link(lower, layer)
    for parts in map(words, layer.whiteouts):
        node = _below(lower, upper, parts[:-1], keep_links)
        if node is not None:
            lower.remove(node, parts[-1])
    for parts in map(words, layer.opaques):
        node = _below(lower, upper, parts, keep_links)
        if node is not None:
            for name in names(lower.fd(node)):
                lower.remove(node, name)
    through = Rows(lower.root.attic)
    _merge_all(lower, upper, upper.root, lower.root, through, keep_links)
    while len(through):  # what goes through links, once all that has its place is there
        again, through = through, Rows(lower.root.attic)
        for path, to in again:
            kid = upper.literal(words(path))
            assert kid is not None
            _merge_all(lower, upper, kid, _there(lower, [*words(to), kid.name]), through, keep_links)


def _goes_through(lower: Tree, below: Dir, kid: Dir, keep_links: bool) -> bool:
    """Whether a directory of a layer goes through a link of a lower one."""
    if not _is_link(lower, below, kid.name):
        return False
    return kid.meta is None or (keep_links and lower.leads_to(below, kid.name) is not None)


def _merge_all(lower: Tree, upper: Tree, above: Dir, below: Dir, through: Rows, keep_links: bool) -> None:
    levels = [_merge_directory(lower, below, upper, above, through, keep_links)]
    while levels:
        pair = next(levels[-1], None)
        if pair is None:
            levels.pop()
        else:
            levels.append(_merge_directory(lower, pair[1], upper, pair[0], through, keep_links))


def _there(lower: Tree, parts: list[bytes]) -> Dir:
    """A directory that is made if there is none, or something else."""
    found = lower.find(parts, make=True)
    assert found is not None
    return found


def _below(lower: Tree, upper: Tree, parts: list[bytes], keep_links: bool) -> Dir | None:
    """The lower directory that a mark in an upper layer is about, None if there is none.

    It goes through lower links as names do, but not through what the layer replaces anyhow.
    """
    below: Dir | None = lower.root
    above: Dir | None = upper.root
    for part in parts:
        assert below is not None
        kid = above.get(part) if above else None
        if kid is None and above is not None and upper.has_name(above, part):
            return None
        if kid is not None and kid.meta is not None and not (keep_links and lower.leads_to(below, part)):
            below = below.get(part)
        else:
            try:
                below = lower.find([part], start=below)
            except Error:  # a loop of links: there is nothing
                return None
        if below is None:
            return None
        above = kid
    return below


def _link(lower: Tree, layer: Layer) -> None:
    """Make the hard links whose targets are in lower layers."""
    upper = layer.tree
    for path, to in layer.links:
        parts, target = words(path), words(to)
        node = upper.find(parts[:-1])
        holder = lower.find(target[:-1])
        assert node is not None
        if holder is not None and holder.get(target[-1]) is not None:
            raise Error("cannot unpack", path, "a hard link to a directory")
        if holder is None or not link_at(upper, holder, target[-1], node, parts[-1], lower):
            raise Error("cannot unpack", path, f"no such file to link to: {quote(to)}")


def _merge_directory(
    lower: Tree, below: Dir, upper: Tree, above: Dir, through: Rows, keep_links: bool
) -> Iterator[tuple[Dir, Dir]]:
    """Move a directory's content; what both have of directories is still to do, and given."""
    if not lower.has(below):  # what went through a link may have replaced it
        below = _there(lower, clean(below.path()))
    if above.meta is not None:
        below.meta = above.meta
    for name in names(upper.fd(above)):
        kid = above.get(name)
        twin = below.get(name)
        if kid is not None and twin is not None:
            yield kid, twin
        elif kid is not None and _goes_through(lower, below, kid, keep_links):
            through.append((kid.path(), below.path()))
        else:
            _move(lower, below, upper, above, name)
            if kid is not None:
                lower.adopt(below, kid, upper)


def _is_link(tree: Tree, node: Dir, name: bytes) -> bool:
    try:
        os.readlink(name, dir_fd=tree.fd(node))
        return True
    except OSError:
        return False


def _move(lower: Tree, below: Dir, upper: Tree, above: Dir, name: bytes) -> None:
    """Rename one name to its place; what is there gives way."""
    for attempt in (0, 1):
        try:
            os.rename(name, name, src_dir_fd=upper.fd(above), dst_dir_fd=lower.fd(below))
            return
        except OSError as error:
            # A directory gives way to no file, a file to no directory, and only an empty one to another.
            if attempt or error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
                raise Error("cannot unpack", below.path() + b"/" + name, error) from None
            lower.remove(below, name)


# -- many ------------------------------------------------------------------------------------


SMALL = 16 << 20  # bytes of blobs that one process unpacks before another would have started to help
JOBS_MAX = 4096  # a pipe holds four times as many numbers; Docker's images have 127 layers at most
DOMINANT = 0.6  # share of the bytes in one layer from which on threads within it help more


def flatten(sources: Sequence[Source], path: str, owner: Owner, limits: Limits) -> None:
    """Unpack layers, the lowest first, over each other into the new directory `path`.

    Beside it `path.1`, `path.2`... hold layers until they are merged.
    """
    places = [path] + [f"{path}.{at}" for at in range(1, len(sources))]
    if not sources:
        os.close(new_root(path))
        return
    with Unpackers(sources, places, owner, limits, Attic()) as layers:
        whole: Tree | None = None
        attributes = 0
        try:
            for at, layer in enumerate(layers):
                attributes += layer.attributes
                Attributes(limits, sources[at]).check(attributes)
                if whole is None:
                    whole = layer.tree
                    whole.root.fd = os.dup(whole.root.fd)
                    _link(whole, layer)
                    continue
                with layer.tree:
                    merge(whole, layer, limits.keep_links)
                fs.remove_tree(places[at])
            assert whole is not None
            whole.settle(owner)
        finally:
            if whole is not None:
                whole.close()
                os.close(whole.root.fd)


class Unpackers:
    """Unpacks layers, each in its place, at once or one after the other; iterating gives them in order.

    The root's descriptor of each is closed when the next one is asked for.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        places: list[str],
        owner: Owner,
        limits: Limits,
        attic: Attic | None = None,
    ) -> None:
        self._work = (sources, places, owner, limits)
        self._attic = attic
        self._workers: list[_Worker] = []
        self._found: dict[int, Iterator[Any]] = {}
        self._given: Generator[Layer] | None = None
        sizes = [source.size or 0 for source in sources]
        count = min(len(os.sched_getaffinity(0)), len(sources))
        if 1 < count <= len(sizes) <= JOBS_MAX and sum(sizes) > SMALL and max(sizes) < DOMINANT * sum(sizes):
            self._start(count, sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True))

    def _start(self, count: int, order: list[int]) -> None:
        """Start processes that take the number of a layer from a pipe, the largest layer first."""
        jobs, give = os.pipe()
        os.write(give, b"".join(number.to_bytes(4, "little") for number in order))
        threads = len(os.sched_getaffinity(0)) > count
        for _ in range(count):
            self._workers.append(_Worker(jobs, give, threads, *self._work))
        os.close(jobs)
        os.close(give)

    def __iter__(self) -> Iterator[Layer]:
        self._given = self._layers()
        return self._given

    def _layers(self) -> Generator[Layer]:
        sources, places, owner, limits = self._work
        for at, (source, place) in enumerate(zip(sources, places, strict=True)):
            values = self._wait(at) if self._workers else None
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if values else new_root(place)
            try:
                if values:
                    layer = Layer(Tree(fd, self._attic))
                    layer.load(values)
                else:
                    layer = unpack(source, fd, owner, limits, threads=True, attic=self._attic)
                yield layer
            finally:
                os.close(fd)

    def _wait(self, at: int) -> Iterator[Any]:
        """What a worker says of a layer."""
        while at not in self._found:
            for number, values, told in self._results():
                self._found[number] = values
                for kind, text in told.items():
                    self._work[2].warn(kind, text)
        return self._found.pop(at)

    def _results(self) -> list[Any]:
        """What the workers have finished by now; waits for at least one."""
        import select

        poll = select.poll()
        for worker in self._workers:
            if not worker.ended:
                poll.register(worker.fd, select.POLLIN)
        if all(worker.ended for worker in self._workers):
            raise Error("cannot unpack", None, "the processes that help have ended")
        ready = {fd for fd, _ in poll.poll()}
        return [result for worker in self._workers if worker.fd in ready for result in worker.read()]

    def __enter__(self) -> Unpackers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._given:
            self._given.close()
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process that unpacks layers; what it says is length (8 bytes) and marshal, for each layer.

    What it found goes into a file without a name, which takes any number of directories.
    """

    def __init__(self, jobs: int, give: int, threads: bool, *work: Any) -> None:
        self._file = unnamed(os.path.dirname(work[1][0]))
        self.fd, out = os.pipe()
        self.ended = False
        self._data = bytearray()
        self.pid = os.fork()
        if self.pid:
            os.close(out)
            return
        try:
            os.close(give)
            libc.call("prctl", 1, 9)  # PR_SET_PDEATHSIG, SIGKILL
            self._run(jobs, out, threads, *work)
        finally:
            os._exit(0)

    def _run(
        self, jobs: int, out: int, threads: bool, sources: Sequence[Source], places: list[str], owner: Owner,
        limits: Limits,
    ) -> None:  # fmt: skip
        import marshal

        owner.mute()
        end = 0
        while number := os.read(jobs, 4):
            at = int.from_bytes(number, "little")
            try:
                fd = new_root(places[at])
                layer = unpack(sources[at], fd, owner, limits, threads)
                os.close(fd)
                start = end
                for part in layer.dump():
                    data = marshal.dumps(part)
                    fs.write_all(self._file, data)
                    end += len(data)
                said: Any = (at, (start, end), owner.told)
            except Error as error:
                cause = None if error.cause is None else reason(error.cause)
                subject = None if error.subject is None else str(Error("", error.subject))[2:-1]
                said = (-1, (error.what, subject, cause, error.hint, error.code), {})
            except BaseException:
                import traceback

                said = (-2, traceback.format_exc(), {})
            data = marshal.dumps(said)
            fs.write_all(out, len(data).to_bytes(8, "little") + data)

    def read(self) -> list[Any]:
        """The layers that came; an Error of the worker is raised here."""
        import marshal

        data = os.read(self.fd, 1 << 20)
        if not data:
            self.ended = True
            if self._data:
                raise Error("cannot unpack", None, "a process that helps was killed")
        self._data += data
        found = []
        while len(self._data) >= 8 and len(self._data) >= 8 + int.from_bytes(self._data[:8], "little"):
            end = 8 + int.from_bytes(self._data[:8], "little")
            result = marshal.loads(self._data[8:end])
            del self._data[:end]
            if result[0] == -1:
                what, subject, cause, hint, code = result[1]
                raise Error(what, subject, cause, hint, code)
            if result[0] == -2:
                raise RuntimeError(result[1])
            found.append((result[0], self._parts(*result[1]), result[2]))
        return found

    def _parts(self, start: int, end: int) -> Iterator[Any]:
        """What was found of a layer, out of the file."""
        import marshal

        with open(f"/proc/self/fd/{self._file}", "rb") as file:
            file.seek(start)
            while file.tell() < end:
                yield marshal.load(file)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        os.close(self.fd)
        os.close(self._file)
        try:
            os.kill(self.pid, 9)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
