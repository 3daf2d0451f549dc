"""Completion by real shells: of the words of all our commands, and of what there is on disk."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from pathlib import Path
from typing import Any

import pytest

LINES = {  # what is typed before the tab, and the words that it then is
    "oci-im": ["oci-image"],
    "oci-image ins": ["oci-image", "inspect"],
    "oci-image index ann": ["oci-image", "index", "annotate"],
    "oci-run --read-only-": ["oci-run", "--read-only-tmpfs"],
    "oci-run --pull=mis": ["oci-run", "--pull=missing"],
    "oci-run --pull alw": ["oci-run", "--pull", "always"],
    "oci-run --memory 4m -it --pull=missing --net fr": ["oci-run", "--memory", "4m", "-it", "--pull=missing", "--net", "front"],
    "oci-run kill x TE": ["oci-run", "kill", "x", "TERM"],
    "oci-run inven": ["oci-run", "inventory/app:1.0"],
    "oci-run inventory/app:1": ["oci-run", "inventory/app:1.0"],
    "oci-vol clone d": ["oci-vol", "clone", "database"],
    "oci-net rm fr": ["oci-net", "rm", "front"],
    "oci-build --file=Do": ["oci-build", "--file=Dockerfile.web"],
    "oci-build --file Do": ["oci-build", "--file", "Dockerfile.web"],
    "oci-ctl --context x context cr": ["oci-ctl", "--context", "x", "context", "create"],
}  # fmt: skip


@pytest.fixture
def there(oci: Any, busybox: Path, tmp_path: Path) -> dict[str, str]:
    """Where there is an image, a network, a volume and a file."""
    oci("vol", "create", "database")
    oci("net", "create", "front")
    oci("image", "copy", f"{busybox}:latest", "inventory/app:1.0")
    (tmp_path / "Dockerfile.web").touch()
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / shell).write_text(oci("ctl", "completion", shell).stdout)
    return {**oci.env, "TERM": "dumb", "HISTFILE": ""}


class Terminal:
    """A shell in a pseudo-terminal, which is typed to."""

    def __init__(self, words: list[str], env: dict[str, str], cwd: Path) -> None:
        self.master, slave = pty.openpty()
        self.shell = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True)
        os.close(slave)
        self.seen = ""

    def until(self, wanted: str) -> re.Match[str]:
        while not (found := re.search(wanted, self.seen)):
            assert select.select([self.master], [], [], 60)[0], self.seen
            self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def completed(self, line: str) -> list[str]:
        """The words that a line is after a tab: printed, one in a bracket each."""
        os.write(self.master, f"{line}\t\x01show \x05\n".encode())
        return re.findall(r"\[([^]]*)\]", self.until(r"(\[[^]\x1b\n]*\])+\(end\)")[0])

    def end(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)


@pytest.mark.needs("bash", "zsh")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab_completes(shell: str, there: dict[str, str], tmp_path: Path) -> None:
    words = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    terminal = Terminal(words, there, tmp_path)
    try:
        os.write(terminal.master, {"bash": b"", "zsh": b"autoload -U compinit; compinit -u -D\n"}[shell])
        os.write(terminal.master, b"show() { printf '[%%s]' \"$@\" && echo '(end)'; }; source ./%s; show ready\n" % shell.encode())
        terminal.until(r"\[ready\]\(end\)")
        assert {line: terminal.completed(line) for line in LINES} == LINES
    finally:
        terminal.end()


@pytest.mark.needs("fish")
def test_fish_completes(there: dict[str, str], tmp_path: Path) -> None:
    for line, wanted in LINES.items():
        asked = ["fish", "--no-config", "-c", f"source ./fish; complete -C '{line}'"]
        seen = subprocess.run(asked, env=there, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert [each.partition("\t")[0] for each in seen.splitlines()] == wanted[-1:], line


def test_candidates_say_what_they_mean(oci: Any) -> None:
    seen = oci("image", "i", env={"_OCI_COMPLETE": "1"}).stdout.splitlines()
    assert [line.partition("\t")[0] for line in seen] == ["index", "inspect"]
    assert all(line.partition("\t")[2] for line in seen)


def test_a_payload_has_no_options_of_ours(oci: Any) -> None:
    assert oci("run", "image", "ls", "--me", env={"_OCI_COMPLETE": "1"}).stdout == ""
    assert "--memory" in oci("run", "--me", env={"_OCI_COMPLETE": "1"}).stdout


def test_no_command_is_left_out() -> None:
    from oci_tools.cmd.ctl import completion

    assert sorted(completion.COMMANDS.split()) == sorted(os.listdir(f"{os.path.dirname(os.path.dirname(__file__))}/bin"))
