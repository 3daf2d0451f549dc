"""A tag or a manifest taken out of a registry (distribution-spec, "Content Management").

    DELETE .../manifests/TAG        the tag alone, where the registry does that
    else                            the tag is given to an image of nothing, and that is deleted by its digest:
                                    what had the tag keeps its other tags
    DELETE .../manifests/DIGEST     the manifest with all its tags, and its entry in the list of what refers to
                                    its subject, where a tag stands for that
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.registry.client import Missing, Registry
from oci_tools.registry.copy import Options, Remote
from oci_tools.registry.push import relist
from oci_tools.registry.upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.image.ref import Ref

UNABLE = (400, 405, 501)  # answers of a registry that deletes no tags


def remove(ref: Ref, options: Options) -> None:
    """Take what a reference means out of its registry; Missing if it is not there."""
    registry, repository = Remote(ref, options, write=True).main
    if not ref.digest:
        if not registry.delete(repository, ref.tag, UNABLE):
            _displace(registry, repository, ref.tag)
        return
    data, descriptor = registry.manifest(repository, ref.digest)
    registry.delete(repository, ref.digest)
    found = document.loads(data)
    subject = found.get("subject") if isinstance(found, dict) else None
    if isinstance(subject, dict) and digests.valid(subject.get("digest")):
        _unlist(registry, repository, str(subject["digest"]), descriptor["digest"])


def _unlist(registry: Registry, repository: str, subject: str, digest: str) -> None:
    try:
        relist(registry, repository, subject, lambda entries: [one for one in entries if one["digest"] != digest])
    except Error as error:
        raise Error("deleted, but still listed", digest, f"as what refers to '{subject}'", str(error)) from None


def _displace(registry: Registry, repository: str, tag: str) -> None:
    """Give a tag to an image that is nobody else's, and delete that."""
    if registry.head_manifest(repository, tag) is None:
        raise Missing("cannot delete", f"{registry.host}/{repository}:{tag}", "not found")
    content = document.dumps({"os": "linux", "architecture": "none", "comment": os.urandom(16).hex()})
    config = {"mediaType": manifests.OCI_CONFIG, "digest": digests.of(content), "size": len(content)}
    with open(os.memfd_create("config", os.MFD_CLOEXEC), "r+b", buffering=0) as file:
        file.write(content)
        upload(registry, repository, config, lambda: file)
    data = document.dumps(manifests.new(config, []))
    registry.put_manifest(repository, tag, data, manifests.OCI_MANIFEST)
    registry.delete(repository, digests.of(data))
