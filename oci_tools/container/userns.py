"""User namespaces of root's containers: --userns, --uidmap, --gidmap, --subuidname, --subgidname.

    auto[:size=N]        ids that no other container has, from 0 on inside
    container:ID         the user namespace of another, running one
    ns:PATH              one by its path
    host                 none
    keep-id[:uid=N,gid=N]    of a plain user: that one's id, or N, not root
    nomap                of a plain user: his subordinate ids, and not his own (nomap.py)
    --uidmap C:H[:N]     N ids from C on inside are those from H on outside

The ids outside come out of what /etc/subuid gives to `containers`, or root, or --subuidname; where that says
nothing, of the range that is set apart for containers (systemd.io/UIDS-GIDS, 524288 to 1879048191).  Which are taken is
seen by what containers have:

    $OCI_ROOT/userns/FIRST-SIZE     links to ../containers/ID; those that lead nowhere are free again

Nobody chowns an image for it: its layers are shown by idmapped mounts (runtime/overlay.py).  A plain user's containers
are in a user namespace of one id, to which all files belong.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.container import namespaces, units
from oci_tools.errors import Error, Usage
from oci_tools.runtime import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

    Maps = list[dict[str, int]]

SIZE = 65536
RESERVED = (524288, 1879048191)
_PING = "net.ipv4.ping_group_range"


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put the user namespace that `args` ask for in place."""
    mode, maps = args.userns, bool(args.uidmap or args.gidmap or args.subuidname or args.subgidname)
    if mode in ("", "host") and not maps:
        return
    if host.rootless:
        return _keep_id(spec, args)
    if maps and mode not in ("", "private", "auto"):
        raise Usage(f"--uidmap and its kin exclude --userns {mode}")
    how, _, text = mode.partition(":")
    if mode == "nomap" and not host.initial:
        from oci_tools.container import nomap

        return _own(spec, {"type": "user"}, nomap.maps())
    if how in ("container", "ns"):
        path = namespaces.path_of(mode, "user", "--userns", host)
        return _own(spec, {"type": "user", "path": path}, None)
    if args.uidmap or args.gidmap:
        uids = [_mapping(word, "--uidmap") for word in args.uidmap or args.gidmap]
        gids = [_mapping(word, "--gidmap") for word in args.gidmap or args.uidmap]
    elif how in ("auto", "private", ""):
        uids, gids = _automatic(text, args, host)
    else:
        hint = "auto[:size=N], container:ID, ns:PATH or host"
        raise Usage("invalid value for --userns", mode, "only for a plain user" if how in _ROOTLESS else None, hint)
    _own(spec, {"type": "user"}, (uids, gids))


_ROOTLESS = ("keep-id", "nomap")


def _keep_id(spec: dict[str, Any], args: Args) -> None:
    """A plain user's one id is, inside, that same one, or the one said, and not root."""
    how, _, text = args.userns.partition(":")
    if how != "keep-id" or args.uidmap or args.gidmap or args.subuidname or args.subgidname:
        why = "a plain user's containers are in one of his own"
        if how == "nomap":
            why = "this user has no subordinate ids, or it is a bundle"
        raise Error("cannot use --userns", args.userns or None, why, "keep-id, or nothing")
    ids = {"uid": os.geteuid(), "gid": os.getegid()}
    for word in text.split(",") if text else ():
        key, value = units.pair(word, "--userns")
        if key not in ids or not (value.isascii() and value.isdigit() and int(value[:11]) < 1 << 32):
            raise Usage("invalid value for --userns", args.userns, hint="keep-id:uid=N,gid=N")
        ids[key] = int(value)
    for name, outside, inside in (("uidMappings", os.geteuid(), ids["uid"]), ("gidMappings", os.getegid(), ids["gid"])):
        spec["linux"][name] = [{"containerID": inside, "hostID": outside, "size": 1}]
    if args.user is None:
        specs.set_user(spec, {**ids, "additionalGids": [ids["gid"]]})


def _own(spec: dict[str, Any], space: dict[str, str], maps: tuple[Maps, Maps] | None) -> None:
    linux = spec["linux"]
    namespaces.leave(spec, "user")
    linux["namespaces"].append(space)
    for name in ("uidMappings", "gidMappings"):
        linux.pop(name, None)
    groups = linux.get("sysctl", {}).pop(_PING, None)
    if maps:
        linux["uidMappings"], linux["gidMappings"] = maps
        if groups:  # those that are not mapped cannot be named
            linux["sysctl"][_PING] = f"0 {_last(maps[1])}"
        if not any(each["containerID"] <= 5 < each["containerID"] + each["size"] for each in maps[1]):
            for mount in spec["mounts"]:
                if mount.get("type") == "devpts":
                    mount["options"] = [option for option in mount["options"] if option != "gid=5"]
    if not any(each["type"] == "network" for each in linux["namespaces"]):
        show(spec, "sysfs", "/sys", "ro", "rro")  # a new one shows the devices of a network, and needs one of one's own


def show(spec: dict[str, Any], kind: str, source: str, *options: str) -> None:
    """What the host has, in place of a new file system of a kind."""
    for mount in spec["mounts"]:
        if mount.get("type") == kind:
            mount.update(type="none", source=source, options=["rbind", "nosuid", "noexec", "nodev", *options])


def _last(maps: Maps) -> int:
    """The last id from 0 on without a gap."""
    end = 0
    for entry in sorted(maps, key=lambda entry: entry["containerID"]):
        if entry["containerID"] <= end:
            end = max(end, entry["containerID"] + entry["size"])
    return max(end - 1, 0)


def _mapping(word: str, option: str) -> dict[str, int]:
    """C:H[:N]"""
    parts = word.split(":")
    good = len(parts) in (2, 3) and all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts)
    numbers = [int(part) for part in parts] if good else [0, 0]
    first, outside, size = (*numbers, 1)[:3]
    if not good or size < 1 or max(first, outside) + size > (1 << 32) - 1:
        raise Usage(f"invalid value for {option}", word, hint="INSIDE:OUTSIDE[:COUNT]")
    return {"containerID": first, "hostID": outside, "size": size}


# -- ids that nobody has ---------------------------------------------------------------------------


def _automatic(text: str, args: Args, host: Host) -> tuple[Maps, Maps]:
    size = SIZE
    for word in text.split(",") if text else ():
        key, value = units.pair(word, "--userns")
        if key != "size" or not (value.isascii() and value.isdigit() and 0 < int(value[:10]) <= 1 << 24):
            raise Usage("invalid value for --userns", args.userns, hint="auto:size=N")
        size = int(value)
    uid = host.take_ids(size, ranges(host, "/etc/subuid", args.subuidname))
    gids = ranges(host, "/etc/subgid", args.subgidname)
    if not any(first <= uid and uid + size <= first + count for first, count in gids):
        raise Error("cannot map ids", f"{uid} to {uid + size - 1}", "they are in /etc/subuid and not in /etc/subgid")
    entry = {"containerID": 0, "hostID": uid, "size": size}
    return [entry], [dict(entry)]


def ranges(host: Host, path: str, name: str | None) -> list[tuple[int, int]]:
    """(first, count) of the ids that a file of subuid(5) gives to a name; None: to containers, or root."""
    rows = [line.split(":") for line in host.text(path).split("\n")] if host.exists(path) else []
    good = [row for row in rows if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal()]
    for wanted in (name,) if name else ("containers", "root"):
        found = [(int(first), int(count)) for who, first, count in good if who == wanted]
        if found:
            return found
    if name:
        raise Error("no subordinate ids of", name, f"{path} gives it none")
    return [(RESERVED[0], RESERVED[1] - RESERVED[0] + 1)]


def take(size: int, known: list[tuple[int, int]], container: str | None) -> int:
    """The first of so many ids in these ranges that no container has; they are that container's then."""
    directory = f"{fs.root()}/userns"
    os.makedirs(directory, 0o700, exist_ok=True)
    with fs.Lock(f"{directory}/lock"):
        taken = []
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            if not os.path.islink(path):
                continue
            if not os.path.exists(path):
                os.unlink(path)
                continue
            start, _, count = name.partition("-")
            taken.append((int(start), int(count)))
        first = _free(size, known, sorted(taken))
        if container:
            os.symlink(f"../containers/{container}", f"{directory}/{first}-{size}")
    return first


def _free(size: int, known: list[tuple[int, int]], taken: list[tuple[int, int]]) -> int:
    for first, count in known:
        at = first
        for start, length in taken:
            if start < at + size and at < start + length:
                at = start + length
        if at + size <= first + count:
            return at
    raise Error("cannot map ids", None, f"no {size} ids are left", "oci-run rm gives those of containers back")
