"""Verbs of networks, volumes, contexts, and of the engine itself."""

from __future__ import annotations

from oci_tools import cli, document
from oci_tools.cmd.ctl import hosts, output
from oci_tools.cmd.ctl.containers import all_of, filters
from oci_tools.cmd.ctl.engine import Engine, part
from oci_tools.cmd.ctl.running import one, where
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

Engines = list[Engine]


def _removed(words: list[str], remove: Callable[[str], Any]) -> int:
    def act(word: str) -> None:
        remove(word)
        print(word, flush=True)

    return cli.each("oci-ctl", words, act)


def _shown(args: Args, found: list[dict[str, Any]]) -> None:
    if args.format:
        output.formatted(args.format, found)
    else:
        print(document.dumps(found, indent=2).decode().rstrip("\n"))


# -- networks ------------------------------------------------------------------------------------


def network_ls(args: Args, engines: Engines) -> None:
    found = all_of(engines, lambda engine: engine.get("/networks", {"filters": filters(args.filter)}))
    columns: list[output.Column] = [
        ("id", lambda record: record["Id"] if args.no_trunc else record["Id"][:12]),
        ("name", lambda record: record["Name"]),
        ("driver", lambda record: record["Driver"]),
        ("scope", lambda record: record["Scope"]),
    ]
    output.rows(args, found, columns, len(engines) > 1)


def network_create(args: Args, engines: Engines) -> None:
    pools: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in args.subnet]
    for key, option, values in (("Gateway", "gateway", args.gateway), ("IPRange", "ip-range", args.ip_range)):
        for value in values:
            _around(pools, value, option)[key] = value
    for name, value in cli.pairs(args.aux_address, "--aux-address").items():
        _around(pools, value, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = value
    body = {
        "Name": args.name, "Driver": args.driver, "Internal": args.internal, "EnableIPv6": args.ipv6,
        "Attachable": False,
        "IPAM": {"Driver": "default", "Config": pools},
        "Options": cli.pairs(args.opt, "--opt"), "Labels": cli.pairs(args.label, "--label"),
        "CheckDuplicate": True,
    }  # fmt: skip
    print(one(engines).post("/networks/create", None, body)["Id"])


def _around(pools: list[dict[str, Any]], word: str, option: str) -> dict[str, Any]:
    """The pool whose subnet an address is in; what is neither is the engine's to judge, of the only one there is."""
    import ipaddress

    try:
        this = ipaddress.ip_interface(word).ip
        for pool in pools:
            if this in ipaddress.ip_network(pool["Subnet"], False):
                return pool
    except ValueError:
        pass
    if len(pools) == 1:
        return pools[0]
    raise Usage(f"no matching subnet for {option}", word)


def network_rm(args: Args, engines: Engines) -> int:
    return _removed(args.network, lambda name: one(engines).delete(f"/networks/{part(name)}"))


def network_inspect(args: Args, engines: Engines) -> None:
    _shown(args, [one(engines).get(f"/networks/{part(name)}", {"verbose": None}) for name in args.network])


def network_connect(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    config = {key: value for key, value in (("IPv4Address", args.ip), ("IPv6Address", args.ip6)) if value}
    end: dict[str, Any] = {"Aliases": args.alias, **({"IPAMConfig": config} if config else {})}
    engine.post(
        f"/networks/{part(args.network)}/connect", None, {"Container": said["Id"], "EndpointConfig": end}
    )


def network_disconnect(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    engine.post(
        f"/networks/{part(args.network)}/disconnect", None, {"Container": said["Id"], "Force": args.force}
    )


def network_prune(args: Args, engines: Engines) -> None:
    for engine in engines:
        for name in (
            engine.post("/networks/prune", {"filters": filters(args.filter)}).get("NetworksDeleted") or ()
        ):
            print(name)


# -- volumes -------------------------------------------------------------------------------------


def volume_ls(args: Args, engines: Engines) -> None:
    query = {"filters": filters(args.filter)}
    found = all_of(engines, lambda engine: engine.get("/volumes", query).get("Volumes") or [])
    columns: list[output.Column] = [
        ("driver", lambda record: record["Driver"]),
        ("name", lambda record: record["Name"]),
        ("mountpoint", lambda record: record["Mountpoint"]),
    ]
    output.rows(args, found, columns, len(engines) > 1, key="name")


def volume_create(args: Args, engines: Engines) -> None:
    body = {
        "Name": args.name or "",
        "Driver": args.driver,
        "DriverOpts": cli.pairs(args.opt, "--opt"),
        "Labels": cli.pairs(args.label, "--label"),
    }
    print(one(engines).post("/volumes/create", None, body)["Name"])


def volume_rm(args: Args, engines: Engines) -> int:
    return _removed(
        args.volume, lambda name: one(engines).delete(f"/volumes/{part(name)}", {"force": args.force})
    )


def volume_inspect(args: Args, engines: Engines) -> None:
    _shown(args, [one(engines).get(f"/volumes/{part(name)}") for name in args.volume])


def volume_prune(args: Args, engines: Engines) -> None:
    wanted = {**(filters(args.filter) or {}), **({"all": ["true"]} if args.all else {})}
    for engine in engines:
        for name in engine.post("/volumes/prune", {"filters": wanted or None}).get("VolumesDeleted") or ():
            print(name)


# -- the engine -----------------------------------------------------------------------------------


def info(args: Args, engines: Engines) -> None:
    found = all_of(engines, lambda engine: [engine.get("/info")])
    if args.format or args.json:
        return output.rows(args, found, [], False)
    for said in found:
        names = (
            "Host ServerVersion Name ID OperatingSystem KernelVersion Architecture NCPU MemTotal Containers "
            "ContainersRunning ContainersPaused ContainersStopped Images Driver LoggingDriver CgroupVersion"
        ).split()
        print(
            "".join(
                f"{name}\t{output.clean(output.text(said.get(name)))}\n" for name in [*names, "DockerRootDir"]
            ),
            end="",
        )


def version(args: Args, engines: Engines) -> None:
    from oci_tools import __version__

    found = all_of(engines, lambda engine: [engine.get("/version")])
    if args.format or args.json:
        return output.rows(
            args, [{"Client": {"Version": __version__}, "Server": said} for said in found], [], False
        )
    print(f"client\t{__version__}")
    for said in found:
        ours = next(
            (each["Version"] for each in said.get("Components") or () if each["Name"] == "ocid"),
            said["Version"],
        )
        print(f"server\t{ours}\t{said['ApiVersion']}\t{said['Host']}")


def df(args: Args, engines: Engines) -> None:
    for engine in engines:
        said = engine.get("/system/df")
        if args.json:
            print(document.dumps(said).decode())
            continue
        sizes = {
            "images": [image["Size"] for image in said.get("Images") or ()],
            "containers": [each.get("SizeRw") or 0 for each in said.get("Containers") or ()],
            "volumes": [each["UsageData"]["Size"] for each in said.get("Volumes") or ()],
        }
        whole = {"images": said.get("LayersSize") or 0}
        lines = [[kind, str(len(found)), str(whole.get(kind, sum(found)))] for kind, found in sizes.items()]
        output.table(["type", "count", "bytes"], lines)


def prune(args: Args, engines: Engines) -> None:
    """Containers that ended, networks nobody is on, images without a name; with options more."""
    kinds = ["/containers/prune", "/networks/prune", *(["/volumes/prune"] if args.volumes else [])]
    for engine in engines:
        reclaimed = 0
        for path in kinds:
            said = engine.post(path, {"filters": filters(args.filter)})
            reclaimed += said.get("SpaceReclaimed") or 0
        wanted = {**(filters(args.filter) or {}), "dangling": ["false" if args.all else "true"]}
        reclaimed += engine.post("/images/prune", {"filters": wanted}).get("SpaceReclaimed") or 0
        print(f"{engine.name}\t{reclaimed}" if len(engines) > 1 else reclaimed)


# -- contexts -----------------------------------------------------------------------------------


def context_create(args: Args) -> None:
    said = {"host": args.address, "ca": args.ca or "", "cert": args.cert or "", "key": args.key or ""}
    hosts.save(args.name, {name: value for name, value in said.items() if value})
    print(args.name)


def context_ls(args: Args) -> None:
    used = hosts.current() or "default"
    found = [{"Name": "default", "Current": used == "default", "Endpoint": hosts.local()}]
    found += [
        {"Name": name, "Current": used == name, "Endpoint": hosts.load(name)["host"]}
        for name in hosts.names()
    ]
    columns: list[output.Column] = [
        ("name", lambda record: record["Name"]),
        ("current", lambda record: "*" if record["Current"] else ""),
        ("endpoint", lambda record: record["Endpoint"]),
    ]
    output.rows(args, found, columns, False)


def context_use(args: Args) -> None:
    hosts.use(args.name)
    print(args.name)


def context_rm(args: Args) -> int:
    return _removed(args.name, hosts.remove)


def context_inspect(args: Args) -> None:
    print(document.dumps({"Name": args.name, **hosts.load(args.name)}, indent=2).decode().rstrip("\n"))
