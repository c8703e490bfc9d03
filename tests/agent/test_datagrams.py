"""Whoever sends a datagram, on real sockets."""

import asyncio
import socket
import sys
from typing import Any

import pytest

from reachmap_agent import datagrams
from reachmap_agent.protocols import udp
from reachmap_shared.vocabulary import AnsweredBy, Transport

LOOPBACK = "127.0.0.1"

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")


@linux
async def test_a_question_to_all_is_not_answered(open_port: Any, port: int, wire: Any) -> None:
    """A broadcast would have the answers of many come to one."""
    question = wire.feed(udp.check(wire.target())).sent
    made = open_port("udp", addresses=("0.0.0.0",), transport=Transport.UDP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asker.setblocking(False)
        for address in ("127.255.255.255", LOOPBACK):
            asker.sendto(question, (address, port))
        answer, peer = await asyncio.get_running_loop().sock_recvfrom(asker, 1000)
        assert answer.startswith(b"reachmap!") and peer == (LOOPBACK, port)
        assert made.answered == len(made.ends) == 1


async def test_where_the_system_does_not_tell_whom_a_datagram_asked(
    open_port: Any, port: int, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered as well as can be."""
    monkeypatch.setattr(datagrams, "_LINUX", False)
    made = open_port("udp", addresses=("0.0.0.0",), transport=Transport.UDP)
    assert await check(port, "udp", LOOPBACK, Transport.UDP) is AnsweredBy.LISTENER
    assert made.ends[0][0] == ("", port)
