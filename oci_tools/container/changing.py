"""`update`, `restart`, `kill` and `pause` as people have them: what changes of a container stays changed."""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.container import control, events, names, place
from oci_tools.errors import Error
from oci_tools.runtime import lifecycle, signals
from oci_tools.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

    Action = Callable[[Args, str], Any]


def more(action: Action) -> Action:
    """A verb of the runtime, as it is done to a container of people."""
    return _MORE[action.__name__](action)


def _with_event(name: str) -> Callable[[Action], Action]:
    def made(action: Action) -> Action:
        def run(args: Args, root: str) -> Any:
            done = action(args, root)
            events.tell(args.id, name)
            return done

        return run

    return made


def _killing(action: Action) -> Action:
    """Some signals end a container for good."""

    def run(args: Args, root: str) -> Any:
        number = 0 if args.signal == "0" else signals.number(args.signal or "TERM")
        if number and args.exec is None:
            if number in (9, control.stop_signal(states.load(root, args.id))):
                place.mark(args.id, True)
            events.tell(args.id, "kill", signal=number)
        return action(args, root)

    return run


def _history(action: Action) -> Action:
    """Without an ID: what has happened to containers, and what happens."""

    def run(args: Args, root: str) -> None:
        for line in events.stream(args):
            print(line, flush=True)

    return lambda args, root: action(args, root) if args.id else run(args, root)


def _updating(action: Action) -> Action:
    def run(args: Args, root: str) -> None:
        if os.path.isdir(states.directory(root, args.id)):
            action(args, root)
        _update(args.id, args)

    return run


def _update(container: str, args: Args) -> None:
    """Change limits of a container for each start, and its restart policy."""
    from oci_tools.runtime import update as updating

    resources = {} if args.resources == "-" else updating.resources(args)
    known = names.policy(container)
    if resources:
        _keep(container, resources)
    if args.restart is not None:
        from oci_tools.container import restart

        policy = restart.parse(args.restart)
        if known["rm"] and policy["name"] != "no":
            raise Error("cannot restart container", container, "it is removed when it ends")
        with fs.Lock(fs.make_private(f"{fs.root()}/names")):  # as whoever renames it
            known = names.policy(container)
            fs.write(f"{names.place(container)}/policy.json", document.dumps({**known, "restart": policy}), 0o600)
        control.monitor_hears(container, b"again")
    events.tell(container, "update")


def _keep(container: str, resources: dict[str, Any]) -> None:
    """Have the next start begin with the same limits."""
    held = place.Place.again(container)
    spec = held.spec()
    known = spec.setdefault("linux", {}).setdefault("resources", {})
    for name, value in resources.items():
        known[name] = {**known.get(name, {}), **value} if isinstance(value, dict) else value
    held.respec(spec)


def restart(root: str, container: str, signal: str | None, seconds: int | None) -> None:
    """Stop it, if it runs, and start it again."""
    from oci_tools.container import start

    removed = names.policy(container).get("rm")
    if removed:
        _remove(container, False)  # the end between is none
    try:
        control.stop(root, container, signal, seconds)
        start.again(root, container, False, False)
    finally:
        if removed:
            _remove(container, True)
    events.tell(container, "restart")


def _remove(container: str, wanted: bool) -> None:
    """Whether it is removed with its end."""
    with fs.Lock(fs.make_private(f"{fs.root()}/names")):  # as whoever renames it
        known = names.policy(container)
        if known:
            fs.write(f"{names.place(container)}/policy.json", document.dumps({**known, "rm": wanted}), 0o600)


def resume(root: str, container: str) -> None:
    lifecycle.freeze(root, container, False)
    events.tell(container, "unpause")


_MORE = {
    "_kill": _killing, "_pause": _with_event("pause"), "_resume": _with_event("unpause"),
    "_update": _updating, "_events": _history,
}  # fmt: skip
