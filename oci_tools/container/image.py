"""Where the image of a container comes from: the store, or first its registry; and what a bundle's users are."""

from __future__ import annotations

import os

from oci_tools import bundle as bundles
from oci_tools import document, fs
from oci_tools.container.host import Blob
from oci_tools.errors import Error, Usage
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs
from oci_tools.layer import lookup
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host
    from oci_tools.runtime.user import Read

# Verbs that people of docker try, and where they are here: no stranger's image of that name is meant.
_ELSEWHERE = {
    "build": "oci-build", "commit": "oci-pack ID IMAGE", "container": "oci-run", "history": "oci-image history",
    "image": "oci-image", "images": "oci-image ls", "import": "oci-pack - IMAGE", "info": "oci-run features",
    "inspect": "oci-run state, oci-image inspect", "load": "oci-image load", "login": "oci-pull --login HOST",
    "logout": "oci-pull --logout HOST", "network": "oci-net", "port": "oci-net publish ls", "pull": "oci-pull",
    "push": "oci-push", "rmi": "oci-image rm", "save": "oci-image save", "search": "no registry is searched",
    "system": "oci-image gc", "tag": "oci-image tag", "version": "oci-run --version", "volume": "oci-vol",
}  # fmt: skip


def bring(
    word: str, when: str, platform: str | None = None, quiet: bool = True, how: dict[str, Any] | None = None
) -> str:
    """Have the image that a word means in the store, asking its registry when it says; the word to find it by.

    how   more of registry/copy.py's Options
    when  "always", "missing", "never", or "newer": as always, but the one that is there will do if that fails
    """
    if word == "-":
        return word
    place = refs.locate(word)
    if place.kind == "layout" and not os.path.exists(place.path):
        raise Error("cannot open image or bundle", place.path, "no such file or directory")
    if place.kind not in ("store", "registry") or place.ref is None:
        return word
    name = str(place.ref)
    there = when != "always" and _is_there(name)
    if there and when != "newer":
        return name
    if when == "never":
        raise Error("no such image", word)
    if not there and word in _ELSEWHERE:
        raise _no_verb(word, _ELSEWHERE[word], name)
    try:
        _pull(place.ref, platform, quiet, how or {})
    except Error:
        if not there:
            raise
    return name


def refuse_slip(word: str, verb: str | None) -> None:
    """An Error if a word that is nearly this verb is no image that is here: no stranger's is brought then."""
    place = refs.locate(word) if verb and len(word) > 2 else None
    if verb and place and place.ref is not None and not _is_there(str(place.ref)):
        raise _no_verb(word, f"oci-run {verb}", str(place.ref))


def _no_verb(word: str, verb: str, image: str) -> Error:
    return Error("no such verb or image here", word, hint=f"{verb}; the image is {image}")


def stacked(args: Args, directory: str) -> dict[str, list[str]]:
    """The images that `args` mount, had and stacked in a container's directory: the options of an overlay of each.

    Each is an overlay bundle, which keeps its layers from being collected as long as the container is there.
    Of one that cannot be stacked there are "bind" and its directory instead.
    """
    from oci_tools.container import mounts
    from oci_tools.image.source import Source

    found = {}
    for number, word in enumerate(dict.fromkeys(mounts.images(args))):
        if not word:
            raise Usage("invalid mount", "type=image", "it needs a source")
        if args.userns == "nomap":
            raise Error("cannot mount image", word, "not with --userns nomap")
        with Source(bring(word, args.pull, None, args.quiet, pulling(args))) as source:
            image = bundles.Image(source.layout, source.descriptor, None, source.name)
            path = bundles.overlay(image, f"{directory}/images/{number}")
        known = bundles.overlay_of(path)
        if known is None:
            found[word] = ["bind", f"{path}/rootfs"]
            continue
        trees = ":".join(f"{known['store']}/{digest.replace(':', '/')}" for digest in known["lower"])
        found[word] = [f"lowerdir={trees}", f"upperdir={path}/upper", f"workdir={path}/work"]
        if not process.in_host_user_namespace() or os.geteuid():
            found[word].append("userxattr")  # where the marks of the layers are then
    return found


def overlay(args: Args) -> Callable[..., str]:
    """What makes an overlay bundle for such a container."""
    if args.userns != "nomap":
        return bundles.overlay
    from oci_tools.container import nomap

    return nomap.overlay


def show_as_inside(spec: dict[str, Any], host: Host) -> None:
    """Root's images that are mounted in a user namespace are that one's, as the container's own is."""
    spaces = spec["linux"].get("namespaces", ())
    if host.rootless or not host.initial or not any(each["type"] == "user" for each in spaces):
        return
    for mount in spec["mounts"]:
        options = set(mount.get("options", ()))
        if mount.get("type") == "overlay" and any(options.issuperset(one) for one in host.images.values()):
            mount["options"].append("idmap")


def laid(args: Args, directory: str) -> dict[str, list[Blob]]:
    """The artifacts that `args` mount, had and laid into a container's directory, where they stay as long as it does.

    A file is the store's own, by a second name, or a copy that was verified where it cannot have one.
    """
    from oci_tools.container import mounts
    from oci_tools.image import artifact
    from oci_tools.image.source import Source

    found: dict[str, list[Blob]] = {}
    for number, word in enumerate(dict.fromkeys(mounts.images(args, "artifact"))):
        if not word:
            raise Usage("invalid mount", "type=artifact", "it needs a source")
        with Source(bring(word, args.pull, None, args.quiet, pulling(args))) as source:
            ours = source.place is not None and source.place.kind == "store"
            files = artifact.lay(source.layout, source.descriptor, f"{directory}/artifacts/{number}", ours)
        found[word] = [Blob(*each) for each in files]
    return found


def let_go(word: str) -> None:
    """Take away the name by which a container had its image from the store, unless another container is of it."""
    from oci_tools.container import names

    place = refs.locate(word)
    if place.kind not in ("store", "registry") or place.ref is None:
        return
    name = str(place.ref)
    if any((names.policy(each) or {}).get("image") in (name, word) for each in names.ids()):
        return
    with layouts.store() as layout:
        layout.untag(name)


def _is_there(name: str) -> bool:
    try:
        layouts.at(refs.locate(name)).find(refs.locate(name).name)
        return True
    except Error:
        return False


def platform(args: Args) -> str:
    """--os, --arch and --variant in the words of --platform."""
    if args.platform:
        raise Usage("--platform excludes --os, --arch and --variant")
    host = manifests.host_platform()
    architecture = args.arch or host["architecture"]
    variant = args.variant or ("" if args.arch else host.get("variant", ""))
    return "/".join(filter(None, (args.os or "linux", architecture, variant)))


def pulling(args: Args) -> dict[str, Any]:
    """What the options say of a registry."""
    how: dict[str, Any] = {}
    if args.authfile:
        from oci_tools.registry.credentials import Credentials

        how["credentials"] = Credentials(args.authfile)
    if not args.tls_verify:
        how["verify"] = False
    if args.retry is not None:
        how["retries"] = max(args.retry, 0)
    if args.retry_delay:
        from oci_tools.image.health import duration

        how["delay"] = duration(args.retry_delay) / 1e9
    return how


def _pull(ref: refs.Ref, platform: str | None, quiet: bool, how: dict[str, Any]) -> None:
    """Pull into the store, in a process of its own: it has threads, and what forks containers may not."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(reader)
            code = _pull_here(ref, platform, quiet, writer, how)
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise Error(
            said.decode("utf-8", "replace") or f"pulling '{ref}' ended with code {code}", code=abs(code)
        )


def _pull_here(ref: refs.Ref, platform: str | None, quiet: bool, errors: int, how: dict[str, Any]) -> int:
    from oci_tools.registry.copy import Options
    from oci_tools.registry.progress import Progress
    from oci_tools.registry.pull import pull

    try:
        progress = Progress("pull", "none" if quiet else "auto")
        with layouts.store() as layout, Options(progress=progress, **how) as options, progress:
            pull(ref, layout, str(ref), options, [platform] if platform else ())
        return 0
    except Error as error:
        os.write(errors, str(error).encode("utf-8", "replace"))
        return error.code
    except KeyboardInterrupt:
        return 130


def users_of(bundle: str, spec: dict[str, Any]) -> str | Read:
    """Where the users of a bundle are looked up: in its rootfs, or in what its overlay will show."""
    text = spec.get("annotations", {}).get(bundles.OVERLAY)
    if text is None:
        return os.path.join(bundle, spec["root"]["path"])
    try:
        said = document.loads(text, bundles.OVERLAY)
        store = said.get("store") or f"{fs.root()}/layers"
        parts = [digest.partition(":") for digest in said["lower"]]
        trees = [os.path.join(bundle, said["upper"]), *(f"{store}/{kind}/{text}" for kind, _, text in parts)]
    except (KeyError, TypeError, AttributeError):
        raise Error(f"config.json: annotations: bad value of {bundles.OVERLAY}") from None
    return lookup.reader(trees, bundles.PASSWD_MAX)
