"""One-shot containers, as people run them: real ones, and their plan."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from oci_tools import cli
from oci_tools.container import files, host, options, start
from oci_tools.errors import Error
from oci_tools.runtime import check, spec

pytestmark = pytest.mark.root
BUSYBOX = "docker.io/library/busybox:latest"


def sh(run, script, *words, **more):
    return run(*words, "busybox", "sh", "-c", script, **more).stdout


# -- streams and codes ------------------------------------------------------------------------


def test_output_and_exit_code(run):
    done = run("busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_input_only_with_i(run):
    assert run("-i", "busybox", "cat", input="typed").stdout == "typed"
    assert run("busybox", "cat", input="typed").stdout == ""


def test_input_of_any_bytes(run):
    data = bytes(range(256)) * 4096
    assert run("-i", "busybox", "cat", input=data, binary=True).stdout == data


@pytest.mark.parametrize(
    ("script", "code"),
    [("kill -9 $$", 137), ("kill -TERM $$; sleep 9", 143), ("exit 255", 255), ("exit 0", 0)],
)
def test_codes(run, script, code):
    # Process 1 of a pid namespace takes no signal from inside that it has no handler for.
    run("--pid", "host", "busybox", "sh", "-c", script, code=code)


def test_what_cannot_be_run(run):
    said = run("busybox", "nope", code=127).stderr
    assert said == 'oci-run: exec: "nope": executable file not found in $PATH\n'
    run("busybox", "/bin/nope", code=127)
    run("busybox", "/etc", code=126)
    run("busybox", "/etc/passwd", code=126)


def test_a_signal_reaches_the_payload(run, oci, tmp_path):
    process = oci.start(
        "run", "busybox", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 5


def test_terminal(run, oci):
    master, slave = pty.openpty()
    process = oci.start(
        "run", "-it", "busybox", "sh", "-c", "test -t 0 && test -t 1 && stty size && echo $TERM; read x; exit $x",
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    import fcntl
    import struct
    import termios

    os.close(slave)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    said = b""
    while b"xterm" not in said:
        said += os.read(master, 1000)
    os.write(master, b"6\n")
    assert process.wait() == 6
    os.close(master)


def test_a_terminal_needs_one(run):
    said = run("-it", "busybox", "true", code=125).stderr
    assert said == "oci-run: cannot use -i with -t: standard input is not a terminal (a pipe or file goes with -i alone)\n"


# -- a place of its own -------------------------------------------------------------------------


def test_inside(run):
    said = sh(
        run, "hostname; echo $HOSTNAME; cat /etc/hostname; id -G; pwd; echo $$; ls /sys/class/net"
    ).split("\n")
    assert len(said[0]) == 12 and said[0] == said[1] == said[2]
    assert said[3:7] == ["0", "/", "1", "lo"]


def test_what_it_may_do(run):
    said = dict(line.split(":\t") for line in sh(run, "cat /proc/self/status").splitlines() if ":\t" in line)
    assert said["CapEff"] == said["CapPrm"] == said["CapBnd"] == "00000000a80425fb"
    assert said["CapInh"] == said["CapAmb"] == "0000000000000000"
    assert said["NoNewPrivs"] == "1" and said["Seccomp"] == "2"


def test_masked_and_read_only_paths(run):
    said = sh(
        run,
        "wc -c < /proc/keys; ls /proc/acpi | wc -l; ls /sys/firmware | wc -l",
    )
    assert said.split() == ["0", "0", "0"]
    done = run("busybox", "sh", "-c", "echo 1 > /proc/irq/default_smp_affinity; mkdir /sys/x; touch /proc/sys/kernel/domainname",
               code=1)  # fmt: skip
    assert done.stderr.count("Read-only file system") == 3


def test_no_descriptor_of_ours_is_open_inside(run, oci):
    with open("/etc/passwd") as leaked:
        said = oci("run", "busybox", "ls", "/proc/self/fd", pass_fds=[leaked.fileno()]).stdout
    assert said.split() == ["0", "1", "2", "3"], "3 is ls's own"


def test_names_and_servers(run):
    said = sh(run, "cat /etc/hosts /etc/resolv.conf", "--add-host", "db:10.1.2.3", "--add-host=six=[fe80::1]",
              "--dns", "9.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:2")  # fmt: skip
    assert "127.0.0.1\tlocalhost\n" in said and "10.1.2.3\tdb\n" in said and "fe80::1\tsix\n" in said
    assert said.endswith("nameserver 9.9.9.9\nsearch example.org\noptions ndots:2\n")


def test_options_that_are_seen_inside(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("shared\n")
    said = sh(
        run, "id -u; id -G; pwd; hostname; echo $A$B; cat /data/f; touch /data/x || echo ro; echo x > /t/x; cat /t/x;"
        "ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl; df /dev/shm | tail -1 | awk '{print $2}'",
        "-u", "nobody", "--group-add", "7", "-w", "/made", "-h", "box", "-e", "A=1", "-eB=2", "-v", "./data:/data:ro",
        "--tmpfs", "/t", "--ulimit", "nofile=77:99", "--sysctl", "net.ipv4.ip_default_ttl=33", "--shm-size", "1m",
    )  # fmt: skip
    assert said.split("\n") == [
        "65534", "65534 7", "/made", "box", "12", "shared", "ro", "x", "77", "33", "1024", "",
    ]  # fmt: skip


def test_a_directory_that_a_volume_names_is_made(run, tmp_path):
    sh(run, "echo hello > /x/y", "-v", f"{tmp_path}/new/dir:/x")
    assert (tmp_path / "new/dir/y").read_text() == "hello\n"


def test_limits(run):
    said = run("-m", "32m", "--pids-limit", "20", "--cpus", "0.5", "busybox", "sh", "-c",
               "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max "
               "/sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || "
               "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max").stdout  # fmt: skip
    assert said.split()[:3] == [str(32 << 20), "20", "50000"]


def test_read_only_root(run):
    assert "Read-only" in run("--read-only", "busybox", "touch", "/x", code=1).stderr


def test_namespaces_of_the_host(run):
    def own(kind):
        return os.readlink(f"/proc/self/ns/{kind}")

    said = sh(run, "for n in net pid ipc uts cgroup; do readlink /proc/self/ns/$n; done", "--network", "host", "--pid",
              "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host").split()  # fmt: skip
    assert said == [own(kind) for kind in ("net", "pid", "ipc", "uts", "cgroup")]


def test_what_is_written_is_gone_with_it(run):
    sh(run, "echo x > /etc/passwd; rm -r /bin/sh; mkdir -p /a/b")
    assert sh(run, "cat /etc/passwd; ls /a; true").startswith("root:")


# -- images and bundles ---------------------------------------------------------------------------


def test_the_images_own_words_and_user(run, oci, busybox, tmp_path):
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)
    oci("image", "config", "--entrypoint", '["echo", "e"]', "--cmd", '["c"]', "-u", "who", "./img:latest")
    assert "unable to find user 'who'" in run("./img:latest", code=125).stderr
    assert run("-u", "0", "./img:latest").stdout == "e c\n"
    assert run("-u", "0", "./img:latest", "x", "-y").stdout == "e x -y\n"
    assert run("-u", "0", "--entrypoint", "id", "./img:latest", "-u").stdout == "0\n"
    oci("image", "config", "--entrypoint", "[]", "--cmd", "[]", "./img:latest")
    assert run("-u", "0", "./img:latest", code=125).stderr == (
        "oci-run: no command specified (the image has none of its own)\n"
    )


def test_no_cgroup(run):
    """podman's --cgroups: the payload stays in the caller's."""
    script = "cat /proc/self/cgroup"
    own = Path("/proc/self/cgroup").read_text()
    said = run("--network", "none", "--cgroupns", "host", "--cgroups", "disabled", "busybox", "sh", "-c", script).stdout
    assert said == own
    assert run("--network", "none", "--cgroupns", "host", "--cgroups", "no-conmon", "busybox", "sh", "-c", script).stdout != own
    assert "excludes limits" in run("--cgroups", "disabled", "-m", "10m", "busybox", "true", code=2).stderr


def test_how_an_image_is_pulled(run, oci, busybox, tmp_path):
    """By oci-pull's credentials and checks, and as often as is said."""
    import base64

    import bcrypt

    (tmp_path / "users").write_text(f"me:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    (tmp_path / "store").mkdir()
    words = ("registry", "serve", "--htpasswd", tmp_path / "users", tmp_path / "store")
    server = oci.start(*words, stdout=subprocess.PIPE, text=True)
    host = server.stdout.readline().strip().split("//")[1].rstrip("/")
    auth = {host: {"auth": base64.b64encode(b"me:secret").decode()}}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auth}))
    oci("push", "--authfile", tmp_path / "auth.json", f"{busybox}:latest", f"{host}/app:1")
    assert "log in" in run("--retry", "0", "--retry-delay", "10ms", f"{host}/app:1", "true", code=125).stderr
    more = ("--authfile", tmp_path / "auth.json", "--tls-verify=false")
    assert run(*more, f"{host}/app:1", "echo", "pulled").stdout == "pulled\n"
    assert "not a duration" in run("--retry-delay", "odd", f"{host}/app:2", "true", code=2).stderr


def test_an_image_is_pulled_if_it_is_missing(run, oci, registry):
    name = f"{registry.host}/box:1"
    oci("push", "busybox", name)
    assert run("--pull", "never", name, "true", code=125).stderr == f"oci-run: no such image '{name}' (oci-pull brings it)\n"
    hint = "(oci-run state, oci-image inspect; the image is docker.io/library/inspect:latest)"
    assert run("inspect", "c1", code=125).stderr == f"oci-run: no such verb or image here 'inspect' {hint}\n"
    assert run(name, "echo", "pulled").stdout == "pulled\n"
    assert run("--pull", "never", name, "echo", "kept").stdout == "kept\n"
    assert run("--pull", "always", f"docker://{name}", "echo", "again").stdout == "again\n"


def test_an_image_that_goes_with_its_container(run, oci, registry):
    name = f"{registry.host}/box:2"
    oci("push", "busybox", name)
    kept = run("-d", name, "true").stdout.strip()
    oci("run", "wait", kept)
    assert run("--rmi", name, "true").stderr == ""
    assert name in oci("image", "ls").stdout, "another container is of it"
    oci("run", "rm", kept)
    assert run("--rmi", name, "sh", "-c", "exit 3", code=3).stderr == ""
    assert name not in oci("image", "ls").stdout
    assert "--rmi excludes --detach" in run("--rmi", "-d", name, "true", code=2).stderr
    assert "--rmi excludes --rm=false" in run("--rmi", "--rm=false", name, "true", code=2).stderr


def test_a_time_after_which_it_is_killed(run, oci):
    assert run("--timeout", "1", "busybox", "sleep", "1000", code=137).stderr == ""
    assert run("--timeout", "1000", "busybox", "true").stderr == ""
    made = run("-d", "--timeout", "1", "busybox", "sleep", "1000").stdout.strip()
    assert oci("run", "wait", made).stdout == "137\n"
    oci("run", "rm", made)
    assert "invalid value for --timeout" in run("--timeout", "-1", "busybox", "true", code=2).stderr


def test_a_runtime_that_is_asked_for(run):
    for name in "oci-run", "/usr/bin/oci-run":
        assert run("--runtime", name, "busybox", "true").stderr == ""
    assert run("--runtime", "runsc", "busybox", "true", code=125).stderr.startswith("oci-run: no such runtime here 'runsc' (")


def test_a_registry_that_is_not_there(run):
    done = run("localhost:1/none", "true", code=75)
    assert done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["./none", "./none:tag", "/none@sha256:" + "0" * 64])
def test_a_path_that_is_not_there(run, word):
    assert "no such file or directory" in run(word, "true", code=125).stderr


@pytest.fixture(params=["plain", "overlay"])
def bundle(request, oci, run, tmp_path):
    words = ["--overlay"] if request.param == "overlay" else []
    oci("unpack", *words, "busybox", "./b")
    return tmp_path / "b"


def test_a_bundle(request, oci, run, bundle, tmp_path):
    roots = [str(path) for path in tmp_path.glob("root/layers/.roots/*")]
    assert run("./b", "cat", "/proc/1/comm").stdout == "cat\n"
    assert run(
        "-u", "nobody", "-w", "/tmp", "-e", "A=1", "./b", "sh", "-c", "id -u; pwd; echo $A"
    ).stdout == ("65534\n/tmp\n1\n")
    run("./b", "sh", "-c", "echo kept > /kept")
    assert run("./b", "cat", "/kept").stdout == "kept\n"
    before = (bundle / "config.json").read_bytes()
    run("-m", "64m", "./b", "true")
    assert (bundle / "config.json").read_bytes() == before
    assert not [*tmp_path.glob("root/containers/*"), *tmp_path.glob("run/runtime/*")]
    for root in roots:
        os.unlink(root)  # the overlay bundle's hold on its layers, which is there for a reason


def test_a_bundle_by_its_handle_on_standard_input(oci, run, tmp_path):
    oci("unpack", "busybox", "./b")
    assert run("-", "echo", "hi", input=f"{tmp_path}/b\n").stdout == "hi\n"
    assert "both want standard input" in run("-i", "-", "cat", input=f"{tmp_path}/b\n", code=2).stderr


def test_a_bundle_of_someone_else(run, tmp_path, busybox):
    rootfs = tmp_path / "other/rootfs"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "proc").mkdir()
    subprocess.run(["cp", "/usr/bin/busybox", rootfs / "bin/sh"], check=True)
    least = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["/bin/sh", "-c", "exit 3"]},
             "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}}  # fmt: skip
    (tmp_path / "other/config.json").write_text(json.dumps(least))
    run("./other", code=3)
    run("./other", "/bin/sh", "-c", "exit 4", code=4)


# -- kept, named, detached -------------------------------------------------------------------------


def containers(tmp_path):
    return sorted((tmp_path / "root/containers").iterdir()) if (tmp_path / "root/containers").exists() else []


def test_kept(run, oci, tmp_path):
    run("--rm=false", "busybox", "sh", "-c", "echo x > /new; exit 4", code=4)
    (kept,) = containers(tmp_path)
    assert json.loads((kept / "exit.json").read_text())["code"] == 4
    assert (kept / "bundle/upper/new").read_text() == "x\n"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "run/runtime").iterdir()) == []
    oci("run", "rm", kept.name)


def test_a_name_is_taken_once(run, oci, tmp_path):
    process = oci.start(
        "run", "-i", "--name", "web", "busybox", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"
    assert os.readlink(tmp_path / "root/names/web").startswith("../containers/")
    assert "container name is in use 'web'" in run("--name", "web", "busybox", "true", code=125).stderr
    process.stdin.close()
    assert process.wait() == 0
    run("--name", "web", "busybox", "true")
    for bad in ("", "a", "-x", "a/b", "a b", "é" * 3, "." * 3):
        assert "invalid container name" in run("--name", bad, "busybox", "true", code=2).stderr
    run("--name", "a b", "127.0.0.1:1/nobody/here", "true", code=2)  # nothing was asked for at first


def test_detached(run, oci, tmp_path):
    container = run(
        "-d", "--name", "web", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"
    ).stdout.strip()
    assert len(container) == 64
    assert oci("run", "wait", "web").stdout == "3\n"
    told = oci("run", "logs", "web")
    assert (told.stdout, told.stderr) == ("out\n", "err\n")
    oci("run", "rm", "web")


def test_detached_and_known_to_the_runtime(run, oci, tmp_path):
    container = run("-d", "busybox", "sleep", "1000").stdout.strip()
    assert json.loads(oci("run", "state", container).stdout)["status"] == "running"
    oci("run", "kill", container, "KILL")
    assert oci("run", "wait", container).stdout == "137\n"
    oci("run", "rm", container)


def test_detached_that_cannot_start(run):
    assert run("-d", "busybox", "nope", code=127).stderr.startswith('oci-run: exec: "nope"')


def test_what_a_killed_one_left_is_removed_by_the_next(run, oci, tmp_path):
    process = oci.start("run", "-i", "busybox", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"
    process.kill()
    process.wait()
    (left,) = containers(tmp_path)
    run("busybox", "true")
    assert containers(tmp_path) == [left], "it still runs"
    process.stdin.close()
    while json.loads(oci("run", "state", left.name).stdout)["status"] != "stopped":
        time.sleep(0.01)
    run("busybox", "true")
    assert containers(tmp_path) == []


def test_what_a_killed_one_left_half_made_is_removed_after_a_while(run, tmp_path):
    young, old = (tmp_path / "root/containers" / name for name in ("young", "old"))
    for each in (young, old):
        each.mkdir(parents=True)
    os.utime(old, (0, 0))
    run("busybox", "true")
    assert containers(tmp_path) == [young]
    os.utime(young, (0, 0))
    run("busybox", "true")


def test_many_at_once(run, oci, tmp_path):
    started = [oci.start("run", "busybox", "echo", str(i), stdout=subprocess.PIPE) for i in range(6)]
    assert [process.communicate()[0] for process in started] == [b"%d\n" % i for i in range(6)]


# -- a plain user -----------------------------------------------------------------------------------


def test_a_plain_user(plain_run):
    said = plain_run("-h", "box", "busybox", "sh", "-c", "id -u; hostname; echo $$; touch /x && echo w").stdout
    assert said == "0\nbox\n1\nw\n"


# -- the plan ------------------------------------------------------------------------------------------

COMMAND = cli.Command("x", "x", "IMAGE [CMD...]", options.OPTIONS, stop=True)
IMAGE = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]}}


class Fake(host.Host):
    """A host that is the same everywhere; `files` are its files."""

    def __init__(self, rootless=False, **files):
        super().__init__({}.get)
        self.rootless = rootless
        self.files = {path.replace("_", "/"): text for path, text in files.items()}

    def text(self, path):
        return self.files[path]

    def exists(self, path):
        return path in self.files or path == "/proc/self/ns/time"

    def hostname(self):
        return "outside"


def planned(*words, image=IMAGE, there=None):
    args = cli.Args(cli.read(COMMAND, [*words]))
    made = start.from_image(image, "0123456789abcdef" * 4, args, there or Fake())
    check.check(made)
    return made


def test_what_docker_gives_before_the_options():
    made = planned("image")
    assert made["hostname"] == "0123456789ab"
    assert made["process"]["env"] == ["PATH=/bin", "HOSTNAME=0123456789ab"]
    assert {"type": "time"} in made["linux"]["namespaces"]
    assert made["linux"]["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert made["process"]["args"] == ["sh"]


def test_the_hosts_network_has_the_hosts_name():
    made = planned("--network", "host", "image")
    assert made["hostname"] == "outside" and "HOSTNAME=outside" in made["process"]["env"]
    assert "sysctl" not in made["linux"]


def test_the_plan_of_a_plain_user():
    made = planned("image", there=Fake(rootless=True))
    assert {"type": "user"} in made["linux"]["namespaces"]
    assert "net.ipv4.ping_group_range" not in made["linux"]["sysctl"]


def test_the_image_is_a_strangers():
    with pytest.raises(Error, match="image config: config.Cmd: expected an array"):
        planned("image", image={"config": {"Cmd": "sh"}})
    with pytest.raises(Error, match="no command specified"):
        planned("image", image={"config": {}})
    labelled = {"config": {"Cmd": ["sh"], "Labels": {"io.oci-tools.overlay": "x"}}}
    assert "io.oci-tools.overlay" not in planned("image", image=labelled)["annotations"]
    assert (
        planned("image", image=IMAGE)["process"]["capabilities"] == spec.default()["process"]["capabilities"]
    )


def texts(*words, own=True, **more):
    args = cli.Args(cli.read(COMMAND, [*words, "image"]))
    made = {"hostname": "box", "linux": {"namespaces": [{"type": "network"}] if own else []}}
    return files.texts(made, args, Fake(**more))


def test_resolver():
    host = "# by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.1\n\nsearch a b\noptions x\nother y\n"
    assert texts(_etc_resolv="")["resolv.conf"] == ""
    plain = texts(**{"_etc_resolv.conf": host})["resolv.conf"]
    assert plain == "nameserver 10.0.0.1\nsearch a b\noptions x\nother y\n"
    assert "127.0.0.1" in texts(own=False, **{"_etc_resolv.conf": host})["resolv.conf"]
    told = texts("--dns", "1.1.1.1", "--dns-search", ".", "--dns-option", "z", **{"_etc_resolv.conf": host})
    assert told["resolv.conf"] == "other y\nnameserver 1.1.1.1\noptions z\n"


def test_behind_the_stub_of_systemd():
    found = texts(**{
        "_etc_resolv.conf": "nameserver 127.0.0.53\n",
        "_run_systemd_resolve_resolv.conf": "nameserver 192.0.2.1\n",
    })  # fmt: skip
    assert found["resolv.conf"] == "nameserver 192.0.2.1\n"


def test_hosts():
    assert texts()["hosts"].startswith("127.0.0.1\tlocalhost\n")
    assert texts("--network=host", own=False, _etc_hosts="1.2.3.4 x")["hosts"] == "1.2.3.4 x\n"
    for word in ("x", "x:", ":1.2.3.4", "x:1.2.3", "x:1.2.3.4.5", "x:host"):
        with pytest.raises(Error, match="invalid value for --add-host"):
            texts("--add-host", word)
    with pytest.raises(Error, match="invalid value for --dns"):
        texts("--dns", "x")
    with pytest.raises(Error, match="invalid value for resolv.conf"):
        texts("--dns-search", "a\nnameserver 6.6.6.6")
