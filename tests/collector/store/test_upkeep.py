"""What is pruned, and what stays however old it is; on both stores."""

from collections.abc import Callable
from typing import Any

import pytest

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import upkeep
from reachmap_collector.store.api import (
    DAY_S,
    Batch,
    DeadLetter,
    Keep,
    PackedRollUp,
    PlanSlots,
    Received,
    Transition,
)
from reachmap_collector.store.sql import SqlStore

Make = Callable[..., Transition]
MakeFlow = Callable[..., FlowKey]

NOW = 1000 * DAY_S
NOTHING = Keep(None, None, None, dead_letters=10**6, plans=10**6)


def numbers(store: SqlStore) -> list[int]:
    return sorted(one.number for one in store.history().transitions)


def prune_all(store: SqlStore, keep: Keep) -> int:
    """How many calls it took."""
    calls = 1
    while store.prune(NOW, keep):
        calls += 1
        assert calls < 100
    return calls


def test_transitions_are_kept_for_ever_by_default(store: SqlStore, transition: Make) -> None:
    """However many there are."""
    store.commit(Batch(tuple(transition(number, float(number)) for number in range(10))))
    prune_all(store, Keep())
    assert numbers(store) == list(range(10))


def test_what_was_so_since_the_horizon_is_told_after_pruning(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """So the last one before it stays for each flow, and with it the last one of all."""
    days = [NOW - age * DAY_S for age in (50, 40, 31, 30, 29, 1)]
    others = [NOW - 99 * DAY_S, NOW - 98 * DAY_S]
    changes = [transition(number, at) for number, at in enumerate(days)]
    changes += [transition(10 + n, at, flow("pc-2")) for n, at in enumerate(others)]
    store.commit(Batch(tuple(changes)))
    horizon = NOW - 30 * DAY_S
    moments = [horizon, horizon + 1, NOW - 29 * DAY_S, NOW]
    before = [sorted(one.number for one in store.at(moment)) for moment in moments]
    prune_all(store, Keep(transitions_s=30 * DAY_S))
    assert numbers(store) == [3, 4, 5, 11]
    assert [sorted(one.number for one in store.at(moment)) for moment in moments] == before


def test_roll_ups_go_when_they_are_old(store: SqlStore) -> None:
    """Ninety days by default."""
    ages = [91, 90.001, 89.999, 0]
    store.commit(
        Batch(
            rollups=tuple(
                PackedRollUp("a", "b", n, "p", NOW - age * DAY_S, NOW - age * DAY_S + 60, b"x")
                for n, age in enumerate(ages)
            )
        )
    )
    prune_all(store, NOTHING)
    assert store.size().rollups == 4
    prune_all(store, Keep())
    assert [one.sequence for one in store.rollups("a", 0, 2 * NOW)] == [2, 3]


def test_boots_are_forgotten_when_they_are_old_and_were_followed(store: SqlStore) -> None:
    """The last of an agent stays: it may sleep for months, and go on where it was."""

    def row(agent: str, boot: str, days: float) -> Received:
        return Received(agent, boot, ((0, 1),), 1, 1, NOW - days * DAY_S)

    rows = (row("a", "1", 90), row("a", "2", 60), row("b", "1", 31), row("b", "2", 1))
    store.commit(Batch(received=(*rows, row("c", "1", 29), row("c", "2", 1))))
    prune_all(store, Keep())
    left = sorted((one.agent, one.boot) for one in store.received())
    assert left == [("a", "2"), ("b", "2"), ("c", "1"), ("c", "2")]


def test_only_the_latest_dead_letters_stay(store: SqlStore) -> None:
    """The newest."""
    letters = tuple(DeadLetter(str(number), "", b"", NOW) for number in range(12))
    store.commit(Batch(dead_letters=letters))
    prune_all(store, Keep(dead_letters=5))
    assert [one.subject for one in store.dead_letters()] == ["11", "10", "9", "8", "7"]
    prune_all(store, Keep(dead_letters=0))
    assert store.dead_letters() == ()


def test_plans_that_nothing_needs_go(store: SqlStore, flow: MakeFlow) -> None:
    """Needed are the latest of each agent, and those that roll-ups are told by."""
    plans = tuple(
        PlanSlots(agent, revision, (flow(agent),), ("s",), NOW + place)
        for agent in ("a", "b")
        for place, revision in enumerate("12345")
    )
    old = PackedRollUp("a", "boot", 0, "2", NOW - 100 * DAY_S, NOW, b"")
    store.commit(Batch(plans=plans, rollups=(old,)))
    prune_all(store, Keep(plans=2, rollups_s=None))
    left = sorted(one.agent + one.revision for one in store.beginning().plans)
    assert left == ["a2", "a4", "a5", "b4", "b5"]
    prune_all(store, Keep(plans=2))
    assert sorted(one.agent + one.revision for one in store.beginning().plans) == [
        "a4",
        "a5",
        "b4",
        "b5",
    ]
    # What was let go of may come again.
    store.commit(Batch(plans=plans, rollups=(old,)))
    assert store.size().plans == 10


def test_pruning_is_done_in_bounded_parts(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, transition: Make, flow: MakeFlow
) -> None:
    """And says whether there is more, so that commits can come in between."""
    monkeypatch.setattr(upkeep, "_ROWS", 10)
    monkeypatch.setattr(upkeep, "_FLOWS", 7)
    changes: list[Any] = [
        transition(number * 2 + n, NOW - 100 * DAY_S + number, flow(f"pc-{number}"))
        for number in range(20)
        for n in range(2)
    ]
    rolled = tuple(PackedRollUp("a", "b", n, "p", 1.0, 2.0, b"") for n in range(35))
    store.commit(Batch(tuple(changes), rolled))
    assert store.prune(NOW, Keep())
    assert store.size().rollups == 25
    assert prune_all(store, Keep(transitions_s=DAY_S)) >= 3
    assert store.size().rollups == 0
    assert store.size().transitions == 40  # all of one moment: none was followed
    later = [transition(100 + n, NOW - 99 * DAY_S, flow(f"pc-{n}")) for n in range(20)]
    store.commit(Batch(tuple(later)))
    assert prune_all(store, Keep(transitions_s=DAY_S)) >= 3
    assert store.size().transitions == 20
    assert {one.number for one in store.beginning().latest} == set(range(100, 120))
