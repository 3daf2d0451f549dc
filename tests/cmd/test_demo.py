"""oci-demo's own parts; that the whole road works is tested in tests/flow/."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools import environment, fs
from oci_tools.cmd import demo
from oci_tools.errors import Error


def test_the_libraries_of_a_program_are_found() -> None:
    found = demo.libraries("/bin/sh")
    assert any("/libc.so" in name or "/ld-" in name for name in found)
    assert all(os.path.isfile(name) for name in found)


def test_the_copied_shell_runs_on_nothing_else(tmp_path: Path) -> None:
    demo.copy_shell(f"{tmp_path}/tree")
    if os.geteuid():
        pytest.skip("needs root to chroot")
    done = subprocess.run(["chroot", tmp_path / "tree", "/bin/sh", "-c", "cat /etc/passwd"], capture_output=True)
    assert done.stdout.startswith(b"root:x:0:0:")


def test_what_a_killed_demo_left_is_swept_but_not_a_running_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "prefix", lambda: f"{tmp_path}/oci-demo-")
    for name in "dead", "alive":
        (tmp_path / f"oci-demo-{name}").mkdir()
        (tmp_path / f"oci-demo-{name}" / "file").touch()
    held = demo.hold(f"{tmp_path}/oci-demo-alive")
    demo.sweep()
    os.close(held)
    assert os.listdir(tmp_path) == ["oci-demo-alive"]


def test_a_step_that_fails_ends_the_demo_and_leaves_nothing(oci: Any, tmp_path: Path) -> None:
    done = oci("demo", "127.0.0.1:1/none", env={"TMPDIR": str(tmp_path)}, code=1)
    assert done.stderr.splitlines()[-1].startswith("oci-demo: cannot go on after 'oci-pull 127.0.0.1:1/none ./pulled'")
    assert not list(tmp_path.glob("oci-demo-*"))


# -- the environment -----------------------------------------------------------------------

FAKE = """#!/bin/sh
# A python that makes an environment as venv and pip would, or dies on the way.
case "$*" in
*version_info*) echo python3.99 ;;
*"import ensurepip"*) exit 0 ;;
*"-m venv"*) for last; do :; done
    mkdir -p "$last/bin" "$last/lib/python3.99/site-packages"
    cp "$0" "$last/bin/python"; touch "$last/bin/pip" ;;
*"pip install"*) if [ -e "$FAIL" ]; then echo "no such network" >&2; exit 1; fi; echo "$*" >> "$LOG" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that wants two packages, and an interpreter that installs none."""
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires =\n    # why\n    one >= 1\n[options.extras_require]\ntest =\n    two\n"
    )
    monkeypatch.setattr(environment, "TOP", str(tmp_path))
    monkeypatch.setenv("LOG", f"{tmp_path}/log")
    monkeypatch.setenv("FAIL", f"{tmp_path}/fail")
    return tmp_path


def make(checkout: Path, *extras: str) -> list[str]:
    said: list[str] = []
    environment.make(".venv", extras, f"{checkout}/python", said.append)
    return [line for line in said if "compileall" not in line]


def test_an_environment_is_made_once_and_grows(checkout: Path) -> None:
    assert make(checkout) == ["python -m venv .venv", ".venv/bin/python -m pip install -q 'one >= 1'"]
    assert make(checkout) == []
    assert make(checkout, "test") == [".venv/bin/python -m pip install -q 'one >= 1' two"]
    assert make(checkout) == make(checkout, "test") == []


def test_a_failed_making_is_told_and_made_again(checkout: Path) -> None:
    (checkout / "fail").touch()
    with pytest.raises(Error, match="cannot run '.*pip install.*': no such network"):
        make(checkout)
    (checkout / ".venv" / "half").touch()
    (checkout / "fail").unlink()
    assert len(make(checkout)) == 2
    assert not (checkout / ".venv" / "half").exists()


def test_an_environment_of_somebody_else_is_not_removed(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    with pytest.raises(Error, match="move it away"):
        make(checkout)


def test_a_checkout_that_may_not_be_written_is_told(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(Error, match=f"cannot make the environment '{checkout}/.venv': permission denied"):
        make(checkout)


def test_two_makers_do_not_meet(checkout: Path) -> None:
    with fs.Lock(str(checkout)):
        holder = subprocess.Popen(
            ["/usr/bin/python3", "-c", "import sys; sys.path.insert(0, sys.argv[1]); from oci_tools import environment as e;"
             "e.TOP = sys.argv[2]; print('started', flush=True); e.make(python=sys.argv[2] + '/python')",
             str(Path(fs.__file__).parent.parent), checkout], stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert holder.stdout is not None and holder.stdout.readline() == "started\n"
        assert holder.poll() is None and not (checkout / ".venv").exists()
    holder.communicate()
    assert holder.returncode == 0 and make(checkout) == []


def test_without_ensurepip_apt_or_a_wheel_one_line_says_what_is_missing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "python").write_text(FAKE.replace('ensurepip"*) exit 0', 'ensurepip"*) exit 1'))
    monkeypatch.setattr(environment, "WHEELS", f"{checkout}/none")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(Error, match=r"python3 has neither venv nor pip.*\(install python3-venv\)"):
        make(checkout)
