"""What to do next, by what went wrong: said in parentheses behind an error that brings no hint of its own.

Here and not where errors are raised: a library knows what is wrong, who prints it to people which command helps.
Read only when an error is printed.
"""

from __future__ import annotations

import errno
import os

from oci_tools import fs
from oci_tools.errors import Error

_LISTED = "shows those that there are"
_NEXT = {
    "no such network": f"oci-net ls {_LISTED}",
    "network exists": "oci-net rm removes it",
    "network is in use": "oci-net detach, or oci-run rm",
    "subnet is taken": "another, or no --subnet: one that is free is found",
    "no such volume": f"oci-vol ls {_LISTED}",
    "cannot remove volume": "oci-run rm removes the container",
    "no such container": f"oci-run list {_LISTED}",
    "container does not exist": f"oci-run list {_LISTED}",
    "container name is in use": "oci-run rm removes it, --replace does so first",
    "cannot start an already running container": "oci-run exec runs something in it",
    "port is in use": "another port, or just the container's: any that is free",
    "cannot open image or bundle": "oci-pull and oci-pack make layouts, oci-unpack makes bundles",
    "cannot open image layout": "oci-pull, oci-pack and oci-build make layouts",
    "cannot use context": "a directory or URL, or - for an archive or Dockerfile on standard input",
    "cannot unpack into": "name one that is not there",
    "no image for": "--platform takes another",
    "cannot speak tls with": "--tls-verify=false speaks http, too",
    "cannot use -i with -t": "a pipe or file goes with -i alone",
    "unable to find user": "a number needs no entry there",
}
# In the words of oci-ctl, whose things are an engine's.
_CLIENTS = {
    "no such container": f"oci-ctl ps -a {_LISTED}", "no such network": f"oci-ctl network ls {_LISTED}",
    "no such volume": f"oci-ctl volume ls {_LISTED}", "no such image": "oci-ctl pull brings it",
    "cannot connect to": "is an engine there?",
}  # fmt: skip
# What docker, podman and buildah have and we have not.
_OPTIONS = {
    ("oci-build", "--creds"): "oci-pull --login keeps credentials, --authfile says where they are",
    ("oci-build", "--builder"): "a build is done here: there are no builders",
    ("oci-build", "--format"): "-o type=docker makes an archive for docker, oci-push --format docker pushes so",
    ("oci-build", "--skip-unused-stages"): "what the target does not need is never built: --target",
    ("oci-build", "--identity-label"): "--label says who built it",
    ("oci-build", "--cache-ttl"): "oci-build --prune --prune-age removes what is old",
    ("oci-build", "--disable-compression"): "--compression none",
    ("oci-build", "--print"): "--call outline, --call targets",
    ("oci-build", "--group-add"): "USER and /etc/group of the image say the groups",
    ("oci-build", "--device"): "RUN --device with --allow device",
    ("oci-build", "--http-proxy"): "--build-arg HTTP_PROXY and the like",
    ("oci-build", "--stdin"): "RUN <<EOF gives a command its input",
    ("oci-build", "--no-hosts"): "--add-host adds to /etc/hosts, which is in no layer",
    ("oci-build", "--no-hostname"): "/etc/hostname of a step is in no layer",
    ("oci-build", "--unsetannotation"): "annotations of a base image are not taken",
    ("oci-build", "--inherit-annotations"): "annotations of a base image are not taken",
    ("oci-build", "--inherit-labels"): "--unsetlabel leaves a label out",
    ("oci-build", "--created-annotation"): "--annotation says all there are",
    ("oci-build", "--layer-label"): "--annotation manifest:NAME=VALUE",
    ("oci-build", "--cpp-flag"): "cpp Dockerfile.in | oci-build -f - .",
    ("oci-build", "--log-level"): "--debug, --progress plain",
    **{("oci-build", f"--sbom-{what}"): "--attest type=sbom, which is beside the image"
       for what in ("output", "purl-output", "image-output", "image-purl-output", "merge-strategy", "scanner-command",
                    "scanner-image", "preset")},
    ("oci-build", "--sbom-scanner"): "--attest type=sbom",
    ("oci-build", "--all-platforms"): "--platform OS/ARCH,OS/ARCH",
    ("oci-build", "--logsplit"): "--logfile has all platforms, each line says which",
    ("oci-build", "--compat-volumes"): "what RUN writes into a volume is in the image",
    ("oci-build", "--decryption-key"): "encrypted layers are not read: skopeo copy decrypts",
    ("oci-build", "--policy"): "FROM NAME@sha256:... says exactly which image",
    ("oci-build", "--disable-content-trust"): "it is never asked for",
    ("oci-build", "--cw"): "no encrypted file systems are made",
    ("oci-build", "--os-version"): "--platform OS(VERSION)/ARCH",
    ("oci-build", "--os-feature"): "--platform says all that is said of a platform",
    **{("oci-build", name): "skopeo copy signs and verifies" for name in ("--sign-by", "--signature-policy")},
    **{("oci-build", name): "each RUN has namespaces of its own: --isolation"
       for name in ("--cgroupns", "--ipc", "--pid", "--uts")},
    **{("oci-build", name): "--platform OS/ARCH/VARIANT" for name in ("--os", "--arch", "--variant")},
    **{("oci-build", name): "RUN is oci-run" for name in ("--runtime", "--runtime-flag", "--hooks-dir")},
    ("oci-run", "--pod"): "--network, --ipc, --uts and --pid container:NAME share one's",
    ("oci-run", "--pod-id-file"): "a pod is containers that share namespaces: --network container:NAME",
    ("oci-run", "--init-ctr"): "oci-run IMAGE ends before the next one starts",
    ("oci-run", "--decryption-key"): "encrypted layers are not read: skopeo copy decrypts",
    ("oci-run", "--kernel-memory"): "kernels have that limit no more: --memory counts it too",
    ("oci-run", "--link-local-ip"): "the kernel makes IPv6's link-local addresses; --ip and --ip6 choose others",
    **{("oci-run", name): "that is for Windows: --cpus limits processors" for name in ("--cpu-count", "--cpu-percent")},
    **{("oci-run", name): "that is for Windows: --device-read-bps, --device-write-iops and the like"
       for name in ("--io-maxbandwidth", "--io-maxiops")},
    ("oci-run", "--isolation"): "that is for Windows: --userns and --security-opt say how apart it is",
    ("oci-build", "--userns"): "a plain user's RUN has his subordinate ids, root's has all: --isolation",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def of_option(command: str, name: str) -> str | None:
    """What does in place of an option that a command has not, where another tool has one so called."""
    known = "--userns" if name.startswith("--userns-") else name
    return _OPTIONS.get((command.removesuffix(" new"), known))


def of(command: str, error: Error) -> str | None:
    """What a command says after an error, if there is something."""
    number = error.cause.errno if isinstance(error.cause, OSError) else None
    subject = str(error.subject)
    if command.startswith("oci-ctl"):
        return _CLIENTS.get(error.what)
    if number in _NO_ROOM and subject.startswith(f"{fs.root()}/"):
        return "oci-image gc, oci-vol prune and oci-run rm make room"
    if number in (errno.EACCES, errno.EPERM) and os.geteuid() and subject.startswith((fs.root(), fs.run())):
        return "another user's? OCI_ROOT and OCI_RUN say where ours are"
    is_config = subject.endswith("config.json") or command.startswith("oci-spec")
    if error.what == "cannot read" and number == errno.ENOENT and is_config:
        return "oci-unpack makes bundles, oci-spec new a config.json"
    if error.what == "no such image":
        layout, colon, _ = subject.rpartition(":")
        return f"oci-image ls {layout} {_LISTED}" if layout.startswith("/") else "oci-pull brings it"
    if error.what == "cannot reach":
        return "is a registry there?" if number == errno.ECONNREFUSED else None
    if command == "ocid" and error.what == "cannot lock":
        return "an ocid runs here: OCI_ROOT and OCI_RUN say where another's things are"
    if error.what == "cannot listen on" and number == errno.EADDRINUSE:
        return "--listen names another port"
    # What another process of ours has said is one text, perhaps with its hint.
    said = error.what if not error.what.endswith(")") else ""
    return next((hint for what, hint in _NEXT.items() if said.startswith(what)), None)
