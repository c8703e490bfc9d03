"""Responses with their bodies: how far they are read, and whether the connection may be used on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire import web
from reachmap_agent.wire.exchange import MAX_READ, Lost

OK = b"HTTP/1.1 200 OK\r\n"


def heard(wire: Any, *chunks: bytes, closes: bool = False) -> Any:
    return wire.feed(web.whole(b"GET / HTTP/1.1\r\n\r\n"), chunks, closes=closes)


@pytest.mark.parametrize(
    ("answer", "body", "reusable"),
    [
        pytest.param(OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True, id="length"),
        pytest.param(OK + b"content-length:5\r\n\r\nhello", b"hello", True, id="in lower case"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", b"", True, id="nothing"),
        pytest.param(OK + b"Content-Length: 2\r\n\r\nhello", b"he", True, id="more than said"),
        pytest.param(
            OK + b"Connection: Close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False, id="close"
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False, id="of 1.0"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            b"hello",
            True,
            id="chunked",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: CHUNKED\r\n\r\n0005\r\nhello\r\n0\r\n\r\n",
            b"hello",
            True,
            id="chunked, with zeros",
        ),
    ],
)
def test_a_body_is_read_to_its_end_and_no_further(
    wire: Any, answer: bytes, body: bytes, reusable: bool
) -> None:
    """However the network cuts it: nothing is waited for that does not come."""
    for size in (1, 7, len(answer)):
        pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
        result = heard(wire, *pieces).result
        assert (result.code, result.body, result.reusable) == (200, body, reusable)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(OK + b"\r\nhello", b"hello", id="to the end of the connection"),
        pytest.param(OK + b"Content-Length: 50\r\n\r\nhello", b"hello", id="shorter than said"),
        pytest.param(OK + b"Content-Length: -5\r\n\r\nhello", b"hello", id="of no length"),
        pytest.param(OK + b"Content-Length: 5, 5\r\n\r\nhello", b"hello", id="of two lengths"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n9\r\nlo", b"hello", id="cut off"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\nx\r\nlo", b"hel", id="of no size"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nhello", b"", id="of a signed size"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\nhello", b"", id="of a huge size"
        ),
    ],
)
@pytest.mark.parametrize("closes", [True, False])
def test_a_body_without_end_is_what_came_of_it(
    wire: Any, answer: bytes, body: bytes, closes: bool
) -> None:
    """The head was an answer; the connection is of no more use."""
    result = heard(wire, answer, closes=closes).result
    assert (result.code, result.body, result.reusable) == (200, body, False)


def test_a_body_that_is_lost_half_way_is_what_came_of_it() -> None:
    """As when the server resets the connection."""
    asking = web.whole(b"GET / HTTP/1.1\r\n\r\n")
    next(asking)
    asking.send(OK + b"Content-Length: 50\r\n\r\nhello")
    with pytest.raises(StopIteration) as stopped:
        asking.throw(Lost())
    assert stopped.value.value.body == b"hello"


@pytest.mark.parametrize("how", [b"Content-Length: 1000000\r\n", b""])
def test_a_large_body_is_not_read_to_its_end(wire: Any, how: bytes) -> None:
    """A page of a megabyte every few seconds would be felt."""
    found = heard(wire, OK + how + b"\r\n", *[b"x" * 1000] * 900)
    assert found.consumed <= MAX_READ + 2000
    assert not found.result.reusable


def test_a_head_without_end_has_no_body(wire: Any) -> None:
    """Nor is one waited for."""
    found = heard(wire, OK, b"Set-Cookie: x\r\n" * 2000)
    assert (found.result.code, found.result.body, found.result.reusable) == (200, b"", False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Server", "nginx"),
        ("SERVER", "nginx"),
        ("X-Empty", ""),
        ("X-Twice", "first"),
        ("X", ""),
        ("HTTP/1.1 200 OK", ""),
        ("X-Colons", "a:b"),
    ],
)
def test_a_header_is_found_by_its_name(name: str, value: str) -> None:
    """In any case; the first, if there are several, and nothing where there is none."""
    head = OK + b"Server:  nginx \r\nX-Empty:\r\nX-Twice: first\r\nX-Twice: second\r\n"
    assert web.header(head + b"X-Colons: a:b\r\n\r\n", name) == value


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.booleans())
def test_noise_raises_nothing(wire: Any, chunks: list[bytes], closes: bool) -> None:
    """As a head, or as a body behind one."""
    heard(wire, *chunks, closes=closes)
    for how in (b"Content-Length: 20", b"Transfer-Encoding: chunked", b"X: y"):
        heard(wire, OK + how + b"\r\n\r\n", *chunks, closes=closes)
