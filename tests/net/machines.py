"""Machines that tests make themselves: network namespaces with links between them, and sockets in them.

    machine           a host with a mount namespace of its own, in which our commands run; nothing of it is the real one's
    machine.space(x)  a container's network namespace on it, at /run/netns/x
    outside           another host, on a link with the machine: 192.0.2.1 and 2001:db8::1 here, ...2 there

A socket stays in the namespace that it was made in, so traffic needs no process: the test opens both ends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Commands

HERE, THERE = "192.0.2.1", "192.0.2.2"
HERE6, THERE6 = "2001:db8::1", "2001:db8::2"
HOLDER = ("holder", "holder.pid")  # of $OCI_RUN/net: they stay, and speak of nobody
PATIENCE = 20.0  # seconds for what should happen at once, on a machine that is busy
BRIEF = 0.25  # seconds after which what is dropped counts as not arriving


class Space:
    """A network namespace, and what is done in it."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"  # as the machine's commands see it
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in it."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        os.setns(self.fd, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(own, os.CLONE_NEWNET)
            os.close(own)

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        with self.inside():
            made = socket.socket(family, kind)
        made.settimeout(PATIENCE)
        return made

    def listen(self, port: int, host: str = "0.0.0.0") -> socket.socket:
        made = self.socket(family=family(host))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(16)
        return made

    def reaches(self, host: str, port: int) -> bool:
        """Whether a connection is made."""
        with self.socket(family=family(host)) as sock:
            sock.settimeout(BRIEF)
            try:
                sock.connect((host, port))
            except OSError:
                return False
            return True

    def talks(self, listener: socket.socket, host: str, port: int) -> str:
        """Connect, say something, and hear it back; the address that the listener saw."""
        with self.socket(family=family(host)) as sock:
            sock.connect((host, port))
            there, peer = listener.accept()
            with there:
                there.settimeout(PATIENCE)
                sock.sendall(b"ping")
                assert there.recv(16) == b"ping"
                there.sendall(b"pong")
                assert sock.recv(16) == b"pong"
            return str(peer[0])

    def says(self, *words: str) -> str:
        """What a program in it prints."""
        with self.inside():
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def ip(self, *words: str) -> str:
        """`ip` in it."""
        return self.says("ip", *words)

    def close(self) -> None:
        os.close(self.fd)


def family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Machine(Space):
    """A host of our own."""

    def __init__(self, oci: Commands, directory: Path) -> None:
        script = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && echo ready && exec cat"
        words = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"
        super().__init__(f"/proc/{self.process.pid}/ns/net", "machine")
        self.oci = oci
        self.directory = directory
        self.root = f"/proc/{self.process.pid}/root"
        self.spaces: list[Space] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.enter = ["nsenter", "-t", str(self.process.pid), "-n", "-m", f"--wdns={directory}", "--"]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """A program in the machine."""
        return self.oci.run([*self.enter, *words], **options)

    def net(self, *words: str, **options: Any) -> str:
        """What `oci-net WORDS` prints, without the end of its last line."""
        done = self.run(str(self.oci.bin / "oci-net"), *words, **options)
        return str(done.stdout).rstrip("\n")

    def fails(self, *words: str, code: int = 1, **options: Any) -> str:
        """What `oci-net WORDS` says when it fails."""
        done = self.run(str(self.oci.bin / "oci-net"), *words, code=code, **options)
        assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
        return str(done.stderr).removeprefix("oci-net: ").rstrip("\n")

    def command(self, name: str, *words: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        return self.run(str(self.oci.bin / f"oci-{name}"), *words, **options)

    def start(self, name: str, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start `oci-NAME WORDS...`, to be ended by the test."""
        env = self.oci.environment(options.pop("env", None))
        argv = [*self.enter, str(self.oci.bin / f"oci-{name}"), *words]
        made = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, **options)
        self.started.append(made)
        return made

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Wait for what no descriptor tells."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    def space(self, name: str) -> Space:
        """A new namespace; it has no link."""
        self.run("ip", "netns", "add", name)
        made = Space(f"{self.root}/run/netns/{name}", name)
        self.spaces.append(made)
        return made

    def rules(self) -> str:
        return str(self.run("nft", "list", "ruleset").stdout)

    def resolvers(self) -> list[int]:
        """The pids of running resolvers."""
        return self.running("net/on/*/resolver")

    def holders(self) -> list[int]:
        """That of who holds published ports."""
        return self.running("net/holder.pid")

    def running(self, files: str) -> list[int]:
        found = []
        for path in Path(self.oci.env["OCI_RUN"]).glob(files):
            pid = int(path.read_text() or "0")
            if pid and os.path.exists(f"/proc/{pid}"):
                found.append(pid)
        return found

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        for pid in [*self.resolvers(), *self.holders()]:
            os.kill(pid, 9)
        for space in self.spaces:
            space.close()
        super().close()
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def connect(machine: Machine) -> Space:
    """Another host, with a route to the machine's containers by way of it: whoever attacks from the same link."""
    machine.run("ip", "netns", "add", "outside")
    made = Space(f"{machine.root}/run/netns/outside", "outside")
    machine.spaces.append(made)
    machine.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{os.getpid()}/fd/{made.fd}")
    for space, four, six in ((machine, HERE, HERE6), (made, THERE, THERE6)):
        space.ip("addr", "add", f"{four}/24", "dev", "eth0")
        space.ip("addr", "add", f"{six}/64", "dev", "eth0", "nodad")
        space.ip("link", "set", "eth0", "up")
    made.ip("link", "set", "lo", "up")
    return made


def greet(listener: socket.socket) -> list[str]:
    """Take one connection in a thread, say hello and close it; whose it was is in the list then."""
    peers: list[str] = []

    def serve() -> None:
        there, peer = listener.accept()
        peers.append(peer[0])
        there.sendall(b"hello\n")
        there.close()

    threading.Thread(target=serve, daemon=True).start()
    return peers


def echo(sock: socket.socket, count: int = 1) -> threading.Thread:
    """Give datagrams back, so many, in a thread."""

    def serve() -> None:
        for _ in range(count):
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread
