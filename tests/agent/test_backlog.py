"""The spool's account: what waits, what is acknowledged, what has to go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.backlog import LANES, MAX_AGE_MS, Backlog, Lane, Segment
from reachmap_shared.messages import ReportKind


def filled(backlog: Backlog, lane: Lane, size: int = 5_000, **its: bool) -> Segment:
    segment = backlog.new(lane, "boot", on_disk=its.get("on_disk", True))
    segment.add(size, 10, 1, 0)
    return segment


def test_every_kind_has_its_lane() -> None:
    """A closed account is as dear as a change."""
    assert set(LANES) == set(ReportKind)
    assert LANES[ReportKind.CLOSED] is Lane.CHANGES


def test_nothing_goes_while_there_is_room() -> None:
    """To the last byte."""
    backlog = Backlog(max_bytes=10_000)
    for lane in Lane:
        filled(backlog, lane)
    assert backlog.next_to_go(0) is None
    filled(backlog, Lane.CHANGES)
    assert backlog.next_to_go(0) is not None


def test_the_oldest_roll_ups_go_first_and_changes_last() -> None:
    """In both, the oldest first."""
    backlog = Backlog(max_bytes=0)
    lanes = [Lane.CHANGES, Lane.ROLL_UPS, Lane.CHANGES, Lane.ROLL_UPS]
    made = [filled(backlog, lane) for lane in lanes]
    gone = []
    while (segment := backlog.next_to_go(0)) is not None:
        gone.append(made.index(segment))
        backlog.remove(segment)
    assert gone == [1, 3, 0, 2]


def test_disk_and_memory_have_rooms_of_their_own() -> None:
    """A full memory is no reason to drop what is safe on disk."""
    backlog = Backlog(max_bytes=100_000, max_memory=6_000)
    filled(backlog, Lane.ROLL_UPS)
    filled(backlog, Lane.CHANGES, on_disk=False)
    last = filled(backlog, Lane.ROLL_UPS, on_disk=False)
    assert backlog.next_to_go(0) is last
    assert (backlog.used(on_disk=True), backlog.used(on_disk=False)) == (5_000, 10_000)


def test_a_small_file_costs_its_block() -> None:
    """Many starts in a row leave many of them."""
    backlog = Backlog()
    filled(backlog, Lane.CHANGES, size=10)
    assert backlog.used(on_disk=True) == 4096


def test_what_is_too_old_goes() -> None:
    """Whichever it is, and not a millisecond before."""
    backlog = Backlog()
    segment = filled(backlog, Lane.CHANGES)
    backlog.new(Lane.ROLL_UPS, "boot", on_disk=True)
    assert backlog.next_to_go(MAX_AGE_MS) is None
    assert backlog.next_to_go(MAX_AGE_MS + 1) is segment


def test_what_waits_is_told_by_start() -> None:
    """Of one, and of all."""
    backlog = Backlog()
    filled(backlog, Lane.CHANGES)
    backlog.new(Lane.ROLL_UPS, "other", on_disk=True).add(1, 100, 0, 0)
    assert backlog.waiting("boot") == (10, 1)
    assert backlog.waiting() == (110, 1)
    assert backlog.has("other") and not backlog.has("none")


@pytest.mark.parametrize("numbers", [[3, 7], [7, 3]])
def test_a_new_segment_is_newer_than_those_found(numbers: list[int]) -> None:
    """However they are found."""
    backlog = Backlog()
    for number in numbers:
        backlog.add(Segment(Lane.CHANGES, number, "boot"))
    assert backlog.new(Lane.CHANGES, "boot", on_disk=True).number == 8


@given(st.permutations(range(8)), st.integers(0, 8), st.sets(st.integers(0, 7)))
def test_acknowledged_in_any_order(order: list[int], so_far: int, void: set[int]) -> None:
    """What waits, what the prefix has, and what is acknowledged beyond it are always all."""
    segment = Segment(Lane.ROLL_UPS, 0, "boot")
    for place in range(8):
        segment.add(10, 1 << place, 1 << place + 8, 0)
    for place in void:
        segment.void(place)
    whole = sum(1 << place for place in range(8) if place not in void)
    grown = 0
    for place in order[:so_far]:
        assert not segment.is_acked(place)
        made, changes = segment.ack(place)
        assert changes == made << 8
        grown += made
        assert segment.is_acked(place)
    assert segment.is_done is (so_far == 8)
    beyond, _ = segment.beyond
    assert grown + beyond + segment.made == whole
    assert segment.made == sum(1 << p for p in order[so_far:] if p not in void)
    assert segment.changes == segment.made << 8
