"""Layers go when no bundle uses them, and never before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oci_tools import bundle, fs
from oci_tools.errors import Error
from oci_tools.image import layout as layouts
from oci_tools.layer import collect, store
from tests.test_bundle import image


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> layouts.Layout:
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    return layouts.Layout.create(f"{tmp_path}/img")


def trees() -> set[str]:
    place = f"{store.directory()}/sha256"
    return {name for name in os.listdir(place) if not name.endswith(".json")}


def digests(one: bundle.Image) -> set[str]:
    return {digest.partition(":")[2] for digest in one.diff_ids}


def test_an_empty_store(layout: layouts.Layout) -> None:
    assert collect.collect() == []


def test_what_bundles_use_stays(layout: layouts.Layout, tmp_path: Path) -> None:
    one, two = image(layout, ["a"], ["b"]), image(layout, ["a"], ["c"])
    bundle.overlay(one, f"{tmp_path}/b1")
    bundle.overlay(two, f"{tmp_path}/b2")
    assert collect.collect() == [] and trees() == digests(one) | digests(two)
    fs.remove_tree(f"{tmp_path}/b1")
    dead = collect.collect(dry_run=True)
    assert [Path(path).name for path in dead] == sorted(digests(one) - digests(two))
    assert trees() == digests(one) | digests(two)
    assert collect.collect() == dead
    assert trees() == digests(two)
    assert len(os.listdir(f"{store.directory()}/.roots")) == 1
    assert os.listdir(f"{store.directory()}/.new") == []
    bundle.overlay(one, f"{tmp_path}/b1")
    assert trees() == digests(one) | digests(two), "it is unpacked again"


def test_the_last_one_gone(layout: layouts.Layout, tmp_path: Path) -> None:
    bundle.remove(bundle.overlay(image(layout, ["a"], ["b"]), f"{tmp_path}/b"))
    assert len(collect.collect()) == 2
    assert os.listdir(f"{store.directory()}/sha256") == []


def test_what_cannot_be_told_is_an_error(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    for text in ("{", '{"annotations": {"io.oci-tools.overlay": "{}"}}'):
        path = bundle.overlay(one, f"{tmp_path}/b")
        Path(path, "config.json").write_text(text)
        with pytest.raises(Error):
            collect.collect()
        assert trees() == digests(one)
        fs.remove_tree(path)


def test_a_half_removed_layer_is_none(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    bundle.overlay(one, f"{tmp_path}/b")
    os.makedirs(f"{store.directory()}/.new/sha256-dead/x")
    collect.collect()
    assert os.listdir(f"{store.directory()}/.new") == []


def test_what_is_said_of_a_layer_that_never_came_goes(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    bundle.overlay(one, f"{tmp_path}/b")
    said = {f"{name}.json" for name in digests(one)}
    for place in ("sha256", "single-1-1/sha256"):
        os.makedirs(f"{store.directory()}/{place}", exist_ok=True)
        Path(f"{store.directory()}/{place}/dead.json").write_text("{}")
    collect.collect()
    assert os.listdir(f"{store.directory()}/single-1-1/sha256") == []
    assert set(os.listdir(f"{store.directory()}/sha256")) == digests(one) | said


def test_it_waits_for_who_takes_layers_into_use(layout: layouts.Layout, tmp_path: Path) -> None:
    bundle.remove(bundle.overlay(image(layout, ["a"]), f"{tmp_path}/b"))
    code = "import sys; sys.path[:0] = sys.argv[1:]; from oci_tools.layer.collect import collect; print(len(collect()))"
    with store.Store().lock():
        words = [sys.executable, "-c", code, *sys.path]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ})
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert len(trees()) == 1
    assert process.communicate()[0] == b"1\n"
