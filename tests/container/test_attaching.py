"""`oci-run attach`, and detached containers with a terminal or an input."""

import os
import pty
import subprocess
import termios

import pytest

pytestmark = pytest.mark.root
SHELL = ("-d", "-t", "-i", "--name", "web", "busybox", "sh", "-c", "PS1='$ ' exec sh")


def pipes(oci, *words):
    return oci.start("run", "attach", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Terminal:
    """`oci-run WORDS` on a terminal of its own."""

    def __init__(self, oci, *words, rows=24, columns=80):
        self.master, ours = pty.openpty()
        termios.tcsetwinsize(ours, (rows, columns))
        self.before = termios.tcgetattr(ours)
        self.process = oci.start("run", *words, stdin=ours, stdout=ours, stderr=ours, start_new_session=True)
        self.ours = ours

    def type(self, text):
        os.write(self.master, text)

    def until(self, text):
        seen = b""
        while text not in seen:
            seen += os.read(self.master, 1000)
        return seen

    def end(self):
        code = self.process.wait()
        after = termios.tcgetattr(self.ours)
        os.close(self.master)
        os.close(self.ours)
        assert after == self.before, "the terminal is not as it was"
        return code


def test_input_of_a_detached_one(run, oci):
    """`-d -i`: who attaches types, and the end of what it types is the end of its input."""
    run("-d", "-i", "--name", "web", "busybox", "sh", "-c", "echo ready; cat; echo over >&2; exit 3")
    process = pipes(oci, "web")
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() in (b"one\n", b"ready\n")
    said, error = process.communicate(b"two\n")
    assert said.endswith(b"two\n") and error == b"over\n" and process.returncode == 3
    assert run("logs", "web").stdout == "ready\none\ntwo\n"
    run("rm", "web")


def test_a_watcher_does_not_end_the_input(run, oci):
    line = "(while :; do echo; sleep 0.02; done) & read x; kill $!; echo got $x; read x; echo got $x"
    run("-d", "-i", "--name", "web", "busybox", "sh", "-c", line)
    watcher = oci.start("run", "attach", "--no-stdin", "web", stdout=subprocess.PIPE)
    assert watcher.stdout.readline() == b"\n"  # it is attached by now
    first = pipes(oci, "web")
    first.stdin.write(b"1\n")
    first.stdin.flush()
    assert next(filter(bytes.strip, first.stdout)) == b"got 1\n"
    second = pipes(oci, "web")
    said, _ = second.communicate(b"2\n")
    assert said.endswith(b"got 2\n") and first.communicate()[0] == b"got 2\n"
    assert watcher.communicate()[0].endswith(b"got 2\n")
    run("rm", "web")


def test_without_i_its_input_is_empty(run):
    run("-d", "--name", "web", "busybox", "cat")
    assert run("wait", "web").stdout == "0\n"
    run("rm", "web")


def test_signals_are_passed_on(run, oci):
    run("-d", "--name", "web", "busybox", "sh", "-c", "trap 'echo int; exit 5' INT; mkfifo /g; echo x; read x <>/g")
    with oci.start("run", "logs", "-f", "web", stdout=subprocess.PIPE) as following:
        assert following.stdout.readline() == b"x\n"
        following.terminate()
    process = pipes(oci, "web")  # it catches USR1 once it stands between
    oci.shell(f"until grep -q 'SigCgt:.*[2367abef]..$' /proc/{process.pid}/status; do :; done")
    process.send_signal(2)
    said, _ = process.communicate()
    assert said.endswith(b"int\n") and process.returncode == 5
    run("rm", "web")


def test_a_terminal(run, oci):
    """Two terminals on one: both see it; the keys let go, and it lives on; its size is that of who came last."""
    run(*SHELL)
    one = Terminal(oci, "attach", "web", rows=30, columns=100)
    one.type(b"echo $((6*7))\r")
    one.until(b"42")
    one.type(b"tty; stty size\r")
    assert b"/dev/pts/0" in one.until(b"30 100")
    two = Terminal(oci, "attach", "web", rows=11, columns=33)
    two.type(b"stty size; echo $((7*7))\r")
    assert b"11 33" in two.until(b"49")
    one.until(b"49")
    termios.tcsetwinsize(two.ours, (12, 34))
    two.process.send_signal(28)  # what the terminal sends whose foreground it is
    two.type(b"until stty size | grep '12 34'; do :; done; echo $((8*8))\r")
    two.until(b"64")
    two.type(b"\x10\x11")
    assert two.end() == 0
    one.type(b"exit 7\r")
    assert one.end() == 7
    assert "42\r\n" in run("logs", "web").stdout
    run("rm", "web")


def test_the_first_key_alone_is_typed(run, oci):
    run("-d", "-t", "-i", "--name", "web", "busybox", "sh", "-c", "read x; echo \"$x\" | cat -v; exit 5")
    terminal = Terminal(oci, "attach", "web")
    terminal.type(b"a\x10b\x10")
    terminal.until(b"b")
    terminal.type(b"c\r")
    terminal.until(b"a^Pb^Pc")
    assert terminal.end() == 5
    run("rm", "web")


def test_start_attached_to_a_terminal(run, oci):
    run("new", "-t", "-i", "--name", "web", "busybox", "sh", "-c", "read x; echo got $x; exit 4")
    terminal = Terminal(oci, "start", "-a", "-i", "web")
    terminal.type(b"x\r")
    terminal.until(b"got x")
    assert terminal.end() == 4
    run("rm", "web")


def test_what_cannot_be_attached_to(run, oci):
    run("new", "--name", "web", "busybox", "true")
    assert "it is not running" in run("attach", "web", code=1).stderr
    run("rm", "web")
    process = oci.start("run", "-i", "--name", "web", "busybox", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"
    assert "in the foreground of another process" in run("attach", "web", code=1).stderr
    process.communicate()
