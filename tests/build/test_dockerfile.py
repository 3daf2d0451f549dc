"""Reading a Dockerfile: statements, directives, here-documents, instructions; and every class of error."""

from __future__ import annotations

from typing import Any

import pytest

from oci_tools.build.dockerfile import Dockerfile
from oci_tools.build.scope import Scope
from oci_tools.build.position import Wrong


def read(text: str | bytes) -> Dockerfile:
    return Dockerfile(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"), "Dockerfile")


def only(text: str) -> Any:
    """The one instruction behind FROM."""
    (found,) = read(f"FROM a\n{text}\n").stages[0].instructions
    return found


@pytest.mark.parametrize(
    "text, place, said",
    [
        ("", "1:1", "file with no instructions"),
        ("# only\n\n", "2:1", "file with no instructions"),
        ("RUN x", "1:1", "no build stage in current context (FROM comes first)"),
        ("ARG a", "1:1", "dockerfile contains no stages to build"),
        ("FROM a\nRUNN x", "2:1", "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\nenvv x", "2:1", "unknown instruction: envv (did you mean env?)"),
        ("FROM a\nFOO x", "2:1", "unknown instruction: FOO"),
        ("FROM", "1:1", "FROM requires either one or three arguments"),
        ("FROM a b", "1:1", "FROM requires either one or three arguments"),
        ("FROM a ass b", "1:1", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "1:11", 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols'),
        ("FROM --platfrom=x a", "1:6", "unknown flag: --platfrom (did you mean platform?)"),
        ("FROM a\nRUN", "2:1", "RUN requires at least one argument"),
        ("FROM a\nRUN --network=x y", "2:15", 'invalid network mode "x"'),
        ("FROM a\nRUN --security=x y", "2:16", 'security "x" is not valid'),
        ("FROM a\nRUN --mount=type=bind,from=$x y", "2:23", "'from' doesn't support variable expansion, define alias stage instead"),
        ("FROM a\nCMD [1]", "2:5", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nCOPY x", "2:1", "COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("FROM a\nCOPY --chown x y", "2:6", "missing a value on flag: --chown"),
        ("FROM a\nCOPY --chown=a --chown=b x y", "2:6", "duplicate flag specified: --chown"),
        ("FROM a\nCOPY --link=x y z", "2:6", "expecting boolean value for flag --link, not: x"),
        ("FROM a\nCOPY --link= y z", "2:6", "missing a value on flag: --link"),
        ("FROM a\nENV abc=1 c", "2:11", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("FROM a\nCOPY --checksum=x y z", "2:6", "unknown flag: --checksum"),
        ("FROM a\nCOPY x <<E\nE", "2:8", "COPY cannot accept a heredoc as a destination"),
        ("FROM a\nRUN <<E\nx", "2:5", "unterminated heredoc"),
        ("FROM a\nENV a", "2:5", "ENV must have two arguments"),
        ("FROM a\nENV", "2:1", "ENV requires at least one argument"),
        ("FROM a\nENV a=b c", "2:9", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("FROM a\nENV =b", "2:5", "ENV names can not be blank"),
        ("FROM a\nLABEL a=b c", "2:11", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("FROM a\nARG =x", "2:5", "ARG names can not be blank"),
        ("FROM a\nARG", "2:1", "ARG requires at least one argument"),
        ("FROM a\nWORKDIR", "2:1", "WORKDIR requires exactly one argument"),
        ("FROM a\nUSER", "2:1", "USER requires exactly one argument"),
        ("FROM a\nSTOPSIGNAL", "2:1", "STOPSIGNAL requires exactly one argument"),
        ("FROM a\nMAINTAINER", "2:1", "MAINTAINER requires exactly one argument"),
        ("FROM a\nEXPOSE", "2:1", "EXPOSE requires at least one argument"),
        ("FROM a\nVOLUME", "2:1", "VOLUME requires at least one argument"),
        ("FROM a\nVOLUME []", "2:1", "VOLUME requires at least one argument"),
        ('FROM a\nVOLUME [""]', "2:1", "VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL x", "2:7", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", "2:1", "SHELL requires at least one argument"),
        ("FROM a\nONBUILD", "2:1", "ONBUILD requires at least one argument"),
        ("FROM a\nONBUILD ONBUILD RUN x", "2:9", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD FROM x", "2:9", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD MAINTAINER x", "2:9", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD RUNN x", "2:9", "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\n  ONBUILD WORKDIR", "2:11", "WORKDIR requires exactly one argument"),
        ("FROM a\nONBUILD \\\n  RUN", "3:3", "RUN requires at least one argument"),
        ("FROM a\nONBUILD --x RUN y", "2:9", "unknown flag: --x"),
        ("FROM a\nONBUILD COPY --form=b c d", "2:14", "unknown flag: --form (did you mean from?)"),
        ("FROM a\nONBUILD ADD ONBUILD", "2:9", "ADD requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("FROM a\nCMD [\"a\", {\"b\": 1e99}]", "2:5", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nHEALTHCHECK", "2:1", "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", "2:18", "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "2:13", "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK FOO x", "2:13", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("FROM a\nHEALTHCHECK --interval=1x CMD x", "2:24", 'time: unknown unit "x" in duration "1x" (like 30s, 1m30s or 500ms)'),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", "2:24", 'time: missing unit in duration "5" (like 30s, 1m30s or 500ms)'),
        ("FROM a\nHEALTHCHECK --timeout=1m5 CMD x", "2:23", 'time: missing unit in duration "1m5" (like 30s, 1m30s or 500ms)'),
        ("FROM a\nHEALTHCHECK --timeout=x CMD x", "2:23", 'time: invalid duration "x" (like 30s, 1m30s or 500ms)'),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", "2:23", 'Interval "timeout" cannot be less than 1ms'),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "2:23", "--retries cannot be negative (-1)"),
        ("FROM a\nHEALTHCHECK --retries=a CMD x", "2:23", 'invalid value for --retries: "a"'),
        ("# escape=x\nFROM a", "1:10", "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", "2:1", "only one escape parser directive can be used"),
        ("FROM a\nRUN " + "x" * 70000, "2:1", "dockerfile line greater than max allowed size of 65535"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(text: str, place: str, said: str) -> None:
    with pytest.raises(Wrong) as caught:
        read(text)
    assert str(caught.value) == f"Dockerfile:{place}: {said}"


def test_the_excerpt_points_at_it() -> None:
    with pytest.raises(Wrong) as caught:
        read("FROM a\n\nRUN x \\\n  y\nCOPY --form=b c d\nRUN e\nRUN f\nRUN g\n")
    assert caught.value.excerpt() == (
        "  3 | RUN x \\\n  4 |   y\n  5 | COPY --form=b c d\n    |      ^^^^^^\n  6 | RUN e\n  7 | RUN f\n"
    )


def test_what_cannot_be_shown_is_not() -> None:
    with pytest.raises(Wrong) as caught:
        read(b"FROM a\nFOO \x1b[31m\xff\n")
    assert "\x1b" not in caught.value.excerpt() and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("before, columns", {"\x1b": 4, "\udcff": 6, "\t": 1, "漢字": 4, "e\u0301": 1, "\u200b": 6, "": 0}.items())
def test_the_mark_is_below_what_is_meant(before: str, columns: int) -> None:
    """However wide what is before it is shown."""
    with pytest.raises(Wrong) as caught:
        read(f"FROM a\nENV {before}x=1 字\n".encode("utf-8", "surrogateescape"))
    assert caught.value.excerpt().splitlines()[-1] == "    | " + (4 + columns + 4) * " " + "^^"


@pytest.mark.parametrize(
    "text, directives, escape",
    [
        ("# escape=`\nFROM a", {"escape": ("`", 1)}, "`"),
        ("#escape = \\\n# SYNTAX=docker/dockerfile:1\nFROM a", {"escape": ("\\", 1), "syntax": ("docker/dockerfile:1", 2)}, "\\"),
        ("# comment\n# escape=`\nFROM a", {}, "\\"),
        ("\n# escape=`\nFROM a", {}, "\\"),
        ("# unknown=x\n# escape=`\nFROM a", {}, "\\"),
        ("FROM a\n# escape=`", {}, "\\"),
        ("# check=skip=all;error=true\nFROM a", {"check": ("skip=all;error=true", 1)}, "\\"),
    ],
)
def test_directives(text: str, directives: dict[str, Any], escape: str) -> None:
    found = read(text).source
    assert found.directives == directives and found.escape == escape


@pytest.mark.parametrize(
    "text, rest",
    {
        "RUN a \\\n  b": "a   b",
        "RUN a \\\n# c\n\n  b": "a   b",
        "RUN a \\  \n b": "a  b",
        "RUN a \\\\\nRUN b": None,
        "run\ta\t b ": "a\t b",
        "  RUN a": "a",
        "RUN a \\": "a",
        "RUN a \\\n": "a",
    }.items(),
)
def test_continuations(text: str, rest: str | None) -> None:
    found = read(f"FROM x\n{text}").stages[0].instructions
    assert len(found) == (1 if rest is not None else 2)
    assert rest is None or found[0].statement.rest == rest


def test_here_documents() -> None:
    one = only("RUN cat <<A >/x && cat <<-'B'\na $x\n\tA\nA\n\tb\n\tB\n")
    assert [(h.name, h.expand, h.chomp, h.content) for h in one.files] == [
        ("A", True, False, "a $x\n\tA\n"), ("B", False, True, "\tb\n"),
    ]  # fmt: skip
    assert [(h.name, h.expand, h.chomp) for h in only("RUN x << A <<- \\B <<c\\'d\na\nA\nb\n\tB\nd\nc'd").files] == [
        ("A", True, False), ("B", True, True), ("c'd", True, False),
    ]  # fmt: skip
    copy = only("COPY <<  'A' e <<- B /d/\na\nA\n\tb\nB\n")
    assert [(h.name, h.chomped()) for h in copy.contents] == [("A", "a\n"), ("B", "b\n")]
    assert (copy.sources, copy.dest) == (["e"], "/d/")
    for text in "echo $((1 << 2))", "cat <<< A", "echo <", 'echo "<< A"', "echo <<", "echo \\<< A", "echo < <A":
        assert not only(f"RUN {text}").files
    assert not only("RUN echo '<<A'").files
    assert only("RUN [\"cat\", \"<<A\"]").files == []
    assert only('RUN echo "<<A"').files == []
    assert only("CMD echo <<A").args == ["echo <<A"]
    copy = only("COPY <<\"f.g\" h /d/\ntext\nf.g\n")
    assert [(h.name, h.chomped(), h.expand) for h in copy.contents] == [("f.g", "text\n", False)]
    assert copy.sources == ["h"] and copy.dest == "/d/"
    assert only("ONBUILD RUN <<E\nx\nE").trigger == "RUN <<E\nx\nE"


def test_lines_of_what_follows_a_here_document() -> None:
    found = read("FROM a\nRUN <<E\n1\n2\nE\nRUN x\n").stages[0].instructions
    assert [(one.statement.start, one.statement.end) for one in found] == [(2, 5), (6, 6)]


@pytest.mark.parametrize("nothing", ["\n", "\r\n", " \t\v\f\n", "# c\n", "\t#\r\n", " " * 2000 + "\n", "#" * 2000 + "\n", "# \xff\n\n"])
def test_lines_that_say_nothing(nothing: str) -> None:
    """However many there are, they are counted, and told from each other."""
    some = 700 * nothing
    found = read(f"FROM a\n{some}# about\nRUN b \\\n{some} c <<E\n{some}E\n{some}CMD x").stages[0].instructions
    lines = some.count("\n")
    assert [(one.statement.start, one.statement.end) for one in found] == [(lines + 3, 3 * lines + 5), (4 * lines + 6, 4 * lines + 6)]
    run = found[0].statement
    assert run.rest == "b  c <<E" and run.heredocs[0].content == some.replace("\r\n", "\n")
    comments = {"# c\n": 700 * ["c"], "#" * 2000 + "\n": 700 * ["#" * 1999], "# \xff\n\n": 700 * ["\xff"]}.get(nothing, [])
    assert run.empty is (not nothing.strip() or nothing.endswith("\n\n"))
    assert [*run.comments] == [*comments, "about"]
    with pytest.raises(Wrong) as caught:
        read(f"FROM a\n{some}{some}FOO x\n{some}")
    assert str(caught.value) == f"Dockerfile:{2 * lines + 2}:1: unknown instruction: FOO"
    assert f"  {2 * lines + 2} | FOO x\n" in caught.value.excerpt()


@pytest.mark.parametrize(
    "text, wanted",
    {
        'CMD ["a", "b c"]': (["a", "b c"], False),
        "CMD a b": (["a b"], True),
        "CMD []": ([], False),
        "CMD ['a']": (["['a']"], True),
        'CMD ["a"': (['["a"'], True),
        'CMD ["a"] x': (['["a"] x'], True),
        "CMD [NaN]": (["[NaN]"], True),  # what Go does not read is none
        "CMD [-Infinity]": (["[-Infinity]"], True),
        'CMD ["a", {"b": [1e999]}]': (['["a", {"b": [1e999]}]'], True),
        f"CMD [1{400 * '0'}]": ([f"[1{400 * '0'}]"], True),
        'CMD ["\\ud800x\\ude00", "\\ud83d\\ude00", "\udcff"]': (["\ufffdx\ufffd", "😀", "\ufffd"], False),
        'ENTRYPOINT [ "\\u0041" ]': (["A"], False),
        "CMD": ([], True),
    }.items(),
)
def test_commands(text: str, wanted: tuple[list[str], bool]) -> None:
    found = only(text)
    assert (found.args, found.shell) == wanted


def test_stages() -> None:
    found = read("ARG a\nFROM x AS One\nRUN 1\nFROM y\nFROM z as two\nFROM q AS one\n")
    assert [(stage.number, stage.name) for stage in found.stages] == [(0, "one"), (1, ""), (2, "two"), (3, "one")]
    assert [getattr(found.find(name), "number", None) for name in ("ONE", "two", "1", "9", "x")] == [3, 2, 1, None, None]
    assert [one.name for one in found.globals] == ["ARG"]


def test_times_of_health_checks() -> None:
    one = only("HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=2h --start-interval=100ms --retries=3 CMD x")
    assert one.health == {
        "Test": ["CMD-SHELL", "x"], "Interval": 90 * 10**9, "Timeout": 1_500_000_000, "StartPeriod": 7200 * 10**9,
        "StartInterval": 100_000_000, "Retries": 3,
    }  # fmt: skip


@pytest.mark.parametrize("text, target, stage", [
    ("FROM a AS One\nFROM b", None, "default"), ("FROM a\nFROM b AS Last", None, "last"), ("FROM a AS one\nFROM b AS last", "one", "one"),
])  # fmt: skip
def test_which_stage_is_asked_for(text: str, target: str | None, stage: str) -> None:
    assert Scope(read(text), {}, {"os": "linux", "architecture": "amd64"}, target).globals["TARGETSTAGE"] == stage


def test_proxies_have_both_names() -> None:
    given = {"http_proxy": "a", "NO_PROXY": "b", "HTTPS_PROXY": "c", "https_proxy": "d", "OTHER": "e", "SOURCE_DATE_EPOCH": "1"}
    scope = Scope(read("FROM a"), given, {"os": "linux", "architecture": "amd64"})
    assert scope.proxies() == {
        "HTTP_PROXY": "a", "http_proxy": "a", "NO_PROXY": "b", "no_proxy": "b", "HTTPS_PROXY": "c", "https_proxy": "d",
    }  # fmt: skip
