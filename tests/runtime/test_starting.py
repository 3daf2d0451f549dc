"""How a created container is started, by Python and by the shell that `bin/oci-run` begins with."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds

pytestmark = pytest.mark.root
TOP = Path(__file__).resolve().parent.parent.parent
RUN = TOP / "bin/oci-run"


@pytest.fixture
def shell(tmp_path: Path) -> str:
    """oci-run whose Python fails with code 42: what it can do all the same, its shell does."""
    (tmp_path / "environment/bin").mkdir(parents=True)
    shutil.copy(RUN, tmp_path / "environment/bin/oci-run")
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 42\n")
    python.chmod(0o755)
    (tmp_path / "environment/pyvenv.cfg").write_text(f"home = /usr/bin\nexecutable = {python}\n")
    return str(tmp_path / "environment/bin/oci-run")


@pytest.fixture
def root(box: Any, tmp_path: Path) -> Iterator[str]:
    """A root of states for containers of the box's bundle, none of which is left."""
    place = tmp_path / "states"
    yield str(place)
    for path in place.iterdir() if place.exists() else ():
        done(RUN, place, "delete", "--force", path.name)


def done(program: Any, root: Any, *words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    words = (*(("--root", root) if root else ()), *(str(word) for word in words))
    with open(os.devnull, "rb") as null:
        return subprocess.run([program, *words], text=True, stdin=null, stdout=null,
                              **{"stderr": subprocess.PIPE, **more})  # fmt: skip


def make(box: Any, root: str, id: str = "c", *words: str) -> Path:
    """A created container; its state directory.  What it says is dropped."""
    box.linux["cgroupsPath"] = f"/{box.id}-{id}"  # of tests beside this one there are others of this id
    box.save()
    with open(os.devnull, "wb") as null:
        made = done(RUN, root, "create", "-b", box.bundle, *words, id, stderr=null)
    assert made.returncode == 0
    return Path(root, id)


def status(root: str, id: str = "c") -> str:
    text = subprocess.check_output([RUN, "--root", root, "state", id])
    return str(json.loads(text)["status"])


def end(place: Path) -> None:
    """Kill the container's first process, and wait for it."""
    pid = int((place / "plain").read_text().split()[0])
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)


def test_a_shell_starts_and_deletes_what_is_plain(box: Any, root: str, shell: str) -> None:
    box.process["args"] = ["sleep", "1000"]
    place = make(box, root)
    groups = [Path(line) for line in (place / "plain").read_text().splitlines()[1:]]
    assert groups and all(group.is_dir() for group in groups)
    assert done(shell, root, "delete", "c").returncode == 42  # a created one wants killing
    assert done(shell, root, "--log", "/x", "--log-format", "json", "start", "c").returncode == 0
    assert status(root) == "running"
    assert done(shell, root, "start", "c").returncode == 42
    assert done(shell, root, "delete", "c").returncode == 42
    assert status(root) == "running"
    end(place)
    assert done(shell, root, "start", "c").returncode == 42
    assert done(shell, root, "delete", "--force", "c").returncode == 0
    assert not place.exists()
    assert not any(group.exists() for group in groups)
    assert done(shell, root, "delete", "c").returncode == 42  # no such container: Python has the words for it


@pytest.mark.parametrize("words", [
    ["--debug", "start", "c"], ["start", "c", "d"], ["start"], ["start", "--attach", "c"], ["start", "../states/c"], ["start", "./c"],
    ["--log-format", "xml", "start", "c"], ["--log"], ["--root=", "start", "c"], ["start", "-a"], [], ["start", "c*"],
    ["delete", "--force", "--force", "c"], ["delete", "c", "--force"], ["delete", "--help"], ["state", "c"], ["start", ""],
])  # fmt: skip
def test_words_that_are_not_plain_are_left_to_python(box: Any, root: str, shell: str, words: list[str]) -> None:
    box.process["args"] = ["sleep", "1000"]
    make(box, root)
    answer = done(shell, root, *words)
    assert (answer.returncode, answer.stderr) == (42, "")
    assert status(root) == "created"


def test_a_paused_one_is_not_waited_for(box: Any, root: str, shell: str) -> None:
    box.process["args"] = ["sleep", "1000"]
    make(box, root)
    assert done(RUN, root, "pause", "c").returncode == 0
    assert done(shell, root, "start", "c").returncode == 42
    assert done(RUN, root, "start", "c").stderr == "oci-run: cannot start a container that is paused 'c'\n"
    assert done(RUN, root, "resume", "c").returncode == 0
    assert done(shell, root, "start", "c").returncode == 0


def test_elsewhere_without_a_root_is_left_to_python(box: Any, root: str, shell: str) -> None:
    """OCI_RUN moves the states, by rules that are Python's."""
    box.process["args"] = ["sleep", "1000"]
    place = make(box, root)
    env = {"PATH": "/bin", "OCI_RUN": f"{root}/x"}
    assert subprocess.run([shell, "start", str(place)[1:]], env=env).returncode == 42
    assert subprocess.run([shell, "start", "c"], env=env, cwd=root).returncode == 42
    assert status(root) == "created"


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_a_container_with_hooks_is_left_to_python(box: Any, root: str, shell: str, kind: str) -> None:
    box.process["args"] = ["true"]
    box.spec["hooks"] = {kind: [{"path": "/bin/true"}]}
    place = make(box, root)
    assert not (place / "plain").exists()
    assert done(shell, root, "start", "c").returncode == 42
    assert status(root) == "created"


def test_what_is_left_in_a_group_is_killed_as_ever(box: Any, root: str, shell: str) -> None:
    box.share("pid")
    box.process["args"] = ["sh", "-c", "sleep 1000 & exec sleep 1001"]
    place = make(box, root)
    groups = (place / "plain").read_text().splitlines()[1:]
    assert done(shell, root, "start", "c").returncode == 0
    while "sleep\x001000\0" not in children(groups):
        pass
    end(place)
    assert done(shell, root, "delete", "c").returncode == 42  # nor is anything broken by the attempt
    assert done(RUN, root, "delete", "c").returncode == 0
    assert not any(os.path.exists(group) for group in groups)


def children(groups: list[str]) -> list[str]:
    """The command lines of all in a container's groups."""
    group = next(path for path in groups if "/pids/" in path or "/cgroup/" in path)
    pids = Path(group, "cgroup.procs").read_text().split()
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_failure_after_the_start_is_said_by_who_started(box: Any, root: str) -> None:
    (box.rootfs / "bin/bad").write_bytes(b"\x7fELF is all there is of it")
    (box.rootfs / "bin/bad").chmod(0o755)
    box.process["args"] = ["/bin/bad"]
    make(box, root)
    started = done(RUN, root, "start", "c")
    assert (started.returncode, started.stderr) == (1, 'oci-run: exec /bin/bad: exec format error\n')
    assert status(root) == "stopped"
    make(box, root, "d")
    log = Path(root).parent / "log"
    done(RUN, root, "--log", log, "--log-format", "json", "start", "d")
    assert "exec format error" in json.loads(log.read_text())["msg"]


@pytest.mark.parametrize("fails", [False, True])
def test_of_many_who_start_one_wins(box: Any, root: str, fails: bool) -> None:
    (box.rootfs / "bin/bad").write_bytes(b"\x7fELF is all there is of it")
    (box.rootfs / "bin/bad").chmod(0o755)
    box.process["args"] = ["/bin/bad"] if fails else ["sleep", "1000"]
    make(box, root)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: done(RUN, root, "start", "c"), range(8))]
    assert [each.returncode for each in found].count(0) == (0 if fails else 1)
    for each in found:
        assert each.returncode == 0 or (len(each.stderr.splitlines()) == 1 and each.stderr.startswith("oci-run: "))
        assert "bug" not in each.stderr


def test_who_asks_and_dies_does_no_harm(box: Any, root: str) -> None:
    box.process["args"] = ["sleep", "1000"]
    place = make(box, root)
    answer = os.open(place / "answer.fifo", os.O_RDONLY | os.O_NONBLOCK)
    os.close(answer)
    assert status(root) == "created"
    start = os.open(place / "start.fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(start, b"start")
    os.close(start)
    while status(root) != "running":
        pass
    assert done(RUN, root, "start", "c").returncode == 1


def test_many_delete_at_once(box: Any, root: str) -> None:
    box.process["args"] = ["true"]
    place = make(box, root)
    done(RUN, root, "start", "c")
    while status(root) != "stopped":
        pass
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: done(RUN, root, "delete", "c"), range(8))]
    assert 0 in [each.returncode for each in found]
    late = {"container does not exist 'c' (oci-run list shows those that there are)", "cannot delete container 'c': it is being created"}  # half of it has gone
    assert {each.stderr for each in found if each.returncode} <= {f"oci-run: {text}\n" for text in late}
    assert not place.exists()


def test_who_is_being_made_is_not_deleted(box: Any, root: str, shell: str) -> None:
    place = make(box, root)
    end(place)
    lock = subprocess.Popen(["flock", place, "sh", "-c", "echo; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert lock.stdout is not None and lock.stdin is not None
    lock.stdout.readline()
    assert done(shell, root, "delete", "c").returncode == 42
    lock.communicate(b"\n")
    assert done(shell, root, "delete", "c").returncode == 0


@pytest.mark.needs("strace")
@pytest.mark.parametrize("verb", ["start", "delete"])
def test_a_shell_killed_at_any_system_call(box: Any, root: str, tmp_path: Path, verb: str) -> None:
    """kill -9 of it, or of a program it runs: what it did not do is done by the next one."""
    box.process["args"] = ["true"] if verb == "delete" else ["sleep", "1000"]
    trace = tmp_path / "trace"

    def traced(*how: str) -> Path:
        place = make(box, root)
        if verb == "delete":
            done(RUN, root, "start", "c")
            while status(root) != "stopped":
                pass
        done("strace", "", "-qqq", "-f", "-o", trace, *how, RUN, "--root", root, verb, "c")
        return place

    traced()
    calls = [line.split(None, 2)[1].partition("(")[0] for line in trace.read_text().splitlines() if "(" in line and "resumed" not in line]
    first = next(at for at, line in enumerate(trace.read_text().splitlines()) if f"{root}/c" in line)
    done(RUN, root, "delete", "--force", "c")
    steps = range(first, len(calls))
    for at in random.Random(verb).sample(steps, rounds(6, len(steps))):
        place = traced(f"--inject={calls[at]}:signal=KILL:when={calls[: at + 1].count(calls[at])}")
        if verb == "start":
            assert status(root) in ("created", "running")
        elif place.exists():
            assert status(root) == "stopped"
            assert done(RUN, root, "delete", "c").returncode == 0
        done(RUN, root, "delete", "--force", "c")
        assert not place.exists()


def test_the_shell_leaves_the_environment_as_it_is(box: Any, root: str, tmp_path: Path) -> None:
    """Its variables are its own: hooks are given ours."""
    box.process["args"] = ["true"]
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/seen\n")
    hook.chmod(0o755)
    box.spec["hooks"] = {"poststart": [{"path": str(hook)}]}
    make(box, root)
    given = dict.fromkeys(("self", "python", "key", "value", "sealed", "root", "id", "verb", "pid", "stat"), "kept")
    assert done(RUN, root, "start", "c", env={**given, "PATH": "/bin"}).returncode == 0
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert {name: seen[name] for name in given} == given
    assert not any(name.lower().startswith(("oci_", "_oci")) for name in seen)
