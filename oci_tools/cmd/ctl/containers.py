"""Verbs of containers that are not somebody's foreground."""

from __future__ import annotations

import os
import sys

from oci_tools import cli, document, fs
from oci_tools.cmd.ctl import output, wording
from oci_tools.cmd.ctl.engine import Engine, Refused, part
from oci_tools.cmd.ctl.running import where
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.cli import Args

Engines = list[Engine]


def each(words: list[str], engines: Engines, action: Callable[[Engine, str], Any]) -> int:
    """Do something to each container where it is, and print its word; go on after those that fail."""

    def act(word: str) -> None:
        engine, said = where(engines, word) if len(engines) > 1 else (engines[0], {"Id": part(word)})
        action(engine, said["Id"])
        print(word, flush=True)

    return cli.each("oci-ctl", words, act)


def posts(verb: str, *query: str) -> Callable[[Args, Engines], int]:
    """A verb that is a POST with these of its options as the query."""

    def act(args: Args, engines: Engines) -> int:
        said = {name: getattr(args, "time" if name == "t" else name) for name in query}
        return each(
            args.container, engines, lambda engine, name: engine.post(f"/containers/{name}/{verb}", said)
        )

    return act


def rm(args: Args, engines: Engines) -> int:
    def remove(engine: Engine, name: str) -> None:
        try:
            engine.delete(f"/containers/{name}", {"force": args.force, "v": args.volumes})
        except Refused as error:
            if not (args.force and error.status == 404):
                raise

    return each(args.container, engines, remove)


# -- looking ------------------------------------------------------------------------------------


def filters(words: list[str]) -> dict[str, list[str]] | None:
    """--filter NAME=VALUE as the API takes it."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Usage("invalid value for --filter", word, hint="NAME=VALUE")
        found.setdefault(name, []).append(value)
    return found or None


def all_of(engines: Engines, ask: Callable[[Engine], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of every engine, each with its "Host"; asked for at the same time."""
    import threading

    found: list[list[dict[str, Any]] | Error] = [[] for _ in engines]

    def one(at: int) -> None:
        try:
            found[at] = [{"Host": engines[at].name, **record} for record in ask(engines[at])]
        except Error as error:
            found[at] = error

    threads = [threading.Thread(target=one, args=(at,)) for at in range(len(engines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [each for each in found if isinstance(each, Error)]
    if wrong and (len(engines) == 1 or len(wrong) == len(engines)):
        raise wrong[0]
    for error in wrong:
        cli.say("oci-ctl", error)
    return [record for each in found if not isinstance(each, Error) for record in each]


def ports(found: list[dict[str, Any]]) -> str:
    """0.0.0.0:8080->80/tcp, as people know it."""
    said = []
    for port in found:
        inner = f"{port['PrivatePort']}/{port['Type']}"
        address = f"[{port['IP']}]" if ":" in port.get("IP", "") else port.get("IP")
        said.append(f"{address}:{port['PublicPort']}->{inner}" if port.get("PublicPort") else inner)
    return ", ".join(said)


def ps(args: Args, engines: Engines) -> None:
    query = {"all": args.all, "size": args.size, "limit": args.last or None, "filters": filters(args.filter)}
    found = all_of(engines, lambda engine: engine.get("/containers/json", query))
    cut = None if args.no_trunc else 12
    columns: list[output.Column] = [
        ("id", lambda record: record["Id"][:cut]),
        ("image", lambda record: record["Image"]),
        ("command", lambda record: record["Command"] if args.no_trunc else _short(record["Command"])),
        ("created", lambda record: _ago(record["Created"])),
        ("status", lambda record: record["Status"]),
        ("ports", lambda record: ports(record.get("Ports") or [])),
        ("names", lambda record: ",".join(name.lstrip("/") for name in record["Names"])),
    ]
    if args.size:
        columns.append(("size", lambda record: record.get("SizeRw")))
    output.rows(args, found, columns, len(engines) > 1)


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "\N{HORIZONTAL ELLIPSIS}"


def _ago(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def inspect(args: Args, engines: Engines) -> int:
    """All that is known of containers, images, volumes and networks, by whatever they are called."""
    found: list[dict[str, Any]] = []
    code = cli.each("oci-ctl", args.name, lambda word: found.append(_any(word, engines, args.type, args.size)))
    if args.format:
        output.formatted(args.format, found)
    elif args.json:
        for one in found:
            print(document.dumps(one).decode())
    else:
        print(document.dumps(found, indent=2).decode().rstrip("\n"))
    return code


_PATHS = {
    "container": "/containers/{}/json", "image": "/images/{}/json", "volume": "/volumes/{}", "network": "/networks/{}",
}  # fmt: skip


def _any(word: str, engines: Engines, kind: str | None, size: bool) -> dict[str, Any]:
    for name in [kind] if kind else list(_PATHS):
        for engine in engines:
            try:
                found: dict[str, Any] = engine.get(_PATHS[name].format(part(word)), {"size": size or None})
                return found
            except Refused as error:
                if error.status != 404:
                    raise
    raise Error(f"no such {kind or 'object'}", word)


def top(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    found = engine.get(f"/containers/{said['Id']}/top", {"ps_args": " ".join(args.option) or None})
    output.table(found["Titles"], found["Processes"])


def port(args: Args, engines: Engines) -> None:
    _, said = where(engines, args.container)
    bound = said["NetworkSettings"].get("Ports") or {}
    wanted = args.port if not args.port or "/" in args.port else f"{args.port}/tcp"
    if wanted and not bound.get(wanted):
        raise Error("no public port", wanted, f"published for '{args.container}'")
    for inner, outers in bound.items():
        for outer in outers or () if not wanted or inner == wanted else ():
            address = f"[{outer['HostIp']}]" if ":" in outer["HostIp"] else outer["HostIp"]
            line = f"{address}:{outer['HostPort']}"
            print(line if wanted else f"{inner}\t{line}")


def diff(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    for one in engine.get(f"/containers/{said['Id']}/changes") or ():
        print(f"{'CAD'[one['Kind']]}\t{one['Path']}")


def stats(args: Args, engines: Engines) -> None:
    """What containers use: one line each, every second until they have ended or with --no-stream once."""
    names = args.container or [
        record["Id"] for record in all_of(engines, lambda engine: engine.get("/containers/json"))
    ]
    plot = None
    if args.plot:
        from oci_tools.cmd.ctl import plotting

        plot = plotting.Plot()
    while names:
        found = [_measured(*where(engines, name)) for name in names]
        if plot:
            plot.show(found)
            names = [] if args.no_stream else _alive(names, found)
            continue
        columns: list[output.Column] = [
            (name, lambda record, name=name: record[name])  # type: ignore[misc]
            for name in (
                "id",
                "name",
                "cpu",
                "memory",
                "limit",
                "pids",
                "received",
                "sent",
                "read",
                "written",
            )
        ]
        output.rows(args, found, columns, False)
        sys.stdout.flush()
        if args.no_stream:
            return
        names = _alive(names, found)


def _alive(names: list[str], found: list[dict[str, Any]]) -> list[str]:
    return [name for name, record in zip(names, found, strict=True) if record["running"]]


def _measured(engine: Engine, said: dict[str, Any]) -> dict[str, Any]:
    data = engine.get(f"/containers/{said['Id']}/stats", {"stream": "0"})
    now, before = data["cpu_stats"], data["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    share = 100 * now.get("online_cpus", 1) * used / passed if passed > 0 else 0.0
    memory = data.get("memory_stats") or {}
    links = (data.get("networks") or {}).values()
    disk = {"Read": 0, "Write": 0}
    for entry in (data.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        name = str(entry.get("op", "")).capitalize()
        if name in disk:
            disk[name] += entry["value"]
    inactive = memory.get("stats") or {}
    spare = inactive.get("total_inactive_file", inactive.get("inactive_file", 0))
    return {
        "id": said["Id"][:12], "name": said["Name"].lstrip("/"), "cpu": f"{share:.2f}",
        "memory": max(0, memory.get("usage", 0) - spare), "limit": memory.get("limit", 0),
        "pids": (data.get("pids_stats") or {}).get("current", 0), "received": sum(link["rx_bytes"] for link in links),
        "sent": sum(link["tx_bytes"] for link in links), "read": disk["Read"], "written": disk["Write"],
        "running": bool(said["State"]["Running"]),
    }  # fmt: skip


def events(args: Args, engines: Engines) -> None:
    from oci_tools.cmd.ctl.running import _moment, one

    engine = one(engines)
    query = {"since": _moment(args.since), "until": _moment(args.until), "filters": filters(args.filter)}
    for said in engine.lines(engine.ask("GET", "/events", query)):
        if args.json:
            print(document.dumps(said).decode(), flush=True)
        elif args.format:
            output.formatted(args.format, [said])
            sys.stdout.flush()
        else:
            pairs = ", ".join(f"{key}={value}" for key, value in sorted(said["Actor"]["Attributes"].items()))
            line = [_ago(said["time"]), said["Type"], said["Action"], said["Actor"]["ID"], pairs]
            print("\t".join(output.clean(field) for field in line), flush=True)


# -- changing ------------------------------------------------------------------------------------


def rename(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    engine.post(f"/containers/{said['Id']}/rename", {"name": args.name})


def update(args: Args, engines: Engines) -> int:
    body: dict[str, Any] = {
        "Memory": wording.size(args.memory, "--memory"), "MemorySwap": wording.size(args.memory_swap, "--memory-swap"),
        "MemoryReservation": wording.size(args.memory_reservation, "--memory-reservation"),
        "NanoCpus": wording._cpus(args.cpus), "CpuShares": args.cpu_shares, "CpuPeriod": args.cpu_period,
        "CpuQuota": args.cpu_quota, "CpusetCpus": args.cpuset_cpus, "CpusetMems": args.cpuset_mems,
        "PidsLimit": args.pids_limit, "BlkioWeight": args.blkio_weight,
    }  # fmt: skip
    body = {key: value for key, value in body.items() if value}
    if args.restart:
        name, _, count = args.restart.partition(":")
        body["RestartPolicy"] = {"Name": name, "MaximumRetryCount": int(count) if count.isdecimal() else 0}
    return each(
        args.container, engines, lambda engine, name: engine.post(f"/containers/{name}/update", None, body)
    )


def prune(args: Args, engines: Engines) -> None:
    said = {"filters": filters(args.filter)}
    for engine in engines:
        for container in engine.post("/containers/prune", said).get("ContainersDeleted") or ():
            print(container)


def commit(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    query = {
        "container": said["Id"], **_name(args.image), "comment": args.message, "author": args.author,
        "changes": args.change, "pause": "1" if args.pause else "0",
    }  # fmt: skip
    print(engine.post("/commit", query)["Id"])


def _name(image: str | None) -> dict[str, str]:
    if not image:
        return {}
    repository, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "")
    return {"repo": repository, "tag": tag}


# -- files ------------------------------------------------------------------------------------------


def export(args: Args, engines: Engines) -> None:
    engine, said = where(engines, args.container)
    write(args.output, engine.ask("GET", f"/containers/{said['Id']}/export").pieces())


def write(path: str | None, pieces: Iterator[bytes]) -> None:
    """Pieces into a file, whole or not at all, or to standard output, which is no terminal."""
    if not path or path == "-":
        if os.isatty(1):
            raise Usage("an archive is not for a terminal", hint="-o FILE, or redirect it")
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    with fs.Output(path, 0o666) as fd:
        for piece in pieces:
            fs.write_all(fd, piece)


def cp(args: Args, engines: Engines) -> None:
    from oci_tools.cmd.ctl import copying

    copying.copy(args, engines)
