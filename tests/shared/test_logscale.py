"""Times as one octet: order is kept, and little is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared import logscale


@given(st.integers(1, 40_000_000))
def test_a_time_comes_back_to_within_four_percent(us: int) -> None:
    """From a microsecond to 40 seconds, but for whole microseconds being all it gives."""
    assert abs(logscale.us(logscale.code(us)) - us) <= 0.5 + 0.036 * us


def test_more_is_never_less() -> None:
    """So that medians and maxima may be taken of octets."""
    assert all(logscale.us(one) <= logscale.us(two) for one, two in pairwise(range(256)))


@pytest.mark.parametrize("us", [0, -1, -(2**53)])
def test_no_time_is_none(us: int) -> None:
    """Nothing is not confused with something short."""
    assert logscale.code(us) == logscale.NONE
    assert logscale.us(logscale.NONE) == 0


@pytest.mark.parametrize("us", [44_000_000, 2**53])
def test_what_is_longer_is_as_long_as_can_be_told(us: int) -> None:
    """One octet, whatever is given."""
    assert logscale.code(us) == 255
