"""oci-image as people and scripts use it."""

import io
import json
import os
import pty
import struct
import subprocess
import tarfile
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from oci_tools import document
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import manifest
from oci_tools.image.layout import Layout
from tests.image.make import image, index, tar

STORE = "docker.io/library"


@pytest.fixture
def img(tmp_path, oci):
    """A layout with the images `one` and `two`, and their handles."""
    with Layout.create(str(tmp_path / "img")) as layout:
        for name in "one", "two":
            layout.tag(name, image(layout, name, platform="linux/amd64"))
        yield layout


def table(text):
    return [line.split("\t") for line in text.splitlines()]


def names(oci, *words):
    return [name for name, _ in table(oci("image", "ls", *words).stdout)]


def handle(layout, name):
    return f"{layout.path}@{layout.find(name)['digest']}"


# -- ls ----------------------------------------------------------------------------------------


def test_ls(oci, img):
    digests = [img.find(name)["digest"] for name in ("one", "two")]
    assert table(oci("image", "ls", "./img").stdout) == [["one", digests[0]], ["two", digests[1]]]
    assert oci("image", "ls", "oci:img").stdout == oci("image", "ls", img.path).stdout
    assert table(oci("image", "ls", "./img:two").stdout) == [["two", digests[1]]]
    assert oci("image", "ls").stdout == ""  # no store yet: nothing, and none is made
    assert not Path(oci.env["OCI_ROOT"], "images").exists()


def test_ls_fields(oci, img):
    fields = "name,platform,layers,created,mediaType,untagged"
    rows = table(oci("image", "ls", "--fields", fields, "./img").stdout)
    assert rows[0] == ["one", "linux/amd64", "1", "2024-01-01T00:00:00Z", manifest.OCI_MANIFEST, "-"]
    total = sum(d["size"] for d in manifest.parts(img, img.find("one")))
    assert table(oci("image", "ls", "--fields=total,size,artifactType", "./img:one").stdout) == [
        [str(total), str(img.find("one")["size"]), "-"]
    ]
    done = oci("image", "ls", "--fields", "nothing", "./img", code=2)
    assert "no such field 'nothing'" in done.stderr


def test_ls_json(oci, img):
    lines = [json.loads(line) for line in oci("image", "ls", "--json", "./img").stdout.splitlines()]
    assert lines == img.index()["manifests"]
    lines = oci("image", "ls", "--json", "--fields", "name,id", "./img").stdout.splitlines()
    assert json.loads(lines[0]).keys() == {"name", "id"}


def test_ls_of_strange_entries(oci, img):
    """What other tools or attackers put there is listed, and no terminal is harmed."""
    annotations = {"org.opencontainers.image.ref.name": "a\x1b[31m\tb\nc"}
    strange = [{"annotations": annotations, "digest": ["x"]}, {"annotations": "x"}, {}]
    img.update(lambda found: found["manifests"].extend(strange))
    rows = oci("image", "ls", "./img").stdout.splitlines()
    assert rows[2] == "a\\x1b[31m\\tb\\nc\t['x']"
    assert rows[3:] == ["-\t-", "-\t-"]
    every = "name,digest,mediaType,artifactType,size,untagged,platform,id,created,layers,total"
    assert len(oci("image", "ls", "--fields", every, "./img").stdout.splitlines()) == 5


def test_5000_names(oci, img):
    one = img.find("one")
    img.update(
        lambda found: found["manifests"].extend(
            {**one, "annotations": {"org.opencontainers.image.ref.name": f"t{n}"}} for n in range(5000)
        )
    )
    assert len(oci("image", "ls", "./img").stdout.splitlines()) == 5002
    oci("image", "rm", "./img:t4999")
    assert len(oci("image", "ls", "./img").stdout.splitlines()) == 5001


# -- showing -------------------------------------------------------------------------------------


def test_inspect(oci, img):
    said = json.loads(oci("image", "inspect", "./img:one").stdout)
    assert said["image"] == handle(img, "one")
    assert said["descriptor"] == img.find("one")
    assert said["manifest"] == manifest.load(img, img.find("one"))
    assert said["config"]["architecture"] == "amd64"
    assert len(oci("image", "inspect", "./img:one", "./img:two").stdout.split("\n}\n{\n")) == 2


def test_inspect_an_index(oci, img):
    both = index(img, image(img, "a", platform="linux/amd64"), image(img, "b", platform="linux/arm64"))
    img.tag("both", both)
    said = json.loads(oci("image", "inspect", "--platform", "linux/arm64", "./img:both").stdout)
    assert said["chosen"]["digest"] == said["index"]["manifests"][1]["digest"]
    assert said["config"]["architecture"] == "arm64"
    done = oci("image", "inspect", "--platform", "linux/s390x", "./img:both", code=1)
    assert "no image for 'linux/s390x'" in done.stderr
    oci("image", "cat", "--platform", "x/y/z/w", "./img:both", code=2)


def test_cat_is_byte_for_byte(oci, img):
    for part in manifest.parts(img, img.find("one")):
        done = oci("image", "cat", f"./img@{part['digest']}", binary=True)
        assert done.stdout == Path(img.blob_path(part)).read_bytes()
    assert oci("image", "cat", "./img:one", binary=True).stdout == img.read(img.find("one"))
    config = manifest.load(img, img.find("one"))["config"]
    assert oci("image", "config", "./img:one", binary=True).stdout == img.read(config)
    oci("image", "cat", f"./img@sha256:{'0' * 64}", code=1)


def test_cat_of_a_damaged_blob(oci, img):
    layer = manifest.load(img, img.find("one"))["layers"][0]
    path = Path(img.blob_path(layer))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "wrong digest" in oci("image", "cat", f"./img@{layer['digest']}", code=1).stderr


def test_history(oci, img):
    layer = manifest.load(img, img.find("one"))["layers"][0]
    rows = table(oci("image", "history", "./img:one").stdout)
    assert rows == [["2024-01-01T00:00:00Z", str(layer["size"]), layer["digest"], "-"]]
    oci("image", "config", "-e", "A=b", "./img:one")
    rows = table(oci("image", "history", "--fields", "created_by,size", "./img:one").stdout)
    assert rows == [["-", str(layer["size"])], ["oci-image config", "0"]]
    lines = oci("image", "history", "--json", "./img:one").stdout.splitlines()
    assert json.loads(lines[1])["digest"] is None


# -- names ---------------------------------------------------------------------------------------


def test_tag_and_rm(oci, img):
    oci("image", "tag", "./img:one", "three", "./img:four", "oci:img:a/b:c")
    assert names(oci, "./img") == ["one", "two", "three", "./img:four"[6:], "a/b:c"]
    oci("image", "tag", "./img:two", "three")
    assert img.find("three")["digest"] == img.find("two")["digest"]
    oci("image", "rm", "./img:one", "./img:four")
    assert names(oci, "./img") == ["two", "three", "a/b:c"]
    oci("image", "rm", "./img:a/b:c")
    assert names(oci, "./img") == ["two", "three", "-"]  # without a name until gc's grace ends


def test_rm_by_digest_takes_all_names(oci, img):
    oci("image", "tag", "./img:one", "again")
    oci("image", "rm", handle(img, "one"))
    assert names(oci, "./img") == ["two"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["tag", "./img:one", "a b"], 2, "invalid image name 'a b'"),
        (["tag", "./img:one", "ok", "../other:x"], 2, "not a name in the same layout"),
        (["tag", "./img:none", "x"], 1, "no such image"),
        (["rm", "./img:one", "./img:none"], 1, "no such image"),
        (["rm", "./img"], 2, "which image of './img' (./img:NAME)"),
        (["rm", "img:one"], 1, "(a layout is written ./img:one)"),
        (["rm", "./nowhere:x"], 1, "no such directory"),
        (["inspect", "./img"], 1, "there are 2 (one, two)"),
        (["inspect", "docker://alpine"], 1, "not in a layout"),
        (["inspect", "A:B:C"], 1, "invalid reference"),
        (["gc", "img"], 2, "it is written as a path"),
        (["gc", "--grace", "5x", "./img"], 2, "not a time '5x'"),
        (["fsck", "./img:one"], 2, "not a layout"),
        (["ls", "--frobnicate"], 2, "no such option"),
        (["config", "--cmd", "[1]", "./img:one"], 2, "not a list of words"),
        (["config", "--env", "=x", "./img:one"], 2, "no name in"),
        (["config", "--cmd", "[", "./img:one"], 1, "not valid json"),
        (["load", "/nowhere"], 1, "no such file or directory"),
        (["copy", "./img:one", "docker://x/y"], 2, "oci-push"),
        (["frob"], 2, "unknown verb 'frob'"),
        ([], 2, "missing verb"),
    ],
)
def test_mistakes_change_nothing(oci, img, words, code, why):
    before = Path(img.path, "index.json").read_bytes()
    done = oci("image", *words, code=code)
    assert why in done.stderr
    assert done.stderr.startswith("oci-image: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert Path(img.path, "index.json").read_bytes() == before


def test_the_store(oci, img):
    """Names in it are full references; an Id or its beginning names an image too."""
    printed = oci("image", "copy", "./img:one", "app:1").stdout.strip()
    assert printed == f"{oci.env['OCI_ROOT']}/images@{img.find('one')['digest']}"
    oci("image", "tag", "app:1", "app", "localhost:5000/x:y", f"{oci.env['OCI_ROOT']}/images:z")
    assert names(oci) == [f"{STORE}/app:1", f"{STORE}/app:latest", "localhost:5000/x:y", f"{STORE}/z:latest"]
    config = manifest.load(img, img.find("one"))["config"]["digest"]
    for word in (config, config[7:], config[7:19], printed, img.find("one")["digest"][7:15]):
        assert json.loads(oci("image", "inspect", word).stdout)["image"] == printed
    assert "no such image" in oci("image", "inspect", "abcdefabcdef", code=1).stderr
    oci("image", "rm", config[7:19])
    assert oci("image", "ls").stdout == ""


# -- changing ------------------------------------------------------------------------------------


def configured(oci, *words):
    oci("image", "config", *words)
    return json.loads(oci("image", "config", words[-1]).stdout)


def test_config(oci, img):
    layers = manifest.load(img, img.find("one"))["layers"]
    said = configured(oci, "-e", "A=1", "-e", "B=2", "--entrypoint", "/bin/x", "--cmd", '["a", "b c"]', "-u", "1:2",
                      "-w", "/w", "-l", "k=v", "--expose", "80/tcp", "--volume", "/v", "--stop-signal", "SIGINT",
                      "--author", "me", "./img:one")  # fmt: skip
    assert said["author"] == "me"
    assert said["config"] == {
        "Env": ["A=1", "B=2"], "Entrypoint": ["/bin/x"], "Cmd": ["a", "b c"], "User": "1:2", "WorkingDir": "/w",
        "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT",
    }  # fmt: skip
    said = configured(oci, "-e", "A=3", "-e", "B", "--entrypoint", "", "-l", "k", "--expose=-80/tcp", "--volume=-/v",
                      "--user", "", "./img:one")  # fmt: skip
    assert said["config"] == {
        "Env": ["A=3"],
        "WorkingDir": "/w",
        "StopSignal": "SIGINT",
    }  # the old Cmd goes too
    assert manifest.load(img, img.find("one"))["layers"] == layers
    assert names(oci, "./img") == ["one", "two", "-", "-"]
    assert oci("image", "fsck", "./img").stdout == ""


def test_config_prints_the_handle_and_can_name_another(oci, img):
    before = handle(img, "one")
    printed = oci(
        "image", "config", "-t", "new", "-a", "key=value", "--no-history", "./img:one"
    ).stdout.strip()
    assert printed == handle(img, "new") != before == handle(img, "one")
    assert manifest.load(img, img.find("new"))["annotations"] == {"key": "value"}
    oci("image", "config", "-a", "key", "./img:new")
    assert img.find("new")["digest"] == img.find("one")["digest"]  # byte for byte what it was


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-t", ""), "invalid image name ''"),
        (("--no-history", "--comment", "x"), "no place for 'x': with --no-history there is no step"),
        (("--no-history", "--created-by", "x"), "no place for 'x': with --no-history there is no step"),
    ],
)
def test_config_that_cannot_be_meant(oci, img, words, said):
    assert oci("image", "config", *words, "./img:one", code=2).stderr == f"oci-image: {said}\n"


def test_config_twice_is_the_same(oci, img):
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    made = [oci("image", "config", "-t", t, "-l", "a=b", "./img:one", env=env).stdout for t in "xy"]
    assert made[0] == made[1]
    assert json.loads(oci("image", "config", "./img:x").stdout)["created"] == "2023-11-14T22:13:20Z"


def test_config_of_an_index(oci, img):
    img.tag(
        "both", index(img, image(img, "a", platform="linux/amd64"), image(img, "b", platform="linux/arm64"))
    )
    done = oci("image", "config", "-e", "A=b", "--platform", "linux/arm64", "./img:both", code=2)
    assert "will not replace an index" in done.stderr
    oci("image", "config", "-e", "A=b", "--platform", "linux/arm64", "-t", "arm", "./img:both")
    assert json.loads(oci("image", "config", "./img:arm").stdout)["architecture"] == "arm64"


# -- housekeeping --------------------------------------------------------------------------------


def test_gc(oci, img):
    parts = {d["digest"] for d in manifest.parts(img, img.find("one"))}
    img.close()  # a writer would keep gc waiting
    oci("image", "rm", "./img:one")
    done = oci("image", "gc", "./img")
    assert done.stdout == ""
    assert "kept 1 without a name" in done.stderr
    rows = table(oci("image", "gc", "-n", "--grace", "0", "./img").stdout)
    assert {row[1] for row in rows if row[0] == "blob"} == parts
    assert names(oci, "./img") == ["two", "-"]
    assert table(oci("image", "gc", "--grace", "0", "./img").stdout) == rows
    assert names(oci, "./img") == ["two"]
    assert oci("image", "fsck", "./img").stdout == ""
    assert oci("image", "gc").stdout == ""  # no store, nothing to do


def test_a_lock_that_is_held(oci, img):
    done = oci("image", "gc", "--lock-timeout", "0", "./img", code=75)
    assert "another process holds it" in done.stderr


def test_fsck(oci, img):
    layer = manifest.load(img, img.find("one"))["layers"][0]
    os.unlink(img.blob_path(layer))
    done = oci("image", "fsck", "./img", code=1)
    assert [row[:2] for row in table(done.stdout)] == [[layer["digest"], "one"]]
    assert oci("image", "fsck", code=0).stdout == ""
    lines = oci("image", "fsck", "--json", "--fast", "./img", code=1).stdout.splitlines()
    assert json.loads(lines[0])["image"] == "one"


# -- in and out ----------------------------------------------------------------------------------


def test_save_and_load_through_a_pipe(oci, img):
    data = oci("image", "save", "./img:one", "./img:two", binary=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        assert "manifest.json" in made.getnames()
    printed = oci("image", "load", input=data).stdout.splitlines()
    assert [line.rpartition("@")[2] for line in printed] == [img.find(n)["digest"] for n in ("one", "two")]
    assert names(oci) == [f"{STORE}/one:latest", f"{STORE}/two:latest"]
    oci("image", "load", "-", "./other", input=data)
    assert names(oci, "./other") == ["one", "two"]
    oci("image", "save", "-o", "a.tar", "one")  # out of the store, where names are references
    oci("image", "load", "a.tar", "./third")
    assert names(oci, "./third") == ["latest"]
    assert oci("image", "fsck", "./third").stdout == ""


def test_save_to_a_terminal(oci, img):
    master, slave = pty.openpty()
    done = oci("image", "save", "./img:one", stdout=slave, code=2)
    os.close(master)
    os.close(slave)
    assert "terminal" in done.stderr


def large(layout, name):
    """An artifact that fills more than a pipe."""
    big = layout.put(os.urandom(1 << 20), "text/x")
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    layout.tag(name, layout.put(document.dumps(manifest.new(empty, [big])), manifest.OCI_MANIFEST))


def test_save_when_the_reader_goes(oci, img):
    large(img, "big")
    reader, writer = os.pipe()
    process = oci.start("image", "save", "./img:big", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    assert process.wait() == 141
    assert process.stderr.read() == b""


def test_a_full_disk(oci, img):
    with open("/dev/full", "wb") as full:
        for verb in "save", "cat", "ls", "inspect":
            done = oci("image", verb, "./img:one", stdout=full, code=1)
            assert done.stderr == "oci-image: cannot write standard output: no space left on device\n"


def test_a_failed_load_names_nothing(oci, img):
    data = oci("image", "save", "./img:one", "./img:two", binary=True).stdout
    done = oci("image", "load", "-", "./other", input=data[: len(data) // 2], code=1)
    assert "cannot read tar 'standard input'" in done.stderr
    assert oci("image", "ls", "./other").stdout == ""
    oci("image", "load", "-", "./other", input=data)
    assert oci("image", "fsck", "./other").stdout == ""
    assert oci("image", "gc", "--grace", "0", "./other").stdout == ""
    assert "it is empty" in oci("image", "load", input=b"", code=1).stderr
    assert "not" in oci("image", "load", input=tar(("x", b"y")), code=1).stderr


def test_copy(oci, img):
    printed = oci("image", "copy", "./img:one", "./new:app").stdout.strip()
    assert printed == f"{oci.cwd}/new@{img.find('one')['digest']}"
    oci("image", "copy", "./img:two", "./new")
    assert names(oci, "./new") == ["app", "two"]
    assert oci("image", "copy", "./new:app", "oci-archive:a.tar:x").stdout == f"{oci.cwd}/a.tar\n"
    oci("image", "copy", "oci-archive:a.tar:x", "fromfile")
    with open(oci.cwd / "a.tar", "rb") as file:
        oci("image", "copy", "-", "frompipe", stdin=file)
    oci("image", "copy", "-", "fromhandle", input=f"{printed}\n")
    assert names(oci) == [f"{STORE}/{n}:latest" for n in ("fromfile", "frompipe", "fromhandle")]
    assert len({digest for _, digest in table(oci("image", "ls").stdout)}) == 1
    assert os.listdir(f"{oci.env['OCI_ROOT']}/cache") == []


@pytest.mark.needs("skopeo", "umoci")
def test_together_with_others(oci, img):
    """Ours and theirs on the same layout, in turn."""
    run = {"check": True, "cwd": oci.cwd, "capture_output": True, "text": True}
    subprocess.run(["skopeo", "copy", "-q", "oci:img:one", "oci:img:theirs"], **run)
    subprocess.run(["umoci", "config", "--image", "img:one", "--tag", "umocis", "--config.user", "x"], **run)
    oci("image", "tag", "./img:umocis", "ours")
    assert names(oci, "./img") == ["one", "two", "theirs", "umocis", "ours"]
    oci("image", "rm", "./img:one", "./img:theirs")
    listed = subprocess.run(["umoci", "ls", "--layout", "img"], **run).stdout.split()
    assert sorted(listed) == ["ours", "two", "umocis"]
    subprocess.run(["skopeo", "inspect", "oci:img:ours"], **run)
    img.close()
    oci("image", "gc", "--grace", "0", "./img")
    assert oci("image", "fsck", "./img").stdout == ""
    assert sorted(names(oci, "./img")) == ["ours", "two", "umocis"]


# -- many at once, and killed ----------------------------------------------------------------------


def test_parallel_changes_lose_nothing(oci, img):
    started = [oci.start("image", "tag", "./img:one", f"a{n}", f"b{n}") for n in range(6)]
    started += [oci.start("image", "config", "-t", f"c{n}", "-e", f"N={n}", "./img:two") for n in range(3)]
    started += [oci.start("image", "copy", "./img:one", f"./img:d{n}") for n in range(3)]
    assert [process.wait() for process in started] == [0] * len(started)
    wanted = {
        "one",
        "two",
        *(f"{c}{n}" for c in "ab" for n in range(6)),
        *(f"{c}{n}" for c in "cd" for n in range(3)),
    }
    assert set(names(oci, "./img")) == wanted
    assert oci("image", "fsck", "./img").stdout == ""


def test_killed_loads(oci, img):
    """kill -9 wherever it is: the layout is sound, the next load finishes, and nothing is left over."""
    large(img, "three")
    data = oci("image", "save", "./img:one", "./img:two", "./img:three", binary=True).stdout
    for part in range(1, 9):
        process = oci.start("image", "load", "-", "./new", stdin=subprocess.PIPE)
        process.stdin.write(data[: len(data) * part // 8])  # returns when all but a pipe's worth was read
        process.kill()
        process.wait()
        assert oci("image", "fsck", "./new").stdout == ""
        assert set(names(oci, "./new")) <= {"one", "two", "three"}
    oci("image", "load", "-", "./new", input=data)
    assert set(names(oci, "./new")) == {"one", "two", "three"}
    oci("image", "gc", "--grace", "0", "./new")
    assert oci("image", "fsck", "./new").stdout == ""
    assert sorted(os.listdir(oci.cwd / "new")) == ["blobs", "index.json", "oci-layout"]
    parts = {d["digest"] for name in ("one", "two", "three") for d in manifest.parts(img, img.find(name))}
    assert {f"sha256:{p.name}" for p in (oci.cwd / "new/blobs/sha256").iterdir()} == parts


@pytest.mark.root
def test_a_read_only_layout(oci, img):
    """It can be read in every way; a change says why not."""
    img.close()
    subprocess.run(["mount", "--bind", "-o", "ro", img.path, img.path], check=True)
    try:
        for words in ["ls"], ["fsck"], ["gc"]:
            oci("image", *words, "./img")
        for verb in "inspect", "cat", "config", "history":
            oci("image", verb, "./img:one")
        oci("image", "copy", "./img:one", "./elsewhere")
        for words in ["tag", "./img:one", "x"], ["rm", "./img:one"], ["config", "-e", "A=b", "./img:one"]:
            done = oci("image", *words, code=1)
            assert done.stderr.endswith(": read-only file system\n")
            assert done.stderr.count("\n") == 1
    finally:
        subprocess.run(["umount", img.path], check=True)


# -- indexes ---------------------------------------------------------------------------------------


def platforms(oci, *words):
    found = json.loads(oci("image", "cat", *words).stdout)["manifests"]
    return [manifest.platform_name(d.get("platform") or {}) for d in found]


@pytest.fixture
def arm(tmp_path, img):
    """Images for other platforms beside those of `img`: in another layout, and in an archive."""
    with Layout.create(str(tmp_path / "more")) as layout:
        layout.tag("arm64", image(layout, "arm64", platform="linux/arm64"))
        layout.tag("ppc", image(layout, "ppc", platform="linux/ppc64le"))
        yield layout


def test_index(oci, img, arm):
    oci("image", "copy", "./more:ppc", "oci-archive:ppc.tar")
    printed = oci("image", "index", "create", "-a", "v=1", "./img:all", "./img:one", "./more:arm64").stdout.strip()
    assert printed == handle(img, "all")
    assert platforms(oci, "./img:all") == ["linux/amd64", "linux/arm64"]
    assert oci("image", "index", "add", "./img:all", "oci-archive:ppc.tar").stdout.strip() == handle(img, "all")
    oci("image", "index", "add", "./img:all", "./img:two")
    assert platforms(oci, "./img:all") == ["linux/amd64", "linux/arm64", "linux/ppc64le"]
    entries = manifest.load(img, img.find("all"))["manifests"]
    assert entries[0]["digest"] == img.find("two")["digest"], "in place of the one for the same platform"
    oci("image", "index", "annotate", "-a", "v", "-a", "w=2", "./img:all")
    oci("image", "index", "annotate", "-a", "x=3", "--platform", "linux/arm/v7", "./img:all", entries[1]["digest"])
    found = manifest.load(img, img.find("all"))
    assert found["annotations"] == {"w": "2"}
    assert found["manifests"][1]["annotations"] == {"x": "3"}
    oci("image", "index", "rm", "./img:all", "ppc64le", "linux/arm/v7")
    assert platforms(oci, "./img:all") == ["linux/amd64"]
    img.close()
    assert oci("image", "fsck", "./img").stdout == ""
    oci("image", "gc", "--grace", "0", "./img")
    assert names(oci, "./img") == ["one", "two", "all"]


def test_index_of_indexes(oci, img, arm):
    oci("image", "index", "create", "./img:a", "./img:one", "./more:arm64")
    oci("image", "index", "create", "./img:flat", "./img:a", "./more:ppc")
    assert platforms(oci, "./img:flat") == ["linux/amd64", "linux/arm64", "linux/ppc64le"]
    oci("image", "index", "create", "--nest", "./img:nested", "./img:a", "./more:ppc")
    assert platforms(oci, "./img:nested") == ["", "linux/ppc64le"]
    oci("image", "index", "add", "--beside", "./img:a", "./img:two")
    assert platforms(oci, "./img:a") == ["linux/amd64", "linux/arm64", "linux/amd64"]
    oci("image", "index", "create", "new")
    assert platforms(oci, "new") == []


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["index"], 2, "one of create, add, rm, annotate"),
        (["index", "create", "./img", "./img:one"], 2, "which name in './img' (./img:NAME)"),
        (["index", "create", "oci-archive:x.tar:y", "./img:one"], 2, "not a layout"),
        (["index", "create", "./img:new", "./img:none"], 1, "no such image"),
        (["index", "add", "./img:one", "./img:two"], 1, "it is one image (index create makes one of it)"),
        (["index", "rm", "./img:both", "linux/mips"], 1, "no such entry 'linux/mips'"),
        (["index", "rm", "./img:both", "linux/amd64", "linux/mips"], 1, "no such entry 'linux/mips'"),
        (["index", "rm", "./img:both", "a/b/c/d"], 2, "invalid platform"),
        (["index", "annotate", "./img:both"], 2, "nothing to change"),
        (["index", "annotate", "--platform", "linux/arm", "./img:both"], 2, "which entry"),
        (["index", "add", "--platform", "linux/arm", "./img:both", "./img:one", "./img:two"], 2, "for one image"),
        (["copy", "--format", "docker", "--referrers", "./img:one", "./new"], 2, "exclude each other"),
        (["copy", "--platform", "linux/amd64", "--platform", "linux/arm", "./img:one", "./new"], 1, "not an index"),
        (["copy", "--format", "schema1", "./img:one", "./new"], 2, "schema1"),
        (["diff", "./img:one", "./img:one", "--ignore", "everything"], 2, "nothing to ignore 'everything'"),
        (["diff", "-", "-"], 2, "only one image"),
        (["referrers", "--fields", "x", "./img:one"], 2, "no such field"),
    ],
)
def test_mistakes_with_indexes_change_nothing(oci, img, words, code, why):
    img.tag("both", index(img, img.find("one"), image(img, "3", platform="linux/arm64")))
    test_mistakes_change_nothing(oci, img, words, code, why)
    assert not Path(oci.cwd, "new").exists() or oci("image", "ls", "./new").stdout == ""


def test_many_add_to_one_index(oci, img):
    oci("image", "index", "create", "./img:all")
    started = [
        oci.start("image", "index", "add", "--platform", f"linux/a{n}", "--beside", "./img:all", f"./img:{name}")
        for n, name in enumerate(["one", "two", "one", "two"])
    ]
    assert [process.wait() for process in started] == [0] * len(started)
    assert len(platforms(oci, "./img:all")) == 2, "an image is in it once"


# -- what differs, what refers, what is in it ----------------------------------------------------------


def test_diff(oci, img):
    assert oci("image", "diff", "./img:one", "./img:one").stdout == ""
    rows = table(oci("image", "diff", "--ignore", "time,layer", "./img:one", "./img:two", code=1).stdout)
    assert [row[:3] for row in rows] == [["file", "/one", "removed"], ["file", "/two", "added"]]
    oci("image", "config", "-e", "A=b", "-t", "new", "./img:one")
    oci("image", "save", "-o", "a.tar", "./img:new")
    with open(oci.cwd / "a.tar", "rb") as file:
        done = oci("image", "diff", "--ignore", "time,history", "--fields", "name,b", "./img:one", "-", stdin=file, code=1)
    assert done.stdout == 'config.Env.A\t"b"\n'
    lines = oci("image", "diff", "--json", "./img:one", "oci-archive:a.tar", "--ignore", "config", code=0).stdout
    assert lines == ""
    line = oci("image", "diff", "--json", "--ignore=history,time", "oci-archive:a.tar", "./img:one", code=1).stdout
    assert json.loads(line) == {"kind": "config", "name": "config.Env.A", "what": "removed", "a": '"b"', "b": None}


def test_diff_of_names_that_are_no_text(oci, img):
    layer = tar(("x", b"1"), ("bad\udcff\x1b", b"2"))
    config = configs.with_layer(configs.new("linux/amd64"), digests.of(layer))
    img.tag("bad", configs.store(img, config, [img.put(layer, manifest.OCI_LAYER)]))
    done = oci("image", "diff", "--ignore", "layer,history,time", "./img:one", "./img:bad", binary=True, code=1)
    assert b"/bad\\udcff\\x1b\tadded" in done.stdout
    done = oci("image", "diff", "--json", "./img:one", "./img:bad", binary=True, code=1)
    assert any(json.loads(line)["name"] == "/bad\udcff\x1b" for line in done.stdout.splitlines())


@pytest.fixture
def signed(img):
    """A referrer of `one`, and one of that."""
    made = []
    for to in (img.find("one"), None):
        subject = {key: (to or made[0])[key] for key in ("mediaType", "digest", "size")}
        found = {**manifest.new(img.put(b"{}", manifest.OCI_EMPTY), []), "artifactType": "text/sig", "subject": subject}
        made.append(img.put(document.dumps(found), manifest.OCI_MANIFEST))
        img.tag(None, made[-1])
    return made


def test_referrers(oci, img, signed):
    sig, above = (d["digest"] for d in signed)
    assert table(oci("image", "referrers", "./img:one").stdout) == [[sig, "text/sig", str(signed[0]["size"])]]
    assert oci("image", "referrers", "--artifact-type", "text/x", "./img:one").stdout == ""
    assert json.loads(oci("image", "referrers", "--json", f"./img@{sig}").stdout)["digest"] == above
    rows = table(oci("image", "tree", "./img:one").stdout)
    assert [row[0] for row in rows] == ["image", "  artifact", "    artifact", "      config", "    config", "  config", "  layer"]
    assert [json.loads(line)["depth"] for line in oci("image", "tree", "--json", "./img:one").stdout.splitlines()] == [
        0, 1, 2, 3, 2, 1, 1
    ]  # fmt: skip
    assert rows[0][1] == img.find("one")["digest"]


def test_referrers_come_along(oci, img, signed):
    wanted = {img.find("one")["digest"], *(d["digest"] for d in signed)}
    oci("image", "copy", "--referrers", "./img:one", "./new:app")
    oci("image", "save", "--referrers", "-o", "a.tar", "./img:one")
    oci("image", "load", "a.tar", "./loaded")
    oci("image", "copy", "--referrers", "./img:one", "oci-archive:b.tar:x")
    oci("image", "load", "b.tar", "./again")
    for at in "new", "loaded", "again":
        assert {row[1] for row in table(oci("image", "ls", f"./{at}").stdout)} == wanted
        assert oci("image", "fsck", f"./{at}").stdout == ""
        oci("image", "gc", "--grace", "0", f"./{at}")
        assert len(table(oci("image", "ls", f"./{at}").stdout)) == 3
    oci("image", "copy", "./img:one", "./without")
    assert len(table(oci("image", "ls", "./without").stdout)) == 1


# -- other forms ---------------------------------------------------------------------------------------


def test_formats(oci, img):
    docker = oci("image", "copy", "--format", "docker", "./img:one", "./docker:app").stdout.strip()
    found = json.loads(oci("image", "cat", "./docker:app").stdout)
    assert found["mediaType"] == manifest.DOCKER_MANIFEST
    assert docker.endswith(json.loads(oci("image", "inspect", "./docker:app").stdout)["descriptor"]["digest"])
    oci("image", "copy", "--format", "oci", "./docker:app", "./back")
    assert oci("image", "ls", "--fields", "digest", "./back").stdout.strip() == img.find("one")["digest"]
    oci("image", "save", "--format", "oci", "-o", "a.tar", "./docker:app")
    oci("image", "load", "a.tar", "./loaded")
    assert oci("image", "ls", "--fields", "digest", "./loaded").stdout.strip() == img.find("one")["digest"]
    assert oci("image", "fsck", "./docker").stdout == ""


def test_some_platforms(oci, img, arm):
    oci("image", "index", "create", "./img:all", "./img:one", "./more:arm64", "./more:ppc")
    some = ["--platform", "linux/ppc64le", "--platform", "amd64"]
    oci("image", "copy", *some, "./img:all", "./new:app")
    assert platforms(oci, "./new:app") == ["linux/amd64", "linux/ppc64le"]
    assert oci("image", "fsck", "./new").stdout == ""
    assert len(list(Path(oci.cwd, "new/blobs/sha256").iterdir())) == 7
    oci("image", "save", *some, "--format", "docker", "-o", "a.tar", "./img:all")
    oci("image", "load", "a.tar", "./loaded")
    assert platforms(oci, "./loaded") == ["linux/amd64", "linux/ppc64le"]
    oci("image", "copy", "--platform", "arm64", "./img:all", "./one")
    assert oci("image", "ls", "--fields", "digest", "./one").stdout.strip() == arm.find("arm64")["digest"]


def test_gc_of_the_default_store_takes_layers_that_no_bundle_uses(oci, busybox, tmp_path):
    for name in ("one", "two"):
        oci("unpack", "--overlay", f"{busybox}:latest", name)
    assert oci("image", "gc").stdout == ""
    oci("unpack", "--rm", "one")
    assert oci("image", "gc", "./img", code=None).stdout == "" == oci("image", "gc").stdout
    oci("unpack", "--rm", "two")
    [row] = oci("image", "gc", "-n").stdout.splitlines()
    assert row.startswith("layer\tsha256:") and list((tmp_path / "root/layers/sha256").iterdir())
    assert oci("image", "gc").stdout == row + "\n"
    assert not list((tmp_path / "root/layers/sha256").iterdir())


# -- progress ----------------------------------------------------------------------------------


def on_terminal(oci, columns, *words, **more):
    """What a command draws on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = oci.start("image", *words, stderr=theirs, **more)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 4096):
            said += data
    except OSError:
        pass  # the terminal has gone with its last user
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_progress_on_a_terminal(oci, img, tmp_path, columns):
    with Layout.create(str(tmp_path / "img")) as layout:
        layout.tag("big", image(layout, "x" * (5 << 20)))
    for verb, *words in (("save", "./img:big", "-o", "a.tar"), ("load", "a.tar", "./loaded"), ("copy", "./img:big", "./copied:big")):
        said = on_terminal(oci, columns, verb, *words, stdout=subprocess.DEVNULL)
        drawings = said.split("\x1b[J")[1:]
        assert drawings and all(len(line) < columns for drawing in drawings for line in drawing.split("\x1b")[0].replace("\r", "").splitlines())
        assert drawings[-1].startswith(f"{verb} ") and ("MB" in drawings[-1] or columns < 40)
    said = on_terminal(oci, columns, "load", "-", "./piped", stdin=open(tmp_path / "a.tar", "rb"), stdout=subprocess.DEVNULL)  # noqa: SIM115
    assert "load " in said


def test_progress_without_a_terminal(oci, img, tmp_path):
    """Nothing if nothing is said; plain lines, JSON lines, and the same on a descriptor."""
    assert oci("image", "save", "./img:one", "-o", "a.tar").stderr == ""
    lines = oci("image", "save", "--progress", "plain", "./img:one", "-o", "a.tar").stderr.splitlines()
    assert len(lines) == 3 and all(line.endswith(" done") for line in lines)
    copy = ("image", "copy", "--progress", "json", "./img:one", "./other:one")
    states = [[json.loads(line)["state"] for line in oci(*copy).stderr.splitlines()] for _ in range(2)]
    assert states[0].count("done") == 3 and states[1].count("exists") == 3
    rows = [json.loads(line) for line in oci("image", "load", "--progress=json", "a.tar", "./loaded").stderr.splitlines()]
    size = os.path.getsize(tmp_path / "a.tar")
    assert rows[-1] == {"op": "load", "id": "a.tar", "state": "done", "current": size, "total": size}
    with open(tmp_path / "status", "wb") as file:
        oci("image", "load", "--status-fd", str(file.fileno()), "a.tar", "./again", pass_fds=(file.fileno(),))
    assert [json.loads(line) for line in (tmp_path / "status").read_text().splitlines()][-1] == rows[-1]
    for words in (("pull", "./img:one", "./p"), ("push", "./img:one", "./q"), ("pull", "oci-archive:a.tar", "dir:d")):
        assert oci(words[0], "--progress", "plain", *words[1:]).stderr.count(" done\n") == 3
