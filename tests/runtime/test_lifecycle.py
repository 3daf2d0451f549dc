"""The life of a container: states, wrong-state errors, what stays on disk, what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fault import killing
from tests.long import LONG, rounds

pytestmark = pytest.mark.root


def say(box: Any, verb: str, *words: str) -> str:
    """The error of a verb that fails as it should."""
    done = box(verb, *words, code=1)
    assert done.stdout == "" or verb == "create"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("oci-run: ")
    return str(done.stderr)


# -- the states, one after the other -------------------------------------------------------


def test_a_life(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "echo started > /fifo; exec sleep 1000"]
    box.spec["annotations"] = {"org.example.key": "value"}
    assert "does not exist" in say(box, "state")
    assert "does not exist" in say(box, "start")
    assert "does not exist" in say(box, "kill", "9")
    assert "does not exist" in say(box, "delete")
    assert "does not exist" in say(box, "ps")
    box("delete", "--force")  # engines do that: no error

    box("create", "--pid-file", box.bundle / "pid")
    state = box.state
    pid = int((box.bundle / "pid").read_text())
    assert state == {
        "ociVersion": state["ociVersion"], "id": box.id, "pid": pid, "status": "created", "owner": "root",
        "bundle": str(box.bundle), "rootfs": str(box.rootfs), "created": state["created"],
        "annotations": {"org.example.key": "value"},
    }  # fmt: skip
    assert state["created"].endswith("Z")
    assert box.output.read_text() == ""  # the payload has not begun
    fifo = box.rootfs / "fifo"
    os.mkfifo(fifo)
    assert "already exists" in say(box, "create")
    assert "already exists" in say(box, "run")
    assert box("ps").stdout == f"{pid}\n"

    (box.bundle / "config.json").write_text("{}")  # edits after create have no effect
    box("start")
    assert box.state["status"] == "running"
    assert box.state["pid"] == pid
    assert fifo.read_text() == "started\n"
    assert "already running" in say(box, "start")
    assert "not stopped" in say(box, "delete")
    assert json.loads(box("ps", "--format", "json").stdout) == [pid]
    descriptor = os.pidfd_open(pid)
    box("kill", "KILL")
    ended(descriptor)
    assert box.state["status"] == "stopped"
    assert box.state["pid"] == 0
    assert "not running" in say(box, "kill", "9")
    assert "stopped" in say(box, "start")
    box("delete")
    assert "does not exist" in say(box, "delete")


def ended(descriptor: int) -> bool:
    """Wait for a process's end by its pidfd."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.close(descriptor)
    return True


def test_created_can_be_deleted_and_killed(box: Any) -> None:
    """runc and crun allow it, whatever the specification says, and engines rely on it."""
    box("create")
    box("delete")
    box("create")
    box("kill", "TERM")  # pid 1 of its namespace, and its handlers are not its own yet
    box("kill", "9")
    box("delete", "--force")


def test_force_ends_a_running_one(box: Any) -> None:
    box.process["args"] = ["sleep", "1000"]
    box("run", "--detach", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert box.state["status"] == "running"
    box("delete", "--force")


def test_list(box: Any) -> None:
    assert box.oci("run", "list").stdout == ""
    assert json.loads(box.oci("run", "list", "--format", "json").stdout) == []
    box("create")
    state = box.state
    columns = [box.id, "created", str(state["pid"]), str(box.bundle), state["created"]]
    assert box.oci("run", "list").stdout.rstrip("\n").split("\t")[:5] == columns
    assert box.oci("run", "list", "-q").stdout == box.id + "\n"
    assert json.loads(box.oci("run", "list", "--format", "json").stdout) == [state]
    box("delete", "--force")


def test_keep_leaves_a_stopped_container(box: Any) -> None:
    assert box.sh("exit 3", "--keep", code=3)
    assert box.state["status"] == "stopped"
    box("delete")


def test_another_state_root(box: Any, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere" / "deep"
    box.process["args"] = ["sleep", "1000"]
    box.save()
    box.oci("run", "--root", root, "run", "-d", "-b", box.bundle, box.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert "does not exist" in say(box, "state")
    assert json.loads(box.oci("run", "--root", root, "state", box.id).stdout)["status"] == "running"
    assert os.stat(root).st_mode & 0o077 == 0
    box.oci("run", "--root", root, "delete", "--force", box.id)
    assert list(root.iterdir()) == []


def test_pause_and_resume(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "while :; do sleep 0.01; done"]
    box("create")
    assert "created" in say(box, "resume")
    box("pause")
    assert box.state["status"] == "paused"
    assert "paused" in say(box, "start")
    box("resume")
    assert box.state["status"] == "created"
    box("start")
    box("pause")
    assert box.state["status"] == "paused"
    assert "paused" in say(box, "pause")
    assert "not stopped: paused" in say(box, "delete")
    box("resume")
    assert box.state["status"] == "running"
    assert "running" in say(box, "resume")
    box("pause")
    descriptor = os.pidfd_open(box.state["pid"])
    box("kill", "KILL")  # must not wait for a resume that never comes
    ended(descriptor)
    box("delete")


def test_a_paused_one_is_deleted_by_force(box: Any) -> None:
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    box("pause")
    box("delete", "--force")


@pytest.mark.skipif(not LONG, reason="ten seconds, after which delete gives up: --long")
@pytest.mark.skipif(not os.path.exists("/sys/fs/cgroup/freezer"), reason="needs cgroup v1")
def test_one_that_does_not_die_stays_whole(box: Any) -> None:
    """Somebody has moved it into a frozen group that is not its own: not even a kill -9 ends it there."""
    box.process["args"] = ["sleep", "1000"]
    box("create")
    other = Path(f"/sys/fs/cgroup/freezer/other-{os.getpid()}")
    other.mkdir()
    pid = box.state["pid"]
    descriptor = os.pidfd_open(pid)
    try:
        (other / "tasks").write_text(f"{pid}")
        (other / "freezer.state").write_text("FROZEN")
        said = box("delete", "--force", code=1).stderr
        assert said == f"oci-run: cannot delete container '{box.id}': its process was killed and has not ended yet\n"
        assert box.state["pid"] == pid and Path(f"/sys/fs/cgroup/pids/{box.id}").exists()
    finally:
        (other / "freezer.state").write_text("THAWED")
        ended(descriptor)
    box("delete", "--force")
    other.rmdir()


def test_documents_that_are_no_files(box: Any, tmp_path: Path) -> None:
    """No verb waits for somebody to write into a FIFO, or reads a device without an end."""
    box.process["args"] = ["sleep", "1000"]
    box("create")
    config = box.bundle / "config.json"
    for make, said in (
        (os.mkfifo, "nobody writes to this pipe"),
        (lambda path: os.symlink("/dev/zero", path), "larger than "),
        (os.mkdir, "is a directory"),
        (lambda path: os.symlink(path, path), "too many levels of symbolic links"),
    ):
        config.unlink(missing_ok=True)
        make(config)
        for words in (
            ("run", "create", "-b", box.bundle, "other"), ("spec", "check", box.bundle),
            ("run", "exec", "--process", config, box.id), ("run", "update", "-r", config, box.id),
        ):  # fmt: skip
            done = box.oci(*words, code=None)
            assert done.returncode == (255 if "exec" in words else 1), done
            assert done.stderr.startswith(f"oci-{words[0]}: cannot read '{config}': {said}"), done
            assert done.stderr.count("\n") == 1
        if config.is_dir() and not config.is_symlink():
            config.rmdir()
    config.unlink()
    box("delete", "--force")


@pytest.mark.parametrize("share", [False, True], ids=["own pids", "host's pids"])
def test_kill_all(box: Any, share: bool) -> None:
    if share:
        box.share("pid")
    box.process["args"] = ["sh", "-c", "sleep 1000 & setsid sleep 1000 & exec sleep 1000"]
    box("create")
    box("start")
    while len(box("ps").stdout.split()) < 3:
        pass
    everybody = [os.pidfd_open(int(pid)) for pid in box("ps").stdout.split()]
    box("kill", "KILL", *(() if share else ("--all",)))  # without a namespace, its death ends nobody else
    assert all(map(ended, everybody))
    box("delete")


def test_a_joined_pid_namespace_is_not_ones_own(box: Any) -> None:
    """SIGKILL to its first process kills that alone, since it is not the namespace's pid 1."""
    with subprocess.Popen(["unshare", "-p", "--fork", "--kill-child", "sleep", "1000"]) as other:
        children = Path(f"/proc/{other.pid}/task/{other.pid}/children")
        while not (inside := children.read_text().split()):
            pass
        box.namespace("pid", f"/proc/{inside[0]}/ns/pid")
        box.process["args"] = ["sh", "-c", "sleep 1000 & exec sleep 1000"]
        box("create")
        box("start")
        while len(box("ps").stdout.split()) < 2:
            pass
        everybody = [os.pidfd_open(int(pid)) for pid in box("ps").stdout.split()]
        box("kill", "KILL")
        assert all(map(ended, everybody))
        box("delete")
        other.kill()


# -- ids that lead elsewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "a/b", "/etc", "", "a b", "a\nb", "é", ".hidden", "x" * 1025, "a\udc80"]
)
@pytest.mark.parametrize("verb", ["create", "state", "start", "kill", "ps", "pause"])
def test_hostile_ids(box: Any, verb: str, name: str) -> None:
    box.id, own = name, box.id
    assert "invalid container id" in say(box, verb)
    box.id = own


def test_an_id_too_long_for_a_file_name(box: Any) -> None:
    own, box.id = box.id, "x" * 300
    assert "file name too long" in say(box, "create")
    box.id = own


def test_every_letter_of_an_id(box: Any) -> None:
    own, box.id = box.id, f"_+-.{box.id}"
    box("create")
    assert box.state["id"] == box.id
    box("delete")
    box.id = own


def test_a_state_root_that_is_somebody_elses(box: Any, public: Path) -> None:
    os.chown(public, 4242, 4242)
    box.save()
    done = box.oci("run", "--root", public, "create", "-b", box.bundle, box.id, code=1)
    assert "belongs to another user" in done.stderr


# -- more than one at once -----------------------------------------------------------------------


def test_one_of_two_creates_wins(box: Any) -> None:
    box.save()
    with open(box.output, "w") as out:
        both = [
            box.oci.start("run", "create", "-b", box.bundle, box.id, stdout=out, stderr=out) for _ in range(3)
        ]
    assert sorted(each.wait() for each in both) == [0, 1, 1]
    assert box.output.read_text().count("already exists") == 2
    assert box.state["status"] == "created"
    box("delete", "--force")


def test_one_of_two_starts_wins(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "echo once; exec sleep 1000"]
    box("create")
    both = [box.oci.start("run", "start", box.id, stderr=subprocess.PIPE) for _ in range(3)]
    assert sorted(each.wait() for each in both) == [0, 1, 1]
    assert all(b"already running" in each.stderr.read() for each in both if each.returncode)
    assert box.output.read_text() == "once\n"
    box("delete", "--force")


def test_two_deletes_by_force(box: Any) -> None:
    count = box.bundle / "count"
    box.spec["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo >> {count}"]}]}
    for _ in range(5):
        box("create")
        both = [box.oci.start("run", "delete", "--force", box.id, stderr=subprocess.PIPE) for _ in range(3)]
        assert [(each.wait(), each.stderr.read()) for each in both] == [(0, b"")] * 3
    assert count.read_text() == "\n" * 5  # the hooks of each ran once


def test_delete_by_force_under_a_run(box: Any) -> None:
    """`run` tells how its payload ended, whoever cleaned up."""
    count = box.bundle / "count"
    box.spec["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo >> {count}"]}]}
    box.process["args"] = ["sh", "-c", "echo; exec sleep 1000"]
    for _ in range(5):
        running = box.start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.stdout.readline()
        box("delete", "--force")
        assert running.wait() == 128 + 9
        assert running.stderr.read() == b""
    assert count.read_text() == "\n" * 5


def test_delete_by_force_under_a_create(box: Any, tmp_path: Path) -> None:
    """The hook holds the create while it is deleted; nothing of it may come to life afterwards."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    box.spec["hooks"] = {"createRuntime": [{"path": "/bin/cat", "args": ["cat", str(fifo)]}]}
    box.save()
    with open(box.output, "w") as out:
        creating = box.oci.start("run", "create", "-b", box.bundle, box.id, stdout=out, stderr=out)
    with open(fifo, "w"):
        assert box.state["status"] == "creating"
        assert "being created" in say(box, "delete")
        assert "creating" in say(box, "start")
        deleting = box.oci.start("run", "delete", "--force", box.id)
    assert deleting.wait() == 0
    assert creating.wait() in (0, 1)


# -- killed between two steps ----------------------------------------------------------------------


# What is called before each verb, if it is not what makes it run; what follows the verb, and stands for what.
BEFORE = {
    "create": [], "run": [], "start": ["create"], "delete": ["create"], "resume": ["create", "start", "pause"],
    "mount rm": ["create", "start", "mount add"], "restore": ["create", "start", "checkpoint"],
}  # fmt: skip
AFTER = {
    "create": "-b BUNDLE ID", "run": "-b BUNDLE ID", "exec": "ID true", "update": "--pids-limit 50 ID", "kill": "ID KILL",
    "mount add": "-t tmpfs ID none /tmp", "mount rm": "ID /tmp", "checkpoint": "--image-path IMAGES ID",
    "restore": "-d -b BUNDLE --image-path IMAGES ID",
}  # fmt: skip
ALONE = ("create", "restore")  # what they leave behind runs on, and strace waits for all that it follows
VERBS = ("create", "run", "start", "delete", "exec", "kill", "update", "pause", "resume", "mount add", "mount rm", "checkpoint", "restore")
STEPS = killing.CALLS + (
    ",clone,clone3,vfork,execve,exit_group,kill,pidfd_send_signal,sendmsg,sendto,recvmsg,close_range,fsopen,fsconfig,fsmount,"
    "open_tree,mount_setattr,pivot_root,chroot,chdir,fchdir,sethostname,setsid,setgroups,setresuid,capset,prctl,seccomp"
)


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("verb", "whole"), [*((verb, False) for verb in VERBS), *((verb, True) for verb in VERBS if verb not in ALONE)]
)
def test_killed_at_any_step(box: Any, tmp_path: Path, verb: str, whole: bool) -> None:
    """kill -9 of the runtime's own process, or of any of both sides, at each system call: a seeded sample of all."""
    if verb in ("checkpoint", "restore") and not shutil.which("criu"):
        pytest.skip("needs criu; tests/run --setup installs it on Debian as root")
    box.process["args"] = ["true"] if verb in ("create", "run", "start") else ["sleep", "1000"]
    box.spec["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "createContainer", "poststop")}
    box.save()
    images, quiet = tmp_path / "images", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    stands = {"ID": box.id, "BUNDLE": str(box.bundle), "IMAGES": str(images)}

    def after(verb: str) -> list[str]:
        return [stands.get(word, word) for word in AFTER.get(verb, "ID").split()]

    words = [box.oci.bin / "oci-run", *verb.split(), *after(verb)]

    def run(how: Any, *more: Any) -> Any:
        shutil.rmtree(images, ignore_errors=True)
        for each in BEFORE.get(verb, ["create", "start"]):
            box.oci("run", *each.split(), *after(each), **quiet)
        return how(words, *more, tmp_path / "trace", names=STEPS, whole=whole, env=box.oci.env, **quiet)

    run(killing.trace)  # which may write down what it has imported, and the next one does not
    box("delete", "--force")
    calls = run(killing.trace)
    box("delete", "--force")
    steps, codes = killing.points(calls), []
    for at in random.Random(f"{verb}{whole}").sample(steps, rounds(2 if whole else 3, len(steps))):
        codes.append(run(killing.kill, calls, at))
        box("delete", "--force")
        assert box.remains() == [], f"{calls[at]}, call {at} of {len(calls)}"
    assert set(codes) <= ({0, 1, 137, 255, -9} if whole else {0, -9})
    assert codes.count(-9) > len(codes) // 2 or whole  # what waits for others differs from run to run

def test_a_pidfd_by_socket(box: Any, tmp_path: Path) -> None:
    from tests.runtime.test_enter import received

    box.process["args"] = ["sleep", "1000"]
    name, pid = received(tmp_path, lambda path: box("create", "--pidfd-socket", path))
    assert (name, pid) == (b"standard", box.state["pid"])
    box("delete", "--force")


def test_an_unknown_capability_is_a_warning(box: Any) -> None:
    box.process["capabilities"]["bounding"].append("CAP_NOSUCH")
    assert box.sh("true").stderr == "oci-run: warning: process.capabilities: unknown capability 'CAP_NOSUCH'\n"


def test_signal_0_asks_whether_it_lives(box: Any) -> None:
    box("create")
    box("kill", "0")
    box("kill", "KILL")
    while box.state["status"] != "stopped":
        pass
    assert "container not running" in box("kill", "0", code=1).stderr
    box("delete")


# -- what engines and people of other runtimes expect to read -------------------------------------------


def test_ps_with_words_for_ps(box: Any) -> None:
    """runc's: a head, and of what ps prints only the container's processes."""
    box.process["args"] = ["sleep", "4711"]
    box("create")
    box("start")
    pid = str(box.state["pid"])
    lines = box.oci("run", "ps", box.id, "-o", "pid,args").stdout.splitlines()
    assert [line.split() for line in lines] == [["PID", "COMMAND"], [pid, "sleep", "4711"]]
    lines = box.oci("run", "ps", "--format", "table", box.id).stdout.splitlines()
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"] and lines[1].split()[1] == pid and len(lines) == 2
    assert "cannot run 'ps'" in box.oci("run", "ps", box.id, "--no-such-option", code=1).stderr
    said = box.oci("run", "ps", box.id, "-o", "pid", code=1, env={"PATH": "/nonexistent"}).stderr
    assert 'exec: "ps": executable file not found in $PATH' in said
    assert box.oci("run", "ps", box.id, "-o", "args", code=1).stderr.startswith("oci-run: cannot find the column PID")
    box("delete", "--force")


def test_list_as_runc_prints_it(box: Any) -> None:
    box("create")
    state = box.state
    for words in (["list", "--format", "table"], ["--root", f"{box.oci.env['OCI_RUN']}/runtime", "list"]):
        head, line = box.oci("run", *words).stdout.splitlines()
        assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        assert line.split() == [box.id, str(state["pid"]), "created", str(box.bundle), state["created"], "root"]
    box("delete", "--force")


@pytest.mark.parametrize("form", ["text", "json"])
def test_debug_says_what_is_made(box: Any, tmp_path: Path, form: str) -> None:
    box.process["args"] = ["true"]
    log = tmp_path / "log"
    box.save()
    done = box.oci("run", "--debug", "--log", log, "--log-format", form, "run", "-b", box.bundle, box.id)
    assert done.stderr == ""
    lines = log.read_text().splitlines()
    if form == "json":
        assert all(json.loads(line)["level"] == "debug" for line in lines)
    else:
        assert all(" level=debug msg=" in line for line in lines)
    assert any("mount proc" in line for line in lines) and any("capabilities" in line for line in lines)
    assert "level=debug" in box.oci("run", "--debug", "run", "-b", box.bundle, box.id).stderr


def test_many_by_a_regular_expression(box: Any, tmp_path: Path) -> None:
    """As crun has it: of the containers in a root, those in whose id the expression is found."""
    box.process["args"] = ["sleep", "1000"]
    box.save()
    root = ("--root", tmp_path / "states")
    names = [f"{box.id}-{name}" for name in ("web-1", "web-2", "db-1")]
    with open(os.devnull, "wb") as null:
        for name in names:
            box.oci("run", *root, "run", "-d", "-b", box.bundle, name, stdout=null, stderr=null)
    try:
        assert box.oci("run", *root, "kill", "--regex", "w.b-[12]$", "KILL").stdout == ""
        while any(box.oci("run", *root, "ps", name).stdout.count("\n") > 1 for name in names[:2]):
            pass
        box.oci("run", *root, "delete", "-r", "web")
        assert box.oci("run", *root, "list", "-q").stdout.split() == names[2:]
        assert box.oci("run", *root, "delete", "--regex", "web").stdout == ""  # none is no error
        wrong = box.oci("run", *root, "delete", "--regex", "(", code=2).stderr
        assert wrong.startswith("oci-run: invalid regular expression '(': ") and wrong.count("\n") == 1
        box.oci("run", *root, "delete", "--regex", "1$", code=1)  # it is running
    finally:
        box.oci("run", *root, "delete", "--force", "--regex", "")
    assert box.oci("run", *root, "list", "-q").stdout == ""
