"""What containers are called, and what a word means."""

import os

import pytest

from oci_tools.container import names
from oci_tools.errors import Error, Usage

A, B = "ab" * 32, "ac" * 32


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("OCI_RUN", str(tmp_path / "run"))
    for container in (A, B):
        (tmp_path / "root/containers" / container).mkdir(parents=True)
        (tmp_path / "root/containers" / container / "policy.json").write_text('{"name":null}')
    (tmp_path / "run/runtime/engine-1").mkdir(parents=True)
    return str(tmp_path / "run/runtime")


def test_an_id_a_name_or_a_beginning(there):
    names.take("web", A)
    names.take("ac", A)  # a name comes before the beginning of another's id
    assert [names.find(word, there) for word in (A, "web", "aba", "ac", "acac", "engine-1", "eng")] == [
        A, A, A, A, B, "engine-1", "engine-1",
    ]  # fmt: skip
    for nothing in ("", "x", "..", ".", "../containers", "a/b", "web2", "é", "x" * 300):
        assert names.find(nothing, there) is None
    with pytest.raises(Error, match="ambiguous container 'a': 2 ids begin so"):
        names.find("a", there)
    with pytest.raises(Error, match="no such container 'x'"):
        names.need("x", there)


def test_what_is_being_removed_is_not_there(there, tmp_path):
    os.rename(tmp_path / "root/containers" / B, tmp_path / "root/containers" / f".{B}")
    assert names.ids() == [A] and names.find("ac", there) is None


def test_renaming(there):
    names.rename(A, "one")
    names.rename(A, "two")
    names.rename(A, "two")
    assert names.find("one", there) is None and names.find("two", there) == A and names.policy(A)["name"] == "two"
    with pytest.raises(Error, match="container name is in use 'two': by abab"):
        names.rename(B, "two")
    assert names.policy(B)["name"] is None
    with pytest.raises(Usage, match="invalid container name"):
        names.rename(B, "x")
    with pytest.raises(Error, match="the runtime's own verbs"):
        names.rename("engine-1", "xx")


def test_a_name_that_leads_nowhere_is_free(there):
    names.take("web", "f" * 64)
    names.take("web", A)
    assert names.find("web", there) == A
    names.give_back("web", B)  # it is not its own
    assert names.find("web", there) == A
