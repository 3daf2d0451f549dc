"""An image becomes another by its layers: rewritten, made one, or put on another base.

What is the base's is never touched: `keep` layers at the bottom, of which the image below it is made.

    rewrite  takes paths out of the layers above, and times after SOURCE_DATE_EPOCH back to it; a layer
             in which nothing changes stays the blob that it is
    squash   one layer of those above, by what they do together: with whiteouts for the base; without
             a base all is one layer
    rebase   the layers above, as they are, on another image

What is read is checked as by who unpacks it.  A layer of which nothing is left is left out.  The history keeps telling
of steps whose layer is gone, into another or altogether, as of such without a layer.
"""

from __future__ import annotations

from oci_tools import bundle
from oci_tools.bundle import flat
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests
from oci_tools.layer import diff
from oci_tools.layer.apply import Plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.bundle.pack import Options
    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.layer.limits import Limits


class Work:
    """An image being reworked in the layout that it is in; `done` is the new one."""

    def __init__(self, image: bundle.Image, base: bundle.Image | None, options: Options, limits: Limits) -> None:
        self._layout: Layout = image.layout
        self._image = image
        self._options = options
        self._limits = limits
        self._config = image.config
        self._layers = list(image.layers)
        self._type = manifests.kind(image.manifest, image.descriptor)
        self._keep = _kept(image, base)
        self._below = _told(image, base)
        self._told = False  # the history has an entry for what was done

    def rewrite(self, strip: list[bytes]) -> None:
        """Layer by layer: without some paths, and no time later than the options' epoch."""
        found: list[str | None] = [*configs.diff_ids(self._config)]
        sources = self._image.sources()
        for at in range(self._keep, len(self._layers)):
            kind = _compression(self._layers[at])
            with self._layout.ingest() as ingest, self._options.archive(ingest, kind) as made:
                packing = diff.Packing(made, self._options.epoch, False, self._options.warn)
                with sources[at].open() as stream, Plain(sources[at], stream, self._limits, threads=True) as plain:
                    packing.archive(flat.Stream(iter(plain)), self._limits, strip)
                made.close()
                if packing.changed and packing.newest is None:
                    found[at] = None
                elif packing.changed:
                    self._layers[at] = ingest.commit(manifests.layer_type(self._type, kind))
                    found[at] = made.diff_id
        self._config = configs.without_layers(self._config, found)
        self._layers = [layer for layer, diff_id in zip(self._layers, found, strict=True) if diff_id]
        if self._options.epoch is not None:
            self._retime(self._options.epoch)

    def _retime(self, epoch: int) -> None:
        """No time of ours in the configuration is later either; RFC 3339 in UTC sorts as text."""
        newest = configs.timestamp(epoch)
        history = list(self._config.get("history") or ())
        for at, entry in enumerate(history[self._below :], self._below):
            if isinstance(entry, dict) and str(entry.get("created", "")) > newest:
                history[at] = {**entry, "created": newest}
        self._config = {**self._config, "history": history}
        if str(self._config.get("created", "")) > newest:
            self._config["created"] = newest

    def squash(self) -> None:
        """One layer of those above the base."""
        if len(self._layers) - self._keep < 2:
            return
        manifest = {**self._image.manifest, "layers": self._layers, "config": self._stored()["config"]}
        image = bundle.Image(self._layout, self._put(manifest))
        kind = self._options.compression or _compression(self._layers[-1])
        with self._layout.ingest() as ingest, self._options.archive(ingest, kind) as made:
            packing = diff.Packing(made, self._options.epoch, False, self._options.warn)
            pieces = flat.Flat(image, self._limits, self._keep).changes()
            packing.archive(flat.Stream(pieces), self._limits, self._options.masks)
            made.close()
            descriptor = ingest.commit(manifests.layer_type(self._type, kind))
        self._layers[self._keep :] = [descriptor]
        history = list(self._config.get("history") or ())
        above = history[self._below :]
        history[self._below :] = [{**entry, "empty_layer": True} for entry in above if isinstance(entry, dict)]
        rootfs = {**self._config["rootfs"], "diff_ids": configs.diff_ids(self._config)[: self._keep]}
        self._config = {**self._config, "rootfs": rootfs, "history": history}
        self._config = configs.with_layer(self._config, made.diff_id, self._created(), *self._options.told)
        self._told = True

    def rebase(self, new: bundle.Image) -> None:
        """The layers above the base on another one; what the image says of its containers stays."""
        if configs.platform(new.config) != configs.platform(self._config):
            said = [manifests.platform_name(configs.platform(config)) for config in (new.config, self._config)]
            raise Error("cannot rebase", None, f"the new base is for {said[0]}, the image for {said[1]}")
        ours = configs.diff_ids(self._config)[self._keep :]
        below, whole = configs.whole_history(new.config), configs.whole_history(self._config)
        rootfs = {**self._config["rootfs"], "diff_ids": [*new.diff_ids, *ours]}
        self._config = {**self._config, "rootfs": rootfs, "history": below + whole[self._below :]}
        kinds = {kind: manifests.layer_type(self._type, kind) for kind in ("none", "gzip", "zstd")}
        lower = [
            {**layer, "mediaType": kinds[_compression(layer)]} if not layer.get("urls") else layer
            for layer in new.layers
        ]
        self._layers[: self._keep] = lower
        self._keep, self._below = len(lower), len(below)

    def done(self) -> Descriptor:
        """The image, with what the options change of its configuration; not yet named."""
        config = self._options.edit(self._config)
        said = self._image.manifest.get("annotations")
        annotations = self._options.annotate(said or {})
        if config != self._config and self._options.history and not self._told:
            config = configs.with_layer(config, None, self._created(), *self._options.told)
        same = (config, self._layers, annotations) == (self._image.config, self._image.layers, said or {})
        if same:
            return self._image.descriptor
        return configs.store(self._layout, config, self._layers, annotations, self._type)

    def _created(self) -> str | None:
        epoch = self._options.epoch
        return self._options.created or (None if epoch is None else configs.timestamp(epoch))

    def _stored(self) -> dict[str, Any]:
        """The manifest of what there is by now."""
        return manifests.load(self._layout, configs.store(self._layout, self._config, self._layers, None, self._type))

    def _put(self, manifest: dict[str, Any]) -> Descriptor:
        from oci_tools import document

        return self._layout.put(document.dumps(manifest), self._type)


def _kept(image: bundle.Image, base: bundle.Image | None) -> int:
    """How many of an image's layers are its base's."""
    if base is None:
        return 0
    if image.diff_ids[: len(base.diff_ids)] != base.diff_ids:
        raise Error("not the base of the image", base.descriptor["digest"], "its layers are not the lowest ones")
    return len(base.diff_ids)


def _told(image: bundle.Image, base: bundle.Image | None) -> int:
    """How many entries of an image's history are its base's: as many as that has, if they can be the same.

    Else those up to the base's last layer, and of what was done to that before the next one.
    """
    if base is None:
        return 0
    whole, below = (list(map(configs.is_empty, configs.whole_history(one.config))) for one in (image, base))
    if whole[: len(below)] == below:
        return len(below)
    layers = [at for at, empty in enumerate(whole) if not empty]
    return [*layers, len(whole)][len(base.diff_ids)]


def _compression(layer: Descriptor) -> str:
    said = str(layer.get("mediaType", ""))
    return next((kind for kind in ("gzip", "zstd") if said.endswith(kind)), "none")
