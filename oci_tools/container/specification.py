"""The config.json of an image, or of a bundle's image, or of nothing: what `oci-spec new` prints."""

from __future__ import annotations

import os

from oci_tools import bundle as bundles
from oci_tools import document
from oci_tools.runtime import spec as specs
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.user import Read


def new(word: str | None, platform: str | None = None, rootless: bool | None = None) -> dict[str, Any]:
    """`rootless` None: if this user is not root."""
    base = specs.default(os.geteuid() != 0 if rootless is None else rootless)
    if word is None:
        return base
    if word != "-" and bundles.is_bundle(word):
        return _of_bundle(os.path.abspath(word), base)
    from oci_tools.image.source import Source

    with Source(word) as source:
        image = bundles.Image(source.layout, source.descriptor, platform, source.name)
        return specs.from_image(image.config, _users(image), base)


def _of_bundle(path: str, base: dict[str, Any]) -> dict[str, Any]:
    """From the image that a bundle was made of; its users are looked up in the bundle as it is now."""
    from oci_tools.container.image import users_of
    from oci_tools.image.source import Source

    stacked = bundles.overlay_of(path)
    if stacked is not None:
        base.setdefault("annotations", {})[bundles.OVERLAY] = document.dumps(stacked).decode()
    with Source(bundles.record(path)["image"]) as source:
        image = bundles.Image(source.layout, source.descriptor)
        return specs.from_image(image.config, users_of(path, base), base)


def _users(image: bundles.Image) -> Read | None:
    """The files of an image: of its layers if they are unpacked already, or must be to know a name."""
    from oci_tools.layer import lookup, owner, store
    from oci_tools.layer.limits import Limits

    whose = owner.for_process()
    kept = store.Store(whose.key)
    chain = kept.chain(image.id)
    said = image.config.get("config")
    user = said.get("User") if isinstance(said, dict) else None
    if chain is None and isinstance(user, str) and not users.is_numeric(user):
        with kept.lock():
            chain = kept.ensure(image.id, image.sources(), whose, Limits())
    return lookup.reader([kept.tree(digest) for digest in chain.lower], bundles.PASSWD_MAX) if chain else None
