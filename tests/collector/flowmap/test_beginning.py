"""A map that begins by columns says what it would if it had been told each change by itself."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.reports import told_of
from reachmap_collector.store.api import Latest, Transition
from reachmap_collector.well import well_flows
from reachmap_shared import codec
from reachmap_shared.messages import Observation
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport

ENDS = [
    ("db-1", "db.example", 80, Expectation.REACHABLE),
    ("db-1", "10.0.0.1", 81, Expectation.REACHABLE),
    ("db-1", "db.example", 82, Expectation.BLOCKED),
    ("web-1", "10.0.0.1", 80, Expectation.REACHABLE),
    ("web-1", "www.example", 80, Expectation.REACHABLE),
    ("web-2", "a.example", 80, Expectation.REACHABLE),
    ("web-2", "b.example", 80, Expectation.REACHABLE),
    ("web-3", "", 80, Expectation.REACHABLE),
]
FLOWS = [
    ExpectedFlow(
        FlowKey(source, to, address, port, Transport.TCP),
        ServiceName.parse(f"web:{port}"),
        *("tcp", expect, (), ()),
    )
    for source in ("pc-1", "pc-2")
    for to, address, port, expect in ENDS
]
SETS = [(), (), ("10.0.0.1",), ("10.0.0.2",), ("10.0.0.2", "10.0.0.1"), ("fd00::1", "10.0.0.1")]
OPEN, DOWN = Outcome.OPEN, Outcome.TIMEOUT


def change(
    flow: ExpectedFlow,
    at: float,
    *resolved: str,
    which: int = 0,
    outcome: Outcome = OPEN,
    boot: str = "boot-1",
    number: int = 0,
    service: str = "",
    address: str = "",
    healthy: bool = True,
) -> Transition:
    """As the store has it."""
    dialled = address or (resolved[which % len(resolved)] if resolved else "")
    seen = Observation(
        *(
            0,
            0,
            outcome,
            AnsweredBy.SERVICE if outcome is OPEN else None,
            healthy,
            0,
            400 + number,
            9,
        ),
        *(f"10.1.0.{number % 3}:4000", ("connected",)),
        address=dialled,
        resolved=resolved,
    )
    return Transition(
        *(flow.key.source, boot, number),
        replace(flow.key, address=dialled) if resolved else flow.key,
        *(service or str(flow.service), at, outcome, outcome is OPEN, codec.encode(seen)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Transition]:
    """What agents told, in whatever order: their clocks and ours may say different ones."""
    told = draw(
        st.lists(
            st.builds(
                lambda flow, at, resolved, **more: change(flow, at, *resolved, **more),
                st.sampled_from(FLOWS),
                st.integers(1, 6).map(float),
                st.sampled_from(SETS),
                which=st.integers(0, 1),
                outcome=st.sampled_from([OPEN, OPEN, DOWN, Outcome.NAME_FAILURE]),
                boot=st.sampled_from(["boot-1", "boot-2", "boot-0"]),
                service=st.sampled_from(["", "", "", "shop:80"]),
                address=st.sampled_from(["", "", "", "10.0.0.9"]),
                healthy=st.booleans(),
            ),
            max_size=24,
        )
    )
    numbers = draw(st.permutations(range(len(told))))
    some = draw(st.sampled_from([0, columns.MOST - 12]))  # what a row has at most is among them
    return [replace(one, number=n + some) for one, n in zip(told, numbers, strict=True)]


def latest_of(changes: Sequence[Transition]) -> Latest:
    """The last change of each flow, in the order in which the flows came up."""
    last: dict[FlowKey, Transition] = {}
    for one in changes:
        if one.flow not in last or one.at >= last[one.flow].at:
            last[one.flow] = one
    return Latest.of(last.values())


def blank() -> FlowMap:
    flows = FlowMap(9999)
    flows.expect(FLOWS, 0.0)
    return flows


def tell(flows: FlowMap, changes: Sequence[Transition]) -> set[str]:
    """One by one; returns the agents that have to say which name it was."""
    asked = set()
    for one in sorted(changes, key=lambda one: one.at):
        told = told_of(one)
        assert told is not None
        found = [one.flow]
        if told.seen.resolved:
            found = [
                flow.key
                for flow in FLOWS
                if replace(flow.key, address="") == replace(one.flow, address="")
                and not flow.key.address.startswith("10.")
            ]
        if len(found) == 1:
            flows.tell(found[0], one.service, told)
        elif found:
            asked.add(one.agent)
    return asked


def begin(flows: FlowMap, latest: Latest) -> tuple[set[str], int]:
    """By columns, as far as they go; returns whom to ask, and how many had to be told."""
    well, places = well_flows(latest)
    begun = flows.begin(well)
    assert len(well.keys) == len(places) == len(latest)
    whole = [latest[place] for place in places[begun.whole].tolist()]
    asked = {latest[place].agent for place in places[begun.unclear].tolist()}
    return asked | tell(flows, whole), len(whole)


def said(flows: FlowMap) -> list[tuple[object, ...]]:
    """All that rows and the records made of them say of each flow."""
    every = flows.every()
    text = flows._written.words.text
    names = [name for name in every.dtype.names or () if name not in ("boot", "local")]
    found: list[tuple[object, ...]] = []
    for flow in flows:
        row = every[flow.row]
        assert flows.key(flow.row) == flow.key
        found.append((flow.key, *row[names].item(), text(row["boot"]), text(row["local"])))
        # Where clocks and numbers contradict each other, rows and records may too.
        since = min(flow.changed, flow.checked)
        found.append((flow.checked, since, flow.last and flow.last.outcome))
    return found


A, B = "10.0.0.1", "10.0.0.2"
DB, BLOCKED, BY_ADDRESS = FLOWS[0], FLOWS[2], FLOWS[3]
NO_NAME = Outcome.NAME_FAILURE


@example([change(DB, 1, A, number=1), change(DB, 2, outcome=NO_NAME, number=2)])
@example([change(DB, 2, A, number=2), change(DB, 1, outcome=NO_NAME, number=1)])
@example([change(DB, 1, outcome=NO_NAME, boot="boot-2"), change(DB, 1, A), change(DB, 1, B)])
@example([change(DB, 1, A, B, which=which, number=which) for which in range(2)])
@example([change(BLOCKED, 9, A, B, which=which, number=which) for which in (1, 0)])
@example([change(DB, 1, A, number=1), change(DB, 2, B, number=2), change(BY_ADDRESS, 3)])
@given(histories())
def test_it_is_as_if_each_had_been_told(changes: list[Transition]) -> None:
    """Of addresses and names, whatever they resolved to, and whenever."""
    latest = latest_of(changes)
    begun, told = blank(), blank()
    asked, _ = begin(begun, latest)
    assert asked == tell(told, [*latest])
    assert [begun.resolved.of(row) for row in range(len(FLOWS))] == [
        told.resolved.of(row) for row in range(len(FLOWS))
    ]
    assert (len(begun), begun.unheard()) == (len(told), told.unheard())
    assert said(begun) == said(told)
    for one in latest:
        has = (flows.has(one.flow, one.boot, one.number) for flows in (begun, told))
        assert next(has) == next(has)


@given(histories(), st.sampled_from([A, B, "10.0.0.9"]), st.sampled_from([OPEN, DOWN, NO_NAME]))
def test_it_goes_on_as_if_each_had_been_told(
    changes: list[Transition], address: str, outcome: Outcome
) -> None:
    """But of an address that comes back, since when it is as it is."""
    latest = latest_of(changes)
    begun, told = blank(), blank()
    begin(begun, latest)
    tell(told, [*latest])
    resolved = () if outcome is NO_NAME else (address,)
    later = change(DB, 99, *resolved, outcome=outcome, boot="boot-9", number=99)
    for flows in (begun, told):
        tell(flows, [later])
        assert flows.has(later.flow, "boot-9", 99)

    def stand(flows: FlowMap) -> list[tuple[object, ...]]:
        return [(one.key, one.last and one.last.outcome, one.checked) for one in flows]

    assert stand(begun) == stand(told)
