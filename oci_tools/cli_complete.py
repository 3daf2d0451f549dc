"""The third reader of a declaration: what a word that is being typed could become.

A shell runs the command itself, with _OCI_COMPLETE set and the words up to the cursor, the last one unfinished
(`completion/`).  Each line of the answer is a candidate, with what it means behind a tab; the line `:files` or
`:directories` leaves it to the shell.  What there is, images or containers, our own commands are asked for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from oci_tools import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

FILES, DIRECTORIES = ":files", ":directories"
# What is listed for a value or an operand of this name: words of our commands.
LISTS = {
    "IMAGE": (("image", "ls", "--fields", "name"),),
    "CONTAINER": (("run", "list", "--fields", "name"), ("run", "list", "-q")),
    "NETWORK": (("net", "ls", "--fields", "name"),),
    "VOLUME": (("vol", "ls", "-q"),),
}  # fmt: skip
CLIENT_LISTS = {
    "IMAGE": ("images", "-q"),
    "CONTAINER": ("ps", "-a", "--fields", "name"),
    "NETWORK": ("network", "ls", "-q"),
    "VOLUME": ("volume", "ls", "-q"),
    "CONTEXT": ("context", "ls", "--fields", "name"),
}
SAME = {
    "REF": "IMAGE", "SOURCE": "CONTAINER", "DESTINATION": "CONTAINER", "ID": "CONTAINER", "ID[:OPTIONS]": "CONTAINER",
    "FROM": "CONTAINER", "TO": "CONTAINER",
}  # fmt: skip
IN_FILES = ("FILE", "ARCHIVE", "PATH", "SOURCE", "DESTINATION", "FROM", "TO")
IN_DIRECTORIES = ("DIR", "DIRECTORY", "BUNDLE", "LAYOUT", "TREE", "CONTEXT", "TARGET")


def main(command: cli.Command, words: Sequence[str]) -> int:
    for value, meaning in sorted(set(Typed(command, words).candidates())):
        print(f"{value}\t{meaning}" if meaning else value)
    return 0


class Typed:
    """What was said before the last word: the command or verb that it belongs to, and its place in it."""

    def __init__(self, command: cli.Command, words: Sequence[str]) -> None:
        self.command, self.program = command, command.name
        self.options = command.options + cli.SHARED
        self.before: list[str] = []  # the words before the verb
        self.operands: list[str] = []
        self.ended = False  # `--`, or the payload's words
        self.value_of: Any = None  # the option whose value is being typed
        self.path: list[str] = []  # the verbs
        for word in words[:-1]:
            self._take(word)
        self.current = words[-1] if words else ""

    def _take(self, word: str) -> None:
        if self.value_of:
            self.value_of = None
        elif self.ended or word == "-" or not word.startswith("-"):
            self._operand(word)
        elif word == "--":
            self.ended = True
        elif word.startswith("--"):
            option = self._named(word.partition("=")[0])
            self.value_of = option if option and "=" not in word and option[1] != "flag" else None
        else:
            last = self._named(f"-{word[-1]}")
            self.value_of = last if last and last[1] != "flag" else None
        if self.command.verbs is not None and not self.path:
            self.before.append(word)

    def _operand(self, word: str) -> None:
        verbs = self.command.verbs
        if verbs is not None and not self.operands:
            default = self.command.default
            if word in verbs:
                self.path.append(word)
                self.command = verbs[word]
                self.options = self.command.options + self.options
                return
            if default:
                self.command, self.options = default, default.options + self.options
        self.operands.append(word)
        self.ended = self.ended or self.command.stop

    def _named(self, name: str) -> Any:
        default = self.command.default.options if self.command.default else ()
        return next((option for option in (*self.options, *default) if name in cli.names(option)), None)

    # -- what it could become --------------------------------------------------------------

    def candidates(self) -> Iterator[tuple[str, str]]:
        """Each candidate for the last word, and what it means."""
        word = self.current
        name, equals, value = word.partition("=")
        if self.value_of:
            yield from self._matching(self._values(self.value_of), word)
        elif self.ended or not word.startswith("-"):
            yield from self._matching(self._operand_values(), word)
        elif equals:
            option = self._named(name)
            for found, meaning in self._matching(self._values(option), value) if option else ():
                yield (found if found in (FILES, DIRECTORIES) else f"{name}={found}"), meaning
        else:
            yield from self._matching(self._options(word), word)

    @staticmethod
    def _matching(found: Iterator[tuple[str, str]], start: str) -> Iterator[tuple[str, str]]:
        for value, meaning in found:
            if value.startswith(start) or value in (FILES, DIRECTORIES):
                yield value, meaning

    def _options(self, word: str) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        options = self.options + (self.command.default.options if self.command.default else ())
        for option in (*options, ("--help", "flag", False, "show what there is")):
            for name in cli.names(option):
                if name not in seen and (name.startswith("--") or not word.startswith("--")):
                    yield name, option[3]
                seen.add(name)

    def _operand_values(self) -> Iterator[tuple[str, str]]:
        command = self.command
        if command.verbs is not None and not self.operands:
            for name, verb in command.verbs.items():
                yield name, verb.summary
        if command.default:
            command = command.default
        declared = command.usage.split()
        many = next((at for at, word in enumerate(declared) if "..." in word), len(declared))
        at = min(len(self.operands), many)
        if at < len(declared):
            yield from self._things(declared[at].replace("...", "").strip("[]"))

    def _values(self, option: Any) -> Iterator[tuple[str, str]]:
        spelling, kind, _, _ = option
        if kind not in ("text", "list"):
            for word in kind if isinstance(kind, tuple) else ():
                yield word, ""
            return
        if {"--net", "--network"} & {*cli.names(option)}:
            yield from (("none", "no network but a loopback"), ("host", "the host's"))
            yield from self._things("NETWORK")
        yield from self._things(spelling.split()[-1])

    def _things(self, name: str) -> Iterator[tuple[str, str]]:
        """What there is of a kind, by the names of operands and values in a declaration."""
        if name == "SIGNAL":
            cut = 0 if self.current.startswith("S") else len("SIG")
            yield from ((each.name[cut:], "") for each in signal.Signals)
        if name.endswith("DIR[:OPTIONS]") and ":" not in self.current:  # what is shown in a container, and where
            yield DIRECTORIES, ""
            yield from ((f"{volume}:", "") for volume, _ in self._listed("VOLUME"))
            return
        for one in name.split("|"):
            one = "VOLUME" if one == "NAME" and self.program == "oci-vol" and self.path != ["create"] else one
            if one in IN_FILES:
                yield FILES, ""
            elif one in IN_DIRECTORIES and not (one == "CONTEXT" and self.program == "oci-ctl"):
                yield DIRECTORIES, ""
            one = SAME.get(one, one)
            if one == "IMAGE" and self.current[:1] in ("/", ".", "~"):  # a layout, which may have a tag
                yield FILES, ""
                yield from _tags(self.current.rpartition(":")[0])
            yield from self._listed(one)

    def _listed(self, kind: str) -> Iterator[tuple[str, str]]:
        if self.program == "oci-ctl":
            words = CLIENT_LISTS.get("CONTEXT" if kind == "NAME" and self.path[:1] == ["context"] else kind)
            asked = [[*self.before, *words]] if words else []
            name = "ctl"
            for each in asked:
                yield from _lines(name, each)
            return
        for name, *each in LISTS.get(kind, ()):
            for line, meaning in _lines(name, each):
                short = kind == "IMAGE" and not self.current.startswith("docker.io/")
                yield (_short(line) if short else line), meaning


def _short(name: str) -> str:
    """A name as people say it: debian:13, not docker.io/library/debian:13."""
    return name.removeprefix("docker.io/library/").removeprefix("docker.io/")


def _tags(layout: str) -> Iterator[tuple[str, str]]:
    if os.path.isdir(layout):
        yield from ((f"{layout}:{tag}", "") for tag, _ in _lines("image", ["ls", "--fields", "name", layout]))


def _lines(name: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What one of our commands lists."""
    program = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), f"oci-{name}")
    environ = {key: value for key, value in os.environ.items() if key != "_OCI_COMPLETE"}
    try:
        done = subprocess.run([program, *words], env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return
    yield from ((line, "") for line in done.stdout.decode(errors="replace").splitlines() if line and line != "-")
