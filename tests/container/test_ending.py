"""`oci-run wait`: the end of containers, whoever looks after them."""

import json
import subprocess

import pytest

pytestmark = pytest.mark.root


def waiting(oci, *words):
    """`wait` of containers that run, once it waits: it watches each."""
    process = oci.start("run", "wait", *words, stdout=subprocess.PIPE, text=True)
    oci.shell(f"until ls -l /proc/{process.pid}/fd | grep -q inotify; do :; done")
    return process


def test_while_it_runs_and_after(run, oci, tmp_path):
    run("-d", "--name", "web", "busybox", "sh", "-c", "trap 'exit 9' TERM; mkfifo /gate; read x </gate")
    process = waiting(oci, "web")
    run("exec", "web", "sh", "-c", "until [ -p /gate ]; do :; done; echo x >/gate")
    assert process.communicate()[0] == "0\n"
    assert run("wait", "web", "web").stdout == "0\n0\n"
    (record,) = tmp_path.glob("root/containers/*/exit.json")
    found = json.loads(record.read_text())
    assert found["code"] == 0 and found["version"] == 1 and found["finished"] > 10**18
    run("rm", "web")


def test_one_that_was_not_started(run, oci):
    run("new", "--name", "web", "busybox", "sh", "-c", "exit 6")
    process = waiting(oci, "web")
    run("start", "web")
    assert process.communicate()[0] == "6\n"
    run("rm", "web")


def test_one_that_is_removed_before_it_was_started(run, oci):
    run("new", "--name", "web", "busybox", "true")
    process = waiting(oci, "web")
    run("rm", "web")
    assert process.communicate()[0] == "" and process.returncode == 1


def test_of_the_foreground(run, oci):
    """A one-shot that goes with its end tells its code to who waits, and then goes."""
    process = oci.start("run", "-i", "--name", "web", "busybox", "sh", "-c", "echo x; read x; exit 3",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "x\n"
    awaited = waiting(oci, "web")
    process.communicate("\n")
    assert (process.returncode, awaited.communicate()[0]) == (3, "3\n")


def test_of_the_runtimes_own(oci, box):
    """Nobody of ours is its parent: the kernel knows, or nobody."""
    box.process["args"] = ["sh", "-c", "exit 8"]
    box("create")
    process = waiting(oci, box.id)
    box("start")
    said = process.communicate()[0]
    assert (said, process.returncode) in (("8\n", 0), ("", 1))
    assert "not known" in oci("run", "wait", box.id, code=1).stderr
    box("delete")


def test_of_several(run):
    run("-d", "--name", "one", "busybox", "sh", "-c", "exit 1")
    run("-d", "--name", "two", "busybox", "sh", "-c", "exit 2")
    done = run("wait", "two", "nope", "one", code=1)
    assert done.stdout == "2\n1\n" and done.stderr == "oci-run: no such container 'nope' (oci-run list shows those that there are)\n"
    run("rm", "one", "two")
