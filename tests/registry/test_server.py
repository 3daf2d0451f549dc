"""oci-registry against the text of distribution-spec 1.1, over the wire, and against other clients."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import CONFIG, DOCKER_MANIFEST, INDEX, LAYER, MANIFEST, certificate, descriptor, digest

BLOB = os.urandom(300_000)
HEX = "sha256:" + "0" * 64


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error in the specification's form."""
        (error,) = self.json["errors"]
        assert error["message"]
        return str(error["code"])


class Client:
    """A client that says what it is told to, on one connection."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.connection = http.client.HTTPConnection(host, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        self.connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
        answer = self.connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())

    def blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        name = digest(data, algorithm)
        assert self("POST", f"/v2/{repository}/blobs/uploads/?digest={name}", data).status == 201
        return name

    def image(self, repository: str, reference: str, layer: bytes = BLOB, **more: Any) -> dict[str, Any]:
        config = b'{"os":"linux"}'
        for data in (layer, config):
            self.blob(repository, data)
        found = {
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer)], **more,
        }  # fmt: skip
        data = json.dumps(found).encode()
        reference = reference or digest(data)
        answer = self("PUT", f"/v2/{repository}/manifests/{reference}", data, Content_Type=MANIFEST)
        assert answer.status == 201, answer.body
        self.last = answer
        return descriptor(MANIFEST, data)


@pytest.fixture
def ask(registry: Any) -> Iterator[Client]:
    client = Client(registry.host)
    yield client
    client.connection.close()


def test_is_a_registry(ask: Client) -> None:
    answer = ask("GET", "/v2/")
    assert answer.status == 200 and answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    for path in ("/x", "/v1/", "/v2/a", "/v2/a/b/c", "/v2/../../etc/passwd"):
        assert ask("GET", path).code in ("UNSUPPORTED", "NAME_UNKNOWN")
    assert ask("POST", "/v2/").status == 405


# -- pull --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ("-20", b"0123456789"), ("0-0", b"0"), ("0-100", b"0123456789"), ("-1", b"9"), (" 8-20", b"89"), ("5-", b"56789"),
        (f"9-{'9' * 30}", b"9"), ("10-11", None), ("5-4", None), ("-0", None), ("10-", None),
    ],
)  # fmt: skip
def test_ranges_at_the_edges(ask: Client, wanted: str, content: bytes | None) -> None:
    path = f"/v2/a/blobs/{ask.blob('a', b'0123456789')}"
    for unit in ("bytes", "Bytes"):
        answer = ask("GET", path, Range=f"{unit}={wanted}")
        if content is None:
            assert answer.status == 416 and answer.code == "RANGE_INVALID" and answer.headers["Content-Range"] == "bytes */10"
        else:
            assert answer.status == 206 and answer.body == content


@pytest.mark.parametrize(
    "value", ["items=0-1", "bytes=1", "bytes=--1", "bytes=-abc", "bytes=abc-1", "bytes=0-a", "bytes=", "=0", "", "bytes=-1-0", "bytes=0-1,5-7"]
)
def test_ranges_that_are_none(ask: Client, value: str) -> None:
    """RFC 9110, 14.2: what is not understood is ignored."""
    answer = ask("GET", f"/v2/a/blobs/{ask.blob('a', b'0123456789')}", Range=value)
    assert answer.status == 200 and answer.body == b"0123456789"


def test_a_manifest_that_is_lost_or_cut_can_be_pushed_again(oci: Any, tmp_path: Path) -> None:
    process = oci.start("registry", "serve", tmp_path / "s", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ask = Client(process.stdout.readline().strip().partition("://")[2])
    name = ask.image("a", "v1")["digest"]
    data = ask("GET", "/v2/a/manifests/v1").body
    path = tmp_path / "s/a/blobs" / name.replace(":", "/")
    for harm in (path.unlink, lambda: path.write_bytes(data[:9])):
        harm()
        for reference in ("v1", name):
            assert ask("GET", f"/v2/a/manifests/{reference}").code == "MANIFEST_UNKNOWN"
            assert ask("HEAD", f"/v2/a/manifests/{reference}").status == 404
        assert f"a@{name}' is lost or damaged" in process.stderr.readline()
        for _ in range(3):
            process.stderr.readline()
        assert ask("GET", "/v2/a/tags/list").json["tags"] == ["v1"]
        assert ask("PUT", "/v2/a/manifests/v1", data, Content_Type=MANIFEST).status == 201
        assert ask("GET", "/v2/a/manifests/v1").body == data
    path.unlink()
    for reference in ("v1", name):
        assert ask("DELETE", f"/v2/a/manifests/{reference}").status == 202
    assert ask("GET", "/v2/a/tags/list").json["tags"] == []
    ask.connection.close()


def test_blobs(ask: Client) -> None:
    name = ask.blob("a/b", BLOB)
    answer = ask("GET", f"/v2/a/b/blobs/{name}")
    assert answer.status == 200 and answer.body == BLOB
    assert answer.headers["Docker-Content-Digest"] == name
    assert answer.headers["Content-Type"] == "application/octet-stream"
    head = ask("HEAD", f"/v2/a/b/blobs/{name}")
    assert head.status == 200 and head.headers["Content-Length"] == "300000" and head.body == b""
    assert ask("GET", f"/v2/a/b/blobs/{name}", If_None_Match=f'"{name}"').status == 304
    assert ask("GET", f"/v2/a/b/blobs/{HEX}").code == "BLOB_UNKNOWN"
    assert ask("HEAD", f"/v2/a/b/blobs/{HEX}").status == 404
    assert ask("GET", f"/v2/none/blobs/{name}").code == "NAME_UNKNOWN"
    assert ask("GET", "/v2/a/b/blobs/sha256:xyz").code == "DIGEST_INVALID"


@pytest.mark.parametrize(
    "span, status, expected",
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=299999-", 206, (299_999, 300_000)),
        ("bytes=1000-1999999", 206, (1000, 300_000)),
        ("bytes=-5", 206, (299_995, 300_000)),
        ("bytes=-9999999", 206, (0, 300_000)),
        ("bytes=300000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-1", 416, None),
        ("bytes=1-2,4-5", 200, (0, 300_000)),
        ("lines=1-2", 200, (0, 300_000)),
        ("bytes=x-", 200, (0, 300_000)),
        ("bytes=-", 200, (0, 300_000)),
    ],
)
def test_ranges(ask: Client, span: str, status: int, expected: tuple[int, int] | None) -> None:
    name = ask.blob("a", BLOB)
    answer = ask("GET", f"/v2/a/blobs/{name}", Range=span)
    assert answer.status == status
    if expected is None:
        assert answer.headers["Content-Range"] == "bytes */300000"
    else:
        assert answer.body == BLOB[slice(*expected)]
    if expected and status == 206:
        assert answer.headers["Content-Range"] == f"bytes {expected[0]}-{expected[1] - 1}/300000"


def test_manifests(ask: Client) -> None:
    made = ask.image("a", "v1")
    assert ask.last.headers["Location"] == f"/v2/a/manifests/{made['digest']}"
    for reference in ("v1", made["digest"]):
        answer = ask("GET", f"/v2/a/manifests/{reference}", Accept="application/x")
        assert answer.status == 200 and digest(answer.body) == made["digest"]
        assert answer.headers["Content-Type"] == MANIFEST
        assert answer.headers["Docker-Content-Digest"] == made["digest"]
        head = ask("HEAD", f"/v2/a/manifests/{reference}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(made["size"]))
    assert ask("GET", "/v2/a/manifests/v1", If_None_Match=f'"{made["digest"]}"').status == 304
    assert ask("GET", "/v2/a/manifests/none").code == "MANIFEST_UNKNOWN"
    assert ask("GET", f"/v2/a/manifests/{HEX}").code == "MANIFEST_UNKNOWN"
    assert ask("HEAD", "/v2/none/manifests/v1").status == 404
    assert ask("GET", "/v2/a/manifests/.bad").code == "MANIFEST_UNKNOWN"


def test_a_config_is_no_manifest(ask: Client) -> None:
    ask.image("a", "v1")
    config = digest(b'{"os":"linux"}')
    assert ask("GET", f"/v2/a/manifests/{config}").status == 404


# -- push --------------------------------------------------------------------------------


def test_post_then_put(ask: Client) -> None:
    begun = ask("POST", "/v2/a/blobs/uploads/")
    assert begun.status == 202 and begun.headers["Range"] == "0-0"
    name = digest(BLOB)
    done = ask("PUT", f"{begun.headers['Location']}?digest={name}", BLOB)
    assert done.status == 201 and done.headers["Location"] == f"/v2/a/blobs/{name}"
    assert ask("GET", done.headers["Location"]).body == BLOB
    assert ask("GET", begun.headers["Location"]).code == "BLOB_UPLOAD_UNKNOWN"


def test_in_chunks(ask: Client) -> None:
    begun = ask(
        "POST", "/v2/a/blobs/uploads"
    )  # the specification's path ends in a slash; some clients' does not
    where, at = begun.headers["Location"], 0
    for size in (100_000, 150_000):
        piece = BLOB[at : at + size]
        answer = ask("PATCH", where, piece, Content_Range=f"{at}-{at + size - 1}")
        assert answer.status == 202 and answer.headers["Range"] == f"0-{at + size - 1}"
        where, at = answer.headers["Location"], at + size
    status = ask("GET", where)
    assert status.status == 204 and status.headers["Range"] == "0-249999"
    again = ask("PATCH", where, BLOB[:10], Content_Range="0-9")
    assert again.status == 416 and again.headers["Range"] == "0-249999"
    assert ask("PATCH", where, BLOB[:10], Content_Range="250000-250019").code == "SIZE_INVALID"
    assert ask("PATCH", where, BLOB[:10], Content_Range="x").code == "BLOB_UPLOAD_INVALID"
    done = ask("PUT", f"{where}?digest={digest(BLOB)}", BLOB[at:], Content_Range=f"{at}-299999")
    assert done.status == 201
    assert ask("GET", f"/v2/a/blobs/{digest(BLOB)}").body == BLOB


def test_streamed_in_one_patch_of_unknown_length(ask: Client) -> None:
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    pieces = iter([BLOB[:1], BLOB[1:200_000], BLOB[200_000:]])
    assert ask("PATCH", where, pieces, Transfer_Encoding="chunked").status == 202
    assert ask("PUT", f"{where}?digest={digest(BLOB)}", b"").status == 201


def test_an_empty_blob(ask: Client) -> None:
    assert ask("GET", f"/v2/a/blobs/{ask.blob('a', b'')}").body == b""


def test_a_wrong_digest_leaves_nothing(ask: Client, registry: Any) -> None:
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    assert ask("PUT", f"{where}?digest={HEX}", BLOB).code == "DIGEST_INVALID"
    assert ask("PUT", where, BLOB).code == "BLOB_UPLOAD_UNKNOWN"
    assert ask("POST", f"/v2/a/blobs/uploads/?digest={HEX}", BLOB).code == "DIGEST_INVALID"
    assert ask("POST", "/v2/a/blobs/uploads/?digest=md5:1", BLOB).code == "DIGEST_INVALID"
    assert ask("PUT", ask("POST", "/v2/a/blobs/uploads/").headers["Location"], BLOB).code == "DIGEST_INVALID"
    assert not list((registry.dir / "a/blobs/sha256").iterdir())


def test_an_upload_is_cancelled(ask: Client, registry: Any) -> None:
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    ask("PATCH", where, BLOB)
    assert ask("DELETE", where).status == 204
    assert ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"
    assert not (registry.dir / "a/.ingest").exists()


def test_an_upload_belongs_to_its_repository(ask: Client) -> None:
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    ask.blob("b", BLOB)
    assert ask("GET", where.replace("/v2/a/", "/v2/b/")).code == "BLOB_UPLOAD_UNKNOWN"


def test_a_cut_upload_goes_on_where_it_ended(ask: Client) -> None:
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    host, _, port = ask.host.partition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BLOB)}\r\n\r\n".encode())
        sock.sendall(BLOB[:200_000])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1000) == b""  # the server has seen the end
    end = int(ask("GET", where).headers["Range"].removeprefix("0-"))
    assert end == 199_999
    assert ask("PUT", f"{where}?digest={digest(BLOB)}", BLOB[end + 1 :]).status == 201


@pytest.mark.parametrize("how", ["post", "put", "late"])
def test_sha512(ask: Client, registry: Any, how: str) -> None:
    name = digest(BLOB, "sha512")
    if how == "post":
        ask.blob("a", BLOB, "sha512")
    else:
        mark = "?digest-algorithm=sha512" if how == "put" else ""
        where = ask("POST", f"/v2/a/blobs/uploads/{mark}").headers["Location"]
        ask("PATCH", where, BLOB[:100])
        assert ask("PUT", f"{where}?digest={name}", BLOB[100:]).status == 201
    assert ask("GET", f"/v2/a/blobs/{name}").body == BLOB
    assert (registry.dir / "a/blobs/sha512" / name.partition(":")[2]).exists()
    found = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, BLOB, "sha512"),
        "layers": [],
    }
    made = digest(json.dumps(found).encode(), "sha512")
    answer = ask("PUT", f"/v2/a/manifests/{made}", found, Content_Type=MANIFEST)
    assert answer.status == 201 and answer.headers["Docker-Content-Digest"] == made
    assert ask("GET", f"/v2/a/manifests/{made}").json == found


def test_mounts(ask: Client, registry: Any) -> None:
    name = ask.blob("a", BLOB)
    for repository, mark in (("b", "&from=a"), ("c", "")):
        answer = ask("POST", f"/v2/{repository}/blobs/uploads/?mount={name}{mark}")
        assert answer.status == 201 and answer.headers["Location"] == f"/v2/{repository}/blobs/{name}"
        assert ask("GET", f"/v2/{repository}/blobs/{name}").body == BLOB
    files = {(registry.dir / one / "blobs/sha256" / name[7:]).stat().st_ino for one in "abc"}
    assert len(files) == 1
    for mark in (
        f"?mount={HEX}&from=a",
        f"?mount={HEX}",
        f"?mount={name}&from=none",
        f"?mount={name}&from=../x",
    ):
        assert ask("POST", f"/v2/d/blobs/uploads/{mark}").status == 202
    assert ask("POST", "/v2/d/blobs/uploads/?mount=nonsense&from=a").code == "DIGEST_INVALID"


def test_equal_blobs_are_kept_once(ask: Client, registry: Any) -> None:
    name = ask.blob("a", BLOB)
    ask.blob("b/c", BLOB)
    assert (registry.dir / "a/blobs/sha256" / name[7:]).samefile(registry.dir / "b/c/blobs/sha256" / name[7:])


@pytest.mark.parametrize(
    "body, content_type, code",
    [
        (b"nonsense", MANIFEST, "MANIFEST_INVALID"),
        (b"[]", MANIFEST, "MANIFEST_INVALID"),
        ({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}, MANIFEST, "MANIFEST_INVALID"),
        ({"schemaVersion": 2, "layers": [], "manifests": [], "config": descriptor(CONFIG, b"")}, MANIFEST, "MANIFEST_INVALID"),
        ({"schemaVersion": 2, "layers": [{"size": 1}], "config": descriptor(CONFIG, b"")}, MANIFEST, "MANIFEST_INVALID"),
        ({"schemaVersion": 2, "layers": [], "config": descriptor(CONFIG, b"?")}, MANIFEST, "MANIFEST_BLOB_UNKNOWN"),
        ({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, b"?")]}, INDEX, "MANIFEST_BLOB_UNKNOWN"),
    ],
)  # fmt: skip
def test_manifests_that_are_refused(ask: Client, body: Any, content_type: str, code: str) -> None:
    assert ask("PUT", "/v2/a/manifests/v1", body, Content_Type=content_type).code == code
    assert ask("GET", "/v2/a/manifests/v1").status == 404


def test_every_part_that_is_missing_is_named(ask: Client) -> None:
    """As clients expect that send what is named; not all of a hundred thousand."""
    here, layers = ask.blob("a", b"{}"), [descriptor(LAYER, b"%d" % at) for at in range(300)]
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": here, "size": 2}}
    for count in (3, 300):
        answer = ask("PUT", "/v2/a/manifests/v1", {**body, "layers": layers[:count]}, Content_Type=MANIFEST)
        errors = answer.json["errors"]
        assert answer.status == 404 and {error["code"] for error in errors} == {"MANIFEST_BLOB_UNKNOWN"}
        named = [error["detail"]["digest"] for error in errors]
        assert named == [layer["digest"] for layer in layers[:count]][:100]


def test_delete_where_nothing_is_deleted(oci: Any, tmp_path: Path) -> None:
    """Also of what is not there: distribution says so before it looks."""
    _, ask = serving(oci, "--delete=false", tmp_path / "store")
    for path in ("manifests/v1", f"manifests/{HEX}", f"blobs/{HEX}"):
        assert ask("DELETE", f"/v2/a/{path}").status == 405
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    assert ask("DELETE", where).status == 204  # an upload may be given up


def test_a_manifest_under_a_wrong_digest_or_too_large(ask: Client) -> None:
    assert ask("PUT", f"/v2/a/manifests/{HEX}", b"{}", Content_Type="x/y").code == "DIGEST_INVALID"
    big = b'{"x":"' + b"y" * (17 << 20) + b'"}'
    assert ask("PUT", "/v2/a/manifests/v1", big, Content_Type="x/y").status == 413


def test_large_manifests_and_unknown_types_are_kept_as_they_are(ask: Client) -> None:
    data = b'{ "x" : "' + b"y" * (5 << 20) + b'" }'
    assert (
        ask("PUT", "/v2/a/manifests/v1", data, Content_Type="application/x+json; charset=utf-8").status == 201
    )
    answer = ask("GET", "/v2/a/manifests/v1")
    assert answer.body == data and answer.headers["Content-Type"] == "application/x+json"


def test_a_large_manifest_is_pulled_and_pushed(oci: Any, registry: Any, ask: Client, tmp_path: Path) -> None:
    ask.image("a", "v1")
    found = json.loads(ask("GET", "/v2/a/manifests/v1").body)
    data = json.dumps(found | {"annotations": {f"n{at}": "y" * 10_000 for at in range(700)}}).encode()
    assert ask("PUT", "/v2/a/manifests/large", data, Content_Type=MANIFEST).status == 201
    oci("pull", f"{registry.host}/a:large", "./img:large")
    oci("push", "./img:large", f"{registry.host}/b:large")
    assert ask("GET", "/v2/b/manifests/large").body == data


def test_docker_schema_2_stays_what_it_is(ask: Client) -> None:
    ask.blob("a", b"{}")
    config = descriptor("application/vnd.docker.container.image.v1+json", b"{}")
    data = json.dumps(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": []}, indent=3
    )
    assert ask("PUT", "/v2/a/manifests/v1", data.encode(), Content_Type=DOCKER_MANIFEST).status == 201
    answer = ask("GET", "/v2/a/manifests/v1", Accept=MANIFEST)
    assert answer.body == data.encode() and answer.headers["Content-Type"] == DOCKER_MANIFEST


def test_several_tags_with_one_put(ask: Client) -> None:
    made = ask.image("a", "")
    data = ask("GET", f"/v2/a/manifests/{made['digest']}").body
    answer = ask("PUT", f"/v2/a/manifests/{made['digest']}?tag=x&tag=y", data, Content_Type=MANIFEST)
    assert answer.headers.get_all("OCI-Tag") == ["x", "y"]
    assert ask("GET", "/v2/a/tags/list").json["tags"] == ["x", "y"]
    assert (
        ask("PUT", f"/v2/a/manifests/{made['digest']}?tag=.", data, Content_Type=MANIFEST).code
        == "TAG_INVALID"
    )


@pytest.mark.parametrize(
    "name", ["A", "a//b", "-a", "a_", "a/../b", "a b", "x" * 300, "a/./b", "_blobs", ".a"]
)
def test_names_that_are_none(ask: Client, registry: Any, name: str) -> None:
    path = name.replace(" ", "%20")
    assert ask("POST", f"/v2/{path}/blobs/uploads/").code == "NAME_INVALID"
    assert not list(registry.dir.iterdir())


def test_names_that_look_like_a_layouts_own(ask: Client, registry: Any) -> None:
    names = [
        "a",
        "a/blobs",
        "a/blobs/sha256",
        "a/index.json",
        "a/oci-layout",
        "blobs/uploads",
        "manifests/tags/list",
        "z",
    ]
    for name in names:
        ask.image(name, "t", name.encode())
    for name in names:
        assert ask("GET", f"/v2/{name}/manifests/t").status == 200
        assert ask("GET", f"/v2/{name}/tags/list").json == {"name": name, "tags": ["t"]}
    assert ask("GET", "/v2/_catalog").json == {"repositories": sorted(names)}
    assert sorted(one.name for one in (registry.dir / "a").iterdir()) == [
        "_blobs", "_index.json", "_oci-layout", "blobs", "index.json", "oci-layout"
    ]  # fmt: skip


# -- content discovery -----------------------------------------------------------------------


def pages(ask: Client, path: str, key: str) -> list[list[str]]:
    found = []
    while path:
        answer = ask("GET", path)
        found.append(answer.json[key])
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.partition(">")[0].removeprefix("<")
    return found


def test_tags(ask: Client) -> None:
    made = ask.image("a", "b")
    data = ask("GET", f"/v2/a/manifests/{made['digest']}").body
    for tag in ("C", "a", "A", "d.1", "d-1"):
        ask("PUT", f"/v2/a/manifests/{tag}", data, Content_Type=MANIFEST)
    everything = ["A", "a", "b", "C", "d-1", "d.1"]
    assert ask("GET", "/v2/a/tags/list").json == {"name": "a", "tags": everything}
    assert pages(ask, "/v2/a/tags/list?n=4", "tags") == [everything[:4], everything[4:]]
    assert pages(ask, "/v2/a/tags/list?n=6", "tags") == [everything]
    assert pages(ask, "/v2/a/tags/list?n=2&last=a", "tags") == [["b", "C"], ["d-1", "d.1"]]
    assert ask("GET", "/v2/a/tags/list?last=b").json["tags"] == ["C", "d-1", "d.1"]
    assert ask("GET", "/v2/a/tags/list?n=0").json["tags"] == []
    assert "Link" not in ask("GET", "/v2/a/tags/list?n=0").headers
    assert ask("GET", "/v2/a/tags/list?n=-1").status == 400
    assert ask("GET", "/v2/none/tags/list").code == "NAME_UNKNOWN"


def test_catalog(ask: Client) -> None:
    for name in ("c", "a/b", "a"):
        ask.blob(name, b"")
    assert pages(ask, "/v2/_catalog?n=2", "repositories") == [["a", "a/b"], ["c"]]


def test_referrers(ask: Client) -> None:
    image = ask.image("a", "v1")
    assert ask("GET", f"/v2/a/referrers/{image['digest']}").json["manifests"] == []
    subject = {"mediaType": MANIFEST, "digest": image["digest"], "size": image["size"]}
    one = ask.image("a", "", b"1", subject=subject, artifactType="application/x-sig", annotations={"k": "v"})
    assert ask.last.headers["OCI-Subject"] == image["digest"]
    two = ask.image("a", "", b"2", subject=subject)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [],
        "subject": subject,
        "artifactType": "x/index",
    }
    answer = ask("PUT", "/v2/a/manifests/three", index, Content_Type=INDEX)
    assert answer.headers["OCI-Subject"] == image["digest"]
    answer = ask("GET", f"/v2/a/referrers/{image['digest']}")
    assert answer.headers["Content-Type"] == INDEX and answer.json["mediaType"] == INDEX
    found = {entry["digest"]: entry for entry in answer.json["manifests"]}
    assert found[one["digest"]] == {**one, "artifactType": "application/x-sig", "annotations": {"k": "v"}}
    assert found[two["digest"]] == {**two, "artifactType": CONFIG}
    assert [entry["artifactType"] for entry in found.values()].count("x/index") == 1 and len(found) == 3
    answer = ask("GET", f"/v2/a/referrers/{image['digest']}?artifactType=application/x-sig")
    assert [entry["digest"] for entry in answer.json["manifests"]] == [one["digest"]]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    ask("DELETE", f"/v2/a/manifests/{one['digest']}")
    assert len(ask("GET", f"/v2/a/referrers/{image['digest']}").json["manifests"]) == 2


def test_more_referrers_than_one_index_has(oci: Any, ask: Client, tmp_path: Path) -> None:
    """They come in pages; all of them arrive, at a filter too, and none twice."""
    image = ask.image("a", "v1")
    note = {"k": "v" * 1_000_000}
    kinds = ["x/one" if at % 3 else "x/two" for at in range(10)]
    made = {ask.image("a", "", b"%d" % at, subject=image, artifactType=k, annotations=note)["digest"] for at, k in enumerate(kinds)}
    for query, expected in (("", 10), ("?artifactType=x/one", 6), ("?n=3", 10), ("?n=2&artifactType=x/two", 4)):
        found, at, pages = [], f"/v2/a/referrers/{image['digest']}{query}", 0
        while at:
            answer = ask("GET", at)
            assert answer.status == 200 and len(answer.body) < 4 << 20
            assert ("artifactType" in query) == ("OCI-Filters-Applied" in answer.headers)
            found += [entry["digest"] for entry in answer.json["manifests"]]
            at, pages = (answer.headers["Link"] or "").partition(">")[0].strip("<"), pages + 1
        assert len(found) == len(set(found)) == expected and set(found) <= made and pages > 1, query
    oci("pull", "--referrers", f"{ask.host}/a:v1", "./img")
    assert len(json.loads((tmp_path / "img/index.json").read_text())["manifests"]) == 11
    assert ask("GET", f"/v2/a/referrers/{image['digest']}?n=x").status == 400


def test_conditions(ask: Client) -> None:
    """Who changes a tag may say what it is (RFC 9110, 13): of two at once one is told."""
    one = ask.image("a", "v1", b"1")
    data = ask("GET", "/v2/a/manifests/v1").body
    two = json.dumps({**json.loads(data), "annotations": {"a": "b"}}).encode()
    put = lambda tag, **said: ask("PUT", f"/v2/a/manifests/{tag}", two, Content_Type=MANIFEST, **said)  # noqa: E731
    assert put("v1", If_None_Match="*").status == 412
    assert put("v1", If_Match=f'"{HEX}"').code == "MANIFEST_INVALID"
    assert put("new", If_Match="*").status == 412
    assert ask("GET", "/v2/a/manifests/v1").headers["Docker-Content-Digest"] == one["digest"]
    assert ask("GET", "/v2/a/manifests/new").status == 404
    etag = ask("GET", "/v2/a/manifests/v1").headers["ETag"]
    assert put("v1", If_Match=f'"{HEX}", {etag}').status == 201 == put("new", If_None_Match="*").status
    assert ask("GET", "/v2/a/manifests/v1", If_None_Match=f'W/"x", "{digest(two)}"').status == 304
    blob = ask.blob("a", BLOB)
    for said, status in ((f'"{blob}"', 206), ('"other"', 200), ("Thu, 01 Jan 2026 00:00:00 GMT", 200)):
        assert ask("GET", f"/v2/a/blobs/{blob}", Range="bytes=1-2", If_Range=said).status == status


def test_referrers_of_what_is_not_there(ask: Client) -> None:
    subject = {"mediaType": MANIFEST, "digest": HEX, "size": 5}
    made = ask.image("a", "", subject=subject)
    assert ask.last.headers["OCI-Subject"] == HEX
    assert ask("GET", f"/v2/a/referrers/{HEX}").json["manifests"][0]["digest"] == made["digest"]
    assert ask("GET", f"/v2/none/referrers/{HEX}").json["manifests"] == []
    assert ask("GET", "/v2/a/referrers/x").code == "DIGEST_INVALID"


def test_referrers_by_the_fallback_tag(ask: Client) -> None:
    other = ask.image("a", "v1")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**other, "artifactType": "x/y"}]}
    ask("PUT", f"/v2/a/manifests/{HEX.replace(':', '-')}", index, Content_Type=INDEX)
    (found,) = ask("GET", f"/v2/a/referrers/{HEX}").json["manifests"]
    assert found["digest"] == other["digest"]


# -- content management ------------------------------------------------------------------------


def test_deleting_a_tag_keeps_the_manifest(ask: Client) -> None:
    made = ask.image("a", "v1")
    assert ask("DELETE", "/v2/a/manifests/v1").status == 202
    assert ask("GET", "/v2/a/manifests/v1").status == 404
    assert ask("GET", f"/v2/a/manifests/{made['digest']}").status == 200
    assert ask("DELETE", "/v2/a/manifests/v1").code == "MANIFEST_UNKNOWN"


def test_deleting_a_manifest_takes_its_tags(ask: Client) -> None:
    made = ask.image("a", "v1")
    data = ask("GET", "/v2/a/manifests/v1").body
    ask("PUT", "/v2/a/manifests/v2", data, Content_Type=MANIFEST)
    assert ask("DELETE", f"/v2/a/manifests/{made['digest']}").status == 202
    for reference in ("v1", "v2", made["digest"]):
        assert ask("GET", f"/v2/a/manifests/{reference}").status == 404
    assert ask("GET", "/v2/a/tags/list").json["tags"] == []


def test_deleting_a_blob(ask: Client) -> None:
    name = ask.blob("a", BLOB)
    ask.blob("b", BLOB)
    assert ask("DELETE", f"/v2/a/blobs/{name}").status == 202
    assert ask("GET", f"/v2/a/blobs/{name}").status == 404
    assert ask("DELETE", f"/v2/a/blobs/{name}").code == "BLOB_UNKNOWN"
    assert ask("GET", f"/v2/b/blobs/{name}").body == BLOB


def test_a_tag_that_moves_leaves_what_it_named(ask: Client) -> None:
    old = ask.image("a", "v1", b"old")
    new = ask.image("a", "v1", b"new")
    assert digest(ask("GET", "/v2/a/manifests/v1").body) == new["digest"]
    assert ask("GET", f"/v2/a/manifests/{old['digest']}").status == 200


# -- the command -------------------------------------------------------------------------------


def serving(oci: Any, *words: Any, **more: Any) -> tuple[subprocess.Popen[str], Client]:
    process = oci.start("registry", "serve", *words, stdout=subprocess.PIPE, text=True, **more)
    url = process.stdout.readline().strip()
    return process, Client(url.partition("://")[2])


def test_read_only_no_delete_immutable(oci: Any, tmp_path: Path) -> None:
    process, ask = serving(oci, "--immutable-tags", "--delete=false", tmp_path / "store")
    ask.image("a", "v1", b"old")
    ask.image("a", "v1", b"old")
    data = ask("GET", "/v2/a/manifests/v1").body + b" "
    refused = ask("PUT", "/v2/a/manifests/v1", data, Content_Type=MANIFEST)
    assert (refused.status, refused.code) == (409, "TAG_INVALID")
    assert ask("DELETE", "/v2/a/manifests/v1").status == 405
    assert ask("DELETE", f"/v2/a/blobs/{digest(b'old')}").status == 405
    ask.connection.close()
    _, ask = serving(oci, "--read-only", tmp_path / "store")
    assert ask("GET", "/v2/a/manifests/v1").status == 200
    for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/v2"), ("DELETE", "manifests/v1")):
        assert ask(method, f"/v2/a/{path}", b"").status == 405


def test_a_sparse_index(oci: Any, tmp_path: Path) -> None:
    _, ask = serving(oci, "--sparse-index", tmp_path / "store")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, b"?")]}
    assert ask("PUT", "/v2/a/manifests/v1", index, Content_Type=INDEX).status == 201


@pytest.mark.needs("skopeo")
def test_one_layout(oci: Any, tmp_path: Path, busybox: Path) -> None:
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)
    _, ask = serving(oci, tmp_path / "img")
    assert ask("GET", "/v2/_catalog").json == {"repositories": ["img"]}
    assert ask("GET", "/v2/img/tags/list").json["tags"] == ["latest"]
    subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{ask.host}/img:latest"],
        check=True,
        capture_output=True,
    )
    made = ask.image("img", "new")
    entries = json.loads((tmp_path / "img/index.json").read_text())["manifests"]
    assert entries[-1]["annotations"]["org.opencontainers.image.ref.name"] == "new"
    assert entries[-1]["digest"] == made["digest"]
    assert ask("POST", "/v2/other/blobs/uploads/").code == "DENIED"


def test_the_default_store(oci: Any, tmp_path: Path, busybox: Path) -> None:
    oci.preload("docker.io/library/alpine:latest", busybox)
    _, ask = serving(oci, tmp_path / "root/images")
    assert "docker.io/library/alpine" in ask("GET", "/v2/_catalog").json["repositories"]
    assert ask("GET", "/v2/docker.io/library/alpine/tags/list").json["tags"] == ["latest"]
    oci("pull", f"{ask.host}/docker.io/library/alpine", "./img")
    ask.image("docker.io/library/alpine", "mine")
    names = [
        e["annotations"] for e in json.loads((tmp_path / "root/images/index.json").read_text())["manifests"]
    ]
    assert {"org.opencontainers.image.ref.name": "docker.io/library/alpine:mine"} in names


def test_what_other_commands_change_is_seen(ask: Client, registry: Any) -> None:
    made = ask.image("a", "v1")
    index = json.loads((registry.dir / "a/index.json").read_text())
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "renamed"
    (registry.dir / "a/new").write_text(json.dumps(index))
    (registry.dir / "a/new").rename(registry.dir / "a/index.json")
    assert ask("GET", "/v2/a/manifests/v1").status == 404
    assert digest(ask("GET", "/v2/a/manifests/renamed").body) == made["digest"]


def test_ends_on_sigterm_with_what_it_has_begun(oci: Any, tmp_path: Path) -> None:
    process, ask = serving(oci, tmp_path / "store")
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    ask.connection.putrequest("PUT", f"{where}?digest={digest(BLOB)}")
    ask.connection.putheader("Content-Length", str(len(BLOB)))
    ask.connection.putheader("Expect", "100-continue")
    ask.connection.endheaders()
    assert ask.connection.sock.recv(100).startswith(b"HTTP/1.1 100")  # a thread is at it
    process.send_signal(signal.SIGTERM)
    ask.connection.send(BLOB)
    assert ask.connection.getresponse().status == 201
    assert process.wait() == 0
    assert (tmp_path / "store/a/blobs/sha256" / digest(BLOB)[7:]).read_bytes() == BLOB
    assert not (tmp_path / "store/a/.ingest").exists()


def test_kill_9_in_an_upload_leaves_valid_layouts(oci: Any, tmp_path: Path) -> None:
    process, ask = serving(oci, tmp_path / "store")
    where = ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    ask("PATCH", where, BLOB)
    process.kill()
    process.wait()
    _, ask = serving(oci, tmp_path / "store")
    assert ask("PUT", f"{where}?digest={digest(BLOB)}").code == "BLOB_UPLOAD_UNKNOWN"
    ask.image("a", "v1")
    assert not (tmp_path / "store/a/.ingest").exists()


@pytest.mark.root
def test_a_full_disk(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "store"], check=True)
    try:
        process, ask = serving(oci, tmp_path / "store")
        answer = ask("POST", f"/v2/a/blobs/uploads/?digest={digest(BLOB * 5)}", BLOB * 5)
        assert answer.status == 507 and "no space left on device" in answer.json["errors"][0]["message"]
        ask.image("a", "v1")
        process.terminate()
        process.wait()
        assert not (tmp_path / "store/a/.ingest").exists()
    finally:
        subprocess.run(["umount", tmp_path / "store"], check=True)


@pytest.mark.needs("openssl", "skopeo")
def test_tls_and_a_new_certificate(oci: Any, tmp_path: Path, busybox: Path) -> None:
    cert, key = certificate(tmp_path)
    words = ("--tls-cert", cert, "--tls-key", key, tmp_path / "store")
    process, ask = serving(oci, *words)
    oci("push", f"{busybox}:latest", f"{ask.host}/a", env={"SSL_CERT_FILE": str(cert)})
    certs = tmp_path / "certs"
    certs.mkdir()
    (certs / "ca.crt").write_bytes(cert.read_bytes())
    copy = ["skopeo", "inspect", "--cert-dir", certs, f"docker://{ask.host}/a"]
    subprocess.run(copy, check=True, capture_output=True)
    old = cert.read_bytes()
    certificate(tmp_path)
    assert cert.read_bytes() != old
    process.send_signal(signal.SIGHUP)
    while subprocess.run(copy, capture_output=True).returncode == 0:
        pass  # the signal is on its way
    (certs / "ca.crt").write_bytes(cert.read_bytes())
    subprocess.run(copy, check=True, capture_output=True)


def test_an_access_log(oci: Any, tmp_path: Path) -> None:
    process, ask = serving(oci, "--access-log", tmp_path / "store", stderr=subprocess.PIPE)
    ask("GET", "/v2/?n=%22", User_Agent="me")
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    assert (line["method"], line["target"], line["status"], line["agent"]) == ("GET", "/v2/?n=%22", 200, "me")


def test_what_cannot_be_served(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make directory" in oci("registry", "serve", tmp_path / "file", code=1).stderr
    refused = oci("registry", "serve", "--listen", "nonsense", tmp_path / "d", code=2).stderr
    assert refused == "oci-registry: cannot listen on 'nonsense': not HOST:PORT\n"
    assert (
        "cannot use certificate" in oci("registry", "serve", "--tls-cert", "x", tmp_path / "d", code=1).stderr
    )


# -- other clients -----------------------------------------------------------------------------


@pytest.mark.needs("skopeo")
def test_skopeo_both_ways_and_directly(registry: Any, tmp_path: Path, busybox: Path) -> None:
    target = f"docker://{registry.host}/library/busybox:1"
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{busybox}:latest", target], check=True
    )
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", target, f"oci:{tmp_path}/out:x"], check=True
    )
    store = f"oci:{registry.dir}/library/busybox:1"
    made = subprocess.run(["skopeo", "inspect", "--raw", store], check=True, capture_output=True).stdout
    back = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{tmp_path}/out:x"], check=True, capture_output=True
    )
    assert made == back.stdout
    subprocess.run(["skopeo", "delete", "--tls-verify=false", target], check=True)
    v2s2 = [
        "skopeo",
        "copy",
        "-q",
        "--format",
        "v2s2",
        "--dest-tls-verify=false",
        f"oci:{busybox}:latest",
        target,
    ]
    subprocess.run(v2s2, check=True)


@pytest.mark.needs("oras")
def test_oras_artifacts_and_referrers(registry: Any, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")

    def oras(*words: str) -> str:
        done = subprocess.run(["oras", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ref = f"{registry.host}/art:1"
    oras("push", "--plain-http", ref, "hello.txt:text/plain")
    oras("attach", "--plain-http", "--artifact-type", "x/sig", ref, "hello.txt:text/plain")
    assert "x/sig" in oras("discover", "--plain-http", ref)
    oras("pull", "--plain-http", "-o", "out", ref)
    assert (tmp_path / "out/hello.txt").read_text() == "hello"
    oras("copy", "-r", "--from-plain-http", "--to-plain-http", ref, f"{registry.host}/copied:1")
    assert "x/sig" in oras("discover", "--plain-http", f"{registry.host}/copied:1")
    assert oras("repo", "tags", "--plain-http", f"{registry.host}/copied").split() == ["1"]


@pytest.mark.needs("docker-registry", "skopeo")
def test_many_clients_at_once(registry: Any, busybox: Path) -> None:
    copies = [
        subprocess.Popen(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{busybox}:latest",
             f"docker://{registry.host}/many:{number}"]
        )
        for number in range(8)
    ]  # fmt: skip
    assert [one.wait() for one in copies] == [0] * 8
    ask = Client(registry.host)
    assert ask("GET", "/v2/many/tags/list").json["tags"] == [str(number) for number in range(8)]


@pytest.mark.root
@pytest.mark.needs("podman")
def test_podman_both_ways(registry: Any, tmp_path: Path, busybox: Path) -> None:
    places = ["--root", tmp_path / "storage", "--runroot", tmp_path / "runroot", "--storage-driver", "vfs"]

    def podman(*words: str) -> None:
        done = subprocess.run(["podman", *places, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    target = f"docker://{registry.host}/bb"
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{busybox}:latest", target], check=True
    )
    podman("pull", "-q", "--tls-verify=false", f"{registry.host}/bb")
    podman("push", "-q", "--tls-verify=false", f"{registry.host}/bb", f"{registry.host}/podman/bb:2")
    podman("rmi", "-af")
    podman("pull", "-q", "--tls-verify=false", f"{registry.host}/podman/bb:2")


@pytest.mark.root
@pytest.mark.needs("docker", "dockerd", "skopeo")
def test_docker_both_ways(oci: Any, registry: Any, public: Path, busybox: Path, tmp_path: Path) -> None:
    daemon = subprocess.Popen(
        ["unshare", "--mount", "dockerd", "--data-root", public / "data", "--exec-root", public / "exec", "--pidfile", public / "pid",
         "-H", f"unix://{public}/sock", "--bridge=none", "--iptables=false", "--storage-driver", "vfs"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stderr is not None
    try:
        said = ""
        for line in daemon.stderr:
            said += line
            if "API listen on" in line:
                break
        else:
            pytest.skip(f"dockerd cannot run here: {said.splitlines()[-1:]}")
        drain = threading.Thread(target=daemon.stderr.read)
        drain.start()

        def docker(*words: str, code: int = 0, **more: Any) -> None:
            argv = ["docker", "--config", str(public / "config"), "-H", f"unix://{public}/sock", *words]
            done = subprocess.run(argv, capture_output=True, text=True, **more)
            assert done.returncode == code, done.stderr

        target = f"docker://{registry.host}/bb"
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{busybox}:latest", target], check=True
        )
        docker("pull", "-q", f"{registry.host}/bb")
        docker("tag", f"{registry.host}/bb", f"{registry.host}/docker/bb:1")
        docker("push", "-q", f"{registry.host}/docker/bb:1")
        docker("rmi", "-f", f"{registry.host}/docker/bb:1", f"{registry.host}/bb")
        docker("pull", "-q", f"{registry.host}/docker/bb:1")

        keys = tmp_path / "keys"
        key = oci("registry", "key", "add", "--scope", "team/**:pull,push", keys, "ci").stdout
        for how in ("basic", "token"):
            guarded = serving(oci, "--api-keys", keys, "--auth", how, tmp_path / how)[1].host
            docker("tag", f"{registry.host}/docker/bb:1", f"{guarded}/team/bb:1")
            docker("tag", f"{registry.host}/docker/bb:1", f"{guarded}/other:1")
            docker("push", "-q", f"{guarded}/team/bb:1", code=1)
            docker("login", "-u", "ci", "--password-stdin", guarded, code=1, input=key[:-3])
            docker("login", "-u", "ci", "--password-stdin", guarded, input=key)
            docker("push", "-q", f"{guarded}/team/bb:1")
            docker("push", "-q", f"{guarded}/other:1", code=1)
            docker("rmi", "-f", f"{guarded}/team/bb:1")
            docker("pull", "-q", f"{guarded}/team/bb:1")
            docker("logout", guarded)
    finally:
        daemon.terminate()
        daemon.wait()
