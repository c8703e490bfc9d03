"""The kernel's structures, byte for byte as Linux gave them, and every way to cut them short."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.kernel import (
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_IP,
    SOL_IPV6,
    TCP_INFO_SIZE,
    Icmp,
    TcpInfo,
    read_icmp,
    read_tcp_info,
    segments_in,
)

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="the bytes here are of a little-endian machine"
)

V4, V6 = (SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)

# From the error queue of a datagram socket whose peer had closed its port.
PORT_UNREACHABLE_4 = bytes.fromhex(
    "6f000000 02 03 03 00 00000000 00000000 0200 0000 7f000001 0000000000000000"
)
PORT_UNREACHABLE_6 = bytes.fromhex(
    "6f000000 03 01 04 00 00000000 00000000"
    "0a00 0000 00000000 00000000000000000000000000000001 00000000"
)
TOO_BIG_4 = bytes.fromhex(
    "5a000000 02 03 04 00 14050000 00000000 0200 0000 0a000102 0000000000000000"
)
TOO_BIG_6 = bytes.fromhex(
    "5a000000 03 02 00 00 00050000 00000000"
    "0a00 0000 00000000 fd000000000000000000000000000102 00000000"
)
PROHIBITED = bytes.fromhex(
    "71000000 02 03 0d 00 00000000 00000000 0200 0000 0a000102 0000000000000000"
)
LOCAL = bytes.fromhex("5a000000 01 00 00 00 dc050000 00000000 0000 0000 00000000 0000000000000000")


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (V4, PORT_UNREACHABLE_4, Icmp(4, 3, 3, "127.0.0.1", 111, 0)),
        (V6, PORT_UNREACHABLE_6, Icmp(6, 1, 4, "::1", 111, 0)),
        (V4, TOO_BIG_4, Icmp(4, 3, 4, "10.0.1.2", 90, 1300)),
        (V6, TOO_BIG_6, Icmp(6, 2, 0, "fd00::102", 90, 1280)),
        (V4, PROHIBITED, Icmp(4, 3, 13, "10.0.1.2", 113, 0)),
        (V4, LOCAL, None),
        (V4, PORT_UNREACHABLE_4[:16], Icmp(4, 3, 3, "", 111, 0)),
        ((SOL_IP, 8), PORT_UNREACHABLE_4, None),
        ((1, IP_RECVERR), PORT_UNREACHABLE_4, None),
    ],
)
def test_an_error_queue(kind: tuple[int, int], data: bytes, expected: Icmp | None) -> None:
    """What the network said, and who; what this host says to itself is no ICMP error."""
    assert read_icmp([(*kind, data)]) == expected


def test_the_first_icmp_error_of_a_message_counts() -> None:
    """Other control messages may stand around it."""
    others = [(SOL_IP, 2, struct.pack("=I", 64)), (*V4, LOCAL)]
    expected = Icmp(4, 3, 13, "10.0.1.2", 113, 0)
    assert read_icmp([*others, (*V4, PROHIBITED), (*V4, PORT_UNREACHABLE_4)]) == expected
    assert read_icmp(others) is None
    assert read_icmp([]) is None


@pytest.mark.parametrize("data", [PORT_UNREACHABLE_4, PORT_UNREACHABLE_6, TOO_BIG_4, TOO_BIG_6])
@pytest.mark.parametrize("kind", [V4, V6])
def test_an_error_cut_short(data: bytes, kind: tuple[int, int]) -> None:
    """At no length does it raise, and it invents no address."""
    whole = read_icmp([(*kind, data)])
    assert whole is not None
    for length in range(len(data)):
        cut = read_icmp([(*kind, data[:length])])
        assert cut is None or cut.offender in ("", whole.offender)
        assert (cut is None) == (length < 16)


@given(st.lists(st.tuples(st.sampled_from([0, 41]), st.sampled_from([11, 25]), st.binary())))
def test_no_error_queue_raises(ancillary: list[tuple[int, int, bytes]]) -> None:
    """Whatever bytes there are."""
    read_icmp(ancillary)


# From a connection over loopback that has said nothing yet.
ESTABLISHED = bytes.fromhex(
    "010000000007aa01400d030000000000e57f00001802000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000ffff0000d7ff00001300000009000000ffffff7f0a000000cbff000003000000000000"
    "00d7ff0000000000007f7556770b000000ffffffffffffffff010000000000000000000000000000000200000001000"
    "000"
)


def test_tcp_info() -> None:
    """Each field from its place."""
    assert len(ESTABLISHED) == TCP_INFO_SIZE
    assert read_tcp_info(ESTABLISHED) == TcpInfo(
        rtt_us=19,
        retransmits=0,
        segments_out=2,
        segments_in=1,
        unacked=0,
        pmtu=65535,
        retransmitted=0,
    )


def test_each_field_of_tcp_info_is_its_own() -> None:
    """A structure in which every field has another value (linux/tcp.h)."""
    data = struct.pack("=8x24I32x2I", *range(100, 126))
    assert read_tcp_info(data) == TcpInfo(
        rtt_us=115,
        retransmits=123,
        segments_out=124,
        segments_in=125,
        unacked=104,
        pmtu=113,
        retransmitted=107,
    )


def test_segments_in() -> None:
    """The same count as the whole structure has, at a glance."""
    data = struct.pack("=8x24I32x2I", *range(100, 126))
    assert segments_in(data) == 125
    assert segments_in(ESTABLISHED) == 1


def test_tcp_info_cut_short() -> None:
    """An older kernel's structure says too little; a newer one's more than is read."""
    for length in range(TCP_INFO_SIZE):
        assert read_tcp_info(ESTABLISHED[:length]) is None
        assert segments_in(ESTABLISHED[:length]) == 0
    assert read_tcp_info(ESTABLISHED + bytes(136)) == read_tcp_info(ESTABLISHED)
