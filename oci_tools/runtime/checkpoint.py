"""`checkpoint`: a container's processes saved to files by criu(8), for `restoring.py` to bring to life again.

Cgroups, config.json and state are ours, before and after; criu is told to leave groups alone.  What is mounted from
outside has a name in the images: its destination; beside them lie

    oci.json           {"version": 1, "mounts": {"/proc/keys": "/dev/null"}, "streams": ["pipe:[123]", "/dev/null", ""]}
    descriptors.json   the first process's streams alone, as other runtimes write and read them

A terminal's other end is outside of what is saved: it is made anew, and comes to us (`criu.py`).
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error, Usage
from oci_tools.runtime import criu, descriptors, enter, groups, lifecycle, mounts, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.protobuf import Message

RECORD, DESCRIPTORS = "oci.json", "descriptors.json"
EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}  # what criu calls those joined by path
_CONFIG = "org.criu.config"  # an annotation: a file of criu's options that come before ours
_CONFIGS = ("/etc/criu/crun.conf", "/etc/criu/runc.conf")  # else
_CLONE_NEWNET = 0x40000000
_FLAGS = {
    "tcp_established": criu.TCP_ESTABLISHED, "ext_unix_sk": criu.EXT_UNIX_SK, "shell_job": criu.SHELL_JOB,
    "file_locks": criu.FILE_LOCKS, "auto_dedup": criu.AUTO_DEDUP, "link_remap": criu.LINK_REMAP,
    "tcp_skip_in_flight": criu.TCP_SKIP_IN_FLIGHT, "lazy_pages": criu.LAZY_PAGES,
}  # fmt: skip


def save(args: Any, root: str) -> None:
    """The verb `checkpoint`."""
    program = criu.program(args.criu)
    status = _status(args)
    known = state.load(root, args.id)
    current = lifecycle.status(root, known)
    if current not in ("running", "paused"):
        raise Error("cannot checkpoint container", args.id, f"it is {current}")
    _check_features(args, program)
    descriptors.settle()
    spec = enter.configuration(root, args.id)
    if not any(each["type"] == "mount" for each in (spec.get("linux") or {}).get("namespaces") or ()):
        raise Error("cannot checkpoint container", args.id, "it has no mount namespace of its own")
    images = directory(args.image_path)
    options = common(args, spec) | {criu.PID: known["pid"], criu.LEAVE_RUNNING: args.leave_running}
    if args.page_server:
        options[criu.PAGE_SERVER] = _server(args.page_server)
    if args.parent_path:
        options |= {criu.PARENT: args.parent_path, criu.TRACK_MEM: True}
    held = groups.of(known)
    freezer = held.path("freezer") if held else None
    if freezer:
        options[criu.FREEZER] = freezer
    if not args.pre_dump:
        outside = _outside(known, spec)
        options[criu.EXTERNAL] = [f"mnt[{place}]:{place}" for place in outside]
        for kind, path in joined(spec).items():
            if kind in EXTERNAL:
                file, key = EXTERNAL[kind]
                options[criu.EXTERNAL].append(f"{file}[{os.stat(path).st_ino}]:{key}")
        record = {"version": 1, "mounts": outside, "streams": _streams(known["pid"])}
        fs.write(f"{images}/{RECORD}", document.dumps(record), 0o600, sync=False)
        fs.write(f"{images}/{DESCRIPTORS}", document.dumps(record["streams"]), 0o600, sync=False)
    _dump(args, options, status, program, state.directory(root, args.id))
    if not (args.leave_running or args.pre_dump):
        lifecycle.delete(root, args.id, force=True)


def _dump(args: Any, options: Message, status: int, program: str, place: str) -> None:
    ours, theirs = criu.pair()
    pid = criu.spawn(theirs, program)

    def notified(step: str, _pid: int, _fds: list[int]) -> None:
        if step == "status-ready" and status >= 0:
            os.write(status, b"\0")  # as runc says that it serves pages
            os.close(status)

    try:
        with criu.Known(place, pid):
            criu.ask(ours, pid, criu.PRE_DUMP if args.pre_dump else criu.DUMP, options, notified)
    except (criu.Failed, OSError) as error:
        raise failure("cannot checkpoint container", args, error) from None
    finally:
        ours.close()
        os.waitpid(pid, 0)  # of a pre-dump it is no success: criu waited for another request


def _check_features(args: Any, program: str) -> None:
    """Whether criu and the kernel can do what is asked for, in our words and before anything is written."""
    if args.parent_path:
        there = os.path.isdir(os.path.normpath(f"{args.image_path}/{args.parent_path}"))
        if args.parent_path.startswith("/") or not there:
            why = "it must be a directory, relative to that of --image-path"
            raise Error("invalid value for --parent-path", args.parent_path, why)
    if (args.pre_dump or args.parent_path) and not criu.can(program, criu.MEMORY_TRACKING):
        raise Error("cannot checkpoint container", args.id, "this kernel does not track what of memory changes")
    if args.lazy_pages and not criu.can(program, criu.LAZY):
        raise Error("cannot checkpoint container", args.id, "this kernel does not serve memory on demand")


def _status(args: Any) -> int:
    """--status-fd, if it can be written to; -1: none."""
    if args.status_fd < 0:
        return -1
    try:
        os.write(args.status_fd, b"")
    except OSError as error:
        raise Usage("invalid --status-fd", str(args.status_fd), (error.strerror or "").lower()) from None
    return int(args.status_fd)


def _server(text: str) -> Message:
    """ADDRESS:PORT of a page server."""
    address, _, port = text.rpartition(":")
    if not address or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise Usage("invalid --page-server", text, hint="ADDRESS:PORT")
    return {1: address.strip("[]"), 2: int(port)}


# -- what is outside ---------------------------------------------------------------------------


def _outside(known: dict[str, Any], spec: dict[str, Any]) -> dict[str, str]:
    """Mounts of which only a part is in the container, by destination, and what they show of the host."""
    with open(f"/proc/{known['pid']}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(" ") for line in file]
    whole = {row[2] for row in rows if row[3] == "/"}
    kinds = {row[4]: row[row.index("-") + 1] for row in rows}
    known_sources = sources(known, spec)
    own = own_cgroups(spec)  # else they are binds of the container's group
    found = {}
    for row in rows:
        place = row[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        bound = next((step.bind for step in mounts.plan(spec, known["bundle"]) if step.destination == place), False)
        group = kinds[row[4]] in ("cgroup", "cgroup2")
        if place == "/" or (group and own) or (row[2] in whole and not bound and not group):
            continue
        source = group_of(known, place) if group else None
        source = source or known_sources.get(place) or _same(known["pid"], place, known_sources)
        if source is None:
            cause = f"what is mounted on '{place}' is not in config.json"
            raise Error("cannot checkpoint container", known["id"], cause)
        found[place] = source
    return found


def group_of(known: dict[str, Any], place: str) -> str | None:
    """The group that is bound there: of its hierarchy, or the only one."""
    name = place.rpartition("/")[2]
    paths = known.get("cgroups") or {}
    return next((path for names, path in paths.items() if names.removeprefix("name=") == name), paths.get(""))


def sources(known: dict[str, Any], spec: dict[str, Any]) -> dict[str, str]:
    """By destination, what config.json has the runtime bind."""
    linux = spec.get("linux") or {}
    found = dict.fromkeys(linux.get("maskedPaths") or (), "/dev/null")
    found |= {f"/dev/{name}": f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    found |= {device["path"]: device["path"] for device in linux.get("devices") or ()}
    return found | {step.destination: step.source for step in mounts.plan(spec, known["bundle"]) if step.bind}


def _same(pid: int, place: str, known_sources: dict[str, str]) -> str | None:
    """The source that is this very file: a destination may lead through links of the image."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen = fs.open_beneath(root, place, os.O_PATH)
        found = os.fstat(seen)
        os.close(seen)
    finally:
        os.close(root)
    for source in known_sources.values():
        if os.path.exists(source) and os.path.samestat(os.stat(source), found):
            return source
    return None


def _streams(pid: int) -> list[str]:
    """What the first process's standard streams are."""
    found = []
    for fd in range(3):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            found.append("")
    return found


# -- both ------------------------------------------------------------------------------------


def common(args: Any, spec: dict[str, Any]) -> Message:
    """The options that saving and restoring share; the descriptors in them live as long as we do."""
    options: Message = {
        criu.IMAGES: _opened(args.image_path), criu.LOG_LEVEL: 4, criu.LOG_FILE: _log(args), criu.NOTIFY_SCRIPTS: True,
        criu.CGROUPS_MODE: 0, criu.ORPHAN_TERMINAL: True,
    }  # fmt: skip
    if args.work_path:
        options[criu.WORK] = _opened(directory(args.work_path))
    options |= {field: True for name, field in _FLAGS.items() if getattr(args, name, False)}
    for kind in args.empty_ns:
        if kind != "network":
            raise Error("cannot leave a namespace empty", kind, "only that of the network can be")
        options[criu.EMPTY_NAMESPACES] = _CLONE_NEWNET
    usual = next((path for path in _CONFIGS if os.path.exists(path)), "")
    config = (spec.get("annotations") or {}).get(_CONFIG, usual)
    if config:
        options[criu.CONFIG] = config  # criu passes over one that is not there
    return options


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot open directory", path, error) from None


def _log(args: Any) -> str:
    return "restore.log" if hasattr(args, "bundle") else "dump.log"


def failure(what: str, args: Any, error: Exception) -> Error:
    """What criu's log says first, since the rest follows from it; or what it has told us."""
    path = os.path.abspath(os.path.join(args.work_path or args.image_path, _log(args)))
    first = str(error)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if "Error" in line and "rlimit" not in line:
                    first = line.partition("): ")[2].strip() or first
                    break
    except OSError:
        pass
    return Error(what, args.id, f"criu failed: {first}", f"see {path}")


def directory(path: str) -> str:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise Error("cannot make directory", path, error) from None
    return os.path.abspath(path)


def own_cgroups(spec: dict[str, Any]) -> bool:
    """Whether the container has a new cgroup namespace."""
    listed = (spec.get("linux") or {}).get("namespaces") or ()
    return any(each["type"] == "cgroup" and not each.get("path") for each in listed)


def joined(spec: dict[str, Any]) -> dict[str, str]:
    """The namespaces that the container joins by path, by kind."""
    listed = (spec.get("linux") or {}).get("namespaces") or ()
    return {each["type"]: each["path"] for each in listed if each.get("path")}
