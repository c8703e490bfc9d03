"""Who listens on which port, as the Linux kernel tells it to anyone: bytes to facts. Pure.

One request to netlink's sock_diag (sock_diag(7)) lists every listening socket with its owner and
control group, without privilege and in well under a millisecond. Where a sandbox forbids netlink,
the tables under /proc/net (proc(5)) tell all but the control group.
"""

import ipaddress
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FAMILIES: Final = {2: slice(8, 12), 10: slice(8, 24)}
"""AF_INET and AF_INET6, with where a reply holds the local address."""

TCP: Final = 6
UDP: Final = 17

_LISTENING: Final = {TCP: 1 << 10, UDP: 1 << 7}
"""Bits of TCP_LISTEN and, for UDP sockets that nobody has connected, TCP_CLOSE."""

_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR: Final = 2  # NLMSG_ERROR
_DONE: Final = 3  # NLMSG_DONE
_CGROUP_ID: Final = 21  # INET_DIAG_CGROUP_ID
_V6_ONLY: Final = 11  # INET_DIAG_SKV6ONLY

_TABLE_STATE: Final = {TCP: "0A", UDP: "07"}
_TABLE_FIELDS: Final = 10

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FIXED: Final = 72  # struct inet_diag_msg


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening socket."""

    address: str
    """Where it is bound; `0.0.0.0` or `::` for everywhere."""
    port: int
    both_families: bool
    """Whether a socket bound to `::` takes IPv4 connections as well."""
    uid: int | None
    """Its owner; None from a system that does not say."""
    inode: int
    """Linux's number for the socket; 0 elsewhere."""
    cgroup: int | None
    """The control group's inode; None from a kernel that does not say."""
    pid: int | None = None
    """The process that has it; None from a system that does not say, such as Linux."""

    def covers(self, address: str, port: int) -> bool:
        """Whether a listener bound to `address` and `port` would be in its way."""
        if port != self.port:
            return False
        mine, theirs = ipaddress.ip_address(self.address), ipaddress.ip_address(address)
        if mine.version != theirs.version:
            return self.both_families and mine.is_unspecified
        return mine == theirs or mine.is_unspecified or theirs.is_unspecified


class EndOfDump(Exception):
    """The kernel has said all."""


def request(family: int, protocol: int) -> bytes:
    """Ask for all listening sockets of one family and protocol."""
    body = struct.pack("=BBBBI", family, protocol, 0, 0, _LISTENING[protocol]) + bytes(48)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body


def read(data: bytes) -> Iterator[Listening]:
    """The sockets in one datagram of the answer.

    Raises:
        EndOfDump: After the last.
        OSError: What the kernel answered instead.
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
            raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag refused")
        if len(body) >= _FIXED and body[0] in FAMILIES:
            yield _socket(body)
        offset += (length + 3) & ~3


def read_table(text: str, protocol: int) -> Iterator[Listening]:
    """The listening sockets in a table under /proc/net."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < _TABLE_FIELDS or fields[3] != _TABLE_STATE[protocol]:
            continue
        host, _, port = fields[1].partition(":")
        address = _from_words(host)
        yield Listening(
            address=str(address),
            port=int(port, 16),
            # It may be for IPv6 alone, which the table does not say. Rather keep away from a port.
            both_families=address.version == 6,
            uid=int(fields[7]),
            inode=int(fields[9]),
            cgroup=None,
        )


def _from_words(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the tables have it: in words of the machine's own byte order."""
    words = (int(text[start : start + 8], 16) for start in range(0, len(text), 8))
    return ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))


def _socket(body: bytes) -> Listening:
    attributes = dict(_attributes(body[_FIXED:]))
    (port,) = struct.unpack_from("!H", body, 4)
    uid, inode = struct.unpack_from("=II", body, 64)
    address = ipaddress.ip_address(body[FAMILIES[body[0]]])
    cgroup = attributes.get(_CGROUP_ID)
    return Listening(
        address=str(address),
        port=port,
        both_families=address.version == 6 and attributes.get(_V6_ONLY) == b"\0",
        uid=uid,
        inode=inode,
        cgroup=int.from_bytes(cgroup, "little") if cgroup else None,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
