"""What is told of an image beside it, as BuildKit tells it: what is in it (SPDX), and how it was made (SLSA).

    index     image, image, ...; for each a manifest of platform unknown/unknown with the annotations
              vnd.docker.reference.type: attestation-manifest, vnd.docker.reference.digest: the image
    manifest  layers of application/vnd.in-toto+json, each annotated with in-toto.io/predicate-type
    layer     a statement of in-toto: {"_type", "subject", "predicateType", "predicate"}

`docker buildx imagetools inspect`, cosign and scanners read this form.
"""

from __future__ import annotations

import os
from urllib.parse import quote

from oci_tools import __version__, document
from oci_tools.build import packages
from oci_tools.errors import Usage
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.build.building import Building
    from oci_tools.build.packages import Distribution, Package
    from oci_tools.image.layout import Descriptor, Layout

SPDX = "https://spdx.dev/Document"
PROVENANCE = {"v0.2": "https://slsa.dev/provenance/v0.2", "v1": "https://slsa.dev/provenance/v1"}
BUILD_TYPE = "urn:oci-tools:oci-build:v1"
BUILDER = "urn:oci-tools:oci-build"
STATEMENT = "https://in-toto.io/Statement/v0.1"
MEDIA_TYPE = "application/vnd.in-toto+json"


class Wanted:
    """One --attest: type=sbom, or type=provenance with mode=min|max and version=v0.2|v1."""

    def __init__(self, word: str) -> None:
        said = dict(field.strip().partition("=")[::2] for field in word.split(","))
        self.kind = said.pop("type", "")
        self.mode = said.pop("mode", "min")
        self.version = said.pop("version", "v1")
        known = self.kind in ("sbom", "provenance") and self.mode in ("min", "max") and self.version in PROVENANCE
        if said or not known:
            raise Usage("invalid value for --attest", word, hint="type=sbom, type=provenance[,mode=max][,version=v0.2]")


class Facts:
    """What a provenance says of the build, of all platforms.

    entry      the Dockerfile's name
    arguments  --build-arg and the like, as BuildKit's frontend calls them
    materials  {"uri", "digest"} of images and of a remote context
    """

    def __init__(self, entry: str, arguments: dict[str, str], materials: list[dict[str, Any]], source: str) -> None:
        self.entry = entry
        self.arguments = arguments
        self.materials = materials
        self.source = source
        self.started = configs.now()
        self.dockerfile = b""


def attest(
    layout: Layout, image: Descriptor, one: Building, root: int, wanted: list[Wanted], facts: Facts, names: list[str]
) -> Descriptor:
    """The attestation manifest of one image of a layout, put there; `root` is its files."""
    subjects = _subjects(image, names)
    parts = []
    for each in wanted:
        kind, predicate = (
            (SPDX, spdx(packages.Tree(root), image, one.created, names))
            if each.kind == "sbom"
            else (PROVENANCE[each.version], provenance(each, one, facts))
        )
        statement = {"_type": STATEMENT, "predicateType": kind, "subject": subjects, "predicate": predicate}
        put = layout.put(document.dumps(statement), MEDIA_TYPE)
        parts.append({**put, "annotations": {"in-toto.io/predicate-type": kind}})
    empty = {"architecture": "unknown", "os": "unknown", "config": {},
             "rootfs": {"type": "layers", "diff_ids": [part["digest"] for part in parts]}}  # fmt: skip
    config = layout.put(document.dumps(empty), manifests.OCI_CONFIG)
    manifest = manifests.new(config, parts, None, manifests.OCI_MANIFEST)
    made = layout.put(document.dumps(manifest), manifests.OCI_MANIFEST)
    about = {"vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest"}
    return {**made, "annotations": about, "platform": {"architecture": "unknown", "os": "unknown"}}


def _subjects(image: Descriptor, names: list[str]) -> list[dict[str, Any]]:
    algorithm, _, value = image["digest"].partition(":")
    platform = quote(manifests.platform_name(image["platform"]), safe="")
    found = [f"{_url(name)}?platform={platform}" for name in names]
    return [{"name": name, "digest": {algorithm: value}} for name in found or ["_"]]


def _url(name: str) -> str:
    """The package URL of an image's name."""
    name = name.partition("@")[0]
    path, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    return f"pkg:docker/{quote(path, safe='/:')}@{quote(tag)}"


# -- how it was made ---------------------------------------------------------------------------------


def provenance(wanted: Wanted, one: Building, facts: Facts) -> dict[str, Any]:
    epoch = one.options.epoch
    started = one.created if epoch is not None else facts.started
    finished = one.created if epoch is not None else configs.now()
    arguments = facts.arguments if wanted.mode == "max" else {
        name: value for name, value in facts.arguments.items() if not name.startswith("build-arg:")
    }  # fmt: skip
    request: dict[str, Any] = {"frontend": "dockerfile.v0", "args": arguments, "locals": [{"name": "context"}]}
    platform = manifests.platform_name(manifests.host_platform())
    source: dict[str, Any] = {"entryPoint": facts.entry} | ({"uri": facts.source} if facts.source else {})
    if wanted.version == "v0.2":
        said: dict[str, Any] = {
            "builder": {"id": BUILDER},
            "buildType": BUILD_TYPE,
            "materials": facts.materials,
            "invocation": {"configSource": source, "parameters": request, "environment": {"platform": platform}},
            "metadata": {
                "buildStartedOn": started, "buildFinishedOn": finished, "reproducible": epoch is not None,
                "completeness": {"parameters": wanted.mode == "max", "environment": True, "materials": False},
            },
        }  # fmt: skip
        if wanted.mode == "max":
            said["buildConfig"] = _config(one, facts)
        return said
    inner: dict[str, Any] = {"builderPlatform": platform}
    if wanted.mode == "max":
        inner["buildConfig"] = _config(one, facts)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"configSource": source, "request": request},
            "internalParameters": inner,
            "resolvedDependencies": facts.materials,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"oci-build": __version__}},
            "metadata": {"startedOn": started, "finishedOn": finished},
        },
    }


def _config(one: Building, facts: Facts) -> dict[str, Any]:
    """The steps of the target, and the Dockerfile."""
    steps = [entry.get("created_by", "") for entry in one.result(one.graph.target).history]
    return {"steps": steps, "dockerfile": facts.dockerfile.decode("utf-8", "replace")}


# -- what is in it -----------------------------------------------------------------------------------


def spdx(tree: packages.Tree, image: Descriptor, created: str, names: list[str]) -> dict[str, Any]:
    """An SPDX 2.3 document of an image's packages."""
    distribution = packages.distribution(tree)
    name = names[0] if names else image["digest"]
    top = {"SPDXID": "SPDXRef-Image", "name": name, "versionInfo": image["digest"], "filesAnalyzed": False,
           "downloadLocation": "NOASSERTION", "primaryPackagePurpose": "CONTAINER"}  # fmt: skip
    found = [_package(number, one, purl(one, distribution)) for number, one in enumerate(packages.packages(tree), 1)]
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"),
                 *(("SPDXRef-Image", "CONTAINS", one["SPDXID"]) for one in found)]  # fmt: skip
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:oci-tools:sbom:{image['digest']}",
        "creationInfo": {"created": _second(created), "creators": [f"Tool: oci-build-{__version__}"]},
        "packages": [top, *found],
        "relationships": [
            {"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b} for a, kind, b in relations
        ],
    }


def _second(stamp: str) -> str:
    """A time without a fraction, as SPDX wants it."""
    return stamp.partition(".")[0].rstrip("Z") + "Z"


def _package(number: int, one: Package, url: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "SPDXID": f"SPDXRef-Package-{number}",
        "name": one.name,
        "versionInfo": f"{one.epoch}:{one.version}" if one.epoch else one.version,
        "filesAnalyzed": False,
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",  # a database's words are seldom an expression of SPDX: they are the comment
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}
        ],
    }
    if one.license:
        made["licenseComments"] = one.license
    if one.supplier:
        kind = "Person" if "@" in one.supplier else "Organization"
        made["supplier"] = f"{kind}: {one.supplier.replace(' <', ' (').replace('>', ')')}"
    if one.source:
        made["sourceInfo"] = f"built from: {one.source}"
    return made


def purl(one: Package, distribution: Distribution) -> str:
    """A package's URL, as package-url/purl-spec writes those of deb, apk and rpm."""
    more = {"arch": one.architecture, "epoch": one.epoch}
    if distribution.name:
        more["distro"] = f"{distribution.name}-{distribution.version}" if distribution.version else distribution.name
    if one.source:
        more["upstream"] = one.source
    asked = "&".join(f"{name}={quote(value, safe='.')}" for name, value in sorted(more.items()) if value)
    parts = [part for part in (distribution.name, quote(one.name, safe=".+")) if part]
    return f"pkg:{one.kind}/{'/'.join(parts)}@{quote(one.version, safe='.:')}" + (f"?{asked}" if asked else "")


def facts_of(one: Building, entry: str, data: bytes) -> Facts:
    """What is told of a build."""
    options, contexts = one.options, one.contexts
    arguments = {f"build-arg:{name}": value for name, value in sorted(options.arguments.items())}
    arguments.update({f"label:{name}": value for name, value in sorted(options.labels.items())})
    if options.target:
        arguments["target"] = options.target
    materials = []
    for name, handle in sorted(contexts.bases.items()):
        algorithm, _, value = handle.rpartition("@")[2].partition(":")
        at = refs.locate(name)
        uri = _url(str(at.ref)) if at.ref else f"oci-layout://{name}"
        materials.append({"uri": uri, "digest": {algorithm: value}})
    source = ""
    if contexts.remote:
        source = contexts.word
        kind, _, value = contexts.remote.partition(":")
        materials.append({"uri": source, "digest": {kind: value} if value else {"sha1": kind}})
    made = Facts(os.path.basename(entry), arguments, materials, source)
    made.dockerfile = data
    return made
