"""The usual mistakes: each is told in one line that says what to do next, with its exit code."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Registry

# words (as typed, in a directory with ./img, ./b its bundle, the volume v, the container c1 of it), exit code, what is said
MISTAKES = [
    ("oci-run ./nope true", 125, "cannot open image or bundle './nope': no such file or directory (oci-pull and oci-pack make layouts, oci-unpack makes bundles)"),
    ("oci-run --pull never nosuch", 125, "no such image 'nosuch' (oci-pull brings it)"),
    ("oci-run strat web", 125, "no such verb or image here 'strat' (oci-run start; the image is docker.io/library/strat:latest)"),
    ("oci-run images", 125, "no such verb or image here 'images' (oci-image ls; the image is docker.io/library/images:latest)"),
    ("oci-run -it --network none ./img sh", 125, "cannot use -i with -t: standard input is not a terminal (a pipe or file goes with -i alone)"),
    ("oci-run --network nosuch ./img true", 125, "no such network 'nosuch' (oci-net ls shows those that there are)"),
    ("oci-run run -b . x", 1, "cannot read './config.json': no such file or directory (oci-unpack makes bundles, oci-spec new a config.json)"),
    ("oci-run exec nosuch true", 255, "container does not exist 'nosuch' (oci-run list shows those that there are)"),
    ("oci-run logs nosuch", 1, "no such container 'nosuch' (oci-run list shows those that there are)"),
    ("oci-run rm nosuch", 1, "no such container 'nosuch' (oci-run list shows those that there are)"),
    ("oci-run exec c1 true", 255, "cannot exec container 'c1': it is not running (oci-run start starts it)"),
    ("oci-run new --name c1 --network none ./img true", 1, "container name is in use 'c1': by HEX (oci-run rm removes it, --replace does so first)"),
    ("oci-image inspect nosuch", 1, "no such image 'nosuch' (oci-pull brings it)"),
    ("oci-image inspect ./img:nosuch", 1, "no such image 'TMP/img:nosuch' (oci-image ls TMP/img shows those that there are)"),
    ("oci-image ls ./nowhere", 1, "cannot open image layout 'TMP/nowhere': no such directory (oci-pull, oci-pack and oci-build make layouts)"),
    ("oci-image lss", 2, "unknown verb 'lss' (oci-image ls?)"),
    ("oci-unpack ./img ./b", 1, "cannot unpack into 'TMP/b': it is not empty (name one that is not there)"),
    ("oci-pull 127.0.0.1:1/x ./q", 75, "cannot reach '127.0.0.1:1': connection refused (is a registry there?)"),
    ("oci-net rm nosuch", 1, "no such network 'nosuch' (oci-net ls shows those that there are)"),
    ("oci-vol inspect nosuch", 1, "no such volume 'nosuch' (oci-vol ls shows those that there are)"),
    ("oci-vol rm v", 1, "cannot remove volume 'v': volume is in use by container HEX (oci-run rm removes the container)"),
    ("oci-run", 2, "missing IMAGE or verb (see --help)"),
    ("oci-pack ./nope x:y", 1, "cannot open './nope': no such file or directory (a directory, bundle, container, archive or URL, or -)"),
    ("oci-spec check ./nope", 1, "cannot read './nope': no such file or directory (oci-unpack makes bundles, oci-spec new a config.json)"),
    ("oci-build nope", 1, "cannot use context 'nope': no such file or directory (a directory or URL, or - for an archive or Dockerfile on standard input)"),
    ("oci-registry serve --listen x:y d", 2, "cannot listen on 'x:y': not HOST:PORT"),
    ("oci-registry serve --listen fd:x d", 2, "cannot listen on 'fd:x': not fd:N"),
    ("ocid --listen fd://x", 2, "cannot listen on 'fd://x': not fd://N"),
    ("oci-build .", 1, "cannot read Dockerfile './Dockerfile': no such file or directory (-f names another)"),
    ("oci-ctl ps", 75, "cannot connect to 'unix://TMP/run/ocid.sock': no such file or directory (is ocid running?)"),
    ("oci-ctl -H tcp://127.0.0.1:1 ps", 75, "cannot connect to 'tcp://127.0.0.1:1': connection refused (is an engine there?)"),
]  # fmt: skip


@pytest.fixture
def typed(oci: Any, busybox: Path, tmp_path: Path) -> Any:
    """A line as typed in such a directory: what is said, without what differs from one run to the next."""
    (tmp_path / "img").symlink_to(busybox)
    oci("unpack", "./img", "b")
    oci("vol", "create", "v")
    container = oci("run", "new", "--name", "c1", "--network", "none", "-v", "v:/v", "./img", "true").stdout.strip()

    def said(line: str, code: int, **more: Any) -> str:
        name, *words = shlex.split(line)
        text = str(oci(name.removeprefix("oci-"), *words, code=code, **more).stderr).splitlines()
        assert len(text) == 1, text
        return text[0].removeprefix(f"{name}: ").replace(container[:12], "HEX").replace(str(tmp_path), "TMP")

    return said


@pytest.mark.root
def test_the_usual_mistakes(typed: Any) -> None:
    assert [(line, code, typed(line, code)) for line, code, _ in MISTAKES] == MISTAKES


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--pod=x", "--network, --ipc, --uts and --pid container:NAME"), ("--pod-id-file=x", "--network container:NAME"),
        ("--init-ctr=once", "before the next"), ("--decryption-key=x", "skopeo copy"), ("--kernel-memory=5m", "--memory"),
        ("--link-local-ip=169.254.1.2", "--ip"), ("--cpu-count=2", "--cpus"), ("--cpu-percent=2", "--cpus"),
        ("--io-maxiops=2", "--device-write-iops"), ("--io-maxbandwidth=2", "--device-read-bps"), ("--isolation=process", "--userns"),
    ],
)  # fmt: skip
def test_options_of_others_are_told_what_would_do(oci: Any, word: str, said: str) -> None:
    """Every option that docker or podman run has and we have not."""
    for verb in (), ("new",):
        done = oci("run", *verb, word, "busybox", "true", code=2)
        assert done.stderr.startswith(f"oci-run: no such option '{word.partition('=')[0]}' (") and said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_registry_that_speaks_http_or_wants_a_login(oci: Any, busybox: Path, registry: Registry) -> None:
    """The name `localhost` may be http; any other host's registry is told by its option."""
    host = registry.host.replace("127.0.0.1", socket.gethostname())
    said = oci("push", busybox, f"{host}/app", code=None).stderr
    assert "--tls-verify=false" in said or "cannot reach" in said


@pytest.mark.root
def test_a_port_that_somebody_has(typed: Any, oci: Any) -> None:
    """In a network namespace of its own."""
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up; oci-net create n >&2; oci-run -d --network n -p 8080:80 ./img sleep 100 && oci-run -d --network n -p 8080:80 ./img true; c=$?; oci-run list -q | xargs oci-run rm -f; exit $c']
    done = oci.run(words, code=125)
    assert "port is in use '0.0.0.0:8080/tcp': container " in done.stderr
    assert done.stderr.rstrip().endswith(" has it (another port, or just the container's: any that is free)")


def test_an_address_on_which_somebody_listens(oci: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = oci("registry", "serve", "--listen", address, tmp_path / "d", code=1).stderr
        why = "address already in use (--listen names another port)"
        assert said == f"oci-registry: cannot listen on '{address}': {why}\n"


def test_a_program_that_is_not_there(oci: Any) -> None:
    """Others are in tests/net (nft, pasta), tests/runtime (ps): the package that has it is named."""
    said = oci("ctl", "-H", "ssh://host", "ps", env={"PATH": "/nowhere"}, code=1).stderr
    assert said == """oci-ctl: cannot connect to 'ssh://host': exec: "ssh": executable file not found in $PATH (apt install openssh-client)\n"""


@pytest.mark.root
def test_a_full_store(typed: Any, oci: Any, tmp_path: Path) -> None:
    """What makes room is told where our own store is full."""
    (tmp_path / "small").mkdir()
    line = "mount -t tmpfs -o size=600k small small && OCI_ROOT=$PWD/small oci-image copy ./img busybox"
    done = oci.run(["unshare", "-m", "sh", "-c", line], code=1)
    assert done.stderr.endswith(": no space left on device (oci-image gc, oci-vol prune and oci-run rm make room)\n"), done.stderr


@pytest.mark.root
def test_a_store_of_another_user(plain: Any, tmp_path: Path) -> None:
    done = plain("vol", "create", "x", env={"OCI_ROOT": "/root/images-of-root"}, code=1)
    assert done.stderr.endswith("permission denied (another user's? OCI_ROOT and OCI_RUN say where ours are)\n"), done.stderr
