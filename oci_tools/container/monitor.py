"""A detached container: a process of our own stays with it until it has ended for good.

It is the container's parent and holds its lock; it keeps what is written in the log (streams.py), looks how it
is (health.py), records each end in exit.json, starts it again as its policy says (restart.py), and removes it if
that was asked for.  How it comes to be is detaching.py's.
"""

from __future__ import annotations

import _signal
import os
import select
import time

from oci_tools.container import ending, events, joining, keeping, logdriver, names, restart, streams, usage
from oci_tools.container.control import stop_signal
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import launch, lifecycle, state, sync
from oci_tools.runtime.events import OutOfMemory
from oci_tools.runtime.groups import of as groups_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.health import Health
    from oci_tools.container.place import Place

_HEARD = (1, 2, 3, 15)  # HUP, INT, QUIT, TERM: not for us; the container hears of them itself
_STOP_SECONDS = 10


class Monitor:
    """The life of one container, start after start."""

    def __init__(self, root: str, held: Place, spec: dict[str, Any]) -> None:
        self.root = root
        self.held = held
        self.spec: dict[str, Any] | None = spec
        self.pid = 0  # 0: not our child
        self.pidfd = -1
        self.restarts = self._row = 0
        self._begun = 0.0
        self._kill_at: float | None = None  # when to kill what was asked to end
        self._replace = False  # start it again whatever its policy says
        self._health: Health | None = None
        self._memory: OutOfMemory | None = None
        self._starved = False  # the kernel has killed one of its processes for want of memory, and that was told
        self._kept: list[int] = []  # what a program that serves its network ends with
        self._streams = streams.Streams(held, bool(spec["process"].get("terminal")))
        self._log = logdriver.writer(held)

    # -- starting ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it.

        Another process does the work, so that this one's memory stays small, and leaves the container to us: who has
        lost its parent is its subreaper's (PR_SET_CHILD_SUBREAPER of prctl(2)).
        """
        self.held.looked_after()
        while self._kept:
            os.close(self._kept.pop())
        self._streams.open(self._log)
        ours, theirs = sync.pair()
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
        starter = os.fork()
        if not starter:
            process.prctl(process.PR_SET_PDEATHSIG, 9)
            self._start(theirs)
        for number in _HEARD:  # no SIG_IGN: the next payload would inherit that
            _signal.signal(number, lambda *_: None)
        self.spec = None  # it is large, and rests on the disk
        self._kill_at = time.monotonic() + self.held.policy["timeout"] if self.held.policy.get("timeout") else None
        theirs.close()
        self._streams.let_go()
        try:
            begun, fds = ours.receive()
        finally:
            ours.close()
            os.waitpid(starter, 0)
            process.prctl(process.PR_SET_CHILD_SUBREAPER, 0)
        if begun is None:
            self._undo()
            raise Error("cannot start container", self.held.id, "it was killed while it started")
        self.pid = begun["pid"]
        self.pidfd = os.pidfd_open(self.pid)
        self._kept = fds[begun["masters"] :]
        self._streams.have(*fds[: begun["masters"]])
        self._begun = time.monotonic()
        self._look_after()

    def _start(self, channel: sync.Channel) -> None:
        """In a process of its own: start it, and say so.  Does not return."""
        try:
            spec = self.spec or self.held.spec()
            self.held.begins(spec, self.root, restarts=self.restarts)
            late = joining.late(self.held.id, self.held.policy)
            options = launch.Options(detach=True, pid_file=self.held.policy.get("pidfile"), joined=late)
            made = lifecycle.begin(self.root, self.held.id, self.held.bundle, spec, options)
            events.tell(self.held.id, "start", self.held.policy)
            masters = [made.master] if made.master >= 0 else []
            channel.send("begun", [*masters, *joining.kept], pid=made.state["pid"], masters=len(masters))
        except BaseException as error:
            channel.send("error", **sync.told(error))
        finally:
            os._exit(0)

    def _undo(self) -> None:
        """Whoever started it was killed: nothing of it shall be left."""
        try:
            lifecycle.delete(self.root, self.held.id, force=True)
        except Error:
            pass  # it had not come so far
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def take_over(self, pidfd: int, master: int) -> None:
        """It runs, or has ended while nobody looked."""
        self.held.looked_after()
        self.restarts = int(names.start(self.held.id).get("restarts", 0))
        self._begun = time.monotonic()
        for number in _HEARD:
            _signal.signal(number, lambda *_: None)
        self.pidfd = ending.payload(self.root, self.held.id)
        if self.pidfd < 0:
            self.pidfd = pidfd  # it can still say how it ended
        elif pidfd >= 0:
            os.close(pidfd)
        self._streams.take_over(self._log, master)
        if ending.payload_runs(self.pidfd):
            self._look_after()

    def _look_after(self) -> None:
        self._keep()
        self._starved = False
        try:
            groups = groups_of(state.load(self.root, self.held.id))
            self._memory = OutOfMemory(groups).__enter__() if groups is not None else None
        except Error:
            pass  # what its group says at its end is told then
        if self.held.policy.get("health"):
            from oci_tools.container import health

            self._health = health.Health(self.root, self.held)

    # -- living ----------------------------------------------------------------------------------

    def live(self) -> None:
        """Until it has ended for good; then it is removed, if it is to be."""
        again = True
        while again:
            if self.pidfd >= 0:
                self._watch()
            code, more = self._end()
            again = self._ended(code, more) and self._wait() and self._begin_again()
        if not self.held.keep:
            self.held.remove()

    def _watch(self) -> None:
        """Until its first process has ended, and what it wrote by then is in the log."""
        ended = False
        while not ended:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            for fd, events_ in self._streams.interests().items():
                poll.register(fd, events_)
            for fd in self._health.fds if self._health else ():
                poll.register(fd, select.POLLIN)
            if self._memory:
                self._memory.register(poll)
            ready = dict(poll.poll(self._patience()))
            for words in self._streams.turn(ready, self._log):
                self._obey(words)
            if self._memory and self._memory.times():
                self._starve()
            if self._health and not self._health.turn(ready):
                self._unhealthy()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_at = None
                self._signal(9)
            ended = self.pidfd in ready
        if self._health:
            self._health.close()
        if self._memory:
            self._memory.__exit__()
        self._health = self._memory = None
        self._streams.drain(self._log)
        self._log.end()

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = [when for when in (self._kill_at, self._health.due if self._health else None) if when is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _obey(self, words: list[bytes]) -> None:
        if words[0] == b"again":
            self.held.policy = names.policy(self.held.id) or self.held.policy
        elif words[0] == b"keep":
            self._keep()

    def _keep(self) -> None:
        """Have others hold what is to outlive us."""
        if self.pidfd >= 0:
            keeping.give(self.held.id, "payload", self.pidfd)
        self._streams.keep()

    def _signal(self, number: int) -> None:
        try:
            if number == 9:
                lifecycle.kill(self.root, self.held.id, 9)
            else:
                process.pidfd_send_signal(self.pidfd, number)
        except (Error, OSError):
            pass  # it has just ended

    def _starve(self) -> None:
        self._starved = True
        events.tell(self.held.id, "oom", self.held.policy)

    def _unhealthy(self) -> None:
        """What is to be done when the health check has failed for good."""
        policy = self.held.policy
        wanted = policy["health"].get("OnFailure", "none")
        if policy.get("restart", {}).get("unhealthy"):
            wanted = "restart"
        if wanted == "none" or self._kill_at is not None:
            return
        if wanted in ("kill", "stop"):
            self.held.mark(stopped=wanted == "stop")
        else:
            self._replace = True
        seconds = 0 if wanted == "kill" else int(policy.get("stopTimeout", _STOP_SECONDS))
        if wanted != "kill":
            self._signal(stop_signal(self.held.spec()))
        if seconds >= 0:
            self._kill_at = time.monotonic() + seconds

    # -- ending --------------------------------------------------------------------------------

    def _end(self) -> tuple[int | None, dict[str, Any]]:
        """How it ended; nothing of it is left then but its files."""
        code = None
        if self.pid:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        elif self.pidfd >= 0:
            code = ending.told(self.pidfd, f"{self.held.path}/reaped")
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1
        more: dict[str, Any] = {}
        if code is not None and code < 0:
            more["signal"], code = -code, 128 - code
        try:
            known = state.load(self.root, self.held.id)
            groups = groups_of(known)
            if groups is not None and usage.killed_for_memory(groups):
                more["oomKilled"] = True
            lifecycle.delete(self.root, self.held.id, force=True)
        except Error:
            pass  # somebody has deleted it
        return code, more

    def _ended(self, code: int | None, more: dict[str, Any]) -> bool:
        """Record an end; whether it is to be started again."""
        ran = time.monotonic() - self._begun
        policy = self.held.policy = names.policy(self.held.id) or self.held.policy
        self.held.keep = not policy.get("rm")  # `restart` keeps what would go with its end
        wanted = policy.get("restart") or {}
        self._row = 0 if ran >= wanted.get("reset", 10) else self._row
        stopped = self.held.stopped()
        again = self._replace or restart.again(wanted, 255 if code is None else code, self.restarts, stopped)
        again = again and self.held.keep
        self._replace, self._kill_at = False, None
        if more.get("oomKilled") and not self._starved:
            self._starve()
        self.held.ended(code, **more, **({"restarting": True} if again else {}))
        return again

    def _wait(self) -> bool:
        """The pause before the next start; False if somebody does not want it any more."""
        chance = int.from_bytes(os.urandom(4)) / 0xFFFFFFFF
        due = time.monotonic() + restart.pause(self.held.policy.get("restart") or {}, self._row, chance)
        self._row += 1
        poll = select.poll()
        poll.register(self._streams.ctl, select.POLLIN)
        while not self.held.stopped():
            left = due - time.monotonic()
            if left <= 0:
                return True
            if poll.poll(left * 1000 + 1):
                for words in self._streams.turn({self._streams.ctl: 1}, self._log):
                    self._obey(words)
        self.held.settled()
        return False

    def _begin_again(self) -> bool:
        self.restarts += 1
        while True:
            try:
                self.begin()
                return True
            except Error as error:
                code = error.code if error.code in (126, 127) else 125
                self._begun = time.monotonic()
                if not self._ended(code, {"error": str(error)}) or not self._wait():
                    return False

