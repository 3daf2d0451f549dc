"""nfnetlink for two questions that are too small for a program: is a chain there, and what of UDP is tracked.

    struct nfgenmsg { u8 family, version; u16 res_id }     then attributes as rtnetlink has them, in network byte order

Rules are nft(8)'s to write; sources: include/uapi/linux/netfilter/nf_tables.h, nfnetlink_conntrack.h.
"""

from __future__ import annotations

from errno import ENOENT
from struct import pack, unpack

from oci_tools.linux.netlink import (
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    Netlink,
    attribute,
    attributes,
)

NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES = 1, 10
NFT_MSG_GETCHAIN, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 4, 1, 2
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME = 1, 3
CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 2, 1, 3
NFPROTO_UNSPEC, NFPROTO_INET = 0, 1
IPPROTO_UDP = 17


class Nfnetlink(Netlink):
    """Netfilter's side of this thread's network namespace."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def has_chain(self, table: str, chain: str) -> bool:
        """Whether a table of family inet has this chain."""
        body = pack("BBH", NFPROTO_INET, 0, 0)
        body += attribute(NFTA_CHAIN_TABLE, table.encode() + b"\0") + attribute(NFTA_CHAIN_NAME, chain.encode() + b"\0")
        try:
            self.ask(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, NLM_F_ACK, body)
        except OSError as error:
            if error.errno == ENOENT:
                return False
            raise
        return True

    def forget_udp(self, ports: set[int]) -> None:
        """Forget the flows of UDP that came to these ports: they would go on to where they went before."""
        head = pack("BBH", NFPROTO_UNSPEC, 0, 0)
        for body in self.ask(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, head):
            original = attributes(body, 4).get(CTA_TUPLE_ORIG, b"")
            proto = attributes(attributes(original, 0).get(CTA_TUPLE_PROTO, b""), 0)
            if proto.get(CTA_PROTO_NUM) != bytes([IPPROTO_UDP]):
                continue
            if unpack("!H", proto[CTA_PROTO_DST_PORT])[0] in ports:
                one = body[:4] + attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, original)
                try:
                    self.ask(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, NLM_F_ACK, one)
                except OSError as error:
                    if error.errno != ENOENT:  # it has ended meanwhile
                        raise
