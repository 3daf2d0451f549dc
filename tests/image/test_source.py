"""An image wherever it is, and nothing left of archives that were read."""

import gzip
import io
import os
from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.image import archive, manifest
from oci_tools.image import layout as layouts
from oci_tools.image.layout import Layout
from oci_tools.image.source import Scratch, Source
from tests.image.make import Pipe, image


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def written(layout, *images):
    stream = io.BytesIO()
    archive.write(layout, images, stream)
    return stream.getvalue()


def test_an_archive_on_stdin(layout, home, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", home["OCI_ROOT"])
    one = image(layout)
    data = written(layout, ("app", one))
    for wrapped in data, gzip.compress(data):
        with Source("-", Pipe(wrapped)) as source:
            assert source.descriptor["digest"] == one["digest"]
            assert source.name == "app"
            assert manifest.load(source.layout, source.descriptor)
            assert os.listdir(f"{home['OCI_ROOT']}/cache") != []
        assert os.listdir(f"{home['OCI_ROOT']}/cache") == []


def test_sources(layout, home, tmp_path, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", home["OCI_ROOT"])
    one = image(layout)
    layout.tag("app", one)
    file = tmp_path / "a.tar"
    file.write_bytes(written(layout, ("app", one), ("b", image(layout, "b"))))
    handle = layouts.handle(layout, one)
    words = [
        f"{layout.path}:app",
        handle,
        f"oci:{layout.path}",
        f"oci-archive:{file}:app",
        f"docker-archive:{file}:app:latest",
    ]
    for word in words:
        with Source(word) as source:
            assert source.descriptor["digest"] == one["digest"]
    with Source("-", Pipe(f"{handle}\n".encode())) as source:
        assert source.descriptor["digest"] == one["digest"]
    for word, why in [
        (f"oci-archive:{file}", r"there are 2 \(app, b\)"),
        (f"oci-archive:{file}:c", "no such image"),
        (f"oci-archive:{tmp_path}/none", "no such file"),
        ("docker://alpine", "not a local image"),
        ("alpine", "no such image"),
    ]:
        with pytest.raises(Error, match=why), Source(word):
            pass


def test_dead_readers_are_swept_up_after(home, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", home["OCI_ROOT"])
    cache = Path(home["OCI_ROOT"], "cache")
    with Scratch() as alive:
        (cache / "archive-dead" / "blobs").mkdir(parents=True)
        (cache / "archive-early").mkdir()
        (cache / "else").mkdir()
        with Scratch():
            assert Path(alive.path).exists()
        assert sorted(p.name for p in cache.iterdir()) == sorted(["else", Path(alive.path).name])
