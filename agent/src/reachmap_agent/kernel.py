"""What the Linux kernel tells an ordinary user about one connection: bytes to facts. Pure.

Two sources: the socket's error queue, where ICMP errors arrive with the address of the device that
sent them (ip(7), IP_RECVERR), and struct tcp_info (linux/tcp.h).
"""

import ipaddress
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SOL_IP: Final = 0
SOL_IPV6: Final = 41
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25

TCP_INFO: Final = 11
TCP_INFO_SIZE: Final = 144
"""Bytes up to and with tcpi_segs_in; a kernel that knows more gives no more than asked."""

_FAMILY: Final = struct.Struct("=H")
_EXTENDED_ERROR: Final = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, padding, info, data (linux/errqueue.h)."""

_VERSION_BY_ORIGIN: Final = {2: 4, 3: 6}  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_ADDRESS_BY_FAMILY: Final = {2: slice(4, 8), 10: slice(8, 24)}  # sockaddr_in, sockaddr_in6

_TCP_INFO: Final = struct.Struct("=8x24I32x2I")
_RTT: Final = struct.Struct("=68xI")
_RETRANSMITS: Final = slice(100, 104)
_SEGMENTS_IN: Final = slice(140, 144)
_BOTH_WAYS: Final = slice(136, 144)

TCP_SYN_SENT: Final = 2
TCP_SYN_RECV: Final = 3
TCP_CLOSE: Final = 7
"""How far a connection is: the first byte of struct tcp_info (net/tcp_states.h)."""

_ONE_EACH: Final = struct.pack("=2I", 1, 1)
_NONE: Final = bytes(4)

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)")
_FORGETS_SINCE: Final = (5, 6)


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP error about a packet of ours."""

    version: int
    """4 or 6."""
    type: int
    code: int
    offender: str
    """Address of the device that sent it; empty when the kernel does not say."""
    errno: int
    mtu: int
    """What the next link takes, where a packet was too big for it; else 0."""


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What TCP counted for one connection."""

    rtt_us: int
    """Smoothed round trip; 0 before the first sample."""
    retransmits: int
    """Times that a segment was to be sent again, SYN included, whether or not it left the host."""
    segments_out: int
    """Segments that left TCP for the network."""
    segments_in: int
    unacked: int
    """Segments sent and not acknowledged."""
    pmtu: int
    retransmitted: int
    """Segments out there for the second time; unlike `retransmits` this counts none that was
    dropped before it left the host."""


def read_icmp(ancillary: Iterable[tuple[int, int, bytes]]) -> Icmp | None:
    """The ICMP error in one message of an error queue; None when it is of another origin."""
    for level, kind, data in ancillary:
        if (level, kind) not in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)):
            continue
        if len(data) < _EXTENDED_ERROR.size:
            continue
        errno, origin, icmp_type, code, info, _ = _EXTENDED_ERROR.unpack_from(data)
        version = _VERSION_BY_ORIGIN.get(origin)
        if version is not None:
            offender = _address(data[_EXTENDED_ERROR.size :])
            too_big = (version, icmp_type, code) in ((4, 3, 4), (6, 2, 0))
            return Icmp(version, icmp_type, code, offender, errno, info if too_big else 0)
    return None


def read_tcp_info(data: bytes) -> TcpInfo | None:
    """What getsockopt(TCP_INFO) gave; None from a kernel too old to say enough."""
    if len(data) < _TCP_INFO.size:
        return None
    fields = _TCP_INFO.unpack_from(data)
    return TcpInfo(
        rtt_us=fields[15],
        retransmits=fields[23],
        segments_out=fields[24],
        segments_in=fields[25],
        unacked=fields[4],
        pmtu=fields[13],
        retransmitted=fields[7],
    )


def smoothed_rtt_us(data: bytes) -> int:
    """`TcpInfo.rtt_us` alone, of what getsockopt(TCP_INFO) gave in full."""
    rtt_us: int = _RTT.unpack_from(data)[0]
    return rtt_us


def reset_came(data: bytes) -> bool:
    """Whether a segment ended a connection that is closed, by what getsockopt(TCP_INFO) gave.

    RST is one; an ICMP error is none.
    """
    return len(data) >= TCP_INFO_SIZE and data[0] == TCP_CLOSE and any(data[_SEGMENTS_IN])


def refused_at_once(data: bytes) -> bool:
    """Whether a connection is closed and there was one SYN, one segment back, and nothing else."""
    return data[_BOTH_WAYS] == _ONE_EACH and data[0] == TCP_CLOSE


def nothing_lost(data: bytes) -> bool:
    """Whether nothing had to be sent twice for a connection, SYN included."""
    return data[_RETRANSMITS] == _NONE


def forgets_connections(release: str) -> bool:
    """Whether a kernel takes back what TCP_INFO counts when a socket is disconnected.

    Older ones left some of it standing. Distributors' patches do not show in the number, so some
    that would do are thought not to.
    """
    found = _RELEASE.match(release)
    return found is not None and (int(found[1]), int(found[2])) >= _FORGETS_SINCE


def _address(sockaddr: bytes) -> str:
    """The address in a struct sockaddr_in or sockaddr_in6; empty when there is none."""
    if len(sockaddr) < _FAMILY.size:
        return ""
    part = _ADDRESS_BY_FAMILY.get(_FAMILY.unpack_from(sockaddr)[0])
    if part is None or len(sockaddr) < part.stop:
        return ""
    return str(ipaddress.ip_address(sockaddr[part]))
