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
    shown,
    signature,
    until,
    wrong_service,
)
from reachmap_shared.vocabulary import AnsweredBy, Outcome


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


@pytest.mark.parametrize(
    ("answer", "outcome", "answered_by"),
    [
        pytest.param(b"hello", Outcome.OPEN, AnsweredBy.SERVICE, id="no token"),
        pytest.param(b"reachmap:0123456789abcdef", Outcome.OPEN, AnsweredBy.LISTENER, id="its own"),
        pytest.param(
            b"SSH-2.0-reachmap_0123456789abcdef\r\n", Outcome.OPEN, AnsweredBy.LISTENER, id="SSH's"
        ),
        pytest.param(b"reachmap:fedcba9876543210", Outcome.WRONG_PEER, None, id="another's"),
        pytest.param(b"reachmap:0123456789abcdef0", Outcome.OPEN, AnsweredBy.SERVICE, id="longer"),
        pytest.param(b"reachmap:0123456789abcde", Outcome.OPEN, AnsweredBy.SERVICE, id="shorter"),
        pytest.param(
            b"reachmap:0123456789ABCDEF", Outcome.OPEN, AnsweredBy.SERVICE, id="upper case"
        ),
        pytest.param(b"reachmap 1.0", Outcome.OPEN, AnsweredBy.SERVICE, id="only the name"),
    ],
)
def test_whose_answer_it_is(
    wire: Any, answer: bytes, outcome: Outcome, answered_by: AnsweredBy | None
) -> None:
    """A token decides, wherever it stands; what merely looks like one does not."""
    for around in (b"%s", b"before %s", b"%s\0after"):
        verdict = answered(wire.target(), around % answer, "a word")
        assert (verdict.outcome, verdict.answered_by) == (outcome, answered_by)
        assert verdict.healthy and verdict.evidence


@given(st.text("0123456789abcdef", min_size=16, max_size=16), st.sampled_from(":_-"))
def test_a_signature_is_recognised(wire: Any, token: str, separator: str) -> None:
    """What a stand-in signs with, a check finds."""
    verdict = answered(wire.target(token=token), signature(token, separator), "a word")
    assert verdict.answered_by is AnsweredBy.LISTENER


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
