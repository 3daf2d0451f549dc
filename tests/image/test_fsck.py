"""Every damage is found, and said of the images that it harms."""

import gzip
import os
from pathlib import Path

import pytest

from oci_tools import document
from oci_tools.image import config as configs
from oci_tools.image import fsck, manifest
from oci_tools.image.layout import Layout
from tests.image.make import image, index, tar


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def damage(layout, descriptor, change=lambda data: data[:-1] + b"x"):
    path = Path(layout.blob_path(descriptor))
    path.write_bytes(change(path.read_bytes()))


def problems(layout, fast=False):
    return sorted((digest, name) for digest, _, name in fsck.check(layout, fast))


def test_sound(layout):
    one, two = image(layout, "1", gzip.compress), image(layout, "2", algorithm="sha512")
    layout.tag("one", one)
    layout.tag("both", index(layout, one, two))
    layout.put(b"stray", "text/x")
    assert list(fsck.check(layout)) == []


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("how", ["content", "size", "gone"])
def test_every_part(layout, part, how):
    one = image(layout, compress=gzip.compress)
    layout.tag("a", one)
    layout.tag("b", one)
    layout.tag("other", image(layout, "other"))
    victim = list(manifest.parts(layout, one))[part]
    if how == "gone":
        os.unlink(layout.blob_path(victim))
    else:
        damage(layout, victim, *([lambda data: data[:-1]] if how == "size" else []))
    assert problems(layout) == [(victim["digest"], "a"), (victim["digest"], "b")]
    fast = problems(layout, fast=True)
    assert fast == ([] if part == 2 and how == "content" else problems(layout))


def test_a_stray_blob(layout):
    blob = layout.put(b"stray", "text/x")
    damage(layout, blob)
    assert problems(layout) == [(blob["digest"], "")]


def put(layout, config, layers):
    config = layout.put(document.dumps(config), manifest.OCI_CONFIG)
    layout.tag("app", layout.put(document.dumps(manifest.new(config, layers)), manifest.OCI_MANIFEST))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: {**c, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}, "not diff id"),
        (lambda c: {**c, "rootfs": {"type": "layers", "diff_ids": []}}, "0 diff ids for 1 layers"),
        (lambda c: {**c, "history": [{}, {}]}, "its history tells of 2 layers, there are 1"),
        (lambda c: {**c, "history": [{"empty_layer": True}]}, "its history tells of 0 layers, there are 1"),
        (lambda c: [], "not an object"),
    ],
)
def test_documents_that_lie(layout, change, what):
    plain = tar(("x", b"1"))
    layer = layout.put(gzip.compress(plain), manifest.OCI_LAYER_GZIP)
    good = configs.with_layer(configs.new(), fsck.digests.of(plain))
    put(layout, good, [layer])
    assert list(fsck.check(layout)) == []
    put(layout, change(good), [layer])
    [(_, said, name)] = fsck.check(layout)
    assert what in said
    assert name == "app"


def test_a_layer_that_does_not_expand(layout):
    layer = layout.put(gzip.compress(b"x" * 100)[:-3], manifest.OCI_LAYER_GZIP)
    put(layout, configs.with_layer(configs.new(), "sha256:" + "0" * 64), [layer])
    assert problems(layout) == [(layer["digest"], "app")]


def test_what_may_be_absent(layout):
    """Images of a sparse index, and layers that are kept elsewhere."""
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    layout.tag("sparse", index(layout, gone, image(layout)))
    foreign = {**gone, "mediaType": manifest.DOCKER_FOREIGN, "urls": ["https://example.com/x"]}
    put(layout, configs.with_layer(configs.new(), "sha256:" + "1" * 64), [foreign])
    assert list(fsck.check(layout)) == []


def test_an_artifact_is_sound(layout):
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    made = manifest.new(empty, [layout.put(b"data", "text/x")])
    layout.tag("artifact", layout.put(document.dumps(made), manifest.OCI_MANIFEST))
    assert list(fsck.check(layout)) == []


def test_hostile_entries(layout):
    layout.update(lambda index: index["manifests"].extend([{"digest": 5}, {"digest": "md5:x"}, {}]))
    assert len(list(fsck.check(layout))) == 3


def test_deep_indexes(layout):
    at = image(layout)
    for _ in range(manifest.MAX_DEPTH + 2):
        at = index(layout, at)
    layout.tag("deep", at)
    [(_, what, _)] = fsck.check(layout)
    assert "nested too deeply" in what
