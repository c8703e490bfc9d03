"""What a tap sees: the filter as the kernel runs it, and packets from their bytes."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.diagnosis.packets import SNAP, Packet, program, read
from reachmap_shared.diagnosis import BLOCK, PacketKind
from reachmap_shared.vocabulary import Transport

PORT, FIRST, OWN = 7001, 40_000 // BLOCK * BLOCK, 50_999
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ip(
    protocol: int, body: bytes, version: int = 4, fragment: int = 0, options: bytes = b""
) -> bytes:
    """A packet from 10.0.0.1 to 10.0.0.2, or from fd00::1 to fd00::2."""
    if version == 4:
        ends = b"".join(ipaddress.ip_address(f"10.0.0.{host}").packed for host in (1, 2))
        length = 20 + len(options)
        head = struct.pack(
            "!BBHHHBBH", 0x40 + length // 4, 0, length + len(body), 0, fragment, 9, protocol, 0
        )
        return head + ends + options + body
    ends = b"".join(ipaddress.ip_address(f"fd00::{host}").packed for host in (1, 2))
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 9) + ends + body


def tcp(
    source: int, destination: int, flags: int, options: bytes = b"", payload: bytes = b""
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", source, destination, 1, 0, offset, flags, 1000, 0, 0)
    return head + options + payload


def udp(source: int, destination: int) -> bytes:
    return struct.pack("!HHHH", source, destination, 8, 0)


def passes(code: bytes, packet: bytes) -> int:
    """What the filter says: classic BPF, as in the kernel's net/core/filter.c."""
    steps = list(struct.iter_unpack("=HBBI", code))
    accumulator = index = place = 0
    while True:
        operation, then, otherwise, operand = steps[place]
        place += 1
        at = operand + (index if operation in (0x48, 0x50) else 0)
        match operation:
            case 0x06:
                return int(operand)
            case 0x28 | 0x48:
                if at + 2 > len(packet):
                    return 0
                (accumulator,) = struct.unpack_from("!H", packet, at)
            case 0x30 | 0x50:
                if at + 1 > len(packet):
                    return 0
                accumulator = packet[at]
            case 0xB1:
                index = 4 * (packet[operand] & 15)
            case 0x01:
                index = operand
            case 0x54:
                accumulator &= operand
            case 0x74:
                accumulator >>= operand
            case 0x15:
                place += then if accumulator == operand else otherwise
            case 0x45:
                place += then if accumulator & operand else otherwise
            case _:
                raise AssertionError(hex(operation))


OURS, STRANGER = FIRST + 5, FIRST + BLOCK
ICMP_ERROR = b"\x03\x01" + bytes(6)
ICMP6_ERROR = b"\x01\x03" + bytes(6)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("protocol", "body", "through"),
    [
        # Ours: all of it, both ways.
        (6, tcp(OURS, PORT, SYN), True),
        (6, tcp(OURS, PORT, ACK | PSH, payload=b"!"), True),
        (6, tcp(PORT, OURS, ACK), True),
        # Strangers': what begins and what breaks.
        (6, tcp(STRANGER, PORT, SYN), True),
        (6, tcp(PORT, STRANGER, RST), True),
        (6, tcp(STRANGER, PORT, ACK), False),
        (6, tcp(PORT, STRANGER, ACK | PSH), False),
        # Others'.
        (6, tcp(OURS, PORT + 1, SYN), False),
        (6, tcp(OURS, OURS, SYN), False),
        (17, udp(OURS, PORT), False),
        (17, udp(OURS, OWN), True),
        (47, bytes(40), False),
    ],
)
def test_what_the_filter_lets_through(
    version: int, protocol: int, body: bytes, through: bool
) -> None:
    """Of a TCP port, in both families."""
    code = program(Transport.TCP, PORT, FIRST, OWN)
    assert passes(code, ip(protocol, body, version)) == (SNAP if through else 0)


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_of_a_port_are_let_through(version: int) -> None:
    """All of them: the source's port may be another by now."""
    code = program(Transport.UDP, PORT, FIRST, OWN)
    for body in (udp(OURS, PORT), udp(PORT, OURS), udp(STRANGER, PORT), udp(1, OWN)):
        assert passes(code, ip(17, body, version))
    for protocol, body in ((17, udp(OURS, 53)), (6, tcp(OURS, PORT, SYN))):
        assert not passes(code, ip(protocol, body, version))


def test_icmp_errors_and_no_other_icmp() -> None:
    """Pings and neighbours' talk are nobody's fault."""
    code = program(Transport.TCP, PORT, FIRST, OWN)
    assert passes(code, ip(1, ICMP_ERROR))
    assert passes(code, ip(58, ICMP6_ERROR, 6))
    assert not passes(code, ip(1, b"\x08\0" + bytes(6)))
    assert not passes(code, ip(58, b"\x87\0" + bytes(6), 6))


def test_a_fragment_without_ports_is_let_go() -> None:
    """What stands where ports would be is payload."""
    code = program(Transport.TCP, PORT, FIRST, OWN)
    assert not passes(code, ip(6, tcp(OURS, PORT, SYN), fragment=100))
    assert passes(code, ip(6, tcp(OURS, PORT, SYN), options=bytes(8)))


MSS = b"\1\1\2\4\x04\x4c"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("body", "kind", "mss"),
    [
        (tcp(1, 2, SYN, MSS.ljust(8, b"\0")), PacketKind.SYN, 1100),
        (tcp(1, 2, SYN), PacketKind.SYN, 0),
        (tcp(1, 2, SYN | ACK, MSS.ljust(8, b"\0")), PacketKind.SYN_ACK, 1100),
        (tcp(1, 2, RST | ACK), PacketKind.RST, 0),
        (tcp(1, 2, ACK), PacketKind.ACK, 0),
        (tcp(1, 2, ACK | FIN), PacketKind.FIN, 0),
        (tcp(1, 2, ACK | PSH, payload=b"x"), PacketKind.DATA, 0),
    ],
)
def test_segments_are_told_apart(version: int, body: bytes, kind: PacketKind, mss: int) -> None:
    """By their flags, and by whether there is payload."""
    ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    assert read(ip(6, body, version)) == Packet(kind, *ends, 1, 2, mss, sequence=1)


def test_payload_beyond_what_was_captured_is_payload() -> None:
    """The IP header says how long the packet was."""
    packet = read(ip(6, tcp(1, 2, ACK, payload=bytes(1000)))[:SNAP])
    assert packet is not None
    assert packet.kind is PacketKind.DATA


def test_an_icmp_error_is_about_what_it_quotes() -> None:
    """And its sender is not one of the flow's ends."""
    error = ip(1, ICMP_ERROR + ip(6, tcp(5, 6, SYN))[:28])
    assert read(error) == Packet(PacketKind.ICMP_ERROR, "10.0.0.1", "10.0.0.2", 5, 6, 0, "10.0.0.1")


@given(st.binary(max_size=160))
def test_whatever_comes_does_no_harm(data: bytes) -> None:
    """Strangers write these bytes."""
    read(data)


@given(st.sampled_from([1, 6, 17, 58]), st.binary(max_size=100), st.sampled_from([4, 6]))
def test_whatever_is_inside_does_no_harm(protocol: int, body: bytes, version: int) -> None:
    """Also below a good header, and in the kernel's hands."""
    packet = ip(protocol, body, version)
    read(packet)
    passes(program(Transport.TCP, PORT, FIRST, OWN), packet)
