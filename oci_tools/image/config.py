"""An image's configuration: image-spec, config.md.

The `dict` of the document, read, made and changed; nothing is changed in place.  What a
container makes of it (User, Env, Entrypoint...) is `runtime/spec.py`'s.

The rule that ties it to its manifest: `rootfs.diff_ids` has the digest of each layer's plain tar, in
the layers' order, and `history` has as many entries without `empty_layer`, if it has any.
"""

from __future__ import annotations

import os
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
    data = layout.read(descriptor)
    document.check_weight(data, descriptor["digest"])
    config = document.loads(data, descriptor["digest"], scan=manifests.STRICT)
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
    """The configuration after one more step: a layer, or with no diff id a change of nothing but itself."""
    found = diff_ids(config)
    said = {
        "created": created or config.get("created") or timestamp(0),
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
    changed = {**config, "rootfs": rootfs, "history": [*whole_history(config), entry]}
    return {**changed, "created": created} if created else changed


def whole_history(config: Config) -> list[Any]:
    """The history, told up to here if it told less than the layers are: they are counted against each other."""
    found = list(config.get("history") or ())
    missing = len(diff_ids(config)) - sum(not is_empty(entry) for entry in found)
    created = config.get("created") or timestamp(0)  # umoci stat breaks on an entry that has no time
    return found + [{"created": created, "comment": "unknown"}] * max(missing, 0)


def is_empty(entry: Any) -> bool:
    """Whether an entry of a history is of a step without a layer."""
    return isinstance(entry, dict) and bool(entry.get("empty_layer"))


def without_layers(config: Config, found: list[str | None]) -> Config:
    """The configuration with these diff ids, None where a layer is gone: its step is one without a layer then."""
    history = list(config.get("history") or ())
    layers = (at for at, entry in enumerate(history) if not is_empty(entry))
    for at, diff_id in zip(layers, found, strict=False):
        if diff_id is None and isinstance(history[at], dict):
            history[at] = {**history[at], "empty_layer": True}
    rootfs = {**(config.get("rootfs") or {}), "diff_ids": [diff_id for diff_id in found if diff_id]}
    made = {**config, "rootfs": rootfs}
    return {**made, "history": history} if history else made


def edit(
    config: Config,
    members: dict[str, Any],
    env: Iterable[str] = (),
    labels: Iterable[str] = (),
    ports: Iterable[str] = (),
    volumes: Iterable[str] = (),
) -> Config:
    """The configuration with some of what a container is made of changed.

    members  of `config`: Entrypoint, Cmd, User, Healthcheck...; None or what is empty takes one away
    env      NAME=VALUE sets a variable in its place or at the end, NAME alone takes it away;
    labels   likewise; `ports` and `volumes` are added, and taken away with a leading `-`
    A new Entrypoint takes the old Cmd away, which was written for the old one, as Docker does.
    """
    inner = dict(config.get("config") or {})
    if "Entrypoint" in members and "Cmd" not in members:
        inner.pop("Cmd", None)
    for name, value in members.items():
        inner.pop(name, None)
        if value:
            inner[name] = value
    variables = {entry.partition("=")[0]: entry for entry in inner.get("Env") or []}
    _change(variables, {word.partition("=")[0]: word if "=" in word else None for word in env})
    named = dict(inner.get("Labels") or {})
    _change(named, {w.partition("=")[0]: w.partition("=")[2] if "=" in w else None for w in labels})
    inner["Env"], inner["Labels"] = list(variables.values()), named
    for member, words in (("ExposedPorts", ports), ("Volumes", volumes)):
        inner[member] = dict(inner.get(member) or {})
        _change(inner[member], {word.removeprefix("-"): None if word[:1] == "-" else {} for word in words})
    made = ("Env", "Labels", "ExposedPorts", "Volumes")
    return {**config, "config": {k: v for k, v in inner.items() if v or k not in made}}


def annotated(annotations: Any, words: Iterable[str]) -> dict[str, str]:
    """A manifest's annotations with some set (NAME=VALUE) or taken away (NAME)."""
    found = dict(annotations) if isinstance(annotations, dict) else {}
    _change(found, {w.partition("=")[0]: w.partition("=")[2] if "=" in w else None for w in words})
    return found


def _change(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if not name:
            raise Error("no name in", f"={value}", code=2)
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value


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


def now() -> str:
    """This moment, or the one that SOURCE_DATE_EPOCH says, so that what is made twice is the same."""
    return timestamp(epoch(os.environ.get("SOURCE_DATE_EPOCH", "")))


_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has years of four digits, and readers in Go refuse others


def epoch(text: str) -> int | None:
    """Seconds since 1970 that somebody says; None if it is no number, or a time later than can be told."""
    good = text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LAST
    return int(text) if good else None


def timestamp(seconds: float | None = None) -> str:
    """A time (default: now) as config.md wants it: RFC 3339, in UTC; of a later one, the last that can be told."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(None if seconds is None else min(seconds, _LAST)))


def moment(text: str) -> str:
    """A time that somebody says, RFC 3339 or seconds since 1970, as config.md wants it."""
    import datetime

    seconds = epoch(text)
    if seconds is not None:
        return timestamp(seconds)
    try:
        found = datetime.datetime.fromisoformat(text)
        if found.tzinfo is None or "T" not in text.upper():
            raise ValueError
    except ValueError:
        raise Error("not a time", text, hint="as 2025-12-31T23:59:59Z, or seconds since 1970", code=2) from None
    return found.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
