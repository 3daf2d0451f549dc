"""The script of man/ocid.8 for OpenRC, run by OpenRC itself: start, reload, a crash, restart, stop; containers live on.

Debian's packages of it are unpacked over /usr and /etc in a mount namespace, for they are no packages to install here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import BIN, TOP

pytestmark = pytest.mark.root
PACKAGES = ("openrc", "librc1t64", "libeinfo1")
PREPARE = """
set -e
mkdir {up} && mount -t tmpfs none {up} && mkdir {up}/usr {up}/etc {up}/w1 {up}/w2
mount -t overlay -o lowerdir={tree}/usr:/usr,upperdir={up}/usr,workdir={up}/w1 none /usr
mount -t overlay -o lowerdir={tree}/etc:/etc,upperdir={up}/etc,workdir={up}/w2 none /etc
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /var/lib
ip link set lo up
cp {script} /etc/init.d/ocid
chmod 755 /etc/init.d/ocid
for each in started starting stopping inactive wasinactive failed hotplugged daemons options exclusive scheduled tmp; do
    mkdir -p /run/openrc/$each
done
echo default >/run/openrc/softlevel
{steps}
"""
STEPS = """
ocid() { /etc/init.d/ocid --nodeps "$@" >/dev/null 2>&1; }
answers() { until docker -H unix:///run/oci/ocid.sock ps -q 2>/dev/null; do sleep 0.1; done; }
lock() { tr -d ' \\n' </run/oci/ocid.lock; }
ocid start && echo started && answers
ocid status && echo is started
%(run)s -d --network none --name web %(image)s sleep 1000 >/dev/null
before=$(lock)
ocid reload && answers | wc -l
[ $before = $(lock) ] && echo the same process
kill -9 $before
until [ $before != $(lock) ]; do sleep 0.1; done
answers | wc -l
ocid restart && answers | wc -l
last=$(lock)
ocid stop && echo stopped
ocid status || echo is stopped
[ -e /proc/$last ] || echo gone
%(run)s list --fields status
%(run)s rm -f web
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """OpenRC's files."""
    place = tmp_path_factory.mktemp("openrc")
    got = subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=place, capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"needs Debian's packages of OpenRC: {got.stderr.strip()[-200:]}")
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, place / "tree"], check=True)
    yield place / "tree"


def script() -> str:
    """What the man page says."""
    text = (TOP / "man/ocid.8").read_text()
    text = text[text.index("/etc/init.d/ocid") :]
    return text[text.index(".EX\n") + 4 : text.index(".EE\n")].replace("\\-", "-").replace("/usr/bin/ocid", f"{BIN}/ocid")


@pytest.mark.needs("docker")
def test_openrc_looks_after_ocid(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script())
    steps = STEPS % {"run": BIN / "oci-run", "image": f"{images.image('busybox')}:latest"}
    line = PREPARE.format(up=tmp_path / "up", tree=tree, script=tmp_path / "script", steps=steps)
    env = {name: value for name, value in os.environ.items() if name not in ("OCI_ROOT", "OCI_RUN")}
    done = subprocess.run(["unshare", "--mount", "--net", "sh", "-c", line], env=env, capture_output=True, text=True)
    for group in Path("/sys/fs/cgroup").glob("**/openrc.ocid"):  # OpenRC's own
        group.rmdir()
    said = "started\nis started\n1\nthe same process\n1\n1\nstopped\nis stopped\ngone\nrunning\n"
    assert (done.stdout, done.returncode) == (said, 0), done.stderr
