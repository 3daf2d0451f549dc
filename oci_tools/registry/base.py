"""Whether the image that another one is made on is still what its name means (image-spec, annotations.md).

    org.opencontainers.image.base.name      the reference that it was built on
    org.opencontainers.image.base.digest    the digest that this had then, of the index or of the image itself
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.names import BASE_DIGEST as DIGEST
from oci_tools.image.names import BASE_NAME as NAME
from oci_tools.image.ref import Ref
from oci_tools.registry.choose import choose
from oci_tools.registry.copy import Options, Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.layout import Descriptor, Layout


def check(layout: Layout, descriptor: Descriptor, platform: str | None, options: Options) -> tuple[Ref, str, str]:
    """What an image says it is made on: (its reference, its digest then, its digest now)."""
    chosen, found = manifests.choose(layout, descriptor, platform)
    for one in (found, manifests.load(layout, descriptor)):
        name, then = layouts.annotation(one, NAME), layouts.annotation(one, DIGEST)
        if name and then:
            break
    else:
        raise Error("no base is said by", chosen["digest"], f"it lacks {NAME} or {DIGEST}")
    ref = Ref.parse(name)
    now = Remote(ref, options).head(ref.digest or ref.tag)
    if now != then:
        here = choose(ref, options, [manifests.platform_name(configs.platform(configs.load(layout, found)))])
        if then in (here.origin, here.descriptor["digest"]):
            now = then
    return ref, then, now or here.origin
