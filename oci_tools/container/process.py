"""The payload of a container - its words, variables, user, directory, time zone - from docker's words."""

from __future__ import annotations

from oci_tools import document
from oci_tools.container import mounts, units
from oci_tools.errors import Error, Usage
from oci_tools.runtime import spec as specs
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

# crun's word for it, which our runtime understands as well.
KEEP_GROUPS = "run.oci.keep_original_groups"
ZONES = "/usr/share/zoneinfo"
_PROXIES = [each for name in ("http", "https", "ftp", "no") for each in (f"{name}_proxy", f"{name.upper()}_PROXY")]


def command(args: Args, entrypoint: list[str], default: list[str]) -> list[str]:
    """The payload's words: a new entrypoint also takes away the image's own words (moby, as people know it)."""
    words: list[str] = args.cmd
    if args.entrypoint is not None:
        return document.words(args.entrypoint, "--entrypoint") + words
    return entrypoint + (words or default)


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put what `args` say of the payload in place."""
    process = spec["process"]
    base = process.get("env", [])
    if args.unsetenv_all:
        base = []
    base = [word for word in base if word.partition("=")[0] not in args.unsetenv]
    if args.tty:
        process["terminal"] = True
        base = specs.environment(["TERM=xterm"], base)
    if args.env_host:
        base = specs.environment([f"{name}={value}" for name, value in sorted(host.environ.items())], base)
    if args.http_proxy:
        base = specs.environment([f"{name}={host.environ[name]}" for name in _PROXIES if name in host.environ], base)
    process["env"] = specs.environment(base, [*_merged(args.env_merge, base), *variables(args, host)])
    if args.personality:
        spec["linux"]["personality"] = {"domain": args.personality}
    if args.workdir is not None:
        if not args.workdir.startswith("/"):
            raise Usage("invalid working directory", args.workdir, "it must be absolute")
        process["cwd"] = specs.directory(args.workdir)
    if args.user is not None:
        specs.set_user(spec, users.resolve(args.user, host.rootfs))
    if args.group_add:
        _groups(spec, args.group_add, host)
    if args.umask is not None:
        if not args.umask or args.umask.strip("01234567") or int(args.umask, 8) > 0o777:
            raise Usage("invalid value for --umask", args.umask, hint="octal digits, like 0022")
        process.setdefault("user", {"uid": 0, "gid": 0})["umask"] = int(args.umask, 8)
    if args.tz:
        mounts.place(spec, [mounts.bind(_zone(args.tz, host), mounts.LOCALTIME, True, flat=True)])


def begin_with_init(spec: dict[str, Any], host: Host, path: str | None) -> None:
    """--init: our init, or the one at `path`, bound in from a file of the host as docker does, runs the payload."""
    if path is not None and not host.is_file(path):
        raise Error("cannot use init", path, "no such file")
    mounts.place(spec, [mounts.bind(path or host.init(), mounts.INIT, True, flat=True)])
    spec["process"]["args"] = [mounts.INIT, "--", *spec["process"].get("args", [])]


def _groups(spec: dict[str, Any], words: list[str], host: Host) -> None:
    if "keep-groups" in words:
        if len(words) > 1:
            raise Usage("--group-add keep-groups excludes other groups")
        spec.setdefault("annotations", {})[KEEP_GROUPS] = "1"
        return
    user = spec["process"].setdefault("user", {"uid": 0, "gid": 0})
    known = user.setdefault("additionalGids", [])
    for word in words:
        gid = users.group(word, host.rootfs)
        if gid not in known:
            known.append(gid)


def _zone(name: str, host: Host) -> str:
    """The file of a time zone."""
    if name == "local":
        return host.real("/etc/localtime")
    path = f"{ZONES}/{name}"
    if any(part in ("", ".", "..") for part in name.split("/")) or not host.is_file(path):
        raise Error("no such time zone", name, hint=f"one of those in {ZONES}")
    return host.real(path)


# -- variables ---------------------------------------------------------------------------------


def variables(args: Args, host: Host) -> list[str]:
    """The variables of --env-file and, over them, --env."""
    found: list[str] = []
    for path in args.env_file:
        for where, line in lines(path, host):
            if any(c.isspace() for c in line.partition("=")[0]):
                raise Error(f"invalid variable in {where}", line, "its name has a space")
            found += _variable(line, host)
    for word in args.env:
        found += _variable(word, host)
    return found


def _merged(words: list[str], base: list[str]) -> list[str]:
    """--env-merge: NAME=VALUE with ${NAME} and $NAME of the variables that there are; nothing for others."""
    known = dict(word.partition("=")[::2] for word in base)
    found = []
    for word in words:
        name, value = units.pair(word, "--env-merge")
        before, *parts = value.split("$")
        for part in parts:
            if part.startswith("{") and "}" in part:
                variable, _, rest = part[1:].partition("}")
            else:
                size = next((at for at, c in enumerate(part) if not (c.isalnum() or c == "_")), len(part))
                variable, rest = part[:size], part[size:]
            before += (known.get(variable, "") if variable else "$") + rest
        found.append(f"{name}={before}")
    return found


def look_up(args: Args) -> None:
    """Let --env and --env-file of `exec` be NAME=VALUE words."""
    from oci_tools.container.host import Host

    args.env[:] = variables(args, Host())


def lines(path: str, host: Host) -> list[tuple[str, str]]:
    """The lines of a file of NAME=VALUE lines, each with where it is; comments and empty ones left out."""
    found = []
    for number, line in enumerate(host.text(path).removeprefix("\ufeff").split("\n"), 1):
        line = line.rstrip("\r").lstrip()
        if line and not line.startswith("#"):
            found.append((f"'{path}', line {number}", line))
    return found


def _variable(word: str, host: Host) -> list[str]:
    """NAME=VALUE; NAME alone: its value here, if it has one; NAME*: all that begin so (podman)."""
    name, equals, _ = word.partition("=")
    if not name:
        raise Usage("invalid environment variable", word)
    if equals:
        return [word]
    if name.endswith("*"):
        return [f"{each}={host.environ[each]}" for each in sorted(host.environ) if each.startswith(name[:-1])]
    return [f"{name}={host.environ[name]}"] if name in host.environ else []


def fit(process: dict[str, Any], said: str | None = None) -> None:
    """A terminal begins in the size that is said, ROWSxCOLUMNS, else in that of ours."""
    from oci_tools.linux import tty
    from oci_tools.runtime import terminal

    if said:
        process["consoleSize"] = terminal.size(said)
        return
    for fd in (0, 1, 2):
        try:
            height, width = tty.size(fd)
        except OSError:
            continue
        if height and width:
            process["consoleSize"] = {"height": height, "width": width}
        return
