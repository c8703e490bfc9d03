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
    TCP_CLOSE,
    TCP_INFO_SIZE,
    TCP_SYN_SENT,
    Icmp,
    TcpInfo,
    forgets_connections,
    nothing_lost,
    read_icmp,
    read_tcp_info,
    refused_at_once,
    reset_came,
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


COUNTED = struct.Struct("=B7x24I32x2I")


def counted(state: int, retransmits: int, segments_out: int, segments_in: int) -> bytes:
    """A struct tcp_info of which only this is set."""
    return COUNTED.pack(state, *[0] * 23, retransmits, segments_out, segments_in)


@pytest.mark.parametrize(
    ("data", "came", "at_once", "unharmed"),
    [
        (counted(TCP_CLOSE, 0, 1, 1), True, True, True),
        (counted(TCP_CLOSE, 0, 1, 0), False, False, True),  # ICMP ended it
        (counted(TCP_CLOSE, 1, 2, 1), True, False, False),  # the second SYN was refused
        (counted(TCP_CLOSE, 0, 1, 2), True, False, True),
        (counted(TCP_CLOSE, 0, 1, 256), True, False, True),
        (counted(TCP_CLOSE, 0, 2, 2), True, False, True),  # made, and then reset
        (counted(TCP_SYN_SENT, 0, 1, 1), False, False, True),
        (counted(TCP_SYN_SENT, 256, 1, 0), False, False, False),
        (ESTABLISHED, False, False, True),
    ],
)
def test_what_ended_a_connection(data: bytes, came: bool, at_once: bool, unharmed: bool) -> None:
    """At a glance, by the same counts as the whole structure has."""
    assert (reset_came(data), refused_at_once(data), nothing_lost(data)) == (
        came,
        at_once,
        unharmed,
    )


@pytest.mark.parametrize(
    ("release", "does"),
    [
        ("6.18.44", True),
        ("5.6.0-1-amd64", True),
        ("5.10", True),
        ("10.0.1", True),
        ("5.5.19", False),
        ("5.4.0-200-generic", False),
        ("4.18.0-553.el8_10.x86_64", False),
        ("4.4.0", False),
        ("6", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_which_kernels_forget_a_connection(release: str, does: bool) -> None:
    """By their number; one that cannot be read is none."""
    assert forgets_connections(release) is does


def test_tcp_info_cut_short() -> None:
    """An older kernel's structure says too little; a newer one's more than is read."""
    for length in range(TCP_INFO_SIZE):
        assert read_tcp_info(ESTABLISHED[:length]) is None
        assert not reset_came(counted(TCP_CLOSE, 0, 1, 1)[:length])
        assert not refused_at_once(counted(TCP_CLOSE, 0, 1, 1)[:length])
    assert read_tcp_info(ESTABLISHED + bytes(136)) == read_tcp_info(ESTABLISHED)
