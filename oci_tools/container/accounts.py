"""/etc/passwd and /etc/group of a container with more lines than its image has, as podman adds them.

    --hostuser NAME      an account of the host, with its group
    --passwd             a line for the container's user, where there is none
    --passwd-entry TEXT  that line, $USERNAME, $UID, $GID, $NAME and $HOME replaced
    --group-entry TEXT   one for the user's group, $GROUPNAME, $GID and $USERLIST replaced

An image that lacks the files gets them.  Names of these lines can be said to --user.
"""

from __future__ import annotations

from oci_tools.errors import Usage
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

    Files = dict[str, str]


def begin(args: Args, host: Host) -> None:
    """Have the accounts of the host looked up where those of the image are."""
    read = users.reader(host.rootfs) if host.rootfs is not None else lambda _: None
    for file in ("passwd", "group"):
        host.accounts[file] = (read(f"etc/{file}") or b"").decode("utf-8", "surrogateescape")
    for word in args.hostuser:
        name, uid, gid, words, home, shell, group = host.account(word)
        _add(host.accounts, "passwd", f"{name}:x:{uid}:{gid}:{words}:{home}:{shell}", 0, name)
        _add(host.accounts, "group", f"{group}:x:{gid}:", 0, group)

    def found(path: str) -> bytes | None:
        text = host.accounts.get(path.removeprefix("etc/")) if path.startswith("etc/") else None
        return read(path) if text is None else text.encode("utf-8", "surrogateescape")

    host.rootfs = found


def finish(spec: dict[str, Any], args: Args, host: Host) -> None:
    """The lines of the user that the container has by now."""
    process = spec["process"]
    who = process.get("user") or {}
    uid, gid = who.get("uid", 0), who.get("gid", 0)
    name = (args.user or "").partition(":")[0]
    name = name if name and not users.number(name) else str(uid)
    values = {"USERNAME": name, "UID": uid, "GID": gid, "NAME": "container user", "HOME": process.get("cwd") or "/"}
    if args.passwd or args.passwd_entry:
        text = args.passwd_entry or "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"
        _add(host.accounts, "passwd", _filled(text, values, "--passwd-entry"), 2, str(uid))
    if args.passwd or args.group_entry:
        text = args.group_entry or "$GROUPNAME:x:$GID:$USERLIST"
        values = {"GROUPNAME": str(gid), "GID": gid, "USERLIST": "" if uid == 0 else name}
        _add(host.accounts, "group", _filled(text, values, "--group-entry"), 2, str(gid))


def _filled(text: str, values: dict[str, Any], option: str) -> str:
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${name}", str(values[name]))
    if "\n" in text or ":" not in text:
        raise Usage(f"invalid value for {option}", text, hint="a line of that file")
    return text


def _add(files: Files, file: str, line: str, field: int, value: str) -> None:
    """A line more, unless one has that value in this field already."""
    rows = [row.split(":") for row in files[file].split("\n")]
    if any(len(row) > field and row[field] == value for row in rows):
        return
    before = files[file]
    files[file] = f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}{line}\n"
