"""What checks and stand-ins are made of: reading up to a mark, and judging what was read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire.exchange import (
    MAX_READ,
    Silence,
    Verdict,
    answered,
    proven_text,
    shown,
    until,
    wrong_service,
)
from reachmap_agent.wire.proof import Reached
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def test_the_same_answer_is_the_same_verdict() -> None:
    """So that who has seen it before knows it at a glance."""
    assert answered("a WELCOME") is answered("a WELCOME")
    assert answered("a WELCOME") != answered("no WELCOME")


@given(
    before=st.binary(max_size=50),
    after=st.binary(max_size=5),
    sizes=st.lists(st.integers(1, 20), min_size=1),
)
def test_reading_does_not_depend_on_how_bytes_come(
    wire: Any, before: bytes, after: bytes, sizes: list[int]
) -> None:
    """Up to the mark, and at most one chunk beyond; never less."""
    data = before + b"\r\n" + after
    chunks, rest = [], data
    while rest:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(rest[:size])
        rest = rest[size:]
    heard = wire.feed(until(b"\r\n"), chunks)
    end = data.index(b"\r\n") + 2
    assert data.startswith(heard.result)
    assert end <= len(heard.result) < end + max(sizes)


def test_the_question_is_sent_once(wire: Any) -> None:
    """Before anything is read, and not again with each chunk."""
    heard = wire.feed(until(b"\n", first=b"hello"), [b"a", b"b", b"\n"])
    assert (heard.sent, heard.result) == (b"hello", b"ab\n")


def test_a_mark_that_is_there_already_is_not_waited_for(wire: Any) -> None:
    """One chunk is enough when it holds the mark."""
    assert wire.feed(until(b"\n"), [b"a\nb"]).result == b"a\nb"


@pytest.mark.parametrize("chunks", [[], [b"a"], [b"a", b"b\r"]])
def test_what_is_closed_before_the_mark_is_nothing(wire: Any, chunks: list[bytes]) -> None:
    """Half a line is no line."""
    assert wire.feed(until(b"\r\n"), chunks, closes=True).result == b""


def test_silence_is_for_the_caller(wire: Any) -> None:
    """Only the protocol knows whether it means anything."""
    reading = until(b"\n")
    next(reading)
    reading.send(b"half a li")
    with pytest.raises(Silence):
        reading.throw(Silence())


@pytest.mark.parametrize(
    ("chunks", "read"),
    [
        ([b"HELLO you\n"], b"HELLO you\n"),
        ([b"HE", b"LLO", b" you\n"], b"HELLO you\n"),
        ([b"HELP", b" never asked for\n"], b"HELP"),
        ([b"H", b"i", b"never asked for\n"], b"Hi"),
        ([b"220 mail"], b"220 mail"),
        ([b"\n"], b"\n"),
    ],
)
def test_a_stranger_s_words_are_not_waited_on(wire: Any, chunks: list[bytes], read: bytes) -> None:
    """Reading ends where it can no longer become what was expected."""
    assert wire.feed(until(b"\n", begins=b"HELLO"), chunks).result == read


def test_reading_is_bounded(wire: Any) -> None:
    """Without a mark there is an end all the same."""
    heard = wire.feed(until(b"\n"), [b"x" * 1000] * 100)
    assert MAX_READ <= len(heard.result) < MAX_READ + 1000


def test_only_a_proof_makes_a_listener(wire: Any) -> None:
    """The right one tells what it saw; none at all, and any other, is the wrong peer."""
    challenge = wire.challenge()
    proof = wire.offer().prove_text(challenge.text)
    verdict = proven_text(wire.target(), b"-ERR '" + proof + b"'")
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)
    assert verdict.reached == Reached(("10.0.0.7", 40_001), ("10.0.0.5", 5432))
    others = wire.offer("db-2").prove_text(challenge.text)
    for wrong in (b"", b"reachmap", others, proof[:-1], proof + b"A"):
        verdict = proven_text(wire.target(), wrong)
        assert (verdict.outcome, verdict.answered_by) == (Outcome.WRONG_PEER, None)
        assert verdict.evidence
    assert proven_text(wire.target(challenge=None), proof).outcome is Outcome.WRONG_PEER


def test_a_wrong_answer_and_none_are_told_apart() -> None:
    """Another protocol is one thing, a closed connection another; both say what was expected."""
    assert wrong_service("a word", b"noise\r\n") == Verdict(
        Outcome.WRONG_SERVICE, ("expected a word, got 'noise'",)
    )
    assert wrong_service("a word", b"") == Verdict(
        Outcome.RESET, ("the connection was closed without a word",)
    )


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(answer: bytes) -> None:
    """In one line, of bounded length, without control characters or secrets of the terminal."""
    text = shown(answer)
    assert text.isprintable() and text.isascii()
    assert len(text) <= 60 * 4 + 6
    assert text.endswith(" ...") is (len(answer) > 60)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"220 mail ESMTP\r\n", "'220 mail ESMTP'"),
        (b"a\r\nb\x1b[31m", "'a..b.[31m'"),
        (b"\xff\x00", r"'\xff.'"),
        (b"x" * 61, f"'{'x' * 60}' ..."),
    ],
)
def test_how_answers_are_shown(answer: bytes, text: str) -> None:
    """As somebody would write them down."""
    assert shown(answer) == text
