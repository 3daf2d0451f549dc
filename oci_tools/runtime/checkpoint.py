"""`checkpoint` and `restore`: a container's processes saved to files and brought to life again, by criu(8).

Cgroups, config.json and state are ours, before and after; criu is told to leave groups alone and
starts from inside them.  What is mounted from outside has a name in the images: its destination;
beside them lies `oci.json`:

    {"version": 1, "mounts": {"/proc/keys": "/dev/null"}, "streams": ["pipe:[123]", "", ""]}

Not here: terminals, whose masters criu hands over only to programs of its own protocol.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import descriptors, enter, foreground, groups, hooks, launch, lifecycle, mounts, state, targets
from oci_tools.runtime import spec as specs
from oci_tools.runtime.launch import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RECORD = "oci.json"
_NETWORK = "extRootNetNS"
_STREAMS = 10  # the first of the descriptors by which criu is given our streams
_FLAGS = ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup")


def save(args: Any, root: str) -> None:
    """The verb `checkpoint`."""
    criu = _criu()
    known = state.load(root, args.id)
    current = lifecycle.status(root, known)
    if current not in ("running", "paused"):
        raise Error("cannot checkpoint container", args.id, f"it is {current}")
    spec = enter.configuration(root, args.id)
    if spec["process"].get("terminal"):
        raise Error("cannot checkpoint container", args.id, "it has a terminal")
    images = _directory(args.image_path)
    outside = _outside(known, spec)
    record = {"version": 1, "mounts": outside, "streams": _streams(known["pid"])}
    words = [criu, "pre-dump" if args.pre_dump else "dump", "-t", str(known["pid"]), *_common(args, images)]
    words += [word for place in outside for word in ("--external", f"mnt[{place}]:{place}")]
    if _joined_network(spec):
        words += ["--external", f"net[{os.stat(_joined_network(spec)).st_ino}]:{_NETWORK}"]
    if args.leave_running:
        words.append("--leave-running")
    if args.parent_path:
        words += ["--prev-images-dir", args.parent_path]
    if args.pre_dump or args.parent_path:
        words.append("--track-mem")
    held = groups.of(known)
    freezer = held.path("freezer") if held else None
    if freezer:
        words += ["--freeze-cgroup", freezer]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]  # it has its log
    pid = os.posix_spawn(criu, words, _environment(), file_actions=quiet)
    if os.waitpid(pid, 0)[1]:
        raise _failure("cannot checkpoint container", args)
    fs.write(f"{images}/{_RECORD}", document.dumps(record), 0o600, sync=False)
    if not (args.leave_running or args.pre_dump):
        lifecycle.delete(root, args.id, force=True)


def restore(args: Any, root: str) -> int:
    """The verb `restore`: the exit code of the payload, 0 if it is left alone."""
    criu = _criu()
    spec = specs.load(args.bundle)
    if args.console_socket or spec["process"].get("terminal"):
        raise Error("cannot restore container", args.id, "it has a terminal")
    record = document.load(os.path.join(args.image_path, _RECORD))
    descriptors.settle()
    directory = state.make(root, args.id)
    with state.Lock(root, args.id):
        made = Container(root, args.id, launch.new_state(args.id, args.bundle, spec))
        try:
            fs.write(f"{directory}/config.json", document.dumps(spec), 0o600, sync=False)
            groups.make(made, spec, args.cgroup_manager or ("systemd" if args.systemd_cgroup else "cgroupfs"))
            _bring_back(made, spec, args, criu, record)
            if args.pid_file:
                fs.write_to(args.pid_file, str(made.state["pid"]).encode())
        except BaseException:
            launch.end(made)
            raise
    if args.detach:
        return 0
    with foreground.Signals() as signals:
        code = foreground.wait(made.pidfd, made.state["pid"], -1, signals)
    lifecycle.delete(root, args.id, force=True)
    return code


# -- saving ----------------------------------------------------------------------------------


def _outside(known: dict[str, Any], spec: dict[str, Any]) -> dict[str, str]:
    """Mounts of which only a part is in the container, by destination, and what they show of the host."""
    with open(f"/proc/{known['pid']}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(" ") for line in file]
    whole = {row[2] for row in rows if row[3] == "/"}
    kinds = {row[4]: row[row.index("-") + 1] for row in rows}
    sources = _sources(known, spec)
    own = _own_cgroups(spec)  # else they are binds of the container's group
    found = {}
    for row in rows:
        place = row[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        bound = next((step.bind for step in mounts.plan(spec, known["bundle"]) if step.destination == place), False)
        group = kinds[row[4]] in ("cgroup", "cgroup2")
        if place == "/" or (group and own) or (row[2] in whole and not bound and not group):
            continue
        source = _group(known, place) if group else None
        source = source or sources.get(place) or _same(known["pid"], place, sources)
        if source is None:
            cause = f"what is mounted on '{place}' is not in config.json"
            raise Error("cannot checkpoint container", known["id"], cause)
        found[place] = source
    return found


def _group(known: dict[str, Any], place: str) -> str | None:
    """The group that is bound there: of its hierarchy, or the only one."""
    name = place.rpartition("/")[2]
    paths = known.get("cgroups") or {}
    return next((path for names, path in paths.items() if names.removeprefix("name=") == name), paths.get(""))


def _sources(known: dict[str, Any], spec: dict[str, Any]) -> dict[str, str]:
    """By destination, what config.json has the runtime bind."""
    linux = spec.get("linux") or {}
    found = dict.fromkeys(linux.get("maskedPaths") or (), "/dev/null")
    found |= {f"/dev/{name}": f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    found |= {device["path"]: device["path"] for device in linux.get("devices") or ()}
    return found | {step.destination: step.source for step in mounts.plan(spec, known["bundle"]) if step.bind}


def _same(pid: int, place: str, sources: dict[str, str]) -> str | None:
    """The source that is this very file: a destination may lead through links of the image."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen = fs.open_beneath(root, place, os.O_PATH)
        found = os.fstat(seen)
        os.close(seen)
    finally:
        os.close(root)
    for source in sources.values():
        if os.path.exists(source) and os.path.samestat(os.stat(source), found):
            return source
    return None


def _streams(pid: int) -> list[str]:
    """The pipes and sockets that are the first process's standard streams: the other ends are outside."""
    found = []
    for fd in range(3):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            name = ""
        found.append(name if name.startswith(("pipe:", "socket:")) else "")
    return found


# -- restoring -------------------------------------------------------------------------------


def _bring_back(made: Container, spec: dict[str, Any], args: Any, criu: str, record: dict[str, Any]) -> None:
    directory = state.directory(made.root, made.name)
    top = f"{directory}/criu-root"
    os.mkdir(top, 0o700)
    words = [criu, "restore", *_common(args, args.image_path), "--root", top]
    words += ["--restore-detached", "--restore-sibling", "--pidfile", f"{directory}/criu.pid"]
    for place, source in record["mounts"].items():
        words += ["--external", f"mnt[{place}]:{_source(spec, made, place, source)}"]
    for fd, name in enumerate(record["streams"]):
        if name:
            words += ["--inherit-fd", f"fd[{_STREAMS + fd}]:{name}"]
    network = -1
    if _joined_network(spec):
        network = os.open(_joined_network(spec), os.O_RDONLY | os.O_CLOEXEC)
        words += ["--inherit-fd", f"fd[{_STREAMS + 3}]:{_NETWORK}"]
    runtime_hooks = [*hooks.listed(spec, "prestart"), *hooks.listed(spec, "createRuntime")]
    if runtime_hooks:
        words.append("--leave-stopped")  # until they have run
    _run(made, spec, words, network)
    made.state["pid"] = _pid(f"{directory}/criu.pid", args)
    made.pidfd = os.pidfd_open(made.state["pid"])
    made.state["startTime"] = process.start_time(made.state["pid"])
    state.save(made.root, made.name, made.state)
    if runtime_hooks:
        shown = {**state.public(made.root, made.state, "creating"), "pid": made.state["pid"]}
        hooks.run(runtime_hooks, "createRuntime", shown, dict(os.environ))
        for pid in made.groups.processes() if made.groups else [made.state["pid"]]:
            os.kill(pid, 18)  # CONT


def _source(spec: dict[str, Any], made: Container, place: str, recorded: str) -> str:
    """What the bundle now has there; else what there was."""
    if recorded.startswith("/sys/fs/cgroup/"):
        return _group(made.state, place) or recorded
    return _sources(made.state, spec).get(place, recorded)


def _run(made: Container, spec: dict[str, Any], words: list[str], network: int) -> None:
    """criu, in the container's cgroups and in a mount namespace in which the root file system is a mount."""
    tree = -1
    if "io.oci-tools.overlay" in (spec.get("annotations") or {}) and not os.path.ismount(made.state["rootfs"]):
        from oci_tools.runtime import overlay

        tree = overlay.make(spec, made.state["bundle"])
    systemd = made.state.get("systemd")
    files = made.groups.join_files() if made.groups and not systemd else []
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)  # until it is in the unit
            _become(made, spec, words, files, tree, network)
        except BaseException as error:
            os.write(2, f"oci-run: cannot restore: {error}\n".encode())
            os._exit(1)
    try:
        groups.enter(made, spec, pid)
    finally:
        for fd in [*files, reader, writer, *[fd for fd in (tree, network) if fd >= 0]]:
            os.close(fd)
        os.waitpid(pid, 0)


def _become(
    made: Container, spec: dict[str, Any], words: list[str], files: list[int], tree: int, network: int
) -> None:
    """Become criu."""
    for fd in files:
        os.write(fd, b"0")
    process.unshare(process.CLONE_NEWNS | (process.CLONE_NEWCGROUP if _own_cgroups(spec) else 0))
    mount.mount(None, "/", None, mount.MS_PRIVATE | mount.MS_REC)
    top = words[words.index("--root") + 1]
    if tree < 0:
        tree = mount.open_tree(mount.AT_FDCWD, made.state["rootfs"], mount.OPEN_TREE_CLONE)
    mount.move_mount(tree, "", mount.AT_FDCWD, top, mount.MOVE_MOUNT_F_EMPTY_PATH)
    root = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in mounts.plan(spec, made.state["bundle"]):
        directory = not step.bind or os.path.isdir(step.source)
        targets.create(root, step.destination, directory)
    for fd in range(3):
        os.dup2(fd, _STREAMS + fd, inheritable=True)
    if network >= 0:
        os.dup2(network, _STREAMS + 3, inheritable=True)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.execve(words[0], words, _environment())


def _pid(path: str, args: Any) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        raise _failure("cannot restore container", args) from None


# -- both ------------------------------------------------------------------------------------


def _criu() -> str:
    for directory in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        if os.access(f"{directory}/criu", os.X_OK):
            return f"{directory}/criu"
    raise Error('exec: "criu": executable file not found in $PATH', hint="Debian has it in the package criu")


def _environment() -> dict[str, str]:
    return {"HOME": "/nonexistent", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def _common(args: Any, images: str) -> list[str]:
    work = _directory(args.work_path) if args.work_path else images
    words = ["-D", images, "-W", work, "-o", _log(args), "-v4", "--manage-cgroups=ignore"]
    words += [f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(args, name)]
    for kind in args.empty_ns:
        if kind != "network":
            raise Error("cannot leave a namespace empty", kind, "only that of the network can be")
        words += ["--empty-ns", "net"]
    return words


def _log(args: Any) -> str:
    return "restore.log" if hasattr(args, "bundle") else "dump.log"


def _failure(what: str, args: Any) -> Error:
    """What criu's log says first: the rest follows from it."""
    path = os.path.abspath(os.path.join(args.work_path or args.image_path, _log(args)))
    first = "it has left no word"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if "Error" in line and "rlimit" not in line:
                    first = line.partition("): ")[2].strip() or first
                    break
    except OSError:
        pass
    return Error(what, args.id, f"criu failed: {first}", f"see {path}")


def _directory(path: str) -> str:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise Error("cannot make directory", path, error) from None
    return os.path.abspath(path)


def _own_cgroups(spec: dict[str, Any]) -> bool:
    """Whether the container has a new cgroup namespace."""
    listed = (spec.get("linux") or {}).get("namespaces") or ()
    return any(each["type"] == "cgroup" and not each.get("path") for each in listed)


def _joined_network(spec: dict[str, Any]) -> str:
    """The path of the network namespace that the container joins, if it does."""
    listed = (spec.get("linux") or {}).get("namespaces") or ()
    return next((each["path"] for each in listed if each["type"] == "network" and each.get("path")), "")
