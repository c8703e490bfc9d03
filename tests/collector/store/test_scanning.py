"""Looking through much of history for little: the same as looking at each transition whole."""

import random
from typing import Any

import pytest

from reachmap_collector.store.api import EVERYTHING, Batch, Cursor, Entry, Selection, Transition
from reachmap_collector.store.shifts import NOTHING, OUTCOMES
from reachmap_collector.store.sql import SqlStore
from reachmap_shared.vocabulary import Outcome


@pytest.fixture
def past(store: SqlStore, transition: Any, flow: Any) -> list[Transition]:
    """Flows between a few hosts, each with some changes, several of them at one moment."""
    dice = random.Random(7)
    keys = [flow(source, to) for source in ("pc-1", "pc-2", "web-1") for to in ("web-1", "db-1")]
    keys.append(flow("pc-1", "web-1", "fd00::1"))
    made = [
        transition(
            *(number, 1000.0 + dice.randrange(40), dice.choice(keys)),
            service=dice.choice(["web:8080", "db:5432"]),
            outcome=dice.choice([Outcome.OPEN, Outcome.TIMEOUT]),
        )
        for number in range(120)
    ]
    store.commit(Batch(tuple(made)))
    return made


def wants(source: str, service: str) -> bool:
    return (source, service) in {("pc-1", "web:8080"), ("web-1", "db:5432")}


@pytest.mark.parametrize("look_at", [1, 7, 1000])
@pytest.mark.parametrize("limit", [1, 5, 1000])
@pytest.mark.parametrize("selection", [EVERYTHING, Selection(1010.0, 1030.0, ("pc-1",))])
def test_what_fits_is_found_page_after_page(
    store: SqlStore, past: list[Transition], look_at: int, limit: int, selection: Selection
) -> None:
    """However few are looked at or wanted at once: each once, in order, with what was before."""
    expected = [
        one
        for one in store.entries(selection)
        if wants(one.transition.flow.source, one.transition.service)
    ]
    assert len(expected) > 3
    found: list[Entry] = []
    before: Cursor | None = None
    while True:
        some, before = store.fitting(wants, selection, look_at=look_at, limit=limit, before=before)
        assert len(some) <= min(look_at, limit)
        found += some
        if before is None:
            break
    assert found == expected


def test_where_nothing_fits_nothing_is_found(store: SqlStore, past: list[Transition]) -> None:
    """And nothing is left to look at, of an empty store either."""
    assert store.fitting(lambda *_: False, look_at=1000, limit=5) == ([], None)
    nowhere = Selection(sources=("nobody",))
    assert store.fitting(lambda *_: True, nowhere, look_at=1000, limit=5) == ([], None)


@pytest.mark.parametrize("moment", [999.0, 1000.0, 1013.0, 2000.0])
@pytest.mark.parametrize("selection", [EVERYTHING, Selection(destinations=("db-1",))])
def test_how_flows_stood_is_what_their_last_transitions_say(
    store: SqlStore, past: list[Transition], moment: float, selection: Selection
) -> None:
    """At any moment, of any flows."""
    whole = store.at(moment, selection=selection)
    found = store.standings(moment, selection=selection)
    assert sorted((one.flow, one.service, one.outcome, one.at) for one in found) == sorted(
        (one.flow, one.service, one.outcome, one.at) for one in whole
    )


@pytest.mark.parametrize(
    ("since", "until"), [(900.0, 1010.0), (1005.0, 1020.0), (1020.0, 2000.0), (2000.0, 3000.0)]
)
@pytest.mark.parametrize(
    "selection",
    [EVERYTHING, Selection(destinations=("db-1",)), Selection(services=("db:5432",))],
)
def test_what_became_of_flows_is_what_both_ends_of_the_span_say(
    store: SqlStore, past: list[Transition], since: float, until: float, selection: Selection
) -> None:
    """What a flow was when it led to another service, it was not to this one."""
    span = (since, until)
    before = {
        (one.flow, one.service): one for one in store.at(since, changed=span, selection=selection)
    }
    expected = []
    for one in store.at(until, changed=span, selection=selection):
        if selection.services is None or one.service in selection.services:
            was = before.get((one.flow, one.service))
            ends = one.flow.source, one.flow.destination, one.service
            by_ipv6 = ":" in one.flow.address
            expected.append((ends, by_ipv6, was and was.outcome, one.outcome, one.at))
    found = store.shifts(since, until, selection)
    assert len(found) == len(expected)
    assert (len(expected) > 0) == (since < 2000.0)
    outcomes = (*OUTCOMES, None)  # NOTHING is the last, counted from the end
    assert sorted(map(str, expected)) == sorted(
        str(
            (
                found.ends(place),
                bool(found.by_ipv6[place]),
                outcomes[found.was[place]],
                outcomes[found.outcome[place]],
                float(found.since[place]),
            )
        )
        for place in range(len(found))
    )
    fresh = {place for place in range(len(found)) if found.was[place] == NOTHING}
    assert {*found.fresh().tolist()} == fresh
