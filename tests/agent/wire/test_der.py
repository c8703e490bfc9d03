"""DER as far as it is read: every length, and nothing but one error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire.der import ENUMERATED, SEQUENCE, Element, MalformedDer, elements, expect


@pytest.mark.parametrize(
    ("data", "read"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"\x05\x00", [(5, b"")], id="empty"),
        pytest.param(b"\x0a\x01\x02\x05\x00", [(ENUMERATED, b"\2"), (5, b"")], id="two"),
        pytest.param(b"\x04\x81\x80" + b"x" * 128, [(4, b"x" * 128)], id="long"),
        pytest.param(b"\x04\x82\x01\x00" + b"x" * 256, [(4, b"x" * 256)], id="longer"),
        pytest.param(b"\x04\x84\x00\x00\x00\x01x", [(4, b"x")], id="longer than need be"),
        pytest.param(b"\xa3\x02\x05\x00", [(0xA3, b"\5\0")], id="constructed, by context"),
    ],
)
def test_elements_are_read_one_after_the_other(data: bytes, read: list[tuple[int, bytes]]) -> None:
    """With what is in them left as it is."""
    assert list(elements(data)) == [Element(*element) for element in read]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30", id="no length"),
        pytest.param(b"\x30\x05ab", id="cut short"),
        pytest.param(b"\x30\x80\x05\x00\x00\x00", id="indefinite"),
        pytest.param(b"\x30\x82\x01", id="half a length"),
        pytest.param(b"\x30\x85\x00\x00\x00\x00\x00", id="too long a length"),
        pytest.param(b"\x30\xff", id="reserved"),
        pytest.param(b"\x1f\x81\x01\x00", id="a tag of several bytes"),
        pytest.param(b"\x30\x84\xff\xff\xff\xff", id="gigabytes"),
        pytest.param(b"\x05\x00\x05", id="junk behind"),
    ],
)
def test_what_is_no_der_is_an_error(data: bytes) -> None:
    """Wherever it stands."""
    with pytest.raises(MalformedDer):
        list(elements(data))


@pytest.mark.parametrize("data", [b"", b"\x31\x00", b"\x30\x01"])
def test_another_tag_than_expected_is_an_error(data: bytes) -> None:
    """A caller that knows the shape need not look."""
    with pytest.raises(MalformedDer):
        expect(SEQUENCE, data)


def test_what_is_expected_may_have_more_behind_it() -> None:
    """Only the first element is looked at."""
    assert expect(SEQUENCE, b"\x30\x02\x05\x00more") == b"\x05\x00"


@given(st.binary(max_size=300))
def test_noise_is_read_whole_or_refused(data: bytes) -> None:
    """No bytes raise anything else, and none are lost or made up."""
    try:
        read = list(elements(data))
    except MalformedDer:
        return
    assert sum(2 + len(element.content) for element in read) <= len(data)
    assert all(element.content in data for element in read)
