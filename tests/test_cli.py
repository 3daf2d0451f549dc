"""Two readers of one declaration agree; errors have one form; exit codes mean what house.md says."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import oci_tools.cmd
from oci_tools import cli, cli_click, usual
from oci_tools.errors import Busy, Error, Usage
from tests.conftest import TOP

OPTIONS = (
    ("-i --interactive", "flag", False, "a flag with two names"),
    ("-t --tty", "flag", False, "another, for clusters"),
    ("--verify", "flag", True, "a flag that is taken back"),
    ("-q", "flag", False, "a flag with no long name"),
    ("-e --env NAME=VALUE", "list", (), "a list"),
    ("-w --workdir DIR", "text", None, "text"),
    ("--count N", "int", 3, "a number"),
    ("--progress HOW", ("auto", "plain", "none"), "auto", "one of these words"),
)
WORDS = cli.Command("words", "takes words", "IMAGE [NAME]", OPTIONS, lambda args: 0)
MANY = cli.Command("many", "takes many words", "IMAGE...", OPTIONS, lambda args: 0)
PAYLOAD = cli.Command("payload", "runs a payload", "IMAGE [CMD...]", OPTIONS, lambda args: 0, stop=True)


def leaves(command: cli.Command) -> Iterator[cli.Command]:
    """Every command and verb that words are read for, as `cli.main` would read them."""
    if command.run is not None:
        yield cli._with(command, cli.SHARED)
    for verb in (command.verbs or {}).values():
        if verb.verbs is not None:
            yield from leaves(cli._with(verb, command.options))
        else:
            yield cli._with(verb, command.options + cli.SHARED)
    if command.default is not None:
        yield cli._with(command.default, command.options + cli.SHARED)


def ours() -> list[cli.Command]:
    """The leaves of every command in `oci_tools/cmd/`."""
    found = []
    for module in pkgutil.iter_modules(oci_tools.cmd.__path__, "oci_tools.cmd."):
        found += leaves(importlib.import_module(module.name).COMMAND)
    return found


def argv(command: cli.Command) -> st.SearchStrategy[list[str]]:
    """Words that look like this command's own: its options in every spelling, values, operands, noise."""
    values = ["", "x", "A=b", "-", "--", "-1", "7", "٣", "1_0", "+4", "auto", "plain", "true", "0", "F", "maybe", "é"]
    known = [name for option in command.options for name in cli.names(option)]
    longs = [name for name in known if name.startswith("--")] + ["--no-such", "--help-me"]
    letters = "".join(name[1] for name in known if not name.startswith("--")) + "zA=1"
    value = st.sampled_from(values)
    joined = st.builds("{}={}".format, st.sampled_from(longs), value)
    cluster = st.builds("-{}".format, st.text(letters, min_size=1, max_size=4))
    shortened = st.sampled_from(longs).map(lambda name: name[:-1])
    word = st.one_of(st.sampled_from(longs + known), joined, cluster, value, shortened)
    return st.lists(word, max_size=7)


@st.composite
def commands_and_words(draw: st.DrawFn, of: list[cli.Command]) -> tuple[cli.Command, list[str]]:
    command = draw(st.sampled_from(of))
    return command, draw(argv(command))


def agree(command: cli.Command, words: list[str]) -> None:
    small = cli.read(command, words)
    if small is not None:
        assert cli_click.read(command, words) == small


@given(commands_and_words([WORDS, MANY, PAYLOAD]))
@settings(max_examples=1500, deadline=None)
@example((PAYLOAD, ["-i", "img", "sh", "-c", "x", "--verify=false"]))
@example((WORDS, ["--verify=false", "--verify", "img"]))
@example((WORDS, ["--", "-i", "--"]))
@example((WORDS, ["-", "-"]))
@example((WORDS, ["-itwq", "img"]))
@example((WORDS, ["-ie", "--interactive=true", "img"]))
@example((WORDS, ["-e", "--", "--interactive=true", "img"]))
@example((WORDS, ["--count", "-1", "img"]))
@example((WORDS, ["-w", "--verify=false", "img"]))
@example((PAYLOAD, ["--", "img", "--", "x"]))
@example((PAYLOAD, ["img", "--", "x"]))
@example((MANY, ["", "a"]))
@example((PAYLOAD, ["-", "--interactive=true"]))
def test_what_the_small_reader_accepts_click_reads_the_same(case: tuple[cli.Command, list[str]]) -> None:
    agree(*case)


def test_the_same_for_every_command_of_ours() -> None:
    @given(commands_and_words(ours()))
    @settings(max_examples=1500, deadline=None)
    def holds(case: tuple[cli.Command, list[str]]) -> None:
        agree(*case)

    holds()


@given(commands_and_words([WORDS, MANY, PAYLOAD]))
@settings(max_examples=500, deadline=None)
def test_click_reads_or_says_usage(case: tuple[cli.Command, list[str]]) -> None:
    try:
        cli_click.read(*case)
    except Usage as error:
        assert "\n" not in str(error) and not str(error).endswith(".")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["img"], {"image": "img", "name": None, "interactive": False, "verify": True, "env": [], "count": 3}),
        (["-it", "img", "n"], {"image": "img", "name": "n", "interactive": True, "tty": True}),
        (["-eA=1", "--env", "B=2", "img"], {"env": ["A=1", "B=2"]}),
        (["img", "--count=-4", "-w/x"], {"count": -4, "workdir": "/x"}),
        (["--verify=0", "img"], {"verify": False}),
        (["--progress", "none", "img"], {"progress": "none"}),
        (["-q", "--", "-x"], {"q": True, "image": "-x"}),
    ],
)
def test_the_small_reader_reads(words: list[str], expected: dict[str, object]) -> None:
    values = cli.read(WORDS, words)
    assert values is not None
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    "words",
    [[], ["a", "b", "c"], ["--nope", "a"], ["--count", "x", "a"], ["--count", "9" * 20, "a"], ["--progress=loud", "a"], ["a", "-w"],
     ["--verify=maybe", "a"], ["--help"], ["--version"], ["-iz", "a"], ["--interact", "a"]],
)  # fmt: skip
def test_the_rest_is_left_to_click(words: list[str]) -> None:
    assert cli.read(WORDS, words) is None


def test_a_payload_keeps_its_own_options() -> None:
    values = cli.read(PAYLOAD, ["-i", "img", "-e", "x", "--", "-t"])
    assert values is not None
    assert (values["interactive"], values["tty"], values["cmd"]) == (True, False, ["-e", "x", "--", "-t"])


# -- running ---------------------------------------------------------------------------


def failing(error: BaseException, **more: int) -> cli.Command:
    def run(args: cli.Args) -> int:
        raise error

    return cli.Command("oci-x", "fails", "", (), run, **more)


def digits() -> BaseException:
    """What int() says of more digits than it takes, of which a Dockerfile, say, may have any number."""
    with pytest.raises(ValueError, match="digits") as raised:
        int("9" * 5000)
    return raised.value


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Error("cannot open", "/a", FileNotFoundError(2, "No such file or directory")), 1,
         "oci-x: cannot open '/a': no such file or directory\n"),
        (Error("cannot open", b"/\xff\n", "no", "try harder"), 1,
         "oci-x: cannot open '/\\udcff\\n': no (try harder)\n"),
        (Error("cannot pull", "a", Error("cannot reach", "b")), 1, "oci-x: cannot pull 'a': cannot reach 'b'\n"),
        (Usage("unknown option", "--x"), 2, "oci-x: unknown option '--x'\n"),
        (Busy("cannot lock", "/l"), 75, "oci-x: cannot lock '/l'\n"),
        (Error("cannot run", "nope", code=127), 127, "oci-x: cannot run 'nope'\n"),
        (KeyboardInterrupt(), 130, ""),
        (digits(), 1, "oci-x: a number has too many digits\n"),
    ],
)  # fmt: skip
def test_errors_have_one_form(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(failing(error), []) == code
    assert capsys.readouterr().err == line


def test_an_error_of_a_one_shot_is_125_but_a_bad_word_stays_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(failing(Error("cannot pull", "a"), failure=125), []) == 125
    assert cli.main(failing(Error("cannot exec", "a", code=126), failure=125), []) == 126
    assert cli.main(failing(Error("never"), failure=125), ["--nope"]) == 2


def test_a_bug_is_70_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(failing(ValueError("boom")), []) == 70
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_where_an_error_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(failing(Error("cannot open", "/a")), ["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def verbs() -> cli.Command:
    def done(name: str) -> cli.Command:
        options = (("-f --force", "flag", False, "force"),)
        return cli.Command(f"oci-x {name}", name, "[ID...]", options, lambda args: said.append((name, args)))

    said: list[tuple[str, cli.Args]] = []
    command = cli.Command("oci-x", "verbs", "", (("--root DIR", "text", None, "root"),),
                          verbs={"list": done("list"), "kill": done("kill")}, default=done("shot"))  # fmt: skip
    command.said = said  # type: ignore[attr-defined]
    return command


@pytest.mark.parametrize(
    ("words", "verb", "ids", "root", "force"),
    [
        (["list"], "list", [], None, False),
        (["--root", "/r", "kill", "-f", "a"], "kill", ["a"], "/r", True),
        (["kill", "--root=/r", "a", "b"], "kill", ["a", "b"], "/r", False),
        (["--root", "list", "kill"], "kill", [], "list", False),
        (["alpine", "list"], "shot", ["alpine", "list"], None, False),
        (["-f", "alpine"], "shot", ["alpine"], None, True),
    ],
)
def test_a_verb_wins_over_an_operand(
    words: list[str], verb: str, ids: list[str], root: str | None, force: bool
) -> None:
    command = verbs()
    assert cli.main(command, words) == 0
    ((name, args),) = command.said  # type: ignore[attr-defined]
    assert (name, args.id, args.root, args.force) == (verb, ids, root, force)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["group", "list", "a"], 0),
        (["group", "--root=/r", "list", "a"], 0),
        (["--root=/r", "group", "list", "-f", "a"], 0),
        (["group", "list", "--help"], 0),
        (["group", "--help"], 0),
        (["group"], 2),
        (["group", "nope"], 2),
    ],
)
def test_a_verb_may_have_verbs(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    inner = verbs()
    inner.default, inner.options = None, ()
    outer = cli.Command("oci-x", "verbs", "", (("--root DIR", "text", None, "root"),), verbs={"group": inner})
    assert cli.main(outer, words) == code
    for name, args in inner.said:  # type: ignore[attr-defined]
        assert (name, args.id, args.root) == ("list", ["a"], "/r" if "--root=/r" in words else None)


@pytest.mark.parametrize("words", [[], ["nope"], ["--nope", "list"]])
def test_no_such_verb_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = verbs()
    command.default = None
    assert cli.main(command, words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("said", "meant"), [("lsit", "list"), ("lst", "list"), ("liist", "list"), ("kist", "list"), ("lust", "list"), ("l", None), ("tsil", None)])
def test_a_slip_of_the_fingers(said: str, meant: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.Command("oci-x", "", verbs={"list": WORDS, "kill": MANY})
    assert cli.main(command, [said]) == 2
    assert capsys.readouterr().err == f"oci-x: unknown verb '{said}' ({f'oci-x {meant}?' if meant else 'one of list, kill'})\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list", "--help"]])
def test_help_is_0_and_on_stdout(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(verbs(), words) == 0
    captured = capsys.readouterr()
    assert captured.out and not captured.err


# -- as processes -----------------------------------------------------------------------


def test_a_full_disk_is_a_failure(oci: object) -> None:
    with open("/dev/full", "wb") as full:
        done = oci("demo", "--help", stdout=full, code=1)  # type: ignore[operator]
    assert done.stderr == "oci-demo: cannot write standard output: no space left on device\n"


def test_no_room_for_a_file_is_not_standard_outputs(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """A pipe, as here, is never full."""
    import os

    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("oci_tools.cmd.unpack.main", lambda words: os.write(full, b"x"))
    reader, writer = os.pipe()
    kept = os.dup(1)
    os.dup2(writer, 1)
    cli.launch("unpack")
    os.dup2(kept, 1)
    for fd in (full, reader, writer, kept):
        os.close(fd)
    assert ended == [1] and "cannot write a file: no space left on device\n" in capfd.readouterr().err


def test_a_reader_that_went_away_is_no_traceback(oci: object) -> None:
    import os

    read, write = os.pipe()
    os.close(read)
    done = oci("demo", "--help", stdout=write, code=141)  # type: ignore[operator]
    os.close(write)
    assert done.stderr == ""


def test_another_pipe_that_breaks_is_not_the_readers(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Something of ours that has ended is no reason to say nothing, and that standard output was not read."""
    import os

    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("oci_tools.cmd.unpack.main", lambda words: os.write(broken, b"x"))
    reader, broken = os.pipe()
    os.close(reader)
    cli.launch("unpack")
    os.close(broken)
    assert ended == [70] and "BrokenPipeError" in capfd.readouterr().err


def test_commands_need_no_path_and_ignore_pythons_environment(oci: object, tmp_path: object) -> None:
    (tmp_path / "os.py").write_text("raise SystemExit('hijacked')")  # type: ignore[operator]
    world = {"PATH": None, "HOME": None, "LANG": None, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}
    done = oci("demo", "--version", env=world)  # type: ignore[operator]
    assert re.fullmatch(r"\S+ version \S+\n", done.stdout)


COMMANDS = sorted(path.name for path in (TOP / "bin").iterdir())
SCREEN = 50


@pytest.mark.parametrize("name", COMMANDS)
def test_help_leads_with_an_example(name: str, oci: Any) -> None:
    shown = oci(name.removeprefix("oci-"), "--help", env={"COLUMNS": "120"}).stdout.splitlines()
    assert name in re.findall(r"[\w-]+", shown[0]) and shown[1] == "" and shown[2].startswith(f"Usage: {name}")
    assert max(map(len, shown)) <= 120


def told(command: cli.Command, columns: int) -> list[str]:
    """The help of a command or verb as a terminal of so many columns has it."""
    made = cli_click.build(command)
    return made.get_help(click.Context(made, info_name=command.name, terminal_width=columns)).splitlines()


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", text))


def everyone(command: cli.Command, above: tuple[cli.Option, ...] = cli.SHARED) -> Iterator[cli.Command]:
    """A command with all of its verbs, and theirs."""
    yield cli._with(command, above)
    for verb in (command.verbs or {}).values():
        yield from everyone(verb, above if verb.verbs is None else above + command.options)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_verb_fits_a_screen_and_says_where_the_rest_is(name: str, oci: Any) -> None:
    command = importlib.import_module(f"oci_tools.cmd.{name.removeprefix('oci-')}").COMMAND
    for each in everyone(command):
        shown = told(each, 80)
        assert len(shown) <= SCREEN, f"{each.name}: {len(shown)} lines"
        known = {option for one in each.options for option in cli.names(one)}
        if not known <= options("\n".join(shown)):
            assert f"{each.name} --help-all" in shown[-1]
            words = each.name.removeprefix("oci-").split(" ")
            assert known <= options(oci(*words, "--help-all").stdout)
        if each.verbs:
            assert not each.verbs.keys() - set(re.findall(r"[\w-]+", "\n".join(shown)))


def test_what_help_shows_first_is_there() -> None:
    every = {each.name for name in COMMANDS for each in everyone(importlib.import_module(f"oci_tools.cmd.{name.removeprefix('oci-')}").COMMAND)}
    assert {*usual.OPTIONS, *usual.VERBS} <= every
