"""A host's counters: as the kernel writes them, and how far they grew."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.diagnosis.counters import FILES, grown, parse
from reachmap_shared.diagnosis import Counters

SNMP = """Ip: Forwarding DefaultTTL InReceives InDelivers OutNoRoutes ForwDatagrams
Ip: 1 64 {0} {1} {2} {3}
Tcp: RtoAlgorithm MaxConn OutRsts
Tcp: 1 -1 {4}
"""
SNMP6 = "Ip6InReceives \t10\nIp6InDelivers \t4\nIp6OutForwDatagrams 1\n"


def test_both_forms_are_read() -> None:
    """Pairs of lines, and one number a line."""
    found = parse(SNMP.format(100, 90, 0, 0, 7) + SNMP6)
    assert found["Ip.InReceives"] == 100
    assert found["Tcp.MaxConn"] == -1
    assert found["Tcp.OutRsts"] == 7
    assert found["Ip6InReceives"] == 10


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((100, 90, 0, 0, 7), Counters()),
        ((110, 95, 0, 0, 7), Counters(not_delivered=5)),
        ((110, 95, 0, 5, 7), Counters(forwarded=5)),
        ((100, 90, 3, 0, 9), Counters(no_route=3, resets_out=2)),
        ((100, 95, 0, 0, 7), Counters()),
        ((0, 0, 0, 0, 0), Counters()),
    ],
)
def test_how_far_they_grew(after: tuple[int, ...], expected: Counters) -> None:
    """What came in and was neither delivered nor forwarded is lost; nothing grows backwards."""
    before = parse(SNMP.format(100, 90, 0, 0, 7))
    assert grown(before, parse(SNMP.format(*after)), 4) == expected


def test_each_family_has_its_own() -> None:
    """IPv6 counts for itself."""
    assert grown({}, parse(SNMP6), 6).not_delivered == 5
    assert grown({}, parse(SNMP6), 4).not_delivered == 0


def test_this_kernels_own_are_read() -> None:
    """Whatever is counted for both families is there by the name that is looked for."""
    found: dict[str, int] = {}
    for name in FILES:
        path = Path("/proc/thread-self/net") / name
        if path.exists():
            found |= parse(path.read_text())
    for name in ("Ip.InReceives", "Tcp.OutRsts", "TcpExt.ListenOverflows", "Udp.NoPorts"):
        assert name in found
    assert {"TcpExt.TCPRetransFail", "Icmp.OutDestUnreachs"} <= set(found)


@given(st.text())
def test_anything_else_does_no_harm(text: str) -> None:
    """A file of another form gives nothing, or nonsense, but no error."""
    assert all(isinstance(value, int) for value in parse(text).values())
