"""Manifests and indexes: image-spec manifest.md and image-index.md, and docker schema 2, their twin.

A manifest is read by its descriptor (verified), checked for what readers rely on, and kept as
the specification's `dict`.  A document must be the one thing that its descriptor and its own
`mediaType` say: one that can be read as a manifest and as an index is two images under one
digest (CVE-2021-41190).  Everything here may come from an attacker: indexes nest, repeat and may be large.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image.layout import INDEX as OCI_INDEX
from oci_tools.image.layout import MAX_DOCUMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from oci_tools.image.kept import Digests
    from oci_tools.image.layout import Descriptor, Layout

    Platform = dict[str, str]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

MAX_DEPTH = 16  # indexes within indexes
MAX_ENTRIES = 100_000  # manifests reached from one index


def is_index(media_type: object) -> bool:
    return media_type in INDEXES


def is_manifest(media_type: object) -> bool:
    return media_type in MANIFESTS


def layer_type(manifest_type: str, compression: str) -> str:
    """The media type of a layer for a kind of manifest; compression is "none", "gzip" or "zstd"."""
    docker = manifest_type == DOCKER_MANIFEST
    plain, joint = (DOCKER_LAYER, ".") if docker else (OCI_LAYER, "+")
    return plain if compression == "none" else plain + joint + compression


def new(
    config: Descriptor,
    layers: Iterable[Descriptor],
    annotations: dict[str, str] | None = None,
    media_type: str = OCI_MANIFEST,
) -> dict[str, Any]:
    """An image manifest; `layout.put(document.dumps(...), media_type)` stores it."""
    made: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "config": config}
    made["layers"] = list(layers)
    if annotations:
        made["annotations"] = annotations
    return made


def new_index(manifests: Iterable[Descriptor], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """An image index."""
    made: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
    if annotations:
        made["annotations"] = annotations
    return made


# -- reading ---------------------------------------------------------------------------


def load(layout: Layout, descriptor: Descriptor, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """The manifest or index of a descriptor, verified and checked."""
    return parse(layout.read(descriptor, limit), descriptor)


def parse(data: bytes, descriptor: Descriptor) -> dict[str, Any]:
    """The manifest or index in these bytes, which are known to be the descriptor's.

    An Error where its readers could disagree on what it is or break on it.
    """
    name = str(descriptor.get("digest", "manifest"))
    document.check_weight(data, name)
    found = document.loads(data, name, scan=STRICT)
    if not isinstance(found, dict):
        raise Error("invalid manifest", name, "not an object")
    media_type = kind(found, descriptor)
    if media_type == DOCKER_SCHEMA1:
        raise Error("cannot use image", name, "docker schema 1 is read from registries only")
    if is_index(media_type):
        _check(found, name, "manifests", foreign=("config", "layers", "fsLayers"))
    elif is_manifest(media_type):
        _check(found, name, "layers", foreign=("manifests", "fsLayers"))
        _check_descriptor(found.get("config"), name, "config")
    else:
        raise Error("cannot use image", name, f"unknown type '{media_type}'")
    return found


def kind(found: dict[str, Any], descriptor: Descriptor) -> str:
    """The media type of a manifest: its descriptor's and its own, which must agree, or what it looks like."""
    promised, own = descriptor.get("mediaType"), found.get("mediaType")
    if own is not None and promised and own != promised:
        raise Error("invalid manifest", descriptor.get("digest"), f"its type is '{own}', not '{promised}'")
    said = promised or own
    if said:
        return str(said)
    if found.get("schemaVersion") == 1:
        return DOCKER_SCHEMA1
    return OCI_INDEX if "manifests" in found else OCI_MANIFEST


def _check(found: dict[str, Any], name: str, member: str, foreign: tuple[str, ...]) -> None:
    if found.get("schemaVersion") != 2:
        raise Error("invalid manifest", name, f"schemaVersion is {found.get('schemaVersion')!r}, not 2")
    for key in foreign:
        if key in found:
            raise Error("invalid manifest", name, f"has both {member} and {key}")
    if member not in found:
        raise Error("invalid manifest", name, f"has no {member}")
    if found[member] is None:  # what Go writes for an empty list
        found[member] = []
    entries = found[member]
    if not isinstance(entries, list):
        raise Error("invalid manifest", name, f"{member} is not a list")
    for at, entry in enumerate(entries):
        _check_descriptor(entry, name, f"{member}[{at}]")


def _check_descriptor(descriptor: Any, name: str, where: str) -> None:
    try:
        digests.check_descriptor(descriptor)
        if not isinstance(descriptor.get("mediaType", ""), str):
            raise Error("mediaType is not a string")
        if "data" in descriptor and digests.embedded(descriptor) is None:
            raise Error("data is not the content that its digest names")
        for key, shape in (("annotations", dict), ("platform", dict), ("urls", list)):
            if not isinstance(descriptor.get(key) or shape(), shape):
                raise Error(f"{key} is not of its type")
    except Error as error:
        raise Error("invalid manifest", name, f"{where}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key '{key}' twice")
            seen.add(key)
    return found


# Reads objects whose keys are all different: parsers choose differently among equal ones.
STRICT = document.scanner(_unique)


# -- what belongs to an image --------------------------------------------------------------


def children(found: dict[str, Any]) -> list[Descriptor]:
    """The descriptors of what a manifest or index is made of, in their order."""
    if "manifests" in found:
        return list(found["manifests"])
    config = [found["config"]] if found.get("config") else []
    return config + list(found.get("layers") or ())


def walk(
    layout: Layout, descriptor: Descriptor, seen: set[str] | Digests | None = None
) -> Iterator[tuple[Descriptor, dict[str, Any] | None]]:
    """Everything that is reached from a descriptor, each digest once, parents first; nothing that was `seen`.

    With each goes its document if it is a manifest or index that is here and sound, else None:
    indexes may be sparse, and hold things of types that we do not know.
    """
    seen = set() if seen is None else seen
    todo = [descriptor]
    while todo:
        at = todo.pop()
        digest = at.get("digest")
        if not isinstance(digest, str) or digest in seen:
            continue
        seen.add(digest)
        found = None
        if is_index(at.get("mediaType")) or is_manifest(at.get("mediaType")) or at is descriptor:
            try:
                found = load(layout, at)
            except Error:
                pass
        yield at, found
        if found:
            todo.extend(reversed(children(found)))


def parts(layout: Layout, top: Descriptor, seen: set[str] | Digests | None = None) -> Iterator[Descriptor]:
    """Everything of an image or index that is in a layout, parents first, but for what was `seen`.

    An index may lack some of its images; an image may lack nothing but layers that are
    found elsewhere (`urls`), else this is an Error, at once.
    """
    needed = [top]
    if is_index(top.get("mediaType")) or is_manifest(top.get("mediaType")):
        found = load(layout, top)
        needed += children(found) if "layers" in found else []
    for descriptor in needed:
        if not layout.has(descriptor) and not descriptor.get("urls"):
            layout.blob(descriptor).close()  # says what is wrong
    return (descriptor for descriptor, _ in walk(layout, top, seen) if layout.has(descriptor))


def choose(
    layout: Layout, descriptor: Descriptor, platform: Platform | str | None = None
) -> tuple[Descriptor, dict[str, Any]]:
    """The image manifest for a platform (default: this host's) and its descriptor, through nested indexes.

    An image that is no index is taken as it is, whatever its platform: many are not marked well.
    """
    found = load(layout, descriptor)
    if "manifests" not in found:
        return descriptor, found
    wanted = parse_platform(platform) if isinstance(platform, str) else platform or host_platform()
    best = pick(_candidates(layout, found, MAX_DEPTH, set()), wanted)
    if best is None:
        cause = f"'{descriptor['digest']}' has {_offer(layout, found)}"
        raise Error("no image for", platform_name(wanted), cause)
    return best, load(layout, best)


def _candidates(layout: Layout, index: dict[str, Any], depth: int, seen: set[str]) -> Iterator[Descriptor]:
    """The image manifests in an index and the indexes in it, in order, each once."""
    if depth == 0:
        raise Error("cannot use image", None, "its indexes are nested too deeply")
    for entry in index["manifests"]:
        if entry["digest"] in seen:
            continue
        seen.add(entry["digest"])
        if len(seen) > MAX_ENTRIES:
            raise Error("cannot use image", None, f"it has more than {MAX_ENTRIES} manifests")
        if not is_index(entry.get("mediaType")):
            yield entry
        elif layout.has(entry):
            yield from _candidates(layout, load(layout, entry), depth - 1, seen)


def _offer(layout: Layout, index: dict[str, Any]) -> str:
    names: list[str] = []
    for entry in _candidates(layout, index, MAX_DEPTH, set()):
        name = platform_name(entry.get("platform") or {})
        if name and name not in names:
            names.append(name)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"


# -- platforms ---------------------------------------------------------------------------------

_MACHINES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", "v8"), "i386": ("386", ""),
    "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""), "armv5tel": ("arm", "v5"), "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"), "armv8l": ("arm", "v8"), "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
    "loongarch64": ("loong64", ""), "mips64": ("mips64le", ""),
}  # fmt: skip
# Best first; each runs what follows it.
_VARIANTS = {"amd64": ("v4", "v3", "v2", ""), "arm": ("v8", "v7", "v6", "v5")}
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos ios linux netbsd openbsd plan9 solaris windows".split()
)
_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 armbe arm64be loong64 mips mipsle mips64 mips64le ppc ppc64 ppc64le riscv riscv64 s390 s390x"
    " sparc sparc64 wasm".split()
)


def host_platform() -> Platform:
    """What runs here: {"os", "architecture"} and where it matters "variant"."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return _platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """OS[(OSVERSION)]/ARCH[/VARIANT][:OSVERSION], or one of the two words alone."""
    said, _, version = text.partition(":")
    parts = said.lower().split("/")
    if parts[0].endswith(")") and "(" in parts[0]:
        parts[0], _, version = said.split("/")[0][:-1].partition("(")
        parts[0] = parts[0].lower()
    if len(parts) == 1:
        host = host_platform()
        if _system(parts[0]) in _SYSTEMS:
            parts = [parts[0], host["architecture"], host.get("variant", "")]
        elif _MACHINES.get(parts[0], parts)[0] in _ARCHITECTURES:
            parts = ["linux", parts[0]]
    if not 2 <= len(parts) <= 3 or not parts[0] or not parts[1]:
        raise Error("invalid platform", text, "it is os/arch or os/arch/variant", code=2)
    architecture, variant = _MACHINES.get(parts[1], (parts[1], ""))
    if len(parts) == 3 and parts[1] not in ("armhf", "armel"):
        variant = f"v{parts[2]}" if architecture in ("arm", "arm64") and parts[2] in "5678" else parts[2]
    made = _platform(_system(parts[0]), architecture, variant)
    return {**made, "os.version": version} if version else made


def normal(platform: Platform) -> Platform:
    """The one way to say a platform, as containerd has it: arm is arm/v7; arm64/v8 is arm64, and amd64/v1 amd64."""
    architecture, variant = platform.get("architecture"), platform.get("variant") or ""
    if architecture == "arm":
        variant = variant or "v7"
    elif (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    made = {key: value for key, value in platform.items() if key != "variant"}
    return {**made, "variant": variant} if variant else made


def _system(word: str) -> str:
    return "darwin" if word == "macos" else word


def _platform(system: str, architecture: str, variant: str) -> Platform:
    made = {"os": system, "architecture": architecture}
    return {**made, "variant": variant} if variant else made


def platform_name(platform: Platform) -> str:
    """os/arch/variant for people; "" for an empty platform."""
    parts = [platform.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(str(part) for part in parts if part)


def whole_name(platform: Platform) -> str:
    """The same with the version that a system may need: os(version)/arch/variant, as containerd's FormatAll."""
    version = platform.get("os.version")
    return platform_name({**platform, "os": f"{platform['os']}({version})"} if version else platform)


def matches(platform: Platform, wanted: Platform) -> int | None:
    """How well an image's platform suits: 0 is best, None not at all.

    Variants run those below.  One without is the usual one, `normal`, and is taken last where that does not suit.
    """
    if (platform.get("os"), platform.get("architecture")) != (wanted["os"], wanted["architecture"]):
        return None
    if wanted.get("os.version") and platform.get("os.version") != wanted["os.version"]:
        return None
    known = _VARIANTS.get(wanted["architecture"], ())
    variant = normal(wanted).get("variant", "")
    order = known[known.index(variant) :] if variant in known else (variant, "")
    has = normal(platform).get("variant", "")
    if has in order:
        return order.index(has)
    return None if platform.get("variant") else len(order)


ZSTD = "io.github.containers.compression.zstd"  # on an index's entry: "true" of a twin with zstd layers


def pick(candidates: Iterable[Descriptor], wanted: Platform) -> Descriptor | None:
    """The first of an index's entries for the closest platform; failing all, the first without platform.

    Of a platform's twins the one in zstd, as containers/image chooses: writers put it behind, with an annotation, so
    that others (containerd takes the first) get what everybody reads.
    """
    best: Descriptor | None = None
    rank = 1 << 30, False
    for entry in candidates:
        platform = entry.get("platform")
        if platform:
            fit = matches(platform, wanted)
        else:
            fit = 1 << 29 if is_manifest(entry.get("mediaType")) else None
        plain = (entry.get("annotations") or {}).get(ZSTD) != "true"
        if fit is not None and (fit, plain) < rank:
            best, rank = entry, (fit, plain)
    return best
