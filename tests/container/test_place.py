"""A container's directory: who holds it, and how it goes."""

import os

import pytest

from oci_tools import fs
from oci_tools.container import names, place
from oci_tools.errors import Busy, Error, Usage


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("OCI_RUN", str(tmp_path / "run"))


def made(name=None, keep=True, **more):
    with place.Place("image", name, keep, more) as held:
        held.left = True
    return held


def test_what_ends_is_removed_unless_it_is_kept():
    made("kept")
    with place.Place("image", "gone", False):
        assert len(names.ids()) == 2
    with pytest.raises(KeyError), place.Place("image", "broken", True):
        raise KeyError
    assert [names.policy(each)["name"] for each in names.ids()] == ["kept"]
    assert os.listdir(f"{fs.root()}/names") == ["kept"]


def test_a_name_that_is_taken_makes_nothing():
    made("web")
    with pytest.raises(Error, match="container name is in use 'web'"), place.Place("image", "web", True):
        pass
    with pytest.raises(Usage):
        place.Place("image", "/", True)
    assert len(os.listdir(names.directory())) == 1


def test_one_holds_it():
    held = made()
    with place.Place.again(held.id):
        with pytest.raises(Busy), place.Place.again(held.id, timeout=0):
            pass
        assert place.keeper(held.id) == -1  # nobody has said that it looks after it
    with place.Place.again(held.id) as again:
        again.looked_after()
        pidfd = place.keeper(held.id)
        assert pidfd >= 0
        os.close(pidfd)
    assert place.keeper(held.id) == -1


def test_what_is_not_there_is_not_made():
    with pytest.raises(Error, match="cannot lock"), place.Place.again("nope"):
        pass
    assert not os.path.exists(names.place("nope"))
    place.remove("nope")


def test_an_end_is_forgotten_with_the_next_begin():
    held = made()
    with place.Place.again(held.id) as again:
        again.begins({}, "")
        again.ended(7)
        assert names.exit_code(held.id) == 7 and names.was_started(held.id)
        again.begins({}, "")
        assert names.exit_code(held.id) is None


def test_a_sweep_does_not_stand_in_the_way_of_a_removal(monkeypatch):
    """One that looks at the place while it is emptied once put a lock there, and the directory could not go."""
    held = made(keep=False)
    unlink = fs._unlink

    def sweeping(dirfd, name):
        place.sweep()
        done = unlink(dirfd, name)
        place.sweep()
        return done

    monkeypatch.setattr(fs, "_unlink", sweeping)
    place.remove(held.id)
    assert os.listdir(names.directory()) == []


def test_a_sweep_removes_what_was_killed_while_it_was_removed():
    held = made("web", keep=True)
    away = f"{names.directory()}/.{held.id}"
    os.rename(held.path, away)
    place.sweep()
    assert not os.path.exists(away)
    os.mkdir(away)  # its lock has gone already
    place.sweep()
    assert os.path.exists(away), "it may be a moment old"
    os.utime(away, (0, 0))
    place.sweep()
    assert not os.path.exists(away)
    with place.Place("image", "web", False):
        pass  # the name leads nowhere


def test_a_sweep_leaves_what_waits_to_be_started():
    made(keep=False, waits=True)
    made(keep=False)
    place.sweep()
    assert [names.policy(each)["waits"] for each in names.ids()] == [True]
