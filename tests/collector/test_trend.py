"""Roll-ups are added up step by step, and nothing of them is lost or counted twice."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import documents
from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import PlanSlots
from reachmap_collector.trend import Span, Trend
from reachmap_shared import logscale
from reachmap_shared.messages import NamedCount, RollUp
from reachmap_shared.vocabulary import Transport

T = 1_700_000_000.0
WEB = FlowKey("pc-1", "web-1", "10.0.0.1", 80, Transport.TCP)
SHOP = replace(WEB, port=443)
OTHER = replace(WEB, destination="web-2", address="10.0.0.2")
NAMED = replace(WEB, address="web.example")
PLAN = PlanSlots("pc-1", "r1", (OTHER, WEB, SHOP), ("a:80", "web:80", "shop:443"), T)
TENTH_OF_A_MS = logscale.code(100)


def asked_for(flow: FlowKey) -> FlowKey | None:
    return flow if flow.destination == "web-1" else None


@given(
    st.lists(
        st.tuples(
            st.floats(-30, 130),
            *[st.tuples(st.integers(0, 255), st.integers(0, 9), st.integers(0, 9))] * 3,
        )
    ),
    st.integers(1, 20),
)
def test_the_steps_come_to_the_whole(
    lines: list[tuple[float, *tuple[tuple[int, int, int], ...]]], steps: int
) -> None:
    """Of each flow that was asked for, what began within the span, and no other."""
    trend = Trend(Span(T, T + 100, steps), asked_for)
    trend.know(PLAN)
    expected = {80: [0, 0, 0], 443: [0, 0, 0]}
    for begins, *slots in lines:
        made, flips, local_errors = (bytes(column) for column in zip(*slots, strict=True))
        trend.take(
            "pc-1", T + begins, RollUp("r1", 0, 0, made, flips=flips, local_errors=local_errors)
        )
        for port, counts in ((80, slots[1]), (443, slots[2])):
            if T <= T + begins < T + 100 and counts[0]:
                expected[port] = [a + b for a, b in zip(expected[port], counts, strict=True)]
    shown = trend.shown()
    documents.Trend.model_validate(shown)
    for flow in shown["flows"]:
        assert len(flow["steps"]) == steps
        whole = [flow[name] for name in ("made", "flips", "local_error")]
        assert whole == expected.pop(flow["port"])
        for number, name in enumerate(("made", "flips", "local_error")):
            assert sum(step[name] for step in flow["steps"]) == whole[number]
    assert not any(counts[0] for counts in expected.values())


@given(st.floats(-1, 101), st.integers(1, 500))
def test_a_moment_is_in_one_step(moment: float, steps: int) -> None:
    """Steps follow each other without a gap; who is outside is in none."""
    span = Span(T, T + 100, steps)
    place = span.place(T + moment)
    if not T <= T + moment < T + 100:
        assert place is None
    else:
        assert place is not None
        assert 0 <= place < steps
        assert abs(T + moment - (T + (place + 0.5) * span.step_s)) <= span.step_s / 2 + 1e-6


@pytest.mark.parametrize(("length", "count"), [(10, 1), (86_400, 1), (86_401, 2), (250_000, 3)])
def test_a_span_is_read_in_parts(length: float, count: int) -> None:
    """Which are it, one after the other."""
    parts = [*Span(T, T + length, 7).parts(86_400, T - 1)]
    assert len(parts) == count
    assert (parts[0][0], parts[-1][1]) == (T, T + length)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))


@pytest.mark.parametrize(("since", "until"), [(-6e10, 2e11), (-6e10, -5e10), (1e11, 2e11)])
def test_all_of_time_is_not_read_day_by_day(since: float, until: float) -> None:
    """A store has what began since the horizon."""
    parts = [*Span(since, until, 7).parts(86_400, T)]
    assert len(parts) <= 201
    assert (parts[0][0], parts[-1][1]) == (since, until)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))


def test_open_and_latency_are_what_the_checks_found() -> None:
    """What failed and what could not be made is not open; the median is over roll-ups that have one."""
    trend = Trend(Span(T, T + 60, 2), asked_for)
    trend.know(PLAN)
    columns = {"made": b"\0\x0a\0", "failed": b"\0\x03\0", "local_errors": b"\0\x01\0"}
    trend.take("pc-1", T, RollUp("r1", 0, 0, **columns, latency=bytes([0, TENTH_OF_A_MS, 0])))
    trend.take("pc-1", T + 40, RollUp("r1", 0, 0, made=b"\0\x02\0", failed=b"\0\x02\0"))
    [flow] = trend.shown()["flows"]
    assert [(step["made"], step["open"], step["local_error"]) for step in flow["steps"]] == [
        (10, 6, 1),
        (2, 0, 0),
    ]
    first, second = (step["latency_ms"] for step in flow["steps"])
    assert first == pytest.approx(0.1, rel=0.04)
    assert (second, flow["latency_ms"]) == (None, first)


def test_each_address_of_a_name_is_a_flow() -> None:
    """As on the map; a slot of another flow is none."""
    trend = Trend(Span(T, T + 60, 1), asked_for)
    trend.know(replace(PLAN, flows=(NAMED,), services=("web:80",)))
    named = (
        NamedCount(0, "10.0.0.1", 5, 0, 0, 0, 0),
        NamedCount(0, "10.0.0.9", 4, 4, 0, 0, 0),
        NamedCount(7, "10.0.0.8", 9, 0, 0, 0, 0),
    )
    trend.take("pc-1", T, RollUp("r1", 0, 0, made=b"\0", named=named))
    shown = [(flow["address"], flow["made"], flow["open"]) for flow in trend.shown()["flows"]]
    assert shown == [("10.0.0.1", 5, 5), ("10.0.0.9", 4, 0)]


def test_a_roll_up_under_a_forgotten_plan_says_nothing() -> None:
    """Nor one of another agent that has a plan of that name."""
    trend = Trend(Span(T, T + 60, 1), asked_for)
    trend.know(PLAN)
    trend.take("pc-1", T, RollUp("r2", 0, 0, made=b"\1\1\1"))
    trend.take("pc-2", T, RollUp("r1", 0, 0, made=b"\1\1\1"))
    assert trend.shown()["flows"] == []
