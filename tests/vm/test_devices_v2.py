"""Device rules where only a program of ours in the kernel applies them: cgroup v2's.

The program's verdicts are compared with the rules themselves, read by a few lines of Python,
for every kind of access to some devices; then a container is refused what it should be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_tools.runtime import devices

TOP = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.skipif(not (TOP / "cgroup.controllers").exists(), reason="needs cgroup v2 at /sys/fs/cgroup"),
    pytest.mark.root,
]
# Devices that open at once: null, zero, kmsg, the unused disk.
NODES = (("c", 1, 3), ("c", 1, 5), ("c", 1, 11), ("b", *divmod(os.stat("/dev/vdb").st_rdev, 256))) if os.path.exists(
    "/dev/vdb"
) else ()  # fmt: skip
MADE = f"/dev/test-{os.getpid()}"  # another worker makes its own
MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
VDB = {"type": "b", "major": NODES[-1][1], "minor": NODES[-1][2]} if NODES else {}
NOTHING = {"allow": False, "access": "rwm"}
ALL = {"allow": True, "access": "rwm"}
LISTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "nothing": [NOTHING],
    "everything": [NOTHING, ALL],
    "everything but": [ALL, {"allow": False, "type": "c", "major": 1, "minor": 5}],
    "one": [NOTHING, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
    "read": [NOTHING, {"allow": True, "type": "c", "major": 1, "access": "r"}],
    "write": [NOTHING, {"allow": True, "access": "w"}],
    "make": [NOTHING, {"allow": True, "type": "b", "access": "m"}],
    "all blocks": [NOTHING, {"allow": True, "type": "b", "major": -1, "minor": -1, "access": "rw"}],
    "a disk": [NOTHING, {"allow": True, **VDB, "access": "rw"}],
    "not to write": [ALL, {"allow": False, **VDB, "access": "w"}],
    "taken back": [NOTHING, ALL, {"allow": False, "type": "c"}, {"allow": True, "type": "c", "minor": 11}],
    "u is c": [NOTHING, {"allow": True, "type": "u", "major": 1, "minor": 3, "access": "rw"}],
    "many": [NOTHING, *({"allow": True, "type": "c", "major": n, "minor": n} for n in range(300)), *[NOTHING] * 5],
    "defaults": devices.rules({}),
    "others": devices.rules({"linux": {"resources": {"devices": [NOTHING, {"allow": True, **VDB, "access": "r"}]}}}),
}  # fmt: skip


def allows(rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str) -> bool:
    """What the rules say: the last that matches; one that allows must allow all, one that denies any of it."""
    verdict = False
    for rule in rules:
        if rule.get("type", "a") not in ("a", kind) and not (rule.get("type") == "u" and kind == "c"):
            continue
        if rule.get("major", -1) not in (-1, major) or rule.get("minor", -1) not in (-1, minor):
            continue
        named = set(rule.get("access") or "rwm")
        if set(access) <= named if rule["allow"] else set(access) & named:
            verdict = rule["allow"]
    return verdict


@pytest.fixture
def fresh() -> Iterator[Path]:
    path = TOP / f"test-devices-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def tried(group: Path) -> list[tuple[str, int, int, str]]:
    """Everything that a process of the group can do with NODES."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            (group / "cgroup.procs").write_text("0")
            done = [(*node, how) for node in NODES for how in ("m", *MODES) if _can(node, how)]
            os.write(writing, repr(done).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    result: list[tuple[str, int, int, str]] = eval(text)
    return result


def _can(node: tuple[str, int, int], how: str) -> bool:
    kind, major, minor = node
    place = f"{MADE}-{kind}-{major}-{minor}"
    try:
        if how == "m":
            os.mknod(f"{place}-made", {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind] | 0o600, os.makedev(major, minor))
            os.unlink(f"{place}-made")
        else:
            os.close(os.open(place, MODES[how]))
    except PermissionError:
        return False
    return True


@pytest.fixture
def nodes() -> Iterator[None]:
    for kind, major, minor in NODES:
        mode = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind] | 0o600
        os.mknod(f"{MADE}-{kind}-{major}-{minor}", mode, os.makedev(major, minor))
    yield
    for kind, major, minor in NODES:
        os.unlink(f"{MADE}-{kind}-{major}-{minor}")


@pytest.mark.filterwarnings("ignore:This process")  # a thread that watches the tests
@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("name", LISTS)
def test_the_program_says_what_the_rules_say(fresh: Path, name: str) -> None:
    devices.attach_program(str(fresh), LISTS[name])
    expected = [(*node, how) for node in NODES for how in ("m", *MODES) if allows(LISTS[name], *node, how)]
    assert tried(fresh) == expected


def test_a_container_makes_nodes_and_opens_only_its_own(box: Any) -> None:
    script = """
        echo > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c
        mknod /dev/disk b {major} {minor} && mknod /dev/messages c 1 11 && mknod /dev/memory c 1 1 && echo made
        true < /dev/tty
        for name in disk messages memory; do true < /dev/$name; true > /dev/$name; done
    """
    done = box.sh(script.format(**VDB), code=1)
    assert done.stdout == "3\n3\nmade\n"
    first, *others = done.stderr.splitlines()
    assert "/dev/tty: No such device or address" in first  # allowed; there is no terminal
    assert [line.split(": ", 1)[1] for line in others] == [
        f"can't {verb} /dev/{name}: Operation not permitted"
        for name in ("disk", "messages", "memory")
        for verb in ("open", "create")
    ]


def test_a_rule_allows_one_disk_to_be_read(box: Any) -> None:
    box.linux["resources"]["devices"].append({"allow": True, **VDB, "access": "r"})
    box.linux["devices"] = [{"path": "/dev/disk", **VDB, "fileMode": 0o600}]
    done = box.sh("head -c 5 /dev/disk | wc -c; true > /dev/disk", code=1)
    assert done.stdout == "5\n"
    assert "Operation not permitted" in done.stderr


def test_root_of_a_user_namespace_cannot_make_nodes_and_has_the_same_rules(box: Any) -> None:
    box.mapped()
    done = box.sh("echo > /dev/null && mknod /dev/disk b 8 0", code=1)
    assert "Operation not permitted" in done.stderr
