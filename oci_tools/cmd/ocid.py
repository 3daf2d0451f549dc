"""ocid: the tiny supervisor of long-lived containers; it answers the Docker Engine HTTP API.

Here its three processes are put together; what they do is in `engine/`.  The commands' libraries are
imported here, for the forker: the engine itself only knows the commands' words.
"""

from __future__ import annotations

import os
import signal

from oci_tools import cli
from oci_tools.runtime import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket
    from typing import Any

    from oci_tools.engine.forker import Asker

OPTIONS: tuple[cli.Option, ...] = (
    ("--listen ADDRESS", "list", (), "unix:///PATH, tcp://HOST:PORT or fd://, may be repeated"),
    ("--group NAME", "text", None, "the group that may use unix sockets (root's: docker, if there is one)"),
    ("--tlscert FILE", "text", None, "our certificate for tcp:// sockets"),
    ("--tlskey FILE", "text", None, "its key"),
    ("--tlscacert FILE", "text", None, "who signs the certificates that clients must show"),
    ("--let-anybody-who-reaches-the-port-be-root-here", "flag", False, "take tcp:// clients without TLS"),
    ("--ready-fd N", "int", None, "write a line there once it listens, and close it"),
    ("--pid-file FILE", "text", None, "write our pid to FILE"),
)
# What the forker has imported, so that a command starts in the time of a fork.
_WARM = (
    "cmd.run cmd.image cmd.pack cmd.unpack cmd.spec engine.api.server engine.api.tls container.verbs "
    "container.start container.options container.ending container.output container.attaching container.control "
    "container.usage container.listing container.image image.source runtime.foreground runtime.enter "
    "runtime.seccomp runtime.overlay runtime.usage runtime.update runtime.events runtime.exec_group runtime.words "
    "layer.store layer.stack cmd.net cmd.vol net.attach net.detach net.firewall net.ports container.top "
    "container.joining container.networking container.detaching container.health container.changing container.waiting "
    "container.restart container.shared container.guarding image.shortnames runtime.default_seccomp runtime.resources "
    "runtime.seccomp_program runtime.seccomp_rules runtime.syscalls"
).split()


def run(args: cli.Args) -> int:
    seal.ensure()
    from oci_tools import fs
    from oci_tools.container import guarding
    from oci_tools.engine import supervisor

    _check(args)

    kept = os.environ.pop("OCID_SOCKETS", "")  # of an ocid that has executed itself again
    with fs.Lock(f"{fs.make_private(fs.run())}/ocid.lock", timeout=0) as lock:
        os.pwrite(lock.fd, b"%-10d\n" % os.getpid(), 0)  # monitors compare their cgroup with ours
        _more_descriptors()
        for name in _WARM:
            __import__(f"oci_tools.{name}")
        listeners = _listeners(args, [int(fd) for fd in kept.split(",") if fd])
        if args.pid_file:
            fs.write_to(args.pid_file, b"%d\n" % os.getpid())
        daemon = supervisor.Supervisor(listeners, _command, guarding.of_all, lambda *given: _api(args, *given), _say)
        daemon.run(lambda: _ready(args, listeners), boot=not kept)
        if daemon.upgrading:
            supervisor.execute_again(listeners)
    for sock in listeners:
        _unlink(sock.getsockname())
    return 0


def _more_descriptors() -> None:
    """Some are held of each container."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 20) if hard > 0 else 1 << 20, hard))


def _check(args: cli.Args) -> None:
    """Nobody may come in by TCP whom we do not know: who can speak to us is root."""
    from oci_tools.engine.api import tls
    from oci_tools.errors import Usage

    given = [args.tlscert, args.tlskey, args.tlscacert]
    if any(given) and not all(given):
        raise Usage("--tlscert, --tlskey and --tlscacert go together")
    open_ports = [address for address in args.listen if address.startswith("tcp://")]
    if open_ports and not all(given) and not args.let_anybody_who_reaches_the_port_be_root_here:
        raise Usage("will not listen without certificates", open_ports[0], hint="--tlscert, --tlskey and --tlscacert")
    if all(given):
        tls.context(*given)


def _say(text: str) -> None:
    cli.say("ocid", text)


def _listeners(args: cli.Args, kept: list[int]) -> list[socket]:
    from oci_tools import fs
    from oci_tools.engine import listening

    given = kept or listening.passed()
    if kept or (given and not args.listen):
        return [sock for number in given for sock in listening.listen(f"fd://{number}")]
    addresses = args.listen or [f"unix://{fs.run()}/ocid.sock"]
    return [sock for address in addresses for sock in listening.listen(address, _group(args.group), given)]


def _group(name: str | None) -> int:
    """The group that may use our sockets, -1: nobody but us."""
    import grp

    from oci_tools.errors import Error

    if not name and os.geteuid():
        return -1
    try:
        return int(name) if name and name.isdecimal() else grp.getgrnam(name or "docker").gr_gid
    except KeyError:
        if name:
            raise Error("no such group", name) from None
        return -1


def _unlink(path: Any) -> None:
    if isinstance(path, str) and path:
        try:
            os.unlink(path)
        except OSError:
            pass  # somebody else's by now, or of a service manager


def _ready(args: cli.Args, listeners: Sequence[socket]) -> None:
    from oci_tools.engine import listening, supervisor

    supervisor.notify(b"READY=1\nMAINPID=%d" % os.getpid())
    for sock in listeners:
        print(listening.shown(sock), flush=True)
    if args.ready_fd is not None:
        os.write(args.ready_fd, b"ready\n")
        os.close(args.ready_fd)


def _command(name: str) -> Callable[[], None]:
    """In the forker: the end of a file in `bin/`, whose errors are for the API."""

    def launch() -> None:
        cli.advises = False
        cli.launch(name)

    return launch


def _api(args: cli.Args, listeners: Sequence[socket], call: Asker) -> None:
    from oci_tools.engine import api

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    api.serve(listeners, call, args)


COMMAND = cli.Command(
    "ocid",
    "supervise containers and answer the Docker Engine HTTP API",
    "",
    OPTIONS,
    run,
    example="ocid --listen unix:///run/oci/ocid.sock",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
