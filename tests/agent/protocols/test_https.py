"""HTTP inside TLS: the handshake alone is not enough."""

from typing import Any

import pytest

from reachmap_agent.protocols import http, https, tls
from reachmap_agent.wire.tunnel import stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def served(wire: Any, response: bytes) -> Any:
    """The verdict on a server that answers so inside TLS."""

    def inside() -> Any:
        yield b""
        return response

    verdict, _ = wire.meet(https.check(wire.target()), stand_in_inside(wire.offer(), inside()))
    return verdict


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (404, True), (503, False)])
def test_a_response_is_a_service(wire: Any, status: int, healthy: bool) -> None:
    """As in plain text, with the same view of health."""
    verdict = served(wire, b"HTTP/1.1 %d x\r\n\r\n" % status)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy is healthy


def test_another_protocol_inside_is_the_wrong_service(wire: Any) -> None:
    """It speaks TLS, but not HTTP."""
    assert served(wire, b"220 mail ESMTP\r\n").outcome is Outcome.WRONG_SERVICE
    verdict, _ = wire.meet(https.check(wire.target()), tls.stand_in(wire.offer()))
    assert verdict.outcome is Outcome.WRONG_SERVICE


def test_plain_http_is_no_tls(wire: Any) -> None:
    """The usual mistake: the right program on the wrong port."""
    plain = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    verdict = wire.feed(https.check(wire.target()), [plain]).result
    assert verdict.outcome is Outcome.TLS_FAILURE
    assert verdict.evidence[0].startswith("TLS failed: ")


def test_tls_where_plain_http_is_expected_is_seen(wire: Any) -> None:
    """The other way round: a TLS server answers a request with an alert."""
    alert = bytes.fromhex("15030100020246")
    verdict = wire.feed(http.check(wire.target()), [alert]).result
    assert verdict.outcome is Outcome.WRONG_SERVICE
