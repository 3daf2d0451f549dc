"""System calls through libc: numbers, errors, strings, buffers; process and capability calls by what they do."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oci_tools.linux import caps, libc, mount, openat2, process, tty

# -- the call itself ---------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/usr/include/asm-generic/unistd.h"), reason="needs the kernel's headers")
@pytest.mark.parametrize(("table", "header"), [(libc._X86_64, "x86_64-linux-gnu/asm/unistd_64.h"), (libc._GENERIC, "asm-generic/unistd.h")])
def test_numbers_are_the_kernels(table: dict[str, int], header: str) -> None:
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"needs {path}")
    known = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "#define" and words[1].startswith(("__NR_", "__NR3264_")) and words[2].isdigit():
            known[words[1].removeprefix("__NR_").removeprefix("__NR3264_")] = int(words[2])
    assert not {name: number for name, number in {**table, **libc._NEW}.items() if known.get(name, number) != number}
    assert len(set(table) & set(known)) > len(table) * 0.8


def test_both_tables_know_the_same_calls() -> None:
    assert set(libc._X86_64) == set(libc._GENERIC)


def test_an_error_has_the_errno_and_the_subject() -> None:
    with pytest.raises(FileNotFoundError) as raised:
        libc.call("umount2", b"/no/such", 0, subject="/no/such")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, "/no/such")


def test_strings() -> None:
    assert libc.string("é\udcff/x") == b"\xc3\xa9\xff/x"
    for text in "a\0b", b"\0":
        with pytest.raises(OSError, match="Invalid argument"):
            libc.string(text)


def test_buffers() -> None:
    held = libc.buffer(8)
    assert bytes(held) == bytes(8)
    reader, writer = os.pipe()
    os.write(writer, b"12345678")
    assert libc.address(held) and os.readv(reader, [memoryview(held).cast("B")]) == 8
    assert bytes(held) == b"12345678"
    assert bytes(libc.hold(b"abc\0d")) == b"abc\0d"
    os.close(reader)
    os.close(writer)


# -- processes ---------------------------------------------------------------------------------------------


def isolated(code: str) -> str:
    """What a fresh interpreter, of one thread, prints."""
    top = str(Path(libc.__file__).parents[2])
    line = f"import sys; sys.path.insert(0, {top!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_clone3() -> None:
    assert isolated(
        "import os\nfrom oci_tools.linux import process\n"
        "pid, pidfd = process.clone3(0)\nif not pid: os._exit(5 if os.getppid() else 6)\n"
        "import select\nselect.select([pidfd], [], [])\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    ) == "5"  # fmt: skip


def test_execveat() -> None:
    assert isolated(
        "import os\nfrom oci_tools.linux import process\nfd = os.open('/bin/echo', os.O_PATH)\n"
        "process.execveat(fd, '', ['echo', 'a b', 'é', ''], ['X=y'], process.AT_EMPTY_PATH)"
    ) == "a b é"  # fmt: skip


def test_close_range() -> None:
    a, b = os.pipe()
    process.close_range(a, a)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(a)
    os.set_inheritable(b, True)
    process.close_range(b, b, process.CLOSE_RANGE_CLOEXEC)
    assert not os.get_inheritable(b)
    os.close(b)


def test_start_time(tmp_path: Path) -> None:
    """Whatever a process calls itself."""
    odd = tmp_path / ") R 1 (x"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "1000"]) as child:
        first = process.start_time(child.pid)
        assert first > 0 and process.start_time(child.pid) == first
        assert abs(first / os.sysconf("SC_CLK_TCK") - float(Path("/proc/uptime").read_text().split()[0])) < 60
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.start_time(child.pid) == 0
    assert process.start_time(child.pid) == 0


def test_a_signal_by_pidfd() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        pidfd = os.pidfd_open(child.pid)
        process.pidfd_send_signal(pidfd, 0)
        process.pidfd_send_signal(pidfd, signal.SIGUSR1)
        assert child.wait() == -signal.SIGUSR1
        with pytest.raises(ProcessLookupError):
            process.pidfd_send_signal(pidfd, 0)
        os.close(pidfd)


def test_prctl_answers() -> None:
    assert process.prctl(process.PR_CAPBSET_READ, 0) in (0, 1)
    with pytest.raises(OSError, match="Invalid"):
        process.prctl(process.PR_CAPBSET_READ, 200)


# -- capabilities --------------------------------------------------------------------------------------------


def test_the_sets_are_those_of_proc() -> None:
    rows = dict(row.split(":\t") for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("Cap"))
    effective, permitted, inheritable = caps.capget()
    assert (effective, permitted, inheritable) == tuple(int(rows[name], 16) for name in ("CapEff", "CapPrm", "CapInh"))
    assert caps.bounding() == int(rows["CapBnd"], 16)


def test_names_are_in_the_kernels_order() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(caps.NAMES) >= last + 1
    assert (caps.NAMES.index("CAP_SYS_ADMIN"), caps.NAMES.index("CAP_CHECKPOINT_RESTORE")) == (21, 40)


@pytest.mark.root
def test_sets_are_taken() -> None:
    assert isolated(
        "from oci_tools.linux import caps\ncaps.drop_bounding(3)\ncaps.capset(1 << 5, 1 << 5 | 1 << 7, 1 << 5)\n"
        "caps.raise_ambient(5)\nprint(caps.capget(), caps.bounding() >> 3 & 1)\ncaps.clear_ambient()"
    ) == f"({1 << 5}, {1 << 5 | 1 << 7}, {1 << 5}) 0"  # fmt: skip


# -- paths ---------------------------------------------------------------------------------------------------


def test_openat2_stays_beneath(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a/file").write_text("inside")
    (tmp_path / "file").write_text("outside")
    (root / "up").symlink_to("../../file")
    (root / "absolute").symlink_to("/a/file")
    (root / "magic").symlink_to("/proc/self/fd/0")
    fd = os.open(root, os.O_PATH)
    for path, content in (("a/file", "inside"), ("/absolute", "inside"), ("../../a/../a/file", "inside")):
        found = openat2.openat2(fd, path, os.O_RDONLY)
        assert not os.get_inheritable(found)
        assert os.read(found, 100).decode() == content
        os.close(found)
    for path in "up", "../file":
        with pytest.raises(FileNotFoundError):
            openat2.openat2(fd, path, os.O_RDONLY)
    with pytest.raises(OSError):
        openat2.openat2(fd, "magic", os.O_RDONLY)
    os.close(fd)
    proc = os.open("/proc", os.O_PATH)
    with pytest.raises(OSError) as raised:
        openat2.openat2(proc, "self/root", os.O_PATH)
    assert raised.value.errno == errno.ELOOP
    os.close(proc)


@pytest.mark.root
def test_mounts_by_descriptor(tmp_path: Path) -> None:
    """A detached file system is used without ever having a name."""
    context = mount.fsopen("tmpfs")
    mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "size", "64k")
    mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
    tree = mount.fsmount(context, mount.MOUNT_ATTR_NOSUID)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=tree))
    mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY)
    with pytest.raises(OSError, match="Read-only"):
        os.open("other", os.O_CREAT | os.O_WRONLY, dir_fd=tree)
    os.close(tree)
    os.close(context)


@pytest.mark.root
def test_the_kernels_own_words_are_in_the_error() -> None:
    context = mount.fsopen("tmpfs")
    with pytest.raises(OSError) as raised:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "nosuchoption", "1")
    assert "nosuchoption" in raised.value.strerror
    os.close(context)


# -- terminals -------------------------------------------------------------------------------------------------


def test_terminals() -> None:
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    assert tty.is_master(master)
    tty.unlock(master)
    peer = tty.peer(master)
    assert os.isatty(peer) and not tty.is_master(peer)
    assert fcntl.fcntl(peer, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    tty.set_size(master, 33, 77)
    assert tty.size(peer) == (33, 77)
    os.close(peer)
    os.close(master)
    null = os.open("/dev/null", os.O_RDWR)
    assert not tty.is_master(null)
    with pytest.raises(OSError):
        tty.size(null)
    os.close(null)
