"""An image's configuration: image-spec, config.md.

The `dict` of the document, read, made and changed; nothing is changed in place.  What a
container makes of it (User, Env, Entrypoint...) is `runtime/spec.py`'s.

The rule that ties it to its manifest: `rootfs.diff_ids` has the digest of each layer's plain tar, in
the layers' order, and `history` has as many entries without `empty_layer`, if it has any.
"""

from __future__ import annotations

import time

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

    Config = dict[str, Any]

# What a config's descriptor may say; old tools wrote the last two.
_TYPES = (*manifests.CONFIGS, "application/octet-stream", "")


def load(layout: Layout, manifest: dict[str, Any]) -> Config:
    """The configuration of a manifest, verified, with one diff id for each layer."""
    descriptor = manifest["config"]
    if descriptor.get("mediaType", "") not in _TYPES:
        raise Error(
            "not a container image", descriptor["digest"], f"its config is '{descriptor['mediaType']}'"
        )
    config = document.loads(layout.read(descriptor), descriptor["digest"], scan=manifests.STRICT)
    if not isinstance(config, dict):
        raise Error("invalid image config", descriptor["digest"], "not an object")
    found, layers = diff_ids(config, descriptor["digest"]), len(manifest["layers"])
    if len(found) != layers:
        raise Error(
            "invalid image config", descriptor["digest"], f"{len(found)} diff ids for {layers} layers"
        )
    return config


def diff_ids(config: Config, name: str = "config") -> list[str]:
    """The digests of the layers' plain tars, checked."""
    rootfs = config.get("rootfs") or {}
    found = rootfs.get("diff_ids") or [] if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or not all(digests.valid(diff_id) for diff_id in found):
        raise Error("invalid image config", name, "rootfs.diff_ids is not a list of digests")
    return list(found)


def platform(config: Config) -> dict[str, str]:
    """What the image says it runs on: a member that is no string is left out."""
    keys = ("os", "architecture", "variant", "os.version")
    return {key: config[key] for key in keys if config.get(key) and isinstance(config[key], str)}


def new(platform: dict[str, str] | str | None = None, created: str | None = None) -> Config:
    """The configuration of an image without layers, for this host's platform unless told."""
    if isinstance(platform, str):
        platform = manifests.parse_platform(platform)
    made: Config = {"created": created} if created else {}
    made.update(platform or manifests.host_platform())
    return {**made, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []}


def with_layer(
    config: Config,
    diff_id: str | None,
    created: str | None = None,
    created_by: str = "",
    comment: str = "",
    author: str = "",
) -> Config:
    """The configuration after one more step: a layer, or with no diff id a change of nothing but itself.

    A history that told less than the layers are is told up to here first, since its entries
    and the layers are counted against each other.
    """
    found = diff_ids(config)
    history = list(config.get("history") or [])
    missing = len(found) - sum(not (isinstance(h, dict) and h.get("empty_layer")) for h in history)
    created_then = config.get("created")  # umoci stat breaks on an entry that has no time
    history += [{"created": created_then or timestamp(0), "comment": "unknown"}] * max(missing, 0)
    said = {
        "created": created or created_then or timestamp(0),
        "created_by": created_by,
        "author": author,
        "comment": comment,
    }
    entry: dict[str, Any] = {key: value for key, value in said.items() if value}
    if diff_id is None:
        entry["empty_layer"] = True
    else:
        found.append(diff_id)
    rootfs = {"type": "layers", **(config.get("rootfs") or {}), "diff_ids": found}
    changed = {**config, "rootfs": rootfs, "history": [*history, entry]}
    return {**changed, "created": created} if created else changed


def store(
    layout: Layout,
    config: Config,
    layers: Iterable[Descriptor],
    annotations: dict[str, str] | None = None,
    media_type: str = manifests.OCI_MANIFEST,
) -> Descriptor:
    """Put a configuration and a manifest of it and these layers into a layout: an image, without a name.

    The descriptor that is returned says the platform, as an index or a name needs it.
    """
    docker = media_type == manifests.DOCKER_MANIFEST
    config_type = manifests.DOCKER_CONFIG if docker else manifests.OCI_CONFIG
    put = layout.put(document.dumps(config), config_type)
    made = manifests.new(put, layers, annotations, media_type)
    return {**layout.put(document.dumps(made), media_type), "platform": platform(config)}


def timestamp(seconds: float | None = None) -> str:
    """A time (default: now) as config.md wants it: RFC 3339, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
