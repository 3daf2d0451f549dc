"""What refers to a manifest: an entry of the list that the referrers API gives (distribution-spec)."""

from __future__ import annotations

from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor


def referrer(found: dict[str, Any], descriptor: Descriptor) -> tuple[str, Descriptor] | None:
    """(the digest of a manifest's subject, the manifest's entry in the list of referrers)."""
    subject = found.get("subject")
    digest = subject.get("digest") if isinstance(subject, dict) else None
    if not digests.valid(digest):
        return None
    assert isinstance(digest, str)
    config = found.get("config")
    kind = found.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    entry = {
        "mediaType": descriptor.get("mediaType") or manifests.kind(found, {}),
        "digest": descriptor["digest"],
        "size": descriptor["size"],
    }
    entry |= {"artifactType": kind} if isinstance(kind, str) and kind else {}
    entry |= {"annotations": found["annotations"]} if isinstance(found.get("annotations"), dict) else {}
    return digest, entry
