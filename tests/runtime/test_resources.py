"""Limits as writes: cgroup v1's own numbers, and v2's made of them."""

from __future__ import annotations

from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime.resources import cpu_weight, io_weight, plan_v1, plan_v2


def v1(**wanted: Any) -> list[str]:
    return [f"{file}={value}" for _, file, value in plan_v1(wanted)]


def v2(**wanted: Any) -> list[str]:
    return [f"{file}={value}" for _, file, value in plan_v2(wanted)]


def test_nothing_asked_is_nothing_written() -> None:
    for empty in ({}, {"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "devices": []}):
        assert plan_v1(empty) == [] == plan_v2(empty)


@pytest.mark.parametrize(
    ("memory", "in_v1", "in_v2"),
    [
        ({"limit": 100}, ["memory.limit_in_bytes=100"], ["memory.max=100"]),
        ({"limit": 100, "swap": 150}, ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150"], ["memory.swap.max=50", "memory.max=100"]),
        ({"limit": 100, "swap": 100}, ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=100"], ["memory.swap.max=0", "memory.max=100"]),
        ({"limit": 100, "swap": -1}, ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=100"], ["memory.swap.max=max", "memory.max=100"]),
        ({"limit": -1}, ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"], ["memory.swap.max=max", "memory.max=max"]),
        ({"limit": -1, "swap": 0}, ["memory.limit_in_bytes=-1"], ["memory.swap.max=max", "memory.max=max"]),
        ({"limit": 0, "swap": 0}, [], []),
        ({"reservation": 7}, ["memory.soft_limit_in_bytes=7"], ["memory.low=7"]),
        ({"reservation": -1}, ["memory.soft_limit_in_bytes=-1"], ["memory.low=max"]),
        ({"swappiness": 0, "disableOOMKiller": True, "kernelTCP": 5}, ["memory.kmem.tcp.limit_in_bytes=5", "memory.swappiness=0", "memory.oom_control=1"], []),
        ({"disableOOMKiller": False}, [], []),
    ],
)  # fmt: skip
def test_memory(memory: dict[str, Any], in_v1: list[str], in_v2: list[str]) -> None:
    assert v1(memory=memory) == in_v1
    assert v2(memory=memory) == in_v2


@pytest.mark.parametrize("memory", [{"swap": 5}, {"swap": 5, "limit": -1}, {"swap": 5, "limit": 6}])
def test_swap_that_v2_cannot_have(memory: dict[str, Any]) -> None:
    with pytest.raises(Error, match=r"linux\.resources\.memory\.swap"):
        v2(memory=memory)


def test_processors() -> None:
    cpu = {"shares": 512, "quota": 5000, "period": 10000, "burst": 1, "cpus": "0-1", "mems": "0", "idle": 1}
    assert set(v1(cpu=cpu)) == {
        "cpu.shares=512", "cpu.cfs_quota_us=5000", "cpu.cfs_period_us=10000", "cpu.cfs_burst_us=1", "cpuset.cpus=0-1",
        "cpuset.mems=0", "cpu.idle=1",
    }  # fmt: skip
    assert set(v2(cpu=cpu)) == {
        "cpu.weight=59", "cpu.max=5000 10000", "cpu.max.burst=1", "cpuset.cpus=0-1", "cpuset.mems=0", "cpu.idle=1"
    }  # fmt: skip
    assert v2(cpu={"quota": -1}) == ["cpu.max=max 100000"]
    assert v2(cpu={"quota": 100}) == ["cpu.max=100 100000"]
    assert v2(cpu={"period": 100}) == ["cpu.max=max 100"]
    assert v1(cpu={"quota": -1}) == ["cpu.cfs_quota_us=-1"]
    assert v1(cpu={"shares": 0, "quota": 0, "period": 0}) == [] == v2(cpu={"shares": 0, "quota": 0, "period": 0})
    assert v1(cpu={"realtimePeriod": 1000, "realtimeRuntime": 5}) == ["cpu.rt_period_us=1000", "cpu.rt_runtime_us=5"]


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (10**9, 10000)]
)
def test_shares_as_weight(shares: int, weight: int) -> None:
    """The quadratic of runc 1.3.2 and crun 1.23: the kernel's defaults, 1024 and 100, meet."""
    assert cpu_weight(shares) == weight


def test_weights_never_fall_and_stay_in_range() -> None:
    found = [cpu_weight(shares) for shares in range(0, 263000, 37)]
    assert found == sorted(found) and set(found) <= set(range(1, 10001))
    assert [io_weight(weight) for weight in (10, 1000)] == [1, 10000]


def test_processes() -> None:
    assert v1(pids={"limit": 7}) == ["pids.max=7"] == v2(pids={"limit": 7})
    assert v1(pids={"limit": -1}) == ["pids.max=max"] == v2(pids={"limit": -1})
    assert v1(pids={"limit": 0}) == ["pids.max=0"] == v2(pids={"limit": 0})


def test_block_devices() -> None:
    block = {
        "weight": 500, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000, "leafWeight": 20}],
        **{f"throttle{kind}Device": [{"major": 8, "minor": 1, "rate": 99}] for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")},
    }  # fmt: skip
    assert v1(blockIO=block) == [
        "blkio.weight=500", "blkio.leaf_weight=10", "blkio.weight_device=8:0 1000", "blkio.leaf_weight_device=8:0 20",
        "blkio.throttle.read_bps_device=8:1 99", "blkio.throttle.write_bps_device=8:1 99",
        "blkio.throttle.read_iops_device=8:1 99", "blkio.throttle.write_iops_device=8:1 99",
    ]  # fmt: skip
    assert v2(blockIO=block) == [
        "io.weight=default 4950", "io.weight=8:0 10000", "io.max=8:1 rbps=99", "io.max=8:1 wbps=99", "io.max=8:1 riops=99",
        "io.max=8:1 wiops=99",
    ]  # fmt: skip


def test_the_rest() -> None:
    wanted: dict[str, Any] = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 5}], "network": {"classID": 3, "priorities": [{"name": "eth0", "priority": 2}]},
        "rdma": {"mlx5": {"hcaHandles": 3, "hcaObjects": 4}, "mlx4": {"hcaObjects": 1}},
    }  # fmt: skip
    assert {"hugetlb.2MB.limit_in_bytes=5", "net_cls.classid=3", "net_prio.ifpriomap=eth0 2",
            "rdma.max=mlx5 hca_handle=3 hca_object=4", "rdma.max=mlx4 hca_object=1"} <= set(v1(**wanted))  # fmt: skip
    assert {"hugetlb.2MB.max=5", "rdma.max=mlx5 hca_handle=3 hca_object=4"} <= set(v2(**wanted))
    assert not any("net" in step for step in v2(**wanted))


def test_unified() -> None:
    assert plan_v2({"unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:1 rbps=2"}}) == [
        ("memory", "memory.high", "5"), ("io", "io.max", "8:0 rbps=1"), ("io", "io.max", "8:1 rbps=2"),
    ]  # fmt: skip
    for name in "../cgroup.procs", "a/b", "nodot":
        with pytest.raises(Error, match="not a cgroup file"):
            plan_v2({"unified": {name: "1"}})
