"""No Dockerfile, however large, takes more memory than 150 MB: what it may have at most does not, and more is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.test_memory import PEAK

pytestmark = [pytest.mark.root]
LIMIT = 150 << 10  # kilobytes, of each process
MANY = 33_000  # instructions: about what fits into a configuration
SMILE = "\U0001f600".encode()  # makes each letter of a text one of four bytes
TEXT = (8 << 20) - 100


def numbered(text: str, count: int = MANY) -> bytes:
    return b"".join(text.encode().replace(b"@", b"%d" % n) for n in range(count))


BUILT = {
    "labels": lambda: numbered("LABEL a@=b\n"),
    "variables": lambda: numbered("ENV a@=b\n"),
    "arguments": lambda: numbered("ARG a@=b\n"),
    "volumes": lambda: numbered("VOLUME /@\n"),
    "stages": lambda: b"FROM scratch\n" * 49_999,
    "triggers": lambda: numbered("ONBUILD RUN @\n", 49_999),
    "words": lambda: (b"LABEL " + b"a=b " * 16000 + b"\n") * 32,
    "lists": lambda: (b"CMD [" + b'"ab",' * 12000 + b'"a"]\n') * 30,
    "comments": lambda: b"#" * 60_000 + b"\n" + b"##\n" * (3 << 19),
    "comments above": lambda: b"#a\n" * (5 << 20) + b"ARG a\n",
    "here-document": lambda: b"COPY <<EOF /x\n" + b"abc\n" * (TEXT // 4) + b"EOF\n",
    "its variables": lambda: b"COPY <<EOF /x\n" + SMILE + b"abcd${x}\n" * (TEXT // 9) + b"EOF\n",
    "its tabs": lambda: b"COPY <<-EOF /x\n" + SMILE + b"\tbc\n" * (TEXT // 4) + b"EOF\n",
    "two": lambda: (b"COPY <<EOF /x\n" + SMILE + b"abc\n" * ((TEXT - 100) // 4) + b"EOF\n") * 2,
}
REFUSED = {
    "bytes": (lambda: b"#\n" * (8 << 20), "cannot read '{place}/Dockerfile': larger than 16777216 bytes"),
    "instructions": (lambda: b"LABEL a=b\n" * 1_150_000, "Dockerfile:50001:1: more than 50000 instructions"),
    "letters": (
        lambda: b"LABEL a=\\\n" + b"x\\\n" * 5_000_000,
        "Dockerfile:2:1: instructions of more than 2097152 letters, without here-documents",
    ),
    "here-document": (
        lambda: b"COPY <<EOF /x\n" + b"abc\n" * (TEXT // 4 + 100) + b"EOF\n",
        "Dockerfile:2:6: heredoc of more than 8388608 bytes",
    ),
    "configuration": (
        lambda: b"LABEL a=b\n" * 49_000, "Dockerfile:42368:1: the image's configuration is larger than 4194304 bytes",
    ),
    "growth": (
        lambda: b"ENV a=%s\n" % (b"x" * 60000) + b"ENV a=$a$a\n" * 30,
        "Dockerfile:8:1: the image's configuration is larger than 4194304 bytes",
    ),
    "word": (
        lambda: b"RUN <<EOF\n" + b"abc\n" * 40_000 + b"EOF\n",
        "Dockerfile:2:1: argument list too long (a word has at most 131071 bytes; a here-document that begins with #! is a file)",
    ),
}  # fmt: skip


def build(oci: Any, place: Path, text: bytes, code: int) -> tuple[int, str]:
    """The kilobytes that a build took, and what it said last."""
    (place / "context").mkdir(exist_ok=True)
    (place / "context/Dockerfile").write_bytes(b"FROM scratch\n" + text)
    words = ["oci-build", "-t", "./img:x", "context"]
    status = str(code << 8)
    program = [sys.executable, "-ISc", PEAK, status, f"{oci.bin}/{words[0]}", *words[1:]]
    done = subprocess.run(program, cwd=place, env=oci.env, capture_output=True, text=True)
    return int(done.stdout.split()[-1]), (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("kind", BUILT)
def test_of_much_that_is_built(kind: str, oci: Any, tmp_path: Path) -> None:
    took, said = build(oci, tmp_path, BUILT[kind](), 0)
    assert took < LIMIT, said


@pytest.mark.parametrize("kind", REFUSED)
def test_of_more_than_may_be(kind: str, oci: Any, tmp_path: Path) -> None:
    text, expected = REFUSED[kind]
    took, said = build(oci, tmp_path, text(), 1)
    assert took < LIMIT, said
    assert said == "oci-build: " + expected.replace("{place}", f"{tmp_path}/context")


IGNORED = {
    "names": lambda: numbered("name@\n", 49_999),
    "wildcards": lambda: numbered("na?e@*x\n", 49_999),
    "exceptions": lambda: b"!a\nb\n" * 24_999,
    "directories": lambda: numbered("d@/**\n", 49_999),
    "letters": lambda: b"?a[b-c]" * 149_796,
}


@pytest.mark.parametrize("kind", IGNORED)
def test_of_many_patterns(kind: str, oci: Any, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/.dockerignore").write_bytes(IGNORED[kind]())
    (tmp_path / "context/kept").write_text("x")
    took, said = build(oci, tmp_path, b"COPY kept /\n", 0)
    assert took < LIMIT, said


@pytest.mark.parametrize("text, why", [(b"ab\n" * 50_001, "more than 50000 lines"), (b"#" * (2 << 20), "larger than 1048576 bytes")])
def test_of_more_patterns_than_may_be(text: bytes, why: str, oci: Any, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/.dockerignore").write_bytes(text)
    took, said = build(oci, tmp_path, b"COPY . /\n", 1)
    assert took < LIMIT and said == f"oci-build: cannot use ignore file '{tmp_path}/context/.dockerignore': {why}"
