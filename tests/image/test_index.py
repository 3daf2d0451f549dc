"""Indexes: made, changed by many at once, cut down to some platforms."""

import threading

import pytest

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import convert, gc, index, manifest
from oci_tools.image import config as configs
from oci_tools.image.layout import Layout
from tests.image.make import image
from tests.image.make import index as nested

ATTESTED = convert.ATTESTED


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def entry(layout, platform, note="hello"):
    return index.entry(layout, image(layout, note, platform=platform))


def attestation(layout, of):
    made = image(layout, f"about {of['digest']}", platform="unknown/unknown")
    return {**made, "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": {ATTESTED: of["digest"]}}


def test_entry(layout):
    one = image(layout, platform="linux/arm/v7")
    layout.tag("app", one)
    made = index.entry(layout, layout.find("app"), annotations={"a": "b"})
    assert made == {**one, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}, "annotations": {"a": "b"}}
    assert index.entry(layout, one, "linux/arm64")["platform"]["architecture"] == "arm64"
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    artifact = {**manifest.new(empty, []), "artifactType": "text/x"}
    made = index.entry(layout, layout.put(document.dumps(artifact), manifest.OCI_MANIFEST))
    assert made["artifactType"] == "text/x"
    assert "platform" not in made


def test_added_in_place_of_the_same_platform(layout):
    amd, arm, old = entry(layout, "linux/amd64"), entry(layout, "linux/arm64"), entry(layout, "linux/386")
    said = attestation(layout, arm)
    new = entry(layout, "linux/arm64/v8", "new")
    assert index.added([amd, arm, said, old], new) == [amd, new, old]
    assert index.added([amd, arm, said], new, beside=True) == [amd, arm, said, new]
    assert index.added([amd, arm, said], arm) == [amd, arm, said]
    other = attestation(layout, amd)
    assert index.added([amd, said], other) == [amd, said, other], "attestations are for no platform"


def test_removed(layout):
    amd, arm = entry(layout, "linux/amd64"), entry(layout, "linux/arm64")
    entries = [amd, arm, attestation(layout, arm)]
    for what in (arm["digest"], arm["digest"][7:15], "linux/arm64", "linux/arm64/v8", "arm64"):
        assert index.removed(entries, what) == [amd]
    for what in ("linux/s390x", "sha256:" + "0" * 64, "00000000"):
        with pytest.raises(Error, match="no such entry"):
            index.removed(entries, what)
    with pytest.raises(Error, match="invalid platform"):
        index.removed(entries, "a/b/c/d")


def test_flat(layout):
    amd, arm = entry(layout, "linux/amd64"), entry(layout, "linux/arm64")
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    whole = nested(layout, nested(layout, amd, gone), nested(layout, amd), arm)
    assert index.flat(layout, whole) == [amd, gone, arm]
    assert index.flat(layout, image(layout, platform="linux/arm64")) == [arm]
    deep = amd
    for _ in range(20):
        deep = nested(layout, deep)
    with pytest.raises(Error, match="nested too deeply"):
        index.flat(layout, deep)


def test_edits_by_many_at_once(layout):
    layout.tag("app", index.put(layout, manifest.new_index([])), {"kept": "yes"})
    new = [entry(layout, f"linux/a{n}", str(n)) for n in range(8)]

    def work(one):
        with Layout.create(layout.path) as mine:
            index.edit(mine, mine.find("app"), lambda old: {**old, "manifests": index.added(old["manifests"], one)})

    threads = [threading.Thread(target=work, args=[one]) for one in new]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = manifest.load(layout, layout.find("app"))["manifests"]
    assert sorted(d["digest"] for d in found) == sorted(d["digest"] for d in new)
    assert layout.find("app")["annotations"]["kept"] == "yes"
    layout.close()
    gc.collect(layout, 0)
    assert len(layout.index()["manifests"]) == 1
    assert all(layout.has(d) for d in manifest.parts(layout, layout.find("app")))


def test_edits_that_fail_change_nothing(layout):
    layout.tag("one", image(layout))
    layout.tag("app", index.put(layout, manifest.new_index([])))
    before = layout.index()
    with pytest.raises(Error, match="not an index"):
        index.edit(layout, layout.find("one"), lambda old: old)
    with pytest.raises(Error, match="too large"):
        index.edit(layout, layout.find("app"), lambda old: {**old, "annotations": {"x": "y" * (4 << 20)}})
    assert layout.index() == before


def test_select(layout):
    amd, arm, ppc = (entry(layout, f"linux/{name}") for name in ("amd64", "arm64", "ppc64le"))
    said = attestation(layout, arm)
    whole = layout.put(document.dumps({**manifest.new_index([amd, ppc, arm, said]), "annotations": {"a": "b"}}),
                       manifest.OCI_INDEX)  # fmt: skip
    assert index.select(layout, whole, []) == (whole, [])
    assert index.select(layout, whole, ["linux/arm64"]) == (arm, [])
    made, documents = index.select(layout, whole, ["linux/arm64", "amd64"])
    [(data, descriptor)] = documents
    assert descriptor == made
    assert not layout.has(made)
    view = convert.View(layout, documents)
    assert manifest.load(view, made) == {**manifest.new_index([amd, arm, said]), "annotations": {"a": "b"}}
    with pytest.raises(Error, match="no image for 'linux/s390x'"):
        index.select(layout, whole, ["linux/arm64", "linux/s390x"])
    with pytest.raises(Error, match="not an index"):
        index.select(layout, amd, ["linux/arm64", "linux/amd64"])
    assert configs.load(view, manifest.load(view, arm))
