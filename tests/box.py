"""A container for a test: a bundle made of Debian's busybox, run by our own commands.

    box.sh(SCRIPT)          runs it with `oci-run run` and demands exit code 0
    box("create"), box("kill", "9")...   a verb on this container
    box.spec, box.rootfs    what may be changed before

Whatever a test leaves behind (a state directory, cgroup, process, mount) fails it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

APPLETS = (
    "cat chmod chown chroot cp cut date dd echo env false fold grep head hostname id ip kill ln ls mkdir mkfifo mknod "
    "mount mv nc nproc printf ps pwd readlink realpath rm rmdir sed seq setsid sh sleep sort stat stty sync tail tee test "
    "timeout touch tr true tty umount uname unshare vi wc which xargs"
).split()
BUSYBOX = "/usr/bin/busybox"


def populate(rootfs: Path) -> None:
    """A root file system in which a shell and its friends run."""
    for name in "bin", "dev", "etc", "proc", "root", "sys", "tmp":
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(BUSYBOX, rootfs / "bin/busybox")
    (rootfs / "bin/busybox").chmod(0o755)
    (rootfs / "tmp").chmod(0o1777)
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")


def host_mounts(place: Path) -> list[str]:
    """The host's mounts, save those that tests beside the one at `place` make for themselves, daemons' short places too."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split(" ")[4].startswith(f"{tempfile.gettempdir()}/") or str(place) in line]


class Box:
    """One bundle and the container of it."""

    def __init__(self, oci: Any, place: Path, rootless: bool = False) -> None:
        from oci_tools.runtime import spec

        self.oci = oci
        self.id = f"box-{uuid.uuid4().hex[:12]}"
        self.bundle = place / "bundle"
        self.rootfs = self.bundle / "rootfs"
        self.output = place / "output"  # of a created container
        populate(self.rootfs)
        self.spec: dict[str, Any] = spec.default()
        if rootless:
            spec.make_rootless(self.spec, *[os.geteuid() or oci.user["user"]] * 2)
        self.process = self.spec["process"]
        self.linux = self.spec["linux"]

    def __call__(self, verb: str, *words: Any, code: int | None = 0, **more: Any) -> Any:
        """`oci-run VERB [WORDS...] ID`; for create and run with this bundle, for kill the signal after the ID."""
        if verb in ("create", "run"):
            self.save()
            words = ("-b", self.bundle, *words)
        if verb == "create":  # what it makes lives on, and would keep a pipe of ours open
            with open(self.output, "ab") as out:
                before = out.tell()
                done = self.oci("run", verb, *words, self.id, code=None, **{"stdout": out, "stderr": out, **more})
            done.stdout = done.stderr = self.output.read_text()[before:]
            assert done.returncode == (code if code is not None else done.returncode), done.stderr
            return done
        line = (verb, self.id, *words) if verb in ("kill", "exec") else (verb, *words, self.id)
        return self.oci("run", *line, code=code, **more)

    def sh(self, script: str, *words: Any, code: int | None = 0, **more: Any) -> Any:
        """Run a shell script as the container's process, to its end."""
        self.process["args"] = ["sh", "-c", script]
        return self("run", *words, code=code, **more)

    def says(self, script: str, *words: Any, **more: Any) -> str:
        """What a script prints, without the last newline."""
        text: str = self.sh(script, *words, **more).stdout
        return text.rstrip("\n")

    def start(self, *words: Any, **more: Any) -> subprocess.Popen[Any]:
        """`oci-run run` of it in the background."""
        self.save()
        process: subprocess.Popen[Any] = self.oci.start("run", "run", "-b", self.bundle, *words, self.id, **more)
        return process

    def save(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.spec))

    @property
    def state(self) -> dict[str, Any]:
        """What `oci-run state` says."""
        found: dict[str, Any] = json.loads(self("state").stdout)
        return found

    def mount(self, destination: str, source: Any, *options: str, type: str = "none") -> None:
        self.spec["mounts"].append(
            {"destination": destination, "type": type, "source": str(source), "options": list(options)}
        )

    def namespace(self, kind: str, path: str | None = None) -> None:
        """Have a new namespace of this kind, or the one at `path`."""
        self.share(kind)
        self.linux["namespaces"].append({"type": kind, "path": path} if path else {"type": kind})

    def share(self, kind: str) -> None:
        """Have no namespace of this kind of its own."""
        self.linux["namespaces"] = [each for each in self.linux["namespaces"] if each["type"] != kind]

    def mapped(self, first: int = 100_000, size: int = 65536) -> None:
        """Have a user namespace whose ids are these of the host; the root file system follows."""
        self.namespace("user")
        for name in "uidMappings", "gidMappings":
            self.linux[name] = [{"containerID": 0, "hostID": first, "size": size}]
        subprocess.run(["chown", "-hR", f"{first}:{first}", self.rootfs], check=True)
        for path in (self.bundle, *self.bundle.parents):
            if path.owner() == "root" and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o011)

    def remains(self) -> list[str]:
        """What there still is of the container."""
        found = [str(path) for path in (Path(self.oci.env["OCI_RUN"]) / "runtime").glob("*")]
        for top, directories, _ in os.walk("/sys/fs/cgroup"):
            found += [f"{top}/{name}" for name in directories if self.id in name]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                groups = Path(f"/proc/{pid}/cgroup").read_text()
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it has just ended
            if state == "Z":
                continue  # it has ended too, and cgroup2 tells where it was; whose child it was may look when it likes
            if self.id in groups or (str(self.bundle.parent) in words and int(pid) != os.getpid()):
                found.append(f"process {pid}: {words}")
        with open("/proc/self/mountinfo") as file:
            found += [line for line in file if f"{self.bundle}/" in line]
        return found

    def destroy(self) -> None:
        """Remove it, whatever state it is in, and demand that nothing remains."""
        left = self.remains()
        if left:
            self("delete", "--force", code=None)
            after = self.remains()
            assert not after, f"left behind by delete --force: {after}"
        assert not left, f"left behind: {left}"


def _needs_busybox() -> None:
    if not os.path.exists(BUSYBOX):
        pytest.skip("needs busybox-static; tests/run --setup installs it on Debian as root")


@pytest.fixture
def box(oci: Any, tmp_path: Path) -> Iterator[Box]:
    """A container of the default specification, run by root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    _needs_busybox()
    made = Box(oci, tmp_path)
    yield made
    made.destroy()


@pytest.fixture
def plain_box(plain: Any, public: Path) -> Iterator[Box]:
    """A rootless container, run by a plain user."""
    _needs_busybox()
    made = Box(plain, public, rootless=True)
    if plain.user:
        subprocess.run(["chown", "-R", f"{plain.user['user']}:{plain.user['user']}", public], check=True)
    yield made
    made.destroy()


def host(*words: str) -> str:
    """What a command of the host prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    populate(Path(sys.argv[1]))
