"""How a container's process comes to be: the host's side of a create, up to "ready".

What can be done before the process exists (groups, opened files, a compiled filter), the
clone, and the runtime's half of the handshake of `sync.py`.  A create that fails is undone by
`end`; one that is killed leaves a state directory from which `delete` knows what there is.
"""

from __future__ import annotations

import _signal
import os
import time

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import child, descriptors, groups, hooks, removal, scheduling, state, sync, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup


class Options:
    """What the command line of `create` and `run` adds to config.json."""

    pid_file: str | None = None
    console_socket: str | None = None
    pidfd_socket: str | None = None
    cgroup: list[str] | tuple[str, ...] = ()  # of exec: groups beneath the container's
    preserve_fds = 0
    no_pivot = False
    no_new_keyring = False
    cgroup_manager = "cgroupfs"  # or "systemd", "disabled"
    detach = False
    keep = False
    timeout = 0  # seconds after which it is killed in the foreground; 0: never
    plain_newlines = False  # of a terminal of ours, whose output goes to a file or a pipe
    proxy = True  # signals that reach us in the foreground are the container's
    any_cpu = False  # let it run on all processors, whichever we have
    joined: Any = None  # called with its pid when its namespaces are there, and nothing else

    @staticmethod
    def warn(error: Error | None) -> None:
        """Told what went wrong without being a failure, or None."""

    @staticmethod
    def debug(text: str) -> None:
        """Told what is about to be done."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


class Container:
    """A container whose process exists: what create and run hold while they work on it."""

    def __init__(self, root: str, name: str, known: dict[str, Any]) -> None:
        self.root = root
        self.name = name
        self.state = known
        self.groups: Cgroup | None = None
        self.channel: Any = None
        self.pidfd = self.master = -1  # of its process, of its terminal
        self.notify: Any = None  # the socket on which the payload says that it is ready
        self.entered: dict[str, Any] | None = None  # the state of the container that an exec enters


def launch(
    root: str, name: str, bundle: str, spec: dict[str, Any], options: Options, waits: bool
) -> Container:
    """Make the container's process and bring it to "ready"; `waits`: for `start` to call."""
    given = "LISTEN_FDS" in os.environ or "NOTIFY_SOCKET" in os.environ  # by a service manager
    if given:
        from oci_tools.runtime import activation

        options.preserve_fds += activation.descriptors()
    descriptors.settle(options.preserve_fds)
    if options.any_cpu:
        scheduling.run_anywhere()
    _heed_signals()
    directory = state.make(root, name)
    with state.Lock(root, name) as lock:
        if not lock.is_current():
            raise Error("cannot create container", name, "it was deleted meanwhile")
        made = Container(root, name, new_state(name, bundle, spec))
        try:
            said = spec
            if given:
                spec = activation.handed_on(spec, directory)
                if not waits and "NOTIFY_SOCKET" in os.environ:
                    made.notify = activation.Notify(directory)
            setup = _prepare(made, bundle, spec, options)
            if waits:
                from oci_tools.runtime import starting

                setup.waiting = starting.Waiting(directory)
            if "debug" in options.__dict__:
                _tell_plan(made, setup, options)
            setup.is_joined = options.joined is not None
            _clone(made, setup, options.joined)
            # What needs not be done before is done while the other side works.
            fs.write(f"{directory}/config.json", document.dumps(said), 0o600, sync=False)
            if not waits:
                from oci_tools.runtime import foreground  # noqa: F401
            options.debug(f"child process in init(): container '{name}' has pid {made.state['pid']}")
            shake_hands(made, spec, options)
            if waits:
                setup.waiting.close()
                state.mark_plain(root, made.state)
            tell(made, options, b"standard")
        except BaseException:
            end(made)
            raise
    return made


def _tell_plan(made: Container, setup: child.Setup, options: Options) -> None:
    """--debug: what is going to be made; the words that runc's callers look for are its own."""
    options.debug(f"nsexec container setup: bundle '{made.state['bundle']}', root '{setup.rootfs}'")
    options.debug(f"namespaces: {setup.namespaces}")
    for path in made.state["cgroups"].values():
        options.debug(f"cgroup {path}")
    for step in setup.mounts:
        options.debug(str(step))
    options.debug(f"capabilities: {setup.caps}")
    if setup.seccomp:
        options.debug(f"seccomp: {len(setup.seccomp.program) // 8} instructions")
        options.debug(f"seccomp filter flags: {setup.seccomp.flags}")


def tell(made: Container, options: Options, kind: bytes) -> None:
    """Tell who asked that the process is there."""
    if options.pidfd_socket:
        sync.send_descriptor(made.pidfd, options.pidfd_socket, kind)
    if options.pid_file:
        fs.write_to(options.pid_file, str(made.state["pid"]).encode())


def new_state(name: str, bundle: str, spec: dict[str, Any]) -> dict[str, Any]:
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
        "ownPids": any(entry["type"] == "pid" and not entry.get("path") for entry in linux.get("namespaces") or ()),
        "hooks": {kind: hooks.listed(spec, kind) for kind in ("poststart", "poststop")},
    }


def _prepare(made: Container, bundle: str, spec: dict[str, Any], options: Options) -> child.Setup:
    """All that can be done before the process exists: groups, opened files, loaded filters."""
    rootfs = made.state["rootfs"]
    if not os.path.isdir(rootfs):
        raise Error("cannot use rootfs", rootfs, "no such directory")
    groups.find(made, spec, options.cgroup_manager)
    if (spec.get("linux") or {}).get("mountLabel") and not os.path.exists("/sys/fs/selinux/enforce"):
        raise Error("config.json: linux.mountLabel: this kernel has no SELinux")  # not ignored silently
    setup = child.Setup(spec, rootfs, state.public(made.root, made.state, "creating"))
    warn_of(setup.caps.unknown, options)
    for step in setup.mounts:
        for option in step.ignored():
            options.warn(Error(f"config.json: mounts: a bind on {step.destination} takes no option", option))
    # `oci-unpack --mount` has mounted it where all can see: a second mount of one upper would do harm.
    if "io.oci-tools.overlay" in (spec.get("annotations") or {}) and not os.path.ismount(rootfs):
        from oci_tools.runtime import overlay

        if os.geteuid() == 0:
            users = setup.namespaces.users()
            setup.tree = overlay.make(spec, bundle, users=users)
            if users >= 0:
                os.close(users)
        else:
            place = fs.root()  # as long as we are not root of the container
            setup.make_tree = lambda: overlay.make(spec, bundle, place)
    if not setup.namespaces.isolates("mount"):
        from oci_tools.runtime import host_mounts

        if setup.tree < 0:
            setup.tree = host_mounts.clone(rootfs)
        made.state["mount"] = host_mounts.number(setup.tree)
    if (spec.get("linux") or {}).get("seccomp") or "run.oci.seccomp_bpf_data" in (spec.get("annotations") or {}):
        from oci_tools.runtime import seccomp

        setup.seccomp = seccomp.prepare(spec)
    if made.groups is not None:
        if not made.state.get("systemd"):
            setup.birthplace = made.groups.birthplace()
        setup.cgroup_layout = made.groups
    setup.trees = _clone_sources(setup)
    if (spec.get("linux") or {}).get("devices") and setup.namespaces.has("user") and os.geteuid() == 0:
        from oci_tools.runtime import devices

        users = setup.namespaces.users()
        setup.nodes = devices.make_outside(spec, users)
        os.close(users)
    setup.keyring = not options.no_new_keyring
    setup.no_pivot = options.no_pivot
    setup.preserve = options.preserve_fds
    return setup


def _clone_sources(setup: child.Setup) -> dict[int, int]:
    all_of_them = setup.namespaces.has("user")
    special = [step for step in setup.mounts if step.bind and (all_of_them or step.source[:6] == "/proc/")]
    if not special and all(step.idmap is None for step in setup.mounts):
        return {}
    from oci_tools.runtime import binds

    return binds.clone_sources(setup)


def _clone(made: Container, setup: child.Setup, joined: Any) -> None:
    """The container's first process, and its pid in the state before it does anything."""
    made.channel, theirs = sync.pair()
    spaces = setup.namespaces
    nested = "user" in spaces.join  # the child makes the others, in the namespace it joins
    own = spaces.enter_pid()
    born = setup.birthplace
    try:
        pid, made.pidfd = process.clone3(0, born) if nested else spaces.clone(born)
    except OSError as error:
        hint = "a plain user needs user namespaces, which a chroot does not have" if os.geteuid() else None
        raise Error("cannot make namespaces", None, error, hint) from None
    if pid == 0:
        made.channel.close()
        child.main(setup, theirs)
    spaces.leave_pid(own)
    theirs.close()
    for fd in (*setup.trees.values(), *(fd for fd in (setup.tree, setup.nodes, born) if fd >= 0)):
        os.close(fd)
    _know(made, pid)
    if nested:
        made.channel.go()
        moved(made)
        _know(made, made.state["pid"])
    groups.make(made, setup.spec, made.state["pid"])
    spaces.map_ids(made.state["pid"])
    _give_devices(made, setup)
    if joined:
        joined(made.state["pid"])
    spaces.close()
    scheduling.set_oom_score(made.state["pid"], setup.process)
    _let_go_on(made)


def _let_go_on(made: Container) -> None:
    """Say that all is there, with the files by which the container side joins its groups."""
    files = made.groups.join_files() if made.groups and not made.state.get("systemd") else []
    made.channel.go(files, groups=made.groups is not None)
    for fd in files:
        os.close(fd)


def _give_devices(made: Container, setup: child.Setup) -> None:
    """What of the host's the new process gets besides files: network devices, a share of the processor's cache."""
    linux = setup.spec.get("linux") or {}
    if linux.get("netDevices"):
        from oci_tools.runtime import net_devices

        net_devices.move(linux["netDevices"], made.state["pid"], setup.namespaces.join.get("network", -1))
    if linux.get("intelRdt"):
        from oci_tools.runtime import resctrl

        made.state["resctrl"] = resctrl.join(linux["intelRdt"], made.name, made.state["pid"])
        state.save(made.root, made.name, made.state)


def warn_of(unknown: list[str], options: Options) -> None:
    """Capabilities that this program does not know are left out: one config.json is for many kernels."""
    for name in sorted({*unknown}):
        options.warn(Error("process.capabilities: unknown capability", name))


def _know(made: Container, pid: int) -> None:
    made.state.update(pid=pid, startTime=process.start_time(pid))
    state.save(made.root, made.name, made.state)


def _pid_of(pidfd: int) -> int:
    """The pid, as we see it, that a pidfd stands for."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def moved(made: Container) -> None:
    """The container side goes on as another process beside the first: know that one."""
    message, fds = made.channel.receive() if sync.has_spoken(made.channel.fileno(), made.pidfd) else (None, [])
    if message is None or message["op"] != "moved":
        raise Error("cannot set up the container", None, "the container side ended unexpectedly")
    os.waitpid(made.state["pid"], 0)
    os.close(made.pidfd)
    made.pidfd = fds[0]
    made.state.update(pid=_pid_of(made.pidfd))


def shake_hands(made: Container, spec: dict[str, Any], options: Options) -> None:
    """The runtime's half of the handshake, up to "ready"."""
    while True:
        message, fds = made.channel.receive()
        if message is None:
            raise Error("cannot set up the container", None, last_words(made))
        what = "init: closing the pipe to signal completion" if message["op"] == "ready" else message["op"]
        options.debug(f"the container side says: {what}")
        if message["op"] == "created":
            shown = {**state.public(made.root, made.state, "creating"), "pid": made.state["pid"]}
            for kind in ("prestart", "createRuntime"):
                hooks.run(hooks.listed(spec, kind), kind, shown, dict(os.environ))
            made.channel.go()
        elif message["op"] == "console":
            made.master = fds[0]
            if options.console_socket:
                sync.send_descriptor(made.master, options.console_socket, b"/dev/ptmx")
                os.close(made.master)
                made.master = -1
            else:
                terminal.fit(made.master)  # before the payload can ask
                if options.plain_newlines and not os.isatty(1):
                    terminal.keep_newlines(made.master)
        elif message["op"] == "seccomp":
            from oci_tools.runtime import seccomp

            if made.entered:
                seccomp.hand_over(spec, fds[0], made.entered, made.state["pid"], "running")
            else:
                seccomp.hand_over(spec, fds[0], made.state)
            os.close(fds[0])
        elif message["op"] == "ready":
            return


def last_words(made: Container) -> str:
    """Why the container side ended without saying so."""
    _, wait_status = os.waitpid(made.state["pid"], 0)
    code = os.waitstatus_to_exitcode(wait_status)
    if code == -9:
        return "its process was killed (is the memory limit too low?)"
    return f"its process ended with code {code}" if code >= 0 else f"its process was killed by signal {-code}"


def _heed_signals() -> None:
    """Be ended by a signal as by an exception, with nothing left behind; what is ignored stays so."""
    for number in (1, 15):  # HUP, TERM; INT is an exception already
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _interrupted)


def _interrupted(number: int, _: object) -> None:
    raise SystemExit(128 + number)


# -- undoing -------------------------------------------------------------------------------


def end(made: Container) -> None:
    """Undo a create or start that failed: whatever of it exists goes."""
    kill(made)
    removal.destroy(made.root, made.state)


def kill(made: Container) -> None:
    """Kill the process that did not become a payload, and let go of it."""
    if made.pidfd >= 0:
        try:
            process.pidfd_send_signal(made.pidfd, 9)
            os.waitpid(made.state["pid"], 0)
        except OSError:
            pass
    for fd in (made.master, made.pidfd):
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass  # it was already
