"""oci-push against registries that behave, and those that do not."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import CONFIG, INDEX, LAYER, MANIFEST, Answer, Asked, Docker, Fake, descriptor, digest

QUICK = ("--retries", "2", "--retry-delay", "1")
LAYER_BYTES = os.urandom(20 << 20)  # more than fits one PUT: sent by PATCH


class Layout:
    """A layout made by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries: list[dict[str, Any]] = []
        self.write()

    def write(self) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))

    def put(self, data: Any, media_type: str, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        found = descriptor(media_type, data, algorithm, **more)
        path = self.path / "blobs" / found["digest"].replace(":", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return found

    def tag(self, name: str, found: dict[str, Any]) -> None:
        self.entries.append({**found, "annotations": {"org.opencontainers.image.ref.name": name}})
        self.write()

    def config(self, layers: tuple[bytes, ...]) -> Any:
        return b'{"os":"linux","architecture":"amd64"}'

    def image(self, name: str, *layers: bytes, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
        config = self.put(self.config(layers), CONFIG, algorithm)
        found = [self.put(layer, LAYER, algorithm) for layer in layers]
        made = self.put(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": found, **more},
            MANIFEST,
            algorithm,
        )
        if name:
            self.tag(name, made)
        return made


class Sound(Layout):
    """One whose images `oci-image fsck` finds nothing wrong with."""

    def config(self, layers: tuple[bytes, ...]) -> Any:
        diff_ids = [digest(layer) for layer in layers]
        return {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "img")


class Receiver(Fake):
    """A registry that takes uploads, as a script of answers cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.manifests: dict[str, Asked] = {}
        self.trouble: list[Answer | None] = []  # what happens to the next PATCHes and PUTs of blobs
        self.begin: dict[str, str] = {}  # more headers of a begun upload
        self.guard = self.receive

    def receive(self, asked: Asked) -> Answer | None:
        path, _, query = asked.path.partition("?")
        if "/blobs/uploads/" in path and asked.method in ("PATCH", "PUT") and self.trouble:
            trouble = self.trouble.pop(0)
            if trouble:
                return trouble
        if asked.method == "POST" and path.endswith("/blobs/uploads/"):
            name = str(len(self.uploads))
            self.uploads[name] = b""
            return Answer(202, {"Location": f"{path}{name}?state=x", **self.begin})
        if "/blobs/uploads/" in path and asked.method == "DELETE":
            return Answer(204)
        if "/blobs/uploads/" in path:
            name = path.rpartition("/")[2]
            if asked.method == "GET":
                if name not in self.uploads:
                    return Answer(404)
                return Answer(
                    204, {"Range": f"0-{len(self.uploads[name]) - 1}", "Location": f"{path}?state=y"}
                )
            assert query.startswith("state="), "what a Location says is kept"
            span = asked.headers.get("Content-Range")
            if span and int(span.partition("-")[0]) != len(self.uploads[name]):
                return Answer(416, {"Location": path})
            self.uploads[name] += asked.body
            if asked.method == "PATCH":
                return Answer(202, {"Location": f"{path}?state=z"})
            data = self.uploads.pop(name)
            wanted = query.rpartition("digest=")[2]
            if digest(data, wanted.partition(":")[0]) != wanted:
                return Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"wrong"}]}')
            self.blobs[wanted] = data
            return Answer(201, {"Location": "/x"})
        if "/blobs/" in path and asked.method == "HEAD":
            return Answer(200 if path.rpartition("/")[2] in self.blobs else 404)
        if "/manifests/" in path and asked.method == "PUT":
            self.manifests[path.rpartition("/")[2]] = asked
            return Answer(201, {"Location": path, "Docker-Content-Digest": digest(asked.body)})
        return None


@pytest.fixture
def peer() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


def test_blobs_come_before_manifests_byte_for_byte(oci: Any, peer: Receiver, layout: Layout) -> None:
    made = layout.image("v1", b"one", b"two", b"")
    said = oci("push", f"{layout.path}:v1", f"{peer.host}/a/b:x").stdout
    assert said == f"{peer.host}/a/b@{made['digest']}\n"
    assert set(peer.blobs.values()) == {b"one", b"two", b"", b'{"os":"linux","architecture":"amd64"}'}
    asked = peer.manifests["x"]
    assert digest(asked.body) == made["digest"] and asked.headers["Content-Type"] == MANIFEST
    assert peer.asked[-1] is asked
    assert all("mount=sha256:" in one.path for one in peer.seen("POST"))


def test_by_digest(oci: Any, peer: Receiver, layout: Layout) -> None:
    made = layout.image("v1", b"one")
    oci("push", f"{layout.path}:v1", f"{peer.host}/a@{made['digest']}")
    assert list(peer.manifests) == [made["digest"]]
    wrong = "sha256:" + "0" * 64
    assert "cannot push as" in oci("push", f"{layout.path}:v1", f"{peer.host}/a@{wrong}", code=1).stderr


def test_an_index_with_all_its_parts(oci: Any, peer: Receiver, layout: Layout) -> None:
    parts = [
        {**layout.image("", arch.encode()), "platform": {"os": "linux", "architecture": arch}}
        for arch in ("amd64", "arm64")
    ]
    odd = layout.put(b"odd", "application/x-odd")
    top = layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*parts, odd]}, INDEX)
    layout.tag("multi", top)
    oci("push", f"{layout.path}:multi", f"{peer.host}/a:multi")
    assert set(peer.manifests) == {"multi", odd["digest"], *(part["digest"] for part in parts)}
    assert peer.asked[-1].path.endswith("/multi")
    assert peer.manifests[odd["digest"]].headers["Content-Type"] == "application/x-odd"
    peer.manifests.clear()
    oci("push", "--platform", "arm64", f"{layout.path}:multi", f"{peer.host}/a:arm")
    assert list(peer.manifests) == ["arm"]


def test_what_the_registry_has_is_not_sent(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"one", b"two")
    peer.blobs[digest(b"one")] = b"one"
    oci("push", f"{layout.path}:v1", f"{peer.host}/a")
    assert len(peer.seen("POST")) == 2
    peer.asked.clear()
    oci("push", f"{layout.path}:v1", f"{peer.host}/a:again")
    assert not peer.seen("POST") and "again" in peer.manifests


def test_a_large_blob_goes_on_after_a_cut(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", LAYER_BYTES)
    original = peer.receive

    def cut(asked: Asked) -> Answer | None:
        if asked.method == "PATCH" and asked.headers["Content-Range"].startswith("0-"):
            name = asked.path.partition("?")[0].rpartition("/")[2]
            peer.uploads[name] = asked.body[:5_000_000]
            return Answer(raw=b"")
        return original(asked)

    peer.guard = cut
    oci("push", "--jobs", "1", *QUICK, f"{layout.path}:v1", f"{peer.host}/a")
    spans = [one.headers["Content-Range"] for one in peer.seen("PATCH")]
    assert spans == [f"0-{len(LAYER_BYTES) - 1}", f"5000000-{len(LAYER_BYTES) - 1}"]
    assert peer.blobs[digest(LAYER_BYTES)] == LAYER_BYTES


def test_a_registry_that_forgot_the_upload_gets_it_again(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"one")
    peer.trouble = [Answer(raw=b"")]
    peer.on("GET", "/v2/a/blobs/uploads/0", Answer(404))
    original = peer.receive
    peer.guard = lambda asked: (
        Answer(404) if asked.method == "GET" and "uploads" in asked.path else original(asked)
    )
    oci("push", *QUICK, f"{layout.path}:v1", f"{peer.host}/a")
    assert b"one" in peer.blobs.values()


def test_chunks(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"0123456789")
    oci("push", "--chunk-size", "4", "--jobs", "1", f"{layout.path}:v1", f"{peer.host}/a")
    spans = [(one.headers["Content-Range"], one.body) for one in peer.seen("PATCH")]
    assert spans[-3:] == [("0-3", b"0123"), ("4-7", b"4567"), ("8-9", b"89")]
    peer.asked.clear()
    peer.begin = {"OCI-Chunk-Min-Length": "7"}
    layout.image("v2", b"abcdefghij")
    oci("push", "--chunk-size", "4", "--jobs", "1", f"{layout.path}:v2", f"{peer.host}/a")
    assert [one.body for one in peer.seen("PATCH")] == [b"abcdefg", b"hij"]


def test_a_registry_that_keeps_failing_is_75(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"one")
    peer.trouble = [Answer(503, {}, b"busy")] * 100
    said = oci("push", *QUICK, f"{layout.path}:v1", f"{peer.host}/a", code=75).stderr
    assert said.startswith("oci-push: cannot push blob 'sha256:") and said.count("\n") == 1
    assert not peer.manifests
    assert "cannot reach" in oci("push", f"{layout.path}:v1", "127.0.0.1:1/a", code=75).stderr


@pytest.mark.parametrize(
    "answer, words",
    [
        (Answer(413, {}, b"<html>"), "answers 413"),
        (
            Answer(403, {}, b'{"errors":[{"code":"DENIED","message":"Quota exceeded."}]}'),
            "answers 403, quota exceeded",
        ),
        (Answer(202), "does not say where"),
        (Answer(202, {"Location": "file:///etc/passwd"}), "as the place"),
        (Answer(202, {"Location": "http://[::1"}), "as the place"),
        (Answer(401), "authentication required"),
    ],
)
def test_uploads_that_are_refused(
    oci: Any, peer: Receiver, layout: Layout, answer: Answer, words: str
) -> None:
    layout.image("v1", b"one")
    original = peer.receive
    peer.guard = lambda asked: answer if asked.method == "POST" else original(asked)
    assert words in oci("push", *QUICK, f"{layout.path}:v1", f"{peer.host}/a", code=1).stderr


def test_a_manifest_that_the_registry_changes(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"one")
    original = peer.receive
    wrong = Answer(201, {"Docker-Content-Digest": "sha256:" + "0" * 64})
    peer.guard = lambda asked: (
        wrong if "/manifests/" in asked.path and asked.method == "PUT" else original(asked)
    )
    assert "it changed the manifest" in oci("push", f"{layout.path}:v1", f"{peer.host}/a", code=1).stderr


def test_an_upload_at_another_host_is_told_nothing(
    oci: Any, peer: Receiver, layout: Layout, tmp_path: Path
) -> None:
    layout.image("v1", b"one")
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {peer.host: {"auth": "bWU6c2VjcmV0"}}}))
    with Receiver() as store:
        original, other = peer.receive, store.receive

        def front(asked: Asked) -> Answer | None:
            if asked.headers.get("Authorization") != "Basic bWU6c2VjcmV0":
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            if asked.method == "POST":
                store.uploads["9"] = b""
                return Answer(202, {"Location": f"{store.url}/v2/a/blobs/uploads/9?state=x"})
            return original(asked)

        def back(asked: Asked) -> Answer | None:
            assert "Authorization" not in asked.headers
            return other(asked)

        peer.guard, store.guard = front, back
        oci("push", "--jobs", "1", "--authfile", "auth.json", f"{layout.path}:v1", f"{peer.host}/a")
        assert b"one" in store.blobs.values()


def test_a_damaged_or_missing_blob_here(oci: Any, peer: Receiver, layout: Layout) -> None:
    layout.image("v1", b"one")
    blob = layout.path / "blobs/sha256" / digest(b"one")[7:]
    blob.write_bytes(b"two")
    said = oci("push", f"{layout.path}:v1", f"{peer.host}/a", code=1).stderr
    assert f"wrong digest of blob '{blob}'" in said and b"two" not in peer.blobs.values()
    assert peer.seen("DELETE", "/blobs/uploads/")  # the registry need not keep what came
    blob.write_bytes(b"three")
    assert "wrong size of blob" in oci("push", f"{layout.path}:v1", f"{peer.host}/a", code=1).stderr
    blob.unlink()
    assert "missing blob" in oci("push", f"{layout.path}:v1", f"{peer.host}/a", code=1).stderr
    assert not peer.manifests


def test_foreign_layers_stay_where_they_are(oci: Any, peer: Receiver, layout: Layout) -> None:
    config = layout.put(b"{}", CONFIG)
    foreign = layout.put(
        b"foreign", "application/vnd.oci.image.layer.nondistributable.v1.tar", urls=["https://x/"]
    )
    plain = layout.put(b"plain", LAYER, urls=["https://x/"])
    found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [foreign, plain]}
    layout.tag("v1", layout.put(found, MANIFEST))
    oci("push", f"{layout.path}:v1", f"{peer.host}/a")
    assert set(peer.blobs.values()) == {b"{}", b"plain"}
    oci("push", "--allow-nondistributable", f"{layout.path}:v1", f"{peer.host}/b")
    assert b"foreign" in peer.blobs.values()


def test_a_subject_is_announced_where_the_registry_does_not(oci: Any, peer: Receiver, layout: Layout) -> None:
    subject = layout.image("v1", b"one")
    old = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 7}
    tag = subject["digest"].replace(":", "-")
    peer.index("a", tag, [old])
    layout.image("sig", b"sig", subject=subject, artifactType="x/sig", annotations={"k": "v"})
    oci("push", f"{layout.path}:sig", f"{peer.host}/a:sig")
    entries = json.loads(peer.manifests[tag].body)["manifests"]
    assert (
        entries[0] == old
        and entries[1]["artifactType"] == "x/sig"
        and entries[1]["annotations"] == {"k": "v"}
    )
    peer.manifest("a", tag, peer.manifests.pop(tag).body, INDEX)
    oci("push", f"{layout.path}:sig", f"{peer.host}/a:sig")
    assert tag not in peer.manifests  # once is enough


def test_a_list_of_referrers_that_others_change_meanwhile(oci: Any, peer: Receiver, layout: Layout) -> None:
    """A registry that knows conditions is asked again what the list is; one that always refuses is left."""
    subject = layout.image("v1", b"one")
    tag = subject["digest"].replace(":", "-")
    old = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 7}
    layout.image("sig", b"sig", subject=subject)
    asked = []

    def guard(one: Asked) -> Answer | None:
        if one.method != "PUT" or tag not in one.path:
            return peer.receive(one)
        asked.append((one.headers.get("If-None-Match"), one.headers.get("If-Match")))
        if len(asked) > 1:
            return peer.receive(one)
        made = peer.index("a", tag, [old])
        peer._answers["GET", f"/v2/a/manifests/{tag}"][-1].headers["ETag"] = made["digest"]
        return Answer(412)

    peer.guard = guard
    oci("push", f"{layout.path}:sig", f"{peer.host}/a:sig")
    entries = json.loads(peer.manifests[tag].body)["manifests"]
    assert len(entries) == 2 and entries[0] == old
    assert asked[0] == ("*", None) and asked[1][0] is None and asked[1][1]
    peer.index("a", tag, [old])
    peer.guard = lambda one: Answer(412) if one.method == "PUT" and tag in one.path else peer.receive(one)
    said = oci("push", f"{layout.path}:sig", f"{peer.host}/a:sig", code=75).stderr
    assert "others change tag" in said and said.count("\n") == 1


def test_several_tags(oci: Any, registry: Any, peer: Receiver, layout: Layout, tmp_path: Path) -> None:
    made = layout.image("v1", b"one")
    for host in (registry.host, peer.host):  # one knows how with a single request, the other does not
        words = ("push", "-t", "1.2", "--tag", "1", "-t", "v1", f"{layout.path}:v1", f"{host}/a:v1")
        assert oci(*words).stdout == f"{host}/a@{made['digest']}\n"
    assert {"v1", "1", "1.2"} <= set(peer.manifests)
    for tag in ("v1", "1", "1.2"):
        assert made["digest"] in oci("pull", f"{registry.host}/a:{tag}", f"./{tag}").stdout
    oci("push", "-t", "by-digest", f"{layout.path}:v1", f"{registry.host}/a@{made['digest']}")
    assert made["digest"] in oci("pull", f"{registry.host}/a:by-digest", "./d").stdout
    assert "not a tag" in oci("push", "-t", "no/tag", f"{layout.path}:v1", f"{registry.host}/a", code=2).stderr
    assert "for a registry" in oci("push", "-t", "x", f"{layout.path}:v1", "./there", code=2).stderr


def test_no_clobber(oci: Any, registry: Any, layout: Layout) -> None:
    made = layout.image("v1", b"one")
    layout.image("v2", b"two")
    for _ in range(2):  # the same again is fine
        oci("push", "--no-clobber", "-t", "x", f"{layout.path}:v1", f"{registry.host}/a:v1")
    for words in (("a:v1",), ("-t", "x", "a:new")):
        said = oci("push", "--no-clobber", *words[:-1], f"{layout.path}:v2", f"{registry.host}/{words[-1]}", code=1)
        assert "there is another image" in said.stderr
    assert made["digest"] in oci("pull", f"{registry.host}/a:v1", "./out").stdout
    assert "no such manifest" in oci("pull", f"{registry.host}/a:new", "./out", code=1).stderr


@pytest.mark.needs("docker-registry")
def test_delete(oci: Any, registry: Any, layout: Layout, tmp_path: Path) -> None:
    """A tag alone, also where a registry can only delete manifests; a manifest with its tags."""
    one = layout.image("v1", b"one")
    signature = layout.image("sig", b"sig", subject=one)
    with Docker(tmp_path / "docker") as docker:
        for host in (registry.host, docker.host):
            oci("push", "-t", "b", f"{layout.path}:v1", f"{host}/a:a")
            oci("push", f"{layout.path}:sig", f"{host}/a:sig")
            assert oci("push", "--delete", f"{host}/a:a").stdout == f"{host}/a:a\n"
            oci("pull", f"{host}/a:a", "./x", code=1)
            assert one["digest"] in oci("pull", f"{host}/a:b", f"./{host[-5:]}").stdout
            assert oci("push", "--delete", f"{host}/a:a", code=1).stdout == ""
            oci("push", "--delete", f"{host}/a@{signature['digest']}")
            oci("pull", "--referrers", f"{host}/a:b", f"./r{host[-5:]}")
            assert len(json.loads((tmp_path / f"r{host[-5:]}/index.json").read_text())["manifests"]) == 1
            oci("push", "--delete", f"docker://{host}/a@{one['digest']}")
            assert oci("pull", f"{host}/a:b", "./y", code=1).stdout == ""
    assert "stands alone" in oci("push", "--delete", "x.invalid/a:b", "y", code=2).stderr
    assert "missing argument" in oci("push", "./img", code=2).stderr


def test_referrers_both_ways(oci: Any, registry: Any, layout: Layout, tmp_path: Path) -> None:
    image = layout.image("v1", b"one")
    signature = layout.image("", b"sig", subject=image, artifactType="x/sig")
    layout.entries.append(signature)
    later = layout.image("", b"later", subject=signature, artifactType="x/sig")
    layout.entries.append(later)
    layout.tag("other", layout.image("", b"other"))
    oci("push", "--referrers", f"{layout.path}:v1", f"{registry.host}/a:v1")
    oci("pull", f"{registry.host}/a:v1", "./without")
    assert len(json.loads((tmp_path / "without/index.json").read_text())["manifests"]) == 1
    oci("pull", "--referrers", f"{registry.host}/a:v1", "./with")
    entries = json.loads((tmp_path / "with/index.json").read_text())["manifests"]
    assert [one["digest"] for one in entries] == [one["digest"] for one in (image, signature, later)]
    assert (tmp_path / "with/blobs/sha256" / digest(b"later")[7:]).exists()


def test_mounts_from_where_the_store_knows_it(oci: Any, tmp_path: Path, registry: Any, busybox: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/base")
    oci("pull", f"{registry.host}/base")
    layer = max((registry.dir / "base/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    done = oci("push", "--progress=plain", f"{registry.host}/base", f"{registry.host}/derived")
    assert f"{layer.name[:12]} 1.1 MB mounted" in done.stderr
    assert layer.samefile(registry.dir / "derived/blobs/sha256" / layer.name)


def test_sources(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    made = json.loads((busybox / "index.json").read_text())["manifests"][0]["digest"]
    tar = subprocess.run(["tar", "-C", busybox, "-c", "."], check=True, capture_output=True).stdout
    (tmp_path / "x.tar").write_bytes(tar)
    ends = f"@{made}\n"
    assert oci("push", "oci-archive:x.tar", f"{registry.host}/a:1").stdout.endswith(ends)
    assert oci("push", "-", f"{registry.host}/a:2", input=tar).stdout.endswith(ends)
    assert oci("push", "-", f"{registry.host}/a:3", input=f"{busybox}@{made}\n").stdout.endswith(ends)
    assert oci("push", f"{busybox}@{made}", f"docker://{registry.host}/a:4").stdout.endswith(ends)
    assert "none.tar" in oci("push", "oci-archive:none.tar", f"{registry.host}/a", code=1).stderr
    assert "nothing on standard input" in oci("push", "-", f"{registry.host}/a", code=1).stderr
    assert "no such repo" in oci("push", f"docker://{registry.host}/y:z", f"{registry.host}/a", code=1).stderr
    assert "no such image" in oci("push", "nothing", f"{registry.host}/a", code=1).stderr
    assert "invalid reference" in oci("push", f"{busybox}:latest", "UPPER/x:y:z", code=None).stderr


@pytest.mark.needs("docker-registry", "skopeo")
def test_docker_registry_and_skopeo_reads_it(oci: Any, tmp_path: Path, layout: Layout) -> None:
    made = layout.image("v1", LAYER_BYTES, b"small")
    with Docker(tmp_path / "peer") as docker:
        for words in ((), ("--chunk-size", "3000000")):
            ref = f"{docker.host}/a/b{len(words)}:v1"
            oci("push", *words, f"{layout.path}:v1", ref)
            inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{ref}"]
            done = subprocess.run(inspect, check=True, capture_output=True)
            assert digest(done.stdout) == made["digest"]
            oci("pull", ref, f"./out{len(words)}")
        layout.image("v2", LAYER_BYTES)
        done = oci(
            "push", "--progress=plain", "--mount-from", "a/b0", f"{layout.path}:v2", f"{docker.host}/c:v2"
        )
        assert "mounted" in done.stderr and " done" not in done.stderr
        oci("pull", f"{docker.host}/c:v2", "./out")


def test_sha512_both_ways(oci: Any, registry: Any, tmp_path: Path) -> None:
    """An image, an index of it and what refers to both keep their names: by digest, by tag, in the registry, and back."""
    layout = Sound(tmp_path / "img")
    image = layout.image("", LAYER_BYTES, b"x", algorithm="sha512")
    layout.tag("image", image)
    said = oci("push", f"{layout.path}@{image['digest']}", f"{registry.host}/a@{image['digest']}").stdout
    assert said == f"{registry.host}/a@{image['digest']}\n"
    assert oci("pull", said.strip(), "./one").stdout == f"{tmp_path}/one@{image['digest']}\n"
    index = layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]}, INDEX, algorithm="sha512")
    layout.tag("v1", index)
    for at, subject in enumerate((index, image)):
        config = layout.put(b"{}", "application/vnd.oci.empty.v1+json", algorithm="sha512")
        own = layout.put(b"%d" % at, "a/b", algorithm="sha512")
        found = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "config": config, "layers": [own]}
        layout.tag(f"about{at}", layout.put({**found, "subject": subject}, MANIFEST, algorithm="sha512"))
    said = oci("push", "--referrers", f"{layout.path}:v1", f"{registry.host}/a:v1").stdout
    assert said == f"{registry.host}/a@{index['digest']}\n"
    back = oci("pull", "--referrers", "--all-platforms", f"{registry.host}/a:v1", "./out").stdout
    assert back == f"{tmp_path}/out@{index['digest']}\n"
    for place in (registry.dir / "a", "./out"):
        assert oci("image", "fsck", place).stdout == ""
        assert len(oci("image", "referrers", f"{place}:v1").stdout.splitlines()) == 1
        assert len(oci("image", "referrers", f"{place}@{image['digest']}").stdout.splitlines()) == 1
    assert not list((tmp_path / "out/blobs/sha256").iterdir())


def test_a_tag_of_a_sha512_image_in_a_registry_without_tags_in_queries(oci: Any, peer: Receiver, layout: Layout) -> None:
    image = layout.image("v1", b"x", algorithm="sha512")
    oci("push", f"{layout.path}:v1", f"{peer.host}/a:v1")
    assert peer.manifests["v1"].body == peer.manifests[image["digest"]].body


# -- from one registry to another ------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        yield made


def test_between_registries(oci: Any, registry: Any, fake: Fake, tmp_path: Path) -> None:
    """All of an index goes over, byte for byte; what is there already is neither fetched nor sent; nothing stays here."""
    big = os.urandom(20 << 20)
    parts = [fake.image("app", "", [b"one", big], os="linux", architecture=arch) for arch in ("amd64", "arm64")]
    index = fake.index("app", "all", parts)
    source = f"docker://{fake.host}/app:all"
    said = oci("push", source, f"docker://{registry.host}/there:1").stdout
    assert said == f"{registry.host}/there@{index['digest']}\n"
    assert len(fake.seen("GET", "/blobs/")) == 4  # two configurations, two layers
    oci("pull", "--all-platforms", f"{registry.host}/there:1", "./img")
    fake.asked.clear()
    oci("push", source, f"{registry.host}/there:2")
    assert not fake.seen("GET", "/blobs/")
    said = oci("push", "--platform", "arm64", "-t", "x", source, f"{registry.host}/one:1").stdout
    assert said == f"{registry.host}/one@{parts[1]['digest']}\n"
    oci("pull", f"{registry.host}/one:x", "./one")
    assert not (tmp_path / "root/images").exists() and list((tmp_path / "root/cache").iterdir()) == []


def test_between_repositories_of_one_registry(oci: Any, registry: Any, layout: Layout) -> None:
    made = layout.image("v1", b"one", LAYER_BYTES)
    layout.tag("sig", layout.image("", b"sig", subject=made))
    oci("push", "--referrers", f"{layout.path}:v1", f"{registry.host}/a:v1")
    done = oci("push", "--progress=plain", "--referrers", f"docker://{registry.host}/a:v1", f"{registry.host}/b:v1")
    assert done.stderr.count("mounted") == 4 and " done" not in done.stderr  # nothing is fetched
    said = oci("push", "--format", "docker", f"docker://{registry.host}/a:v1", f"{registry.host}/c:v1").stdout
    assert made["digest"] not in said
    oci("pull", "--referrers", f"{registry.host}/b:v1", "./back")
    assert len(json.loads((layout.path.parent / "back/index.json").read_text())["manifests"]) == 2


def test_between_registries_that_fail(oci: Any, registry: Any, fake: Fake, layout: Layout) -> None:
    layer = os.urandom(3_000_000)
    fake.image("app", "1", [layer])
    path = f"/v2/app/blobs/{digest(layer)}"
    source, target = f"docker://{fake.host}/app:1", f"{registry.host}/b:1"
    fake.before("GET", path, Answer(200, {"Content-Length": str(len(layer))}, layer, cut=1_000_000))
    oci("push", *QUICK, source, target)  # a cut is gone on with
    oci("pull", target, "./out")
    other = os.urandom(len(layer))
    fake.image("app", "2", [other])
    fake.on("GET", f"/v2/app/blobs/{digest(other)}", Answer(200, {}, layer))
    said = oci("push", *QUICK, f"docker://{fake.host}/app:2", f"{registry.host}/c:1", code=1).stderr
    assert "wrong digest" in said and said.count("\n") == 1
    assert not (registry.dir / "c/.ingest").exists()
    assert "there is no such thing" in oci("push", f"docker://{fake.host}/none:1", target, code=1).stderr
    assert "oci-pull brings" in oci("push", source, "./layout", code=2).stderr
