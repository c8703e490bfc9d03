"""The last transitions by columns are the transitions that they stand for."""

from collections.abc import Callable

from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import Latest, Transition
from reachmap_shared.vocabulary import Outcome

Make = Callable[..., Transition]
MakeFlow = Callable[..., FlowKey]


def test_transitions_come_back_from_their_columns(transition: Make, flow: MakeFlow) -> None:
    """All, each, and a part; none, too."""
    rows = [
        transition(0, 1000.125),
        transition(2**53, 1001.0, flow("pc-2"), boot="boot-2", outcome=Outcome.TIMEOUT),
        transition(7, 1002.0, flow("pc-1", "db-1"), service="db:5432", detail=b""),
    ]
    found = Latest.of(rows)
    assert [*found] == rows
    assert (found[-1], found[:2], len(found)) == (rows[-1], rows[:2], 3)
    assert [*Latest.of([])] == []


def test_hosts_of_transitions_are_called_what_they_are_now(
    transition: Make, flow: MakeFlow
) -> None:
    """Whose boot it was stays as it was told."""
    [found] = Latest.of([transition(0)]).called({"pc-1": "pc-9", "web-1": "www-1"})
    assert (found.flow, found.agent) == (flow("pc-9", "www-1"), "pc-1")
