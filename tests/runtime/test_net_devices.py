"""`linux.netDevices`: links of the host in the container's network namespace."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from oci_tools.linux.netlink import Rtnetlink
from tests.box import host

pytestmark = pytest.mark.root


@pytest.fixture
def link() -> Iterator[str]:
    """A pair of links; this is the name of one, with addresses."""
    name = f"t{uuid.uuid4().hex[:8]}"
    done = subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], capture_output=True)
    if done.returncode:
        pytest.skip("needs veth links")
    host("ip", "addr", "add", "10.9.8.7/24", "dev", name)
    host("ip", "addr", "add", "fd00:9::7/64", "dev", name, "nodad")
    host("ip", "link", "set", name, "up")
    yield name
    subprocess.run(["ip", "link", "del", f"{name}p"], capture_output=True)  # if it did not go with the namespace


def test_it_moves_with_name_and_addresses(box: Any, link: str) -> None:
    box.linux["netDevices"] = {link: {"name": "eth7"}}
    said = box.says(f"ip addr show eth7; ip addr show {link} 2>&1; true")
    assert "inet 10.9.8.7/24" in said and "inet6 fd00:9::7/64" in said and "UP" in said
    assert f"'{link}'" in said or "can't find" in said


def test_the_kernel_counts_the_name(box: Any, link: str) -> None:
    box.linux["netDevices"] = {link: {"name": "eth%d"}}
    assert "eth0" in box.says("ip -o link")


def test_it_keeps_its_name(box: Any, link: str) -> None:
    box.linux["netDevices"] = {link: {}}
    assert link in box.says("ip -o link")


def test_a_namespace_by_path(box: Any, link: str) -> None:
    space = f"{link}-ns"
    host("ip", "netns", "add", space)
    try:
        box.namespace("network", f"/run/netns/{space}")
        box.linux["netDevices"] = {link: {"name": "eth1"}}
        assert "10.9.8.7" in box.says("ip addr show eth1")
    finally:
        host("ip", "netns", "del", space)


def test_in_a_user_namespace(box: Any, link: str) -> None:
    box.mapped()
    box.linux["netDevices"] = {link: {"name": "eth1"}}
    assert "10.9.8.7" in box.says("ip addr show eth1")


def test_one_that_is_not_there(box: Any) -> None:
    box.linux["netDevices"] = {"nosuch0": {}}
    assert box.sh("true", code=1).stderr == "oci-run: cannot move network device 'nosuch0': no such device\n"


def test_the_kernels_answers(link: str) -> None:
    with Rtnetlink() as kernel:
        listed = json.loads(host("ip", "-json", "link"))
        assert kernel.links()[link] == next(each["ifindex"] for each in listed if each["ifname"] == link)
        found = [(one.family, one.prefix) for one in kernel.addresses(kernel.links()[link]) if one.scope == 0]
        assert found == [(2, 24), (10, 64)]
        with pytest.raises(OSError, match="No such device"):
            kernel.set_up(99999, True)
