"""oci-build: a Dockerfile and a context become an image in a layout."""

from __future__ import annotations

import os
import sys

from oci_tools import cli
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from oci_tools.build.calling import Begun
    from oci_tools.build.options import Options
    from oci_tools.build.outputs import Output
    from oci_tools.build.progress import Progress
    from oci_tools.engine.forker import Asker

_FORKER = "OCI_BUILD_FORKER"  # the descriptor of who is to fork
_WARM = ("cmd.run", "runtime.foreground", "runtime.lifecycle", "runtime.launch", "runtime.child", "runtime.seccomp",
         "runtime.overlay", "runtime.binds", "runtime.hooks", "runtime.spec")  # fmt: skip
OPTIONS: tuple[cli.Option, ...] = (
    ("-t --tag IMAGE", "list", (), "put the image there: ./layout:tag, or a name in the default store"),
    ("-f --file FILE", "text", None, "the Dockerfile; - is standard input (CONTEXT/Dockerfile)"),
    ("--script FILE", "text", None, "a shell script that says what to build, in place of a Dockerfile"),
    ("--target STAGE", "text", None, "build this stage, by name or number, and no more than it needs"),
    ("--build-arg NAME[=VALUE]", "list", (), "the value of an ARG; without one, of the variable here"),
    ("--build-arg-file FILE", "list", (), "lines of NAME=VALUE, as of --build-arg; # begins one that says nothing"),
    ("--build-context NAME=WHERE", "list", (), "a directory, git or http URL, docker-image://REF, oci-layout://PATH:TAG"),
    ("-l --label NAME=VALUE", "list", (), "a label of the image"),
    ("-a --annotation NAME=VALUE", "list", (), "an annotation of the manifest; index:NAME=VALUE of the index"),
    ("--platform OS/ARCH[/VARIANT]", "list", (), "for this platform; several make an index"),
    ("--pull", "flag", False, "ask registries for base images though they are in the store"),
    ("--pull-never", "flag", False, "ask none: base images are in the store"),
    ("--no-cache", "flag", False, "do everything anew"),
    ("--no-cache-filter STAGE", "list", (), "do this stage anew"),
    ("--cache-from WHERE", "list", (), "look there too: LAYOUT:TAG, REF, type=local,src=DIR, type=registry,ref=REF"),
    ("--cache-to WHERE", "list", (), "put what was used there, so that others need not build it"),
    ("--prune", "flag", False, "do not build: remove what is old or too much of the cache, and list it"),
    ("--prune-age TIME", "text", None, "old is what was not used for this long: 12h, 7d (60d)"),
    ("--prune-size SIZE", "text", None, "how much may stay (a tenth of the file system)"),
    ("--network NAME", "text", "default", "the network of RUN: none, host, or one of oci-net"),
    ("--isolation HOW", ("auto", "oci", "chroot"), "auto", "RUN in namespaces, or in a chroot, where there are none"),
    ("--allow WHAT", "list", (), "network.host, security.insecure, device[=VENDOR/CLASS[=NAME]]: let RUN ask for it"),
    ("--add-host NAME:ADDRESS", "list", (), "one more line of /etc/hosts in RUN"),
    ("--secret id=NAME[,src=FILE|,env=NAME|,fd=N]", "list", (), "what RUN --mount=type=secret may have"),
    ("--ssh NAME[=SOCKET|KEY,...]", "list", (), "the agent that RUN --mount=type=ssh may have"),
    ("--shm-size SIZE", "text", None, "size of /dev/shm in RUN (64m)"),
    ("--ulimit NAME=SOFT[:HARD]", "list", (), "resource limit of processes in RUN"),
    ("--cgroup-parent PATH", "text", None, "cgroup to put RUN under"),
    ("-m --memory SIZE", "text", None, "limit of memory of each RUN"),
    ("--memory-swap SIZE", "text", None, "limit of memory and swap together; -1: no limit of swap"),
    ("-c --cpu-shares N", "int", None, "weight of RUN when processors are short (1024)"),
    ("--cpu-period N", "int", None, "microseconds in which the quota counts"),
    ("--cpu-quota N", "int", None, "microseconds of each period that a RUN may use"),
    ("--cpuset-cpus LIST", "text", None, "the processors that RUN may use, like 0-3,7"),
    ("--cpuset-mems LIST", "text", None, "the memory nodes that RUN may use"),
    ("--cap-add NAME", "list", (), "give RUN a capability; ALL: all"),
    ("--cap-drop NAME", "list", (), "take a capability from RUN; ALL: all"),
    ("--security-opt OPTION", "list", (), "seccomp=FILE|unconfined, apparmor=PROFILE, label=..., no-new-privileges"),
    ("-v --volume HOST-DIR:DIR[:ro]", "list", (), "show RUN a directory of the host, which is not in the image"),
    ("--dns ADDRESS", "list", (), "a name server of RUN, in place of the host's; none: the image's own resolv.conf"),
    ("--dns-search DOMAIN", "list", (), "a domain in which RUN looks names up"),
    ("--dns-option OPTION", "list", (), "an option of resolv.conf(5) for RUN"),
    ("-j --jobs N", "int", 0, "how many stages are built at once; 0: as there are processors"),
    ("--from IMAGE", "text", None, "what the first FROM is about, in place of what it says"),
    ("--ignorefile FILE", "text", None, "what is left out of the context, in place of .dockerignore"),
    ("--env NAME[=VALUE]", "list", (), "a variable of the image, before those that the Dockerfile sets"),
    ("--unsetenv NAME", "list", (), "take a variable out of the image that is made"),
    ("--unsetlabel NAME", "list", (), "do not take this label from a base image"),
    ("--omit-history", "flag", False, "make an image without a history"),
    ("--tls-verify", "flag", True, "demand a valid certificate of registries, and https"),
    ("--cert-dir DIR", "text", None, "directory with *.crt, *.cert and *.key for registries"),
    ("--authfile FILE", "text", None, "credentials file for registries, instead of the usual ones"),
    ("--retry N", "int", None, "how often what may pass is tried again with a registry"),
    ("--retry-delay TIME", "text", None, "how long it waits before the first time again: 2s, 1m"),
    ("--load", "flag", False, "understood for docker's callers: the image is in the store anyway"),
    ("--rm", "flag", True, "understood for docker's callers: nothing of a RUN stays behind"),
    ("--force-rm", "flag", True, "the same, where a RUN fails"),
    ("--compress", "flag", False, "understood for docker's callers: a context is not sent anywhere"),
    ("-o --output type=KIND,dest=PATH", "list", (), "oci, docker: an archive; local: files; tar; image; registry"),
    ("--push", "flag", False, "as -o type=registry: to the registries that the tags are of"),
    ("--squash", "flag", False, "make one layer of all that is built"),
    ("--squash-all", "flag", False, "make one layer of everything, the base's layers too"),
    ("--layers", "flag", True, "a layer for each step; --layers=false is --squash"),
    ("--manifest INDEX", "text", None, "put the image into this index too, which is made if it is not there"),
    ("--attest type=KIND,...", "list", (), "sbom, provenance[,mode=min|max][,version=v0.2|v1], beside the image"),
    ("--sbom WHAT", "text", None, "true or false: as --attest type=sbom"),
    ("--provenance WHAT", "text", None, "true, false or mode=max,...: as --attest type=provenance"),
    ("--timestamp SECONDS", "int", None, "the time of all that is new (SOURCE_DATE_EPOCH is the latest one)"),
    ("--source-date-epoch SECONDS", "int", None, "as --build-arg SOURCE_DATE_EPOCH=SECONDS"),
    ("--rewrite-timestamp", "flag", False, "understood for buildah's callers: it is the files' latest time anyway"),
    ("--compression KIND", ("gzip", "zstd", "none"), "gzip", "of new layers"),
    ("--level N", "int", None, "of the compression: gzip 1 to 9 (1 to 3 by content), zstd 1 to 19 (3)"),
    ("--check", "flag", False, "do not build: say what should be written otherwise"),
    ("--call METHOD", "text", "build", "check, outline or targets: do not build, but tell; with ,format=json as JSON"),
    ("--why", "flag", False, "say of each step whether the cache had it, and if not what changed"),
    ("--depfile FILE", "text", None, "write what the image depends on to FILE, for make"),
    ("--iidfile FILE", "text", None, "write the image's Id to FILE"),
    ("--metadata-file FILE", "text", None, "write what was built to FILE, as JSON"),
    ("--progress MODE", ("auto", "plain", "tty", "none", "quiet", "json"), "auto", "how to tell of the work on stderr"),
    ("--logfile FILE", "text", None, "append what is told of the work to FILE, and not on stderr"),
    ("-q --quiet", "flag", False, "as --progress none"),
    ("--status-fd N", "int", None, "write the work's progress to descriptor N, JSON lines"),
)


def run(args: cli.Args) -> int | None:
    from oci_tools.build.position import Wrong

    _check(args)
    if args.prune:
        _prune(args)
        return None
    method, _, form = args.call.partition(",format=")
    if method not in ("build", "check", "outline", "targets") or form not in ("", "json"):
        raise Usage("invalid value for --call", args.call, hint="build, check, outline, targets[,format=json]")
    try:
        if method in ("outline", "targets"):
            _offer(args, method, form)
            return None
        return _check_file(args, form) if args.check or method == "check" else _build(args)
    except Wrong as error:
        sys.stderr.write(error.excerpt())
        raise


def _check(args: cli.Args) -> None:
    if args.file == "-" and args.context == "-":
        raise Usage("the context and the Dockerfile cannot both be standard input")
    if args.timestamp is not None and args.timestamp < 0:
        raise Usage("invalid value for --timestamp", str(args.timestamp), hint="it is seconds since 1970")
    if args.manifest and args.output and not args.tag:
        raise Usage("--manifest takes an image in a layout", hint="-t names one")
    if args.script and args.file:
        raise Usage("-f and --script say both what to build")


def _build(args: cli.Args) -> int | None:
    from oci_tools.build import make
    from oci_tools.build.progress import Progress

    options = _options(args)
    outputs: list[Output] = []
    if args.output or args.push or args.level is not None:
        from oci_tools.build import outputs as words

        outputs = [words.parse(word) for word in (*args.output, *(["type=registry"] if args.push else []))]
        words.settle(outputs, args.tag, options)
    if options.annotations:
        from oci_tools.build import levels

        several = len(options.platforms) > 1 or options.attest or options.says("BUILDKIT_MULTI_PLATFORM")
        levels.check(options.annotations, bool(several))
    mode = "none" if args.quiet or args.progress == "quiet" else args.progress
    progress = Progress(mode, args.status_fd, args.logfile)
    with _Signals():
        try:
            made = make.build(options, args.tag, outputs, progress, _warner(progress))
        except BaseException as error:
            progress.result(exit=getattr(error, "code", 1) or 1)
            raise
    if args.manifest:
        make.enlist(made.handles, args.manifest, options)
    if args.iidfile:
        _write(args.iidfile, made.id.encode())
    if args.depfile:
        from oci_tools import fs
        from oci_tools.build import depfile

        target = args.iidfile or next((each.dest for each in outputs if each.dest != "-"), "")
        with fs.Output(args.depfile) as fd, open(fd, "wb", closefd=False) as file:
            file.writelines(depfile.text(made, target))
    if args.metadata_file:
        _write(args.metadata_file, _metadata(made, args.tag))
    progress.result(image=made.handles[0] if made.handles else "", id=made.id, exit=0)
    for handle in made.handles[:1]:
        sys.stdout.write(f"{handle}\n")
    return None


def _rootless(words: list[str]) -> None:
    """A plain user builds where he is root, if he can: in a user namespace with his subordinate ids, or with one id.

    So does root within a container, who may not mount.
    """
    from oci_tools import fs
    from oci_tools.build import calling
    from oci_tools.runtime import apart

    if os.geteuid() == 0 and (apart.may_mount() or "--isolation chroot" in " ".join(words).replace("=", " ")):
        return
    if not apart.can_be_root():
        return
    env = {**os.environ, "OCI_ROOT": fs.root(), "OCI_RUN": fs.run()}
    calling.become(["run", "unshare", calling.program("build"), *words], env)


class _Call:
    """`call` of a build: from the second RUN on in a fork of a process that has `oci-run` imported.

    That one is this command once more, in a sealed interpreter (runtime/seal.py), in the build's mount namespace.
    Who speaks to a registry gets the words that are about those.
    """

    def __init__(self, registry: list[str]) -> None:
        import threading

        self._registry = registry
        self._lock = threading.Lock()
        self._runs = 0
        self._asker: Asker | None = None

    def __call__(self, words: Sequence[str], fds: Mapping[int, int]) -> Begun:
        from oci_tools.build import calling

        if words[0] in ("pull", "push"):
            words = [words[0], *self._registry, *words[1:]]
        if words[0] != "run":
            return calling.execute(words, fds)
        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._warm()
                return calling.execute(words, fds)
        assert self._asker is not None
        return self._asker.begin(words, fds)

    def _warm(self) -> None:
        from oci_tools.build import calling
        from oci_tools.engine import forker

        ours, theirs = forker.pair()
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno())]  # so that it is inherited
        env = {**os.environ, _FORKER: str(theirs.fileno())}
        path = calling.program("build")
        os.posix_spawn(path, [path], env, file_actions=actions)
        theirs.close()
        self._asker = forker.Asker(ours)


def _fork(fd: str) -> int:
    """Be the process that `_Call` starts."""
    from _socket import AF_UNIX, SOCK_SEQPACKET
    from socket import socket

    from oci_tools import fs
    from oci_tools.engine import forker
    from oci_tools.runtime import seal

    seal.ensure()
    os.environ.pop(_FORKER)
    for name in _WARM:
        __import__(f"oci_tools.{name}")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for each in range(3):  # whoever reads the build's output waits for nobody else
        os.dup2(null, each)
    sock = socket(AF_UNIX, SOCK_SEQPACKET, 0, int(fd))
    forker.close_all_but([0, 1, 2, sock.fileno()])
    forker.serve(sock, lambda name: lambda: cli.launch(name))
    work = f"{fs.root()}/cache/build/work"
    if os.listdir(work):  # the build may have been killed
        from oci_tools.build import calling, place

        with fs.Lock(f"{work}.lock"):
            place.sweep(work, calling.execute)
    return 0


def _in_chroot(bundle: str) -> int:
    """Run what a step runs; descriptor 3 is open at the other end as long as somebody wants it."""
    from oci_tools.runtime import chrooted

    try:
        return chrooted.run(bundle, 3)
    except Error as error:
        cli.say("oci-build", error)
        return error.code


def _prune(args: cli.Args) -> None:
    from oci_tools import fs
    from oci_tools.build import asked, prune

    age = prune.AGE if args.prune_age is None else asked.seconds(args.prune_age, "--prune-age")
    size = None if args.prune_size is None else asked.size(args.prune_size, "--prune-size")
    for kept in prune.prune(f"{fs.root()}/cache/build", age, size):
        sys.stdout.write(f"{kept.kind}\t{kept.name}\t{kept.size}\n")


def _offer(args: cli.Args, method: str, form: str) -> None:
    from oci_tools.build import make, outline

    said = make.offered(_options(args), method, lambda text: cli.say("oci-build", f"warning: {text}"))
    sys.stdout.write(outline.text(said) if form else "".join(outline.lines(said)))


def _check_file(args: cli.Args, form: str) -> int:
    from oci_tools.build import make

    found, whole = make.check(_options(args), lambda text: cli.say("oci-build", f"warning: {text}"))
    if form:
        from oci_tools.build import outline, results

        sys.stdout.write(outline.text(results.results(found, whole)))
    else:
        sys.stdout.writelines(f"{one}\n" for one in found)
    if isinstance(whole, Error):
        raise whole
    return 1 if found else 0


def _warner(progress: Progress) -> Callable[[str], None]:
    def warn(text: str) -> None:
        if progress.mode in ("plain", "tty", "json"):
            progress.say(f"warning: {text}")
        else:
            cli.say("oci-build", f"warning: {text}")

    return warn


def _metadata(made: Any, tags: list[str]) -> bytes:
    from oci_tools import document

    said: dict[str, Any] = {
        "containerimage.digest": made.top["digest"],
        "containerimage.descriptor": made.top,
        "containerimage.config.digest": made.id,
    }
    if tags:
        said["image.name"] = ",".join(tags)
    return document.dumps(said, indent=2)


def _write(path: str, data: bytes) -> None:
    from oci_tools import fs

    fs.write_to(path, data)


class _Signals:
    """While the `with` block lasts, SIGTERM and SIGHUP end a build as Ctrl-C does."""

    def __enter__(self) -> None:
        import _signal

        def end(number: int, _: object) -> None:
            raise Error("ended by a signal", code=128 + number)

        self._before = {number: _signal.signal(number, end) for number in (1, 15)}

    def __exit__(self, *_: object) -> None:
        import _signal

        for number, handler in self._before.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)


def _options(args: cli.Args) -> Options:
    from oci_tools.build import asked

    options = asked.options(args, _Call(asked.registry(args)))
    options.labels = cli.pairs(args.label, "--label")
    return options


COMMAND = cli.Command(
    "oci-build",
    "build an image from a Dockerfile and a context",
    "[CONTEXT]",
    OPTIONS,
    run,
    example="oci-build -t ./img:app .",
    same={
        "--pull-always": "--pull", **dict.fromkeys(("--pull=always", "--pull=newer", "--pull=ifnewer"), "--pull"),
        **dict.fromkeys(("--pull=missing", "--pull=ifmissing"), "--pull=false"), "--pull=never": "--pull-never",
    },
)  # fmt: skip


def _only_tells(words: list[str]) -> bool:
    """Whether these words ask for nothing to be built: for who is to be root only where that is needed."""
    said = " ".join(words).replace("--call ", "--call=")
    return any(f"--call={method}" in said for method in ("check", "outline", "targets"))


def main(words: list[str]) -> int:
    if _FORKER in os.environ:
        return _fork(os.environ[_FORKER])
    if words[:1] == ["--in-chroot"]:  # calling.IN_CHROOT
        return _in_chroot(words[1])
    if not {"--help", "--version", "--check"} & set(words) and not _only_tells(words):
        _rootless(words)
    return cli.main(COMMAND, words)
