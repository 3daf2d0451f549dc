"""A container's terminal: relayed in the foreground, handed to an engine by `--console-socket`."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.root

PROMPT = "> \x1b[6n"  # busybox asks where the cursor is


class Window:
    """A terminal window: what runs in it, what it shows, what is typed."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.shown = b""
        self.resize(24, 80)
        self.before = self.mode()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def start(self, box: Any, **more: Any) -> subprocess.Popen[Any]:
        streams = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **more}
        take = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
        process: subprocess.Popen[Any] = box.start(start_new_session=True, preexec_fn=take, **streams)
        return process

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str) -> str:
        """Read what is shown until it ends with this."""
        while not self.shown.endswith(text.encode()):
            self.shown += os.read(self.master, 4096)
        shown, self.shown = self.shown.decode(), b""
        return shown

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def window() -> Iterator[Window]:
    made = Window()
    yield made
    made.close()


@pytest.fixture
def shell(box: Any, window: Window) -> Any:
    """A box whose payload is a shell with a terminal."""
    box.process.update(terminal=True, args=["sh"], env=[*box.process["env"], "PS1=> "])
    return box


def test_a_session(shell: Any, window: Window) -> None:
    """What people do: type, look, resize, interrupt, leave."""
    running = window.start(shell)
    window.until(PROMPT)
    assert window.mode()[3] & (termios.ECHO | termios.ICANON | termios.ISIG) == 0
    window.type("tty; ls -l /dev/console | cut -c 1; stty size; ps -o tty,args\n")
    rows = window.until(PROMPT).split("\r\n")[1:-1]
    assert rows[:3] == ["/dev/pts/0", "c", "24 80"]
    assert rows[4].split() == ["136,0", "sh"]  # its controlling terminal
    window.resize(50, 132)
    running.send_signal(signal.SIGWINCH)
    window.type("stty size\n")
    assert "50 132" in window.until(PROMPT)
    window.type("sleep 1000\n")
    while len(shell("ps").stdout.split()) < 2:
        pass
    window.type("\3")  # Ctrl-C is for the payload's own group
    window.until(PROMPT)
    window.type("echo $?\n")
    assert "130" in window.until(PROMPT)
    window.type("exit 5\n")
    assert running.wait() == 5
    assert window.mode() == window.before


def test_end_of_file_is_typed(shell: Any, window: Window) -> None:
    running = window.start(shell)
    window.until(PROMPT)
    window.type("\4")
    assert running.wait() == 0
    assert window.mode() == window.before


@pytest.mark.parametrize("how", ["payload killed", "runtime told to end"])
def test_the_window_is_usable_afterwards(shell: Any, window: Window, how: str) -> None:
    script = "trap 'exit 143' TERM; echo ready; while :; do sleep 0.01; done"
    shell.process["args"] = ["sh", "-c", script]
    running = window.start(shell)
    window.until("ready\r\n")
    assert window.mode() != window.before
    if how == "payload killed":
        shell("kill", "KILL")
    else:
        running.send_signal(signal.SIGTERM)
    assert running.wait() == (137 if how == "payload killed" else 143)
    assert window.mode() == window.before


def test_the_window_is_usable_after_a_failed_start(shell: Any, window: Window) -> None:
    shell.process["args"] = ["/nosuch"]
    assert window.start(shell, stderr=subprocess.DEVNULL).wait() == 1
    assert window.mode() == window.before


def test_all_that_was_written_comes_out(shell: Any, window: Window) -> None:
    """Also what the payload wrote just before its end."""
    shell.process["args"] = ["sh", "-c", "seq 1 20000; echo last"]
    running = window.start(shell)
    shown = window.until("last\r\n")
    assert running.wait() == 0
    assert shown.split() == [*map(str, range(1, 20001)), "last"]


def test_streams_that_are_no_terminal(shell: Any) -> None:
    """stdin and stdout are pipes: relayed all the same, newlines as they are, end of file as Ctrl-D."""
    shell.process["args"] = ["sh", "-c", "stty -echo; echo; cat; test -t 0 && test -t 1 && test -t 2 && echo tty"]
    done = shell("run", input="one\ntwo\n")
    assert done.stdout.endswith("one\ntwo\ntty\n") and "\r" not in done.stdout


def test_a_reader_that_goes_away_hangs_up(shell: Any) -> None:
    shell.process["args"] = ["sh", "-c", "while :; do echo line; done"]
    shell.share("pid")  # init would not die of it
    running = shell.start(stdout=subprocess.PIPE)
    running.stdout.readline()
    running.stdout.close()
    assert running.wait() == 128 + signal.SIGHUP


def test_a_reader_that_does_not_read_keeps_nobody_deaf(shell: Any) -> None:
    """stdout is full: signals are passed on none the less."""
    shell.process["args"] = ["sh", "-c", "trap 'exit 9' TERM; while :; do echo line; done"]
    running = shell.start(stdout=subprocess.PIPE)
    running.stdout.readline()
    running.send_signal(signal.SIGTERM)
    running.stdout.read()
    assert running.wait() == 9


def test_the_size_is_there_from_the_start(shell: Any, window: Window) -> None:
    shell.process["args"] = ["stty", "size"]
    for _ in range(3):
        running = window.start(shell)
        assert window.until("\r\n") == "24 80\r\n"
        assert running.wait() == 0


def test_a_size_that_config_json_gives(shell: Any) -> None:
    shell.process.update(consoleSize={"height": 10, "width": 20}, args=["stty", "size"])
    assert shell("run", stdin=subprocess.DEVNULL).stdout == "10 20\n"


def test_a_size_that_exec_gives(shell: Any) -> None:
    """And not whoever has its console socket, a moment too late."""
    shell.process["terminal"] = False
    shell.process["args"] = ["sleep", "1000"]
    shell("create")
    shell("start")
    for size, code in (("10x20", 0), ("10", 2), ("10x65536", 2)):
        words = ("-t", "--console-size", size, shell.id, "stty", "size")
        done = shell.oci("run", "exec", *words, code=code, stdin=subprocess.DEVNULL)
        assert done.stdout == ("10 20\n" if not code else "")
    shell("delete", "-f")


def test_another_user_owns_the_terminal(shell: Any) -> None:
    shell.process["user"] = {"uid": 1000, "gid": 1000}
    shell.process["args"] = ["sh", "-c", "stat -c %u /dev/console; echo x > /dev/console; echo y > /dev/tty"]
    assert shell("run").stdout == "1000\nx\ny\n"


# -- the console socket --------------------------------------------------------------------


class Engine:
    """Listens as conmon and containerd do."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen(1)

    def master(self) -> int:
        connection, _ = self.socket.accept()
        with connection:
            fds = array.array("i")
            _, rights, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(rights[0][2])
        return fds[0]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(fd, 4096)
    return data


def test_console_socket(shell: Any, tmp_path: Any) -> None:
    with Engine(tmp_path / "console.sock") as engine:
        shell("create", "--console-socket", engine.path)
        master = engine.master()
        os.set_inheritable(master, False)
        shell("start")
        read_until(master, PROMPT.encode())
        os.write(master, b"tty\n")
        assert b"/dev/pts/0" in read_until(master, PROMPT.encode())
        os.close(master)  # a window that closes: SIGHUP
        shell("delete", "--force")


def test_console_socket_of_a_detached_run(shell: Any, tmp_path: Any) -> None:
    shell.process["args"] = ["sh", "-c", "read x; echo got $x"]
    with Engine(tmp_path / "console.sock") as engine:
        shell("run", "--detach", "--console-socket", engine.path)
        master = engine.master()
        os.write(master, b"it\n")
        assert read_until(master, b"got it\r\n")
        os.close(master)
        shell("delete", "--force")


def test_words_that_do_not_fit_the_configuration(shell: Any, tmp_path: Any) -> None:
    assert "--console-socket is needed" in shell("create", code=1).stderr
    assert "--console-socket is needed" in shell("run", "--detach", code=1).stderr
    done = shell("create", "--console-socket", tmp_path / "nobody", code=1)
    assert done.stderr == f"oci-run: cannot send a descriptor to '{tmp_path}/nobody': no such file or directory\n"
    shell.process["terminal"] = False
    assert "process.terminal is false" in shell("create", "--console-socket", "/x", code=1).stderr


def test_a_terminal_needs_a_devpts(shell: Any) -> None:
    shell.spec["mounts"] = [each for each in shell.spec["mounts"] if each["type"] != "devpts"]
    assert "does config.json mount a devpts" in shell("run", code=1).stderr
