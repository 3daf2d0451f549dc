"""docker schema 2 and OCI: there and back, nothing but names changed."""

import pytest

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import convert, manifest
from oci_tools.image.layout import Layout
from tests.image.make import image, index


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def put(layout, found):
    return layout.put(document.dumps(found), found["mediaType"])


def changed(layout, top, wanted):
    """The converted image, put into the layout: its descriptor."""
    documents = convert.convert(layout.read, top, wanted)
    for data, descriptor in documents:
        assert layout.put(data, descriptor["mediaType"]) == descriptor
    return documents[-1][1] if documents else top


def types(layout, top):
    return {d["mediaType"] for d, _ in manifest.walk(layout, top)}


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_an_image_there_and_back(layout, kind):
    one = image(layout)
    found = manifest.load(layout, one)
    found["layers"][0]["mediaType"] = manifest.layer_type(manifest.OCI_MANIFEST, kind)
    one = put(layout, found)
    docker = changed(layout, one, "docker")
    assert types(layout, docker) == {
        manifest.DOCKER_MANIFEST, manifest.DOCKER_CONFIG, manifest.layer_type(manifest.DOCKER_MANIFEST, kind)
    }  # fmt: skip
    old, new = manifest.load(layout, one), manifest.load(layout, docker)
    assert new["config"]["digest"] == old["config"]["digest"], "the Id stays"
    assert configs.load(layout, new) == configs.load(layout, old)
    assert changed(layout, docker, "oci")["digest"] == one["digest"]


@pytest.mark.parametrize("wanted", convert.FORMATS)
def test_what_is_right_keeps_its_bytes(layout, wanted):
    whole = changed(layout, index(layout, image(layout, "1"), image(layout, "2")), wanted)
    strange = layout.read(whole) + b"\n"
    whole = layout.put(strange, whole["mediaType"])
    assert not convert.convert(layout.read, whole, wanted)


def test_an_index_with_attestations(layout):
    amd, arm = (image(layout, p, platform=f"linux/{p}") for p in ("amd64", "arm64"))
    said = {**image(layout, "said"), "platform": {"os": "unknown", "architecture": "unknown"}}
    said["annotations"] = {convert.ATTESTED: amd["digest"], "vnd.docker.reference.type": "attestation-manifest"}
    whole = index(layout, {**amd, "annotations": {"x": "y"}}, index(layout, arm), said)
    docker = changed(layout, whole, "docker")
    assert docker["mediaType"] == manifest.DOCKER_INDEX
    first, second = manifest.load(layout, docker)["manifests"]
    assert first["platform"]["architecture"] == "amd64"
    assert "annotations" not in first
    assert manifest.choose(layout, docker, "linux/arm64")[1]["mediaType"] == manifest.DOCKER_MANIFEST
    # back again, with an attestation that speaks of what has another name by then
    found = manifest.load(layout, docker)
    mixed = {**found, "manifests": [first, second, {**said, "annotations": {convert.ATTESTED: first["digest"]}}]}
    back = manifest.load(layout, changed(layout, put(layout, mixed), "oci"))["manifests"]
    assert back[0]["digest"] == amd["digest"]
    assert back[2]["annotations"][convert.ATTESTED] == amd["digest"]


def test_what_docker_cannot_say(layout):
    one = manifest.load(layout, image(layout))
    strange = {**one, "layers": [{**one["layers"][0], "mediaType": "application/vnd.x"}]}
    with pytest.raises(Error, match="Docker's format has no 'application/vnd.x'"):
        convert.convert(layout.read, put(layout, strange), "docker")
    for more in ({"subject": image(layout)}, {"artifactType": "text/x"}):
        with pytest.raises(Error, match="no artifacts"):
            convert.convert(layout.read, put(layout, {**one, **more}), "docker")
    noted = changed(layout, put(layout, {**one, "annotations": {"a": "b"}}), "docker")
    assert "annotations" not in manifest.load(layout, noted)
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    with pytest.raises(Error, match="missing blob"):
        convert.convert(layout.read, index(layout, gone), "docker")
    with pytest.raises(Error, match="unknown format"):
        convert.convert(layout.read, put(layout, one), "v1")


def test_foreign_layers_and_sha512(layout):
    one = manifest.load(layout, image(layout, algorithm="sha512"))
    foreign = {**one["layers"][0], "mediaType": manifest.DOCKER_FOREIGN, "urls": ["https://example.com/x"]}
    found = {**one, "mediaType": manifest.DOCKER_MANIFEST, "layers": [foreign]}
    top = layout.put(document.dumps(found), manifest.DOCKER_MANIFEST, "sha512")
    [(data, made)] = convert.convert(layout.read, top, "oci")
    assert made["digest"].startswith("sha512:")
    [layer] = manifest.parse(data, made)["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    assert layer["urls"] == foreign["urls"]


def test_deep_nesting(layout):
    top = image(layout)
    for _ in range(20):
        top = index(layout, top)
    with pytest.raises(Error, match="nested too deeply"):
        convert.convert(layout.read, top, "docker")
