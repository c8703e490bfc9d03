"""A websocket at `/`, in plain text and inside TLS: 101 proves it, and it is closed politely."""

import base64
import hashlib
from collections.abc import Generator
from typing import Any

import pytest

from reachmap_agent.protocols import websocket, wss
from reachmap_agent.wire.tunnel import stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BYE = b"\x88\x02\x03\xe8"
"""A server's close frame, with status 1000."""


def key(request: bytes) -> bytes:
    (line,) = [line for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: ")]
    return line.partition(b": ")[2]


def accepted(request: bytes) -> bytes:
    """A server's 101 to a request."""
    digest = base64.b64encode(hashlib.sha1(key(request) + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"sec-websocket-accept: " + digest + b"\r\n\r\n"
    )


def asked(wire: Any) -> bytes:
    request: bytes = next(websocket.check(wire.target()))
    return request


def test_the_request_is_the_one_of_rfc_6455(wire: Any) -> None:
    """4.1, with a key of 16 bytes, and saying who asks."""
    lines = asked(wire).decode().split("\r\n")
    assert lines[0] == "GET / HTTP/1.1"
    assert lines[-2:] == ["", ""]
    assert set(lines[1:-2]) >= {
        "Host: db-1.example",
        "User-Agent: reachmap",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    }
    assert len(base64.b64decode(key(asked(wire)), validate=True)) == 16


@pytest.mark.parametrize("after", [[], [BYE], [b"\x81\x05hello", BYE]])
@pytest.mark.parametrize("closes", [True, False])
def test_101_is_a_websocket(wire: Any, after: list[bytes], closes: bool) -> None:
    """Whatever it says, and however it takes our leave."""
    chunks = [accepted(asked(wire)), *after]
    heard = wire.feed(websocket.check(wire.target()), chunks, closes=closes)
    verdict = heard.result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy and verdict.evidence == ("answered with a websocket",)


def test_it_is_left_with_a_close_frame(wire: Any) -> None:
    """Masked, as a client's have to be, and saying that all is well (5.5.1)."""
    request = asked(wire)
    heard = wire.feed(websocket.check(wire.target()), [accepted(request)])
    frame = heard.sent.removeprefix(request)
    assert frame[:2] == bytes([0x88, 0x82]) and len(frame) == 8
    mask, payload = frame[2:6], frame[6:]
    assert bytes(a ^ b for a, b in zip(payload, mask, strict=False)) == (1000).to_bytes(2, "big")


def test_its_greeting_may_come_with_the_head(wire: Any) -> None:
    """As a server does that speaks first."""
    chunk = accepted(asked(wire)) + b"\x81\x05hello"
    assert wire.feed(websocket.check(wire.target()), [chunk]).result.outcome is Outcome.OPEN


@pytest.mark.parametrize(
    ("status", "outcome", "healthy"),
    [
        pytest.param(101, Outcome.WRONG_SERVICE, True, id="to somebody else's key"),
        pytest.param(200, Outcome.WRONG_SERVICE, True, id="a page"),
        pytest.param(301, Outcome.WRONG_SERVICE, True, id="elsewhere"),
        pytest.param(400, Outcome.WRONG_SERVICE, True, id="it saw no upgrade"),
        pytest.param(401, Outcome.OPEN, True, id="for those who log in"),
        pytest.param(403, Outcome.OPEN, True, id="for some"),
        pytest.param(404, Outcome.WRONG_SERVICE, True, id="not at this path"),
        pytest.param(426, Outcome.WRONG_SERVICE, True, id="it wants an upgrade"),
        pytest.param(500, Outcome.OPEN, False, id="it fails"),
        pytest.param(502, Outcome.OPEN, False, id="nobody behind the proxy"),
    ],
)
def test_what_other_statuses_mean(wire: Any, status: int, outcome: Outcome, healthy: bool) -> None:
    """A web server that makes no websocket is not what was expected there."""
    response = b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
    verdict = wire.feed(websocket.check(wire.target()), [response]).result
    assert verdict.outcome is outcome
    assert verdict.healthy is healthy
    assert str(status) in verdict.evidence[0]


@pytest.mark.parametrize(("status", "hints"), [(400, True), (426, True), (200, False)])
def test_a_proxy_that_removes_the_upgrade_is_named(wire: Any, status: int, hints: bool) -> None:
    """The request had one: a server that misses it did not see it."""
    response = b"HTTP/1.1 %d x\r\n\r\n" % status
    verdict = wire.feed(websocket.check(wire.target()), [response]).result
    assert any("proxy" in fact for fact in verdict.evidence) is hints


def test_the_stand_in_opens_one_that_clients_take(wire: Any) -> None:
    """With the right answer to their key, and closed at once with 1001, going away."""
    request = asked(wire)
    said = wire.feed(websocket.stand_in(wire.offer()), [request]).result
    head, end, frame = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols" and end
    digest = base64.b64encode(hashlib.sha1(key(request) + GUID).digest())
    assert b"Sec-WebSocket-Accept: " + digest in lines
    (proof,) = (line for line in lines if line.startswith(b"Reachmap-Proof: "))
    assert wire.challenge().check_text(proof) is not None
    assert frame == b"\x88\x02\x03\xe9"


def test_the_stand_in_answers_as_a_web_server_where_no_websocket_is_asked_for(wire: Any) -> None:
    """A proxy on the way may have taken that away; a browser gets nothing at all."""
    request = b"GET / HTTP/1.1\r\nReachmap-Challenge: " + wire.challenge().text + b"\r\n\r\n"
    said = wire.feed(websocket.stand_in(wire.offer()), [request]).result
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    stranger = b"GET / HTTP/1.1\r\n\r\n"
    assert wire.feed(websocket.stand_in(wire.offer()), [stranger]).result == b""


def server(greeting: bytes = b"") -> Generator[bytes, bytes, bytes]:
    """What a websocket server does inside TLS: opens, and returns our close."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += yield b""
    frame = yield accepted(request) + greeting
    assert frame[:1] == b"\x88"
    return BYE


def test_inside_tls_it_is_the_same(wire: Any) -> None:
    """With a word on the certificate."""
    verdict, _ = wire.meet(
        wss.check(wire.target(stand_in_certificate=b"")),
        stand_in_inside(wire.offer(), server(b"\x81\x05hello")),
        closes=True,
    )
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.evidence[0] == "answered with a websocket"
    assert verdict.evidence[1].startswith("certificate of reachmap listener, valid until 2126-")


def test_inside_tls_silence_after_the_answer_is_no_matter(wire: Any) -> None:
    """The proof is there; a server that does not take our leave in time keeps it."""

    def stubborn() -> Generator[bytes, bytes, bytes]:
        request = b""
        while b"\r\n\r\n" not in request:
            request += yield b""
        yield accepted(request)
        yield b""
        return b""

    verdict, _ = wire.meet(
        wss.check(wire.target(stand_in_certificate=b"")), stand_in_inside(wire.offer(), stubborn())
    )
    assert verdict.outcome is Outcome.OPEN
