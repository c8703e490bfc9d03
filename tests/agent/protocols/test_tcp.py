"""Plain TCP: open is all that is asked, and a listener is known by its proof."""

from typing import Any

import pytest

from reachmap_agent.protocols import REGISTRY, tcp
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def test_a_service_that_says_nothing_is_open(wire: Any) -> None:
    """Most services wait for the client; who it is stays open."""
    verdict = wire.feed(tcp.check(wire.target())).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, None)
    assert verdict.evidence == ("connected; it says nothing unasked",)


def test_a_service_that_closes_is_open(wire: Any) -> None:
    """It listened; what it thinks of us was not asked."""
    verdict = wire.feed(tcp.check(wire.target()), closes=True).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, None)
    assert verdict.evidence == ("connected; it closed the connection",)


def test_silence_is_not_waited_out() -> None:
    """It is an answer here: waiting for the whole time would make every check slow."""
    assert REGISTRY["tcp"].patience_s is not None
    assert REGISTRY["tcp"].patience_s <= 1


@pytest.mark.parametrize("greeting", [b"hello\r\n", b"\0", b"reachmap?", b"reachmap 1.0\r\n"])
def test_a_greeting_is_a_service_s(wire: Any, greeting: bytes) -> None:
    """Unless it is just ours."""
    verdict = wire.feed(tcp.check(wire.target()), [greeting, b"\r\n"]).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_nothing_is_sent(wire: Any) -> None:
    """No service is fed what it might not like."""
    assert wire.feed(tcp.check(wire.target())).sent == b""


def test_the_stand_in_speaks_first(wire: Any) -> None:
    """A check that sends nothing has nothing else to go by."""
    assert wire.feed(tcp.stand_in(wire.offer())).sent == b"reachmap\r\n"
