"""Options of the command line, in docker's words, as values."""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.build.calling import Call
    from oci_tools.build.options import Options

LARGEST = 500 << 10  # bytes of a secret, as BuildKit has it
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIMITS = ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
           "rtprio", "rttime", "sigpending", "stack")  # fmt: skip


def options(args: Any, call: Call) -> Options:
    """What all of the words say, save for labels."""
    from oci_tools.build.options import Options as Made

    options = Made(call)
    options.context, options.file, options.target = args.context or ".", args.file, args.target
    options.script = args.script
    options.arguments = arguments([*_lines(args.build_arg_file), *args.build_arg])
    if args.source_date_epoch is not None:
        options.arguments["SOURCE_DATE_EPOCH"] = str(args.source_date_epoch)
    if args.timestamp is not None:
        options.arguments["SOURCE_DATE_EPOCH"], options.exactly = str(args.timestamp), True
    options.named = named(args.build_context)
    options.annotations = args.annotation
    options.platforms = [word for text in args.platform for word in text.split(",")]
    options.pull, options.alone = args.pull and not args.pull_never, args.pull_never
    options.refuse = {name.lower() for text in args.no_cache_filter for name in text.split(",")}
    if args.no_cache:
        options.refuse.add("*")
    if args.cache_from or args.cache_to:
        from oci_tools.build import exchange

        options.cache_from = [exchange.parse(word, "--cache-from", "src") for word in args.cache_from]
        options.cache_to = [exchange.parse(word, "--cache-to", "dest") for word in args.cache_to]
    options.isolation = args.isolation
    options.network, options.allow = args.network, allowed(args.allow)
    if args.network == "host":
        options.allow.add("network.host")
    options.hosts = hosts(args.add_host)
    options.secrets = secrets(args.secret)
    options.agents = agents(args.ssh)
    options.shm_size = size(args.shm_size, "--shm-size") if args.shm_size else None
    options.limits = limits(args.ulimit)
    options.cgroup = args.cgroup_parent
    options.compression, options.level = args.compression, args.level
    options.squash = args.squash or args.squash_all or not args.layers
    options.squash_all, options.why, options.depfile = args.squash_all, args.why, args.depfile is not None
    _confine(options, args)
    _adapt(options, args)
    told = [*args.attest, *_told("sbom", args.sbom), *_told("provenance", args.provenance)]
    if told:
        from oci_tools.build import attest

        options.attest = [attest.Wanted(word) for word in told]
    return options


def _told(kind: str, said: str | None) -> list[str]:
    """--sbom and --provenance in the words of --attest."""
    if said is None or said.lower() in ("false", "0"):
        return []
    return [f"type={kind}" if said.lower() in ("true", "1") else f"type={kind},{said}"]


_CONFINING = ("memory", "memory_swap", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems",
              "cap_add", "cap_drop", "security_opt")  # fmt: skip


def _confine(options: Options, args: Any) -> None:
    """What RUN may have and see, as buildah has it."""
    for name in _CONFINING:
        said = getattr(args, name)
        words = said if isinstance(said, list) else [said] if said is not None else []
        options.confined += [f"--{name.replace('_', '-')}={word}" for word in words]
    options.volumes = [_volume(word) for word in args.volume]
    options.dns = {"nameserver": args.dns, "search": args.dns_search, "options": args.dns_option}
    if "none" in args.dns and len(args.dns) + len(args.dns_search) + len(args.dns_option) > 1:
        raise Usage("invalid value for --dns", "none", "it stands alone")
    for word in args.dns:
        if word != "none" and not _is_address(word):
            raise Usage("invalid value for --dns", word, hint="an address")
    if args.jobs < 0:
        raise Usage("invalid value for --jobs", str(args.jobs))
    options.workers = args.jobs


def _volume(word: str) -> dict[str, Any]:
    """A directory or file of the host as an entry of config.json's mounts."""
    source, _, rest = word.partition(":")
    target, _, said = rest.partition(":")
    flags = set(said.split(",")) - {"", "z", "Z", "rw"}
    if not source.startswith("/") or not target.startswith("/") or flags - {"ro"}:
        raise Usage("invalid value for --volume", word, hint="/HOST-DIR:/DIR[:ro]")
    if not os.path.exists(source):
        raise Error("cannot use volume", source, "no such file or directory")
    return {"destination": os.path.normpath(target), "type": "bind", "source": os.path.realpath(source),
            "options": ["rbind", "rprivate", *sorted(flags)]}  # fmt: skip


def _adapt(options: Options, args: Any) -> None:
    """What is other than the Dockerfile says."""
    options.start, options.ignorefile, options.history = getattr(args, "from"), args.ignorefile, not args.omit_history
    if args.ignorefile and not os.path.exists(args.ignorefile):
        raise Error("cannot use ignore file", args.ignorefile, "no such file or directory")
    options.env = arguments(args.env)
    options.unset, options.unlabeled = set(args.unsetenv), set(args.unsetlabel)


def registry(args: Any) -> list[str]:
    """The words for who speaks to registries."""
    words = [] if args.tls_verify else ["--tls-verify=false"]
    said = {"--cert-dir": args.cert_dir, "--authfile": args.authfile, "--retries": args.retry}
    if args.retry_delay is not None:
        said["--retry-delay"] = int(1000 * seconds(args.retry_delay, "--retry-delay"))
    return words + [f"{name}={value}" for name, value in said.items() if value is not None]


def arguments(words: list[str]) -> dict[str, str]:
    """--build-arg NAME=VALUE; NAME alone is the variable of this name here, if there is one."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise Usage("invalid build argument", word)
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _lines(files: list[str]) -> Iterator[str]:
    """What is in files of --build-arg-file."""
    for file in files:
        try:
            with open(file, errors="surrogateescape") as stream:
                lines = stream.read().split("\n")
        except OSError as error:
            raise Error("cannot read", file, error) from None
        yield from (line for line in lines if line and not line.startswith("#"))


def named(words: list[str]) -> dict[str, str]:
    """--build-context NAME=WHERE; names know no capitals."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not value:
            raise Usage("invalid value for --build-context", word, "it is not NAME=WHERE")
        found[name.lower()] = value
    return found


def allowed(words: list[str]) -> set[str]:
    found = {word for text in words for word in text.split(",")}
    known = ("network.host", "security.insecure", "device")
    for word in sorted(found - {*known}):
        if not word.startswith("device="):
            raise Usage("invalid entitlement", word, hint=", ".join(known))
    return found


def hosts(words: list[str]) -> list[str]:
    """--add-host NAME:ADDRESS or NAME=ADDRESS, or host-gateway for the address of the host on RUN's network."""
    for word in words:
        name, _, address = word.partition("=" if "=" in word.partition(":")[0] else ":")
        address = address.removeprefix("[").removesuffix("]")
        if not name or (address != "host-gateway" and not _is_address(address)):
            raise Usage("invalid value for --add-host", word, hint="NAME:ADDRESS")
    return words


def _is_address(text: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def secrets(words: list[str]) -> dict[str, Callable[[], bytes]]:
    """--secret id=NAME[,src=FILE|,env=NAME|,fd=N][,type=file|env]."""
    found = {}
    for word in words:
        said = _fields(word, "--secret", {"source": "src"}, ("id", "src", "env", "fd", "type"))
        name = said.get("id") or said.get("src") or said.get("env")
        if not name:
            raise Usage("invalid value for --secret", word, "it has no id")
        found[os.path.basename(name) if "id" not in said else name] = _secret(name, said, word)
    return found


def _secret(name: str, said: dict[str, str], word: str) -> Callable[[], bytes]:
    if "fd" in said:
        if not said["fd"].isdigit():
            raise Usage("invalid value for --secret", word, "fd is a number")
        data = _all(int(said["fd"]), name)
        return lambda: data
    kind = said.get("type") or ("env" if "env" in said else "file" if "src" in said else "")
    variable = said.get("env") or (said.get("src") if kind == "env" else None) or name
    if kind == "env" or (not kind and variable in os.environ):
        if variable not in os.environ:
            raise Error(f"cannot use secret '{name}'", None, f"variable {variable} is not set")
        value = os.fsencode(os.environ[variable])
        return lambda: value
    path = os.path.expanduser(said.get("src") or name)
    if not os.path.exists(path):
        raise Error(f"cannot use secret '{name}'", path, "no such file or directory")
    return lambda: _file(path)


def _file(path: str) -> bytes:
    try:
        return document.read(path, LARGEST)
    except Error as error:
        raise Error("cannot read secret", path, error.cause) from None


def _all(fd: int, name: str) -> bytes:
    try:
        with open(fd, "rb", buffering=0) as file:
            parts, size = [], 0
            while data := file.read(1 << 16):
                parts.append(data)
                size += len(data)
                if size > LARGEST:
                    raise Error("cannot use secret", name, f"larger than {LARGEST} bytes")
    except OSError as error:
        raise Error("cannot read secret", name, error) from None
    return b"".join(parts)


def _fields(word: str, option: str, aliases: dict[str, str], known: tuple[str, ...]) -> dict[str, str]:
    import csv

    found = {}
    for field in next(csv.reader([word]), []):
        key, equals, value = field.partition("=")
        key = aliases.get(key.strip().lower(), key.strip().lower())
        if not equals or key not in known:
            raise Usage(f"invalid value for {option}", word, f"unexpected '{field}'")
        found[key] = value
    return found


def agents(words: list[str]) -> dict[str, list[str]]:
    """--ssh NAME[=SOCKET|KEY,...]."""
    found = {}
    for word in words:
        name, _, paths = word.partition("=")
        if not name:
            raise Usage("invalid value for --ssh", word)
        found[name] = [os.path.expanduser(path) for path in paths.split(",") if path]
    return found


def size(text: str, option: str) -> int:
    """Bytes: 64m, 1g."""
    body = text.lower().removesuffix("b") or text.lower()
    unit = body[-1:] if body[-1:] in _UNITS else ""
    number = body[: len(body) - len(unit)]
    try:
        found = int(float(number) * (1 << _UNITS[unit]))
    except ValueError:
        found = -1
    if found < 0:
        raise Usage(f"invalid value for {option}", text, "it is no size")
    return found


def seconds(text: str, option: str) -> float:
    """90s, 10m, 12h, 7d."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in _TIMES:
        raise Usage(f"invalid value for {option}", text, hint="like 12h or 7d")
    return float(number) * _TIMES[unit]


def limits(words: list[str]) -> list[dict[str, object]]:
    """--ulimit NAME=SOFT[:HARD], -1 for none, as config.json has them."""
    found: list[dict[str, object]] = []
    for word in words:
        name, _, values = word.partition("=")
        soft, colon, hard = values.partition(":")
        numbers = [soft, hard if colon else soft]
        if name not in _LIMITS or not all(value == "-1" or value.isdigit() for value in numbers):
            raise Usage("invalid value for --ulimit", word, hint="NAME=SOFT[:HARD]")
        low, high = (((1 << 64) - 1) if value == "-1" else int(value) for value in numbers)
        if low > high:
            raise Usage("invalid value for --ulimit", word, "the soft limit is above the hard one")
        found.append({"type": f"RLIMIT_{name.upper()}", "soft": low, "hard": high})
    return found
