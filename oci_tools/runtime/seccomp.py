"""Filters on system calls: config.json's `linux.seccomp`, ready to be installed by the container side.

    prepare(spec)       on the host side, before there is a container: compiles, or finds compiled
    filter.install()    on the container side, as the last thing before it executes the payload

Compiling a profile of Docker's size takes 10 ms, so programs are kept under
`cache/seccomp/` of the store, named by all that they depend on: the profile, the machine,
and this code.  A file there is trusted only if it is ours and whole.  What a profile means
is seccomp_rules.py, and instructions are seccomp_program.py; a start loads neither.
"""

from __future__ import annotations

import os
import stat
import sys

from oci_tools import __version__, document, fs
from oci_tools.errors import Error
from oci_tools.linux import seccomp as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # the container side is one thread
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
RAW = "run.oci.seccomp_bpf_data"  # crun's annotation: a program in base64 instead of a profile
_LONGEST = 4096  # BPF_MAXINSNS
_KEPT = 64  # programs in the cache; the oldest go first


class Filter:
    """A compiled profile.

    program            struct sock_filter[], 8 bytes an instruction
    flags              SECCOMP_FILTER_FLAG_* for seccomp(2)
    notify             whether some calls are decided by an agent; then `install` gives its descriptor
    listener_path      the agent's socket, "" without `notify`
    listener_metadata  what it is told with the descriptor
    """

    __slots__ = ("_fprog", "flags", "listener_metadata", "listener_path", "notify", "program")

    def __init__(self, profile: dict[str, Any], program: bytes) -> None:
        self.program = program
        self.notify = any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or ())
        self.listener_path: str = profile.get("listenerPath", "") if self.notify else ""
        self.listener_metadata: str = profile.get("listenerMetadata", "") if self.notify else ""
        self.flags = flags_of(profile, self.notify)
        self._fprog = kernel.sock_fprog(program)

    def install(self) -> int:
        """Filter this process from here on; the agent's descriptor, or -1.

        The process needs no_new_privs or CAP_SYS_ADMIN in its user namespace.  Loads nothing.
        """
        fd = kernel.set_mode_filter(self._fprog, self.flags)
        return fd if self.notify else -1


def prepare(spec: dict[str, Any]) -> Filter | None:
    """The filter that a checked specification asks for, None for none."""
    raw = (spec.get("annotations") or {}).get(RAW)
    if raw is not None:
        return Filter({}, _raw(raw))
    profile = (spec.get("linux") or {}).get("seccomp")
    if profile is None:
        return None
    machine = os.uname().machine
    key = _key(profile, machine)
    program = _cached(key)
    if program is None:
        program = compile_program(profile, machine)
        _keep(key, program)
    return Filter(profile, program)


def _raw(text: str) -> bytes:
    """The program that the annotation gives."""
    from binascii import a2b_base64

    try:
        program = a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Error(f"config.json: annotations['{RAW}']", None, str(error).lower()) from None
    if not program or len(program) % 8 or len(program) // 8 > _LONGEST:
        raise Error(f"config.json: annotations['{RAW}']: expected 1 to {_LONGEST} instructions of 8 bytes")
    return program


def compile_program(profile: dict[str, Any], machine: str) -> bytes:
    """The program for a profile, which is checked first: an Error names the JSON path of what is wrong."""
    from oci_tools.runtime import check, rules, seccomp_program, seccomp_rules
    from oci_tools.runtime.fields import SECCOMP

    spec = {"linux": {"seccomp": profile}}
    check.fields(spec, {"linux": {"seccomp": SECCOMP}}, "config.json")
    for path, what in rules.seccomp(spec):
        raise document.wrong("config.json", path, what)
    return seccomp_program.assemble(seccomp_rules.sections(profile, machine))


def flags_of(profile: dict[str, Any], notify: bool) -> int:
    """Flags for seccomp(2).

    Without any, as in runc and crun, the filtered process does not pay for the mitigation of
    Speculative Store Bypass, which no kernel since 5.16 turns on for a filter any more.
    """
    names = profile.get("flags")
    if names is None:
        names = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
    flags = 0
    for name in names:
        flags |= FLAGS[name]
    if notify:
        return flags | kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return flags & ~kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV  # EINVAL without a listener


def hand_over(
    spec: dict[str, Any], fd: int, state: dict[str, Any], pid: int = 0, status: str = "creating"
) -> None:
    """Send the descriptor that `install` gave to the agent that listens on listenerPath.

    One container process state a connection, the descriptor with its first byte
    (config-linux.md, "The Container Process State").  `state` is the container's own record;
    `pid` the filtered process, if it is not the container's first.
    """
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
    from struct import pack

    from oci_tools.runtime import state as states

    profile = spec["linux"]["seccomp"]
    message = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid or state["pid"],
        "metadata": profile.get("listenerMetadata", ""),
        "state": states.public("", state, status),
    }
    data = document.dumps(message)
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        sock.connect(profile["listenerPath"])
        sent = sock.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
        if sent < len(data):  # an agent that has all may have closed it: even a send of nothing would hear of that
            sock.sendall(data[sent:])
    except OSError as error:
        raise Error("failed to connect with seccomp agent", profile["listenerPath"], error) from None
    finally:
        sock.close()


# -- compiled programs, kept -----------------------------------------------------------------


def _key(profile: dict[str, Any], machine: str) -> str:
    """A name for all that a program depends on."""
    made_by = [__version__]
    for name in ("seccomp_rules.py", "seccomp_program.py", "syscalls.json"):
        try:
            seen = os.stat(os.path.join(os.path.dirname(__file__), name))
            made_by.append(f"{seen.st_mtime_ns}-{seen.st_size}")
        except OSError:
            made_by.append("")
    members = ("defaultAction", "defaultErrnoRet", "architectures", "syscalls")
    said = document.dumps([profile.get(name) for name in members], sort=True)
    return _digest(" ".join((machine, *made_by)).encode(), said).hex()


def _digest(*parts: bytes) -> bytes:
    # `import hashlib` takes 5 ms; the interpreter's own module was called differently before 3.12
    module: Any = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    digest: bytes = module.sha256(b"\0".join(parts)).digest()
    return digest


def _cached(key: str) -> bytes | None:
    """The program kept under this name, if the file is ours and whole."""
    try:
        directory = _open_directory()
        try:
            fd = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            seen = os.fstat(fd)
            data = os.read(fd, seen.st_size + 1) if stat.S_ISREG(seen.st_mode) and _ours(seen) else b""
        finally:
            os.close(fd)
    except OSError:
        return None
    program = data[32:]
    return program if program and data[:32] == _digest(key.encode(), program) else None


def _keep(key: str, program: bytes) -> None:
    """Keep a program; a cache that cannot be written is no error."""
    place = _place()
    try:
        fs.make_private(place)
        os.close(_open_directory())
        fs.write(os.path.join(place, key), _digest(key.encode(), program) + program, mode=0o600, sync=False)
        names = os.listdir(place)  # with what a killed writer left beside
        if len(names) > _KEPT:
            ages = sorted((os.lstat(os.path.join(place, name)).st_mtime_ns, name) for name in names)
            for _, name in ages[:-_KEPT]:
                os.unlink(os.path.join(place, name))
    except (Error, OSError):
        pass


def _place() -> str:
    return os.path.join(fs.root(), "cache", "seccomp")


def _open_directory() -> int:
    """The cache; OSError unless it is ours alone."""
    fd = os.open(_place(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not _ours(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(1, os.strerror(1))
    return fd


def _ours(seen: os.stat_result) -> bool:
    return seen.st_uid in (os.geteuid(), 0) and not seen.st_mode & 0o022
