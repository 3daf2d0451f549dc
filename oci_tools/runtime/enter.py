"""Another process in a container that runs: `exec`, on the host's side.

The new process joins the cgroups and, by the pidfd of the container's first process, all of
its namespaces at once; then it becomes the payload by the same steps as that one (`child.py`).
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error, Usage
from oci_tools.linux import caps, process
from oci_tools.runtime import check as checking
from oci_tools.runtime import descriptors, entering, exec_group, groups, launch, lifecycle, scheduling, state, sync
from oci_tools.runtime import terminal, user
from oci_tools.runtime.launch import Container, Options
from oci_tools.runtime.namespaces import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILES = {"user": "user", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt",
          "cgroup": "cgroup", "time": "time"}  # fmt: skip


def configuration(root: str, name: str) -> dict[str, Any]:
    """The config.json that a container was created with."""
    spec: dict[str, Any] = document.load(f"{state.directory(root, name)}/config.json")
    return spec


def execute(root: str, name: str, wanted: dict[str, Any], options: Options, paused: bool = False) -> int:
    """Run the process `wanted` (as `process` of config.json) inside; its exit code, 0 if detached.

    paused  allow it in a paused container, in which it will wait
    """
    known = state.load(root, name)
    current = lifecycle.status(root, known)
    if current == "paused" and not paused:
        raise Error("cannot exec in a paused container", name, hint="see --ignore-paused")
    if current not in ("running", "created", "paused"):
        raise Error("cannot exec in a stopped container", name)
    if options.detach and wanted.get("terminal") and not options.console_socket:
        raise Error("cannot allocate a terminal", None, "--console-socket is needed with --detach and a terminal")
    descriptors.settle(options.preserve_fds)
    if options.any_cpu:
        scheduling.run_anywhere()
    spec = configuration(root, name)
    from oci_tools.runtime import foreground

    made = Container(root, name, {**known, "pid": 0, "startTime": 0})
    made.entered = known
    directory = state.directory(root, name)
    entry = _prepare(root, known, wanted, spec, options)
    left = options.detach  # to live in its group when we have gone
    if cpus := (wanted.get("execCPUAffinity") or {}).get("initial"):
        options.debug(f"nsexec: affinity: {sum(1 << cpu for cpu in scheduling.numbers(cpus)):#x}")
    options.debug(f"nsexec container setup: enters container '{name}', whose pid is {known['pid']}")
    try:
        launch.warn_of(entry.caps.unknown, options)
        _clone(made, entry)
        if entry.group:
            exec_group.record(directory, made.state["pid"], entry.group)
        options.debug(f"child process in init(): pid {made.state['pid']}")
        launch.shake_hands(made, spec, options)
        options.debug(f"setns_init: about to exec {wanted['args']}")
        launch.tell(made, options, b"setns")
        if options.detach:
            sync.start(made.channel)
            return 0
        with foreground.Signals() as signals:
            sync.start(made.channel)
            return foreground.wait(made.pidfd, made.state["pid"], made.master, signals)
    except BaseException:
        launch.kill(made)
        left = False
        raise
    finally:
        if entry.group and not left:
            exec_group.end(directory, made.state["pid"], entry.group)


def _join_groups(entry: entering.Entry, directory: str, known: dict[str, Any], options: Options) -> None:
    """Into a group of its own where there is cgroup2, else to the container's first process."""
    held = groups.of(known)
    if held is None:
        return
    own = None if options.cgroup else exec_group.make(directory, held)
    if own is not None:
        entry.group = own
    if (known.get("systemd") or {}).get("user"):
        return  # by its manager, once there is a process: `_clone`
    entry.group_fd = held.birthplace() if own is None else exec_group.opened(own)
    if own is None or not held.unified:
        entry.cgroup_files = held.join_files(known["pid"], options.cgroup)


def _prepare(
    root: str, known: dict[str, Any], wanted: dict[str, Any], spec: dict[str, Any], options: Options
) -> entering.Entry:
    pid = known["pid"]
    try:
        target = os.pidfd_open(pid)
        top = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if "mount" in known else -1
        if process.start_time(pid) != known["startTime"]:
            raise ProcessLookupError(3, os.strerror(3))
        flags = _foreign(pid)
    except OSError as error:
        raise Error("cannot exec in container", known["id"], error) from None
    entry = entering.Entry(wanted, state.public("", known, "running"), target, flags)
    entry.root, entry.linux = top, spec.get("linux") or {}
    _join_groups(entry, state.directory(root, known["id"]), known, options)
    if entry.linux.get("seccomp") or "run.oci.seccomp_bpf_data" in (spec.get("annotations") or {}):
        from oci_tools.runtime import seccomp

        entry.seccomp = seccomp.prepare(spec)
    entry.preserve = options.preserve_fds
    return entry


def _foreign(pid: int) -> int:
    """The flags of the namespaces in which a process is and we are not."""
    flags = 0
    for kind, file in _FILES.items():
        try:
            ours, theirs = os.stat(f"/proc/self/ns/{file}"), os.stat(f"/proc/{pid}/ns/{file}")
        except FileNotFoundError:
            continue  # a kernel without this kind
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            flags |= FLAGS[kind]
    return flags


def _clone(made: Container, entry: entering.Entry) -> None:
    made.channel, theirs = sync.pair()
    process.prctl(process.PR_SET_DUMPABLE, 0)  # the child is seen from inside as soon as it joins
    pid, made.pidfd = process.clone3(0, entry.group_fd)
    if pid == 0:
        made.channel.close()
        entering.enter(entry, theirs)
    theirs.close()
    for fd in (*entry.cgroup_files, entry.target, *(fd for fd in (entry.group_fd, entry.root) if fd >= 0)):
        os.close(fd)
    made.state["pid"] = pid
    groups.follow(made, pid, entry.group)
    made.channel.go()
    launch.moved(made)
    scheduling.set_oom_score(made.state["pid"], entry.process)
    if made.entered and made.entered.get("resctrl"):
        from oci_tools.runtime import resctrl

        resctrl.follow(made.entered["resctrl"]["tasks"], made.state["pid"])
    made.channel.go()


def wanted(spec: dict[str, Any], args: Any, files: str | None = None) -> dict[str, Any]:
    """The process that the words of `exec` ask for: a document, or the container's own, changed.

    files  the root in which users are looked up; None: only numbers can be said
    """
    if args.process:
        found: dict[str, Any] = document.load(args.process)
        checking.check({**spec, "process": found}, "process")
        return {**found, "user": {"uid": 0, "gid": 0, **found.get("user", {})}}
    if not args.cmd:
        raise Usage("missing command", hint="or --process FILE")
    made = {**spec["process"], "args": args.cmd, "terminal": args.tty}
    if args.console_size:
        made["consoleSize"] = terminal.size(args.console_size)
    made["env"] = [*(made.get("env") or ()), *args.env]
    if args.cwd:
        made["cwd"] = args.cwd
    if args.no_new_privs:
        made["noNewPrivileges"] = True
    if args.user is not None:
        made["user"] = {**user.resolve(args.user, files), "umask": made["user"].get("umask")}
    if args.additional_gids:
        gids = [user.group(text, files) for text in args.additional_gids]
        made["user"] = {**made["user"], "additionalGids": [*(made["user"].get("additionalGids") or ()), *gids]}
    cap = [*args.cap, *(caps.NAMES if args.privileged else ())]
    if cap:
        # Not inheritable: a program that others may write could then keep them (CVE-2022-29162).
        sets = made.get("capabilities") or {}
        made["capabilities"] = {
            **sets, **{s: [*(sets.get(s) or ()), *cap] for s in ("bounding", "effective", "permitted")}
        }  # fmt: skip
    return made
