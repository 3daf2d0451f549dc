"""The second reader of a declaration: click, for help, errors and the unusual.

Built from the same tuples as the small reader in `cli.py`; this is the only
module that imports click.  What click alone understands is little on purpose
(`--help`, `--version`, its wording of errors), so that nothing
works only on the slow way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from oci_tools import __version__, advice, cli, examples, usual
from oci_tools.errors import Error, Usage


def read(command: cli.Command, words: list[str]) -> dict[str, Any] | None:
    """The values of these words; None when help or the version was shown.

    Raises Usage with click's sentence, in our form.
    """
    try:
        context = build(command).make_context(command.name, _plain_flags(command, words))
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        raise _usage(command.name, error) from None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in context.params.items()}


def build(command: cli.Command) -> click.Command:
    """The click command of a declaration."""
    params: list[click.Parameter] = [_option(option) for option in command.options]
    params.append(click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True,
                               callback=_version, help="print the version and exit"))
    helping = ["--help"] if any("-h" in cli.names(option) for option in command.options) else ["-h", "--help"]
    context = {
        "ignore_unknown_options": False, "allow_interspersed_args": not command.stop, "help_option_names": helping,
        "max_content_width": 120,
    }  # fmt: skip
    shared: dict[str, Any] = dict(
        name=command.name, help=_help(command), context_settings=context,
        options_metavar="[OPTION]...", add_help_option=True,
    )  # fmt: skip
    if command.verbs is not None and command.run is None:
        verbs = {name: build(verb) for name, verb in command.verbs.items()}
        words = command.default.usage + " | VERB [ARG]..." if command.default else "VERB [ARG]..."
        made: _Page = _Verbs(commands=verbs, params=params, subcommand_metavar=words, **shared)
        if command.default:
            made.default, made.operand = build(command.default).params, command.default.usage.split()[0]
    else:
        params += [_argument(*operand) for operand in cli.operands(command.usage)]
        made = _Page(params=params, **shared)
    made.example = example(command)
    made.sections = usual.sections(command.name)
    if made.sections:
        params.append(click.Option(["--help-all"], is_flag=True, expose_value=False, is_eager=True, callback=_all,
                                   help="show all options and verbs"))
    return made


class _Page(click.Command):
    """A page of help that begins with an example, and has of very many options those of its sections."""

    example = ""
    sections: Sequence[tuple[str, list[str]]] = ()
    default: Sequence[click.Parameter] = ()  # what a command with verbs takes before an operand that is no verb
    operand = ""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            formatter.write(f"{self.example}\n\n")
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = self.get_params(ctx)
        known = {name: param for param in [*self.default, *own] for name in param.opts}
        chosen = [(title, [known[name] for name in names]) for title, names in self.sections]
        for title, params in chosen or (("Before " + self.operand, self.default), ("Options", own)):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        if self.sections:
            formatter.write_paragraph()
            formatter.write_text(f"All that can be said: {self.name} --help-all, {str(self.name).split()[0]}(1).")


class _Verbs(_Page, click.Group):
    """The same of a command that has verbs, of which the usual ones are told."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        told = usual.VERBS.get(str(self.name), "").split() if self.sections else []
        told = told or sorted(self.commands)
        room = formatter.width - 6 - max(map(len, told))
        with formatter.section("Verbs"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(room)) for name in told])
        others = sorted(self.commands.keys() - set(told))
        if others:
            formatter.write_paragraph()
            formatter.write_text(f"And {', '.join(others)}.")


def _all(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        assert isinstance(context.command, _Page)
        context.command.sections = ()
        click.echo(context.get_help())
        context.exit()


def example(command: cli.Command) -> str:
    """The line that shows a command at work, if it has one."""
    return command.example or (command.default.example if command.default else examples.of(command.name))


def _option(option: cli.Option) -> click.Option:
    spelling, kind, default, text = option
    known = [*cli.names(option), cli.dest(option)]
    if kind == "flag":
        long = next((n for n in known if n.startswith("--")), None)
        if long:  # the hidden twin that `--x=false` is turned into
            known[known.index(long)] = f"{long}/{_off(long)}"
        return _Flag(known, is_flag=True, default=default, help=text)
    metavar = spelling.split()[-1]
    types = {"int": click.INT, "text": click.STRING, "list": click.STRING}
    return click.Option(
        known,
        type=types[kind] if isinstance(kind, str) else click.Choice(kind),
        default=default,
        multiple=kind == "list",
        metavar=None if metavar.startswith("-") else metavar,
        help=text,
    )


class _Flag(click.Option):
    """A flag whose help does not show the twin that takes it back."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.secondary_opts = []
        return super().get_help_record(ctx)


def _off(long: str) -> str:
    return f"--\0{long[2:]}"  # no command line can spell it


def _argument(name: str, required: bool, many: bool) -> click.Argument:
    shown = name.upper() + ("..." if many else "")
    return click.Argument(
        [name], required=required, nargs=-1 if many else 1, metavar=shown if required else f"[{shown}]"
    )


def _help(command: cli.Command) -> str:
    return command.summary[:1].upper() + command.summary[1:] + "."


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        program = str(context.find_root().info_name).split()[0]
        click.echo(f"{program} version {__version__}")  # so dockerd reads it of a runtime
        context.exit()


def _plain_flags(command: cli.Command, words: list[str]) -> list[str]:
    """`--flag=true` as `--flag`, `--flag=false` as its twin, up to the payload's words."""
    table = {name: option for option in command.options for name in cli.names(option)}
    plain: list[str] = []
    skip = False
    for at, word in enumerate(words):
        operand = word == "-" or not word.startswith("-")
        if not skip and (word == "--" or (command.stop and operand)):
            return plain + words[at:]
        word = word if skip else command.same.get(word, word)
        name, equals, value = word.partition("=")
        option = table.get(name)
        if not skip and option and option[1] == "flag" and equals and value.lower() in cli.BOOLEANS:
            word = name if cli.BOOLEANS[value.lower()] else _off(name)
        skip = not skip and not operand and cli.takes_next(table, word)
        plain.append(word)
    return plain


def _usage(name: str, error: click.ClickException) -> Error:
    if isinstance(error, click.NoSuchOption) and (hint := advice.of_option(name, error.option_name)):
        return Usage("no such option", error.option_name, hint=hint)
    meant = getattr(error, "possibilities", None)  # of an option that there is not
    if meant:
        error.possibilities = sorted({word.replace("\0", "") for word in meant})  # type: ignore[attr-defined]
    text = error.format_message().replace("\0", "").rstrip(".")
    return Usage(text[:1].lower() + text[1:], hint="see --help")
