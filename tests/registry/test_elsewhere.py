"""oci-pull and oci-push where an end is no registry: archives, other layouts, standard input and output."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import INDEX
from tests.registry.test_pull import complete
from tests.registry.test_push import Layout

KINDS = ("oci-archive", "docker-archive")


@pytest.fixture
def made(busybox: Path) -> str:
    digest: str = json.loads((busybox / "index.json").read_text())["manifests"][0]["digest"]
    return digest


def tag_of(path: Path) -> str:
    (entry,) = complete(path)["manifests"]
    return str(entry["annotations"]["org.opencontainers.image.ref.name"])


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", KINDS)
def test_archives_that_skopeo_wrote(oci: Any, tmp_path: Path, busybox: Path, made: str, kind: str) -> None:
    word = f"{kind}:{tmp_path}/x.tar:127.0.0.1/app:v1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{busybox}:latest", word], check=True)
    for source in (f"{kind}:x.tar", word):
        assert oci("pull", source, "./img").stdout.startswith(f"{tmp_path}/img@sha256:")
        assert tag_of(tmp_path / "img") == "v1"
        subprocess.run(["rm", "-r", tmp_path / "img"], check=True)
    with open(tmp_path / "x.tar", "rb") as file:
        oci("pull", "-", "./img:mine", stdin=file)
    assert tag_of(tmp_path / "img") == "mine"
    oci("pull", f"{kind}:x.tar")
    assert tag_of(tmp_path / "root/images") == "127.0.0.1/app:v1"


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["pull", "push"])
def test_archives_that_skopeo_reads(
    oci: Any, tmp_path: Path, busybox: Path, made: str, kind: str, command: str
) -> None:
    said = oci(command, f"oci:{busybox}:latest", f"{kind}:x.tar").stdout
    assert said == f"{tmp_path}/x.tar\n"
    subprocess.run(["skopeo", "copy", "-q", f"{kind}:{tmp_path}/x.tar", f"oci:{tmp_path}/out:x"], check=True)
    (entry,) = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    assert kind == "docker-archive" or entry["digest"] == made


def test_from_a_registry_into_an_archive_and_back(
    oci: Any, registry: Any, tmp_path: Path, busybox: Path, made: str
) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/a:v1")
    for kind in KINDS:
        assert oci("pull", f"{registry.host}/a:v1", f"{kind}:{kind}.tar").stdout == f"{tmp_path}/{kind}.tar\n"
        assert oci("pull", f"{kind}:{kind}.tar", "./img").stdout == f"{tmp_path}/img@{made}\n"
        assert tag_of(tmp_path / "img") == "v1"
    assert not list((tmp_path / "root").glob("cache/*/*"))


def test_layouts_and_handles(oci: Any, tmp_path: Path, busybox: Path, made: str) -> None:
    assert oci("push", f"{busybox}:latest", "./a:x").stdout == f"{tmp_path}/a@{made}\n"
    handle = oci("pull", "./a:x", "oci:b:y").stdout
    assert handle == f"{tmp_path}/b@{made}\n" and tag_of(tmp_path / "b") == "y"
    assert oci("pull", "-", "./c:z", input=handle).stdout == f"{tmp_path}/c@{made}\n"
    assert oci("pull", "./a", "./a:again").stdout == f"{tmp_path}/a@{made}\n"
    assert {one["digest"] for one in complete(tmp_path / "a")["manifests"]} == {made}
    assert oci("pull", "--dry-run", "./b").stdout == "y\n"
    assert oci("pull", "--unpack", "bundle", "./a:x", "./d").stdout == f"{tmp_path}/bundle\n"
    tar = oci("pull", "./a:x", "-", binary=True).stdout
    assert oci("pull", "-", "./e", input=tar).stdout == f"{tmp_path}/e@{made}\n" and tag_of(tmp_path / "e") == "x"


def test_platforms_and_referrers(oci: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "img")
    parts = {
        arch: {**layout.image("", arch.encode(), annotations={"a": arch}), "platform": {"os": "linux", "architecture": arch}}
        for arch in ("amd64", "arm64", "s390x")
    }
    top = layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(parts.values())}, INDEX)
    layout.tag("multi", top)
    layout.entries.append(layout.image("", b"sig", subject=top, artifactType="x/sig"))
    layout.write()
    one = oci("pull", "--platform", "arm64", "./img:multi", "./one").stdout
    assert one.endswith(f"@{parts['arm64']['digest']}\n") and len(complete(tmp_path / "one")["manifests"]) == 1
    assert oci("pull", "./img:multi", "./host").stdout.endswith(tuple(f"@{one['digest']}\n" for one in parts.values()))
    oci("pull", "--platform", "arm64", "--platform", "s390x", "./img:multi", "./two")
    assert len(complete(tmp_path / "two")["manifests"]) == 1
    for command, more in (("pull", ["--all-platforms"]), ("push", [])):
        said = oci(command, *more, "--referrers", "./img:multi", f"./{command}").stdout
        assert said.endswith(f"@{top['digest']}\n") and len(complete(tmp_path / command)["manifests"]) == 2


def test_what_cannot_be_read_leaves_nothing(oci: Any, tmp_path: Path, busybox: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive" * 1000)
    (tmp_path / "cut.tar").write_bytes(subprocess.run(["tar", "-C", busybox, "-c", "."], capture_output=True).stdout[:300_000])
    Layout(tmp_path / "img").image("v1", b"one")
    next(path for path in (tmp_path / "img/blobs/sha256").iterdir() if path.read_bytes() == b"one").write_bytes(b"two")
    for word in ("oci-archive:none.tar", "oci-archive:x.tar", "docker-archive:cut.tar", "./img:v1", "./img:v2", "oci:x:y"):
        for target in ("./out", "oci-archive:out.tar"):
            for command in ("pull", "push"):
                done = oci(command, word, target, code=1)
                assert done.stderr.startswith(f"oci-{command}: ") and done.stderr.count("\n") == 1 and not done.stdout
    assert not list(tmp_path.glob("out*")) and not list((tmp_path / "root").glob("cache/*/*"))
    done = oci("pull", "-", "./out", input="", code=1)
    assert "nothing on standard input" in done.stderr
