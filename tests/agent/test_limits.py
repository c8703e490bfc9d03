"""What listeners may cost: every bound has a range, and each default lies in it."""

from dataclasses import asdict

from reachmap_agent.limits import RANGES, ListenerLimits
from reachmap_agent.wire.exchange import MAX_READ


def test_every_limit_has_a_range_that_its_default_is_in() -> None:
    """None is forgotten, and none is of something else."""
    usual = asdict(ListenerLimits())
    assert usual.keys() == RANGES.keys()
    for name, value in usual.items():
        least, most = RANGES[name]
        assert least <= value <= most, name


def test_an_honest_visitor_is_heard_whole() -> None:
    """Of what a check says no limit cuts anything off: one read of it is always within bounds."""
    assert ListenerLimits().heard_bytes >= 2 * MAX_READ
