"""-v, --mount and --tmpfs as entries of config.json's `mounts`: docker's words, their meaning as data.

A mount replaces the default one at the same place, one on /dev all that are below it, and
shallow ones come before deep ones.  Binds are recursive and private unless told, and a
read-only one is read-only all the way down.  What is not here: named volumes (room `volume`).
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

    Mount = dict[str, Any]

PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
LOCALTIME, INIT = "/etc/localtime", "/sbin/oci-init"  # where process.py binds these
TMPFS_FLAGS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime relatime norelatime"
    " strictatime nostrictatime".split()
)
TMPFS_DATA = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))


def apply(spec: dict[str, Any], args: Args, host: Host) -> list[str]:
    """Put the mounts that `args` ask for in place; the directories that have to be made first are returned."""
    missing: list[str] = []
    wanted = [volume(word, host, missing) for word in args.volume]
    wanted += [mount(word, host) for word in args.mount]
    wanted += [tmpfs(word) for word in args.tmpfs]
    said = {each["destination"] for each in wanted}
    others = [each for word in args.volumes_from for each in volumes_from(word, host)]
    wanted += {each["destination"]: each for each in others if each["destination"] not in said}.values()
    places = [each["destination"] for each in wanted]
    for at, path in enumerate(places):
        if path in places[:at]:
            raise Usage("duplicate mount point", path)
    place(spec, wanted)
    kinds = {option.lstrip("r") for each in wanted for option in each["options"] if option in PROPAGATION}
    for kind in ("shared", "slave"):  # the root must let through what a mount is to receive
        if kind in kinds:
            spec.setdefault("linux", {}).setdefault("rootfsPropagation", f"r{kind}")
    return missing


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


def bind(
    source: str, destination: str, readonly: bool, propagation: str = "rprivate", flat: bool = False
) -> Mount:
    """A bind mount of a path of the host."""
    options = ["bind" if flat else "rbind", propagation]
    if readonly:
        options += ["ro"] if flat else ["ro", "rro"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def volume(word: str, host: Host, missing: list[str]) -> Mount:
    """-v SRC:DST[:OPTIONS]; a source that is not there is added to `missing`, to be made as a directory."""
    parts = word.split(":")
    if len(parts) == 1:
        raise Error("cannot use volume", word, "anonymous volumes are not supported yet", "HOST-DIR:DIR")
    if len(parts) > 3 or not parts[0]:
        raise Usage("invalid volume", word, hint="HOST-DIR:DIR[:OPTIONS]")
    source = parts[0]
    if not source.startswith(("/", ".", "~")):
        raise Error("cannot use volume", source, "named volumes are not supported yet", "HOST-DIR:DIR")
    readonly, propagation = False, "rprivate"
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            readonly = option == "ro"
        elif option in PROPAGATION:
            propagation = option
        elif option not in ("z", "Z", "nocopy", "cached", "delegated", "consistent"):
            raise Usage("invalid option", option, f"in volume '{word}'")
    source = host.absolute(source)
    if not host.exists(source):
        missing.append(source)
    return bind(source, _destination(parts[1], word), readonly, propagation)


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
}  # fmt: skip
_KEYS = {
    "bind": {"bind-propagation", "bind-nonrecursive", "bind-recursive", "source"},
    "tmpfs": {"tmpfs-size", "tmpfs-mode"},
}


def mount(word: str, host: Host) -> Mount:
    """--mount type=bind|tmpfs,KEY=VALUE,..."""
    said: dict[str, str] = {}
    for field in word.split(","):
        key, equals, value = field.partition("=")
        said[_ALIASES.get(key.lower(), key.lower())] = value if equals else "true"
    kind = said.pop("type", "volume")
    if kind == "volume":
        raise Error("cannot use mount", word, "volumes are not supported yet", "type=bind or type=tmpfs")
    if kind not in _KEYS:
        raise Usage("invalid mount type", kind)
    unknown = said.keys() - _KEYS[kind] - {"target", "readonly", "readwrite", "consistency"}
    if unknown:
        raise Usage("unexpected key", min(unknown), f"in mount '{word}'")
    target = _destination(said.get("target", ""), word)
    readonly = _flag(said, "readonly", word) and not _flag(said, "readwrite", word)
    if kind == "tmpfs":
        return _tmpfs_mount(target, said, readonly)
    return _bind_mount(target, said, readonly, word, host)


def _flag(said: dict[str, str], key: str, word: str) -> bool:
    value = said.get(key, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise Usage(f"invalid value for {key}", said[key], f"in mount '{word}'")
    return value in ("true", "1")


def _bind_mount(target: str, said: dict[str, str], readonly: bool, word: str, host: Host) -> Mount:
    source = said.get("source", "")
    if not source:
        raise Usage("invalid mount", word, "a bind mount needs a source")
    source = host.absolute(source)
    if not host.exists(source):
        raise Error("cannot mount", source, "no such file or directory")
    propagation = said.get("bind-propagation", "rprivate")
    if propagation not in PROPAGATION:
        raise Usage("invalid propagation", propagation, f"in mount '{word}'")
    recursive = said.get("bind-recursive", "enabled")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise Usage("invalid value for bind-recursive", recursive, f"in mount '{word}'")
    flat = recursive == "disabled" or _flag(said, "bind-nonrecursive", word)
    made = bind(source, target, readonly, propagation, flat)
    if recursive == "writable":  # only the mount itself, not what is mounted below it
        made["options"] = [option for option in made["options"] if option != "rro"]
    return made


def _tmpfs_mount(target: str, said: dict[str, str], readonly: bool) -> Mount:
    options = []
    if "tmpfs-size" in said:
        options.append(f"size={units.size(said['tmpfs-size'], 'tmpfs-size')}")
    if "tmpfs-mode" in said:
        mode = said["tmpfs-mode"]
        if not mode or mode.strip("01234567") or len(mode) > 5:
            raise Usage("invalid value for tmpfs-mode", mode, hint="octal digits")
        options.append(f"mode={mode}")
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
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": kept + options}
