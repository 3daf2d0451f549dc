"""How verbs are declared: the options that many share, and where their functions are."""

from __future__ import annotations

from oci_tools import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_tools.cli import Args, Command, Option

FORMAT: Option = ("--format TEMPLATE", "text", "", "print by a template: '{{.Name}}'; or json")
SHOWN: Option = ("-f --format TEMPLATE", *FORMAT[1:])  # of who shows one thing: nothing is filtered
JSON: Option = ("--json", "flag", False, "print JSON, one object a line")
FIELDS: Option = ("--fields NAME[,NAME]...", "text", "", "the columns to list")
QUIET: Option = ("-q --quiet", "flag", False, "only ids or names")
FILTER: Option = ("-f --filter NAME=VALUE", "list", (), "only those")
PRUNE: tuple[Option, ...] = (
    ("--filter NAME=VALUE", *FILTER[1:]),
    ("-f --force", "flag", False, "taken for docker's sake: nobody is asked"),
)
WHOLE: Option = ("--no-trunc", "flag", False, "whole ids")
KEYS: Option = ("--detach-keys KEYS", "text", None, "what leaves a terminal: ctrl-p,ctrl-q")
SIGNAL: Option = ("-s --signal SIGNAL", "text", None, "the signal to send")
TIME: Option = ("-t --time SECONDS", "int", None, "how long to wait before killing")
LIST = (FIELDS, FORMAT, JSON)
LIMITS = (
    "--memory",
    "--memory-swap",
    "--memory-reservation",
    "--cpus",
    "--cpu-shares",
    "--cpu-period",
    "--cpu-quota",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--pids-limit",
    "--blkio-weight",
)


def _late(target: str, local: bool = False) -> Callable[[Args], int | None]:
    """A verb's function, from its module when it is called; it is given the engines that are meant."""

    def run(args: Args) -> int | None:
        module, _, name = target.partition(".")
        name, _, rest = name.partition(":")
        found = getattr(__import__(f"oci_tools.cmd.ctl.{module}", fromlist=[name]), name)
        if rest:
            found = found(*rest.split(","))
        if local:
            code: int | None = found(args)
            return code
        from oci_tools.cmd.ctl import hosts
        from oci_tools.cmd.ctl.engine import Engine

        code = found(args, [Engine(host) for host in hosts.chosen(args)])
        return code

    return run


def verb(
    name: str,
    summary: str,
    usage: str,
    options: Sequence[Option],
    target: str,
    *,
    local: bool = False,
    stop: bool = False,
    failure: int = 1,
) -> Command:
    return cli.Command(
        f"oci-ctl {name}", summary, usage, options, _late(target, local), stop=stop, failure=failure
    )
