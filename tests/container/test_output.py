"""`oci-run logs`: what a detached container wrote, told again."""

import subprocess

import pytest

pytestmark = pytest.mark.root


def test_parts_of_it(run):
    run("-d", "--name", "web", "busybox", "sh", "-c", "echo 1; echo 3; printf 4; echo 2 >&2")
    run("wait", "web")

    def told(*words):
        done = run("logs", *words, "web")
        return done.stdout, done.stderr

    assert told() == told("-n", "all") == told("--since", "1h") == told("--until", "0s") == ("1\n3\n4", "2\n")
    assert told("-n", "2") in (("4", "2\n"), ("3\n4", "")) and told("-n", "0") == ("", "")  # two streams have no order
    assert told("--since", "2099-01-01") == told("--until", "2000-01-01T00:00:00Z") == ("", "")
    stamped = run("logs", "-t", "web")
    first = stamped.stdout.split(" ")[0]
    assert [line.split(" ", 1)[1] for line in stamped.stdout.splitlines()] == ["1", "3", "4"]
    assert told("--since", first) == told() and told("--until", first)[0].startswith("1\n")
    assert "invalid value for --tail" in run("logs", "-n", "x", "web", code=2).stderr
    assert "invalid time" in run("logs", "--since", "x", "web", code=2).stderr
    run("rm", "web")


def test_following(run, oci):
    run("-d", "--name", "web", "busybox", "sh", "-c", "mkfifo /gate; echo ready; while read x; do echo got $x; done <>/gate")
    following = oci.start("run", "logs", "-f", "web", stdout=subprocess.PIPE, text=True)
    assert following.stdout.readline() == "ready\n"
    late = oci.start("run", "logs", "-f", "-n", "0", "web", stdout=subprocess.PIPE, text=True)
    for number in range(3):
        run("exec", "web", "sh", "-c", f"echo {number} >/gate")
        assert following.stdout.readline() == f"got {number}\n"
    run("stop", "-t", "0", "web")
    assert following.communicate()[0] == "" and following.returncode == 0
    assert set(late.communicate()[0].splitlines()) <= {"got 0", "got 1", "got 2"}
    assert run("logs", "-f", "web").stdout == "ready\ngot 0\ngot 1\ngot 2\n"
    run("rm", "web")


def test_following_across_rotation(run, oci):
    run("-d", "--name", "web", "--log-opt", "max-size=20k", "--log-opt", "max-file=99", "busybox", "sh", "-c",
        "mkfifo /gate; echo ready; read x </gate; seq 10000")  # fmt: skip
    following = oci.start("run", "logs", "-f", "web", stdout=subprocess.PIPE, text=True)
    assert following.stdout.readline() == "ready\n"
    run("exec", "web", "sh", "-c", "echo x >/gate")
    assert following.communicate()[0] == "".join(f"{n}\n" for n in range(1, 10001))
    run("rm", "web")


def test_one_that_starts_later_is_followed(run, oci):
    run("new", "--name", "web", "busybox", "echo", "x")
    assert "no log of container" in run("logs", "web", code=1).stderr
    run("start", "web")
    assert run("logs", "-f", "web").stdout == "x\n"
    run("start", "web")
    run("wait", "web")
    assert run("logs", "web").stdout == "x\nx\n"
    run("rm", "web")


def test_a_reader_that_goes_away(run, oci):
    run("-d", "--name", "web", "busybox", "seq", "100000")
    run("wait", "web")
    assert oci.shell("oci-run logs web | head -n 1; oci-run logs web >/dev/full", code=1).stdout == "1\n"
    run("rm", "web")
