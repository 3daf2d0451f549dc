"""One-shot containers: `oci-run [OPTIONS] IMAGE|BUNDLE [CMD...]`.

    a word -> an image, pulled if missing, its layers stacked; or a bundle
           -> a specification: the image's, then what the options say
           -> a directory of its own (place.py) -> runtime.lifecycle.run -> the payload's exit code

Everything is planned before anything is made, and what was made is removed when the container has
ended, unless it is to be kept.
"""

from __future__ import annotations

import os
import time

from oci_tools import bundle as bundles
from oci_tools import cli, document, fs
from oci_tools.container import events, files, joining, names, networking, options, place, policy, security
from oci_tools.container import process as processes
from oci_tools.container.host import Host
from oci_tools.errors import Busy, Error, Usage
from oci_tools.runtime import check, descriptors, launch, lifecycle, state
from oci_tools.runtime import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Blob
    from oci_tools.container.place import Place

    Then = Callable[[Place, dict[str, Any], Args], Any]
    from oci_tools.runtime.user import Read


_LOOK = 0.1  # seconds after which to look again whether somebody else has started it


def one_shot(args: Args) -> int:
    """Run a container of an image or bundle; the payload's exit code, or 0 if it was only started."""
    _check(args)
    word = _word(args)
    try:
        return policy.done(args, word, _maker(word, args)(word, args, _run))
    finally:
        place.sweep(_states(args))


def new(args: Args) -> str:
    """Make a container of an image or bundle without starting it; its ID."""
    _check(args)
    word = _word(args)
    made: str = _maker(word, args)(word, args, _leave)
    return made


def _maker(word: str, args: Args) -> Callable[[str, Args, Then], Any]:
    """What makes a container of such a word."""
    if args.replace and args.name:
        from oci_tools.container import control

        control.replace(_states(args), args.name)
    made = _rootfs if args.rootfs else _bundle if is_bundle(word) else _image
    if args.storage_opt and made is not _image:
        raise Usage("--storage-opt is for images", word)
    return made


def again(root: str, container: str, attached: bool, interactive: bool) -> int:
    """Start a container that was made before, or has ended; with `attached`, stay with it: its exit code.

    What is `interactive` gets our standard input.
    """
    with _free(root, container) as held:
        if os.path.exists(state.directory(root, container)):
            if lifecycle.query(root, container)["status"] != "stopped":
                raise Error("cannot start an already running container", container)
            lifecycle.delete(root, container, force=True)
        spec = held.spec()
        if not attached:
            from oci_tools.container import detaching

            detaching.start(root, held, spec)
            return 0
        held.left = held.keep
        if not interactive:
            descriptors.lose(0)
        return _stay(root, held, spec)


def _free(root: str, container: str) -> Place:
    """Hold a container that does not run: once who looks after its end is done with it."""
    from oci_tools.container import ending

    deadline = time.monotonic() + fs.LOCK_TIMEOUT
    while True:
        pidfd = ending.payload(root, container) if names.exit_code(container) is None else -1
        if pidfd >= 0:
            os.close(pidfd)
            raise Error("cannot start an already running container", container)
        try:
            return place.Place.again(container, timeout=_LOOK).__enter__()
        except Busy:
            if time.monotonic() > deadline:
                raise Busy("cannot start container", container, "another process uses it") from None


def _bundle(word: str, args: Args, then: Then) -> Any:
    if args.network:  # else it is as config.json says
        networking.settle(args)
    with place.Place(word, args.name, _keeps(args), _policy(args, then)) as held:
        spec = _of_bundle(os.path.abspath(word), held, args)
        if held.keep or then is _leave or held.volumes:
            held.write("config.json", document.dumps(spec))
        policy.be_well(held, args)
        held.settle()
        return then(held, spec, args)


def _rootfs(word: str, args: Args, then: Then) -> Any:
    """A container whose root is a directory as it lies there."""
    path = os.path.abspath(word)
    if not os.path.isdir(path):
        raise Error("cannot use rootfs", word, "no such directory")
    networking.settle(args)
    with place.Place(word, args.name, _keeps(args), _policy(args, then)) as held:
        host = Host(path, _states(args), held.id)
        host.images, host.artifacts = _lent(args, held)
        spec, _ = _finished(from_image({"config": {}}, held.id, args, host), held, args, host)
        security.filter_by_default(spec, args, host)
        spec["root"]["path"] = path
        os.mkdir(held.bundle, 0o700)
        files.add(spec, held, args, host, networking.Around(held.policy))
        held.write("bundle/config.json", document.dumps(spec))
        policy.be_well(held, args)
        held.settle()
        return then(held, spec, args)


def _image(word: str, args: Args, then: Then) -> Any:
    from oci_tools.container import image as images
    from oci_tools.image.source import Source

    networking.settle(args)
    word = images.bring(word, args.pull, args.platform, args.quiet, images.pulling(args))
    with place.Place(word, args.name, _keeps(args), _policy(args, then)) as held:
        with Source(word) as source:
            found = bundles.Image(source.layout, source.descriptor, args.platform, source.name)
            spec = _of_image(found, held, args)
        policy.be_well(held, args, (found.config.get("config") or {}).get("Healthcheck"))
        if (found.config.get("config") or {}).get("Labels"):
            from oci_tools.container import labels

            held.note(labels={**labels.of_image(found.config), **held.policy.get("labels", {})})
        return then(held, spec, args)


def _policy(args: Args, then: Then) -> dict[str, Any]:
    """What policy.json says of a container beside what every one has."""
    outlives = _detached(args) or args.detach_keys is not None
    return policy.of(args, then is _leave, "stdin" in _streams(args) if outlives else None, _states(args))


def is_bundle(word: str) -> bool:
    """A path is a bundle if it holds config.json or our unpack record; anything else is an image."""
    if not word.startswith(("/", "./", "../")) and word not in (".", ".."):
        return False
    return any(os.path.exists(os.path.join(word, name)) for name in (bundles.RECORD, "config.json"))


def _check(args: Args) -> None:
    options.settle(args)
    if args.name is not None:
        names.check(args.name)  # before an image is asked for
    if args.interactive and args.tty and not _detached(args) and not os.isatty(0):
        raise Error("cannot use -i with -t", None, "standard input is not a terminal")
    if args.interactive and args.image == "-":
        raise Usage("-i and - both want standard input")
    for word in args.attach:
        if word.lower() not in ("stdin", "stdout", "stderr"):
            raise Usage("invalid value for --attach", word, hint="stdin, stdout or stderr")
    if _detached(args) and (args.attach or args.preserve_fds):
        raise Usage(f"{'--attach' if args.attach else '--preserve-fds'} excludes --detach")
    if args.cidfile and os.path.lexists(args.cidfile):
        raise Error("cannot write container id", args.cidfile, "file exists", "of another container?")


def _detached(args: Args) -> bool:
    """Whether it is not to be waited for; `new` has no word for it."""
    return bool(getattr(args, "detach", True))


def _streams(args: Args) -> set[str]:
    """The streams that are ours."""
    attached = {word.lower() for word in args.attach} or {"stdout", "stderr"}
    return attached | {"stdin"} if args.interactive else attached


def _word(args: Args) -> str:
    """The operand; for `-` the handle on standard input."""
    if args.image != "-":
        return str(args.image)
    from oci_tools.image.stdin import from_stdin

    kind, found = from_stdin()
    if kind != "handle":
        raise Error("cannot run an archive", "standard input", hint="oci-unpack takes it")
    return str(found)


def _keeps(args: Args) -> bool:
    return _detached(args) if args.rm is None else not args.rm


# -- the plan --------------------------------------------------------------------------------


def _of_bundle(bundle: str, held: Place, args: Args) -> dict[str, Any]:
    """The specification of a bundle with what the options change."""
    from oci_tools.container.image import users_of

    spec = specs.load(bundle)
    os.symlink(bundle, held.bundle)
    host = Host(users_of(bundle, spec), _states(args), held.id)
    host.images, host.artifacts = _lent(args, held)
    if args.cmd or args.entrypoint is not None:
        spec["process"]["args"] = processes.command(args, [], spec["process"]["args"])
    return _finished(spec, held, args, host)[0]


def _of_image(image: bundles.Image, held: Place, args: Args) -> dict[str, Any]:
    """The specification of an image with what the options say; its overlay bundle is made with it."""
    from oci_tools.container import image as images

    made: list[dict[str, Any]] = []
    asked: list[options.Asked] = []
    mounted = _lent(args, held)  # before ours: both lock the store

    def specify(image: bundles.Image, users: Read) -> dict[str, Any]:
        host = Host(users, _states(args), held.id)
        host.images, host.artifacts = mounted
        host.volumes = list((image.config.get("config") or {}).get("Volumes") or ())
        spec, more = _finished(from_image(image.config, held.id, args, host), held, args, host)
        asked.append(more)
        security.filter_by_default(spec, args, host, image.config)
        files.add(spec, held, args, host, networking.Around(held.policy))
        made.append(spec)
        return spec

    images.overlay(args)(image, held.bundle, specify=specify)
    if args.storage_opt:
        from oci_tools.container import room

        room.limit(held, args.storage_opt)
    if held.volumes:
        from oci_tools.container import volumes

        held.settle()
        volumes.fill(asked[0].volumes, held.bundle, made[0])
    return made[0]  # as it was written, with the overlay's annotation


def from_image(config: dict[str, Any], name: str, args: Args, host: Host) -> dict[str, Any]:
    """What Docker gives a container of an image before its options: pure."""
    files.begin(args, host)
    base = specs.default(host.rootless)
    if host.exists("/proc/self/ns/time"):
        base["linux"]["namespaces"].append({"type": "time"})
    own = networking.mode(args.network) != "host"
    base["hostname"] = name[:12] if own else host.hostname()
    base["process"]["env"].append(f"HOSTNAME={args.hostname or base['hostname']}")
    if own:
        base["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
        if not host.rootless and host.initial:  # groups that are not mapped cannot be named
            base["linux"]["sysctl"]["net.ipv4.ping_group_range"] = "0 2147483647"
    config = specs.image_config(config)
    said = config["config"]
    if args.user is not None:
        config["config"] = {name: value for name, value in said.items() if name != "User"}
    spec = specs.from_image(config, host.rootfs, base)
    words = processes.command(args, said.get("Entrypoint", []), said.get("Cmd", []))
    if not words:
        raise Error("no command specified", hint="the image has none of its own")
    spec["process"]["args"] = words
    return spec


def _lent(args: Args, held: Place) -> tuple[dict[str, list[str]], dict[str, list[Blob]]]:
    """The images and the artifacts that are mounted in the container."""
    if not any("image" in word or "artifact" in word for word in args.mount):
        return {}, {}
    from oci_tools.container import image as images

    return images.stacked(args, held.path), images.laid(args, held.path)


def _finished(
    spec: dict[str, Any], held: Place, args: Args, host: Host
) -> tuple[dict[str, Any], options.Asked]:
    """The options applied, and everything checked, before the first thing is made."""
    host.later = bool(held.policy.get("waits"))
    asked = options.apply(spec, args, host)
    if args.secret:
        from oci_tools.container import secrets

        secrets.add(spec, held.path, args.secret, host)
    joining.plan(held, spec, args.publish_all, host.joins)
    if args.cgroup_parent:
        spec["linux"]["cgroupsPath"] = f"{args.cgroup_parent.rstrip('/')}/{held.id}"
    if spec["process"].get("terminal"):
        processes.fit(spec["process"], args.console_size)
    check.check(spec, "the container's specification")
    asked.make()
    if asked.volumes or args.volumes_from:
        from oci_tools.container import volumes

        volumes.make(asked.volumes, spec, held)
    if asked.owned:
        from oci_tools.container import owning

        owning.give(asked.owned, spec)
    return spec, asked


# -- the run -----------------------------------------------------------------------------------


def _run(held: Place, spec: dict[str, Any], args: Args) -> int:
    root = _states(args)
    policy.write_id(args.cidfile, held.id)
    ready = policy.to_notify(args, held)
    if args.detach:
        from oci_tools.container import detaching

        detaching.start(root, held, spec)
        ready(held)
        print(held.id)
        return 0
    if args.detach_keys is not None:
        return _attached(root, held, spec, args)
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if name not in _streams(args) and not (fd and spec["process"].get("terminal")):
            descriptors.lose(fd)
    ready(None)
    more = {"debug": lambda text: cli.say("oci-run", text)} if args.debug else {}
    return _stay(root, held, spec, preserve_fds=args.preserve_fds, proxy=args.sig_proxy, **more)


def _leave(held: Place, spec: dict[str, Any], args: Args) -> str:
    policy.write_id(args.cidfile, held.id)
    held.left = True
    return held.id


def _attached(root: str, held: Place, spec: dict[str, Any], args: Args) -> int:
    """Run it as if detached, and stay with it until it ends or the keys are typed: it must not be ours then."""
    from oci_tools.container import attaching, detaching, ending

    keys = attaching.keys(args.detach_keys)
    with ending.Ending(root, held.id) as watched:
        os.makedirs(f"{held.path}/log", 0o700, exist_ok=True)  # to be followed from its first line
        detaching.start(root, held, spec)
        watched.look()
        return attaching.stay(watched, bool(held.policy["interactive"]), keys, whole=True)


def _stay(root: str, held: Place, spec: dict[str, Any], **more: Any) -> int:
    """Run it in the foreground."""
    held.looked_after()
    held.begins(spec, root)
    events.tell(held.id, "start", held.policy)
    more.update(pid_file=held.policy.get("pidfile"), timeout=held.policy.get("timeout", 0))
    more.update(joined=joining.late(held.id, held.policy))
    try:
        code = lifecycle.run(root, held.id, held.bundle, spec, launch.Options(**more))
    except BaseException:
        joining.leave_quietly(held.id)
        raise
    held.ended(code)
    return code


def _states(args: Args) -> str:
    """Where the runtime keeps the state of containers."""
    return str(args.root or f"{fs.run()}/runtime")


