"""SCTP that is carried (relay.py): whole messages, each on its stream and with its payload protocol identifier.

    struct sctp_rcvinfo { u16 sid, ssn, flags; u32 ppid, tsn, cumtsn, context; s32 assoc_id }    came with a message
    struct sctp_sndinfo { u16 sid, flags; u32 ppid, context; s32 assoc_id }                      goes with it

RFC 6458 (5.3.4, 5.3.5); sockets are of its one-to-one style, on which nothing is half closed.
"""

from __future__ import annotations

from _socket import CMSG_SPACE, SHUT_WR, socket
from errno import EMSGSIZE
from struct import pack, unpack_from

from oci_tools.net.relay import Side

IPPROTO_SCTP = 132
SCTP_INITMSG, SCTP_RECVRCVINFO = 2, 32  # options
SCTP_SNDINFO, SCTP_RCVINFO = 2, 3  # ancillary data
SCTP_UNORDERED, MSG_EOR = 1, 0x80
STREAMS = 1024
_LARGEST = 1 << 18  # bytes of a message


def prepare(sock: socket) -> None:
    """Before it connects: as many streams as the other may use."""
    sock.setsockopt(IPPROTO_SCTP, SCTP_INITMSG, pack("HHHH", STREAMS, STREAMS, 0, 0))


class Messages(Side):
    """One end of an association."""

    def __init__(self, sock: socket, name: str) -> None:
        super().__init__(sock, name)
        sock.setsockopt(IPPROTO_SCTP, SCTP_RECVRCVINFO, 1)
        self._queue: list[tuple[bytes, bytes]] = []
        self._part = b""

    def read(self) -> None:
        data, ancillary, flags, _ = self.sock.recvmsg(_LARGEST, CMSG_SPACE(64))
        if not data:
            self.ended = True
            return
        self._part += data
        if not flags & MSG_EOR:
            if len(self._part) >= _LARGEST:
                raise OSError(EMSGSIZE, "")
            return
        told = next((info for _, kind, info in ancillary if kind == SCTP_RCVINFO), bytes(28))
        stream, _, how = unpack_from("HHH", told)
        info = pack("HH4sIi", stream, how & SCTP_UNORDERED, told[8:12], 0, 0)
        assert isinstance(self.other, Messages)
        self.other._queue.append((self._part, info))
        self.other.waiting += len(self._part)
        self._part = b""

    def write(self) -> None:
        if not self.connected:
            return
        while self._queue:
            data, info = self._queue[0]
            self.sock.sendmsg([data], [(IPPROTO_SCTP, SCTP_SNDINFO, info)])
            del self._queue[0]
            self.waiting -= len(data)
        if self.other.ended and not self.shut:
            self.sock.shutdown(SHUT_WR)
            self.shut = True
