"""Docker's words become a specification: plans as data, tested without any privilege."""

import copy
import os

import pytest

from oci_tools import cli
from oci_tools.container import host as hosts
from oci_tools.container import health, mounts, options, process, security, units
from oci_tools.errors import Error, Usage
from oci_tools.linux import caps
from oci_tools.runtime import check, spec

COMMAND = cli.Command("x", "x", "IMAGE [CMD...]", options.OPTIONS, stop=True)
PASSWD = b"root:x:0:0::/:\napp:x:1000:1000::/:\n"
GROUP = b"app:x:1000:\nwheel:x:10:app\n"


class Fake(hosts.Host):
    """A host that is the same everywhere."""

    def __init__(self, **files):
        super().__init__({"etc/passwd": PASSWD, "etc/group": GROUP}.get)
        self.environ = {"HERE": "yes"}
        self.rootless = False
        self.files = files
        self.there = {"/data", "/dev/shm", "/dev/mqueue"}
        self.enforces = False
        self.mounted = []
        self.volumes = []

    def text(self, path):
        return self.files[path]

    def absolute(self, path):
        return os.path.normpath(os.path.join("/cwd", path))

    def exists(self, path):
        return path in self.there

    def is_file(self, path):
        return path in self.files

    def real(self, path):
        return path

    def listed(self, path):
        return [name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/")]

    def namespace(self, word, kind):
        return f"/proc/{word}/ns/{kind}"

    def root_of(self, word):
        return f"/proc/{word}/root"

    def mounts_of(self, word):
        return self.mounted

    def init(self):
        return "/host/init"

    def selinux(self):
        return self.enforces

    def cpus(self):
        return 4

    def capabilities(self):
        return list(caps.NAMES)

    def devices(self, path):
        found = []
        every = (("/dev/fuse", "c", 229), ("/dev/snd/a", "c", 1), ("/dev/snd/b", "b", 2), ("/dev/sda", "b", 8))
        for name, kind, minor in every:
            if name == path or name.startswith(f"{path}/"):
                device = hosts.Device.__new__(hosts.Device)
                device.__dict__.update(path=name, kind=kind, major=10, minor=minor, mode=0o660, uid=0, gid=7)
                found.append(device)
        return found


def applied(*words, base=None, host=None, asked=None):
    """The specification that these words make, which is always a valid one."""
    values = cli.read(COMMAND, [*words, "image"])
    assert values is not None, f"not understood: {words}"
    made = spec.default() if base is None else base
    found = options.apply(made, cli.Args(values), host or Fake())
    if asked is not None:
        asked.__dict__.update(found.__dict__)
    check.check(made)
    return made


def refused(*words, kind=Error, **more):
    with pytest.raises(kind) as caught:
        applied(*words, **more)
    return str(caught.value)


def mount_at(made, path):
    return [each for each in made["mounts"] if each["destination"] == path]


def test_no_words_change_nothing():
    assert applied() == {**spec.default(), "annotations": {}}


def test_every_option_has_a_name_and_help_of_its_own():
    names = [name for option in options.OPTIONS for name in cli.names(option)]
    assert len(names) == len(set(names))
    assert all(option[3] for option in options.OPTIONS)


# -- the process ---------------------------------------------------------------------------------


def test_environment():
    made = applied("-e", "A=1", "--env", "HERE", "-e", "NOWHERE", "-eA=2", "-e", "B=")
    assert made["process"]["env"] == [spec.PATH, "A=2", "HERE=yes", "B="]


def test_environment_from_files():
    host = Fake(one="\ufeff# a comment\nA=1\r\n\n  B=x y \nHERE\nNOT\n", two="A=2")
    made = applied("--env-file", "one", "--env-file", "two", "-e", "B=3", host=host)
    assert made["process"]["env"][1:] == ["A=2", "B=3", "HERE=yes"]
    text = refused("--env-file", "one", host=Fake(one="A=1\nB C=1"))
    assert text == "invalid variable in 'one', line 2 'B C=1': its name has a space"


def test_variables_of_the_host_and_of_the_image():
    host = Fake()
    host.environ = {"PATH": "/host", "LC_A": "1", "LC_B": "2", "X": "3"}
    made = applied("-e", "LC_*", host=host)
    assert made["process"]["env"] == [spec.PATH, "LC_A=1", "LC_B=2"]
    assert applied("--env-host", "-e", "X=4", host=host)["process"]["env"] == ["LC_A=1", "LC_B=2", spec.PATH, "X=4"]
    assert applied("--unsetenv", "PATH", "-e", "A=1")["process"]["env"] == ["A=1"]
    assert applied("--unsetenv-all", "-t")["process"]["env"] == ["TERM=xterm"]


def test_variables_out_of_others_and_of_the_proxy():
    base = {**spec.default()}
    base["process"] = {**base["process"], "env": ["A=1", "B_2=two", "no_proxy=x"]}
    words = [each for word in ("X=${A}-$B_2/$NOT${NOT}$", "A=$A$A") for each in ("--env-merge", word)]
    env = applied(*words, "-e", "Y=z", base=copy.deepcopy(base))["process"]["env"]
    assert env == ["A=11", "B_2=two", "no_proxy=x", "X=1-two/$", "Y=z"]
    host = Fake()
    host.environ = {"http_proxy": "http://p:1", "HTTPS_PROXY": "q", "no_proxy": "y", "other_proxy": "z"}
    env = applied("--http-proxy", "-e", "HTTPS_PROXY=mine", base=base, host=host)["process"]["env"]
    assert env == ["http_proxy=http://p:1", "HTTPS_PROXY=mine", "no_proxy=x", "A=1", "B_2=two"]
    assert "invalid value for --env-merge 'A'" in refused("--env-merge", "A", kind=Usage)


def test_podmans_words_for_the_kernel_and_the_image():
    assert applied("--personality", "LINUX32")["linux"]["personality"] == {"domain": "LINUX32"}
    assert applied("--rdt-class", "gold")["linux"]["intelRdt"] == {"closID": "gold"}
    assert not any(mount_at(applied("--read-only-tmpfs"), path) for path in ("/run", "/tmp", "/var/tmp"))
    made = applied("--read-only", "--read-only-tmpfs", "--tmpfs", "/tmp:size=1m")
    assert [mount_at(made, path)[0]["type"] for path in ("/run", "/tmp", "/var/tmp")] == ["tmpfs"] * 3
    assert "size=1m" in mount_at(made, "/tmp")[0]["options"]
    host = Fake()
    host.volumes = ["/db"]
    assert mount_at(applied("--image-volume", "tmpfs", host=host), "/db")[0]["type"] == "tmpfs"
    assert mount_at(applied("--image-volume", "ignore", host=host), "/db") == []
    asked = options.Asked()
    applied("--image-volume", "anonymous", host=host, asked=asked)
    assert [want.anonymous for want in asked.volumes] == [True]


@pytest.mark.parametrize("word", ["", "=x"])
def test_a_variable_without_name(word):
    assert refused("-e", word, kind=Usage) == f"invalid environment variable '{word}'"


def test_terminal():
    made = applied("-t")
    assert made["process"]["terminal"] is True and "TERM=xterm" in made["process"]["env"]
    assert "TERM=vt100" in applied("-t", "-e", "TERM=vt100")["process"]["env"]
    assert "TERM=xterm" not in applied("-t", "-e", "TERM=vt100")["process"]["env"]


def test_working_directory():
    assert applied("-w", "/a/../b")["process"]["cwd"] == "/b"
    assert refused("-w", "a", kind=Usage) == "invalid working directory 'a': it must be absolute"


def test_user():
    made = applied("-u", "app")
    assert made["process"]["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [1000, 10]}
    assert "effective" not in made["process"]["capabilities"]
    assert applied("-u", "5:6")["process"]["user"] == {"uid": 5, "gid": 6, "additionalGids": [6]}
    assert "unable to find user 'none'" in refused("-u", "none")


def test_groups():
    assert applied("--group-add", "wheel", "--group-add", "7", "--group-add", "wheel")["process"]["user"] == {
        "uid": 0, "gid": 0, "additionalGids": [10, 7],
    }  # fmt: skip
    assert "unable to find group 'none'" in refused("--group-add", "none")


def test_the_callers_groups():
    assert applied("--group-add", "keep-groups")["annotations"] == {"run.oci.keep_original_groups": "1"}
    assert "excludes" in refused("--group-add", "keep-groups", "--group-add", "7", kind=Usage)


def test_umask_and_time_zone():
    assert applied("--umask", "0027")["process"]["user"]["umask"] == 0o27
    for word in ("", "8", "01000", "-1"):
        assert "invalid value for --umask" in refused("--umask", word, kind=Usage)
    host = Fake(**{"/usr/share/zoneinfo/Asia/Tokyo": ""})
    (zone,) = mount_at(applied("--tz", "Asia/Tokyo", host=host), "/etc/localtime")
    assert zone["source"] == "/usr/share/zoneinfo/Asia/Tokyo" and "ro" in zone["options"]
    for word in ("Nowhere", "../../etc/passwd", "Asia/../Asia/Tokyo", "/x"):
        assert "no such time zone" in refused("--tz", word, host=host)


def test_init():
    made = applied("--init", "-v", "/data:/sbin")
    assert made["process"]["args"][:3] == ["/sbin/oci-init", "--", "sh"]
    assert [each["destination"] for each in made["mounts"][-2:]] == ["/sbin", "/sbin/oci-init"]
    assert "ro" in made["mounts"][-1]["options"]


def test_exposed_ports():
    name = options.EXPOSED
    assert applied("--expose", "80", "--expose", "53/udp", "--expose", "90-92")["annotations"][name] == (
        "80/tcp,53/udp,90/tcp,91/tcp,92/tcp"
    )
    base = {**spec.default(), "annotations": {name: "80/tcp"}}
    assert applied("--expose", "80", "--expose", "81", base=base)["annotations"][name] == "80/tcp,81/tcp"
    for word in ("", "0", "65536", "a", "2-1", "80/icmp", "80/", "1-", "999999999"):
        assert "invalid port" in refused("--expose", word, kind=Usage)


def test_stop_signal():
    assert applied("--stop-signal", "SIGINT")["annotations"][options.STOP_SIGNAL] == "SIGINT"
    assert refused("--stop-signal", "SIGNOPE") == "unknown signal 'SIGNOPE'"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["/e", "c"]),
        (["a", "-b"], ["/e", "a", "-b"]),
    ],
)
def test_command(words, expected):
    args = cli.Args(cli.read(COMMAND, ["image", *words]))
    assert process.command(args, ["/e"], ["c"]) == expected


def test_a_new_entrypoint_takes_the_images_words_away():
    for words, expected in (([], ["/x"]), (["a"], ["/x", "a"])):
        args = cli.Args(cli.read(COMMAND, ["--entrypoint", "/x", "image", *words]))
        assert process.command(args, ["/e"], ["c"]) == expected
    args = cli.Args(cli.read(COMMAND, ["--entrypoint", '["/x", "a b"]', "image", "c"]))
    assert process.command(args, ["/e"], ["d"]) == ["/x", "a b", "c"]
    args = cli.Args(cli.read(COMMAND, ["--entrypoint=", "image", "a"]))
    assert process.command(args, ["/e"], ["c"]) == ["a"]


# -- namespaces --------------------------------------------------------------------------------


def kinds(made):
    return {each["type"] for each in made["linux"]["namespaces"]}


def test_namespaces_of_the_host():
    everything = kinds(spec.default())
    for option, kind in (
        ("network", "network"),
        ("pid", "pid"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroupns", "cgroup"),
    ):
        assert kinds(applied(f"--{option}", "host")) == everything - {kind}
    assert "hostname" not in applied("--uts", "host")
    assert kinds(applied("--network", "none", "--ipc", "private")) == everything


def test_ipc():
    made = applied("--ipc", "host")
    assert mount_at(made, "/dev/shm") == [
        {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]}
    ]
    assert not mount_at(applied("--ipc", "none"), "/dev/shm")


def test_namespaces_of_others():
    def joined(*words):
        return {each["type"]: each.get("path") for each in applied(*words)["linux"]["namespaces"]}

    assert joined("--pid", "container:web")["pid"] == "/proc/web/ns/pid"
    assert joined("--uts", "ns:/run/ns/x")["uts"] == "/run/ns/x"
    assert joined("--cgroupns", "ns:x")["cgroup"] == "/cwd/x"
    made = applied("--ipc", "container:web")
    assert {"type": "ipc", "path": "/proc/web/ns/ipc"} in made["linux"]["namespaces"]
    assert mount_at(made, "/dev/shm") == [bound("/proc/web/root/dev/shm", "/dev/shm", "rprivate")]
    for option in ("--pid", "--ipc", "--uts", "--cgroupns"):
        for word in ("odd", "container:", "container", "ns:", ""):
            assert f"invalid value for {option} '{word}'" in refused(option, word, kind=Usage)


def test_names():
    for word in ("", "a b", "a\n1.2.3.4 b"):
        assert "invalid value for --hostname" in refused("-h", word, kind=Usage)
    assert applied("-h", "box")["hostname"] == "box"
    assert applied("--domainname", "nis")["domainname"] == "nis"
    assert (
        refused("-h", "box", "--uts", "host", kind=Usage) == "--hostname and --domainname exclude --uts host"
    )


def test_networks():
    assert "network" not in kinds(applied("--network", "host"))
    assert kinds(applied("--network", "web:ip=10.1.2.3")) == kinds(applied())
    spaces = applied("--network", "container:web")["linux"]["namespaces"]
    assert {"type": "network", "path": "/proc/web/ns/network"} in spaces
    assert refused("--network", "none", "--net", "web", kind=Usage) == "--network none excludes other networks"


# -- mounts --------------------------------------------------------------------------------------


def bound(source, destination, *options):
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", *options]}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/data:/x", bound("/data", "/x", "rprivate")),
        ("/data:/x:ro", bound("/data", "/x", "rprivate", "ro", "rro")),
        ("/data:/x:ro,rw", bound("/data", "/x", "rprivate")),
        ("/data:/x/../y/:z,rslave", bound("/data", "/y", "rslave")),
        ("./d:/x", bound("/cwd/d", "/x", "rprivate")),
    ],
)
def test_volume(word, expected):
    assert applied("-v", word)["mounts"][-1] == expected


def test_a_volume_is_asked_for():
    host = Fake()
    host.volumes = ["/var/lib/x/", "/taken"]
    asked = options.Asked()
    words = ("-v", "db:/data:ro,nocopy", "-v", "/own", "-v", "/data:/taken", "--mount", "dst=/m,src=v,volume-subpath=./a//b")
    places = {each["destination"]: each for each in applied(*words, host=host, asked=asked)["mounts"]}
    assert [(want.destination, want.anonymous, want.nocopy, want.subpath) for want in asked.volumes] == [
        ("/data", False, True, ""), ("/own", True, False, ""), ("/m", False, False, "a/b"), ("/var/lib/x", True, False, ""),
    ]  # fmt: skip
    assert places["/data"]["options"] == ["rbind", "rprivate", "ro", "rro"] and places["/taken"]["source"] == "/data"


def test_a_missing_directory_of_the_host_is_made():
    asked = options.Asked()
    applied("-v", "/new/dir:/x", "-v", "/data:/y", asked=asked)
    assert asked.directories == ["/new/dir"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("/a:b", "invalid mount path 'b': it must be absolute"),
        ("/a:", "invalid mount path '/a:': it must be absolute"),
        ("/a:/", "invalid mount path '/': it cannot be the root"),
        ("/a:/..", "invalid mount path '/..': it cannot be the root"),
        ("/a:/b:c:d", "invalid volume '/a:/b:c:d'"),
        (":/b", "invalid volume ':/b'"),
        ("/a:/b:x", "invalid option 'x': in volume '/a:/b:x'"),
        ("na/me:/b", "invalid volume name 'na/me'"),
        ("b", "invalid mount path 'b'"),
    ],
)
def test_bad_volume(word, message):
    assert refused("-v", word).startswith(message)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("type=bind,source=/data,target=/x", bound("/data", "/x", "rprivate")),
        ("type=bind,src=/data,dst=/x,readonly", bound("/data", "/x", "rprivate", "ro", "rro")),
        ("type=bind,src=/data,destination=/x,ro=true,bind-propagation=rshared",
         bound("/data", "/x", "rshared", "ro", "rro")),
        ("type=bind,src=/data,dst=/x,ro,bind-recursive=writable", bound("/data", "/x", "rprivate", "ro")),
        ("type=bind,src=/data,dst=/x,ro,bind-nonrecursive",
         {"destination": "/x", "type": "bind", "source": "/data", "options": ["bind", "rprivate", "ro"]}),
        ("type=tmpfs,target=/x", {"destination": "/x", "type": "tmpfs", "source": "tmpfs",
                                  "options": ["noexec", "nosuid", "nodev", "mode=1777"]}),
        ("type=tmpfs,target=/x,tmpfs-size=1k,tmpfs-mode=700,ro",
         {"destination": "/x", "type": "tmpfs", "source": "tmpfs",
          "options": ["noexec", "nosuid", "nodev", "size=1024", "mode=700", "ro"]}),
    ],
)  # fmt: skip
def test_mount(word, expected):
    assert applied("--mount", word)["mounts"][-1] == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("type=bind,src=/none,dst=/x", "cannot mount '/none': no such file or directory"),
        ("type=bind,dst=/x", "invalid mount 'type=bind,dst=/x': a bind mount needs a source"),
        ("type=bind,src=/data", "invalid mount path"),
        ("type=bind,src=/data,dst=x", "invalid mount path 'x'"),
        ("type=bind,src=/data,dst=/x,tmpfs-size=1", "unexpected key 'tmpfs-size'"),
        ("type=bind,src=/data,dst=/x,ro=perhaps", "invalid value for readonly 'perhaps'"),
        ("type=bind,src=/data,dst=/x,bind-propagation=odd", "invalid propagation 'odd'"),
        ("type=odd,dst=/x", "invalid mount type 'odd'"),
        ("type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode '9'"),
        ("type=tmpfs,dst=/x,tmpfs-size=x", "invalid size for tmpfs-size 'x'"),
        ("dst=/x,src=.v", "invalid volume name '.v'"),
        ("dst=/x,src=v,volume-driver=nfs", "no such volume driver 'nfs'"),
        ("dst=/x,src=v,tmpfs-size=1", "unexpected key 'tmpfs-size': in mount 'dst=/x,src=v,tmpfs-size=1'"),
    ],
)
def test_bad_mount(word, message):
    assert refused("--mount", word).startswith(message)


def test_tmpfs():
    assert mount_at(applied("--tmpfs", "/x"), "/x")[0]["options"] == [
        "noexec",
        "nosuid",
        "nodev",
        "mode=1777",
    ]
    assert mount_at(applied("--tmpfs", "/x:exec,size=64m,mode=755"), "/x")[0]["options"] == [
        "nosuid", "nodev", "exec", "size=64m", "mode=755",
    ]  # fmt: skip
    assert refused("--tmpfs", "/x:huge=always") == "invalid tmpfs option 'huge=always'"
    assert refused("--tmpfs", "x") == "invalid mount path 'x': it must be absolute"


def test_a_mount_replaces_the_default_one_and_deep_ones_come_last():
    made = applied("-v", "/data:/a/b", "-v", "/data:/dev/shm", "--tmpfs", "/a")
    assert mount_at(made, "/dev/shm") == [bound("/data", "/dev/shm", "rprivate")]
    assert [each["destination"] for each in made["mounts"][-3:]] == ["/a", "/a/b", "/dev/shm"]


def test_a_mount_on_dev_takes_all_below_with_it():
    places = [each["destination"] for each in applied("-v", "/data:/dev")["mounts"]]
    assert places == ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]


def test_two_mounts_at_one_place():
    assert refused("-v", "/data:/x", "--tmpfs", "/x/", kind=Usage) == "duplicate mount point '/x'"


def test_propagation_into_the_container_needs_the_root_to_let_it_through():
    assert "rootfsPropagation" not in applied("-v", "/data:/x")["linux"]
    assert applied("-v", "/data:/x:rslave")["linux"]["rootfsPropagation"] == "rslave"
    assert applied("-v", "/data:/x:shared", "-v", "/data:/y:slave")["linux"]["rootfsPropagation"] == "rshared"


def test_volumes_of_another_container():
    host = Fake()
    host.mounted = [
        *spec.default()["mounts"],
        bound("/data", "/x", "rprivate"),
        bound("/data", "/y", "rprivate", "ro", "rro"),
        bound("/data", "/z", "rprivate"),
        bound("/data", "/dev/shm", "rprivate"),
        bound("/host/init", "/sbin/oci-init", "ro"),
    ]
    made = applied("--volumes-from", "web", "-v", "/other:/z", host=host)["mounts"][-3:]
    assert made == [bound("/other", "/z", "rprivate"), *host.mounted[-5:-3]]
    made = applied("--volumes-from", "web:ro", host=host)
    assert [mount_at(made, path)[0]["options"][-2:] for path in ("/x", "/y")] == [["ro", "rro"]] * 2
    made = applied("--volumes-from", "web:rw,z", "--volumes-from", "db", host=host)
    assert mount_at(made, "/y") == [host.mounted[-4]], "the later of two"
    for word in (":ro", "web:odd", "web:ro,rw"):
        assert "invalid value for --volumes-from" in refused("--volumes-from", word, kind=Usage)


def test_shm_size():
    assert mount_at(applied("--shm-size", "1g"), "/dev/shm")[0]["options"][-1] == f"size={1 << 30}"


def test_read_only():
    assert applied("--read-only")["root"]["readonly"] is True


# -- limits ----------------------------------------------------------------------------------------


def resources(*words):
    return applied(*words)["linux"]["resources"]


def test_memory():
    assert resources("-m", "64m")["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert resources("--memory=1g", "--memory-swap", "-1")["memory"] == {"limit": 1 << 30, "swap": -1}
    assert resources("--memory=1g", "--memory-swap", "1g", "--memory-reservation=512m", "--memory-swappiness=0",
                     "--oom-kill-disable")["memory"] == {
        "limit": 1 << 30, "swap": 1 << 30, "reservation": 512 << 20, "swappiness": 0, "disableOOMKiller": True,
    }  # fmt: skip


def test_processors():
    assert resources("--cpus", "1.5")["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources("--cpu-shares=2", "--cpu-period=1000", "--cpu-quota=2000", "--cpuset-cpus=0-1",
                     "--cpuset-mems=0")["cpu"] == {
        "shares": 2, "period": 1000, "quota": 2000, "cpus": "0-1", "mems": "0",
    }  # fmt: skip


def test_other_limits():
    assert resources("--pids-limit", "10")["pids"] == {"limit": 10}
    assert resources("--pids-limit", "-1")["pids"] == {"limit": -1}
    assert resources("--pids-limit", "0")["pids"] == {"limit": -1}
    assert resources("--blkio-weight", "100")["blockIO"] == {"weight": 100}
    assert applied("--oom-score-adj", "-5")["process"]["oomScoreAdj"] == -5


def test_disks():
    sda = {"major": 10, "minor": 8}
    found = resources(
        "--blkio-weight-device", "/dev/sda:200", "--device-read-bps", "/dev/sda:1mb", "--device-write-bps",
        "/dev/sda:2k", "--device-read-iops", "/dev/sda:30", "--device-write-iops", "/dev/sda:40",
    )["blockIO"]  # fmt: skip
    assert found == {
        "weightDevice": [{**sda, "weight": 200}],
        "throttleReadBpsDevice": [{**sda, "rate": 1 << 20}],
        "throttleWriteBpsDevice": [{**sda, "rate": 2048}],
        "throttleReadIOPSDevice": [{**sda, "rate": 30}],
        "throttleWriteIOPSDevice": [{**sda, "rate": 40}],
    }


def test_real_time_and_files_of_the_cgroup():
    assert resources("--cpu-rt-period=1000", "--cpu-rt-runtime=500")["cpu"] == {
        "realtimePeriod": 1000, "realtimeRuntime": 500,
    }  # fmt: skip
    assert resources("--cgroup-conf", "memory.high=1000", "--cgroup-conf=pids.max=5")["unified"] == {
        "memory.high": "1000", "pids.max": "5",
    }  # fmt: skip


def test_ulimits():
    made = applied(
        "--ulimit", "nofile=10:20", "--ulimit", "CORE=-1", "--ulimit", "nproc=3", "--ulimit", "nproc=4:5"
    )
    assert made["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
        {"type": "RLIMIT_NPROC", "soft": 4, "hard": 5},
    ]


def test_sysctls():
    made = applied("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=1 2")
    assert made["linux"]["sysctl"] == {"net.ipv4.ip_forward": "1", "kernel.msgmax": "1 2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m x", "invalid size for --memory 'x'"),
        ("-m -1", "invalid size for --memory '-1'"),
        ("--memory-swap 1g", "--memory-swap needs --memory"),
        ("-m 2g --memory-swap 1g", "invalid value for --memory-swap '1g': it is less than --memory"),
        ("-m 1g --memory-reservation 2g", "invalid value for --memory-reservation '2g': it is more"),
        ("--memory-swappiness 101", "invalid value for --memory-swappiness '101'"),
        ("--cpus 5", "invalid value for --cpus '5': there are 4 (0.01 to 4)"),
        ("--cpus 0.001", "invalid value for --cpus '0.001'"),
        ("--cpus x", "invalid number for --cpus 'x'"),
        ("--cpus 1 --cpu-quota 1000", "--cpus excludes"),
        ("--cpu-shares 1", "invalid value for --cpu-shares '1'"),
        ("--cpu-quota 1", "invalid value for --cpu-quota '1'"),
        ("--cpuset-cpus x", "invalid value for --cpuset-cpus 'x'"),
        ("--blkio-weight 5", "invalid value for --blkio-weight '5'"),
        ("--oom-score-adj 1001", "invalid value for --oom-score-adj '1001'"),
        ("--ulimit x=1", "invalid ulimit type 'x'"),
        ("--ulimit nofile", "invalid value for --ulimit 'nofile'"),
        ("--ulimit nofile=a", "invalid ulimit 'nofile=a'"),
        ("--ulimit nofile=1:", "invalid ulimit 'nofile=1:'"),
        ("--ulimit nofile=2:1", "invalid ulimit 'nofile=2:1': the soft limit is more"),
        ("--sysctl kernel.panic=1", "cannot set sysctl 'kernel.panic': it is not of the container alone"),
        (
            "--network host --sysctl net.core.somaxconn=1",
            "cannot set sysctl 'net.core.somaxconn': the container has",
        ),
        (
            "--ipc host --sysctl kernel.sem=1",
            "cannot set sysctl 'kernel.sem': the container has no ipc namespace",
        ),
        ("--sysctl a", "invalid value for --sysctl 'a'"),
        ("--shm-size x", "invalid size for --shm-size 'x'"),
        ("--annotation a", "invalid value for --annotation 'a'"),
        ("--cpu-rt-period=1 --cpu-rt-runtime=2", "invalid value for --cpu-rt-runtime '2': it is more"),
        ("--blkio-weight-device /dev/sda:5", "invalid value for --blkio-weight-device '/dev/sda:5'"),
        ("--blkio-weight-device sda:50", "invalid value for --blkio-weight-device 'sda:50'"),
        ("--device-read-bps /dev/sda", "invalid value for --device-read-bps '/dev/sda'"),
        ("--device-read-bps /dev/sda:x", "invalid size for --device-read-bps 'x'"),
        ("--device-read-iops /dev/sda:1k", "invalid value for --device-read-iops '/dev/sda:1k'"),
        ("--device-read-iops /dev/fuse:1", "cannot use device '/dev/fuse': not a block device"),
        ("--cgroup-conf x", "invalid value for --cgroup-conf 'x'"),
    ],
)
def test_bad_limits(words, message):
    assert refused(*words.split(" ")).startswith(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("1k", 1024), ("1K", 1024), ("1kb", 1024), ("1KiB", 1024),
        ("64m", 64 << 20), ("1.5g", 3 << 29), ("0.5k", 512), ("1 m", 1 << 20), ("2t", 2 << 40), ("1p", 1 << 50),
    ],
)  # fmt: skip
def test_size(text, expected):
    assert units.size(text, "--x") == expected


@pytest.mark.parametrize(
    "text", ["", "m", "b", "1x", "-1", "1.", ".5", "1.2.3", "0x10", "1e3", "²", "١", "9" * 30]
)
def test_bad_size(text):
    with pytest.raises(Usage, match="invalid size for --x"):
        units.size(text, "--x")


# -- security ----------------------------------------------------------------------------------------


def bounding(*words):
    return applied(*words)["process"]["capabilities"]["bounding"]


def test_capabilities():
    default = list(spec.CAPABILITIES)
    assert bounding("--cap-add", "sys_admin") == [*default, "CAP_SYS_ADMIN"]
    assert bounding("--cap-add", "CAP_NET_ADMIN", "--cap-drop", "chown") == [*default[1:], "CAP_NET_ADMIN"]
    assert bounding("--cap-drop", "ALL") == []
    assert bounding("--cap-add", "kill", "--cap-drop", "all") == ["CAP_KILL"]
    assert bounding("--cap-add", "ALL") == list(caps.NAMES)
    assert "CAP_MKNOD" not in bounding("--cap-add", "ALL", "--cap-drop", "MKNOD")
    assert refused("--cap-add", "fly", kind=Usage) == "unknown capability for --cap-add 'fly'"
    made = applied("--cap-add", "SYS_PTRACE", "-u", "app")["process"]["capabilities"]
    assert set(made) == {"bounding"}, "a plain user gets none at once"


def test_masks():
    def paths(*words):
        linux = applied(*[part for word in words for part in ("--security-opt", word)])["linux"]
        return linux["maskedPaths"], linux["readonlyPaths"]

    masked, readonly = paths()
    assert paths("mask=/x:/proc/keys") == ([*masked, "/x"], readonly)
    assert paths("unmask=ALL") == ([], [])
    assert paths("unmask=/proc/keys:/proc/irq/") == (
        [path for path in masked if path != "/proc/keys"], [path for path in readonly if path != "/proc/irq"],
    )  # fmt: skip
    assert paths("unmask=/proc/*")[0] == [path for path in masked if path.startswith("/sys")]
    assert paths("unmask=/proc/k??s", "mask=/proc/keys")[0][-1] == "/proc/keys"


def test_options_of_proc_and_of_cgroups():
    made = applied("--security-opt", "proc-opts=hidepid=2,subset=pid", "--security-opt", "writable-cgroups")
    assert mount_at(made, "/proc")[0]["options"][-2:] == ["hidepid=2", "subset=pid"]
    assert mount_at(made, "/sys/fs/cgroup")[0]["options"][0] == "rw"
    made = applied("--security-opt", "writable-cgroups=false")
    assert mount_at(made, "/sys/fs/cgroup")[0]["options"].count("ro") == 1


def test_labels_of_selinux():
    host = Fake()
    assert "selinuxLabel" not in applied("--security-opt", "label=level:s0:c1,c2", host=host)["process"]
    host.enforces = True
    made = applied("--security-opt", "label=type:my_t", "--security-opt", "label=level:s0:c1,c2", host=host)
    assert made["process"]["selinuxLabel"] == "system_u:system_r:my_t:s0:c1,c2"
    made = applied("--security-opt", "label=type:my_t", "--security-opt", "label=disable", host=host)
    assert "selinuxLabel" not in made["process"]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a", "/a", True), ("/a", "/ab", False), ("/a*", "/ab", True), ("/a*", "/ab/c", False), ("/*/c", "/ab/c", True),
        ("/?b", "/ab", True), ("/??", "/a", False), ("/*b*", "/abc", True), ("/*", "/", True), ("/a**z", "/az", True),
    ],
)  # fmt: skip
def test_patterns(pattern, path, fits):
    assert units.matches(pattern, path) is fits


def test_security_options():
    assert applied("--security-opt", "no-new-privileges=false")["process"]["noNewPrivileges"] is False
    assert applied("--security-opt", "no-new-privileges")["process"]["noNewPrivileges"] is True
    assert applied("--security-opt", "no-new-privileges:true")["process"]["noNewPrivileges"] is True
    assert applied("--security-opt", "apparmor=mine")["process"]["apparmorProfile"] == "mine"
    made = applied("--security-opt", "systempaths=unconfined")["linux"]
    assert "maskedPaths" not in made and "readonlyPaths" not in made
    for word in ("x", "no-new-privileges=x", "seccomp", "seccomp=", "label=type", "label=x:y", "mask=x", "unmask=x"):
        assert refused("--security-opt", word, kind=Usage).startswith(f"invalid value for --security-opt '{word}'")


def test_an_image_does_not_say_where_its_checks_are_logged():
    args = cli.Args(cli.read(COMMAND, ["image"]))
    said = health.options(args, {"Test": ["CMD", "x"], "LogDirectory": "/etc", "LogCount": 10**9, "LogSize": 10**12})
    assert (said["LogDirectory"], said["LogCount"], said["LogSize"]) == (None, 5, 4096)


def seccomp_of(*words, image=None, **more):
    made = applied(*words, **more)
    args = cli.Args(cli.read(COMMAND, [*words, "image"]))
    security.filter_by_default(made, args, Fake(), image)
    check.check(made)
    return made["linux"].get("seccomp")


def test_seccomp():
    default = seccomp_of()
    assert default["defaultAction"] == "SCMP_ACT_ERRNO"
    assert seccomp_of("--security-opt", "seccomp=builtin") == default
    assert seccomp_of("--cap-add", "SYS_ADMIN") != default
    assert seccomp_of("--security-opt", "seccomp=unconfined") is None
    assert seccomp_of("--privileged") is None
    label = '{"defaultAction": "SCMP_ACT_KILL_PROCESS"}'
    image = {"config": {"Labels": {"io.containers.seccomp.profile": label}}}
    own = ("--seccomp-policy", "image")
    assert seccomp_of(image=image) == default == seccomp_of(*own, image={}), "an image alone says nothing of what it may do"
    assert seccomp_of(*own, image=image)["defaultAction"] == "SCMP_ACT_KILL_PROCESS"
    assert seccomp_of(*own, "--security-opt", "seccomp=builtin", image=image) == default
    image["config"]["Labels"]["io.containers.seccomp.profile"] = "[1]"
    with pytest.raises(Error) as caught:
        seccomp_of(*own, image=image)
    assert "label io.containers.seccomp.profile" in str(caught.value)
    host = Fake(f='{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"x","action":"SCMP_ACT_LOG"}]}')
    found = seccomp_of("--security-opt", "seccomp=f", host=host)
    assert found["defaultAction"] == "SCMP_ACT_ALLOW" and found["syscalls"][0]["names"] == ["x"]
    assert refused("--security-opt", "seccomp=f", host=Fake(f="{")).startswith(
        "cannot read 'f': not valid json"
    )


def test_privileged():
    made = applied("--privileged")
    assert made["process"]["capabilities"]["effective"] == list(caps.NAMES)
    assert made["process"]["noNewPrivileges"] is False
    assert "maskedPaths" not in made["linux"] and "readonlyPaths" not in made["linux"]
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [each["path"] for each in made["linux"]["devices"]] == [
        "/dev/fuse", "/dev/snd/a", "/dev/snd/b", "/dev/sda",
    ]  # fmt: skip
    for path in ("/sys", "/sys/fs/cgroup"):
        assert "rw" in mount_at(made, path)[0]["options"] and "ro" not in mount_at(made, path)[0]["options"]
    assert (
        applied("--privileged", "--security-opt", "no-new-privileges")["process"]["noNewPrivileges"] is True
    )


def test_devices():
    made = applied("--device", "/dev/fuse")["linux"]
    assert made["devices"] == [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 7}
    ]
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    assert made["resources"]["devices"] == [*spec.default()["linux"]["resources"]["devices"], rule]
    assert applied("--device", "/dev/fuse:r")["linux"]["resources"]["devices"][-1]["access"] == "r"
    made = applied("--device", "/dev/snd:/dev/sound:rw")["linux"]
    assert [each["path"] for each in made["devices"]] == ["/dev/sound/a", "/dev/sound/b"]
    assert made["resources"]["devices"][-1]["type"] == "b"
    assert refused("--device", "/dev/fuse:/x:q", kind=Usage).startswith("invalid device mode 'q'")
    assert refused("--device", "/dev/fuse:x:r", kind=Usage).startswith("invalid device '/dev/fuse:x:r'")


def test_device_rules():
    made = applied("--device-cgroup-rule", "c 1:* rw")["linux"]["resources"]["devices"]
    assert made[-1] == {"allow": True, "type": "c", "access": "rw", "major": 1}
    for word in ("c 1:3", "x 1:3 r", "c 1 r", "c 1:x r", "c 1:3 q", ""):
        assert refused("--device-cgroup-rule", word, kind=Usage).startswith("invalid device cgroup rule")


def test_annotations():
    made = applied("--annotation", "a.b=c=d", "--stop-signal", "SIGINT")
    assert made["annotations"] == {"a.b": "c=d", options.STOP_SIGNAL: "SIGINT"}


# -- bundles of others --------------------------------------------------------------------------------


def test_the_least_a_bundle_can_say_takes_options_too():
    least = {"ociVersion": "1.0.0", "root": {"path": "r"}, "process": {"cwd": "/", "args": ["x"]}}
    words = ("-e A=1 -u app --group-add 5 -w /w -t -v /data:/x -m 1g --cpus 1 --pids-limit 5 --device /dev/fuse "
             "--read-only --ulimit core=0 --cap-add KILL --shm-size 1m --ipc none --pid host").split()  # fmt: skip
    made = applied(*words, base=copy.deepcopy(least))
    assert made["process"]["capabilities"] == {"bounding": ["CAP_KILL"]}
    assert [each["destination"] for each in made["mounts"]] == ["/x"]


def test_real_devices_of_the_host():
    found = {device.path: device for device in hosts.Host().devices("/dev")}
    null = found["/dev/null"]
    assert (null.kind, null.major, null.minor) == ("c", 1, 3)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in found)
    assert hosts.Host().devices("/dev/null")[0].minor == 3
    with pytest.raises(Error, match="cannot use device '/etc/passwd': not a device node"):
        hosts.Host().devices("/etc/passwd")
    with pytest.raises(Error, match="cannot use device '/dev/none': no such file or directory"):
        hosts.Host().devices("/dev/none")


def test_the_table_of_places():
    assert mounts.normal("x/../y//") == "/y"
    assert mounts.normal("//") == "/"
