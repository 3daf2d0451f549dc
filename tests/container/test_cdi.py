"""CDI: which devices the files of a host describe, what they change, and which files are refused."""

import json

import pytest

from oci_tools.container import cdi, host
from oci_tools.errors import Error, Usage
from oci_tools.runtime import check, spec

GPU = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "containerEdits": {"env": ["ALL=1"], "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "timeout": 5}]},
    "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "hostPath": "/host/nvidia0"}]}},
        {"name": "all", "containerEdits": {"env": ["ALL=2", "PATH=/x"]}},
    ],
}
YAML = """
cdiVersion: "0.6.0"
kind: vendor.com/a.net
annotations: {vendor.com/what: text}
devices:
- name: eth0
  containerEdits:
    mounts:
    - {hostPath: /lib/v, containerPath: /usr/lib/v, options: [ro, bind]}
    - {hostPath: /lib, containerPath: /usr}
"""


class Fake(host.Host):
    """A host of these files, where every path is a character device."""

    def __init__(self, **files):
        super().__init__()
        self.files = {f"/etc/cdi/{name.replace('_', '.')}": text for name, text in files.items()}

    def listed(self, path):
        return [name.rpartition("/")[2] for name in self.files if name.rpartition("/")[0] == path]

    def text(self, path):
        text = self.files[path]
        return text if isinstance(text, str) else json.dumps(text)

    def devices(self, path):
        device = host.Device.__new__(host.Device)
        device.__dict__.update(path=path, kind="c", major=195, minor=7, mode=0o660, uid=0, gid=44)
        return [device]


def injected(there, *words, user=None):
    made = spec.default()
    if user:
        made["process"]["user"] = user
    cdi.inject(made, list(words), cdi.Known(there))
    check.check(made)
    return made


def refused(there, *words):
    with pytest.raises(Error) as caught:
        injected(there, *words)
    return str(caught.value)


def with_edits(edits, version="1.1.0", **more):
    return Fake(a_json={"cdiVersion": version, "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": edits}], **more})


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("vendor.com/class=name", True), ("vendor.com/class=0:1", True), ("/dev/x=y", False), ("/dev/x:/dev/y:rwm", False),
        ("vendor.com/class", False), ("vendor.com/class=", False), ("vendor.com/=x", False), ("9v/c=x", False),
        ("v/9=x", False), ("v/c=-x", False), ("v/c=x-", False), ("v/c/d=x", False), ("v/c=x y", False),
    ],
)  # fmt: skip
def test_names(word, is_one):
    assert cdi.is_qualified(word) is is_one


def test_the_files_edits_once_and_then_the_devices():
    made = injected(Fake(gpu_json=GPU), "nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert made["process"]["env"] == ["PATH=/x", "ALL=2"]
    assert made["hooks"] == {"createContainer": [{"path": "/bin/hook", "timeout": 5}]}
    assert made["linux"]["devices"] == [{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 7}]
    assert made["linux"]["resources"]["devices"][-1] == {
        "allow": True, "type": "c", "major": 195, "minor": 7, "access": "rwm",
    }  # fmt: skip


def test_yaml_and_the_order_of_mounts():
    made = injected(Fake(a_yaml=YAML), "vendor.com/a.net=eth0")
    assert made["mounts"][-2:] == [
        {"destination": "/usr", "source": "/lib", "type": "none", "options": ["bind"]},
        {"destination": "/usr/lib/v", "source": "/lib/v", "type": "none", "options": ["ro", "bind"]},
    ]


def test_every_other_edit():
    made = injected(
        with_edits({
            "netDevices": [{"hostInterfaceName": "eth5", "name": "net0"}],
            "additionalGids": [0, 7, 7],
            "intelRdt": {"closID": "x", "schemata": ["L3:0=f"], "enableMonitoring": True},
            "deviceNodes": [
                {"path": "/dev/a", "type": "b", "major": 8, "minor": 3, "permissions": "r", "fileMode": 0o600, "gid": 9},
                {"path": "/dev/b", "permissions": "none"},
                {"path": "/dev/c", "type": "p"},
            ],
        }),
        "v.com/c=d",
        user={"uid": 5, "gid": 0, "additionalGids": [3]},
    )  # fmt: skip
    assert made["linux"]["netDevices"] == {"eth5": {"name": "net0"}}
    assert made["process"]["user"]["additionalGids"] == [3, 7]
    assert made["linux"]["intelRdt"]["schemata"] == ["L3:0=f"]
    assert made["linux"]["devices"] == [
        {"path": "/dev/a", "type": "b", "major": 8, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 9},
        {"path": "/dev/b", "type": "c", "major": 195, "minor": 7, "uid": 5},
        {"path": "/dev/c", "type": "p", "uid": 5},
    ]
    assert [rule.get("access") for rule in made["linux"]["resources"]["devices"]][-1] == "r", "none: no rule"


def test_the_later_directory_hides_the_earlier():
    there = Fake(gpu_json=GPU)
    there.files["/var/run/cdi/gpu.json"] = {**GPU, "containerEdits": {"env": ["ALL=run"]}}
    assert "ALL=run" in injected(there, "nvidia.com/gpu=0")["process"]["env"]
    there.files["/var/run/cdi/other.json"] = GPU
    assert "both describe it" in refused(there, "nvidia.com/gpu=0")


def test_a_device_that_nobody_describes():
    assert "unresolvable CDI device 'v.com/c=x'" in refused(Fake(gpu_json=GPU), "v.com/c=x")
    assert "not valid json" in refused(Fake(a_json="{"), "v.com/c=x"), "why a file says nothing is said"
    assert "not valid yaml in line 2" in refused(Fake(a_yaml="a: 1\n b: [\n"), "v.com/c=x")
    made = injected(Fake(a_json="{", b_json=GPU, c_txt="x"), "nvidia.com/gpu=0")
    assert made["linux"]["devices"], "another file that is wrong does not matter"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cdiVersion": "9.0.0"}, "cdiVersion: unknown version"),
        ({"cdiVersion": 1}, "cdiVersion: expected a string"),
        ({"kind": "vendor"}, "kind: expected vendor.com/class"),
        ({"kind": "v.com/c/d"}, "kind: expected vendor.com/class"),
        ({"devices": []}, "devices: expected at least 1 item"),
        ({"devices": [{"name": "d", "containerEdits": {}}]}, "devices[0].containerEdits: it is empty"),
        ({"devices": [{"name": "d"}]}, "devices[0].containerEdits: missing"),
        ({"devices": [{"name": "-", "containerEdits": {"env": ["A=1"]}}]}, "devices[0].name: invalid"),
        ({"unknown": 1}, "unknown: unknown member"),
        ({"annotations": {"": "x"}}, "invalid name of an annotation"),
        ({"annotations": {"a b": "x"}}, "invalid name of an annotation"),
        ({"annotations": {"a": "x" * (256 << 10)}}, "annotations: larger than"),
    ],
)  # fmt: skip
def test_bad_files(change, message):
    whole = {"cdiVersion": "1.1.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": {"env": ["A=1"]}}]}
    assert message in refused(Fake(a_json={**whole, **change}), "v.com/c=d")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"env": ["A"]}, "env[0]: expected NAME=VALUE"),
        ({"env": "A=1"}, "env: expected an array"),
        ({"odd": 1}, "odd: unknown member"),
        ({"deviceNodes": [{"path": "/dev/x", "odd": 1}]}, "deviceNodes[0].odd: unknown member"),
        ({"deviceNodes": [{"path": "/dev/x", "permissions": "rx"}]}, "permissions: expected letters of rwm"),
        ({"deviceNodes": [{"path": "/dev/x", "type": "d"}]}, "type: expected one of"),
        ({"deviceNodes": [{"path": "/dev/x", "major": -1}]}, "major: expected an integer"),
        ({"deviceNodes": [{}]}, "deviceNodes[0].path: missing"),
        ({"mounts": [{"hostPath": "/x"}]}, "containerPath: missing"),
        ({"hooks": [{"hookName": "sometime", "path": "/x"}]}, "hookName: expected one of"),
        ({"hooks": [{"hookName": "poststop", "path": "/x", "env": ["x"]}]}, "hooks[0].env[0]: expected NAME=VALUE"),
        ({"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]}, "timeout: expected an integer"),
        ({"netDevices": [{"hostInterfaceName": "a", "name": "b"}, {"hostInterfaceName": "c", "name": "b"}]}, "name: empty"),
    ],
)  # fmt: skip
def test_bad_edits(edits, message):
    assert message in refused(with_edits(edits), "v.com/c=d")


@pytest.mark.parametrize(
    ("version", "edits", "more"),
    [
        ("0.3.0", {"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]}, {}),
        ("0.4.0", {"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/y"}]}, {}),
        ("0.5.0", {"env": ["A=1"]}, {"annotations": {"a": "b"}}),
        ("0.5.0", {"env": ["A=1"]}, {"kind": "v.com/c.d"}),
        ("0.6.0", {"additionalGids": [1]}, {}),
        ("0.6.0", {"intelRdt": {"closID": "x"}}, {}),
        ("1.0.0", {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}, {}),
        ("1.0.0", {"intelRdt": {"enableMonitoring": True}}, {}),
    ],
)  # fmt: skip
def test_what_is_newer_than_the_version_that_a_file_says(version, edits, more):
    kind = more.get("kind", "v.com/c")
    assert "needs cdiVersion" in refused(with_edits(edits, version, **more), f"{kind}=d")
    newer = cdi.VERSIONS[cdi.VERSIONS.index(version) + 1]
    injected(with_edits(edits, newer, **more), f"{kind}=d")


@pytest.mark.parametrize(
    ("word", "devices"),
    [
        ("all", ["all"]), ("1", ["0"]), ("2", ["0", "1"]), ("count=2", ["0", "1"]), ("-1", ["all"]), ("device=0", ["0"]),
        ('"device=0,GPU-1",capabilities=utility', ["0", "GPU-1"]), ("driver=nvidia,count=all", ["all"]),
        ("capabilities=gpu", ["0"]),
    ],
)  # fmt: skip
def test_gpus(word, devices):
    assert cdi.gpus(word, cdi.Known(Fake(gpu_json=GPU))) == [f"nvidia.com/gpu={name}" for name in devices]


def test_gpus_that_cannot_be():
    for word in ("", "x", "0", "count=1,device=0", "device=", "odd=1", "1,2"):
        with pytest.raises(Usage, match="invalid value for --gpus"):
            cdi.gpus(word, cdi.Known(Fake(gpu_json=GPU)))
    with pytest.raises(Error, match="cannot use GPUs"):
        cdi.gpus("all", cdi.Known(Fake()))
    with pytest.raises(Error, match="cannot use GPUs"):
        cdi.gpus("driver=amd,count=1", cdi.Known(Fake(gpu_json=GPU)))
    other = {**GPU, "kind": "other.com/gpu"}
    assert cdi.gpus("all", cdi.Known(Fake(a_json=other))) == ["other.com/gpu=all"]


@pytest.mark.root
def test_a_container_with_devices(run, tmp_path):
    """Nodes, files, variables, groups and hooks, as a vendor's driver has them."""
    (tmp_path / "cdi").mkdir()
    (tmp_path / "lib").write_text("library\n")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    hook.chmod(0o755)
    (tmp_path / "cdi/v.yaml").write_text(f"""
cdiVersion: 0.7.0
kind: vendor.com/gpu
containerEdits:
  env: [DRIVER=1]
  hooks: [{{hookName: createRuntime, path: {hook}}}]
  mounts: [{{hostPath: {tmp_path}/lib, containerPath: /usr/lib/driver, options: [ro, nosuid, bind]}}]
devices:
- name: 0
  containerEdits:
    deviceNodes: [{{path: /dev/gpu0, hostPath: /dev/full, fileMode: 0640}}]
    additionalGids: [44]
- {{name: broken, containerEdits: {{deviceNodes: [{{path: /dev/none}}]}}}}
""")
    words = ["--network", "none", "--cdi-spec-dir", "cdi"]
    script = "cat /usr/lib/driver; echo $DRIVER; id -G; stat -c %t:%T:%a /dev/gpu0; (echo x > /dev/gpu0) 2>&1 | grep -o 'No space left'; touch /usr/lib/driver"
    for option in (["--device", "vendor.com/gpu=0"], ["--gpus", "device=0"], ["--gpus", "1"]):
        done = run(*words, *option, "busybox", "sh", "-c", script, code=1)
        assert done.stdout.split() == ["library", "1", "0", "44", "1:7:640", "No", "space", "left"], done.stderr
        assert "Read-only" in done.stderr
    assert json.loads((tmp_path / "told").read_text())["status"] == "creating"
    said = run(*words, "--device", "vendor.com/gpu=broken", "busybox", "true", code=125).stderr
    assert said == "oci-run: cannot use device '/dev/none': no such file or directory\n"
    said = run(*words, "--device", "vendor.com/gpu=9", "busybox", "true", code=125).stderr
    assert said == "oci-run: unresolvable CDI device 'vendor.com/gpu=9': no file in cdi describes it\n"
