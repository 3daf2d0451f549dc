"""oci-net attach and detach of a bridge network with a published port, beside CNI's bridge and portmap, and netavark

One namespace for each round, made before; the peers' files are what podman and containerd would give them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.measure import OURS, Missing, Side, as_installed, need

BAR = 1.0
ROUNDS = 25
PLUGINS, NETAVARK = "/usr/lib/cni", "/usr/lib/podman/netavark"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    need("nft")
    for path in (f"{PLUGINS}/bridge", f"{PLUGINS}/portmap", NETAVARK):
        if not Path(path).exists():
            raise Missing(path)

    def fresh(name: str, script: Callable[[str], str]) -> Callable[[int], list[str]]:
        def words(i: int) -> list[str]:
            space = f"{name}{i + 1}"
            subprocess.run(["ip", "netns", "add", space], check=True)
            return ["/bin/sh", "-ec", script(f"/run/netns/{space}")]

        return words

    def ours(space: str) -> str:
        return f"{OURS['net']} attach -p 8080:80 plain {space} && {OURS['net']} detach plain {space}"

    bridge, portmap = cni(work, "bridge"), cni(work, "portmap")

    def plugins(space: str) -> str:
        ask = f"CNI_CONTAINERID={Path(space).name} CNI_NETNS={space} CNI_IFNAME=eth0 CNI_PATH={PLUGINS}"
        return "; ".join([
            f"CNI_COMMAND=ADD {ask} {PLUGINS}/bridge <{bridge} >{work}/result",
            f"{{ head -c -2 {portmap}; printf ', \"prevResult\": '; cat {work}/result; printf '}}'; }} >{work}/asked",
            f"CNI_COMMAND=ADD {ask} {PLUGINS}/portmap <{work}/asked",
            f"CNI_COMMAND=DEL {ask} {PLUGINS}/portmap <{work}/asked",
            f"CNI_COMMAND=DEL {ask} {PLUGINS}/bridge <{bridge}",
        ])  # fmt: skip

    asked = netavark(work)

    def theirs(space: str) -> str:
        run = f"{NETAVARK} --config {work}/netavark"
        return f"{run} setup {space} <{asked}; {run} teardown {space} <{asked}"

    with peers.machine(), as_installed():
        mine = {"OCI_ROOT": f"{work}/root"}  # without a resolver, as the others are asked
        subprocess.run([OURS["net"], "create", "--disable-dns", "plain"], check=True, stdout=subprocess.DEVNULL, env=mine)
        yield {
            "oci-net": Side(fresh("o", ours), mine),
            "CNI bridge+portmap": Side(fresh("c", plugins)),
            "netavark": Side(fresh("n", theirs)),
        }


def cni(work: Path, name: str) -> Path:
    """What a plugin reads."""
    made: dict[str, Any] = {"cniVersion": "1.0.0", "name": "bench", "type": name}
    if name == "bridge":
        ranges = [[{"subnet": "10.201.0.0/16"}]]
        made |= {"bridge": "cni0", "isGateway": True, "ipMasq": True,
                 "ipam": {"type": "host-local", "ranges": ranges, "dataDir": f"{work}/ipam", "routes": [{"dst": "0.0.0.0/0"}]}}  # fmt: skip
    else:
        made["runtimeConfig"] = {"portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}]}
    path = work / f"{name}.json"
    path.write_text(json.dumps(made) + "\n")
    return path


def netavark(work: Path) -> Path:
    """What podman says to netavark."""
    info = {
        "name": "bench", "id": "b" * 64, "driver": "bridge", "network_interface": "podman9", "internal": False,
        "subnets": [{"subnet": "10.202.0.0/16", "gateway": "10.202.0.1"}], "ipv6_enabled": False,
        "dns_enabled": False, "ipam_options": {"driver": "host-local"},
    }  # fmt: skip
    asked = {
        "container_id": "c" * 64, "container_name": "bench",
        "networks": {"bench": {"interface_name": "eth0", "static_ips": ["10.202.0.9"]}}, "network_info": {"bench": info},
        "port_mappings": [{"host_ip": "", "host_port": 8082, "container_port": 80, "protocol": "tcp", "range": 1}],
    }  # fmt: skip
    path = work / "netavark.json"
    path.write_text(json.dumps(asked))
    (work / "netavark").mkdir()
    return path
