"""`process.apparmorProfile` on a kernel that has AppArmor: Debian's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOADED = Path("/sys/kernel/security/apparmor/profiles")
pytestmark = [
    pytest.mark.skipif(not LOADED.exists(), reason="needs AppArmor"),
    pytest.mark.needs("apparmor_parser"),
    pytest.mark.root,
]
PROFILE = """
profile oci-tools-test flags=(attach_disconnected, mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  mount,
  deny /etc/secret rwklx,
}
"""


@pytest.fixture
def profile(box: Any) -> Iterator[Any]:
    """A box under a profile that hides one file from it."""
    subprocess.run(["apparmor_parser", "--replace"], input=PROFILE, text=True, check=True)
    (box.rootfs / "etc/secret").write_text("secret\n")
    box.process["apparmorProfile"] = "oci-tools-test"
    yield box
    subprocess.run(["apparmor_parser", "--remove"], input=PROFILE, text=True, check=True)


def test_a_payload_is_under_its_profile(profile: Any) -> None:
    said = profile.says("cat /proc/self/attr/current; cat /etc/secret 2>&1; true")
    assert said.splitlines() == ["oci-tools-test (enforce)", "cat: can't open '/etc/secret': Permission denied"]


def test_an_exec_is_under_it_too(profile: Any) -> None:
    profile.process["args"] = ["sleep", "1000"]
    profile("run", "--detach", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert profile("exec", "cat", "/proc/self/attr/current").stdout == "oci-tools-test (enforce)\n"
    profile("delete", "--force")


def test_a_profile_that_is_not_loaded(box: Any) -> None:
    box.process["apparmorProfile"] = "oci-tools-none"
    said = box("run", code=1).stderr
    assert said == "oci-run: cannot apply process.apparmorProfile 'exec oci-tools-none': no such file or directory\n"
