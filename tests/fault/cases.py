"""What can be killed: each command that changes something on disk, on a world of a few files.

The world is a directory with root and run (of our commands), ./img of two images and an index, ./held with a key, ./t a tree, ./out.tar an archive,
./registry, the images `app` and `other`, the volumes `v1` and `v2`, the network `n1`, the resting containers `c1` and `c2`.
"""

from __future__ import annotations

from oci_tools.image import manifest

HOST = manifest.host_platform()
PLATFORM = f"{HOST['os']}/{HOST['architecture']}"
IMG, STORE, VOLUMES = "oci-image ls --fields name,platform ./img | grep ^[a-z]", "oci-image ls --fields name | grep ^[a-z]", "oci-vol ls; oci-vol export v1 | sha256sum"
NETS, CONTAINERS = "oci-net ls --fields name", "oci-run list --fields name,status | sort"
FSCK, GC = "oci-image fsck ./img", "oci-image gc --grace 0s ./img"
STORE_FSCK, STORE_GC = "oci-image fsck", "oci-image gc --grace 0s"
# A one-shot takes what killed ones have left, once it is no moment old; making a volume what is left of such.
SWEEP = "find root/containers -mindepth 1 -maxdepth 1 -exec touch -d '1 hour ago' {} +; oci-run --network none app true"
VOLUME = "oci-vol create swept && oci-vol rm swept"
INDEX = "oci-image cat ./img:i"
MADE_FSCK = "[ ! -e made/oci-layout ] || oci-image fsck ./made"  # a directory without that file is none yet
REGISTRY = "oci-registry ls registry"


class Case:
    """One command.

    words    as typed, in the world's directory
    view     prints what it is about: as before or as wanted after a kill
    fsck     must find nothing wrong
    again    exit codes of the same words where all was done already
    tidy     takes away what a killed one may leave beside
    steps    it removes one after the other: some may be gone
    """

    def __init__(self, words: str, view: str, fsck: str = "true", again: int = 0, tidy: str = "true", steps: bool = False) -> None:
        self.words = words
        self.view = view
        self.fsck = fsck
        self.again = again
        self.tidy = tidy
        self.steps = steps


CASES = {
    "image tag": Case("oci-image tag ./img:x z", IMG, FSCK, tidy=GC),
    "image rm": Case("oci-image rm ./img:y", IMG, FSCK, 1, GC),
    "image gc": Case("oci-image gc --grace 0s ./img", IMG, FSCK, tidy=GC),
    "image config": Case("oci-image config -e A=b -t new ./img:x", IMG, FSCK, tidy=GC),
    "image copy": Case("oci-image copy ./img:x ./made:x", "oci-image ls --json ./made", MADE_FSCK,
                       tidy="oci-image gc --grace 0s ./made"),
    "image save": Case("oci-image save -o saved.tar ./img:x", "[ ! -e saved.tar ] || oci-image ls oci-archive:saved.tar"),
    "image load": Case("oci-image load out.tar ./made", "oci-image ls --json ./made", MADE_FSCK,
                       tidy="oci-image gc --grace 0s ./made"),
    "image index create": Case("oci-image index create ./img:both ./img:x ./img:y", IMG, FSCK, tidy=GC),
    "image index add": Case("oci-image index add ./img:i ./img:y", INDEX, FSCK, tidy=GC),
    "image index rm": Case(f"oci-image index rm ./img:i {PLATFORM}", INDEX, FSCK, 1, GC),
    "image index annotate": Case("oci-image index annotate -a a=b ./img:i", INDEX, FSCK, tidy=GC),
    "image artifact create": Case("oci-image artifact create ./img:f t/a", IMG, FSCK, tidy=GC),
    "pack": Case("oci-pack t ./img:new", IMG, FSCK, tidy=GC),
    # Without the record it does not look finished, whatever is in there.
    "unpack": Case("oci-unpack ./img:x made", "[ ! -e made/.oci-unpack.json ] || { cat made/rootfs/d/b; ls made/rootfs; }", again=1),
    "build": Case("oci-build -q -t ./img:built t", IMG, FSCK, tidy=GC),
    "registry rm": Case("oci-registry rm registry app:1", REGISTRY, "oci-image fsck ./registry/app", 1, "oci-registry gc --grace 0 registry"),
    "registry gc": Case("oci-registry gc --grace 0 registry", REGISTRY, "oci-image fsck ./registry/app"),
    "registry key rm": Case("oci-registry key rm --user me held", "oci-registry key ls held --fields name", again=-1),
    "registry key add": Case("oci-registry key add keys me", "oci-registry key ls keys --fields name || true"),
    "vol create": Case("oci-vol create new", VOLUMES, "oci-vol inspect v1 v2", tidy=VOLUME),
    "vol rm": Case("oci-vol rm v2", VOLUMES, again=1, tidy=VOLUME),
    "vol rename": Case("oci-vol rename v2 v3", VOLUMES, again=1, tidy=VOLUME),
    "vol clone": Case("oci-vol clone v1 v3", VOLUMES, "oci-vol inspect v1 v2", 1, VOLUME),
    "vol import": Case("oci-vol import v3 v.tar", f"{VOLUMES}; oci-vol export v3 | tar -t", "oci-vol inspect v1 v2", -1, VOLUME),
    "vol prune": Case("oci-vol prune --all", VOLUMES, tidy=VOLUME, steps=True),
    "net create": Case("oci-net create new", NETS, "oci-net inspect n1", 1),
    "net rm": Case("oci-net rm n1", NETS, again=1),
    "net prune": Case("oci-net prune", NETS),
    "run new": Case("oci-run new --network none --name c3 app true", CONTAINERS, STORE_FSCK, 1, SWEEP),
    "run rm": Case("oci-run rm c1", CONTAINERS, STORE_FSCK, 1, SWEEP),
    "run rename": Case("oci-run rename c1 c9", CONTAINERS, again=1),
    # What cp had not yet given its name stays in the container's files, under .oci-cp.
    "run cp": Case("oci-run cp t/a c1:/a", "oci-run diff c1 | grep -v oci-cp"),
    "image rm of the store": Case("oci-image rm other", STORE, STORE_FSCK, 1, STORE_GC),
}  # fmt: skip
# Commands that change nothing but what they print.
READING = (
    "image ls|image inspect|image cat|image history|image tree|image referrers|image diff|image fsck|image artifact extract|net ls|net inspect|"
    "net resolve|net check|net graph|net unshare|net publish ls|registry ls|registry key ls|registry serve|run state|run features|run ps|run list|"
    "run events|run spec|run wait|run logs|run attach|run stats|run top|run diff|run export|run unshare|run exec|vol ls|vol inspect|vol path|"
    "vol export|vol df|demo|spec new|spec from-kube|spec set|spec check|spec diff|spec explain"
).split("|")
# What is killed at its system calls in a test beside that room, and what changes nothing on disk.
ELSEWHERE = {
    "tests/runtime/test_lifecycle.py and test_starting.py": "run create|run start|run run|run kill|run delete",
    "tests/net/test_many.py": "net attach|net detach|net publish add|net publish rm|net reload",
    "tests/registry/test_kill.py": "pull|push",
    "tests/engine": "ctl|ocid",
    "one call of the kernel": "run pause|run resume|run unpause|run update|run mount add|run mount rm|run checkpoint|run restore|run stop|run restart|run adopt",
}
