"""OCSP over HTTP: what only a responder says proves one, and a mere web server is none."""

import base64
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reachmap_agent.protocols import ocsp
from reachmap_agent.wire.der import OID, SEQUENCE, elements, expect
from reachmap_shared.vocabulary import AnsweredBy, Outcome

HEALTHY = b"OCSP Responder is healthy"
UNHEALTHY = b"OCSP Responder is not healthy"


def status(code: int) -> bytes:
    """An OCSPResponse that is only a status."""
    return bytes([0x30, 0x03, 0x0A, 0x01, code])


def response(code: int, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d x" % code, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def heard(wire: Any, *chunks: bytes, closes: bool = False) -> Any:
    return wire.feed(ocsp.check(wire.target()), chunks, closes=closes)


def requests(sent: bytes) -> list[bytes]:
    """The first line of each request."""
    return [line for line in sent.split(b"\r\n") if line.endswith(b" HTTP/1.1")]


def test_the_question_is_one_in_ocsp(wire: Any) -> None:
    """In the path, without anything that a path would not hold, and saying who asks."""
    sent = heard(wire, closes=True).sent
    method, path, _ = requests(sent)[0].split(b" ")
    assert method == b"GET"
    assert path[1:].isalnum() and b"health" in path and b"reachmap" in path
    assert b"\r\nUser-Agent: reachmap\r\n" in sent
    question = base64.b64decode(path[1:], validate=True)
    inner = question
    for _ in range(4):  # OCSPRequest, TBSRequest, requestList, Request
        assert len(list(elements(inner))) == 1
        inner = expect(SEQUENCE, inner)
    algorithm, name, key, serial = elements(expect(SEQUENCE, inner))
    assert expect(OID, algorithm.content) == bytes.fromhex("2b0e03021a")  # SHA-1
    assert (len(name.content), len(key.content)) == (20, 20)
    assert (name.tag, key.tag, serial.tag) == (4, 4, 2)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("http", [200, 400, 500])
def test_any_answer_in_ocsp_is_a_responder(wire: Any, code: int, http: int) -> None:
    """With any HTTP status: some call our question an error, in OCSP and in HTTP alike."""
    found = heard(wire, response(http, status(code)))
    assert (found.result.outcome, found.result.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert found.result.healthy
    assert found.result.evidence[0].startswith("answered with OCSP status ")
    assert len(requests(found.sent)) == 1


def test_a_long_answer_is_one_too(wire: Any) -> None:
    """Signed, with certificates, in pieces, and chunked."""
    inside = b"\x0a\x01\x00" + b"\xa0\x82\x08\x00" + b"x" * 2048
    whole = b"\x30\x82" + len(inside).to_bytes(2, "big") + inside
    chunked = b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (1000, whole[:1000], len(whole) - 1000,
                                                         whole[1000:])  # fmt: skip
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
    pieces = [answer[i : i + 100] for i in range(0, len(answer), 100)]
    assert heard(wire, *pieces).result.evidence == ("answered with OCSP status successful",)


@pytest.mark.parametrize(
    ("http", "page", "healthy"), [(200, HEALTHY, True), (500, UNHEALTHY, False)]
)
def test_openuem_s_health_page_is_a_responder_s(
    wire: Any, http: int, page: bytes, healthy: bool
) -> None:
    """It takes the path for it, and tells whether its database is there."""
    found = heard(wire, response(http, page))
    assert (found.result.outcome, found.result.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert found.result.healthy is healthy
    assert found.result.evidence == (
        f"answered with a responder's health page, HTTP status {http}",
    )


@pytest.mark.parametrize("http", [200, 404, 405, 501])
def test_a_server_that_takes_no_get_is_asked_by_post(wire: Any, http: int) -> None:
    """On the same connection, and then it decides."""
    found = heard(wire, response(http, b"<html>"), response(200, status(6)))
    assert found.result.evidence == ("answered with OCSP status unauthorized",)
    assert [line.partition(b" ")[0] for line in requests(found.sent)] == [b"GET", b"POST"]
    posted = found.sent[found.sent.index(b"POST / ") :]
    assert b"\r\nContent-Type: application/ocsp-request\r\n" in posted
    head, _, body = posted.partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert base64.b64encode(body) in found.sent


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([response(200, b"<html>"), response(200, b"<html>")], id="twice a page"),
        pytest.param([response(404), response(405)], id="neither"),
        pytest.param([response(404, b"", b"Connection: close")], id="it closes"),
        pytest.param([b"HTTP/1.0 404 x\r\nContent-Length: 0\r\n\r\n"], id="of 1.0"),
        pytest.param([b"HTTP/1.1 404 x\r\n\r\n<html>"], id="without length"),
        pytest.param([response(500, b"oops"), response(500, b"oops")], id="it fails"),
        pytest.param([response(200, b"x" * 20_000)], id="a large page"),
        pytest.param([response(404)], id="it hangs up between the two"),
        pytest.param([response(200, status(4)), response(200, status(7))], id="of no known status"),
        pytest.param([response(200, b"\x30\x02\x0a\x00")] * 2, id="of no status at all"),
        pytest.param([response(200, b"\x30\x04\x0a\x02\0\0")] * 2, id="of a status too long"),
    ],
)
def test_a_web_server_is_the_wrong_service(wire: Any, answers: list[bytes]) -> None:
    """HTTP is not enough here."""
    found = heard(wire, *answers, closes=True)
    assert (found.result.outcome, found.result.answered_by) == (Outcome.WRONG_SERVICE, None)
    assert "expected an OCSP response" in found.result.evidence[0]


@pytest.mark.parametrize("http", [502, 503, 504])
def test_a_responder_that_is_away_behind_its_proxy_is_not_well(wire: Any, http: int) -> None:
    """Whether it is one, nobody can tell then: the proxy says that something is missing."""
    found = heard(wire, response(http), response(http))
    assert (found.result.outcome, found.result.healthy) == (Outcome.OPEN, False)
    assert found.result.evidence == (f"answered with HTTP status {http}",)


@pytest.mark.parametrize(
    ("answer", "closes", "outcome"),
    [
        (b"", True, Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\nServer: reachmap:01", True, Outcome.RESET),
        (b"SSH-2.0-Go\r\n", False, Outcome.WRONG_SERVICE),
    ],
)
def test_what_is_no_http_is_no_responder(
    wire: Any, answer: bytes, closes: bool, outcome: Outcome
) -> None:
    """Nor is half a response."""
    found = heard(wire, *([answer] if answer else []), closes=closes)
    assert found.result.outcome is outcome


def test_a_body_that_breaks_off_is_judged_by_what_came(wire: Any) -> None:
    """Silence or an end in the middle of it."""
    cut = response(200, status(0) * 10)[:-40]
    for closes in (True, False):
        assert heard(wire, cut, closes=closes).result.outcome is Outcome.OPEN


def test_a_listener_is_asked_once(wire: Any) -> None:
    """Its token is in the head; no second question is needed."""
    verdict, _ = wire.meet(ocsp.check(wire.target()), ocsp.stand_in(wire.offer()))
    assert verdict.answered_by is AnsweredBy.LISTENER


@given(st.binary(max_size=60), st.sampled_from([200, 404, 500]))
def test_noise_in_a_body_is_no_responder(wire: Any, body: bytes, http: int) -> None:
    """Nor does it raise anything."""
    assume(b"\x0a\x01" not in body)
    assume(not body.startswith(b"OCSP Responder is "))  # hypothesis tries the code's own constants
    found = heard(wire, response(http, body), response(http, body)).result
    assert found.outcome is Outcome.WRONG_SERVICE
