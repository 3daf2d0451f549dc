"""What is to be done with a container, as its options say: policy.json (place.py)."""

from __future__ import annotations

from oci_tools.container import names, networking
from oci_tools.container.host import Host
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.place import Place


def of(args: Args, waits: bool, interactive: bool | None, root: str) -> dict[str, Any]:
    """What policy.json says of a container beside what every one has.

    waits        it is made and not started
    interactive  whether somebody may type to it; None: it ends with this process
    """
    host = Host()
    more: dict[str, Any] = {}
    if args.label or args.label_file:
        from oci_tools.container import labels

        more["labels"] = labels.said(args, host)
    if args.stop_timeout is not None:
        more["stopTimeout"] = args.stop_timeout
    if args.pidfile:
        more["pidfile"] = host.absolute(args.pidfile)
    more.update(networking.policy(args))
    if args.dns:
        more["dns"] = args.dns
    if waits:
        more["waits"] = True
    if args.restart != "no":
        from oci_tools.container import restart

        if args.rm:
            raise Usage("--rm excludes --restart")
        more["restart"] = restart.parse(args.restart)
    if args.requires:
        more["requires"] = [names.need(word, root) for word in args.requires]
    if interactive is not None:
        from oci_tools.container import logdriver

        more.update(interactive=interactive, log=logdriver.options(args.log_driver, args.log_opt))
    return more


def be_well(held: Place, args: Args, image: dict[str, Any] | None = None) -> None:
    """Have policy.json say how it is known that a container is well (image: its image's Healthcheck)."""
    if "log" not in held.policy or not (image or args.health_cmd):  # it ends with this process
        return
    from oci_tools.container import health

    check = health.options(args, image)
    if check:
        held.note(health=check)
