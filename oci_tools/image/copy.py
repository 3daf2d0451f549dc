"""An image from one layout into another: every blob once, verified on its way."""

from __future__ import annotations

from oci_tools.image import manifest as manifests
from oci_tools.image.watch import Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout


def copy(source: Any, descriptor: Descriptor, target: Layout) -> None:
    """Copy what an image or index is made of; children first, so that what is there is whole.

    Naming it there is the caller's; until then the target's hold keeps it from gc.
    """
    target.hold()
    for part in reversed(list(manifests.parts(source, descriptor))):
        if target.has(part):
            if isinstance(source, Watched):
                source.skip(part)
            continue
        with source.blob(part) as file, target.ingest(part) as ingest:
            while data := file.read(1 << 20):
                ingest.write(data)
            ingest.commit()
