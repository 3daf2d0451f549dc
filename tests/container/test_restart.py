"""Restart policies, as data and as lived; health checks that lead to them; what is known of an end."""

import json
import os
import subprocess
import time

import pytest

from oci_tools.container import health, restart
from oci_tools.errors import Usage


def place(tmp_path):
    (found,) = (tmp_path / "root/containers").iterdir()
    return found


def record(tmp_path, name="exit"):
    return json.loads((place(tmp_path) / f"{name}.json").read_text())


def test_words():
    made = restart.parse("on-failure:5,delay=1s,max=30s,reset=1m,factor=3,jitter=0.5,unhealthy")
    assert made == {
        "name": "on-failure", "max": 5, "delay": 1.0, "longest": 30.0, "reset": 60.0, "factor": 3.0, "jitter": 0.5,
        "unhealthy": True,
    }  # fmt: skip
    for bad in ("", "sometimes", "always:3", "on-failure:x", "always,delay=x", "always,factor=0.5", "always,y=1", "no,jitter=2"):
        with pytest.raises(Usage):
            restart.parse(bad)


@pytest.mark.parametrize(
    "text, code, count, stopped, expected",
    [
        ("no", 1, 0, False, False), ("always", 0, 9, False, True), ("always", 0, 0, True, False),
        ("on-failure", 0, 0, False, False), ("on-failure", 1, 99, False, True), ("on-failure:2", 1, 1, False, True),
        ("on-failure:2", 1, 2, False, False), ("unless-stopped", 0, 0, False, True),
    ],
)  # fmt: skip
def test_again(text, code, count, stopped, expected):
    assert restart.again(restart.parse(text), code, count, stopped) == expected


def test_pauses():
    policy = restart.parse("always,delay=1s,max=5s,factor=2,jitter=0.5")
    assert [restart.pause(policy, row, 0.5) for row in range(5)] == [1, 2, 4, 5, 5]
    assert restart.pause(policy, 0, 0) == 0.5 and restart.pause(policy, 0, 1) == 1.5
    assert restart.pause({"name": "always"}, 1000, 0.5) == 60


@pytest.mark.root
def test_until_it_succeeds(run, tmp_path):
    script = "echo x >>/count; test $(wc -l </count) = 3"
    run("-d", "--name", "web", "--restart", "on-failure,delay=10ms", "busybox", "sh", "-c", script)
    assert run("wait", "web").stdout == "0\n"
    assert record(tmp_path, "start")["restarts"] == 2
    run("rm", "web")


@pytest.mark.root
def test_what_is_known_of_an_end(run, tmp_path):
    run("-d", "--name", "web", "--memory", "8m", "busybox", "sh", "-c", "tail /dev/zero")
    code = run("wait", "web").stdout
    seen = record(tmp_path)
    if code == "137\n":
        assert seen["oomKilled"] and seen["signal"] == 9
    assert seen["code"] == int(code) and seen.get("oomKilled")
    run("rm", "web")
    run("-d", "--name", "web", "busybox", "sh", "-c", "kill -TERM $$; sleep 1000 & wait")
    run("stop", "-t", "0", "web")
    assert record(tmp_path)["signal"] == 9 and record(tmp_path)["code"] == 137
    run("rm", "web")


@pytest.mark.root
def test_stopped_in_its_pause(run, tmp_path):
    run("-d", "--name", "web", "--restart", "always,delay=1000s", "busybox", "false")
    while not (place(tmp_path) / "exit.json").exists():
        time.sleep(0.01)
    assert "restarting" in record(tmp_path)
    run("stop", "web")
    assert run("wait", "web").stdout == "1\n" and "restarting" not in record(tmp_path)
    run("rm", "web")


@pytest.mark.root
def test_removed_in_its_pause(run, tmp_path):
    run("-d", "--name", "web", "--restart", "always,delay=1000s", "busybox", "false")
    while not (place(tmp_path) / "exit.json").exists():
        time.sleep(0.01)
    run("rm", "-f", "web")
    assert os.listdir(tmp_path / "root/containers") == []


@pytest.mark.root
def test_somebody_who_ends_it_means_it(run, tmp_path):
    run("-d", "--name", "web", "--restart", "always", "busybox", "sleep", "1000")
    run("kill", "web", "KILL")
    assert run("wait", "web").stdout == "137\n"
    run("start", "web")
    assert json.loads(run("state", "web").stdout)["status"] == "running"
    run("update", "--restart", "no", "web")
    run("rm", "-f", "web")


@pytest.mark.root
def test_a_policy_that_changes_while_it_runs(run, oci, tmp_path):
    run("-d", "--name", "web", "--restart", "always,delay=10ms", "busybox", "sh", "-c", "mkfifo /f; read x </f; exit 3")
    run("update", "--restart", "no", "web")
    run("exec", "web", "sh", "-c", "until [ -p /f ]; do :; done; echo x >/f")
    assert run("wait", "web").stdout == "3\n"
    run("rm", "web")


@pytest.mark.root
def test_restart_is_a_stop_and_a_start(run, tmp_path):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    before = json.loads(run("state", "web").stdout)["pid"]
    run("restart", "-t", "0", "web")
    after = json.loads(run("state", "web").stdout)
    assert after["status"] == "running" and after["pid"] != before
    run("rm", "-f", "web")


@pytest.mark.root
def test_events_are_told_from_the_past_and_as_they_come(run, oci):
    run("-d", "--name", "web", "-l", "a=b", "busybox", "sh", "-c", "exit 3")
    run("wait", "web")
    told = [json.loads(line) for line in run("events", "--since", "1h", "--until", "0s").stdout.splitlines()]
    assert [each["Action"] for each in told] == ["create", "start", "die"]
    assert told[2]["Actor"]["Attributes"] == {
        "a": "b", "image": "docker.io/library/busybox:latest", "name": "web", "exitCode": "3", "execDuration": "0",
    }  # fmt: skip
    only = run("events", "--since", "1h", "--until", "0s", "-f", "event=die", "-f", "container=web", "-f", "label=a=b")
    assert only.stdout.count("\n") == 1
    assert run("events", "--since", "1h", "--until", "0s", "-f", "label=a=c").stdout == ""
    assert "invalid value for --filter" in run("events", "-f", "x=y", code=2).stderr
    run("rm", "web")
    assert '"destroy"' in run("events", "--since", "1h", "--until", "0s", "-f", "event=destroy").stdout


# -- health ----------------------------------------------------------------------------------

CHECK = ("--health-interval", "50ms", "--health-retries", "2")


@pytest.mark.root
def test_healthy_and_not(run, tmp_path):
    run("-d", "--name", "web", "--health-cmd", "cat /ok", *CHECK, "busybox", "sleep", "1000")
    run("exec", "web", "sh", "-c", "echo well >/ok")
    assert run("wait", "--condition", "healthy", "web").stdout == "healthy\n"
    seen = record(tmp_path, "health")
    assert seen["Status"] == "healthy" and seen["FailingStreak"] == 0
    assert seen["Log"][-1]["ExitCode"] == 0 and seen["Log"][-1]["Output"] == "well\n"
    run("exec", "web", "rm", "/ok")
    while record(tmp_path, "health")["Status"] != "unhealthy":
        time.sleep(0.01)
    seen = record(tmp_path, "health")
    assert seen["Log"][-1]["ExitCode"] == 1 and "ok" in seen["Log"][-1]["Output"] and len(seen["Log"]) <= 5
    run("rm", "-f", "web")


@pytest.mark.root
def test_unhealthy_is_started_again(run, tmp_path):
    words = ["--restart", "on-failure,unhealthy,delay=10ms", "--stop-timeout", "0"]
    script = "echo x >>/count; test $(wc -l </count) = 1 || touch /ok; sleep 1000"
    run("-d", "--name", "web", *words, "--health-cmd", "test -f /ok", *CHECK, "busybox", "sh", "-c", script)
    assert run("wait", "--condition", "healthy", "web").stdout == "healthy\n"
    assert record(tmp_path, "start")["restarts"] == 1
    run("rm", "-f", "web")


@pytest.mark.root
@pytest.mark.parametrize("action, code", [("kill", 137), ("stop", 137)])
def test_unhealthy_is_ended(run, action, code):
    words = ["--health-on-failure", action, "--stop-timeout", "0", "--health-cmd", "exit 1", *CHECK]
    run("-d", "--name", "web", *words, "busybox", "sleep", "1000")
    assert run("wait", "web").stdout == f"{code}\n"
    run("rm", "web")


@pytest.mark.root
def test_a_check_that_takes_too_long_is_killed(run, tmp_path):
    words = ["--health-timeout", "100ms", "--health-cmd", "echo begun; sleep 987654"]
    run("-d", "--name", "web", *words, *CHECK, "busybox", "sleep", "1000")
    while record(tmp_path, "health")["Status"] != "unhealthy":
        time.sleep(0.01)
    seen = record(tmp_path, "health")["Log"][-1]
    assert seen["ExitCode"] == -1 and seen["Output"].startswith("Health check exceeded timeout (100ms)")
    run("rm", "-f", "web")


@pytest.mark.root
def test_a_flood_of_output_is_cut(run, tmp_path):
    run("-d", "--name", "web", "--health-cmd", "yes | head -c 1000000", *CHECK, "busybox", "sleep", "1000")
    run("wait", "--condition", "healthy", "web")
    assert len(record(tmp_path, "health")["Log"][-1]["Output"]) == 4096
    run("rm", "-f", "web")


@pytest.mark.root
def test_how_much_is_kept_of_checks(run, tmp_path):
    words = ["--health-max-log-count", "2", "--health-max-log-size", "5000", "--health-log-destination", "logs"]
    assert "cannot log health checks 'logs': no such directory" in run("-d", *words, "--health-cmd", "true", "busybox", "true", code=125).stderr
    (tmp_path / "logs").mkdir()
    made = run("-d", "--name", "web", *words, "--health-cmd", "yes | head -c 1000000", *CHECK, "busybox", "sleep", "1000").stdout.strip()
    kept = tmp_path / f"logs/{made}-healthcheck.log"
    while kept.exists() is False or [len(each["Output"]) for each in json.loads(kept.read_text())["Log"]] != [5000, 5000]:
        time.sleep(0.01)
    assert len(record(tmp_path, "health")["Log"]) == 2
    run("rm", "-f", "web")
    assert "Log" in json.loads(kept.read_text()), "it is whoever's has asked for it"
    for option, most in (("count", 1000), ("size", 1 << 20)):
        word = f"--health-max-log-{option}"
        said = run("-d", word, str(most + 1), "--health-cmd", "true", "busybox", "true", code=2).stderr
        assert f"invalid value for {word} '{most + 1}'" in said


@pytest.mark.root
def test_failures_at_first_do_not_count(run, tmp_path):
    words = ["--health-start-period", "1000s", "--health-start-interval", "20ms", "--health-cmd", "test -f /ok"]
    run("-d", "--name", "web", *words, *CHECK, "busybox", "sleep", "1000")
    while len(record(tmp_path, "health")["Log"]) < 5:
        time.sleep(0.01)
    assert record(tmp_path, "health")["Status"] == "starting" and record(tmp_path, "health")["FailingStreak"] == 0
    run("exec", "web", "touch", "/ok")
    run("wait", "--condition", "healthy", "web")
    run("rm", "-f", "web")


@pytest.mark.root
def test_a_startup_check_comes_first(run, tmp_path):
    words = ["--health-startup-cmd", "test -f /up", "--health-startup-interval", "20ms", "--health-startup-retries", "1000"]
    run("-d", "--name", "web", *words, "--health-cmd", "true", *CHECK, "busybox", "sleep", "1000")
    while len(record(tmp_path, "health")["Log"]) < 3:
        time.sleep(0.01)
    assert record(tmp_path, "health")["Status"] == "starting"
    run("exec", "web", "touch", "/up")
    run("wait", "--condition", "healthy", "web")
    run("rm", "-f", "web")


@pytest.mark.root
def test_waiting_for_what_cannot_come(run):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    assert "no health check" in run("wait", "--condition", "healthy", "web", code=1).stderr
    run("stop", "-t", "0", "web")
    assert run("wait", "--condition", "not-running", "web").stdout == "137\n"
    run("rm", "web")
    made = run("new", "busybox", "true").stdout.strip()
    assert run("wait", "--condition", "not-running", made).stdout == "0\n"
    run("rm", made)
    for bad in (["--no-healthcheck", "--health-cmd", "x"], ["--health-cmd", "x", "--health-interval", "x"], ["--rm", "--restart", "always"]):
        run("-d", *bad, "busybox", "true", code=2)


@pytest.mark.root
def test_what_is_required_is_started_first(run):
    base = run("new", "--name", "base", "busybox", "sleep", "1000").stdout.strip()
    run("-d", "--name", "web", "--requires", "base", "busybox", "sleep", "1000")
    assert json.loads(run("state", base).stdout)["status"] == "running"
    run("stop", "-t", "0", "web", "base")
    run("start", "web")
    assert json.loads(run("state", base).stdout)["status"] == "running"
    assert "no such container" in run("-d", "--requires", "nobody", "busybox", "true", code=125).stderr
    run("rm", "-f", "web", "base")


def test_all_that_a_check_has_started():
    """In sessions of their own, too."""
    script = "setsid sh -c 'sleep 1000 & echo $!; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as top:
        last = int(top.stdout.readline())
        found = health.family(top.pid)
        for each in found:
            os.kill(each, 9)
    assert found[0] == top.pid and last in found and len(found) >= 3


def test_a_check_is_as_old_as_the_kernel_says(tmp_path):
    """No clock that people set tells it, nor do times of files."""
    probe = health._Probe.__new__(health._Probe)
    probe._pid_file, probe._begun, probe._seen = str(tmp_path / "pid"), time.monotonic(), 0.0
    assert probe._age() == 0, "it has not begun"
    with subprocess.Popen(["sleep", "1000"]) as check:
        (tmp_path / "pid").write_text(f"{check.pid}\n")
        os.utime(tmp_path / "pid", (0, 0))
        first = probe._age()
        time.sleep(0.05)
        assert 0 <= first < probe._age() <= time.monotonic() - probe._begun
        check.kill()
