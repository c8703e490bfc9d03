"""Packets as a tap sees them: which it is to see, and bytes to facts. Pure.

A tap is a packet socket without link-level headers (packet(7), SOCK_DGRAM), so all offsets count
from the IP header. What it is to see is decided in the kernel, by a classic BPF program
(linux/filter.h): segments that begin, end or break a connection with the port, all that have a port
of the diagnosis besides, and ICMP errors. So a busy service costs the tap next to nothing.
"""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reachmap_shared.diagnosis import BLOCK, PacketKind
from reachmap_shared.vocabulary import Transport

SNAP: Final = 128
"""Bytes of each packet: IP, TCP with its options, or ICMP with what it quotes."""

_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_PROTOCOL: Final = {Transport.TCP: _TCP, Transport.UDP: _UDP}
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_V4_HEADER, _V6_HEADER, _TCP_HEADER, _UDP_HEADER, _ICMP_HEADER = 20, 40, 20, 8, 8
_MSS_OPTION: Final = 2
_ERRORS: Final = {_ICMP: (3, 11, 12), _ICMP6: (1, 2, 3, 4)}

_LOAD_HALF, _LOAD_BYTE = 0x28, 0x30
_LOAD_HALF_AT, _LOAD_BYTE_AT = 0x48, 0x50
_LOAD_LENGTH = 0xB1
"""The length of the IPv4 header at an offset, into the index register."""
_EQUAL, _BITS = 0x15, 0x45
_AND, _SHIFT, _SET_INDEX, _RETURN = 0x54, 0x74, 0x01, 0x06

Instruction = tuple[int, int, str, str]
"""Code, operand, and where to go on if it holds and if not; empty for the next."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What matters of one packet."""

    kind: PacketKind
    source: str
    destination: str
    source_port: int
    destination_port: int
    mss: int = 0
    """What a SYN says that it takes; 0 when it says nothing."""
    sender: str = ""
    """Of an ICMP error; the rest is then of the packet that it quotes."""
    sequence: int = 0
    acknowledged: int = 0


def program(transport: Transport, port: int, block: int, own: int) -> bytes:
    """The filter for the port of a flow, from the block of source ports, with a port to try it by.

    Returns:
        An array of struct sock_filter.
    """
    steps: list[tuple[str, Instruction]] = [
        ("", (_LOAD_BYTE, 0, "", "")),
        ("", (_SHIFT, 4, "", "")),
        ("", (_EQUAL, 6, "v6", "")),
        ("", (_EQUAL, 4, "", "no")),
        ("", (_LOAD_HALF, 6, "", "")),
        ("", (_BITS, 0x1FFF, "no", "")),  # a fragment without ports
        ("", (_LOAD_LENGTH, 0, "", "")),
        ("", (_LOAD_BYTE, 9, "", "")),
        *_by_protocol(transport, "4", _ICMP),
        ("v6", (_SET_INDEX, _V6_HEADER, "", "")),
        ("", (_LOAD_BYTE, 6, "", "")),
        *_by_protocol(transport, "6", _ICMP6),
    ]
    for family, icmp in (("4", _ICMP), ("6", _ICMP6)):
        steps += [
            (f"icmp{family}", (_LOAD_BYTE_AT, 0, "", "")),
            *(("", (_EQUAL, kind, "yes", "")) for kind in _ERRORS[icmp]),
            ("", (_RETURN, 0, "", "")),
        ]
    steps += [
        ("try", (_LOAD_HALF_AT, 2, "", "")),
        ("", (_EQUAL, own, "yes", "no" if transport is Transport.TCP else "ports")),
        ("ports", (_LOAD_HALF_AT, 0, "", "")),
        ("", (_EQUAL, port, "outbound", "")),
        ("", (_LOAD_HALF_AT, 2, "", "")),
        ("", (_EQUAL, port, "", "no")),
        ("", (_LOAD_HALF_AT, 0, "", "")),
        ("", (_AND, 0x10000 - BLOCK, "", "")),
        ("", (_EQUAL, block, "yes", "stranger")),
        ("outbound", (_LOAD_HALF_AT, 2, "", "")),
        ("", (_AND, 0x10000 - BLOCK, "", "")),
        ("", (_EQUAL, block, "yes", "stranger")),
    ]
    if transport is Transport.TCP:
        steps += [
            ("stranger", (_LOAD_BYTE_AT, 13, "", "")),
            ("", (_BITS, _SYN | _RST, "yes", "no")),
        ]
    else:
        steps.append(("stranger", (_RETURN, SNAP, "", "")))
    steps += [("yes", (_RETURN, SNAP, "", "")), ("no", (_RETURN, 0, "", ""))]
    return _assembled(steps)


def _by_protocol(transport: Transport, family: str, icmp: int) -> list[tuple[str, Instruction]]:
    return [
        ("", (_EQUAL, icmp, f"icmp{family}", "")),
        ("", (_EQUAL, _UDP, "try", "")),
        ("", (_EQUAL, _PROTOCOL[transport], "ports", "no")),
    ]


def _assembled(steps: Sequence[tuple[str, Instruction]]) -> bytes:
    places = {label: place for place, (label, _) in enumerate(steps) if label}
    code = b""
    for place, (_, (operation, operand, then, otherwise)) in enumerate(steps):
        jumps = (places[label] - place - 1 if label else 0 for label in (then, otherwise))
        code += struct.pack("=HBBI", operation, *jumps, operand)
    return code


def read(data: bytes) -> Packet | None:
    """The facts of one packet, from its IP header on; None of one that does not matter."""
    if not data:
        return None
    found = _ip(data)
    if found is None:
        return None
    protocol, source, destination, body, length = found
    if protocol in _ERRORS:
        return _error(protocol, source, body)
    return _segment(protocol, source, destination, body, length)


def _ip(data: bytes) -> tuple[int, str, str, bytes, int] | None:
    """Protocol, both addresses, what follows the header, and how long that was on the wire."""
    version = data[0] >> 4
    if version == 4 and len(data) >= _V4_HEADER:
        header = (data[0] & 15) * 4
        (total,) = struct.unpack_from("!H", data, 2)
        source, destination = data[12:16], data[16:20]
        protocol = data[9]
    elif version == 6 and len(data) >= _V6_HEADER:
        header = _V6_HEADER
        total = header + struct.unpack_from("!H", data, 4)[0]
        source, destination = data[8:24], data[24:40]
        protocol = data[6]
    else:
        return None
    ends = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination))
    return protocol, *ends, data[header:], total - header


def _error(protocol: int, sender: str, body: bytes) -> Packet | None:
    if len(body) < _ICMP_HEADER or body[0] not in _ERRORS[protocol]:
        return None
    quoted = body[_ICMP_HEADER:]
    found = _ip(quoted) if quoted else None
    if found is None or found[0] not in _PROTOCOL.values() or len(found[3]) < 4:
        return None
    _, source, destination, rest, _ = found
    port, other = struct.unpack_from("!HH", rest)
    return Packet(PacketKind.ICMP_ERROR, source, destination, port, other, sender=sender)


def _segment(
    protocol: int, source: str, destination: str, body: bytes, length: int
) -> Packet | None:
    if protocol == _UDP and len(body) >= _UDP_HEADER:
        port, other = struct.unpack_from("!HH", body)
        return Packet(PacketKind.DATAGRAM, source, destination, port, other)
    if protocol != _TCP or len(body) < _TCP_HEADER:
        return None
    port, other = struct.unpack_from("!HH", body)
    flags, header = body[13], (body[12] >> 4) * 4
    if flags & _RST:
        kind = PacketKind.RST
    elif flags & _SYN:
        kind = PacketKind.SYN_ACK if flags & _ACK else PacketKind.SYN
    elif length > header:
        kind = PacketKind.DATA
    else:
        kind = PacketKind.FIN if flags & _FIN else PacketKind.ACK
    mss = _mss(body[_TCP_HEADER:header]) if flags & _SYN else 0
    numbers = struct.unpack_from("!II", body, 4)
    return Packet(kind, source, destination, port, other, mss, "", *numbers)


def _mss(options: bytes) -> int:
    """The maximum segment size among a SYN's options (RFC 9293, 3.2); 0 when there is none."""
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2:
            return 0
        if options[0] == _MSS_OPTION and len(options) >= 4:
            return int.from_bytes(options[2:4], "big")
        options = options[options[1] :]
    return 0
