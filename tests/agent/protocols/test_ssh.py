"""SSH: the identification line proves a server."""

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


def test_the_stand_in_identifies_as_rfc_4253_wants(wire: Any, token: str) -> None:
    """SSH-protoversion-softwareversion, no minus sign or blank in the latter, within 255 bytes."""
    line = wire.feed(ssh.stand_in(wire.offer())).result
    assert line == f"SSH-2.0-reachmap_{token}\r\n".encode()
    assert len(line) <= 255
    assert line.count(b"-") == 2 and b" " not in line
