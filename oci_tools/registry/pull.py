"""A whole image from a registry into a layout, or into an archive on a stream.

    manifest -> which platforms -> their blobs, in parallel -> manifests -> index.json

Manifests are kept byte for byte; only a choice of several platforms makes a new index, whose
digest is its own.  A blob that is cut is gone on with from where it ended, in a later run too.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

from oci_tools import fetch
from oci_tools.errors import Error
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.referrers import beside
from oci_tools.image.rewrite import Changed
from oci_tools.image.source import Scratch
from oci_tools.image.target import Fresh
from oci_tools.registry import ranges
from oci_tools.registry.choose import ORIGIN, choose
from oci_tools.registry.copy import WORTH, Options, Remote, Stopped, parallel
from oci_tools.registry.passage import Passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from oci_tools.image.ingest import Ingest
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place, Ref
    from oci_tools.registry.arriving import Arriving
    from oci_tools.registry.choose import Chosen

    Along = Callable[[Arriving], None]



def pull(
    ref: Ref,
    layout: Layout,
    name: str | None,
    options: Options,
    platforms: Sequence[str] = (),
    every: bool = False,
    along: Along | None = None,
) -> Descriptor:
    """Bring an image into a layout under a name (None: without); the descriptor it has there.

    What a tag meant when it was pulled last stands beside it, so that one that has not moved costs no pull.
    `along` is called with what is on its way, if there is something to fetch (registry/arriving.py).
    Of an index, the image for this host is taken (the index itself is not kept), or the one
    for the platform given; for several platforms an index of those, for `every` all of it; a sparse one is kept as it
    is with these images only.
    """
    other = platforms or every or options.referrers or options.format or options.compress or options.only is not None
    other = other or options.sparse
    present = None if other or options.policy.asks(ref) else _present(ref, layout, name, options)
    if present:
        layout.tag(name, present)
        return present
    chosen = choose(ref, options, platforms, every, lambda chosen: bring(layout, chosen))
    fetch_into(layout, name, chosen, along)
    return chosen.descriptor


def pull_to(
    ref: Ref, place: Place, options: Options, platforms: Sequence[str] = (), every: bool = False,
    along: Along | None = None,
) -> tuple[Layout, Descriptor]:  # fmt: skip
    """The same into a layout that may not exist yet: a failure leaves it so, unless a later run can go on."""
    name = place.name_for(ref)
    if os.path.exists(f"{place.path}/oci-layout"):
        layout = layouts.at(place, make=True)
        return layout, pull(ref, layout, name, options, platforms, every, along)
    made: list[Layout] = []
    with ExitStack() as until:

        def fresh() -> Layout:
            if not made:
                made.append(until.enter_context(Fresh(place)))
            return made[0]

        chosen = choose(ref, options, platforms, every, lambda chosen: bring(fresh(), chosen))
        fetch_into(fresh(), name, chosen, along)
    return made[0], chosen.descriptor


def fetch_into(layout: Layout, name: str | None, chosen: Chosen, along: Along | None = None) -> None:
    """Bring what was chosen into a layout: blobs, then manifests, then the name."""
    layout.hold()
    if chosen.remote.options.only is not None:
        chosen.keep_only(chosen.remote.options.only)
    chosen.change(layout)
    if along is None:
        return _fetch(layout, name, chosen, {})
    from oci_tools.registry.arriving import Arriving

    with Arriving(chosen, layout) as arriving:
        try:
            along(arriving)  # it forks, so there are no threads yet
            _fetch(layout, name, chosen, arriving.ingests)
        except BaseException:
            arriving.fail()
            raise
        arriving.done()


def _fetch(layout: Layout, name: str | None, chosen: Chosen, begun: dict[str, Ingest]) -> None:
    bring(layout, chosen, begun)
    layout.tag(name, chosen.descriptor, chosen.marks() if name else None)
    for descriptor in chosen.referrers:
        layout.tag(beside(name, layouts.ref_name(descriptor)), descriptor)


def bring(layout: Layout, chosen: Chosen, begun: dict[str, Ingest] | None = None) -> Layout:
    """Bring what was chosen so far into a layout, blobs before the manifests that name them; it is held for that."""
    layout.hold()
    options = chosen.remote.options
    blobs = list(chosen.blobs.values())
    for descriptor in blobs:
        options.progress.tell(descriptor["digest"], "wait", 0, descriptor["size"])
    blobs.sort(key=lambda descriptor: -int(descriptor["size"]))
    large = [blob for blob in blobs if blob["size"] >= ranges.LEAST and not layout.has(blob)]
    width = ranges.width(options.jobs, len(large))
    fetches = [_Fetch(chosen.remote, layout, blob, width, (begun or {}).get(blob["digest"])) for blob in blobs]
    parallel(options.jobs, [fetch.run for fetch in fetches])
    for data, descriptor in chosen.documents:
        layout.put(data, descriptor["mediaType"], descriptor["digest"].partition(":")[0])
    return layout


def _present(ref: Ref, layout: Layout, name: str | None, options: Options) -> Descriptor | None:
    """An image that is here, whole: by its digest, since that names no other, or by a tag that has not moved."""
    for descriptor in layout.index()["manifests"]:
        if not ref.digest:
            if name is None or layouts.ref_name(descriptor) != name:
                continue
            origin = layouts.annotation(descriptor, ORIGIN) or descriptor.get("digest")
            same = _whole(layout, descriptor) and Remote(ref, options).head(ref.tag) == origin
            return dict(descriptor) if same else None
        named = name is not None and layouts.ref_name(descriptor) == name == str(ref)
        if (named or descriptor.get("digest") == ref.digest) and _whole(layout, descriptor):
            return dict(descriptor)
    return None


def _whole(layout: Layout, descriptor: Descriptor) -> bool:
    try:
        found = manifests.load(layout, descriptor)
    except Error:
        return False
    return "layers" in found and all(layout.has(child) for child in manifests.children(found))


class _Fetch:
    """One blob on its way from a repository into a layout."""

    def __init__(
        self, remote: Remote, layout: Layout, descriptor: Descriptor, width: int, begun: Ingest | None
    ) -> None:
        self.begun = begun
        self.remote = remote
        self.layout = layout
        self.descriptor = descriptor
        self.width = width
        self.progress = remote.options.progress

    def run(self, stop: threading.Event) -> None:
        size = self.descriptor["size"]
        if self.layout.has(self.descriptor):
            return self._tell("exists", size)
        with self.begun or self.layout.ingest(self.descriptor, resume=True) as ingest:
            found = ingest.offset
            self._receive(ingest, stop)
            try:
                ingest.commit()
            except Error:
                if not found:
                    raise
                ingest.restart()  # what an earlier run left was not the beginning of this
                self._receive(ingest, stop)
                ingest.commit()
        return self._tell("done", size)

    def _tell(self, state: str, current: int) -> None:
        self.progress.tell(self.descriptor["digest"], state, current, self.descriptor["size"])

    def _receive(self, ingest: Any, stop: threading.Event) -> None:
        """All that is missing; a cut is followed by another request from there on, and so is a part of a range."""
        client = self.remote.options.client
        attempt, mark = 0, ingest.offset
        while ingest.offset < self.descriptor["size"]:
            try:
                self._read(ingest, stop)
            except fetch.Lost:
                self.width = 1  # parts that are always cut would never be whole
                if ingest.offset - mark >= WORTH:
                    attempt, mark = 0, ingest.offset
                if attempt >= client.retries:
                    raise
                client.pause(attempt)
                attempt += 1

    def _read(self, ingest: Any, stop: threading.Event) -> None:
        at, stream = ranges.pieces(self.remote, self.descriptor, ingest.offset, self.width, stop)
        if at != ingest.offset:
            ingest.restart()
        begun = ingest.offset
        try:
            for data in stream:
                if stop.is_set():
                    raise Stopped
                ingest.write(data)
                if not self.progress.quiet:
                    self._tell("get", ingest.offset)
        except Error as error:
            if isinstance(error.cause, OSError) and error.cause.errno == 28:  # ENOSPC
                ingest.restart()  # what cannot be finished must not fill the disk
            raise
        finally:
            stream.close()
        if ingest.offset < self.descriptor["size"] and not (at and ingest.offset - begun >= ranges.PIECE):
            raise fetch.Lost("cannot fetch blob", self.descriptor["digest"], "it ends too early")


# -- into an archive -----------------------------------------------------------------------


def to_archive(
    ref: Ref, write: Callable[[Any, list[Descriptor]], None], options: Options,
    platforms: Sequence[str] = (), every: bool = False,
) -> None:  # fmt: skip
    """Let `write` make an archive of an image and what refers to it, straight from its registry.

    Nothing is kept on disk, but what must be read before an old image is known: what `write` is given is read as a
    layout, and is none.
    """
    with ExitStack() as until:
        chosen = choose(ref, options, platforms, every, scratch=lambda chosen: beside_all(until, chosen))
        made = until.enter_context(Changed(Passing(chosen), chosen.descriptor, options.format, options.compress))
        write(made.view, [made.top, *chosen.referrers])


def beside_all(until: ExitStack, chosen: Chosen) -> Layout:
    """Bring what was chosen so far into a layout that is gone with `until`."""
    return bring(until.enter_context(Scratch()), chosen)
