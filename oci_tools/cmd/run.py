"""oci-run: the OCI runtime's verbs, and one-shot containers.

The verbs have the words of runc, which podman, dockerd and containerd use.  What will
enter a container first seals its interpreter (`runtime/seal.py`), before it has read its
words in full, so that as little as possible is done twice.
"""

from __future__ import annotations

from oci_tools import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

_LAUNCHING = ("create", "run", "exec")
_RARE = ("update", "events", "spec", "checkpoint", "restore", "mount", "unshare")  # runtime/words.py
_MAKING = ("_create", "_run")  # their ID is a new one
PEOPLE = frozenset("new stop restart unpause adopt wait logs attach stats top diff cp export rename rm".split())
_SEALED = ("restart", "adopt")  # of them (container/verbs.py), those that start a container or look after one
_CHANGING = ("_kill", "_pause", "_resume", "_update", "_events")  # container/changing.py has more to do

_GLOBAL = (
    ("--root DIR", "text", None, "where the state of containers is kept"),
    ("--log FILE", "text", None, "append errors to FILE as well"),
    ("--log-format FORMAT", ("text", "json"), "text", "how to write them there"),
    ("--systemd-cgroup", "flag", False, "let systemd manage the cgroups (there must be one)"),
    ("--cgroup-manager NAME", ("cgroupfs", "systemd", "disabled"), None, "the same in crun's words; disabled: none"),
    ("--criu FILE", "text", None, "the program criu, for 'checkpoint' and 'restore'"),
    ("--rootless BOOL", ("auto", "true", "false"), "auto", "understood for runc's callers: found out by itself"),
)
_BOTH = (  # of create and exec
    ("--console-socket PATH", "text", None, "send the terminal's master to the socket PATH"),
    ("--pidfd-socket PATH", "text", None, "send a pidfd of the process to the socket PATH"),
    ("--pid-file FILE", "text", None, "write the pid of the process to FILE"),
    ("--preserve-fds N", "int", 0, "leave N descriptors from 3 on open for the payload"),
)
_CREATE = (
    ("-b --bundle DIR", "text", ".", "the bundle: a directory with config.json"),
    ("-f --config FILE", "text", None, "read FILE, not the bundle's config.json"),
    ("--no-pivot", "flag", False, "do not use pivot_root(2): for a root on an initial ramdisk"),
    ("--no-new-keyring", "flag", False, "keep the session keyring of the caller"),
    *_BOTH,
)
_EXEC = (
    ("-p --process FILE", "text", None, "the process as in config.json; else the words after ID"),
    ("-d --detach", "flag", False, "do not wait for it"),
    ("-t --tty", "flag", False, "give it a terminal"),
    ("--console-size ROWSxCOLUMNS", "text", None, "what that begins with, where we have none"),
    ("-i --interactive", "flag", False, "understood for docker's callers: it has our standard input anyway"),
    ("-e --env NAME[=VALUE]", "list", (), "set an environment variable; without a value, to what it is here"),
    ("--env-file FILE", "list", (), "set the variables in FILE, NAME=VALUE lines"),
    ("-u --user USER[:GROUP]", "text", None, "the user: with --root in numbers, else also by a name in the container"),
    ("-g --additional-gids GID", "list", (), "another group"),
    ("-c --cap CAP", "list", (), "add a capability"),
    ("--cwd -w --workdir DIR", "text", None, "the working directory"),
    ("--privileged", "flag", False, "give it all capabilities that there are"),
    ("--no-new-privs", "flag", False, "let it gain no privileges by executing"),
    ("--cgroup [CONTROLLER:]PATH", "list", (), "put it into this group beneath the container's, which must be there"),
    ("--ignore-paused", "flag", False, "also in a paused container, where it will wait"),
    *_BOTH,
)
def main(words: list[str]) -> int:
    verb = _first_operand(words)
    if verb in _RARE or verb is None:
        VERBS.update(_rare())
    known = verb in VERBS or verb in PEOPLE
    if verb in _LAUNCHING or (words and not known and not any(word.startswith("--help") for word in words)):
        _seal()
    return cli.main(_command_of(one_shot=not known, people=verb not in VERBS), words)


def _seal() -> None:
    """Go on from an interpreter that no container can write to."""
    from oci_tools.runtime import seal

    seal.ensure()


def _first_operand(words: list[str]) -> str | None:
    """The word behind the options that stand before a verb; None behind any other option."""
    table = {name: option[1] for option in (*_GLOBAL, *cli.SHARED) for name in cli.names(option)}
    for word in (rest := iter(words)):
        if not word.startswith("-"):
            return word
        name, equals, _ = word.partition("=")
        if name not in table:
            return None
        if table[name] != "flag" and not equals:
            next(rest, None)
    return None


def _command_of(one_shot: bool, people: bool) -> cli.Command:
    """The command's declaration; the runtime's verbs start without the many options of people's."""
    default, verbs = None, VERBS
    if people:
        from oci_tools.container.verbs import declared, told

        verbs = {**VERBS, **{verb: _command(verb, summary, usage, options, told(action, verb in _SEALED), stop=stop)
                             for verb, summary, usage, options, action, stop in declared()}}  # fmt: skip
    if one_shot:
        from oci_tools.container.options import OPTIONS

        default = cli.Command(
            "oci-run", "run a container of an image or a bundle", "IMAGE [CMD...]", OPTIONS, _one_shot,
            stop=True, failure=125, example="oci-run -it --rm alpine sh",
        )  # fmt: skip
    return cli.Command("oci-run", "run containers", options=_GLOBAL, verbs=verbs, default=default)


def __getattr__(name: str) -> cli.Command:
    """COMMAND, whole, for who looks at the declaration."""
    if name != "COMMAND":
        raise AttributeError(name)
    VERBS.update(_rare())
    return _command_of(one_shot=True, people=True)


def _verb(action: Callable[[Args, str], Any]) -> Callable[[Args], int | None]:
    """A verb's function: the state root found, errors written to the log file as well."""

    def run(args: Args) -> int | None:
        from oci_tools import fs
        from oci_tools.errors import Error

        root = args.root or f"{fs.run()}/runtime"
        try:
            act = action
            named = not args.root and not getattr(args, "regex", False)
            if named and action.__name__ not in _MAKING and getattr(args, "id", None):
                _find(args, root, action.__name__)
            if named and action.__name__ in _CHANGING:
                from oci_tools.container import people

                act = people.more(args.id, action)
            code: int | None = act(args, root)
            return code
        except Error as error:
            if args.log:
                _log(args, str(error))
            if error.code in (126, 127):
                error.code = 1  # a payload's codes are for one-shot; engines read the words
            raise

    return run


def _find(args: Any, root: str, action: str) -> None:
    """Put a container's ID where people may have said its name; engines, if root, say theirs, and pay nothing."""
    import os

    if os.geteuid() or not os.path.isdir(os.path.join(root, args.id)):
        from oci_tools.container import names

        args.id = names.known(args.id, root, action[1:])


def _log(args: Args, text: str, level: str = "error") -> None:
    """Append a line to the engine's log, in the form it reads (runc's, by logrus); to stderr where there is none."""
    import os
    import time

    from oci_tools import document

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if args.log_format == "json":
        line = document.dumps({"level": level, "msg": text, "time": now}) + b"\n"
    else:
        line = b'time="%s" level=%s msg=%s\n' % (now.encode(), level.encode(), document.dumps(text))
    try:
        fd = os.open(args.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644) if args.log else 2
        os.write(fd, line)
        if args.log:
            os.close(fd)
    except OSError as error:
        cli.say("oci-run", f"cannot write '{args.log}': {error.strerror}")


def _options(args: Args) -> Any:
    from oci_tools.runtime import descriptors
    from oci_tools.runtime.launch import Options

    return Options(
        pid_file=args.pid_file, console_socket=args.console_socket, any_cpu=True,
        pidfd_socket=args.pidfd_socket,
        cgroup=getattr(args, "cgroup", ()),
        no_pivot=getattr(args, "no_pivot", False),
        no_new_keyring=getattr(args, "no_new_keyring", False),
        preserve_fds=descriptors.need(args.preserve_fds) if args.preserve_fds else 0,
        detach=getattr(args, "detach", False),
        keep=getattr(args, "keep", False),
        cgroup_manager=args.cgroup_manager or ("systemd" if args.systemd_cgroup else "cgroupfs"),
        warn=_warn, plain_newlines=True,
        **({"debug": lambda text: _log(args, text, "debug")} if args.debug else {}),
    )


def _warn(error: Exception | None) -> None:
    if error is not None:
        cli.say("oci-run", f"warning: {error}")


@_verb
def _create(args: Args, root: str) -> None:
    _seal()
    from oci_tools.runtime import lifecycle, spec

    lifecycle.create(root, args.id, args.bundle, spec.load(args.bundle, args.config), _options(args))


@_verb
def _run(args: Args, root: str) -> int:
    _seal()
    from oci_tools.runtime import lifecycle, spec

    return lifecycle.run(root, args.id, args.bundle, spec.load(args.bundle, args.config), _options(args))


@_verb
def _start(args: Args, root: str) -> int | None:
    import os

    from oci_tools.runtime import lifecycle

    if args.attach or args.interactive or not os.path.exists(f"{root}/{args.id}/start.fifo"):
        from oci_tools.container import names, verbs
        from oci_tools.errors import Error

        if not args.root and names.policy(args.id):
            _seal()
            return verbs.begin(args, root, args.id)
        if args.attach or args.interactive:
            raise Error("cannot attach to container", args.id, "the runtime's own verbs made it")
    lifecycle.start(root, args.id)
    return None


@_verb
def _state(args: Args, root: str) -> None:
    from oci_tools import document
    from oci_tools.runtime import lifecycle

    if args.root:  # an engine's own
        shown = lifecycle.query(root, args.id)
    else:
        from oci_tools.container import listing

        shown = listing.state(root, args.id)
    print(document.dumps(shown, indent=2).decode(), end="")


@_verb
def _kill(args: Args, root: str) -> None:
    from oci_tools.runtime import lifecycle, signals, state

    number = 0 if args.signal == "0" else signals.number(args.signal or "TERM")
    for id in state.matching(root, args.id, args.regex):
        lifecycle.kill(root, id, number, args.all, args.exec)


@_verb
def _delete(args: Args, root: str) -> None:
    from oci_tools.runtime import lifecycle, state

    for id in state.matching(root, args.id, args.regex):
        _warn(lifecycle.delete(root, id, args.force))


@_verb
def _pause(args: Args, root: str) -> None:
    __import__("oci_tools.runtime.lifecycle", fromlist=["freeze"]).freeze(root, args.id, True)


@_verb
def _resume(args: Args, root: str) -> None:
    __import__("oci_tools.runtime.lifecycle", fromlist=["freeze"]).freeze(root, args.id, False)


@_verb
def _ps(args: Args, root: str) -> None:
    from oci_tools import document
    from oci_tools.runtime import lifecycle

    pids = lifecycle.processes(root, args.id)
    if args.format == "json":
        print(document.dumps(pids).decode())
    elif args.format or args.ps_option or args.root:
        from oci_tools.runtime import ps

        print(ps.processes(pids, args.ps_option), end="")
    else:
        print("".join(f"{pid}\n" for pid in pids), end="")


@_verb
def _exec(args: Args, root: str) -> int:
    _seal()
    from oci_tools.runtime import enter, state

    known = state.load(root, args.id)  # says it if there is none
    if args.env_file or not all("=" in word for word in args.env):
        __import__("oci_tools.container.process", fromlist=["look_up"]).look_up(args)
    # People name users of the container; engines, who say where their states are, have looked them up.
    wanted = enter.wanted(enter.configuration(root, args.id), args, None if args.root else f"/proc/{known['pid']}/root")
    return enter.execute(root, args.id, wanted, _options(args), args.ignore_paused)


@_verb
def _features(args: Args, root: str) -> None:
    from oci_tools import document
    from oci_tools.runtime import features

    print(document.dumps(features.document(), indent=2).decode(), end="")


@_verb
def _list(args: Args, root: str) -> None:
    """One line for each container; without --root also those of people that do not run."""
    from oci_tools.container import listing

    listing.show(args, root)


def _one_shot(args: Args) -> int:
    _seal()
    from oci_tools.container import image, start

    image.refuse_slip(args.image, cli.near(args.image, (*VERBS, *PEOPLE, *_RARE)))

    return int(start.one_shot(args))


def _command(verb: str, summary: str, usage: str, options: Any, run: Any, **more: Any) -> cli.Command:
    return cli.Command(f"oci-run {verb}", summary, usage, options, run, **more)


def _rare(prefix: str = "", table: Any = None) -> dict[str, cli.Command]:
    """The verbs of runtime/words.py, whose functions are found when they are called."""
    from oci_tools.runtime import words

    def late(target: str) -> Any:
        def run(args: Args, root: str) -> Any:
            module, _, name = target.partition(".")
            return getattr(__import__(f"oci_tools.runtime.{module}", fromlist=[name]), name)(args, root)

        run.__name__ = f"_{target.partition('.')[0]}"
        return _verb(run)

    found = {}
    for verb, (summary, usage, options, target) in (table or words.DECLARED).items():
        if isinstance(options, dict):
            found[verb] = cli.Command(f"oci-run {verb}", summary, verbs=_rare(f"{verb} ", options))
        else:
            found[verb] = _command(prefix + verb, summary, usage, options, late(target), stop=verb == "unshare")
    return found


_REGEX = ("-r --regex", "flag", False, "ID is a regular expression: of every container whose id it is found in")
_FORMAT = ("-f --format FORMAT", ("table", "json"), None, "runc's table, which --root asks for too, or JSON")

VERBS = {
    "create": _command("create", "make a container from a bundle, without starting it", "ID", _CREATE, _create),
    "start": _command(
        "start", "start a created container, or one that has ended and was kept", "ID",
        (("-a --attach", "flag", False, "of one that 'new' made: stay with it as if it were run now"),
         ("-i --interactive", "flag", False, "the same, with our standard input")), _start,
    ),
    "run": _command(
        "run", "create, start, wait and delete a container of a bundle", "ID",
        (*_CREATE, ("-d --detach", "flag", False, "do not wait for it"),
         ("--keep", "flag", False, "do not delete it when it ends")), _run,
    ),
    "state": _command("state", "print the state of a container", "ID", (), _state),
    "kill": _command(
        "kill", "send a signal (TERM) to a container", "ID [SIGNAL]",
        (("-a --all", "flag", False, "to all of its processes"), _REGEX,
         ("--exec PID", "int", None, "to all that the exec with this pid, as in its --pid-file, has started")), _kill,
    ),
    "delete": _command(
        "delete", "remove a container that has ended", "ID",
        (("-f --force", "flag", False, "kill it first; no error if there is none"), _REGEX), _delete,
    ),
    "exec": _command(
        "exec", "run another process in a running container", "ID [CMD...]", _EXEC, _exec, stop=True, failure=255,
    ),
    "features": _command("features", "print what this runtime can do", "", (), _features),
    "pause": _command("pause", "suspend all processes of a container", "ID", (), _pause),
    "resume": _command("resume", "resume them", "ID", (), _resume),
    "ps": _command("ps", "list its processes, by the host's pids", "ID [PS-OPTION...]", (_FORMAT,), _ps, stop=True),
    "list": _command(
        "list", "list containers", "",
        (_FORMAT, ("-q --quiet", "flag", False, "only ids"),
         ("--fields LIST", "text", None, "columns: id, status, pid, bundle, created, owner, name, image, code, labels"),
         ("--json", "flag", False, "one JSON document a line")), _list,
    ),
}  # fmt: skip
