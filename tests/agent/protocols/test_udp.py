"""UDP: an answer proves, silence does not, and nobody is amplified."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.protocols import udp
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def question(wire: Any) -> bytes:
    sent: bytes = wire.feed(udp.check(wire.target())).sent
    return sent


def test_a_check_asks_once(wire: Any) -> None:
    """One datagram in, one datagram out; more would be a flood where nothing answers."""
    heard = wire.feed(udp.check(wire.target()), [b"answer"])
    assert heard.sent.count(b"reachmap?") == 1


def test_silence_is_a_time_out(wire: Any) -> None:
    """It may be a firewall, or a service with nothing to say to strangers: nobody knows."""
    verdict = wire.feed(udp.check(wire.target())).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.TIMEOUT, None)
    assert verdict.evidence


@pytest.mark.parametrize("answer", [b"x", b"\0" * 1400, b"", b"reachmap:0123"])
def test_any_answer_proves_a_service(wire: Any, answer: bytes) -> None:
    """Even an empty datagram has come the whole way."""
    verdict = wire.feed(udp.check(wire.target()), [answer]).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_the_destination_s_own_listener_is_known(wire: Any) -> None:
    """In one exchange of datagrams."""
    verdict, _ = wire.meet(udp.check(wire.target()), udp.stand_in(wire.offer()))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)


def test_the_stand_in_answers_the_question_and_nothing_longer(wire: Any) -> None:
    """With a forged source address nobody gets more than was sent in their name."""
    asked = question(wire)
    answer = wire.feed(udp.stand_in(wire.offer()), [asked]).result
    assert 0 < len(answer) <= len(asked)


@given(st.binary(max_size=100))
def test_the_stand_in_is_silent_to_everything_else(wire: Any, datagram: bytes) -> None:
    """Two listeners can never keep each other talking either."""
    assert datagram == question(wire) or (
        wire.feed(udp.stand_in(wire.offer()), [datagram]).result == b""
    )


@pytest.mark.parametrize("change", [lambda q: q[:-1], lambda q: q + b".", lambda q: q.upper()])
def test_the_question_counts_only_whole(wire: Any, change: Any) -> None:
    """A shorter one could be answered with more than it is."""
    assert wire.feed(udp.stand_in(wire.offer()), [change(question(wire))]).result == b""


def test_two_stand_ins_do_not_talk_to_each_other(wire: Any) -> None:
    """One's answer, forged to come from the other, ends there."""
    answer = wire.feed(udp.stand_in(wire.offer()), [question(wire)]).result
    assert wire.feed(udp.stand_in(wire.offer()), [answer]).result == b""
