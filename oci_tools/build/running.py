"""RUN: a process in the root of the stage, started by `oci-run`; its mounts, secrets and network.

What is mounted for a step lies in the build's own mount namespace, which nobody else sees and which ends with the
build, however it ends: trees of stages, and a tmpfs in which secrets and agents' sockets are.
"""

from __future__ import annotations

import os

from oci_tools.build import calling, hashes, mounts, networks
from oci_tools.build.lines import heredoc_of
from oci_tools.build.runmounts import Mounting
from oci_tools.build.stages import sorted_env
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.build.instructions import Instruction
    from oci_tools.build.listing import Listing
    from oci_tools.build.networks import Space
    from oci_tools.build.options import Options
    from oci_tools.build.progress import Progress, Step
    from oci_tools.build.stages import Building
    from oci_tools.bundle.step import Packed, Root

HOSTNAME = "buildkitsandbox"  # what builds have come to know
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
PIPES = "/dev/pipes"
LONGEST = (128 << 10) - 1  # bytes of a word that can be executed, execve(2)
_OF_HOST = "BUILDKIT_SANDBOX_HOSTNAME"  # a build argument


class Runner:
    """Starts processes of steps, and ends them all when the build is given up."""

    def __init__(
        self, call: calling.Call, progress: Progress, running: str, joined: networks.Networks, chrooted: bool
    ) -> None:
        """running   a directory in which names are of what runs: for who comes after one that was killed
        chrooted  it runs in a chroot(2), and not as a container
        """
        import threading

        self._running = running
        self.networks = joined
        self._call = call
        self._progress = progress
        self._chrooted = chrooted
        self._lives: dict[str, int] = {}  # by name; in a chroot a pipe, which ends the process when it is closed
        self._ended = False
        self._lock = threading.Lock()

    def run(self, bundle: str, step: Step) -> int:
        """Run a bundle to its end, telling what it says; its exit code."""
        name = f"build-{os.urandom(8).hex()}"
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        try:
            with self._lock:
                if self._ended:
                    raise Error("canceled")
                begun = self._begin(bundle, name, {0: null, 1: out_end, 2: err_end})
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            for fd in (null, out_end, err_end):
                os.close(fd)
        try:
            calling.drain([out, err], lambda at, data: self._progress.log(step, at + 1, data))
            return begun.wait()
        except BaseException:  # somebody wants no more: it ends before what it runs in goes
            with self._lock:
                self._end(name)
            begun.wait()
            raise
        finally:
            with self._lock:
                life = self._lives.pop(name, -1)
            if life >= 0:
                os.close(life)
            if not self._chrooted:
                os.unlink(f"{self._running}/{name}")

    def _begin(self, bundle: str, name: str, fds: dict[int, int]) -> calling.Begun:
        if not self._chrooted:
            os.close(os.open(f"{self._running}/{name}", os.O_CREAT | os.O_CLOEXEC, 0o600))
            begun = self._call(["run", "run", "-b", bundle, name], fds)
            self._lives[name] = -1
            return begun
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            begun = self._call(["build", calling.IN_CHROOT, bundle], {**fds, 3: reader})
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self._lives[name] = writer
        return begun

    def end_all(self) -> None:
        """End every process that runs; none is started any more."""
        with self._lock:
            self._ended = True
            for name in [*self._lives]:
                self._end(name)

    def _end(self, name: str) -> None:
        if not self._chrooted:
            calling.end(self._call, name)
        elif name in self._lives:
            os.close(self._lives.pop(name))


def run(stage: Building, one: Instruction) -> None:
    """Do a RUN."""
    settings, options = stage.result.settings, stage.options
    expand = stage.expander(one)
    args, script = _words(one)
    words = settings.command(args, one.shell)
    _check_length(one, words)
    wanted = [mounts.read(text, one.statement, expand) for text in one.mounts]
    _allowed(one, options)
    said = one.flags["network"] or "default"
    said = options.network if said == "default" else said
    insecure = one.flags["security"] == "insecure"
    mounting = Mounting(stage, one, wanted)
    parts: dict[str, Any] = {
        "do": "RUN", "args": tuple(words), "env": sorted_env(settings.env), "cwd": settings.workdir,
        "user": settings.user, "network": said, "security": insecure, "script": _short(script),
        "hosts": tuple(options.hosts), "mounts": tuple(map(mounting.said, wanted)),
        "limits": repr((options.shm_size, options.limits)),
    }  # fmt: skip
    parts.update(_seldom(one, options))

    def content(files: Listing) -> dict[str, Any]:
        found = tuple(mounting.content(mount, files) for mount in wanted)
        return {"mounted": found} if any(found) else {}

    def act(root: Root, step: Step) -> Packed | None:
        _possible(stage, one, said)
        joined = stage.shared.runner.networks
        network = "host" if stage.shared.place.chrooted else joined.meant(said)
        space = joined.take(network) if network not in ("none", "host") else None
        try:
            with mounting:
                made = [mounting.make(mount, root) for mount in wanted]
                placed = [each for each in made if each is not None] + _files(stage, root, network, space)
                if script:
                    placed.append(mounting.script(script[0], script[1], PIPES))
                placed.sort(key=lambda each: each["destination"].count("/"))  # what lies in another one goes into it
                _specify(stage, root, words, placed, network, space, insecure, mounting)
                _add_devices(stage, one, f"{root.path}/config.json")
                code = _run_in(root, stage.shared.runner, step)
        finally:
            if space:
                joined.give(space)
        stage.shared.check()
        if code:
            raise _failed(stage, one, step, words, code)
        return None

    title = f"RUN {' '.join(part for part in (*_flags(one), one.statement.rest) if part)}"
    stage.step(one, title, parts, act, said=_said(stage, words), content=content, quick=mounting.quick(wanted))


def _check_length(one: Instruction, words: list[str]) -> None:
    if any(len(word) > LONGEST // 4 and len(word.encode("utf-8", "surrogateescape")) > LONGEST for word in words):
        hint = f"a word has at most {LONGEST} bytes; a here-document that begins with #! is a file"
        raise one.wrong("argument list too long", hint=hint)


def _short(script: tuple[str, str] | None) -> tuple[str, str | bytes] | None:
    """A script as a key holds it."""
    if script is None or len(script[1]) <= hashes.SHORT:
        return script
    return script[0], hashes.short(script[1].encode("utf-8", "surrogateescape"))


def _run_in(root: Root, runner: Runner, step: Step) -> int:
    try:
        root.place()
        return runner.run(root.path, step)
    finally:
        root.take_away()


def _seldom(one: Instruction, options: Options) -> dict[str, Any]:
    """What a key has only where it is said."""
    said = {
        "hostname": options.arguments.get(_OF_HOST), "devices": tuple(one.devices),
        "confined": tuple(word for word in options.confined if word.startswith(("--cap", "--security"))),
        "volumes": tuple(f"{each['source']}:{each['destination']}" for each in options.volumes),
    }  # fmt: skip
    return {name: value for name, value in said.items() if value}


def _possible(stage: Building, one: Instruction, network: str) -> None:
    place = stage.shared.place
    if not place.can_run:
        hint = "a container's system call filter may be why; without RUN an image can be built"
        raise one.wrong("RUN needs namespaces, which this user cannot have here", hint=hint)
    if place.chrooted:
        if network != "default" and network != "host":
            raise one.wrong(f"RUN in a chroot has the network that there is, and not '{network}'")
        if any(required for _, required in one.devices):
            raise one.wrong("RUN in a chroot has no devices of the host", "--device")
        if stage.options.confined:
            raise one.wrong(f"RUN in a chroot cannot have {stage.options.confined[0]}")
        place.tell_of_chroot()


def _failed(stage: Building, one: Instruction, step: Step, words: list[str], code: int) -> Error:
    stage.shared.progress.failed(step)
    foreign = stage.result.document.get("architecture") != stage.shared.scope.platform["BUILDARCH"]
    hint = f"it is for {stage.platform}, which this host runs only by binfmt_misc" if foreign else None
    return one.wrong(f'process "{" ".join(words)}" did not complete successfully: exit code: {code}', hint=hint)


def _words(one: Instruction) -> tuple[list[str], tuple[str, str] | None]:
    """The words of a RUN with its here-documents; of one that is a script its name and text too."""
    if not one.files:
        return one.args, None
    first = one.files[0]
    if heredoc_of(one.args[0]):
        if first.content.startswith("#!"):
            return [f"{PIPES}/{first.name}"], (first.name, first.chomped())
        return [first.chomped()], None
    return ["".join([one.args[0], *(f"\n{heredoc.content}{heredoc.name}" for heredoc in one.files)])], None


def _flags(one: Instruction) -> list[str]:
    return [flag for flag in one.statement.flags if not flag.startswith("--mount=type=secret")]


def _allowed(one: Instruction, options: Options) -> None:
    for flag, value, name in (("security", "insecure", "security.insecure"), ("network", "host", "network.host")):
        if one.flags[flag] == value and name not in options.allow:
            raise one.wrong(f"{name} is not allowed", f"--{flag}={value}", f"--allow {name}")
    for device, _ in one.devices:
        if not {"device", f"device={device}", f"device={device.partition('=')[0]}"} & options.allow:
            raise one.wrong(f"device {device} is not allowed", device, "--allow device")


def _add_devices(stage: Building, one: Instruction, path: str) -> None:
    """Have devices of the host, as CDI describes them, in a config.json."""
    for name, required in () if stage.shared.place.chrooted else one.devices:
        try:
            made = calling.output(stage.options.call, ["spec", "set", "--device", name], path)
        except Error as error:
            if required:
                raise one.wrong(str(error), name) from None
            stage.shared.place.warn(f"RUN goes without a device: {error}")
            continue
        _rewrite(path, made)


def _confine(options: Options, path: str) -> None:
    """Have limits and capabilities in a config.json."""
    if options.confined:
        _rewrite(path, calling.output(options.call, ["spec", "set", *options.confined], path))


def _rewrite(path: str, made: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(made)


def _said(stage: Building, words: list[str]) -> str:
    """The history's text."""
    args = [f"{name}={stage.result.settings.env.get(name, '')}" for name in stage.result.args]
    return " ".join(["RUN", *([f"|{len(args)}", *args] if args else []), *words])


def _specify(
    stage: Building, root: Root, words: list[str], placed: list[dict[str, Any]], network: str, space: Space | None,
    insecure: bool, mounting: Mounting,
) -> None:  # fmt: skip
    settings, options = stage.result.settings, stage.options
    env = {**stage.scope.proxies(), **settings.env, **mounting.env}
    config: dict[str, Any] = {
        "Entrypoint": words, "WorkingDir": settings.workdir, "Env": [f"{name}={value}" for name, value in env.items()],
    }  # fmt: skip
    if settings.user:
        config["User"] = settings.user

    def more(made: dict[str, Any]) -> None:
        if not any(entry.startswith("HOME=") for entry in made["process"]["env"]):
            made["process"]["env"].append(f"HOME={root.home(made['process']['user']['uid'])}")
        for each in made["linux"]["namespaces"] if space else ():
            if space and each["type"] == "network":
                each["path"] = space.path
        if options.limits:
            made["process"]["rlimits"] = options.limits
        if options.cgroup:
            made["linux"]["cgroupsPath"] = f"{options.cgroup.rstrip('/')}/{os.path.basename(root.path)}"
        for mount in made["mounts"]:
            if options.shm_size is not None and mount["destination"] == "/dev/shm":
                kept = [option for option in mount["options"] if not option.startswith("size=")]
                mount["options"] = [*kept, f"size={options.shm_size}"]

    known = stage.result.document
    document: dict[str, Any] = {key: known[key] for key in ("os", "architecture") if key in known}
    document["config"] = config
    hidden = mounting.hidden("config.json")
    root.specify(document, _hostname(options), placed, network == "host", insecure, more, hidden)
    _confine(options, f"{root.path}/config.json")


def _hostname(options: Options) -> str:
    return options.arguments.get(_OF_HOST) or HOSTNAME


def _files(stage: Building, root: Root, network: str, space: Space | None) -> list[dict[str, Any]]:
    """/etc/hosts and /etc/resolv.conf, bound over the image's; and what is shown of the host."""
    hosts = HOSTS + f"127.0.0.1\t{_hostname(stage.options)}\n"
    if network == "host":
        try:
            with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
                hosts = file.read()
        except OSError:
            pass
    for word in stage.options.hosts:
        name, _, address = word.partition("=" if "=" in word.partition(":")[0] else ":")
        address = address.removeprefix("[").removesuffix("]")
        hosts += f"{(space.host if space else '127.0.0.1') if address == 'host-gateway' else address}\t{name}\n"
    texts = {"hosts": hosts}
    names = networks.resolv_conf(space.servers if space else [], space is not None) if network != "none" else None
    dns = stage.options.dns
    if dns.get("nameserver") != ["none"]:
        texts["resolv.conf"] = networks.with_dns(names or "", dns)  # what is written there is lost on any network
    return [*(root.file(name, text, f"/etc/{name}") for name, text in texts.items()), *stage.options.volumes]
