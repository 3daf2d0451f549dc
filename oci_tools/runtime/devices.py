"""Device nodes of the container, and the rules that say which devices may be used.

runtime-spec, "Devices" and "Allowed Device list".  Nodes are made beneath the root by
descriptor; in a user namespace, where mknod is refused, the host's node is bound instead.
Rules become lines for cgroup v1's devices.allow and devices.deny, or one eBPF program
for cgroup v2, which has no files for them (cgroup-v2, "Device controller").
"""

from __future__ import annotations

import os
import stat
from struct import pack

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import bpf, mount
from oci_tools.runtime import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.mounts import Tree

    Exceptions = dict[tuple[str, int, int], set[str]]  # (type, major, minor), -1 for all -> letters of access

# Supplied whatever config.json says (runtime-spec, "Default Devices").
DEFAULTS: tuple[dict[str, Any], ...] = tuple(
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    )
)  # fmt: skip
LINKS = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
)  # fmt: skip
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# What every container may use: making any node (not opening it), the default devices, terminals, tun.
_ALWAYS: tuple[dict[str, Any], ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": d["major"], "minor": d["minor"], "access": "rwm"} for d in DEFAULTS),
    {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"},  # console
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},  # pts/*
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"},  # net/tun
)


def wanted(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes to make: the listed ones, and the defaults that are not listed."""
    listed = list((spec.get("linux") or {}).get("devices") or ())
    named = {entry["path"] for entry in listed}
    return [entry for entry in DEFAULTS if entry["path"] not in named] + listed


# -- nodes -----------------------------------------------------------------------------


def make(tree: Tree, spec: dict[str, Any], bind: bool, outside: int = -1) -> None:
    """Make the nodes and links of /dev; `bind` where mknod is not allowed, save those that are `outside`.

    If config.json binds a /dev of the host there, it is complete and not ours to change.
    """
    for entry in spec.get("mounts") or ():
        if mounts.normal(entry["destination"]) == "/dev" and {"bind", "rbind"} & {*(entry.get("options") or ())}:
            return
    nodes = _nodes_from_outside(tree, outside)
    for number, entry in enumerate(wanted(spec)):
        try:
            if number in nodes:
                tree.place(nodes[number], mounts.normal(entry["path"]), directory=False)
            elif bind and entry["type"] != "p":
                _bind(tree, entry)
            else:
                _node(tree, entry)
        except OSError as error:
            raise Error("cannot make device", entry["path"], error) from None
    dev = tree.target("/dev")
    try:
        links = [*LINKS, ("core", "/proc/kcore")] if os.path.exists("/proc/kcore") else LINKS
        for name, target in links:
            _link(dev, name, target)
        if any(mounts.normal(entry["destination"]) == "/dev/pts" for entry in spec.get("mounts") or ()):
            _link(dev, "ptmx", "pts/ptmx")
    except OSError as error:
        raise Error("cannot make links in", "/dev", error) from None
    finally:
        os.close(dev)


def make_outside(spec: dict[str, Any], users: int) -> int:
    """Nodes for a container in the user namespace `users`, which can make none: a detached tmpfs, or -1 for none.

    Named by their place in `wanted`; the listed ones which are not just the host's own node.
    """
    entries = [(number, entry) for number, entry in enumerate(wanted(spec)) if _is_other(entry)]
    if not entries:
        return -1
    label = (spec.get("linux") or {}).get("mountLabel")
    data = ["mode=700", "nr_blocks=1", f"nr_inodes={len(entries) + 1}", *([f"context={label}"] if label else ())]
    tmpfs = mounts.new("tmpfs", "tmpfs", data)
    before = os.umask(0)
    try:
        for number, entry in entries:
            _make_at(tmpfs, str(number), entry)
        mount.mount_setattr(tmpfs, "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_IDMAP, 0, 0, users)
    except OSError as error:
        raise Error("cannot make device", entry["path"], error) from None
    finally:
        os.umask(before)
    return tmpfs


def _is_other(entry: dict[str, Any]) -> bool:
    """Whether a listed node is another than the host's of this name, or has an owner or mode of its own."""
    if entry in DEFAULTS or entry["type"] == "p":
        return False
    if any(entry.get(name) is not None for name in ("fileMode", "uid", "gid")):
        return True
    try:
        return os.stat(entry["path"], follow_symlinks=False).st_rdev != _number(entry)
    except OSError:
        return True


def _nodes_from_outside(tree: Tree, tmpfs: int) -> dict[int, int]:
    """The nodes that `make_outside` made, each a detached mount."""
    if tmpfs < 0:
        return {}
    dev = tree.target("/dev")
    try:
        mounts.attach(tmpfs, dev)  # what is to be cloned must be in a mount namespace
        flags = mount.OPEN_TREE_CLONE
        nodes = {int(name): mount.open_tree(tmpfs, name, flags) for name in os.listdir(f"/proc/self/fd/{tmpfs}")}
        mount.umount2(f"/proc/self/fd/{tmpfs}", mount.MNT_DETACH)
    except OSError as error:
        raise Error("cannot make devices", "/dev", error) from None
    finally:
        os.close(dev)
        os.close(tmpfs)
    return nodes


def _node(tree: Tree, entry: dict[str, Any]) -> None:
    """mknod in the parent's descriptor, which follows no link; a node that is right may stay."""
    parent, name = _parent(tree, entry["path"])
    try:
        _make_at(parent, name, entry)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) != _KINDS[entry["type"]] or found.st_rdev != _number(entry):
            raise Error("cannot make device", entry["path"], "something else is in its place") from None
    finally:
        os.close(parent)


def _make_at(parent: int, name: str, entry: dict[str, Any]) -> None:
    mode = entry.get("fileMode")
    os.mknod(name, _KINDS[entry["type"]] | (0o666 if mode is None else mode), _number(entry), dir_fd=parent)
    if entry.get("uid") or entry.get("gid"):
        os.chown(name, entry.get("uid") or 0, entry.get("gid") or 0, dir_fd=parent, follow_symlinks=False)


def _number(entry: dict[str, Any]) -> int:
    return os.makedev(entry.get("major") or 0, entry.get("minor") or 0) if entry["type"] != "p" else 0


def _bind(tree: Tree, entry: dict[str, Any]) -> None:
    """The host's node of that name, if it is the device that is meant."""
    path = entry["path"]
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_rdev != _number(entry):
            raise Error("cannot make device", path, "the host's device of that name is another")
        tree.place(mount.open_tree(fd, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH), path, directory=False)
    finally:
        os.close(fd)


def _parent(tree: Tree, path: str) -> tuple[int, str]:
    directory, name = os.path.split(mounts.normal(path))
    return tree.target(directory), name


def _link(dev: int, name: str, target: str) -> None:
    try:
        os.symlink(target, name, dir_fd=dev)
    except FileExistsError:
        if name == "ptmx":  # must be this container's own instance
            os.unlink(name, dir_fd=dev)
            os.symlink(target, name, dir_fd=dev)


def bind_console(root: int, peer: int) -> None:
    """The terminal at /dev/console: bound by descriptor on a file that is no link."""
    dev = fs.open_beneath(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        try:
            os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev))
        except FileExistsError:
            pass
        target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        if stat.S_ISLNK(os.fstat(target).st_mode):
            raise Error("cannot bind the terminal on", "/dev/console", "it is a symbolic link")
        tty = mount.open_tree(peer, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH)
        flags = mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH
        mount.move_mount(tty, "", target, "", flags)
        os.close(tty)
        os.close(target)
    except OSError as error:
        raise Error("cannot bind the terminal on", "/dev/console", error) from None
    finally:
        os.close(dev)


# -- rules -----------------------------------------------------------------------------


def rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The device rules in the order in which later ones win, from a start where nothing is allowed."""
    listed = ((spec.get("linux") or {}).get("resources") or {}).get("devices") or ()
    return [{"allow": False, "access": "rwm"}, *listed, *_ALWAYS]


def rules_v1(listed: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(file, line) pairs for the devices controller of a new group.

    The controller has one default and exceptions from it, each taken back only as it was
    given.  So the rules are played through first; what it cannot express is an Error,
    rather than a device that stays allowed.
    """
    default = True
    exceptions: Exceptions = {}
    for rule in listed:
        allow, access = bool(rule["allow"]), set(rule.get("access") or "rwm")
        kind = rule.get("type") or "a"
        major, minor = (-1 if rule.get(n) is None else rule[n] for n in ("major", "minor"))
        if kind == "a" and major == minor == -1 and len(access) == 3:
            default = allow
            exceptions.clear()
            continue
        for letter in {"a": "bc", "u": "c"}.get(kind, kind):
            if allow != default:
                exceptions.setdefault((letter, major, minor), set()).update(access)
            else:
                _take_back(exceptions, (letter, major, minor), access, rule)
    lines = [("devices.allow" if default else "devices.deny", "a")]
    for (letter, major, minor), access in exceptions.items():
        numbers = ":".join("*" if n == -1 else str(n) for n in (major, minor))
        if access:
            text = "".join(c for c in "rwm" if c in access)
            lines.append(("devices.deny" if default else "devices.allow", f"{letter} {numbers} {text}"))
    return lines


def _take_back(exceptions: Exceptions, key: tuple[str, int, int], access: set[str], rule: dict[str, Any]) -> None:
    """Remove `access` from the exceptions that lie within a rule's devices."""
    for other, held in exceptions.items():
        if other[0] != key[0] or not all(-1 in pair or pair[0] == pair[1] for pair in zip(other, key, strict=True)):
            continue  # other devices
        if all(n in (-1, o) for n, o in zip(key[1:], other[1:], strict=True)):
            held -= access
        elif held & access and rule not in _ALWAYS:
            what = "config.json: linux.resources.devices: cgroup v1 cannot make an exception from an exception"
            raise Error(what, f"{key[0]} {key[1]}:{key[2]}")


def program(listed: list[dict[str, Any]]) -> bytes:
    """The cgroup v2 device program: for each kind of access the last rule decides, else nothing is allowed.

    struct bpf_cgroup_dev_ctx { u32 access_type (device type | access << 16), major, minor }
    r1 context -> r2 type, r3 access not yet allowed, r4 major, r5 minor.  From the last rule
    to the first: an allowing one that matches takes its kinds from r3, a denying one refuses
    what is left of its own.
    """
    code = bytearray()

    def put(op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        code.extend(pack("<BBhi", op, dst | src << 4, off, imm))

    put(0x61, 2, 1, 0)  # r2 = *(u32 *)(r1 + 0)
    put(0xBC, 3, 2)  # w3 = w2
    put(0x54, 2, imm=0xFFFF)  # w2 &= 0xffff
    put(0x74, 3, imm=16)  # w3 >>= 16
    put(0x61, 4, 1, 4)  # r4 = major
    put(0x61, 5, 1, 8)  # r5 = minor
    for rule in reversed(listed):
        kind = {"c": 2, "u": 2, "b": 1}.get(rule.get("type") or "a")
        access = sum({"m": 1, "r": 2, "w": 4}[c] for c in set(rule.get("access") or "rwm"))
        tests: list[tuple[int, int]] = [(2, kind)] if kind else []  # (register, value): past this rule if another
        for register, member in ((4, "major"), (5, "minor")):
            if rule.get(member) not in (None, -1):
                tests.append((register, rule[member]))
        size = len(tests) + (2 if access == 7 else 4 if rule["allow"] else 5)
        for at, (register, value) in enumerate(tests):
            put(0x55, register, off=size - at - 1, imm=value)  # if != value
        if access != 7 and rule["allow"]:
            put(0x54, 3, imm=~access & 7)  # w3 &= ~access
            put(0x55, 3, off=2, imm=0)  # if anything is left
        elif access != 7:
            put(0xBC, 1, 3)  # w1 = w3
            put(0x54, 1, imm=access)  # w1 &= access
            put(0x15, 1, off=2, imm=0)  # if nothing of it is asked for
        put(0xB7, 0, imm=1 if rule["allow"] else 0)  # r0 = verdict
        put(0x95)  # exit
        if size == 2:
            return bytes(code)  # it matches everything: the verifier refuses what cannot be reached
    put(0xB7, 0, imm=0)
    put(0x95)
    return bytes(code)


def attach_program(cgroup: str, listed: list[dict[str, Any]]) -> None:
    """Load the program and attach it to a v2 group."""
    try:
        loaded = bpf.load(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, program(listed))
        try:
            bpf.attach(loaded, cgroup, bpf.BPF_CGROUP_DEVICE, bpf.BPF_F_ALLOW_MULTI)
        finally:
            os.close(loaded)
    except OSError as error:
        raise Error("cannot attach the device program to cgroup", cgroup, error) from None
