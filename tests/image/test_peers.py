"""Archives to and from a real dockerd and podman, each private; with skopeo and umoci in test_archive.py."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.bench import peers
from tests.layer import listing

pytestmark = [pytest.mark.root]


def run(*words: Any, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words of a client of a private daemon."""
    with peers.dockerd(tmp_path_factory.mktemp("d")) as address:
        yield ["docker", "-H", address]


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    place = tmp_path / "p"
    place.mkdir()
    (place / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    yield ["podman", "--root", f"{place}/storage", "--runroot", f"{place}/state", "--tmpdir", f"{place}/tmp",
           "--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"]  # fmt: skip
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if f"{place}/" in line:
            subprocess.run(["umount", "-l", line.split()[4]])


@pytest.fixture
def app(oci: Any, busybox: Path) -> dict[str, Any]:
    """An image of two layers in the layout ./img, for this machine; its configuration."""
    (oci.cwd / "img").mkdir()
    images.add(oci.cwd / "img", "base", busybox)
    oci("unpack", "./img:base", "b")
    (oci.cwd / "b/rootfs/etc/new").write_text("new")
    (oci.cwd / "b/rootfs/etc/group").unlink()
    oci("pack", "b", "./img:app", "--cmd", '["cat", "/etc/new"]')
    found: dict[str, Any] = json.loads(oci("image", "config", "./img:app").stdout)
    assert len(found["rootfs"]["diff_ids"]) == 2
    return found


def config_id(oci: Any, word: str) -> str:
    return str(oci("image", "ls", "--fields", "id", word).stdout.strip())


FORMS = [[], ["--format", "docker"], ["--format", "oci"]]


@pytest.mark.needs("dockerd", "docker")
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_docker_loads_ours_and_we_load_dockers(
    form: list[str], docker: list[str], oci: Any, app: dict[str, Any], tmp_path: Path
) -> None:
    name = f"example.com/app:v{len(form)}{''.join(form[1:])}"
    oci("image", "copy", "./img:app", name)
    oci("image", "save", *form, "-o", "a.tar", name)
    assert name in run(*docker, "load", "-i", tmp_path / "a.tar")
    seen = json.loads(run(*docker, "image", "inspect", name))[0]
    assert seen["Id"] == config_id(oci, "./img:app")
    assert seen["RootFS"]["Layers"] == app["rootfs"]["diff_ids"]
    assert seen["Config"]["Cmd"] == ["cat", "/etc/new"]

    run(*docker, "save", "-o", tmp_path / "theirs.tar", name)
    oci("image", "load", "theirs.tar", "./back")
    assert config_id(oci, "./back") == seen["Id"]
    assert oci("image", "fsck", "./back").stdout == ""
    oci("image", "diff", "--ignore", "layer,manifest", "./img:app", "./back")
    run(*docker, "rmi", "-f", name)


@pytest.mark.needs("dockerd", "docker")
def test_docker_loads_several_names_indexes_and_what_refers_to_them(
    docker: list[str], oci: Any, app: dict[str, Any], tmp_path: Path
) -> None:
    oci("image", "index", "create", "example.com/many:1", "./img:app")
    oci("image", "copy", "./img:base", "example.com/base:1")
    oci("image", "tag", "example.com/base:1", "example.com/base:2")
    refer(oci, "example.com/base:1")
    words = ["example.com/many:1", "example.com/base:1", "example.com/base:2"]
    oci("image", "save", "--referrers", "-o", "a.tar", *words)
    loaded = run(*docker, "load", "-i", tmp_path / "a.tar")
    assert all(word in loaded for word in words)
    ids = run(*docker, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    assert {f"{word} {config_id(oci, word)}" for word in words} <= set(ids)
    run(*docker, "rmi", "-f", *words)


def refer(oci: Any, word: str) -> None:
    from oci_tools import document
    from oci_tools.image import manifest
    from oci_tools.image.layout import Layout

    with Layout.create(f"{oci.env['OCI_ROOT']}/images") as layout:
        to = layout.find(word)
        subject = {key: to[key] for key in ("mediaType", "digest", "size")}
        found = manifest.new(layout.put(b"{}", manifest.OCI_EMPTY), [layout.put(b"signed", "text/sig")])
        layout.tag(None, layout.put(document.dumps({**found, "subject": subject}), manifest.OCI_MANIFEST))


@pytest.mark.needs("podman")
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_podman_loads_ours_and_we_load_podmans(
    form: list[str], podman: list[str], oci: Any, app: dict[str, Any], tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    oci("image", "copy", "./img:app", "example.com/app:1")
    oci("image", "save", *form, "-o", "a.tar", "example.com/app:1")
    policy = ["--signature-policy", f"{tmp_path}/p/policy.json"]
    assert "example.com/app:1" in run(*podman, "load", *policy, "-i", tmp_path / "a.tar", env=env)
    seen = json.loads(run(*podman, "image", "inspect", "example.com/app:1", env=env))[0]
    assert seen["RootFS"]["Layers"] == app["rootfs"]["diff_ids"]
    assert seen["Config"]["Cmd"] == ["cat", "/etc/new"]
    for number, kind in enumerate(("docker-archive", "oci-archive")):
        run(*podman, "save", "--format", kind, "-o", tmp_path / f"{kind}.tar", "example.com/app:1", env=env)
        oci("image", "load", f"{kind}.tar", f"./back{number}")
        assert oci("image", "fsck", f"./back{number}").stdout == ""
        oci("image", "diff", "--ignore", "layer,manifest,history,config", "./img:app", f"./back{number}")
        oci("unpack", f"./back{number}", f"u{number}")
        assert listing.tree(tmp_path / f"u{number}/rootfs") == listing.tree(tmp_path / "b/rootfs")


@pytest.mark.needs("skopeo", "umoci")
def test_skopeo_and_umoci_read_what_was_converted(oci: Any, app: dict[str, Any], tmp_path: Path) -> None:
    oci("image", "copy", "--format", "docker", "./img:app", "./docker:app")
    oci("image", "save", "-o", "d.tar", "./docker:app")
    run("skopeo", "copy", "-q", f"docker-archive:{tmp_path}/d.tar", f"oci:{tmp_path}/one:app")
    oci("image", "save", "--format", "oci", "-o", "o.tar", "./docker:app")
    run("skopeo", "copy", "-q", f"oci-archive:{tmp_path}/o.tar", f"oci:{tmp_path}/two:app")
    for at in "one", "two":
        oci("image", "diff", "--ignore", "layer,manifest,config", "./img:app", f"./{at}:app")
    run("umoci", "unpack", "--image", f"{tmp_path}/two:app", tmp_path / "u")
    assert (tmp_path / "u/rootfs/etc/new").read_text() == "new"
    assert not (tmp_path / "u/rootfs/etc/group").exists()


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_skopeo_reads_an_index_that_was_made_here(
    form: str, oci: Any, app: dict[str, Any], registry: Any, tmp_path: Path
) -> None:
    """From a registry: in a layout it takes OCI's indexes only."""
    oci("image", "index", "create", "./img:all", "./img:base", "./img:app")
    second = json.loads(oci("image", "cat", "./img:all").stdout)["manifests"][1]["digest"]
    oci("image", "index", "annotate", "--platform", "linux/s390x", "./img:all", second)
    oci("image", "copy", "--format", form, "./img:all", "./new:all")
    oci("push", "./new:all", f"{registry.host}/x:all")
    words = ["--src-tls-verify=false", "-q", "--all", f"docker://{registry.host}/x:all"]
    run("skopeo", "copy", *words, f"dir:{tmp_path}/dir")
    override = ["--override-arch", "s390x", "--override-os", "linux"]
    assert len(json.loads(run("skopeo", *override, "inspect", f"dir:{tmp_path}/dir"))["Layers"]) == 2
