"""What two config.json say differently: the order and the grouping of things is no difference where they mean none."""

import copy
import random

import pytest

from oci_tools.runtime import check, default_seccomp, difference, spec

BASE = spec.default()
BASE["linux"]["seccomp"] = default_seccomp.profile(spec.CAPABILITIES)


def rows(one, other):
    return [(row["what"], row["path"], row["old"], row["new"]) for row in difference.diff(one, other)]


def changed(change):
    made = copy.deepcopy(BASE)
    change(made)
    check.check(made)
    return made


def test_nothing():
    assert rows(BASE, copy.deepcopy(BASE)) == []


def shuffled(value, path, rng):
    """The same document in another order, where order means nothing."""
    if isinstance(value, dict):
        items = [(name, shuffled(item, f"{path}.{name}", rng)) for name, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        made = [shuffled(item, f"{path}[]", rng) for item in value]
        if path.startswith((".process.capabilities", ".linux.masked", ".linux.readonly", ".linux.namesp", ".linux.seccomp.sys")):
            rng.shuffle(made)
        return made
    return value


@pytest.mark.parametrize("seed", range(5))
def test_order_that_means_nothing(seed):
    assert rows(BASE, shuffled(BASE, "", random.Random(seed))) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["process"].update(env=["PATH=/other", *made["process"]["env"]]),
        lambda made: made["process"].update(cwd="//./"),
        lambda made: made["process"].pop("terminal"),
        lambda made: made["root"].pop("readonly"),
        lambda made: made["root"].update(path="./rootfs/"),
        lambda made: made.update(annotations={}, hooks={"prestart": []}),
        lambda made: made["mounts"][0]["options"].append("defaults"),
        lambda made: made["mounts"][0]["options"].insert(0, "suid"),
        lambda made: made["mounts"][0]["options"].reverse(),
        lambda made: made["mounts"][0].update(destination="/proc/"),
        lambda made: made["linux"]["maskedPaths"].append(made["linux"]["maskedPaths"][0]),
        lambda made: made["linux"]["seccomp"].update(
            syscalls=[{**rule, "names": [name]} for rule in made["linux"]["seccomp"]["syscalls"] for name in rule["names"]]
        ),
    ],
)  # fmt: skip
def test_the_same_in_other_words(change):
    assert rows(BASE, changed(change)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda made: made["process"]["env"].append("A=1"), ("A", "process.env.A", None, "1")),
        (lambda made: made["process"].update(env=["PATH=/x"]), ("C", "process.env.PATH", spec.PATH[5:], "/x")),
        (lambda made: made["process"].update(env=[]), ("D", "process.env", [spec.PATH[5:]], None)),
        (lambda made: made["process"]["capabilities"]["bounding"].remove("CAP_KILL"),
         ("D", 'process.capabilities.bounding["CAP_KILL"]', "CAP_KILL", None)),
        (lambda made: made["linux"]["namespaces"].pop(), ("D", "linux.namespaces[type=cgroup]", {"type": "cgroup"}, None)),
        (lambda made: made["linux"]["namespaces"][0].update(path="/x"),
         ("A", "linux.namespaces[type=mount].path", None, "/x")),
        (lambda made: made["mounts"][3]["options"].remove("ro"),
         ("D", 'mounts[destination=/sys].options["ro"]', "ro", None)),
        (lambda made: made["process"].update(args=["sh", "-c"]), ("C", "process.args", ["sh"], ["sh", "-c"])),
        (lambda made: made["process"].update(terminal=True), ("A", "process.terminal", None, True)),
        (lambda made: made["linux"]["seccomp"]["syscalls"].append({"names": ["reboot"], "action": "SCMP_ACT_ALLOW"}),
         ("A", "linux.seccomp.syscalls.reboot", None, [{"action": "SCMP_ACT_ALLOW"}])),
        (lambda made: made["linux"]["resources"]["devices"].reverse(), None),
        (lambda made: made["hostname"] and made.update(hostname="other"), ("C", "hostname", "container", "other")),
        (lambda made: made["linux"]["resources"].update(pids={"limit": 0}),
         ("A", "linux.resources.pids", None, {"limit": 0})),
    ],
)  # fmt: skip
def test_a_difference(change, expected):
    found = rows(BASE, changed(change))
    assert found if expected is None else found == [expected]
    back = rows(changed(change), BASE)
    assert {row[0] for row in back} == {{"A": "D", "D": "A", "C": "C"}[row[0]] for row in found}


def test_mounts_that_cover_one_another_in_another_order():
    other = changed(lambda made: made["mounts"].insert(0, made["mounts"].pop(2)))
    assert rows(BASE, other) == [("C", "mounts", ["/dev", "/dev/pts"], ["/dev/pts", "/dev"])]
    assert rows(BASE, changed(lambda made: made["mounts"].insert(0, made["mounts"].pop(3)))) == [
        ("C", "mounts", ["/sys", "/sys/fs/cgroup"], ["/sys/fs/cgroup", "/sys"])
    ] or rows(BASE, changed(lambda made: made["mounts"].insert(0, made["mounts"].pop(3)))) == []


def test_two_mounts_at_one_place_are_two():
    twice = changed(lambda made: made["mounts"].append({**made["mounts"][0], "source": "other"}))
    assert rows(BASE, twice)[0][1] == "mounts[destination=/proc]#2"


def test_true_is_not_one():
    assert rows({"a": True}, {"a": 1}) == [("C", "a", True, 1)]
    assert rows({"a": [1]}, {"a": [True]}) == [("C", "a", [1], [True])]


@pytest.mark.parametrize("one", [5, None, [], "x", {"mounts": 5}, {"mounts": [5]}, {"process": {"env": [5]}}, {"linux": []}])
@pytest.mark.parametrize("other", [{}, {"mounts": {}}, {"linux": {"seccomp": {"syscalls": [{"names": None}]}}}])
def test_documents_that_are_not_good_are_compared_too(one, other):
    rows(one, other)
    rows(other, one)
