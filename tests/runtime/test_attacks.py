"""Attacks on the runtime: each is tried, and seen to fail.

The numbers are those of reference lists of runc, crun, containerd and moby; what they attack is
said at each.  None of these may touch the host even when it fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box import host_mounts
from tests.long import rounds

pytestmark = pytest.mark.root

PYTHON = Path(os.path.realpath("/usr/bin/python3"))


def one_line(box: Any, *words: str) -> str:
    """The error of a run that must fail, in one line."""
    done = box("run", *words, code=1)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return str(done.stderr)


# -- the interpreter is the host's (CVE-2019-5736) ---------------------------------------------------


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    """A python3 that may be lost."""
    copy = tmp_path / "python3"
    shutil.copyfile(PYTHON, copy)
    copy.chmod(0o755)
    before = copy.read_bytes()
    yield copy
    assert copy.read_bytes() == before
    assert copy.stat().st_mode & 0o7777 == 0o755


OVERWRITE = """
import contextlib
import os
for flags in os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC:
    try:
        os.open("/proc/self/exe", flags)
        print("opened for writing")
    except OSError as error:
        print(error.strerror, flush=True)
try:
    os.truncate("/proc/self/exe", 0)
    print("truncated")
except OSError as error:
    print(error.strerror, flush=True)
try:
    os.chmod("/proc/self/exe", 0o777)
    print("chmod")
except OSError as error:
    print(error.strerror, flush=True)
held = os.open("/proc/self/exe", os.O_PATH)
os.set_inheritable(held, True)
os.execv("/bin/sh", ["sh", "-c", f"(echo x > /proc/self/fd/{held}) 2>&1; echo done"])
"""


@pytest.mark.parametrize("how", ["entry point", "interpreter of a script", "program by another name"])
def test_the_interpreter_cannot_be_overwritten(box: Any, python: Path, how: str) -> None:
    """With every capability and the libraries that python3 needs, kept open over an exec."""
    from oci_tools.linux import caps

    every = list(caps.NAMES)
    box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
    for place in "/usr/lib", "/lib64", "/lib":
        box.mount(place, place, "rbind", "ro")
    (box.rootfs / "attack").write_text("#!/proc/self/exe\n" + OVERWRITE)
    (box.rootfs / "attack").chmod(0o755)
    (box.rootfs / "link").symlink_to("/proc/self/exe")
    box.process["args"] = {
        "entry point": ["/proc/self/exe", "-I", "-S", "-c", OVERWRITE],
        "interpreter of a script": ["/attack"],
        "program by another name": ["/link", "/attack"],
    }[how]
    box.save()
    words = [python, "-IS", box.oci.bin / "oci-run", "run", "-b", box.bundle, box.id]
    done = subprocess.run(words, env=box.oci.env, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Read-only file system"] * 3 or lines[:3] == ["Text file busy"] * 3, done
    assert lines[3:5] in (["Read-only file system"] * 2, ["Text file busy", "Read-only file system"])
    assert "ead-only" in lines[5] or "can't create" in lines[5]
    assert lines[6:] == ["done"]


def test_a_created_container_shows_no_writable_interpreter(box: Any) -> None:
    box("create")
    exe = f"/proc/{box.state['pid']}/exe"
    assert not os.path.samestat(os.stat(exe), os.stat(PYTHON))
    with pytest.raises(OSError):  # also root of the host, through this, cannot
        os.close(os.open(exe, os.O_WRONLY))
    with pytest.raises(OSError):
        os.chmod(exe, 0o777)
    box("delete")


def test_a_caller_cannot_pretend_that_it_is_sealed(box: Any, python: Path) -> None:
    box.process["args"] = ["true"]
    box.save()
    words = [python, "-IS", box.oci.bin / "oci-run", "run", "-b", box.bundle, box.id]
    env = {**box.oci.env, "_OCI_SEALED": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot seal the interpreter" in done.stderr


# -- a process that is seen while it enters (CVE-2016-9962) --------------------------------------------


def test_a_created_container_cannot_be_looked_into(box: Any, tmp_path: Path) -> None:
    """By root of another container in the same pid namespace, as in a pod."""
    from tests.box import Box

    box("create")
    other = Box(box.oci, tmp_path / "other")
    other.namespace("pid", f"/proc/{box.state['pid']}/ns/pid")
    script = "for f in exe cwd root fd/0 ns/mnt; do readlink /proc/1/$f && echo seen $f; done; cat /proc/1/environ /proc/1/mem /proc/1/maps; true"
    done = other.sh(script)
    assert done.stdout == ""
    box("delete")


def test_an_exec_cannot_be_looked_into(box: Any) -> None:
    script = """
        echo ready > /ready
        while [ ! -e /stop ]; do
            for p in /proc/[2-9]* /proc/[1-9][0-9]*; do
                e=$(readlink $p/exe) && case $e in *python*) echo $e >> /seen;; esac
            done
        done 2>/dev/null"""
    box.process["args"] = ["sh", "-c", script]
    box("create")
    box("start")
    while not (box.rootfs / "ready").exists():
        pass
    for _ in range(8):
        box("exec", "true")
    (box.rootfs / "stop").touch()
    box("delete", "--force")
    assert not (box.rootfs / "seen").exists()


# -- what the caller or we left open (CVE-2024-21626) ----------------------------------------------------


@pytest.mark.parametrize("fd", [3, 9])
def test_a_working_directory_by_descriptor(box: Any, tmp_path: Path, fd: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for cwd in f"/proc/self/fd/{fd}", f"/proc/self/fd/{fd}/made", f"/proc/self/fd/{fd}/../escaped", f"/link/{fd}":
        (box.rootfs / "link").unlink(missing_ok=True)
        (box.rootfs / "link").symlink_to("/proc/self/fd")
        box.process["cwd"] = cwd
        box.process["args"] = ["ls", "-la", "."]
        box.save()
        for words in "", "--preserve-fds 7":
            line = f"exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ {fd}<{outside}; oci-run run {words} -b {box.bundle} {box.id}"
            done = box.oci.shell(line, code=None)
            assert done.returncode == 1, done.stdout
            assert "working directory" in done.stderr or "cannot change to directory" in done.stderr
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_a_working_directory_through_another_process(box: Any, tmp_path: Path) -> None:
    """Of the host, whose pids are shared: nothing may be made there with our rights."""
    box.share("pid")
    place = tmp_path / "outside"
    for cwd in f"/proc/{os.getpid()}/root{place}", f"/proc/{os.getpid()}/cwd/oci-tools-attack":
        box.process["cwd"] = cwd
        one_line(box)
    assert not place.exists() and not Path("oci-tools-attack").exists()


# -- links in the image (CVE-2019-19921, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2026-41579) --------


@pytest.mark.parametrize("target", ["outside", "../../../../../../../outside", "/proc", "/proc/self/fd", "/proc/1/root", "/etc"])
@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_a_directory_that_is_a_link(box: Any, tmp_path: Path, name: str, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(box.rootfs / name)
    (box.rootfs / name).symlink_to(target.replace("outside", str(outside).lstrip("/")) if "outside" in target else target)
    if target == "outside":
        (box.rootfs / name).unlink()
        (box.rootfs / name).symlink_to(outside)
    done = box.sh("echo inside", code=None)
    assert (done.returncode, done.stdout) == (0, "inside\n") or (done.returncode == 1 and len(done.stderr.splitlines()) == 1)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("mounted", [True, False], ids=["with /dev mounted", "without"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "none"])
def test_device_files_that_are_links(box: Any, tmp_path: Path, mounted: bool, terminal: bool) -> None:
    """/dev/null above all, which masks were once made of, and /dev/console, which a terminal was bound on."""
    victim = tmp_path / "victim"
    victim.write_text("untouched\n")
    victim.chmod(0o600)
    inside = box.rootfs / "etc/victim"
    inside.write_text("secret\n")
    for name in "null", "console", "pts", "ptmx", "zero", "full", "tty", "random", "urandom", "fd", "stdin", "shm", "mqueue":
        (box.rootfs / "dev" / name).symlink_to(victim if name in ("zero", "ptmx") else "/etc/victim")
    if not mounted:
        kept = [each for each in box.spec["mounts"] if not each["destination"].startswith("/dev")]
        box.spec["mounts"] = kept
    box.linux["maskedPaths"].append("/etc/victim")
    box.process["terminal"] = terminal
    box.process["args"] = ["cat", "/etc/victim"]
    done = box("run", code=None, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, 1)
    assert "secret" not in done.stdout and "Traceback" not in done.stderr
    assert (victim.read_text(), victim.stat().st_mode & 0o777, inside.read_text()) == ("untouched\n", 0o600, "secret\n")


def test_a_console_that_is_a_link(box: Any, tmp_path: Path) -> None:
    """A terminal on a tmpfs at /dev that a hook or image has prepared."""
    ready = tmp_path / "dev"
    ready.mkdir()
    (ready / "console").symlink_to("/etc/passwd")
    (ready / "pts").mkdir()
    mounts = [each for each in box.spec["mounts"] if each["destination"] not in ("/dev", "/dev/mqueue", "/dev/shm")]
    at = next(number for number, each in enumerate(mounts) if each["destination"] == "/dev/pts")
    mounts.insert(at, {"destination": "/dev", "type": "none", "source": str(ready), "options": ["bind"]})
    box.spec["mounts"] = mounts
    box.process["terminal"] = True
    assert "'/dev/console': it is a symbolic link" in one_line(box)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "none"])
def test_an_exec_among_device_files_that_are_links(box: Any, tmp_path: Path, terminal: bool) -> None:
    """Made by the container while it runs (CVE-2026-47766, CVE-2026-88264, CVE-2026-88265): an exec opens none of them."""
    victim = tmp_path / "victim"
    victim.write_text("untouched\n")
    links = f"cd /dev; for n in null console tty zero; do ln -sf /etc/victim $n; done; ln -sf {victim} ptmx; ln -sf {victim} random"
    box.process["args"] = ["sh", "-c", f"echo secret > /etc/victim; {links}; echo > /ready; exec sleep 1000"]
    box("create")
    box("start")
    while not (box.rootfs / "ready").exists():
        pass
    words = f"{'-t' if terminal else ''} {box.id} sh -c 'cat; for n in 0 1 2; do readlink /proc/self/fd/$n; done; true'"
    for streams in "</dev/null", "<&-", "<&- 2>&-", "</dev/null >/dev/null 2>/dev/null":
        done = box.oci.shell(f"oci-run exec {words} {streams}")
        assert "victim" not in done.stdout and "secret" not in done.stdout and done.stderr == ""
        assert terminal <= ("/dev/pts/0" in done.stdout or ">/" in streams)
    assert (victim.read_text(), (box.rootfs / "etc/victim").read_text()) == ("untouched\n", "secret\n")
    box("delete", "--force")


def test_a_device_that_is_something_else(box: Any) -> None:
    box.spec["mounts"] = [each for each in box.spec["mounts"] if not each["destination"].startswith("/dev")]
    (box.rootfs / "dev/null").write_text("a trap")
    assert one_line(box) == "oci-run: cannot make device '/dev/null': something else is in its place\n"
    (box.rootfs / "dev/null").unlink()
    os.mknod(box.rootfs / "dev/null", 0o20666, os.makedev(1, 1))  # /dev/mem
    assert "something else is in its place" in one_line(box)


# -- /proc is what later steps trust (CVE-2019-16884, CVE-2023-27561, CVE-2025-52881) -----------------------


@pytest.mark.parametrize("destination", ["/proc/self/attr", "/proc/sys", "/proc/self/fd", "/proc/1/status", "/link/sys", "/proc/../proc/sys"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_mounts_inside_proc(box: Any, tmp_path: Path, destination: str, kind: str) -> None:
    (box.rootfs / "link").symlink_to("proc")
    if kind == "bind":
        box.mount(destination, tmp_path, "bind")
    else:
        box.mount(destination, "tmpfs", type="tmpfs")
    assert "/proc" in one_line(box)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_mounts_over_proc(box: Any, tmp_path: Path, kind: str, first: bool) -> None:
    entry = {"destination": "/proc", "type": kind, "source": str(tmp_path), "options": ["bind"] if kind == "bind" else []}
    box.spec["mounts"].insert(0 if first else len(box.spec["mounts"]), entry)
    assert "'/proc': only a proc file system may be there" in one_line(box)


def test_what_lxcfs_mounts_is_allowed(box: Any, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    box.mount("/proc/uptime", tmp_path / "uptime", "bind", "ro")
    assert box.says("cat /proc/uptime") == "1.00 1.00"


def test_destinations_through_magic_links(box: Any, tmp_path: Path) -> None:
    """/proc/self/root would be the runtime's root, and /proc/self/fd/N what it holds open."""
    (box.rootfs / "escape").symlink_to("/proc/self/root")
    for destination in "/proc/self/root/tmp/attack", "/escape/tmp/attack", "/proc/self/cwd/attack", "/proc/thread-self/root/attack":
        box.mount(destination, tmp_path, "bind")
        one_line(box)
        box.spec["mounts"].pop()
    assert not Path("/tmp/attack").exists()


def test_masks_and_read_only_paths_that_lead_out(box: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here\n")
    before = host_mounts(tmp_path)
    (box.rootfs / "mask").symlink_to("../../../../../../.." + str(victim))
    (box.rootfs / "ro").symlink_to("/proc/1/root/tmp")
    box.linux["maskedPaths"].append("/mask")
    box.linux["readonlyPaths"].append("/mask")
    box.says("true")
    box.linux["readonlyPaths"].append("/ro")
    box.sh("true", code=None)
    assert victim.read_text() == "here\n"
    assert host_mounts(tmp_path) == before


# -- files that are not what they seem (CVE-2024-40635, containerd #12961) -----------------------------------


@pytest.mark.parametrize("what", ["sparse", "fifo", "zero", "directory", "loop", "mem", "long line"])
def test_a_hostile_passwd(box: Any, what: str) -> None:
    passwd = box.rootfs / "etc/passwd"
    passwd.unlink()
    if what == "sparse":
        passwd.touch()
        os.truncate(passwd, 1 << 40)
    elif what == "fifo":
        os.mkfifo(passwd)
    elif what == "directory":
        passwd.mkdir()
    elif what == "long line":
        passwd.write_text("root:x:0:0:" + "x" * 500_000 + ":/long\n" + ":" * 400_000)
    else:
        passwd.symlink_to({"zero": "/dev/zero", "loop": "passwd", "mem": "/proc/self/mem"}[what])
    done = box.sh("echo $HOME", code=None)
    assert done.returncode in (0, 1) and len(done.stderr.splitlines()) == (done.returncode)
    if what == "long line":
        assert done.stdout == "/long\n"


# -- Python itself -------------------------------------------------------------------------------------


def test_nothing_is_imported_from_the_image(box: Any) -> None:
    """Modules that Python likes to import late lie at the same paths inside the image."""
    trap = "import os\nos.close(os.open('/pwned', os.O_CREAT))\n"
    names = ("traceback linecache tokenize re warnings locale codecs contextlib subprocess pwd grp idna stringprep posixpath os "
             "resource signal socket json struct errno typing").split()  # fmt: skip
    library = f"usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    places = [library, f"{library}/encodings", f"{library}/lib-dynload", "usr/lib/python3/dist-packages"]
    tree = str(Path(sys.modules["oci_tools"].__file__ or "").parent)
    places += [tree, f"{tree}/runtime", f"{tree}/linux", tree + "/.."]
    for place in places:
        folder = box.rootfs / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*names, "utf_8", "ascii", "latin_1", "__init__", "document", "sync", "hooks"):
            (folder / f"{name}.py").write_text(trap)
    box.says("echo fine")
    box.process["args"] = ["/nosuch\udcff"]
    one_line(box)
    box.process["cwd"] = "/etc/passwd"
    one_line(box)
    box.process["cwd"] = "/"
    box.process["args"] = ["true"]
    box.process["env"].append("PYTHONPATH=/")
    box.spec["hooks"] = {"startContainer": [{"path": "/nosuch"}]}
    one_line(box)
    assert not (box.rootfs / "pwned").exists()


def test_the_callers_environment_does_not_reach_python(box: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(99)")
    (tmp_path / "os.py").write_text("raise SystemExit(99)")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py"),
               "PYTHONINSPECT": "1", "PYTHONUNBUFFERED": "x", "PYTHONIOENCODING": "rot13"}  # fmt: skip
    assert box.sh("echo fine", env=hostile, cwd=tmp_path).stdout == "fine\n"


def test_messages_cannot_drive_a_terminal(box: Any) -> None:
    box.process["args"] = ["\x1b[2J\r\nowned\x07"]
    line = one_line(box)
    assert line.rstrip("\n").isprintable()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_container_cannot_change_its_limits(box: Any, mapped: bool) -> None:
    """Without a cgroup namespace a group of the host is bound (CVE-2023-25809)."""
    box.share("cgroup")
    if mapped:  # whatever is asked for
        box.mapped()
        mounts = box.spec["mounts"]
        next(each for each in mounts if each["type"] == "cgroup")["options"] = ["nosuid", "noexec", "nodev", "rw"]
    script = """
        cat /sys/fs/cgroup/pids/tasks
        for f in /sys/fs/cgroup/*/tasks; do
            (echo 1 > $f) 2>/dev/null && echo wrote $f; mkdir ${f%/*}/new 2>/dev/null && echo made
        done; true"""
    assert "wrote" not in box.says(script) and "made" not in box.says(script)


def test_a_huge_state_of_a_neighbour_is_no_trouble(box: Any) -> None:
    """An annotation of megabytes: created, listed, deleted."""
    box.spec["annotations"] = {"big": "x" * 3_000_000}
    box("create")
    assert box.state["annotations"]["big"] == "x" * 3_000_000
    box("delete")


# -- races (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565) --------------------------------------------------

FLIP = """
import ctypes, sys
libc, names = ctypes.CDLL(None), [name.encode() for name in sys.argv[1:]]
print(flush=True)
while True:
    for one, other in zip(names[::2], names[1::2]):
        libc.renameat2(-100, one, -100, other, 2)  # RENAME_EXCHANGE
"""


@contextlib.contextmanager
def flipping(*names: Path) -> Iterator[None]:
    """Pairs of names that change places as fast as can be, as from another container with the same volume."""
    with subprocess.Popen([sys.executable, "-c", FLIP, *names], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield
        process.kill()


def test_a_mount_target_that_becomes_a_link(box: Any, tmp_path: Path) -> None:
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    (shared / "dir" / "deep").mkdir(parents=True)
    outside.mkdir()
    (shared / "link").symlink_to(outside)
    box.mount("/shared", shared, "bind")
    box.mount("/shared/dir/deep/new", tmp_path, "bind")
    box.mount("/shared/dir/x", "tmpfs", type="tmpfs")
    box.linux["maskedPaths"] += ["/shared/dir/deep"]
    box.linux["readonlyPaths"] += ["/shared/dir"]
    box.process["cwd"] = "/shared/dir/work"
    with flipping(shared / "dir", shared / "link"):
        for _ in range(rounds(12, 1000)):
            done = box.sh("echo inside", code=None)
            assert (done.returncode, done.stdout) == (0, "inside\n") or (done.returncode == 1 and len(done.stderr.splitlines()) == 1)
            assert list(outside.iterdir()) == []


def test_device_files_that_become_links(box: Any, tmp_path: Path) -> None:
    """Without a mount on /dev it is the image's, and somebody may still write there."""
    box.spec["mounts"] = [each for each in box.spec["mounts"] if not each["destination"].startswith("/dev")]
    victim = tmp_path / "victim"
    victim.write_text("secret")
    dev = box.rootfs / "dev"
    for name in "null", "console":
        os.mknod(dev / name, 0o666 | (stat.S_IFCHR if name == "null" else stat.S_IFREG), os.makedev(1, 3) if name == "null" else 0)
        (dev / f"{name}.link").symlink_to(victim)
    (box.rootfs / "masked").write_text("hidden")
    box.linux["maskedPaths"] += ["/masked"]
    script = "stat -c %t:%T /masked; cat /masked; cat /dev/console /dev/null 2>/dev/null; true"
    with flipping(dev / "null", dev / "null.link", dev / "console", dev / "console.link"):
        for _ in range(rounds(12, 1000)):
            done = box.sh(script, code=None)
            assert "secret" not in done.stdout and "hidden" not in done.stdout
            assert done.returncode == 1 or done.stdout.startswith("1:3\n")
    assert victim.read_text() == "secret"
