"""What fits the filters is counted and listed as if each flow had been judged and looked at."""

from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import views
from reachmap_collector.overview import Filters, Overview
from reachmap_collector.planner import FlowKey
from reachmap_collector.states import States
from reachmap_collector.topology.rows import find_rows
from reachmap_collector.views import By, Tally
from reachmap_shared.vocabulary import Outcome, State

NOW = 1000.0

MORE = """
[roles.guest]
connects = ["web:8080"]
[hosts.web-2]
roles = ["web"]
addresses = ["web.example", "10.0.0.9", "www.example"]
[hosts.guest-1]
roles = ["guest", "browser"]
[hosts.guest-2]
roles = ["browser"]
"""


def seen_at(stage: Any, **filters: Any) -> Overview:
    states = States(stage.flows, stage.judge_at(NOW))
    return Overview(states, stage.topology, Filters(**filters))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, 4),
        ({"source": "pc-1"}, 3),
        ({"destination": "db-1"}, 2),
        ({"service": "db:5432"}, 2),
        ({"service": "web:8080"}, 1),
        ({"role": "browser"}, 3),
        ({"role": "shop"}, 2),
        ({"role": "db"}, 2),
        ({"state": "unknown"}, 4),
        ({"state": "ok"}, 0),
        ({"source": "pc-1", "destination": "db-1"}, 1),
        ({"source": "web-1", "service": "web:8080"}, 0),
        ({"role": "shop", "destination": "web-1", "state": "unknown"}, 1),
    ],
)
def test_filters_combine(scene: Any, filters: dict[str, str], found: int) -> None:
    """A flow must fit all of them; a role may stand on either end."""
    overview = seen_at(scene(), **filters)
    assert (len(overview), len([*overview.page()])) == (found, found)


choices = {
    "source": ["pc-1", "guest-1", "web-1"],
    "destination": ["web-1", "web-2", "db-1"],
    "service": ["web:8080", "db:5432"],
    "role": ["browser", "web", "guest", "db"],
    "state": [*State],
}
sights = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([Outcome.OPEN, Outcome.TIMEOUT, Outcome.REFUSED]),
        st.sampled_from([0.0, 500.0]),
        st.sampled_from([(), ("10.9.0.1",), ("10.0.0.0", "10.9.0.2"), ("10.0.0.0",)]),
    ),
    max_size=30,
)


@examples(200)
@given(
    sights,
    st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in choices.items()}),
    st.integers(1, 5),
    st.integers(0, 2),
)
def test_it_is_what_looking_at_each_flow_finds(
    scene: Any, office_text: str, told: Any, seen: Any, filters: dict[str, Any], size: int,
    kept: int,
) -> None:  # fmt: skip
    """Counts, tallies, and pages of any size, which together have each flow once, in order."""
    stage = scene(office_text + MORE)
    stage.flows._kept = kept
    flows = [*stage.flows.expected]
    for place, outcome, age, resolved in seen:
        flow = flows[place % len(flows)]
        more = {"resolved": resolved, "address": resolved[-1]} if resolved else {}
        if flow.key.address.endswith(".example") or not resolved:
            stage.flows.tell(flow.key, str(flow.service), told(NOW - age, outcome, **more))
    expected = [one for one in stage.judgements(NOW) if fits(one, filters)]
    overview = seen_at(stage, **filters)
    assert len(overview) == len(expected)
    assert overview.counts() == {
        state: sum(one.state is state for one in expected) for state in State
    }
    for since in (0.0, NOW - 10):
        assert overview.checked(since) == sum(
            one.seen is not None and one.record.checked >= since for one in expected
        )
    for by in (By.ROLE, By.HOST):
        assert plain(views.matrix(overview.tallies(by), by)) == plain(
            views.matrix(map(Tally.of, expected), by)
        )
    sources, rows = overview.sources(), list[Any]()
    for begin in range(0, len(sources), size):
        some = sources[begin : begin + size]
        rows += views.matrix(overview.tallies(By.HOST, some), By.HOST)["rows"]
    assert rows == views.matrix(overview.tallies(By.HOST), By.HOST)["rows"]
    assert views.table(stage.topology, overview.tallies(By.ROW)) == views.table(
        stage.topology, map(Tally.of, expected)
    )
    keys, after, more = list[FlowKey](), None, True
    while more:
        part, more = overview.part(size, after)
        assert len(part) >= size or not more
        keys += [stage.flows.at(one).key for one in part]
        after = keys[-1] if keys else None
    assert keys == sorted(one.record.key for one in expected)


def plain(matrix: Any) -> Any:
    """Without what is zero."""
    return matrix | {
        "rows": [
            {
                name: {state: n for state, n in cell.items() if n}
                for name, cell in row["cells"].items()
            }
            for row in matrix["rows"]
        ]
    }


def fits(judgement: Any, filters: dict[str, Any]) -> bool:
    record = judgement.record
    has = {
        "source": record.key.source,
        "destination": record.key.destination,
        "service": str(record.expected.service),
        "state": judgement.state,
    }
    roles = views.roles(record.expected)
    return all(
        value in roles if name == "role" else has[name] == value for name, value in filters.items()
    )


def test_rows_of_port_tables_are_a_filter_too(scene: Any, openuem: Any, told: Any) -> None:
    """Each of the 21 rows has its flows."""
    stage = scene(openuem())
    for row in stage.topology.rows:
        [wanted] = find_rows(stage.topology.rows, str(row.number))
        expected = sum(
            wanted in views.table_rows(stage.topology, flow) for flow in stage.flows.expected
        )
        assert len(seen_at(stage, rows=[wanted])) == expected > 0
