"""What becomes of a build: an image in a layout, or in an archive, its files in a directory or a tar."""

from __future__ import annotations

import errno
import os

from oci_tools import document, fs
from oci_tools.bundle import Image
from oci_tools.errors import Error, Usage
from oci_tools.image import config as configs
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.build.options import Options
    from oci_tools.build.outputs import Output
    from oci_tools.build.place import Layer, Place
    from oci_tools.build.stages import Result
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Place as Located

# -- an image -----------------------------------------------------------------------------------


def put(layout: Layout, result: Result, options: Options, created: str, whole: bool = True) -> Descriptor:
    """Have a result in a layout as an image, without a name yet; if not `whole`, without blobs that are elsewhere."""
    from oci_tools.build.place import have_all

    if whole:
        have_all(result.layers)
    layers = [described(layer) if layer.bring else have(layout, layer) for layer in result.layers]
    config = configuration(result, options, created)
    if not options.annotations:
        return configs.store(layout, config, layers)
    from oci_tools.build import levels

    platform = configs.platform(config)
    image = configs.store(layout, config, layers, levels.at(options.annotations, "manifest", platform))
    return levels.entry(image, options.annotations, "manifest-descriptor", platform)


def configuration(result: Result, options: Options, created: str) -> dict[str, Any]:
    """The configuration of a result."""
    inner = {name: value for name, value in result.settings.inner.items() if value not in (None, {}, [])}
    if options.labels:
        inner["Labels"] = {**(inner.get("Labels") or {}), **options.labels}
    if options.unset and "Env" in inner:
        kept = [entry for entry in inner.pop("Env") if entry.partition("=")[0] not in options.unset]
        inner.update({"Env": kept} if kept else {})
    last = result.history[-1].get("created") if result.history else None
    made = {**result.document, "created": last or created, "config": inner}
    if result.settings.author is not None:
        made["author"] = result.settings.author
    made["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in result.layers]}
    if options.history:
        made["history"] = result.history
    if options.inline:
        from oci_tools.build import exchange

        made[exchange.INLINE] = options.inline(made["rootfs"]["diff_ids"])
    return made


def complete(layout: Layout, results: list[Result]) -> bool:
    """Have the blobs too that `put` left out; whether there were any."""
    from oci_tools.build.place import have_all

    missing = [layer for result in results for layer in result.layers if layer.bring]
    have_all(missing)
    for layer in missing:
        have(layout, layer)
    return bool(missing)


def described(layer: Layer) -> Descriptor:
    """A layer's descriptor in the specification's words."""
    return {**layer.descriptor, "mediaType": _type(str(layer.descriptor.get("mediaType") or ""))}


def have(layout: Layout, layer: Layer) -> Descriptor:
    """Have a layer's blob in a layout; its descriptor."""
    descriptor = described(layer)
    layout.hold()
    if not layout.has(descriptor) and not _linked(layout, layer):
        with layer.layout.blob(layer.descriptor) as file, layout.ingest(layer.descriptor) as ingest:
            while data := file.read(1 << 20):
                ingest.write(data)
            ingest.commit()
    return descriptor


def _linked(layout: Layout, layer: Layer) -> bool:
    """One more name for a blob that lies in the same file system."""
    target = layout.blob_path(layer.descriptor)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.link(layer.layout.blob_path(layer.descriptor), target)
    except FileExistsError:
        return False  # of another size, so a damaged one: it is written anew
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOENT, errno.EOPNOTSUPP):
            return False
        raise Error("cannot write blob", target, error) from None
    layout.fresh.add(os.path.dirname(target))
    return True


def _type(media_type: str) -> str:
    """A layer's type in the specification's words, if it is docker's."""
    foreign = manifests.DOCKER_FOREIGN.removesuffix(".gzip")
    for theirs, ours in (
        (manifests.DOCKER_LAYER, manifests.OCI_LAYER),
        (foreign, "application/vnd.oci.image.layer.nondistributable.v1.tar"),
    ):
        if media_type.startswith(theirs):
            rest = media_type.removeprefix(theirs)
            return ours + rest.replace(".", "+")
    return media_type


def index(layout: Layout, images: Iterable[Descriptor], said: Iterable[str]) -> Descriptor:
    """An index of images of several platforms."""
    from oci_tools.build import levels

    known = ("mediaType", "digest", "size", "platform", "annotations")
    entries: list[Descriptor] = [{key: image[key] for key in known if key in image} for image in images]
    made = manifests.new_index(entries, levels.at(said, "index") or None)
    return levels.entry(layout.put(document.dumps(made), layouts.INDEX), said, "index-descriptor")


def squash(place: Place, result: Result, options: Options, created: str) -> Result:
    """Make one layer of all that was built above the base, or of that too."""
    from oci_tools.build.place import Layer as Known
    from oci_tools.bundle import rework
    from oci_tools.bundle.pack import Options as Packing
    from oci_tools.layer.limits import Limits

    new = result.layers if options.squash_all else result.layers[result.base_layers :]
    if len(new) < 2:
        return result
    packing = Packing()
    packing.epoch, packing.compression, packing.level, packing.warn = (
        options.epoch, options.compression, options.level, place.warn,
    )  # fmt: skip
    whole = Image(place.layout, put(place.layout, result, options, created))
    below = Result_of(result, len(result.layers) - len(new))
    base = Image(place.layout, put(place.layout, below, options, created)) if below.layers else None
    work = rework.Work(whole, base, packing, Limits())
    work.squash()
    made = Image(place.layout, work.done())
    flat = result.copy()
    flat.layers = [
        Known(layer, diff, place.layout) for layer, diff in zip(made.layers, made.diff_ids, strict=True)
    ]
    kept = len(below.history)
    flat.history = [*flat.history[:kept], *({**entry, "empty_layer": True} for entry in flat.history[kept:])]
    flat.history = [*flat.history, {"created": created, "comment": f"merge of {len(new)} layers"}]
    return flat


def Result_of(result: Result, count: int) -> Result:
    """A result's first layers, with the history that tells of them."""
    made = result.copy()
    made.layers = result.layers[:count]
    made.history = result.history[: _entries_below(result)] if count else []
    return made


def _entries_below(result: Result) -> int:
    """How many entries of the history tell of the base."""
    from oci_tools.build.stages import COMMENT

    first = next((n for n, one in enumerate(result.history) if one.get("comment") == COMMENT), len(result.history))
    return first


# -- files -----------------------------------------------------------------------------------------


def write(output: Output, layout: Layout, images: list[Descriptor], top: Descriptor, names: list[str]) -> str | None:
    """Make an output that is no layout; where it is, None on standard output."""
    if output.kind in ("oci", "docker"):
        if output.kind == "docker" and len(images) == 1:
            top = images[0]  # what is told of it has no place in there
        return _archive(output, layout, top, output.names or names)
    split = len(images) > 1 if output.split is None else output.split
    if output.kind == "local":
        for number, image in enumerate(images):
            name = manifests.whole_name(image["platform"]).replace("/", "_") if split else ""
            _directory(layout, image, f"{output.dest}/{name}".rstrip("/"), output.delete and (split or not number))
        return os.path.abspath(output.dest)
    names = [manifests.whole_name(image["platform"]).replace("/", "_") if split else "" for image in images]
    return _tar(output, [(name, *_flat(layout, image)) for name, image in zip(names, images, strict=True)])


def _archive(output: Output, layout: Layout, top: Descriptor, names: list[str]) -> str | None:
    from oci_tools.image import archive, convert

    view: Any = layout
    if output.kind == "docker":
        changed = convert.convert(layout.read, top, "docker", {})
        view, top = convert.View(layout, changed), convert.renamed(top, changed[-1][1], "docker")
    places = [(name, checked(name)) for name in names]
    called = [at.name if at.kind == "layout" else name for name, at in places]
    named: list[tuple[str | None, Descriptor]] = [(name, top) for name in called] or [(None, top)]
    if not output.tar:
        return _layout(view, named, output.dest)
    if output.dest == "-":
        import sys

        sys.stdout.flush()
        with open(1, "wb", buffering=0, closefd=False) as stream:
            archive.write(view, named, stream)
        return None
    archive.write_file(view, named, output.dest)
    return os.path.abspath(output.dest)


def _layout(view: Any, named: list[tuple[str | None, Descriptor]], path: str) -> str:
    """Put an image into a layout of its own, under its names there."""
    from oci_tools.image import copy

    with layouts.Layout.create(path) as layout:
        for name, top in named:
            copy.copy(view, top, layout)
            layout.tag(layout.name_for(name), top)
    return layout.path


def _flat(layout: Layout, image: Descriptor) -> tuple[Any, Any]:
    from oci_tools.bundle import flat
    from oci_tools.layer.limits import Limits

    whole = flat.Flat(Image(layout, image), Limits())
    return whole, whole.find("/")


def _tar(output: Output, parts: list[tuple[str, Any, Any]]) -> str | None:
    """Write the files of images, each below a directory if it has a name, as one archive."""
    if output.dest == "-":
        try:
            _archive_of(parts, 1)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise Error("cannot write standard output", None, error) from None
        return None
    with fs.Output(output.dest) as fd:
        _archive_of(parts, fd)
    return os.path.abspath(output.dest)


def _archive_of(parts: list[tuple[str, Any, Any]], fd: int) -> None:
    if len(parts) == 1 and not parts[0][0]:
        for piece in parts[0][1].archive(parts[0][2]):
            fs.write_all(fd, piece)
        return
    import tarfile

    from oci_tools.build.remote import Pieces

    class Sink:
        def write(self, data: bytes) -> int:
            fs.write_all(fd, data)
            return len(data)

    to: Any = Sink()
    with tarfile.open(fileobj=to, mode="w|", format=tarfile.PAX_FORMAT) as made:
        for name, whole, top in parts:
            pieces: Any = Pieces(whole.archive(top))
            with tarfile.open(fileobj=pieces, mode="r|") as read:
                for entry in read:
                    entry.name = os.path.normpath(f"{name}/{entry.name}")
                    entry.linkname = f"{name}/{entry.linkname}".lstrip("/") if entry.islnk() else entry.linkname
                    entry.pax_headers = {key: text for key, text in entry.pax_headers.items() if "path" not in key}
                    made.addfile(entry, read.extractfile(entry) if entry.isreg() else None)
                    made.members, read.members = [], []  # type: ignore[attr-defined]


def _directory(layout: Layout, image: Descriptor, path: str, anew: bool) -> None:
    """Put an image's files into a directory, over what is there, or `anew` in place of it; all of them are ours."""
    from oci_tools.build import copying, picking
    from oci_tools.layer import merge, owner
    from oci_tools.layer.limits import Limits

    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Error("cannot make directory", path, error) from None
    beside = f"{path}/.oci-build-{os.getpid()}.new"
    try:
        merge.flatten(Image(layout, image).sources(), beside, owner.for_namespace(), Limits())
        for name in os.listdir(path) if anew else ():
            if f"{path}/{name}" != beside:
                fs.remove_tree(f"{path}/{name}")
        source, target = (os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for each in (beside, path))
        try:
            whole = picking.Origin(source, owners=False)
            ids = (os.geteuid(), os.getegid())
            copying.copy(whole, picking.pick(whole, "/"), "/", copying.Target(target, ids))
        finally:
            os.close(source)
            os.close(target)
    finally:
        fs.remove_tree(beside)


def at(word: str) -> tuple[Layout, str | None]:
    """The layout that a tag is in, made if it is missing, and the name there."""
    from oci_tools.image import ref as refs

    place = checked(word)
    return layouts.at(place, make=True), place.name_for(place.ref or refs.Ref.parse("image"))


def checked(word: str) -> Located:
    """The place of a tag, which nothing is made for yet."""
    from oci_tools.image import ref as refs

    place = refs.locate(word)
    if place.kind not in ("layout", "store"):
        raise Usage("not a place in a layout", word)
    return place
