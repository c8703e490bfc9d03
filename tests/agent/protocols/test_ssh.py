"""SSH: the identification line proves a server."""

import struct
from typing import Any

import pytest

from reachmap_agent.protocols import ssh
from reachmap_shared.vocabulary import AnsweredBy, Outcome


@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-Go\r\n",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"SSH-2.0-OpenSSH_for_Windows_8.1\r\n",
        b"SSH-1.99-Cisco-1.25\n",
        b"SSH-2.0-dropbear_2022.83\r\n\0\0\1\xfc\n\x14",
        b"SSH-2.0-" + b"x" * 245 + b"\r\n",
    ],
)
def test_an_identification_is_a_server(wire: Any, line: bytes) -> None:
    """Of any version, with any line end, and with the key exchange right behind."""
    verdict = wire.feed(ssh.check(wire.target()), [line]).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_the_stand_in_identifies_as_rfc_4253_wants(wire: Any) -> None:
    """SSH-protoversion-softwareversion, no minus sign or blank in the latter."""
    assert wire.feed(ssh.stand_in(wire.offer())).sent == b"SSH-2.0-reachmap\r\n"


def test_the_challenge_is_a_comment_and_the_proof_a_goodbye(wire: Any) -> None:
    """Within 255 bytes; SSH_MSG_DISCONNECT in a packet as RFC 4253, 6 wants it."""
    greeting = wire.feed(ssh.stand_in(wire.offer())).sent
    asked = wire.feed(ssh.check(wire.target()), [greeting]).sent
    assert asked == b"SSH-2.0-reachmap " + wire.challenge().text + b"\r\n"
    assert len(asked) <= 255
    packet = wire.feed(ssh.stand_in(wire.offer()), [asked]).result
    length, padding = struct.unpack("!IB", packet[:5])
    assert length == len(packet) - 4 and len(packet) % 8 == 0 and padding >= 4
    kind, reason, size = struct.unpack("!BII", packet[5:14])
    assert (kind, reason) == (1, 11)
    assert wire.challenge().check_text(packet[14 : 14 + size]) is not None
    assert packet[14 + size :] == bytes(4 + padding)
