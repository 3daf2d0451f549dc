"""A command's modules in one file: found there, and never believed over their sources."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of its own, with one command's words that need no right."""
    shutil.copytree(TOP / "oci_tools", tmp_path / "oci_tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bin").mkdir()
    shutil.copy(TOP / "bin/oci-spec", tmp_path / "bin")
    (tmp_path / ".venv").symlink_to(TOP / ".venv")
    return tmp_path


def run(top: Path, *words: str, **more: str) -> str:
    done = subprocess.run([top / "bin/oci-spec", *words], capture_output=True, text=True, env={**os.environ, **more})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def archive(top: Path) -> Path:
    return next((top / "oci_tools/__pycache__").glob("spec.*.archive"))


def opened(top: Path, *words: str) -> int:
    """How many compiled modules of ours a command opens."""
    trace = top / "trace"
    subprocess.run(["strace", "-f", "-e", "trace=openat", "-o", trace, top / "bin/oci-spec", *words], check=True, stdout=subprocess.DEVNULL)
    return sum("oci_tools" in line and ".pyc" in line and "ENOENT" not in line for line in trace.read_text().splitlines())


@pytest.mark.needs("strace")
def test_what_was_imported_once_comes_from_one_file(copy: Path) -> None:
    first = run(copy, "new")
    before = archive(copy).stat()
    assert opened(copy, "new") <= 5  # what is there before it
    assert run(copy, "new") == first
    assert archive(copy).stat().st_mtime_ns == before.st_mtime_ns  # nothing was missed, nothing is written
    assert [path.name for path in (copy / "oci_tools/__pycache__").iterdir() if "archive." in path.name] == []


def test_another_verb_adds_what_it_needs(copy: Path) -> None:
    run(copy, "new")
    size = archive(copy).stat().st_size
    (copy / "config.json").write_text(made := run(copy, "new"))
    run(copy, "explain", str(copy / "config.json"))
    assert archive(copy).stat().st_size > size
    assert run(copy, "new") == made


@pytest.mark.needs("strace")
def test_a_copy_runs_its_own_code(copy: Path, tmp_path: Path) -> None:
    """Made with all times, as `cp -a` does."""
    run(copy, "new")
    second = tmp_path / "second"
    shutil.copytree(copy / "oci_tools", second / "oci_tools")
    shutil.copytree(copy / "bin", second / "bin")
    (second / ".venv").symlink_to(TOP / ".venv")
    for _ in range(2):  # and writes an archive of its own
        subprocess.run(["strace", "-f", "-e", "trace=%file", "-o", "trace", second / "bin/oci-spec", "new"], check=True, cwd=second, stdout=subprocess.DEVNULL)
        trace = (second / "trace").read_text()
        assert f"{copy}/oci_tools/" not in trace and f"{second}/oci_tools/runtime/" in trace


def test_a_changed_source_is_read(copy: Path) -> None:
    run(copy, "new")
    source = copy / "oci_tools/runtime/spec.py"
    text = source.read_text()
    source.write_text(text + "\nprint('changed')\n")
    size = archive(copy).stat().st_size
    assert "changed" in run(copy, "new")
    assert "changed" in run(copy, "new")  # and kept anew
    assert archive(copy).stat().st_size < size + 200  # in one piece with the others, as before
    os.utime(source, ns=(1, 1))
    source.write_text(text)
    os.utime(source, ns=(1, 1))
    assert "changed" not in run(copy, "new")


@pytest.mark.needs("strace")
@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None, "form", 10, 2000])
def test_a_damaged_file_is_no_archive(copy: Path, damage: bytes | int | str | None) -> None:
    first = run(copy, "new")
    data = archive(copy).read_bytes()
    if damage is None:
        archive(copy).write_bytes(b"xxxx" + data[4:])  # another Python's
    elif isinstance(damage, str):
        archive(copy).write_bytes(data[:4] + b"1" + data[5:])  # an older version's
    else:
        archive(copy).write_bytes(data[:damage] if isinstance(damage, int) else damage)
    assert run(copy, "new") == first
    assert run(copy, "new", "--help")  # which adds to it
    assert run(copy, "new") == first
    assert opened(copy, "new") <= 5  # it was made anew


def test_a_place_that_cannot_be_written(copy: Path) -> None:
    shutil.rmtree(copy / "oci_tools/__pycache__", ignore_errors=True)
    (copy / "oci_tools/__pycache__").write_text("a file")
    first = run(copy, "new")
    assert run(copy, "new") == first


@pytest.mark.needs("strace")
@pytest.mark.parametrize("before", [[], ["--debug"]])
def test_each_verb_has_its_own(copy: Path, before: list[str]) -> None:
    """Also behind options, and where a word that is no verb is named as one."""
    (copy / "config.json").write_text(run(copy, "new"))
    run(copy, "check", str(copy / "config.json"))
    size = archive(copy).stat().st_size
    for words in (["new"], ["check", str(copy / "config.json")]):
        assert opened(copy, *before, *words) <= 5
    assert json.loads(run(copy, "new", "--hostname", "check"))["hostname"] == "check"
    assert archive(copy).stat().st_size == size


@pytest.mark.needs("strace")
def test_what_only_a_later_run_needs_is_there_too(copy: Path) -> None:
    run(copy, "new")
    before = opened(copy, "new")
    assert opened(copy, "new", "--help") > before  # and is kept
    size = archive(copy).stat().st_size
    assert opened(copy, "new", "--help") == before
    assert archive(copy).stat().st_size == size


def test_a_module_from_the_archive_is_as_python_makes_it(copy: Path) -> None:
    """Whether it was asked for, or came because another was about to import it."""
    said = []
    lines = [
        "import sys", f"sys.path[:0] = [{str(copy)!r}]", "from oci_tools import bytecode",
        "archive = bytecode.Archive('spec')", "{use}", "from oci_tools.runtime import spec", "import oci_tools",
        "mine = [m for name, m in sorted(sys.modules.items()) if name.startswith('oci_tools.') and name[10:] not in ('bytecode', 'abstract')]",
        "kept = [m for m in mine if type(m.__loader__).__name__ == '_Kept']",
        "assert len(kept) == (len(mine) if {all} else 0), (kept, mine)",
        "for m in mine: print(m.__name__, m.__file__, m.__package__, getattr(m, '__path__', None), m.__spec__.name, m.__spec__.origin)",
        "print(spec.checking is sys.modules['oci_tools.runtime.check'], oci_tools.runtime.check is spec.checking)",
    ]  # fmt: skip
    run(copy, "new")
    for use, all_of_them in (("archive.use(['new'])", "True"), ("pass", "False")):
        text = "\n".join(lines).replace("{use}", use).replace("{all}", all_of_them)
        done = subprocess.run([sys.executable, "-IS", "-c", text], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)
    assert said[0] == said[1] and said[0].endswith("True True\n") and said[0].count("oci_tools.runtime.fields") > 1


@pytest.mark.parametrize("shut", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_streams_that_the_caller_has_closed_are_null(copy: Path, shut: tuple[int, ...]) -> None:
    """Or the next file that is opened would be one, and what is said to people would go into it."""
    shutil.rmtree(copy / "oci_tools/cmd/spec")
    (copy / "oci_tools/cmd/spec.py").write_text("""import os, sys
def main(words):
    log = open(words[0], "w")
    null = [fd for fd in (0, 1, 2) if os.path.samefile(f"/proc/self/fd/{fd}", "/dev/null") and os.get_inheritable(fd)]
    print(null, log.fileno() > 2, [sys.stdin.read(), sys.stdout.write("1"), sys.stderr.write("2")], file=log, flush=True)
    return 7
""")
    closed = " ".join(f"{fd}>&-" for fd in shut)
    line = f'"{copy}/bin/oci-spec" "{copy}/log" <"{copy}/bin/oci-spec" >/dev/zero 2>/dev/zero {closed}'
    assert subprocess.run(["sh", "-c", line]).returncode == 7
    text = "" if 0 in shut else (copy / "bin/oci-spec").read_text()
    assert (copy / "log").read_text() == f"{[*shut]} True {[text, 1, 1]}\n"
