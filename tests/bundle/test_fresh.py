"""What is made beside its place: whole or not at all, by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci_tools import fs
from oci_tools.bundle.fresh import Fresh
from oci_tools.errors import Busy, Error


def test_it_is_there_when_it_is_done(tmp_path: Path) -> None:
    with Fresh(f"{tmp_path}/x") as fresh:
        os.mkdir(fresh.place)
        assert os.listdir(tmp_path) == [".x.oci-unpack.new"]
        fresh.done()
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_empty_directory_gives_way(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with Fresh(f"{tmp_path}/x") as fresh:
        if kind == "file":
            Path(fresh.place).write_text("x")
        else:
            Path(fresh.place, "in").mkdir(parents=True)
        fresh.done()
    assert (tmp_path / "x").is_file() == (kind == "file")


@pytest.mark.parametrize("there", ["file", "full", "link", "nowhere"])
def test_what_is_there_stays(there: str, tmp_path: Path) -> None:
    place = tmp_path / "x"
    if there == "file":
        place.write_text("x")
    elif there == "full":
        (place / "in").mkdir(parents=True)
    else:
        place.symlink_to("other" if there == "nowhere" else ".")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Error, match="it is there already"), Fresh(str(place)):
        pass
    assert sorted(os.listdir(tmp_path)) == before


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Fresh(f"{tmp_path}/x") as fresh:
        Path(fresh.place, "half").mkdir(parents=True)
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_two_at_once_and_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".x.oci-unpack.new/new/half").mkdir(parents=True)
    with Fresh(f"{tmp_path}/x") as fresh:
        assert not os.path.lexists(fresh.place)
        with pytest.raises(Busy), Fresh(f"{tmp_path}/x"):
            pass
        Path(fresh.place).write_text("x")
        fresh.done()
    assert os.listdir(tmp_path) == ["x"]


def test_one_that_finishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory goes between being found and being locked."""
    enter = fs.Lock.__enter__

    def late(lock: fs.Lock) -> fs.Lock:
        found = enter(lock)
        os.rmdir(lock.path)
        return found

    monkeypatch.setattr(fs.Lock, "__enter__", late)
    with pytest.raises(Busy), Fresh(f"{tmp_path}/x"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_strangers_directory_is_not_used(kind: str, tmp_path: Path) -> None:
    (tmp_path / "theirs/new/kept").mkdir(parents=True)
    work = tmp_path / ".x.oci-unpack.new"
    if kind == "link":
        work.symlink_to("theirs")
    else:
        (tmp_path / "theirs").rename(work)
        os.chown(work, 12345, 12345)
    with pytest.raises(Error), Fresh(f"{tmp_path}/x"):
        pass
    assert (work / "new/kept").is_dir() and not (tmp_path / "x").exists()
