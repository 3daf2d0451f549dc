"""What this runtime can do, for engines that ask: runtime-spec, "Features Structure"."""

from __future__ import annotations

from oci_tools import __version__
from oci_tools.linux import caps
from oci_tools.runtime import scheduling
from oci_tools.runtime.namespaces import FLAGS
from oci_tools.runtime.rules import MOUNT_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def document() -> dict[str, Any]:
    """The features document: what is known to this program, whatever the host allows."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": {
            "namespaces": sorted(FLAGS),
            "capabilities": list(caps.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {"modes": sorted(scheduling.MODES), "flags": sorted(scheduling.MODE_FLAGS)},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"io.oci-tools.version": __version__},
        "potentiallyUnsafeConfigAnnotations": ["io.oci-tools.", "org.systemd.property.", "run.oci."],
    }


def _seccomp() -> dict[str, Any]:
    """Told by the tables that are used, so that the two cannot differ."""
    from oci_tools.linux import seccomp as kernel
    from oci_tools.runtime import fields, seccomp, seccomp_rules

    def supported(name: str) -> bool:
        return kernel.flags_supported(seccomp.flags_of({"flags": [name]}, notify=True))

    known = sorted(seccomp.FLAGS)
    return {
        "enabled": kernel.action_available(kernel.SECCOMP_RET_ERRNO),
        "actions": sorted(seccomp_rules.ACTIONS),
        "operators": sorted(fields.SECCOMP["syscalls"][0]["args"][0]["op"]),
        "archs": sorted(f"SCMP_ARCH_{name}" for name in seccomp_rules.AUDIT_ARCH),
        "knownFlags": known,
        "supportedFlags": [name for name in known if supported(name)],
    }
