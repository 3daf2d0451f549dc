"""Images that come and go: pull, push, load, save, import, commit; progress in docker's messages.

Our commands tell of it on `--status-fd`: {"op", "id", "state", "current", "total"}, one line each.  The first line, or
the end, decides whether the answer is an error or a stream.
"""

from __future__ import annotations

import os
import time
from binascii import Error as Base64Error
from binascii import a2b_base64

from oci_tools import document
from oci_tools.engine.api import changing, members, store, times
from oci_tools.engine.api.answers import Refused, answer, line, stream
from oci_tools.errors import Error
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.engine.api.commands import Reading
    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api

_WORDS = {
    "pull": {"wait": "Pulling fs layer", "get": "Downloading", "done": "Pull complete", "exists": "Already exists"},
    "push": {"wait": "Preparing", "send": "Pushing", "done": "Pushed", "exists": "Layer already exists",
             "mounted": "Mounted from"},
}  # fmt: skip
_BAR = 50


# -- progress ----------------------------------------------------------------------------------


def short(digest: str) -> str:
    return digest.partition(":")[2][:12] or digest


def size(count: float) -> str:
    """Bytes as docker writes them: 1.071MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.4g}{unit}"
        count /= 1000
    raise AssertionError


def message(op: str, said: dict[str, Any]) -> dict[str, Any] | None:
    """One of our lines as a message of docker's; None for what it does not show."""
    state = said.get("state")
    words = _WORDS[op].get(str(state))
    if words is None:
        return None
    shown: dict[str, Any] = {"status": words, "progressDetail": {}, "id": short(str(said.get("id")))}
    if state in ("get", "send") and said.get("total"):
        current, total = int(said["current"]), int(said["total"])
        done = min(_BAR, current * _BAR // total)
        bar = "=" * (done - (done == _BAR)) + ">" + " " * (_BAR - max(done, 1))
        shown["progressDetail"] = {"current": current, "total": total}
        shown["progress"] = f"[{bar[:_BAR]}] {size(current):>7}/{size(total)}"
    return shown


def failed(error: Refused) -> bytes:
    return line({"errorDetail": {"code": error.status, "message": error.message}, "error": error.message})


class Told:
    """A command that tells of its progress: its lines, then how it ended."""

    def __init__(self, api: Api, words: list[str], auth: dict[str, Any] | None = None) -> None:
        self._status, writer = os.pipe2(os.O_CLOEXEC)
        more, held = {3: writer}, -1
        words = [words[0], "--status-fd=3", *words[1:]]
        if auth:
            held = os.memfd_create("auth", os.MFD_CLOEXEC)
            os.write(held, document.dumps(auth))
            os.lseek(held, 0, os.SEEK_SET)
            more[4] = held
            words.insert(1, "--auth-fd=4")
        try:
            self.reading: Reading = api.commands.reading(words, more)
        except BaseException:
            os.close(self._status)
            raise
        finally:
            os.close(writer)
            if held >= 0:
                os.close(held)
        self._file = open(self._status, "rb")  # noqa: SIM115 (closed by close)
        self.first = self._file.readline()

    def close(self) -> None:
        self._file.close()
        self.reading.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        text = self.first
        while text:
            try:
                said = document.loads(text)
                if isinstance(said, dict):
                    yield said
            except Error:
                pass
            text = self._file.readline()

    def printed(self) -> str:
        """What it printed, in the end."""
        return b"".join(self.reading.pieces()).decode("utf-8", "surrogateescape").strip()


def auth(asked: Asked) -> dict[str, Any] | None:
    """X-Registry-Auth: base64 of {"username", "password"} or a token; None where it says nothing."""
    text = asked.request.header("x-registry-auth")
    if not text:
        return None
    try:
        said = document.loads(a2b_base64(text.replace("-", "+").replace("_", "/") + "=="))
    except (Error, Base64Error, ValueError):
        return None  # dockerd takes it for nothing as well
    if not isinstance(said, dict):
        return None
    kept = {key: said[key] for key in ("username", "password", "identitytoken", "registrytoken") if said.get(key)}
    return kept or None


# -- pull ------------------------------------------------------------------------------------


def create(api: Api, asked: Asked) -> Response:
    if asked.query("fromSrc"):
        return _import(api, asked)
    name, tag = asked.query("fromImage"), asked.query("tag")
    if not name:
        raise Refused(400, "fromImage or fromSrc is needed")
    has = "@" in name or ":" in name.rpartition("/")[2]
    everything = not has and not tag
    if tag and not has:
        name += f"@{tag}" if tag.startswith("sha256:") else f":{tag}"
    full = store.full(name, tag="" if everything else "latest")
    words = ["pull", *(["--all-tags"] if everything else []), full]
    if asked.query("platform"):
        changing.platform(asked.query("platform"), "")
        words.insert(1, f"--platform={asked.query('platform')}")
    before = api.store.look(full) if not everything else None
    told = Told(api, words, auth(asked))
    if not told.first:
        printed = told.printed()
        error = told.reading.error()
        if error is not None:
            told.close()
            raise _not_pulled(store.familiar(full), error)
        return stream(_pulled(api, told, full, before.digest if before else "", printed))
    return stream(_pulled(api, told, full, before.digest if before else "", None))


def _not_pulled(name: str, error: Refused) -> Refused:
    if error.message.endswith("no such manifest"):
        return Refused(404, f"manifest for {name} not found: manifest unknown: manifest unknown")
    if error.message.endswith("no such repository"):
        repository = name.partition("@")[0].rpartition(":")[0] or name
        return Refused(
            404, f"pull access denied for {repository}, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied",
        )  # fmt: skip
    return Refused(500 if error.status == 503 else error.status, error.message)


def _pulled(api: Api, told: Told, full: str, before: str, printed: str | None) -> Iterator[bytes]:
    try:
        head, at, tag = full.partition("@")
        repository = head if at else head.rpartition(":")[0]
        shown = store.familiar(full)
        yield line({"status": f"Pulling from {repository.partition('/')[2]}", "id": tag or full.rpartition(":")[2]})
        for found in _moving(told.lines()):
            yield line(found)
        printed = told.printed() if printed is None else printed
        error = told.reading.error()
        if error is not None:
            yield failed(_not_pulled(shown, error))
            return
        digest = printed.rpartition("@")[2]
        yield line({"status": f"Digest: {digest}"})
        same = before == digest
        yield line({"status": f"Status: {'Image is up to date' if same else 'Downloaded newer image'} for {shown}"})
        api.events.append("image", "pull", shown, {"name": shown})
    finally:
        told.close()


def _moving(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is said of the parts of an image, as docker does: nothing where all of it is here already."""
    held: list[dict[str, Any]] | None = []  # until something moves
    for said in lines:
        if held is not None and said.get("state") in ("wait", "exists"):
            held.append(said)
            continue
        here = {each["id"] for each in held or () if each["state"] == "exists"}
        for each in (*(one for one in held or () if one["state"] == "exists" or one["id"] not in here), said):
            found = message("pull", each)
            if found:
                yield found
        held = None


# -- push ------------------------------------------------------------------------------------


def push(api: Api, asked: Asked) -> Response:
    name, tag = asked["name"], asked.query("tag")
    repository = store.full(name, tag="")
    there = [each for image in api.store.all() for each in image.names if each.rpartition(":")[0] == repository]
    return stream(_pushed(api, repository, [f"{repository}:{tag}"] if tag and there else there, auth(asked)))


def _pushed(api: Api, repository: str, wanted: list[str], said: dict[str, Any] | None) -> Iterator[bytes]:
    shown = store.familiar(repository)
    host = repository if repository.startswith("docker.io/") else shown
    yield line({"status": f"The push refers to repository [{host}]"})
    if not any(api.store.look(each) for each in wanted):
        tag = wanted[0].rpartition(":")[2] if wanted else ""
        missing = f"tag does not exist: {shown}:{tag}"
        yield failed(Refused(404, missing if tag else f"An image does not exist locally with the tag: {shown}"))
        return
    for name in wanted:
        image = api.store.look(name)
        if image is None:
            continue
        told = Told(api, ["push", name, name], said)
        try:
            for each in told.lines():
                found = message("push", each)
                if found and each.get("id") != image.id:
                    yield line(found)
            printed = told.printed()
            error = told.reading.error()
            if error is not None:
                yield failed(error)
                return
        finally:
            told.close()
        digest, tag = printed.rpartition("@")[2], name.rpartition(":")[2]
        length = len(document.dumps(image.manifest)) if image.digest != digest else _length(api, digest)
        yield line({"status": f"{tag}: digest: {digest} size: {length}"})
        yield line({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": length}})
        api.events.append("image", "push", store.familiar(name), {"name": store.familiar(name)})


def _length(api: Api, digest: str) -> int:
    try:
        return os.stat(f"{api.store.path}/blobs/{digest.replace(':', '/')}").st_size
    except OSError:
        return 0


# -- archives --------------------------------------------------------------------------------


def load(api: Api, asked: Asked) -> Response:
    try:
        printed = api.commands.fed(["image", "load", "--json", "-"], asked.request)
    except Refused as error:  # docker's answer has begun by then
        return stream(iter([line({"errorDetail": {"message": error.message}, "error": error.message})]))
    messages = []
    for said in [document.loads(text) for text in printed.splitlines()]:
        image = api.store.look(said["digest"])
        if image is not None:
            known = store.familiar(said["name"]) if said["name"] else ""
            messages.append(f"Loaded image: {known}\n" if known else f"Loaded image ID: {image.id}\n")
            api.events.append("image", "load", image.id, {"name": image.id})
    return stream(iter([line({"stream": text}) for text in messages]))


def save(api: Api, asked: Asked) -> Response:
    names = [asked["name"]] if "name" in asked.names else [
        name for value in asked.all("names") for name in value.split(",") if name
    ]  # fmt: skip
    if not names:
        raise Refused(400, "no images to save")
    words = []
    for name in names:
        words += _every_tag(api, name) or [api.store.find(name).called(name)]
    reading = api.commands.reading(["image", "save", *words])
    return stream(reading.sent(), "application/x-tar")


def _every_tag(api: Api, name: str) -> list[str]:
    """The names in a repository that is said without a tag."""
    bare = store.full(name, tag="")
    if "@" in bare or ":" in bare.rpartition("/")[2]:
        return []
    return [each for image in api.store.all() for each in image.names if each.rpartition(":")[0] == bare]


def _import(api: Api, asked: Asked) -> Response:
    source = asked.query("fromSrc")
    url = source if source == "-" or "://" in source else f"http://{source}"
    if url != "-" and not url.startswith(("http://", "https://")):  # a path would be one of our host's
        raise Refused(400, f"{source} is not an http or https URL")
    comment = asked.query("message") or f"Imported from {url}"
    words = ["pack", *changing.options(asked.all("changes")), f"--comment={comment}"]
    if asked.query("platform"):
        words.append(f"--platform={changing.platform(asked.query('platform'))}")
    named = asked.query("repo"), asked.query("tag")
    if url == "-":
        return stream(iter([line({"status": _named(api, *named, [*words, "-"], asked)})]))
    return stream(_downloaded(url, lambda: _named(api, *named, [*words, url], None)))


def _downloaded(url: str, make: Callable[[], str]) -> Iterator[bytes]:
    yield line({"status": f"Downloading from {url}"})
    try:
        yield line({"status": make()})
    except Refused as error:
        yield failed(error)


def _named(api: Api, repository: str, tag: str, words: list[str], asked: Asked | None) -> str:
    """Make an image by `oci-pack`, now; without a name for it, it has one only for a moment.  Its Id."""
    name = store.full(f"{repository}:{tag}" if tag else repository) if repository else ""
    target = name or f"docker.io/library/made:{os.urandom(8).hex()}"
    command = [*words, f"--created={times.written(time.time_ns())}", target]
    printed = api.commands.fed(command, asked.request) if asked else api.commands.run(command)
    image = api.store.find(target)
    if not name:
        api.commands.run(["image", "rm", target])
    assert printed
    return image.id


def commit(api: Api, asked: Asked) -> Response:
    said = asked.json(members.CONFIG, needed=False)
    if not asked.query("container"):
        raise Refused(400, 'invalid name or ID supplied: ""')
    one = api.world.find(asked.query("container"))
    pauses = asked.flag("pause", True) and one.status == "running"
    config = {**one.config, **{key: value for key, value in said.items() if value}}
    words = [
        "pack", *changing.of_config(config), *changing.options(asked.all("changes"), config.get("Env") or ()),
        f"--comment={asked.query('comment')}",
    ]  # fmt: skip
    if asked.query("author"):
        words.append(f"--author={asked.query('author')}")
    base = api.store.look(str(one.asked.get("Image") or "-"))
    if base:
        words.append(f"--annotation=org.opencontainers.image.base.digest={base.tops[0]}")
    if pauses and api.commands.ran(["run", "pause", one.id])[0]:
        pauses = False  # it has just ended
    try:
        made = _named(api, asked.query("repo"), asked.query("tag"), [*words, f"{one.path}/bundle"], None)
    finally:
        if pauses:
            api.commands.ran(["run", "resume", one.id])
    api.events.tell(one, "commit", comment=asked.query("comment"), imageID=made)
    return answer({"Id": made}, 201)


def export(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    reading = api.commands.reading(["run", "export", one.id])
    api.events.tell(one, "export")
    return stream(reading.sent(), "application/octet-stream")


ROUTES: list[Route] = [
    ("POST", "/images/create", create),
    ("POST", "/images/{name*}/push", push),
    ("POST", "/images/load", load),
    ("GET", "/images/get", save),
    ("GET", "/images/{name*}/get", save),
    ("POST", "/commit", commit),
    ("GET", "/containers/{id}/export", export),
]
