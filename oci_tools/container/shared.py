"""Where a plain user is root over subordinate ids: namespaces that all of his containers share, as podman has them.

    $OCI_RUN/shared.pid     "PID STARTTIME" of the process that holds them: it sleeps until somebody ends it
    $OCI_RUN/shared.host    the host's directory of resolv.conf, which is another file in there

A user, a mount and a network namespace.  Inside, everything is as it is for root, so that images of many users, and
networks, names and ports, need nothing of their own for plain users.  The store is the same: whoever names a container
that was made inside goes on there, and stays on the host's network until he changes something of networks
(net/within.py).  A user without subordinate ids has containers of one id, outside.
"""

from __future__ import annotations

import os
import sys

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

RESOLV_CONF = "/etc/resolv.conf"
POLICY = "shared"  # in a container's policy.json: it was made inside


def is_running() -> bool:
    return bool(_running())


def is_inside() -> bool:
    """Whether we are in such namespaces, or others of that kind."""
    from oci_tools.linux import process

    return os.geteuid() == 0 and not process.in_host_user_namespace()


def follow(policy: dict[str, Any]) -> None:
    """Go on inside if a container was made there.  Does not return then."""
    if os.geteuid() and policy.get(POLICY):
        go(sys.argv[1:])


def go(words: list[str]) -> NoReturn:
    """Be this command again, inside."""
    enter()
    path = os.path.realpath(sys.argv[0])
    try:
        os.execve(path, [path, *words], os.environ)
    except OSError as error:
        raise Error("cannot execute", path, error) from None


def enter() -> None:
    """Enter the user and the mount namespace, made if they are not there; the network is left to `within.join`."""
    state = fs.make_private(fs.run())
    with fs.Lock(f"{state}/shared.lock"):
        pid = _running() or _make()
    os.environ["OCI_ROOT"], os.environ["OCI_RUN"] = fs.root(), state  # root's are others
    os.environ[fs.HOLDER] = str(pid)
    _enter(pid)


def _record() -> str:
    return f"{fs.run()}/shared.pid"


def _running() -> int:
    """The process that holds the namespaces, 0 if there is none."""
    from oci_tools.linux import process

    try:
        with open(_record(), "rb", buffering=0) as file:
            pid, started = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return pid if process.start_time(pid) == started != 0 else 0


def has_ids() -> bool:
    """Whether this user has subordinate ids, and somebody to grant them."""
    from oci_tools.runtime import ids

    return all(len(entries) > 1 for entries in ids.of_user().values())


def need_ids(network: str) -> None:
    """An Error where containers on networks could not be: they have more ids than one."""
    if not has_ids():
        hint = "apt install uidmap, and usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER"
        raise Error("cannot join network", network, "this user has no subordinate ids", hint)


def _make() -> int:
    from oci_tools.linux import process
    from oci_tools.net import userland, within
    from oci_tools.runtime import ids, namespaces

    maps = ids.of_user()
    servers = f"{fs.run()}/shared.resolv.conf"
    fs.write(servers, f"nameserver {userland.AROUND['pasta'][0]}\n".encode(), sync=False)
    within.forget()
    host = fs.make_private(f"{fs.run()}/shared.host")
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    heard, said = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:  # so that the one who stays is nobody's child
        pid, _ = process.clone3(process.CLONE_NEWUSER | process.CLONE_NEWNS | process.CLONE_NEWNET)
        if pid == 0:
            os.close(ours)
            _stay(theirs, said, servers, host)
        os.write(said, b"%d\n" % pid)
        os._exit(0)
    os.close(said)
    os.waitpid(middle, 0)
    with open(heard, "rb", buffering=0) as pipe:
        pid = int(pipe.readline())
        namespaces.map_ids(pid, maps)
        os.write(ours, b"1")
        ready = pipe.read(1)
    os.close(ours)
    if ready != b"1":
        raise Error("cannot make namespaces", None, "a mount or a link was refused there")
    fs.write(_record(), b"%d %d\n" % (pid, process.start_time(pid)), 0o600, sync=False)
    return pid


def _stay(reader: int, said: int, servers: str, host: str) -> None:
    """The process that holds the namespaces.  Does not return."""
    from oci_tools.linux import mount
    from oci_tools.linux.netlink import Rtnetlink
    from oci_tools.runtime import child

    try:
        os.setsid()
        if os.read(reader, 1) != b"1":
            os._exit(0)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)  # what the host mounts later is seen, too
        path = os.path.realpath(RESOLV_CONF)
        mount.mount(os.path.dirname(path), host, None, mount.MS_BIND | mount.MS_REC)
        mount.mount(servers, path, None, mount.MS_BIND)
        with Rtnetlink() as kernel:
            kernel.set_up(kernel.links()["lo"], True)
        os.write(said, b"1")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        child.reset_signals()
        os.chdir("/")
        os.execv("/usr/bin/sleep", ["oci-net-shared", "infinity"])
    finally:
        os._exit(1)


def _enter(pid: int) -> None:
    from oci_tools.linux import process

    here = os.getcwd()
    spaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
    try:
        for fd in spaces:
            process.setns(fd)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.chdir(here)
    except OSError as error:
        raise Error("cannot enter the namespaces of process", pid, error) from None
