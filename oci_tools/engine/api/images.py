"""Images: lists, one in full, names, removal; pull.py and build.py bring them."""

from __future__ import annotations

import re

from oci_tools.engine.api import filters, store, times
from oci_tools.engine.api.answers import Refused, answer
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.store import Image

_FILTERS = "before dangling label label! reference since until".split()
# What inspect says of the containers of an image that says nothing: moby's container.Config, in its order.
_CONFIG: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip


def inspect(api: Api, asked: Asked) -> Response:
    image = api.store.find(asked["name"])
    said = image.document
    shown = {
        "Id": image.id,
        "RepoTags": image.repo_tags(),
        "RepoDigests": image.repo_digests(),
        "Parent": parents(api).get(_base(image), ""),
        "Comment": (said.get("history") or [{}])[-1].get("comment") or "",
        "DockerVersion": said.get("docker_version") or "",
        "Author": said.get("author") or "",
        "Config": {**_CONFIG, **image.config},
        "Architecture": said.get("architecture") or "",
        "Os": said.get("os") or "",
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": (said.get("rootfs") or {}).get("diff_ids") or []},
        "Metadata": {"LastTagTime": times.ZERO},
    }
    if said.get("variant"):
        shown["Variant"] = said["variant"]
    if (created := times.again(said.get("created"))) or asked.version < (1, 44):
        shown["Created"] = created or times.ZERO
    if asked.version < (1, 44):
        shown["VirtualSize"] = image.size
    return answer(shown)


def ls(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), _FILTERS)
    if asked.query("filter"):  # before 1.24's filters
        wanted.setdefault("reference", []).append(asked.query("filter"))
    known = parents(api)
    found = [summary(image, asked.version, known) for image in api.store.all() if _matches(api, image, wanted)]
    for each in found if "reference" in wanted else ():  # only the names that were asked for
        each["RepoTags"] = [name for name in each["RepoTags"] if any(_like(name, text) for text in wanted["reference"])]
        kept = {name.rpartition(":")[0] for name in each["RepoTags"]}
        each["RepoDigests"] = [name for name in each["RepoDigests"] if name.partition("@")[0] in kept]
    return answer(found)


def parents(api: Api) -> dict[str, str]:
    """Ids of images by the digests that another one, made of them, may call its base."""
    return {digest: image.id for image in api.store.all() for digest in (image.digest, *image.tops)}


def _base(image: Image) -> str:
    """The digest of what it was made of (image-spec, annotations.md)."""
    return str((image.manifest.get("annotations") or {}).get("org.opencontainers.image.base.digest") or "")


def summary(image: Image, version: tuple[int, int], known: dict[str, str]) -> dict[str, Any]:
    """An image as a list shows it; `known`: those that may be its `parents`."""
    shown = {
        "Containers": -1,
        "Created": image.created // times.SECOND,
        "Id": image.id,
        "Labels": image.config.get("Labels"),
        "ParentId": known.get(_base(image), ""),
        "RepoDigests": image.repo_digests(),
        "RepoTags": image.repo_tags(),
        "SharedSize": -1,
        "Size": image.size,
    }
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    return shown


def _matches(api: Api, image: Image, wanted: filters.Filters) -> bool:
    if not filters.labels(wanted, image.config.get("Labels")):
        return False
    dangling = filters.flag(wanted, "dangling")
    if dangling is not None and dangling != (not image.names):
        return False
    if "reference" in wanted and not any(_refers(image, each) for each in wanted["reference"]):
        return False
    for word in wanted.get("before", ()):
        if image.created >= api.store.find(word).created:
            return False
    for word in wanted.get("since", ()):
        if image.created <= api.store.find(word).created:
            return False
    until = [times.until({"until": [each]}) or 0 for each in wanted.get("until", ())]
    return not until or image.created < min(until)


def _refers(image: Image, pattern: str) -> bool:
    return any(_like(store.familiar(name), pattern) for name in image.names)


def _like(name: str, pattern: str) -> bool:
    """Whether a familiar name is like a pattern: path.Match of it, with its tag or without."""
    from fnmatch import translate

    parts = [re.compile(translate(part)) for part in pattern.split("/")]
    for each in (name, name.rpartition(":")[0]):
        said = each.split("/")
        if len(said) == len(parts) and all(part.match(word) for part, word in zip(parts, said, strict=True)):
            return True
    return store.full(pattern) == store.full(name)


def tag(api: Api, asked: Asked) -> Response:
    image = api.store.find(asked["name"])
    name = asked.query("repo")
    if not name:
        return Response(200)
    if asked.query("tag"):
        name = f"{name.partition('@')[0]}:{asked.query('tag')}"
    if name.partition(":")[0] in ("sha256", "sha384", "sha512"):
        raise Refused(400, "refusing to create an ambiguous tag using digest algorithm as name")
    store.check(name)
    api.commands.run(["image", "tag", image.word, store.full(name)])
    return Response(201)


def history(api: Api, asked: Asked) -> Response:
    image = api.store.find(asked["name"])
    layers = list(image.manifest.get("layers") or ())
    shown = []
    for step in image.document.get("history") or ():
        size = 0 if step.get("empty_layer") or not layers else int(layers.pop(0).get("size") or 0)
        shown.append({
            "Comment": step.get("comment") or "", "Created": (times.read(step.get("created")) or 0) // times.SECOND,
            "CreatedBy": step.get("created_by") or "", "Id": "<missing>", "Size": size, "Tags": None,
        })  # fmt: skip
    shown += [
        {"Comment": "", "Created": image.created // times.SECOND, "CreatedBy": "", "Id": "<missing>",
         "Size": int(layer.get("size") or 0), "Tags": None}
        for layer in layers
    ]  # fmt: skip
    shown.reverse()
    if shown:
        shown[0].update(Id=image.id, Tags=image.repo_tags() or None)
    return answer(shown)


def remove(api: Api, asked: Asked) -> Response:
    word, force = asked["name"], asked.flag("force")
    image = api.store.find(word)
    full = store.full(word)
    named = full in image.names
    if "@" in word and not named and image.names:  # it goes with the last of the names that have a tag
        return answer([{"Untagged": word}])
    users = [one for one in api.world.all() if one.asked.get("Image") == image.id]
    going = [full] if named else list(image.names)
    last = set(going) >= set(image.names)
    _may_go(image, word, named, last, users, force)
    done = [{"Untagged": store.familiar(name)} for name in going]
    if last and not users:
        done += [{"Untagged": each} for each in image.repo_digests()] if going else []
        done.append({"Deleted": image.id})
        going = [f"{api.store.path}@{digest}" for digest in image.tops]
    api.commands.run(["image", "rm", *going])
    for each in done:
        kind, name = next(iter(each.items()))
        api.events.append("image", "delete" if kind == "Deleted" else "untag", image.id, {"name": name})
    return answer(done)


def _may_go(
    image: Image, word: str, named: bool, last: bool, users: list[Any], force: bool
) -> None:
    if not last:
        return
    if not named and len(image.names) > 1 and not force:
        raise Refused(
            409, f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is referenced in multiple "
            "repositories",
        )  # fmt: skip
    shown = image.id[7:19] if not named else store.familiar(store.full(word))
    running = [one for one in users if one.running]
    if running:
        what = "remove repository reference" if named else "delete"
        how = "(must force)" if named else "(cannot be forced)"
        if not (named and force):
            raise Refused(
                409, f'conflict: unable to {what} "{shown}" {how} - container {running[0].id[:12]} is using its '
                f"referenced image {image.id[7:19]}" if named else
                f"conflict: unable to delete {shown} (cannot be forced) - image is being used by running container "
                f"{running[0].id[:12]}",
            )  # fmt: skip
    if users and not force:
        raise Refused(
            409, f'conflict: unable to remove repository reference "{shown}" (must force) - container '
            f"{users[0].id[:12]} is using its referenced image {image.id[7:19]}" if named else
            f"conflict: unable to delete {shown} (must be forced) - image is being used by stopped container "
            f"{users[0].id[:12]}",
        )  # fmt: skip


ROUTES: list[Route] = [
    ("GET", "/images/json", ls),
    ("GET", "/images/{name*}/json", inspect),
    ("GET", "/images/{name*}/history", history),
    ("POST", "/images/{name*}/tag", tag),
    ("DELETE", "/images/{name*}", remove),
]
