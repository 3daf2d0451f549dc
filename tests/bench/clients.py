#!/usr/bin/python3 -IS
"""Clients of a registry that cost next to nothing: clients.py HOST:PORT COUNT PATH...

COUNT processes at once, each asking for all paths, one after the other, on one connection, as fast as they come.
What comes is counted and dropped in the kernel (MSG_TRUNC of tcp(7)).
"""

from __future__ import annotations

import os
import socket
import sys

TRUNC = 0x20  # MSG_TRUNC
SIZE = 1 << 20
BUFFER = bytearray(SIZE)


def main(place: str, count: str, *paths: str) -> int:
    host, _, port = place.rpartition(":")
    pids = []
    for number in range(int(count)):
        pid = os.fork()
        if not pid:
            turn = number % len(paths)
            os._exit(client((host, int(port)), [*paths[turn:], *paths[:turn]]))
        pids.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def client(place: tuple[str, int], paths: list[str]) -> int:
    with socket.create_connection(place) as sock:
        for at, path in enumerate(paths, 1):
            ending = "close" if at == len(paths) else "keep-alive"
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {place[0]}:{place[1]}\r\nConnection: {ending}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                more = sock.recv(1 << 16)
                if not more:
                    return 1
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), -1)
            left = length - len(body)
            while (left > 0 or length < 0) and (got := sock.recv_into(BUFFER, min(left, SIZE) if left > 0 else SIZE, TRUNC)):
                left -= got
            if " 200 " not in lines[0] or (left if length >= 0 else ending != "close"):
                sys.stderr.write(f"clients.py: {path}: {lines[0]}, {left} bytes are missing\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
