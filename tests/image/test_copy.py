"""Copies between layouts are whole, verified, and never written twice."""

import os
from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.image import copy, fsck, manifest
from oci_tools.image.layout import Layout
from tests.image.make import image, index


@pytest.fixture
def pair(tmp_path):
    with Layout.create(str(tmp_path / "a")) as one, Layout.create(str(tmp_path / "b")) as two:
        yield one, two


def test_copy(pair):
    source, target = pair
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    whole = index(source, image(source, "1"), image(source, "2", algorithm="sha512"), gone)
    copy.copy(source, whole, target)
    target.tag("app", whole)
    assert list(fsck.check(target)) == []
    assert list(manifest.parts(target, whole)) == list(manifest.parts(source, whole))
    before = [os.stat(target.blob_path(d)).st_ino for d in manifest.parts(target, whole)]
    copy.copy(source, whole, target)
    assert [os.stat(target.blob_path(d)).st_ino for d in manifest.parts(target, whole)] == before


@pytest.mark.parametrize("part", [0, 1, 2])
def test_damage_is_not_copied(pair, part):
    source, target = pair
    one = image(source)
    path = Path(source.blob_path(list(manifest.parts(source, one))[part]))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Error, match="wrong digest"):
        copy.copy(source, one, target)
    assert not target.has(one)
