"""kube down: stop and remove the pods of a YAML file, with the volumes that go with them."""

from __future__ import annotations

import threading

from oci_tools import cli
from oci_tools.cmd.ctl import running
from oci_tools.cmd.ctl.containers import filters
from oci_tools.cmd.ctl.engine import Engine, part
from oci_tools.errors import Error
from oci_tools.kube import objects, pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.kube.objects import Objects


def down(args: Args, engines: list[Engine]) -> int:
    return remove_all(running.one(engines), objects.read(args.file), args)


def remove_all(engine: Engine, known: Objects, args: Args) -> int:
    for name in remove(engine, known, claims=args.force):
        print(name)
    return 0


def of_pod(engine: Engine, name: str) -> list[dict[str, Any]]:
    """The containers of a pod, the infra container first, the others as they were made."""
    found = engine.get("/containers/json", {"all": True, "filters": filters([f"label={pod.POD}={name}"])})
    return sorted(found, key=lambda each: (each["Labels"].get(pod.TYPE) != pod.SANDBOX, each["Created"]))


def remove(engine: Engine, known: Objects, claims: bool) -> list[str]:
    """Stop and remove the pods of a file, and their volumes; the names of pods that there were."""
    names = []
    for said in known.pods:
        name = said["metadata"]["name"]
        found = [each["Id"] for each in of_pod(engine, name)]
        threads = [threading.Thread(target=_stop, args=(engine, each)) for each in found[1:]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in reversed(found):
            engine.delete(f"/containers/{each}", {"force": True, "v": True})
        query = {"filters": filters([f"label={pod.POD}={name}"])}
        for each in engine.get("/volumes", query).get("Volumes") or ():
            engine.delete(f"/volumes/{part(each['Name'])}")
        names += [name] if found else []
    for name in known.claims if claims else ():
        gone(engine, f"/volumes/{part(name)}", {"force": True})
    return names


def _stop(engine: Engine, container: str) -> None:
    try:
        Engine(engine.host).post(f"/containers/{container}/stop")
    except Error as error:
        cli.say("oci-ctl", error)


def gone(engine: Engine, path: str, query: dict[str, Any] | None = None) -> None:
    """Delete something; what fails at that is said, and goes no further."""
    try:
        engine.delete(path, query)
    except Error as error:
        cli.say("oci-ctl", error)
