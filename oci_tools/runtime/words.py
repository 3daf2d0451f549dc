"""The verbs of `oci-run` that few type, as data: apart from the others, so that a start of those reads none of it.

    verb: (summary, operands, options, "module.function" of this room)

The options are in the form of `cli.py`; the function takes what was said and the root of the
states, and returns the exit code or None.  A verb whose options are a dict has verbs itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IMAGE_PATH = ("--image-path DIR", "text", "./checkpoint", "where the images of the processes are")
_WORK_PATH = ("--work-path DIR", "text", None, "where criu leaves its log; else with the images")
_TCP = ("--tcp-established", "flag", False, "with open TCP connections")
_UNIX = ("--ext-unix-sk", "flag", False, "with Unix sockets that lead outside")
_SHELL = ("--shell-job", "flag", False, "with a terminal from outside")
_LOCKS = ("--file-locks", "flag", False, "with file locks")
_IN_FLIGHT = ("--tcp-skip-in-flight", "flag", False, "without connections that are not established yet")
_REMAP = ("--link-remap", "flag", False, "with open files that have been removed but have another name")
_LAZY = ("--lazy-pages", "flag", False, "leave memory where it is until it is asked for, by criu's lazy-pages")
_MANAGE = ("--manage-cgroups-mode MODE", ("soft", "full", "strict", "ignore"), "soft",
           "understood for runc's callers: the groups are made anew from config.json")  # fmt: skip
_EMPTY = ("--empty-ns KIND", "list", (), "make a namespace of this kind, network, without what is in it")

_UPDATE = (
    ("-r --resources FILE", "text", None, "limits as linux.resources of config.json; - is stdin"),
    ("--memory BYTES", "text", None, "memory limit"),
    ("--memory-swap BYTES", "text", None, "limit of memory and swap together; -1 is none"),
    ("--memory-reservation BYTES", "text", None, "memory that is spared under pressure"),
    ("--cpu-period USECS", "text", None, "length of the period of --cpu-quota"),
    ("--cpu-quota USECS", "text", None, "processor time in each period"),
    ("--cpu-burst USECS", "text", None, "time saved up that may be used beyond the quota"),
    ("--cpu-share --cpu-shares SHARES", "text", None, "relative weight, 1024 is usual"),
    ("--cpu-idle N", "text", None, "1: only time that nobody else wants"),
    ("--cpu-rt-period USECS", "text", None, "length of the period of --cpu-rt-runtime"),
    ("--cpu-rt-runtime USECS", "text", None, "realtime tasks' time in each period"),
    ("--cpuset-cpus LIST", "text", None, "processors to run on"),
    ("--cpuset-mems LIST", "text", None, "memory nodes to use"),
    ("--pids-limit N", "text", None, "how many processes; -1 is no limit"),
    ("--blkio-weight N", "text", None, "relative weight of block i/o, 10 to 1000"),
    ("--restart POLICY", "text", None, "of people's: when it is started again, as --restart of the one-shot"),
    ("--kernel-memory BYTES", "text", None, "understood for runc's callers: kernels have it no more"),
    ("--kernel-memory-tcp BYTES", "text", None, "limit of memory for TCP buffers, of cgroup v1"),
    ("--l3-cache-schema TEXT", "text", None, "line of the cache in the container's class of intelRdt"),
    ("--mem-bw-schema TEXT", "text", None, "line of memory bandwidth in that class"),
)

DECLARED: dict[str, tuple[str, str, Any, str]] = {
    "update": ("change the limits of a container", "ID", _UPDATE, "update.main"),
    "events": (
        "print as JSON lines what a container uses, and when memory runs out; without ID what happens to all", "[ID]",
        (("--interval TIME", "text", "5s", "how often to print what it uses"),
         ("--stats", "flag", False, "once, and end"),
         ("--since TIME", "text", None, "without ID: also what has happened since then"),
         ("--until TIME", "text", None, "without ID: end then"),
         ("-f --filter NAME=VALUE", "list", (), "without ID: only container=, event=, image=, label=, type=")),
        "events.main",
    ),
    "spec": (
        "write a config.json to start from", "",
        (("-b --bundle DIR", "text", ".", "the directory to write it to"),
         ("--rootless", "flag", False, "for a user who is not root")),
        "spec.write",
    ),
    "checkpoint": (
        "save the processes of a running container to files, by criu", "ID",
        (_IMAGE_PATH, _WORK_PATH,
         ("--parent-path DIR", "text", None, "images of an earlier --pre-dump, relative to the new ones"),
         ("--leave-running", "flag", False, "let it go on"),
         ("--pre-dump", "flag", False, "only its memory, and let it go on"),
         ("--auto-dedup", "flag", False, "keep no memory in the earlier images that is in the new"),
         ("--page-server ADDRESS:PORT", "text", None, "send memory there; with --lazy-pages, serve it there"),
         ("--status-fd N", "int", -1, "with --lazy-pages: write a NUL to descriptor N when memory is served"),
         _LAZY, _TCP, _IN_FLIGHT, _UNIX, _SHELL, _LOCKS, _REMAP, _MANAGE, _EMPTY),
        "checkpoint.save",
    ),
    "restore": (
        "make a container of a bundle, and of processes that 'checkpoint' saved", "ID",
        (_IMAGE_PATH, _WORK_PATH,
         ("-b --bundle DIR", "text", ".", "the bundle: a directory with config.json"),
         ("-d --detach", "flag", False, "do not wait for it"),
         ("--console-socket PATH", "text", None, "send the terminal's master to the socket PATH"),
         ("--pid-file FILE", "text", None, "write the pid of the container's first process to FILE"),
         ("--no-pivot", "flag", False, "understood for runc's callers"),
         ("--no-subreaper", "flag", False, "understood for runc's callers"),
         ("--auto-dedup", "flag", False, "let go of the images' memory while it is read"),
         ("--lsm-profile TYPE:NAME", "text", None, "another profile of apparmor or selinux than it had"),
         ("--lsm-mount-context CONTEXT", "text", None, "another context of selinux for its mounts"),
         _LAZY, _TCP, _UNIX, _SHELL, _LOCKS, _MANAGE, _EMPTY),
        "restoring.restore",
    ),
    "mount": (
        "add mounts to a running container and remove them", "",
        {
            "add": (
                "mount a file or directory of the host, or a tmpfs, in a running container",
                "ID SOURCE DIR",
                (("-t --type TYPE", "text", "bind", "bind, or tmpfs"),
                 ("-o --options LIST", "list", (), "options as of mounts in config.json, with commas between")),
                "mounting.add",
            ),
            "rm": ("remove a mount that 'add' made", "ID DIR", (), "mounting.remove"),
        },
        "",
    ),
    "unshare": (
        "run a command in the user namespace of one's own containers", "[CMD...]", (), "unshare.main",
    ),
}  # fmt: skip
