"""Debian's docker CLI as a client of `ocid`: what people type, and what they see."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN, PATH
from tests.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]
NONE = ("--network", "none")


def run(engine: Engine, *words: Any, **more: Any) -> Any:
    return engine.docker("run", *NONE, *words, **more)


# -- run -------------------------------------------------------------------------------------


def test_run_gives_both_streams_and_the_exit_code(engine: Engine) -> None:
    done = run(engine, "--rm", "bb", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert engine.out("ps", "-aq") == ""


def test_run_takes_input_to_its_end(engine: Engine) -> None:
    text = "line\n" * 50_000
    assert run(engine, "-i", "--rm", "bb", "cat", input=text).stdout == text
    assert run(engine, "-i", "--rm", "bb", "wc", "-c", input=text).stdout.strip() == "250000"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["bb", "nope"], 127, "executable file not found in $PATH"),
        (["bb", "/etc/passwd"], 126, "permission denied"),
        (["--name", "-bad", "bb"], 125, "Invalid container name (-bad), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["-v", "bad:relative", "bb"], 125, "must be absolute"),
        (["--pull", "never", "missing"], 125, "No such image: missing:latest"),
    ],
)
def test_run_fails_with_the_codes_that_people_know(engine: Engine, words: list[str], code: int, text: str) -> None:
    assert text in run(engine, "--rm", *words, code=code).stderr
    assert engine.out("ps", "-aq") == ""


def test_a_restart_policy_is_checked(engine: Engine) -> None:
    assert "invalid restart policy" in run(engine, "--restart", "sometimes", "bb", code=125).stderr


def test_the_name_of_another_is_a_conflict(engine: Engine) -> None:
    first = run(engine, "-d", "--name", "one", "bb", "sleep", "100").stdout.strip()
    said = run(engine, "--name", "one", "bb", code=125).stderr
    assert f'Conflict. The container name "/one" is already in use by container "{first}".' in said


def test_what_was_asked_for_is_what_it_gets(engine: Engine) -> None:
    script = "id -u; id -g; pwd; hostname; echo $A; cat /proc/self/limits | grep 'open files'; touch /x || echo ro; ls /t; ulimit -c"
    said = run(
        engine, "--rm", "-u", "7:8", "-w", "/tmp", "-h", "hosty", "-e", "A=b c", "--ulimit", "nofile=33:44",
        "--read-only", "--tmpfs", "/t", "bb", "sh", "-c", script,
    ).stdout.splitlines()  # fmt: skip
    assert said[:5] == ["7", "8", "/tmp", "hosty", "b c"]
    assert said[5].split()[3:5] == ["33", "44"]
    assert "ro" in said


def test_entrypoints_of_many_words_none_and_reset(engine: Engine) -> None:
    body = {"Image": "bb", "Entrypoint": ["echo", "-n", "a"], "Cmd": ["b"], "HostConfig": {"NetworkMode": "none"}}
    _, made = engine.request("POST", "/containers/create", body, code=201)
    assert engine.out("start", "-a", made["Id"]) == "a b"
    assert run(engine, "--rm", "--entrypoint", "", "bb", "echo", "c").stdout == "c\n"
    assert run(engine, "--rm", "--entrypoint", "echo", "bb", "d").stdout == "d\n"


def test_detached_then_waited_for(engine: Engine) -> None:
    container = run(engine, "-d", "bb", "sh", "-c", "sleep 0.3; exit 9").stdout.strip()
    assert engine.out("wait", container) == "9"
    assert engine.out("wait", container) == "9"
    assert engine.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container) == "exited 9"


def test_signals_are_passed_on(engine: Engine) -> None:
    script = "trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with engine.popen("run", *NONE, "--rm", "bb", "sh", "-c", script, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout and client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.stdout.read() == "term\n"
    assert client.returncode == 5


# -- life ----------------------------------------------------------------------------------


def test_life_from_create_to_rm(engine: Engine) -> None:
    container = engine.out("create", "--name", "life", *NONE, "bb", "sleep", "1000")
    state = ("inspect", "-f", "{{.State.Status}}", "life")
    assert engine.out(*state) == "created"
    assert engine.out("start", "life") == "life"
    assert engine.out(*state) == "running"
    engine.docker("pause", "life")
    assert engine.out(*state) == "paused"
    assert "(Paused)" in engine.out("ps", "--format", "{{.Status}}")
    assert "is paused" in engine.docker("exec", "life", "true", code=1).stderr
    engine.docker("unpause", "life")
    assert "is not paused" in engine.docker("unpause", "life", code=1).stderr
    engine.docker("stop", "-t", "0", "life")
    assert engine.out(*state) == "exited"
    assert engine.out("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137)")
    engine.docker("start", "life")
    engine.docker("restart", "-t", "0", "life")
    assert engine.out(*state) == "running"
    engine.docker("rename", "life", "living")
    assert engine.out("ps", "--format", "{{.Names}} {{.ID}}", "--no-trunc") == f"living {container}"
    said = engine.docker("rm", "living", code=1).stderr
    assert "container is running: stop the container before removing or force remove" in said
    engine.docker("kill", "living")
    assert engine.out(*state[:-1], "living") == "exited"
    assert "is not running" in engine.docker("kill", "living", code=1).stderr
    engine.docker("rm", "living")
    assert engine.docker("rm", "living", code=1).stderr == "Error response from daemon: No such container: living\n"
    assert engine.docker("rm", "-f", "living").returncode == 0


def test_ps_filters(engine: Engine) -> None:
    run(engine, "-d", "--name", "aa", "-l", "color=red", "bb", "sleep", "100")
    run(engine, "-d", "--name", "ab", "-l", "color=blue", "bb", "sleep", "100")
    run(engine, "--name", "ac", "bb", "sh", "-c", "exit 4", code=4)
    names = ("--format", "{{.Names}}")
    assert engine.out("ps", *names).split() == ["ab", "aa"]
    assert engine.out("ps", "-a", *names).split() == ["ac", "ab", "aa"]
    assert engine.out("ps", "-f", "label=color=red", *names) == "aa"
    assert engine.out("ps", "-f", "name=^ab$", *names) == "ab"
    assert engine.out("ps", "-f", "status=exited", *names) == "ac"
    assert engine.out("ps", "-a", "-f", "exited=4", *names) == "ac"
    assert engine.out("ps", "-n", "1", *names) == "ac"
    assert engine.out("ps", "-f", "ancestor=bb", *names).split() == ["ab", "aa"]
    assert engine.out("ps", "-a", "-f", "since=aa", *names).split() == ["ac", "ab"]
    assert "invalid filter 'bogus'" in engine.docker("ps", "-f", "bogus=1", code=1).stderr


def test_start_attached_gives_output_and_code_again(engine: Engine) -> None:
    run(engine, "--name", "again", "bb", "sh", "-c", "echo one; exit 6", code=6)
    assert engine.docker("start", "-a", "again", code=6).stdout == "one\n"
    assert engine.out("logs", "again").split() == ["one", "one"]


# -- looking ---------------------------------------------------------------------------------


def test_logs_follow_tail_since_and_stamps(engine: Engine) -> None:
    script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done; read x < /go; echo last"
    run(engine, "-d", "--name", "log", "bb", "sh", "-c", f"mkfifo /go; {script}")
    with engine.popen("logs", "-f", "log", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout and client.stderr
        assert [client.stdout.readline() for _ in range(3)] == ["o1\n", "o2\n", "o3\n"]
        assert [client.stderr.readline() for _ in range(3)] == ["e1\n", "e2\n", "e3\n"]
        engine.docker("exec", "log", "sh", "-c", "echo > /go")
        assert client.stdout.read() == "last\n"
    engine.docker("wait", "log")
    assert engine.out("logs", "-n", "1", "log") == "last"
    stamped = engine.out("logs", "-t", "-n", "1", "log")
    assert stamped.endswith("Z last") and len(stamped.split()[0]) == 30
    assert engine.out("logs", "--since", stamped.split()[0], "log") == "last"
    assert "last" not in engine.out("logs", "--until", "2020-01-01T00:00:00Z", "log")


def test_top_diff_and_stats(engine: Engine) -> None:
    run(engine, "-d", "--name", "seen", "bb", "sh", "-c", "echo > /new; rm /etc/passwd; sleep 100")
    with engine.popen("exec", "seen", "sh", "-c", "while [ -e /etc/passwd ]; do :; done"):
        pass
    assert "sleep 100" in engine.out("top", "seen", "-o", "pid,args")
    assert {"A /new", "D /etc/passwd"} <= set(engine.out("diff", "seen").splitlines())
    said = json.loads(engine.out("stats", "--no-stream", "--format", "json", "seen"))
    assert said["Name"] == "seen" and int(said["PIDs"]) >= 1 and said["MemUsage"][0] != "0"
    assert "is not running" in engine.docker("top", engine.out("create", *NONE, "bb"), code=1).stderr


def test_events_tell_of_a_life(engine: Engine) -> None:
    begun = time.time()
    run(engine, "--rm", "--name", "eve", "bb", "true")
    form = ("--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.image}}")
    told: list[str] = []
    while "destroy eve bb" not in told:  # it is told when all is gone, which is after the client has ended
        until = ("--until", f"{time.time():.9f}", "-f", "type=container")
        seen = engine.out("events", "--since", f"{begun:.9f}", *until, *form).splitlines()
        told = [line for line in seen if line.endswith("eve bb")]
    assert told == ["create eve bb", "attach eve bb", "start eve bb", "die eve bb", "destroy eve bb"]


def test_who_hears_of_an_end_finds_how_it_ended(engine: Engine) -> None:
    """As compose does: up --exit-code-from asks when it hears of it."""
    events = engine.popen("events", "--since", f"{time.time():.9f}", "-f", "event=die", "--format", "{{.ID}}", stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(5):
            made = engine.out("run", "-d", "bb", "sh", "-c", "exit 42")
            assert events.stdout.readline().strip() == made
            state = engine.request("GET", f"/containers/{made}/json", code=200)[1]["State"]
            assert (state["Status"], state["Running"], state["ExitCode"]) == ("exited", False, 42)
    finally:
        events.terminate()
        events.communicate()


def test_events_tell_who_is_signalled(engine: Engine) -> None:
    """By stop, restart and rm -f as by kill."""
    begun = time.time()
    run(engine, "-d", "--name", "sig", "bb", "sleep", "1000")
    for words in ["stop", "-t", "0"], ["start"], ["restart", "-s", "INT", "-t", "0"], ["kill", "-s", "USR1"], ["rm", "-f"]:
        engine.docker(*words, "sig")
    form = ("--format", "{{.Action}} {{.Actor.Attributes.signal}}", "-f", "event=kill", "-f", "event=stop")
    told = engine.out("events", "--since", f"{begun:.9f}", "--until", f"{time.time():.9f}", *form).splitlines()
    assert told == ["kill 15", "kill 9", "stop <no value>", "kill 2", "kill 9", "stop <no value>", "kill 10", "kill 9"]


# -- exec and terminals ----------------------------------------------------------------------------


def test_exec_streams_input_code_user_and_directory(engine: Engine) -> None:
    run(engine, "-d", "--name", "ex", "bb", "sleep", "1000")
    done = engine.docker("exec", "ex", "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert engine.docker("exec", "-i", "ex", "cat", input="x" * 300_000).stdout == "x" * 300_000
    assert engine.out("exec", "-u", "5:6", "-w", "/tmp", "-e", "Q=r", "ex", "sh", "-c", "id -u; id -g; pwd; echo $Q").split() == ["5", "6", "/tmp", "r"]
    assert engine.out("exec", "-u", "root", "ex", "id", "-u") == "0"
    assert "unable to find user nobodyhere: no matching entries in passwd file" in engine.docker("exec", "-u", "nobodyhere", "ex", "id", code=126).stdout
    missing = engine.docker("exec", "ex", "nope", code=126)
    assert 'exec: "nope": executable file not found in $PATH' in missing.stdout and missing.stderr == ""
    engine.docker("exec", "-d", "ex", "sh", "-c", "echo > /done")
    with engine.popen("exec", "ex", "sh", "-c", "until [ -e /done ]; do sleep 0.02; done") as client:
        assert client.wait(30) == 0


def test_privileged_exec_has_every_capability(engine: Engine) -> None:
    run(engine, "-d", "--name", "pr", "bb", "sleep", "1000")
    plain, full = (
        engine.out("exec", *words, "pr", "grep", "CapEff", "/proc/self/status").split()[1] for words in ([], ["--privileged"])
    )
    assert int(plain, 16) < int(full, 16)


class Terminal:
    """A client in a terminal of its own: what it shows is waited for."""

    def __init__(self, engine: Engine, *words: str, size: tuple[int, int] = (33, 101)) -> None:
        import fcntl
        import struct
        import termios

        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execvpe("docker", ["docker", *words], engine.env)
        self.seen = b""

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self.fd], [], [], 30)[0], self.seen
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, self.seen
            self.seen += data

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def end(self) -> int:
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_has_its_size_detaches_and_is_attached_to_again(engine: Engine) -> None:
    first = Terminal(engine, "run", "-it", "--name", "tty", *NONE, "bb", "sh", "-c", "stty size; while read x; do echo got $x; [ $x = end ] && exit 7; done")
    first.until(b"33 101")
    first.type(b"one\n")
    first.until(b"got one")
    first.type(b"\x10\x11")
    assert first.end() == 0
    assert engine.out("inspect", "-f", "{{.State.Running}}", "tty") == "true"
    second = Terminal(engine, "attach", "tty")
    second.type(b"two\n")
    second.until(b"got two")
    second.type(b"end\n")
    assert second.end() == 7


def test_an_exec_in_a_terminal(engine: Engine) -> None:
    run(engine, "-d", "--name", "et", "bb", "sleep", "1000")
    client = Terminal(engine, "exec", "-it", "et", "sh", "-c", "stty size; tty; read x; exit 9")
    client.until(b"33 101")
    client.until(b"/dev/pts/")
    client.type(b"\n")
    assert client.end() == 9


# -- files and images -------------------------------------------------------------------------------


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_cp_to_and_fro(engine: Engine, tmp_path: Path) -> None:
    run(engine, "-d", "--name", "cp", "bb", "sleep", "1000")
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("content")
    engine.docker("cp", tmp_path / "tree", "cp:/tmp")
    assert engine.out("exec", "cp", "cat", "/tmp/tree/sub/file") == "content"
    engine.docker("cp", "cp:/tmp/tree/sub/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"
    engine.docker("stop", "-t", "0", "cp")
    engine.docker("cp", "cp:/tmp/tree", tmp_path / "again")
    assert (tmp_path / "again/sub/file").read_text() == "content"
    engine.docker("cp", "-L", "cp:/bin/sh", tmp_path / "sh")
    assert (tmp_path / "sh").stat().st_size > 1_000_000
    assert "Could not find the file /nope in container" in engine.docker("cp", "cp:/nope", tmp_path, code=1).stderr
    assert "/nope" in engine.docker("cp", tmp_path / "back", "cp:/nope/x", code=1).stderr
    members = names(engine.docker("cp", "cp:/etc", "-", text=False).stdout)
    assert "etc" in members and "etc/passwd" in members


def test_commit_history_save_load_import_export(engine: Engine, tmp_path: Path) -> None:
    run(engine, "--name", "com", "bb", "sh", "-c", "echo committed > /file")
    made = engine.out("commit", "-m", "why", "-a", "me", "-c", 'CMD ["cat", "/file"]', "-c", "ENV A=b", "com", "made:1")
    assert made.startswith("sha256:")
    assert run(engine, "--rm", "made:1").stdout == "committed\n"
    assert engine.out("image", "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Env}}", "made:1").startswith("me why [")
    assert engine.out("history", "--format", "{{.Comment}}", "made:1").splitlines()[0] == "why"
    unnamed = engine.out("commit", "com")
    assert run(engine, "--rm", unnamed, "cat", "/file").stdout == "committed\n"
    engine.docker("save", "-o", tmp_path / "a.tar", "made:1")
    engine.docker("rm", "com")
    assert "Deleted: " in engine.out("rmi", "made:1")
    assert "No such image: made:1" in engine.docker("rmi", "made:1", code=1).stderr
    assert engine.out("load", "-i", tmp_path / "a.tar") == "Loaded image: made:1"
    assert run(engine, "--rm", "made:1").stdout == "committed\n"
    run(engine, "--name", "exp", "bb", "true")
    flat = engine.docker("export", "exp", text=False).stdout
    assert "bin/busybox" in names(flat)
    subprocess.run(["docker", "import", "-c", "CMD id -u", "-", "flat:1"], input=flat, env=engine.env, check=True, capture_output=True)
    assert run(engine, "--rm", "flat:1").stdout == "0\n"
    engine.docker("rm", "exp")
    engine.docker("rmi", "flat:1", "made:1", unnamed)


def test_import_from_elsewhere(engine: Engine, tmp_path: Path) -> None:
    """A server in the daemon's network namespace has the archive."""
    (tmp_path / "said").write_text("here\n")
    subprocess.run(["tar", "-cf", "a.tar", "said"], cwd=tmp_path, check=True)
    words = ["nsenter", "-n", "-t", str(engine.process.pid), sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path)
    try:
        url = re.search(r"http://[\d.:]+/", server.stdout.readline())[0]
        said = engine.out("import", "-m", "", f"{url}a.tar", "far:1").splitlines()
        assert said[0] == f"Downloading from {url}a.tar" and said[1] == engine.out("image", "inspect", "-f", "{{.Id}}", "far:1")
        assert engine.out("image", "inspect", "-f", "{{.Comment}}", "far:1") == f"Imported from {url}a.tar"
        engine.docker("rmi", "far:1")
        assert "the server answered 404" in engine.docker("import", f"{url}b.tar", "far:2", code=1).stderr
        assert "cannot read" in engine.docker("import", f"{url}said", "far:2", code=1).stderr
    finally:
        server.terminate()
        server.communicate()
    for word in "ftp://a/b", "file:///etc/passwd", "oci-archive:///etc/passwd":
        engine.request("POST", f"/images/create?fromSrc={word}", code=400)
    assert engine.docker("image", "inspect", "far:2", code=1).stdout.strip() == "[]"


def test_tags_images_and_what_is_in_use(engine: Engine) -> None:
    engine.docker("tag", "bb", "team/app:2")
    listed = engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert set(listed) == {"bb:latest", "team/app:2"}
    assert engine.out("images", "-q", "--filter", "reference=team/*").count("\n") == 0
    run(engine, "-d", "--name", "user", "team/app:2", "sleep", "100")
    assert engine.out("rmi", "team/app:2") == "Untagged: team/app:2"
    said = engine.docker("rmi", "bb", code=1).stderr
    assert 'conflict: unable to remove repository reference "bb:latest" (must force) - container' in said
    image = engine.out("inspect", "-f", "{{.Image}}", "user")
    assert engine.out("images", "-q", "--no-trunc") == image
    assert engine.out("image", "inspect", "-f", "{{.Id}}", image[7:19]) == image


def test_build_by_the_classic_builder(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM bb\nARG X=1\nRUN echo building $X; echo err >&2\nCOPY f /f\nCMD [\"cat\", \"/f\"]\n")
    (tmp_path / "f").write_text("content\n")
    said = engine.out("build", "--build-arg", "X=2", "--label", "l=m", "-t", "built:1", tmp_path)
    assert "building 2" in said and "\x1b[91merr" in said and "Step 1/" in said
    assert said.splitlines()[-1] == "Successfully tagged built:1"
    assert run(engine, "--rm", "built:1").stdout == "content\n"
    assert engine.out("image", "inspect", "-f", "{{.Config.Labels.l}}", "built:1") == "m"
    assert "Using cache" in engine.out("build", "--build-arg", "X=2", "--label", "l=m", "-t", "built:1", tmp_path)
    assert engine.out("build", "-q", tmp_path).startswith("sha256:")
    (tmp_path / "bad").write_text("FROM bb\nRUN exit 3\n")
    failed = engine.docker("build", "-f", tmp_path / "bad", tmp_path, code=3)
    assert "The command '/bin/sh -c exit 3' returned a non-zero code: 3" in failed.stderr
    (tmp_path / "bad").write_text("FROM bb\nRUNN x\n")
    wrong = engine.docker("build", "-f", tmp_path / "bad", tmp_path, code=1)
    assert "dockerfile parse error on line 2: unknown instruction: RUNN" in wrong.stderr
    engine.docker("rmi", "-f", "built:1")
    engine.docker("image", "prune", "-f")
    _, given_back = engine.request("POST", "/build/prune?filters=%7B%22until%22:%7B%221%22:true%7D%7D", code=200)
    assert given_back == {"CachesDeleted": None, "SpaceReclaimed": 0}, "nothing is as old as 1970"
    _, given_back = engine.request("POST", "/build/prune", code=200)
    assert given_back["SpaceReclaimed"] > 0 and given_back["CachesDeleted"]


def test_what_a_registry_has(engine: Engine, tmp_path: Path) -> None:
    """Between the daemon and a registry in its network namespace: push, look, pull."""
    (tmp_path / "store").mkdir()
    words = ["nsenter", "-n", "-t", str(engine.process.pid), f"{BIN}/oci-registry", "serve", "--listen", "127.0.0.1:0", tmp_path / "store"]
    registry = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=engine.oci_env)
    try:
        name = registry.stdout.readline().strip().partition("://")[2] + "/team/bb:1"
        engine.docker("tag", "bb", name)
        pushed = engine.out("push", name)
        status, found = engine.request("GET", f"/distribution/{name}/json", code=200)
        assert f"digest: {found['Descriptor']['digest']} size: {found['Descriptor']['size']}" in pushed
        assert found["Platforms"] == [{"os": "linux", "architecture": "amd64"}]
        engine.request("GET", f"/distribution/{name}0/json", code=404)
        engine.docker("rmi", name)
        assert f"Downloaded newer image for {name}" in engine.out("pull", name)
        engine.docker("rmi", name)
        there = engine.out("pull", name).splitlines()[1:]
        assert [line.split()[0] for line in there] == ["Digest:", "Status:", name], "what is here all is not told of"
        engine.docker("rmi", name)
        assert "tag does not exist: bb:nope" in engine.docker("push", "bb:nope", code=1).stderr
        assert "An image does not exist locally with the tag: nope" in engine.docker("push", "nope:1", code=1).stderr
    finally:
        registry.terminate()
        registry.communicate()


def test_info_version_df_and_prunes(engine: Engine) -> None:
    assert engine.out("version", "-f", "{{.Server.APIVersion}} {{.Server.Os}}") == "1.45 linux"
    run(engine, "bb", "true")
    info = json.loads(engine.out("info", "-f", "json"))
    assert (info["Containers"], info["ContainersStopped"], info["Images"], info["Swarm"]["LocalNodeState"]) == (1, 1, 1, "inactive")
    assert "Images" in engine.out("system", "df") and "bb" in engine.out("system", "df", "-v")
    assert "Deleted Containers" in engine.out("container", "prune", "-f")
    engine.docker("system", "prune", "-f")
    assert engine.out("images", "-q") != ""


def test_what_is_not_there_is_said_in_dockers_words(engine: Engine) -> None:
    assert engine.docker("inspect", "nope", code=1).stderr == "Error: No such object: nope\n"
    assert "This node is not a swarm manager" in engine.docker("service", "ls", code=1).stderr
    assert "cannot search registries" in engine.docker("search", "x", code=1).stderr
    assert engine.out("plugin", "ls").splitlines() == ["ID        NAME      DESCRIPTION   ENABLED"]


@pytest.mark.needs("sshd", "ssh", "ssh-keygen")
def test_over_ssh(engine: Engine, tmp_path: Path) -> None:
    """Real ones on both sides, without a port: the server is spoken to through a pipe; `docker` over there is a link."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "docker").symlink_to(f"{BIN}/oci-ctl")
    for name in "host", "key":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "sshd_config").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        f"PidFile none\nSetEnv PATH={there}:{PATH} DOCKER_HOST=unix://{engine.path}\n"
    )
    (tmp_path / "ssh_config").write_text(
        f"ProxyCommand /usr/sbin/sshd -i -f {tmp_path}/sshd_config\nIdentityFile {tmp_path}/key\n"
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    )
    here = tmp_path / "here"
    here.mkdir()
    (here / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/ssh_config "$@"\n')
    (here / "ssh").chmod(0o755)
    env = {"DOCKER_HOST": "ssh://root@there", "PATH": f"{here}:{PATH}"}
    assert engine.out("version", "-f", "{{.Server.Os}}", env=env) == "linux"
    assert engine.out("run", "--rm", "-i", "--network", "none", "bb", "cat", env=env, input="over there") == "over there"
