"""The life of a container, on the host's side: create, start, run, state, kill, delete.

runtime-spec, "Runtime and Lifecycle" and "Operations".  What happens between clone and exec is
`child.py`'s; how the two speak is drawn in `sync.py`; what stays on disk is `state.py`'s.
A create that fails or is killed leaves nothing that `delete --force` does not remove.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import cgroup, child, devices, hooks, state, sync, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup


class Options:
    """What the command line of `create` and `run` adds to config.json."""

    pid_file: str | None = None
    console_socket: str | None = None
    preserve_fds = 0
    no_pivot = False
    no_new_keyring = False
    detach = False
    keep = False

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            if not hasattr(self, name):
                raise TypeError(f"no such option: {name}")
            setattr(self, name, value)


class Container:
    """A container whose process exists: what create and run hold while they work on it."""

    def __init__(self, root: str, name: str, known: dict[str, Any], groups: Cgroup | None) -> None:
        self.root = root
        self.name = name
        self.state = known
        self.groups = groups
        self.channel: Any = None
        self.pidfd = -1
        self.master = -1  # of the terminal


# -- the verbs -------------------------------------------------------------------------


def create(root: str, name: str, bundle: str, spec: dict[str, Any], options: Options) -> None:
    """Make the container up to, and not including, the payload's first instruction."""
    if spec["process"].get("terminal") and not options.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with process.terminal")
    if options.console_socket and not spec["process"].get("terminal"):
        raise Error("cannot use --console-socket", None, "process.terminal is false")
    made = _launch(root, name, bundle, spec, options, waits=True)
    made.channel.close()
    os.close(made.pidfd)


def run(root: str, name: str, bundle: str, spec: dict[str, Any], options: Options) -> int:
    """Create, start, wait, delete: the exit code of the payload, 128 + n for signal n."""
    if options.detach and spec["process"].get("terminal") and not options.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with --detach and process.terminal")
    made = _launch(root, name, bundle, spec, options, waits=False)
    try:
        _start(made.channel)
        _poststart(made.state, root)
    except BaseException:
        _end(made)
        raise
    if options.detach:
        return 0
    from oci_tools.runtime import foreground

    code = foreground.wait(made.pidfd, made.state["pid"], made.master)
    if options.keep:
        return code
    with fs.Lock(f"{state.directory(root, name)}/lock"):
        _destroy(root, made.state)
    return code


def start(root: str, name: str) -> None:
    """Let a created container's payload begin."""
    known = state.load(root, name)
    current = state.status(root, known)
    if current != "created":
        words = {"running": "an already running container", "stopped": "a container that has stopped"}
        raise Error(f"cannot start {words.get(current, f'a container that is {current}')}", name)
    directory = os.open(state.directory(root, name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.rename("start.sock", "started.sock", src_dir_fd=directory, dst_dir_fd=directory)  # one of us wins
        except FileNotFoundError:
            raise Error("cannot start an already running container", name) from None
        sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/started.sock")  # the path itself may be too long for one
        except OSError:
            raise Error("cannot start a container that has stopped", name) from None
        _start(sync.Channel(sock))
        os.unlink("started.sock", dir_fd=directory)
    finally:
        os.close(directory)
    _poststart(known, root)


def kill(root: str, name: str, signum: int, everyone: bool = False) -> None:
    """Send a signal to the container's process, or to all of them.

    A container without a pid namespace of its own has no process whose death ends the
    others, so SIGKILL goes to all of its cgroup.
    """
    known = state.load(root, name)
    current = state.status(root, known)
    groups = _groups(known)
    if everyone or (signum == 9 and not known.get("ownPids", True)):
        if groups is not None:
            return _signal_all(groups, signum)
    if current not in ("created", "running"):
        raise Error("cannot kill container", name, "container not running")
    _signal(known, signum)


def delete(root: str, name: str, force: bool = False) -> None:
    """Remove a container that has ended, and all that belongs to it."""
    try:
        known = state.load(root, name)
    except Error:
        if force and not os.path.exists(state.directory(root, name)):
            return  # deleting twice is no error
        raise
    current = state.status(root, known)
    if current == "running" and not force:
        raise Error("cannot delete container", name, f"it is not stopped: {current}")
    if current == "creating" and not force:
        raise Error("cannot delete container", name, "it is being created")
    if current in ("running", "created", "creating") and known["pid"]:
        try:
            _signal(known, 9)
        except OSError:
            pass
        _wait_gone(known)
    with fs.Lock(f"{state.directory(root, name)}/lock"):
        _destroy(root, known)


def query(root: str, name: str) -> dict[str, Any]:
    """The state of a container, as the specification's document."""
    known = state.load(root, name)
    return state.public(root, known, status(root, known))


def status(root: str, known: dict[str, Any]) -> str:
    """The status with what only the cgroup knows: paused."""
    current = state.status(root, known)
    groups = _groups(known)
    if current == "running" and groups is not None and groups.frozen():
        return "paused"
    return current


def freeze(root: str, name: str, frozen: bool) -> None:
    """Pause or resume."""
    known = state.load(root, name)
    current = status(root, known)
    if current not in (("created", "running") if frozen else ("paused",)):
        raise Error(f"cannot {'pause' if frozen else 'resume'} container", name, f"it is {current}")
    groups = _groups(known)
    if groups is None:
        raise Error("cannot pause container", name, "it has no cgroup")
    groups.freeze(frozen)


def processes(root: str, name: str) -> list[int]:
    """The host's pids of all processes of a container."""
    known = state.load(root, name)
    groups = _groups(known)
    if groups is None:
        return [known["pid"]] if state.status(root, known) != "stopped" else []
    return groups.processes()


# -- making -------------------------------------------------------------------------------


def _launch(
    root: str, name: str, bundle: str, spec: dict[str, Any], options: Options, waits: bool
) -> Container:
    """Make the container's process and bring it to "ready"; `waits`: for `start` to call."""
    process.close_range(3 + options.preserve_fds, flags=process.CLOSE_RANGE_CLOEXEC)  # a caller may leak
    _open_streams()
    directory = state.make(root, name)
    with fs.Lock(f"{directory}/lock"):
        made = Container(root, name, _new_state(name, bundle, spec), None)
        try:
            setup = _prepare(made, bundle, spec, options)
            if waits:
                setup.listener = _listen(directory)
            _clone(made, setup)
            _shake_hands(made, spec, options)
            if waits:
                setup.listener.close()
            if options.pid_file:
                fs.write(options.pid_file, str(made.state["pid"]).encode(), sync=False)
        except BaseException:
            _end(made, locked=True)
            raise
    return made


def _new_state(name: str, bundle: str, spec: dict[str, Any]) -> dict[str, Any]:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    linux = spec.get("linux") or {}
    return {
        "ociVersion": state.VERSION,
        "id": name,
        "pid": 0,
        "startTime": 0,
        "bundle": os.path.abspath(bundle),
        "rootfs": os.path.normpath(os.path.join(os.path.abspath(bundle), spec["root"]["path"])),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z",
        "owner": "root" if os.geteuid() == 0 else str(os.geteuid()),
        "annotations": spec.get("annotations") or {},
        "cgroups": {},
        "ownPids": any(entry["type"] == "pid" for entry in linux.get("namespaces") or ()),
        "hooks": {kind: hooks.listed(spec, kind) for kind in ("poststart", "poststop")},
    }


def _prepare(made: Container, bundle: str, spec: dict[str, Any], options: Options) -> child.Setup:
    """All that can be done before the process exists: groups, opened files, loaded filters."""
    rootfs = made.state["rootfs"]
    if not os.path.isdir(rootfs):
        raise Error("cannot use rootfs", rootfs, "no such directory")
    made.groups = _make_groups(made, spec)
    setup = child.Setup(spec, rootfs, state.public(made.root, made.state, "creating"))
    if "io.oci-tools.overlay" in (spec.get("annotations") or {}):
        from oci_tools.runtime import overlay

        setup.overlay = overlay.plan(spec, bundle)
    if (spec.get("linux") or {}).get("seccomp"):
        from oci_tools.runtime import seccomp

        setup.seccomp = seccomp.prepare(spec)
    if made.groups is not None:
        setup.cgroup_files = made.groups.join_files()
        setup.cgroup_layout = made.groups
    if setup.namespaces.has("user") and os.geteuid() == 0:
        setup.trees = _clone_sources(setup)
    setup.keyring = not options.no_new_keyring
    setup.no_pivot = options.no_pivot
    setup.preserve = options.preserve_fds
    return setup


def _make_groups(made: Container, spec: dict[str, Any]) -> Cgroup | None:
    """The container's cgroups with their limits; None where a plain user may make none and asks for none."""
    linux = spec.get("linux") or {}
    wanted = linux.get("resources") or {}
    groups = cgroup.place(linux.get("cgroupsPath"), made.name)
    if not groups.paths:
        if any(member != "devices" for member in wanted):
            raise Error("cannot limit resources", None, "there are no cgroups on this host")
        return None
    privileged = os.geteuid() == 0
    try:
        groups.make()
    except Error as error:
        refused = isinstance(error.cause, OSError) and error.cause.errno in (1, 13, 30)
        if refused and not any(member != "devices" and wanted[member] for member in wanted):
            return None
        raise
    made.state["cgroups"] = groups.paths
    made.groups = groups
    state.save(made.root, made.name, made.state)  # so that a delete after our death finds them
    groups.apply(wanted)
    if privileged:
        groups.allow_devices(devices.rules(spec))
    return groups


def _clone_sources(setup: child.Setup) -> dict[int, int]:
    """Bind sources, cloned with our rights: mapped root may not be able to reach them."""
    from oci_tools.linux import mount

    trees = {}
    for number, step in enumerate(setup.mounts):
        if step.bind:
            flags = mount.OPEN_TREE_CLONE | (mount.AT_RECURSIVE if step.recursive else 0)
            try:
                trees[number] = mount.open_tree(mount.AT_FDCWD, step.source, flags)
            except OSError as error:
                raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None
    return trees


def _listen(directory: str) -> socket:
    """The socket on which a created container waits for `start`."""
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/start.sock")
        sock.listen(1)
    finally:
        os.close(fd)
    return sock


def _clone(made: Container, setup: child.Setup) -> None:
    """The container's first process, and its pid in the state before it does anything."""
    made.channel, theirs = sync.pair()
    spaces = setup.namespaces
    nested = "user" in spaces.join  # the child makes the others, in the namespace it joins
    own = spaces.enter_pid()
    pid, made.pidfd = process.clone3(0 if nested else spaces.early)
    if pid == 0:
        made.channel.close()
        child.main(setup, theirs)
    spaces.leave_pid(own)
    theirs.close()
    for fd in (*setup.cgroup_files, *setup.trees.values()):
        os.close(fd)
    _know(made, pid)
    if nested:
        made.channel.send("go")
        message, fds = made.channel.receive()
        if message is None or message["op"] != "moved":
            raise Error("cannot set up the container", None, "the container side ended unexpectedly")
        os.waitpid(pid, 0)
        os.close(made.pidfd)
        made.pidfd = fds[0]
        _know(made, _pid_of(made.pidfd))
    spaces.map_ids(made.state["pid"])
    spaces.close()


def _know(made: Container, pid: int) -> None:
    made.state.update(pid=pid, startTime=process.start_time(pid))
    state.save(made.root, made.name, made.state)


def _pid_of(pidfd: int) -> int:
    """The pid, as we see it, that a pidfd stands for."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _shake_hands(made: Container, spec: dict[str, Any], options: Options) -> None:
    """The runtime's half of the handshake, up to "ready"."""
    made.channel.send("go")
    while True:
        message, fds = made.channel.receive()
        if message is None:
            raise Error("cannot set up the container", None, _last_words(made))
        if message["op"] == "created":
            shown = {**state.public(made.root, made.state, "creating"), "pid": made.state["pid"]}
            for kind in ("prestart", "createRuntime"):
                hooks.run(hooks.listed(spec, kind), kind, shown, dict(os.environ))
            made.channel.send("go")
        elif message["op"] == "console":
            made.master = fds[0]
            if options.console_socket:
                terminal.hand_over(made.master, options.console_socket)
                os.close(made.master)
                made.master = -1
        elif message["op"] == "seccomp":
            from oci_tools.runtime import seccomp

            seccomp.hand_over(spec, fds[0], made.state)
            os.close(fds[0])
        elif message["op"] == "ready":
            return


def _last_words(made: Container) -> str:
    """Why the container side ended without saying so."""
    _, wait_status = os.waitpid(made.state["pid"], 0)
    code = os.waitstatus_to_exitcode(wait_status)
    if code == -9:
        return "its process was killed (is the memory limit too low?)"
    return f"its process ended with code {code}" if code >= 0 else f"its process was killed by signal {-code}"


def _start(channel: sync.Channel) -> None:
    """Say "start"; end of file is the payload's exec, anything else an error."""
    try:
        channel.send("start")
    except OSError:
        raise Error("cannot start the container", None, "its process has ended") from None
    channel.receive()
    channel.close()


def _poststart(known: dict[str, Any], root: str) -> None:
    """poststart hooks: after the payload began; one that fails ends the container (runtime-spec 1.3)."""
    listed = known["hooks"]["poststart"]
    if not listed:
        return
    try:
        hooks.run(listed, "poststart", state.public(root, known, "running"), dict(os.environ))
    except Error:
        _signal(known, 9)
        raise


def _open_streams() -> None:
    """Streams that the caller closed become /dev/null, or the next open file would be one."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)


# -- ending -------------------------------------------------------------------------------


def _groups(known: dict[str, Any]) -> Cgroup | None:
    return cgroup.Cgroup(known["cgroups"]) if known.get("cgroups") else None


def _signal(known: dict[str, Any], signum: int) -> None:
    """Signal the container's first process; never another one that got its pid."""
    try:
        pidfd = os.pidfd_open(known["pid"])
    except ProcessLookupError:
        return
    try:
        if process.start_time(known["pid"]) == known["startTime"]:
            process.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _signal_all(groups: Cgroup, signum: int) -> None:
    if signum == 9:
        return groups.kill()
    for pid in groups.processes():
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


def _wait_gone(known: dict[str, Any]) -> None:
    """Wait until a killed process is no more than a zombie."""
    import select

    try:
        pidfd = os.pidfd_open(known["pid"])
    except OSError:
        return
    try:
        if process.start_time(known["pid"]) == known["startTime"]:
            groups = _groups(known)
            if groups is not None and groups.frozen():
                groups.freeze(False)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(10_000)
    finally:
        os.close(pidfd)


def _end(made: Container, locked: bool = False) -> None:
    """Undo a create or start that failed: whatever of it exists goes."""
    if made.pidfd >= 0:
        try:
            process.pidfd_send_signal(made.pidfd, 9)
            os.waitpid(made.state["pid"], 0)
        except OSError:
            pass
    for fd in (made.master, made.pidfd):
        if fd >= 0:
            os.close(fd)
    _destroy(made.root, made.state)


def _destroy(root: str, known: dict[str, Any]) -> None:
    """Remove groups and state directory, then run poststop hooks, whose failure only warns."""
    groups = _groups(known)
    if groups is not None:
        if groups.processes():
            groups.kill()
        groups.remove()
    fs.remove_tree(state.directory(root, known["id"]))
    listed = (known.get("hooks") or {}).get("poststop")
    if listed:
        try:
            hooks.run(listed, "poststop", state.public(root, known, "stopped"), dict(os.environ))
        except Error as error:
            from oci_tools import cli

            cli.say("oci-run", f"warning: {error}")

