"""`checkpoint` and `restore`, by criu where it is installed."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_terminal import PROMPT, Engine, Window, read_until

pytestmark = pytest.mark.root
# Nothing that is open in it may be a file of the host.
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
COUNTING = "n=0; while :; do n=$((n+1)); echo $n > /tmp/new; mv /tmp/new /tmp/n; sleep 0.02; done"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    if not shutil.which("criu", path="/usr/sbin:/usr/bin"):
        pytest.skip("needs criu; tests/run --setup installs it on Debian as root")
    if subprocess.run(["criu", "check"], capture_output=True).returncode:
        pytest.skip("needs a kernel that criu can work with")
    return tmp_path / "images"


@pytest.fixture
def counting(box: Any) -> Any:
    """A box whose payload counts in a file."""
    box.process["args"] = ["sh", "-c", COUNTING]
    box("create", **QUIET)
    box("start")
    yield box
    box("delete", "--force")


def number(box: Any) -> int:
    return int((box.rootfs / "tmp/n").read_text())


def beyond(box: Any, count: int) -> int:
    """Wait until it has counted further."""
    while not (box.rootfs / "tmp/n").exists() or number(box) <= count:
        pass
    return number(box)


def test_it_goes_on_where_it_was(counting: Any, images: Path) -> None:
    counted = beyond(counting, 3)
    isolation = ["sh", "-c", "cat /proc/1/cgroup /proc/mounts; grep -E 'Cap|NoNew' /proc/1/status; id"]
    before = counting("exec", *isolation).stdout
    counting("checkpoint", "--image-path", images)
    assert "does not exist" in counting("state", code=1).stderr
    stopped = number(counting)
    assert stopped >= counted
    counting("restore", "-d", "--image-path", images, "--bundle", counting.bundle, "--pid-file", images / "pid", **QUIET)
    assert counting.state["status"] == "running" and counting.state["pid"] == int((images / "pid").read_text())
    assert beyond(counting, stopped) < stopped + 1000
    after = counting("exec", *isolation).stdout
    assert sorted(line for line in after.splitlines() if "/dev" not in line) == sorted(
        line for line in before.splitlines() if "/dev" not in line
    )


@pytest.mark.needs("strace")
def test_criu_is_killed(counting: Any, images: Path) -> None:
    """As it waits for what it has forked, which may have its socket: its end is heard all the same."""
    killed = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=wait4", "-e", "inject=wait4:signal=KILL:when=2"]
    line = [*killed, counting.oci.bin / "oci-run", "checkpoint", "--image-path", images, counting.id]
    said = counting.oci.run(line, code=1).stderr
    assert said.startswith(f"oci-run: cannot checkpoint container '{counting.id}': criu failed: it has ended") and said.count("\n") == 1


def test_what_nobody_waits_for_is_ended_with_the_container(counting: Any, images: Path) -> None:
    """The checkpoint is killed while criu waits for a page server that takes everything and says nothing."""
    beyond(counting, 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = ("checkpoint", "--page-server", f"127.0.0.1:{server.getsockname()[1]}", "--image-path", images)
        first = counting.oci.start("run", *words, counting.id, **QUIET)
        with server.accept()[0]:
            (criu,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
            pidfd = os.pidfd_open(criu)
            first.kill()
            first.wait()
            assert select.select([pidfd], [], [], 0.5) == ([], [], [])
            counting("delete", "--force")
            assert select.select([pidfd], [], [], 0) == ([pidfd], [], [])
            os.close(pidfd)


def test_without_a_mount_namespace(box: Any, images: Path) -> None:
    box.share("mount")
    box.spec["mounts"], box.process["args"] = [], ["sleep", "1000"]
    del box.linux["maskedPaths"], box.linux["readonlyPaths"]
    box("create", **QUIET)
    box("start")
    said = box("checkpoint", "--image-path", images, code=1).stderr
    assert said == f"oci-run: cannot checkpoint container '{box.id}': it has no mount namespace of its own\n"
    assert box.state["status"] == "running" and not images.exists()
    box("delete", "--force")


def test_it_may_go_on_beside_its_images(counting: Any, images: Path) -> None:
    beyond(counting, 1)
    counting("checkpoint", "--leave-running", "--image-path", images)
    beyond(counting, number(counting))
    assert counting.state["status"] == "running"


def test_memory_first(counting: Any, images: Path, tmp_path: Path) -> None:
    beyond(counting, 1)
    if subprocess.run(["criu", "check", "--feature", "mem_dirty_track"], capture_output=True).returncode:
        pytest.skip("needs a kernel that tracks changed memory")
    counting("checkpoint", "--pre-dump", "--image-path", tmp_path / "before")
    beyond(counting, number(counting))
    counting("checkpoint", "--parent-path", "../before", "--image-path", images)
    counting("restore", "-d", "--image-path", images, "-b", counting.bundle, **QUIET)
    beyond(counting, number(counting))


def test_a_paused_one_as_containerd_does(counting: Any, images: Path) -> None:
    beyond(counting, 1)
    counting("pause")
    counting("checkpoint", "--leave-running", "--image-path", images, "--work-path", images / "work")
    assert counting.state["status"] == "paused" and (images / "work/dump.log").exists()
    counting("resume")
    beyond(counting, number(counting))


def test_in_the_foreground_with_its_pipes(box: Any, images: Path) -> None:
    box.process["args"] = ["sh", "-c", "read a; echo got $a; read b; exit $b"]
    box.save()
    process = box.oci.start("run", "run", "-b", box.bundle, box.id, **dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE))
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got one\n"
    box("checkpoint", "--leave-running", "--image-path", images)
    box("kill", "KILL")
    process.communicate()
    done = box("restore", "--image-path", images, "-b", box.bundle, code=7, input="7\n")
    assert done.stderr == ""


def test_binds_and_hooks(box: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    box.mount("/shared", tmp_path / "shared", "bind")
    script = f'read state; echo "$state" > {tmp_path}/hook; grep -q Shm /proc/meminfo'
    box.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    box.process["args"] = ["sh", "-c", COUNTING.replace("/tmp/n", "/shared/n")]
    box("create", **QUIET)
    box("start")
    while not (tmp_path / "shared/n").exists():
        pass
    box("checkpoint", "--image-path", images)
    (tmp_path / "hook").unlink()
    (tmp_path / "shared/n").unlink()
    box("restore", "-d", "--image-path", images, "-b", box.bundle, **QUIET)
    while not (tmp_path / "shared/n").exists():
        pass
    told = json.loads((tmp_path / "hook").read_text())
    assert (told["id"], told["pid"]) == (box.id, box.state["pid"])
    box("delete", "--force")


def test_what_fails_leaves_all_as_it_was(counting: Any, images: Path) -> None:
    beyond(counting, 1)
    (images / "dump.log").mkdir(parents=True)
    said = counting("checkpoint", "--image-path", images, code=1).stderr
    assert said.startswith(f"oci-run: cannot checkpoint container '{counting.id}': criu failed: ") and said.count("\n") == 1
    beyond(counting, number(counting))
    for parent in (images, "../nosuch"):
        said = counting("checkpoint", "--parent-path", parent, "--image-path", images, code=1).stderr
        assert said.startswith(f"oci-run: invalid value for --parent-path '{parent}': it must be a directory, relative")
    said = counting("restore", "-b", counting.bundle, "--image-path", images / "nosuch", code=1).stderr
    assert "no such file or directory" in said
    counting("kill", "KILL")
    while counting.state["status"] != "stopped":
        pass
    assert "it is stopped" in counting("checkpoint", "--image-path", images, code=1).stderr
    counting("delete")
    os.mkdir(images / "empty")
    (images / "empty/oci.json").write_text('{"version": 1, "mounts": {}, "streams": ["", "", ""]}')
    said = counting("restore", "-b", counting.bundle, "--image-path", images / "empty", code=1).stderr
    assert said.startswith(f"oci-run: cannot restore container '{counting.id}': criu failed: ")


@pytest.mark.parametrize(("change", "says"), [
    ({"mounts": {"/host": "/"}}, "what is to be mounted on '/host' is not in config.json"),
    ({"mounts": {"/host": "/sys/fs/cgroup/../../.."}}, "what is to be mounted on '/host' is not in config.json"),
    ({"mounts": {"/host": "/dev/null/"}}, "what is to be mounted on '/host' is not in config.json"),
    ({"mounts": {"/host": 1}}, "no record of a checkpoint"), ({"mounts": ["/"]}, "no record of a checkpoint"),
    ({"streams": "pipe:[1]"}, "no record of a checkpoint"), ({"streams": [1]}, "no record of a checkpoint"),
    ({"version": 2}, "no record of a checkpoint"),
])  # fmt: skip
def test_files_of_a_checkpoint_choose_nothing_of_the_host(box: Any, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    """They may come from a stranger (CVE-2026-53489): what is mounted from outside is said by config.json alone."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "oci.json").write_text(json.dumps({"version": 1, "mounts": {}, "streams": ["", "", ""], **change}))
    box.save()
    said = box("restore", "-d", "-b", box.bundle, "--image-path", images, "--criu", "/bin/true", code=1).stderr
    assert says in said and said.count("\n") == 1
    assert "does not exist" in box("state", code=1).stderr


def test_files_of_a_checkpoint_that_are_none(box: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    box.save()
    words = ("restore", "-d", "-b", box.bundle, "--image-path", images, "--criu", "/bin/true")
    for name in "oci.json", "descriptors.json":
        for make in (lambda path: path.symlink_to("/dev/zero"), lambda path: path.write_text("[")):
            make(images / name)
            said = box(*words, code=1).stderr
            assert name in said and said.count("\n") == 1, said
            (images / name).unlink()


def test_without_criu(counting: Any, tmp_path: Path) -> None:
    line = "for c in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do [ -x $c/criu ] && mount --bind /etc/passwd $c/criu; done;"
    done = counting.oci.run(["unshare", "-m", "sh", "-c", f'{line} oci-run checkpoint "$0"', counting.id], code=1)
    assert done.stderr == 'oci-run: exec: "criu": executable file not found in $PATH (Debian has it in the package criu)\n'
    assert counting("checkpoint", "--help").returncode == 0  # podman asks so whether there is such a verb


# -- terminals ---------------------------------------------------------------------------------


@pytest.fixture
def shell(box: Any) -> Any:
    """A box whose payload is a shell with a terminal."""
    box.process.update(terminal=True, args=["sh"], env=[*box.process["env"], "PS1=> "])
    return box


def says(master: int, line: str, answer: str) -> None:
    os.write(master, f"{line}\n".encode())
    assert answer in read_until(master, PROMPT.encode()).decode()


@pytest.mark.parametrize("cgroups", [True, False], ids=["its own cgroup namespace", "the host's"])
def test_a_terminal_is_made_anew_for_what_goes_on_in_it(shell: Any, images: Path, tmp_path: Path, cgroups: bool) -> None:
    if not cgroups:
        shell.share("cgroup")
    with Engine(tmp_path / "console.sock") as engine:
        shell("run", "-d", "--console-socket", engine.path)
        master = engine.master()
        read_until(master, PROMPT.encode())
        says(master, "n=4711; tty; stat -c %t:%T /dev/console", "/dev/pts/0\r\n88:0")
        for _ in range(2):  # what was restored is saved as well
            shell("checkpoint", "--image-path", images)
            assert "does not exist" in shell("state", code=1).stderr
            os.close(master)
            shell("restore", "-d", "--image-path", images, "-b", shell.bundle, "--console-socket", engine.path)
            master = engine.master()
            assert shell.state["status"] == "running"
            says(master, "echo $n; tty; stat -c %t:%T /dev/console; echo x > /dev/console", "4711\r\n/dev/pts/0\r\n88:0\r\nx")
        assert shell("exec", "ps", "-o", "tty,args").stdout.splitlines()[1].split() == ["136,0", "sh"]
        os.close(master)
    shell("delete", "--force")


def test_a_terminal_in_the_foreground(shell: Any, images: Path, tmp_path: Path) -> None:
    window = Window()
    running = window.start(shell)
    window.until(PROMPT)
    window.type("n=4711\n")
    window.until(PROMPT)
    shell("checkpoint", "--image-path", images)
    running.wait()
    window.close()
    window = Window()
    window.resize(33, 99)
    window.type("stty size; exit $((n - 4700))\n")
    words = [shell.oci.bin / "oci-run", "restore", "--image-path", images, "-b", shell.bundle, shell.id]
    running = subprocess.Popen(words, env=shell.oci.env, **dict.fromkeys(["stdin", "stdout", "stderr"], window.slave))
    assert running.wait() == 11
    assert "33 99\r\n" in os.read(window.master, 4096).decode()
    window.close()


def test_terminals_and_words_that_do_not_fit(shell: Any, images: Path, tmp_path: Path) -> None:
    images.mkdir()
    shell.save()
    here = ("restore", "--image-path", images, "-b", shell.bundle)
    assert "--console-socket is needed" in shell(*here, "-d", code=1).stderr
    shell.process["terminal"] = False
    shell.save()
    assert "process.terminal is false" in shell(*here, "--console-socket", "/x", code=1).stderr
    assert "does not exist" in shell("state", code=1).stderr


# -- what criu has besides -----------------------------------------------------------------------


def test_memory_is_left_where_it_is_until_it_is_asked_for(counting: Any, images: Path) -> None:
    """All but memory is saved; whoever is to fetch that hears when it is served.  Nobody does, and nothing is lost."""
    if subprocess.run(["criu", "check", "--feature", "uffd-noncoop"], capture_output=True).returncode:
        pytest.skip("needs a kernel that lets a process serve another's memory")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    beyond(counting, 3)
    reader, writer = os.pipe()
    words = ("checkpoint", "--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(writer))
    first = counting.oci.start("run", *words, "--image-path", images, counting.id, pass_fds=[writer], **QUIET)
    os.close(writer)
    assert os.read(reader, 2) == b"\0" and os.read(reader, 2) == b""
    os.close(reader)
    assert (images / "inventory.img").exists() and first.poll() is None
    saved = sum(path.stat().st_size for path in images.glob("pages-*.img"))
    (criu,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(criu), signal.SIGKILL)
    assert first.wait() == 1
    stopped = number(counting)
    beyond(counting, stopped)
    counting("checkpoint", "--leave-running", "--image-path", images / "whole")
    assert saved < sum(path.stat().st_size for path in (images / "whole").glob("pages-*.img"))


@pytest.mark.parametrize(("words", "says"), [
    (["--lazy-pages", "--status-fd", "77"], "invalid --status-fd '77': bad file descriptor"),
    (["--page-server", "localhost"], "invalid --page-server 'localhost' (ADDRESS:PORT)"),
    (["--page-server", "localhost:99999"], "invalid --page-server 'localhost:99999' (ADDRESS:PORT)"),
])  # fmt: skip
def test_words_that_are_none(counting: Any, images: Path, words: list[str], says: str) -> None:
    beyond(counting, 1)
    assert counting("checkpoint", "--image-path", images, *words, code=2).stderr == f"oci-run: {says}\n"
    beyond(counting, number(counting))


def test_criu_has_options_of_its_own_for_a_container(box: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "criu.conf").write_text("log-file=another.log\n")
    box.spec["annotations"] = {"org.criu.config": str(tmp_path / "criu.conf")}
    box.process["args"] = ["sh", "-c", COUNTING]
    box("create", **QUIET)
    box("start")
    beyond(box, 1)
    box("checkpoint", "--image-path", images, "--work-path", tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").glob("*.log")] == ["another.log"]
    box("restore", "-d", "--image-path", images, "-b", box.bundle, **QUIET)
    beyond(box, number(box))
    box("delete", "--force")


def test_namespaces_of_others(counting: Any, images: Path) -> None:
    """Joined by path: they are not saved, and are joined again."""
    beyond(counting, 1)
    counting("delete", "--force")
    other = subprocess.Popen(["unshare", "-niup", "--fork", "--kill-child", "sh", "-c", "sleep 1000 & wait"])
    try:
        children = Path(f"/proc/{other.pid}/task/{other.pid}/children")
        while not (pid := children.read_text().strip()):
            pass
        for kind, file in (("pid", "pid"), ("network", "net"), ("uts", "uts"), ("ipc", "ipc")):
            counting.namespace(kind, f"/proc/{pid}/ns/{file}")
        counting.spec.pop("hostname", None)
        counting("create", **QUIET)
        counting("start")
        beyond(counting, 1)
        first = Path(f"/proc/{counting.state['pid']}")
        before = {kind: os.readlink(first / "ns" / kind) for kind in ("pid", "net", "uts", "ipc")}
        counting("checkpoint", "--image-path", images)
        while first.exists():  # its pid in there is free when whose child it became has heard of its end
            pass
        counting("restore", "-d", "--image-path", images, "-b", counting.bundle, **QUIET)
        beyond(counting, number(counting))
        assert {kind: os.readlink(f"/proc/{counting.state['pid']}/ns/{kind}") for kind in before} == before
        counting("delete", "--force")
    finally:
        other.kill()
        other.wait()


@pytest.mark.needs("runc")
def test_what_runc_has_saved_goes_on_here(box: Any, images: Path, tmp_path: Path) -> None:
    runc = ["runc", "--root", str(tmp_path / "runc")]
    box.process["args"] = ["sh", "-c", COUNTING]
    box.share("time")
    box.save()
    subprocess.run([*runc, "run", "-d", "-b", box.bundle, box.id], check=True, **QUIET)
    counted = beyond(box, 3)
    subprocess.run([*runc, "checkpoint", "--image-path", images, box.id], check=True)
    box("restore", "-d", "--image-path", images, "-b", box.bundle, **QUIET)
    assert beyond(box, counted) < counted + 1000
    box("delete", "--force")


def test_another_criu(counting: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "criu").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/words; exec "$(PATH=/usr/sbin:/usr/bin command -v criu)" "$@"\n')
    assert "executable file not found" in counting.oci("run", "--criu", tmp_path / "nosuch", "checkpoint", counting.id, code=1).stderr
    (tmp_path / "criu").chmod(0o755)
    beyond(counting, 1)
    counting.oci("run", "--criu", tmp_path / "criu", "checkpoint", "--image-path", images, counting.id)
    counting.oci("run", "--criu", tmp_path / "criu", "restore", "-d", "--image-path", images, "-b", counting.bundle, counting.id, **QUIET)
    beyond(counting, number(counting))
    assert (tmp_path / "words").read_text() == "swrk 3\nswrk 100\n"
