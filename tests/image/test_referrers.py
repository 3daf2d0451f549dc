"""What refers to an image is found, copied with it and kept as long as it is, and no longer."""

import pytest

from oci_tools import document
from oci_tools.image import copy, gc, manifest, referrers
from oci_tools.image.layout import Layout
from oci_tools.image.referrers import Referrers
from tests.image.make import image, index


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def refer(layout, to, kind="text/sig", name=None, **annotations):
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    subject = {key: to[key] for key in ("mediaType", "digest", "size")}
    found = {**manifest.new(empty, [layout.put(str(annotations).encode(), "text/x")]), "subject": subject}
    found |= {"artifactType": kind} if kind else {}
    found |= {"annotations": annotations} if annotations else {}
    made = layout.put(document.dumps(found), manifest.OCI_MANIFEST)
    layout.tag(name, made)
    return made


def digests(entries):
    return [entry["digest"] for entry in entries]


def test_found_in_index_json(layout):
    one = image(layout)
    layout.tag("app", one)
    assert Referrers(layout).of(one["digest"]) == []
    first = refer(layout, one, a="b")
    second = refer(layout, one, None, "named")
    third = refer(layout, first)
    found = Referrers(layout)
    assert found.of(one["digest"]) == [
        {**first, "artifactType": "text/sig", "annotations": {"a": "b"}},
        {**second, "artifactType": manifest.OCI_EMPTY},
    ]
    assert digests(found.of(one["digest"], "text/sig")) == [first["digest"]]
    assert digests(found.all_of(layout, one)) == sorted(digests([first, second, third]))


def test_found_by_tags_of_older_ways(layout):
    one = image(layout)
    tag = one["digest"].replace(":", "-")
    layout.tag(f"{tag}.sig", image(layout, "signature"))
    inner = refer(layout, one, x="y")
    layout.remove(inner["digest"])
    layout.tag(tag, index(layout, inner, image(layout, "no referrer")))
    kinds = [entry.get("artifactType") for entry in Referrers(layout).of(one["digest"])]
    assert kinds == [manifest.OCI_CONFIG, "text/sig"]


def test_strange_subjects(layout):
    one = image(layout)
    for subject in (5, {}, {"digest": 5}, {"digest": "x"}, None, []):
        layout.tag(None, layout.put(document.dumps({**manifest.load(layout, one), "subject": subject}), manifest.OCI_MANIFEST))
    layout.update(lambda found: found["manifests"].append({"annotations": 5}))
    assert Referrers(layout).of(one["digest"]) == []


def test_of_anything_in_an_index(layout, tmp_path):
    amd, arm = image(layout, "1"), image(layout, "2")
    whole = index(layout, amd, arm)
    layout.tag("app", whole)
    made = [refer(layout, one, n=str(n)) for n, one in enumerate((amd, arm, whole))]
    found = Referrers(layout).all_of(layout, whole)
    assert digests(found) == sorted(digests(made))
    with Layout.create(str(tmp_path / "other")) as other:
        for one in (whole, *found):
            copy.copy(layout, one, other)
            other.tag(None, one)
        assert digests(Referrers(other).all_of(other, whole)) == digests(found)


def test_gc_keeps_them_as_long_as_the_image(layout):
    one = image(layout)
    layout.tag("app", one)
    chain = refer(layout, refer(layout, one), n="2")
    named = refer(layout, one, name="named", n="3")
    absent = refer(layout, {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1})
    layout.close()
    assert not gc.collect(layout, 0).blobs
    assert layout.has(chain)
    layout.untag("app")
    assert not gc.collect(layout, 3600).images
    assert len(gc.collect(layout, 0).images) == 3
    assert not layout.has(one)
    assert not layout.has(chain)
    left = {entry["digest"] for entry in layout.index()["manifests"]}
    assert left == {named["digest"], absent["digest"]}, "with a name, or for an image that was never here"
    assert not gc.collect(layout, 0).images


def test_gc_waits_for_a_young_subject(layout):
    """Its subject's blob is within the grace: it may be about to be named by a tool that knows no lock."""
    one = image(layout)
    made = refer(layout, one)
    layout.close()
    assert not gc.collect(layout, 3600).images
    assert layout.has(made)


def test_fallback_tags():
    """distribution-spec, "Referrers Tag Schema": both parts are cut, and what no tag may have is a dash."""
    assert referrers.fallback_tag("sha256:" + "a" * 64) == "sha256-" + "a" * 64
    assert referrers.fallback_tag("sha512:" + "a" * 128) == "sha512-" + "a" * 64
    long = "test+algorithm+using+algorithm+separators+and+lots:" + "x" * 200
    assert referrers.fallback_tag(long) == "test-algorithm-using-algorithm-s-" + "x" * 64


def test_a_list_by_tag_of_what_refers_to_sha512(layout):
    subject = layout.put(layout.read(image(layout)), manifest.OCI_MANIFEST, "sha512")
    layout.tag("app", subject)
    made = dict(manifest.load(layout, image(layout, note="sig")), subject=subject)
    signature = layout.put(document.dumps(made), manifest.OCI_MANIFEST)
    layout.tag("sha512-" + subject["digest"][7:71], index(layout, signature))
    found = Referrers(layout).of(subject["digest"])
    assert [one["digest"] for one in found] == [signature["digest"]]
