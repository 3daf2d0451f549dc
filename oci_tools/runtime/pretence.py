"""Root without other ids: calls that change an owner or who one is do nothing, and say that they did.

With one user id mapped, chown(2) to any other, setuid(2) and device nodes cannot be.  Package managers ask for
them all the same, and take no for an answer from none of them; so a seccomp filter answers in the kernel's place.
What Charliecloud found to be enough (ch-image --force=seccomp), as a change of a profile of config.json.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OWNERS = "chown chown32 fchown fchown32 fchownat lchown lchown32"
IDENTITY = (
    "capset setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32"
    " setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32"
)
_PRETENDED = [*OWNERS.split(), *IDENTITY.split()]
_NODES = {"mknod": 1, "mknodat": 2}  # where each has the mode
_DEVICES, _OTHERS = (0o020000, 0o060000), (0, 0o010000, 0o100000, 0o140000)  # S_IFCHR, S_IFBLK; fifo, file, socket


def of_root(profile: dict[str, Any]) -> dict[str, Any]:
    """The same profile with the pretence."""
    taken = {*_PRETENDED, *_NODES}
    rules = []
    for rule in profile.get("syscalls", ()):
        names = [name for name in rule["names"] if name not in taken]
        if names:
            rules.append({**rule, "names": names})
    rules.append(_done({"names": _PRETENDED}))
    for name, at in _NODES.items():
        rules += [_done({"names": [name], "args": [_kind(at, kind)]}) for kind in _DEVICES]
        rules += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": [_kind(at, kind)]} for kind in _OTHERS]
    return {**profile, "syscalls": rules}


def _done(rule: dict[str, Any]) -> dict[str, Any]:
    return {**rule, "action": "SCMP_ACT_ERRNO", "errnoRet": 0}


def _kind(at: int, kind: int) -> dict[str, Any]:
    return {"index": at, "value": 0o170000, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ"}
