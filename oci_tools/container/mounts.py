"""-v, --mount and --tmpfs as entries of config.json's `mounts`: docker's words, their meaning as data.

A mount replaces the default one at the same place, one on /dev all that are below it, and
shallow ones come before deep ones.  Binds are recursive and private unless told, and a
read-only one is read-only all the way down.  What a volume is: volumes.py, and the room of that name.
"""

from __future__ import annotations

import os

from oci_tools.container import units
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host
    from oci_tools.container.volumes import Want

    Mount = dict[str, Any]

PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
LOCALTIME, INIT = "/etc/localtime", "/sbin/oci-init"  # where process.py binds these
TMPFS_FLAGS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime relatime norelatime"
    " strictatime nostrictatime tmpcopyup notmpcopyup".split()
)
TMPFS_DATA = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))


class Asked:
    """What must be made before a container: directories of the host, volumes."""

    def __init__(self) -> None:
        self.directories: list[str] = []
        self.volumes: list[Want] = []
        self.owned: list[str] = []  # destinations of directories of the host that become the container's user's

    def make(self) -> None:
        """The directories; the others are for who knows more."""
        for path in self.directories:
            try:
                os.makedirs(path, exist_ok=True)
            except OSError as error:
                raise Error("cannot make directory", path, error) from None


def apply(spec: dict[str, Any], args: Args, host: Host) -> Asked:
    """Put the mounts that `args` and the image ask for in place; what has to be made first is returned."""
    asked = Asked()
    wanted = [volume(word, host, asked) for word in args.volume]
    wanted += [each for word in args.mount for each in mount(word, host, asked)]
    wanted += [tmpfs(word) for word in args.tmpfs]
    said = {each["destination"] for each in wanted}
    others = [each for word in args.volumes_from for each in volumes_from(word, host)]
    wanted += {each["destination"]: each for each in others if each["destination"] not in said}.values()
    places = [each["destination"] for each in wanted]
    for at, path in enumerate(places):
        if path in places[:at]:
            raise Usage("duplicate mount point", path)
    for path in host.volumes if args.image_volume != "ignore" else ():
        where = _destination(path, path)
        if where not in places:
            wanted.append(_new_tmpfs(where, []) if args.image_volume == "tmpfs" else _volume_mount(asked, None, where))
            places.append(where)
    for path in ("/run", "/tmp", "/var/tmp") if args.read_only and args.read_only_tmpfs else ():
        if path not in places:
            wanted.append(_new_tmpfs(path, ["exec"] if path != "/run" else []))
    place(spec, wanted)
    kinds = {option.lstrip("r") for each in wanted for option in each["options"] if option in PROPAGATION}
    for kind in ("shared", "slave"):  # the root must let through what a mount is to receive
        if kind in kinds:
            spec.setdefault("linux", {}).setdefault("rootfsPropagation", f"r{kind}")
    return asked


def place(spec: dict[str, Any], wanted: list[Mount]) -> None:
    """Add mounts: in place of what was at the same place, shallow before deep."""
    taken = {each["destination"] for each in wanted}
    kept = [
        each
        for each in spec.get("mounts", ())
        if normal(each["destination"]) not in taken
        and not ("/dev" in taken and normal(each["destination"]).startswith("/dev/"))
    ]
    spec["mounts"] = kept + sorted(wanted, key=lambda each: each["destination"].count("/"))


def normal(path: str) -> str:
    """A destination in its one form."""
    return "/" + os.path.normpath("/" + path).lstrip("/")


def _destination(path: str, word: str) -> str:
    if not path.startswith("/"):
        raise Usage("invalid mount path", path or word, "it must be absolute")
    if normal(path) == "/":
        raise Usage("invalid mount path", path, "it cannot be the root")
    return normal(path)


# Options of -v that are the runtime's own.
_AS_THEY_ARE = ("idmap", "ridmap", "exec", "noexec", "suid", "nosuid", "dev", "nodev")


def bind(
    source: str, destination: str, readonly: bool, propagation: str = "rprivate", flat: bool = False
) -> Mount:
    """A bind mount of a path of the host."""
    options = ["bind" if flat else "rbind", propagation]
    if readonly:
        options += ["ro"] if flat else ["ro", "rro"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def volume(word: str, host: Host, asked: Asked) -> Mount:
    """-v [SRC:]DST[:OPTIONS]: a path of the host, made as a directory if it is not there; or a volume."""
    parts = word.split(":")
    if len(parts) == 1:
        return _volume_mount(asked, None, _destination(word, word))
    if len(parts) > 3 or not parts[0]:
        raise Usage("invalid volume", word, hint="[HOST-DIR|NAME:]DIR[:OPTIONS]")
    source, destination = parts[0], _destination(parts[1], word)
    readonly, propagation, nocopy, owned, over = False, "rprivate", False, False, False
    more: list[str] = []
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            readonly = option == "ro"
        elif option in PROPAGATION:
            propagation = option
        elif option in _AS_THEY_ARE:
            more.append(option)
        elif option not in ("z", "Z", "U", "O", "nocopy", "cached", "delegated", "consistent"):
            raise Usage("invalid option", option, f"in volume '{word}'")
        nocopy = nocopy or option == "nocopy"
        owned, over = owned or option == "U", over or option == "O"
    if over:
        return _overlay(source, destination, host, asked, word)
    if source.startswith(("/", ".", "~")):
        source = host.absolute(source)
        if not host.exists(source):
            asked.directories.append(source)
        made = bind(source, destination, readonly, propagation)
    else:
        made = _volume_mount(asked, source, destination, readonly, propagation)
        asked.volumes[-1].nocopy = nocopy
        asked.volumes[-1].owned = owned
    if owned and made["source"] == source:
        asked.owned.append(destination)
    made["options"] += more
    return made


def _overlay(source: str, destination: str, host: Host, asked: Asked, word: str) -> Mount:
    """-v DIR:DST:O (podman): what is written over a directory of the host goes with the container."""
    if not source.startswith(("/", ".", "~")) or set(source) & set(",\\"):
        raise Usage("invalid volume", word, "O is for directories of the host")
    if not host.container or host.rootless or not host.initial:
        raise Error("cannot mount over", source, "root can, where a container is made")
    top = f"{host.place()}/over/{len(asked.directories)}"
    asked.directories += [f"{top}/upper", f"{top}/work"]
    options = ["rw", f"lowerdir={host.absolute(source)}", f"upperdir={top}/upper", f"workdir={top}/work"]
    return {"destination": destination, "type": "overlay", "source": "overlay", "options": options}


def _volume_mount(
    asked: Asked, name: str | None, destination: str, readonly: bool = False, propagation: str = "rprivate"
) -> Mount:
    """The mount of a volume, whose source is said again when it was made."""
    from oci_tools.container.volumes import Want

    want = Want(name, destination)
    asked.volumes.append(want)
    return bind(want.place(), destination, readonly, propagation)


def volumes_from(word: str, host: Host) -> list[Mount]:
    """--volumes-from ID[:ro|rw|z]: what another container has bound in, where it has it, but for its own files."""
    name, _, text = word.partition(":")
    options = set(text.split(",")) - {""}
    unknown = options - {"ro", "rw", "z", "Z"}
    if unknown or {"ro", "rw"} <= options or not name:
        raise Usage("invalid value for --volumes-from", word, hint="ID[:ro]")
    found = []
    for each in host.mounts_of(name):
        if not {"bind", "rbind"}.intersection(each.get("options", ())) or not _is_data(each["destination"]):
            continue
        kept = [option for option in each["options"] if option not in ("ro", "rro")]
        readonly = "ro" in options or ("rw" not in options and "ro" in each["options"])
        found.append({**each, "options": kept + (["ro", "rro"] if readonly else [])})
    return found


def _is_data(destination: str) -> bool:
    """Not what every container has its own of."""
    top = normal(destination)
    return top not in (LOCALTIME, INIT) and not top.startswith(("/proc/", "/sys/", "/dev/"))


_ALIASES = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite",
    "subpath": "image-subpath", "u": "chown",
}  # fmt: skip
_KEYS = {
    "bind": {"bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src", "source", "chown"},
    "glob": {"source", "bind-propagation"},
    "tmpfs": {"tmpfs-size", "tmpfs-mode", "tmpcopyup", "notmpcopyup"},
    "image": {"source", "image-subpath"},
    "artifact": {"source", "digest", "title", "name"},
    "volume": {"source", "volume-nocopy", "volume-subpath", "volume-driver", "volume-opt", "volume-label", "chown"},
}
_REPEATED = ("volume-opt", "volume-label")


def mount(word: str, host: Host, asked: Asked) -> list[Mount]:
    """--mount type=volume|bind|tmpfs|image|artifact|glob,KEY=VALUE,...; a field in double quotes may have commas."""
    said: dict[str, str] = {}
    repeated: dict[str, dict[str, str]] = {key: {} for key in _REPEATED}
    for field in _fields(word):
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        said[key] = value if equals else "true"
        if key in repeated:
            name, _, value = value.partition("=")
            repeated[key][name] = value
    kind = said.pop("type", "volume")
    if kind not in _KEYS:
        raise Usage("invalid mount type", kind)
    unknown = said.keys() - _KEYS[kind] - {"target", "readonly", "readwrite", "consistency"}
    if unknown:
        raise Usage("unexpected key", min(unknown), f"in mount '{word}'")
    target = _destination(said.get("target", ""), word)
    readonly = _flag(said, "readonly", word) and not _flag(said, "readwrite", word)
    if kind == "tmpfs":
        return [_tmpfs_mount(target, said, readonly)]
    if kind == "image":
        return [_image_mount(target, said, _flag(said, "readwrite", word), word, host)]
    if kind == "artifact":
        return _artifact_mounts(target, said, word, host)
    if kind == "glob":
        found = host.matching(said.get("source", ""))
        if not found:
            raise Error("cannot mount", said.get("source") or word, "nothing matches")
        one = {"bind-propagation": said.get("bind-propagation", "rprivate")}
        return [_bind_mount(f"{target}/{os.path.basename(path)}", {**one, "source": path}, readonly, word, host, asked)
                for path in found]  # fmt: skip
    if kind == "volume":
        if said.get("volume-driver", "local") not in ("local", ""):
            raise Error("no such volume driver", said["volume-driver"], "there is local")
        made = _volume_mount(asked, said.get("source"), target, readonly)
        want = asked.volumes[-1]
        want.options, want.labels = repeated["volume-opt"], repeated["volume-label"]
        want.nocopy = _flag(said, "volume-nocopy", word)
        want.owned = _flag(said, "chown", word)
        want.subpath = _subpath(said.get("volume-subpath", ""), want)
        return [made]
    return [_bind_mount(target, said, readonly, word, host, asked)]


def _fields(word: str) -> list[str]:
    if '"' not in word:
        return word.split(",")
    import csv

    return next(csv.reader([word]))


def _subpath(path: str, want: Want) -> str:
    """A path in a volume (moby, "volume-subpath")."""
    if path and want.anonymous:
        raise Usage("invalid volume-subpath", path, "an unnamed volume is empty")
    return _inner(path, "volume-subpath")


def _inner(path: str, key: str) -> str:
    """A path that stays beneath what it is in."""
    clean = os.path.normpath(path) if path else ""
    if clean.startswith("/") or clean.split("/")[0] == "..":
        raise Usage(f"invalid {key}", path, "subpath must be a relative path within the volume")
    return "" if clean == "." else clean


def _flag(said: dict[str, str], key: str, word: str) -> bool:
    value = said.get(key, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise Usage(f"invalid value for {key}", said[key], f"in mount '{word}'")
    return value in ("true", "1")


def _bind_mount(
    target: str, said: dict[str, str], readonly: bool, word: str, host: Host, asked: Asked
) -> Mount:
    source = said.get("source", "")
    if not source:
        raise Usage("invalid mount", word, "a bind mount needs a source")
    source = host.absolute(source)
    if not host.exists(source):
        if not _flag(said, "bind-create-src", word):
            raise Error("cannot mount", source, "no such file or directory")
        asked.directories.append(source)
    propagation = said.get("bind-propagation", "rprivate")
    if propagation not in PROPAGATION:
        raise Usage("invalid propagation", propagation, f"in mount '{word}'")
    recursive = said.get("bind-recursive", "enabled")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise Usage("invalid value for bind-recursive", recursive, f"in mount '{word}'")
    flat = recursive == "disabled" or _flag(said, "bind-nonrecursive", word)
    made = bind(source, target, readonly, propagation, flat)
    if _flag(said, "chown", word):
        asked.owned.append(target)
    if recursive == "writable":  # only the mount itself, not what is mounted below it
        made["options"] = [option for option in made["options"] if option != "rro"]
    return made


def images(args: Args, kind: str = "image") -> list[str]:
    """The images that are to be mounted; or the artifacts."""
    found = [dict(field.partition("=")[::2] for field in _fields(word)) for word in args.mount if kind in word]
    return [each.get("source") or each.get("src") or "" for each in found if each.get("type") == kind]


def _artifact_mounts(target: str, said: dict[str, str], word: str, host: Host) -> list[Mount]:
    """The files of an artifact, read-only: one in place of the target, or in it if that is a directory; several in it.

    They are called by their titles, or by their digests; or NAME, and of several NAME-0, NAME-1 ... (podman-run(1)).
    """
    source = said.get("source", "")
    if source not in host.artifacts:
        raise Error("cannot mount artifact", source or word, "an artifact is mounted where a container is made")
    if "digest" in said and "title" in said:
        raise Usage("title and digest exclude each other", word)
    everything = host.artifacts[source]
    blobs = [
        each for each in everything
        if each.digest == said.get("digest", each.digest) and each.title == said.get("title", each.title)
    ]  # fmt: skip
    if not blobs:
        raise Error("cannot mount artifact", source, "it has no such file")
    name = _inner(said.get("name", ""), "name")
    if len(blobs) == 1:
        inside = host.has_directory(target)
        names = [f"{target}/{name or blobs[0].title or blobs[0].digest}" if inside else target]
    elif name:
        names = [f"{target}/{name}-{at}" for at in range(len(blobs))]
    else:
        names = [f"{target}/{each.title or each.digest}" for each in blobs]
    return [bind(blob.path, normal(place), True) for blob, place in zip(blobs, names, strict=True)]


def _image_mount(target: str, said: dict[str, str], writable: bool, word: str, host: Host) -> Mount:
    """The files of an image, stacked before (image.py); what is written goes with the container."""
    source = said.get("source", "")
    if source not in host.images:
        raise Error("cannot mount image", source or word, "an image is mounted where a container is made of another")
    inner = _inner(said["image-subpath"], "image-subpath") if said.get("image-subpath") else ""
    options = ["rw" if writable else "ro", "nosuid", "nodev"]
    if host.images[source][0] == "bind":
        place = f"{host.images[source][1]}/./{inner}" if inner else host.images[source][1]
        return {"destination": target, "type": "bind", "source": place, "options": ["rbind", *options]}
    options += [*host.images[source], *([f"X-mount.subdir={inner}"] if inner else [])]
    return {"destination": target, "type": "overlay", "source": "overlay", "options": options}


def _tmpfs_mount(target: str, said: dict[str, str], readonly: bool) -> Mount:
    options = []
    if "tmpfs-size" in said:
        options.append(f"size={units.size(said['tmpfs-size'], 'tmpfs-size')}")
    if "tmpfs-mode" in said:
        mode = said["tmpfs-mode"]
        if not mode or mode.strip("01234567") or len(mode) > 5:
            raise Usage("invalid value for tmpfs-mode", mode, hint="octal digits")
        options.append(f"mode={mode}")
    if _flag(said, "tmpcopyup", "tmpfs"):
        options.append("tmpcopyup")
    return _new_tmpfs(target, [*options, *(["ro"] if readonly else [])])


def tmpfs(word: str) -> Mount:
    """--tmpfs DIR[:OPTIONS]: nosuid, nodev and noexec unless an option takes that back."""
    path, _, text = word.partition(":")
    options = [option for option in text.split(",") if option]
    for option in options:
        key, equals, _ = option.partition("=")
        if key not in TMPFS_DATA if equals else option not in TMPFS_FLAGS:
            raise Usage("invalid tmpfs option", option)
    return _new_tmpfs(_destination(path, word), options)


def _new_tmpfs(destination: str, options: list[str]) -> Mount:
    given = {option.partition("=")[0] for option in options}
    kept = [flag for flag in ("noexec", "nosuid", "nodev") if flag[2:] not in given]
    if "mode" not in given:
        kept.append("mode=1777")
    kept += [option for option in options if option != "notmpcopyup"]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": kept}
