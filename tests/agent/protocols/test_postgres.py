"""PostgreSQL: one request for TLS, one byte in answer."""

import struct
from typing import Any

import pytest

from reachmap_agent.protocols import postgres
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def test_the_request_is_the_documented_one(wire: Any) -> None:
    """SSLRequest, and nothing after it: no startup, no login, no line in the log."""
    heard = wire.feed(postgres.check(wire.target()), [b"N"])
    assert heard.sent == bytes.fromhex("00000008 04d2162f")


@pytest.mark.parametrize(("answer", "word"), [(b"S", "willing"), (b"N", "unwilling")])
def test_either_answer_proves_a_server(wire: Any, answer: bytes, word: str) -> None:
    """At once, since no more comes."""
    verdict = wire.feed(postgres.check(wire.target(tls=None)), [answer]).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert word in verdict.evidence[0]


@pytest.mark.parametrize("answer", [b"SS", b"NN", b"SSH-2.0-Go\r\n", b"s", b"\0", b"ERR no\r\n"])
def test_more_or_other_bytes_do_not(wire: Any, answer: bytes) -> None:
    """A server sends just one of the two, before the client goes on."""
    verdict = wire.feed(postgres.check(wire.target()), [answer]).result
    assert verdict.outcome is Outcome.WRONG_SERVICE


def test_the_stand_in_is_unwilling_and_says_so_in_a_well_formed_error(wire: Any) -> None:
    """A client shows it, and does not wait for a database that is not there."""
    said = wire.feed(postgres.stand_in(wire.offer()), [postgres.SSL_REQUEST]).sent
    assert said[:1] == b"N"
    assert b"no database is here" in fields(said[1:])[b"M"]


def test_the_challenge_is_a_client_s_name_and_the_proof_an_error(wire: Any) -> None:
    """StartupMessage and ErrorResponse."""
    greeting = wire.feed(postgres.stand_in(wire.offer()), [postgres.SSL_REQUEST]).sent
    asked = wire.feed(postgres.check(wire.target()), [greeting]).sent[len(postgres.SSL_REQUEST) :]
    length, version = struct.unpack("!II", asked[:8])
    assert (length, version) == (len(asked), 3 << 16)
    name = b"application_name\0" + wire.challenge().text + b"\0\0"
    assert asked[8:] == b"user\0reachmap\0" + name
    answer = wire.feed(postgres.stand_in(wire.offer()), [postgres.SSL_REQUEST, asked]).result
    assert wire.challenge().check_text(fields(answer)[b"M"]) is not None


def fields(answer: bytes) -> dict[bytes, bytes]:
    kind, length = struct.unpack("!cI", answer[:5])
    assert kind == b"E" and length == len(answer) - 1
    *parts, last, end = answer[5:].split(b"\0")
    assert (last, end) == (b"", b"")
    by_code = {field[:1]: field[1:] for field in parts}
    assert set(by_code) >= {b"S", b"V", b"C", b"M"}  # those that are always there
    assert len(by_code[b"C"]) == 5
    return by_code


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(struct.pack("!II", 8, 80877104), id="GSSENCRequest"),
        pytest.param(struct.pack("!II", 8, 196608), id="startup"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(postgres.SSL_REQUEST + b"\0", id="more than asked for"),
    ],
)
def test_the_stand_in_says_nothing_to_other_requests(wire: Any, asked: bytes) -> None:
    """It stands in for the first exchange only."""
    heard = wire.feed(postgres.stand_in(wire.offer()), [asked])
    assert (heard.sent, heard.result) == (b"", b"")
