"""A container's control groups: made, joined, limited, frozen, killed and removed.

cgroup v1 (every hierarchy), the hybrid layout (v1's, and `unified`) and v2.  The runtime makes the
groups and opens the files by which the container side joins; the join itself is a write
of "0" by the single-threaded child into v1's `tasks` (0.3 ms, where the parent writing a
pid into `cgroup.procs` waits 15 ms for a grace period) or v2's `cgroup.procs`.  In the hybrid's `unified`, where that
too would wait, the process is born (CLONE_INTO_CGROUP).
"""

from __future__ import annotations

import os
import time
from errno import EINVAL, ENOENT

from oci_tools.errors import Error
from oci_tools.runtime import cgroup_directories as directories
from oci_tools.runtime.cgroup_directories import MOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_BFQ = {"blkio.weight": "blkio.bfq.weight", "blkio.weight_device": "blkio.bfq.weight_device"}  # without CFQ


UNIFIED = "unified"  # what stands for controllers in the hybrid layout's v2
HYBRID = f"{MOUNT}/{UNIFIED}"


class Hierarchy:
    """One mounted hierarchy and our own place in it.

    controllers  ["cpu", "cpuacct"], ["name=systemd"]; [] is v2, ["unified"] v2 beside v1
    """

    def __init__(self, controllers: list[str], mountpoint: str, own: str) -> None:
        self.controllers = controllers
        self.mountpoint = mountpoint
        self.own = own

    def __repr__(self) -> str:
        return f"Hierarchy({self.controllers}, {self.mountpoint}, {self.own})"


def hierarchies(pid: int | str = "self") -> list[Hierarchy]:
    """What is mounted, and a process's place in it: the one v2 hierarchy where it is at /sys/fs/cgroup, else v1's.

    The hybrid layout has v2 as well, beside them.
    """
    own: dict[str, str] = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            own[names] = path
    found: list[Hierarchy] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fstype = after.split(" ", 1)[0]
            if fstype == "cgroup2":
                place = before.split(" ")
                if place[4] == MOUNT and "" in own:
                    return [Hierarchy([], MOUNT, _below(own[""], place[3]))]
                if place[4] == HYBRID and "" in own:
                    found.append(Hierarchy([UNIFIED], HYBRID, _below(own.pop(""), place[3])))
            elif fstype == "cgroup":
                place, options = before.split(" "), after.rstrip("\n").rsplit(" ", 1)[1].split(",")
                for names, path in own.items():
                    controllers = names.split(",")
                    if names and all(name in options for name in controllers):
                        found.append(Hierarchy(controllers, place[4], _below(path, place[3])))
                        del own[names]
                        break
    return found


def _below(path: str, root: str) -> str:
    """Our cgroup as seen beneath a mount whose root is not the hierarchy's."""
    if root != "/" and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return path


class Cgroup:
    """The groups of one container: directory by controller names ("" is v2, "unified" v2 beside v1)."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths

    @property
    def unified(self) -> bool:
        return "" in self.paths

    def path(self, controller: str) -> str | None:
        """The directory in which a controller's files are."""
        if self.unified:
            return self.paths[""]
        return next((p for names, p in self.paths.items() if controller in names.split(",")), None)

    # -- making ------------------------------------------------------------------------

    def refuse_used(self) -> None:
        """Refuse a group in which something runs, or that is frozen and would freeze us."""
        self._refuse_members()
        if self.frozen(above=True):
            raise Error("cannot use cgroup", self._main(), "container's cgroup unexpectedly frozen")

    def make_birthplace(self) -> None:
        """Make the directory in which the first process is born, where it is."""
        if UNIFIED in self.paths:
            try:
                directories.make_v1(self.paths[UNIFIED], UNIFIED)
            except OSError:
                del self.paths[UNIFIED]  # nothing depends on it

    def make(self, ours: int = -1) -> None:
        """Make the directories; `ours` is a process that may be in them already."""
        new, main = False, self._main()
        for names, path in [*self.paths.items()]:
            try:
                made = directories.make_v1(path, names) if names else directories.make_v2(path)
                new = new or (made and path == main)
            except OSError as error:
                if names != UNIFIED:
                    raise Error("cannot make cgroup", path, error) from None
                del self.paths[names]  # nothing depends on it
        if not new:
            self._refuse_members(ours)

    def _refuse_members(self, ours: int = -1) -> None:
        running = [pid for pid in self._members() if pid != ours]  # 0 is one outside of our pid namespace
        if running:
            cause = f"container's cgroup is not empty: {len(running)} process(es) found"
            raise Error("cannot use cgroup", self._main(), cause)

    def apply(self, wanted: dict[str, Any]) -> None:
        """Write the limits of `linux.resources`.

        Limits bound one another (memory+swap not below memory, burst not above quota), so
        the order that suits one change is wrong for another: what is refused is tried again
        after the rest.
        """
        from oci_tools.runtime import resources

        if self.unified:
            self._check_usage(wanted.get("memory") or {})
            plan = resources.plan_v2(wanted, self.now)
        else:
            plan = resources.plan_v1(wanted)
            plan += [(UNIFIED, file, value) for _, file, value in resources.plan_unified(wanted, self._check_unified)]
        refused = []
        for step in plan:
            try:
                self._limit(*step)
            except Error as error:
                if not isinstance(error.cause, OSError) or error.cause.errno != EINVAL:
                    raise
                refused.append(step)
        for step in refused:
            self._limit(*step)

    def _check_unified(self, file: str) -> None:
        if UNIFIED not in self.paths:
            cause = "there is no cgroup v2 on this host"
        elif not os.path.exists(f"{self.paths[UNIFIED]}/{file}"):
            cause = f"cgroup '{self.paths[UNIFIED]}' has no such file"
        else:
            return
        raise Error("config.json: linux.resources.unified: invalid configuration", file, cause)

    def _limit(self, controller: str, file: str, value: str) -> None:
        directory = self.path(controller)
        if directory is None:
            raise Error("cannot set", file, f"controller '{controller}' is not mounted on this host")
        if file in _BFQ and not self.unified and not os.path.exists(f"{directory}/{file}"):
            file = _BFQ[file]
        try:
            directories.write(directory, file, value)
        except Error as error:
            missing = isinstance(error.cause, OSError) and error.cause.errno == ENOENT
            if missing and self.unified and controller not in self.now("cgroup.controllers").split():
                cause = f"controller '{controller}' is not available in cgroup '{directory}'"
                raise Error("cannot set", file, cause) from None
            raise

    def now(self, file: str) -> str:
        """What a file of the v2 group says at present; nothing if there is none."""
        try:
            with open(f"{self.paths['']}/{file}", encoding="utf-8") as opened:
                return opened.read().strip()
        except OSError:
            return ""

    def _check_usage(self, memory: dict[str, Any]) -> None:
        """`checkBeforeUpdate`: v1 refuses a limit below what is in use, v2 would kill for it."""
        limit, used = memory.get("limit") or -1, self.now("memory.current") or "0"
        if memory.get("checkBeforeUpdate") and 0 < limit < int(used):
            raise Error(f"cannot set 'memory.max' to '{limit}'", None, f"{used} bytes are in use")

    def give(self, uid: int) -> None:
        """Let the container's root divide its own v2 group: what cgroups(7) says to delegate, and no limit."""
        try:
            with open("/sys/kernel/cgroup/delegate", encoding="utf-8") as file:
                names = file.read().split()
            for path in (self.paths[""], *(f"{self.paths['']}/{name}" for name in names)):
                if os.path.exists(path):
                    os.chown(path, uid, -1)
        except OSError as error:
            raise Error("cannot delegate cgroup", self.paths[""], error) from None

    def allow_devices(self, rules: list[dict[str, Any]]) -> None:
        """Apply the device rules: v1 files, a v2 program."""
        from oci_tools.runtime import devices

        if self.unified:
            devices.attach_program(self.paths[""], rules)
            return
        directory = self.path("devices")
        if directory is None:
            raise Error("cannot apply device rules", None, "controller 'devices' is not mounted on this host")
        default, *exceptions = devices.rules_v1(rules)
        directories.write(directory, *default)
        if exceptions:
            directories.write(directory, exceptions[0][0], *(value for _, value in exceptions))

    def join_files(self, member: int | None = None, inner: Sequence[str] = ()) -> list[int]:
        """Descriptors into which a process writes "0" to become a member.

        member  of whom to be a neighbour if the v2 group was divided from inside: then no process may be in it
        inner   groups beneath these to be in instead: "PATH" or "CONTROLLER,...:PATH"
        """
        name, paths = "cgroup.procs" if self.unified else "tasks", self._joined()
        try:
            if inner:
                paths = self._inner(inner)
            elif self.unified and member and self.now("cgroup.subtree_control"):
                found = hierarchies(member)[0]
                paths = [os.path.normpath(f"{found.mountpoint}/{found.own}")]
            return [os.open(f"{path}/{name}", os.O_WRONLY | os.O_CLOEXEC) for path in paths]
        except OSError as error:
            raise Error(*directories.not_joined(error.filename), error) from None

    def _joined(self) -> list[str]:
        return [path for names, path in self.paths.items() if names != UNIFIED]

    def birthplace(self) -> int:
        """A descriptor of the group in which the first process is to be born; -1: it joins by files alone."""
        if UNIFIED not in self.paths:
            return -1
        return os.open(self.paths[UNIFIED], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def put(self, pid: int) -> None:
        """Put a process into those of the groups in which it is not: v1's that systemd does not keep."""
        for path in self.paths.values():
            if pid not in self._members_of(path):
                directories.write(path, "cgroup.procs", str(pid))

    def _inner(self, wanted: Sequence[str]) -> list[str]:
        paths = {names: path for names, path in self.paths.items() if names != UNIFIED}
        for text in wanted:
            before, colon, after = text.partition(":")
            below = after if colon else before
            if any(part == ".." for part in below.split("/")):
                raise Error("cannot use cgroup", text, f"bad sub cgroup path: {below} is not a sub cgroup path")
            chosen = [names for names in paths if not colon or {*before.split(",")} & {*names.split(",")}]
            if not chosen or (colon and self.unified):
                raise Error("cannot use cgroup", text, f"unknown controller {before}")
            paths |= {names: os.path.normpath(f"{self.paths[names]}/{below}") for names in chosen}
        return [*paths.values()]

    # -- life ---------------------------------------------------------------------------

    def processes(self) -> list[int]:
        """Every process in the container's groups and the groups beneath, if we can see it."""
        return [pid for pid in self._members() if pid]  # 0 is one outside of our pid namespace

    def _members(self) -> list[int]:
        return self._members_of(self._main())

    def _members_of(self, path: str) -> list[int]:
        found: list[int] = []
        for directory, _, _ in os.walk(path):
            try:
                with open(f"{directory}/cgroup.procs", encoding="utf-8") as file:
                    found += [int(line) for line in file]
            except OSError:
                pass  # removed meanwhile, or a threaded group
        return found

    def freeze(self, frozen: bool) -> None:
        """Pause or resume all; returns when it is so."""
        if self.unified:
            path, want = self.paths[""], "1" if frozen else "0"
            directories.write(path, "cgroup.freeze", want)
            try:
                return _until(f"{path}/cgroup.events", f"frozen {want}")
            except Error:
                directories.write(path, "cgroup.freeze", "0")  # half frozen helps nobody
                raise
        directory = self.path("freezer")
        if directory is None:
            raise Error("cannot freeze", None, "controller 'freezer' is not mounted on this host")
        want = "FROZEN" if frozen else "THAWED"
        directories.write(directory, "freezer.state", want)
        _until(f"{directory}/freezer.state", want)

    def frozen(self, above: bool = False) -> bool:
        """Whether the container is paused; `above`: or a group in which its own is, where that shows."""
        directory = self.path("freezer")
        if directory is None:
            return False
        if self.unified and above:
            return "frozen 1" in self.now("cgroup.events")
        file = "cgroup.freeze" if self.unified else "freezer.state"
        try:
            with open(f"{directory}/{file}", encoding="utf-8") as state:
                return state.read().strip() in ("1", "FROZEN", "FREEZING")
        except OSError:
            return False

    def kill(self) -> None:
        """Kill every process in the groups; a process that forks meanwhile is met again."""
        if self.unified:
            try:
                directories.write(self.paths[""], "cgroup.kill", "1")
                return _until(f"{self.paths['']}/cgroup.events", "populated 0")
            except (Error, OSError):
                pass  # before Linux 5.14, or gone: the loop below
        elif UNIFIED in self.paths:
            try:
                directories.write(self.paths[UNIFIED], "cgroup.kill", "1")  # all at once; who is frozen is met below
            except Error:
                pass
        for _ in range(1000):
            running = self.processes()
            if not running:
                return
            for pid in running:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            if self.frozen():
                self.freeze(False)  # a frozen v1 process does not even die
            time.sleep(0.001)

    def remove_empty(self) -> bool:
        """Remove the directories, mostly with nobody in them and nothing beneath in the end; False: it was not so."""
        try:
            for path in self.paths.values():
                os.rmdir(path)
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Remove the directories with the groups the container made beneath; absent is fine."""
        for path in self.paths.values():
            for directory, _, _ in list(os.walk(path, topdown=False)):
                directories.remove(directory)

    def _main(self) -> str:
        """The directory that is asked for members."""
        return self.path("pids") or self.path("memory") or next(iter(self.paths.values()), "/nonexistent")


def place(cgroups_path: str | None, name: str) -> Cgroup:
    """Where a container's groups go: `linux.cgroupsPath`, absolute in the hierarchy or below our own.

    v2 allows no processes beside groups, so below our own means beside it there (as runc does).
    """
    inner = cgroups_path or name
    if any(part == ".." for part in inner.split("/")):
        raise Error("config.json: linux.cgroupsPath: leads upwards", inner)
    paths = {}
    for hierarchy in hierarchies():
        if inner.startswith("/"):
            path = hierarchy.mountpoint + os.path.normpath(inner)
        else:
            own = hierarchy.own if hierarchy.controllers else os.path.dirname(hierarchy.own)
            path = os.path.normpath(f"{hierarchy.mountpoint}/{own}/{inner}")
        paths[",".join(hierarchy.controllers)] = path
    return Cgroup(paths)


def _until(path: str, word: str) -> None:
    """Wait until a file says this word: v2's events wake us, v1's files must be read again and again."""
    from select import POLLPRI, poll

    with open(path, encoding="utf-8") as file:
        woken = poll()
        woken.register(file, POLLPRI)
        for pause in (0, 1, 2, 5, 10, 20, *[50] * 40):
            woken.poll(pause)
            file.seek(0)
            if word in file.read():
                return
    raise Error("cannot change the state of cgroup", path, f"it does not become {word}")
