"""A restart remembers of a flow what its row had of it before."""

from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from reachmap_collector import well
from reachmap_collector.flowmap.columns import Rows
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.reports import told_of
from reachmap_collector.store.api import Latest, Transition
from reachmap_shared import codec
from reachmap_shared.messages import Observation
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport

observations = st.builds(
    Observation,
    slot=st.integers(0, 3),
    at_ms=st.integers(-5, 2**40),
    outcome=st.sampled_from([Outcome.OPEN, Outcome.OPEN, Outcome.OPEN, Outcome.TIMEOUT]),
    answered_by=st.sampled_from([None, *AnsweredBy]),
    healthy=st.sampled_from([True, True, False]),
    name_us=st.just(0),
    connect_us=st.sampled_from([-7, 0, 400, 2**32 - 2, 2**32 - 1, 2**32, 2**53]),
    answer_us=st.integers(0, 9),
    local=st.sampled_from(["", "10.1.0.1:40000", "10.1.0.1:40001", "[fd00::1]:80", "odd"]),
    evidence=st.sampled_from([(), ("connected in 0.4 ms", "it greets")]),
    window=st.booleans(),
    certificate_until=st.sampled_from([None, -1, 0, 1_900_000_000, 2**32 - 1, 2**40]),
    seen_as=st.sampled_from(["", "10.9.9.9:1"]),
)
sights = st.lists(
    st.tuples(observations, st.sampled_from(["boot-1", "boot-2"]), st.integers(0, 2**40)),
    max_size=8,
)


def flow(port: int, expect: Expectation = Expectation.REACHABLE) -> ExpectedFlow:
    key = FlowKey("pc-1", "web-1", "10.0.0.1", port, Transport.TCP)
    return ExpectedFlow(key, ServiceName.parse(f"web:{port}"), "tcp", expect, (), ())


def transition(port: int, seen: Observation, boot: str = "boot-1", number: int = 0) -> Transition:
    return Transition(
        *("pc-1", boot, number, flow(port).key, f"web:{port}", 1000.0 + port),
        *(seen.outcome, seen.outcome is Outcome.OPEN, codec.encode(seen)),
    )


def shown(flows: FlowMap) -> list[Any]:
    """The rows, with the words that their numbers stand for."""
    rows: Rows = flows.rows
    words = [
        (flows._written.words.text(row["boot"]), flows._written.words.text(row["local"]))
        for row in rows
    ]
    names = [name for name in rows.dtype.names or () if name not in ("boot", "local")]
    return [(*row[names].item(), *text) for row, text in zip(rows, words, strict=True)]


SEEN = Observation(
    *(0, 0, Outcome.OPEN, AnsweredBy.SERVICE, True, 0, 400, 900, "10.1.0.1:40000"),
    ("connected in 0.4 ms",),
)


@example([(SEEN, "boot-1", 1), (replace(SEEN, window=True), "boot-1", 2)])
@example([(replace(SEEN, certificate_until=9), "boot-1", 1), (SEEN, "boot-2", 2)])
@given(sights)
def test_it_is_as_if_it_had_just_been_told(given_: list[tuple[Observation, str, int]]) -> None:
    """By numbers or whole: nobody can see on the map which of them it was."""
    rows = [transition(port, *one) for port, one in enumerate(given_, 1)]
    wanted = (Expectation.BLOCKED, Expectation.REACHABLE)
    flows = [flow(port, wanted[port % 2]) for port in range(1, len(rows) + 1)]
    found, places = well.well_flows(Latest.of(rows))
    assert places.tolist() == [*range(len(rows))]
    begun, told = FlowMap(), FlowMap()
    for map_ in (begun, told):
        map_.expect(flows, 0.0)
    assert not any(map(len, begun.begin(found)))
    for row in rows:
        change = told_of(row)
        assert change is not None
        told.tell(row.flow, row.service, change)
    assert shown(begun) == shown(told)
    assert begun.unheard() == told.unheard()


def test_what_names_resolved_to_is_held_once(monkeypatch: Any) -> None:
    """Those that many have; and each change's number as high as it is."""
    monkeypatch.setattr(well, "_AT_ONCE", 2)
    sets: list[tuple[str, ...]] = [(), (), ("b",), ("a", "b"), (), ("b",), ("b", "a"), ("a", "b")]
    rows = [
        transition(port, replace(SEEN, address=(*one, "")[0], resolved=one), number=2**40 + port)
        for port, one in enumerate(sets, 1)
    ]
    found, _ = well.well_flows(Latest.of([*rows, replace(rows[0], detail=b"")]))
    assert [found.sets[one] for one in found.resolved] == sets
    assert [*found.sets] == [(), ("b",), ("a", "b"), ("b", "a")]
    assert found.number.tolist() == [row.number for row in rows]


def test_what_another_version_kept_is_put_aside(monkeypatch: Any) -> None:
    """Whatever it is, and its neighbours are none the worse for it."""
    monkeypatch.setattr(well, "_AT_ONCE", 4)
    newer = codec.encode(SEEN).replace(b"\xa7service", b"\xa7servant")
    stranger = codec.encode(SEEN).replace(b"\xa4open", b"\xa4ajar")
    odd = [
        stranger,
        b"",
        b"\xc1",
        b"\x91\x01",
        newer,
        codec.encode(SEEN)[:-3],
        codec.encode(SEEN) * 2,
        b"\1",
    ]
    rows = []
    for port, detail in enumerate(odd, 1):
        rows += [transition(port, SEEN), replace(transition(99 + port, SEEN), detail=detail)]
    found, places = well.well_flows(Latest.of(rows))
    assert places.tolist() == [*range(0, 2 * len(odd), 2)]
    assert [key.port for key in found.keys] == [*range(1, len(odd) + 1)]
    assert (found.rows["connect_us"] == SEEN.connect_us).all()
