"""What a registry has under a name, without taking it: one manifest is read, and its configuration."""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.registry.copy import Options, Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.ref import Ref

_MOST = 8 << 20  # bytes of a configuration


def describe(ref: Ref, options: Options) -> dict[str, Any]:
    """The descriptor that a reference means, and its "platforms": of an index all that it lists."""
    remote = Remote(ref, options)
    data, descriptor = remote.manifest(ref.digest or ref.tag or "latest")
    found = document.loads(data, str(ref))
    if manifests.is_index(descriptor["mediaType"]):
        platforms = [each["platform"] for each in found.get("manifests") or () if each.get("platform")]
    elif (found.get("config") or {}).get("mediaType") in (manifests.OCI_CONFIG, manifests.DOCKER_CONFIG):
        platforms = [configs.platform(_configuration(remote, found["config"]))]
    else:
        platforms = []  # an artifact
    return {**descriptor, "platforms": platforms}


def _configuration(remote: Remote, descriptor: dict[str, Any]) -> dict[str, Any]:
    answer, _ = remote.blob(descriptor, 0)
    data = answer.read_all(_MOST)
    actual = digests.of(data, descriptor["digest"].partition(":")[0])
    if actual != descriptor["digest"]:
        raise Error("wrong digest of blob", descriptor["digest"], f"content has {actual}")
    found: dict[str, Any] = document.loads(data, descriptor["digest"])
    return found
