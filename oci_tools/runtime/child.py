"""The container side: from the clone to the payload's first instruction.

Runs in the new process with the host's root still in sight at first, later inside the
container; the order of the steps is the security of the whole and is said once, in
`_set_up`.  From `seal_imports` on nothing is imported, no codec looked up, no traceback
formatted: Python would open files by paths that now mean the image's.  The handshake is
drawn in `sync.py`.
"""

from __future__ import annotations

import _signal  # `signal` loads `enum`
import os
import sys

from oci_tools.errors import Error
from oci_tools.linux import libc, process
from oci_tools.runtime import caps, cgroup_mounts, descriptors, devices, executable, hooks, labels, mounts
from oci_tools.runtime import cgroup_directories as directories
from oci_tools.runtime import scheduling, sysctl, terminal, user
from oci_tools.runtime.namespaces import Namespaces, become_root, loopback_up
from oci_tools.runtime.sync import Channel, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.runtime.entering import Entry
    from oci_tools.runtime.starting import Waiting

_KEYCTL_JOIN_SESSION_KEYRING = 1
_BEFORE: list[object] = []  # keeps alive what `seal_imports` took away
ENDING = (1, 2, 15)  # HUP, INT, TERM: what they mean to the runtime is none of our business


class Setup:
    """All that the container side needs, made before the clone."""

    def __init__(self, spec: dict[str, Any], rootfs: str, state: dict[str, Any]) -> None:
        self.spec = spec
        self.rootfs = rootfs
        self.state = state  # what hooks of the container side are told; the pid is added inside
        self.process: dict[str, Any] = spec["process"]
        self.namespaces = Namespaces(spec)
        sysctl.check((spec.get("linux") or {}).get("sysctl") or (), self.namespaces)
        self.mounts = mounts.plan(spec, state["bundle"])
        self.caps = caps.Wanted(self.process.get("capabilities"))
        self.tree = -1  # a detached mount that is the root, or
        self.make_tree: Any = None  # a function that makes it on the container side, or neither: `rootfs` is it
        self.trees: dict[int, int] = {}  # bind sources cloned by the runtime, by place in the list of mounts
        self.nodes = -1  # devices that a user namespace cannot make (devices.make_outside)
        self.seccomp: Any = None
        self.cgroup_files: list[int] = []  # they come with the word to go on
        self.inside = False  # of the groups
        self.is_joined = False  # others look for our namespaces before the word to go on
        self.birthplace = -1  # the cgroup2 directory in which it is born
        self.cgroup_layout: Any = None
        self.waiting: Any = None  # where `start` will ask (starting.Waiting); None for `run`
        self.keyring = True
        self.no_pivot = False
        self.preserve = 0  # how many descriptors from 3 on the payload keeps
        self.hooks = hooks.listed(spec, "startContainer")
        # crun's annotation: the groups of whoever started us stay, which lets a plain user in where they let it in.
        self.keep_groups = (spec.get("annotations") or {}).get("run.oci.keep_original_groups") in ("1", "true")


def main(setup: Setup, channel: Channel) -> None:
    """Become the container's first process.  Does not return."""
    try:
        seal_imports()
        reset_signals(ENDING)
        close_others(setup.preserve, channel, [
            *setup.trees.values(), *setup.namespaces.join.values(),
            *(fd for fd in (setup.tree, setup.nodes) if fd >= 0), *(setup.waiting.fds if setup.waiting else []),
        ])  # fmt: skip
        if "user" in setup.namespaces.join:
            _join_user_first(setup, channel)
        _set_up(setup, channel)
    except BaseException as error:
        report(channel, error)


def move(flags: int, channel: Channel) -> None:
    """Go on as a new process beside this one, whose pidfd the runtime is sent; this one ends."""
    pid, pidfd = process.clone3(flags | process.CLONE_PARENT)
    if pid:
        channel.send("moved", [pidfd])
        os._exit(0)


def report(channel: Channel | Waiting, error: BaseException) -> None:
    try:
        channel.send("error", **told(error))
    except BaseException:
        pass  # the runtime has gone: nobody to tell
    os._exit(1)


def seal_imports() -> None:
    """From here on an import finds nothing, whatever the image holds.

    The lists are replaced and not cleared: freeing what they hold takes half a millisecond.
    """
    _BEFORE.extend((sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache))
    sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache = [], [], [], {}


def close_others(preserve: int, channel: Channel, fds: list[int]) -> None:
    """Let go of what we share with the runtime and need not: its locks, what its caller leaked."""
    at = 3 + preserve
    for fd in sorted([*fds, channel.fileno()]):
        if fd > at:
            process.close_range(at, fd - 1)
        at = max(at, fd + 1)
    process.close_range(at)


def _join_user_first(setup: Setup, channel: Channel) -> None:
    """A user namespace given by path owns the new ones only if it is entered before they are made.

    So this process enters it and makes the real one beside itself (CLONE_PARENT), whose pid
    the runtime learns from the first message.
    """
    spaces = setup.namespaces
    channel.expect("go", "cannot set up the container")
    spaces.enter_user()
    move(spaces.early, channel)


def _set_up(setup: Setup, channel: Channel) -> None:
    spec, spaces = setup.spec, setup.namespaces
    if spaces.has("user"):  # else it is `_make_tree` that waits, as late as can be
        _join(setup, channel)
    elif setup.is_joined:  # a plain user's could not, once nobody may look at us
        _join_late(setup, channel)
    spaces.make_time()  # now, while what is in /proc/self belongs to this user
    process.prctl(process.PR_SET_DUMPABLE, 0)  # nobody inside may look at us (CVE-2016-9962)
    process.prctl(process.PR_SET_PDEATHSIG, 9)  # a runtime that dies now leaves nothing behind
    spaces.enter()
    os.setsid()
    below = -1
    if spaces.has("user"):
        below = mounts.reach(setup.rootfs)
        become_root(setup.keep_groups)
        process.prctl(process.PR_SET_PDEATHSIG, 9)  # setuid(2) has cleared it
        spaces.make_cgroup()
    _join_keyring(setup)
    if spaces.new & process.CLONE_NEWNET:
        loopback_up()
    os.umask(0)
    tree = _make_tree(setup, below, channel)
    if hooks.listed(spec, "prestart") or hooks.listed(spec, "createRuntime"):
        channel.send("created")
        channel.expect("go", "cannot set up the container")
    state = {**setup.state, "pid": os.getpid(), "status": "creating"}
    os.fchdir(tree.fd)  # where createContainer hooks of others' making expect to be
    hooks.run(hooks.listed(spec, "createContainer"), "createContainer", state, dict(os.environ))
    peer = -1
    if setup.process.get("terminal"):
        peer = terminal.make(tree.fd, setup.process, channel)
        devices.bind_console(tree.fd, peer)
    home = home_of(setup.process, tree.fd)
    sysctl.apply(spec, spaces)
    label = labels.Label(setup.process)
    linux = spec.get("linux") or {}
    for path in linux.get("readonlyPaths") or ():
        tree.read_only(path)
    tree.mask(linux.get("maskedPaths") or [])
    _make_directory(tree, setup.process["cwd"])
    tree.finish(bool((spec.get("root") or {}).get("readonly")))
    tree.pivot(setup.no_pivot)
    if peer >= 0:
        terminal.adopt(peer)
    scheduling.apply(setup.process, linux)
    payload(setup, channel, state, home, label)


def payload(
    setup: Setup | Entry, channel: Channel, state: dict[str, Any], home: str, label: labels.Label
) -> None:
    """Inside: from root's credentials to the payload's, then wait for the start, then become it."""
    wanted = setup.process
    environ = _environment(wanted, home)
    if "LISTEN_FDS" in environ:
        environ["LISTEN_PID"] = str(os.getpid())  # who listens, as the payload sees itself
    scheduling.set_rlimits(wanted.get("rlimits") or [])
    entered = _change_directory(wanted["cwd"], first=True)
    if entered:
        _check_directory(wanted["cwd"])  # now, while no filter denies getcwd(2); nobody can move us
    descriptors.own_streams(wanted["user"]["uid"])
    reset_signals()
    # Close-on-exec and not a close: the channel's end of file is how the exec is known.
    process.close_range(3 + setup.preserve, flags=process.CLOSE_RANGE_CLOEXEC)
    no_new_privs = bool(wanted.get("noNewPrivileges"))
    if no_new_privs:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    elif setup.seccomp:
        _filter(setup, channel)  # wants the privileges that are dropped next; what follows must be allowed
    setup.caps.drop_bounding()
    caps.become(wanted["user"], setup.keep_groups)
    setup.caps.take()
    process.prctl(process.PR_SET_DUMPABLE, 0)  # setuid(2) may have raised it
    if not entered:
        _change_directory(wanted["cwd"], first=False)
        _check_directory(wanted["cwd"])
    program = executable.find(wanted["args"][0], environ)
    last = setup.seccomp if no_new_privs else None
    if last and last.notify:
        _filter(setup, channel)  # now, while the runtime listens for the descriptor
        last = None
    process.prctl(process.PR_SET_PDEATHSIG, 0)  # `create` ends as soon as it hears
    channel.send("ready")
    caller = _wait_for_start(setup, channel)
    try:
        if last and setup.hooks:
            last.install()  # programs of the container, so under its filter like all others
            last = None
        hooks.run(setup.hooks, "startContainer", {**state, "status": "created"}, environ)
        label.take()
        if last:
            last.install()  # as late as can be: a profile need allow nothing of ours but execve
        os.execve(program, wanted["args"], environ)
    except OSError as error:
        report(caller, executable.refused(program, error, tried=True))
    except BaseException as error:
        report(caller, error)


# -- steps, in order -----------------------------------------------------------------------


def _join(setup: Setup, channel: Channel) -> None:
    """Into the container's groups, which the runtime makes meanwhile: it says when, or that there are none."""
    said = channel.expect("go", "cannot set up the container", setup.cgroup_files)
    if not said["groups"]:
        setup.cgroup_layout = None
    join_cgroups(setup.cgroup_files)
    setup.inside = True


def join_cgroups(files: list[int]) -> None:
    for fd in files:
        try:
            os.write(fd, b"0")
        except OSError as error:
            raise Error(*directories.not_joined(os.readlink(f"/proc/self/fd/{fd}")), error) from None
        os.close(fd)


def _join_keyring(setup: Setup) -> None:
    if setup.keyring:
        try:
            libc.call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, b"_ses." + setup.state["id"].encode())
        except OSError:
            pass  # a kernel without keys, or one that denies them: there is nothing to leak then


def _make_tree(setup: Setup, below: int, channel: Channel) -> mounts.Tree:
    """The container's files.  What takes memory, or shows the groups, is made when this process is in them."""
    top = setup.make_tree() if setup.make_tree else setup.tree
    tree = mounts.Tree(setup.rootfs, setup.spec, top, below, setup.namespaces.isolates("mount"))
    for number, step in enumerate(setup.mounts):
        groups = step.type in ("cgroup", "cgroup2") and not step.bind
        if not setup.inside and (groups or step.copy_up):
            _join_late(setup, channel)
        if groups:
            cgroup_mounts.make(tree, step, setup.cgroup_layout, setup.namespaces.has("cgroup"))
        elif number in setup.trees:
            tree.place_bind(step, setup.trees.pop(number))
        else:
            tree.make(step)
    if not setup.inside:
        _join_late(setup, channel)
    bind = not process.in_host_user_namespace()  # there mknod is refused
    devices.make(tree, setup.spec, bind, setup.nodes)
    return tree


def _join_late(setup: Setup, channel: Channel) -> None:
    _join(setup, channel)
    setup.namespaces.make_cgroup()


def home_of(wanted: dict[str, Any], root: int) -> str:
    """HOME as the image's passwd says, unless the configuration does."""
    said = [word for word in wanted.get("env") or () if word.startswith("HOME=")]
    if said and said[-1] != "HOME=":  # the last of a name is what counts
        return ""
    return user.home(wanted["user"]["uid"], root)


def _environment(wanted: dict[str, Any], home: str) -> dict[str, str]:
    environ = dict(word.partition("=")[::2] for word in wanted.get("env") or ())
    if home:
        environ["HOME"] = home
    return environ


def _make_directory(tree: mounts.Tree, path: str) -> None:
    """The working directory, where the image lacks it: beneath its root, through no magic link (CVE-2024-21626)."""
    try:
        os.close(tree.target(path))
    except (OSError, Error):
        pass  # what is wrong shows by entering it


def _change_directory(path: str, first: bool) -> bool:
    """Enter the working directory: tried as root first, then as the user."""
    try:
        os.chdir(path)
        return True
    except OSError as error:
        if first and error.errno == 13:
            return False
        raise Error("cannot change to directory", path, error) from None


def _check_directory(path: str) -> None:
    """A working directory outside the root (by a leaked descriptor) has no path (CVE-2024-21626)."""
    try:
        here = os.getcwd()
    except OSError as error:
        raise Error("cannot use working directory", path, error) from None
    if not here.startswith("/"):
        raise Error("cannot use working directory", path, "it is outside of the container")


def _filter(setup: Setup | Entry, channel: Channel) -> None:
    """Install the seccomp filter; the runtime passes a notify descriptor on."""
    listener = setup.seccomp.install()
    if listener >= 0:
        channel.send("seccomp", [listener])
        os.close(listener)


def _wait_for_start(setup: Setup | Entry, channel: Channel) -> Channel | Waiting:
    """Where `start` has asked, and hears of a failure."""
    if setup.waiting is None:
        channel.expect("start", "cannot start the container")
        return channel
    channel.close()
    setup.waiting.wait()
    waiting: Waiting = setup.waiting
    return waiting


def reset_signals(numbers: Iterable[int] = range(1, 65)) -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and an ignored signal stays so over an exec."""
    for number in numbers:
        if _signal.getsignal(number) not in (_signal.SIG_DFL, None) and number not in (9, 19, 32, 33):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])

