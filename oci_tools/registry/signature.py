"""Signatures of images as `cosign` keeps them beside an image in its registry.

An image's signatures are the layers of a manifest that has the tag ALGORITHM-HEX.sig, of the digest signed:

    {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest", "size",
     "annotations": {"dev.cosignproject.cosign/signature": base64 of the signature of the layer's bytes}}

    {"critical": {"identity": {"docker-reference": NAME}, "image": {"docker-manifest-digest": DIGEST},
                  "type": "cosign container image signature"}, "optional": null}

Key pairs only, without a transparency log: `cosign verify --key FILE --insecure-ignore-tlog` accepts what
is made here.  Whether an image needs one is policy.py's question, what keys do keys.py's.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.registry import keys
from oci_tools.registry.client import Missing
from oci_tools.registry.upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.image.ref import Ref
    from oci_tools.registry.copy import Remote

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"
MAX_PAYLOAD = 1 << 20  # bytes
MAX_SIGNATURES = 100  # of one image: each costs a request


def tag(digest: str) -> str:
    """The tag that an image's signatures have."""
    return f"{digest.replace(':', '-')}.sig"


def read_key(path: str) -> bytes:
    """A key's file."""
    try:
        with open(path, "rb") as file:
            data = file.read(keys.MAX_KEY + 1)
    except OSError as error:
        raise Error("cannot read key", path, error) from None
    if len(data) > keys.MAX_KEY:
        raise Error("cannot use key", path, f"it is larger than {keys.MAX_KEY} bytes")
    return data


def private_key(path: str) -> Any:
    password = os.environ.get(keys.PASSWORD)
    return keys.private(read_key(path), path, os.fsencode(password) if password is not None else None)


# -- verifying ---------------------------------------------------------------------------


def identities(remote: Remote, digest: str, trusted: list[Any]) -> list[str]:
    """The names under which any of these public keys has signed a digest; none: it is not signed."""
    found = []
    for layer in _layers(remote, digest):
        signature = _signature(layer)
        if signature is None:
            continue
        data = _payload(remote, layer)
        if any(keys.good(key, signature, data) for key in trusted):
            name = _said(data, digest)
            if name is not None:
                found.append(name)
    return found


def _layers(remote: Remote, digest: str) -> list[Descriptor]:
    try:
        data, descriptor = remote.manifest(tag(digest))
    except Missing:
        return []
    layers: list[Descriptor] = manifests.parse(data, descriptor).get("layers", [])
    if len(layers) > MAX_SIGNATURES:
        raise Error("cannot verify", digest, f"it has more than {MAX_SIGNATURES} signatures")
    return [layer for layer in layers if layer.get("mediaType") == PAYLOAD]


def _signature(layer: Descriptor) -> bytes | None:
    said = (layer.get("annotations") or {}).get(SIGNATURE)
    try:
        return a2b_base64(said) if isinstance(said, str) else None
    except ValueError:
        return None


def _payload(remote: Remote, layer: Descriptor) -> bytes:
    if layer["size"] > MAX_PAYLOAD:
        raise Error("cannot verify", layer["digest"], f"its payload is larger than {MAX_PAYLOAD} bytes")
    answer, _ = remote.blob(layer, 0)
    with digests.Verifier(answer, layer) as stream:
        data: bytes = stream.read()
    return data


def _said(data: bytes, digest: str) -> str | None:
    """The name in a payload, whose signature is good, if it speaks of this digest."""
    try:
        critical = document.loads(data)["critical"]
        if critical["type"] != TYPE or critical["image"]["docker-manifest-digest"] != digest:
            return None
        name = critical["identity"]["docker-reference"]
    except (Error, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


# -- signing -------------------------------------------------------------------------------


def sign(remote: Remote, ref: Ref, digest: str, key: Any) -> None:
    """Add a signature of an image to those that it has in its registry, unless this key's is there."""
    registry, repository = remote.main
    if ref.name in identities(remote, digest, [key.public_key()]):
        return
    critical = {"identity": {"docker-reference": ref.name}, "image": {"docker-manifest-digest": digest}, "type": TYPE}
    payload = document.dumps({"critical": critical, "optional": None})
    signature = b2a_base64(keys.sign(key, payload), newline=False).decode()
    layer = {**_put(remote, payload, PAYLOAD), "annotations": {SIGNATURE: signature}}
    layers = [*_old(remote, digest), layer]
    rootfs = {"type": "layers", "diff_ids": [one["digest"] for one in layers]}
    config = {"architecture": "", "os": "", "config": {}, "rootfs": rootfs}
    made = manifests.new(_put(remote, document.dumps(config), manifests.OCI_CONFIG), layers)
    registry.put_manifest(repository, tag(digest), document.dumps(made), manifests.OCI_MANIFEST)


def _old(remote: Remote, digest: str) -> list[Descriptor]:
    """What the manifest of signatures has already, whoever made it: it stays."""
    try:
        data, descriptor = remote.manifest(tag(digest))
    except Missing:
        return []
    layers: list[Descriptor] = manifests.parse(data, descriptor).get("layers", [])
    return layers


def _put(remote: Remote, data: bytes, media_type: str) -> Descriptor:
    from tempfile import TemporaryFile

    registry, repository = remote.main
    descriptor = {"mediaType": media_type, "digest": digests.of(data), "size": len(data)}
    if not registry.has_blob(repository, descriptor):
        with TemporaryFile(buffering=0) as file:
            file.write(data)
            upload(registry, repository, descriptor, lambda: file)
    return descriptor
