"""What an attempt tells of itself."""

import struct
from typing import Any

import pytest

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.kernel import Icmp
from reachmap_agent.wire.exchange import Verdict
from reachmap_agent.wire.proof import Reached
from reachmap_shared.vocabulary import Outcome, Transport


def attempt() -> Attempt:
    """One that has not begun."""
    return Attempt(Transport.TCP, ("192.0.2.1", 80), None, None, reset=True, done=lambda _: None)


def tcp_info(rtt_us: int, retransmits: int) -> bytes:
    """The kernel's structure with no more than that."""
    fields = [0] * 26
    fields[15], fields[23] = rtt_us, retransmits
    return struct.pack("=8x24I32x2I", *fields)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (None, ""),
        (("192.0.2.2", 40_000), "192.0.2.2:40000"),
        (("2001:db8::2", 40_000, 0, 0), "[2001:db8::2]:40000"),
    ],
)
def test_where_it_comes_from(own: Any, words: str) -> None:
    """In words; none before connect has chosen."""
    made = attempt()
    made.own = own
    assert made.local == words


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (tcp_info(250, 0), 250),
        (tcp_info(250, 1), 3_000),  # the lost SYN's second belongs to it
        (tcp_info(0, 0), 3_000),
        (b"", 3_000),
        (bytes(100), 3_000),
    ],
)
def test_the_time_to_connect(info: bytes, expected: int) -> None:
    """The kernel's measure where it has one of the whole; else ours."""
    made = attempt()
    made.started_ns, made.connected_ns, made.tcp_info = 1_000_000, 4_000_000, info
    assert made.connect_us == expected


def test_what_is_learnt_later_counts() -> None:
    """The structure may be read before it is renewed."""
    made = attempt()
    assert made.info is None
    for retransmits in (0, 2):
        made.learn(tcp_info(0, retransmits))
        assert made.info is not None
        assert made.info.retransmits == retransmits


@pytest.mark.parametrize(
    ("its", "smoothly"),
    [
        ({}, True),
        ({"connected_ns": 0}, False),
        ({"verdict": None}, False),
        ({"verdict": Verdict(Outcome.OPEN, reached=Reached(("192.0.2.9", 1), None))}, False),
        ({"tcp_info": tcp_info(250, 1)}, False),
        ({"tcp_info": b""}, True),  # a datagram, or a system that does not tell
        ({"icmp": Icmp(4, 3, 1, "192.0.2.7", 113, 0)}, False),
    ],
    ids=str,
)
def test_what_went_smoothly_leaves_nothing_to_say(its: dict[str, Any], smoothly: bool) -> None:
    """But its verdict: no packet was lost, nobody on the way had a word."""
    made = attempt()
    whole = {"connected_ns": 1, "tcp_info": tcp_info(250, 0), "verdict": Verdict(Outcome.OPEN)}
    for name, value in (whole | its).items():
        setattr(made, name, value)
    assert made.went_smoothly is smoothly


@pytest.mark.parametrize(
    ("info", "lost"), [(tcp_info(1, 0), 0), (tcp_info(1, 3), 3), (b"", 0), (bytes(100), 0)]
)
def test_syns_that_were_lost(info: bytes, lost: int) -> None:
    """As the kernel counts them; none where it does not."""
    made = attempt()
    made.tcp_info = info
    assert made.lost_syns == lost
