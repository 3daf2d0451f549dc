"""What people say to change an image: `oci-image config`, `oci-pack` and `oci-build` share the words."""

from __future__ import annotations

from oci_tools.errors import Usage
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Options as cli.py has them.
CHANGES: tuple[tuple[str, Any, Any, str], ...] = (
    ("-e --env NAME[=VALUE]", "list", (), "set a variable; without a value take it away"),
    ("--entrypoint WORDS", "text", None, "the command's first words: one, or a JSON list"),
    ("--cmd WORDS", "text", None, "the command's other words: one, or a JSON list"),
    ("-u --user USER[:GROUP]", "text", None, "who runs it"),
    ("-w --workdir DIR", "text", None, "where it runs"),
    ("-l --label NAME[=VALUE]", "list", (), "set a label; without a value take it away"),
    ("-a --annotation NAME[=VALUE]", "list", (), "likewise of the manifest"),
    ("--expose [-]PORT[/PROTOCOL]", "list", (), "say that it listens there, or no longer"),
    ("--volume [-]PATH", "list", (), "say that data is kept there, or no longer"),
    ("--stop-signal SIGNAL", "text", None, "what asks it to end"),
    ("--healthcheck CHECK", "text", None, "how to see that it is well, as after a Dockerfile's HEALTHCHECK"),
    ("--onbuild INSTRUCTION", "list", (), "what a build does first that begins with it"),
    ("--shell WORDS", "text", None, "what runs the commands of a build: a JSON list"),
    ("--set-platform OS/ARCH[/VARIANT]", "text", None, "what it is for from now on"),
    ("--clear MEMBER", "list", (), "first take all of it away: env, labels, annotations, cmd, history..."),
    ("--author NAME", "text", None, "who made it"),
    ("--created TIME", "text", None, "when: RFC 3339, or seconds since 1970"),
    ("--created-by TEXT", "text", None, "what the history tells made it"),
    ("--comment TEXT", "text", "", "what the history tells more"),
    ("--no-history", "flag", False, "tell nothing of this change in the history"),
)
MODES = ("auto", "plain", "none", "json")
PROGRESS: tuple[tuple[str, Any, Any, str], ...] = (
    ("--progress HOW", MODES, "auto", "progress on standard error; auto: if it is a terminal"),
    ("--status-fd N", "int", None, "write progress as JSON lines to this descriptor"),
)
CLEAR = {
    "env": "Env", "labels": "Labels", "entrypoint": "Entrypoint", "cmd": "Cmd", "ports": "ExposedPorts",
    "volumes": "Volumes", "onbuild": "OnBuild", "healthcheck": "Healthcheck", "user": "User",
    "workdir": "WorkingDir", "stop-signal": "StopSignal", "shell": "Shell",
}  # fmt: skip
OTHERS = ("annotations", "author", "history")  # what is none of `config`


def edited(config: dict[str, Any], args: Any) -> dict[str, Any]:
    """A configuration with what these options say; the same if they say nothing."""
    said = {
        "Entrypoint": _command(args.entrypoint, "--entrypoint"),
        "Cmd": _command(args.cmd, "--cmd"),
        "Shell": _command(args.shell, "--shell"),
        "User": args.user,
        "WorkingDir": args.workdir,
        "StopSignal": args.stop_signal,
    }
    members = {name: value for name, value in said.items() if value is not None}
    new = _cleared(config, args.clear)
    if args.healthcheck is not None:
        from oci_tools.image import health

        members["Healthcheck"] = health.parse(args.healthcheck)
    if args.onbuild:
        members["OnBuild"] = [*((new.get("config") or {}).get("OnBuild") or []), *args.onbuild]
    if members or args.env or args.label or args.expose or args.volume:
        new = configs.edit(new, members, args.env, args.label, args.expose, args.volume)
    if args.set_platform:
        kept = {key: value for key, value in new.items() if key not in ("os", "architecture", "variant", "os.version")}
        new = {**manifests.parse_platform(args.set_platform), **kept}
    if args.created:
        new = {**new, "created": configs.moment(args.created)}
    return new if args.author is None else {**new, "author": args.author}


def annotated(annotations: Any, args: Any) -> dict[str, str]:
    """A manifest's annotations with what these options say."""
    return configs.annotated({} if "annotations" in args.clear else annotations, args.annotation)


def _cleared(config: dict[str, Any], names: list[str]) -> dict[str, Any]:
    for name in names:
        if name not in CLEAR and name not in OTHERS:
            raise Usage("not a member to clear", name, hint=f"one of {', '.join((*CLEAR, *OTHERS))}")
    gone = {CLEAR[name] for name in names if name in CLEAR}
    if gone and config.get("config"):
        config = {**config, "config": {key: value for key, value in config["config"].items() if key not in gone}}
    return {key: value for key, value in config.items() if key not in names or key not in OTHERS}


def _command(text: str | None, option: str) -> list[str] | None:
    from oci_tools import document

    return None if text is None else document.words(text, option)
