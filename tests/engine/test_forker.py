"""The forker: words, environment, directory and descriptors arrive, and an exit code comes back, whoever dies."""

import os
import signal
import sys
from socket import AF_UNIX, SOCK_SEQPACKET, socketpair

import pytest

from oci_tools.engine import forker
from oci_tools.errors import Error


def command(name):
    """What the forker is given for a command: here a few lines of Python."""

    def run():
        scope = {}
        exec(sys.argv[1], {"os": os, "sys": sys, "name": name}, scope)
        sys.stdout.flush()
        os._exit(scope.get("code", 0))

    return run


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Forked:
    """A forker of our own, which may be killed and begun again."""

    def __init__(self):
        asking, self.asked = forker.pair()
        self.call = forker.Asker(asking)
        self.start()

    def start(self):
        self.pid = os.fork()
        if self.pid == 0:
            self.call.sock.close()
            forker.serve(self.asked, command)
            os._exit(0)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def forked():
    made = Forked()
    yield made
    made.asked.close()
    made.call.sock.close()
    os.waitpid(made.pid, 0)


def said(forked, code, **more):
    reader, writer = os.pipe()
    result = forked.call(("run", code), {1: writer}, **more)
    os.close(writer)
    with open(reader) as file:
        return result, file.read()


def test_everything_arrives(forked, tmp_path):
    code = "print(name, os.path.basename(sys.argv[0]), os.environ, os.getcwd()); code = 7"
    expected = f"run oci-run environ({{'A': 'b'}}) {tmp_path}\n"
    assert said(forked, code, env={"A": "b"}, cwd=str(tmp_path)) == (7, expected)


def test_descriptors_have_their_numbers_and_there_are_no_others(forked, tmp_path):
    path = tmp_path / "file"
    path.write_text("text")
    fds = [os.open(path, os.O_RDONLY) for _ in range(3)]
    reader, writer = os.pipe()
    code = "print(sorted(int(n) for n in os.listdir('/proc/self/fd')), os.read(9, 9), os.read(0, 9))"
    assert forked.call(("run", code), {1: writer, 9: fds[0], 0: fds[1], 3: fds[2]}) == 0
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "[0, 1, 2, 3, 4, 9] b'text' b'text'\n"


def test_killed_by_a_signal(forked):
    assert forked.call(("run", "os.kill(os.getpid(), 9)")) == 137
    with forked.call.begin(("run", "import time; time.sleep(1000)")) as call:
        call.signal(15)
        assert call.wait() == 143


def test_a_long_request(forked):
    """argv and environment may have megabytes, which fit no message."""
    big = "x" * 3_000_000
    assert said(forked, "print(len(os.environ['BIG']))", env={"BIG": big}) == (0, "3000000\n")


def test_many_at_once(forked):
    calls = [forked.call.begin(("run", f"code = {n % 100}")) for n in range(200)]
    assert [call.wait() for call in calls] == [n % 100 for n in range(200)]
    for call in calls:
        call.close()


def test_a_command_outlives_its_forker(forked):
    """Its code is then the kernel's to tell, once whoever got it has reaped it: here nobody in a hurry."""
    reader, writer = os.pipe()
    said, told = os.pipe()
    with forked.call.begin(("run", "os.write(1, os.read(0, 1)); code = 5"), {0: reader, 1: told}) as call:
        os.close(told)
        forked.kill()
        os.write(writer, b"x")
        assert os.read(said, 9) == b"x"
        assert call.advance(blocking=True) == "ended" and call.code in (5, None)
    for fd in (reader, writer, said):
        os.close(fd)
    forked.start()


def test_what_is_asked_while_there_is_none_is_done_by_the_next(forked):
    forked.kill()
    call = forked.call.ask(("run", "code = 3"))
    assert call.advance() == "asked"
    forked.start()
    assert call.advance(blocking=True) == "begun" and call.wait() == 3
    call.close()


def test_nobody_answers():
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    theirs.close()
    with pytest.raises(OSError):
        forker.Asker(ours).begin(("run", ""))
    ours.close()


def test_a_forker_that_dies_before_it_begins_is_asked_again(forked):
    """What it had taken and not begun was not done."""
    taken = Forked()
    os.kill(taken.pid, signal.SIGSTOP)
    call = taken.call.ask(("run", "code = 1"))
    taken.asked.recv(100)  # as the forker would; the descriptors are closed with it
    assert call.advance(blocking=True) == "lost"
    call.close()
    taken.kill()
    with pytest.raises(Error, match="not known"):
        unknown = forker.Call(socketpair(AF_UNIX, SOCK_SEQPACKET)[0])
        unknown.pidfd = os.pidfd_open(os.posix_spawn("/bin/true", ["true"], {}))
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT):
            unknown.wait()
    os.wait()
