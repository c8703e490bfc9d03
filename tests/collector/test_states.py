"""What is told of all flows at once is what the judge says of each."""

from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap import fold, written
from reachmap_collector.flowmap.records import Counts, Period
from reachmap_collector.planner import Announcement, FlowKey
from reachmap_collector.slots import Slots
from reachmap_collector.states import NOBODY, STATES, States
from reachmap_shared.vocabulary import ListenerState, Outcome, State

NOW = 1_000_000.0

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = { protocol = "http" }, "web:81" = { protocol = "http" } }
[roles.db]
connects = ["web:8080"]
listens = { "db:5432" = { protocol = "postgres" } }
[roles.pc]
connects = ["web:8080", "db:5432"]
[roles.guest]
connects = ["web:8080"]

[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1", "fd00::1"]
[hosts.web-2]
roles = ["web"]
addresses = ["web.example"]
[hosts.web-3]
roles = ["web"]
[hosts.db-1]
roles = ["db"]
addresses = ["10.0.0.2"]
[hosts.pc-1]
roles = ["pc"]
[hosts.pc-2]
roles = ["pc"]
[hosts.guest-1]
roles = ["guest"]

[[deny]]
from = "guest"
to = "db:5432"
[[deny]]
from = "db"
to = "web:81"
[[deny]]
from = "pc"
to = "web:81"
"""

AGENTS = ("pc-1", "pc-2", "guest-1", "db-1")

ages = st.sampled_from([0.0, 1.0, 20.0, 40.0, 100.0])
hellos = st.lists(
    st.tuples(
        st.sampled_from((*AGENTS, "web-1")),
        st.sampled_from(["boot-1", "boot-2"]),
        ages,
        st.sampled_from([*ListenerState]),
        st.sampled_from(["", "nginx"]),
    ),
    max_size=6,
)
sights = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from([Outcome.OPEN, Outcome.OPEN, Outcome.REFUSED, *Outcome]),
        ages,
        st.fixed_dictionaries({}, optional={"healthy": st.booleans(), "window": st.booleans()}),
        st.sampled_from([(), ("10.9.0.1",), ("10.9.0.1", "10.9.0.2")]),
    ),
    max_size=40,
)
pulses = st.lists(st.tuples(st.sampled_from(AGENTS), ages, st.integers(0, 255)), max_size=6)
flips = st.lists(st.tuples(st.sampled_from(AGENTS), st.integers(0, 9)), max_size=6)


def make_period(flow: FlowKey, ends: float, **columns: bytes) -> Period:
    slots = Slots.of(flow.source, "r1", (flow,), ("",))
    return Period(ends, "boot-1", int(ends), slots, Counts(**columns))


@examples(200)
@given(hellos, sights, pulses, flips, st.integers(0, 3))
def test_states_are_what_the_judge_says(
    scene: Any, hello: Any, told: Any, listener: Any, said: Any, seen: Any, beats: Any, ups: Any,
    kept: int,
) -> None:  # fmt: skip
    """Whatever was told when by whom, and however few flows have a record of their own."""
    stage = scene(TOPOLOGY, **{"pc-1": Announcement((), ("10.1.0.1",))})
    stage.flows._kept = kept
    flows = [flow for flow in stage.flows.expected if flow.key.address]  # others nobody checks
    for agent, boot, age, state, holder in said:
        served = {"web-1": ("web:8080", "web:81"), "db-1": ("db:5432",)}.get(agent, ())
        ports = [listener(service, state, holder=holder) for service in served]
        stage.roster.hear(hello(agent, boot, listeners=tuple(ports)), NOW - age)
    for place, outcome, age, more, resolved in seen:
        flow = flows[place % len(flows)]
        if flow.key.address == "web.example" and resolved:
            more = {**more, "resolved": resolved, "address": resolved[-1]}
        stage.flows.tell(flow.key, str(flow.service), told(NOW - age, outcome, **more))
    for number, (agent, age, stale) in enumerate(beats):
        keys = [flow.key for flow in flows if flow.key.source == agent]
        slots = Slots.of(agent, "r1", keys[number % 2 :], ("",) * len(keys[number % 2 :]))
        stage.flows.source(agent).pulse(NOW - age, 1.0, slots, bytes([stale]))
    for agent, count in ups:
        key = next(flow.key for flow in flows if flow.key.source == agent)
        period = make_period(key, NOW + count, made=bytes([9]), flips=bytes([count]))
        stage.flows.source(agent).roll_up(period)
    judge = stage.judge_at(NOW)
    states = States(stage.flows, judge)
    expected = {one.record.key: one for one in map(judge.judge, stage.flows)}
    assert len(expected) == len(stage.flows) == len(states)
    numbers = [number for number, code in enumerate(states.codes.tolist()) if code != NOBODY]
    found = {stage.flows.key(number): number for number in numbers}
    assert found.keys() == expected.keys()
    for key, number in found.items():
        one, there = states.judged(number), expected[key]
        assert (one.record.key, one.state, one.since) == (key, there.state, there.since)
        assert STATES[states.codes[number]] is there.state
        assert states.checked[number] == (there.record.checked if there.seen else 0.0)
        assert one.record.row == number
    assert states.counts() == {
        state: sum(one.state is state for one in expected.values()) for state in State
    }


near = st.sampled_from([0.0, 1.0, 9.0, 11.0, 20.0, 40.0])


@examples(400)
@given(
    st.sampled_from([Outcome.TIMEOUT, Outcome.REFUSED, *Outcome]),
    near,
    st.sampled_from([Outcome.OPEN, Outcome.OPEN, Outcome.TIMEOUT]),
    near,
    st.sampled_from(["web-1", "web-2"]),
    st.sampled_from([ListenerState.LISTENING, *ListenerState]),
    st.booleans(),
    st.booleans(),
)
def test_forbidden_flows_are_told_by_their_neighbours(
    scene: Any, hello: Any, told: Any, listener: Any, outcome: Outcome, age: float,
    beside: Outcome, beside_age: float, reached: str, state: ListenerState, window: bool,
    by_name: bool,
) -> None:  # fmt: skip
    """All at once as one by one: by when else the destination was reached, and who listens."""
    stage = scene(TOPOLOGY)
    stage.roster.hear(hello("pc-1"), NOW)
    for host in ("web-1", "web-2"):
        ports = (listener("web:81", state),)
        stage.roster.hear(hello(host, listeners=ports), NOW)
    for flow in [*stage.flows.expected]:
        key, service = flow.key, str(flow.service)
        if key.source != "pc-1" or not key.address:
            continue
        named = {}
        if key.address == "web.example" and by_name:
            named = {"resolved": ("10.9.0.1",), "address": "10.9.0.1"}
        if service == "web:81":
            one = told(NOW - age, outcome, window=window)
            stage.flows.tell(key, service, one)
        elif key.destination == reached:
            stage.flows.tell(key, service, told(NOW - beside_age, beside, **named))
    judge = stage.judge_at(NOW)
    states = States(stage.flows, judge)
    for number, code in enumerate(states.codes.tolist()):
        if code != NOBODY:
            assert STATES[code] is judge.judge(stage.flows.at(number)).state


def test_flows_need_no_record(scene: Any, told: Any) -> None:
    """What people see of them is the same, but for the sentences."""
    stage = scene()
    stage.flows._kept = 0
    record = stage.record("pc-1", "web-1", "web:8080")
    stage.flows.tell(record.key, "web:8080", told(5, Outcome.TIMEOUT))
    assert stage.record("pc-1", "web-1", "web:8080").last.outcome is Outcome.TIMEOUT
    open_ = told(10, certificate_until=77, local="[fd00::7]:4000", connect_us=1234, window=True)
    stage.flows.tell(record.key, "web:8080", open_)
    stage.flows.tell(record.key, "web:8080", told(20, certificate_until=77))
    assert stage.flows._records == {}
    again = stage.record("pc-1", "web-1", "web:8080")
    assert again is not record
    assert (again.checked, again.changed, again.latency_ms) == (20, 10, 1.0)
    assert again.last.certificate_until == 77
    assert (again.newest.boot, again.newest.number) == (open_.boot, open_.number + 1)
    assert fold.KEPT >= 250


def test_words_that_no_row_has_any_more_are_forgotten(
    scene: Any, told: Any, monkeypatch: Any
) -> None:
    """Agents start again and again; what rows say is the same afterwards."""
    monkeypatch.setattr(written, "WORDS", 10)
    stage = scene()
    stage.flows._kept, stage.flows._written._most = 0, 10
    record = stage.record("pc-1", "web-1", "web:8080")
    other = stage.record("pc-1", "web-1", "shop:9090")
    stage.flows.tell(other.key, "shop:9090", told(1, boot="first", local="10.7.7.7:1"))
    for start in range(50):
        change = told(start, boot=f"boot-{start}", local=f"10.0.0.{start}:1")
        stage.flows.tell(record.key, "web:8080", change)
    stage.flows.expect(stage.flows.expected, 100.0)
    assert len(stage.flows._written.words) == 5
    for key, boot, local in (
        (record.key, "boot-49", "10.0.0.49:0"),
        (other.key, "first", "10.7.7.7:0"),
    ):
        again = stage.flows.get(key)
        assert (again.newest.boot, again.last.local) == (boot, local)
