"""What people say to change an image: `oci-image config`, `oci-pack` and `oci-build` share the words."""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.image import config as configs

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
    ("--author NAME", "text", None, "who made it"),
    ("--no-history", "flag", False, "tell nothing of this change in the history"),
)


def edited(config: dict[str, Any], args: Any) -> dict[str, Any]:
    """A configuration with what these options say; the same if they say nothing."""
    said = {
        "Entrypoint": _command(args.entrypoint, "--entrypoint"),
        "Cmd": _command(args.cmd, "--cmd"),
        "User": args.user,
        "WorkingDir": args.workdir,
        "StopSignal": args.stop_signal,
    }
    members = {name: value for name, value in said.items() if value is not None}
    if not (members or args.env or args.label or args.expose or args.volume or args.author is not None):
        return config
    new = configs.edit(config, members, args.env, args.label, args.expose, args.volume)
    return new if args.author is None else {**new, "author": args.author}


def _command(text: str | None, option: str) -> list[str] | None:
    """A command's words: a JSON list, or one word; none for an empty text."""
    from oci_tools import document

    if text is None or not text.startswith("["):
        return None if text is None else [text] if text else []
    words = document.loads(text, option)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Error("not a list of words", text, code=2)
    return words
