"""User namespaces of root's containers: whose ids they have, and whose the files are, inside and outside."""

import json
import os
import subprocess

import pytest

from oci_tools import cli
from oci_tools.container import host, options, userns
from oci_tools.errors import Error, Usage
from oci_tools.runtime import check, spec

COMMAND = cli.Command("x", "x", "IMAGE [CMD...]", options.OPTIONS, stop=True)


# -- the plan --------------------------------------------------------------------------------------


class Fake(host.Host):
    """A host with these files of subordinate ids, on which nothing is taken."""

    def __init__(self, subuid="", subgid=None):
        super().__init__()
        self.rootless = False
        self.files = {"/etc/subuid": subuid, "/etc/subgid": subuid if subgid is None else subgid}

    def exists(self, path):
        return bool(self.files.get(path))

    def text(self, path):
        return self.files[path]

    def take_ids(self, size, known):
        return userns._free(size, known, [])

    def namespace(self, word, kind):
        return f"/proc/{word}/ns/{kind}"


def planned(*words, there=None):
    made = spec.default()
    made["linux"]["sysctl"] = {"net.ipv4.ping_group_range": "0 2147483647"}
    options.apply(made, cli.Args(cli.read(COMMAND, [*words, "image"])), there or Fake())
    check.check(made)
    return made["linux"]


def maps(*words, there=None):
    linux = planned(*words, there=there)
    return [[(e["containerID"], e["hostID"], e["size"]) for e in linux[name]] for name in ("uidMappings", "gidMappings")]


def test_none_unless_it_is_asked_for():
    for words in ([], ["--userns", "host"]):
        assert "uidMappings" not in planned(*words)


def test_automatic():
    assert maps("--userns", "auto") == [[(0, 524288, 65536)]] * 2
    assert maps("--userns", "auto:size=100") == [[(0, 524288, 100)]] * 2
    assert planned("--userns", "auto:size=100")["sysctl"]["net.ipv4.ping_group_range"] == "0 99"
    there = Fake("root:100000:65536\ncontainers:200000:131072\nme:300000:65536\n")
    assert maps("--userns", "auto", there=there) == [[(0, 200000, 65536)]] * 2
    words = ["--userns", "auto", "--subuidname", "me", "--subgidname", "me"]
    assert maps(*words, there=there) == maps(*words[2:], there=there) == [[(0, 300000, 65536)]] * 2
    assert maps("--userns", "auto", there=Fake("root:100000:65536\n")) == [[(0, 100000, 65536)]] * 2


def test_said():
    assert maps("--uidmap", "0:1000:10", "--uidmap", "10:5") == [[(0, 1000, 10), (10, 5, 1)]] * 2
    assert maps("--uidmap", "0:1000:10", "--gidmap", "0:7") == [[(0, 1000, 10)], [(0, 7, 1)]]
    assert planned("--uidmap", "0:1000:10")["sysctl"]["net.ipv4.ping_group_range"] == "0 9"


def test_of_others():
    linux = planned("--userns", "container:web")
    assert linux["namespaces"][-1] == {"type": "user", "path": "/proc/web/ns/user"} and "uidMappings" not in linux
    assert planned("--userns", "ns:/x")["namespaces"][-1] == {"type": "user", "path": "/x"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--userns odd", "invalid value for --userns 'odd'"),
        ("--userns keep-id", "invalid value for --userns 'keep-id': only for a plain user"),
        ("--userns auto:odd=1", "invalid value for --userns 'auto:odd=1'"),
        ("--userns auto:size=0", "invalid value for --userns 'auto:size=0'"),
        ("--userns container:", "invalid value for --userns 'container:'"),
        ("--uidmap 0", "invalid value for --uidmap '0'"), ("--uidmap 0:1:0", "invalid value for --uidmap '0:1:0'"),
        ("--uidmap a:1", "invalid value for --uidmap 'a:1'"), ("--uidmap 0:4294967295", "invalid value for --uidmap"),
        ("--userns host --uidmap 0:1", "--uidmap and its kin exclude --userns host"),
    ],
)  # fmt: skip
def test_what_cannot_be(words, message):
    with pytest.raises(Usage) as caught:
        planned(*words.split())
    assert str(caught.value).startswith(message)


def test_ids_that_there_are_not():
    with pytest.raises(Error, match="no 65536 ids are left"):
        maps("--userns", "auto", there=Fake("root:100000:1000\n"))
    with pytest.raises(Error, match="no subordinate ids of 'me'"):
        maps("--subuidname", "me", there=Fake("root:100000:65536\n"))
    with pytest.raises(Error, match="they are in /etc/subuid and not in /etc/subgid"):
        maps("--userns", "auto", there=Fake("root:100000:65536\n", "root:5:65536\n"))
    there = Fake()
    there.rootless = True
    for words in (["--userns", "auto"], ["--userns", "nomap"], ["--uidmap", "0:1"], ["--userns", "keep-id", "--uidmap", "0:1"]):
        with pytest.raises(Error, match="cannot use --userns"):
            planned(*words, there=there)
    with pytest.raises(Usage, match="invalid value for --userns"):
        planned("--userns", "keep-id:uid=x", there=there)


@pytest.mark.parametrize(
    ("size", "taken", "first"),
    [(10, [], 100), (10, [(100, 10)], 110), (10, [(105, 1)], 106), (10, [(110, 10)], 100), (90, [(100, 10)], 110),
     (95, [(100, 10)], 300), (10, [(90, 20), (115, 5)], 120)],
)  # fmt: skip
def test_free_ids(size, taken, first):
    assert userns._free(size, [(100, 100), (300, 1000)], taken) == first


def test_a_plain_users_own_id():
    there = Fake()
    there.rootless = True
    base = spec.default(rootless=True)
    options.apply(base, cli.Args(cli.read(COMMAND, ["--userns", "keep-id:uid=5", "image"])), there)
    assert base["linux"]["uidMappings"] == [{"containerID": 5, "hostID": os.geteuid(), "size": 1}]
    assert base["process"]["user"]["uid"] == 5 and "effective" not in base["process"]["capabilities"]


# -- real ones ----------------------------------------------------------------------------------------

root = pytest.mark.root
NONE = ("--network", "none")


@root
def test_files_are_its_own(run, oci, tmp_path):
    script = (
        "id -u; cat /proc/self/uid_map; stat -c %u:%g /bin/sh /etc/hosts; touch /new; chown 5:6 /new; stat -c %u:%g /new;"
        "rm /etc/group; echo x > /bin/made; chmod u+s /bin/made"
    )
    made = run("new", *NONE, "--userns", "auto", "busybox", "sh", "-c", script).stdout.strip()
    said = oci("run", "start", "-a", made).stdout.split()
    first = int(said[2])
    assert first >= 524288 and said[:2] + said[3:] == ["0", "0", "65536", "0:0", "0:0", "5:6"]
    new = (tmp_path / f"root/containers/{made}/bundle/upper/new").stat()
    assert (new.st_uid, new.st_gid) == (5, 6), "on disk as the image's are"
    assert oci("run", "diff", made).stdout.splitlines() == ["C /bin", "A /bin/made", "C /etc", "D /etc/group", "A /new"]
    oci("run", "cp", f"{made}:/new", "./copied")
    oci("run", "start", "-a", made)
    oci("run", "rm", made)
    assert list((tmp_path / "root/userns").glob("[0-9]*")), "a link that leads nowhere: the next one takes the ids"


@root
def test_nobody_outside_is_it(run, oci):
    """Its root has no right over what root of the host has, and no process of its is root's."""
    made = run("-d", "--userns", "auto", *NONE, "-v", "/etc:/host:ro", "busybox", "sleep", "1000").stdout.strip()
    pid = json.loads(oci("run", "state", made).stdout)["pid"]
    assert os.stat(f"/proc/{pid}").st_uid >= 524288
    assert "denied" in oci("run", "exec", made, "cat", "/host/shadow", code=1).stderr
    assert oci("run", "exec", made, "id", "-u").stdout == "0\n"
    oci("run", "cp", "/etc/hostname", f"{made}:/in")
    assert oci("run", "exec", made, "stat", "-c", "%u", "/in").stdout == "0\n"
    names = oci("run", "export", made, binary=True).stdout
    assert b"bin/busybox" in names
    assert oci("run", "stop", "-t", "0", made).stderr == ""
    oci("run", "rm", made)


@root
def test_ids_are_nobody_elses(run, oci):
    def first(container):
        text = oci("run", "exec", container, "cat", "/proc/self/uid_map").stdout
        return int(text.split()[1])

    made = [run("-d", *NONE, "--userns", "auto", "busybox", "sleep", "1000").stdout.strip() for _ in range(2)]
    assert first(made[1]) - first(made[0]) == 65536
    freed = first(made[0])
    oci("run", "rm", "-f", made[0])
    made[0] = run("-d", *NONE, "--userns", "auto", "busybox", "sleep", "1000").stdout.strip()
    assert first(made[0]) == freed
    for each in made:
        oci("run", "rm", "-f", each)


@root
def test_the_namespace_of_another(run, oci):
    made = run("-d", *NONE, "--name", "web", "--userns", "auto", "busybox", "sleep", "1000").stdout.strip()
    words = ["--userns", "container:web", "--pid", "container:web", "--ipc", "container:web"]
    said = run(*NONE, *words, "busybox", "sh", "-c", "id -u; stat -c %u /bin/sh /etc/hosts; ps | grep -c '[s]leep 1000'").stdout
    assert said.split() == ["0", "0", "0", "1"]
    oci("run", "rm", "-f", made)


@root
@pytest.mark.parametrize("words", [NONE, ("--network", "host"), ()], ids=["none", "host", "bridge"])
def test_with_every_network(run, oci, words):
    """/sys, sysctls and the addresses of a network belong to whoever the namespace does."""
    done = run(*words, "--userns", "auto", "--init", "busybox", "sh", "-c", "ls /sys/class/net | sort; touch /sys/x || echo ro")
    assert "lo" in done.stdout.split() and done.stdout.split()[-1] == "ro"


@root
def test_maps_that_are_said_and_a_user_who_is_not_mapped(run):
    assert run(*NONE, "--uidmap", "0:7000:5", "busybox", "cat", "/proc/self/gid_map").stdout.split() == ["0", "7000", "5"]
    said = run(*NONE, "--uidmap", "0:7000:5", "-u", "9", "busybox", "true", code=125).stderr
    assert said.startswith("oci-run: cannot become user '9:") and said.count("\n") == 1


@root
def test_what_it_may_do(run):
    said = run(*NONE, "--userns", "auto", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c",
               "mkdir /m; mount -t tmpfs x /m && echo mounted; mknod /dev/sda b 8 0 || echo none; echo 1 > /proc/sys/kernel/panic",
               code=1)  # fmt: skip
    assert said.stdout == "mounted\nnone\n"


@root
def test_volumes(run, oci, tmp_path):
    (tmp_path / "data").mkdir()
    run(*NONE, "--userns", "auto", "-v", "./data:/d:idmap", "busybox", "touch", "/d/made")
    assert (tmp_path / "data/made").stat().st_uid == 0
    run(*NONE, "--userns", "auto", "-v", "named:/d", "busybox", "sh", "-c", "touch /d/made; chown 5:6 /d/made")
    assert run(*NONE, "-v", "named:/d", "busybox", "stat", "-c", "%u:%g", "/d/made").stdout == "5:6\n"
    oci("vol", "rm", "named")
    assert "denied" in run(*NONE, "--userns", "auto", "-v", "./data:/d", "busybox", "touch", "/d/other", code=1).stderr


@root
def test_a_bundle_of_it_for_another_runtime(run, oci, tmp_path):
    """An overlay bundle's own config.json says it all."""
    made = run("new", *NONE, "--userns", "auto", "busybox", "id", "-u").stdout.strip()
    bundle = tmp_path / f"root/containers/{made}/bundle"
    text = json.loads((bundle / "config.json").read_text())
    assert json.loads(text["annotations"]["io.oci-tools.overlay"])["idmap"] is True
    assert oci("run", "run", "-b", bundle, "x1").stdout == "0\n"
    oci("run", "rm", made)
    assert subprocess.run(["findmnt", "-rn", "-o", "TARGET"], capture_output=True, text=True).stdout.count(made) == 0


@root
def test_a_plain_user_who_keeps_the_id(plain_run, plain):
    me = plain.user["user"]
    script = "id -u; id -g; touch /tmp/x; stat -c %u /tmp/x; touch /made && stat -c %u /made /proc/self/; grep CapEff /proc/self/status"
    done = plain_run("--network", "none", "--userns", "keep-id", "busybox", "sh", "-c", script)
    assert done.stdout.split() == [str(me)] * 5 + ["CapEff:", "0000000000000000"]
    assert plain_run("--network", "none", "--userns", "keep-id:uid=7,gid=8", "busybox", "id").stdout.startswith("uid=7 gid=8")
    made = plain_run("-d", "--network", "none", "--userns", "keep-id", "busybox", "sleep", "1000").stdout.strip()
    assert plain("run", "exec", made, "id", "-u").stdout == f"{me}\n"
    plain("run", "cp", "/etc/hostname", f"{made}:/in")
    assert plain("run", "exec", made, "stat", "-c", "%u", "/in").stdout == f"{me}\n"
    plain("run", "rm", "-f", made)
