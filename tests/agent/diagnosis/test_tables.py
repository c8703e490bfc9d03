"""Connections of a port, and programs before the taps: from the kernel's bytes."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.diagnosis import host
from reachmap_agent.diagnosis.tables import (
    EndOfDump,
    Refused,
    connection,
    from_table,
    is_hooked,
    messages,
)
from reachmap_shared.diagnosis import BLOCK, Row, RowState

PORT, FIRST = 7001, 40_000


def diag(
    state: int, peer: bytes, port: int = FIRST + 1, family: int = 2, here: int = PORT
) -> bytes:
    """struct inet_diag_msg."""
    body = bytes([family, state, 0, 0]) + struct.pack("!HH", here, port)
    return body + bytes(16) + peer.ljust(16, b"\0") + bytes(12) + struct.pack("=5I", 0, 7, 8, 0, 0)


MAPPED = bytes(10) + b"\xff\xff\x0a\0\0\1"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (diag(3, b"\x0a\0\0\1"), Row(RowState.HALF_OPEN, "10.0.0.1", FIRST + 1, 7, 8)),
        (diag(1, MAPPED, family=10), Row(RowState.ESTABLISHED, "10.0.0.1", FIRST + 1, 7, 8)),
        (
            diag(6, b"\xfd" + bytes(14) + b"\1", family=10),
            Row(RowState.OTHER, "fd00::1", FIRST + 1, 7, 8),
        ),
        (diag(3, b"\x0a\0\0\1", port=FIRST + BLOCK), None),
        (diag(3, b"\x0a\0\0\1", port=FIRST - 1), None),
        (diag(3, b"\x0a\0\0\1", here=PORT + 1), None),
        (diag(3, b"\x0a\0\0\1", family=1), None),
        (diag(3, b"\x0a\0\0\1")[:-1], None),
    ],
)
def test_connections_of_the_check(body: bytes, expected: Row | None) -> None:
    """Of its port and its source ports, in whatever form the address comes."""
    assert connection(body, PORT, FIRST) == expected


def test_the_table_tells_the_same() -> None:
    """Where netlink is forbidden."""
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue ...\n"
        f"   0: 0200000A:{PORT:04X} 0100000A:{FIRST:04X} 03 00000001:00000002 01:0 0 0 0 0\n"
        f"   1: 0200000A:{PORT:04X} 0100000A:{FIRST + BLOCK:04X} 03 00000000:00000000 01:0 0\n"
        f"   2: 00000000:{PORT:04X} 00000000:0000 0A 00000000:00000000 00:0 0\n"
    )
    assert list(from_table(text, PORT, FIRST)) == [Row(RowState.HALF_OPEN, "10.0.0.1", FIRST, 2, 1)]


def link(attached: bytes) -> bytes:
    inner = struct.pack("=HH", 4 + len(attached), 2) + attached.ljust(4, b"\0")
    return bytes(16) + struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner


def test_a_program_before_the_taps_is_noticed() -> None:
    """XDP sees packets first, and may take them away."""
    assert is_hooked(link(b"\2"))
    assert not is_hooked(link(b"\0"))
    assert not is_hooked(bytes(16))


def test_answers_end_or_are_refused() -> None:
    """As netlink says."""
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    refused = struct.pack("=IHHIIi", 20, 2, 2, 1, 0, -1)
    with pytest.raises(EndOfDump):
        list(messages(done))
    with pytest.raises(Refused):
        list(messages(refused))


@given(st.binary(max_size=300))
def test_damaged_bytes_do_no_harm(data: bytes) -> None:
    """They end, one way or the other."""
    try:
        for body in messages(data):
            connection(body, PORT, FIRST)
            is_hooked(body)
    except (EndOfDump, Refused, struct.error):
        pass


def test_this_kernel_is_understood(port: int) -> None:
    """A connection on loopback is found, with what waits in it; and nobody hides packets here."""
    with socket.create_server(("127.0.0.1", port)) as server:
        with socket.create_connection(("127.0.0.1", port)) as dialler:
            own = dialler.getsockname()[1]
            block = own // BLOCK * BLOCK
            dialler.sendall(b"12345")
            rows = host.connections(port, block)
            accepted, _ = server.accept()
            accepted.close()
    assert [(row.state, row.peer_port) for row in rows] == [(RowState.ESTABLISHED, own)]
    assert host.is_hooked() is not None


def test_this_host_knows_its_addresses_and_ways() -> None:
    """Its own address is its own, another's is not; there is a way to itself."""
    assert host.is_local("127.0.0.1")
    assert not host.is_local("203.0.113.1")
    assert host.route_error("127.0.0.1", "127.0.0.1") == 0
