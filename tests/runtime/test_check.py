"""What is wrong with a config.json is said in one line that names the JSON path."""

import copy

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import check, rules, spec


def said(value):
    with pytest.raises(Error) as caught:
        check.check(value)
    text = str(caught.value)
    assert text.startswith("config.json: ") and "\n" not in text and caught.value.code == 1
    return text.removeprefix("config.json: ")


def changed(path, value):
    """The default specification with one thing changed."""
    made = at = copy.deepcopy(spec.default())
    if path == "linux":
        del made["hostname"]  # which needs a namespace
    *steps, last = path.split(".")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return made


NS = [{"type": kind} for kind in ("mount", "pid")]
MAPS = [{"containerID": 0, "hostID": 1000, "size": 1}]
WITH = "linux.resources."

BAD = [
    # the frame
    ("root", ..., "root: missing"),
    ("root.path", "", 'root.path: expected a path, got ""'),
    ("hostname", "x" * 65, "hostname: expected at most 64 bytes"),
    ("linux.namespaces", NS, "hostname: needs a uts namespace"),
    ("annotations", {"": "x"}, 'annotations[""]: expected a name that is not empty'),
    # the process
    ("process.cwd", "tmp", 'process.cwd: expected an absolute path, got "tmp"'),
    ("process.args", [], "process.args: expected at least one word"),
    ("process.args", ..., "process.args: missing"),
    ("process.args", ["a\0b"], r'process.args[0]: expected a string without NUL or half characters, got "a\u0000b"'),
    ("process.env", ["A=1", "B"], 'process.env[1]: expected NAME=VALUE, got "B"'),
    ("process.env", ["=1"], 'process.env[0]: expected NAME=VALUE, got "=1"'),
    ("process.user.uid", 2**32 - 1, "process.user.uid: expected an integer from 0 to 4294967294, got 4294967295"),
    ("process.user.gid", 2**32, "process.user.gid: expected an integer from 0 to 4294967295, got 4294967296"),
    ("process.user.additionalGids", [1, 2**32 - 1], "process.user.additionalGids[1]: expected an integer"),
    ("process.consoleSize", {"height": 65536, "width": 1}, "process.consoleSize.height: expected an integer"),
    ("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "process.rlimits[0].type: unknown limit"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2, "process.rlimits[1].type: second limit"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}], "process.rlimits[0].soft: expected at most"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj: expected an integer from -1000 to 1000, got 1001"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority: expected"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice: expected an integer"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "process.scheduler.priority: expected"),
    ("process.scheduler", {"policy": "SCHED_FIFO", "deadline": 1}, "process.scheduler.deadline: only SCHED_DEADLINE"),
    # mounts
    ("mounts.0.destination", "", 'mounts[0].destination: expected a path, got ""'),
    ("mounts.0", {"destination": "/x", "options": ["bind"]}, "mounts[0].source: missing"),
    ("mounts.0", {"destination": "/x", "source": "/", "options": ["rbind", "readonly"]},
     'mounts[0].options[1]: a bind mount takes no option "readonly" of a file system'),
    ("mounts.0", {"destination": "/x", "source": "/", "options": ["rbind", "idmap"]},
     "mounts[0].options[1]: idmap needs mappings of the mount or a user namespace"),
    ("mounts.0.uidMappings", MAPS, "mounts[0].gidMappings: missing"),
    ("mounts.0.gidMappings", MAPS, "mounts[0].uidMappings: missing"),
    # hooks
    ("hooks", {"poststop": [{"path": "x"}]}, 'hooks.poststop[0].path: expected an absolute path, got "x"'),
    ("hooks", {"prestart": [{"path": "/x", "timeout": 0}]}, "hooks.prestart[0].timeout: expected an integer of at"),
    ("hooks", {"poststart": [{"path": "/x", "env": ["x"]}]}, "hooks.poststart[0].env[0]: expected NAME=VALUE"),
    # namespaces
    ("linux.namespaces", [*NS, {"type": "pid"}], 'linux.namespaces[2].type: second namespace of type "pid"'),
    ("linux.namespaces", [{"type": "pid", "path": "x"}], "linux.namespaces[0].path: expected an absolute path"),
    ("linux.namespaces", [{"type": "user"}], "linux.uidMappings: missing, and the new user namespace needs it"),
    ("linux.uidMappings", MAPS, "linux.uidMappings: needs a user namespace"),
    ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets: needs a time namespace"),
    ("linux", {"namespaces": [{"type": "time"}], "timeOffsets": {"monotonic": {"nanosecs": 10**9}}},
     "linux.timeOffsets.monotonic.nanosecs: expected an integer"),
    ("linux", {"namespaces": NS, "netDevices": {"eth0": {}}}, "linux.netDevices: unable to move network devices without a NET namespace"),
    ("linux.netDevices", {"x" * 16: {}}, f"linux.netDevices.{'x' * 16}: expected the name of a network device"),
    ("linux.netDevices", {"e": {"name": "a/b"}}, "linux.netDevices.e.name: expected the name of a network device"),
    ("linux", {"namespaces": [{"type": "user"}], "uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}],
               "gidMappings": MAPS}, "linux.uidMappings[0].size: expected at least 1, got 0"),
    ("linux", {"namespaces": [{"type": "user"}], "gidMappings": MAPS,
               "uidMappings": [{"containerID": 0, "hostID": 2**32 - 2, "size": 2}]}, "linux.uidMappings[0]: ids from"),
    # the rest of linux
    ("linux.maskedPaths", ["proc"], "linux.maskedPaths[0]: expected an absolute path"),
    ("linux.readonlyPaths", ["/a", ""], "linux.readonlyPaths[1]: expected an absolute path"),
    ("linux.sysctl", {"a/../b": "1"}, 'linux.sysctl["a/../b"]: expected the name of a kernel parameter'),
    ("linux.sysctl", {"": "1"}, 'linux.sysctl[""]: expected the name of a kernel parameter'),
    ("linux.intelRdt", {"schemata": ["a", "b\nc"]}, "linux.intelRdt.schemata[1]: expected one line"),
    ("linux.intelRdt", {"l3CacheSchema": "b\nc"}, "linux.intelRdt.l3CacheSchema: expected one line"),
    ("linux.intelRdt", {"closID": "../x"}, "linux.intelRdt.closID: expected a name"),
    ("linux.personality", {}, "linux.personality.domain: missing"),
    ("linux.personality", {"domain": "LINUX", "flags": ["x"]}, "linux.personality.flags: no flags are known"),
    ("linux.devices", [{"type": "c", "path": "dev/x", "major": 1, "minor": 1}], "linux.devices[0].path: expected an"),
    ("linux.devices", [{"type": "c", "path": "/dev/x", "major": 1}], "linux.devices[0].minor: missing"),
    ("linux.devices", [{"type": "b", "path": "/dev/x", "major": 2**40, "minor": 1}], "linux.devices[0].major: exp"),
    # resources
    (WITH + "devices", [{"allow": True, "type": "x"}], "linux.resources.devices[0].type: expected one of a, b, c"),
    (WITH + "devices", [{"allow": True, "access": "rx"}], "linux.resources.devices[0].access: expected letters"),
    (WITH + "memory", {"limit": 2, "swap": 1}, "linux.resources.memory.swap: expected at least the memory limit 2"),
    (WITH + "memory", {"swappiness": 101}, "linux.resources.memory.swappiness: expected an integer from 0 to 100"),
    (WITH + "cpu", {"quota": 1, "burst": 2}, "linux.resources.cpu.burst: expected at most the quota 1, got 2"),
    (WITH + "cpu", {"idle": 2}, "linux.resources.cpu.idle: expected an integer from 0 to 1, got 2"),
    (WITH + "blockIO", {"throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}, {"major": 1, "minor": 1}]},
     "linux.resources.blockIO.throttleReadBpsDevice[1].rate: missing"),
    (WITH + "unified", {"../x": "1"}, 'linux.resources.unified["../x"]: expected the name of a file of the cgroup'),
    # seccomp
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
     "linux.seccomp.listenerMetadata: needs listenerPath"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
     "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no error number"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW",
                       "syscalls": [{"names": ["x"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]},
     "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_KILL takes no error number"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536},
     "linux.seccomp.defaultErrnoRet: expected an integer from 0 to 4095, got 65536"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]},
     "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
     "linux.seccomp.syscalls[0].args[0].index: expected an integer from 0 to 5, got 6"),
    # sections for other systems are judged by the schema
    ("freebsd", {"jail": {"vnet": "disable"}}, 'freebsd.jail.vnet: expected one of new, inherit, got "disable"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"), BAD, ids=[f"{i}-{path}" for i, (path, *_) in enumerate(BAD)]
)
def test_bad(path, value, message):
    assert said(changed(path, value)).startswith(message)


GOOD = [
    ("ociVersion", "9.9.9-never-refused"),
    ("unknown", {"members": ["are", "ignored"]}),
    ("process.capabilities", {"bounding": ["CAP_FROM_THE_FUTURE"]}),
    ("process", ...),
    ("mounts", []),
    ("mounts.0", {"destination": "relative", "type": "tmpfs", "options": ["size=1k", "mode=700"]}),
    ("mounts.0", {"destination": "/x", "source": "/", "type": "none", "options": [
        "rbind", "ro", "rro", "nosuid", "rslave", "rnoatime", "nosymfollow"]}),
    ("mounts.0", {"destination": "/x", "source": "/", "options": ["bind", "idmap"], "uidMappings": MAPS,
                  "gidMappings": MAPS}),
    ("linux", ...),
    ("linux", {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}),
    ("linux.resources.memory", {"limit": 100, "swap": -1}),
    ("linux.resources.memory", {"limit": -1, "swap": 0}),
    ("linux.resources.cpu", {"quota": -1, "burst": 5}),
    ("linux.resources.devices", [{"allow": False, "type": "", "access": ""}]),
    ("linux.netDevices", {"eth0": {"name": "veth%d"}}),
    ("linux.sysctl", {"net.ipv4.conf.eth0/1.forwarding": "1", "kernel/shmmax": "1"}),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65535}),
    ("zos", {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), GOOD, ids=[f"{i}-{path}" for i, (path, *_) in enumerate(GOOD)])
def test_good(path, value):
    check.check(changed(path, value))


@pytest.mark.parametrize("value", [None, 5, "x", [], True, 1.5, float("nan")])
def test_a_document_that_is_no_object(value):
    assert said(value).startswith("expected an object, got ")


def test_a_long_value_is_cut_short():
    assert len(said(changed("process.cwd", ["x" * 1000]))) < 120


def test_a_hostile_name_stays_on_one_line():
    text = said(changed("linux.sysctl", {"a\nb\x1b[2J": 5}))
    assert text == r'linux.sysctl["a\nb\u001b[2J"]: expected a string, got 5'


def test_the_limits_are_the_kernels():
    import resource

    for name, number in rules.RLIMITS.items():
        assert getattr(resource, name, number) == number


def test_every_option_of_the_runtimes_tables_may_stand_on_a_bind_mount():
    from oci_tools.runtime import mounts

    known = {*mounts.ATTRIBUTES, *mounts.PROPAGATION, *("r" + name for name in mounts.ATTRIBUTES)}
    assert known <= rules.MOUNT_OPTIONS


def test_no_document_is_too_odd_to_be_judged():
    """Whatever is in it, a document is good or refused by an Error; anything else would be a bug of ours."""
    from oci_tools.runtime import fields
    from tests import test_schema as documents

    good = 0
    for _, value in documents.mutants(fields.CONFIG):
        whole = {**spec.default(), "hostname": "", **value} if isinstance(value, dict) else value
        try:
            check.check(whole)
            good += 1
        except Error as error:
            assert "\n" not in str(error)
    assert good > 500
