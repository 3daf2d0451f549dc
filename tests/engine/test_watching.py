"""ocid and its containers: adoption, boot, and that nothing is lost whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from oci_tools.engine import containers
from tests.conftest import BIN
from tests.daemon import Connection
from tests.long import rounds

pytestmark = pytest.mark.root
BUSYBOX = "docker.io/library/busybox:latest"


def start(oci: Any) -> Any:
    daemon = oci.start("ocid", stdout=subprocess.PIPE, text=True)
    assert daemon.stdout.readline().startswith("unix://")
    return daemon


@pytest.fixture
def ocid(oci: Any, busybox: Path) -> Any:
    """An ocid and the image; its containers are removed with the test."""
    oci.preload(BUSYBOX, busybox)
    daemon = start(oci)
    yield daemon
    for container in oci("run", "list", "-q").stdout.split():
        oci("run", "rm", "-f", container)


def place(oci: Any, container: str) -> Path:
    return Path(oci.env["OCI_ROOT"]) / "containers" / container


def detach(oci: Any, *words: str) -> str:
    return str(oci("run", "-d", *words).stdout.strip())


def held(pid: int) -> list[str]:
    """What the descriptors of a process are."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def monitor(oci: Any, container: str) -> int:
    return int((place(oci, container) / "lock").read_text())


def parts(pid: int) -> list[int]:
    """The processes of an ocid's own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"/ocid" in Path(f"/proc/{child}/cmdline").read_bytes()] or [pid]


def gone(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)


def until(true: Any) -> None:
    """Wait for what another process is to do: it says so by no descriptor of ours."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def looked_after(oci: Any, container: str, not_by: int) -> bool:
    pid = monitor(oci, container)
    return pid != not_by and os.path.exists(f"/proc/{pid}")


def test_a_killed_monitor_has_a_successor(ocid: Any, oci: Any) -> None:
    script = "n=0; while true; do n=$((n+1)); echo line $n; [ -e /end ] && exit 7; done"
    container = detach(oci, "busybox", "sh", "-c", script + "; true")
    for _ in range(3):
        before = monitor(oci, container)
        os.kill(before, signal.SIGKILL)
        until(lambda b=before: looked_after(oci, container, b))
    oci("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert oci("run", "wait", container).stdout == "7\n"


def test_a_terminal_outlives_its_monitor(ocid: Any, oci: Any) -> None:
    script = "trap 'exit 9' HUP; until [ -e /end ]; do sleep 0.05; done; echo at end; exit 5"
    container = detach(oci, "-t", "busybox", "sh", "-c", script)
    until(lambda: any("ptmx" in link for link in held(ocid.pid)))  # what the monitor has sent
    before = monitor(oci, container)
    os.kill(before, signal.SIGKILL)
    until(lambda: looked_after(oci, container, before))
    oci("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert oci("run", "wait", container).stdout == "5\n"
    assert oci("run", "logs", container).stdout == "at end\r\n"


def test_a_terminal_loses_no_line_with_its_monitor(ocid: Any, oci: Any) -> None:
    container = detach(oci, "-t", "--log-opt", "max-file=99", "busybox", "sh", "-c", NUMBERS)
    for _ in range(rounds(3, 50)):
        until(lambda: any("ptmx" in link for link in held(ocid.pid)))
        before = monitor(oci, container)
        os.kill(before, signal.SIGKILL)
        until(lambda b=before: looked_after(oci, container, b))
    oci("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert oci("run", "wait", container).stdout == "42\n"
    *lines, last = oci("run", "logs", container, binary=True).stdout.decode().split("\r\n")[:-1]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)] and last == f"end {len(lines)}"


def guards(oci: Any) -> set[int]:
    """The processes that guard all containers: they know their sockets."""
    names = os.listdir(f"{oci.env['OCI_RUN']}/guards")
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    listening = {row[6] for row in rows if row[-1].rpartition("/")[2] in names}
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has just ended, or is nobody's business
            found |= {int(pid) for link in held(int(pid)) if link[8:-1] in listening and link.startswith("socket:")}
    return found


COUNTING = (
    "trap 'exit 9' HUP; n=0; until [ -e /end ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo end; exit 5"
)


def ends_well(oci: Any, container: str) -> None:
    """One that counts on a terminal has lost nothing."""
    oci("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert oci("run", "wait", container).stdout == "5\n"
    *lines, last = oci("run", "logs", container, binary=True).stdout.decode().split("\r\n")[:-1]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)] and last == "end"


@pytest.mark.parametrize("who", [("ocid", "monitor"), ("ocid", "forker"), ("forker", "monitor"), ("ocid",)], ids="+".join)
def test_two_killed_at_once_and_then_the_monitor(ocid: Any, oci: Any, who: tuple[str, ...]) -> None:
    """Its terminal, its lines and its exit code outlive them, with another ocid or without."""
    container = detach(oci, "-t", "busybox", "sh", "-c", COUNTING)
    until(lambda: any("ptmx" in link for link in held(ocid.pid)))
    [forker] = guards(oci)
    until(lambda: any("ptmx" in link for link in held(forker)))
    before = monitor(oci, container)
    processes = {"ocid": ocid.pid, "forker": forker, "monitor": before}
    for each in who:
        os.kill(processes[each], signal.SIGKILL)
    for each in who:
        gone(processes[each]) if each != "ocid" else ocid.communicate()
    if "forker" in who:
        if "ocid" in who:
            start(oci)
        until(lambda: any("ptmx" in link for pid in guards(oci) for link in held(pid)))
    if "monitor" not in who:
        os.kill(before, signal.SIGKILL)
    until(lambda: looked_after(oci, container, before))
    ends_well(oci, container)


def test_a_stopped_ocid_leaves_guards_who_are_not_needed_for_ever(ocid: Any, oci: Any) -> None:
    container = detach(oci, "-t", "busybox", "sh", "-c", COUNTING)
    until(lambda: any("ptmx" in link for link in held(ocid.pid)))
    ocid.terminate()
    ocid.communicate()
    until(lambda: len(guards(oci)) == 2)
    left = guards(oci)
    for each in left:  # one after the other: there are always two
        os.kill(each, signal.SIGKILL)
        until(lambda e=each: len(guards(oci) - {e}) == 2)
    before = monitor(oci, container)
    os.kill(before, signal.SIGKILL)
    until(lambda: looked_after(oci, container, before))
    ends_well(oci, container)
    until(lambda: not guards(oci))


def test_an_orphan_that_is_removed_leaves_no_descriptors(ocid: Any, oci: Any) -> None:
    """Though the ocid that would have adopted it was stopped meanwhile."""
    container = detach(oci, "busybox", "sleep", "1000")
    [forker] = guards(oci)
    until(lambda: any(container in link for link in held(forker)))
    ocid.send_signal(signal.SIGSTOP)
    before = monitor(oci, container)
    os.kill(before, signal.SIGKILL)
    gone(before)
    oci("run", "rm", "-f", container)
    ocid.send_signal(signal.SIGCONT)
    until(lambda: detach(oci, "--rm", "busybox", "true") and not any(container in link for pid in (ocid.pid, forker) for link in held(pid)))


def test_an_input_outlives_its_monitor(ocid: Any, oci: Any) -> None:
    """It ends when it is said to, not before."""
    container = detach(oci, "-i", "busybox", "sh", "-c", "while read x; do echo got $x; done; echo end; exit 3")
    until(lambda: any(link.endswith("io/stdin") for link in held(ocid.pid)))
    before = monitor(oci, container)
    os.kill(before, signal.SIGKILL)
    until(lambda: looked_after(oci, container, before))
    done = oci("run", "attach", container, input="one\ntwo\n", code=3)
    assert done.stdout == "got one\ngot two\nend\n"


def test_what_ends_while_nobody_looks_is_recorded(ocid: Any, oci: Any) -> None:
    container = detach(oci, "busybox", "sh", "-c", "mkfifo /gate; read x </gate; echo last words; exit 3")
    pid = json.loads(oci("run", "state", container).stdout)["pid"]
    oci("run", "exec", container, "sh", "-c", "until [ -p /gate ]; do :; done")
    until(lambda: any(container in link for link in held(ocid.pid)))
    ocid.send_signal(signal.SIGSTOP)
    os.kill(monitor(oci, container), signal.SIGKILL)
    oci("run", "exec", container, "sh", "-c", "echo x >/gate", code=None)
    until(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text() if os.path.exists(f"/proc/{pid}") else True)
    ocid.send_signal(signal.SIGCONT)
    assert oci("run", "wait", container).stdout == "3\n"
    assert oci("run", "logs", container).stdout == "last words\n"


def test_boot(ocid: Any, oci: Any) -> None:
    words = ("busybox", "sleep", "1000")
    unless = detach(oci, "--name", "unless", "--restart", "unless-stopped", *words)
    always = detach(oci, "--name", "always", "--restart", "always", "--requires", "unless", *words)
    stopped = detach(oci, "--restart", "unless-stopped", *words)
    never = detach(oci, *words)
    ocid.terminate()
    ocid.communicate()
    oci("run", "stop", "-t", "0", stopped, always)
    for container in (unless, never):  # as if the power had gone
        pid = json.loads(oci("run", "state", container).stdout)["pid"]
        os.kill(monitor(oci, container), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        gone(pid)
    start(oci)
    running = {"unless": unless, "always": always}
    until(lambda: all(json.loads(oci("run", "state", each).stdout)["status"] == "running" for each in running.values()))
    until((place(oci, never) / "exit.json").exists)
    assert json.loads(oci("run", "state", stopped).stdout)["status"] == "stopped"
    assert json.loads(oci("run", "state", never).stdout)["status"] == "stopped"


def test_order() -> None:
    needs = {"a": ["b"], "b": ["c"], "c": [], "d": ["a", "d"], "e": ["f"], "f": ["e"]}
    made = containers.order(list("dabce"), needs.__getitem__)
    assert made[:4] == ["c", "b", "a", "d"] and sorted(made[4:]) == ["e", "f"]


NUMBERS = (
    "n=0; while [ ! -e /end ]; do n=$((n+1)); echo line $n; [ $((n % 50)) = 0 ] && sleep %s; done; echo end $n; exit 42"
).replace("%s", str(rounds(1, 50) / 100))  # fifty of them leave something of two processors


def test_whoever_is_killed_no_line_and_no_code_is_lost(ocid: Any, oci: Any) -> None:
    names = [detach(oci, "--log-opt", "max-file=99", "busybox", "sh", "-c", NUMBERS) for _ in range(rounds(4, 50))]
    first = {each: json.loads(oci("run", "state", each).stdout)["pid"] for each in names}
    chance, daemon = random.Random(1), ocid
    until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) > 3 * len(names))  # it holds them
    for _ in range(rounds(8, 200)):
        what = chance.choice(["ocid", "part", "monitor", "monitor"])
        if what == "monitor":
            container = chance.choice(names)
            before = monitor(oci, container)
            os.kill(before, signal.SIGKILL)
            until(lambda c=container, b=before: looked_after(oci, c, b))
        elif what == "part":  # the forker or the API's process
            os.kill(chance.choice(parts(daemon.pid)), signal.SIGKILL)
        else:
            daemon.kill()
            daemon.communicate()
            daemon = start(oci)
    assert {each: json.loads(oci("run", "state", each).stdout)["pid"] for each in names} == first
    for container in names:
        oci("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert oci("run", "wait", *names).stdout == "42\n" * len(names)
    for container in names:
        lines = oci("run", "logs", container).stdout.splitlines()
        assert lines[-1] == f"end {len(lines) - 1}"
        assert lines[:-1] == [f"line {n}" for n in range(1, len(lines))]


def nice(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_who_answers_comes_before_what_is_started(ocid: Any, oci: Any) -> None:
    """Nobody inherits that."""
    wanted = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    container = request(oci, "POST", "/containers/create", wanted)["Id"]
    request(oci, "POST", f"/containers/{container}/start", None)
    assert sorted(map(nice, parts(ocid.pid))) == [-15, 0] and nice(ocid.pid) == nice(monitor(oci, container)) == 0
    assert nice(json.loads(oci("run", "state", container).stdout)["pid"]) == 0


# Asks for the list of containers every 20 ms until its input ends; says how many milliseconds each answer took.  It has the
# processor before all that runs, for it is not what is measured.
ASKING = """
import http.client, os, select, socket, sys, time
os.setpriority(os.PRIO_PROCESS, 0, -20)
if os.path.exists("/proc/self/autogroup"):
    open("/proc/self/autogroup", "w").write("-20")
while not select.select([0], [], [], 0.02)[0]:
    before = time.monotonic()
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(sys.argv[1])
    client.request("GET", "/containers/json?all=1")
    assert client.getresponse().read()
    client.close()
    print((time.monotonic() - before) * 1000)
"""


class Asking:
    """A client that asks while a `with` block lasts; its text says how long answers took."""

    def __init__(self, oci: Any) -> None:
        words = [sys.executable, "-IS", "-c", ASKING, f"{oci.env['OCI_RUN']}/ocid.sock"]
        self._process: Any = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._reader = threading.Thread(target=lambda: self._took.extend(map(float, self._process.stdout)))
        self._took: list[float] = []

    def __enter__(self) -> Asking:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()
        assert self._process.wait() == 0

    def __str__(self) -> str:
        took = sorted(self._took)
        rows = [f"{name} {took[int((len(took) - 1) * part)]:.0f}" for name, part in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("longest", 1))]
        return f"{len(took)} answers: {', '.join(rows)} ms"


def test_a_thousand_that_crash_do_no_harm(ocid: Any, oci: Any) -> None:
    """Their pauses grow by themselves; ocid answers, and holds no more than of each it needs.

    The longest answer is one that had to wait for a disk that others write to: OCI_RUN, else in memory, is on one here.
    """
    words = ("--restart", "always", "busybox", "false")
    with Asking(oci) as starting:
        made = [detach(oci, *words) for _ in range(rounds(5, 1000))]
    with Asking(oci) as crashing:
        until(lambda: all(json.loads((place(oci, each) / "start.json").read_text())["restarts"] > 1 for each in made))
        time.sleep(rounds(0, 20))
    print(f"load {os.getloadavg()[0]:.0f}; while they are started: {starting}; then: {crashing}")
    assert ocid.poll() is None
    assert len(held(ocid.pid)) < 40 + 6 * len(made)
    oci("run", "rm", "-f", *made)
    until(lambda: not any(each in link for link in held(ocid.pid) for each in made))


def test_a_full_disk_loses_lines_and_stops_nobody(ocid: Any, oci: Any, tmp_path: Path) -> None:
    """Its end is recorded all the same."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        container = detach(oci, "--log-opt", "max-size=1g", "busybox", "sh", "-c", "mkfifo /f; read x </f; seq 1000000; exit 6")
        log = place(oci, container) / "log"
        os.kill(monitor(oci, container), signal.SIGSTOP)
        subprocess.run(["mount", "--bind", small, log], check=True)
        before = monitor(oci, container)
        os.kill(before, signal.SIGKILL)  # the next one's log is on the small disk
        until(lambda: looked_after(oci, container, before))
        oci("run", "exec", container, "sh", "-c", "until [ -p /f ]; do :; done; echo x >/f", code=None)
        assert oci("run", "wait", container).stdout == "6\n"
        assert (small / "log").stat().st_size > 1 << 20
        gone(monitor(oci, container))  # which has the disk in use
    finally:
        subprocess.run(["umount", place(oci, container) / "log"], check=True)
        subprocess.run(["umount", small], check=True)


def test_a_log_reader_that_stalls_stops_nobody(ocid: Any, oci: Any) -> None:
    container = detach(oci, "busybox", "sh", "-c", "mkfifo /f; read x </f; seq 500000; exit 4")
    reader = oci.start("run", "logs", "-f", container, stdout=subprocess.PIPE)
    reader.send_signal(signal.SIGSTOP)
    oci("run", "exec", container, "sh", "-c", "until [ -p /f ]; do :; done; echo x >/f", code=None)
    assert oci("run", "wait", container).stdout == "4\n"
    reader.send_signal(signal.SIGCONT)
    assert reader.stdout.read().count(b"\n") == 500000


def test_a_fork_bomb_is_ended(ocid: Any, oci: Any) -> None:
    container = detach(oci, "--pids-limit", "100", "busybox", "sh", "-c", "f() { f | f & }; f; sleep 1000")
    oci("run", "stop", "-t", "0", container)
    assert oci("run", "wait", container).stdout in ("137\n", "2\n") and ocid.poll() is None  # 2: its own shell got none


def test_an_upgrade_keeps_what_runs(ocid: Any, oci: Any) -> None:
    container = detach(oci, "--restart", "always", "busybox", "sleep", "1000")
    stopped = detach(oci, "--restart", "always", "busybox", "sleep", "1000")
    oci("run", "stop", "-t", "0", stopped)
    ocid.send_signal(signal.SIGUSR2)
    assert ocid.stdout.readline().startswith("unix://")
    before = monitor(oci, container)
    os.kill(before, signal.SIGKILL)
    until(lambda: looked_after(oci, container, before))
    assert json.loads(oci("run", "state", stopped).stdout)["status"] == "stopped", "it is no boot"


UNIFIED, NAMED = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd")


@pytest.fixture
def unit(oci: Any, busybox: Path) -> Any:
    """An ocid in groups of its own, as a service manager starts one: their directories, and the ocid."""
    tops = [each for each in (UNIFIED, NAMED, Path("/sys/fs/cgroup")) if (each / "cgroup.procs").exists()]
    places = [top / f"ocid-test-{os.getpid()}" for top in tops]
    if not places:
        pytest.skip("no cgroup hierarchy that keeps processes")
    for place in places:
        place.mkdir()
    oci.preload(BUSYBOX, busybox)
    enter = "".join(f"echo 0 >{place}/cgroup.procs; " for place in places)
    argv = ["sh", "-c", enter + 'exec "$@"', "-", f"{BIN}/ocid"]
    daemon = subprocess.Popen(argv, env=oci.env, stdout=subprocess.PIPE, text=True)
    assert daemon.stdout and daemon.stdout.readline().startswith("unix://")
    yield places, daemon
    kill_all(places)
    daemon.wait()
    daemon.stdout.close()
    for place in places:
        until(lambda p=place: not (p / "cgroup.procs").read_text())
        for below, _, _ in os.walk(place, topdown=False):
            os.rmdir(below)


def kill_all(places: list[Path]) -> None:
    for pid in {pid for place in places for pid in (place / "cgroup.procs").read_text().split()}:
        os.kill(int(pid), signal.SIGKILL)


def groups(pid: int) -> list[str]:
    """Where a process is, in the hierarchies by which service managers keep what they start."""
    rows = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return [path for _, names, path in rows if not names or names.startswith("name=")]


def test_who_stops_its_unit_stops_no_container(unit: Any, oci: Any) -> None:
    """All that is in its groups is killed, as systemd does without KillMode=process."""
    places, daemon = unit
    wanted = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    container = request(oci, "POST", "/containers/create", wanted)["Id"]
    request(oci, "POST", f"/containers/{container}/start", None)
    pid = json.loads(oci("run", "state", container).stdout)["pid"]
    looks = monitor(oci, container)
    assert groups(daemon.pid) == [f"/{place.name}" for place in places]
    assert groups(looks) == ["/oci/monitors"] * len(places)
    assert not any(place.name in path for place in places for path in groups(pid))
    kill_all(places)
    daemon.communicate()
    assert monitor(oci, container) == looks and os.path.exists(f"/proc/{looks}")
    assert json.loads(oci("run", "state", container).stdout)["status"] == "running"
    oci("run", "stop", "-t", "0", container)
    assert oci("run", "wait", container).stdout == "137\n"
    gone(looks)
    for place in places:
        assert not (place.parent / "oci").exists()
    oci("run", "rm", container)


def request(oci: Any, method: str, path: str, body: Any) -> Any:
    connection = Connection(f"{oci.env['OCI_RUN']}/ocid.sock")
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    data = connection.getresponse().read()
    connection.close()
    return json.loads(data) if data else None


def test_no_descriptor_stays_of_a_payload_whose_state_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may be deleted between the two looks at its state."""
    monkeypatch.setenv("OCI_RUN", str(tmp_path))
    before = held(os.getpid())
    assert containers.opened("gone", os.getpid()) == -1
    (tmp_path / "runtime/odd").mkdir(parents=True)
    (tmp_path / "runtime/odd/state.json").write_text("{}")
    assert containers.opened("odd", os.getpid()) == -1
    assert len(held(os.getpid())) == len(before)
