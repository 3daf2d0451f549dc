"""Whether a container is well: its health check, run inside it by its monitor, with docker's meaning of every field.

    policy.json  "health": image-spec's Healthcheck {"Test", "Interval", "Timeout", "Retries", "StartPeriod",
                 "StartInterval"}, times in nanoseconds; "Startup": another such check, whose success ("Successes"
                 times) comes before the first of the other; "OnFailure":
                 none, kill, stop or restart; "LogCount", "LogSize", "LogDirectory": results that are kept, bytes of
                 the output of each, and where they are written as well
    health.json  docker's {"Status", "FailingStreak", "Log": [{"Start", "End", "ExitCode", "Output"}]}

A probe is an exec.  In its start period failures do not count; what it takes to start is not of its timeout; one that
takes too long is killed with all that it has started, and waited for.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.container import events, log
from oci_tools.errors import Error, Usage
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.place import Place

OUTPUT, ENTRIES = 4096, 5
_MOST_OUTPUT, _MOST_ENTRIES = 1 << 20, 1000  # what the container says is not to fill our memory
_SECOND = 1_000_000_000
_DEFAULT = {
    "Interval": 30 * _SECOND, "Timeout": 30 * _SECOND, "Retries": 3, "StartPeriod": 0, "StartInterval": 5 * _SECOND,
}  # fmt: skip
_TIMES = {
    "interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod", "start_interval": "StartInterval",
}  # fmt: skip
_STUCK = 5.0  # seconds after which a probe that was killed is given up


def options(args: Args, image: dict[str, Any] | None) -> dict[str, Any] | None:
    """The health check of a container, as policy.json has it: the image's, and what the options say."""
    from oci_tools.image.health import duration

    said: dict[str, Any] = {}
    for name, member in _TIMES.items():
        if text := getattr(args, f"health_{name}"):
            said[member] = _time(duration, text, f"--health-{name.replace('_', '-')}")
    if args.health_retries is not None:
        said["Retries"] = args.health_retries
    if args.health_cmd is not None:
        said["Test"] = ["NONE"] if args.health_cmd == "none" else _test(args.health_cmd)
    if args.no_healthcheck:
        if said:
            raise Usage("--no-healthcheck excludes other options of health checks")
        return None
    made = {**(image or {}), **said}
    if not made.get("Test") or made["Test"][0] == "NONE":
        return None
    if args.health_startup_cmd is not None:
        made["Startup"] = _startup(args, duration)
    made["OnFailure"] = args.health_on_failure  # these say nothing else, whatever the image has of such names
    made["LogCount"] = _bounded(args.health_max_log_count, "--health-max-log-count", _MOST_ENTRIES)
    made["LogSize"] = _bounded(args.health_max_log_size, "--health-max-log-size", _MOST_OUTPUT)
    made["LogDirectory"] = _directory(args.health_log_destination)
    return made


def _bounded(value: int, option: str, most: int) -> int:
    if not 0 <= value <= most:
        raise Usage(f"invalid value for {option}", value, hint=f"0 to {most}")
    return value or most


def _directory(path: str) -> str | None:
    if path == "local":
        return None
    if not os.path.isdir(path):
        raise Error("cannot log health checks", path, "no such directory", "local, or a directory")
    return os.path.abspath(path)


def _test(text: str) -> list[str]:
    if text.startswith("["):
        try:
            words = document.loads(text, "--health-cmd")
        except Error:  # a shell's test
            return ["CMD-SHELL", text]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise Usage("invalid value for --health-cmd", text)
        return words if words[0] in ("CMD", "CMD-SHELL") else ["CMD", *words]
    return ["CMD-SHELL", text]


def _duration(seconds: float) -> str:
    """A time as Go writes it, and docker's users read it."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest:g}s"


def _startup(args: Args, duration: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"Test": _test(args.health_startup_cmd), "Successes": args.health_startup_success}
    made["Retries"] = args.health_startup_retries
    for name, member in (("interval", "Interval"), ("timeout", "Timeout")):
        if text := getattr(args, f"health_startup_{name}"):
            made[member] = _time(duration, text, f"--health-startup-{name}")
    return made


def _time(duration: Any, text: str, option: str) -> int:
    try:
        return int(duration(text))
    except Error:
        raise Usage(f"invalid value for {option}", text, hint="as 30s, 1m30s, 500ms") from None


class Health:
    """The checks of one run of a container, driven by its monitor's loop.

    due   when `turn` is wanted next, by time.monotonic()
    fds   what to poll for reading
    """

    def __init__(self, root: str, held: Place) -> None:
        self._root = root
        self._held = held
        self._check = held.policy["health"]
        self._startup = self._check.get("Startup")
        self._begun = time.monotonic()
        self._good = 0  # of the startup check
        self._probe: _Probe | None = None
        self._state: dict[str, Any] = {"Status": "starting", "FailingStreak": 0, "Log": []}
        self._write()
        self.due = self._begun + self._pause()

    @property
    def fds(self) -> list[int]:
        return self._probe.fds if self._probe else []

    def close(self) -> None:
        """The container has ended."""
        if self._probe:
            self._probe.kill()
            self._probe.end()
            self._probe = None

    def turn(self, ready: dict[int, int]) -> bool:
        """Go on; False if it has just become unhealthy."""
        now = time.monotonic()
        if self._probe is None:
            if now >= self.due:
                timeout, most = self._now("Timeout") / _SECOND, self._check.get("LogSize") or OUTPUT
                self._probe = _Probe(self._root, self._held, self._now("Test"), timeout, most)
                self.due = self._probe.deadline
            return True
        if not self._probe.turn(ready, now):
            self.due = self._probe.deadline
            return True
        result, self._probe = self._probe.end(), None
        well = self._count(result)
        self.due = time.monotonic() + self._pause()
        return well

    def _now(self, member: str) -> Any:
        """A member of the check that is due: the startup check until it has succeeded."""
        check = self._startup or self._check
        return check.get(member) or _DEFAULT.get(member)

    def _pause(self) -> float:
        """Seconds before the next probe."""
        if self._starting() and not self._startup and self._check.get("StartPeriod"):
            return float(self._now("StartInterval")) / _SECOND
        return float(self._now("Interval")) / _SECOND

    def _starting(self) -> bool:
        period = (self._check.get("StartPeriod") or 0) / _SECOND
        return self._state["Status"] == "starting" and time.monotonic() - self._begun < period

    def _count(self, result: dict[str, Any]) -> bool:
        state = self._state
        state["Log"] = [*state["Log"], result][-(self._check.get("LogCount") or ENTRIES) :]
        before = state["Status"]
        if result["ExitCode"] == 0:
            state["FailingStreak"] = 0
            self._good += 1
            if self._startup is None:
                state["Status"] = "healthy"
            elif self._good >= (self._startup.get("Successes") or 1):
                self._startup = None
                self._begun = time.monotonic()
        elif self._startup or not self._starting():
            state["FailingStreak"] += 1
            retries = self._now("Retries")
            if state["FailingStreak"] >= retries:
                state["Status"] = "unhealthy"
        self._write()
        if state["Status"] == before:
            return True
        if state["Status"] == "healthy" and self._held.policy.get("notify"):
            from oci_tools.container import notifying

            notifying.ready(self._held.policy.pop("notify"), os.getpid())
        events.tell(self._held.id, f"health_status: {state['Status']}", self._held.policy)
        return bool(state["Status"] != "unhealthy")

    def _write(self) -> None:
        paths = [f"{self._held.path}/health.json"]
        if self._check.get("LogDirectory"):
            paths.append(f"{self._check['LogDirectory']}/{self._held.id}-healthcheck.log")
        for path in paths:
            try:
                fs.write(path, document.dumps(self._state), 0o600, sync=False)
            except Error:
                pass  # a full disk, or the directory has gone


class _Probe:
    """One exec of a check, and what it says."""

    def __init__(self, root: str, held: Place, test: list[str], timeout: float, most: int) -> None:
        self._root, self._id, self._most = root, held.id, most
        self._pid_file = f"{held.path}/io/probe.pid"
        self._timeout = timeout
        self._start = time.time_ns()
        self._output = b""
        self._late = False
        self._begun, self._seen = time.monotonic(), 0.0
        try:
            os.unlink(self._pid_file)
        except FileNotFoundError:
            pass
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._pid = os.fork()
        if self._pid == 0:
            self._be(test, writer)
        os.close(writer)
        self._pidfd = os.pidfd_open(self._pid)
        self.fds = [self._pidfd, self._reader]
        self.deadline = time.monotonic() + timeout

    def _be(self, test: list[str], writer: int) -> None:
        """The process that runs it.  Does not return."""
        from oci_tools.runtime import enter, launch

        code = 1
        try:
            null = os.open("/dev/null", os.O_RDONLY)
            os.set_blocking(writer, True)
            for fd, ours in ((0, null), (1, writer), (2, writer)):
                os.dup2(ours, fd)
            spec = enter.configuration(self._root, self._id)
            words = ["/bin/sh", "-c", *test[1:]] if test[0] == "CMD-SHELL" else test[test[0] == "CMD" :]
            wanted = {**spec["process"], "args": words, "terminal": False}
            code = enter.execute(self._root, self._id, wanted, launch.Options(pid_file=self._pid_file))
        except BaseException as error:
            os.write(1, str(error).encode(errors="replace"))
            code = getattr(error, "code", 1) or 1
        finally:
            os._exit(code)

    def turn(self, ready: dict[int, int], now: float) -> bool:
        """Read what it says, and kill it when its time is up; whether it has ended."""
        if self._reader in ready:
            self._read()
        if self._pidfd in ready:
            return True
        if now >= self.deadline:
            if self._late:
                os.kill(self._pid, 9)  # the kernel does not let go of what it has started
            elif (left := self._timeout - self._age()) > 0.001:
                self.deadline = now + left
            else:
                self._late = True
                self.kill()
                self.deadline = now + _STUCK
        return False

    def _age(self) -> float:
        """Seconds since the check itself runs: to start it is not its work."""
        now = time.monotonic()
        if not self._seen:
            try:
                with open(self._pid_file, encoding="utf-8") as file:
                    ran = process.age(int(file.read()))
            except (OSError, ValueError):
                return 0.0
            self._seen = max(self._begun, now - ran)
        return now - self._seen

    def _read(self) -> bool:
        try:
            data = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return False
        if data:
            self._output = (self._output + data)[: self._most]
        elif self._reader in self.fds:
            self.fds.remove(self._reader)
        return bool(data)

    def kill(self) -> None:
        """Kill all that it has started."""
        from oci_tools.runtime import exec_group, state

        try:
            with open(self._pid_file, encoding="utf-8") as file:
                pid = int(file.read())
        except (OSError, ValueError):
            os.kill(self._pid, 9)
            return
        try:
            exec_group.kill(state.directory(self._root, self._id), pid, 9, self._id)
        except (Error, OSError):  # without cgroup2: what it has started, and what that has
            for each in family(pid):
                try:
                    os.kill(each, 9)
                except OSError:
                    pass  # it has just ended

    def end(self) -> dict[str, Any]:
        """Its entry in health.json."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        for _ in range(64):
            if not self._read():
                break
        os.close(self._pidfd)
        os.close(self._reader)
        text = self._output.decode("utf-8", "replace")
        if self._late:
            late = f"Health check exceeded timeout ({_duration(self._timeout)})"
            code, text = -1, late + (f": {text}" if text else "")
        return {
            "Start": log.stamp(self._start).decode(), "End": log.stamp(time.time_ns()).decode(),
            "ExitCode": code, "Output": text[: self._most],
        }  # fmt: skip


def family(pid: int) -> list[int]:
    """A process and all that descend from it, whatever groups and sessions they are in (proc_pid_task(5))."""
    found = [pid]
    for each in found:
        try:
            with open(f"/proc/{each}/task/{each}/children", encoding="utf-8") as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # it has just ended
    return found
