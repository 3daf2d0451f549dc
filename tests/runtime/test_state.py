"""What is known between two commands: ids, locks, a status that is computed and never remembered."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import pytest

from oci_tools.errors import Busy, Error
from oci_tools.linux.process import start_time
from oci_tools.runtime import state


@pytest.mark.parametrize("name", ["a", "A9", "_x", "+x", "-x", "a.b", "a..b", "x" * 1024, "0"])
def test_ids(name: str) -> None:
    state.check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a b", "a\n", "a\0b", "é", "x" * 1025, "a:b", "~", "a\\b"])
def test_what_is_no_id(name: str) -> None:
    with pytest.raises(Error, match="invalid container id") as caught:
        state.check_id(name)
    if name.startswith(("a/", "é", ".")):
        assert str(caught.value).endswith(f"': invalid character `{name.lstrip('a')[0]}` in the ID")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "deep/root")


def test_made_once_and_for_ones_own_eyes(root: str) -> None:
    path = state.make(root, "c")
    assert os.stat(root).st_mode & 0o077 == 0 == os.stat(path).st_mode & 0o077
    with pytest.raises(Error, match="already exists"):
        state.make(root, "c")
    assert state.ids(root) == ["c"]
    Path(root, "stray file").touch()
    Path(root, "link").symlink_to("c")
    assert state.ids(root) == ["c"]
    assert state.ids(f"{root}/nothing") == []


def test_a_create_that_was_killed_early_can_be_seen(root: str) -> None:
    state.make(root, "c")
    known = state.load(root, "c")
    assert (known["pid"], state.status(root, known)) == (0, "stopped")
    with pytest.raises(Error, match="does not exist"):
        state.load(root, "d")


def test_the_status_is_that_of_the_world(root: str) -> None:
    path = state.make(root, "c")
    with subprocess.Popen(["sleep", "1000"]) as process:
        known = {"id": "c", "pid": process.pid, "startTime": start_time(process.pid)}
        assert state.status(root, known) == "running"
        os.mkfifo(f"{path}/start.fifo")
        waiting = os.open(f"{path}/start.fifo", os.O_RDWR)
        assert state.status(root, known) == "created"
        assert select.select([waiting], [], [], 0)[0] == []  # to look says nothing
        assert state.status(root, {**known, "startTime": known["startTime"] + 1}) == "stopped"  # the pid is another's
        with state.Lock(root, "c"):
            assert state.status(root, known) == "creating"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state.status(root, known) == "stopped"  # though its zombie is still there
        os.close(waiting)
    assert os.listdir(path) == ["start.fifo"]  # to look has made nothing


def test_a_lock_of_what_has_gone(root: str) -> None:
    path = state.make(root, "c")
    with state.Lock(root, "c") as lock:
        assert lock.is_current()
        with pytest.raises(Busy), state.Lock(root, "c", timeout=0):
            pass
        os.rmdir(path)
        assert not lock.is_current()
        os.mkdir(path)
        assert not lock.is_current()
    os.rmdir(path)
    with pytest.raises(Error, match="no such file"), state.Lock(root, "c"):
        pass
    assert os.listdir(root) == []


def test_a_state_that_cannot_be_read(root: str) -> None:
    path = state.make(root, "c")
    Path(path, "state.json").write_text("{")
    with pytest.raises(Error, match="not valid json"):
        state.load(root, "c")
