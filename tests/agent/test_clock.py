"""The clocks: one that never jumps, and one that may."""

from reachmap_agent.clock import system


def test_the_clock_counts_from_the_system_s_start() -> None:
    """It goes on, and two processes read the same."""
    one, other = system(), system()
    assert one.os_boot == other.os_boot != ""
    assert 0 <= other.steady_ms() - one.steady_ms() < 1_000
    assert abs(one.wall_ms() - other.wall_ms()) < 1_000
