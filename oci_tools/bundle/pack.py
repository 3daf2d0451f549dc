"""A tree, an archive, or what changed in a bundle becomes a layer, and with it an image.

    tree     all of a directory, as one layer, on a base or on nothing
    archive  a tar stream likewise; written anew, so that the same entries are the same bytes
    changes  of a bundle against what was unpacked, as one layer on the image it came from; no change
             is no layer, and with nothing else to change the image stays the very same

The layers below are never touched.  What is made is a pure function of what is packed, the options, and
SOURCE_DATE_EPOCH: the time of creation is that, else the newest time in the layer.
"""

from __future__ import annotations

import os

from oci_tools import bundle, compress, document, fs
from oci_tools.errors import Error, quote
from oci_tools.image import config as configs
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs
from oci_tools.layer import diff, lookup, snapshot
from oci_tools.layer import owner as owners
from oci_tools.layer.write import Archive
from oci_tools.names import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.layer.limits import Limits

    Fill = Callable[[diff.Packing], bool]


class Options:
    """How to pack.

    compression  "gzip", "zstd", "none"; None: as the layer below, else gzip
    level        of the compression, None for its default
    compatible   the compatibility level whose bytes it must be, or it is an Error; None: those of the newest, else a
                 warning
    epoch        SOURCE_DATE_EPOCH: no time is later
    edit         changes a configuration
    annotate     changes a manifest's annotations
    history      whether to tell of the step
    told         what to tell: created_by, comment, author
    created      when it was made; None: `epoch`, else the newest time in the layer
    masks        paths to leave out
    volumes      whether to pack what is in the image's volumes
    warn         hears what is left out
    tell         gives, for each layer that is begun, who hears how far it is (layer/write.py)
    """

    def __init__(self) -> None:
        self.compression: str | None = None
        self.level: int | None = None
        self.compatible: int | None = None
        self.epoch: int | None = None
        self.edit: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config
        self.annotate: Callable[[dict[str, str]], dict[str, str]] = dict
        self.history = True
        self.told = ("oci-pack", "", "")
        self.created: str | None = None
        self.masks: list[bytes] = []
        self.volumes = False
        self.warn: Callable[[str], None] | None = None
        self.tell: Callable[[], Callable[[int, bool], None]] | None = None

    def plain(self) -> Options:
        """The same for a layer that is not the last: nothing but the layer is changed yet."""
        made = Options()
        made.__dict__.update(self.__dict__, edit=lambda config: config, annotate=dict)
        return made

    def archive(self, stream: Any, kind: str) -> Archive:
        """A layer's archive, of this compression, into a stream."""
        wanted = self.compatible or compress.COMPATIBILITY
        level = compress.EARLIER[wanted].get(kind) if self.level is None else self.level
        made = Archive(stream, kind, level, self.tell() if self.tell else None)
        if not compress.is_compatible(kind, level):
            what = f"the {kind} library here makes other bytes than compatibility level {wanted}"
            if self.compatible:
                made.__exit__()
                raise Error("cannot pack", None, what)
            if self.warn:
                self.warn(what)
        return made


class Base:
    """What a new layer is put on: an image in the target layout, or nothing."""

    def __init__(self, image: bundle.Image | None, platform: str | None = None) -> None:
        self.image = image
        self.config = image.config if image else configs.new(platform)
        self.layers: list[Descriptor] = list(image.layers) if image else []
        self.type = manifests.kind(image.manifest, image.descriptor) if image else manifests.OCI_MANIFEST
        self.annotations: dict[str, str] = dict(image.manifest.get("annotations") or {}) if image else {}

    def compression(self) -> str:
        """That of the last layer, but never none: gzip."""
        said = str(self.layers[-1].get("mediaType", "")) if self.layers else ""
        return "zstd" if said.endswith("zstd") else "gzip"


# -- what is packed -----------------------------------------------------------------------------


def tree(
    path: str, layout: Layout, base: Base, options: Options, split: Sequence[bytes] = (), most: int | None = None
) -> Descriptor:
    """All of a directory as a layer on a base; the image's descriptor, not yet named.

    What is in a path of `split` gets a layer of its own, in their order, above the rest; with `most` the
    tree is cut in at most so many layers (layer/shape.py).
    """
    rootfd = _open(path)
    parts = [b"/".join(clean(part)) for part in split]
    try:
        with lookup.Stack([path]) as whole:
            for part in parts:
                if whole.look(part) is None:
                    raise Error("cannot split off", part, f"there is no such path in {quote(path)}")
        if most is not None:
            from oci_tools.layer import shape

            cut = shape.cut(rootfd, most, options.masks)
            return _images(layout, base, options, [_paths(rootfd, paths) for paths in cut])
        return _images(layout, base, options, [_part(rootfd, part, parts, options.masks) for part in (b"", *parts)])
    finally:
        os.close(rootfd)


def _paths(rootfd: int, paths: Iterable[bytes]) -> Fill:
    return lambda packing: packing.changes(rootfd, ((path, False) for path in paths)) or True


def _part(rootfd: int, part: bytes, parts: Sequence[bytes], masks: list[bytes]) -> Fill:
    left_out = [*masks, *(other for other in parts if other != part and _inside(other, part))]
    return lambda packing: packing.tree(rootfd, left_out, part) or not part


def _images(layout: Layout, base: Base, options: Options, fills: list[Fill]) -> Descriptor:
    """A layer on the other; what the options say besides is of the last."""
    for fill in fills[:-1]:
        base = Base(bundle.Image(layout, _image(layout, base, options.plain(), fill)))
    return _image(layout, base, options, fills[-1])


def archive(stream: Any, layout: Layout, base: Base, options: Options, limits: Limits) -> Descriptor:
    """A tar stream, compressed or not, as a layer on a base."""

    def fill(packing: diff.Packing) -> bool:
        packing.archive(stream, limits, options.masks)
        return True

    return _image(layout, base, options, fill)


def changes(path: str, layout: Layout, options: Options, later: bool = False) -> Descriptor:
    """What changed in a bundle as a layer on its image, which gets into the layout if it is not there.

    With `later` a snapshot is taken before, for `refresh`: what changes meanwhile is a change then.
    """
    from oci_tools.image import copy

    known = bundle.record(path)
    if later:
        _take(path)
    source, descriptor = parent(known, layout)
    copy.copy(source, descriptor, layout)
    base = Base(bundle.Image(layout, descriptor))
    masks = list(options.masks)
    if not options.volumes:
        masks += [os.fsencode(volume) for volume in (base.config.get("config") or {}).get("Volumes") or ()]
    mounted = places(path)
    stacked = bundle.overlay_of(path)
    rootfd = _open(f"{path}/rootfs" if stacked is None else f"{path}/{stacked['upper']}")

    def fill(packing: diff.Packing) -> bool:
        packing.before = _Before(base.image).find
        packing.higher = owners.higher(known["owner"])
        if stacked is None:
            with snapshot.Snapshot(f"{path}/{known['snapshot']}") as before:
                return packing.changes(rootfd, diff.compare(rootfd, before, masks, mounted))
        from oci_tools.layer import store, upper

        kept = store.Store(known["owner"])
        trees = [kept.tree(digest) for digest in stacked["lower"]]
        chain = kept.chain(known["config"])
        return packing.changes(rootfd, upper.compare(rootfd, trees, chain, masks, mounted))

    try:
        return _image(layout, base, options, fill, single=known["owner"].startswith("single"))
    except BaseException:
        fs.remove_tree(f"{path}/{_LATER}")
        raise
    finally:
        os.close(rootfd)


def refresh(path: str, layout: Layout, made: Descriptor, name: str | None) -> None:
    """Let a bundle be of the image that was made of it: what is packed next is what changes from here on.

    The record says which snapshot counts, so that killed at any time it is one or the other.
    """
    known = bundle.record(path)
    fresh = {**known, **bundle.Image(layout, made, name=name).record()}
    fresh["snapshot"] = f"{bundle.SNAPSHOT}.{made['digest'].partition(':')[2][:12]}"
    try:
        os.rename(f"{path}/{_LATER}", f"{path}/{fresh['snapshot']}")
    except OSError as error:
        raise Error("cannot write", f"{path}/{fresh['snapshot']}", error) from None
    fs.write(f"{path}/{bundle.RECORD}", document.dumps(fresh) + b"\n")
    if known["snapshot"] != fresh["snapshot"]:
        os.unlink(f"{path}/{known['snapshot']}")


_LATER = f"{bundle.SNAPSHOT}.new"


def _take(path: str) -> None:
    if bundle.overlay_of(path) is not None:
        raise Error("cannot refresh", path, "its layers are in the store", "unpack the new image")
    rootfd = _open(f"{path}/rootfs")
    try:
        fs.remove_tree(f"{path}/{_LATER}")
        snapshot.take(rootfd, f"{path}/{_LATER}")
    finally:
        os.close(rootfd)


class _Before:
    """What the files of an image are; its layers are read when somebody asks first."""

    def __init__(self, image: bundle.Image | None) -> None:
        self._image = image
        self._top: Any = None

    def find(self, path: bytes) -> diff.Before | None:
        from oci_tools.image import files
        from oci_tools.image.tree import Dir
        from oci_tools.layer.limits import Limits

        if self._image is None:
            return None
        if self._top is None:
            self._top = files.places_above(self._image.layout, self._image.manifest, 0, Limits())[1].root
        node = self._top
        for part in path.split(b"/"):
            node = node.get(part) if isinstance(node, Dir) else None
        if node is None or isinstance(node, Dir):
            return None
        major, _, minor = node[6].partition(b":") if node[0] in "cb" else (b"0", b"", b"0")
        return node[0], node[1], node[2], node[3], (int(major), int(minor))


def parent(known: dict[str, Any], layout: Layout) -> tuple[Layout, Descriptor]:
    """The image that a bundle came from, in the layout or where it was, by its record."""
    descriptor = known["manifest"]
    for path in (layout.path, known["image"].rpartition("@")[0], refs.store_path()):
        try:
            place = layout if path == layout.path else layouts.Layout.open(path)
        except Error:
            continue
        if place.has(descriptor):
            return place, descriptor
    why = "it is in no layout any more"
    raise Error("cannot find the bundle's image", descriptor["digest"], why, "oci-pull gets it")


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot open directory", path, error) from None


def places(path: str) -> frozenset[bytes]:
    """Where config.json has something mounted, with the directories on the way: a runtime makes them."""
    spec = document.load(f"{path}/config.json")
    found: set[bytes] = set()
    for mount in spec.get("mounts") or ():
        parts = clean(os.fsencode(str(mount.get("destination", ""))))
        found.update(b"/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return frozenset(found)


def _inside(path: bytes, top: bytes) -> bool:
    return not top or path.startswith(top + b"/")


# -- an image ---------------------------------------------------------------------------------------


def _image(
    layout: Layout, base: Base, options: Options, fill: Fill, single: bool | None = None
) -> Descriptor:
    made, newest = _layer(layout, base, options, fill, os.geteuid() != 0 if single is None else single)
    config = options.edit(base.config)
    annotations = options.annotate(base.annotations)
    if made is None and config == base.config and annotations == base.annotations and base.image:
        return base.image.descriptor
    if options.created or options.epoch is not None:
        created: str | None = options.created or configs.timestamp(options.epoch)
    else:
        created = None if newest is None else configs.timestamp(max(newest, 0) // 1_000_000_000)
    descriptor, diff_id = made or (None, None)
    if diff_id is not None or (options.history and config != base.config):
        said = options.told if options.history else ()
        config = configs.with_layer(config, diff_id, created if options.history else None, *said)
    if created and not options.history:
        config = {**config, "created": created}
    layers = base.layers + ([descriptor] if descriptor else [])
    return configs.store(layout, config, layers, annotations, base.type)


def _layer(
    layout: Layout, base: Base, options: Options, fill: Fill, single: bool
) -> tuple[tuple[Descriptor, str] | None, int | None]:
    """Write a layer: its descriptor and diff id, None if it would be empty; and the newest time in it."""
    kind = options.compression or base.compression()
    with layout.ingest() as ingest, options.archive(ingest, kind) as made:
        packing = diff.Packing(made, options.epoch, single, options.warn)
        if not fill(packing):
            return None, None
        made.close()
        descriptor = ingest.commit(manifests.layer_type(base.type, kind))
    return (descriptor, made.diff_id), packing.newest
