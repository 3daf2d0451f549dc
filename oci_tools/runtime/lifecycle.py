"""The life of a container, on the host's side: create, start, run, state, kill, delete.

runtime-spec, "Runtime and Lifecycle" and "Operations".  How the process comes to be is
`launch.py`'s, what it does before it is the payload `child.py`'s; how the two speak is drawn
in `sync.py`; what stays on disk is `state.py`'s.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import descriptors, groups, hooks, removal, state, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup
    from oci_tools.runtime.launch import Container, Options


# -- the verbs -------------------------------------------------------------------------


def create(root: str, name: str, bundle: str, spec: dict[str, Any], options: Options) -> None:
    """Make the container up to, and not including, the payload's first instruction."""
    if spec["process"].get("terminal") and not options.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with process.terminal")
    if options.console_socket and not spec["process"].get("terminal"):
        raise Error("cannot use --console-socket", None, "process.terminal is false")
    from oci_tools.runtime import launch  # as late as here: the other verbs start without it

    made = launch.launch(root, name, bundle, spec, options, waits=True)
    made.channel.close()
    os.close(made.pidfd)


def run(root: str, name: str, bundle: str, spec: dict[str, Any], options: Options) -> int:
    """Create, start, wait, delete: the exit code of the payload, 128 + n for signal n."""
    if options.detach and spec["process"].get("terminal") and not options.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with --detach and process.terminal")
    from oci_tools.runtime import launch

    made = launch.launch(root, name, bundle, spec, options, waits=False)
    try:
        from oci_tools.runtime import foreground

        if options.detach:
            sync.start(made.channel)
            _poststart(made.state, root)
            if made.notify:
                made.notify.wait(made.state["pid"])
            return 0
        with foreground.Signals(options.proxy) as signals:
            sync.start(made.channel)
            _poststart(made.state, root)
            suspend = _suspend(made.groups) if made.groups is not None else None
            pid, timeout = made.state["pid"], options.timeout
            code = foreground.wait(made.pidfd, pid, made.master, signals, made.notify, suspend, timeout)
    except BaseException:
        launch.kill(made)
        _remove(root, made.state)
        raise
    if not options.keep:
        options.warn(_remove(root, made.state))
    return code


def _suspend(held: Cgroup) -> Callable[[bool], None]:
    """What a job that is stopped does with its container."""

    def suspend(stopped: bool) -> None:
        try:
            held.freeze(stopped)
        except (Error, OSError):
            pass  # it has just ended, or there is no freezer: then only we are stopped

    return suspend


def begin(root: str, name: str, bundle: str, spec: dict[str, Any], options: Options) -> Container:
    """Create and start: the payload runs, and the caller, its parent, looks after it."""
    from oci_tools.runtime import launch

    made = launch.launch(root, name, bundle, spec, options, waits=False)
    try:
        sync.start(made.channel)
        _poststart(made.state, root)
    except BaseException:
        launch.kill(made)
        _remove(root, made.state)
        raise
    return made


def start(root: str, name: str) -> None:
    """Let a created container's payload begin."""
    from oci_tools.runtime import starting

    descriptors.settle()
    starting.said_by_shell()
    known = state.load(root, name)
    current = status(root, known)
    if current != "created":
        words = {"running": "an already running container", "stopped": "a container that has stopped"}
        raise Error(f"cannot start {words.get(current, f'a container that is {current}')}", name)
    notify = _notified(root, name)
    starting.ask(state.directory(root, name), name)
    _poststart(known, root)
    if notify:
        notify.wait(known["pid"])


def _notified(root: str, name: str) -> Any:
    """The socket on which the payload will say that it is ready, if somebody has asked for it."""
    directory = state.directory(root, name)
    if "NOTIFY_SOCKET" not in os.environ or not os.path.isdir(f"{directory}/notify"):
        return None
    from oci_tools.runtime import activation

    return activation.Notify(directory)


def kill(root: str, name: str, signum: int, everyone: bool = False, entered: int | None = None) -> None:
    """Send a signal to the container's process, or to all of them, or to all of an exec by its pid.

    A container without a pid namespace of its own has no process whose death ends the
    others, so SIGKILL goes to all of its cgroup.
    """
    known = state.load(root, name)
    if entered is not None:
        from oci_tools.runtime import exec_group

        return exec_group.kill(state.directory(root, name), entered, signum, name)
    current = status(root, known)
    held = groups.of(known)
    if (everyone or (signum == 9 and not known.get("ownPids", True))) and held is not None:
        return _signal_all(held, signum)
    if current not in ("created", "running", "paused"):
        raise Error("cannot kill container", name, "container not running")
    _signal(known, signum)
    if current == "paused" and signum == 9:
        _thaw(held)


def delete(root: str, name: str, force: bool = False) -> Error | None:
    """Remove a container that has ended, and all that belongs to it; what a poststop hook failed with."""
    descriptors.settle()
    try:
        known = state.load(root, name)
    except Error:
        if force and not os.path.exists(state.directory(root, name)):
            return None  # deleting twice is no error
        raise
    current = status(root, known)
    if current in ("running", "paused") and not force:
        raise Error("cannot delete container", name, f"it is not stopped: {current}")
    if current == "creating" and not force:
        raise Error("cannot delete container", name, "it is being created")
    removal.end_checkpoint(state.directory(root, name))
    _end(known)  # a create that is under way gives up then
    return _remove(root, known)


def query(root: str, name: str) -> dict[str, Any]:
    """The state of a container, as the specification's document."""
    known = state.load(root, name)
    return state.public(root, known, status(root, known))


def status(root: str, known: dict[str, Any]) -> str:
    """The status with what only the cgroup knows: paused."""
    current = state.status(root, known)
    held = groups.of(known)
    if current in ("created", "running") and held is not None and held.frozen():
        return "paused"
    return current


def freeze(root: str, name: str, frozen: bool) -> None:
    """Pause or resume."""
    known = state.load(root, name)
    current = status(root, known)
    if current not in (("created", "running") if frozen else ("paused",)):
        raise Error(f"cannot {'pause' if frozen else 'resume'} container", name, f"it is {current}")
    held = groups.of(known)
    if held is None:
        raise Error("cannot pause container", name, "it has no cgroup")
    held.freeze(frozen)


def limit(root: str, name: str, resources: dict[str, Any], schemata: list[str] | None = None) -> None:
    """Change the limits of a container: what `resources` does not name stays; `schemata`: lines of its intelRdt."""
    known = state.load(root, name)
    if state.status(root, known) == "stopped":
        raise Error("cannot update container", name, "container not running")
    groups.change(known, resources)
    if schemata:
        from oci_tools.runtime import resctrl

        resctrl.change(known, schemata)


def processes(root: str, name: str) -> list[int]:
    """The host's pids of all processes of a container."""
    known = state.load(root, name)
    held = groups.of(known)
    if held is None:
        return [known["pid"]] if state.status(root, known) != "stopped" else []
    return held.processes()


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


# -- ending -------------------------------------------------------------------------------


def _end(known: dict[str, Any]) -> None:
    """Kill the container's first process if it lives, and wait until it is no more than a zombie."""
    import select

    try:
        pidfd = os.pidfd_open(known["pid"])
    except OSError:
        return  # 0, or gone
    try:
        if process.start_time(known["pid"]) == known["startTime"]:
            process.pidfd_send_signal(pidfd, 9)
            _thaw(groups.of(known))
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(10_000):  # it hangs in the kernel, or another's cgroup of v1 is frozen
                raise Error("cannot delete container", known["id"], "its process was killed and has not ended yet")
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _thaw(held: Cgroup | None) -> None:
    """Let what is killed die: cgroup v1 keeps what is frozen even from that."""
    if held is None or not held.frozen():
        return
    try:
        held.freeze(False)
    except (Error, OSError):
        if held.processes():
            raise  # it was not just removed by who looks after the container


def _remove(root: str, known: dict[str, Any]) -> Error | None:
    """Remove what belongs to a container: once, by whoever of several comes first.

    The others wait for that one's lock and find that it is no longer that of the name.  What is
    known is read again under the lock: a create may have gone on since.
    """
    name = known["id"]
    try:
        with state.Lock(root, name) as lock:
            if not lock.is_current():
                return None
            known = state.load(root, name)
            _end(known)
            return removal.destroy(root, known)
    except Error:
        if os.path.exists(state.directory(root, name)):
            raise
        return None  # it went before we could lock it


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
