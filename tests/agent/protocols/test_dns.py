"""DNS: any response to our own question proves a server, over UDP and over TCP."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.protocols import dns
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

TCP, UDP = Transport.TCP, Transport.UDP

QUESTION = b"\x09localhost\x00\x00\x01\x00\x01"

both = pytest.mark.parametrize("transport", [TCP, UDP])


def asked(wire: Any) -> bytes:
    """The query, as it goes in a datagram."""
    query: bytes = next(dns.check(wire.target(transport=UDP)))
    return query


def verdict_on(wire: Any, answer: bytes, transport: Transport, **how: Any) -> Any:
    """What is made of an answer, framed as its transport wants it."""
    frame = struct.pack("!H", len(answer)) if transport is TCP else b""
    return wire.feed(
        dns.check(wire.target(transport=transport)), [frame + answer] if answer else [], **how
    ).result


def response(query: bytes, flags: int = 0x8000, question: bytes = QUESTION) -> bytes:
    return query[:2] + struct.pack("!5H", flags, bool(question), 0, 0, 0) + question


def test_the_query_is_a_small_one_that_only_the_server_itself_answers(wire: Any) -> None:
    """localhost, A, with no recursion desired; padded to 128 bytes."""
    query = asked(wire)
    assert len(query) == 128
    flags, *counts = struct.unpack("!5H", query[2:12])
    assert (flags, counts) == (0, [1, 0, 0, 1])
    assert query[12:].startswith(QUESTION)
    options = query[12 + len(QUESTION) :]
    assert options.startswith(b"\0" + struct.pack("!H", 41))
    code, size = struct.unpack("!HH", options[11:15])
    assert (code, size) == (12, len(options) - 15)  # padding, to the end


def test_over_tcp_its_length_stands_before_it(wire: Any) -> None:
    """And it is the same query."""
    framed = next(dns.check(wire.target(transport=TCP)))
    assert framed == struct.pack("!H", 128) + asked(wire)


def test_its_number_and_padding_are_the_challenge(wire: Any) -> None:
    """Where nobody is challenged, the padding is empty."""
    query = asked(wire)
    assert query[:2] == wire.challenge().octets[:2]
    assert query[12 + len(QUESTION) + 15 :].startswith(wire.challenge().octets)
    plain = next(dns.check(wire.target(transport=UDP, challenge=None)))
    assert not any(plain[12 + len(QUESTION) + 15 :])


@both
@pytest.mark.parametrize(
    ("code", "word"),
    [(0, "NOERROR"), (1, "FORMERR"), (2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED"), (9, "9")],
)
def test_any_response_is_a_server(wire: Any, transport: Transport, code: int, word: str) -> None:
    """Whatever it says, and whatever other flags it sets."""
    for flags in (0x8000, 0x8480, 0x8180, 0x8200):
        answer = response(asked(wire), flags | code)
        verdict = verdict_on(wire, answer, transport)
        assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
        assert verdict.evidence == (f"answered with a DNS response ({word})",)


@both
@pytest.mark.parametrize("question", [b"", QUESTION.upper(), QUESTION + b"more"])
def test_the_question_comes_back_in_any_form_or_not_at_all(
    wire: Any, transport: Transport, question: bytes
) -> None:
    """A server that could not read it has nothing to repeat."""
    answer = response(asked(wire), question=question)
    assert verdict_on(wire, answer, transport).outcome is Outcome.OPEN


@both
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda query: query, id="our own query"),
        pytest.param(lambda query: response(b"\0\0"), id="another number"),
        pytest.param(lambda query: response(query, 0x0000), id="no response"),
        pytest.param(lambda query: response(query, 0xA800), id="to another kind of query"),
        pytest.param(lambda query: response(query)[:11], id="half a header"),
        pytest.param(
            lambda query: response(query, question=b"\x01a\0\0\x10\0\x03"), id="another question"
        ),
        pytest.param(lambda query: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
    ],
)
def test_anything_else_is_the_wrong_service(wire: Any, transport: Transport, spoil: Any) -> None:
    """A response has to be one, and to what was asked."""
    verdict = verdict_on(wire, spoil(asked(wire)), transport)
    assert verdict.outcome is Outcome.WRONG_SERVICE
    assert "expected a DNS response" in verdict.evidence[0]


def test_silence_over_udp_is_a_timeout_and_over_tcp_is_waited_on(wire: Any) -> None:
    """A datagram may have been lost on either way; a connection was there."""
    assert verdict_on(wire, b"", UDP).outcome is Outcome.TIMEOUT
    assert verdict_on(wire, b"", TCP) is None


def test_over_tcp_half_a_response_is_none(wire: Any) -> None:
    """Wherever it is cut: a proof may have been in what is missing."""
    answer = response(asked(wire))
    framed = struct.pack("!H", len(answer)) + answer
    for end in range(1, len(framed)):
        check = dns.check(wire.target(transport=TCP))
        assert wire.feed(check, [framed[:end]], closes=True).result.outcome is Outcome.RESET
        assert wire.feed(dns.check(wire.target(transport=TCP)), [framed[:end]]).result is None


def test_a_stranger_who_talks_is_not_waited_on(wire: Any) -> None:
    """The first words over TCP would be a length to wait for, were they not looked at."""
    check = dns.check(wire.target(transport=TCP))
    assert wire.feed(check, [b"SSH-2.0-Go\r\n"]).result.outcome is Outcome.WRONG_SERVICE


@both
@pytest.mark.parametrize("size", [1, 100, 1000])
def test_a_listener_is_known_by_its_proof(
    wire: Any, host: str, other_host: str, transport: Transport, size: int
) -> None:
    """Its own or another's."""
    size = 1000 if transport is UDP else size
    for shown, outcome in ((host, Outcome.OPEN), (other_host, Outcome.WRONG_PEER)):
        verdict, _ = wire.meet(
            dns.check(wire.target(transport=transport)),
            dns.stand_in(wire.offer(shown, transport=transport)),
            size,
        )
        assert verdict.outcome is outcome
        assert (verdict.answered_by is AnsweredBy.LISTENER) is (outcome is Outcome.OPEN)


def test_the_stand_in_s_answer_is_one_that_dns_tools_read(wire: Any) -> None:
    """A TXT record to the question, and shorter than the question was."""
    query = asked(wire)
    answer = wire.feed(dns.stand_in(wire.offer(transport=UDP)), [query]).result
    assert len(answer) < len(query)
    assert answer[:2] == query[:2]
    assert struct.unpack("!5H", answer[2:12]) == (0x8000, 1, 1, 0, 0)
    assert answer[12:].startswith(QUESTION + b"\xc0\x0c")
    kind, class_, _, length = struct.unpack("!HHIH", answer[12 + len(QUESTION) + 2 :][:10])
    data = answer[12 + len(QUESTION) + 12 :]
    assert (kind, class_, length, data[0]) == (16, 1, len(data), len(data) - 1)
    assert data[1:].startswith(b"reachmap")
    assert wire.challenge().check(data[9:]) is not None


@given(data=st.binary(max_size=200), transport=st.sampled_from([TCP, UDP]))
def test_the_stand_in_answers_nothing_else(wire: Any, data: bytes, transport: Transport) -> None:
    """So two of them never talk for ever, and nobody's resolver takes one for a server."""
    chunks = [data] if data else []
    heard = wire.feed(dns.stand_in(wire.offer(transport=transport)), chunks, closes=True)
    assert (heard.sent, heard.result) == (b"", b"")


def test_the_stand_in_does_not_answer_an_answer(wire: Any) -> None:
    """Nor a query of somebody else's, nor one without the room that ours has."""
    query = asked(wire)
    for strange in (
        response(query),
        query[:40],
        query[:12] + b"\x09localhosx\0\0\x01\0\x01" + query[27:],
        query[:2] + b"\x80\0" + query[4:],
    ):
        assert wire.feed(dns.stand_in(wire.offer(transport=UDP)), [strange]).result == b""


@given(st.binary(min_size=1, max_size=100), st.sampled_from([TCP, UDP]))
def test_noise_is_no_server(wire: Any, data: bytes, transport: Transport) -> None:
    """Nor does it raise anything."""
    verdict = wire.feed(dns.check(wire.target(transport=transport)), [data], closes=True).result
    assert verdict.outcome in (Outcome.WRONG_SERVICE, Outcome.RESET)
