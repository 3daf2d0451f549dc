"""What each instruction of a Dockerfile says: a statement's words, understood and checked.

An `Instruction` has the statement and, as attributes, what is drawn here.  Variables are not replaced
yet: that is done when a stage is built (`variables.py`).

    FROM                 base, stage (its name in small letters, ""), platform
    ARG                  pairs [(name, value or None)]
    ENV LABEL            pairs [(name, value)], legacy (NAME VALUE without =)
    COPY ADD             sources, contents [Heredoc], dest, flags
    RUN                  args, shell (args are one text for it), files [Heredoc], flags, mounts
    CMD ENTRYPOINT       args, shell
    HEALTHCHECK          health: the config's member
    SHELL EXPOSE VOLUME  args
    USER WORKDIR STOPSIGNAL MAINTAINER  value
    ONBUILD              trigger: the text of an instruction, here-documents included
"""

from __future__ import annotations

import re

from oci_tools import document
from oci_tools.build import mounts
from oci_tools.build.lines import Statement, heredoc_of, parted
from oci_tools.build.position import Wrong, meant
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST = 100  # letters of a word that is none, in a message
_SPACE = re.compile(r"[\t\v\f\r ]+")
_APART = re.compile(r"(?<!\S)(\d*<<-?)[\t\v\f\r ]+")  # the sign of a here-document whose name is apart
_STAGE = re.compile(r"[a-z][a-z0-9-_.]*\Z")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LONE = re.compile("[\ud800-\udfff]")  # half of a character, and what is no UTF-8
SHORTEST = 10**6  # nanoseconds of a health check's times


class Instruction:
    """One instruction: `name` in capitals, its statement, and the attributes of its kind."""

    def __init__(self, statement: Statement, **said: Any) -> None:
        self.statement = statement
        self.name = statement.name
        self.__dict__.update(said)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def wrong(self, message: str, text: str | None = None, hint: str | None = None) -> Wrong:
        return self.statement.wrong(message, text, hint)


def read(statement: Statement, escape: str = "\\") -> Instruction:
    """The instruction that a statement is."""
    reader = _READERS.get(statement.name)
    if reader is None:
        known = [name.lower() for name in _READERS] if statement.word.islower() else list(_READERS)
        hint = meant(statement.word, known)
        raise statement.wrong(f"unknown instruction: {statement.word[:LONGEST]}", statement.word, hint)
    return reader(statement, escape)


# -- words and flags -----------------------------------------------------------------------------


def json_words(text: str, statement: Statement) -> list[str] | None:
    """The words of a JSON list; None for what is no JSON list, or none that Go can read."""
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        found = document.loads(text)
    except (Error, ValueError):
        return None
    if not isinstance(found, list) or not _has_numbers_of_go(found):
        return None
    if not all(isinstance(word, str) for word in found):
        raise statement.wrong("when using JSON array syntax, arrays must be comprised of strings only", text)
    return [_LONE.sub("\ufffd", word) for word in found]


def _has_numbers_of_go(value: Any) -> bool:
    """Whether there is no number in it that Python alone reads: NaN, Infinity, 1e999."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, (list, dict)):
            pending += value.values() if isinstance(value, dict) else value
        elif isinstance(value, (int, float)) and not abs(value) < 1 << 1024:
            return False
    return True


def _list(statement: Statement) -> list[str]:
    """A JSON list, or words parted at spaces."""
    found = json_words(statement.rest, statement)
    if found is not None:
        return found
    return _SPACE.split(statement.rest) if statement.rest else []


def _command(statement: Statement) -> tuple[list[str], bool]:
    """A command: a JSON list, or one text for a shell."""
    found = json_words(statement.rest, statement)
    if found is not None:
        return found, False
    return [statement.rest] if statement.rest else [], True


def _flags(statement: Statement, **known: str) -> dict[str, Any]:
    """The values of flags; `known` says of each "text", "flag" or "list"."""
    values: dict[str, Any] = {n: [] if kind == "list" else None for n, kind in known.items()}
    for flag in statement.flags:
        name, equals, value = flag[2:].partition("=")
        key = name.replace("-", "_")
        kind = known.get(key) if "_" not in name else None
        if kind is None:
            hint = meant(name, [one.replace("_", "-") for one in known])
            raise statement.wrong(f"unknown flag: --{name}", f"--{name}", hint)
        if kind == "list":
            if not equals:
                raise statement.wrong(f"missing a value on flag: --{name}", f"--{name}")
            values[key].append(value)
            continue
        if values[key] is not None:
            raise statement.wrong(f"duplicate flag specified: --{name}", f"--{name}")
        if kind == "text":
            if not equals:
                raise statement.wrong(f"missing a value on flag: --{name}", f"--{name}")
            values[key] = value
        elif equals and not value:
            raise statement.wrong(f"missing a value on flag: --{name}", f"--{name}")
        elif (value.lower() if equals else "true") not in ("true", "false"):
            raise statement.wrong(f"expecting boolean value for flag --{name}, not: {value}", f"--{name}")
        else:
            values[key] = value.lower() != "false"
    return values


def _one(statement: Statement, escape: str) -> Instruction:
    """Exactly one argument: the rest of the line."""
    if not statement.rest:
        raise statement.wrong(f"{statement.name} requires exactly one argument")
    _flags(statement)
    return Instruction(statement, value=statement.rest)


def _needs_one(statement: Statement) -> None:
    if not statement.rest:
        raise statement.wrong(f"{statement.name} requires at least one argument")


# -- one by one --------------------------------------------------------------------------------------


def _from(statement: Statement, escape: str) -> Instruction:
    args = _SPACE.split(statement.rest) if statement.rest else []
    stage = ""
    if len(args) == 3 and args[1].lower() == "as":
        stage = args[2].lower()
        if not _STAGE.match(stage):
            what = f'invalid name for build stage: "{args[2]}", name can\'t start with a number or contain symbols'
            raise statement.wrong(what, args[2])
    elif len(args) != 1:
        raise statement.wrong("FROM requires either one or three arguments")
    flags = _flags(statement, platform="text")
    written = (args[1], args[2]) if stage else ("", "")
    return Instruction(statement, base=args[0], stage=stage, platform=flags["platform"] or "", written=written)


def _arg(statement: Statement, escape: str) -> Instruction:
    _needs_one(statement)
    _flags(statement)
    pairs: list[tuple[str, str | None]] = []
    for word in parted(statement.rest, escape):
        name, equals, value = word.partition("=")
        if not name:
            raise statement.wrong("ARG names can not be blank", word)
        pairs.append((name, value if equals else None))
    return Instruction(statement, pairs=pairs)


def _pairs(statement: Statement, escape: str) -> Instruction:
    _flags(statement)
    _needs_one(statement)
    found = parted(statement.rest, escape)
    legacy = bool(found) and "=" not in found[0]
    if legacy:
        halves = _SPACE.split(statement.rest, maxsplit=1)
        if len(halves) < 2:
            raise statement.wrong(f"{statement.name} must have two arguments", halves[0])
        return Instruction(statement, pairs=[(halves[0], halves[1])], legacy=True)
    pairs = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals:
            message = f"Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            raise statement.wrong(message, word)
        if not name:
            raise statement.wrong(f"{statement.name} names can not be blank", word)
        pairs.append((name, value))
    return Instruction(statement, pairs=pairs, legacy=False)


def _copy(statement: Statement, escape: str) -> Instruction:
    add = statement.name == "ADD"
    args = _list(statement)
    if any(heredoc.apart for heredoc in statement.heredocs):
        args = _SPACE.split(_APART.sub(r"\1", statement.rest))
    if len(args) < 2:
        what = "requires at least two arguments, but only one was provided. Destination could not be determined"
        raise statement.wrong(f"{statement.name} {what}")
    more = (
        {"keep_git_dir": "flag", "checksum": "text", "unpack": "flag"} if add else {"from": "text", "parents": "flag"}
    )
    flags = _flags(statement, chown="text", chmod="text", link="flag", exclude="list", **more)
    if re.search(r"\$.", flags.get("from") or ""):
        hint = "define a new stage with FROM using ARG from global scope as a workaround"
        raise statement.wrong(f"variable expansion is not supported for --from, {hint}", flags["from"])
    known = {heredoc.name: heredoc for heredoc in statement.heredocs}
    *sources, dest = args
    if heredoc_of(dest) and statement.heredocs:
        raise statement.wrong(f"{statement.name} cannot accept a heredoc as a destination", dest)
    plain, contents = [], []
    for source in sources:
        found = heredoc_of(source) if known else None
        if found and found.name in known:
            contents.append(known[found.name])
        else:
            plain.append(source)
    return Instruction(statement, sources=plain, contents=contents, dest=dest, flags=flags)


def _run(statement: Statement, escape: str) -> Instruction:
    flags = _flags(statement, mount="list", network="text", security="text", device="list")
    args, shell = _command(statement)
    if not args:
        raise statement.wrong("RUN requires at least one argument")
    if flags["network"] not in (None, "default", "none", "host"):
        hint = meant(flags["network"], ("default", "none", "host"))
        raise statement.wrong(f'invalid network mode "{flags["network"]}"', flags["network"], hint)
    if flags["security"] not in (None, "sandbox", "insecure"):
        hint = meant(flags["security"], ("sandbox", "insecure"))
        raise statement.wrong(f'security "{flags["security"]}" is not valid', flags["security"], hint)
    for text in flags["mount"]:
        mounts.read(text, statement)
    files = list(statement.heredocs) if shell else []
    devices = [mounts.device(text, statement) for text in flags["device"]]
    return Instruction(
        statement, args=args, shell=shell, files=files, flags=flags, mounts=flags["mount"], devices=devices
    )


def _cmd(statement: Statement, escape: str) -> Instruction:
    _flags(statement)
    args, shell = _command(statement)
    return Instruction(statement, args=args, shell=shell)


def _shell(statement: Statement, escape: str) -> Instruction:
    _flags(statement)
    args = json_words(statement.rest, statement)
    if args is None:
        _needs_one(statement)
        raise statement.wrong("SHELL requires the arguments to be in JSON form", statement.rest)
    if not args:
        raise statement.wrong("SHELL requires at least one argument")
    return Instruction(statement, args=args)


def _expose(statement: Statement, escape: str) -> Instruction:
    _needs_one(statement)
    _flags(statement)
    return Instruction(statement, args=_SPACE.split(statement.rest))


def _volume(statement: Statement, escape: str) -> Instruction:
    _needs_one(statement)
    _flags(statement)
    args = _list(statement)
    if not args:
        raise statement.wrong("VOLUME requires at least one argument")
    if not all(arg.strip() for arg in args):
        raise statement.wrong("VOLUME specified can not be an empty string")
    return Instruction(statement, args=[arg.strip() for arg in args])


def _onbuild(statement: Statement, escape: str) -> Instruction:
    _needs_one(statement)
    _flags(statement)
    inner = statement.inner(escape)
    if inner.name == "ONBUILD":
        raise inner.wrong("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if inner.name in ("MAINTAINER", "FROM"):
        raise inner.wrong(f"{inner.name} isn't allowed as an ONBUILD trigger")
    text = statement.rest
    for heredoc in statement.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    read(inner, escape)
    return Instruction(statement, trigger=text)


def _healthcheck(statement: Statement, escape: str) -> Instruction:
    _needs_one(statement)
    found = _SPACE.split(statement.rest, maxsplit=1)
    kind, rest = found[0].upper(), found[1] if len(found) > 1 else ""
    if kind == "NONE":
        if rest:
            raise statement.wrong("HEALTHCHECK NONE takes no arguments", rest)
        _flags(statement)
        return Instruction(statement, health={"Test": ["NONE"]})
    times = ("interval", "timeout", "start_period", "start_interval")
    flags = _flags(statement, retries="text", **dict.fromkeys(times, "text"))
    if kind != "CMD":
        raise statement.wrong(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)', found[0])
    args = json_words(rest, statement)
    if not args and not (rest and args is None):
        raise statement.wrong("Missing command after HEALTHCHECK CMD", found[0])
    health: dict[str, Any] = {"Test": ["CMD-SHELL", rest] if args is None else ["CMD", *args]}
    members = ("Interval", "Timeout", "StartPeriod", "StartInterval")
    for name, member in zip(times, members, strict=True):
        if nanoseconds := _time(statement, name.replace("_", "-"), flags[name]):
            health[member] = nanoseconds
    if retries := flags["retries"]:
        if not re.fullmatch(r"[+-]?\d+", retries):
            raise statement.wrong(f'invalid value for --retries: "{retries}"', retries)
        if int(retries) < 0:
            raise statement.wrong(f"--retries cannot be negative ({int(retries)})", retries)
        if int(retries):
            health["Retries"] = int(retries)
    return Instruction(statement, health=health)


def _time(statement: Statement, name: str, text: str | None) -> int:
    """Nanoseconds of a health check's time, 0 for the default."""
    if not text:
        return 0
    nanoseconds = duration(text)
    if nanoseconds is None:
        raise statement.wrong(f'time: {_no_time(text)} duration "{text}"', text, "like 30s, 1m30s or 500ms")
    if nanoseconds and nanoseconds < SHORTEST:
        raise statement.wrong(f'Interval "{name}" cannot be less than 1ms', text)
    return nanoseconds


def _no_time(text: str) -> str:
    """What Go says of a time that is none."""
    text = text.lstrip("+-")
    for number, unit in re.findall(r"(\d+\.?\d*|\.\d+)([^\d.]*)", text) if re.match(r"\.?\d", text) else ():
        if number and unit not in _UNITS:
            return f'unknown unit "{unit}" in' if unit else "missing unit in"
    return "invalid"


def duration(text: str) -> int | None:
    """Nanoseconds of a time as Go writes it, "1h2m3.5s"; None if it is none."""
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-") if text[:1] in "+-" else text
    if text == "0":
        return 0
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    from fractions import Fraction

    return sign * int(sum(Fraction(number) * _UNITS[unit] for number, unit in parts))


_READERS: dict[str, Callable[[Statement, str], Instruction]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _cmd, "COPY": _copy, "ENTRYPOINT": _cmd, "ENV": _pairs, "EXPOSE": _expose,
    "FROM": _from, "HEALTHCHECK": _healthcheck, "LABEL": _pairs, "MAINTAINER": _one, "ONBUILD": _onbuild, "RUN": _run,
    "SHELL": _shell, "STOPSIGNAL": _one, "USER": _one, "VOLUME": _volume, "WORKDIR": _one,
}  # fmt: skip
NAMES = tuple(_READERS)
