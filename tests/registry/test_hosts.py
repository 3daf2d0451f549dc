"""Where references are fetched from: registries.conf and certs.d."""

from __future__ import annotations

from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.image import shortnames
from oci_tools.image.ref import Ref
from oci_tools.registry import hosts

CONF = """
unqualified-search-registries = ["x.example"]
[[registry]]
location = "r.example"
[[registry.mirror]]
location = "m1.example/r"
[[registry.mirror]]
location = "m2.example:5000"
insecure = true
pull-from-mirror = "digest-only"

[[registry]]
prefix = "r.example/ns"
location = "other.example/deep/ns"

[[registry]]
prefix = "*.wild.example"
location = "tame.example"

[[registry]]
prefix = "*.deep.example/ns"
location = "flat.example"

[[registry]]
prefix = "slash.example/"
location = "slashed.example/a/"

[[registry]]
prefix = "docker.io/library"
mirror-by-digest-only = true
[[registry.mirror]]
location = "hub.example/library"

[[registry]]
prefix = "bad.example"
blocked = true
"""
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    monkeypatch.setattr(shortnames, "SYSTEM", str(tmp_path / "none"))
    return path


@pytest.mark.parametrize(
    "ref, expected",
    [
        ("plain.example/a:t", ["plain.example/a"]),
        ("r.example/a:t", ["m1.example/r/a", "r.example/a"]),
        (f"r.example/a@{DIGEST}", ["m1.example/r/a", "m2.example:5000/a !", "r.example/a"]),
        ("r.example/ns/a", ["other.example/deep/ns/a"]),
        ("r.example/nsx/a", ["m1.example/r/nsx/a", "r.example/nsx/a"]),
        ("a.wild.example/b/c", ["tame.example/b/c"]),
        ("wild.example/b/c", ["wild.example/b/c"]),
        ("x.example/a.wild.example/c", ["x.example/a.wild.example/c"]),
        ("a.wild.examples/c", ["a.wild.examples/c"]),
        ("a.deep.example/ns/c", ["flat.example/c"]),
        ("a.deep.example/nsx/c", ["a.deep.example/nsx/c"]),
        ("slash.example/b", ["slashed.example/a/b"]),
        ("alpine", ["docker.io/library/alpine"]),
        (f"alpine@{DIGEST}", ["hub.example/library/alpine", "docker.io/library/alpine"]),
    ],
)
def test_mirrors_and_rewrites(conf: Path, ref: str, expected: list[str]) -> None:
    found = hosts.sources(Ref.parse(ref))
    assert [f"{s.host}/{s.repository}{' !' if s.insecure else ''}" for s in found] == expected
    written = hosts.sources(Ref.parse(ref), write=True)
    assert [f"{s.host}/{s.repository}" for s in written] == [Ref.parse(ref).name]  # only what is read is rewritten


def test_blocked(conf: Path) -> None:
    with pytest.raises(Error, match="registry is blocked 'bad.example'"):
        hosts.sources(Ref.parse("bad.example/a"))


@pytest.mark.parametrize(
    "text",
    ["[[registry]]\nlocation = 5", "[[registry]", "[[registry]]\nlocation='docker.io'\n[[registry.mirror]]",
     "[[registry]]\nlocation='https://x'", "[[registry]]\nblocked=true", "[[registry]]\nlocation='docker.io'\nblocked='yes'",
     "[[registry]]\nlocation='docker.io'\nmirror=5", "[[registry]]\nlocation='docker.io'\nmirror={location='x'}",
     "[[registry]]\nlocation='docker.io'\n[[registry.mirror]]\nlocation='x'\ninsecure=1",
     "[[registry]]\nlocation='docker.io'\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='some'",
     "[[registry]]\nlocation='docker.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='all'"],
)
def test_a_broken_file_is_an_error(conf: Path, text: str) -> None:
    conf.write_text(text)
    with pytest.raises(Error, match="invalid registries.conf"):
        hosts.sources(Ref.parse("x/a/b"))


def test_no_file_is_no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "none"))
    source = hosts.sources(Ref.parse("alpine"))[0]
    assert (source.host, source.api_host) == ("docker.io", "registry-1.docker.io")


def test_cert_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mine = tmp_path / "containers/certs.d/r.example:5000"
    mine.mkdir(parents=True)
    assert hosts.cert_directories("r.example:5000") == [str(mine)]
    assert hosts.cert_directories("r.example") == []
    assert hosts.cert_directories("r.example", "/given") == ["/given"]
