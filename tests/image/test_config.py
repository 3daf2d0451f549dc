"""An image's configuration: read with suspicion, made and changed without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools import document, schema
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import manifest
from oci_tools.image.layout import Layout

ONE, TWO = "sha256:" + "11" * 32, "sha256:" + "22" * 32


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def test_new_is_valid():
    made = configs.new("linux/arm/v6", "2024-01-01T00:00:00Z")
    schema.check("image-config", made)
    assert configs.platform(made) == {"os": "linux", "architecture": "arm", "variant": "v6"}
    assert "created" not in configs.new()


def test_with_layer():
    made = configs.with_layer(configs.new(), ONE, "2024-01-01T00:00:00Z", "COPY x /", "c", "me")
    made = configs.with_layer(made, None, created_by="ENV A=b")
    assert configs.diff_ids(made) == [ONE]
    assert made["history"] == [
        {"created": "2024-01-01T00:00:00Z", "created_by": "COPY x /", "author": "me", "comment": "c"},
        {"created": "2024-01-01T00:00:00Z", "created_by": "ENV A=b", "empty_layer": True},
    ]
    assert made["created"] == "2024-01-01T00:00:00Z"
    schema.check("image-config", made)


@given(st.lists(st.booleans(), max_size=6), st.integers(0, 3))
def test_history_and_layers_agree(steps, silent):
    """Whatever the base told of itself."""
    made = {
        **configs.new(),
        "rootfs": {"type": "layers", "diff_ids": [ONE] * silent},
        "history": None,
        "foreign": 1,
    }
    for layer in [*steps, True]:
        before = document.dumps(made)
        grown = configs.with_layer(made, TWO if layer else None)
        assert document.dumps(made) == before
        made = grown
    assert sum(not h.get("empty_layer") for h in made["history"]) == len(configs.diff_ids(made))
    assert made["foreign"] == 1


def test_store_and_load(layout):
    layer = layout.put(b"layer", manifest.OCI_LAYER)
    made = configs.with_layer(configs.new("linux/amd64"), ONE)
    descriptor = configs.store(layout, made, [layer], {"a": "b"})
    assert descriptor["platform"] == {"os": "linux", "architecture": "amd64"}
    found = manifest.load(layout, descriptor)
    assert found["annotations"] == {"a": "b"}
    assert configs.load(layout, found) == made
    docker = configs.store(layout, made, [layer], media_type=manifest.DOCKER_MANIFEST)
    assert manifest.load(layout, docker)["config"]["mediaType"] == manifest.DOCKER_CONFIG


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ([], "not an object"),
        ({"rootfs": {"diff_ids": [ONE, TWO]}}, "2 diff ids for 1 layers"),
        ({}, "0 diff ids for 1 layers"),
        ({"rootfs": []}, "0 diff ids"),
        ({"rootfs": "x"}, "not a list of digests"),
        ({"rootfs": {"diff_ids": ["../x"]}}, "not a list of digests"),
        ({"rootfs": {"diff_ids": {ONE: 1}}}, "not a list of digests"),
    ],
)
def test_load_refuses(layout, config, why):
    layer = layout.put(b"layer", manifest.OCI_LAYER)
    put = layout.put(document.dumps(config), manifest.OCI_CONFIG)
    with pytest.raises(Error, match=why):
        configs.load(layout, manifest.new(put, [layer]))


def test_an_artifact_is_no_image(layout):
    put = layout.put(b"{}", manifest.OCI_EMPTY)
    with pytest.raises(Error, match="not a container image"):
        configs.load(layout, manifest.new(put, []))


@pytest.mark.parametrize(
    ("kind", "compression", "wanted"),
    [
        (manifest.OCI_MANIFEST, "none", manifest.OCI_LAYER),
        (manifest.OCI_MANIFEST, "zstd", manifest.OCI_LAYER_ZSTD),
        (manifest.DOCKER_MANIFEST, "gzip", manifest.DOCKER_LAYER_GZIP),
        (manifest.DOCKER_MANIFEST, "zstd", manifest.DOCKER_LAYER_ZSTD),
        (manifest.DOCKER_MANIFEST, "none", manifest.DOCKER_LAYER),
    ],
)
def test_layer_type(kind, compression, wanted):
    assert manifest.layer_type(kind, compression) == wanted


def test_timestamp():
    assert configs.timestamp(0) == "1970-01-01T00:00:00Z"
    schema.check("image-config", {**configs.new(), "created": configs.timestamp()})
    last = 253_402_300_799
    assert configs.timestamp(last) == configs.timestamp(last + 1) == configs.timestamp(1 << 80) == "9999-12-31T23:59:59Z"
    assert configs.moment(str(last)) == "9999-12-31T23:59:59Z"
    for text in (str(last + 1), "9" * 5000, "-1", "\u0663", ""):
        assert configs.epoch(text) is None
        with pytest.raises(Error, match="not a time"):
            configs.moment(text)
