"""The verbs of containers, declared."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.cmd.ctl.declaring import (
    FILTER,
    FORMAT,
    JSON,
    KEYS,
    LIMITS,
    LIST,
    QUIET,
    SHOWN,
    SIGNAL,
    TIME,
    WHOLE,
    verb,
)
from oci_tools.cmd.ctl.wording import OPTIONS as CREATING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.cli import Command, Option


def _limits() -> tuple[Option, ...]:
    return tuple(option for option in CREATING if set(cli.names(option)) & set(LIMITS))


MANY = "CONTAINER..."
VERBS: dict[str, Command] = {
    "run": verb(
        "run",
        "make a container and start it",
        "IMAGE [CMD...]",
        (*CREATING, ("-d --detach", "flag", False, "do not wait for it, and print its id"), KEYS),
        "running.run",
        stop=True,
        failure=125,
    ),
    "create": verb(
        "create",
        "make a container without starting it",
        "IMAGE [CMD...]",
        CREATING,
        "running.create",
        stop=True,
    ),
    "start": verb(
        "start",
        "start containers",
        MANY,
        (
            ("-a --attach", "flag", False, "stay with it"),
            ("-i --interactive", "flag", False, "and be its input"),
            KEYS,
        ),
        "running.start",
    ),
    "stop": verb(
        "stop",
        "ask containers to end, and kill those that do not",
        MANY,
        (SIGNAL, TIME),
        "containers.posts:stop,signal,t",
    ),
    "restart": verb(
        "restart",
        "stop and start containers",
        MANY,
        (SIGNAL, TIME),
        "containers.posts:restart,signal,t",
    ),
    "kill": verb(
        "kill", "send a signal (KILL) to containers", MANY, (SIGNAL,), "containers.posts:kill,signal"
    ),
    "pause": verb("pause", "suspend containers", MANY, (), "containers.posts:pause"),
    "unpause": verb("unpause", "resume containers", MANY, (), "containers.posts:unpause"),
    "rm": verb(
        "rm",
        "remove containers",
        MANY,
        (
            ("-f --force", "flag", False, "kill them first; no error if there is none"),
            ("-v --volumes", "flag", False, "and their unnamed volumes"),
        ),
        "containers.rm",
    ),
    "ps": verb(
        "ps",
        "list containers",
        "",
        (
            ("-a --all", "flag", False, "those that do not run, too"),
            QUIET,
            FILTER,
            WHOLE,
            ("-n --last N", "int", 0, "the last N that were made"),
            ("-s --size", "flag", False, "and what they wrote"),
            *LIST,
        ),
        "containers.ps",
    ),
    "inspect": verb(
        "inspect",
        "show all that is known of containers, images, volumes, networks",
        "NAME...",
        (
            SHOWN,
            JSON,
            ("--type KIND", ("container", "image", "volume", "network"), None, "only this kind"),
            ("-s --size", "flag", False, "and what they wrote"),
        ),
        "containers.inspect",
    ),
    "logs": verb(
        "logs",
        "print what a container wrote",
        "CONTAINER",
        (
            ("-f --follow", "flag", False, "go on until it ends"),
            ("-n --tail N", "text", "all", "only the last N lines"),
            ("--since TIME", "text", None, "only what came after"),
            ("--until TIME", "text", None, "only what came before"),
            ("-t --timestamps", "flag", False, "say when"),
        ),
        "running.logs",
    ),
    "attach": verb(
        "attach",
        "be a container's terminal or streams",
        "CONTAINER",
        (("--no-stdin", "flag", False, "only watch"), KEYS),
        "running.attach",
    ),
    "exec": verb(
        "exec",
        "run another process in a container",
        "CONTAINER CMD...",
        (
            ("-d --detach", "flag", False, "do not wait for it"),
            ("-i --interactive", "flag", False, "give it our standard input"),
            ("-t --tty", "flag", False, "give it a terminal"),
            ("-e --env NAME[=VALUE]", "list", (), "set a variable"),
            ("--env-file FILE", "list", (), "set the variables in FILE"),
            ("-u --user USER[:GROUP]", "text", "", "who runs it"),
            ("-w --workdir DIR", "text", "", "where it runs"),
            ("--privileged", "flag", False, "give it all capabilities"),
            KEYS,
        ),
        "running.execute",
        stop=True,
        failure=125,
    ),
    "wait": verb(
        "wait",
        "wait for containers, and print their exit codes",
        MANY,
        (
            (
                "--condition STATE",
                ("not-running", "next-exit", "removed", "healthy", "unhealthy", "running"),
                "not-running",
                "what to wait for",
            ),
        ),
        "running.wait",
    ),
    "top": verb(
        "top", "list a container's processes", "CONTAINER [OPTION...]", (), "containers.top", stop=True
    ),
    "stats": verb(
        "stats",
        "print what containers use: id, name, cpu %, memory, limit, processes, bytes in, out, read, written",
        "[CONTAINER...]",
        (
            ("--no-stream", "flag", False, "only once"),
            ("--plot", "flag", False, "draw curves of processors, and bars of memory"),
            *LIST,
        ),
        "containers.stats",
    ),
    "cp": verb(
        "cp",
        "copy files between here and a container; - is a tar archive",
        "SOURCE DESTINATION",
        (
            ("-a --archive", "flag", False, "keep owners"),
            ("-L --follow-link", "flag", False, "copy what a link points to"),
        ),
        "containers.cp",
    ),
    "port": verb("port", "list published ports", "CONTAINER [PORT]", (), "containers.port"),
    "rename": verb("rename", "call a container otherwise", "CONTAINER NAME", (), "containers.rename"),
    "update": verb(
        "update",
        "change limits of containers",
        MANY,
        (*_limits(), ("--restart POLICY", "text", "", "when to start it again")),
        "containers.update",
    ),
    "events": verb(
        "events",
        "print what happens",
        "",
        (
            FILTER,
            FORMAT,
            JSON,
            ("--since TIME", "text", None, "from then on"),
            ("--until TIME", "text", None, "until then"),
        ),
        "containers.events",
    ),
    "diff": verb(
        "diff",
        "print which files a container changed: A added, C changed, D deleted",
        "CONTAINER",
        (),
        "containers.diff",
    ),
    "commit": verb(
        "commit",
        "make an image of a container",
        "CONTAINER [IMAGE]",
        (
            ("-m --message TEXT", "text", "", "why"),
            ("-a --author NAME", "text", "", "who"),
            ("-c --change INSTRUCTION", "list", (), "an instruction of a Dockerfile"),
            ("-p --pause", "flag", True, "suspend it meanwhile"),
        ),
        "containers.commit",
    ),
    "export": verb(
        "export",
        "write a container's files as a tar archive",
        "CONTAINER",
        (("-o --output FILE", "text", None, "into FILE"),),
        "containers.export",
    ),
}
