"""A container in the foreground is a job as any other: pipes, ctrl-C, ctrl-Z and fg, a terminal's size and modes."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

pytestmark = pytest.mark.root
PROMPT = b"<prompt>"


class Shell:
    """An interactive shell on a terminal of its own, as people have it, with job control."""

    def __init__(self, oci):
        self.said = b""
        self.master, slave = pty.openpty()
        env = {**oci.env, "PATH": f"{oci.bin}:{os.environ['PATH']}", "HISTFILE": "/dev/null", "TERM": "dumb"}
        words = ["setsid", "-c", "bash", "--norc", "--noprofile", "-i"]
        self.process = subprocess.Popen(words, env=env, cwd=oci.cwd, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.type("bind 'set enable-bracketed-paste off' 2>/dev/null; stty -echo; PS1='<pro''mpt>'\n")
        self.until(PROMPT)

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def until(self, wanted, timeout=20):
        """Read until this was said; all since the last time."""
        deadline = time.monotonic() + timeout
        while not re.search(wanted, self.said):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"{wanted!r} did not come: {self.said!r}"
            self.said += os.read(self.master, 4096)
        seen = re.search(wanted, self.said).end()
        said, self.said = self.said[:seen], self.said[seen:]
        return said

    def modes(self):
        return termios.tcgetattr(self.master)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def shell(oci, run):
    made = Shell(oci)
    yield made
    made.close()


# -- pipes --------------------------------------------------------------------------------------


def test_between_two_pipes(run, oci):
    done = subprocess.run(
        ["sh", "-c", f"seq 100000 | {oci.bin}/oci-run -i busybox sort -rn | tail -n 2; echo after"],
        env=oci.env, cwd=oci.cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("2\n1\nafter\n", "")


def test_a_reader_that_goes(run, oci):
    """The payload is killed by SIGPIPE, as it would be without us."""
    script = f"{oci.bin}/oci-run --pid host busybox yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=oci.env, cwd=oci.cwd, capture_output=True, text=True)
    assert done.stdout == "y\n141\n"


def test_in_the_background(run, oci):
    """A shell without job control has it ignore ctrl-C."""
    done = subprocess.run(
        ["sh", "-c", f"{oci.bin}/oci-run busybox sh -c 'echo in; sleep 0.2; echo out' & sleep 0.1; kill -INT $!; wait"],
        env=oci.env, cwd=oci.cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "in\nout\n"


# -- keys ----------------------------------------------------------------------------------------


def test_ctrl_c(shell):
    shell.type("oci-run busybox sh -c 'trap \"echo interrupted; exit 9\" INT; echo up; while :; do sleep 0.05; done'\n")
    shell.until(b"up")
    shell.type(b"\x03")
    shell.until(b"interrupted")
    shell.until(PROMPT)
    shell.type("echo code $?\n")
    shell.until(b"code 9")


def test_ctrl_c_of_a_payload_without_a_handler(shell):
    """Process 1 of a pid namespace takes no signal that it has no handler for: with an init before it it does."""
    shell.type("oci-run --init busybox sh -c 'echo up; exec sleep 1000'\n")
    shell.until(b"up")
    shell.type(b"\x03")
    shell.until(PROMPT)
    shell.type("echo code $?\n")
    shell.until(b"code 130")


def test_ctrl_z_and_fg(shell, oci):
    shell.type("oci-run --name job busybox sh -c 'trap \"\" TSTP; i=0; while :; do echo n$i; i=$((i+1)); sleep 0.05; done'\n")
    shell.until(rb"n\d+\r\nn\d+\r")
    shell.type(b"\x1a")
    shell.until(b"Stopped")
    shell.type("echo quie''t\n")
    shell.until(rb"quiet\r\n" + PROMPT)
    assert '"paused"' in oci("run", "state", "job").stdout
    assert not select.select([shell.master], [], [], 0.2)[0], "nothing of it runs"
    shell.type("fg\n")
    shell.until(rb"n\d+\r\nn\d+\r")
    shell.type(b"\x1a")
    shell.until(b"Stopped")
    shell.type("bg\n")
    shell.until(rb"n\d+\r\nn\d+\r")
    shell.type("kill -KILL %1; wait; echo code $?\n")
    shell.until(rb"code \d+")
    oci("run", "rm", "-f", "job")


def test_ctrl_z_of_an_exec(shell, oci, run):
    run("-d", "--name", "job", "busybox", "sleep", "1000")
    shell.type("oci-run exec job sh -c 'i=0; while :; do echo n$i; i=$((i+1)); sleep 0.05; done'\n")
    shell.until(rb"n\d+\r\nn\d+\r")
    shell.type(b"\x1a")
    shell.until(b"Stopped")
    assert '"running"' in oci("run", "state", "job").stdout
    shell.type("fg\n")
    shell.until(rb"n\d+\r\nn\d+\r")
    oci("run", "rm", "-f", "job")


def test_ctrl_z_in_its_own_terminal_is_its_own(shell, oci):
    """With -t the keys are the container's: its shell stops its job, and ours none."""
    shell.type("oci-run -it busybox sh\n")
    shell.until(b"# ")
    shell.type("sleep 1000\n")
    time.sleep(0.3)
    shell.type(b"\x1a")
    shell.until(b"Stopped")
    shell.until(b"# ")
    shell.type("kill -9 %1; wait\n")
    shell.until(b"# ")
    shell.type("exit 3\nexit 3\n")
    shell.until(PROMPT)
    shell.type("echo code $?\n")
    shell.until(b"code 3")


# -- the terminal ----------------------------------------------------------------------------------


def size(master, rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_resize(shell):
    size(shell.master, 20, 70)
    shell.type("oci-run -it busybox sh -c 'trap \"stty size; exit\" WINCH; stty size; while :; do sleep 0.05; done'\n")
    shell.until(b"20 70")
    size(shell.master, 33, 99)
    shell.until(b"33 99")
    shell.until(PROMPT)


@pytest.mark.parametrize("signal_name", [None, "INT", "TERM", "HUP"])
def test_modes_are_as_before(shell, oci, signal_name):
    before = shell.modes()
    shell.type("oci-run -it --name raw --init busybox sh -c 'echo up; read x'\n")
    shell.until(b"up")
    assert shell.modes() != before, "raw"
    if signal_name is None:
        shell.type("\n")
    else:
        (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_ours(pid, oci)]
        os.kill(pid, getattr(signal, f"SIG{signal_name}"))
    shell.until(PROMPT)
    assert shell.modes() == before


def is_ours(pid, oci):
    """Whether a process is the oci-run of this test."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"raw" in words and f"OCI_ROOT={oci.env['OCI_ROOT']}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def test_modes_while_it_is_stopped(shell, oci):
    before = shell.modes()
    shell.type("oci-run -it --name raw busybox sh -c 'echo up; read x; echo got $x'\n")
    shell.until(b"up")
    raw = shell.modes()
    (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_ours(pid, oci)]
    os.kill(pid, signal.SIGTSTP)
    shell.until(b"Stopped")
    shell.until(PROMPT)  # the shell has its own modes again
    assert shell.modes() == before
    shell.type("fg\n")
    deadline = time.monotonic() + 30
    while shell.modes() != raw:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shell.type("typed\n")
    shell.until(b"got typed")
    shell.until(PROMPT)


def test_an_end_that_nobody_reads(run, oci):
    """The terminal gets its modes back though nobody reads what was written to it last."""
    master, slave = pty.openpty()
    process = oci.start("run", "-it", "busybox", "sh", "-c", "echo up; cat", stdin=slave, stdout=slave, stderr=slave)
    said = b""
    while b"up" not in said:
        said += os.read(master, 100)
    os.write(master, b"line\n\x04")
    assert process.wait(20) == 0
    said = b""
    while said.count(b"line") < 2:
        said += os.read(master, 100)
    os.close(master)
    os.close(slave)
