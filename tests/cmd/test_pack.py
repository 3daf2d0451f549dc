"""oci-pack, by its words."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Answer, Fake


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "etc").mkdir(parents=True)
    (path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    os.utime(path / "etc/passwd", (1_700_000_000, 1_700_000_000))
    return path


def inspect(oci: Any, word: str) -> Any:
    return json.loads(oci("image", "inspect", word).stdout)


def test_the_handle_is_printed_and_named(oci: Any, tree: Path, tmp_path: Path) -> None:
    handle = oci("pack", "tree", "./img:app").stdout.strip()
    assert handle.startswith(f"{tmp_path}/img@sha256:")
    assert oci("image", "ls", "./img").stdout.split() == ["app", handle.partition("@")[2]]
    assert oci("pack", "tree", "./img").stdout.strip() == handle
    assert oci("image", "ls", "./img").stdout.split()[2] == "latest"


def test_a_name_in_the_default_store(oci: Any, tree: Path, tmp_path: Path) -> None:
    oci("pack", "tree", "img:app")
    assert "docker.io/library/img:app" in oci("image", "ls").stdout
    assert not (tmp_path / "img").exists()


def test_what_the_image_says(oci: Any, tree: Path) -> None:
    oci(
        "pack", "tree", "./img:app", "--entrypoint", '["/bin/sh", "-c"]', "--cmd", "id", "-e", "A=b", "--env", "C=d=e",
        "-u", "1:2", "-w", "/etc", "-l", "l=m", "-a", "n=o", "--expose", "80/tcp", "--volume", "/data", "--stop-signal",
        "SIGINT", "--author", "me", "--comment", "why", "--platform", "linux/arm64",
    )  # fmt: skip
    found = inspect(oci, "./img:app")
    assert found["config"]["config"] == {
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id"], "Env": ["A=b", "C=d=e"], "User": "1:2", "WorkingDir": "/etc",
        "Labels": {"l": "m"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
    }  # fmt: skip
    assert (found["config"]["author"], found["config"]["architecture"]) == ("me", "arm64")
    assert found["manifest"]["annotations"] == {"n": "o"}
    assert found["config"]["history"][0]["comment"] == "why"


def test_the_same_every_time_and_everywhere(oci: Any, tree: Path, tmp_path: Path) -> None:
    one = oci("pack", "tree", "./one:x").stdout.partition("@")[2]
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    taskset = ["taskset", "-c", "0", str(oci.bin / "oci-pack"), f"{tmp_path}/copy", "./two:y"]
    done = subprocess.run(taskset, env=oci.environment({"TZ": "Asia/Tokyo", "LANG": "C"}), cwd="/", capture_output=True)
    if done.returncode == 0:
        subprocess.run(["rm", "-r", "/two"], check=True)
    assert done.stdout.decode().partition("@")[2] == one
    assert oci("pack", "tree", "./three:x", "--compatibility", "2").stdout.partition("@")[2] == one


def test_what_an_earlier_compatibility_level_says(oci: Any, tree: Path) -> None:
    (tree / "large").write_bytes(random.Random(1).randbytes(1 << 19) + bytes(1 << 19))
    by_level = [oci("pack", "tree", f"./{n}:x", *words).stdout.partition("@")[2] for n, words in enumerate([
        (), ("--compatibility", "1"), ("--level", "2"), ("--level", "2", "--compatibility", "2"), ("--compatibility", "2"),
    ])]  # fmt: skip
    assert by_level[0] == by_level[4] != by_level[1] == by_level[2] == by_level[3]


def test_source_date_epoch(oci: Any, tree: Path, tmp_path: Path) -> None:
    (tree / "new").touch()
    handles = {oci("pack", "tree", "./img:x", env={"SOURCE_DATE_EPOCH": "1600000000"}).stdout}
    os.utime(tree / "new")
    handles.add(oci("pack", "tree", "./img:x", env={"SOURCE_DATE_EPOCH": "1600000000"}).stdout)
    assert len(handles) == 1
    assert inspect(oci, "./img:x")["config"]["created"] == "2020-09-13T12:26:40Z"
    for text in ("now", "253402300800", "9" * 5000):
        done = oci("pack", "tree", "./img:x", env={"SOURCE_DATE_EPOCH": text}, code=2)
        assert done.stderr == f"oci-pack: not a time '{text}' (SOURCE_DATE_EPOCH is seconds since 1970)\n"


def test_no_image_was_made_later_than_can_be_told(oci: Any, tmp_path: Path) -> None:
    """A file's time may be of any year, that of an image has four digits: RFC 3339, and Go's reader of it."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("f")
        entry.pax_headers["mtime"] = "253402300801"
        archive.addfile(entry)
    oci("pack", "x.tar", "./img:x")
    assert inspect(oci, "./img:x")["config"]["created"] == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize("compress", [None, "gzip", "zstd", "bzip2"])
@pytest.mark.parametrize("how", ["stdin", "file"])
def test_archives(compress: str | None, how: str, oci: Any, tree: Path, tmp_path: Path) -> None:
    data = subprocess.run(["tar", "-c", "tree"], cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout
    if compress:
        data = subprocess.run([compress, "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    (tmp_path / "archive").write_bytes(data)
    operand, more = ("-", {"input": data}) if how == "stdin" else ("archive", {})
    if compress == "bzip2":
        assert "bzip2 compression is none" in oci("pack", operand, "./img:x", code=1, **more).stderr
        assert not (tmp_path / "img").exists()
        return
    oci("pack", operand, "./img:x", **more)
    oci("unpack", "./img:x", "b")
    assert (tmp_path / "b/rootfs/tree/etc/passwd").exists()


def test_an_archive_of_a_server(oci: Any, tree: Path, tmp_path: Path) -> None:
    data = subprocess.run(["tar", "-c", "tree"], cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout
    with Fake() as fake:
        url = f"http://{fake.host}/a.tar"
        fake.on("GET", "/a.tar", Answer(200, {}, data))
        oci("pack", url, "./img:x")
        oci("pack", "-", "./img:y", input=data)
        assert inspect(oci, "./img:x")["manifest"] == inspect(oci, "./img:y")["manifest"]
        fake.on("GET", "/a.tar", Answer(200, {"Content-Length": str(len(data))}, data, cut=600))
        assert oci("pack", url, "./img:z", code=75).stderr.count("\n") == 1
        fake.on("GET", "/a.tar", Answer(404, {}, b""))
        assert f"cannot fetch '{url}': the server answered 404" in oci("pack", url, "./img:z", code=1).stderr


@pytest.mark.parametrize("form", ["gnu", "posix"])
@pytest.mark.parametrize("pieces", [1, 4, 60])
def test_files_with_holes(form: str, pieces: int, oci: Any, tree: Path, tmp_path: Path) -> None:
    """GNU tar's old form too: in a layer everybody refuses it, but it is what `tar -S` writes."""
    with open(tree / "holes", "wb") as file:
        for at in range(pieces):
            os.pwrite(file.fileno(), b"x" * 4096, at * 131072 + 65536)
        os.truncate(file.fileno(), pieces * 131072 + 1000)
    data = subprocess.run(["tar", "-cS", f"--format={form}", "tree"], cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout
    assert (b"GNU.sparse" in data) == (form == "posix") and len(data) < 500_000
    oci("pack", "-", "./img:x", input=data)
    assert oci("unpack", "./img:x", "--path", "tree/holes", "-", binary=True).stdout == (tree / "holes").read_bytes()
    assert oci("unpack", "./img:x", "--path", "tree/etc/passwd", "-").stdout.startswith("root")


@pytest.mark.root
def test_a_container(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci.preload("docker.io/library/busybox:latest", busybox)
    container = oci("run", "new", "--name", "web", "-v", "/own", "busybox", "sh", "-c", "echo hi > /new; echo no > /own/x").stdout.strip()
    oci("run", "start", "-a", "web")
    for at, word in enumerate(("web", container, container[:12])):
        oci("pack", word, f"./img:x{at}")
    assert len({line.split("\t")[1] for line in oci("image", "ls", "--fields", "name,digest", "./img").stdout.splitlines()}) == 1
    layer = inspect(oci, "./img:x0")
    assert len(layer["config"]["rootfs"]["diff_ids"]) == 2
    assert oci("unpack", "./img:x0", "--path", "new", "-").stdout == "hi\n"
    oci("unpack", "./img:x0", "--path", "own/x", "-", code=1)
    (tmp_path / "web").mkdir()  # a directory of that name comes first
    oci("pack", "web", "./img:y")
    assert len(inspect(oci, "./img:y")["config"]["rootfs"]["diff_ids"]) < 2
    oci("run", "rm", "-v", "web")


def test_a_layout_in_the_tree_is_left_out(oci: Any, tree: Path) -> None:
    outside = oci("pack", "tree", "./img:x").stdout.partition("@")[2]
    for _ in range(2):
        done = oci("pack", ".", "./img:x", cwd=tree)
        assert done.stderr == f"oci-pack: warning: the layout '{tree}/img' is left out\n"
        assert done.stdout.partition("@")[2] == outside
    assert "into itself" in oci("pack", "img", "./img:x", cwd=tree, code=2).stderr


def test_a_base(oci: Any, tree: Path, tmp_path: Path) -> None:
    oci("pack", "tree", "./base:x", "--cmd", "a", "--env", "A=1")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/file").touch()
    oci("pack", "more", "./img:y", "--base", "./base:x", "--env", "B=2")
    found = inspect(oci, "./img:y")
    assert len(found["manifest"]["layers"]) == len(found["config"]["rootfs"]["diff_ids"]) == len(found["config"]["history"]) == 2
    assert found["config"]["config"] == {"Cmd": ["a"], "Env": ["A=1", "B=2"]}
    oci("unpack", "./img:y", "b")
    assert sorted(os.listdir(tmp_path / "b/rootfs")) == ["etc", "file"]


def test_the_annotations_tell_of_the_base(oci: Any, tree: Path) -> None:
    def said(image: str) -> dict[str, str]:
        return {name.rpartition("image.")[2]: text for name, text in (inspect(oci, image)["manifest"].get("annotations") or {}).items()}

    named = oci("pack", "tree", "a/base:1").stdout.strip().partition("@")[2]
    other = oci("pack", "tree", "./img:base", "--cmd", "other").stdout.strip().partition("@")[2]
    oci("pack", "tree", "./img:x", "--base", "a/base:1", "-a", "k=v")
    assert said("./img:x") == {"base.name": "docker.io/a/base:1", "base.digest": named, "k": "v"}
    oci("pack", "tree", "./img:y", "--base", "./img:x")
    assert set(said("./img:y")) == {"base.digest", "k"} and said("./img:y")["base.digest"] != named
    oci("pack", "tree", "./img:x", "--append")
    assert said("./img:x")["base.digest"] == named
    oci("pack", "--rebase", "./img:base", "--base", "a/base:1", "./img:x", "./img:z")
    assert said("./img:z") == {"base.digest": other, "k": "v"}
    oci("pack", "--flatten", "./img:z", "./img:z")
    assert said("./img:z") == {"k": "v"}


def test_a_bundles_changes(oci: Any, tree: Path, tmp_path: Path) -> None:
    first = oci("pack", "tree", "./img:x").stdout
    oci("unpack", "./img:x", "b")
    assert oci("pack", "b", "./img:same").stdout == first
    (tmp_path / "b/rootfs/etc/passwd").unlink()
    oci("pack", "b", "./img:y")
    found = inspect(oci, "./img:y")
    assert len(found["manifest"]["layers"]) == 2
    oci("pack", "b", "./img:z", "--mask", "/etc")
    assert inspect(oci, "./img:z")["manifest"]["layers"] == found["manifest"]["layers"][:1]


def test_refreshed_a_bundle_is_of_the_new_image(oci: Any, tree: Path, tmp_path: Path) -> None:
    oci("pack", "tree", "./img:x")
    oci("unpack", "./img:x", "b")
    for at in range(3):
        (tmp_path / f"b/rootfs/{at}").touch()
        handle = oci("pack", "--refresh", "b", "./img:x").stdout
        assert len(inspect(oci, "./img:x")["manifest"]["layers"]) == at + 2
        assert oci("pack", "b", "./img:same").stdout == handle, "nothing has changed since"
    (tmp_path / "b/rootfs/1").unlink()
    oci("pack", "--refresh", "b", "./img:x")
    assert sorted(os.listdir(tmp_path / "b"))[0] == ".oci-unpack.json" and len(os.listdir(tmp_path / "b")) == 4
    oci("unpack", "./img:x", "again")
    assert sorted(os.listdir(tmp_path / "again/rootfs")) == ["0", "2", "etc"]
    assert json.loads((tmp_path / "b/.oci-unpack.json").read_text())["name"] == "x"


def test_what_cannot_be_refreshed(oci: Any, tree: Path, tmp_path: Path) -> None:
    oci("pack", "tree", "./img:x")
    assert "only a bundle can be refreshed" in oci("pack", "--refresh", "tree", "./img:y", code=2).stderr
    oci("unpack", "--overlay", "./img:x", "o")
    assert "its layers are in the store" in oci("pack", "--refresh", "o", "./img:y", code=1).stderr
    oci("unpack", "./img:x", "b")
    (tmp_path / "b/rootfs/.wh.a").touch()
    oci("pack", "--refresh", "b", "./img:y", code=1)
    assert sorted(os.listdir(tmp_path / "b")) == [".oci-unpack.json", ".oci-unpack.snapshot", "config.json", "rootfs"]


def test_levels_and_compressions(oci: Any, tree: Path) -> None:
    (tree / "big").write_bytes(b"".join(b"line %d\n" % at for at in range(50_000)))
    sizes = {}
    for words in (["gzip", "1"], ["gzip", "9"], ["zstd", "1"], ["zstd", "15"]):
        oci("pack", "tree", "./img:x", "--compression", words[0], "--level", words[1])
        [layer] = inspect(oci, "./img:x")["manifest"]["layers"]
        assert layer["mediaType"].endswith(f"+{words[0]}")
        sizes[" ".join(words)] = layer["size"]
    assert sizes["gzip 1"] > sizes["gzip 9"] and sizes["zstd 1"] != sizes["zstd 15"]
    oci("pack", "tree", "./img:x", "--compression", "none")
    assert inspect(oci, "./img:x")["manifest"]["layers"][0]["mediaType"].endswith(".tar")


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["nothing", "./img:x"], "cannot open 'nothing': no such file or directory", 1),
        (["tree", "docker://x"], "not a place in a layout", 2),
        (["tree", "./img:x", "--level", "10"], "unknown compression level '10'", 1),
        (["tree", "./img:x", "--compatibility", "3"], "no such compatibility level '3'", 2),
        (["tree", "./img:x", "--base", "./none:x"], "cannot open image layout", 1),
        (["tree", "./img:x", "--base", "-"], "cannot come from standard input", 2),
        (["tree", "./img:x", "--cmd", "[1]"], "not a list of words", 2),
        (["tree"], "missing argument 'image'", 2),
        (["b", "./img:x", "--base", "./img:x"], "has its own base", 2),
        (["tree/etc/passwd", "./img:x"], "cannot read tar", 1),
        (["tree", "./img:x", "--mask", "/"], "all of the image would be left out '/'", 2),
        (["./img:old", "./img:x", "--strip", "etc/.."], "all of the image would be left out 'etc/..'", 2),
    ],
)
def test_errors_are_one_line(words: list[str], said: str, code: int, oci: Any, tree: Path) -> None:
    oci("pack", "tree", "./img:old")
    oci("unpack", "./img:old", "b")
    before = oci("image", "ls", "./img").stdout
    done = oci("pack", *words, code=code)
    assert said.lower() in done.stderr.lower() and done.stderr.count("\n") == 1 and done.stdout == ""
    assert oci("image", "ls", "./img").stdout == before


@pytest.mark.parametrize("words", [["nothing"], ["-"], ["tree", "--level", "10"], ["tree", "--base", "./none:x"]])
def test_what_fails_makes_no_layout(words: list[str], oci: Any, tree: Path) -> None:
    oci("pack", *words, "./fresh/img:x", input="no archive", code=1)
    assert os.listdir(tree.parent / "fresh") == []
    oci("pack", "tree", "./img:x")
    before = sorted(os.listdir(tree.parent / "img"))
    oci("pack", *words, "./img:y", input="no archive", code=1)
    assert sorted(os.listdir(tree.parent / "img")) == before


@pytest.mark.root
@pytest.mark.needs("umoci")
def test_umoci_unpacks_what_we_pack(oci: Any, tree: Path, tmp_path: Path) -> None:
    (tree / ("n" * 150)).mkdir()
    (tree / "é").write_text("x")
    os.link(tree / "é", tree / "hard")
    os.symlink("é", tree / "link")
    oci("pack", "tree", "./img:x")
    oci("unpack", "./img:x", "b")
    (tmp_path / "b/rootfs/hard").unlink()
    (tmp_path / "b/rootfs/etc/new").touch()
    oci("pack", "b", "./img:y")
    oci("unpack", "./img:y", "ours")
    subprocess.run(["umoci", "unpack", "--image", tmp_path / "img:y", tmp_path / "umoci"], check=True)
    from tests.layer import listing

    assert listing.tree(tmp_path / "ours/rootfs") == listing.tree(tmp_path / "umoci/rootfs")
