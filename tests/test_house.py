"""The house: who imports whom, what a start may load, one page and one test a command, small files.

House rules that are only written down are forgotten; each is a test here.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oci_tools
from oci_tools import cli, cli_click

TOP = Path(__file__).resolve().parent.parent
PACKAGE = Path(oci_tools.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = sorted(path.name.removeprefix("oci-") for path in (TOP / "bin").iterdir())


def full(name: str) -> str:
    """The command's whole name."""
    return name if name == "ocid" else f"oci-{name}"


def page_name(name: str) -> str:
    return f"{full(name)}.{8 if name == 'ocid' else 1}"


# -- who imports whom ------------------------------------------------------------------

# A room, or a module beside the rooms, and what it may import besides itself.  Arrows only
# point down; two walls hold the house: runtime knows no images, engine no libraries of ours.
MAY_IMPORT = {
    "errors": "",
    "document": "errors",
    "linux": "errors",
    "fs": "errors linux",
    "libdeflate": "",
    "compress": "errors fs libdeflate",
    "sparse": "",
    "tarheader": "",
    "tar": "errors sparse tarheader",
    "shelf": "errors",
    "names": "errors shelf",
    "schema": "errors fs document",
    "yaml": "errors",
    "fetch": "errors fs document",
    "http": "errors fs",
    "examples": "",
    "usual": "",
    "cli_click": "errors advice cli examples usual",
    "cli_complete": "cli",
    "advice": "errors fs",
    "cli": "errors fs cli_click cli_complete advice",
    "abstract": "",
    "bytecode": "abstract cli",
    "rows": "errors cli document",
    "tail": "",
    "protobuf": "",
    "drawing": "errors",
    "environment": "errors fs",
    "image": "errors fs document compress schema shelf names tar",
    "layer": "errors fs document linux compress shelf names tar",
    "volume": "errors fs document linux layer",
    "registry": "errors fs document image compress fetch http schema",
    "net": "errors fs document linux schema",
    "runtime": "errors fs document linux protobuf schema",
    "kube": "errors document yaml runtime",
    "bundle": "errors fs document compress shelf names image layer runtime",
    "build": "errors fs document image layer bundle fetch compress",
    # `cli`: what people say to a container is declared in its form.
    "container": "errors fs document cli linux tar tail yaml compress names image layer bundle registry net volume runtime",
    "engine": "errors fs document linux http tail",
}
# A package of others has one importing module; the version number may be read by anybody.
PACKAGES = {
    "click": "cli_click",
    "requests": "fetch",
    "jsonschema": "schema",
    "pyroute2": "net",
    "dnslib": "net",
    "magic": "image",
    "deflate": "libdeflate",
    "isal": "compress",
    "zstandard": "compress",
    "h11": "http",
    "bcrypt": "registry",
    "cryptography": "registry",
    "ldap3": "registry",
    "yaml": "yaml",
}
# These come with a package and are its importer's too.
WITH = {"urllib3": "requests", "certifi": "requests", "referencing": "jsonschema"}


def room(path: Path) -> str:
    """The room a module is in, or its own name when it stands beside them."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a module imports, early or late."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_arrows_only_point_down() -> None:
    wrong = []
    for path in MODULES:
        here = room(path)
        if here == "__init__":
            continue
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("oci_tools.")} - {"__version__"}
        if here == "cmd":
            allowed = set(MAY_IMPORT)  # all of these, never another command
            own = f"oci_tools.cmd.{path.parent.name}."  # a command that is many files: its own
            if not (rooms - allowed - {"cmd"}) and all(
                name.startswith(own) for name in imports(path) if name.startswith("oci_tools.cmd.")
            ):
                continue
        else:
            assert here in MAY_IMPORT, f"{here} has no row in the import table"
            allowed = {here, *MAY_IMPORT[here].split()}
        wrong += [f"{path.relative_to(TOP)} imports {name}" for name in sorted(rooms - allowed)]
    assert not wrong


def test_the_table_itself_has_no_circle_and_keeps_the_walls() -> None:
    below: dict[str, set[str]] = {}
    for name, allowed in MAY_IMPORT.items():
        known = set(allowed.split()) - {"cli_click", "cli_complete"}  # cli and its other readers are one thing
        if name not in ("cli_click", "cli_complete"):
            assert known <= set(below), f"{name} imports {known - set(below)}, which stand below it"
        below[name] = known.union(*(below.get(one, set()) for one in known))
    assert not below["runtime"] & {"image", "layer", "bundle", "registry", "container"}
    assert below["engine"] <= {"errors", "fs", "linux", "http", "document", "tail"}


def test_a_package_of_others_has_one_importer() -> None:
    importers: dict[str, set[str]] = {}
    for path in MODULES:
        for name in imports(path):
            package = name.split(".")[0]
            if package not in sys.stdlib_module_names and package != "oci_tools":
                importers.setdefault(WITH.get(package, package), set()).add(str(path.relative_to(PACKAGE)))
    assert set(importers) <= set(PACKAGES), "a new dependency needs a reason, a maintainer and a row here"
    for package, files in importers.items():
        assert len(files) == 1, f"{package} is imported by {', '.join(sorted(files))}"
        assert room(PACKAGE / files.pop()) == PACKAGES[package]


def test_every_dependency_is_used_and_has_its_reason() -> None:
    names = {"magic": "python-magic", "yaml": "PyYAML"}
    lines = [line.strip() for line in (TOP / "setup.cfg").read_text().splitlines()]
    wanted = lines[lines.index("install_requires =") + 1 : lines.index("[options.extras_require]")]
    asked = [line.split()[0] for line in wanted if line and not line.startswith("#")]
    assert sorted(asked) == sorted(names.get(package, package) for package in PACKAGES)
    for before, line in zip(wanted, wanted[1:], strict=False):
        assert not line or line.startswith("#") or before.startswith("#"), f"{line} has no reason"


# -- what a start may load ----------------------------------------------------------------

# Modules that the hot rooms may not load when they are imported: what each costs is in house.md.
HOT = ("errors", "fs", "document", "cli", "linux", "runtime", "container", "image", "layer", "bundle", "net")
HEAVY = frozenset(
    "argparse asyncio click collections contextlib ctypes dataclasses enum functools gettext hashlib importlib.metadata "
    "inspect json jsonschema logging magic pathlib pyroute2 random re requests shutil socket ssl subprocess tarfile "
    "tempfile threading typing urllib.parse".split()
)


def loaded(code: str, **more: Any) -> set[str]:
    """The modules that an interpreter started as our commands are has loaded after `code`."""
    start = f"import sys; sys.path[:0] = [{str(PACKAGE.parent)!r}]; sys.path += {packages()!r}\n"
    end = "\nimport sys; sys.stdout.write('\\n'.join(['', 'MODULES', *sys.modules]))"
    python = [sys.executable if sys.prefix == sys.base_prefix else sys._base_executable, "-ISB", "-c"]  # type: ignore[attr-defined]
    done = subprocess.run([*python, start + code + end], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("\nMODULES\n")[2].split("\n"))


def packages() -> list[str]:
    return [path for path in sys.path if path.endswith("-packages")]


def hot_modules() -> list[str]:
    found = [path for path in MODULES if room(path) in HOT]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in found]


@pytest.mark.parametrize("name", [name for name in hot_modules() if not name.endswith("cli_click")])
def test_a_hot_module_loads_nothing_heavy(name: str) -> None:
    assert not loaded(f"import {name.removesuffix('.__init__')}") & HEAVY


# The words of a command as people and engines type them most, which may load these of the
# heavy modules, and this many modules in all.  `./img` is a layout, `./b` its bundle.
DOCUMENTS = "collections enum functools json re"
LAYERS = "collections hashlib threading"
NETWORK = f"{DOCUMENTS} {LAYERS} contextlib inspect logging pathlib random requests shutil socket ssl tempfile typing urllib.parse"
BUILDING = f"{LAYERS} enum functools re"
STARTS: dict[tuple[str, ...], tuple[str, int]] = {
    ("run", "state", "nope"): ("", 82),
    ("run", "list"): ("", 82),
    ("run", "run", "-b", "./b", "c1"): ("", 95),
    ("run", "./b", "true"): ("", 122),
    ("run", "--network", "none", "./img", "true"): ("", 132),
    ("image", "ls", "./img"): ("", 65),
    ("image", "inspect", "./img"): (DOCUMENTS, 92),
    ("spec", "new", "./img"): (DOCUMENTS, 107),
    ("unpack", "./img", "./b2"): (LAYERS, 112),
    ("pack", "./tree", "./img2:x"): (LAYERS, 112),
    ("pull", "127.0.0.1:1/x", "./none"): (NETWORK, 310),
    ("push", "./img", "127.0.0.1:1/x"): (NETWORK, 310),
    ("build", "./context"): (BUILDING, 160),
    ("net", "ls"): (DOCUMENTS, 100),  # the first time: a file for people is written
    ("demo", "--setup"): ("collections contextlib enum functools pathlib random re shutil subprocess tempfile threading typing", 110),
}  # fmt: skip


@pytest.mark.parametrize("words", STARTS, ids=" ".join)
def test_start_up_budget(words: tuple[str, ...], oci: Any, busybox: Path, tmp_path: Path) -> None:
    shutil.copytree(busybox, tmp_path / "img")
    (tmp_path / "tree").mkdir()
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    oci("unpack", "./img", "./b")
    name, *rest = words
    if name == "run" and "./img" in words:
        oci(*words)  # its layer is in the store then
    # What seals itself would start again, and take its list of modules with it.
    sealed = "from oci_tools.runtime import seal; seal.ensure = lambda *_: None\n"
    main = f"from oci_tools.cmd.{name} import main; main({rest!r})"
    seen = loaded((sealed if name == "run" else "") + main, env=oci.env, cwd=tmp_path)
    allowed, count = STARTS[words]
    assert not (seen & HEAVY) - set(allowed.split())
    assert len(seen) <= count, f"{len(seen)} modules"


# -- a command is a bin file, a module, a page, a test ----------------------------------------


def test_bin_files_differ_only_in_the_name() -> None:
    texts = {name: (TOP / "bin" / full(name)).read_text().replace(f'"{name}"', '"NAME"') for name in COMMANDS}
    heads, bodies = zip(*(text.split("import _signal\n", 1) for text in texts.values()), strict=True)
    assert len(set(bodies)) == 1
    # oci-run is started by a shell, from the sealed interpreter if there is one.
    assert {head for name, head in zip(texts, heads, strict=True) if name != "run"} == {"#!/usr/bin/python3 -ISXutf8\n"}
    assert all((TOP / "bin" / full(name)).stat().st_mode & 0o111 for name in COMMANDS)


def test_every_command_has_a_module_a_page_and_a_test_and_there_are_no_others() -> None:
    modules = {path.stem for path in (PACKAGE / "cmd").glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in (PACKAGE / "cmd").glob("*/__init__.py")}
    pages = {path.stem.removeprefix("oci-") for path in (TOP / "man").glob("oci*.[18]")}
    tests = {path.stem.removeprefix("test_") for path in (TOP / "tests/cmd").glob("test_*.py")}
    assert modules == set(COMMANDS)
    assert pages == set(COMMANDS)
    assert tests == set(COMMANDS)


def test_a_package_that_pip_builds_holds_what_the_commands_need() -> None:
    text = (TOP / "setup.cfg").read_text()
    suffixes = {path.suffix for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    shipped = set(re.findall(r"^\* = \*(\.\w+)$", text, re.M))
    assert suffixes <= {".py", *shipped}
    assert all((path / "__init__.py").exists() for path in {module.parent for module in MODULES})


# -- the pages say what the commands do -----------------------------------------------------


def page(name: str) -> str:
    return (TOP / "man" / name).read_text()


def plain(text: str) -> str:
    """A page's text without its markup."""
    text = re.sub(r"\\f(\(..|\[\w*\]|.)", "", text).replace("\\-", "-").replace("\\&", "")
    return re.sub(r"^\.(B|I|BR|RB|IR|RI|BI|IB|SH|SS|Nm|Nd|Xr)\b *|\"", "", text, flags=re.M)


def command(name: str) -> cli.Command:
    found: cli.Command = importlib.import_module(f"oci_tools.cmd.{name}").COMMAND
    return found


def declared(one: cli.Command) -> set[str]:
    """Every option that a command or a verb of it takes, less those that all have."""
    inner = [*(one.verbs or {}).values(), *([one.default] if one.default else [])]
    options = {name for option in one.options if option not in cli.SHARED for name in cli.names(option)}
    return options.union(*map(declared, inner))


def tagged(text: str) -> set[str]:
    """The options that a page describes: those in the tags of its lists."""
    found: set[str] = set()
    lines = text.splitlines()
    for tag in (after for line, after in zip(lines, lines[1:], strict=False) if line.startswith((".TP", ".TQ"))):
        found |= set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", plain(tag)))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_describes_the_options_that_there_are(name: str) -> None:
    assert tagged(page(page_name(name))) == declared(command(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_headed_by_the_commands_own_summary(name: str) -> None:
    head = re.search(r"^\.SH NAME\n(.*)$", page(page_name(name)), re.M)
    assert head and plain(head[1]) == f"{full(name)} - {command(name).summary}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_names_every_verb(name: str) -> None:
    text = plain(page(page_name(name)))
    missing = [verb for verb in command(name).verbs or {} if not re.search(rf"{full(name)} {verb}\b", text)]
    assert not missing


def leaves(one: cli.Command) -> Iterator[cli.Command]:
    for inner in (one.verbs or {}).values():
        yield from leaves(inner)
    if not one.verbs:
        yield one


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_verb_begins_with_an_example_of_it(name: str) -> None:
    if name == "run":
        module = importlib.import_module("oci_tools.cmd.run")
        module.VERBS.update(module._rare())
    for leaf in leaves(command(name)):
        shown = cli_click.example(leaf)
        words = shlex.split(re.split(r" [|<>] |;|&&", f" {shown} ")[0] if f" {shown}".startswith(f" {leaf.name}") else shown)
        assert leaf.name in shown, f"{leaf.name} has no example: {shown}"
        if words[: len(leaf.name.split())] == leaf.name.split():
            said = [word for word in words[len(leaf.name.split()) :] if word != "$(...)"]
            assert cli.read(cli._with(leaf, cli.SHARED), said) is not None, f"what its example says is not understood: {shown}"


def test_the_overview_lists_the_commands() -> None:
    text = page("oci-tools.7")
    body, _, also = text.partition(".SH SEE ALSO")
    pattern = r"^\.BR (?:oci-)?(\w+) \([18]\)"
    assert sorted(re.findall(pattern, body, re.M)) == COMMANDS
    assert sorted(re.findall(pattern, also, re.M)) == COMMANDS


def test_readme_lists_the_commands() -> None:
    listed = re.findall(r"^\| `(?:oci-)?(\w+)` \|", (TOP / "README.md").read_text(), re.M)
    assert sorted(listed) == COMMANDS


@pytest.mark.needs("mandoc")
@pytest.mark.parametrize("path", sorted((TOP / "man").iterdir()), ids=lambda path: path.name)
def test_a_page_is_well_formed(path: Path) -> None:
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True)
    wrong = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert not wrong


# -- small things ---------------------------------------------------------------------------

# Files over 400 lines and functions over 50, and what they may not grow beyond: this list may only shrink.
LONG: dict[str, int] = {
    "image/files.py": 500,
    "runtime/launch.py": 420,
    "runtime/mounts.py": 420,
}


def long_things() -> Iterator[tuple[str, int]]:
    for path in MODULES:
        name, lines = str(path.relative_to(PACKAGE)), len(path.read_text().splitlines())
        if lines > 400:
            yield name, lines
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 50:
                    yield f"{name}:{node.name}", length


def test_long_things_only_shrink() -> None:
    grown = {name: length for name, length in long_things() if length > LONG.get(name, 0)}
    assert not grown, "make it shorter, or two things"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def linter(*words: str) -> str:
    done: Any = subprocess.run([sys.executable, "-m", *words], cwd=TOP, capture_output=True, text=True)
    return str(done.stdout + done.stderr) if done.returncode else ""


def test_style() -> None:
    assert not linter("ruff", "check", "-q", "--output-format=concise", "oci_tools", "bin", "tests", "tests/run", "tests/bench/run", "setup.py")


def test_types() -> None:
    assert not linter("mypy")
