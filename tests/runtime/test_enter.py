"""`exec`: another process in a running container, as isolated as the first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def running(box: Any) -> Any:
    """A box whose payload sleeps."""
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    yield box
    box("delete", "--force")


def run(box: Any, *words: Any, code: int | None = 0, **more: Any) -> Any:
    """`oci-run exec`, options before the container's id: WORDS with "--" between them and the command."""
    at = words.index("--") if "--" in words else 0
    return box.oci("run", "exec", *words[:at], box.id, *words[at + bool(at) :], code=code, **more)


def test_it_is_where_the_first_is(running: Any) -> None:
    script = "for n in mnt net uts pid ipc cgroup user time; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done"
    links = run(running, "sh", "-c", script).stdout.split()
    assert links[::2] == links[1::2]
    rows = run(running, "cat", "/proc/self/cgroup").stdout.splitlines()
    places = {row.split(":")[1]: row.split(":")[2] for row in rows}
    assert {place for names, place in places.items() if names} <= {"/"}
    assert "/exec-" in places.get("", "/exec-")  # cgroup2: a group of its own, beneath
    pids = run(running, "sh", "-c", "echo $$; exec ps -o pid,args").stdout
    assert "sleep 1000" in pids


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_exit_codes(running: Any, code: int) -> None:
    assert run(running, "sh", "-c", f"exit {code}", code=code).stderr == ""


@pytest.mark.needs("strace")
def test_who_goes_between_is_killed(running: Any) -> None:
    """As the one that has joined is about to tell of the other, who waits for an answer to that."""
    killed = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=sendmsg", "-e", "inject=sendmsg:signal=KILL:when=1"]
    line = [*killed, running.oci.bin / "oci-run", "exec", running.id, "sleep", "4711"]
    said = running.oci.run(line, code=255).stderr
    assert said == "oci-run: cannot set up the container: the container side ended unexpectedly\n"
    assert "4711" not in run(running, "ps", "-o", "args").stdout


def test_what_fails_is_255(running: Any) -> None:
    for words, said in (
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc"], 'exec: "/etc": is a directory'),
        (["--cwd", "/nosuch", "--", "true"], "cannot change to directory '/nosuch': no such file or directory"),
        (["--user", "x", "--", "true"], None),
        ([], None),
    ):
        done = run(running, *words, code=None)
        assert done.returncode == 255 if said else done.returncode in (2, 255)
        if said:
            assert done.stderr == f"oci-run: {said}\n"


def test_killed_by_a_signal(running: Any) -> None:
    assert run(running, "sh", "-c", "kill -TERM $$", code=128 + 15).stdout == ""


def test_signals_are_passed_on(running: Any) -> None:
    words = ["exec", running.id, "sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done"]
    process = running.oci.start("run", *words, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 9


def test_streams(running: Any) -> None:
    done = run(running, "sh", "-c", "cat; echo error >&2", input="x" * 100_000)
    assert (done.stdout, done.stderr) == ("x" * 100_000, "error\n")


def test_options(running: Any) -> None:
    text = run(
        running, "--cwd", "/tmp", "-e", "A=b=c", "-e", "PATH=/bin", "--user", "1000:1001", "-g", "7", "-g", "8", "--",
        "sh", "-c", "pwd; echo $A $PATH; id -u; id -g; cat /proc/self/status",
    ).stdout  # fmt: skip
    rows = text.splitlines()
    assert rows[:4] == ["/tmp", "b=c /bin", "1000", "1001"]
    status = dict(row.split(":\t", 1) for row in rows[4:])
    assert {"7", "8"} <= set(status["Groups"].split())
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("1", ["1", "0"]), ("1:", ["1", "0"]), (":1", ["0", "1"]), ("user", ["1000", "1000"]), ("2147483648", ["2147483648", "0"]),
        ("4294967294:4294967294", ["4294967294"] * 2), ("4294967295", "ids end at"), ("4294967296", "ids end at"),
        ("99999999999999999999", "ids end at"), ("1:4294967296", "ids end at"), ("-1", "find user"), ("+1", "find user"),
        (" 1", "find user"), ("0x1", "find user"), ("1_0", "find user"), ("\u0663", "find user"), ("1:-1", "find group"), ("1:2:3", "find group"),
    ],
)  # fmt: skip
def test_users(running: Any, user: str, said: Any) -> None:
    """Numbers are what they say, and never names (CVE-2026-30892, CVE-2024-40635, CVE-2026-46680)."""
    (running.rootfs / "etc/passwd").write_text("root:x:0:0::/:\nuser:x:1000:1000::/:\n1:x:0:7::/:\n4294967296:x:0:0::/:\n")
    done = run(running, "--user", user, "--", "sh", "-c", "id -u; id -g", code=255 if isinstance(said, str) else 0)
    if isinstance(said, str):
        assert said in done.stderr and done.stderr.count("\n") == 1
    elif user == "1":  # its group is of the entry with that number, if there is one
        assert done.stdout.split()[0] == "1"
    else:
        assert done.stdout.split() == said


def test_capabilities(running: Any) -> None:
    """Added ones are not inheritable (CVE-2022-29162, CVE-2022-27650)."""
    from oci_tools.linux import caps

    names = "CapInh CapPrm CapEff CapBnd CapAmb".split()
    words = ["grep", "-E", "^Cap", "/proc/self/status"]
    plain = dict(row.split(":\t") for row in run(running, *words).stdout.splitlines())
    more = dict(row.split(":\t") for row in run(running, "--cap", "CAP_SYS_NICE", "--", *words).stdout.splitlines())
    first = Path(f"/proc/{running.state['pid']}/status").read_text()
    assert [plain[name] for name in names] == [row.split(":\t")[1] for row in first.splitlines() if row.startswith("Cap")]
    added = 1 << caps.NAMES.index("CAP_SYS_NICE")
    for name in names:
        expected = int(plain[name], 16) | (added if name in ("CapPrm", "CapEff", "CapBnd") else 0)
        assert int(more[name], 16) == expected, name


def test_a_process_as_a_document(running: Any, tmp_path: Path) -> None:
    document = {
        "args": ["sh", "-c", "id -u; pwd; umask; cat /proc/self/oom_score_adj; ulimit -n; echo $X"], "cwd": "/etc",
        "user": {"uid": 5, "gid": 5, "umask": 0o27}, "env": ["PATH=/bin", "X=y"], "oomScoreAdj": 77,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
    }  # fmt: skip
    (tmp_path / "process.json").write_text(json.dumps(document))
    done = run(running, "--process", tmp_path / "process.json", "--")
    assert done.stdout.split() == ["5", "/etc", "0027", "77", "99", "y"]
    del document["user"]  # it may: then it is root
    (tmp_path / "process.json").write_text(json.dumps({**document, "terminal": True, "args": ["sh", "-c", "id -u; tty"]}))
    assert run(running, "--process", tmp_path / "process.json", "--").stdout.split() == ["0", "/dev/pts/0"]
    (tmp_path / "process.json").write_text(json.dumps({**document, "cwd": 5}))
    assert "cwd" in run(running, "-p", tmp_path / "process.json", "--", code=255).stderr


def test_detached_with_a_pid_file(running: Any, tmp_path: Path) -> None:
    with open(running.output, "ab") as out:
        run(running, "-d", "--pid-file", tmp_path / "pid", "--", "sleep", "1000", stdout=out, stderr=out)
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\0"
    assert pid in json.loads(running("ps", "--format", "json").stdout)


def test_a_terminal(running: Any) -> None:
    done = run(running, "-t", "--", "sh", "-c", "tty; test -t 0 && test -t 1 && echo yes")
    assert done.stdout.split() == ["/dev/pts/0", "yes"]


def test_no_descriptor_gets_in(running: Any) -> None:
    line = f"exec 7</etc 9</etc/passwd; oci-run exec {running.id} sh -c 'cd /proc/self/fd; echo *'"
    assert set(running.oci.shell(line).stdout.split()) - {"0", "1", "2"} <= {"3", "10"}


def test_a_working_directory_by_descriptor(running: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for fd, cwd in ((3, "/proc/self/fd/3"), (7, "/proc/self/fd/7/x"), (3, "/proc/self/fd/3/..")):
        line = f"exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ {fd}<{outside}; oci-run exec --preserve-fds 7 --cwd {cwd} {running.id} ls"
        done = running.oci.shell(line, code=255)
        assert "directory" in done.stderr and done.stdout == ""
    assert os.listdir(outside) == []


def left_behind(running: Any, tmp_path: Path) -> int:
    """An exec whose first process has ended while another lives on; the pid of the first."""
    with open(running.output, "ab") as out:
        script = "sh -c 'sleep 1000 & sleep 1000 & wait' & echo ready > /tmp/ready"
        run(running, "-d", "--pid-file", tmp_path / "pid", "--", "sh", "-c", script, stdout=out, stderr=out)
    while not (running.rootfs / "tmp/ready").exists() or "exec sleep" in run(running, "ps", "-o", "args").stdout:
        pass
    return int((tmp_path / "pid").read_text())


def unified(running: Any) -> Path | None:
    """Where the groups of its execs are."""
    for top in Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"):
        if (top / "cgroup.procs").exists() and (top / running.id).exists():
            return Path(top / running.id)
    return None


def test_what_an_exec_left_behind_is_killed_as_a_tree(running: Any, tmp_path: Path) -> None:
    pid = left_behind(running, tmp_path)
    if unified(running) is None:
        pytest.skip("needs cgroup2")
    before = len(json.loads(running("ps", "--format", "json").stdout))
    assert before >= 3
    running("kill", "0", "--exec", str(pid))
    running("kill", "KILL", "--exec", str(pid))
    assert json.loads(running("ps", "--format", "json").stdout) == [running.state["pid"]]
    assert not list(unified(running).glob("exec-*"))  # type: ignore[union-attr]
    said = running("kill", "KILL", "--exec", str(pid), code=1).stderr
    assert said == f"oci-run: container has no exec of this pid '{pid}': none is known of container '{running.id}'\n"


def test_the_group_of_an_exec_goes_with_it(running: Any, tmp_path: Path) -> None:
    run(running, "true")
    run(running, "nosuch", code=255)
    top = unified(running)
    if top is None:
        pytest.skip("needs cgroup2")
    assert not list(top.glob("exec-*"))
    with open(running.output, "ab") as out:
        run(running, "-d", "--", "true", stdout=out, stderr=out)
    run(running, "true")
    left_behind(running, tmp_path)
    run(running, "true")
    assert len(list(top.glob("exec-*"))) == 1  # and nothing is left of it when the container goes: the fixture


def test_a_group_beneath_the_containers(running: Any) -> None:
    paths = json.loads((Path(running.oci.env["OCI_RUN"]) / "runtime" / running.id / "state.json").read_text())["cgroups"]
    names, path = next((names, path) for names, path in paths.items() if names in ("pids", ""))
    inner = Path(path) / "inner"
    inner.mkdir()
    said = run(running, "--cgroup", f"{names}:inner" if names else "inner", "--", "cat", "/proc/self/cgroup").stdout
    assert f":{names}:/inner\n" in said
    assert "/.." not in said  # nor is it left, in the hybrid's cgroup2, in the group of who calls
    assert ": adding pid 0 to cgroups: " in run(running, "--cgroup", "nosuch", "--", "true", code=255).stderr
    assert "bad sub cgroup path: a/../.. is not a sub cgroup path" in run(running, "--cgroup", "a/../..", "--", "true", code=255).stderr
    assert "unknown controller nosuch" in run(running, "--cgroup", "nosuch:/", "--", "true", code=255).stderr


def test_a_descriptor_that_is_not_there(running: Any) -> None:
    line = f"exec 3>&-; oci-run exec --preserve-fds 1 {running.id} true"
    assert "preserved-fd 0: bad file descriptor" in running.oci.shell(line, code=255).stderr


def test_a_script_whose_interpreter_is_not_there(running: Any) -> None:
    (running.rootfs / "lost.sh").write_text("#!/no/such\n")
    (running.rootfs / "lost.sh").chmod(0o755)
    said = run(running, "/lost.sh", code=255).stderr
    assert said == 'oci-run: exec /lost.sh: no such file or directory (no interpreter "/no/such")\n'


def test_debug_says_what_callers_of_runc_look_for(running: Any) -> None:
    wanted = {"args": ["/bin/true"], "cwd": "/", "execCPUAffinity": {"initial": "0"}}
    (running.bundle / "process.json").write_text(json.dumps(wanted))
    done = running.oci("run", "--debug", "exec", "--process", running.bundle / "process.json", running.id)
    for told in "nsexec: affinity: 0x1", "nsexec container setup", "child process in init()", "setns_init: about to exec ['/bin/true']":
        assert told in done.stderr


def test_a_pidfd_by_socket(running: Any, tmp_path: Path) -> None:
    name, pid = received(tmp_path, lambda path: run(running, "--pidfd-socket", path, "--", "true"))
    assert name == b"setns" and pid != running.state["pid"]


def test_an_unknown_capability_is_a_warning(running: Any) -> None:
    done = run(running, "--cap", "CAP_NOSUCH", "--", "true")
    assert done.stderr == "oci-run: warning: process.capabilities: unknown capability 'CAP_NOSUCH'\n"


def received(place: Path, action: Any) -> tuple[bytes, int]:
    """What comes over a socket while `action` runs: the word, and the pid of the descriptor."""
    import socket

    path = place / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        action(path)
        with server.accept()[0] as peer:
            name, fds, _, _ = socket.recv_fds(peer, 100, 1)
    info = Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
    os.close(fds[0])
    return name, next(int(line.split()[1]) for line in info.splitlines() if line.startswith("Pid:"))


def test_in_a_container_that_does_not_run(box: Any) -> None:
    box("create")
    assert box("exec", "echo", "in a created one").stdout == "in a created one\n"
    box("kill", "KILL")
    while box.state["status"] != "stopped":
        pass
    assert "cannot exec in a stopped container" in box("exec", "true", code=255).stderr
    box("delete")


def test_in_a_user_namespace(box: Any) -> None:
    box.mapped()
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    assert box("exec", "sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u /proc/self/").stdout.split() == ["0", "0", "100000", "65536", "0"]
    done = box.oci("run", "exec", "--user", "5:6", box.id, "id", "-u")
    assert done.stdout == "5\n"
    box("delete", "--force")


def test_many_at_once(running: Any) -> None:
    each = [running.oci.start("run", "exec", running.id, "sh", "-c", f"exit {n}") for n in range(8)]
    assert [process.wait() for process in each] == list(range(8))


def test_it_ends_with_the_container(running: Any) -> None:
    process = running.oci.start("run", "exec", running.id, "sh", "-c", "echo; exec sleep 1000", stdout=subprocess.PIPE)
    process.stdout.readline()
    running("kill", "KILL")
    assert process.wait() == 128 + 9
