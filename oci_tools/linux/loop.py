"""Loop devices: a file as a block device.  loop(4)."""

from __future__ import annotations

import fcntl
import os
from errno import EBUSY

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
LO_FLAGS_AUTOCLEAR = 4  # it goes when nobody has it open or mounted
_INFO = 56  # offset of lo_file_name in struct loop_info64, whose lo_flags are the four bytes before
_SIZE = 8 + 232 + 64  # struct loop_config


def attach(path: str) -> tuple[int, str]:
    """A loop device with the file at `path`: a descriptor of it, and its name; it is gone after its last user."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            while True:
                name = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
                fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
                config = bytearray(_SIZE)
                config[0:4] = file.to_bytes(4, "little")
                config[8 + _INFO - 4 : 8 + _INFO] = LO_FLAGS_AUTOCLEAR.to_bytes(4, "little")
                config[8 + _INFO : 8 + _INFO + 63] = os.fsencode(path)[:63].ljust(63, b"\0")
                try:
                    fcntl.ioctl(fd, LOOP_CONFIGURE, bytes(config))
                    return fd, name
                except OSError as error:
                    os.close(fd)
                    if error.errno != EBUSY:  # another took it meanwhile
                        raise
        finally:
            os.close(control)
    finally:
        os.close(file)
