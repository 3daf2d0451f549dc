"""`--script FILE`: an ordinary shell script is the build.

    from debian                         its words are those of a Dockerfile, in small letters
    deps() {
        apt-get update && apt-get install -y nginx
    }
    step --mount=type=cache,target=/var/cache/apt deps
    copy site /srv/
    cmd nginx -g 'daemon off;'

The script runs here, in its own shell, and its words say what to do: loops, conditions and variables are the
shell's.  Each `step NAME` is a layer: in it the script is read again, in the image, and then its function NAME is
called.  What a step depends on is the script without the words above and without the functions of other steps,
which begin with a line `NAME() {` and end with a line `}`.
"""

from __future__ import annotations

import os
import re
import subprocess

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORDS = ("from", "arg", "env", "label", "copy", "add", "workdir", "user", "expose", "volume", "entrypoint", "cmd",
         "healthcheck", "stopsignal", "shell", "onbuild", "step")  # fmt: skip
LARGEST = 1 << 20  # bytes of a script, and of what it says
_BEGIN = re.compile(r"([A-Za-z_][A-Za-z0-9_]*) *\(\) *\{")
_SPECIAL = re.compile(r"""[$'"\\]""")
_IN_QUOTES = re.compile(r"""[$"\\]""")
_LISTS = ("copy", "add", "volume", "entrypoint", "cmd", "shell")
_PAIRS = ("env", "label", "arg")


def dockerfile(path: str, context: str, arguments: Mapping[str, str]) -> tuple[bytes, list[str], list[int]]:
    """The Dockerfile that a script means; `arguments` are variables of the script.

    Also the script's lines, and for each line of the Dockerfile the number of the script's that says it.
    """
    text = _read(path)
    said = _run(path, text, context, arguments)
    steps = {_step(words)[1] for words in said if words[0] == "step"}
    made: list[tuple[str, int]] = []
    variables: list[tuple[str, int]] = []  # a variable of the script is one in all stages
    shown = text.split("\n")
    at = 0
    for words in said:
        at = _line_of(words, shown, at)
        made.append((_instruction(words, text, steps, path), at))
        if words[0] == "arg":
            variables.append(made[-1])
        elif words[0] == "from":
            made += variables
    data = "".join(f"{line}\n" for line, _ in made).encode("utf-8", "surrogateescape")
    return data, shown, [at for line, at in made for _ in line.split("\n")]


def _line_of(words: list[str], lines: list[str], last: int) -> int:
    """The number of the line that says these words: shells do not tell, so the one that looks most like it.

    Of equals the first behind the line `last`, where the script was before.
    """
    says = re.compile(rf"(?:^|[;&|({{]|\b(?:do|then|else))\s*{words[0]}\b")
    found = [number for number, line in enumerate(lines, 1) if says.search(line)]
    likeness = {number: sum(word in lines[number - 1] for word in words[1:]) for number in found}
    return min(found, key=lambda number: (-likeness[number], number <= last, number), default=max(last, 1))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise Error("cannot read script", path, error) from None
    if len(text) > LARGEST:
        raise Error("cannot read script", path, f"larger than {LARGEST} bytes")
    return text


def _shell(text: str) -> list[str]:
    """The words of the script's first line, by which it is executed."""
    first = text.partition("\n")[0]
    return first[2:].split() if first.startswith("#!") else ["/bin/sh"]


def _run(path: str, text: str, context: str, arguments: Mapping[str, str]) -> list[list[str]]:
    """What a script says, word by word."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    hear = f'_oci_say() {{ printf "%s\\0" "$#" "$@" >&{writer}; }}\n'
    words = "".join(f'{word}() {{ _oci_say {word} "$@"; }}\n' for word in WORDS if word != "arg")
    takes = 'arg() { _oci_say arg "$@"; for _oci in "$@"; do case $_oci in *=*) '
    takes += 'eval "${_oci%%=*}=\\${${_oci%%=*}-\\${_oci#*=}}";; esac; done; }\n'
    shell = _shell(text)
    prelude = f"{hear}{words}{takes}. \"$0\"\n"
    try:
        process = subprocess.Popen(
            [*shell, "-c", prelude, os.path.abspath(path)], cwd=context, env={**os.environ, **arguments},
            stdin=subprocess.DEVNULL, stdout=2, pass_fds=[writer],
        )  # fmt: skip
    except OSError as error:
        os.close(reader)
        raise Error("cannot execute", shell[0], error) from None
    finally:
        os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read(LARGEST)
    if process.wait():
        code = process.returncode
        raise Error("the script failed", path, f"exit code: {code}" if code > 0 else f"killed by signal {-code}")
    found = list(_parted(data))
    if not found:
        raise Error("the script says nothing to build", path, hint="from IMAGE; step FUNCTION")
    return found


def _parted(data: bytes) -> Iterator[list[str]]:
    parts = [part.decode("utf-8", "surrogateescape") for part in data.split(b"\0")[:-1]]
    while parts:
        count = int(parts[0])
        yield parts[1 : count + 1]
        del parts[: count + 1]


# -- as a Dockerfile ------------------------------------------------------------------------------


def _instruction(words: list[str], text: str, steps: set[str], path: str) -> str:
    name, rest = words[0], words[1:]
    if name == "step":
        return _as_run(words, text, steps, path)
    for word in rest:
        if "\n" in word:
            raise Error(f"a newline in a word of '{name}'", path)
    flags = []
    while rest and rest[0].startswith("--"):
        flags.append(rest.pop(0))
    if name in _LISTS:
        literal = name in ("copy", "add", "volume")
        rest = [document.dumps([_literal(word) if literal else word for word in rest]).decode()]
    elif name in _PAIRS:
        rest = [f'{key}{equals}"{_IN_QUOTES.sub(_escaped, value)}"' if equals else key
                for key, equals, value in (word.partition("=") for word in rest)]  # fmt: skip
    elif name == "healthcheck" and rest[:1] == ["cmd"]:
        rest = ["CMD", document.dumps(rest[1:]).decode()]
    elif name != "onbuild":
        rest = [_literal(word) for word in rest]
    return " ".join([name.upper(), *flags, *rest])


def _literal(word: str) -> str:
    """A word as a Dockerfile's that means itself: its variables were the shell's."""
    return _SPECIAL.sub(_escaped, word)


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[0]


def _step(words: list[str]) -> tuple[list[str], str, list[str]]:
    """The flags, the function and the arguments of a step."""
    rest = words[1:]
    flags = []
    while rest and rest[0].startswith("--"):
        flags.append(rest.pop(0))
    if not rest or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest[0]):
        raise Error("step needs the name of a function", " ".join(words))
    return flags, rest[0], rest[1:]


def _as_run(words: list[str], text: str, steps: set[str], path: str) -> str:
    flags, name, args = _step(words)
    body = _without(text, steps - {name})
    first = f"#!{' '.join(_shell(text))}"
    body = body.partition("\n")[2] if body.startswith("#!") else body
    deaf = "".join(f"{word}() {{ :; }}\n" for word in WORDS)
    hear = f"unset -f {' '.join(WORDS)}\n"
    call = " ".join([name, *(f"'{arg.replace(chr(39), _QUOTE)}'" for arg in args)])
    script = f"{first}\nset -e\n{deaf}{body}\n{hear}{call}\n"
    end = f"END_OF_{name}"
    while re.search(rf"(?m)^{end}$", script):
        end += "_"
    return " ".join(["RUN", *flags, f"<<'{end}'"]) + f"\n{script}{end}"


_QUOTE = "'\\''"


def _without(text: str, steps: set[str]) -> str:
    """A script without the functions of these steps, and without lines that only say words of ours."""
    kept = []
    skipping = False
    for line in text.split("\n"):
        found = _BEGIN.match(line)
        if skipping:
            skipping = line != "}"
        elif found and found[1] in steps:
            skipping = not line.rstrip().endswith("}")
        elif line.partition(" ")[0] in WORDS and not line.rstrip().endswith("\\"):
            continue
        else:
            kept.append(line)
    return "\n".join(kept)
