"""Names without a registry: aliases and registries to search, as registries.conf has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.image import shortnames
from oci_tools.image.ref import candidates, locate

D256 = "sha256:" + "0" * 64
CONF = """
# "comment" = "no.example/comment"
[[registry]]
location = "elsewhere"
[aliases]
  "fedora" = "registry.example/fedora"   # theirs
"ns/app"="registry.example:5000/deep/app"
bare = "registry.example/bare"
'single' = 'registry.example/single'
"esc" = "registry.example/\\u0065sc"
"gone" = ""
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    monkeypatch.setattr(shortnames, "SYSTEM", str(tmp_path / "none"))
    return path


@pytest.mark.parametrize(
    "word, expected",
    [
        ("fedora", "registry.example/fedora:latest"),
        ("fedora:40", "registry.example/fedora:40"),
        (f"fedora:40@{D256}", f"registry.example/fedora:40@{D256}"),
        ("ns/app:1", "registry.example:5000/deep/app:1"),
        ("bare", "registry.example/bare:latest"),
        ("single", "registry.example/single:latest"),
        ("esc", "registry.example/esc:latest"),
        ("gone", "docker.io/library/gone:latest"),
        ("comment", "docker.io/library/comment:latest"),
        ("elsewhere", "docker.io/library/elsewhere:latest"),
        ("app", "docker.io/library/app:latest"),
        ("fedora/x", "docker.io/fedora/x:latest"),
        ("docker.io/fedora", "docker.io/library/fedora:latest"),
        ("localhost/fedora", "localhost/fedora:latest"),
    ],
)
def test_aliases(conf: Path, word: str, expected: str) -> None:
    assert str(locate(word).ref) == expected


def test_a_transport_says_what_it_means(conf: Path) -> None:
    assert str(locate("docker://fedora").ref) == "docker.io/library/fedora:latest"


@pytest.mark.parametrize("text", ["[aliases]\nx.y = 1\nfedora = 7", 'aliases = 7 # fedora', "[aliases]\nfedora = {"])
def test_a_broken_file_is_an_error(conf: Path, text: str) -> None:
    conf.write_text(text)
    with pytest.raises(Error, match="invalid registries.conf"):
        locate("fedora")


def test_registries_to_search(conf: Path) -> None:
    conf.write_text('unqualified-search-registries = ["quay.example"]\n')
    assert str(locate("team/app").ref) == "quay.example/team/app:latest"
    assert str(locate("docker.io/app").ref) == "docker.io/library/app:latest"
    conf.write_text('unqualified-search-registries = [\n"docker.io"]\n')
    assert str(locate("app").ref) == "docker.io/library/app:latest"
    conf.write_text('unqualified-search-registries = ["a.example", "docker.io"]\n[aliases]\n"b"="b.example/b"\n')
    assert str(locate("b").ref) == "b.example/b:latest"
    with pytest.raises(Error, match="such as a.example/app"):
        locate("app")
    conf.write_text("unqualified-search-registries = 5\n")
    with pytest.raises(Error, match="is not a list of names"):
        locate("app")


def test_what_comes_later_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(shortnames, "SYSTEM", str(tmp_path / "none"))
    place = tmp_path / "containers/registries.conf.d"
    place.mkdir(parents=True)
    (place.parent / "registries.conf").write_text('[aliases]\n"a" = "one.example/a"\n"b" = "one.example/b"\n')
    (place / "10.conf").write_text('[aliases]\n"a" = "two.example/a"\n')
    (place / "20.conf").write_text('[aliases]\n"b" = ""\n')
    (place / "30.off").write_text('[aliases]\n"a" = "three.example/a"\n')
    assert str(locate("a").ref) == "two.example/a:latest"
    assert str(locate("b").ref) == "docker.io/library/b:latest"


def test_which_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, user = tmp_path / "etc", tmp_path / "containers"
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(shortnames, "SYSTEM", str(system))
    for place in (system, user):
        (place / "registries.conf.d").mkdir(parents=True)
        (place / "registries.conf.d/1.conf").touch()
    both = [f"{place}/registries.conf.d/1.conf" for place in (system, user)]
    assert shortnames.files() == [f"{system}/registries.conf", *both]
    (user / "registries.conf").touch()
    assert shortnames.files() == [f"{user}/registries.conf", both[1]]  # who has their own has nothing of the system's
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "/given")
    assert shortnames.files() == ["/given", *both]


def test_several_registries_are_tried_unless_that_is_forbidden(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = 'unqualified-search-registries = ["a.example", "docker.io"]\n'
    for mode in ("", 'short-name-mode = "permissive"\n', "short-name-mode='disabled'\n"):
        conf.write_text(mode + search + '[aliases]\n"b" = "b.example/b"\n')
        assert [str(ref) for ref in candidates("app:1")] == ["a.example/app:1", "docker.io/library/app:1"]
        assert [str(ref) for ref in candidates(f"x/app@{D256}")] == [f"a.example/x/app@{D256}", f"docker.io/x/app@{D256}"]
        assert [str(ref) for ref in candidates("b")] == ["b.example/b:latest"]
        assert [str(ref) for ref in candidates("docker://app")] == ["docker.io/library/app:latest"]
    conf.write_text('short-name-mode = "enforcing"\n' + search)
    with pytest.raises(Error, match="such as a.example/app"):
        candidates("app")
    conf.write_text('short-name-mode = "some"\n')
    with pytest.raises(Error, match="no such short-name-mode"):
        candidates("app")


def test_what_podman_has_noted_wins(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = conf.with_name("noted")
    noted.write_text('[aliases]\n  "fedora" = "noted.example/f"\n')
    monkeypatch.setattr(shortnames, "_noted", lambda: str(noted))
    assert str(locate("fedora").ref) == "noted.example/f:latest"
    assert str(locate("ns/app").ref) == "registry.example:5000/deep/app:latest"
