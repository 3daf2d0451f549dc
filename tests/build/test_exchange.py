"""--cache-to and --cache-from: a layout, a directory, a registry; and --prune."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root]

TEXT = (
    "FROM BASE AS one\nRUN date +%s%N > /one\nRUN --mount=type=cache,target=/c date +%N >> /c/x\n"
    "FROM BASE\nCOPY --from=one /one /two\nCOPY f /\n"
)


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Another user's world."""
    (tmp_path / "elsewhere").mkdir()
    return {"OCI_ROOT": str(tmp_path / "elsewhere")}


def misses(stderr: str) -> list[str]:
    """The steps that were done."""
    lines = stderr.splitlines()
    numbers = {line.split()[0] for line in lines if line.split()[1:2] == ["DONE"]}
    return [line.partition("] ")[2] for line in lines if line.split()[:1] and line.split()[0] in numbers
            and line.split()[1:2] != ["DONE"] and "] " in line and "FROM" not in line]  # fmt: skip


@pytest.mark.parametrize(
    "to, source",
    [
        ("./kept", "./kept"),
        ("./kept:main", "./kept:main"),
        ("type=local,dest=kept", "type=local,src=kept"),
        ("type=registry,ref=HOST/kept:1", "type=registry,ref=HOST/kept:1"),
        ("HOST/kept", "HOST/kept"),
    ],
)
def test_a_cache_goes_elsewhere(
    built: Any, elsewhere: dict[str, str], registry: Any, to: str, source: str, tmp_path: Path
) -> None:
    to, source = to.replace("HOST", registry.host), source.replace("HOST", registry.host)
    first = built(TEXT, "--cache-to", to, files={"f": "1"})
    there = built(TEXT, "--cache-from", source, "--progress", "plain", env=elsewhere)
    assert misses(there.stderr) == []
    assert there.stdout == first.stdout
    changed = built(TEXT, "--cache-from", source, "--progress", "plain", env=elsewhere, files={"f": "2"})
    assert misses(changed.stderr) == ["COPY f /"]


def digests(oci: Any, image: str) -> list[str]:
    return [layer["digest"] for layer in json.loads(oci("image", "cat", image).stdout)["layers"]]


def test_only_what_is_hit_comes(oci: Any, built: Any, elsewhere: dict[str, str], registry: Any, tmp_path: Path) -> None:
    """Blobs of a registry's cache are fetched when they are needed, and not sent again where they are."""
    text = "FROM BASE AS one\nRUN head -c 3000000 /dev/urandom > /one\nRUN echo > /two\nFROM scratch\nCOPY --from=one /two /\nCOPY f /\n"
    ref = f"{registry.host}/kept:1"
    built(text, "--cache-to", ref, files={"f": "1"})
    blobs = tmp_path / "elsewhere/cache/build/images/blobs/sha256"
    there = built(text, "--cache-from", ref, "--cache-to", ref, "--progress", "plain", env=elsewhere)
    assert misses(there.stderr) == []
    assert sorted(f"sha256:{path.name}" for path in blobs.iterdir()) == sorted(digests(oci, "./img:x"))
    again = built(text, "--cache-from", ref, "--progress", "plain", env={"OCI_ROOT": str(tmp_path / "third")})
    assert misses(again.stderr) == []  # all of it is still there
    more = built(text.replace("FROM scratch", "RUN cat /two\nFROM scratch"), "--cache-from", ref, "--progress", "plain", env=elsewhere)
    assert misses(more.stderr) == ["RUN cat /two"]
    assert max(path.stat().st_size for path in blobs.iterdir()) > 3_000_000


BIG = "FROM BASE\nRUN head -c 3000000 /dev/urandom > /big\n"


def stored(place: Path) -> int:
    """Bytes of the largest blob in the store; 0: there is none."""
    return max((path.stat().st_size for path in place.glob("images/blobs/*/*")), default=0)


def test_a_base_image_comes_when_it_is_needed(
    oci: Any, built: Any, elsewhere: dict[str, str], registry: Any, tmp_path: Path
) -> None:
    """Of one whose steps are all in the cache only the configuration, and no layer."""
    base, kept = f"{registry.host}/base:1", f"{registry.host}/kept:1"
    built(BIG, "-o", f"type=registry,name={base}")
    text = f"FROM {base} AS one\nRUN echo 1 > /one\nFROM scratch\nCOPY --from=one /one /\n"
    first = built(text, "--cache-to", kept)
    there = built(text, "--cache-from", kept, "--progress", "plain", env=elsewhere)
    assert misses(there.stderr) == [] and there.stdout == first.stdout and "pulling" not in there.stderr
    assert stored(tmp_path / "elsewhere") == 0
    (tmp_path / "context/Dockerfile").write_text(f"FROM {base}\nENV a=b\n")
    oci("build", "-o", "type=cacheonly", "--depfile", "d", "context", env=elsewhere)
    assert stored(tmp_path / "elsewhere") == 0
    assert " elsewhere/images/index.json\n" in (tmp_path / "d").read_text()
    more = built(text.replace("FROM scratch", "RUN test -s /big && echo 2 > /one\nFROM scratch"), "--cache-from", kept, "--progress", "plain", env=elsewhere)
    assert misses(more.stderr) == ["RUN test -s /big && echo 2 > /one", "COPY --from=one /one /"] and "pulling" in more.stderr
    assert stored(tmp_path / "elsewhere") > 3_000_000
    again = built(text, "--pull", "--progress", "plain", env=elsewhere)
    assert "pulling" not in again.stderr  # it is here, and the same


def test_when_registries_are_asked_for_a_base(
    oci: Any, built: Any, cat: Any, elsewhere: dict[str, str], registry: Any, tmp_path: Path
) -> None:
    base = f"{registry.host}/base:1"

    def seen(*words: str, code: int = 0) -> str:
        done = built(f"FROM {base}\nCOPY --from={base} /v /w\n", *words, env=elsewhere, code=code)
        return done.stderr if code else cat("/w")

    def put(what: str) -> None:
        built("FROM scratch\nCOPY f /v\n", "-o", f"type=registry,name={base}", files={"f": what})

    put("1")
    for word in "--pull=never", "--pull-never":
        assert f"no such image '{base}'" in seen(word, code=1)
        assert f"no such image '{base}'" in built(f"FROM docker://{base}\n", word, env=elsewhere, code=1).stderr
    assert seen("--pull=missing") == "1"
    put("2")
    for word in "--pull=missing", "--pull=ifmissing", "--pull=never", "--pull-never", "--pull=false", "--pull=False":
        assert seen(word) == "1"
    for number, word in enumerate(("--pull", "--pull=True", "--pull=always", "--pull-always", "--pull=newer", "--pull=ifnewer")):
        put(f"of {number}")
        assert seen(word) == f"of {number}"
    assert "option '--pull' does not take a value" in seen("--pull=often", code=2)


def test_a_base_image_whose_name_went_to_another(
    oci: Any, built: Any, elsewhere: dict[str, str], registry: Any, busybox: Path, tmp_path: Path
) -> None:
    """What was resolved is what comes, whatever its name means by then."""
    base = f"{registry.host}/base:1"
    built(BIG, "-o", f"type=registry,name={base}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /other\n")
    # The name goes while a stage runs that the one with the base image waits for.
    text = f"FROM {busybox} AS two\nRUN --mount=type=cache,target=/go until test -e /go/go; do sleep 0.1; done; touch /x\n"
    text += f"FROM {base}\nCOPY --from=two /x /x\nCOPY --from={busybox} /bin /bin\nRUN test -s /big && ! test -e /other\n"
    (tmp_path / "context").mkdir(exist_ok=True)
    (tmp_path / "context/Dockerfile").write_text(text)
    words = ["--network", "none", "--progress", "plain", "-o", "type=cacheonly", "context"]
    process = oci.start("build", *words, env=elsewhere, stderr=subprocess.PIPE, text=True)
    said = ""
    while f"resolving {base}" not in said or not [*(tmp_path / "elsewhere/cache/build").glob("mounts/*.json")]:
        said += (line := process.stderr.readline())
        assert line, said
    oci("build", "-q", "-o", f"type=registry,name={base}", other)
    for about in (tmp_path / "elsewhere/cache/build/mounts").glob("*.json"):
        about.with_suffix("").joinpath("go").write_text("")
    said += process.communicate()[1]
    assert process.returncode == 0, said


def test_a_push_to_where_the_base_image_is(
    oci: Any, built: Any, elsewhere: dict[str, str], registry: Any, tmp_path: Path
) -> None:
    """store=false: no layer of the base image is fetched, only mounted; where that cannot be it is."""
    base, app = f"{registry.host}/base:1", f"{registry.host}/app"
    built(BIG, "-o", f"type=registry,name={base}")
    words = ["-o", f"type=registry,name={app}:1,store=false"]
    (tmp_path / "context/Dockerfile").write_text(f"FROM {base}\nENV a=b\n")
    said = oci("build", *words, "context", env=elsewhere).stdout
    assert said.startswith(f"{app}@sha256:") and stored(tmp_path / "elsewhere") == 0
    oci("pull", said.strip(), "./got:x")
    assert sorted(digests(oci, "./got:x")) and stored(tmp_path / "elsewhere") == 0
    oci("image", "fsck", "./got")


def test_a_cache_within_the_image(oci: Any, built: Any, elsewhere: dict[str, str], registry: Any) -> None:
    words = ["-o", f"type=registry,name={registry.host}/app:1", "--cache-to", "type=inline"]
    text = "FROM BASE\nRUN date +%s%N > /one\nCOPY f /\n"
    first = built(text, *words, files={"f": "1"})
    there = built(text, *words, "--cache-from", f"{registry.host}/app:1", "--progress", "plain", env=elsewhere)
    assert misses(there.stderr) == [] and first.stdout == there.stdout
    assert misses(built(text, "--cache-from", "./img:x", "--progress", "plain", env={"OCI_ROOT": "third"}).stderr) == []


def test_cache_mounts_go_along(built: Any, cat: Any, elsewhere: dict[str, str]) -> None:
    text = "FROM BASE\nRUN --mount=type=cache,target=/c,mode=0700,uid=7 echo WORD >> /c/x; stat -c %a:%u /c > /s; cat /c/x > /out\n"
    built(text.replace("WORD", "first"), "--cache-to", "./kept")
    built(text.replace("WORD", "second"), "--cache-from", "./kept", env=elsewhere)
    assert cat("/out") == "first\nsecond\n" and cat("/s") == "700:7\n"


def test_min_has_only_the_target(built: Any, elsewhere: dict[str, str]) -> None:
    built(TEXT, "--cache-to", "type=local,dest=kept,mode=min", files={"f": "1"})
    there = built(TEXT, "--cache-from", "./kept", "--progress", "plain", env=elsewhere)
    assert "RUN date +%s%N > /one" in misses(there.stderr)


def test_what_was_sent_before_goes(built: Any, tmp_path: Path) -> None:
    for content in "12345":
        built("FROM BASE\nCOPY f /\n", "--cache-to", "./kept", files={"f": content})
    assert len(list((tmp_path / "kept/blobs/sha256").iterdir())) == 3


def test_an_image_beside_it_stays(oci: Any, built: Any, busybox: Path, tmp_path: Path) -> None:
    built("FROM BASE\nCOPY f /\n", "--cache-to", "./img:kept", files={"f": "1"})
    built("FROM BASE\nCOPY f /\n", "--cache-to", "./img:kept", files={"f": "2"})
    assert oci("image", "fsck", "./img").returncode == 0
    assert sorted(line.split()[0] for line in oci("image", "ls", "./img").stdout.splitlines()) == ["-", "-", "kept", "x"]


def test_no_cache_is_a_warning(oci: Any, built: Any, busybox: Path) -> None:
    done = built("FROM BASE\nRUN true\n", "--cache-from", "./nowhere", "--cache-from", str(busybox))
    assert [line for line in done.stderr.splitlines() if line.startswith("oci-build: warning: no cache: ")][1:]
    failed = built("FROM BASE\nRUN true\n", "--cache-to", "127.0.0.1:1/x", code=75)
    assert "oci-build: cannot reach" in failed.stderr or "127.0.0.1:1" in failed.stderr
    built("FROM BASE\nRUN true\n", "--cache-to", "type=registry,ref=127.0.0.1:1/x,ignore-error=true")


@pytest.mark.parametrize("word", ["type=inline,mode=max", "type=local", "type=registry", "type=local,dest=x,mode=all", "a=b"])
def test_words_that_make_no_sense(oci: Any, word: str) -> None:
    done = oci("build", "--cache-to", word, code=2)
    assert "invalid value for --cache-to" in done.stderr and done.stderr.count("\n") == 1


def cache(tmp_path: Path) -> Path:
    return tmp_path / "root/cache/build"


def test_prune_by_age(oci: Any, built: Any, tmp_path: Path) -> None:
    built(TEXT, files={"f": "1"})
    old = time.time() - 3 * 86400
    for directory, _, files in os.walk(cache(tmp_path)):
        for name in files:
            os.utime(f"{directory}/{name}", (old, old))
    built("FROM BASE\nRUN echo new\n", "--cache-to", "./kept")
    assert oci("build", "--prune").stdout == ""
    gone = [line.split("\t") for line in oci("build", "--prune", "--prune-age", "2d").stdout.splitlines()]
    assert {kind for kind, _, _ in gone} >= {"layer", "mount", "hashes"}
    assert not [name for name in os.listdir(cache(tmp_path) / "mounts") if not name.endswith(".lock")]
    again = built(TEXT, "--progress", "plain", files={"f": "1"})
    assert len(misses(again.stderr)) == 4
    assert misses(built("FROM BASE\nRUN echo new\n", "--progress", "plain").stderr) == []


def test_prune_by_size(oci: Any, built: Any, tmp_path: Path) -> None:
    for n in range(4):
        built(f"FROM BASE\nRUN head -c 100000 /dev/urandom > /{n}\n")
        for path in (cache(tmp_path) / "steps").iterdir():
            os.utime(path, (time.time() - 1000, path.stat().st_mtime - 100))
    oci("build", "--prune", "--prune-size", "450k")
    blobs = sum(path.stat().st_size for path in (cache(tmp_path) / "images/blobs/sha256").iterdir())
    assert 150_000 < blobs < 250_000  # and as much again unpacked
    assert misses(built("FROM BASE\nRUN head -c 100000 /dev/urandom > /3\n", "--progress", "plain").stderr) == []
    oci("build", "--prune", "--prune-size", "0")
    assert not list((cache(tmp_path) / "images/blobs/sha256").iterdir())
    trees = [path for path in (tmp_path / "root/layers/sha256").iterdir() if path.is_dir()]
    assert len(trees) == 1  # the base's, which is no step
    assert "invalid value for --prune-age 'x'" in oci("build", "--prune", "--prune-age", "x", code=2).stderr


def test_a_build_prunes_once_a_day(built: Any, tmp_path: Path) -> None:
    built("FROM BASE\nRUN echo 1 > /a\n")
    mark = cache(tmp_path) / "pruned"
    old = time.time() - 90 * 86400
    for path in (cache(tmp_path) / "steps").iterdir():
        os.utime(path, (old, old))
    built("FROM BASE\n")
    assert len(list((cache(tmp_path) / "images/blobs/sha256").iterdir())) == 1
    os.utime(mark, (old, old))
    built("FROM BASE\n")
    assert not list((cache(tmp_path) / "images/blobs/sha256").iterdir())


def test_nothing_goes_that_a_build_at_work_may_use(oci: Any, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo 1 > /a\nRUN echo ready; cat > /b < /dev/null; sleep 1000\n")
    process = oci.start("build", "--progress", "json", ".", stderr=-1, text=True)
    for line in process.stderr:
        if "stream" in json.loads(line):
            break
    assert "layer" not in oci("build", "--prune", "--prune-size", "0").stdout
    process.terminate()
    process.communicate()
    assert "layer" in oci("build", "--prune", "--prune-size", "0").stdout
