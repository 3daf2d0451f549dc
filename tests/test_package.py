"""The Debian package: built from what git has, installed by apt on top of this machine's system, used, removed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import oci_tools
from tests.conftest import TOP

# $1 is a directory to work in, with the package and an image's layout; what changes is in memory and gone at the end.
INSTALLED = r"""
mount --make-rprivate /
mount -t tmpfs none "$1/system"
cd "$1/system"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
mount --rbind /proc root/proc; mount --rbind /sys root/sys; mount --rbind /dev root/dev
mkdir root/packages
cp "$1"/*.deb root/packages
cp -a "$1/image" root/packages
cd root
mkdir old
pivot_root . old
exec chroot . /bin/sh -e -c '
umount -l /old
export DEBIAN_FRONTEND=noninteractive HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
apt-get install -y -qq --no-install-recommends /packages/*.deb >/packages/log 2>&1 || { cat /packages/log; exit 1; }
mkdir -p /var/lib/oci && mount -t tmpfs none /var/lib/oci  # no overlay goes over an overlay
cd /packages
oci-unpack ./image:latest b >/dev/null
echo packaged >b/rootfs/note
oci-pack b ./image:new >/dev/null
oci-unpack ./image:new --path note -
python3 -c "import deflate" 2>&1 | tail -n 1
oci-run --network none ./image:new echo runs
man -w oci-run oci-tools ocid
. /usr/share/bash-completion/completions/oci-run
complete -p oci-pull
dpkg -V oci-tools
apt-get remove -y -qq oci-tools >/packages/log 2>&1
find /usr -name "*oci_tools*" -o -name "oci-[a-z]*" -path "/usr/bin/*"
'
""".replace("/bin/sh -e -c", "/bin/bash -e -c")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built where nothing else is."""
    top = tmp_path_factory.mktemp("package")
    (top / "source").mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True).stdout
    packed = subprocess.run(["tar", "-c", "--null", "-T", "-"], input=listed, cwd=TOP, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], input=packed.stdout, cwd=top / "source", check=True)
    words = ["dpkg-buildpackage", "-b", "-us", "-uc"]
    done = subprocess.run(words, cwd=top / "source", capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(top)})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next(top.glob("*.deb"))


@pytest.mark.needs("dpkg-buildpackage", "git")
def test_the_package_has_everything(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", package], check=True, capture_output=True, text=True).stdout
    paths = {line.split(maxsplit=5)[5].partition(" -> ")[0] for line in listed.splitlines()}
    for command in (TOP / "bin").iterdir():
        assert f"./usr/bin/{command.name}" in paths
        assert f"./usr/share/bash-completion/completions/{command.name}" in paths
    for page in (TOP / "man").iterdir():
        assert f"./usr/share/man/man{page.suffix[1:]}/{page.name}.gz" in paths
    ours = subprocess.run(["git", "ls-files", "oci_tools"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    assert not {f"./usr/lib/python3/dist-packages/{name}" for name in ours.split()} - paths
    fields = subprocess.run(["dpkg-deb", "-f", package, "Depends"], check=True, capture_output=True, text=True).stdout
    assert {"libdeflate0", "python3-isal", "python3-click"} <= set(fields.replace(",", "").split())


@pytest.mark.root
@pytest.mark.needs("dpkg-buildpackage", "git", "apt-get")
def test_the_package_is_installed_used_and_removed(package: Path, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    subprocess.run(["cp", "-a", package, tmp_path], check=True)
    subprocess.run(["cp", "-a", busybox, tmp_path / "image"], check=True)
    words = ["unshare", "-m", "bash", "-e", "-c", INSTALLED, "bash", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "packaged", "ModuleNotFoundError: No module named 'deflate'", "runs",
        "/usr/share/man/man1/oci-run.1.gz", "/usr/share/man/man7/oci-tools.7.gz", "/usr/share/man/man8/ocid.8.gz",
        "complete -F _oci_complete oci-pull",
    ]  # fmt: skip


def test_versions_agree() -> None:
    newest = [
        re.search(pattern, (TOP / name).read_text())
        for name, pattern in {"debian/changelog": r"\((.*?)\)", "CHANGELOG.md": r"## (\S+)"}.items()
    ]
    assert [found and found[1] for found in newest] == [oci_tools.__version__] * 2
