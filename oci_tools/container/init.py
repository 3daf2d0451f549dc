"""The init of --init, as a file of the host that is bound into containers.

What it does is said in tests/container/init.c, whose thousand bytes of machine code are here: make_init.py
there compiles it, and a test compares the two.  No program of the host's is trusted or needed for it, and the
Python that made the container is not left in there (its memory holds the caller's environment).

    ELF header, 64 bytes | one PT_LOAD, read and execute, and PT_GNU_STACK, read and write, 56 each | the code

elf(5).  The file is `$OCI_ROOT/init/NAME`, the name being of its content; a bind of it is read-only in a container.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, crc32
from struct import pack

from oci_tools import fs
from oci_tools.errors import Error

BASE = 0x10000  # where it is loaded
_HEADERS = 64 + 2 * 56
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64
_CODE = {
    "x86_64": (  # 1182 bytes
        "SInnSIPk8OiPAQAASIn+MdKAPBYAdAVI/8Lr9UUx0kUxwLgBAAAAvwIAAAAPBcNBVkiJ8kFVQVRJifxVU0iB7IgPAABIiz9IifiKCITJdCKA"
        "+S91GEUx0kUxwLg7AAAATInmDwVIicPpGwEAAEj/wOvYgD8ASMfD/v///0iJ1kyNDasDAABMjQV4AwAAD4T1AAAASIsOSIXJdCMxwEGKPABA"
        "hP90DkSKFAFI/8BBOPp06+sETI1JBUiDxgjr1UyNbCSHSMfD/v///0iNfCSIQb47AAAAQYA5AA+EqQAAADHtQYoEKYTAdB48OnQaSIH9uAsA"
        "AHQKSP/FQYhELQDr4bm4CwAA6xJIielIhe11CsZEJIguuQEAAABJizQkxkQMiC9IjUEBSCnOikwG/4TJdBJIPf8PAAB0Ckj/wEGITAUA6+bG"
        "RASIAEUx0kUxwEyJ8EyJ5g8FSIP4/nQGSIP47HUDSInYSQHpQYoJhMl0CoD5OnQFSf/B6++A+QFIicNJg9n/6U3///9IgcSIDwAASInYW11B"
        "XEFdQV7DQVdMjU8IQVZBVUFUVUyJzVNIg+woSIN/CABMiydIx0QkGAf7/790NUiLVxBIjW8QMcBIjTV4AgAASIXSdB+KDAaEyXQORIoEAkj/"
        "wEE4yHTt6wqAegIAdQRIjW8YSIN9AAB1I0iNPUkCAADoAf7//zH2RTHSRTHAuOcAAAC/AgAAAEiJ8g8FMf9FMdJFMcC4JwAAAEiJ/kiJ+g8F"
        "SP/IdBG4nQAAAL8kAAAAvgEAAAAPBUiNRCQYQb0OAAAASI1UJBBBuggAAABIiQQkRTHASIs0JEyJ6L8CAAAADwUx9kUx0rg4AAAAvxEAAABI"
        "ifIPBUiJw0iFwA+FsAAAAEiLRCQQSInfSIneSInaSIlEJCC4JwAAAA8FiUQkDLhtAAAADwW4EAAAAEiNVCQMvhBUAAAPBb8CAAAASI10JCBM"
        "iehIidpBuggAAAAPBUuNdOEISInv6Dz9//9IjT17AQAASYnB6Ar9//9Ii30A6AH9//9Jg/n+SI09HAEAAA+UwEmD+ewPlMII0EGJwXQHSI09"
        "3QAAAOjZ/P//QQ+2+UUx0kUxwEiDx3645wAAAOseeSNIjT02AQAA6Lb8//9FMdJFMcC45wAAAL9+AAAAMfZIifIPBUG8gAAAAEyNbCQgQb49"
        "AAAAQbnnAAAAQb8+AAAAMfZIizwkQboIAAAARTHATIngSInyDwVIicZIg/gRdBBIhcB+20Ux0kyJ+EiJ3+tHg83/RTHSRTHATInwSIPP/0yJ"
        "7roBAAAADwVIhcB+GUg5w3Xfi0QkIA+27IPgf3TTjaiAAAAA68uF7XiUMfZIY/1MichIifIPBeuFUEFUSD0AIjogZXhlY3V0YWJsZSBmaWxl"
        "IG5vdCBmb3VuZCBpbiAkUEFUSAoAIjogaXQgY2Fubm90IGJlIGV4ZWN1dGVkCgAtLQB1c2FnZTogb2NpLWluaXQgLS0gUFJPR1JBTSBbV09S"
        "RC4uLl0KAG9jaS1pbml0OiBleGVjOiAiAG9jaS1pbml0OiBjYW5ub3QgZm9yawoA"
    ),
    "aarch64": (  # 1321 bytes
        "4AMAkXcAAJToAwCq4AMBquEDAqriAwOq4wMEqgQAgNIBAADUwANf1uIDAKoDAIDSQGhjOKAAADUEAIDSQQCA0gAIgNLx//8XYwQAkfn//xfp"
        "AwGq5wMAqgEAQPngAwGqAgBAOQIDADUgAEA5QAsANAwCgtL/YyzLBQAAkAMAAJDiAwmqpbAVkWMAFZH+AwD5QQBA+WEDALXqQwCRKwCAkswF"
        "gFLtBYBSoABAOYAEADX+A0D54AMLqgwCgtL/YyyLwANf1l+8AHHBAABU4wMJquIDB6oEAIDSoBuA0sv//xcABACR3///FyZoYDgABACR3wAE"
        "a4AAAFRCIACR5f//FwAAgNJkaGA4BP//NSUUAJH6//8XQGkmOMYEAJGgaGY4H+gAcQQYQHrgAABU3+Au8SH//1TkAwaqBgAAFAYAgNL3//8X"
        "hv//tSQAgNLsQwA54QBA+YAEAJFNaSQ45AMkqiEABIsiaGA4YgAANB/8P/GBAgBU4wMJquIDB6rhAwqqBACA0l9pIDigG4DSn///lx8IALEE"
        "GFS6pQAGiwAQi5qhAEA5P+gAcSQYQHoBAQBUQQAANKUEAJHrAwCqu///F0JpIDgABACR5///F6UEAJH0//8XKwCAkuADC6rAA1/WAZ+Akv4P"
        "Hfjh/7fy5QMAquETAPkBBED5poRA+EEQALQBCED5D0AAkWEPALXgAUD5QAEAtQAAAJAAKBaRg///lwQAgNIDAIDSAgCA0kEAgNLAC4DSdf//"
        "lwQAgNIDAIDSAgCA0gEAgNKAFYDSb///lx8EAPHgAABUBACA0gMAgNIiAIDSgQSA0uAUgNJn//+X8oMAkeNjAJHiAxKqBAGA0kEAgNLgEIDS"
        "YP//lwQAgNIDAIDSAgCA0iECgNKAG4DSWv//l+4DAKofAADxAAsAteAPQPkEAIDSAwCA0gIAgNIBAIDS4BcA+YAVgNJP//+XBACA0gMAgNIC"
        "AIDSAQCA0uAXALlAE4DSSP//l+NTAJEEAIDSAoKK0gEAgNKgA4DSQv//l+KjAJEEAYDSAwCA0kEAgNLgEIDSPP//l8EEAJHgAw+qoQwBi0r/"
        "/5flAwCqAAAAkADAFpE8//+X4AFA+Tr//5e/CACxAQAAkKQYVLohGBWRAAAAkAC0FZHlF58aABCBmjH//5fhAwUqBACA0iH4AZEDAIDSAgCA"
        "0sALgNIi//+X5qMAkQIAgNLhAxKqBAGA0gMAgNIgEYDSG///l+IDAKofRADxAAcAVB8AAPHN/v9U4QMOqgQAgNIDAIDSIBCA0hH//5fw//8X"
        "J2hiOEIEAJH/AARrofH/VGRoYjhk//81IQhAOSHx/zUPYACRh///FwMAAJACAIDSYxwWkff//xfvAwWqgf//F8r7/1QAAACQAAgXkQT//5cE"
        "AIDSAwCA0gIAgNLBD4DS1P//F98BAOvBAABU5StAuaAYAHIBAAIRpTxI06UAgRriAwaqBACA0iMAgNIBAICSgCCA0ur+/5cfAADxTP7/VOX4"
        "/zehfECTBACA0gMAgNICAIDSwAuA0tD//xcFAIAS8P//F1BBVEg9ACI6IGV4ZWN1dGFibGUgZmlsZSBub3QgZm91bmQgaW4gJFBBVEgKACI6"
        "IGl0IGNhbm5vdCBiZSBleGVjdXRlZAoALS0AdXNhZ2U6IG9jaS1pbml0IC0tIFBST0dSQU0gW1dPUkQuLi5dCgBvY2ktaW5pdDogZXhlYzog"
        "IgBvY2ktaW5pdDogY2Fubm90IGZvcmsKAA=="
    ),
}


# What does nothing, for ever: the first process of a pod.  It ignores SIGCHLD, so that orphans leave no zombies.
#   rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8); for (;;) pause();    aarch64: ppoll(NULL, 0, NULL, NULL)
_PAUSE = {
    "x86_64": "488d3521000000b80d000000bf1100000031d241ba080000000f05b8220000000f05ebf70f1f40000100000000000000"
              + 24 * "00",
    "aarch64": "200280d2a1010010020080d2030180d2c81080d2010000d4000080d2010080d2020080d2030080d2280980d2010000d4"
               "faffff171f2003d50100000000000000" + 24 * "00",
}  # fmt: skip


def program(machine: str) -> bytes:
    """The whole program for a machine, as uname(2) calls it."""
    if machine not in _CODE:
        raise Error("cannot use --init", None, f"there is none for {machine}")
    return _elf(a2b_base64(_CODE[machine]), machine)


def pause(machine: str) -> bytes:
    """The program that waits for nothing."""
    if machine not in _PAUSE:
        raise Error("cannot make a pod", None, f"there is no program for {machine} that holds it")
    return _elf(bytes.fromhex(_PAUSE[machine]), machine)


def _elf(code: bytes, machine: str) -> bytes:
    size = _HEADERS + len(code)
    head = pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, _MACHINES[machine], 1, BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    load = pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x10000)
    stack = pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return head + load + stack + code


def file() -> str:
    """The path of a file that holds the program for this machine; made if it is not there, or not whole."""
    data = program(os.uname().machine)
    directory = f"{fs.root()}/init"
    path = f"{directory}/{crc32(data):08x}"
    try:
        with open(path, "rb", buffering=0) as known:
            if known.read(len(data) + 1) == data and os.fstat(known.fileno()).st_mode & 0o777 == 0o555:
                return path
    except FileNotFoundError:
        pass
    os.makedirs(directory, 0o755, exist_ok=True)
    fs.write(path, data, 0o555)
    os.chmod(path, 0o555)  # whatever the umask is
    return path
