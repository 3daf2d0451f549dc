"""Where the kernel cannot stack layers, as in most containers, an overlay bundle is one that has all files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.layer import store

WITHIN = """
mount -t tmpfs none {top}/m && cd {top}/m && mkdir lower upper work top
mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work top && cd top
export OCI_ROOT=$PWD/root OCI_RUN=$PWD/run
"""


@pytest.mark.root
def test_in_an_overlay(oci: Any, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()

    def within(script: str, **more: Any) -> subprocess.CompletedProcess[Any]:
        lines = WITHIN.format(top=tmp_path) + f"cp -a {busybox} img\n" + script
        done: subprocess.CompletedProcess[Any] = oci.run(["unshare", "-m", "sh", "-ec", lines], **more)
        return done

    done = within("oci-unpack --overlay ./img b; oci-run ./b sh -c 'echo from $0'; oci-unpack --mount ./img c; test -x c/rootfs/bin/sh")
    assert done.stdout.split("\n")[1:] == ["from sh", f"{tmp_path}/m/top/c", ""]
    assert done.stderr.count("all files are copied") == 2 and len(done.stderr.splitlines()) == 2
    script = "id=$(oci-run new -v kept:/etc ./img sh -c 'cat /etc/passwd > /made'); oci-run start $id; oci-run wait $id; oci-run diff $id; oci-pack $id ./img:made; oci-run rm $id; ls $OCI_ROOT/layers"
    done = within(script)
    code, change, made = done.stdout.split()[0], done.stdout.split("\n")[1], done.stdout.split("\n")[2]
    assert (code, change) == ("0", "A /made") and "/img@sha256:" in made and not done.stderr
    mounts = "--mount type=image,source=./img,target=/one --mount type=image,source=./img,target=/two,image-subpath=bin"
    done = within(f"oci-run {mounts} ./img sh -c 'ls -d /one/bin/sh /two/sh; touch /one/x 2>&1 || true'")
    assert done.stdout.split("\n")[:2] == ["/one/bin/sh", "/two/sh"] and "ead-only" in done.stdout


def test_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.can_stack("/proc", "")
    for release, can in (("5.10.0-8-amd64", False), ("5.11", True), ("6.1.0+rc", True), ("4.19-x", False)):
        monkeypatch.setattr(os, "uname", lambda release=release: os.uname_result(("Linux", "", release, "", "")))
        assert store.can_stack("/proc", "single-1-1") == can
        assert store.can_stack("/proc", "")
