"""What becomes of a build: platforms, one layer of all, reproducible bytes, files, labels, what a terminal shows."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root]


def inspect(oci: Any, word: str) -> Any:
    return json.loads(oci("image", "inspect", word).stdout)


def test_several_platforms_make_an_index(oci: Any, built: Any, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETPLATFORM\nCOPY <<E /platform\n$TARGETPLATFORM\nE\nFROM --platform=$BUILDPLATFORM BASE AS native\n"
    text += "ARG TARGETARCH\nRUN uname -m; echo $TARGETARCH > /arch\nFROM scratch\nCOPY --from=0 /platform /\nCOPY --from=native /arch /\n"
    platforms = "linux/amd64,linux/arm64,linux/arm/v7"
    built(text, "--platform", platforms, "--annotation", "a=b")
    layout = tmp_path / "img"
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    index = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text())
    found = ["/".join(filter(None, (one["platform"]["os"], one["platform"]["architecture"], one["platform"].get("variant"))))
             for one in index["manifests"]]  # fmt: skip
    assert found == platforms.split(",") and "annotations" not in index
    for platform, arch in zip(found, ("amd64", "arm64", "arm"), strict=True):
        assert oci("unpack", "--platform", platform, "--path", "/platform", "./img:x", "-").stdout == f"{platform}\n"
        assert oci("unpack", "--platform", platform, "--path", "/arch", "./img:x", "-").stdout == f"{arch}\n"
    built(text, "--platform", "linux/amd64,linux/arm64", "-o", "out")
    assert (tmp_path / "out/linux_arm64/arch").read_text() == "arm64\n"
    tar = built(text, "--platform", "linux/amd64,linux/arm64", "-o", "-", binary=True).stdout
    listed = subprocess.run(["tar", "-t"], input=tar, capture_output=True, check=True).stdout.decode().split()
    assert listed == ["linux_amd64/platform", "linux_amd64/arch", "linux_arm64/platform", "linux_arm64/arch"]


def test_versions_of_a_system_are_platforms_apart(oci: Any, built: Any, cat: Any, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETPLATFORM\nARG TARGETOSVERSION\nCOPY <<E /v\n$TARGETPLATFORM $TARGETOSVERSION\nE\n"
    both = "windows(10.0.17763)/amd64,windows(10.0.20348)/amd64"
    built(text, "--platform", both, "-o", "out")
    for name in both.split(","):
        assert (tmp_path / "out" / name.replace("/", "_") / "v").read_text() == f"{name} {name[8:-7]}\n"
    built(text, "--platform", both)
    entry = json.loads((tmp_path / "img/index.json").read_text())["manifests"][0]
    index = json.loads((tmp_path / "img/blobs" / entry["digest"].replace(":", "/")).read_text())
    assert [each["platform"]["os.version"] for each in index["manifests"]] == ["10.0.17763", "10.0.20348"]
    built("FROM --platform=windows(10.0.20348)/amd64 ./img:x\n", "--platform", "windows/amd64")
    assert cat("/v") == "windows(10.0.20348)/amd64 10.0.20348\n"


def test_an_annotation_goes_to_the_level_it_names(oci: Any, built: Any, tmp_path: Path) -> None:
    def read(entry: Any) -> Any:
        return json.loads((tmp_path / "img/blobs" / entry["digest"].replace(":", "/")).read_text())

    def entry() -> Any:
        return json.loads((tmp_path / "img/index.json").read_text())["manifests"][0]

    words = ["index:i=1", "manifest:m=2", "manifest-descriptor:d=3", "index-descriptor:t=a:b", "manifest[linux/arm64]:o=4",
             "index,manifest:b=5", "org.x:y=6"]  # fmt: skip
    text = "FROM scratch\nCOPY f /\n"
    built(text, "--platform", "linux/amd64,linux/arm64", *(f"--annotation={word}" for word in words),
          "-o", "type=image,name=./img:x,annotation-manifest-descriptor.e=7", files={"f": "1"})  # fmt: skip
    index = read(entry())
    assert entry()["annotations"].pop("t") == "a:b" and index["annotations"] == {"i": "1", "b": "5"}
    both = {"m": "2", "b": "5", "org.x:y": "6"}
    assert [read(each)["annotations"] for each in index["manifests"]] == [both, {**both, "o": "4"}]
    assert [each["annotations"] for each in index["manifests"]] == [{"d": "3", "e": "7"}] * 2
    built(text, "--annotation=manifest-descriptor:d=3", "--annotation=a=b", files={"f": "1"})
    assert entry()["annotations"]["d"] == "3" and read(entry())["annotations"] == {"a": "b"}
    for word, said in {"index:a=b": "no index to annotate", "bogus:a=b": "unknown level of an annotation",
                       "index[linux/arm64]:a=b": "unknown level"}.items():  # fmt: skip
        done = oci("build", f"--annotation={word}", "context", code=2)
        assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("said", "normal"), [("linux/arm", "linux/arm/v7"), ("linux/aarch64", "linux/arm64"), ("linux/arm64/v8", "linux/arm64")]
)
def test_a_platform_is_said_in_one_way(oci: Any, built: Any, cat: Any, said: str, normal: str) -> None:
    """As containerd's platforms.Normalize has it: in the image, in its variables, and where a stage says it."""
    system, architecture, *variant = normal.split("/")
    text = "FROM --platform=SAID scratch AS said\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT\nCOPY <<E /platform\n"
    text += "$TARGETPLATFORM $TARGETARCH $TARGETVARIANT\nE\nFROM scratch\nCOPY --from=said / /\n"
    built(text.replace("SAID", said), "--platform", said)
    config = inspect(oci, "./img:x")["config"]
    assert [config["os"], config["architecture"], config.get("variant")] == [system, architecture, *(variant or [None])]
    assert cat("/platform") == f"{normal} {architecture} {''.join(variant)}\n"
    assert "".join(oci("image", "ls", "--fields", "platform", "./img").stdout.split()) == normal
    oci("build", "--target", "said", "-t", "./img:y", "context")
    assert inspect(oci, "./img:y")["config"].get("variant") == (variant or [None])[0]


def test_a_shell_for_windows(oci: Any, built: Any) -> None:
    """As BuildKit: there its words are others, and no PATH is said."""
    built("FROM scratch AS a\nCMD dir\nFROM a\nENTRYPOINT foo bar\nCOPY f /\n", "--platform", "windows/amd64,linux/amd64", files={"f": "1"})
    for platform, shell, env in (("windows/amd64", ["cmd", "/S", "/C"], None), ("linux/amd64", ["/bin/sh", "-c"], True)):
        config = json.loads(oci("image", "inspect", "--platform", platform, "./img:x").stdout)["config"]["config"]
        assert config["Entrypoint"] == [*shell, "foo bar"] and bool(config.get("Env")) is bool(env)


def test_squash_leaves_the_base(oci: Any, built: Any, cat: Any) -> None:
    text = "FROM BASE\nRUN echo 1 > /a; echo 2 > /b\nRUN rm /a /bin/ls\nRUN echo 3 >> /b; chmod 600 /b\nENV A=b\n"
    built(text, "--squash", "--label", "l=m")
    found = inspect(oci, "./img:x")
    assert len(found["manifest"]["layers"]) == 2
    assert cat("/b") == "2\n3\n" and found["config"]["config"]["Labels"] == {"l": "m"}
    names = oci("unpack", "./img:x", "-", binary=True).stdout
    listed = subprocess.run(["tar", "-t"], input=names, capture_output=True, check=True).stdout.decode().split()
    assert "bin/ls" not in listed and "a" not in listed and "bin/cat" in listed
    assert oci("image", "fsck", "./img").returncode == 0
    layers = sum(not entry.get("empty_layer") for entry in found["config"]["history"])
    assert layers == len(found["config"]["rootfs"]["diff_ids"])


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_the_same_bytes_elsewhere(oci: Any, built: Any, how: str, tmp_path: Path) -> None:
    """Another store, other times of the files, another directory."""
    text = "FROM BASE\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nCOPY d /d\nRUN echo x > /x; mkdir /y; echo $SOURCE_DATE_EPOCH > /e\n"
    epoch = "1500000000"
    env: dict[str, str | None] = {"SOURCE_DATE_EPOCH": epoch} if how == "environment" else {}
    words = ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"] if how == "argument" else []
    first = built(text, *words, files={"d/f": "1", "d/e/g": "2"}, env=env).stdout
    os.rename(tmp_path / "context", tmp_path / "other")
    for name in ("root", "img"):
        os.rename(tmp_path / name, tmp_path / f"old-{name}")
    again = built(text, *words, files={"d/f": "1", "d/e/g": "2"}, env=env).stdout
    assert first == again
    found = inspect(oci, "./img:x")["config"]
    assert found["created"].startswith("2017-07-14T02:40:00") and {h["created"][:10] for h in found["history"][1:]} == {"2017-07-14"}
    data = oci("unpack", "./img:x", "-", binary=True).stdout
    (tmp_path / "tar").write_bytes(data)
    with tarfile.open(tmp_path / "tar") as archive:
        times = {member.name: member.mtime for member in archive}
    assert times["x"] == times["d/f"] == times["w"] == int(epoch) and times["bin/busybox"] == 1_750_000_000


def test_files_in_a_directory_are_the_callers(built: Any, tmp_path: Path) -> None:
    built("FROM scratch\nCOPY --chown=5:6 --chmod=640 f /d/\nCOPY f /link/\n", "-o", "type=local,dest=out", files={"f": "1"})
    seen = (tmp_path / "out/d/f").stat()
    assert (seen.st_uid, seen.st_mode & 0o777) == (0, 0o640)
    (tmp_path / "out/d/mine").write_text("kept")
    (tmp_path / "out/link/f").unlink()
    (tmp_path / "out/link").rmdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out/link").symlink_to("../outside")
    built("FROM scratch\nCOPY f /d/\n", "-o", "out", files={"f": "2"})
    assert (tmp_path / "out/d/f").read_text() == "2" and (tmp_path / "out/d/mine").read_text() == "kept"


@pytest.mark.parametrize("kind, suffix", [("gzip", "+gzip"), ("zstd", "+zstd"), ("none", "")])
def test_compression(oci: Any, built: Any, cat: Any, kind: str, suffix: str) -> None:
    built("FROM BASE\nRUN echo 1 > /a\n", "--compression", kind)
    assert inspect(oci, "./img:x")["manifest"]["layers"][-1]["mediaType"].endswith(f"layer.v1.tar{suffix}")
    assert cat("/a") == "1\n"


def test_many_tags(oci: Any, built: Any) -> None:
    done = built("FROM BASE\n", "-t", "./img:y", "-t", "other:1")
    assert done.stdout.count("\n") == 1
    assert sorted(line.split()[0] for line in oci("image", "ls", "./img").stdout.splitlines()) == ["x", "y"]
    assert "docker.io/library/other:1" in oci("image", "ls").stdout


def test_a_terminal_sees_the_steps(oci: Any, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo said; echo 'a\x1b[31mb'\nRUN echo bad >&2; exit 4\n")
    parent, child = pty.openpty()
    process = oci.start("build", ".", stderr=child, stdout=subprocess.DEVNULL)
    os.close(child)
    shown = b""
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(parent)
    assert process.wait() == 1
    text = shown.decode()
    assert re.search(r"\d\.\ds  \[2/3\] RUN echo said", text) and " error  [3/3] RUN echo bad" in text
    assert text.rstrip().endswith("did not complete successfully: exit code: 4")
    assert "bad" in text and "\x1b[31m" not in text.replace("\x1b[3A", "")


def test_json_for_machines(built: Any) -> None:
    lines = [json.loads(line) for line in built("FROM BASE\nRUN echo x\n", "--progress", "json").stderr.splitlines()]
    assert all(line["op"] == "build" for line in lines)
    assert [line["state"] for line in lines if line.get("id") == "2" and "state" in line] == ["running", "done"]
    assert lines[-1]["exit"] == 0 and "sha256:" in lines[-1]["image"]
    for words in (["-q"], ["--progress", "quiet"]):
        quiet = built("FROM BASE\nRUN echo x\n", *words)
        assert quiet.stderr == "" and "sha256:" in quiet.stdout


@pytest.mark.needs("ssh-agent", "ssh-add", "ssh-keygen")
def test_an_agent_for_a_step(oci: Any, built: Any, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    text = "FROM BASE\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && stat -c %a $SSH_AUTH_SOCK > /a\nRUN test -z \"$SSH_AUTH_SOCK\"\n"
    text += "RUN --mount=type=ssh,id=other,mode=0666,target=/agent stat -c %a /agent >> /a\n"
    built(text, "--ssh", f"default={tmp_path}/key", "--ssh", f"other={tmp_path}/key")
    assert oci("unpack", "--path", "/a", "./img:x", "-").stdout == "600\n666\n"
    required = "FROM BASE\nRUN --mount=type=ssh,required=true true\n"
    assert "unset ssh forward key default" in built(required, code=1).stderr
    assert not subprocess.run(["pgrep", "-f", f"ssh-agent.*{tmp_path}"], capture_output=True).stdout


def test_what_run_may_do_only_if_it_is_allowed(built: Any) -> None:
    assert "network.host is not allowed (--allow network.host)" in built("FROM BASE\nRUN --network=host true\n", code=1).stderr
    said = built("FROM BASE\nRUN --security=insecure grep CapEff /proc/self/status\n", "--allow", "security.insecure", "--progress", "plain").stderr
    assert int(re.search(r"CapEff:\t? *([0-9a-f]+)", said)[1], 16) > 0xFFFFFFFF  # type: ignore[index]
    assert "security.insecure is not allowed" in built("FROM BASE\nRUN --security=insecure true\n", code=1).stderr


def test_hosts_limits_and_shared_memory(built: Any) -> None:
    text = "FROM BASE\nRUN grep 10.1.2.3 /etc/hosts; ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'; hostname\n"
    words = ("--add-host", "db:10.1.2.3", "--ulimit", "nofile=77:99", "--shm-size", "3m", "--progress", "plain")
    said = built(text, *words).stderr
    for wanted in ("10.1.2.3", "db", " 77\n", " 3072\n", "buildkitsandbox"):
        assert wanted in said


@pytest.mark.needs("ssh-agent", "ssh-add")
def test_a_key_that_is_none(built: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    text = "FROM BASE\nRUN --mount=type=ssh true\n"
    assert "cannot use ssh key" in built(text, "--ssh", f"default={tmp_path}/key", code=1).stderr
    assert "cannot use ssh key" in built(text, "--ssh", "default=/nothing", code=1).stderr
    assert "SSH_AUTH_SOCK is not set" in built(text, "--ssh", "default", code=1).stderr


CDI = """mount -t tmpfs tmpfs /run; mkdir /run/cdi
echo '{"cdiVersion": "0.6.0", "kind": "vendor.com/thing", "devices": [{"name": "one", "containerEdits": {
    "env": ["THING=1"], "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/zero"}]}}]}' > /run/cdi/thing.json
exec "$@"
"""


def test_devices_of_vendors(oci: Any, busybox: Path, cat: Any, tmp_path: Path) -> None:
    def build(flag: str, *words: Any, code: int = 0) -> str:
        text = f"FROM {busybox}\nRUN --device={flag} echo $THING > /x; head -c 3 /dev/thing >> /x; true\nRUN ls /dev >> /x\n"
        (tmp_path / "Dockerfile").write_text(text)
        command = [oci.bin / "oci-build", "--progress", "plain", "-t", "./img:x", *words, "."]
        return str(oci.run(["unshare", "-m", "--propagation", "private", "sh", "-ec", CDI, "sh", *command], code=code).stderr)

    assert "vendor.com/thing=one is not allowed (--allow device)" in build("vendor.com/thing=one", code=1)
    build("vendor.com/thing=one", "--allow", "device=vendor.com/thing")
    assert cat("/x").startswith("1\n\0\0\0") and "thing" not in cat("/x")
    assert "RUN goes without a device: unresolvable CDI device 'vendor.com/thing=two'" in build("vendor.com/thing=two", "--allow", "device")
    assert "unresolvable CDI device" in build("name=vendor.com/thing=two,required", "--allow", "device", code=1)
    for flag, said in {"a,b": "invalid field 'b' must be", "name=a,name=b": "already set to a", "a,requird=1": "did you mean required?"}.items():
        assert said in build(flag, code=1)


def test_words_of_outputs(oci: Any, built: Any, registry: Any, tmp_path: Path) -> None:
    image = f"{registry.host}/app"
    words = ["-o", f"type=image,name={image}:1,push=true,annotation.a=b,compression=zstd,rewrite-timestamp=true",
             "-o", "type=oci,dest=layout,tar=false,name=one:1", "-o", "type=docker,dest=d.tar,name=two:2", "-o", "type=cacheonly"]  # fmt: skip
    built("FROM BASE\nRUN echo 1 > /1\n", *words)
    manifest = json.loads(oci("image", "inspect", "./img:x").stdout)["manifest"]
    assert manifest["annotations"] == {"a": "b"} and manifest["layers"][-1]["mediaType"].endswith("zstd")
    oci("pull", f"{image}:1", "./pulled:x")
    assert json.loads(oci("image", "inspect", "./pulled:x").stdout)["manifest"] == manifest
    assert [line.split()[0] for line in oci("image", "ls", "./layout").stdout.splitlines()] == ["1"]
    tags = subprocess.run(["tar", "-xO", "-f", tmp_path / "d.tar", "manifest.json"], capture_output=True, check=True).stdout
    assert json.loads(tags)[0]["RepoTags"] == ["docker.io/library/two:2"]
    oci("build", "-t", f"{image}:2", "-o", "type=registry", "context")
    assert oci("pull", f"{image}:2", "./pulled:y").stdout
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    oci("build", "-o", "type=local,dest=out,platform-split=true,mode=delete", "context")
    oci("build", "-o", "out", "context")
    assert (tmp_path / "out/1").exists() and (tmp_path / "out/linux_amd64/1").exists() and (tmp_path / "out/old").exists()
    oci("build", "-o", "type=local,dest=out,mode=delete", "context")
    assert (tmp_path / "out/1").exists() and not (tmp_path / "out/linux_amd64").exists() and not (tmp_path / "out/old").exists()


@pytest.mark.parametrize(
    "word, said",
    {
        "type=oci,dest=x,push=true": "unknown word of --output 'push=true' (oci has dest, tar, name, compression,",
        "type=oci,dest=x,rewrite-timestamp=false": "'rewrite-timestamp=false': it is always so",
        "type=image,push=maybe": "invalid value for --output 'push=maybe' (true, false)",
        "type=registry": "cannot push to '': it is no reference of a registry (type=registry,name=REF)",
        "type=image,name=./x:y,push=true": "cannot push to './x:y'",
        "type=oci,tar=false": "an output that is no archive needs dest=DIR",
        "type=oci,dest=x,compression=lzma": "gzip, zstd, uncompressed",
        "type=oci,dest=x,compression-level=77": "gzip has 1 to 9",
        "type=local,dest=x,mode=move": "invalid value for --output 'mode=move' (copy, delete)",
    }.items(),
)
def test_words_of_outputs_that_make_no_sense(oci: Any, word: str, said: str) -> None:
    assert said in oci("build", "-o", word, code=2).stderr
