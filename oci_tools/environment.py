"""The environment of a checkout: `.venv`, made from nothing but Debian's python3.

What goes in is read from setup.cfg, its one home.  `python3 -m venv` needs
ensurepip, which Debian keeps in a package of its own; where that is missing, pip
comes as the wheel of Debian's python3-pip-whl, fetched by apt into directories of
our own, which takes no root, verifies Debian's signatures and changes nothing on
the host.  Only the standard library is used here.

An environment cannot be moved, so it is made in place, under a lock:

    .venv/.being-made      there from the first moment to the last, and while packages
                           are added: a killed making is recognised, and made again
    .venv/.requirements    what is installed, one requirement a line
"""

from __future__ import annotations

import os
import subprocess

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARK, RECORD = ".being-made", ".requirements"
PATIENCE = 1800.0  # seconds that another maker may take
# Where python3-pip-whl puts pip's wheel.
WHEELS = "/usr/share/python-wheels"


def is_checkout() -> bool:
    """Whether this code runs from a checkout, which has an environment, or is installed."""
    return os.path.isfile(f"{TOP}/setup.cfg") and os.path.isdir(f"{TOP}/bin")


def make(
    name: str = ".venv",
    extras: Iterable[str] = (),
    python: str = "/usr/bin/python3",
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Make the environment in the checkout, or add what it lacks; its directory.

    `say` hears each command before it is run.  Raises Error with what is missing.
    """
    place = f"{TOP}/{name}"
    wanted = requirements(extras)
    with fs.Lock(TOP, timeout=PATIENCE):  # a second maker waits here and finds it made
        if _is_whole(place, python) and set(wanted) <= set(_recorded(place)):
            return place
        _begin(place, python)
        if not os.path.exists(f"{place}/bin/pip"):
            _make_empty(place, python, say)
        execute([f"{place}/bin/python", "-m", "pip", "install", "-q", *wanted], say)
        # Whoever runs the commands may not be allowed to write bytecode here.
        execute([f"{place}/bin/python", "-m", "compileall", "-q", f"{TOP}/oci_tools"], say)
        _end(place, [*_recorded(place), *wanted])
    return place


def requirements(extras: Iterable[str] = ()) -> list[str]:
    """What setup.cfg asks for, with these extras."""
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    parser.read(f"{TOP}/setup.cfg", encoding="utf-8")
    lists = [parser["options"]["install_requires"]]
    lists += [parser["options.extras_require"][extra] for extra in extras]
    return [line.strip() for text in lists for line in text.splitlines() if line.strip()]


def version(python: str) -> str:
    """The interpreter's version as library directories spell it: python3.13."""
    ask = "import sys; print('python%d.%d' % sys.version_info[:2])"
    return execute([python, "-IS", "-c", ask]).strip()


def execute(
    argv: list[str],
    say: Callable[[str], None] = lambda line: None,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """A command's output; an Error with its last words when it fails."""
    import shlex

    line = shlex.join(os.path.relpath(word, TOP) if word.startswith(f"{TOP}/") else word for word in argv)
    say(line)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(os.environ if env is None else env)}
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise Error("cannot run", argv[0], error) from None
    if done.returncode:
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        why = next((word for word in words if word.startswith("E: ")), words[-1])  # apt's last says little
        raise Error("cannot run", line if len(line) < 60 else f"{line[:60]}...", why)
    return done.stdout


# -- an environment, whole or not -----------------------------------------------------


def _is_whole(place: str, python: str) -> bool:
    """Whether it was made to its end, and for this interpreter's version."""
    if os.path.exists(f"{place}/{MARK}") or not os.path.exists(f"{place}/bin/pip"):
        return False
    return os.path.isdir(f"{place}/lib/{version(python)}/site-packages")


def _recorded(place: str) -> list[str]:
    try:
        with open(f"{place}/{RECORD}", encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _begin(place: str, python: str) -> None:
    """Mark it as being made; what is there stays if it is whole, else it is begun anew."""
    if not _is_whole(place, python):
        if os.path.exists(place) and not any(os.path.exists(f"{place}/{name}") for name in (MARK, RECORD)):
            raise Error("cannot use", place, f"not made here for {version(python)}", "move it away")
        fs.remove_tree(place)
        fresh = f"{place}.new"
        fs.remove_tree(fresh)
        try:
            os.mkdir(fresh)
            fs.write(f"{fresh}/{MARK}", b"")
            os.rename(fresh, place)
        except OSError as error:
            raise Error("cannot make the environment", place, error) from None
    fs.write(f"{place}/{MARK}", b"")


def _end(place: str, installed: list[str]) -> None:
    fs.write(f"{place}/{RECORD}", "".join(f"{line}\n" for line in dict.fromkeys(installed)).encode())
    os.unlink(f"{place}/{MARK}")


# -- making one -------------------------------------------------------------------------


def _make_empty(place: str, python: str, say: Callable[[str], None]) -> None:
    """An environment with pip and nothing else."""
    if subprocess.run([python, "-Ic", "import ensurepip"], stderr=subprocess.DEVNULL).returncode == 0:
        execute([python, "-m", "venv", place], say)
        return
    import tempfile

    execute([python, "-m", "venv", "--without-pip", place], say)
    with tempfile.TemporaryDirectory(prefix="oci-tools-pip-") as scratch:
        wheel = _wheel(WHEELS) or _fetch_wheel(scratch, say)
        execute([f"{place}/bin/python", f"{wheel}/pip", "install", "-q", "--no-index", wheel], say)


def _wheel(directory: str) -> str | None:
    """The pip wheel in a directory."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return next((f"{directory}/{name}" for name in sorted(names) if name.startswith("pip-")), None)


def _fetch_wheel(scratch: str, say: Callable[[str], None]) -> str:
    """pip's wheel out of Debian's package, by an apt that touches only `scratch`."""
    missing = Error("cannot make the environment", None, "python3 has neither venv nor pip", "install python3-venv")
    import shutil

    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        raise missing
    for folder in "state/lists/partial", "cache/archives/partial":
        os.makedirs(f"{scratch}/{folder}")
    settings = {
        "Dir::State": f"{scratch}/state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": f"{scratch}/cache",
        "APT::Sandbox::User": "",  # root's apt would hand the download to a user who may not write here
    }
    lines = [f'{name} "{value}";\n' for name, value in settings.items()]
    fs.write(f"{scratch}/apt.conf", "".join(lines).encode())
    try:
        execute(["apt-get", "-qq", "-c", "apt.conf", "update"], say, cwd=scratch)
        execute(["apt-get", "-qq", "-c", "apt.conf", "download", "python3-pip-whl"], say, cwd=scratch)
        package = next(name for name in os.listdir(scratch) if name.endswith(".deb"))
        execute(["dpkg", "-x", package, "."], say, cwd=scratch)
    except Error as error:
        raise Error(missing.what, None, f"{missing.cause}, and {error}", missing.hint) from None
    wheel = _wheel(scratch + WHEELS)
    if wheel is None:
        raise missing
    return wheel
