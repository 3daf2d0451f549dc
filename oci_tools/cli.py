"""Words in, exit code out: what every command shares.

A command declares its options once, as plain tuples; two readers are built from
that declaration: the small strict one here (a table and one loop, microseconds)
and a click command (`cli_click.py`, 35 ms to import) for help, errors, and
everything that the small one does not understand.  A property test holds the two
equal; a third (`cli_complete.py`) completes words in a shell.  This module is also the one place that prints errors.

    option   (spelling, kind, default, help)
             spelling  "-e --env NAME=VALUE": the names, then the value's name
             kind      "flag"  no value, `--x=false` takes it back; default False or True
                       "text", "int", or a tuple of the words allowed
                       "list"  text, may be repeated; default ()
    usage    the operands: "REF [LAYOUT]", "IMAGE...", "IMAGE [CMD...]"

A value is found in the read `Args` under the option's first long name (without
dashes, `-` as `_`), an operand under its lower-case name.
"""

from __future__ import annotations

import os
import sys
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EPIPE

from oci_tools.errors import Error, Usage, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Option = tuple[str, Any, Any, str]

SHARED: tuple[Option, ...] = (
    ("--debug", "flag", False, "say what is done, and show a traceback with an error"),
)
FORCE: Option = ("-f --force", "flag", False, "understood for docker's callers: nothing is asked")
said: list[str] = []  # the verb, and the verb's own, as they were found
advises = True  # whether an error is said with what to do next: not where a client reads it
NO_ROOM = (EPIPE, ENOSPC, EDQUOT, EFBIG, EIO)
BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class Args:
    """What was said: one attribute for each option and operand."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Command:
    """One command or verb, as declared (shapes of options and usage: see the module).

    run      takes the Args, returns the exit code or None for 0
    verbs    name -> Command, which may have verbs too; this command's own options may stand
             before the verb and are read together with the verb's
    default  what a first word that is no verb means: the one-shot of `oci-run`
    stop     options end at the first operand after the first: a payload keeps its own
    failure  the exit code that an Error of code 1 becomes (`oci-run IMAGE`: 125)
    example  one line for the head of `--help`
    same     `--flag=WORD` of others' -> the word that is meant
    """

    def __init__(
        self,
        name: str,
        summary: str,
        usage: str = "",
        options: Sequence[Option] = (),
        run: Callable[[Args], int | None] | None = None,
        *,
        verbs: dict[str, Command] | None = None,
        default: Command | None = None,
        stop: bool = False,
        failure: int = 1,
        example: str = "",
        same: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.usage = usage
        self.options = tuple(options)
        self.run = run
        self.verbs = verbs
        self.default = default
        self.stop = stop
        self.failure = failure
        self.example, self.same = example, same or {}

# -- running a command -----------------------------------------------------------


def launch(name: str, archive: Any = None) -> None:
    """Run `oci_tools.cmd.NAME` and end the process; `archive` is where its modules come from, to be kept.

    stdout is flushed and checked, so that a full disk is never success; `os._exit`
    skips the interpreter's tidying up, which costs milliseconds.
    """
    try:
        module = __import__(f"oci_tools.cmd.{name}", fromlist=["main"])
        if "_OCI_COMPLETE" in os.environ:  # a shell asks what could be said
            from oci_tools import cli_complete

            code = cli_complete.main(module.COMMAND, sys.argv[1:])
        else:
            code = module.main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = 70 if _is_read() else 141  # the reader has gone: what SIGPIPE would have said
        if code == 70:
            _traceback()
    except OSError as error:
        from stat import S_IFIFO, S_IFMT, S_IFSOCK  # neither is ever full

        what = "a file" if S_IFMT(os.fstat(1).st_mode) in (S_IFIFO, S_IFSOCK) else "standard output"
        say(os.path.basename(sys.argv[0]), str(Error(f"cannot write {what}", None, error)))
        code = 1
    if archive:
        archive.keep(said[0] if said else "")
    os._exit(code)


def _is_read() -> bool:
    """Whether somebody reads what we write: else another pipe of ours broke, which is nobody's end but a bug."""
    from select import POLLERR, poll

    poller = poll()
    poller.register(1, 0)
    poller.register(2, 0)
    return not any(found & POLLERR for _, found in poller.poll(0))


def main(command: Command, words: list[str]) -> int:
    """Run a command on its words; errors are printed; the exit code is returned."""
    failure, debug = command.failure, "--debug" in words
    try:
        leaf, words = _leaf(command, words)
        failure = leaf.failure
        values = read(leaf, words)
        if values is None:
            from oci_tools import cli_click

            values = cli_click.read(leaf, words)
        if values is None:
            return 0  # help was shown
        assert leaf.run is not None
        return leaf.run(Args(values)) or 0
    except Error as error:
        say(command.name, error)
        if debug:
            _traceback()
        return failure if error.code == 1 else error.code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            raise  # standard output, in all likelihood: `launch` says so
        _traceback()
        return 70
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("Exceeds the limit ("):
            # int() takes no more than 4300 digits (sys.set_int_max_str_digits), wherever somebody says them.
            say(command.name, "a number has too many digits")
            return failure
        _traceback()
        return 70


def say(name: str, text: str | Error) -> None:
    """A line to people on stderr, in the form of an error; behind an Error what to do next."""
    if isinstance(text, Error):
        if advises and not text.hint:
            from oci_tools import advice

            text.hint = advice.of(name, text)
        text = str(text)
    try:
        sys.stderr.write(f"{name}: {printable(text)}\n")
        sys.stderr.flush()
    except OSError:  # nobody listens: the exit code still speaks
        pass


def each(name: str, words: Iterable[str], act: Callable[[str], object]) -> int:
    """Do something for each word; what fails is said, and the rest done all the same.

    The code of the first failure, else 0.
    """
    code = 0
    for word in words:
        try:
            act(word)
        except Error as error:
            say(name, error)
            code = code or error.code
    return code


def pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """What the words of an option that are NAME=VALUE say; NAME alone has the value ""."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name:
            raise Usage(f"invalid value for {option}", word, hint="NAME=VALUE")
        found[name] = value
    return found


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _leaf(command: Command, words: list[str]) -> tuple[Command, list[str]]:
    """The command or verb that is meant, with its own words."""
    if command.verbs is None:
        return _with(command, SHARED), words
    default = command.default
    at = _options_before(_table(command.options + SHARED + (default.options if default else ())), words)
    verb = words[at] if at < len(words) else None
    own = _table(command.options + SHARED)
    if verb is None and words[-1:] in (["-h"], ["-v"]) and _options_before(own, words[:-1]) == len(words) - 1:
        words = [*words[:-1], "--help" if words[-1] == "-h" else "--version"]  # though they take a value as docker's
    if verb in command.verbs:
        said.append(verb)
        inner, rest = command.verbs[verb], words[:at] + words[at + 1 :]
        if inner.verbs is not None:
            return _leaf(_with(inner, command.options), rest)
        return _with(inner, command.options + SHARED), rest
    if verb is None and any(word in ("--help", "--help-all", "--version") for word in words):
        return _with(command, SHARED), words
    if default is not None and words:
        return _with(default, command.options + SHARED), words
    meant = near(verb, command.verbs) if verb else None
    if default is not None:
        raise Usage(f"missing {default.usage.split()[0]} or verb", hint="see --help")
    hint = f"{command.name} {meant}?" if meant else f"one of {', '.join(command.verbs)}"
    raise Usage("unknown verb" if verb else "missing verb", verb, hint=hint)


def near(word: str, known: Iterable[str]) -> str | None:
    """What a slip of the fingers made this of: one letter more, less or wrong, or two that are exchanged."""
    for each in sorted(known):
        said, meant = word, each
        while said and meant and said[0] == meant[0]:
            said, meant = said[1:], meant[1:]
        while said and meant and said[-1] == meant[-1]:
            said, meant = said[:-1], meant[:-1]
        if len(said) < 2 and len(meant) < 2 or len(said) == 2 and said == meant[::-1]:
            return each
    return None


def _with(command: Command, options: tuple[Option, ...]) -> Command:
    """The same command with options that it shares with others; its own meaning of a name comes first."""
    leaf = Command.__new__(Command)
    own = _table(command.options)
    shared = tuple(option for option in options if not own.keys() & {*names(option)})
    leaf.__dict__.update(command.__dict__, options=command.options + shared)
    return leaf


def _options_before(table: dict[str, Option], words: list[str]) -> int:
    """How many words stand before the first operand."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        at += 2 if takes_next(table, words[at]) else 1
    return min(at, len(words))


def takes_next(table: dict[str, Option], word: str) -> bool:
    """Whether the value of an option, or of the last one of a cluster, is the next word."""
    if word.startswith("--"):
        return "=" not in word and _takes_value(table.get(word))
    taker = next((i for i, c in enumerate(word) if i and _takes_value(table.get("-" + c))), None)
    return taker == len(word) - 1


# -- the small strict reader -------------------------------------------------------


def names(option: Option) -> list[str]:
    """Every name of an option, with its dashes."""
    return [word for word in option[0].split() if word.startswith("-")]


def dest(option: Option) -> str:
    """The attribute under which an option's value is found."""
    known = names(option)
    return next((n for n in known if n.startswith("--")), known[0]).lstrip("-").replace("-", "_")


def operands(usage: str) -> list[tuple[str, bool, bool]]:
    """The operands of a usage line: (attribute, required, many) of each."""
    found = []
    for word in usage.split():
        name = word.strip("[].").lower().replace("-", "_").replace("|", "_")
        found.append((name, not word.startswith("["), "..." in word))
    return found


def read(command: Command, words: Iterable[str]) -> dict[str, Any] | None:
    """The values of well-formed words; None for click to say what is wrong or to help."""
    table = _table(command.options)
    values = {dest(option): _default(option) for option in command.options}
    declared = operands(command.usage)
    plain: list[str] = []
    rest = list(words)
    rest.reverse()
    while rest:
        word = rest.pop()
        if word == "--" or word == "-" or not word.startswith("-"):
            if word == "--":
                plain.extend(reversed(rest))
                break
            plain.append(word)
            if command.stop:
                plain.extend(reversed(rest))
                break
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            if not _store(table.get(name), value if equals else None, rest, values):
                return None
        elif not _cluster(table, word, rest, values):
            return None
    return values if _place(declared, plain, values) else None


def _table(options: Iterable[Option]) -> dict[str, Option]:
    return {name: option for option in options for name in names(option)}


def _takes_value(option: Option | None) -> bool:
    return option is not None and option[1] != "flag"


def _default(option: Option) -> Any:
    return list(option[2]) if option[1] == "list" else option[2]


def _cluster(table: dict[str, Option], word: str, rest: list[str], values: dict[str, Any]) -> bool:
    """Short options in one word: `-it`, `-eNAME=x`, `-ite NAME=x`."""
    for i in range(1, len(word)):
        option = table.get("-" + word[i])
        if _takes_value(option):
            return _store(option, word[i + 1 :] or None, rest, values)
        if not _store(option, None, rest, values):
            return False
    return True


def _store(option: Option | None, value: str | None, rest: list[str], values: dict[str, Any]) -> bool:
    """Take one option's value, from the word itself or the next; False if not understood."""
    if option is None:
        return False
    kind, key = option[1], dest(option)
    if kind == "flag":
        if value is not None and value not in BOOLEANS:
            return False
        values[key] = True if value is None else BOOLEANS[value]
        return True
    if value is None:
        if not rest:
            return False
        value = rest.pop()
    if kind == "list":
        values[key].append(value)
    elif kind == "int":
        digits = value[1:] if value[:1] == "-" else value
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            return False
        values[key] = int(value)
    elif kind == "text" or value in kind:
        values[key] = value
    else:
        return False
    return True


def _place(declared: list[tuple[str, bool, bool]], plain: list[str], values: dict[str, Any]) -> bool:
    """Give the operands their names; False where there are too few or too many."""
    for name, required, many in declared:
        if many:
            if required and not plain:
                return False
            values[name], plain = plain, []
        elif plain:
            values[name], plain = plain[0], plain[1:]
        elif required:
            return False
        else:
            values[name] = None
    return not plain
