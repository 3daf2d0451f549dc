"""The default specification is Docker's in effect; an image's configuration is converted as image-spec says."""

import os
import subprocess
import sys

import pytest

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.runtime import check, spec

DOCKER_CAPABILITIES = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
}  # fmt: skip


def image(**config):
    return {"architecture": "amd64", "os": "linux", "config": config}


def mounts(made):
    return {mount["destination"]: mount for mount in made["mounts"]}


def test_default_is_valid_and_fresh():
    made = spec.default()
    check.check(made)
    made["linux"]["maskedPaths"].clear()
    made["mounts"][0]["options"].clear()
    assert spec.default()["linux"]["maskedPaths"] and spec.default()["mounts"][0]["options"]


def test_default_gives_what_docker_gives():
    made = spec.default()
    process, linux = made["process"], made["linux"]
    for name in "bounding", "effective", "permitted":
        assert set(process["capabilities"][name]) == DOCKER_CAPABILITIES
    assert not process["capabilities"].get("inheritable") and not process["capabilities"].get("ambient")
    assert "rlimits" not in process
    assert process["noNewPrivileges"] is True
    assert [each["destination"] for each in made["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
    ]  # fmt: skip
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(mounts(made)["/sys"]["options"])
    assert "ro" in mounts(made)["/sys/fs/cgroup"]["options"]
    assert {"newinstance", "gid=5"} <= set(mounts(made)["/dev/pts"]["options"])
    assert {"mode=1777", "size=65536k"} <= set(mounts(made)["/dev/shm"]["options"])
    kinds = {each["type"] for each in linux["namespaces"]}
    assert kinds == {"mount", "network", "uts", "pid", "ipc", "cgroup"}
    assert {"/proc/interrupts", "/proc/kcore", "/proc/keys", "/sys/firmware",
            "/sys/devices/virtual/powercap"} <= set(linux["maskedPaths"])  # fmt: skip
    assert linux["readonlyPaths"] == [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]
    first, *rules = linux["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    assert {(rule["major"], rule["minor"]) for rule in rules} == {
        (1, 3),
        (1, 5),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
    }


def test_thermal_counters_of_each_processor_are_masked(tmp_path):
    for name in "cpu0", "cpu10", "cpu2", "cpufreq", "cpuidle":
        (tmp_path / name / "thermal_throttle").mkdir(parents=True)
    (tmp_path / "cpu3").mkdir()
    found = spec._throttles(str(tmp_path))
    assert [path.removeprefix(f"{tmp_path}/") for path in found] == [
        "cpu0/thermal_throttle", "cpu2/thermal_throttle", "cpu10/thermal_throttle",
    ]  # fmt: skip
    assert spec._throttles(str(tmp_path / "none")) == []


def test_rootless_needs_no_right_of_root():
    made = spec.default(rootless=True)
    check.check(made)
    linux = made["linux"]
    assert {"type": "user"} in linux["namespaces"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    assert "resources" not in linux and "/sys/fs/cgroup" not in mounts(made)
    assert not any(option.startswith("gid=") for option in mounts(made)["/dev/pts"]["options"])
    assert mounts(made)["/sys"]["source"] == "/sys" and {"rbind", "ro"} <= set(
        mounts(made)["/sys"]["options"]
    )


def test_loads_in_a_bare_interpreter_without_heavy_modules():
    program = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        before = set(sys.modules)
        from oci_tools.runtime import spec, check
        check.check(spec.default())
        heavy = {"re", "json", "typing", "enum", "contextlib", "collections", "functools", "ctypes", "jsonschema"}
        print(sorted(heavy & set(sys.modules) - before))
    """
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run([sys.executable, "-IS", "-c", program, top], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# -- from an image -----------------------------------------------------------------------


def test_conversion():
    made = spec.from_image(
        {
            **image(
                Env=["PATH=/bin", "A=b=c"], Entrypoint=["/e"], Cmd=["x", "y"], WorkingDir="/w", User="7:8",
                StopSignal="SIGINT", ExposedPorts={"80/tcp": {}, "53/udp": {}}, Labels={"a": "b"},
            ),
            "author": "me", "created": "2026-01-01T00:00:00Z", "variant": "v8", "os.version": "1",
            "os.features": ["x", "y"],
        },
        None,
    )  # fmt: skip
    check.check(made)
    process = made["process"]
    assert process["args"] == ["/e", "x", "y"]
    assert process["env"] == ["PATH=/bin", "A=b=c"]
    assert process["cwd"] == "/w"
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [8]}
    assert process["capabilities"] == {"bounding": list(spec.CAPABILITIES)}, "what execve leaves a plain user"
    assert made["annotations"] == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.variant": "v8",
        "org.opencontainers.image.os.version": "1",
        "org.opencontainers.image.os.features": "x,y",
        "org.opencontainers.image.author": "me",
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "80/tcp,53/udp",
    }


def test_labels_of_an_image_never_steer_a_runtime():
    made = spec.from_image(
        image(Labels={"io.oci-tools.overlay": "{}", "run.oci.hooks.stdout": "/etc/x"}), None
    )
    assert set(made["annotations"]) == {
        "org.opencontainers.image.os",
        "org.opencontainers.image.architecture",
    }


def test_an_image_that_says_nothing_leaves_the_defaults():
    for said in ({}, image(), {"config": None}, image(Env=None, Cmd=None, Entrypoint=None)):
        made = spec.from_image(said, None)
        check.check(made)
        assert made["process"]["args"] == ["sh"]
        assert made["process"]["env"] == [spec.PATH]
        assert made["process"]["cwd"] == "/"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("", "/"), ("app", "/app"), ("/a/../b/", "/b"), ("//x", "/x"), ("../../x", "/x"), (".", "/")],
)
def test_working_directory_is_absolute(said, meant):
    assert spec.from_image(image(WorkingDir=said), None)["process"]["cwd"] == meant


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        ([], "image config: expected an object, got []"),
        ({"config": []}, "image config: config: expected an object, got []"),
        (image(Cmd="sh"), 'image config: config.Cmd: expected an array, got "sh"'),
        (image(Entrypoint=[1]), "image config: config.Entrypoint[0]: expected a string, got 1"),
        (image(Env=["FOO"]), 'image config: config.Env[0]: expected NAME=VALUE, got "FOO"'),
        (image(Env=["=x"]), 'image config: config.Env[0]: expected NAME=VALUE, got "=x"'),
        (
            image(Env=["A=\0"]),
            "image config: config.Env[0]: expected a string without NUL or half characters",
        ),
        (image(User=0), "image config: config.User: expected a string, got 0"),
        (image(WorkingDir={}), "image config: config.WorkingDir: expected a string, got {}"),
        ({"os": 5}, "image config: os: expected a string, got 5"),
        (image(ExposedPorts=["80"]), "image config: config.ExposedPorts: expected an object"),
    ],
)
def test_hostile_image_config(hostile, message):
    with pytest.raises(Error) as caught:
        spec.from_image(hostile, None)
    assert str(caught.value).startswith(message)


def test_environment_of_the_image_replaces_in_place():
    assert spec.environment(["PATH=/a", "B=1"], ["C=2", "PATH=/b", "C=3"]) == ["PATH=/b", "B=1", "C=3"]


# -- from a bundle -------------------------------------------------------------------------


def test_load(tmp_path):
    (tmp_path / "config.json").write_bytes(document.dumps(spec.default()))
    assert spec.load(str(tmp_path)) == spec.default()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{]", "cannot read '{}/config.json': not valid json"),
        (b"[]", "config.json: expected an object, got []"),
        (b"{}", "config.json: ociVersion: missing"),
        (b'"\xff"', "cannot read '{}/config.json': not valid json: not utf-8"),
        (b"[" * 100000, "cannot read '{}/config.json': not valid json: nested too deeply"),
        (b'{"ociVersion":"1.3.0","process":{"args":[5],"cwd":"/"},"root":{"path":"x"}}',
         "config.json: process.args[0]: expected a string, got 5"),
    ],
)  # fmt: skip
def test_load_of_a_bad_file(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(Error) as caught:
        spec.load(str(tmp_path))
    assert str(caught.value).startswith(
        message.replace("{}", str(tmp_path), 1) if "'{}/" in message else message
    )


def test_load_says_what_a_runtime_must_know(tmp_path):
    text = b'{"ociVersion":"1.0.0","root":{"path":"r"},"process":{"cwd":"/","args":["x"],"user":{"gid":5}}}'
    (tmp_path / "config.json").write_bytes(text)
    assert spec.load(str(tmp_path))["process"]["user"] == {"uid": 0, "gid": 5}
    (tmp_path / "config.json").write_bytes(b'{"ociVersion":"1.0.0","root":{"path":"r"}}')
    with pytest.raises(Error, match="^config.json: process: missing$"):
        spec.load(str(tmp_path))


def test_load_without_a_file(tmp_path):
    with pytest.raises(Error, match="cannot read '.*/config.json': no such file or directory"):
        spec.load(str(tmp_path))


def test_load_of_a_file_without_end(tmp_path):
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(Error, match="larger than"):
        spec.load(str(tmp_path))


ODD = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "\0",
    "\ud800",
    [],
    [None],
    ["x"],
    ["a=b"],
    {},
    {"x": None},
    {"x": {}},
)


@pytest.mark.parametrize("name", ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "StopSignal", "ExposedPorts", "Volumes",
                                  "Labels", "Healthcheck", "OnBuild"])  # fmt: skip
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_no_image_is_too_odd_to_be_judged(name, value):
    for hostile in (
        image(**{name: value}),
        {"config": value},
        {name: value},
        {"author": value, "os.features": value},
    ):
        try:
            check.check(spec.from_image(hostile, {}.get))
        except Error as error:
            assert "\n" not in str(error)
