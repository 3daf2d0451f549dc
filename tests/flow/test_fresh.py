"""README's first page on a Debian that has nothing but python3, as root and as a plain user: what works at once, and
what is missing is said with the package that has it; and with those packages, networks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import images
from tests.conftest import TOP
from tests.long import LONG

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("mmdebstrap", "git"),
    pytest.mark.skipif(not LONG, reason="minutes, and packages of the net: tests/run --long"),
]

# What a machine needs to reach the net's packages as this one does, and no more of this one.
REACHES = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf")
SAID = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")}

# $1 the system, which stays as it is; $2 a directory to work in; $3 a user; $4 the words; $5 packages; $6 where python's are
ENTER = r"""
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$2"
cd "$2"
mkdir upper work root
mount -t overlay -o lowerdir="$1",upperdir=upper,workdir=work none root
cd root
mount -t proc none proc; mount --rbind /sys sys; mount --rbind /dev dev
mount -t tmpfs none dev/net; mknod -m 666 dev/net/tun c 10 200  # as udev has it
for place in run tmp var/lib; do  # no overlay goes over an overlay
    cp -a $place "$2/copy"; mount -t tmpfs none $place; cp -a "$2/copy/." $place; rm -r "$2/copy"
done
[ -z "$6" ] || { mkdir -p ".$6"; mount --bind "$6" ".$6"; }
[ -z "$5" ] || { chroot . apt-get update; chroot . apt-get install -y --no-install-recommends $5; } >log 2>&1 </dev/null || cat log >&2
chroot . useradd --create-home --shell /bin/sh --uid 1234 user
home=$(chroot . sh -c "echo ~$3")
mount -t tmpfs none ".$home"
cp -a checkout ".$home/oci-tools"
chroot . chown -R "$3": "$home"
mkdir old
pivot_root . old
exec chroot . /bin/sh -c 'umount -l /old; cd; exec setpriv --reuid "$3" --regid "$3" --init-groups env HOME="$1" USER="$3" \
    PATH="$1/oci-tools/bin:/usr/sbin:/usr/bin:/sbin:/bin" sh -ec "cd; $2"' sh "$home" "$4" "$3"
"""

# The image is this system.
PACK = "tar -C / -c bin sbin lib lib64 etc/passwd etc/group etc/debian_version usr/bin usr/lib usr/lib64 | oci-pack - debian:trixie"
WALK = f"""
oci-tools/bin/oci-demo | grep -o '^I am process .* of /proc/[0-9]*'
{PACK} >/dev/null
oci-run -i debian:trixie sh -c 'wc -c' < oci-tools/setup.py
oci-run -d --network none --name web debian:trixie sleep 1000 >/dev/null
oci-run exec web sh -c 'echo in $(cat /etc/debian_version)'
oci-run rm -f web
mkdir store
oci-registry serve --listen 127.0.0.1:5000 store & sleep 2
oci-push debian:trixie localhost:5000/debian:trixie >/dev/null
oci-pull localhost:5000/debian:trixie | oci-unpack - ./web && oci-run ./web sh -c 'echo in ./web'
oci-run run -b "$(oci-unpack "$(oci-pull localhost:5000/debian:trixie)" ./b)" c1 </dev/null
oci-spec new debian:trixie | oci-spec set process.args='["id","-u"]' | oci-spec check > b/config.json && oci-run ./b
mkdir context; printf 'FROM debian:trixie\nRUN echo built >/note\nCMD cat /note\n' >context/Dockerfile
oci-build -t app context >/dev/null && oci-run app
oci-run -v data:/data debian:trixie sh -c 'echo kept >/data/note'; oci-run -v data:/data debian:trixie cat /data/note
oci-run -p 8080:80 debian:trixie true || echo $?
"""
# Root's network is that of a namespace, which ends with it and all that is in there.
NETWORKED = f"""
oci-tools/bin/oci-demo --setup >/dev/null
{PACK} >/dev/null
[ $(id -u) != 0 ] || alone="unshare --net"
$alone sh -ec "oci-run debian:trixie sh -c 'echo /sys/class/net/*'; oci-run -d -p 8080:80 --name app debian:trixie sleep 1000; oci-run rm -f app"
"""


@pytest.fixture(scope="module")
def system(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with python3 and a clone of what git has here."""
    top = tmp_path_factory.mktemp("fresh")
    subprocess.run([TOP / "bin/oci-unpack", f"{debian}:latest", top / "b"], check=True)
    root = top / "b/rootfs"
    for path in REACHES:
        if Path(path).exists():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path[1:])
    images.install(root, ["python3"])
    subprocess.run(["git", "clone", "-q", TOP, root / "checkout"], check=True)
    return root


def walk(system: Path, tmp_path: Path, user: str, words: str, packages: str = "") -> tuple[list[str], str]:
    """What is said on the two streams."""
    links = SAID.get("PIP_FIND_LINKS", "")
    command = ["unshare", "-m", "-p", "-f", "--kill-child", "bash", "-e", "-c", ENTER, "bash"]
    command += [system, tmp_path, user, words, packages, links if links.startswith("/") else ""]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **SAID})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr


USERS = pytest.mark.parametrize("user, program, package", [("root", "nft", "nftables"), ("user", "pasta", "passt")])


@USERS
def test_a_new_user(system: Path, tmp_path: Path, user: str, program: str, package: str) -> None:
    lines, said = walk(system, tmp_path, user, WALK)
    home = "/root" if user == "root" else "/home/user"
    version = (system / "etc/debian_version").read_text().strip()
    size = str((TOP / "setup.py").stat().st_size)
    assert lines == [
        "I am process 1 of /proc/1", size, f"in {version}", "http://127.0.0.1:5000", f"{home}/web", "in ./web", "0", "built", "kept", "125",
    ]  # fmt: skip
    told = {line for line in said.splitlines() if not line.startswith("[")}
    assert told == {
        f"oci-run: warning: no network: {program} is not installed (apt install {package}; --network none is without)",
        "oci-build: warning: RUN has no network here (--network host gives it the host's)",
        f'oci-run: cannot {"change the firewall" if user == "root" else "set up the network"}: '
        f'exec: "{program}": executable file not found in $PATH (apt install {package})',
    }


@USERS
def test_with_what_networks_need(system: Path, tmp_path: Path, user: str, program: str, package: str) -> None:
    lines, said = walk(system, tmp_path, user, NETWORKED, package if user == "root" else f"{package} uidmap")
    assert len(lines) == 2 and " ".join(lines[0].split("/sys/class/net/")).split()[-1] == "lo"
    assert lines[0].count("/sys/class/net/") == 2
    assert not said
