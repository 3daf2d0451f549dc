"""What is to be done with a container, as its options say: policy.json (place.py)."""

from __future__ import annotations

from oci_tools.container import names, networking
from oci_tools.container.host import Host
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.place import Place


def of(args: Args, waits: bool, interactive: bool | None, root: str) -> dict[str, Any]:
    """What policy.json says of a container beside what every one has.

    waits        it is made and not started
    interactive  whether somebody may type to it; None: it ends with this process
    """
    _check(args)
    host = Host()
    more: dict[str, Any] = {}
    if args.label or args.label_file:
        from oci_tools.container import labels

        more["labels"] = labels.said(args, host)
    if args.stop_timeout is not None:
        more["stopTimeout"] = args.stop_timeout
    if args.timeout:
        more["timeout"] = args.timeout
    if args.pidfile:
        more["pidfile"] = host.absolute(args.pidfile)
    if args.conmon_pidfile:
        more["keeperPidfile"] = host.absolute(args.conmon_pidfile)
    if args.cgroups == "split":
        more["split"] = True
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
    if args.link:
        from oci_tools.container import linking

        more["links"] = linking.of(args.link, root)
    if interactive is not None:
        from oci_tools.container import logdriver

        more.update(interactive=interactive, log=logdriver.options(args.log_driver, args.log_opt))
    return more


def _check(args: Args) -> None:
    detached = getattr(args, "detach", True)  # `new` has no word for it
    if args.rmi and (detached or args.rm is False):
        raise Usage(f"--rmi excludes {'--detach' if detached else '--rm=false'}")
    if args.timeout < 0:
        raise Usage("invalid value for --timeout", str(args.timeout), hint="seconds")
    if args.runtime and args.runtime.rpartition("/")[2] != "oci-run":
        raise Error("no such runtime here", args.runtime, hint="a container of oci-run is run by oci-run")


def done(args: Args, word: str, code: int) -> int:
    """What is left to do when a container of the image `word` has ended with `code` and is gone; that code."""
    if args.rmi:
        from oci_tools.container import image

        image.let_go(word)
    return code


def to_notify(args: Args, held: Place) -> Callable[[Place | None], None]:
    """What to call when it runs, --sdnotify: with it, if it was detached."""
    if args.sdnotify == "container":
        return lambda _: None
    from oci_tools.container import notifying

    return notifying.begin(args.sdnotify, held)


def write_id(path: str | None, container: str) -> None:
    """--cidfile"""
    if path:
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(container)
        except OSError as error:
            raise Error("cannot write container id", path, error) from None


def be_well(held: Place, args: Args, image: dict[str, Any] | None = None) -> None:
    """Have policy.json say how it is known that a container is well (image: its image's Healthcheck)."""
    if "log" not in held.policy or not (image or args.health_cmd):  # it ends with this process
        return
    from oci_tools.container import health

    check = health.options(args, image)
    if check:
        held.note(health=check)
