"""Detached containers: what looks after them, and what if that is killed."""

import json
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def place(tmp_path):
    (found,) = (tmp_path / "root/containers").iterdir()
    return found


def gone(pid):
    """Wait until a process that is not our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)


def keeper(tmp_path):
    return int((place(tmp_path) / "lock").read_text())


def pid(oci, name):
    return json.loads(oci("run", "state", name).stdout)["pid"]


def test_both_streams_are_kept_to_the_last_byte(run):
    run("-d", "--name", "web", "busybox", "sh", "-c", "seq 20000; echo err >&2; printf end; exit 3")
    assert run("wait", "web").stdout == "3\n"
    told = run("logs", "web")
    assert told.stdout == "".join(f"{n}\n" for n in range(1, 20001)) + "end" and told.stderr == "err\n"
    run("rm", "web")


def test_what_it_leaves_running_does_not_keep_it(run):
    run("-d", "--name", "web", "busybox", "sh", "-c", "sleep 1000 & echo x")
    assert run("wait", "web").stdout == "0\n" and run("logs", "web").stdout == "x\n"
    run("rm", "web")


def test_the_callers_pipes_are_let_go(run):
    """`ID=$(oci-run -d ...)` returns at once: what it waits for is the end of a pipe."""
    done = run("-d", "--name", "web", "busybox", "sleep", "1000")
    assert len(done.stdout) == 65 and not done.stderr
    run("rm", "-f", "web")


def test_removed_with_its_end_and_waited_for(run, oci, tmp_path):
    run("-d", "--rm", "--name", "web", "busybox", "sleep", "1000")
    waiting = [oci.start("run", "wait", "web", stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in waiting:  # they hold its directory once they wait
        oci.shell(f"until ls -l /proc/{process.pid}/fd | grep -q '{place(tmp_path)}$'; do :; done")
    run("stop", "-t", "0", "web")
    assert [process.communicate()[0] for process in waiting] == ["137\n", "137\n"]
    while os.listdir(tmp_path / "root/containers"):
        time.sleep(0.01)  # its directory cannot be waited for once it has lost its place


def test_cannot_start(run, tmp_path):
    assert run("-d", "--name", "web", "busybox", "nope", code=127).stderr.startswith('oci-run: exec: "nope"')
    assert os.listdir(tmp_path / "root/containers") == []
    made = run("new", "--name", "web", "busybox", "nope").stdout.strip()
    assert run("start", "web", code=1).stderr.startswith('oci-run: exec: "nope"')
    assert run("wait", made).stdout == "127\n"
    run("rm", "web")


def killed(tmp_path):
    """Kill its monitor, and wait until another one looks after it."""
    before = keeper(tmp_path)
    os.kill(before, 9)
    gone(before)
    while keeper(tmp_path) == before:
        time.sleep(0.01)  # the file is the only one that knows


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_killed(run, oci, tmp_path):
    """Another one follows at once: no byte is lost, nor how it ends."""
    run("-d", "--name", "web", "busybox", "sh", "-c", "mkfifo /gate; echo before; read x </gate; echo after; exit 7")
    oci.shell(f"until grep -q before {place(tmp_path)}/log/log; do :; done")
    for _ in range(3):
        killed(tmp_path)
    assert json.loads(run("state", "web").stdout)["status"] == "running"
    assert "already running" in run("start", "web", code=1).stderr
    assert "it is running" in run("rm", "web", code=1).stderr
    waiting = oci.start("run", "wait", "web", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = pid(oci, "web")
    run("exec", "web", "sh", "-c", "until [ -p /gate ]; do :; done; echo x >/gate", code=None)  # it may be ended with it
    gone(first)
    assert (*waiting.communicate(), waiting.returncode) == ("7\n", "", 0)
    assert run("wait", "web").stdout == "7\n"
    assert run("logs", "web").stdout == "before\nafter\n"
    run("start", "web")  # again, with a new one
    assert json.loads(run("state", "web").stdout)["status"] == "running"
    run("rm", "-f", "web")


def test_killed_of_a_terminal(run, tmp_path):
    script = "trap 'exit 9' HUP; echo begin; until [ -e /end ]; do sleep 0.05; done; echo end; exit 5"
    run("-d", "-t", "--name", "web", "busybox", "sh", "-c", script)
    guard = parent(keeper(tmp_path))
    for _ in range(3):
        killed(tmp_path)
    upper = parent(guard)
    while parent(keeper(tmp_path)) not in (guard, upper):
        time.sleep(0.01)  # who has forked it is about to end
    run("exec", "web", "touch", "/end", code=None)  # it may be ended with it
    assert run("wait", "web").stdout == "5\n"
    assert run("logs", "web", binary=True).stdout == b"begin\r\nend\r\n"
    run("rm", "web")
    gone(guard)


def test_killed_of_an_input(run, tmp_path):
    """It ends when it is said to, not before."""
    run("-d", "-i", "--name", "web", "busybox", "sh", "-c", "while read x; do echo got $x; done; echo end; exit 3")
    for _ in range(3):
        killed(tmp_path)
    assert run("attach", "web", input="one\ntwo\n", code=3).stdout == "got one\ngot two\nend\n"
    run("rm", "web")


def test_killed_before_it_starts_it_again(run, tmp_path):
    script = "[ -e /second ] && exit 4; touch /second; exit 3"
    run("-d", "--restart", "on-failure:1,delay=1s", "--name", "web", "busybox", "sh", "-c", script)
    while not (place(tmp_path) / "exit.json").exists():
        time.sleep(0.01)  # the file is the only one that knows
    killed(tmp_path)
    assert run("wait", "web").stdout == "4\n"
    run("rm", "web")


def test_its_guard_killed(run, tmp_path):
    """Then only the monitor is left, and does what it did."""
    run("-d", "--name", "web", "busybox", "sh", "-c", "until [ -e /end ]; do sleep 0.05; done; echo end; exit 5")
    guard = parent(keeper(tmp_path))
    os.kill(guard, 9)
    gone(guard)
    run("exec", "web", "touch", "/end", code=None)  # it may be ended with it
    assert run("wait", "web").stdout == "5\n" and run("logs", "web").stdout == "end\n"
    run("rm", "web")


@pytest.mark.parametrize("who", [(0, 1), (0, 2), (1, 2)], ids=["monitor, guard", "monitor, upper guard", "guards"])
def test_two_killed_at_once(run, tmp_path, who):
    """Of a monitor and its two guards: no terminal, input, line or exit code is lost."""
    script = "trap 'exit 9' HUP; n=0; until [ -e /end ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo end; exit 5"
    run("-d", "-t", "--name", "web", "busybox", "sh", "-c", script)
    monitor = keeper(tmp_path)
    processes = monitor, parent(monitor), parent(parent(monitor))
    for each in who:
        os.kill(processes[each], 9)
    for each in who:
        gone(processes[each])
    while 0 in who and keeper(tmp_path) == monitor:
        time.sleep(0.01)  # the file is the only one that knows
    run("exec", "web", "touch", "/end", code=None)  # it may be ended with it
    assert run("wait", "web").stdout == "5\n"
    *lines, last = run("logs", "web", binary=True).stdout.decode().split("\r\n")[:-1]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)] and last == "end"
    run("rm", "web")


def test_last_words_of_an_input_whose_monitor_and_guard_are_killed(run, oci, tmp_path):
    run("-d", "-i", "--name", "web", "busybox", "sh", "-c", "read x; echo got $x; exit 7")
    monitor = keeper(tmp_path)
    upper = parent(parent(monitor))
    os.kill(upper, 19)  # it shall be late
    for each in monitor, parent(monitor):
        os.kill(each, 9)
        gone(each)
    first = pid(oci, "web")
    os.kill(first, 0)
    with open(place(tmp_path) / "io/stdin", "w") as file:
        file.write("word\n")
    while "State:\tZ" not in Path(f"/proc/{first}/status").read_text():
        time.sleep(0.01)  # its parent is stopped
    os.kill(upper, 18)
    assert run("wait", "web").stdout == "7\n" and run("logs", "web").stdout == "got word\n"
    run("rm", "web")


def test_a_guard_that_has_lost_its_twin_has_another(run, oci, tmp_path):
    run("-d", "-t", "--name", "web", "busybox", "sh", "-c", "trap 'exit 9' HUP; until [ -e /end ]; do sleep 0.05; done; exit 5")
    guards = place(tmp_path) / "io/guards"
    for level in (1, 2, 1):
        there = set(os.listdir(guards))
        each = keeper(tmp_path)
        for _ in range(level):
            each = parent(each)
            if b"web" not in Path(f"/proc/{each}/cmdline").read_bytes():
                break
        else:
            os.kill(each, 9)
            while len(set(os.listdir(guards)) - there) < 1:
                time.sleep(0.01)  # the new one's socket is all that tells of it
    killed(tmp_path)
    run("exec", "web", "touch", "/end", code=None)  # it may be ended with it
    assert run("wait", "web").stdout == "5\n"
    run("rm", "web")


def test_all_killed(run, oci, tmp_path):
    """Its container lives on and loses nothing that fits a pipe; its code is the kernel's to tell, or unknown."""
    run("-d", "--name", "web", "busybox", "sh", "-c", "mkfifo /gate; echo before; read x </gate; echo after; exit 7")
    oci.shell(f"until grep -q before {place(tmp_path)}/log/log; do :; done")
    monitor = keeper(tmp_path)
    guard = parent(monitor)
    doomed = parent(guard), guard, monitor
    for each in doomed:
        os.kill(each, 19)  # nobody sees another one die
    for each in doomed:
        os.kill(each, 9)
        gone(each)
    waiting = oci.start("run", "wait", "web", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = pid(oci, "web")
    run("exec", "web", "sh", "-c", "until [ -p /gate ]; do :; done; echo x >/gate", code=None)  # it may be ended with it
    gone(first)
    said, error = waiting.communicate()
    assert (said, waiting.returncode) in (("7\n", 0), ("", 1)) and (said or "not known" in error)
    assert "not known" in run("wait", "web", code=1).stderr
    assert run("logs", "web").stdout == "before\n"
    run("rm", "web")


def test_killed_of_one_that_is_to_go(run, oci, tmp_path):
    run("-d", "--rm", "busybox", "sleep", "1000")
    container = place(tmp_path).name
    os.kill(keeper(tmp_path), 9)
    first = pid(oci, container)
    run("busybox", "true")
    assert place(tmp_path).name == container, "it still runs"
    run("kill", container, "KILL")
    gone(first)
    run("busybox", "true")
    assert os.listdir(tmp_path / "root/containers") == []


def test_a_kill_for_want_of_memory_is_told_when_it_happens(run, oci):
    hungry = "while true; do x=$x$x$x; done"
    script = f"x=aaaaaaaa; sh -c 'x=aaaaaaaa; {hungry}'; echo survived; sleep 1000"
    run("-d", "--name", "web", "--memory", "16m", "--oom-score-adj", "0", "busybox", "sh", "-c", script)
    told = oci.start("run", "events", "--since", "1h", "--filter", "event=oom", stdout=subprocess.PIPE, text=True)
    event = json.loads(told.stdout.readline())
    assert event["Action"] == "oom" and event["Actor"]["Attributes"]["name"] == "web"
    told.terminate()
    assert json.loads(run("state", "web").stdout)["status"] == "running"
    run("rm", "-f", "web")


def test_signals_are_not_the_keepers(run, tmp_path):
    run("-d", "--name", "web", "busybox", "sleep", "1000")
    for number in (1, 2, 3, 15):
        os.kill(keeper(tmp_path), number)
    assert json.loads(run("state", "web").stdout)["status"] == "running"
    run("stop", "-t", "0", "web")
    assert run("wait", "web").stdout == "137\n"
    run("rm", "web")


def test_the_log_is_bounded(run, tmp_path):
    run("-d", "--name", "web", "--log-opt", "max-size=10k", "--log-opt", "max-file=3", "busybox", "seq", "100000")
    assert run("wait", "web").stdout == "0\n"
    files = sorted((place(tmp_path) / "log").iterdir())
    assert [file.name for file in files] == [".serial", "log", "log.1", "log.2"]
    assert sum(file.stat().st_size for file in files) <= 3 * 10240
    assert run("logs", "-n", "1", "web").stdout == "100000\n"
    assert "invalid value for --log-opt" in run("-d", "--log-opt", "x=1", "busybox", "true", code=2).stderr
    run("rm", "web")


def test_a_plain_user(plain_run):
    plain_run("-d", "--name", "web", "busybox", "sh", "-c", "echo x; exit 4")
    assert plain_run("wait", "web").stdout == "4\n" and plain_run("logs", "web").stdout == "x\n"
    plain_run("rm", "web")
