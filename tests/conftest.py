"""What every test may ask for: our commands as processes, in a world of their own.

A test names the fixture it wants; nothing here applies by itself.

    oci("pull", REF, DIR)      runs bin/oci-pull and demands exit code 0
    oci.start("registry", ...) starts it and gives the Popen; ended with the test
    oci.shell(LINE)            runs a pipeline of them as typed
    oci.preload(NAME, LAYOUT)  puts an image of tests/images.py into the default store
    plain                      the same as a plain user, with user namespaces
    registry                   an `oci-registry` on a free loopback port, `.host` and `.dir`
    busybox, debian            layouts with the one image that is in their name
    public                     like tmp_path, but where plain users can reach it
    home                       the environment that these run in

`OCI_BIN` names another folder of commands: an installed one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import hypothesis
import pytest

# Where a change is judged, the same tests judge every change; elsewhere hypothesis looks for new cases.  No test has a
# time limit: two busy processors are not a failure.
hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.register_profile("judge", deadline=None, derandomize=True)
hypothesis.settings.load_profile("judge" if os.environ.get("CI") else "calm")

# A shell starts what is in its background with the first two ignored, nohup(1) with the last, and a test's own processes
# would inherit that.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL),
):  # fmt: skip
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

TOP = Path(__file__).resolve().parent.parent
if str(TOP) not in sys.path:
    sys.path.append(str(TOP))  # last: with OCI_BIN, the installed package is what is tested
BIN = Path(os.environ.get("OCI_BIN") or TOP / "bin")
pytest_plugins = ["tests.box", "tests.build.fixtures"]  # box, plain_box: a container of a test; built, cat
PATH = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Long bytes make no name for a test: they may hold the time, and pytest's workers compare names."""
    return argname if isinstance(val, bytes) and len(val) > 12 else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what cannot run where it stands."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    wanted = [name for mark in item.iter_markers("needs") for name in mark.args]
    missing = [name for name in wanted if not shutil.which(name, path=PATH)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}; tests/run --setup installs it on Debian as root")


def named(name: str) -> str:
    """A command's file in `bin/`."""
    return name if name == "ocid" else f"oci-{name}"


class Commands:
    """Runs our commands; everything it started has ended when the `with` block ends."""

    def __init__(self, env: dict[str, str], cwd: Path, user: int | None = None) -> None:
        self.env = env
        self.cwd = cwd
        self.bin = BIN
        self.user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        self._started: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate()
            except ValueError:  # the test has talked to it to its end, and closed its pipes
                process.wait()

    def __call__(
        self, name: str, *words: str | bytes | os.PathLike[str], **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run `oci-NAME WORDS...` to its end and demand exit code 0 (for options see `run`)."""
        return self.run([self.bin / named(name), *words], **options)

    def shell(self, line: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command line as typed, with our commands first on PATH."""
        return self.run(["/bin/sh", "-c", line], **options)

    def run(
        self,
        argv: list[Any],
        *,
        input: str | bytes | None = None,
        stdin: int | IO[Any] | None = None,
        env: dict[str, str | None] | None = None,
        code: int | None = 0,
        binary: bool = False,
        cwd: str | Path | None = None,
        **more: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command to its end and demand this exit code (None: any but 70).

        `env` adds to the environment, a value of None takes away; stdout and stderr
        are text unless `binary`; `more` goes to `subprocess.run`.
        """
        data = input.encode() if isinstance(input, str) else input
        if stdin is None and data is None:
            stdin = subprocess.DEVNULL
        given = {"stdin": stdin} if data is None else {"input": data}
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **self.user, **more}
        done = subprocess.run(argv, env=self.environment(env), cwd=cwd or self.cwd, **given, **more)
        said = (done.stderr or b"").decode(errors="replace")
        if not binary:
            for stream in "stdout", "stderr":
                if getattr(done, stream) is not None:
                    setattr(done, stream, getattr(done, stream).decode(errors="surrogateescape"))
        line = " ".join(os.fsdecode(word) for word in argv)
        wrong = done.returncode == 70 if code is None else done.returncode != code
        assert not wrong, f"{line}\nexit code {done.returncode}, not {code}\n{said}"
        return done

    def start(
        self, name: str, *words: str | os.PathLike[str], env: dict[str, str | None] | None = None, **more: Any
    ) -> subprocess.Popen[Any]:
        """Start `oci-NAME WORDS...`; it gets SIGTERM, and is waited for, when the test ends."""
        more = {"stdin": subprocess.DEVNULL, "cwd": self.cwd, **self.user, **more}
        process = subprocess.Popen([self.bin / named(name), *words], env=self.environment(env), **more)
        self._started.append(process)
        return process

    def preload(self, name: str, layout: Path) -> None:
        """Put a layout's image into the default store under its full reference."""
        from tests import images

        store = Path(self.env["OCI_ROOT"]) / "images"
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        images.add(store, name, layout)
        if self.user:
            subprocess.run(["chown", "-R", str(self.user["user"]), self.env["OCI_ROOT"]], check=True)

    def environment(self, change: dict[str, str | None] | None = None) -> dict[str, str]:
        """The world that the commands run in, with these changes."""
        return {name: value for name, value in {**self.env, **(change or {})}.items() if value is not None}


class Registry:
    """A running registry: `host` is "127.0.0.1:PORT", `url` what it printed, `dir` its folder."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.dir = directory
        self.url = process.stdout.readline().strip()
        assert self.url.startswith("http"), f"oci-registry did not come up: {self.url!r}"
        self.host = self.url.split("//", 1)[1].rstrip("/")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing touches the host's images, containers or credentials."""
    return world(tmp_path)


def world(directory: Path) -> dict[str, str]:
    for name in "home", "root", "run":
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": str(directory / "home"),
        "OCI_ROOT": str(directory / "root"),
        "OCI_RUN": str(directory / "run"),
        "OCI_NETWORK": "none",  # a bridge would be the real host's
    }


@pytest.fixture
def oci(home: dict[str, str], tmp_path: Path) -> Iterator[Commands]:
    """Our commands as processes, started in `tmp_path`; leaving a mount, or a bridge on the real host, fails the test."""
    with Commands(home, tmp_path) as commands:
        yield commands
    with open("/proc/self/mountinfo") as file:
        left = [line.split()[4] for line in file if f"{tmp_path}/" in line]
    for mount in reversed(left):
        subprocess.run(["umount", "-l", mount])
    assert not left, f"mounts left behind: {left}"
    store = f"br-{crc32(os.fsencode(os.path.realpath(home['OCI_ROOT']))):08x}"[:9]  # net/place.py
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith(store)], "a bridge on the real host"


@pytest.fixture
def plain(request: pytest.FixtureRequest, public: Path) -> Iterator[Commands]:
    """Our commands run by a plain user, in `public`; skipped where one cannot run them."""
    user = None if os.geteuid() else 12345
    who: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, cwd="/", **who).returncode:
        pytest.skip("needs user namespaces for plain users")
    env = world(public)
    if user:
        subprocess.run(["chown", "-R", f"{user}:{user}", public], check=True)
    with Commands(env, public, user) as commands:
        if not reachable(commands.bin):
            commands.bin = request.getfixturevalue("open_bin")
            commands.env["PATH"] = f"{commands.bin}:{PATH}"
        yield commands


def reachable(path: Path) -> bool:
    """Whether plain users may go to a directory."""
    return all(parent.stat().st_mode & 0o1 for parent in (path, *path.parents))


@pytest.fixture(scope="session")
def open_bin() -> Iterator[Path]:
    """A copy of the commands, what they import included, where plain users can reach them."""
    top = Path(tempfile.mkdtemp(prefix="oci-tools-test-"))
    top.chmod(0o755)
    unneeded = shutil.ignore_patterns("pip", "mypy*", "ruff*", "pytest*", "_pytest", "hypothesis*", "*.dist-info")
    for name in "bin", "oci_tools", "lib", ".venv/lib":
        if (source := BIN.parent / name).exists():
            shutil.copytree(source, top / name, symlinks=True, ignore=unneeded)
    yield top / "bin"
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def busybox() -> Path:
    """An OCI layout with one small image, tagged `latest`: Debian's busybox."""
    return made("busybox", "busybox")


@pytest.fixture(scope="session")
def debian() -> Path:
    """An OCI layout with a Debian base of 120 MB, tagged `latest`."""
    return made("debian", "mmdebstrap")


def made(name: str, program: str) -> Path:
    from tests import images

    if not shutil.which(program, path=PATH) and not (images.cache() / name).exists():
        pytest.skip(f"needs {program}; tests/run --setup installs it on Debian as root")
    return images.image(name)


@pytest.fixture
def public() -> Iterator[Path]:
    """A temporary directory that plain users can reach, unlike root's `tmp_path`."""
    directory = Path(tempfile.mkdtemp(prefix="oci-tools-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def registry(oci: Commands, tmp_path: Path) -> Registry:
    """Our own registry, empty, on a free loopback port."""
    directory = tmp_path / "registry"
    directory.mkdir()
    process = oci.start(
        "registry", "serve", "--listen", "127.0.0.1:0", directory, stdout=subprocess.PIPE, text=True
    )
    return Registry(process, directory)
