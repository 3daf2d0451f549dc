"""oci-ctl against `ocid`: the words that people know from docker, over every kind of socket, and several engines at once."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import peers
from tests.conftest import BIN, PATH
from tests.daemon import Engine, started

pytestmark = [pytest.mark.root]
NONE = ("--network", "none")
Ctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"c{os.getpid() % 1000}")


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Engine]:
    yield from started(place / "a")


@pytest.fixture
def engine(daemon: Engine) -> Iterator[Engine]:
    yield daemon
    daemon.clean()


def caller(env: dict[str, str], *hosts: str) -> Ctl:
    def ctl(*words: Any, code: int = 0, binary: bool = False, **more: Any) -> Any:
        given = {"stdin": subprocess.DEVNULL} if "input" not in more else {}
        argv = [f"{BIN}/oci-ctl", *hosts, *map(str, words)]
        done = subprocess.run(argv, env=env, capture_output=True, text=not binary, **given, **more)
        assert done.returncode == code, f"{words}: {done.returncode}, not {code}\n{done.stdout!r}{done.stderr!r}"
        return done

    return ctl


@pytest.fixture
def ctl(engine: Engine) -> Ctl:
    return caller(environment(engine), "--host", f"unix://{engine.path}")


def environment(engine: Engine) -> dict[str, str]:
    return {"PATH": PATH, "HOME": str(engine.home), "XDG_CONFIG_HOME": str(engine.home), "LANG": "C.UTF-8"}


# -- run ------------------------------------------------------------------------------------------


def test_run_gives_streams_input_and_codes(ctl: Ctl) -> None:
    done = ctl("run", *NONE, "--rm", "bb", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert ctl("run", *NONE, "--rm", "-i", "bb", "cat", input="x" * 200_000).stdout == "x" * 200_000
    assert "not found in $PATH" in ctl("run", *NONE, "--rm", "bb", "nope", code=127).stderr
    assert "permission denied" in ctl("run", *NONE, "--rm", "bb", "/etc/passwd", code=126).stderr
    assert "no such image" in ctl("run", "--pull", "never", "nothing", code=125).stderr.lower()
    assert ctl("ps", "-aq").stdout == ""


def test_words_that_hands_know(ctl: Ctl) -> None:
    """-f of inspect and of prunes is docker's; what cannot be executed is 126."""
    ctl("run", *NONE, "bb", "/etc", code=126)
    ctl("create", *NONE, "--name", "made", "bb", "true")
    assert ctl("inspect", "-f", "{{.State.Status}}", "made").stdout == "created\n"
    ctl("system", "prune", "-f", "--filter", "until=24h")
    assert ctl("inspect", "-f", "{{.Name}}", "made").stdout == "/made\n"
    ctl("prune", "-f")
    ctl("inspect", "made", code=1)


def test_stats_of_one_that_starts_over_and_over(ctl: Ctl) -> None:
    ctl("run", "-d", *NONE, "--name", "again", "--restart", "always", "bb", "false")
    for _ in range(3):
        assert "again" in ctl("stats", "--no-stream", "again").stdout


def test_options_arrive(ctl: Ctl) -> None:
    script = "id -u; pwd; hostname; echo $A $B; touch /x || echo ro; ls -d /t"
    words = ("-u", "7:8", "-w", "/tmp", "-h", "hosty", "-e", "A=b", "-e", "B=c d", "--read-only", "--tmpfs", "/t")
    said = ctl("run", *NONE, "--rm", *words, "bb", "sh", "-c", script).stdout.splitlines()
    assert said == ["7", "/tmp", "hosty", "b c d", "ro", "/t"]
    made = ctl("create", *NONE, "-m", "64m", "--cpus", "0.5", "-l", "a=b", "bb").stdout.strip()
    host = json.loads(ctl("inspect", made).stdout)[0]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 500_000_000)
    assert "--cpus" in ctl("run", "--cpus", "many", "bb", code=2).stderr


def test_life(ctl: Ctl) -> None:
    made = ctl("run", *NONE, "-d", "--name", "life", "bb", "sleep", "1000").stdout.strip()
    assert len(made) == 64
    assert ctl("exec", "life", "sh", "-c", "echo in; exit 5", code=5).stdout == "in\n"
    assert ctl("exec", "-i", "life", "cat", input="typed").stdout == "typed"
    assert ctl("pause", "life").stdout == "life\n"
    assert ctl("inspect", "--format", "{{.State.Status}}", "life").stdout == "paused\n"
    ctl("unpause", "life")
    ctl("rename", "life", "living")
    assert "sleep 1000" in ctl("top", "living").stdout
    assert ctl("stop", "-t", "0", "living").stdout == "living\n"
    assert ctl("wait", "living").stdout == "137\n"
    ctl("start", "living")
    ctl("restart", "-t", "0", "living")
    ctl("kill", "-s", "KILL", "living")
    assert ctl("rm", "living", "missing", code=1).stdout == "living\n"
    assert ctl("rm", "-f", "missing").returncode == 0
    assert "no such container" in ctl("logs", "gone", code=1).stderr.lower()


def test_signals_reach_the_container(ctl: Ctl, engine: Engine) -> None:
    script = "trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    argv = [f"{BIN}/oci-ctl", "-H", f"unix://{engine.path}", "run", *NONE, "--rm", "bb", "sh", "-c", script]
    with subprocess.Popen(argv, env=environment(engine), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout and client.stdout.readline() == "ready\n"
        client.terminate()
        assert client.stdout.read() == "term\n"
    assert client.returncode == 6


def test_a_terminal_has_its_size_and_is_left_by_keys(ctl: Ctl, engine: Engine) -> None:
    import fcntl
    import struct
    import termios

    argv = ["oci-ctl", "-H", f"unix://{engine.path}", "run", "-it", *NONE, "--name", "tty", "bb", "sh", "-c", "stty size; read x; exit 7"]
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 99, 0, 0))
        os.execve(f"{BIN}/oci-ctl", argv, environment(engine))
    seen = b""
    while b"31 99" not in seen:
        assert select.select([fd], [], [], 30)[0], seen
        seen += os.read(fd, 4096)
    os.write(fd, b"\x10\x11")
    while select.select([fd], [], [], 30)[0]:
        try:
            if not os.read(fd, 4096):
                break
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert ctl("inspect", "--format", "{{.State.Running}}", "tty").stdout == "true\n"


# -- looking ---------------------------------------------------------------------------------------


def test_lists_are_lines_json_fields_and_templates(ctl: Ctl) -> None:
    made = ctl("run", *NONE, "-d", "--name", "seen", "-l", "a=b", "bb", "sleep", "100").stdout.strip()
    line = ctl("ps").stdout.split("\t")
    assert line[0] == made[:12] and line[1] == "bb" and line[-1] == "seen\n"
    assert json.loads(ctl("ps", "--json").stdout)["Id"] == made
    assert ctl("ps", "--fields", "names,image").stdout == "seen\tbb\n"
    assert ctl("ps", "--format", "{{.Names}}|{{json .Labels}}|{{upper .Image}}").stdout == 'seen|{"a":"b"}|BB\n'
    assert ctl("ps", "-q", "--no-trunc", "-f", "label=a=b").stdout.strip() == made
    assert ctl("ps", "-q", "-f", "label=a=c").stdout == ""
    assert "no such field" in ctl("ps", "--fields", "nope", code=2).stderr
    assert "invalid filter" in ctl("ps", "-f", "bogus=1", code=1).stderr
    usage = ctl("stats", "--no-stream", "seen").stdout.split("\t")
    assert usage[1] == "seen" and int(usage[3]) > 0
    assert ctl("info", "--format", "{{.ContainersRunning}}").stdout == "1\n"
    assert ctl("version", "--format", "{{.Server.ApiVersion}}").stdout == "1.45\n"


def test_logs_and_diff(ctl: Ctl) -> None:
    ctl("run", *NONE, "--name", "log", "bb", "sh", "-c", "echo one; echo two >&2; echo > /new")
    done = ctl("logs", "log")
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    assert ctl("logs", "-n", "1", "log").stdout == ""
    assert ctl("logs", "--since", "10m", "-t", "log").stdout.endswith("Z one\n")
    assert ctl("diff", "log").stdout.splitlines() == ["A\t/new"]
    assert ctl("start", "-a", "log").stdout == "one\n"


def test_cp_both_ways(ctl: Ctl, tmp_path: Path) -> None:
    ctl("run", *NONE, "-d", "--name", "cp", "bb", "sleep", "1000")
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/f").write_text("content")
    ctl("cp", tmp_path / "tree", "cp:/tmp")
    ctl("cp", tmp_path / "tree/sub/f", "cp:/tmp/named")
    ctl("cp", f"{tmp_path}/tree/.", "cp:/tmp")
    assert ctl("exec", "cp", "cat", "/tmp/tree/sub/f", "/tmp/named", "/tmp/sub/f").stdout == "content" * 3
    ctl("cp", "cp:/tmp/tree", tmp_path / "back")
    assert (tmp_path / "back/sub/f").read_text() == "content"
    ctl("cp", "cp:/tmp/named", tmp_path)
    assert (tmp_path / "named").read_text() == "content"
    ctl("cp", "cp:/bin/sh", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    ctl("cp", "-L", "cp:/bin/sh", tmp_path / "shell")
    assert (tmp_path / "shell").stat().st_size > 1_000_000
    for path in "/", "/.", "/tmp/..":
        ctl("cp", f"cp:{path}", tmp_path / f"root{len(path)}")
        assert (tmp_path / f"root{len(path)}/tmp/tree/sub/f").read_text() == "content"
    ctl("cp", "cp:/tmp/tree/.", tmp_path / "within")
    assert (tmp_path / "within/sub/f").read_text() == "content"
    archive = ctl("cp", "cp:/tmp/tree", "-", binary=True).stdout
    assert b"content" in archive
    ctl("cp", "-", "cp:/home", binary=True, input=archive, code=1)
    ctl("exec", "cp", "mkdir", "/home")
    ctl("cp", "-", "cp:/home", binary=True, input=archive)
    assert ctl("exec", "cp", "cat", "/home/tree/sub/f").stdout == "content"
    assert "Could not find the file /nope" in ctl("cp", "cp:/nope", tmp_path, code=1).stderr.replace("could", "Could")
    assert "no such directory" in ctl("cp", "cp:/tmp/named", tmp_path / "no/where", code=1).stderr


def test_images_from_build_to_rmi(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/Dockerfile").write_text("FROM bb\nARG X\nRUN echo $X > /x\nCOPY . /c\nCMD cat /x\n")
    (tmp_path / "c/.dockerignore").write_text("*.log\n")
    (tmp_path / "c/a.log").write_text("no")
    (tmp_path / "c/b").write_text("yes")
    built = ctl("build", "-t", "built:1", "--build-arg", "X=y", tmp_path / "c").stdout.strip()
    assert ctl("run", *NONE, "--rm", "built:1").stdout == "y\n"
    assert ctl("run", *NONE, "--rm", "built:1", "ls", "/c").stdout.split() == ["Dockerfile", "b"]
    assert ctl("images", "--format", "{{.ID}}", "built").stdout.strip() == built[7:19]
    ctl("tag", "built:1", "other:2")
    assert "COPY" in ctl("history", "--format", "{{.CreatedBy}}", "built:1").stdout
    ctl("save", "-o", tmp_path / "a.tar", "built:1")
    assert "Deleted" in ctl("rmi", "built:1", "other:2").stdout
    assert ctl("load", "-i", tmp_path / "a.tar").stdout == "Loaded image: built:1\n"
    assert "no such image" in ctl("rmi", "gone", code=1).stderr.lower()
    ctl("run", *NONE, "--name", "com", "bb", "sh", "-c", "echo kept > /f")
    image = ctl("commit", "-m", "why", "-c", "CMD cat /f", "com", "com:1").stdout.strip()
    assert ctl("run", *NONE, "--rm", "com:1").stdout == "kept\n" and image.startswith("sha256:")
    ctl("export", "-o", tmp_path / "flat.tar", "com")
    with tarfile.open(tmp_path / "flat.tar") as tar:
        assert "f" in tar.getnames()
    ctl("import", "-c", "CMD id -u", tmp_path / "flat.tar", "flat:1")
    assert ctl("run", *NONE, "--rm", "flat:1").stdout == "0\n"
    ctl("rm", "com")
    ctl("rmi", "com:1", "flat:1", "built:1")
    (tmp_path / "c/Dockerfile").write_text("FROM bb\nRUN exit 3\n")
    assert "non-zero code: 3" in ctl("build", tmp_path / "c", code=1).stderr


def test_networks_volumes_and_prunes(ctl: Ctl) -> None:
    assert ctl("volume", "create", "--label", "k=v", "vol").stdout == "vol\n"
    assert ctl("volume", "ls", "-q", "-f", "label=k=v").stdout == "vol\n"
    assert json.loads(ctl("volume", "inspect", "vol").stdout)[0]["Labels"] == {"k": "v"}
    ctl("run", *NONE, "--rm", "-v", "vol:/v", "bb", "sh", "-c", "echo > /v/f")
    assert ctl("volume", "rm", "vol").stdout == "vol\n"
    made = ctl("network", "create", "--subnet", "10.201.0.0/24", "net").stdout.strip()
    assert ctl("network", "ls", "-q", "--no-trunc", "-f", "name=net").stdout.strip() == made
    assert json.loads(ctl("network", "inspect", "net").stdout)[0]["IPAM"]["Config"][0]["Subnet"] == "10.201.0.0/24"
    assert ctl("network", "rm", "net", "missing", code=1).stdout == "net\n"
    both = ("--subnet", "10.201.0.0/24", "--subnet", "fd00:9::/64", "--ipv6")
    ctl("network", "create", *both, "--gateway", "fd00:9::7", "--aux-address", "x=10.201.0.9", "net")
    config = json.loads(ctl("network", "inspect", "net").stdout)[0]["IPAM"]["Config"]
    assert config[0]["AuxiliaryAddresses"] == {"x": "10.201.0.9"} and config[1]["Gateway"] == "fd00:9::7"
    said = ctl("network", "create", *both, "--aux-address", "x=10.9.9.9", "more", code=2).stderr
    assert "no matching subnet for aux-address '10.9.9.9'" in said
    ctl("network", "rm", "net")
    ctl("create", *NONE, "bb")
    assert len(ctl("prune").stdout.strip()) == 64
    assert ctl("system", "df").stdout.splitlines()[0].startswith("images\t")
    ctl("system", "prune")


def test_ports_limits_and_health(ctl: Ctl) -> None:
    ports = ("-p", "18080:80", "-p", "127.0.0.1:18081:81/udp")
    checked = ("--health-cmd", "true", "--health-interval", "100ms")
    ctl("run", "-d", "--name", "web", *ports, *checked, "bb", "sleep", "1000")
    assert ctl("port", "web").stdout == "80/tcp\t0.0.0.0:18080\n80/tcp\t[::]:18080\n81/udp\t127.0.0.1:18081\n"
    assert ctl("port", "web", "81/udp").stdout == "127.0.0.1:18081\n"
    assert "no public port '82/tcp'" in ctl("port", "web", "82", code=1).stderr
    assert ctl("wait", "--condition", "healthy", "web").stdout == ""
    assert ctl("inspect", "-f", "{{.State.Health.Status}}", "web").stdout == "healthy\n"
    ctl("update", "-m", "64m", "--memory-swap", "64m", "--restart", "on-failure:2", "web")
    told = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"
    assert ctl("inspect", "-f", told, "web").stdout == f"{64 << 20} on-failure 2\n"
    assert "'--condition'" in ctl("wait", "--condition", "bogus", "web", code=2).stderr


def test_attach_and_events(ctl: Ctl, engine: Engine) -> None:
    ctl("create", *NONE, "-i", "--name", "fed", "-l", "a=b", "bb", "sh", "-c", "read x; echo got $x; exit 4")
    ctl("start", "fed")
    argv = [f"{BIN}/oci-ctl", "-H", f"unix://{engine.path}", "events", "--json", "--since", "1h", "-f", "container=fed"]
    with subprocess.Popen(argv, env=environment(engine), stdout=subprocess.PIPE, text=True) as told:
        assert told.stdout
        assert [json.loads(told.stdout.readline())["Action"] for _ in range(2)] == ["create", "start"]
        assert ctl("attach", "fed", input="this\n", code=4).stdout == "got this\n"
        assert [json.loads(told.stdout.readline())["Action"] for _ in range(2)] == ["attach", "die"]
        told.terminate()
    past = ctl("events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
    assert past.stdout.splitlines()[-1] == "die 4"
    assert "not running" in ctl("attach", "fed", code=1).stderr.replace("stopped", "not running")


def test_a_registry_that_asks_who_one_is(ctl: Ctl, engine: Engine, tmp_path: Path) -> None:
    assert engine.process
    (tmp_path / "store").mkdir()
    secret = subprocess.run(["htpasswd", "-nbB", "joe", "pass"], check=True, capture_output=True, text=True).stdout
    (tmp_path / "users").write_text(secret)
    words = ["serve", "--listen", "127.0.0.1:0", "--htpasswd", tmp_path / "users", tmp_path / "store"]
    argv = ["nsenter", "-n", "-t", str(engine.process.pid), f"{BIN}/oci-registry", *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=engine.oci_env) as registry:
        assert registry.stdout
        try:
            host = registry.stdout.readline().strip().partition("://")[2]
            name = f"{host}/team/bb:1"
            ctl("tag", "bb", name)
            assert ctl("push", name, code=1).stderr.endswith(": no basic auth credentials\n")
            assert "login attempt to" in ctl("login", "-u", "joe", "--password-stdin", host, input="wrong", code=1).stderr
            ctl("login", "-u", "joe", "--password-stdin", host, input="pass\n")
            assert "1: digest: sha256:" in ctl("push", name).stderr
            ctl("rmi", name)
            assert f"newer image for {name}" in ctl("pull", name).stderr
            assert ctl("run", *NONE, "--rm", name, "echo", "pulled").stdout == "pulled\n"
            ctl("rmi", name)
            ctl("logout", host)
            assert ctl("pull", name, code=1).stderr.endswith(": no basic auth credentials\n")
        finally:
            registry.terminate()


def test_lists_are_tables_for_people(ctl: Ctl, engine: Engine) -> None:
    """At a terminal: names of columns, which are as wide as what is in them."""
    made = ctl("create", *NONE, "--name", "seen", "bb", "true").stdout[:12]
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(f"{BIN}/oci-ctl", ["oci-ctl", "-H", f"unix://{engine.path}", "ps", "-a", "--fields", "id,image,names"], environment(engine))
    seen = b""
    while select.select([fd], [], [], 30)[0]:
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert seen.decode().splitlines() == ["ID             IMAGE   NAMES", f"{made}   bb      seen"]


# -- engines ---------------------------------------------------------------------------------------


def test_nobody_answers(tmp_path: Path, engine: Engine) -> None:
    said = caller(environment(engine))("--host", f"unix://{tmp_path}/nope", "ps", code=75).stderr
    assert said == f"oci-ctl: cannot connect to 'unix://{tmp_path}/nope': no such file or directory (is ocid running?)\n"
    assert "invalid host" in caller(environment(engine))("--host", "gopher://x", "ps", code=2).stderr
    assert caller(environment(engine))("--host", "tcp://127.0.0.1:1", "ps", code=75).stderr.count("\n") == 1


def test_contexts_and_the_environment(engine: Engine) -> None:
    env = environment(engine)
    ctl = caller(env)
    ctl("context", "create", "here", f"unix://{engine.path}")
    assert "context exists" in ctl("context", "create", "here", "unix:///x", code=1).stderr
    for name in ("_a", ".a", "+a", "a/b", "a b", "", "../here"):
        assert "invalid context name" in ctl("context", "create", name, "unix:///x", code=2).stderr
    ctl("context", "create", "a+b_c.d-e", "unix:///x")
    ctl("context", "rm", "a+b_c.d-e")
    assert ctl("--context", "here", "version", "--format", "{{.Server.Os}}").stdout == "linux\n"
    ctl("context", "use", "here")
    assert ctl("ps", "-q").stdout == ""
    assert ctl("context", "ls", "--fields", "name,current").stdout == "default\t\nhere\t*\n"
    assert "in use" in ctl("context", "rm", "here", code=1).stderr
    ctl("context", "use", "default")
    ctl("context", "rm", "here")
    assert caller({**env, "OCI_HOST": f"unix://{engine.path}"})("ps", "-q").stdout == ""
    assert caller({**env, "DOCKER_HOST": f"unix://{engine.path}"})("ps", "-q").stdout == ""


def test_several_engines_at_once(place: Path, engine: Engine) -> None:
    for second in started(place / "b"):
        first = caller(environment(engine), "-H", f"unix://{engine.path}")
        other = caller(environment(engine), "-H", f"unix://{second.path}")
        both = caller(environment(engine), "-H", f"unix://{engine.path}", "-H", f"unix://{second.path}")
        first("run", *NONE, "-d", "--name", "one", "bb", "sleep", "100")
        other("run", *NONE, "-d", "--name", "two", "bb", "sleep", "100")
        assert both("ps", "--fields", "host,names").stdout == f"unix://{engine.path}\tone\nunix://{second.path}\ttwo\n"
        assert both("exec", "two", "hostname").stdout == other("exec", "two", "hostname").stdout
        assert both("stop", "-t", "0", "one", "two").stdout == "one\ntwo\n"
        assert "choose between hosts" in both("create", *NONE, "bb", code=1).stderr
        assert "no such container" in both("start", "three", code=1).stderr.lower()


def test_ssh_runs_dial_stdio_over_there(place: Path, engine: Engine) -> None:
    """An `ssh` that stays here: what is run on the other side is what a real one would run."""
    fake = place / "fake"
    fake.mkdir(exist_ok=True)
    (fake / "ssh").write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nPATH={BIN}:{PATH} exec /bin/sh -c "$*"\n')
    (fake / "ssh").chmod(0o755)
    env = {**environment(engine), "PATH": f"{fake}:{PATH}"}
    ctl = caller(env, "-H", f"ssh://me@there:22{engine.path}")
    assert ctl("version", "--format", "{{.Server.Os}}").stdout == "linux\n"
    assert ctl("run", *NONE, "--rm", "-i", "bb", "cat", input="over there").stdout == "over there"
    assert "invalid host" in caller(env)("-H", "ssh://-oProxyCommand=x", "ps", code=2).stderr


@pytest.mark.needs("openssl", "nsenter")
def test_tls_with_certificates_of_both_sides(place: Path) -> None:
    where = place / "tls"
    where.mkdir()
    cert, key = peers.certificate(where)
    words = ("--listen", "tcp://127.0.0.1:23760", "--tlscert", str(cert), "--tlskey", str(key), "--tlscacert", str(cert))
    for engine in started(place / "t", *words):
        assert engine.process
        inside = ["nsenter", "-n", "-t", str(engine.process.pid)]

        def ctl(*words: str, code: int = 0, inside: list[str] = inside, engine: Engine = engine) -> str:
            done = subprocess.run([*inside, f"{BIN}/oci-ctl", "-H", "tcp://127.0.0.1:23760", *words], env=environment(engine), capture_output=True, text=True)
            assert done.returncode == code, done.stderr
            return done.stdout + done.stderr

        ours = ("--tlscacert", str(cert), "--tlscert", str(cert), "--tlskey", str(key))
        assert ctl(*ours, "version", "--format", "{{.Server.Os}}") == "linux\n"
        assert ctl(*ours, "run", *NONE, "--rm", "bb", "echo", "hi") == "hi\n"
        ctl(*ours[:2], "ps", code=75)  # no certificate of ours
        ctl("ps", code=75)  # no TLS at all
