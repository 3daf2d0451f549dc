"""oci-demo: the main road from a file tree to a running container, each command printed as it is run.

The image is packed from the host's own shell and the libraries it needs, so nothing is
downloaded; with a reference, a real image is pulled instead.  In a checkout the
environment is made first, so this module, and what it imports, uses only the standard
library.  What it makes lies in one temporary directory, which goes when it ends; one
that a killed demo left is removed by the next.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

from oci_tools import cli, environment, fs
from oci_tools.errors import Error
from oci_tools.linux.process import PR_SET_PDEATHSIG, prctl

BIN = os.path.dirname(os.path.realpath(sys.argv[0]))
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("sh", "cat", "ls", "id", "mount", "hostname", "ps")  # those that the host has
PROOFS = (
    "cat /proc/sys/kernel/hostname",
    "sh -c 'echo I am process $$ of /proc/[0-9]* and see the links /sys/class/net/*'",
    "cat /proc/mounts",
)


def run(args: cli.Args) -> int:
    """Make the environment if this is a checkout; then walk the road."""
    if environment.is_checkout():
        environment.make(say=show)
    if args.setup:
        return 0
    with Scene() as scene:
        reference = args.ref or pack_and_push(scene)
        scene.do(f"oci-pull {shlex.quote(reference)} ./pulled")
        scene.do("oci-unpack ./pulled ./bundle")
        scene.do("oci-spec new ./pulled | oci-spec set hostname=hello | oci-spec check > ./bundle/config.json")
        has_shell = os.path.lexists(f"{scene.path}/bundle/rootfs/bin/sh")
        for proof in PROOFS if has_shell else ("",):
            scene.do(f"oci-run ./bundle {proof}".rstrip())
    return 0


def pack_and_push(scene: Scene) -> str:
    """Make an image without downloading anything, push it to a registry of our own; its reference."""
    copy_shell(f"{scene.path}/tree")
    print("# ./tree: the shell and a few tools of this host, with the libraries they need")
    scene.do("oci-pack ./tree ./img:hello")
    host = scene.serve("oci-registry serve --listen 127.0.0.1:0 ./registry")
    scene.do(f"oci-push ./img:hello {host}/hello")
    return f"{host}/hello"


def show(line: str) -> None:
    """What is about to be run, as one would type it."""
    print(f"$ {line}", flush=True)


class Scene:
    """A temporary directory to run commands in, and the registry started there."""

    def __enter__(self) -> Scene:
        sweep()
        self.path = tempfile.mkdtemp(prefix=prefix())
        self.held = hold(self.path)
        self.registry: subprocess.Popen[str] | None = None
        places = {"OCI_ROOT": f"{self.path}/root", "OCI_RUN": f"{self.path}/run"}
        self.env = {**os.environ, **places, "PATH": f"{BIN}:{os.environ.get('PATH') or SYSTEM_PATH}"}
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that __exit__ is reached
        show(f"cd {self.path}")
        show("export OCI_ROOT=$PWD/root OCI_RUN=$PWD/run")
        return self

    def __exit__(self, *_: object) -> None:
        if self.registry is not None:
            self.registry.terminate()
            self.registry.communicate()
        fs.remove_tree(self.path)
        os.close(self.held)

    def do(self, line: str) -> None:
        """Print a command line and run it."""
        show(line)
        code = subprocess.run(["/bin/sh", "-c", line], cwd=self.path, env=self.env).returncode
        if code:
            raise Error("cannot go on after", line, f"exit code {code}")

    def serve(self, line: str) -> str:
        """Start a registry, which ends with us even if we are killed; its host and port."""
        show(f"{line} &")
        self.registry = subprocess.Popen(
            [f"{BIN}/{line.split()[0]}", *line.split()[1:]],
            cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )  # fmt: skip
        assert self.registry.stdout is not None
        url = self.registry.stdout.readline().strip()
        if not url:
            raise Error("cannot go on after", line, f"exit code {self.registry.wait()}")
        print(url)
        return url.partition("//")[2].rstrip("/")


# -- temporary directories, also those of killed demos ----------------------------------


def prefix() -> str:
    """How the names of this user's demo directories begin."""
    return os.path.join(tempfile.gettempdir(), f"oci-demo-{os.geteuid()}-")


def hold(path: str) -> int:
    """Lock a demo's directory for as long as the descriptor lives; BlockingIOError if it is held."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def sweep() -> None:
    """Remove what killed demos left."""
    for path in glob.glob(glob.escape(prefix()) + "*"):
        try:
            if os.lstat(path).st_uid == os.geteuid():
                fd = hold(path)
                fs.remove_tree(path)
                os.close(fd)
        except OSError:
            pass  # a running demo's, or not a directory


# -- an image without a download ------------------------------------------------------------


def copy_shell(tree: str) -> None:
    """A tree with the host's shell, a few tools, and what the loader wants for them."""
    for tool in TOOLS:
        path = shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if path is not None:
            copy(path, f"{tree}/bin/{tool}")
            for library in libraries(path):
                copy(library, tree + library)
    os.makedirs(f"{tree}/etc")
    with open(f"{tree}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/:/bin/sh\n")
    os.makedirs(f"{tree}/tmp")
    os.chmod(f"{tree}/tmp", 0o1777)


def copy(source: str, target: str) -> None:
    """Copy a file to where links on the host pretend that it is."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        shutil.copy2(source, target)


def libraries(program: str) -> list[str]:
    """The loader and libraries of a program of this host's own; none for a static one.

    ldd runs the loader, so it is not for programs from elsewhere.
    """
    env = {"PATH": SYSTEM_PATH, "LC_ALL": "C"}
    done = subprocess.run(["ldd", program], env=env, capture_output=True, text=True)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    return [word for word in words if word.startswith("/")]


COMMAND = cli.Command(
    "oci-demo",
    "pack, serve, push, pull, unpack and run an image, printing each command before it is run",
    "[REF]",
    (("--setup", "flag", False, "only make the environment of this checkout"),),
    run,
    example="oci-demo docker.io/library/alpine",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
