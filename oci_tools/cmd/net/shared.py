"""oci-net unshare: namespaces in which a plain user is root over bridge networks, shared by all who enter them.

    $OCI_RUN/shared.pid     "PID STARTTIME" of the process that holds them: it sleeps until somebody ends it
    $OCI_ROOT/shared, $OCI_RUN/shared    the store and the state of what is run inside

A user, a mount and a network namespace, whose way out is pasta.  Inside, everything is as it is for root, so that
networks, names and ports need nothing of their own for plain users; containers there have subordinate ids.
"""

from __future__ import annotations

import os

from oci_tools import cli, fs
from oci_tools.container import networking
from oci_tools.errors import Error, Usage
from oci_tools.linux import mount, process
from oci_tools.linux.netlink import Rtnetlink
from oci_tools.net import ports, userland
from oci_tools.runtime import child, namespaces
from oci_tools.runtime import unshare as users

RESOLV_CONF = "/etc/resolv.conf"


def unshare(args: cli.Args) -> int:
    """Run a command there; does not return where it could be executed."""
    if os.geteuid() == 0:
        raise Error("cannot unshare", None, "root's networks are the host's", "nsenter(1)")
    words = args.cmd or [os.environ.get("SHELL") or "/bin/sh"]
    published = [mapping for word in args.publish for mapping in ports.parse(word)]
    if any(not mapping["hostPort"] for mapping in published):
        raise Usage("port of the host is missing", args.publish[0])
    fs.make_private(fs.run())
    with fs.Lock(f"{fs.run()}/shared.lock"):
        pid = _running()
        if pid and published:
            raise Error("cannot publish ports", args.publish[0], "the namespaces are there already")
        pid = pid or _make(published)
    store, state = f"{fs.root()}/shared", f"{fs.run()}/shared"
    for path in (store, state):
        fs.make_private(path)
    _enter(pid)
    os.environ.update(OCI_ROOT=store, OCI_RUN=state)
    program = child.find_program(words[0], dict(os.environ))
    try:
        os.execve(program, words, os.environ)
    except OSError as error:
        raise Error("cannot run", words[0], error) from None


def _record() -> str:
    return f"{fs.run()}/shared.pid"


def _running() -> int:
    """The process that holds the namespaces, 0 if there is none."""
    try:
        with open(_record(), "rb", buffering=0) as file:
            pid, started = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return pid if process.start_time(pid) == started != 0 else 0


def _make(published: list[dict[str, object]]) -> int:
    pasta = networking.program("pasta")
    if pasta is None:
        raise Error('cannot set up the network: exec: "pasta": executable file not found in $PATH', hint="passt")
    own = (("uid_map", "/etc/subuid", os.geteuid()), ("gid_map", "/etc/subgid", os.getegid()))
    maps = {name: users.mapping(path, number) for name, path, number in own}
    if not all(networking.program(name) for name in ("newuidmap", "newgidmap")):
        maps = {name: entries[:1] for name, entries in maps.items()}
    servers = f"{fs.run()}/shared.resolv.conf"
    fs.write(servers, f"nameserver {userland.AROUND['pasta'][0]}\n".encode(), sync=False)
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    heard, said = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:  # so that the one who stays is nobody's child
        pid, _ = process.clone3(process.CLONE_NEWUSER | process.CLONE_NEWNS | process.CLONE_NEWNET)
        if pid == 0:
            os.close(ours)
            _stay(theirs, said, servers)
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
    userland.start("pasta", pasta, [], pid, published, "")
    fs.write(_record(), b"%d %d\n" % (pid, process.start_time(pid)), 0o600, sync=False)
    return pid


def _stay(reader: int, said: int, servers: str) -> None:
    """The process that holds the namespaces.  Does not return."""
    try:
        os.setsid()
        if os.read(reader, 1) != b"1":
            os._exit(0)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        mount.mount(servers, os.path.realpath(RESOLV_CONF), None, mount.MS_BIND)
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
    here = os.getcwd()
    spaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt", "net")]
    try:
        for fd in spaces:
            process.setns(fd)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.chdir(here)
    except OSError as error:
        raise Error("cannot enter the namespaces of process", pid, error) from None
