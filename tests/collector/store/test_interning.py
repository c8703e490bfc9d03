"""Names have one number each, and what many flows have in common is in memory once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import SlotFlows, place_of
from reachmap_collector.store.api import Batch, PlanSlots, Transition
from reachmap_collector.store.sql import SqlStore

Make = Callable[..., Transition]
MakeFlow = Callable[..., FlowKey]


def test_places_are_held_once_whoever_dials_them(
    store: SqlStore, url: str, opened: Any, transition: Make, flow: MakeFlow
) -> None:
    """Also those that were there before, and those that a plan brought."""
    keys = [flow(f"pc-{n}", port=port) for n in range(3) for port in (1, 2)]
    plan = PlanSlots("pc-9", "one", SlotFlows("pc-9", (place_of(keys[1]),)), ("web:2",), 1.0)
    rows = tuple(transition(n, key=key) for n, key in enumerate(keys))
    store.commit(Batch(rows, plans=(plan,)))
    other: SqlStore = opened(url)
    other.commit(Batch((*rows, transition(9, key=flow("pc-3", port=1))), plans=(plan,)))
    for one in (store, other):
        places = [place for held in one._names.flows.values() for place in held]
        assert len(places) > 2
        assert len({id(place) for place in places}) == 2
    assert store.size().flows == 8


def test_a_flow_is_found_by_any_key_that_is_equal(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """Each report makes its own; with an address that is kept otherwise than it was told, too."""
    odd = flow(address="fe80::1%\0")
    for number in range(3):
        for n, key in enumerate((flow(), odd)):
            store.commit(Batch((transition(2 * number + n, key=replace(key)),)))
    assert (store.size().transitions, store.size().flows) == (6, 2)
