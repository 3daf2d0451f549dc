"""--script: a shell script is the build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oci_tools.build import script
from oci_tools.errors import Error

pytestmark = [pytest.mark.root]
SCRIPT = r"""#!/bin/sh -e
# comment
arg VERSION=1.0
NAME="it's \"quoted\" \$x"
shared() { echo "shared $1"; }
from BASE as build
one() {
    shared one > /one
    echo "$VERSION $*" >> /one
}
two()
{
    echo not found
}
step one 'a b' "c'd"
from BASE
copy --from=build /one /
for n in 1 2; do
    eval "loop$n() { env | grep ^PATH > /loop$n; }"
    step loop$n
done
if test "$VERSION" = 2.0; then label two=yes; fi
env NAME="$NAME" PLAIN=x
workdir /w
copy "with space" ./
expose 80
healthcheck --interval=3s cmd test -f /one
cmd sh -c 'echo $NAME'
"""


@pytest.fixture
def made(oci: Any, busybox: Path, tmp_path: Path) -> Any:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/with space").write_text("space")

    def build(text: str, *words: Any, code: int = 0) -> Any:
        (tmp_path / "build.sh").write_text(text.replace("BASE", str(busybox)))
        return oci("build", "-t", "./img:x", "--script", "build.sh", "--progress", "plain", *words, "context", code=code)

    return build


def test_a_script_is_a_build(oci: Any, made: Any, cat: Any) -> None:
    made(SCRIPT)
    assert cat("/one") == "shared one\n1.0 a b c'd\n"
    assert cat("/loop1").startswith("PATH=") and cat("/w/with space") == "space"
    inner = json.loads(oci("image", "inspect", "./img:x").stdout)["config"]["config"]
    assert "NAME=it's \"quoted\" $x" in inner["Env"] and "PLAIN=x" in inner["Env"]
    assert inner["Cmd"] == ["sh", "-c", "echo $NAME"] and inner["ExposedPorts"] == {"80/tcp": {}}
    assert inner["Healthcheck"] == {"Test": ["CMD", "test", "-f", "/one"], "Interval": 3_000_000_000}
    assert "two" not in (inner.get("Labels") or {})
    made(SCRIPT, "--build-arg", "VERSION=2.0")
    assert cat("/one").endswith("2.0 a b c'd\n")
    assert json.loads(oci("image", "inspect", "./img:x").stdout)["config"]["config"]["Labels"] == {"two": "yes"}


def cached(done: Any) -> int:
    return int(done.stderr.count("CACHED"))


def test_steps_are_cached_each_by_its_own(made: Any) -> None:
    text = "from BASE\nhelp() { echo $1; }\na() {\n  help a > /a\n}\nb() {\n  help b > /b\n}\nstep a\nstep b\ncmd x\n"
    made(text)
    assert cached(made(text)) == 2
    assert cached(made(text.replace("help b", "help c"))) == 1
    assert cached(made(text.replace("cmd x", "cmd y"))) == 2
    assert cached(made(text.replace("echo $1", "echo 1"))) == 0


def test_a_step_that_fails(made: Any, tmp_path: Path) -> None:
    done = made("from BASE\nbad() {\n  false\n  echo not reached\n}\nstep bad\n", code=1)
    assert "did not complete successfully: exit code: 1" in done.stderr and "not reached\n" not in done.stdout
    assert not (tmp_path / "img").exists()


@pytest.mark.parametrize(
    "text, said",
    {
        "exit 3\n": "oci-build: the script failed 'build.sh': exit code: 3\n",
        "true\n": "the script says nothing to build 'build.sh' (from IMAGE; step FUNCTION)\n",
        "from BASE\nstep\n": "step needs the name of a function 'step'",
        "from BASE\nstep --mount=type=x,target=/y z\n": 'unsupported mount type "x"',
        "from BASE\nstep nothing\n": "exit code: 127",
        "from BASE\nlabel a='x\ny'\n": "a newline in a word of 'label'",
        "step x\n": "no build stage in current context",
        "arg x=1\nfrom BASE\nif :; then label a=b; label c=d; copy nothing /; fi\n": "build.sh:3:39: \"/nothing\": not found",
        "from BASE\nfor i in 1 2; do copy $i /; done\n": "build.sh:2:10: \"/1\": not found",
        "from BASE\ncopy a /\ncopy --form=b a /\ncopy c /\n": "build.sh:3:6: unknown flag: --form (did you mean from?)",
        "#!/nothing/there\nfrom BASE\n": "cannot execute '/nothing/there': no such file or directory",
    }.items(),
)
def test_what_is_wrong(made: Any, text: str, said: str) -> None:
    assert said in made(text, code=1).stderr


def test_it_is_in_the_depfile(oci: Any, made: Any, tmp_path: Path) -> None:
    made("from BASE\ncopy 'with space' /\n", "--depfile", "d")
    assert "build.sh" in (tmp_path / "d").read_text() and "with\\ space" in (tmp_path / "d").read_text()
    assert "say both" in oci("build", "--script", "build.sh", "-f", "x", code=2).stderr


def test_what_a_step_depends_on() -> None:
    text = "from x\na() {\n 1\n}\nb () { 2; }\nc() {\n 3\n}\n  step a\nrest\n"
    assert script._without(text, {"a", "b"}) == "c() {\n 3\n}\n  step a\nrest\n"
    with pytest.raises(Error, match="cannot read script"):
        script.dockerfile("/nothing", "/", {})
