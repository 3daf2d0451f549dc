"""Docker's image manifest of version 2, schema 1, which nobody writes any more, as an image of today.

    {"schemaVersion": 1, "fsLayers": [{"blobSum": DIGEST}, ...],             newest first
     "history": [{"v1Compatibility": JSON in a string}, ...],                as many
     "signatures": [{"protected": base64url of {"formatLength": N, "formatTail": base64url}, ...}]}

Its digest is that of what was signed: the first N bytes and the tail (JWS, docker's libtrust).  Sizes and diff ids are
nowhere in it, so every layer is read for them; layers that are "throwaway" are none.  Who signed it is not asked:
the keys were anybody's.
"""

from __future__ import annotations

from oci_tools import compress, document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.layout import Descriptor

TYPES = (manifests.DOCKER_SCHEMA1, "application/vnd.docker.distribution.manifest.v1+json")
MAX_LAYERS = 1000  # docker had 127
LONGEST_MAGIC = 6  # bytes by which a compression is known
_KEPT = ("architecture", "os", "variant", "os.version", "author", "created", "config")


def payload(data: bytes) -> bytes:
    """What of a manifest was signed, and has its digest; the same bytes if it is not signed."""
    found = document.loads(data, "manifest")
    old = isinstance(found, dict) and found.get("schemaVersion") == 1
    signatures = found.get("signatures") if old else None
    if not signatures:
        return data
    try:
        parts = {_decode(one["protected"]) for one in signatures}
        said = _agree([document.loads(part) for part in parts])
        length = said["formatLength"]
        if not isinstance(length, int) or not 0 < length <= len(data):
            raise ValueError
        return data[:length] + _decode(said["formatTail"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Error("invalid manifest", None, "its signatures are not docker's") from None


def _agree(said: list[dict[str, Any]]) -> dict[str, Any]:
    """What several signatures say of what they sign, which must be the same."""
    if len({(one["formatLength"], one["formatTail"]) for one in said}) != 1:
        raise ValueError
    return said[0]


def _decode(text: Any) -> bytes:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def steps(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """(digest of the layer, what was done) of each step, oldest first."""
    found = document.loads(data, "manifest", scan=manifests.STRICT)
    try:
        layers, history = found["fsLayers"], found["history"]
        if found["schemaVersion"] != 1 or len(layers) != len(history) or not 0 < len(layers) <= MAX_LAYERS:
            raise ValueError
        made = [
            (layer["blobSum"], document.loads(entry["v1Compatibility"].encode(), "history"))
            for layer, entry in zip(layers, history, strict=True)
        ]
        if not all(digests.valid(digest) and isinstance(step, dict) for digest, step in made):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Error("invalid manifest", None, "it is no docker schema 1") from None
    return made[::-1]


def configuration(made: list[dict[str, Any]], diff_ids: list[str]) -> dict[str, Any]:
    """The configuration that an image with these steps, oldest first, has today."""
    last = made[-1]
    found = {key: last[key] for key in _KEPT if last.get(key) is not None}
    found = {"architecture": "amd64", "os": "linux", **found, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return {**found, "history": [_history(step) for step in made]}


def _history(step: dict[str, Any]) -> dict[str, Any]:
    entry = {key: step[key] for key in ("created", "author", "comment") if isinstance(step.get(key), str)}
    done = step.get("container_config")
    words = done.get("Cmd") if isinstance(done, dict) else None
    if isinstance(words, list):
        entry["created_by"] = " ".join(str(word) for word in words)
    return {**entry, "empty_layer": True} if step.get("throwaway") is True else entry


def layers(data: bytes) -> list[str]:
    """Digests of its layers, oldest first."""
    return [digest for digest, step in steps(data) if step.get("throwaway") is not True]


def convert(
    data: bytes, sized: dict[str, Descriptor], read: Callable[[Descriptor], Any]
) -> tuple[list[tuple[bytes, Descriptor]], list[Descriptor]]:
    """An image of today: its documents (configuration, then manifest) and its layers.

    sized: digest of each layer -> its descriptor; read: its bytes as a stream.
    """
    known = {digest: _look(descriptor, read) for digest, descriptor in sized.items()}
    parts = [known[digest] for digest in layers(data)]
    diff_ids = [diff_id for _, diff_id in parts]
    config = document.dumps(configuration([step for _, step in steps(data)], diff_ids))
    described = {"mediaType": manifests.OCI_CONFIG, "digest": digests.of(config), "size": len(config)}
    found = [descriptor for descriptor, _ in parts]
    manifest = document.dumps(manifests.new(described, found))
    top = {"mediaType": manifests.OCI_MANIFEST, "digest": digests.of(manifest), "size": len(manifest)}
    return [(config, described), (manifest, top)], found


def _look(descriptor: Descriptor, read: Callable[[Descriptor], Any]) -> tuple[Descriptor, str]:
    """(descriptor, diff id) of a layer, which is read for it."""
    from itertools import chain

    hasher = digests.new("sha256")
    with digests.Verifier(read(descriptor), descriptor) as stream:
        pieces, head = compress.read_pieces(stream), b""
        while len(head) < LONGEST_MAGIC and (piece := next(pieces, b"")):
            head += piece
        for data in compress.expand(chain([head], pieces), descriptor["digest"]):
            hasher.update(data)
        stream.drain()
    kind = manifests.layer_type(manifests.OCI_MANIFEST, compress.kind(head))
    return {"mediaType": kind, **descriptor}, f"sha256:{hasher.hexdigest()}"
