"""Verbs that are somebody's foreground: run, create, start, attach, exec, logs, wait, build's output."""

from __future__ import annotations

import os
import sys
import threading

from oci_tools import cli
from oci_tools.cmd.ctl import relay, wording
from oci_tools.cmd.ctl.engine import Engine, Refused, part
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

Engines = list[Engine]
_TAKEN = "--detach-keys"


# -- making ------------------------------------------------------------------------------------


def create(args: Args, engines: Engines) -> None:
    print(_create(args, one(engines), attached=args.interactive))


def run(args: Args, engines: Engines) -> int:
    """Create, attach, wait, start: the exit code is the container's, 125 to 127 if it did not come to that."""
    engine = one(engines)
    try:
        container = _create(args, engine, attached=not args.detach)
    except Refused as error:
        error.code = 125
        raise
    if args.detach:
        start_one(engine, container)
        print(container)
        return 0
    return _foreground(
        engine, container, args.tty, args.interactive, args.detach_keys, "removed" if args.rm else "next-exit"
    )


def one(engines: Engines) -> Engine:
    """The one engine that something is made on."""
    if len(engines) != 1:
        raise Error("cannot choose between hosts", None, f"{len(engines)} were named")
    return engines[0]


def _create(args: Args, engine: Engine, attached: bool) -> str:
    query = {"name": args.name, "platform": args.platform}
    return make(engine, query, wording.body(args, attached), args.pull)


def make(engine: Engine, query: dict[str, Any], said: dict[str, Any], pull: str) -> str:
    """A container by the document that creates it, its image pulled if it is missing, or always; its id."""
    from oci_tools.cmd.ctl import images

    image, platform = said["Image"], query.get("platform", "")
    if pull == "always":
        images.pull_one(engine, image, platform, quiet=True)
    try:
        made = engine.post("/containers/create", query, said)
    except Refused as error:
        if error.status != 404 or pull != "missing" or "no such image" not in str(error).lower():
            raise
        images.pull_one(engine, image, platform, quiet=False)
        made = engine.post("/containers/create", query, said)
    for warning in made.get("Warnings") or ():
        cli.say("oci-ctl", f"warning: {warning}")
    return str(made["Id"])


def start_one(engine: Engine, container: str) -> None:
    try:
        engine.post(f"/containers/{container}/start")
    except Refused as error:
        text = str(error)
        missing = "not found in $PATH" in text or "no such file or directory" in text
        error.code = 127 if missing else 126 if "is a directory" in text or "permission denied" in text else 125
        raise


def _foreground(
    engine: Engine, container: str, tty: bool, typing: bool, keys: str | None, condition: str
) -> int:
    """Be the container's terminal or streams until it has ended."""
    query = {"stream": True, "stdout": True, "stderr": True, "stdin": typing, "detachKeys": keys}
    sock, early = engine.hijack(f"/containers/{container}/attach", query)
    waiting = engine.ask("POST", f"/containers/{container}/wait", {"condition": condition})
    api = Engine(engine.host)
    with _relay(api, container, sock, early, tty, typing, keys) as between:
        start_one(api, container)
        between.measure()
        if not between.run():
            return 0
    return int(engine.document(waiting)["StatusCode"])


def _relay(
    engine: Engine, container: str, sock: Any, early: bytes, tty: bool, typing: bool, keys: str | None
) -> relay.Relay:
    def resize(rows: int, columns: int) -> None:
        _try(lambda: engine.post(f"/containers/{container}/resize", {"h": rows, "w": columns}))

    def signalled(name: str) -> None:
        _try(lambda: engine.post(f"/containers/{container}/kill", {"signal": name}))

    return relay.Relay(sock, early, tty, typing, relay.keys(keys), resize, None if tty else signalled)


def _try(action: Callable[[], Any]) -> None:
    try:
        action()
    except Error:
        pass  # it has ended


# -- starting, attaching -------------------------------------------------------------------------


def start(args: Args, engines: Engines) -> int:
    if not (args.attach or args.interactive):
        from oci_tools.cmd.ctl import containers

        return containers.each(args.container, engines, start_one)
    engine, said = where(engines, args.container[0])
    condition = "removed" if said["HostConfig"].get("AutoRemove") else "next-exit"
    return _foreground(
        engine, said["Id"], said["Config"]["Tty"], args.interactive, args.detach_keys, condition
    )


def attach(args: Args, engines: Engines) -> int:
    engine, said = where(engines, args.container)
    state = said["State"]
    if not state["Running"] or state["Paused"]:
        raise Error(
            "cannot attach to container",
            args.container,
            "it is paused" if state["Paused"] else "it is not running",
        )
    tty, typing = said["Config"]["Tty"], said["Config"]["OpenStdin"] and not args.no_stdin
    waiting = engine.ask("POST", f"/containers/{said['Id']}/wait")
    other = Engine(engine.host)
    query = {"stream": True, "stdout": True, "stderr": True, "stdin": typing, "detachKeys": args.detach_keys}
    sock, early = other.hijack(f"/containers/{said['Id']}/attach", query)
    with _relay(Engine(engine.host), said["Id"], sock, early, tty, typing, args.detach_keys) as between:
        between.measure()
        if not between.run():
            return 0
    return int(engine.document(waiting)["StatusCode"])


def where(engines: Engines, name: str) -> tuple[Engine, dict[str, Any]]:
    """The engine that has a container, and what it says of it."""
    found = []
    last: Error | None = None
    for engine in engines:
        try:
            found.append((engine, engine.get(f"/containers/{part(name)}/json")))
        except Refused as error:
            if error.status != 404:
                raise
            last = error
    if len(found) > 1:
        raise Error("ambiguous container", name, f"{len(found)} hosts have one of that name")
    if not found:
        raise last or Error("no such container", name)
    return found[0]


# -- exec ------------------------------------------------------------------------------------------


def execute(args: Args, engines: Engines) -> int:
    engine, said = where(engines, args.container)
    body = {
        "Cmd": args.cmd, "Tty": args.tty, "AttachStdin": args.interactive and not args.detach,
        "AttachStdout": not args.detach, "AttachStderr": not args.detach, "Env": wording.variables(args),
        "User": args.user, "WorkingDir": args.workdir, "Privileged": args.privileged,
        "DetachKeys": args.detach_keys or "",
    }  # fmt: skip
    made = engine.post(f"/containers/{said['Id']}/exec", None, body)["Id"]
    if args.detach:
        engine.post(f"/exec/{made}/start", None, {"Detach": True, "Tty": args.tty})
        return 0
    sock, early = Engine(engine.host).hijack(f"/exec/{made}/start", None, {"Detach": False, "Tty": args.tty})

    def resize(rows: int, columns: int) -> None:
        _try(lambda: engine.post(f"/exec/{made}/resize", {"h": rows, "w": columns}))

    with relay.Relay(
        sock, early, args.tty, args.interactive, relay.keys(args.detach_keys), resize
    ) as between:
        between.measure()
        if not between.run():
            return 0
    sock.close()
    code = engine.get(f"/exec/{made}/json")["ExitCode"]
    return 126 if code is None else int(code)


# -- logs, wait ---------------------------------------------------------------------------------------


def logs(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    query = {
        "stdout": True, "stderr": True, "follow": args.follow, "tail": args.tail, "timestamps": args.timestamps,
        "since": _moment(args.since), "until": _moment(args.until),
    }  # fmt: skip
    answer = engine.ask("GET", f"/containers/{said['Id']}/logs", query)
    take = relay.plain if said["Config"]["Tty"] else relay.Frames().feed
    for piece in answer.pieces():
        take(piece)


def _moment(text: str | None) -> str | None:
    """A time as the API takes it: seconds; "10m" is ten minutes ago."""
    import time

    if not text:
        return None
    if text[-1:] in "smhd" and text[:1].isdigit():
        days, _, rest = text.partition("d") if "d" in text else ("0", "", text)
        ago = float(days or 0) * 86400 + wording.duration(rest or "0s", "--since") / wording.SECOND
        return f"{time.time() - ago:.9f}"
    if text.replace(".", "", 1).isdigit():
        return text
    from datetime import datetime

    whole, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        when = datetime.fromisoformat(whole + rest[len(digits) :] if digits else text)
    except ValueError:
        from oci_tools.errors import Usage

        raise Usage("invalid time", text, hint="2026-01-02T03:04:05Z, seconds since 1970, or 10m") from None
    return f"{int(when.timestamp())}.{digits[:9].ljust(9, '0')}"


def wait(args: Args, engines: Engines) -> int:
    """Print the exit code of each; or wait until it is healthy, unhealthy or running: nothing is printed then."""

    def act(name: str) -> None:
        engine, said = where(engines, name)
        if args.condition in ("healthy", "unhealthy", "running"):
            _until(engine, said["Id"], args.condition)
        else:
            query = {"condition": args.condition}
            print(engine.post(f"/containers/{said['Id']}/wait", query)["StatusCode"], flush=True)

    return cli.each("oci-ctl", args.container, act)


def _until(engine: Engine, container: str, condition: str) -> None:
    """Wait for a state of a container: events say when to look."""
    filters = {"container": [container]}
    events = engine.ask("GET", "/events", {"filters": filters})
    other = Engine(engine.host)
    lines = engine.lines(events)
    while True:
        state = other.get(f"/containers/{container}/json")["State"]
        health = (state.get("Health") or {}).get("Status")
        if condition == "running" and state["Running"]:
            return
        if condition != "running" and health is None:
            raise Error("cannot wait for container", container[:12], "it has no health check")
        if health == condition and state["Running"]:
            return
        if not state["Running"] and condition != "running":
            raise Error("cannot wait for container", container[:12], f"it is {state['Status']}")
        next(lines)


def dial(args: Args, engines: Engines) -> None:
    """Between standard input and output and the engine's socket: what `ssh://` runs over there."""
    import socket

    sock = one(engines).host.connect()

    def up() -> None:
        while data := os.read(0, 1 << 16):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, daemon=True).start()
    while data := sock.recv(1 << 16):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
    sys.stdout.flush()
