"""oci-spec as people and scripts use it: its verbs, alone and in a pipe."""

import json
import subprocess

import pytest

from oci_tools.runtime import spec


def made(done):
    return json.loads(done.stdout)


def one_line(done):
    """What was said, which is one line of the house's form."""
    assert done.stdout == "" and done.stderr.startswith("oci-spec: ") and done.stderr.count("\n") == 1
    return done.stderr.removeprefix("oci-spec: ").rstrip("\n")


# -- new ------------------------------------------------------------------------------------


def test_new_from_nothing_is_the_default(oci):
    assert made(oci("spec", "new", "--rootless=false")) == spec.default()
    assert made(oci("spec", "new", "--rootless=true")) == spec.default(rootless=True)


def test_what_is_new_is_good(oci):
    text = oci("spec", "new").stdout
    assert oci("spec", "check", input=text).stdout == text


def test_new_from_an_image(oci, busybox):
    found = made(oci("spec", "new", f"{busybox}:latest"))
    assert found["process"]["args"] == ["sh"]
    assert found["process"]["cwd"] == "/"
    assert found["annotations"]["org.opencontainers.image.os"] == "linux"


@pytest.fixture
def image(oci, busybox, tmp_path):
    """A copy of an image, to be given another configuration."""
    subprocess.run(["cp", "-r", busybox, tmp_path / "img"], check=True)

    def change(*words):
        oci("image", "config", *words, "./img:latest")
        return "./img:latest"

    return change


def test_new_knows_numbers_without_unpacking(oci, image, tmp_path):
    word = image(
        "--user", "5:6", "--env", "A=1", "--workdir", "/w", "--entrypoint", '["/e"]', "--cmd", '["c"]'
    )
    found = made(oci("spec", "new", word))["process"]
    assert found["user"] == {"uid": 5, "gid": 6, "additionalGids": [6]}
    assert found["env"][-1] == "A=1" and found["cwd"] == "/w" and found["args"] == ["/e", "c"]
    assert not (tmp_path / "root/layers/sha256").exists()


def test_new_looks_a_name_up_in_the_image(oci, image):
    found = made(oci("spec", "new", image("--user", "nobody")))["process"]
    assert found["user"] == {"uid": 65534, "gid": 65534, "additionalGids": [65534]}
    assert one_line(oci("spec", "new", image("--user", "who"), code=1)) == (
        "unable to find user 'who': no matching entries in passwd file (a number needs no entry there)"
    )


def test_new_from_a_bundle_looks_at_the_bundle(oci, image, tmp_path):
    oci("unpack", image("--user", "me", "--cmd", '["id"]'), "./b", code=1)
    oci("unpack", image("--user", "nobody", "--cmd", '["id"]'), "./b")
    (tmp_path / "b/rootfs/etc/passwd").write_text("nobody:x:7:8::/:\n")
    found = made(oci("spec", "new", "./b"))["process"]
    assert found["args"] == ["id"] and found["user"]["uid"] == 7


def test_new_from_an_overlay_bundle_keeps_its_layers(oci, busybox, tmp_path):
    oci("unpack", "--overlay", f"{busybox}:latest", "./b")
    before = json.loads((tmp_path / "b/config.json").read_text())
    assert made(oci("spec", "new", "./b")) == before


@pytest.mark.parametrize("word", ["./none", "none", "./none:x", "docker://localhost:1/x"])
def test_new_from_what_is_not_there(oci, word):
    one_line(oci("spec", "new", word, code=1))


def test_new_from_a_handle_through_a_pipe(oci, busybox):
    handle = f"{busybox}@{json.loads((busybox / 'index.json').read_text())['manifests'][0]['digest']}"
    assert made(oci("spec", "new", "-", input=f"{handle}\n"))["process"]["args"] == ["sh"]


def test_new_with_words_and_options(oci, image, tmp_path):
    word = image("--entrypoint", '["/e"]', "--cmd", '["c"]')
    found = made(oci("spec", "new", "--read-only", "-m", "64m", "-u", "nobody", "-e", "A=1", word, "x", "-y"))
    assert found["process"]["args"] == ["/e", "x", "-y"] and found["process"]["user"]["uid"] == 65534
    assert found["root"]["readonly"] and found["linux"]["resources"]["memory"]["limit"] == 64 << 20
    assert made(oci("spec", "new", "--entrypoint", "/x", word))["process"]["args"] == ["/x"]
    assert made(oci("spec", "new", "--init", word))["process"]["args"] == ["/sbin/oci-init", "--", "/e", "c"]
    assert made(oci("spec", "new", "--entrypoint", "/x"))["process"]["args"] == ["/x"]
    assert "no command" in one_line(oci("spec", "new", "--entrypoint=", code=2))
    assert "invalid size" in one_line(oci("spec", "new", "-m", "x", code=2))
    assert one_line(oci("spec", "new", "-u", "nobody", code=1)).startswith("cannot look up user 'nobody'")


def test_what_options_make_is_what_a_container_gets(oci, image, tmp_path):
    """An image that oci-run runs and a bundle of the same options differ in nothing but what is of a container."""
    words = ["--cap-add", "NET_ADMIN", "--memory", "64m", "--tmpfs", "/t", "--ulimit", "nofile=5", "--security-opt",
             "seccomp=builtin", "-e", "A=1", "--hostname", "box"]  # fmt: skip
    name = image("--user", "nobody")
    container = oci("run", "new", *words, name).stdout.strip()
    (tmp_path / "new.json").write_text(oci("spec", "new", *words, name).stdout)
    done = oci("spec", "diff", "--fields", "what,path", "new.json", f"root/containers/{container}/bundle", code=1)
    oci("run", "rm", container)
    paths = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert [path for path in paths if not path.startswith(("mounts[destination=/etc/", "linux.sysctl", "process.env.HOSTNAME",
            "linux.namespaces[type=time]", "annotations"))] == []  # fmt: skip


# -- set --------------------------------------------------------------------------------------


def test_set(oci, tmp_path):
    (tmp_path / "m.json").write_text('{"hostname": "merged", "process": {"cwd": "/m"}}')
    (tmp_path / "p.json").write_text('[{"op": "replace", "path": "/process/cwd", "value": "/p"}]')
    text = oci("spec", "new").stdout
    found = made(
        oci("spec", "set", "--patch", "p.json", "--merge", "m.json", 'process.args=["id"]', "process.env+=A=1",
            "mounts[destination=/dev/mqueue]-", "process.terminal-", input=text)
    )  # fmt: skip
    assert found["hostname"] == "merged" and found["process"]["cwd"] == "/p"
    assert found["process"]["args"] == ["id"] and found["process"]["env"][-1] == "A=1"
    assert "/dev/mqueue" not in [each["destination"] for each in found["mounts"]]
    assert "terminal" not in found["process"]


def test_set_with_options(oci):
    text = oci("spec", "new", "--rootless=false").stdout
    found = made(oci("spec", "set", "--cap-drop", "ALL", "-e", "A=1", "-u", "5", "--pids-limit", "9", "hostname=last",
                     "-h", "first", input=text))  # fmt: skip
    assert found["process"]["capabilities"]["bounding"] == [] and found["process"]["env"][-1] == "A=1"
    assert found["linux"]["resources"]["pids"] == {"limit": 9} and found["hostname"] == "last"
    assert made(oci("spec", "set", "-e", "A=1", input='{"ociVersion": "1.0.0"}')) == {
        "ociVersion": "1.0.0", "process": {"cwd": "/", "env": ["A=1"]}, "root": {"path": "rootfs"},
    }  # fmt: skip
    done = oci("spec", "set", "-e", "A=1", input='{"process": {"env": 5}}', code=1)
    assert one_line(done) == "config.json: process.env: expected an array, got 5"
    assert one_line(oci("spec", "set", "-e", "A=1", input="[]", code=1)) == "config.json: expected an object, got []"


def test_set_leaves_the_rest_as_it_was(oci):
    text = '{"z": 1, "unknown": {"kept": [1, 2.5, "é", 18446744073709551615]}, "a": null}'
    found = oci("spec", "set", "new=true", input=text).stdout
    assert json.loads(found) == {**json.loads(text), "new": True}
    assert list(json.loads(found)) == ["z", "unknown", "a", "new"]


@pytest.mark.parametrize(
    ("words", "text", "code", "message"),
    [
        ([], "{}", 2, "nothing to change"),
        (["x"], "{}", 2, "not a change 'x'"),
        (["a.b=1"], '{"a": 5}', 1, "cannot change 'a.b=1'"),
        (["a=1"], "", 1, "cannot read standard input: it is empty (oci-spec new makes a config.json)"),
        (["a=1"], "{", 1, "cannot read 'config.json': not valid json"),
        (["--merge", "none", "a=1"], "{}", 1, "cannot read 'none': no such file or directory"),
        (["--patch", "bad"], "{}", 1, "cannot patch: expected a list of operations"),
    ],
)
def test_set_what_cannot_be(oci, tmp_path, words, text, code, message):
    (tmp_path / "bad").write_text("{}")
    assert one_line(oci("spec", "set", *words, input=text, code=code)).startswith(message)


# -- check --------------------------------------------------------------------------------------


def test_check_passes_bytes_on_unchanged(oci):
    text = b'\n {"ociVersion" : "1.0.0",\t"root":{"path":"r"} ,"x":"\\u00e9\xc3\xa9" }  \n\n'
    assert oci("spec", "check", input=text, binary=True).stdout == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("process.args=[5]", "process.args[0]: expected a string, got 5"),
        ("process.user.uid=-1", "process.user.uid: expected at least 0, got -1"),
        ("process.cwd=x", 'process.cwd: expected an absolute path, got "x"'),
        ("linux.namespaces+={\"type\":\"pid\"}", 'linux.namespaces[6].type: second namespace of type "pid"'),
        ("root-", "root: missing"),
        ("ociVersion-", "ociVersion: missing"),
        ("freebsd={\"jail\":{\"vnet\":\"disable\"}}", 'freebsd.jail.vnet: expected one of new, inherit, got "disable"'),
    ],
)  # fmt: skip
def test_check_names_the_path_and_the_value(oci, change, message):
    text = oci("spec", "set", change, input=oci("spec", "new").stdout).stdout
    done = oci("spec", "check", input=text, code=1)
    assert one_line(done) == f"config.json: {message}"


def test_check_looks_at_a_bundle_or_a_file(oci, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.json").write_text(oci("spec", "new").stdout)
    assert oci("spec", "check", "b").stdout == "" == oci("spec", "check", "b/config.json").stdout
    (tmp_path / "b/config.json").write_text("{}")
    assert one_line(oci("spec", "check", "b", code=1)) == "config.json: ociVersion: missing"
    assert one_line(oci("spec", "check", "c", code=1)).startswith("cannot read 'c': no such file or directory (oci-unpack")


def test_check_of_no_input(oci):
    assert one_line(oci("spec", "check", code=1)) == "cannot read standard input: it is empty (oci-spec new makes a config.json)"


def test_check_of_more_than_is_sane(oci):
    done = oci("spec", "check", input=b" " * (17 << 20), code=1)
    assert one_line(done) == "cannot read standard input: larger than 16777216 bytes"


def test_a_full_disk_is_a_failure(oci):
    text = oci("spec", "new").stdout
    with open("/dev/full", "w") as full:
        for words, given in ((["new"], None), (["check"], text), (["set", "hostname=x"], text)):
            done = oci("spec", *words, input=given, stdout=full, code=1)
            assert "no space left on device" in done.stderr


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_check_against_a_real_runtime(oci, tmp_path, runtime):
    features = subprocess.run([runtime, "features"], capture_output=True, check=True).stdout
    (tmp_path / "features").write_bytes(features)
    text = oci("spec", "new").stdout
    assert oci("spec", "check", "--features", "features", input=text).stdout == text
    asked = oci("spec", "set", 'hooks.sometime=[]', 'hooks.poststop=[{"path": "/x"}]', input=text).stdout
    known = json.loads(features)
    (tmp_path / "features").write_text(json.dumps({**known, "hooks": []}))
    done = oci("spec", "check", "--features", "features", input=asked, code=1)
    assert one_line(done) == 'config.json: hooks.poststop: the runtime does not support hooks "poststop"'
    (tmp_path / "features").write_text("{}")
    assert one_line(oci("spec", "check", "--features", "features", input=text, code=1)) == "features: ociVersionMin: missing"


# -- diff, explain ------------------------------------------------------------------------------


def test_diff(oci, tmp_path):
    text = oci("spec", "new").stdout
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.json").write_text(text)
    assert oci("spec", "diff", "b", "-", input=text).stdout == ""
    other = oci("spec", "set", "-e", "A=1", "hostname=x", "linux.maskedPaths-=/proc/keys", input=text).stdout
    done = oci("spec", "diff", "b", "-", input=other, code=1)
    assert done.stdout.splitlines() == [
        'A\tprocess.env.A\t-\t"1"', 'C\thostname\t"container"\t"x"', 'D\tlinux.maskedPaths["/proc/keys"]\t"/proc/keys"\t-',
    ]  # fmt: skip
    done = oci("spec", "diff", "--json", "b/config.json", "-", input=other, code=1)
    assert json.loads(done.stdout.splitlines()[0]) == {"what": "A", "path": "process.env.A", "old": None, "new": "1"}
    assert oci("spec", "diff", "--fields", "path", "b", "-", input=other, code=1).stdout.startswith("process.env.A\n")
    assert "only one" in one_line(oci("spec", "diff", "-", "-", code=2))
    assert "no such field" in one_line(oci("spec", "diff", "--fields", "x", "b", "b", code=2))
    assert "cannot read 'none'" in one_line(oci("spec", "diff", "b", "none", code=1))


def test_explain(oci, tmp_path):
    text = oci("spec", "new", "--rootless=false", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=builtin").stdout
    lines = [line.split("\t") for line in oci("spec", "explain", input=text).stdout.splitlines()]
    assert all(len(line) == 3 and line[0] in ("warning", "note") for line in lines)
    (tmp_path / "config.json").write_text(text)
    warned = oci("spec", "explain", "-w", "--fields", "path", ".").stdout.splitlines()
    assert warned[0] == "process.capabilities.bounding[CAP_SYS_ADMIN]"
    assert json.loads(oci("spec", "explain", "-w", "--json", ".").stdout.splitlines()[0])["level"] == "warning"
    assert one_line(oci("spec", "explain", input="{}", code=1)) == "config.json: ociVersion: missing"


def test_verbs(oci):
    assert one_line(oci("spec", code=2)).startswith("missing verb (one of new, from-kube, set, check")
    assert one_line(oci("spec", "nope", code=2)).startswith("unknown verb 'nope'")
