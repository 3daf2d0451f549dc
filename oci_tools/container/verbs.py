"""What people do to containers without a daemon: the verbs of `oci-run` that are not the runtime's.

A declaration is (verb, summary, usage, options, action, stop); an action takes the words and the runtime's
state root, and gives what is printed: None, an exit code, or lines; an Error among these is
said, and the rest goes on.
"""

from __future__ import annotations

import os

from oci_tools.container import names
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.cli import Args, Option

    Action = Callable[[Args, str], Any]
    Verb = tuple[str, str, str, tuple[Option, ...], Action, bool]


WAITED_FOR = ("stopped", "not-running", "next-exit", "removed", "healthy")  # waiting.py

# -- life ------------------------------------------------------------------------------------


def new(args: Args, root: str) -> Iterator[str]:
    from oci_tools.container import start

    yield start.new(args)


def begin(args: Args, root: str, container: str) -> int:
    """`start` of a container that the runtime does not know: a created one, or one that has ended."""
    from oci_tools.container import start

    return start.again(root, container, args.attach or args.interactive, args.interactive)


def stop(args: Args, root: str) -> Iterator[Error]:
    from oci_tools.container import control

    return _each(args.id, root, lambda container: control.stop(root, container, args.signal, args.time))


def wait(args: Args, root: str) -> Iterator[Any]:
    from oci_tools.container import waiting

    for word in args.id:
        try:
            yield waiting.until(root, names.need(word, root), args.condition)
        except Error as error:
            yield error


def restart(args: Args, root: str) -> Iterator[Error]:
    from oci_tools.container import changing

    return _each(args.id, root, lambda container: changing.restart(root, container, args.signal, args.time))


def unpause(args: Args, root: str) -> Iterator[Error]:
    from oci_tools.container import changing

    return _each(args.id, root, lambda container: changing.resume(root, container))


def adopt(args: Args, root: str) -> Iterator[Error]:
    from oci_tools.container import detaching

    words = args.id or [each for each in names.ids() if detaching.is_orphan(root, each)]
    return _each(words, root, lambda container: detaching.adopt(root, container, args.pidfd, args.master))


def rm(args: Args, root: str) -> Iterator[Error]:
    from oci_tools.container import control

    words = [word for word in args.id if not args.force or names.find(word, root)]
    return _each(words, root, lambda container: control.remove(root, container, args.force, args.volumes))


def rename(args: Args, root: str) -> None:
    names.rename(names.need(args.id, root), args.name)


def _each(words: list[str], root: str, action: Callable[[str], object]) -> Iterator[Error]:
    if os.geteuid():
        _find_all(words, root)
    for word in words:
        try:
            action(names.need(word, root))
        except Error as error:
            yield error


def _find_all(words: list[str], root: str) -> None:
    """Go on in a plain user's shared namespaces, if one of them was made there, before anything is done."""
    for word in words:
        try:
            names.find(word, root)
        except Error:
            continue  # it is told when its turn comes


# -- looking ---------------------------------------------------------------------------------


def logs(args: Args, root: str) -> int:
    from oci_tools.container import output

    return output.logs(root, names.need(args.id, root), args)


def attach(args: Args, root: str) -> int:
    from oci_tools.container import attaching

    keys = attaching.keys(args.detach_keys)
    return attaching.attach(root, names.need(args.id, root), not args.no_stdin, keys, args.sig_proxy)


def stats(args: Args, root: str) -> Iterator[str]:
    from oci_tools.container import usage

    return usage.lines(root, [names.need(word, root) for word in args.id], args.no_stream)


def top(args: Args, root: str) -> Iterator[str]:
    from oci_tools.container import top as tops

    return tops.lines(root, names.need(args.id, root), args.option)


def diff(args: Args, root: str) -> Iterator[str]:
    from oci_tools.container import changes

    return changes.lines(root, args.id)


# -- files -----------------------------------------------------------------------------------


def cp(args: Args, root: str) -> None:
    from oci_tools.container import copying

    copying.copy(root, args, _warn)


def export(args: Args, root: str) -> None:
    from oci_tools.container import copying

    copying.export(root, args.id, args.output, _warn)


def _warn(text: str) -> None:
    from oci_tools import cli

    cli.say("oci-run", f"warning: {text}")


def told(action: Action, sealed: bool = False) -> Callable[[Args], int | None]:
    """The function of one of people's verbs: what it gives is printed, line by line (sealed: it enters containers)."""

    def run(args: Args) -> int | None:
        if sealed:
            from oci_tools.runtime import seal

            seal.ensure()
        from oci_tools import cli, fs

        done = action(args, args.root or f"{fs.run()}/runtime")
        if done is None or isinstance(done, int):
            return done
        code = 0
        for line in done:
            if isinstance(line, Error):
                cli.say("oci-run", line)
                code = code or line.code
            else:
                print(line, flush=True)
        return code

    return run


# -- declarations ------------------------------------------------------------------------------


def declared() -> list[Verb]:
    """Every verb."""
    from oci_tools.container.options import OPTIONS

    new_options = tuple(option for option in OPTIONS if "--detach" not in option[0].split())
    return [
        ("new", "make a container of an image or bundle without starting it, and print its id", "IMAGE [CMD...]",
         new_options, new, True),
        ("stop", "ask containers to end, and kill those that do not", "ID...",
         (("-s --signal SIGNAL", "text", None, "ask with this signal, not the one that the image says (TERM)"),
          ("-t --time SECONDS", "int", None, "how long to wait, not its --stop-timeout (10), before killing")),
         stop, False),
        ("restart", "stop containers, and start them again", "ID...",
         (("-s --signal SIGNAL", "text", None, "as of 'stop'"),
          ("-t --time SECONDS", "int", None, "as of 'stop'")), restart, False),
        ("unpause", "resume all processes of paused containers", "ID...", (), unpause, False),
        ("adopt", "look after containers again whose monitor was killed: these, or all of them", "[ID...]",
         (("--pidfd N", "int", -1, "descriptor N is a pidfd of its first process"),
          ("--master N", "int", -1, "descriptor N is the master of its terminal")), adopt, False),
        ("wait", "wait until containers have ended, and print their exit codes", "ID...",
         (("--condition WHEN", WAITED_FOR, "stopped",
           "stopped; not-running: the same, but not for one that is to be started; next-exit; removed; healthy"),),
         wait, False),
        ("logs", "print what a detached container wrote", "ID",
         (("-f --follow", "flag", False, "go on until it ends"),
          ("-n --tail N", "text", "all", "only the last N lines"),
          ("--since TIME", "text", None, "only what came after: 2026-01-02T03:04:05Z, or 10m for ten minutes ago"),
          ("--until TIME", "text", None, "only what came before"),
          ("-t --timestamps", "flag", False, "say when each line was written")), logs, False),
        ("attach", "be the terminal, or the input and output, of a detached container", "ID",
         (("--no-stdin", "flag", False, "only watch"),
          ("--sig-proxy", "flag", True, "pass signals on: the default; --sig-proxy=false: they end only ourselves"),
          ("--detach-keys KEYS", "text", "ctrl-p,ctrl-q", "with a terminal: leave it alone when these are typed")),
         attach, False),
        ("stats", "print what containers use: id, name, cpu %, memory, its limit, processes, bytes received and sent,"
         " read and written", "[ID...]",
         (("--no-stream", "flag", False, "only once"),), stats, False),
        ("top", "list the processes of a container as the host's ps shows them", "ID [OPTION...]", (), top, True),
        ("diff", "print which files a container changed: A added, C changed, D deleted", "ID", (), diff, False),
        ("cp", "copy files between the host and a container or bundle; - is a tar archive", "SOURCE DESTINATION",
         (("-a --archive", "flag", False, "keep the owners of files"),
          ("-L --follow-link", "flag", False, "copy what a link SOURCE points to")), cp, False),
        ("export", "write a container's file system as a tar archive", "ID",
         (("-o --output FILE", "text", None, "into FILE, not standard output"),), export, False),
        ("rename", "call a container otherwise", "ID NAME", (), rename, False),
        ("rm", "remove containers that have ended", "ID...",
         (("-f --force", "flag", False, "kill them first; no error if there is none"),
          ("-v --volumes", "flag", False, "and the unnamed volumes that were made for them")), rm, False),
    ]  # fmt: skip
