"""PostgreSQL that is willing to speak TLS: the handshake is made, and nothing is said inside."""

from collections.abc import Generator
from typing import Any

import pytest

from reachmap_agent.protocols import postgres
from reachmap_agent.wire.tunnel import stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome

Said = Generator[bytes, bytes, bytes]


def server(wire: Any, heard: list[bytes]) -> Said:
    """Willing, and waiting for a startup message that does not come."""

    def inside() -> Said:
        heard.append((yield b""))
        return b""

    asked = b""
    while len(asked) < len(postgres.SSL_REQUEST):
        asked += yield b""
    assert asked == postgres.SSL_REQUEST
    tunnel = stand_in_inside(wire.offer(), inside())
    chunk = yield b"S"
    next(tunnel)
    try:
        while True:
            chunk = yield tunnel.send(chunk)
    except StopIteration as stop:
        return bytes(stop.value)


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_hands_are_shaken_and_nothing_is_said(wire: Any, size: int) -> None:
    """The server hears the end of TLS, as of a client that thought better of it."""
    heard: list[bytes] = []
    target = wire.target(stand_in_certificate=b"")
    verdict, _ = wire.meet(postgres.check(target), server(wire, heard), size, closes=True)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert heard == [b""]
    willing, version, certificate, names = verdict.evidence
    assert willing == "answered with PostgreSQL's answer to SSLRequest (willing)"
    assert version == "shook hands over TLSv1.3"
    assert certificate.startswith("certificate of reachmap listener, valid until 2126-")
    assert names == "the certificate is not for db-1.example: it names no host"
    assert verdict.certificate_until is not None


@pytest.mark.parametrize("chunks", [[], [b"N"], [b"EFATAL\0\0"], [bytes.fromhex("15030300020228")]])
def test_a_handshake_that_fails_is_a_tls_failure(wire: Any, chunks: list[bytes]) -> None:
    """Of a PostgreSQL server: that it was willing is told."""
    heard = wire.feed(postgres.check(wire.target()), [b"S", *chunks], closes=True)
    assert heard.result.outcome is Outcome.TLS_FAILURE
    assert "(willing)" in heard.result.evidence[0]
    assert heard.result.evidence[1].startswith("TLS failed: ")


def test_a_handshake_that_does_not_go_on_is_waited_out(wire: Any) -> None:
    """It stalled, half-way."""
    assert wire.feed(postgres.check(wire.target()), [b"S"]).result is None


@pytest.mark.parametrize("answer", [b"S\x15\x03\x03", b"SELECT", b"NS"])
def test_what_stands_behind_the_byte_was_put_there_by_somebody_else(
    wire: Any, answer: bytes
) -> None:
    """In the clear, before the handshake (CVE-2021-23222)."""
    verdict = wire.feed(postgres.check(wire.target()), [answer]).result
    assert verdict.outcome is Outcome.WRONG_SERVICE


@pytest.mark.parametrize("answer", [b"S", b"N"])
def test_without_a_context_the_byte_is_all(wire: Any, answer: bytes) -> None:
    """It proves a server by itself."""
    heard = wire.feed(postgres.check(wire.target(tls=None)), [answer])
    assert (heard.sent, heard.result.outcome) == (postgres.SSL_REQUEST, Outcome.OPEN)
