"""Builds as people have them, over the package registries that this machine is set up for; a loop for --long.

What says where these are, and whom to trust, is the machine's own: it goes in as a named context.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.test_subordinate import FIRST, UID, mapped
from tests.long import LONG

pytestmark = [pytest.mark.root, pytest.mark.needs("mmdebstrap"),
              pytest.mark.skipif(not LONG, reason="a long one: tests/run --long")]  # fmt: skip
__all__ = ["mapped"]
CA = Path("/etc/ssl/certs/ca-certificates.crt")
# what each RUN begins with: the host's settings, for this step only
SET = "RUN --mount=from=host,target=/host --mount=from=host,source=apt,target=/etc/apt --mount=type=cache,target=/var/cache/apt,sharing=locked"
SET += " --mount=type=cache,target=/var/lib/apt/lists,sharing=locked"
INSTALL = f"{SET} apt-get -qq update && apt-get -qq install -y --no-install-recommends"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of apt, pip and npm of this machine, and the certificates that it trusts."""
    place = tmp_path_factory.mktemp("settings") / "host"
    shutil.copytree("/etc/apt", place / "apt", symlinks=True, ignore=shutil.ignore_patterns("preferences*"))
    for path in place.glob("apt/sources.list.d/*"):
        if "file:" in path.read_text():  # of this machine's own disk
            path.unlink()
    for source, name in ((CA, "ca.crt"), (Path("/etc/pip.conf"), "pip.conf"), (Path("/root/.npmrc"), "user.npmrc")):
        (place / name).write_bytes(source.read_bytes() if source.exists() else b"")
    keyrings = Path("/usr/share/keyrings")
    shutil.copytree(keyrings, place / "keyrings")
    return place


@pytest.fixture
def real(oci: Any, debian: Path, host: Path, tmp_path: Path) -> Any:
    def build(dockerfile: str, files: dict[str, str], *words: str) -> Any:
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        for name, text in files.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        (context / "Dockerfile").write_text(dockerfile.replace("BASE", str(debian)).replace("SET", SET))
        more = ["--build-context", f"host={host}", "--network", "host", "--progress", "plain"]
        return oci("build", "-t", "./img:x", *more, *words, "context")

    return build


def size(oci: Any) -> int:
    return sum(layer["size"] for layer in json.loads(oci("image", "inspect", "./img:x").stdout)["manifest"]["layers"])


def test_a_debian_package(oci: Any, real: Any) -> None:
    real(f"FROM BASE\n{INSTALL} jq && jq --version\nENTRYPOINT [\"jq\"]\n", {})
    assert oci("run", "-i", "./img:x", ".a", input='{"a": 1}').stdout == "1\n"
    assert "jq" in oci("unpack", "--path", "/var/lib/dpkg/status", "./img:x", "-").stdout
    again = real(f"FROM BASE\n{INSTALL} jq && jq --version\nENTRYPOINT [\"jq\"]\n", {})
    assert "CACHED" in again.stderr


def test_a_c_program_in_two_stages(oci: Any, real: Any) -> None:
    text = f"""FROM BASE AS build
{INSTALL} gcc libc6-dev make
WORKDIR /src
COPY Makefile *.c ./
RUN make
FROM scratch
COPY --from=build /src/hello /
CMD ["/hello"]
"""
    source = '#include <stdio.h>\nint main(void) { puts("hello from c"); return 0; }\n'
    makefile = "hello: hello.c\n\tgcc -O2 -static -o $@ $<\n"
    real(text, {"hello.c": source, "Makefile": makefile})
    assert oci("run", "./img:x").stdout == "hello from c\n"
    assert size(oci) < 2_000_000
    again = real(text, {"hello.c": source.replace("from", "again from")})
    assert oci("run", "./img:x").stdout == "hello again from c\n"
    assert again.stderr.count("CACHED") == 2  # the compiler, and the working directory


def test_a_python_web_app(oci: Any, real: Any) -> None:
    text = f"""FROM BASE
{INSTALL} python3 python3-pip ca-certificates
WORKDIR /app
COPY requirements.txt .
SET --mount=type=cache,target=/root/.cache/pip \\
    PIP_CONFIG_FILE=/host/pip.conf PIP_CERT=/host/ca.crt pip install --break-system-packages -r requirements.txt
COPY app.py .
USER nobody
CMD ["python3", "app.py"]
"""
    app = "import flask\napp = flask.Flask(__name__)\napp.route('/')(lambda: 'served')\nprint(app.test_client().get('/').text)\n"
    real(text, {"requirements.txt": "flask\n", "app.py": app})
    assert oci("run", "./img:x").stdout == "served\n"
    again = real(text, {"app.py": app.replace("'served'", "'again'")})
    assert oci("run", "./img:x").stdout == "again\n" and again.stderr.count("CACHED") == 4


def test_a_node_app(oci: Any, real: Any) -> None:
    text = f"""FROM BASE AS deps
{INSTALL} nodejs npm ca-certificates
WORKDIR /app
COPY package.json .
SET cp /host/user.npmrc /root/.npmrc && npm_config_cafile=/host/ca.crt NODE_EXTRA_CA_CERTS=/host/ca.crt npm install --omit=dev \\
    && rm /root/.npmrc
FROM BASE
{INSTALL} nodejs
WORKDIR /app
COPY --from=deps /app/node_modules node_modules
COPY index.js .
CMD ["node", "index.js"]
"""
    package = '{"name": "app", "version": "1.0.0", "dependencies": {"is-odd": "^3.0.1"}}'
    real(text, {"package.json": package, "index.js": "console.log(require('is-odd')(3))\n"})
    assert oci("run", "./img:x").stdout == "true\n"


def test_pieces_under_make(oci: Any, debian: Path, tmp_path: Path) -> None:
    """Without a Dockerfile: the commands are the builder, and make knows what has to be done again."""
    (tmp_path / "app").write_text("#!/bin/sh\necho one\n")
    os.chmod(tmp_path / "app", 0o755)
    (tmp_path / "Makefile").write_text(
        f"img/index.json: b.stamp app\n\toci-run cp app ./b:/usr/local/bin\n\toci-pack ./b ./img:app --cmd '[\"app\"]'\n\ttouch $@\n"
        f"b.stamp:\n\toci-unpack {debian} ./b\n\toci-run --network none ./b sh -c 'echo set up > /etc/done'\n\ttouch $@\n"
    )
    oci.run(["make"])
    assert oci("run", "./img:app").stdout == "one\n"
    assert "up to date" in oci.run(["make"]).stdout
    (tmp_path / "app").write_text("#!/bin/sh\ncat /etc/done\n")
    assert "oci-unpack" not in oci.run(["make"]).stdout
    assert oci("run", "./img:app").stdout == "set up\n"
    assert subprocess.run(["make", "-q"], cwd=tmp_path, env=oci.env).returncode == 0


MANY = f"""FROM ./base AS build
{INSTALL} gcc libc6-dev python3 python3-pip nodejs npm ca-certificates adduser openssh-client
RUN adduser --system --group --home /srv/app app && su -s /bin/sh app -c 'touch /srv/app/mine'
WORKDIR /src
COPY hello.c .
RUN gcc -O2 -static -o hello hello.c
SET PIP_CONFIG_FILE=/host/pip.conf PIP_CERT=/host/ca.crt pip install --break-system-packages --no-cache-dir flask
SET cp /host/user.npmrc /root/.npmrc && npm_config_cafile=/host/ca.crt NODE_EXTRA_CA_CERTS=/host/ca.crt npm install is-odd && rm /root/.npmrc
RUN python3 -c 'import flask' && node -e 'require("is-odd")'
FROM scratch
COPY --from=build /src/hello /
COPY --from=build /srv/app /srv/app
"""


@pytest.mark.needs("newuidmap", "newgidmap", "setpriv", "unshare")
@pytest.mark.parametrize("who", ["mapped", "plain"])
def test_plain_users(request: pytest.FixtureRequest, who: str, debian: Path, host: Path, public: Path) -> None:
    """Packages with owners and programs that become somebody else: with subordinate ids, and with one id alone."""
    commands = request.getfixturevalue(who)
    for name in ("subuid", "subgid") if who == "mapped" else ():
        (public / "etc" / name).write_text(f"tester:{FIRST}:65536\n")
    shutil.copytree(debian, public / "base")
    shutil.copytree(host, public / "host", symlinks=True)
    (public / "context").mkdir()
    (public / "context/Dockerfile").write_text(MANY.replace("SET", SET))
    (public / "context/hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    names = [public / name for name in ("base", "host", "context")]
    subprocess.run(["chown", "-R", f"{UID}:{UID}", *names], check=True)
    more = ["--build-context", f"host={public}/host", "--network", "host", "--progress", "plain"]
    commands.run([commands.bin / "oci-build", "-t", "./img:x", *more, "context"])
    tar = commands.run([commands.bin / "oci-unpack", "./img:x", "-"], binary=True).stdout
    listed = subprocess.run(["tar", "-tv", "--numeric-owner"], input=tar, capture_output=True, check=True).stdout.decode()
    owners = {line.split()[5]: line.split()[1] for line in listed.splitlines()}
    assert owners["hello"] == "0/0"
    assert (owners["srv/app/mine"] == "0/0") == (who == "plain")
    commands.run([commands.bin / "oci-run", "unshare", "rm", "-rf", public / "root"])


ELSEWHERE = """MASK='\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff'
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s ':arm:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:'"$MASK:/usr/bin/qemu-aarch64:F" > /proc/sys/fs/binfmt_misc/register
exec "$@"
"""


@pytest.mark.needs("qemu-aarch64", "unshare", "busybox")
def test_another_processor(oci: Any, busybox: Path, tmp_path: Path) -> None:
    """Two platforms, one of them by qemu; what says how it is run belongs to a user namespace of the test's own."""
    state = tmp_path / "apt"
    (state / "lists/partial").mkdir(parents=True)
    options = {"APT::Architecture": "arm64", "APT::Architectures::": "arm64", "Dir::State::lists": f"{state}/lists",
               "Dir::Cache": state, "Dir::State::status": "/dev/null"}  # fmt: skip
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", "busybox-static:arm64"], check=True, cwd=state)
    subprocess.run(["dpkg", "-x", next(state.glob("*.deb")), state / "x"], check=True)
    for name, path in (("arm64", next(state.glob("x/**/busybox"))), ("amd64", Path("/usr/bin/busybox"))):
        (tmp_path / f"context/{name}").mkdir(parents=True)
        shutil.copy(path, tmp_path / f"context/{name}/busybox")
        (tmp_path / f"context/{name}/sh").symlink_to("busybox")
    text = f"FROM --platform=$BUILDPLATFORM {busybox} AS here\nARG TARGETARCH\nRUN echo $(uname -m) for $TARGETARCH > /note\n"
    text += "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /bin\nCOPY --from=here /note /\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox uname -m >> /note\"]\n"
    (tmp_path / "context/Dockerfile").write_text(text)
    words = [oci.bin / "oci-build", "--network", "none", "-t", "./img:x", "--platform", "linux/amd64,linux/arm64", "context"]
    assert "(it is for linux/arm64, which this host runs only by binfmt_misc)" in oci.run(words, code=1).stderr
    oci.run(["unshare", "--user", "--map-users", "0,0,65536", "--map-groups", "0,0,65536", "--setuid", "0", "--setgid", "0",
             "--mount", "sh", "-ec", ELSEWHERE, "sh", *words])  # fmt: skip
    for name, machine in (("amd64", "x86_64"), ("arm64", "aarch64")):
        found = oci("unpack", "--platform", f"linux/{name}", "--path", "/note", "./img:x", "-").stdout
        assert found == f"x86_64 for {name}\n{machine}\n"
