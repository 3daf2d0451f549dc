"""Images made of images: less layers, other bases, without paths; what they unpack to stays what it was."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools.bundle import Image, rework
from oci_tools.bundle.pack import Options
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import manifest
from oci_tools.image.layout import Layout
from oci_tools.layer import merge, owner
from oci_tools.layer.limits import Limits
from tests.bundle.test_flat import ENTRIES, image, lines
from tests.layer import listing

pytestmark = pytest.mark.root


def inspect(oci: Any, word: str) -> Any:
    return json.loads(oci("image", "inspect", word).stdout)


@pytest.mark.needs("umoci", "skopeo")
def test_other_tools_take_what_is_made(oci: Any, img: Path) -> None:
    oci("pack", "--squash", "--base", "./img:base", "./img:app", "./img:s")
    oci("pack", "--rebase", "./img:next", "--base", "./img:base", "./img:s", "./img:r", "--strip", "app/x")
    oci("unpack", "./img:r", "ours")
    oci.shell("umoci unpack --image ./img:r theirs && skopeo copy -q oci:img:r oci:copy:r")
    assert listing.tree(img / "ours/rootfs") == listing.tree(img / "theirs/rootfs")
    assert "x" not in os.listdir(img / "ours/rootfs/app")


@pytest.fixture
def img(oci: Any, tmp_path: Path) -> Path:
    """./img: `base` of one layer, `app` of two more, a hard link and a whiteout in them; `next` another base."""
    tree = tmp_path / "t"
    (tree / "etc").mkdir(parents=True)
    for name in ("keep", "gone", "linked"):
        (tree / "etc" / name).write_text(name)
    oci("pack", "t", "./img:base", "--env", "A=1", "--comment", "base")
    oci("unpack", "./img:base", "b1")
    (tmp_path / "b1/rootfs/etc/gone").unlink()
    (tmp_path / "b1/rootfs/app").mkdir()
    (tmp_path / "b1/rootfs/app/secret").write_text("secret")
    (tmp_path / "b1/rootfs/app/x").write_text("x")
    oci("pack", "b1", "./img:mid", "--comment", "one")
    oci("unpack", "./img:mid", "b2")
    (tmp_path / "b2/rootfs/app/secret").unlink()
    (tmp_path / "b2/rootfs/app/y").write_text("y")
    os.link(tmp_path / "b2/rootfs/app/y", tmp_path / "b2/rootfs/app/z")
    oci("pack", "b2", "./img:app", "--cmd", "app", "--comment", "two")
    (tree / "etc/newer").write_text("newer")
    oci("pack", "t", "./img:next", "--env", "A=2")
    return tmp_path


def same(oci: Any, one: str, two: str, tmp_path: Path) -> None:
    for name, word in (("l", one), ("r", two)):
        oci("unpack", word, name)
    assert listing.tree(tmp_path / "l/rootfs") == listing.tree(tmp_path / "r/rootfs")
    for name in ("l", "r"):
        oci("unpack", "--rm", name)


def test_squash_keeps_the_base(oci: Any, img: Path) -> None:
    oci("pack", "--squash", "--base", "./img:base", "./img:app", "./img:s", "--comment", "merged")
    made, base = inspect(oci, "./img:s"), inspect(oci, "./img:base")
    assert made["manifest"]["layers"][:-1] == base["manifest"]["layers"] and len(made["manifest"]["layers"]) == 2
    history = made["config"]["history"]
    assert [entry.get("comment") for entry in history] == ["base", "one", "two", "merged"]
    assert [bool(entry.get("empty_layer")) for entry in history] == [False, True, True, False]
    same(oci, "./img:app", "./img:s", img)
    top = made["manifest"]["layers"][1]["digest"].partition(":")[2]
    names = subprocess.run(["tar", "-tzf", img / f"img/blobs/sha256/{top}"], check=True, capture_output=True, text=True).stdout
    assert sorted(names.split()) == ["app/", "app/x", "app/y", "app/z", "etc/", "etc/.wh.gone"]


def test_flatten(oci: Any, img: Path) -> None:
    oci("pack", "--flatten", "./img:app", "./img:f", "-l", "a=b")
    made = inspect(oci, "./img:f")
    assert len(made["manifest"]["layers"]) == len(made["config"]["rootfs"]["diff_ids"]) == 1
    assert made["config"]["config"] == {"Cmd": ["app"], "Env": ["A=1"], "Labels": {"a": "b"}}
    same(oci, "./img:app", "./img:f", img)
    assert oci("pack", "--flatten", "./img:f", "./img:f2").stdout == oci("pack", "--flatten", "./img:f", "./img:f3").stdout


def test_rebase(oci: Any, img: Path) -> None:
    oci("pack", "--rebase", "./img:next", "--base", "./img:base", "./img:app", "./img:r")
    made, app, new = (inspect(oci, f"./img:{name}") for name in ("r", "app", "next"))
    assert made["manifest"]["layers"] == new["manifest"]["layers"] + app["manifest"]["layers"][1:]
    assert made["config"]["config"] == app["config"]["config"]
    assert [entry.get("comment") for entry in made["config"]["history"]] == [None, "one", "two"]
    assert oci("unpack", "--path", "etc/newer", "./img:r", "-").stdout == "newer"
    assert oci("pack", "--rebase", "./img:base", "--base", "./img:next", "./img:r", "./img:back").stdout == oci(
        "pack", "--rebase", "./img:base", "--base", "./img:base", "./img:app", "./img:app2"
    ).stdout
    done = oci("pack", "--rebase", "./img:base", "--base", "./img:next", "./img:app", "./img:no", code=1)
    assert "not the base of the image" in done.stderr


def test_strip(oci: Any, img: Path) -> None:
    oci("pack", "--strip", "/app/secret", "./img:app", "./img:s", "--base", "./img:base")
    made, app = inspect(oci, "./img:s"), inspect(oci, "./img:app")
    assert [a == b for a, b in zip(made["manifest"]["layers"], app["manifest"]["layers"], strict=True)] == [True, False, True]
    same(oci, "./img:app", "./img:s", img)
    for layer in made["manifest"]["layers"]:
        blob = img / "img/blobs" / layer["digest"].replace(":", "/")
        assert b"secret" not in subprocess.run(["tar", "-xzOf", blob], check=True, capture_output=True).stdout
    before = oci("pack", "--strip", "nothing", "./img:app", "./img:t").stdout.partition("@")[2].strip()
    assert ["app", before] in [line.split("\t")[:2] for line in oci("image", "ls", "./img").stdout.splitlines()]
    assert "is a hard link to it" in oci("pack", "--strip", "app/y", "./img:app", "./img:s", code=1).stderr


def test_retime(oci: Any, img: Path) -> None:
    os.utime(img / "b2/rootfs/app/x", (2_000_000_000, 2_000_000_000))
    oci("pack", "b2", "./img:late")
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    oci("pack", "--retime", "--base", "./img:base", "./img:late", "./img:r", env=env)
    made, base = inspect(oci, "./img:r"), inspect(oci, "./img:base")
    assert made["manifest"]["layers"][0] == base["manifest"]["layers"][0]
    assert made["config"]["created"] == "2023-11-14T22:13:20Z"
    assert [entry["created"] <= "2023-11-14T22:13:20Z" for entry in made["config"]["history"]] == [False, True, True]
    oci("unpack", "./img:r", "o")
    assert (img / "o/rootfs/app/x").stat().st_mtime == 1_700_000_000
    assert (img / "o/rootfs/etc/keep").stat().st_mtime > 1_700_000_000
    assert oci("pack", "--retime", "--base", "./img:base", "./img:r", "./img:r2", env=env).stdout.split("@")[1] in oci(
        "image", "ls", "./img"
    ).stdout
    assert "needs SOURCE_DATE_EPOCH" in oci("pack", "--retime", "./img:r", "./img:r2", code=2).stderr


@pytest.mark.parametrize("words", [["--retime"], ["--strip", "app/x"], ["--squash", "--base", "./img:base"], ["--flatten"]])
@pytest.mark.parametrize("what", ["diff id", "blob"])
def test_what_is_not_what_its_digest_says_does_not_become_right(words: list[str], what: str, oci: Any, img: Path) -> None:
    made = inspect(oci, "./img:app")
    if what == "blob":
        blob = img / "img/blobs" / made["manifest"]["layers"][2]["digest"].replace(":", "/")
        data = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(data[:4] + b"time" + data[8:])  # the same content, of another time in gzip's header
    with Layout.open(f"{img}/img") as layout:
        ids = made["config"]["rootfs"]["diff_ids"]
        if what == "diff id":
            ids[2] = f"sha256:{'0' * 64}"
        config = {**made["config"], "rootfs": {"type": "layers", "diff_ids": ids}}
        layout.tag("wrong", configs.store(layout, config, made["manifest"]["layers"]))
    before = oci("image", "ls", "./img").stdout
    done = oci("pack", *words, "./img:wrong", "./img:n", code=1, env={"SOURCE_DATE_EPOCH": "1000000000"})
    assert done.stderr.startswith("oci-pack: wrong ")
    assert done.stderr.count("\n") == 1 and oci("image", "ls", "./img").stdout == before


def test_append_and_split(oci: Any, img: Path) -> None:
    (img / "more/opt/a").mkdir(parents=True)
    for name in ("opt/a/f", "opt/g", "h"):
        (img / "more" / name).write_text(name)
    oci("pack", "--append", "more", "./img:base", "--split", "opt/a", "--split", "opt", "--cmd", "x")
    made = inspect(oci, "./img:base")
    assert len(made["manifest"]["layers"]) == 4 and made["config"]["config"]["Cmd"] == ["x"]
    found = []
    for layer in made["manifest"]["layers"][1:]:
        blob = img / "img/blobs" / layer["digest"].replace(":", "/")
        found.append(subprocess.run(["tar", "-tzf", blob], check=True, capture_output=True, text=True).stdout.split())
    assert found == [["h"], ["opt/", "opt/a/", "opt/a/f"], ["opt/", "opt/g"]]


def test_the_history_above_the_base(oci: Any, img: Path) -> None:
    """What was done to an image before its first own layer is its own, and nothing is told of fewer layers than there are."""
    oci("image", "config", "./img:base", "-t", "own", "-e", "B=2", "--comment", "env")
    (img / "more").mkdir()
    (img / "more/f").write_text("f")
    oci("pack", "--append", "more", "./img:own", "--comment", "own")
    oci("pack", "--rebase", "./img:next", "--base", "./img:base", "./img:own", "./img:r")
    assert told(oci, "./img:r", "comment") == [None, "env", "own"]
    env = {"SOURCE_DATE_EPOCH": "1600000000"}
    oci("pack", "--retime", "--base", "./img:base", "./img:own", "./img:t", env=env)
    assert [time < "2020-09-14" for time in told(oci, "./img:t", "created")] == [False, True, True]
    oci("pack", "--retime", "./img:own", "./img:t", env=env)
    assert [time < "2020-09-14" for time in told(oci, "./img:t", "created")] == [True, True, True]
    oci("pack", "--flatten", "./img:own", "./img:f", env=env)
    assert inspect(oci, "./img:f")["config"]["created"] == told(oci, "./img:f", "created")[-1] == "2020-09-13T12:26:40Z"
    oci("image", "config", "./img:app", "-t", "bare", "--clear", "history", "--no-history")
    oci("pack", "--rebase", "./img:next", "--base", "./img:base", "./img:bare", "./img:r")
    assert told(oci, "./img:r", "comment") == [None, "unknown", "unknown"]


def told(oci: Any, word: str, member: str) -> list[str]:
    return [entry.get(member) for entry in inspect(oci, word)["config"]["history"]]


def test_a_layer_of_which_nothing_is_left_is_left_out(oci: Any, img: Path) -> None:
    (img / "more/opt").mkdir(parents=True)
    (img / "more/opt/f").write_text("f")
    oci("pack", "--append", "more", "./img:app", "--comment", "three")
    oci("pack", "--strip", "opt", "./img:app", "./img:s", "--base", "./img:base")
    made, app = inspect(oci, "./img:s"), inspect(oci, "./img:app")
    assert made["manifest"]["layers"] == app["manifest"]["layers"][:-1]
    assert [bool(entry.get("empty_layer")) for entry in made["config"]["history"]] == [False, False, False, True]
    assert oci("unpack", "./img:s", "o").stdout


def test_the_base_of_another_kind(oci: Any, img: Path) -> None:
    """Layers get the type that the image's kind of manifest has; Docker's has no annotations."""
    with Layout.open(f"{img}/img") as layout:
        for name in ("base", "app"):
            made = Image(layout, layout.find(name))
            layers = [{**layer, "mediaType": manifest.DOCKER_LAYER + ".gzip"} for layer in made.layers]
            layout.tag(f"d{name}", configs.store(layout, made.config, layers, None, manifest.DOCKER_MANIFEST))
    oci("pack", "--rebase", "./img:next", "--base", "./img:dbase", "./img:dapp", "./img:r")
    made = inspect(oci, "./img:r")["manifest"]
    assert {layer["mediaType"] for layer in made["layers"]} == {manifest.DOCKER_LAYER + ".gzip"} and "annotations" not in made
    oci("pack", "--rebase", "./img:dbase", "--base", "./img:base", "./img:app", "./img:r")
    made = inspect(oci, "./img:r")["manifest"]
    assert {layer["mediaType"] for layer in made["layers"]} == {manifest.OCI_LAYER + "+gzip"}
    assert list(made["annotations"]) == ["org.opencontainers.image.base.digest"]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["--squash", "./img:app", "./img:n"], "need --base", 2),
        (["--flatten", "--base", "./img:base", "./img:app", "./img:n"], "leaves no base", 2),
        (["--flatten", "t", "./img:n"], "no such image", 1),
        (["--append", "--base", "./img:base", "t", "./img:app"], "its own base", 2),
        (["--append", "t", "./img:none"], "no such image", 1),
        (["--split", "x", "b1", "./img:n"], "only a directory", 2),
        (["--split", "etc", "--split", "no/x", "t", "./img:n"], "cannot split off 'no/x': there is no such path in 't'", 1),
        (["--split", "l/x", "t", "./img:n"], "cannot split off 'l/x'", 1),
        (["--append", "--flatten", "./img:app", "./img:n"], "are for trees", 2),
    ],
)
def test_what_makes_no_sense(words: list[str], said: str, code: int, oci: Any, img: Path) -> None:
    before = oci("image", "ls", "./img").stdout
    done = oci("pack", *words, code=code)
    assert said in done.stderr and done.stderr.count("\n") == 1 and oci("image", "ls", "./img").stdout == before


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ENTRIES, max_size=5), min_size=2, max_size=4), st.integers(0, 2))
def test_any_layers_squashed(tmp_path: Path, layers: list[list[str]], keep: int) -> None:
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    with Layout.create(f"{place}/img") as layout:
        whole, base = image(layout, *layers), image(layout, *layers[:keep])
        try:
            merge.flatten(whole.sources(), f"{place}/t", owner.for_process(), Limits())
        except Error:
            return
        work = rework.Work(whole, base if keep else None, Options(), Limits())
        work.squash()
        made = type(whole)(layout, work.done())
        assert made.diff_ids[:keep] == whole.diff_ids[:keep] and len(made.diff_ids) == keep + (len(layers) > keep)
        merge.flatten(made.sources(), f"{place}/s", owner.for_process(), Limits())
    assert [plain(line) for line in lines(place / "s")] == [plain(line) for line in lines(place / "t")]


def plain(line: str) -> str:
    """Without which names are one file: of the base's they are copies; and without implied directories' times."""
    return line.rpartition(" ")[0].replace(" 0.000000000", " ")
