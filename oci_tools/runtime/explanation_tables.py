"""What is dangerous in a config.json, and why, for `explanation.py`.

capabilities(7), namespaces(7), proc(5), seccomp(2), and the kernel's Documentation/admin-guide/devices.txt.
"""

from __future__ import annotations

WARNING, NOTE = "warning", "note"

# More than Docker gives, and what it means over the host where there is no user namespace.
CAPABILITIES = {
    "CAP_SYS_ADMIN": "mounts file systems, enters namespaces, and a hundred things more: nearly root of the host",
    "CAP_SYS_MODULE": "loads modules into the host's kernel",
    "CAP_SYS_RAWIO": "reaches memory and ports of the machine",
    "CAP_SYS_PTRACE": "reads and changes other processes that it sees",
    "CAP_SYS_BOOT": "reboots the host",
    "CAP_SYS_TIME": "sets the host's clock",
    "CAP_SYS_NICE": "takes processors and memory nodes from others",
    "CAP_SYS_RESOURCE": "goes beyond its limits",
    "CAP_SYS_PACCT": "switches process accounting of the host",
    "CAP_SYS_TTY_CONFIG": "hangs up and configures terminals",
    "CAP_DAC_READ_SEARCH": "opens any file of a file system that it sees a part of, the host's too",
    "CAP_NET_ADMIN": "configures networks, those of the host if it has no other",
    "CAP_NET_BROADCAST": "listens to multicasts",
    "CAP_BPF": "loads programs into the host's kernel",
    "CAP_PERFMON": "watches the host's kernel and processes",
    "CAP_CHECKPOINT_RESTORE": "opens what other processes have mapped",
    "CAP_SYSLOG": "reads the kernel's log, with addresses",
    "CAP_AUDIT_CONTROL": "configures the host's audit",
    "CAP_AUDIT_READ": "reads the host's audit log",
    "CAP_MAC_ADMIN": "changes the policy of AppArmor or Smack",
    "CAP_MAC_OVERRIDE": "ignores the policy of Smack",
    "CAP_IPC_LOCK": "locks memory beyond its limit",
    "CAP_IPC_OWNER": "opens every message queue and shared memory that it sees",
    "CAP_LINUX_IMMUTABLE": "changes files that are marked immutable",
    "CAP_LEASE": "takes leases on files of others",
    "CAP_WAKE_ALARM": "wakes the machine up",
    "CAP_BLOCK_SUSPEND": "keeps the machine awake",
}

# What it has, or sees, without a namespace of a kind.
NAMESPACES = {
    "mount": (WARNING, "what it mounts and unmounts is the host's"),
    "pid": (WARNING, "sees the host's processes, and signals those of its user"),
    "network": (WARNING, "uses the host's network, with all that listens only there"),
    "ipc": (WARNING, "sees the host's message queues and shared memory"),
    "uts": (NOTE, "sees the host's name"),
    "cgroup": (NOTE, "sees where in the host's cgroups it is"),
    "user": (NOTE, "its users are the host's"),
    "time": (NOTE, "has the host's clocks"),
}

# A system call: the capability without which it does little, and what it is for.
CALLS: dict[str, tuple[str | None, str]] = {
    "add_key": (None, "the kernel's keys, which no namespace separates"),
    "keyctl": (None, "the kernel's keys, which no namespace separates"),
    "request_key": (None, "the kernel's keys, which no namespace separates"),
    "io_uring_setup": (None, "io_uring, where many holes of the kernel were found"),
    "userfaultfd": (None, "userfaultfd, which makes races in the kernel easy to win"),
    "unshare": (None, "makes user namespaces, in which more of the kernel can be reached"),
    "bpf": ("CAP_BPF", "loads programs into the kernel"),
    "perf_event_open": ("CAP_PERFMON", "watches the kernel and processes"),
    "mount": ("CAP_SYS_ADMIN", "mounts file systems"),
    "move_mount": ("CAP_SYS_ADMIN", "mounts file systems"),
    "pivot_root": ("CAP_SYS_ADMIN", "changes its root"),
    "setns": ("CAP_SYS_ADMIN", "enters other namespaces"),
    "open_by_handle_at": ("CAP_DAC_READ_SEARCH", "opens files by number, also outside of its root"),
    "init_module": ("CAP_SYS_MODULE", "loads modules into the kernel"),
    "finit_module": ("CAP_SYS_MODULE", "loads modules into the kernel"),
    "delete_module": ("CAP_SYS_MODULE", "removes modules from the kernel"),
    "kexec_load": ("CAP_SYS_BOOT", "starts another kernel"),
    "kexec_file_load": ("CAP_SYS_BOOT", "starts another kernel"),
    "reboot": ("CAP_SYS_BOOT", "reboots the host"),
    "iopl": ("CAP_SYS_RAWIO", "reaches ports of the machine"),
    "ioperm": ("CAP_SYS_RAWIO", "reaches ports of the machine"),
    "swapon": ("CAP_SYS_ADMIN", "changes where the host swaps"),
    "settimeofday": ("CAP_SYS_TIME", "sets the host's clock"),
    "clock_settime": ("CAP_SYS_TIME", "sets the host's clock"),
    "acct": ("CAP_SYS_PACCT", "switches process accounting of the host"),
    "syslog": ("CAP_SYSLOG", "reads the kernel's log"),
}

# What the default hides, and makes read-only, and why.
MASKED = {
    "/proc/acpi": "sees and switches hardware",
    "/proc/asound": "sees the machine's sound devices",
    "/proc/interrupts": "can tell what others type and do by the interrupts",
    "/proc/kcore": "reads the kernel's memory",
    "/proc/keys": "sees keys of others",
    "/proc/latency_stats": "sees what others wait for",
    "/proc/sched_debug": "sees the processes of all others",
    "/proc/scsi": "can take disks away",
    "/proc/timer_list": "sees timers of others, with addresses of the kernel",
    "/proc/timer_stats": "sees timers of others",
    "/sys/devices/virtual/powercap": "can tell what others compute by the power it takes",
    "/sys/firmware": "sees tables of the firmware",
}
READONLY = {
    "/proc/bus": "configures devices on the host's buses",
    "/proc/fs": "changes settings of the host's file systems",
    "/proc/irq": "moves the host's interrupts",
    "/proc/sys": "changes settings of the host's kernel, among them what runs when a process dumps core",
    "/proc/sysrq-trigger": "reboots or crashes the host",
}

# Places of the host that give away more than their files; `/*`: also what is in there.
SOURCES = {
    "/": "all of it",
    "/etc": "its users, passwords and services",
    "/etc/*": "settings of the host",
    "/root": "the files and keys of its root",
    "/root/*": "files of its root",
    "/boot": "its kernel",
    "/home": "the files and keys of its users",
    "/dev": "all of its devices",
    "/proc": "its processes and its kernel's settings",
    "/proc/*": "its processes and its kernel's settings",
    "/sys": "its devices and cgroups",
    "/sys/*": "its devices and cgroups",
    "/var/run/docker.sock": "whoever talks to dockerd is root there",
    "/run/docker.sock": "whoever talks to dockerd is root there",
    "/run/containerd/containerd.sock": "whoever talks to containerd is root there",
    "/run/podman/podman.sock": "whoever talks to podman is root there",
    "/run/oci/ocid.sock": "whoever talks to ocid is root there",
    "/run": "the sockets of its services",
    "/var/run": "the sockets of its services",
    "/var/lib": "the data of its services",
    "/var/lib/docker": "the files of all of dockerd's containers",
    "/var/lib/containers": "the files of all of podman's containers",
    "/var/lib/oci": "the files of all containers",
    "/var/lib/kubelet": "the files and secrets of its pods",
    "/lib/modules": "its kernel's modules",
    "/usr": "its programs",
}

# (kind, major, minor) of devices that reach further than themselves.
DEVICES = {
    ("c", 1, 1): "reads and writes the machine's memory",
    ("c", 1, 2): "reads and writes the kernel's memory",
    ("c", 1, 4): "reaches ports of the machine",
    ("c", 1, 11): "writes to the kernel's log",
    ("c", 10, 200): "makes network devices",
    ("c", 10, 229): "mounts file systems of its own making, with CAP_SYS_ADMIN",
    ("c", 10, 232): "runs virtual machines in the kernel",
    ("c", 10, 237): "makes loop devices of files",
    ("c", 10, 236): "reaches every disk by the device mapper",
    ("c", 10, 203): "makes character devices in a process",
    ("c", 10, 223): "types and clicks as the user",
    ("c", 10, 144): "reads and writes the firmware's settings",
}

# Annotations that runtimes obey, so that whoever can write one gets more than a config.json should give.
ANNOTATIONS = ("run.oci.", "io.oci-tools.", "org.systemd.property.", "org.criu.", "io.katacontainers.", "nvidia.")
