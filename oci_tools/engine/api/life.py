"""What a client does to containers: start, stop, kill, wait, remove, and the rest of their lives."""

from __future__ import annotations


import re

from oci_tools import document, fs
from oci_tools.engine import containers
from oci_tools.engine.api import container, create, describe, filters, members, naming, times, validity, wording, world
from oci_tools.engine.api.answers import Refused, answer, nothing, stream
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container

_CONDITIONS = ("not-running", "next-exit", "removed")


def start(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    if one.status == "paused":
        raise Refused(409, "cannot start a paused container, try unpause instead")
    if one.running:
        return nothing(304)
    fresh = one.status == "created"
    donor = api.world.get((one.host.get("IpcMode") or "").removeprefix("container:"))
    try:
        if donor and donor.host.get("IpcMode") in ("private", "none"):
            raise Refused(500, f"failed to join IPC namespace: container {donor.id}: non-shareable IPC (hint: use "
                               "IpcMode:shareable for the donor container)")  # fmt: skip
        if later := one.asked.get("Refuses"):
            raise Refused(500, str(later))
        api.commands.run(["run", "start", one.id])
    except Refused as error:
        if "already running" in error.message:
            return nothing(304)
        status, message = _told(error, one.host)
        _failed(api, one, message, fresh)
        raise Refused(status, message) from None
    return nothing()


_PART = re.compile(r"cannot mount '.*/\./(.*)' on '.*': (.*)")  # of a volume
_EXECUTES = ("executable file not found", "no such file or directory", "is a directory", "permission denied")


def _told(error: Refused, host: dict[str, Any]) -> tuple[int, str]:
    """A failed start in dockerd's words."""
    message = error.message
    for key, called in (("PidMode", "PID"), ("IpcMode", "IPC")):
        other = (host.get(key) or "").removeprefix("container:")
        if message == f"cannot join container '{other}': container not running":
            return 500, f"failed to join {called} namespace: container {other} is not running"
    if part := _PART.fullmatch(message):
        escapes = "path concatenation escapes the base directory" if "escapes" in part[2] else ""
        return 500, escapes or f"cannot access path {part[1]}: {part[2]}"
    if message.startswith(("exec: ", "exec /")) and any(each in message for each in _EXECUTES):
        return 400, f"failed to create task for container: {message}"
    if message.startswith("no such network '"):
        return 404, f"network {message[17:-1]} not found"
    if message.lower().startswith("unable to find "):
        return 500, message
    status = 400 if "no such file or directory" in message else error.status
    return status if status in (400, 404, 503) else 500, f"failed to create task for container: {message}"


def _failed(api: Api, one: Container, message: str, fresh: bool) -> None:
    """A start that failed: said in `State.Error`; a container that was to go with its end goes.

    fresh  it was never started before: then it counts as created still
    """
    if one.policy.get("rm"):
        api.commands.ran(["run", "rm", "-f", one.id])
    elif one.asked:
        kept = {**one.asked, "Error": message, "Unstarted": fresh}
        fs.write(f"{one.path}/{container.OURS}", document.dumps(kept), 0o600, sync=False)


def stop(api: Api, asked: Asked) -> Response:
    asked.number("t", 0, 500)
    one = api.world.find(asked["id"])
    if not one.running:
        return nothing(304)
    api.commands.run(["run", "stop", *_asking(one, asked), one.id])
    return nothing()


def restart(api: Api, asked: Asked) -> Response:
    asked.number("t", 0, 500)
    one = api.world.find(asked["id"])
    api.commands.run(["run", "restart", *_asking(one, asked), one.id])
    return nothing()


def _asking(one: Container, asked: Asked) -> list[str]:
    """How long to wait and how to ask: what the client says, else what the container was made with."""
    words = []
    timeout = asked.query("t") or one.config.get("StopTimeout")
    if timeout not in (None, ""):
        words.append(f"--time={int(timeout)}")
    if asked.query("signal"):
        words.append(f"--signal={_signal(asked.query('signal'), '')}")
    return words


def _signal(text: str, before: str) -> str:
    """A signal as `oci-run kill` takes it; `before`: what its refusal begins with."""
    from signal import Signals

    name = text.upper().removeprefix("SIG")
    known = {each.name.removeprefix("SIG") for each in Signals}
    if name in known or name.startswith(("RTMIN", "RTMAX")) or (text.isdecimal() and 0 < int(text) < 65):
        return name
    number = text.lstrip("-")
    known_not = number.isdecimal() and text != "0"
    said = f"the linux daemon does not support signal {text}" if known_not else f"invalid signal: {text}"
    raise Refused(400, f"{before}{said}")


def kill(api: Api, asked: Asked) -> Response:
    signal = _signal(asked.query("signal", "KILL") or "KILL", f"cannot kill container: {asked['id']}: ")
    one = api.world.find(asked["id"])
    if not one.running:
        raise Refused(409, f"cannot kill container: {asked['id']}: container {one.id} is not running")
    api.commands.run(["run", "kill", one.id, signal])
    if signal in ("KILL", "9"):  # it is over when the answer comes
        with api.world.subscribe() as news:
            while (now := api.world.get(one.id)) is not None and now.running:
                if not world.until(asked.request.sock.fileno(), news, timeout=10):
                    break
    return nothing()


def pause(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    status = one.status
    if status == "paused":
        raise Refused(409, f"Container {one.id} is already paused")
    if status != "running":
        raise Refused(409, f"container {one.id} is not running")
    api.commands.run(["run", "pause", one.id])
    return nothing()


def unpause(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    if one.status != "paused":
        raise Refused(500, f"Container {one.id} is not paused")
    api.commands.run(["run", "resume", one.id])
    return nothing()


def rename(api: Api, asked: Asked) -> Response:
    name = asked.query("name").removeprefix("/")
    if not name:
        raise Refused(400, "Neither old nor new names may be empty")
    one = api.world.find(asked["id"])
    naming.check(name, "Error when allocating new name: Invalid container name (/{})")
    if name == one.policy.get("name"):
        raise Refused(400, "Renaming a container with the same name as its current name")
    other = next((each for each in api.world.all() if each.policy.get("name") == name), None)
    if other is not None:
        raise Refused(
            409, f'Error when allocating new name: Conflict. The container name "/{name}" is already in use by '
            f'container "{other.id}". You have to remove (or rename) that container to be able to reuse that name.',
        )  # fmt: skip
    api.commands.run(["run", "rename", one.id, name])
    return nothing()


def remove(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    if asked.flag("link"):
        name = asked["id"].removeprefix("/")
        if "/" not in name:
            raise Refused(500, "Conflict, cannot remove the default link name of the container")
        raise Refused(500, f"Cannot get parent /{name.rpartition('/')[0]} for link /{name}")
    force, status = asked.flag("force"), one.status
    if status in ("running", "restarting", "paused") and not force:
        how = "unpause and then stop" if status == "paused" else "stop"
        raise Refused(
            409, f'cannot remove container "/{one.name}": container is {status}: '
            f"{how} the container before removing or force remove",
        )  # fmt: skip
    words = ["--force"] if force else []
    if asked.flag("v"):
        words.append("--volumes")
    _removed(api, one, words)
    return nothing()


def _removed(api: Api, one: Container, words: list[str]) -> None:
    api.commands.run(["run", "rm", *words, one.id])
    api.execs.forget(one.id)


def update(api: Api, asked: Asked) -> Response:
    said = asked.json(members.UPDATE, needed=False)
    for message in validity.limits(said, update=True):
        raise Refused(400, message)
    if (said.get("RestartPolicy") or {}).get("Name"):
        wording.restart(said["RestartPolicy"])
    one = api.world.find(asked["id"])
    if asked.version < (1, 40):
        said.pop("PidsLimit", None)
    said = _merged(one, said)
    if said.get("PidsLimit") is not None and said["PidsLimit"] <= 0:
        said["PidsLimit"] = -1  # no limit any more
    words = list(wording.limits(said))
    restart = said.get("RestartPolicy") or {}
    if restart.get("Name"):
        count = restart.get("MaximumRetryCount") or 0
        words.append(f"--restart={restart['Name']}:{count}" if count else f"--restart={restart['Name']}")
    if words:
        api.commands.run(["run", "update", *words, one.id])
    kept = {key: value for key, value in said.items() if (value or key == "NanoCpus") and key in create.HOST}
    if said.get("PidsLimit") is not None:
        kept["PidsLimit"] = max(int(said["PidsLimit"]), 0)
    if one.asked and kept:
        changed = {**one.asked, "HostConfig": {**one.host, **kept}}
        fs.write(f"{one.path}/{container.OURS}", document.dumps(changed), 0o600, sync=False)
    return answer({"Warnings": None})


def _merged(one: Container, said: dict[str, Any]) -> dict[str, Any]:
    """An update with processors as the group has them: parts of a period; refused beside the other way to say it."""
    restart = said.get("RestartPolicy") or {}
    if (restart.get("Name") or "no") != "no" and one.policy.get("rm"):
        why = "Restart policy cannot be updated because AutoRemove is enabled for the container"
        raise Refused(409, f"Cannot update container {one.id}: {why}")
    shown = f"Cannot update container {one.id}: Conflicting options: "
    for key, called in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if said.get(key) and one.host.get("NanoCpus") and not said.get("NanoCpus"):
            raise Refused(409, f"{shown}{called} cannot be updated as NanoCPUs has already been set")
        if said.get("NanoCpus") and (said.get(key) or one.host.get(key)):
            raise Refused(409, f"{shown}Nano CPUs cannot be updated as {called} has already been set")
    return said


def wait(api: Api, asked: Asked) -> Response:
    """Head at once, the exit code when it is there: `docker run` sends start only after the head has come."""
    condition = asked.query("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise Refused(400, f'invalid condition: "{condition}"')
    one = api.world.find(asked["id"])
    held = one.held()  # before the head goes out: what comes then may end the container
    return stream(_ending(api, one, condition, held, asked.request.sock.fileno()))


def _ending(api: Api, one: Container, condition: str, held: container.Held, client: int) -> Iterator[bytes]:
    before = (one.ended or {}).get("finished")
    code: int | None = None
    with held, api.world.subscribe() as news:
        while True:
            now = api.world.get(one.id)
            finished = (one.ended or {}).get("finished")
            fresh = finished is not None and finished != before
            if now is None:
                break
            if code is None and (fresh or (condition == "not-running" and not now.running)):
                code = now.code
                held.release()  # it may go now
            if code is not None and condition != "removed":
                break
            if not world.until(client, news):
                return
    if code is None:
        code = 0 if one.ended is None and one.started is None else one.code
    told: dict[str, Any] = {"StatusCode": code}
    if error := one.failed:
        told = {"Error": {"Message": error}, "StatusCode": code or 128}
    yield document.dumps(told) + b"\n"


def resize(api: Api, asked: Asked) -> Response:
    rows, columns = asked.number("h"), asked.number("w")
    one = api.world.find(asked["id"])
    if not one.running:
        raise Refused(409, f"container {one.id} is not running")
    containers.tell(one.id, b"resize %d %d\n" % (rows, columns))
    return Response(200)


def prune(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), ("label", "label!", "until"))
    until = times.until(wanted)
    deleted, reclaimed = [], 0
    for one in api.world.all():
        if one.running or not filters.labels(wanted, describe.config_of(one).get("Labels")):
            continue
        if until is not None and one.created > until:
            continue
        size = describe._written(one)
        try:
            _removed(api, one, [])
        except Refused:
            continue
        deleted.append(one.id)
        reclaimed += size
    return answer({"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed})


def top(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    if not one.running:
        raise Refused(409, f"container {one.id} is not running")
    words = ["run", "top", one.id, *asked.query("ps_args", "-ef").split()]
    titles, *lines = api.commands.run(words).splitlines() or [""]
    columns = titles.split()
    return answer({"Titles": columns, "Processes": [line.split(None, len(columns) - 1) for line in lines]})


def changes(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    kinds = {"C": 0, "A": 1, "D": 2}
    found = []
    for line in api.commands.run(["run", "diff", one.id]).splitlines():
        kind, _, path = line.partition("\t" if "\t" in line else " ")
        found.append({"Path": path, "Kind": kinds.get(kind, 0)})
    return answer(found or None)


ROUTES: list[Route] = [
    ("POST", "/containers/{id}/start", start),
    ("POST", "/containers/{id}/stop", stop),
    ("POST", "/containers/{id}/restart", restart),
    ("POST", "/containers/{id}/kill", kill),
    ("POST", "/containers/{id}/pause", pause),
    ("POST", "/containers/{id}/unpause", unpause),
    ("POST", "/containers/{id}/rename", rename),
    ("POST", "/containers/{id}/update", update),
    ("POST", "/containers/{id}/wait", wait),
    ("POST", "/containers/{id}/resize", resize),
    ("GET", "/containers/{id}/top", top),
    ("GET", "/containers/{id}/changes", changes),
    ("DELETE", "/containers/{id}", remove),
    ("POST", "/containers/prune", prune),
]
