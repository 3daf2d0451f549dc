"""`state` and `list`: every container, those of people with their names, running or not."""

from __future__ import annotations

import os

from oci_tools.container import names
from oci_tools.errors import Error, Usage, printable
from oci_tools.runtime import lifecycle
from oci_tools.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.cli import Args

FIELDS = ("id", "status", "pid", "bundle", "created", "owner", "name", "image", "code", "labels")
USUAL = "id,status,pid,bundle,created,name"


def documents(root: str, people: bool) -> list[dict[str, Any]]:
    """The state of every container that the runtime knows, and with `people` of those that rest."""
    ids = {*states.ids(root), *(names.ids() if people else ())}
    found = []
    for container in sorted(ids):
        try:
            found.append(state(root, container) if people else lifecycle.query(root, container))
        except Error:
            continue  # removed meanwhile
    return found


def state(root: str, container: str) -> dict[str, Any]:
    """The specification's document of a container, also of one that the runtime does not know: it was not
    started yet, or has ended."""
    policy = names.policy(container)
    try:
        shown = lifecycle.query(root, container)
    except Error:
        if not policy or (policy["name"] and not names.is_of(policy["name"], container)):
            raise
        shown = _resting(container, policy)
    if policy:
        shown = {**shown, "name": policy["name"] or "", "image": policy["image"], "labels": policy.get("labels") or {}}
        code = names.exit_code(container)
        if code is not None:
            shown["exitCode"] = code
    return shown


def _resting(container: str, policy: dict[str, Any]) -> dict[str, Any]:
    import time

    seconds, rest = divmod(policy["created"], 1_000_000_000)
    waits = policy.get("waits") and not names.was_started(container)
    if waits and names.exit_code(container) is None:
        current = "created"
    else:
        current = "stopped"
    bundle = f"{names.place(container)}/bundle"
    return {
        "ociVersion": states.VERSION,
        "id": container,
        "pid": 0,
        "status": current,
        "bundle": bundle,
        "rootfs": f"{bundle}/rootfs",
        "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z",
        "owner": "root" if os.geteuid() == 0 else str(os.geteuid()),
    }


def lines(found: list[dict[str, Any]], fields: str | None) -> Iterator[str]:
    """A line for each document, tab-separated."""
    columns = (fields or USUAL).split(",")
    for column in columns:
        if column not in FIELDS:
            raise Usage("no such field", column, hint=f"one of {', '.join(FIELDS)}")
    for each in found:
        each = {**each, "code": each.get("exitCode", ""), "labels": _labels(each.get("labels") or {})}
        yield "\t".join(str(each.get(column, "")) for column in columns)


def _labels(said: dict[str, str]) -> str:
    return printable(",".join(f"{name}={value}" for name, value in sorted(said.items())))


def show(args: Args, root: str) -> None:
    """Print them as `args` say; without --root also those of people that do not run."""
    from oci_tools import document

    found = documents(root, people=not args.root)
    if args.format == "json":
        print(document.dumps(found).decode())
    elif args.json:
        print("".join(f"{document.dumps(each).decode()}\n" for each in found), end="")
    elif (args.format or args.root) and not args.quiet and not args.fields:
        from oci_tools.runtime import ps

        print(ps.containers(found), end="")
    else:
        print("".join(f"{line}\n" for line in lines(found, "id" if args.quiet else args.fields)), end="")
