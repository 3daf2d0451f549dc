"""oci-pull against registries that behave, and those that do not."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from oci_tools import fetch
from tests.peers import (
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    MANIFEST,
    Answer,
    Asked,
    Docker,
    Fake,
    certificate,
    digest,
)

QUICK = ("--retries", "1", "--retry-delay", "1")
LAYERS = [os.urandom(3_000_000), b"small layer", b""]


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def image(fake: Fake) -> dict[str, Any]:
    return fake.image("app", "v1", LAYERS)


def layout_of(path: Path) -> dict[str, Any]:
    """A layout's index, after every blob in it has been checked against its name."""
    for blob in path.glob("blobs/*/*"):
        assert digest(blob.read_bytes(), blob.parent.name) == f"{blob.parent.name}:{blob.name}"
    index: dict[str, Any] = json.loads((path / "index.json").read_text())
    return index


def complete(path: Path, busy: bool = False) -> dict[str, Any]:
    """A layout's index, after all that it refers to was found in it; nothing else, unless somebody is busy in it."""
    index = layout_of(path)
    todo = list(index["manifests"])
    while todo:
        found = todo.pop()
        blob = path / "blobs" / found["digest"].replace(":", "/")
        assert blob.stat().st_size == found["size"]
        if "manifest" in found["mediaType"] or "index" in found["mediaType"]:
            inner = json.loads(blob.read_text())
            todo += inner.get("manifests", []) + inner.get("layers", []) + [inner.get("config")]
            todo = [one for one in todo if one]
    assert busy or not (path / ".ingest").exists()
    return index


# -- what is pulled ------------------------------------------------------------------------


@pytest.mark.needs("docker-registry", "skopeo")
def test_from_docker_registry_and_read_by_skopeo(oci: Any, tmp_path: Path, busybox: Path) -> None:
    with Docker(tmp_path / "peer") as peer:
        source, target = f"oci:{busybox}:latest", f"docker://{peer.host}/a/b:1"
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", source, target], check=True)
        said = oci("pull", f"{peer.host}/a/b:1", "./img").stdout
    entry = complete(tmp_path / "img")["manifests"][0]
    assert said == f"{tmp_path}/img@{entry['digest']}\n"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    original = json.loads((busybox / "index.json").read_text())["manifests"][0]
    assert entry["digest"] == original["digest"]
    subprocess.run(["skopeo", "inspect", f"oci:{tmp_path}/img:1"], check=True, capture_output=True)


def test_into_the_default_store_under_the_full_name(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    said = oci("pull", f"docker://{fake.host}/app:v1").stdout
    assert said == f"{tmp_path}/root/images@{image['digest']}\n"
    entry = complete(tmp_path / "root/images")["manifests"][0]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": f"{fake.host}/app:v1"}


@pytest.mark.parametrize("target, name", [("./img", "v1"), ("./img:mine", "mine"), ("oci:img:x/y", "x/y")])
def test_names_in_a_layout(oci: Any, fake: Fake, image: Any, tmp_path: Path, target: str, name: str) -> None:
    oci("pull", f"{fake.host}/app:v1", target)
    entry = complete(tmp_path / "img")["manifests"][0]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == name


def test_what_is_there_is_not_fetched_again(oci: Any, fake: Fake, image: Any) -> None:
    oci("pull", f"{fake.host}/app:v1", "./img")
    fake.asked.clear()
    oci("pull", f"{fake.host}/app:v1", "./img")
    assert not fake.seen("GET", "/blobs/")


def test_a_tag_that_has_not_moved_costs_no_pull(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    """Registries count GET of manifests, not HEAD; of an index the image's own digest says nothing."""
    for tag in ("v1", "all"):
        if tag == "all":
            mine = fake.image("app", "", LAYERS[:1], os="linux", architecture=os.uname().machine.replace("x86_64", "amd64"))
            other = fake.image("app", "", LAYERS[1:], os="linux", architecture="s390x")
            index = fake.index("app", "all", [other, mine])
        for target in ("./img", f"./img:other-{tag}"):
            said = oci("pull", f"{fake.host}/app:{tag}", target).stdout
            fake.asked.clear()
            assert oci("pull", f"{fake.host}/app:{tag}", target).stdout == said
            assert [(one.method, one.path) for one in fake.asked if one.path != "/v2/"] == [("HEAD", f"/v2/app/manifests/{tag}")]
    names = {d["annotations"]["org.opencontainers.image.ref.name"]: d for d in layout_of(tmp_path / "img")["manifests"]}
    assert names["all"]["annotations"]["io.oci-tools.origin"] == index["digest"]
    fake.asked.clear()
    oci("pull", "--platform", "s390x", f"{fake.host}/app:all", "./img")  # another image of the same index
    oci("pull", f"{fake.host}/app:all", "./img")
    assert len(fake.seen("GET", "/manifests/all")) == 2
    blob = tmp_path / "img/blobs/sha256" / digest(LAYERS[0])[7:]
    for damage in (blob.unlink, lambda: os.truncate(blob, 1)):  # as a power cut may leave it
        damage()
        oci("pull", f"{fake.host}/app:all", "./img")
        complete(tmp_path / "img")
    moved = fake.image("app", "v1", [b"new"])
    assert moved["digest"] in oci("pull", f"{fake.host}/app:v1", "./img").stdout


def test_a_warning_of_the_registry_is_shown_once(oci: Any, fake: Fake, image: Any) -> None:
    text = '299 - "this \\"registry\\" \x1b[2J ends", 199 - "no", 299 - "and more"'
    fake.guard = lambda asked: fake._find(asked).headers.update({"Warning": text})  # type: ignore[func-returns-value]
    said = oci("pull", f"{fake.host}/app:v1", "./img").stderr
    start = f"oci-pull: warning of {fake.host}: "
    assert said == f'{start}this "registry" \\x1b[2J ends\n{start}and more\n'


def test_an_image_by_its_digest_that_is_there_needs_no_registry(oci: Any, image: Any, fake: Fake) -> None:
    word = f"{fake.host}/app@{image['digest']}"
    first = oci("pull", word).stdout
    fake.asked.clear()
    assert oci("pull", word).stdout == first
    assert oci("pull", f"nowhere.invalid/app@{image['digest']}").stdout == first
    assert not fake.asked


def test_docker_schema_2_stays_what_it_is(oci: Any, fake: Fake, tmp_path: Path) -> None:
    made = fake.image("app", "v2", [b"layer"], DOCKER_MANIFEST)
    oci("pull", f"{fake.host}/app:v2", "./img")
    assert complete(tmp_path / "img")["manifests"][0]["digest"] == made["digest"]


def test_sha512(oci: Any, fake: Fake, tmp_path: Path) -> None:
    layer, config = b"layer", b"{}"
    for blob in (layer, config):
        fake.blob("app", blob, "sha512")
    found = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/x", "digest": digest(config, "sha512"), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest(layer, "sha512"), "size": len(layer)}],
    }
    made = fake.manifest("app", "big", found, algorithm="sha512")
    assert oci("pull", f"{fake.host}/app:big", "./img").stdout == f"{tmp_path}/img@{made['digest']}\n"
    complete(tmp_path / "img")


def platforms(fake: Fake) -> dict[str, dict[str, Any]]:
    made = {
        "amd64": fake.image("multi", "", [b"amd64"], os="linux", architecture="amd64"),
        "arm64": fake.image("multi", "", [b"arm64"], os="linux", architecture="arm64", variant="v8"),
        "s390x": fake.image("multi", "", [b"s390x"], os="linux", architecture="s390x"),
    }
    inner = fake.index("multi", "", [made["s390x"]])
    made["index"] = fake.index(
        "multi", "latest", [made["amd64"], made["arm64"], inner], annotations={"a": "b"}
    )
    return made


def test_one_platform_of_an_index(oci: Any, fake: Fake, tmp_path: Path) -> None:
    made = platforms(fake)
    host = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert oci("pull", f"{fake.host}/multi", "./host").stdout.endswith(f"@{made[host]['digest']}\n")
    for name in ("arm64", "linux/s390x"):
        word = made[name.rpartition("/")[2]]["digest"]
        assert oci("pull", "--platform", name, f"{fake.host}/multi", "./img").stdout.endswith(f"@{word}\n")
    assert len(complete(tmp_path / "host")["manifests"]) == 1
    complete(tmp_path / "img")
    said = oci("pull", "--platform", "linux/riscv64", f"{fake.host}/multi", "./img", code=1).stderr
    assert "no image for 'linux/riscv64'" in said and "linux/arm64/v8" in said


def test_several_platforms_make_a_stripped_index(oci: Any, fake: Fake, tmp_path: Path) -> None:
    made = platforms(fake)
    words = ("--platform", "s390x", "--platform", "amd64")
    said = oci("pull", *words, f"{fake.host}/multi", "./img").stdout
    entry = complete(tmp_path / "img")["manifests"][0]
    assert said.endswith(f"@{entry['digest']}\n") and entry["digest"] != made["index"]["digest"]
    index = json.loads((tmp_path / "img/blobs" / entry["digest"].replace(":", "/")).read_text())
    assert [one["digest"] for one in index["manifests"]] == [made["amd64"]["digest"], made["s390x"]["digest"]]
    assert index["annotations"] == {"a": "b"}


def test_all_platforms_keep_the_index_and_what_we_do_not_know(oci: Any, fake: Fake, tmp_path: Path) -> None:
    made = platforms(fake)
    odd = fake.manifest("multi", "", b"not json at all", "application/x-odd")
    top = fake.index("multi", "all", [made["index"], odd])
    said = oci("pull", "--all-platforms", f"{fake.host}/multi:all", "./img").stdout
    assert said.endswith(f"@{top['digest']}\n")
    complete(tmp_path / "img")
    for one in made.values():
        assert (tmp_path / "img/blobs" / one["digest"].replace(":", "/")).exists()
    oci("pull", "--all-platforms", "--platform", "amd64", f"{fake.host}/multi", code=2)


def test_an_index_that_contains_itself_or_is_too_deep(oci: Any, fake: Fake) -> None:
    made = fake.image("deep", "", [b"x"], os="linux", architecture="riscv64")
    for _ in range(20):
        made = fake.index("deep", "top", [made])
    for more in ((), ("--all-platforms",)):
        assert "nested too deeply" in oci("pull", *more, f"{fake.host}/deep:top", "./img", code=1).stderr


def test_as_an_archive(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    done = oci("pull", f"{fake.host}/app:v1", "-", binary=True)
    (tmp_path / "x.tar").write_bytes(done.stdout)
    names = (
        subprocess.run(["tar", "-t"], input=done.stdout, check=True, capture_output=True)
        .stdout.decode()
        .split()
    )
    assert {"oci-layout", "index.json", f"blobs/{image['digest'].replace(':', '/')}"} <= set(names)
    assert not list((tmp_path / "root").iterdir())


def test_an_archive_that_is_cut_is_gone_on_with(oci: Any, fake: Fake, image: Any) -> None:
    whole = oci("pull", f"{fake.host}/app:v1", "-", binary=True).stdout
    path = fake.blob("app", LAYERS[0])
    for ranges in (True, False):
        cut = Answer(200, {"Content-Length": str(len(LAYERS[0]))}, LAYERS[0], cut=1_234_567)
        fake.on("GET", path, cut, Answer(200, {}, LAYERS[0], ranges=ranges))
        assert oci("pull", *QUICK, f"{fake.host}/app:v1", "-", binary=True).stdout == whole


def test_all_tags_and_lists(oci: Any, fake: Fake, tmp_path: Path) -> None:
    for tag in ("1.0", "1.1", "2.0", "2.0-rc"):
        fake.image("app", tag, [tag.encode()])
    pages = [{"tags": ["1.0", "1.1"]}, {"tags": ["2.0", "2.0-rc"]}, {"tags": None}]
    for number, page in enumerate(pages):
        link = {"Link": f'</v2/app/tags/list?n=2&p={number + 1}>; rel="next"'} if number < 2 else {}
        path = f"/v2/app/tags/list?n=2&p={number}" if number else "/v2/app/tags/list"
        fake.on("GET", path, Answer(200, link, json.dumps(page).encode()))
    words = ("--all-tags", "--match", r"\d.*", "--exclude", ".*-rc", f"{fake.host}/app")
    said = oci("pull", "--dry-run", *words).stdout.split()
    assert said == [f"{fake.host}/app:{tag}" for tag in ("1.0", "1.1", "2.0")]
    assert len(oci("pull", *words, "./img").stdout.split()) == 3
    assert len(complete(tmp_path / "img")["manifests"]) == 3
    done = oci(
        "pull", "-", input=f"{fake.host}/app:1.0\n\n{fake.host}/app:none\n{fake.host}/app:2.0\n", code=1
    )
    assert len(done.stdout.split()) == 2
    assert done.stderr.splitlines() == [
        f"oci-pull: cannot fetch '{fake.host}/app:none': there is no such thing",
        "oci-pull: 1 of 3 were not pulled",
    ]
    oci("pull", *QUICK, "-", input="127.0.0.1:1/a\n", code=75)


@pytest.mark.parametrize("target", ["./img", None])
def test_a_repository_that_changes_is_followed(oci: Any, fake: Fake, tmp_path: Path, target: str | None) -> None:
    """--no-clobber asks for nothing that has its name; --prune takes names away, only those that are meant."""

    def tags(*named: str) -> None:
        for tag in named:
            fake.image("app", tag, [f"{tag}{fake.asked}".encode()])
        fake.on("GET", "/v2/app/tags/list", Answer(200, {}, json.dumps({"tags": named}).encode()))

    def names() -> list[str]:
        index = layout_of(tmp_path / "img" if target else tmp_path / "root/images")
        notes = [entry["annotations"] for entry in index["manifests"]]
        return sorted(n["org.opencontainers.image.ref.name"].rpartition(":")[2] for n in notes if "io.oci-tools.untagged" not in n)

    words = ("--all-tags", f"{fake.host}/app", *([target] if target else []))
    fake.image("other", "v1", [b"other"])
    oci("pull", f"{fake.host}/other:v1", *(["./img:kept"] if target else []))
    tags("v1", "v2", "x1")
    oci("pull", *words)
    fake.asked.clear()
    tags("v2", "v3")
    said = oci("pull", "--no-clobber", "--prune", "--exclude", "x.*|kept", "-n", *words)
    assert said.stdout == f"{fake.host}/app:v3\n" and "would take the name" in said.stderr and "v1'" in said.stderr
    oci("pull", "--no-clobber", "--prune", "--exclude", "x.*|kept", *words)
    assert names() == sorted(["v2", "v3", "x1", "kept" if target else "v1"]) and not fake.seen("GET", "/manifests/v2")
    fake.on("GET", "/v2/app/manifests/v2", Answer(404))
    tags()
    fake.on("GET", "/v2/app/tags/list", Answer(200, {}, b'{"tags":["v2"]}'))
    fake.image("app", "v2", [b"moved"])
    fake.on("GET", "/v2/app/manifests/v2", Answer(500))
    oci("pull", *QUICK, "--prune", *words, code=75)  # what could not be pulled all is not judged by
    assert "v3" in names()
    assert "is for --all-tags" in oci("pull", "--prune", f"{fake.host}/app", code=2).stderr


def test_pages_that_go_round_in_circles(oci: Any, fake: Fake) -> None:
    link = {"Link": '</v2/app/tags/list>; rel="next"'}
    fake.on("GET", "/v2/app/tags/list", Answer(200, link, b'{"tags":["a", 5]}'))
    assert oci("pull", "--dry-run", "--all-tags", f"{fake.host}/app").stdout == f"{fake.host}/app:a\n"
    fake.on("GET", "/v2/app/tags/list", Answer(200, {}, b"[]"))
    assert "not an object" in oci("pull", "--all-tags", f"{fake.host}/app", code=1).stderr


# -- cuts --------------------------------------------------------------------------------


def cut(data: bytes, at: int, **more: Any) -> Answer:
    return Answer(200, {"Content-Length": str(len(data))}, data, cut=at, **more)


def test_a_cut_blob_is_gone_on_with(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.before("GET", path, cut(LAYERS[0], 1_000_001), cut(LAYERS[0], 0))
    oci("pull", "--retries", "3", "--retry-delay", "1", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    spans = [one.headers.get("Range") for one in fake.seen("GET", path)]
    assert spans == [None, "bytes=1000001-", "bytes=1000001-"]


def test_a_blob_that_is_always_cut_is_75_and_a_later_run_goes_on(
    oci: Any, fake: Fake, image: Any, tmp_path: Path
) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.on("GET", path, cut(LAYERS[0], 2_000_000), Answer(503))
    said = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=75).stderr
    assert said.startswith("oci-pull: cannot fetch blob 'sha256:") and said.count("\n") == 1
    assert layout_of(tmp_path / "img")["manifests"] == []
    fake.blob("app", LAYERS[0])
    fake.asked.clear()
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    assert [one.headers.get("Range") for one in fake.seen("GET", path)] == ["bytes=2000000-"]


def test_a_registry_without_ranges_sends_all_again(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.on("GET", path, cut(LAYERS[0], 2_000_000), Answer(200, {}, LAYERS[0], ranges=False))
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")


def test_a_range_that_is_not_the_one_asked_for(oci: Any, fake: Fake, image: Any) -> None:
    wrong = Answer(206, {"Content-Range": "bytes 0-9/3000000"}, b"0123456789")
    fake.on("GET", fake.blob("app", LAYERS[0]), cut(LAYERS[0], 2_000_000), wrong)
    assert "asked from 2000000 on" in oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=1).stderr


def test_a_beginning_that_turns_out_wrong_is_thrown_away(
    oci: Any, fake: Fake, image: Any, tmp_path: Path
) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.on("GET", path, cut(LAYERS[0], 2_000_000), Answer(503))
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=75)
    (partial,) = (tmp_path / "img/.ingest").iterdir()
    partial.write_bytes(b"x" * 2_000_000)
    fake.blob("app", LAYERS[0])
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")


def test_kill_9_leaves_a_valid_layout_and_the_next_run_goes_on(
    oci: Any, fake: Fake, image: Any, tmp_path: Path
) -> None:
    never = threading.Event()
    path = fake.blob("app", LAYERS[0])
    fake.before("GET", path, cut(LAYERS[0], 2_500_000, wait=never))
    read, write = os.pipe()
    process = oci.start("pull", "--status-fd", str(write), f"{fake.host}/app:v1", "./img", pass_fds=(write,))
    os.close(write)
    with open(read) as told:
        for line in told:
            said = json.loads(line)
            if said["id"] == digest(LAYERS[0]) and said["current"] >= 1 << 20:
                break
    process.send_signal(signal.SIGKILL)
    process.wait()
    never.set()
    assert layout_of(tmp_path / "img")["manifests"] == []
    oci("pull", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    start = int(fake.seen("GET", path)[-1].headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert start >= 1 << 20


# -- content that is not what was promised ---------------------------------------------------


@pytest.mark.parametrize(
    "body, words",
    [
        (LAYERS[0][:-1] + bytes([LAYERS[0][-1] ^ 1]), "wrong digest of blob"),
        (LAYERS[0] + b"x", "wrong size of blob"),
        (LAYERS[0][:-1], "wrong size of blob"),
        (b"", "wrong size of blob"),
    ],
)
@pytest.mark.parametrize("length", [True, False])
def test_a_wrong_blob(
    oci: Any, fake: Fake, image: Any, tmp_path: Path, body: bytes, words: str, length: bool
) -> None:
    path = fake.blob("app", LAYERS[0])
    if length:
        fake.on("GET", path, Answer(200, {}, body))
    else:
        chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        fake.on("GET", path, Answer(raw=head + chunk + b"0\r\n\r\n"))
        if len(body) < len(LAYERS[0]):
            words = "it ends too early"
    code = 75 if words == "it ends too early" else 1
    said = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=code).stderr
    assert words in said and said.count("\n") == 1
    if code == 1:
        assert not (tmp_path / "img").exists()
        fake.image("other", "v1", [b"other"])
        oci("pull", f"{fake.host}/other:v1", "./img")
        oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=1)
        assert len(complete(tmp_path / "img")["manifests"]) == 1
    elif (tmp_path / "img").exists():  # only where something had come with which a later run can go on
        assert layout_of(tmp_path / "img")["manifests"] == []


def test_a_body_without_an_end_is_read_to_its_size_only(oci: Any, fake: Fake, image: Any) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.on("GET", path, Answer(200, {"Content-Length": str(1 << 50)}, LAYERS[0], cut=0))
    assert "wrong size of blob" in oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=1).stderr


GOOD = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": []}


@pytest.mark.parametrize(
    "body, headers, words",
    [
        (b"<html>", {"Content-Type": "text/html"}, "not valid json"),
        (b"[]", {"Content-Type": MANIFEST}, "not an object"),
        (
            b"{}",
            {"Content-Type": "application/vnd.strange+json"},
            "unknown type 'application/vnd.strange+json'",
        ),
        (b'{"schemaVersion":1}', {}, "docker schema 1"),
        (b'{"schemaVersion":1,"fsLayers":[],"history":[]}', {}, "it is no docker schema 1"),
        (b'{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}],"history":[{"v1Compatibility":"{}"}]}', {}, "it is no docker schema 1"),
        (b'{"schemaVersion":1,"fsLayers":[5],"history":[{"v1Compatibility":"{}"}]}', {}, "it is no docker schema 1"),
        (b'{"schemaVersion":1,"fsLayers":null,"signatures":[{"protected":"e30"}]}', {}, "its signatures are not docker's"),
        (b'{"schemaVersion":1,"fsLayers":null,"signatures":[{"protected":5}]}', {}, "its signatures are not docker's"),
        (b'{"schemaVersion":1,"fsLayers":null,"signatures":"no"}', {}, "its signatures are not docker's"),
        (json.dumps(GOOD).encode(), {"Content-Type": INDEX}, f"its type is '{MANIFEST}', not '{INDEX}'"),
        (json.dumps(GOOD).encode(), {"Content-Type": MANIFEST}, "config: not a digest"),
        (
            json.dumps({**GOOD, "config": {"digest": "sha256:" + "0" * 64, "size": -1}}).encode(),
            {"Content-Type": MANIFEST},
            "its size is -1",
        ),
        (b'{"layers":[],"layers":[]}', {"Content-Type": MANIFEST}, "twice"),
        (b"{}", {"Docker-Content-Digest": "sha256:" + "0" * 64}, "wrong digest of manifest"),
        (b"[" * 100_000, {"Content-Type": MANIFEST}, "nested too deeply"),
        (b" " * (17 << 20), {"Content-Type": MANIFEST}, "larger than"),
    ],
)
def test_a_manifest_that_is_none(
    oci: Any, fake: Fake, tmp_path: Path, body: bytes, headers: dict[str, str], words: str
) -> None:
    fake.on("GET", "/v2/app/manifests/v1", Answer(200, headers, body))
    said = oci("pull", f"{fake.host}/app:v1", "./img", code=1).stderr
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "img/blobs/sha256").exists() or not list((tmp_path / "img/blobs/sha256").iterdir())


def test_a_manifest_other_than_its_digest(oci: Any, fake: Fake, image: Any) -> None:
    wrong = "sha256:" + "0" * 64
    said = Answer(200, {"Content-Type": MANIFEST, "Docker-Content-Digest": wrong}, b"{}")
    fake.on("GET", f"/v2/app/manifests/{wrong}", said)
    assert "wrong digest of manifest" in oci("pull", f"{fake.host}/app@{wrong}", code=1).stderr


@pytest.mark.parametrize("key, value", [("size", 5), ("mediaType", DOCKER_MANIFEST)])
def test_an_entry_of_an_index_that_lies(oci: Any, fake: Fake, image: Any, key: str, value: Any) -> None:
    entry = {**image, "platform": {"os": "linux", "architecture": "amd64"}, key: value}
    fake.index("app", "lie", [entry])
    for more in (("--platform", "amd64"), ("--all-platforms",)):
        assert "manifest" in oci("pull", *more, f"{fake.host}/app:lie", code=1).stderr


# -- answers that are errors -----------------------------------------------------------------


def test_what_is_not_there(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    for name in ("app:nothing", "nothing"):
        said = oci("pull", f"{fake.host}/{name}", "./img", code=1).stderr
        assert said.startswith(f"oci-pull: cannot fetch '{fake.host}/{name}")
        assert said.endswith(": there is no such thing\n")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
def test_a_registry_that_is_down(oci: Any, tmp_path: Path, host: str) -> None:
    said = oci("pull", f"{host}/app", "./img", code=75).stderr
    assert said.startswith(f"oci-pull: cannot reach '{host}': ") and said.count("\n") == 1


def test_retries_end(oci: Any, fake: Fake, image: Any) -> None:
    fake.on("GET", "/v2/app/manifests/v1", Answer(503, {}, b"<html>oops</html>"))
    said = oci("pull", *QUICK, f"{fake.host}/app:v1", code=75).stderr
    assert said == f"oci-pull: cannot fetch '{fake.host}/app:v1': {fake.host} answers 503\n"
    assert len(fake.seen("GET", "manifests")) == 2


def test_a_busy_registry_is_asked_again_when_it_says(
    oci: Any, fake: Fake, image: Any, tmp_path: Path
) -> None:
    fake.before("GET", "/v2/app/manifests/v1", Answer(429, {"Retry-After": "0"}), Answer(500))
    fake.before(
        "GET", fake.blob("app", LAYERS[0]), Answer(429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"})
    )
    oci("pull", "--retry-delay", "1", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    fake.on("GET", "/v2/app/manifests/v1", Answer(429, {"Retry-After": "100000"}))
    said = oci("pull", f"{fake.host}/app:v1", "./other", code=75).stderr
    assert "it asks to wait 100000 seconds" in said


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01\x02 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Type: \x1b[31m\r\n\r\n{"a":"\x1b[2J"}',
        b"HTTP/1.1 999 \x1b[2J\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_answers_that_are_no_http(oci: Any, fake: Fake, raw: bytes) -> None:
    fake.on("GET", "/v2/app/manifests/v1", Answer(raw=raw))
    done = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=None)
    assert done.returncode in (1, 75), done.stderr
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


# -- redirects -------------------------------------------------------------------------------


def test_a_redirect_to_another_host_carries_no_credentials(oci: Any, fake: Fake, tmp_path: Path) -> None:
    secret = "Basic " + base64.b64encode(b"me:secret").decode()
    auth_file(tmp_path, fake.host)
    with Fake() as store:
        store.guard = lambda asked: Answer(400) if "Authorization" in asked.headers else None
        fake.image("app", "v1", LAYERS)
        path = fake.blob("app", LAYERS[0])
        store.on("GET", "/elsewhere", Answer(200, {}, LAYERS[0]))
        fake.on("GET", path, Answer(307, {"Location": f"{store.url}/elsewhere"}))
        fake.guard = demand(secret, 'Basic realm="x"')
        oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
        complete(tmp_path / "img")
        assert store.seen("GET", "/elsewhere")


def test_a_redirect_within_the_host_keeps_them(oci: Any, fake: Fake, tmp_path: Path) -> None:
    auth_file(tmp_path, fake.host)
    fake.image("app", "v1", LAYERS)
    fake.on("GET", "/moved", Answer(200, {}, LAYERS[0]))
    fake.on("GET", fake.blob("app", LAYERS[0]), Answer(302, {"Location": "/moved"}))
    fake.guard = demand("Basic " + base64.b64encode(b"me:secret").decode(), 'Basic realm="x"')
    oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")


@pytest.mark.parametrize(
    "target, words",
    [
        ("{path}", "more than 10 redirects"),
        ("file:///etc/passwd", "cannot follow redirect"),
        ("gopher://127.0.0.1/", "cannot follow redirect"),
        ("http://127.0.0.1:1/x", "cannot reach '127.0.0.1:1'"),
        ("http://[::1", "cannot f"),
        ("http://user:pw@", "cannot f"),
    ],
)
def test_redirects_that_lead_nowhere(oci: Any, fake: Fake, image: Any, target: str, words: str) -> None:
    path = fake.blob("app", LAYERS[0])
    fake.on("GET", path, Answer(307, {"Location": target.format(path=path)}))
    done = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=None)
    assert done.returncode in (1, 75) and words in done.stderr and done.stderr.count("\n") == 1


# -- credentials -------------------------------------------------------------------------------


def auth_file(directory: Path, host: str, user: str = "me:secret", **more: str) -> None:
    entry = {"auth": base64.b64encode(user.encode()).decode(), **more}
    (directory / "auth.json").write_text(json.dumps({"auths": {host: entry}}))


def demand(wanted: str, challenge: str) -> Any:
    def guard(asked: Asked) -> Answer | None:
        if asked.path.startswith("/token") or asked.headers.get("Authorization") == wanted:
            return None
        error = b'{"errors":[{"code":"UNAUTHORIZED","message":"Authentication required."}]}'
        return Answer(401, {"WWW-Authenticate": challenge, "Content-Type": "application/json"}, error)

    return guard


def test_without_credentials(oci: Any, fake: Fake, image: Any) -> None:
    fake.guard = demand("never", 'Basic realm="x"')
    said = oci("pull", f"{fake.host}/app:v1", code=1).stderr
    assert said.endswith(f": authentication required (log in with oci-pull --login {fake.host})\n")


def test_wrong_credentials(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    auth_file(tmp_path, fake.host)
    fake.guard = demand("never", 'Basic realm="x"')
    said = oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", code=1).stderr
    assert "authentication required" in said and "secret" not in said


def tokens(fake: Fake, **more: Any) -> None:
    fake.on("GET", "/token", Answer(200, {}, json.dumps({"token": "t0k3n", **more}).encode()))
    challenge = f'Bearer realm="{fake.url}/token?x=y",service="srv",scope="repository:app:pull"'
    fake.guard = demand("Bearer t0k3n", challenge)


def test_a_bearer_token_is_asked_for_once(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    tokens(fake)
    auth_file(tmp_path, fake.host)
    oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
    (asked,) = fake.seen("GET", "/token")
    assert asked.path == "/token?x=y&service=srv&scope=repository%3Aapp%3Apull&account=me"
    assert asked.headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_an_anonymous_token(oci: Any, fake: Fake, image: Any) -> None:
    tokens(fake, expires_in=300)
    oci("pull", f"{fake.host}/app:v1", "./img")
    (asked,) = fake.seen("GET", "/token")
    assert "Authorization" not in asked.headers and "account" not in asked.path


def test_an_identity_token(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    tokens(fake)
    fake.on("POST", "/token", Answer(200, {}, b'{"access_token":"t0k3n"}'))
    auth_file(tmp_path, fake.host, "x:", identitytoken="id3nt")
    oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
    (asked,) = fake.seen("POST", "/token")
    assert b"grant_type=refresh_token&refresh_token=id3nt" in asked.body


def test_a_token_that_ends_is_replaced(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    tokens(fake)
    fake.on("GET", "/token", Answer(200, {}, b'{"token":"t0k3n"}'), Answer(200, {}, b'{"token":"n3w"}'))
    old, new = fake.guard, demand("Bearer n3w", f'Bearer realm="{fake.url}/token"')
    fake.guard = lambda asked: new(asked) if "/blobs/" in asked.path else old(asked)
    oci("pull", "--jobs", "1", f"{fake.host}/app:v1", "./img")
    assert len(fake.seen("GET", "/token")) == 2
    complete(tmp_path / "img")


@pytest.mark.parametrize(
    "answer, words, code",
    [
        (Answer(401), "name or password is not accepted", 1),
        (Answer(500), "answers 500", 75),
        (Answer(200, {}, b"{}"), "sends none", 1),
        (Answer(200, {}, b"nonsense"), "not valid json", 1),
        (Answer(200, {}, b'{"token":"a\\r\\nX: y"}'), "sends none", 1),
        (Answer(200, {}, b" " * (2 << 20)), "larger than", 1),
    ],
)
def test_token_services_that_fail(
    oci: Any, fake: Fake, image: Any, answer: Answer, words: str, code: int
) -> None:
    tokens(fake)
    fake.on("GET", "/token", answer)
    assert words in oci("pull", *QUICK, f"{fake.host}/app:v1", code=code).stderr


@pytest.mark.parametrize("realm", ["http://192.0.2.1/token", "file:///etc/passwd", "", "//x"])
def test_a_realm_that_is_not_safe_is_told_nothing(
    oci: Any, fake: Fake, image: Any, tmp_path: Path, realm: str
) -> None:
    auth_file(tmp_path, fake.host)
    fake.guard = demand("never", f'Bearer realm="{realm}"')
    said = oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", code=1).stderr
    assert "is not https" in said


def test_credentials_from_a_descriptor(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    fake.guard = demand("Basic " + base64.b64encode(b"me:secret").decode(), 'Basic realm="x"')
    for text in ({"username": "me", "password": "secret"}, {"auths": {fake.host: {"auth": "bWU6c2VjcmV0"}}}):
        read, write = os.pipe()
        os.write(write, json.dumps(text).encode())
        os.close(write)
        oci("pull", "--auth-fd", str(read), f"{fake.host}/app:v1", "./img", pass_fds=(read,))
        os.close(read)


@pytest.mark.needs("docker-registry")
def test_a_real_registry_with_passwords(oci: Any, tmp_path: Path, busybox: Path) -> None:
    import bcrypt

    hashed = bcrypt.hashpw(b"pw", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"me:{hashed}\n")
    basic = {"htpasswd": {"realm": "x", "path": str(tmp_path / "htpasswd")}}
    with Docker(tmp_path / "peer", auth=basic) as peer:
        assert "log in" in oci("push", f"{busybox}:latest", f"{peer.host}/bb", code=1).stderr
        login = ("pull", "--login", peer.host, "--username", "me")
        assert "cannot log in" in oci(*login, input="wrong\n", code=1).stderr
        where = oci(*login, input="pw\n").stdout.strip()
        assert where == f"{tmp_path}/home/.config/containers/auth.json"
        assert os.stat(where).st_mode & 0o777 == 0o600
        oci("push", f"{busybox}:latest", f"{peer.host}/bb")
        oci("pull", f"{peer.host}/bb", "./img")
        oci("pull", "--logout", peer.host)
        oci("pull", f"{peer.host}/bb", "./img", code=1)


# -- tls, mirrors ------------------------------------------------------------------------------


@pytest.mark.needs("openssl")
def test_tls(oci: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with Fake((cert, key)) as fake:
        fake.image("app", "v1", [b"layer"])
        word = f"{fake.host}/app:v1"
        said = oci("pull", word, "./img", code=1).stderr
        assert said.startswith(f"oci-pull: cannot trust '{fake.host}': self-signed certificate")
        oci("pull", "--tls-verify=false", word, "./img")
        oci("pull", word, "./img", env={"SSL_CERT_FILE": str(cert)})
        (tmp_path / "certs").mkdir()
        (tmp_path / "certs/ca.crt").write_bytes(cert.read_bytes())
        oci("pull", "--cert-dir", "certs", word, "./img")
        place = tmp_path / "home/.config/containers/certs.d" / fake.host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(cert.read_bytes())
        oci("pull", word, "./img")


def test_threads_share_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a session of its own, one of them would not have had the certificates of the host."""
    made: list[int] = []
    again = threading.Event()

    def session(connections: int) -> Any:
        made.append(connections)
        again.wait(0.1)  # the others come now
        return requests.Session()

    monkeypatch.setattr(fetch.lean, "session", session)
    with fetch.Client() as client:
        threads = [threading.Thread(target=client._prepared, args=("https://r.example/v2/",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert f"{fetch.origin('https://r.example/')}/" in client._session.adapters


def test_mirrors(oci: Any, fake: Fake, image: Any, tmp_path: Path) -> None:
    conf = tmp_path / "home/.config/containers/registries.conf"
    conf.parent.mkdir(parents=True)
    mirrors = "".join(
        f'[[registry.mirror]]\nlocation = "{place}"\n' for place in ("127.0.0.1:1/x", f"{fake.host}/m")
    )
    conf.write_text(f'[[registry]]\nlocation = "{fake.host}"\n{mirrors}')
    fake.image("m/app", "v2", [b"mirrored"])
    oci("pull", f"{fake.host}/app:v2", "./img")
    assert not fake.seen("GET", "/v2/app/")
    oci("pull", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")


def test_a_layer_that_lies_elsewhere(oci: Any, fake: Fake, tmp_path: Path) -> None:
    layer = b"foreign"
    with Fake() as store:
        store.on("GET", "/layer", Answer(200, {}, layer))
        fake.image("app", "v1", [layer])
        config = b"{}"
        fake.blob("app", config)
        foreign = {
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": digest(layer), "size": len(layer), "urls": ["ftp://x/", f"{store.url}/none", f"{store.url}/layer"],
        }  # fmt: skip
        found = {"config": {"mediaType": "x/y", "digest": digest(config), "size": 2}, "layers": [foreign]}
        fake.manifest("app", "foreign", {"schemaVersion": 2, "mediaType": MANIFEST, **found})
        fake.on("GET", fake.blob("app", layer), Answer(404))
        oci("pull", f"{fake.host}/app:foreign", "./img")
    complete(tmp_path / "img")


# -- disks ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk(oci: Any, fake: Fake, image: Any, small_disk: Path) -> None:
    said = oci("pull", f"{fake.host}/app:v1", f"{small_disk}/img", code=1).stderr
    assert said.endswith(": no space left on device\n") and said.count("\n") == 1
    assert not list(small_disk.iterdir())


def test_a_full_disk_under_an_archive(oci: Any, fake: Fake, image: Any) -> None:
    with open("/dev/full", "wb") as full:
        said = oci("pull", f"{fake.host}/app:v1", "-", stdout=full, code=1).stderr
    assert said == "oci-pull: cannot write standard output: no space left on device\n"


@pytest.mark.root
def test_a_read_only_layout(oci: Any, fake: Fake, image: Any, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    said = oci("pull", f"{fake.host}/app:v1", f"{small_disk}/img", code=1).stderr
    assert "read-only file system" in said and said.count("\n") == 1


# -- progress --------------------------------------------------------------------------------------


def test_progress_for_machines_and_logs(oci: Any, fake: Fake, image: Any) -> None:
    read, write = os.pipe()
    done = oci(
        "pull",
        "--status-fd",
        str(write),
        "--progress=plain",
        f"{fake.host}/app:v1",
        "./img",
        pass_fds=(write,),
    )
    os.close(write)
    with open(read) as told:
        said = [json.loads(line) for line in told]
    ends = {line["id"]: line for line in said}
    assert ends[digest(LAYERS[0])] == {
        "op": "pull", "id": digest(LAYERS[0]), "state": "done", "current": 3_000_000, "total": 3_000_000
    }  # fmt: skip
    assert f"sha256:{digest(LAYERS[0])[7:19]} 3.0 MB done\n" in done.stderr
    assert oci("pull", f"{fake.host}/app:v1", "./img2").stderr == ""


def test_pulls_that_are_left(oci: Any, fake: Fake, image: Any) -> None:
    for headers, said, left in (
        ({"RateLimit-Remaining": "76;w=21600", "RateLimit-Limit": "100;w=21600"}, "76 of 100 pulls left", [76, 100]),
        ({"RateLimit-Remaining": "3"}, "3 pulls left", [3, 0]),
        ({"RateLimit-Remaining": "many\x1b[2J"}, "", []),
        ({"RateLimit-Remaining": "9" * 5000}, "", []),
    ):
        found = fake._answers["GET", "/v2/app/manifests/v1"][-1]
        fake.on("GET", "/v2/app/manifests/v1", Answer(200, {**found.headers, "RateLimit-Remaining": "", "RateLimit-Limit": "", **headers}, found.body))
        read, write = os.pipe()
        words = ("--progress=plain", "--status-fd", str(write), f"{fake.host}/app:v1", f"./img{len(headers)}{len(said)}")
        done = oci("pull", *words, pass_fds=(write,))
        os.close(write)
        with open(read) as told:
            lines = [json.loads(line) for line in told]
        assert (f"{fake.host}: {said}\n" in done.stderr) == bool(said)
        limits = [line for line in lines if line["state"] == "limit"]
        assert [[line["id"], line["op"], line["current"], line["total"]] for line in limits] == ([[fake.host, "pull", *left]] if left else [])
        assert "\x1b" not in done.stderr
    assert oci("pull", f"{fake.host}/app:v1", "./img").stderr == ""


def test_whether_a_base_is_the_newest(oci: Any, fake: Fake, tmp_path: Path) -> None:
    from tests.registry.test_push import Sound

    old = fake.image("base", "1", [b"base"], os="linux", architecture="amd64")
    new = fake.image("base", "1", [b"newer"], os="linux", architecture="amd64")
    index = fake.index("base", "all", [fake.image("base", "", [b"s390x"], os="linux", architecture="s390x"), new])
    layout, name, said = Sound(tmp_path / "img"), "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
    for tag, at, digest_then, now in (
        ("same", "1", new["digest"], new["digest"]),
        ("other", "1", old["digest"], new["digest"]),
        ("index", "all", index["digest"], index["digest"]),
        ("within", "all", new["digest"], new["digest"]),  # the image that the index has for the platform
        ("moved", "all", old["digest"], index["digest"]),
    ):
        layout.image(tag, b"mine", annotations={name: f"{fake.host}/base:{at}", said: digest_then})
        done = oci("pull", "--check-base", f"./img:{tag}", code=0 if now == digest_then else 1)
        assert done.stdout == f"{fake.host}/base:{at}\t{digest_then}\t{now}\n" and done.stderr == ""
    layout.image("none", b"mine")
    assert "no base is said by" in oci("pull", "--check-base", "./img:none", code=1).stderr
    layout.image("gone", b"mine", annotations={name: f"{fake.host}/base:gone", said: old["digest"]})
    assert "there is no such thing" in oci("pull", "--check-base", "./img:gone", code=1).stderr
