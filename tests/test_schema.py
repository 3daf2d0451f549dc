"""Three judges of config.json agree: our schema, the hot path's table, the published schema.

The published schemas and examples are data beside the project (`../shared/schemas`); what
compares with them is skipped where they are not.
"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_tools import document, schema
from oci_tools.errors import Error
from oci_tools.runtime import check, fields, spec

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "schemas" / "runtime-spec"
published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the published schemas are not beside the project"
)
INFINITY = float("inf")


def ours(kind, value):
    """The verdict of our schema: a message, or None for good."""
    try:
        schema.check(kind, value)
    except Error as error:
        return str(error)
    return None


def hot(value):
    """The verdict of the hot path on the types alone."""
    try:
        check.fields(value, fields.CONFIG, "config")
    except Error as error:
        return str(error)
    return None


class Judge:
    """A validator kept, since a thousand documents are judged."""

    def __init__(self, validator):
        self.validator = validator

    def __call__(self, value):
        return next((error.message for error in self.validator.iter_errors(value)), None)


@pytest.fixture(scope="module")
def mine():
    return Judge(schema.validator("config"))


def published_judge(kind):
    from jsonschema import Draft4Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    base = "http://example.org/"
    resources = [
        (base + path.name, Resource(contents=json.loads(path.read_text()), specification=DRAFT4))
        for path in sorted((PUBLISHED / "schema").iterdir())
    ]
    registry = Registry().with_resources(resources)
    return Judge(Draft4Validator({"$ref": f"{base}{kind}-schema.json"}, registry=registry))


@pytest.fixture(scope="module")
def theirs():
    return published_judge("config")


# -- documents to judge: everything the table knows, each value replaced in turn ------------


def sample(kind):
    """A good value of a kind."""
    if isinstance(kind, dict):
        return {("some" if name == "*" else name): sample(inner) for name, inner in kind.items() if name}
    if isinstance(kind, list):
        return [sample(kind[0])]
    if isinstance(kind, tuple):
        return max(kind[0], 0) + 1 if kind[1] > 1 else kind[1]
    if isinstance(kind, frozenset):
        return min(kind)
    if kind in ("text", "bool"):
        return "some" if kind == "text" else True
    return {
        fields.rlimit: "RLIMIT_NOFILE",
        fields.page_size: "64KB",
        fields.cpu_list: "0-3, 7",
        fields.memory_bandwidth: "MB:0=20",
    }[kind]


VALUES = (
    None, True, False, 0, 1, -1, 511, 512, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64,
    -(2**31) - 1, -(2**63) - 1, 1.0, 1.5, INFINITY, "", "x", "/x", "c", "RLIMIT_x", "RLIMIT_CPU1", "0MB", "2mB",
    "MB:", "MB:\n", "1-x", "é", [], [1], ["x"], [None], {}, {"x": 1}, {"x": "x"}, {"x": {}},
)  # fmt: skip


def paths(kind, at=()):
    """The path of everything in the sample of a kind."""
    yield at
    if isinstance(kind, dict):
        for name, inner in kind.items():
            if name:
                yield from paths(inner, (*at, "some" if name == "*" else name))
    if isinstance(kind, list):
        yield from paths(kind[0], (*at, 0))


def narrow(kind, path):
    """The sample of a kind with only what `path` leads through, and what is required beside it."""
    if not path:
        return sample(kind)
    if isinstance(kind, list):
        return [narrow(kind[0], path[1:])]
    every = "*" in kind
    value = {} if every else {name: sample(kind[name]) for name in kind.get("", ())}
    value[path[0]] = narrow(kind["*"] if every else kind[path[0]], path[1:])
    return value


def replaced(value, path, new):
    """`value` with what is at `path` replaced, or taken out if `new` is Ellipsis."""
    if not path:
        return new
    value = copy.copy(value)
    if len(path) == 1 and new is ...:
        del value[path[0]]
    else:
        value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def mutants(kind):
    for path in paths(kind):
        if path:
            good = narrow(kind, path)
            yield path, good
            yield path, replaced(good, path, ...)
            for value in VALUES:
                yield path, replaced(good, path, value)


def test_the_sample_of_everything_is_good(mine):
    everything = sample(fields.CONFIG)
    assert hot(everything) is None
    assert mine(everything) is None


def test_hot_path_and_schema_agree_on_every_field(mine):
    seen = 0
    for path, value in mutants(fields.CONFIG):
        assert (hot(value) is None) == (mine(value) is None), (path, value, hot(value), mine(value))
        seen += 1
    assert seen > 5000


@published
def test_our_schema_and_the_published_one_agree_on_every_field(mine, theirs):
    for path, value in mutants(fields.CONFIG):
        if "MB:\\n" in str(value):
            continue  # to Python's `$`, unlike to others', the newline is not there
        assert (mine(value) is None) == (theirs(value) is None), (path, value, mine(value), theirs(value))


def test_both_refuse_strings_that_no_system_call_takes(mine):
    for path in paths(fields.CONFIG):
        value = narrow(fields.CONFIG, path)
        at = value
        for step in path:
            at = at[step]
        if at != "some":
            continue
        for text in ("a\0b", "\0", "\ud800", "\udc00", "\udd00"):
            bad = replaced(value, path, text)
            assert hot(bad) and mine(bad), path
        for text in ("a\nb\n", "é", "\U0001f600", "\udc80"):
            good = replaced(value, path, text)
            assert hot(good) is None and mine(good) is None, path


@published
def test_what_engines_write_for_propagation_is_taken(theirs):
    value = {"ociVersion": "1.0.0", "linux": {"rootfsPropagation": "rslave"}}
    assert theirs(value) is not None
    assert ours("config", value) is None and hot(value) is None


json_values = st.recursive(
    st.sampled_from(VALUES) | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["path", "type"]), inner),
    max_leaves=4,
)
SPECS = (spec.default(), spec.default(rootless=True), sample(fields.CONFIG))


@settings(max_examples=150, deadline=None)
@given(
    base=st.sampled_from(SPECS),
    changes=st.lists(st.tuples(st.floats(0, 1), json_values), min_size=1, max_size=3),
)
def test_any_change_of_a_good_document_is_judged_alike(mine, base, changes):
    value = copy.deepcopy(base)
    for where, new in changes:
        known = list(existing(value))
        path = known[int(where * (len(known) - 1))]
        value = replaced(value, path, new)
    assert (hot(value) is None) == (mine(value) is None), (hot(value), mine(value))


def existing(value, at=()):
    yield at
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from existing(inner, (*at, name))
    if isinstance(value, list):
        for i, inner in enumerate(value):
            yield from existing(inner, (*at, i))


# -- the other kinds, and the published examples ----------------------------------------------


@published
@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.glob("cases/*/*/*.json")), ids=lambda p: "-".join(p.parts[-3:])
)
def test_published_example(path):
    kind, verdict = path.parts[-3:-1]
    try:
        schema.check(kind, document.load(str(path)))
    except Error as error:
        assert verdict == "bad", error
    else:
        assert verdict == "good"


OTHERS = {
    "state": {"ociVersion": "1.3.0", "id": "a", "status": "running", "pid": 1, "bundle": "/b",
              "annotations": {"a": "b"}},
    "features": {
        "ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "hooks": ["prestart"], "mountOptions": ["ro"],
        "annotations": {"a": "b"}, "potentiallyUnsafeConfigAnnotations": ["a"],
        "linux": {
            "namespaces": ["pid"], "capabilities": ["CAP_KILL"],
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True, "actions": ["SCMP_ACT_LOG"], "operators": ["SCMP_CMP_EQ"],
                "archs": ["SCMP_ARCH_X86"], "knownFlags": ["SECCOMP_FILTER_FLAG_LOG"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG"],
            },
            "apparmor": {"enabled": True}, "selinux": {"enabled": True}, "intelRdt": {"enabled": True},
            "netDevices": {"enabled": True}, "mountExtensions": {"idmap": {"enabled": True}},
        },
    },
    "config": {
        "ociVersion": "1.3.0", "root": {"path": "rootfs"},
        "solaris": {
            "milestone": "a", "limitpriv": "a", "maxShmMemory": "a", "cappedCPU": {"ncpus": "8"},
            "cappedMemory": {"physical": "1g", "swap": "1g"},
            "anet": [{"linkname": "a", "lowerLink": "a", "allowedAddress": "a", "macAddress": "a",
                      "configureAllowedAddress": "a", "defrouter": "a", "linkProtection": "a"}],
        },
        "windows": {
            "layerFolders": ["a"], "devices": [{"id": "a", "idType": "class"}],
            "resources": {
                "memory": {"limit": 1}, "storage": {"iops": 1, "bps": 1, "sandboxSize": 1},
                "cpu": {"count": 1, "shares": 1, "maximum": 1, "affinity": {"mask": 1, "group": 1}},
            },
            "network": {"endpointList": ["a"], "allowUnqualifiedDNSQuery": True, "DNSSearchList": ["a"],
                        "networkSharedContainerName": "a", "networkNamespace": "a"},
            "credentialSpec": {}, "servicing": True, "ignoreFlushesDuringBoot": True,
            "hyperv": {"utilityVMPath": "a"},
        },
        "vm": {
            "hypervisor": {"path": "a", "parameters": ["a"]},
            "kernel": {"path": "a", "parameters": ["a"], "initrd": "a"},
            "image": {"path": "a", "format": "raw"},
            "hwConfig": {"deviceTree": "a", "vcpus": 1, "memory": 1, "dtdevs": ["a"], "irqs": [1],
                         "iomems": [{"firstGFN": 1, "firstMFN": 1, "nrMFNs": 1}]},
        },
        "zos": {"namespaces": [{"type": "pid", "path": "/a"}]},
        "freebsd": {
            "devices": [{"path": "pf", "mode": 448}],
            "jail": {
                "parent": "a", "host": "new", "ip4": "disable", "ip4Addr": ["a"], "ip6": "new",
                "ip6Addr": ["a"], "vnet": "inherit", "interface": "a", "vnetInterfaces": ["a"],
                "sysvmsg": "new", "sysvsem": "new", "sysvshm": "new", "enforceStatfs": 1,
                "allow": {"setHostname": True, "rawSockets": True, "chflags": True, "mount": ["tmpfs"],
                          "quotas": True, "socketAf": True, "mlock": True, "reservedPorts": True, "suser": True},
            },
        },
    },
}  # fmt: skip


@published
@pytest.mark.parametrize("kind", OTHERS)
def test_documents_without_a_hot_path_agree_with_the_published_schema(kind):
    good, mine, theirs = OTHERS[kind], Judge(schema.validator(kind)), published_judge(kind)
    assert mine(good) is None and theirs(good) is None
    for path in existing(good):
        for value in (..., *VALUES):
            bad = {} if not path else replaced(good, path, value)
            if kind == "config" and path[:1] not in ((name,) for name in fields.FOREIGN):
                continue
            assert (mine(bad) is None) == (theirs(bad) is None), (path, value, mine(bad), theirs(bad))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"ociVersion": "1.3.0", "process": {"cwd": "/", "args": [5]}}, "process.args[0]: expected a string, got 5"),
        ({"ociVersion": "1.3.0", "process": {}}, "process.cwd: missing"),
        ({"ociVersion": "1.3.0", "linux": {"sysctl": {"a.b": 1}}}, 'linux.sysctl["a.b"]: expected a string, got 1'),
        ({"ociVersion": "1.3.0", "root": []}, "root: expected an object, got []"),
        ({"ociVersion": "1.3.0", "linux": {"namespaces": [{"type": "x"}]}},
         'linux.namespaces[0].type: expected one of mount, pid, network, uts, ipc, user, cgroup, time, got "x"'),
        ({}, "ociVersion: missing"),
        ([], "expected an object, got []"),
    ],
)  # fmt: skip
def test_messages_name_the_path_and_the_value(value, message):
    with pytest.raises(Error) as caught:
        schema.check("config", value, "config.json")
    assert str(caught.value) == f"config.json: {message}"
