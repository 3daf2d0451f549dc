"""The options of a container that are not of its specification: how it is run, found, and what becomes of it."""

import fcntl
import json
import os
import pty
import signal
import subprocess

import pytest

from oci_tools import cli
from oci_tools.container import attaching, labels, options
from oci_tools.errors import Usage
from oci_tools.image import manifest
from tests.container.conftest import BUSYBOX

pytestmark = pytest.mark.root


def policy(tmp_path):
    (found,) = (tmp_path / "root/containers").iterdir()
    return json.loads((found / "policy.json").read_text())


def test_who_looks_after_it_is_known(run, oci, tmp_path):
    """--conmon-pidfile, podman's, which systemd reads of units that podman has written."""
    process = oci.start("run", "--conmon-pidfile", "keeper", "busybox", "true")
    assert process.wait() == 0
    assert (tmp_path / "keeper").read_text() == str(process.pid)
    made = run("-d", "--conmon-pidfile", "keeper", "--pidfile", "first", "busybox", "sleep", "1000").stdout.strip()
    keeper, first = ((tmp_path / name).read_text() for name in ("keeper", "first"))
    assert keeper == (tmp_path / f"root/containers/{made}/lock").read_text().strip() != first
    oci("run", "stop", "-t", "0", made)
    oci("run", "rm", made)


# -- what it is found by -----------------------------------------------------------------------


def test_labels(run, oci, busybox, tmp_path):
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)
    oci("image", "config", "--label", "of=image", "--label", "both=image", "./img:latest")
    (tmp_path / "labels").write_text("# a comment\nfile=1\nboth=file\n")
    made = run("new", "-l", "both=option", "--label", "empty", "--label-file", "labels", "./img:latest").stdout.strip()
    assert policy(tmp_path)["labels"] == {"of": "image", "both": "option", "empty": "", "file": "1"}
    assert oci("run", "list", "--fields", "labels").stdout == "both=option,empty=,file=1,of=image\n"
    assert json.loads(oci("run", "list", "--json").stdout)["labels"]["of"] == "image"
    assert "org.example" not in (tmp_path / f"root/containers/{made}/bundle/config.json").read_text()
    oci("run", "rm", made)
    for word in ("", "=x", " a=b"):
        assert "invalid label" in run("-l", word, "busybox", "true", code=2).stderr
    (tmp_path / "labels").write_text("=x\n")
    assert "invalid label '=x': in 'labels', line 1" in run("--label-file", "labels", "busybox", "true", code=2).stderr
    assert "no such file" in run("--label-file", "none", "busybox", "true", code=125).stderr


def test_labels_of_a_strange_image():
    assert labels.of_image({"config": {"Labels": [1]}}) == {}
    assert labels.of_image({"config": {"Labels": {"a": 1, "b": "c"}}}) == {"b": "c"}
    assert labels.of_image({}) == {} == labels.of_image({"config": None})


def test_a_file_with_its_id(run, oci, tmp_path):
    made = run("new", "--cidfile", "id", "busybox", "true").stdout
    assert (tmp_path / "id").read_text() == made.strip()
    oci("run", "rm", made.strip())
    said = run("--cidfile", "id", "busybox", "true", code=125).stderr
    assert said == "oci-run: cannot write container id 'id': file exists (of another container?)\n"
    run("--cidfile", "id2", "busybox", "nope", code=127)
    assert len((tmp_path / "id2").read_text()) == 64
    assert "no such file or directory" in run("--cidfile", "none/id", "busybox", "true", code=125).stderr


@pytest.mark.parametrize("words", [["-d"], ["new"]])
def test_a_file_with_its_pid(run, oci, tmp_path, words):
    made = run(*words, "--pidfile", "pid", "busybox", "sleep", "1000").stdout.strip()
    if words == ["new"]:
        assert not (tmp_path / "pid").exists()
        oci("run", "start", made)
    assert (tmp_path / "pid").read_text() == str(json.loads(oci("run", "state", made).stdout)["pid"])
    oci("run", "rm", "-f", made)


def test_replace(run, oci, tmp_path):
    first = run("-d", "--name", "web", "busybox", "sleep", "1000").stdout.strip()
    assert "in use" in run("-d", "--name", "web", "busybox", "true", code=125).stderr
    second = run("-d", "--replace", "--name", "web", "busybox", "sleep", "1000").stdout.strip()
    assert first != second and oci("run", "list", "-q").stdout == f"{second}\n"
    other = run("-d", "--replace", "--name", second[:12], "busybox", "true").stdout.strip()
    assert second in oci("run", "list", "-q").stdout, "only a name is replaced, not an id"
    for each in (second, other):
        oci("run", "rm", "-f", each)


# -- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["-a", "stdout"], "out\n", ""),
        (["-a", "STDERR"], "", "err\n"),
        (["-a", "stdout", "--attach", "stderr"], "out\n", "err\n"),
        (["-a", "stdin"], "", ""),
        (["-a", "stdin", "-a", "stdout"], "out\ntyped", ""),
        ([], "out\n", "err\n"),
    ],
)
def test_some_of_the_streams(run, words, out, err):
    done = run(*words, "busybox", "sh", "-c", "echo out; echo err >&2; cat", input="typed")
    assert (done.stdout, done.stderr) == (out, err)


def test_streams_that_cannot_be(run):
    assert "invalid value for --attach 'all'" in run("-a", "all", "busybox", "true", code=2).stderr
    assert "--attach excludes --detach" in run("-d", "-a", "stdout", "busybox", "true", code=2).stderr
    assert "--preserve-fds excludes --detach" in run("-d", "--preserve-fds", "1", "busybox", "true", code=2).stderr


def test_descriptors_that_are_left_open(run, oci, tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"through\n")
    os.close(writer)
    words = [oci.bin / "oci-run", "--preserve-fds", "1", "busybox", "cat", "/proc/self/fd/3"]
    third: dict = {"close_fds": False, "preexec_fn": lambda: os.dup2(reader, 3)}
    done = subprocess.run(words, env=oci.env, cwd=tmp_path, capture_output=True, text=True, **third)
    assert (done.stdout, done.returncode) == ("through\n", 0)


def test_signals_that_are_not_passed_on(run, oci, tmp_path):
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"
    words = ["--name", "left", "--sig-proxy=false", "busybox", "sh", "-c", script]
    process = oci.start("run", *words, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert json.loads(oci("run", "state", "left").stdout)["status"] == "running"
    oci("run", "rm", "-f", "left")


# -- leaving a terminal ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-a,d", b"\x01d"), ("ctrl-@", b"\0"), ("ctrl-\\", b"\x1c"), ("", b""),
        ("ctrl-A", b"\x01"),
    ],
)  # fmt: skip
def test_keys(text, keys):
    assert attaching.keys(text) == keys


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-1", "a,,b", "ctrl-ab", "é", "shift-a", ","])
def test_bad_keys(text):
    with pytest.raises(Usage, match="invalid value for --detach-keys"):
        attaching.keys(text)


def read_until(master, wanted):
    said = b""
    while wanted not in said:
        said += os.read(master, 1000)
    return said


def test_a_terminal_is_left_and_taken_again(run, oci):
    master, slave = pty.openpty()
    script = "echo up; read x; echo got $x; exit 4"
    words = ["-it", "--name", "left", "--detach-keys", "ctrl-x,d", "busybox", "sh", "-c", script]
    process = oci.start("run", *words, stdin=slave, stdout=slave, stderr=slave)
    read_until(master, b"up")
    os.write(master, b"\x18")
    os.write(master, b"d")
    assert process.wait() == 0
    assert json.loads(oci("run", "state", "left").stdout)["status"] == "running"
    process = oci.start("run", "attach", "--detach-keys", "", "left", stdin=slave, stdout=slave, stderr=slave)
    os.write(master, b"hi\x10\n")
    read_until(master, b"got hi")
    assert process.wait() == 4
    os.close(master)
    os.close(slave)


def test_one_with_keys_that_ends_by_itself(run, oci):
    master, slave = pty.openpty()
    for script, code in (("echo quick; exit 3", 3), ("exit 0", 0)):
        words = ["-it", "--detach-keys", "ctrl-x", "busybox", "sh", "-c", script]
        process = oci.start("run", *words, stdin=slave, stdout=slave, stderr=slave)
        if code:
            read_until(master, b"quick")
        assert process.wait() == code
    os.close(master)
    os.close(slave)


# -- files, roots, images ----------------------------------------------------------------------------


def test_files_of_the_image_are_left(run):
    said = run("--no-hosts", "--no-hostname", "busybox", "sh", "-c", "cat /proc/self/mounts; ls /etc").stdout
    assert "/etc/hosts" not in said and "/etc/hostname" not in said and "/etc/resolv.conf" in said


def test_roots_within_the_root(run):
    """--chrootdirs, podman's: our files are in their etc as well."""
    script = "cmp /etc/hosts /a/etc/hosts && cmp /etc/resolv.conf /b/c/etc/resolv.conf && cat /a/etc/hostname"
    assert run("--hostname", "me", "--chrootdirs", "/a/,/b/c", "busybox", "sh", "-c", script).stdout == "me\n"
    said = run("--no-hosts", "--chrootdirs", "/a", "--chrootdirs", "/", "busybox", "cat", "/proc/self/mounts").stdout
    assert "/a/etc/hosts" not in said and said.count("/a/etc/hostname") == 1 == said.count(" /etc/hostname")
    assert "invalid value for --chrootdirs 'b': it must be absolute" in run("--chrootdirs", "/a,b", "busybox", "true", code=2).stderr


def test_a_directory_as_root(run, oci, tmp_path):
    oci("unpack", "busybox", "./b")
    (tmp_path / "b/rootfs/etc/passwd").write_text("me:x:7:8::/home:/bin/sh\n")
    done = run("--rootfs", "-u", "me", "./b/rootfs", "sh", "-c", "id -u; hostname | wc -c; grep Seccomp: /proc/self/status")
    assert done.stdout == "7\n13\nSeccomp:\t2\n"
    run("--rootfs", "b/rootfs", "touch", "/made")
    assert (tmp_path / "b/rootfs/made").exists()
    assert "no command specified" in run("--rootfs", "./b/rootfs", code=125).stderr
    assert "no such directory" in run("--rootfs", "./none", "true", code=125).stderr
    kept = run("new", "--rootfs", "./b/rootfs", "sh", "-c", "exit 6").stdout.strip()
    oci("run", "start", "-a", kept, code=6)
    oci("run", "rm", kept)
    assert (tmp_path / "b/rootfs/bin").exists()


def test_a_newer_image_if_there_is_one(run, oci, registry, tmp_path):
    name = f"{registry.host}/newer:1"
    oci("push", "busybox", name)
    assert run("--pull", "newer", "-q", name, "echo", "first").stdout == "first\n"
    oci("image", "config", "--cmd", '["echo", "second"]', "busybox")
    oci("push", "busybox", name)
    assert run(name).stdout == "", "sh, and nothing to read"
    assert run("--pull", "newer", "-q", name).stdout == "second\n"
    registry.process.kill()
    registry.process.wait()
    assert run("--pull", "newer", name).stdout == "second\n"
    assert run("--pull", "always", name, code=75).stdout == ""
    assert run("--pull", "newer", "localhost:1/x", "true", code=75).stdout == ""


def test_the_time_to_stop(run, oci):
    script = "trap '' TERM; while :; do sleep 0.1; done"
    made = run("-d", "--stop-timeout", "0", "busybox", "sh", "-c", script).stdout.strip()
    oci("run", "stop", made)
    assert oci("run", "wait", made).stdout == "137\n"
    oci("run", "rm", made)


def test_an_image_that_is_mounted(run, oci, busybox, tmp_path):
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)
    words = ["--network", "none", "--mount", "type=image,source=./img:latest,target=/m"]
    done = run(*words, "busybox", "sh", "-c", "ls /m/bin/busybox; touch /m/x", code=1)
    assert done.stdout == "/m/bin/busybox\n" and "Read-only" in done.stderr
    writable = [*words[:-1], f"{words[-1]},rw=true"]
    made = run("new", *writable, "busybox", "sh", "-c", "ls /m/x 2>/dev/null; touch /m/x").stdout.strip()
    assert oci("run", "start", "-a", made).stdout == ""
    assert oci("run", "start", "-a", made).stdout == "/m/x\n", "kept with the container"
    assert not (tmp_path / "img/x").exists()
    oci("run", "rm", made)
    part = [*words[:-1], f"{words[-1]},image-subpath=etc"]
    assert run(*part, "busybox", "sh", "-c", "ls /m; touch /m/x 2>/dev/null && echo written; true").stdout.split() == ["group", "os-release", "passwd"]
    assert run(*part[:-1], f"{words[-1]},image-subpath=none", "busybox", "true", code=125).stderr.endswith("no such file or directory\n")
    for bad in "/etc", "../etc", "a/../../b":
        said = run(*part[:-1], f"{words[-1]},image-subpath={bad}", "busybox", "true", code=2).stderr
        assert "invalid image-subpath" in said
    assert "no such file" in run("--mount", "type=image,src=./none,dst=/m", "busybox", "true", code=125).stderr
    assert "needs a source" in run("--mount", "type=image,dst=/m", "busybox", "true", code=2).stderr
    assert oci("spec", "new", "--mount", "type=image,src=./img:latest,dst=/m", code=1).stderr.count("\n") == 1


# -- with another container ---------------------------------------------------------------------------


@pytest.fixture
def web(run, oci):
    """A container that runs."""
    (oci.cwd / "data").mkdir()
    words = ["--name", "web", "-v", "./data:/data", "-h", "webhost", "--ipc", "shareable"]
    run("-d", *words, "busybox", "sh", "-c", "echo x > /dev/shm/seen; exec sleep 1000")
    yield "web"
    oci("run", "rm", "-f", "web")


def test_namespaces_of_another(run, oci, web):
    script = "hostname; cat /dev/shm/seen; ps | grep -c '[s]leep 1000'; echo y > /dev/shm/back"
    said = run("--pid", "container:web", "--ipc", "container:web", "--uts", "container:web", "busybox", "sh", "-c", script)
    assert said.stdout.split() == ["webhost", "x", "1"]
    assert oci("run", "exec", "web", "cat", "/dev/shm/back").stdout == "y\n"
    assert "no such container 'nope'" in run("--pid", "container:nope", "busybox", "true", code=125).stderr


def test_namespaces_of_another_are_those_of_its_latest_start(run, oci):
    """A pid in config.json would, after a restart, be nobody's, or a stranger's."""
    run("-d", "--network", "none", "--name", "first", "-h", "called", "--add-host", "other:1.2.3.4", "busybox", "sleep", "1000")
    words = ["--network", "container:first", "--ipc", "container:first", "--pid", "container:first", "--name", "second"]
    script = "hostname; echo $HOSTNAME; grep -c other /etc/hosts; exec sleep 1000"
    oci("run", "stop", "-t", "0", "first")
    made = oci("run", "new", *words, "busybox", "sh", "-c", script).stdout.strip()  # before there is what it joins
    assert "container not running" in oci("run", "start", made, code=1).stderr
    oci("run", "start", "first")
    for _ in range(2):
        oci("run", "start", made)
        for kind in ("net", "ipc", "pid"):
            links = {oci("run", "exec", each, "readlink", f"/proc/self/ns/{kind}").stdout for each in ("first", made)}
            assert len(links) == 1, kind
        oci("run", "stop", "-t", "0", made)
        oci("run", "restart", "-t", "0", "first")
    assert oci("run", "logs", made).stdout == "called\ncalled\n1\n" * 2
    oci("run", "rm", "-f", "first", made)


def test_exec_as_people_say_it(run, oci, web):
    (oci.cwd / "env").write_text("A=file\nB=file\n")
    words = ["-i", "-w", "/tmp", "--env-file", "env", "-e", "B=said", "-e", "HERE", "-e", "NOWHERE", "-u", "nobody", web]
    script = "pwd; id -u; echo $A $B $HERE ${NOWHERE-unset}; cat"
    done = oci("run", "exec", *words, "sh", "-c", script, input="typed\n", env={"HERE": "yes"})
    assert done.stdout.split("\n") == ["/tmp", "65534", "file said yes unset", "typed", ""]
    assert "no such file" in oci("run", "exec", "--env-file", "none", web, "true", code=255).stderr


@pytest.mark.parametrize("words", [("--env-file", "x"), ("--label-file", "x"), ("--security-opt", "seccomp=x")])
def test_a_file_that_is_none(run, oci, words):
    where = oci.cwd / "x"
    os.mkfifo(where)
    assert run(*words, "busybox", "true", code=125).stderr.endswith("x': nobody writes to this pipe\n")
    where.unlink()
    where.symlink_to("/dev/zero")
    assert "x': larger than " in run(*words, "busybox", "true", code=125).stderr
    where.unlink()
    where.symlink_to("x")
    assert "too many levels of symbolic links" in run(*words, "busybox", "true", code=125).stderr


def test_volumes_of_another(run, oci, web):
    (oci.cwd / "data/f").write_text("shared\n")
    assert run("--volumes-from", "web", "busybox", "cat", "/data/f").stdout == "shared\n"
    assert "Read-only" in run("--volumes-from", "web:ro", "busybox", "touch", "/data/x", code=1).stderr
    assert "no such container" in run("--volumes-from", "nope", "busybox", "true", code=125).stderr


def test_one_that_does_not_run_has_no_namespaces(run, oci):
    made = run("new", "busybox", "true").stdout.strip()
    assert f"cannot join container '{made}': container not running" in run(
        "--pid", f"container:{made}", "busybox", "true", code=125
    ).stderr  # fmt: skip
    oci("run", "rm", made)


# -- what only a real one shows ---------------------------------------------------------------------


def test_seen_inside(run):
    said = run("--umask", "0077", "--tz", "Asia/Tokyo", "--unsetenv-all", "-e", "A=1", "busybox", "/bin/sh", "-c",
               "umask; /bin/date +%Z; /bin/env | /bin/sort | /bin/head -2").stdout  # fmt: skip
    assert said.split("\n")[:3] == ["0077", "JST", "A=1"]


def test_groups_of_the_caller(run, oci):
    words = [oci.bin / "oci-run", "--group-add", "keep-groups", "busybox", "id", "-G"]
    done = subprocess.run(words, env=oci.env, cwd=oci.cwd, capture_output=True, text=True, extra_groups=[0, 1234])
    assert done.stdout == "0 1234\n"


def test_masks(run):
    said = run("--security-opt", "unmask=/proc/interrupts", "--security-opt", "mask=/etc/passwd", "busybox", "sh", "-c",
               "wc -c < /etc/passwd; head -c1 /proc/interrupts | wc -c").stdout  # fmt: skip
    assert said.split() == ["0", "1"]


def test_these_descriptors_and_no_others(run, tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    with open(tmp_path / "a") as file, open(tmp_path / "b") as other:
        low, between, high = file.fileno(), other.fileno(), fcntl.fcntl(other, fcntl.F_DUPFD, file.fileno() + 3)
        words = ("--preserve-fd", f"{low},{high}", BUSYBOX, "sh", "-c", f"ls /proc/self/fd; cat <&{low}; cat <&{high}")
        shown = run(*words, pass_fds=[low, between, high]).stdout.split()
        os.close(high)
    assert {str(low), str(high)} <= {*shown} and str(between) not in shown and shown[-1] == "onetwo"
    assert "cannot preserve descriptor '77': it is not open" in run("--preserve-fd", "77", BUSYBOX, "true", code=125).stderr
    assert "it is a standard stream" in run("--preserve-fd", "1", BUSYBOX, "true", code=125).stderr


def test_an_init_of_ones_own_and_what_hosts_begins_with(run, tmp_path):
    (tmp_path / "init").write_text('#!/bin/sh\necho "init $*"; shift; exec "$@"\n')
    (tmp_path / "init").chmod(0o755)
    said = run("--init", "--init-path", tmp_path / "init", BUSYBOX, "echo", "payload").stdout
    assert said == "init -- echo payload\npayload\n"
    assert "cannot use init '/nosuch': no such file" in run("--init", "--init-path", "/nosuch", BUSYBOX, "true", code=125).stderr
    (tmp_path / "hosts").write_text("10.1.2.3 db")
    begins = run("--hosts-file", tmp_path / "hosts", "--add-host", "x:10.0.0.1", BUSYBOX, "cat", "/etc/hosts").stdout
    assert begins == "10.1.2.3 db\n10.0.0.1\tx\n"
    assert run("--network", "host", "--hosts-file", "none", BUSYBOX, "cat", "/etc/hosts").stdout.startswith("127.0.0.1\tlocalhost\n")


def test_a_platform_in_podmans_words(run):
    def platform(*words):
        args = cli.Args(cli.read(cli.Command("x", "x", "IMAGE [CMD...]", options.OPTIONS, stop=True), [*words, "image"]))
        options.settle(args)
        return args.platform

    host = manifest.host_platform()
    here = "/".join([host["architecture"], *([host["variant"]] if "variant" in host else [])])
    assert platform() is None and platform("--os", "linux") == f"linux/{here}" == platform("--os=linux", "--arch=")
    assert platform("--arch", "arm", "--variant", "v6") == "linux/arm/v6" and platform("--arch", "s390x") == "linux/s390x"
    assert platform("--platform", "linux/arm") == "linux/arm"
    assert run("--os", "linux", BUSYBOX, "echo", "x").stdout == "x\n"
    assert "--platform excludes" in run("--arch", "arm", "--platform", "linux/arm", BUSYBOX, "true", code=2).stderr
