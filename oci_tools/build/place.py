"""Where a build works: the cache's directory, the layers in it, the roots of steps.

    $OCI_ROOT/cache/build/
        images/      a layout with the blobs of layers that were built, for the next build
        steps/       what was built: cache.py
        hashes/      what files of contexts are: hashes.py
        mounts/      `RUN --mount=type=cache`: a directory for each id
        work/ID/     a build at work, under its lock; what a killed one left is removed, and what it left running,
                     which `running/` names, ended, by the forker that outlives it, or else by the next

A stage's files are layers, each known by its diff id: in the layer store as trees where a step needs them,
as blobs in layouts.
"""

from __future__ import annotations

import _signal
import os

from oci_tools import fs
from oci_tools.build import calling, networks
from oci_tools.bundle import step
from oci_tools.bundle.step import Root
from oci_tools.errors import Busy, Error
from oci_tools.image import layout as layouts
from oci_tools.layer import stack
from oci_tools.layer import store as stores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.bundle import whole
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from oci_tools.build.calling import Call
    from oci_tools.image.layout import Descriptor, Layout

_ENDING = (1, 2, 15)  # HUP, INT, TERM
EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # of an archive of nothing


class Layer:
    """One layer: its blob's descriptor, the layout that has it, its diff id.

    bring  fetches the blobs of some layers, if they are elsewhere until they are needed, and says where they are then
    """

    __slots__ = ("bring", "descriptor", "diff_id", "layout")

    def __init__(
        self, descriptor: Descriptor, diff_id: str, layout: Layout, bring: Callable[[list[Layer]], None] | None = None
    ) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.layout = layout
        self.bring = bring

    def source(self) -> Any:
        """For layer/apply.py."""
        from oci_tools.layer.apply import Source

        size = self.descriptor["size"]
        return Source(self._open, self.descriptor["digest"], size, self.diff_id)

    def _open(self) -> Any:
        have_all([self])
        return self.layout.blob(self.descriptor)


def have_all(layers: Iterable[Layer]) -> None:
    """Fetch the blobs that are elsewhere, those of one place at once."""
    coming: dict[Any, list[Layer]] = {}
    for layer in layers:
        if layer.bring is not None:
            coming.setdefault(layer.bring, []).append(layer)
    for bring, some in coming.items():
        bring(some)
        for layer in some:
            layer.bring = None


def sweep(work: str, call: Call) -> None:
    """Remove what killed builds left in `work`, and end what still runs of them."""
    for name in os.listdir(work):
        try:
            with fs.Lock(f"{work}/{name}", timeout=0):
                running = f"{work}/{name}/running"
                for container in os.listdir(running) if os.path.isdir(running) else ():
                    calling.end(call, container)
                for network, path in networks.left(f"{work}/{name}/networks"):
                    networks.leave(call, network, path)
                _give_back(f"{work}/{name}")
                fs.remove_tree(f"{work}/{name}")
        except (Busy, Error):
            continue


def _give_back(work: str) -> None:
    """Have caches that were in the root of a step, as bundle/chrooted.py has it, where they belong."""
    for name in os.listdir(work):
        if os.path.exists(f"{work}/{name}/placed"):
            from oci_tools.bundle import chrooted

            chrooted.give_back(f"{work}/{name}", f"{os.path.dirname(os.path.dirname(work))}/mounts")


class Place:
    """The places of one build, for a `with` block."""

    def __init__(self, warn: Callable[[str], None], call: Call, isolation: str = "auto") -> None:
        """isolation  "oci": RUN has namespaces; "chroot": a chroot(2) instead; "auto": that, where there are none."""
        import threading

        self._call = call
        self._isolation = isolation
        self.path = f"{fs.root()}/cache/build"
        self.warn = warn
        self._chains: dict[tuple[str, ...], stores.Chain] = {}
        self._memory = ""
        self._trees: whole.Trees | None = None  # where overlayfs cannot be
        self._attached: dict[int, str] = {}
        self._views: dict[tuple[str, ...], Root] = {}
        self._lock = threading.RLock()  # one thread at a time unpacks, or makes names
        self._numbers = iter(range(1 << 60))

    def __enter__(self) -> Place:
        from oci_tools.layer import owner

        mounts = step.apart.private()  # whether there can be any
        self.chrooted = self._isolation == "chroot" or not (mounts or self._isolation == "oci")
        self.can_run = mounts
        if self.chrooted:
            from oci_tools.bundle import chrooted

            self.can_run = self.chrooted = chrooted.possible()
        fs.make_private(f"{self.path}/work")
        self.owner = owner.for_namespace(self.warn)
        inside = os.geteuid() == 0 and not step.apart.is_hosts_root()
        self._able = step.apart.abilities() if inside else None
        self.store = stores.Store(self.owner.key)
        self._held = self.store.lock()
        self._held.__enter__()
        try:
            self._claim()
            self.layout = layouts.Layout.create(f"{self.path}/images")
            alone = self.chrooted or not self.can_run  # every root is one
            if inside or alone:
                from oci_tools.bundle import whole

                if alone or not whole.can_stack(self.root([])):
                    self._trees = whole.Trees(self.work)
        except BaseException:
            if hasattr(self, "work"):
                fs.remove_tree(self.work)
            self._held.__exit__()
            raise
        return self

    def _claim(self) -> None:
        with fs.Lock(f"{self.path}/work.lock"):  # so that nobody takes ours, made and not yet locked, for a dead one
            sweep(f"{self.path}/work", self._call)
            self.work = f"{self.path}/work/{os.urandom(8).hex()}"
            fs.make_roomy(self.work)
            os.mkdir(f"{self.work}/running", 0o700)
            fs.write(f"{self.work}/began", b"", 0o600, sync=False)  # for prune.py
            self._mine = fs.Lock(self.work, timeout=0)
            self._mine.__enter__()

    def __exit__(self, *_: object) -> None:
        with _Deaf():
            try:
                self._detach()
                for view in self._views.values():
                    view.__exit__()
                fs.remove_tree(self.work)
                self.layout.close()
            finally:
                self._mine.__exit__()
                self._held.__exit__()

    def tell_of_chroot(self) -> None:
        """Say once that RUN is less than usual, unless somebody asked for it."""
        if self._isolation == "auto":
            self._isolation = "chroot"
            self.warn("RUN is done in a chroot, which keeps nothing apart: namespaces cannot be had here")

    def fresh(self, name: str) -> str:
        """A path for something that is gone with the build."""
        with self._lock:
            return f"{self.work}/{name}{next(self._numbers)}"

    # -- what nobody else sees ------------------------------------------------------------------

    def memory(self) -> str:
        """A directory in memory, for secrets."""
        with self._lock:
            if not self._memory:
                path = self.fresh("memory")
                os.mkdir(path, 0o700)
                if not self.chrooted:  # from where it goes into the root of the step, which is no other file system
                    step.apart.mount_memory(path)
                self._memory = path
            return self._memory

    def attached(self, fd: int, where: str) -> str:
        """The path of a tree of which a descriptor is a mount."""
        with self._lock:
            if fd not in self._attached:
                os.mkdir(where, 0o700)
                step.apart.attach(fd, where)
                self._attached[fd] = where
            return self._attached[fd]

    def _detach(self) -> None:
        for path in (*self._attached.values(), *([self._memory] if self._memory and not self.chrooted else [])):
            step.apart.detach(path)
        self._attached, self._memory = {}, ""

    # -- layers --------------------------------------------------------------------------------

    def chain(self, layers: Sequence[Layer]) -> stores.Chain:
        """What to stack for some layers; those that are not in the store are unpacked."""
        key = tuple(layer.diff_id for layer in layers)
        with self._lock:
            if key not in self._chains:
                self._chains[key] = self._stack(layers)
            return self._chains[key]

    def _stack(self, layers: Sequence[Layer]) -> stores.Chain:
        from oci_tools.layer.limits import Limits

        if not layers:
            self._have_empty()
            return stores.Chain([EMPTY], [["", 0o755, os.geteuid(), os.getegid(), None, {}]], [])
        have_all(layer for layer in layers if not self.store.has(layer.diff_id))
        return stack.build(self.store, [layer.source() for layer in layers], self.owner, Limits())

    def _have_empty(self) -> None:
        with self.store.new(EMPTY) as fresh:
            if not self.store.has(EMPTY):
                os.mkdir(fresh.place, 0o755)
                fresh.say({**stores.NOTHING, "root": False})
                fresh.commit()

    def view(self, layers: Sequence[Layer]) -> Root:
        """A root over these layers to read in, until the build ends; what is written in it is lost."""
        key = tuple(layer.diff_id for layer in layers)
        with self._lock:
            if key not in self._views:
                made = self.root(layers)
                made.__enter__()
                self._views[key] = made
            return self._views[key]

    def root(self, layers: Sequence[Layer]) -> Root:
        """A root over these layers, for a `with` block."""
        made: Root
        if self._trees is None:
            made = Root(self.fresh("root"), self.store, self.chain(layers))
        else:
            from oci_tools.bundle import chrooted, whole

            key = tuple(layer.diff_id for layer in layers)
            kind = chrooted.Chrooted if self.chrooted else whole.Whole
            made = kind(self.fresh("root"), self.store, key, lambda: _sources(layers), self._trees, self.owner)
        if self._able is not None:
            made.able = self._able
        return made


def _sources(layers: Sequence[Layer]) -> list[Any]:
    have_all(layers)
    return [layer.source() for layer in layers]


class _Deaf:
    """While the `with` block lasts, signals that end us end nothing: it tidies up, and takes a moment."""

    def __enter__(self) -> None:
        import threading

        self._before: dict[int, Any] = {}
        while threading.current_thread() is threading.main_thread() and len(self._before) < len(_ENDING):
            number = _ENDING[len(self._before)]
            self._before[number] = _signal.getsignal(number)
            try:
                _signal.signal(number, _signal.SIG_IGN)
            except (KeyboardInterrupt, Error):
                del self._before[number]  # by one that came just before: we are ending already

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
