"""When checks are due, in a time that is only a number."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.schedule import EARLY_S, MOST_ALIKE, MOST_ALONG, Schedule, phase

KEYS = [f"pc-17>10.0.0.{n}:{port}/tcp" for n in range(20) for port in (80, 443, 5432)]
START = 12_345.678

intervals = st.floats(0.1, 3600)


def schedule(keys: list[str], interval_s: float, now: float = START, seed: int = 1) -> Schedule:
    """Each dials another host."""
    return Schedule(keys, keys, interval_s, now, random.Random(seed))


def company(its: Schedule, now: float) -> list[tuple[int, float]]:
    """All that may come along now."""
    return [*iter(lambda: its.pop_early(now), None)]


def run(its: Schedule, until: float) -> dict[int, list[float]]:
    """Let time pass from one due time to the next; when each slot was popped."""
    times: dict[int, list[float]] = {}
    while (due := its.next_due()) is not None and due <= until:
        popped = its.pop_due(due)
        assert popped, "time stands still"
        for slot, late_s in popped:
            assert late_s >= 0
            times.setdefault(slot, []).append(due - late_s)
    return times


@given(intervals, st.integers(0, 2**32))
def test_each_slot_is_due_once_an_interval(interval_s: float, seed: int) -> None:
    """Over a hundred rounds none is lost, none is run twice."""
    rounds = 100
    times = run(schedule(KEYS[:5], interval_s, seed=seed), START + rounds * interval_s)
    assert set(times) == set(range(5))
    for its in times.values():
        assert abs(len(its) - rounds) <= 1


@given(intervals, st.integers(0, 2**32))
def test_jitter_is_bounded_and_does_not_add_up(interval_s: float, seed: int) -> None:
    """Each time is within a twentieth of the slot's place; from one to the next, a tenth."""
    times = run(schedule(KEYS[:5], interval_s, seed=seed), START + 50 * interval_s)
    for slot, its in times.items():
        place = START + phase(KEYS[slot]) * interval_s
        for due in its[1:]:  # the first round has its own time
            off = (due - place + interval_s / 2) % interval_s - interval_s / 2
            assert abs(off) <= 0.0501 * interval_s
        for earlier, later in pairwise(its[1:]):
            assert 0.899 * interval_s <= later - earlier <= 1.101 * interval_s


def test_jitter_breaks_step() -> None:
    """Two checks that dial the same at the same moment do not do so for ever."""
    times = run(schedule(["same", "same"], 10), START + 1000)
    assert any(abs(a - b) > 0.1 for a, b in zip(times[0], times[1], strict=True))


@given(st.floats(0.1, 3600))
def test_the_first_round_is_quick(interval_s: float) -> None:
    """The map is complete within two seconds of a new plan, or within one interval."""
    times = run(schedule(KEYS, interval_s), START + min(2.0, interval_s))
    assert set(times) == set(range(len(KEYS)))
    assert all(its[0] >= START for its in times.values())


@pytest.mark.parametrize(("checks", "within_s"), [(1, 0.3), (30, 0.3), (60, 0.6), (1_000, 2.0)])
@pytest.mark.parametrize("interval_s", [0.2, 30.0])
def test_the_first_round_of_a_start_is_quicker(
    checks: int, within_s: float, interval_s: float
) -> None:
    """An agent that has little to check is on the map at once; with much, as after any new plan."""
    keys = [f"key {number}" for number in range(checks)]
    its = Schedule(keys, keys, interval_s, START, random.Random(1), at_start=True)
    times = run(its, START + min(within_s, interval_s))
    assert set(times) == set(range(checks))


@given(intervals)
def test_the_second_round_follows_the_first_by_half_an_interval_or_more(interval_s: float) -> None:
    """And by one and a half at most: the quick first round shifts nobody for long."""
    times = run(schedule(KEYS[:10], interval_s), START + 4 * interval_s)
    for its in times.values():
        assert 0.44 * interval_s <= its[1] - its[0] <= 1.56 * interval_s


@pytest.mark.parametrize(
    ("key", "place"),
    [("pc-17>10.0.0.5:4433/tcp", 0.4681), ("pc-18>10.0.0.5:4433/tcp", 0.7715), ("", 0.8932)],
)
def test_a_place_is_the_same_on_every_start(key: str, place: float) -> None:
    """And in every version: a restart of all agents bunches nobody."""
    assert phase(key) == pytest.approx(place, abs=1e-4)


def test_places_are_spread() -> None:
    """A thousand agents that dial one server arrive evenly over the interval."""
    tenths = Counter(int(phase(f"pc-{n}>10.0.0.5:4433/tcp") * 10) for n in range(1000))
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150 and min(tenths.values()) > 60


@given(st.text())
def test_a_place_is_within_the_interval(key: str) -> None:
    """From 0 up to, not including, 1."""
    assert 0 <= phase(key) < 1


@given(
    interval_s=intervals,
    pauses=st.lists(st.floats(0.1, 50), min_size=1, max_size=10),
    seed=st.integers(0, 2**32),
)
def test_lost_rounds_are_lost(interval_s: float, pauses: list[float], seed: int) -> None:
    """After a long pause each slot is due once, not once for each round that was missed."""
    its = schedule(KEYS[:10], interval_s, seed=seed)
    now = START
    for pause in pauses:
        now += pause * interval_s
        slots = [slot for slot, _ in its.pop_due(now)]
        assert len(slots) == len(set(slots))
        assert its.pop_due(now) == []


def test_lateness_is_reported() -> None:
    """How long before its turn a check was due."""
    its = schedule(["a"], 10)
    due = its.next_due()
    assert due is not None
    assert its.pop_due(due - 0.001) == []
    [(slot, late_s)] = its.pop_due(due + 3)
    assert (slot, late_s) == (0, pytest.approx(3))


def test_what_is_due_comes_in_order() -> None:
    """The longest overdue first, so that none starves."""
    lateness = [late_s for _, late_s in schedule(KEYS, 10).pop_due(START + 5)]
    assert len(lateness) == len(KEYS)
    assert lateness == sorted(lateness, reverse=True)


def test_no_checks_are_never_due() -> None:
    """An agent without a plan sleeps."""
    its = schedule([], 10)
    assert its.next_due() is None
    assert its.pop_due(START + 1e9) == []


def test_the_dice_are_the_caller_s() -> None:
    """The same seed gives the same times, in tests as in a post-mortem."""
    assert run(schedule(KEYS, 10, seed=7), START + 100) == run(
        schedule(KEYS, 10, seed=7), START + 100
    )
    assert run(schedule(KEYS, 10, seed=7), START + 100) != run(
        schedule(KEYS, 10, seed=8), START + 100
    )


def test_what_is_due_soon_may_come_along() -> None:
    """A few of them, each once in its turn, and less than nothing late."""
    its = schedule([f"key {number}" for number in range(1_000)], 10)
    now = START
    slots: list[int] = []
    while now < START + 2:
        due, early = its.pop_due(now), company(its, now)
        assert len(early) <= MOST_ALONG
        assert all(-EARLY_S <= late_s < 0 for _, late_s in early)
        slots += [slot for slot, _ in (*due, *early)]
        now = its.next_due()
    assert len(slots) == len(set(slots)) == 1_000


def test_few_wake_ups_are_enough() -> None:
    """For two hundred checks a second of as many hosts a dozen or two, and not two hundred."""
    its = schedule([f"key {number}" for number in range(200)], 1)
    wake_ups = checks = 0
    while (now := its.next_due()) < START + 20:
        wake_ups += 1
        checks += len(its.pop_due(now)) + len(company(its, now))
    assert wake_ups < 20 * 20
    assert abs(checks - 20 * 200) <= 200


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=200), st.integers(0, 2**32))
def test_no_company_is_a_burst(hosts: list[str], seed: int) -> None:
    """Whatever is due soon, no more than two of one host come along, and none starves."""
    keys = [f"{host}:{port}" for port, host in enumerate(hosts)]
    its = Schedule(keys, hosts, 1.0, START, random.Random(seed))
    left = set(range(len(keys)))
    while left:
        now = its.next_due()
        early = company(its, now) if (due := its.pop_due(now)) else []
        alike = Counter(hosts[slot] for slot, _ in early)
        assert max(alike.values(), default=0) <= MOST_ALIKE
        left -= {slot for slot, _ in (*due, *early)}


def test_a_repetition_keeps_its_time() -> None:
    """It is to be so long after the check that it repeats, and so is what comes behind it."""
    its = schedule(["a"], 10)
    due = its.next_due()
    assert due is not None
    its.pop_due(due)
    its.once_more(0, due + EARLY_S / 2)
    assert its.pop_early(due) is None
    assert its.pop_due(due + EARLY_S / 2) == [(0, 0)]


@given(st.floats(0.1, 1), st.integers(0, 2**32))
def test_coming_along_costs_no_turn(interval_s: float, seed: int) -> None:
    """However short the interval: as many rounds as without it."""
    its = schedule(KEYS[:5], interval_s, seed=seed)
    count = 0
    while (now := its.next_due()) <= START + 50 * interval_s:
        count += len(its.pop_due(now)) + len(company(its, now))
    assert abs(count - 250) <= 10
