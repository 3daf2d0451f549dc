"""oci-registry's words and what it does without serving; what it serves is in tests/registry/test_server.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import oci_tools


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "missing verb"),
        (("walk",), "unknown verb 'walk'"),
        (("serve",), "missing argument 'DIR'"),
        (("serve", "a", "b"), "unexpected extra argument"),
        (("rm", "a"), "missing argument 'NAME"),
        (("gc", "--grace", "soon", "a"), "invalid value for"),
    ],
)
def test_words_that_make_no_sense(oci: Any, words: tuple[str, ...], said: str) -> None:
    done = oci("registry", *words, code=2)
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture
def filled(oci: Any, registry: Any, busybox: Path) -> Any:
    for name in ("app:1", "app:2", "app/more:1"):
        oci("push", f"{busybox}:latest", f"{registry.host}/{name}")
    return registry


def blobs(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("blobs/sha256/*"))


def test_ls(oci: Any, filled: Any, busybox: Path) -> None:
    digest = json.loads((busybox / "index.json").read_text())["manifests"][0]["digest"]
    lines = [f"{name}\t{digest}" for name in ("app\t1", "app\t2", "app/more\t1")]
    assert oci("registry", "ls", filled.dir).stdout.splitlines() == lines
    assert oci("registry", "ls", filled.dir, "app/more").stdout.splitlines() == lines[2:]
    assert oci("registry", "ls", "--fields", "tag", filled.dir, "app").stdout == "1\n2\n"
    said = json.loads(oci("registry", "ls", "--json", filled.dir, "app/more").stdout)
    assert said == {"repository": "app/more", "tag": "1", "digest": digest}
    assert "no such field" in oci("registry", "ls", "--fields", "x", filled.dir, code=2).stderr
    assert "no such repository 'none'" in oci("registry", "ls", filled.dir, "none", code=1).stderr
    assert "no such directory" in oci("registry", "ls", "none", code=1).stderr


def test_rm(oci: Any, filled: Any) -> None:
    oci("registry", "rm", filled.dir, "app:1")
    assert oci("registry", "ls", "--fields", "repository,tag", filled.dir).stdout == "app\t2\napp/more\t1\n"
    assert "no such manifest 'app:1'" in oci("registry", "rm", filled.dir, "app:1", code=1).stderr
    oci("registry", "rm", filled.dir, "app")
    assert oci("registry", "ls", "--fields", "repository", filled.dir).stdout == "app/more\n"
    assert os.listdir(filled.dir / "app") == ["more"]
    oci("pull", f"{filled.host}/app/more:1", "./img")
    assert "no such repository" in oci("registry", "rm", filled.dir, "app", code=1).stderr
    oci("registry", "rm", filled.dir, "app/more")
    assert not os.listdir(filled.dir)


def test_rm_of_a_digest_takes_its_tags(oci: Any, filled: Any) -> None:
    digest = oci("registry", "ls", "--fields", "digest", filled.dir, "app").stdout.split()[0]
    oci("registry", "rm", filled.dir, f"app@{digest}")
    assert oci("registry", "ls", filled.dir, "app").stdout == ""


def test_gc_while_serving(oci: Any, filled: Any) -> None:
    before = blobs(filled.dir / "app")
    oci("registry", "gc", "--grace", "0", filled.dir)
    assert blobs(filled.dir / "app") == before
    oci("registry", "rm", filled.dir, f"app@{oci('registry', 'ls', filled.dir, 'app').stdout.split()[2]}")
    assert oci("registry", "gc", filled.dir).stdout == ""  # too young
    tried = oci("registry", "gc", "--dry-run", "--grace", "0", filled.dir).stdout
    done = oci("registry", "gc", "--grace", "0", filled.dir).stdout
    assert tried == done and len(done.splitlines()) == 2  # its manifest went at once
    assert blobs(filled.dir / "app") == []
    assert blobs(filled.dir / "app/more") == before


def test_a_blob_that_was_asked_for_is_not_garbage_yet(oci: Any, filled: Any) -> None:
    digest = oci("registry", "ls", "--fields", "digest", filled.dir, "app").stdout.split()[0]
    oci("registry", "rm", filled.dir, f"app@{digest}")
    for blob in (filled.dir / "app/blobs/sha256").iterdir():
        os.utime(blob, (1, 1))
    layer = max((filled.dir / "app/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    head = urllib.request.Request(f"{filled.url}/v2/app/blobs/sha256:{layer.name}", method="HEAD")
    urllib.request.urlopen(head).close()
    oci("registry", "gc", filled.dir)
    assert blobs(filled.dir / "app") == [layer.name]


def test_serving_loads_no_client() -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(oci_tools.__file__).parents[1]), *sys.path]!r}\n"
        "import oci_tools.cmd.registry, oci_tools.http, oci_tools.registry.server, oci_tools.registry.storage\n"
        "print(*{'requests', 'click', 'jsonschema', 'ssl', 'http.client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-ISc", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "words, said",
    [
        (("--gc", "-1"), "'--gc': -1 is less than 0"), (("--rate", "-1"), "'--rate': -1"), (("--grace", "-1"), "'--grace': -1"),
        (("--max-repositories", "-1"), "'--max-repositories': -1"), (("--stop-timeout", "-1"), "'--stop-timeout': -1"),
        (("--retention", "/nope"), "cannot read '/nope'"), (("--gc", "9" * 20), "is more than"),
        (("--tls-key", "x"), "add --tls-cert"), (("--listen", "127.0.0.1:99999"), "not HOST:PORT"),
    ],
)  # fmt: skip
def test_servers_that_make_no_sense(oci: Any, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = oci("registry", "serve", *words, tmp_path / "store", code=None)
    assert done.returncode in (1, 2) and said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
