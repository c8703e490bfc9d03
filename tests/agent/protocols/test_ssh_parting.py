"""How an SSH server is left: one that hears nothing of its client logs an error each time."""

import struct
from typing import Any

import pytest

from reachmap_agent.protocols import ssh
from reachmap_shared.vocabulary import AnsweredBy, Outcome

LINE = b"SSH-2.0-OpenSSH_9.2p1\r\n"


def test_it_says_who_it_is_and_disconnects(wire: Any) -> None:
    """An identification (RFC 4253, 4.2) and one packet (6): SSH_MSG_DISCONNECT, by application."""
    identification, end, packet = wire.feed(ssh.check(wire.target()), [LINE]).sent.partition(
        b"\r\n"
    )
    assert identification == b"SSH-2.0-reachmap" and end
    length, padding = struct.unpack("!IB", packet[:5])
    assert len(packet) == 4 + length and len(packet) % 8 == 0 and padding >= 4
    payload = packet[5 : len(packet) - padding]
    kind, reason, size = struct.unpack("!BII", payload[:9])
    assert (kind, reason, payload[9 : 9 + size]) == (1, 11, b"reachmap")
    assert payload[9 + size :] == bytes(4)  # in no language


@pytest.mark.parametrize("chunks", [[], [b"\0\0\1\xfc\x0a\x14"]])
@pytest.mark.parametrize("closes", [True, False])
def test_how_it_takes_that_is_no_matter(wire: Any, chunks: list[bytes], closes: bool) -> None:
    """Its identification has proven it."""
    verdict = wire.feed(ssh.check(wire.target()), [LINE, *chunks], closes=closes).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_a_stranger_is_told_nothing(wire: Any) -> None:
    """Whoever it is would not understand it."""
    assert wire.feed(ssh.check(wire.target()), [b"220 mail ESMTP\r\n"]).sent == b""
