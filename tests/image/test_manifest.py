"""Manifests and indexes, as registries and attackers write them; platforms."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import manifest
from oci_tools.image.layout import Layout

DIGEST = "sha256:" + "ab" * 32
ENTRY = {"mediaType": manifest.OCI_MANIFEST, "digest": DIGEST, "size": 5}
CONFIG = {"mediaType": manifest.OCI_CONFIG, "digest": DIGEST, "size": 5}
MANIFEST = {"schemaVersion": 2, "mediaType": manifest.OCI_MANIFEST, "config": CONFIG, "layers": []}
INDEX = {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": []}
OF_MANIFEST, OF_INDEX = {"mediaType": manifest.OCI_MANIFEST}, {"mediaType": manifest.OCI_INDEX}


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def image(layout, platform=None, note=""):
    config = layout.put(document.dumps({"note": note}), manifest.OCI_CONFIG)
    made = layout.put(document.dumps(manifest.new(config, [])), manifest.OCI_MANIFEST)
    return {**made, "platform": manifest.parse_platform(platform)} if platform else made


def index(layout, *entries):
    return layout.put(document.dumps(manifest.new_index(entries)), manifest.OCI_INDEX)


@pytest.mark.parametrize(
    ("document_", "descriptor"),
    [
        (MANIFEST, OF_MANIFEST),
        (MANIFEST, {}),
        (INDEX, OF_INDEX),
        ({k: v for k, v in INDEX.items() if k != "mediaType"}, {}),
        ({k: v for k, v in MANIFEST.items() if k != "mediaType"}, OF_MANIFEST),
        ({**MANIFEST, "mediaType": manifest.DOCKER_MANIFEST}, {"mediaType": manifest.DOCKER_MANIFEST}),
        ({**INDEX, "mediaType": manifest.DOCKER_INDEX}, {"mediaType": manifest.DOCKER_INDEX}),
        ({**MANIFEST, "layers": None}, OF_MANIFEST),
        ({**MANIFEST, "annotations": {"a": "b"}, "subject": ENTRY, "unknown": [{}]}, OF_MANIFEST),
    ],
)
def test_parse(document_, descriptor):
    found = manifest.parse(document.dumps(document_), descriptor)
    assert found == {**document_, "layers": []} if "layers" in document_ else document_


@pytest.mark.parametrize(
    ("text", "descriptor", "why"),
    [
        ("[]", {}, "not an object"),
        ("{", {}, "json"),
        ("{}", {}, "schemaVersion is None"),
        ('{"schemaVersion": 1, "fsLayers": []}', {}, "schema 1"),
        ("{}", {"mediaType": manifest.DOCKER_SCHEMA1}, "schema 1"),
        ("{}", {"mediaType": "text/x"}, "unknown type"),
        (MANIFEST, OF_INDEX, "not 'application/vnd.oci.image.index"),
        (INDEX, OF_MANIFEST, "not 'application/vnd.oci.image.manifest"),
        ({**MANIFEST, "manifests": [ENTRY]}, OF_MANIFEST, "both layers and manifests"),
        ({**INDEX, "layers": [ENTRY]}, OF_INDEX, "both manifests and layers"),
        ({**INDEX, "config": CONFIG}, OF_INDEX, "both manifests and config"),
        ({**MANIFEST, "schemaVersion": "2"}, OF_MANIFEST, "schemaVersion"),
        ({**MANIFEST, "config": None}, OF_MANIFEST, "config: "),
        ({**MANIFEST, "layers": {}}, OF_MANIFEST, "not a list"),
        ({**MANIFEST, "layers": [{**ENTRY, "size": -1}]}, OF_MANIFEST, r"layers\[0\]: .*size"),
        ({**MANIFEST, "layers": [{**ENTRY, "digest": "md5:00"}]}, OF_MANIFEST, r"layers\[0\]: .*digest"),
        ({**MANIFEST, "layers": [{**ENTRY, "mediaType": 5}]}, OF_MANIFEST, "mediaType"),
        ({**MANIFEST, "layers": [{**ENTRY, "annotations": []}] * 2 + [5]}, OF_MANIFEST, r"layers\[2\]"),
        ({**MANIFEST, "manifests": []}, OF_MANIFEST, "both layers and manifests"),
        ({"schemaVersion": 2}, OF_INDEX, "no manifests"),
        ({"schemaVersion": 2, "config": CONFIG}, OF_MANIFEST, "no layers"),
        ({**INDEX, "manifests": [{**ENTRY, "platform": "linux"}]}, OF_INDEX, r"manifests\[0\]: platform"),
        ('{"schemaVersion": 2, "layers": [], "layers": []}', OF_MANIFEST, "key 'layers' twice"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, OF_MANIFEST, "nested too deeply"),
    ],
)
def test_parse_refuses(text, descriptor, why):
    data = text.encode() if isinstance(text, str) else document.dumps(text)
    with pytest.raises(Error, match=why):
        manifest.parse(data, {"digest": DIGEST, **descriptor})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([MANIFEST, INDEX]), st.data())
def test_parse_never_breaks(base, data):
    """Any value anywhere: the answer is a document or an Error, never a bug."""
    key = data.draw(st.sampled_from([*base, "layers", "manifests", "annotations"]))
    value = data.draw(JSON | st.lists(st.dictionaries(st.sampled_from(list(ENTRY)), JSON), max_size=2))
    try:
        found = manifest.parse(document.dumps({**base, key: value}), {"digest": DIGEST})
    except Error:
        return
    assert manifest.children(found) is not None


def test_load_verifies(layout):
    made = image(layout)
    path = Path(layout.blob_path(made))
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    with pytest.raises(Error, match="wrong digest"):
        manifest.load(layout, made)


# -- choosing --------------------------------------------------------------------------------


def test_choose(layout):
    amd, arm = image(layout, "linux/amd64", "1"), image(layout, "linux/arm64/v8", "2")
    both = index(layout, amd, arm)
    assert manifest.choose(layout, both, "linux/arm64")[0] == arm
    assert manifest.choose(layout, both, {"os": "linux", "architecture": "amd64"})[0] == amd
    descriptor, found = manifest.choose(layout, amd, "linux/s390x")  # no index: as it is
    assert descriptor == amd
    assert found["layers"] == []
    with pytest.raises(Error, match="no image for 'linux/s390x': .* has linux/amd64, linux/arm64/v8"):
        manifest.choose(layout, both, "linux/s390x")


def test_choose_for_the_host(layout):
    host = manifest.platform_name(manifest.host_platform())
    other = image(layout, "linux/none", "1")
    mine = image(layout, host, "2")
    assert manifest.choose(layout, index(layout, other, mine))[0] == mine


def test_choose_in_nested_indexes(layout):
    arm = image(layout, "linux/arm/v7")
    inner = index(layout, image(layout, "linux/amd64", "x"), arm)
    gone = {**ENTRY, "mediaType": manifest.OCI_INDEX}  # sparse: a missing index is skipped
    outer = index(layout, gone, inner)
    assert manifest.choose(layout, outer, "linux/arm")[0] == arm


def test_choose_does_not_follow_forever(layout):
    at = index(layout, image(layout, "linux/amd64"))
    for n in range(manifest.MAX_DEPTH + 1):
        at = index(layout, *[at] * 50, {**ENTRY, "size": n})
    with pytest.raises(Error, match="nested too deeply"):
        manifest.choose(layout, at, "linux/arm")


def test_many_ways_to_the_same_index_are_one(layout):
    """50 entries on each of 10 levels: 50^10 ways."""
    at = index(layout, image(layout, "linux/amd64"))
    for n in range(10):
        at = index(layout, *[at] * 50, {**ENTRY, "digest": f"sha256:{n:064}", "mediaType": "text/x"})
    assert manifest.choose(layout, at, "linux/amd64")
    assert len(list(manifest.walk(layout, at))) == 11 + 2 + 10


def test_attestations_are_not_images(layout):
    note = {**image(layout, None, "note"), "platform": {"architecture": "unknown", "os": "unknown"}}
    mine = image(layout, "linux/amd64")
    assert manifest.choose(layout, index(layout, note, mine), "linux/amd64")[0] == mine


def test_entries_without_platform_come_last(layout):
    plain, mine = image(layout, None, "plain"), image(layout, "linux/amd64", "mine")
    both = index(layout, plain, mine)
    assert manifest.choose(layout, both, "linux/amd64")[0] == mine
    assert manifest.choose(layout, both, "linux/arm64")[0] == plain


def test_children_and_walk(layout):
    one = image(layout, "linux/amd64")
    both = index(layout, one, {**ENTRY, "digest": "sha256:" + "00" * 32})
    found = manifest.load(layout, both)
    assert manifest.children(found) == found["manifests"]
    walked = list(manifest.walk(layout, both))
    assert [d["digest"] for d, _ in walked][:2] == [both["digest"], one["digest"]]
    assert [bool(doc) for _, doc in walked] == [True, True, False, False]


# -- platforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/arm/v7", ["v5", "v6", "v7", "v8"], "v7"),
        ("linux/arm/v7", ["v5", "v6", "v8"], "v6"),
        ("linux/arm/v7", ["v8", ""], ""),
        ("linux/arm/v6", ["v7", "v8"], None),
        ("linux/arm/v8", ["v5", "v8"], "v8"),
        ("linux/arm/v7", ["v6", "", "v7"], ""),
        ("linux/arm", ["v5", "v7", ""], "v7"),
        ("linux/arm", ["v8", "v6"], "v6"),
        ("linux/arm/v6", ["v7", ""], ""),
        ("linux/arm", ["v5", "v7"], "v7"),
        ("linux/arm64", ["v8"], "v8"),
        ("linux/arm64/v8", [""], ""),
        ("linux/arm64/v9", ["v8", ""], "v8"),
        ("linux/arm64/v9", ["v8", "v9"], "v9"),
        ("linux/amd64", [""], ""),
        ("linux/amd64/v3", ["", "v2", "v4"], "v2"),
        ("linux/amd64/v2", ["v3", "v1"], "v1"),
        ("linux/amd64", ["v1"], "v1"),
        ("linux/amd64/v3", ["v3", ""], "v3"),
        ("linux/amd64", ["v3"], None),
    ],
)
def test_variants(wanted, offered, chosen):
    platform = manifest.parse_platform(wanted)
    entries = [{"platform": {**platform, "variant": v}} for v in offered]
    picked = manifest.pick(entries, platform)
    assert (picked and picked["platform"]["variant"]) == chosen


@pytest.mark.parametrize(
    ("said", "read", "normal"),
    [  # as containerd's platforms has it, save that armhf is arm/v7 without another word
        ("linux/arm", "linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/8", "linux/arm/v8", "linux/arm/v8"),
        ("Linux/ARM/V5", "linux/arm/v5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7", "linux/arm/v7"),
        ("arm", "linux/arm", "linux/arm/v7"),
        ("linux/arm64/8", "linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9", "linux/arm64/v9"),
        ("x86-64", "linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2", "linux/amd64/v2"),
        ("linux/i386", "linux/386", "linux/386"),
        ("macos/arm64", "darwin/arm64", "darwin/arm64"),
        ("unknown/other/v7", "unknown/other/v7", "unknown/other/v7"),
    ],
)
def test_how_platforms_are_read(said, read, normal):
    found = manifest.parse_platform(said)
    assert manifest.platform_name(found) == read
    assert manifest.platform_name(manifest.normal(found)) == normal


def test_the_version_of_a_system():
    for said in ("windows/amd64:10.0.17763", "windows(10.0.17763)/amd64"):
        assert manifest.parse_platform(said) == {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763"}
        assert manifest.whole_name(manifest.parse_platform(said)) == "windows(10.0.17763)/amd64"


@pytest.mark.parametrize("said", ["", "/", "linux/", "/amd64", "a/b/c/d", "amd46", "Ubuntu"])
def test_what_is_no_platform(said):
    with pytest.raises(Error, match="invalid platform") as caught:
        manifest.parse_platform(said)
    assert caught.value.code == 2


def test_the_first_of_equals():
    entries = [{"platform": {"os": "linux", "architecture": "amd64"}, "n": n} for n in range(3)]
    assert manifest.pick(entries, manifest.parse_platform("linux/amd64"))["n"] == 0


ZSTD = {"annotations": {"io.github.containers.compression.zstd": "true"}}


@pytest.mark.parametrize("at", [0, 1, 2])
def test_twins_in_zstd_go_first_but_never_before_a_closer_platform(at):
    arm = {"os": "linux", "architecture": "arm"}
    entries = [{"platform": {**arm, "variant": "v7"}} for _ in range(3)]
    entries[at] |= ZSTD
    assert manifest.pick(entries, manifest.parse_platform("linux/arm/v7")) is entries[at]
    entries[at]["platform"]["variant"] = "v6"
    assert manifest.pick(entries, manifest.parse_platform("linux/arm/v7")) is entries[at == 0]
    entries[at]["platform"]["variant"] = "v7"
    entries[at]["annotations"] = {next(iter(ZSTD["annotations"])): "false"}
    assert manifest.pick(entries, manifest.parse_platform("linux/arm/v7")) is entries[0]


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_twins_as_skopeo_takes_them(oci, tmp_path, order):
    """Its own: the index that it makes of one image in both compressions."""
    layout = Layout.create(str(tmp_path / "img"))
    config = layout.put(b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}', manifest.OCI_CONFIG)
    twins = []
    for more in ({}, ZSTD):
        made = document.dumps(manifest.new(config, [], more.get("annotations")))
        platform = {"os": "linux", "architecture": "amd64"}
        twins.append({**layout.put(made, manifest.OCI_MANIFEST), "platform": platform, **more})
    top = document.dumps(manifest.new_index([twins[at] for at in order]))
    layout.tag("v1", layout.put(top, manifest.OCI_INDEX))
    words = ["skopeo", "--override-os", "linux", "--override-arch", "amd64", "copy", "-q", "--insecure-policy"]
    subprocess.run([*words, f"oci:{tmp_path}/img:v1", f"oci:{tmp_path}/theirs:v1"], check=True)
    oci("pull", "--platform", "linux/amd64", "./img:v1", "./ours:v1")
    digests = [json.loads((tmp_path / f"{who}/index.json").read_text())["manifests"][0]["digest"] for who in ("ours", "theirs")]
    assert digests == [twins[1]["digest"]] * 2


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", {"os": "linux", "architecture": "amd64"}),
        ("linux/x86_64", {"os": "linux", "architecture": "amd64"}),
        ("linux/aarch64", {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        ("linux/arm/v6", {"os": "linux", "architecture": "arm", "variant": "v6"}),
        ("arm64", {"os": "linux", "architecture": "arm64"}),
        ("windows/amd64:10.0.1", {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}),
    ],
)
def test_parse_platform(text, platform):
    assert manifest.parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d"])
def test_parse_platform_refuses(text):
    with pytest.raises(Error) as caught:
        manifest.parse_platform(text)
    assert caught.value.code == 2


def test_host_platform():
    assert manifest.matches(manifest.host_platform(), manifest.host_platform()) == 0
    if os.uname().machine == "x86_64":
        assert manifest.platform_name(manifest.host_platform()) == "linux/amd64"


def test_embedded_data_is_what_its_digest_names(layout):
    config = {**layout.put(b"{}", manifest.OCI_CONFIG), "data": "e30="}
    assert manifest.parse(document.dumps(manifest.new(config, [])), {"digest": "x"})["config"] == config
    for wrong in ("e30", "e2E=", "", 5, None, "=" * 100):
        with pytest.raises(Error, match="config: data is not the content"):
            manifest.parse(document.dumps(manifest.new({**config, "data": wrong}, [])), {"digest": "x"})
