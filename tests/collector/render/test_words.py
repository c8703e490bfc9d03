"""Words that several renderings have in common."""

import pytest

from reachmap_collector.render import words


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "-"),
        (0.031, "0.03"),
        (0.949, "0.95"),
        (0.951, "1.0"),
        (1.24, "1.2"),
        (250.0, "250.0"),
    ],
)
def test_a_short_latency_is_not_nothing(milliseconds: float | None, shown: str) -> None:
    """Within one machine it takes thirty microseconds, and not 0.0 ms."""
    assert words.latency(milliseconds) == shown
