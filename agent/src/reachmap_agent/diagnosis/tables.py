"""Connections of one port, and programs before the taps, as netlink tells: bytes to facts. Pure.

sock_diag(7) lists all connections of a local port in one answer, those half open among them. Where
a sandbox forbids netlink, /proc/net/tcp has them too. rtnetlink(7) says of each interface whether
an XDP program sits on it.
"""

import ipaddress
import struct
import sys
from collections.abc import Iterator
from typing import Final

from reachmap_agent.sockdiag import FAMILIES, TCP
from reachmap_shared.diagnosis import BLOCK, Row, RowState

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_GET_LINK: Final = 18  # RTM_GETLINK
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR: Final = 2
_DONE: Final = 3
_LISTENING: Final = 10
_ALL_BUT_LISTENING: Final = 0xFFFFFFFF & ~(1 << _LISTENING)
_FIXED: Final = 72  # struct inet_diag_msg
_PEER: Final = {2: slice(24, 28), 10: slice(24, 40)}
_LINK_FIXED: Final = 16  # struct ifinfomsg
_XDP: Final = 43  # IFLA_XDP
_XDP_ATTACHED: Final = 2  # IFLA_XDP_ATTACHED
_TYPE: Final = 0x3FFF

_STATES: Final = {1: RowState.ESTABLISHED, 3: RowState.HALF_OPEN}

_QUEUES: Final = 56  # idiag_rqueue, idiag_wqueue
_TABLE_FIELDS: Final = 5


class Refused(OSError):
    """The kernel's answer to a request was an error."""


class EndOfDump(Exception):
    """The kernel has said all."""


def ask_connections(family: int, port: int) -> bytes:
    """Ask for all connections of a local TCP port."""
    body = struct.pack("=BBBBI", family, TCP, 0, 0, _ALL_BUT_LISTENING)
    body += port.to_bytes(2, "big") + bytes(46)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _DUMP, 1, 0) + body


def ask_links() -> bytes:
    """Ask for all network interfaces."""
    return _HEADER.pack(_HEADER.size + _LINK_FIXED, _GET_LINK, _DUMP, 1, 0) + bytes(_LINK_FIXED)


def messages(data: bytes) -> Iterator[bytes]:
    """The bodies in one datagram of an answer.

    Raises:
        EndOfDump: After the last.
        Refused: When the kernel answers with an error.
    """
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        body = data[offset + _HEADER.size : offset + length]
        if kind == _DONE:
            raise EndOfDump
        if kind == _ERROR:
            raise Refused(-struct.unpack_from("=i", body)[0], "netlink refused")
        yield body
        offset += (length + 3) & ~3


def connection(body: bytes, port: int, block: int) -> Row | None:
    """A connection of the port from the block of source ports; None when it is another."""
    if len(body) < _FIXED or body[0] not in FAMILIES:
        return None
    here, there = struct.unpack_from("!HH", body, 4)
    if here != port or not block <= there < block + BLOCK:
        return None
    peer = _plain(ipaddress.ip_address(body[_PEER[body[0]]]))
    unread, unacked = struct.unpack_from("=II", body, _QUEUES)
    return Row(_STATES.get(body[1], RowState.OTHER), peer, there, unread, unacked)


def from_table(text: str, port: int, block: int) -> Iterator[Row]:
    """The same, from a table under /proc/net."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < _TABLE_FIELDS:
            continue
        here = int(fields[1].rpartition(":")[2], 16)
        host, _, number = fields[2].partition(":")
        there, state = int(number, 16), int(fields[3], 16)
        if here == port and block <= there < block + BLOCK and state != _LISTENING:
            words = (int(host[at : at + 8], 16) for at in range(0, len(host), 8))
            peer = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
            unacked, _, unread = fields[4].partition(":")
            found = _STATES.get(state, RowState.OTHER)
            yield Row(found, _plain(peer), there, int(unread, 16), int(unacked, 16))


def is_hooked(body: bytes) -> bool:
    """Whether an XDP program sits on the interface that this is about."""
    for kind, value in _attributes(body[_LINK_FIXED:]):
        if kind == _XDP:
            attached = dict(_attributes(value)).get(_XDP_ATTACHED, b"\0")
            return attached[:1] != b"\0"
    return False


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """In its own family's form: a socket for both has IPv4 peers in the form of IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
