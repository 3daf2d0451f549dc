"""A plain user's way out: pasta (passt) or slirp4netns, a program that speaks for a container with sockets of the host.

Started when the container's namespaces are there and its payload is not.  pasta goes by itself within a second of the
process that it serves; slirp4netns ends with the pipe that whoever looks after the container holds open.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from oci_tools import document, fs
from oci_tools.errors import Error, missing
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# program -> (the name server that a container asks, the host's address), both made up by the program
AROUND = {"pasta": ("169.254.1.1", "169.254.1.2"), "slirp4netns": ("10.0.2.3", "10.0.2.2")}
_GUEST = "10.0.2.100"
SHARED = "OCI_SHARED"  # in the environment of a plain user's shared namespaces: the pid of pasta, outside
_PATIENCE = 3.0  # seconds: pasta looks every second what somebody listens on
_RECORD = "pasta.pid"  # of a container's, in its directory
_TUN = "/dev/net/tun"
_OPEN = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; TCP_CLOSE, which is no connection


def start(
    program: str, path: str, options: list[str], pid: int, mappings: list[dict[str, Any]], state: str
) -> list[int]:
    """Run it for the process `pid`; `state` is a directory for its socket.  Descriptors with which it ends."""
    if program == "pasta":
        _pasta(path, ["--pid", f"{state}/{_RECORD}", *options], pid, mappings)
        return []
    return [_slirp(path, options, pid, mappings, state)]


def stop(state: str) -> None:
    """Give the ports of a container that has ended back at once; pasta by itself finds out within a second."""
    try:
        with open(f"{state}/{_RECORD}", encoding="utf-8") as file:
            pid = int(file.read())
        os.unlink(f"{state}/{_RECORD}")
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    if is_pasta(str(pid)):
        import select
        import signal

        process.pidfd_send_signal(pidfd, signal.SIGTERM)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(1000)
    os.close(pidfd)


def is_pasta(pid: str) -> bool:
    """Whether that is a process of pasta, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return False
    return name.startswith("pasta") and rest.split()[0] not in "ZX"


def serve(path: str, namespace: str) -> None:
    """Run pasta for a network namespace of this user namespace, until its path is gone."""
    _pasta(path, ["--netns", namespace], None, [])


def share(record: str, pid: int, mappings: list[dict[str, Any]]) -> str:
    """Run pasta for the network of `pid`, which many share, with these ports of the host: what is in `record` then.

    Without, it has those that somebody inside listens on, within a second (passt(1), auto), and that is its pid.
    """
    path = program("pasta")
    if path is None:
        raise missing("pasta", "cannot set up the network")
    loopback = ["--host-lo-to-ns-lo"]  # a port may be published on 127.0.0.1 alone
    if mappings:
        _pasta(path, loopback, pid, mappings)
        fs.write(record, b"0\n", 0o600, sync=False)
    else:
        if os.path.exists(record):
            os.unlink(record)
        _pasta(path, [*loopback, "--pid", record], pid, [], "auto")
    with open(record, encoding="utf-8") as file:
        return file.read().strip()


def program(name: str) -> str | None:
    """Where a program is."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/usr/local/bin"]
    found = (f"{each}/{name}" for each in places if each.startswith("/"))
    return next((path for path in found if os.access(path, os.X_OK)), None)


def wait(mappings: list[dict[str, Any]]) -> None:
    """In shared namespaces, until pasta has the ports of the host; nothing else tells."""
    for mapping in mappings if SHARED in os.environ else ():
        if mapping["protocol"] != "sctp" and not _becomes(mapping["protocol"], mapping["hostPort"], True):
            why = "pasta does not have it on the host"
            raise Error("cannot publish port", f"{mapping['hostPort']}/{mapping['protocol']}", why)


def is_taken(protocol: str, port: int) -> bool:
    """In shared namespaces, whether somebody has a port of the host, save pasta for a little while after its use."""
    return protocol != "sctp" and not _becomes(protocol, port, False)


def _becomes(protocol: str, port: int, there: bool) -> bool:
    import time

    pid = os.environ.get(SHARED)
    end = time.monotonic() + _PATIENCE
    while pid and _is_bound(pid, protocol, port) != there:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _is_bound(pid: str, protocol: str, port: int) -> bool:
    """Whether a socket of a process's network has a port: "0: ADDRESS:PORT ADDRESS:PORT STATE ..." of proc_net(5)."""
    for name in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="utf-8") as file:
                rows = [line.split(None, 4) for line in file][1:]
        except OSError:
            continue
        ends = f":{port:04X}"
        if any(row[1].endswith(ends) and row[3] == _OPEN[protocol] for row in rows):
            return True
    return False


def _pasta(
    path: str, options: list[str], pid: int | None, mappings: list[dict[str, Any]], others: str = "none"
) -> None:
    server, host = AROUND["pasta"]
    words = [path, "--config-net", "--quiet", "--no-map-gw", "--dns-forward", server, "--map-guest-addr", host]
    for flag, protocol in (("-t", "tcp"), ("-u", "udp")):
        found = [_spec(each) for each in mappings if each["protocol"] == protocol]
        words += [word for each in found or [others] for word in (flag, each)]
        words += ["-T" if flag == "-t" else "-U", "none"]
    if any(each["protocol"] == "sctp" for each in mappings):
        raise Error("cannot publish ports of sctp", None, "pasta knows tcp and udp")
    target = [] if pid is None else [str(pid)]
    if pid is not None and os.geteuid() == 0:  # we are in its user namespace, which cannot be entered again
        target = ["--netns", f"/proc/{pid}/ns/net"]
    _run([*words, *options, *target])  # it answers when all is set up, and stays as a process of its own


def _spec(mapping: dict[str, Any]) -> str:
    host = f"{mapping['hostIP']}/" if mapping["hostIP"] else ""
    return f"{host}{mapping['hostPort']}:{mapping['containerPort']}"


def _run(words: list[str]) -> None:
    said = os.memfd_create("oci-net-said", os.MFD_CLOEXEC)
    try:
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        pid = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            lines = os.pread(said, 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else f"code {code}"
            hint = None if os.access(_TUN, os.R_OK | os.W_OK) else f"we may not open {_TUN}: chmod 666"
            raise Error("cannot set up the network", os.path.basename(words[0]), why, hint)
    finally:
        os.close(said)


def _slirp(path: str, options: list[str], pid: int, mappings: list[dict[str, Any]], state: str) -> int:
    """It stays as our child; the write end of its exit pipe is given back, open."""
    ready, theirs = os.pipe2(os.O_CLOEXEC)
    leave, ours = os.pipe2(os.O_CLOEXEC)
    directory = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    api = f"/proc/self/fd/{directory}/slirp.sock"  # the path itself may be too long for a socket
    words = [path, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={theirs}",
             f"--exit-fd={leave}", f"--api-socket={api}", *options, str(pid), "tap0"]  # fmt: skip
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
        # A copy onto itself takes close-on-exec away.
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (theirs, leave, directory)]
        child = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    finally:
        for fd in (theirs, leave, null):
            os.close(fd)
    with open(ready, "rb") as pipe:
        if pipe.read(1) != b"1":
            os.waitpid(child, 0)
            raise Error("cannot set up the network", "slirp4netns", "it ended unexpectedly")
    for mapping in mappings:
        _forward(api, mapping)
    os.close(directory)
    return ours


def _forward(api: str, mapping: dict[str, Any]) -> None:
    """Ask its API for a port (slirp4netns(1), "API SOCKET")."""
    arguments = {
        "proto": mapping["protocol"], "host_addr": mapping["hostIP"] or "0.0.0.0", "host_port": mapping["hostPort"],
        "guest_addr": _GUEST, "guest_port": mapping["containerPort"],
    }  # fmt: skip
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        sock.connect(api)
        sock.send(document.dumps({"execute": "add_hostfwd", "arguments": arguments}))
        sock.shutdown(1)
        answer = document.loads(sock.recv(4096), "the answer of slirp4netns")
    finally:
        sock.close()
    if "error" in answer:
        why = answer["error"].get("desc") if isinstance(answer["error"], dict) else None
        raise Error("cannot publish port", f"{mapping['hostPort']}/{mapping['protocol']}", why)
