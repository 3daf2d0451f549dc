"""Escapes that have worked elsewhere, tried from inside a default one-shot container by a program of many system calls.

The host's Python is bound into it, read-only, so that what is asked of the kernel is the attack's own call.
"""

import fcntl
import os
import pty
import subprocess
import termios
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

TREES = [word for top in ("/usr", "/lib", "/lib64") for word in ("-v", f"{top}:{top}:ro")]
CALLS = """
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return os.strerror(ctypes.get_errno())
def tried(what):
    try:
        return repr(what())
    except OSError as error:
        return error.strerror
"""


@pytest.fixture
def attack(run):
    """What an attack inside prints, by lines."""

    def say(script, *words, **more):
        options = ["--network", "none", *TREES, *words]
        return run(*options, "busybox", "/usr/bin/python3", "-IS", "-c", CALLS + script, **more).stdout.splitlines()

    return say


def test_typing_into_the_terminal_of_who_ran_it(oci, run):
    """TIOCSTI (CVE-2016-7545, CVE-2017-5226): the shell that waits outside would execute what is typed."""
    run("busybox", "true")  # it is there
    script = CALLS + "print([tried(lambda: fcntl.ioctl(fd, 0x5412, bytes([c]))) for fd in (0, 1, 2) for c in b'x'])\n"
    script += "print(tried(lambda: os.open('/dev/tty', os.O_RDWR)), tried(lambda: fcntl.ioctl(1, 0x540e, 1)))"
    master, slave = pty.openpty()
    take = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
    words = ["--network", "none", *TREES, "busybox", "/usr/bin/python3", "-IS", "-c", script]
    running = oci.start("run", *words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take)
    os.close(slave)
    said = b""
    try:
        while chunk := os.read(master, 4096):
            said += chunk
    except OSError:
        pass
    assert running.wait() == 0, said
    os.close(master)
    rows = said.decode().split("\r\n")
    assert rows[0] == str(["Inappropriate ioctl for device", *["Operation not permitted"] * 2])  # without -i: an empty stdin
    assert rows[1] == "No such device or address Operation not permitted"


def test_a_file_by_its_handle(attack):
    """open_by_handle_at(2), "shocker": the root of the host's file system is inode 2 whatever is mounted."""
    script = """
handle = (2 << 0).to_bytes(4, "little") + (0).to_bytes(4, "little")
header = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + handle
print(call(304, os.open("/etc/hosts", os.O_RDONLY), header, 0))
print(call(303, -100, b"/etc/hosts", ctypes.create_string_buffer(bytes([128]) + bytes(200)), ctypes.byref(ctypes.c_int()), 0))
"""
    said = attack(script)
    assert said[0] == "Operation not permitted"


def test_a_program_that_the_kernel_runs_when_a_group_is_empty(attack):
    """release_agent of cgroup v1 (CVE-2022-0492): reached by mounting one in a user namespace of its own."""
    script = """
print(call(272, 0x10000000), call(272, 0x02000000), call(272, 0x00020000))  # unshare: user, cgroup, mount
print(call(165, b"cgroup", b"/tmp", b"cgroup", 0, b"rdma"), call(430, b"cgroup", 0))
for top, _, files in os.walk("/sys/fs/cgroup"):
    for name in files:
        if name in ("release_agent", "notify_on_release", "cgroup.procs", "devices.allow"):
            print(tried(lambda: os.open(os.path.join(top, name), os.O_WRONLY)))
"""
    said = attack(script)
    assert {word for line in said for word in line.split("Operation not permitted") if word.strip()} <= {"Read-only file system"}
    assert said[0].count("not permitted") == 3 and said[1].count("not permitted") == 2


@pytest.mark.parametrize("words", [[], ["-u", "1234"]], ids=["root", "user"])
def test_what_reaches_the_kernel_itself(attack, words):
    """Modules, bpf, perf, user faults, keys, other processes' memory, sockets into the kernel's cryptography (CVE-2026-31431)."""
    script = """
import socket
print("bpf", call(321, 0, b"", 0)); print("perf_event_open", call(298, b"", 0, -1, -1, 0))
print("userfaultfd", call(323, 0)); print("add_key", call(248, b"user", b"x", b"y", 1, -3))
print("kexec_load", call(246, 0, 0, 0, 0)); print("init_module", call(175, b"", 0, b""))
print("io_uring_setup", call(425, 1, b"")); print("setns", call(308, 0, 0))
print("AF_ALG", tried(lambda: socket.socket(38, socket.SOCK_SEQPACKET)))
print("AF_VSOCK", tried(lambda: socket.socket(40, socket.SOCK_STREAM)))
"""
    said = dict(line.split(" ", 1) for line in attack(script, *words))
    refused = {"Operation not permitted", "Function not implemented", "Address family not supported by protocol", "Permission denied"}
    assert {name: why for name, why in said.items() if why not in refused} == {}


def test_where_the_kernel_would_start_a_program_of_the_hosts(attack):
    """core_pattern, modprobe, uevent_helper, binfmt_misc, sysrq (CVE-2025-31133, CVE-2025-52881 end there)."""
    paths = [
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/sysrq-trigger",
        "/proc/sys/fs/binfmt_misc/register", "/proc/sys/kernel/hotplug", "/proc/sys/vm/panic_on_oom", "/sys/kernel/mm/ksm/run",
    ]  # fmt: skip
    said = attack(f"for path in {paths!r}: print(tried(lambda: os.write(os.open(path, os.O_WRONLY), b'|/x')))")
    assert len(said) == len(paths)
    assert set(said) <= {"Read-only file system", "No such file or directory", "Permission denied"}


def test_a_socket_of_ours_that_has_no_file(run, oci):
    """An abstract socket is reached by whoever shares the network (CVE-2020-15257): nothing of ours listens on one."""
    made = run("-d", "busybox", "sleep", "1000").stdout.strip()
    try:
        seen = run("--network", "host", "busybox", "cat", "/proc/net/unix").stdout
        monitors = {path.name for path in Path("/proc").glob("[0-9]*") if made in _words(path)}
        assert monitors
        for monitor in monitors:
            inodes = {os.readlink(fd)[8:-1] for fd in Path(f"/proc/{monitor}/fd").iterdir() if os.path.lexists(fd) and os.readlink(fd).startswith("socket:[")}
            rows = [line.split() for line in seen.splitlines()[1:]]
            assert [row for row in rows if len(row) > 7 and row[6] in inodes and row[7].startswith("@")] == []
    finally:
        oci("run", "rm", "-f", made)


def _words(process):
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace") + " ".join(
            os.readlink(fd) for fd in (process / "fd").iterdir()
        )
    except OSError:
        return ""


def test_descriptors_of_the_host_by_a_neighbour(run, oci):
    """No process of a container of `-d` holds, or sees by /proc, a directory of the host's; its output is two FIFOs."""
    made = run("-d", "--network", "none", "busybox", "sleep", "1000").stdout.strip()
    try:
        said = oci("run", "exec", made, "sh", "-c", "for p in /proc/[0-9]*; do ls -l $p/fd $p/cwd $p/root; done").stdout
        links = {line.split(" -> ")[1] for line in said.splitlines() if " -> " in line}
        seen = {link for link in links if link.startswith("/") and not link.endswith((f"{made}/io/stdout", f"{made}/io/stderr"))}
        assert seen <= {"/", "/dev/null"}
    finally:
        oci("run", "rm", "-f", made)


def test_the_tests_own_means(attack):
    """They find what they look for: the same program outside of the filter may do what is refused inside."""
    said = attack("print(call(272, 0x00020000))", "--privileged")
    assert said == [os.strerror(0)]
    assert subprocess.run(["/usr/bin/python3", "-c", CALLS + "print(call(39))"], capture_output=True, text=True).stdout == f"{os.strerror(0)}\n"
