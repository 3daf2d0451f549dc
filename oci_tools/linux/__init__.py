"""The kernel: one thin function per system call, no policy."""
