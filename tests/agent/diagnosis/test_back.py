"""The way back: the segment is the very answer, and whoever asked is all that it is sent to."""

import asyncio
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.diagnosis.back import BackWalk, segment
from reachmap_agent.diagnosis.packets import Packet, read
from reachmap_shared.diagnosis import Met, PacketKind

ports, numbers = st.integers(1, 65535), st.integers(0, 2**32 - 1)


def answer(source: str, destination: str, port: int, other: int, *numbers: int) -> Packet:
    return Packet(PacketKind.SYN_ACK, source, destination, port, other, 0, "", *numbers)


@given(st.booleans(), st.data(), ports, ports, numbers, numbers, st.integers(0, 65535))
def test_the_segment_is_sound(
    is_v6: bool,
    data: st.DataObject,
    port: int,
    other: int,
    sequence: int,
    acknowledged: int,
    window: int,
) -> None:
    """A tap reads it as the answer that it is, and its checksum is right (RFC 9293, 3.1)."""
    source, destination = (str(data.draw(st.ip_addresses(v=6 if is_v6 else 4))) for _ in range(2))
    given = answer(source, destination, port, other, sequence, acknowledged)
    made = segment(given, window)
    ends = b"".join(ipaddress.ip_address(end).packed for end in (source, destination))
    checked = ends + struct.pack("!II", socket.IPPROTO_TCP, len(made)) + made
    total = sum(int.from_bytes(checked[at : at + 2], "big") for at in range(0, len(checked), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    if is_v6:
        header = struct.pack("!IHBB", 6 << 28, len(made), socket.IPPROTO_TCP, 64) + ends
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(made), 0, 0, 64, 6, 0) + ends
    assert read(header + made) == given


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_it_comes_to_who_asked(address: str, port: int) -> None:
    """Whose kernel says that it knows of no such connection; then the walk is over."""
    try:
        walk = BackWalk(answer(address, address, port, port + 1, 7, 8))
    except PermissionError:
        pytest.skip("raw sockets need CAP_NET_RAW")
    try:
        async with asyncio.timeout(5):
            while walk.goes_on:
                await asyncio.sleep(0.01)
    finally:
        walk.close()
    assert [(hop.ttl, hop.met, hop.by) for hop in walk.hops()] == [(1, Met.RST, address)]


async def test_where_it_may_not_be_walked_that_is_an_error(port: int) -> None:
    """From an address that is none of this host's, say."""
    with pytest.raises(OSError, match=r".+"):
        BackWalk(answer("192.0.2.1", "192.0.2.2", port, port + 1))
