"""Bad input, end to end: one clear line, the documented exit code, nothing half-made left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import images


@pytest.fixture
def layout(tmp_path: Path, busybox: Path) -> Path:
    """A copy of the busybox image that may be spoiled."""
    return Path(shutil.copytree(busybox, tmp_path / "img"))


@pytest.fixture
def refused(oci: Any, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must fail: its one line, without the command's name; what was there is all that is."""

    def run(name: str, *words: str, code: int = 1, **more: Any) -> str:
        before = sorted(os.listdir(more.get("cwd", tmp_path)))
        done = oci(name, *words, code=code, **more)
        assert done.stdout == ""
        errors = [line for line in done.stderr.splitlines(True) if not line.startswith(f"oci-{name}: warning: ")]
        head, _, said = "".join(errors).partition(": ")
        assert head == f"oci-{name}"
        assert said.endswith("\n") and said.count("\n") == 1 and not said.endswith(".\n")
        assert said[0].islower()
        assert sorted(os.listdir(more.get("cwd", tmp_path))) == before
        return str(said)

    return run


def spoil(path: Path, data: Callable[[bytes], bytes]) -> None:
    path.write_bytes(data(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1000] + b"x" + data[-999:],
        lambda data: data + b"x",
        lambda data: data[:-1000],
        lambda data: b"",
        lambda data: b"x" * len(data),
    ],
    ids=["digest", "longer", "truncated", "empty", "garbage"],
)
def test_a_layer_that_is_not_what_the_manifest_says(
    change: Callable[[bytes], bytes], layout: Path, refused: Callable[..., str]
) -> None:
    spoil(images.layers(layout)[0], change)
    said = refused("unpack", "./img", "./b")
    assert images.layers(layout)[0].name[:12] in said


def test_a_missing_blob(layout: Path, refused: Callable[..., str]) -> None:
    images.layers(layout)[0].unlink()
    refused("unpack", "./img", "./b")


def test_a_manifest_of_unknown_type(layout: Path, refused: Callable[..., str]) -> None:
    spoil(layout / "index.json", lambda data: data.replace(b"image.manifest.v1+json", b"image.poem.v1+json"))
    assert "poem" in refused("unpack", "./img", "./b")


def test_an_index_that_is_no_json(layout: Path, refused: Callable[..., str]) -> None:
    spoil(layout / "index.json", lambda data: data[:-1])
    assert "index.json" in refused("unpack", "./img", "./b")


@pytest.mark.parametrize("name", ["unpack", "spec"])
def test_a_tag_that_does_not_exist(name: str, layout: Path, refused: Callable[..., str]) -> None:
    words = {"unpack": ["./img:nope", "./b"], "spec": ["new", "./img:nope"]}[name]
    assert "nope" in refused(name, *words)


def test_a_tag_that_the_registry_does_not_have(registry: Any, refused: Callable[..., str]) -> None:
    assert "none" in refused("pull", f"{registry.host}/none:nope", "./copy")


def test_a_registry_that_is_down(layout: Path, refused: Callable[..., str]) -> None:
    assert "connection refused" in refused("pull", "127.0.0.1:1/app", "./copy", code=75)
    assert "connection refused" in refused("push", "./img:latest", "127.0.0.1:1/app", code=75)


# -- bundles -----------------------------------------------------------------------------


@pytest.fixture
def bundle(oci: Any, layout: Path, tmp_path: Path) -> Path:
    oci("unpack", "./img", "./b")
    return tmp_path / "b"


def change(bundle: Path, edit: Callable[[Any], Any]) -> None:
    spec = json.loads((bundle / "config.json").read_text())
    edit(spec)
    (bundle / "config.json").write_text(json.dumps(spec))


def test_a_configuration_with_a_wrong_type(bundle: Path, refused: Callable[..., str]) -> None:
    change(bundle, lambda spec: spec["process"].update(args=["sh", 7]))
    assert "process.args[1]" in refused("run", "run", "-b", "./b", "c1")
    assert "process.args[1]" in refused("run", "create", "-b", "./b", "c1")
    assert "process.args[1]" in refused("run", "./b", code=125)
    assert "process.args[1]" in refused("spec", "check", "./b/config.json")


def test_a_missing_rootfs(bundle: Path, refused: Callable[..., str]) -> None:
    shutil.rmtree(bundle / "rootfs")
    assert "rootfs" in refused("run", "run", "-b", "./b", "c1")
    assert "rootfs" in refused("run", "./b", code=125)


def test_a_missing_bundle(refused: Callable[..., str]) -> None:
    assert "no such file or directory" in refused("run", "run", "-b", "./none", "c1")
    assert "no such file or directory" in refused("run", "./none", code=125)


def test_a_command_that_does_not_exist(bundle: Path, refused: Callable[..., str]) -> None:
    assert 'exec: "nope": executable file not found in $PATH' in refused("run", "./b", "nope", code=127)
    assert "no such file or directory" in refused("run", "./b", "/bin/nope", code=127)


def test_a_command_that_is_not_executable(bundle: Path, refused: Callable[..., str]) -> None:
    (bundle / "rootfs/etc/data").write_text("data")
    assert "permission denied" in refused("run", "./b", "/etc/data", code=126)
    (bundle / "rootfs/etc/data").chmod(0o755)
    assert "exec format error" in refused("run", "./b", "/etc/data", code=126)
    assert "is a directory" in refused("run", "./b", "/etc", code=126)


def test_words_that_make_no_sense(refused: Callable[..., str]) -> None:
    for name, *words in (
        ("pull",), ("pull", "a", "b", "c"), ("push", "./x"), ("unpack", "--nope"), ("pack",), ("image", "nope"),
        ("image",), ("spec",), ("run", "--nope", "x"), ("registry", "serve", "--listen"), ("demo", "a", "b"),
    ):  # fmt: skip
        refused(name, *words, code=2)


# -- the disk, and kill -9 ------------------------------------------------------------------


@pytest.fixture
def small_disk(oci: Any, tmp_path: Path) -> Any:
    """700 kB; taken away before `oci` looks for what was left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.root
def test_a_full_disk(small_disk: Path, layout: Path, oci: Any, registry: Any, refused: Callable[..., str]) -> None:
    oci("push", "./img:latest", f"{registry.host}/app")
    assert "no space left on device" in refused("unpack", f"{layout}", "./b", cwd=small_disk)
    assert "no space left on device" in refused("pull", f"{registry.host}/app", "./copy", cwd=small_disk)
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("after", [1, 3, 10, 30, 100])
def test_killed_at_any_moment_the_layout_is_valid_and_the_next_run_finishes(
    after: int, oci: Any, registry: Any, layout: Path, tmp_path: Path
) -> None:
    """`after`: how many files and directories the copy holds when the pull is killed."""
    oci("push", "./img:latest", f"{registry.host}/app")
    process = oci.start("pull", f"{registry.host}/app", "./copy")
    while process.poll() is None and sum(len(files) + 1 for _, _, files in os.walk(tmp_path / "copy")) < after:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (tmp_path / "copy/index.json").exists():
        json.loads((tmp_path / "copy/index.json").read_text())
    oci("pull", f"{registry.host}/app", "./copy")
    oci("unpack", "./copy", "./b")
    oci("image", "gc", "./copy")
    blobs = {path.name for path in (tmp_path / "copy/blobs/sha256").iterdir()}
    assert blobs == {path.name for path in (layout / "blobs/sha256").iterdir()}
    assert sorted(os.listdir(tmp_path / "copy")) == ["blobs", "index.json", "oci-layout"]
