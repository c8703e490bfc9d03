"""What a map begins with is read by columns, once, and in the order of the index."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.store.api import Batch, PlanSlots, Transition
from reachmap_collector.store.sql import SqlStore
from reachmap_collector.well import well_flows
from reachmap_shared import codec
from reachmap_shared.messages import Observation
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Expectation, Outcome

Make = Callable[..., Transition]
MakeFlow = Callable[..., FlowKey]


def test_plans_of_agents_that_dial_the_same_are_held_once(store: SqlStore, flow: MakeFlow) -> None:
    """Also where the ids that the store has for their flows are not side by side."""
    names = [f"pc-{number}" for number in range(3)]
    for port in (1, 2):
        store.commit(
            Batch(
                plans=tuple(
                    PlanSlots(one, "old", (flow(one, port=port),), ("a",), 1.0) for one in names
                )
            )
        )
    plans = [
        PlanSlots(one, "new", (flow(one, port=2), flow(one, port=1)), ("b", "a"), 2.0)
        for one in names
    ]
    store.commit(
        Batch(plans=(*plans, PlanSlots("pc-9", "new", (flow("pc-9", port=2),), ("b",), 2.0)))
    )
    found = store.beginning(1).plans
    assert [*found[:3]] == plans
    assert len({id(one.flows.places) for one in found}) == 2  # type: ignore[attr-defined]
    assert store.plans("pc-1") == [
        PlanSlots("pc-1", "old", (flow("pc-1", port=2),), ("a",), 1.0),
        plans[1],
    ]
    assert store.plans("nobody") == []


def test_the_last_of_each_flow_is_read_in_the_order_of_the_index(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """One look for each; on SQLite from page to page, and nothing is sorted."""
    store.commit(Batch(tuple(transition(n, key=flow(f"pc-{9 - n}")) for n in range(9))))
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        asked.append((statement, parameters))

    event.listen(store._engine, "before_cursor_execute", note)
    assert len(store.beginning().latest) == 9
    [(statement, parameters)] = [one for one in asked if "LIMIT" in one[0]]
    explain = "EXPLAIN QUERY PLAN" if store.shown.startswith("sqlite:") else "EXPLAIN"
    with store._engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        steps = [row[-1] for row in rows]
    if explain == "EXPLAIN":
        assert any(step.startswith("Nested Loop") for step in steps)
        assert not any("Seq Scan on transitions" in step for step in steps)
    else:
        assert steps[0] == "SCAN flows"
        assert "COVERING INDEX transitions_flow_at_ix (flow=?" in steps[-1]
        assert not any("TEMP B-TREE" in step for step in steps)


def test_names_begin_with_the_addresses_that_the_store_has_last(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """Those before are in the store for ever, as is that a name did not resolve once."""
    name = flow(address="web.example")
    told: list[tuple[str, tuple[str, ...]]] = [
        ("10.0.0.9", ("10.0.0.9",)),
        ("", ()),
        ("10.0.0.1", ("10.0.0.1", "10.0.0.2")),
        ("10.0.0.2", ("10.0.0.1", "10.0.0.2")),
    ]
    for number, (address, resolved) in enumerate(told):
        outcome = Outcome.OPEN if resolved else Outcome.NAME_FAILURE
        seen = Observation(
            *(0, 0, outcome, None, True, 0, number, 0, "", ()), address=address, resolved=resolved
        )
        key, detail = flow(address=address) if resolved else name, codec.encode(seen)
        one = transition(number, 1000.0 + number, key, outcome=outcome, detail=detail)
        store.commit(Batch((one,)))
    service = ServiceName.parse(one.service)
    flows = FlowMap()
    flows.expect([ExpectedFlow(name, service, "http", Expectation.REACHABLE, (), ())], 0.0)
    well, _ = well_flows(store.beginning().latest)
    assert len(well.keys) == len(told)
    assert not any(map(len, flows.begin(well)))
    assert [
        (record.key.address, record.checked, record.last and record.last.connect_us)
        for record in flows
    ] == [("10.0.0.1", 1002.0, 2), ("10.0.0.2", 1003.0, 3)]
