"""`restore`: a container made of a bundle and of processes that `checkpoint.py` saved, by criu(8).

criu starts in the container's cgroups and in a mount namespace in which its root file system is a mount; the first
process that it makes becomes our child, and with its terminal's master comes what that was before.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import checkpoint as saved
from oci_tools.runtime import child, criu, descriptors, foreground, groups, hooks, launch, lifecycle, mounts, state
from oci_tools.runtime import spec as specs
from oci_tools.runtime import sync, targets, terminal
from oci_tools.runtime.launch import Container
from oci_tools.runtime.namespaces import FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from oci_tools.protobuf import Message

_CHANNEL, _STREAMS, _SPACES = 100, 101, 104  # descriptors by which criu is given what it needs


def restore(args: Any, root: str) -> int:
    """The verb `restore`: the exit code of the payload, 0 if it is left alone."""
    program = criu.program(args.criu)
    spec = specs.load(args.bundle)
    _check_terminal(args, bool(spec["process"].get("terminal")))
    options = saved.common(args, spec) | {criu.SIBLING: True, criu.EVASIVE_DEVICES: True}
    if args.lsm_profile:
        options[criu.LSM_PROFILE] = args.lsm_profile
    if args.lsm_mount_context:
        options[criu.LSM_MOUNT_CONTEXT] = args.lsm_mount_context
    descriptors.settle()
    place = state.make(root, args.id)
    with state.Lock(root, args.id):
        made = Container(root, args.id, launch.new_state(args.id, args.bundle, spec))
        try:
            fs.write(f"{place}/config.json", document.dumps(spec), 0o600, sync=False)
            groups.find(made, spec, args.cgroup_manager or ("systemd" if args.systemd_cgroup else "cgroupfs"))
            options |= _told(made, spec, args.image_path)
            _bring_back(made, spec, args, options, program)
            if args.pid_file:
                fs.write_to(args.pid_file, str(made.state["pid"]).encode())
        except BaseException:
            launch.end(made)
            raise
    if args.detach:
        return 0
    with foreground.Signals() as signals:
        code = foreground.wait(made.pidfd, made.state["pid"], made.master, signals)
    lifecycle.delete(root, args.id, force=True)
    return code


def _check_terminal(args: Any, wanted: bool) -> None:
    if args.console_socket and not wanted:
        raise Error("cannot use --console-socket", None, "process.terminal is false")
    if wanted and args.detach and not args.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with --detach and process.terminal")


def _told(made: Container, spec: dict[str, Any], images: str) -> Message:
    """What criu is told of the world outside: mounts, streams, the network joined."""
    if os.path.exists(f"{images}/{saved.RECORD}"):
        outside, streams = _record(f"{images}/{saved.RECORD}")
    else:  # another runtime's, which names all masks by what is on them
        plan = mounts.plan(spec, made.state["bundle"])
        outside = {"/dev/null": "/dev/null"} | {step.destination: step.source for step in plan if step.bind}
        path = f"{images}/{saved.DESCRIPTORS}"
        streams = _texts(path, document.loads(specs.read(path), path))
    inherited = [(_STREAMS + fd, name) for fd, name in enumerate(streams) if name.startswith(("pipe:", "socket:"))]
    joined = saved.joined(spec)
    inherited += [(_SPACES + at, saved.EXTERNAL[kind][1]) for at, kind in enumerate(_external(spec))]
    return {
        criu.EXTERNAL: [f"mnt[{at}]:{_source(spec, made, at, source)}" for at, source in outside.items()],
        criu.INHERIT: [{1: name, 2: fd} for fd, name in inherited],
        criu.JOIN: [{1: FILES[kind], 2: path} for kind, path in joined.items() if kind not in saved.EXTERNAL],
    }


def _record(path: str) -> tuple[dict[str, str], list[str]]:
    """What `oci.json` says of mounts and streams."""
    found = document.loads(specs.read(path), path)
    if not (isinstance(found, dict) and found.get("version") == 1 and isinstance(found.get("mounts"), dict)):
        raise Error("cannot read", path, "it is no record of a checkpoint")
    _texts(path, list(found["mounts"].values()))
    return found["mounts"], _texts(path, found.get("streams"))


def _texts(path: str, found: object) -> list[str]:
    if not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise Error("cannot read", path, "it is no record of a checkpoint")
    return found


def _external(spec: dict[str, Any]) -> list[str]:
    """The kinds of the namespaces that are given to criu as descriptors."""
    return [kind for kind in saved.joined(spec) if kind in saved.EXTERNAL]


def _source(spec: dict[str, Any], made: Container, place: str, recorded: str) -> str:
    """What the bundle now has there; else what there was, if config.json names it.

    Files of a checkpoint may come from anywhere: they choose nothing of this host.
    """
    known = saved.sources(made.state, spec)
    group = saved.group_of(made.state, place) if recorded.startswith("/sys/fs/cgroup/") else None
    found = group or known.get(place) or (recorded if recorded in known.values() else None)
    if found is None:
        raise Error("cannot restore container", made.name, f"what is to be mounted on '{place}' is not in config.json")
    return found


def _bring_back(made: Container, spec: dict[str, Any], args: Any, options: Message, program: str) -> None:
    top = f"{state.directory(made.root, made.name)}/criu-root"
    os.mkdir(top, 0o700)
    ours, theirs = criu.pair()
    pid = _start(made, spec, top, theirs, program)

    def notified(step: str, first: int, fds: list[int]) -> None:
        if step == "setup-namespaces":
            _run_hooks(made, spec, first)
        elif step == "orphan-pts-master":
            _take_terminal(made, args, fds[0])
        elif step == "post-restore" and made.master >= 0:
            terminal.fit(made.master)  # to ours, after criu has given it the size that it had

    try:
        answer = criu.ask(ours, pid, criu.RESTORE, options | {criu.ROOT: top}, notified)
        made.state["pid"] = criu.restored(answer)
        made.pidfd = os.pidfd_open(made.state["pid"])
    except (criu.Failed, OSError) as error:
        raise saved.failure("cannot restore container", args, error) from None
    finally:
        ours.close()  # without an answer criu gives up, and ends what it has made
        os.waitpid(pid, 0)
    made.state["startTime"] = process.start_time(made.state["pid"])
    state.save(made.root, made.name, made.state)


def _run_hooks(made: Container, spec: dict[str, Any], pid: int) -> None:
    """There is nothing in it yet but its namespaces."""
    shown = {**state.public(made.root, made.state, "creating"), "pid": pid}
    for kind in ("prestart", "createRuntime"):
        hooks.run(hooks.listed(spec, kind), kind, shown, dict(os.environ))


def _take_terminal(made: Container, args: Any, master: int) -> None:
    if args.console_socket:
        sync.send_descriptor(master, args.console_socket, b"/dev/ptmx")
        os.close(master)
    else:
        made.master = master


def _start(made: Container, spec: dict[str, Any], top: str, theirs: socket, program: str) -> int:
    """The pid of criu, which waits for what it is asked."""
    tree = -1
    if "io.oci-tools.overlay" in (spec.get("annotations") or {}) and not os.path.ismount(made.state["rootfs"]):
        from oci_tools.runtime import overlay

        tree = overlay.make(spec, made.state["bundle"])
    spaces = [os.open(saved.joined(spec)[kind], os.O_RDONLY | os.O_CLOEXEC) for kind in _external(spec)]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)  # until there are groups
            if made.groups and not made.state.get("systemd"):
                child.join_cgroups(made.groups.join_files())
            _make_root(made, spec, top, tree)
            _become(program, theirs.fileno(), spaces)
        except BaseException as error:
            os.write(2, f"oci-run: cannot restore: {error}\n".encode())
            os._exit(1)
    try:
        groups.make(made, spec, pid)
    finally:
        theirs.close()
        for fd in [*spaces, reader, writer, *([tree] if tree >= 0 else [])]:
            os.close(fd)
    return pid


def _make_root(made: Container, spec: dict[str, Any], top: str, tree: int) -> None:
    """A mount namespace in which the root file system is mounted at `top`, with a place for each mount."""
    process.unshare(process.CLONE_NEWNS | (process.CLONE_NEWCGROUP if saved.own_cgroups(spec) else 0))
    mount.mount(None, "/", None, mount.MS_PRIVATE | mount.MS_REC)
    if tree < 0:
        tree = mount.open_tree(mount.AT_FDCWD, made.state["rootfs"], mount.OPEN_TREE_CLONE)
    mount.move_mount(tree, "", mount.AT_FDCWD, top, mount.MOVE_MOUNT_F_EMPTY_PATH)
    root = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in mounts.plan(spec, made.state["bundle"]):
        targets.create(root, step.destination, not step.bind or os.path.isdir(step.source))


def _become(program: str, channel: int, spaces: list[int]) -> None:
    os.dup2(channel, _CHANNEL, inheritable=True)
    for fd in range(3):
        os.dup2(fd, _STREAMS + fd, inheritable=True)
    for at, fd in enumerate(spaces):
        os.dup2(fd, _SPACES + at, inheritable=True)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.execve(program, [program, "swrk", str(_CHANNEL)], criu.environment())
