"""ocid's own life: how it starts, what becomes of its parts, how it ends and is upgraded."""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests import peers


class Client(http.client.HTTPConnection):
    """A client of a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def ping(path: str) -> bytes:
    client = Client(path)
    client.request("GET", "/_ping")
    return client.getresponse().read()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)


@pytest.fixture
def ocid(oci: Any) -> Any:
    daemon = oci.start("ocid", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = daemon.stdout.readline().strip()
    assert address == f"unix://{oci.env['OCI_RUN']}/ocid.sock"
    daemon.path = address.removeprefix("unix://")
    return daemon


def test_it_answers_and_ends(ocid: Any) -> None:
    assert ping(ocid.path) == b"OK"
    parts = children(ocid.pid)
    assert len(parts) == 2
    ocid.terminate()
    assert ocid.wait() == 0 and not os.path.exists(ocid.path)
    for part in parts:
        gone(part)


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_that_is_killed_is_there_again(ocid: Any, part: int) -> None:
    before = children(ocid.pid)
    os.kill(before[part], signal.SIGKILL)
    assert "ended by signal 9" in ocid.stderr.readline()
    while len(children(ocid.pid)) < 2:
        time.sleep(0.01)  # a fork of another process says nothing
    assert ping(ocid.path) == b"OK"
    assert children(ocid.pid) != before


def test_killed_itself_it_leaves_nothing(ocid: Any, oci: Any) -> None:
    parts = children(ocid.pid)
    ocid.kill()
    for part in parts:
        gone(part)
    again = oci.start("ocid", stdout=subprocess.PIPE, text=True)
    again.stdout.readline()
    assert ping(ocid.path) == b"OK"


def test_an_upgrade_keeps_its_pid_and_its_sockets(ocid: Any) -> None:
    waiting = Client(ocid.path)
    waiting.connect()
    before = children(ocid.pid)
    ocid.send_signal(signal.SIGUSR2)
    assert ocid.stdout.readline().startswith("unix://")
    assert ping(ocid.path) == b"OK" and ocid.poll() is None
    for part in before:
        gone(part)
    assert len(children(ocid.pid)) == 2
    waiting.close()


def test_there_is_one(ocid: Any, oci: Any) -> None:
    hint = "another process holds it (an ocid runs here: OCI_ROOT and OCI_RUN say where another's things are)"
    assert hint in oci("ocid", code=75).stderr
    other = {"OCI_RUN": f"{oci.env['OCI_RUN']}2"}
    assert "somebody listens there" in oci("ocid", "--listen", f"unix://{ocid.path}", env=other, code=1).stderr


def test_sockets_that_were_passed(oci: Any, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    script = f"exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec ocid --ready-fd {writer}"
    daemon = subprocess.Popen(
        ["/bin/bash", "-c", script], env=oci.env, pass_fds=(listener.fileno(), writer), stdout=subprocess.PIPE, text=True
    )
    os.close(writer)
    listener.close()
    with open(reader) as ready:
        assert ready.read() == "ready\n"
    assert ping(str(tmp_path / "s")) == b"OK"
    daemon.terminate()
    daemon.communicate()


def test_a_service_manager_is_told(oci: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        daemon = oci.start("ocid", "--pid-file", tmp_path / "pid", env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert told.recv(100) == b"READY=1\nMAINPID=%d" % daemon.pid
    assert int((tmp_path / "pid").read_text()) == daemon.pid


def test_who_may_use_its_socket(oci: Any, tmp_path: Path) -> None:
    """Several sockets, of a group that is said by its number."""
    paths = [tmp_path / "one", tmp_path / "two"]
    daemon = oci.start("ocid", *(f"--listen=unix://{each}" for each in paths), "--group", "4321", stdout=subprocess.PIPE, text=True)
    assert [daemon.stdout.readline() for _ in paths] == [f"unix://{each}\n" for each in paths]
    for each in paths:
        found = os.stat(each)
        assert (found.st_gid, found.st_mode & 0o777) == (4321 if os.geteuid() == 0 else os.getegid(), 0o660)
        assert ping(str(each)) == b"OK"


def test_certificates_are_read_again(oci: Any, tmp_path: Path) -> None:
    """With SIGHUP, by the same process; what cannot be read is told, and the old ones stay."""
    cert, key = peers.certificate(tmp_path)
    port = free()
    words = ("--listen", f"tcp://127.0.0.1:{port}", "--tlscert", cert, "--tlskey", key, "--tlscacert", cert)
    daemon = oci.start("ocid", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert daemon.stdout.readline() == f"tcp://127.0.0.1:{port}\n"

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    first = shown()
    assert first.split() == cert.read_text().split()
    before = children(daemon.pid)
    peers.certificate(tmp_path)
    assert shown() == first
    daemon.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while shown() == first and time.monotonic() < deadline:
        time.sleep(0.01)  # it says nothing of it
    second = shown()
    assert second.split() == cert.read_text().split() and children(daemon.pid) == before
    key.write_text("no key")
    daemon.send_signal(signal.SIGHUP)
    assert daemon.stderr.readline().startswith(f"ocid: cannot use certificate '{cert}': ")
    assert shown() == second


def test_a_port_for_everybody_only_where_it_is_said(oci: Any) -> None:
    address = f"tcp://127.0.0.1:{free()}"
    daemon = oci.start("ocid", "--listen", address, "--let-anybody-who-reaches-the-port-be-root-here", stdout=subprocess.PIPE, text=True)
    assert daemon.stdout.readline() == f"{address}\n"
    client = http.client.HTTPConnection(address.removeprefix("tcp://"))
    client.request("GET", "/_ping")
    assert client.getresponse().read() == b"OK"
    client.close()


def free() -> int:
    """A port that nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["--listen", "127.0.0.1:1"], 2, "invalid address '127.0.0.1:1'"),
        (["--listen", "fd://"], 1, "no socket was passed"),
        (["--listen", "fd://0"], 1, "cannot listen on 'fd://0'"),
        (["--listen", "tcp://localhost"], 2, "without certificates"),
        (["--group", "no-such-group"], 1, "no such group 'no-such-group'"),
        (["x"], 2, "unexpected extra argument"),
    ],
)
def test_words_that_make_no_sense(oci: Any, words: list[str], code: int, said: str) -> None:
    done = oci("ocid", *words, code=code)
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_plain_user(plain: Any) -> None:
    daemon = plain.start("ocid", stdout=subprocess.PIPE, text=True)
    path = daemon.stdout.readline().strip().removeprefix("unix://")
    assert ping(path) == b"OK" and os.stat(path).st_mode & 0o777 == 0o600
