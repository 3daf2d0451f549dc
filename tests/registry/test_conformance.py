"""oci-registry as the distribution-spec's own conformance suite asks: every way to push a blob, every kind of data.

Written from the specification's text, main as of 2026, by the suite's categories: pull, push, content discovery,
content management; APIs and data.  Each kind of data is pushed, listed, looked at, pulled, and deleted again.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.peers import CONFIG, INDEX, LAYER, MANIFEST, descriptor, digest
from tests.registry.test_server import HEX, Client, Reply

EMPTY = "application/vnd.oci.empty.v1+json"
KIND = "application/vnd.example.v1"
ALGORITHMS = ("sha256", "sha512")
REPO, OTHER = "conformance/repo1", "conformance/repo2"


@pytest.fixture
def ask(registry: Any) -> Iterator[Client]:
    client = Client(registry.host)
    yield client
    client.connection.close()


# -- blobs, by every API ----------------------------------------------------------------------


def start(ask: Client, query: str = "") -> str:
    answer = ask("POST", f"/v2/{REPO}/blobs/uploads/{query}", b"")
    assert answer.status == 202
    return str(answer.headers["Location"])


def closing(location: str, name: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={name}"


def post_only(ask: Client, data: bytes, name: str) -> Reply:
    return ask("POST", f"/v2/{REPO}/blobs/uploads/?digest={name}", data, Content_Type="application/octet-stream")


def post_put(ask: Client, data: bytes, name: str) -> Reply:
    return ask("PUT", closing(start(ask), name), data, Content_Type="application/octet-stream")


def streamed(ask: Client, data: bytes, name: str) -> Reply:
    answer = ask("PATCH", start(ask), iter([data]), Transfer_Encoding="chunked")
    assert answer.status == 202
    return ask("PUT", closing(answer.headers["Location"], name), b"")


def chunked(ask: Client, data: bytes, name: str, put_last: bool = False, disorder: bool = False) -> Reply:
    location, size = start(ask), len(data) // 3 + 1
    spans = [(at, min(at + size, len(data))) for at in range(0, len(data), size)]
    for begin, end in spans:
        if disorder:
            wrong = begin + size if begin + size < len(data) else 0
            location = out_of_order(ask, data, location, begin, wrong, size, name if put_last else "")
        last = put_last and end == len(data)
        where = {"Content_Range": f"{begin}-{end - 1}", "Content_Type": "application/octet-stream"}
        if last:
            return ask("PUT", closing(location, name), data[begin:end], **where)
        answer = ask("PATCH", location, data[begin:end], **where)
        assert answer.status == 202 and answer.headers["Range"] == f"0-{end - 1}"
        location = answer.headers["Location"]
    return ask("PUT", closing(location, name), b"")


def out_of_order(ask: Client, data: bytes, location: str, offset: int, wrong: int, size: int, name: str) -> str:
    """A chunk that is not the next one is refused, also one that would be the last, and GET says where to go on."""
    if wrong == offset:
        return location
    end = min(wrong + size, len(data))
    method, place = ("PUT", closing(location, name)) if name and end == len(data) else ("PATCH", location)
    answer = ask(method, place, data[wrong:end], Content_Range=f"{wrong}-{end - 1}", Content_Type="application/octet-stream")
    assert answer.status == 416
    found = ask("GET", place)
    assert found.status == 204 and found.headers["Range"] == f"0-{max(offset - 1, 0)}"
    return str(found.headers["Location"])


def chunked_put(ask: Client, data: bytes, name: str) -> Reply:
    return chunked(ask, data, name, put_last=True)


def disordered(ask: Client, data: bytes, name: str) -> Reply:
    return chunked(ask, data, name, disorder=True)


def disordered_put(ask: Client, data: bytes, name: str) -> Reply:
    return chunked(ask, data, name, put_last=True, disorder=True)


WAYS = [post_only, post_put, streamed, chunked, chunked_put, disordered, disordered_put]
Way = Callable[[Client, bytes, str], Reply]


def verified(ask: Client, answer: Reply, data: bytes, name: str) -> None:
    """A blob is at the place that was said, and by HEAD; then it is deleted, at once."""
    assert answer.status == 201 and answer.headers["Docker-Content-Digest"] == name
    for path in (answer.headers["Location"], f"/v2/{REPO}/blobs/{name}"):
        found = ask("GET", path)
        assert found.status == 200 and found.body == data and found.headers["Docker-Content-Digest"] == name
    head = ask("HEAD", f"/v2/{REPO}/blobs/{name}")
    assert head.status == 200 and head.headers["Content-Length"] == str(len(data))
    assert ask("DELETE", f"/v2/{REPO}/blobs/{name}").status == 202
    assert ask("HEAD", f"/v2/{REPO}/blobs/{name}").status == 404
    assert ask("DELETE", f"/v2/{REPO}/blobs/{name}").status == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", WAYS)
def test_push_of_a_blob(ask: Client, way: Way, algorithm: str) -> None:
    for data in (os.urandom(3067), b"", b"{}"):  # nobody says the algorithm before the last request
        verified(ask, way(ask, data, digest(data, algorithm)), data, digest(data, algorithm))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", WAYS)
def test_push_of_a_blob_with_another_digest(ask: Client, way: Way, algorithm: str) -> None:
    name = digest(b"other", algorithm)
    assert way(ask, os.urandom(3067), name).code == "DIGEST_INVALID"
    assert ask("HEAD", f"/v2/{REPO}/blobs/{name}").status == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ranges(ask: Client, algorithm: str) -> None:
    data = os.urandom(2048)
    path = f"/v2/{REPO}/blobs/{ask.blob(REPO, data, algorithm)}"
    for wanted, start, end in (("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048), ("2000-5000", 2000, 2048)):
        found = ask("GET", path, Range=f"bytes={wanted}")
        assert found.status == 206 and found.body == data[start:end]
        assert found.headers["Content-Length"] == str(end - start)
        assert found.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    for wanted in ("500-0", "5000-10000"):
        assert ask("GET", path, Range=f"bytes={wanted}").status == 416


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_mounts(ask: Client, algorithm: str) -> None:
    for query in ("&from=" + OTHER, ""):
        data = os.urandom(512)
        name = ask.blob(OTHER, data, algorithm)
        verified(ask, ask("POST", f"/v2/{REPO}/blobs/uploads/?mount={name}{query}", b""), data, name)
        assert ask("GET", f"/v2/{OTHER}/blobs/{name}").body == data
    missing = os.urandom(512)
    name = digest(missing, algorithm)
    location = start(ask, f"?mount={name}&from={OTHER}")
    verified(ask, ask("PUT", closing(location, name), missing), missing, name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_upload_that_is_cancelled(ask: Client, algorithm: str) -> None:
    location = start(ask, f"?digest-algorithm={algorithm}")
    assert ask("DELETE", location).status == 204
    assert ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"


def test_an_algorithm_that_nobody_knows(ask: Client) -> None:
    assert ask("POST", f"/v2/{REPO}/blobs/uploads/?digest-algorithm=md5", b"").code == "DIGEST_INVALID"
    assert ask("PUT", closing(start(ask), "md5:" + "0" * 32), b"x").code == "DIGEST_INVALID"


# -- content discovery before anything is there ------------------------------------------------


def test_nothing_is_there(ask: Client) -> None:
    assert ask("GET", "/v2/").status == 200
    assert ask("GET", f"/v2/{REPO}/tags/list").status == 404
    answer = ask("GET", f"/v2/{REPO}/referrers/{HEX}")
    assert answer.status == 200 and answer.headers["Content-Type"] == INDEX
    assert answer.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    for kind in ("manifests", "blobs"):
        assert ask("GET", f"/v2/{REPO}/{kind}/{HEX}").status == 404
    for reference in ("missing", ".INVALID_MANIFEST_NAME", "x" * 200):
        for method in ("GET", "HEAD", "DELETE"):
            assert ask(method, f"/v2/{REPO}/manifests/{reference}").status == 404
    assert ask("PUT", f"/v2/{REPO}/manifests/.INVALID", b"{}").code == "MANIFEST_INVALID"
    for method in ("GET", "PUT"):
        assert ask(method, f"/v2/{REPO}/manifests/sha256:baddigeststring", b"{}").status == 400


# -- every kind of data ------------------------------------------------------------------------


class Data:
    """Blobs and manifests, in the order in which they are pushed, the tags that they get, and what refers to what."""

    def __init__(self, algorithm: str = "sha256", embed: bool = False, **unknown: Any) -> None:
        self.algorithm, self.embed, self.unknown = algorithm, embed, unknown
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.tags: dict[str, str] = {}
        self.referrers: dict[str, list[dict[str, Any]]] = {}

    def _described(self, kind: str, data: bytes) -> dict[str, Any]:
        more = {"data": base64.b64encode(data).decode()} if self.embed else {}
        return descriptor(kind, data, self.algorithm) | more

    def blob(self, kind: str, data: bytes) -> dict[str, Any]:
        found = self._described(kind, data)
        self.blobs[found["digest"]] = data
        return found

    def _keep(self, found: dict[str, Any], kind: str, tag: str) -> dict[str, Any]:
        data = json.dumps({**found, **self.unknown}).encode()
        made = self._described(kind, data)
        self.manifests[made["digest"]] = data, kind
        if tag:
            self.tags[tag] = made["digest"]
        if "subject" in found:
            artifact = found.get("artifactType") or found.get("config", {}).get("mediaType")
            notes = {"annotations": found["annotations"]} if "annotations" in found else {}
            entry = {key: made[key] for key in ("mediaType", "digest", "size")}
            entry |= {"artifactType": artifact} if artifact else {}
            self.referrers.setdefault(found["subject"]["digest"], []).append(entry | notes)
        return made

    def image(self, tag: str = "", layers: int = 2, packed: bool = True, **more: Any) -> dict[str, Any]:
        parts = []
        for _ in range(layers):
            data = os.urandom(100)
            parts.append(self.blob(f"{LAYER}+gzip" if packed else LAYER, gzip.compress(data) if packed else data))
        config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, **self.unknown}
        return self.manifest(tag, self.blob(CONFIG, json.dumps(config).encode()), parts, **more)

    def artifact(self, tag: str = "", parts: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        found = [self.blob(KIND, os.urandom(100))] if parts is None else parts
        return self.manifest(tag, self.blob(EMPTY, b"{}"), found, artifactType=KIND, **more)

    def manifest(self, tag: str, config: Any, layers: list[Any], **more: Any) -> dict[str, Any]:
        found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}
        return self._keep(found, MANIFEST, tag)

    def index(self, tag: str = "", inner: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        if inner is None:
            inner = [{**self.image(), "platform": {"os": "linux", "architecture": a}} for a in ("amd64", "arm64")]
        return self._keep({"schemaVersion": 2, "mediaType": INDEX, "manifests": inner, **more}, INDEX, tag)


def made(kind: str) -> Data:
    data = Data(
        "sha512" if "sha512" in kind else "sha256",
        kind == "data-field",
        **({"org.example.unknown": {"deep": [1, None]}} if kind == "custom-fields" else {}),
    )
    plain = {
        "image": lambda: data.image("image"),
        "image-uncompressed": lambda: data.image("image", packed=False),
        "large-manifest": lambda: data.image("large", annotations={f"large-{i}": "A" * 10_000 for i in range(390)}),
        "index": lambda: data.index("index"),
        "nested-index": lambda: data.index("nested", [data.index(), data.index()]),
        "empty-index": lambda: data.index("empty", []),
        "artifact": lambda: data.artifact("artifact"),
        "artifact-without-layers": lambda: data.artifact("bare", [data.blob(EMPTY, b"{}")]),
        "artifact-index": lambda: data.index("list", [data.artifact(), data.artifact()], artifactType=KIND),
        "data-field": lambda: data.image("data-field"),
        "custom-fields": lambda: data.index("custom"),
        "no-layers": lambda: data.image("no-layers", 0),
        "sha512": data.index,
    }
    if kind in plain:
        plain[kind]()
    elif kind == "artifacts-with-subject":
        subject = data.image("image")
        data.image(subject=subject)
        data.artifact("one", subject=subject, annotations={"org.example.a": "hello"})
        data.artifact("two", subject=subject, annotations={"org.example.a": "hello", "b": ""})
    elif kind == "index-with-subject":
        subject = data.index("index")
        data.index("list", [data.artifact()], artifactType=KIND, subject=subject, annotations={"k": "v"})
        data.index("untyped", [], subject=subject)
    elif kind == "missing-subject":
        data.artifact("one", subject=descriptor(MANIFEST, b"missing content"))
    elif kind == "non-distributable-layers":
        away = [
            {**descriptor(f"{OCI_ND}{end}", os.urandom(9)), "urls": ["https://store.example.com/x"]} for end in ("", "+gzip")
        ]
        data.manifest("nd", data.blob(CONFIG, b'{"os":"linux"}'), [*away, data.blob(LAYER, b"here")])
    elif kind.startswith("tag-param"):
        data.index(f"{kind}-top")
        data.tags |= {f"{kind}-{at}": name for at, name in enumerate(data.manifests)}
    return data


OCI_ND = "application/vnd.oci.image.layer.nondistributable.v1.tar"
KINDS = [
    "image", "image-uncompressed", "large-manifest", "index", "nested-index", "empty-index", "artifact",
    "artifact-without-layers", "artifact-index", "data-field", "custom-fields", "no-layers", "sha512",
    "artifacts-with-subject", "index-with-subject", "missing-subject", "non-distributable-layers",
    "tag-param-sha256", "tag-param-sha512",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_data(ask: Client, kind: str) -> None:
    data = made(kind)
    assert data.manifests, kind
    push(ask, data, kind.startswith("tag-param"))
    listed(ask, data)
    for reference, name in [*data.tags.items(), *((name, name) for name in data.manifests)]:
        pulled(ask, reference, name, *data.manifests[name])
    referred(ask, data)
    deleted(ask, data)


def push(ask: Client, data: Data, by_query: bool) -> None:
    for at, (name, content) in enumerate(data.blobs.items()):
        assert WAYS[at % len(WAYS)](ask, content, name).status == 201
    for name, (content, media_type) in data.manifests.items():
        tags = [tag for tag, tagged in data.tags.items() if tagged == name] if by_query else []
        query = "?" + "&".join(f"tag={tag}" for tag in tags) if tags else ""
        answer = ask("PUT", f"/v2/{REPO}/manifests/{name}{query}", content, Content_Type=media_type)
        accepted(ask, answer, name, content, media_type)
        said = [tag.strip() for value in answer.headers.get_all("OCI-Tag") or [] for tag in value.split(",")]
        assert sorted(said) == sorted(tags)
    for tag, name in data.tags.items() if not by_query else ():
        content, media_type = data.manifests[name]
        answer = ask("PUT", f"/v2/{REPO}/manifests/{tag}", content, Content_Type=media_type)
        accepted(ask, answer, name, content, media_type)


def accepted(ask: Client, answer: Reply, name: str, content: bytes, media_type: str) -> None:
    assert answer.status == 201 and answer.headers["Docker-Content-Digest"] == name
    subject = json.loads(content).get("subject")
    assert answer.headers["OCI-Subject"] == (subject["digest"] if subject else None)
    found = ask("GET", answer.headers["Location"])
    assert found.status == 200 and found.body == content and found.headers["Content-Type"] == media_type


def listed(ask: Client, data: Data) -> None:
    tags = ask("GET", f"/v2/{REPO}/tags/list").json["tags"]
    assert sorted(tags) == tags == sorted(data.tags)
    if len(tags) > 1:
        middle = len(tags) // 2
        assert ask("GET", f"/v2/{REPO}/tags/list?last={tags[middle - 1]}").json["tags"] == tags[middle:]
        assert ask("GET", f"/v2/{REPO}/tags/list?n={middle}").json["tags"] == tags[:middle]


def pulled(ask: Client, reference: str, name: str, content: bytes, media_type: str) -> None:
    for method, body in (("HEAD", b""), ("GET", content)):
        answer = ask(method, f"/v2/{REPO}/manifests/{reference}", Accept=f"{INDEX}, {MANIFEST}")
        assert answer.status == 200 and answer.body == body
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Docker-Content-Digest"] == name


def referred(ask: Client, data: Data) -> None:
    for subject, wanted in data.referrers.items():
        path = f"/v2/{REPO}/referrers/{subject}"
        order = sorted(wanted, key=lambda entry: str(entry["digest"]))
        answer = ask("GET", path)
        assert answer.status == 200 and answer.headers["Content-Type"] == INDEX
        assert answer.json["schemaVersion"] == 2 and answer.json["mediaType"] == INDEX
        assert sorted(answer.json["manifests"], key=lambda entry: str(entry["digest"])) == order
        kinds = {entry["artifactType"] for entry in wanted if "artifactType" in entry}
        for kind, said in [(one, text) for one in kinds for text in (one, quote(one, safe=""))]:
            answer = ask("GET", f"{path}?artifactType={said}")
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            found = sorted(answer.json["manifests"], key=lambda entry: str(entry["digest"]))
            assert found == [entry for entry in order if entry.get("artifactType") == kind]


def deleted(ask: Client, data: Data) -> None:
    """Tags first, which leaves what they named; then manifests, the outer ones first; then blobs."""
    for tag, name in data.tags.items():
        assert ask("DELETE", f"/v2/{REPO}/manifests/{tag}").status == 202
        assert ask("HEAD", f"/v2/{REPO}/manifests/{tag}").status == 404
        assert ask("HEAD", f"/v2/{REPO}/manifests/{name}").status == 200
    for name in reversed(data.manifests):
        assert ask("DELETE", f"/v2/{REPO}/manifests/{name}").status == 202
        assert ask("HEAD", f"/v2/{REPO}/manifests/{name}").status == 404
    for subject in data.referrers:
        assert ask("GET", f"/v2/{REPO}/referrers/{subject}").json["manifests"] == []
    for name in data.blobs:
        assert ask("DELETE", f"/v2/{REPO}/blobs/{name}").status == 202
        assert ask("HEAD", f"/v2/{REPO}/blobs/{name}").status == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_manifest_with_another_digest(ask: Client, algorithm: str) -> None:
    data = Data(algorithm)
    image = data.image()
    for name, content in data.blobs.items():
        post_put(ask, content, name)
    content, media_type = data.manifests[image["digest"]]
    path = f"/v2/{REPO}/manifests/{image['digest']}"
    assert ask("PUT", path, content + b"  ", Content_Type=media_type).code == "DIGEST_INVALID"
    assert ask("GET", path).status == 404
