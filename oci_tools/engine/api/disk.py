"""What takes room, what is given back, and the registries' side: system df, prunes, auth, distribution, search."""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.engine.api import describe, filters, images, links, members, store, times, volumes
from oci_tools.engine.api.answers import Refused, answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.http import Response

HUB = "docker.io"


def df(api: Api, asked: Asked) -> Response:
    kinds = asked.all("type") or ["container", "image", "volume", "build-cache"]
    for kind in kinds:
        if kind not in ("container", "image", "volume", "build-cache"):
            raise Refused(400, f"unknown object type: {kind}")
    shown: dict[str, Any] = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
    containers = api.world.all()
    if "image" in kinds:
        shown["LayersSize"], shown["Images"] = _images(api, asked.version)
    if "container" in kinds:
        now, linked = times.now(), links.names(api.world)
        shown["Containers"] = [describe.measured(api, one, now, linked.get(one.id) or []) for one in containers]
    if "volume" in kinds:
        users = volumes.users(api)
        shown["Volumes"] = [
            {**(told := volumes.shown(api, each)),
             "UsageData": {"RefCount": len(users.get(each["name"], ())), "Size": volumes.taken(told["Mountpoint"])}}
            for each in volumes.records(api)
        ]  # fmt: skip
    if "build-cache" in kinds:
        shown["BuildCache"] = []
    return answer(shown)


def _images(api: Api, version: tuple[int, int]) -> tuple[int, list[dict[str, Any]]]:
    uses: dict[str, int] = {}
    for one in api.world.all():
        key = str(one.asked.get("Image") or "")
        uses[key] = uses.get(key, 0) + 1
    layers: dict[str, int] = {}
    owners: dict[str, int] = {}
    for image in api.store.all():
        for layer in image.manifest.get("layers") or ():
            layers[layer["digest"]] = int(layer.get("size") or 0)
            owners[layer["digest"]] = owners.get(layer["digest"], 0) + 1
    found, known = [], images.parents(api)
    for image in api.store.all():
        shared = sum(
            int(layer.get("size") or 0) for layer in image.manifest.get("layers") or () if owners[layer["digest"]] > 1
        )
        found.append(
            {**images.summary(image, version, known), "Containers": uses.get(image.id, 0), "SharedSize": shared}
        )
    return sum(layers.values()), found


# -- giving back -------------------------------------------------------------------------------


def prune_images(api: Api, asked: Asked) -> Response:
    """Images without a name, or with dangling=false all that no container uses; then what only they were made of."""
    wanted = filters.read(asked.query("filters"), ("dangling", "label", "label!", "until"))
    dangling = filters.flag(wanted, "dangling")
    until = times.until(wanted)
    used = {str(one.asked.get("Image") or "") for one in api.world.all()}
    before, deleted = _blobs(api), []
    for image in list(api.store.all()):
        if image.id in used or (image.names and dangling is not False):
            continue
        if not filters.labels(wanted, image.config.get("Labels")) or (until is not None and image.created > until):
            continue
        api.commands.run(["image", "rm", *(f"{api.store.path}@{digest}" for digest in image.tops)])
        deleted += [{"Untagged": store.familiar(name)} for name in image.names]
        deleted.append({"Deleted": image.id})
    if os.path.isdir(api.store.path):
        api.commands.ran(["image", "gc", "--grace=1m" if not used else "--grace=1h"])
    return answer({"ImagesDeleted": deleted or None, "SpaceReclaimed": max(0, before - _blobs(api))})


def _blobs(api: Api) -> int:
    return volumes.taken(f"{api.store.path}/blobs")


_CACHE = ("until", "unused-for", "label", "id", "parent", "type", "description", "inuse", "shared", "private")


def prune_build(api: Api, asked: Asked) -> Response:
    """What builds have kept: what is too much, or else what was not used since `until`, or all."""
    until = times.until(filters.read(asked.query("filters"), _CACHE))
    age = 0 if until is None else max(0, times.now() - until) // times.SECOND
    most = asked.number("keep-storage", 0)
    printed = api.commands.run(["build", "--prune", f"--prune-size={most}" if most else f"--prune-age={age}s"])
    gone = [line.split("\t") for line in printed.splitlines()]
    reclaimed = sum(int(size) for *_, size in gone)
    return answer({"CachesDeleted": [name for _, name, _ in gone] or None, "SpaceReclaimed": reclaimed})


# -- registries --------------------------------------------------------------------------------


def auth(api: Api, asked: Asked) -> Response:
    """Try a user's name and password; nothing of them is kept here: the client does that."""
    said = asked.json(members.AUTH)
    host = str(said.get("serveraddress") or HUB).removeprefix("https://").removeprefix("http://").partition("/")[0]
    host = HUB if host in ("index.docker.io", "registry-1.docker.io") else host
    if said.get("identitytoken"):
        return answer({"IdentityToken": said["identitytoken"], "Status": "Login Succeeded"})
    kept = f"{api.private()}/auth-{os.urandom(8).hex()}.json"
    password = str(said.get("password") or "")
    words = ["pull", f"--login={host}", f"--username={said.get('username') or ''}", f"--authfile={kept}"]
    try:
        api.commands.run(words, f"{password}\n".encode())
    except Refused as error:
        raise Refused(500 if error.status in (503, 400) else 401, _unauthorized(host, error.message)) from None
    finally:
        try:
            os.unlink(kept)
        except FileNotFoundError:
            pass
    return answer({"IdentityToken": "", "Status": "Login Succeeded"})


def _unauthorized(host: str, message: str) -> str:
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    return f"login attempt to {scheme}://{host}/v2/ failed: {message}"


def distribution(api: Api, asked: Asked) -> Response:
    """What a registry has under a name."""
    from oci_tools.engine.api import transfer

    told = transfer.Told(api, ["pull", "--describe", store.full(asked["name"])], transfer.auth(asked))
    try:
        for _ in told.lines():
            pass
        text, error = told.printed(), told.reading.error()
    finally:
        told.close()
    if error is not None:
        raise Refused(404 if error.status == 404 else 403 if error.status == 401 else 500, error.message)
    found = document.loads(text)
    descriptor = {key: found[key] for key in ("mediaType", "digest", "size")}
    return answer({"Descriptor": descriptor, "Platforms": found["platforms"]})


def search(api: Api, asked: Asked) -> Response:
    if not asked.query("term"):
        raise Refused(400, "term is needed")
    raise Refused(500, "this engine cannot search registries: it has no index to ask")


ROUTES: list[Route] = [
    ("GET", "/system/df", df),
    ("POST", "/images/prune", prune_images),
    ("POST", "/build/prune", prune_build),
    ("POST", "/auth", auth),
    ("GET", "/images/search", search),
    ("GET", "/distribution/{name*}/json", distribution),
]
