"""TLS, whatever may be inside: a handshake proves a service, a certificate names a listener."""

from typing import Any

from reachmap_agent.protocols import https, tls
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def test_a_service_is_proven_by_the_handshake(wire: Any) -> None:
    """With another certificate than the listeners'; what it says inside is not waited for."""
    target = wire.target(stand_in_certificate=b"another")
    verdict, _ = wire.meet(tls.check(target), tls.stand_in(wire.offer()))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.evidence[0] == "shook hands over TLSv1.3"


def test_without_listeners_every_certificate_is_a_service_s(wire: Any) -> None:
    """A plan that brings none has no listener to be recognised."""
    verdict, _ = wire.meet(
        tls.check(wire.target(stand_in_certificate=b"")), tls.stand_in(wire.offer())
    )
    assert verdict.answered_by is AnsweredBy.SERVICE


def test_the_listeners_certificate_over_another_protocol_is_no_listener_of_this(wire: Any) -> None:
    """A web stand-in where a plain one is expected says nothing by itself: that is waited out."""
    verdict, _ = wire.meet(tls.check(wire.target()), https.stand_in(wire.offer()))
    assert verdict is None
