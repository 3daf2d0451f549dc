"""Peers that are servers: started here, private, and ended with the block."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import OURS, PATH, Missing, need


@contextmanager
def docker_registry(work: Path) -> Iterator[str]:
    """Debian's docker-registry on a free loopback port; its host and port."""
    with docker_registry_process(work) as (host, _):
        yield host


@contextmanager
def our_registry(work: Path) -> Iterator[tuple[str, int]]:
    """The same of ours, with its process id."""
    words = [OURS["registry"], "serve", str(work)]
    with ended(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={"PATH": PATH})) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip().partition("://")[2], server.pid


@contextmanager
def docker_registry_process(work: Path) -> Iterator[tuple[str, int]]:
    """The same with its process id."""
    config = work / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {work}/registry}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
    )
    env = {"PATH": PATH, "OTEL_TRACES_EXPORTER": "none"}
    words = [need("docker-registry"), "serve", config]
    with ended(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)) as server:
        line = said(server, "listening on ")
        yield line.partition("listening on ")[2].split('"')[0].split(",")[0].strip(), server.pid


@contextmanager
def network() -> Iterator[None]:
    """A network namespace with nothing but loopback, in which what is started here finds each other."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        os.unshare(os.CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)


@contextmanager
def machine() -> Iterator[None]:
    """A network as `network`, and mounts of our own with an empty /run/oci: what networks leave is gone with it."""
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    here = os.getcwd()
    try:
        os.unshare(os.CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        os.makedirs("/run/oci", exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run/oci"], check=True)
        os.makedirs("/run/netns", exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
        with network():
            yield
    finally:
        os.setns(before, os.CLONE_NEWNS)
        os.close(before)
        os.chdir(here)


@contextmanager
def dockerd(work: Path, alone: bool = True, bridged: bool = False) -> Iterator[str]:
    """A docker daemon of our own, in a network namespace of its own if `alone`, with its bridge if `bridged`; the
    address for `docker -H`."""
    if os.geteuid():
        raise Missing("root")
    address = f"unix://{work}/docker.sock"
    words = [
        "unshare", *(["--net"] if alone else []), "--mount", need("dockerd"), "-H", address, "--data-root", f"{work}/data",
        "--exec-root", f"{work}/exec", "-p", f"{work}/docker.pid",
        *([] if bridged else ["--bridge", "none", "--iptables=false", "--ip6tables=false"]), "--cgroup-parent", f"/{work.name}", "--config-file", f"{work}/docker.json",
    ]  # fmt: skip
    (work / "docker.json").write_text("{}")
    env = {"PATH": PATH, "HOME": str(work)}
    try:
        with ended(subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)) as server:
            said(server, "API listen on ")
            yield address
    finally:
        for cgroup in [*Path("/sys/fs/cgroup").glob(f"*/{work.name}"), *Path("/sys/fs/cgroup").glob(work.name)]:
            for directory, _, _ in os.walk(cgroup, topdown=False):  # BuildKit leaves one in it
                os.rmdir(directory)


@contextmanager
def ended(server: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A server that gets SIGTERM when the block ends, and is waited for."""
    try:
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()


def said(server: subprocess.Popen[str], text: str) -> str:
    """The line of a server's log with this text: it is ready.  What follows is read and dropped."""
    assert server.stderr is not None
    log = []
    for line in server.stderr:
        log.append(line)
        if text in line:
            subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            return line
    raise RuntimeError(f"{server.args} ended:\n{''.join(log[-5:])}")
