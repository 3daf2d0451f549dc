"""The ids that a plain user has in a namespace of his own: himself as root, then his subordinate ones, subuid(5).

    maps   {"uid_map": [...], "gid_map": [...]}, entries as config.json's mappings have them
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Maps = dict[str, list[dict[str, int]]]

_PLACES = ("/usr/bin", "/usr/sbin", "/bin")


def of_user() -> Maps:
    """This user's; one entry where there are no others, or newuidmap(1) and newgidmap(1) not there to grant them."""
    maps = {"uid_map": mapping("/etc/subuid", os.geteuid()), "gid_map": mapping("/etc/subgid", os.getegid())}
    if not all(helper(name) for name in ("newuidmap", "newgidmap")):
        maps = {name: entries[:1] for name, entries in maps.items()}
    return maps


def helper(name: str) -> str | None:
    """Where one of these set-user-ID programs is: not where PATH says."""
    return next((f"{each}/{name}" for each in _PLACES if os.access(f"{each}/{name}", os.X_OK)), None)


def mapping(path: str, own: int) -> list[dict[str, int]]:
    """Oneself as root, then what a file gives, "name-or-uid:first:count"; lines that are none are passed over."""
    found = [{"containerID": 0, "hostID": own, "size": 1}]
    names = {str(os.geteuid()), _login()}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.strip().split(":") for line in file]
    except OSError:
        return found
    at = 1
    for row in rows:
        if len(row) == 3 and row[0] in names and row[1].isdecimal() and row[2].isdecimal() and int(row[2]):
            found.append({"containerID": at, "hostID": int(row[1]), "size": int(row[2])})
            at += int(row[2])
    return found


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
