"""systemd's words, without it: names of units and slices, limits as properties, annotations.  With it: tests/vm."""

from __future__ import annotations

from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import devices, gvariant, resources, systemd


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, ("system.slice", "oci-c1.scope")),
        ("", ("system.slice", "oci-c1.scope")),
        ("machine.slice:libpod:4f", ("machine.slice", "libpod-4f.scope")),
        ("system.slice:docker:4f", ("system.slice", "docker-4f.scope")),
        (":cri-containerd:4f", ("system.slice", "cri-containerd-4f.scope")),
        ("a.slice::plain", ("a.slice", "plain.scope")),
        ("-.slice:x:y", ("-.slice", "x-y.scope")),
    ],
)
def test_units(path: str | None, expected: tuple[str, str]) -> None:
    assert systemd.parse(path, "c1", "system.slice") == expected


@pytest.mark.parametrize("path", ["/a/b", "a", "a:b", "a:b:c:d", "x.slice:a:", "x:a:b", "a--b.slice:x:y", "a/b.slice:x:y", "a.slice:b:c.slice"])
def test_what_names_no_unit(path: str) -> None:
    with pytest.raises(Error, match=r"config.json: linux.cgroupsPath: "):
        systemd.parse(path, "c1", "system.slice")


@pytest.mark.parametrize(
    ("slice", "expected"),
    [
        ("-.slice", ""),
        ("system.slice", "/system.slice"),
        ("kubepods-burstable-pod12.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice"),
    ],
)
def test_where_a_slice_is(slice: str, expected: str) -> None:
    assert systemd.expand(slice) == expected


def told(**wanted: Any) -> dict[str, Any]:
    return {name: value for name, (_, value) in systemd.limits(resources.plan_v2(wanted))}


def test_limits() -> None:
    mib = 1 << 20
    assert told(memory={"limit": 64 * mib, "swap": 96 * mib, "reservation": 16 * mib}) == {
        "MemoryMax": 64 * mib, "MemorySwapMax": 32 * mib, "MemoryLow": 16 * mib,
    }  # fmt: skip
    assert told(memory={"limit": -1}, pids={"limit": -1}) == {
        "MemoryMax": 2**64 - 1, "MemorySwapMax": 2**64 - 1, "TasksMax": 2**64 - 1,
    }  # fmt: skip
    assert told(pids={"limit": 0}) == {"TasksMax": 1}  # it takes no 0; the file has it
    assert told(cpu={"shares": 1024, "idle": 0}) == {"CPUWeight": 100}
    assert told(cpu={"idle": 1}) == {"CPUWeight": 0}
    assert told(blockIO={"weight": 500}) == {"IOWeight": 4950}
    assert told(unified={"memory.high": "max", "memory.min": "4096", "hugetlb.2MB.max": "0"}) == {
        "MemoryHigh": 2**64 - 1, "MemoryMin": 4096,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpu", "each", "period"),
    [
        ({"quota": 50000, "period": 100000}, 500000, 100000),
        ({"quota": 33333, "period": 100000}, 340000, 100000),  # in whole hundredths, upwards
        ({"quota": 300000, "period": 200000}, 1500000, 200000),
        ({"quota": -1}, 2**64 - 1, 100000),
    ],
)
def test_quotas(cpu: dict[str, int], each: int, period: int) -> None:
    assert told(cpu=cpu) == {"CPUQuotaPerSecUSec": each, "CPUQuotaPeriodUSec": period}


def test_processors_as_bits() -> None:
    assert told(cpu={"cpus": "0-1,9", "mems": "0"}) == {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"}


def test_devices() -> None:
    spec = {"linux": {"resources": {"devices": [{"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"}]}}}
    said = dict(systemd.device_policy(devices.rules(spec)))
    assert said["DevicePolicy"] == ("s", "strict")
    allowed = dict(said["DeviceAllow"][1])
    assert allowed["/dev/char/1:3"] == "rwm" and allowed["/dev/block/7:0"] == "r" and allowed["char-*"] == "m"
    assert allowed["/dev/char/10:200"] == "rwm" and "/dev/char/1:1" not in allowed
    everything = {"linux": {"resources": {"devices": [{"allow": True, "access": "rwm"}]}}}
    assert dict(systemd.device_policy(devices.rules(everything)))["DevicePolicy"] == ("s", "auto")


def test_annotations() -> None:
    spec = {"annotations": {
        "org.systemd.property.TimeoutStopUSec": "uint64 123456789", "org.systemd.property.TimeoutStartSec": "7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'", "org.example": "'x'",
    }}  # fmt: skip
    assert systemd.annotated(spec) == [
        ("TimeoutStopUSec", ("t", 123456789)), ("TimeoutStartUSec", ("t", 7_000_000)), ("CollectMode", ("s", "inactive-or-failed")),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [("A-B", "1"), ("", "1"), ("X", "'open"), ("XSec", "'seven'"), ("X", "[1, 'x']"), ("X", "1 2")])
def test_annotations_that_are_none(name: str, text: str) -> None:
    with pytest.raises(Error, match=r"config.json: annotations: "):
        systemd.annotated({"annotations": {f"org.systemd.property.{name}": text}})


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", "b", True), ("42", "i", 42), ("-3", "i", -3), ("0x10", "i", 16), ("1.5", "d", 1.5), ("double 2", "d", 2.0),
        ("uint64 5", "t", 5), ("byte 7", "y", 7), ("'it\\'s'", "s", "it's"), ('"a\\nb"', "s", "a\nb"),
        ("['a', 'b']", "as", ["a", "b"]), ("[]", "as", []), ("[byte 1, byte 2]", "ay", b"\1\2"), (" [uint32 1] ", "au", [1]),
        ("objectpath '/x'", "o", "/x"),
    ],
)  # fmt: skip
def test_values_in_text(text: str, kind: str, value: Any) -> None:
    assert gvariant.parse(text) == (kind, value)


@pytest.mark.parametrize("text", ["", "'", "[1", "[1 2]", "uint64", "uint64 'x'", "string 5", "nonsense", "1 2", "{'a': 1}"])
def test_text_that_is_no_value(text: str) -> None:
    with pytest.raises(ValueError):
        gvariant.parse(text)
