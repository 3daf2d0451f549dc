"""What a runtime can do of a config.json, by its own features."""

import copy
import json
import subprocess

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import default_seccomp, features, spec, supported

OURS = features.document()


@pytest.fixture(params=["runc", "crun", "ours"])
def theirs(request):
    """The features of a real runtime."""
    if request.param == "ours":
        return OURS
    return json.loads(subprocess.run([request.param, "features"], capture_output=True, check=True).stdout)


def test_the_default_runs_everywhere(theirs):
    made = spec.default()
    made["linux"]["seccomp"] = default_seccomp.profile(spec.CAPABILITIES)
    supported.check(made, theirs, "config.json", "features")


def test_what_real_runtimes_cannot(theirs):
    made = spec.default()
    made["mounts"][0]["options"].append("ridmap")
    made["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    made["hooks"] = {"createRuntime": [{"path": "/x"}]}
    supported.check(made, {**theirs, "linux": {}}, "config.json", "features")


def limited(**change):
    made = copy.deepcopy(OURS)
    for path, value in change.items():
        *steps, last = path.split("__")
        at = made
        for name in steps:
            at = at[name]
        at[last] = value
    return made


def wanting(change):
    made = spec.default()
    change(made)
    return made


SECCOMP = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
           "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "able", "message"),
    [
        (lambda made: made.update(hooks={"poststop": [{"path": "/x"}]}), {"hooks": ["prestart"]},
         'hooks.poststop: the runtime does not support hooks "poststop"'),
        (lambda made: None, {"mountOptions": ["nosuid", "noexec"]}, 'mounts[0].options[2]: the runtime does not support mount option "nodev"'),
        (lambda made: made["mounts"][0]["options"].append("idmap"), {"linux__mountExtensions": {"idmap": {"enabled": False}}},
         "mounts[0].options[3]: the runtime does not support idmapped mounts"),
        (lambda made: made["mounts"][0].update(uidMappings=[{}]), {"linux__mountExtensions": {"idmap": {"enabled": False}}},
         "mounts[0].uidMappings: the runtime does not support idmapped mounts"),
        (lambda made: made["linux"]["namespaces"].append({"type": "time"}), {"linux__namespaces": ["mount", "network", "uts", "pid", "ipc", "cgroup"]},
         'linux.namespaces[6].type: the runtime does not support namespaces "time"'),
        (lambda made: None, {"linux__capabilities": []}, 'process.capabilities.bounding[0]: the runtime does not support capability "CAP_CHOWN"'),
        (lambda made: made["linux"].update(cgroupsPath="a.slice:x:y"), {"linux__cgroup": {"systemd": False}},
         "linux.cgroupsPath: the runtime does not support systemd's cgroups"),
        (lambda made: made["linux"]["resources"].update(unified={"a": "b"}), {"linux__cgroup": {"v2": False}},
         "linux.resources.unified: the runtime does not support cgroup v2"),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp": {"enabled": False}}, "linux.seccomp: the runtime does not"),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp__actions": ["SCMP_ACT_ERRNO"]},
         'linux.seccomp.syscalls[0].action: the runtime does not support action "SCMP_ACT_LOG"'),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp__actions": []},
         'linux.seccomp.defaultAction: the runtime does not support action "SCMP_ACT_ERRNO"'),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp__archs": []},
         'linux.seccomp.architectures[0]: the runtime does not support architecture "SCMP_ARCH_ARM"'),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp__operators": ["SCMP_CMP_EQ"]},
         'linux.seccomp.syscalls[0].args[0].op: the runtime does not support operator "SCMP_CMP_NE"'),
        (lambda made: made["linux"].update(seccomp=SECCOMP), {"linux__seccomp__supportedFlags": []},
         'linux.seccomp.flags[0]: the runtime does not support flag "SECCOMP_FILTER_FLAG_LOG"'),
        (lambda made: made["process"].update(apparmorProfile="x"), {"linux__apparmor": {"enabled": False}},
         "process.apparmorProfile: the runtime does not support apparmor"),
        (lambda made: made["process"].update(selinuxLabel="x"), {"linux__selinux": {"enabled": False}},
         "process.selinuxLabel: the runtime does not support selinux"),
        (lambda made: made["linux"].update(intelRdt={"schemata": ["x"]}), {"linux__intelRdt": {"enabled": True, "schemata": False}},
         "linux.intelRdt.schemata: the runtime does not support schemata of intelRdt"),
        (lambda made: made["linux"].update(memoryPolicy={"mode": "MPOL_BIND"}), {"linux__memoryPolicy": {"modes": []}},
         'linux.memoryPolicy.mode: the runtime does not support memory policy "MPOL_BIND"'),
        (lambda made: made["linux"].update(netDevices={"eth0": {}}), {"linux__netDevices": {"enabled": False}},
         "linux.netDevices.eth0: the runtime does not support network devices"),
        (lambda made: made.update(ociVersion="2.0.0"), {}, 'ociVersion: the runtime reads 1.0.0 to 1.3.0, not "2.0.0"'),
    ],
)  # fmt: skip
def test_what_is_missing(change, able, message):
    with pytest.raises(Error) as caught:
        supported.check(wanting(change), limited(**able), "config.json", "features")
    assert str(caught.value).startswith(f"config.json: {message}")


@pytest.mark.parametrize("version", ["1.0.0", "1.9.0", "1.3.0-rc.1+dev", "1", "odd"])
def test_a_minor_version_is_no_reason(version):
    supported.check(wanting(lambda made: made.update(ociVersion=version)), OURS, "config.json", "features")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "features: expected an object"),
        ({}, "features: ociVersionMin: missing"),
        ({"ociVersionMin": "1", "ociVersionMax": "2", "hooks": "x"}, "features: hooks: expected an array"),
        ({"ociVersionMin": "1", "ociVersionMax": "2", "linux": {"seccomp": {"enabled": 1}}},
         "features: linux.seccomp.enabled: expected true or false"),
    ],
)  # fmt: skip
def test_features_that_are_none(document, message):
    with pytest.raises(Error) as caught:
        supported.check(spec.default(), document, "config.json", "features")
    assert str(caught.value).startswith(message)
