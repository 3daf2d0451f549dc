"""A default one-shot container looks at itself, as amicontained does, and at what is around it: nothing of the host's.

Each question is asked inside, by busybox alone, and answered by what the kernel says.
"""

import os
import re

import pytest

from oci_tools.linux import caps
from oci_tools.runtime import spec

pytestmark = pytest.mark.root


@pytest.fixture
def inside(run):
    """What a default container says to a script, by lines."""

    def say(script, *words, image="busybox", **more):
        return run("--network", "none", *words, image, "sh", "-c", script, **more).stdout.splitlines()

    return say


def status(lines):
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


# -- who it is -----------------------------------------------------------------------------------


def test_capabilities(inside):
    said = status(inside("cat /proc/self/status"))
    wanted = sum(1 << caps.NAMES.index(name) for name in spec.CAPABILITIES)
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(said[kind], 16) == wanted, kind
    for kind in ("CapInh", "CapAmb"):
        assert int(said[kind], 16) == 0, kind


def test_capabilities_of_a_plain_user_inside(inside):
    said = status(inside("cat /proc/self/status", "-u", "1234"))
    assert [int(said[kind], 16) for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [0, 0, 0, 0]
    assert said["Uid"].split() == ["1234"] * 4 and said["Groups"].split() == ["0"]


def test_seccomp_and_privileges(inside):
    said = status(inside("cat /proc/self/status"))
    assert (said["Seccomp"], said["Seccomp_filters"], said["NoNewPrivs"]) == ("2", "1", "1")
    assert said["Speculation_Store_Bypass"] != "thread force mitigated", "the filter lets speculation be, as runc does"


def test_signals_and_masks(inside, run):
    said = status(run("--network", "none", "busybox", "cat", "/proc/self/status").stdout.splitlines())
    assert [int(said[kind], 16) for kind in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
    assert inside("umask") == ["0022"]


def test_it_is_process_one_and_alone(inside):
    assert inside("echo $$; ls /proc | grep -c '^[0-9]*$'; cut -d' ' -f4 /proc/self/stat")[:2] == ["1", "3"]
    said = status(inside("cat /proc/self/status"))
    assert len(said["NSpid"].split()) == 1, "it does not see its number outside"


def test_every_namespace_is_its_own(inside):
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "time", "uts")
    said = inside("for kind in " + " ".join(kinds) + "; do readlink /proc/self/ns/$kind; done")
    for kind, link in zip(kinds, said, strict=True):
        assert link != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_environment_and_descriptors(inside, oci):
    said = inside("/bin/env; ls -l /proc/self/fd | sed 's/.* //'", env={"SECRET": "x", "AWS_KEY": "y"})
    names = {line.partition("=")[0] for line in said if "=" in line}
    assert names <= {"PATH", "HOSTNAME", "HOME", "PWD", "SHLVL", "OLDPWD"}
    targets = [line for line in said if line.startswith(("/", "pipe", "socket", "anon"))]
    assert all(re.match(r"pipe:|/dev/null$|/proc/\d+/fd$", target) for target in targets), targets


def test_its_cgroup_is_the_root_of_what_it_sees(inside):
    assert {line.split(":", 2)[2] for line in inside("cat /proc/self/cgroup")} == {"/"}


def test_no_keys_and_no_login(inside):
    assert inside("cat /proc/keys | wc -c; cat /proc/self/loginuid 2>/dev/null || echo none")[0] == "0"
    assert inside("cut -d' ' -f6 /proc/self/stat") != ["0"], "a session of its own"


# -- what it sees ----------------------------------------------------------------------------------


def test_masked_paths(inside):
    files = [path for path in spec.MASKED if not os.path.isdir(path) and os.path.exists(path)]
    directories = [path for path in spec.MASKED if os.path.isdir(path)]
    said = inside("for path in " + " ".join(files) + "; do wc -c < $path; done") if files else []
    assert said == ["0"] * len(files)
    assert inside("ls -A " + " ".join(directories) + " | grep -v ':$' | tr -d '\\n'") == []
    for path in [*files, *directories]:
        assert "Read-only" in inside_error(inside, f"echo x > {path}/x") or path in files


def inside_error(inside, script):
    return "\n".join(inside(f"({script}) 2>&1; true"))


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/bus/x",
        "/proc/fs/x", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/x", "/sys/class/net/lo/mtu", "/sys/module/x",
        "/sys/kernel/security/x", "/sys/kernel/debug/x",
    ],
)  # fmt: skip
def test_what_cannot_be_written(inside, path):
    said = inside_error(inside, f"echo 1 > {path}")
    assert re.search("Read-only|Permission denied|nonexistent|Operation not permitted", said), said


def test_devices(inside):
    wanted = ["console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
              "tty", "urandom", "zero"]  # fmt: skip
    said = inside("ls /dev", "-t", stdin=None)
    assert sorted(word for line in said for word in line.split()) == wanted
    assert "console" not in " ".join(inside("ls /dev"))
    assert inside("ls /dev/pts /dev/shm /dev/mqueue | grep -v : | tr -d '\\n'") == ["ptmx"]


@pytest.mark.parametrize("node", ["b 8 0", "b 254 0", "c 1 1", "c 1 2", "c 10 232", "c 10 229", "c 7 1", "c 1 11"])
def test_a_node_that_it_makes_is_of_no_use(inside, node):
    """mknod(2) is allowed, as Docker has it, and what is made cannot be opened."""
    said = inside_error(inside, f"mknod /dev/x {node} && cat /dev/x")
    assert "Operation not permitted" in said or "Permission denied" in said, said


def test_mounts(inside):
    """What there is to see of the host is an overlay's names, and files that were made for it."""
    rows = [line.split() for line in inside("cat /proc/self/mountinfo")]
    kinds = {row[4]: (row[row.index("-") + 1], row[5].split(",")) for row in rows}
    assert kinds["/"][0] == "overlay"
    for place in ("/proc", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"):
        assert {"nosuid", "nodev", "noexec"} <= set(kinds[place][1]), place
    for place in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in kinds[place][1]
    for row in rows:
        assert not [word for word in row[6 : row.index("-")] if word.startswith(("shared", "master"))], "nothing is passed on"
    outside = {row[4] for row in rows if row[row.index("-") + 1] not in ("overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue",
               "cgroup", "cgroup2")}  # fmt: skip
    masks = {place for place in outside if place in spec.MASKED}  # the container's own /dev/null, on a tmpfs of the host's
    assert outside - masks <= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}


def test_what_a_parent_directory_is(inside):
    assert inside("cd /; cd ..; cd ../../..; pwd; ls -id / /..; readlink /proc/1/root")[0] == "/"


def test_network(inside):
    assert inside("ls /sys/class/net; cat /proc/net/route | wc -l") == ["lo", "1"]
    assert "x" not in inside("ip link add x type dummy 2>/dev/null; ls /sys/class/net")
    assert inside_error(inside, "date -s 2001-01-01").startswith("date: can't set date: Operation not permitted")


def test_the_hosts_memory_of_processes(inside):
    said = inside("test -e /proc/kcore && wc -c < /proc/kcore; test -e /dev/mem && echo mem; test -e /dev/kmsg && echo log; true")
    assert said in ([], ["0"])


# -- what it can do ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs x /mnt", "mount --bind / /mnt", "umount /proc", "unshare -m true", "unshare -U true", "chroot / mount -t proc x /mnt",
        "hostname other", "insmod /x", "rmmod x", "swapoff -a", "reboot -f", "ip link set lo down", "dmesg",
        "nsenter -t 1 -m true", "ifconfig lo 10.0.0.1", "pivot_root . .", "renice -n -5 $$", "nice -n -5 sh -c 'test $(nice) -ge 0'",
    ],
)  # fmt: skip
def test_what_is_refused(inside, script):
    said = inside(f"mkdir -p /mnt; ({script}) >/tmp/said 2>&1 && echo done; cat /tmp/said")
    if script.startswith("nice"):
        assert said != ["-5"]
    else:
        assert "done" not in said, said


def test_a_set_id_program_gives_nothing(run):
    said = run("--network", "none", "-u", "1234", "busybox", "sh", "-c", "cp /bin/busybox /tmp/x 2>/dev/null; id -u; cat /proc/self/status").stdout
    assert said.startswith("1234\n") and status(said.splitlines())["NoNewPrivs"] == "1"


def test_limits_are_the_hosts_or_ours(inside):
    """The runtime lifts nothing: no descriptor, process or memory limit above the caller's."""
    import resource

    said = {line.rsplit(None, 3)[0].strip(): line.split()[-3:] for line in inside("cat /proc/self/limits")[1:] if "files" in line}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert any(str(hard) in row or "unlimited" in row for row in said.values()), (said, soft, hard)
