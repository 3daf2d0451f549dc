"""README's examples and those of every command's page, run as they stand: in a network and mount namespace with its own registries.

A page's lines run one after the other in one directory, each in a shell of its own.  Docker Hub, `registry.example`,
`quay.example` and localhost:5000 are a registry of ours; other hosts are reached by a real ssh and sshd; `docker` is
Debian's, its engine ocid.  What cannot run here is named below, with its reason; what has to be there is made before.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


import pytest

from tests import images
from tests.conftest import BIN, PATH, TOP

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft", "sshd", "ssh", "ssh-keygen", "docker", "skopeo", "cosign", "script")]
PAGES = sorted(path.name for path in (TOP / "man").glob("*.[18]") if path.name != "ocid.8")  # its examples are no commands
README = "README.md"
ELSEWHERE = ("Try it", "In CI")  # its blocks that test_readme.py and cmd/test_demo.py run

HOSTS = ("registry-1.docker.io", "registry.example", "quay.example")
CANNOT = {
    "oci-unpack debian ./b && oci-run ./b apt-get -y install git && oci-pack ./b debian:git": "Debian's archive is not in reach",
    "ocid --listen unix:///run/oci/ocid.sock &": "that place is the host's; ocid runs all the same, elsewhere",
    "oci-net unshare ip addr                          # a plain user's networks, which otherwise are used as root's are":
        "root's networks are the host's; tests/net/test_rootless.py has a plain user's",
    "export DOCKER_HOST=unix:///run/oci/ocid.sock DOCKER_BUILDKIT=0": "as above",
}
# What a page's examples take for granted, as a shell makes it; and what must have happened before a line.
BEFORE_PAGE = {
    "oci-build": "mkdir -p src; printf 'FROM alpine\\nRUN --mount=type=secret,id=token true\\nCOPY . /app\\n' > Dockerfile; echo t > token",
    "oci-ctl": "ENGINE",
    "oci-image": "ENGINE; for t in app old app-amd64; do oci-image copy alpine ./img:$t; done; "
                 "oci-image save -o app-arm64.tar alpine; cp app-arm64.tar rebuilt.tar",
    "oci-net": "true",
    "oci-pack": "mkdir -p tree/bin; echo x > tree/bin/x; oci-image copy debian debian:13.1; oci-image copy debian debian:13.2",
    "oci-pull": "ENGINE; docker tag alpine app:1; COSIGN_PASSWORD= cosign generate-key-pair 2>&- ; "
                "oci-push --sign-key cosign.key alpine localhost:5000/app:1 >&2",
    "oci-push": "mkdir tree; echo x > tree/x; for n in img:app ./img:app; do oci-image copy alpine $n; done",
    "oci-registry": "mkdir -p /srv/images; oci-image copy alpine /srv/images/team/app:1.2",
    "oci-run": "echo x > file",
    "oci-spec": "mkdir b; oci-image copy alpine img:app",
    "oci-vol": "true",
    "README": "ENGINE; mkdir tree; echo x > tree/x; echo x > file; oci-push debian:trixie localhost:5000/debian:trixie",
}  # fmt: skip
BEFORE_LINE = {
    "oci-run create": "oci-spec set process.args='[\"sh\",\"-c\",\"trap exit TERM; sleep 1000 & wait\"]' < b/config.json > new; mv new b/config.json",
    "oci-run delete c1": "while [ \"$(oci-run state c1 | grep -c '\"stopped\"')\" = 0 ]; do :; done",
    "oci-run delete --force": "oci-run create -b ./b c1 </dev/null",
    "oci-spec set linux": "exec < b/config.json",
    "oci-pack --rebase": "oci-pack tree img:app --base debian:13.1",
    "oci-vol export": "oci-run stop -t 0 shop",
    "oci-vol clone": "oci-run rm -f shop",
    "oci-run run -b": "oci-image copy alpine img:app; oci-push img:app localhost:5000/app",
    "oci-ctl kube play": "oci-run rm -f app; printf '%s\\n' 'apiVersion: v1' 'kind: Pod' 'metadata: {name: one}' 'spec: {containers: [{name: a, image: app}]}' > pod.yaml",
    "oci-ctl kube generate web": "oci-run -d --name web app",
    "docker run -d -p 8081": "printf 'services: {a: {image: app}}' > compose.yaml",
    "oci-vol create --size 10g": "oci-run rm -f db",
}  # fmt: skip


def examples(page: str) -> list[str]:
    """The command lines of a page's EXAMPLES, or of README, as people read them."""
    if page == README:
        sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (TOP / page).read_text(), re.M | re.S)
        told = [block for name, text in sections if name not in ELSEWHERE for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
        return [line for block in told for line in block.splitlines()]
    _, _, text = (TOP / "man" / page).read_text().partition(".SH EXAMPLES\n")
    blocks = re.findall(r"^\.(?:EX|nf)\n(.*?)^\.(?:EE|fi)$", text.partition("\n.SH ")[0], re.M | re.S)
    return [_plain(line) for block in blocks for line in block.splitlines()]


def _plain(line: str) -> str:
    for markup, text in (("\\-", "-"), ("\\&", ""), ("\\\\", "\\"), ("\\e", "\\")):
        line = line.replace(markup, text)
    return line


def test_every_page_has_examples() -> None:
    assert not [page for page in (*PAGES, README) if not examples(page)]
    lines = {line for page in (*PAGES, README) for line in examples(page)}
    assert set(CANNOT) <= lines, "a reason without its line"
    assert not [start for start in BEFORE_LINE if not any(line.startswith(start) for line in lines)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images under the names that the examples have; `layouts` are those of the registry."""
    place = tmp_path_factory.mktemp("store")
    env = {"PATH": f"{BIN}:{PATH}", "HOME": str(place), "OCI_ROOT": f"{place}/work", "OCI_RUN": f"{place}/run"}

    def oci(line: str) -> None:
        subprocess.run(line, shell=True, check=True, env=env, cwd=place, stdout=subprocess.DEVNULL)

    shutil.copytree(images.image("busybox"), place / "bb")
    oci("mkdir -p t/etc; echo NAME=alpine > t/etc/os-release; ln -s ../bin/busybox t/bash; oci-pack t ./made:alpine --base ./bb:latest")
    serve = '["sh","-c","echo hello > /index.html; exec httpd -f -h /"]'
    oci(f"oci-image copy ./made:alpine ./made:server; oci-image config --cmd '{serve}' --entrypoint '[]' ./made:server")
    debian = images.image("debian")
    for name, source in (("alpine", "./made:alpine"), ("app", "./made:server"), ("nginx", "./made:server"), ("postgres", "./made:server"),
                         ("debian", f"{debian}:latest")):  # fmt: skip
        oci(f"oci-image copy {source} {name}; oci-image copy {source} ./registry/library/{name}:latest; oci-image copy {source} ./registry/{name}:latest")
    oci("oci-image copy ./made:alpine ./registry/app:1; oci-image copy debian ./registry/library/debian:trixie; oci-image copy debian debian:trixie")
    return place


HARNESS = r"""
set -u
ip link set lo up
mount --bind hosts /etc/hosts; mkdir -p srv; mount --bind srv /srv; mkdir -p /run/netns; mount -t tmpfs netns /run/netns
case $PAGE in oci-registry) ;; *)
    mkfifo up tls; oci-registry serve --listen 127.0.0.1:5000 registry > up 2> registry.log & read -r _ < up
    oci-registry serve --listen 127.0.0.1:443 --tls-cert tls.crt --tls-key tls.key registry > tls 2>> registry.log & read -r _ < tls ;;
esac
engine() {  # two of them: the second is the other hosts'
    for n in 1 2; do
        mkfifo engine$n
        OCI_ROOT=$PWD/root$n OCI_RUN=$PWD/run$n unshare --net sh -c 'ip link set lo up; exec "$@"' - \
            ocid --listen unix://$PWD/sock$n > engine$n 2> ocid$n.log & read -r _ < engine$n
    done
}
export DOCKER_HOST=unix://$PWD/sock1
case $BEFORE in ENGINE*) engine; BEFORE="true${BEFORE#ENGINE}" ;; esac
cd work
eval "$BEFORE" < /dev/null || { echo "before: $BEFORE" > ../failed; exit 1; }
for line in ../line-*; do
    case $(cat $line) in
    *" serve "*) mkfifo ../served; bash $line > ../served 2>&1 & read -r said < ../served; echo "$said" > $line.out; echo 0 > $line.rc; continue ;;
    *" -it "*) echo exit | timeout 30 script -qefc "bash $line" $line.out > /dev/null 2>&1 ;;
    *) timeout 30 bash -o pipefail $line < /dev/null > $line.out 2>&1 ;;
    esac
    echo $? > $line.rc
done
"""


class World:
    """A directory in which the examples of a page run."""

    def __init__(self, place: Path, store: Path) -> None:
        self.place = place
        for name in "work", "there", "here", "root2", "run2", "run1":
            (place / name).mkdir(mode=0o700)
        for name in "root1", "other":
            subprocess.run(["cp", "-r", "--reflink=auto", store / "work", place / name], check=True)
        subprocess.run(["cp", "-r", "--reflink=auto", store / "work/images", place / "root2"], check=True)
        subprocess.run(["cp", "-r", "--reflink=auto", store / "registry", place / "registry"], check=True)
        (place / "hosts").write_text(f"127.0.0.1 localhost {' '.join(HOSTS)}\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=x",
                        "-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in HOSTS)}", "-keyout", place / "tls.key", "-out",
                        place / "tls.crt"], check=True, capture_output=True)  # fmt: skip
        for name in HOSTS:
            (place / ".config/containers/certs.d" / name).mkdir(parents=True)
            shutil.copy(place / "tls.crt", place / ".config/containers/certs.d" / name / "ca.crt")
        self._ssh()
        self.env = {
            "PATH": f"{place}/here:{BIN}:{PATH}", "HOME": str(place), "LANG": "C.UTF-8", "OCI_ROOT": f"{place}/root1", "OCI_RUN": f"{place}/run1",
            "XDG_CONFIG_HOME": f"{place}/.config", "DOCKER_CONFIG": f"{place}/.docker", "PASSWORD": "secret", "TERM": "xterm",
            "COSIGN_PASSWORD": "", "OCI_DEMO_VENV": "",
        }  # fmt: skip

    def _ssh(self) -> None:
        place = self.place
        (place / "there/docker").symlink_to(f"{BIN}/oci-ctl")
        for name in "host", "key":
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
        (place / "sshd_config").write_text(
            f"HostKey {place}/host\nAuthorizedKeysFile {place}/key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
            f"SetEnv PATH={place}/there:{BIN}:{PATH} DOCKER_HOST=unix://{place}/sock2 OCI_ROOT={place}/other OCI_RUN={place}/run2\n"
        )
        (place / "ssh_config").write_text(
            f"ProxyCommand /usr/sbin/sshd -i -f {place}/sshd_config\nIdentityFile {place}/key\n"
            "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
        )
        (place / "here/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {place}/ssh_config "$@"\n')
        (place / "here/ssh").chmod(0o755)

    def run(self, page: str) -> list[str]:
        """What went wrong: a text for each line."""
        lines = [line for line in examples(page) if line not in CANNOT]
        for at, line in enumerate(lines):
            before = next((what for start, what in BEFORE_LINE.items() if line.startswith(start)), "")
            (self.place / f"line-{at:02}").write_text(f"{before}\n{line}\n")
        name = page.partition(".")[0]
        env = {**self.env, "PAGE": name, "BEFORE": BEFORE_PAGE.get(name, "true")}
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", HARNESS]
        with open(self.place / "harness.log", "wb") as log:
            subprocess.run(words, env=env, cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wrong = [(self.place / "harness.log").read_text()] if (self.place / "failed").exists() else []
        for at, line in enumerate(lines):
            file = self.place / f"line-{at:02}"
            code = file.with_suffix(".rc").read_text().strip() if file.with_suffix(".rc").exists() else "not run"
            if code != "0":
                out = file.with_suffix(".out")
                wrong.append(f"{line}\n    {code}: {out.read_text(errors='replace')[-1500:] if out.exists() else ''}")
        return wrong

    def clean(self) -> None:
        """Remove the containers that ended with the namespaces, whose groups are the host's."""
        for root, run in ("root1", "run1"), ("root2", "run2"), ("other", "run2"):
            names = [path.name for path in (self.place / root / "containers").glob("*")]
            env = {**self.env, "OCI_ROOT": f"{self.place}/{root}", "OCI_RUN": f"{self.place}/{run}"}
            if names:
                subprocess.run([f"{BIN}/oci-run", "rm", "-f", *names], env=env, stdout=subprocess.DEVNULL, check=True)


@pytest.fixture
def world(tmp_path: Path, store: Path) -> Iterator[World]:
    made = World(tmp_path, store)
    yield made
    made.clean()
    subprocess.run(["umount", "-R", "-q", tmp_path], capture_output=True)


@pytest.mark.parametrize("page", [*PAGES, README])
def test_the_examples_of_a_page_run(page: str, world: World) -> None:
    wrong = world.run(page)
    assert not wrong, "\n".join(wrong)


