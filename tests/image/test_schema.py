"""Our schemas give the verdicts that the specification's own examples demand."""

import pytest

from oci_tools import schema
from oci_tools.errors import Error

DIGEST = "sha256:" + "5b" * 32
DESC = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 7682}
PLATFORM = {"architecture": "amd64", "os": "linux"}
MANIFEST = {"schemaVersion": 2, "config": DESC, "layers": [DESC]}
CONFIG = {**PLATFORM, "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}

GOOD = [
    ("descriptor", DESC),
    ("descriptor", {**DESC, "size": 0}),
    ("descriptor", {**DESC, "urls": ["https://example.com/foo"]}),
    ("descriptor", {**DESC, "digest": "sha256+b64:" + "c8" * 32}),
    ("descriptor", {**DESC, "digest": "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"}),
    ("descriptor", {**DESC, "digest": "sha256+b64u.unknownlength:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g="}),
    ("descriptor", {**DESC, "data": "aGVsbG8=", "annotations": {"a": "b"}}),
    ("image-manifest", MANIFEST),
    ("image-manifest", {**MANIFEST, "subject": DESC, "artifactType": "application/vnd.example+type"}),
    ("image-index", {"schemaVersion": 2, "manifests": []}),
    ("image-index", {"schemaVersion": 2, "manifests": [{**DESC, "platform": PLATFORM}]}),
    ("image-config", CONFIG),
    ("image-config", {**CONFIG, "config": {"Env": ["A=b=c", "B="], "Cmd": None, "Volumes": {"/v": {}}}}),
    ("image-config", {**CONFIG, "created": "2024-02-29T23:59:60.123456789Z"}),
    ("image-layout", {"imageLayoutVersion": "1.0.0", "more": 1}),
]  # fmt: skip

BAD = [
    ("descriptor", {"digest": DIGEST, "size": 1}, "mediaType: missing"),
    ("descriptor", {**DESC, "mediaType": "application"}, 'mediaType: expected a media type'),
    ("descriptor", {**DESC, "mediaType": "foo/" + "1" * 128}, "mediaType: expected a media type"),
    ("descriptor", {**DESC, "artifactType": "foo/.bar"}, "artifactType: expected a media type"),
    ("descriptor", {**DESC, "size": "7682"}, 'size: expected an integer, got "7682"'),
    ("descriptor", {**DESC, "size": -1}, "size: expected at least 0"),
    ("descriptor", {**DESC, "digest": DIGEST.upper().replace("SHA", "sha")}, "digest: expected a digest"),
    ("descriptor", {**DESC, "digest": DIGEST[:-1]}, "digest: expected a digest"),
    ("descriptor", {**DESC, "digest": ":abc"}, "digest: expected a digest"),
    ("descriptor", {**DESC, "digest": "sha256+foo+-b:" + "c8" * 32}, "digest: expected a digest"),
    ("descriptor", {**DESC, "urls": ["value"]}, 'urls[0]: expected a URI, got "value"'),
    ("descriptor", {**DESC, "data": "aHR0cHM"}, "data: expected base64"),
    ("image-manifest", {**MANIFEST, "layers": []}, "layers: expected at least 1 item"),
    ("image-manifest", {**MANIFEST, "layers": [{**DESC, "size": None}]}, "layers[0].size: expected an"),
    ("image-manifest", {**MANIFEST, "schemaVersion": 1}, "schemaVersion: expected one of 2, got 1"),
    ("image-index", {"schemaVersion": 2, "manifests": [{}]}, "manifests[0].mediaType: missing"),
    ("image-index", {"schemaVersion": 2, "manifests": [{**DESC, "platform": {}}]}, "manifests[0].platform."),
    ("image-config", {**CONFIG, "os": 123}, "os: expected a string, got 123"),
    ("image-config", {**CONFIG, "history": "x"}, "history: expected an array"),
    ("image-config", {**CONFIG, "config": {"Env": [7353]}}, "config.Env[0]: expected a string, got 7353"),
    ("image-config", {**CONFIG, "config": {"Env": ["foo"]}}, 'config.Env[0]: expected NAME=VALUE, got "foo"'),
    ("image-config", {**CONFIG, "config": {"Labels": {"a.b": 1}}}, 'config.Labels["a.b"]: expected a string'),
    ("image-config", {**CONFIG, "created": "yesterday"}, "created: expected a time"),
    ("image-layout", {"imageLayoutVersion": "2.0.0"}, 'imageLayoutVersion: expected one of 1.0.0, got "2.0.0"'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_good(kind, value):
    schema.check(kind, value, "x")


@pytest.mark.parametrize(("kind", "value", "message"), BAD)
def test_bad(kind, value, message):
    with pytest.raises(Error) as caught:
        schema.check(kind, value, "x.json")
    assert str(caught.value).startswith(f"x.json: {message}")
