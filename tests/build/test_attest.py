"""--attest: lists of packages and provenance, in the form that other tools read."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.build import packages
from oci_tools.build.attest import purl

pytestmark = [pytest.mark.root]
TEXT = "FROM BASE\nARG A=1\nCOPY var /var\nRUN echo $A > /a\n"
DPKG = {
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.2.37-2+b8\nArchitecture: amd64\n"
    "Source: bash-src (1)\nMaintainer: M <m@x>\nDescription: x\n Package: not\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n",
    "var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2025b\nArchitecture: all\n",
}


def blobs(layout: Path) -> Any:
    return lambda one: json.loads((layout / "blobs" / one["digest"].replace(":", "/")).read_text())


def attested(layout: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The index, the attestation manifest, and the statements by their types."""
    read = blobs(layout)
    index = read(json.loads((layout / "index.json").read_text())["manifests"][-1])
    manifest = read(index["manifests"][-1])
    return index, manifest, {part["annotations"]["in-toto.io/predicate-type"]: read(part) for part in manifest["layers"]}


def test_the_form_is_buildkits(oci: Any, built: Any, tmp_path: Path) -> None:
    words = ("--attest", "type=sbom", "--attest", "type=provenance,mode=max", "--build-arg", "A=2")
    built(TEXT, *words, files=DPKG)
    index, manifest, said = attested(tmp_path / "img")
    image, told = index["manifests"]
    assert told["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert told["annotations"] == {
        "vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest",
    }  # fmt: skip
    assert {part["mediaType"] for part in manifest["layers"]} == {"application/vnd.in-toto+json"}
    config = blobs(tmp_path / "img")(manifest["config"])
    assert config["rootfs"]["diff_ids"] == [part["digest"] for part in manifest["layers"]]
    subject = {"name": "pkg:docker/x@latest?platform=linux%2Famd64", "digest": {"sha256": image["digest"][7:]}}
    assert all(one["subject"] == [subject] and one["_type"].startswith("https://in-toto.io/") for one in said.values())
    spdx = said["https://spdx.dev/Document"]["predicate"]
    names = {one["name"]: one for one in spdx["packages"]}
    assert set(names) == {"x", "bash", "tzdata"}
    urls = [ref["referenceLocator"] for ref in names["bash"]["externalRefs"]]
    assert urls == ["pkg:deb/busybox/bash@5.2.37-2%2Bb8?arch=amd64&distro=busybox&upstream=bash-src"]
    assert names["bash"]["supplier"] == "Person: M (m@x)"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", spdx["creationInfo"]["created"])
    ids = {one["SPDXID"] for one in spdx["packages"]}
    assert {one["relatedSpdxElement"] for one in spdx["relationships"]} == ids
    made = said["https://slsa.dev/provenance/v1"]["predicate"]["buildDefinition"]
    assert made["externalParameters"]["request"]["args"] == {"build-arg:A": "2"}
    assert made["resolvedDependencies"][0]["uri"].startswith("oci-layout:///")
    assert "echo $A" in made["internalParameters"]["buildConfig"]["dockerfile"]
    assert oci("run", "./img:x", "cat", "/a").stdout == "2\n"
    assert oci("image", "fsck", "./img").returncode == 0


def test_provenance_without_arguments(built: Any, tmp_path: Path) -> None:
    built(TEXT, "--attest", "type=provenance,version=v0.2", "--build-arg", "A=2", files=DPKG)
    _, _, said = attested(tmp_path / "img")
    made = said["https://slsa.dev/provenance/v0.2"]["predicate"]
    assert made["invocation"]["parameters"]["args"] == {} and "buildConfig" not in made
    assert made["metadata"]["completeness"]["parameters"] is False


def test_it_is_reproducible(built: Any) -> None:
    words = ("--attest", "type=sbom", "--attest", "type=provenance", "--no-cache")
    first = built(TEXT, *words, files=DPKG, env={"SOURCE_DATE_EPOCH": "1700000000"}).stdout
    assert built(TEXT, *words, env={"SOURCE_DATE_EPOCH": "1700000000"}).stdout == first


@pytest.mark.needs("docker")
def test_buildx_reads_it(oci: Any, built: Any, registry: Any, tmp_path: Path) -> None:
    built(TEXT, "--attest", "type=sbom", "--attest", "type=provenance,version=v0.2", files=DPKG)
    oci("push", "./img:x", f"{registry.host}/app:1")
    env = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}

    def inspect(form: str) -> Any:
        words = ["docker", "buildx", "imagetools", "inspect", f"{registry.host}/app:1", "--format", form]
        done = subprocess.run(words, capture_output=True, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert "bash" in [one["name"] for one in inspect("{{json .SBOM.SPDX}}")["packages"]]
    assert inspect("{{json .Provenance.SLSA}}")["buildType"] == "urn:oci-tools:oci-build:v1"


def test_buildx_words(built: Any, registry: Any, tmp_path: Path) -> None:
    """--push, --sbom and --provenance are docker's."""
    words = ("-t", f"{registry.host}/pushed:1", "--push", "--sbom", "true", "--provenance", "mode=max")
    built(TEXT, *words, files=DPKG)
    _, _, said = attested(tmp_path / "img")
    assert set(said) == {"https://spdx.dev/Document", "https://slsa.dev/provenance/v1"}
    assert "buildConfig" in said["https://slsa.dev/provenance/v1"]["predicate"]["buildDefinition"]["internalParameters"]


@pytest.mark.parametrize("word", ["type=x", "sbom", "type=provenance,mode=all", "type=sbom,generator=x"])
def test_words_that_make_no_sense(oci: Any, word: str) -> None:
    assert "invalid value for --attest" in oci("build", "--attest", word, code=2).stderr


# -- databases ---------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Path, packages.Tree]]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield tmp_path, packages.Tree(fd)
    os.close(fd)


def listed(tree: packages.Tree) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.name, one.version, one.architecture) for one in packages.packages(tree)]


@pytest.mark.parametrize("path", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk(tree: tuple[Path, packages.Tree], path: str) -> None:
    text = "C:Q1=\nP:musl\nV:1.2.5-r10\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\nP:zlib\nV:1.3.1-r2\nA:x86_64\no:zlib\n"
    (tree[0] / path).parent.mkdir(parents=True)
    (tree[0] / path).write_text(text)
    assert listed(tree[1]) == [("apk", "musl", "1.2.5-r10", "x86_64"), ("apk", "zlib", "1.3.1-r2", "x86_64")]
    (tree[0] / "etc").mkdir()
    (tree[0] / "etc/os-release").write_text('ID="alpine"\nVERSION_ID=3.22.1\n')
    found = purl(packages.packages(tree[1])[0], packages.distribution(tree[1]))
    assert found == "pkg:apk/alpine/musl@1.2.5-r10?arch=x86_64&distro=alpine-3.22.1&upstream=musl"


@pytest.mark.needs("rpm", "rpmbuild")
@pytest.mark.parametrize("backend", ["sqlite", "ndb"])
def test_rpm(tree: tuple[Path, packages.Tree], backend: str) -> None:
    top, found = tree
    spec = "Name: hello\nVersion: 2.1\nRelease: 3\nEpoch: 4\nSummary: s\nLicense: MIT\nVendor: V\nBuildArch: noarch\n%description\nd\n%files\n"
    (top / "hello.spec").write_text(spec)
    define = ["--define", f"_topdir {top}/rpm", "--define", f"_db_backend {backend}", "--define", "_dbpath /var/lib/rpm"]
    words = ["rpmbuild", "-bb", *define, top / "hello.spec"]
    subprocess.run(words, check=True, capture_output=True)
    (package,) = (top / "rpm/RPMS/noarch").iterdir()
    words = ["rpm", *define, "--root", top, "-i", "--nodeps", "--noscripts", "--nosignature", package]
    subprocess.run(words, check=True, capture_output=True)
    assert listed(found) == [("rpm", "hello", "2.1-3", "noarch")]
    (one,) = packages.packages(found)
    assert (one.epoch, one.license, one.supplier, one.source) == ("4", "MIT", "V", "hello-2.1-3.src.rpm")


def header(**strings: str) -> bytes:
    """A header of rpm, of tags that are strings."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "arch": 1022, "description": 1005}
    entries, store = b"", b""
    for name, text in strings.items():
        entries += struct.pack(">IIiI", tags[name], 6, len(store), 1)
        store += text.encode() + b"\0"
    return struct.pack(">II", len(strings), len(store)) + entries + store


@pytest.mark.needs("db5.3_load")
@pytest.mark.parametrize("order", ["1234", "4321"])
def test_rpm_of_old(tree: tuple[Path, packages.Tree], order: str) -> None:
    """Berkeley DB, which Debian's rpm writes no more."""
    top, found = tree
    (top / "var/lib/rpm").mkdir(parents=True)
    made = [header(name=f"p{n}", version="1", release="2", arch="noarch", description="x" * (n * 700)) for n in range(30)]
    rows = [(0, struct.pack("<I", 30)), *enumerate(made, 1)]
    lines = [text for number, data in rows for text in (f" {struct.pack('<I', number).hex()}", f" {data.hex()}")]
    text = "\n".join(["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096", f"db_lorder={order}", "HEADER=END",
                      *lines, "DATA=END", ""])  # fmt: skip
    subprocess.run(["db5.3_load", top / "var/lib/rpm/Packages"], input=text.encode(), check=True)
    assert sorted(listed(found)) == sorted(("rpm", f"p{n}", "1-2", "noarch") for n in range(30))


@pytest.mark.parametrize("name", ["var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages.db", "var/lib/rpm/Packages", "var/lib/dpkg/status", "lib/apk/db/installed"])
@pytest.mark.parametrize("data", [b"", b"RpmP" + b"\xff" * 5000, bytes(12) + b"\x61\x15\x06\0" + b"\0\2\0\0" * 3000, b"SQLite format 3\0" + b"\1" * 4096, b"Package: \xff\n\nP:\n", b"\0" * 99])
def test_damaged_databases_have_nothing(tree: tuple[Path, packages.Tree], name: str, data: bytes) -> None:
    (tree[0] / name).parent.mkdir(parents=True)
    (tree[0] / name).write_bytes(data)
    assert listed(tree[1]) == []


def test_links_lead_nowhere_else(tree: tuple[Path, packages.Tree]) -> None:
    (tree[0] / "var/lib/dpkg").mkdir(parents=True)
    (tree[0] / "var/lib/dpkg/status").symlink_to("/var/lib/dpkg/status")
    assert listed(tree[1]) == []
