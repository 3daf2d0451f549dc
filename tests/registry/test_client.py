"""What clients of others do with registries that differ, and their files with credentials, mirrors and policies."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.image import shortnames
from oci_tools.image.ref import Ref
from oci_tools.registry import hosts
from oci_tools.registry.auth import merged
from oci_tools.registry.policy import Policy
from tests.peers import INDEX, Answer, Fake, digest
from tests.registry.test_pull import auth_file, demand, tokens
from tests.registry.test_push import Layout, Receiver

HEX = "sha256:" + "0" * 64


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        yield made


# -- registries ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain"])
def test_a_page_for_people_is_no_list_of_referrers(oci: Any, fake: Fake, kind: str) -> None:
    """Then there is no such API, and the list is where old registries keep it."""
    image = fake.image("app", "v1", [b"layer"])
    note = fake.image("app", "", [b"note"], subject=image)
    fake.index("app", image["digest"].replace(":", "-"), [note])
    fake.on("GET", f"/v2/app/referrers/{image['digest']}", Answer(200, {"Content-Type": kind}, b"<html>"))
    for name in (image["digest"], note["digest"]):
        for end in ("sig", "att", "sbom"):
            fake.on("HEAD", f"/v2/app/manifests/{name.replace(':', '-')}.{end}", Answer(404))
    oci("pull", "--referrers", f"{fake.host}/app:v1", "./img")
    assert note["digest"] in oci("image", "ls", "./img").stdout


def test_what_is_listed_as_a_referrer_and_is_none_stays(oci: Any, fake: Fake) -> None:
    image = fake.image("app", "v1", [b"layer"])
    refers = fake.image("app", "", [b"note"], subject=image)
    of_another = fake.image("app", "", [b"other"], subject={**image, "digest": HEX})
    of_none = fake.image("app", "", [b"none"])
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [of_another, refers, of_none]}
    path = f"/v2/app/referrers/{image['digest']}"
    fake.on("GET", path, Answer(200, {"Content-Type": INDEX}, json.dumps(listed).encode()))
    said = oci("pull", "--referrers", f"{fake.host}/app:v1", "./img").stderr
    names = oci("image", "ls", "./img").stdout
    assert refers["digest"] in names and of_another["digest"] not in names and of_none["digest"] not in names
    for one in (of_another, of_none):
        assert f"warning of {fake.host}: '{one['digest']}' does not refer to '{image['digest']}', as is said" in said
    assert said.count("\n") == 2


def test_a_next_page_at_another_host_is_not_fetched(oci: Any, fake: Fake) -> None:
    with Fake() as other:
        link = {"Link": f'<{other.url}/v2/app/tags/list?last=a>; rel="next"'}
        fake.on("GET", "/v2/app/tags/list", Answer(200, link, b'{"tags":["a"]}'))
        said = oci("pull", "--dry-run", "--all-tags", f"{fake.host}/app", code=1).stderr
        assert f"its next page would be at '{other.host}'" in said and not other.asked
    link = {"Link": f'<https://{fake.host}/v2/app/tags/list?last=a>; rel="next"'}  # of a proxy that is mistaken
    fake.on("GET", "/v2/app/tags/list", Answer(200, link, b'{"tags":["a"]}'))
    fake.on("GET", "/v2/app/tags/list?last=a", Answer(200, {}, b'{"tags":["b"]}'))
    assert oci("pull", "--dry-run", "--all-tags", f"{fake.host}/app").stdout == f"{fake.host}/app:a\n{fake.host}/app:b\n"


@pytest.mark.parametrize("target", ["./img", "oci-archive:x.tar"])
def test_parts_that_are_shorter_than_asked_for(oci: Any, fake: Fake, target: str) -> None:
    """RFC 9110, 15.3.7: what comes is said, and the rest is asked for; no retry is spent on it."""
    layer = os.urandom(3_000_000)
    fake.image("app", "v1", [layer])
    path = fake.blob("app", layer)
    ends = range(1_200_000, 3_000_001, 300_000 if target == "./img" else 1_800_000)
    parts = [(start, end) for start, end in zip(ends, [*ends[1:], 3_000_000], strict=False) if start < end]
    answers = [Answer(206, {"Content-Range": f"bytes {a}-{b - 1}/{len(layer)}"}, layer[a:b]) for a, b in parts]
    cut = Answer(200, {"Content-Length": str(len(layer))}, layer, cut=ends[0])
    fake.on("GET", path, cut, *answers)
    oci("pull", "--retries", "1", "--retry-delay", "1", f"{fake.host}/app:v1", target)
    assert [one.headers.get("Range") for one in fake.seen("GET", path)] == [None, *(f"bytes={a}-" for a, _ in parts)]


def test_an_identity_token_that_is_renewed(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """Each token is good once: the one that came with an answer is for the next question."""
    fake.image("app", "v1", [b"layer"])
    tokens(fake)
    answers = [{"access_token": name, "refresh_token": f"id{at}"} for at, name in enumerate(("t0k3n", "n3w"), 2)]
    fake.on("POST", "/token", *(Answer(200, {}, json.dumps(one).encode()) for one in answers))
    old, new = fake.guard, demand("Bearer n3w", f'Bearer realm="{fake.url}/token"')
    fake.guard = lambda asked: new(asked) if "/blobs/" in asked.path else old(asked)
    auth_file(tmp_path, fake.host, "x:", identitytoken="id1")
    oci("pull", "--jobs", "1", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
    assert [one.body.rpartition(b"refresh_token=")[2].partition(b"&")[0] for one in fake.seen("POST", "/token")] == [b"id1", b"id2"]


@pytest.mark.parametrize("known", [False, True])
def test_a_registry_that_does_not_tell_what_is_not_there_from_what_may_not_be_seen(
    oci: Any, fake: Fake, tmp_path: Path, known: bool
) -> None:
    """As docker.io: whoever asks for a repository that there is not is told that the token is not enough."""
    fake.on("GET", "/token", Answer(200, {}, b'{"token":"t0k3n"}'))
    challenge = f'Bearer realm="{fake.url}/token",scope="repository:none:pull",error="insufficient_scope"'
    error = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Action":"pull"}]}]}'
    fake.guard = lambda asked: None if "/token" in asked.path else Answer(401, {"WWW-Authenticate": challenge}, error)
    auth_file(tmp_path, fake.host if known else "elsewhere.example")
    said = oci("pull", "--authfile", "auth.json", f"{fake.host}/none", "./img", code=1).stderr
    why = "access denied, or there is no such repository"
    hint = "" if known else f" (or log in with oci-pull --login {fake.host})"
    assert said == f"oci-pull: cannot fetch '{fake.host}/none:latest': {why}{hint}\n"


def test_scopes_that_a_registry_orders_otherwise_are_the_same(oci: Any, fake: Fake, tmp_path: Path) -> None:
    fake.image("app", "v1", [b"layer"])
    fake.on("GET", "/token", Answer(200, {}, b'{"token":"less"}'), Answer(200, {}, b'{"token":"t0k3n"}'))
    scope = "repository:app:push,pull repository:base:pull registry:catalog:*"
    fake.guard = demand("Bearer t0k3n", f'Bearer realm="{fake.url}/token",scope="{scope}"')
    oci("pull", "--jobs", "1", f"{fake.host}/app:v1", "./img")
    assert "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull" in fake.seen("GET", "/token")[1].path
    assert merged(["a", "b"], ["r:x:pull,*", "r:x:pull"]) == {"a", "b", "r:x:*,pull"}


def test_a_registry_that_says_no_digest(oci: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "img")
    made = layout.image("v1", b"layer")
    with Receiver() as peer:
        oci("push", "./img:v1", f"{peer.host}/app:v1")
        data = peer.manifests[next(iter(peer.manifests))].body
        for method in ("GET", "HEAD"):
            peer.on(method, "/v2/app/manifests/v1", Answer(200, {"Content-Type": made["mediaType"]}, data))
        oci("push", "--no-clobber", "./img:v1", f"{peer.host}/app:v1")
        layout.image("v2", b"other")
        assert "there is another image" in oci("push", "--no-clobber", "./img:v2", f"{peer.host}/app:v1", code=1).stderr


def test_a_blob_that_the_registry_calls_otherwise(oci: Any, fake: Fake, tmp_path: Path) -> None:
    layer = b"layer"
    Layout(tmp_path / "img").image("v1", layer)
    fake.on("POST", f"/v2/app/blobs/uploads/?mount={digest(layer)}", Answer(202, {"Location": "/up"}))
    config = digest(b'{"os":"linux","architecture":"amd64"}')
    fake.on("POST", f"/v2/app/blobs/uploads/?mount={config}", Answer(202, {"Location": "/up"}))
    for name in (digest(layer), config):
        fake.on("HEAD", f"/v2/app/blobs/{name}", Answer(404))
        fake.on("PUT", f"/up?digest={name}", Answer(201, {"Docker-Content-Digest": HEX}))
    fake.on("DELETE", "/up", Answer(204))
    assert f"the registry calls it {HEX}" in oci("push", "./img:v1", f"{fake.host}/app:v1", code=1).stderr
    assert not fake.seen("PUT", "/manifests/")


def test_a_blob_that_is_one_chunk_is_one_request(oci: Any, tmp_path: Path) -> None:
    Layout(tmp_path / "img").image("v1", b"x" * 250)
    with Receiver() as peer:
        oci("push", "--chunk-size", "100", "./img:v1", f"{peer.host}/app:v1")
        assert len(peer.seen("PATCH")) == 3  # those of the layer; the configuration is smaller


def test_a_token_service_without_identity_tokens(oci: Any, fake: Fake, tmp_path: Path) -> None:
    tokens(fake)
    fake.image("app", "v1", [b"layer"])
    fake.on("POST", "/token", Answer(404))
    auth_file(tmp_path, fake.host, "me:secret", identitytoken="id3nt")
    oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
    assert fake.seen("GET", "/token")[0].headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


# -- credentials -------------------------------------------------------------------------------


def test_logged_in_to_a_path(oci: Any, fake: Fake, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()
    fake.guard = lambda asked: None if asked.headers.get("Authorization") == wanted else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
    oci("pull", "--authfile", "a.json", "--login", f"{fake.host}/team/app", input="me\nsecret\n")
    assert list(json.loads((tmp_path / "a.json").read_text())["auths"]) == [f"{fake.host}/team/app"]
    fake.image("team/app", "v1", [b"layer"])
    fake.image("other", "v1", [b"layer"])
    oci("pull", "--authfile", "a.json", f"{fake.host}/team/app:v1", "./img")
    oci("pull", "--authfile", "a.json", f"{fake.host}/other:v1", "./other", code=1)
    oci("pull", "--authfile", "a.json", "--logout", fake.host, code=1)
    oci("pull", "--authfile", "a.json", "--logout", f"{fake.host}/team/app")
    (tmp_path / "a.json").write_text('{"credsStore": "test"}')
    said = oci("pull", "--authfile", "a.json", "--login", f"{fake.host}/team", input="me\nsecret\n", code=1).stderr
    assert "docker-credential-test has one entry for all of" in said
    assert "not a registry" in oci("pull", "--login", f"http://{fake.host}", code=2).stderr


def test_helpers_of_registries_conf(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """credential-helpers: who is asked, in order; files are among them only if they are said to be."""
    program = tmp_path / "bin/docker-credential-ours"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nread -r host\necho \'{"Username":"me","Secret":"secret"}\'\n')
    program.chmod(0o755)
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()
    fake.guard = lambda asked: None if asked.headers.get("Authorization") == wanted else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
    fake.image("app", "v1", [b"layer"])
    auth_file(tmp_path, fake.host, "someone:else")
    oci.env |= {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "conf"), "PATH": f"{program.parent}:{oci.env['PATH']}",
                "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}  # fmt: skip
    for helpers, code in ((["ours"], 0), (["ours", "containers-auth.json"], 0), (["containers-auth.json", "ours"], 1), ([], 1), ("x", 1)):
        (tmp_path / "conf").write_text(f"credential-helpers = {json.dumps(helpers)}\n")
        oci("pull", f"{fake.host}/app:v1", "./img", code=code)


# -- registries.conf -----------------------------------------------------------------------------


def test_a_prefix_that_is_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nprefix = "r.example/a:1"\nlocation = "one.example/b"\n'
                    f'[[registry]]\nprefix = "r.example/a@{HEX}"\nblocked = true\n')  # fmt: skip
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    monkeypatch.setattr(shortnames, "SYSTEM", str(tmp_path / "none"))
    for ref, place in (("r.example/a:1", "one.example/b"), ("r.example/a:12", "r.example/a"), ("r.example/a", "r.example/a"),
                       (f"r.example/a:1@{HEX}", "one.example/b")):  # fmt: skip
        (found,) = hosts.sources(Ref.parse(ref))
        assert f"{found.host}/{found.repository}" == place
    with pytest.raises(Error, match="blocked"):
        hosts.sources(Ref.parse(f"r.example/a@{HEX}"))


# -- policy.json ---------------------------------------------------------------------------------


def test_a_policy_for_paths(oci: Any, busybox: Path, tmp_path: Path) -> None:
    ok, no = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
    for name in ("in/good", "in/bad"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        oci("pull", f"{busybox}:latest", f"./{name}:b")
    oci("push", "./in/good:b", "oci-archive:in/x.tar")
    oci("push", "./in/good:b", "dir:in/d")

    def judged(word: str, rejected: bool, transports: Any, default: Any = ok) -> None:
        (tmp_path / "p.json").write_text(json.dumps({"default": default, "transports": transports}))
        done = oci("pull", "--policy", "p.json", word, "./out:b", code=1 if rejected else 0)
        assert not rejected or "image is rejected" in done.stderr

    judged("./in/bad:b", True, {"oci": {str(tmp_path / "in"): no}})
    judged("./in/good:b", False, {"oci": {str(tmp_path / "in"): no, str(tmp_path / "in/good"): ok}})
    judged("./in/good:b", True, {"oci": {str(tmp_path / "in/good"): ok, f"{tmp_path}/in/good:b": no}})
    judged("./in/good:b", False, {"oci": {str(tmp_path / "i"): no, "": ok}}, no)
    judged("oci-archive:in/x.tar", True, {"oci": {"": ok}, "oci-archive": {str(tmp_path / "in"): no}})
    judged("dir:in/d", False, {"dir": {str(tmp_path / "in/d"): ok}}, no)
    judged("dir:in/d", True, {"oci": {"": ok}}, no)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"default": []}', '{"default": [{"type": "reject"}], "unexpected": 1}', '{"default": {}}', "[]",
     '{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "reject"}]}'],
)  # fmt: skip
def test_a_policy_that_could_mean_more_than_one_thing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(Error, match=r"p\.json"):
        Policy(str(path)).requirements("docker", [""])


@pytest.mark.parametrize(
    "image, signed, good",
    [
        ("busybox:latest", "busybox:latest", True), ("busybox:latest", "docker.io/library/busybox:latest", True),
        ("busybox:latest", "busybox:other", False), ("busybox:latest", "busybox", False), ("busybox:latest", f"busybox@{HEX}", False),
        (f"busybox@{HEX}", "busybox:latest", True), (f"busybox@{HEX}", "busybox", True), (f"busybox@{HEX}", "other", False),
        (f"busybox:latest@{HEX}", f"busybox:latest@{HEX}", True), (f"busybox:latest@{HEX}", "busybox:latest", False),
        (f"busybox:latest@{HEX}", f"busybox:other@{HEX}", False), ("busybox:latest", "UPPER", False), ("busybox:latest", "", False),
    ],
)  # fmt: skip
def test_the_name_that_was_signed(image: str, signed: str, good: bool) -> None:
    """matchRepoDigestOrExact, what is meant if nothing is said: a tag, or a tag with a digest, must be the same."""
    match = Policy()._identity({"type": "sigstoreSigned"}, Ref.parse(image))
    assert match(signed) == good


def test_keys_that_are_said_twice(tmp_path: Path) -> None:
    with pytest.raises(Error, match="more than one way"):
        Policy(str(tmp_path / "p.json"))._keys({"type": "sigstoreSigned", "keyPath": "a", "keyData": "b"})
