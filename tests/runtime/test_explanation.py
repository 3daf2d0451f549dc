"""What a container may do, in words."""

import copy

import pytest

from oci_tools.linux import caps
from oci_tools.runtime import check, default_seccomp, explanation, explanation_tables, spec


def explained(change=None, level=None):
    made = spec.default()
    made["linux"]["seccomp"] = default_seccomp.profile(spec.CAPABILITIES)
    if change:
        change(made)
    check.check(made)
    rows = list(explanation.explain(made))
    assert all(list(row) == ["level", "path", "text"] and row["level"] in ("warning", "note") for row in rows)
    return [(row["path"], row["text"]) for row in rows if level in (None, row["level"])]


def test_the_default_with_its_filter_is_nothing_to_warn_of():
    assert explained(level="warning") == []


def test_the_default_in_words():
    said = dict(explained())
    assert said["process.args"] == 'runs "sh" in "/"'
    assert said["process.capabilities.bounding"] == "14 capabilities at most, those of Docker"
    assert "of these with some arguments only" in said["linux.seccomp"]


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (lambda made: made["process"].update(noNewPrivileges=False), "process.noNewPrivileges", "set-id"),
        (lambda made: made["process"].update(oomScoreAdj=-5), "process.oomScoreAdj", "killed before it"),
        (lambda made: made["process"].update(scheduler={"policy": "SCHED_FIFO", "priority": 1}), "process.scheduler", "real-time"),
        (lambda made: made["process"].update(apparmorProfile="unconfined"), "process.apparmorProfile", "unconfined"),
        (lambda made: spec.set_capabilities(made, ["CAP_SYS_ADMIN"]), "process.capabilities.bounding[CAP_SYS_ADMIN]", "root of the host"),
        (lambda made: made["process"]["capabilities"].update(ambient=["CAP_KILL"], inheritable=["CAP_KILL"]),
         "process.capabilities.ambient", "CAP_KILL"),
        (lambda made: made["linux"]["namespaces"].pop(3), "linux.namespaces", "no pid namespace"),
        (lambda made: made["linux"]["namespaces"][1].update(path="/proc/1/ns/net"), "linux.namespaces[type=network].path", "shares"),
        (lambda made: made["linux"].pop("seccomp"), "linux.seccomp", "there is no filter"),
        (lambda made: made["linux"]["seccomp"].update(defaultAction="SCMP_ACT_ALLOW", defaultErrnoRet=None) or
         made["linux"]["seccomp"].pop("defaultErrnoRet"), "linux.seccomp.defaultAction", "every system call"),
        (lambda made: made["linux"]["seccomp"]["syscalls"].append({"names": ["keyctl"], "action": "SCMP_ACT_ALLOW"}),
         "linux.seccomp.syscalls[keyctl]", "keys"),
        (lambda made: made["linux"]["maskedPaths"].remove("/proc/kcore"), "linux.maskedPaths", "/proc/kcore is not masked"),
        (lambda made: made["linux"]["readonlyPaths"].remove("/proc/sys"), "linux.readonlyPaths", "/proc/sys is not read-only"),
        (lambda made: made["root"].update(path="/"), "root.path", "the host"),
        (lambda made: made["linux"].update(rootfsPropagation="rshared"), "linux.rootfsPropagation", "the host may see"),
        (lambda made: made["mounts"][3]["options"].remove("ro"), "mounts[destination=/sys]", "sysfs is writable"),
        (lambda made: made["mounts"].append({"destination": "/x", "type": "ext4", "source": "/dev/x"}), "mounts[destination=/x]", "ext4"),
        (lambda made: made["mounts"].append({"destination": "/x", "source": "/", "options": ["rbind"]}), "mounts[destination=/x]", "all of it"),
        (lambda made: made["mounts"].append({"destination": "/x", "source": "/etc/ssl", "options": ["bind", "ro"]}),
         "mounts[destination=/x]", "reads"),
        (lambda made: made["mounts"].append({"destination": "/x", "source": "/var/run/docker.sock", "options": ["bind"]}),
         "mounts[destination=/x]", "dockerd"),
        (lambda made: made["mounts"].append({"destination": "/x", "source": "/data", "options": ["bind", "rshared"]}),
         "mounts[destination=/x]", "the host sees"),
        (lambda made: made["linux"].update(devices=[{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]),
         "linux.devices[path=/dev/sda]", "a disk"),
        (lambda made: made["linux"].update(devices=[{"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}]),
         "linux.devices[path=/dev/mem]", "memory"),
        (lambda made: made["linux"]["resources"].update(devices=[{"allow": True}]), "linux.resources.devices", "every device"),
        (lambda made: made["linux"]["resources"].update(memory={"disableOOMKiller": True}),
         "linux.resources.memory.disableOOMKiller", "stops"),
        (lambda made: made.update(hooks={"createRuntime": [{"path": "/h"}]}), "hooks.createRuntime[0]", "on the host"),
        (lambda made: made.update(annotations={"run.oci.handler": "krun"}), 'annotations["run.oci.handler"]', "runtime"),
        (lambda made: made["linux"].update(netDevices={"eth0": {}}), "linux.netDevices.eth0", "of the host"),
    ],
)  # fmt: skip
def test_warnings(change, path, words):
    found = explained(change, "warning")
    assert any(each == path and words in text for each, text in found), found


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (lambda made: made["linux"].update(resources={"memory": {"limit": 5}, "pids": {"limit": 6}}), "linux.resources.pids.limit",
         "at most 6 processes"),
        (lambda made: made["linux"]["resources"].update(cpu={"quota": 150, "period": 100}), "linux.resources.cpu.quota", "1.5"),
        (lambda made: made["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]),
         "process.rlimits[type=RLIMIT_NOFILE]", "nofile is limited to 1, at most 2"),
        (lambda made: made["process"].update(capabilities={}), "process.capabilities", "no capabilities"),
        (lambda made: made["mounts"].append({"destination": "/x", "source": "/data", "options": ["bind", "ro"]}),
         "mounts[destination=/x]", 'reads "/data" of the host at "/x"'),
        (lambda made: made["process"].update(user={"uid": 5, "gid": 6, "additionalGids": [6, 7]}), "process.user",
         "as user 5, group 6, and in groups [7]"),
        (lambda made: made.update(hooks={"startContainer": [{"path": "/h"}]}), "hooks.startContainer[0]", "in the container"),
        (lambda made: made.pop("process"), "process", "there is none"),
    ],
)  # fmt: skip
def test_notes(change, path, words):
    found = explained(change, "note")
    assert any(each == path and words in text for each, text in found), found


def test_a_user_namespace_takes_most_of_it_back():
    made = spec.make_rootless(spec.default(), 1000, 1000)
    spec.set_capabilities(made, ["CAP_SYS_ADMIN"])
    rows = list(explanation.explain(made))
    assert not [row for row in rows if row["level"] == "warning" and "CAP_SYS_ADMIN" in row["path"]]
    assert any("its users 0 to 0 are 1000 and on outside" in row["text"] for row in rows)


def test_the_tables_speak_of_what_there_is():
    assert set(explanation_tables.CAPABILITIES) | set(spec.CAPABILITIES) == set(caps.NAMES)
    assert not set(explanation_tables.CAPABILITIES) & set(spec.CAPABILITIES)
    assert set(explanation_tables.MASKED) == set(spec.MASKED)
    assert set(explanation_tables.READONLY) == set(spec.READONLY)
    made = copy.deepcopy(spec.default())
    assert {each["type"] for each in made["linux"]["namespaces"]} <= set(explanation_tables.NAMESPACES)
