"""Device rules: the lines for cgroup v1, the program for v2, and what a container may open."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.runtime import devices

# -- the rules, read plainly ---------------------------------------------------------------------

NOTHING = {"allow": False, "access": "rwm"}
ALL = {"allow": True, "access": "rwm"}


def allowed(rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str) -> bool:
    """Each kind of access is decided by the last rule that speaks of it; without one it is denied."""

    def one(letter: str) -> bool:
        for rule in reversed(rules):
            matches = (rule.get("type") or "a") in ("a", kind, "u" if kind == "c" else "")
            matches = matches and rule.get("major", -1) in (-1, None, major) and rule.get("minor", -1) in (-1, None, minor)
            if matches and letter in (rule.get("access") or "rwm"):
                return bool(rule["allow"])
        return False

    return all(map(one, access))


# -- the program, executed as the kernel does --------------------------------------------------------


def execute(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """An eBPF machine for the few instructions that there are."""
    code = list(struct.iter_unpack("<BBhi", program))
    kinds = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = ((2 if kind == "c" else 1) | kinds << 16, major, minor)
    registers: list[int | None] = [None, 0, *[None] * 9]
    at = 0
    while True:
        op, both, offset, value = code[at]
        dst, src, at = both & 15, both >> 4, at + 1
        if op == 0x95:
            assert registers[0] in (0, 1)
            return registers[0]
        if op == 0x61:  # load a word of the context, by the pointer in r1
            assert src == 1 and registers[1] == 0
            registers[dst] = context[offset // 4]
        elif op == 0xBC:
            registers[dst] = registers[src]
        elif op == 0xB7:
            registers[dst] = value
        else:
            word = registers[dst]
            assert word is not None
            if op == 0x54:
                registers[dst] = word & value & 0xFFFFFFFF
            elif op == 0x74:
                registers[dst] = word >> value
            elif op == 0x55:
                at += offset if word != value else 0
            elif op == 0x15:
                at += offset if word == value else 0
            else:
                raise AssertionError(f"instruction {op:#x}")


NUMBERS = st.sampled_from([1, 3, 5, 4095])
RULE = st.fixed_dictionaries(
    {"allow": st.booleans()},
    optional={
        "type": st.sampled_from(["a", "b", "c", "u", ""]),
        "major": NUMBERS | st.sampled_from([-1, None]),
        "minor": NUMBERS | st.sampled_from([-1, None]),
        "access": st.sampled_from(["rwm", "r", "w", "m", "rw", "wm", "rr", ""]),
    },
)
ACCESS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])


@settings(deadline=None)
@given(st.lists(RULE, max_size=8), st.sampled_from("bc"), NUMBERS, NUMBERS, ACCESS)
@example([NOTHING, ALL], "c", 1, 3, "rwm")
@example([ALL, NOTHING], "c", 1, 3, "r")
@example([{"allow": True, "access": "r"}, {"allow": True, "access": "w"}], "b", 1, 3, "rw")
def test_the_program_decides_as_the_rules_do(
    rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str
) -> None:
    program = devices.program(rules)
    assert execute(program, kind, major, minor, access) == allowed(rules, kind, major, minor, access)


@pytest.mark.root
@settings(deadline=None, max_examples=50)
@given(st.lists(RULE, max_size=8))
@example([])
@example([ALL] * 3)
@example([NOTHING, *({"allow": True, "type": "c", "major": n, "minor": n, "access": "r"} for n in range(300))])
def test_the_kernel_takes_the_program(rules: list[dict[str, Any]]) -> None:
    """Its verifier refuses what cannot be reached, what does not end, and registers without a value."""
    from oci_tools.linux import bpf

    try:
        os.close(bpf.load(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, devices.program(rules)))
    except PermissionError:
        pytest.skip("needs the right to load bpf programs")


@pytest.mark.root
def test_the_program_at_work() -> None:
    """On a cgroup2 of this host, beside whatever applies v1's rules."""
    top = next((place for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if Path(place, "cgroup.procs").exists()), None)
    if top is None:
        pytest.skip("needs a mount of cgroup2")
    group = Path(top, f"box-{uuid.uuid4().hex[:12]}")
    group.mkdir()
    try:
        rules = [NOTHING, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                 {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"}]  # fmt: skip
        devices.attach_program(str(group), rules)
        script = f"""echo $$ > {group}/cgroup.procs
            for f in null zero full; do (: < /dev/$f) 2>&- && echo r $f; (: >> /dev/$f) 2>&- && echo w $f; done; true"""
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["r null", "w null", "r zero"]
    finally:
        group.rmdir()


# -- the lines of v1 -------------------------------------------------------------------------------------


def play(lines: list[tuple[str, str]], kind: str, major: int, minor: int, access: str) -> bool:
    """The controller's own reading: one default, exceptions, each of which must suffice by itself."""
    default, exceptions = True, []
    for file, line in lines:
        if line == "a":
            default, exceptions = file == "devices.allow", []
        else:
            assert default != (file == "devices.allow")
            letter, numbers, letters = line.split()
            exceptions.append((letter, *numbers.split(":"), letters))
    matching = [e for e in exceptions if e[0] == kind and e[1] in ("*", str(major)) and e[2] in ("*", str(minor))]
    if default:
        return not any(set(access) & set(e[3]) for e in matching)
    return any(set(access) <= set(e[3]) for e in matching)


@settings(deadline=None)
@given(st.lists(RULE, max_size=6), st.sampled_from("bc"), NUMBERS, NUMBERS, st.sampled_from("rwm"))
def test_the_lines_decide_as_the_rules_do(
    rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str
) -> None:
    rules = [NOTHING, *rules]
    try:
        lines = devices.rules_v1(rules)
    except Error as error:
        assert "cannot make an exception" in str(error)
        return
    assert play(lines, kind, major, minor, access) == allowed(rules, kind, major, minor, access)


def test_what_the_default_rules_say() -> None:
    lines = devices.rules_v1(devices.rules({}))
    assert lines[:3] == [("devices.deny", "a"), ("devices.allow", "c *:* m"), ("devices.allow", "b *:* m")]
    assert ("devices.allow", "c 1:3 rwm") in lines and ("devices.allow", "c 136:* rwm") in lines


def test_a_rule_without_a_type_is_for_both_and_no_more() -> None:
    """`a 10:229 rwm` would allow everything: the controller reads no further than the a."""
    assert devices.rules_v1([NOTHING, {"allow": True, "major": 10, "minor": 229, "access": "rwm"}]) == [
        ("devices.deny", "a"), ("devices.allow", "b 10:229 rwm"), ("devices.allow", "c 10:229 rwm"),
    ]  # fmt: skip


def test_a_privileged_containers_rules() -> None:
    listed = [NOTHING, ALL, {"allow": False, "type": "c", "major": 1, "minor": 1}]
    assert devices.rules_v1([NOTHING, *listed, *devices._ALWAYS]) == [("devices.allow", "a"), ("devices.deny", "c 1:1 rw")]


def test_what_v1_cannot_express_is_refused() -> None:
    with pytest.raises(Error, match="cannot make an exception"):
        devices.rules_v1([NOTHING, {"allow": True, "type": "c", "major": 1}, {"allow": False, "type": "c", "major": 1, "minor": 1}])


# -- in a container -----------------------------------------------------------------------------------------


@pytest.mark.root
def test_what_a_container_may_open(box: Any) -> None:
    box.linux["resources"]["devices"] += [
        {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"},  # loop0
        {"allow": False, "type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random: always there
    ]
    box.linux["devices"] = [
        {"path": "/dev/loop", "type": "b", "major": 7, "minor": 0},
        {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1},
        {"path": "/dev/disk", "type": "b", "major": 254, "minor": 0},
    ]
    script = """cd /dev; for f in null zero full random urandom loop mem disk; do
        (: < $f) 2>&- && echo r $f; (: >> $f) 2>&- && echo w $f; done; mknod /tmp/mem c 1 1 && (: < /tmp/mem) 2>&- && echo made; true"""
    found = box.says(script).splitlines()
    usual = [f"{how} {name}" for name in ("null", "zero", "full", "random", "urandom") for how in "rw"]
    assert found == [*usual, *(["r loop"] if os.path.exists("/dev/loop0") else [])]


@pytest.mark.root
def test_a_mapped_containers_nodes_are_the_hosts_if_nothing_else_is_said(box: Any) -> None:
    box.mapped()
    box.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
    assert box.says("stat -c %t:%T /dev/kmsg /dev/null").split() == ["1:b", "1:3"]


@pytest.mark.root
@pytest.mark.parametrize("users", ["ours", "mapped", "all", "joined"])
def test_a_node_is_as_it_is_listed(box: Any, users: str) -> None:
    """Its number, owner and mode, also where the container's root could not make it, and no umask in them."""
    if users == "mapped":
        box.mapped()
    elif users != "ours":
        box.namespace("user")
        box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 4294967295}]
    box.linux["devices"] = [
        {"path": "/dev/zeroes", "type": "c", "major": 1, "minor": 5, "uid": 10, "gid": 11, "fileMode": 0o757},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "uid": 1, "gid": 2, "fileMode": 0o622},
        {"path": "/sub/dir/block", "type": "b", "major": 1, "minor": 5},
        {"path": "/slash/", "type": "u", "major": 1, "minor": 5, "fileMode": 0},
        {"path": "/dev/fifo", "type": "p", "uid": 12, "gid": 13, "fileMode": 0o660},
    ]
    script = "cd /; stat -c '%n %u:%g %a %t:%T' dev/zeroes dev/null sub/dir/block slash dev/fifo; head -c 3 /dev/zeroes | wc -c"
    with contextlib.ExitStack() as stack:
        if users == "joined":
            other = stack.enter_context(subprocess.Popen(["unshare", "--user", "sleep", "1000"]))
            stack.callback(other.kill)
            while os.readlink(f"/proc/{other.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
                pass
            for name in "uid_map", "gid_map":
                Path(f"/proc/{other.pid}/{name}").write_text("0 0 4294967295")
            del box.linux["uidMappings"], box.linux["gidMappings"]
            box.namespace("user", f"/proc/{other.pid}/ns/user")
        found = box.says(script, umask=0o077).splitlines()
    assert found == [
        "dev/zeroes 10:11 757 1:5", "dev/null 1:2 622 1:3", "sub/dir/block 0:0 666 1:5", "slash 0:0 0 1:5", "dev/fifo 12:13 660 0:0", "3",
    ]  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_a_dev_of_the_host_is_not_changed(box: Any, tmp_path: Path, kind: str) -> None:
    host = tmp_path / "dev"
    (host / "pts").mkdir(parents=True)
    os.mknod(host / "ptmx", 0o20666, os.makedev(5, 2))
    box.spec["mounts"] = [each for each in box.spec["mounts"] if each["destination"] in ("/proc", "/dev/pts")]
    box.spec["mounts"].insert(1, {"destination": "/dev", "type": "bind", "source": str(host), "options": [kind]})
    box.linux["devices"] = [{"path": "/dev/more", "type": "c", "major": 1, "minor": 3}]
    assert box.says("ls /dev").split() == ["ptmx", "pts"]
    assert sorted(os.listdir(host)) == ["ptmx", "pts"]
    assert (host / "ptmx").is_char_device()
