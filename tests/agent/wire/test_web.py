"""HTTP as far as one request and the head of its response go."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire import web
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def answer_to(wire: Any, *chunks: bytes, closes: bool = False) -> Any:
    return wire.feed(web.get(wire.target(), "/"), chunks, closes=closes).result


def test_the_request_is_a_whole_one(wire: Any) -> None:
    """It names the host, says who asks, and wants no second request."""
    heard = wire.feed(web.get(wire.target("db-1.example", challenge=None), "/health"), closes=True)
    assert heard.sent == (
        b"GET /health HTTP/1.1\r\nHost: db-1.example\r\nUser-Agent: reachmap\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("host", "line"),
    [("10.0.0.1", b"Host: 10.0.0.1\r\n"), ("fd00::5", b"Host: [fd00::5]\r\n")],
)
def test_an_ipv6_address_stands_in_brackets(wire: Any, host: str, line: bytes) -> None:
    """As RFC 3986 wants it, or servers answer 400."""
    assert line in wire.feed(web.get(wire.target(host), "/"), closes=True).sent


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2"])
@pytest.mark.parametrize(
    ("status", "healthy"),
    [
        (100, True),
        (200, True),
        (302, True),
        (400, True),
        (404, True),
        (499, True),
        (500, False),
        (503, False),
        (599, False),
    ],
)
def test_any_response_is_right_and_an_error_of_the_server_s_own_is_not_healthy(
    wire: Any, version: bytes, status: int, healthy: bool
) -> None:
    """Which status is right only the service knows; from 500 on it says that it is not well."""
    verdict = answer_to(wire, version + b" %d Whatever\r\nServer: x\r\n\r\nbody" % status)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy is healthy
    assert verdict.evidence == (f"answered with HTTP status {status}",)


def test_a_status_needs_no_reason(wire: Any) -> None:
    """The phrase may be missing (RFC 9112, 4)."""
    assert answer_to(wire, b"HTTP/1.1 204\r\n\r\n").outcome is Outcome.OPEN


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2\r\n\r\n",
        b"HTTP/1.1 -20 x\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>",
    ],
)
def test_what_has_no_status_is_no_response(wire: Any, head: bytes) -> None:
    """Close to HTTP is not HTTP."""
    assert answer_to(wire, head).outcome is Outcome.WRONG_SERVICE


def test_a_head_without_end_is_judged_by_its_status(wire: Any) -> None:
    """A server with 20 kB of cookies is one all the same."""
    verdict = answer_to(wire, b"HTTP/1.1 200 OK\r\n", b"Set-Cookie: x\r\n" * 2000)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_a_head_that_is_cut_off_is_no_answer(wire: Any) -> None:
    """A listener's proof may have been in what is missing."""
    verdict = answer_to(
        wire, b"HTTP/1.1 200 OK\r\nServer: reachmap\r\nReachmap-Proof: 01", closes=True
    )
    assert (verdict.outcome, verdict.answered_by) == (Outcome.RESET, None)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nX: %s\r\n\r\n",
        b"POST /ocsp HTTP/1.0\r\nX: %s\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_the_stand_in_answers_any_request_with_a_challenge(wire: Any, request_: bytes) -> None:
    """With a whole, empty response; any other gets nothing."""
    stranger = wire.feed(web.stand_in(wire.offer()), [request_ % b"y"])
    assert (stranger.sent, stranger.result) == (b"", b"")
    heard = wire.feed(web.stand_in(wire.offer()), [request_ % wire.challenge().text])
    head, end, body = heard.result.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert (lines[0], end, body) == ("HTTP/1.1 200 OK", b"\r\n\r\n", b"")
    (proof,) = (line for line in lines if line.startswith("Reachmap-Proof: "))
    assert wire.challenge().check_text(proof.encode()) is not None
    assert "Content-Length: 0" in lines and "Connection: close" in lines


@given(st.binary(max_size=100).filter(lambda data: b"\r\n\r\n" not in data))
def test_the_stand_in_says_nothing_to_what_is_no_request(wire: Any, data: bytes) -> None:
    """Neither to half a request, nor to another protocol."""
    heard = wire.feed(web.stand_in(wire.offer()), [data] if data else [], closes=True)
    assert (heard.sent, heard.result) == (b"", b"")


def test_the_stand_in_does_not_read_for_ever(wire: Any) -> None:
    """A head beyond the bound gets no answer."""
    heard = wire.feed(web.stand_in(wire.offer()), [b"x" * 1000] * 100)
    assert heard.result == b""
