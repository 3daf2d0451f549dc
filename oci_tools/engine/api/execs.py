"""exec: another process in a running container, by `oci-run exec`.

What was asked for and how it ended is known for some minutes, as dockerd's; of a container that goes, all of its
execs go.  Streams are pipes of ours, or a terminal whose master `oci-run` sends to a socket of ours.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from oci_tools import document
from oci_tools.engine.api import answers, members, streams
from oci_tools.engine.api.answers import Refused, answer
from oci_tools.engine.api.pumping import Pump, Terminal
from oci_tools.errors import Error
from oci_tools.http import Hijacked, Response
from oci_tools.linux import tty as terminals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.engine.api.commands import Started
    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container

_MOST = 10000  # execs that are remembered
_KEPT = 300.0  # seconds for which an exec that has ended is, as dockerd keeps it


class Exec:
    """One exec: as asked for, running, ended."""

    def __init__(self, container: str, said: dict[str, Any]) -> None:
        self.id = os.urandom(32).hex()
        self.container = container
        self.said = said
        self.begun = False
        self.code: int | None = None
        self.ended = 0.0  # when, by time.monotonic
        self.master = -1
        self.pid = 0
        self.lock = threading.Lock()

    @property
    def tty(self) -> bool:
        return bool(self.said.get("Tty"))


class Execs:
    """Every exec of this API's life."""

    def __init__(self) -> None:
        self._all: dict[str, Exec] = {}
        self._swept = 0.0

    def add(self, one: Exec, lives: Callable[[str], bool]) -> None:
        """Know one more.

        lives  whether a container is there still
        """
        if (now := time.monotonic()) > self._swept + _KEPT / 10:
            self._swept = now
            for each in list(self._all.values()):
                if (each.code is not None and each.ended < now - _KEPT) or not lives(each.container):
                    self._all.pop(each.id, None)
        while len(self._all) >= _MOST:
            ended = (key for key, each in self._all.items() if each.code is not None)
            self._all.pop(next(ended, next(iter(self._all))))
        self._all[one.id] = one

    def find(self, word: str) -> Exec:
        found = self._all.get(word)
        if found is None:
            raise Refused(404, f"No such exec instance: {word}")
        return found

    def of(self, container: str) -> list[str]:
        """Those of a container that have not ended."""
        mine = [one for one in list(self._all.values()) if one.container == container]
        return [one.id for one in mine if one.begun and one.code is None]

    def forget(self, container: str) -> None:
        for one in list(self._all.values()):
            if one.container == container:
                self._all.pop(one.id, None)


def create(api: Api, asked: Asked) -> Response:
    said = asked.json(members.EXEC)
    if not said.get("Cmd"):
        raise Refused(400, "No exec command specified")
    one = _runs(api, asked["id"])
    made = Exec(one.id, said)
    streams.keys(said.get("DetachKeys") or "")
    api.execs.add(made, lambda container: api.world.get(container) is not None)
    api.events.tell(one, f"exec_create: {' '.join(said['Cmd'])}", execID=made.id)
    return answer({"Id": made.id}, 201)


def _runs(api: Api, word: str) -> Container:
    one = api.world.find(word)
    status = one.status
    if status == "paused":
        raise Refused(409, f"Container {word} is paused, unpause the container before exec")
    if status == "restarting":
        raise Refused(409, f"Container {one.id} is restarting, wait until the container is running")
    if status != "running":
        raise Refused(409, f"container {one.id} is not running")
    return one


def start(api: Api, asked: Asked) -> Response:
    said = asked.json(members.EXEC_START, needed=False)
    one = api.execs.find(asked["id"])
    container = _runs(api, one.container)
    with one.lock:
        if one.begun:
            raise Refused(409, f"exec {one.id} has already run" if one.code is not None else
                          f"Error: Exec command {one.id} is already running")  # fmt: skip
        one.begun = True
    framed = not said.get("Tty")  # this word counts for the stream, that at its making for the process
    session = Session(api, one, container, said.get("ConsoleSize") or one.said.get("ConsoleSize"), framed)
    api.events.tell(container, f"exec_start: {' '.join(one.said['Cmd'])}", execID=one.id)
    if said.get("Detach"):
        threading.Thread(target=session.run, args=(None,), daemon=True).start()
        return Response(200, [answers.JSON])
    return streams.hijacked(asked, one.tty and not framed, session.run)


def inspect(api: Api, asked: Asked) -> Response:
    one = api.execs.find(asked["id"])
    said = one.said
    entry, *args = said["Cmd"]
    return answer({
        "ID": one.id,
        "Running": one.begun and one.code is None,
        "ExitCode": one.code,
        "ProcessConfig": {
            "tty": one.tty, "entrypoint": entry, "arguments": args, "privileged": bool(said.get("Privileged")),
            **({"user": said["User"]} if said.get("User") else {}),
        },
        "OpenStdin": bool(said.get("AttachStdin")),
        "OpenStderr": bool(said.get("AttachStderr")),
        "OpenStdout": bool(said.get("AttachStdout")),
        "CanRemove": False,
        "ContainerID": one.container,
        "DetachKeys": "",
        "Pid": one.pid,
    })  # fmt: skip


def resize(api: Api, asked: Asked) -> Response:
    one = api.execs.find(asked["id"])
    rows, columns = asked.number("h"), asked.number("w")
    if not one.begun or one.code is not None:
        raise Refused(409, f"exec process {one.id} is not running")
    if one.master >= 0:
        terminals.set_size(one.master, rows & 0xFFFF, columns & 0xFFFF)
    else:
        one.said["ConsoleSize"] = [rows, columns]  # its terminal comes in a moment
    return Response(200)


class Session:
    """An exec and the connection of who started it."""

    def __init__(self, api: Api, one: Exec, container: Container, size: list[int] | None, framed: bool) -> None:
        self._framed = framed or not one.tty
        self._api = api
        self._one = one
        self._container = container
        if size:
            one.said["ConsoleSize"] = size
        self._input = streams.Input(streams.keys(one.said.get("DetachKeys") or "") if one.tty else b"")

    def run(self, sock: Hijacked | None) -> None:
        """Until it has ended; the connection is closed when its code is known."""
        one = self._one
        log = os.memfd_create("log", os.MFD_CLOEXEC)
        try:
            started = self._terminal(sock, log) if one.tty else self._pipes(sock, log)
            code = started.wait()
            wrong = os.pread(log, 4096, 0).decode("utf-8", "replace").strip()
            if wrong:
                code = self._wrong(sock, wrong)
        except Exception as error:
            code = self._wrong(sock, str(error))
        finally:
            os.close(log)
            if one.master >= 0:
                os.close(one.master)
                one.master = -1
        one.ended = time.monotonic()
        one.code = code
        self._api.events.tell(self._container, "exec_die", execID=one.id, exitCode=str(code))
        if sock is not None:
            try:
                sock.half_close()
            except OSError:
                pass

    def _wrong(self, sock: Hijacked | None, line: str) -> int:
        """It could not be executed: docker says so in the stream."""
        try:
            text = str(document.loads(line.split("\n")[0])["msg"])
        except (Error, KeyError, TypeError):
            text = line
        code = 127 if "no such file" in text or "not found" in text else 126
        message = f"OCI runtime exec failed: exec failed: unable to start container process: {text}: unknown\r\n"
        if text.startswith("unable to find "):
            message = text.replace("'", "") + "\r\n"
        if sock is not None:
            from oci_tools.engine.api import logs

            data = message.encode()
            streams.send(sock, logs.frame(1, data) if self._framed else data)
        return 126 if code == 127 else code

    def _words(self, more: list[str]) -> list[str]:
        said = self._one.said
        words = ["run", "--log=/proc/self/fd/3", "--log-format=json", "exec", *more]
        words += [f"--env={each}" for each in said.get("Env") or () if "=" in each]
        for key, option in (("User", "user"), ("WorkingDir", "cwd")):
            if said.get(key):
                words.append(f"--{option}={said[key]}")
        if said.get("Privileged"):
            words.append("--privileged")
        return [*words, self._container.id, *said["Cmd"]]

    # -- without a terminal ----------------------------------------------------------------------

    def _pipes(self, sock: Hijacked | None, log: int) -> Started:
        said = self._one.said
        given, ours = {3: log}, []
        stdin = -1
        try:
            if sock is not None and said.get("AttachStdin"):
                given[0], stdin = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(stdin, False)
            else:
                given[0] = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            for fd in (1, 2):
                reader, given[fd] = os.pipe2(os.O_CLOEXEC)
                ours.append(reader)
            started = self._api.commands.start(self._words([]), given)
        except BaseException:
            for fd in (*ours, *([stdin] if stdin >= 0 else [])):
                os.close(fd)
            raise
        finally:
            for number, fd in given.items():
                if number != 3:
                    os.close(fd)
        wanted = [said.get("AttachStdout"), said.get("AttachStderr")]
        pump = Pump(sock, ours, stdin, wanted)
        pump.run()
        if not os.fstat(log).st_size:
            pump.flush()
        return started

    # -- with one ----------------------------------------------------------------------------------

    def _terminal(self, sock: Hijacked | None, log: int) -> Started:
        place = f"{self._api.private()}/{self._one.id[:16]}"
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(place)
                listener.listen(1)
                rows, columns = self._one.said.get("ConsoleSize") or (0, 0)
                fits = f"--console-size={rows & 0xFFFF}x{columns & 0xFFFF}"
                words = self._words(["--tty", f"--console-socket={place}", fits])
                started = self._api.commands.start(words, {0: null, 1: null, 2: null, 3: log})
                waiting = threading.Thread(target=self._give_up, args=(started, listener), daemon=True)
                waiting.start()
                self._one.master = _received(listener)
            finally:
                os.close(null)
                os.unlink(place)
        if self._one.master >= 0:
            size = self._one.said.get("ConsoleSize") or [0, 0]  # as a `resize` has it meanwhile
            if any(size):
                terminals.set_size(self._one.master, size[0] & 0xFFFF, size[1] & 0xFFFF)
            os.set_blocking(self._one.master, False)
            typing = bool(self._one.said.get("AttachStdin"))
            Terminal(sock, self._one.master, self._input, typing, self._framed).run()
        return started

    @staticmethod
    def _give_up(started: Started, listener: socket.socket) -> None:
        """Whoever waits for a terminal hears of a command that ends without having made one."""
        started.wait()
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _received(listener: socket.socket) -> int:
    """The master of the terminal that comes over a console socket; -1 if none does."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return -1
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        return fds[0] if fds else -1


ROUTES: list[Route] = [
    ("POST", "/containers/{id}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
]
