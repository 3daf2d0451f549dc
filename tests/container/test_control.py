"""`oci-run stop` and `rm`, and what may not be done in which state."""

import json
import os
import subprocess

import pytest

pytestmark = pytest.mark.root

# Says which signal came; the shell is the payload and may not be waiting in a child.
TELLS = "for s in TERM INT USR1; do trap \"echo $s; exit 4\" $s; done; mkfifo /g; echo ready; read x <>/g"


def ready(run, oci, *words):
    run("-d", "--name", "web", *words)
    with oci.start("run", "logs", "-f", "web", stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout.readline() == "ready\n"
        following.terminate()


@pytest.mark.parametrize(("options", "words", "name"), (
    ((), (), "TERM"),
    (("--stop-signal", "USR1"), (), "USR1"),
    (("--stop-signal", "SIGUSR1"), ("-s", "INT"), "INT"),
))  # fmt: skip
def test_stop_asks(run, oci, options, words, name):
    ready(run, oci, *options, "busybox", "sh", "-c", TELLS)
    run("stop", *words, "web")
    assert run("wait", "web").stdout == "4\n" and run("logs", "web").stdout == f"ready\n{name}\n"
    run("stop", "web")  # twice is no error
    run("rm", "web")


def test_stop_asks_as_the_image_says(run, oci, busybox, tmp_path):
    oci("image", "config", "--stop-signal", "SIGUSR1", "busybox")
    ready(run, oci, "busybox", "sh", "-c", TELLS)
    run("stop", "web")
    assert run("logs", "web").stdout == "ready\nUSR1\n"
    run("rm", "web")


def test_stop_kills_what_does_not_hear(run, oci):
    ready(run, oci, "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do read x </dev/zero; done")
    run("stop", "-t", "0", "web")
    assert run("wait", "web").stdout == "137\n"
    run("rm", "web")


def test_stop_of_a_paused_one(run, oci):
    ready(run, oci, "busybox", "sh", "-c", TELLS)
    run("pause", "web")
    assert json.loads(run("state", "web").stdout)["status"] == "paused"
    assert "it is paused" in run("rm", "web", code=1).stderr
    run("stop", "web")
    assert run("logs", "web").stdout == "ready\nTERM\n" and run("wait", "web").stdout == "4\n"
    run("rm", "web")


def test_several(run):
    for name in ("one", "two"):
        run("-d", "--name", name, "busybox", "sleep", "1000")
    done = run("stop", "-t", "0", "one", "nope", "two", code=1)
    assert done.stderr == "oci-run: no such container 'nope' (oci-run list shows those that there are)\n"
    assert "is running" not in run("rm", "one", "two").stderr


def test_rm(run, oci, tmp_path):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    assert "it is running (oci-run stop, or -f)" in run("rm", "web", code=1).stderr
    assert "cannot remove" in run("rm", "nope", "web", code=1).stderr
    run("rm", "-f", "web", "nope")
    assert os.listdir(tmp_path / "root/containers") == []
    assert "no such container 'web'" in run("rm", "web", code=1).stderr


def test_rm_of_a_paused_one(run):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    run("pause", "web")
    run("rm", "-f", "web")


def test_rm_of_the_foreground(run, oci):
    process = oci.start("run", "-i", "--name", "web", "busybox", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"
    run("rm", "-f", "web")
    assert process.wait() == 137


def test_rm_of_the_runtimes_own(oci, box):
    box("create")
    assert "it is created" in oci("run", "rm", box.id, code=1).stderr
    oci("run", "rm", "-f", box.id)
    assert oci("run", "list", "-q").stdout == ""


def test_rm_at_once(run, oci, tmp_path):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    removing = [oci.start("run", "rm", "-f", "web", stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in removing] == [("", 0)] * 3
    assert os.listdir(tmp_path / "root/containers") == []


def test_start_at_once(run, oci):
    """One of them starts it; the others say that it runs."""
    run("new", "--name", "web", "busybox", "sleep", "1000")
    starting = [oci.start("run", "start", "web", stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted((process.communicate()[1].partition("'")[0], process.returncode) for process in starting)
    assert said == [("", 0)] + [("oci-run: cannot start an already running container ", 1)] * 2
    run("rm", "-f", "web")


def test_rename_while_it_runs(run):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    run("-d", "--name", "taken", "busybox", "sleep", "1000")
    run("rename", "web", "other")
    assert "container does not exist" in run("state", "web", code=1).stderr
    assert json.loads(run("state", "other").stdout)["name"] == "other"
    assert "container name is in use 'taken'" in run("rename", "other", "taken", code=1).stderr
    run("rm", "-f", "other", "taken")
    run("--name", "other", "busybox", "true")
