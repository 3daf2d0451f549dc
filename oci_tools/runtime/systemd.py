"""The cgroup manager systemd (`--systemd-cgroup`): a container is a scope, a unit whose processes others made.

`linux.cgroupsPath` is "slice:prefix:name": the unit is prefix-name.scope in that slice, whose group is
delegated to us; what systemd does not know of limits, and their exact values, are written to its files as
ever.  systemd is told them all the same, or its next reload would forget them (systemd.resource-control(5),
org.freedesktop.systemd1(5), "CGROUP_DELEGATION").  A plain user's containers are units of the user's own
manager.  What is here runs only with that option: nobody else loads it.
"""

from __future__ import annotations

import os
import time

from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import cgroup, dbus, devices, gvariant, resources, scheduling
from oci_tools.runtime.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Properties = list[tuple[str, tuple[str, Any]]]

NAME, PATH, MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
ANNOTATION = "org.systemd.property."  # + a property's name: its value as GVariant text
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_JOBS = f"type='signal',interface='{MANAGER}',member='JobRemoved'"
_JOB_SECONDS = 30.0
INFINITY = 2**64 - 1
_TIMES = {  # files of the v2 group whose number, or "max", is a property's value
    "memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "cpu.weight": "CPUWeight", "pids.max": "TasksMax",
}  # fmt: skip
_LISTS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


class Unit:
    """The scope of one container: its name, its slice, and whose manager keeps it."""

    def __init__(self, name: str, slice: str = "", user: bool = False) -> None:
        self.name = name
        self.slice = slice
        self.user = user

    def known(self) -> dict[str, Any]:
        """What the state keeps of it, from which `of` makes it again."""
        return {"unit": self.name, "user": self.user}

    def start(self, pid: int, properties: Properties) -> None:
        """Have the unit made around a process; when it returns the process is in its group."""
        given: Properties = [
            ("Description", ("s", f"oci-run container {self.name}")),
            ("Slice", ("s", self.slice)),
            ("PIDs", ("au", [pid])),
            ("Delegate", ("b", True)),
            ("DefaultDependencies", ("b", False)),
            *((f"{kind}Accounting", ("b", True)) for kind in ("Memory", "CPU", "IO", "Tasks")),
        ]
        named = {name for name, _ in properties}  # an annotation's word is the last
        all_of_it = [*(each for each in given if each[0] not in named), *properties]

        def ask(bus: dbus.Bus) -> Any:
            return _call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", self.name, "replace", all_of_it, [])[0]

        with _connect(self.user) as bus:
            try:
                job = ask(bus)
            except dbus.Failed as error:
                if not error.name.endswith(".UnitExists"):
                    raise
                _quietly(bus, "ResetFailedUnit", self.name)  # one that failed stays until somebody has seen it
                job = ask(bus)
            _done(bus, job, self.name)

    def change(self, properties: Properties) -> None:
        """Tell of new limits, until the unit ends."""
        if properties:
            with _connect(self.user) as bus:
                _call(bus, "SetUnitProperties", "sba(sv)", self.name, True, properties)

    def attach(self, pid: int, below: str = "") -> None:
        """Have a process put into the unit's group, or one beneath: what a plain user may not do itself."""
        with _connect(self.user) as bus:
            _call(bus, "AttachProcessesToUnit", "ssau", self.name, below, [pid])

    def stop(self) -> None:
        """Let systemd forget the unit; one that it knows no more is fine, as is a systemd that has gone."""
        try:
            with _connect(self.user) as bus:
                try:
                    job = _call(bus, "StopUnit", "ss", self.name, "replace")[0]
                    _done(bus, job, self.name)
                except Error:
                    pass  # it ended with its last process
                _quietly(bus, "ResetFailedUnit", self.name)
        except Error:
            pass  # the groups are removed all the same


def of(known: dict[str, Any]) -> Unit | None:
    """The unit of a container's state; None if systemd does not manage it."""
    found = known.get("systemd")
    return Unit(found["unit"], user=found["user"]) if found else None


def place(cgroups_path: str | None, container: str) -> tuple[Unit, Cgroup]:
    """Which unit a container is to be, and where its groups will be."""
    if not os.path.isdir("/run/systemd/system"):
        raise Error("cannot use --systemd-cgroup", None, "systemd does not run on this host")
    user = os.geteuid() != 0 or not process.in_host_user_namespace()
    slice, name = parse(cgroups_path, container, "user.slice" if user else "system.slice")
    with _connect(user) as bus:
        top = bus.call(NAME, PATH, "org.freedesktop.DBus.Properties", "Get", "ss", MANAGER, "ControlGroup")[0][1]
    below = os.path.normpath(f"{top}{expand(slice)}/{name}").lstrip("/")
    paths = {",".join(each.controllers): f"{each.mountpoint}/{below}" for each in cgroup.hierarchies()}
    return Unit(name, slice, user), Cgroup(paths)


def parse(cgroups_path: str | None, container: str, slice: str) -> tuple[str, str]:
    """The slice and the unit that `linux.cgroupsPath` asks for; `slice` where it names none."""
    if not cgroups_path:
        return slice, f"oci-{container}.scope"
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2]:
        what = "config.json: linux.cgroupsPath: expected slice:prefix:name for --systemd-cgroup, got"
        raise Error(what, cgroups_path)
    if parts[2].endswith(".slice"):
        raise Error("config.json: linux.cgroupsPath: a slice holds no processes", parts[2])
    expand(parts[0] or slice)
    return parts[0] or slice, f"{parts[1]}-{parts[2]}.scope" if parts[1] else f"{parts[2]}.scope"


def expand(slice: str) -> str:
    """Where a slice's group is: a-b.slice is in a.slice (systemd.slice(5)); "-.slice" is the top."""
    name = slice.removesuffix(".slice")
    if name == "-":
        return ""
    parts = name.split("-")
    if not slice.endswith(".slice") or "/" in slice or not all(parts):
        raise Error("config.json: linux.cgroupsPath: not the name of a slice", slice)
    return "".join(f"/{'-'.join(parts[: at + 1])}.slice" for at in range(len(parts)))


# -- limits as properties ---------------------------------------------------------------------------


def properties(spec: dict[str, Any]) -> Properties:
    """All that config.json says about a unit: limits, device rules, annotations."""
    wanted = (spec.get("linux") or {}).get("resources") or {}
    return [*limits(resources.plan_v2(wanted)), *device_policy(devices.rules(spec)), *annotated(spec)]


def limits(plan: resources.Plan) -> Properties:
    """What of a plan for the unified hierarchy systemd has a word for."""
    found: Properties = []
    for _, file, value in plan:
        if file in _TIMES:
            number = INFINITY if value == "max" else int(value)
            found.append((_TIMES[file], ("t", max(number, 1) if file == "pids.max" else number)))  # it takes no 0
        elif file in _LISTS:
            found.append((_LISTS[file], ("ay", _mask(value))))
        elif file == "cpu.max":
            found += _quota(value)
        elif file == "cpu.idle" and value == "1":
            found.append(("CPUWeight", ("t", 0)))
        elif file == "io.weight" and value.startswith("default "):
            found.append(("IOWeight", ("t", int(value.split()[1]))))
    return found


def _quota(value: str) -> Properties:
    """cpu.max; systemd has it in whole hundredths of a processor, so round up to such."""
    quota, _, period = value.partition(" ")
    micros = int(period or 100000)
    each = INFINITY if quota == "max" else -(-int(quota) * 100 // micros) * 10000
    return [("CPUQuotaPeriodUSec", ("t", micros)), ("CPUQuotaPerSecUSec", ("t", each))]


def _mask(text: str) -> bytes:
    bits = sum(1 << number for number in {*scheduling.numbers(text)})
    return bits.to_bytes(bits.bit_length() // 8 + 1, "little")


def device_policy(rules: list[dict[str, Any]]) -> Properties:
    """The rules as far as systemd can say them; where it would allow less than they do, it is to allow all.

    What it allows is no more than a bound: the rules themselves are applied by us as ever.
    """
    everything: Properties = [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    try:
        first, *lines = devices.rules_v1(rules)
    except Error:
        return everything
    if first != ("devices.deny", "a"):
        return everything
    allowed = []
    for _, line in lines:
        kind, numbers, access = line.split()
        major, minor = numbers.split(":")
        word = "char" if kind == "c" else "block"
        if major == minor == "*":
            allowed.append((f"{word}-*", access))
        elif minor == "*" and major != "*":
            allowed += [(f"{word}-{name}", access) for name in _drivers(word, major)]
        elif major != "*":
            allowed.append((f"/dev/{word}/{major}:{minor}", access))
        else:
            return everything
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


def _drivers(word: str, major: str) -> list[str]:
    """The names under which the kernel has a major number: systemd takes no numbers."""
    with open("/proc/devices", encoding="utf-8") as file:
        chars, _, blocks = file.read().partition("Block devices:")
    lines = [line.split() for line in (chars if word == "char" else blocks).splitlines()]
    return [line[1] for line in lines if len(line) == 2 and line[0] == major]


def annotated(spec: dict[str, Any]) -> Properties:
    """Properties that annotations ask for; NameSec, in seconds, is NameUSec."""
    found: Properties = []
    for key, text in (spec.get("annotations") or {}).items():
        if not key.startswith(ANNOTATION):
            continue
        name = key.removeprefix(ANNOTATION)
        if not (name.isascii() and name.isalpha()):
            raise Error("config.json: annotations: not the name of a property", key)
        try:
            kind, value = gvariant.parse(text)
            if name.endswith("Sec") and not name.endswith("USec"):
                name, kind, value = f"{name.removesuffix('Sec')}USec", "t", int(value * 1_000_000)
        except (ValueError, TypeError):
            raise Error(f"config.json: annotations: {key}: not a value in GVariant's text format", text) from None
        found.append((name, (kind, value)))
    return found


# -- speaking with it ----------------------------------------------------------------------------------


def _connect(user: bool) -> dbus.Bus:
    """The manager itself where it listens, which needs no broker; else the bus."""
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{dbus.real_uid()}"
    private = f"{run}/systemd/private" if user else "/run/systemd/private"
    if os.path.exists(private):
        try:
            return dbus.Bus(private, direct=True)
        except Error:
            pass
    variable = "DBUS_SESSION_BUS_ADDRESS" if user else "DBUS_SYSTEM_BUS_ADDRESS"
    given = os.environ.get(variable, "").partition("unix:path=")[2].partition(",")[0]
    bus = dbus.Bus(given or (f"{run}/bus" if user else "/run/dbus/system_bus_socket"), direct=False)
    bus.call(*_BUS, "AddMatch", "s", _JOBS)
    _quietly(bus, "Subscribe")
    return bus


def _call(bus: dbus.Bus, member: str, signature: str, *values: Any) -> list[Any]:
    return bus.call(NAME, PATH, MANAGER, member, signature, *values)


def _quietly(bus: dbus.Bus, member: str, *words: str) -> None:
    try:
        _call(bus, member, "s" * len(words), *words)
    except dbus.Failed:
        pass


def _done(bus: dbus.Bus, job: str, name: str) -> None:
    """Wait for a job's end."""
    until = time.monotonic() + _JOB_SECONDS
    try:
        while True:
            _, path, _, result = bus.signal("JobRemoved", until)
            if path == job:
                break
    except OSError as error:
        raise Error("cannot change unit", name, error) from None
    if result not in ("done", "skipped"):
        raise Error("cannot change unit", name, f"systemd says: {result}")
