"""POST /build: a tar context becomes an image by `oci-build`, told in the words of docker's first builder.

    {"stream": "Step 2/3 : RUN make\\n"}   {"stream": " ---> Running in 4f5c...\\n"}   {"stream": "output"}
    {"stream": " ---> Using cache\\n"}    {"aux": {"ID": "sha256:..."}}    {"stream": "Successfully built ...\\n"}

docker CLI and compose send this with DOCKER_BUILDKIT=0 or without the buildx plugin, docker-py always.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
from binascii import a2b_base64

from oci_tools import document, fs
from oci_tools.engine.api import networks, store, transfer
from oci_tools.engine.api.answers import Refused, line, stream
from oci_tools.engine.api.endpoints import BRIDGE
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.http import Request, Response

_REMEMBERED = 4096
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # what RUN writes to stderr is between these


_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/")


def build(api: Api, asked: Asked) -> Response:
    if asked.query("remote") and not _REMOTE.match(asked.query("remote")):  # a path would be one of our host's
        raise Refused(500, f"remoteURL ({asked.query('remote')}) could not be recognized as URL")
    for name in asked.all("t"):
        store.check(name)
    words = ["build", "--progress=none", "--status-fd=3", *_options(asked), *_network(api, asked.query("networkmode"))]
    job = Job(api, asked.request, words)
    if asked.query("remote"):
        words.append(asked.query("remote"))
        job.start(feeding=False)
    else:
        words.append("-")
        job.start(feeding=True)
    first = job.first()
    if not first or b'"exit"' in first:
        error = job.error()
        if error is not None:
            job.close()
            raise _wrong(error)
    return stream(_told(api, job, asked.all("t"), asked.flag("q")))


def _options(asked: Asked) -> Iterator[str]:
    for name in asked.all("t"):
        yield f"--tag={store.full(name)}"
    if asked.query("dockerfile"):
        yield f"--file={asked.query('dockerfile')}"
    for key, option in (("buildargs", "build-arg"), ("labels", "label")):
        for name, value in (_json(asked, key, dict) or {}).items():
            yield f"--{option}={name}" if value is None else f"--{option}={name}={value}"
    for key, option in (("target", "target"), ("shmsize", "shm-size"), ("cgroupparent", "cgroup-parent"),
                        ("platform", "platform")):  # fmt: skip
        if asked.query(key) not in ("", "0"):
            yield f"--{option}={asked.query(key)}"
    if asked.flag("nocache"):
        yield "--no-cache"
    if asked.flag("pull"):
        yield "--pull"
    if asked.flag("squash"):
        yield "--squash"
    for said in asked.all("extrahosts"):
        yield from (f"--add-host={each}" for each in said.split(",") if each)
    for limit in _json(asked, "ulimits", list) or ():
        yield f"--ulimit={limit['Name']}={limit.get('Soft', 0)}:{limit.get('Hard', 0)}"


def _network(api: Api, mode: str) -> list[str]:
    if mode in ("", "default", BRIDGE):
        return []
    if mode == "host":
        return ["--network=host", "--allow=network.host"]
    return [f"--network={networks.find(api, mode)['name']}"]


def _json(asked: Asked, key: str, kind: type) -> Any:
    text = asked.query(key)
    if not text:
        return None
    try:
        found = document.loads(text)
    except Error:
        raise Refused(400, f"{key}: not valid json") from None
    if found is not None and not isinstance(found, kind):
        raise Refused(400, f"{key}: not valid json")
    return found


class Job:
    """A build: fed by the request's body, read line by line.

    The body is read in this thread until the command says something, by another while that is told: a build may begin
    before all of its context has come.
    """

    def __init__(self, api: Api, request: Request, words: list[str]) -> None:
        self._api = api
        self._request = request
        self._words = words
        self._errors = os.memfd_create("stderr", os.MFD_CLOEXEC)

    def start(self, feeding: bool) -> None:
        status, status_end = os.pipe2(os.O_CLOEXEC)
        self._file = open(status, "rb")  # noqa: SIM115 (closed by close)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        fds = {0: reader if feeding else null, 1: null, 2: self._errors, 3: status_end}
        try:
            self._started = self._api.commands.start(self._words, fds)
        finally:
            for fd in (status_end, null, reader):
                os.close(fd)
        if feeding:
            self._feed(writer)
        else:
            os.close(writer)

    def _feed(self, writer: int) -> None:
        """The whole body first: an answer that begins before a request has ended confuses clients."""
        try:
            while data := self._request.read():
                fs.write_all(writer, data)
        except BrokenPipeError:
            pass  # it has read all that it wanted
        except BaseException:
            self.close()
            raise
        finally:
            os.close(writer)

    def first(self) -> bytes:
        self._first = self._file.readline()
        return self._first

    def lines(self) -> Iterator[dict[str, Any]]:
        text = self._first
        while text:
            yield document.loads(text)
            text = self._file.readline()

    def error(self) -> Refused | None:
        from oci_tools.engine.api.commands import failure

        code = self._started.wait()
        return failure(self._words, code, os.pread(self._errors, 1 << 16, 0)) if code else None

    def close(self) -> None:
        """Stop it if it still runs: its client has gone."""
        self._started.signal(signal.SIGTERM)
        threading.Thread(target=self._started.wait, daemon=True).start()
        self._file.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


def _told(api: Api, job: Job, names: list[str], quiet: bool) -> Iterator[bytes]:
    """The build as its client sees it."""
    image, last, steps = "", "", Steps(api.built)
    try:
        for said in job.lines():
            image = str(said["id"]) if "image" in said else image
            for text in steps.text(said):
                last = text
                if not quiet:
                    yield line({"stream": text})
        error = job.error()
        if error is not None:
            code, message = _failure(error)
            yield line({"errorDetail": {"code": code, "message": message}, "error": message})
            return
        if quiet:
            yield line({"stream": f"{image}\n"})
            return
        if last and not last.endswith("\n"):
            yield line({"stream": "\n"})
        yield line({"stream": f" ---> {transfer.short(image)}\n"})
        yield line({"aux": {"ID": image}})
        yield line({"stream": f"Successfully built {transfer.short(image)}\n"})
        for name in names:
            yield line({"stream": f"Successfully tagged {store.familiar(store.full(name))}\n"})
    finally:
        job.close()


class Steps:
    """What docker's builder would print of each instruction.

    built  chains of instructions that were built before: of those that make no files no cache has anything
    """

    def __init__(self, built: dict[bytes, None]) -> None:
        self._built = built
        self._chain = b""
        self._count = 0
        self._container = ""  # of a RUN that is not known to be in the cache yet

    def text(self, said: dict[str, Any]) -> Iterator[str]:
        state = said.get("state")
        text = str(said.get("text") or "")
        rest = text.partition("] ")[2] if text.startswith("[") else text
        if "stream" in said:
            yield from self._begin()
            text = a2b_base64(said["stream"]["data"]).decode("utf-8", "replace")
            yield f"{_RED}{text}{_PLAIN}" if said["stream"]["fd"] == 2 else text
        elif state == "noted":
            yield from self._step(rest, said)
            yield from self._end(self._known())
        elif state == "running" and said.get("of"):
            yield from self._step(rest, said)
        elif state in ("cached", "done") and said.get("of"):
            if rest.startswith("RUN") or state == "cached":
                yield from self._end(state == "cached")
            self._known()

    def _step(self, text: str, said: dict[str, Any]) -> Iterator[str]:
        self._count += 1
        self._chain = hashlib.sha256(self._chain + text.encode("utf-8", "surrogateescape")).digest()
        self._container, self._begun = os.urandom(6).hex(), False
        yield f"Step {self._count}/{max(self._count, int(said.get('instructions') or 0))} : {text}"
        yield "\n"

    def _begin(self) -> Iterator[str]:
        if self._container and not self._begun:
            self._begun = True
            yield f" ---> Running in {self._container}\n"

    def _end(self, cached: bool) -> Iterator[str]:
        if cached:
            yield " ---> Using cache\n"
            return
        yield from self._begin()
        yield f" ---> Removed intermediate container {self._container}\n"

    def _known(self) -> bool:
        """Whether this was built before; it has been now."""
        known = self._chain in self._built
        self._built[self._chain] = None
        while len(self._built) > _REMEMBERED:
            del self._built[next(iter(self._built))]
        return known


_COMMAND = re.compile(r'process "(.*)" did not complete successfully: exit code: (\d+)$', re.S)
_PLACE = re.compile(r"^\S*?:(\d+)(?::\d+)?: (.*)$", re.S)


def _failure(error: Refused) -> tuple[int, str]:
    """What a failed build says: of a command that failed its own code, as docker does."""
    found = _COMMAND.search(error.message)
    if found:
        return int(found[2]), f"The command '{found[1]}' returned a non-zero code: {found[2]}"
    return error.status, error.message


def _wrong(error: Refused) -> Refused:
    """What failed before the first step: most often the Dockerfile itself."""
    found = _PLACE.match(error.message)
    if found:
        return Refused(400, f"dockerfile parse error on line {found[1]}: {found[2]}")
    return Refused(500 if error.status == 503 else 400, error.message)


ROUTES: list[Route] = [("POST", "/build", build)]
