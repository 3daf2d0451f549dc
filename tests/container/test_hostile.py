"""Images of strangers: whatever lies where a container's own things come, nothing of the host is read, written or shown;
verbs in the wrong state, and two of the same at once: one line, the documented code, and nothing left."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests.long import rounds

pytestmark = pytest.mark.root
BUSYBOX = "/usr/bin/busybox"
NONE = ("--network", "none")


@pytest.fixture
def image(oci, run, tmp_path):
    """Make an image of a tree with busybox in it, which a function has changed first; its configuration by words."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    subprocess.run(["cp", BUSYBOX, tree / "bin/busybox"], check=True)
    for name in ("sh", "cat", "ls", "id", "touch", "readlink", "true", "stat", "sleep"):
        os.symlink("busybox", tree / f"bin/{name}")

    def make(change, *words):
        change(tree)
        oci("pack", *words, tree, "./img:x")
        return "./img:x"

    return make


def canary(tmp_path):
    """A file of the host that no container is to see or change."""
    path = tmp_path / "canary"
    path.write_text("host\n")
    return path


# -- users -----------------------------------------------------------------------------------------


def write(path, text):
    def change(tree):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)

    return change


def link(path, target):
    def change(tree):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, tree / path)

    return change


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: link(path, "/proc/self/environ"), None),
        (lambda path: link(path, "../../../../../../../../bin/busybox"), "larger than"),
        (lambda path: lambda tree: ((tree / path).parent.mkdir(), os.mkfifo(tree / path)), "not a regular file"),
        (lambda path: lambda tree: (tree / path).mkdir(parents=True), "not a regular file"),
        (lambda path: link(path, path.rpartition("/")[2]), "too many levels of symbolic links"),
        (lambda path: write(path, "x" * (1 << 21)), "larger than"),
    ],
)  # fmt: skip
def test_users_are_looked_up_in_no_file_of_the_host(run, image, name, change, message):
    made = image(change(f"etc/{name}"))
    user = "root" if name == "passwd" else "0:root"
    said = run(*NONE, "-u", user, made, "id", code=125).stderr
    assert said.count("\n") == 1 and (message or "unable to find") in said


@pytest.mark.parametrize(
    ("passwd", "user", "message"),
    [
        ("a:x:0::/:\n", "4294967296", "ids end at"), ("a:x:4294967295:0::/:\n", "a", "ids end at"),
        ("a:x:-1:0::/:\n", "a", "unable to find user"), ("a:x:+5:0::/:\n", "a", "unable to find user"),
        ("1000:x:0:0::/:\n", "1000", None), ("a:x:0x10:0::/:\n", "a", "unable to find user"), ("a:x:7\n", "a", "unable to find user"),
        ("#a:x:0:0::/:\n", "#a", "unable to find user"), ("a:x:٧:0::/:\n", "a", "unable to find user"),
    ],
)  # fmt: skip
def test_users_that_are_none(run, image, passwd, user, message):
    made = image(write("etc/passwd", passwd))
    done = run(*NONE, "-u", user, made, "id", "-u", code=125 if message else 0)
    assert (message in done.stderr) if message else done.stdout == "1000\n", "a number is never looked up as a name"


def test_a_home_of_two_lines(run, image):
    made = image(write("etc/passwd", "a:x:5:5::/no\u2028where:/bin/sh\n"))
    assert run(*NONE, "-u", "a", made, "sh", "-c", "echo $HOME | cat").stdout == "/no\u2028where\n"


# -- places ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["dev", "proc", "sys", "etc", "sbin", "dev/pts", "run", "x"])
@pytest.mark.parametrize("target", ["../../../../../../../../..", "/proc/1/root", "nowhere"])
def test_a_link_where_something_is_mounted(run, image, tmp_path, place, target):
    """It is one to the image's own files, or cannot be run; the host's stay as they are."""
    (tmp_path / "data").mkdir()
    before = [os.listdir(path) for path in ("/", "/etc", "/sbin", "/run")]
    made = image(link(place, target))
    words = ["--init", "-v", "./data:/x/y:ro", "--tmpfs", "/run/t"]
    done = run(*NONE, *words, made, "sh", "-c", "cat /x/y/canary /etc/hosts; echo ran", code=None)
    assert done.returncode in (0, 125, 126, 127) and done.stderr.count("\n") <= 3, done.stderr
    assert os.listdir(tmp_path / "data") == []
    after = [os.listdir(path) for path in ("/", "/etc", "/sbin", "/run")]
    assert [set(one) ^ set(two) for one, two in zip(before, after, strict=True)][:3] == [set()] * 3


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
@pytest.mark.parametrize("target", ["/canary", "../../../../../../../../..{host}", "/proc/1/root{host}"])
def test_a_link_for_a_file_of_ours(run, image, tmp_path, name, target):
    path = canary(tmp_path)
    made = image(link(f"etc/{name}", target.format(host=path)))
    done = run(*NONE, made, "sh", "-c", f"cat /etc/{name}; echo x > /etc/{name}", code=None)
    assert done.returncode in (0, 1, 125) and done.stdout != "host\n"
    assert path.read_text() == "host\n"


@pytest.mark.parametrize("directory", ["/proc/self/fd/3", "/proc/self/fd/3/../..", "/dev/fd/3", "/link"])
def test_a_working_directory_that_leads_outside(run, image, tmp_path, directory):
    """CVE-2024-21626: what is not inside is refused, and what is shown is of the container."""
    made = image(link("link", "/proc/self/fd/5"), "-w", directory)
    for fd in range(3, rounds(7, 20)):
        done = run(*NONE, "-w", directory.replace("3", str(fd)), made, "ls", code=None)
        assert done.returncode in (0, 125, 126, 127), done.stderr
        assert done.stdout.split() in ([], ["bin", "dev", "etc", "link", "proc", "sys"]) or "canary" not in done.stdout
    assert run(*NONE, made, "readlink", "/proc/self/cwd", code=None).stdout.strip() in ("", "/", directory, "/proc/1/fd", "/proc", "/proc/1")


def test_masks_over_links(run, image):
    made = image(link("secret", "/etc/passwd"))
    done = run(*NONE, "--security-opt", "mask=/secret:/none", made, "cat", "/etc/passwd", code=None)
    assert done.returncode in (0, 1, 125) and "root:x" not in done.stdout


def test_no_program_of_the_containers_helps_to_copy(run, image, tmp_path):
    """CVE-2019-14271, CVE-2026-41567: libraries and unpackers of the container lie where the host's are looked for."""
    trap = "#!/bin/sh\necho pwned > /pwned\n"

    def change(tree):
        for name in ("xz", "gzip", "unxz", "bzip2", "zstd", "tar", "unpigz", "python3"):
            for place in ("usr/bin", "bin", "usr/local/bin"):
                (tree / place).mkdir(parents=True, exist_ok=True)
                (tree / place / name).write_text(trap)
                (tree / place / name).chmod(0o755)
        for name in ("libnss_files.so.2", "libnss_compat.so.2", "libc.so.6", "liblzma.so.5"):
            for place in ("lib", "usr/lib/x86_64-linux-gnu"):
                (tree / place).mkdir(parents=True, exist_ok=True)
                (tree / place / name).write_bytes(b"\x7fELF no library")
        (tree / "etc").mkdir()
        (tree / "etc/ld.so.preload").write_text("/lib/libnss_files.so.2\n")

    made = image(change)
    run("-d", *NONE, "--name", "web", made, "sleep", "1000")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    for number, pack in enumerate((lzma.compress, gzip.compress, bz2.compress, bytes)):
        done = run("cp", "-", "web:/", input=pack(data.getvalue()), code=None)
        assert done.returncode in (0, 1) and done.stderr.count("\n") == done.returncode, number
    run("cp", "web:/etc", "-", binary=True)
    run("cp", "-a", tmp_path / "tree/etc", "web:/copied")
    run("export", "-o", "out.tar", "web")
    assert "pwned" not in run("exec", "web", "ls", "/").stdout
    run("rm", "-f", "web")


@pytest.mark.parametrize("target", ["{host}", "../../../../../../../../..{host}", "/proc/1/root{host}", "/proc/self/cwd"])
def test_a_volume_behind_a_link(run, image, tmp_path, target):
    """CVE-2019-10152, CVE-2026-41568, CVE-2026-42306: what is copied to where a volume is goes through no link of the image."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "x").write_text("x")
    made = image(link("way", target.format(host=tmp_path / "outside")))
    run("new", *NONE, "--name", "web", "-v", "./data:/way/data", made, "sleep", "1000")
    for state in ("created", "running"):
        if state == "running" and run("start", "web", code=None).returncode:
            break
        for path in ("/way/data/y", "/way/y", "/way/../y"):
            done = run("cp", "x", f"web:{path}", code=None)
            assert done.returncode in (0, 1) and done.stderr.count("\n") == done.returncode
        assert os.listdir(tmp_path / "outside") == []
    assert not (tmp_path / "y").exists()
    run("rm", "-f", "web")


def test_an_image_asks_for_no_device(run, image, oci, tmp_path):
    """CVE-2026-53492: what CDI gives is asked for by who runs a container, not by labels, annotations or variables of an image."""
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/x.json").write_text('{"cdiVersion": "0.6.0", "kind": "x.org/dev", "devices": '
                                         '[{"name": "all", "containerEdits": {"env": ["SMUGGLED=1"]}}]}')  # fmt: skip
    made = image(lambda tree: None)
    keys = ("cdi.k8s.io/x", "io.kubernetes.cri.container-type", "devices")
    words = [part for key in keys for part in ("--label", f"{key}=x.org/dev=all", "--annotation", f"{key}=x.org/dev=all")]
    oci("image", "config", *words, "--env", "NVIDIA_VISIBLE_DEVICES=all", "--env", "CDI_DEVICES=x.org/dev=all", made)
    there = ("--cdi-spec-dir", tmp_path / "cdi")
    assert "SMUGGLED" not in run(*NONE, *there, made, "/bin/busybox", "env").stdout
    assert "SMUGGLED=1" in run(*NONE, *there, "--device", "x.org/dev=all", made, "/bin/busybox", "env").stdout


def test_an_image_cannot_steer(run, image, oci):
    """Labels and annotations of an image are text, and none of the container's."""
    made = image(lambda tree: None)
    labels = ["io.oci-tools.overlay={}", "run.oci.keep_original_groups=1", "io.kubernetes.cri.x=1", "org.systemd.property.X='1'"]
    oci("image", "config", *[part for label in labels for part in ("--label", label)], made)
    container = run("new", *NONE, made, "true").stdout.strip()
    text = Path(oci.cwd, "root/containers", container, "bundle/config.json").read_text()
    assert "keep_original_groups" not in text and "systemd.property" not in text and "kubernetes" not in text
    oci("run", "start", "-a", container)
    oci("run", "rm", container)


@pytest.mark.parametrize(
    "words",
    [
        ["--env", "=x"], ["--env", "A\n=x"], ["--workdir", "relative"], ["--workdir", "/\n"], ["--user", "a:b:c"], ["--user", ":"],
        ["--stop-signal", "nope"], ["--entrypoint", '["/nope"]'], ["--cmd", '[""]'],
    ],
)  # fmt: skip
def test_an_odd_configuration(run, image, oci, words):
    made = image(lambda tree: None)
    if oci("image", "config", *words, made, code=None).returncode == 0:
        done = run(*NONE, made, "true", code=None)
        assert done.returncode in (0, 125, 126, 127) and done.stderr.count("\n") <= 1


# -- in the wrong state ---------------------------------------------------------------------------------


STATES = {
    "created": ([], []),
    "running": (["start"], []),
    "paused": (["start", "pause"], []),
    "stopped": (["start", "stop"], []),
}
VERBS = {
    # verb: words behind the container, states in which it is refused with code 1
    "start": ([], {"running", "paused"}), "stop": (["-t", "0"], set()), "kill": (["KILL"], {"created", "stopped"}),
    "pause": ([], {"created", "paused", "stopped"}), "resume": ([], {"created", "running", "stopped"}),
    "rm": ([], {"running", "paused"}), "exec": (["true"], {"created", "paused", "stopped"}), "attach": ([], {"created", "stopped"}),
    "ps": ([], {"created", "stopped"}), "delete": ([], {"created", "running", "paused", "stopped"}),
    "update": (["--pids-limit", "9"], set()), "logs": ([], {"created"}), "diff": ([], set()),
    "rename": (["other"], set()), "stats": (["--no-stream"], {"created", "stopped"}), "state": ([], set()), "export": (["-o", "x.tar"], set()),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_verbs_in_every_state(run, oci, state):
    for verb, (words, refused) in VERBS.items():
        made = run("new", *NONE, "busybox", "sleep", "1000").stdout.strip()
        for step in STATES[state][0]:
            oci("run", step, *(["-t", "0"] if step == "stop" else []), made)
        if verb == "attach" and state not in refused:
            oci("run", "rm", "-f", made)
            continue
        before = ["--no-stream"] if verb == "stats" else []
        done = oci("run", verb, *before, made, *[word for word in words if word != "--no-stream"], code=None)
        wanted = {"exec": 255}.get(verb, 1) if state in refused else 0
        assert done.returncode == wanted, (verb, state, done.stderr)
        assert done.stderr.count("\n") == (1 if wanted else 0), (verb, done.stderr)
        oci("run", "rm", "-f", made)


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "pause", "resume", "rm", "exec", "attach", "ps", "update", "logs", "diff",
                                  "state", "export", "wait", "rename"])  # fmt: skip
def test_verbs_of_a_container_that_is_not_there(oci, verb):
    for name in ("nope", "a/b", "é"):
        more = {"rename": ["other"], "exec": ["true"]}.get(verb, [])
        done = oci("run", verb, name, *more, code=None)
        assert done.returncode in (1, 2, 255) and done.stderr.count("\n") == 1, (name, done.stderr)


# -- two at once ------------------------------------------------------------------------------------------


def at_once(*calls):
    """What these return, called together."""
    found: list = [None] * len(calls)

    def call(number):
        found[number] = calls[number]()

    threads = [threading.Thread(target=call, args=[number]) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize(
    ("verb", "words", "codes"),
    [
        ("start", [], [0, 1]), ("stop", ["-t", "0"], [0, 0]), ("rm", ["-f"], [0, 0]), ("rename", ["other"], None),
        ("pause", [], None), ("wait", [], [0, 0]),
    ],
)  # fmt: skip
def test_two_of_the_same(run, oci, verb, words, codes):
    made = run("new", *NONE, "busybox", "sh", "-c", "sleep 0.3" if verb == "wait" else "sleep 1000").stdout.strip()
    if verb != "start":
        oci("run", "start", made)
    options, behind = (words, []) if words[:1] in (["-t"], ["-f"]) else ([], words)
    done = at_once(*[lambda: oci("run", verb, *options, made, *behind, code=None)] * 2)
    assert codes is None or sorted(each.returncode for each in done) == codes, [each.stderr for each in done]
    assert all(each.returncode in (0, 1, 75) and each.stderr.count("\n") <= 1 for each in done), [each.stderr for each in done]
    oci("run", "rm", "-f", made)


def test_two_of_one_name(run, oci):
    done = at_once(*[lambda: run("-d", *NONE, "--name", "web", "busybox", "sleep", "1000", code=None)] * 3)
    assert sorted(each.returncode for each in done) == [0, 125, 125], [each.stderr for each in done]
    oci("run", "rm", "-f", "web")


def test_rm_while_it_is_started(run, oci):
    made = run("new", *NONE, "busybox", "sleep", "1000").stdout.strip()
    at_once(lambda: oci("run", "start", made, code=None), lambda: oci("run", "rm", "-f", made, code=None))
    oci("run", "rm", "-f", made)
